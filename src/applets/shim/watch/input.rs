//! What is typed, or comes through a pipe, on its way into the container.

use super::{CHUNK, Watch};
use crate::applets::shim::{self, Handover, TYPED, clients};
use crate::engine::protocol::STDIN;
use nix::errno::Errno;
use std::io;
use std::os::fd::AsFd;

impl Watch {
    pub(super) fn take_input(&mut self, place: usize, handover: &Handover) {
        if self.typed_from < self.typed_to {
            return;
        }
        let Some(client) = &mut self.clients[place] else { return };
        // People type little; the rest of the buffer is room for detach keys that turn out to be none.
        let most = if self.terminal { TYPED } else { CHUNK };
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
                    match shim::detach(client, &mut self.typed, length) {
                        Some(kept) => kept,
                        None => {
                            self.clients[place] = None;
                            shim::tell("detached", &handover.base, Vec::new());
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

    pub(super) fn feed(&mut self) {
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
}
