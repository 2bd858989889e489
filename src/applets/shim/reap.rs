//! The last face: writes the record of the end, releases what the container held, tells who waits, and with `--rm`
//! removes it. Where the container is to be started again, it becomes the launching face.

use super::clients::{self, Client, Kind};
use super::kept::Kept;
use super::{Base, hooks, launch, lock, pack};
use crate::api::errno;
use crate::api::time::Time;
use crate::engine::containers::Grave;
use crate::engine::locks::byte;
use crate::engine::shim::{LISTEN_FD, LOCK_FD, cgroup_of};
use crate::engine::{Record, containers, events, exec, networks, restart, store, volumes};
use crate::sys::{self, process};
use anyhow::{Context, Result};
use std::time::Duration;

pub fn run(base: Base, pairs: &[(&str, &str)]) -> Result<()> {
    crate::failpoint::reach("reap.start");
    let number =
        |name: &str| pairs.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<i64>().ok());
    let mut clients = clients::take_over(pairs);
    let kept = Kept::take_over(pairs);
    let end = End {
        status: number("status").unwrap_or(255) as i32,
        stopped: number("stopped") == Some(1),
        again: number("again") == Some(1),
        lost: number("lost").unwrap_or(0),
        unhealthy: number("unhealthy") == Some(1),
        uptime: super::millis(pairs, "uptime").unwrap_or_default(),
    };
    let record = match &base.whose.exec {
        Some(id) => exec::ended(&base.store, &base.whose.container, id, end.status).map(|()| None)?,
        None => Some(ended(&base, &end, &mut clients)?),
    };
    sys::lock::unlock(lock(), byte::INIT)?;
    crate::failpoint::reach("reap.recorded");
    clients.retain(|client| client.kind != Kind::Attached);
    if record.as_ref().is_some_and(|record| record.ended.due) {
        clients::tell(&mut clients, Kind::Waiting, end.status);
        let before = super::millis(pairs, "pause").unwrap_or_default();
        let pause = (!end.again).then(|| restart::pause(before, end.uptime));
        launch::put_off(&base, pause, &clients, &kept)
    }
    // Whoever hears of the end finds the ports free.
    drop(kept);
    sys::lock::unlock(lock(), byte::RESTARTING)?;
    if let Some(grave) = clients::part(&base, clients, end.status, || remove(&base))? {
        crate::failpoint::reach("bury.told");
        grave.clear_and_prepare()?;
    }
    if let Some(record) = &record
        && pack::is_due(&base.store, record)
        && matches!(process::fork(), Ok(0))
    {
        return pack::finish_later(&base);
    }
    match record {
        Some(record) if networks::has_networks(&record.host_config.network_mode) => rest(&base),
        _ => Ok(()),
    }
}

/// Nobody waits for what is left to do, and it is done by a process that holds nothing of the container: neither its
/// network, nor what keeps others from starting or removing it.
pub fn rest(base: &Base) -> Result<()> {
    if !networks::may_rest(&base.store)? {
        return Ok(());
    }
    process::close_range(LOCK_FD, LISTEN_FD).context("close what was the container's")?;
    super::grow_up();
    super::exec_face("rest", base, Vec::new())
}

/// A client has left by its detach keys.
pub fn detached(base: &Base) -> Result<()> {
    if let Some(record) = Record::load(&base.store, &base.whose.container)? {
        match &base.whose.exec {
            None => events::container(&base.store, &record, "detach", &[]),
            Some(exec) => events::container(&base.store, &record, "exec_detach", &[("execID", exec)]),
        }
    }
    Ok(())
}

/// The kernel has killed a process of the container for memory.
pub fn oom(base: &Base) -> Result<()> {
    if let Some(record) = Record::load(&base.store, &base.whose.container)? {
        events::container(&base.store, &record, "oom", &[]);
    }
    Ok(())
}

/// The container has not ended in time, and is killed.
pub fn killed(base: &Base) -> Result<()> {
    if let Some(record) = Record::load(&base.store, &base.whose.container)? {
        containers::tell_kill(&base.store, &record, libc::SIGKILL);
    }
    Ok(())
}

struct End {
    status: i32,
    stopped: bool,
    /// It was stopped to be started again, whatever its policy says.
    again: bool,
    /// Log entries that a full disk cost.
    lost: i64,
    /// Its health was bad, and a restart is what shall follow from that.
    unhealthy: bool,
    uptime: Duration,
}

/// Puts the end on record, and with it whether it is to be started again.
fn ended(base: &Base, end: &End, clients: &mut Vec<Client>) -> Result<Record> {
    let (store, id) = (&base.store, &base.whose.container);
    let parent = Record::load(store, id)?.map(|record| record.host_config.cgroup_parent).unwrap_or_default();
    let cgroup = cgroup_of(store, id, &parent);
    let oom = cgroup.as_deref().map_or(0, crate::cgroup::oom_kills) > 0;
    // Before the end can be read: nobody shall take a container that will be back for one that has ended.
    sys::lock::try_lock(lock(), byte::RESTARTING).context("lock the container as restarting")?;
    containers::is_to_be_told(store, id);
    let record = Record::update(store, id, |record| {
        let policy = &record.host_config.restart_policy;
        let ended = &mut record.ended;
        ended.exit_code = end.status;
        ended.finished_at = Time::now().to_string();
        ended.boot.clear();
        ended.oom_killed = oom;
        ended.stopped_by_hand |= end.stopped;
        if end.lost > 0 {
            ended.error = format!("{} log entries could not be written", end.lost);
        }
        // Bad health is a failure under a count of its own, whatever the policy makes of the exit code.
        let unhealthy = end.unhealthy && !ended.stopped_by_hand;
        ended.due = unhealthy || end.again || restart::wanted(policy, ended);
        if unhealthy {
            ended.unhealthy_count += 1;
        } else if !end.again {
            ended.restart_count += ended.due as i64;
        }
        Ok(())
    })?;
    crate::failpoint::reach("reap.ended");
    if let Some(cgroup) = cgroup {
        // What init left behind in a shared pid namespace was killed when it ended.
        crate::cgroup::remove(&cgroup)?;
    }
    store::remove(&store.live(id).join("live.json"))?;
    for mounted in record.mounts.iter().filter(|mounted| mounted.point.r#type == "volume") {
        volumes::leave(store, &mounted.point.name, id)?;
    }
    if record.ended.due {
        networks::names::remove(store, id)?;
    } else {
        networks::leave(store, id)?;
    }
    if let Err(error) = hooks::stop(store, &record, hooks::Callers::at_end(clients, end.stopped)) {
        Record::update(store, id, |record| {
            record.ended.error = errno::spelt(&format!("{error:#}")).into_owned();
            Ok(())
        })?;
    }
    containers::tell_end(store, &record);
    if end.again {
        events::container(store, &record, "stop", &[]);
    }
    Ok(record)
}

fn remove(base: &Base) -> Result<Option<Grave>> {
    // The end of an exec is not that of its container.
    if base.whose.exec.is_some() {
        return Ok(None);
    }
    let (store, id) = (&base.store, &base.whose.container);
    match Record::load(store, id)? {
        Some(record) if containers::is_left(store, &record)? => containers::take_away(store, &record, true).map(Some),
        _ => Ok(None),
    }
}
