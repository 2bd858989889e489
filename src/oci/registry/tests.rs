//! The client against a server that misbehaves.

mod blobs;
mod mirrors;
mod upload;
mod who;

use super::*;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
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

/// A port where nobody listens, and that nobody else is given for as long as it is kept.
fn unused() -> (OwnedFd, std::net::SocketAddr) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
    let kept = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(kept.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address: SockaddrIn = getsockname(kept.as_raw_fd()).unwrap();
    (kept, std::net::SocketAddrV4::from(address).into())
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
    let (_kept, unused) = unused();
    let reference = Reference::parse(&format!("{unused}/x")).unwrap();
    let slow = Settings { retry_delay: Duration::from_secs(600), ..settings() };
    let error = format!("{:#}", Client::new(&reference, None, &slow).unwrap().manifest("1").unwrap_err());
    assert!(error.contains(&unused.to_string()) && error.to_lowercase().contains("connection refused"), "{error}");
}

#[test]
fn redirects_in_a_circle_end() {
    let server = Server::start(|request, _| Say::status(302).with("Location", &request.path));
    let error = format!("{:#}", server.client(None).manifest("1").unwrap_err());
    assert!(error.contains("stopped after 10 redirects"), "{error}");
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

#[test]
fn a_list_of_tags_that_never_ends_is_left() {
    let page = format!(r#"{{"tags":[{}"x"]}}"#, r#""x","#.repeat(400_000));
    let server =
        Server::start(move |request, _| Say::ok(page.clone()).with("Link", format!("<{}>; rel=next", request.path)));
    let error = server.client(None).tags().unwrap_err();
    assert!(error.to_string().contains("more than 1000000 tags"), "{error:#}");
}
