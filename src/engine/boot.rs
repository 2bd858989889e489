//! Who looks after containers that should run and for which no shim waits: after a reboot, and where a shim was killed.
//!
//! A container goes with its shim. Whatever command looks at it next puts that end on record; to start it again is left
//! to `dhow boot` and to a daemon, so that no command that only looks starts anything.

use super::containers::{self, Doing, Now};
use super::store::Store;
use crate::api::Refusal;
use anyhow::Result;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

/// A container that was to be started, by name, and what came of it.
pub struct Started {
    pub name: String,
    pub done: Result<()>,
}

/// Starts what should run after the machine has come up. What runs is left alone, so that any number of these may work
/// at once, and one after the other.
pub fn boot(store: &Store) -> Result<Vec<Started>> {
    start_all(store, |now| super::restart::wanted_at_boot(&now.record))
}

fn start_all(store: &Store, wanted: impl Fn(&Now) -> bool) -> Result<Vec<Started>> {
    let stopped = |now: &Now| now.doing == Doing::Exited && wanted(now);
    let mut left: Vec<Now> = containers::all(store)?.into_iter().filter(stopped).collect();
    // The oldest first, and nobody before those whose namespaces it joins.
    left.reverse();
    let mut started = Vec::new();
    while !left.is_empty() {
        let waiting: BTreeSet<String> = left.iter().map(|now| now.record.id.clone()).collect();
        let (later, now): (Vec<Now>, Vec<Now>) = left.into_iter().partition(|now| {
            joins(now).filter_map(|name| containers::find(store, name).ok()).any(|id| waiting.contains(&id))
        });
        // Those that wait for each other are told so by their start.
        let (now, later) = if now.is_empty() { (later, now) } else { (now, later) };
        started.extend(start_some(store, now));
        left = later;
    }
    Ok(started)
}

/// The containers whose namespaces a container joins, as it was told.
fn joins(now: &Now) -> impl Iterator<Item = &str> {
    let host = &now.record.host_config;
    let modes = [&host.network_mode, &host.pid_mode, &host.ipc_mode];
    modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"))
}

/// Starts several at once, as many as there are processors.
fn start_some(store: &Store, all: Vec<Now>) -> Vec<Started> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(all.len());
    let queue = Mutex::new(all.into_iter());
    let take = || queue.lock().unwrap_or_else(|broken| broken.into_inner()).next();
    let work = || {
        let mut started = Vec::new();
        while let Some(now) = take() {
            match containers::start(store, &now.record.id) {
                // Somebody else was faster, with the start or with the removal.
                Err(error) if matches!(error.downcast_ref(), Some(Refusal::NotModified | Refusal::NotFound(_))) => {}
                done => started.push(Started { name: now.record.name, done }),
            }
        }
        started
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}
