//! Restart policies: a container that ends is started again as its policy says, with no daemon; a stop sticks in every
//! phase; whoever waits, watches or interferes is told the truth.

use crate::fixture::{Host, eventually};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Fails until there is a file `go` in the folder that is mounted at /hold; stays then.
const UNTIL: [&str; 3] = ["sh", "-c", "echo try; test -e /hold/go && exec sleep 1000; exit 3"];

fn hold(host: &Host) -> (PathBuf, String) {
    let folder = host.dir().join("hold");
    fs::create_dir_all(&folder).expect("make a folder");
    let mount = format!("{}:/hold", folder.display());
    (folder, mount)
}

fn status(host: &Host, name: &str) -> String {
    host.inspect(name, "/State/Status").as_str().expect("a status").to_owned()
}

fn restarts(host: &Host, name: &str) -> i64 {
    host.inspect(name, "/RestartCount").as_i64().expect("a count")
}

/// Waits until it is in a pause that is long enough for what a test does in it: for sixty commands, as long as they take
/// on this machine just now, and for three seconds at least. Gives how often it has run.
fn in_a_long_pause(host: &Host, name: &str) -> usize {
    let (mut longest, mut runs) = (Duration::ZERO, 0);
    eventually("it waits long for its next start", || {
        let begun = Instant::now();
        let shown = host.inspect(name, "");
        longest = longest.max(begun.elapsed());
        runs = shown["RestartCount"].as_u64().expect("a count");
        // A tenth of a second before the second run, and twice as long each time; a minute is the longest.
        let pause = Duration::from_millis(50 << runs.min(10));
        shown["State"]["Status"] == "restarting" && runs >= 6 && pause >= (60 * longest).min(Duration::from_secs(25))
    });
    usize::try_from(runs).expect("a count")
}

/// No process of ours knows the container any more.
fn nobody_knows(id: &str) -> bool {
    fs::read_dir("/proc").expect("list").flatten().all(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        !String::from_utf8_lossy(&command).contains(id)
    })
}

#[test]
fn each_policy_does_as_it_says() {
    let Some(host) = Host::with_busybox() else { return };
    let run = |policy: &str, code: &str| host.detached(&["--restart", policy], &["sh", "-c", &format!("exit {code}")]);
    let (none, success) = (run("no", "3"), run("on-failure", "0"));
    let (twice, always, unless) = (run("on-failure:2", "3"), run("always", "0"), run("unless-stopped", "1"));
    eventually("two restarts are enough", || status(&host, &twice) == "exited");
    assert_eq!((restarts(&host, &twice), host.inspect(&twice, "/State/ExitCode")), (2, 3.into()));
    for id in [&none, &success] {
        eventually("it has ended", || status(&host, id) == "exited");
        assert_eq!(restarts(&host, id), 0);
    }
    for id in [&always, &unless] {
        eventually("it is started again and again", || restarts(&host, id) >= 3);
        host.ok(["stop", "--time", "0", id]);
        let count = restarts(&host, id);
        assert_eq!(status(&host, id), "exited");
        eventually("nobody waits to start it", || nobody_knows(id));
        assert_eq!(restarts(&host, id), count);
    }
    assert_eq!(host.inspect(&twice, "/HostConfig/RestartPolicy/MaximumRetryCount"), 2);
    // A start by hand counts anew.
    host.ok(["start", &twice]);
    eventually("it has ended once more", || status(&host, &twice) == "exited");
    assert_eq!(restarts(&host, &twice), 2);
}

#[test]
fn pauses_grow_until_it_has_run_for_a_while() {
    let Some(host) = Host::with_busybox() else { return };
    // Its seventh run is one of ten seconds.
    let line = "echo >>/runs; [ $(wc -l </runs) -ne 7 ] || sleep 10.5; exit 1";
    let id = host.detached(&["--restart", "always"], &["sh", "-c", line]);
    eventually("it is started for the ninth time", || restarts(&host, &id) >= 8);
    host.ok(["rm", "--force", &id]);
    let filter = format!("container={id}");
    let told = host.ok([
        "events",
        "--since",
        "1",
        "--until",
        "0s",
        "--filter",
        &filter,
        "--format",
        "{{.TimeNano}} {{.Action}}",
    ]);
    let of = |wanted: &str| -> Vec<u128> {
        let times = told.lines().filter_map(|line| line.split_once(' ').filter(|(_, action)| *action == wanted));
        times.map(|(time, _)| time.parse().expect("a time")).collect()
    };
    let (starts, ends) = (of("start"), of("die"));
    let pauses: Vec<u128> = starts.iter().skip(1).zip(&ends).map(|(start, end)| (start - end) / 1_000_000).collect();
    for (at, pause) in pauses.iter().take(6).enumerate() {
        assert!(*pause >= 100 << at, "{pauses:?} in ms");
    }
    assert!(pauses[6] >= 100 && pauses[6] < pauses[5], "{pauses:?} in ms");
}

#[test]
fn what_is_no_policy_is_refused() {
    let Some(host) = Host::with_busybox() else { return };
    let refused = |flags: &[&str]| {
        host.refused(125, ["run", "--network", "none"].iter().chain(flags).chain(&["busybox", "true"]).copied())
    };
    assert!(refused(&["--rm", "--restart", "always"]).contains("cannot specify both --restart and --rm"));
    assert!(refused(&["--restart", "sometimes"]).contains("invalid restart policy: unknown policy 'sometimes'"));
    assert!(refused(&["--restart", "always:3"]).contains("maximum retry count can only be used with 'on-failure'"));
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

#[test]
fn in_the_pause_before_a_restart() {
    let Some(host) = Host::with_busybox() else { return };
    let (_, mount) = hold(&host);
    let id = host.detached(&["--name", "it", "--restart", "always", "-v", &mount], &UNTIL);
    let runs = in_a_long_pause(&host, "it");
    let waits = host.dhow(["wait", "it"]).spawn();
    let follows = host.dhow(["logs", "--follow", "it"]).spawn();
    let shown = host.ok(["ps", "--format", "{{.ID}} {{.State}} {{.Status}}", "--no-trunc"]);
    assert!(shown.starts_with(&format!("{id} restarting Restarting (3) ")) && shown.ends_with(" ago"), "{shown}");
    let state = host.inspect("it", "/State");
    assert_eq!((&state["Running"], &state["Restarting"], &state["Pid"]), (&true.into(), &true.into(), &0.into()));
    assert_eq!(host.ok(["ps", "-q", "--filter", "status=restarting", "--no-trunc"]), id);
    for verb in [vec!["exec", "it", "true"], vec!["pause", "it"], vec!["top", "it"]] {
        let text = host.refused(1, verb);
        assert!(text.contains("is restarting, wait until the container is running"), "{text}");
    }
    let text = host.refused(1, ["attach", "it"]);
    assert!(text.contains("cannot attach to a restarting container"), "{text}");
    let text = host.refused(1, ["rm", "it"]);
    assert!(text.contains("container is restarting: stop the container before removing or force remove"), "{text}");
    let text = host.refused(1, ["unpause", "it"]);
    assert!(text.contains("not"), "{text}");
    // Neither a start nor a signal that ends nothing changes it.
    host.ok(["start", "it"]);
    host.ok(["kill", "--signal", "USR1", "it"]);
    host.ok(["rename", "it", "that"]);
    assert_eq!(host.ok(["logs", "that"]).lines().count(), runs);
    host.ok(["stop", "that"]);
    assert_eq!(waits.wait().stdout(), "3");
    assert_eq!(follows.wait().stdout().lines().count(), runs);
    assert_eq!((status(&host, "that").as_str(), host.inspect("that", "/State/ExitCode")), ("exited", 3.into()));
    eventually("nobody waits to start it", || nobody_knows(&id));
    assert_eq!(host.ok(["logs", "that"]).lines().count(), runs);
}

#[test]
fn kill_rm_and_restart_in_the_pause() {
    let Some(host) = Host::with_busybox() else { return };
    let (folder, mount) = hold(&host);
    let up = || host.detached(&["--name", "it", "--restart", "unless-stopped", "-v", &mount], &UNTIL);
    let id = up();
    in_a_long_pause(&host, "it");
    host.ok(["kill", "it"]);
    eventually("it has ended", || status(&host, "it") == "exited" && nobody_knows(&id));
    host.ok(["rm", "it"]);

    let id = up();
    in_a_long_pause(&host, "it");
    host.ok(["rm", "--force", "it"]);
    assert_eq!(host.ok(["ps", "-aq"]), "");
    eventually("nobody waits to start it", || nobody_knows(&id));

    up();
    in_a_long_pause(&host, "it");
    fs::write(folder.join("go"), "").expect("write");
    host.ok(["restart", "it"]);
    assert_eq!((status(&host, "it").as_str(), restarts(&host, "it")), ("running", 0));
}

#[test]
fn its_life_goes_on_after_a_restart() {
    let Some(host) = Host::with_busybox() else { return };
    let (folder, mount) = hold(&host);
    let id = host.detached(&["--restart", "on-failure", "-v", &mount, "--hostname", "again"], &UNTIL);
    eventually("it tries", || restarts(&host, &id) >= 2);
    fs::write(folder.join("go"), "").expect("write");
    eventually("it runs", || status(&host, &id) == "running" && host.run(["exec", &id, "true"]).code() == Some(0));
    let waits = host.dhow(["wait", &id]).spawn();
    assert_eq!(host.ok(["exec", &id, "hostname"]), "again");
    host.ok(["pause", &id]);
    assert_eq!(status(&host, &id), "paused");
    host.ok(["unpause", &id]);
    // A signal that only this program takes for its end is a failure like any other.
    fs::remove_file(folder.join("go")).expect("remove");
    let count = restarts(&host, &id);
    host.ok(["exec", &id, "sh", "-c", "kill -USR1 1; true"]);
    host.ok(["kill", "--signal", "SEGV", &id]);
    assert_eq!(status(&host, &id), "running", "the first process has no handler for them");
    let init = host.inspect(&id, "/State/Pid").as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL).expect("kill init");
    assert_eq!(waits.wait().stdout(), "137");
    eventually("it tries again", || restarts(&host, &id) > count);
    host.ok(["stop", &id]);
}

#[test]
fn who_is_attached_sees_one_run() {
    let Some(host) = Host::with_busybox() else { return };
    let args = ["run", "--network", "none", "--name", "it", "--restart", "on-failure:1", "busybox"];
    let output = host.run(args.iter().chain(&["sh", "-c", "echo once; exit 4"]).copied());
    assert_eq!((output.code(), output.stdout().as_str()), (Some(4), "once"), "{output}");
    eventually("it ran once more", || status(&host, "it") == "exited" && restarts(&host, "it") == 1);
    assert_eq!(host.ok(["logs", "it"]), "once\nonce");
}

#[test]
fn what_cannot_be_started() {
    let Some(host) = Host::with_busybox() else { return };
    // Not the first time: nothing is tried again.
    let args = ["run", "--detach", "--network", "none", "--name", "never", "--restart", "always", "busybox", "/none"];
    assert_eq!(host.run(args).code(), Some(127));
    assert_eq!((status(&host, "never").as_str(), restarts(&host, "never")), ("created", 0));
    let id = host.inspect("never", "/Id").as_str().expect("an id").to_owned();
    eventually("nobody waits to start it", || nobody_knows(&id));
    // Later it is a failure like any other, and counts.
    let (folder, mount) = hold(&host);
    assert_eq!(host.program("hold/program", "#!/bin/sh\nrm /hold/program; exit 5\n"), folder.join("program"));
    host.detached(&["--name", "once", "--restart", "on-failure:3", "-v", &mount], &["/hold/program"]);
    eventually("it is given up", || status(&host, "once") == "exited");
    assert_eq!((restarts(&host, "once"), host.inspect("once", "/State/ExitCode")), (3, 127.into()));
    let error = host.inspect("once", "/State/Error");
    assert!(error.as_str().is_some_and(|error| error.contains("no such file or directory")), "{error}");
}

#[test]
fn twenty_at_once() {
    let Some(host) = Host::with_busybox() else { return };
    let ids: Vec<String> = (0..20).map(|_| host.detached(&["--restart", "always"], &["sh", "-c", "exit 1"])).collect();
    for id in &ids {
        eventually("each is started again", || restarts(&host, id) >= 2);
    }
    let words: Vec<&str> = ["stop", "--time", "0"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    host.ok(words);
    for id in &ids {
        assert_eq!(status(&host, id), "exited");
        eventually("nobody waits to start it", || nobody_knows(id));
    }
    host.assert_tidy();
}

/// As if the machine had gone and come back: nothing runs, and the run directory is another boot's.
fn reboot(host: &Host) {
    for id in host.ok(["ps", "-q", "--no-trunc"]).lines() {
        let mut record = host.record(id);
        end_shim(host, id);
        eventually("it is gone with its shim", || nobody_knows(id));
        record["ended"]["boot"] = "another".into();
        host.write_record(id, &record);
    }
    fs::write(host.run_dir().join("boot"), "another\n").expect("write");
}

fn end_shim(host: &Host, name: &str) {
    nix::sys::signal::kill(host.shim(name), nix::sys::signal::Signal::SIGKILL).expect("kill the shim");
}

#[test]
fn a_boot_starts_what_should_run() {
    let Some(host) = Host::with_busybox() else { return };
    let up = |name: &str, policy: &str, more: &[&str]| {
        let flags: Vec<&str> = ["--name", name, "--restart", policy].iter().chain(more).copied().collect();
        host.detached(&flags, &["sleep", "1000"])
    };
    up("always", "always", &[]);
    // Made before the one whose network it joins is started, but not started before it.
    up("joins", "always", &["--pid", "container:always"]);
    up("stopped-always", "always", &[]);
    up("unless", "unless-stopped", &[]);
    up("stopped", "unless-stopped", &[]);
    up("failure", "on-failure", &[]);
    up("no", "no", &[]);
    host.ok(["stop", "--time", "0", "stopped-always", "stopped"]);
    host.detached(&["--name", "well", "--restart", "on-failure"], &["true"]);
    host.ok(["wait", "well"]);
    host.ok(["create", "--network", "none", "--name", "made", "--restart", "always", "busybox", "sleep", "1000"]);
    reboot(&host);
    assert_eq!(host.ok(["ps", "-q"]), "", "a command that looks starts nothing");
    assert_eq!(host.inspect("always", "/State/ExitCode"), 255);
    // Any number of them at once.
    let boots: Vec<_> = (0..4).map(|_| host.dhow(["boot"]).spawn()).collect();
    let texts: Vec<String> = boots.into_iter().map(|boot| boot.wait().ok()).collect();
    let mut started: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
    started.sort_unstable();
    assert_eq!(started, ["always", "failure", "joins", "stopped-always", "unless"]);
    for name in started {
        assert_eq!((status(&host, name).as_str(), restarts(&host, name)), ("running", 0), "{name}");
    }
    assert_eq!(host.ok(["boot"]), "");
    for (name, as_before) in [("stopped", "exited"), ("no", "exited"), ("well", "exited"), ("made", "created")] {
        assert_eq!(status(&host, name), as_before, "{name}");
    }
}

#[test]
fn a_daemon_starts_again_what_a_killed_shim_took_along() {
    let Some(host) = Host::with_busybox() else { return };
    // It has a daemon of its own.
    if host.has_daemon() {
        return;
    }
    let before = host.detached(&["--restart", "always"], &["sleep", "1000"]);
    let stopped = host.detached(&["--restart", "unless-stopped"], &["sleep", "1000"]);
    host.ok(["stop", "--time", "0", &stopped]);
    end_shim(&host, &before);
    eventually("it is gone", || nobody_knows(&before));
    // A process that ends has no words any more a moment before it gives back its locks.
    eventually("its end is seen", || status(&host, &before) == "exited");
    assert_eq!(host.inspect(&before, "/State/ExitCode"), 137);
    let socket = format!("unix://{}", host.dir().join("sock").display());
    let daemon = host.dhow(["daemon", "-H", &socket, "-G", "root"]).spawn();
    eventually("the daemon's start starts it", || status(&host, &before) == "running");
    let first = host.inspect(&before, "/State/Pid");
    end_shim(&host, &before);
    eventually("the daemon starts it", || {
        let state = host.inspect(&before, "/State");
        state["Status"] == "running" && state["Pid"] != first
    });
    assert_eq!(status(&host, &stopped), "exited");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let output = daemon.wait();
    assert_eq!(output.code(), Some(0), "{output}");
    assert_eq!(status(&host, &before), "running", "it goes on without the daemon");
}
