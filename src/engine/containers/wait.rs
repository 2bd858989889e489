//! Waiting for a container's end, which its shim tells.

use super::{DEATH, Doing, SURVIVED, is_not_found, now};
use crate::api::wire::Caller;
use crate::engine::protocol::{self, Message, Op};
use crate::engine::shim::{self, Whose};
use crate::engine::store::Store;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Waits until the shim has something to tell.
fn listen(stream: &UnixStream, caller: &Caller) -> Result<()> {
    let Some(gone) = caller.watch() else { return Ok(()) };
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN), gone];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[0].any() == Some(true) => return Ok(()),
            Ok(_) => bail!("who waited has gone"),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the shim"),
        }
    }
}

/// Waits until the shim of one that is killed after this time has something to tell. An error where the kernel does not end
/// it; what hooks do for its end may take as long as they like.
pub(super) fn dies(store: &Store, id: &str, stream: &UnixStream, after: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        let left = (after + DEATH).saturating_sub(start.elapsed());
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if !left.is_zero() => {}
            Ok(0) => match now(store, id) {
                Ok(now) if now.doing.is_alive() => bail!(SURVIVED),
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => return Ok(()),
            },
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the shim"),
        }
    }
}

/// What came of waiting: the exit code, or that the shim ended without telling.
pub(super) fn exited(stream: &mut UnixStream) -> Result<Option<i32>> {
    Ok(told(stream)?.map(|(code, _)| code))
}

/// The same, with whether the container stays.
fn told(stream: &mut UnixStream) -> Result<Option<(i32, bool)>> {
    match protocol::receive(stream) {
        Ok((Message { op: Op::Exited, a, b, .. }, _)) => Ok(Some((a, b == 1))),
        Ok((_, why)) => bail!("{}", String::from_utf8_lossy(&why)),
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(None),
        Err(error) => Err(error).context("read from the shim"),
    }
}

/// Until when wait waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    NotRunning,
    NextExit,
    Removed,
}

/// A wait that has been registered.
pub struct Wait {
    id: String,
    stream: Option<UnixStream>,
    until: Until,
    /// Of a container that has ended before.
    code: i32,
}

/// Registers a wait: what ends after this has returned is not missed.
pub fn wait(store: &Store, id: &str, until: Until) -> Result<Wait> {
    for _ in 0..super::TRIES {
        let now = now(store, id)?;
        if now.doing == Doing::Stuck {
            bail!(SURVIVED);
        }
        let alive = now.doing.goes_on();
        let mut wait = Wait { id: id.to_owned(), stream: None, until, code: now.record.ended.exit_code };
        if until == Until::NotRunning && !alive {
            return Ok(wait);
        }
        wait.stream = wait.register(store, alive)?;
        if wait.stream.is_some() {
            return Ok(wait);
        }
        // It ended while we asked.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    bail!("container {id} does not come to rest")
}

impl Wait {
    /// Asks the shim to tell; `None` where it ends just then. One that does not run gets a shim that waits for a start;
    /// for one that runs none may be started, or the end of this run would be missed.
    fn register(&self, store: &Store, alive: bool) -> Result<Option<UnixStream>> {
        let whose = Whose::container(&self.id);
        let stream = if alive { shim::connect(store, &whose)? } else { Some(shim::connect_or_start(store, &whose)?) };
        let Some(mut stream) = stream else { return Ok(None) };
        let message = Message::new(Op::Wait, (self.until == Until::Removed) as i32, 0);
        Ok(shim::tell(&mut stream, message, &[]).is_ok().then_some(stream))
    }

    /// Waits for the end of one that was killed.
    pub(super) fn finish_killed(self, store: &Store) -> Result<()> {
        if let Some(stream) = &self.stream {
            dies(store, &self.id, stream, Duration::ZERO)?;
        }
        self.finish(store, &Caller::default()).map(drop)
    }

    /// Waits; the exit code. Nobody waits for a caller that has gone.
    pub fn finish(mut self, store: &Store, caller: &Caller) -> Result<i32> {
        let Some(mut stream) = self.stream.take() else { return Ok(self.code) };
        loop {
            listen(&stream, caller)?;
            let idle = match told(&mut stream)? {
                Some((protocol::NEVER_RAN, _)) => true,
                // It has ended, and the wait is for its removal.
                Some((code, true)) => {
                    self.code = code;
                    true
                }
                Some((code, false)) => return Ok(code),
                None => false,
            };
            // Its shim was killed, and with --rm whoever noticed has removed it; or it did not run.
            let removed = if idle { self.code } else { 137 };
            // The shim ended without telling: it was killed, or it had nothing to wait for any more. Its socket may be
            // closed a moment before its locks are. Whoever removes it is not to find another one in the way.
            let mut patience = if idle { 200 } else { 0 };
            stream = loop {
                let now = match now(store, &self.id) {
                    Err(error) if is_not_found(&error) => return Ok(removed),
                    Err(error) => return Err(error),
                    Ok(now) => now,
                };
                let alive = now.doing.goes_on();
                // The end that was waited for came, and nobody was left to tell of it.
                if !alive && !idle && self.until != Until::Removed {
                    return Ok(now.record.ended.exit_code);
                }
                if patience > 0 && !alive {
                    patience -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    continue;
                }
                match self.register(store, alive) {
                    Ok(Some(stream)) => break stream,
                    Ok(None) => std::thread::sleep(std::time::Duration::from_millis(2)),
                    Err(error) if is_not_found(&error) => return Ok(removed),
                    Err(error) => return Err(error),
                }
            };
        }
    }
}
