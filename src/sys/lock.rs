//! Open-file-description locks (fcntl_locking(2)): they belong to the open file, not to the process, so they are
//! inherited by fork and kept over execve, and they end when the last descriptor of that open file is closed.

use super::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

fn region(kind: libc::c_int, byte: i64) -> libc::flock {
    // SAFETY: flock is plain integers, for which all zeroes is a value.
    let mut region: libc::flock = unsafe { std::mem::zeroed() };
    region.l_type = kind as _;
    region.l_whence = libc::SEEK_SET as _;
    region.l_start = byte;
    region.l_len = 1;
    region
}

fn fcntl(file: impl AsFd, command: libc::c_int, region: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open and `region` is a valid flock for the length of the call.
    check(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, region as *mut libc::flock) } as _).map(drop)
}

/// Takes the write lock of one byte; `WouldBlock` where another open file holds it.
pub fn try_lock(file: impl AsFd, byte: i64) -> io::Result<()> {
    fcntl(file, libc::F_OFD_SETLK, &mut region(libc::F_WRLCK, byte))
}

/// Takes the read lock of one byte; `WouldBlock` where another open file has it to write.
pub fn try_lock_shared(file: impl AsFd, byte: i64) -> io::Result<()> {
    fcntl(file, libc::F_OFD_SETLK, &mut region(libc::F_RDLCK, byte))
}

/// Takes the write lock of one byte, waiting for it.
pub fn lock(file: impl AsFd, byte: i64) -> io::Result<()> {
    retry(|| fcntl(&file, libc::F_OFD_SETLKW, &mut region(libc::F_WRLCK, byte)))
}

/// Takes the read lock of one byte, waiting for it.
pub fn lock_shared(file: impl AsFd, byte: i64) -> io::Result<()> {
    retry(|| fcntl(&file, libc::F_OFD_SETLKW, &mut region(libc::F_RDLCK, byte)))
}

/// Gives one byte back.
pub fn unlock(file: impl AsFd, byte: i64) -> io::Result<()> {
    fcntl(file, libc::F_OFD_SETLK, &mut region(libc::F_UNLCK, byte))
}

/// Whether another open file holds the byte, asked without taking it.
pub fn is_held(file: impl AsFd, byte: i64) -> io::Result<bool> {
    let mut asked = region(libc::F_WRLCK, byte);
    fcntl(file, libc::F_OFD_GETLK, &mut asked)?;
    Ok(asked.l_type != libc::F_UNLCK as libc::c_short)
}

fn retry(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => return other,
        }
    }
}
