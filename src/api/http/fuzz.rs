//! Ways in for `crate::fuzz`: what comes from the other side of a connection.

use super::head::{self, Framing};
use super::input::{BodyReader, Input, lock};
use super::socket::Socket;
use super::{server, websocket};
use crate::api::wire::{Body, Reply, Request, Response};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// As much as is said at once: its answers find room in a socket that nobody reads.
const LONGEST: usize = 2048;

/// The other end of a connection on which that was said, and nothing more.
fn said(bytes: &[u8]) -> (UnixStream, UnixStream) {
    let (mut far, near) = UnixStream::pair().expect("a pair of sockets");
    far.write_all(&bytes[..bytes.len().min(LONGEST)]).expect("room in a socket");
    far.shutdown(Shutdown::Write).expect("a half-close");
    (far, near)
}

/// Requests to a daemon.
pub fn requests(bytes: &[u8]) {
    let (mut far, near) = said(bytes);
    let engine = |mut request: Request| {
        assert!(request.path.starts_with('/') && request.method.len() < 8);
        let mut length = 0;
        if let Body::Reader(reader) = &mut request.body {
            length = reader.take(1 << 20).read_to_end(&mut Vec::new()).unwrap_or(0);
        }
        let _ = (request.flag("all"), request.header("X-Registry-Auth"));
        match request.path.as_str() {
            "/stream" => Response::new(200, Reply::Stream(Box::new(move |sink| write!(sink, "{length}")))),
            "/empty" => Response::new(204, Reply::Empty),
            _ => Response::new(200, Reply::Json(length.to_string().into_bytes())),
        }
    };
    server::serve(near.into(), &engine, &|_| {});
    let mut answers = Vec::new();
    far.read_to_end(&mut answers).expect("read the answers");
    assert!(answers.is_empty() || answers.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answers));
}

/// What a daemon answers, to a client.
pub fn answers(bytes: &[u8]) {
    let (_far, near) = said(bytes);
    let input = Arc::new(Mutex::new(Input::new(Socket::new(near), None)));
    for method in ["GET", "HEAD", "POST"] {
        let Ok(Ok(Some(bytes))) = lock(&input).head(None) else { return };
        let Ok(answer) = head::response(&bytes) else { return };
        let Ok(framing) = answer.framing(method) else { return };
        let over = framing == Framing::Rest;
        lock(&input).expect(framing, false);
        let read = BodyReader(Arc::clone(&input)).take(1 << 20).read_to_end(&mut Vec::new());
        if read.is_err() || over {
            return;
        }
    }
}

/// What a browser sends on a WebSocket.
pub fn websocket(bytes: &[u8]) {
    let (_far, near) = said(&[]);
    let pongs = Mutex::new(Socket::new(near));
    let _ = websocket::receive(&bytes[..bytes.len().min(LONGEST)], io::sink(), &pongs);
}
