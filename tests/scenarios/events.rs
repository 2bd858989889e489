//! What happened is told, in order, to whoever asks and whoever follows.

use crate::fixture::{Host, eventually};
use serde_json::Value;

/// Everything that has happened so far.
fn past(host: &Host, filters: &[&str]) -> Vec<Value> {
    let mut args = vec!["events", "--since", "0", "--until", "0s", "--format", "json"];
    for filter in filters {
        args.extend(["--filter", filter]);
    }
    let text = host.ok(args);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn actions(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    events.iter().map(|event| format!("{} {}", text(event, "Type"), text(event, "Action"))).collect()
}

#[test]
fn a_life_in_its_order() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["volume", "create", "hold"]);
    let id = host.detached(
        &["--name", "web", "--label", "a=b", "--volume", "hold:/data:ro", "--stop-signal", "INT"],
        &["sh", "-c", "trap 'exit 3' INT; echo up; while :; do sleep 0.01; done"],
    );
    eventually("it is up", || host.ok(["logs", "web"]) == "up");
    host.ok(["exec", "web", "true"]);
    host.ok(["rename", "web", "net"]);
    host.ok(["stop", "net"]);
    host.ok(["rm", "net"]);
    host.ok(["volume", "rm", "hold"]);
    let events = past(&host, &[]);
    assert_eq!(
        actions(&events),
        [
            "image tag",
            "image import",
            "volume create",
            "container create",
            "volume mount",
            "network connect",
            "container start",
            "container exec_create: true ",
            "container exec_start: true ",
            "container exec_die",
            "container rename",
            "container kill",
            "network disconnect",
            "volume unmount",
            "container die",
            "container stop",
            "container destroy",
            "volume destroy",
        ]
    );
    let times: Vec<i64> = events.iter().filter_map(|event| event["timeNano"].as_i64()).collect();
    assert!(times.is_sorted() && times.len() == events.len(), "{times:?}");
    let find = |action: &str| events.iter().find(|event| event["Action"] == action).expect(action);
    let attributes = |action: &str| find(action)["Actor"]["Attributes"].to_string();
    let die = find("die");
    assert_eq!(die["status"], "die");
    assert_eq!(die["id"], id);
    assert_eq!(die["from"], "busybox");
    assert_eq!(die["Actor"]["ID"], id);
    assert_eq!(die["scope"], "local");
    let ran = die["Actor"]["Attributes"]["execDuration"].as_str().expect("seconds");
    assert!(ran.parse::<u64>().is_ok_and(|seconds| seconds < 120), "{ran}");
    let expected = format!(r#"{{"a":"b","execDuration":"{ran}","exitCode":"3","image":"busybox","name":"net"}}"#);
    assert_eq!(attributes("die"), expected);
    assert_eq!(attributes("kill"), r#"{"a":"b","image":"busybox","name":"net","signal":"2"}"#);
    assert_eq!(attributes("rename"), r#"{"a":"b","image":"busybox","name":"net","oldName":"/web"}"#);
    assert_eq!(find("exec_die")["Actor"]["Attributes"]["exitCode"], "0");
    assert_eq!(
        attributes("mount"),
        format!(
            r#"{{"container":"{id}","destination":"/data","driver":"local","propagation":"","read/write":"false"}}"#
        )
    );
    assert_eq!(attributes("unmount"), format!(r#"{{"container":"{id}","driver":"local"}}"#));
    assert_eq!(attributes("connect"), format!(r#"{{"container":"{id}","name":"none","type":"null"}}"#));
    assert!(find("mount").get("status").is_none(), "only containers and images have the old fields");
    let connected = find("connect")["Actor"]["ID"].as_str().map(str::to_owned);
    assert_eq!(connected, Some(host.ok(["network", "ls", "-q", "--no-trunc", "-f", "name=none"])));

    assert_eq!(actions(&past(&host, &["event=die", "type=container"])), ["container die"]);
    assert_eq!(actions(&past(&host, &["volume=hol", "event=destroy"])), ["volume destroy"]);
    assert_eq!(past(&host, &["container=net", "event=exec_create"]).len(), 0, "it was web then");
    assert_eq!(past(&host, &[&format!("container={}", &id[..12]), "label=a=b"]).len(), 10);
    // To a template they are there, and empty.
    let format = "{{.ID}}|{{.Status}}|{{.From}}|{{.Action}}";
    let lines = host.ok(["events", "--since", "0", "--until", "0s", "-f", "event=connect", "--format", format]);
    assert_eq!(lines, "|||connect");
    let line = host.ok(["events", "--since", "0", "--until", "0s", "-f", "event=stop"]);
    assert!(line.ends_with(&format!("Z container stop {id} (a=b, image=busybox, name=net)")), "{line}");
}

/// Each in the words of dockerd, and once.
#[test]
fn every_verb_has_its_word() {
    let Some(host) = Host::with_busybox() else { return };
    let file = host.file("cargo", "rice");
    let tar = host.dir().join("saved.tar");
    let (file, tar) = (file.to_str().expect("UTF-8"), tar.to_str().expect("UTF-8"));
    // Once after each start and no more: what is told is the last of all that has happened.
    let health = ["--health-cmd", "true", "--health-interval", "1h", "--health-start-period", "2h"];
    let health = [&health[..], &["--health-start-interval", "100ms", "--health-retries", "1"]].concat();
    let id = host.detached(&[&["--name", "web", "--tty"], &health[..]].concat(), &["sleep", "1000"]);
    eventually("it is healthy", || host.inspect("web", "/State/Health/Status") == "healthy");
    let mut seen = past(&host, &[]).len();
    let mut news = || {
        let probes = |event: &Value| event["Action"].as_str().is_some_and(|action| action.starts_with("exec_"));
        let all = past(&host, &[]);
        let new: Vec<Value> = all[seen..].iter().filter(|event| !probes(event)).cloned().collect();
        seen = all.len();
        new
    };
    news();
    let table: &[(&[&str], &[&str])] = &[
        (&["pause", "web"], &["container pause"]),
        (&["unpause", "web"], &["container unpause"]),
        (&["top", "web"], &["container top"]),
        (&["update", "--restart", "on-failure", "web"], &["container update"]),
        (&["cp", file, "web:/tmp/cargo"], &["container extract-to-dir"]),
        (&["cp", "web:/tmp/cargo", "-"], &["container archive-path"]),
        (&["export", "web"], &["container export"]),
        // It goes on before the image is there, not after that, as with Docker.
        (
            &["commit", "web", "fleet/web"],
            &["container pause", "container unpause", "image create", "image tag", "container commit"],
        ),
        (&["save", "-o", tar, "fleet/web"], &["image save"]),
        (&["load", "-i", tar], &["image load"]),
        (&["rmi", "fleet/web"], &["image untag", "image delete"]),
        (&["kill", "--signal", "USR1", "web"], &["container kill"]),
        // It is deaf to the first.
        (
            &["restart", "--time", "0", "web"],
            &[
                "container kill",
                "container kill",
                "network disconnect",
                "container die",
                "container stop",
                "network connect",
                "container start",
                "container restart",
            ],
        ),
        (&["rm", "--force", "web"], &["container kill", "network disconnect", "container die", "container destroy"]),
        (&["network", "prune", "--force"], &["network prune"]),
        (&["volume", "create", "hold"], &["volume create"]),
        (&["volume", "prune", "--force", "--all"], &["volume destroy", "volume prune"]),
        (&["container", "prune", "--force"], &["container prune"]),
        (&["image", "prune", "--force"], &["image prune"]),
    ];
    let mut all = Vec::new();
    for (line, expected) in table {
        host.ok(line.iter().copied());
        let new = news();
        let words = |events: &[Value]| -> Vec<String> {
            actions(events).into_iter().filter(|word| !word.starts_with("container health_status")).collect()
        };
        assert_eq!(words(&new), *expected, "{line:?}");
        all.extend(new);
    }
    for event in all.iter().filter(|event| event["Type"] == "container" && event["Action"] != "prune") {
        assert_eq!((event["Actor"]["ID"].as_str(), event["id"].as_str()), (Some(id.as_str()), Some(id.as_str())));
        assert_eq!(event["Actor"]["Attributes"]["name"], "web");
    }
    let of = |action: &str| all.iter().find(|event| event["Action"] == action).expect(action);
    assert_eq!(of("commit")["Actor"]["Attributes"]["imageRef"], "fleet/web:latest");
    assert_eq!(of("commit")["Actor"]["Attributes"]["imageID"], of("create")["Actor"]["ID"]);
    assert_eq!(of("kill")["Actor"]["Attributes"]["signal"], "10");
    for prune in all.iter().filter(|event| event["Action"] == "prune") {
        assert_eq!(prune["Actor"]["ID"], "");
        assert!(prune["Actor"]["Attributes"]["reclaimed"].is_string(), "{prune}");
    }
    let health = past(&host, &["event=health_status"]);
    assert!(actions(&health).contains(&"container health_status: healthy".to_owned()), "{health:?}");
}

/// Whoever reads of a stop reads how it went: the signal that was asked for, and the one that it took.
#[test]
fn a_stop_that_takes_force_says_so() {
    let Some(host) = Host::with_busybox() else { return };
    let kills = |name: &str| -> Vec<String> {
        let kills = past(&host, &[&format!("container={name}"), "event=kill", "event=die", "event=stop"]);
        let text = |kill: &Value| {
            let signal = kill["Actor"]["Attributes"]["signal"].as_str().unwrap_or_default();
            format!("{} {signal}", kill["Action"].as_str().unwrap_or_default())
        };
        kills.iter().map(text).collect()
    };
    host.detached(&["--name", "deaf", "--stop-signal", "QUIT"], &["sleep", "1000"]);
    host.ok(["stop", "--time", "0", "deaf"]);
    assert_eq!(kills("deaf"), ["kill 3", "kill 9", "die ", "stop "]);
    // After its first second, when its shim is a process of its own.
    host.ok(["start", "deaf"]);
    host.ok(["stop", "--time", "2", "deaf"]);
    assert_eq!(kills("deaf")[4..], ["kill 3", "kill 9", "die ", "stop "]);
    host.detached(&["--name", "good"], &["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"]);
    eventually("it is up", || host.ok(["logs", "good"]) == "up");
    host.ok(["stop", "--time", "100", "good"]);
    assert_eq!(kills("good"), ["kill 15", "die ", "stop "]);
}

#[test]
fn images_come_and_go() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["tag", "busybox", "fleet/boat:1"]);
    host.ok(["rmi", "fleet/boat:1"]);
    let id = host.ok(["images", "-q", "--no-trunc", "busybox"]);
    host.ok(["rmi", "busybox"]);
    let events = past(&host, &["type=image"]);
    assert_eq!(actions(&events)[2..], ["image tag", "image untag", "image untag", "image delete"]);
    assert_eq!(events[2]["Actor"]["Attributes"]["name"], "fleet/boat:1");
    for event in &events[2..] {
        assert_eq!(event["Actor"]["ID"].as_str(), Some(id.as_str()), "{event}");
    }
}

#[test]
fn a_follower_sees_what_other_commands_do() {
    let Some(host) = Host::with_busybox() else { return };
    let stream = host.dir().join("stream");
    let mut command =
        host.dhow(["events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}"]);
    command.inner().stdin(std::process::Stdio::null());
    command.inner().stdout(std::fs::File::create(&stream).expect("make a file"));
    let mut follower = command.inner().spawn().expect("start events");
    let seen = || std::fs::read_to_string(&stream).unwrap_or_default();
    // It says nothing of when it listens: it does when it sees the first of these.
    eventually("the follower sees a container", || {
        host.ok(["create", "--name", "first", "busybox"]);
        host.ok(["rm", "first"]);
        seen().contains("create first")
    });
    host.sh(&["--name", "second"], "exit 0");
    eventually("the follower sees the end of another", || seen().contains("destroy second"));
    let of_second: Vec<String> = seen().lines().filter(|line| line.ends_with("second")).map(str::to_owned).collect();
    assert_eq!(of_second, ["create second", "attach second", "start second", "die second", "destroy second"]);
    follower.kill().and_then(|()| follower.wait()).expect("end the follower");
}

#[test]
fn what_cannot_be_asked_is_said() {
    let host = Host::anyone();
    for (args, words) in [
        (vec!["--since", "yesterday"], "neither a time"),
        (vec!["--filter", "colour=red"], "invalid filter 'colour'"),
        (vec!["--since", "1700000002", "--until", "1700000001"], "cannot be after `until` time (1700000001)"),
        (vec!["--format", "{{"], "template"),
    ] {
        let output = host.run(["events"].into_iter().chain(args.iter().copied()));
        assert!(!output.status.success() && output.stderr().contains(words), "{output}");
    }
}
