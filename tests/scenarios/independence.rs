//! Nothing depends on a daemon: it may be killed, with all of its cgroup, absent, or of another build than the shims.

use crate::fixture::clients::source;
use crate::fixture::{Command, Daemon, Host, PATIENCE, eventually, head, skip};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Counts on stdout for as long as it lives.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done";

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Runs a command of the host through the daemon, wherever that is just now.
fn over(host: &Host, args: &[&str]) -> Command {
    host.local(args.iter().copied()).env("DOCKER_HOST", &format!("unix://{}", Daemon::path(host).display()))
}

fn up(host: &Host, name: &str, flags: &[&str], line: &str) -> String {
    let fixed = ["run", "--detach", "--network", "none", "--name", name];
    over(host, &[&fixed, flags, &["busybox", "sh", "-c", line]].concat()).ok()
}

/// That the log counts from one, without a gap and without a line twice; how far it comes.
fn counted(text: &str) -> usize {
    for (at, line) in text.lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1));
    }
    text.lines().count()
}

#[test]
fn a_daemon_that_is_killed_under_load_takes_nothing_along() {
    let Some(host) = Host::with_busybox() else { return };
    let mut daemon = Daemon::start(&host);
    for name in NAMES {
        up(&host, name, &[], COUNT);
    }
    let pids = || NAMES.map(|name| host.inspect(name, "/State/Pid"));
    let before = pids();
    up(&host, "again", &["--restart", "always"], "sleep 0.2; exit 4");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What goes through the daemon may fail while there is none, in an orderly way: no hang, no wrong answer.
        for worker in 0..3 {
            let (host, stop) = (&host, &stop);
            scope.spawn(move || {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    let output = match worker {
                        0 => over(host, &["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 6"]).run(),
                        1 => over(host, &["exec", "one", "sh", "-c", "exit 7"]).run(),
                        _ => over(host, &["logs", "--tail", "5", "two"]).run(),
                    };
                    match (worker, output.code()) {
                        (0, Some(6)) | (1, Some(7)) | (2, Some(0)) => done += 1,
                        (0 | 1, Some(125 | 1)) | (2, Some(1)) => assert_ne!(output.stderr(), "", "{output}"),
                        _ => panic!("{output}"),
                    }
                }
                assert!(done > 0, "worker {worker} did nothing");
            });
        }
        for round in 0..4 {
            // They end while there is no daemon; who waits does so without one, and through the next one.
            let (ends, held) = (format!("ends{round}"), host.dir().join(format!("go{round}")));
            fs::create_dir(&held).expect("make a folder");
            let mount = format!("{}:/hold", held.display());
            let line = format!("until test -e /hold/go; do sleep 0.01; done; echo gone; exit {}", 20 + round);
            up(&host, &ends, &["-v", &mount], &line);
            let local = host.local(["wait", &ends]).spawn();
            let remote = over(&host, &["wait", &ends]).spawn();
            std::thread::sleep(Duration::from_millis(300));
            std::mem::replace(&mut daemon, Daemon::absent(&host)).kill();
            fs::write(held.join("go"), "").expect("let it go");
            let code = (20 + round).to_string();
            assert_eq!(local.wait().stdout(), code);
            let cut = remote.wait();
            assert!(!cut.status.success() || cut.stdout() == code, "{cut}");
            assert_eq!(host.inspect(&ends, "/State/ExitCode"), 20 + round);
            let count = host.inspect("again", "/RestartCount").as_i64().expect("a count");
            eventually("it is started again without a daemon", || {
                host.inspect("again", "/RestartCount").as_i64().is_some_and(|now| now > count)
            });
            daemon = Daemon::start(&host);
            assert_eq!(over(&host, &["wait", &ends]).ok(), code);
            assert_eq!(over(&host, &["logs", &ends]).ok(), "gone");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(pids(), before, "none has ended");
    let listed = over(&host, &["ps", "--format", "{{.Names}}"]).ok();
    assert!(NAMES.iter().all(|name| listed.lines().any(|line| line == *name)), "{listed}");
    for name in NAMES {
        eventually("it counts on", || counted(&over(&host, &["logs", name]).ok()) > 50);
        let (through, without) = (over(&host, &["logs", name]).ok(), host.local(["logs", name]).ok());
        assert!(counted(&without) >= counted(&through), "{}", through.len());
    }
    // What the kills cut off in the middle is cleared by whoever comes next.
    for id in over(&host, &["ps", "--all", "--quiet", "--filter", "status=created"]).ok().lines() {
        over(&host, &["rm", "--force", id]).ok();
    }
    host.ok(["ps"]);
    host.assert_tidy();
}

#[test]
fn what_a_daemon_started_is_not_in_its_cgroup() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(hierarchy) = version_2() else { return skip("no cgroup version 2").unwrap_or_default() };
    let service = hierarchy.join(format!("dhow-service-{}", std::process::id()));
    fs::create_dir(&service).expect("make a cgroup");
    let gone = Gone(&service);
    // As a service manager starts it: in a cgroup of its own.
    let mut command = Daemon::command(&host, &[]);
    let words: Vec<_> = command.inner().get_args().map(|arg| arg.to_str().expect("UTF-8").to_owned()).collect();
    let line = format!("echo $$ >{}/cgroup.procs && exec {} \"$@\"", service.display(), env!("CARGO_BIN_EXE_dhow"));
    let command = Command::new("sh", [vec!["-c".to_owned(), line, "sh".to_owned()], words].concat())
        .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
        .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"));
    let daemon = Daemon::spawn(&host, command);
    up(&host, "count", &[], COUNT);
    up(&host, "again", &["--restart", "always"], "sleep 0.2; exit 4");
    let checked = ["--health-cmd", "true", "--health-interval", "300ms"];
    up(&host, "checked", &checked, "sleep 1000");
    let line = "echo in; until test -e /go; do sleep 0.05; done; exit 8";
    let running = over(&host, &["exec", "count", "sh", "-c", line]).spawn();
    running.says("in");
    eventually("it is healthy", || host.inspect("checked", "/State/Health/Status") == "healthy");
    let inside = fs::read_to_string(service.join("cgroup.procs")).expect("read");
    assert_eq!(inside.trim(), daemon.pid().to_string(), "the daemon alone is in its cgroup");
    let pid = host.inspect("count", "/State/Pid");
    let exec = host.inspect("count", "/ExecIDs/0");

    fs::write(service.join("cgroup.kill"), "1").expect("kill the cgroup");
    daemon.join();
    running.wait();
    assert_eq!(host.inspect("count", "/State/Pid"), pid);
    let restarts = || host.inspect("again", "/RestartCount").as_i64().expect("a count");
    let before = restarts();
    eventually("it is started again", || restarts() > before);
    // Health goes on too.
    let last = || host.inspect("checked", "/State/Health/Log").as_array().and_then(|all| all.last().cloned());
    let known = last();
    eventually("its health is asked for", || last() != known);
    assert_eq!(host.inspect("checked", "/State/Health/Status"), "healthy");

    let daemon = Daemon::start(&host);
    host.local(["exec", "count", "touch", "/go"]).run();
    let id = exec.as_str().expect("an id");
    eventually("the exec has ended as it should", || {
        let (_, body) = daemon.ask(&format!("GET /exec/{id}/json"));
        let state: Value = serde_json::from_str(&body).expect("JSON");
        state["Running"] == false && state["ExitCode"] == 8
    });
    eventually("it counts on", || counted(&over(&host, &["logs", "count"]).ok()) > 50);
    drop(gone);
}

/// Where version 2 is mounted and cgroups can be made and killed.
fn version_2() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("read");
    let mut mounts = text.lines().filter(|line| line.contains(" - cgroup2 "));
    mounts.find_map(|line| line.split(' ').nth(4)).map(PathBuf::from)
}

/// A cgroup that goes with the test.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let start = Instant::now();
        while fs::remove_dir(self.0).is_err() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The commit whose shims this build must take over: one that people have. Where what shims speak or write is changed in
/// spite of that, a later one.
const PREVIOUS: &str = "2e06503cfa68ef496c91a63e70996655bee37130";

/// The build of an earlier commit. In a copy of the repository without its history: this program, as another file.
fn previous_build(host: &Host) -> PathBuf {
    let has_it = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR"), "cat-file", "-e", PREVIOUS])
        .stderr(std::process::Stdio::null())
        .status();
    let bytes = if has_it.is_ok_and(|status| status.success()) {
        // The tests' own directory is built/target/tmp.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("previous-{}", &PREVIOUS[..12]));
        let mut above = dir.ancestors().skip(2);
        let (target, built) = (above.next().expect("a target"), above.next().expect("a build directory"));
        if !dir.exists() {
            let output = std::process::Command::new(source("contrib/previous"))
                .arg(PREVIOUS)
                .args([&dir, Path::new(target.file_name().expect("its name")), built])
                .output()
                .expect("run contrib/previous");
            assert!(output.status.success(), "contrib/previous: {}", String::from_utf8_lossy(&output.stderr));
        }
        fs::read(dir.join("dhow"))
    } else {
        eprintln!("the history of {} is not here: the build before this one is this one", env!("CARGO_PKG_NAME"));
        fs::read(env!("CARGO_BIN_EXE_dhow")).map(|bytes| [&bytes[..], b"the build before this one"].concat())
    };
    host.program("previous/dhow", bytes.expect("read the build before this one"))
}

#[test]
fn an_upgrade_takes_over_what_runs() {
    let Some(host) = Host::with_busybox() else { return };
    let path = previous_build(&host);
    let old = |args: &[&str]| {
        Command::new(path.to_str().expect("UTF-8"), args.iter().copied())
            .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
            .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"))
            .env("HOME", host.dir().join("home").to_str().expect("UTF-8"))
    };
    let address = format!("unix://{}", Daemon::path(&host).display());
    let daemon = Daemon::spawn(&host, old(&["daemon", "--host", &address]));
    let up = |name: &str, flags: &[&str], line: &str| {
        let fixed = ["run", "--detach", "--network", "none", "--name", name];
        old(&[&fixed, flags, &["busybox", "sh", "-c", line]].concat()).env("DOCKER_HOST", &address).ok()
    };
    up("count", &[], COUNT);
    up("again", &["--restart", "always"], "sleep 0.3; exit 4");
    up("talks", &["--interactive"], "while read word; do echo got $word; done; exit 5");
    up("checked", &["--health-cmd", "true", "--health-interval", "300ms"], "sleep 1000");
    old(&["run", "--detach", "--rm", "--network", "none", "--name", "goes", "busybox", "sleep", "1000"]).ok();
    let attached = old(&["attach", "talks"]).spawn();
    let pid = host.inspect("count", "/State/Pid");

    // The upgrade: the file is replaced, and the daemon with it.
    fs::remove_file(&path).expect("remove the old executable");
    crate::fixture::copy_program(env!("CARGO_BIN_EXE_dhow"), &path);
    daemon.stop();
    let daemon = Daemon::start(&host);
    let exe = |pid: &Value| fs::read_link(format!("/proc/{pid}/exe")).ok();
    assert!(exe(&pid).is_some());
    assert_eq!(host.inspect("count", "/State/Pid"), pid);
    assert_eq!(over(&host, &["exec", "count", "sh", "-c", "exit 3"]).run().code(), Some(3));
    let mut follows = over(&host, &["logs", "--follow", "--tail", "1", "count"]).spawn();
    // Who is attached stays so, through the old shim, and others may come.
    let mut others = [attached, over(&host, &["attach", "talks"]).spawn()];
    for (client, word) in others.iter_mut().zip(["one", "two"]) {
        client.write(format!("{word}\n").as_bytes());
        eventually("it is heard", || host.local(["logs", "talks"]).ok().ends_with(&format!("got {word}")));
    }
    over(&host, &["kill", "talks"]).ok();
    for client in others {
        let output = client.wait();
        assert_eq!(output.code(), Some(137), "{output}");
        assert!(output.stdout().contains("got two"), "{output}");
    }
    // The old shim restarts its container by itself.
    let restarts = || host.inspect("again", "/RestartCount").as_i64().expect("a count");
    let before = restarts();
    eventually("it is started again", || restarts() > before + 1);
    over(&host, &["update", "--restart", "no", "again"]).ok();
    eventually("and no more", || host.inspect("again", "/State/Status") == "exited");
    assert_eq!(host.inspect("again", "/State/ExitCode"), 4);
    for verb in ["pause", "unpause", "top"] {
        over(&host, &[verb, "checked"]).ok();
    }
    eventually("its health is asked for", || host.inspect("checked", "/State/Health/Status") == "healthy");
    over(&host, &["restart", "--time", "0", "checked"]).ok();
    let filters =
        ["events", "--since", "0", "--until", "0s", "--filter", "container=checked", "--filter", "event=kill"];
    assert_eq!(over(&host, &filters).ok().lines().count(), 1, "one signal, whoever gave it");
    let mut waits = daemon.connect();
    waits.write_all(b"POST /containers/goes/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("ask");
    assert!(head(&mut waits).starts_with("HTTP/1.1 200 "), "it waits");
    over(&host, &["stop", "--time", "0", "goes"]).ok();
    let mut ended = String::new();
    waits.read_to_string(&mut ended).expect("hear of its end");
    assert!(ended.contains(r#"{"StatusCode":137}"#), "{ended}");
    eventually("what was to be removed is", || !over(&host, &["ps", "--all"]).ok().contains("goes"));
    assert!(!follows.has_ended());
    over(&host, &["stop", "--time", "0", "count"]).ok();
    assert!(follows.wait().status.success());
    assert!(counted(&over(&host, &["logs", "count"]).ok()) > 10);
    // Its next life is the new build's.
    over(&host, &["start", "count"]).ok();
    assert_ne!(host.inspect("count", "/State/Pid"), pid);
    over(&host, &["rm", "--force", "count", "again", "talks", "checked"]).ok();
    drop(daemon);
}

#[test]
fn what_a_newer_build_wrote_is_refused_by_name() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.ok(["create", "--name", "web", "--network", "none", "busybox", "true"]);
    let path = host.record_path(&id);
    let text = fs::read_to_string(&path).expect("read the record");
    let with = |version: &str| fs::write(&path, text.replace("\"version\":2", version)).expect("write");
    with("\"version\":3");
    let refused = host.refused(1, ["inspect", "web"]);
    assert!(refused.contains("record.json was written by a newer dhow (version 3)"), "{refused}");
    let daemon = Daemon::start(&host);
    let (head, body) = daemon.ask("GET /containers/web/json");
    assert!(head.starts_with("HTTP/1.1 500 ") && body.contains("newer dhow (version 3)"), "{head} {body}");
    assert_eq!(daemon.ask("GET /_ping").1, "OK");
    // An older one is read, also where it lacks what came later.
    with("\"version\":2");
    let mut old = host.record(&id);
    old["version"] = Value::from(0);
    host.write_record(&id, &old);
    assert_eq!(host.inspect("web", "/Name"), "/web");
    old.as_object_mut().expect("an object").retain(|key, _| key != "version" && key != "copied" && key != "platform");
    old["of another time"] = Value::from(1);
    host.write_record(&id, &old);
    host.ok(["start", "web"]);
    assert_eq!(host.ok(["wait", "web"]), "0");

    let store = host.root().join("version");
    fs::write(&store, "2\n").expect("write");
    let refused = host.refused(1, ["ps"]);
    assert!(refused.contains("has version 2; this dhow knows version 1"), "{refused}");
    fs::write(&store, "1\n").expect("write");

    // A shim that is asked in a newer version says so.
    let id = host.detached(&[], &["sleep", "1000"]);
    // A socket's address has no room for the whole path.
    let dir = fs::File::open(host.run_dir().join("containers").join(&id)).expect("open its directory");
    let mut shim = UnixStream::connect(format!("/proc/self/fd/{}/sock", dir.as_raw_fd())).expect("connect");
    shim.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    shim.write_all(b"DH\x02\x02\0\0\0\0\0\0\0\0\0\0\0\0").expect("ask");
    let mut answer = Vec::new();
    shim.read_to_end(&mut answer).expect("hear");
    assert_eq!(answer[..4], *b"DH\x01\x81");
    let why = String::from_utf8_lossy(&answer[16..]).into_owned();
    assert!(why.contains("version 2 of the protocol") && why.contains("newer than version 1"), "{why}");
    assert_eq!(host.inspect(&id, "/State/Running"), true);
}

#[test]
fn with_a_daemon_or_without_it_is_one_world() {
    let Some(host) = Host::with_busybox() else { return };
    // Before there is a daemon, while there is one, and after it.
    let early = host.detached(&["--name", "early"], &["sleep", "1000"]);
    let daemon = Daemon::start(&host);
    let stream = host.dir().join("stream");
    let mut follower = over(&host, &["events", "--format", "{{.Action}} {{.Actor.Attributes.name}}"]);
    follower.inner().stdin(std::process::Stdio::null());
    follower.inner().stdout(fs::File::create(&stream).expect("make a file"));
    let mut follower = follower.inner().spawn().expect("start events");
    let seen = |words: &str| fs::read_to_string(&stream).unwrap_or_default().lines().any(|line| line == words);
    eventually("it listens", || {
        host.local(["top", "early"]).ok();
        seen("top early")
    });
    let names = |daemon: bool| {
        let args = ["ps", "--all", "--format", "{{.Names}} {{.State}}"];
        let text = if daemon { over(&host, &args).ok() } else { host.local(args).ok() };
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let local =
        host.local(["run", "--detach", "--network", "none", "--name", "local", "busybox", "sleep", "1000"]).ok();
    up(&host, "remote", &[], "sleep 1000");
    assert_eq!(names(true), ["early running", "local running", "remote running"]);
    assert_eq!(names(false), names(true));
    for words in ["create local", "start local", "create remote", "start remote"] {
        eventually(words, || seen(words));
    }
    // Each ends what the other started, and both hear of it.
    over(&host, &["stop", "--time", "0", "local"]).ok();
    host.local(["kill", "remote"]).ok();
    assert_eq!(over(&host, &["wait", "remote"]).ok(), "137");
    assert_eq!(host.local(["wait", "local"]).ok(), "137");
    for words in ["die local", "die remote"] {
        eventually(words, || seen(words));
    }
    let past = |daemon: bool| {
        let args = ["events", "--since", "0", "--until", "0s", "--filter", "type=container", "--format", "json"];
        if daemon { over(&host, &args).ok() } else { host.local(args).ok() }
    };
    assert_eq!(past(true), past(false));
    assert!(past(true).contains(&early) && past(true).contains(&local));
    follower.kill().and_then(|()| follower.wait()).expect("end the follower");
    daemon.stop();
    host.local(["start", "remote"]).ok();
    let daemon = Daemon::start(&host);
    assert_eq!(names(true), ["early running", "local exited", "remote running"]);
    drop(daemon);
}

#[test]
fn two_daemons_do_not_share_a_store() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let other = format!("unix://{}", host.dir().join("second.sock").display());
    let text = host.local(["daemon", "--host", &other]).refused(1);
    assert!(text.contains("another daemon serves the store") && text.contains("daemon.lock"), "{text}");
    assert!(!host.dir().join("second.sock").exists(), "it has not listened");
    assert_eq!(daemon.ask("GET /_ping").1, "OK");
    // The one that holds it is killed: its place is free at once.
    daemon.kill();
    let next = Daemon::start(&host);
    assert_eq!(next.ask("GET /_ping").1, "OK");
}
