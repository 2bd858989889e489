//! Programs that watch an engine and that no package here has: their requests at the start, in their order, and the
//! fields of the answers that they read. Read off Portainer 2.3x (its snapshot and dashboard) and Traefik 3 (its
//! provider for Docker).

use crate::fixture::{Daemon, Host, eventually, head};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// A running container that is healthy, of a compose project, and one that has ended.
fn sea() -> Option<(Host, Daemon, String)> {
    let host = Host::with_busybox()?;
    let daemon = Daemon::start(&host);
    let health = ["--health-cmd", "true", "--health-interval", "200ms"];
    let labels = ["--label", "com.docker.compose.project=sea", "--label", "traefik.enable=true"];
    let flags = [&["--name", "hull", "--env", "A=b", "--volume", "hold:/hold"][..], &health, &labels].concat();
    let id = host.detached(&flags, &["sleep", "1000"]);
    host.detached(&["--name", "wreck"], &["false"]);
    eventually("one is healthy and one has ended", || {
        let listed = host.ok(["ps", "--all", "--format", "{{.Names}} {{.Status}}"]);
        listed.contains("(healthy)") && listed.contains("wreck Exited (1)")
    });
    Some((host, daemon, id))
}

/// The answer to a GET, which must be 200.
fn get(daemon: &Daemon, path: &str) -> Value {
    let (head, body) = daemon.ask(&format!("GET {path}"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}\n{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {body}"))
}

/// Asserts on several values of an answer by their pointers.
fn has(answer: &Value, fields: &[(&str, Value)]) {
    for (pointer, value) in fields {
        assert_eq!(answer.pointer(pointer), Some(value), "{pointer} of {answer:#}");
    }
}

#[test]
fn portainer_takes_its_snapshot_and_draws_its_dashboard() {
    let Some((host, daemon, id)) = sea() else { return };
    assert!(daemon.ask("HEAD /_ping").0.contains("Api-Version: 1.51"));
    let info = get(&daemon, "/v1.51/info");
    has(
        &info,
        &[
            ("/Swarm/ControlAvailable", json!(false)),
            ("/Swarm/NodeID", json!("")),
            ("/Swarm/LocalNodeState", json!("inactive")),
            ("/Containers", json!(2)),
            ("/ContainersRunning", json!(1)),
            ("/ContainersStopped", json!(1)),
            ("/Images", json!(1)),
            ("/Plugins/Volume", json!(["local"])),
            ("/OSType", json!("linux")),
        ],
    );
    assert!(info["NCPU"].as_u64() > Some(0) && info["MemTotal"].as_u64() > Some(1 << 20), "{info:#}");
    assert!(info["ServerVersion"].as_str().is_some_and(|version| !version.is_empty()));

    let list = get(&daemon, "/v1.51/containers/json?all=1");
    let hull = list.as_array().and_then(|list| list.iter().find(|one| one["Id"] == id.as_str())).expect("it is listed");
    has(
        hull,
        &[
            ("/Names", json!(["/hull"])),
            ("/Image", json!("busybox")),
            ("/State", json!("running")),
            ("/Labels/com.docker.compose.project", json!("sea")),
            ("/HostConfig/NetworkMode", json!("none")),
            ("/Ports", json!([])),
            ("/Mounts/0/Name", json!("hold")),
        ],
    );
    assert!(hull["Status"].as_str().is_some_and(|status| status.ends_with("(healthy)")), "{hull:#}");
    let shown = get(&daemon, &format!("/v1.51/containers/{id}/json"));
    assert!(shown["Config"]["Env"].as_array().is_some_and(|env| env.contains(&json!("A=b"))), "{shown:#}");
    has(&shown, &[("/HostConfig/DeviceRequests", json!(null))]);

    let images = get(&daemon, "/v1.51/images/json");
    has(&images, &[("/0/RepoTags", json!(["busybox:latest"])), ("/0/Id", hull["ImageID"].clone())]);
    let volumes = get(&daemon, "/v1.51/volumes");
    has(&volumes, &[("/Volumes/0/Name", json!("hold")), ("/Volumes/0/Scope", json!("local"))]);
    let dangling = get(&daemon, "/v1.51/volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D");
    assert!(dangling["Volumes"].as_array().is_none_or(Vec::is_empty), "{dangling:#}");
    let networks = get(&daemon, "/v1.51/networks");
    let names = networks.as_array().map(|all| all.iter().map(|it| it["Name"].clone()).collect::<Vec<_>>());
    assert!(names.is_some_and(|names| names.contains(&json!("host")) && names.contains(&json!("none"))));
    let version = get(&daemon, "/v1.51/version");
    let components = version["Components"].as_array().expect("components");
    assert!(!components.iter().any(|it| it["Name"].as_str().is_some_and(|name| name.contains("odman"))), "{version:#}");
    has(&version, &[("/ApiVersion", json!("1.51")), ("/MinAPIVersion", json!("1.24")), ("/Os", json!("linux"))]);

    // The dashboard asks without a version, and what only a swarm has.
    assert_eq!(get(&daemon, "/plugins"), json!([]));
    for path in ["/swarm", "/services", "/nodes", "/tasks", "/secrets", "/configs"] {
        let (head, body) = daemon.ask(&format!("GET {path}"));
        assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("This node is not a swarm manager."), "{body}");
    }
    let used = get(&daemon, "/system/df");
    has(&used, &[("/Volumes/0/UsageData/RefCount", json!(1)), ("/Containers/0/Names", json!(["/wreck"]))]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() + 1;
    let filter = "%7B%22type%22%3A%5B%22container%22%5D%7D";
    let (_, past) = daemon.ask(&format!("GET /events?since=1&until={now}&filters={filter}"));
    assert!(past.contains("\"Action\":\"start\"") && !past.contains("\"Type\":\"volume\""), "{past}");
    let stats = get(&daemon, &format!("/containers/{id}/stats?stream=false"));
    assert!(stats["cpu_stats"]["system_cpu_usage"].as_u64() > stats["precpu_stats"]["system_cpu_usage"].as_u64());
    let top = get(&daemon, &format!("/containers/{id}/top"));
    assert_eq!(top["Titles"][7], "CMD", "{top:#}");
    host.ok(["rm", "--force", "hull", "wreck"]);
}

#[test]
fn traefik_lists_and_listens() {
    let Some((host, daemon, id)) = sea() else { return };
    has(&get(&daemon, "/v1.24/version"), &[("/ApiVersion", json!("1.51"))]);
    let list = get(&daemon, "/v1.24/containers/json?all=1");
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list:#}");
    let shown = get(&daemon, &format!("/v1.24/containers/{id}/json"));
    has(
        &shown,
        &[
            ("/Name", json!("/hull")),
            ("/State/Status", json!("running")),
            ("/State/Health/Status", json!("healthy")),
            ("/HostConfig/NetworkMode", json!("none")),
            ("/Config/Labels/traefik.enable", json!("true")),
            ("/NetworkSettings/Ports", json!({})),
            ("/NetworkSettings/Networks/none/IPAddress", json!("")),
        ],
    );
    let mut stream = daemon.connect();
    let filter = "%7B%22type%22%3A%7B%22container%22%3Atrue%7D%7D";
    let ask = format!("GET /v1.24/events?filters={filter} HTTP/1.1\r\nHost: x\r\nUser-Agent: Traefik\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("ask for events");
    assert!(head(&mut stream).starts_with("HTTP/1.1 200 "), "the head comes before any event");
    host.ok(["restart", "--time", "0", "hull"]);
    let mut told = String::new();
    let mut buffer = [0; 4096];
    // What it acts on, after which it lists again.
    let wanted = ["\"Action\":\"die\"", "\"Action\":\"start\"", "\"Action\":\"health_status: healthy\""];
    while !wanted.iter().all(|action| told.contains(action)) {
        let read = stream.read(&mut buffer).expect("read events");
        assert_ne!(read, 0, "the stream ended after {told}");
        told += &String::from_utf8_lossy(&buffer[..read]);
    }
    let at = |action: &str| told.find(action);
    assert!(at(wanted[0]) < at(wanted[1]) && at(wanted[1]) < at(wanted[2]), "{told}");
    assert!(told.contains(&format!("\"id\":\"{id}\"")) && told.contains("\"from\":\"busybox\""), "{told}");
}
