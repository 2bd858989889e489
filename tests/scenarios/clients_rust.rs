//! bollard. What it does is in `tests/clients/rust`.

use crate::fixture::{Daemon, Host, Registry, clients};

/// One part of the program against a daemon of its own.
fn bollard(part: &str) {
    let Some((host, registry)) = Host::with_busybox().zip(Registry::shared()) else { return };
    let Some(()) = registry.busybox().map(drop) else { return };
    let daemon = Daemon::start(&host);
    let Some(command) = clients::rust(&host, &daemon, part) else { return };
    command.env("REGISTRY", &registry.host()).ok();
}

#[test]
fn bollard_lives_with_containers() {
    bollard("containers");
}

#[test]
fn bollard_executes_copies_and_commits() {
    bollard("execs");
}

#[test]
fn bollard_builds() {
    bollard("builds");
}

#[test]
fn bollard_hears_events_and_pulls() {
    bollard("system");
}
