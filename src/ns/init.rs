//! PID 1's duties, for `--init`: reap what is orphaned, pass signals on, end as the one child ends.

use super::Prepared;
use super::{plan, walk};
use crate::sys::process;
use crate::sys::signals::{self, Signals};
use anyhow::Result;
use nix::errno::Errno;
use nix::unistd::Pid;

/// Where the program that does this is in a container, as Docker's.
pub const PLACE: &str = "/sbin/docker-init";

/// What it is called.
pub const NAME: &str = "docker-init";

/// Forks. The child returns and goes on to execute the command; this process stays as PID 1 and does not return.
pub fn stand_by(prepared: &Prepared, title: &[u8]) -> Result<(), Errno> {
    let Some(child) = fork()? else { return Ok(()) };
    // Executing would have taken the pipe away whose end says "executed".
    use std::os::fd::AsRawFd;
    let _ = nix::unistd::close(prepared.report.as_raw_fd());
    let _ = nix::unistd::close(prepared.go.as_raw_fd());
    let _ = nix::sys::prctl::set_name(c"docker-init");
    if let Some(arguments) = &prepared.arguments {
        process::retitle(arguments, title);
    }
    watch_over(child)
}

/// The arguments that Docker's init shows: its own place, and the command.
pub fn title(args: &[String]) -> Vec<u8> {
    let words = [PLACE, "--"].into_iter().chain(args.iter().map(String::as_str));
    words.flat_map(|word| word.bytes().chain([0])).collect()
}

/// The same as a program that was executed in the container: `docker-init [--] COMMAND [ARGUMENT…]`. Gives the exit code
/// where there is no such command.
pub fn main(args: &[String]) -> u8 {
    match started(args) {
        Ok(child) => watch_over(child),
        Err((name, error)) => {
            eprintln!("{NAME}: exec {name}: {}", error.desc());
            if error == Errno::ENOENT { 127 } else { 126 }
        }
    }
}

/// Forks; in the child, gives only the error of executing the command.
fn started(args: &[String]) -> Result<i32, (String, Errno)> {
    let args = args.strip_prefix(&["--".to_owned()][..]).unwrap_or(args);
    let name = args.first().cloned().unwrap_or_default();
    let env = std::env::vars_os().filter_map(|(key, value)| {
        let (key, value) = (key.into_string().ok()?, value.into_string().ok()?);
        Some(format!("{key}={value}"))
    });
    let Ok(exec) = plan::exec(args, &env.collect::<Vec<_>>()) else { return Err((name, Errno::EINVAL)) };
    // Where a policy changed credentials at the exec, the kernel took it away.
    let _ = process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0);
    match fork() {
        Ok(Some(child)) => Ok(child),
        Ok(None) => Err((name, walk::execute(&exec).err().unwrap_or(Errno::ENOENT))),
        Err(error) => Err((name, error)),
    }
}

/// The child goes on in a foreground process group of its own, with the signals as they were; `None` is the child.
fn fork() -> Result<Option<i32>, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN));
    let before = signals::block(Signals::ALL).map_err(errno)?;
    // Not by clone3, which the default filter does not know how to allow.
    match process::fork().map_err(errno)? {
        0 => {
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            // Without a terminal there is no foreground to take.
            let _ = nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpid());
            signals::set_blocked(before).map_err(errno)?;
            Ok(None)
        }
        child => Ok(Some(child)),
    }
}

fn watch_over(child: i32) -> ! {
    // Without capabilities that only loading the filter needed. To signal a child that changed its user takes CAP_KILL.
    let kill = process::capget().map_or(0, |(_, permitted, _)| permitted & (1 << 5));
    if process::capset(kill, kill, 0).is_err() {
        process::exit_now(walk::REPORTED);
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
