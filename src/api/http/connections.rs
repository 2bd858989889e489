//! All connections of a daemon: a thread each, up to a number.

use super::socket::Socket;
use super::{respond, server};
use crate::api::wire::{Request, Response};
use crate::log;
use crate::order;
use nix::sys::socket::Shutdown;
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The engine is deep where it reads JSON and shallow elsewhere.
const STACK: usize = 512 << 10;

/// What answers the requests. Asked for each one, so that it can be replaced.
pub type Engine = Arc<dyn Fn(Request) -> Response + Send + Sync>;

/// The connections that are open.
pub struct Connections {
    engine: Engine,
    most: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// With the time since which it waits for a request, where it does.
    sockets: HashMap<u64, (Socket, Option<Instant>)>,
}

impl Connections {
    pub fn new(engine: Engine, most: usize) -> Arc<Connections> {
        Arc::new(Connections { engine, most, open: Mutex::default() })
    }

    /// Serves a connection in a thread of its own. Beyond the bound the one that has waited longest for a request makes
    /// room; where none waits, the new one is turned away. `wrap` gives the plain side of it, in that thread.
    pub fn serve(
        self: &Arc<Connections>,
        socket: OwnedFd,
        wrap: impl FnOnce(OwnedFd) -> io::Result<OwnedFd> + Send + 'static,
    ) {
        let raw = Socket::new(socket);
        let Some(number) = self.admit(raw.clone()) else {
            return turn_away(raw, self.most);
        };
        let all = Arc::clone(self);
        let thread = std::thread::Builder::new().name("connection".to_owned()).stack_size(STACK);
        let refused = raw.clone();
        let started = thread.spawn(move || {
            let leaving = Leaving(&all, number);
            match raw.into_fd().and_then(wrap) {
                Ok(plain) => server::serve(plain, &*all.engine, &|idle| all.mark(number, idle)),
                Err(error) => log::debug!("a connection ended: {error}"),
            }
            drop(leaving);
        });
        if let Err(error) = started {
            log::warning!("start a thread for a connection: {error}");
            self.lock().sockets.remove(&number);
            turn_away(refused, self.most);
        }
    }

    fn admit(&self, socket: Socket) -> Option<u64> {
        let mut open = self.lock();
        if open.sockets.len() >= self.most {
            let idle =
                open.sockets.iter().filter_map(|(number, (socket, since))| Some((since.as_ref()?, *number, socket)));
            let mut idle: Vec<_> = idle.collect();
            order::by_key(&mut idle, |(since, ..)| **since);
            // One whose request has come is not idle any more, even if its thread does not know yet.
            let silent = |socket: &Socket| matches!(socket.wait(Some(Duration::ZERO)), Ok(false));
            let number = idle.into_iter().find(|(.., socket)| silent(socket)).map(|(_, number, _)| number)?;
            // Its thread wakes up and ends; its place is free from now on.
            if let Some((socket, _)) = open.sockets.remove(&number) {
                socket.shutdown(Shutdown::Both);
            }
        }
        open.next += 1;
        let number = open.next;
        open.sockets.insert(number, (socket, Some(Instant::now())));
        Some(number)
    }

    fn mark(&self, number: u64, idle: bool) {
        if let Some((_, since)) = self.lock().sockets.get_mut(&number) {
            *since = idle.then(Instant::now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Takes a connection off the list, however its thread ends.
struct Leaving<'a>(&'a Connections, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.lock().sockets.remove(&self.1);
    }
}

/// Says that there is no room, without waiting for anybody.
fn turn_away(mut socket: Socket, most: usize) {
    let message = format!("{most} connections are open and all of them are busy: no more are taken");
    let bytes = respond::standing(503, &message);
    // A new connection has room for that.
    let _ = socket.write(&bytes);
    // What has come of the request is taken, for otherwise TCP would throw our answer away.
    let mut sink = [0; 4096];
    if matches!(socket.wait(Some(Duration::ZERO)), Ok(true)) {
        let _ = io::Read::read(&mut socket, &mut sink);
    }
    socket.shutdown(Shutdown::Write);
}
