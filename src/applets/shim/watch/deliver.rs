//! What clients are owed: chunks as they come, or the log where they cannot take them.

use super::{FRAME, MOST, Watch};
use crate::applets::shim::behind::{Behind, Reader, Served};
use crate::applets::shim::clients::{self, Client, Kind};
use crate::engine::shim::{LISTEN_FD, LOCK_FD};
use crate::sys::process;
use libc::{POLLERR, POLLHUP, POLLOUT};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// What a client that attached late may fall behind before it is cut off, where there is no log to serve it from.
pub const BEHIND: i32 = 1024 * 1024;
/// What the kernel keeps for a client that has not read all once init has ended: more than is in its pipes then.
const REST: usize = 8 * 1024 * 1024;
/// How long a client that is served from the log after the end may read nothing.
const QUIET: Duration = Duration::from_secs(600);

impl Watch {
    /// Sends a client what it is owed, as far as it takes it now. Frames are never mixed.
    pub(super) fn deliver(&mut self, place: usize) {
        let skip = if self.framed { 0 } else { FRAME };
        while let Some(client) = &mut self.clients[place] {
            if client.current == 0 {
                if client.owed == 0 {
                    break;
                }
                client.current = if client.owed & 1 != 0 { 1 } else { 2 };
                client.offset = skip as u32;
            }
            let number = client.current as usize - 1;
            let stream = &self.streams[number];
            let whole = FRAME + stream.length;
            if !client.lossless && self.log.is_none() && queued(client.fd.as_fd()) > BEHIND {
                self.fall_behind(place);
                break;
            }
            match clients::send(client.fd.as_fd(), &stream.chunk[client.offset as usize..whole]) {
                Ok(sent) => {
                    client.offset += sent as u32;
                    if client.offset as usize == whole {
                        client.owed &= !(1 << number);
                        client.current = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && client.lossless => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.fall_behind(place),
                Err(_) => self.lose(place),
            }
        }
        self.release();
    }

    /// A client that attached late does not take the newest chunk: from that on it is served from the log.
    fn fall_behind(&mut self, place: usize) {
        let Some(client) = &mut self.clients[place] else { return };
        // A socket takes a chunk whole or not at all; in the middle of a frame nothing else could be said.
        let within = client.offset as usize > if self.framed { 0 } else { FRAME };
        match &self.log {
            _ if within => self.lose(place),
            None => self.cut_off(place, "the output is not read fast enough"),
            Some(_) => {
                (client.owed, client.current) = (0, 0);
                client.behind = Some(Behind { at: self.before, sent: 0 });
            }
        }
    }

    fn cut_off(&mut self, place: usize, why: &str) {
        if let Some(client) = self.clients[place].take() {
            let text = format!("dhow: cut off: {why}\n");
            let mut frame = vec![3, 0, 0, 0, 0, 0, 0, text.len() as u8];
            frame.extend_from_slice(text.as_bytes());
            let _ = clients::send(client.fd.as_fd(), if self.framed { &frame } else { &frame[FRAME..] });
        }
    }

    /// Gives a client that is behind some more of the log.
    pub(super) fn catch_up(&mut self, place: usize) {
        let (Some(client), Some(log)) = (&mut self.clients[place], &mut self.log) else { return };
        let Some(mut behind) = client.behind else { return };
        let reader = Reader { socket: client.fd.as_fd(), streams: client.streams, framed: self.framed };
        let served = log.serve(&reader, &mut behind);
        client.behind = Some(behind);
        match served {
            Ok(Served::More | Served::Full) => {}
            Ok(Served::Live) => {
                client.behind = None;
                if self.clients.iter().flatten().all(|client| client.behind.is_none()) {
                    log.let_go();
                }
            }
            Ok(Served::Overtaken) if behind.sent == 0 => {
                self.cut_off(place, "the log was rotated away before it was read")
            }
            Ok(Served::Overtaken) | Err(_) => self.lose(place),
        }
    }

    /// A chunk that nobody is owed any more makes room for the next.
    pub(super) fn release(&mut self) {
        for number in 0..2 {
            let owed = |client: &Option<Client>| client.as_ref().is_some_and(|client| client.owed & 1 << number != 0);
            if !self.clients.iter().any(owed) {
                self.streams[number].length = 0;
            }
        }
    }

    /// From here on nobody is waited for: the end goes on record at once, and who reads slowly gets the rest from the
    /// kernel or from the log.
    pub(super) fn let_go(&mut self) {
        for client in self.clients.iter_mut().flatten().filter(|client| client.kind == Kind::Attached) {
            match client.behind {
                Some(_) => client.lossless = false,
                None => client.make_room(REST),
            }
        }
        for place in 0..MOST {
            self.deliver(place);
        }
    }

    /// The end is on record at once; who has yet to read of the log gets it from a process of its own.
    pub(super) fn leave_behind(&mut self) {
        let Some(log) = &mut self.log else { return };
        let late = self.clients.iter().flatten().filter_map(|client| client.behind);
        let Some(from) = late.map(|behind| behind.at.file).min() else { return };
        log.keep_open(from);
        if matches!(process::fork(), Ok(0)) {
            // Whether a shim lives is asked of the lock.
            let _ = process::close_range(LOCK_FD, LISTEN_FD);
            for client in &mut self.clients {
                client.take_if(|client| client.behind.is_none());
            }
            self.serve_rest();
            process::exit_now(0)
        }
    }

    /// Until everybody has all, has gone, or has not read for long.
    fn serve_rest(&mut self) {
        let mut fds = [libc::pollfd { fd: -1, events: 0, revents: 0 }; MOST];
        loop {
            let mut left = 0;
            for (client, fd) in self.clients.iter_mut().zip(&mut fds) {
                // Live means that there is no more.
                client.take_if(|client| client.behind.is_none());
                left += client.is_some() as usize;
                *fd = libc::pollfd { fd: -1, events: POLLOUT, revents: 0 };
                if let Some(client) = client {
                    fd.fd = client.fd.as_raw_fd();
                }
            }
            if left == 0 || !matches!(process::poll(&mut fds, QUIET.as_millis() as i32), Ok(1..)) {
                return;
            }
            for (place, fd) in fds.iter().enumerate() {
                if fd.revents & (POLLERR | POLLHUP) != 0 {
                    self.clients[place] = None;
                } else if fd.revents != 0 {
                    self.catch_up(place);
                }
            }
        }
    }
}

/// How many bytes a client has not read yet.
fn queued(fd: BorrowedFd) -> i32 {
    process::socket_queue(fd).unwrap_or(0)
}
