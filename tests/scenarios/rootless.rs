//! Containers of an ordinary user: his own store, his own ids, nothing of root's.

use crate::cdi::Vendor;
use crate::fixture::sailor::{FIRST, Sailor, UID};
use crate::fixture::{Command, Image, Layout, Packing, Tar, busybox_tar, eventually, tool};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn an_ordinary_user_runs_containers() {
    let Some(sailor) = Sailor::new(true) else { return };
    let seen = sailor
        .sh(&[], "id -u; cat /proc/self/uid_map; touch /mine; stat -c %u:%g /mine /bin/busybox; echo x >/dev/null");
    let words: Vec<&str> = seen.split_whitespace().collect();
    let map = ["0", "0", "1999", "1", "1", "400000", "65536", "0:0", "0:0"];
    assert_eq!(words, map, "{seen}");
    let id = sailor.detached(
        &["-v", "data:/v", "--hostname", "boat"],
        "touch /mine /v/mine; chown 7:8 /mine /v/mine; echo up; sleep 1000",
    );
    eventually("it is up", || sailor.ok(["logs", &id]) == "up");
    assert_eq!(
        sailor.ok(["exec", &id, "sh", "-c", "hostname; stat -c %u:%g /mine; ls /proc/1/ns | head -n 1"]),
        "boat\n7:8\ncgroup"
    );
    assert_eq!(sailor.ok(["exec", "-u", "5", &id, "sh", "-c", "id -u; echo z >/dev/stdout"]), "5\nz");
    assert_eq!(sailor.ok(["exec", "-t", &id, "tty"]).trim(), "/dev/pts/0");
    let file = fs::metadata(sailor.store().join("containers").join(&id).join("upper/mine")).expect("look at the file");
    assert_eq!((file.uid(), file.gid()), (FIRST + 6, FIRST + 7));
    let tar = sailor.command(["cp", &format!("{id}:/mine"), "-"]).run().out;
    let listed = Command::new("tar", ["--numeric-owner", "-tvf", "-"]).input(tar.clone()).ok();
    assert!(listed.contains(" 7/8 "), "{listed}");
    sailor.command(["cp", "-", &format!("{id}:/tmp")]).input(tar).ok();
    assert_eq!(sailor.ok(["exec", &id, "stat", "-c", "%u:%g", "/tmp/mine"]), "7:8");
    assert!(sailor.ok(["diff", &id]).contains("A /mine"));
    sailor.ok(["commit", &id, "made"]);
    assert_eq!(sailor.ok(["run", "--rm", "--network", "none", "made", "stat", "-c", "%u:%g", "/mine"]), "7:8");
    assert!(!sailor.ok(["export", &id]).is_empty());
    sailor.ok(["restart", "-t", "0", &id]);
    assert_eq!(sailor.ok(["exec", &id, "stat", "-c", "%u:%g", "/v/mine"]), "7:8");
    assert!(sailor.ok(["top", &id]).contains("sleep 1000"));
    sailor.ok(["stop", "-t", "0", &id]);
    assert_eq!(sailor.ok(["ps", "-aq", "--no-trunc"]), id);
    let talks = sailor.detached(&["--log-driver", "local", "--log-opt", "max-size=10k"], "seq 1 5000");
    sailor.ok(["wait", &talks]);
    let rotated = sailor.store().join("containers").join(&talks).join(format!("{talks}-json.log.4.gz"));
    eventually("its log is compressed", || rotated.exists());
    assert!(sailor.ok(["logs", &talks]).ends_with("\n5000"));
    sailor.ok(["rm", &talks]);
    assert_eq!(sailor.ok(["run", "--rm", "-t", "--network", "none", "busybox", "tty"]).trim(), "/dev/pts/0");
    // Nobody else's business.
    assert!(!sailor.host.root().exists());
    let theirs = sailor.store();
    let text = sailor.host.local(["ps"]).env("DHOW_ROOT", theirs.to_str().expect("UTF-8")).refused(1);
    assert!(text.contains("belongs to another user"), "{text}");
    let given = sailor.host.dir().join("secret");
    fs::write(&given, "of root").expect("write");
    fs::set_permissions(&given, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let seen = sailor.sh(&["-v", &format!("{}:/secret", given.display())], "cat /secret 2>&1 || true");
    assert!(seen.contains("Permission denied"), "{seen}");
}

/// Marks that hide what is below are other ones in a user namespace.
#[test]
fn his_images_have_many_layers() {
    let Some(sailor) = Sailor::new(true) else { return };
    let busybox = fs::read(busybox_tar().expect("it was there")).expect("read");
    let below =
        Tar::new().file("kept", 0o644, "kept\n").file("gone", 0o644, "gone\n").file("opaque/old", 0o644, "").end();
    let above = Tar::new().file(".wh.gone", 0o644, "").file("opaque/.wh..wh..opq", 0o644, "");
    let above = above.file("opaque/new", 0o644, "").end();
    let image = Image::new(busybox).layer(below, Packing::Plain).layer(above, Packing::Zstd);
    let dir = sailor.host.dir().join("layout");
    Layout::new(dir.clone()).add(&image, "layers:latest");
    let tar = sailor.host.dir().join("layers.tar");
    tool("tar", ["-C", dir.to_str().expect("UTF-8"), "-cf", tar.to_str().expect("UTF-8"), "."]);
    sailor.command(["load"]).input(fs::read(&tar).expect("read")).ok();
    let line = "cat /kept; ls /gone 2>/dev/null; ls /opaque; rm -r /opaque; mkdir /opaque; ls /opaque; rm /kept; ls / | grep kept";
    let run = ["run", "--name", "it", "--network", "none", "layers:latest", "sh", "-c", line];
    assert_eq!(sailor.command(run).run().stdout(), "kept\nnew");
    let changed = sailor.ok(["diff", "it"]);
    assert!(changed.contains("D /kept") && changed.contains("C /opaque"), "{changed}");
    sailor.ok(["commit", "it", "less"]);
    let run = ["run", "--rm", "--network", "none", "less", "sh", "-c", "ls /opaque /kept 2>/dev/null; ls /bin/busybox"];
    assert_eq!(sailor.ok(run), "/opaque:\n/bin/busybox");
    sailor.ok(["rm", "it"]);
    // What a stage of a build has is mounted with them.
    let text = "FROM layers AS s\nRUN rm -r /opaque && mkdir /opaque && echo f > /opaque/f\nFROM layers\n\
                RUN --mount=from=s,source=opaque,target=/m ls /m /opaque > /said\n";
    let build = ["build", "--network", "none", "-t", "built", "-"];
    sailor.command(build).input(text.as_bytes().to_vec()).ok();
    assert_eq!(sailor.ok(["run", "--rm", "--network", "none", "built", "cat", "/said"]), "/m:\nf\n\n/opaque:\nnew");
    sailor.ok(["rmi", "less", "layers", "built"]);
}

#[test]
fn without_subordinate_ids_there_is_one() {
    let Some(sailor) = Sailor::new(false) else { return };
    let seen =
        sailor.sh(&[], "id -u; cat /proc/self/uid_map; touch /x; chown 7 /x 2>&1; stat -c %u /x; echo y >/dev/stdout");
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(words[..4], ["0", "0", "1999", "1"], "{seen}");
    assert!(seen.ends_with("0\ny") && seen.contains("Invalid argument"), "{seen}");
    let id = sailor.detached(&[], "sleep 1000");
    assert_eq!(sailor.ok(["exec", "-t", &id, "tty"]).trim(), "/dev/pts/0");
    let other = sailor.command(["run", "--rm", "--network", "none", "-u", "7", "busybox", "true"]).run();
    assert!(other.stderr().contains("uid 7 is none that this user was given"), "{other}");
    let info = sailor.command(["info"]).run();
    let told = format!("{}{}", info.stdout(), info.stderr());
    assert!(told.contains("rootless") && told.contains("single-id mode"), "{told}");
}

#[test]
fn all_that_he_starts_at_once_is_in_one_namespace() {
    let Some(sailor) = Sailor::new(true) else { return };
    eventually("nobody is inside", || !sailor.is_kept());
    let start = |number: i32| {
        let name = format!("c{number}");
        sailor.command(["run", "-d", "--network", "none", "--name", &name, "busybox", "sleep", "1000"]).spawn()
    };
    let starts: Vec<_> = (0..6).map(start).collect();
    for start in starts {
        start.wait().ok();
    }
    let all: Vec<String> =
        (0..6).map(|number| sailor.ok(["exec", &format!("c{number}"), "readlink", "/proc/self/ns/user"])).collect();
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    assert!(sailor.is_kept());
    // Who keeps them does nothing but wait.
    let pid = fs::read_to_string(sailor.host.dir().join("xdg/dhow/namespaces")).expect("who keeps the namespaces");
    let held = fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("its status");
    for line in ["CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(held.contains(line), "{line}: {held}");
    }
    // Whoever is killed: what comes after finds its way there.
    let keeper = fs::read_to_string(sailor.host.dir().join("xdg/dhow/namespaces")).expect("who keeps the namespaces");
    let keeper = nix::unistd::Pid::from_raw(keeper.trim().parse().expect("a number"));
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).expect("kill the keeper");
    eventually("it is gone", || !sailor.is_kept());
    assert_eq!(sailor.ok(["exec", "c3", "readlink", "/proc/self/ns/user"]), all[0]);
    assert!(sailor.is_kept());
    let line = "readlink /proc/self/ns/net";
    let theirs = sailor.ok(["exec", "c1", "sh", "-c", line]);
    assert_eq!(sailor.ok(["run", "--rm", "--network", "container:c1", "busybox", "sh", "-c", line]), theirs);
}

#[test]
fn his_daemon_listens_where_he_may() {
    let Some(sailor) = Sailor::new(true) else { return };
    let daemon = sailor.command(["daemon"]).spawn();
    let socket = sailor.host.dir().join("xdg/docker.sock");
    let address = format!("unix://{}", socket.display());
    eventually("it answers", || sailor.command(["version"]).env("DOCKER_HOST", &address).run().status.success());
    let meta = fs::metadata(&socket).expect("look at the socket");
    assert_eq!((meta.uid(), meta.mode() & 0o777), (UID, 0o660));
    let id = sailor
        .command(["run", "-d", "--network", "none", "busybox", "sleep", "1000"])
        .env("DOCKER_HOST", &address)
        .ok();
    // With the daemon and without it is one store.
    assert_eq!(sailor.ok(["ps", "-q", "--no-trunc"]), id);
    assert_eq!(sailor.ok(["exec", &id, "echo", "in"]), "in");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
    assert_eq!(sailor.ok(["exec", &id, "echo", "still"]), "still");
}

#[test]
fn what_he_cannot_have_is_said() {
    let Some(sailor) = Sailor::new(true) else { return };
    sailor.hide("pasta");
    sailor.hide("slirp4netns");
    let output = sailor.command(["run", "--rm", "busybox", "ls", "/sys/class/net"]).run();
    assert_eq!(output.stdout(), "eth0\nlo", "{output}");
    let words = "WARNING: No way out of this network: neither pasta nor slirp4netns is installed";
    assert!(output.stderr().contains(words), "{output}");
    let info = sailor.command(["info"]).run();
    assert!(format!("{}{}", info.stdout(), info.stderr()).contains(words), "{info}");
    let text = sailor.command(["network", "create", "-d", "macvlan", "mine"]).refused(1);
    assert!(text.contains("networks of the driver macvlan need root"), "{text}");
    let config = sailor.host.file("daemon.json", r#"{"bridge": "lan0"}"#);
    let text =
        sailor.command(["--config", config.to_str().expect("UTF-8"), "run", "--rm", "busybox", "true"]).refused(125);
    assert!(text.contains("bridge lan0: links of this host are root's"), "{text}");
    let output = sailor.command(["run", "--rm", "-p", "80:80", "busybox", "true"]).run();
    let words = "ports below net.ipv4.ip_unprivileged_port_start are root's";
    assert!(output.code() == Some(125) && output.stderr().contains(words), "{output}");
    let output =
        sailor.command(["run", "--rm", "--network", "none", "--pids-limit", "5", "busybox", "echo", "ran"]).run();
    assert_eq!(output.stdout(), "ran");
    assert!(output.stderr().contains("does not support PIDs limit"), "{output}");
    // In the host's namespaces he is who he is.
    let seen = sailor.ok([
        "run",
        "--rm",
        "--network",
        "host",
        "--pid",
        "host",
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; ls -d /proc/1",
    ]);
    assert!(seen.contains("lo") && seen.contains("/proc/1"), "{seen}");
    // What makes devices is left out of images.
    let mut tar = fs::read(busybox_tar().expect("it was there")).expect("read");
    tar.truncate(tar.len() - 1024);
    tar.extend(Tar::new().char_device("disk", 0o666, (8, 1)).end());
    sailor.command(["import", "-", "devices"]).input(tar).ok();
    assert_eq!(
        sailor.ok(["run", "--rm", "--network", "none", "devices", "sh", "-c", "ls /disk 2>/dev/null; echo ran"]),
        "ran"
    );
}

#[test]
fn devices_by_name_are_his_too() {
    let Some(sailor) = Sailor::new(true) else { return };
    let vendor = Vendor::new();
    let line = "bundle=$(sed 's/.*\"bundle\":\"\\([^\"]*\\).*/\\1/'); \
                root=$(sed 's/.*\"root\":{\"path\":\"\\([^\"]*\\).*/\\1/' $bundle/config.json); echo hooked >$root/etc/hooked";
    let hook = |moment: &str, line: &str| json!({"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", line]});
    let edits = json!({
        "env": ["HULL=oak"],
        "deviceNodes": [{"path": "/dev/deep", "hostPath": "/dev/full"}],
        "mounts": [{"hostPath": "/etc", "containerPath": "/lent", "options": ["ro", "rbind"]}],
        "hooks": [hook("createContainer", line), hook("createRuntime", "test $(id -u) = 0")],
    });
    vendor.says(&[("one", edits)], json!({}));
    let line = "echo $HULL; (echo >/dev/deep) 2>&1; cat /etc/hooked; test -e /lent/passwd && echo lent";
    let said = sailor.sh(&["--device", &vendor.device("one")], line);
    assert_eq!(said, "oak\nsh: write error: No space left on device\nhooked\nlent");
}
