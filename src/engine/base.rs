//! The layer below all others in every container: the places that the engine mounts on, so that none of them has to be
//! made in the container's own layer at its start. What an image has in these places hides it.

use super::store::{self, Store};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Named with a number, because a container that was made keeps the layer that it was made with.
const NAME: &str = "base-1";

/// Its directory, which is made when it is first asked for.
pub fn layer(store: &Store) -> Result<PathBuf> {
    let place = store.root.join(NAME);
    if place.exists() {
        return Ok(place);
    }
    let lease = store.lease()?;
    let made = lease.tmp()?.join(NAME);
    fill(&made).with_context(|| format!("make {}", made.display()))?;
    store::syncfs(&made)?;
    match fs::rename(&made, &place) {
        // Another process was faster.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => Ok(place),
        other => other.map(|()| place.clone()).with_context(|| format!("make {}", place.display())),
    }
}

/// As Docker has it; `.dockerenv` tells programs that they run in a container.
fn fill(dir: &Path) -> std::io::Result<()> {
    for name in ["", "dev", "dev/pts", "dev/shm", "etc", "proc", "sys"] {
        store::make_dir(&dir.join(name), 0o755)?;
    }
    for name in [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        File::create(dir.join(name))?;
    }
    symlink("/proc/mounts", dir.join("etc/mtab"))
}
