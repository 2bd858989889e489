//! Files that outlive a container or come from the host.

use crate::fixture::{Host, Tar, busybox_tar};
use std::fs;

#[test]
fn a_named_volume_is_kept() {
    let Some(host) = Host::with_busybox() else { return };
    assert_eq!(host.ok(["volume", "create", "hold"]), "hold");
    host.sh(&["-v", "hold:/data"], "echo cargo >/data/file");
    assert_eq!(
        host.sh(&["-v", "hold:/other:ro"], "cat /other/file; (echo x >/other/x) 2>&1 || true").lines().next(),
        Some("cargo")
    );
    let text = host.sh(&["-v", "hold:/other:ro"], "(echo x >/other/x) 2>&1 || true");
    assert!(text.contains("Read-only file system"), "{text}");
    let id = host.detached(&["-v", "hold:/data"], &["sleep", "1000"]);
    let text = host.refused(1, ["volume", "rm", "hold"]);
    assert!(text.contains("volume is in use") && text.contains(&id), "{text}");
    host.ok(["rm", "-f", &id]);
    assert_eq!(host.ok(["volume", "ls", "--quiet"]), "hold");
    let shown: serde_json::Value = serde_json::from_str(&host.ok(["volume", "inspect", "hold"])).expect("JSON");
    let place = shown[0]["Mountpoint"].as_str().expect("a place");
    assert_eq!(fs::read_to_string(format!("{place}/file")).expect("read"), "cargo\n");
    assert_eq!(host.ok(["volume", "rm", "hold"]), "hold");
    let text = host.refused(1, ["volume", "inspect", "hold"]);
    assert!(text.contains("hold"), "{text}");
}

#[test]
fn a_new_volume_gets_what_the_image_has_there() {
    let Some(host) = Host::new() else { return };
    let Some(busybox) = busybox_tar() else { return };
    let mut tar = fs::read(busybox).expect("read");
    tar.truncate(tar.len() - 1024);
    let more = Tar::new()
        .dir("stock/", 0o750)
        .owner(12, 34)
        .file("stock/file", 0o640, "from the image")
        .symlink("stock/link", "file");
    tar.extend(more.end());
    let path = host.file("stock.tar", tar);
    host.ok(["import", "--change", "VOLUME /stock", path.to_str().expect("UTF-8"), "busybox"]);
    let line = "cat /stock/link; stat -c '%u:%g %a' /stock/file; stat -c %a /stock";
    assert_eq!(host.sh(&["-v", "fresh:/stock"], line), "from the image12:34 640\n750");
    // Only the first time, and not when told not to.
    host.sh(&["-v", "fresh:/stock"], "rm /stock/file");
    assert_eq!(host.sh(&["-v", "fresh:/stock"], "ls /stock"), "link");
    assert_eq!(host.sh(&["-v", "bare:/stock:nocopy"], "ls -A /stock"), "");
    // An image's own volume is anonymous.
    let id = host.detached(&[], &["sleep", "1000"]);
    let name = host.ok(["inspect", "--format", "{{range .Mounts}}{{.Name}} {{.Destination}}{{end}}", &id]);
    assert!(name.ends_with(" /stock") && name.len() == 64 + 7, "{name}");
    host.ok(["rm", "--force", "--volumes", &id]);
    assert_eq!(host.ok(["volume", "ls", "-q"]), "bare\nfresh");
}

#[test]
fn directories_of_the_host() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = host.dir().join("shared");
    fs::create_dir_all(dir.join("below")).expect("make directories");
    fs::write(dir.join("file"), "theirs").expect("write");
    let dir = dir.to_str().expect("UTF-8").to_owned();
    assert_eq!(host.sh(&["-v", &format!("{dir}:/in")], "cat /in/file; echo ours >/in/new"), "theirs");
    assert_eq!(fs::read_to_string(format!("{dir}/new")).expect("read"), "ours\n");
    let text = host.sh(&["-v", &format!("{dir}:/in:ro")], "(echo x >/in/x) 2>&1 || true");
    assert!(text.contains("Read-only"), "{text}");
    let mount = format!("type=bind,source={dir},target=/in,readonly");
    assert_eq!(host.sh(&["--mount", &mount], "cat /in/file"), "theirs");
    let one = format!("{dir}/file:/etc/one");
    assert_eq!(host.sh(&["-v", &one], "cat /etc/one"), "theirs");
    // -v makes what is missing, --mount does not.
    let missing = format!("{dir}/made");
    host.sh(&["-v", &format!("{missing}:/in")], "true");
    assert!(fs::metadata(&missing).is_ok_and(|it| it.is_dir()));
    let text = host.busybox(&["--mount", &format!("type=bind,source={dir}/absent,target=/in")], &["true"]).refused(125);
    assert!(text.contains("bind source path does not exist"), "{text}");
    // An older word of docker's is taken, with its warning.
    let mount = format!("type=bind,source={dir},target=/in,bind-nonrecursive");
    let output = host.busybox(&["--mount", &mount], &["cat", "/in/file"]).run();
    assert_eq!((output.code(), output.stdout().as_str()), (Some(0), "theirs"), "{output}");
    assert!(output.stderr().contains("bind-nonrecursive is deprecated"), "{output}");
    // A read-only bind is read-only below its mounts too.
    let mountpoint = format!("{dir}/below");
    crate::fixture::tool("mount", ["-t", "tmpfs", "tmpfs", &mountpoint]);
    let text = host.sh(&["-v", &format!("{dir}:/in:ro")], "(echo x >/in/below/x) 2>&1 || true");
    crate::fixture::tool("umount", [&mountpoint]);
    assert!(text.contains("Read-only"), "{text}");
}

#[test]
fn mounts_of_every_type() {
    let Some(host) = Host::with_busybox() else { return };
    let seen = host
        .sh(&["--mount", "type=tmpfs,target=/t,tmpfs-size=2m,tmpfs-mode=1770"], "stat -c %a /t; df -k /t | tail -n 1");
    assert!(seen.starts_with("1770\n") && seen.contains(" 2048 "), "{seen}");
    host.sh(&["--mount", "type=volume,source=vol,target=/v"], "mkdir /v/part; echo deep >/v/part/file");
    let part = "type=volume,source=vol,target=/p,volume-subpath=part";
    assert_eq!(host.sh(&["--mount", part], "cat /p/file"), "deep");
    // A part that is empty is filled from the image, as a whole volume is.
    host.sh(&["-v", "vol:/v"], "mkdir /v/empty; ln -s /etc /v/out");
    for (part, target, found) in [("empty", "/etc", "busybox"), ("part", "/etc", "")] {
        let mount = format!("type=volume,source=vol,target={target},volume-subpath={part}");
        let line = "grep -c root /etc/passwd || true";
        assert_eq!(host.sh(&["--mount", &mount], line).starts_with('1'), !found.is_empty(), "{part}");
    }
    for (part, words) in [("none", "cannot access path "), ("out", "path concatenation escapes the base directory")] {
        let mount = format!("type=volume,source=vol,target=/p,volume-subpath={part}");
        let text = host.busybox(&["--mount", &mount], &["true"]).run();
        assert!(text.stderr().contains(words), "{text}");
    }
    let text = host.busybox(&["--mount", "type=volume,source=vol,target=/p,volume-subpath=../.."], &["true"]).run();
    assert!(!text.status.success() && text.stderr().lines().count() == 1, "{text}");
    for bad in ["type=cloud,target=/x", "type=volume", "type=tmpfs,target=relative", "colour=red,target=/x"] {
        let text = host.busybox(&["--mount", bad], &["true"]).run();
        assert_eq!((text.code(), text.stderr().lines().count()), (Some(125), 1), "{bad}: {text}");
    }
}

#[test]
fn the_files_of_an_image() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "mkdir -p /srv/deep; echo hello >/srv/deep/file; chown 7:8 /srv/deep/file; ln -s /etc /srv/out";
    host.ok(["run", "--network", "none", "--name", "maker", "busybox", "sh", "-c", line]);
    host.ok(["commit", "maker", "data"]);
    host.ok(["rm", "maker"]);
    let whole = ["--mount", "type=image,source=data,target=/data"];
    let line = "cat /data/srv/deep/file; stat -c %u:%g /data/srv/deep/file; [ -x /data/bin/busybox ] && echo all of it";
    assert_eq!(host.sh(&whole, line), "hello\n7:8\nall of it");
    assert!(host.sh(&whole, "(echo x >/data/new) 2>&1 || true").contains("Read-only file system"));
    let part = ["--mount", "type=image,source=data,target=/data,image-subpath=srv/deep"];
    assert_eq!(host.sh(&part, "ls /data; cat /data/file"), "file\nhello");
    for (code, mount, words) in [
        (125, "source=nope", "No such image: nope:latest"),
        (125, "readonly", "field Source must not be empty"),
        (125, "source=data,image-subpath=../..", "subpath must be a relative path within the volume"),
        (127, "source=data,image-subpath=srv/none", "cannot access path /srv/none: no such file or directory"),
        (125, "source=data,image-subpath=srv/out", "path concatenation escapes the base directory"),
    ] {
        let text = host.busybox(&["--mount", &format!("type=image,target=/x,{mount}")], &["true"]).refused(code);
        assert!(text.contains(words), "{mount}: {text}");
    }
    // It is there for as long as a container mounts it, whether that runs or not.
    host.ok(["create", "--network", "none", "--name", "it", whole[0], whole[1], "busybox", "sleep", "1000"]);
    let point = host.inspect("it", "/Mounts/0");
    assert_eq!((&point["Type"], &point["Name"], &point["RW"]), (&"image".into(), &"data".into(), &false.into()));
    assert!(host.refused(1, ["rmi", "data"]).contains("conflict"));
    host.ok(["rmi", "--force", "data"]);
    host.ok(["image", "prune", "--force"]);
    let tar = host.local(["cp", "it:/data/srv/deep/file", "-"]).run().out;
    assert!(String::from_utf8_lossy(&tar).contains("hello"), "of one that does not run");
    host.ok(["start", "it"]);
    assert_eq!(host.ok(["exec", "it", "cat", "/data/srv/deep/file"]), "hello");
    assert_eq!(host.sh(&["--volumes-from", "it"], "cat /data/srv/deep/file"), "hello");
    host.ok(["rm", "--force", "it"]);
}

#[test]
fn a_subpath_cannot_leave_its_volume() {
    let Some(host) = Host::with_busybox() else { return };
    let outside = host.file("outside/secret", "secret");
    let line = format!("ln -s {} /v/way", outside.parent().expect("a directory").display());
    host.sh(&["-v", "vol:/v"], &line);
    let output = host.busybox(&["--mount", "type=volume,source=vol,target=/p,volume-subpath=way"], &["ls", "/p"]).run();
    assert!(!output.stdout().contains("secret"), "{output}");
}

#[test]
fn volumes_of_another_container() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "giver", "-v", "given:/a", "-v", "/b", "busybox"]);
    host.sh(&["--volumes-from", "giver"], "echo 1 >/a/file; echo 2 >/b/file");
    assert_eq!(host.sh(&["--volumes-from", "giver:ro"], "cat /a/file /b/file"), "1\n2");
}

#[test]
fn prune_takes_the_unused() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["volume", "create", "named"]);
    let anonymous = host.ok(["volume", "create"]);
    host.detached(&["-v", "used:/x"], &["sleep", "1000"]);
    host.ok(["volume", "prune", "--force"]);
    let left = host.ok(["volume", "ls", "-q"]);
    assert!(!left.contains(&anonymous) && left.contains("named") && left.contains("used"), "{left}");
    host.ok(["volume", "prune", "--all", "--force"]);
    assert_eq!(host.ok(["volume", "ls", "-q"]), "used");
}
