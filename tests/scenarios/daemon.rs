//! The daemon as whoever runs the machine sees it: its sockets, its start and its end.

use crate::fixture::{Command, Daemon, Host, TcpDaemon, certificates, eventually, need};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

#[test]
fn its_socket_is_for_root_and_the_group_only() {
    let Some(host) = Host::new() else { return };
    let daemon = Daemon::start_with(&host, &["--group", "daemon"]);
    let found = fs::metadata(daemon.socket()).expect("the socket");
    let gid = nix::unistd::Group::from_name("daemon").expect("ask").map_or(0, |group| group.gid.as_raw());
    assert!(found.file_type().is_socket());
    assert_eq!((found.permissions().mode() & 0o777, found.uid(), found.gid()), (0o660, 0, gid));
    let socket = daemon.socket().to_owned();
    let output = daemon.stop();
    assert!(output.status.success(), "{output}");
    assert!(!socket.exists(), "the socket went with the daemon");
}

#[test]
fn its_group_is_one_that_there_is() {
    let Some(host) = Host::new() else { return };
    // A number needs no name.
    let daemon = Daemon::start_with(&host, &["--group", "54321"]);
    assert_eq!(fs::metadata(daemon.socket()).expect("the socket").gid(), 54321);
    drop(daemon);
    let address = format!("unix://{}", Daemon::path(&host).display());
    let text = host.local(["daemon", "--host", &address, "--group", "nosuch"]).refused(1);
    assert!(text.contains("group nosuch not found"), "{text}");
    assert!(!Daemon::path(&host).exists());
    let daemon = Daemon::start_with(&host, &["--group", ""]);
    assert_eq!(fs::metadata(daemon.socket()).expect("the socket").gid(), 0);
}

#[test]
fn signals_that_ask_do_not_end_it() {
    let Some(host) = Host::new() else { return };
    use nix::sys::signal::{Signal, kill};
    let daemon = Daemon::start(&host);
    let pid = nix::unistd::Pid::from_raw(daemon.pid());
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGPIPE] {
        kill(pid, signal).expect("send a signal");
        assert_eq!(daemon.ask("GET /_ping").1, "OK", "after {signal}");
    }
    let output = daemon.stop();
    assert!(output.status.success() && output.stderr().contains("the configuration was read again"), "{output}");
    // What its threads are at.
    assert!(output.stderr().contains("thread ") && output.stderr().contains(", system call "), "{output}");
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let daemon = Daemon::start(&host);
        kill(nix::unistd::Pid::from_raw(daemon.pid()), signal).expect("send a signal");
        let output = daemon.join();
        assert!(output.status.success() && output.stderr().contains("the containers go on"), "{signal}: {output}");
    }
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let Some(host) = Host::new() else { return };
    let daemon = Daemon::start(&host);
    let text = host.local(["daemon", "--host", &daemon.address()]).refused(1);
    assert!(text.contains("another daemon serves the store"), "{text}");
    // Another store, the same socket.
    let other = host.dir().join("other");
    let other = other.to_str().expect("UTF-8");
    let text = host
        .local(["daemon", "--data-root", other, "--exec-root", &format!("{other}-run"), "--host", &daemon.address()])
        .refused(1);
    assert!(text.contains("another daemon listens there"), "{text}");
    daemon.kill();
    assert!(Daemon::path(&host).exists(), "a killed daemon leaves its socket");
    let daemon = Daemon::start(&host);
    assert_eq!(daemon.ask("GET /_ping").1, "OK");
    drop(daemon);
    let file = host.file("no.sock", "");
    let text = host.local(["daemon", "--host", &format!("unix://{}", file.display())]).refused(1);
    assert!(text.contains("is no socket") && file.exists(), "{text}");
}

#[test]
fn containers_outlive_their_daemon() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let address = daemon.address();
    let over = |args: &[&str]| host.local(args.iter().copied()).env("DOCKER_HOST", &address);
    over(&["run", "--detach", "--name", "hull", "--network", "none", "busybox", "sh", "-c", "read x; sleep 1000"]).ok();
    over(&[
        "run",
        "--detach",
        "--name",
        "mast",
        "--network",
        "none",
        "--interactive",
        "busybox",
        "sh",
        "-c",
        "sleep 1; exit 9",
    ])
    .ok();
    // A port, a name, and a connection.
    over(&["network", "create", "sea"]).ok();
    let echo = ["busybox", "nc", "-l", "-p", "7", "-e", "cat"];
    let flags = ["run", "--detach", "--name", "echo", "--network", "sea", "--publish", "7007:7"];
    over(&[&flags[..], &echo].concat()).ok();
    over(&["run", "--detach", "--name", "crow", "--network", "sea", "busybox", "sleep", "1000"]).ok();
    let mut connection = None;
    eventually("it listens", || {
        connection = TcpStream::connect("127.0.0.1:7007").ok();
        connection.is_some()
    });
    let mut connection = connection.expect("a connection");
    let mut answers = |words: &str| {
        connection.write_all(words.as_bytes()).expect("write to the container");
        let mut answer = vec![0; words.len()];
        connection.read_exact(&mut answer).expect("hear of the container");
        answer == words.as_bytes() && host.run(["exec", "crow", "nslookup", "echo."]).code() == Some(0)
    };
    assert!(answers("before"));
    daemon.kill();
    assert!(answers("without a daemon"));
    assert!(host.ok(["ports", "--format", "{{.Published}} {{.Reach}}"]).starts_with("0.0.0.0:7007/tcp everyone"));
    assert_eq!(host.inspect("hull", "/State/Running"), true);
    host.detached(&["--name", "keel"], &["sleep", "1000"]);
    let daemon = Daemon::start(&host);
    assert!(answers("with another one"));
    let names = over(&["ps", "--format", "{{.Names}}"]).ok();
    assert!(names.contains("hull") && names.contains("keel"), "{names}");
    assert_eq!(over(&["wait", "mast"]).ok(), "9");
    let output = daemon.stop();
    assert!(output.stderr().contains("the containers go on"), "{output}");
    assert_eq!(host.inspect("keel", "/State/Running"), true);
}

#[test]
fn ended_shims_are_buried() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    for _ in 0..3 {
        let run = ["run", "--rm", "--network", "none", "busybox", "true"];
        host.local(run).env("DOCKER_HOST", &daemon.address()).ok();
    }
    let parent = format!("PPid:\t{}\n", daemon.pid());
    let children = || {
        let processes = fs::read_dir("/proc").expect("list").flatten();
        let states = processes.filter_map(|process| fs::read_to_string(process.path().join("status")).ok());
        states.filter(|status| status.contains(&parent)).count()
    };
    eventually("no child of it is left", || children() == 0);
    daemon.stop();
}

#[test]
fn sockets_may_be_handed_over() {
    let (Some(host), Some(())) = (Host::new(), need("python3")) else { return };
    let path = host.dir().join("handed.sock");
    let listener = UnixListener::bind(&path).expect("listen");
    let script = "import os,sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); \
                  os.environ['LISTEN_FDS'] = '1'; os.execv(sys.argv[2], sys.argv[2:])";
    let number = nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_DUPFD(10)).expect("copy it");
    let number = number.to_string();
    let mut running =
        Command::new("python3", ["-c", script, &number, env!("CARGO_BIN_EXE_dhow"), "daemon", "-H", "fd://"])
            .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
            .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"))
            .spawn();
    let _ = nix::unistd::close(number.parse::<i32>().expect("a number"));
    assert!(listener.as_raw_fd() > 2);
    drop(listener);
    let version = host.local(["-H", &format!("unix://{}", path.display()), "version", "--format", "{{.Server.Os}}"]);
    assert_eq!(version.ok(), "linux");
    assert!(!running.has_ended());
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().status.success());
    let text = host.local(["daemon", "-H", "fd://"]).refused(1);
    assert!(text.contains("no socket was handed over"), "{text}");
}

#[test]
fn tcp_is_for_this_machine_or_for_those_with_a_certificate() {
    let (Some(host), Some(())) = (Host::with_busybox(), need("openssl")) else { return };
    let text = host.local(["daemon", "-H", "tcp://0.0.0.0:0"]).refused(1);
    assert!(text.contains("--allow-insecure-tcp"), "{text}");
    let certs = certificates(&host);
    let file = |name: &str| certs.join(name).to_str().expect("UTF-8").to_owned();
    let daemon = TcpDaemon::start(
        &host,
        &["--tlsverify", "--tlscacert", &file("ca.pem"), "--tlscert", &file("cert.pem"), "--tlskey", &file("key.pem")],
    );
    let address = daemon.address();
    let client = |args: &[&str]| {
        host.local(args.iter().copied())
            .env("DOCKER_HOST", &address)
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", certs.to_str().expect("UTF-8"))
    };
    // Streams, half-closes and a body of many records.
    let bytes: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    let output = client(&["run", "--rm", "-i", "--network", "none", "busybox", "cat"]).input(bytes.clone()).run();
    assert!(output.status.success() && output.out == bytes, "{} bytes, {}", output.out.len(), output.stderr());
    assert_eq!(client(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 4"]).run().code(), Some(4));
    if need("docker").is_some() {
        let docker = |args: &[&str]| {
            Command::new("docker", args.iter().copied())
                .env("HOME", host.dir().to_str().expect("UTF-8"))
                .env("DOCKER_HOST", &address)
                .env("DOCKER_TLS_VERIFY", "1")
                .env("DOCKER_CERT_PATH", certs.to_str().expect("UTF-8"))
        };
        let output = docker(&["run", "--rm", "-i", "--network", "none", "busybox", "cat"]).input(bytes.clone()).run();
        assert!(output.status.success() && output.out == bytes, "{} bytes, {}", output.out.len(), output.stderr());
    }
    // Without a certificate of the CA nobody comes in; without its CA nobody trusts the daemon.
    let stranger = host.local(["--tls", "ps"]).env("DOCKER_HOST", &address).refused(1);
    assert!(stranger.contains("certificate") || stranger.contains("TLS"), "{stranger}");
    let wrong =
        host.local(["--tlsverify", "--tlscacert", &file("other.pem"), "ps"]).env("DOCKER_HOST", &address).refused(1);
    assert!(wrong.contains("certificate"), "{wrong}");
    daemon.stop();
}

/// DHOW_GUEST_EXECUTABLE, where that is the one that is shipped: its curves are others than those of the tests.
#[test]
fn what_is_shipped_speaks_tls_by_every_curve() {
    let (Some(host), Some(())) = (Host::new(), need("openssl")) else { return };
    let program = std::env::var("DHOW_GUEST_EXECUTABLE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_dhow").to_owned());
    let dhow = |args: &[&str]| {
        Command::new(&program, args.iter().copied())
            .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
            .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"))
    };
    let certs = certificates(&host);
    let file = |name: &str| certs.join(name).to_str().expect("UTF-8").to_owned();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let words = [&["daemon", "-H", "tcp://127.0.0.1:0"], &tls[..]].concat();
    let daemon = TcpDaemon::spawn(&host, dhow(&words));
    let address = daemon.address();
    let place = address.strip_prefix("tcp://").expect("an address");
    let ask = |version: &str, groups: &str, cert: &str, key: &str| {
        let words =
            ["s_client", "-connect", place, version, "-groups", groups, "-CAfile", &ca, "-cert", cert, "-key", key];
        let words = words.into_iter().chain(["-verify_return_error", "-quiet", "-ign_eof"]);
        Command::new("openssl", words).input(b"GET /_ping HTTP/1.0\r\n\r\n".to_vec()).run().stdout()
    };
    // The group of the certificate is to be among those of TLS 1.2.
    for (version, groups) in [
        ("-tls1_3", "X25519"),
        ("-tls1_3", "P-256"),
        ("-tls1_3", "P-384"),
        ("-tls1_2", "P-256"),
        ("-tls1_2", "X25519:P-256"),
    ] {
        let said = ask(version, groups, &cert, &key);
        assert!(said.starts_with("HTTP/1.") && said.ends_with("OK"), "{version} {groups}: {said}");
        let said = ask(version, groups, &file("other.pem"), &file("other.key"));
        assert!(!said.contains("OK"), "{version} {groups}: {said}");
    }
    let words = [&["-H", &address], &tls[..], &["ps", "--quiet"]].concat();
    assert_eq!(dhow(&words).ok(), "");
    let other = file("other.pem");
    let text = dhow(&["-H", &address, "--tlsverify", "--tlscacert", &other, "ps"]).refused(1);
    assert!(text.contains("certificate"), "{text}");
    daemon.stop();
}

#[test]
fn a_setting_given_twice_is_an_error() {
    let Some(host) = Host::new() else { return };
    let config = host.file("daemon.json", r#"{"hosts": ["unix:///nowhere/x.sock"], "group": "daemon"}"#);
    let config = config.to_str().expect("UTF-8");
    let text = host.local(["daemon", "--config", config, "-H", "unix:///nowhere/y.sock"]).refused(1);
    assert!(text.contains("specified both as a flag and in the configuration file: hosts"), "{text}");
    let socket = format!("unix://{}", host.dir().join("z.sock").display());
    for (flags, why) in [
        (vec!["-H", "npipe://x"], "invalid host"),
        (vec!["-H", "ssh://x"], "cannot listen"),
        (vec!["-H", &socket, "--log-level", "loud"], "invalid log level"),
        (vec!["-H", &socket, "--tlsverify"], "TLS needs a certificate"),
    ] {
        let text = host.local([&["daemon"], &flags[..]].concat()).refused(1);
        assert!(text.contains(why), "{flags:?}: {text}");
    }
    // Before the command they are a client's.
    for flags in [["-H", &socket], ["--context", "there"], ["--tlscacert", "ca.pem"]] {
        let text = host.local([&flags[..], &["daemon"]].concat()).refused(1);
        assert!(text.contains("before the command is a client's"), "{flags:?}: {text}");
    }
}

#[test]
fn flags_of_dockerd_hold_or_are_refused() {
    let Some(host) = Host::with_busybox() else { return };
    let flags = [
        ["--label", "sea=rough"],
        ["--log-driver", "none"],
        ["--default-ulimit", "nofile=64:128"],
        ["--default-shm-size", "8m"],
        ["--insecure-registry", "registry.example:5000"],
        ["--registry-mirror", "http://127.0.0.1:1"],
        ["--max-concurrent-downloads", "2"],
        ["--max-concurrent-uploads", "2"],
        ["--max-download-attempts", "2"],
        ["--shutdown-timeout", "5"],
        ["--default-ipc-mode", "shareable"],
        ["--default-cgroupns-mode", "host"],
        ["--seccomp-profile", "unconfined"],
        ["--http-proxy", "http://me:secret@proxy.example"],
        ["--storage-driver", "overlay2"],
        ["--exec-opt", "native.cgroupdriver=cgroupfs"],
        ["--default-runtime", "runc"],
        ["--feature", "buildkit=false"],
        ["--log-format", "text"],
    ];
    let flags = [&flags.concat()[..], &["--live-restore", "--init", "--no-new-privileges"]].concat();
    let daemon = Daemon::start_with(&host, &flags);
    let client = |args: &[&str]| host.local(args.iter().copied()).env("DOCKER_HOST", &daemon.address());
    let info = client(&["info", "--format", "{{.Labels}} {{.LoggingDriver}} {{.RegistryConfig.Mirrors}}"]).ok();
    assert_eq!(info, "[sea=rough] none [http://127.0.0.1:1/]");
    let info = client(&["info", "--format", "{{.HTTPProxy}} {{.SecurityOptions}}"]).ok();
    assert!(
        info.starts_with("http://xxxxx:xxxxx@proxy.example ") && info.contains("seccomp,profile=unconfined"),
        "{info}"
    );
    let insecure =
        client(&["info", "--format", "{{range $name, $it := .RegistryConfig.IndexConfigs}}{{$name}} {{end}}"]);
    assert!(insecure.ok().contains("registry.example:5000"));
    let script = "ulimit -n; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; grep NoNewPrivs /proc/self/status | cut -f 2";
    let run = client(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]).ok();
    assert_eq!(run, "64\n8192\n1");
    client(&["create", "--name", "hull", "--network", "none", "busybox", "true"]).ok();
    let made = client(&["inspect", "--format", "{{.HostConfig.LogConfig.Type}} {{.HostConfig.Runtime}}", "hull"]).ok();
    assert_eq!(made, "none dhow");
    let kept = "{{.HostConfig.IpcMode}} {{.HostConfig.CgroupnsMode}} {{index .HostConfig.SecurityOpt 0}}";
    assert_eq!(client(&["inspect", "--format", kept, "hull"]).ok(), "shareable host seccomp=unconfined");
    let own = ["--ipc", "none", "--cgroupns", "private", "--security-opt", "seccomp=builtin"];
    client(&[&["create", "--name", "own"], &own[..], &["--network", "none", "busybox"]].concat()).ok();
    assert_eq!(client(&["inspect", "--format", kept, "own"]).ok(), "none private seccomp=builtin");
    let said = daemon.stop().stderr();
    assert!(said.contains("shutdown-timeout: containers go on when the daemon ends"), "{said}");

    // By that name, and without a daemon that stays.
    let dockerd = host.dir().join("dockerd");
    symlink(env!("CARGO_BIN_EXE_dhow"), &dockerd).expect("link");
    let dockerd = |args: &[&str]| {
        let command = Command::new(dockerd.to_str().expect("UTF-8"), args.iter().copied());
        command.env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
    };
    let output = dockerd(&[&["--validate"], &flags[..]].concat()).run();
    assert!(output.status.success() && output.stderr() == "configuration OK", "{output}");
    let config =
        host.file("daemon.json", r#"{"labels": ["a=b"], "live-restore": true, "features": {"buildkit": false}}"#);
    let config = config.to_str().expect("UTF-8");
    let output = dockerd(&["--validate", "--config-file", config]).run();
    assert!(output.status.success(), "{output}");
    for (flags, why) in [
        (&["--config-file", config, "--label", "c=d"][..], "configuration file: labels"),
        (&["--label", "x"], "labels: \"x\" is no key=value"),
        (&["--log-driver", "syslog"], "log-driver \"syslog\" is not supported"),
        (&["--log-opt", "x"], "--log-opt \"x\": not key=value"),
        (&["--storage-driver", "btrfs"], "storage-driver \"btrfs\" is not supported"),
        (&["-s", "vfs"], "storage-driver \"vfs\" is not supported"),
        (&["--exec-opt", "native.cgroupdriver=systemd"], "exec-opts \"native.cgroupdriver=systemd\" is not supported"),
        (&["--default-runtime", "kata"], "default-runtime \"kata\" is not supported"),
        (&["--feature", "containerd-snapshotter"], "features: \"containerd-snapshotter\" is none of dhow's"),
        (&["--max-concurrent-downloads", "0"], "max-concurrent-downloads must be 1 at least"),
        (&["--default-ipc-mode", "host"], "default-ipc-mode \"host\" is neither private nor shareable"),
        (&["--default-cgroupns-mode", "x"], "default-cgroupns-mode \"x\" is neither private nor host"),
        (&["--cgroup-parent", "../x"], "cgroup-parent: invalid cgroup parent: ../x"),
        (&["--seccomp-profile", "/no/such"], "seccomp-profile /no/such: no such file or directory"),
        (&["--log-format", "json"], "log-format \"json\" is not supported"),
    ] {
        let text = dockerd(&[&["--validate"], flags].concat()).refused(1);
        assert!(text.contains(why), "{flags:?}: {text}");
    }
    for (flag, why) in [
        ("--containerd", "there is no containerd"),
        ("--authorization-plugin", "there are no authorization plugins"),
        ("--init-path", "the init of containers is dhow's own"),
    ] {
        let text = dockerd(&["--validate", flag, "x"]).refused(125);
        assert!(text.contains(&format!("{flag} is not taken: ")) && text.contains(why), "{text}");
    }
}

#[test]
fn what_confines_containers_that_do_not_say_is_a_setting() {
    let Some(host) = Host::with_busybox() else { return };
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let profile = host.file("profile.json", profile);
    let keys = serde_json::json!({ "seccomp-profile": profile, "cgroup-parent": "/boats" });
    let config = host.file("daemon.json", keys.to_string());
    let made = ["--config", config.to_str().expect("UTF-8"), "create", "--network", "none"];
    let parent = |flags: &[&str]| {
        let id = host.ok(made.iter().chain(flags).chain(&["busybox", "true"]).copied());
        host.inspect(&id, "/HostConfig/CgroupParent")
    };
    assert_eq!((parent(&[]), parent(&["--cgroup-parent", "/ships"])), ("/boats".into(), "/ships".into()));
    let config = host.file("daemon.json", serde_json::json!({ "seccomp-profile": profile }).to_string());
    let run = |flags: &[&str]| {
        let made = ["--config", config.to_str().expect("UTF-8"), "run", "--rm", "--network", "none"];
        let line = "mkdir /tmp/x 2>/dev/null && echo made";
        host.dhow(made.iter().chain(flags).chain(&["busybox", "sh", "-c", line]).copied()).run().stdout()
    };
    assert_eq!((run(&[]), run(&["--privileged"])), (String::new(), "made".to_owned()));
    assert_eq!(run(&["--security-opt", "seccomp=builtin"]), "made");
}

#[test]
fn a_client_finds_its_daemon_by_context_and_through_a_pipe() {
    let Some(host) = Host::new() else { return };
    let daemon = Daemon::start(&host);
    // As `docker context create` writes it.
    let id = crate::fixture::digest(b"harbour");
    let meta = format!("home/.docker/contexts/meta/{}/meta.json", id.trim_start_matches("sha256:"));
    let host_of = |address: &str| format!(r#"{{"Name":"harbour","Endpoints":{{"docker":{{"Host":"{address}"}}}}}}"#);
    host.file(&meta, host_of(&daemon.address()));
    let names = ["--context", "harbour", "version", "--format", "{{.Server.ApiVersion}}"];
    assert_eq!(host.local(names).ok(), "1.51");
    assert_eq!(host.local(&names[2..]).env("DOCKER_CONTEXT", "harbour").ok(), "1.51");
    host.file("home/.docker/config.json", r#"{"currentContext":"harbour"}"#);
    host.ok(["version"]);
    let text = host.local(["--context", "nowhere", "ps"]).refused(1);
    assert!(text.contains("context not found"), "{text}");
    let text = host.local(["--context", "harbour", "--host", "tcp://x", "ps"]).refused(1);
    assert!(text.contains("cannot specify both"), "{text}");
    // What ssh runs at the other end, and an ssh that only runs it.
    let output = host
        .local(["-H", &daemon.address(), "system", "dial-stdio"])
        .input("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .run();
    assert!(output.stdout().ends_with("OK"), "{output}");
    let bin = host.dir().join("bin");
    host.program("bin/ssh", "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done; shift 2\nexec sh -c \"$*\"\n");
    symlink(env!("CARGO_BIN_EXE_dhow"), bin.join("docker")).expect("link");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let address = format!("ssh://sailor@far{}", daemon.socket().display());
    assert_eq!(host.local(["-H", &address, "version", "--format", "{{.Server.Os}}"]).env("PATH", &path).ok(), "linux");
    drop(daemon);
    let text = host.local(["--context", "harbour", "ps"]).refused(1);
    assert!(text.contains("annot connect to the Docker daemon at unix://"), "{text}");
}

#[test]
fn called_docker_it_is_docker_with_its_plugins() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let docker = host.dir().join("docker");
    symlink(env!("CARGO_BIN_EXE_dhow"), &docker).expect("link");
    let docker = |args: &[&str]| {
        Command::new(docker.to_str().expect("UTF-8"), args.iter().copied())
            .env("HOME", host.dir().join("home").to_str().expect("UTF-8"))
            .env("DOCKER_HOST", &daemon.address())
    };
    assert_eq!(docker(&["run", "--rm", "--network", "none", "busybox", "echo", "ahoy"]).ok(), "ahoy");
    let script = "#!/bin/sh\nif [ \"$1\" = docker-cli-plugin-metadata ]; then\n\
                  echo '{\"SchemaVersion\":\"0.1.0\",\"Vendor\":\"the yard\"}'; exit; fi\necho \"plugin: $*\"\n";
    host.program("home/.docker/cli-plugins/docker-rig", script);
    assert_eq!(docker(&["rig", "up", "-d"]).ok(), "plugin: rig up -d");
    assert_eq!(docker(&["--log-level", "warn", "rig"]).ok(), "plugin: --log-level warn rig");
    // Another directory of the user's.
    let elsewhere = host.dir().join("elsewhere");
    host.program("elsewhere/cli-plugins/docker-sail", script);
    assert_eq!(docker(&["--config", elsewhere.to_str().expect("UTF-8"), "sail"]).ok(), "plugin: sail");
    host.program("home/.docker/cli-plugins/docker-wreck", "#!/bin/sh\necho no\n");
    for name in ["wreck", "nothing"] {
        let output = docker(&[name]).run();
        assert!(output.stderr().contains(&format!("unknown command: docker {name}")), "{output}");
    }
    assert!(docker(&["--help"]).run().stdout().contains("  wreck       invalid metadata"));
}
