//! The network of an ordinary user: one network namespace of his own for all of a store, in which bridges, rules and
//! names are made as root's are made in the host's. A mount in his mount namespace keeps it, so it goes with that.
//!
//! Only threads go in, for nobody comes out again: the host's network is not his to enter. What is the host's stays
//! outside: published ports, downloads, the questions that the resolver passes on.

use super::super::locks;
use super::super::store::{self, Store};
use super::is_inside;
use crate::net::namespace::Coming;
use crate::net::netlink::Socket;
use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

const NSFS_MAGIC: i64 = 0x6e73_6673;

thread_local! {
    /// Whether this thread has gone in.
    static IN: Cell<bool> = const { Cell::new(false) };
    /// What asks the network that it came from.
    static HOST: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

/// Calls something in the network of a store: where its bridges and rules are. Root's is the one that he is in.
pub fn within<T: Send>(store: &Store, call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if !is_inside() || IN.get() {
        return call();
    }
    let namespace = namespace(store)?;
    let host = Socket::route().context("open a netlink socket")?;
    let call = || {
        IN.set(true);
        HOST.set(Some(host));
        call()
    };
    enter(Some(&namespace), call).context("enter the user's network")?
}

/// Calls something in a network namespace, by a thread that stays there; with none, where this is called.
pub fn enter<T: Send>(namespace: Option<&OwnedFd>, call: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(namespace) = namespace else { return Ok(call()) };
    thread::scope(|scope| {
        let inside = || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(call())
        };
        let thread = thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Asks the host's network from inside the user's; `None` where this thread is in the host's.
pub fn ask_host<T>(ask: impl FnOnce(&Socket) -> T) -> Option<T> {
    HOST.with_borrow(|socket| socket.as_ref().map(ask))
}

/// The namespace; `None` of root's store, and where none has been made yet.
pub fn existing(store: &Store) -> Result<Option<OwnedFd>> {
    if !is_inside() {
        return Ok(None);
    }
    let path = store.run.join("net");
    match File::open(&path) {
        // The file that it is mounted on is seen where it is not.
        Ok(file) => {
            let stat = nix::sys::statfs::fstatfs(&file).with_context(|| format!("look at {}", path.display()))?;
            Ok((stat.filesystem_type().0 as i64 == NSFS_MAGIC).then(|| file.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
    }
}

/// Whether there is no network in which anything could be.
pub fn is_missing(store: &Store) -> Result<bool> {
    Ok(is_inside() && existing(store)?.is_none())
}

/// The namespace, made where it is missing.
fn namespace(store: &Store) -> Result<OwnedFd> {
    if let Some(there) = existing(store)? {
        return Ok(there);
    }
    let _lock = locks::exclusive(&store.run.join("net.lock"), 0)?;
    if let Some(there) = existing(store)? {
        return Ok(there);
    }
    let path = store.run.join("net");
    store::write_file(&path, b"", false)?;
    let made = Coming::begin()?.wait()?;
    let from = format!("/proc/self/fd/{}", made.as_raw_fd());
    let none = None::<&str>;
    mount(Some(from.as_str()), &path, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("keep the user's network at {}", path.display()))?;
    Ok(made)
}
