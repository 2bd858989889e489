//! Other stores of this host. When the last container of a store leaves that turned forwarding on, its table goes at once;
//! where another store's containers live by the forwarding, that one is the heir of what keeps others from being forwarded,
//! and of how to take it back.

use super::super::locks::{self, Lock};
use super::super::shim;
use super::super::store::Store;
use super::{firewall, lease};
use crate::net;
use crate::{cgroup, sys};
use anyhow::{Context, Result};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Which store it is, root and run directory, as the cgroup of its containers tells: whoever may write files, or tables of
/// nf_tables, is not to lead others to a store of his making, but who writes this is the host's own root.
const STORE: &CStr = c"trusted.dhow.store";

/// Tells others which store has the table. Without version 2 of cgroups nobody is told.
pub fn tell(store: &Store) {
    let value = [store.root.as_os_str(), store.run.as_os_str()].map(OsStr::as_bytes).join(&0);
    if let Some(cgroup) = shim::cgroup_root(store).and_then(|path| c_path(&path)) {
        let _ = sys::xattr::setxattr(&cgroup, STORE, &value);
    }
}

/// The store of a table, which has the name of its cgroup.
fn store_of(table: &str) -> Option<Store> {
    let mut value = vec![0; 2 * libc::PATH_MAX as usize];
    let length = sys::xattr::getxattr(&c_path(&cgroup::home()?.join(table))?, STORE, &mut value).ok()?;
    let mut paths = value[..length].split(|byte| *byte == 0).map(|path| OsStr::from_bytes(path).into());
    let (root, run) = (paths.next()?, paths.next()?);
    Some(Store { root, run })
        .filter(|store| paths.next().is_none() && store.is_there() && firewall::table(store) == table)
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().to_owned().into_vec()).ok()
}

/// Who else is on this host.
pub enum Others {
    /// No store that has containers; none gets any while the locks are held.
    Nobody(Vec<Lock>),
    /// One that has, with the lock of its table.
    Heir(Store, Lock),
    /// Tables of which is not known whose they are.
    Unknown,
    /// Somebody changes one of them just now.
    Busy,
}

/// Looks at the tables of other stores than the one of this table.
pub fn others(table: &str) -> Result<Others> {
    let (mut quiet, mut is_unknown) = (Vec::new(), false);
    for other in net::firewall::others(table).context("list the tables of nf_tables")? {
        let Some(store) = store_of(&other) else {
            is_unknown |= net::firewall::loaded(&other).context("ask nf_tables for a table")?.is_some();
            continue;
        };
        // Never waited for: it may wait for ours.
        let Some(lock) = locks::try_exclusive(&firewall::lock_path(&store), 0)? else { return Ok(Others::Busy) };
        if lease::any(&store)? && net::firewall::loaded(&other)?.is_some() {
            return Ok(Others::Heir(store, lock));
        }
        quiet.push(lock);
    }
    Ok(if is_unknown { Others::Unknown } else { Others::Nobody(quiet) })
}
