//! How registries are reached: mirrors, proxies, certificates, connections that break, and pulls side by side.

use crate::fixture::{
    Command, Front, Host, Image, Layout, Packing, Registry, Say, Tar, digest, eventually, need, noise,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn small(text: &str) -> Vec<u8> {
    Tar::new().file("file", 0o644, text).end()
}

/// An image of layers of `size` bytes each.
fn bulky(layers: u32, size: usize) -> Image {
    let layer = |seed| Tar::new().file(&format!("noise{seed}"), 0o644, noise(size, seed)).end();
    let mut image = Image::new(layer(0));
    for seed in 1..layers {
        image = image.layer(layer(seed), Packing::Gzip);
    }
    image
}

/// A relay before a registry.
struct Relay {
    address: String,
    connections: Arc<AtomicUsize>,
    /// Bytes that came back from the registry.
    bytes: Arc<AtomicUsize>,
}

impl Relay {
    /// Each connection is cut when so many bytes have come back through it.
    fn start(registry: &Registry, cut_after: usize) -> Relay {
        Relay::serve(registry, cut_after, false)
    }

    /// Or nothing more comes, and it stays open.
    fn serve(registry: &Registry, cut_after: usize, holds: bool) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address").to_string();
        let (connections, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let relay = Relay { address, connections: Arc::clone(&connections), bytes: Arc::clone(&bytes) };
        let target = registry.host();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect(&target).expect("reach the registry");
                both_ways(client, server, cut_after, holds, &bytes);
            }
        });
        relay
    }

    fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }
}

/// Passes bytes on until one side ends or `cut_after` bytes have come from `server`.
fn both_ways(client: TcpStream, server: TcpStream, cut_after: usize, holds: bool, bytes: &Arc<AtomicUsize>) {
    let (mut from_client, mut to_server) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (bytes, mut client, mut server) = (Arc::clone(bytes), client, server);
    thread::spawn(move || {
        let (mut left, mut buffer) = (cut_after, [0; 16 * 1024]);
        while left > 0 {
            let most = left.min(buffer.len());
            match server.read(&mut buffer[..most]) {
                Ok(n) if n > 0 && client.write_all(&buffer[..n]).is_ok() => {
                    left -= n;
                    bytes.fetch_add(n, Ordering::Relaxed);
                }
                _ => break,
            }
        }
        if holds && left == 0 {
            loop {
                thread::park();
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// A proxy that takes whatever name it is asked for to the one registry. Gives its URL.
fn proxy(registry: &Registry) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let target = registry.host();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().expect("clone"));
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            if !line.starts_with("CONNECT registry.test:") {
                let _ = client.write_all(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {}
            let server = TcpStream::connect(&target).expect("reach the registry");
            let _ = client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
            both_ways(client, server, usize::MAX, false, &Arc::default());
        }
    });
    url
}

#[test]
fn every_step_is_told() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let image = Image::new(small("one")).layer(small("two"), Packing::Zstd);
    let sum = registry.upload(&image, "reach/told", "v1");
    let blobs = image.blobs();
    let short = |at: usize| digest(&blobs[at].bytes)["sha256:".len()..][..12].to_owned();
    let name = registry.name("reach/told:v1");
    let told = host.ok(["pull", &name]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "v1: Pulling from reach/told");
    assert_eq!(lines[1], format!("{}: Pulling fs layer", short(0)));
    assert_eq!(lines[2], format!("{}: Pulling fs layer", short(1)));
    for at in 0..2 {
        let of = |status: &str| lines.iter().position(|line| *line == format!("{}: {status}", short(at)));
        let order = ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"].map(of);
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{told}");
    }
    assert_eq!(lines[lines.len() - 3], format!("Digest: {sum}"));
    assert_eq!(lines[lines.len() - 2], format!("Status: Downloaded newer image for {name}"));
    assert_eq!(lines[lines.len() - 1], name);
    let again = format!("v1: Pulling from reach/told\n{0}: Already exists\n{1}: Already exists\n", short(0), short(1));
    let again = format!("{again}Digest: {sum}\nStatus: Image is up to date for {name}\n{name}");
    assert_eq!(host.ok(["pull", &name]), again);
}

#[test]
fn dockers_own_manifests_are_read() {
    let (Some(host), Some(registry), Some(())) = (Host::new(), Registry::shared(), need("skopeo")) else { return };
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add(&Image::new(small("schema 2")).config(json!({ "Cmd": ["/x"] })), "it");
    let to = format!("docker://{}", registry.name("reach/docker:v1"));
    let from = layout.reference("it");
    let args = ["--insecure-policy", "copy", "--format", "v2s2", "--dest-tls-verify=false", &from, &to];
    Command::new("skopeo", args).env("HOME", "/nonexistent").ok();
    let raw = Command::new("skopeo", ["inspect", "--raw", "--tls-verify=false", &to]).ok();
    assert!(raw.contains("application/vnd.docker.distribution.manifest.v2+json"), "{raw}");
    let name = registry.name("reach/docker:v1");
    host.ok(["pull", "-q", &name]);
    assert_eq!(host.inspect(&name, "/Config/Cmd/0"), "/x");
}

#[test]
fn all_tags_come() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    for tag in ["a", "b", "c"] {
        registry.upload(&Image::new(small(tag)), "reach/tags", tag);
    }
    let name = registry.name("reach/tags");
    let told = host.ok(["pull", "--all-tags", &name]);
    assert!(told.contains(&format!("Status: Downloaded newer image for {name}\n")), "{told}");
    let mut tags: Vec<String> = host.ok(["images", "--format", "{{.Tag}}"]).lines().map(str::to_owned).collect();
    tags.sort();
    assert_eq!(tags, ["a", "b", "c"]);
    let text = host.refused(1, ["pull", "--all-tags", &format!("{name}:a")]);
    assert!(text.contains("tag can't be used with --all-tags"), "{text}");
}

#[test]
fn another_machines_image_is_refused_before_its_layers() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let image = Image::new(small("foreign")).platform("s390x", None);
    registry.upload(&image, "foreign", "v1");
    let sum = digest(&image.blobs()[0].bytes).replace("sha256:", "");
    fs::remove_file(registry.data().join("blobs/sha256").join(&sum[..2]).join(&sum).join("data")).expect("remove");
    let name = registry.name("foreign:v1");
    let text = host.refused(1, ["pull", "-q", &name]);
    assert!(text.contains("its platform (linux/s390x) does not match the specified platform"), "{text}");
    host.assert_tidy();
    let text = host.refused(1, ["pull", "-q", "--platform", "linux/s390x", &name]);
    assert!(text.contains("layer sha256:"), "{text}");
    host.assert_tidy();
}

#[test]
fn a_mirror_serves_docker_hubs_names() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&Image::new(small("mirrored")), "library/moored", "v1");
    let mirror = json!({ "registry-mirrors": [format!("http://{}", registry.host())] });
    let config = host.file("daemon.json", mirror.to_string());
    let config = config.to_str().expect("UTF-8");
    assert_eq!(host.ok(["--config", config, "pull", "-q", "moored:v1"]), "docker.io/library/moored:v1");
    assert_eq!(host.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]), "moored:v1");
}

#[test]
fn a_connection_that_is_cut_is_taken_up_again() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&bulky(1, 4 << 20), "reach/cut", "v1");
    let relay = Relay::start(&registry, 1200 * 1024);
    host.ok(["pull", "-q", &relay.name("reach/cut:v1")]);
    let (count, bytes) = (relay.connections.load(Ordering::Relaxed), relay.bytes.load(Ordering::Relaxed));
    assert!(count >= 4, "{count} connections");
    assert!(bytes < 5 << 20, "what had come did not come again: {bytes} bytes");
    host.assert_tidy();
}

#[test]
fn a_registry_that_always_breaks_off_is_given_up() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&bulky(1, 1 << 20), "reach/broken", "v1");
    // Enough for the manifest and the config.
    let relay = Relay::start(&registry, 3000);
    let text = host.refused(1, ["pull", "-q", &relay.name("reach/broken:v1")]);
    assert!(text.contains("layer sha256:"), "{text}");
    assert_eq!(host.ok(["images", "-q"]), "");
    host.assert_tidy();
    host.ok(["pull", "-q", &registry.name("reach/broken:v1")]);
}

#[test]
fn two_pulls_of_one_image_share_the_work() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let (layers, size) = (4, 2 << 20);
    registry.upload(&bulky(layers, size), "reach/both", "v1");
    let relay = Relay::start(&registry, usize::MAX);
    let name = relay.name("reach/both:v1");
    let pulls = [host.dhow(["pull", &name]).spawn(), host.dhow(["pull", &name]).spawn()];
    let told = pulls.map(|pull| {
        let output = pull.wait();
        assert!(output.status.success(), "{output}");
        output.stdout()
    });
    let count = |status: &str| told.iter().map(|text| text.matches(status).count()).sum::<usize>();
    assert_eq!((count("Pull complete"), count("Already exists")), (4, 4), "{told:#?}");
    let bytes = relay.bytes.load(Ordering::Relaxed);
    assert!(bytes < layers as usize * size * 5 / 4, "{bytes} bytes came");
    host.assert_tidy();
}

#[test]
fn a_killed_pull_leaves_nothing_that_stays() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&bulky(3, 8 << 20), "reach/killed", "v1");
    // What comes after a part of a layer never arrives.
    let relay = Relay::serve(&registry, 3 << 20, true);
    let pull = host.dhow(["pull", "-q", &relay.name("reach/killed:v1")]).spawn();
    eventually("the pull is under way", || relay.bytes.load(Ordering::Relaxed) > 2 << 20);
    pull.signal(Signal::SIGKILL);
    drop(pull.wait());
    host.ok(["pull", "-q", &registry.name("reach/killed:v1")]);
    assert_eq!(host.ok(["images", "--format", "{{.Tag}}"]), "v1");
    host.assert_tidy();
}

#[test]
fn proxies_come_from_the_environment() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&Image::new(small("by proxy")), "reach/proxy", "v1");
    // As proxies are: CONNECT is for TLS, what is in the clear is asked for by its whole address.
    let front = Front::start(&registry, |asked, _| asked.line.starts_with("CONNECT").then(|| Say::new(403, "no")));
    let insecure = host.file("daemon.json", json!({ "insecure-registries": ["registry.test:80"] }).to_string());
    let pull = |url: &str, names: [&str; 2]| {
        let config = insecure.to_str().expect("UTF-8");
        let pull = host.dhow(["--config", config, "pull", "-q", "registry.test:80/reach/proxy:v1"]);
        pull.env(names[0], url).env(names[1], url).ok();
        host.ok(["rmi", "registry.test:80/reach/proxy:v1"]);
    };
    pull(&format!("http://{}", front.address), ["HTTP_PROXY", "HTTPS_PROXY"]);
    assert!(front.count("GET http://registry.test:80/v2/reach/proxy/blobs/") >= 2, "config and layer");
    assert!(front.count("CONNECT registry.test:80") > 0, "TLS is tried first");
    let before = front.seen().len();
    pull(&format!("http://me:se%20cret@{}", front.address), ["http_proxy", "https_proxy"]);
    let seen = front.seen();
    assert!(seen.len() > before);
    let who = seen.iter().skip(before).filter(|asked| asked.line.starts_with("GET"));
    for asked in who {
        assert!(
            asked.header("proxy-authorization").is_some_and(|value| value.starts_with("Basic bWU6")),
            "{}",
            asked.line
        );
        assert_eq!(asked.header("host"), Some("registry.test"), "80 goes without saying");
    }
    // What is set wins over the environment.
    let before = front.seen().len();
    let url = format!("http://{}", front.address);
    let proxies = json!({ "http-proxy": url, "https-proxy": url });
    let keys = json!({ "insecure-registries": ["registry.test:80"], "proxies": proxies });
    let config = host.file("proxies.json", keys.to_string());
    let words = ["--config", config.to_str().expect("UTF-8"), "pull", "-q", "registry.test:80/reach/proxy:v1"];
    host.dhow(words).env("HTTP_PROXY", "http://127.0.0.1:1").env("HTTPS_PROXY", "http://127.0.0.1:1").ok();
    assert!(front.seen().len() > before);
    host.ok(["rmi", "registry.test:80/reach/proxy:v1"]);
    // This machine itself is never reached through one.
    let near = registry.name("reach/proxy:v1");
    let url = format!("http://{}", front.address);
    let before = front.seen().len();
    host.dhow(["pull", "-q", &near]).env("HTTP_PROXY", &url).env("HTTPS_PROXY", &url).ok();
    assert_eq!(front.seen().len(), before);
}

#[test]
fn certificates_are_checked_against_the_authorities_that_are_configured() {
    let (Some(host), Some(())) = (Host::new(), need("skopeo")) else { return };
    let Some(registry) = Registry::start(true, None) else { return };
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add(&Image::new(small("over TLS")), "it");
    registry.push(&layout, "it", "sealed:it");
    // Addresses of the loopback are insecure by default: so by a name, which the proxy knows.
    let url = proxy(&registry);
    let name = "registry.test:443/sealed:it";
    let pull = |flags: &[&str]| {
        let args: Vec<&str> = flags.iter().chain(&["pull", "-q", name]).copied().collect();
        host.dhow(args).env("HTTPS_PROXY", &url)
    };
    let text = pull(&[]).refused(1);
    assert!(text.to_lowercase().contains("certificate"), "{text}");

    let ca = registry.ca();
    let ca = ca.to_str().expect("UTF-8");
    pull(&[]).env("SSL_CERT_FILE", ca).ok();
    host.ok(["rmi", name]);

    let insecure = host.file("daemon.json", json!({ "insecure-registries": ["registry.test:443"] }).to_string());
    pull(&["--config", insecure.to_str().expect("UTF-8")]).ok();
    host.ok(["rmi", name]);

    // A view of the host whose /etc holds nothing but the authority of this registry.
    for dir in ["dhow", "docker"] {
        let script = format!(
            "mount -t tmpfs none /etc && mkdir -p '/etc/{dir}/certs.d/registry.test:443' && \
             cp '{ca}' '/etc/{dir}/certs.d/registry.test:443/ca.crt' && exec \"$@\""
        );
        let dhow = env!("CARGO_BIN_EXE_dhow");
        let args = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh", dhow, "pull", "-q", name];
        let in_view = Command::new("unshare", args)
            .env("HTTPS_PROXY", &url)
            .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
            .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"));
        in_view.ok();
        host.ok(["rmi", name]);
    }
}

#[test]
fn who_must_show_a_certificate_shows_it() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start_mutual()) else { return };
    let url = proxy(&registry);
    let name = "registry.test:443/none/such:v1";
    let ca = registry.ca();
    let [cert, key] = registry.client();
    let dir = "/etc/docker/certs.d/registry.test:443";
    // A view of the host whose /etc holds the authority of this registry, and what the client has.
    let pull = |with: &str| {
        let script = format!(
            "mount -t tmpfs none /etc && mkdir -p '{dir}' && cp '{}' '{dir}/ca.crt' && {with} exec \"$@\"",
            ca.display()
        );
        let dhow = env!("CARGO_BIN_EXE_dhow");
        let args = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh", dhow, "pull", "-q", name];
        let text = Command::new("unshare", args)
            .env("HTTPS_PROXY", &url)
            .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
            .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"))
            .refused(1);
        host.assert_tidy();
        text
    };
    let (cert, key) = (cert.display(), key.display());
    let text = pull("");
    assert!(!text.contains("not found") && text.contains("registry.test:443"), "the handshake fails: {text}");
    // It is let in, and learns that there is no such image.
    let text = pull(&format!("cp '{cert}' '{dir}/client.cert' && cp '{key}' '{dir}/client.key' && "));
    assert!(text.contains("manifest for registry.test:443/none/such:v1 not found"), "{text}");
    let text = pull(&format!("cp '{cert}' '{dir}/client.cert' && "));
    assert!(text.contains("missing key") && text.contains("client.key"), "{text}");
    let text = pull(&format!("cp '{cert}' '{dir}/client.cert' && echo none > '{dir}/client.key' && "));
    assert!(text.contains("client.key"), "{text}");
}

/// A host's configuration file that names these mirrors.
fn mirrors(host: &Host, addresses: &[&str]) -> String {
    let urls: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    let config = host.file("mirrors.json", json!({ "registry-mirrors": urls }).to_string());
    config.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_mirror_that_lies_is_passed_over() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let image = bulky(2, 1 << 20);
    registry.upload(&image, "library/lied-about", "v1");
    let blobs = image.blobs();
    // The layers are of the right length and of the wrong bytes: at their end, at their start, and too many.
    let flipped = |at: usize| {
        let mut bytes = blobs[0].bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let longer = [&blobs[0].bytes[..], b"more"].concat();
    for lie in [flipped(blobs[0].bytes.len() - 1), flipped(2), longer] {
        let sum = digest(&blobs[0].bytes);
        let liar =
            Front::start(&registry, move |asked, _| asked.line.contains(&sum).then(|| Say::new(200, lie.clone())));
        let config = mirrors(&host, &[&liar.address, &registry.host()]);
        host.ok(["--config", &config, "pull", "-q", "lied-about:v1"]);
        assert!(liar.count("/manifests/") > 0 && liar.count("/blobs/") > 0, "the mirror was asked first");
        assert_eq!(liar.count(&digest(&blobs[0].bytes)), 1, "and not again");
        assert_eq!(host.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]), "lied-about:v1");
        host.assert_tidy();
        host.ok(["rmi", "lied-about:v1"]);
    }
    // A manifest that is not what its digest says, and a config.
    for wrong in ["/manifests/sha256:", &digest(&blobs[2].bytes)] {
        let wrong = wrong.to_owned();
        let liar = Front::start(&registry, move |asked, _| asked.line.contains(&wrong).then(|| Say::new(200, "{}")));
        let config = mirrors(&host, &[&liar.address, &registry.host()]);
        host.ok(["--config", &config, "pull", "-q", "lied-about:v1"]);
        host.ok(["rmi", "lied-about:v1"]);
    }
}

#[test]
fn a_token_is_fetched_and_shown() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&Image::new(small("by token")), "reach/order", "v1");
    let front = Front::start(&registry, |asked, _| {
        let host = asked.header("host").unwrap_or_default();
        if asked.line.starts_with("GET /token?service=harbour&scope=repository%3Areach%2Forder%3Apull") {
            return match asked.header("authorization") {
                None => Some(Say::new(200, r#"{"token":"aye"}"#)),
                Some(_) => Some(Say::new(400, "nobody has logged in")),
            };
        }
        if asked.header("authorization") == Some("Bearer aye") {
            return None;
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="harbour",scope="repository:x:pull""#);
        Some(Say::new(401, "{}").with("WWW-Authenticate", challenge))
    });
    host.ok(["pull", "-q", &front.name("reach/order:v1")]);
    assert_eq!(front.count("/token"), 1, "one token serves the whole pull");
}

#[test]
fn who_we_are_stays_with_the_registry() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&Image::new(small("elsewhere")), "reach/elsewhere", "v1");
    let cdn = Front::start(&registry, |asked, _| {
        let who = asked.header("authorization");
        who.map(|who| Say::new(403, format!("{who} is none of our business")))
    });
    let away = cdn.address.clone();
    let front = Front::start(&registry, move |asked, _| {
        if asked.header("authorization") != Some("Basic c2FpbG9yOmFob3k=") {
            return Some(Say::new(401, "{}").with("WWW-Authenticate", "Basic realm=x"));
        }
        let path = asked.line.strip_prefix("GET ").filter(|path| path.contains("/blobs/"))?;
        Some(Say::new(307, "over there").with("Location", format!("http://{away}{path}")))
    });
    let auths = json!({ "auths": { &front.address: { "auth": "c2FpbG9yOmFob3k=" } } });
    host.file("home/.docker/config.json", auths.to_string());
    host.ok(["pull", "-q", &front.name("reach/elsewhere:v1")]);
    assert_eq!(cdn.count("/blobs/"), 2, "the config and the layer came from there");
    let refused = host.dhow(["pull", "-q", &front.name("reach/elsewhere:v1")]).env("HOME", "/nonexistent").refused(1);
    assert!(refused.contains("no basic auth credentials"), "{refused}");
}

#[test]
fn the_rest_of_a_cut_download_is_asked_for() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let image = bulky(1, 3 << 20);
    registry.upload(&image, "reach/range", "v1");
    let layer = image.blobs()[0].bytes.clone();
    let sum = digest(&layer);
    let cut_at = 2 << 20;
    let front = Front::start(&registry, {
        let sum = sum.clone();
        move |asked, _| {
            let whole = asked.line.contains(&sum) && asked.header("range").is_none();
            whole.then(|| Say { cut: Some(cut_at), ..Say::new(200, layer.clone()) })
        }
    });
    host.ok(["pull", "-q", &front.name("reach/range:v1")]);
    let seen = front.seen();
    let ranges: Vec<Option<&str>> =
        seen.iter().filter(|asked| asked.line.contains(&sum)).map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, [None, Some(&format!("bytes={cut_at}-")[..])]);
}

#[test]
fn a_registry_that_asks_for_patience_gets_it() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    registry.upload(&Image::new(small("patience")), "reach/busy", "v1");
    let busy = |seconds: &str| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        Say::new(429, body).with("Retry-After", seconds)
    };
    let front = Front::start(&registry, move |_, before| (before == 1).then(|| busy("2")));
    let start = Instant::now();
    host.ok(["pull", "-q", &front.name("reach/busy:v1")]);
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    // Who wants an hour has refused.
    let front = Front::start(&registry, move |_, _| Some(busy("3600")));
    let text = host.refused(1, ["pull", "-q", &front.name("reach/busy:v1")]);
    assert!(text.contains("toomanyrequests: slow down"), "{text}");
}
