//! Clients that attach while a container runs, and read as slowly as they like.

use crate::fixture::{Host, Running, Terminal, eventually};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// More than pipes and sockets hold.
const MANY: &str = "seq 1 600000";

fn numbers(count: u32) -> String {
    (1..=count).map(|n| format!("{n}\n")).collect()
}

/// A container that says something when it is told to, and a client of it that is stopped before that.
fn stopped(host: &Host, flags: &[&str], line: &str) -> Running {
    let line = format!("while [ ! -e /go ]; do sleep 0.02; done; {line}");
    host.detached(&[&["--name", "talks"], flags].concat(), &["sh", "-c", &line]);
    let client = host.dhow(["attach", "--no-stdin", "talks"]).spawn();
    eventually("it is attached", || events(host).iter().any(|event| event == "attach"));
    client.signal(Signal::SIGSTOP);
    host.run(["exec", "talks", "touch", "/go"]);
    client
}

/// What happened to containers, in order.
fn events(host: &Host) -> Vec<String> {
    let text = std::fs::read_to_string(host.run_dir().join("events")).unwrap_or_default();
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON");
    // Of the last line there may be a part only.
    let of_container = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(event)
        .filter(|event| event["Type"] == "container");
    of_container.map(|event| event["Action"].as_str().expect("an action").to_owned()).collect()
}

#[test]
fn who_reads_slowly_gets_all_and_holds_nobody_up() {
    let Some(host) = Host::with_busybox() else { return };
    let rotated = ["--log-opt", "max-size=1m", "--log-opt", "max-file=50", "--log-opt", "compress=true"];
    for flags in [&[][..], &rotated[..4], &rotated, &["-t"]] {
        let client = stopped(&host, flags, MANY);
        // It ends, and its end is on record, although its client has not read most of it.
        assert_eq!(host.ok(["wait", "talks"]), "0");
        host.ok(["rm", "talks"]);
        client.signal(Signal::SIGCONT);
        let output = client.wait();
        let text = output.stdout().replace('\r', "") + "\n";
        assert!(text == numbers(600_000), "{flags:?}: {} of {} bytes", text.len(), numbers(600_000).len());
        let _ = std::fs::remove_file(host.run_dir().join("events"));
    }
}

#[test]
fn who_has_caught_up_hears_what_comes() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "seq 1 600000; printf 'a prompt: '; while [ ! -e /end ]; do sleep 0.02; done; echo over; exit 6";
    let client = stopped(&host, &[], line);
    eventually("it has spoken", || host.ok(["logs", "--tail", "1", "talks"]) == "600000");
    client.signal(Signal::SIGCONT);
    std::thread::sleep(Duration::from_millis(300));
    host.run(["exec", "talks", "touch", "/end"]);
    let output = client.wait();
    let expected = numbers(600_000) + "a prompt: over";
    assert!(output.stdout() == expected, "{} of {} bytes", output.stdout().len(), expected.len());
    assert_eq!(output.code(), Some(6));
}

#[test]
fn who_is_overtaken_by_the_rotation_is_told() {
    let Some(host) = Host::with_busybox() else { return };
    let client = stopped(&host, &["--log-opt", "max-size=100k", "--log-opt", "max-file=2"], MANY);
    host.ok(["wait", "talks"]);
    client.signal(Signal::SIGCONT);
    let output = client.wait();
    assert!(output.stderr().contains("cut off: the log was rotated away before it was read"), "{}", output.stderr());
    assert!(numbers(600_000).starts_with(&output.stdout()), "what came before is whole");
}

#[test]
fn without_a_log_a_late_reader_is_cut_off() {
    let Some(host) = Host::with_busybox() else { return };
    let client = stopped(&host, &["--log-driver", "none"], MANY);
    host.ok(["wait", "talks"]);
    client.signal(Signal::SIGCONT);
    let output = client.wait();
    assert!(output.stderr().contains("cut off: the output is not read fast enough"), "{}", output.stderr());
    assert!(numbers(600_000).starts_with(&output.stdout()) && output.stdout().len() > 100_000, "what came before");
}

#[test]
fn the_end_is_told_while_its_output_is_still_being_read() {
    let Some(host) = Host::with_busybox() else { return };
    // As much as fits between the container and its stopped client, with the last part still in the container's pipe.
    let line = "while [ ! -e /go ]; do sleep 0.02; done; head -c 300000 /dev/zero; exit 3";
    let mut client = host.dhow(["run", "--name", "talks", "--network", "none", "busybox", "sh", "-c", line]).spawn();
    eventually("it runs", || host.run(["inspect", "-f", "{{.State.Running}}", "talks"]).stdout() == "true");
    let waits = host.dhow(["wait", "talks"]).spawn();
    client.signal(Signal::SIGSTOP);
    host.run(["exec", "talks", "touch", "/go"]);
    let output = waits.wait();
    assert_eq!(output.stdout(), "3", "{output}");
    assert_eq!(host.inspect("talks", "/State/Status"), "exited");
    assert_eq!(host.inspect("talks", "/State/ExitCode"), 3);
    assert!(!client.has_ended(), "its end waited for the client");
    // A client that was waited for in vain would be cut off.
    client.signal(Signal::SIGCONT);
    let output = client.wait();
    assert_eq!((output.code(), output.out.len()), (Some(3), 300_000));
}

#[test]
fn what_clients_do_is_an_event() {
    let Some(host) = Host::with_busybox() else { return };
    host.detached(&["--name", "stays"], &["sleep", "1000"]);
    host.ok(["exec", "stays", "true"]);
    host.ok(["exec", "stays", "sh", "-c", "exit 0"]);
    assert_eq!(host.run(["exec", "stays", "nope"]).code(), Some(127));
    let expected = [
        "create",
        "start",
        "exec_create: true ",
        "exec_start: true ",
        "exec_die",
        "exec_create: sh -c exit 0",
        "exec_start: sh -c exit 0",
        "exec_die",
        // Nothing of it has lived.
        "exec_create: nope ",
        "exec_start: nope ",
    ];
    assert_eq!(events(&host), expected);
}

/// An attach as the engine asks the shim for it; `logs`: with what was said before.
fn joined(host: &Host, id: &str, logs: bool, keys: &[u8]) -> UnixStream {
    let dir = File::open(host.run_dir().join("containers").join(id)).expect("the container's directory");
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/sock", dir.as_raw_fd())).expect("connect");
    let mut message = b"DH\x01\x01".to_vec();
    for word in [7, i32::from(logs), keys.len() as i32] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(keys);
    stream.write_all(&message).expect("ask");
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[3], 0x80, "{answer:?}");
    stream
}

#[test]
fn what_was_said_before_comes_first() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "seq 1 100000; echo err >&2; printf half; while [ ! -e /end ]; do sleep 0.02; done; echo ' a line'";
    let flags = ["--log-opt", "max-size=100k", "--log-opt", "max-file=100", "--log-opt", "compress=true"];
    for flags in [&flags[..4], &flags] {
        comes_first(&host, flags, line);
    }
}

fn comes_first(host: &Host, flags: &[&str], line: &str) {
    let id = host.detached(flags, &["sh", "-c", line]);
    eventually("it has spoken", || {
        let said = host.run(["logs", &id]);
        said.err == b"err\n" && said.stdout().ends_with("\n100000")
    });
    std::thread::sleep(Duration::from_millis(100));
    let mut stream = joined(host, &id, true, &[]);
    // It may be killed with the container, whose end it asks for.
    host.run(["exec", &id, "touch", "/end"]);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read it");
    let (mut streams, mut rest) = ([Vec::new(), Vec::new()], bytes.as_slice());
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        streams[usize::from(head[0]) - 1].extend_from_slice(&tail[..length]);
        rest = &tail[length..];
    }
    let expected = numbers(100_000) + "half a line\n";
    assert!(streams[0] == expected.as_bytes(), "{} of {} bytes", streams[0].len(), expected.len());
    assert_eq!(streams[1], b"err\n");
}

#[test]
fn detaching_and_resizing_are_events() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&["-i", "-t"], &["cat"]);
    let mut stream = joined(&host, &id, false, &[16, 17]);
    stream.write_all(b"word\n").expect("type");
    stream.write_all(&[16, 17]).expect("type");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read it");
    eventually("it is told", || events(&host).last().is_some_and(|event| event == "detach"));
    assert_eq!(host.inspect(&id, "/State/Running"), true);
    let mut terminal = Terminal::start(host.dhow(["attach", &id]));
    // The second one comes when the keys are the container's.
    eventually("it is told", || events(&host).iter().filter(|event| *event == "resize").count() >= 2);
    terminal.send([4]);
    terminal.end();
    assert!(events(&host).iter().any(|event| event == "attach"));
}

/// An attach over HTTP: the head of the answer, and the connection behind it.
fn over_http(socket: &std::path::Path, id: &str, query: &str) -> (String, UnixStream) {
    let mut stream = UnixStream::connect(socket).expect("connect");
    let request = format!(
        "POST /v1.51/containers/{id}/attach?{query} HTTP/1.1\r\nHost: dhow\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("ask");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    (String::from_utf8_lossy(&head).into_owned(), stream)
}

#[test]
fn the_api_replays_and_follows() {
    let Some(host) = Host::with_busybox() else { return };
    let socket = host.dir().join("api.sock");
    let _daemon = host.dhow(["daemon", "-H", &format!("unix://{}", socket.display())]).spawn();
    eventually("the daemon listens", || UnixStream::connect(&socket).is_ok());
    let id = host.detached(&[], &["sh", "-c", "echo said; printf end >&2"]);
    host.ok(["wait", &id]);
    let said = b"\x01\0\0\0\0\0\0\x05said\n\x02\0\0\0\0\0\0\x03end";
    // What it said, before it is started again; then what it says.
    let (head, mut stream) = over_http(&socket, &id, "logs=1&stream=1&stdout=1&stderr=1");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut bytes = vec![0; said.len()];
    stream.read_exact(&mut bytes).expect("the log");
    assert_eq!(bytes, said);
    host.ok(["start", &id]);
    bytes.clear();
    stream.read_to_end(&mut bytes).expect("what comes");
    bytes.sort_unstable();
    let mut sorted = said.to_vec();
    sorted.sort_unstable();
    assert_eq!(bytes, sorted, "one run more, in whatever order of its streams");
    // The log and no more.
    host.ok(["wait", &id]);
    let (_, mut stream) = over_http(&socket, &id, "logs=1&stdout=1");
    bytes.clear();
    stream.read_to_end(&mut bytes).expect("the log");
    assert_eq!(bytes, b"\x01\0\0\0\0\0\0\x05said\n".repeat(2));
    let id = host.detached(&["--log-driver", "none"], &["sleep", "1000"]);
    let (head, _) = over_http(&socket, &id, "logs=1&stream=1&stdout=1");
    assert!(head.starts_with("HTTP/1.1 501"), "{head}");
    host.ok(["pause", &id]);
    let (head, _) = over_http(&socket, &id, "stream=1&stdout=1");
    assert!(head.starts_with("HTTP/1.1 409"), "{head}");
    host.ok(["unpause", &id]);
}
