//! Containers of steps that have ended are removed while the next steps run.

use crate::engine::containers;
use crate::engine::store::{Lease, Store};
use anyhow::{Result, anyhow};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

#[derive(Default)]
pub struct Removals(Mutex<Begun>);

#[derive(Default)]
struct Begun {
    any: bool,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Removals {
    /// Begins to remove the container of a step whose command has ended. Errors: those of removals before it.
    pub fn begin(&self, store: &Store, id: &str) -> Result<()> {
        let (behind, named) = (store.clone(), id.to_owned());
        let take_away = move || {
            remove(&behind, &named)?;
            // What a later step begins with. Where there is no room for it, that one will say so.
            let _ = behind.lease().and_then(Lease::prepare);
            Ok(())
        };
        let thread = match Builder::new().spawn(take_away) {
            Ok(thread) => thread,
            Err(_) => return self.at_once(store, id),
        };
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.any = true;
        // None keeps its stack until the end.
        let (done, left) = std::mem::take(&mut begun.threads).into_iter().partition(JoinHandle::is_finished);
        begun.threads = left;
        begun.threads.push(thread);
        all(done)
    }

    /// Removes a container and waits for that: of a step that failed the command may run on, and must not outlive what it was
    /// lent.
    pub fn at_once(&self, store: &Store, id: &str) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).any = true;
        remove(store, id)
    }

    /// Waits until all are gone, and clears what containers share. Errors: the first.
    pub fn end(&self, store: &Store) -> Result<()> {
        let begun = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let removed = all(begun.threads);
        if begun.any {
            containers::rest(store);
        }
        removed
    }
}

/// Waits for all of them, and not only up to the one that fails.
fn all(threads: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a removal failed"))));
    ended.fold(Ok(()), Result::and)
}

fn remove(store: &Store, id: &str) -> Result<()> {
    match containers::remove_alone(store, id, true, true) {
        Err(error) if containers::is_not_found(&error) => Ok(()),
        other => other,
    }
}
