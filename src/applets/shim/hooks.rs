//! Hooks of the container, which files of devices bring: those that are run before its root is its own, those after its
//! command has begun, and those after its end.

use super::clients::{self, Client, Kind};
use super::refused::{Refused, refusal};
use crate::engine::protocol::{Message, Op};
use crate::engine::record::Live;
use crate::engine::shim::LISTEN_FD;
use crate::engine::{Record, Store, store};
use crate::json;
use crate::ns::hooks::{self, Inside};
use crate::ns::{Child, Plan};
use crate::oci::runtime::Spec;
use crate::sys::process;
use anyhow::{Context, Result};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// What each hook that is run after the end may take once somebody wants the container to be gone: they clear up.
const CLEARING: Duration = Duration::from_secs(10);

/// Whoever wants the container to end while hooks are run. What they ask is left to be read by who serves them next.
pub struct Callers<'a> {
    clients: &'a mut Vec<Client>,
    /// Those that have said something.
    heard: Vec<RawFd>,
    /// Since when somebody wants that.
    since: Option<Instant>,
    /// What they leave to a hook then.
    patience: Duration,
}

impl<'a> Callers<'a> {
    /// Of hooks for a start, which is called off at once.
    pub fn of(clients: &'a mut Vec<Client>) -> Callers<'a> {
        Callers { clients, heard: Vec::new(), since: None, patience: Duration::ZERO }
    }

    /// Of hooks that are run after the end, which somebody has wanted or not.
    pub fn at_end(clients: &'a mut Vec<Client>, wanted: bool) -> Callers<'a> {
        Callers { since: wanted.then(Instant::now), patience: CLEARING, ..Callers::of(clients) }
    }
}

impl hooks::Callers for Callers<'_> {
    fn listen(&self) -> Vec<RawFd> {
        let idle = self.clients.iter().filter(|client| client.kind == Kind::Idle).map(|client| client.fd.as_raw_fd());
        std::iter::once(LISTEN_FD).chain(idle.filter(|fd| !self.heard.contains(fd))).collect()
    }

    fn hear(&mut self, ready: &[RawFd]) {
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
                // Who ends it waits for its end first.
                Some(Message { op: Op::Wait, .. }) => client.wait(),
                said => {
                    self.heard.push(client.fd.as_raw_fd());
                    if said.is_some_and(ends) {
                        self.since.get_or_insert_with(Instant::now);
                    }
                }
            }
        }
    }

    fn deadline(&self, begun: Instant) -> Option<Instant> {
        self.since.map(|since| since.max(begun) + self.patience)
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
pub fn undo(store: &Store, record: &Record, spec: &Spec, child: &Child, mut callers: Callers) {
    child.bury();
    callers.patience = CLEARING;
    // Why it did not begin says more.
    let _ = stopped(store, record, spec, &mut callers);
}

/// The container has ended. While hooks are run somebody can still be told to stop.
pub fn stop(store: &Store, record: &Record, mut callers: Callers) -> Result<()> {
    if record.host_config.device_requests.as_ref().is_none_or(|requests| requests.is_empty()) {
        return Ok(());
    }
    let text = std::fs::read(store.live(&record.id).join("config.json")).context("read the runtime spec")?;
    let spec: Spec = json::from_slice(&text).context("read the runtime spec")?;
    if spec.hooks.as_ref().is_none_or(|hooks| hooks.poststop.is_empty()) {
        return Ok(());
    }
    Live { shim: std::process::id() as i32, ending: true, ..Live::default() }.save(store, &record.id)?;
    let done = stopped(store, record, &spec, &mut callers);
    store::remove(&store.live(&record.id).join("live.json"))?;
    done
}

/// Runs all of them, whatever becomes of one; the first error.
fn stopped(store: &Store, record: &Record, spec: &Spec, callers: &mut Callers) -> Result<()> {
    let Some(hooks) = spec.hooks.as_ref().filter(|hooks| !hooks.poststop.is_empty()) else { return Ok(()) };
    let state = hooks::state(&record.id, "stopped", None, &store.live(&record.id), &spec.annotations)?;
    hooks::run_all("poststop", &hooks.poststop, &state, callers)
}
