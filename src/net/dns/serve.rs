//! The resolver's process: one thread and a poll loop. It has no privilege; sockets inside containers are handed to it,
//! with a connection whose end says that the container's shim has ended. It goes when the last of these has.

use super::message::{self, AAAA, ANY, Code, Data, Message, PTR, Query};
use super::upstream::{Ask, Outcome, Own, Servers, framed, unframed};
use super::zone::{Host, Zone};
use super::{PORT, listen::Sockets};
use crate::json;
use crate::order::Map;
use crate::sys::{inotify, lock, process};
use libc::{POLLERR, POLLHUP, POLLIN, POLLOUT};
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Questions that wait for other servers: of one container, and of all.
const WAITING: usize = 128;
const WAITING_IN_ALL: usize = 1024;
/// So many a container may have even when there are no more for all: others cannot use up what it has.
const WAITING_ALWAYS: usize = 8;
/// Connections of one container, how long they may be silent, and how much may wait to be read by the other side.
const STREAMS: usize = 32;
const SILENCE: Duration = Duration::from_secs(10);
const UNREAD: usize = 1 << 17;
/// How much may wait on all connections of a container: who asks for more and reads nothing loses the connection.
const UNREAD_OF_ONE: usize = 1 << 20;
/// How long no connection is taken where there is no descriptor for another one.
const FULL: Duration = Duration::from_millis(200);
/// How many packets of one container are taken before the others have their turn.
const TURN: usize = 32;
/// Most descriptors of one container.
const DESCRIPTORS: usize = 32;
/// How long it waits to ask again whether it may leave.
const LEAVING: Duration = Duration::from_millis(20);

/// What the process is given.
pub struct Resolver {
    /// Where containers are handed over.
    pub socket: OwnedFd,
    /// Who hands over holds its first byte.
    pub lock: File,
    names: Names,
    random: File,
}

/// The files that say who is called what.
struct Names {
    dir: OwnedFd,
    /// Where the kernel grants none, all of it is read for every question.
    changes: Option<OwnedFd>,
}

impl Resolver {
    /// Opens what needs privilege.
    pub fn new(socket: OwnedFd, lock: File, names: &Path) -> io::Result<Resolver> {
        let path = CString::new(names.as_os_str().as_bytes())?;
        let watched = || {
            let changes = inotify::init()?;
            inotify::watch(changes.as_fd(), &path, libc::IN_MOVED_TO | libc::IN_DELETE)?;
            io::Result::Ok(changes)
        };
        let dir = File::open(names)?.into();
        Ok(Resolver {
            socket,
            lock,
            names: Names { dir, changes: watched().ok() },
            random: File::open("/dev/urandom")?,
        })
    }
}

/// Hands a container over to the resolver that listens at `to`.
pub fn hand_over(to: &Path, container: &str, shim: BorrowedFd, sockets: &Sockets) -> io::Result<()> {
    let from = std::os::unix::net::UnixDatagram::unbound()?;
    from.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut descriptors = vec![shim.as_raw_fd(), sockets.udp.as_raw_fd(), sockets.tcp.as_raw_fd()];
    descriptors.extend(sockets.out.iter().map(AsRawFd::as_raw_fd));
    let message = [ControlMessage::ScmRights(&descriptors)];
    let text = [IoSlice::new(container.as_bytes())];
    sendmsg(from.as_raw_fd(), &text, &message, MsgFlags::empty(), Some(&UnixAddr::new(to)?))?;
    Ok(())
}

/// A container.
struct Client {
    id: String,
    shim: OwnedFd,
    udp: UdpSocket,
    tcp: TcpListener,
    own: Own,
}

/// A connection from a container.
struct Stream {
    client: u64,
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    heard: Instant,
    /// It has asked all that it will.
    ended: bool,
}

/// Who waits for an answer.
#[derive(Clone, Copy)]
enum Asker {
    Udp(SocketAddr),
    Stream(u64),
}

struct Waiting {
    client: u64,
    asker: Asker,
    ask: Ask,
    /// It is asked by sockets of the container's.
    own: bool,
}

#[derive(Clone, Copy)]
enum Polled {
    HandOver,
    Changes,
    Shim(u64),
    Udp(u64),
    Tcp(u64),
    Stream(u64),
    Ask(u64, i32),
}

struct State {
    given: Resolver,
    zone: Zone,
    servers: Servers,
    clients: Map<u64, Client>,
    streams: Map<u64, Stream>,
    waiting: Map<u64, Waiting>,
    count: u64,
    /// Until when no connection is taken.
    full: Option<Instant>,
}

/// Serves until nobody is left.
pub fn run(given: Resolver) -> io::Result<()> {
    let mut state = State {
        given,
        zone: Zone::default(),
        servers: Servers::of_host(),
        clients: Map::new(),
        streams: Map::new(),
        waiting: Map::new(),
        count: 0,
        full: None,
    };
    state.read_all();
    loop {
        let mut wait = state.due();
        if state.clients.is_empty() {
            // Nobody hands anything over while the lock is ours.
            if lock::try_lock(&state.given.lock, 0).is_ok() {
                state.take_over();
                if state.clients.is_empty() {
                    return Ok(());
                }
                lock::unlock(&state.given.lock, 0)?;
            }
            wait = Some(LEAVING);
        }
        state.round(wait)?;
        state.remind();
    }
}

impl State {
    fn due(&self) -> Option<Duration> {
        let asks = self.waiting.values().map(|it| it.ask.due());
        let streams = self.streams.values().map(|it| it.heard + SILENCE);
        asks.chain(streams).chain(self.full).min().map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn round(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let mut fds = Vec::new();
        let mut what = Vec::new();
        let mut add = |fd: BorrowedFd, events: i16, polled| {
            fds.push(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
            what.push(polled);
        };
        add(self.given.socket.as_fd(), POLLIN, Polled::HandOver);
        if let Some(changes) = &self.given.names.changes {
            add(changes.as_fd(), POLLIN, Polled::Changes);
        }
        for (number, client) in &self.clients {
            add(client.shim.as_fd(), 0, Polled::Shim(*number));
            add(client.udp.as_fd(), POLLIN, Polled::Udp(*number));
            if self.full.is_none() {
                add(client.tcp.as_fd(), POLLIN, Polled::Tcp(*number));
            }
        }
        for (number, stream) in &self.streams {
            let reads = !stream.ended && stream.output.len() < UNREAD;
            let flags = if reads { POLLIN } else { 0 } | if stream.output.is_empty() { 0 } else { POLLOUT };
            add(stream.stream.as_fd(), flags, Polled::Stream(*number));
        }
        for (number, waiting) in &self.waiting {
            for (socket, flags) in waiting.ask.sockets() {
                add(socket.as_fd(), flags, Polled::Ask(*number, socket.as_raw_fd()));
            }
        }
        let wait = wait.map_or(-1, |wait| wait.as_millis().min(60_000) as i32 + 1);
        match process::poll(&mut fds, wait) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for (fd, polled) in fds.iter().zip(what).filter(|(fd, _)| fd.revents != 0) {
            match polled {
                Polled::HandOver => self.take_over(),
                Polled::Changes => self.read_changes(),
                Polled::Shim(number) if fd.revents & POLLHUP != 0 => self.part(number),
                Polled::Shim(_) => {}
                Polled::Udp(number) => self.receive(number),
                Polled::Tcp(number) => self.accept(number),
                // Nobody is there to hear an answer.
                Polled::Stream(number) if fd.revents & (POLLERR | POLLHUP) != 0 => self.hang_up(number),
                Polled::Stream(number) => self.listen(number),
                Polled::Ask(number, socket) => self.hear(number, socket),
            }
        }
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Takes over the containers that were handed to us.
    fn take_over(&mut self) {
        loop {
            let mut text = [0; 128];
            let mut space = nix::cmsg_space!([i32; DESCRIPTORS]);
            let mut into = [IoSliceMut::new(&mut text)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let received = recvmsg::<UnixAddr>(self.given.socket.as_raw_fd(), &mut into, Some(&mut space), flags);
            let Ok(received) = received else { return };
            let mut fds = Vec::new();
            for message in received.cmsgs().into_iter().flatten() {
                if let ControlMessageOwned::ScmRights(numbers) = message {
                    fds.extend(numbers.into_iter().filter_map(|number| process::adopt(number).ok()));
                }
            }
            let length = received.bytes;
            let id = String::from_utf8_lossy(&text[..length]).into_owned();
            let mut fds = fds.into_iter();
            let (Some(shim), Some(udp), Some(tcp)) = (fds.next(), fds.next(), fds.next()) else { continue };
            // The same again: its table leads here now.
            let old = self.clients.iter().find(|(_, client)| client.id == id).map(|(number, _)| *number);
            if let Some(old) = old {
                self.forget(old);
            }
            self.read(&id);
            let client = Client { id, shim, udp: udp.into(), tcp: tcp.into(), own: Own::new(fds) };
            let number = self.number();
            self.clients.insert(number, client);
        }
    }

    /// A shim has ended, and with it what it was called.
    fn part(&mut self, number: u64) {
        if let Some(id) = self.forget(number) {
            self.zone.0.remove(&id);
        }
    }

    fn forget(&mut self, number: u64) -> Option<String> {
        self.waiting.retain(|_, waiting| waiting.client != number);
        self.streams.retain(|_, stream| stream.client != number);
        self.clients.remove(&number).map(|client| client.id)
    }

    fn read_all(&mut self) {
        self.zone.0.clear();
        let Ok(dir) = Dir::openat(&self.given.names.dir, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) else {
            return;
        };
        for entry in dir.into_iter().flatten() {
            if let Ok(name) = entry.file_name().to_str() {
                self.read(name);
            }
        }
    }

    /// Reads what one container is called; nothing where its file is gone.
    fn read(&mut self, id: &str) {
        if id.starts_with('.') {
            return;
        }
        let text = || {
            let file = openat(&self.given.names.dir, id, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            let mut text = Vec::new();
            File::from(file).read_to_end(&mut text)?;
            Ok::<_, io::Error>(text)
        };
        match text().ok().and_then(|text| json::from_slice::<Host>(&text).ok()) {
            Some(host) => drop(self.zone.0.insert(id.to_owned(), host)),
            None => drop(self.zone.0.remove(id)),
        }
    }

    /// What has changed since. Asked before every answer, for who was told that a container runs may ask for it.
    fn read_changes(&mut self) {
        let Some(changes) = &self.given.names.changes else { return self.read_all() };
        let mut buffer = [0; 4096];
        let mut changed = Vec::new();
        while let Ok(length) = nix::unistd::read(changes, &mut buffer) {
            let mut rest = &buffer[..length];
            // struct inotify_event: watch, mask, cookie, length, name.
            while let (Some(head), true) = (rest.first_chunk::<16>(), rest.len() >= 16) {
                let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
                if word(4) & libc::IN_Q_OVERFLOW != 0 {
                    return self.read_all();
                }
                let name = rest.get(16..16 + word(12) as usize).unwrap_or_default();
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                changed.push(String::from_utf8_lossy(name).into_owned());
                rest = rest.get(16 + word(12) as usize..).unwrap_or_default();
            }
            if length == 0 {
                break;
            }
        }
        for id in changed {
            self.read(&id);
        }
    }

    fn receive(&mut self, number: u64) {
        let mut buffer = [0; 4096];
        for _ in 0..TURN {
            let Some(client) = self.clients.get(&number) else { return };
            match client.udp.recv_from(&mut buffer) {
                Ok((length, from)) => self.answer(number, Asker::Udp(from), &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What an answer of ours came back with.
                Err(_) => {}
            }
        }
    }

    fn accept(&mut self, number: u64) {
        for _ in 0..TURN {
            let Some(client) = self.clients.get(&number) else { return };
            let stream = match client.tcp.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
                    {
                        self.full = Instant::now().checked_add(FULL);
                    }
                    return;
                }
            };
            let many = self.streams.values().filter(|stream| stream.client == number).count() >= STREAMS;
            if many || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let (input, output) = (Vec::new(), Vec::new());
            let stream = Stream { client: number, stream, input, output, heard: Instant::now(), ended: false };
            let at = self.number();
            self.streams.insert(at, stream);
        }
    }

    /// A connection has something to say, or room for what we said.
    fn listen(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let client = stream.client;
        let mut buffer = [0; 4096];
        while !stream.ended && stream.output.len() < UNREAD {
            match stream.stream.read(&mut buffer) {
                Ok(0) => stream.ended = true,
                Ok(length) => {
                    stream.heard = Instant::now();
                    stream.input.extend(&buffer[..length]);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.hang_up(number),
            }
        }
        while let Some(message) = self.streams.get_mut(&number).and_then(|stream| unframed(&mut stream.input)) {
            self.answer(client, Asker::Stream(number), &message);
        }
        self.write(number);
    }

    fn write(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        while !stream.output.is_empty() {
            match stream.stream.write(&stream.output) {
                Ok(length) => drop(stream.output.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.hang_up(number),
            }
        }
        let waits = |it: &Waiting| matches!(it.asker, Asker::Stream(asker) if asker == number);
        if stream.ended && !self.waiting.values().any(waits) {
            self.hang_up(number);
        }
    }

    fn hang_up(&mut self, number: u64) {
        self.streams.remove(&number);
        let of_it = |it: &Waiting| matches!(it.asker, Asker::Stream(asker) if asker == number);
        let asked: Vec<u64> = self.waiting.iter().filter(|(_, it)| of_it(it)).map(|(number, _)| *number).collect();
        for number in asked {
            self.done(number, None);
        }
    }

    /// Answers a message, or asks others.
    fn answer(&mut self, number: u64, asker: Asker, bytes: &[u8]) {
        let query = match message::read(bytes) {
            Message::Query(query) => query,
            Message::Answered(answer) => return self.reply(number, asker, answer),
            Message::Noise => return,
        };
        self.read_changes();
        let room = matches!(asker, Asker::Udp(_)).then(|| query.room());
        let Some(host) = self.clients.get(&number).and_then(|client| self.zone.0.get(&client.id)) else {
            return self.reply(number, asker, query.answer(Code::ServerFailed, &[], room));
        };
        if let Some(mut data) = self.known(host, &query) {
            self.shuffle(&mut data);
            return self.reply(number, asker, query.answer(Code::Ok, &data, room));
        }
        let short = query.name.as_ref().is_some_and(|name| !name.is_empty() && !name.contains('.'));
        if short && query.is_address() && !host.asks_short {
            return self.reply(number, asker, query.answer(Code::NoSuchName, &[], room));
        }
        let own = !host.servers.is_empty();
        let servers = match own {
            true => host.servers.iter().map(|address| SocketAddr::new(*address, PORT)).collect(),
            false if host.asks_host => self.servers.now(),
            false => Vec::new(),
        };
        let waiting = self.waiting.values().filter(|waiting| waiting.client == number).count();
        let most = if self.waiting.len() < WAITING_IN_ALL { WAITING } else { WAITING_ALWAYS };
        if servers.is_empty() || waiting >= most {
            return self.reply(number, asker, query.answer(Code::ServerFailed, &[], room));
        }
        let ask = Ask::new(query, room.is_none(), &servers);
        let at = self.number();
        self.waiting.insert(at, Waiting { client: number, asker, ask, own });
        self.go_on(at);
    }

    /// What containers are called, which nobody else is asked for.
    fn known(&self, host: &Host, query: &Query) -> Option<Vec<Data>> {
        let name = query.name.as_deref().filter(|name| !name.is_empty() && query.is_internet())?;
        if query.kind == PTR
            && let Some(name) = message::reverse(name).and_then(|address| self.zone.name(host, address))
        {
            return Some(vec![name]);
        }
        let wanted: fn(&IpAddr) -> bool = match query.kind {
            message::A => IpAddr::is_ipv4,
            AAAA => IpAddr::is_ipv6,
            ANY => |_| true,
            _ => |_| false,
        };
        Some(self.zone.addresses(host, name, wanted)?.into_iter().map(Data::Address).collect())
    }

    fn shuffle(&self, data: &mut [Data]) {
        for last in (1..data.len()).rev() {
            data.swap(last, usize::from(random(&self.given.random)) % (last + 1));
        }
    }

    fn reply(&mut self, number: u64, asker: Asker, answer: Vec<u8>) {
        match asker {
            Asker::Udp(to) => {
                if let Some(client) = self.clients.get(&number) {
                    // Who does not hear it asks again.
                    let _ = client.udp.send_to(&answer, to);
                }
            }
            Asker::Stream(at) => {
                let of_it = self.streams.values().filter(|stream| stream.client == number);
                if of_it.map(|stream| stream.output.len()).sum::<usize>() > UNREAD_OF_ONE {
                    self.hang_up(at);
                } else if let Some(stream) = self.streams.get_mut(&at) {
                    stream.output.extend(framed(&answer));
                    self.write(at);
                }
            }
        }
    }

    fn hear(&mut self, number: u64, socket: i32) {
        let Some(waiting) = self.waiting.get_mut(&number) else { return };
        let mut own = self.clients.get_mut(&waiting.client).filter(|_| waiting.own).map(|client| &mut client.own);
        match waiting.ask.hear(socket, &mut own) {
            Outcome::Waits => self.go_on(number),
            outcome => self.done(number, Some(outcome)),
        }
    }

    /// Asks the next server where it is time.
    fn go_on(&mut self, number: u64) {
        let Some(waiting) = self.waiting.get_mut(&number) else { return };
        let mut own = self.clients.get_mut(&waiting.client).filter(|_| waiting.own).map(|client| &mut client.own);
        match waiting.ask.go_on(&mut own, &mut || random(&self.given.random)) {
            Outcome::Waits => {}
            outcome => self.done(number, Some(outcome)),
        }
    }

    fn done(&mut self, number: u64, outcome: Option<Outcome>) {
        let Some(Waiting { client, asker, ask, own }) = self.waiting.remove(&number) else { return };
        let room = matches!(asker, Asker::Udp(_)).then(|| ask.query.room());
        let answer = match outcome {
            Some(Outcome::Answered(answer)) => Some(ask.query.pass_on(&answer, room)),
            Some(_) => Some(ask.query.answer(Code::ServerFailed, &[], room)),
            None => None,
        };
        let mut sockets = self.clients.get_mut(&client).filter(|_| own).map(|client| &mut client.own);
        ask.end(&mut sockets);
        if let Some(answer) = answer {
            self.reply(client, asker, answer);
        }
    }

    /// What is due without a word from anybody.
    fn remind(&mut self) {
        let now = Instant::now();
        self.full = self.full.filter(|until| *until > now);
        let due: Vec<u64> =
            self.waiting.iter().filter(|(_, it)| it.ask.due() <= now).map(|(number, _)| *number).collect();
        for number in due {
            self.go_on(number);
        }
        let silent: Vec<u64> =
            self.streams.iter().filter(|(_, it)| it.heard + SILENCE <= now).map(|(number, _)| *number).collect();
        for number in silent {
            self.hang_up(number);
        }
    }
}

/// A number that nobody can guess.
fn random(mut source: &File) -> u16 {
    let mut bytes = [0; 2];
    // It never fails once the system has begun (urandom(4)).
    let _ = source.read_exact(&mut bytes);
    u16::from_ne_bytes(bytes)
}
