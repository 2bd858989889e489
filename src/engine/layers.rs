//! Layers in the store: unpacked once, kept under a name that stands for them and everything below them.
//!
//! ```text
//! layers/<id>/  fs/         the files
//!               recipe      what gives back the exact tar
//!               layer.json  what it is; pending.json until it is on disk
//!               packed.json the blobs that it is in registries, see [`super::packed`]
//! ```
//!
//! A directory in layers/ is whole: it is renamed into place with all that it has. With layer.json it is on disk, too. One
//! that is only pending is good for as long as this boot lasts, for whoever builds on it, and [`secure`] makes it last
//! before an image has it; another boot clears it away.

use super::locks::{self, Lock};
use super::store::{self, Lease, Store};
use crate::failpoint;
use crate::fs::{copy, path};
use crate::json::{self, by_serde};
use crate::oci::Digest;
use crate::oci::image::chain_ids;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What is there of a layer that is on disk, and of one that may not be.
const DURABLE: &str = "layer.json";
const PENDING: &str = "pending.json";
/// The version of layer.json that this program writes; a newer one is refused by name.
const VERSION: u32 = 1;
/// So many letters of five bits each: short, because mount(2) takes one page for the paths of all layers.
const ID: usize = 26;

/// What layer.json says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    version: u32,
    /// Of the uncompressed tar.
    pub diff_id: Digest,
    /// Of this layer on those below.
    pub chain_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// It hides all layers below it, which an overlay cannot say of a root: they are not to be mounted.
    #[serde(default)]
    pub opaque: bool,
}

by_serde! { Layer }

/// A layer that has been unpacked into a directory of its own in [`Lease::tmp`].
#[derive(Clone, Debug)]
pub struct Staged {
    pub dir: PathBuf,
    /// Bytes of its files.
    pub size: u64,
    /// It hides all layers below it.
    pub opaque: bool,
}

/// The directory under layers/ of a chain id: the first letters of its base32 (RFC 4648) in lower case.
pub fn dir_id(chain_id: &Digest) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |at: usize| {
        let digit = chain_id.hex().as_bytes().get(at / 4).map_or(0, |&c| (c as char).to_digit(16).unwrap_or(0));
        (digit >> (3 - at % 4)) & 1
    };
    (0..ID).map(|n| LETTERS[(0..5).fold(0, |value, at| value << 1 | bit(n * 5 + at)) as usize] as char).collect()
}

/// Whether the layer is in the store. If it is, `lease` keeps it there from now on.
pub fn exists(store: &Store, lease: &Lease, id: &str) -> Result<bool> {
    let _gc = store.gc_shared()?;
    let dir = store.layer(id);
    // The last one again: it is renamed from the one to the other.
    if ![DURABLE, PENDING, DURABLE].iter().any(|name| dir.join(name).exists()) {
        return Ok(false);
    }
    lease.uses(&format!("layer:{id}"))?;
    Ok(true)
}

/// Reads what a layer says of itself.
pub fn load(store: &Store, id: &str) -> Result<Layer> {
    let dir = store.layer(id);
    let path = dir.join(DURABLE);
    let bytes = fs::read(&path).or_else(|_| fs::read(dir.join(PENDING))).or_else(|_| fs::read(&path));
    let bytes = bytes.with_context(|| format!("read {}", path.display()))?;
    let layer: Layer = json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
    if layer.version > VERSION {
        bail!("{} was written by a newer dhow (version {})", path.display(), layer.version);
    }
    Ok(layer)
}

/// Keeps others from fetching this layer until the lock is dropped; `None` while another does. With the lock, ask
/// [`exists`]: the other may have brought it. Images that share a layer share all below it, so whoever claims what
/// is missing from the lowest up never waits in a circle.
pub fn claim(store: &Store, id: &str) -> Result<Option<Lock>> {
    // One byte of one file for each layer, far apart: nothing is left behind, and what collides only waits.
    let byte = id.bytes().take(11).fold(0i64, |byte, letter| byte << 5 | i64::from(letter & 31));
    locks::try_exclusive(&store.run.join("fetching"), byte)
}

/// Puts layers into the store. `staged` stands beside `diff_ids`, lowest first, with nothing where the layer is in the
/// store already and leased. Another process that was faster with the same layer has won, and ours is dropped.
pub fn commit(store: &Store, lease: &Lease, diff_ids: &[Digest], staged: &[Option<Staged>]) -> Result<()> {
    let chain = chain_ids(diff_ids);
    for (at, staged) in staged.iter().enumerate() {
        let Some(staged) = staged else { continue };
        describe(staged, &diff_ids[at], &chain[at], DURABLE)?;
    }
    if staged.iter().all(Option::is_none) {
        return Ok(());
    }
    store::syncfs(&store.layers())?;
    failpoint::reach("layers.synced");
    {
        let _gc = store.gc_shared()?;
        for (id, staged) in chain.iter().map(dir_id).zip(staged) {
            if let Some(staged) = staged {
                lease.uses(&format!("layer:{id}"))?;
                place(&staged.dir, &store.layer(&id))?;
            }
        }
    }
    sync_dir(&store.layers())?;
    failpoint::reach("layers.placed");
    Ok(())
}

/// Puts a layer into the store that is not on disk yet, on those that have the `diff_ids` before its own.
pub fn begin(store: &Store, lease: &Lease, diff_ids: &[Digest], staged: &Staged) -> Result<()> {
    let (chain, diff_id) = (chain_ids(diff_ids), diff_ids.last().context("a layer without a diff id")?);
    let chain_id = chain.last().context("a layer without a chain id")?;
    describe(staged, diff_id, chain_id, PENDING)?;
    let id = dir_id(chain_id);
    let _gc = store.gc_shared()?;
    lease.uses(&format!("layer:{id}"))?;
    place(&staged.dir, &store.layer(&id))
}

/// A layer of the store once more, to be put on other ones than those below it: for one that stands by itself, whose files
/// depend on nothing below. `dir` is an empty directory in [`Lease::tmp`]. The files are the same ones by other names.
pub fn again(store: &Store, id: &str, dir: PathBuf) -> Result<Staged> {
    let layer = load(store, id)?;
    let skip = |path: &[u8]| {
        // What it is there, and what is being written beside it.
        path == DURABLE.as_bytes() || path == PENDING.as_bytes() || path.starts_with(b".")
    };
    let (from, to) = (path::open_root(&store.layer(id))?, path::open_root(&dir)?);
    copy::share(from.as_fd(), to.as_fd(), &skip).with_context(|| format!("take the files of the layer {id}"))?;
    Ok(Staged { dir, size: layer.size, opaque: layer.opaque })
}

/// Brings layers of the store to the disk that are not there yet, all at once.
pub fn secure(store: &Store, ids: &[String]) -> Result<()> {
    let dirs = ids.iter().map(|id| store.layer(id));
    let pending: Vec<PathBuf> = dirs.filter(|dir| !dir.join(DURABLE).exists() && dir.join(PENDING).exists()).collect();
    if pending.is_empty() {
        return Ok(());
    }
    store::syncfs(&store.layers())?;
    for dir in &pending {
        match fs::rename(dir.join(PENDING), dir.join(DURABLE)) {
            Ok(()) => {}
            // Another build has it too, and was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("rename {}", dir.join(PENDING).display())),
        }
    }
    // Their names, all by one again.
    store::syncfs(&store.layers())
}

/// Clears what another boot left pending: a power cut may have taken a part of it.
pub(super) fn sweep(store: &Store) -> Result<()> {
    let leased = store.leased()?;
    for id in store::read_dir(&store.layers())? {
        let dir = store.layer(&id);
        if !dir.join(DURABLE).exists() && !leased.contains(&format!("layer:{id}")) {
            store::remove(&dir).context("clear what another boot left")?;
        }
    }
    Ok(())
}

/// Writes into a staged layer what it is.
fn describe(staged: &Staged, diff_id: &Digest, chain_id: &Digest, name: &str) -> Result<()> {
    let layer = Layer {
        version: VERSION,
        diff_id: diff_id.clone(),
        chain_id: chain_id.clone(),
        size: staged.size,
        opaque: staged.opaque,
    };
    let bytes = serde_json::to_vec(&layer).context("encode a layer")?;
    store::write_file(&staged.dir.join(name), &bytes, false)
}

fn place(staged: &Path, layer: &Path) -> Result<()> {
    match fs::rename(staged, layer) {
        Ok(()) => Ok(()),
        // What is there is whole, and the same; ours goes with the lease.
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("rename {} to {}", staged.display(), layer.display())),
    }
}

/// `fsync(2)` of a directory: the names in it are on disk.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).with_context(|| format!("sync {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_boot_left_pending_is_cleared() {
        let dir = std::env::temp_dir().join(format!("dhow-layers-{}", std::process::id()));
        let open = || Store::open(&dir.join("root"), &dir.join("run")).unwrap();
        let store = open();
        let lease = store.lease().unwrap();
        let staged = |name: &str| {
            let staged = lease.tmp().unwrap().join(name);
            fs::create_dir_all(staged.join("fs")).unwrap();
            Staged { dir: staged, size: 1, opaque: false }
        };
        let diff_ids = ["one", "two"].map(|name| Digest::of(name.as_bytes()));
        let ids: Vec<String> = chain_ids(&diff_ids).iter().map(dir_id).collect();
        begin(&store, &lease, &diff_ids[..1], &staged("one")).unwrap();
        begin(&store, &lease, &diff_ids, &staged("two")).unwrap();
        // Another that made the same at the same time has lost nothing.
        begin(&store, &lease, &diff_ids, &staged("twice")).unwrap();
        for id in &ids {
            assert!(exists(&store, &lease, id).unwrap());
            assert_eq!(load(&store, id).unwrap().size, 1);
        }
        secure(&store, &ids[..1]).unwrap();
        let is_there = |name: &str| ids.iter().map(|id| store.layer(id).join(name).exists()).collect::<Vec<_>>();
        assert_eq!((is_there(DURABLE), is_there(PENDING)), (vec![true, false], vec![false, true]));
        drop(lease);
        assert_eq!(is_there(PENDING), [false, true], "who builds on it may be killed");
        fs::write(store.run.join("boot"), "another").unwrap();
        open();
        assert_eq!((is_there(DURABLE), is_there("")), (vec![true, false], vec![true, false]));
        fs::remove_dir_all(&dir).unwrap();
    }
}
