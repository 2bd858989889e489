//! Files: openat2, syncfs, writeback, reflinks.

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

/// `sync_file_range(2)` SYNC_FILE_RANGE_WRITE: starts writing the range out and does not wait.
pub fn start_writeback(fd: BorrowedFd, offset: i64, length: i64) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) } as _).map(drop)
}

/// `ioctl(2)` FICLONE: `to` shares all blocks of `from`.
pub fn reflink(from: BorrowedFd, to: BorrowedFd) -> io::Result<()> {
    // SAFETY: the argument is a descriptor number.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) } as _).map(drop)
}

/// The file mode creation mask of this process, read without changing it where /proc tells (umask(2) can only swap).
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    // All bits masked is the safe answer: every mode is then set by hand.
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}

/// `copy_file_range(2)` from and to one offset; how much was copied.
pub fn copy_range(from: BorrowedFd, to: BorrowedFd, offset: i64, length: usize) -> io::Result<usize> {
    let (mut input, mut output) = (offset, offset);
    // SAFETY: the offsets outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_copy_file_range,
            from.as_raw_fd(),
            &mut input as *mut i64,
            to.as_raw_fd(),
            &mut output as *mut i64,
            length,
            0u32,
        )
    };
    check(result).map(|n| n as usize)
}
