//! Who is asked: mirrors, Docker Hub, registries that may be insecure.

use super::*;

/// A client that asks the mirror first, as for Docker Hub.
fn mirrored(mirror: &Server, registry: &Server) -> Client {
    let mut client = registry.client(None);
    let url = format!("http://{}/", mirror.address);
    client.endpoints.insert(0, Endpoint::mirror(&url, &settings(), &client.cancelled).unwrap());
    client
}

#[test]
fn a_mirror_is_asked_first_and_passed_over_when_it_fails() {
    let blob = bytes(1000);
    let descriptor = Descriptor::of("x", &blob);
    let body = blob.clone();
    let registry = Server::start(move |request, _| match from_byte(request) {
        Some(from) => {
            Say { status: 206, ..Say::ok(&body[from..]) }.with("Content-Range", format!("bytes {from}-999/1000"))
        }
        None if request.path.contains("/blobs/") => Say::ok(body.clone()),
        None => Say::ok(MANIFEST),
    });
    let has = Server::start(|_, _| Say::ok(MANIFEST));
    mirrored(&has, &registry).manifest("1").unwrap();
    assert_eq!((has.seen().len(), registry.seen().len()), (1, 0));

    let has_not = Server::start(|_, _| Say::status(404));
    let broken = Server::start(|_, _| Say::status(500));
    for mirror in [&has_not, &broken] {
        mirrored(mirror, &registry).manifest("1").unwrap();
        assert_eq!(mirror.seen().len(), 1, "a mirror is tried once");
    }
    let (_kept, address) = unused();
    let unused = Server { address: address.to_string(), seen: Arc::default() };
    assert_eq!(read_blob(&mirrored(&unused, &registry), &descriptor).unwrap(), blob);
    let partial = blob.clone();
    let cuts = Server::start(move |_, _| Say::ok(partial.clone()).cut(300));
    assert_eq!(read_blob(&mirrored(&cuts, &registry), &descriptor).unwrap(), blob);
    assert_eq!(registry.seen().last().unwrap().header("range"), "bytes=300-", "the rest comes from the registry");
}

#[test]
fn a_mirror_that_lies_is_asked_no_more() {
    let blob = bytes(1000);
    let descriptor = Descriptor::of("x", &blob);
    let body = blob.clone();
    let registry =
        Server::start(
            move |request, _| {
                if request.path.contains("/blobs/") { Say::ok(body.clone()) } else { Say::ok(MANIFEST) }
            },
        );
    // One that is longer than it should be is refused before it is read, and has not yet been believed.
    for (lie, asked) in [(vec![7; 999], 1), (vec![7; 1000], 1), (bytes(2000), 2)] {
        let told = lie.clone();
        let liar = Server::start(move |_, _| Say::ok(told.clone()));
        let client = mirrored(&liar, &registry);
        assert_eq!(client.blob_bytes(&descriptor, 4096).unwrap(), blob);
        client.manifest("1").unwrap();
        assert_eq!(liar.seen().len(), asked, "{} bytes", lie.len());
        assert_eq!(client.distrust_mirrors(), asked > 1);
    }
    // What the registry itself says wrong is wrong.
    let wrong = Descriptor::of("x", b"other");
    assert!(registry.client(None).blob_bytes(&Descriptor { size: 1000, ..wrong }, 4096).is_err());
}

#[test]
fn docker_hub_is_where_short_names_lead_and_mirrors_serve_only_it() {
    let with_mirror = Settings { mirrors: vec!["https://mirror.example/".into()], ..settings() };
    let hosts = |name: &str| {
        let client = Client::new(&Reference::parse(name).unwrap(), None, &with_mirror).unwrap();
        client.endpoints.iter().map(|endpoint| endpoint.host().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(hosts("busybox"), ["mirror.example", HUB]);
    assert_eq!(hosts("ghcr.io/a/b"), ["ghcr.io"]);
    for bad in ["mirror.example", "ftp://mirror.example", "https://", "not a url"] {
        let bad = Settings { mirrors: vec![bad.into()], ..settings() };
        assert!(Client::new(&Reference::parse("busybox").unwrap(), None, &bad).is_err(), "{:?}", bad.mirrors);
    }
}

#[test]
fn who_may_be_insecure() {
    let settings = Settings {
        insecure_registries: vec!["reg.example:5000".into(), "whole.example".into(), "10.1.0.0/16".into()],
        ..settings()
    };
    for (host, insecure) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.3.2.1:5000", true),
        ("[::1]:5000", true),
        ("reg.example:5000", true),
        ("REG.example:5000", true),
        ("reg.example", false),
        ("reg.example:5001", false),
        ("whole.example:1234", true),
        ("10.1.2.3:5000", true),
        ("10.2.0.1", false),
        ("[fd00::1]:5000", false),
    ] {
        assert_eq!(settings.is_insecure(host), insecure, "{host}");
    }
}
