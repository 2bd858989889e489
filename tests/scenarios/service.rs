//! The daemon as a part of the machine: the sockets that clients look for, the configuration that is read again, and
//! what the service manager is told.

use crate::fixture::{Command, Daemon, Host, PATIENCE, Running, certificates, eventually, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A /run of its own, which is gone with this.
struct Apart {
    holder: Running,
}

impl Apart {
    fn new() -> Apart {
        let line = "mount -t tmpfs -o mode=755 none /run && echo ready && exec sleep 1000";
        let mut command = Command::new("unshare", ["--mount", "--propagation", "private", "sh", "-c", line]);
        command.inner().stdin(std::process::Stdio::null());
        let apart = Apart { holder: command.spawn() };
        let mounts = || fs::read_to_string(format!("/proc/{}/mountinfo", apart.holder.pid())).unwrap_or_default();
        eventually("/run is another one", || {
            mounts().lines().any(|line| line.contains(" /run ") && line.contains("tmpfs none"))
        });
        apart
    }

    /// A command that is run there.
    fn command(&self, host: &Host, words: &[&str]) -> Command {
        let pid = self.holder.pid().to_string();
        Command::new("nsenter", [&["--target", &pid, "--mount", "--"], words].concat())
            .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
            .env("HOME", host.dir().join("home").to_str().expect("UTF-8"))
    }

    fn dhow(&self, host: &Host, words: &[&str]) -> Command {
        self.command(host, &[&[env!("CARGO_BIN_EXE_dhow")], words].concat())
    }

    /// A file as it is seen there.
    fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.holder.pid())).join(path.trim_start_matches('/'))
    }

    fn is_socket(&self, path: &str) -> bool {
        fs::metadata(self.path(path)).is_ok_and(|found| found.file_type().is_socket())
    }

    /// Starts a daemon and waits until it listens on that socket.
    fn daemon(&self, host: &Host, flags: &[&str], socket: &str) -> Running {
        let mut running = self.dhow(host, &[&["daemon"], flags].concat()).spawn();
        eventually("the daemon listens", || {
            assert!(!running.has_ended(), "the daemon ended");
            self.dhow(host, &["-H", &format!("unix://{socket}"), "version"]).run().status.success()
        });
        running
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.holder.pid()), Signal::SIGKILL);
    }
}

fn end(daemon: Running) -> String {
    daemon.signal(Signal::SIGTERM);
    let output = daemon.wait();
    assert!(output.status.success(), "{output}");
    output.stderr()
}

#[test]
fn it_listens_where_clients_look() {
    let (Some(host), Some(()), Some(())) = (Host::with_busybox(), need("unshare"), need("nsenter")) else { return };
    let apart = Apart::new();
    const OWN: &str = "/run/dhow/dhow.sock";
    const DOCKERS: &str = "/run/docker.sock";
    let daemon = apart.daemon(&host, &[], OWN);
    for path in [OWN, DOCKERS] {
        assert!(apart.is_socket(path), "{path}");
        assert_eq!(fs::metadata(apart.path(path)).expect("look").permissions().mode() & 0o777, 0o660, "{path}");
    }
    // Whoever names no daemon finds it.
    if need("docker").is_some() {
        assert_eq!(apart.command(&host, &["docker", "version", "--format", "{{.Server.Os}}"]).ok(), "linux");
        let run = ["docker", "run", "--rm", "--network", "none", "busybox", "echo", "ahoy"];
        assert_eq!(apart.command(&host, &run).ok(), "ahoy");
    }
    assert_eq!(apart.dhow(&host, &["client", "version", "--format", "{{.Server.Os}}"]).ok(), "linux");
    // Killed, it leaves both, and the next one takes them over.
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    assert!(apart.is_socket(OWN) && apart.is_socket(DOCKERS));
    let daemon = apart.daemon(&host, &[], DOCKERS);
    let said = end(daemon);
    assert!(!said.contains("left alone"), "{said}");
    assert!(!apart.is_socket(OWN) && !apart.is_socket(DOCKERS), "they went with it");

    // One that a living daemon owns is its own.
    let other = host.dir().join("other");
    let (root, run) = (other.join("root"), other.join("run"));
    let flags = [
        "--data-root",
        root.to_str().expect("UTF-8"),
        "--exec-root",
        run.to_str().expect("UTF-8"),
        "-H",
        "unix:///run/docker.sock",
    ];
    let theirs = apart.daemon(&host, &flags, DOCKERS);
    let ours = apart.daemon(&host, &[], OWN);
    let images = |socket: &str| apart.dhow(&host, &["-H", &format!("unix://{socket}"), "images", "-q"]).ok();
    assert_ne!(images(OWN), "");
    assert_eq!(images(DOCKERS), "", "the other store has no image");
    let said = end(ours);
    assert!(said.contains("docker's usual socket is left alone") && said.contains("another daemon listens"), "{said}");
    assert_eq!(images(DOCKERS), "", "it still listens");
    end(theirs);
}

#[test]
fn the_configuration_is_read_again() {
    let Some(host) = Host::with_busybox() else { return };
    let config = host.file("daemon.json", r#"{"shutdown-timeout": 3}"#);
    let log = host.dir().join("log");
    let mut command = Daemon::command(&host, &["--config-file", config.to_str().expect("UTF-8")]);
    let line = format!("exec {} \"$@\" 2>{}", env!("CARGO_BIN_EXE_dhow"), log.display());
    let words: Vec<_> = command.inner().get_args().map(|arg| arg.to_str().expect("UTF-8").to_owned()).collect();
    let command = Command::new("sh", [vec!["-c".to_owned(), line, "sh".to_owned()], words].concat())
        .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
        .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"));
    let daemon = Daemon::spawn(&host, command);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let hup = |text: &str, word: &str| {
        fs::write(&config, text).expect("write");
        let before = said().matches(word).count();
        kill(Pid::from_raw(daemon.pid()), Signal::SIGHUP).expect("signal");
        eventually(word, || said().matches(word).count() > before);
    };
    let over = |args: &[&str]| host.local(args.iter().copied()).env("DOCKER_HOST", &daemon.address());
    let info = |format: &str| over(&["info", "--format", format]).ok();
    let limit = |daemon: bool| {
        let args = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", "ulimit -n"];
        if daemon { over(&args).ok() } else { host.ok(args) }
    };
    let usual = limit(true);
    assert_eq!(info("{{.Debug}} {{json .RegistryConfig.Mirrors}}"), "false null");
    let new = r#"{"debug": true, "registry-mirrors": ["http://127.0.0.1:5999"], "shutdown-timeout": 7,
        "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 77, "Soft": 77}},
        "data-root": "/nowhere", "tlsverify": true, "hosts": []}"#;
    hup(new, "the configuration was read again");
    assert_eq!(info("{{.Debug}} {{json .RegistryConfig.Mirrors}}"), r#"true ["http://127.0.0.1:5999/"]"#);
    assert_eq!(limit(true), "77");
    assert_eq!(limit(false), usual, "a command has its own configuration");
    let text = said();
    assert!(text.contains("a reload does not change data-root, tlsverify"), "{text}");
    assert_eq!(info("{{.DockerRootDir}}"), host.root().to_str().expect("UTF-8"));
    // What is wrong changes nothing, and what stands in both places is wrong.
    for (bad, why) in [
        ("{", "EOF while parsing"),
        (r#"{"colour": 1}"#, "unknown field `colour`"),
        (r#"{"hosts": ["unix:///x"]}"#, "specified both as a flag and in the configuration file: hosts"),
        (r#"{"log-level": "loud"}"#, "invalid log level"),
    ] {
        hup(bad, "the configuration is kept as it was");
        assert!(said().contains(why), "{bad}: {}", said());
        assert_eq!(limit(true), "77");
    }
    hup("{}", "the configuration was read again");
    assert_eq!(info("{{.Debug}} {{json .RegistryConfig.Mirrors}}"), "false null");
    assert_eq!(limit(true), usual);
    // Each reload that was one is an event.
    let events = host.ok(["events", "--since", "0", "--until", "0s", "--filter", "type=daemon", "--format", "json"]);
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.len(), 2, "{events:?}");
    let (actor, attributes) = (&events[0]["Actor"], &events[0]["Actor"]["Attributes"]);
    assert_eq!((&events[0]["Action"], &events[0]["Type"]), (&"reload".into(), &"daemon".into()));
    assert_eq!(actor["ID"].as_str(), Some(info("{{.ID}}").as_str()));
    assert_eq!(attributes["name"].as_str(), Some(info("{{.Name}}").as_str()));
    for (key, value) in [
        ("debug", "true"),
        ("registry-mirrors", r#"["http://127.0.0.1:5999"]"#),
        ("insecure-registries", "[]"),
        ("shutdown-timeout", "7"),
        ("max-concurrent-downloads", "3"),
        ("default-shm-size", "67108864"),
        ("live-restore", "true"),
    ] {
        assert_eq!(attributes[key].as_str(), Some(value), "{key}: {attributes}");
    }
    assert_eq!(events[1]["Actor"]["Attributes"]["debug"], "false");
    let id = format!("daemon={}", &info("{{.ID}}")[..6]);
    assert_eq!(host.ok(["events", "--since", "0", "--until", "0s", "--filter", &id]).lines().count(), 2);
}

#[test]
fn the_service_manager_is_told() {
    let Some(host) = Host::new() else { return };
    let config = host.file("daemon.json", "{}");
    let path = host.dir().join("notify.sock");
    let name = format!("dhow-test-{}", std::process::id());
    let hidden = SocketAddr::from_abstract_name(&name).expect("a name");
    let sockets = [
        (UnixDatagram::bind(&path).expect("bind"), path.to_str().expect("UTF-8").to_owned()),
        (UnixDatagram::bind_addr(&hidden).expect("bind"), format!("@{name}")),
    ];
    for (manager, address) in sockets {
        manager.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        let told = || {
            let mut buffer = [0; 200];
            let length = manager.recv(&mut buffer).expect("hear of it");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let flags = ["--config-file", config.to_str().expect("UTF-8")];
        let daemon = Daemon::spawn(&host, Daemon::command(&host, &flags).env("NOTIFY_SOCKET", &address));
        assert_eq!(told(), "READY=1", "{address}");
        assert_eq!(daemon.ask("GET /_ping").1, "OK");
        // Also where the new configuration is wrong.
        for text in ["{}", "{"] {
            fs::write(&config, text).expect("write");
            kill(Pid::from_raw(daemon.pid()), Signal::SIGHUP).expect("signal");
            let reloading = told();
            let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading}"));
            let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("ask for the time");
            let since = Duration::from_micros(since.parse().expect("a number"));
            assert!(since <= Duration::from(now) && since + PATIENCE > Duration::from(now), "{reloading}");
            assert_eq!(told(), "READY=1");
        }
        fs::write(&config, "{}").expect("write");
        daemon.stop();
        assert_eq!(told(), "STOPPING=1");
    }
}

#[test]
fn tls_that_asks_nobody_who_he_is_stays_on_this_machine() {
    let (Some(host), Some(())) = (Host::new(), need("openssl")) else { return };
    let certs = certificates(&host);
    let file = |name: &str| certs.join(name).to_str().expect("UTF-8").to_owned();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let tls = ["--tls", "--tlscert", &cert, "--tlskey", &key];
    let text = host.local([&["daemon", "-H", "tcp://0.0.0.0:0"], &tls[..]].concat()).refused(1);
    assert!(text.contains("TLS without --tlsverify on 0.0.0.0") && text.contains("--allow-insecure-tcp"), "{text}");
    let config = format!(r#"{{"tlsverify": false, "tlscert": {cert:?}, "tlskey": {key:?}}}"#);
    let config = host.file("daemon.json", config);
    let text = host.local(["daemon", "-H", "tcp://[::]:0", "--config", config.to_str().expect("UTF-8")]).refused(1);
    assert!(text.contains("TLS without --tlsverify on ::"), "{text}");
    let daemon = crate::fixture::TcpDaemon::start(&host, &tls);
    let os = host.local(["--tls", "version", "--format", "{{.Server.Os}}"]).env("DOCKER_HOST", &daemon.address());
    assert_eq!(os.ok(), "linux");
}
