//! A network namespace that is made while its maker does other things.

use crate::sys;
use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

/// What its thread needs, and then some.
const STACK: usize = 128 << 10;

/// A new network namespace with its loopback up. To make one takes the kernel about as long as all other namespaces and
/// the clone together, so a thread does it.
///
/// Its thread has ended when this is gone, also where nobody wanted it any more: nothing is cloned beside a thread.
pub struct Coming(Option<JoinHandle<Result<OwnedFd>>>);

impl Coming {
    pub fn begin() -> Result<Coming> {
        let thread = Builder::new().stack_size(STACK).spawn(make).context("start a thread")?;
        sys::elsewhere(&thread);
        Ok(Coming(Some(thread)))
    }

    /// Waits for it.
    pub fn wait(mut self) -> Result<OwnedFd> {
        let thread = self.0.take().context("a network namespace is waited for once")?;
        thread.join().map_err(|_| anyhow!("the thread that makes a network namespace has panicked"))?
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.take().map(JoinHandle::join);
    }
}

fn make() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    sys::net::loopback_up().context("set the loopback up")?;
    let path = "/proc/thread-self/ns/net";
    Ok(File::open(path).with_context(|| format!("open {path}"))?.into())
}
