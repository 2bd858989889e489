//! Clients that do not read, that leave in the middle or that never say all: each costs the daemon a thread, and nobody
//! else anything.

use crate::fixture::{Daemon, Front, Host, Image, PATIENCE, Packing, Registry, Tar, busybox_tar, eventually, head};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Says a lot, counting, and ends with 5.
const TALK: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo line $i of a long story; done; exit 5";

fn over(host: &Host, args: &[&str]) -> crate::fixture::Command {
    host.local(args.iter().copied()).env("DOCKER_HOST", &format!("unix://{}", Daemon::path(host).display()))
}

/// A request whose answer nobody reads.
fn unread(daemon: &Daemon, line: &str) -> UnixStream {
    let mut stream = daemon.connect();
    write!(stream, "{line} HTTP/1.1\r\nHost: x\r\n\r\n").expect("ask");
    stream
}

/// That no thread is left of those who have gone.
fn assert_back(daemon: &Daemon, before: usize) {
    eventually("no thread is left over", || daemon.threads() <= before);
    assert_eq!(daemon.ask("GET /_ping").1, "OK");
}

#[test]
fn who_never_reads_holds_nobody_up() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let up = |name: &str, line: &str| {
        over(&host, &["create", "--name", name, "--network", "none", "busybox", "sh", "-c", line]).ok()
    };
    up("talks", TALK);
    up("quiet", "sleep 1000");
    over(&host, &["start", "quiet"]).ok();
    let before = daemon.idle();
    let mut dead = vec![unread(&daemon, "GET /events"), unread(&daemon, "GET /containers/quiet/stats")];
    over(&host, &["start", "talks"]).ok();
    dead.push(unread(&daemon, "GET /containers/talks/logs?follow=1&stdout=1&stderr=1"));
    dead.push(unread(&daemon, "POST /containers/talks/attach?stream=1&stdout=1&stderr=1"));
    dead.push(unread(&daemon, "POST /containers/talks/attach?logs=1&stream=1&stdout=1"));
    dead.push(unread(&daemon, "GET /containers/quiet/export"));
    dead.push(unread(&daemon, "GET /images/busybox/get"));
    // The container comes to its end, and whoever reads gets all.
    assert_eq!(over(&host, &["wait", "talks"]).ok(), "5");
    let text = over(&host, &["logs", "talks"]).ok();
    assert_eq!((text.lines().count(), text.lines().last()), (60_000, Some("line 60000 of a long story")));
    for _ in 0..500 {
        // More than a socket holds of events.
        assert!(daemon.ask("GET /containers/quiet/top").0.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(over(&host, &["exec", "quiet", "echo", "ahoy"]).ok(), "ahoy");
    over(&host, &["run", "--rm", "--network", "none", "busybox", "true"]).ok();
    let events = over(&host, &["events", "--since", "0", "--until", "0s", "--filter", "event=top"]).ok();
    assert!(events.lines().count() > 200, "{}", events.lines().count());
    over(&host, &["tag", "busybox", "other"]).ok();
    over(&host, &["rmi", "other"]).ok();
    eventually("nobody else is served any more", || daemon.threads() <= before + dead.len() + 1);
    // Who reads late still gets what it asked for, from the first byte on.
    let mut late = dead.remove(2);
    let mut bytes = Vec::new();
    late.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    while !bytes.ends_with(b"0\r\n\r\n") {
        let mut buffer = [0; 64 << 10];
        let length = late.read(&mut buffer).expect("read");
        assert!(length > 0, "it ends as a body does");
        bytes.extend_from_slice(&buffer[..length]);
    }
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!((text.matches("line ").count(), text.contains("line 60000 of")), (60_000, true));
    drop((late, dead));
    over(&host, &["kill", "quiet"]).ok();
    assert_back(&daemon, before);
}

#[test]
fn who_leaves_in_the_middle_is_forgotten() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    over(
        &host,
        &["run", "-d", "--name", "talks", "--network", "none", "busybox", "sh", "-c", &format!("({TALK}); sleep 1000")],
    )
    .ok();
    eventually("it has said much", || over(&host, &["logs", "--tail", "1", "talks"]).ok().contains("60000"));
    let before = daemon.idle();
    let lines = [
        "GET /containers/talks/logs?follow=1&stdout=1",
        "GET /containers/talks/logs?stdout=1",
        "POST /containers/talks/attach?logs=1&stream=1&stdout=1",
        "GET /events?since=0",
        "GET /containers/talks/stats",
        "GET /containers/talks/export",
        "GET /images/busybox/get",
        "POST /containers/talks/wait",
    ];
    for round in 0..3 {
        for line in lines {
            let mut stream = daemon.connect();
            write!(stream, "{line} HTTP/1.1\r\nHost: x\r\n\r\n").expect("ask");
            match round {
                // At once, after the head, and after some of the body; the last with a half-close before.
                0 => {}
                1 => drop(head(&mut stream)),
                _ => {
                    head(&mut stream);
                    if !line.starts_with("POST") || line.contains("logs=1") {
                        let mut some = [0; 100];
                        stream.read_exact(&mut some).unwrap_or_else(|error| panic!("{line}: {error}"));
                    }
                    stream.shutdown(Shutdown::Write).expect("half-close");
                }
            }
        }
    }
    assert_back(&daemon, before);
    assert_eq!(host.inspect("talks", "/State/Running"), true);
    host.assert_tidy();
}

#[test]
fn a_body_that_never_ends_is_nobody_elses_matter() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    over(&host, &["run", "-d", "--name", "one", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let before = daemon.idle();
    let tar = Tar::new().file("etc/begun", 0o644, "x".repeat(2000)).end();
    let mut open = Vec::new();
    for (line, start) in [
        ("POST /containers/create?name=never", &b"{\"Image\":"[..]),
        ("POST /volumes/create", b"{"),
        ("PUT /containers/one/archive?path=/tmp", &tar[..1000]),
        ("POST /images/load", &tar[..1000]),
        ("POST /images/create?fromSrc=-&repo=never", &tar[..1000]),
        ("POST /containers/one/exec", b"{\"Cmd\":["),
    ] {
        for chunked in [false, true] {
            let mut stream = daemon.connect();
            let (length, size) = match chunked {
                true => ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n", start.len())),
                false => (format!("Content-Length: {}", start.len() + 1000), String::new()),
            };
            write!(stream, "{line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n\r\n{size}")
                .expect("ask");
            stream.write_all(start).expect("begin");
            if chunked {
                stream.write_all(b"\r\n").expect("end a chunk");
            }
            open.push(stream);
        }
    }
    // All of it goes on beside them.
    over(&host, &["create", "--name", "never", "--network", "none", "busybox"]).ok();
    over(&host, &["volume", "create", "hold"]).ok();
    over(&host, &["exec", "one", "true"]).ok();
    let file = host.file("cargo", "rice");
    over(&host, &["cp", file.to_str().expect("UTF-8"), "one:/tmp/cargo"]).ok();
    assert_eq!(over(&host, &["exec", "one", "cat", "/tmp/cargo"]).ok(), "rice");
    let tar = busybox_tar().expect("made before");
    over(&host, &["import", tar.to_str().expect("UTF-8"), "brought"]).ok();
    over(&host, &["rmi", "brought"]).ok();
    assert!(daemon.threads() >= before + open.len(), "they are still there");
    drop(open);
    assert_back(&daemon, before);
    let listed = over(&host, &["ps", "--all", "--format", "{{.Names}}"]).ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(!over(&host, &["images"]).ok().contains("never"));
    eventually("nothing half made is left", || fs::read_dir(host.root().join("tmp")).expect("list").next().is_none());
}

#[test]
fn a_pull_that_nobody_watches_is_no_obstacle() {
    let (Some(host), Some(registry)) = (Host::with_busybox(), Registry::shared()) else { return };
    let daemon = Daemon::start(&host);
    let mut image = Image::new(Tar::new().file("base", 0o644, "base").end());
    // Each layer is some lines, and all of them are more than a socket holds.
    for number in 0..110 {
        let tar = Tar::new().file(&format!("slow/{number}"), 0o644, number.to_string()).end();
        image = image.layer(tar, Packing::Gzip);
    }
    registry.upload(&image, "slow/deep", "latest");
    let name = registry.name("slow/deep");
    let before = daemon.idle();
    let line = format!("POST /images/create?fromImage={}&tag=latest", name.replace('/', "%2F"));
    let dead: Vec<UnixStream> = (0..3).map(|_| unread(&daemon, &line)).collect();
    std::thread::sleep(Duration::from_millis(500));
    // Another one wants the same layers.
    over(&host, &["pull", &name]).ok();
    assert!(over(&host, &["images"]).ok().contains("slow/deep"));
    eventually("the pulls have ended, whoever reads", || daemon.threads() <= before + dead.len());
    over(&host, &["rmi", &name]).ok();
    drop(dead);
    assert_back(&daemon, before);
    host.assert_tidy();
}

#[test]
fn a_pull_whose_client_leaves_is_called_off() {
    let (Some(host), Some(registry)) = (Host::new(), Registry::shared()) else { return };
    let image = Image::new(Tar::new().file("base", 0o644, "base").end());
    registry.upload(&image, "slow/left", "latest");
    // A registry that begins to serve a layer and goes silent.
    let layer = crate::fixture::digest(&image.blobs()[0].bytes);
    let left = Arc::new(AtomicBool::new(false));
    let seen = left.clone();
    let front = Front::start(&registry, move |asked, _| {
        if asked.line.contains(&layer) {
            let began = Instant::now();
            while !seen.load(Ordering::SeqCst) && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_secs(8));
        }
        None
    });
    let daemon = Daemon::start(&host);
    let before = daemon.idle();
    let line = format!("POST /images/create?fromImage={}&tag=latest", front.name("slow/left").replace('/', "%2F"));
    let mut stream = unread(&daemon, &line);
    assert!(head(&mut stream).starts_with("HTTP/1.1 200 "));
    drop(stream);
    left.store(true, Ordering::SeqCst);
    assert_back(&daemon, before);
    assert!(!over(&host, &["images"]).ok().contains("slow/left"));
    host.assert_tidy();
}
