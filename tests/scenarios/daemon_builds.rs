//! `POST /build`: Docker's own client with DOCKER_BUILDKIT=0, and the stream of messages as SDKs read it.

use crate::fixture::git::Repositories;
use crate::fixture::{Command, Daemon, Front, Host, Packing, Say, Tar, eventually, need};

fn docker(host: &Host, daemon: &Daemon, buildkit: &str, args: &[&str]) -> Command {
    Command::new("docker", args.iter().copied())
        .env("DOCKER_HOST", &daemon.address())
        .env("DOCKER_BUILDKIT", buildkit)
        .env("HOME", host.dir().join("home").to_str().expect("UTF-8"))
}

#[test]
fn docker_builds_with_the_classic_protocol() {
    let Some(()) = need("docker") else { return };
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let text = "FROM busybox\nARG who=nobody\nCOPY . /c/\nRUN echo hello $who; cat /c/x > /y\nCMD [\"cat\", \"/y\"]\n";
    host.file("context/Dockerfile", text);
    host.file("context/x", "content");
    host.file("context/ignored", "");
    host.file("context/.dockerignore", "ignored\n");
    let dir = host.dir().join("context");
    let dir = dir.to_str().expect("UTF-8");
    let args =
        ["build", "--network", "none", "-t", "made:1", "-t", "more", "--build-arg", "who=me", "--label", "a=b", dir];
    let output = docker(&host, &daemon, "0", &args).run();
    output.ok();
    let told = output.stdout();
    for line in [
        "Step 1/5 : FROM busybox",
        "Step 4/5 : RUN echo hello $who",
        " ---> Running in ",
        "hello me",
        "Successfully built ",
        "Successfully tagged made:1",
        "Successfully tagged more:latest",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "made:1"]), "content");
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "more", "ls", "/c"]), "Dockerfile\nx");
    let again = docker(&host, &daemon, "0", &args).ok();
    assert_eq!(again.matches("Using cache").count(), 2, "{again}");
    let quiet = docker(
        &host,
        &daemon,
        "0",
        &["build", "-q", "--network", "none", "--build-arg", "who=me", "--label", "a=b", dir],
    )
    .ok();
    assert_eq!(quiet, host.ok(["inspect", "--format", "{{.Id}}", "more"]));
    // And the same here, which is the same image.
    host.local(["build", "--network", "none", "-t", "ours", "--build-arg", "who=me", "--label", "a=b", dir]).ok();
    assert_eq!(quiet, host.ok(["inspect", "--format", "{{.Id}}", "ours"]));
    host.file("context/Dockerfile", "FROM busybox\nRUN exit 7\n");
    let output = docker(&host, &daemon, "0", &["build", "--network", "none", dir]).run();
    assert_eq!(output.code(), Some(7), "{output}");
    assert!(output.stderr().contains("The command '/bin/sh -c exit 7' returned a non-zero code: 7"), "{output}");
    assert_eq!(host.ok(["ps", "-aq"]), "");
    let pruned = docker(&host, &daemon, "0", &["builder", "prune", "--all", "--force"]).ok();
    assert!(pruned.contains("Total reclaimed space"), "{pruned}");
    daemon.stop();
}

/// Docker's client writes the Dockerfile into the tar as it goes by, and leaves out the end of the archive.
#[test]
fn a_dockerfile_comes_from_outside_of_the_context() {
    let Some(()) = need("docker") else { return };
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let text = "FROM busybox\nCOPY . /c/\n";
    let outside = host.file("out/Dockerfile", text);
    host.file("context/x", "content");
    host.file("context/ignored", "");
    let dir = host.dir().join("context");
    let dir = dir.to_str().expect("UTF-8");
    for ignore in [false, true] {
        if ignore {
            host.file("context/.dockerignore", "ignored\n");
        }
        for file in ["-", outside.to_str().expect("UTF-8")] {
            let args = ["build", "--no-cache", "--network", "none", "-t", "made", "-f", file, dir];
            let input = if file == "-" { text } else { "" };
            docker(&host, &daemon, "0", &args).input(input).ok();
            let found = host.ok(["run", "--rm", "--network", "none", "made", "ls", "/c"]);
            assert_eq!(found, if ignore { "x" } else { "ignored\nx" }, "{file}");
        }
    }
    daemon.stop();
}

#[test]
fn a_daemon_that_ends_ends_its_builds() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let token = host.file("token", "hush-hush-hush");
    host.file("context/Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=token echo begun; sleep 1000\n");
    let (dir, secret) = (host.dir().join("context"), format!("id=token,src={}", token.display()));
    let args = ["build", "--network", "none", "--secret", &secret, dir.to_str().expect("UTF-8")];
    let asks = host.local(args).env("DOCKER_HOST", &daemon.address()).spawn();
    eventually("the command runs", || !host.ok(["ps", "-q"]).is_empty());
    daemon.stop();
    let output = asks.wait();
    assert_eq!(output.code(), Some(1), "{output}");
    assert_eq!(host.ok(["ps", "-aq"]), "");
    let left = std::fs::read_dir(host.run_dir().join("secrets")).expect("list").count();
    assert_eq!(left, 0);
    host.assert_tidy();
}

#[test]
fn messages_are_dockers() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let tar = Packing::Gzip.pack(&Tar::new().file("Dockerfile", 0o644, "FROM busybox\nENV a=b\n").end());
    let head = format!(
        "POST /v1.41/build?t=made&rm=1&networkmode=none HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        tar.len()
    );
    let answer = daemon.say([head.as_bytes(), &tar].concat());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/json"), "{head}");
    for part in [
        r#"{"stream":"Step 1/2 : FROM busybox\n"}"#,
        r#"{"aux":{"ID":"sha256:"#,
        r#"{"stream":"Successfully tagged made:latest\n"}"#,
    ] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    let (status, body) = daemon.ask("POST /build?version=2");
    assert!(status.contains("501") && body.contains("DOCKER_BUILDKIT=0"), "{status} {body}");
    for path in ["/grpc", "/session"] {
        let (status, body) = daemon.ask(&format!("POST {path}"));
        assert!(status.contains("501") && body.contains("DOCKER_BUILDKIT=0"), "{status} {body}");
    }
    let (status, body) = daemon.ask("POST /build?t=UPPER");
    assert!(status.contains("400"), "{status} {body}");
    // What is wrong with the request is told by its status.
    let post = |query: &str, tar: &[u8]| {
        let head = format!(
            "POST /v1.41/build?networkmode=none{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            tar.len()
        );
        let answer = daemon.say([head.as_bytes(), tar].concat());
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).expect("a status").to_owned(), body.to_owned())
    };
    let of = |name: &str, text: &str| Tar::new().file(name, 0o644, text).end();
    for (query, tar, words) in [
        ("", b"no tar at all".to_vec(), "unpack the build context"),
        ("", of("file", "x"), "Cannot locate specified Dockerfile: Dockerfile"),
        ("&dockerfile=../../etc/passwd", of("Dockerfile", "FROM busybox"), "forbidden path outside the build context"),
        ("&version=3", of("Dockerfile", "FROM busybox"), "invalid version \\\"3\\\""),
        ("&dockerfile=other", of("Dockerfile", "FROM busybox"), "Cannot locate specified Dockerfile: other"),
        ("", of("Dockerfile", "FROM busybox\nRUM x"), "dockerfile parse error on line 2"),
        ("", of("Dockerfile", ""), "cannot be empty"),
        ("&target=nope", of("Dockerfile", "FROM busybox"), "target stage \\\"nope\\\" could not be found"),
        ("&q=1", of("Dockerfile", "# check=error=true\nFROM busybox\nCMD x"), "lint violation found"),
    ] {
        let (status, body) = post(query, &tar);
        assert_eq!(status, "400", "{query} {body}");
        assert!(body.starts_with(r#"{"message":""#) && body.contains(words), "{query} {body}");
    }
    // Docker's first builder asks more of a copy than BuildKit.
    for (copy, words) in [
        ("COPY Dockerfile Dockerfile /x", "the destination must be a directory and end with a /"),
        ("COPY none* /x/", "COPY failed: no source files were specified"),
    ] {
        let (_, body) = post("", &of("Dockerfile", &format!("FROM busybox\n{copy}")));
        assert!(body.contains(words), "{copy}: {body}");
    }
    // A file of that name in small letters is as good.
    assert!(post("", &of("dockerfile", "FROM busybox")).1.contains("Successfully built"));
    // Who wants to hear nothing hears why it failed.
    let fails = of("Dockerfile", "FROM busybox\nRUN echo said; exit 3");
    let (status, body) = post("&q=1", &fails);
    let lines: Vec<&str> = body.lines().filter(|line| line.starts_with('{')).collect();
    assert!(status == "200" && lines[0] == r#"{"stream":"Step 1/2 : FROM busybox\n"}"#, "{status} {body}");
    assert!(
        body.contains(r#"{"stream":"said\n"}"#) && lines.last().is_some_and(|it| it.contains(r#""code":3"#)),
        "{body}"
    );
    let (_, body) = post("&q=1", &of("Dockerfile", "FROM busybox"));
    assert!(!body.contains("Step") && !body.contains("aux") && body.contains(r#"{"stream":"sha256:"#), "{body}");
    let (status, body) = daemon.ask("POST /build/cancel");
    assert!(status.contains("400") && body.contains("build ID not provided"), "{status} {body}");
    assert!(daemon.ask("POST /build/cancel?id=x").0.contains("200"));
    let layer = || {
        let made = post("", &of("Dockerfile", "FROM busybox\nRUN echo > /made")).1;
        assert!(made.contains("Successfully built"), "{made}");
    };
    layer();
    for (query, status, words) in [
        ("keep-storage=x", "400", "keep-storage is in bytes and expects an integer, got x"),
        ("max-used-space=-1", "400", "max-used-space is in bytes and expects an integer, got -1"),
        ("min-free-space=much", "400", "min-free-space is in bytes and expects an integer, got much"),
        // All of it may stay, and so much is free.
        ("all=1&max-used-space=1000000000", "200", r#""CachesDeleted":null"#),
        ("all=1&keep-storage=1000000000", "200", r#""CachesDeleted":null"#),
        ("all=1&min-free-space=1", "200", r#""CachesDeleted":null"#),
        // More than any disk has, but for what is to stay of it.
        ("all=1&min-free-space=1000000000000000000&reserved-space=1000000000", "200", r#""CachesDeleted":null"#),
        // A key is as good as a value that says yes, two are one too many.
        ("all=1&filters={%22shared%22:{}}", "200", r#""CachesDeleted":["#),
        ("all=1&filters={%22shared%22:[%22maybe%22]}", "400", "invalid filter 'shared=[maybe]'"),
        ("all=1&filters={%22parent%22:[%22a%22,%22b%22]}", "400", "filters expect only one value"),
        ("all=1&filters={%22parents%22:[%22a%22]}", "400", "invalid filter 'parents'"),
    ] {
        let (said, body) = daemon.ask(&format!("POST /build/prune?{query}"));
        assert!(said.contains(status) && body.contains(words), "{query}: {said} {body}");
    }
    // Older versions know of one bound only.
    layer();
    let (_, body) = daemon.ask("POST /v1.47/build/prune?all=1&reserved-space=1000000000&max-used-space=x");
    assert!(body.contains(r#""CachesDeleted":["#), "{body}");
    daemon.stop();
}

#[test]
fn steps_are_told_as_dockers_first_builder_does() {
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    let post = |query: &str, text: &str| -> (String, String) {
        let tar = Tar::new().file("Dockerfile", 0o644, text).file("there", 0o644, "x").end();
        let head = format!(
            "POST /v1.41/build?networkmode=none{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            tar.len()
        );
        let answer = daemon.say([head.as_bytes(), &tar].concat());
        let lines = answer.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let (mut text, mut error) = (String::new(), String::new());
        for line in lines {
            text += line["stream"].as_str().unwrap_or_default();
            error += &line["errorDetail"].to_string();
        }
        (text, error)
    };
    let id = |name: &str| host.inspect(name, "/Id").as_str().expect("an id")["sha256:".len()..][..12].to_owned();
    let (text, _) = post(
        "&t=told&buildargs=%7B%22lost%22:%221%22,%22base%22:%22busybox%22,%22http_proxy%22:%22x%22%7D",
        "ARG base\nFROM $base\nRUN echo well; sleep 0.2; echo ill >&2\nENV a=b\n",
    );
    let container = text.split("Running in ").nth(1).map_or("", |rest| &rest[..12]);
    let layer = text.split(" ---> ").last().map_or("", |rest| &rest[..12]);
    assert_eq!(
        text,
        format!(
            "Step 1/4 : ARG base\nStep 2/4 : FROM $base\n ---> {base}\nStep 3/4 : RUN echo well; sleep 0.2; echo ill >&2\n \
             ---> Running in {container}\nwell\n\u{1b}[91mill\n\u{1b}[0m ---> Removed intermediate container \
             {container}\n ---> {layer}\nStep 4/4 : ENV a=b\n ---> {layer}\n[Warning] One or more build-args [lost] \
             were not consumed\nSuccessfully built {built}\nSuccessfully tagged told:latest\n",
            base = id("busybox"),
            built = id("told"),
        )
    );
    let (text, _) = post("", "FROM busybox\nENV a=b \\\n\n c=d\nCMD x\n");
    let (found, more) =
        ("Empty continuation line found in: ENV a=b  c=d", "Empty continuation lines will become errors");
    assert!(
        text.starts_with(&format!(
            "\u{1b}[91m[WARNING]: {found}\n\u{1b}[0m\u{1b}[91m[WARNING]: {more} in a future release.\n\u{1b}[0mStep 1/3 : "
        )) && !text.contains("JSONArgs"),
        "{text}"
    );
    let (text, error) = post("", "FROM scratch\nRUN [\"/none\"]\n");
    assert!(text.starts_with("Step 1/2 : FROM scratch\n ---> \nStep 2/2"), "{text}");
    // What could not be started has not ended with a code.
    assert!(error.contains("/none") && !error.contains("code"), "{error}");
    for (text, words) in [
        (
            "COPY nope /x",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        (
            "ADD nope /x",
            "ADD failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        ("COPY --from=busybox /nope /x", "COPY failed: stat nope: file does not exist"),
        ("COPY ../there /x", "COPY failed: forbidden path outside the build context: ../there ()"),
        ("ADD a/../../there /x", "ADD failed: forbidden path outside the build context: a/../../there ()"),
    ] {
        let (_, error) = post("", &format!("FROM scratch\n{text}\n"));
        assert!(error.contains(words), "{text}: {error}");
    }
    // It leads nowhere but into the context.
    assert!(post("", "FROM scratch\nCOPY a/../there /x\n").0.contains("Successfully built"));
    daemon.stop();
}

#[test]
fn compose_builds_its_services() {
    let Some(()) = need("docker-compose") else { return };
    let Some(host) = Host::with_busybox() else { return };
    let daemon = Daemon::start(&host);
    host.file(
        "sea/docker-compose.yml",
        "version: '3.4'\nservices:\n  boat:\n    image: boat\n    network_mode: none\n    build:\n      context: ./boat\n      network: none\n      args: {who: crew}\n      target: last\n    command: cat /said\n  raft:\n    image: raft\n    build:\n      context: ./boat\n      network: none\n      dockerfile: ../raft.dockerfile\n",
    );
    // It lies outside of the context: its name is sent with the text behind it.
    host.file("sea/raft.dockerfile", "FROM busybox\nCOPY Dockerfile /theirs\n");
    host.file(
        "sea/boat/Dockerfile",
        "FROM busybox AS last\nARG who\nRUN echo hello $who > /said\nFROM last\nRUN false\n",
    );
    let file = host.dir().join("sea/docker-compose.yml");
    let args = ["-f", file.to_str().expect("UTF-8"), "-p", "sea", "build"];
    let command = Command::new("docker-compose", args).env("COMPOSE_DOCKER_CLI_BUILD", "0").env("DOCKER_BUILDKIT", "0");
    let output = crate::fixture::clients::speaking(command, &host, &daemon).env("COMPOSE_API_VERSION", "1.44").run();
    output.ok();
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "boat", "cat", "/said"]), "hello crew");
    assert!(
        host.ok(["run", "--rm", "--network", "none", "raft", "cat", "/theirs"]).starts_with("FROM busybox AS last")
    );
    daemon.stop();
}

#[test]
fn contexts_lie_elsewhere() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(all) = Repositories::new(host.dir().join("git")) else { return };
    let daemon = Daemon::start(&host);
    all.commit("boat", &[("Dockerfile", "FROM busybox\nCOPY a /said\n"), ("a", "a repository"), ("sub/a", "deep")]);
    let git = all.serve(|_| None);
    let tar = |text: &str| {
        let tar = Tar::new().file("Dockerfile", 0o644, "FROM busybox\nCOPY a /said\n").file("a", 0o644, text);
        tar.file("sub/other", 0o644, "FROM busybox\nRUN echo -n another > /said\n").end()
    };
    let packed = Packing::Gzip.pack(&tar("a tar"));
    let web = Front::alone(move |asked| match asked.line.as_str() {
        line if line.contains("/c.tgz") => Say::new(200, packed.clone()),
        line if line.contains("/file") => Say::new(200, "FROM busybox\nRUN echo -n a file > /said\n"),
        _ => Say::new(404, ""),
    });
    let remote = |url: &str, more: &str| {
        let url = url.replace('#', "%23");
        daemon.ask(&format!("POST /v1.41/build?remote={url}&t=made&networkmode=none{more}"))
    };
    let (repository, web) = (format!("http://{}/boat.git", git.address), format!("http://{}", web.address));
    for (url, more, said) in [
        (repository.clone(), "", "a repository"),
        (format!("{repository}#main"), "", "a repository"),
        (format!("{web}/c.tgz"), "", "a tar"),
        (format!("{web}/c.tgz"), "&dockerfile=sub/other", "another"),
        (format!("{web}/file"), "", "a file"),
        // The Dockerfile is what came: no other is looked for.
        (format!("{web}/file"), "&dockerfile=sub/other", "a file"),
    ] {
        let (head, body) = remote(&url, more);
        assert!(
            head.contains(" 200 ") && body.contains("Successfully tagged made:latest"),
            "{url}{more}: {head} {body}"
        );
        assert_eq!(host.ok(["run", "--rm", "--network", "none", "made", "cat", "/said"]), said, "{url}{more}");
    }
    for (url, more, words) in [
        (format!("{web}/none"), "", "404"),
        (format!("{web}/c.tgz"), "&dockerfile=none", "Cannot locate specified Dockerfile: none"),
        ("ftp://x/y".to_owned(), "", "could not be recognized as URL"),
        ("/etc".to_owned(), "", "could not be recognized as URL"),
    ] {
        let (head, body) = remote(&url, more);
        assert!(!head.contains(" 200 ") && body.contains(words), "{url}{more}: {head} {body}");
    }
}
