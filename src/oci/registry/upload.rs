//! The way into a repository: blobs that are there already, that another repository of the registry has, and that are
//! sent; then the manifest that names them.
//!
//! ```text
//! HEAD blobs/<digest>                          it is there
//! POST blobs/uploads/?mount=<digest>&from=…    201: it is there now; 202: an upload has begun
//! POST blobs/uploads/                          an upload has begun at its Location
//! PATCH <location>                             all bytes, as they are made
//! PUT <location>?digest=…                      that was all; a short blob comes along, without a PATCH
//! ```
//!
//! A cut upload is gone on with where the registry says that it stands, by making the bytes once more and leaving out
//! what is there. What a registry says of itself is never taken for more than that: what it has is decided by the digest,
//! and it is tried only so often.

use super::address;
use super::endpoint::{Answer, Ask, Endpoint, Flow, Moved, Payload, is_transient};
use super::{HUB, Refused, Settings, content_digest};
use crate::log;
use crate::oci::auth::Credentials;
use crate::oci::digest::{Algorithm, Digest, Hasher};
use crate::oci::reference::{DEFAULT_DOMAIN, Reference};
use anyhow::{Context, Result, anyhow, bail};
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::http::Uri;

/// Up to so many bytes a blob is gathered before it is sent, and is known by its digest then.
const SHORT: usize = 1024 * 1024;
/// So many bytes more at the registry make up for the tries that it took to bring them there.
const PROGRESS: u64 = 64 * 1024 * 1024;

/// One repository of a registry, to be written to. Mirrors have no part in it.
pub struct Pusher {
    endpoint: Endpoint,
    path: String,
    scope: String,
    cancelled: Arc<AtomicBool>,
}

/// Bytes that can be made again, always the same.
pub trait Content {
    /// Makes them for `consume`. The outer error says that they could not be made.
    fn make(&self, consume: &mut dyn FnMut(&mut dyn Read) -> Result<Sent>) -> Result<Result<Sent>>;
}

/// What a blob turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub digest: Digest,
    pub size: u64,
    /// The registry had it, and nothing was sent.
    pub known: bool,
}

/// Where an upload that has begun goes on.
pub struct Place(Uri);

/// What came of asking for a blob of another repository.
pub enum Mount {
    Mounted,
    /// It was not, but an upload may have begun instead.
    No(Option<Place>),
}

impl Pusher {
    /// Nothing is sent yet.
    pub fn new(reference: &Reference, credentials: Option<Credentials>, settings: &Settings) -> Result<Pusher> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let host = if reference.domain == DEFAULT_DOMAIN { HUB } else { &reference.domain };
        let settings = Settings { max_concurrent_downloads: settings.max_concurrent_uploads, ..settings.clone() };
        let endpoint = Endpoint::registry(host, credentials.unwrap_or_default(), &settings, &cancelled)?;
        let scope = format!("repository:{}:pull,push", reference.path);
        Ok(Pusher { endpoint, path: reference.path.clone(), scope, cancelled })
    }

    /// Ends every request, now and later, with an error.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.endpoint.shutdown();
    }

    /// Whether the repository has a blob. A registry that does not say has none: it says why when one is sent.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        let path = format!("{}/blobs/{digest}", self.path);
        match self.endpoint.send(&self.ask("HEAD", &path)).map(drop) {
            Ok(()) => Ok(true),
            Err(error) if error.is::<Refused>() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the registry take a blob over from another repository of it, by its path.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<Mount> {
        let path = format!("{}/blobs/uploads/?mount={digest}&from={}", self.path, address::percent(from));
        let scope = format!("{} repository:{from}:pull", self.scope);
        let answer = match self.endpoint.send(&Ask { scope: &scope, ..self.ask("POST", &path) }) {
            Ok(answer) => answer,
            // Who may not read there may still write here.
            Err(error) if error.is::<Refused>() => return Ok(Mount::No(None)),
            Err(error) => return Err(error),
        };
        match answer.status().as_u16() {
            201 => Ok(Mount::Mounted),
            _ => Ok(Mount::No(self.place(&answer).ok().map(Place))),
        }
    }

    /// Sends a blob that is at hand, if it is not there.
    pub fn put(&self, bytes: &[u8]) -> Result<Sent> {
        let digest = Digest::of(bytes);
        let known = self.has(&digest)?;
        if !known {
            self.endpoint.retrying(|| {
                let place = self.begin()?;
                self.commit(&place, &digest, bytes)
            })?;
        }
        Ok(Sent { digest, size: bytes.len() as u64, known })
    }

    /// Sends a blob as it is made, into an upload that has begun or a new one.
    pub fn upload(&self, content: &dyn Content, begun: Option<Place>) -> Result<Sent> {
        let mut standing = Standing { place: begun.map(|Place(uri)| uri), ..Standing::default() };
        let (mut failed, mut best) = (0, 0);
        loop {
            let error = match self.attempt(content, &mut standing)? {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            if standing.there >= best + PROGRESS {
                (failed, best) = (0, standing.there);
            }
            failed += 1;
            let Some(least) = self.worth_waiting(&error) else { return Err(error) };
            if failed >= self.endpoint.attempts() || self.cancelled.load(Ordering::Relaxed) {
                let host = self.endpoint.host();
                return Err(error.context(format!("{host} broke off an upload {failed} times")));
            }
            log::debug!("{}: {error:#}: again ({failed})", self.endpoint.host());
            self.endpoint.pause(self.endpoint.delay_after(failed).max(least))?;
        }
    }

    /// Writes a manifest under a tag or its digest.
    pub fn manifest(&self, name: &str, media_type: &str, body: &[u8]) -> Result<Digest> {
        let path = format!("{}/manifests/{name}", self.path);
        let ask = self.ask("PUT", &path);
        let answer = self.endpoint.retrying(|| self.endpoint.once_with(&ask, &mut Payload::Bytes(media_type, body)))?;
        let digest = Digest::of(body);
        match content_digest(&answer) {
            Some(said) if said.algorithm() == Algorithm::Sha256 && said != digest => {
                bail!("{} says that it took the manifest {digest} for {said}", self.endpoint.host())
            }
            _ => Ok(digest),
        }
    }

    fn ask<'a>(&'a self, method: &'static str, path: &'a str) -> Ask<'a> {
        Ask { method, path, scope: &self.scope, accept: "", from: 0 }
    }

    /// Begins an upload.
    fn begin(&self) -> Result<Uri> {
        let path = format!("{}/blobs/uploads/", self.path);
        self.place(&self.endpoint.send(&self.ask("POST", &path))?)
    }

    /// Where an answer says that an upload goes on.
    fn place(&self, answer: &Answer) -> Result<Uri> {
        let location = answer.headers().get("Location");
        let location = location.with_context(|| format!("{} does not say where to upload", self.endpoint.host()))?;
        self.endpoint.locate(location.as_bytes())
    }

    /// One try. The outer error is the content's: another try would not make it better.
    fn attempt(&self, content: &dyn Content, standing: &mut Standing) -> Result<Result<Sent>> {
        let prepared = self.prepare(standing);
        match prepared {
            Ok(Some(sent)) => Ok(Ok(sent)),
            Ok(None) => content.make(&mut |bytes| self.send(bytes, standing)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Finds out where to go on after a try that failed. Gives the blob if it has arrived after all.
    fn prepare(&self, standing: &mut Standing) -> Result<Option<Sent>> {
        standing.there = 0;
        if !std::mem::replace(&mut standing.tried, true) {
            return Ok(None);
        }
        if let Some(whole) = &standing.whole
            && self.has(&whole.digest)?
        {
            return Ok(standing.whole.clone());
        }
        if standing.moved.is_some() {
            return Ok(None);
        }
        let Some(place) = standing.place.take() else { return Ok(None) };
        let asked = self.endpoint.retrying(|| self.endpoint.deliver(&place, &self.ask("GET", ""), &mut Payload::None));
        match asked {
            Ok(answer) => {
                // More than was ever sent is a lie, and a byte is not worth telling it from none.
                if let Some(there) = received(&answer).filter(|there| (2..=standing.sent).contains(there)) {
                    standing.there = there;
                    standing.place = Some(self.place(&answer).unwrap_or(place));
                }
            }
            // It knows nothing of it any more.
            Err(error) if error.is::<Refused>() => log::debug!("{error:#}: from the start"),
            Err(error) => {
                standing.place = Some(place);
                return Err(error);
            }
        }
        if let Some(whole) = standing.whole.take_if(|whole| whole.size == standing.there)
            && let Some(place) = standing.place.take()
        {
            self.commit(&place, &whole.digest, &[])?;
            return Ok(Some(whole));
        }
        Ok(None)
    }

    /// Sends the bytes from where the registry stands.
    fn send(&self, bytes: &mut dyn Read, standing: &mut Standing) -> Result<Sent> {
        let mut bytes = Hashed { bytes, hasher: Hasher::new(Algorithm::Sha256), count: 0, cancelled: &self.cancelled };
        let mut head = Vec::new();
        if standing.there > 0 {
            let skipped = io::copy(&mut (&mut bytes).take(standing.there), &mut io::sink())?;
            if skipped < standing.there {
                standing.place = None;
                bail!(cut("the registry has more than there is"));
            }
        } else {
            (&mut bytes).take(SHORT as u64 + 1).read_to_end(&mut head)?;
            if head.len() <= SHORT {
                let sent = Sent { digest: bytes.hasher.finish(), size: bytes.count, known: false };
                if self.has(&sent.digest)? {
                    return Ok(Sent { known: true, ..sent });
                }
                let place = match standing.place.take() {
                    Some(place) => place,
                    None => self.begin()?,
                };
                return self.commit(&place, &sent.digest, &head).map(|()| sent);
            }
        }
        let place = match standing.place.take() {
            Some(place) => place,
            None => self.begin()?,
        };
        standing.place = Some(place.clone());
        let to = standing.moved.take().unwrap_or_else(|| place.clone());
        let delivered = {
            let mut source = Cursor::new(head).chain(&mut bytes);
            let mut flow = Flow { source: &mut source, touched: false };
            self.endpoint.deliver(&to, &self.ask("PATCH", ""), &mut Payload::Stream(&mut flow))
        };
        standing.sent = standing.sent.max(bytes.count);
        let answer = match delivered {
            Ok(answer) => answer,
            Err(error) => {
                if error.is::<Refused>() {
                    standing.place = None;
                }
                standing.moved = error.downcast_ref::<Moved>().map(|Moved(to)| to.clone());
                return Err(error);
            }
        };
        // A registry need not name another place.
        let place = self.place(&answer).unwrap_or(place);
        standing.place = Some(place.clone());
        let sent = Sent { digest: bytes.hasher.finish(), size: bytes.count, known: false };
        if let Some(there) = received(&answer)
            && there != sent.size
        {
            bail!(cut(&format!("the registry took {there} of {} bytes", sent.size)));
        }
        standing.whole = Some(sent.clone());
        match self.commit(&place, &sent.digest, &[]) {
            Ok(()) => Ok(sent),
            Err(error) => {
                // What it made of several pieces may be wrong where one would not be.
                let pieced = standing.there > 0;
                let wrong = error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "DIGEST_INVALID");
                if pieced && wrong {
                    (standing.place, standing.whole) = (None, None);
                    return Err(error.context(cut("the pieces did not fit")));
                }
                Err(error)
            }
        }
    }

    /// Says that an upload is all of a blob, with the bytes that are still missing.
    fn commit(&self, place: &Uri, digest: &Digest, rest: &[u8]) -> Result<()> {
        let query = place.query().map_or(String::new(), |query| format!("{query}&"));
        let to = address::join(place, format!("{}?{query}digest={digest}", place.path()).as_bytes())?;
        let payload = || Payload::Bytes("application/octet-stream", rest);
        match self.endpoint.retrying(|| self.endpoint.deliver(&to, &self.ask("PUT", ""), &mut payload())) {
            Ok(_) => Ok(()),
            // The answer to an earlier try may have been lost.
            Err(error) if unknown(&error) && self.has(digest)? => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether to try an upload again, and how long to wait at least.
    fn worth_waiting(&self, error: &anyhow::Error) -> Option<Duration> {
        let again = unknown(error)
            || error.is::<Moved>()
            || error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 401)
            || error.downcast_ref::<io::Error>().is_some_and(is_transient);
        self.endpoint.worth_waiting(error).or(again.then_some(Duration::ZERO))
    }
}

/// Where an upload stands.
#[derive(Default)]
struct Standing {
    /// The address that it goes on at; none where it has not begun.
    place: Option<Uri>,
    /// Where it wants the bytes themselves, as it said when they had begun to flow.
    moved: Option<Uri>,
    tried: bool,
    /// So many bytes the registry has.
    there: u64,
    /// So many it has ever been sent.
    sent: u64,
    /// All has been sent.
    whole: Option<Sent>,
}

/// The registry has lost, or never had, an upload.
fn unknown(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| {
        matches!(refused.status, 404 | 416)
            || matches!(refused.code.as_str(), "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID" | "RANGE_INVALID")
    })
}

fn cut(why: &str) -> anyhow::Error {
    anyhow!(io::Error::new(io::ErrorKind::UnexpectedEof, why.to_owned()))
}

/// How many bytes an answer says that an upload has: `Range: 0-<last>`.
fn received(answer: &Answer) -> Option<u64> {
    let range = answer.headers().get("Range")?.to_str().ok()?.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    (first == "0").then_some(())?;
    last.parse::<u64>().ok()?.checked_add(1)
}

/// Hashes and counts what is read through it, until it is called off.
struct Hashed<'a> {
    bytes: &'a mut dyn Read,
    hasher: Hasher,
    count: u64,
    cancelled: &'a AtomicBool,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("called off"));
        }
        let n = self.bytes.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.count += n as u64;
        Ok(n)
    }
}
