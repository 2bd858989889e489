//! Layers are brought to the disk behind the build: a sync begins as soon as a step has ended, while the next one is made
//! ready, and that does nothing of its own before it is through. So a power cut costs the steps that run, one of each stage,
//! and a step hardly waits for what came before it.

use crate::engine::layers;
use crate::engine::store::{self, Store};
use crate::log;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What brings steps to the disk, by default nothing; and the last one that it was told of.
#[derive(Clone, Default)]
pub struct Durable {
    queue: Option<Arc<Queue>>,
    last: u64,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The layers that wait, by their names in layers/.
    layers: Vec<String>,
    /// How many steps were told of, and how many of these are on disk.
    told: u64,
    done: u64,
    ended: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, is: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.lock(), |state| !is(state)).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the thread that syncs, also where the work panics.
struct End<'a>(&'a Queue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl Durable {
    /// Does `work` beside the thread that syncs; all that it was told of is on disk at the end, also after an error.
    pub fn beside<T>(store: &Store, work: impl FnOnce(&Durable) -> T) -> T {
        let queue = Arc::new(Queue::default());
        std::thread::scope(|scope| {
            scope.spawn(|| serve(store, &queue));
            let _end = End(&queue);
            work(&Durable { queue: Some(queue.clone()), last: 0 })
        })
    }

    /// A step has ended; the layer that it made, if any, was put into the store under this name in layers/.
    pub fn wants(&mut self, layer: Option<&str>) {
        let Some(queue) = &self.queue else { return };
        let mut state = queue.lock();
        state.layers.extend(layer.map(str::to_owned));
        state.told += 1;
        self.last = state.told;
        queue.changed.notify_all();
    }

    /// Waits until the last step that this was told of is on disk.
    pub fn settle(&self) {
        if let Some(queue) = &self.queue {
            drop(queue.until(|state| state.done >= self.last));
        }
    }
}

fn serve(store: &Store, queue: &Queue) {
    loop {
        let mut state = queue.until(|state| state.told > state.done || state.ended);
        if state.told == state.done {
            return;
        }
        let (layers, told) = (std::mem::take(&mut state.layers), state.told);
        drop(state);
        // A step without a layer has its record only, which any sync takes along.
        let synced = match layers.is_empty() {
            true => store::syncfs(&store.layers()),
            false => layers::secure(store, &layers),
        };
        // It stays pending then; whoever registers an image of it tries again, and says why it cannot be.
        if let Err(error) = synced {
            log::debug!("{error:#}");
        }
        queue.lock().done = told;
        queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::layers::{Staged, dir_id};
    use crate::oci::Digest;
    use crate::oci::image::chain_ids;
    use std::fs;

    #[test]
    fn who_settles_finds_his_steps_on_the_disk() {
        let dir = std::env::temp_dir().join(format!("dhow-durable-{}", std::process::id()));
        let store = Store::open(&dir.join("root"), &dir.join("run")).unwrap();
        let lease = store.lease().unwrap();
        let diff_ids = ["one", "two", "three"].map(|name| Digest::of(name.as_bytes()));
        let ids: Vec<String> = chain_ids(&diff_ids).iter().map(dir_id).collect();
        let on_disk = || ids.iter().map(|id| store.layer(id).join("layer.json").exists()).collect::<Vec<_>>();
        Durable::beside(&store, |durable| {
            let made = |count: usize| {
                let staged = lease.tmp().unwrap().join(count.to_string());
                fs::create_dir_all(staged.join("fs")).unwrap();
                layers::begin(&store, &lease, &diff_ids[..count], &Staged { dir: staged, size: 1, opaque: false })
                    .unwrap();
            };
            let mut stage = durable.clone();
            // Of nothing there is nothing to wait for.
            stage.settle();
            made(1);
            stage.wants(Some(&ids[0]));
            made(2);
            stage.wants(Some(&ids[1]));
            stage.settle();
            assert_eq!(on_disk(), [true, true, false]);
            made(3);
            stage.wants(Some(&ids[2]));
            stage.wants(None);
            // Another stage has told of nothing.
            durable.settle();
        });
        assert_eq!(on_disk(), [true, true, true], "at the end");
        Durable::default().settle();
        drop(lease);
        fs::remove_dir_all(&dir).unwrap();
    }
}
