//! What builds have made before, found again by what it was made of and never by when.
//!
//! `build/records/<key>` is one file for each step: its key is a hash over the key of the step before and all that the
//! step depends on; its text names the layer that came of it. A record is only good as long as that layer is in the
//! store, which it holds there. When it was last used is the file's time. Losing one costs the step, nothing else.

use crate::engine::layers;
use crate::engine::store::{self, Lease, Store};
use crate::json::{self, by_serde};
use crate::oci::image::chain_ids;
use crate::oci::{Digest, hex};
use crate::order;
use anyhow::{Context, Result};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::time::SystemTime;

/// The version of record that this program writes; another one is no record.
const VERSION: u32 = 1;

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The layer that it added; `None` where it changed no file.
    pub layer: Option<Made>,
    /// What a question about files was answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Digest>,
    /// The instruction, for people.
    pub what: String,
    /// Seconds since 1970.
    pub made: i64,
}

by_serde! { Record }

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    pub diff_id: Digest,
    /// Its directory under layers/.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// The newest time of a file in it, in seconds since 1970.
    pub newest: i64,
    /// It stands by itself: on all bases that have it, its files are the same ones.
    #[serde(default)]
    pub linked: bool,
}

impl Made {
    /// The same for all that take their room on the disk together.
    pub fn room(&self) -> &str {
        if self.linked { self.diff_id.hex() } else { &self.id }
    }
}

/// A key as it is computed: from the one before, field by field.
#[derive(Clone)]
pub struct Key(Sha256);

impl Key {
    pub fn new(kind: &str) -> Key {
        let mut key = Key(Sha256::new());
        key.field(kind);
        key
    }

    pub fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Key {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub fn list<T: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = T>) -> &mut Key {
        let mut count = 0u64;
        for item in items {
            self.field(item);
            count += 1;
        }
        self.field(count.to_le_bytes())
    }

    /// 64 hex digits.
    pub fn end(&self) -> String {
        hex(&self.0.clone().finalize())
    }
}

fn dir(store: &Store) -> PathBuf {
    store.root.join("build/records")
}

fn path(store: &Store, key: &str) -> PathBuf {
    dir(store).join(key)
}

/// Makes the directories of the cache.
pub fn prepare(store: &Store) -> Result<()> {
    for name in ["records", "contexts", "mounts"] {
        store::make_dirs(&store.root.join("build").join(name), 0o700)?;
    }
    Ok(())
}

fn read(store: &Store, key: &str) -> Option<Record> {
    let bytes = std::fs::read(path(store, key)).ok()?;
    // What a power cut left half is no record.
    json::from_slice::<Record>(&bytes).ok().filter(|record| record.version == VERSION)
}

/// What came of a step before, if that is still there; the lease keeps it. `below` is what it was made on.
pub fn find(store: &Store, lease: &Lease, key: &str, below: &[Digest]) -> Result<Option<Record>> {
    let Some(record) = read(store, key) else { return Ok(None) };
    if let Some(made) = &record.layer {
        let chain = chain_ids(&[below, std::slice::from_ref(&made.diff_id)].concat());
        let id = chain.last().map(layers::dir_id).unwrap_or_default();
        if id != made.id || !layers::exists(store, lease, &id)? {
            return Ok(None);
        }
    }
    touch(store, key);
    Ok(Some(record))
}

/// The layer that a record of one that stands by itself names, whatever it lies on there; the lease keeps it.
pub fn find_alone(store: &Store, lease: &Lease, key: &str) -> Result<Option<Made>> {
    let Some(made) = read(store, key).and_then(|record| record.layer) else { return Ok(None) };
    if !layers::exists(store, lease, &made.id)? || layers::load(store, &made.id)?.diff_id != made.diff_id {
        return Ok(None);
    }
    touch(store, key);
    Ok(Some(made))
}

/// Notes that a record was of use just now.
fn touch(store: &Store, key: &str) {
    let now = TimeSpec::UTIME_NOW;
    let follow = nix::sys::stat::UtimensatFlags::FollowSymlink;
    let _ = nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &path(store, key), &now, &now, follow);
}

/// Writes a record. Called before its layer is committed, whose sync brings it to the disk too: until then it names what
/// is not there, and is passed over.
pub fn put(store: &Store, key: &str, layer: Option<Made>, answer: Option<Digest>, what: &str) -> Result<()> {
    let made = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let what: String = what.chars().take(1000).collect();
    let record = Record { version: VERSION, layer, answer, what, made };
    let bytes = serde_json::to_vec(&record).context("encode a record of the build cache")?;
    store::write_file(&path(store, key), &bytes, false)
}

/// Writes the answer to a question about files, unless it is there.
pub fn answer(store: &Store, key: &str, answer: Digest, what: &str) -> Result<()> {
    match read(store, key) {
        Some(known) if known.answer.as_ref() == Some(&answer) => Ok(()),
        _ => put(store, key, None, Some(answer), what),
    }
}

/// One record, for those who list or prune.
#[derive(Debug)]
pub struct Listed {
    pub key: String,
    pub record: Record,
    pub used: SystemTime,
}

/// All records, the longest unused first. With gc held, none is added meanwhile that matters.
pub fn all(store: &Store) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for key in store::read_dir(&dir(store))? {
        let used = std::fs::metadata(path(store, &key)).and_then(|it| it.modified());
        if let (Some(record), Ok(used)) = (read(store, &key), used) {
            all.push(Listed { key, record, used });
        }
    }
    order::by(&mut all, |a, b| (a.used, &a.key).cmp(&(b.used, &b.key)));
    Ok(all)
}

/// Takes a record away.
pub fn remove(store: &Store, key: &str) -> Result<()> {
    store::remove(&path(store, key))
}

/// The layers that records hold in the store.
pub fn layers(store: &Store) -> Result<Vec<String>> {
    Ok(all(store)?.into_iter().filter_map(|it| it.record.layer).map(|made| made.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_fields_apart() {
        let key = |fields: &[&[&str]]| {
            let mut key = Key::new("run");
            for list in fields {
                key.list(list.iter());
            }
            key.end()
        };
        let all = [
            key(&[&["a", "b"]]),
            key(&[&["ab"]]),
            key(&[&["a"], &["b"]]),
            key(&[&[], &["a", "b"]]),
            key(&[&["a", "b"], &[]]),
            key(&[&["", "ab"]]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != one));
            assert_eq!(one.len(), 64);
        }
    }
}
