//! When the watching face asks for a container's health, and the probe that does it. No heap but for its start.

use super::Base;
use super::probe::Verdict;
use crate::engine::shim::EXE_FD;
use crate::sys::process::{self, Clone};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// The times of a health check, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    pub interval: Duration,
    pub start_interval: Duration,
    pub start_period: Duration,
    /// It has been healthy or unhealthy since its start.
    pub settled: bool,
    /// The uptime at which the next probe is due; none for the first.
    pub next: Option<Duration>,
}

impl Timing {
    /// The uptime at which a probe is due that is asked for at this one.
    pub fn after(&self, uptime: Duration) -> Duration {
        let starting = !self.settled && uptime < self.start_period;
        uptime.saturating_add(if starting { self.start_interval } else { self.interval })
    }

    /// As an argument for the next face, in milliseconds: `30000,5000,0,1,60000`.
    pub fn hand_over(&self) -> String {
        let [interval, start_interval, start_period] =
            [self.interval, self.start_interval, self.start_period].map(|time| time.as_millis().max(1));
        let next = self.next.map_or(String::new(), |next| next.as_millis().to_string());
        // A start period of nothing is nothing.
        let start_period = if self.start_period.is_zero() { 0 } else { start_period };
        format!("{interval},{start_interval},{start_period},{},{next}", self.settled as u8)
    }

    pub fn take_over(word: &str) -> Option<Timing> {
        let mut parts = word.split(',');
        let mut time = || parts.next()?.parse().ok().map(Duration::from_millis);
        let (interval, start_interval, start_period, settled) = (time()?, time()?, time()?, time()?);
        Some(Timing { interval, start_interval, start_period, settled: !settled.is_zero(), next: time() })
    }
}

/// A probe that runs.
pub struct Probe {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Probe {
    /// Starts the probe of a container: a child that goes with us, and that has none of our locks.
    pub fn start(base: &Base, uptime: Duration) -> std::io::Result<Probe> {
        let (args, env) = super::command("probe", base, vec![format!("uptime={}", uptime.as_millis())]);
        let parent = nix::unistd::getpid();
        match process::clone3(0, None)? {
            Clone::Child => {
                let mine = || -> std::io::Result<()> {
                    process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
                    // The lock and the socket; everything else closes itself.
                    process::close_range(crate::engine::shim::LOCK_FD, crate::engine::shim::LISTEN_FD)
                };
                if mine().is_ok() && nix::unistd::getppid() == parent {
                    process::fexecve_number(EXE_FD, &args, &env);
                }
                process::exit_now(125)
            }
            Clone::Parent { pid, pidfd } => Ok(Probe { pid, pidfd }),
        }
    }

    /// What it found out, once it has ended: `None` while it runs.
    pub fn ended(&self) -> Option<Option<Verdict>> {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        match waitpid(nix::unistd::Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Some(Verdict::of(code)),
            Ok(WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => Some(None),
            _ => None,
        }
    }
}

/// Whether a container is paused, or about to be. A probe would only wait.
pub fn is_paused(cgroup: Option<&Path>) -> bool {
    cgroup.is_some_and(crate::cgroup::is_frozen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_next_one_is_due() {
        let seconds = Duration::from_secs;
        let mut timing = Timing {
            interval: seconds(30),
            start_interval: seconds(5),
            start_period: seconds(20),
            settled: false,
            next: None,
        };
        assert_eq!(timing.after(seconds(0)), seconds(5));
        assert_eq!(timing.after(seconds(20)), seconds(50));
        timing.settled = true;
        assert_eq!(timing.after(seconds(1)), seconds(31));
        timing.next = Some(seconds(31));
        assert_eq!(Timing::take_over(&timing.hand_over()), Some(timing));
        timing.next = None;
        assert_eq!(Timing::take_over(&timing.hand_over()), Some(timing));
        assert_eq!(Timing::take_over("1,2"), None);
    }
}
