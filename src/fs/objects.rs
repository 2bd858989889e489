//! What an entry of a tar says of a file besides its content: kind, owner, mode, attributes, times.

use super::header::{Entry, Kind, Time};
use super::xattr;
use crate::sys::{file, kernel};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, getegid, geteuid};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Whose what is made here is at first, and the bits that it lacks.
pub struct Maker {
    uid: u32,
    gid: u32,
    umask: u32,
}

impl Maker {
    pub fn this_process() -> Maker {
        Maker { uid: geteuid().as_raw(), gid: getegid().as_raw(), umask: file::umask() }
    }

    fn owns(&self, entry: &Entry) -> bool {
        entry.uid == self.uid && entry.gid == self.gid
    }

    /// Whether a mode must be set by hand.
    fn masks(&self, entry: &Entry) -> bool {
        entry.mode & (self.umask | 0o7000) != 0
    }
}

/// Kind and number of a device or a FIFO.
pub fn device(entry: &Entry) -> Result<(SFlag, u64)> {
    let kind = match entry.kind {
        Kind::Char => SFlag::S_IFCHR,
        Kind::Block => SFlag::S_IFBLK,
        _ => SFlag::S_IFIFO,
    };
    let (major, minor) = entry.device;
    if entry.kind != Kind::Fifo && (major, minor) == (0, 0) {
        bail!("it is the device 0:0, which overlay takes for a whiteout");
    }
    // What the kernel's own numbers can hold (12 and 20 bits).
    if major > 0xfff || minor > 0xfffff {
        bail!("its device number {major}:{minor} is too large");
    }
    Ok((kind, libc::makedev(major as u32, minor as u32)))
}

/// What came of giving something to its owner. Where there is but one id, all stays that one's.
pub fn owned(given: nix::Result<()>) -> Result<()> {
    match given {
        Err(Errno::EINVAL) if kernel::is_single_id() => Ok(()),
        Err(Errno::EINVAL) if !kernel::is_first_user_namespace() => {
            bail!("chown it: this user has too few ids in /etc/subuid and /etc/subgid")
        }
        other => other.context("chown it"),
    }
}

/// Whether a device could not be made because of the user namespace that this is done in.
pub fn is_forbidden(error: &anyhow::Error, kind: SFlag) -> bool {
    kind != SFlag::S_IFIFO && !kernel::is_first_user_namespace() && error.downcast_ref::<Errno>() == Some(&Errno::EPERM)
}

/// Owner, mode, attributes and times of a regular file that was just made, and that all has been written to.
pub fn file_attributes(file: &File, entry: &Entry, maker: &Maker) -> Result<()> {
    if !maker.owns(entry) {
        owned(fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))))?;
    }
    if maker.masks(entry) {
        fchmod(file, Mode::from_bits_truncate(entry.mode)).context("chmod it")?;
    }
    // Attributes after chown and the last write: both take file capabilities away.
    for (attribute, value) in &entry.xattrs {
        xattr::set(file.as_fd(), attribute, value)?;
    }
    let (atime, mtime) = times(entry);
    futimens(file, &atime, &mtime).context("set its times")
}

/// The same of a directory, once all is in it.
pub fn directory_attributes(dir: &OwnedFd, entry: &Entry) -> Result<()> {
    owned(fchown(dir, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))))?;
    fchmod(dir, Mode::from_bits_truncate(entry.mode)).context("chmod it")?;
    for (name, value) in &entry.xattrs {
        xattr::set(dir.as_fd(), name, value)?;
    }
    let (atime, mtime) = times(entry);
    futimens(dir, &atime, &mtime).context("set its times")
}

/// The same of what is neither file nor directory, by its name: it was just made there.
pub fn attributes(parent: BorrowedFd, name: &[u8], entry: &Entry, maker: &Maker) -> Result<()> {
    if !maker.owns(entry) {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        owned(fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW))?;
    }
    if entry.kind != Kind::Symlink && maker.masks(entry) {
        let mode = Mode::from_bits_truncate(entry.mode);
        fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink).context("chmod it")?;
    }
    if !entry.xattrs.is_empty() {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty()).context("open it")?;
        for (attribute, value) in &entry.xattrs {
            xattr::set(fd.as_fd(), attribute, value)?;
        }
    }
    let (atime, mtime) = times(entry);
    utimensat(parent, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink).context("set its times")
}

/// Access and modification time; where the tar has no access time, both are the same.
fn times(entry: &Entry) -> (TimeSpec, TimeSpec) {
    let spec = |time: Time| TimeSpec::new(time.seconds, i64::from(time.nanos));
    (spec(entry.atime.unwrap_or(entry.mtime)), spec(entry.mtime))
}
