//! What our own processes hold while they wait, as the kernel says it of them.

use crate::fixture::{Daemon, Host, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;

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
    let held = || shim(host, name).map(status).unwrap_or_default();
    let as_it_should = || {
        let held = held();
        let sets = ["CapEff", "CapPrm", "CapBnd", "CapAmb"].map(|name| set(&held, name));
        let flags = ["NoNewPrivs", "Seccomp"].map(|name| held.get(name).map_or("", String::as_str));
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
    let port = host.ok(["run", "-d", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]);
    host.ok(["run", "-d", "--network", "sea", "busybox", "sleep", "1000"]);
    host.ok(["exec", "--detach", "--user", "1000", &plain, "sleep", "1000"]);

    // A container comes from it again, if its policy says so by then; what it needs for that, execve gives back.
    holds(&host, &format!("watch {plain}"), KILL, CONTAINER | ENGINE, "0", "0");
    holds(&host, &format!("watch {more}"), KILL, CONTAINER | ENGINE | SYS_BOOT, "0", "0");
    holds(&host, &format!("watch {all}"), KILL, u64::MAX, "0", "0");
    holds(&host, &format!("watch {port}"), KILL | NET_ADMIN, CONTAINER | ENGINE, "0", "0");
    let exec = || shims(&host).into_iter().find(|(_, name)| name.starts_with(&format!("watch {plain} ")));
    eventually("an exec is watched", || exec().is_some());
    let (_, exec) = exec().expect("an exec");
    // None comes from this one. It still ends what runs as another user.
    holds(&host, &exec, KILL, KILL, "1", "0");

    // These start nothing, and are root's no more.
    let said = std::process::Command::new("busybox").args(["wget", "-q", "-O-", "http://[::1]:8080/hostname"]).output();
    assert_eq!(said.expect("wget").stdout.len(), 13);
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
