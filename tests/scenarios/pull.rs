//! Images from real registries.

use crate::fixture::{Host, Image, Layout, Login, Packing, Registry, Tar, busybox_tar, digest};
use serde_json::json;
use std::fs;

fn small(text: &str) -> Vec<u8> {
    Tar::new().dir("d", 0o755).file("d/file", 0o644, text).end()
}

/// One layer's `busybox`, and one more on top.
fn on_busybox(text: &str, packing: Packing) -> Option<Image> {
    let base = fs::read(busybox_tar()?).expect("read");
    let mut image = Image::new(base).layer(small(text), packing);
    image.layers[0].1 = packing;
    Some(image)
}

#[test]
fn what_skopeo_pushed_runs() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let Some(name) = registry.busybox() else { return };
    let output = host.run(["pull", &name]);
    assert!(output.status.success(), "{output}");
    let text = output.stdout();
    assert!(text.contains("Digest: sha256:") && text.contains("Status: Downloaded newer image for"), "{text}");
    assert!(text.ends_with(&format!("{name}:latest")), "{text}");
    assert_eq!(host.ok(["run", "--rm", "--network", "none", &name, "echo", "ahoy"]), "ahoy");
    let text = host.ok(["pull", &name]);
    assert!(text.contains("Status: Image is up to date for"), "{text}");
    assert_eq!(host.ok(["pull", "-q", &name]), format!("{name}:latest"));
    host.assert_tidy();
}

#[test]
fn layers_of_every_packing() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    for packing in [Packing::Gzip, Packing::Zstd, Packing::Plain] {
        let Some(image) = on_busybox(&format!("{packing:?}"), packing) else { return };
        let repository = format!("pull/{packing:?}").to_lowercase();
        registry.upload(&image, &repository, "v1");
        let name = registry.name(&format!("{repository}:v1"));
        let seen = host.ok(["run", "--rm", "--network", "none", "--pull", "always", "-q", &name, "cat", "/d/file"]);
        assert_eq!(seen, format!("{packing:?}"));
    }
}

#[test]
fn an_index_gives_the_platform() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let of = |architecture: &str, variant: Option<&str>| {
        Image::new(small(&format!("{architecture}{}", variant.unwrap_or("")))).platform(architecture, variant)
    };
    let all = [of("arm", Some("v6")), of("amd64", None), of("arm64", Some("v8")), of("arm", Some("v7"))];
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add_index(&all, "multi");
    layout.add_index(&all[..1], "foreign");
    let Some(()) = registry.push(&layout, "multi", "pull/multi:all") else { return };
    registry.push(&layout, "foreign", "pull/multi:foreign");
    let name = registry.name("pull/multi:all");
    let architecture = |flags: &[&str]| {
        host.ok(["pull", "-q"].iter().chain(flags).copied().chain([name.as_str()]));
        host.ok(["image", "inspect", "--format", "{{.Architecture}}{{.Variant}}", &name])
    };
    let mine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64v8",
        _ => return,
    };
    assert_eq!(architecture(&[]), mine);
    assert_eq!(architecture(&["--platform", "linux/arm/v7"]), "armv7");
    assert_eq!(architecture(&["--platform", "linux/arm64"]), "arm64v8");
    // A variant takes the nearest below it.
    assert_eq!(architecture(&["--platform", "linux/arm/v8"]), "armv7");
    let text = host.refused(1, ["pull", "-q", "--platform", "linux/s390x", &name]);
    assert!(text.contains("no matching manifest for linux/s390x"), "{text}");
    let text = host.refused(1, ["pull", "-q", &registry.name("pull/multi:foreign")]);
    assert!(text.contains("no matching manifest"), "{text}");
    host.assert_tidy();
}

#[test]
fn by_digest_and_not_another() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let sum = registry.upload(&Image::new(small("by digest")), "pull/digest", "v1");
    let name = registry.name(&format!("pull/digest@{sum}"));
    host.ok(["pull", "-q", &name]);
    let digests = host.ok(["image", "inspect", "--format", "{{json .RepoDigests}}", &name]);
    assert!(digests.contains(&sum), "{digests}");
    let wrong = registry.name(&format!("pull/digest@{}", digest(b"another")));
    let text = host.refused(1, ["pull", "-q", &wrong]);
    assert!(text.contains("not found") || text.contains("unknown"), "{text}");
}

#[test]
fn a_password_is_asked_for_and_found() {
    let Some(host) = Host::new() else { return };
    let Some(registry) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let Some(name) = registry.busybox() else { return };
    let text = host.refused(1, ["pull", "-q", &name]);
    assert!(text.contains("no basic auth credentials") || text.contains("unauthorized"), "{text}");
    let login = Login::SAILOR;
    let encoded = crate::fixture::base64(format!("{}:{}", login.user, login.password).as_bytes());
    let auths = json!({ "auths": { registry.host(): { "auth": encoded } } });
    host.file("home/.docker/config.json", auths.to_string());
    host.ok(["pull", "-q", &name]);

    host.ok(["rmi", &name]);
    let helper = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {}' ] || exit 1\necho '{{\"Username\":\"{}\",\"Secret\":\"{}\"}}'\n",
        registry.host(),
        login.user,
        login.password
    );
    let path = host.program("bin/docker-credential-pier", helper);
    let with_path = format!("{}:/usr/bin:/bin", path.parent().expect("a directory").display());
    for config in [json!({ "credsStore": "pier" }), json!({ "credHelpers": { registry.host(): "pier" } })] {
        host.file("home/.docker/config.json", config.to_string());
        host.dhow(["pull", "-q", &name]).env("PATH", &with_path).ok();
        host.ok(["rmi", &name]);
    }
    let wrong = json!({ "auths": { registry.host(): { "auth": crate::fixture::base64(b"sailor:wrong") } } });
    host.file("home/.docker/config.json", wrong.to_string());
    let text = host.refused(1, ["pull", "-q", &name]);
    assert!(text.contains("unauthorized") || text.contains("401"), "{text}");
    assert!(!text.contains("wrong"), "a password is not printed: {text}");
}

#[test]
fn a_private_ca_is_trusted_where_it_is_configured() {
    let Some(host) = Host::new() else { return };
    let Some(registry) = Registry::start(true, None) else { return };
    let Some(()) = crate::fixture::need("skopeo") else { return };
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add(&Image::new(small("over TLS")), "it");
    registry.push(&layout, "it", "tls:it");
    // By name: addresses of the loopback are insecure by default, names but for localhost are not.
    let name = registry.name("tls:it");
    let ca = registry.ca();
    host.dhow(["pull", "-q", &name]).env("SSL_CERT_FILE", ca.to_str().expect("UTF-8")).ok();
    assert_eq!(host.ok(["image", "inspect", "--format", "{{len .RootFS.Layers}}", &name]), "1");
}

#[test]
fn two_images_share_what_they_have_in_common() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let (Some(one), Some(two)) = (on_busybox("one", Packing::Gzip), on_busybox("two", Packing::Gzip)) else { return };
    registry.upload(&one, "pull/share", "one");
    registry.upload(&two, "pull/share", "two");
    let (one, two) = (registry.name("pull/share:one"), registry.name("pull/share:two"));
    let layers = || fs::read_dir(host.root().join("layers")).expect("list").flatten().count();
    host.ok(["pull", "-q", &one]);
    assert_eq!(layers(), 2);
    let text = host.ok(["pull", &two]);
    assert!(text.contains("Already exists"), "{text}");
    assert_eq!(layers(), 3);
    host.ok(["rmi", &one]);
    assert_eq!(layers(), 2);
    assert_eq!(host.ok(["run", "--rm", "--network", "none", &two, "cat", "/d/file"]), "two");
    host.ok(["rmi", &two]);
    assert_eq!(layers(), 0);
}

#[test]
fn damage_is_found() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::start(false, None)) else { return };
    let image = Image::new(small("good")).layer(small("better"), Packing::Gzip);
    let blobs = image.blobs();
    registry.upload(&image, "damaged", "v1");
    let name = registry.name("damaged:v1");
    for (blob, damage) in [(0, "flip"), (1, "cut"), (1, "more"), (2, "flip")] {
        let sum = digest(&blobs[blob].bytes).replace("sha256:", "");
        let path = registry.data().join("blobs/sha256").join(&sum[..2]).join(&sum).join("data");
        let mut bytes = blobs[blob].bytes.clone();
        match damage {
            "flip" => *bytes.last_mut().expect("not empty") ^= 1,
            "cut" => bytes.truncate(bytes.len() / 2),
            _ => bytes.extend(vec![0; 5000]),
        }
        fs::write(&path, &bytes).expect("damage a blob");
        let output = host.run(["pull", "-q", &name]);
        assert_eq!(output.code(), Some(1), "{damage} of {blob}: {output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
        assert_eq!(host.ok(["images", "-q"]), "");
        host.assert_tidy();
        fs::write(&path, &blobs[blob].bytes).expect("mend it");
    }
    host.ok(["pull", "-q", &name]);
}

#[test]
fn a_manifest_may_lie() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let image = Image::new(small("honest"));
    let honest = image.blobs();
    for (repository, lie) in [("diff-id", 0), ("config", 1), ("size", 2), ("json", 3)] {
        let mut blobs = honest.clone();
        let mut manifest: serde_json::Value = serde_json::from_slice(&blobs[2].bytes).expect("JSON");
        match lie {
            0 => {
                // The layer is whole, but it is not what the config says that it unpacks to.
                let text = String::from_utf8(blobs[1].bytes.clone()).expect("UTF-8");
                blobs[1].bytes = text.replace(&digest(&image.layers[0].0), &digest(b"another")).into_bytes();
                manifest["config"] = blobs[1].descriptor();
            }
            1 => {
                blobs[1].bytes = b"this is not JSON".to_vec();
                manifest["config"] = blobs[1].descriptor();
            }
            2 => manifest["layers"][0]["size"] = json!(3),
            _ => manifest["layers"] = json!([]),
        }
        blobs[2].bytes = manifest.to_string().into_bytes();
        let repository = format!("lies/{repository}");
        registry.upload_blob(&repository, &blobs[0].bytes);
        registry.upload_blob(&repository, &blobs[1].bytes);
        registry.upload_manifest(&repository, "v1", &blobs[2]);
        let output = host.run(["pull", "-q", &registry.name(&format!("{repository}:v1"))]);
        assert_eq!((output.code(), output.stderr().lines().count()), (Some(1), 1), "{repository}: {output}");
        assert_eq!(host.ok(["images", "-q"]), "");
        host.assert_tidy();
    }
}

#[test]
fn what_is_not_there() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let Some(name) = registry.busybox() else { return };
    for (reference, words) in [
        (format!("{name}:no-such-tag"), "no-such-tag"),
        (registry.name("no/such/image"), "no/such/image"),
        ("127.0.0.1:1/closed".to_owned(), "127.0.0.1:1"),
        ("Upper/Case".to_owned(), "invalid reference format"),
        ("a b".to_owned(), "invalid reference format"),
        (String::new(), "invalid reference format"),
    ] {
        let text = host.refused(1, ["pull", "-q", &reference]);
        assert!(text.contains(words), "{reference}: {text}");
        host.assert_tidy();
    }
    let text = host.refused(125, ["run", "--rm", "--network", "none", "-q", &format!("{name}:no-such-tag")]);
    assert!(text.contains("no-such-tag"), "{text}");
}

#[test]
fn memory_is_bounded_whatever_the_size() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let mut tar = Tar::new();
    for number in 0..12 {
        tar = tar.file(&format!("zeros{number}"), 0o644, vec![0; 32 << 20]);
    }
    registry.upload(&Image::new(tar.end()), "pull/zeros", "v1");
    let name = registry.name("pull/zeros:v1");
    let mut command = host.dhow(["pull", "-q", &name]);
    use std::os::unix::process::CommandExt;
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.inner().pre_exec(|| {
            let most = libc::rlimit { rlim_cur: 400 << 20, rlim_max: 400 << 20 };
            if libc::setrlimit(libc::RLIMIT_AS, &most) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command.ok();
}
