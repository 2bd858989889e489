//! Extended attributes by descriptor, and by a path that is followed (`/proc/self/fd/N` names what cannot be opened).

use super::check;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `fsetxattr(2)`.
pub fn fsetxattr(fd: BorrowedFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: name is NUL-terminated and value is valid for its length.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) } as _)
        .map(drop)
}

/// `setxattr(2)`: follows symbolic links.
pub fn setxattr(path: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated and value is valid for its length.
    check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) } as _).map(drop)
}

/// `getxattr(2)`: follows symbolic links. With an empty buffer it gives the value's length.
pub fn getxattr(path: &CStr, name: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: both strings are NUL-terminated and buffer is valid for its length.
    check(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as _)
        .map(|length| length as usize)
}

/// `listxattr(2)`: follows symbolic links. With an empty buffer it gives the list's length.
pub fn listxattr(path: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: path is NUL-terminated and buffer is valid for its length.
    check(unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as _)
        .map(|length| length as usize)
}
