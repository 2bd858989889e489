//! Answers of a real dockerd, beside ours. Their shapes lie in tests/golden/, with the values taken out.

#[path = "../../tests/golden/compare.rs"]
mod compare;

use super::images;
use super::routes;
use super::{Engine, Settings, Store};
use crate::api::types::Top;
use crate::api::{Body, Reply, Request};
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

struct Home(Arc<Engine>, PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let dir = std::env::temp_dir().join(format!("dhow-golden-{name}-{}", std::process::id()));
        let store = Store::open(&dir.join("root"), &dir.join("run")).unwrap();
        let settings = Settings {
            registry_mirrors: vec!["http://127.0.0.1:5555".to_owned()],
            // Not those of this machine, whose devices would be told of.
            cdi_spec_dirs: Some(vec![dir.join("etc/cdi"), dir.join("run/cdi")]),
            ..Settings::default()
        };
        Home(Arc::new(Engine { store, settings }), dir)
    }

    /// What is answered to a path with a query.
    fn ask(&self, method: &'static str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
        let mut request = Request::new(method, path);
        request.query = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        request.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        request.body = body.map_or(Body::Empty, |body| Body::Reader(Box::new(Cursor::new(body.to_string()))));
        let response = routes::handle(&self.0, request);
        let body = match response.body {
            // The refusal of a stream is plain text.
            Reply::Json(bytes) => serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| json!({"message": String::from_utf8_lossy(&bytes).trim_end()})),
            _ => Value::Null,
        };
        (response.status, body)
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn refused(&self, method: &'static str, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, body) = self.ask(method, path, body);
        (status, body["message"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

macro_rules! assert_golden {
    ($name:literal, $given:expr) => {{
        let shape: Value = serde_json::from_str(include_str!(concat!("../../tests/golden/", $name, ".json"))).unwrap();
        let found = compare::differences(&shape, &$given);
        assert!(found.is_empty(), "{}: {found:#?}", $name);
    }};
}

/// A store with the image and the container of which dockerd was asked.
fn gold(name: &str) -> Home {
    let home = Home::new(name);
    let config = json!({
        "Cmd": ["nginx", "-g", "daemon off;"], "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    });
    images::tests::golden(&home.0.store, config, "nginx:alpine");
    // What the docker command sends, as far as it says more than nothing.
    let body = json!({
        "Hostname": "", "Image": "nginx:alpine", "Cmd": null, "Labels": {"a": "b"}, "Volumes": {}, "Env": null,
        "HostConfig": {
            "Binds": ["gv:/data:nocopy"], "NetworkMode": "none", "PortBindings": {}, "LogConfig": {"Type": "", "Config": {}},
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "ConsoleSize": [0, 0], "Dns": [], "DnsOptions": [],
            "DnsSearch": [], "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
            "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "Devices": [], "Ulimits": [],
            "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "MaskedPaths": null, "ReadonlyPaths": null,
        },
        "NetworkingConfig": {"EndpointsConfig": {"none": {"IPAMConfig": null, "DNSNames": null}}},
    });
    let (status, made) = home.ask("POST", "/containers/create?name=gold", Some(body));
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["Warnings"], json!([]));
    home
}

#[test]
fn answers_have_the_shape_of_dockers() {
    let home = gold("shapes");
    assert_golden!("container", home.get("/containers/gold/json"));
    assert_golden!("containers", home.get("/containers/json?all=1"));
    assert_golden!("images", home.get("/images/json"));
    assert_golden!("image", home.get("/images/nginx:alpine/json"));
    assert_golden!("history", home.get("/images/nginx:alpine/history"));
    assert_golden!("volumes", home.get("/volumes"));
    assert_golden!("volume", home.get("/volumes/gv"));
    let (bridge, others): (Vec<Value>, Vec<Value>) = serde_json::from_value::<Vec<Value>>(home.get("/networks"))
        .unwrap()
        .into_iter()
        .partition(|it| it["Name"] == "bridge");
    assert_golden!("networks", Value::from(others));
    assert_golden!("bridge", bridge[0]);
    assert_golden!("network", home.get("/networks/none"));
    let mut info = home.get("/info");
    // Null where there is nothing to warn of.
    assert!(info["Warnings"].take().as_array().is_none_or(|warnings| !warnings.is_empty()));
    assert_golden!("info", info);
    assert_golden!("version", home.get("/version"));
    // Images without a digest have null for it here, and an empty list above.
    let held = home.get("/system/df");
    let parts = json!({"LayersSize": held["LayersSize"], "Images": held["Images"], "Volumes": held["Volumes"]});
    assert_golden!("usage", parts);
    let top = Top { titles: vec!["PID".to_owned()], processes: vec![vec!["1".to_owned()]] };
    assert_golden!("top", serde_json::to_value(top).unwrap());
}

/// What a small client leaves out is null or empty where it is with Docker.
#[test]
fn what_create_was_not_told() {
    let home = gold("bare");
    let (status, made) = home.ask("POST", "/containers/create", Some(json!({"Image": "nginx:alpine", "Unknown": 1})));
    assert_eq!(status, 201, "{made}");
    let inspect = home.get(&format!("/containers/{}/json", made["Id"].as_str().unwrap()));
    for (pointer, expected) in [
        ("/HostConfig/Dns", json!(null)),
        ("/HostConfig/Ulimits", json!(null)),
        ("/HostConfig/Devices", json!(null)),
        ("/HostConfig/Binds", json!(null)),
        ("/HostConfig/PortBindings", json!(null)),
        ("/HostConfig/NetworkMode", json!("bridge")),
        ("/HostConfig/RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        ("/HostConfig/LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("/HostConfig/ShmSize", json!(67_108_864)),
        ("/HostConfig/IpcMode", json!("private")),
        ("/HostConfig/CgroupnsMode", json!("private")),
        ("/HostConfig/OomKillDisable", json!(null)),
        ("/Config/Labels", json!({})),
        ("/Config/Volumes", json!(null)),
        ("/Config/Entrypoint", json!(null)),
        ("/Config/Cmd", json!(["nginx", "-g", "daemon off;"])),
        ("/Config/StopSignal", json!("SIGQUIT")),
        ("/Path", json!("nginx")),
        ("/Args", json!(["-g", "daemon off;"])),
        ("/Mounts", json!([])),
        ("/State/FinishedAt", json!("0001-01-01T00:00:00Z")),
        ("/NetworkSettings/Ports", json!({})),
    ] {
        assert_eq!(inspect.pointer(pointer), Some(&expected), "{pointer}");
    }
}

/// Clients read these words.
#[test]
fn refusals_in_dockers_words() {
    let home = gold("refusals");
    let id = home.get("/containers/gold/json")["Id"].as_str().unwrap().to_owned();
    let image = |name: &str| Some(json!({"Image": name}));
    let taken = format!(
        "Conflict. The container name \"/gold\" is already in use by container \"{id}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    );
    let not_running = format!("cannot kill container: gold: container {id} is not running");
    let no_terminal = format!("container {id} is not running");
    let not_paused = format!("Container {id} is not paused");
    let sailing = "invalid filter 'status=sailing': invalid value for state (sailing): must be one of created, running, \
                   paused, restarting, removing, exited, dead";
    for (method, path, body, status, words) in [
        ("GET", "/containers/nope/json", None, 404, "No such container: nope"),
        ("POST", "/containers/nope/start", None, 404, "No such container: nope"),
        ("DELETE", "/containers/nope", None, 404, "No such container: nope"),
        ("GET", "/images/nope/json", None, 404, "No such image: nope:latest"),
        ("GET", "/images/nope:1/history", None, 404, "No such image: nope:1"),
        ("DELETE", "/images/nope", None, 404, "No such image: nope:latest"),
        ("POST", "/containers/create", image("nope"), 404, "No such image: nope:latest"),
        ("POST", "/containers/create?name=gold", image("nginx:alpine"), 409, &taken),
        (
            "POST",
            "/containers/create?name=-bad",
            image("nginx:alpine"),
            400,
            "Invalid container name (-bad), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (
            "POST",
            "/containers/create?name=/",
            image("nginx:alpine"),
            400,
            "Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        ("POST", "/containers/gold/kill", None, 409, &not_running),
        ("POST", "/containers/nope/kill", None, 404, "cannot kill container: nope: No such container: nope"),
        ("POST", "/containers/gold/unpause", None, 500, &not_paused),
        ("GET", "/volumes/nope", None, 404, "get nope: no such volume"),
        ("GET", "/networks/nope", None, 404, "network nope not found"),
        ("GET", "/exec/nope/json", None, 404, "No such exec instance: nope"),
        ("GET", "/containers/json?filters={\"colour\":[\"red\"]}", None, 400, "invalid filter 'colour'"),
        ("GET", "/containers/json?filters={\"status\":[\"sailing\"]}", None, 400, sailing),
        ("POST", "/containers/create", None, 400, "invalid JSON: got EOF while reading request body"),
        (
            "POST",
            "/containers/create",
            Some(json!({"HostConfig": {}})),
            400,
            "config cannot be empty in order to create a container",
        ),
        ("POST", "/containers/gold/resize?h=1", None, 400, "invalid resize width \"\": invalid syntax"),
        ("POST", "/containers/gold/resize?h=-1&w=1", None, 400, "invalid resize height \"-1\": value out of range"),
        (
            "POST",
            "/containers/gold/resize?h=4294967296&w=1",
            None,
            400,
            "invalid resize height \"4294967296\": value out of range",
        ),
        ("POST", "/containers/gold/resize?h=1&w=1", None, 409, &no_terminal),
        ("POST", "/containers/nope/resize?h=1&w=1", None, 404, "No such container: nope"),
        ("POST", "/containers/gold/attach?detachKeys=foo", None, 400, "Invalid detach keys (foo) provided"),
        (
            "POST",
            "/containers/gold/exec",
            Some(json!({"Cmd": ["true"], "DetachKeys": "ctrl-p,foo"})),
            500,
            "Invalid escape keys (ctrl-p,foo) provided",
        ),
        ("PUT", "/volumes/gv", None, 503, "volume update only valid for cluster volumes, but swarm is unavailable"),
        ("GET", "/nope", None, 404, "page not found"),
        ("PATCH", "/info", None, 404, "page not found"),
    ] {
        assert_eq!(home.refused(method, path, body), (status, words.to_owned()), "{method} {path}");
    }
    for path in ["/containers/gold/stop", "/containers/gold/stop?t=1"] {
        assert_eq!(home.ask("POST", path, None), (304, Value::Null), "{path}");
    }
    // Whoever asks what is allowed is told that nothing is wrong.
    for path in ["/", "/nope", "/containers/json"] {
        assert_eq!(home.ask("OPTIONS", path, None).0, 200, "{path}");
    }
}

/// Both ways in which clients write filters, and every key.
#[test]
fn filters_of_containers() {
    let home = gold("filters");
    let id = home.get("/containers/gold/json")["Id"].as_str().unwrap().to_owned();
    let early = format!(r#"{{"id":["{}"]}}"#, &id[..6]);
    let network = home.get("/networks/none")["Id"].as_str().unwrap().to_owned();
    let by_network = |length: usize| format!(r#"{{"network":["{}"]}}"#, &network[..length]);
    let (whole, short) = (by_network(64), by_network(12));
    let bound = json!({"Image": "nginx:alpine", "HostConfig": {"Binds": ["/usr:/host:ro"]}});
    assert_eq!(home.ask("POST", "/containers/create?name=bound", Some(bound)).0, 201);
    for (filters, expected) in [
        (r#"{"label":{"a=b":true}}"#, 1),
        (r#"{"label":["a"],"name":["^/go"]}"#, 1),
        (r#"{"label":["a=c"]}"#, 0),
        (&early, 1),
        (r#"{"status":["created","exited"]}"#, 2),
        (r#"{"status":["running"]}"#, 0),
        (r#"{"ancestor":["nginx:alpine"]}"#, 2),
        (r#"{"ancestor":["nope"]}"#, 0),
        (r#"{"volume":["gv"]}"#, 1),
        (r#"{"volume":["/data"]}"#, 1),
        // A bind by either end; a volume by its name, not by where it lies.
        (r#"{"volume":["/usr"]}"#, 1),
        (r#"{"volume":["/host"]}"#, 1),
        (r#"{"volume":["gv","/usr"]}"#, 2),
        (r#"{"volume":["/"]}"#, 0),
        (r#"{"network":["none"]}"#, 1),
        (r#"{"network":["bridge"]}"#, 1),
        (r#"{"network":["nope"]}"#, 0),
        (&whole, 1),
        (&short, 1),
        (r#"{"health":["none"]}"#, 2),
        (r#"{"is-task":["true"]}"#, 0),
        (r#"{"isolation":["default"]}"#, 2),
        // It does not run: it has none.
        (r#"{"expose":["79-81/tcp"]}"#, 0),
        (r#"{"publish":["80"]}"#, 0),
        (r#"{"exited":["0"]}"#, 0),
        (r#"{"before":["gold"]}"#, 0),
        (r#"{"before":["bound"]}"#, 1),
        (r#"{"since":["gold"]}"#, 1),
        (r#"{"since":["bound"]}"#, 0),
    ] {
        let list = home.get(&format!("/containers/json?all=1&filters={filters}"));
        assert_eq!(list.as_array().map(Vec::len), Some(expected), "{filters}");
    }
    for (path, filters) in [
        ("containers/json", r#"{"health":["fine"]}"#),
        ("containers/json", r#"{"exited":["x"]}"#),
        ("containers/json", r#"{"expose":["x"]}"#),
        ("containers/json", r#"{"label":"a"}"#),
        ("images/json", r#"{"dangling":["maybe"]}"#),
        ("volumes", r#"{"dangling":["true","false"]}"#),
        ("networks", r#"{"colour":["red"]}"#),
        ("events", r#"{"colour":["red"]}"#),
    ] {
        assert_eq!(home.refused("GET", &format!("/{path}?filters={filters}"), None).0, 400, "{path} {filters}");
    }
    for (path, filters) in [
        ("containers", r#"{"until":["1h","2h"]}"#),
        ("containers", r#"{"colour":["red"]}"#),
        ("images", r#"{"dangling":["maybe"]}"#),
        ("volumes", r#"{"until":["1h"]}"#),
        ("networks", r#"{"name":["x"]}"#),
    ] {
        assert_eq!(home.refused("POST", &format!("/{path}/prune?filters={filters}"), None).0, 400, "{path} {filters}");
    }
}

/// One thing by all its names.
#[test]
fn names_and_ids() {
    let home = gold("names");
    let container = home.get("/containers/gold/json")["Id"].as_str().unwrap().to_owned();
    for name in [&container, &container[..12], &container[..3], "gold", "/gold"] {
        assert_eq!(home.get(&format!("/containers/{name}/json"))["Id"], container.as_str(), "{name}");
    }
    let image = home.get("/images/nginx:alpine/json")["Id"].as_str().unwrap().to_owned();
    let hex = &image["sha256:".len()..];
    let digest = format!("sha256:{}", "5".repeat(64));
    images::tests::named_by(&home.0.store, &image, &format!("nginx@{digest}"));
    let by_digest = [format!("nginx@{digest}"), format!("docker.io/library/nginx:alpine@{digest}")];
    for name in ["nginx:alpine", "docker.io/library/nginx:alpine", "library/nginx:alpine", &image, hex, &hex[..12]] {
        assert_eq!(home.get(&format!("/images/{name}/json"))["Id"], image.as_str(), "{name}");
    }
    for name in by_digest {
        assert_eq!(home.get(&format!("/images/{name}/json"))["Id"], image.as_str(), "{name}");
    }
    assert_eq!(home.refused("GET", &format!("/images/other@{digest}/json"), None).0, 404);
}
