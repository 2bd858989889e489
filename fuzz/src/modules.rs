// The modules of dhow once more. What fuzzes them is made of them and not of a library: the compiler leaves out what no
// target reaches, which is most.

#[path = "../../src/api/mod.rs"]
mod api;
#[path = "../../src/applets/mod.rs"]
mod applets;
#[path = "../../src/build/mod.rs"]
mod build;
#[path = "../../src/cgroup/mod.rs"]
mod cgroup;
#[path = "../../src/channel.rs"]
mod channel;
#[path = "../../src/engine/mod.rs"]
mod engine;
#[path = "../../src/failpoint.rs"]
mod failpoint;
#[path = "../../src/fs/mod.rs"]
mod fs;
#[path = "../../src/fuzz.rs"]
mod fuzz;
#[path = "../../src/json/mod.rs"]
mod json;
#[path = "../../src/log.rs"]
mod log;
#[path = "../../src/net/mod.rs"]
mod net;
#[path = "../../src/ns/mod.rs"]
mod ns;
#[path = "../../src/oci/mod.rs"]
mod oci;
#[path = "../../src/order/mod.rs"]
mod order;
#[path = "../../src/sys/mod.rs"]
mod sys;

/// The target that `src/fuzz.rs` has by that name.
fn target(name: &str) -> fuzz::Target {
    let known = fuzz::TARGETS.iter().find(|(known, _)| *known == name);
    known.unwrap_or_else(|| panic!("{name:?} is no target")).1
}
