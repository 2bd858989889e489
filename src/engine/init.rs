//! The init of `--init` as a program of its own, for containers with an SELinux label: a process gets its label by what it
//! executes, and few policies let anybody change his own.

use super::selinux::{self, Support};
use super::store::Store;
use crate::fs::relabel;
use anyhow::{Context, Result};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

pub use crate::ns::init::PLACE;

/// Its file, a copy of this executable with a label that containers may execute. One of another version is replaced: what
/// both make of their arguments is the same.
pub fn program(store: &Store) -> Result<PathBuf> {
    let place = store.root.join("docker-init");
    copy(store, &place).with_context(|| format!("make {}", place.display()))?;
    Ok(place)
}

fn copy(store: &Store, place: &PathBuf) -> Result<()> {
    let label = |path: &PathBuf| match selinux::support(None) {
        Support::All(contexts) => relabel::once(path, &contexts.layers),
        _ => Ok(()),
    };
    let mut ours = File::open("/proc/self/exe").context("open this executable")?;
    let about = ours.metadata()?;
    let (size, time) = (about.len(), about.modified()?);
    if fs::metadata(place).is_ok_and(|it| it.len() == size && it.modified().is_ok_and(|modified| modified == time)) {
        return label(place);
    }
    let lease = store.lease()?;
    let made = lease.tmp()?.join("docker-init");
    let mut file = File::create(&made)?;
    std::io::copy(&mut ours, &mut file)?;
    file.set_permissions(Permissions::from_mode(0o755))?;
    file.set_modified(time)?;
    label(&made)?;
    file.sync_all()?;
    // Nobody may execute what somebody has open to write.
    drop(file);
    fs::rename(&made, place).context("put it into its place")
}
