//! Removal: one rename takes a container away, the rest is cleared behind it.

use super::names::release_name;
use super::wait::exited;
use super::{Doing, Until, find, is_not_found, no_such, now, signal, sync_dir, wait};
use crate::api::Refusal;
use crate::cgroup;
use crate::engine::locks::{self, byte};
use crate::engine::protocol::{self, Message, Op};
use crate::engine::record::{Live, Record};
use crate::engine::shim::{self, Whose};
use crate::engine::store::{self, Store};
use crate::engine::{events, networks, quota, selinux, volumes};
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Removes a container; a running one only with `force`.
pub fn remove(store: &Store, name: &str, force: bool, volumes: bool) -> Result<()> {
    let id = &*find(store, name)?;
    let live = store.live(id);
    store::make_dirs(&live, 0o711)?;
    let Some(_lock) = locks::try_exclusive(&live.join("lock"), byte::REMOVAL)? else {
        bail!(Refusal::Conflict(format!("removal of container {name} is already in progress")));
    };
    match remove_alone(store, id, force, volumes) {
        // Whoever was before us has done it.
        Err(error) if is_not_found(&error) => forget(store, id)?,
        removed => removed.with_context(|| format!("cannot remove container {name:?}"))?,
    }
    rest(store);
    Ok(())
}

/// Takes away what all containers of a store share, where there is none any more.
pub fn rest(store: &Store) {
    shim::leave_cgroups(store);
    networks::rest(store);
}

/// Removes a container of many: [`rest`] follows the last.
pub fn remove_alone(store: &Store, id: &str, force: bool, volumes: bool) -> Result<()> {
    if force && Record::load(store, id).is_err() {
        return discard(store, id);
    }
    // Once it was killed, its own shim may remove it, with --rm: then it is gone as was asked.
    let mut killed = false;
    for attempt in 0..super::TRIES {
        let now = match now(store, id) {
            Err(error) if killed && is_not_found(&error) => return Ok(()),
            other => other?,
        };
        if now.doing.goes_on() {
            match now.doing {
                _ if force => {}
                Doing::Paused => {
                    bail!(Refusal::Conflict("container is paused and must be unpaused first".to_owned()))
                }
                doing => bail!(Refusal::Conflict(format!(
                    "container is {}: stop the container before removing or force remove",
                    doing.word()
                ))),
            }
            match kill_and_wait(store, id) {
                Err(error) if is_not_found(&error) => return Ok(()),
                other => other.context("could not kill container")?,
            }
            killed = true;
            continue;
        }
        // With its shim's lock in hand nobody can start it.
        store::make_dirs(&store.live(id), 0o711)?;
        let Some(_lock) = locks::try_exclusive(&store.live(id).join("lock"), byte::SHIM)? else {
            dismiss(store, id, attempt, force)?;
            killed |= force;
            continue;
        };
        // Whoever held the lock before may have removed it.
        let Some(record) = Record::load(store, id)? else {
            forget(store, id)?;
            return if killed { Ok(()) } else { Err(no_such(id)) };
        };
        return remove_stopped(store, &record, volumes);
    }
    bail!("container {id} does not come to rest")
}

/// Removes a container whose record cannot be read. What it says of volumes and of the name is lost: the name is void.
fn discard(store: &Store, id: &str) -> Result<()> {
    let known = Live::load(store, id).map(|live| live.cgroup).unwrap_or_default();
    let known = Some(PathBuf::from(known)).filter(|path| !path.as_os_str().is_empty());
    if let Some(cgroup) = known.or_else(|| shim::cgroup_of(store, id, "")) {
        cgroup::kill(&cgroup)?;
        cgroup::remove(&cgroup)?;
    }
    bury(store, &store.container(id))?;
    networks::leave(store, id)?;
    forget(store, id)
}

/// A shim that only waits for a start is no reason to keep a container; one that reaps is waited for. So is a start, unless
/// the removal is forced: hooks may take long for it.
fn dismiss(store: &Store, id: &str, attempt: usize, force: bool) -> Result<()> {
    if let Some(mut stream) = shim::connect(store, &Whose::container(id))? {
        let signal = if force { libc::SIGKILL } else { 0 };
        let _ = protocol::send(&mut stream, Message::new(Op::Stop, signal, 0), &[]);
        let _ = exited(&mut stream);
    }
    // Most are at their very end.
    std::thread::sleep(std::time::Duration::from_micros(100 << attempt.min(4)));
    Ok(())
}

fn kill_and_wait(store: &Store, id: &str) -> Result<()> {
    let wait = wait(store, id, Until::NotRunning)?;
    match signal(store, id, libc::SIGKILL) {
        Err(error) if !matches!(error.downcast_ref(), Some(Refusal::Conflict(_))) => return Err(error),
        _ => {}
    }
    wait.finish_killed(store)
}

/// What is left of a removed container on disk: out of every list and every name, and yet to be deleted. Dropping it does
/// that too, with nobody to tell of an error: what stays is cleared by the next command.
#[must_use]
pub struct Grave {
    path: PathBuf,
    /// Keeps the place ours until it is empty.
    lease: Option<store::Lease>,
}

impl Grave {
    pub fn clear(self) -> Result<()> {
        crate::fs::remove::tree(&self.path)
    }

    /// Clears it and makes ready what the next container begins with, where nobody waits for that.
    pub fn clear_and_prepare(self) -> Result<()> {
        crate::fs::remove::tree(&self.path)?;
        self.lease.map_or(Ok(()), |lease| lease.prepare())
    }
}

/// Removes a container that does not run, whose shim's lock the caller holds.
pub fn remove_stopped(store: &Store, record: &Record, volumes: bool) -> Result<()> {
    take_away(store, record, volumes)?.clear()
}

/// The same but for the deleting.
pub fn take_away(store: &Store, record: &Record, volumes: bool) -> Result<Grave> {
    let id = &record.id;
    crate::failpoint::reach("rm.start");
    // The record goes with the directory, in one rename: before it, the container is there; after it, it is not.
    let place = store.container(id);
    let (lease, path) = match store.lease() {
        Ok(lease) => {
            let grave = lease.grave();
            (Some(lease), grave)
        }
        // A full disk has no room for a grave: it goes where it stands, the record first.
        Err(error) if store::is_full(&error) => (None, place.clone()),
        Err(error) => return Err(error),
    };
    if record.host_config.auto_remove || lease.is_none() {
        store::remove(&record.path(store))?;
    }
    crate::failpoint::reach("rm.unrecorded");
    match std::fs::rename(&place, &path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove container {}", record.name)),
    }
    // Not before: one that is still there, because we were killed, is still limited.
    quota::release(record, &path);
    let grave = Grave { path, lease };
    crate::failpoint::reach("rm.renamed");
    if !record.host_config.auto_remove {
        sync_dir(&store.containers())?;
    }
    release_name(store, &record.name, id)?;
    selinux::release(store, id, &record.process_label)?;
    if volumes {
        for mounted in record.mounts.iter().filter(|mounted| mounted.anonymous) {
            // One that another container uses by now stays.
            let _ = volumes::remove(store, &mounted.point.name, false);
        }
    }
    if let Some(cgroup) = shim::cgroup_of(store, id, &record.host_config.cgroup_parent) {
        cgroup::remove(&cgroup)?;
    }
    networks::leave(store, id)?;
    forget(store, id)?;
    events::container(store, record, "destroy", &[]);
    Ok(grave)
}

/// Removes the run directory of a container that is gone. Its lock goes last: a sweep asks the lock whether what it finds
/// there is anybody's, so nothing may be there without one.
pub fn forget(store: &Store, id: &str) -> Result<()> {
    let live = store.live(id);
    let entries = match std::fs::read_dir(&live) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("list {}", live.display()))?,
    };
    for entry in entries.flatten().filter(|entry| entry.file_name() != "lock") {
        store::remove(&entry.path())?;
    }
    crate::failpoint::reach("rm.unlived");
    store::remove(&live)
}

/// Moves a tree out of the way at once, and deletes it then.
pub(super) fn bury(store: &Store, path: &Path) -> Result<()> {
    let lease = store.lease()?;
    let grave = lease.grave();
    match std::fs::rename(path, &grave) {
        Ok(()) => crate::fs::remove::tree(&grave),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}
