//! Hooks of a runtime specification: programs of the host that are run at moments of a container's life, and are told on
//! their standard input which container it is. The process that calls this has one thread.

use super::launch::clone_beyond;
use super::plan;
use crate::oci::runtime::{Hook, Linux, NamespaceKind, OCI_VERSION};
use crate::order::Map;
use crate::sys::process::{self, Clone, Strings};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// So much of what a hook that failed has said is told, in bytes.
const TOLD: u64 = 1024;

/// What hooks are told of the container: "State" in the runtime specification.
pub fn state(
    id: &str,
    status: &str,
    pid: Option<i32>,
    bundle: &Path,
    annotations: &Map<String, String>,
) -> Result<Vec<u8>> {
    let mut state = serde_json::json!({
        "ociVersion": OCI_VERSION,
        "id": id,
        "status": status,
        "bundle": bundle,
        "annotations": annotations,
    });
    if let Some(pid) = pid {
        state["pid"] = pid.into();
    }
    serde_json::to_vec(&state).context("encode the state of the container")
}

/// The namespaces of a container whose init waits, for hooks that belong there.
pub struct Inside<'a> {
    init: BorrowedFd<'a>,
    flags: CloneFlags,
}

impl<'a> Inside<'a> {
    pub fn of(init: BorrowedFd<'a>, linux: &Linux) -> Inside<'a> {
        let kinds = linux.namespaces.iter().map(|namespace| namespace.kind);
        // Who shares none of its own with anyone has no user namespace; time is what programs count, not what they do.
        let kinds = kinds.filter(|kind| !matches!(kind, NamespaceKind::User | NamespaceKind::Time));
        let flags = kinds.fold(0, |flags, kind| flags | plan::clone_flag(kind) as i32);
        Inside { init, flags: CloneFlags::from_bits_retain(flags) }
    }
}

/// Who may call off what hooks are run for, while they are.
pub trait Callers {
    /// Where they may be heard.
    fn listen(&self) -> Vec<RawFd>;
    /// Something has come there.
    fn hear(&mut self, ready: &[RawFd]);
    /// Until when a hook that has begun then may go on: somebody has called it off.
    fn deadline(&self, begun: Instant) -> Option<Instant>;
}

/// Runs hooks one after the other, here or inside; the first that fails is the last. The words are runc's.
pub fn run(
    moment: &str,
    hooks: &[Hook],
    state: &[u8],
    inside: Option<&Inside>,
    callers: &mut dyn Callers,
) -> Result<()> {
    each(moment, hooks, state, inside, callers).collect()
}

/// The same, where those after one that fails are run, too: the first error.
pub fn run_all(moment: &str, hooks: &[Hook], state: &[u8], callers: &mut dyn Callers) -> Result<()> {
    let all: Vec<_> = each(moment, hooks, state, None, callers).collect();
    all.into_iter().collect()
}

fn each<'a>(
    moment: &'a str,
    hooks: &'a [Hook],
    state: &'a [u8],
    inside: Option<&'a Inside>,
    callers: &'a mut dyn Callers,
) -> impl Iterator<Item = Result<()>> + 'a {
    hooks.iter().enumerate().map(move |(number, hook)| {
        one(hook, state, inside, callers)
            .with_context(|| format!("error running {moment} hook #{number} ({})", hook.path))
    })
}

fn one(hook: &Hook, state: &[u8], inside: Option<&Inside>, callers: &mut dyn Callers) -> Result<()> {
    let text = |text: &String| CString::new(text.as_str()).context("a NUL in its words");
    let strings = |list: &[String]| list.iter().map(text).collect::<Result<Vec<_>>>().map(Strings::new);
    let path = text(&hook.path)?;
    let args = if hook.args.is_empty() { strings(std::slice::from_ref(&hook.path))? } else { strings(&hook.args)? };
    let env = strings(&hook.env)?;
    // In memory, so that nobody has to write or read while it runs.
    let memory = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from).context("make a file in memory");
    let (mut input, mut output) = (memory(c"state")?, memory(c"hook")?);
    input.write_all(state).and_then(|()| input.rewind()).context("write the state of the container")?;
    let begin = || {
        let Err(error) = become_hook(&input, &output, || process::execve(&path, &args, &env));
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        let _ = nix::unistd::write(&output, errno.desc().as_bytes());
        process::exit_now(127);
    };
    let (pid, pidfd) = match inside {
        // A child of ours also there: init could not end before somebody has buried it.
        Some(Inside { init, flags }) => {
            let enter = || {
                nix::sched::setns(init, *flags)?;
                process::sibling(0, None)
            };
            clone_beyond(enter, begin).context("clone in the container's namespaces")?
        }
        None => match process::clone3(0, None).context("clone")? {
            Clone::Parent { pid, pidfd } => (pid, pidfd),
            Clone::Child => {
                begin();
                process::exit_now(127)
            }
        },
    };
    let pid = Pid::from_raw(pid);
    let waited = wait(&pidfd, hook.timeout.map(Duration::from_secs), callers)?;
    if waited != Waited::Ended {
        // With what it has started.
        let _ = nix::sys::signal::killpg(pid, Signal::SIGKILL);
        let _ = process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
    let how = match waitpid(pid, None).context("wait for it")? {
        _ if waited == Waited::Late => "timed out".to_owned(),
        _ if waited == Waited::CalledOff => "called off".to_owned(),
        WaitStatus::Exited(_, 0) => return Ok(()),
        WaitStatus::Exited(_, code) => format!("exit status {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("signal: {signal}"),
        other => format!("{other:?}"),
    };
    let end = output.seek(SeekFrom::End(0)).context("read what it said")?;
    output.seek(SeekFrom::Start(end.saturating_sub(TOLD))).context("read what it said")?;
    let mut said = Vec::new();
    output.take(TOLD).read_to_end(&mut said).context("read what it said")?;
    let said: Vec<String> =
        String::from_utf8_lossy(&said).lines().map(|line| line.trim().escape_debug().to_string()).collect();
    bail!("{how}, output: {}", said.join("; "))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Waited {
    Ended,
    Late,
    CalledOff,
}

fn wait(pidfd: &OwnedFd, timeout: Option<Duration>, callers: &mut dyn Callers) -> Result<Waited> {
    let begun = Instant::now();
    let late = timeout.and_then(|timeout| begun.checked_add(timeout));
    loop {
        let off = callers.deadline(begun);
        let left = match late.into_iter().chain(off).min() {
            None => -1,
            Some(until) => {
                i32::try_from(until.saturating_duration_since(Instant::now()).as_millis() + 1).unwrap_or(i32::MAX)
            }
        };
        let watched = std::iter::once(pidfd.as_raw_fd()).chain(callers.listen());
        let mut fds: Vec<_> = watched.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        process::poll(&mut fds, left).context("wait for it")?;
        if fds[0].revents != 0 {
            return Ok(Waited::Ended);
        }
        let ready: Vec<_> = fds[1..].iter().filter(|fd| fd.revents != 0).map(|fd| fd.fd).collect();
        if !ready.is_empty() {
            callers.hear(&ready);
        }
        let over = |until: Option<Instant>| until.is_some_and(|until| Instant::now() >= until);
        if over(callers.deadline(begun)) {
            return Ok(Waited::CalledOff);
        }
        if over(late) {
            return Ok(Waited::Late);
        }
    }
}

/// In the child: the error for which it does not execute the hook.
fn become_hook(input: &File, output: &File, execute: impl FnOnce() -> io::Error) -> Result<Infallible, io::Error> {
    process::default_signals()?;
    process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    nix::unistd::setsid()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::unistd::chdir(c"/")?;
    for (file, number) in [(input, 0), (output, 1), (output, 2)] {
        process::dup_to(file.as_fd(), number)?;
    }
    // The lock by which a shim is known to live is among them.
    process::cloexec_from(3)?;
    Err(execute())
}
