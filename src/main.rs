//! dhow: a Docker-compatible container engine in one static executable.

#![deny(unsafe_code)]

mod api;
mod applets;
mod cgroup;
mod engine;
mod failpoint;
mod fs;
mod ns;
mod oci;
mod sys;

use api::client::{Local, Place};
use engine::Engine;
use std::sync::Arc;

fn main() -> std::process::ExitCode {
    applets::main(open)
}

/// musl's own allocator maps and unmaps memory for almost everything that is asked of it, which cost a short command a
/// quarter of its time.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The engine in this process, at a place.
fn open(place: &Place) -> anyhow::Result<Local> {
    let Place { root, run, config, .. } = place;
    let engine = Arc::new(Engine::open(root.as_deref(), run.as_deref(), config.as_deref())?);
    Ok(Box::new(move |request| engine::routes::handle(&engine, request)))
}
