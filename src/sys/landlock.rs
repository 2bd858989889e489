//! Landlock: a thread gives up what it may do to files, but for some directories.
//! Sources: landlock(7), linux/landlock.h.

use super::check;
use super::process;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const EXECUTE: u64 = 1 << 0;
/// Write, read, list, remove, and make whatever there is: rights of the first version.
const FIRST: u64 = (1 << 13) - 1;
/// Since the second version, without which nothing can be linked or moved from one directory to another.
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;
/// To bind and to connect, since the fourth version.
const TCP: u64 = 0b11;
/// Abstract unix sockets of others, since the sixth.
const ABSTRACT: u64 = 1;

/// `struct landlock_ruleset_attr`
#[repr(C)]
struct Handled {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

/// The version that the kernel has; `None` where it has none, or one that allows no links (before 5.19).
pub fn version() -> Option<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag there is no structure.
    let version =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) });
    version.ok().map(|version| version as u32).filter(|version| *version >= 2)
}

/// From now on this thread, and whom it starts, may touch files below these directories only, execute none, and reach
/// nobody by TCP; what it has open stays as it is.
pub fn confine(version: u32, beneath: &[BorrowedFd]) -> io::Result<()> {
    let since = |first: u32, rights: u64| if version >= first { rights } else { 0 };
    let files = FIRST | since(2, REFER) | since(3, TRUNCATE) | since(5, IOCTL_DEVICE);
    let handled = Handled { files, network: since(4, TCP), scoped: since(6, ABSTRACT) };
    // An older kernel takes a shorter structure.
    let size = match version {
        ..4 => 8usize,
        4..6 => 16,
        _ => 24,
    };
    // SAFETY: the structure is at least `size` bytes, and outlives the call.
    let ruleset =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &handled as *const Handled, size, 0u32) })?;
    // SAFETY: a new descriptor that nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as _) };
    for directory in beneath {
        let rule = Beneath { allowed: files & !(EXECUTE | IOCTL_DEVICE), parent: directory.as_raw_fd() };
        const PATH_BENEATH: i32 = 1;
        // SAFETY: the structure is the one of this kind of rule, and outlives the call.
        check(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &rule as *const Beneath, 0u32)
        })?;
    }
    process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) }).map(drop)
}
