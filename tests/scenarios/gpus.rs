//! `--gpus`, where files of devices lie, and what the API is asked for of both.

use crate::cdi::spec;
use crate::fixture::{Daemon, Host};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// A host whose settings name a directory of its own, and that directory.
fn settled(host: &Host) -> (PathBuf, PathBuf) {
    let (dir, empty) = (host.dir().join("cdi"), host.dir().join("empty"));
    for dir in [&dir, &empty] {
        fs::create_dir(dir).expect("make a directory");
    }
    let text = json!({"cdi-spec-dirs": [empty, dir]}).to_string();
    (host.file("daemon.json", text), dir)
}

#[test]
fn gpus_come_of_their_vendors_files() {
    let Some(host) = Host::with_busybox() else { return };
    let (config, dir) = settled(&host);
    let run = |flags: &[&str]| {
        let fixed = ["--config", config.to_str().expect("UTF-8"), "run", "--rm", "--network", "none"];
        let rest = ["busybox", "sh", "-c", "echo $GPUS; env | sort | sed -n 's/^GPU_//p'"];
        host.local(fixed.iter().chain(flags).chain(&rest).copied())
    };
    let text = run(&["--gpus", "all"]).refused(125);
    assert!(text.contains("could not select device driver \"\" with capabilities: [[gpu]]"), "{text}");
    // In YAML, as nvidia-ctk writes it.
    let device = |name: &str| format!("- containerEdits:\n    env:\n    - GPU_{name}=1\n  name: \"{name}\"\n");
    let text = format!(
        "---\ncdiVersion: 0.5.0\ncontainerEdits:\n  env:\n  - GPUS=nvidia\ndevices:\n{}kind: nvidia.com/gpu\n",
        ["0", "1", "2", "all"].map(device).concat()
    );
    fs::write(dir.join("nvidia.yaml"), text).expect("write a file of devices");
    for (flags, expected) in [
        (&["--gpus", "all"][..], "nvidia\nall=1"),
        (&["--gpus", "2"], "nvidia\n0=1\n1=1"),
        (&["--gpus", "device=2"], "nvidia\n2=1"),
        (&["--gpus", "\"device=0,2\""], "nvidia\n0=1\n2=1"),
        (&["--gpus", "driver=nvidia,count=1,\"capabilities=compute,utility\""], "nvidia\n0=1"),
        (&["--device", "nvidia.com/gpu=1", "--device", "nvidia.com/gpu=0"], "nvidia\n0=1\n1=1"),
    ] {
        assert_eq!(run(flags).ok(), expected, "{flags:?}");
    }
    let text = run(&["--gpus", "device=0,1"]).refused(125);
    assert!(text.contains("cannot set both Count and DeviceIDs on device request"), "{text}");
    let text = run(&["--gpus", "9"]).refused(125);
    assert!(text.contains("unresolvable CDI devices nvidia.com/gpu=3, nvidia.com/gpu=4"), "{text}");

    // What is wrong with the files is said where a device is missed, and by info.
    fs::write(dir.join("twice.json"), spec("nvidia.com/gpu", &[("1", json!({"env": ["X=Y"]}))], json!({})))
        .expect("write");
    fs::write(dir.join("broken.yaml"), "cdiVersion: &a 0.5.0\n").expect("write");
    let text = run(&["--device", "nvidia.com/gpu=1"]).refused(125);
    for words in [
        "unresolvable CDI devices nvidia.com/gpu=1 (",
        "conflicting device \"nvidia.com/gpu=1\"",
        "broken.yaml\": line 1: an anchor is not supported",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(run(&["--gpus", "device=0"]).ok(), "nvidia\n0=1", "the others stay");
    let output = host.local(["--config", config.to_str().expect("UTF-8"), "info"]).run();
    assert!(output.stderr().contains("CDI: Error associated with spec file"), "{output}");
    let off = host.file("off.json", r#"{"cdi-spec-dirs": [""]}"#);
    let off = off.to_str().expect("UTF-8");
    let line = ["--config", off, "run", "--rm", "--network", "none", "--device", "nvidia.com/gpu=0", "busybox", "true"];
    let text = host.local(line).refused(125);
    assert!(text.contains("CDI device injection failed: no CDI specification directories specified"), "{text}");
}

#[test]
fn requests_of_the_api() {
    let Some(host) = Host::with_busybox() else { return };
    // It has a daemon of its own.
    if host.has_daemon() {
        return;
    }
    let (_, dir) = settled(&host);
    fs::write(dir.join("x.json"), spec("a.test/boat", &[("one", json!({"env": ["X=Y"]}))], json!({}))).expect("write");
    let daemon = Daemon::start_with(&host, &["--cdi-spec-dir", dir.to_str().expect("UTF-8")]);
    let start = |request: Value| {
        let body = json!({"Image": "busybox", "Cmd": ["env"], "HostConfig": {"NetworkMode": "none", "DeviceRequests": [request]}});
        let (status, text) =
            daemon.ask_with("POST /v1.50/containers/create", "Content-Type: application/json\r\n", &body.to_string());
        assert!(status.contains("201"), "{status} {text}");
        let made: Value = serde_json::from_str(&text).expect("JSON");
        let id = made["Id"].as_str().expect("an id").to_owned();
        let (status, text) = daemon.ask(&format!("POST /v1.50/containers/{id}/start"));
        host.ok(["rm", "-f", &id]);
        (status, text)
    };
    for (request, status, words) in [
        (json!({"Driver": "cdi", "DeviceIDs": ["a.test/boat=one"]}), "204", ""),
        (
            json!({"Driver": "cdi", "DeviceIDs": ["a.test/boat=two"]}),
            "500",
            "CDI device injection failed: unresolvable CDI devices a.test/boat=two",
        ),
        (
            json!({"Driver": "cdi", "DeviceIDs": ["a.test/boat=one"], "Count": 1}),
            "500",
            "unexpected count in CDI device request",
        ),
        (
            json!({"Driver": "cdi", "DeviceIDs": ["a.test/boat=one"], "Options": {"a": "b"}}),
            "500",
            "unexpected options in CDI device request",
        ),
        (
            json!({"Count": -1, "Capabilities": [["gpu"], ["a", "b"]]}),
            "500",
            "could not select device driver \\\"\\\" with capabilities: [[gpu] [a b]]",
        ),
    ] {
        let (said, text) = start(request.clone());
        assert!(said.contains(status) && text.contains(words), "{request}: {said} {text}");
    }
    let (_, text) = daemon.ask("GET /v1.50/info");
    assert!(text.contains(r#""DiscoveredDevices":[{"Source":"cdi","ID":"a.test/boat=one"}]"#), "{text}");
    let (_, text) = daemon.ask("GET /v1.49/info");
    assert!(text.contains("\"CDISpecDirs\":[") && !text.contains("DiscoveredDevices"), "{text}");
}
