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
pub struct Coming(JoinHandle<Result<OwnedFd>>);

impl Coming {
    pub fn begin() -> Result<Coming> {
        let thread = Builder::new().stack_size(STACK).spawn(make).context("start a thread")?;
        Ok(Coming(thread))
    }

    /// Waits for it. The thread has ended then, and its caller may clone.
    pub fn wait(self) -> Result<OwnedFd> {
        self.0.join().map_err(|_| anyhow!("the thread that makes a network namespace has panicked"))?
    }
}

fn make() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    sys::net::loopback_up().context("set the loopback up")?;
    let path = "/proc/thread-self/ns/net";
    Ok(File::open(path).with_context(|| format!("open {path}"))?.into())
}
