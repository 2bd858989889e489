//! Files that a later entry of the same tar displaces: the recipe still needs what was in them.

use super::stat::is_file;
use super::{path, recipe};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{FileStat, Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// The directory `kept/` of a layer that is being unpacked.
pub struct Kept {
    staging: OwnedFd,
    /// How many files of a path were displaced.
    counts: HashMap<Vec<u8>, u64>,
}

impl Kept {
    pub fn new(staging: OwnedFd) -> Kept {
        Kept { staging, counts: HashMap::new() }
    }

    /// Takes what is no directory out of the way; a regular file is kept.
    pub fn displace(&mut self, dir: &OwnedFd, dir_path: &[u8], name: &[u8], there: &FileStat) -> Result<()> {
        if !is_file(there) {
            return unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).context("replace what is there");
        }
        match mkdirat(&self.staging, "kept", Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error).context("make a directory for files that are displaced"),
        }
        let count = self.counts.entry(path::join(dir_path, name)).or_default();
        let to = format!("kept/{}", recipe::kept_name(&path::join(dir_path, name), *count));
        renameat(dir, name, &self.staging, to.as_str()).context("put the file aside that it displaces")?;
        *count += 1;
        Ok(())
    }
}
