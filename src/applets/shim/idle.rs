//! A shim without a process: in state *created*, so that whoever attaches or waits before the start loses nothing, and
//! in the pause before a restart, where a stop calls the restart off.

use super::Base;
use super::behind::Said;
use super::clients::{self, Client, Kind};
use crate::engine::protocol::{Message, NEVER_RAN, NOT_DONE, Op};
use crate::engine::shim::LISTEN_FD;
use crate::sys::process;
use anyhow::{Context, Result};
use std::os::fd::AsRawFd;
use std::time::Instant;

pub struct Idle<'a> {
    base: &'a Base,
    pub clients: Vec<Client>,
    /// Rows and columns, as the last resize said.
    pub size: Option<(u16, u16)>,
    /// What earlier runs have said, for those who ask for it.
    log: Option<Said>,
}

/// What comes after waiting.
pub enum Next {
    /// Somebody, by place among the clients, said start; or it is time for the restart.
    Start(Option<usize>),
    /// Somebody wants the restart at once.
    Restart,
    /// Somebody called the restart off.
    Stop,
    /// Nobody is connected any more.
    Nobody,
}

impl Idle<'_> {
    pub fn new(base: &Base, clients: Vec<Client>) -> Idle<'_> {
        Idle { base, clients, size: None, log: None }
    }

    /// Serves until there is something to do. Without `due`, that is when the last client has left, too.
    pub fn serve(&mut self, due: Option<Instant>) -> Result<Next> {
        let listener = process::unbound(LISTEN_FD);
        loop {
            let mut fds = vec![libc::pollfd { fd: LISTEN_FD, events: libc::POLLIN, revents: 0 }];
            fds.extend(self.clients.iter().map(|client| libc::pollfd {
                fd: client.fd.as_raw_fd(),
                // What an attached client types stays in its socket until there is somebody to type to.
                events: match client.kind {
                    Kind::Attached if client.behind.is_some() => libc::POLLOUT,
                    Kind::Attached => 0,
                    _ => libc::POLLIN,
                },
                revents: 0,
            }));
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            process::poll(&mut fds, left.map_or(-1, |left| left.as_millis() as i32 + 1)).context("poll")?;
            for (place, fd) in fds[1..].iter().enumerate().rev() {
                let gone = fd.revents & (libc::POLLHUP | libc::POLLERR) != 0;
                if self.clients[place].kind == Kind::Attached {
                    if gone || fd.revents != 0 && !self.replay(place) {
                        self.clients.remove(place);
                    }
                } else if fd.revents != 0
                    && let Some(next) = self.answer(place, due.is_some())
                {
                    return Ok(next);
                }
            }
            if fds[0].revents != 0
                && let Some(client) = clients::accept(listener)
            {
                self.clients.push(client);
            }
            match due {
                None if self.clients.is_empty() => return Ok(Next::Nobody),
                Some(due) if Instant::now() >= due => return Ok(Next::Start(None)),
                _ => {}
            }
        }
    }

    fn answer(&mut self, place: usize, restarting: bool) -> Option<Next> {
        let client = &mut self.clients[place];
        let request = match client.request() {
            Ok(Some(request)) => request,
            Ok(None) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => {
                self.clients.remove(place);
                return None;
            }
        };
        let message = request.message;
        match message.op {
            Op::Attach => {
                if message.b == 1 {
                    self.log = self.log.take().or_else(|| Said::find(self.base).ok().flatten());
                    client.behind = self.log.as_ref().map(Said::start);
                }
                client.attach(&request, true)
            }
            Op::Wait => {
                client.kind = if message.a == 1 { Kind::Leaving } else { Kind::Waiting };
                client.ok();
            }
            Op::Resize => {
                self.size = Some((message.a as u16, message.b as u16));
                client.ok();
            }
            Op::Start if restarting => {
                client.answer(Message::new(Op::Failed, NOT_DONE, 0), b"the container is restarting")
            }
            Op::Start => return Some(Next::Start(Some(place))),
            Op::Restart if restarting => return client.restart(&request).then_some(Next::Restart),
            Op::Stop if restarting && message.a == 0 => {
                client.answer(Message::new(Op::Failed, NOT_DONE, 0), b"the container is restarting")
            }
            Op::Stop if restarting => {
                client.kind = Kind::Waiting;
                return Some(Next::Stop);
            }
            // It is being removed: nobody waits for a start any more.
            Op::Stop => {
                for client in self.clients.drain(..).filter(|client| client.kind != Kind::Attached) {
                    client.answer(Message::new(Op::Exited, NEVER_RAN, 0), &[]);
                }
                return Some(Next::Nobody);
            }
            // There is no process to get it, but one that is meant to end the container does so.
            Op::Signal if restarting => {
                client.ok();
                return (message.b == 1).then_some(Next::Stop);
            }
            _ => client.answer(Message::new(Op::Failed, NOT_DONE, 0), b"the container is not running"),
        }
        None
    }

    /// Gives a client more of what it asked for; false where it has gone.
    fn replay(&mut self, place: usize) -> bool {
        self.log.as_mut().is_none_or(|log| log.serve(&mut self.clients[place]))
    }
}
