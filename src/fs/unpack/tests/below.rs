//! What a layer says of those below it.

use super::*;

#[test]
fn whiteouts_hide_what_is_below_wherever_they_stand() {
    if !able() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.layer("base");
    let tar = Tar::default()
        .file("gone", "x")
        .file("dir/old", "x")
        .file("full/old", "x")
        .file("both/old", "x")
        .file("kept", "x")
        .end();
    settle(&unpack(&mut &tar[..], &base).unwrap(), &base, &[]).unwrap();
    let top = scratch.layer("top");
    let tar = Tar::default()
        .file(".wh.gone", "")
        .file("dir/new", "n")
        .file("dir/.wh..wh..opq", "")
        .dir("full")
        .file("full/new", "n")
        .file(".wh.full", "")
        .file(".wh.both", "")
        .dir("both")
        .file("both/new", "n")
        .file("here", "h")
        .file(".wh.here", "")
        .file("fresh/.wh.nothing", "")
        .file(".wh.kept", "")
        .file("kept", "again")
        .file(".wh..wh.plnk/1", "")
        .end();
    let unpacked = unpack(&mut &tar[..], &top).unwrap();
    settle(&unpacked, &top, &[base.join("fs")]).unwrap();
    let fs = top.join("fs");
    assert!(whiteout(fs.join("gone")));
    assert!(opaque(&fs.join("dir")) && opaque(&fs.join("full")) && opaque(&fs.join("both")));
    assert_eq!(read(fs.join("dir/new")), "n");
    assert_eq!(read(fs.join("full/new")), "n");
    assert_eq!(read(fs.join("both/new")), "n");
    assert_eq!(read(fs.join("here")), "h");
    assert_eq!(read(fs.join("kept")), "again");
    assert!(!fs.join("fresh/nothing").exists() && std::fs::symlink_metadata(fs.join("fresh/nothing")).is_err());
    assert!(std::fs::symlink_metadata(fs.join(".wh..wh.plnk")).is_err());
    assert_eq!(std::fs::read(top.join("hidden")).unwrap(), b"wgone\0oboth\0odir\0ofull\0");
    let mut out = Vec::new();
    assemble(&top, &mut out).unwrap();
    assert!(out == tar);
    assert!(!unpacked.opaque);
    assert!(good(&Tar::default().file(".wh..wh..opq", "").end()).2.opaque);
}

#[test]
fn what_the_tar_omits_is_as_it_was_below() {
    if !able() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.layer("base");
    let mut private = Tar::header(b'5', "a/private", "", 0);
    private[100..108].copy_from_slice(b"0000700\0");
    private[108..116].copy_from_slice(b"0000012\0");
    let mut root = Tar::header(b'5', "./", "", 0);
    root[100..108].copy_from_slice(b"0000711\0");
    let tar = Tar::default()
        .raw(root, b"")
        .dir("a")
        .pax(&[("SCHILY.xattr.user.d", b"x")])
        .raw(private, b"")
        .file("a/private/tool", "tool")
        .dir("was")
        .end();
    settle(&unpack(&mut &tar[..], &base).unwrap(), &base, &[]).unwrap();
    let middle = scratch.layer("middle");
    let tar = Tar::default().dir("other").file("was", "now a file").end();
    let unpacked = unpack(&mut &tar[..], &middle).unwrap();
    settle(&unpacked, &middle, &[base.join("fs")]).unwrap();
    let top = scratch.layer("top");
    let tar = Tar::default()
        .file("a/private/new", "n")
        .link("b/again", "/a/private/tool")
        .link("early", "late")
        .file("late", "late")
        .file("was/x", "")
        .end();
    let unpacked = unpack(&mut &tar[..], &top).unwrap();
    settle(&unpacked, &top, &[middle.join("fs"), base.join("fs")]).unwrap();
    let fs = top.join("fs");
    let private = meta(fs.join("a/private"));
    assert_eq!((private.mode() & 0o7777, private.uid(), private.mtime()), (0o700, 10, 1_000_000_000));
    assert_eq!(attributes(&fs.join("a/private")), [("user.d".to_owned(), b"x".to_vec())]);
    assert_eq!(meta(fs.clone()).mode() & 0o7777, 0o711);
    assert_eq!(meta(fs.join("b")).mode() & 0o7777, 0o755);
    assert_eq!(read(fs.join("b/again")), "tool");
    assert_eq!(meta(fs.join("b/again")).ino(), meta(fs.join("a/private/tool")).ino());
    assert_eq!(meta(fs.join("early")).ino(), meta(fs.join("late")).ino());
    assert_eq!(meta(fs.join("was")).mode() & 0o7777, 0o755);
    let mut out = Vec::new();
    assemble(&top, &mut out).unwrap();
    assert!(out == tar);
}

#[test]
fn what_is_listed_for_the_layers_below_has_an_end() {
    if !able() {
        return;
    }
    /// The same hard link to nothing, over and over: a bomb that fills memory and not the disk.
    struct Endless(Vec<u8>, usize);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let left = &self.0[self.1..];
            let n = left.len().min(buffer.len());
            buffer[..n].copy_from_slice(&left[..n]);
            self.1 = (self.1 + n) % self.0.len();
            Ok(n)
        }
    }
    let scratch = Scratch::new();
    let target = vec!["nowhere"; 500].join("/");
    let entry = Tar::default().add(b'K', "long", "", target.as_bytes()).link("name", "").0;
    let error = unpack(&mut std::io::BufReader::new(Endless(entry, 0)), &scratch.layer("it")).unwrap_err();
    assert!(format!("{error:#}").contains("asks too much of the layers below"), "{error:#}");
}
