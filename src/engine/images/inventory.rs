//! All that keeps an image or a layer, read at once with gc held exclusively: nothing of it changes meanwhile.

use super::super::layers::sync_dir;
use super::super::packed;
use super::super::record::{self, Record};
use super::super::store::{self, Lease, Store};
use super::{Image, all, references};
use crate::build::cache;
use crate::failpoint;
use crate::oci::{Digest, Reference};
use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

pub struct Inventory<'a> {
    store: &'a Store,
    lease: &'a Lease,
    pub images: Vec<Image>,
    pub names: Vec<(Reference, Digest)>,
    pub containers: Vec<Container>,
    /// What live leases name.
    leased: HashSet<String>,
    /// How many images, containers and leases keep a layer.
    uses: HashMap<String, usize>,
}

/// A container, as far as images are concerned.
pub struct Container {
    pub id: String,
    /// `sha256:…`
    pub image: String,
    pub running: bool,
}

impl<'a> Inventory<'a> {
    /// With gc held exclusively, and the references' lock.
    pub fn read(store: &'a Store, lease: &'a Lease) -> Result<Inventory<'a>> {
        // Before what is on record: who puts it there gives up his lease then.
        let leased: HashSet<String> = store.leased()?.into_iter().collect();
        let images = all(store)?;
        let mut containers = Vec::new();
        let mut uses: HashMap<String, usize> = HashMap::new();
        let mut count = |layer: &str| *uses.entry(layer.to_owned()).or_default() += 1;
        images.iter().flat_map(|image| &image.layers).for_each(|layer| count(&layer.id));
        leased.iter().filter_map(|what| what.strip_prefix("layer:")).for_each(&mut count);
        cache::layers(store)?.iter().for_each(|layer| count(layer));
        for id in record::ids(store)? {
            let Some(record) = Record::load(store, &id)? else { continue };
            let mounted = record.mounts.iter().filter(|mounted| !mounted.image.is_empty());
            record.layers.iter().chain(mounted.clone().flat_map(|it| &it.layers)).for_each(|layer| count(layer));
            let held = record::held(store, &id)?;
            let running = held.init || held.restarting;
            for image in [&record.image].into_iter().chain(mounted.map(|it| &it.image)) {
                containers.push(Container { id: id.clone(), image: image.clone(), running });
            }
        }
        Ok(Inventory { store, lease, images, names: references::all(store)?, containers, leased, uses })
    }

    pub fn image(&self, id: &Digest) -> Option<&Image> {
        self.images.iter().find(|image| image.id == *id)
    }

    /// The names of an image, sorted.
    pub fn names_of(&self, id: &Digest) -> Vec<Reference> {
        self.names.iter().filter(|(_, of)| of == id).map(|(name, _)| name.clone()).collect()
    }

    pub fn has_children(&self, id: &Digest) -> bool {
        self.images.iter().any(|image| image.parent.as_ref() == Some(id))
    }

    /// A verb of another process builds on the image at this moment.
    pub fn is_leased(&self, id: &Digest) -> bool {
        self.leased.contains(&format!("image:{}", id.hex()))
    }

    /// One that kept a layer does so no more; whether it was the last.
    pub fn let_go(&mut self, layer: &str) -> bool {
        let uses = self.uses.entry(layer.to_owned()).or_default();
        *uses = uses.saturating_sub(1);
        *uses == 0
    }

    /// Takes a name away.
    pub fn untag(&mut self, name: &Reference) -> Result<()> {
        references::remove(self.store, name)?;
        self.names.retain(|(other, _)| other != name);
        failpoint::reach("rmi.untagged");
        Ok(())
    }

    /// Takes an image away that has no name left. What is given is the layers that nobody keeps any more, top first, as
    /// chain id and size: [`Inventory::sweep`] takes them away.
    pub fn delete(&mut self, id: &Digest) -> Result<Vec<(Digest, u64)>> {
        let Some(at) = self.images.iter().position(|image| image.id == *id) else { return Ok(Vec::new()) };
        let image = self.images.remove(at);
        let path = super::path(self.store, image.hex());
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        let mut freed = Vec::new();
        for layer in image.layers.iter().rev() {
            let uses = self.uses.entry(layer.id.clone()).or_default();
            *uses = uses.saturating_sub(1);
            if *uses == 0 {
                let size = layer.size.saturating_add(packed::kept_size(self.store, &layer.id));
                freed.push((layer.chain_id.clone(), size));
            }
        }
        Ok(freed)
    }

    /// Moves all layers and blobs that nothing keeps into the lease's directory, also those that a killed command
    /// left; they are deleted when the lease is dropped, which wants no lock.
    pub fn sweep(&self) -> Result<()> {
        // Before the layers go: a record of an image without its layers must not come back after a power cut.
        sync_dir(&self.store.images())?;
        failpoint::reach("rmi.deleted");
        let layers = self.store.layers();
        let kept = |id: &str| self.uses.get(id).is_some_and(|uses| *uses > 0);
        let unused: Vec<String> = store::read_dir(&layers)?.into_iter().filter(|id| !kept(id)).collect();
        self.discard(&layers, &unused)?;

        let kept: HashSet<&str> = self.images.iter().flat_map(blobs).collect();
        let kept = |hex: &str| kept.contains(hex) || self.leased.contains(&format!("blob:{hex}"));
        let blobs = self.store.root.join("blobs/sha256");
        let unused: Vec<String> = store::read_dir(&blobs)?.into_iter().filter(|hex| !kept(hex)).collect();
        self.discard(&blobs, &unused)
    }

    fn discard(&self, dir: &Path, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let tmp = self.lease.tmp()?;
        for name in names {
            match fs::rename(dir.join(name), tmp.join(name)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("remove {}", dir.join(name).display())),
            }
        }
        sync_dir(dir)
    }
}

/// The hex of all blobs that an image keeps.
fn blobs(image: &Image) -> impl Iterator<Item = &str> {
    let manifests = image.manifests.iter().map(|manifest| manifest.digest.hex());
    let layers = image.layers.iter().filter_map(|layer| Some(layer.packed.as_ref()?.digest.hex()));
    std::iter::once(image.hex()).chain(manifests).chain(layers)
}
