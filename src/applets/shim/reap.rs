//! The last face: writes the record of the end, releases what the container held, tells who waits, and with `--rm`
//! removes it.

use super::clients::{self, Client, Kind};
use super::{Base, lock};
use crate::api::time::Time;
use crate::engine::locks::byte;
use crate::engine::protocol::{Message, Op};
use crate::engine::shim::{LISTEN_FD, cgroup_root};
use crate::engine::{Record, containers, exec, store, volumes};
use crate::sys;
use anyhow::Result;
use std::os::fd::AsFd;

pub fn run(base: Base, pairs: &[(&str, &str)]) -> Result<()> {
    crate::failpoint::reach("reap.start");
    let number =
        |name: &str| pairs.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<i32>().ok());
    let status = number("status").unwrap_or(255);
    let mut clients: Vec<Client> =
        pairs.iter().filter(|(key, _)| *key == "client").filter_map(|(_, word)| Client::take_over(word)).collect();
    let end = End { status, stopped: number("stopped") == Some(1), lost: number("lost").unwrap_or(0) };
    match &base.whose.exec {
        Some(id) => exec::ended(&base.store, &base.whose.container, id, status)?,
        None => ended(&base, &end)?,
    }
    sys::lock::unlock(lock(), byte::INIT)?;
    crate::failpoint::reach("reap.recorded");
    clients.retain(|client| client.kind != Kind::Attached);
    tell(&mut clients, Kind::Waiting, status);
    let removed = match base.whose.exec {
        None => remove(&base),
        Some(_) => Ok(()),
    };
    // Nobody can connect from here on; those who did and were not heard yet are.
    store::remove(&base.whose.dir(&base.store).join("sock"))?;
    late(&mut clients);
    tell(&mut clients, Kind::Waiting, status);
    tell(&mut clients, Kind::Leaving, status);
    removed
}

struct End {
    status: i32,
    stopped: bool,
    /// Log entries that a full disk cost.
    lost: i32,
}

fn ended(base: &Base, end: &End) -> Result<()> {
    let (store, id) = (&base.store, &base.whose.container);
    let cgroup = cgroup_root(store).map(|root| root.join(id));
    let oom = cgroup.as_deref().map_or(0, crate::cgroup::oom_kills) > 0;
    let record = Record::update(store, id, |record| {
        let ended = &mut record.ended;
        ended.exit_code = end.status;
        ended.finished_at = Time::now().to_string();
        ended.boot.clear();
        ended.oom_killed = oom;
        ended.stopped_by_hand |= end.stopped;
        if end.lost > 0 {
            ended.error = format!("{} log entries could not be written", end.lost);
        }
        Ok(())
    })?;
    if let Some(cgroup) = cgroup {
        // What init left behind in a shared pid namespace was killed when it ended.
        crate::cgroup::remove(&cgroup)?;
    }
    store::remove(&store.live(id).join("live.json"))?;
    for mounted in record.mounts.iter().filter(|mounted| mounted.point.r#type == "volume") {
        volumes::leave(store, &mounted.point.name, id)?;
    }
    containers::tell_end(store, &record);
    Ok(())
}

fn remove(base: &Base) -> Result<()> {
    let (store, id) = (&base.store, &base.whose.container);
    match Record::load(store, id)? {
        Some(record) if record.host_config.auto_remove => containers::remove_stopped(store, &record, true),
        _ => Ok(()),
    }
}

/// Those who connected while this face did its work.
fn late(clients: &mut Vec<Client>) {
    let listener = sys::process::unbound(LISTEN_FD);
    let _ = nix::fcntl::fcntl(listener, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
    while let Some(client) = clients::accept(listener.as_fd()) {
        clients.push(client);
    }
    for client in clients.iter_mut().filter(|client| client.kind == Kind::Idle) {
        if let Ok(Some(request)) = client.request() {
            match request.message.op {
                Op::Wait | Op::Stop => {
                    if request.message.op == Op::Wait {
                        client.ok();
                    }
                    client.kind = Kind::Waiting;
                }
                // Whoever wants to start it finds the connection closed, and starts the next shim.
                _ => {}
            }
        }
    }
}

fn tell(clients: &mut Vec<Client>, kind: Kind, status: i32) {
    clients.retain(|client| {
        if client.kind == kind {
            client.answer(Message::new(Op::Exited, status, 0), &[]);
        }
        client.kind != kind
    });
}
