//! The long-lived face: a poll loop on fixed buffers. Stdio or a terminal, the log, clients, signals, the end of init.
//! No serde, no threads, and next to no heap: its private memory is a benchmark figure.

mod deliver;
mod pack;

use super::behind::{Behind, Position};
use super::clients::{self, Client, Kind, MOST};
use super::forward;
use super::guard::Guard;
use super::health::{self, Probe, Timing};
use super::log::Log;
use super::oom::Oom;
use super::pack::Packer;
use super::probe::{Action, Verdict};
use super::{Handover, exec_face, resolver};
use crate::engine::privileges;
use crate::engine::protocol::{Message, Op, STDERR, STDIN, STDOUT};
use crate::sys::memory::Pages;
use crate::sys::process;
use anyhow::Result;
use libc::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// No larger than what a socket of the unix family takes whole or not at all.
const CHUNK: usize = 32 * 1024;
/// What a pipe holds.
const PIPE: usize = 64 * 1024;
/// In front of each chunk, for clients of a container without a terminal: `[stream 0 0 0][length, big endian]`.
const FRAME: usize = 8;
/// After how long a face that was entered by a call becomes a process of its own.
const YOUTH: Duration = Duration::from_secs(1);
/// How long the end of the output may be kept from us once init has ended: by a client that was attached before the
/// start, where the kernel may not keep the rest for it, or by processes that hold the pipes and cannot be killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many descriptors are polled besides those of clients, at the most.
const FEW: usize = 12;
/// How long a resolver that ended is left at that, if the one before it ended just now.
const UNRESOLVED: Duration = Duration::from_secs(1);

/// One output stream: what was read last, until everybody who must have it has it.
struct Stream {
    source: Option<OwnedFd>,
    length: usize,
    /// Zeroed by the kernel page by page: what is never read into costs no memory.
    chunk: Pages,
}

struct Watch {
    pid: i32,
    terminal: bool,
    stdin: Option<OwnedFd>,
    stdin_once: bool,
    /// Stdin that the container has not taken yet.
    typed: Pages,
    typed_from: usize,
    typed_to: usize,
    streams: [Stream; 2],
    log: Option<Log>,
    /// What compresses a file of the log.
    packer: Option<Packer>,
    /// Where the log was before the newest chunk.
    before: Position,
    clients: [Option<Client>; MOST],
    /// When to kill, after a stop.
    deadline: Option<Instant>,
    stopped: bool,
    status: Option<i32>,
    /// When to become a process of this face alone, if it was entered by a call.
    settle: Option<Instant>,
    /// When its health is asked for; the probe that asks; that bad health ends it, to be started again.
    timing: Option<Timing>,
    probe: Option<Probe>,
    unhealthy: bool,
    oom: Option<Oom>,
    /// When its next resolver may be started, where the last one has ended.
    unresolved: Option<Instant>,
    /// Of a container with published ports, once it has grown up.
    guard: Option<Guard>,
    /// It has something to read when one of the ports has that are served by a program, and that program.
    knocked: Option<OwnedFd>,
    forwarder: Option<forward::Forwarder>,
    /// On the monotonic clock, which no change of the time moves.
    started: Instant,
}

/// Runs until init has ended and its output is delivered; becomes the reaping face then.
pub fn run(mut handover: Handover) -> Result<()> {
    let stream =
        |source| -> io::Result<Stream> { Ok(Stream { source, length: 0, chunk: Pages::zeroed(FRAME + PIPE)? }) };
    let mut watch = Watch {
        pid: handover.pid,
        terminal: handover.terminal,
        stdin: handover.stdin.take(),
        stdin_once: handover.stdin_once,
        typed: Pages::zeroed(CHUNK)?,
        typed_from: 0,
        typed_to: 0,
        streams: [stream(handover.stdout.take())?, stream(handover.stderr.take())?],
        log: handover.log.take(),
        packer: None,
        before: Position::default(),
        clients: [const { None }; MOST],
        deadline: None,
        stopped: false,
        status: None,
        settle: super::is_young().then(|| Instant::now() + YOUTH),
        timing: handover.timing.take(),
        probe: None,
        unhealthy: false,
        oom: Oom::watch(handover.cgroup.as_deref(), handover.oom),
        unresolved: None,
        guard: None,
        knocked: forward::knocked(&handover.kept.served),
        forwarder: None,
        started: Instant::now().checked_sub(handover.uptime).unwrap_or_else(Instant::now),
    };
    for client in std::mem::take(&mut handover.clients) {
        watch.admit(client);
    }
    for fd in [&watch.stdin, &watch.streams[0].source, &watch.streams[1].source].into_iter().flatten() {
        let _ = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
    }
    if !super::is_young() {
        give_up(&handover);
        watch.stand_guard(&handover);
    }
    watch.run(&mut handover)
}

/// What the descriptors of a poll round stand for.
#[derive(Clone, Copy)]
enum Polled {
    Listener,
    Init,
    Stdin,
    Stream(usize),
    Client(usize),
    Probe,
    Oom,
    Packer,
    Resolver,
    Guard,
    Mender,
    Knocked,
    Forwarder,
}

impl Watch {
    fn run(&mut self, handover: &mut Handover) -> ! {
        let mut ended: Option<Instant> = None;
        loop {
            if let Some(since) = ended {
                let drained = self.streams.iter().all(|stream| stream.source.is_none() && stream.length == 0);
                if drained || since.elapsed() > PATIENCE {
                    self.leave(handover);
                }
            }
            let mut events = [(Polled::Listener, 0i16); MOST + FEW];
            let count = self.round(handover, &mut events, ended);
            for (polled, flags) in &events[..count] {
                self.handle(*polled, *flags, handover, &mut ended);
            }
            if self.settle.is_some_and(|settle| Instant::now() >= settle) {
                if self.is_quiet() {
                    self.settle(handover);
                }
                if super::is_young() {
                    // Whatever face comes next executes itself: it is given back what it needs.
                    super::grow_up();
                    give_up(handover);
                }
                self.stand_guard(handover);
                self.settle = Instant::now().checked_add(YOUTH);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.deadline = None;
                let _ = process::pidfd_send_signal(handover.pidfd.as_fd(), libc::SIGKILL);
            }
            if self.unresolved.is_some_and(|due| Instant::now() >= due) && !self.is_ending() {
                self.resolve(handover);
            }
            if self.next_probe().is_some_and(|due| self.started.elapsed() >= due) {
                self.ask(handover);
            }
            self.pack(handover);
            self.bury_orphans();
        }
    }

    /// The uptime at which its health is to be asked for: not while it is asked, and not of one that is to end.
    fn next_probe(&self) -> Option<Duration> {
        let timing = self.timing.filter(|_| self.probe.is_none() && !self.is_ending())?;
        Some(timing.next.unwrap_or_else(|| timing.after(Duration::ZERO)))
    }

    fn is_ending(&self) -> bool {
        self.status.is_some() || self.deadline.is_some() || self.unhealthy
    }

    /// Starts a probe. One that cannot be started, or of a paused container, is put off.
    fn ask(&mut self, handover: &Handover) {
        let uptime = self.started.elapsed();
        if !health::is_paused(handover.cgroup.as_deref()) {
            self.probe = Probe::start(&handover.base, uptime).ok();
        }
        if let Some(timing) = self.timing.as_mut().filter(|_| self.probe.is_none()) {
            timing.next = Some(timing.after(uptime));
        }
    }

    /// A probe has ended: the next one is due an interval later.
    fn answered(&mut self, verdict: Option<Verdict>, handover: &Handover) {
        self.probe = None;
        let uptime = self.started.elapsed();
        let Some(timing) = &mut self.timing else { return };
        let verdict = verdict.unwrap_or(Verdict { settled: timing.settled, action: Action::Nothing });
        timing.settled = verdict.settled;
        timing.next = Some(timing.after(uptime));
        if verdict.action == Action::Nothing || self.is_ending() {
            return;
        }
        self.stopped = verdict.action == Action::Stop;
        self.unhealthy = verdict.action == Action::Restart;
        let (signal, grace) = handover.stop;
        let _ = process::pidfd_send_signal(handover.pidfd.as_fd(), signal);
        self.deadline = Instant::now().checked_add(grace);
    }

    /// Polls once; the descriptors with something to do, and what.
    fn round(&self, handover: &Handover, events: &mut [(Polled, i16)], ended: Option<Instant>) -> usize {
        let mut fds = [libc::pollfd { fd: -1, events: 0, revents: 0 }; MOST + FEW];
        let mut what = [Polled::Listener; MOST + FEW];
        let mut used = 0;
        let mut add = |fd: BorrowedFd, events: i16, polled| {
            fds[used] = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
            what[used] = polled;
            used += 1;
        };
        add(handover.listener.as_fd(), POLLIN, Polled::Listener);
        if ended.is_none() {
            add(handover.pidfd.as_fd(), POLLIN, Polled::Init);
        }
        if let Some(stdin) = &self.stdin
            && self.typed_from < self.typed_to
        {
            add(stdin.as_fd(), POLLOUT, Polled::Stdin);
        }
        // One that asked for the log before the start gets that first.
        let caught_up = !self.clients.iter().flatten().any(|client| client.lossless && client.behind.is_some());
        for (number, stream) in self.streams.iter().enumerate() {
            if let Some(source) = &stream.source
                && stream.length == 0
                && caught_up
            {
                add(source.as_fd(), POLLIN, Polled::Stream(number));
            }
        }
        if let Some(probe) = &self.probe {
            add(probe.pidfd.as_fd(), POLLIN, Polled::Probe);
        }
        if let Some(oom) = &self.oom {
            add(oom.as_fd(), POLLPRI, Polled::Oom);
        }
        if let Some(packer) = &self.packer {
            add(packer.as_fd(), POLLIN, Polled::Packer);
        }
        match (&self.forwarder, &self.knocked) {
            (Some(forwarder), _) => add(forwarder.as_fd(), POLLIN, Polled::Forwarder),
            (None, Some(knocked)) if ended.is_none() => add(knocked.as_fd(), POLLIN, Polled::Knocked),
            _ => {}
        }
        if let Some(guard) = &self.guard {
            add(guard.watched(), POLLIN, Polled::Guard);
            if let Some(mender) = guard.mender() {
                add(mender, POLLIN, Polled::Mender);
            }
        }
        let room = self.typed_from == self.typed_to;
        if let Some(resolver) = &handover.kept.resolver {
            add(resolver.as_fd(), 0, Polled::Resolver);
        }
        for (number, client) in self.clients.iter().enumerate() {
            let Some(client) = client else { continue };
            let reads = client.kind != Kind::Attached || client.streams & STDIN != 0 && room;
            let writes = client.owed != 0 || client.behind.is_some();
            let flags = if reads { POLLIN } else { 0 } | if writes { POLLOUT } else { 0 };
            add(client.fd.as_fd(), flags, Polled::Client(number));
        }
        let probe = self.next_probe().and_then(|due| self.started.checked_add(due));
        let unresolved = self.unresolved.filter(|_| !self.is_ending());
        let due = self.deadline.into_iter().chain(self.settle).chain(probe).chain(unresolved).min();
        let timeout = match (due, ended) {
            (Some(deadline), _) => {
                deadline.saturating_duration_since(Instant::now()).as_millis().min(60_000) as i32 + 1
            }
            (None, Some(_)) => 100,
            (None, None) => -1,
        };
        if process::poll(&mut fds[..used], timeout).is_err() {
            return 0;
        }
        let mut count = 0;
        for (fd, polled) in fds[..used].iter().zip(what).filter(|(fd, _)| fd.revents != 0) {
            events[count] = (polled, fd.revents);
            count += 1;
        }
        count
    }

    fn handle(&mut self, polled: Polled, flags: i16, handover: &mut Handover, ended: &mut Option<Instant>) {
        match polled {
            Polled::Listener => {
                if let Some(client) = clients::accept(handover.listener.as_fd()) {
                    self.admit(client);
                }
            }
            Polled::Init => {
                if let Some(status) = take_exit(self.pid) {
                    self.status = Some(status);
                    self.stdin = None;
                    *ended = Some(Instant::now());
                    // Its process went with the container.
                    if let Some(probe) = &self.probe {
                        let _ = process::pidfd_send_signal(probe.pidfd.as_fd(), libc::SIGKILL);
                    }
                    self.end_forwarder();
                    self.last_words(handover);
                    self.let_go();
                }
            }
            Polled::Probe => {
                if let Some(verdict) = self.probe.as_ref().and_then(Probe::ended) {
                    self.answered(verdict, handover);
                }
            }
            Polled::Oom => self.tell_of_oom(handover),
            Polled::Packer => self.packed(),
            Polled::Resolver => {
                handover.kept.resolver = None;
                self.unresolved.get_or_insert_with(Instant::now);
            }
            Polled::Guard => {
                if self.guard.as_mut().is_some_and(|guard| !guard.look(&handover.base)) {
                    self.guard = None;
                }
            }
            Polled::Knocked => {
                self.forwarder = forward::Forwarder::start(&handover.base, &handover.kept.served);
                if self.forwarder.is_none() {
                    self.knocked = None;
                }
            }
            Polled::Forwarder => {
                // One that cannot do its work would be started again and again.
                if self.end_forwarder().is_some_and(|lived| lived < YOUTH) {
                    self.knocked = None;
                }
            }
            Polled::Mender => {
                if let Some(guard) = &mut self.guard {
                    guard.mended(&handover.base);
                }
            }
            Polled::Stdin => self.feed(),
            Polled::Stream(number) => self.read(number),
            Polled::Client(number) => {
                if flags & POLLOUT != 0 {
                    self.catch_up(number);
                    self.deliver(number);
                }
                if flags & (POLLIN | POLLHUP | POLLERR) != 0 {
                    self.listen(number, flags, handover);
                }
            }
        }
    }

    /// It holds the ports, so it ends with the container.
    fn end_forwarder(&mut self) -> Option<Duration> {
        self.forwarder.take().map(forward::Forwarder::end)
    }

    fn stand_guard(&mut self, handover: &Handover) {
        if self.guard.is_none() && !handover.kept.ports.is_empty() {
            self.guard = Guard::stand(&handover.base);
        }
    }

    fn tell_of_oom(&mut self, handover: &Handover) {
        match self.oom.as_mut().map(Oom::more) {
            Some(Some(true)) => drop(super::tell("oom", &handover.base, Vec::new())),
            Some(None) => self.oom = None,
            _ => {}
        }
    }

    /// Hands the container to a resolver; whether there is one now.
    fn resolve(&mut self, handover: &mut Handover) -> bool {
        self.unresolved = Instant::now().checked_add(UNRESOLVED);
        let Some(namespace) = &handover.kept.namespace else { return false };
        let flags = SockFlag::SOCK_CLOEXEC;
        let Ok((ours, theirs)) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags) else { return false };
        let words = [(resolver::NAMESPACE, namespace), (resolver::SHIM, &theirs)];
        let inherit = |inherit| words.iter().all(|(_, fd)| process::set_inherit(fd.as_fd(), inherit).is_ok());
        let text = words.iter().map(|(name, fd)| format!("{name}={}", fd.as_raw_fd())).collect();
        let done = inherit(true) && super::tell("names", &handover.base, text);
        inherit(false);
        if done {
            self.unresolved = None;
            handover.kept.resolver = Some(ours);
        }
        done
    }

    fn admit(&mut self, client: Client) {
        match self.clients.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(client),
            None => client.answer(Message::new(Op::Failed, 125, 0), b"too many clients are attached to this container"),
        }
    }

    /// Init has ended, but others may hold its output open: processes of a shared pid namespace. They go with it.
    fn last_words(&mut self, handover: &Handover) {
        if let Some(cgroup) = &handover.cgroup {
            let _ = crate::cgroup::kill(cgroup);
        }
    }

    fn read(&mut self, number: usize) {
        // A client's socket takes a chunk whole. With nobody there, who writes is woken less often.
        let is_heard = self.clients.iter().flatten().any(|client| client.kind == Kind::Attached);
        let most = if is_heard { CHUNK } else { PIPE };
        let stream = &mut self.streams[number];
        let Some(source) = &stream.source else { return };
        match nix::unistd::read(source, &mut stream.chunk[FRAME..FRAME + most]) {
            Ok(0) | Err(Errno::EIO) => {
                // A terminal says EIO when its last user has closed it.
                stream.source = None;
                if let Some(log) = &mut self.log {
                    log.end(number);
                }
                self.release();
                return;
            }
            Ok(length) => {
                stream.length = length;
                stream.chunk[..FRAME].copy_from_slice(&[number as u8 + 1, 0, 0, 0, 0, 0, 0, 0]);
                stream.chunk[4..FRAME].copy_from_slice(&(length as u32).to_be_bytes());
                if let Some(log) = &mut self.log {
                    self.before = log.position();
                    log.write(number, &stream.chunk[FRAME..FRAME + length]);
                }
            }
            Err(_) => return,
        }
        let wanted = if number == 0 { STDOUT } else { STDERR };
        for client in self.clients.iter_mut().flatten() {
            if client.kind == Kind::Attached && client.streams & wanted != 0 && client.behind.is_none() {
                client.owed |= 1 << number;
            }
        }
        for place in 0..MOST {
            if self.clients[place].as_ref().is_some_and(|client| client.owed != 0) {
                self.deliver(place);
            }
        }
        self.release();
    }

    /// Something to read from a client, or its end.
    fn listen(&mut self, place: usize, flags: i16, handover: &mut Handover) {
        let Some(client) = &mut self.clients[place] else { return };
        if client.kind == Kind::Attached {
            if client.streams & STDIN != 0 {
                self.take_input(place, handover);
            } else if flags & (POLLHUP | POLLERR) != 0 {
                self.lose(place);
            }
            return;
        }
        let request = match client.request() {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.lose(place),
        };
        let message = request.message;
        match message.op {
            Op::Attach => {
                match &self.log {
                    None => client.make_room(4 * deliver::BEHIND as usize),
                    Some(log) if message.b == 1 => {
                        client.behind = Some(Behind { at: log.start(), sent: 0 });
                    }
                    Some(_) => {}
                }
                client.attach(&request, false)
            }
            Op::Wait => {
                client.kind = if message.a == 1 { Kind::Leaving } else { Kind::Waiting };
                client.ok();
            }
            Op::Resize => {
                if self.terminal
                    && let Some(terminal) = &self.streams[0].source
                {
                    let _ = super::resize(terminal.as_fd(), message.a as u16, message.b as u16);
                }
                client.ok();
            }
            Op::Signal => match process::pidfd_send_signal(handover.pidfd.as_fd(), message.a) {
                Ok(()) if self.status.is_none() => {
                    self.stopped |= message.b == 1;
                    client.ok()
                }
                _ => client.answer(Message::new(Op::Failed, 125, 0), b"the container has ended"),
            },
            Op::Stop => {
                client.kind = Kind::Waiting;
                self.stopped = true;
                let _ = process::pidfd_send_signal(handover.pidfd.as_fd(), message.a);
                if let Ok(seconds) = u64::try_from(message.b) {
                    self.deadline = Some(Instant::now() + Duration::from_secs(seconds));
                }
            }
            Op::Names => {
                let has = handover.kept.resolver.is_some() || self.resolve(handover);
                let Some(client) = &mut self.clients[place] else { return };
                match has {
                    true => client.ok(),
                    false => client.answer(Message::new(Op::Failed, 125, 0), b"the resolver could not be started"),
                }
            }
            // 304: it runs already.
            Op::Start => client.answer(Message::new(Op::Failed, 304, 0), b"the container is running"),
            Op::Ok | Op::Failed | Op::Exited => self.lose(place),
        }
    }

    /// Reads what a client typed, if the container has taken what was typed before.
    fn take_input(&mut self, place: usize, handover: &Handover) {
        if self.typed_from < self.typed_to {
            return;
        }
        let Some(client) = &mut self.clients[place] else { return };
        // People type little; the rest of the buffer is room for detach keys that turn out to be none.
        let most = if self.terminal { super::TYPED } else { CHUNK };
        match clients::receive(client.fd.as_fd(), &mut self.typed[..most], libc::MSG_DONTWAIT) {
            Ok(0) => {
                client.streams &= !STDIN;
                // Half-closed: it has no more to say, and still listens.
                if self.stdin_once && !self.terminal {
                    self.stdin = None;
                }
            }
            Ok(length) => {
                let length = if client.keys_len > 0 && self.terminal {
                    match super::detach(client, &mut self.typed, length) {
                        Some(kept) => kept,
                        None => {
                            self.clients[place] = None;
                            super::tell("detached", &handover.base, Vec::new());
                            return self.release();
                        }
                    }
                } else {
                    length
                };
                (self.typed_from, self.typed_to) = (0, if self.stdin.is_some() { length } else { 0 });
                self.feed();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lose(place),
        }
    }

    fn feed(&mut self) {
        while self.typed_from < self.typed_to {
            let Some(stdin) = &self.stdin else {
                self.typed_from = self.typed_to;
                return;
            };
            match nix::unistd::write(stdin, &self.typed[self.typed_from..self.typed_to]) {
                Ok(length) => self.typed_from += length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // The container has closed its stdin; what is typed goes nowhere, as with a pipe.
                Err(_) => {
                    self.stdin = None;
                    self.typed_from = self.typed_to;
                }
            }
        }
    }

    /// A client has gone. If it was the one whose stdin this was, that ends.
    fn lose(&mut self, place: usize) {
        if let Some(client) = self.clients[place].take()
            && client.kind == Kind::Attached
            && client.streams & STDIN != 0
            && self.stdin_once
            && !self.terminal
        {
            self.stdin = None;
        }
        self.release();
    }

    /// With a shared pid namespace, what the container leaves behind comes to us.
    fn bury_orphans(&mut self) {
        let forwarder = self.forwarder.as_ref().map(forward::Forwarder::pid);
        let packer = self.packer.as_ref().map(Packer::pid);
        let own = |pid: i32| {
            pid == self.pid
                || Some(pid) == forwarder
                || Some(pid) == packer
                || self.probe.as_ref().is_some_and(|probe| pid == probe.pid)
        };
        while let Ok(Some((pid, _))) = process::ended(None, true) {
            if own(pid) {
                return;
            }
            let _ = process::ended(Some(pid), false);
        }
    }

    /// Whether nothing is under way that another process image could not go on with.
    fn is_quiet(&self) -> bool {
        self.probe.is_none()
            && self.forwarder.is_none()
            && self.packer.is_none()
            && !self.is_ending()
            && !self.stopped
            && self.typed_from == self.typed_to
            && self.streams.iter().all(|stream| stream.length == 0)
            && self
                .clients
                .iter()
                .flatten()
                .all(|client| client.owed == 0 && client.matched == 0 && client.behind.is_none())
    }

    /// The container lives on: what the launching face left in memory is shed by executing ourselves again.
    /// Where that cannot be done now, it goes on as it is.
    fn settle(&mut self, handover: &Handover) {
        let Ok(lines) = self.log.as_ref().map(Log::hand_over).transpose() else { return };
        let lines = lines.flatten();
        let open = |name: &str| match name {
            "in" => self.stdin.is_some(),
            "out" => self.streams[0].source.is_some(),
            "err" => self.streams[1].source.is_some(),
            _ => true,
        };
        let kept = handover.words.iter().filter(|word| word.split_once('=').is_some_and(|(name, _)| open(name)));
        let mut words: Vec<String> = kept.cloned().collect();
        // A log that was rotated is another file by now.
        if let Some(log) = &self.log {
            words.retain(|word| !word.starts_with("logfd="));
            words.push(format!("logfd={}", log.file().as_raw_fd()));
            words.extend(lines.as_ref().map(|lines| format!("lines={}", lines.as_raw_fd())));
            words.push(format!("unwritten={}", log.lost()));
        }
        for word in &words {
            if let Some((name, number)) = word.split_once('=')
                && super::DESCRIPTORS.contains(&name)
                && let Ok(number) = number.split(',').next().unwrap_or_default().parse()
            {
                let _ = process::set_inherit(process::unbound(number), true);
            }
        }
        words.retain(|word| !["health=", "oom=", "resolver="].iter().any(|name| word.starts_with(name)));
        if let Some(resolver) = &handover.kept.resolver {
            let _ = process::set_inherit(resolver.as_fd(), true);
            words.push(format!("{}={}", super::kept::RESOLVER, resolver.as_raw_fd()));
        }
        words.extend(self.oom.as_ref().map(|oom| format!("oom={}", oom.told())));
        words.extend(self.timing.map(|timing| format!("health={}", timing.hand_over())));
        words.push(format!("uptime={}", self.started.elapsed().as_millis()));
        let _ = clients::hand_over(self.clients.iter().flatten(), &mut words);
        super::grow_up();
        exec_face("watch", &handover.base, words)
    }

    /// Becomes the reaping face: the clients that wait go along.
    fn leave(&mut self, handover: &Handover) -> ! {
        self.tell_of_oom(handover);
        self.end_packer();
        self.leave_behind();
        let mut words = vec![
            format!("status={}", self.status.unwrap_or(255)),
            format!("stopped={}", self.stopped as u8),
            format!("uptime={}", self.started.elapsed().as_millis()),
            format!("unhealthy={}", self.unhealthy as u8),
            format!("pause={}", handover.pause.as_millis()),
        ];
        if let Some(log) = &self.log
            && log.lost() > 0
        {
            words.push(format!("lost={}", log.lost()));
        }
        // Attached ones too: their stream ends when the end is on record, so that whoever asks then is told it.
        let _ = clients::hand_over(self.clients.iter().flatten(), &mut words);
        let _ = handover.kept.hand_over(&mut words);
        exec_face("reap", &handover.base, words)
    }
}

/// Lets go what a shim that waits does not need. One that could not goes on as it is: nothing of its work depends on it.
fn give_up(handover: &Handover) {
    let guards = !handover.kept.ports.is_empty();
    if handover.later.is_some() || handover.base.whose.exec.is_some() {
        let _ = privileges::become_watch(guards, handover.later);
    }
}

/// Takes init's exit status: its code, or 128 and the signal.
fn take_exit(pid: i32) -> Option<i32> {
    match process::ended(Some(pid), false) {
        Ok(ended) => ended.map(|(_, code)| code),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Some(255),
        Err(_) => None,
    }
}
