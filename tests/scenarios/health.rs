//! Health checks, run by the shim with no daemon: what `inspect`, `ps` and the events say, what hangs is ended whole,
//! and what follows from bad health.

use crate::fixture::{Host, eventually};
use std::fs;

/// Healthy while there is a file `/well`.
const OFTEN: [&str; 6] =
    ["--health-interval", "50ms", "--health-retries", "2", "--health-cmd", "echo asked; test -e /well"];

fn health(host: &Host, name: &str) -> String {
    host.inspect(name, "/State/Health/Status").as_str().expect("a status").to_owned()
}

fn up(host: &Host, flags: &[&str], command: &[&str]) -> String {
    let flags: Vec<&str> = flags.iter().chain(&OFTEN).copied().collect();
    host.detached(&flags, command)
}

fn events(host: &Host, name: &str) -> String {
    let filter = format!("container={name}");
    host.ok(["events", "--since", "1", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"])
}

#[test]
fn it_comes_and_goes() {
    let Some(host) = Host::with_busybox() else { return };
    let id = up(
        &host,
        &["--name", "it", "--health-start-period", "1h", "--health-start-interval", "50ms"],
        &["sleep", "1000"],
    );
    eventually("it is asked", || host.inspect("it", "/State/Health/Log").as_array().is_some_and(|log| log.len() == 5));
    assert_eq!(
        (health(&host, "it").as_str(), host.inspect("it", "/State/Health/FailingStreak")),
        ("starting", 0.into())
    );
    let last = host.inspect("it", "/State/Health/Log/4");
    assert_eq!((&last["ExitCode"], &last["Output"]), (&1.into(), &"asked\n".into()));
    assert!(last["Start"].as_str() <= last["End"].as_str(), "{last}");
    assert!(host.ok(["ps"]).contains("(health: starting)"));
    host.ok(["exec", "it", "touch", "/well"]);
    let mut told = String::new();
    eventually("it is healthy, and that is told", || {
        told = events(&host, "it");
        told.contains("health_status: healthy")
    });
    assert_eq!(health(&host, "it"), "healthy");
    assert!(host.ok(["ps"]).contains(" (healthy)"));
    assert_eq!(host.ok(["ps", "-q", "--no-trunc", "--filter", "health=healthy"]), id);
    assert_eq!(host.ok(["ps", "-q", "--filter", "health=unhealthy"]), "");
    host.ok(["exec", "it", "rm", "/well"]);
    eventually("it is unhealthy", || health(&host, "it") == "unhealthy");
    assert!(host.inspect("it", "/State/Health/FailingStreak").as_i64() >= Some(2));
    // Of what has happened the last is told, and of probes there are many.
    let told = told + &events(&host, "it");
    for action in ["health_status: healthy", "health_status: unhealthy", "exec_die"] {
        assert!(told.lines().any(|line| line == action), "{action} is not in {told}");
    }
    assert!(told.contains("exec_create: /bin/sh -c echo asked; test -e /well"), "{told}");
    assert!(told.contains("exec_start: /bin/sh -c echo asked; test -e /well"), "{told}");
    assert_eq!(host.inspect("it", "/State/Status"), "running", "nothing follows from it");
    host.ok(["stop", "--time", "0", "it"]);
    assert_eq!(health(&host, "it"), "unhealthy");
    // A start begins anew.
    host.ok(["start", "it"]);
    eventually("it is asked again", || health(&host, "it") == "starting");
}

#[test]
fn a_start_has_an_interval_of_its_own() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = |interval, start| {
        let period = ["--health-start-period", "1h", "--health-cmd", "test -e /well"];
        [&["--health-interval", interval, "--health-start-interval", start][..], &period].concat()
    };
    let begins = host.detached(&flags("1h", "50ms"), &["sleep", "1000"]);
    let waits = host.detached(&flags("50ms", "1h"), &["sleep", "1000"]);
    let log = |id: &str| host.inspect(id, "/State/Health/Log");
    let asked = |id: &str| log(id).as_array().map_or(0, Vec::len);
    eventually("it is asked often", || asked(&begins) == 5);
    host.ok(["exec", &begins, "touch", "/well"]);
    eventually("it has begun", || health(&host, &begins) == "healthy");
    let before = log(&begins);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(log(&begins), before, "the other interval is an hour");
    assert_eq!(asked(&waits), 0, "the interval of its start is an hour");
}

#[test]
fn not_at_all_and_what_makes_no_sense() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&["--no-healthcheck"], &["sleep", "1000"]);
    assert_eq!(host.inspect(&id, "/State").get("Health"), None);
    assert_eq!(host.ok(["ps", "-q", "--no-trunc", "--filter", "health=none"]), id);
    let refused = |flags: &[&str]| {
        host.refused(125, ["run", "--network", "none"].iter().chain(flags).chain(&["busybox", "true"]).copied())
    };
    assert!(refused(&["--no-healthcheck", "--health-cmd", "true"]).contains("conflicts with --health-* options"));
    assert!(refused(&["--health-cmd", "true", "--health-interval", "1us"]).contains("cannot be less than 1ms"));
    assert!(refused(&["--on-unhealthy", "explode"]).contains("none of restart, stop, none"));
    assert!(refused(&["--rm", "--on-unhealthy", "restart"]).contains("AutoRemove"));
}

#[test]
fn what_hangs_is_ended_with_all_that_it_started() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = ["--health-interval", "50ms", "--health-timeout", "200ms", "--health-retries", "1"];
    let flags: Vec<&str> =
        flags.iter().chain(&["--health-cmd", "echo begun; sleep 1234 & sleep 1235"]).copied().collect();
    let id = host.detached(&flags, &["sleep", "1000"]);
    eventually("it is unhealthy", || health(&host, &id) == "unhealthy");
    // What it has said until then is told, if it has come to that.
    eventually("one that has begun is ended", || {
        let log = host.inspect(&id, "/State/Health/Log");
        log.as_array().expect("a log").iter().any(|entry| {
            let output = entry["Output"].as_str().expect("text");
            assert!(output.starts_with("Health check exceeded timeout (200ms)"), "{output}");
            assert_eq!(entry["ExitCode"], -1);
            output.starts_with("Health check exceeded timeout (200ms): begun")
        })
    });
    for _ in 0..20 {
        let shown = host.run(["top", &id]).stdout();
        // The shell's own line names both commands, and ends with the other one.
        let sleeping = shown.lines().filter(|line| line.trim_end().ends_with("sleep 1234")).count();
        assert!(sleeping <= 1, "they pile up: {shown}");
    }
    host.ok(["kill", &id]);
    eventually("it has ended", || host.inspect(&id, "/State/Status") == "exited");
}

#[test]
fn what_it_says_is_kept_as_far_as_there_is_room() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&["--health-interval", "50ms", "--health-cmd", "yes | head -c 100000"], &["sleep", "1000"]);
    eventually("it is healthy", || health(&host, &id) == "healthy");
    let output = host.inspect(&id, "/State/Health/Log/0/Output");
    let output = output.as_str().expect("text");
    assert!(output.len() == 4096 + 3 && output.ends_with("y\n..."), "{} bytes", output.len());
}

#[test]
fn nothing_is_asked_of_what_is_paused() {
    let Some(host) = Host::with_busybox() else { return };
    let id = up(&host, &[], &["sh", "-c", "touch /well; exec sleep 1000"]);
    eventually("it is healthy", || health(&host, &id) == "healthy");
    host.ok(["pause", &id]);
    let ends = || host.inspect(&id, "/State/Health/Log");
    // One that was under way is given up; no other follows.
    eventually("it is left alone", || {
        let before = ends();
        std::thread::sleep(std::time::Duration::from_secs(1));
        ends() == before
    });
    let before = ends();
    host.ok(["unpause", &id]);
    eventually("it is asked again", || ends() != before);
    eventually("it is healthy", || health(&host, &id) == "healthy");
}

#[test]
fn bad_health_restarts_it_or_stops_it() {
    let Some(host) = Host::with_busybox() else { return };
    let command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.02; done"];
    let id = up(&host, &["--on-unhealthy", "restart"], &command);
    assert_eq!(host.inspect(&id, "/HostConfig/OnUnhealthy"), "restart");
    eventually("it is started again", || host.inspect(&id, "/RestartCount").as_i64() >= Some(2));
    host.ok(["stop", &id]);
    assert_eq!(host.inspect(&id, "/State/Status"), "exited");
    // Under a count of its own: what the policy allows is still there.
    let id = up(&host, &["--annotation", "dhow.on-unhealthy=restart", "--restart", "on-failure:1"], &command);
    eventually("it is started again", || host.inspect(&id, "/RestartCount").as_i64() >= Some(2));
    host.ok(["rm", "--force", &id]);
    let id = up(&host, &["--on-unhealthy", "stop", "--restart", "always"], &command);
    eventually("it is stopped", || host.inspect(&id, "/State/Status") == "exited");
    assert_eq!(host.inspect(&id, "/RestartCount"), 0);
}

#[test]
fn it_is_asked_after_a_restart() {
    let Some(host) = Host::with_busybox() else { return };
    let folder = host.dir().join("hold");
    fs::create_dir(&folder).expect("make a folder");
    let mount = format!("{}:/hold", folder.display());
    let command = ["sh", "-c", "test -e /hold/go && touch /well && exec sleep 1000; exit 3"];
    let id = up(&host, &["--restart", "always", "-v", &mount], &command);
    eventually("it tries", || host.inspect(&id, "/RestartCount").as_i64() >= Some(2));
    fs::write(folder.join("go"), "").expect("write");
    eventually("it runs and is healthy", || {
        host.inspect(&id, "/State/Status") == "running" && health(&host, &id) == "healthy"
    });
}
