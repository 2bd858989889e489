//! Names of images: `refs/<domain>/<path>/:<tag>` and `…/@<digest>`, each a small file that says which image it is.
//! No component of a path begins with `:` or `@`, so a repository may lie below another. Looking one up opens one
//! file; only lists walk.

use super::super::locks::{self, Lock};
use super::super::store::{self, Store};
use crate::json::{self, by_serde};
use crate::oci::{Digest, Reference};
use crate::order;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
struct Target {
    image: Digest,
}

by_serde! { Target }

/// Held while a reference or an image's record is changed. In the order of locks it comes after gc.
pub fn lock(store: &Store) -> Result<Lock> {
    locks::exclusive(&store.run.join("refs"), 0)
}

/// Where a reference lies. One with a digest means that content, whatever its tag says.
fn path(store: &Store, reference: &Reference) -> PathBuf {
    let name = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => format!("@{digest}"),
        (None, Some(tag)) => format!(":{tag}"),
        (None, None) => ":latest".to_owned(),
    };
    store.refs().join(&reference.domain).join(&reference.path).join(name)
}

/// The image id that a reference names.
pub fn get(store: &Store, reference: &Reference) -> Result<Option<Digest>> {
    let path = path(store, reference);
    match fs::read(&path) {
        Ok(bytes) => {
            let target: Target = json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
            Ok(Some(target.image))
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Makes or moves a reference, durably. With the lock held.
pub fn put(store: &Store, reference: &Reference, image: &Digest) -> Result<()> {
    let path = path(store, reference);
    let dir = path.parent().context("a reference has no directory")?;
    let new = first_missing(dir);
    store::make_dirs(dir, 0o700)?;
    let bytes = serde_json::to_vec(&Target { image: image.clone() }).context("encode a reference")?;
    store::write_file(&path, &bytes, true)?;
    // A directory that was made is only there after a power cut if those that name it were synced too.
    for dir in dir.ancestors().skip(1).take_while(|dir| new.as_ref().is_some_and(|new| Some(*dir) >= new.parent())) {
        super::super::layers::sync_dir(dir)?;
    }
    Ok(())
}

fn first_missing(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().take_while(|dir| !dir.exists()).last().map(Path::to_owned)
}

/// Removes a reference, and directories that it leaves empty. With the lock held. Whether there was one.
pub fn remove(store: &Store, reference: &Reference) -> Result<bool> {
    let path = path(store, reference);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("remove {}", path.display())),
    }
    let refs = store.refs();
    let kept = path.ancestors().skip(1).find(|dir| *dir == refs || fs::remove_dir(dir).is_err());
    super::super::layers::sync_dir(kept.unwrap_or(&refs))?;
    Ok(true)
}

/// All references and the images that they name, sorted.
pub fn all(store: &Store) -> Result<Vec<(Reference, Digest)>> {
    let mut found = Vec::new();
    for domain in store::read_dir(&store.refs())? {
        walk(store, &domain, "", &mut found)?;
    }
    order::sort(&mut found);
    Ok(found)
}

fn walk(store: &Store, domain: &str, path: &str, found: &mut Vec<(Reference, Digest)>) -> Result<()> {
    for name in store::read_dir(&store.refs().join(domain).join(path))? {
        let mut reference = Reference { domain: domain.to_owned(), path: path.to_owned(), tag: None, digest: None };
        if let Some(tag) = name.strip_prefix(':') {
            reference.tag = Some(tag.to_owned());
        } else if let Some(digest) = name.strip_prefix('@') {
            reference.digest = Digest::parse(digest).ok();
        } else {
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            walk(store, domain, &below, found)?;
            continue;
        }
        // One that went away since the directory was read is no error.
        if let Some(image) = get(store, &reference)? {
            found.push((reference, image));
        }
    }
    Ok(())
}
