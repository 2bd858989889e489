//! The verbs on containers. What a container is doing is asked of its locks and the kernel at every moment; its record
//! says what it is and how it last ended.

use super::locks::{self, byte};
use super::protocol::{self, Message, Op, STDERR, STDIN, STDOUT};
use super::record::{self, Live, Record};
use super::shim::{self, Whose};
use super::store::{self, Store};
use super::{events, logs, networks, signals, volumes};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{ContainerConfig, Health, State, Top};
use crate::api::wire::Caller;
use crate::cgroup;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doing {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
}

impl Doing {
    pub fn word(self) -> &'static str {
        match self {
            Doing::Created => "created",
            Doing::Running => "running",
            Doing::Paused => "paused",
            Doing::Restarting => "restarting",
            Doing::Exited => "exited",
        }
    }

    pub fn is_alive(self) -> bool {
        matches!(self, Doing::Running | Doing::Paused)
    }

    /// There is somebody who can be told to stop.
    pub fn goes_on(self) -> bool {
        self.is_alive() || self == Doing::Restarting
    }
}

/// A container as it is now.
pub struct Now {
    pub record: Record,
    pub doing: Doing,
    pub live: Live,
    /// Where there is a health check, and it was started.
    pub health: Option<Health>,
}

pub fn no_such(name: &str) -> anyhow::Error {
    Refusal::NotFound(format!("No such container: {name}")).into()
}

/// Finds a container by its name, id, or an unambiguous beginning of its id.
pub fn find(store: &Store, name: &str) -> Result<String> {
    let name = name.trim_start_matches('/');
    if name.is_empty() || name.contains('/') {
        return Err(no_such(name));
    }
    if name.len() == 64 && Record::exists(store, name) {
        return Ok(name.to_owned());
    }
    if let Some(id) = named(store, name)? {
        return Ok(id);
    }
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex(name) {
        return Err(no_such(name));
    }
    let mut found = Vec::new();
    for id in record::ids(store)? {
        // One that cannot be read is there too, and can be removed.
        if id.starts_with(name) && Record::exists(store, &id) {
            found.push(id);
        }
    }
    match found.as_slice() {
        [id] => Ok(id.clone()),
        [] => Err(no_such(name)),
        _ => Err(Refusal::BadParameter(format!("multiple IDs found with provided prefix: {name}")).into()),
    }
}

/// Where a name may stand: with `--rm` it need not outlive the boot.
fn name_path(store: &Store, name: &str, durable: bool) -> PathBuf {
    if durable { store.root.join("names").join(name) } else { store.run.join("names").join(name) }
}

/// The id that a name stands for. A name whose record is missing or disagrees stands for nothing.
pub fn named(store: &Store, name: &str) -> Result<Option<String>> {
    for durable in [true, false] {
        let link = match std::fs::read_link(name_path(store, name, durable)) {
            Ok(link) => link,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => continue,
            Err(error) => return Err(error).with_context(|| format!("look up the name {name}")),
        };
        let id = link.to_string_lossy().into_owned();
        if Record::load(store, &id)?.is_some_and(|record| record.name == name) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Takes a name for a container, exclusively.
pub fn take_name(store: &Store, name: &str, id: &str, durable: bool) -> Result<()> {
    let _lock = locks::exclusive(&store.run.join("names.lock"), 0)?;
    if let Some(owner) = named(store, name)? {
        if owner == id {
            return Ok(());
        }
        return Err(name_in_use(name, &owner));
    }
    let link = name_path(store, name, durable);
    // Void: its owner was removed by half, or had another boot's run directory.
    store::remove(&link)?;
    std::os::unix::fs::symlink(id, &link).with_context(|| format!("take the name {name}"))?;
    if durable {
        sync_dir(&store.root.join("names"))?;
    }
    Ok(())
}

pub fn name_in_use(name: &str, owner: &str) -> anyhow::Error {
    Refusal::Conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove \
         (or rename) that container to be able to reuse that name."
    ))
    .into()
}

/// Gives a name back, if it is still this container's.
fn release_name(store: &Store, name: &str, id: &str) -> Result<()> {
    let _lock = locks::exclusive(&store.run.join("names.lock"), 0)?;
    for link in [true, false].map(|durable| name_path(store, name, durable)) {
        if std::fs::read_link(&link).is_ok_and(|owner| owner == Path::new(id)) {
            store::remove(&link)?;
        }
    }
    Ok(())
}

pub fn sync_dir(path: &Path) -> Result<()> {
    let dir = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    dir.sync_all().with_context(|| format!("sync {}", path.display()))
}

/// A container as it is now. One whose shim was killed is mended first: its processes are killed, its end is recorded.
pub fn now(store: &Store, id: &str) -> Result<Now> {
    for _ in 0..30_000 {
        let held = record::held(store, id)?;
        let live = Live::load(store, id)?;
        let Some(record) = Record::load(store, id)? else { return Err(no_such(id)) };
        let open = record.ended.open();
        let doing = if held.init && open {
            if live.pid == 0 {
                // It started after the one file was read and before the other, or is just ending.
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            let paused = !live.cgroup.is_empty() && cgroup::is_frozen(Path::new(&live.cgroup));
            if paused { Doing::Paused } else { Doing::Running }
        } else if held.restarting && record.ended.due {
            // The lock is held over every end, before it is known whether a restart follows; the record tells.
            Doing::Restarting
        } else if held.shim && (held.init || open) || record::held(store, id)? != held {
            // Between two writes of its shim, or somebody mends what a killed one left: look again.
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        } else if open {
            match mend(store, id) {
                // On a full disk its end cannot be recorded, but is known all the same; so it can be removed.
                Err(error) if store::is_full(&error) => {
                    let mut record = record;
                    end_unseen(&mut record, &store::boot_id()?);
                    return Ok(Now { doing: Doing::Exited, record, live: Live::default(), health: None });
                }
                mended => mended?,
            }
            continue;
        } else {
            // Nobody's, or its shim waits for a start.
            settled(&record)
        };
        let health = super::health::shown(store, &record, doing)?;
        return Ok(Now { record, doing, live, health });
    }
    bail!("the state of container {id} does not settle")
}

fn settled(record: &Record) -> Doing {
    let never = record.ended.started_at == crate::api::types::NEVER;
    // One that never ran but has an exit code was refused by its start: Docker calls that created.
    if never { Doing::Created } else { Doing::Exited }
}

/// A free lock over a container that is recorded as started: its shim was killed, or the machine was.
fn mend(store: &Store, id: &str) -> Result<()> {
    store::make_dirs(&store.live(id), 0o711)?;
    let Some(_lock) = locks::try_exclusive(&store.live(id).join("lock"), byte::SHIM)? else { return Ok(()) };
    mend_held(store, id)
}

/// The same, for who holds the lock of the container's shim.
pub fn mend_held(store: &Store, id: &str) -> Result<()> {
    if !Record::is_open(store, id)? {
        return Ok(());
    }
    let parent = Record::load(store, id)?.map(|record| record.host_config.cgroup_parent).unwrap_or_default();
    if let Some(cgroup) = shim::cgroup_of(store, id, &parent) {
        cgroup::kill(&cgroup)?;
        cgroup::remove(&cgroup)?;
    }
    let boot = store::boot_id()?;
    let record = Record::update(store, id, |record| {
        end_unseen(record, &boot);
        Ok(())
    })?;
    networks::leave(store, id)?;
    store::remove(&store.live(id).join("live.json"))?;
    store::remove(&store.live(id).join("sock"))?;
    tell_end(store, &record);
    if record.host_config.auto_remove {
        remove_stopped(store, &record, true)?;
    }
    Ok(())
}

/// Tells of an end that is on record, and of what it released, by one write.
pub fn tell_end(store: &Store, record: &Record) {
    let ended = &record.ended;
    let seconds = |text: &str| Time::parse(text).unwrap_or_default().seconds;
    let duration = (seconds(&ended.finished_at) - seconds(&ended.started_at)).max(0);
    let mut told = networks::events(store, record, "disconnect");
    for volume in record.mounts.iter().filter(|mounted| mounted.point.r#type == "volume") {
        let attributes = [("container", record.id.as_str()), ("driver", "local")];
        told.push(events::of_other("volume", "unmount", &volume.point.name, &attributes));
    }
    let more = [("execDuration", duration.to_string()), ("exitCode", ended.exit_code.to_string())];
    told.push(events::of_container(record, "die", &more.each_ref().map(|(key, value)| (*key, value.as_str()))));
    events::tell(store, &told);
}

/// Tells of a start, and of what it holds, by one write.
pub fn tell_start(store: &Store, record: &Record) {
    let mut told = Vec::new();
    for point in record.mounts.iter().map(|mounted| &mounted.point).filter(|point| point.r#type == "volume") {
        let attributes = [
            ("container", record.id.as_str()),
            ("destination", &point.destination),
            ("driver", "local"),
            ("propagation", &point.propagation),
            ("read/write", if point.rw { "true" } else { "false" }),
        ];
        told.push(events::of_other("volume", "mount", &point.name, &attributes));
    }
    told.extend(networks::events(store, record, "connect"));
    told.push(events::of_container(record, "start", &[]));
    events::tell(store, &told);
}

/// The end of a container that nobody saw: killed with its shim in this boot; in another, nobody knows.
fn end_unseen(record: &mut Record, boot: &str) {
    record.ended.exit_code = if record.ended.boot == boot { 137 } else { 255 };
    record.ended.finished_at = Time::now().to_string();
    record.ended.boot.clear();
    // Whoever looks after the store starts it again: `boot`, or a daemon.
    record.ended.due = super::restart::wanted(&record.host_config.restart_policy, &record.ended);
}

/// Every container as it is now, newest first. Directories without a record are what killed commands left, and go.
pub fn all(store: &Store) -> Result<Vec<Now>> {
    let mut found = Vec::new();
    let ids = record::ids(store)?;
    for id in &ids {
        match now(store, id) {
            Ok(now) => found.push(now),
            Err(error) if is_not_found(&error) => sweep(store, id)?,
            // A damaged record hides itself only, and not from `rm --force`.
            Err(error) if Record::load(store, id).is_err() => log::warn!("{error:#}"),
            Err(error) => return Err(error),
        }
    }
    for id in store::read_dir(&store.run.join("containers"))? {
        sweep_live(store, &id)?;
    }
    networks::sweep(store)?;
    if found.is_empty() {
        shim::leave_cgroups(store);
    }
    found.sort_unstable_by(|a, b| b.record.created.cmp(&a.record.created));
    Ok(found)
}

/// Removes what is left in the run directory of a container that is not in the store: its making or its removal was
/// cut short. One that is being made holds its record's lock.
fn sweep_live(store: &Store, id: &str) -> Result<()> {
    let live = store.live(id);
    if store.container(id).exists() {
        return Ok(());
    }
    let lock = match locks::open_existing(&live.join("lock"))? {
        Some(lock) => lock,
        // Made without a lock by somebody who was killed right then: an empty directory.
        None => {
            let _ = std::fs::remove_dir(&live);
            return Ok(());
        }
    };
    let mine = |byte| crate::sys::lock::try_lock(&lock, byte).is_ok();
    if mine(byte::SHIM) && mine(byte::RECORD) && !store.container(id).exists() {
        networks::leave(store, id)?;
        store::remove(&live)?;
    }
    Ok(())
}

pub fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Refusal>(), Some(Refusal::NotFound(_)))
}

/// Removes what is left of a container that has no record.
fn sweep(store: &Store, id: &str) -> Result<()> {
    if Record::load(store, id)?.is_some() {
        return Ok(());
    }
    bury(store, &store.container(id))?;
    if !record::held(store, id)?.shim {
        networks::leave(store, id)?;
        store::remove(&store.live(id))?;
    }
    Ok(())
}

/// Moves a tree out of the way at once, and deletes it then.
fn bury(store: &Store, path: &Path) -> Result<()> {
    let lease = store.lease()?;
    let grave = lease.grave();
    match std::fs::rename(path, &grave) {
        Ok(()) => crate::fs::remove::tree(&grave),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

/// The state as inspect tells it.
pub fn state(now: &Now) -> State {
    let ended = &now.record.ended;
    let alive = now.doing.is_alive();
    State {
        status: now.doing.word().to_owned(),
        running: now.doing.goes_on(),
        paused: now.doing == Doing::Paused,
        restarting: now.doing == Doing::Restarting,
        oom_killed: ended.oom_killed,
        dead: false,
        pid: if alive { now.live.pid } else { 0 },
        exit_code: if alive { 0 } else { ended.exit_code },
        error: ended.error.clone(),
        started_at: ended.started_at.clone(),
        finished_at: ended.finished_at.clone(),
        health: now.health.clone(),
    }
}

/// Starts a container that does not run.
pub fn start(store: &Store, id: &str) -> Result<()> {
    for _ in 0..100 {
        let now = now(store, id)?;
        match now.doing {
            Doing::Running | Doing::Restarting => bail!(Refusal::NotModified),
            Doing::Paused => {
                bail!(Refusal::Conflict("cannot start a paused container, try unpause instead".to_owned()))
            }
            Doing::Created | Doing::Exited => {}
        }
        let mut stream = shim::connect_or_start(store, &Whose::container(id))?;
        match shim::ask(&mut stream, Message::new(Op::Start, 0, 0), &[]) {
            Ok((Message { op: Op::Ok, .. }, _)) => return Ok(()),
            Ok((Message { a: 304, .. }, _)) => bail!(Refusal::NotModified),
            Ok((_, why)) => return Err(start_failed(&String::from_utf8_lossy(&why))),
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

/// Docker's client takes the exit code from these words.
fn start_failed(why: &str) -> anyhow::Error {
    if why.starts_with("failed to set up container networking") {
        return anyhow::anyhow!("{why}");
    }
    let text = format!("failed to create task for container: {why}");
    if why.contains("not found in $PATH") || why.contains("no such file") || why.contains("permission denied") {
        return Refusal::BadParameter(text).into();
    }
    anyhow::anyhow!(text)
}

/// Waits until the shim has something to tell.
fn listen(stream: &UnixStream, caller: &Caller) -> Result<()> {
    let Some(gone) = caller.watch() else { return Ok(()) };
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN), gone];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[0].any() == Some(true) => return Ok(()),
            Ok(_) => bail!("who waited has gone"),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the shim"),
        }
    }
}

/// What came of waiting: the exit code, or that the shim ended without telling.
fn exited(stream: &mut UnixStream) -> Result<Option<i32>> {
    match protocol::receive(stream) {
        Ok((Message { op: Op::Exited, a, .. }, _)) => Ok(Some(a)),
        Ok((_, why)) => bail!("{}", String::from_utf8_lossy(&why)),
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(None),
        Err(error) => Err(error).context("read from the shim"),
    }
}

/// Stops a container; comes back when it has ended. `signal` and `seconds` are the container's own where not given.
pub fn stop(store: &Store, id: &str, signal: Option<&str>, seconds: Option<i64>) -> Result<()> {
    for _ in 0..100 {
        let now = now(store, id)?;
        if !now.doing.goes_on() {
            super::restart::forget(store, id, true)?;
            bail!(Refusal::NotModified);
        }
        let (signal, seconds) = stopping(&now.record.config, signal, seconds)?;
        let Some(mut stream) = shim::connect(store, &Whose::container(id))? else {
            std::thread::sleep(std::time::Duration::from_millis(2));
            continue;
        };
        if now.doing == Doing::Paused {
            // A frozen process takes no signal but SIGKILL.
            cgroup::freeze(Path::new(&now.live.cgroup), false)?;
        }
        by_hand(store, &now.record)?;
        if now.doing.is_alive() {
            tell_kill(store, &now.record, signal);
        }
        if protocol::send(&mut stream, Message::new(Op::Stop, signal, seconds), &[]).is_err() {
            continue;
        }
        if exited(&mut stream)?.is_some() {
            events::container(store, &now.record, "stop", &[]);
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

pub fn restart(store: &Store, id: &str, signal: Option<&str>, seconds: Option<i64>) -> Result<()> {
    match stop(store, id, signal, seconds) {
        Err(error) if !matches!(error.downcast_ref(), Some(Refusal::NotModified)) => return Err(error),
        _ => {}
    }
    match start(store, id) {
        // Somebody else started it in between.
        Err(error) if matches!(error.downcast_ref(), Some(Refusal::NotModified)) => Ok(()),
        other => other,
    }?;
    if let Some(record) = Record::load(store, id)? {
        events::container(store, &record, "restart", &[]);
    }
    Ok(())
}

/// Sends a signal to init.
pub fn kill(store: &Store, id: &str, signal: Option<&str>) -> Result<()> {
    let number = match signal.filter(|name| !name.is_empty()) {
        Some(name) => signals::parse(name)?,
        None => libc::SIGKILL,
    };
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
            Ok((Message { op: Op::Ok, .. }, _)) => return Ok(()),
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
fn tell_kill(store: &Store, record: &Record, signal: i32) {
    events::container(store, record, "kill", &[("signal", &signal.to_string())]);
}

/// Docker's words for what needs a process.
pub fn is_restarting(id: &str) -> Refusal {
    Refusal::Conflict(format!("Container {id} is restarting, wait until the container is running"))
}

pub fn pause(store: &Store, id: &str, paused: bool) -> Result<()> {
    let now = now(store, id)?;
    match (now.doing, paused) {
        (Doing::Running, true) | (Doing::Paused, false) => {}
        (Doing::Paused, true) => bail!(Refusal::Conflict(format!("Container {id} is already paused"))),
        // A plain 500, as Docker's, whatever it does instead.
        (_, false) => bail!("Container {id} is not paused"),
        (Doing::Restarting, true) => bail!(is_restarting(id)),
        _ => bail!(Refusal::Conflict(format!("Container {id} is not running"))),
    }
    if now.live.cgroup.is_empty() {
        bail!("cannot pause {}: there is no cgroup v2 on this host to freeze it with", now.record.name);
    }
    cgroup::freeze(Path::new(&now.live.cgroup), paused)?;
    events::container(store, &now.record, if paused { "pause" } else { "unpause" }, &[]);
    Ok(())
}

/// Until when wait waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    NotRunning,
    NextExit,
    Removed,
}

/// A wait that has been registered.
pub struct Wait {
    id: String,
    stream: Option<UnixStream>,
    until: Until,
    /// Of a container that has ended before.
    code: i32,
}

/// Registers a wait: what ends after this has returned is not missed.
pub fn wait(store: &Store, id: &str, until: Until) -> Result<Wait> {
    for _ in 0..1000 {
        let now = now(store, id)?;
        let alive = now.doing.goes_on();
        let mut wait = Wait { id: id.to_owned(), stream: None, until, code: now.record.ended.exit_code };
        if until == Until::NotRunning && !alive {
            return Ok(wait);
        }
        wait.stream = wait.register(store, alive)?;
        if wait.stream.is_some() {
            return Ok(wait);
        }
        // It ended while we asked.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    bail!("container {id} does not come to rest")
}

impl Wait {
    /// Asks the shim to tell; `None` where it ends just then. One that does not run gets a shim that waits for a start;
    /// for one that runs none may be started, or the end of this run would be missed.
    fn register(&self, store: &Store, alive: bool) -> Result<Option<UnixStream>> {
        let whose = Whose::container(&self.id);
        let stream = if alive { shim::connect(store, &whose)? } else { Some(shim::connect_or_start(store, &whose)?) };
        let Some(mut stream) = stream else { return Ok(None) };
        let message = Message::new(Op::Wait, (self.until == Until::Removed) as i32, 0);
        Ok(shim::tell(&mut stream, message, &[]).is_ok().then_some(stream))
    }

    /// Waits; the exit code. Nobody waits for a caller that has gone.
    pub fn finish(mut self, store: &Store, caller: &Caller) -> Result<i32> {
        let Some(mut stream) = self.stream.take() else { return Ok(self.code) };
        loop {
            listen(&stream, caller)?;
            let idle = match exited(&mut stream)? {
                Some(protocol::NEVER_RAN) => true,
                Some(code) => return Ok(code),
                None => false,
            };
            // Its shim was killed, and with --rm whoever noticed has removed it; or it did not run.
            let removed = if idle { self.code } else { 137 };
            // The shim ended without telling: it was killed, or it had nothing to wait for any more. Its socket may be
            // closed a moment before its locks are. Whoever removes it is not to find another one in the way.
            let mut patience = if idle { 200 } else { 0 };
            stream = loop {
                let now = match now(store, &self.id) {
                    Err(error) if is_not_found(&error) => return Ok(removed),
                    Err(error) => return Err(error),
                    Ok(now) => now,
                };
                let alive = now.doing.goes_on();
                // The end that was waited for came, and nobody was left to tell of it.
                if !alive && !idle && self.until != Until::Removed {
                    return Ok(now.record.ended.exit_code);
                }
                if patience > 0 && !alive {
                    patience -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    continue;
                }
                match self.register(store, alive) {
                    Ok(Some(stream)) => break stream,
                    Ok(None) => std::thread::sleep(std::time::Duration::from_millis(2)),
                    Err(error) if is_not_found(&error) => return Ok(removed),
                    Err(error) => return Err(error),
                }
            };
        }
    }
}

/// What a client attaches to.
pub struct Attach {
    /// `protocol::STDIN` and so on.
    pub streams: i32,
    pub keys: Vec<u8>,
    /// With what is in the log, first.
    pub logs: bool,
    /// And then what comes.
    pub follow: bool,
}

/// Attaches: a connection that carries the container's streams.
pub fn attach(store: &Store, id: &str, what: &Attach) -> Result<OwnedFd> {
    let Now { record, doing, .. } = now(store, id)?;
    match doing {
        Doing::Paused => {
            bail!(Refusal::Conflict(format!("container {id} is paused, unpause the container before attach")))
        }
        Doing::Restarting => {
            bail!(Refusal::Conflict(format!("container {id} is restarting, wait until the container is running")))
        }
        _ => {}
    }
    if what.logs {
        logs::check_driver(&record.host_config.log_config.r#type)?;
    }
    let stream = match what.follow {
        true => {
            let mut stream = shim::connect_or_start(store, &Whose::container(id))?;
            shim::tell(&mut stream, Message::new(Op::Attach, what.streams, what.logs as i32), &what.keys)?;
            if what.streams & STDIN == 0 {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            stream
        }
        false => said(store, &record, what)?,
    };
    events::container(store, &record, "attach", &[]);
    Ok(stream.into())
}

/// A connection that brings what is in the log now, or nothing, and ends.
fn said(store: &Store, record: &Record, what: &Attach) -> Result<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair().context("make a pair of sockets")?;
    if what.logs {
        let path = record.log_path(store);
        let options = logs::Options {
            stdout: what.streams & STDOUT != 0,
            stderr: what.streams & STDERR != 0,
            tty: record.config.tty,
            ..logs::Options::default()
        };
        std::thread::spawn(move || {
            if let Err(error) = logs::stream(&path, &options, &mut theirs, &|| false) {
                log::debug!("{error:#}");
            }
        });
    }
    Ok(ours)
}

/// Sets the size of the container's terminal, also before there is one.
pub fn resize(store: &Store, whose: &Whose, rows: u16, columns: u16) -> Result<()> {
    let mut stream = match &whose.exec {
        None => shim::connect_or_start(store, whose)?,
        Some(exec) => {
            shim::connect(store, whose)?.ok_or_else(|| Refusal::NotFound(format!("No such exec instance: {exec}")))?
        }
    };
    shim::tell(&mut stream, Message::new(Op::Resize, rows.into(), columns.into()), &[])?;
    if whose.exec.is_none()
        && record::held(store, &whose.container)?.init
        && let Some(record) = Record::load(store, &whose.container)?
    {
        let (height, width) = (rows.to_string(), columns.to_string());
        events::container(store, &record, "resize", &[("height", &height), ("width", &width)]);
    }
    Ok(())
}

pub fn rename(store: &Store, id: &str, new: &str) -> Result<()> {
    if new.is_empty() {
        bail!(Refusal::BadParameter("Neither old nor new names may be empty".to_owned()));
    }
    let new = super::names::check(new)?;
    let now = now(store, id)?;
    let old = now.record.name.clone();
    if old == new {
        bail!(Refusal::BadParameter("Renaming a container with the same name as its current name".to_owned()));
    }
    // The record decides: a name without its agreement is void, so the new one is taken only for it.
    let _lock = locks::exclusive(&store.run.join("rename.lock"), 0)?;
    if let Some(owner) = named(store, new)? {
        return Err(name_in_use(new, &owner));
    }
    let record = Record::update(store, id, |record| {
        record.name = new.to_owned();
        Ok(())
    })?;
    if let Err(error) = take_name(store, new, id, !record.host_config.auto_remove) {
        Record::update(store, id, |record| {
            record.name = old.clone();
            Ok(())
        })?;
        return Err(error);
    }
    release_name(store, &old, id)?;
    events::container(store, &record, "rename", &[("oldName", &format!("/{old}"))]);
    Ok(())
}

/// Removes a container; a running one only with `force`.
pub fn remove(store: &Store, id: &str, force: bool, volumes: bool) -> Result<()> {
    if force && Record::load(store, id).is_err() {
        return discard(store, id);
    }
    // Once it was killed, its own shim may remove it, with --rm: then it is gone as was asked.
    let mut killed = false;
    for _ in 0..100 {
        let now = match now(store, id) {
            Err(error) if killed && is_not_found(&error) => return Ok(()),
            other => other?,
        };
        if now.doing.goes_on() {
            if !force {
                let (word, hint) = match now.doing {
                    Doing::Paused => ("paused", "unpause and then stop the container before removal or force remove"),
                    doing => (doing.word(), "stop the container before removing or force remove"),
                };
                bail!(Refusal::Conflict(format!(
                    "cannot remove container \"{}\": container is {word}: {hint}",
                    now.record.name
                )));
            }
            match kill_and_wait(store, id) {
                Err(error) if is_not_found(&error) => return Ok(()),
                other => other?,
            }
            killed = true;
            continue;
        }
        // With its shim's lock in hand nobody can start it.
        store::make_dirs(&store.live(id), 0o711)?;
        let Some(_lock) = locks::try_exclusive(&store.live(id).join("lock"), byte::SHIM)? else {
            dismiss(store, id)?;
            continue;
        };
        // Whoever held the lock before may have removed it.
        let Some(record) = Record::load(store, id)? else {
            store::remove(&store.live(id))?;
            return if killed { Ok(()) } else { Err(no_such(id)) };
        };
        remove_stopped(store, &record, volumes)?;
        shim::leave_cgroups(store);
        networks::rest(store);
        return Ok(());
    }
    bail!("container {id} does not come to rest")
}

/// Removes a container whose record cannot be read. What it says of volumes and of the name is lost: the name is void.
fn discard(store: &Store, id: &str) -> Result<()> {
    let known = Live::load(store, id).map(|live| live.cgroup).unwrap_or_default();
    let known = Some(PathBuf::from(known)).filter(|path| !path.as_os_str().is_empty());
    if let Some(cgroup) = known.or_else(|| shim::cgroup_of(store, id, "")) {
        cgroup::kill(&cgroup)?;
        cgroup::remove(&cgroup)?;
    }
    bury(store, &store.container(id))?;
    networks::leave(store, id)?;
    store::remove(&store.live(id))
}

/// A shim that only waits for a start is no reason to keep a container; one that reaps is waited for.
fn dismiss(store: &Store, id: &str) -> Result<()> {
    if let Some(mut stream) = shim::connect(store, &Whose::container(id))? {
        let _ = protocol::send(&mut stream, Message::new(Op::Stop, libc::SIGKILL, 0), &[]);
        let _ = exited(&mut stream);
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    Ok(())
}

fn kill_and_wait(store: &Store, id: &str) -> Result<()> {
    let wait = wait(store, id, Until::NotRunning)?;
    match kill(store, id, None) {
        Err(error) if !matches!(error.downcast_ref(), Some(Refusal::Conflict(_))) => return Err(error),
        _ => {}
    }
    wait.finish(store, &Caller::default()).map(drop)
}

/// Removes a container that does not run, whose shim's lock the caller holds.
pub fn remove_stopped(store: &Store, record: &Record, volumes: bool) -> Result<()> {
    let id = &record.id;
    crate::failpoint::reach("rm.start");
    // The record goes with the directory, in one rename: before it, the container is there; after it, it is not.
    let place = store.container(id);
    // The lease keeps the grave ours until it is gone.
    let (lease, grave) = match store.lease() {
        Ok(lease) => {
            let grave = lease.grave();
            (Some(lease), grave)
        }
        // A full disk has no room for a grave: it goes where it stands, the record first.
        Err(error) if store::is_full(&error) => (None, place.clone()),
        Err(error) => return Err(error),
    };
    if record.host_config.auto_remove || lease.is_none() {
        store::remove(&record.path(store))?;
    }
    crate::failpoint::reach("rm.unrecorded");
    match std::fs::rename(&place, &grave) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove container {}", record.name)),
    }
    crate::failpoint::reach("rm.renamed");
    if !record.host_config.auto_remove {
        sync_dir(&store.containers())?;
    }
    release_name(store, &record.name, id)?;
    if volumes {
        for mounted in record.mounts.iter().filter(|mounted| mounted.anonymous) {
            // One that another container uses by now stays.
            let _ = volumes::remove(store, &mounted.point.name, false);
        }
    }
    if let Some(cgroup) = shim::cgroup_of(store, id, &record.host_config.cgroup_parent) {
        cgroup::remove(&cgroup)?;
    }
    networks::leave(store, id)?;
    store::remove(&store.live(id))?;
    events::container(store, record, "destroy", &[]);
    crate::fs::remove::tree(&grave)
}

/// The processes of a container, as `ps` shows them on the host: the columns of `ps -ef`.
pub fn top(store: &Store, id: &str, args: &[String]) -> Result<Top> {
    let now = now(store, id)?;
    match now.doing {
        Doing::Restarting => bail!(is_restarting(id)),
        doing if doing.is_alive() => {}
        _ => bail!(Refusal::Conflict(format!("container {} is not running", now.record.id))),
    }
    let mut pids = match now.live.cgroup.is_empty() {
        true => vec![now.live.pid],
        false => cgroup::processes(Path::new(&now.live.cgroup))?,
    };
    pids.sort_unstable();
    let listed = super::top::list(&pids, args)?;
    events::container(store, &now.record, "top", &[]);
    Ok(listed)
}

/// The namespaces of a running container, for `container:X` modes: `/proc/<pid>/ns/<kind>`.
pub fn namespace(store: &Store, name: &str, kind: &str) -> Result<PathBuf> {
    let id = find(store, name)?;
    let now = now(store, &id)?;
    if !now.doing.is_alive() {
        bail!(Refusal::Conflict(format!(
            "cannot join {kind} namespace of a non running container: container {name} is not running"
        )));
    }
    Ok(PathBuf::from(format!("/proc/{}/ns/{kind}", now.live.pid)))
}
