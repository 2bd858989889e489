//! Layers are brought to the disk while the next steps run. So a step does not wait for a sync, many short ones share
//! one, and a power cut costs the step that runs and what ended during the last sync.

use crate::engine::layers;
use crate::engine::store::Store;
use std::sync::mpsc::{Receiver, Sender, channel};

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
        let ids: Vec<String> = std::iter::once(first).chain(receiver.try_iter()).collect();
        // It stays pending then; whoever registers an image of it tries again, and says why it cannot be.
        if let Err(error) = layers::secure(store, &ids) {
            log::debug!("{error:#}");
        }
    }
}
