//! A second process in a running container.

use crate::fixture::{Host, Terminal, eventually, need};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

#[test]
fn it_sees_what_the_container_sees() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&["--rm", "-e", "COLOUR=red", "-w", "/var"], &["sleep", "1000"]);
    assert_eq!(
        host.ok(["exec", &id, "sh", "-c", "echo $COLOUR $(pwd) $(hostname)"]),
        format!("red /var {}", &id[..12])
    );
    let seen = host.ok([
        "exec",
        "-e",
        "COLOUR=blue",
        "-w",
        "/tmp",
        "-u",
        "user",
        &id,
        "sh",
        "-c",
        "echo $COLOUR $(pwd) $(id -u)",
    ]);
    assert_eq!(seen, "blue /tmp 1000");
    assert_eq!(
        host.ok([
            "exec",
            "-i",
            &id,
            "sh",
            "-c",
            "readlink /proc/self/ns/pid >/a; readlink /proc/1/ns/pid | cmp - /a && echo same"
        ]),
        "same"
    );
    // Its end is not the container's, with --rm neither.
    host.assert_tidy();
    assert_eq!(host.inspect(&id, "/State/Status"), "running");
}

#[test]
fn exit_codes_are_exact() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    assert_eq!(host.run(["exec", &id, "sh", "-c", "exit 33"]).code(), Some(33));
    assert_eq!(host.run(["exec", &id, "sh", "-c", "kill -KILL $$"]).code(), Some(137));
    assert_eq!(host.run(["exec", &id, "no-such-program"]).code(), Some(127));
    assert_eq!(host.run(["exec", &id, "/etc/passwd"]).code(), Some(126));
    // Docker refuses to make one for a user that is not there, and so the command was never to start.
    assert!(
        host.refused(1, ["exec", "--user", "nobody-knows", &id, "true"]).contains("unable to find user nobody-knows")
    );
    assert_eq!(host.run(["exec", "--workdir", "/no/such", &id, "true"]).code(), Some(127));
    // Who does not stay for the end is told of the beginning only.
    for command in ["no-such-program", "/etc/passwd"] {
        host.refused(1, ["exec", "--detach", &id, command]);
    }
    host.ok(["kill", &id]);
    host.ok(["wait", &id]);
    let text = host.refused(1, ["exec", &id, "true"]);
    assert!(text.contains("is not running"), "{text}");
    let text = host.refused(1, ["exec", "no-such", "true"]);
    assert!(text.contains("No such container: no-such"), "{text}");
}

#[test]
fn input_reaches_it_and_ends() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let output = host.dhow(["exec", "-i", &id, "cat"]).input(bytes.clone()).run();
    assert!(output.out == bytes, "{} bytes came back of {}: {}", output.out.len(), bytes.len(), output.stderr());
    assert_eq!(host.dhow(["exec", &id, "cat"]).input("unread").ok(), "");
}

#[test]
fn it_may_be_left_to_itself() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    host.ok(["exec", "--detach", &id, "sh", "-c", "echo done >/tmp/done"]);
    eventually("it has run", || host.run(["exec", &id, "cat", "/tmp/done"]).stdout() == "done");
}

#[test]
fn privileges_are_the_containers_or_all() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    let caps = |flags: &[&str]| {
        let what = [id.as_str(), "grep", "CapBnd", "/proc/self/status"];
        let args = ["exec"].iter().chain(flags).chain(&what).copied();
        host.ok(args).split_whitespace().nth(1).expect("a set").to_owned()
    };
    assert_eq!(caps(&[]), "00000000a80425fb");
    assert_ne!(caps(&["--privileged"]), "00000000a80425fb");
    assert_eq!(host.ok(["exec", &id, "grep", "^Seccomp:", "/proc/self/status"]).split_whitespace().nth(1), Some("2"));
}

#[test]
fn a_terminal_is_passed_through() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    let mut terminal = Terminal::start(host.dhow(["exec", "-it", &id, "sh"]));
    terminal.send("tty; stty size\n");
    terminal.expect("/dev/pts/");
    terminal.expect("24 80");
    terminal.send("exit 6\n");
    assert_eq!(terminal.end().code(), Some(6));
}

#[test]
fn many_at_once() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    let all: Vec<_> =
        (0..8).map(|n| host.dhow(["exec", &id, "sh", "-c", &format!("echo {n}; exit {n}")]).spawn()).collect();
    for (n, running) in all.into_iter().enumerate() {
        let output = running.wait();
        assert_eq!((output.code(), output.stdout()), (i32::try_from(n).ok(), n.to_string()), "{output}");
    }
}

#[test]
fn it_goes_with_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    let running = host.dhow(["exec", &id, "sh", "-c", "echo up; sleep 1000"]).spawn();
    eventually("the exec runs", || host.ok(["top", &id]).matches("sleep 1000").count() >= 2);
    host.ok(["kill", &id]);
    assert_eq!(running.wait().code(), Some(137));
}

#[test]
fn nobody_enters_what_ends() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    let init = host.inspect(&id, "/State/Pid").as_i64().expect("a pid");
    let first = host.dhow(["exec", &id, "sleep", "1001"]).spawn();
    let parent = || {
        let listed = host.ok(["top", &id, "-o", "ppid,args"]);
        let line = listed.lines().find(|line| line.ends_with("sleep 1001"))?;
        line.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    };
    eventually("the first is in", || parent().is_some());
    // Init has not ended before what it takes along was waited for, which takes as long as here its parent sleeps.
    let parent = parent().expect("it is in");
    kill(parent, Signal::SIGSTOP).expect("stop who waits");
    kill(Pid::from_raw(i32::try_from(init).expect("a pid")), Signal::SIGKILL).expect("kill init");
    eventually("init ends", || std::fs::read_link(format!("/proc/{init}/root")).is_err());
    let output = host.run(["exec", &id, "true"]);
    kill(parent, Signal::SIGCONT).expect("go on");
    assert_eq!(first.wait().code(), Some(137));
    // Of a daemon it is too late for an answer, as with Docker's: the streams are there.
    let told = if host.has_daemon() { output.stdout() } else { output.stderr() };
    assert!(output.code() == Some(126) && told.contains("is not running"), "{output}");
}

/// Between the end of init and the record of it somebody else may have its pid, or nobody.
#[test]
fn nobody_enters_who_is_gone() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    let live = host.run_dir().join("containers").join(&id).join("live.json");
    let text = std::fs::read_to_string(&live).expect("read who lives");
    let init = host.inspect(&id, "/State/Pid");
    let gone = text.replace(&format!("\"pid\":{init}"), &format!("\"pid\":{}", i32::MAX));
    assert_ne!(gone, text);
    std::fs::write(&live, gone).expect("write another");
    let output = host.run(["exec", &id, "true"]);
    std::fs::write(&live, text).expect("write as it was");
    let told = if host.has_daemon() { output.stdout() } else { output.stderr() };
    assert!(output.code() == Some(126) && told.contains(&format!("container {id} is not running")), "{output}");
    assert_eq!(host.ok(["exec", &id, "echo", "here"]), "here");
}

/// Whoever a shim leaves behind is the host's PID 1's to bury, which comes when it pleases.
#[test]
fn who_could_not_start_is_buried_by_its_shim() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(()) = need("python3") else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    // A command, with one that inherits the orphans of what it starts in the place of PID 1; how many it has inherited.
    let orphans = "import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
count = 0
try:
    while os.waitpid(-1, 0): count += 1
except ChildProcessError:
    print(count)";
    // With a daemon the shims are the daemon's.
    let shims = if host.has_daemon() { "0" } else { "1" };
    for words in [
        &["exec", &id, "no-such-program"][..],
        &["exec", "--workdir", "/etc/passwd", &id, "true"],
        &["run", "--rm", "--network", "none", "busybox", "no-such-program"],
    ] {
        let mut line = host.dhow(words.iter().copied());
        let inner = line.inner();
        let program = inner.get_program().to_owned();
        let args: Vec<_> = inner.get_args().map(ToOwned::to_owned).collect();
        let mut python = std::process::Command::new("python3");
        python.args(["-c", orphans]).arg(program).args(args);
        python.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = python.output().expect("run python");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), shims, "{words:?}");
    }
}

#[test]
fn who_answers_no_more_has_started_nothing() {
    let Some(host) = Host::new() else { return };
    let path = host.dir().join("going.sock");
    let listener = UnixListener::bind(&path).expect("listen");
    let running = host.local(["-H", &format!("unix://{}", path.display()), "exec", "it", "true"]).spawn();
    let is_start = |connection: UnixStream| {
        let mut reader = BufReader::new(&connection);
        let head: Vec<String> =
            reader.by_ref().lines().map(|line| line.expect("a line")).take_while(|line| !line.is_empty()).collect();
        let length = head.iter().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
        reader.read_exact(&mut vec![0; length]).expect("read a body");
        let asked = head.first().cloned().unwrap_or_default();
        let body = match asked.split(' ').nth(1).unwrap_or_default() {
            path if path.ends_with("/start") => return true,
            path if path.ends_with("/exec") => "{\"Id\":\"e\"}",
            path if path.ends_with("/json") => "{\"Id\":\"it\"}",
            _ => "OK",
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        (&connection).write_all(format!("{answer}{body}").as_bytes()).expect("answer");
        false
    };
    while !is_start(listener.accept().expect("a client").0) {}
    drop(listener);
    let output = running.wait();
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr().contains("going.sock"), "{output}");
}
