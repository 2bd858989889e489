//! The files of an image, mounted read-only in a container of another one.

use super::super::base;
use super::super::record::Mounted;
use super::super::store::Store;
use crate::fs::overlay::{self, Mapped};
use anyhow::Result;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What is to be mounted, detached. `at` is an empty directory, used where the kernel can only mount by path.
pub fn tree(store: &Store, mounted: &Mounted, at: &Path, mapped: Option<&Mapped>) -> Result<OwnedFd> {
    let mut lowers: Vec<_> = mounted.layers.iter().map(|id| store.layer(id).join("fs")).collect();
    if lowers.is_empty() {
        // An image without a layer has an empty root.
        lowers.push(base::layer(store)?);
    }
    let tree = match mapped {
        Some(mapped) => overlay::mount_mapped(&lowers, None, at, mapped)?,
        None => overlay::mount(&lowers, None, at)?,
    };
    match mounted.subpath.as_str() {
        "" => Ok(tree),
        subpath => overlay::part(&tree, subpath, at),
    }
}
