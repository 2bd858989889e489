//! What people and disks do wrong. Each time: one clear line, the right exit code, nothing half made, and the next
//! command works.

use crate::fixture::{Host, SmallDisk, Terminal, busybox_tar, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_does_not_exist_is_named() {
    let Some(host) = Host::with_busybox() else { return };
    for (code, args) in [
        (1, vec!["start", "ghost"]),
        (1, vec!["stop", "ghost"]),
        (1, vec!["kill", "ghost"]),
        (1, vec!["restart", "ghost"]),
        (1, vec!["pause", "ghost"]),
        (1, vec!["unpause", "ghost"]),
        (1, vec!["wait", "ghost"]),
        (1, vec!["rm", "ghost"]),
        (1, vec!["logs", "ghost"]),
        (1, vec!["exec", "ghost", "true"]),
        (1, vec!["attach", "ghost"]),
        (1, vec!["inspect", "ghost"]),
        (1, vec!["rename", "ghost", "other"]),
        (1, vec!["top", "ghost"]),
        (1, vec!["rmi", "ghost"]),
        (1, vec!["history", "ghost"]),
        (1, vec!["tag", "ghost", "other"]),
        (1, vec!["volume", "rm", "ghost"]),
        (1, vec!["volume", "inspect", "ghost"]),
        (125, vec!["run", "--network", "none", "--pull", "never", "ghost"]),
        (1, vec!["create", "--network", "none", "--pull", "never", "ghost"]),
        (125, vec!["run", "--network", "none", "--volumes-from", "ghost", "busybox"]),
        (125, vec!["run", "--rm", "--network", "container:ghost", "busybox"]),
        (125, vec!["run", "--network", "none", "--pid", "container:ghost", "busybox"]),
    ] {
        let output = host.run(args.iter().copied());
        assert_eq!(output.code(), Some(code), "{output}");
        assert!(output.stderr().contains("ghost"), "{output}");
        assert_eq!(host.ok(["ps", "-aq"]), "", "{output}");
    }
    // What leads elsewhere is nothing's name.
    for (args, words) in [
        (vec!["logs", "../ghost"], "No such container: ../ghost"),
        (vec!["rm", "a/b"], "No such container: a/b"),
        (vec!["volume", "rm", "../ghost"], "get ../ghost: no such volume"),
        (vec!["network", "rm", "./ghost"], "network ./ghost not found"),
    ] {
        assert_eq!(host.refused(1, args), format!("dhow: {words}"));
    }
    // What others are called does nothing to the terminal.
    let said = host.refused(1, ["inspect", "--type", "container", "\u{1b}[31mred\r"]);
    assert!(said.contains(r"\u{1b}[31mred\r"), "{said}");
    host.assert_tidy();
}

#[test]
fn a_misspelt_flag_or_command() {
    let host = Host::anyone();
    for args in [
        vec!["rum"],
        vec!["container", "rum"],
        vec!["run", "--detatch", "busybox"],
        vec!["ps", "--al"],
        vec!["run"],
        vec!["rename", "one"],
        vec!["run", "--ulimit", "nofile=x", "busybox"],
        vec!["run", "-e", "=x", "busybox"],
        vec!["run", "-v", "a:b:c:d", "busybox"],
        vec!["run", "--name", "", "-u", "", "--shm-size", "lots", "busybox"],
    ] {
        let output = host.run(args.iter().copied());
        assert!(matches!(output.code(), Some(1 | 125)), "{output}");
        assert!(!output.stderr().is_empty() && output.stderr().lines().count() <= 3, "{output}");
        assert!(!output.stderr().contains("panicked"), "{output}");
    }
}

#[test]
fn a_store_that_is_read_only_can_be_looked_at() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "kept", "busybox"]);
    let root = host.root();
    // As earlier builds left it: that cannot be changed now.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o711)).unwrap();
    let root = root.to_str().expect("UTF-8");
    crate::fixture::tool("mount", ["--bind", root, root]);
    crate::fixture::tool("mount", ["-o", "remount,bind,ro", root]);
    let shown = host.run(["ps", "--all", "--format", "{{.Names}}"]);
    let images = host.run(["images", "--format", "{{.Repository}}"]);
    let run = host.busybox(&[], &["true"]).run();
    let tar = busybox_tar().expect("it was there");
    let import = host.run(["import", tar.to_str().expect("UTF-8"), "x"]);
    let verbs: [&[&str]; 5] = [
        &["start", "kept"],
        &["start", "--attach", "kept"],
        &["rename", "kept", "other"],
        &["tag", "busybox", "other"],
        &["network", "create", "web"],
    ];
    let changes = verbs.map(|verb| host.run(verb.iter().copied()));
    crate::fixture::tool("umount", [root]);
    assert_eq!(shown.stdout(), "kept", "{shown}");
    assert_eq!(images.stdout(), "busybox", "{images}");
    for (output, code) in [(run, 125), (import, 1)] {
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(code), 1), "{output}");
        assert!(output.stderr().contains("read-only"), "{output}");
    }
    for output in changes {
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{output}");
        assert!(output.stderr().contains(&format!("the store {root} is read-only")), "{output}");
    }
    host.sh(&[], "true");
}

#[test]
fn a_full_disk() {
    let Some(host) = Host::new() else { return };
    let (Some(()), Some(tar)) = (crate::fixture::need("mkfs.ext4"), busybox_tar()) else { return };
    let disk = SmallDisk::new(&host, 24);
    let root = disk.point.join("root");
    let dhow = |args: &[&str]| host.dhow(args.iter().copied()).env("DHOW_ROOT", root.to_str().expect("UTF-8")).run();
    let output = dhow(&["import", tar.to_str().expect("UTF-8"), "busybox"]);
    assert!(output.status.success(), "{output}");
    let fill = disk.point.join("fill");
    let mut size = 24 << 20;
    let mut filler = fs::File::create(&fill).expect("fill the disk");
    while size > 0 {
        // Ever smaller pieces, to the last block.
        if std::io::Write::write_all(&mut filler, &vec![1; size]).is_err() {
            size /= 2;
        }
    }
    let output = dhow(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "head -c 100000 /dev/zero >/file"]);
    assert!(!output.status.success(), "{output}");
    let output = dhow(&["create", "--network", "none", "--name", "full", "busybox"]);
    assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{output}");
    let output = dhow(&["ps", "-aq"]);
    assert_eq!((output.code(), output.stdout().as_str()), (Some(0), ""), "{output}");
    drop(filler);
    fs::remove_file(&fill).expect("make room");
    let output = dhow(&["run", "--rm", "--network", "none", "--name", "full", "busybox", "echo", "again"]);
    assert_eq!((output.code(), output.stdout().as_str()), (Some(0), "again"), "{output}");
    // Full while it runs: what it says cannot be kept, and it goes on.
    let id = dhow(&[
        "run",
        "-d",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "yes | head -c 4000000; echo end >/dev/shm/end; sleep 1000",
    ]);
    let id = id.stdout();
    crate::fixture::eventually("it has written all", || dhow(&["exec", &id, "cat", "/dev/shm/end"]).stdout() == "end");
    let output = dhow(&["rm", "-f", &id]);
    assert!(output.status.success(), "{output}");
}

#[test]
fn someone_without_privilege() {
    let host = Host::anyone();
    if !nix::unistd::geteuid().is_root() {
        return skip("not root").unwrap_or_default();
    }
    // A copy of the file that anyone may run, for the build may lie where only its owner looks.
    let file = host.dir().join("dhow");
    crate::fixture::copy_program(env!("CARGO_BIN_EXE_dhow"), &file);
    let run = |args: &[&str]| {
        let command = crate::fixture::Command::new(file.to_str().expect("UTF-8"), args.iter().copied());
        command.env("DHOW_ROOT", "/var/lib/dhow-nobody").env("DHOW_RUN", "/run/dhow-nobody").user(65534).run()
    };
    for args in [&["run", "--rm", "busybox", "true"][..], &["ps"], &["pull", "-q", "127.0.0.1:1/x"]] {
        let output = run(args);
        assert!(matches!(output.code(), Some(1 | 125)), "{output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
    let output = run(&["--help"]);
    assert_eq!(output.code(), Some(0), "{output}");
}

#[test]
fn a_configuration_with_an_unknown_key() {
    let Some(host) = Host::with_busybox() else { return };
    let bad = host.file("daemon.json", r#"{"debug": false, "colour": "red"}"#);
    let text = host.refused(1, ["--config", bad.to_str().expect("UTF-8"), "ps"]);
    assert!(text.contains("colour") && text.contains("daemon.json"), "{text}");
    let broken = host.file("broken.json", "{");
    let text = host.refused(1, ["--config", broken.to_str().expect("UTF-8"), "ps"]);
    assert!(text.contains("broken.json"), "{text}");
    let text = host.refused(1, ["--config", "/no/such.json", "ps"]);
    assert!(text.contains("/no/such.json"), "{text}");
    let other = host.dir().join("elsewhere");
    let moved = host.file("moved.json", format!("{{\"data-root\": \"{}\"}}", other.display()));
    let output = host.dhow(["--config", moved.to_str().expect("UTF-8"), "images", "-q"]).env("DHOW_ROOT", "").run();
    assert_eq!((output.code(), output.stdout().as_str()), (Some(0), ""), "{output}");
    assert!(other.join("version").exists());
}

#[test]
fn a_store_of_a_later_version_is_left_alone() {
    let Some(host) = Host::with_busybox() else { return };
    fs::write(host.root().join("version"), "999\n").expect("write");
    let text = host.refused(1, ["ps"]);
    assert!(text.contains("999"), "{text}");
    fs::write(host.root().join("version"), "1\n").expect("write");
    host.sh(&[], "true");
}

#[test]
fn a_record_that_is_damaged_hides_no_other() {
    let Some(host) = Host::with_busybox() else { return };
    let bad = host.ok(["create", "--network", "none", "--name", "bad", "busybox"]);
    host.ok(["create", "--network", "none", "--name", "good", "busybox", "true"]);
    fs::write(host.root().join("containers").join(&bad).join("record.json"), "{ not JSON").expect("write");
    let output = host.run(["ps", "--all", "--format", "{{.Names}}"]);
    assert!(output.stdout().lines().any(|line| line == "good"), "{output}");
    assert_eq!(host.ok(["start", "good"]), "good");
    host.run(["rm", "--force", &bad]);
    assert!(!host.root().join("containers").join(&bad).exists(), "what is damaged can be removed");
}

#[test]
fn a_person_who_gives_up() {
    let Some(host) = Host::new() else { return };
    // A pull from a registry that accepts and never answers, ended by Ctrl-C.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let name = format!("{}/silent", silent.local_addr().expect("an address"));
    let mut terminal = Terminal::start(host.dhow(["pull", &name]));
    let _connection = silent.accept().expect("it asks");
    terminal.send([3]);
    assert!(!terminal.end().success());
    host.ok(["images"]);
    host.run(["pull", "-q", "127.0.0.1:1/x"]);
    host.assert_tidy();
}

#[test]
fn a_working_directory_that_is_relative_or_none() {
    let Some(host) = Host::with_busybox() else { return };
    let words = "the working directory 'tmp' is invalid, it needs to be an absolute path";
    let text = host.refused(1, ["create", "-w", "tmp", "busybox"]);
    assert!(text.contains(words), "{text}");
    let text = host.busybox(&["-w", "tmp"], &["true"]).refused(125);
    assert!(text.contains(words), "{text}");
    assert_eq!(host.ok(["ps", "-aq"]), "");
    let id = host.detached(&["-w", "/tmp/../etc"], &["sleep", "1000"]);
    assert_eq!(host.inspect(&id, "/Config/WorkingDir"), "/etc");
    let text = host.refused(1, ["exec", "-w", "tmp", &id, "true"]);
    assert!(text.contains(words), "{text}");
    for (path, code, why) in [("/nowhere", 127, "no such file or directory"), ("/etc/passwd", 126, "not a directory")] {
        let text = host.refused(code, ["exec", "-w", path, &id, "true"]);
        let words =
            format!("unable to start container process: chdir to cwd (\"{path}\") set in config.json failed: {why}");
        assert!(text.contains(&words), "{text}");
    }
    host.assert_tidy();
}

#[test]
fn nothing_is_pulled_for_what_is_refused() {
    let Some(host) = Host::new() else { return };
    for (args, words) in [
        (["--mount", "type=bind,src=/nowhere/at/all,dst=/x"], "bind source path does not exist: /nowhere/at/all"),
        (["--security-opt", "nonsense"], "invalid --security-opt: \"nonsense\""),
        (["--cgroup-parent", "../x"], "invalid cgroup parent: ../x"),
        (["--restart", "never"], "invalid restart policy: unknown policy 'never'"),
        (["--stop-signal", "NOSUCH"], "invalid signal: NOSUCH"),
    ] {
        let text = host.refused(125, ["run", "--network", "none", args[0], args[1], "127.0.0.1:1/ghost"]);
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("Unable to find image"), "{text}");
    }
    host.assert_tidy();
}
