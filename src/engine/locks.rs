//! Locks that several processes share: open-file-description locks on files of the run directory.
//!
//! Lock order: gc → name → image reference → container → volume → network → firewall → layer; never upward.
//! None is held across the network, an unpack or a wait for an exit.

use crate::sys::lock;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a container's (or an exec's) lock file. They are asked with [`Held::of`], without being taken.
pub mod byte {
    /// A shim lives: held from before it is executed until it has ended.
    pub const SHIM: i64 = 0;
    /// Init has started and its end is not yet on record.
    pub const INIT: i64 = 1;
    /// Between an exit and the restart that the policy asks for.
    pub const RESTARTING: i64 = 2;
    /// The record is being read, changed and written.
    pub const RECORD: i64 = 3;
    /// Somebody has mounted the container's root for writing, or looks whether it may: a start until its init is
    /// inside, and a copy into a container that does not run.
    pub const ROOT: i64 = 4;
    /// It is being brought to a network or taken away from one.
    pub const NETWORKS: i64 = 5;
    /// Somebody has asked for its removal, and waits for it.
    pub const REMOVAL: i64 = 6;
    /// It is being paused, or goes on after that.
    pub const PAUSE: i64 = 7;
}

/// A lock that is held until this value is dropped.
pub struct Lock(File);

/// Opens (and makes, where missing) a lock file.
pub fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).with_context(|| format!("open lock {}", path.display()))
}

/// Opens a lock file that is there already.
pub fn open_existing(path: &Path) -> Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("open lock {}", path.display())),
    }
}

/// Waits for the exclusive lock of one byte of a file.
pub fn exclusive(path: &Path, byte: i64) -> Result<Lock> {
    let file = open(path)?;
    lock::lock(&file, byte).with_context(|| format!("lock {}", path.display()))?;
    Ok(Lock(file))
}

/// Waits for the shared lock of one byte of a file.
pub fn shared(path: &Path, byte: i64) -> Result<Lock> {
    let file = open(path)?;
    lock::lock_shared(&file, byte).with_context(|| format!("lock {}", path.display()))?;
    Ok(Lock(file))
}

/// Takes the exclusive lock of one byte; `None` where somebody holds it.
pub fn try_exclusive(path: &Path, byte: i64) -> Result<Option<Lock>> {
    attempt(path, |file| lock::try_lock(file, byte))
}

/// Takes the shared lock of one byte; `None` where somebody holds it for himself alone.
pub fn try_shared(path: &Path, byte: i64) -> Result<Option<Lock>> {
    attempt(path, |file| lock::try_lock_shared(file, byte))
}

fn attempt(path: &Path, take: impl FnOnce(&File) -> std::io::Result<()>) -> Result<Option<Lock>> {
    let file = open(path)?;
    match take(&file) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// What came of taking the lock of a file that may not be there.
pub enum Existing {
    Missing,
    Held,
    Taken(Lock),
}

/// Takes the exclusive lock of one byte, and makes no file.
pub fn existing(path: &Path, byte: i64) -> Result<Existing> {
    let Some(file) = open_existing(path)? else { return Ok(Existing::Missing) };
    match lock::try_lock(&file, byte) {
        Ok(()) => Ok(Existing::Taken(Lock(file))),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(Existing::Held),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

impl Lock {
    /// The locked file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

/// Who holds which byte of a container's lock file at this moment.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Held {
    pub shim: bool,
    pub init: bool,
    pub restarting: bool,
}

impl Held {
    /// Asks; a missing file means that nobody holds anything.
    pub fn of(path: &Path) -> Result<Held> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Held::default()),
            Err(error) => return Err(error).with_context(|| format!("open lock {}", path.display())),
        };
        let ask = |byte| lock::is_held(&file, byte).with_context(|| format!("ask lock {}", path.display()));
        // The shim's byte last: init's implies it, so that a shim that ends meanwhile is seen as ended.
        let (restarting, init) = (ask(byte::RESTARTING)?, ask(byte::INIT)?);
        Ok(Held { restarting, init, shim: ask(byte::SHIM)? })
    }
}
