//! What happened, for whoever follows: one JSON line by one write, made by the process that made the change.

use super::record::Record;
use super::store::Store;
use crate::api::time::Time;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Bytes after which a new segment is begun; the one before is kept.
const SEGMENT: u64 = 1024 * 1024;

/// Something happened to a container. What cannot be written is lost: an event never fails the verb it tells of.
pub fn container(store: &Store, record: &Record, action: &str, more: &[(&str, &str)]) {
    let mut attributes: BTreeMap<String, String> = record.config.labels.clone().unwrap_or_default();
    attributes.insert("image".to_owned(), record.config.image.clone());
    attributes.insert("name".to_owned(), record.name.clone());
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    append(store, "container", action, &record.id, json!(attributes));
}

/// Something happened to an image, a volume or a network.
pub fn other(store: &Store, kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) {
    let attributes: BTreeMap<_, _> = attributes.iter().copied().collect();
    append(store, kind, action, id, json!(attributes));
}

fn append(store: &Store, kind: &str, action: &str, id: &str, attributes: Value) {
    let now = Time::now();
    let line = json!({
        "Type": kind, "Action": action, "Actor": {"ID": id, "Attributes": attributes},
        "scope": "local", "time": now.seconds, "timeNano": now.unix_nanos() as i64,
    });
    let path = store.run.join("events");
    let Ok(mut file) = OpenOptions::new().append(true).create(true).mode(0o600).open(&path) else { return };
    let _ = file.write_all(format!("{line}\n").as_bytes());
    if file.metadata().is_ok_and(|meta| meta.len() >= SEGMENT)
        && let Ok(Some(_lock)) = super::locks::try_exclusive(&store.run.join("events.lock"), 0)
        && std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= SEGMENT)
    {
        let _ = std::fs::rename(&path, store.run.join("events.1"));
    }
}
