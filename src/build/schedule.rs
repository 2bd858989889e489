//! Stages side by side: each begins when the one that it is based on is done, and waits for others when it comes to what
//! is taken from them. So many are at work at once, and the first that fails calls the others off.

use super::report::{Output, Report, Style, Told, gone};
use crate::api::wire::Caller;
use crate::channel::{Receiver, Sender, bounded};
use crate::order::{Map, Set};
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// So many stages at once: most of them wait, for a network or a disk.
const MOST: usize = 4;

/// So many stages are begun at once, those included that wait for others.
const BEGUN: usize = 64;

/// Builds a stage, telling of it; stops where the caller goes.
pub type Work<'a> = dyn Fn(usize, Report, Caller, &Wait) -> Result<()> + Sync + 'a;

/// Waits until a stage is done. `false` for one that nobody knew would be needed.
pub type Wait<'a> = dyn Fn(usize) -> Result<bool> + Sync + 'a;

/// What is left to do.
struct Plan<'a> {
    bases: &'a Map<usize, Option<usize>>,
    left: Set<usize>,
    done: Set<usize>,
    /// How many are at work, and do not wait for others.
    busy: usize,
    /// The stage that failed first.
    failed: Option<(usize, anyhow::Error)>,
}

impl Plan<'_> {
    /// The first stage whose base is there, if one more may be at work.
    fn ready(&self) -> Option<usize> {
        let is_ready = |at: &usize| self.bases[at].is_none_or(|base| self.done.contains(&base));
        self.left.iter().copied().find(is_ready).filter(|_| self.busy < MOST)
    }
}

struct Stages<'a> {
    plan: Mutex<Plan<'a>>,
    changed: Condvar,
    /// Shut down to call all stages off; they have the other end for their caller.
    stop: UnixStream,
    caller: Caller,
    numbers: Arc<Mutex<usize>>,
    style: Style,
}

/// Builds all stages of `bases`, which names for each the stage that it is based on, if it is one. A stage may wait for
/// those before it alone: so the first of those that are not done never waits. Who builds takes the first that is ready,
/// and thus that one at the latest when what it is based on is done: so all come to their end, however few build.
pub fn run(
    bases: &Map<usize, Option<usize>>,
    total: usize,
    caller: &Caller,
    output: &mut Output,
    work: &Work,
) -> Result<()> {
    output.expect(bases.keys().copied(), total);
    let (stop, end) = UnixStream::pair().context("make a pair of sockets")?;
    let end = Arc::new(OwnedFd::from(end));
    let plan = Plan { bases, left: Set::from_iter(bases.keys().copied()), done: Set::new(), busy: 0, failed: None };
    let stages = Stages {
        plan: Mutex::new(plan),
        changed: Condvar::new(),
        stop,
        caller: Caller::at(Arc::clone(&end)),
        numbers: Arc::default(),
        style: output.style(),
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = bounded(256);
        // Who asked is one of those who call them off.
        let watches = Builder::new().spawn_scoped(scope, || stages.watch(caller, end.as_fd())).map(drop);
        let begin = || {
            let (sender, stages) = (sender.clone(), &stages);
            Builder::new().spawn_scoped(scope, move || stages.work(&sender, work)).map(drop)
        };
        let begun = watches.and_then(|()| begin());
        // Where no more may be started, those that were do it all.
        if begun.is_ok() {
            (1..bases.len().min(BEGUN)).map(|_| begin()).find(Result::is_err);
        }
        drop(sender);
        if let (Err(error), Some(first)) = (begun, bases.keys().next()) {
            stages.fail(*first, anyhow::Error::from(error).context("start a thread for the stages"));
        }
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
    fn work(&self, sender: &Sender<(usize, Told)>, work: &Work) {
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
            plan.busy += 1;
            drop(plan);
            let mut report = Report::of(at, sender.clone(), &self.numbers, self.style);
            let built = work(at, report.clone(), self.caller.clone(), &|other| self.wait(other));
            let mut plan = self.plan();
            plan.busy -= 1;
            match built {
                Ok(()) => {
                    plan.done.insert(at);
                    drop(plan);
                }
                Err(error) => {
                    drop(plan);
                    self.fail(at, error);
                }
            }
            self.changed.notify_all();
            // Nobody reads any more where this fails, which is known.
            let _ = report.end();
        }
    }

    /// One at work waits for another stage; meanwhile somebody else may be at work.
    fn wait(&self, at: usize) -> Result<bool> {
        let mut plan = self.plan();
        if !plan.bases.contains_key(&at) {
            return Ok(false);
        }
        if plan.done.contains(&at) {
            return Ok(true);
        }
        plan.busy -= 1;
        self.changed.notify_all();
        let mut waits = |plan: &mut Plan| plan.failed.is_none() && (!plan.done.contains(&at) || plan.busy >= MOST);
        let waited = self.changed.wait_while(plan, &mut waits);
        let mut plan = waited.unwrap_or_else(PoisonError::into_inner);
        plan.busy += 1;
        if plan.failed.is_some() { Err(gone()) } else { Ok(true) }
    }

    /// Passes on what the stages tell, until none has anything more to tell. Where nobody reads, they are called off.
    fn tell(&self, receiver: &Receiver<(usize, Told)>, output: &mut Output) {
        let mut read = true;
        while let Ok((at, told)) = receiver.recv() {
            // Drained, also then: a stage must not wait for who does not read.
            if read && output.take(at, told).is_err() {
                read = false;
                self.fail(at, gone());
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

    /// Calls all stages off; the first reason counts.
    fn fail(&self, at: usize, why: anyhow::Error) {
        self.plan().failed.get_or_insert((at, why));
        self.stop();
        self.changed.notify_all();
    }

    fn stop(&self) {
        let _ = self.stop.shutdown(Shutdown::Both);
    }
}
