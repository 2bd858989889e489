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

/// To execute, to read and to list.
const LOOK: u64 = EXECUTE | 1 << 2 | 1 << 3;
/// What a rule for a file may grant: to execute, to write, to read, and the later ones but linking.
const OF_FILES: u64 = EXECUTE | 1 << 1 | 1 << 2 | TRUNCATE | IOCTL_DEVICE;

/// From now on this thread, and whom it starts, may touch files below these directories only, execute none, and reach
/// nobody by TCP; what it has open stays as it is.
pub fn confine(version: u32, beneath: &[BorrowedFd]) -> io::Result<()> {
    let files = every(version);
    let handled = Handled { files, network: since(version, 4, TCP), scoped: since(version, 6, ABSTRACT) };
    restrict(version, &handled, beneath, files & !(EXECUTE | IOCTL_DEVICE))
}

/// From now on this thread, and whom it starts, may change files below these directories, and these files, only.
pub fn confine_writing(version: u32, beneath: &[BorrowedFd]) -> io::Result<()> {
    let files = every(version) & !LOOK;
    restrict(version, &Handled { files, network: 0, scoped: 0 }, beneath, files & !IOCTL_DEVICE)
}

fn since(version: u32, first: u32, rights: u64) -> u64 {
    if version >= first { rights } else { 0 }
}

/// All that a kernel of this version knows of files.
fn every(version: u32) -> u64 {
    FIRST | since(version, 2, REFER) | since(version, 3, TRUNCATE) | since(version, 5, IOCTL_DEVICE)
}

fn restrict(version: u32, handled: &Handled, beneath: &[BorrowedFd], allowed: u64) -> io::Result<()> {
    // An older kernel takes a shorter structure.
    let size = match version {
        ..4 => 8usize,
        4..6 => 16,
        _ => 24,
    };
    // SAFETY: the structure is at least `size` bytes, and outlives the call.
    let ruleset =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, handled as *const Handled, size, 0u32) })?;
    // SAFETY: a new descriptor that nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as _) };
    for place in beneath {
        let stat = nix::sys::stat::fstat(place)?;
        let directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let allowed = if directory { allowed } else { allowed & OF_FILES };
        let rule = Beneath { allowed, parent: place.as_raw_fd() };
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
