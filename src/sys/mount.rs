//! The mount calls of Linux 5.2 and later: detached mounts, built by descriptor.

use super::check;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    // SAFETY: a non-negative result of the calls below is a new descriptor that nobody else owns.
    check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as _) })
}

pub const OPEN_TREE_CLONE: u32 = 1;
pub const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
pub const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
pub const AT_RECURSIVE: u32 = 0x8000;
pub const MOUNT_ATTR_RDONLY: u64 = 1;
pub const MOUNT_ATTR_NOSUID: u64 = 2;
pub const MOUNT_ATTR_NODEV: u64 = 4;
pub const MOUNT_ATTR_NOEXEC: u64 = 8;
/// The ids of its files are those of a user namespace (5.12).
pub const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// `open_tree(2)`.
pub fn open_tree(dir: BorrowedFd, path: &CStr, flags: u32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC as u32;
    // SAFETY: path is NUL-terminated.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// `move_mount(2)` of the detached mount `from` onto `path` below `to` (empty: onto `to` itself).
pub fn move_mount(from: BorrowedFd, to: BorrowedFd, path: &CStr) -> io::Result<()> {
    let mut flags = MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MOVE_MOUNT_T_EMPTY_PATH;
    }
    // SAFETY: both paths are NUL-terminated.
    check(unsafe {
        libc::syscall(libc::SYS_move_mount, from.as_raw_fd(), c"".as_ptr(), to.as_raw_fd(), path.as_ptr(), flags)
    })
    .map(drop)
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Default, Clone, Copy, Debug, PartialEq)]
pub struct MountAttr {
    pub attr_set: u64,
    pub attr_clr: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

/// `mount_setattr(2)` on the mount `fd` itself; `recursive` for all mounts below too.
pub fn mount_setattr(fd: BorrowedFd, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: attr is a mount_attr of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr as *const MountAttr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// `fsopen(2)`.
pub fn fsopen(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: kind is NUL-terminated. 1 is FSOPEN_CLOEXEC.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1u32) })
}

/// `fsconfig(2)` FSCONFIG_SET_STRING.
pub fn fsconfig_string(context: BorrowedFd, key: &CStr, value: &CStr) -> io::Result<()> {
    // SAFETY: key and value are NUL-terminated.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 1u32, key.as_ptr(), value.as_ptr(), 0) })
        .map(drop)
}

/// `fsconfig(2)` FSCONFIG_SET_FLAG.
pub fn fsconfig_flag(context: BorrowedFd, key: &CStr) -> io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: key is NUL-terminated; a flag has no value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 0u32, key.as_ptr(), none, 0) }).map(drop)
}

/// `fsconfig(2)` FSCONFIG_CMD_CREATE.
pub fn fsconfig_create(context: BorrowedFd) -> io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), 6u32, none, none, 0) }).map(drop)
}

/// `fsmount(2)`; `attributes` is a set of `MOUNT_ATTR_*`.
pub fn fsmount(context: BorrowedFd, attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: integers only. 1 is FSMOUNT_CLOEXEC.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1u32, attributes as u32) })
}

/// `pivot_root(2)`.
pub fn pivot_root(new: &CStr, old: &CStr) -> io::Result<()> {
    // SAFETY: both are NUL-terminated.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) }).map(drop)
}
