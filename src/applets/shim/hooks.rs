//! Hooks of the container, which files of devices bring: those that are run before its root is its own, those after its
//! command has begun, and those after its end.

use super::clients::{self, Client, Kind};
use super::launch::{Refused, refusal};
use crate::engine::protocol::{Message, Op};
use crate::engine::shim::LISTEN_FD;
use crate::engine::{Record, Store};
use crate::ns::hooks::{self, Inside, Nobody};
use crate::ns::{Child, Plan};
use crate::oci::runtime::Spec;
use crate::sys::process;
use anyhow::{Context, Result};
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Whoever wants the container to end while hooks are run for its start. What they ask is left to be read by who serves them
/// next.
pub struct Callers<'a> {
    clients: &'a mut Vec<Client>,
    /// Those that have said something else.
    heard: Vec<RawFd>,
}

impl<'a> Callers<'a> {
    pub fn of(clients: &'a mut Vec<Client>) -> Callers<'a> {
        Callers { clients, heard: Vec::new() }
    }
}

impl hooks::Callers for Callers<'_> {
    fn listen(&self) -> Vec<RawFd> {
        let idle = self.clients.iter().filter(|client| client.kind == Kind::Idle).map(|client| client.fd.as_raw_fd());
        std::iter::once(LISTEN_FD).chain(idle.filter(|fd| !self.heard.contains(fd))).collect()
    }

    fn hear(&mut self, ready: &[RawFd]) -> bool {
        if ready.contains(&LISTEN_FD) {
            self.clients.extend(clients::accept(process::unbound(LISTEN_FD)));
        }
        let ends = |message: Message| match message.op {
            Op::Stop => message.a != 0,
            Op::Signal => message.b == 1,
            _ => false,
        };
        for client in self.clients.iter_mut().filter(|client| ready.contains(&client.fd.as_raw_fd())) {
            match client.peek() {
                Some(message) if ends(message) => return true,
                // Who ends it waits for its end first.
                Some(Message { op: Op::Wait, .. }) => client.wait(),
                _ => self.heard.push(client.fd.as_raw_fd()),
            }
        }
        false
    }
}

/// Before the container's root is its own.
pub fn create(
    store: &Store,
    record: &Record,
    plan: &Plan,
    spec: &Spec,
    child: &mut Child,
    callers: &mut Callers,
) -> Result<(), Refused> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let linux = spec.linux.as_ref().context("the spec has no linux section")?;
    child.meet()?.map_err(|failed| refusal(&record.name, plan, &failed))?;
    let state = hooks::state(&record.id, "creating", Some(child.pid), &store.live(&record.id), &spec.annotations)?;
    hooks::run("prestart", &hooks.prestart, &state, None, callers)?;
    hooks::run("createRuntime", &hooks.create_runtime, &state, None, callers)?;
    let inside = Inside::of(child.pidfd.as_fd(), linux);
    hooks::run("createContainer", &hooks.create_container, &state, Some(&inside), callers)?;
    child.pass()?;
    Ok(())
}

/// The command has begun.
pub fn start(store: &Store, record: &Record, spec: &Spec, child: &Child, callers: &mut Callers) -> Result<()> {
    let Some(hooks) = spec.hooks.as_ref().filter(|hooks| !hooks.poststart.is_empty()) else { return Ok(()) };
    let state = hooks::state(&record.id, "running", Some(child.pid), &store.live(&record.id), &spec.annotations)?;
    hooks::run("poststart", &hooks.poststart, &state, None, callers)
}

/// It has not begun, or a hook did not want it to: what hooks have set up is taken back by others.
pub fn undo(store: &Store, record: &Record, spec: &Spec, child: &Child) {
    child.bury();
    // Why it did not begin says more.
    let _ = stopped(store, record, spec);
}

/// The container has ended.
pub fn stop(store: &Store, record: &Record) -> Result<()> {
    if record.host_config.device_requests.as_ref().is_none_or(|requests| requests.is_empty()) {
        return Ok(());
    }
    let text = std::fs::read(store.live(&record.id).join("config.json")).context("read the runtime spec")?;
    let spec: Spec = serde_json::from_slice(&text).context("read the runtime spec")?;
    stopped(store, record, &spec)
}

fn stopped(store: &Store, record: &Record, spec: &Spec) -> Result<()> {
    let Some(hooks) = spec.hooks.as_ref().filter(|hooks| !hooks.poststop.is_empty()) else { return Ok(()) };
    let state = hooks::state(&record.id, "stopped", None, &store.live(&record.id), &spec.annotations)?;
    hooks::run("poststop", &hooks.poststop, &state, None, &mut Nobody)
}
