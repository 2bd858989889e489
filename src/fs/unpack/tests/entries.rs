//! What a tar can say.

use super::*;

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
