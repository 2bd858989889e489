//! `RUN --mount=type=ssh`: an agent's socket inside, as long as one command runs. Who is there may ask for the keys'
//! names and for signatures; nothing is added, removed or locked through it.
//!
//! ```text
//! the command ─socket of ours, whose owner and mode are asked for→ a thread ─only two kinds of message→ the agent
//! ```

use crate::order::Map;
use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, shutdown, socket};
use nix::unistd::{Gid, Uid};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The messages that pass, and the answer that others get (draft-ietf-sshm-ssh-agent, section 6.1).
pub(super) const REQUEST_IDENTITIES: u8 = 11;
pub(super) const SIGN_REQUEST: u8 = 13;
pub(super) const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// Agents take and give no longer ones.
const LONGEST: u32 = 256 << 10;
/// So many may ask at the same time.
const MOST: usize = 64;

/// How long one waits before the next try.
const TURN: Duration = Duration::from_millis(20);

type Open = Arc<Mutex<Map<usize, UnixStream>>>;

/// A socket that leads to an agent until it is dropped.
pub struct Forwarded {
    pub path: PathBuf,
    listener: UnixListener,
    /// Those who are being served, by number.
    open: Open,
    accepts: Option<JoinHandle<()>>,
}

impl Forwarded {
    /// Makes the socket `name` in the directory.
    pub fn start(dir: &Path, name: &str, agent: &Path, owner: (u32, u32), mode: u32) -> Result<Forwarded> {
        // By descriptor: a socket's address is short.
        let root = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
        let path = dir.join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))
            .with_context(|| format!("listen on {}", path.display()))?;
        let open = Open::default();
        let accepts = {
            let (listener, open, agent) =
                (listener.try_clone().context("share a socket")?, Arc::clone(&open), agent.to_owned());
            std::thread::spawn(move || accept(&listener, &open, &agent))
        };
        let forwarded = Forwarded { path, listener, open, accepts: Some(accepts) };
        let path = &forwarded.path;
        nix::unistd::chown(path, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
            .with_context(|| format!("chown {}", path.display()))?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode & 0o777))
            .with_context(|| format!("chmod {}", path.display()))?;
        Ok(forwarded)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
        for stream in std::mem::take(&mut *lock(&self.open)).values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn lock(open: &Open) -> MutexGuard<'_, Map<usize, UnixStream>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves who comes, until the listener is shut down.
fn accept(listener: &UnixListener, open: &Open, agent: &Path) {
    for (number, client) in listener.incoming().enumerate() {
        let client = match client {
            Ok(client) => client,
            // What accept says of a listener that is shut down.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return,
            // No descriptor is free, or who came has gone.
            Err(_) => {
                std::thread::sleep(TURN);
                continue;
            }
        };
        // Who cannot be served finds the connection closed.
        let Ok(kept) = client.try_clone() else { continue };
        let mut served = lock(open);
        if served.len() == MOST {
            continue;
        }
        served.insert(number, kept);
        drop(served);
        let (open, agent) = (Arc::clone(open), agent.to_owned());
        std::thread::spawn(move || {
            if let Ok(Some(agent)) = reach(&agent, &|| lock(&open).contains_key(&number)) {
                serve(client, agent);
            }
            lock(&open).remove(&number);
        });
    }
}

/// A connection to the agent, which may have others to take before this one; none once it is not `wanted` any more.
fn reach(agent: &Path, wanted: &dyn Fn() -> bool) -> nix::Result<Option<UnixStream>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(agent)?;
    loop {
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::EAGAIN | Errno::EINTR) if wanted() => std::thread::sleep(TURN),
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let stream = UnixStream::from(socket);
    Ok(stream.set_nonblocking(false).is_ok().then_some(stream))
}

/// Passes questions to the agent, and its answers back: one after the other, as the protocol is.
fn serve(mut client: impl Read + Write, mut agent: impl Read + Write) {
    while let Ok(Some(question)) = message(&mut client) {
        let answer = match question.get(4) {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                match agent.write_all(&question).and_then(|()| message(&mut agent)) {
                    Ok(Some(answer)) => answer,
                    _ => return,
                }
            }
            _ => FAILURE.to_vec(),
        };
        if client.write_all(&answer).is_err() {
            return;
        }
    }
}

/// One message with its length before it; `None` at the end.
pub(super) fn message(from: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if let Err(error) = from.read_exact(&mut length) {
        return if error.kind() == ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let count = u32::from_be_bytes(length);
    if count == 0 || count > LONGEST {
        return Err(std::io::Error::other("a message that agents do not send"));
    }
    let mut whole = length.to_vec();
    whole.resize(4 + count as usize, 0);
    from.read_exact(&mut whole[4..])?;
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent takes nobody, and has no place left where one could wait for it.
    #[test]
    fn an_agent_that_takes_nobody_is_left_when_the_command_ends() {
        let dir = std::env::temp_dir().join(format!("dhow-busy-agent-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let real = dir.join("real");
        let busy = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        nix::sys::socket::bind(busy.as_raw_fd(), &UnixAddr::new(&real).unwrap()).unwrap();
        nix::sys::socket::listen(&busy, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let _waits = UnixStream::connect(&real).unwrap();
        let forwarded = match Forwarded::start(&dir, "ours", &real, (0, 0), 0o666) {
            Err(error) => return crate::skip::skip(&format!("not root: {error:#}")).unwrap_or_default(),
            Ok(forwarded) => forwarded,
        };
        let mut asks = UnixStream::connect(&forwarded.path).unwrap();
        while lock(&forwarded.open).is_empty() {
            std::thread::sleep(TURN);
        }
        let (ended, end) = crate::channel::channel();
        std::thread::spawn(move || {
            drop(forwarded);
            ended.send(())
        });
        end.recv_timeout(Duration::from_secs(60)).expect("the step ends");
        assert!(message(&mut asks).is_ok_and(|end| end.is_none()), "who asked is told");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_two_questions_reach_the_agent() {
        let dir = std::env::temp_dir().join(format!("dhow-agent-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let real = dir.join("real");
        let listener = UnixListener::bind(&real).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kinds = Arc::clone(&seen);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, kinds) = (client.unwrap(), Arc::clone(&kinds));
                std::thread::spawn(move || {
                    while let Ok(Some(question)) = message(&mut client) {
                        kinds.lock().unwrap().push(question[4]);
                        client.write_all(&[0, 0, 0, 2, 12, question[4]]).unwrap();
                    }
                });
            }
        });
        let forwarded = Forwarded::start(&dir, "ours", &real, (0, 0), 0o666);
        let forwarded = match forwarded {
            Err(error) => return crate::skip::skip(&format!("not root: {error:#}")).unwrap_or_default(),
            Ok(forwarded) => forwarded,
        };
        let path = forwarded.path.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        let ask = |stream: &mut UnixStream, kind: u8| {
            stream.write_all(&[0, 0, 0, 2, kind, 7]).unwrap();
            message(stream).unwrap().unwrap()
        };
        let mut one = UnixStream::connect(&path).unwrap();
        let mut two = UnixStream::connect(&path).unwrap();
        assert_eq!(ask(&mut one, REQUEST_IDENTITIES), [0, 0, 0, 2, 12, 11]);
        assert_eq!(ask(&mut two, SIGN_REQUEST), [0, 0, 0, 2, 12, 13]);
        // Add, remove, remove all, lock, unlock, add constrained, extension.
        for kind in [17, 18, 19, 22, 23, 25, 27, 1, 0] {
            assert_eq!(ask(&mut one, kind), FAILURE, "{kind}");
        }
        one.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(message(&mut one).unwrap().is_none(), "one that lies about a length is closed");
        drop(forwarded);
        assert!(message(&mut two).is_ok_and(|end| end.is_none()), "nobody is served afterwards");
        assert!(!path.exists() && UnixStream::connect(&path).is_err());
        assert_eq!(*seen.lock().unwrap(), [REQUEST_IDENTITIES, SIGN_REQUEST]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
