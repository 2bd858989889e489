//! `dhow build`: contexts that have names.

use super::builds::{build, folder, says};
use crate::fixture::git::Repositories;
use crate::fixture::{Front, Host, Image, Layout, Packing, Say, Tar, busybox_tar, digest};
use serde_json::json;
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
        ("x=oci-layout:///nope/nothere", "failed to get build context path for x"),
        ("x=oci-layout://:y", "expected oci-layout://DIR[:tag][@digest]"),
    ] {
        let output = build(&host, &dir, &["--build-context", context]);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
    // A stage that is called as a context is one, by its number and as the target, too; nothing else is scratch.
    let text =
        "FROM busybox AS tools\nRUN false\nFROM busybox\nCOPY --from=0 /a /of\nFROM scratch\nCOPY Dockerfile /\n";
    let staged = folder(&host, "staged", &[("Dockerfile", text)]);
    let with = |flags: &[&str]| build(&host, &staged, &[&["-t", "made", "--build-context", &tools], flags].concat());
    with(&["--target", "1"]).ok();
    assert_eq!(says(&host, "cat /of"), "other");
    with(&["--target", "tools"]).ok();
    with(&["--build-context", &tools.replace("tools=", "scratch=")]).ok();
    assert_eq!(host.ok(["inspect", "--format", "{{len .RootFS.Layers}}", "made"]), "1");
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

#[test]
fn layouts_have_names() {
    let (Some(host), Some(busybox)) = (Host::with_busybox(), busybox_tar()) else { return };
    let busybox = std::fs::read(busybox).expect("read busybox");
    let image = |says: &str| {
        let top = Tar::new().file("says", 0o640, says).file(".wh.home", 0o600, "").end();
        Image::new(busybox.clone())
            .layer(top, Packing::Zstd)
            .config(json!({ "Env": ["SAYS=so"], "WorkingDir": "/tmp" }))
    };
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add(&image("one"), "one");
    let foreign = Image::new(busybox.clone()).platform("s390x", None);
    layout.add_index(&[foreign, image("of an index")], "all/of:many");
    let manifest = |image: &Image| digest(&image.blobs().last().expect("a manifest").bytes);
    let dir = folder(&host, "context", &[("Dockerfile", "FROM base\nRUN echo $SAYS > built; cat /says >> built\n")]);
    let at = host.dir().join("layout").display().to_string();
    let built =
        |value: &str| build(&host, &dir, &["-t", "made", "--build-context", &format!("base=oci-layout://{at}{value}")]);
    let images = host.ok(["images", "-q", "-a"]);
    for (value, says_it) in [
        (":one".to_owned(), "one"),
        (":many".to_owned(), "of an index"),
        (format!("@{}", manifest(&image("one"))), "one"),
    ] {
        built(&value).ok();
        assert_eq!(says(&host, "cat /tmp/built; test ! -e /home"), format!("so\n{says_it}"), "{value}");
        // The base itself has no place in the store but its layers.
        host.ok(["rmi", "made"]);
        assert_eq!(host.ok(["images", "-q", "-a"]), images);
    }
    // The same again is no work, and it is the content that counts.
    built(":one").ok();
    let again = built(":one");
    assert_eq!(again.stderr().matches("CACHED").count(), 1, "{again}");
    let text = "FROM busybox\nCOPY --from=base /says /s\nRUN --mount=from=base,target=/m cat /m/says > /t\n";
    let other = folder(&host, "other", &[("Dockerfile", text)]);
    let value = format!("base=oci-layout://{at}:many");
    build(&host, &other, &["-t", "made", "--build-context", &value]).ok();
    assert_eq!(says(&host, "cat /s /t"), "of an indexof an index");
    for (value, words) in [
        ("", "the layout has no image with the tag latest, of 2"),
        (":three", "the layout has no image with the tag three, of 2"),
        (&format!("@{}", digest(b"none")), "open \"blobs/sha256/"),
    ] {
        let output = built(value);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{value}: {output}");
    }
    let output =
        build(&host, &dir, &["--platform", "linux/s390x", "--build-context", &format!("base=oci-layout://{at}:one")]);
    assert!(output.stderr().contains("it has no image for platform linux/s390x"), "{output}");
    // Nothing of what is damaged is believed: layers, config, manifest.
    let lying = image("a lie");
    let mut layout = Layout::new(host.dir().join("layout"));
    layout.add(&lying, "lying");
    for blob in lying.blobs().into_iter().skip(1) {
        let path = host.dir().join("layout/blobs/sha256").join(&digest(&blob.bytes)[7..]);
        std::fs::write(&path, [&blob.bytes[..], b" "].concat()).expect("damage");
        let output = built("");
        assert!(output.code() == Some(1) && output.stderr().contains("digest mismatch"), "{output}");
        std::fs::write(&path, &blob.bytes).expect("mend");
    }
    // Nor does a link lead anywhere else.
    let config = host.dir().join("layout/blobs/sha256").join(&digest(&lying.blobs()[2].bytes)[7..]);
    std::fs::rename(&config, host.dir().join("outside")).expect("rename");
    std::os::unix::fs::symlink(host.dir().join("outside"), &config).expect("make a link");
    let output = built("");
    assert!(output.code() == Some(1) && !output.stderr().contains("outside"), "{output}");
    host.assert_tidy();
}

#[test]
fn repositories_and_images_have_names() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(all) = Repositories::new(host.dir().join("git")) else { return };
    let first =
        all.commit("boat", &[("a", "one"), ("sub/b", "two"), ("sub/left", ""), ("sub/.dockerignore", "left\n")]);
    let front = all.serve(|_| None);
    let url = format!("http://{}/boat.git", front.address);
    let text = "FROM boat AS whole\nFROM base\nCOPY --from=whole / /whole/\nCOPY --from=sub . /sub/\n\
                RUN --mount=from=sub,target=/m ls -A /m > /listed\nCOPY --from=other /bin/busybox /other\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let contexts =
        [format!("boat={url}#main"), format!("sub={url}#{first}:sub"), "base=docker-image://busybox:latest".to_owned()];
    let other = "docker.io/library/other=docker-image://docker.io/library/busybox".to_owned();
    let mut flags = vec!["-t", "made"];
    contexts.iter().chain([&other]).for_each(|context| flags.extend(["--build-context", context]));
    build(&host, &dir, &flags).ok();
    assert_eq!(
        says(&host, "cat /whole/a /whole/sub/b; ls -A /whole /sub; cat /listed; cmp /other /bin/busybox"),
        "onetwo/sub:\n.dockerignore\nb\n\n/whole:\na\nsub\n.dockerignore\nb"
    );
    // A commit is what it is; a branch moves.
    let again = build(&host, &dir, &flags);
    assert_eq!(again.stderr().matches("CACHED").count(), 5, "{again}");
    all.commit("boat", &[("a", "moved")]);
    build(&host, &dir, &flags).ok();
    assert_eq!(says(&host, "cat /whole/a /sub/b"), "movedtwo");
    for (context, words) in [
        (format!("boat={url}#none"), "repository does not contain ref none"),
        ("base=docker-image://127.0.0.1:1/nothing".to_owned(), "127.0.0.1:1"),
    ] {
        let output = build(&host, &dir, &[&flags[..], &["--build-context", &context]].concat());
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{context}: {output}");
    }
    host.assert_tidy();
}

#[test]
fn contexts_come_by_http() {
    let Some(host) = Host::with_busybox() else { return };
    let dockerfile = "FROM busybox\nCOPY . /all/\n";
    let tar = Tar::new().file("Dockerfile", 0o644, dockerfile).file("x", 0o644, "content").end();
    let packed = Packing::Gzip.pack(&tar);
    let front = Front::alone(move |asked| match asked.line.as_str() {
        line if line.contains("/c.tgz") => Say::new(200, packed.clone()),
        line if line.contains("/Dockerfile") => Say::new(200, "FROM busybox\nRUN echo alone > /said\n"),
        _ => Say::new(404, ""),
    });
    let build = |name: &str| {
        let url = format!("http://{}/{name}", front.address);
        host.run(["build", "--network", "none", "-t", "made", &url])
    };
    build("c.tgz").ok();
    assert_eq!(says(&host, "ls /all; cat /all/x"), "Dockerfile\nx\ncontent");
    build("Dockerfile").ok();
    assert_eq!(says(&host, "cat /said"), "alone");
    let output = build("none");
    assert!(output.code() == Some(1) && output.stderr().contains("404"), "{output}");
    host.assert_tidy();
}
