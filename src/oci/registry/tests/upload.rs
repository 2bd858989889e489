//! Pushes into a server that misbehaves.

use super::*;
use crate::oci::digest::Digest;
use std::sync::atomic::AtomicUsize;

/// A registry that keeps what it gets, as `misbehave` lets it: `None` is what a good one does.
struct Harbour {
    server: Server,
    blobs: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

/// What happens to one request before the registry sees it, with the bytes that it has of the upload so far.
type Misbehave = dyn Fn(&Seen, usize, &mut Vec<u8>) -> Option<Say> + Send + Sync;

impl Harbour {
    fn start(misbehave: impl Fn(&Seen, usize, &mut Vec<u8>) -> Option<Say> + Send + Sync + 'static) -> Harbour {
        let blobs: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
        let (kept, begun) = (Arc::clone(&blobs), Mutex::new(Vec::new()));
        let misbehave: Box<Misbehave> = Box::new(misbehave);
        let server = Server::start(move |seen, before| {
            let mut begun = begun.lock().unwrap();
            if let Some(say) = misbehave(seen, before, &mut begun) {
                return say;
            }
            let place = "/v2/team/app/blobs/uploads/1?state=a%2Fb";
            match (seen.method.as_str(), seen.path.split_once("digest=")) {
                ("HEAD", _) => {
                    let digest = seen.path.rsplit('/').next().unwrap();
                    Say::status(if kept.lock().unwrap().contains_key(digest) { 200 } else { 404 })
                }
                ("POST", _) => {
                    begun.clear();
                    Say::status(202).with("Location", place)
                }
                ("PATCH", _) => {
                    begun.extend(&seen.bytes);
                    Say::status(202).with("Location", place).with("Range", format!("0-{}", begun.len() - 1))
                }
                ("GET", _) => Say::status(204).with("Range", format!("0-{}", begun.len().max(1) - 1)),
                ("PUT", Some((_, digest))) => {
                    begun.extend(&seen.bytes);
                    if Digest::of(&begun).to_string() != digest {
                        let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":"not what was said"}]}"#;
                        return Say { body: body.into(), ..Say::status(400) };
                    }
                    kept.lock().unwrap().insert(digest.to_owned(), std::mem::take(&mut begun));
                    Say::status(201)
                }
                ("PUT", None) => Say::status(201).with("Docker-Content-Digest", Digest::of(&seen.bytes)),
                _ => Say::status(405),
            }
        });
        Harbour { server, blobs }
    }

    fn pusher(&self, credentials: Option<Credentials>) -> Pusher {
        Pusher::new(&self.server.reference(), credentials, &settings()).unwrap()
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.blobs.lock().unwrap().get(&Digest::of(bytes).to_string()).is_some_and(|kept| kept == bytes)
    }

    /// How often it was asked so.
    fn count(&self, method: &str) -> usize {
        self.server.seen().iter().filter(|seen| seen.method == method).count()
    }
}

/// Bytes that are made anew each time, and counted.
struct Bytes {
    bytes: Vec<u8>,
    made: AtomicUsize,
}

impl Content for Bytes {
    fn make(&self, consume: &mut dyn FnMut(&mut dyn Read) -> Result<Sent>) -> Result<Result<Sent>> {
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(consume(&mut &self.bytes[..]))
    }
}

fn content(count: usize) -> Bytes {
    Bytes { bytes: bytes(count), made: AtomicUsize::new(0) }
}

const LONG: usize = 3_000_000;

fn cut() -> Say {
    Say { nothing: true, ..Say::default() }
}

#[test]
fn short_and_long_blobs_arrive() {
    let harbour = Harbour::start(|_, _, _| None);
    let pusher = harbour.pusher(None);
    for (count, patches) in [(0, 0), (1, 0), (1024 * 1024, 0), (1024 * 1024 + 1, 1), (LONG, 2)] {
        let content = content(count);
        let sent = pusher.upload(&content, None).unwrap();
        assert_eq!((sent.size, sent.known, &sent.digest), (count as u64, false, &Digest::of(&content.bytes)));
        assert!(harbour.has(&content.bytes), "{count}");
        assert_eq!(harbour.count("PATCH"), patches, "{count}");
    }
    let put = harbour.server.seen().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert!(put.path.starts_with("/v2/team/app/blobs/uploads/1?state=a%2Fb&digest=sha256:"), "{}", put.path);
    // A short one is looked for before it is sent.
    assert!(pusher.upload(&content(1), None).unwrap().known);
    assert!(pusher.put(&bytes(1)).unwrap().known);
    let manifest = pusher.manifest("v1", "a/b", b"{}").unwrap();
    assert_eq!(manifest, Digest::of(b"{}"));
    let last = harbour.server.seen().pop().unwrap();
    assert_eq!(
        (last.path.as_str(), last.header("content-type"), &last.body[..]),
        ("/v2/team/app/manifests/v1", "a/b", "{}")
    );
}

#[test]
fn a_cut_upload_goes_on_where_it_stands() {
    let harbour = Harbour::start(|seen, _, begun| {
        // Half of it arrives, the answer does not.
        (seen.method == "PATCH" && begun.is_empty()).then(|| {
            begun.extend(&seen.bytes[..LONG / 2]);
            cut()
        })
    });
    let content = content(LONG);
    harbour.pusher(None).upload(&content, None).unwrap();
    assert!(harbour.has(&content.bytes));
    assert_eq!((harbour.count("POST"), harbour.count("GET"), harbour.count("PATCH")), (1, 1, 2));
    let patches: Vec<usize> =
        harbour.server.seen().iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.bytes.len()).collect();
    assert_eq!(patches, [LONG, LONG - LONG / 2], "only the rest is sent again");
}

#[test]
fn an_answer_that_is_lost_is_no_upload_that_is_lost() {
    // All has arrived, but not the word of it; or it was even committed.
    for method in ["PATCH", "PUT"] {
        let (done, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, kept) = (Arc::clone(&done), Arc::clone(&lost));
        let harbour = Harbour::start(move |seen, _, begun| {
            if seen.method == "PUT" && method == "PUT" && counted.fetch_add(1, Ordering::Relaxed) == 0 {
                *kept.lock().unwrap() = std::mem::take(begun);
                return Some(cut());
            }
            if seen.method == "HEAD" && !kept.lock().unwrap().is_empty() {
                return Some(Say::status(200));
            }
            if seen.method == "PUT" && !kept.lock().unwrap().is_empty() {
                let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown"}]}"#;
                return Some(Say { body: body.into(), ..Say::status(404) });
            }
            (seen.method == "PATCH" && method == "PATCH" && begun.is_empty()).then(|| {
                begun.extend(&seen.bytes);
                cut()
            })
        });
        let content = content(LONG);
        harbour.pusher(None).upload(&content, None).unwrap();
        assert!(harbour.has(&content.bytes) || *lost.lock().unwrap() == content.bytes, "{method}");
        let sent: usize = harbour.server.seen().iter().map(|seen| seen.bytes.len()).sum();
        assert_eq!(sent, LONG, "{method}: nothing is sent twice");
    }
}

#[test]
fn ranges_that_lie_lead_to_a_new_start_and_to_an_end() {
    // It has more than it was sent; it has lost all; it says nothing that makes sense.
    for range in ["0-99999999", "0-0", "7-20", "sheep", "0-18446744073709551615"] {
        let harbour = Harbour::start(move |seen, before, _| match seen.method.as_str() {
            "PATCH" if before < 2 => Some(cut()),
            "GET" => Some(Say::status(204).with("Range", range)),
            _ => None,
        });
        let content = content(LONG);
        harbour.pusher(None).upload(&content, None).unwrap();
        assert!(harbour.has(&content.bytes), "{range}");
        assert_eq!(harbour.count("POST"), 2, "{range}");
    }
    // It never has more than it had, whatever it gets.
    for range in ["0-1000000", "0-99999999", "0-0"] {
        let harbour = Harbour::start(move |seen, _, _| match seen.method.as_str() {
            "PATCH" => Some(Say::status(202).with("Range", range)),
            "GET" => Some(Say::status(204).with("Range", range)),
            _ => None,
        });
        let content = content(LONG);
        let error = format!("{:#}", harbour.pusher(None).upload(&content, None).unwrap_err());
        assert!(error.contains("broke off an upload 5 times: the registry took"), "{error}");
        assert_eq!(content.made.load(Ordering::Relaxed), 5, "{range}");
    }
}

#[test]
fn who_never_takes_it_is_left() {
    for (status, tries) in [(500, 5), (503, 5), (429, 5), (413, 1), (403, 1), (400, 1)] {
        let harbour = Harbour::start(move |seen, _, _| (seen.method == "PATCH").then(|| Say::status(status)));
        let error = harbour.pusher(None).upload(&content(LONG), None).unwrap_err();
        assert_eq!(error.downcast_ref::<Refused>().unwrap().status, status);
        assert_eq!(harbour.count("PATCH"), tries, "{status}");
    }
    let harbour = Harbour::start(|seen, _, _| (seen.method == "PATCH").then(cut));
    let error = format!("{:#}", harbour.pusher(None).upload(&content(LONG), None).unwrap_err());
    assert!(error.contains(&format!("{} broke off an upload 5 times", harbour.server.address)), "{error}");
    assert!(!error.contains("state="), "what follows the path may be a secret: {error}");
    let harbour =
        Harbour::start(|seen, _, _| (seen.method == "POST").then(|| Say::status(429).with("Retry-After", "21600")));
    harbour.pusher(None).upload(&content(LONG), None).unwrap_err();
    assert_eq!(harbour.count("POST"), 1, "a pause of hours is a no");
    // Once, that is; then it does.
    for status in [500, 429, 404, 416] {
        let harbour =
            Harbour::start(move |seen, before, _| (seen.method == "PATCH" && before < 2).then(|| Say::status(status)));
        let content = content(LONG);
        harbour.pusher(None).upload(&content, None).unwrap();
        assert!(harbour.has(&content.bytes), "{status}");
    }
}

#[test]
fn what_it_has_taken_for_something_else_is_told() {
    let harbour = Harbour::start(|seen, _, begun| {
        if seen.method == "PUT" && seen.path.contains("digest=") {
            begun.push(0);
        }
        None
    });
    let error = format!("{:#}", harbour.pusher(None).upload(&content(LONG), None).unwrap_err());
    assert!(error.contains("digest invalid: not what was said"), "{error}");
    assert_eq!(harbour.count("PATCH"), 1);
    let other = Digest::of(b"another");
    let harbour = Harbour::start(move |seen, _, _| {
        (seen.method == "PUT").then(|| Say::status(201).with("Docker-Content-Digest", &other))
    });
    let error = format!("{:#}", harbour.pusher(None).manifest("v1", "a/b", b"{}").unwrap_err());
    assert!(error.contains("says that it took the manifest sha256:"), "{error}");
}

#[test]
fn a_registry_that_says_no_place_is_no_registry() {
    for location in [None, Some("http://")] {
        let harbour = Harbour::start(move |seen, _, _| {
            (seen.method == "POST").then(|| match location {
                Some(location) => Say::status(202).with("Location", location),
                None => Say::status(202),
            })
        });
        harbour.pusher(None).upload(&content(LONG), None).unwrap_err();
        assert_eq!(harbour.count("POST"), 1);
    }
}

fn sailor() -> Credentials {
    Credentials { username: "sailor".into(), password: "hunter2".into(), ..Credentials::default() }
}

/// Asks for Basic authentication.
fn closed(seen: &Seen) -> Option<Say> {
    let realm = "Basic realm=\"harbour\"";
    (seen.header("authorization").is_empty()).then(|| Say::status(401).with("WWW-Authenticate", realm))
}

#[test]
fn credentials_stay_with_the_registry_wherever_bytes_go() {
    // A place elsewhere, as registries that keep blobs with others name; one that asks who we are, and whether it may
    // learn it from a server of its own.
    let thief = Server::start(|_, _| Say::ok(r#"{"token":"t"}"#));
    let realm = format!("http://{}/token", thief.address);
    let curious = Server::start(move |seen, _| match seen.method.as_str() {
        "PATCH" | "PUT" if seen.path.contains("curious") => Say::status(401)
            .with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"x\""))
            .with("WWW-Authenticate", "Basic realm=\"x\""),
        _ => Say::status(202),
    });
    for (path, taken) in [("plain?sig=a%2Bb", true), ("curious", false)] {
        let to = format!("http://{}/{path}", curious.address);
        let harbour = Harbour::start(move |seen, _, _| {
            closed(seen).or_else(|| (seen.method == "POST").then(|| Say::status(202).with("Location", &to)))
        });
        let uploaded = harbour.pusher(Some(sailor())).upload(&content(LONG), None);
        assert_eq!(uploaded.is_ok(), taken, "{path}: {uploaded:?}");
    }
    let seen = curious.seen();
    assert!(seen.iter().any(|seen| seen.path.starts_with("/plain?sig=a%2Bb&digest=sha256:")), "{:?}", curious.paths());
    for seen in seen {
        assert_eq!(seen.header("authorization"), "", "{} {}", seen.method, seen.path);
    }
    assert!(thief.seen().is_empty());
}

#[test]
fn a_redirected_upload_is_followed_before_it_flows() {
    let store = Server::start(|_, _| Say::status(202));
    let to = format!("http://{}/kept", store.address);
    let harbour = Harbour::start(move |seen, _, _| {
        closed(seen).or_else(|| (seen.method == "PUT").then(|| Say::status(307).with("Location", &to)))
    });
    harbour.pusher(Some(sailor())).upload(&content(100), None).unwrap();
    let seen = store.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].bytes.len(), seen[0].header("authorization")), ("PUT", 100, ""));
    // In circles it is followed so far, and no further.
    let harbour = Harbour::start(|seen, _, _| {
        (seen.method == "PUT").then(|| Say::status(307).with("Location", seen.path.clone()))
    });
    let error = format!("{:#}", harbour.pusher(None).upload(&content(100), None).unwrap_err());
    assert!(error.contains("stopped after 10 redirects"), "{error}");
}

/// As where a proxy has taken all of it before the registry is asked.
#[test]
fn an_upload_that_is_redirected_when_it_has_flowed_flows_again() {
    let store = Server::start(|_, _| Say::status(202));
    let to = format!("http://{}/kept", store.address);
    let harbour = Harbour::start(move |seen, _, _| {
        closed(seen).or_else(|| match seen.method.as_str() {
            "PATCH" => Some(Say::status(307).with("Location", &to)),
            "PUT" => Some(Say::status(201)),
            _ => None,
        })
    });
    harbour.pusher(Some(sailor())).upload(&content(LONG), None).unwrap();
    let seen = store.seen();
    let came: Vec<_> = seen.iter().map(|it| (it.method.as_str(), it.bytes.len(), it.header("authorization"))).collect();
    assert_eq!(came, [("PATCH", LONG, "")]);
    assert_eq!((harbour.count("PATCH"), harbour.count("PUT"), harbour.count("GET")), (1, 1, 0));
    // In circles it is not followed for ever.
    let harbour = Harbour::start(|seen, _, _| {
        (seen.method == "PATCH").then(|| Say::status(308).with("Location", seen.path.clone()))
    });
    let error = format!("{:#}", harbour.pusher(None).upload(&content(LONG), None).unwrap_err());
    assert!(error.contains("broke off an upload 5 times") && error.contains("redirected to"), "{error}");
}

#[test]
fn a_registry_may_know_no_head_and_say_nothing_of_its_uploads() {
    for status in [404, 405, 501] {
        let harbour = Harbour::start(move |seen, _, begun| match seen.method.as_str() {
            "HEAD" => Some(Say::status(status)),
            "PATCH" => {
                begun.extend(&seen.bytes);
                Some(Say::status(204))
            }
            _ => None,
        });
        for count in [1, LONG] {
            let content = content(count);
            assert!(!harbour.pusher(None).upload(&content, None).unwrap().known);
            assert!(harbour.has(&content.bytes), "{status}: {count}");
        }
        assert!(!harbour.pusher(None).put(&bytes(3)).unwrap().known);
    }
}

#[test]
fn a_token_that_runs_out_is_fetched_again() {
    let (given, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&given);
    let tokens = Server::start(move |_, _| {
        Say::ok(format!(r#"{{"token":"t{}","expires_in":300}}"#, counted.fetch_add(1, Ordering::Relaxed)))
    });
    let realm = format!("http://{}/token", tokens.address);
    // Each token is good for three requests.
    let uses = Arc::clone(&taken);
    let harbour = Harbour::start(move |seen, _, _| {
        let nth: Option<usize> = seen.header("authorization").strip_prefix("Bearer t").and_then(|n| n.parse().ok());
        let good = nth == Some(uses.load(Ordering::Relaxed) / 3);
        if good {
            uses.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Say::status(401).with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"x\"")))
    });
    let pusher = harbour.pusher(Some(sailor()));
    for seed in 0..4 {
        let content = content(LONG + seed);
        pusher.upload(&content, None).unwrap();
        assert!(harbour.has(&content.bytes));
    }
    let asked = tokens.seen();
    assert!(given.load(Ordering::Relaxed) >= 4, "{}", asked.len());
    assert!(asked[0].path.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush"), "{}", asked[0].path);
    for seen in harbour.server.seen() {
        assert!(!seen.header("authorization").contains("Basic"), "a password goes to the token server only");
    }
}

#[test]
fn a_mount_asks_for_both_repositories() {
    let tokens = Server::start(|_, _| Say::ok(r#"{"token":"t","expires_in":300}"#));
    let realm = format!("http://{}/token", tokens.address);
    let harbour = Harbour::start(move |seen, _, _| {
        if seen.header("authorization").is_empty() {
            return Some(Say::status(401).with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"x\"")));
        }
        match seen.path.as_str() {
            path if path.contains("from=other%2Fone") => Some(Say::status(201)),
            path if path.contains("from=closed") => Some(Say::status(403)),
            _ => None,
        }
    });
    let pusher = harbour.pusher(None);
    let digest = Digest::of(b"x");
    assert!(matches!(pusher.mount(&digest, "other/one").unwrap(), Mount::Mounted));
    assert!(matches!(pusher.mount(&digest, "closed").unwrap(), Mount::No(None)));
    let Mount::No(Some(begun)) = pusher.mount(&digest, "none").unwrap() else { panic!("an upload begins instead") };
    let posts = harbour.count("POST");
    pusher.upload(&content(10), Some(begun)).unwrap();
    assert_eq!(harbour.count("POST"), posts, "what has begun is used");
    let asked = &tokens.seen()[0].path;
    let scopes = "scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Aother%2Fone%3Apull";
    assert!(asked.contains(scopes), "{asked}");
}

#[test]
fn what_cannot_be_made_is_not_tried_again() {
    struct Torn;
    impl Content for Torn {
        fn make(&self, consume: &mut dyn FnMut(&mut dyn Read) -> Result<Sent>) -> Result<Result<Sent>> {
            struct Breaks(usize);
            impl Read for Breaks {
                fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                    self.0 = self.0.checked_sub(buffer.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
                    Ok(buffer.len())
                }
            }
            let _ = consume(&mut Breaks(LONG));
            bail!("the layer is damaged")
        }
    }
    let harbour = Harbour::start(|_, _, _| None);
    let error = harbour.pusher(None).upload(&Torn, None).unwrap_err();
    assert_eq!(error.to_string(), "the layer is damaged");
    assert_eq!((harbour.count("POST"), harbour.count("PUT")), (1, 0));
}

#[test]
fn who_a_blob_is_redirected_to_does_not_learn_who_we_are() {
    let thief = Server::start(|_, _| Say::ok(r#"{"token":"t"}"#));
    let realm = format!("http://{}/token", thief.address);
    let elsewhere = Server::start(move |_, _| {
        Say::status(401)
            .with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"x\""))
            .with("WWW-Authenticate", "Basic realm=\"x\"")
    });
    let to = format!("http://{}/blob", elsewhere.address);
    let server = Server::start(move |seen, _| closed(seen).unwrap_or_else(|| Say::status(307).with("Location", &to)));
    let blob = Descriptor::of("x", &bytes(10));
    let client = server.client(Some(sailor()));
    assert!(client.blob(&blob).and_then(|mut blob| Ok(blob.read_to_end(&mut Vec::new())?)).is_err());
    assert!(thief.seen().is_empty());
    let seen = elsewhere.seen();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_empty()));
}
