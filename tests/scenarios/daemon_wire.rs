//! What a client of the API meets on the wire.

use crate::fixture::{Command, Daemon, Host, eventually, head, noise};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn host() -> Option<(Host, Daemon)> {
    let host = Host::with_busybox()?;
    let daemon = Daemon::start(&host);
    Some((host, daemon))
}

fn rest(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read to the end");
    bytes
}

#[test]
fn a_ping_says_what_is_spoken() {
    let Some((_host, daemon)) = host() else { return };
    for (method, expected) in [("GET", "OK"), ("HEAD", "")] {
        for path in ["/_ping", "/v1.24/_ping", "/v1.99/_ping", "/v1.10/_ping"] {
            let (head, body) = daemon.ask(&format!("{method} {path}"));
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {head}");
            assert_eq!(body, expected, "{method} {path}");
            for header in [
                "Api-Version: 1.51",
                "Docker-Experimental: false",
                "Ostype: linux",
                "Swarm: inactive",
                "Cache-Control: no-cache, no-store, must-revalidate",
                "Pragma: no-cache",
                "Content-Type: text/plain; charset=utf-8",
            ] {
                assert!(head.split("\r\n").any(|line| line == header), "{header} is not in {head}");
            }
            assert!(head.contains("\r\nServer: Docker/") && head.contains(" (linux)\r\n"), "{head}");
            assert!(head.contains("\r\nBuilder-Version: "), "{head}");
            // As dockerd: HEAD says that there is no body, not how long that of GET is.
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", expected.len())), "{head}");
        }
    }
}

#[test]
fn errors_are_as_clients_expect_them() {
    let Some((_host, daemon)) = host() else { return };
    let table = [
        ("GET /nope", "404 Not Found", r#"{"message":"page not found"}"#),
        ("POST /version", "404 Not Found", r#"{"message":"page not found"}"#),
        ("BREW /version", "404 Not Found", r#"{"message":"page not found"}"#),
        ("GET /v1.51/containers/nope/json", "404 Not Found", r#"{"message":"No such container: nope"}"#),
        (
            "GET /v1.99/info",
            "400 Bad Request",
            r#"{"message":"client version 1.99 is too new. Maximum supported API version is 1.51"}"#,
        ),
    ];
    for (line, status, message) in table {
        let (head, body) = daemon.ask(line);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line}: {head}");
        assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{line}: {head}");
        assert_eq!(body, format!("{message}\n"), "{line}");
    }
    let (head, body) = daemon.ask("GET /v1.20/info");
    assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("\r\nContent-Type: text/plain"), "{head}");
    assert!(body.starts_with("client version 1.20 is too old. Minimum supported API version is 1.24"), "{body}");
    // The oldest that is spoken, and none: the same answer.
    let ids = |line: &str| serde_json::from_str::<Value>(&daemon.ask(line).1).expect("JSON")[0]["Id"].clone();
    assert_eq!(ids("GET /v1.24/images/json"), ids("GET /images/json"));
    let (head, body) = daemon.ask_with("POST /containers/create", "Content-Type: application/json\r\n", "{");
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("message"), "{head} {body}");
}

/// Whose fault it is that a container does not start: the status says it, the words name it, the exit code stays.
#[test]
fn a_start_that_fails_has_dockers_status() {
    let Some((host, daemon)) = host() else { return };
    let json = "Content-Type: application/json\r\n";
    let make = |name: &str, body: &str| {
        let body = format!(r#"{{"Image":"busybox",{body}}}"#);
        let (head, answer) = daemon.ask_with(&format!("POST /containers/create?name={name}"), json, &body);
        assert!(head.starts_with("HTTP/1.1 201 "), "{body}: {answer}");
    };
    let start = |name: &str| {
        let (head, answer) = daemon.ask(&format!("POST /containers/{name}/start"));
        let message = serde_json::from_str::<Value>(&answer).unwrap_or_default()["message"].take();
        (head[9..12].to_owned(), message.as_str().unwrap_or_default().to_owned())
    };
    let mismatch = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
                    specified host path exists and is the expected type";
    for (number, (body, status, code, words)) in [
        (r#""Cmd":["/etc"],"HostConfig":{}"#, "400", 126, r#"exec: "/etc": is a directory: permission denied"#),
        (r#""Cmd":["/etc/passwd"]"#, "400", 126, r#"exec: "/etc/passwd": permission denied"#),
        (r#""Cmd":["nope"]"#, "400", 127, r#"exec: "nope": executable file not found in $PATH"#),
        (r#""Cmd":["/nope"]"#, "400", 127, r#"exec: "/nope": stat /nope: no such file or directory"#),
        (r#""Cmd":["true"],"HostConfig":{"Binds":["/etc/passwd:/tmp"]}"#, "400", 127, mismatch),
        (r#""Cmd":["true"],"HostConfig":{"Binds":["/usr:/etc/passwd"]}"#, "400", 127, mismatch),
        (r#""Cmd":["true"],"User":"nope""#, "500", 128, "unable to find user nope: no matching entries in passwd file"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("wreck{number}");
        make(&name, body);
        let (found, message) = start(&name);
        assert!(found == status && message.ends_with(words), "{body}: {found} {message}");
        assert_eq!(host.inspect(&name, "/State/ExitCode"), code, "{body}");
        assert_eq!(host.inspect(&name, "/State/Error"), message.as_str(), "{body}");
        assert_eq!(host.inspect(&name, "/State/Status"), "created", "{body}");
    }
    // What has no place to work in is not made.
    let file = r#"{"Image":"busybox","WorkingDir":"/etc/passwd"}"#;
    let (head, answer) = daemon.ask_with("POST /containers/create", json, file);
    assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
    assert_eq!(answer, "{\"message\":\"Cannot mkdir: /etc/passwd is not a directory\"}\n");
    let (head, answer) = daemon.ask("POST /containers/wreck0/restart");
    let expected =
        r#"{"message":"Cannot restart container wreck0: failed to create task for container: exec: \"/etc\""#;
    assert!(head.starts_with("HTTP/1.1 500 ") && answer.starts_with(expected), "{head} {answer}");
    make("hull", r#""Cmd":["sleep","1000"]"#);
    assert_eq!(start("hull"), ("204".to_owned(), String::new()));
    assert_eq!(start("hull"), ("304".to_owned(), String::new()));
    host.ok(["pause", "hull"]);
    assert_eq!(start("hull").0, "409");
    assert_eq!(start("nope"), ("404".to_owned(), "No such container: nope".to_owned()));
    let (head, answer) = daemon.ask_with("POST /containers/wreck0/start", json, r#"{"Binds":["/:/host"]}"#);
    assert!(head.starts_with("HTTP/1.1 400 ") && answer.contains("non-empty request body"), "{head} {answer}");
    assert!(daemon.ask_with("POST /containers/hull/start", json, "{}").0.starts_with("HTTP/1.1 409 "));
    host.ok(["unpause", "hull"]);
    host.ok(["rm", "--force", "hull"]);
}

/// As Go's servers read them: what a form says counts, and first.
#[test]
fn parameters_may_come_in_a_form() {
    let Some((host, daemon)) = host() else { return };
    let names = || host.ok(["ps", "--all", "--format", "{{.Names}}"]);
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    host.ok(["create", "--name", "hull", "--label", "keep", "--network", "none", "busybox", "true"]);
    // {"label":["nope"]}
    let nope = "filters=%7B%22label%22%3A%5B%22nope%22%5D%7D";
    let (head, answer) = daemon.ask_with("POST /containers/prune", form, nope);
    assert!(head.starts_with("HTTP/1.1 200 ") && names() == "hull", "{head} {answer}");
    let (head, _) = daemon.ask_with("POST /containers/hull/rename?name=mast", form, "name=keel&x=%20");
    assert!(head.starts_with("HTTP/1.1 204 ") && names() == "keel", "{head}");
    let (head, _) = daemon.ask_with("POST /containers/prune", form, "filters=%zz");
    assert!(head.starts_with("HTTP/1.1 400 ") && names() == "keel", "{head}");
    // What is to be JSON is not read as anything else.
    for path in ["containers/create", "networks/create", "volumes/create", "containers/keel/update"] {
        for (kind, said) in
            [("application/x-www-form-urlencoded", form), ("text/plain", "Content-Type: text/plain\r\n")]
        {
            let (head, answer) = daemon.ask_with(&format!("POST /{path}"), said, r#"{"Name":"x","Image":"busybox"}"#);
            assert!(head.starts_with("HTTP/1.1 400 "), "{path}: {head} {answer}");
            assert!(answer.contains(&format!("unsupported Content-Type header ({kind}")), "{path}: {answer}");
        }
    }
    let (head, answer) = daemon.ask_with("POST /volumes/create", "", r#"{"Name":"x"}"#);
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(answer.contains("malformed Content-Type header (): mime: no media type"), "{answer}");
    let (head, _) = daemon.ask_with("POST /containers/prune", form, "x=1");
    assert!(head.starts_with("HTTP/1.1 200 ") && names().is_empty(), "{head}");
}

#[test]
fn requests_may_come_in_pieces_and_in_heaps() {
    let Some((_host, daemon)) = host() else { return };
    // Byte by byte, the body in chunks, and more requests behind it.
    let body = r#"{"Name":"cargo"}"#;
    let mut text = String::from("POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    text += "Transfer-Encoding: chunked\r\n\r\n";
    for byte in body.chars() {
        text += &format!("1\r\n{byte}\r\n");
    }
    text += "0\r\n\r\nHEAD /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
    text += "GET /volumes/cargo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = daemon.connect();
    for byte in text.bytes() {
        stream.write_all(&[byte]).expect("write a byte");
    }
    let answers = String::from_utf8(rest(&mut stream)).expect("UTF-8");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 201 Created").count(), 1, "{answers}");
    assert!(answers.ends_with("}\n") && answers.contains("\r\n\r\nOKHTTP/1.1 200"), "{answers}");

    // A client of HTTP/1.0 gets what it understands.
    let old = daemon.say("GET /volumes HTTP/1.0\r\n\r\n");
    assert!(old.contains("\r\nConnection: close\r\n") && old.contains("cargo"), "{old}");

    // One that asks before it sends its body is answered, and only then sends it.
    let mut stream = daemon.connect();
    let head_text = "POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Expect: 100-continue\r\nContent-Length: 16\r\n\r\n";
    stream.write_all(head_text.as_bytes()).expect("write");
    assert_eq!(head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("write");
    assert!(head(&mut stream).starts_with("HTTP/1.1 201 "));
}

#[test]
fn what_is_no_request_is_refused_and_harms_nobody() {
    let Some((_host, daemon)) = host() else { return };
    let create = "POST /volumes/create HTTP/1.1\r\nHost: x\r\n";
    let build = "POST /build HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n";
    let import = "POST /images/create?fromSrc=- HTTP/1.1\r\nHost: x\r\n";
    let table = [
        ("no words\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(500_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(1000)), 431),
        // Two lengths for one body: what one reader takes for its rest is a request to another.
        (format!("{create}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (format!("{create}Content-Length: 4\r\nContent-Length: 5\r\n\r\n{{}}"), 400),
        (format!("{create}Transfer-Encoding: gzip\r\n\r\n"), 501),
        (format!("{create}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{{}}"), 400),
        (format!("{create}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400),
        (format!("{build}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400),
        (format!("{build}Transfer-Encoding: chunked\r\n\r\n200\r\n{}\r\nzz\r\n", "\0".repeat(512)), 400),
        (format!("{import}Transfer-Encoding: chunked\r\n\r\n4\r\nabcdef\r\n"), 400),
    ];
    for (text, status) in table {
        let answer = daemon.say(&text);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text:.60?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer: {answer}");
    }
    assert_eq!(daemon.ask("GET /_ping").1, "OK");
    assert!(!daemon.ask("GET /volumes").1.contains("\"Name\""), "nothing was made");
}

#[test]
fn a_wait_is_answered_before_it_is_over() {
    let Some((host, daemon)) = host() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    host.ok(["rename", &id, "anchor"]);
    let mut stream = daemon.connect();
    stream.write_all(b"POST /containers/anchor/wait HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    assert!(head(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"), "before its end");
    host.ok(["kill", "anchor"]);
    let mut body = String::new();
    while !body.ends_with("0\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("read");
        body.push(char::from(byte[0]));
    }
    assert!(body.contains(r#"{"StatusCode":137}"#), "{body}");
    // The connection goes on after the stream.
    stream.write_all(b"POST /containers/anchor/stop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("write");
    let stopped = String::from_utf8(rest(&mut stream)).expect("UTF-8");
    assert!(stopped.starts_with("HTTP/1.1 304 Not Modified\r\n") && stopped.ends_with("\r\n\r\n"), "{stopped}");
    assert!(!stopped.contains("Content-Length") && !stopped.contains("Content-Type"), "{stopped}");
}

#[test]
fn before_1_30_a_wait_is_answered_when_it_is_over() {
    let Some((host, daemon)) = host() else { return };
    host.ok(["run", "-di", "--name", "hull", "--network", "none", "busybox", "sh", "-c", "read x; exit 4"]);
    let mut stream = daemon.connect();
    // There were no conditions.
    let line = "POST /v1.29/containers/hull/wait?condition=odd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(line.as_bytes()).expect("write");
    host.ok(["kill", "hull"]);
    let answer = String::from_utf8(rest(&mut stream)).expect("UTF-8");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Whoever says how long an answer is knows it already.
    assert!(answer.contains("\r\nContent-Length: ") && answer.ends_with("{\"StatusCode\":137}\n"), "{answer}");
}

#[test]
fn a_stream_is_taken_over_byte_for_byte() {
    let Some((host, daemon)) = host() else { return };
    let create = |name: &str| {
        host.ok([
            "create",
            "--name",
            name,
            "--interactive",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "cat; echo end",
        ])
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let table = [
        (
            "v1.51",
            upgrade,
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        ),
        (
            "v1.41",
            upgrade,
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        ),
        ("v1.51", "", "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"),
    ];
    for (at, (version, headers, expected)) in table.into_iter().enumerate() {
        let name = format!("stream-{at}");
        create(&name);
        let mut stream = daemon.connect();
        // Before the start; and what follows the head is the container's input already.
        let query = "stream=1&stdin=1&stdout=1&stderr=1";
        let request =
            format!("POST /{version}/containers/{name}/attach?{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\nearly ");
        stream.write_all(request.as_bytes()).expect("write");
        assert_eq!(head(&mut stream), expected);
        assert!(daemon.ask(&format!("POST /containers/{name}/start")).0.starts_with("HTTP/1.1 204 "));
        stream.write_all(b"late\n").expect("write");
        stream.shutdown(Shutdown::Write).expect("half-close");
        let bytes = rest(&mut stream);
        let mut text = Vec::new();
        let mut left = &bytes[..];
        while let Some((header, behind)) = left.split_first_chunk::<8>() {
            let length = u32::from_be_bytes(header[4..].try_into().expect("four bytes")) as usize;
            assert_eq!(header[..4], [1, 0, 0, 0], "{bytes:?}");
            text.extend_from_slice(&behind[..length]);
            left = &behind[length..];
        }
        assert_eq!(String::from_utf8_lossy(&text), "early late\nend\n");
    }
}

/// As dockerd has it: gzip, or deflate without zlib's frame.
#[test]
fn a_copy_out_is_compressed_for_who_reads_that() {
    let Some((host, daemon)) = host() else { return };
    host.ok(["create", "--name", "hull", "--network", "none", "busybox", "true"]);
    let (big, file) = (host.file("noise", noise(8 << 20, 1)), host.file("file", "ahoy\n".repeat(1000)));
    for file in [&big, &file] {
        host.ok(["cp", file.to_str().expect("UTF-8"), "hull:/"]);
    }
    // Without chunks.
    let get = |path: &str, headers: &str| {
        let mut stream = daemon.connect();
        write!(stream, "GET /containers/hull/archive?path={path} HTTP/1.0\r\n{headers}\r\n").expect("write");
        (head(&mut stream), stream)
    };
    let (answer, mut stream) = get("/file", "");
    assert!(!answer.contains("Content-Encoding"), "{answer}");
    let plain = rest(&mut stream);
    assert!(plain.len() > 5000 && answer.contains("Content-Type: application/x-tar\r\n"), "{answer}");
    for (accepted, encoding) in [("gzip, deflate", "gzip"), ("gzip;q=0, deflate", "deflate")] {
        let (answer, mut stream) = get("/file", &format!("Accept-Encoding: {accepted}\r\n"));
        assert!(answer.contains(&format!("\r\nContent-Encoding: {encoding}\r\n")), "{answer}");
        assert!(answer.contains("X-Docker-Container-Path-Stat: "), "{answer}");
        let packed = rest(&mut stream);
        assert!(packed.len() < 1000, "{} bytes", packed.len());
        // -15: a window of 32 KiB, and no frame; 31: gzip's.
        let window = if encoding == "gzip" { 31 } else { -15 };
        let unpack =
            format!("import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read(), {window}))");
        assert_eq!(Command::new("python3", ["-c", &unpack]).input(packed).run().out, plain, "{encoding}");
    }
    // Who goes away in the middle takes the rest of the work along.
    let before = daemon.idle();
    let (answer, stream) = get("/noise", "Accept-Encoding: gzip\r\n");
    assert!(answer.contains("Content-Encoding: gzip"), "{answer}");
    eventually("it waits for its reader", || daemon.threads() > before);
    drop(stream);
    eventually("nobody packs any more", || daemon.threads() <= before);
    host.ok(["rm", "hull"]);
    host.assert_tidy();
}

/// Ends of the container are none of it.
#[test]
fn a_wait_for_the_removal_ends_with_that() {
    let Some((host, daemon)) = host() else { return };
    let script = "echo x >> /count; exit $((8 + $(wc -l < /count)))";
    host.ok(["create", "--name", "brief", "--network", "none", "busybox", "sh", "-c", script]);
    let mut stream = daemon.connect();
    let line = "POST /containers/brief/wait?condition=removed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(line.as_bytes()).expect("write");
    head(&mut stream);
    for code in [9, 10] {
        host.ok(["start", "brief"]);
        eventually("it has ended", || {
            host.ok(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "brief"]) == format!("exited {code}")
        });
    }
    host.ok(["rm", "brief"]);
    let answer = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    assert!(answer.contains(r#"{"StatusCode":10}"#), "{answer}");
}

/// As with Docker: what is asked for at the start of an exec, whatever it has. docker-py asks for frames always.
#[test]
fn an_execs_frames_are_as_its_start_asks() {
    let Some((host, daemon)) = host() else { return };
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let json = "Content-Type: application/json\r\n";
    for (made, started, expected) in [
        (false, r#"{}"#, "\u{1}\0\0\0\0\0\0\u{5}ahoy\n"),
        (false, r#"{"Tty":true}"#, "ahoy\n"),
        (true, r#"{"Tty":false}"#, "\u{1}\0\0\0\0\0\0\u{6}ahoy\r\n"),
        (true, r#"{"Tty":true}"#, "ahoy\r\n"),
    ] {
        let asked = format!(r#"{{"AttachStdout":true,"Tty":{made},"Cmd":["echo","ahoy"]}}"#);
        let (_, body) = daemon.ask_with("POST /v1.51/containers/hull/exec", json, &asked);
        let exec: Value = serde_json::from_str(&body).expect("JSON");
        let line = format!("POST /v1.51/exec/{}/start", exec["Id"].as_str().expect("an id"));
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        let mut stream = daemon.connect();
        let length = started.len();
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{json}{upgrade}Content-Length: {length}\r\n\r\n{started}");
        stream.write_all(request.as_bytes()).expect("write");
        let kind = if started.contains("true") { "raw-stream" } else { "multiplexed-stream" };
        let answer = head(&mut stream);
        assert!(answer.contains(kind), "{made} {started}: {answer}");
        assert_eq!(String::from_utf8_lossy(&rest(&mut stream)), expected, "{made} {started}");
    }
}

/// As with dockerd, which speaks of a stream's refusal as it would have spoken in it.
#[test]
fn a_stream_that_is_refused_is_plain_text() {
    let Some((host, daemon)) = host() else { return };
    let kind = "\r\nContent-Type: application/vnd.docker.raw-stream";
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    for headers in ["", upgrade] {
        let (head, body) = daemon.ask_with("POST /containers/nope/attach?stream=1", headers, "");
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n") && head.contains(kind), "{head}");
        assert_eq!(body, "No such container: nope\r\n");
    }
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let json = "Content-Type: application/json\r\n";
    let (_, made) = daemon.ask_with("POST /containers/hull/exec", json, r#"{"AttachStdout":true,"Cmd":["true"]}"#);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let id = made["Id"].as_str().expect("an id");
    let start = |body: &str| daemon.ask_with(&format!("POST /exec/{id}/start"), &format!("{json}{upgrade}"), body);
    assert!(start("{}").0.starts_with("HTTP/1.1 101 "));
    eventually("it has run", || daemon.ask(&format!("GET /exec/{id}/json")).1.contains("\"ExitCode\":0"));
    let (head, body) = start("{}");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(body, format!("\u{1}\0\0\0\0\0\0_exec command {id} has already run\r\n"), "{body}");
    let (head, body) = start(r#"{"Detach":true}"#);
    assert!(head.starts_with("HTTP/1.1 409 "), "{head}");
    assert_eq!(body, format!("{{\"message\":\"exec command {id} has already run\"}}\n"));
    host.ok(["rm", "--force", "hull"]);
}

/// As Docker does: who has started an exec may resize its terminal before the answer is there.
/// docker-py reads on below its own buffer, and would lose what it got together with the head.
#[test]
fn a_stream_comes_after_its_head_was_read() {
    let Some((host, daemon)) = host() else { return };
    host.ok(["run", "--name", "said", "--network", "none", "busybox", "echo", "ahoy"]);
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let start = || {
        let json = "Content-Type: application/json\r\n";
        let asked = r#"{"AttachStdout":true,"Cmd":["echo","ahoy"]}"#;
        let (_, body) = daemon.ask_with("POST /containers/hull/exec", json, asked);
        let exec: Value = serde_json::from_str(&body).expect("JSON");
        (format!("/exec/{}/start", exec["Id"].as_str().expect("an id")), "{}")
    };
    let attach = || ("/containers/said/attach?logs=1&stdout=1".to_owned(), "");
    // Whether this came in time: the head is waited for no more than a second.
    let comes = |(path, body): (String, &str)| {
        let mut stream = daemon.connect();
        let asked = Instant::now();
        let head = "HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json";
        write!(stream, "POST {path} {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("write");
        // All that has come while it was busy with something else.
        std::thread::sleep(Duration::from_millis(200));
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).expect("read");
        let is_late = asked.elapsed() > Duration::from_millis(900);
        let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 ") && (is_late || head.ends_with("\r\n\r\n")), "{head}");
        assert!(rest(&mut stream) == b"\x01\0\0\0\0\0\0\x05ahoy\n" || is_late);
        !is_late
    };
    eventually("a log comes after its head", || comes(attach()));
    eventually("what is executed comes after its head", || comes(start()));
    host.ok(["rm", "said"]);
}

#[test]
fn a_resize_waits_for_the_exec_to_start() {
    let Some((host, daemon)) = host() else { return };
    host.detached(&["--name", "hull"], &["sleep", "1000"]);
    let json = "Content-Type: application/json\r\n";
    let asked =
        r#"{"Cmd": ["sh", "-c", "until stty size | grep 40; do sleep 0.05; done"], "Tty": true, "AttachStdout": true}"#;
    let (_, body) = daemon.ask_with("POST /containers/hull/exec", json, asked);
    let made: serde_json::Value = serde_json::from_str(&body).expect("an answer in JSON");
    let id = made["Id"].as_str().expect("an id");
    std::thread::scope(|scope| {
        let resize = scope.spawn(|| daemon.ask(&format!("POST /exec/{id}/resize?h=40&w=90")));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!resize.is_finished(), "there is nothing yet to resize");
        let (_, said) = daemon.ask_with(&format!("POST /exec/{id}/start"), json, r#"{"Tty": true}"#);
        assert!(said.contains("40 90"), "{said}");
        assert!(resize.join().expect("no panic").0.starts_with("HTTP/1.1 200 "));
    });
    let (head, _) = daemon.ask(&format!("POST /exec/{id}/resize?h=40&w=90"));
    assert!(head.starts_with("HTTP/1.1 404 "), "what has ended has no terminal: {head}");
    host.ok(["rm", "--force", "hull"]);
}

#[test]
fn a_websocket_carries_the_streams() {
    let Some((host, daemon)) = host() else { return };
    let (head_without, _) = daemon.ask("GET /containers/nope/attach/ws?stream=1");
    assert!(head_without.starts_with("HTTP/1.1 404 "), "{head_without}");
    // Which streams, and in which kind of frames. Once nobody was asked, and all was text.
    for (version, query, kind) in [
        ("", "stream=1&stdin=1&stdout=1&stderr=1", 0x82),
        ("/v1.42", "stream=1&stdin=1&stderr=1", 0x82),
        ("/v1.41", "stream=1", 0x82),
        ("/v1.28", "stream=1&stdin=0&stderr=0", 0x82),
        ("/v1.27", "stream=1", 0x81),
    ] {
        let flags = ["--name", "ws", "--interactive", "--network", "none", "busybox", "sh", "-c", "cat >&2; read x"];
        host.ok([&["create"], &flags[..]].concat());
        let path = format!("{version}/containers/ws/attach/ws?{query}");
        let (head_without, _) = daemon.ask(&format!("GET {path}"));
        assert!(head_without.starts_with("HTTP/1.1 400 "), "{head_without}");
        let mut stream = daemon.connect();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .expect("write");
        let accepted = head(&mut stream);
        let is_accepted = accepted.starts_with("HTTP/1.1 101 ") && accepted.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_accepted, "{path}: {accepted}");
        host.ok(["start", "ws"]);
        // "ahoy\n", masked with zeros.
        stream.write_all(b"\x81\x85\0\0\0\0ahoy\n").expect("write");
        let mut message = [0; 7];
        stream.read_exact(&mut message).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(message, [&[kind, 5], &b"ahoy\n"[..]].concat()[..], "{path}");
        host.ok(["kill", "ws"]);
        assert_eq!(rest(&mut stream), b"\x88\x02\x03\xe8", "{path}");
        host.ok(["rm", "ws"]);
    }
}

#[test]
fn who_leaves_is_not_worked_for_any_more() {
    let Some((host, daemon)) = host() else { return };
    host.ok(["run", "--detach", "--name", "quiet", "--network", "none", "busybox", "sleep", "1000"]);
    let before = daemon.idle();
    let lines = [
        "POST /containers/quiet/wait",
        "GET /containers/quiet/logs?follow=1&stdout=1",
        "GET /events",
        "POST /containers/quiet/attach?stream=1&stdout=1",
    ];
    let streams: Vec<UnixStream> = lines
        .iter()
        .map(|line| {
            let mut stream = daemon.connect();
            write!(stream, "{line} HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
            assert!(head(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"), "{line}");
            stream
        })
        .collect();
    assert_eq!(daemon.threads(), before + lines.len());
    drop(streams);
    eventually("no thread is left", || daemon.threads() <= before);
}

#[test]
fn too_many_connections_are_turned_away_and_idle_ones_make_room() {
    let Some(host) = Host::with_busybox() else { return };
    // A hundred descriptors are nine connections.
    let command = Daemon::command(&host, &[]);
    let line = format!("ulimit -n 100; exec {} \"$@\"", env!("CARGO_BIN_EXE_dhow"));
    let mut command = command;
    let args: Vec<_> = command.inner().get_args().map(|arg| arg.to_str().expect("UTF-8").to_owned()).collect();
    let mut words = vec!["-c".to_owned(), line, "sh".to_owned()];
    words.extend(args);
    let command = crate::fixture::Command::new("sh", words)
        .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
        .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"));
    let daemon = Daemon::spawn(&host, command);
    let idle: Vec<UnixStream> = (0..50).map(|_| daemon.connect()).collect();
    assert_eq!(daemon.ask("GET /_ping").1, "OK", "idle ones make room");
    let mut busy = Vec::new();
    let refusal = loop {
        let mut stream = daemon.connect();
        // Who is turned away may hear it before it has asked.
        let _ = stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = head(&mut stream);
        if !head.starts_with("HTTP/1.1 200 ") {
            break head + &String::from_utf8_lossy(&rest(&mut stream));
        }
        busy.push(stream);
        assert!(busy.len() < 60, "there is a bound");
    };
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("connections are open"), "{refusal}");
    drop((busy, idle));
    crate::fixture::eventually("there is room again", || {
        daemon.say("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200 ")
    });
}

/// Ten thousand clients, more than are taken at once: those who only wait make room, and beyond the bound those who
/// come are told so; with little memory, and for everybody else the daemon is there.
#[test]
fn ten_thousand_connections() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const ALL: usize = 10_000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("ask for the limit");
    if hard < ALL as u64 + 1000 {
        return crate::fixture::skip("the limit of open files is too low").unwrap_or_default();
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(ALL as u64 + 1000), hard).expect("raise the limit");
    let Some((_host, daemon)) = host() else { return };
    let mut clients: Vec<UnixStream> = Vec::new();
    for number in 0..ALL {
        clients.push(daemon.connect());
        if number % 1000 == 999 {
            assert_eq!(daemon.ask("GET /_ping").1, "OK", "after {number}");
        }
    }
    let waiting = memory(daemon.pid());
    // The oldest were closed, the newest are still there.
    let mut byte = [0];
    assert_eq!(clients[0].read(&mut byte).expect("read"), 0, "the first one was closed");
    let last = clients.last_mut().expect("one");
    last.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    assert!(head(last).starts_with("HTTP/1.1 200 "));
    drop(clients);

    // Busy ones stay, and everybody beyond the bound hears it at once.
    let (mut busy, mut refused) = (Vec::new(), 0);
    for _ in 0..ALL {
        let mut stream = daemon.connect();
        let _ = stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = head(&mut stream);
        match &head[..13] {
            "HTTP/1.1 200 " => busy.push(stream),
            "HTTP/1.1 503 " => refused += 1,
            _ => panic!("{} are busy: {head}{}", busy.len(), String::from_utf8_lossy(&rest(&mut stream))),
        }
    }
    assert!(busy.len() >= 900 && busy.len() + refused == ALL, "{} are busy, {refused} refused", busy.len());
    let following = memory(daemon.pid());
    // A thousand at a time, each with a thread: 20 and 90 MiB without optimisation.
    assert!(waiting < 80 << 10 && following < 240 << 10, "{waiting} and {following} KiB");
    drop(busy);
    crate::fixture::eventually("there is room again", || {
        daemon.say("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200 ")
    });
}

/// What a process has of memory, in KiB; what it shares, by its part.
fn memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Pss");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
