//! Images in the store: import, list, tag, history, remove, prune; and tars that mean harm.

use crate::fixture::{Host, Image, PATIENCE, Packing, Registry, SmallDisk, Tar, busybox_tar, eventually};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn a_tar_becomes_an_image() {
    let Some(host) = Host::new() else { return };
    let Some(tar) = busybox_tar() else { return };
    let tar = fs::read(tar).expect("read");
    let args =
        ["import", "--message", "from a tar", "--change", "LABEL kind=test", "--change", "EXPOSE 80", "-", "made:v1"];
    let id = host.dhow(args).input(tar).ok();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let shown = host.ok(["images"]);
    let words: Vec<&str> = shown.lines().next().expect("a head").split_whitespace().collect();
    assert_eq!(words, ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert!(
        shown.lines().nth(1).is_some_and(|l| l.starts_with("made") && l.contains("v1") && l.contains(&id[7..19])),
        "{shown}"
    );
    let history = host.ok(["history", "made:v1"]);
    assert!(history.contains("from a tar"), "{history}");
    assert_eq!(host.ok(["inspect", "--format", "{{json .Config.Labels}}", "made:v1"]), "{\"kind\":\"test\"}");
    assert_eq!(host.ok(["inspect", "--format", "{{.Id}}", &id[7..19]]), id);
}

#[test]
fn names_come_and_go() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["tag", "busybox", "harbour/boat:1"]);
    let id = host.ok(["images", "-q", "--no-trunc", "busybox"]);
    assert_eq!(host.ok(["images", "-q", "--no-trunc", "harbour/boat"]), id);
    let text = host.refused(1, ["rmi", &id]);
    assert!(text.contains("referenced in multiple repositories"), "{text}");
    assert_eq!(host.ok(["rmi", "harbour/boat:1"]), "Untagged: harbour/boat:1");
    let used = host.ok(["create", "--network", "none", "busybox"]);
    let text = host.refused(1, ["rmi", "busybox"]);
    assert!(text.contains("is using its referenced image") && text.contains(&used[..12]), "{text}");
    host.ok(["rm", &used]);
    let text = host.ok(["rmi", "busybox"]);
    assert!(text.contains("Untagged: busybox:latest") && text.contains(&format!("Deleted: {id}")), "{text}");
    assert!(fs::read_dir(host.root().join("layers")).expect("list").next().is_none());
    let text = host.refused(1, ["rmi", "busybox"]);
    assert!(text.contains("No such image: busybox"), "{text}");
    let text = host.refused(1, ["tag", "busybox", "x"]);
    assert!(text.contains("No such image: busybox"), "{text}");
}

#[test]
fn prune_takes_the_nameless() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = host.file("a.tar", Tar::new().file("a", 0o644, "a").end());
    let tar = tar.to_str().expect("UTF-8");
    host.ok(["import", tar]);
    host.ok(["import", tar, "named"]);
    host.ok(["import", "--message", "anew", tar, "named"]);
    assert_eq!(host.ok(["images", "--filter", "dangling=true", "-q"]).lines().count(), 2);
    host.ok(["image", "prune", "--force"]);
    assert_eq!(host.ok(["images", "-q"]).lines().count(), 2);
    host.detached(&[], &["sleep", "1000"]);
    host.ok(["image", "prune", "--all", "--force"]);
    assert_eq!(host.ok(["images", "--format", "{{.Repository}}"]), "busybox");
}

/// Layers on busybox, pulled from a registry; then what a container sees.
fn layered(host: &Host, name: &str, layers: Vec<Vec<u8>>, line: &str) -> Option<String> {
    let registry = Registry::shared()?;
    let mut image = Image::new(fs::read(busybox_tar()?).expect("read"));
    for (number, tar) in layers.into_iter().enumerate() {
        image = image.layer(tar, [Packing::Gzip, Packing::Zstd][number % 2]);
    }
    let repository = format!("layers/{name}");
    registry.upload(&image, &repository, "v1");
    let name = registry.name(&format!("{repository}:v1"));
    host.ok(["pull", "-q", &name]);
    Some(host.ok(["run", "--rm", "--network", "none", &name, "sh", "-c", line]))
}

#[test]
fn whiteouts_hide_what_is_below() {
    let Some(host) = Host::new() else { return };
    let below = Tar::new()
        .dir("a", 0o755)
        .file("a/kept", 0o644, "")
        .file("a/gone", 0o644, "")
        .dir("b", 0o755)
        .file("b/old", 0o644, "")
        .dir("b/deep", 0o755)
        .file("b/deep/old", 0o644, "")
        .dir("c", 0o755)
        .file("c/old", 0o644, "");
    // The mark of an opaque directory hides only what is below, wherever it stands.
    let above = Tar::new()
        .file("a/.wh.gone", 0o644, "")
        .dir("b", 0o755)
        .file("b/new", 0o644, "")
        .file("b/.wh..wh..opq", 0o644, "")
        .file(".wh.c", 0o644, "");
    let line = "ls a b; ls -d c 2>/dev/null; ls -A / | grep -c wh";
    let Some(seen) = layered(&host, "whiteouts", vec![below.end(), above.end()], &format!("{line}; true")) else {
        return;
    };
    assert_eq!(seen, "a:\nkept\n\nb:\nnew\n0");
}

#[test]
fn everything_that_a_tar_can_say_survives() {
    let Some(host) = Host::new() else { return };
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(120));
    let sparse = vec![0; 4 << 20];
    let tar = Tar::new()
        .dir("d", 0o2770)
        .owner(1234, 4321)
        .file("d/ids", 0o4751, "x")
        .hardlink("d/second", "d/ids")
        .symlink("d/link", "ids")
        .fifo("d/fifo", 0o622)
        .char_device("d/null", 0o666, (1, 3))
        .pax("mtime", "1500000000.123456789")
        .file("d/time", 0o644, "")
        .pax("SCHILY.xattr.user.colour", "red")
        .file("d/colour", 0o644, "")
        .file("omitted/parent/file", 0o644, "here")
        .file(&long, 0o644, "long")
        .file("d/zeros", 0o644, sparse);
    let line = format!(
        "stat -c '%n %u:%g %a %h %F' d d/ids d/second d/fifo d/null; readlink d/link; stat -c %y d/time; \
         cat omitted/parent/file '{long}'; stat -c '%u:%g %a' omitted"
    );
    let Some(seen) = layered(&host, "everything", vec![tar.end()], &format!("export TZ=UTC; {line}")) else { return };
    let expected = "d 0:0 2770 2 directory\nd/ids 1234:4321 4751 2 regular file\nd/second 1234:4321 4751 2 regular file\n\
                    d/fifo 1234:4321 622 1 fifo\nd/null 1234:4321 666 1 character special file\nids\n\
                    2017-07-14 02:40:00.123456789 +0000\nherelong0:0 755";
    assert_eq!(seen, expected);
    let colour = find(&host.root().join("layers"), "colour").expect("the file is in the layer");
    let shown = crate::fixture::Command::new(
        "python3",
        [
            "-c",
            "import os, sys; print(os.getxattr(sys.argv[1], 'user.colour').decode())",
            colour.to_str().expect("UTF-8"),
        ],
    );
    assert_eq!(shown.ok(), "red");
    let zeros = find(&host.root().join("layers"), "zeros").expect("the file is in the layer");
    assert_eq!(fs::metadata(zeros).expect("it is there").len(), 4 << 20);
}

fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|it| it == name) {
            return Some(path);
        }
        if path.is_dir()
            && !path.is_symlink()
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}

#[test]
fn a_capability_of_a_file_works() {
    let Some(host) = Host::new() else { return };
    let Some(()) = crate::fixture::need("busybox") else { return };
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok()).expect("busybox");
    // Revision 2, effective, permitted: CAP_NET_RAW (linux/capability.h).
    let mut capability = [0; 20];
    capability[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
    capability[4..8].copy_from_slice(&(1u32 << 13).to_le_bytes());
    let above = Tar::new().pax("SCHILY.xattr.security.capability", capability).file("busybox-raw", 0o755, program);
    let Some(_) = layered(&host, "capability", vec![above.end()], "true") else { return };
    let name = host.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let run = ["run", "--rm", "--network", "none", "-u", "1000", &name];
    let line = ["/busybox-raw", "grep", "CapEff", "/proc/self/status"];
    assert_eq!(host.ok(run.iter().chain(&line)), "CapEff:\t0000000000002000");
    // The shell has none of its own.
    assert_eq!(host.ok(run.iter().chain(&line[1..])), "CapEff:\t0000000000000000");
}

#[test]
fn holes_stay_holes() {
    let Some(host) = Host::new() else { return };
    let above = Tar::new()
        .pax("GNU.sparse.size", "100000000")
        .pax("GNU.sparse.map", "0,4,99999997,3")
        .file("sparse", 0o644, "fourend");
    let line = "stat -c %s sparse; [ $(stat -c %b sparse) -lt 1000 ] && echo small; tail -c 5 sparse | od -c | head -1";
    let Some(seen) = layered(&host, "holes", vec![above.end()], line) else { return };
    assert_eq!(seen, "100000000\nsmall\n0000000  \\0  \\0   e   n   d");
}

#[test]
fn a_hard_link_reaches_into_the_layer_below() {
    let Some(host) = Host::new() else { return };
    let below = Tar::new().dir("a", 0o755).file("a/file", 0o640, "below");
    let above = Tar::new().hardlink("link", "a/file");
    let Some(seen) = layered(&host, "link-below", vec![below.end(), above.end()], "cat link; stat -c %a link") else {
        return;
    };
    assert_eq!(seen, "below640");
}

#[test]
fn a_hostile_tar_writes_nothing_outside() {
    let Some(host) = Host::new() else { return };
    let canary = host.file("outside/canary", "untouched");
    let outside = canary.parent().expect("a directory").to_str().expect("UTF-8").to_owned();
    let secret = canary.to_str().expect("UTF-8").to_owned();
    let ups = "../".repeat(40);
    let up = |path: &str| format!("{ups}{}", path.trim_start_matches('/'));
    let tars = [
        ("a link, then through it", Tar::new().symlink("way", &outside).file("way/pwned", 0o644, "x")),
        ("a link upward, then through it", Tar::new().symlink("way", &up(&outside)).file("way/pwned", 0o644, "x")),
        ("a hard link to the host", Tar::new().hardlink("mine", &secret).file("mine", 0o644, "overwritten")),
        ("a hard link upward", Tar::new().hardlink("mine", &up(&secret)).file("mine", 0o644, "overwritten")),
        ("a hard link through a link", Tar::new().symlink("way", &outside).hardlink("mine", "way/canary")),
        ("dots", Tar::new().file(&up(&format!("{outside}/pwned")), 0o644, "x")),
        ("dots in the middle", Tar::new().dir("a", 0o755).file(&format!("a/{}", up(&secret)), 0o644, "x")),
        ("an absolute name", Tar::new().file(&format!("{outside}/pwned"), 0o644, "x")),
        ("a whiteout of the parent", Tar::new().dir("a", 0o755).file("a/.wh...", 0o644, "").file(".wh...", 0o644, "")),
        ("a whiteout through a link", Tar::new().symlink("way", &outside).file("way/.wh.canary", 0o644, "")),
        (
            "a directory that becomes a link",
            Tar::new().dir("a", 0o755).file("a/x", 0o644, "x").symlink("a", &outside).file("a/pwned", 0o644, "x"),
        ),
        ("a link over the root", Tar::new().symlink(".", &outside).file("pwned", 0o644, "x")),
        ("chmod through a link", Tar::new().symlink("way", &secret).dir("way", 0o777)),
    ];
    for (number, (what, tar)) in tars.into_iter().enumerate() {
        let path = host.file("hostile.tar", tar.end());
        let output = host.run(["import", path.to_str().expect("UTF-8"), &format!("hostile{number}")]);
        let left: Vec<_> = fs::read_dir(&outside).expect("list").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["canary"], "{what}: {output}");
        assert_eq!(fs::read_to_string(&canary).expect("read"), "untouched", "{what}: {output}");
        let meta = fs::metadata(&canary).expect("it is there");
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (1, 0o644), "{what}: {output}");
        if !output.status.success() {
            assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{what}: {output}");
        }
        host.assert_tidy();
    }
}

#[test]
fn forged_marks_of_overlay_are_refused() {
    let Some(host) = Host::new() else { return };
    for (what, tar) in [
        ("an opaque directory", Tar::new().pax("SCHILY.xattr.trusted.overlay.opaque", "y").dir("a", 0o755)),
        ("a redirect", Tar::new().pax("SCHILY.xattr.trusted.overlay.redirect", "/etc").dir("a", 0o755)),
        ("one of a user", Tar::new().pax("SCHILY.xattr.user.overlay.opaque", "y").dir("a", 0o755)),
        ("a whiteout device", Tar::new().char_device("a", 0o600, (0, 0))),
    ] {
        let path = host.file("forged.tar", tar.end());
        let text = host.refused(1, ["import", path.to_str().expect("UTF-8"), "forged"]);
        assert!(text.contains('a'), "{what}: {text}");
        assert_eq!(host.ok(["images", "-q"]), "");
        host.assert_tidy();
    }
}

#[test]
fn what_is_cut_or_swollen_is_refused() {
    let Some(host) = Host::new() else { return };
    let whole = Tar::new().file("file", 0o644, vec![b'x'; 10_000]).end();
    let overflow = Tar::new().pax("size", "99999999999999999999999").file("file", 0o644, "x").end();
    let huge = Tar::new().pax("size", "18446744073709551615").file("file", 0o644, "x").end();
    let mut damaged = whole.clone();
    damaged[150] ^= 1;
    for (what, tar) in [
        ("cut", whole[..5000].to_vec()),
        ("a size that overflows", overflow),
        ("a size beyond all files", huge),
        ("a wrong sum", damaged),
        ("cut gzip", {
            let packed = Packing::Gzip.pack(&whole);
            packed[..packed.len() - 20].to_vec()
        }),
        ("no tar at all", b"this is no tar".repeat(100)),
    ] {
        let path = host.file("bad.tar", tar);
        let output = host.run(["import", path.to_str().expect("UTF-8"), "bad"]);
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{what}: {output}");
        assert_eq!(host.ok(["images", "-q"]), "", "{what}");
        host.assert_tidy();
    }
    let text = host.refused(1, ["import", "/no/such.tar", "bad"]);
    assert!(text.contains("/no/such.tar"), "{text}");
}

#[test]
fn a_million_entries_are_only_many() {
    let Some(host) = Host::new() else { return };
    let mut tar = Tar::new().dir("d", 0o755).file("d/one", 0o644, "x");
    // The same names again and again: some replace the one before, and most are there already.
    for number in 0..1_000_000u32 {
        tar = match number % 10 {
            0 => tar.symlink(&format!("d/{}", number % 500), "one"),
            _ => tar.hardlink("d/two", "d/one"),
        };
    }
    let path = host.file("many.tar", Packing::Zstd.pack(&tar.end()));
    let mut import = host.dhow(["import", path.to_str().expect("UTF-8"), "many"]).spawn();
    // A busy machine may need more than the usual patience for so many.
    let start = std::time::Instant::now();
    while !import.has_ended() && start.elapsed() < 5 * PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = import.wait();
    assert_eq!(output.code(), Some(0), "{output}");
}

#[test]
fn a_bomb_meets_the_end_of_the_disk() {
    let Some(host) = Host::new() else { return };
    // The disk is seen by the command alone.
    if host.has_daemon() {
        return;
    }
    let Some(()) = crate::fixture::need("mkfs.ext4") else { return };
    let disk = SmallDisk::new(&host, 64);
    let bomb = Packing::Gzip.pack(&Tar::new().file("zeros", 0o644, vec![0xaa; 200 << 20]).end());
    assert!(bomb.len() < 4 << 20, "a bomb is small");
    let path = host.file("bomb.tar.gz", bomb);
    let dhow = |args: &[&str]| {
        let root = disk.point.join("root");
        host.dhow(args.iter().copied()).env("DHOW_ROOT", root.to_str().expect("UTF-8")).run()
    };
    let output = dhow(&["import", path.to_str().expect("UTF-8"), "bomb"]);
    assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{output}");
    assert!(output.stderr().contains("no space left on device"), "{output}");
    // The next command works, in the room that is free again.
    let small = host.file("small.tar", Tar::new().file("a", 0o644, vec![1; 20 << 20]).end());
    let output = dhow(&["import", small.to_str().expect("UTF-8"), "small"]);
    assert_eq!(output.code(), Some(0), "{output}");
    let output = dhow(&["rmi", "small"]);
    assert_eq!(output.code(), Some(0), "{output}");
}

#[test]
fn who_unpacks_ends_with_who_started_it() {
    let Some(host) = Host::new() else { return };
    // Who started it is the command.
    if host.has_daemon() {
        return;
    }
    let mut import = host.dhow(["import", "-", "half"]).spawn();
    // A file of which only the beginning comes.
    let tar = Tar::new().file("big", 0o644, vec![b'x'; 4 << 20]).end();
    import.write(&tar[..2 << 20]);
    let ours = fs::read_link("/proc/self/ns/pid").expect("read a link");
    let mut found = None;
    eventually("somebody unpacks", || {
        let children = fs::read_dir("/proc").expect("list /proc").filter_map(|entry| entry.ok());
        let mut unpacks = children.filter(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
            parent == Some(import.pid())
                && fs::read_link(entry.path().join("ns/pid")).is_ok_and(|namespace| namespace != ours)
        });
        found = unpacks.next().map(|entry| entry.path());
        found.is_some()
    });
    let found = found.expect("found");
    import.signal(Signal::SIGKILL);
    assert!(import.wait().killed());
    eventually("it is gone", || !found.exists());
    assert_eq!(host.ok(["images", "--quiet"]), "");
    // The next one clears what it left.
    host.dhow(["import", "-", "whole"]).input(tar).ok();
}
