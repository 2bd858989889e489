//! What create is asked to mount, and what it refuses.

use crate::fixture::Host;
use std::fs;

#[test]
fn what_is_no_mount_is_refused() {
    let Some(host) = Host::with_busybox() else { return };
    let cases: &[(&[&str], &str)] = &[
        (&["-v", "/a:/b:bad"], "invalid mode: bad"),
        (&["-v", "/a:/b:ro,rw"], "invalid mode: ro,rw"),
        (&["-v", "/a:/"], "destination can't be '/'"),
        (&["-v", "/etc:/x", "-v", "/etc:/x/"], "Duplicate mount point: /x"),
        (&["-v", "/etc:/x", "--tmpfs", "/x"], "Duplicate mount point: /x"),
        (&["-v", "/etc:/x", "--mount", "type=tmpfs,target=/x"], "Duplicate mount point: /x"),
        (&["--mount", "type=bind,source=/no/such,target=/x"], "bind source path does not exist: /no/such"),
        (&["--tmpfs", "/x:nope"], "invalid tmpfs option"),
        (&["--volumes-from", "nobody"], "No such container: nobody"),
        (&["-v", "a:/x"], "volume name is too short"),
    ];
    for (flags, expected) in cases {
        let text = host.busybox(flags, &["true"]).refused(125);
        assert!(text.contains(expected), "{flags:?}: {text}");
    }
    assert_eq!(host.ok(["volume", "ls", "-q"]), "", "a refused create leaves no volume");
    assert!(!std::path::Path::new("/no/such").exists());
    host.assert_tidy();
}

#[test]
fn inspect_tells_them() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = host.dir().join("in");
    fs::create_dir(&dir).expect("make a directory");
    let dir = dir.to_str().expect("UTF-8");
    let bind = format!("{dir}:/bind/:ro,rslave");
    let flags = [
        "-v",
        &bind,
        "-v",
        "gv:/named",
        "-v",
        "/anonymous",
        "--mount",
        "type=tmpfs,target=/tmpfs",
        "--tmpfs",
        "/hidden",
    ];
    host.ok(["create", "--network", "none", "--name", "cc"].iter().chain(&flags).chain(&["busybox"]).copied());
    let template = "{{range .Mounts}}{{.Type}} {{.Destination}} '{{.Mode}}' {{.RW}} {{.Propagation}}\n{{end}}";
    let shown = host.ok(["inspect", "-f", template, "cc"]);
    let mut lines: Vec<&str> = shown.lines().filter(|line| !line.is_empty()).map(str::trim).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "bind /bind 'ro,rslave' false rslave",
            "tmpfs /tmpfs '' true",
            "volume /anonymous '' true",
            "volume /named 'z' true",
        ]
    );
    let source = host.ok(["inspect", "-f", "{{range .Mounts}}{{if eq .Type \"bind\"}}{{.Source}}{{end}}{{end}}", "cc"]);
    assert_eq!(source, dir);
}

#[test]
fn a_volume_of_the_local_driver_is_mounted_while_it_is_used() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = host.dir().join("device");
    fs::create_dir(&dir).expect("make a directory");
    fs::write(dir.join("file"), "there").expect("write");
    let device = format!("device={}", dir.display());
    host.ok(["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, "bound"]);
    assert_eq!(host.sh(&["-v", "bound:/x"], "cat /x/file; echo new >/x/new"), "there");
    assert_eq!(fs::read_to_string(dir.join("new")).expect("read"), "new\n");
    host.ok(["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m", "quick"]);
    let seen = host.sh(&["-v", "quick:/x"], "df -k /x | tail -n 1");
    assert!(seen.starts_with("tmpfs") && seen.contains(" 1024 "), "{seen}");
    // What is elsewhere takes nothing here.
    host.ok(["volume", "create", "here"]);
    assert_eq!(
        host.ok(["system", "df", "-v", "--format", "{{range .Volumes}}{{.Name}} {{.Size}};{{end}}"]),
        "here 0B;"
    );
    let text = host.refused(1, ["volume", "create", "--opt", "o=ro", "bad"]);
    assert!(text.contains("missing required option"), "{text}");
    host.ok(["volume", "rm", "bound", "quick"]);
    assert!(dir.join("new").exists(), "what a volume stood for stays");
}

/// What clients before 1.44 know of read-only is the source alone: what is mounted below it stays writable.
#[test]
fn older_clients_have_read_only_sources_alone() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = crate::fixture::Daemon::start(&host);
    let hold = host.dir().join("hold");
    let deep = hold.join("deep");
    fs::create_dir_all(&deep).expect("make directories");
    let deep = deep.to_str().expect("UTF-8");
    crate::fixture::tool("mount", ["-t", "tmpfs", "tmpfs", deep]);
    let body = serde_json::json!({
        "Image": "busybox",
        "Cmd": ["sh", "-c", "for at in /a /b; do touch $at/x; touch $at/deep/x; done 2>&1 | grep -c Read-only; true"],
        "HostConfig": {
            "NetworkMode": "none",
            "Binds": [format!("{}:/a:ro", hold.display())],
            "Mounts": [{"Type": "bind", "Source": hold, "Target": "/b", "ReadOnly": true}]
        }
    });
    let mut seen = Vec::new();
    for version in ["v1.43", "v1.44"] {
        let line = format!("POST /{version}/containers/create?name=hull");
        let (head, answer) = daemon.ask_with(&line, "Content-Type: application/json\r\n", &body.to_string());
        assert!(head.starts_with("HTTP/1.1 201 "), "{answer}");
        seen.push(host.ok(["start", "--attach", "hull"]));
        host.ok(["rm", "hull"]);
    }
    crate::fixture::tool("umount", [deep]);
    assert_eq!(seen, ["2", "4"]);
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["run", "--name", "made", "busybox", "mkdir", "-m", "2710", "/own"]);
    host.ok(["commit", "made", "owned"]);
    for (flags, expected) in [
        (&["--tmpfs", "/own"][..], "2710 0"),
        (&["--tmpfs", "/own:size=64k,uid=7"], "2710 7"),
        (&["--tmpfs", "/own:ro"], "2710 0"),
        (&["--mount", "type=tmpfs,target=/own"], "2710 0"),
        (&["--tmpfs", "/own:mode=750"], "750 0"),
        (&["--mount", "type=tmpfs,target=/own,tmpfs-mode=0700"], "700 0"),
    ] {
        let words = ["run", "--rm"].iter().chain(flags).chain(&["owned", "stat", "-c", "%a %u", "/own"]);
        assert_eq!(host.ok(words.copied()), expected, "{flags:?}");
    }
    // Where nothing was it is everybody's.
    let said = host.ok(["run", "--rm", "--tmpfs", "/new/place", "owned", "stat", "-c", "%a", "/new/place"]);
    assert_eq!(said, "1777");
    let said = host.ok(["run", "--rm", "--tmpfs", "/own:ro", "owned", "sh", "-c", "touch /own/x; echo $?"]);
    assert_eq!(said, "1", "it is as read-only as it was");
}
