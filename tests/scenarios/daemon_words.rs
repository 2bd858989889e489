//! What the docker command prints where our daemon refuses: Docker's words, and the exit codes that go with them.

use crate::daemon_docker::Docker;
use crate::fixture::Command;

impl Docker {
    fn line(&self, line: &str) -> Command {
        self.command(&line.split_whitespace().collect::<Vec<_>>()).env("DOCKER_BUILDKIT", "0")
    }

    /// Asserts on how each command ends, and on what it says.
    fn refuses(&self, table: &[(&str, i32, &str)]) {
        for (line, code, words) in table {
            let output = self.line(line).run();
            let said = format!("{}{}", output.stdout(), output.stderr());
            assert_eq!(output.code(), Some(*code), "{line}: {output}");
            assert!(said.contains(words), "{line}: {words:?} is not in {said:?}");
            assert!(!said.contains("Unable to find image"), "{line} pulls what is there: {said}");
        }
    }
}

#[test]
fn run_refuses() {
    let Some(docker) = Docker::new() else { return };
    docker.refuses(&[
        (
            "run --rm --network nope busybox true",
            125,
            "Error response from daemon: failed to set up container networking: network nope not found",
        ),
        ("run --rm --network container:nope busybox true", 125, "No such container: nope"),
        (
            "run --rm --network container:nope -h foo busybox true",
            125,
            "conflicting options: hostname and the network mode",
        ),
        ("run --rm --uts host -h foo busybox true", 125, "conflicting options: hostname and the UTS mode"),
        ("run --rm --annotation =x busybox true", 125, "the empty string is not permitted as an annotation key"),
        ("run --rm --pid container:nope busybox true", 125, "Error response from daemon: No such container: nope"),
        ("run --rm --ipc container:nope busybox true", 125, "Error response from daemon: No such container: nope"),
        (
            "run --rm --network none --user nope busybox true",
            125,
            "Error response from daemon: unable to find user nope: no matching entries in passwd file",
        ),
        (
            "run --rm --network none --user 0:nope busybox true",
            125,
            "Error response from daemon: unable to find group nope: no matching entries in group file",
        ),
        (
            "run --rm --network none --device /dev/nope busybox true",
            127,
            "Error response from daemon: error gathering device information while adding custom device \"/dev/nope\": no \
             such file or directory",
        ),
        ("run --rm --stop-signal FOO busybox true", 125, "Error response from daemon: invalid signal: FOO"),
        ("run --rm --health-interval 1ns busybox true", 125, "Interval in Healthcheck cannot be less than 1ms"),
    ]);
    assert_eq!(docker.line("ps --all --quiet").ok(), "", "nothing is left of them");
}

const EXEC_FAILED: &str = "OCI runtime exec failed: exec failed: unable to start container process: exec: \
                           \"no-such-program\": executable file not found in $PATH: unknown";

#[test]
fn others_refuse() {
    let Some(docker) = Docker::new() else { return };
    docker.line("run -d --name hull --network none busybox sleep 1000").ok();
    docker.line("create --name wreck busybox true").ok();
    docker.line("network create --subnet 10.61.0.0/24 sea").ok();
    docker.refuses(&[
        ("exec hull no-such-program", 127, EXEC_FAILED),
        ("exec --user nope hull true", 1, "unable to find user nope: no matching entries in passwd file"),
        ("exec --user 0:nope hull true", 1, "unable to find group nope: no matching entries in group file"),
        ("kill --signal FOO hull", 1, "invalid signal: FOO"),
        ("kill --signal 99 hull", 1, "the linux daemon does not support signal 99"),
        (
            "ps --filter status=sunk",
            1,
            "invalid filter 'status=sunk': invalid value for state (sunk): must be one of created, running, paused, \
             restarting, removing, exited, dead",
        ),
        (
            "ps --filter health=odd",
            1,
            "invalid filter 'health=odd': invalid value for health (odd): must be one of none, starting, healthy, \
             unhealthy",
        ),
        (
            "network connect host wreck",
            1,
            "cannot connect container to host network - container must be created in host network mode",
        ),
        (
            "network connect none wreck",
            1,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        (
            "network connect --ip 10.62.0.9 sea wreck",
            1,
            "no configured subnet or ip-range contain the IP address 10.62.0.9",
        ),
    ]);
    if docker.line("volume create --help").ok().contains("--scope") {
        docker.refuses(&[("volume create --scope multi hold", 1, "This node is not a swarm manager.")]);
        assert_eq!(docker.line("volume ls --quiet").ok(), "");
    }
    let said = docker.line("exec --user nope hull true").run();
    assert!(!format!("{}{}", said.stdout(), said.stderr()).contains("OCI runtime"), "no runtime was asked: {said}");
    docker.line("rm --force hull wreck").ok();
    docker.line("network rm sea").ok();
}

#[test]
fn containers_are_listed_by_their_ports() {
    let Some(docker) = Docker::new() else { return };
    let run = "run -d --name hull -p 127.0.0.1::80 -p 127.0.0.1::53/udp --expose 90 busybox sleep 1000";
    let id = docker.line(run).ok();
    let shown = docker.line("port hull 80").ok();
    let port = shown.rsplit(':').next().expect("a port");
    docker.line("create --name wreck --expose 90 busybox true").ok();
    let both = format!("publish={port} --filter expose=91");
    let (one, tcp, udp) = (format!("publish={port}"), format!("publish={port}/tcp"), format!("publish={port}/udp"));
    for (filter, found) in [
        (one.as_str(), true),
        (&tcp, true),
        (&udp, false),
        ("publish=80", false),
        ("publish=1-65535/udp", true),
        ("expose=80", true),
        ("expose=53", false),
        ("expose=50-60/udp", true),
        ("expose=90", true),
        ("expose=91", false),
        (&both, true),
    ] {
        let listed = docker.line(&format!("ps --all --quiet --no-trunc --filter {filter}")).ok();
        assert_eq!(listed, if found { id.as_str() } else { "" }, "{filter}");
    }
    docker.line("rm --force hull wreck").ok();
}

#[test]
fn the_cache_of_builds_has_its_times() {
    let Some(docker) = Docker::new() else { return };
    docker.line("build --quiet -").input("FROM busybox\nRUN echo tea >/cargo\n").ok();
    let shown = docker.line("system df --verbose").ok();
    let (_, caches) = shown.split_once("CACHE ID").expect("a table of the cache");
    assert!(caches.contains("regular") && caches.matches(" ago").count() == 2, "made and used: {caches}");
    assert!(!caches.contains("years"), "{caches}");
}
