//! What happened, for whoever follows: one JSON line by one write, made by the process that made the change. Two
//! segments of at most 1 MiB: `events`, which is written, and `events.1` before it.

mod filter;
mod follow;

pub use follow::{Follower, Query, followers, was_told};

use super::record::Record;
use super::store::Store;
use crate::api::time::Time;
use crate::api::types::{Actor, Event};
use crate::order::Map;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// Bytes after which a segment is closed: short of 1 MiB by what those write who have it open at that moment.
const SEGMENT: u64 = 1024 * 1024 - 64 * 1024;

/// The segment that is written.
fn current(store: &Store) -> PathBuf {
    store.run.join("events")
}

/// The one before it.
fn previous(store: &Store) -> PathBuf {
    store.run.join("events.1")
}

/// Something happened to a container.
pub fn container(store: &Store, record: &Record, action: &str, more: &[(&str, &str)]) {
    tell(store, &[of_container(record, action, more)]);
}

/// Something happened to an image, a volume or a network.
pub fn other(store: &Store, kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) {
    tell(store, &[of_other(kind, action, id, attributes)]);
}

/// Something happened to an image, which is named as Docker names it: by its id, or for a pull by its reference.
pub fn image(store: &Store, labels: Option<&Map<String, String>>, action: &str, id: &str, name: &str) {
    let mut attributes = labels.cloned().unwrap_or_default();
    attributes.insert("name".to_owned(), name.to_owned());
    tell(store, &[event("image", action, id, attributes)]);
}

/// An event of a container, to be told with others.
pub fn of_container(record: &Record, action: &str, more: &[(&str, &str)]) -> Event {
    let mut attributes: Map<String, String> = record.config.labels.clone().unwrap_or_default();
    attributes.insert("image".to_owned(), record.config.image.clone());
    attributes.insert("name".to_owned(), record.name.clone());
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    event("container", action, &record.id, attributes)
}

/// An event of something else, to be told with others.
pub fn of_other(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
    event(
        kind,
        action,
        id,
        Map::from_iter(attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))),
    )
}

fn event(kind: &str, action: &str, id: &str, attributes: Map<String, String>) -> Event {
    let now = Time::now();
    Event {
        r#type: kind.to_owned(),
        action: action.to_owned(),
        actor: Actor { id: id.to_owned(), attributes },
        scope: "local".to_owned(),
        time: now.seconds,
        time_nano: now.unix_nanos() as i64,
        ..Event::default()
    }
}

/// Writes events, all by one write. What cannot be written is lost: an event never fails the verb it tells of.
pub fn tell(store: &Store, events: &[Event]) {
    let mut lines = Vec::new();
    for event in events {
        if serde_json::to_writer(&mut lines, event).is_ok() {
            lines.push(b'\n');
        }
    }
    while let Ok(written) = append(store, &lines) {
        // Rotated away twice between its opening and our write: nobody reads that one any more.
        if written.nlink() == 0 {
            continue;
        }
        if written.len() >= SEGMENT {
            rotate(store);
        }
        return;
    }
}

/// What is known of the segment after the write.
fn append(store: &Store, lines: &[u8]) -> io::Result<Metadata> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(current(store))?;
    file.write_all(lines)?;
    file.metadata()
}

/// Begins a new segment; one process does, the others go on.
fn rotate(store: &Store) {
    if let Ok(Some(_lock)) = super::locks::try_exclusive(&store.run.join("events.lock"), 0)
        && fs::metadata(current(store)).is_ok_and(|meta| meta.len() >= SEGMENT)
    {
        let _ = fs::rename(current(store), previous(store));
    }
}
