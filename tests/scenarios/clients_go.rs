//! Docker's own SDK for Go, in which Traefik, Portainer and Ryuk are written. What it does is in `tests/clients/go`.

use crate::fixture::{Daemon, Host, Registry, clients};

/// One part of the program against a daemon of its own.
fn sdk(part: &str) {
    let Some((host, registry)) = Host::with_busybox().zip(Registry::shared()) else { return };
    let Some(()) = registry.busybox().map(drop) else { return };
    let daemon = Daemon::start(&host);
    let Some(command) = clients::go(&host, &daemon, part) else { return };
    command.env("REGISTRY", &registry.host()).ok();
}

#[test]
fn the_sdk_watches_as_consoles_do() {
    sdk("watching");
}

#[test]
fn the_sdk_attaches_executes_and_reads_logs() {
    sdk("streams");
}

#[test]
fn the_sdk_builds_loads_and_pulls() {
    sdk("images");
}

#[test]
fn the_sdk_removes_what_has_a_label() {
    sdk("reaping");
}
