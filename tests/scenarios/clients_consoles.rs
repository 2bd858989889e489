//! Programs that watch an engine. Of those that no package has: their requests at the start, in their order, and the
//! fields of the answers that they read. Read off Portainer 2.3x (its snapshot and dashboard) and Traefik 3 (its
//! provider for Docker). Traefik itself is one that can be had.

use crate::fixture::{Daemon, Host, clients, eventually, head};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

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

/// Traefik before containers on networks: what it answers for the name of a host.
struct Proxy {
    host: Host,
}

const PORT: u16 = 8000;

impl Proxy {
    /// Starts a web server that says its name, as one of a service that Traefik shall lead a rule to.
    fn serve(&self, name: &str, (service, rule): (&str, &str), flags: &[&str]) {
        let rule = format!("traefik.http.routers.{service}.rule={rule}");
        let port = format!("traefik.http.services.{service}.loadbalancer.server.port=80");
        let labels = ["--label", &rule, "--label", &port, "--hostname", name, "--name", name];
        let command = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];
        self.host.ok([&["run", "--detach"][..], &labels, flags, &command].concat());
    }

    /// What is served for the name of a host; nothing where there is no route.
    fn ask(&self, name: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
        write!(stream, "GET /hostname HTTP/1.0\r\nHost: {name}\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).is_some_and(|code| code == "200").then(|| body.trim().to_owned())
    }

    /// Who answers, of several times.
    fn answers(&self, name: &str) -> BTreeSet<Option<String>> {
        (0..6).map(|_| self.ask(name)).collect()
    }

    /// Waits until exactly these answer. Traefik asks who is there before it listens, and so may miss what happens in
    /// between: what comes later has it ask again.
    fn leads(&self, name: &str, to: &[&str]) {
        let wanted = to.iter().map(|to| Some((*to).to_owned())).collect();
        let mut asked = Instant::now();
        eventually(&format!("{name} leads to {to:?}"), || {
            if asked.elapsed() > Duration::from_secs(3) {
                self.host.ok(["run", "--rm", "--network", "none", "busybox", "true"]);
                asked = Instant::now();
            }
            self.answers(name) == wanted
        });
    }
}

#[test]
fn traefik_routes_by_the_labels_of_containers() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let Some(traefik) = clients::traefik(&host, &daemon, PORT) else { return };
    const WEB: (&str, &str) = ("web", "Host(`web.test`)");
    let on = ["--label", "traefik.enable=true"];
    let proxy = Proxy { host };
    proxy.serve("one", WEB, &on);
    proxy.serve("hidden", ("hidden", "Host(`hidden.test`)"), &[]);
    let traefik = traefik.spawn();
    proxy.leads("web.test", &["one"]);
    assert_eq!(proxy.ask("hidden.test"), None, "it has not asked for it");
    // What comes and goes is heard of.
    proxy.serve("two", WEB, &on);
    proxy.leads("web.test", &["one", "two"]);
    proxy.host.ok(["stop", "--time", "0", "one"]);
    proxy.leads("web.test", &["two"]);
    proxy.host.ok(["start", "one"]);
    proxy.leads("web.test", &["one", "two"]);
    // Nothing is sent to who is not healthy.
    let health = ["--health-cmd", "test -e /ready", "--health-interval", "200ms", "--health-retries", "1"];
    proxy.serve("ill", ("ill", "Host(`ill.test`)"), &[&on[..], &health].concat());
    eventually("it is unhealthy", || proxy.host.inspect("ill", "/State/Health/Status") == "unhealthy");
    assert_eq!(proxy.ask("ill.test"), None);
    proxy.host.ok(["exec", "ill", "touch", "/ready"]);
    proxy.leads("ill.test", &["ill"]);
    proxy.host.ok(["network", "create", "sea"]);
    let network = ["--label", "traefik.docker.network=sea", "--network", "sea"];
    proxy.serve("far", ("far", "Host(`far.test`) && PathPrefix(`/hostname`)"), &[&on[..], &network].concat());
    proxy.leads("far.test", &["far"]);
    // It comes back to a daemon that was killed, and sees what happened meanwhile.
    daemon.kill();
    proxy.host.local(["rm", "--force", "one"]).ok();
    let daemon = Daemon::start(&proxy.host);
    proxy.serve("three", WEB, &on);
    proxy.leads("web.test", &["three", "two"]);
    traefik.signal(nix::sys::signal::Signal::SIGTERM);
    traefik.wait().ok();
    proxy.host.ok(["rm", "--force", "two", "three", "hidden", "ill", "far"]);
    proxy.host.ok(["network", "rm", "sea"]);
    daemon.stop();
}
