//! What a tar must not do.

use super::*;

#[test]
fn a_symlink_then_a_write_through_it() {
    if !able() {
        return;
    }
    let outside = Scratch::new();
    let target = outside.0.join("etc");
    std::fs::create_dir(&target).unwrap();
    let absolute = target.to_str().unwrap();
    // Where the target exists inside, the write lands inside.
    let inside = format!(".{absolute}");
    let tar = Tar::default().dir(&inside).symlink("x", absolute).file("x/owned", "x").end();
    let (_scratch, fs, _) = good(&tar);
    assert_eq!(read(fs.join(&inside).join("owned")), "x");
    // Where it does not, nothing is made.
    let (_scratch, error) = bad(&Tar::default().symlink("x", absolute).file("x/owned", "x").end());
    assert!(error.contains("symbolic link to nothing"), "{error}");
    // A file in place of the link itself replaces it.
    let tar = Tar::default().symlink("f", &format!("{absolute}/f")).file("f", "x").end();
    let (_scratch, fs, _) = good(&tar);
    assert!(meta(fs.join("f")).is_file());
    // Upwards out of the root is the root.
    let tar = Tar::default().symlink("up", "../../../../../..").file("up/tmp/owned", "x").end();
    let (_scratch, fs, _) = good(&tar);
    assert_eq!(read(fs.join("tmp/owned")), "x");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn a_hard_link_to_a_host_path() {
    if !able() {
        return;
    }
    let outside = Scratch::new();
    let secret = outside.0.join("secret");
    std::fs::write(&secret, "s").unwrap();
    let path = secret.to_str().unwrap();
    let (_scratch, error) = bad(&Tar::default().link("x", path).end());
    assert!(error.contains("no such file in the image"), "{error}");
    let (_scratch, error) = bad(&Tar::default().link("x", &format!("../../../../../..{path}")).end());
    assert!(error.contains("leads out of the layer"), "{error}");
    let tar = Tar::default().symlink("up", "../../../../../..").link("x", &format!("up{path}")).end();
    let (_scratch, error) = bad(&tar);
    assert!(error.contains("no such file in the image"), "{error}");
    assert_eq!(meta(secret).nlink(), 1);
    let (_scratch, error) = bad(&Tar::default().dir("d").link("x", "d").end());
    assert!(error.contains("is a directory"), "{error}");
}

#[test]
fn names_that_climb_out() {
    if !able() {
        return;
    }
    for name in ["../x", "a/../../x", "/../x", "./..", "..", "a/..", "a/b/../../../x"] {
        let (_scratch, error) = bad(&Tar::default().dir("a/b").file(name, "x").end());
        assert!(error.starts_with(&format!("unpack {name}: it")), "{error}");
    }
    let (_scratch, fs, _) = good(&Tar::default().dir("a/b").file("a/../c", "x").dir("a/b/.").end());
    assert_eq!(read(fs.join("c")), "x");
}

#[test]
fn absolute_names() {
    if !able() {
        return;
    }
    let (_scratch, fs, _) = good(&Tar::default().file("/abs/olute", "x").file("//two", "y").end());
    assert_eq!(read(fs.join("abs/olute")), "x");
    assert_eq!(read(fs.join("two")), "y");
}

#[test]
fn a_whiteout_of_the_parent_or_of_nothing() {
    if !able() {
        return;
    }
    for name in ["a/.wh...", ".wh...", "a/.wh..", ".wh."] {
        let (_scratch, error) = bad(&Tar::default().dir("a").file(name, "").end());
        assert_eq!(error, format!("unpack {name}: it is a whiteout of nothing that could be there"));
    }
    let outside = Scratch::new();
    let tar = Tar::default().symlink("way", outside.0.to_str().unwrap()).file("way/.wh.x", "").end();
    bad(&tar);
    assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 0);
}

#[test]
fn a_directory_replaced_by_a_symlink_between_entries() {
    if !able() {
        return;
    }
    let outside = Scratch::new();
    let target = outside.0.to_str().unwrap();
    let tar = Tar::default().dir("d").file("d/a", "a").symlink("d", target).file("d/b", "b").end();
    let (_scratch, error) = bad(&tar);
    assert!(error.contains("symbolic link to nothing"), "{error}");
    assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 0);
    // The same through another spelling of the parent.
    let tar = Tar::default().dir("d/e").file("d/e/a", "a").symlink("d", target).file("d/e/b", "b").end();
    bad(&tar);
    assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 0);
    // Attributes that were waiting for the directory do not reach what replaced it.
    let before = meta(outside.0.clone());
    good(&Tar::default().dir("d").symlink("d", target).end());
    let after = meta(outside.0.clone());
    assert_eq!((before.mtime(), before.mode()), (after.mtime(), after.mode()));
}

#[test]
fn forged_overlay_attributes() {
    if !able() {
        return;
    }
    for name in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.whiteout"] {
        let key = format!("SCHILY.xattr.{name}");
        for dir in [false, true] {
            let tar = Tar::default().pax(&[(&key, b"y")]);
            let tar = if dir { tar.dir("d") } else { tar.file("f", "") };
            let (_scratch, error) = bad(&tar.end());
            assert!(error.contains("forges the overlay attribute"), "{error}");
        }
    }
}

#[test]
fn forged_whiteout_devices() {
    if !able() {
        return;
    }
    for flag in [b'3', b'4'] {
        let (_scratch, error) = bad(&Tar::default().device(flag, "w", 0, 0).end());
        assert!(error.contains("whiteout"), "{error}");
    }
}

#[test]
fn sizes_that_overflow_or_lie() {
    if !able() {
        return;
    }
    for size in ["18446744073709551615", "9223372036854775807", "99999999999999999999999", "-1", "x"] {
        bad(&Tar::default().pax(&[("size", size.as_bytes())]).file("f", "x").end());
    }
    let mut huge = Tar::header(b'0', "f", "", 0);
    huge[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    bad(&Tar::default().raw(huge, b"x").end());
    let (_scratch, error) = bad(&Tar::default().pax(&[("size", b"1000000")]).file("f", "x").end());
    assert!(error.contains("cut short"), "{error}");
    let mut long = Tar::header(b'x', "p", "", 0);
    long[124..136].copy_from_slice(b"77777777777\0");
    let (_scratch, error) = bad(&Tar::default().raw(long, b"").end());
    assert!(error.contains("too large"), "{error}");
    for map in ["0,18446744073709551615", "5,1,0,1", "0,1,9223372036854775807,1"] {
        let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", map.as_bytes())];
        bad(&Tar::default().pax(records).file("f", "xx").end());
    }
}

#[test]
fn truncated_anywhere_gives_an_error_or_another_digest() {
    if !able() {
        return;
    }
    let whole = Tar::default().pax(&[("path", b"name")]).file("x", "some text").dir("d").end();
    let digest = Digest::of(&whole);
    for length in (0..whole.len()).step_by(64).chain(511..515) {
        let scratch = Scratch::new();
        if let Ok(unpacked) = unpack(&mut &whole[..length], &scratch.layer("l")) {
            assert_ne!(unpacked.diff_id, digest);
        }
    }
}

#[test]
fn loops() {
    if !able() {
        return;
    }
    let tar = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "x").end();
    let (_scratch, error) = bad(&tar);
    assert!(error.contains("loop of symbolic links"), "{error}");
    let (_scratch, error) = bad(&Tar::default().link("a", "a").end());
    assert!(error.contains("no such file in the image"), "{error}");
    let (_scratch, error) = bad(&Tar::default().link("a", "b").link("b", "a").end());
    assert!(error.contains("no such file in the image"), "{error}");
    let (_scratch, fs, _) = good(&Tar::default().file("a", "x").link("a", "./a").end());
    assert_eq!(read(fs.join("a")), "x");
}

#[test]
fn names_that_no_file_can_have() {
    if !able() {
        return;
    }
    let long = "n".repeat(300);
    bad(&Tar::default().pax(&[("path", long.as_bytes())]).file("x", "").end());
    let deep = "d/".repeat(3000);
    bad(&Tar::default().pax(&[("path", deep.as_bytes())]).dir("x").end());
    bad(&Tar::default().pax(&[("path", b"nul\0byte")]).file("x", "").end());
    let (_scratch, error) = bad(&Tar::default().pax(&[("path", b"../two\nlines")]).file("x", "").end());
    assert!(error.contains("two\\nlines"), "{error}");
    bad(&Tar::default().file("", "x").end());
    bad(&Tar::default().file("file", "x").file("file/below", "x").end());
}

#[test]
fn not_a_tar() {
    if !able() {
        return;
    }
    for bytes in [&[b'x'; 512][..], b"short", &[0xff; 5000]] {
        bad(bytes);
    }
    bad(&Tar::default().add(b'M', "volume", "", b"").end());
    let mut lone = Tar::default().file("a", "").0;
    lone.extend([0; 512]);
    lone.extend(Tar::default().file("b", "").0);
    let (_scratch, error) = bad(&lone);
    assert!(error.contains("lone zero block"), "{error}");
}

/// Gives a long tar without holding it.
struct Many {
    left: u32,
    block: Vec<u8>,
}

impl std::io::Read for Many {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.block.is_empty() && self.left > 0 {
            self.left -= 1;
            let name = format!("d{}/{}", self.left / 1000, self.left);
            self.block = Tar::default().add(b'0', &name, "", b"").0;
        }
        let n = buffer.len().min(self.block.len());
        buffer[..n].copy_from_slice(&self.block[..n]);
        self.block.drain(..n);
        Ok(n)
    }
}

#[test]
fn many_entries_in_directories_that_are_omitted() {
    if !able() {
        return;
    }
    let scratch = Scratch::new();
    let layer = scratch.layer("layer");
    // Blocks that no buffer holds whole.
    let mut tar = std::io::BufReader::with_capacity(700, Many { left: 5_000, block: Vec::new() });
    let unpacked = unpack(&mut tar, &layer).unwrap();
    settle(&unpacked, &layer, &[]).unwrap();
    assert_eq!(std::fs::read_dir(layer.join("fs")).unwrap().count(), 5);
    assert!(layer.join("fs/d4/4999").exists());
    assert!(meta(layer.join("recipe")).len() < 500_000);
}
