//! A container's life in verbs: create, start, stop, kill, restart, pause, wait, rename, top, rm, prune, and what `ps`
//! says in between.

use crate::fixture::{Host, eventually};
use std::fs;

const STAY: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"];

fn status(host: &Host, name: &str) -> String {
    host.inspect(name, "/State/Status").as_str().expect("a status").to_owned()
}

#[test]
fn from_create_to_rm() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.ok(["create", "--network", "none", "--name", "one", "busybox", STAY[0], STAY[1], STAY[2]]);
    assert_eq!(id.len(), 64);
    assert_eq!(status(&host, "one"), "created");
    assert_eq!(host.ok(["ps", "--quiet"]), "");
    assert_eq!(host.ok(["start", "one"]), "one");
    assert_eq!(status(&host, "one"), "running");
    assert_eq!(host.ok(["ps", "--quiet", "--no-trunc"]), id);
    eventually("it is up", || host.ok(["logs", "one"]) == "up");

    assert_eq!(host.ok(["pause", "one"]), "one");
    assert_eq!(status(&host, "one"), "paused");
    let text = host.refused(1, ["pause", "one"]);
    assert!(text.contains("already paused"), "{text}");
    assert_eq!(host.ok(["unpause", "one"]), "one");
    assert_eq!(status(&host, "one"), "running");

    let before = host.inspect("one", "/State/Pid");
    assert_eq!(host.ok(["restart", "one"]), "one");
    assert_ne!(host.inspect("one", "/State/Pid"), before);
    assert_eq!(status(&host, "one"), "running");

    let text = host.refused(1, ["rm", "one"]);
    assert!(text.contains("stop the container before removing or force remove"), "{text}");
    assert_eq!(host.ok(["stop", "one"]), "one");
    assert_eq!(status(&host, "one"), "exited");
    assert_eq!(host.inspect("one", "/State/Pid"), 0);
    assert_eq!(host.ok(["rm", "one"]), "one");
    let text = host.refused(1, ["inspect", "one"]);
    assert!(text.contains("one"), "{text}");
}

#[test]
fn what_is_paused_gets_the_signal_that_shall_end_it() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done";
    let id = host.detached(&[], &["sh", "-c", line]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    host.ok(["pause", &id]);
    host.ok(["kill", "--signal", "WINCH", &id]);
    assert_eq!(status(&host, &id), "paused");
    host.ok(["kill", "--signal", "TERM", &id]);
    host.ok(["wait", &id]);
    assert_eq!(host.inspect(&id, "/State/ExitCode"), 5);
    host.ok(["rm", &id]);
}

#[test]
fn a_restart_in_every_circumstance() {
    let Some(host) = Host::with_busybox() else { return };
    let folder = host.dir().join("hold");
    fs::create_dir_all(&folder).expect("make a folder");
    let mount = format!("{}:/hold", folder.display());
    let state = |name: &str, key: &str| host.inspect(name, &format!("/State/{key}"));
    // One that goes when it ends stays for a restart, with what it wrote; whoever waits for its removal goes on waiting.
    let removed = host.busybox(&["--name", "brief"], &["sh", "-c", "echo x >>/count; exec sleep 1000"]).spawn();
    eventually("it runs", || host.run(["exec", "brief", "cat", "/count"]).stdout() == "x");
    let ended = host.dhow(["wait", "brief"]).spawn();
    for times in 2..4 {
        host.ok(["restart", "--time", "0", "brief"]);
        eventually("it runs", || host.run(["exec", "brief", "cat", "/count"]).stdout().lines().count() == times);
    }
    // Who comes to wait after the last of them waits for one more.
    let mut ended = ended;
    eventually("a restart ends it", || {
        ended.has_ended() || {
            host.ok(["restart", "--time", "0", "brief"]);
            false
        }
    });
    assert_eq!(ended.wait().stdout(), "137");
    host.ok(["stop", "--time", "0", "brief"]);
    assert_eq!(removed.wait().code(), Some(137));
    assert_eq!(host.ok(["ps", "--all", "--quiet"]), "");
    // One that does not start any more has ended, and says why.
    let copy = "cp /bin/busybox /hold/sleep";
    host.sh(&["-v", &mount], copy);
    for (name, more) in [("lasting", &["--restart", "always"][..]), ("brief", &["--rm"])] {
        host.detached(&[&["--name", name, "-v", &mount], more].concat(), &["/hold/sleep", "1000"]);
    }
    fs::remove_file(folder.join("sleep")).expect("remove");
    for name in ["lasting", "brief"] {
        let said = host.refused(1, ["restart", "--time", "0", name]);
        assert!(said.contains("no such file or directory"), "{said}");
    }
    assert_eq!(host.ok(["ps", "--all", "--format", "{{.Names}}"]), "lasting");
    let told = ["Status", "ExitCode", "Pid"].map(|key| state("lasting", key));
    assert_eq!(told, serde_json::json!(["exited", 127, 0]).as_array().expect("three")[..]);
    host.sh(&["-v", &mount], copy);
    host.ok(["restart", "lasting"]);
    assert_eq!(state("lasting", "Running"), true);
    // The last word holds for who says it, as with Docker: what is stopped meanwhile is started after that.
    host.detached(&["--name", "deaf"], &["sh", "-c", "trap '' TERM; touch /deaf; while :; do sleep 0.1; done"]);
    eventually("it hears nothing", || host.run(["exec", "deaf", "ls", "/deaf"]).code() == Some(0));
    let before = state("deaf", "Pid");
    let restart = host.dhow(["restart", "--time", "1000", "deaf"]).spawn();
    eventually("it has been told", || {
        host.ok(["events", "--since", "0", "--until", "0s", "-f", "event=kill", "-f", "container=deaf"]).lines().count()
            == 1
    });
    host.ok(["stop", "--time", "0", "deaf"]);
    restart.wait().ok();
    assert_ne!(state("deaf", "Pid"), before);
    assert_eq!(state("deaf", "Running"), true);
    // Many at once all come to an end, and it runs.
    let all: Vec<_> = (0..4).map(|_| host.dhow(["restart", "--time", "0", "deaf"]).spawn()).collect();
    for one in all {
        one.wait().ok();
    }
    assert_eq!(state("deaf", "Running"), true);
    host.ok(["rm", "--force", "deaf", "lasting"]);
}

#[test]
fn who_is_killed_has_ended() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    for _ in 0..20 {
        host.ok(["kill", &id]);
        assert_eq!(host.inspect(&id, "/State/Status"), "exited");
        host.ok(["start", &id]);
    }
    host.ok(["kill", "--signal", "CONT", &id]);
    assert_eq!(host.inspect(&id, "/State/Status"), "running");
    host.ok(["rm", "--force", &id]);
}

#[test]
fn stop_waits_and_then_kills() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    host.ok(["stop", "--time", "0", &id]);
    assert_eq!(host.inspect(&id, "/State/ExitCode"), 137);
    let id = host.detached(
        &["--stop-signal", "USR1"],
        &["sh", "-c", "trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done"],
    );
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    host.ok(["stop", "--time", "100", &id]);
    assert_eq!(host.inspect(&id, "/State/ExitCode"), 9);
    // Stopping what is stopped changes nothing and is no error.
    assert_eq!(host.ok(["stop", &id]), id);
}

#[test]
fn start_attached_gives_output_and_code() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "again", "busybox", "sh", "-c", "echo hello; exit 4"]);
    // At once after the last end, when that run's shim may not have gone yet.
    for _ in 0..20 {
        let output = host.run(["start", "--attach", "again"]);
        assert_eq!((output.code(), output.stdout().as_str()), (Some(4), "hello"), "{output}");
    }
    assert_eq!(host.ok(["logs", "again"]), ["hello"; 20].join("\n"));
}

#[test]
fn what_it_wrote_stays_until_rm() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["create", "--network", "none", "--name", "kept", "busybox", "sh", "-c", "echo x >>/file; wc -l </file"]);
    assert_eq!(host.ok(["start", "-a", "kept"]), "1");
    assert_eq!(host.ok(["start", "-a", "kept"]), "2");
    assert_eq!(host.sh(&[], "ls /file 2>&1 || true"), "ls: /file: No such file or directory");
}

#[test]
fn wait_gives_the_code_of_each() {
    let Some(host) = Host::with_busybox() else { return };
    let one = host.detached(&[], &["sh", "-c", "exit 5"]);
    let two = host.detached(&[], &["sleep", "1000"]);
    let waiting = host.dhow(["wait", &one, &two]).spawn();
    host.ok(["kill", &two]);
    let output = waiting.wait();
    assert_eq!(output.stdout(), "5\n137", "{output}");
}

#[test]
fn names_are_one_each() {
    let Some(host) = Host::with_busybox() else { return };
    let one = host.detached(&["--name", "one"], &["sleep", "1000"]);
    let text = host.refused(125, ["run", "--network", "none", "--name", "one", "busybox", "true"]);
    assert!(
        text.contains("The container name \"/one\" is already in use by container") && text.contains(&one),
        "{text}"
    );
    host.ok(["rename", "one", "two"]);
    assert_eq!(host.inspect("two", "/Id"), one);
    assert_eq!(host.inspect("two", "/Name"), "/two");
    host.refused(1, ["inspect", "one"]);
    let three = host.detached(&["--name", "one"], &["sleep", "1000"]);
    let text = host.refused(1, ["rename", "two", "one"]);
    assert!(text.contains("already in use"), "{text}");
    assert_ne!(one, three);
    // An id's beginning names it as long as it names one only.
    assert_eq!(host.inspect(&one[..12], "/Name"), "/two");
    let text = host.refused(1, ["create", "--name", "no/slash", "busybox"]);
    assert!(text.contains("no/slash"), "{text}");
    let made = host.detached(&[], &["sleep", "1000"]);
    let name = host.inspect(&made, "/Name");
    let name = name.as_str().expect("a name");
    assert!(name.trim_start_matches('/').split('_').count() == 2, "{name}");
}

#[test]
fn ps_shows_what_is() {
    let Some(host) = Host::with_busybox() else { return };
    host.detached(&["--name", "runs", "--label", "kind=a"], &["sleep", "1000"]);
    host.detached(&["--name", "ended", "--label", "kind=b"], &["sh", "-c", "exit 3"]);
    host.ok(["wait", "ended"]);
    let shown = host.ok(["ps", "--all"]);
    let head: Vec<&str> = shown.lines().next().expect("a head").split("  ").filter(|w| !w.is_empty()).collect();
    assert_eq!(
        head.iter().map(|w| w.trim()).collect::<Vec<_>>(),
        ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    );
    assert!(shown.contains("Exited (3) ") && shown.contains("Up ") && shown.contains("\"sleep 1000\""), "{shown}");
    let names = |args: &[&str]| {
        let all = host.ok(["ps", "--format", "{{.Names}}"].iter().chain(args).copied());
        let mut all: Vec<String> = all.lines().map(str::to_owned).collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(names(&[]), "runs");
    assert_eq!(names(&["-a"]), "ended runs");
    assert_eq!(names(&["-a", "--filter", "status=exited"]), "ended");
    assert_eq!(names(&["-a", "--filter", "exited=3"]), "ended");
    assert_eq!(names(&["-a", "--filter", "label=kind"]), "ended runs");
    assert_eq!(names(&["-a", "--filter", "label=kind=a"]), "runs");
    assert_eq!(names(&["-a", "--filter", "name=^/ru"]), "runs");
    assert_eq!(names(&["-a", "--filter", "ancestor=busybox"]), "ended runs");
    assert_eq!(names(&["-l"]), "ended");
    let text = host.refused(1, ["ps", "--filter", "colour=red"]);
    assert!(text.contains("colour"), "{text}");
    let text = host.refused(1, ["ps", "--format", "{{.Names | frobnicate}}"]);
    assert!(text.contains("frobnicate"), "{text}");
    assert_eq!(
        host.ok(["inspect", "--format", "{{.State.Status}} {{json .Config.Labels}}", "runs"]),
        "running {\"kind\":\"a\"}"
    );
}

#[test]
fn top_shows_the_processes_inside() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sh", "-c", "sleep 1234 & sleep 1235; true"]);
    eventually("both run", || host.ok(["top", &id]).matches("sleep 123").count() >= 2);
    let shown = host.ok(["top", &id]);
    assert!(shown.lines().next().is_some_and(|head| head.contains("PID") && head.contains("CMD")), "{shown}");
}

#[test]
fn several_at_once_and_the_rest_goes_on() {
    let Some(host) = Host::with_busybox() else { return };
    let ids: Vec<String> = (0..3).map(|_| host.detached(&[], &["sleep", "1000"])).collect();
    let output = host.run(["stop", "--time", "0", &ids[0], "no-such", &ids[1]]);
    assert_eq!(output.code(), Some(1), "{output}");
    assert_eq!(output.stdout(), format!("{}\n{}", ids[0], ids[1]));
    assert!(output.stderr().contains("No such container: no-such"), "{output}");
    let output = host.run(["rm", "--force", &ids[0], "no-such", &ids[1]]);
    assert_eq!(output.code(), Some(0), "what is not there need not be removed: {output}");
    assert_eq!(output.stdout(), format!("{}\n{}", ids[0], ids[1]));
    assert!(output.stderr().contains("No such container: no-such"), "but it is told: {output}");
    assert_eq!(host.refused(1, ["rm", "no-such"]), "dhow: No such container: no-such");
    assert_eq!(host.ok(["ps", "-q", "--no-trunc"]), ids[2]);
}

#[test]
fn prune_takes_what_is_stopped() {
    let Some(host) = Host::with_busybox() else { return };
    let runs = host.detached(&[], &["sleep", "1000"]);
    let ended = host.detached(&[], &["true"]);
    host.ok(["wait", &ended]);
    host.ok(["create", "--network", "none", "busybox", "true"]);
    let shown = host.ok(["container", "prune", "--force"]);
    assert!(shown.contains(&ended) && !shown.contains(&runs), "{shown}");
    assert_eq!(host.ok(["ps", "-aq", "--no-trunc"]), runs);
}

#[test]
fn another_boot_means_that_nothing_runs() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    host.ok(["kill", &id]);
    host.ok(["wait", &id]);
    // As if the machine had gone while it ran: the run directory says another boot, no end is on record.
    let mut record = host.record(&id);
    record["ended"]["boot"] = "another".into();
    host.write_record(&id, &record);
    std::fs::write(host.run_dir().join("boot"), "another\n").expect("write");
    assert_eq!(status(&host, &id), "exited");
    assert_eq!(host.inspect(&id, "/State/ExitCode"), 255);
    assert_eq!(host.ok(["start", &id]), id);
    assert_eq!(status(&host, &id), "running");
}
