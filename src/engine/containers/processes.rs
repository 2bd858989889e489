//! The processes of a container: those that its cgroup lists, or, where the host has no version 2, those that /proc tells.

use super::Now;
use crate::cgroup;
use crate::engine::record::{self, Live, Record};
use crate::engine::store::Store;
use crate::sys::tree::{self, Process};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// By their numbers on this host, in no order.
pub fn processes(store: &Store, now: &Now) -> Result<Vec<i32>> {
    if !now.live.cgroup.is_empty() {
        return cgroup::processes(Path::new(&now.live.cgroup));
    }
    let (init, shim) = (now.live.pid, now.live.shim);
    // A pid namespace of its own holds them all, and those of who shares it. In one that it shares, it is told by its
    // mounts, which it shares with nobody.
    let is_own = matches!(now.record.host_config.pid_mode.as_str(), "" | "private");
    let kind = if is_own { "pid" } else { "mnt" };
    let theirs = namespace(init, kind);
    let guests = if is_own { guests(store)? } else { Vec::new() };
    let all = tree::all();
    let session = all.iter().find(|process| process.pid == shim).map(|shim| shim.session);
    // What lost its parent among the host's is the shim's child; those that this started itself stay in its session.
    let is_orphan = |it: &Process| !is_own && it.parent == shim && Some(it.session) != session;
    let is_theirs =
        |it: &&Process| it.pid == init || is_orphan(it) || theirs.is_some() && namespace(it.pid, kind) == theirs;
    // Who went on to a namespace of his own is a child of one of these, or of one that is.
    let mut found = tree::with_descendants(all.iter().filter(is_theirs).map(|process| process.pid).collect(), &all);
    found.retain(|pid| guests.is_empty() || !namespace(*pid, "mnt").is_some_and(|mounts| guests.contains(&mounts)));
    Ok(found)
}

fn namespace(pid: i32, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

/// The mounts of the containers that are in another one's pid namespace.
fn guests(store: &Store) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for id in record::ids(store)? {
        let is_guest = |record: &Record| record.host_config.pid_mode.starts_with("container:");
        if Record::load(store, &id).ok().flatten().as_ref().is_some_and(is_guest) {
            found.extend(namespace(Live::load(store, &id)?.pid, "mnt"));
        }
    }
    Ok(found)
}
