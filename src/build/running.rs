//! The builds that this process has at work for others. A daemon that ends ends them first: the containers of their
//! commands are no containers that go on.

use crate::api::Refusal;
use crate::api::wire::Caller;
use crate::log;
use crate::order::Map;
use anyhow::{Result, bail};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

struct Builds {
    over: bool,
    count: u64,
    at_work: Map<u64, Caller>,
}

static BUILDS: Mutex<Builds> = Mutex::new(Builds { over: false, count: 0, at_work: Map::new() });
static ONE_ENDED: Condvar = Condvar::new();

/// One of them, until it is dropped.
pub struct Running(u64);

impl Running {
    pub fn begin(caller: &Caller) -> Result<Running> {
        let mut builds = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
        if builds.over {
            bail!(Refusal::Unavailable("the daemon is ending".to_owned()));
        }
        builds.count += 1;
        let number = builds.count;
        builds.at_work.insert(number, caller.clone());
        Ok(Running(number))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        BUILDS.lock().unwrap_or_else(PoisonError::into_inner).at_work.remove(&self.0);
        ONE_ENDED.notify_all();
    }
}

/// Calls all builds off, as if those who asked had gone, and waits so long at most until they have cleared up. None
/// begins any more.
pub fn end(most: Duration) {
    let mut builds = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
    builds.over = true;
    builds.at_work.values().for_each(Caller::dismiss);
    let waited = ONE_ENDED.wait_timeout_while(builds, most, |builds| !builds.at_work.is_empty());
    let left = waited.unwrap_or_else(PoisonError::into_inner).0.at_work.len();
    if left > 0 {
        log::warning!("{left} builds have not ended");
    }
}
