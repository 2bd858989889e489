//! Names of containers: each stands for one, and is taken exclusively.

use super::{now, sync_dir};
use crate::api::{Refusal, base64};
use crate::engine::record::{self, Record};
use crate::engine::store::{self, Store};
use crate::engine::{events, locks, networks};
use crate::oci::hex;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub fn no_such(name: &str) -> anyhow::Error {
    Refusal::NotFound(format!("No such container: {name}")).into()
}

/// Finds a container by its name, a name that a link gives it (`web/db`), its id, or an unambiguous beginning of its id.
pub fn find(store: &Store, name: &str) -> Result<String> {
    let name = name.trim_start_matches('/');
    if name.is_empty() {
        bail!(Refusal::BadParameter("invalid name or ID supplied: \"\"".to_owned()));
    }
    if let Some((parent, alias)) = name.rsplit_once('/') {
        return networks::links::target(store, parent, alias)?.ok_or_else(|| no_such(name));
    }
    if name.len() == 64 && Record::exists(store, name) {
        return Ok(name.to_owned());
    }
    if let Some(id) = named(store, name)? {
        return Ok(id);
    }
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex(name) {
        return Err(no_such(name));
    }
    let mut found = Vec::new();
    for id in record::ids(store)? {
        // One that cannot be read is there too, and can be removed.
        if id.starts_with(name) && Record::exists(store, &id) {
            found.push(id);
        }
    }
    match found.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(no_such(name)),
        _ => Err(Refusal::BadParameter(format!("multiple IDs found with provided prefix: {name}")).into()),
    }
}

/// Where a name may stand: with `--rm` it need not outlive the boot.
fn name_path(store: &Store, name: &str, durable: bool) -> PathBuf {
    if durable { store.root.join("names").join(name) } else { store.run.join("names").join(name) }
}

/// What the link of a name holds: an id of 64 digits in 43 letters, since ext4 gives a block of its own to one of 60 and
/// more, ten times as slow to make and to take away.
fn link_to(id: &str) -> String {
    let bytes = || (0..id.len()).step_by(2).map(|at| u8::from_str_radix(id.get(at..at + 2)?, 16).ok());
    let bytes: Option<Vec<u8>> = bytes().collect();
    bytes.map_or_else(|| id.to_owned(), |bytes| base64::encode(&bytes).trim_end_matches('=').to_owned())
}

/// The opposite. Earlier builds wrote the id itself.
fn linked(link: &Path) -> String {
    let text = link.to_string_lossy();
    let bytes = if text.len() == 64 { None } else { base64::decode(&text) };
    bytes.map_or_else(|| text.into_owned(), |bytes| hex(&bytes))
}

/// The id that a name stands for. A name whose record is missing or disagrees stands for nothing.
pub fn named(store: &Store, name: &str) -> Result<Option<String>> {
    for durable in [true, false] {
        let link = match std::fs::read_link(name_path(store, name, durable)) {
            Ok(link) => link,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => continue,
            Err(error) => return Err(error).with_context(|| format!("look up the name {name}")),
        };
        let id = linked(&link);
        if Record::load(store, &id)?.is_some_and(|record| record.name == name) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Takes a name for a container, exclusively.
pub fn take_name(store: &Store, name: &str, id: &str, durable: bool) -> Result<()> {
    let _lock = locks::exclusive(&store.run.join("names.lock"), 0)?;
    if let Some(owner) = named(store, name)? {
        if owner == id {
            return Ok(());
        }
        return Err(name_in_use(name, &owner));
    }
    let link = name_path(store, name, durable);
    // Void: its owner was removed by half, or had another boot's run directory.
    store::remove(&link)?;
    std::os::unix::fs::symlink(link_to(id), &link).with_context(|| format!("take the name {name}"))
}

/// Brings names that were taken to the disk, with no lock held: others need not wait for it.
pub fn sync_names(store: &Store) -> Result<()> {
    sync_dir(&store.root.join("names"))
}

pub fn name_in_use(name: &str, owner: &str) -> anyhow::Error {
    Refusal::Conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove \
         (or rename) that container to be able to reuse that name."
    ))
    .into()
}

/// Gives a name back, if it is still this container's.
pub(super) fn release_name(store: &Store, name: &str, id: &str) -> Result<()> {
    let _lock = locks::exclusive(&store.run.join("names.lock"), 0)?;
    for link in [true, false].map(|durable| name_path(store, name, durable)) {
        if std::fs::read_link(&link).is_ok_and(|owner| linked(&owner) == id) {
            store::remove(&link)?;
        }
    }
    Ok(())
}

pub fn rename(store: &Store, name: &str, new: &str) -> Result<()> {
    if new.is_empty() {
        bail!(Refusal::BadParameter("Neither old nor new names may be empty".to_owned()));
    }
    let id = &*find(store, name)?;
    let now = now(store, id)?;
    let old = now.record.name.clone();
    let asked = if new.starts_with('/') { new.to_owned() } else { format!("/{new}") };
    if asked[1..] == old {
        bail!(Refusal::BadParameter("Renaming a container with the same name as its current name".to_owned()));
    }
    let refused = "Error when allocating new name";
    let new = crate::engine::names::check(&asked).context(refused)?;
    // The record decides: a name without its agreement is void, so the new one is taken only for it.
    let _lock = locks::exclusive(&store.run.join("rename.lock"), 0)?;
    if let Some(owner) = named(store, new)? {
        return Err(name_in_use(new, &owner).context(refused));
    }
    let record = Record::update(store, id, |record| {
        record.name = new.to_owned();
        Ok(())
    })?;
    let durable = !record.host_config.auto_remove;
    let taken = take_name(store, new, id, durable).and_then(|()| if durable { sync_names(store) } else { Ok(()) });
    if let Err(error) = taken {
        Record::update(store, id, |record| {
            record.name = old.clone();
            Ok(())
        })?;
        return Err(error);
    }
    release_name(store, &old, id)?;
    networks::names::renamed(store, id)?;
    networks::links::follow(store, id)?;
    events::container(store, &record, "rename", &[("oldName", &format!("/{old}"))]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_tell_ids_of_this_build_and_of_earlier_ones() {
        let id = "00ff".repeat(16);
        assert!(link_to(&id).len() < 60);
        assert_eq!(linked(Path::new(&link_to(&id))), id);
        assert_eq!(linked(Path::new(&id)), id);
        // What is no id is one that nobody has.
        assert_eq!(linked(Path::new("here!")), "here!");
    }
}
