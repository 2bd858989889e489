//! Answers, as they go out.

use super::chunks::{self, size_line};
use super::head::Bad;
use super::input::{Input, lock};
use super::socket::Socket;
use super::splice::splice;
use super::websocket;
use crate::api::errno;
use crate::api::time::Time;
use crate::api::types::ErrorAnswer;
use crate::api::version;
use crate::api::wire::{Caller, Reply, Response};
use crate::sys::process;
use nix::sys::socket::Shutdown;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What of a body that nobody wanted is read all the same, so that the connection can go on.
const UNWANTED: u64 = 256 << 10;
/// And how long it is waited for.
const UNWANTED_WAIT: Duration = Duration::from_secs(2);

/// How long a client may take to read the head of an answer before what follows is sent.
const HEAD_WAIT: Duration = Duration::from_secs(1);

/// What of a request its answer depends on.
pub struct Asked {
    /// HEAD: no body.
    pub head: bool,
    pub minor: u8,
    /// The connection may go on after the answer.
    pub keep: bool,
    /// It asked for an upgrade by name.
    pub upgrade: bool,
    /// Docker answers the start of an exec with its usual headers also where it upgrades; attach without.
    pub exec: bool,
    /// It asked for a WebSocket, with this key.
    pub key: Option<String>,
    /// And messages of text in it, as before 1.28.
    pub text: bool,
}

/// Sends an answer; whether the connection goes on.
pub fn respond(
    mut asked: Asked,
    socket: &mut Socket,
    input: &Arc<Mutex<Input>>,
    response: Response,
    caller: &Caller,
) -> io::Result<bool> {
    // Who still waits to be asked for the body will not send it now, or will: one cannot know.
    asked.keep &= !lock(input).stop_asking();
    let Response { status, headers, body } = response;
    match body {
        Reply::Upgraded { framed, join } => {
            let rest = {
                let mut input = lock(input);
                input.drain(UNWANTED, UNWANTED_WAIT);
                input.take_rest()
            };
            if let Some(key) = &asked.key {
                socket.write_all(websocket::head(key).as_bytes())?;
                match join() {
                    Ok(stream) => websocket::join(socket, rest, &Socket::new(stream), framed, asked.text)?,
                    Err(error) => websocket::fail(socket, &errno::spelt(&format!("{error:#}")))?,
                }
                return Ok(false);
            }
            let block = upgraded(&asked, &headers);
            socket.write_all(block.as_bytes())?;
            let joined = join();
            be_read(socket);
            match joined {
                Ok(stream) => splice(socket.as_fd(), rest, stream.as_fd())?,
                Err(error) => socket.write_all(&told(&errno::spelt(&format!("{error:#}")), framed))?,
            }
            return Ok(false);
        }
        Reply::Stream(producer) => {
            let chunked = asked.minor > 0;
            asked.keep &= chunked;
            let length = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            socket.write_all(head(&asked, status, &headers, Some("application/json"), length).as_bytes())?;
            if !asked.head {
                let mut sink = Sink { socket: socket.clone(), chunked, caller: caller.clone() };
                // An error has no place any more but the missing end of the body.
                producer(&mut sink)?;
                if chunked {
                    socket.write_all(chunks::LAST)?;
                }
            }
        }
        Reply::Json(mut bytes) => {
            asked.keep &= lock(input).drain(UNWANTED, UNWANTED_WAIT);
            if !headers.iter().any(|(name, _)| *name == "Content-Type") {
                bytes.push(b'\n');
            }
            let length = format!("Content-Length: {}\r\n", bytes.len());
            let head = head(&asked, status, &headers, Some("application/json"), &length);
            let body: &[u8] = if asked.head { &[] } else { &bytes };
            socket.write_pieces(&[head.as_bytes(), body])?;
        }
        Reply::Empty => {
            asked.keep &= lock(input).drain(UNWANTED, UNWANTED_WAIT);
            let bare = asked.head || matches!(status, 204 | 304);
            let length = if bare { "" } else { "Content-Length: 0\r\n" };
            socket.write_all(head(&asked, status, &headers, None, length).as_bytes())?;
        }
    }
    Ok(asked.keep && lock(input).drain(UNWANTED, UNWANTED_WAIT))
}

/// An error in a stream that has begun, on its stdout as dockerd tells it: in a frame, unless it has none.
fn told(error: &str, framed: bool) -> Vec<u8> {
    let text = format!("{error}\r\n");
    let mut bytes = Vec::with_capacity(8 + text.len());
    if framed {
        bytes.extend([1, 0, 0, 0]);
        bytes.extend((text.len() as u32).to_be_bytes());
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// The head of an ordinary answer.
fn head(asked: &Asked, status: u16, headers: &[(&'static str, String)], kind: Option<&str>, length: &str) -> String {
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    usual(&mut text);
    if let Some(kind) = kind.filter(|_| !headers.iter().any(|(name, _)| *name == "Content-Type")) {
        let _ = write!(text, "Content-Type: {kind}\r\n");
    }
    for (name, value) in headers {
        line(&mut text, name, value);
    }
    let _ = write!(text, "Date: {}\r\n{length}", date(Time::now()));
    match (asked.keep, asked.minor) {
        (false, _) => text.push_str("Connection: close\r\n"),
        (true, 0) => text.push_str("Connection: keep-alive\r\n"),
        (true, _) => {}
    }
    text.push_str("\r\n");
    text
}

/// What dockerd says of itself on every answer.
fn usual(text: &mut String) {
    let (api, server) = (version::NEWEST, env!("CARGO_PKG_VERSION"));
    let _ = write!(
        text,
        "Api-Version: {api}\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/{server} (linux)\r\n"
    );
}

/// One header. What could end its line, an answer does not say.
fn line(text: &mut String, name: &str, value: &str) {
    let value: String = value.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let _ = write!(text, "{name}: {value}\r\n");
}

/// The head before a connection that belongs to a container's streams, as Docker's clients expect it to the letter.
fn upgraded(asked: &Asked, headers: &[(&'static str, String)]) -> String {
    const RAW: &str = "application/vnd.docker.raw-stream";
    let kind = headers.iter().find(|(name, _)| *name == "Content-Type").map_or(RAW, |(_, kind)| kind);
    let mut text = match asked.upgrade {
        true => format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"),
        false => format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n"),
    };
    if asked.exec {
        usual(&mut text);
    }
    text.push_str("\r\n");
    text
}

/// Waits until the client of a unix socket has read what it was sent. docker-py reads a container's streams below its own
/// buffer: what it got together with the head is lost to it.
fn be_read(socket: &Socket) {
    let until = Instant::now() + HEAD_WAIT;
    while process::socket_queue(socket.as_fd()).is_ok_and(|queued| queued > 0) && Instant::now() < until {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Refuses what is no request, and ends the connection so that the refusal arrives.
pub fn refuse(socket: &mut Socket, bad: &Bad) -> io::Result<()> {
    let Bad { status, why } = bad;
    let reason = reason(*status);
    let body = format!("{status} {reason}: {why}");
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(text.as_bytes())
}

/// Ends our side and lets the other read what we said: with bytes of its own unread, TCP would throw it away.
pub fn close(mut socket: Socket) {
    socket.shutdown(Shutdown::Write);
    let (mut sink, mut left) = ([0; 4096], UNWANTED);
    while left > 0 && matches!(socket.wait(Some(Duration::from_millis(500))), Ok(true)) {
        match socket.read(&mut sink) {
            Ok(0) | Err(_) => return,
            Ok(length) => left = left.saturating_sub(length as u64),
        }
    }
}

/// A whole answer that says why there is no other one.
pub fn standing(status: u16, message: &str) -> Vec<u8> {
    let asked = Asked { head: false, minor: 1, keep: false, upgrade: false, exec: false, key: None, text: false };
    let body = serde_json::to_vec(&ErrorAnswer { message: message.to_owned() }).unwrap_or_default();
    let length = format!("Content-Length: {}\r\n", body.len());
    [head(&asked, status, &[], Some("application/json"), &length).into_bytes(), body].concat()
}

/// The error answer of the wire itself.
pub fn error(status: u16, message: String) -> Response {
    Response::new(status, Reply::Json(serde_json::to_vec(&ErrorAnswer { message }).unwrap_or_default()))
}

/// A streamed body: each write is on its way when it returns.
struct Sink {
    socket: Socket,
    chunked: bool,
    caller: Caller,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An empty chunk would be the last one.
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.chunked {
            true => self.socket.write_pieces(&[size_line(bytes.len()).as_bytes(), bytes, b"\r\n"])?,
            false => self.socket.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.caller.has_gone() { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Request Entity Too Large",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

/// `Mon, 23 Nov 2026 21:38:18 GMT`.
fn date(time: Time) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // The first of January 1970 was a Thursday.
    let day = DAYS[time.seconds.div_euclid(86400).rem_euclid(7) as usize];
    let text = time.to_string();
    let month = text[5..7].parse::<usize>().unwrap_or(1).clamp(1, 12);
    format!("{day}, {} {} {} {} GMT", &text[8..10], MONTHS[month - 1], &text[..4], &text[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_their_day() {
        let table = [(0, "Thu, 01 Jan 1970 00:00:00 GMT"), (1_795_469_898, "Mon, 23 Nov 2026 21:38:18 GMT")];
        for (seconds, expected) in table {
            assert_eq!(date(Time { seconds, nanos: 0 }), expected);
        }
    }

    #[test]
    fn an_answer_cannot_be_split_by_what_it_says() {
        let asked = Asked { head: false, minor: 1, keep: true, upgrade: false, exec: false, key: None, text: false };
        let headers = [("Content-Type", "a\r\nX: y".to_owned())];
        let text = head(&asked, 200, &headers, None, "");
        assert!(text.contains("Content-Type: a  X: y\r\n") && text.ends_with("GMT\r\n\r\n"), "{text}");
    }

    #[test]
    fn the_block_before_a_stream_is_dockers() {
        let kind = [("Content-Type", "application/vnd.docker.multiplexed-stream".to_owned())];
        let asked = |upgrade, exec| Asked { head: false, minor: 1, keep: true, upgrade, exec, key: None, text: false };
        assert_eq!(
            upgraded(&asked(true, false), &kind),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        assert_eq!(
            upgraded(&asked(false, false), &kind),
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        );
        assert!(upgraded(&asked(true, true), &[]).contains("raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nApi"));
    }
}
