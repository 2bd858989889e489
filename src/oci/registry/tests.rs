//! The client against a server that misbehaves.

mod upload;

use super::*;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

/// What the server was asked.
#[derive(Clone, Debug, Default)]
struct Seen {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: String,
    bytes: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What the server does about it.
#[derive(Default)]
struct Say {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    cut: Option<usize>,
    /// Close it without an answer.
    nothing: bool,
}

impl Say {
    fn ok(body: impl Into<Vec<u8>>) -> Say {
        Say { status: 200, body: body.into(), ..Say::default() }
    }

    fn status(status: u16) -> Say {
        Say { status, ..Say::default() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Say {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn cut(mut self, after: usize) -> Say {
        self.cut = Some(after);
        self
    }
}

struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Serves until the test ends: `answer` gets each request, and how many came before it.
    fn start(answer: impl Fn(&Seen, usize) -> Say + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = Server { address, seen: Arc::clone(&seen) };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let _ = serve(stream.unwrap(), &*answer, &seen);
                });
            }
        });
        server
    }

    fn client(&self, credentials: Option<Credentials>) -> Client {
        Client::new(&self.reference(), credentials, &settings()).unwrap()
    }

    fn reference(&self) -> Reference {
        Reference::parse(&format!("{}/team/app:1", self.address)).unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }
}

fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Seen, usize) -> Say + Send + Sync),
    seen: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    // A TLS hello: this server speaks plain HTTP.
    if reader.fill_buf()?.first().is_none_or(|byte| !byte.is_ascii_uppercase()) {
        return Ok(());
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut request = Seen {
        method: words.next().unwrap_or("").to_owned(),
        path: words.next().unwrap_or("").to_owned(),
        ..Seen::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut stream = stream;
    let chunked = !request.header("transfer-encoding").is_empty();
    if !request.header("expect").is_empty() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if chunked {
        chunks(&mut reader, &mut request.bytes)?;
    } else {
        let length = request.header("content-length").parse().unwrap_or(0);
        request.bytes.resize(length, 0);
        reader.read_exact(&mut request.bytes)?;
    }
    request.body = String::from_utf8_lossy(&request.bytes).into_owned();
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let say = answer(&request, before);
    if say.nothing {
        return Ok(());
    }
    write!(stream, "HTTP/1.1 {} Said\r\nConnection: close\r\n", say.status)?;
    for (name, value) in &say.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    if !say.headers.iter().any(|(name, _)| name == "Content-Length") {
        write!(stream, "Content-Length: {}\r\n", say.body.len())?;
    }
    stream.write_all(b"\r\n")?;
    if request.method != "HEAD" {
        stream.write_all(&say.body[..say.cut.unwrap_or(say.body.len())])?;
    }
    Ok(())
}

/// Reads a body in chunks.
fn chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        reader.take(length).read_to_end(body)?;
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn settings() -> Settings {
    Settings { certs_dirs: Vec::new(), retry_delay: Duration::from_millis(1), ..Settings::default() }
}

/// Bytes that repeat nowhere soon.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(&mut next).take(count).collect()
}

fn read_blob(client: &Client, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let mut found = Vec::new();
    client.blob(descriptor)?.read_to_end(&mut found)?;
    Ok(found)
}

fn from_byte(request: &Seen) -> Option<usize> {
    request.header("range").strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

#[test]
fn a_manifest_by_tag_and_by_digest() {
    let digest = Digest::of(MANIFEST.as_bytes());
    let server = Server::start(move |_, _| {
        Say::ok(MANIFEST)
            .with("Content-Type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")
            .with("Docker-Content-Digest", Digest::of(MANIFEST.as_bytes()))
    });
    let client = server.client(None);
    let resolved = client.resolve("1").unwrap().unwrap();
    assert_eq!((resolved.digest, resolved.size), (digest.clone(), MANIFEST.len() as u64));
    for name in ["1", &digest.to_string()] {
        let (descriptor, body) = client.manifest(name).unwrap();
        assert_eq!(body, MANIFEST.as_bytes());
        assert_eq!(descriptor.digest, digest);
        assert_eq!(descriptor.media_type, "application/vnd.oci.image.manifest.v1+json");
    }
    let seen = server.seen();
    assert_eq!(seen[0].method, "HEAD");
    assert_eq!(seen[1].path, "/v2/team/app/manifests/1");
    for media in [
        crate::oci::image::media::OCI_INDEX,
        crate::oci::image::media::OCI_MANIFEST,
        crate::oci::image::media::DOCKER_LIST,
        crate::oci::image::media::DOCKER_MANIFEST,
    ] {
        assert!(seen[1].header("accept").split(", ").any(|one| one == media), "{media} is asked for");
    }
    assert_eq!(seen[1].header("accept-encoding"), "identity");
    assert_eq!(seen[1].header("authorization"), "");
}

#[test]
fn a_manifest_with_another_digest_is_refused() {
    let other = Digest::of(b"other");
    let claim = other.clone();
    let server = Server::start(move |_, _| Say::ok(MANIFEST).with("Docker-Content-Digest", &claim));
    for name in ["1", &other.to_string()] {
        let error = format!("{:#}", server.client(None).manifest(name).unwrap_err());
        assert!(error.contains(&format!("digest mismatch: expected {other}, got sha256:")), "{error}");
    }
    assert_eq!(server.seen().len(), 2, "another try would bring the same");
}

#[test]
fn a_manifest_without_end_is_not_read_to_its_end() {
    let server = Server::start(|_, _| Say::ok(vec![b' '; MAX_MANIFEST as usize + 1]));
    let error = format!("{:#}", server.client(None).manifest("1").unwrap_err());
    assert!(error.contains("longer than 4194304 bytes"), "{error}");
}

#[test]
fn what_a_registry_refuses_is_told_in_its_words() {
    let server = Server::start(|request, _| match request.path.rsplit('/').next().unwrap() {
        "none" => Say {
            body: br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such manifest"}]}"#.into(),
            ..Say::status(404)
        },
        "denied" => Say { body: br#"{"errors":[{"code":"DENIED","message":""}]}"#.into(), ..Say::status(403) },
        "html" => Say { body: b"<html>".into(), ..Say::status(404) },
        _ => Say::status(418),
    });
    for (tag, status, words) in [
        ("none", 404, "manifest unknown: no such manifest"),
        ("denied", 403, "denied"),
        ("html", 404, "unexpected HTTP status 404 Not Found"),
        ("tea", 418, "unexpected HTTP status 418 I'm a teapot"),
    ] {
        let error = server.client(None).manifest(tag).unwrap_err();
        let refused = error.downcast_ref::<Refused>().expect("a refusal");
        assert_eq!((refused.status, refused.to_string().as_str()), (status, words));
    }
    assert_eq!(server.seen().len(), 4, "a refusal is not asked again");
}

#[test]
fn busy_servers_are_asked_again() {
    for status in [429, 500, 502, 503, 504] {
        let server = Server::start(move |_, before| if before < 3 { Say::status(status) } else { Say::ok(MANIFEST) });
        assert_eq!(server.client(None).manifest("1").unwrap().1, MANIFEST.as_bytes(), "{status}");
        let server = Server::start(move |_, _| Say::status(status));
        let error = server.client(None).manifest("1").unwrap_err();
        assert_eq!(error.downcast_ref::<Refused>().unwrap().status, status);
        assert_eq!(server.seen().len(), 5);
    }
}

#[test]
fn a_server_that_names_a_pause_gets_it_unless_it_is_too_long() {
    let server = Server::start(|_, before| match before {
        0 => Say::status(429).with("Retry-After", "0"),
        _ => Say::ok(MANIFEST),
    });
    server.client(None).manifest("1").unwrap();
    let message = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}"#;
    let server =
        Server::start(move |_, _| Say { body: message.into(), ..Say::status(429) }.with("Retry-After", "21600"));
    let error = server.client(None).manifest("1").unwrap_err();
    assert!(format!("{error:#}").ends_with("toomanyrequests: You have reached your pull rate limit"), "{error:#}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn nobody_there_is_said_at_once() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reference = Reference::parse(&format!("{unused}/x")).unwrap();
    let slow = Settings { retry_delay: Duration::from_secs(600), ..settings() };
    let error = format!("{:#}", Client::new(&reference, None, &slow).unwrap().manifest("1").unwrap_err());
    assert!(error.contains(&unused.to_string()) && error.to_lowercase().contains("connection refused"), "{error}");
}

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
fn redirects_in_a_circle_end() {
    let server = Server::start(|request, _| Say::status(302).with("Location", &request.path));
    let error = format!("{:#}", server.client(None).manifest("1").unwrap_err());
    assert!(error.contains("stopped after 10 redirects"), "{error}");
}

/// A registry that wants a token which this same server gives: `(path, query)` of its token requests are in `seen`.
fn token_server(life: &'static str) -> Server {
    Server::start(move |request, before| {
        if request.path.starts_with("/token") {
            return Say::ok(format!(r#"{{"token":"t{before}"{life}}}"#));
        }
        let realm = format!(
            r#"Bearer realm="http://{}/token",service="the, service",scope="repository:team/app:pull""#,
            request.header("host")
        );
        match request.header("authorization").strip_prefix("Bearer t") {
            Some(_) => Say::ok(MANIFEST),
            None => Say::status(401).with("WWW-Authenticate", "Negotiate").with("WWW-Authenticate", realm),
        }
    })
}

#[test]
fn a_token_is_fetched_once_and_kept() {
    let server = token_server("");
    let client = server.client(None);
    client.manifest("1").unwrap();
    client.manifest("2").unwrap();
    assert_eq!(
        server.paths(),
        [
            "/v2/team/app/manifests/1",
            "/token?service=the%2C%20service&scope=repository%3Ateam%2Fapp%3Apull",
            "/v2/team/app/manifests/1",
            "/v2/team/app/manifests/2",
        ]
    );
    assert_eq!(server.seen()[1].header("authorization"), "", "anonymous");
}

#[test]
fn a_user_gets_a_token_by_password() {
    let server = token_server(r#","expires_in":300"#);
    let credentials = Credentials { username: "me".into(), password: "p".into(), ..Default::default() };
    server.client(Some(credentials)).manifest("1").unwrap();
    let token = &server.seen()[1];
    assert!(token.path.starts_with("/token?account=me&service="), "{}", token.path);
    assert_eq!(token.header("authorization"), "Basic bWU6cA==");
}

#[test]
fn an_identity_token_is_exchanged() {
    let server = token_server("");
    let credentials = Credentials { identity_token: "id+".into(), ..Default::default() };
    server.client(Some(credentials)).manifest("1").unwrap();
    let token = &server.seen()[1];
    assert_eq!((token.method.as_str(), token.path.as_str()), ("POST", "/token"));
    assert_eq!(
        token.body,
        "grant_type=refresh_token&refresh_token=id%2B&client_id=dhow&service=the%2C%20service&scope=repository%3Ateam%2Fapp%3Apull"
    );
}

#[test]
fn a_registry_token_is_sent_as_it_is() {
    let server = Server::start(|request, _| match request.header("authorization") {
        "Bearer mine" => Say::ok(MANIFEST),
        _ => Say::status(401).with("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/\""),
    });
    let credentials = Credentials { registry_token: "mine".into(), ..Default::default() };
    server.client(Some(credentials)).manifest("1").unwrap();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_token_that_ran_out_is_replaced_once() {
    let server = Server::start(|request, before| {
        if request.path.starts_with("/token") {
            return Say::ok(format!(r#"{{"access_token":"t{before}","expires_in":3600}}"#));
        }
        let realm = format!(r#"Bearer realm="http://{}/token""#, request.header("host"));
        // The first token dies after one use.
        match (request.header("authorization"), before) {
            ("Bearer t1", 2) | ("Bearer t4", _) => Say::ok(MANIFEST),
            _ => Say::status(401).with("WWW-Authenticate", realm),
        }
    });
    let client = server.client(None);
    client.manifest("1").unwrap();
    client.manifest("2").unwrap();
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn what_no_token_opens_stays_closed() {
    let server = Server::start(|request, _| {
        if request.path.starts_with("/token") {
            return Say::ok(r#"{"token":"t"}"#);
        }
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Say { body: body.into(), ..Say::status(401) }
            .with("WWW-Authenticate", format!(r#"Bearer realm="http://{}/token""#, request.header("host")))
    });
    let error = server.client(None).manifest("1").unwrap_err();
    assert_eq!(error.downcast_ref::<Refused>().unwrap().to_string(), "unauthorized: authentication required");
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_wrong_password_is_said_by_the_token_server() {
    let server = Server::start(|request, _| {
        if request.path.starts_with("/token") {
            return Say { body: br#"{"details":"incorrect username or password"}"#.into(), ..Say::status(401) };
        }
        Say::status(401).with("WWW-Authenticate", format!(r#"Bearer realm="http://{}/token""#, request.header("host")))
    });
    let error = server.client(None).manifest("1").unwrap_err();
    assert!(format!("{error:#}").ends_with("incorrect username or password"), "{error:#}");
}

#[test]
fn basic_is_sent_when_asked_for_and_from_then_on() {
    let server = Server::start(|request, _| match request.header("authorization") {
        "Basic dTpw" => Say::ok(MANIFEST),
        _ => Say::status(401).with("WWW-Authenticate", r#"Basic realm="a, b""#),
    });
    let credentials = Credentials { username: "u".into(), password: "p".into(), ..Default::default() };
    let client = server.client(Some(credentials));
    client.manifest("1").unwrap();
    client.manifest("2").unwrap();
    assert_eq!(server.seen().len(), 3);
    let error = server.client(None).manifest("1").unwrap_err();
    assert!(format!("{error:#}").ends_with("no basic auth credentials"), "{error:#}");
    let wrong = Credentials { username: "u".into(), password: "x".into(), ..Default::default() };
    let error = server.client(Some(wrong)).manifest("1").unwrap_err();
    assert_eq!(error.downcast_ref::<Refused>().unwrap().status, 401);
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn tags_come_in_pages() {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/v2/team/app/tags/list?n=1000" => {
            Say::ok(r#"{"tags":["a","b"]}"#).with("Link", r#"</v2/team/app/tags/list?last=b&n=1000>; rel="next""#)
        }
        "/v2/team/app/tags/list?last=b&n=1000" => Say::ok(r#"{"tags":["c"]}"#),
        _ => Say::status(404),
    });
    assert_eq!(server.client(None).tags().unwrap(), ["a", "b", "c"]);
    let endless =
        Server::start(|request, _| Say::ok(r#"{"tags":null}"#).with("Link", format!("<{}>; rel=next", request.path)));
    assert!(endless.client(None).tags().unwrap().is_empty());
}

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
    let unused = Server {
        address: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string(),
        seen: Arc::default(),
    };
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
fn a_login_is_tried_on_the_registry_itself() {
    let server = Server::start(|request, _| match (request.path.as_str(), request.header("authorization")) {
        ("/v2/", "Basic dTpw") => Say::ok("{}"),
        ("/v2/", _) => Say::status(401).with("WWW-Authenticate", "Basic realm=x"),
        _ => Say::status(404),
    });
    let pair = |password: &str| Credentials { username: "u".into(), password: password.into(), ..Default::default() };
    for spelt in [server.address.clone(), format!("http://{}/v1/", server.address)] {
        assert_eq!(login(&spelt, pair("p"), &settings()).unwrap(), "");
        let refused = login(&spelt, pair("wrong"), &settings()).unwrap_err();
        assert_eq!(refused.downcast_ref::<Refused>().map(|refused| refused.status), Some(401));
    }
    for hub in ["", "docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
        assert_eq!(host(hub), HUB);
    }
}

#[test]
fn a_login_may_give_an_identity_token() {
    let server = token_server(r#","refresh_token":"lasting""#);
    let pair = Credentials { username: "u".into(), password: "p".into(), ..Default::default() };
    assert_eq!(login(&server.address, pair, &settings()).unwrap(), "lasting");
    let asked = &server.seen()[1].path;
    assert!(asked.contains("account=u&client_id=dhow&offline_token=true"), "{asked}");
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

#[test]
fn a_list_of_tags_that_never_ends_is_left() {
    let page = format!(r#"{{"tags":[{}"x"]}}"#, r#""x","#.repeat(400_000));
    let server =
        Server::start(move |request, _| Say::ok(page.clone()).with("Link", format!("<{}>; rel=next", request.path)));
    let error = server.client(None).tags().unwrap_err();
    assert!(error.to_string().contains("more than 1000000 tags"), "{error:#}");
}
