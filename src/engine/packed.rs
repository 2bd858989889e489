//! What a layer is in registries: the blobs that are known to hold it, and the repositories that are known to have them.
//! A push that finds one there sends nothing, and compresses nothing.
//!
//! It lies beside the layer and goes with it. It is a memory, no more: what cannot be read counts as nothing. But what is
//! in it is true: only a blob that was unpacked to this layer, or made of it, is named here. What a manifest says of
//! a layer that was here already is not.

use super::locks;
use super::store::{self, Store};
use crate::json::{self, by_serde};
use crate::oci::Digest;
use crate::oci::image::Descriptor;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version that this program writes; another one is a memory of somebody else.
const VERSION: u32 = 1;
/// The blob that a layer came in, beside it, where the setting `keep-compressed-layers` says so.
const KEPT: &str = "compressed";
/// Blobs of a layer, and repositories of a blob, that are remembered.
const MOST: usize = 16;

/// How a layer is compressed, whatever family its manifest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// As a media type says; none for a layer that is not to be spread, and for what says nothing.
    fn of(media_type: &str) -> Option<Compression> {
        if media_type.contains("nondistributable") || media_type.contains(".foreign.") {
            return None;
        }
        match media_type.rsplit(['.', '+']).next() {
            Some("gzip") => Some(Compression::Gzip),
            Some("zstd") => Some(Compression::Zstd),
            Some("tar") => Some(Compression::None),
            _ => None,
        }
    }
}

/// A blob that holds the layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    pub digest: Digest,
    pub size: u64,
    pub compression: Compression,
    /// Somebody else made it, and it was pulled: to make it again would give another.
    #[serde(default)]
    pub upstream: bool,
    /// Its bytes are here, see [`kept`].
    #[serde(default)]
    pub kept: bool,
    /// Repositories that had it, the latest first: `docker.io/library/busybox`.
    pub places: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Known {
    version: u32,
    packed: Vec<Packed>,
}

by_serde! { Known }

/// The blobs of a layer that are known, the latest first.
pub fn known(store: &Store, layer: &str) -> Vec<Packed> {
    read(&store.layer(layer))
}

/// Where the bytes are of a blob that a layer came in: in its directory, or in that in which it is made.
pub fn kept(dir: &Path) -> PathBuf {
    dir.join(KEPT)
}

/// How many bytes are kept of the blob that a layer came in.
pub fn kept_size(store: &Store, layer: &str) -> u64 {
    std::fs::metadata(kept(&store.layer(layer))).map_or(0, |file| file.len())
}

/// Notes, in the directory of a layer that is being made, the blob that it came in.
pub fn came(staging: &Path, blob: &Descriptor, place: &str) -> Result<()> {
    let Some(compression) = Compression::of(&blob.media_type) else { return Ok(()) };
    let (digest, size) = (blob.digest.clone(), blob.size);
    let (kept, places) = (kept(staging).exists(), vec![place.to_owned()]);
    write(staging, vec![Packed { digest, size, compression, upstream: true, kept, places }])
}

/// Notes that a repository has a blob of a layer, if the blob is known.
pub fn seen(store: &Store, layer: &str, digest: &Digest, place: &str) -> Result<()> {
    match known(store, layer).into_iter().find(|packed| packed.digest == *digest) {
        Some(packed) if packed.places.iter().all(|known| known != place) => remember(store, layer, packed, place),
        _ => Ok(()),
    }
}

/// Notes that a repository has this blob of a layer.
pub fn remember(store: &Store, layer: &str, packed: Packed, place: &str) -> Result<()> {
    let _lock = locks::exclusive(&store.run.join("packed"), 0)?;
    let mut all = known(store, layer);
    let mut packed = match all.iter().position(|known| known.digest == packed.digest) {
        Some(0) if all[0].places.first().is_some_and(|first| first == place) => return Ok(()),
        Some(at) => all.remove(at),
        None => packed,
    };
    packed.places.retain(|known| known != place);
    packed.places.insert(0, place.to_owned());
    packed.places.truncate(MOST);
    all.insert(0, packed);
    while all.len() > MOST
        && let Some(at) = all.iter().rposition(|packed| !packed.kept)
    {
        all.remove(at);
    }
    write(&store.layer(layer), all)
}

fn read(dir: &Path) -> Vec<Packed> {
    let known = std::fs::read(dir.join("packed.json")).ok().and_then(|bytes| json::from_slice(&bytes).ok());
    known.filter(|known: &Known| known.version == VERSION).map(|known| known.packed).unwrap_or_default()
}

fn write(dir: &Path, packed: Vec<Packed>) -> Result<()> {
    let bytes = serde_json::to_vec(&Known { version: VERSION, packed }).context("encode what a layer is packed as")?;
    store::write_file(&dir.join("packed.json"), &bytes, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_say_how() {
        for (media_type, found) in [
            ("application/vnd.oci.image.layer.v1.tar", Some(Compression::None)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Compression::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Compression::Zstd)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Compression::Gzip)),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Compression::None)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", None),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", None),
            ("", None),
        ] {
            assert_eq!(Compression::of(media_type), found, "{media_type}");
        }
    }

    #[test]
    fn the_latest_comes_first_and_the_memory_has_an_end() {
        let root = std::env::temp_dir().join(format!("dhow-known-{}", std::process::id()));
        let store = Store::open(&root.join("root"), &root.join("run")).unwrap();
        std::fs::create_dir_all(store.layer("x")).unwrap();
        let packed = |n: usize| Packed {
            digest: Digest::of(&[n as u8]),
            size: 1,
            compression: Compression::Gzip,
            upstream: false,
            kept: n == 0,
            places: Vec::new(),
        };
        for n in 0..MOST + 3 {
            remember(&store, "x", packed(n), "a/b").unwrap();
        }
        remember(&store, "x", packed(5), "c/d").unwrap();
        let all = known(&store, "x");
        assert_eq!(all.len(), MOST);
        assert!(all.iter().any(|packed| packed.kept), "what is here is not forgotten");
        assert_eq!((&all[0].digest, &all[0].places[..]), (&packed(5).digest, &["c/d".to_owned(), "a/b".into()][..]));
        seen(&store, "x", &packed(6).digest, "e/f").unwrap();
        assert_eq!(known(&store, "x")[0].places, ["e/f", "a/b"]);
        seen(&store, "x", &Digest::of(b"said by somebody"), "e/f").unwrap();
        assert_eq!(known(&store, "x").len(), MOST, "what is only said is not believed");
        std::fs::write(store.layer("x").join("packed.json"), "{").unwrap();
        assert_eq!(known(&store, "x"), []);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
