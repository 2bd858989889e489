//! Stages side by side: each begins when those that it needs are done, so many at once, and the first that fails calls
//! the others off.

use super::report::{Output, Report, Style, Told, gone};
use crate::api::wire::Caller;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// So many stages at once: most of them wait, for a network or a disk.
const MOST: usize = 4;

/// Builds a stage, telling of it; stops where the caller goes.
pub type Work<'a> = dyn Fn(usize, Report, Caller) -> Result<()> + Sync + 'a;

/// What is left to do.
struct Plan<'a> {
    needs: &'a BTreeMap<usize, BTreeSet<usize>>,
    left: BTreeSet<usize>,
    done: BTreeSet<usize>,
    /// The stage that failed first.
    failed: Option<(usize, anyhow::Error)>,
}

impl Plan<'_> {
    /// The first stage that waits for nothing.
    fn ready(&self) -> Option<usize> {
        self.left.iter().copied().find(|at| self.needs[at].iter().all(|needed| self.done.contains(needed)))
    }
}

struct Stages<'a> {
    plan: Mutex<Plan<'a>>,
    changed: Condvar,
    /// Shut down to call all stages off; they have the other end for their caller.
    stop: UnixStream,
    caller: Caller,
    numbers: Arc<AtomicUsize>,
    style: Style,
}

/// Builds all stages of `needs`, which names for each those that it is made of.
pub fn run(
    needs: &BTreeMap<usize, BTreeSet<usize>>,
    total: usize,
    caller: &Caller,
    output: &mut Output,
    work: &Work,
) -> Result<()> {
    output.expect(needs.keys().copied(), total);
    let (stop, end) = UnixStream::pair().context("make a pair of sockets")?;
    let end = Arc::new(OwnedFd::from(end));
    let plan = Plan { needs, left: needs.keys().copied().collect(), done: BTreeSet::new(), failed: None };
    let stages = Stages {
        plan: Mutex::new(plan),
        changed: Condvar::new(),
        stop,
        caller: Caller::at(Arc::clone(&end)),
        numbers: Arc::new(AtomicUsize::new(0)),
        style: output.style(),
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(256);
        for _ in 0..MOST.min(needs.len()) {
            let (sender, stages) = (sender.clone(), &stages);
            scope.spawn(move || stages.work(&sender, work));
        }
        drop(sender);
        // Who asked is one of those who call them off.
        scope.spawn(|| stages.watch(caller, end.as_fd()));
        stages.tell(&receiver, output);
        stages.stop();
    });
    match stages.plan.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        None => Ok(()),
        Some(_) if caller.has_gone() => Err(gone()),
        Some((at, error)) => {
            output.failed(at)?;
            Err(error)
        }
    }
}

impl<'a> Stages<'a> {
    fn plan(&self) -> MutexGuard<'_, Plan<'a>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of those who build: stage after stage, until none is left.
    fn work(&self, sender: &SyncSender<(usize, Told)>, work: &Work) {
        loop {
            let mut plan = self.plan();
            let at = loop {
                if plan.failed.is_some() || plan.left.is_empty() {
                    return;
                }
                match plan.ready() {
                    Some(at) => break at,
                    None => plan = self.changed.wait(plan).unwrap_or_else(PoisonError::into_inner),
                }
            };
            plan.left.remove(&at);
            drop(plan);
            let mut report = Report::of(at, sender.clone(), &self.numbers, self.style);
            let built = work(at, report.clone(), self.caller.clone());
            let mut plan = self.plan();
            match built {
                Ok(()) => drop(plan.done.insert(at)),
                Err(error) if plan.failed.is_none() => {
                    plan.failed = Some((at, error));
                    self.stop();
                }
                Err(_) => {}
            }
            drop(plan);
            self.changed.notify_all();
            // Nobody reads any more where this fails, which is known.
            let _ = report.end();
        }
    }

    /// Passes on what the stages tell, until none has anything more to tell. Where nobody reads, they are called off.
    fn tell(&self, receiver: &Receiver<(usize, Told)>, output: &mut Output) {
        let mut read = true;
        for (at, told) in receiver {
            // Drained, also then: a stage must not wait for who does not read.
            if read && output.take(at, told).is_err() {
                read = false;
                self.plan().failed.get_or_insert_with(|| (at, gone()));
                self.stop();
                self.changed.notify_all();
            }
        }
    }

    /// Waits for the caller to go, or for the end.
    fn watch(&self, caller: &Caller, end: std::os::fd::BorrowedFd) {
        let Some(gone) = caller.watch() else { return };
        let mut fds = [PollFd::new(end, PollFlags::from_bits_retain(libc::POLLRDHUP)), gone];
        while let Err(nix::errno::Errno::EINTR) = poll(&mut fds, PollTimeout::NONE) {}
        self.stop();
    }

    fn stop(&self) {
        let _ = self.stop.shutdown(Shutdown::Both);
    }
}
