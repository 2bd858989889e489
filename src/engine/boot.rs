//! Who looks after containers that should run and for which no shim waits: after a reboot, and where a shim was killed.
//!
//! A container goes with its shim. Whatever command looks at it next puts that end on record; to start it again is left
//! to `dhow boot` and to a daemon, so that no command that only looks starts anything.

use super::containers::{self, Doing, Now};
use super::record;
use super::store::{self, Store};
use crate::api::Refusal;
use crate::log;
use crate::order::Set;
use anyhow::Result;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// How long a daemon waits between two looks for what killed shims took along.
const AGAIN: Duration = Duration::from_secs(5);

/// A container that was to be started, by name, and what came of it.
pub struct Started {
    pub name: String,
    pub done: Result<()>,
}

/// Starts what should run after the machine has come up. What runs is left alone, so that any number of these may work
/// at once, and one after the other.
pub fn boot(store: &Store) -> Result<Vec<Started>> {
    let wanted = |now: &Now| now.doing == Doing::Exited && super::restart::wanted_at_boot(&now.record);
    // The oldest first.
    Ok(start_all(store, containers::all(store)?.into_iter().rev().filter(wanted).collect()))
}

/// What a daemon does as long as it lives: a boot, and then, now and again, what killed shims took along.
pub fn attend(store: &Store) -> ! {
    let tell = |started: Result<Vec<Started>>| match started {
        Ok(all) => all.iter().for_each(|Started { name, done }| match done {
            Ok(()) => log::info!("started {name}"),
            Err(error) => log::warning!("{name} does not start: {error:#}"),
        }),
        Err(error) => log::warning!("looking for containers that should run: {error:#}"),
    };
    tell(boot(store));
    loop {
        thread::sleep(AGAIN);
        tell(revive(store));
    }
}

/// Starts what was to be started again when its shim was killed. One that was stopped by hand is not among them.
fn revive(store: &Store) -> Result<Vec<Started>> {
    let mut due = Vec::new();
    for id in store::read_dir(&store.run.join("containers"))? {
        if record::held(store, &id)?.shim {
            continue;
        }
        match containers::now(store, &id) {
            Ok(now) if now.doing == Doing::Exited && now.record.ended.due => due.push(now),
            Err(error) if !containers::is_not_found(&error) => log::debug!("{error:#}"),
            _ => {}
        }
    }
    Ok(start_all(store, due))
}

/// Nobody starts before those whose namespaces it joins.
fn start_all(store: &Store, mut left: Vec<Now>) -> Vec<Started> {
    let mut started = Vec::new();
    while !left.is_empty() {
        let waiting: Set<String> = Set::from_iter(left.iter().map(|now| now.record.id.clone()));
        let (later, now): (Vec<Now>, Vec<Now>) = left.into_iter().partition(|now| {
            joins(now).filter_map(|name| containers::find(store, name).ok()).any(|id| waiting.contains(&id))
        });
        // Those that wait for each other are told so by their start.
        let (now, later) = if now.is_empty() { (later, now) } else { (now, later) };
        started.extend(start_some(store, now));
        left = later;
    }
    started
}

/// The containers whose namespaces a container joins, as it was told.
fn joins(now: &Now) -> impl Iterator<Item = &str> {
    let host = &now.record.host_config;
    let modes = [&host.network_mode, &host.pid_mode, &host.ipc_mode];
    modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"))
}

/// Starts several at once, as many as there are processors.
fn start_some(store: &Store, all: Vec<Now>) -> Vec<Started> {
    let workers = crate::sys::processors().min(all.len());
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
