//! Signals by number, 1 to 64, asked of the kernel itself: nix has no names for the real-time ones, and the C library
//! keeps the first of them for itself.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What the kernel's `sigset_t` takes, in bytes.
const SIZE: usize = size_of::<u64>();

/// A set of signals as the kernel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals(u64);

impl Signals {
    pub const ALL: Signals = Signals(u64::MAX);

    pub fn of(numbers: impl IntoIterator<Item = i32>) -> Signals {
        let bit = |number: i32| if (1..=64).contains(&number) { 1 << (number - 1) } else { 0 };
        Signals(numbers.into_iter().fold(0, |set, number| set | bit(number)))
    }
}

/// Blocks these signals in this thread besides those that are blocked; gives what was blocked before
/// (rt_sigprocmask(2)).
pub fn block(signals: Signals) -> io::Result<Signals> {
    let mut before = Signals::default();
    // SAFETY: both sets are as long as said.
    check(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &signals.0, &mut before.0, SIZE) })?;
    Ok(before)
}

/// Blocks just these signals in this thread.
pub fn set_blocked(signals: Signals) -> io::Result<()> {
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the set is as long as said, and the old one is not asked for.
    check(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &signals.0, none, SIZE) }).map(drop)
}

/// Waits for one of these blocked signals and takes it (rt_sigtimedwait(2) without a timeout).
pub fn wait(signals: Signals) -> io::Result<i32> {
    let (info, timeout) = (std::ptr::null_mut::<libc::siginfo_t>(), std::ptr::null::<libc::timespec>());
    // SAFETY: the set is as long as said; neither particulars nor a timeout are given.
    check(unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &signals.0, info, timeout, SIZE) })
        .map(|number| number as i32)
}

/// A descriptor from which these blocked signals can be read (signalfd4(2)); reading it does not block.
pub fn descriptor(signals: Signals) -> io::Result<OwnedFd> {
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: the set is as long as said; a non-negative result is a new descriptor.
    check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &signals.0, SIZE, flags) })
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd as _) })
}

/// The number of the next signal at a [`descriptor`]; `None` where none is waiting.
pub fn read(fd: BorrowedFd) -> io::Result<Option<i32>> {
    // SAFETY: signalfd_siginfo is plain integers.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel stores whole records only, and one has room.
    match check(unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size_of_val(&info)) } as _) {
        Ok(_) => Ok(Some(info.ssi_signo as i32)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a signal to a process (kill(2)).
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_kill, pid, signal) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn every_number_has_its_bit() {
        for (numbers, set) in [(&[1][..], 1), (&[64], 1 << 63), (&[2, 34], 1 << 1 | 1 << 33), (&[0, 65, -1], 0)] {
            assert_eq!(Signals::of(numbers.iter().copied()), Signals(set), "{numbers:?}");
        }
    }

    #[test]
    fn the_first_real_time_signal_is_read_too() {
        for number in [libc::SIGUSR1, 34, 64] {
            let signals = Signals::of([number]);
            let before = block(signals).unwrap();
            let fd = descriptor(signals).unwrap();
            assert_eq!(read(fd.as_fd()).unwrap(), None);
            // SAFETY: a signal for this thread, which blocks it.
            unsafe { libc::syscall(libc::SYS_tkill, libc::syscall(libc::SYS_gettid), number) };
            assert_eq!(read(fd.as_fd()).unwrap(), Some(number));
            set_blocked(before).unwrap();
        }
    }
}
