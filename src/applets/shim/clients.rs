//! Who is connected to a shim, and what they asked. A fixed table: the long-lived face has no heap to spend.

use super::Base;
use super::behind::{Behind, Position};
use crate::engine::protocol::{self, HEADER, MOST_PORTS, Message, NOT_DONE, Op, PAYLOAD};
use crate::engine::shim::{self, LISTEN_FD};
use crate::engine::store;
use crate::oci::hex;
use crate::sys::process;
use anyhow::Result;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// More at once are turned away; each costs the shim 112 bytes.
pub const MOST: usize = 128;
/// The longest sequence of detach keys.
pub const KEYS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Connected, and has not said what for.
    Idle,
    Attached,
    /// Told when it has ended.
    Waiting,
    /// Told when it has been removed.
    Leaving,
    /// As long as it is connected the container's processes stand still.
    Still,
    /// Told when it has been started, or that it was not.
    Starting,
}

pub struct Client {
    pub fd: OwnedFd,
    pub kind: Kind,
    /// Of an attached one: `protocol::STDIN` and so on, while they last.
    pub streams: i32,
    /// Attached before the start: output waits for it as for a pipe.
    pub lossless: bool,
    pub keys: [u8; KEYS],
    pub keys_len: u8,
    /// How many of the detach keys have been typed.
    pub matched: u8,
    /// Which streams' chunks it has yet to get (bit 0 stdout, bit 1 stderr), which one it is in, and where.
    pub owed: u8,
    pub current: u8,
    pub offset: u32,
    /// It is served from the log, and how far it is there.
    pub behind: Option<Behind>,
}

/// What a client asked, read whole.
pub struct Request {
    pub message: Message,
    pub payload: [u8; PAYLOAD],
}

impl Client {
    pub fn new(fd: OwnedFd) -> Client {
        Client {
            fd,
            kind: Kind::Idle,
            streams: 0,
            lossless: false,
            keys: [0; KEYS],
            keys_len: 0,
            matched: 0,
            owed: 0,
            current: 0,
            offset: 0,
            behind: None,
        }
    }

    /// Reads one request, and not a byte more: what follows an attach is stdin. `Ok(None)`: not whole yet.
    /// An error means that the client has gone or speaks something else.
    pub fn request(&self) -> io::Result<Option<Request>> {
        let mut bytes = [0; HEADER + PAYLOAD];
        let peeked = receive(self.fd.as_fd(), &mut bytes[..HEADER], libc::MSG_PEEK | libc::MSG_DONTWAIT)?;
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if peeked < HEADER {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        header.copy_from_slice(&bytes[..HEADER]);
        let message = match Message::decode(&header) {
            Ok(message) => message,
            // One of a later build: it is told, for otherwise it would take us for ended.
            Err(unknown) => {
                // Unread, what it said would cut off what it is told.
                let _ = receive(self.fd.as_fd(), &mut bytes, libc::MSG_DONTWAIT);
                self.answer(Message::new(Op::Failed, 0, 0), unknown.to_string().as_bytes());
                return Err(unknown.into());
            }
        };
        let whole = HEADER + message.length as usize;
        if receive(self.fd.as_fd(), &mut bytes[..whole], libc::MSG_PEEK | libc::MSG_DONTWAIT)? < whole {
            return Ok(None);
        }
        receive(self.fd.as_fd(), &mut bytes[..whole], libc::MSG_DONTWAIT)?;
        let mut payload = [0; PAYLOAD];
        payload[..message.length as usize].copy_from_slice(&bytes[HEADER..whole]);
        Ok(Some(Request { message, payload }))
    }

    /// What it asks next, left to be read.
    pub fn peek(&self) -> Option<Message> {
        let mut header = [0; HEADER];
        let peeked = receive(self.fd.as_fd(), &mut header, libc::MSG_PEEK | libc::MSG_DONTWAIT).ok()?;
        Message::decode(&header).ok().filter(|_| peeked == HEADER)
    }

    /// Takes the ports that a request hands over which [`Client::peek`] has seen.
    pub fn ports(&self) -> io::Result<Vec<OwnedFd>> {
        let mut header = [0; HEADER];
        let mut space = nix::cmsg_space!([i32; MOST_PORTS]);
        let mut into = [IoSliceMut::new(&mut header)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(self.fd.as_raw_fd(), &mut into, Some(&mut space), flags)?;
        let mut ports = Vec::new();
        for message in received.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                ports.extend(numbers.into_iter().filter_map(|number| process::adopt(number).ok()));
            }
        }
        Ok(ports)
    }

    /// Takes the request to be told of the end that [`Client::peek`] has seen.
    pub fn wait(&mut self) {
        if let Ok(Some(request)) = self.request() {
            self.kind = if request.message.a == 1 { Kind::Leaving } else { Kind::Waiting };
            self.ok();
        }
    }

    /// Takes a request to restart the container. Who is another executable starts it by that.
    pub fn restart(&mut self, request: &Request) -> bool {
        let ours = shim::build().is_ok_and(|build| request.payload[..request.message.length as usize] == build);
        match ours {
            true => self.kind = Kind::Starting,
            false => self.answer(Message::new(Op::Failed, NOT_DONE, 0), b"another executable watches the container"),
        }
        ours
    }

    /// Answers; one that does not read its answers is not waited for.
    pub fn answer(&self, message: Message, payload: &[u8]) {
        let _ = protocol::send(&mut Socket(self.fd.as_fd()), message, payload);
    }

    pub fn ok(&self) {
        self.answer(Message::new(Op::Ok, 0, 0), &[]);
    }

    /// Takes an attach: which streams, and the keys that end it.
    pub fn attach(&mut self, request: &Request, lossless: bool) {
        self.kind = Kind::Attached;
        self.streams = request.message.a;
        self.lossless = lossless;
        let length = (request.message.length as usize).min(KEYS);
        self.keys[..length].copy_from_slice(&request.payload[..length]);
        self.keys_len = length as u8;
        self.ok();
    }

    /// Lets the kernel keep this many bytes that the client has not read yet; without privilege, as many as it may.
    pub fn make_room(&self, bytes: usize) {
        use nix::sys::socket::{setsockopt, sockopt};
        if setsockopt(&self.fd, sockopt::SndBufForce, &bytes).is_err() {
            let _ = setsockopt(&self.fd, sockopt::SndBuf, &bytes);
        }
    }

    /// As an argument for the next face: `5,1,7,1,1011`, and of one that is served from the log `,2,4096,100` more.
    pub fn hand_over(&self) -> String {
        let keys = hex(&self.keys[..self.keys_len as usize]);
        let kind = match self.kind {
            Kind::Idle => 0,
            Kind::Attached => 1,
            Kind::Waiting => 2,
            Kind::Leaving => 3,
            Kind::Still => 4,
            Kind::Starting => 5,
        };
        let word = format!("{},{kind},{},{},{keys}", self.fd.as_raw_fd(), self.streams, self.lossless as u8);
        match self.behind {
            None => word,
            Some(Behind { at, sent }) => format!("{word},{},{},{sent}", at.file, at.offset),
        }
    }

    /// The other side of [`Client::hand_over`].
    pub fn take_over(word: &str) -> Option<Client> {
        let mut parts = word.split(',');
        let mut number = || parts.next()?.parse::<i32>().ok();
        let (fd, kind, streams, lossless) = (number()?, number()?, number()?, number()? != 0);
        let fd = process::adopt(fd).ok()?;
        process::set_inherit(fd.as_fd(), false).ok()?;
        let mut client = Client::new(fd);
        client.kind = match kind {
            1 => Kind::Attached,
            2 => Kind::Waiting,
            3 => Kind::Leaving,
            4 => Kind::Still,
            5 => Kind::Starting,
            _ => Kind::Idle,
        };
        (client.streams, client.lossless) = (streams, lossless);
        let keys = parts.next()?.as_bytes();
        for pair in keys.chunks_exact(2).take(KEYS) {
            let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
            client.keys[client.keys_len as usize] = digit(pair[0]) << 4 | digit(pair[1]);
            client.keys_len += 1;
        }
        if let Some(file) = parts.next() {
            let (file, offset) = (file.parse().ok()?, parts.next()?.parse().ok()?);
            let at = Position { file, offset, ..Position::default() };
            client.behind = Some(Behind { at, sent: parts.next()?.parse().ok()? });
        }
        Some(client)
    }
}

/// The clients that the face before this one handed over.
pub fn take_over(pairs: &[(&str, &str)]) -> Vec<Client> {
    pairs.iter().filter(|(key, _)| *key == "client").filter_map(|(_, word)| Client::take_over(word)).collect()
}

/// The clients as arguments for the next face, their descriptors with them.
pub fn hand_over<'a>(clients: impl IntoIterator<Item = &'a Client>, words: &mut Vec<String>) -> io::Result<()> {
    for client in clients {
        process::set_inherit(client.fd.as_fd(), true)?;
        words.push(format!("client={}", client.hand_over()));
    }
    Ok(())
}

/// Tells those who wait for this how it ended; they are served then.
pub fn tell(clients: &mut Vec<Client>, kind: Kind, status: i32) {
    tell_that(clients, kind, Message::new(Op::Exited, status, 0));
}

fn tell_that(clients: &mut Vec<Client>, kind: Kind, message: Message) {
    clients.retain(|client| {
        if client.kind == kind {
            client.answer(message, &[]);
        }
        client.kind != kind
    });
}

/// Tells those who wait for a start what came of it.
pub fn answer_start<'a>(clients: impl IntoIterator<Item = &'a mut Client>, message: Message, why: &[u8]) {
    for client in clients.into_iter().filter(|client| client.kind == Kind::Starting) {
        client.kind = Kind::Idle;
        client.answer(message, why);
    }
}

/// The end of a shim: everybody is told, `remove` does what `--rm` asks for, nobody can connect any more. Where that is
/// nothing, who waits for the removal is told that the container stays.
pub fn part<T>(
    base: &Base,
    mut clients: Vec<Client>,
    status: i32,
    remove: impl FnOnce() -> Result<Option<T>>,
) -> Result<Option<T>> {
    tell(&mut clients, Kind::Waiting, status);
    let removed = remove();
    // Nobody can connect from here on; those who did and were not heard yet are.
    store::remove(&base.whose.dir(&base.store).join("sock"))?;
    late(&mut clients);
    tell(&mut clients, Kind::Waiting, status);
    let stays = matches!(removed, Ok(None)) as i32;
    tell_that(&mut clients, Kind::Leaving, Message::new(Op::Exited, status, stays));
    removed
}

/// Those who connected while the shim was at its end.
fn late(clients: &mut Vec<Client>) {
    let listener = process::unbound(LISTEN_FD);
    let _ = nix::fcntl::fcntl(listener, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
    while let Some(client) = accept(listener.as_fd()) {
        clients.push(client);
    }
    for client in clients.iter_mut().filter(|client| client.kind == Kind::Idle) {
        if let Ok(Some(request)) = client.request() {
            match request.message.op {
                Op::Wait | Op::Stop => {
                    if request.message.op == Op::Wait {
                        client.ok();
                    }
                    client.kind = Kind::Waiting;
                }
                // Whoever wants to start it finds the connection closed, and starts the next shim.
                _ => {}
            }
        }
    }
}

/// Accepts one connection; `None` where nobody waits.
pub fn accept(listener: BorrowedFd) -> Option<Client> {
    use nix::sys::socket::{SockFlag, accept4};
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok()?;
    process::adopt(fd).ok().map(Client::new)
}

/// Receives; 0 is end-of-file, `WouldBlock` is nothing there.
pub fn receive(fd: BorrowedFd, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    loop {
        let flags = nix::sys::socket::MsgFlags::from_bits_retain(flags);
        match nix::sys::socket::recv(fd.as_raw_fd(), buffer, flags) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => return Ok(other?),
        }
    }
}

/// Sends what fits now; never blocks, never raises SIGPIPE.
pub fn send(fd: BorrowedFd, bytes: &[u8]) -> io::Result<usize> {
    use nix::sys::socket::MsgFlags;
    loop {
        match nix::sys::socket::send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => return Ok(other?),
        }
    }
}

struct Socket<'a>(BorrowedFd<'a>);

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send(self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
