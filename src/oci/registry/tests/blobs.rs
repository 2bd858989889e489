//! Layers, and other files, that come as they should or not.

use super::*;

#[test]
fn a_cut_blob_is_resumed_where_it_was_cut() {
    let blob = bytes(300_000);
    let descriptor = Descriptor::of("x", &blob);
    let body = blob.clone();
    let server = Server::start(move |request, _| {
        let from = from_byte(request).unwrap_or(0);
        let rest = body[from..].to_vec();
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        let say =
            if from == 0 { Say::ok(rest) } else { Say { status: 206, ..Say::ok(rest) }.with("Content-Range", range) };
        if from < 200_000 { say.cut(100_000) } else { say }
    });
    assert_eq!(read_blob(&server.client(None), &descriptor).unwrap(), blob);
    let ranges: Vec<_> = server.seen().iter().map(|request| request.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=100000-", "bytes=200000-"]);
}

#[test]
fn a_server_without_ranges_is_resumed_too() {
    let blob = bytes(100_000);
    let descriptor = Descriptor::of("x", &blob);
    let body = blob.clone();
    // Cut, cut further on, cut on the way to where it stood, and whole.
    let server = Server::start(move |_, before| Say::ok(body.clone()).cut([40_000, 80_000, 60_000, 100_000][before]));
    assert_eq!(read_blob(&server.client(None), &descriptor).unwrap(), blob);
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_blob_that_stays_short_is_given_up() {
    let blob = bytes(1000);
    let descriptor = Descriptor::of("x", &blob);
    let server = Server::start(move |request, _| match from_byte(request) {
        None => Say::ok(&blob[..500]),
        Some(_) => Say { status: 206, ..Say::default() }.with("Content-Range", "bytes 500-499/500"),
    });
    let error = format!("{:#}", read_blob(&server.client(None), &descriptor).unwrap_err());
    assert!(error.contains("the connection ended after 500 of 1000 bytes"), "{error}");
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn a_blob_longer_than_said_is_refused() {
    let descriptor = Descriptor::of("x", &bytes(1000));
    let server = Server::start(|_, _| Say::ok(bytes(1001)));
    let error = format!("{:#}", read_blob(&server.client(None), &descriptor).unwrap_err());
    assert!(error.contains("longer than the 1000 bytes that its manifest says"), "{error}");
}

#[test]
fn a_wrong_range_is_not_taken_for_the_right_one() {
    let blob = bytes(1000);
    let descriptor = Descriptor::of("x", &blob);
    let server = Server::start(move |request, _| match from_byte(request) {
        None => Say::ok(blob.clone()).cut(500),
        Some(_) => Say { status: 206, ..Say::ok(&blob[600..]) }.with("Content-Range", "bytes 600-999/1000"),
    });
    let error = format!("{:#}", read_blob(&server.client(None), &descriptor).unwrap_err());
    assert!(error.contains("asked for byte 500, got 600"), "{error}");
}

#[test]
fn blobs_are_followed_to_other_hosts_without_authorization() {
    let blob = bytes(1000);
    let descriptor = Descriptor::of("x", &blob);
    let elsewhere = Arc::new(Server::start(move |_, _| Say::ok(blob.clone())));
    let target = format!("http://{}/bucket/x?signature=a%2Fb", elsewhere.address);
    let server = Server::start(move |request, before| {
        if request.header("authorization").is_empty() {
            return Say::status(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if before == 1 {
            Say::status(307).with("Location", "/v2/hop")
        } else {
            Say::status(302).with("Location", &target)
        }
    });
    let credentials = Credentials { username: "u".into(), password: "p".into(), ..Default::default() };
    assert_eq!(read_blob(&server.client(Some(credentials)), &descriptor).unwrap().len(), 1000);
    assert_eq!(server.seen()[2].path, "/v2/hop");
    assert_eq!(server.seen()[2].header("authorization"), "Basic dTpw", "the same host keeps it");
    let there = elsewhere.seen();
    assert_eq!((there.len(), there[0].path.as_str()), (1, "/bucket/x?signature=a%2Fb"));
    assert_eq!(there[0].header("authorization"), "", "another host never sees it");
}

#[test]
fn a_cancelled_client_reads_no_further() {
    let descriptor = Descriptor::of("x", &bytes(1000));
    let server = Server::start(|_, _| Say::ok(bytes(1000)));
    let client = server.client(None);
    let mut blob = client.blob(&descriptor).unwrap();
    blob.read_exact(&mut [0; 10]).unwrap();
    client.cancel();
    assert_eq!(blob.read(&mut [0; 10]).unwrap_err().to_string(), "called off");
}

#[test]
fn layers_that_live_elsewhere_are_fetched_there() {
    let blob = bytes(1000);
    let body = blob.clone();
    let elsewhere = Server::start(move |_, _| Say::ok(body.clone()));
    let server = Server::start(|_, _| Say::status(404));
    let urls = Some(vec!["file:///etc/passwd".to_owned(), format!("http://{}/layer", elsewhere.address)]);
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let descriptor = Descriptor { urls, ..Descriptor::of(foreign, &blob) };
    assert_eq!(read_blob(&server.client(None), &descriptor).unwrap(), blob);
    assert_eq!(elsewhere.paths(), ["/layer"]);
    // Any other layer has no say in whom we ask.
    let plain = Descriptor { media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(), ..descriptor };
    assert!(read_blob(&server.client(None), &plain).is_err());
    assert_eq!(elsewhere.seen().len(), 1);
}

#[test]
fn a_file_is_fetched_up_to_its_limit() {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/file" => Say::ok("content"),
        "/moved" => Say::status(302).with("Location", "/file"),
        _ => Say::status(404),
    });
    let get = |path: &str, most| -> Result<String> {
        let (mut body, length) = download(&format!("http://{}{path}", server.address), most, &settings())?;
        let mut text = String::new();
        body.read_to_string(&mut text)?;
        assert_eq!(length.length, Some(7));
        Ok(text)
    };
    assert_eq!(get("/file", 7).unwrap(), "content");
    assert_eq!(get("/moved", 100).unwrap(), "content");
    assert!(get("/file", 6).unwrap_err().to_string().contains("longer than the 6 bytes"));
    assert_eq!(get("/none", 100).unwrap_err().downcast_ref::<Refused>().map(|refused| refused.status), Some(404));
    for bad in ["ftp://x/y", "/etc/passwd", "http://", "not a url"] {
        assert!(download(bad, 1, &settings()).is_err(), "{bad}");
    }
}
