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

fn main() -> std::process::ExitCode {
    applets::main(open)
}

/// The engine in this process, at a place.
fn open(place: &Place) -> anyhow::Result<Local> {
    anyhow::bail!("opening the engine at {place:?}: its routes are not joined yet")
}
