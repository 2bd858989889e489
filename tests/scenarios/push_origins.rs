//! `dhow push` of what was pulled: layers go out as they came, from here or from where they came.

use crate::fixture::{Command, Front, Host, Image, Packing, Registry, Say, Tar, need, noise};
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A registry that only this user may ask, and, while `lies` is set, one whose blobs are other bytes.
fn closed(registry: &Registry, user: &str, lies: &Arc<AtomicBool>) -> Front {
    let (lies, wanted) = (Arc::clone(lies), basic(user));
    Front::start(registry, move |asked, _| {
        if asked.header("authorization") != Some(wanted.as_str()) {
            return Some(Say::new(401, "").with("WWW-Authenticate", "Basic realm=\"the harbour\""));
        }
        let blob = asked.line.starts_with("GET ") && asked.line.contains("/blobs/sha256:");
        (blob && lies.load(Ordering::Relaxed)).then(|| Say::new(200, noise(2_000_000, 99)))
    })
}

/// What a user of these tests shows; the password is the name.
fn basic(user: &str) -> String {
    let text = Command::new("base64", ["-w0"]).input(format!("{user}:{user}")).ok();
    format!("Basic {text}")
}

fn login(host: &Host, front: &Front, user: &str) {
    host.dhow(["login", "-u", user, "--password-stdin", &front.address]).input(user).ok();
}

/// Three layers, each packed in its own way, of which none is packed as we do.
fn image() -> Image {
    let layer = |text: &str, seed| Tar::new().file("file", 0o644, text).file(text, 0o600, noise(40_000, seed)).end();
    Image::new(layer("one", 1)).layer(layer("two", 2), Packing::Zstd).layer(layer("three", 3), Packing::Plain)
}

/// The manifest that a registry has under a name.
fn manifest(name: &str) -> Option<Value> {
    need("skopeo")?;
    let line = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")].map(str::to_owned);
    Some(serde_json::from_str(&Command::new("skopeo", line).env("HOME", "/nonexistent").ok()).expect("JSON"))
}

fn same(host: &Host, name: &str) -> (String, Value) {
    (host.ok(["inspect", "--format", "{{.Id}}", name]), host.inspect(name, "/RootFS/Layers"))
}

#[test]
fn layers_are_passed_on_from_another_registry() {
    let (Some(host), Some(registry), Some(far)) =
        (Host::new(), Registry::start(false, None), Registry::start(false, None))
    else {
        return;
    };
    let (never, lies) = (Arc::default(), Arc::default());
    let (upstream, target) = (closed(&registry, "sailor", &lies), closed(&far, "cook", &never));
    let sum = registry.upload(&image(), "origins/upstream", "v1");
    let layers = image().blobs().pop().map(|blob| serde_json::from_slice::<Value>(&blob.bytes).expect("JSON"));
    let layers = layers.expect("a manifest")["layers"].clone();
    let (from, to) = (upstream.name("origins/upstream:v1"), target.name("origins/far:v1"));
    login(&host, &upstream, "sailor");
    login(&host, &target, "cook");
    host.ok(["pull", "-q", &from]);
    host.ok(["tag", &from, &to]);
    let told = host.ok(["push", &to]);
    assert_eq!(told.matches(": Pushed").count(), 3, "{told}");
    assert!(told.contains(&format!("v1: digest: {sum} size:")), "the same manifest, byte for byte: {told}");
    let other = Host::anyone();
    login(&other, &target, "cook");
    other.ok(["pull", "-q", &to]);
    assert_eq!(same(&other, &to), same(&host, &from));

    // What was built on it has its layers as they came, too.
    let dir = host.file("context/Dockerfile", format!("FROM {from}\nCOPY Dockerfile /built\n"));
    let built = far.name("origins/built:v1");
    host.ok(["build", "-q", "-t", &built, dir.parent().expect("a folder").to_str().expect("UTF-8")]);
    host.ok(["push", "-q", &built]);
    if let Some(found) = manifest(&built) {
        for at in 0..3 {
            assert_eq!(found["layers"][at]["digest"], layers[at]["digest"], "{found}");
        }
    }

    // Neither registry hears who we are at the other.
    for (front, user) in [(&upstream, "cook"), (&target, "sailor")] {
        let strange = basic(user);
        let seen = front.seen();
        assert!(seen.iter().all(|asked| asked.header("authorization") != Some(strange.as_str())), "{user}");
        assert!(seen.iter().any(|asked| asked.header("authorization").is_some()));
    }
}

#[test]
fn layers_that_are_not_to_be_had_any_more_are_packed_anew() {
    let (Some(registry), Some(far)) = (Registry::start(false, None), Registry::start(false, None)) else { return };
    let lies = Arc::default();
    let upstream = closed(&registry, "sailor", &lies);
    let sum = registry.upload(&image(), "origins/lost", "v1");
    let from = upstream.name("origins/lost:v1");
    for case in ["forbidden", "other"] {
        let Some(host) = Host::new() else { return };
        login(&host, &upstream, "sailor");
        host.ok(["pull", "-q", &from]);
        match case {
            "forbidden" => drop(host.ok(["logout", &upstream.address])),
            _ => lies.store(true, Ordering::Relaxed),
        }
        let to = far.name(&format!("origins/{case}:v1"));
        host.ok(["tag", &from, &to]);
        let told = host.ok(["push", &to]);
        assert_eq!(told.matches(": Pushed").count(), 3, "{told}");
        assert!(!told.contains(&sum), "{case}: {told}");
        let other = Host::anyone();
        other.ok(["pull", "-q", &to]);
        assert_eq!(same(&other, &to), same(&host, &from), "{case}");
        host.assert_tidy();
    }
}

#[test]
fn compressed_layers_are_kept_where_that_is_wanted() {
    let (Some(host), Some(registry), Some(far)) =
        (Host::new(), Registry::start(false, None), Registry::start(false, None))
    else {
        return;
    };
    let lies: Arc<AtomicBool> = Arc::default();
    let upstream = closed(&registry, "sailor", &lies);
    let layer = |seed| Tar::new().file("file", 0o644, noise(2_000_000, seed)).end();
    let image = Image::new(layer(7)).layer(layer(8), Packing::Zstd).config(json!({ "Cmd": ["/x"] }));
    let sum = registry.upload(&image, "origins/kept", "v1");
    let from = upstream.name("origins/kept:v1");
    login(&host, &upstream, "sailor");
    let config = host.file("daemon.json", r#"{"keep-compressed-layers": true}"#);
    let config = config.to_str().expect("UTF-8");
    let size = || host.ok(["system", "df", "--format", "{{if eq .Type \"Images\"}}{{.Size}}{{end}}"]).trim().to_owned();
    let blobs: usize = image.blobs()[..2].iter().map(|blob| blob.bytes.len()).sum();
    host.local(["pull", "-q", &from]).ok();
    assert_eq!(size(), "4MB");
    host.ok(["rmi", &from]);
    host.local(["--config", config, "pull", "-q", &from]).ok();
    let twice: f64 = size().trim_end_matches("MB").parse().expect("a size");
    assert!((twice * 1e6 - 4e6 - blobs as f64).abs() < 1e4, "{twice}, {blobs}");
    // Nothing can be had from where they came any more.
    lies.store(true, Ordering::Relaxed);
    let to = far.name("origins/kept:v1");
    host.ok(["tag", &from, &to]);
    let told = host.ok(["push", &to]);
    assert!(told.contains(&format!("v1: digest: {sum} size:")), "the same manifest, byte for byte: {told}");

    // What was damaged here is not sent.
    let found = Command::new("find", [host.root().join("layers").to_str().expect("UTF-8"), "-name", "compressed"]).ok();
    assert_eq!(found.lines().count(), 2, "{found}");
    for path in found.lines() {
        let mut bytes = fs::read(path).expect("read it");
        bytes[1_000_000] ^= 1;
        fs::write(path, bytes).expect("damage it");
    }
    let Some(other) = Registry::start(false, None) else { return };
    let again = other.name("origins/damaged:v1");
    host.ok(["tag", &from, &again]);
    host.ok(["rmi", &to]);
    far_away(&far);
    let told = host.ok(["push", &again]);
    assert!(!told.contains(&sum), "{told}");
    let third = Host::anyone();
    third.ok(["pull", "-q", &again]);
    assert_eq!(same(&third, &again), same(&host, &from));

    // They go with their layers.
    host.ok(["rmi", "--force", &host.ok(["images", "-q", &from])]);
    assert_eq!(size(), "0B");
    host.assert_tidy();
}

/// A registry that has lost its blobs.
fn far_away(registry: &Registry) {
    fs::remove_dir_all(registry.data().join("blobs")).expect("remove its blobs");
}
