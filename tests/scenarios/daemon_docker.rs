//! The docker command line against our daemon.

use crate::cdi::Vendor;
use crate::fixture::{Command, Daemon, Host, Login, Registry, Terminal, clients, eventually, need};
use serde_json::json;

/// The docker command, and whom it asks.
pub struct Docker {
    pub daemon: Daemon,
    pub host: Host,
}

impl Docker {
    pub fn new() -> Option<Docker> {
        need("docker")?;
        let host = Host::with_busybox()?;
        Some(Docker { daemon: Daemon::start(&host), host })
    }

    pub fn command(&self, args: &[&str]) -> Command {
        clients::speaking(Command::new("docker", args.iter().copied()), &self.host, &self.daemon)
    }

    fn ok(&self, args: &[&str]) -> String {
        self.command(args).ok()
    }
}

#[test]
fn run_and_its_exit_code() {
    let Some(docker) = Docker::new() else { return };
    let run = ["run", "--rm", "--network", "none"];
    let with = |rest: &[&str]| docker.command(&[&run, rest].concat());
    assert_eq!(with(&["busybox", "echo", "ahoy"]).ok(), "ahoy");
    let output = with(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    assert_eq!(
        (output.stdout().as_str(), output.stderr().as_str(), output.code()),
        ("out", "err", Some(7)),
        "{output}"
    );
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at / 3) as u8).collect();
    let output = with(&["-i", "busybox", "cat"]).input(bytes.clone()).run();
    assert!(output.status.success() && output.out == bytes, "{} bytes, {}", output.out.len(), output.stderr());
    assert_eq!(with(&["busybox", "no-such-program"]).run().code(), Some(127));
    assert_eq!(with(&["busybox", "/etc"]).run().code(), Some(126));
    assert_eq!(with(&["-e", "A=b", "-w", "/tmp", "busybox", "sh", "-c", "echo $A $PWD"]).ok(), "b /tmp");
    assert_eq!(docker.ok(&["ps", "--all", "--quiet"]), "", "--rm leaves nothing");
}

#[test]
fn the_life_of_a_container() {
    let Some(docker) = Docker::new() else { return };
    let id = docker.ok(&[
        "run",
        "-d",
        "--name",
        "hull",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 5' TERM; while :; do sleep 0.1; done",
    ]);
    assert_eq!(
        docker.ok(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.State}}"]),
        format!("{id} hull busybox running")
    );
    assert_eq!(docker.ok(&["inspect", "--format", "{{.State.Running}} {{.Config.Image}}", "hull"]), "true busybox");
    assert!(docker.ok(&["top", "hull"]).contains("sleep"));
    docker.ok(&["pause", "hull"]);
    assert!(docker.ok(&["ps"]).contains("(Paused)"));
    docker.ok(&["unpause", "hull"]);
    docker.ok(&["rename", "hull", "keel"]);
    let waiting = docker.command(&["wait", "keel"]).spawn();
    docker.ok(&["stop", "keel"]);
    assert_eq!(waiting.wait().stdout(), "5");
    docker.ok(&["stop", "keel"]);
    docker.ok(&["start", "keel"]);
    docker.ok(&["restart", "-t", "1", "keel"]);
    docker.ok(&["kill", "keel"]);
    let text = docker.command(&["kill", "keel"]).refused(1);
    assert!(text.contains("is not running"), "{text}");
    docker.ok(&["rm", "keel"]);
    let text = docker.command(&["start", "keel"]).run();
    assert!(text.stderr().contains("No such container: keel"), "{text}");
}

#[test]
fn exec_with_and_without_a_terminal() {
    let Some(docker) = Docker::new() else { return };
    docker.ok(&["run", "-d", "--name", "hull", "--network", "none", "busybox", "sleep", "1000"]);
    assert_eq!(docker.ok(&["exec", "-e", "A=b", "hull", "sh", "-c", "echo $A"]), "b");
    assert_eq!(docker.command(&["exec", "hull", "sh", "-c", "exit 6"]).run().code(), Some(6));
    assert_eq!(docker.command(&["exec", "hull", "no-such-program"]).run().code(), Some(127));
    let bytes = vec![b'x'; 500_000];
    let output = docker.command(&["exec", "-i", "hull", "cat"]).input(bytes.clone()).run();
    assert!(output.out == bytes, "{} bytes, {}", output.out.len(), output.stderr());
    docker.ok(&["exec", "-d", "hull", "touch", "/tmp/done"]);
    eventually("it was done", || docker.command(&["exec", "hull", "test", "-e", "/tmp/done"]).run().status.success());
    let mut terminal = Terminal::start(docker.command(&["exec", "-it", "hull", "sh"]));
    terminal.send("tty; stty size\n");
    terminal.expect("/dev/pts/");
    terminal.expect("24 80");
    terminal.send("exit 3\n");
    assert_eq!(terminal.end().code(), Some(3));
}

#[test]
fn logs_are_followed_to_the_end() {
    let Some(docker) = Docker::new() else { return };
    docker.ok(&[
        "run",
        "-d",
        "--name",
        "log",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo line $i; sleep 0.3; done; echo bad >&2",
    ]);
    let output = docker.command(&["logs", "--follow", "log"]).run();
    assert_eq!((output.stdout().as_str(), output.stderr().as_str()), ("line 1\nline 2\nline 3", "bad"));
    assert_eq!(docker.command(&["logs", "--tail", "2", "log"]).run().stdout(), "line 3");
    assert!(docker.command(&["logs", "-t", "--tail", "1", "log"]).run().stderr().ends_with("Z bad"));
}

#[test]
fn attach_start_and_detach() {
    let Some(docker) = Docker::new() else { return };
    docker.ok(&["create", "--name", "cat", "--interactive", "--network", "none", "busybox", "cat"]);
    assert_eq!(docker.command(&["start", "--attach", "--interactive", "cat"]).input("ahoy\n").ok(), "ahoy");
    docker.ok(&["create", "--name", "shell", "-it", "--network", "none", "busybox", "sh"]);
    docker.ok(&["start", "shell"]);
    let mut terminal = Terminal::start(docker.command(&["attach", "shell"]));
    terminal.send("echo a$((40 + 2))b\n");
    terminal.expect("a42b");
    terminal.send("\x10\x11");
    terminal.end();
    assert_eq!(docker.host.inspect("shell", "/State/Running"), true);
    let mut terminal = Terminal::start(docker.command(&["run", "--rm", "-it", "--network", "none", "busybox", "sh"]));
    terminal.send("exit 4\n");
    assert_eq!(terminal.end().code(), Some(4));
}

#[test]
fn images_and_volumes() {
    let Some(docker) = Docker::new() else { return };
    docker.ok(&["tag", "busybox", "ship/busybox:two"]);
    let images = docker.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(images.contains("ship/busybox:two") && images.contains("busybox:latest"), "{images}");
    assert!(docker.ok(&["history", "busybox"]).contains("IMAGE"));
    assert!(docker.ok(&["rmi", "ship/busybox:two"]).contains("Untagged: ship/busybox:two"));
    let tar = crate::fixture::busybox_tar().expect("made before");
    let id = docker.ok(&["import", tar.to_str().expect("UTF-8"), "brought:in"]);
    assert!(id.starts_with("sha256:"), "{id}");
    let bytes = std::fs::read(&tar).expect("read");
    let id = docker.command(&["import", "-", "brought:again"]).input(bytes).ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(docker.ok(&["volume", "create", "hold"]), "hold");
    assert_eq!(docker.ok(&["volume", "ls", "--quiet"]), "hold");
    docker.ok(&["run", "--rm", "--network", "none", "-v", "hold:/v", "busybox", "touch", "/v/file"]);
    assert_eq!(docker.ok(&["run", "--rm", "--network", "none", "-v", "hold:/v", "busybox", "ls", "/v"]), "file");
    docker.ok(&["volume", "rm", "hold"]);
    assert!(docker.ok(&["info"]).contains("Server Version"));
}

#[test]
fn pull_and_its_progress() {
    let Some((docker, registry)) = Docker::new().zip(Registry::shared()) else { return };
    let Some(name) = registry.busybox() else { return };
    let text = docker.ok(&["pull", &name]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Using default tag: latest");
    assert_eq!(lines[1], "latest: Pulling from busybox");
    let layer = lines[2].split(':').next().expect("a layer");
    assert!(layer.len() == 12 && layer.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    assert!(text.contains(&format!("\n{layer}: Pull complete\n")) || text.contains(": Already exists\n"), "{text}");
    assert!(text.contains("\nDigest: sha256:"), "{text}");
    let end = format!("Status: Downloaded newer image for {name}:latest\n{name}:latest");
    assert!(text.ends_with(&end), "{text}");
    assert!(docker.ok(&["pull", &name]).contains(&format!("Status: Image is up to date for {name}:latest")));
    assert_eq!(docker.ok(&["pull", "--quiet", &name]), format!("{name}:latest"));
    // run pulls what is missing, and says so beside the output.
    docker.ok(&["rmi", &name]);
    let output = docker.command(&["run", "--rm", "--network", "none", &name, "echo", "ahoy"]).run();
    assert_eq!(output.ok(), "ahoy");
    assert!(output.stderr().starts_with(&format!("Unable to find image '{name}:latest' locally\n")), "{output}");
    let output = docker.command(&["pull", &registry.name("no/such")]).run();
    assert_eq!(output.code(), Some(1));
    assert!(output.stderr().contains("Error response from daemon: "), "{output}");
    assert!(output.stderr().contains("not found"), "{output}");
    // Who is not known is told so, and not asked for a name.
    let Some(closed) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let output = docker.command(&["pull", &closed.name("busybox")]).run();
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr().contains("no basic auth credentials"), "{output}");
}

#[test]
fn files_images_and_prunes() {
    let Some(docker) = Docker::new() else { return };
    let at = |name: &str| docker.host.dir().join(name).to_str().expect("UTF-8").to_owned();
    docker.ok(&["run", "-d", "--name", "hull", "--network", "none", "-v", "hold:/hold", "busybox", "sleep", "1000"]);
    docker.host.file("cargo", "tea\n");
    docker.ok(&["cp", &at("cargo"), "hull:/hold/"]);
    docker.ok(&["cp", "hull:/hold/cargo", &at("back")]);
    assert_eq!(std::fs::read_to_string(at("back")).expect("it is back"), "tea\n");
    let output = docker.command(&["cp", "hull:/nowhere", &at("back")]).run();
    assert!(output.stderr().contains("Could not find the file /nowhere in container hull"), "{output}");
    docker.ok(&["exec", "hull", "sh", "-c", "echo coffee > /cargo"]);
    assert_eq!(docker.ok(&["diff", "hull"]), "A /cargo\nA /hold");
    let form = "{{.Name}} {{.ID}} {{.PIDs}} {{.NetIO}}";
    let id = docker.ok(&["inspect", "--format", "{{.Id}}", "hull"]);
    assert_eq!(docker.ok(&["stats", "--no-stream", "--format", form, "hull"]), format!("hull {} 1 0B / 0B", &id[..12]));

    let made = docker.ok(&["commit", "-m", "laden", "-c", "CMD [\"cat\", \"/cargo\"]", "hull", "ship/laden:one"]);
    assert!(made.starts_with("sha256:") && made.len() == 71, "{made}");
    assert_eq!(docker.ok(&["run", "--rm", "--network", "none", "ship/laden:one"]), "coffee");
    assert!(docker.ok(&["history", "ship/laden:one"]).contains("laden"));
    docker.ok(&["save", "-o", &at("saved.tar"), "ship/laden:one"]);
    let text = docker.ok(&["rmi", "ship/laden:one"]);
    assert!(text.starts_with("Untagged: ship/laden:one\nDeleted: sha256:"), "{text}");
    assert_eq!(docker.ok(&["load", "-i", &at("saved.tar")]), "Loaded image: ship/laden:one");
    assert_eq!(docker.ok(&["inspect", "--format", "{{.Id}}", "ship/laden:one"]), made);

    docker.ok(&["rm", "--force", "hull"]);
    let left = docker.ok(&["create", "--name", "left", "--network", "none", "ship/laden:one"]);
    let text = docker.ok(&["container", "prune", "--force"]);
    assert_eq!(text, format!("Deleted Containers:\n{left}\n\nTotal reclaimed space: 0B"));
    assert_eq!(docker.ok(&["container", "prune", "--force"]), "Total reclaimed space: 0B");
    // Volumes with a name stay unless all are meant.
    assert_eq!(docker.ok(&["volume", "prune", "--force"]), "Total reclaimed space: 0B");
    let text = docker.ok(&["volume", "prune", "--all", "--force"]);
    assert_eq!(text, "Deleted Volumes:\nhold\n\nTotal reclaimed space: 4B");
    let text = docker.ok(&["image", "prune", "--all", "--force", "--filter", "until=1h"]);
    assert_eq!(text, "Total reclaimed space: 0B");
    let text = docker.ok(&["system", "prune", "--all", "--force"]);
    assert!(text.contains("Deleted Images:\n") && text.contains("untagged: ship/laden:one\n"), "{text}");
    assert!(docker.ok(&["system", "df"]).lines().nth(1).is_some_and(|line| line.starts_with("Images          0 ")));
}

#[test]
fn events_are_told_as_they_happen() {
    let Some(docker) = Docker::new() else { return };
    let form = "{{.Type}} {{.Action}} {{index .Actor.Attributes \"name\"}} {{index .Actor.Attributes \"exitCode\"}}";
    let listen = ["events", "--filter", "container=hull", "--format", form];
    // From the beginning, for who listens may come late.
    let mut listening = Terminal::start(docker.command(&[&listen[..], &["--since", "1"]].concat()));
    let output = docker.command(&["run", "--name", "hull", "--network", "none", "busybox", "false"]).run();
    assert_eq!(output.code(), Some(1), "{output}");
    docker.ok(&["rm", "hull"]);
    let life = ["create hull", "attach hull", "start hull", "die hull 1", "destroy hull"];
    for event in life {
        listening.expect(&format!("container {event}"));
    }
    listening.send("\x03");
    listening.end();
    // docker counts in whole seconds here.
    let past = || docker.ok(&[&listen[..], &["--since", "1", "--until", "0s"]].concat());
    eventually("all of it is in the past", || past().contains("destroy"));
    let told: Vec<String> = past().lines().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(told, life.map(|event| format!("container {event}")));
}

#[test]
fn images_are_pushed() {
    let (Some(docker), Some(registry)) = (Docker::new(), Registry::shared()) else { return };
    let name = registry.name("docker/pushed");
    docker.ok(&["tag", "busybox", &name]);
    docker.ok(&["tag", "busybox", &format!("{name}:v2")]);
    let told = docker.ok(&["push", &name]);
    assert!(
        told.starts_with(&format!("Using default tag: latest\nThe push refers to repository [{name}]\n")),
        "{told}"
    );
    assert!(told.contains(": Preparing\n") && told.contains("\nlatest: digest: sha256:"), "{told}");
    let told = docker.ok(&["push", "--all-tags", &name]);
    assert!(told.contains(": Layer already exists\n") && told.contains("\nv2: digest: sha256:"), "{told}");
    assert_eq!(docker.ok(&["push", "-q", &name]), format!("{name}:latest").replacen("docker.io/", "", 1));
    let output = docker.command(&["push", "no/such:here"]).run();
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr().ends_with("An image does not exist locally with the tag: no/such"), "{output}");
    docker.ok(&["rmi", "--force", &name, &format!("{name}:v2")]);
    assert_eq!(docker.ok(&["run", "--rm", "--network", "none", &name, "echo", "back"]), "back");
}

#[test]
fn devices_by_name() {
    let (Some(docker), vendor) = (Docker::new(), Vendor::new()) else { return };
    vendor.says(
        &[("one", json!({"env": ["HULL=oak"], "deviceNodes": [{"path": "/dev/deep", "hostPath": "/dev/full"}]}))],
        json!({}),
    );
    let one = vendor.device("one");
    let line = ["--network", "none", "--device", &one, "--device", "/dev/null:/dev/void"];
    let run = |name: &str, words: &[&str]| {
        docker.command(&[&["run", "--name", name], &line[..], &["busybox"], words].concat())
    };
    assert_eq!(run("hull", &["sh", "-c", "echo $HULL; ls /dev/deep /dev/void"]).ok(), "oak\n/dev/deep\n/dev/void");
    let asked =
        docker.ok(&["inspect", "-f", "{{range .HostConfig.DeviceRequests}}{{.Driver}} {{.DeviceIDs}}{{end}}", "hull"]);
    assert_eq!(asked, format!("cdi [{one}]"));
    docker.ok(&["rm", "hull"]);
    let info = docker.ok(&["info", "-f", "{{.CDISpecDirs}} {{json .DiscoveredDevices}}"]);
    assert!(
        info.starts_with("[/etc/cdi /var/run/cdi]") && info.contains(&format!(r#"{{"Source":"cdi","ID":"{one}"}}"#)),
        "{info}"
    );
    assert!(docker.ok(&["info"]).contains(&format!("  cdi: {one}\n")));
    vendor.says(&[("two", json!({"env": ["HULL=oak"]}))], json!({}));
    let output = run("mast", &["true"]).run();
    let words = format!("Error response from daemon: CDI device injection failed: unresolvable CDI devices {one}");
    assert!(output.code() == Some(125) && output.stderr().contains(&words), "{output}");
    let output =
        docker.command(&["run", "--rm", "--network", "none", "--gpus", "driver=boat", "busybox", "true"]).run();
    let words = "could not select device driver \"boat\" with capabilities: [[gpu]]";
    assert!(output.code() == Some(125) && output.stderr().contains(words), "{output}");
    docker.ok(&["rm", "mast"]);
    let text = format!("FROM busybox\nRUN --device={},required test $HULL = oak\n", vendor.device("two"));
    docker.host.file("boat/Dockerfile", text);
    let dir = docker.host.dir().join("boat");
    let build = || {
        let line = ["build", "--network", "none", dir.to_str().expect("UTF-8")];
        docker.command(&line).env("DOCKER_BUILDKIT", "0").run()
    };
    let output = build();
    let words = "is requested by the build but not allowed";
    assert!(!output.status.success() && output.stderr().contains(words), "{output}");
    vendor.annotated("org.mobyproject.buildkit.device.autoallow", &[("two", json!({"env": ["HULL=oak"]}))]);
    build().ok();
}
