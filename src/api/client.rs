//! The typed client: every command asks the engine through it, whatever carries the question.

mod containers;
mod images;
mod networks;
mod system;
mod volumes;

pub use containers::{Attach, Logs, Waiting};
pub use images::SECRETS;

use crate::api::http::Remote;
use crate::api::types::*;
use crate::api::version::{self, ApiVersion};
use crate::api::wire::{Body, Producer, Reply, Request, Response};
use crate::json::{self, FromTree};
use crate::order::Map;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;

/// Where the engine in this process keeps its things; what is `None` is the configuration's or the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    pub root: Option<PathBuf>,
    pub run: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub debug: bool,
}

/// The engine in this process: a request goes in, its answer comes out.
pub type Local = Box<dyn Fn(Request) -> Response + Send + Sync>;

/// Opens the engine of a place. Called once a command, after its arguments were found good.
pub type Open = fn(&Place) -> Result<Local>;

/// Asks an engine.
pub struct Client {
    transport: Transport,
}

enum Transport {
    Local(Local),
    Http(Remote),
}

/// A request that the engine refused.
#[derive(Debug)]
pub struct Failure {
    pub status: u16,
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Nobody answers at that address.
#[derive(Debug)]
pub struct Unreachable(pub String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to the Docker daemon at {}. Is the docker daemon running?", self.0)
    }
}

impl std::error::Error for Unreachable {}

/// Filters of a list: key → its values.
pub type Filters = Map<String, Vec<String>>;

type Query = Vec<(String, String)>;

impl Client {
    /// A client of the engine in this process.
    pub fn local(engine: Local) -> Client {
        Client { transport: Transport::Local(engine) }
    }

    /// A client of a daemon.
    pub fn remote(daemon: Remote) -> Client {
        Client { transport: Transport::Http(daemon) }
    }

    /// Whether the engine is in this process.
    pub fn is_local(&self) -> bool {
        matches!(self.transport, Transport::Local(_))
    }

    /// The version of the API that is spoken, as far as it is known.
    pub fn version_spoken(&self) -> Option<ApiVersion> {
        match &self.transport {
            Transport::Local(_) => Some(version::NEWEST),
            Transport::Http(daemon) => daemon.version(),
        }
    }

    /// Sends a request. An answer of 400 and above becomes a [`Failure`].
    pub fn call(&self, request: Request) -> Result<Response> {
        let response = match &self.transport {
            Transport::Local(engine) => engine(request),
            Transport::Http(daemon) => daemon.send(request)?,
        };
        if response.status < 400 {
            return Ok(response);
        }
        let status = response.status;
        let body = bytes(response)?;
        let message = match json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) => answer.message,
            Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(Failure { status, message }.into())
    }

    fn get<T: FromTree>(&self, path: String, query: Query) -> Result<T> {
        json(self.call(request("GET", path, query, Body::Empty))?)
    }

    fn post(&self, path: String, query: Query) -> Result<Response> {
        self.call(request("POST", path, query, Body::Empty))
    }

    fn send<T: FromTree>(&self, path: &str, query: Query, body: &impl Serialize) -> Result<T> {
        let body = Body::Bytes(serde_json::to_vec(body).context("writing a request")?);
        json(self.call(request("POST", path.to_owned(), query, body))?)
    }
}

fn request(method: &'static str, path: String, query: Query, body: Body) -> Request {
    let json = matches!(body, Body::Bytes(_));
    let headers = if json { vec![("Content-Type".into(), "application/json".into())] } else { vec![] };
    Request { query, headers, body, ..Request::new(method, path) }
}

fn push(query: &mut Query, key: &str, value: &str) {
    if !value.is_empty() {
        query.push((key.to_owned(), value.to_owned()));
    }
}

fn push_flag(query: &mut Query, key: &str, on: bool) {
    if on {
        query.push((key.to_owned(), "1".to_owned()));
    }
}

fn filtered(filters: &Filters) -> Query {
    if filters.is_empty() {
        return vec![];
    }
    let sets: Map<&String, Map<&String, bool>> = Map::from_iter(
        filters.iter().map(|(key, values)| (key, Map::from_iter(values.iter().map(|value| (value, true))))),
    );
    vec![("filters".to_owned(), serde_json::json!(sets).to_string())]
}

/// An empty name would make another path, and so would one that leads elsewhere, which nothing is called.
fn named(kind: &str, name: &str, before: &str, rest: &str) -> Result<String> {
    if name.trim().is_empty() {
        bail!("invalid {kind} name or ID: value is empty");
    }
    let leads = |part: &str| matches!(part, "" | "." | "..");
    // Names of images have slashes, and those that links give to containers.
    let plain = !matches!(kind, "image" | "container");
    if name.split('/').any(leads) || plain && name.contains('/') {
        let message = match kind {
            "container" => format!("No such container: {name}"),
            "image" => format!("No such image: {name}"),
            "volume" => format!("get {name}: no such volume"),
            kind => format!("{kind} {name} not found"),
        };
        bail!(Failure { status: 404, message });
    }
    Ok([before, name, rest].concat())
}

fn json<T: FromTree>(response: Response) -> Result<T> {
    json::from_slice(&bytes(response)?).context("reading the engine's answer")
}

fn bytes(response: Response) -> Result<Vec<u8>> {
    match response.body {
        Reply::Empty => Ok(vec![]),
        Reply::Json(bytes) => Ok(bytes),
        Reply::Stream(producer) => {
            let mut bytes = Vec::new();
            producer(&mut bytes).context("reading the engine's answer")?;
            Ok(bytes)
        }
        Reply::Upgraded { .. } => bail!("the engine answered with a connection where text was asked for"),
    }
}

fn stream(response: Response, sink: &mut dyn Write) -> Result<()> {
    match response.body {
        Reply::Stream(producer) => produce(producer, sink),
        _ => Ok(sink.write_all(&bytes(response)?)?),
    }
}

fn produce(producer: Producer, sink: &mut dyn Write) -> Result<()> {
    producer(sink)?;
    Ok(sink.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(status: u16, body: &'static str) -> Client {
        Client::local(Box::new(move |_| {
            Response::new(status, Reply::Stream(Box::new(move |sink| sink.write_all(body.as_bytes()))))
        }))
    }

    #[test]
    fn a_refusal_carries_its_status_and_words() {
        let client = answering(404, r#"{"message":"No such container: x"}"#);
        let error = client.container("x").unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!((failure.status, failure.message.as_str()), (404, "No such container: x"));
        assert_eq!(answering(500, "plain\n").start("x", "").unwrap_err().to_string(), "plain");
    }

    #[test]
    fn paths_and_queries_are_dockers() {
        let client = Client::local(Box::new(|request: Request| {
            let query: Vec<String> = request.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!("{} {}?{}", request.method, request.path, query.join("&"));
            let body = serde_json::to_vec(&ErrorAnswer { message }).unwrap();
            Response::new(500, Reply::Json(body))
        }));
        let filters = Filters::from([("label".to_owned(), vec!["a=b".to_owned()])]);
        let attach = Attach { stdin: false, stdout: true, stderr: true, detach_keys: "" };
        let table = [
            (
                client.containers(true, 2, false, &filters).map(drop),
                r#"GET /containers/json?filters={"label":{"a=b":true}}&all=1&limit=2"#,
            ),
            (client.stop("/web", "", Some(-1)), "POST /containers/web/stop?t=-1"),
            (client.attach("web", &attach).map(drop), "POST /containers/web/attach?stream=1&stdout=1&stderr=1"),
            (client.wait("web", "removed").map(drop), "POST /containers/web/wait?condition=removed"),
            (client.remove("web", true, false, false), "DELETE /containers/web?force=1"),
            (client.history("localhost:5000/x", "").map(drop), "GET /images/localhost:5000/x/history?"),
            (client.start("/", ""), "invalid container name or ID: value is empty"),
        ];
        for (result, expected) in table {
            assert_eq!(result.unwrap_err().to_string(), expected);
        }
    }
}
