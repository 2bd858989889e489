//! `dhow push`: images into real registries, and what other engines find there.

use crate::fixture::{
    Command, Front, Host, Image, Login, Packing, Registry, Say, Tar, busybox_tar, digest, need, noise,
};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const PASSWORD: &str = Login::SAILOR.password;

/// Puts an image that was made here, of one layer with this file, under a name.
fn make(host: &Host, name: &str, content: &[u8]) {
    let tar = Tar::new().dir("d", 0o755).file("d/file", 0o640, content).symlink("d/link", "file").end();
    let file = host.file("made.tar", tar);
    host.ok(["import", file.to_str().expect("UTF-8"), name]);
}

/// What is under a name in a registry, as skopeo reads it: digest and body of the manifest.
fn found(name: &str) -> Option<(String, Value)> {
    need("skopeo")?;
    let line = ["inspect", "--raw", "--tls-verify=false"];
    let mut command = Command::new("skopeo", line.iter().copied().chain([format!("docker://{name}").as_str()]));
    let body = {
        command.inner().env("HOME", "/nonexistent");
        command.run()
    };
    assert!(body.status.success(), "{body}");
    Some((digest(&body.out), serde_json::from_slice(&body.out).expect("JSON")))
}

/// What makes an image what it is: its id and the diff ids of its layers.
fn same(host: &Host, name: &str) -> (String, Value) {
    (host.ok(["inspect", "--format", "{{.Id}}", name]), host.inspect(name, "/RootFS/Layers"))
}

#[test]
fn what_is_pushed_is_the_same_image_elsewhere() {
    let (Some(host), Some(other), Some(registry)) = (Host::new(), Host::new(), Registry::start(false, None)) else {
        return;
    };
    let name = registry.name("push/made:v1");
    // Longer than what is sent in one request, and short.
    make(&host, "base", &noise(3_000_000, 1));
    let context = host.file("context/Dockerfile", "FROM base\nCOPY Dockerfile /again\nCMD [\"/x\"]\n");
    let context = context.parent().expect("a directory").to_str().expect("UTF-8");
    host.ok(["build", "-q", "-t", &name, context]);

    let told = host.ok(["push", &name]);
    let (sum, manifest) = match found(&name) {
        Some(found) => found,
        None => return,
    };
    let first = format!("The push refers to repository [{}]", registry.name("push/made"));
    assert!(told.starts_with(&first), "{told}");
    assert_eq!(told.matches(": Preparing").count(), 2, "{told}");
    assert_eq!(told.matches(": Pushed").count(), 2, "{told}");
    let size = serde_json::to_vec(&manifest).expect("JSON").len();
    assert!(told.ends_with(&format!("v1: digest: {sum} size: {size}")), "{told}");
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let digests = host.inspect(&name, "/RepoDigests");
    assert!(digests.to_string().contains(&sum), "{digests}");
    let events = host.ok(["events", "--since", "0", "--until", "0s", "--filter", "event=push"]);
    assert!(events.contains(&format!("image push {name} (")), "{events}");

    other.ok(["pull", "-q", &name]);
    assert_eq!(same(&host, &name), same(&other, &name));
    assert_eq!(format!("{}", manifest["config"]["digest"].as_str().unwrap_or("")), same(&host, &name).0);
    other.ok(["create", "--name", "it", &name]);
    other.ok(["cp", "it:/d/file", other.dir().join("out").to_str().expect("UTF-8")]);
    assert!(fs::read(other.dir().join("out")).expect("the file") == noise(3_000_000, 1));

    // Nothing to do: nothing is done, and the same comes of it.
    let again = host.ok(["push", &name]);
    assert_eq!(again.matches(": Layer already exists").count(), 2, "{again}");
    assert!(!again.contains(": Pushed") && again.ends_with(&format!("size: {size}")), "{again}");
    assert_eq!(host.ok(["push", "-q", &name]), name);
    host.assert_tidy();
}

#[test]
fn nothing_to_upload_uploads_nothing() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let front = Front::start(&registry, |_, _| None);
    let name = front.name("push/once:v1");
    make(&host, &name, &noise(2_000_000, 2));
    host.ok(["push", "-q", &name]);
    assert_eq!(
        (front.count("PATCH "), front.count("HEAD ")),
        (1, 1),
        "the layer as it is made; one look for the config"
    );
    let before = front.seen().len();
    host.ok(["push", "-q", &name]);
    let lines: Vec<String> = front.seen()[before..].iter().map(|asked| asked.line.clone()).collect();
    let asked: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap_or("")).collect();
    assert_eq!(asked, ["HEAD", "HEAD", "PUT"], "the layer, the config, the manifest: {lines:?}");
    // Another tag of it is as little work.
    host.ok(["tag", &name, &front.name("push/once:v2")]);
    let before = front.seen().len();
    host.ok(["push", "-q", &front.name("push/once:v2")]);
    assert_eq!(front.seen().len(), before + 3);
    // Another repository of the registry takes it over.
    host.ok(["tag", &name, &front.name("push/twice:v1")]);
    let told = host.ok(["push", &front.name("push/twice:v1")]);
    assert!(told.contains(": Mounted from push/once"), "{told}");
    assert_eq!(front.count("PATCH "), 1);
}

#[test]
fn a_pulled_image_keeps_its_digests() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let layer = |text: &str| Tar::new().file("file", 0o644, text).file(text, 0o600, "x").end();
    let mut image = Image::new(layer("one")).layer(layer("two"), Packing::Zstd).layer(layer("three"), Packing::Plain);
    image = image.config(json!({ "Cmd": ["/x"] }));
    let sum = registry.upload(&image, "push/upstream", "v1");
    let (from, to) = (registry.name("push/upstream:v1"), registry.name("push/downstream:v1"));
    host.ok(["pull", "-q", &from]);
    host.ok(["tag", &from, &to]);
    let told = host.ok(["push", &to]);
    assert_eq!(told.matches(": Mounted from push/upstream").count(), 3, "{told}");
    assert!(told.contains(&format!("v1: digest: {sum} size:")), "the same manifest, byte for byte: {told}");

    // A registry that takes nothing over gets the same blobs by way of here.
    let front = Front::start(&registry, |asked, _| asked.line.contains("mount=").then(|| Say::new(405, "")));
    let (from, to) = (front.name("push/upstream:v1"), front.name("push/through:v1"));
    host.ok(["pull", "-q", &from]);
    host.ok(["tag", &from, &to]);
    let told = host.ok(["push", &to]);
    assert_eq!(told.matches(": Pushed").count(), 3, "{told}");
    assert!(told.contains(&format!("v1: digest: {sum} size:")), "{told}");

    // Where another packing is wanted, the layers are packed anew; the image is the same.
    let (other, Some(elsewhere)) = (Host::anyone(), Registry::start(false, None)) else { return };
    let to = elsewhere.name("push/anew:v1");
    host.ok(["tag", &from, &to]);
    let told = host.ok(["push", "--compression-format", "gzip", &to]);
    assert_eq!(told.matches(": Pushed").count(), 3, "{told}");
    let Some((_, manifest)) = found(&to) else { return };
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json", "it came in this form");
    other.ok(["pull", "-q", &to]);
    assert_eq!(same(&other, &to), same(&host, &from));
}

#[test]
fn what_a_manifest_only_says_of_a_layer_is_not_passed_on() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let tar = Tar::new().file("file", 0o644, "honest").end();
    registry.upload(&Image::new(tar.clone()), "push/honest", "v1");
    let name = registry.name("push/honest:v1");
    host.ok(["pull", "-q", &name]);
    // An image with the same layer, says its config; but its manifest names another blob for it.
    let honest = Image::new(tar).config(json!({ "Labels": { "a": "b" } })).blobs();
    let lie = Packing::Gzip.pack(&Tar::new().file("file", 0o644, "a lie").end());
    let sum = registry.upload_blob("push/lie", &lie);
    registry.upload_blob("push/lie", &honest[1].bytes);
    let mut manifest: Value = serde_json::from_slice(&honest[2].bytes).expect("JSON");
    manifest["layers"][0]["digest"] = json!(sum);
    manifest["layers"][0]["size"] = json!(lie.len());
    let mut blob = honest[2].clone();
    blob.bytes = serde_json::to_vec(&manifest).expect("JSON");
    registry.upload_manifest("push/lie", "v1", &blob);
    let lying = registry.name("push/lie:v1");
    host.ok(["pull", "-q", &lying]);
    let to = registry.name("push/lie:v2");
    host.ok(["tag", &lying, &to]);
    host.ok(["push", "-q", &to]);
    let Some((_, pushed)) = found(&to) else { return };
    assert_ne!(pushed["layers"][0]["digest"], json!(sum));
    let other = Host::anyone();
    other.ok(["pull", "-q", &to]);
    assert_eq!(same(&other, &to), same(&host, &lying));
}

#[test]
fn compressions_can_be_chosen() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let name = registry.name("push/zstd:v1");
    make(&host, &name, &[7; 2_000_000]);
    host.ok(["push", "-q", "--compression-format", "zstd", &name]);
    let Some((_, manifest)) = found(&name) else { return };
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let other = Host::anyone();
    other.ok(["pull", "-q", &name]);
    assert_eq!(same(&other, &name), same(&host, &name));
    host.ok(["push", "-q", "--compression-format=gzip", &name]);
    let (_, manifest) = found(&name).expect("it was found before");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let said = host.refused(1, ["push", "--compression-format", "xz", "-q", &name]);
    assert!(said.contains("unsupported compression format \"xz\""), "{said}");
}

#[test]
fn the_same_is_packed_the_same() {
    let (Some(one), Some(two), Some(registry)) = (Host::new(), Host::new(), Registry::start(false, None)) else {
        return;
    };
    let mut sums = Vec::new();
    for (host, repository) in [(&one, "push/here:v1"), (&two, "push/there:v1")] {
        let name = registry.name(repository);
        let file = host.file("made.tar", Tar::new().file("file", 0o644, noise(1_500_000, 3)).end());
        host.ok(["import", file.to_str().expect("UTF-8"), &name]);
        host.ok(["push", "-q", &name]);
        let Some((_, manifest)) = found(&name) else { return };
        sums.push(manifest["layers"][0]["digest"].clone());
    }
    assert_eq!(sums[0], sums[1]);
}

#[test]
fn all_tags_and_those_that_are_not_there() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let name = registry.name("push/many");
    for tag in ["one", "two"] {
        make(&host, &format!("{name}:{tag}"), tag.as_bytes());
    }
    let told = host.ok(["push", "--all-tags", &name]);
    assert!(told.contains("one: digest: sha256:") && told.contains("two: digest: sha256:"), "{told}");
    let Some((one, _)) = found(&format!("{name}:one")) else { return };
    assert_ne!(one, found(&format!("{name}:two")).expect("it too").0);
    for (line, words) in [
        (vec!["push", "-a", "x:1"], "tag can't be used with --all-tags/-a"),
        (vec!["push", "-q", "no/such:here"], "An image does not exist locally with the tag: no/such"),
        (vec!["push", "-q", "-a", "no/such"], "An image does not exist locally with the tag: no/such"),
        (vec!["push", "-q", &format!("{name}@{one}")], "cannot push a digest reference"),
        (vec!["push", "-q", "--platform", "linux/s390x", &format!("{name}:one")], "(linux/s390x)"),
        (vec!["push", "-q", "Upper"], "must be lowercase"),
    ] {
        let said = host.refused(1, &line);
        assert!(said.contains(words), "{line:?}: {said}");
    }
    host.assert_tidy();
}

#[test]
fn who_may_not_push_is_told() {
    let Some(host) = Host::new() else { return };
    let Some(registry) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let name = registry.name("push/closed:v1");
    make(&host, &name, b"closed");
    let said = host.refused(1, ["push", "-q", &name]);
    assert!(said.contains("unauthorized: no basic auth credentials"), "{said}");
    let login = |word: &str| {
        let auth =
            format!("{{\"auths\":{{\"{}\":{{\"username\":\"sailor\",\"password\":\"{word}\"}}}}}}", registry.host());
        host.file("home/.docker/config.json", auth);
    };
    login("hunter2hunter2");
    let said = host.refused(1, ["push", "-q", &name]);
    assert!(said.contains("unauthorized: authentication required") && !said.contains("hunter2"), "{said}");
    login(PASSWORD);
    let pushed = host.run(["push", &name]);
    assert!(pushed.ok().contains("v1: digest: sha256:"));
    // Wherever it may have gone: what was said, and every file that is not the one it stands in.
    let secrets = [PASSWORD, "hunter2hunter2", "c2FpbG9yOmFob3kgdGhlcmU=", "c2FpbG9y"];
    let said = format!("{}{}{}", pushed.stdout(), pushed.stderr(), host.ok(["inspect", &name]));
    let said = said + &host.ok(["events", "--since", "0", "--until", "0s"]);
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} in {said}");
        let files =
            Command::new("grep", ["-rlF", "--exclude-dir=.docker", secret, host.dir().to_str().expect("UTF-8")]).run();
        assert_eq!(files.stdout(), "", "{secret}");
    }
    // A registry that takes nothing.
    let shared = Registry::shared().expect("there was one before");
    let denied = |status: u16, body: &'static str| {
        let front =
            Front::start(&shared, move |asked, _| (!asked.line.contains(" /v2/ ")).then(|| Say::new(status, body)));
        let name = front.name("push/no:v1");
        make(&host, &name, b"no");
        host.refused(1, ["push", "-q", &name])
    };
    let said = denied(403, r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#);
    assert!(said.contains("push access denied for 127.0.0.1:"), "{said}");
    assert!(said.ends_with("denied: requested access to the resource is denied"), "{said}");
    let said = denied(405, r#"{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}"#);
    assert!(said.contains("the registry takes no pushes: unsupported: The operation is unsupported."), "{said}");
}

#[test]
fn one_name_for_several_platforms() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let of = |architecture: &str| {
        let tar = Tar::new().file("file", 0o644, architecture).end();
        Image::new(tar).platform(architecture, None)
    };
    let sum = registry.upload(&of("amd64"), "push/amd", "v1");
    registry.upload(&of("arm64"), "push/all", "arm");
    let (list, amd, arm) = (registry.name("push/all:v1"), registry.name("push/amd:v1"), registry.name("push/all:arm"));
    assert_eq!(host.ok(["manifest", "create", &list, &amd]), format!("Created manifest list {list}"));
    let said = host.refused(1, ["manifest", "create", &list, &arm]);
    assert!(said.contains("refusing to amend an existing manifest list with no --amend flag"), "{said}");
    host.ok(["manifest", "create", "--amend", &list, &arm]);
    host.ok(["manifest", "annotate", "--variant", "v8", "--os-version", "6.1", "--os-features=a,b", &list, &arm]);
    let said = host.refused(1, ["manifest", "annotate", "--arch", "sparc", &list, &arm]);
    assert!(said.contains("unsupported os/arch combination: linux/sparc"), "{said}");
    let said = host.refused(1, ["manifest", "annotate", &list, &registry.name("push/none:v1")]);
    assert!(said.contains("does not exist in"), "{said}");

    let local: Value = serde_json::from_str(&host.ok(["manifest", "inspect", &list])).expect("JSON");
    let told = host.ok(["manifest", "push", "--purge", &list]);
    assert!(told.contains(&format!("Pushed ref {}@{sum}", registry.name("push/all"))), "{told}");
    let Some((pushed, manifest)) = found(&list) else { return };
    assert!(told.ends_with(&pushed), "{told}");
    assert_eq!(manifest, local);
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    let entries = manifest["manifests"].as_array().expect("a list");
    let platform = |architecture: &str| {
        entries.iter().find(|entry| entry["platform"]["architecture"] == architecture).expect("it is there")["platform"]
            .clone()
    };
    assert_eq!(platform("amd64"), json!({ "architecture": "amd64", "os": "linux" }));
    let wanted = json!({ "architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "6.1", "os.features": ["a", "b"] });
    assert_eq!(platform("arm64"), wanted);
    for (platform, architecture) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64")] {
        host.ok(["pull", "-q", "--platform", platform, &list]);
        assert_eq!(host.ok(["inspect", "--format", "{{.Architecture}}", &list]), architecture);
    }
    // It is purged here; the registry has it.
    let said = host.refused(1, ["manifest", "rm", &list]);
    assert!(said.contains("No such manifest: "), "{said}");
    let all: Value = serde_json::from_str(&host.ok(["manifest", "inspect", "-v", &list])).expect("JSON");
    assert_eq!(all[1]["Ref"].as_str().map(|name| name.contains("push/all@sha256:")), Some(true), "{all}");
    let one: Value = serde_json::from_str(&host.ok(["manifest", "inspect", &amd])).expect("JSON");
    assert_eq!(one["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    for (line, words) in [
        (vec!["manifest", "inspect", &registry.name("no/such:v1")], "no such manifest: "),
        (vec!["manifest", "create", "other.example/x:1"], "requires at least 2 arguments"),
        (vec!["manifest", "create", &registry.name("push/again:v1"), &list], "is a manifest list"),
        (vec!["manifest", "push", &list], "No such manifest"),
    ] {
        let said = host.refused(1, &line);
        assert!(said.contains(words), "{line:?}: {said}");
    }
    // What docker's own client has begun is gone on with.
    let Some(()) = need("docker") else { return };
    let docker = |args: &[&str]| {
        let command = Command::new("docker", args.iter().copied());
        command.env("HOME", host.dir().join("home").to_str().expect("UTF-8")).ok()
    };
    docker(&["manifest", "create", "--insecure", &list, &amd, &arm]);
    host.ok(["manifest", "annotate", "--variant", "v9", &list, &arm]);
    let theirs: Value = serde_json::from_str(&docker(&["manifest", "inspect", &list])).expect("JSON");
    let ours: Value = serde_json::from_str(&host.ok(["manifest", "inspect", &list])).expect("JSON");
    assert_eq!(theirs["manifests"], ours["manifests"]);
    assert!(theirs.to_string().contains("v9"), "{theirs}");
    host.ok(["manifest", "rm", &list]);
}

/// Passes on to a registry what comes, but breaks the first `times` connections that have brought `after` bytes.
fn breaking(registry: &Registry, after: usize, times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address").to_string();
    let (target, left) = (registry.host(), Arc::new(AtomicUsize::new(times)));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, left) = (TcpStream::connect(&target).expect("reach the registry"), Arc::clone(&left));
            let (mut from, mut to) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
            thread::spawn(move || {
                let (mut count, mut buffer) = (0, vec![0; 64 * 1024]);
                while let Ok(n @ 1..) = from.read(&mut buffer) {
                    count += n;
                    let breaks = count >= after
                        && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
                    if breaks || to.write_all(&buffer[..n]).is_err() {
                        let _ = from.shutdown(Shutdown::Both);
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
            let (mut from, mut to) = (server, client);
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn a_connection_that_breaks_is_made_up_for() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let content = noise(6_000_000, 4);
    let name = format!("{}/push/broken:v1", breaking(&registry, 3_000_000, 2));
    make(&host, &name, &content);
    host.ok(["push", "-q", &name]);
    let other = Host::anyone();
    other.ok(["pull", "-q", &name]);
    assert_eq!(same(&other, &name), same(&host, &name));
    // One that never stops breaking is given up, in words.
    let name = format!("{}/push/always:v1", breaking(&registry, 3_000_000, usize::MAX));
    make(&host, &name, &noise(6_000_000, 5));
    let said = host.refused(1, ["push", "-q", &name]);
    assert!(said.contains("broke off an upload 5 times"), "{said}");
    host.assert_tidy();
}

#[test]
fn a_layer_that_was_changed_is_not_pushed() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let name = registry.name("push/damaged:v1");
    make(&host, &name, &noise(2_000_000, 6));
    let layers =
        Command::new("find", [host.root().join("layers").to_str().expect("UTF-8"), "-path", "*/fs/d/file"]).ok();
    let file = layers.lines().next().expect("the file of the layer");
    let mut bytes = fs::read(file).expect("read it");
    bytes[1_000_000] ^= 1;
    fs::write(file, bytes).expect("damage it");
    let said = host.refused(1, ["push", "-q", &name]);
    assert!(said.contains("the layer is not what was unpacked"), "{said}");
    assert!(!registry.data().join("repositories/push/damaged/_manifests/tags/v1").exists());
}

#[test]
fn memory_is_bounded_whatever_the_size() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let name = registry.name("push/zeros:v1");
    let file = host.file(
        "zeros/Dockerfile",
        "FROM busybox\nRUN for n in 1 2 3 4 5 6; do dd if=/dev/zero of=/$n bs=1M count=64; done\n",
    );
    let Some(tar) = busybox_tar() else { return };
    host.ok(["import", tar.to_str().expect("UTF-8"), "busybox"]);
    host.ok([
        "build",
        "-q",
        "--network",
        "none",
        "-t",
        &name,
        file.parent().expect("a folder").to_str().expect("UTF-8"),
    ]);
    let mut command = host.dhow(["push", "-q", &name]);
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.inner().pre_exec(|| {
            let most = libc::rlimit { rlim_cur: 300 << 20, rlim_max: 300 << 20 };
            if libc::setrlimit(libc::RLIMIT_AS, &most) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command.ok();
    host.ok(["rmi", "--force", &name]);
}
