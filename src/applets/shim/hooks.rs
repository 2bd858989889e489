//! Hooks of the container, which files of devices bring: those that are run before its root is its own, those after its
//! command has begun, and those after its end.

use super::launch::{Refused, refusal};
use crate::engine::{Record, Store};
use crate::ns::hooks::{self, Inside};
use crate::ns::{Child, Plan};
use crate::oci::runtime::Spec;
use anyhow::{Context, Result};
use std::os::fd::AsFd;

/// Before the container's root is its own.
pub fn create(store: &Store, record: &Record, plan: &Plan, spec: &Spec, child: &mut Child) -> Result<(), Refused> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let linux = spec.linux.as_ref().context("the spec has no linux section")?;
    child.meet()?.map_err(|failed| refusal(&record.name, plan, &failed))?;
    let state = hooks::state(&record.id, "creating", Some(child.pid), &store.live(&record.id), &spec.annotations)?;
    hooks::run("prestart", &hooks.prestart, &state, None)?;
    hooks::run("createRuntime", &hooks.create_runtime, &state, None)?;
    hooks::run("createContainer", &hooks.create_container, &state, Some(&Inside::of(child.pidfd.as_fd(), linux)))?;
    child.pass()?;
    Ok(())
}

/// The command has begun.
pub fn start(store: &Store, record: &Record, spec: &Spec, child: &Child) -> Result<()> {
    let Some(hooks) = spec.hooks.as_ref().filter(|hooks| !hooks.poststart.is_empty()) else { return Ok(()) };
    let state = hooks::state(&record.id, "running", Some(child.pid), &store.live(&record.id), &spec.annotations)?;
    hooks::run("poststart", &hooks.poststart, &state, None)
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
    hooks::run("poststop", &hooks.poststop, &state, None)
}
