//! Processes that are killed: the command, the shim in each face, init. Whatever is killed at whatever point, `ps` and
//! `inspect` tell the truth afterwards, every next command works, and nothing is left.

mod images;
mod networks;

use crate::fixture::{Command, Host, Image, PATIENCE, Registry, Running, Tar, busybox_tar, eventually, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What is done until the point is reached, by the part of the point's name before the dot.
const VERBS: &[(&str, fn(&Host, &str))] = &[
    ("create", at_create),
    ("start", at_start),
    ("launch", at_start),
    ("watch", at_end),
    ("reap", at_end),
    ("stop", at_end),
    ("restart", at_restart),
    ("probe", at_probe),
    ("pack", at_pack),
    ("network", networks::at_network),
    ("bridge", networks::at_network),
    ("cooperate", networks::at_cooperation),
    ("rest", networks::at_rest),
    ("heir", networks::at_heir),
    ("connect", networks::at_connection),
    ("disconnect", networks::at_connection),
    ("ports", networks::at_ports),
    ("netcreate", networks::at_network_of_users),
    ("netrm", networks::at_network_of_users),
    ("resolver", networks::at_resolver),
    ("exec", at_exec),
    ("rm", at_rm),
    ("bury", at_bury),
    ("rename", at_rename),
    ("volume", at_volume),
    ("layers", images::at_import),
    ("image", images::at_import),
    ("commit", images::at_commit),
    ("rmi", images::at_rmi),
    ("pull", images::at_pull),
    ("build", images::at_build),
];

/// Every point that the source names.
fn points() -> BTreeSet<String> {
    fn read(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("list the source").flatten() {
            let path = entry.path();
            if path.is_dir() {
                read(&path, found);
            } else {
                let text = fs::read_to_string(&path).expect("read the source");
                found.extend(
                    text.split("failpoint::reach(\"")
                        .skip(1)
                        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
                );
            }
        }
    }
    let mut found = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// A point is known, and where it is not reached the test says so.
fn each(verbs: &[&str]) {
    if !cfg!(feature = "failpoints") {
        return skip("built without failpoints").unwrap_or_default();
    }
    for point in points() {
        let verb = point.split('.').next().unwrap_or_default();
        let Some((_, scenario)) = VERBS.iter().find(|(name, _)| *name == verb) else {
            panic!("no scenario reaches the point {point}");
        };
        if !verbs.contains(&verb) {
            continue;
        }
        let Some(host) = Host::with_busybox() else { return };
        eprintln!("killed at {point}");
        let found = networks::forwarding();
        scenario(&host, &point);
        // Who started it is answered a moment before the last one of them.
        eventually(&format!("the point {point} is reached"), || mark(&host).exists());
        truth(&host);
        works(&host);
        networks::rests(&host, &found);
    }
}

fn mark(host: &Host) -> std::path::PathBuf {
    host.dir().join("reached")
}

/// Waits until the point was reached, and who reached it holds no lock any more.
fn is_killed(host: &Host) {
    eventually("the point is reached", || mark(host).exists());
    let shims = fs::read_dir(host.run_dir().join("containers")).expect("list containers").flatten();
    let inodes = shims.filter_map(|live| Some(format!(":{} ", fs::metadata(live.path().join("lock")).ok()?.ino())));
    let inodes: Vec<String> = inodes.collect();
    let held = || fs::read_to_string("/proc/locks").expect("read the locks");
    eventually("who reached it is no more", || !inodes.iter().any(|inode| held().contains(inode)));
}

/// Every container is what `ps` and `inspect` say that it is. What was killed may have asked for something that is
/// still being done, so this holds as soon as it is done.
fn truth(host: &Host) {
    let mut wrong = String::new();
    let start = std::time::Instant::now();
    while let Err(what) = agree(host) {
        wrong = what;
        assert!(start.elapsed() < PATIENCE, "{wrong}");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(wrong);
}

fn agree(host: &Host) -> Result<(), String> {
    let running = host.ok(["ps", "--quiet", "--no-trunc"]);
    for id in host.ok(["ps", "--all", "--quiet", "--no-trunc"]).lines() {
        let shown =
            host.run(["inspect", "--format", "{{.State.Running}} {{.State.Pid}} {{.State.Status}}", id]).stdout();
        let mut words = shown.split(' ');
        let (runs, pid) = (words.next() == Some("true"), words.next().unwrap_or_default());
        let status = words.next().unwrap_or_default();
        if running.contains(id) != runs {
            return Err(format!("ps and inspect do not agree on {id}"));
        }
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if runs && status != "restarting" && (text.is_empty() || text.contains("0::") && !text.contains(id)) {
            return Err(format!("{pid} is not of {id}: {text}"));
        }
        if status == "restarting" {
            if pid != "0" {
                return Err(format!("{id} waits for its restart, but has the pid {pid}"));
            }
            continue;
        }
        if !runs && pid != "0" {
            return Err(format!("{id} does not run, but has the pid {pid}"));
        }
        if !runs && !["created", "exited", "dead"].contains(&status) {
            return Err(format!("{id} does not run, but is {status}"));
        }
        if !runs && !processes_of(id).is_empty() {
            return Err(format!("{id} does not run, but has processes: {:?}", processes_of(id)));
        }
    }
    Ok(())
}

fn processes_of(id: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("list").flatten().map(|entry| entry.path());
    all.filter(|path| fs::read_to_string(path.join("cgroup")).is_ok_and(|text| text.contains(id)))
        .filter(|path| fs::read_to_string(path.join("stat")).is_ok_and(|text| !text.contains(") Z ")))
        .map(|path| path.display().to_string())
        .collect()
}

/// What is left can be started, stopped and removed, and a new container with the same name runs.
fn works(host: &Host) {
    for id in host.ok(["ps", "--all", "--quiet", "--no-trunc"]).lines() {
        // What was killed may have asked for an end that is still on its way.
        host.ok(["stop", "--time", "0", id]);
        host.ok(["start", id]);
        // A command of the image's own may have ended well by the time that we look.
        let state = host.inspect(id, "/State");
        assert!(
            state["Running"] == true || state["ExitCode"] == 0 && state["FinishedAt"] != state["StartedAt"],
            "{state}"
        );
        host.ok(["stop", "--time", "0", id]);
        truth(host);
        host.ok(["rm", id]);
    }
    assert_eq!(host.ok(["ps", "-aq"]), "");
    assert_eq!(
        host.ok(["run", "--rm", "--network", "none", "--name", "it", "-v", "hold:/hold", "busybox", "echo", "x"]),
        "x"
    );
    host.assert_tidy();
    let left: Vec<_> =
        fs::read_dir(host.root().join("containers")).expect("list").flatten().map(|it| it.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

const STAY: [&str; 9] = ["--network", "none", "--name", "it", "-v", "hold:/hold", "busybox", "sleep", "1000"];

fn at_create(host: &Host, point: &str) {
    let create = ["create"].iter().chain(&STAY).copied();
    assert!(host.dhow(create).fail(point, &mark(host)).run().killed());
}

fn at_start(host: &Host, point: &str) {
    host.ok(["create"].iter().chain(&STAY).copied());
    let output = host.dhow(["start", "it"]).fail(point, &mark(host)).run();
    assert!(output.killed() || output.code() == Some(1) || output.code() == Some(0), "{output}");
}

/// The shim is told of the point when it is launched; its container ends later.
fn at_end(host: &Host, point: &str) {
    host.dhow(["run", "--detach"].iter().chain(&STAY).copied()).fail(point, &mark(host)).run();
    let output = host.dhow(["stop", "--time", "0", "it"]).fail(point, &mark(host)).run();
    assert!(output.killed() || output.stderr().lines().count() <= 1, "{output}");
    eventually("the point is reached", || mark(host).exists());
}

/// Whoever waits for the removal has been told; what is still to be deleted is cleared by the next command.
fn at_bury(host: &Host, point: &str) {
    host.dhow(["run", "--rm", "--network", "none", "busybox", "true"]).fail(point, &mark(host)).run();
    eventually("the point is reached", || mark(host).exists());
    assert_eq!(host.ok(["ps", "--all", "--quiet"]), "");
    host.ok(["run", "--rm", "--network", "none", "busybox", "true"]);
}

/// The shim is told of the point when it is launched. Nobody but `boot` starts what it leaves, and that only where
/// nobody has stopped it.
fn at_restart(host: &Host, point: &str) {
    host.ok(["volume", "create", "hold"]);
    let fixed = ["run", "--detach", "--network", "none", "--name", "it", "-v", "hold:/hold"];
    let fails = ["--restart", "unless-stopped", "busybox", "sh", "-c", "test -e /hold/go && exec sleep 1000; exit 3"];
    host.dhow(fixed.iter().chain(&fails).copied()).fail(point, &mark(host)).ok();
    let stopped = point == "restart.off";
    if stopped {
        let waits = || {
            host.inspect("it", "/RestartCount").as_i64() >= Some(5)
                && host.inspect("it", "/State/Status") == "restarting"
        };
        eventually("there is time to stop it", waits);
        host.run(["stop", "it"]);
    }
    eventually("the point is reached", || mark(host).exists());
    eventually("its shim is gone", || host.inspect("it", "/State/Status") == "exited");
    truth(host);
    host.sh(&["-v", "hold:/hold"], "touch /hold/go");
    assert_eq!(host.inspect("it", "/State/Status"), "exited", "a command that looks starts nothing");
    assert_eq!(host.ok(["boot"]), if stopped { "" } else { "it" });
    assert_eq!(host.inspect("it", "/State/Running"), !stopped);
}

/// A probe that is killed says nothing, and the next one does.
fn at_probe(host: &Host, point: &str) {
    let check = ["--health-interval", "50ms", "--health-cmd", "sleep 0.01"];
    let words = ["run", "--detach"].iter().chain(&check).chain(&STAY).copied();
    host.dhow(words).fail(point, &mark(host)).ok();
    eventually("the point is reached", || mark(host).exists());
    eventually("it is asked all the same", || host.inspect("it", "/State/Health/Status") == "healthy");
    assert_eq!(host.inspect("it", "/State/Running"), true);
}

/// A log whose files are compressed: each line is there once, and what was left is done by the next run.
fn at_pack(host: &Host, point: &str) {
    let numbers = "i=0; while [ $i -lt 50 ]; do seq $((i * 100)) $((i * 100 + 99)); i=$((i + 1)); sleep 0.02; done";
    let mut words = vec!["run", "--detach", "--name", "it", "--network", "none"];
    words.extend(["max-size=20k", "max-file=100", "compress=true"].iter().flat_map(|option| ["--log-opt", option]));
    words.extend(["busybox", "sh", "-c", numbers]);
    host.dhow(words).fail(point, &mark(host)).ok();
    eventually("the point is reached", || mark(host).exists());
    let is_whole = |lines: &[&str]| {
        let numbers = lines.iter().map(|line| line.parse::<u32>().expect("a number"));
        numbers.eq(0..lines.len() as u32)
    };
    host.run(["wait", "it"]);
    let seen = host.ok(["logs", "it"]);
    let first: Vec<&str> = seen.lines().collect();
    assert!(!first.is_empty() && is_whole(&first), "{} lines", first.len());
    host.ok(["start", "it"]);
    host.ok(["wait", "it"]);
    let seen = host.ok(["logs", "it"]);
    let lines: Vec<&str> = seen.lines().collect();
    let (before, after) = lines.split_at(first.len());
    assert!(before == first && after.len() == 5000 && is_whole(after), "{} and {}", before.len(), after.len());
    let id = host.inspect("it", "/Id").as_str().expect("an id").to_owned();
    eventually("all that was rotated away is compressed", || {
        let names = fs::read_dir(host.root().join("containers").join(&id)).expect("list the container");
        let names = names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let rotated: Vec<String> = names.filter(|name| name.contains("-json.log.")).collect();
        !rotated.is_empty() && rotated.iter().all(|name| name.ends_with(".gz"))
    });
}

fn at_exec(host: &Host, point: &str) {
    host.ok(["run", "--detach"].iter().chain(&STAY).copied());
    let output = host.dhow(["exec", "it", "echo", "x"]).fail(point, &mark(host)).run();
    assert!(!output.status.success() || output.stdout() == "x", "{output}");
    assert_eq!(host.ok(["exec", "it", "echo", "again"]), "again");
    assert_eq!(host.inspect("it", "/State/Running"), true);
}

fn at_rm(host: &Host, point: &str) {
    host.ok(["create"].iter().chain(&STAY).copied());
    host.dhow(["rm", "it"]).fail(point, &mark(host)).run();
}

fn at_rename(host: &Host, point: &str) {
    host.ok(["create"].iter().chain(&STAY).copied());
    host.dhow(["rename", "it", "that"]).fail(point, &mark(host)).run();
}

fn at_volume(host: &Host, point: &str) {
    host.dhow(["create", "--network", "none", "-v", "full:/etc", "busybox"]).fail(point, &mark(host)).run();
    host.dhow(["volume", "create", "hold"]).fail(point, &mark(host)).run();
    host.ok(["volume", "create", "hold"]);
    host.dhow(["volume", "rm", "hold"]).fail(point, &mark(host)).run();
    let listed = host.ok(["volume", "ls", "-q"]);
    assert!(listed.lines().all(|name| ["full", "hold"].contains(&name)), "{listed}");
    // One without a name is nobody's then, and goes with the next command, but not one that a container has.
    let create = ["create", "--network", "none", "-v", "/data", "busybox"];
    let had = host.ok(create);
    let output = host.dhow(create).fail(point, &host.dir().join("reached-too")).run();
    if !output.killed() {
        host.ok(["rm", "--volumes", &output.stdout()]);
    }
    host.ok(["volume", "create", "hold"]);
    let listed = host.ok(["volume", "ls", "-q"]);
    let nameless: Vec<&str> = listed.lines().filter(|name| name.len() == 64).collect();
    assert_eq!(nameless, [host.inspect(&had, "/Mounts/0/Name").as_str().unwrap_or_default()]);
    host.ok(["rm", "--volumes", &had]);
    assert_eq!(host.sh(&["-v", "full:/etc"], "head -n 1 /etc/passwd"), "root:x:0:0:root:/root:/bin/sh");
}

#[test]
fn while_it_is_built() {
    each(&["build"]);
}

#[test]
fn while_it_is_created() {
    each(&["create"]);
}

#[test]
fn while_it_starts() {
    each(&["start", "launch"]);
}

#[test]
fn while_it_ends() {
    each(&["watch", "reap", "stop"]);
}

#[test]
fn while_it_waits_for_its_restart() {
    each(&["restart"]);
}

/// Somebody waits for the restart: whatever becomes of the shim, it runs then. With `--rm` it may be gone, as after any end
/// that nobody saw.
#[test]
fn while_it_is_restarted_by_hand() {
    if !cfg!(feature = "failpoints") {
        return skip("built without failpoints").unwrap_or_default();
    }
    for point in
        ["reap.start", "reap.ended", "reap.told", "reap.recorded", "restart.waiting", "restart.due", "restart.started"]
    {
        for brief in [false, true] {
            let Some(host) = Host::with_busybox() else { return };
            eprintln!("killed at {point}");
            let found = networks::forwarding();
            let more: &[&str] = if brief { &["--rm"] } else { &["-p", "8080:80"] };
            let words = ["run", "--detach", "--name", "it"].iter().chain(more).chain(&["busybox", "sleep", "1000"]);
            host.dhow(words.copied()).fail(point, &mark(&host)).ok();
            let output = host.dhow(["restart", "--time", "0", "it"]).run();
            assert!(mark(&host).exists(), "the point {point} is not reached");
            truth(&host);
            match brief {
                false => assert!(output.code() == Some(0) && host.inspect("it", "/State/Running") == true, "{output}"),
                true => {
                    assert_eq!(host.ok(["ps", "--all", "--quiet"]), host.ok(["ps", "--quiet"]), "{output}");
                    host.run(["rm", "--force", "it"]);
                }
            }
            works(&host);
            networks::rests(&host, &found);
        }
    }
}

/// Whatever its shim had yet to do when it was killed: the next command that looks does it.
#[test]
fn what_goes_with_its_end_is_not_left_behind() {
    if !cfg!(feature = "failpoints") {
        return skip("built without failpoints").unwrap_or_default();
    }
    for point in ["reap.start", "reap.ended", "reap.told", "reap.recorded", "rm.start"] {
        for looks in [&["ps", "--all", "--quiet"][..], &["boot"], &["inspect", "it"], &["start", "it"]] {
            let Some(host) = Host::with_busybox() else { return };
            eprintln!("killed at {point}, then {looks:?}");
            let words =
                ["run", "--detach", "--rm", "--network", "none", "--name", "it", "-v", "/hold", "busybox", "cat"];
            host.dhow(words).fail(point, &mark(&host)).ok();
            is_killed(&host);
            let output = host.run(looks.iter().copied());
            let code = if matches!(looks[0], "ps" | "boot") { 0 } else { 1 };
            assert!(output.code() == Some(code) && !output.stdout().contains("it"), "{output}");
            let left = |dir: std::path::PathBuf| fs::read_dir(dir).expect("list").count();
            let left = (left(host.root().join("containers")), left(host.run_dir().join("containers")));
            assert_eq!((left, host.ok(["volume", "ls", "--quiet"])), ((0, 0), String::new()));
            works(&host);
        }
    }
}

/// Once, whoever does: the shim, or who finds what that left when it was killed.
#[test]
fn an_end_is_told_once() {
    if !cfg!(feature = "failpoints") {
        return skip("built without failpoints").unwrap_or_default();
    }
    for point in ["reap.start", "reap.ended", "reap.told", "reap.recorded"] {
        for flag in ["--rm", "--init"] {
            let Some(host) = Host::with_busybox() else { return };
            eprintln!("killed at {point}, with {flag}");
            let words = ["run", "--detach", flag, "--network", "none", "--name", "it", "busybox", "true"];
            host.dhow(words).fail(point, &mark(&host)).ok();
            is_killed(&host);
            let told = || host.ok(["events", "--since", "1h", "--until", "0s", "--filter", "event=die"]);
            for _ in 0..3 {
                host.ok(["ps", "--all"]);
            }
            assert_eq!(told().lines().count(), 1, "{}", told());
            if flag == "--rm" {
                continue;
            }
            // So is that of its next life.
            host.ok(["start", "it"]);
            host.ok(["wait", "it"]);
            assert_eq!(told().lines().count(), 2, "{}", told());
            host.ok(["rm", "it"]);
        }
    }
}

#[test]
fn while_its_network_comes_or_goes() {
    each(&["network", "bridge", "cooperate", "connect", "disconnect", "ports", "netcreate", "netrm", "resolver"]);
}

#[test]
fn after_the_last_one_has_left_its_network() {
    each(&["rest", "heir"]);
}

#[test]
fn while_its_health_is_asked_for() {
    each(&["probe"]);
}

#[test]
fn while_its_log_is_rotated_and_compressed() {
    each(&["pack"]);
}

#[test]
fn while_something_is_executed_in_it() {
    each(&["exec"]);
}

#[test]
fn while_it_is_removed_or_renamed() {
    each(&["rm", "bury", "rename"]);
}

#[test]
fn while_an_image_or_a_volume_comes_or_goes() {
    each(&["layers", "image", "rmi", "pull", "volume", "commit"]);
}

#[test]
fn a_shim_takes_its_container_along() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["run", "--detach"].iter().chain(&STAY).copied());
    let id = host.inspect("it", "/Id").as_str().expect("an id").to_owned();
    kill(host.shim("it"), Signal::SIGKILL).expect("kill the shim");
    eventually("its container is gone", || processes_of(&id).is_empty());
    assert_eq!(host.inspect("it", "/State/Status"), "exited");
    assert_eq!(host.inspect("it", "/State/ExitCode"), 137);
    works(&host);
}

#[test]
fn a_shim_with_others_waiting() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["run", "--detach"].iter().chain(&STAY).copied());
    let waits = host.dhow(["wait", "it"]).spawn();
    let attached = host.dhow(["attach", "--no-stdin", "it"]).spawn();
    let follows = host.dhow(["logs", "--follow", "it"]).spawn();
    let inside = host.dhow(["exec", "it", "sleep", "1000"]).spawn();
    eventually("the exec runs", || host.run(["top", "it"]).stdout().matches("sleep").count() >= 2);
    kill(host.shim("it"), Signal::SIGKILL).expect("kill the shim");
    let output = waits.wait();
    assert_eq!(output.stdout(), "137", "{output}");
    attached.wait();
    follows.wait();
    assert_ne!(inside.wait().code(), Some(0));
    works(&host);
}

#[test]
fn a_shim_of_a_container_with_rm() {
    let Some(host) = Host::with_busybox() else { return };
    let runs = host.dhow(["run", "--rm"].iter().chain(&STAY).copied()).spawn();
    eventually("it runs", || host.ok(["ps", "-q"]).lines().count() == 1);
    kill(host.shim("it"), Signal::SIGKILL).expect("kill the shim");
    let output = runs.wait();
    assert!(output.code().is_some_and(|code| code != 0), "{output}");
    host.ok(["ps", "-a"]);
    works(&host);
}

#[test]
fn init_alone() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["run", "--detach"].iter().chain(&STAY).copied());
    let init = host.inspect("it", "/State/Pid").as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    kill(Pid::from_raw(init), Signal::SIGKILL).expect("kill init");
    assert_eq!(host.ok(["wait", "it"]), "137");
    works(&host);
}

#[test]
fn the_command_that_runs_it() {
    let Some(host) = Host::with_busybox() else { return };
    let runs = host.dhow(["run"].iter().chain(&STAY).copied()).spawn();
    eventually("it runs", || host.ok(["ps", "-q"]).lines().count() == 1);
    runs.signal(Signal::SIGKILL);
    runs.wait();
    assert_eq!(host.inspect("it", "/State/Running"), true, "it goes on without the command");
    works(&host);
}

/// Commands killed from outside, a little later each time: whatever they are in the middle of.
fn killed_ever_later(host: &Host, mut command: impl FnMut() -> Running, mut after: impl FnMut()) {
    for step in 0..60 {
        let running = command();
        std::thread::sleep(Duration::from_micros(step * 300));
        let _ = kill(Pid::from_raw(running.pid()), Signal::SIGKILL);
        drop(running);
        after();
        truth(host);
        for id in host.ok(["ps", "-aq"]).lines() {
            let output = host.run(["rm", "--force", id]);
            assert!(output.status.success() || output.stderr().contains("No such container"), "{output}");
        }
    }
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

#[test]
fn run_at_any_moment() {
    let Some(host) = Host::with_busybox() else { return };
    killed_ever_later(&host, || host.dhow(["run", "--detach"].iter().chain(&STAY).copied()).spawn(), || ());
    killed_ever_later(&host, || host.busybox(&[], &["true"]).spawn(), || ());
    works(&host);
}

#[test]
fn rm_and_stop_at_any_moment() {
    let Some(host) = Host::with_busybox() else { return };
    let up = || {
        host.ok(["run", "--detach"].iter().chain(&STAY).copied());
    };
    killed_ever_later(
        &host,
        || {
            up();
            host.dhow(["rm", "--force", "it"]).spawn()
        },
        || (),
    );
    killed_ever_later(
        &host,
        || {
            up();
            host.dhow(["stop", "--time", "0", "it"]).spawn()
        },
        || (),
    );
    works(&host);
}

#[test]
fn pull_at_any_moment() {
    let (Some(host), Some(registry), Some(tar)) = (Host::with_busybox(), Registry::shared(), busybox_tar()) else {
        return;
    };
    let image = Image::new(fs::read(tar).expect("read"))
        .layer(Tar::new().file("big", 0o644, vec![7; 20 << 20]).end(), crate::fixture::Packing::Zstd);
    registry.upload(&image, "crash/pull", "v1");
    let name = registry.name("crash/pull:v1");
    for step in 0..25 {
        let running = host.dhow(["pull", "-q", &name]).spawn();
        std::thread::sleep(Duration::from_millis(step * 3));
        let _ = kill(Pid::from_raw(running.pid()), Signal::SIGKILL);
        drop(running);
        if !host.ok(["images", "-q", &name]).is_empty() {
            assert_eq!(host.ok(["run", "--rm", "--network", "none", &name, "wc", "-c", "/big"]), "20971520 /big");
            host.ok(["rmi", &name]);
        }
    }
    host.ok(["pull", "-q", &name]);
    assert_eq!(host.ok(["run", "--rm", "--network", "none", &name, "wc", "-c", "/big"]), "20971520 /big");
    host.ok(["rmi", &name]);
    host.assert_tidy();
    works(&host);
}

/// What is born into one cgroup from another that was killed once is killed by the kernel.
#[test]
fn a_cgroup_that_was_killed_once() {
    let Some(host) = Host::with_busybox() else { return };
    let is_v2 = |path: &&Path| path.join("cgroup.controllers").exists();
    let Some(mount) = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new).into_iter().find(is_v2) else {
        return skip("there is no cgroup v2").unwrap_or_default();
    };
    let cgroup = mount.join(host.dir().file_name().expect("a name"));
    fs::create_dir(&cgroup).expect("make a cgroup");
    fs::write(cgroup.join("cgroup.kill"), "1").expect("kill what is in it");
    let line = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.display());
    let inside = |args: &[&str]| {
        Command::new("sh", ["-c", &line, "sh", env!("CARGO_BIN_EXE_dhow")].iter().chain(args))
            .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
            .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"))
    };
    let fixed = ["run", "--network", "none"];
    let words = |more: &[&'static str]| fixed.iter().chain(more).copied().collect::<Vec<_>>();
    assert_eq!(inside(&words(&["--rm", "busybox", "echo", "x"])).ok(), "x");
    inside(&words(&["--detach", "--name", "it", "busybox", "sleep", "1000"])).ok();
    assert_eq!(inside(&["exec", "it", "echo", "y"]).ok(), "y");
    // None of them is left where a stop of whatever that cgroup belongs to would find it.
    assert_eq!(fs::read_to_string(cgroup.join("cgroup.procs")).expect("read"), "");
    let shim = fs::read_to_string(format!("/proc/{}/cgroup", host.shim("it"))).expect("its shim lives");
    assert!(shim.lines().any(|line| line.starts_with("0::") && line.ends_with("/shims")), "{shim}");
    host.ok(["rm", "--force", "it"]);
    fs::remove_dir(&cgroup).expect("remove the cgroup");
}
