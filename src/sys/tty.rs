//! Terminals.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `ioctl(TIOCGWINSZ)`: rows and columns.
pub fn window_size(fd: BorrowedFd) -> io::Result<(u16, u16)> {
    // SAFETY: winsize is plain integers.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one winsize there.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size) }.into())?;
    Ok((size.ws_row, size.ws_col))
}
