//! Layers in the store: unpacked once, kept under a name that stands for them and everything below them.
//!
//! ```text
//! layers/<id>/  fs/         the files
//!               recipe      what gives back the exact tar
//!               layer.json  what it is
//!               packed.json the blobs that it is in registries, see [`super::packed`]
//! ```
//!
//! A directory in layers/ is whole and on disk: its files are synced before it is renamed into place.

use super::locks::{self, Lock};
use super::store::{self, Lease, Store};
use crate::failpoint;
use crate::oci::Digest;
use crate::oci::image::chain_ids;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
    if !store.layer(id).join("layer.json").exists() {
        return Ok(false);
    }
    lease.uses(&format!("layer:{id}"))?;
    Ok(true)
}

/// Reads what a layer says of itself.
pub fn load(store: &Store, id: &str) -> Result<Layer> {
    let path = store.layer(id).join("layer.json");
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let layer: Layer = serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
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
    let ids: Vec<String> = chain.iter().map(dir_id).collect();
    for (at, staged) in staged.iter().enumerate() {
        let Some(staged) = staged else { continue };
        let layer = Layer {
            version: VERSION,
            diff_id: diff_ids[at].clone(),
            chain_id: chain[at].clone(),
            size: staged.size,
            opaque: staged.opaque,
        };
        let bytes = serde_json::to_vec(&layer).context("encode a layer")?;
        store::write_file(&staged.dir.join("layer.json"), &bytes, false)?;
    }
    if staged.iter().all(Option::is_none) {
        return Ok(());
    }
    store::syncfs(&store.layers())?;
    failpoint::reach("layers.synced");
    {
        let _gc = store.gc_shared()?;
        for (id, staged) in ids.iter().zip(staged) {
            if let Some(staged) = staged {
                lease.uses(&format!("layer:{id}"))?;
                place(&staged.dir, &store.layer(id))?;
            }
        }
    }
    sync_dir(&store.layers())?;
    failpoint::reach("layers.placed");
    Ok(())
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
