//! `load`: the images of an archive, Docker's or an OCI layout. Its files are laid down in the lease's directory, its
//! layers are unpacked beside them, and nothing of it is in the store before all of it has been found good. Builds take
//! one image of a layout that lies in a directory.

mod plan;
mod spool;

use super::super::events;
use super::super::layers::{self, Staged};
use super::super::locks::Lock;
use super::super::store::{Lease, Store};
use super::{Image, describe, references, register, set_reference};
use crate::api::types::{ProgressDetail, ProgressLine};
use crate::channel;
use crate::fs::compression;
use crate::fs::settle::settle;
use crate::fs::unpack::unpack;
use crate::oci::digest::Hasher;
use crate::oci::image::chain_ids;
use crate::oci::{Digest, Platform};
use anyhow::{Context, Result, bail};
use plan::{Part, Plan};
use spool::Spool;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a layer that is being read is shown.
const TICK: Duration = Duration::from_millis(100);
/// For the names of directories in a lease's, which may have layers of several archives.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// How often a layer that another process brings is asked for.
const TURN: Duration = Duration::from_millis(20);

/// What is asked of a load.
pub struct Load {
    pub quiet: bool,
    pub platform: Option<Platform>,
}

/// Where the lines of progress go.
pub type Sink<'a> = &'a mut dyn FnMut(ProgressLine) -> io::Result<()>;

/// Loads all images of an archive, or none.
pub fn load(store: &Store, asked: &Load, archive: impl Read + Send, sink: Sink) -> Result<()> {
    let lease = store.lease()?;
    let files = lease.tmp()?.join("archive");
    std::fs::create_dir(&files).with_context(|| format!("make {}", files.display()))?;
    let spool = Spool::read(archive, &files).context("read the archive")?;
    let plans = plan::images(&spool, asked.platform.as_ref())?;
    let mut stage = Stage { store, lease: &lease, spool: &spool, quiet: asked.quiet, staged: HashMap::new() };
    for plan in &plans {
        stage.image(plan, sink).with_context(|| format!("image {}", plan.id))?;
    }
    let mut images = Vec::new();
    for plan in &plans {
        stage.commit(&plan.config.rootfs.diff_ids)?;
        let manifest = plan.manifest.as_ref().map(|(media_type, body)| (media_type.as_str(), &body[..]));
        let parent = plan.parent.as_ref().filter(|parent| is_parent(&plans, parent, plan));
        images.push(register(store, &lease, manifest, &plan.config_body, parent)?);
    }
    for (plan, image) in plans.iter().zip(&images) {
        name(store, plan, image, sink)?;
        events::other(store, "image", "load", &image.id.to_string(), &[("name", &image.id.to_string())]);
    }
    Ok(())
}

/// An image of an OCI layout in a directory: the one with this tag, or with this digest.
pub struct Layout {
    pub root: OwnedFd,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Brings the layers of a layout's image into the store, where the lease holds them. The image itself is not there.
pub fn layers_of(store: &Store, lease: &Lease, layout: &Layout, wanted: &Platform, sink: Sink) -> Result<Image> {
    let spool = Spool::Lies(layout.root.try_clone().context("open the layout")?);
    let plan = plan::one(&spool, layout.tag.as_deref(), layout.digest.as_ref(), wanted)?;
    let mut stage = Stage { store, lease, spool: &spool, quiet: false, staged: HashMap::new() };
    stage.image(&plan, sink).with_context(|| format!("image {}", plan.id))?;
    stage.commit(&plan.config.rootfs.diff_ids)?;
    describe(store, None, &plan.config_body, None)
}

/// What an archive calls a parent is one if it comes along and the image stands on its layers.
fn is_parent(plans: &[Plan], parent: &Digest, child: &Plan) -> bool {
    let mut known = plans.iter().filter(|plan| plan.id == *parent && plan.id != child.id);
    known.any(|plan| child.config.rootfs.diff_ids.starts_with(&plan.config.rootfs.diff_ids))
}

fn name(store: &Store, plan: &Plan, image: &Image, sink: Sink) -> Result<()> {
    for name in &plan.names {
        let shown = name.familiar();
        if let Some(old) = references::get(store, name)?.filter(|old| *old != image.id) {
            let text =
                format!("The image {shown} already exists, renaming the old one with ID {old} to empty string\n");
            show(sink, ProgressLine::text(text))?;
        }
        set_reference(store, name, image)?;
        show(sink, ProgressLine::text(format!("Loaded image: {shown}\n")))?;
    }
    if plan.names.is_empty() {
        show(sink, ProgressLine::text(format!("Loaded image ID: {}\n", image.id)))?;
    }
    Ok(())
}

fn show(sink: Sink, line: ProgressLine) -> Result<()> {
    sink(line).context("show progress")
}

/// Layers that are unpacked and not yet in the store.
struct Stage<'a> {
    store: &'a Store,
    lease: &'a Lease,
    spool: &'a Spool,
    quiet: bool,
    /// By the name of their directory under layers/. The lock keeps others from bringing the same one meanwhile.
    staged: HashMap<String, (Staged, Lock)>,
}

impl Stage<'_> {
    /// Unpacks what is missing of an image's layers.
    fn image(&mut self, plan: &Plan, sink: Sink) -> Result<()> {
        let diff_ids = &plan.config.rootfs.diff_ids;
        let mut lowers: Vec<PathBuf> = Vec::new();
        for ((part, diff_id), chain_id) in plan.layers.iter().zip(diff_ids).zip(chain_ids(diff_ids)) {
            let id = layers::dir_id(&chain_id);
            if !self.staged.contains_key(&id)
                && let Some(lock) = self.missing(&id)?
            {
                let layer = self.layer(part, diff_id, &lowers, sink);
                let staged = layer.with_context(|| format!("layer {:?}", part.name))?;
                self.staged.insert(id.clone(), (staged, lock));
            }
            let dir = self.staged.get(&id).map_or_else(|| self.store.layer(&id), |(staged, _)| staged.dir.clone());
            lowers.insert(0, dir.join("fs"));
        }
        Ok(())
    }

    /// The lock of a layer that the store has not; from the lowest up, so that nobody waits in a circle.
    fn missing(&self, id: &str) -> Result<Option<Lock>> {
        loop {
            if layers::exists(self.store, self.lease, id)? {
                return Ok(None);
            }
            match layers::claim(self.store, id)? {
                Some(lock) if layers::exists(self.store, self.lease, id)? => drop(lock),
                Some(lock) => return Ok(Some(lock)),
                None => std::thread::sleep(TURN),
            }
        }
    }

    fn layer(&self, part: &Part, diff_id: &Digest, lowers: &[PathBuf], sink: Sink) -> Result<Staged> {
        let dir = self.lease.tmp()?.join(format!("layer{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let (mut file, size) = self.spool.open(&part.name)?;
        // A plain tar under its diff id is hashed as it is unpacked.
        if let Some(digest) = part.digest.as_ref().filter(|digest| *digest != diff_id) {
            let mut hasher = Hasher::new(digest.algorithm());
            hash(&mut file, &mut hasher).context("read it")?;
            let found = hasher.finish();
            if found != *digest {
                bail!("digest mismatch: expected {digest}, got {found}");
            }
            io::Seek::rewind(&mut file).context("read it")?;
        }
        let (count, gone) = (AtomicU64::new(0), AtomicBool::new(false));
        let mut show = || {
            let detail = ProgressDetail { current: count.load(Ordering::Relaxed), total: size };
            if self.quiet { Ok(()) } else { sink(ProgressLine::layer(diff_id.short(), "Loading layer", detail)) }
        };
        let mut tar = compression::decoder(Counted { file, count: &count, gone: &gone })?;
        let unpacked = std::thread::scope(|scope| {
            let (end, ended) = channel::channel::<()>();
            let (dir, tar) = (&dir, &mut tar);
            let unpacking = scope.spawn(move || {
                let _end = end;
                unpack(tar, dir)
            });
            // Shows how far it is, until the other end is dropped.
            let mut shown = Ok(());
            while let Err(channel::RecvTimeoutError::Timeout) = ended.recv_timeout(TICK) {
                shown = shown.and_then(|()| show());
                gone.fetch_or(shown.is_err(), Ordering::Relaxed);
            }
            let unpacked = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            shown.context("show progress").and(unpacked)
        })?;
        show().context("show progress")?;
        if unpacked.diff_id != *diff_id {
            bail!("invalid diffID for layer: expected {diff_id}, got {}", unpacked.diff_id);
        }
        settle(&unpacked, &dir, lowers).context("complete it")?;
        Ok(Staged { dir, size: unpacked.size, opaque: unpacked.opaque })
    }

    /// Puts the layers of an image into the store.
    fn commit(&mut self, diff_ids: &[Digest]) -> Result<()> {
        let ids: Vec<String> = chain_ids(diff_ids).iter().map(layers::dir_id).collect();
        let (mut staged, mut locks) = (Vec::new(), Vec::new());
        for id in &ids {
            let (one, lock) = self.staged.remove(id).unzip();
            staged.push(one);
            locks.extend(lock);
        }
        layers::commit(self.store, self.lease, diff_ids, &staged)
    }
}

fn hash(file: &mut impl Read, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Counts what is read through it.
struct Counted<'a> {
    file: File,
    count: &'a AtomicU64,
    /// Who waited has left.
    gone: &'a AtomicBool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        let n = self.file.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
