//! PID 1's duties, for `--init`: reap what is orphaned, pass signals on, end as the one child ends.

use super::Prepared;
use crate::sys::process;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

/// Forks. The child returns and goes on to execute the command, in a foreground process group of its own; this
/// process stays as PID 1 and does not return.
pub fn stand_by(prepared: &Prepared) -> Result<(), Errno> {
    let mut before = SigSet::empty();
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
    // Not by clone3, which the default filter does not know how to allow.
    match process::fork().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))? {
        0 => {
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            // Without a terminal there is no foreground to take.
            let _ = nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpid());
            nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
        }
        child => watch_over(Pid::from_raw(child), prepared),
    }
}

fn watch_over(child: Pid, prepared: &Prepared) -> ! {
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
    let signals = SigSet::all();
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(child),
            Ok(signal) => drop(nix::sys::signal::kill(child, signal)),
            Err(_) => reap(child),
        }
    }
}

/// Takes every child that has ended; with the one that matters, ends.
fn reap(child: Pid) {
    loop {
        match nix::sys::wait::waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => process::exit_now(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => process::exit_now(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
