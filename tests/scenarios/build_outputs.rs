//! `dhow build`: where what is built goes, and what is told meanwhile.

use super::builds::{build, folder, id};
use crate::fixture::{Host, Login, Registry, eventually};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const SAILOR: Login = Login::SAILOR;

/// What lies in a directory, with what is in its files.
fn listed(dir: &std::path::Path) -> String {
    let line = "find . ! -name . | sort | while read f; do echo \"$f $(stat -c '%A %u' $f)$(test -L $f && readlink $f || \
                test ! -f $f || cat $f)\"; done";
    crate::fixture::tool("sh", ["-c", &format!("cd {} && {line}", dir.display())])
}

#[test]
fn what_is_built_goes_where_it_is_wanted() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox AS all\nRUN mkdir -p /d/e && echo 1 > /d/a && ln -s /etc/passwd /d/l && chown -R 7:7 /d && chmod 640 /d/a \
                && echo x > /gone\nRUN rm /gone && ln /d/a /d/twin\nFROM scratch\nCOPY --chown=7:7 --from=all /d /d\nCOPY Dockerfile /f\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let at = |name: &str| host.dir().join(name).to_str().expect("UTF-8").to_owned();
    let images = || host.ok(["images", "-aq"]);
    let before = images();
    // A folder: ours, with what was there, and nothing through links.
    fs::create_dir_all(host.dir().join("out/d")).expect("make a directory");
    fs::create_dir_all(host.dir().join("outside")).expect("make a directory");
    for (name, text) in [("out/kept", "kept"), ("out/d/a", "old"), ("outside/f", "theirs")] {
        host.file(name, text);
    }
    symlink("../outside/f", host.dir().join("out/f")).expect("make a link");
    symlink("../../outside", host.dir().join("out/d/e")).expect("make a link");
    build(&host, &dir, &["-o", &at("out"), "-t", "made"]).ok();
    let mine = listed(&host.dir().join("out"));
    for line in ["./d/a -rw-r----- 01", "./d/e drwxr-xr-x 0", "./d/twin -rw-r----- 01", "./kept -rw-r--r-- 0kept"] {
        assert!(mine.contains(line), "{line} is not in {mine}");
    }
    assert!(mine.contains("/etc/passwd") && mine.contains(&format!("./f -rw-r--r-- 0{text}")), "{mine}");
    assert_eq!(mine.lines().filter(|line| line.starts_with("./")).count(), 7, "{mine}");
    assert_eq!(fs::read_to_string(host.dir().join("outside/f")).expect("read"), "theirs");
    // Tars: of the files with their owners, on stdout and in a file; the same without --output's help.
    let tar = host.file(
        "stdout.tar",
        host.dhow(["build", "--network", "none", "-o", "-", dir.to_str().expect("UTF-8")]).run().out,
    );
    let names =
        |tar: &std::path::Path| crate::fixture::tool("tar", ["--numeric-owner", "-tvf", tar.to_str().expect("UTF-8")]);
    let told = names(&tar);
    assert!(told.contains("7/7") && told.contains("d/l -> /etc/passwd") && !told.contains("gone"), "{told}");
    let several = [format!("type=tar,dest={}", at("two.tar")), format!("type=oci,dest={},tar=false", at("oci"))];
    build(&host, &dir, &["-o", &several[0], "-o", &several[1], "-o", "type=cacheonly"]).ok();
    assert_eq!(fs::read(at("two.tar")).expect("read"), fs::read(&tar).expect("read"));
    // As programs make files: others may read it, what is there keeps its mode, and a link leads on.
    let mode = |name: &str| fs::symlink_metadata(at(name)).expect("look").permissions().mode();
    assert_eq!(mode("two.tar"), 0o100644);
    for name in ["kept.tar", "linked.tar"] {
        symlink(format!("behind-{name}"), at(name)).expect("make a link");
        if name == "kept.tar" {
            fs::set_permissions(host.file("behind-kept.tar", ""), PermissionsExt::from_mode(0o600)).expect("chmod");
        }
        build(&host, &dir, &["-o", &format!("type=tar,dest={}", at(name))]).ok();
        assert!(fs::read_link(at(name)).is_ok() && fs::read(at(name)).expect("read") == fs::read(&tar).expect("read"));
    }
    assert_eq!((mode("behind-kept.tar"), mode("behind-linked.tar")), (0o100600, 0o100644));
    // Of the time that is asked for everything is then, also by the environment.
    let line = ["build", "--network", "none", "-o", "-", dir.to_str().expect("UTF-8")];
    let dated = host.file("dated.tar", host.dhow(line).env("SOURCE_DATE_EPOCH", "1000000000").run().out);
    assert!(names(&dated).lines().all(|line| line.contains(" 2001-09-09 ")), "{}", names(&dated));
    let layout: serde_json::Value =
        serde_json::from_slice(&fs::read(at("oci/index.json")).expect("read")).expect("JSON");
    assert_eq!(layout["schemaVersion"], 2);
    assert_eq!(images(), before, "nothing of it is an image here");
    // An archive is what `save` would write, and one more of the outputs may be an image.
    let (archive, id_file) = (at("made.tar"), at("id"));
    let output = format!("type=docker,dest={archive},name=saved:1");
    build(&host, &dir, &["-o", &output, "--iidfile", &id_file]).ok();
    assert_eq!(images(), before);
    host.ok(["load", "-q", "-i", &archive]);
    assert_eq!(id(&host, "saved:1"), fs::read_to_string(&id_file).expect("read"));
    build(&host, &dir, &["-o", "type=image,name=other", "-o", &format!("type=oci,dest={archive}"), "-t", "made"]).ok();
    assert_eq!(id(&host, "other"), id(&host, "saved:1"));
    assert_eq!(host.ok(["images", "-q", "made"]), "");
    // What fails leaves nothing.
    let failing = folder(&host, "failing", &[("Dockerfile", "FROM busybox\nRUN false\n")]);
    for output in [at("none"), format!("type=tar,dest={}", at("none")), format!("type=docker,dest={}", at("none"))] {
        assert_eq!(build(&host, &failing, &["-o", &output]).code(), Some(1));
        assert!(!host.dir().join("none").exists(), "{output}");
    }
    fs::write(at("file"), "").expect("write");
    for (flags, words) in [
        (vec!["-o", "type=local"], "dest is required"),
        (vec!["-o", "type=x"], "type x is not supported"),
        (vec!["-o", "-", "-o", "type=oci"], "only one output can go to stdout"),
        (vec!["-o", "type=image,push=true"], "tag is needed when pushing to registry"),
        (vec!["--push"], "tag is needed when pushing to registry"),
        (vec!["-o", "-", "--iidfile", "x"], "--iidfile needs an image"),
    ] {
        let output = build(&host, &failing, &flags);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
    for (output, words) in [
        (format!("type=tar,dest={}", at("out")), "is a directory"),
        (at("file"), "destination directory must be a directory"),
        (format!("type=tar,dest={}", at("nowhere/x.tar")), "no such file or directory"),
    ] {
        let output = build(&host, &dir, &["-o", &output]);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
    let rest: Vec<_> = fs::read_dir(host.dir().join("out")).expect("list").flatten().map(|it| it.file_name()).collect();
    assert_eq!(rest.len(), 3, "{rest:?}");
    host.assert_tidy();
}

#[test]
fn progress_is_told_as_it_is_wanted() {
    let Some(host) = Host::with_busybox() else { return };
    let text =
        "FROM busybox AS one\nRUN echo to-stdout; echo to-stderr >&2\nFROM busybox\nCOPY --from=one /bin/sh /copy\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let path = dir.to_str().expect("UTF-8");
    let traced = |flags: &[&str]| -> (Vec<serde_json::Value>, String) {
        let output = build(&host, &dir, &[&["--progress", "rawjson"], flags].concat());
        let told = output.stderr();
        let lines = told.lines().filter(|line| line.starts_with('{'));
        (lines.map(|line| serde_json::from_str(line).expect("JSON")).collect(), told)
    };
    let (lines, told) = traced(&["-t", "made"]);
    assert_eq!(lines.len(), told.lines().count(), "{told}");
    let all = |field: &str| -> Vec<serde_json::Value> {
        lines.iter().filter_map(|line| line[field].as_array()).flatten().cloned().collect()
    };
    let vertexes = all("vertexes");
    let run = |vertex: &&serde_json::Value| {
        vertex["name"].as_str().is_some_and(|name| name.starts_with("[one 2/2] RUN echo"))
    };
    let last = vertexes.iter().rfind(run).expect("it is told");
    assert!(last["completed"].is_string() && last["started"].is_string() && last["error"].is_null(), "{last}");
    let logs: Vec<_> = all("logs").into_iter().filter(|log| log["vertex"] == last["digest"]).collect();
    for (stream, text) in [(1, "dG8tc3Rkb3V0Cg=="), (2, "dG8tc3RkZXJyCg==")] {
        assert!(logs.iter().any(|log| log["stream"] == stream && log["data"] == text), "{logs:?}");
    }
    assert!(all("statuses").iter().any(|status| status["id"] == "naming to made:latest"), "{told}");
    let (lines, told) = traced(&[]);
    let cached =
        lines.iter().filter_map(|line| line["vertexes"].as_array()).flatten().filter(|vertex| vertex["cached"] == true);
    assert_eq!(cached.count(), 2, "{told}");
    // What fails is told of its step.
    let bad = folder(&host, "bad", &[("Dockerfile", "FROM busybox\nCOPY nothere /\n")]);
    let output = build(&host, &bad, &["--progress", "rawjson"]);
    assert!(output.stderr().contains("\"error\":\"/nothere: not found"), "{output}");
    // Nothing, by the flag and by the variable, which is not asked where there is a flag.
    let quiet = build(&host, &dir, &["--progress", "quiet"]);
    assert_eq!((quiet.ok(), quiet.stderr()), (String::new(), String::new()));
    let by_variable = |mode: &str, flags: &[&str]| {
        let args = [&["build", "--network", "none"], flags, &[path]].concat();
        host.dhow(args).env("BUILDKIT_PROGRESS", mode).run()
    };
    assert_eq!(by_variable("quiet", &[]).stderr(), "");
    assert!(by_variable("rawjson", &[]).stderr().starts_with('{'));
    assert!(by_variable("rawjson", &["--progress", "plain"]).stderr().starts_with("#1 "));
    for (mode, words) in [("tty", "failed to get console"), ("loud", "invalid progress mode loud")] {
        let output = by_variable(mode, &[]);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
}

#[test]
fn a_terminal_shows_what_runs() {
    let Some(host) = Host::with_busybox() else { return };
    let wait = "RUN --mount=type=cache,id=sign,target=/s echo first; echo second; while [ ! -s /s/go ]; do sleep 0.05; done; exit $(cat /s/go)\n";
    let text = format!("FROM busybox\nENV a=b\n{wait}");
    let dir = folder(&host, "context", &[("Dockerfile", &text)]);
    let go = |code: &str| {
        let text = format!("FROM busybox\nRUN --mount=type=cache,id=sign,target=/s echo {code} > /s/go\n");
        build(&host, &folder(&host, "go", &[("Dockerfile", &text)]), &["--progress", "quiet"]).ok();
    };
    let show = || {
        let args = ["build", "--network", "none", dir.to_str().expect("UTF-8")];
        let mut terminal = crate::fixture::Terminal::start(host.dhow(args));
        terminal.expect("[+] Building ");
        terminal.expect(" => [2/3] ENV a=b");
        terminal.expect(" => [3/3] RUN");
        terminal.expect(" => => # first");
        terminal.expect(" => => # second");
        // Time goes on where nothing is told, and what a narrower one has wrapped is gone.
        terminal.resize(40, 24);
        terminal.expect("\x1b[J");
        terminal.expect(" => => # second");
        terminal
    };
    let terminal = show();
    go("7");
    let output = terminal.finish();
    assert_eq!(output.code(), Some(1), "{output}");
    let shown = output.stdout();
    assert!(shown.contains(" => ERROR [3/3] RUN") && shown.contains("------\r\n > [3/3] RUN"), "{shown:?}");
    assert!(shown.contains("returned a non-zero code: 7") && !shown.contains("FINISHED"), "{shown:?}");
    let prune = ["builder", "prune", "--all", "--force"];
    host.ok(prune);
    let terminal = show();
    go("0");
    let output = terminal.finish();
    assert!(output.stdout().contains("(4/4) FINISHED"), "{output}");
    assert!(output.stdout().ends_with("\x1b[?25h"), "{output}");
}

/// The folder is being written when the build is called off.
#[test]
fn a_folder_that_is_not_whole_is_cleared_away() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox AS many\nRUN mkdir /m && cd /m && for d in $(seq 60); do mkdir $d && cd $d && \
                for f in $(seq 200); do echo $f > $f; done; cd ..; done\nFROM scratch\nCOPY --from=many /m /\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let dir = dir.to_str().expect("UTF-8");
    host.ok(["build", "-q", "--network", "none", dir]);
    let out = host.dir().join("out");
    std::fs::create_dir(&out).expect("make a folder");
    std::fs::write(out.join("kept"), "").expect("write");
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&out).expect("list").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect()
    };
    // A build that is over before this has had its turn is done once more.
    let output = loop {
        let mut running = host.dhow(["build", "--network", "none", "-o", out.to_str().expect("UTF-8"), dir]).spawn();
        eventually("something is written", || {
            names().iter().any(|name| name.starts_with(".output.")) || running.has_ended()
        });
        running.signal(Signal::SIGINT);
        let output = running.wait();
        if output.code() != Some(0) {
            break output;
        }
        for number in (1..=60).map(|number| number.to_string()) {
            std::fs::remove_dir_all(out.join(number)).expect("remove what was built");
        }
    };
    assert_eq!(output.code(), Some(130), "{output}");
    assert_eq!(names(), ["kept"]);
    eventually("the build has ended", || fs::read_dir(host.root().join("tmp")).expect("list").count() == 0);
    host.ok(["builder", "prune", "--all", "--force"]);
}

#[test]
fn what_is_built_is_pushed() {
    let (Some(host), Some(other)) = (Host::with_busybox(), Host::new()) else { return };
    let (Some(registry), Some(guarded)) = (Registry::start(false, None), Registry::start(false, Some(SAILOR))) else {
        return;
    };
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nCOPY Dockerfile /one\nRUN echo two > /two\n")]);
    let at = |name: &str| host.dir().join(name).to_str().expect("UTF-8").to_owned();
    let names = ["a/one:v1", "b/two", "c/three:v3"].map(|name| registry.name(name));
    let pulled = |name: &str| {
        other.ok(["pull", "-q", name]);
        (id(&other, name), other.ok(["run", "--rm", "--network", "none", name, "cat", "/two"]))
    };
    let digest = |host: &Host, name: &str| {
        let digests = host.inspect(name, "/RepoDigests");
        let repository = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
        let of = |it: &&serde_json::Value| it.as_str().is_some_and(|it| it.starts_with(&format!("{repository}@")));
        let found = digests.as_array().expect("a list").iter().find(of).and_then(|it| it.as_str()).expect("a digest");
        found.split_once('@').expect("a digest").1.to_owned()
    };
    let metadata =
        || -> serde_json::Value { serde_json::from_slice(&fs::read(at("metadata")).expect("read")).expect("JSON") };
    // Every name of it, and it stays here.
    let flags =
        ["--push", "-t", &names[0], "-t", &names[1], "--metadata-file", &at("metadata"), "--iidfile", &at("id")];
    let output = build(&host, &dir, &flags);
    output.ok();
    let told = output.stderr();
    for words in
        [&format!("pushing {}", names[0])[..], &format!("pushing {}:latest", names[1]), ": Pushed", "v1: digest: "]
    {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    assert!(told.contains(": Mounted from") || told.matches(": Pushed").count() > 3, "{told}");
    for name in &names[..2] {
        assert_eq!(pulled(name), (id(&host, name), "two".to_owned()));
        assert_eq!(digest(&other, name), digest(&host, name));
    }
    let told = metadata();
    assert_eq!(told["containerimage.digest"], digest(&host, &names[1]));
    assert_eq!(told["containerimage.config.digest"], id(&host, &names[0]));
    assert_eq!(fs::read_to_string(at("id")).expect("read"), id(&host, &names[0]));
    assert_eq!(told["image.name"], format!("{},{}:latest", names[0], names[1]));
    // By --output, under a name of its own and in zstd; beside another output.
    let output = format!("type=registry,name={},compression=zstd", names[2]);
    let flags = ["-q", "-o", &output, "-o", &format!("type=tar,dest={}", at("files.tar")), "-t", "unused"];
    let quiet = build(&host, &dir, &flags);
    quiet.ok();
    assert_eq!((quiet.stderr().as_str(), quiet.stdout().trim()), ("", &id(&host, &names[2])[..]));
    assert_eq!(pulled(&names[2]), (id(&host, &names[2]), "two".to_owned()));
    assert_ne!(digest(&host, &names[2]), digest(&host, &names[1]), "gzip and zstd");
    assert!(
        fs::metadata(at("files.tar")).expect("a tar").len() > 1000 && host.ok(["images", "-q", "unused"]).is_empty()
    );
    let named = registry.name("d/four");
    let told = build(&host, &dir, &["-o", "type=image,push=true", "-t", &named, "--progress", "rawjson"]);
    told.ok();
    let told = told.stderr();
    let lines = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let vertexes: Vec<_> = lines.flat_map(|line| line["vertexes"].as_array().cloned().unwrap_or_default()).collect();
    let pushing = vertexes.iter().rfind(|it| it["name"] == format!("pushing {named}:latest")).expect("it is told");
    assert!(pushing["completed"].is_string() && pushing["error"].is_null(), "{pushing}");
    assert_eq!(pulled(&named).0, id(&host, &named));
    // What cannot be pushed was built all the same, and nothing says that it is there.
    fs::remove_file(at("metadata")).expect("remove");
    let secret = guarded.name("e/five");
    let flags = ["-t", &secret, "--push", "--metadata-file", &at("metadata")];
    for progress in ["plain", "rawjson", "quiet"] {
        let refused = build(&host, &dir, &[&flags[..], &["--progress", progress]].concat());
        let words = refused.stderr();
        assert!(refused.code() == Some(1) && words.contains("no basic auth credentials"), "{refused}");
        assert!(!host.dir().join("metadata").exists());
    }
    assert_eq!(id(&host, &secret), id(&host, &named));
    host.dhow(["login", "-u", SAILOR.user, "--password-stdin", &guarded.host()]).input(SAILOR.password).ok();
    build(&host, &dir, &flags).ok();
    assert_eq!(metadata()["containerimage.digest"], digest(&host, &secret));
    // One that is called off ends, also where the registry says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    silent.set_nonblocking(true).expect("do not wait");
    let name = format!("{}/g/seven", silent.local_addr().expect("an address"));
    let args = ["build", "--network", "none", "--push", "-t", &name, dir.to_str().expect("UTF-8")];
    let running = host.dhow(args).spawn();
    let mut held = None;
    eventually("the registry is asked", || {
        held = silent.accept().ok();
        held.is_some()
    });
    running.signal(Signal::SIGINT);
    let output = running.wait();
    assert_eq!(output.code(), Some(130), "{output}");
    drop(held);
    // A build that fails pushes nothing.
    let failing = folder(&host, "failing", &[("Dockerfile", "FROM busybox\nRUN false\n")]);
    let name = registry.name("f/six");
    assert_eq!(build(&host, &failing, &["--push", "-t", &name]).code(), Some(1));
    assert_ne!(other.run(["pull", "-q", &name]).code(), Some(0));
    host.assert_tidy();
}
