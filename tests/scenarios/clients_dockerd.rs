//! Our client against the engine that its words come from: the distribution's dockerd, which speaks an older version of the
//! API. What it is asked is asked of our own daemon, too.

use crate::fixture::{Command, Daemon, Host, Running, Tar, busybox_tar, clients, eventually, skip};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A dockerd in a mount namespace of its own.
struct Dockerd {
    running: Option<Running>,
    socket: PathBuf,
    cgroup: String,
}

impl Dockerd {
    /// Nothing where it does not start: what it wants of a machine is its own affair.
    fn start(host: &Host) -> Option<Dockerd> {
        let place = clients::dockerd()?;
        let (place, dir) = (place.display(), host.dir().join("engine"));
        fs::create_dir_all(&dir).expect("make a directory");
        let (socket, dir) = (dir.join("sock"), dir.display());
        let cgroup = format!("dhow-test-{}", std::process::id());
        // It stumbles over a version 2 of cgroups beside the controllers of version 1.
        let line = format!(
            "mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified\n\
             PATH={place}/usr/sbin:{place}/usr/bin:$PATH exec dockerd --data-root {dir}/data --exec-root {dir}/exec \
             --pidfile {dir}/pid --host unix://{dir}/sock --bridge none --iptables=false \
             --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{cgroup} >{dir}/log 2>&1"
        );
        let args = ["--mount", "--propagation", "private", "sh", "-c", &line];
        let mut running = Command::new("unshare", args).spawn();
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if running.has_ended() || begun.elapsed() > Duration::from_secs(90) {
                let log = fs::read_to_string(format!("{dir}/log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return skip(&format!("nothing is shown of dockerd, which does not start: {last}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(Dockerd { running: Some(running), socket, cgroup })
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::SIGTERM);
            drop(running.wait());
        }
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.cgroup));
        }
    }
}

/// The same of every engine.
fn live(host: &Host, socket: &Path) {
    let address = format!("unix://{}", socket.display());
    let command = |args: &[&str]| host.local(args.iter().copied()).env("DOCKER_HOST", &address);
    let ok = |args: &[&str]| command(args).ok();
    let tar = busybox_tar().expect("made before");
    ok(&["import", tar.to_str().expect("UTF-8"), "busybox"]);
    assert_eq!(ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "busybox:latest");
    let run = ["run", "--rm", "--network", "none"];
    let with = |rest: &[&str]| command(&[&run, rest].concat());
    let output = with(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    let said = (output.stdout(), output.stderr(), output.code());
    assert_eq!(said, ("out".to_owned(), "err".to_owned(), Some(7)), "{output}");
    let bytes: Vec<u8> = (0..1_000_000u32).map(|at| (at / 3) as u8).collect();
    let output = with(&["--interactive", "busybox", "cat"]).input(bytes.clone()).run();
    assert!(output.status.success() && output.out == bytes, "{} bytes, {}", output.out.len(), output.stderr());
    assert_eq!(with(&["busybox", "no-such-program"]).run().code(), Some(127));
    assert_eq!(with(&["busybox", "/etc"]).run().code(), Some(126));

    let line = "echo ahoy; trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let id = ok(&[
        "run",
        "--detach",
        "--name",
        "hull",
        "--network",
        "none",
        "--label",
        "a=b",
        "--volume",
        "hold:/hold",
        "busybox",
        "sh",
        "-c",
        line,
    ]);
    assert_eq!(id.len(), 64);
    eventually("it is heard", || ok(&["logs", "hull"]) == "ahoy");
    assert_eq!(ok(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"]), format!("{id} hull running"));
    assert_eq!(ok(&["ps", "--quiet", "--filter", "label=a=c"]), "");
    assert_eq!(ok(&["inspect", "--format", "{{.State.Status}} {{.Config.Labels.a}}", "hull"]), "running b");
    assert_eq!(command(&["exec", "hull", "sh", "-c", "exit 4"]).run().code(), Some(4));
    assert_eq!(command(&["exec", "--interactive", "hull", "cat"]).input("word").ok(), "word");
    assert!(ok(&["top", "hull"]).contains("trap"));
    let file = host.file("cargo", "salt");
    ok(&["cp", file.to_str().expect("UTF-8"), "hull:/hold/"]);
    let copied = host.dir().join("back");
    ok(&["cp", "hull:/hold/cargo", copied.to_str().expect("UTF-8")]);
    assert_eq!(fs::read_to_string(&copied).expect("read what was copied"), "salt");
    fs::remove_file(&copied).expect("remove it");
    let stats = ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "hull"]);
    assert!(stats.starts_with("hull ") && stats != "hull 0", "{stats}");
    ok(&["pause", "hull"]);
    assert_eq!(ok(&["inspect", "--format", "{{.State.Status}}", "hull"]), "paused");
    ok(&["unpause", "hull"]);
    ok(&["rename", "hull", "keel"]);
    ok(&["exec", "keel", "touch", "/made"]);
    // Docker tells them in any order.
    let diff = ok(&["diff", "keel"]);
    assert!(["A /hold\nA /made", "A /made\nA /hold"].contains(&diff.as_str()), "{diff}");
    ok(&["commit", "--change", "CMD [\"ls\", \"/made\"]", "keel", "made"]);
    let waits = command(&["wait", "keel"]).spawn();
    ok(&["stop", "keel"]);
    assert_eq!(waits.wait().stdout(), "3");
    let refused = command(&["exec", "keel", "true"]).run();
    assert!(refused.code() == Some(1) && refused.stderr().contains("is not running"), "{refused}");
    ok(&["start", "keel"]);
    ok(&["kill", "--signal", "KILL", "keel"]);
    assert_eq!(ok(&["wait", "keel"]), "137");
    ok(&["rm", "--volumes", "keel"]);
    assert_eq!(with(&["made"]).ok(), "/made");

    let saved = host.dir().join("saved.tar");
    ok(&["save", "--output", saved.to_str().expect("UTF-8"), "made"]);
    ok(&["rmi", "made"]);
    ok(&["load", "--input", saved.to_str().expect("UTF-8")]);
    let context = Tar::new()
        .file("Dockerfile", 0o644, "FROM busybox\nCOPY word /word\nRUN cat /word /word >/twice\n")
        .file("word", 0o644, "fore")
        .end();
    command(&["build", "--network", "none", "--tag", "built", "-"]).input(context).ok();
    assert_eq!(with(&["built", "cat", "/twice"]).ok(), "forefore");
    assert!(ok(&["history", "--format", "{{.CreatedBy}}", "built"]).contains("/word"));
    let refused = command(&["rmi", "no-such"]).run();
    assert!(refused.code() == Some(1) && refused.stderr().contains("No such image: no-such"), "{refused}");
    assert_eq!(ok(&["volume", "ls", "--quiet"]), "hold");
    ok(&["volume", "rm", "hold"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() + 1;
    let told = ok(&["events", "--since", "1", "--until", &now.to_string(), "--format", "{{.Type}} {{.Action}}"]);
    for event in ["container die", "container rename", "volume destroy", "image tag"] {
        assert!(told.lines().any(|line| line == event), "{event} in {told}");
    }
    assert!(ok(&["system", "df"]).contains("Build Cache"));
    ok(&["rmi", "built", "made", "busybox"]);
    ok(&["system", "prune", "--force"]);
}

#[test]
fn our_client_asks_our_daemon() {
    let Some(host) = Host::with_busybox() else { return };
    host.ok(["rmi", "busybox"]);
    let daemon = Daemon::start(&host);
    live(&host, daemon.socket());
    daemon.stop();
}

#[test]
fn our_client_asks_a_real_dockerd() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(dockerd) = Dockerd::start(&host) else { return };
    let address = format!("unix://{}", dockerd.socket.display());
    let version = |format: &str| host.local(["version", "--format", format]).env("DOCKER_HOST", &address).ok();
    // It is asked in a version that it knows.
    let theirs = version("{{.Server.APIVersion}}");
    assert!(theirs.starts_with("1."), "{theirs}");
    assert_eq!(version("{{.Client.APIVersion}}"), theirs);
    live(&host, &dockerd.socket);
}
