//! Layers are brought to the disk while the next steps run. So a step does not wait for a sync, and many short ones share
//! one: a sync holds up whoever writes meanwhile, so it begins a moment after a step has ended. A power cut costs the step
//! that runs and those that ended within that moment or during the last sync.

use crate::engine::layers;
use crate::engine::store::Store;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long a layer waits for others to be brought to the disk with it, unless the build ends before.
const MOMENT: Duration = Duration::from_millis(250);

/// Whom to tell of a layer that is not on disk yet; by default nobody.
#[derive(Clone, Default)]
pub struct Durable(Option<Sender<String>>);

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

    /// A layer was put into the store, under this name in layers/.
    pub fn wants(&self, layer: &str) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(layer.to_owned());
        }
    }
}

fn serve(store: &Store, receiver: &Receiver<String>) {
    while let Ok(first) = receiver.recv() {
        let (mut ids, until) = (vec![first], Instant::now() + MOMENT);
        while let Ok(id) = receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            ids.push(id);
        }
        // It stays pending then; whoever registers an image of it tries again, and says why it cannot be.
        if let Err(error) = layers::secure(store, &ids) {
            log::debug!("{error:#}");
        }
    }
}
