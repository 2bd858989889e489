use super::*;
use crate::fs::assemble::assemble;
use crate::fs::settle::settle;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Builds tars, right and wrong ones.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn header(flag: u8, name: &str, link: &str, size: u64) -> [u8; 512] {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(if flag == b'5' { b"0000755\0" } else { b"0000644\0" });
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(format!("{:011o}\0", 1_000_000_000).as_bytes());
        block[156] = flag;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block
    }

    /// Adds a header, with its checksum made right.
    pub fn raw(mut self, mut block: [u8; 512], data: &[u8]) -> Tar {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn add(self, flag: u8, name: &str, link: &str, data: &[u8]) -> Tar {
        self.raw(Tar::header(flag, name, link, data.len() as u64), data)
    }

    pub fn file(self, name: &str, text: &str) -> Tar {
        self.add(b'0', name, "", text.as_bytes())
    }

    pub fn dir(self, name: &str) -> Tar {
        self.add(b'5', name, "", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.add(b'2', name, target, b"")
    }

    pub fn link(self, name: &str, target: &str) -> Tar {
        self.add(b'1', name, target, b"")
    }

    pub fn device(self, flag: u8, name: &str, major: u32, minor: u32) -> Tar {
        let mut block = Tar::header(flag, name, "", 0);
        block[329..337].copy_from_slice(format!("{major:07o}\0").as_bytes());
        block[337..345].copy_from_slice(format!("{minor:07o}\0").as_bytes());
        self.raw(block, b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = 3 + key.len() + value.len();
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend(format!("{length} {key}=").as_bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.add(b'x', "PaxHeaders/x", "", &data)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A directory of its own in the file system of the build, which holds trusted attributes; gone when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dhow-unpack-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn layer(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = crate::fs::remove::tree(&self.0);
    }
}

/// Whether this user and the file system of temporary files can make what a layer may hold; says so where not.
pub fn able() -> bool {
    let scratch = Scratch::new();
    let dir = path::open_root(&scratch.0).unwrap();
    let able = nix::unistd::geteuid().is_root()
        && mknodat(&dir, "w", SFlag::S_IFCHR, Mode::empty(), 0).is_ok()
        && crate::sys::xattr::fsetxattr(dir.as_fd(), xattr::opaque(), b"y").is_ok()
        && crate::sys::xattr::fsetxattr(dir.as_fd(), c"user.x", b"y").is_ok();
    if !able {
        eprintln!("skipped: it takes root, and temporary files on a file system with devices and attributes");
    }
    able
}

/// Unpacks and settles a layer on nothing, and checks that the recipe gives the tar back.
fn good(tar: &[u8]) -> (Scratch, PathBuf, Unpacked) {
    let scratch = Scratch::new();
    let layer = scratch.layer("layer");
    let unpacked = unpack(&mut &tar[..], &layer).unwrap_or_else(|error| panic!("{error:#}"));
    settle(&unpacked, &layer, &[]).unwrap();
    assert_eq!(unpacked.diff_id, Digest::of(tar));
    let mut out = Vec::new();
    assert_eq!(assemble(&layer, &mut out).unwrap_or_else(|error| panic!("{error:#}")), unpacked.diff_id);
    assert!(out == tar, "the recipe gives other bytes");
    assert!(!layer.join("directories").exists());
    let fs = layer.join("fs");
    (scratch, fs, unpacked)
}

/// Unpacks what must be refused; the error, and the directory to look for damage in.
fn bad(tar: &[u8]) -> (Scratch, String) {
    let scratch = Scratch::new();
    let layer = scratch.layer("layer");
    match unpack(&mut &tar[..], &layer).and_then(|unpacked| settle(&unpacked, &layer, &[])) {
        Ok(()) => panic!("it was taken"),
        Err(error) => {
            let text = format!("{error:#}");
            assert!(!text.contains('\n'), "{text}");
            (scratch, text)
        }
    }
}

fn meta(path: PathBuf) -> std::fs::Metadata {
    std::fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let fd = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()).unwrap();
    let all = xattr::list(fd.as_fd()).unwrap();
    all.into_iter().map(|(name, value)| (name.to_str().unwrap().to_owned(), value)).collect()
}

fn opaque(path: &Path) -> bool {
    xattr::is_opaque(path::open_root(path).unwrap().as_fd())
}

fn whiteout(path: PathBuf) -> bool {
    let meta = meta(path);
    meta.file_type().is_char_device() && meta.rdev() == 0
}

#[test]
fn every_kind_of_entry_with_its_attributes() {
    if !able() {
        return;
    }
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut owned = Tar::header(b'0', "bin/su", "", 3);
    owned[100..108].copy_from_slice(b"0004711\0");
    owned[108..116].copy_from_slice(b"0002322\0");
    owned[116..124].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xfe");
    let tar = Tar::default()
        .dir("./")
        .dir("bin/")
        .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.odd", b"a\0b\n")])
        .raw(owned, b"elf")
        .pax(&[("mtime", b"1700000000.123456789"), ("uid", b"3000000000")])
        .file("bin/time", "t")
        .symlink("bin/sh", "/bin/busybox")
        .link("bin/su2", "/bin/su")
        .device(b'3', "null", 1, 3)
        .device(b'4', "disk", 259, 70000)
        .add(b'6', "pipe", "", b"")
        .pax(&[("mtime", b"-1.5"), ("SCHILY.xattr.user.d", b"x")])
        .dir("sticky")
        .file("sticky/inside", "")
        .end();
    let (_scratch, fs, unpacked) = good(&tar);
    let su = meta(fs.join("bin/su"));
    assert_eq!((su.uid(), su.gid(), su.permissions().mode() & 0o7777), (0o2322, 0xffff_fffe, 0o4711));
    let wanted = [("security.capability".to_owned(), capability.to_vec()), ("user.odd".to_owned(), b"a\0b\n".to_vec())];
    let mut found = attributes(&fs.join("bin/su"));
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(meta(fs.join("bin/su2")).ino(), su.ino());
    let time = meta(fs.join("bin/time"));
    assert_eq!((time.uid(), time.mtime(), time.mtime_nsec()), (3_000_000_000, 1_700_000_000, 123_456_789));
    assert_eq!(std::fs::read_link(fs.join("bin/sh")).unwrap().as_os_str(), "/bin/busybox");
    assert_eq!(meta(fs.join("null")).rdev(), libc::makedev(1, 3));
    assert_eq!(meta(fs.join("disk")).rdev(), libc::makedev(259, 70000));
    assert!(meta(fs.join("disk")).file_type().is_block_device());
    assert!(meta(fs.join("pipe")).file_type().is_fifo());
    assert_eq!(meta(fs.join("pipe")).mtime(), 1_000_000_000);
    let sticky = meta(fs.join("sticky"));
    assert_eq!((sticky.mtime(), sticky.mtime_nsec()), (-2, 500_000_000));
    assert_eq!(attributes(&fs.join("sticky")), [("user.d".to_owned(), b"x".to_vec())]);
    assert_eq!(meta(fs.clone()).mtime(), 1_000_000_000);
    assert_eq!(unpacked.size, 4);
}

#[test]
fn long_names_of_gnu_pax_and_ustar() {
    if !able() {
        return;
    }
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    let mut prefixed = Tar::header(b'0', "leaf", "", 1);
    prefixed[345..345 + 7].copy_from_slice(b"pre/fix");
    let mut gnu = Tar::header(b'0', "gnu", "", 1);
    gnu[257..265].copy_from_slice(b"ustar  \0");
    gnu[345..352].copy_from_slice(b"1234567");
    let tar = Tar::default()
        .add(b'L', "././@LongLink", "", format!("{long}\0").as_bytes())
        .file("cut", "gnu")
        .pax(&[("path", b"pax/name"), ("linkpath", long.as_bytes())])
        .link("x", "y")
        .add(b'K', "././@LongLink", "", format!("/{long}\0").as_bytes())
        .symlink("symlink", "cut")
        .raw(prefixed, b"p")
        .raw(gnu, b"g")
        .add(b'g', "pax_global_header", "", b"13 comment=x\n")
        .end();
    let (_scratch, fs, _) = good(&tar);
    assert_eq!(read(fs.join(&long)), "gnu");
    assert_eq!(read(fs.join("pax/name")), "gnu");
    assert_eq!(std::fs::read_link(fs.join("symlink")).unwrap().as_os_str(), format!("/{long}").as_str());
    assert_eq!(read(fs.join("pre/fix/leaf")), "p");
    assert_eq!(read(fs.join("gnu")), "g");
}

#[test]
fn sparse_files_of_all_writers() {
    if !able() {
        return;
    }
    let mut old = Tar::header(b'S', "old", "", 1024 + 3);
    old[257..265].copy_from_slice(b"ustar  \0");
    let parts = [(0u64, 512u64), (8192, 256), (16384, 128), (32768, 64), (65536, 64), (131072, 3)];
    let field = |block: &mut [u8], at: usize, (offset, length): (u64, u64)| {
        block[at..at + 12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        block[at + 12..at + 24].copy_from_slice(format!("{length:011o}\0").as_bytes());
    };
    for (i, part) in parts[..4].iter().enumerate() {
        field(&mut old, 386 + i * 24, *part);
    }
    old[482] = 1;
    old[483..495].copy_from_slice(format!("{:011o}\0", 200_000).as_bytes());
    let mut data = vec![b'd'; 1024];
    data.extend(b"end");
    let mut more = [0; 512];
    field(&mut more, 0, parts[4]);
    field(&mut more, 24, parts[5]);
    let map: &[u8] = b"2\n0\n4\n1000000\n3\n";
    let mut in_data = map.to_vec();
    in_data.resize(512, 0);
    in_data.extend(b"fourend");
    let mut tar = Tar::default().raw(old, b"");
    tar.0.extend(more);
    tar.0.extend(&data);
    tar.0.resize(tar.0.len().next_multiple_of(512), 0);
    let tar = tar
        .pax(&[
            ("GNU.sparse.size", b"500000"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"4"),
            ("GNU.sparse.offset", b"499997"),
            ("GNU.sparse.numbytes", b"3"),
        ])
        .file("zero", "fourend")
        .pax(&[("GNU.sparse.size", b"600000"), ("GNU.sparse.name", b"one"), ("GNU.sparse.map", b"0,4,599997,3")])
        .file("GNUSparseFile.0/one", "fourend")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"ten"),
            ("GNU.sparse.realsize", b"1000003"),
        ])
        .add(b'0', "GNUSparseFile.0/ten", "", &in_data)
        .file("after", "a")
        .end();
    let (_scratch, fs, unpacked) = good(&tar);
    for (name, size) in [("old", 200_000), ("zero", 500_000), ("one", 600_000), ("ten", 1_000_003)] {
        let meta = meta(fs.join(name));
        assert_eq!(meta.len(), size, "{name}");
        assert!(meta.blocks() * 512 < 100_000, "{name} has no holes: {} blocks", meta.blocks());
    }
    let ten = std::fs::read(fs.join("ten")).unwrap();
    assert_eq!((&ten[..5], &ten[1_000_000..]), (&b"four\0"[..], &b"end"[..]));
    assert_eq!(&std::fs::read(fs.join("old")).unwrap()[131072..131076], b"end\0");
    assert_eq!(read(fs.join("after")), "a");
    assert!(!fs.join("GNUSparseFile.0").exists());
    assert_eq!(unpacked.size, 200_000 + 500_000 + 600_000 + 1_000_003 + 1);
}

#[test]
fn the_tar_comes_back_with_odd_padding_garbage_and_displaced_files() {
    if !able() {
        return;
    }
    let mut tar = Tar::default()
        .file("a", "first a")
        .link("b", "a")
        .file("b", "new b")
        .file("a", "second a")
        .file("a", "third a")
        .dir("d")
        .file("d/x", "in d")
        .file("d/e/y", "in e")
        .symlink("d", "elsewhere")
        .file("d/../z", "")
        .end();
    // The link's own directory does not exist: `d/..` needs it.
    assert!(unpack(&mut &tar[..], &Scratch::new().layer("l")).is_err());
    let at = tar.len() - 1024 - 512;
    tar.truncate(at);
    let mut tar = Tar(tar).file("d2", "x").dir("d2").end();
    let pad = tar.windows(5).position(|w| w == b"new b").unwrap() + 100;
    tar[pad] = 7;
    tar.extend(b"garbage behind the end, of no whole block");
    let (_scratch, fs, _) = good(&tar);
    assert_eq!(read(fs.join("a")), "third a");
    assert_eq!(read(fs.join("b")), "new b");
    assert_eq!(std::fs::read_link(fs.join("d")).unwrap().as_os_str(), "elsewhere");
    assert!(fs.join("d2").is_dir());
}

#[test]
fn an_archive_may_be_empty_or_lack_its_end() {
    if !able() {
        return;
    }
    good(&[0; 1024]);
    good(&[]);
    good(&[0; 512]);
    let (_scratch, fs, _) = good(&Tar::default().file("a", "x").0);
    assert_eq!(read(fs.join("a")), "x");
}

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
fn a_changed_layer_is_noticed_when_its_tar_is_assembled() {
    if !able() {
        return;
    }
    let tar = Tar::default().file("a", "text").end();
    let (_scratch, fs, _) = good(&tar);
    std::fs::write(fs.join("a"), "next").unwrap();
    let error = assemble(fs.parent().unwrap(), &mut Vec::new()).unwrap_err();
    assert!(format!("{error:#}").contains("not what was unpacked"), "{error:#}");
}

mod hostile {
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
