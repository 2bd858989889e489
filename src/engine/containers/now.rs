//! What a container is doing at this moment; what a killed shim left is mended by whoever looks.

use super::{bury, forget, no_such, remove_stopped};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{Health, State};
use crate::cgroup;
use crate::engine::locks::{self, byte};
use crate::engine::record::{self, Live, Record};
use crate::engine::shim;
use crate::engine::store::{self, Store};
use crate::engine::{events, health, networks, restart};
use crate::log;
use crate::order;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doing {
    Created,
    Running,
    Paused,
    Restarting,
    /// It has ended, and what hooks do for that has not.
    Ending,
    /// Its shim was killed, and so were its processes; but the kernel cannot end one yet, see [`cgroup::remove_killed`].
    Stuck,
    Exited,
}

impl Doing {
    pub fn word(self) -> &'static str {
        match self {
            Doing::Created => "created",
            Doing::Running | Doing::Ending | Doing::Stuck => "running",
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
        self.is_alive() || matches!(self, Doing::Restarting | Doing::Ending | Doing::Stuck)
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
        } else if held.init && live.ending {
            Doing::Ending
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
                // Others are not held up by it.
                Ok(false) => return Ok(Now { doing: Doing::Stuck, record, live, health: None }),
                mended => mended?,
            };
            continue;
        } else if !held.shim && (is_untold(store, id) || is_left(store, &record)?) {
            mend(store, id)?;
            continue;
        } else {
            // Nobody's, or its shim waits for a start.
            settled(&record)
        };
        let health = health::shown(store, &record, doing)?;
        return Ok(Now { record, doing, live, health });
    }
    bail!("the state of container {id} does not settle")
}

fn settled(record: &Record) -> Doing {
    // One that never ran but has an exit code was refused by its start: Docker calls that created.
    if record.ended.ever_started() { Doing::Exited } else { Doing::Created }
}

/// Whether it ends with its end, which is on record. Its shim removes it; where that was killed first, whoever looks does.
pub fn is_left(store: &Store, record: &Record) -> Result<bool> {
    let is_over = record.ended.ever_started() && !record.ended.open() && !record.ended.due;
    let builds =
        || Ok::<bool, anyhow::Error>(record.step && store.leased()?.contains(&format!("container:{}", record.id)));
    Ok(record.host_config.auto_remove && is_over && !builds()?)
}

/// A free lock over a container that is recorded as started, or that its end should have taken along: its shim was
/// killed, or the machine was. `false` where its processes do not end yet.
fn mend(store: &Store, id: &str) -> Result<bool> {
    store::make_dirs(&store.live(id), 0o711)?;
    let Some(_lock) = locks::try_exclusive(&store.live(id).join("lock"), byte::SHIM)? else { return Ok(true) };
    mend_held(store, id)
}

/// The same, for who holds the lock of the container's shim.
pub fn mend_held(store: &Store, id: &str) -> Result<bool> {
    let Some(ended) = Record::end(store, id)? else { return Ok(true) };
    if !ended.open() {
        let Some(record) = ended.ever_started().then(|| Record::load(store, id)).transpose()?.flatten() else {
            return Ok(true);
        };
        if is_untold(store, id) {
            release(store, id)?;
            let since = Time::parse(&ended.finished_at).unwrap_or_default();
            match events::was_told(store, id, "die", since)? {
                true => store::remove(&untold(store, id))?,
                false => tell_end(store, &record),
            }
        }
        if is_left(store, &record)? {
            remove_stopped(store, &record, true)?;
        }
        return Ok(true);
    }
    let parent = Record::load(store, id)?.map(|record| record.host_config.cgroup_parent).unwrap_or_default();
    if let Some(cgroup) = shim::cgroup_of(store, id, &parent) {
        cgroup::kill(&cgroup)?;
        if !cgroup::remove_killed(&cgroup)? {
            return Ok(false);
        }
    }
    let boot = store::boot_id()?;
    is_to_be_told(store, id);
    let record = Record::update(store, id, |record| {
        end_unseen(record, &boot);
        Ok(())
    })?;
    release(store, id)?;
    tell_end(store, &record);
    if record.host_config.auto_remove {
        remove_stopped(store, &record, true)?;
    }
    Ok(true)
}

/// What a shim held that is no more.
fn release(store: &Store, id: &str) -> Result<()> {
    networks::leave(store, id)?;
    store::remove(&store.live(id).join("live.json"))?;
    store::remove(&store.live(id).join("sock"))
}

/// The file that is there while an end may be on record and not told.
fn untold(store: &Store, id: &str) -> PathBuf {
    store.live(id).join("untold")
}

fn is_untold(store: &Store, id: &str) -> bool {
    untold(store, id).exists()
}

/// An end is about to be put on record: should who does that be killed before it is told, whoever looks next tells it.
pub fn is_to_be_told(store: &Store, id: &str) {
    // As with all events: it does not keep the container from ending that it cannot be told.
    if let Err(error) = std::fs::File::create(untold(store, id)) {
        log::debug!("make {}: {error}", untold(store, id).display());
    }
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
    crate::failpoint::reach("reap.told");
    let _ = store::remove(&untold(store, &record.id));
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
    record.ended.due = restart::wanted(&record.host_config.restart_policy, &record.ended);
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
            Err(error) if Record::load(store, id).is_err() => log::warning!("{error:#}"),
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
    order::by(&mut found, |a, b| b.record.created.cmp(&a.record.created));
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
        // Killed between the making or removal of the directory and of the lock in it: an empty directory.
        None => {
            let _ = std::fs::remove_dir(&live);
            return Ok(());
        }
    };
    let mine = |byte| crate::sys::lock::try_lock(&lock, byte).is_ok();
    if mine(byte::SHIM) && mine(byte::RECORD) && !store.container(id).exists() {
        networks::leave(store, id)?;
        forget(store, id)?;
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
        forget(store, id)?;
    }
    Ok(())
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
