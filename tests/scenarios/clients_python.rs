//! Clients written in Python: docker-py and Testcontainers. What they do is in `tests/clients/python`.

use crate::fixture::{Daemon, Host, Registry, clients};

/// One part of `docker_py.py` against a daemon of its own.
fn docker_py(part: &str) {
    let Some((host, registry)) = Host::with_busybox().zip(Registry::shared()) else { return };
    let Some(()) = registry.busybox().map(drop) else { return };
    let daemon = Daemon::start(&host);
    let Some(command) = clients::python(&host, &daemon, ["docker_py.py", part]) else { return };
    command.env("REGISTRY", &registry.host()).ok();
}

#[test]
fn docker_py_lives_with_containers() {
    docker_py("life");
}

#[test]
fn docker_py_asks_for_options_and_volumes() {
    docker_py("options");
}

#[test]
fn docker_py_executes() {
    docker_py("execs");
}

#[test]
fn docker_py_attaches_and_follows() {
    docker_py("attaching");
}

#[test]
fn docker_py_moves_files_and_images() {
    docker_py("files");
}

#[test]
fn docker_py_pulls() {
    docker_py("pulling");
}

#[test]
fn docker_py_asks_about_the_system() {
    docker_py("system");
}

#[test]
fn testcontainers_wait_copy_and_compose() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let folder = super::clients_compose::project(&host);
    let Some(config) = clients::compose_plugin() else { return };
    let Some(command) = clients::python(&host, &daemon, ["harbour.py", &folder]) else { return };
    command.env("DOCKER_CONFIG", config.to_str().expect("UTF-8")).env("TESTCONTAINERS_RYUK_DISABLED", "true").ok();
}
