//! A container's streams and ours: one loop, fixed buffers, no byte lost or reordered, no byte of one stream waiting
//! for another.

pub mod demux;
mod sink;

use super::output;
use super::terminal::{self, Raw, Signals};
use crate::api::client::Client;
use crate::log;
use anyhow::{Context, Result, bail};
use demux::{Demux, Piece};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use nix::unistd::read;
use sink::Sink;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Docker's detach keys, ctrl-p and ctrl-q.
const DETACH_KEYS: [u8; 2] = [16, 17];
/// As much as a pipe holds.
const BUFFER: usize = 64 << 10;
/// This many times SIGINT or SIGTERM end us although they are for the container.
const PATIENCE: u32 = 3;

/// What is to be joined.
pub struct Streams {
    /// To the container: frames unless it has a terminal; raw stdin the other way.
    pub connection: OwnedFd,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    /// The keys that detach, where stdin is a terminal.
    pub keys: Vec<u8>,
}

/// How it ended.
#[derive(Debug, PartialEq)]
pub enum Ending {
    /// The container closed its streams.
    Over,
    /// The user pressed the detach keys.
    Detached,
}

/// Where resizes and signals go.
pub struct Target<'a> {
    resize: Box<dyn Fn(u16, u16) -> Result<()> + 'a>,
    kill: Option<Box<dyn Fn(&str) -> Result<()> + 'a>>,
}

impl<'a> Target<'a> {
    pub fn container(client: &'a Client, id: &'a str, forward: bool) -> Target<'a> {
        Target {
            resize: Box::new(move |rows, columns| client.resize(id, rows, columns)),
            kill: forward
                .then(|| Box::new(move |signal: &str| client.kill(id, signal)) as Box<dyn Fn(&str) -> Result<()> + 'a>),
        }
    }

    /// An exec takes no signals from us, as in Docker.
    pub fn exec(client: &'a Client, id: &'a str) -> Target<'a> {
        Target { resize: Box::new(move |rows, columns| client.exec_resize(id, rows, columns)), kill: None }
    }

    fn resize(&self) {
        if let Some((rows, columns)) = terminal::size(&stdout()) {
            // It may be gone already, or have no terminal yet: the next change tells it.
            if let Err(error) = (self.resize)(rows, columns) {
                log::debug!("{error:#}");
            }
        }
    }
}

/// Joins the streams until the container closes its side or the user detaches. The terminal is back in its mode
/// however this returns.
pub fn run(streams: Streams, mut signals: Signals, target: &Target) -> Result<Ending> {
    let terminal = streams.tty && streams.stdin && stdin().is_terminal();
    let raw = terminal.then(|| Raw::enter(&stdin())).transpose()?;
    if streams.tty {
        target.resize();
    }
    let mut joint = Joint::new(&streams, terminal)?;
    let mut interrupts = 0;
    loop {
        let ready = joint.wait(&signals)?;
        if ready.signals {
            while let Some(signal) = signals.next() {
                receive(signal, &signals, target, raw.as_ref(), streams.tty, &mut interrupts)?;
            }
        }
        if ready.input && joint.read_input()? {
            // What was typed before the keys is still the container's.
            joint.write_input()?;
            drop(raw);
            output::complain("read escape sequence");
            return Ok(Ending::Detached);
        }
        joint.write_input()?;
        if joint.write_output()? && ready.connection && joint.read_output()? {
            return Ok(Ending::Over);
        }
    }
}

fn receive(
    signal: i32,
    signals: &Signals,
    target: &Target,
    raw: Option<&Raw>,
    tty: bool,
    interrupts: &mut u32,
) -> Result<()> {
    match signal {
        libc::SIGCONT | libc::SIGWINCH => {
            if let Some(raw) = raw.filter(|_| signal == libc::SIGCONT) {
                raw.apply()?;
            }
            if tty {
                target.resize();
            }
            return Ok(());
        }
        libc::SIGINT | libc::SIGTERM => *interrupts += 1,
        _ => {}
    }
    match &target.kill {
        Some(_) if *interrupts >= PATIENCE => bail!("got {PATIENCE} SIGTERM/SIGINTs, forcefully exiting"),
        Some(kill) if signals.forward => {
            if let Err(error) = kill(&terminal::signal_name(signal)) {
                log::debug!("{error:#}");
            }
            Ok(())
        }
        _ => terminal::die(signal),
    }
}

/// Both directions, each with its buffer.
struct Joint<'a> {
    streams: &'a Streams,
    stdout: Sink,
    stderr: Sink,
    demux: Demux,
    keys: Option<Keys>,
    input: Buffer,
    input_ended: bool,
    output: Buffer,
    /// The stream whose reader has to catch up.
    blocked: Option<Stream>,
}

/// Which descriptors have something for us.
struct Ready {
    signals: bool,
    input: bool,
    connection: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    Out,
    Err,
}

impl<'a> Joint<'a> {
    fn new(streams: &'a Streams, terminal: bool) -> Result<Joint<'a>> {
        // The other end is another process's: this only makes our own calls return.
        fcntl(&streams.connection, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
            .context("preparing the container's stream")?;
        let mut joint = Joint {
            streams,
            stdout: Sink::open(stdout().as_fd()).context("preparing stdout")?,
            stderr: Sink::open(stderr().as_fd()).context("preparing stderr")?,
            demux: if streams.tty { Demux::raw() } else { Demux::framed() },
            keys: terminal.then(|| Keys::new(&streams.keys)),
            input: Buffer::new(),
            input_ended: false,
            output: Buffer::new(),
            blocked: None,
        };
        if !streams.stdin {
            joint.end_input();
        }
        Ok(joint)
    }

    /// Sleeps until there is something to do: where a buffer is full its source is not asked.
    fn wait(&self, signals: &Signals) -> Result<Ready> {
        let (mut watched, stdin, none) = (PollFlags::empty(), stdin(), PollFlags::empty());
        if self.output.is_empty() {
            watched |= PollFlags::POLLIN;
        }
        if !self.input.is_empty() {
            watched |= PollFlags::POLLOUT;
        }
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let mut watch = |fd| {
            fds.push(fd);
            fds.len() - 1
        };
        // A connection of which nothing is asked would still report its end, over and over.
        let connection = (!watched.is_empty()).then(|| watch(PollFd::new(self.streams.connection.as_fd(), watched)));
        if let Some(stream) = self.blocked {
            watch(PollFd::new(self.sink(stream).as_fd(), PollFlags::POLLOUT));
        }
        let reading = !self.input_ended && self.input.is_empty();
        let input = reading.then(|| watch(PollFd::new(stdin.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the container's streams"),
        }
        let has = |at: usize| fds[at].revents().unwrap_or(none) != none;
        Ok(Ready { signals: has(0), connection: connection.is_some_and(has), input: input.is_some_and(has) })
    }

    /// Reads stdin; true when the user wants to leave.
    fn read_input(&mut self) -> Result<bool> {
        match read(stdin(), self.input.space()) {
            Ok(0) => self.input_ended = true,
            Ok(length) => {
                self.input.filled(length);
                if let Some(keys) = &mut self.keys {
                    return Ok(keys.scan(&mut self.input));
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // The terminal is gone: there is nothing more to come.
            Err(Errno::EIO) => self.input_ended = true,
            Err(error) => return Err(error).context("reading stdin"),
        }
        Ok(false)
    }

    /// Passes stdin on; its end becomes a half-close.
    fn write_input(&mut self) -> Result<()> {
        while !self.input.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.streams.connection.as_raw_fd(), self.input.filling(), flags) {
                Ok(length) => self.input.taken(length),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                // The container reads no more; what it still writes is worth reading.
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    self.input.clear();
                    self.input_ended = true;
                }
                Err(error) => return Err(error).context("writing to the container's stdin"),
            }
        }
        if self.input_ended && self.streams.stdin {
            self.end_input();
        }
        Ok(())
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        // Already closed by the other side: the same.
        let _ = shutdown(self.streams.connection.as_raw_fd(), Shutdown::Write);
    }

    /// Reads what the container wrote; true at its end.
    fn read_output(&mut self) -> Result<bool> {
        match read(&self.streams.connection, self.output.space()) {
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(true),
            Ok(length) => self.output.filled(length),
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error).context("reading the container's output"),
        }
        self.write_output()?;
        Ok(false)
    }

    /// Passes output on, as far as our readers take it; true when all is.
    fn write_output(&mut self) -> Result<bool> {
        self.blocked = None;
        while !self.output.is_empty() {
            let piece = self.demux.next(self.output.filling());
            let (stream, length) = match piece {
                Piece::Header(length) => {
                    self.output.taken(length);
                    continue;
                }
                Piece::Out(length) => (Stream::Out, length),
                Piece::Err(length) => (Stream::Err, length),
                Piece::Failure(message) => bail!("the container's stream: {message}"),
            };
            let wanted = if stream == Stream::Out { self.streams.stdout } else { self.streams.stderr };
            let written = match wanted {
                true => self.sink(stream).write(&self.output.filling()[..length]),
                false => Ok(length),
            };
            match written {
                Ok(length) => {
                    self.output.taken(length);
                    self.demux.taken(length);
                }
                Err(Errno::EAGAIN) => {
                    self.blocked = Some(stream);
                    return Ok(false);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE) => terminal::die(libc::SIGPIPE),
                Err(error) => {
                    return Err(error).context(if stream == Stream::Out {
                        "writing to stdout"
                    } else {
                        "writing to stderr"
                    });
                }
            }
        }
        Ok(true)
    }

    fn sink(&self, stream: Stream) -> &Sink {
        match stream {
            Stream::Out => &self.stdout,
            Stream::Err => &self.stderr,
        }
    }
}

/// Bytes that were read and not yet written.
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer { bytes: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Where to read to; only while it is empty.
    fn space(&mut self) -> &mut [u8] {
        self.clear();
        &mut self.bytes
    }

    fn filled(&mut self, length: usize) {
        self.end = length;
    }

    fn filling(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn taken(&mut self, length: usize) {
        self.start += length;
    }
}

/// Looks for the detach keys in what is typed. Keys that may begin them are held back until it is clear.
struct Keys {
    keys: Vec<u8>,
    matched: usize,
}

impl Keys {
    fn new(keys: &[u8]) -> Keys {
        Keys { keys: keys.to_vec(), matched: 0 }
    }

    /// Takes the keys out of what was just read; true when they are complete.
    fn scan(&mut self, input: &mut Buffer) -> bool {
        let mut passed = Vec::with_capacity(input.filling().len() + self.matched);
        let mut complete = false;
        for byte in input.filling() {
            if *byte != self.keys[self.matched] && self.matched > 0 {
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if *byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    complete = true;
                    break;
                }
            } else {
                passed.push(*byte);
            }
        }
        if passed.len() > input.bytes.len() {
            input.bytes = vec![0; passed.len()].into_boxed_slice();
        }
        input.clear();
        input.bytes[..passed.len()].copy_from_slice(&passed);
        input.filled(passed.len());
        complete
    }
}

/// Parts a stream of frames onto stdout and stderr as it comes; without frames, all is stdout. What one write brings
/// for one of them goes out at once, however many frames it is.
pub struct Split {
    demux: Demux,
    held: Vec<u8>,
    /// What is held is for stderr.
    errors: bool,
}

impl Split {
    pub fn new(tty: bool) -> Split {
        Split { demux: if tty { Demux::raw() } else { Demux::framed() }, held: Vec::new(), errors: false }
    }

    fn hold(&mut self, errors: bool, bytes: &[u8]) -> std::io::Result<()> {
        if errors != self.errors {
            self.release()?;
            self.errors = errors;
        }
        self.held.extend_from_slice(bytes);
        self.demux.taken(bytes.len());
        Ok(())
    }

    fn release(&mut self) -> std::io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if self.errors {
            return stderr().lock().write_all(&held);
        }
        let mut out = stdout().lock();
        out.write_all(&held)?;
        // A line that has no end yet is to be seen too.
        out.flush()
    }
}

impl Write for Split {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = match self.demux.next(rest) {
                Piece::Header(length) => length,
                Piece::Out(length) => {
                    self.hold(false, &rest[..length])?;
                    length
                }
                Piece::Err(length) => {
                    self.hold(true, &rest[..length])?;
                    length
                }
                Piece::Failure(message) => {
                    self.release()?;
                    return Err(std::io::Error::other(message));
                }
            };
            rest = &rest[used..];
        }
        self.release()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.release()
    }
}

/// `ctrl-p,ctrl-q` → their bytes; empty is the default.
pub fn detach_keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DETACH_KEYS.to_vec());
    }
    let mut keys = Vec::new();
    for key in text.split(',') {
        let byte = match (key.strip_prefix("ctrl-"), key.as_bytes()) {
            (Some(control), _) => match control.as_bytes() {
                [letter @ b'a'..=b'z'] => letter - b'a' + 1,
                [b'@'] => 0,
                [sign @ (b'[' | b'\\' | b']' | b'^' | b'_')] => sign - b'[' + 27,
                _ => bail!("invalid detach keys ({text}): Unknown character: '{key}'"),
            },
            (None, [byte]) => *byte,
            _ => bail!("invalid detach keys ({text}): Unknown character: '{key}'"),
        };
        keys.push(byte);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_name() {
        let table = [
            ("", vec![16, 17]),
            ("ctrl-p,ctrl-q", vec![16, 17]),
            ("a,ctrl-[", vec![b'a', 27]),
            ("ctrl-@", vec![0]),
            ("ctrl-_", vec![31]),
        ];
        for (text, bytes) in table {
            assert_eq!(detach_keys(text).unwrap(), bytes, "{text}");
        }
        for text in ["ctrl-", "ctrl-A", "ab", "a,,b", "ctrl-é"] {
            assert!(detach_keys(text).is_err(), "{text}");
        }
    }

    /// Types in pieces; gives what went through and whether the keys were seen.
    fn type_in(keys: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::new(keys);
        let mut through = Vec::new();
        for piece in pieces {
            let mut input = Buffer::new();
            input.space()[..piece.len()].copy_from_slice(piece);
            input.filled(piece.len());
            let seen = keys.scan(&mut input);
            through.extend_from_slice(input.filling());
            if seen {
                return (through, true);
            }
        }
        (through, false)
    }

    #[test]
    fn keys_in_what_is_typed() {
        let table: [(&[&[u8]], &[u8], bool); 8] = [
            (&[b"abc"], b"abc", false),
            (&[b"ab\x10\x11c"], b"ab", true),
            (&[b"ab\x10", b"\x11c"], b"ab", true),
            (&[b"\x10", b"x"], b"\x10x", false),
            (&[b"\x10\x10\x11"], b"\x10", true),
            (&[b"\x11\x10"], b"\x11", false),
            (&[b"\x10", b"\x10", b"y\x11"], b"\x10\x10y\x11", false),
            (&[b""], b"", false),
        ];
        for (pieces, through, seen) in table {
            assert_eq!(type_in(&[16, 17], pieces), (through.to_vec(), seen), "{pieces:?}");
        }
    }
}
