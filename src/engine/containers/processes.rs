//! The processes of a container: those that its cgroup lists, or, where the host has no version 2, those that /proc tells.

use super::Now;
use crate::cgroup;
use crate::engine::record::{self, Live, Record};
use crate::engine::store::Store;
use crate::sys::tree;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// By their numbers on this host, in no order.
pub fn processes(store: &Store, now: &Now) -> Result<Vec<i32>> {
    if !now.live.cgroup.is_empty() {
        return cgroup::processes(Path::new(&now.live.cgroup));
    }
    let init = now.live.pid;
    // A pid namespace of its own holds them all, and those of who shares it. In one that it shares, it is told by its
    // mounts, which it shares with nobody.
    let is_own = matches!(now.record.host_config.pid_mode.as_str(), "" | "private");
    let kind = if is_own { "pid" } else { "mnt" };
    let theirs = namespace(init, kind);
    let guests = if is_own { guests(store)? } else { Vec::new() };
    let all = tree::all();
    let is_theirs = |pid: &i32| *pid == init || theirs.is_some() && namespace(*pid, kind) == theirs;
    let seeds = all.iter().map(|process| process.pid).filter(is_theirs).collect();
    // Who went on to a namespace of his own is a child of one of these, or of one that is.
    let mut found = tree::with_descendants(seeds, &all);
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
