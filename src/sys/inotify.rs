//! inotify(7).

use super::check;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `inotify_init1(2)`, not blocking and closed on exec.
pub fn init() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) }.into())?;
    // SAFETY: a non-negative result is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as _) })
}

/// `inotify_add_watch(2)`. `mask` is a set of `libc::IN_*`; gives the watch's number.
pub fn watch(inotify: BorrowedFd, path: &CStr, mask: u32) -> io::Result<i32> {
    // SAFETY: path is NUL-terminated.
    let watch = check(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask) }.into())?;
    Ok(watch as i32)
}
