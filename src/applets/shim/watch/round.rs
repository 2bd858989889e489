//! What a round of the loop waits for, and what is done with it.

use super::{FEW, Watch, YOUTH, take_exit};
use crate::applets::shim::clients::{self, Kind, MOST};
use crate::applets::shim::health::Probe;
use crate::applets::shim::{Handover, forward};
use crate::engine::protocol::STDIN;
use crate::sys::process;
use libc::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

/// What the descriptors of a poll round stand for.
#[derive(Clone, Copy)]
pub(super) enum Polled {
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
    /// Polls once; the descriptors with something to do, and what.
    pub(super) fn round(&self, handover: &Handover, events: &mut [(Polled, i16)], ended: Option<Instant>) -> usize {
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

    pub(super) fn handle(&mut self, polled: Polled, flags: i16, handover: &mut Handover, ended: &mut Option<Instant>) {
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
}
