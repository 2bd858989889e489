//! dockerode. What it does is in `tests/clients/node`.

use crate::fixture::{Daemon, Host, Registry, clients};

/// One part of `dockerode.mjs` against a daemon of its own.
fn dockerode(part: &str) {
    let Some((host, registry)) = Host::with_busybox().zip(Registry::shared()) else { return };
    let Some(()) = registry.busybox().map(drop) else { return };
    let daemon = Daemon::start(&host);
    let Some(command) = clients::node(&host, &daemon, ["dockerode.mjs", part]) else { return };
    command.env("REGISTRY", &registry.host()).ok();
}

#[test]
fn dockerode_lives_with_containers() {
    dockerode("containers");
}

#[test]
fn dockerode_executes_copies_and_commits() {
    dockerode("execs");
}

#[test]
fn dockerode_builds() {
    dockerode("builds");
}

#[test]
fn dockerode_hears_events_and_pulls() {
    dockerode("system");
}
