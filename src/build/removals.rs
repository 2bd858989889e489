//! Containers of steps that have ended are removed while the next steps run.

use crate::engine::containers;
use crate::engine::store::Store;
use anyhow::{Result, anyhow};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

#[derive(Default)]
pub struct Removals(Mutex<Vec<JoinHandle<Result<()>>>>);

impl Removals {
    /// Removes a container and what it holds, whether it runs or not.
    pub fn begin(&self, store: &Store, id: &str) -> Result<()> {
        let (behind, named) = (store.clone(), id.to_owned());
        match Builder::new().spawn(move || remove(&behind, &named)) {
            Ok(thread) => {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                Ok(())
            }
            Err(_) => remove(store, id),
        }
    }

    /// Waits until all are gone. Errors: the first.
    pub fn end(&self) -> Result<()> {
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let ended =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a removal failed"))));
        // All of them, and not only up to the one that fails.
        ended.fold(Ok(()), Result::and)
    }
}

fn remove(store: &Store, id: &str) -> Result<()> {
    match containers::remove_alone(store, id, true, true) {
        Err(error) if containers::is_not_found(&error) => Ok(()),
        other => other,
    }
}
