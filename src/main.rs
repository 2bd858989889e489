//! dhow: a Docker-compatible container engine in one static executable.

#![deny(unsafe_code)]

mod api;
mod applets;
mod build;
mod cgroup;
mod channel;
mod engine;
mod failpoint;
mod fs;
#[cfg(test)]
mod fuzz;
mod json;
mod log;
mod net;
mod ns;
mod oci;
mod order;
#[cfg(test)]
mod skip;
mod sys;

use api::client::{Local, Place};
use engine::{Engine, rootless};
use std::sync::Arc;

fn main() -> std::process::ExitCode {
    // Those that stay keep their memory small.
    let lean = |face: &str| std::env::args_os().skip(1).take(2).eq(["shim", face]);
    let init = || std::env::args_os().next().is_some_and(|called| called == engine::init::PLACE);
    if !(["watch", "resolver", "keep"].into_iter().any(lean) || init()) {
        sys::heap::warm();
    }
    applets::main(open)
}

#[global_allocator]
static HEAP: sys::heap::Heap = sys::heap::Heap::new();

/// The engine in this process, at a place.
fn open(place: &Place) -> anyhow::Result<Local> {
    let Place { root, run, config, .. } = place;
    rootless::enter(root.as_deref(), run.as_deref(), config.as_deref())?;
    let engine = Arc::new(Engine::open(root.as_deref(), run.as_deref(), config.as_deref())?);
    Ok(Box::new(move |request| engine::routes::handle(&engine, request)))
}
