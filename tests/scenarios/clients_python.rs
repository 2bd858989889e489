//! Clients written in Python: docker-py and Testcontainers. What they do is in `tests/clients/python`.

use crate::fixture::{Daemon, Host, Registry, Tar, clients, eventually};
use std::fs;

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
fn docker_py_pushes() {
    docker_py("pushing");
}

#[test]
fn docker_py_builds() {
    docker_py("building");
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

/// Ryuk removes what a program that was killed has left. The real one is a program in Go that the distribution has not:
/// this one is a shell that speaks its protocol (port 8080, a filter a line, ACK) and asks the mounted socket, by this
/// executable as the client; and waits until it was seen that all of it is still there.
#[test]
fn testcontainers_with_a_stand_in_for_ryuk() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let main = "#!/bin/sh\ntrap 'exit 0' TERM\nnc -ll -p 8080 -e /bin/listen &\necho \"$(date) Started!\"\nwait\n";
    let listen = "#!/bin/sh\nexport DOCKER_HOST=unix:///var/run/docker.sock\nread -r line\nfilter=$(echo \"$line\" | tr -d '\\r')\n\
                  echo ACK\ncat >/dev/null\nsleep \"$RYUK_RECONNECTION_TIMEOUT\"\n\
                  until dhow volume inspect seen >/dev/null 2>&1; do sleep 0.1; done\n\
                  dhow rm --force --volumes $(dhow ps --all --quiet --filter \"$filter\")\n\
                  dhow network rm $(dhow network ls --quiet --filter \"$filter\")\nkill 1\n";
    let program = fs::read(env!("CARGO_BIN_EXE_dhow")).expect("read the executable");
    let mut tar = fs::read(crate::fixture::busybox_tar().expect("made before")).expect("read busybox");
    tar.truncate(tar.len() - 1024);
    let more =
        Tar::new().file("bin/ryuk", 0o755, main).file("bin/listen", 0o755, listen).file("bin/dhow", 0o755, program);
    tar.extend(more.end());
    let tar = host.file("ryuk.tar", tar);
    host.ok(["import", "--change", "CMD [\"/bin/ryuk\"]", tar.to_str().expect("UTF-8"), "ryuk"]);
    let Some(command) = clients::python(&host, &daemon, ["reaper.py"]) else { return };
    let command = command.env("RYUK_CONTAINER_IMAGE", "ryuk").env("RYUK_RECONNECTION_TIMEOUT", "1s");
    let output = command.env("TESTCONTAINERS_CONNECTION_MODE", "docker_host").run();
    assert_eq!(output.stdout(), "in the middle", "{output}");
    assert_eq!(host.ok(["ps", "--quiet"]).lines().count(), 3, "two and Ryuk are left");
    host.ok(["volume", "create", "seen"]);
    eventually("Ryuk has removed them, and itself", || host.ok(["ps", "--all", "--quiet"]).is_empty());
    assert_eq!(host.ok(["network", "ls", "--filter", "type=custom", "--quiet"]), "");
}
