//! What our own processes hold while they wait, as the kernel says it of them.

use crate::fixture::{Daemon, Host, busybox_tar, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

/// Docker's for a container, and what an engine does itself, as the kernel numbers them.
const CONTAINER: u64 = 0xa804_25fb;
const ENGINE: u64 = 0x2_892c_37ff;

const KILL: u64 = 1 << 5;
const NET_ADMIN: u64 = 1 << 12;
const SYS_BOOT: u64 = 1 << 22;

/// Lines of /proc/<pid>/status.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn set(status: &BTreeMap<String, String>, name: &str) -> u64 {
    status.get(name).and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(u64::MAX)
}

/// What this test, and so the commands that it starts, could give.
fn ours() -> u64 {
    set(&status(std::process::id() as i32), "CapBnd")
}

/// The shims of a host, by their face and whose they are: `watch <id>`, `watch <id> <exec>`, `resolver`.
fn shims(host: &Host) -> Vec<(i32, String)> {
    let run = host.run_dir();
    let entries = fs::read_dir("/proc").expect("read /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let shim = |pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split('\0').filter(|word| !word.contains('=')).collect();
        let [_, "shim", face, "--root", _, "--run", of, whose @ ..] = words.as_slice() else { return None };
        (*of == run.to_str()?).then(|| format!("{face} {}", whose.join(" ")).trim().to_owned())
    };
    pids.filter_map(|pid| Some((pid, shim(pid)?))).collect()
}

fn shim(host: &Host, name: &str) -> Option<i32> {
    shims(host).into_iter().find(|(_, known)| known == name).map(|(pid, _)| pid)
}

/// Waits until that shim holds as much: capabilities, those that execve gives back, new privileges, a filter.
fn holds(host: &Host, name: &str, effective: u64, bounding: u64, privileges: &str, filter: &str) {
    process_holds(name, || shim(host, name), effective, bounding, privileges, filter);
}

/// The same of any process; of what it should hold, what there is to be had here.
fn process_holds(
    name: &str,
    pid: impl Fn() -> Option<i32>,
    effective: u64,
    bounding: u64,
    privileges: &str,
    filter: &str,
) {
    let held = || pid().map(status).unwrap_or_default();
    let as_it_should = || {
        let held = held();
        let sets = ["CapEff", "CapPrm", "CapBnd", "CapAmb"].map(|name| set(&held, name));
        let flags = ["NoNewPrivs", "Seccomp"].map(|name| held.get(name).map_or("", String::as_str));
        let effective = effective & ours();
        sets == [effective, effective, bounding & ours(), 0] && flags == [privileges, filter]
    };
    eventually(&format!("{name} holds {effective:x}, {bounding:x}: {:?}", held()), as_it_should);
}

#[test]
fn each_process_holds_what_it_and_the_next_one_need() {
    let Some(host) = Host::with_busybox() else { return };
    let own = ours();
    host.ok(["network", "create", "sea"]);
    let plain = host.detached(&[], &["sleep", "1000"]);
    let more = host.detached(&["--cap-add", "SYS_BOOT", "--cap-drop", "AUDIT_WRITE"], &["sleep", "1000"]);
    let all = host.detached(&["--privileged"], &["sleep", "1000"]);
    for key in ["MaskedPaths", "ReadonlyPaths"] {
        assert_eq!(host.inspect(&all, &format!("/HostConfig/{key}")), serde_json::Value::Null);
    }
    let port = host.ok(["run", "-d", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]);
    let sea = host.ok(["run", "-d", "--network", "sea", "busybox", "sleep", "1000"]);
    host.ok(["exec", "--detach", "--user", "1000", &plain, "sleep", "1000"]);

    // A container comes from it again, if its policy says so by then; what it needs for that, execve gives back.
    holds(&host, &format!("watch {plain}"), KILL, CONTAINER | ENGINE, "0", "0");
    holds(&host, &format!("watch {more}"), KILL, CONTAINER | ENGINE | SYS_BOOT, "0", "0");
    holds(&host, &format!("watch {all}"), KILL, u64::MAX, "0", "0");
    for id in [&port, &sea] {
        holds(&host, &format!("watch {id}"), KILL | NET_ADMIN, CONTAINER | ENGINE, "0", "0");
    }
    let exec = || shims(&host).into_iter().find(|(_, name)| name.starts_with(&format!("watch {plain} ")));
    eventually("an exec is watched", || exec().is_some());
    let (_, exec) = exec().expect("an exec");
    // None comes from this one. It still ends what runs as another user.
    holds(&host, &exec, KILL, KILL, "1", "0");

    // These start nothing, and are root's no more.
    eventually("it is served", || {
        let wget = ["wget", "-q", "-O-", "http://[::1]:8080/hostname"];
        let said = std::process::Command::new("busybox").args(wget).output();
        said.expect("wget").stdout.len() == 13
    });
    for name in ["resolver".to_owned(), format!("forward {port}")] {
        holds(&host, &name, 0, 0, "1", "2");
        let held = status(shim(&host, &name).expect("it lives"));
        for line in ["Uid", "Gid"] {
            assert_eq!(held[line], "65534\t65534\t65534\t65534", "{name}: {line}");
        }
        assert_eq!(held["Groups"], "", "{name}");
    }

    let daemon = Daemon::start(&host);
    let held = status(daemon.pid());
    assert_eq!(["CapEff", "CapPrm"].map(|name| set(&held, name)), [ENGINE & own; 2]);
    // What it starts may be given all.
    assert_eq!(set(&held, "CapBnd"), own);
    let through = host.dhow(["exec", "--privileged", &plain, "grep", "CapEff", "/proc/self/status"]);
    let said = through.env("DOCKER_HOST", &daemon.address()).ok();
    assert!(said.ends_with(&format!("{own:016x}")), "{said}");
    daemon.stop();
}

#[test]
fn a_command_may_start_all_and_so_may_a_shim_before_its_start() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.ok(["create", "--network", "none", "busybox", "true"]);
    let running = host.detached(&[], &["sleep", "1000"]);
    let command = host.dhow(["wait", &running]).spawn();
    process_holds("a command", || Some(command.pid()), ENGINE, u64::MAX, "0", "0");
    // Who waits for its next end is served by the shim of one that was not started.
    let daemon = Daemon::start(&host);
    let mut waits = daemon.connect();
    let line =
        format!("POST /containers/{id}/wait?condition=next-exit HTTP/1.1\r\nHost: dhow\r\nContent-Length: 0\r\n\r\n");
    waits.write_all(line.as_bytes()).expect("ask");
    holds(&host, &format!("launch {id}"), u64::MAX, u64::MAX, "0", "0");
    drop(waits);
    eventually("it goes with who waited", || shim(&host, &format!("launch {id}")).is_none());
    daemon.stop();
}

#[test]
fn the_other_faces_hold_what_was_given_back() {
    let Some(host) = Host::with_busybox() else { return };
    // Its shim has let go before the first probe, and before the first end.
    let flags = ["--health-cmd", "sleep 1000", "--health-interval", "3s", "--health-timeout", "1000s"];
    let probed = host.detached(&flags, &["sleep", "1000"]);
    holds(&host, &format!("watch {probed}"), KILL, CONTAINER | ENGINE, "0", "0");
    holds(&host, &format!("probe {probed}"), CONTAINER | ENGINE, CONTAINER | ENGINE, "0", "0");
    // The pauses become longer.
    let again = host.detached(&["--restart", "always", "--cap-add", "SYS_BOOT"], &["sleep", "2"]);
    let all = CONTAINER | ENGINE | SYS_BOOT;
    holds(&host, &format!("watch {again}"), KILL, all, "0", "0");
    holds(&host, &format!("launch {again}"), all, all, "0", "0");
    host.ok(["rm", "--force", &again, &probed]);
}

#[test]
fn an_init_holds_what_passing_on_takes() {
    let Some(host) = Host::with_busybox() else { return };
    for (flags, held, bounding) in [
        (&["--init"][..], KILL, CONTAINER),
        (&["--init", "--cap-drop", "KILL"], 0, CONTAINER & !KILL),
        (&["--init", "--user", "1000"], KILL, CONTAINER),
    ] {
        let id = host.detached(flags, &["sleep", "1000"]);
        let init = host.inspect(&id, "/State/Pid").as_i64().and_then(|pid| i32::try_from(pid).ok());
        process_holds(&format!("an init of {flags:?}"), || init, held, bounding, "0", "2");
    }
}

#[test]
fn who_unpacks_is_given_nothing_more() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = fs::read(busybox_tar().expect("an image")).expect("read an image");
    let (first, rest) = tar.split_at(100_000);
    let mut import = host.dhow(["import", "-"]).spawn();
    import.write(first);
    // It shares the memory of the command, and waits for the rest.
    let children = || {
        let all = fs::read_dir("/proc").expect("list processes").flatten();
        let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.find(|pid| status(*pid).get("PPid") == Some(&import.pid().to_string()))
    };
    process_holds("who unpacks", children, ENGINE, u64::MAX, "1", "2");
    let unpacks = children().expect("it lives");
    let apart = |name: &str| {
        let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
        link(unpacks) != link(import.pid())
    };
    assert!(apart("pid"), "it is in a pid namespace of its own");
    assert!(apart("mnt"), "its mounts are its own");
    import.write(rest);
    import.close_input();
    import.wait().ok();
}

/// What it says is compressed for a second or two, because nothing in it comes twice.
#[test]
fn what_compresses_a_log_holds_nothing() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = ["--log-driver", "local", "--log-opt", "max-size=40m"];
    let line = "head -c 27000000 /dev/urandom | base64; exec sleep 1000";
    let id = host.detached(&flags, &["sh", "-c", line]);
    let name = format!("pack {id}");
    holds(&host, &name, 0, 0, "1", "2");
    let packer = shim(&host, &name).expect("it lives");
    kill(Pid::from_raw(packer), Signal::SIGSTOP).expect("stop it");
    let held = status(packer);
    let ids = ["Uid", "Gid"].map(|line| held[line].as_str());
    assert_eq!((ids, held["Groups"].as_str()), (["65534\t65534\t65534\t65534"; 2], ""));
    // The two files, and those that every process has.
    let open = fs::read_dir(format!("/proc/{packer}/fd")).expect("list what is open").flatten();
    let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let open = open.filter(|path| path.starts_with(host.root()) || path.starts_with(host.run_dir()));
    assert_eq!(open.count(), 2);
    // Its end is nobody else's.
    kill(Pid::from_raw(packer), Signal::SIGKILL).expect("kill it");
    eventually("it is gone", || shim(&host, &name).is_none());
    assert_eq!(host.inspect(&id, "/State/Running"), true);
    host.ok(["rm", "--force", &id]);
}

#[test]
fn who_is_started_again_has_all_that_he_had() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\n'; echo; exec sleep 1000";
    for (name, flags) in [
        ("plain", &["--network", "none"][..]),
        ("all", &["--privileged", "--network", "none"]),
        ("some", &["--cap-add", "ALL", "--cap-drop", "SYS_BOOT", "--network", "none"]),
        ("user", &["--user", "1000", "-p", "127.0.0.1:8080:80", "-v", "data:/data", "--tmpfs", "/scratch"]),
    ] {
        let fixed = ["run", "--detach", "--restart", "always", "--name", name];
        host.ok(fixed.iter().chain(flags).chain(&["busybox", "sh", "-c", line]).copied());
    }
    for name in ["plain", "all", "some", "user"] {
        let id = host.inspect(name, "/Id");
        let watch = format!("watch {}", id.as_str().expect("an id"));
        eventually("its shim has let go", || {
            let held = shim(&host, &watch).map(status).unwrap_or_default();
            set(&held, "CapEff") & !NET_ADMIN == KILL
        });
        let pid = host.inspect(name, "/State/Pid").as_i64().expect("a pid");
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("kill its init");
        let lines = || host.ok(["logs", name]).lines().map(str::to_owned).collect::<Vec<_>>();
        eventually("it is there again", || lines().len() == 2);
        let said = lines();
        assert_eq!(said[0], said[1], "{name}");
        assert_eq!(host.inspect(name, "/RestartCount"), 1);
    }
    // An exec gets it from its own shim, whatever that of the container holds.
    let said = host.ok(["exec", "--privileged", "plain", "grep", "CapEff", "/proc/self/status"]);
    assert!(said.ends_with(&format!("{:016x}", ours())), "{said}");
}
