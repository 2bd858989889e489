//! The long-lived face: a poll loop on fixed buffers. Stdio or a terminal, the log, clients, signals, the end of init.
//! No serde, no threads, and next to no heap: its private memory is a benchmark figure.

mod deliver;
mod faces;
mod input;
mod pack;
mod round;

use super::behind::{Behind, Position};
use super::clients::{self, Client, Kind, MOST};
use super::forward;
use super::guard::Guard;
use super::health::{self, Probe, Timing};
use super::log::Log;
use super::oom::Oom;
use super::pack::Packer;
use super::probe::{Action, Verdict};
use super::{Handover, resolver};
use crate::cgroup;
use crate::engine::privileges;
use crate::engine::protocol::{Message, NOT_DONE, Op, STDERR, STDIN, STDOUT};
use crate::sys::memory::Pages;
use crate::sys::process;
use anyhow::Result;
use libc::{POLLERR, POLLHUP};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use round::Polled;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// No larger than what a socket of the unix family takes whole or not at all.
const CHUNK: usize = 32 * 1024;
/// What a pipe holds.
const PIPE: usize = 64 * 1024;
/// In front of each chunk, for clients that get frames: `[stream 0 0 0][length, big endian]`.
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
    framed: bool,
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
    /// Whoever stops it wants it started again.
    again: bool,
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
    /// Of a container that goes by rules, once it has grown up.
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
        framed: handover.framed,
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
        again: false,
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
                self.kill(handover);
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

    /// Its time is over. Told before it is done, so that it comes before the end that it brings.
    fn kill(&self, handover: &Handover) {
        if self.status.is_none() {
            super::tell("kill", &handover.base, Vec::new());
            let _ = process::pidfd_send_signal(handover.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// It holds the ports, so it ends with the container.
    fn end_forwarder(&mut self) -> Option<Duration> {
        self.forwarder.take().map(forward::Forwarder::end)
    }

    fn stand_guard(&mut self, handover: &Handover) {
        if self.guard.is_none() && handover.kept.rules {
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
            let _ = cgroup::kill(cgroup);
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
        if let Some(message) = client.peek().filter(|message| message.op == Op::Ports) {
            return self.take_ports(place, &message, handover);
        }
        let request = match client.request() {
            Ok(Some(request)) if client.kind != Kind::Still => request,
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(Some(_)) | Err(_) => {
                self.go_on(place, handover);
                return self.lose(place);
            }
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
                    client.ok();
                    if message.b == 1 {
                        self.stay();
                    }
                }
                _ => client.answer(Message::new(Op::Failed, 125, 0), b"the container has ended"),
            },
            Op::Stop if message.a == 0 => {
                client.answer(Message::new(Op::Failed, NOT_DONE, 0), b"the container is running")
            }
            Op::Stop => {
                client.kind = Kind::Waiting;
                self.stay();
                self.stop(&message, handover);
            }
            // Who asked for it before a stop that came later has it started otherwise.
            Op::Restart => {
                if client.restart(&request) {
                    self.again = true;
                    self.stop(&message, handover);
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
            // What it still passes on goes to where the container is no longer.
            Op::Moved => {
                self.end_forwarder();
                let Some(client) = &mut self.clients[place] else { return };
                client.ok();
            }
            Op::Still => match &handover.cgroup {
                // Who asked waits until they do.
                Some(cgroup) if cgroup::set_frozen(cgroup, true).is_ok() => {
                    client.kind = Kind::Still;
                    client.ok()
                }
                _ => client.answer(Message::new(Op::Failed, 125, 0), b"the container cannot be frozen"),
            },
            // 304: it runs already.
            Op::Start => client.answer(Message::new(Op::Failed, NOT_DONE, 0), b"the container is running"),
            Op::Ports | Op::Ok | Op::Failed | Op::Exited => self.lose(place),
        }
    }

    /// Holds ports that a command has bound, as those of the start. Who serves some by a program begins anew with all.
    fn take_ports(&mut self, place: usize, message: &Message, handover: &mut Handover) {
        let Some(client) = &mut self.clients[place] else { return };
        let taken = client.ports().and_then(|ports| match ports.len() as i32 == message.a.saturating_add(message.b) {
            true => handover.kept.take(ports, message.a as usize),
            false => Err(io::ErrorKind::InvalidData.into()),
        });
        match taken {
            Ok(words) => {
                handover.words.extend(words);
                client.ok();
            }
            Err(error) => {
                client.answer(Message::new(Op::Failed, 125, 0), error.to_string().as_bytes());
                return self.lose(place);
            }
        }
        self.end_forwarder();
        self.knocked = forward::knocked(&handover.kept.served);
    }

    /// It is to end, and that is that: a restart that was asked for is called off.
    fn stay(&mut self) {
        self.stopped = true;
        self.again = false;
        let why = Message::new(Op::Failed, NOT_DONE, 0);
        clients::answer_start(self.clients.iter_mut().flatten(), why, b"the container is stopped");
    }

    /// Sends the signal that shall end it, and takes note of when to kill.
    fn stop(&mut self, message: &Message, handover: &Handover) {
        let _ = process::pidfd_send_signal(handover.pidfd.as_fd(), message.a);
        if let Ok(seconds) = u64::try_from(message.b) {
            self.deadline = Some(Instant::now() + Duration::from_secs(seconds));
        }
    }

    /// Lets the container's processes go on, if it was this client alone for whom they stand still.
    fn go_on(&self, place: usize, handover: &Handover) {
        let stands = |at: usize| self.clients[at].as_ref().is_some_and(|client| client.kind == Kind::Still);
        if stands(place)
            && !(0..MOST).any(|other| other != place && stands(other))
            && let Some(cgroup) = &handover.cgroup
        {
            let _ = cgroup::set_frozen(cgroup, false);
        }
    }

    /// Reads what a client typed, if the container has taken what was typed before.
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
}

/// Lets go what a shim that waits does not need. One that could not goes on as it is: nothing of its work depends on it.
fn give_up(handover: &Handover) {
    if handover.later.is_some() || handover.base.whose.exec.is_some() {
        let _ = privileges::become_watch(handover.kept.rules, handover.later);
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
