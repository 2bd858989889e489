//! `rmi` and `image prune`: names are taken away, then images that have none, then layers that no image, container or
//! lease keeps. What stands in the way is told in Docker's words.

use super::super::events;
use super::super::filters::Filters;
use super::super::store::{Lease, Store};
use super::inventory::{Container, Inventory};
use super::list::{created, until};
use super::{Image, find, references};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{ImageDeleted, ImagesPruned};
use crate::oci::{Digest, Reference};
use crate::order::Map;
use anyhow::{Result, bail};

/// What an image may not have to be deleted.
#[derive(Clone, Copy)]
struct Obstacles {
    /// Names, and stopped containers: what `force` overrides.
    names: bool,
    stopped: bool,
}

/// Why an image stays.
struct Conflict {
    /// By a container.
    used: bool,
    text: String,
}

/// What has been taken away so far.
#[derive(Default)]
struct Removed {
    rows: Vec<ImageDeleted>,
    /// Bytes of layers.
    freed: u64,
    /// Image id, action, and the labels of an image that is still there.
    events: Vec<(String, &'static str, Option<Map<String, String>>)>,
}

impl Removed {
    fn untagged(&mut self, image: &Image, name: &Reference) {
        self.rows.push(ImageDeleted { untagged: name.familiar(), deleted: String::new() });
        self.events.push((image.id.to_string(), "untag", image.config.config.labels.clone()));
    }

    fn deleted(&mut self, id: &Digest) {
        self.rows.push(ImageDeleted { untagged: String::new(), deleted: id.to_string() });
    }
}

/// `DELETE /images/{name}`. A name is taken from its image, and an image without names goes; an id takes the image with
/// its names, if they are of one repository. `force` overrides other names and stopped containers. `prune` lets
/// parents without a name go too.
pub fn remove(store: &Store, name: &str, force: bool, prune: bool) -> Result<Vec<ImageDeleted>> {
    let lease = store.lease()?;
    let mut removed = Removed::default();
    let result = locked(store, &lease, |inventory| remove_one(store, inventory, name, force, prune, &mut removed));
    tell(store, &removed);
    result.map(|()| removed.rows)
}

/// Removes with all removers and adders locked out, and sweeps; also after an error, since what went is gone.
pub fn locked(store: &Store, lease: &Lease, work: impl FnOnce(&mut Inventory) -> Result<()>) -> Result<()> {
    let _gc = store.gc_exclusive()?;
    let _references = references::lock(store)?;
    let mut inventory = Inventory::read(store, lease)?;
    let before = inventory.images.len();
    let result = work(&mut inventory);
    if inventory.images.len() < before || result.is_ok() {
        inventory.sweep()?;
    }
    result
}

fn tell(store: &Store, removed: &Removed) {
    for (id, action, labels) in &removed.events {
        events::image(store, labels.as_ref(), action, id, id);
    }
}

fn remove_one(
    store: &Store,
    inventory: &mut Inventory,
    name: &str,
    force: bool,
    prune: bool,
    removed: &mut Removed,
) -> Result<()> {
    let image = find(store, name)?;
    let names = inventory.names_of(&image.id);
    let Some(reference) = named(store, name, &image.id)? else {
        if is_single(&names) {
            let obstacles = Obstacles { names: false, stopped: !force };
            if let Some(conflict) = conflict(inventory, &image.id, obstacles) {
                bail!(Refusal::Conflict(conflict.text));
            }
            for name in &names {
                inventory.untag(name)?;
                removed.untagged(&image, name);
            }
        }
        return delete(inventory, &image.id, force, prune, false, removed);
    };

    let of_image = |container: &&Container| container.image == image.id.to_string();
    if !force
        && is_single(&names)
        && let Some(container) = inventory.containers.iter().find(of_image)
    {
        bail!(Refusal::Conflict(format!(
            "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
            short(&container.id),
            image.id.short()
        )));
    }
    inventory.untag(&reference)?;
    removed.untagged(&image, &reference);
    // With the last tag in a repository the digests there go too: nobody would find them.
    let names = inventory.names_of(&image.id);
    let beside = |other: &&Reference| other.name() == reference.name();
    if reference.digest.is_none() && !names.iter().filter(beside).any(|other| other.digest.is_none()) {
        for digest in names.iter().filter(beside) {
            inventory.untag(digest)?;
            removed.untagged(&image, digest);
        }
    }
    if !inventory.names_of(&image.id).is_empty() {
        return Ok(());
    }
    delete(inventory, &image.id, force, prune, true, removed)
}

/// The reference that the user spelt, if the image was found by one and not by its id. With a digest the tag is only
/// decoration.
fn named(store: &Store, name: &str, id: &Digest) -> Result<Option<Reference>> {
    let Ok(reference) = Reference::parse(name) else { return Ok(None) };
    let reference = match &reference.digest {
        Some(digest) => reference.with_digest(digest),
        None => reference.or_latest(),
    };
    Ok(references::get(store, &reference)?.filter(|found| found == id).map(|_| reference))
}

/// All names are of one repository, with at most one tag; no names at all are not.
fn is_single(names: &[Reference]) -> bool {
    let Some(first) = names.first() else { return false };
    names.iter().filter(|name| name.digest.is_none()).count() <= 1
        && names.iter().all(|name| name.name() == first.name())
}

/// Deletes an image with all its names, and its parents that nobody needs. `quiet` lets it be if it is in use.
fn delete(
    inventory: &mut Inventory,
    id: &Digest,
    force: bool,
    prune: bool,
    quiet: bool,
    removed: &mut Removed,
) -> Result<()> {
    if let Some(conflict) = conflict(inventory, id, Obstacles { names: !force, stopped: !force }) {
        let dangling = inventory.names_of(id).is_empty() && !inventory.has_children(id);
        if quiet && (!dangling || conflict.used) {
            return Ok(());
        }
        bail!(Refusal::Conflict(conflict.text));
    }
    let image = inventory.image(id).cloned();
    let parent = image.as_ref().and_then(|image| image.parent.clone());
    for name in inventory.names_of(id) {
        inventory.untag(&name)?;
        if let Some(image) = &image {
            removed.untagged(image, &name);
        }
    }
    let freed = inventory.delete(id)?;
    removed.events.push((id.to_string(), "delete", None));
    removed.deleted(id);
    for (chain_id, size) in freed {
        removed.deleted(&chain_id);
        removed.freed += size;
    }
    match parent {
        Some(parent) if prune && inventory.image(&parent).is_some() => {
            delete(inventory, &parent, false, true, true, removed)
        }
        _ => Ok(()),
    }
}

fn conflict(inventory: &Inventory, id: &Digest, obstacles: Obstacles) -> Option<Conflict> {
    let using = |running: bool| {
        let of_image = |container: &&Container| container.running == running && container.image == id.to_string();
        inventory.containers.iter().find(of_image).map(|container| short(&container.id).to_owned())
    };
    let because = |used: bool, hard: bool, reason: String| {
        let how = if hard { "cannot be forced" } else { "must be forced" };
        Some(Conflict { used, text: format!("conflict: unable to delete {} ({how}) - {reason}", id.short()) })
    };
    if inventory.has_children(id) {
        return because(false, true, "image has dependent child images".to_owned());
    }
    if let Some(container) = using(true) {
        return because(true, true, format!("image is being used by running container {container}"));
    }
    if inventory.is_leased(id) {
        return because(true, true, "image is being used by another command".to_owned());
    }
    if obstacles.names && !inventory.names_of(id).is_empty() {
        return because(false, false, "image is referenced in multiple repositories".to_owned());
    }
    if obstacles.stopped
        && let Some(container) = using(false)
    {
        return because(true, false, format!("image is being used by stopped container {container}"));
    }
    None
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// `POST /images/prune`. Filters: dangling (true unless given), label, label!, until.
pub fn prune(store: &Store, filters: &Filters) -> Result<ImagesPruned> {
    filters.accept(&["dangling", "label", "label!", "until"])?;
    let dangling = filters.flag("dangling")?.unwrap_or(true);
    let until = match filters.get("until") {
        [] => None,
        [text] => Some(until(text)?),
        _ => bail!(Refusal::BadParameter("more than one until filter specified".to_owned())),
    };
    let lease = store.lease()?;
    let mut removed = Removed::default();
    let result = locked(store, &lease, |inventory| {
        for id in prunable(inventory, filters, until, dangling) {
            let names = inventory.names_of(&id);
            let work = match names.is_empty() {
                true => vec![id.to_string()],
                false => names.iter().map(Reference::to_string).collect(),
            };
            for name in work {
                match remove_one(store, inventory, &name, false, true, &mut removed) {
                    // It is in use, or went with one before it.
                    Err(error) if error.downcast_ref::<Refusal>().is_some() => {}
                    other => other?,
                }
            }
        }
        Ok(())
    });
    tell(store, &removed);
    result?;
    drop(lease);
    events::other(store, "image", "prune", "", &[("reclaimed", &removed.freed.to_string())]);
    let rows = removed.rows;
    Ok(ImagesPruned { images_deleted: (!rows.is_empty()).then_some(rows), space_reclaimed: removed.freed })
}

fn prunable(inventory: &Inventory, filters: &Filters, until: Option<Time>, dangling: bool) -> Vec<Digest> {
    let wanted = |image: &&Image| {
        let names = inventory.names_of(&image.id);
        let tagged = names.iter().any(|name| name.digest.is_none());
        let intermediate = inventory.has_children(&image.id) && (dangling || names.is_empty());
        // Docker takes all names but the last from an image in use; that helps nobody.
        let used = inventory.containers.iter().any(|container| container.image == image.id.to_string());
        let kept = intermediate || used || dangling && tagged;
        let old = until.is_none_or(|until| created(image).is_some_and(|created| created <= until));
        !kept && old && filters.labels(image.config.config.labels.as_ref().unwrap_or(&Map::new()))
    };
    inventory.images.iter().filter(wanted).map(|image| image.id.clone()).collect()
}
