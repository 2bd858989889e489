//! What is asked about containers, and of what runs in them.

use super::{Client, Filters, Query, bytes, filtered, json, named, push, push_flag, request, stream};
use crate::api::base64;
use crate::api::types::*;
use crate::api::wire::{Body, Reply, Request, Response};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

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

impl Client {
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

    /// The JSON of inspect as the engine wrote it, for `inspect`.
    pub fn inspect_container(&self, id: &str, size: bool) -> Result<Vec<u8>> {
        let mut query = Query::new();
        push_flag(&mut query, "size", size);
        bytes(self.call(request("GET", container(id, "/json")?, query, Body::Empty))?)
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
    crate::json::from_slice(&json).context("reading the engine's answer")
}

/// Asks for the connection itself.
fn upgrade(mut request: Request) -> Request {
    let words = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
    request.headers.extend(words.map(|(name, value)| (name.to_owned(), value.to_owned())));
    request
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

fn upgraded(response: Response) -> Result<OwnedFd> {
    match response.body {
        Reply::Upgraded { join, .. } => join(),
        _ => bail!("the engine answered with text where a connection was asked for"),
    }
}

fn container(id: &str, rest: &str) -> Result<String> {
    named("container", id.trim_matches('/'), "/containers/", rest)
}
