//! One connection of a client, from its first request to its last.

use super::head::{self, Framing};
use super::input::{BodyReader, Input, lock};
use super::respond::{self, Asked, respond};
use super::socket::Socket;
use super::target::{self, Target};
use crate::api::version::{self, ApiVersion};
use crate::api::wire::{Body, Caller, Reply, Request, Response};
use crate::log;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(300);
/// How long a head may take from its first byte to its last.
const HEAD: Duration = Duration::from_secs(30);
/// How long a client may be silent in the middle of a body.
const BODY: Duration = Duration::from_secs(600);

/// Serves a connection until it ends. `idle` is told when it begins and when it ceases to wait for a request.
pub fn serve(socket: OwnedFd, engine: &dyn Fn(Request) -> Response, idle: &dyn Fn(bool)) {
    let socket = Socket::new(socket);
    let input = Arc::new(Mutex::new(Input::new(socket.clone(), Some(BODY))));
    loop {
        idle(true);
        let here = lock(&input).has_more() || matches!(socket.wait(Some(IDLE)), Ok(true));
        idle(false);
        // What cannot be written or read any more has nobody to be told.
        match here.then(|| exchange(&socket, &input, engine)) {
            Some(Ok(true)) => {}
            Some(Err(error)) => {
                log::debug!("a connection ended: {error}");
                return;
            }
            _ => break,
        }
    }
    drop(input);
    respond::close(socket);
}

/// One request and its answer; whether another may follow.
fn exchange(socket: &Socket, input: &Arc<Mutex<Input>>, engine: &dyn Fn(Request) -> Response) -> io::Result<bool> {
    let mut out = socket.clone();
    let head = match lock(input).head(Some(HEAD))? {
        Ok(None) => return Ok(false),
        Ok(Some(bytes)) => head::request(&bytes),
        Err(bad) => Err(bad),
    };
    let taken = head.and_then(|head| {
        let (framing, target) = (head.framing()?, target::parse(&head.target)?);
        Ok((head, framing, target))
    });
    let (head, framing, target) = match taken {
        Ok(taken) => taken,
        Err(bad) => {
            respond::refuse(&mut out, &bad)?;
            return Ok(false);
        }
    };
    let asks_first = head::says(&head.headers, "Expect", "100-continue") && head.minor > 0;
    let body =
        if framing == Framing::None { Body::Empty } else { Body::Reader(Box::new(BodyReader(Arc::clone(input)))) };
    lock(input).expect(framing, asks_first);
    let asked = Asked {
        head: head.method == "HEAD",
        minor: head.minor,
        keep: head::keeps_alive(head.minor, &head.headers),
        upgrade: head::find(&head.headers, "Upgrade").is_some(),
        exec: target.path.starts_with("/exec/"),
        key: match head::says(&head.headers, "Upgrade", "websocket") && target.path.ends_with("/attach/ws") {
            true => head::find(&head.headers, "Sec-WebSocket-Key").map(str::to_owned),
            false => None,
        },
        text: target.version < ApiVersion::new(1, 28),
    };
    let caller = Caller::at(socket.shared());
    let response = match refused(&target) {
        Some(response) => response,
        None => engine(Request {
            method: method(&head.method),
            version: target.version,
            path: target.path,
            query: target.query,
            headers: head.headers,
            body,
            caller: caller.clone(),
            // Paths of another machine, perhaps, and of another user.
            given: Default::default(),
        }),
    };
    respond(asked, &mut out, input, response, &caller)
}

/// Refuses a version of the API that is not spoken. A ping finds out which are.
fn refused(target: &Target) -> Option<Response> {
    let (asked, newest, oldest) = (target.version, version::NEWEST, version::OLDEST);
    if target.path == "/_ping" {
        return None;
    }
    let message = if asked > newest {
        format!("client version {asked} is too new. Maximum supported API version is {newest}")
    } else if asked < oldest {
        format!(
            "client version {asked} is too old. Minimum supported API version is {oldest}, please upgrade your client \
             to a newer version"
        )
    } else {
        return None;
    };
    // Clients of that time read errors as plain text.
    if asked <= ApiVersion::new(1, 23) {
        let response = Response::new(400, Reply::Json(format!("{message}\n").into_bytes()));
        return Some(response.with("Content-Type", "text/plain; charset=utf-8"));
    }
    Some(respond::error(400, message))
}

fn method(name: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    KNOWN.into_iter().find(|known| *known == name).unwrap_or("")
}
