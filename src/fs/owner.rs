//! Who makes files.

use crate::oci::runtime::{IdMapping, Ids, outside};
use crate::sys::process;
use anyhow::{Context, Result};

/// What this thread makes from here on is of the root of a user namespace with this map: where only its ids are, nobody
/// else can make anything. The thread keeps its capabilities, and is good for nothing else any more.
pub fn make_as_root_of(ids: &Ids) -> Result<()> {
    let root = |map: &[IdMapping]| outside(map, 0).context("the user namespace has no root");
    let (uid, gid) = (root(&ids.uids)?, root(&ids.gids)?);
    // Which takes away what is needed for others' files.
    process::set_file_owner(uid, gid);
    let (_, permitted, inheritable) = process::capget().context("ask for capabilities")?;
    process::capset(permitted, permitted, inheritable).context("keep capabilities")
}
