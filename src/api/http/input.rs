//! What comes in on a connection: heads, and the bodies that follow them.

use super::chunks::Chunks;
use super::head::{self, Bad, Framing};
use super::socket::Socket;
use crate::api::Refusal;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Room for most heads; more is taken for those that need it, and given back.
const ROOM: usize = 4 << 10;

/// The reading side.
pub struct Input {
    socket: Socket,
    /// What was read and not yet used is `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    body: Body,
    /// How long the other side may be silent in the middle of a body.
    patience: Option<Duration>,
    /// The client waits for our word before it sends the body.
    asks_first: bool,
}

enum Body {
    Length(u64),
    Chunked(Chunks),
    Rest,
    Over,
    Broken,
}

/// A reader of one body, which has the connection together with whoever answers.
pub struct BodyReader(pub Arc<Mutex<Input>>);

/// Locks the reading side. A panic while it was held has ended the connection's thread, so there is none to see.
pub fn lock(input: &Mutex<Input>) -> MutexGuard<'_, Input> {
    input.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Input {
    pub fn new(socket: Socket, patience: Option<Duration>) -> Input {
        Input { socket, buffer: Vec::new(), start: 0, body: Body::Over, patience, asks_first: false }
    }

    /// Whether something of the next head is here already.
    pub fn has_more(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// The bytes of the next head; `None` where the connection ends before it begins. It is to be whole within that time.
    pub fn head(&mut self, within: Option<Duration>) -> io::Result<Result<Option<Vec<u8>>, Bad>> {
        let end = within.map(|within| Instant::now() + within);
        let mut looked = 0;
        loop {
            // An empty line before a request is left over from the one before.
            while looked == 0 && matches!(self.buffer.get(self.start), Some(b'\r' | b'\n')) {
                self.start += 1;
            }
            let here = &self.buffer[self.start..];
            if let Some(length) = head::length(here, looked) {
                let head = here[..length].to_vec();
                self.start += length;
                return Ok(Ok(Some(head)));
            }
            looked = here.len();
            if looked > head::SIZE {
                return Ok(Err(head::bad(431, "the head is too large")));
            }
            if let Some(end) = end
                && !self.socket.wait(Some(end.saturating_duration_since(Instant::now())))?
            {
                return Ok(Err(head::bad(408, "the head did not come in time")));
            }
            if self.fill()? == 0 {
                return if looked == 0 { Ok(Ok(None)) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads more behind what is there.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(ROOM);
        }
        let before = self.buffer.len();
        self.buffer.resize(before + ROOM, 0);
        let read = read(&mut self.socket, &mut self.buffer[before..]);
        self.buffer.truncate(before + read.as_ref().map_or(0, |length| *length));
        read
    }

    /// A body follows the head that was read.
    pub fn expect(&mut self, framing: Framing, asks_first: bool) {
        self.body = match framing {
            Framing::None => Body::Over,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunks::default()),
            Framing::Rest => Body::Rest,
        };
        self.asks_first = asks_first && !self.is_over();
    }

    /// Whether all of the body was read.
    pub fn is_over(&self) -> bool {
        matches!(self.body, Body::Over)
    }

    /// The answer has begun: it is too late to ask for the body. Whether the client still waited to be asked.
    pub fn stop_asking(&mut self) -> bool {
        std::mem::take(&mut self.asks_first)
    }

    /// Reads and forgets what is left of the body, if that is not much and comes soon; whether it is over then.
    pub fn drain(&mut self, most: u64, within: Duration) -> bool {
        let end = Instant::now() + within;
        let (mut left, mut sink) = (most, [0; ROOM]);
        self.patience = Some(within);
        while !self.is_over() && left > 0 && Instant::now() < end {
            match self.read(&mut sink) {
                Ok(0) | Err(_) => break,
                Ok(length) => left = left.saturating_sub(length as u64),
            }
        }
        self.is_over()
    }

    /// What came behind what was read.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        rest.drain(..std::mem::take(&mut self.start));
        rest
    }

    fn next(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.body {
                Body::Over => return Ok(0),
                Body::Broken => return Err(broken("the body was cut")),
                Body::Rest | Body::Length(_) => {
                    let left = if let Body::Length(left) = self.body { left } else { u64::MAX };
                    let room = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let length = self.plain(&mut out[..room])?;
                    match &mut self.body {
                        Body::Length(_) if length == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                        Body::Length(left) => *left -= length as u64,
                        _ if length == 0 => self.body = Body::Over,
                        _ => {}
                    }
                    if matches!(self.body, Body::Length(0)) {
                        self.body = Body::Over;
                    }
                    return Ok(length);
                }
                Body::Chunked(_) => {
                    if self.start == self.buffer.len() && {
                        self.ready()?;
                        self.fill()? == 0
                    } {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    let Body::Chunked(chunks) = &mut self.body else { continue };
                    let (taken, given) = chunks.decode(&self.buffer[self.start..], out)?;
                    self.start += taken;
                    if chunks.done() {
                        self.body = Body::Over;
                    }
                    if given > 0 {
                        return Ok(given);
                    }
                }
            }
        }
    }

    /// From the buffer, or from the socket without a detour.
    fn plain(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let here = &self.buffer[self.start..];
        if here.is_empty() {
            self.ready()?;
            return read(&mut self.socket, out);
        }
        let length = here.len().min(out.len());
        out[..length].copy_from_slice(&here[..length]);
        self.start += length;
        Ok(length)
    }

    fn ready(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.asks_first) {
            self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match self.patience {
            Some(patience) if !self.socket.wait(Some(patience))? => {
                Err(io::Error::new(ErrorKind::TimedOut, "the body stopped coming"))
            }
            _ => Ok(()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.next(out);
        if read.is_err() {
            self.body = Body::Broken;
        }
        read
    }
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // What the client sends badly is its mistake, whoever reads it.
        let refusal = |error: &io::Error| Refusal::BadParameter(format!("read the request's body: {error}"));
        lock(&self.0).read(out).map_err(|error| io::Error::new(error.kind(), refusal(&error)))
    }
}

fn read(from: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
