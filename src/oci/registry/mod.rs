//! The registry API, version 2: manifests, blobs and tags of one repository, from its registry or a mirror of it, and
//! back into it.
//!
//! Specification: opencontainers/distribution-spec 1.1; tokens: distribution's token authentication.

mod absolute;
mod address;
mod answer;
mod blob;
mod challenge;
mod endpoint;
mod pass;
mod proxy;
mod tls;
mod upload;

/// A way in for the fuzzers: what a server says in `WWW-Authenticate`.
#[cfg(any(test, fuzzing))]
pub fn fuzz(header: &str) {
    for challenge in challenge::parse(header) {
        let _ = (challenge.get("realm"), challenge.get("scope"));
    }
}

#[cfg(test)]
mod tests;

use crate::log;
pub use blob::Blob;
pub use proxy::Proxies;
pub use upload::{Content, Mount, Pusher, Sent};

use super::auth::Credentials;
use super::digest::Digest;
use super::image::Descriptor;
use super::reference::{DEFAULT_DOMAIN, Reference};
use crate::json;
use crate::json::fields::fields;
use answer::Timely;
use anyhow::{Context, Result, bail};
use endpoint::{Answer, Ask, Endpoint};
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Where Docker Hub's API is.
const HUB: &str = "registry-1.docker.io";
/// The largest manifest that registries must take (distribution-spec) and that we read.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
const MAX_TAG_PAGE: u64 = 16 * 1024 * 1024;
/// Pages that never end would.
const MAX_TAGS: usize = 1_000_000;
/// Everything that can stand behind a tag: OCI's and Docker's, index and manifest.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/json;q=0.1";

/// How registries are reached; from `daemon.json`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// URLs, tried in order before Docker Hub (and only there).
    pub mirrors: Vec<String>,
    /// Hosts (`name`, `name:port`) and networks (`10.0.0.0/8`) for which certificates are not checked and plain HTTP
    /// is tried. This machine itself always is one.
    pub insecure_registries: Vec<String>,
    /// Directories that hold `<host>/*.crt` and client certificates.
    pub certs_dirs: Vec<PathBuf>,
    /// Layers that download at once.
    pub max_concurrent_downloads: usize,
    /// Layers that upload at once.
    pub max_concurrent_uploads: usize,
    /// How often a request is tried, and a download without progress.
    pub attempts: u32,
    /// Whether what is unpacked is kept compressed, too: a push sends it as it came.
    pub keep: bool,
    pub proxies: Proxies,
    /// The pause before the second try; it doubles.
    pub retry_delay: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            certs_dirs: vec!["/etc/dhow/certs.d".into(), "/etc/docker/certs.d".into()],
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            attempts: 5,
            keep: false,
            proxies: Proxies::default(),
            retry_delay: Duration::from_millis(500),
        }
    }
}

impl Settings {
    /// Whether a registry (host and port) may be spoken to without a checked certificate.
    fn is_insecure(&self, authority: &str) -> bool {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let literal: Option<IpAddr> = bare.parse().ok();
        if bare == "localhost" || literal.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        let listed = |entry: &String| {
            let entry = entry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
            entry.eq_ignore_ascii_case(authority) || entry.eq_ignore_ascii_case(host)
        };
        if self.insecure_registries.iter().any(listed) {
            return true;
        }
        let networks: Vec<_> = self.insecure_registries.iter().filter_map(|e| proxy::Network::parse(e)).collect();
        let inside = |ip: IpAddr| networks.iter().any(|network| network.contains(ip));
        match literal {
            Some(ip) => inside(ip),
            None if networks.is_empty() => false,
            None => (bare.as_str(), 0).to_socket_addrs().is_ok_and(|mut found| found.any(|a| inside(a.ip()))),
        }
    }
}

/// A registry's no: what it said, and the HTTP status.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    /// As in the specification, `MANIFEST_UNKNOWN`; empty if it said none.
    pub code: String,
    pub message: String,
    pub retry_after: Option<Duration>,
}

/// In Docker's form: `manifest unknown: no such manifest`.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.replace('_', " ").to_ascii_lowercase();
        match (code.is_empty(), self.message.is_empty()) {
            (true, _) => f.write_str(&self.message),
            (_, true) => f.write_str(&code),
            _ => write!(f, "{code}: {}", self.message),
        }
    }
}

impl std::error::Error for Refused {}

/// The host of a registry as a user names it to log in: a host, or the URL of one. Docker Hub has several names.
pub fn host(server: &str) -> &str {
    let host = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match host.split('/').next().unwrap_or(host) {
        "" | "docker.io" | "index.docker.io" | HUB => HUB,
        host => host,
    }
}

/// Asks a registry whether it knows these credentials. Gives an identity token to keep in place of the password, or
/// an empty text.
pub fn login(server: &str, credentials: Credentials, settings: &Settings) -> Result<String> {
    let cancelled = Arc::new(AtomicBool::new(false));
    Endpoint::registry(host(server), credentials, settings, &cancelled)?.login()
}

/// What a server says of a file that is downloaded.
#[derive(Debug, Default)]
pub struct About {
    /// Bytes.
    pub length: Option<u64>,
    /// When it was changed last, in seconds since 1970.
    pub modified: Option<i64>,
    /// A strong ETag (RFC 9110, section 8.8.3): another one is said as soon as a byte is another.
    pub tag: Option<String>,
}

/// Gets a file by its URL: its bytes, and what the server says of it. `most` is refused to be exceeded.
pub fn download(url: &str, most: u64, settings: &Settings) -> Result<(impl Read + Send + use<>, About)> {
    let uri: ureq::http::Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
    let host = match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => authority.as_str().rsplit('@').next().unwrap_or_default(),
        _ => bail!("{url:?} is not a URL of http or https"),
    };
    let cancelled = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::registry(host, Credentials::default(), settings, &cancelled)?;
    let answer = endpoint.retrying(|| endpoint.outside(url, 0))?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let about = About {
        length: answer.body().content_length(),
        modified: header("Last-Modified")
            .and_then(crate::api::time::Time::parse_http)
            .map(|time| (time.unix_nanos() / 1_000_000_000) as i64),
        tag: header("ETag").filter(|tag| tag.starts_with('"') && tag.len() > 2).map(str::to_owned),
    };
    if about.length.is_some_and(|length| length > most) {
        bail!("{url} is longer than the {most} bytes that are taken");
    }
    Ok((Bounded { body: answer.into_body().into_reader(), left: most }, about))
}

/// A body that fails where it is longer than it may be.
struct Bounded<R> {
    body: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.body.read(buffer)?;
        self.left =
            self.left.checked_sub(n as u64).ok_or_else(|| std::io::Error::other("it is longer than is taken"))?;
        Ok(n)
    }
}

/// One repository, as its registry (and the mirrors before it) serve it.
pub struct Client {
    /// In the order in which they are tried.
    endpoints: Vec<Endpoint>,
    /// Those before this one have served what they should not: they are not asked again.
    trusted: AtomicUsize,
    path: String,
    scope: String,
    cancelled: Arc<AtomicBool>,
}

impl Client {
    /// A client for the repository of `reference`. Nothing is sent yet.
    pub fn new(reference: &Reference, credentials: Option<Credentials>, settings: &Settings) -> Result<Client> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut endpoints = Vec::new();
        let hub = reference.domain == DEFAULT_DOMAIN;
        if hub {
            for url in &settings.mirrors {
                endpoints.push(Endpoint::mirror(url, settings, &cancelled)?);
            }
        }
        let host = if hub { HUB } else { &reference.domain };
        endpoints.push(Endpoint::registry(host, credentials.unwrap_or_default(), settings, &cancelled)?);
        let scope = format!("repository:{}:pull", reference.path);
        Ok(Client { endpoints, trusted: AtomicUsize::new(0), path: reference.path.clone(), scope, cancelled })
    }

    /// Asks no more of this endpoint, by its place, and of those before it. `false` if it is the last one: then there
    /// is nobody else to ask.
    pub fn distrust(&self, endpoint: usize) -> bool {
        if endpoint + 1 >= self.endpoints.len() || self.cancelled.load(Ordering::Relaxed) {
            return false;
        }
        self.trusted.fetch_max(endpoint + 1, Ordering::Relaxed);
        true
    }

    /// Asks no more of any mirror. `false` if none was asked any more.
    pub fn distrust_mirrors(&self) -> bool {
        let last = self.endpoints.len().saturating_sub(1);
        self.trusted.load(Ordering::Relaxed) < last && self.distrust(last - 1)
    }

    fn trusted(&self) -> usize {
        self.trusted.load(Ordering::Relaxed)
    }

    /// Ends every request of this client, now and later, with an error.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.endpoints.iter().for_each(Endpoint::shutdown);
    }

    /// What a tag stands for, without its body. `None` where the registry does not say (it may know no HEAD).
    pub fn resolve(&self, tag: &str) -> Result<Option<Descriptor>> {
        let path = format!("{}/manifests/{tag}", self.path);
        let ask = Ask { method: "HEAD", path: &path, scope: &self.scope, accept: ACCEPT, from: 0 };
        self.anywhere(|endpoint| match endpoint.send(&ask) {
            Ok(answer) => Ok(described(&answer)),
            // The answer to a HEAD has no words; those of a GET are clear.
            Err(error) if error.is::<Refused>() => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// A manifest or index by tag or digest: its body, verified against the digest by which it was asked or which
    /// the registry says, and its description (the media type is what the registry says).
    pub fn manifest(&self, name: &str) -> Result<(Descriptor, Vec<u8>)> {
        let path = format!("{}/manifests/{name}", self.path);
        let ask = Ask { method: "GET", path: &path, scope: &self.scope, accept: ACCEPT, from: 0 };
        let by_digest = name.contains(':').then(|| Digest::parse(name)).transpose()?;
        self.anywhere(|endpoint| {
            let (said, media_type, body) = endpoint.retrying(|| {
                let answer = endpoint.once(&ask)?;
                let said = content_digest(&answer);
                let media_type = content_type(&answer);
                let body = read_whole(answer, MAX_MANIFEST).with_context(|| format!("read manifest {name}"))?;
                Ok((said, media_type, body))
            })?;
            if let Some(digest) = by_digest.as_ref().or(said.as_ref()) {
                digest.verify(&body).with_context(|| format!("manifest {name} of {}", self.path))?;
            }
            let mut descriptor = Descriptor::of(&media_type, &body);
            if let Some(digest) = &by_digest {
                descriptor.digest = digest.clone();
            }
            Ok((descriptor, body))
        })
    }

    /// A blob as a reader.
    pub fn blob<'a>(&'a self, descriptor: &'a Descriptor) -> Result<Blob<'a>> {
        Blob::open(self, descriptor)
    }

    /// A small blob, whole and verified.
    pub fn blob_bytes(&self, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>> {
        let digest = &descriptor.digest;
        if descriptor.size > most {
            bail!("blob {digest} of {} bytes is longer than the {most} bytes that are taken", descriptor.size);
        }
        loop {
            let mut blob = self.blob(descriptor)?;
            let mut body = Vec::with_capacity(descriptor.size as usize);
            let read = blob.read_to_end(&mut body).with_context(|| format!("read blob {digest}"));
            match read.and_then(|_| digest.verify(&body)) {
                Ok(()) => return Ok(body),
                Err(error) if self.distrust(blob.origin()) => log::debug!("{error:#}: trying the next"),
                Err(error) => return Err(error),
            }
        }
    }

    /// All tags of the repository.
    pub fn tags(&self) -> Result<Vec<String>> {
        fields! {
            #[derive(Default)]
            struct Page {
                tags: Option<Vec<String>>,
            }
        }
        self.anywhere(|endpoint| {
            let mut tags = Vec::new();
            let mut path = format!("{}/tags/list?n=1000", self.path);
            loop {
                let ask = Ask { method: "GET", path: &path, scope: &self.scope, accept: "", from: 0 };
                let (next, body) = endpoint.retrying(|| {
                    let answer = endpoint.once(&ask)?;
                    let next = answer.headers().get("Link").and_then(|v| next_page(v.to_str().ok()?));
                    Ok((next, read_whole(answer, MAX_TAG_PAGE).context("read the list of tags")?))
                })?;
                let page: Page = json::from_slice(&body).context("read the list of tags")?;
                let found = page.tags.unwrap_or_default();
                let more = !found.is_empty();
                tags.extend(found);
                if tags.len() > MAX_TAGS {
                    bail!("{} has more than {MAX_TAGS} tags", self.path);
                }
                // A page without tags that names a next one could go on for ever.
                match next.filter(|_| more) {
                    Some(next) => path = next,
                    None => return Ok(tags),
                }
            }
        })
    }

    /// Asks the endpoints in order; the last one's error is the answer.
    fn anywhere<T>(&self, mut ask: impl FnMut(&Endpoint) -> Result<T>) -> Result<T> {
        let (last, mirrors) = self.endpoints[self.trusted()..].split_last().context("no registry to ask")?;
        for mirror in mirrors {
            match ask(mirror) {
                Ok(found) => return Ok(found),
                Err(error) => log::debug!("mirror {}: {error:#}: trying the next", mirror.host()),
            }
        }
        ask(last)
    }
}

fn content_digest(answer: &Answer) -> Option<Digest> {
    Digest::parse(answer.headers().get("Docker-Content-Digest")?.to_str().ok()?).ok()
}

fn content_type(answer: &Answer) -> String {
    let value = answer.headers().get("Content-Type").and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_owned()
}

fn described(answer: &Answer) -> Option<Descriptor> {
    let size = answer.headers().get("Content-Length")?.to_str().ok()?.parse().ok()?;
    Some(Descriptor { digest: content_digest(answer)?, size, ..Descriptor::of(&content_type(answer), b"") })
}

fn read_whole(answer: Answer, most: u64) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    Timely::new(answer.into_body().into_reader()).take(most + 1).read_to_end(&mut body)?;
    if body.len() as u64 > most {
        bail!("it is longer than {most} bytes");
    }
    Ok(body)
}

/// The path after `/v2/` of `Link: <…>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.contains("rel=\"next\"") || parameters.contains("rel=next");
    let (_, path) = url.split_once("/v2/")?;
    next.then(|| path.to_owned())
}
