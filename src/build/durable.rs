//! Layers are brought to the disk while the next steps run. So a short step does not wait for a sync, and many share one: a
//! sync holds up whoever writes meanwhile, so it begins a moment after a step has ended. Who has worked for longer than
//! that waits for his own. A power cut costs the step that runs, and of those before it the short ones of the last moment, or
//! of a sync that is not through.

use crate::engine::layers;
use crate::engine::store::Store;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a layer waits for others to be brought to the disk with it, unless the build ends before; and what a step may
/// take without being waited for itself.
const MOMENT: Duration = Duration::from_millis(250);

/// A layer that is not on disk yet, by its name in layers/, and who waits until it is.
struct Wanted(String, Option<Sender<()>>);

/// Whom to tell of a layer that is not on disk yet; by default nobody.
#[derive(Clone, Default)]
pub struct Durable(Option<Sender<Wanted>>);

impl Durable {
    /// Does `work` beside the thread that syncs; all that it was told of is on disk at the end, also after an error.
    pub fn beside<T>(store: &Store, work: impl FnOnce(&Durable) -> T) -> T {
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            scope.spawn(move || serve(store, &receiver));
            let durable = Durable(Some(sender));
            work(&durable)
        })
    }

    /// A layer was put into the store, under this name in layers/, by a step that took so long.
    pub fn wants(&self, layer: &str, took: Duration) {
        let Some(sender) = &self.0 else { return };
        let (through, waits) = channel();
        let long = took >= MOMENT;
        if sender.send(Wanted(layer.to_owned(), long.then_some(through))).is_ok() && long {
            // It says nothing, but ends.
            let _ = waits.recv();
        }
    }
}

fn serve(store: &Store, receiver: &Receiver<Wanted>) {
    while let Ok(first) = receiver.recv() {
        let (mut wanted, until) = (vec![first], Instant::now() + MOMENT);
        while wanted.iter().all(|Wanted(_, waits)| waits.is_none()) {
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(next) => wanted.push(next),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let ids: Vec<String> = wanted.iter().map(|Wanted(id, _)| id.clone()).collect();
        // It stays pending then; whoever registers an image of it tries again, and says why it cannot be.
        if let Err(error) = layers::secure(store, &ids) {
            log::debug!("{error:#}");
        }
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
    fn who_has_worked_long_waits_for_the_disk() {
        let dir = std::env::temp_dir().join(format!("dhow-durable-{}", std::process::id()));
        let store = Store::open(&dir.join("root"), &dir.join("run")).unwrap();
        let lease = store.lease().unwrap();
        let diff_ids = ["one", "two", "three"].map(|name| Digest::of(name.as_bytes()));
        let ids: Vec<String> = chain_ids(&diff_ids).iter().map(dir_id).collect();
        let on_disk = || ids.iter().map(|id| store.layer(id).join("layer.json").exists()).collect::<Vec<_>>();
        Durable::beside(&store, |durable| {
            let made = |count: usize, took: Duration| {
                let staged = lease.tmp().unwrap().join(count.to_string());
                fs::create_dir_all(staged.join("fs")).unwrap();
                layers::begin(&store, &lease, &diff_ids[..count], &Staged { dir: staged, size: 1, opaque: false })
                    .unwrap();
                durable.wants(&ids[count - 1], took);
            };
            made(1, Duration::ZERO);
            made(2, MOMENT);
            // With what came before it.
            assert_eq!(on_disk(), [true, true, false]);
            made(3, Duration::ZERO);
        });
        assert_eq!(on_disk(), [true, true, true], "at the end");
        drop(lease);
        fs::remove_dir_all(&dir).unwrap();
    }
}
