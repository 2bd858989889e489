//! `dhow build`: contexts that have names.

use super::builds::{build, folder, says};
use crate::fixture::{Host, Packing, Tar};
use std::io::{Read, Write};

/// Of contexts that are no folders.
const DOCKERFILE: &str = "FROM busybox\nCOPY --from=tools a sub/b /\n";

#[test]
fn contexts_have_names() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = Packing::Gzip
        .pack(&Tar::new().file("deep/packed", 0o640, "packed").file("Dockerfile", 0o644, DOCKERFILE).end());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}/x.tgz", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", tar.len());
            let _ = client.write_all(&[head.as_bytes(), &tar].concat());
        }
    });
    let text = "FROM nowhere.example/base:1 AS stage\nRUN echo wrong > /stage\nFROM docker.io/library/tools AS files\n\
                FROM nowhere.example/base:1\nCOPY --from=files /a /a\nCOPY --from=tools . /tools/\nCOPY --from=stage /s /s\n\
                COPY --from=web /deep /deep\nRUN --mount=from=tools,target=/m cat /m/sub/b > /b; ls /m > /listed\nCOPY Dockerfile /\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let tools = [("a", "a"), ("sub/b", "b"), ("ignored", ""), (".dockerignore", "ignored\n")];
    let tools = format!("tools={}", folder(&host, "elsewhere/tools", &tools).display());
    let stage = format!("stage={}", folder(&host, "stage", &[("s", "s")]).display());
    let web = format!("web={url}");
    let contexts = [&tools, &stage, &web, "nowhere.example/base:1=docker-image://busybox"];
    let flags = |more: &[&str]| -> Vec<String> {
        let named = contexts.iter().flat_map(|context| ["--build-context", context]);
        named.chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let built = |more: &[&str]| {
        let flags = flags(more);
        build(&host, &dir, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    };
    built(&["-t", "made"]).ok();
    assert_eq!(
        says(&host, "cat /a /b /s /deep/packed; ls /tools /listed; cat /listed; test ! -e /stage"),
        "abspacked/listed\n\n/tools:\na\nsub\na\nsub"
    );
    assert_eq!(says(&host, "ls -A / | grep contexts; ls -A /tools; stat -c %u:%g /a"), ".dockerignore\na\nsub\n0:0");
    let again = built(&["-t", "made"]);
    assert_eq!(again.stderr().matches("CACHED").count(), 7, "{again}");
    // One file of it is a reason, and only for what is made of it.
    host.file("elsewhere/tools/a", "other");
    let changed = built(&["-t", "made"]);
    assert_eq!(changed.stderr().matches("CACHED").count(), 0, "{changed}");
    assert_eq!(says(&host, "cat /a /tools/a"), "otherother");
    for (context, words) in [
        ("x", "expected key=value"),
        ("Upper=.", "invalid context name Upper"),
        ("x=/nope/nothere", "failed to get build context path for x"),
        ("x=oci-layout://y", "an OCI layout is not supported"),
    ] {
        let output = build(&host, &dir, &["--build-context", context]);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
    // Beside contexts that are no folders: a Dockerfile and a tar on stdin, and a URL.
    let packed = Packing::Zstd.pack(&Tar::new().file("Dockerfile", 0o644, DOCKERFILE).end());
    for (context, input) in [("-", DOCKERFILE.as_bytes().to_vec()), ("-", packed), (&*url, Vec::new())] {
        host.ok(["rmi", "--force", "made"]);
        let line = ["build", "-q", "--network", "none", "-t", "made", "--build-context", &tools, context];
        host.dhow(line).input(input).ok();
        assert_eq!(says(&host, "cat /a /b; ls -A / | grep contexts || echo none"), "otherbnone");
    }
    host.assert_tidy();
}
