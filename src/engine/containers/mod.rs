//! The verbs on containers. What a container is doing is asked of its locks and the kernel at every moment; its record
//! says what it is and how it last ended.

mod attach;
mod names;
mod now;
mod processes;
mod remove;
mod wait;

use crate::order;
pub use attach::{Attach, attach, resize};
pub use names::{find, name_in_use, named, no_such, rename, sync_names, take_name};
pub use now::{Doing, Now, all, is_left, is_not_found, is_to_be_told, mend_held, now, state, tell_end, tell_start};
pub use processes::processes;
use remove::bury;
pub use remove::{Grave, forget, remove, remove_alone, remove_stopped, rest, take_away};
pub use wait::{Until, wait};

use super::protocol::{self, Message, Op};
use super::record::Record;
use super::shim::{self, Whose};
use super::store::Store;
use super::{events, signals};
use crate::api::Refusal;
use crate::api::types::{ContainerConfig, Top};
use crate::cgroup;
use anyhow::{Context, Result, bail};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wait::exited;

/// How long the kernel may take to end what is killed.
const DEATH: Duration = Duration::from_secs(10);

/// It took longer.
pub const SURVIVED: &str = "tried to kill container, but did not receive an exit event";

pub fn sync_dir(path: &Path) -> Result<()> {
    let dir = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    dir.sync_all().with_context(|| format!("sync {}", path.display()))
}

/// How often it is tried again while a shim comes to rest, a millisecond or two apart: a bound on a hang, far above what a
/// busy machine makes of it.
const TRIES: usize = 10_000;

/// Starts a container that does not run.
pub fn start(store: &Store, id: &str) -> Result<()> {
    for _ in 0..TRIES {
        let now = now(store, id)?;
        match now.doing {
            Doing::Running | Doing::Restarting => bail!(Refusal::NotModified),
            Doing::Paused => {
                bail!(Refusal::Conflict("cannot start a paused container, try unpause instead".to_owned()))
            }
            Doing::Stuck => bail!(SURVIVED),
            // What is told to a shim that is at its end is told to the next one.
            Doing::Created | Doing::Ending | Doing::Exited => {}
        }
        let mut stream = shim::connect_or_start(store, &Whose::container(id))?;
        match shim::ask(&mut stream, Message::new(Op::Start, 0, 0), &[]) {
            Ok((Message { op: Op::Ok, .. }, _)) => return Ok(()),
            Ok((Message { a: protocol::NOT_DONE, .. }, _)) => bail!(Refusal::NotModified),
            // Somebody removes it, and its shim waits for a start no more.
            Ok((Message { op: Op::Exited, .. }, _)) => std::thread::sleep(Duration::from_millis(1)),
            Ok((message, why)) => return Err(start_failed(message, &why)),
            // The shim of the last run was about to end when we connected, or this one was killed.
            Err(error) => ended_early(store, id, &now, error)?,
        }
    }
    bail!("container {id} does not come to start")
}

/// A connection to a shim ended without an answer. Once more is in order, unless it was the start that failed.
fn ended_early(store: &Store, id: &str, before: &Now, error: anyhow::Error) -> Result<()> {
    let after = now(store, id)?;
    if after.record.ended.started_at != before.record.ended.started_at {
        return Err(error.context(format!("the shim of {} was killed", after.record.name)));
    }
    // A shim that is killed while it starts the container has not marked it as started; do not try for ever.
    std::thread::sleep(std::time::Duration::from_millis(1));
    Ok(())
}

/// Why the shim did not start it, as the message says.
fn start_failed(message: Message, why: &[u8]) -> anyhow::Error {
    let why = String::from_utf8_lossy(why);
    match message.b {
        // That of a build before this one: its words are the runtime's, mostly.
        0 => anyhow::anyhow!("failed to create task for container: {why}"),
        status => Refusal::of(status, why.into_owned()),
    }
}

/// A container that is about to be stopped.
struct Stopping {
    now: Now,
    /// To its shim.
    stream: UnixStream,
    signal: i32,
    seconds: i32,
}

impl Stopping {
    /// Finds its shim, and thaws what is paused: a frozen process takes no signal but SIGKILL. `None` where it does not run.
    fn begin(store: &Store, id: &str, signal: Option<&str>, seconds: Option<i64>) -> Result<Option<Stopping>> {
        for _ in 0..TRIES {
            let now = now(store, id)?;
            if !now.doing.goes_on() {
                return Ok(None);
            }
            if now.doing == Doing::Stuck {
                bail!(SURVIVED);
            }
            let (signal, seconds) = stopping(&now.record.config, signal, seconds)?;
            let Some(stream) = shim::connect(store, &Whose::container(id))? else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            if now.doing == Doing::Paused {
                cgroup::freeze(Path::new(&now.live.cgroup), false)?;
            }
            return Ok(Some(Stopping { now, stream, signal, seconds }));
        }
        bail!("container {id} does not stop")
    }

    /// Tells of its signal, once; in the pause before a restart there is nothing to get it.
    fn tell(&self, store: &Store, told: &mut bool) {
        if self.now.doing.is_alive() && !std::mem::replace(told, true) {
            tell_kill(store, &self.now.record, self.signal);
        }
    }
}

/// Stops a container; comes back when it has ended. `signal` and `seconds` are the container's own where not given.
pub fn stop(store: &Store, id: &str, signal: Option<&str>, seconds: Option<i64>) -> Result<()> {
    stop_told(store, id, signal, seconds, &mut false)
}

/// The same; `told`: the event of its signal was told before.
fn stop_told(store: &Store, id: &str, signal: Option<&str>, seconds: Option<i64>, told: &mut bool) -> Result<()> {
    for _ in 0..TRIES {
        let Some(mut it) = Stopping::begin(store, id, signal, seconds)? else {
            super::restart::forget(store, id, true)?;
            bail!(Refusal::NotModified);
        };
        by_hand(store, &it.now.record)?;
        it.tell(store, told);
        if protocol::send(&mut it.stream, Message::new(Op::Stop, it.signal, it.seconds), &[]).is_err() {
            continue;
        }
        if let Ok(seconds) = u64::try_from(it.seconds) {
            wait::dies(store, id, &it.stream, Duration::from_secs(seconds))?;
        }
        if exited(&mut it.stream)?.is_some() {
            events::container(store, &it.now.record, "stop", &[]);
            return Ok(());
        }
    }
    bail!("container {id} does not stop")
}

/// How a container is stopped, and after how many seconds it is killed (-1: never), as asked or as it says itself.
pub fn stopping(config: &ContainerConfig, signal: Option<&str>, seconds: Option<i64>) -> Result<(i32, i32)> {
    let signal = signal.filter(|name| !name.is_empty()).unwrap_or(&config.stop_signal);
    let signal = if signal.is_empty() { libc::SIGTERM } else { signals::parse(signal)? };
    Ok((signal, seconds.or(config.stop_timeout).unwrap_or(10).clamp(-1, i32::MAX.into()) as i32))
}

/// Puts on record, before it ends, that somebody wanted the end: that holds whatever is killed meanwhile.
fn by_hand(store: &Store, record: &Record) -> Result<()> {
    if !super::restart::has_policy(&record.host_config) || record.ended.stopped_by_hand {
        return Ok(());
    }
    Record::update(store, &record.id, |record| {
        record.ended.stopped_by_hand = true;
        Ok(())
    })
    .map(drop)
}

/// Stops a container and starts it again; one that does not run is started.
pub fn restart(store: &Store, id: &str, signal: Option<&str>, seconds: Option<i64>) -> Result<()> {
    let is_done = |done: Result<()>| match done {
        Err(error) if matches!(error.downcast_ref(), Some(Refusal::NotModified)) => Ok(()),
        other => other,
    };
    let mut told = false;
    if !restart_running(store, id, signal, seconds, &mut told)? {
        is_done(stop_told(store, id, signal, seconds, &mut told))?;
        // Somebody else may have started it in between.
        is_done(start(store, id))?;
    }
    if let Some(record) = Record::load(store, id)? {
        events::container(store, &record, "restart", &[]);
    }
    Ok(())
}

/// Has the shim of a container that runs stop it and start it again, in the network namespace that it has. False where
/// none has done that: the container does not run, a stop that came later called the start off, its shim was killed, or is
/// that of another executable, as after an upgrade.
fn restart_running(
    store: &Store,
    id: &str,
    signal: Option<&str>,
    seconds: Option<i64>,
    told: &mut bool,
) -> Result<bool> {
    let Some(mut it) = Stopping::begin(store, id, signal, seconds)? else { return Ok(false) };
    it.tell(store, told);
    let build = shim::build().context("look at this executable")?;
    match shim::ask(&mut it.stream, Message::new(Op::Restart, it.signal, it.seconds), &build) {
        Ok((Message { op: Op::Ok, .. }, _)) => Ok(true),
        Ok((Message { a: 0 | protocol::NOT_DONE, .. }, _)) => Ok(false),
        Ok((message, why)) => Err(start_failed(message, &why)),
        Err(error) if shim::is_parted(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// [`signal`]; and whom nobody survives has ended then, as with Docker.
pub fn kill(store: &Store, name: &str, asked: Option<&str>) -> Result<()> {
    let number = number(asked)?;
    let id = &*find(store, name)?;
    let run = now(store, id)?.live.pid;
    signal(store, id, number)?;
    if number != libc::SIGKILL {
        return Ok(());
    }
    let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
    while start.elapsed() < DEATH {
        match now(store, id) {
            // Somebody may have started it again.
            Ok(now) if now.doing.goes_on() && now.live.pid == run => std::thread::sleep(pause),
            Err(error) if !is_not_found(&error) => return Err(error),
            _ => return Ok(()),
        }
        pause = (2 * pause).min(Duration::from_millis(20));
    }
    bail!(SURVIVED)
}

/// A signal that was asked for: what ends all where none was.
fn number(asked: Option<&str>) -> Result<i32> {
    asked.filter(|name| !name.is_empty()).map_or(Ok(libc::SIGKILL), signals::parse)
}

/// Sends a signal to init.
pub fn signal(store: &Store, id: &str, number: i32) -> Result<()> {
    let now = now(store, id)?;
    let not_running = || Refusal::Conflict(format!("container {} is not running", now.record.id));
    if !now.doing.goes_on() {
        super::restart::forget(store, id, true)?;
        bail!(not_running());
    }
    let ends = signals::ends(number, &now.record.config.stop_signal);
    if ends {
        by_hand(store, &now.record)?;
    }
    if let Some(mut stream) = shim::connect(store, &Whose::container(id))? {
        // In the pause before a restart there is nothing to get it.
        if now.doing.is_alive() {
            tell_kill(store, &now.record, number);
        }
        match shim::ask(&mut stream, Message::new(Op::Signal, number, ends as i32), &[]) {
            Ok((Message { op: Op::Ok, .. }, _)) => {
                // It is to get what shall end it.
                if ends && now.doing == Doing::Paused {
                    cgroup::freeze(Path::new(&now.live.cgroup), false)?;
                }
                return Ok(());
            }
            _ => bail!(not_running()),
        }
    }
    // Its shim does not answer: what is meant to end it does so without.
    if number == libc::SIGKILL && !now.live.cgroup.is_empty() {
        return cgroup::kill(Path::new(&now.live.cgroup));
    }
    bail!(not_running())
}

/// Told before the signal is sent, so that it comes before the end that it may bring.
pub fn tell_kill(store: &Store, record: &Record, signal: i32) {
    events::container(store, record, "kill", &[("signal", &signal.to_string())]);
}

/// Docker's words for what needs a process.
pub fn is_restarting(id: &str) -> Refusal {
    Refusal::Conflict(format!("Container {id} is restarting, wait until the container is running"))
}

pub fn pause(store: &Store, id: &str, paused: bool) -> Result<()> {
    let before = now(store, id)?;
    may_pause(&before, paused)?;
    // One at a time: who is thawed while it freezes would be waited for in vain.
    let _lock = super::locks::exclusive(&store.live(id).join("lock"), super::locks::byte::PAUSE)?;
    let now = now(store, id)?;
    may_pause(&now, paused)?;
    if now.live.cgroup.is_empty() {
        bail!("cannot pause {}: there is no cgroup v2 on this host to freeze it with", now.record.name);
    }
    cgroup::freeze(Path::new(&now.live.cgroup), paused)?;
    events::container(store, &now.record, if paused { "pause" } else { "unpause" }, &[]);
    Ok(())
}

fn may_pause(now: &Now, paused: bool) -> Result<()> {
    let id = &now.record.id;
    match (now.doing, paused) {
        (Doing::Running, true) | (Doing::Paused, false) => Ok(()),
        (Doing::Paused, true) => bail!(Refusal::Conflict(format!("Container {id} is already paused"))),
        // A plain 500, as Docker's, whatever it does instead.
        (_, false) => bail!("Container {id} is not paused"),
        (Doing::Restarting, true) => bail!(is_restarting(id)),
        _ => bail!(Refusal::Conflict(format!("container {id} is not running"))),
    }
}

/// The processes of a container, as `ps` shows them on the host: the columns of `ps -ef`.
pub fn top(store: &Store, id: &str, args: &[String]) -> Result<Top> {
    let now = now(store, id)?;
    match now.doing {
        Doing::Restarting => bail!(is_restarting(id)),
        doing if doing.is_alive() => {}
        _ => bail!(Refusal::Conflict(format!("container {} is not running", now.record.id))),
    }
    let mut pids = processes(store, &now)?;
    order::sort(&mut pids);
    let listed = super::top::list(&pids, args)?;
    events::container(store, &now.record, "top", &[]);
    Ok(listed)
}

/// The namespaces of a running container, for `container:X` modes: `/proc/<pid>/ns/<kind>`.
pub fn namespace(store: &Store, name: &str, kind: &str) -> Result<PathBuf> {
    let id = find(store, name)?;
    let now = now(store, &id)?;
    if !now.doing.is_alive() {
        bail!(Refusal::Conflict(format!("container {id} is not running")));
    }
    Ok(PathBuf::from(format!("/proc/{}/ns/{kind}", now.live.pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_has_the_status_that_its_shim_tells() {
        for (told, status, words) in [
            (404, 404, "why"),
            (409, 409, "why"),
            (500, 500, "why"),
            // By the build before this one.
            (0, 500, "failed to create task for container: why"),
        ] {
            let error = start_failed(Message::new(Op::Failed, 128, told), b"why");
            assert_eq!((error.downcast_ref().map_or(500, Refusal::status), &*error.to_string()), (status, words));
        }
    }
}
