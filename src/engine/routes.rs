//! The whole HTTP API on one page: method and path to verb. What carries the request is not known here.

mod encoding;
mod path;
mod wire;

use super::containers::{self, Until};
use super::protocol::{STDERR, STDIN, STDOUT};
use super::shim::Whose;
use super::{
    Engine, Record, Store, absent, create, distribution, events, exec, files, images, lines, logs, networks, older,
    pull, push, query, stats, system, update, usage, volumes,
};
use crate::api::errno;
use crate::api::types::{
    AuthConfig, Committed, ContainerConfig, ExecCreate, ExecCreated, ExecStart, HostConfig, NetworkConnect,
    NetworkCreate, NetworkDisconnect, ProgressLine, VolumeCreate, WaitAnswer,
};
use crate::api::units::parse_bool;
use crate::api::{Body, Refusal, Reply, Request, Response};
use crate::build::prune::{self, Bounds};
use crate::oci::Reference;
use crate::oci::auth::{self, Credentials, Registries};
use anyhow::{Context, Result, bail};
use std::io::Read;
use std::sync::Arc;
use wire::{
    answer, body, container_asked, empty, filters, form, has_body, json, json_body, list_query, number, of_platform,
    one_platform, pair_value, platform, refused, refused_stream, seconds, size, stream_kind, with_stat,
};

/// Answers a request.
pub fn handle(engine: &Arc<Engine>, request: Request) -> Response {
    route(engine, request).unwrap_or_else(|error| refused(&engine.store.read_only(error)))
}

fn route(engine: &Arc<Engine>, mut request: Request) -> Result<Response> {
    let store = &engine.store;
    let path = std::mem::take(&mut request.path);
    let parts = path::parts(request.method, &path);
    form(&mut request, &parts)?;
    let container = |name: &str| containers::find(store, name);
    match (request.method, parts.as_slice()) {
        (method @ ("GET" | "HEAD"), ["_ping"]) => Ok(ping(method)),
        ("GET", ["version"]) => json(200, &system::version()),
        ("GET", ["info"]) => {
            let mut info = system::info(engine)?;
            older::info(request.version, &mut info);
            json(200, &info)
        }
        ("GET", ["events"]) => events(store, &request),
        ("POST", ["auth"]) => json(
            200,
            &distribution::login(
                json_body::<AuthConfig>(&mut request, "registry.AuthConfig")?,
                &engine.settings.registry(),
            )?,
        ),

        ("GET", ["containers", "json"]) => {
            let mut list = query::list(store, &list_query(&request)?)?;
            older::containers(request.version, &mut list);
            json(200, &list)
        }
        ("POST", ["containers", "create"]) => container_create(engine, &mut request),
        ("POST", ["containers", "prune"]) => json(200, &query::prune(store, &filters(&request)?)?),
        ("GET", ["containers", name, "json"]) => {
            let mut found = query::inspect(store, &container(name)?, request.flag("size"))?;
            older::container(request.version, &mut found);
            json(200, &found)
        }
        // What a start was told before 1.24 would be lost.
        ("POST", ["containers", _, "start"]) if has_body(&request) => bail!(Refusal::BadParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
                .to_owned()
        )),
        ("POST", ["containers", _, "start"]) if request.query("checkpoint").is_some_and(|name| !name.is_empty()) => {
            bail!(Refusal::BadParameter("checkpoint is only supported in experimental mode".to_owned()))
        }
        ("POST", ["containers", name, "start"]) => empty(containers::start(store, &container(name)?)),
        ("POST", ["containers", name, "stop"]) => {
            let (id, signal) = (container(name)?, older::since(42, &request, "signal"));
            empty(containers::stop(store, &id, signal, seconds(&request)?).map_err(|error| {
                // What else is in the way is a plain 500, as Docker's.
                match error.downcast_ref() {
                    Some(Refusal::NotModified) => error,
                    _ => anyhow::anyhow!("cannot stop container: {name}: {error:#}"),
                }
            }))
        }
        ("POST", ["containers", name, "restart"]) => {
            let (id, signal) = (container(name)?, older::since(42, &request, "signal"));
            // A plain 500, as Docker's, whatever it was.
            empty(
                containers::restart(store, &id, signal, seconds(&request)?)
                    .map_err(|error| anyhow::anyhow!("Cannot restart container {name}: {error:#}")),
            )
        }
        ("POST", ["containers", name, "kill"]) => {
            let killed = containers::kill(store, name, request.query("signal"));
            empty(killed.with_context(|| format!("cannot kill container: {name}")))
        }
        ("POST", ["containers", name, "pause"]) => empty(containers::pause(store, &container(name)?, true)),
        ("POST", ["containers", name, "unpause"]) => empty(containers::pause(store, &container(name)?, false)),
        ("POST", ["containers", name, "rename"]) => {
            empty(containers::rename(store, name, request.query("name").unwrap_or_default()))
        }
        ("POST", ["containers", name, "resize"]) => container_resize(store, &container(name)?, &request),
        ("POST", ["containers", name, "wait"]) => container_wait(engine, name, &request),
        ("GET", ["containers", name, "attach", "ws"]) => container_websocket(engine, name, &request),
        ("POST", ["containers", name, "attach"]) => {
            Ok(container_attach(engine, name, &request).unwrap_or_else(|error| refused_stream(&error)))
        }
        ("GET", ["containers", name, "logs"]) => container_logs(engine, name, &request),
        ("GET", ["containers", name, "stats"]) => container_stats(engine, &container(name)?, &request),
        ("GET", ["containers", name, "top"]) => {
            let args: Vec<String> = request.query("ps_args").map(str::to_owned).into_iter().collect();
            json(200, &containers::top(store, &container(name)?, &args)?)
        }
        ("HEAD", ["containers", name, "archive"]) => {
            let stat = files::stat(store, name, request.query("path").unwrap_or_default())?;
            Ok(with_stat(answer(200, Reply::Empty), &stat)?)
        }
        ("GET", ["containers", name, "archive"]) => {
            let (stat, tar) = files::read(store, name, request.query("path").unwrap_or_default())?;
            Ok(with_stat(encoding::stream(&request, tar), &stat)?.with("Content-Type", "application/x-tar"))
        }
        ("PUT", ["containers", name, "archive"]) => {
            let tar = reader(&mut request);
            let put = files::Put {
                path: request.query("path").unwrap_or_default(),
                no_overwrite: request.flag("noOverwriteDirNonDir"),
                copy_ids: request.flag("copyUIDGID"),
            };
            files::put(store, name, &put, tar)?;
            Ok(answer(200, Reply::Empty))
        }
        ("GET", ["containers", name, "changes"]) => {
            let id = container(name)?;
            let record = Record::load(store, &id)?.ok_or_else(|| containers::no_such(name))?;
            json(200, &files::changes(store, &record)?)
        }
        ("GET", ["containers", name, "export"]) => {
            let tar = Reply::Stream(files::export(store, name)?);
            Ok(answer(200, tar).with("Content-Type", "application/octet-stream"))
        }
        ("POST", ["containers", name, "update"]) => {
            let mut asked = body::<HostConfig>(&mut request, "container.UpdateConfig")?;
            older::update(request.version, &mut asked);
            json(200, &update::update(store, &container(name)?, asked)?)
        }
        ("GET", ["system", "df"]) => {
            let mut held = usage::usage(store, &older::usage_kinds(&request))?;
            older::usage(request.version, &mut held);
            json(200, &held)
        }
        ("POST", ["commit"]) => commit(engine, &mut request),
        ("DELETE", ["containers", name]) if request.flag("link") => empty(networks::links::remove(store, name)),
        ("DELETE", ["containers", name]) => {
            empty(containers::remove(store, name, request.flag("force"), request.flag("v")))
        }

        ("POST", ["containers", name, "exec"]) => {
            let mut asked = body::<ExecCreate>(&mut request, "container.ExecOptions")?;
            older::exec_create(request.version, &mut asked);
            if keys(&asked.detach_keys).is_none() {
                bail!("Invalid escape keys ({}) provided", asked.detach_keys);
            }
            json(201, &ExecCreated { id: exec::create(store, name, asked)? })
        }
        ("POST", ["exec", id, "start"]) => exec_start(engine, id, &mut request),
        ("GET", ["exec", id, "json"]) => json(200, &exec::inspect(store, id)?),
        ("POST", ["exec", id, "resize"]) => {
            let (rows, columns) = size(&request)?;
            exec::resize(store, id, rows, columns)?;
            Ok(answer(200, Reply::Empty))
        }

        ("GET", ["images", "json"]) => {
            let mut filters = filters(&request)?;
            older::image_filters(&request, &mut filters);
            let mut list = images::list(store, request.flag("all"), request.flag("shared-size"), &filters)?;
            older::images(request.version, &mut list);
            json(200, &list)
        }
        ("POST", ["images", "create"]) => image_create(engine, request),
        ("GET", ["images", "search"]) => empty(distribution::search()),
        ("GET", ["images", "get"]) => {
            let names: Vec<String> = request.query.iter().filter(|(key, _)| key == "names").map(pair_value).collect();
            image_save(engine, &names, &request)
        }
        ("POST", ["images", "load"]) => image_load(engine, request),
        ("POST", ["images", "prune"]) => json(200, &images::prune(store, &filters(&request)?)?),
        ("GET", ["images", name @ .., "json"]) => {
            of_platform(engine, &name.join("/"), &request)?;
            let mut image = images::inspect(store, &name.join("/"))?;
            older::image(request.version, &mut image);
            json(200, &image)
        }
        ("GET", ["images", name @ .., "get"]) => image_save(engine, &[name.join("/")], &request),
        ("GET", ["images", name @ .., "history"]) => {
            of_platform(engine, &name.join("/"), &request)?;
            json(200, &images::history(store, &name.join("/"))?)
        }
        ("POST", ["images", name @ .., "push"]) if !name.is_empty() => image_push(engine, &name.join("/"), &request),
        ("POST", ["images", name @ .., "tag"]) => {
            let (repo, tag) = (request.query("repo").unwrap_or_default(), request.query("tag").unwrap_or_default());
            images::tag(store, &name.join("/"), repo, tag)?;
            Ok(answer(201, Reply::Empty))
        }
        ("DELETE", ["images", name @ ..]) if name.join("/").trim().is_empty() => {
            bail!(Refusal::BadParameter("image name cannot be blank".to_owned()))
        }
        ("DELETE", ["images", name @ ..]) => {
            of_platform(engine, &name.join("/"), &request)?;
            json(200, &images::remove(store, &name.join("/"), request.flag("force"), !request.flag("noprune"))?)
        }

        ("POST", ["build"]) => crate::build::route(engine, request),
        ("POST", ["build", "prune"]) => build_prune(store, &request),
        // A build ends with its connection: there is none to be found by a name.
        ("POST", ["build", "cancel"]) => match request.query("id") {
            None | Some("") => bail!(Refusal::BadParameter("build ID not provided".to_owned())),
            Some(_) => Ok(answer(200, Reply::Empty)),
        },

        ("GET", ["distribution", name @ .., "json"]) if !name.is_empty() => {
            let credentials = request.header("X-Registry-Auth").map(Credentials::from_header);
            json(200, &distribution::inspect(&name.join("/"), credentials, &engine.settings.registry())?)
        }

        ("GET", ["volumes"]) => json(200, &volumes::list(store, &filters(&request)?)?),
        ("POST", ["volumes", "create"]) => {
            json(201, &volumes::create(store, &body::<VolumeCreate>(&mut request, "volume.CreateOptions")?)?)
        }
        ("POST", ["volumes", "prune"]) => {
            let mut filters = filters(&request)?;
            older::volume_prune(request.version, &mut filters);
            json(200, &volumes::prune(store, &filters)?)
        }
        ("GET", ["volumes", name]) => json(200, &volumes::inspect(store, name)?),
        ("DELETE", ["volumes", name]) => empty(volumes::remove(store, name, request.flag("force"))),

        ("GET", ["ports"]) => json(200, &networks::published(store)?),
        ("GET", ["networks"] | ["networks", ""]) => json(200, &networks::list(store, &filters(&request)?)?),
        ("POST", ["networks", "create"]) => json(
            201,
            &networks::create(store, &engine.settings, body::<NetworkCreate>(&mut request, "network.CreateRequest")?)?,
        ),
        ("POST", ["networks", "prune"]) => json(200, &networks::prune(store, &filters(&request)?)?),
        ("GET", ["networks", name]) => {
            // What it asks for more of is a swarm's: networks of this host have none of it in Docker's engine either.
            if let Some(text) = request.query("verbose").filter(|text| !text.is_empty() && parse_bool(text).is_none()) {
                bail!(Refusal::BadParameter(format!("invalid value for verbose: {text}")));
            }
            json(200, &networks::inspect(store, name)?)
        }
        ("POST", ["networks", name, "connect"]) => {
            networks::join_network(store, name, body::<NetworkConnect>(&mut request, "network.ConnectOptions")?)?;
            Ok(answer(200, Reply::Empty))
        }
        ("POST", ["networks", name, "disconnect"]) => {
            networks::disconnect(store, name, &body::<NetworkDisconnect>(&mut request, "network.DisconnectOptions")?)?;
            Ok(answer(200, Reply::Empty))
        }
        ("DELETE", ["networks", name]) => empty(networks::remove(store, name)),

        ("OPTIONS", _) => Ok(answer(200, Reply::Empty)),

        (method, parts) => match absent::answer(method, parts) {
            Some(answer) => answer,
            None => bail!(Refusal::NotFound("page not found".to_owned())),
        },
    }
}

/// What a client asks first: whether we live, and what we speak.
fn ping(method: &str) -> Response {
    let headers = [
        // Builds go through POST /build, not through a BuildKit session.
        ("Builder-Version", "1"),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Pragma", "no-cache"),
        ("Swarm", "inactive"),
    ];
    // As dockerd: without the body it says that there is none, not how long it would be.
    let body = if method == "HEAD" { Vec::new() } else { b"OK".to_vec() };
    headers.into_iter().fold(answer(200, Reply::Json(body)), |answer, (name, value)| answer.with(name, value))
}

fn events(store: &Store, request: &Request) -> Result<Response> {
    let text = |key: &str| request.query(key).unwrap_or_default();
    let known = older::knows_event(request.version);
    let query = events::Query::new(text("since"), text("until"), filters(request)?, known)?;
    // Opened before the answer begins: what happens right after that is told.
    let follower = events::Follower::open(store, query)?;
    let producer = move |sink: &mut dyn std::io::Write| follower.run(sink);
    Ok(answer(200, Reply::Stream(Box::new(producer))).with("Content-Type", "application/json"))
}

fn container_create(engine: &Engine, request: &mut Request) -> Result<Response> {
    let mut asked = container_asked(request)?;
    let unified = crate::cgroup::home().is_some();
    let warnings = older::create(request.version, unified, &mut asked)?;
    let platform = older::since(41, request, "platform").map(|_| platform(request)).transpose()?.flatten();
    let name = request.query("name");
    let mut made = create::create(&engine.store, &engine.settings, asked, name, platform.as_ref())?;
    made.warnings.extend(warnings);
    for warning in &mut made.warnings {
        *warning = errno::spelt(warning).into_owned();
    }
    json(201, &made)
}

fn commit(engine: &Engine, request: &mut Request) -> Result<Response> {
    let config = body::<Option<ContainerConfig>>(request, "container.Config")?.unwrap_or_default();
    let text = |key: &str| request.query(key).unwrap_or_default();
    // Paused unless it is said otherwise.
    let pause = request.query("pause").is_none() || request.flag("pause");
    let changes = request.query.iter().filter(|(key, _)| key == "changes").map(|(_, value)| value.clone()).collect();
    let names = ((text("repo"), text("tag")), (text("comment"), text("author")));
    let asked = images::Commit::asked(names.0, names.1, pause, changes, config)?;
    let id = images::commit(&engine.store, text("container"), asked)?;
    json(201, &Committed { id: id.to_string() })
}

fn container_wait(engine: &Arc<Engine>, name: &str, request: &Request) -> Result<Response> {
    if !older::answers_waits_first(request.version) {
        let id = containers::find(&engine.store, name)?;
        let code = containers::wait(&engine.store, &id, Until::NotRunning)?.finish(&engine.store, &request.caller)?;
        return json(200, &WaitAnswer { status_code: code.into(), error: None });
    }
    let until = match request.query("condition").unwrap_or_default() {
        "" | "not-running" => Until::NotRunning,
        "next-exit" => Until::NextExit,
        "removed" => Until::Removed,
        other => bail!(Refusal::BadParameter(format!("invalid condition: {other:?}"))),
    };
    // Registered before the answer begins: an end that comes right after it is not missed.
    let wait = containers::wait(&engine.store, &containers::find(&engine.store, name)?, until)?;
    let (engine, caller) = (Arc::clone(engine), request.caller.clone());
    let producer = move |sink: &mut dyn std::io::Write| {
        let code = wait.finish(&engine.store, &caller).map_err(std::io::Error::other)?;
        let answer = WaitAnswer { status_code: code.into(), error: None };
        sink.write_all(&serde_json::to_vec(&answer)?)
    };
    Ok(answer(200, Reply::Stream(Box::new(producer))))
}

fn container_attach(engine: &Engine, name: &str, request: &Request) -> Result<Response> {
    attach(engine, name, request, ["stdin", "stdout", "stderr"].map(|name| request.flag(name)))
}

fn attach(engine: &Engine, name: &str, request: &Request, [stdin, stdout, stderr]: [bool; 3]) -> Result<Response> {
    let keys = detach_keys(request.query("detachKeys").unwrap_or_default())?;
    let id = containers::find(&engine.store, name)?;
    let record = Record::load(&engine.store, &id)?.ok_or_else(|| containers::no_such(name))?;
    let stdin = stdin && record.config.open_stdin;
    let pick = |flag: bool, bit: i32| if flag { bit } else { 0 };
    let what = containers::Attach {
        streams: pick(stdin, STDIN) | pick(stdout, STDOUT) | pick(stderr, STDERR),
        keys,
        logs: request.flag("logs"),
        follow: request.flag("stream"),
    };
    let stream = containers::attach(&engine.store, &id, name, &what)?;
    let body = Reply::Upgraded { framed: !record.config.tty, join: Box::new(|| Ok(stream)) };
    Ok(answer(101, body).with("Content-Type", stream_kind(request, record.config.tty)))
}

/// The same in a WebSocket: how that goes is the transport's.
fn container_websocket(engine: &Engine, name: &str, request: &Request) -> Result<Response> {
    containers::find(&engine.store, name)?;
    if request.header("Sec-WebSocket-Key").is_none() {
        bail!(Refusal::BadParameter("not a WebSocket: there is no Sec-WebSocket-Key".to_owned()));
    }
    match older::picks_streams(request.version) {
        true => container_attach(engine, name, request),
        false => attach(engine, name, request, [true; 3]),
    }
}

fn detach_keys(text: &str) -> Result<Vec<u8>> {
    Ok(keys(text).ok_or_else(|| Refusal::BadParameter(format!("Invalid detach keys ({text}) provided")))?)
}

/// Keys that detach, as bytes: `ctrl-p,ctrl-q` where nothing is said; `None` for what are no keys.
fn keys(text: &str) -> Option<Vec<u8>> {
    let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
    let key = |name: &str| -> Option<u8> {
        match (name.strip_prefix("ctrl-"), name.as_bytes()) {
            (_, [byte]) => Some(*byte),
            (Some(letter), _) => match letter.as_bytes() {
                [byte @ b'a'..=b'z'] => Some(byte - b'a' + 1),
                [b'@'] => Some(0),
                [b'['] => Some(27),
                [b'\\'] => Some(28),
                [b']'] => Some(29),
                [b'^'] => Some(30),
                [b'_'] => Some(31),
                _ => None,
            },
            _ => (name == "DEL").then_some(127),
        }
    };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.filter(|keys| keys.len() <= 16)
}

fn container_logs(engine: &Arc<Engine>, name: &str, request: &Request) -> Result<Response> {
    if !request.flag("stdout") && !request.flag("stderr") {
        bail!(Refusal::BadParameter("Bad parameters: you must choose at least one stream".to_owned()));
    }
    let id = containers::find(&engine.store, name)?;
    // Asked before the record is read, which says then when this life began, or a later one.
    let runs = super::record::held(&engine.store, &id)?.init;
    let record = Record::load(&engine.store, &id)?.ok_or_else(|| containers::no_such(name))?;
    logs::check_driver(&record.host_config.log_config.r#type)?;
    let point = |key: &str| match request.query(key).filter(|text| !text.is_empty() && *text != "0") {
        Some(text) => query::point(text).map(Some),
        None => Ok(None),
    };
    let tail = match request.query("tail").unwrap_or("all") {
        "" | "all" => None,
        // Docker takes what is no number for all.
        count => count.parse().ok(),
    };
    let options = logs::Options {
        // What does not run says nothing more; as with Docker, nobody waits for its next life.
        follow: request.flag("follow") && runs,
        tail,
        since: point("since")?,
        until: point("until")?,
        timestamps: request.flag("timestamps"),
        details: request.flag("details"),
        stdout: request.flag("stdout"),
        stderr: request.flag("stderr"),
        tty: record.config.tty,
    };
    let kind = stream_kind(request, options.tty);
    let engine = Arc::clone(engine);
    let producer = move |sink: &mut dyn std::io::Write| {
        let store = &engine.store;
        let begun = &record.ended.started_at;
        let life = || match Record::end(store, &record.id) {
            Ok(Some(now)) if now.started_at != *begun => {
                logs::Life::Another(crate::api::time::Time::parse(&now.started_at).unwrap_or_default())
            }
            Ok(Some(_)) if super::record::held(store, &record.id).is_ok_and(|held| held.init) => logs::Life::GoesOn,
            _ => logs::Life::Ended,
        };
        logs::stream(&record.log_path(store), &options, sink, &life).map_err(std::io::Error::other)
    };
    Ok(answer(200, Reply::Stream(Box::new(producer))).with("Content-Type", kind))
}

fn container_resize(store: &Store, id: &str, request: &Request) -> Result<Response> {
    let (rows, columns) = size(request)?;
    containers::resize(store, &Whose::container(id), rows, columns)?;
    Ok(answer(200, Reply::Empty))
}

fn container_stats(engine: &Arc<Engine>, id: &str, request: &Request) -> Result<Response> {
    let streamed = request.query("stream").is_none() || request.flag("stream");
    let one_shot = older::since(41, request, "one-shot").is_some() && request.flag("one-shot");
    if !streamed {
        return json(200, &stats::once(&engine.store, id, one_shot)?);
    }
    if one_shot {
        bail!(Refusal::BadParameter("cannot have stream=true and one-shot=true".to_owned()));
    }
    let (engine, id) = (Arc::clone(engine), id.to_owned());
    let producer = move |sink: &mut dyn std::io::Write| stats::stream(&engine.store, &id, sink);
    Ok(answer(200, Reply::Stream(Box::new(producer))).with("Content-Type", "application/json"))
}

fn exec_start(engine: &Arc<Engine>, id: &str, request: &mut Request) -> Result<Response> {
    let mut asked = body::<ExecStart>(request, "container.ExecStartOptions")?;
    older::exec_start(request.version, &mut asked);
    let mut found = exec::startable(&engine.store, id)?;
    if asked.detach {
        exec::start(&engine.store, &found, None)?;
        return Ok(answer(200, Reply::Empty));
    }
    let pick = |flag: bool, bit: i32| if flag { bit } else { 0 };
    let made = found.asked();
    let streams = pick(made.attach_stdin, STDIN) | pick(made.attach_stdout, STDOUT) | pick(made.attach_stderr, STDERR);
    let keys = detach_keys(&made.detach_keys)?;
    // What can be refused with a status is; what only its start finds out is told in the stream, as that it had one.
    found.settle(&engine.store, !asked.tty, asked.console_size)?;
    let engine = Arc::clone(engine);
    let join = move || exec::start(&engine.store, &found, Some((streams, keys)))?.context("an exec without a stream");
    let body = Reply::Upgraded { framed: !asked.tty, join: Box::new(join) };
    Ok(answer(101, body).with("Content-Type", stream_kind(request, asked.tty)))
}

/// A pull, or an import with `fromSrc`.
fn image_create(engine: &Arc<Engine>, mut request: Request) -> Result<Response> {
    if let Some(source) = request.query("fromSrc") {
        let source = images::Source::of(source)?;
        let tar = reader(&mut request);
        let text = |key: &str| request.query(key).unwrap_or_default();
        let changes = request.query.iter().filter(|(key, _)| key == "changes").map(|(_, value)| value.clone());
        let changes: Vec<String> = changes.collect();
        let message = source.message(text("message"));
        let asked = images::Import::asked(text("repo"), text("tag"), &message, text("platform"), &changes)?;
        let (tar, first) = source.open(tar, &engine.settings.registry())?;
        let Some(first) = first else {
            // Nothing is said before its end, so that what goes wrong has a status of its own.
            let made = ProgressLine::status(images::import(&engine.store, asked, tar)?.to_string());
            return Ok(answer(200, Reply::Stream(Box::new(move |sink| lines::write(sink, &made)))));
        };
        let engine = Arc::clone(engine);
        let producer = move |sink: &mut dyn std::io::Write| {
            lines::write(sink, &first)?;
            let end = match images::import(&engine.store, asked, tar) {
                Ok(id) => ProgressLine::status(id.to_string()),
                Err(error) => ProgressLine::failed(format!("{error:#}")),
            };
            lines::write(sink, &end)
        };
        return Ok(answer(200, Reply::Stream(Box::new(producer))));
    }
    let invalid = |error: anyhow::Error| Refusal::BadParameter(format!("{error:#}"));
    let mut reference = Reference::parse(request.query("fromImage").unwrap_or_default()).map_err(invalid)?;
    let tag = request.query("tag").unwrap_or_default();
    if tag.contains(':') {
        reference = reference.with_digest(&tag.parse().map_err(invalid)?);
    } else if !tag.is_empty() {
        reference = reference.with_tag(tag).map_err(invalid)?;
    }
    let asked = pull::Request {
        // Docker's rule: neither tag nor digest means all tags.
        all_tags: tag.is_empty() && request.query("fromImage").is_some_and(|name| !has_tag(name)),
        reference,
        platform: platform(&request)?,
        credentials: request.header("X-Registry-Auth").map(Credentials::from_header),
    };
    Ok(answer(200, Reply::Stream(pull::stream(&engine.store, asked, &engine.settings.registry())?)))
}

/// A push; `compressionFormat` is Podman's parameter, and who we are at other registries is told as for a build.
fn image_push(engine: &Arc<Engine>, name: &str, request: &Request) -> Result<Response> {
    let invalid = |error: anyhow::Error| Refusal::BadParameter(format!("{error:#}"));
    let mut reference = Reference::parse(name).map_err(invalid)?;
    match request.query("tag") {
        Some(tag) if !tag.is_empty() => reference = reference.with_tag(tag).map_err(invalid)?,
        _ => {}
    }
    let asked = push::Request {
        reference,
        platform: one_platform(request)?,
        credentials: request.header("X-Registry-Auth").map(Credentials::from_header),
        others: Registries::from_header(request.header(auth::REGISTRIES)),
        format: push::format(request.query("compressionFormat").unwrap_or_default())?,
    };
    Ok(answer(200, Reply::Stream(push::stream(&engine.store, asked, &engine.settings.registry())?)))
}

fn image_save(engine: &Engine, names: &[String], request: &Request) -> Result<Response> {
    let save = images::Save::find(&engine.store, names, one_platform(request)?.as_ref())?;
    Ok(answer(200, Reply::Stream(save.stream()?)).with("Content-Type", "application/x-tar"))
}

fn image_load(engine: &Arc<Engine>, mut request: Request) -> Result<Response> {
    // Docker's rule: quiet unless it is told otherwise.
    let quiet = request.query("quiet").is_none() || request.flag("quiet");
    let asked = images::Load { quiet, platform: one_platform(&request)? };
    let archive = reader(&mut request);
    let engine = Arc::clone(engine);
    let producer = move |out: &mut dyn std::io::Write| {
        let mut write = |line: ProgressLine| -> std::io::Result<()> {
            let mut bytes = serde_json::to_vec(&line)?;
            bytes.extend_from_slice(b"\r\n");
            out.write_all(&bytes)
        };
        match images::load_archive(&engine.store, &asked, archive, &mut write) {
            Ok(()) => Ok(()),
            Err(error) => write(ProgressLine::failed(format!("{error:#}"))),
        }
    };
    Ok(answer(200, Reply::Stream(Box::new(producer))))
}

/// The body of a request that is a stream.
fn reader(request: &mut Request) -> Box<dyn Read + Send> {
    match std::mem::replace(&mut request.body, Body::Empty) {
        Body::Empty => Box::new(std::io::empty()),
        Body::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
        Body::Reader(reader) => reader,
        // Nobody sends one to what reads a stream.
        Body::Folder(_) => Box::new(std::io::empty()),
    }
}

fn build_prune(store: &Store, request: &Request) -> Result<Response> {
    let filters = filters(request)?;
    let bytes = |key: &str| -> Result<u64> {
        number(request, key).map(Option::unwrap_or_default).map_err(|_| {
            let text = request.query(key).unwrap_or_default();
            Refusal::BadParameter(format!("{key} is in bytes and expects an integer, got {text}")).into()
        })
    };
    // Before, they said nothing.
    let newer = |key: &str| older::since(48, request, key).map_or(Ok(0), |_| bytes(key));
    let reserved = match newer("reserved-space")? {
        0 => bytes("keep-storage")?,
        reserved => reserved,
    };
    let bounds = Bounds { reserved, most: newer("max-used-space")?, free: newer("min-free-space")? };
    json(200, &prune::prune(store, request.flag("all"), bounds, &filters)?)
}

/// Whether a name says which one of a repository it means.
fn has_tag(name: &str) -> bool {
    name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'))
}
