//! The caches of `RUN --mount=type=cache`.
//!
//! ```text
//! build/mounts/<name>/        the files
//!              .<name>.lock   held by who has it, shared or for himself alone; its text says what it was made for, its time
//!                             when it was last of use
//! ```
//!
//! A build that has one names it in its lease, so that nobody prunes it meanwhile.

use crate::engine::locks::{self, Lock};
use crate::engine::store::{self, Lease, Store};
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::SystemTime;

/// What is told of one.
pub struct Cache {
    pub name: String,
    pub description: String,
    pub made: SystemTime,
    pub used: SystemTime,
    pub in_use: bool,
    /// Bytes.
    pub size: u64,
}

pub fn dir(store: &Store, name: &str) -> PathBuf {
    store.root.join("build/mounts").join(name)
}

fn lock_path(store: &Store, name: &str) -> PathBuf {
    dir(store, &format!(".{name}.lock"))
}

/// The word of one in the lease of a build.
pub fn word(name: &str) -> String {
    format!("cache:{name}")
}

/// Takes a cache, to share it or not, until the lock is dropped; `None` where another has it. The lease keeps it from now on.
pub fn take(store: &Store, lease: &Lease, name: &str, shared: bool, description: &str) -> Result<Option<Lock>> {
    let path = lock_path(store, name);
    let lock = {
        let _gc = store.gc_shared()?;
        let lock = if shared { locks::try_shared(&path, 0)? } else { locks::try_exclusive(&path, 0)? };
        let Some(lock) = lock else { return Ok(None) };
        lease.uses(&word(name))?;
        lock
    };
    let note = || -> std::io::Result<()> {
        let mut file = lock.file();
        if file.metadata()?.len() == 0 {
            file.write_all(description.as_bytes())?;
        }
        file.set_modified(SystemTime::now())
    };
    note().with_context(|| format!("write {}", path.display()))?;
    Ok(Some(lock))
}

/// All of them.
pub fn all(store: &Store) -> Result<Vec<Cache>> {
    let leased: HashSet<String> = store.leased()?.into_iter().collect();
    let mut all = Vec::new();
    for name in store::read_dir(&dir(store, ""))? {
        // Whoever removes it meanwhile, there is nothing to tell of it.
        let Ok(meta) = fs::metadata(dir(store, &name)) else { continue };
        if !meta.is_dir() {
            continue;
        }
        let changed = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let noted = lock_path(store, &name);
        let used = fs::metadata(&noted).and_then(|meta| meta.modified()).unwrap_or(changed);
        all.push(Cache {
            description: fs::read_to_string(&noted).unwrap_or_default(),
            made: meta.created().unwrap_or(changed),
            used,
            in_use: leased.contains(&word(&name)),
            size: crate::fs::size::tree(&dir(store, &name))?,
            name,
        });
    }
    Ok(all)
}

/// Takes one away, with gc held exclusively; its files go with the lease. Whether it was there.
pub fn remove(store: &Store, lease: &Lease, name: &str) -> Result<bool> {
    let dir = dir(store, name);
    match fs::rename(&dir, lease.tmp()?.join(name)) {
        Ok(()) => store::remove(&lock_path(store, name)).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("remove {}", dir.display())),
    }
}
