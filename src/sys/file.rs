//! Files: openat2, syncfs.

use super::check;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `openat2(2)`. `resolve` is a set of `libc::RESOLVE_*`.
pub fn openat2(dir: BorrowedFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain integers; the struct may grow, so it is zeroed and filled by name.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode as u64;
    how.resolve = resolve;
    loop {
        // SAFETY: path is NUL-terminated and `how` outlives the call; the size is that of `how`.
        let result = unsafe {
            libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), &how as *const _, size_of_val(&how))
        };
        match check(result) {
            // SAFETY: a non-negative result is a new descriptor that nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as _) }),
            // EAGAIN: a rename or mount raced with the resolution; the manual page says to try again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => continue,
            Err(error) => return Err(error),
        }
    }
}

/// `syncfs(2)`: writes out everything of the file system that holds `fd`.
pub fn syncfs(fd: BorrowedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    check(unsafe { libc::syncfs(fd.as_raw_fd()) } as _).map(drop)
}
