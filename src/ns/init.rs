//! PID 1's duties, for `--init`: reap what is orphaned, pass signals on, end as the one child ends.

use super::Prepared;
use crate::sys::process;
use crate::sys::signals::{self, Signals};
use nix::errno::Errno;
use nix::unistd::Pid;

/// Forks. The child returns and goes on to execute the command, in a foreground process group of its own; this
/// process stays as PID 1 and does not return.
pub fn stand_by(prepared: &Prepared) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN));
    let before = signals::block(Signals::ALL).map_err(errno)?;
    // Not by clone3, which the default filter does not know how to allow.
    match process::fork().map_err(errno)? {
        0 => {
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            // Without a terminal there is no foreground to take.
            let _ = nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpid());
            signals::set_blocked(before).map_err(errno)
        }
        child => watch_over(child, prepared),
    }
}

fn watch_over(child: i32, prepared: &Prepared) -> ! {
    // Executing would have taken these away: the pipe whose end says "executed", and capabilities that only
    // loading the filter needed. To signal a child that changed its user takes CAP_KILL.
    use std::os::fd::AsRawFd;
    let _ = nix::unistd::close(prepared.report.as_raw_fd());
    let _ = nix::unistd::close(prepared.go.as_raw_fd());
    let _ = nix::sys::prctl::set_name(c"dhow-init");
    let kill = process::capget().map_or(0, |(_, permitted, _)| permitted & (1 << 5));
    if process::capset(kill, kill, 0).is_err() {
        process::exit_now(super::walk::REPORTED);
    }
    loop {
        match signals::wait(Signals::ALL) {
            Ok(libc::SIGCHLD) | Err(_) => reap(child),
            Ok(signal) => drop(signals::send(child, signal)),
        }
    }
}

/// Takes every child that has ended; with the one that matters, ends.
fn reap(child: i32) {
    while let Ok(Some((pid, code))) = process::ended(None, false) {
        if pid == child {
            process::exit_now(code);
        }
    }
}
