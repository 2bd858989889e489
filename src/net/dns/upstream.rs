//! Asks other servers: the host's, as its resolv.conf says at this moment, or those that a container was given.
//!
//! Each try has a socket of its own, connected to its server, so that the kernel picks a port that nobody can guess and
//! takes nothing from anybody else. A server that does not answer is left behind for the next one, and heard all the same.

use super::message::{self, Query};
use super::{ADDRESS, PORT};
use crate::sys::net::disconnect;
use libc::{POLLIN, POLLOUT};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockname, getsockopt, recv, send, socket,
    sockopt,
};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How long a server has before the next one is asked, too; and how long all of it may take. Clients ask again after 5
/// seconds.
const PATIENCE: Duration = Duration::from_millis(1400);
const END: Duration = Duration::from_millis(4500);
/// How often is asked at the least, where there are fewer servers; and how many servers are.
const TRIES: usize = 3;
const SERVERS: usize = 3;
/// Whom a host without servers asks: Docker's choice.
const PUBLIC: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)), IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4))];

/// The host's servers.
pub struct Servers {
    path: &'static str,
    seen: Option<[i64; 6]>,
    list: Vec<SocketAddr>,
}

impl Servers {
    pub fn of_host() -> Servers {
        Servers { path: "/etc/resolv.conf", seen: None, list: Vec::new() }
    }

    /// The file is read afresh when it has changed; while it cannot be read, what it said last holds.
    pub fn now(&mut self) -> Vec<SocketAddr> {
        let stamp = fs::metadata(self.path).ok().map(|meta| {
            [
                meta.dev() as i64,
                meta.ino() as i64,
                meta.size() as i64,
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime_nsec(),
            ]
        });
        if (stamp.is_none() || stamp != self.seen)
            && let Ok(text) = fs::read(self.path)
        {
            self.list = servers(&String::from_utf8_lossy(&text));
            self.seen = stamp;
        }
        match self.list.is_empty() {
            true => PUBLIC.map(|address| SocketAddr::new(address, PORT)).to_vec(),
            false => self.list.clone(),
        }
    }
}

/// The servers that a resolv.conf(5) names.
fn servers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    named.filter_map(server).take(SERVERS).collect()
}

fn server(text: &str) -> Option<SocketAddr> {
    let (address, link) = text.split_once('%').map_or((text, None), |(address, link)| (address, Some(link)));
    let scope = match link {
        Some(link) => link.parse().ok().or_else(|| nix::net::if_::if_nametoindex(link).ok())?,
        None => 0,
    };
    let address = match address.parse().ok()? {
        // Nobody but us answers there.
        IpAddr::V4(ADDRESS) => return None,
        IpAddr::V4(address) => SocketAddr::from((address, PORT)),
        IpAddr::V6(address) => SocketAddrV6::new(address, PORT, 0, scope).into(),
    };
    Some(address)
}

/// Sockets of a container's own network, to be used again.
#[derive(Default)]
pub struct Own {
    udp: Vec<OwnedFd>,
    tcp: Vec<OwnedFd>,
}

impl Own {
    pub fn new(sockets: impl Iterator<Item = OwnedFd>) -> Own {
        let mut own = Own::default();
        for socket in sockets {
            match getsockopt(&socket, sockopt::SockType) {
                Ok(SockType::Datagram) => own.udp.push(socket),
                Ok(SockType::Stream) => own.tcp.push(socket),
                _ => {}
            }
        }
        own
    }

    fn of(&mut self, stream: bool) -> &mut Vec<OwnedFd> {
        if stream { &mut self.tcp } else { &mut self.udp }
    }
}

/// A question that others were asked.
pub struct Ask {
    pub query: Query,
    stream: bool,
    /// Those that have not refused yet, the next one first.
    servers: VecDeque<SocketAddr>,
    left: usize,
    tries: Vec<Try>,
    next: Instant,
    end: Instant,
    /// What a server said that would not answer.
    refusal: Option<Vec<u8>>,
}

struct Try {
    socket: OwnedFd,
    server: SocketAddr,
    id: u16,
    /// Of a stream: what is still to be written, and what was read.
    output: Vec<u8>,
    input: Vec<u8>,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Waits,
    Answered(Vec<u8>),
    Failed,
}

impl Ask {
    pub fn new(query: Query, stream: bool, servers: &[SocketAddr]) -> Ask {
        let now = Instant::now();
        let left = servers.len().max(TRIES);
        let servers = servers.iter().copied().collect();
        Ask { query, stream, servers, left, tries: Vec::new(), next: now, end: now + END, refusal: None }
    }

    /// When there is something to do without a word from anybody.
    pub fn due(&self) -> Instant {
        if self.left > 0 { self.next.min(self.end) } else { self.end }
    }

    /// Asks the next server where that is due. `own` are the sockets of a container that has servers of its own.
    pub fn go_on(&mut self, own: &mut Option<&mut Own>, id: &mut dyn FnMut() -> u16) -> Outcome {
        let now = Instant::now();
        while now < self.end && self.left > 0 && (now >= self.next || self.tries.is_empty()) {
            let Some(server) = self.servers.pop_front() else { break };
            self.left -= 1;
            self.next = now + PATIENCE;
            if let Ok(begun) = self.begin(server, own, id()) {
                self.servers.push_back(server);
                self.tries.push(begun);
            }
        }
        let hopeless = self.tries.is_empty() && (self.left == 0 || self.servers.is_empty());
        match now >= self.end || hopeless {
            true => self.refusal.take().map_or(Outcome::Failed, Outcome::Answered),
            false => Outcome::Waits,
        }
    }

    fn begin(&self, server: SocketAddr, own: &mut Option<&mut Own>, id: u16) -> io::Result<Try> {
        let fd = match own {
            Some(own) => own.of(self.stream).pop().ok_or(io::ErrorKind::WouldBlock)?,
            None => {
                let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                let kind = if self.stream { SockType::Stream } else { SockType::Datagram };
                socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?
            }
        };
        let message = self.query.under(id);
        let begin = || match connect(fd.as_raw_fd(), &address(&fd, server)) {
            Ok(()) if self.stream => Ok(()),
            Ok(()) => send(fd.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL).map(drop),
            Err(Errno::EINPROGRESS) if self.stream => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = begin() {
            put_back(fd, self.stream, own);
            return Err(error.into());
        }
        let output = if self.stream { framed(&message) } else { Vec::new() };
        Ok(Try { socket: fd, server, id, output, input: Vec::new() })
    }

    /// Its sockets, and what each waits for.
    pub fn sockets(&self) -> impl Iterator<Item = (&OwnedFd, i16)> {
        self.tries.iter().map(|one| (&one.socket, if one.output.is_empty() { POLLIN } else { POLLIN | POLLOUT }))
    }

    /// One of the sockets has something to say.
    pub fn hear(&mut self, socket: i32, own: &mut Option<&mut Own>) -> Outcome {
        let Some(at) = self.tries.iter().position(|one| one.socket.as_raw_fd() == socket) else {
            return Outcome::Waits;
        };
        let heard = match self.stream {
            true => self.tries[at].exchange(),
            false => self.tries[at].receive(&self.query),
        };
        let answer = match heard {
            Ok(None) => return Outcome::Waits,
            Ok(Some(answer)) if self.query.is_answered_by(self.tries[at].id, &answer) => Some(answer),
            _ => None,
        };
        let done = self.tries.swap_remove(at);
        // No such name is an answer; what a server cannot or will not say, another one may.
        match answer {
            Some(answer) if matches!(message::code(&answer), 0 | 3) => {
                put_back(done.socket, self.stream, own);
                Outcome::Answered(answer)
            }
            refusal => {
                self.servers.retain(|server| *server != done.server);
                put_back(done.socket, self.stream, own);
                self.refusal = refusal.or(self.refusal.take());
                self.next = Instant::now();
                Outcome::Waits
            }
        }
    }

    /// Nobody waits for an answer any more.
    pub fn end(self, own: &mut Option<&mut Own>) {
        for one in self.tries {
            put_back(one.socket, self.stream, own);
        }
    }
}

/// A server's address as a socket of this family names it.
fn address(socket: &OwnedFd, server: SocketAddr) -> SockaddrStorage {
    let family = getsockname::<SockaddrStorage>(socket.as_raw_fd()).map(|name| name.as_sockaddr_in6().is_some());
    match (server, family) {
        (SocketAddr::V4(four), Ok(true)) => {
            SockaddrStorage::from(SocketAddrV6::new(four.ip().to_ipv6_mapped(), four.port(), 0, 0))
        }
        _ => SockaddrStorage::from(server),
    }
}

/// Only a container's own sockets are used again: under another port, which the kernel picks when they are connected.
fn put_back(socket: OwnedFd, stream: bool, own: &mut Option<&mut Own>) {
    if let Some(own) = own
        && disconnect(&socket).is_ok()
    {
        own.of(stream).push(socket);
    }
}

/// With its length in front, as messages go over a stream.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), &message[..usize::from(length)]].concat()
}

/// Takes a whole message from the front of what a stream has brought.
pub fn unframed(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*input.first_chunk()?));
    let message = input.get(2..2 + length)?.to_vec();
    input.drain(..2 + length);
    Some(message)
}

impl Try {
    /// The answer; what is none is passed over.
    fn receive(&mut self, query: &Query) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) if query.is_answered_by(self.id, &buffer[..length]) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn exchange(&mut self) -> io::Result<Option<Vec<u8>>> {
        while !self.output.is_empty() {
            match send(self.socket.as_raw_fd(), &self.output, MsgFlags::MSG_NOSIGNAL) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = unframed(&mut self.input) {
                return Ok(Some(message));
            }
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.input.extend(&buffer[..length]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_resolv_conf() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\n nameserver\t10.0.0.2 # ours\nnameserver 127.0.0.11\n\
                    nameservers 1.2.3.4\nnameserver x\nnameserver fe80::1%1\nnameserver 10.0.0.3\n";
        let found: Vec<String> = servers(text).iter().map(|server| server.to_string()).collect();
        assert_eq!(found, ["127.0.0.53:53", "10.0.0.2:53", "[fe80::1%1]:53"]);
    }

    #[test]
    fn messages_on_a_stream() {
        let mut input = framed(b"ab");
        input.extend([0, 3, b'c']);
        assert_eq!(unframed(&mut input).as_deref(), Some(&b"ab"[..]));
        assert_eq!(unframed(&mut input), None);
        input.extend(b"de");
        assert_eq!(unframed(&mut input).as_deref(), Some(&b"cde"[..]));
        assert!(input.is_empty());
    }
}
