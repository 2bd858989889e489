//! One layer on its way into a repository: found there, taken over from another repository, passed on as it came, or made.

use crate::engine::Store;
use crate::engine::images::LayerOf;
use crate::engine::packed::{self, Compression, Packed};
use crate::fs::assemble;
use crate::fs::compress::{self, Format};
use crate::log;
use crate::oci::auth::Registries;
use crate::oci::image::Descriptor;
use crate::oci::registry::{Client, Content, Mount, Pusher, Sent, Settings};
use crate::oci::{Digest, Reference};
use crate::order;
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many blobs that the layer is known as are asked for, and so many repositories for one of them.
const ASKED: usize = 4;
/// Another registry need not be there: it is tried so often, and the layer is packed anew then.
const OTHERS: u32 = 2;

/// Where a push goes.
pub struct Target<'a> {
    pub store: &'a Store,
    pub reference: &'a Reference,
    pub pusher: &'a Pusher,
    pub settings: &'a Settings,
    /// Who may push there may read there, too.
    pub credentials: &'a Option<crate::oci::auth::Credentials>,
    /// Who we are at other registries, where layers came from.
    pub others: &'a Registries,
    /// Those of them that did not give what was asked for: they are not asked again.
    pub deaf: Mutex<HashSet<String>>,
    /// What the layer must be compressed with, if that was asked for.
    pub format: Option<Format>,
}

/// A layer that the repository has now.
pub struct Placed {
    pub packed: Packed,
    /// In Docker's words.
    pub how: String,
}

/// Brings a layer into the repository. `wanted` are blobs that an image's own manifest names, to be preferred.
pub fn place(target: &Target, layer: &LayerOf, wanted: &[&Digest], moved: &AtomicU64) -> Result<Placed> {
    let placed = find_or_send(target, layer, wanted, moved).with_context(|| format!("layer {}", layer.diff_id))?;
    packed::remember(target.store, &layer.id, placed.packed.clone(), &target.reference.name())?;
    Ok(placed)
}

fn find_or_send(target: &Target, layer: &LayerOf, wanted: &[&Digest], moved: &AtomicU64) -> Result<Placed> {
    let suits = |packed: &Packed| match target.format {
        None => true,
        Some(Format::Gzip) => packed.compression == Compression::Gzip,
        Some(Format::Zstd) => packed.compression == Compression::Zstd,
    };
    let mut known: Vec<Packed> = packed::known(target.store, &layer.id).into_iter().filter(suits).collect();
    order::by_key(&mut known, |packed| !wanted.contains(&&packed.digest));
    known.truncate(ASKED);
    for packed in &known {
        if target.pusher.has(&packed.digest)? {
            return Ok(Placed { packed: packed.clone(), how: "Layer already exists".to_owned() });
        }
    }
    let mut begun = None;
    for packed in &known {
        for path in elsewhere(target.reference, packed).take(ASKED) {
            match target.pusher.mount(&packed.digest, path)? {
                Mount::Mounted => {
                    return Ok(Placed { packed: packed.clone(), how: format!("Mounted from {path}") });
                }
                Mount::No(place) => begun = place.or(begun),
            }
        }
    }
    for packed in &known {
        if as_it_came(target, layer, packed, wanted.contains(&&packed.digest), moved) {
            return Ok(Placed { packed: packed.clone(), how: "Pushed".to_owned() });
        }
    }
    let format = target.format.unwrap_or(Format::Gzip);
    let dir = target.store.layer(&layer.id);
    let sent = target.pusher.upload(&Made { dir: &dir, diff_id: &layer.diff_id, format, moved }, begun)?;
    let compression = match format {
        Format::Gzip => Compression::Gzip,
        Format::Zstd => Compression::Zstd,
    };
    let how = if sent.known { "Layer already exists" } else { "Pushed" };
    let (digest, size) = (sent.digest, sent.size);
    let packed = Packed { digest, size, compression, upstream: false, kept: false, places: Vec::new() };
    Ok(Placed { packed, how: how.to_owned() })
}

/// Other repositories of the same registry that have had a blob, by their path there.
fn elsewhere<'a>(reference: &'a Reference, packed: &'a Packed) -> impl Iterator<Item = &'a str> {
    let path = |place: &'a String| place.strip_prefix(&reference.domain)?.strip_prefix('/');
    packed.places.iter().filter_map(path).filter(|path| *path != reference.path)
}

/// Sends a blob that somebody else made, from what is kept of it here, or from where it can be had; so the layer keeps its
/// digest there, and an image its manifest. `false` where that cannot be done.
fn as_it_came(target: &Target, layer: &LayerOf, packed: &Packed, wanted: bool, moved: &AtomicU64) -> bool {
    let blob = Descriptor { digest: packed.digest.clone(), size: packed.size, ..Descriptor::of("", b"") };
    let done = |from: &str, sent: Result<Sent>| match sent {
        Ok(_) => true,
        Err(error) => {
            log::debug!("{} from {from}: {error:#}", packed.digest);
            false
        }
    };
    if packed.kept {
        let path = packed::kept(&target.store.layer(&layer.id));
        let open = || -> Result<Box<dyn Read>> {
            Ok(Box::new(File::open(&path).with_context(|| format!("open {}", path.display()))?))
        };
        if done("here", target.pusher.send_known(&blob, moved, &open)) {
            return true;
        }
    }
    if !wanted && !packed.upstream {
        return false;
    }
    for path in elsewhere(target.reference, packed) {
        let from = Reference { path: path.to_owned(), tag: None, digest: None, ..target.reference.clone() };
        let client = Client::new(&from, target.credentials.clone(), target.settings);
        if done(path, client.and_then(|client| target.pusher.pass(&client, &blob, moved))) {
            return true;
        }
    }
    // Nobody there is told who we are here, nor the other way round.
    for place in &packed.places {
        let Some(from) = Reference::parse(place).ok().filter(|from| from.domain != target.reference.domain) else {
            continue;
        };
        if target.deaf().contains(&from.domain) {
            continue;
        }
        let settings = Settings { attempts: target.settings.attempts.min(OTHERS), ..target.settings.clone() };
        let client = Client::new(&from, target.others.of(&from.domain), &settings);
        if done(place, client.and_then(|client| target.pusher.pass(&client, &blob, moved))) {
            return true;
        }
        target.deaf().insert(from.domain);
    }
    false
}

impl Target<'_> {
    fn deaf(&self) -> MutexGuard<'_, HashSet<String>> {
        self.deaf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tar of a layer of the store, compressed.
struct Made<'a> {
    dir: &'a Path,
    diff_id: &'a Digest,
    format: Format,
    /// Bytes of the tar that are through.
    moved: &'a AtomicU64,
}

impl Content for Made<'_> {
    fn make(&self, consume: &mut dyn FnMut(&mut dyn Read) -> Result<Sent>) -> Result<Result<Sent>> {
        self.moved.store(0, Ordering::Relaxed);
        let fill = |out: &mut dyn Write| {
            let found = assemble::assemble(self.dir, &mut Counted { out, moved: self.moved })?;
            if found != *self.diff_id {
                bail!("the layer {} is not {} any more", self.dir.display(), self.diff_id);
            }
            Ok(())
        };
        compress::through(self.format, fill, consume)
    }
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    moved: &'a AtomicU64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.moved.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
