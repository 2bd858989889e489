//! One server that speaks the registry API: how it is reached, who we are to it, and what is tried again.

use super::address::{join, percent, same_origin, show};
use super::answer::{Timely, drain, succeeded};
use super::challenge::{self, Challenge};
use super::{Proxies, Refused, Settings, absolute, tls};
use crate::json;
use crate::json::fields::fields;
use crate::log;
use crate::oci::auth::Credentials;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Request, Response, StatusCode, Uri};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

pub type Answer = Response<Body>;

const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A read that brings nothing for so long has stalled.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The head of an answer, however slowly its bytes come one by one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// What a registry may do with what it was sent before it answers: hash it, copy it to where it stays.
const STORE_TIMEOUT: Duration = Duration::from_secs(900);
/// A server that asks for a longer pause than this has refused.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
const MAX_DELAY: Duration = Duration::from_secs(8);
/// What an access token lives if its server does not say (distribution's token specification).
const TOKEN_LIFE: u64 = 60;

/// A registry or a mirror of one.
pub struct Endpoint {
    /// Host and, where not the scheme's own, port.
    host: String,
    /// What stands before `/v2/`.
    prefix: String,
    /// In the order in which they are tried; the first that answers is kept.
    schemes: &'static [&'static str],
    insecure: bool,
    proxies: Proxies,
    /// How often a request is tried.
    attempts: u32,
    delay: Duration,
    /// Connections kept open between requests.
    connections: usize,
    credentials: Credentials,
    tls: TlsConfig,
    /// Token servers are asked for what lasts, an identity token.
    lasting: bool,
    cancelled: Arc<AtomicBool>,
    state: Mutex<State>,
}

/// What was learned on the way.
#[derive(Default)]
struct State {
    scheme: Option<&'static str>,
    /// By the proxy that they go through, and whether it sees what is asked.
    agents: HashMap<(Option<String>, bool), Agent>,
    /// `Authorization` by scope, and when it runs out.
    authorizations: HashMap<String, (String, Instant)>,
    basic: bool,
    /// What a token server gave for the next time, if it was asked to (distribution's token specification).
    refresh: String,
}

/// What a request carries.
pub enum Payload<'a> {
    None,
    /// Of a media type.
    Bytes(&'a str, &'a [u8]),
    /// Of a length that shows at its end only.
    Stream(&'a mut Flow<'a>),
}

/// Bytes on their way, which can be sent again only as long as nobody has read of them.
pub struct Flow<'a> {
    pub source: &'a mut (dyn Read + 'a),
    pub touched: bool,
}

impl Read for Flow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.touched = true;
        self.source.read(buffer)
    }
}

/// Who took bytes on their way has them elsewhere, where they must come again from their start.
#[derive(Debug)]
pub struct Moved(pub Uri);

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "redirected to {}", show(&self.0))
    }
}

impl std::error::Error for Moved {}

impl Payload<'_> {
    /// Whether all of it can still be sent.
    fn is_whole(&self) -> bool {
        match self {
            Payload::None | Payload::Bytes(..) => true,
            Payload::Stream(flow) => !flow.touched,
        }
    }
}

/// One request for something under `/v2/`.
pub struct Ask<'a> {
    pub method: &'static str,
    /// After `/v2/`, with its query.
    pub path: &'a str,
    /// What a token must be good for.
    pub scope: &'a str,
    pub accept: &'a str,
    /// The first byte wanted.
    pub from: u64,
}

impl Endpoint {
    /// The registry of a domain.
    pub fn registry(
        host: &str,
        credentials: Credentials,
        settings: &Settings,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Endpoint> {
        let insecure = settings.is_insecure(host);
        let schemes: &[&str] = if insecure { &["https", "http"] } else { &["https"] };
        Endpoint::new(host, "", schemes, insecure, credentials, settings, cancelled)
    }

    /// A mirror by its URL. Nobody's credentials go there, and it is tried once: the registry itself is next.
    pub fn mirror(url: &str, settings: &Settings, cancelled: &Arc<AtomicBool>) -> Result<Endpoint> {
        let uri: Uri = url.parse().with_context(|| format!("registry mirror {url:?}"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            bail!("registry mirror {url:?} is not a URL");
        };
        let schemes: &[&str] = match scheme {
            "https" => &["https"],
            "http" => &["http"],
            _ => bail!("registry mirror {url:?}: unsupported scheme {scheme:?}"),
        };
        let insecure = settings.is_insecure(authority.as_str());
        let prefix = uri.path().trim_end_matches('/');
        let mirror =
            Endpoint::new(authority.as_str(), prefix, schemes, insecure, Credentials::default(), settings, cancelled)?;
        Ok(Endpoint { attempts: 1, ..mirror })
    }

    fn new(
        host: &str,
        prefix: &str,
        schemes: &'static [&'static str],
        insecure: bool,
        credentials: Credentials,
        settings: &Settings,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Endpoint> {
        let dirs: Vec<PathBuf> = settings.certs_dirs.clone();
        Ok(Endpoint {
            host: host.to_owned(),
            prefix: prefix.to_owned(),
            schemes,
            insecure,
            proxies: settings.proxies.clone(),
            attempts: settings.attempts.max(1),
            delay: settings.retry_delay,
            connections: settings.max_concurrent_downloads + 1,
            credentials,
            tls: tls::config(host, &dirs, insecure)?,
            lasting: false,
            cancelled: Arc::clone(cancelled),
            state: Mutex::default(),
        })
    }

    /// Asks whether the credentials open the registry at all. Gives the identity token that stands for them from now
    /// on, or an empty text where there is none.
    pub fn login(mut self) -> Result<String> {
        self.lasting = true;
        self.send(&Ask { method: "GET", path: "", scope: "", accept: "", from: 0 }).map(drain)?;
        Ok(std::mem::take(&mut self.lock().refresh))
    }

    /// Breaks off whatever is under way: also a read that waits for a server.
    pub fn shutdown(&self) {
        for agent in self.lock().agents.values() {
            agent.clone().shutdown();
        }
    }

    pub fn is_insecure(&self) -> bool {
        self.insecure
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Asks until there is an answer of success, and no further than trying again helps.
    pub fn send(&self, ask: &Ask) -> Result<Answer> {
        self.retrying(|| self.once(ask))
    }

    /// Does something that asks this endpoint, again where another try may help: cut connections, stalls, 5xx and 429.
    pub fn retrying<T>(&self, mut what: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tried = 0;
        loop {
            let error = match what() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            tried += 1;
            match self.worth_waiting(&error) {
                Some(least) if tried < self.attempts => {
                    log::debug!("{}: {error:#}: again ({tried})", self.host);
                    self.pause(self.delay_after(tried).max(least))?;
                }
                _ => return Err(error),
            }
        }
    }

    /// The pause before try number `tried + 1`: doubling, with an end.
    pub fn delay_after(&self, tried: u32) -> Duration {
        self.delay.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(MAX_DELAY.max(self.delay))
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Sleeps, unless the work is called off meanwhile.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                bail!("called off");
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Whether another try may help, and how long to wait for it at least.
    pub fn worth_waiting(&self, error: &anyhow::Error) -> Option<Duration> {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            let busy = matches!(refused.status, 408 | 429 | 500 | 502 | 503 | 504);
            let least = refused.retry_after.unwrap_or_default();
            return (busy && least <= MAX_RETRY_AFTER).then_some(least);
        }
        let answered = self.lock().scheme.is_some();
        let again = match error.downcast_ref::<ureq::Error>() {
            Some(ureq::Error::Io(error)) => is_transient(error) || answered && is_unreachable(error),
            Some(ureq::Error::Timeout(timeout)) => answered || *timeout != ureq::Timeout::Connect,
            Some(ureq::Error::Protocol(_)) => true,
            Some(ureq::Error::HostNotFound | ureq::Error::ConnectionFailed) => answered,
            Some(_) => false,
            None => error.downcast_ref::<io::Error>().is_some_and(is_transient),
        };
        again.then_some(Duration::ZERO)
    }

    /// One try. An answer that is not of success is an error, with what the server said.
    pub fn once(&self, ask: &Ask) -> Result<Answer> {
        self.once_with(ask, &mut Payload::None)
    }

    /// One try to bring something.
    pub fn once_with(&self, ask: &Ask, payload: &mut Payload) -> Result<Answer> {
        let known = self.lock().scheme;
        let schemes = known.as_ref().map_or(self.schemes, std::slice::from_ref);
        let mut last = None;
        for scheme in schemes {
            let url = format!("{scheme}://{}{}/v2/{}", self.host, self.prefix, ask.path);
            let asked = || format!("{} {url}", ask.method.to_ascii_lowercase());
            let uri: Uri = url.parse().with_context(|| format!("address {url}"))?;
            match self.authorized(&uri, &uri, ask, payload) {
                Ok(answer) => {
                    self.lock().scheme = Some(scheme);
                    return succeeded(answer).with_context(asked);
                }
                // Told apart by type: only a server that gave no answer at all may speak the other scheme.
                Err(error) if error.is::<Refused>() => return Err(error.context(asked())),
                Err(error) => last = Some(error.context(asked())),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("no scheme to reach {}", self.host)))
    }

    /// One try to bring something to where this endpoint wants it. That may be at another server, which does not learn
    /// who we are.
    pub fn deliver(&self, to: &Uri, ask: &Ask, payload: &mut Payload) -> Result<Answer> {
        let own = self.root()?;
        self.encrypted(&own, to)?;
        let asked = || format!("{} {}", ask.method.to_ascii_lowercase(), show(to));
        succeeded(self.authorized(to, &own, ask, payload).with_context(asked)?).with_context(asked)
    }

    /// Where a `Location` of this endpoint's leads.
    pub fn locate(&self, location: &[u8]) -> Result<Uri> {
        join(&self.root()?, location)
    }

    /// The address of this endpoint, once it has answered.
    fn root(&self) -> Result<Uri> {
        let scheme = self.lock().scheme.unwrap_or(self.schemes[0]);
        let url = format!("{scheme}://{}{}/v2/", self.host, self.prefix);
        url.parse().with_context(|| format!("address {url}"))
    }

    /// Refuses to go from what is encrypted to what is not.
    fn encrypted(&self, from: &Uri, to: &Uri) -> Result<()> {
        if !self.insecure && from.scheme_str() == Some("https") && to.scheme_str() == Some("http") {
            bail!("redirected from https to {}, which is not encrypted", show(to));
        }
        Ok(())
    }

    /// Sends with what authorization is known; a 401 is answered once.
    fn authorized(&self, uri: &Uri, own: &Uri, ask: &Ask, payload: &mut Payload) -> Result<Answer> {
        let known = self.known_authorization(ask.scope);
        let (answer, from) = self.follow(uri, own, ask, payload, known.as_deref())?;
        // Whom we were sent to has no say in where our credentials go.
        if answer.status() != StatusCode::UNAUTHORIZED || !same_origin(&from, own) {
            return Ok(answer);
        }
        let challenges = challenges(answer.headers());
        let https = own.scheme_str() == Some("https");
        match self.authorize(&challenges, ask.scope, known.as_deref(), https)? {
            Some(authorization) if payload.is_whole() => {
                drain(answer);
                Ok(self.follow(uri, own, ask, payload, Some(&authorization))?.0)
            }
            // What has begun to flow must come again from its start, which is for who makes it.
            _ => Ok(answer),
        }
    }

    fn known_authorization(&self, scope: &str) -> Option<String> {
        if !self.credentials.registry_token.is_empty() {
            return Some(format!("Bearer {}", self.credentials.registry_token));
        }
        let state = self.lock();
        if state.basic {
            return self.credentials.basic();
        }
        state.authorizations.get(scope).filter(|(_, end)| *end > Instant::now()).map(|(value, _)| value.clone())
    }

    /// Earns what a 401 asked for. `refused` is the authorization that it was given to. `None`: nothing more to offer.
    fn authorize(
        &self,
        challenges: &[Challenge],
        scope: &str,
        refused: Option<&str>,
        https: bool,
    ) -> Result<Option<String>> {
        if !self.credentials.registry_token.is_empty() {
            return Ok(None);
        }
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            // Another thread may have earned a new token since.
            if let Some(known) = self.known_authorization(scope)
                && Some(known.as_str()) != refused
            {
                return Ok(Some(known));
            }
            let (token, life) = self.token(bearer, scope, https)?;
            let value = format!("Bearer {token}");
            self.lock().authorizations.insert(scope.to_owned(), (value.clone(), Instant::now() + life));
            return Ok(Some(value));
        }
        if challenges.iter().any(|challenge| challenge.scheme == "basic") {
            let Some(basic) = self.credentials.basic() else {
                let message = "no basic auth credentials".to_owned();
                bail!(Refused { status: 401, code: "UNAUTHORIZED".to_owned(), message, retry_after: None });
            };
            self.lock().basic = true;
            return Ok((refused != Some(basic.as_str())).then_some(basic));
        }
        Ok(None)
    }

    /// Gets an access token from the server that a challenge names, and how long it lives.
    fn token(&self, challenge: &Challenge, scope: &str, https: bool) -> Result<(String, Duration)> {
        fields! {
            #[derive(Default)]
            struct Token {
                token: Option<String>,
                access_token: Option<String>,
                refresh_token: String,
                expires_in: Option<u64>,
            }
        }
        let realm = challenge.get("realm").unwrap_or("");
        let scope = challenge.get("scope").filter(|_| scope.is_empty()).unwrap_or(scope);
        let uri: Uri = realm.parse().with_context(|| format!("token server {realm:?} of {}", self.host))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.authority().is_none() {
            bail!("token server {realm:?} of {} is not a URL", self.host);
        }
        if https && uri.scheme_str() == Some("http") && !self.insecure && !self.credentials.is_anonymous() {
            bail!("{} wants its credentials sent to {realm} unencrypted", self.host);
        }
        let mut fields = Vec::new();
        let mut field = |name: &str, value: &str| {
            if !value.is_empty() {
                fields.push(format!("{name}={}", percent(value)));
            }
        };
        let identity = &self.credentials.identity_token;
        if !identity.is_empty() {
            field("grant_type", "refresh_token");
            field("refresh_token", identity);
            field("client_id", "dhow");
        } else {
            field("account", &self.credentials.username);
            if self.lasting {
                field("client_id", "dhow");
                field("offline_token", "true");
            }
        }
        field("service", challenge.get("service").unwrap_or(""));
        // As each of the two forms has several: in one list (RFC 6749, 3.3), or each by itself.
        match identity.is_empty() {
            true => scope.split(' ').for_each(|one| field("scope", one)),
            false => field("scope", scope),
        }
        let fields = fields.join("&");
        let agent = self.agent(&uri);
        let answer = if identity.is_empty() {
            let joint = if realm.contains('?') { '&' } else { '?' };
            let mut request = agent.get(format!("{realm}{joint}{fields}"));
            if let Some(basic) = self.credentials.basic() {
                request = request.header("Authorization", basic);
            }
            request.call()
        } else {
            agent.post(realm).content_type("application/x-www-form-urlencoded").send(fields)
        };
        let asked = || format!("get a token from {realm}");
        let answer = answer.with_context(asked)?;
        if !answer.status().is_success() {
            return Err(anyhow::Error::new(Refused::read(answer)).context(asked()));
        }
        let mut body = Vec::new();
        Timely::new(answer.into_body().into_reader()).take(1024 * 1024).read_to_end(&mut body).with_context(asked)?;
        let found: Token = json::from_slice(&body).with_context(asked)?;
        let token = [found.token, found.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.with_context(|| format!("{realm} answered without a token"))?;
        self.lock().refresh = found.refresh_token;
        // Far ends of time are not worth an overflow.
        Ok((token, Duration::from_secs(found.expires_in.unwrap_or(TOKEN_LIFE).clamp(TOKEN_LIFE, 86400))))
    }

    /// Sends one request and follows where it is redirected; authorization goes to `own` only. Gives the answer and who
    /// gave it.
    fn follow(
        &self,
        uri: &Uri,
        own: &Uri,
        ask: &Ask,
        payload: &mut Payload,
        authorization: Option<&str>,
    ) -> Result<(Answer, Uri)> {
        let mut uri = uri.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(ask.method).uri(&uri);
            if !ask.accept.is_empty() {
                request = request.header("Accept", ask.accept);
            }
            if ask.from > 0 {
                request = request.header("Range", format!("bytes={}-", ask.from));
            }
            if let Some(value) = authorization
                && same_origin(&uri, own)
            {
                request = request.header("Authorization", value);
            }
            let answer = self.run(&uri, request, payload)?;
            let location = answer.headers().get("Location");
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((answer, uri));
            }
            let Some(location) = location else { return Ok((answer, uri)) };
            let next = join(&uri, location.as_bytes())?;
            if !payload.is_whole() {
                return Err(Moved(next).into());
            }
            // A blob is known by its digest, wherever it comes from; a manifest by its tag is not, nor is what we bring.
            if !ask.accept.is_empty() || !matches!(ask.method, "GET" | "HEAD") {
                self.encrypted(&uri, &next)?;
            }
            log::debug!("{}: redirected to {}", show(&uri), show(&next));
            drain(answer);
            uri = next;
        }
        bail!("stopped after {MAX_REDIRECTS} redirects")
    }

    fn run(&self, uri: &Uri, request: ureq::http::request::Builder, payload: &mut Payload) -> Result<Answer> {
        let agent = self.agent(uri);
        let address = || format!("address {}", show(uri));
        let patient = |agent: &Agent, request: Request<ureq::SendBody>| {
            let request = agent.configure_request(request).timeout_recv_response(Some(STORE_TIMEOUT)).build();
            agent.run(request)
        };
        Ok(match payload {
            Payload::None => agent.run(request.body(()).with_context(address)?)?,
            Payload::Bytes(media_type, bytes) => {
                let mut bytes = *bytes;
                let request = request.header("Content-Type", *media_type).header("Content-Length", bytes.len());
                patient(&agent, request.body(ureq::SendBody::from_reader(&mut bytes)).with_context(address)?)?
            }
            Payload::Stream(flow) => {
                let request = request.header("Content-Type", "application/octet-stream");
                // Who refuses or redirects, or wants another token, says so before anything has flowed.
                let request = request.header("Expect", "100-continue");
                patient(&agent, request.body(ureq::SendBody::from_reader(*flow)).with_context(address)?)?
            }
        })
    }

    /// Gets a URL that is no part of the registry, as layers may name for themselves.
    pub fn outside(&self, url: &str, from: u64) -> Result<Answer> {
        let ask = Ask { method: "GET", path: "", scope: "", accept: "", from };
        let uri: Uri = url.parse().with_context(|| format!("address {url}"))?;
        let answer = self.follow(&uri, &uri, &ask, &mut Payload::None, None).with_context(|| format!("get {url}"))?.0;
        succeeded(answer).with_context(|| format!("get {url}"))
    }

    /// The agent for a URL: one for each proxy, so that connections are kept.
    fn agent(&self, uri: &Uri) -> Agent {
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let proxy = self.proxies.of(https, uri.host().unwrap_or(""), port);
        let open = !https && proxy.as_deref().is_some_and(|proxy| proxy.starts_with("http://"));
        let key = (proxy, open);
        let mut state = self.lock();
        if let Some(agent) = state.agents.get(&key) {
            return agent.clone();
        }
        let proxy = &key.0;
        let through = proxy.as_deref().and_then(|proxy| match ureq::Proxy::new(proxy) {
            Ok(proxy) => Some(proxy),
            Err(error) => {
                log::warning!("the proxy {proxy:?} is not used: {error}");
                None
            }
        });
        let in_the_open = through.as_ref().filter(|_| open).cloned();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("dhow/", env!("CARGO_PKG_VERSION")))
            // Digests are of the bytes as stored: nothing may be compressed on the way.
            .accept_encoding("identity")
            .proxy(through.filter(|_| in_the_open.is_none()))
            .tls_config(self.tls.clone())
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(HEAD_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(READ_TIMEOUT))
            .max_idle_connections_per_host(self.connections)
            .max_idle_connections(2 * self.connections)
            .build();
        let agent = match in_the_open {
            Some(proxy) => absolute::agent(config, &proxy),
            None => config.new_agent(),
        };
        state.agents.insert(key, agent.clone());
        agent
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server was there and the connection broke.
pub fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | TimedOut | WouldBlock | NotConnected
    )
}

/// Nobody was there, this time.
fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown)
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all("WWW-Authenticate").iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
}
