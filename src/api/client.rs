//! The typed client: every command asks the engine through it, whatever carries the question.

use crate::api::base64;
use crate::api::http::Remote;
use crate::api::types::*;
use crate::api::wire::{Body, Caller, Given, Producer, Reply, Request, Response};
use crate::order;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
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

/// Filters of a list: key → its values.
pub type Filters = BTreeMap<String, Vec<String>>;

/// What to stream from and to a container.
pub struct Attach<'a> {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub detach_keys: &'a str,
}

/// Which lines of a log.
#[derive(Default)]
pub struct Logs<'a> {
    pub follow: bool,
    pub timestamps: bool,
    pub details: bool,
    /// Seconds since 1970 with a fraction; empty for no bound.
    pub since: &'a str,
    pub until: &'a str,
    /// `all` or a number.
    pub tail: &'a str,
}

type Query = Vec<(String, String)>;

/// The header with the secrets of a build, which is in no log: base64 of JSON, each value base64 again.
pub const SECRETS: &str = "X-Dhow-Build-Secrets";

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
        let message = match serde_json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) => answer.message,
            Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(Failure { status, message }.into())
    }

    fn get<T: DeserializeOwned>(&self, path: String, query: Query) -> Result<T> {
        json(self.call(request("GET", path, query, Body::Empty))?)
    }

    fn post(&self, path: String, query: Query) -> Result<Response> {
        self.call(request("POST", path, query, Body::Empty))
    }

    fn send<T: DeserializeOwned>(&self, path: &str, query: Query, body: &impl Serialize) -> Result<T> {
        let body = Body::Bytes(serde_json::to_vec(body).context("writing a request")?);
        json(self.call(request("POST", path.to_owned(), query, body))?)
    }

    /// Containers, newest first; `limit` 0 is all.
    pub fn containers(&self, all: bool, limit: i64, size: bool, filters: &Filters) -> Result<Vec<ContainerSummary>> {
        let mut query = filtered(filters);
        push_flag(&mut query, "all", all);
        push_flag(&mut query, "size", size);
        if limit > 0 {
            query.push(("limit".into(), limit.to_string()));
        }
        self.get("/containers/json".into(), query)
    }

    /// Makes a container. The name may be empty.
    pub fn create(&self, name: &str, platform: &str, create: &ContainerCreate) -> Result<ContainerCreated> {
        let mut query = Query::new();
        push(&mut query, "name", name);
        push(&mut query, "platform", platform);
        self.send("/containers/create", query, create)
    }

    pub fn container(&self, id: &str) -> Result<ContainerInspect> {
        self.get(container(id, "/json")?, vec![])
    }

    pub fn start(&self, id: &str, detach_keys: &str) -> Result<()> {
        let mut query = Query::new();
        push(&mut query, "detachKeys", detach_keys);
        self.post(container(id, "/start")?, query).map(drop)
    }

    /// Stops it; without a signal or a number of seconds, with the container's own.
    pub fn stop(&self, id: &str, signal: &str, seconds: Option<i64>) -> Result<()> {
        self.post(container(id, "/stop")?, stop_query(signal, seconds)).map(drop)
    }

    pub fn restart(&self, id: &str, signal: &str, seconds: Option<i64>) -> Result<()> {
        self.post(container(id, "/restart")?, stop_query(signal, seconds)).map(drop)
    }

    pub fn kill(&self, id: &str, signal: &str) -> Result<()> {
        let mut query = Query::new();
        push(&mut query, "signal", signal);
        self.post(container(id, "/kill")?, query).map(drop)
    }

    pub fn pause(&self, id: &str) -> Result<()> {
        self.post(container(id, "/pause")?, vec![]).map(drop)
    }

    pub fn unpause(&self, id: &str) -> Result<()> {
        self.post(container(id, "/unpause")?, vec![]).map(drop)
    }

    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        self.post(container(id, "/rename")?, vec![("name".into(), name.into())]).map(drop)
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        self.post(container(id, "/resize")?, size_query(rows, columns)).map(drop)
    }

    pub fn remove(&self, id: &str, force: bool, volumes: bool, link: bool) -> Result<()> {
        let mut query = Query::new();
        push_flag(&mut query, "force", force);
        push_flag(&mut query, "v", volumes);
        push_flag(&mut query, "link", link);
        self.call(request("DELETE", container(id, "")?, query, Body::Empty)).map(drop)
    }

    pub fn top(&self, id: &str, arguments: &str) -> Result<Top> {
        let mut query = Query::new();
        push(&mut query, "ps_args", arguments);
        self.get(container(id, "/top")?, query)
    }

    /// What it uses, by one sample: the processor's part of another one is not in it.
    pub fn stats(&self, id: &str) -> Result<Stats> {
        let once = [("stream", "0"), ("one-shot", "1")];
        self.get(container(id, "/stats")?, once.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    /// Begins to wait for `not-running`, `next-exit` or `removed`: whatever happens after this returns is seen.
    pub fn wait(&self, id: &str, condition: &str) -> Result<Waiting> {
        Ok(Waiting(self.post(container(id, "/wait")?, vec![("condition".into(), condition.into())])?))
    }

    /// Connects to its streams.
    pub fn attach(&self, id: &str, what: &Attach) -> Result<OwnedFd> {
        let mut query = Query::new();
        push_flag(&mut query, "stream", true);
        push_flag(&mut query, "stdin", what.stdin);
        push_flag(&mut query, "stdout", what.stdout);
        push_flag(&mut query, "stderr", what.stderr);
        push(&mut query, "detachKeys", what.detach_keys);
        upgraded(self.call(upgrade(request("POST", container(id, "/attach")?, query, Body::Empty)))?)
    }

    /// Writes its log into `sink`, framed unless it has a terminal.
    pub fn logs(&self, id: &str, what: &Logs, sink: &mut dyn Write) -> Result<()> {
        let mut query = Query::new();
        push_flag(&mut query, "stdout", true);
        push_flag(&mut query, "stderr", true);
        push_flag(&mut query, "follow", what.follow);
        push_flag(&mut query, "timestamps", what.timestamps);
        push_flag(&mut query, "details", what.details);
        push(&mut query, "since", what.since);
        push(&mut query, "until", what.until);
        push(&mut query, "tail", what.tail);
        stream(self.call(request("GET", container(id, "/logs")?, query, Body::Empty))?, sink)
    }

    /// What lies at a path of it; a link at the end is not followed.
    pub fn stat_path(&self, id: &str, path: &str) -> Result<PathStat> {
        path_stat(&self.call(request("HEAD", container(id, "/archive")?, at(path), Body::Empty))?)
    }

    /// The same, and all that is below it: the tar comes from the second.
    pub fn get_archive(&self, id: &str, path: &str) -> Result<(PathStat, Tar)> {
        let response = self.call(request("GET", container(id, "/archive")?, at(path), Body::Empty))?;
        Ok((path_stat(&response)?, Tar(response)))
    }

    /// Unpacks a tar into a directory of it. Neither is a directory replaced by something else nor the other way
    /// round; with `copy_ids` all becomes the container's user's.
    pub fn put_archive(&self, id: &str, path: &str, copy_ids: bool, tar: Box<dyn Read + Send>) -> Result<()> {
        let mut query = at(path);
        push_flag(&mut query, "noOverwriteDirNonDir", true);
        push_flag(&mut query, "copyUIDGID", copy_ids);
        self.call(request("PUT", container(id, "/archive")?, query, Body::Reader(tar))).map(drop)
    }

    /// What it changed in its image.
    pub fn changes(&self, id: &str) -> Result<Vec<Change>> {
        Ok(self.get::<Option<Vec<Change>>>(container(id, "/changes")?, vec![])?.unwrap_or_default())
    }

    /// Its root as a tar, without what is mounted in it.
    pub fn export(&self, id: &str) -> Result<Tar> {
        Ok(Tar(self.call(request("GET", container(id, "/export")?, vec![], Body::Empty))?))
    }

    /// Makes an image of it; the query is that of `POST /commit`.
    pub fn commit(&self, query: Vec<(String, String)>) -> Result<Committed> {
        json(self.post("/commit".into(), query)?)
    }

    /// Changes its restart policy, and the limits that are not zero.
    pub fn update(&self, id: &str, asked: &HostConfig) -> Result<Updated> {
        self.send(&container(id, "/update")?, vec![], asked)
    }

    pub fn prune_containers(&self, filters: &Filters) -> Result<ContainersPruned> {
        json(self.post("/containers/prune".into(), filtered(filters))?)
    }

    pub fn exec(&self, id: &str, exec: &ExecCreate) -> Result<ExecCreated> {
        self.send(&container(id, "/exec")?, vec![], exec)
    }

    /// Runs an exec in the background.
    pub fn exec_detached(&self, id: &str, start: &ExecStart) -> Result<()> {
        let body = Body::Bytes(serde_json::to_vec(start).context("writing a request")?);
        self.call(request("POST", format!("/exec/{id}/start"), vec![], body)).map(drop)
    }

    /// Runs an exec and connects to its streams.
    pub fn exec_start(&self, id: &str, start: &ExecStart) -> Result<OwnedFd> {
        let body = Body::Bytes(serde_json::to_vec(start).context("writing a request")?);
        upgraded(self.call(upgrade(request("POST", format!("/exec/{id}/start"), vec![], body)))?)
    }

    pub fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        self.post(format!("/exec/{id}/resize"), size_query(rows, columns)).map(drop)
    }

    pub fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        self.get(format!("/exec/{id}/json"), vec![])
    }

    pub fn images(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        let mut query = filtered(filters);
        push_flag(&mut query, "all", all);
        self.get("/images/json".into(), query)
    }

    pub fn history(&self, name: &str, platform: &str) -> Result<Vec<HistoryItem>> {
        let mut query = Query::new();
        push(&mut query, "platform", platform);
        self.get(image(name, "/history")?, query)
    }

    pub fn tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let mut query = vec![("repo".to_owned(), repository.to_owned())];
        push(&mut query, "tag", tag);
        self.post(image(name, "/tag")?, query).map(drop)
    }

    pub fn remove_image(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
        platforms: &[String],
    ) -> Result<Vec<ImageDeleted>> {
        let mut query = Query::new();
        push_flag(&mut query, "force", force);
        push_flag(&mut query, "noprune", no_prune);
        query.extend(platforms.iter().map(|platform| ("platforms".to_owned(), platform.clone())));
        json(self.call(request("DELETE", image(name, "")?, query, Body::Empty))?)
    }

    pub fn prune_images(&self, filters: &Filters) -> Result<ImagesPruned> {
        json(self.post("/images/prune".into(), filtered(filters))?)
    }

    /// Pulls an image, or all of a repository if `tag` is empty; lines of [`ProgressLine`] go into `sink`.
    /// `auth` is the value of `X-Registry-Auth`.
    pub fn pull(
        &self,
        name: &str,
        tag: &str,
        platform: &str,
        auth: Option<String>,
        sink: &mut dyn Write,
    ) -> Result<()> {
        let mut query = vec![("fromImage".to_owned(), name.to_owned())];
        push(&mut query, "tag", tag);
        push(&mut query, "platform", platform);
        let mut request = request("POST", "/images/create".into(), query, Body::Empty);
        request.headers.extend(auth.map(|value| ("X-Registry-Auth".to_owned(), value)));
        stream(self.call(request)?, sink)
    }

    /// Pushes an image, or all tags of a repository if `tag` is empty; lines of [`ProgressLine`] go into `sink`.
    /// `auth` is the value of `X-Registry-Auth`, `others` a header that says who we are elsewhere; `platform` is JSON, or as
    /// people write it.
    pub fn push(
        &self,
        name: &str,
        tag: &str,
        platform: &str,
        compression: &str,
        (auth, others): (Option<String>, Option<(String, String)>),
        sink: &mut dyn Write,
    ) -> Result<()> {
        let mut query = Query::new();
        push(&mut query, "tag", tag);
        push(&mut query, "platform", platform);
        push(&mut query, "compressionFormat", compression);
        let mut request = request("POST", image(name, "/push")?, query, Body::Empty);
        // Clients of Docker's always send it.
        request.headers.push(("X-Registry-Auth".to_owned(), auth.unwrap_or_else(|| "e30=".to_owned())));
        request.headers.extend(others);
        stream(self.call(request)?, sink)
    }

    /// Makes an image of a tar; lines of [`ProgressLine`] go into `sink`.
    pub fn import(&self, query: Vec<(String, String)>, tar: Box<dyn Read + Send>, sink: &mut dyn Write) -> Result<()> {
        stream(self.call(request("POST", "/images/create".into(), query, Body::Reader(tar)))?, sink)
    }

    /// Writes images into `sink`, as a tar that [`Client::load`] reads.
    pub fn save(&self, names: &[String], platform: &str, sink: &mut dyn Write) -> Result<()> {
        let mut query: Query = names.iter().map(|name| ("names".to_owned(), name.clone())).collect();
        push(&mut query, "platform", platform);
        stream(self.call(request("GET", "/images/get".into(), query, Body::Empty))?, sink)
    }

    /// Loads the images of a tar; lines of [`ProgressLine`] go into `sink`.
    pub fn load(&self, quiet: bool, platform: &str, tar: Box<dyn Read + Send>, sink: &mut dyn Write) -> Result<()> {
        let mut query = vec![("quiet".to_owned(), if quiet { "1" } else { "0" }.to_owned())];
        push(&mut query, "platform", platform);
        stream(self.call(request("POST", "/images/load".into(), query, Body::Reader(tar)))?, sink)
    }

    /// Builds an image; lines of [`ProgressLine`] go into `sink`, and among them the image's id.
    pub fn build(
        &self,
        query: Query,
        headers: Vec<(String, String)>,
        body: Body,
        given: Given,
        caller: Caller,
        sink: &mut dyn Write,
    ) -> Result<()> {
        let tar = !matches!(body, Body::Empty | Body::Folder(_));
        let mut request = Request { caller, given, ..request("POST", "/build".into(), query, Body::Empty) };
        if tar {
            request.headers.push(("Content-Type".into(), "application/x-tar".into()));
        }
        request.headers.extend(headers);
        request.body = body;
        stream(self.call(request)?, sink)
    }

    pub fn prune_builds(&self, all: bool, keep: &str, filters: &Filters) -> Result<BuildPruned> {
        let mut query = filtered(filters);
        push_flag(&mut query, "all", all);
        push(&mut query, "keep-storage", keep);
        json(self.post("/build/prune".into(), query)?)
    }

    /// Asks whether a registry knows somebody.
    pub fn login(&self, who: &AuthConfig) -> Result<AuthAnswer> {
        self.send("/auth", vec![], who)
    }

    pub fn search(&self, term: &str) -> Result<()> {
        self.get::<serde_json::Value>("/images/search".into(), vec![("term".into(), term.into())]).map(drop)
    }

    pub fn volumes(&self, filters: &Filters) -> Result<VolumeList> {
        self.get("/volumes".into(), filtered(filters))
    }

    pub fn create_volume(&self, create: &VolumeCreate) -> Result<Volume> {
        self.send("/volumes/create", vec![], create)
    }

    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let mut query = Query::new();
        push_flag(&mut query, "force", force);
        self.call(request("DELETE", named("volume", name, "/volumes/", "")?, query, Body::Empty)).map(drop)
    }

    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.get("/system/df".into(), vec![])
    }

    pub fn prune_networks(&self, filters: &Filters) -> Result<NetworksPruned> {
        json(self.post("/networks/prune".into(), filtered(filters))?)
    }

    pub fn prune_volumes(&self, filters: &Filters) -> Result<VolumesPruned> {
        json(self.post("/volumes/prune".into(), filtered(filters))?)
    }

    pub fn version(&self) -> Result<Version> {
        self.get("/version".into(), vec![])
    }

    pub fn info(&self) -> Result<Info> {
        self.get("/info".into(), vec![])
    }

    /// Writes what happens into `sink`, a JSON line of [`Event`] each: what has happened since then, and on until then.
    /// Seconds since 1970 with a fraction; empty for no bound.
    pub fn events(&self, since: &str, until: &str, filters: &Filters, sink: &mut dyn Write) -> Result<()> {
        let mut query = filtered(filters);
        push(&mut query, "since", since);
        push(&mut query, "until", until);
        stream(self.call(request("GET", "/events".into(), query, Body::Empty))?, sink)
    }

    pub fn create_network(&self, create: &NetworkCreate) -> Result<NetworkCreated> {
        self.send("/networks/create", vec![], create)
    }

    pub fn remove_network(&self, name: &str) -> Result<()> {
        self.call(request("DELETE", named("network", name, "/networks/", "")?, vec![], Body::Empty)).map(drop)
    }

    pub fn connect_network(&self, name: &str, asked: &NetworkConnect) -> Result<()> {
        self.change_network(name, "/connect", asked)
    }

    pub fn disconnect_network(&self, name: &str, asked: &NetworkDisconnect) -> Result<()> {
        self.change_network(name, "/disconnect", asked)
    }

    fn change_network(&self, name: &str, verb: &str, asked: &impl Serialize) -> Result<()> {
        let body = Body::Bytes(serde_json::to_vec(asked).context("writing a request")?);
        self.call(request("POST", named("network", name, "/networks/", verb)?, vec![], body)).map(drop)
    }

    /// Not Docker's: other engines say that there is no such page.
    pub fn published_ports(&self) -> Result<Vec<PublishedPort>> {
        self.get("/ports".into(), vec![])
    }

    pub fn networks(&self, filters: &Filters) -> Result<Vec<Network>> {
        self.get("/networks".into(), filtered(filters))
    }

    /// The JSON of inspect as the engine wrote it, for `inspect`.
    pub fn inspect_container(&self, id: &str, size: bool) -> Result<Vec<u8>> {
        let mut query = Query::new();
        push_flag(&mut query, "size", size);
        bytes(self.call(request("GET", container(id, "/json")?, query, Body::Empty))?)
    }

    pub fn inspect_image(&self, name: &str, platform: &str) -> Result<Vec<u8>> {
        let mut query = Query::new();
        push(&mut query, "platform", platform);
        bytes(self.call(request("GET", image(name, "/json")?, query, Body::Empty))?)
    }

    pub fn inspect_network(&self, name: &str) -> Result<Vec<u8>> {
        bytes(self.call(request("GET", named("network", name, "/networks/", "")?, vec![], Body::Empty))?)
    }

    pub fn inspect_volume(&self, name: &str) -> Result<Vec<u8>> {
        bytes(self.call(request("GET", named("volume", name, "/volumes/", "")?, vec![], Body::Empty))?)
    }
}

/// A wait that has begun.
pub struct Waiting(Response);

impl Waiting {
    /// Blocks until it is over.
    pub fn finish(self) -> Result<WaitAnswer> {
        json(self.0)
    }
}

/// A tar that the engine is ready to write.
pub struct Tar(Response);

impl Tar {
    /// Writes it; errors are the engine's and the sink's.
    pub fn write_to(self, sink: &mut dyn Write) -> Result<()> {
        stream(self.0, sink)
    }
}

fn at(path: &str) -> Query {
    vec![("path".to_owned(), path.to_owned())]
}

fn path_stat(response: &Response) -> Result<PathStat> {
    let is_stat = |(name, _): &&(&str, String)| name.eq_ignore_ascii_case("X-Docker-Container-Path-Stat");
    let text = response.headers.iter().find(is_stat).map(|(_, value)| value.as_str()).unwrap_or_default();
    let json = base64::decode(text).context("the engine answered with a wrong header")?;
    serde_json::from_slice(&json).context("reading the engine's answer")
}

fn request(method: &'static str, path: String, query: Query, body: Body) -> Request {
    let json = matches!(body, Body::Bytes(_));
    let headers = if json { vec![("Content-Type".into(), "application/json".into())] } else { vec![] };
    Request { query, headers, body, ..Request::new(method, path) }
}

/// Asks for the connection itself.
fn upgrade(mut request: Request) -> Request {
    let words = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
    request.headers.extend(words.map(|(name, value)| (name.to_owned(), value.to_owned())));
    request
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
    let sets: BTreeMap<&String, BTreeMap<&String, bool>> =
        order::map(filters.iter().map(|(key, values)| (key, order::map(values.iter().map(|value| (value, true))))));
    vec![("filters".to_owned(), serde_json::json!(sets).to_string())]
}

fn stop_query(signal: &str, seconds: Option<i64>) -> Query {
    let mut query = Query::new();
    push(&mut query, "signal", signal);
    if let Some(seconds) = seconds {
        query.push(("t".into(), seconds.to_string()));
    }
    query
}

fn size_query(rows: u16, columns: u16) -> Query {
    vec![("h".into(), rows.to_string()), ("w".into(), columns.to_string())]
}

fn container(id: &str, rest: &str) -> Result<String> {
    named("container", id.trim_matches('/'), "/containers/", rest)
}

fn image(name: &str, rest: &str) -> Result<String> {
    named("image", name, "/images/", rest)
}

/// An empty name would make another path.
fn named(kind: &str, name: &str, before: &str, rest: &str) -> Result<String> {
    if name.trim().is_empty() {
        bail!("invalid {kind} name or ID: value is empty");
    }
    Ok([before, name, rest].concat())
}

fn json<T: DeserializeOwned>(response: Response) -> Result<T> {
    serde_json::from_slice(&bytes(response)?).context("reading the engine's answer")
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

fn upgraded(response: Response) -> Result<OwnedFd> {
    match response.body {
        Reply::Upgraded { join, .. } => join(),
        _ => bail!("the engine answered with text where a connection was asked for"),
    }
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
