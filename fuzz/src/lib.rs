//! The modules of dhow once more, for libFuzzer, and the targets that `src/fuzz.rs` names.

// What only the program itself uses.
#![allow(dead_code, unused_imports)]

#[path = "../../src/api/mod.rs"]
mod api;
#[path = "../../src/applets/mod.rs"]
mod applets;
#[path = "../../src/build/mod.rs"]
mod build;
#[path = "../../src/cgroup/mod.rs"]
mod cgroup;
#[path = "../../src/engine/mod.rs"]
mod engine;
#[path = "../../src/failpoint.rs"]
mod failpoint;
#[path = "../../src/fs/mod.rs"]
mod fs;
#[path = "../../src/fuzz.rs"]
mod fuzz;
#[path = "../../src/net/mod.rs"]
mod net;
#[path = "../../src/ns/mod.rs"]
mod ns;
#[path = "../../src/oci/mod.rs"]
mod oci;
#[path = "../../src/order.rs"]
mod order;
#[path = "../../src/sys/mod.rs"]
mod sys;

/// Hands an input to a target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = fuzz::TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("a target of that name").1(bytes);
}
