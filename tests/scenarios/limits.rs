//! Limits where a host's controllers are in version 1, or nowhere: what cannot hold is said, and the container runs. The
//! module `guest` shows that they hold where they can.

use crate::fixture::{Daemon, Host, eventually, without_cgroups};
use std::fs;
use std::path::Path;

/// Whether a controller is in version 2 here.
fn has(controller: &str) -> bool {
    let read = |path| fs::read_to_string(Path::new(path).join("cgroup.controllers")).ok();
    let text = read("/sys/fs/cgroup").or_else(|| read("/sys/fs/cgroup/unified")).unwrap_or_default();
    text.split_whitespace().any(|name| name == controller)
}

/// Each: its flags, its controller, and Docker's warning.
const LIMITS: [(&[&str], &str, &str); 14] = [
    (&["--memory", "64m"], "memory", "memory limit capabilities or the cgroup is not mounted. Limitation discarded."),
    (
        &["--memory-reservation", "64m"],
        "memory",
        "memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
    ),
    (&["--pids-limit", "100"], "pids", "PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."),
    (&["--cpu-shares", "512"], "cpu", "CPU shares or the cgroup is not mounted. Shares discarded."),
    (&["--cpu-quota", "50000"], "cpu", "CPU CFS scheduler. CPU period/quota discarded."),
    (&["--cpu-period", "50000"], "cpu", "CPU CFS scheduler. CPU period/quota discarded."),
    (&["--cpuset-cpus", "0"], "cpuset", "cpuset or the cgroup is not mounted. Cpuset discarded."),
    (&["--cpuset-mems", "0"], "cpuset", "cpuset or the cgroup is not mounted. Cpuset discarded."),
    (&["--blkio-weight", "300"], "io", "Block I/O weight or the cgroup is not mounted. Weight discarded."),
    (
        &["--blkio-weight-device", "/dev/vda:300"],
        "io",
        "Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
    ),
    (
        &["--device-read-bps", "/dev/vda:1mb"],
        "io",
        "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
    ),
    (
        &["--device-write-bps", "/dev/vda:1mb"],
        "io",
        "BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.",
    ),
    (
        &["--device-read-iops", "/dev/vda:100"],
        "io",
        "IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.",
    ),
    (
        &["--device-write-iops", "/dev/vda:100"],
        "io",
        "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
    ),
];

#[test]
fn a_size_of_the_root_needs_quotas() {
    let Some(host) = Host::with_busybox() else { return };
    let run = |option: &str| {
        host.dhow(["run", "--rm", "--network", "none", "--storage-opt", option, "busybox", "true"]).refused(125)
    };
    assert!(run("volume=1g").contains("Unknown option volume"));
    assert!(run("size=much").contains("invalid size: 'much'"));
    assert!(run("size").contains("invalid storage option"));
    let text = run("size=1g");
    assert!(text.contains("--storage-opt is supported only for overlay over xfs with 'pquota' mount option"), "{text}");
}

#[test]
fn what_cannot_hold_is_said_and_the_container_runs() {
    let Some(host) = Host::with_busybox() else { return };
    for (flags, controller, words) in LIMITS {
        if flags[1].starts_with("/dev/") && has(controller) && !Path::new("/dev/vda").exists() {
            continue;
        }
        let output = host.busybox(flags, &["echo", "ran"]).run();
        assert_eq!(output.stdout(), "ran", "{output}");
        let warning = format!("WARNING: Your kernel does not support {words}");
        assert_eq!(output.stderr().lines().any(|line| line == warning), !has(controller), "{output}");
    }
    // What Docker refuses in its place is refused.
    let output = host.busybox(&["--cpus", "0.5"], &["true"]).run();
    let words =
        "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted";
    assert_eq!(output.code() == Some(125) && output.stderr().contains(words), !has("cpu"), "{output}");
    let info = host.dhow(["info"]).run();
    let told = format!("{}{}", info.stdout(), info.stderr());
    for (controller, what) in [
        ("memory", "memory limit"),
        ("memory", "swap limit"),
        ("cpu", "cpu shares"),
        ("cpu", "cpu cfs quota"),
        ("cpuset", "cpuset"),
        ("io", "io.weight"),
        ("io", "io.max"),
        ("pids", "pids limit"),
    ] {
        let line = format!("WARNING: No {what} support: the {controller} controller is not in cgroup v2 on this host");
        assert_eq!(told.contains(&line), !has(controller), "{told}");
    }
}

/// As on a host where all controllers are in version 1, and version 2 is not even mounted.
#[test]
fn without_version_2_everything_else_works() {
    let Some(host) = Host::with_busybox() else { return };
    without_cgroups();
    for (flags, _, words) in LIMITS {
        let output = host.busybox(flags, &["echo", "ran"]).run();
        assert_eq!(output.stdout(), "ran", "{output}");
        assert!(output.stderr().contains(&format!("WARNING: Your kernel does not support {words}")), "{output}");
    }
    let output = host.busybox(&["--cgroup-parent", "/boats"], &["echo", "ran"]).run();
    let words =
        "WARNING: Your kernel does not support cgroup parents or the cgroup is not mounted. Cgroup parent discarded.";
    assert!(output.stdout() == "ran" && output.stderr().contains(words), "{output}");
    let id = host.detached(&["--restart", "always"], &["sh", "-c", "setsid sleep 1234 & echo up; exec sleep 1000"]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    assert_eq!(host.ok(["exec", &id, "echo", "in"]), "in");
    eventually("all of it is listed", || commands(&host, &id) == ["sleep 1000", "sleep 1234"]);
    let pids = host.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", &id]);
    assert_eq!(pids, "2");
    host.ok(["update", "--restart", "no", &id]);
    let text = host.dhow(["pause", &id]).refused(1);
    assert!(text.contains("there is no cgroup v2 on this host to freeze it with"), "{text}");
    host.ok(["cp", &format!("{id}:/etc/hosts"), "-"]);
    host.ok(["restart", "-t", "0", &id]);
    host.ok(["kill", &id]);
    assert_eq!(host.ok(["wait", &id]), "137");
    let told = host.dhow(["info"]).run();
    for words in ["No pause support", "No device rules support", "No memory limit support", "No io.max support"] {
        assert!(format!("{}{}", told.stdout(), told.stderr()).contains(words), "{words}: {told}");
    }
}

/// What `top` says of a container's commands.
fn commands(host: &Host, id: &str) -> Vec<String> {
    let text = host.ok(["top", id, "-o", "args"]);
    let mut found: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn without_version_2_every_process_is_listed() {
    let Some(host) = Host::with_busybox() else { return };
    without_cgroups();
    // One whose parent has ended, and one in a pid namespace below.
    let line = "(setsid sleep 921 &); unshare -pf sleep 922 & exec sleep 920";
    host.detached(&["--name", "apart", "--privileged"], &["sh", "-c", line]);
    host.ok(["exec", "-d", "apart", "sleep", "923"]);
    let expected = ["sleep 920", "sleep 921", "sleep 922", "sleep 923", "unshare -pf sleep 922"];
    eventually("those of its namespace are listed", || commands(&host, "apart") == expected);
    // Among the host's processes, or another container's: what it started, what was started in it, and what they left.
    // What outlives the container shall not hold its output open.
    let line = "exec >/dev/null 2>&1; (setsid sleep 931 &); sleep 932 & exec sleep 930";
    for (name, mode) in [("host", "host"), ("shares", "container:apart")] {
        host.detached(&["--name", name, "--privileged", "--pid", mode], &["sh", "-c", line]);
        host.ok(["exec", "-d", name, "sh", "-c", "(setsid sleep 934 &); exec sleep 933"]);
        let expected = ["sleep 930", "sleep 931", "sleep 932", "sleep 933", "sleep 934"];
        eventually("its own are listed", || commands(&host, name) == expected);
    }
    assert_eq!(host.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", "host"]), "5");
    assert_eq!(commands(&host, "apart"), expected, "nobody else's");
    // Nothing but the list leads to what is left of a container in a namespace that is not its own.
    for name in ["host", "shares"] {
        let listed = host.ok(["top", name, "-o", "pid,args"]);
        host.ok(["kill", name]);
        for (pid, args) in listed.lines().skip(1).filter_map(|line| line.split_once(' ')) {
            if args.trim() != "sleep 930" {
                let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
                // What was executed in it ends with its own shim, which may be quicker.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

#[test]
fn the_answer_of_create_and_of_update_says_it_too() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let body = r#"{"Image":"busybox","HostConfig":{"NetworkMode":"none","PidsLimit":100}}"#;
    let json = "Content-Type: application/json\r\n";
    let (head, answer) = daemon.ask_with("POST /containers/create?name=it", json, body);
    assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    let words = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted";
    assert_eq!(answer.contains(words), !has("pids"), "{answer}");
    let limit = host.inspect("it", "/HostConfig/PidsLimit");
    assert_eq!(limit.is_null(), !has("pids"), "{limit}");
    let (head, answer) = daemon.ask_with("POST /containers/it/update", json, r#"{"PidsLimit":200}"#);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{answer}");
    assert_eq!(answer.contains(words), !has("pids"), "{answer}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(host) = Host::with_busybox() else { return };
    for (flags, words) in [
        (["--memory", "1m"], "Minimum memory limit allowed is 6MB"),
        (["--memory-swappiness", "101"], "Valid memory swappiness range is 0-100"),
        (["--memory-swappiness", "50"], "memory swappiness is not supported"),
        (["--cpus", "lots"], "invalid value \"lots\" for --cpus"),
        (["--cpu-period", "5"], "CPU"),
        (["--cgroup-parent", "../outside"], "invalid cgroup parent: ../outside"),
        (["--device-read-bps", "sda:1mb"], "bad format for device path: sda:1mb"),
        (["--device-read-bps", "/dev/absent:1mb"], "/dev/absent"),
        (["--blkio-weight-device", "/dev/sda:5"], "invalid weight for device: /dev/sda:5"),
    ] {
        let output = host.busybox(&flags, &["true"]).run();
        let controllers = flags[0] == "--cpu-period" && !has("cpu") || flags[0].starts_with("--device") && !has("io");
        if controllers && words.starts_with(['C', '/']) {
            // It is not looked at where it cannot hold.
            assert_eq!(output.code(), Some(0), "{output}");
            continue;
        }
        assert_eq!(output.code(), Some(125), "{output}");
        assert!(output.stderr().contains(words), "{output}");
    }
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

#[test]
fn a_cgroup_parent_holds_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(mount) = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists() && path.join("cgroup.subtree_control").exists())
    else {
        return;
    };
    let name = format!("dhow-parent-{}", std::process::id());
    let id = host.detached(&["--cgroup-parent", &name], &["sleep", "1000"]);
    let parent = mount.join(&name);
    assert!(parent.join(&id).join("cgroup.procs").exists());
    host.ok(["pause", &id]);
    host.ok(["unpause", &id]);
    host.ok(["rm", "--force", &id]);
    assert!(!parent.join(&id).exists());
    fs::remove_dir(parent).expect("nothing is left in it");
}
