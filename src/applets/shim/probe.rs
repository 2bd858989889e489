//! The probe of a health check, a child of the watching face: does it as an exec would, with a timeout that ends all of
//! its processes, and writes what came of it. Its exit code tells the watching face what it has to know.

use super::{Base, launch, refused};
use crate::api::time::Time;
use crate::api::types::ExecCreate;
use crate::cgroup;
use crate::engine::containers::{self, Doing};
use crate::engine::health::{self, Check, OUTPUT};
use crate::engine::{Record, events, exec, names};
use crate::ns::Child;
use crate::sys::process;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the watching face is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// It has been healthy or unhealthy since its start.
    pub settled: bool,
    pub action: Action,
}

/// What is to be done with the container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Action {
    #[default]
    Nothing,
    Restart,
    Stop,
}

impl Verdict {
    fn code(self) -> u8 {
        let action = match self.action {
            Action::Nothing => 0,
            Action::Restart => 1,
            Action::Stop => 2,
        };
        1 | (self.settled as u8) << 1 | action << 2
    }

    /// `None` where the probe found out nothing.
    pub fn of(code: i32) -> Option<Verdict> {
        let action = match code >> 2 {
            0 => Action::Nothing,
            1 => Action::Restart,
            2 => Action::Stop,
            _ => return None,
        };
        (code & 1 == 1).then_some(Verdict { settled: code & 2 != 0, action })
    }
}

/// Does one probe; the exit code.
pub fn run(base: &Base, pairs: &[(&str, &str)]) -> u8 {
    let uptime = super::millis(pairs, "uptime").unwrap_or_default();
    probe(base, uptime).ok().flatten().map_or(0, Verdict::code)
}

fn probe(base: &Base, uptime: Duration) -> Result<Option<Verdict>> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
    let (store, id) = (&base.store, base.whose.container.as_str());
    let record = Record::load(store, id)?.ok_or_else(|| containers::no_such(id))?;
    let Some(check) = Check::of(&record.config) else { return Ok(None) };
    let start = Time::now();
    let exec = names::id()?;
    let command = check.command.join(" ");
    let tell = |action: &str, more: &[(&str, &str)]| {
        let named: Vec<_> = std::iter::once(("execID", exec.as_str())).chain(more.iter().copied()).collect();
        events::container(store, &record, action, &named);
    };
    tell(&format!("exec_create: {command}"), &[]);
    let (exit_code, output) = match started(base, &check) {
        Ok(mut running) => {
            tell(&format!("exec_start: {command}"), &[]);
            crate::failpoint::reach("probe.started");
            let outcome = running.watch(check.timeout);
            running.clear();
            let Some(outcome) = outcome? else { return Ok(None) };
            tell("exec_die", &[("exitCode", &outcome.code.to_string())]);
            let said = running.said();
            match outcome.late {
                false => (outcome.code, said),
                true if said.is_empty() => (-1, format!("Health check exceeded timeout ({:?})", check.timeout)),
                true => (-1, format!("Health check exceeded timeout ({:?}): {said}", check.timeout)),
            }
        }
        Err(error) => (-1, refused::exec_failed(&format!("{error:#}"))),
    };
    // Only of a container that still is what was asked: its end, or a pause, came between.
    let now = containers::now(store, id)?;
    if now.doing != Doing::Running || now.record.ended.started_at != record.ended.started_at {
        return Ok(None);
    }
    let mut state = health::load(store, id)?.unwrap_or_default();
    let changed = check.judge(&mut state, health::result(start, exit_code, output), uptime);
    health::save(store, id, &state)?;
    crate::failpoint::reach("probe.saved");
    if changed {
        events::container(store, &record, &format!("health_status: {}", state.status), &[]);
    }
    let unhealthy = state.status == health::UNHEALTHY;
    let action = match record.host_config.on_unhealthy.as_str() {
        "restart" if unhealthy => Action::Restart,
        "stop" if unhealthy => Action::Stop,
        _ => Action::Nothing,
    };
    Ok(Some(Verdict { settled: state.status != health::STARTING, action }))
}

/// A probe's process, and what it says.
struct Running {
    child: Child,
    output: OwnedFd,
    /// Of the probe alone, below the container's, where there can be one.
    cgroup: Option<PathBuf>,
    /// `cgroup.events` of the container, which tells of a pause.
    paused: Option<File>,
    kept: Vec<u8>,
    more: bool,
    /// Somebody may yet write to it.
    open: bool,
    ended: bool,
}

struct Outcome {
    code: i32,
    late: bool,
}

fn started(base: &Base, check: &Check) -> Result<Running> {
    let (store, id) = (&base.store, base.whose.container.as_str());
    let asked =
        ExecCreate { cmd: check.command.clone(), attach_stdout: true, attach_stderr: true, ..ExecCreate::default() };
    let exec::Ready { plan, mut prepared, cgroup, .. } = exec::prepare(store, id, &asked)?;
    let (output, out) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    nix::fcntl::fcntl(&output, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("make a pipe")?;
    let err = out.try_clone().context("copy a pipe")?;
    prepared.stdio.extend([File::open("/dev/null").context("open /dev/null")?.into(), out, err]);
    let paused = cgroup.as_ref().and_then(|path| File::open(path.join("cgroup.events")).ok());
    let own = cgroup.as_deref().and_then(own_cgroup);
    let child = exec::launch(&plan, prepared, id, own.clone().or(cgroup))?;
    let mut running =
        Running { child, output, cgroup: own, paused, kept: Vec::new(), more: false, open: true, ended: false };
    let mut go = || -> Result<()> {
        launch::set_limits(&plan, running.child.pid)?;
        running.child.go()?.map_err(|failed| anyhow::anyhow!(refused::refusal(id, &plan, &failed).text))
    };
    match go() {
        Ok(()) => Ok(running),
        Err(error) => {
            running.clear();
            Err(error)
        }
    }
}

/// A cgroup for the probe alone, so that all of its processes can be ended. A killed probe's may be there still.
fn own_cgroup(container: &Path) -> Option<PathBuf> {
    let path = container.join("dhow.probe");
    cgroup::create_new(&path).ok().map(|_| path)
}

impl Running {
    /// Until it has ended, or its time is over; `None` where the container was paused meanwhile.
    fn watch(&mut self, timeout: Duration) -> Result<Option<Outcome>> {
        let deadline = Instant::now() + timeout;
        loop {
            let paused = self.paused.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            let output = if self.open { self.output.as_raw_fd() } else { -1 };
            let mut fds = [
                libc::pollfd { fd: self.child.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 },
                libc::pollfd { fd: output, events: libc::POLLIN, revents: 0 },
                libc::pollfd { fd: paused, events: libc::POLLPRI, revents: 0 },
            ];
            let left = deadline.saturating_duration_since(Instant::now());
            process::poll(&mut fds, left.as_millis().min(60_000) as i32 + 1).context("poll")?;
            if fds[1].revents != 0 && self.read() {
                self.open = false;
            }
            if self.is_frozen() {
                return Ok(None);
            }
            if let Some(code) = self.take_exit() {
                self.read();
                return Ok(Some(Outcome { code, late: false }));
            }
            if Instant::now() >= deadline {
                return Ok(Some(Outcome { code: 137, late: true }));
            }
        }
    }

    /// Reads what there is; whether that was all there will be.
    fn read(&mut self) -> bool {
        let mut chunk = [0; OUTPUT];
        loop {
            match nix::unistd::read(&self.output, &mut chunk) {
                Ok(0) => return true,
                Ok(length) => {
                    let room = OUTPUT - self.kept.len();
                    self.kept.extend_from_slice(&chunk[..length.min(room)]);
                    self.more |= length > room;
                }
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn is_frozen(&self) -> bool {
        let mut text = [0; 256];
        let length = self.paused.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        text[..length].windows(8).any(|window| window == b"frozen 1")
    }

    fn take_exit(&mut self) -> Option<i32> {
        let (_, code) = process::ended(Some(self.child.pid), false).ok()??;
        self.ended = true;
        Some(code)
    }

    /// Ends whatever it has started and not taken along.
    fn clear(&mut self) {
        if let Some(path) = &self.cgroup {
            let _ = cgroup::kill(path);
        }
        if !self.ended {
            self.child.bury();
            self.ended = true;
        }
        if let Some(path) = &self.cgroup {
            let _ = cgroup::remove(path);
        }
    }

    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        if self.more { format!("{text}...") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_an_exit_code() {
        for action in [Action::Nothing, Action::Restart, Action::Stop] {
            for settled in [false, true] {
                let verdict = Verdict { settled, action };
                assert_eq!(Verdict::of(i32::from(verdict.code())), Some(verdict));
            }
        }
        for code in [0, 125, 137, 2] {
            assert_eq!(Verdict::of(code), None);
        }
    }
}
