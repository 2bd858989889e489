//! `dhow build`: Dockerfiles to images, the cache, and contexts that mean harm.

use crate::fixture::{Host, Output, Tar, eventually};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

/// A folder with these files.
pub fn folder(host: &Host, name: &str, files: &[(&str, &str)]) -> PathBuf {
    for (file, text) in files {
        host.file(&format!("{name}/{file}"), text);
    }
    host.dir().join(name)
}

/// `dhow build` of a folder, whatever comes of it.
pub fn build(host: &Host, dir: &std::path::Path, flags: &[&str]) -> Output {
    let fixed = ["build", "--network", "none"];
    let dir = dir.to_str().expect("UTF-8");
    host.run(fixed.iter().chain(flags).chain(&[dir]).copied())
}

/// The same of one Dockerfile; gives what it told.
pub fn made(host: &Host, files: &[(&str, &str)], flags: &[&str]) -> String {
    let dir = folder(host, "context", files);
    let flags: Vec<&str> = ["-t", "made"].iter().chain(flags).copied().collect();
    let output = build(host, &dir, &flags);
    output.ok();
    output.stderr()
}

pub fn id(host: &Host, name: &str) -> String {
    host.ok(["inspect", "--format", "{{.Id}}", name])
}

/// What this line says in a container of the image.
pub fn says(host: &Host, line: &str) -> String {
    host.ok(["run", "--rm", "--network", "none", "made", "sh", "-c", line])
}

#[test]
fn a_dockerfile_becomes_an_image() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "# a comment\nFROM busybox AS base\nARG greeting=hello\nENV NAME=\"the world\" OTHER=$greeting\n\
                WORKDIR /app\nCOPY file.txt sub/ ./\nRUN echo \"$greeting, $NAME\" > said \\\n # inside\n && id -u > who\n\
                RUN true\nLABEL kind=test\nEXPOSE 80\nUSER user\nCMD [\"cat\", \"/app/said\"]\n";
    let files = [("Dockerfile", text), ("file.txt", "content"), ("sub/inner", "deep")];
    let told = made(&host, &files, &["-t", "other:v1", "--label", "more=1"]);
    assert!(told.contains("#5 [base 5/11] WORKDIR /app") || told.contains("WORKDIR /app"), "{told}");
    assert_eq!(host.ok(["run", "--rm", "--network", "none", "made"]), "hello, the world");
    assert_eq!(says(&host, "cat /app/file.txt /app/inner /app/who; id -u; pwd"), "contentdeep0\n1000\n/app");
    let config = host.inspect("made", "/Config");
    assert_eq!(config["Labels"], serde_json::json!({"kind": "test", "more": "1"}));
    assert_eq!((config["User"].as_str(), config["WorkingDir"].as_str()), (Some("user"), Some("/app")));
    let env: Vec<&str> = config["Env"].as_array().expect("a list").iter().filter_map(|it| it.as_str()).collect();
    assert!(env.contains(&"NAME=the world") && env.contains(&"OTHER=hello"), "{env:?}");
    assert!(!env.iter().any(|it| it.starts_with("greeting")), "{env:?}");
    assert_eq!(id(&host, "made"), id(&host, "other:v1"));
    let history = host.ok(["history", "--no-trunc", "made"]);
    assert!(history.contains("RUN |1 greeting=hello /bin/sh -c echo"), "{history}");
    // The base, WORKDIR, COPY and the first RUN.
    assert_eq!(host.inspect("made", "/RootFS/Layers").as_array().map(Vec::len), Some(4));
    assert_eq!(host.ok(["ps", "-aq"]), "");
    host.assert_tidy();
}

#[test]
fn what_did_not_change_is_not_made_again() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /one\nCOPY a /a\nRUN cat /a > /two\nCOPY b /b\n";
    let files = [("Dockerfile", text), ("a", "a"), ("b", "b")];
    let first = made(&host, &files, &[]);
    assert!(!first.contains("CACHED"), "{first}");
    let (one, image) = (says(&host, "cat /one"), id(&host, "made"));
    let second = made(&host, &files, &[]);
    assert_eq!(second.matches("CACHED").count(), 4, "{second}");
    assert_eq!(id(&host, "made"), image);
    // Times and names of the folder say nothing.
    let later = fs::File::options().append(true).open(host.dir().join("context/a")).expect("open");
    later.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000)).expect("set a time");
    fs::rename(host.dir().join("context"), host.dir().join("elsewhere")).expect("rename");
    let third = build(&host, &host.dir().join("elsewhere"), &["-t", "made"]);
    assert_eq!(third.stderr().matches("CACHED").count(), 4, "{third}");
    assert_eq!(id(&host, "made"), image);
    // One file changes what is made of it, and nothing before.
    let fourth = made(&host, &[("Dockerfile", text), ("a", "a"), ("b", "bb")], &[]);
    assert_eq!(fourth.matches("CACHED").count(), 3, "{fourth}");
    assert_eq!(says(&host, "cat /one /two /b"), format!("{one}\nabb"));
    let mode = PermissionsExt::from_mode(0o755);
    fs::set_permissions(host.dir().join("context/a"), mode).expect("chmod");
    let fifth = made(&host, &[("Dockerfile", text), ("b", "bb")], &[]);
    assert_eq!(fifth.matches("CACHED").count(), 1, "a mode counts: {fifth}");
    let sixth = made(&host, &files, &["--no-cache"]);
    assert!(!sixth.contains("CACHED"), "{sixth}");
    assert_ne!(says(&host, "cat /one"), one);
}

#[test]
fn only_what_the_target_needs_is_built() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox AS broken\nRUN false\nFROM busybox AS parts\nRUN mkdir /out && echo 1 > /out/a && ln -s a /out/b\n\
                FROM scratch AS tiny\nCOPY --from=parts /out/ /\nCOPY --from=1 /bin/busybox /sbin/\n\
                FROM parts\nCOPY --from=tiny /a /c\nRUN test -e /out/a\n";
    let told = made(&host, &[("Dockerfile", text)], &[]);
    assert!(!told.contains("broken"), "{told}");
    assert_eq!(says(&host, "cat /c; readlink /out/b"), "1\na");
    made(&host, &[("Dockerfile", text)], &["--target", "tiny"]);
    let container = host.ok(["create", "--network", "none", "made", "x"]);
    let listed = host.dhow(["export", &container]).run();
    let tar = host.file("tiny.tar", &listed.out);
    let names = crate::fixture::tool("tar", ["-tf", tar.to_str().expect("UTF-8")]);
    for name in ["a", "b", "sbin/busybox"] {
        assert!(names.lines().any(|line| line == name), "{name} is not in {names}");
    }
    assert!(!names.contains("out"), "{names}");
    host.ok(["rm", &container]);
    let output = build(&host, &host.dir().join("context"), &["--target", "tinny"]);
    assert!(output.stderr().contains("target stage \"tinny\" could not be found (did you mean tiny?)"), "{output}");
    let output = build(&host, &host.dir().join("context"), &["--target", "broken"]);
    assert_eq!(output.code(), Some(1), "{output}");
}

#[test]
fn a_step_that_fails_says_why_and_leaves_nothing() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nRUN true > /kept\nRUN echo one; echo two >&2; exit 3\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let output = build(&host, &dir, &["-t", "made"]);
    assert_eq!(output.code(), Some(1), "{output}");
    let told = output.stderr();
    assert!(
        told.contains("The command '/bin/sh -c echo one; echo two >&2; exit 3' returned a non-zero code: 3"),
        "{told}"
    );
    assert!(told.contains(" > one") && told.contains(" > two"), "{told}");
    assert_eq!((host.ok(["ps", "-aq"]), host.ok(["images", "-q", "made"])), (String::new(), String::new()));
    host.assert_tidy();
    // What went well before is there.
    assert!(build(&host, &dir, &[]).stderr().contains("CACHED"));
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nRUN [\"nothere\"]\n")]);
    let output = build(&host, &dir, &[]);
    assert!(output.stderr().contains("executable file not found in $PATH"), "{output}");
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

#[test]
fn errors_name_line_and_column() {
    let Some(host) = Host::with_busybox() else { return };
    for (text, expected) in [
        (
            "FROM busybox\n  RUM true",
            "dockerfile parse error on line 2: unknown instruction: RUM (did you mean RUN?)\nDockerfile:2:3:   RUM true",
        ),
        ("FROM busybox\n\nCOPY nope /x", "/nope: not found in the build context\nDockerfile:3:1: COPY nope /x"),
        ("FROM busybox\nENV a=${b", "syntax error: missing '}'\nDockerfile:2:5: ENV a=${b"),
        ("FROM busybox\nCOPY --from=nope/image a b", "Dockerfile:2:1: COPY --from=nope/image a b"),
        (
            "FROM busybox AS a\nCOPY --from=a x y",
            "stage \"a\" needs to be defined before the stage that takes from it\nDockerfile:2:1: COPY --from=a x y",
        ),
        ("FROM ${x}", "base name (${x}) should not be blank\nDockerfile:1:6: FROM ${x}"),
        ("FROM busybox\nCOPY Dockerfile Dockerfile /x", "destination must be a directory and end with a /"),
        ("FROM busybox\nCOPY --chown=nobody9 Dockerfile /x", "unable to find user nobody9"),
        ("FROM busybox\nCOPY Dockerfile /etc", ""),
        ("FROM busybox\nCOPY Dockerfile /etc/passwd/x", "cannot copy to non-directory"),
    ] {
        let dir = folder(&host, "context", &[("Dockerfile", text)]);
        let output = build(&host, &dir, &["--progress", "plain"]);
        if expected.is_empty() {
            output.ok();
            continue;
        }
        assert_eq!(output.code(), Some(1), "{output}");
        assert!(output.stderr().contains(expected), "{text}: {output}");
        host.assert_tidy();
    }
}

#[test]
fn arguments_have_their_scopes() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "ARG base=busybox\nARG global=g\nFROM $base AS one\nARG global\nARG given\nARG own=o-$global\n\
                ENV env=e\nARG env=x\nRUN echo \"$global|$given|$own|$env|$HTTP_PROXY|$TARGETARCH\" > /said\n\
                FROM one\nARG TARGETPLATFORM\nRUN echo \"$own|$given|$TARGETPLATFORM\" >> /said\n";
    let flags =
        ["--build-arg", "given=1 2", "--build-arg", "HTTP_PROXY=http://p", "--build-arg", "base=busybox:latest"];
    made(&host, &[("Dockerfile", text)], &flags);
    let said = says(&host, "cat /said");
    let (first, second) = said.split_once('\n').expect("two lines");
    assert_eq!(first, "g|1 2|o-g|x|http://p|");
    assert!(second.starts_with("||linux/"), "{second}");
    let history = host.ok(["history", "--no-trunc", "made"]);
    assert!(!history.contains("http://p"), "{history}");
    let again = made(&host, &[("Dockerfile", text)], &["--build-arg", "given=1 2", "--build-arg", "HTTP_PROXY=other"]);
    assert_eq!(again.matches("CACHED").count(), 2, "a proxy is no reason: {again}");
    let again = made(&host, &[("Dockerfile", text)], &["--build-arg", "given=3"]);
    assert_eq!(again.matches("CACHED").count(), 0, "{again}");
}

#[test]
fn what_is_copied_and_how() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nWORKDIR /w\n\
                COPY --chown=user:extra --chmod=640 a.txt /owned/\n\
                COPY --chmod=u+x,go= a.txt x\n\
                COPY *.txt all/\n\
                COPY --exclude=*.o --exclude=deep sub /sub\n\
                COPY --parents sub/deep/./er/*.txt sub/./deep/*.o /par/\n\
                COPY [\"with space\", \"/with space\"]\n\
                COPY --link a.txt /linked/\n\
                COPY <<one <<\"two\" /docs/\nfirst $PATH\none\nsecond $PATH\ntwo\n\
                RUN ln -s /tmp /way\nCOPY a.txt /way/\nCOPY sub/deep /way/\n";
    let files = [
        ("Dockerfile", text),
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("sub/x.o", ""),
        ("sub/y.c", "y"),
        ("sub/deep/z.o", "z"),
        ("sub/deep/er/q.txt", "q"),
        ("with space", "ws"),
    ];
    made(&host, &files, &[]);
    let line = "stat -c '%a %u:%g' /owned/a.txt /owned /w/x; ls /w/all /sub; find /par -type f; cat '/with space' /linked/a.txt; \
                head -c 6 /docs/one; cat /docs/two; cat /tmp/a.txt /tmp/er/q.txt; test -L /way && echo; readlink /way";
    let expected = "640 1000:2000\n755 1000:2000\n700 0:0\n/sub:\ny.c\n\n/w/all:\na.txt\nb.txt\n/par/deep/z.o\n/par/er/q.txt\n\
                    wsafirst second $PATH\naq\n/tmp";
    let said = says(&host, line);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&said), sorted(expected), "{said}");
}

#[test]
fn stages_are_built_side_by_side() {
    let Some(host) = Host::with_busybox() else { return };
    // Each waits for a sign of the other.
    let wait = |mine: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,id=signs,target=/signs touch /signs/{mine}; n=0; \
             while [ ! -e /signs/{other} ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done; echo {mine} > /{mine}\n"
        )
    };
    let text = format!(
        "FROM busybox AS left\n{}FROM busybox AS right\n{}FROM busybox\nCOPY --from=left /one /\nCOPY --from=right /two /\n",
        wait("one", "two"),
        wait("two", "one")
    );
    let told = made(&host, &[("Dockerfile", &text)], &[]);
    assert!(told.contains("[left 2/2] RUN") && told.contains("[right 2/2] RUN"), "{told}");
    assert_eq!(says(&host, "cat /one /two"), "one\ntwo");
    // One that fails stops the others, and is the one that is told of.
    let text = "FROM busybox AS left\nRUN --mount=type=cache,id=signs,target=/signs touch /signs/three; sleep 1000\n\
                FROM busybox AS right\nRUN --mount=type=cache,id=signs,target=/signs \
                n=0; while [ ! -e /signs/three ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done; exit 7\n\
                FROM busybox\nCOPY --from=left /one /\nCOPY --from=right /two /\n";
    let output = build(&host, &folder(&host, "context", &[("Dockerfile", text)]), &[]);
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr().contains("returned a non-zero code: 7"), "{output}");
    assert!(output.stderr().contains("CANCELED"), "{output}");
    assert_eq!(host.ok(["ps", "-aq"]), "");
    host.assert_tidy();
}

#[test]
fn many_files_are_copied_as_they_are() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nCOPY base /d\nCOPY many /many\nCOPY one two /d/\n\
                COPY one/real/* two/real/* /last/\n";
    let dir = folder(
        &host,
        "context",
        &[
            ("Dockerfile", text),
            ("one/link/f", "1"),
            ("two/real/f", "2"),
            ("one/real/f", "1"),
            ("two/real/g", "3"),
            ("base/real/h", "4"),
        ],
    );
    symlink("real", dir.join("base/link")).expect("make a link");
    for n in 0..150 {
        let inner = dir.join(format!("many/{n}"));
        fs::create_dir_all(&inner).expect("make a directory");
        for m in 0..30 {
            fs::write(inner.join(m.to_string()), format!("{n} {m}")).expect("write");
        }
        symlink("0", inner.join("link")).expect("make a link");
        fs::hard_link(inner.join("1"), inner.join("twin")).expect("make a link");
    }
    fs::write(dir.join("many/large"), vec![b'x'; 300_000]).expect("write");
    made(&host, &[], &[]);
    // What is named last is what is there, also where two names lead to one place.
    assert_eq!(says(&host, "cat /d/real/f /d/real/g /last/f /last/g; ls /d"), "2323link\nreal");
    let listed = "cd many && find . ! -type d | sort | while read f; do echo $f; cat $f; done | sha256sum; find . | wc -l; \
                  find . -links 2 -type f | wc -l; find . -type l | wc -l";
    let inside = says(&host, &listed.replace("cd many", "cd /many"));
    let outside = crate::fixture::tool("sh", ["-c", &format!("cd {} && {listed}", dir.display())]);
    assert_eq!(inside.trim(), outside.trim());
    // Read once or twice, it is the same; and what was read on the way is known.
    let first = id(&host, "made");
    let again = made(&host, &[], &["--no-cache"]);
    assert!(!again.contains("CACHED"), "{again}");
    assert_eq!(id(&host, "made"), first);
    let third = made(&host, &[], &[]);
    assert_eq!(third.matches("CACHED").count(), 4, "{third}");
    assert_eq!(id(&host, "made"), first);
    fs::write(dir.join("many/7/7"), "another").expect("write");
    let fourth = made(&host, &[], &[]);
    assert_eq!(fourth.matches("CACHED").count(), 1, "{fourth}");
    assert_eq!(says(&host, "cat /many/7/7"), "another");
    host.assert_tidy();
}

#[test]
fn what_is_ignored_is_not_there() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nCOPY . /c\n";
    let files = [
        ("Dockerfile", text),
        (".dockerignore", "# all but\n*\n!keep\nkeep/*.o\n"),
        ("secret", "s"),
        ("keep/a", "a"),
        ("keep/b.o", "b"),
        ("other/c", "c"),
    ];
    made(&host, &files, &[]);
    assert_eq!(says(&host, "cd /c; find . | sort"), ".\n./keep\n./keep/a");
    host.file("context/Other", text);
    host.file("context/Other.dockerignore", "keep\n*file\n.dockerignore\nOther*\n");
    let file = host.dir().join("context/Other");
    made(&host, &files, &["-f", file.to_str().expect("UTF-8")]);
    assert_eq!(says(&host, "cd /c; find . -type f | sort"), "./other/c\n./secret");
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nCOPY secret /\n")]);
    let output = build(&host, &dir, &[]);
    assert!(output.stderr().contains("/secret: not found in the build context"), "{output}");
}

#[test]
fn contexts_come_from_standard_input() {
    let Some(host) = Host::with_busybox() else { return };
    let fixed = ["build", "--network", "none", "-t", "made"];
    let with = |more: &[&str]| fixed.iter().chain(more).map(|word| word.to_string()).collect::<Vec<_>>();
    host.dhow(with(&["-"])).input("FROM busybox\nRUN echo alone > /said\n").ok();
    assert_eq!(says(&host, "cat /said"), "alone");
    let tar = Tar::new().file("d/Dockerfile", 0o644, "FROM busybox\nCOPY x /x\n").file("x", 0o640, "packed").end();
    for packing in [crate::fixture::Packing::Plain, crate::fixture::Packing::Gzip, crate::fixture::Packing::Zstd] {
        host.dhow(with(&["-f", "d/Dockerfile", "-"])).input(packing.pack(&tar)).ok();
        assert_eq!(says(&host, "cat /x; stat -c %a /x"), "packed640");
    }
    for program in ["bzip2", "xz"] {
        let packed = crate::fixture::Command::new(program, ["-c"]).input(tar.clone()).run().out;
        host.dhow(with(&["--no-cache", "-f", "d/Dockerfile", "-"])).input(packed).ok();
        assert_eq!(says(&host, "cat /x; stat -c %a /x"), "packed640");
    }
    let dir = folder(&host, "context", &[("y", "why")]);
    host.dhow(with(&["-f", "-", dir.to_str().expect("UTF-8")])).input("FROM busybox\nCOPY y /y\n").ok();
    assert_eq!(says(&host, "cat /y"), "why");
    let output = host.dhow(with(&["-"])).input(Tar::new().file("x", 0o644, "").end()).run();
    assert!(output.stderr().contains("Cannot locate specified Dockerfile: Dockerfile"), "{output}");
}

#[test]
fn a_hostile_context_leads_nowhere() {
    let Some(host) = Host::with_busybox() else { return };
    let outside = host.file("outside/secret", "theirs");
    for source in ["link", "dir/secret", "../outside/secret", "dir", "abs"] {
        let text = format!("FROM busybox\nCOPY {source} /stolen\n");
        let dir = folder(&host, "context", &[("Dockerfile", &text)]);
        for (name, target) in
            [("link", "../outside/secret"), ("dir", "../outside"), ("abs", outside.to_str().expect("UTF-8"))]
        {
            let _ = symlink(target, dir.join(name));
        }
        let output = build(&host, &dir, &["-t", "made"]);
        assert!(output.stderr().contains("not found in the build context"), "{source}: {output}");
    }
    // A link that is copied stays a link; nothing is written through one.
    let text = "FROM busybox\nRUN ln -s /etc /in && ln -s /nowhere/x /out\nCOPY Dockerfile /in/d\nCOPY Dockerfile /out\nCOPY . /all/\n";
    made(&host, &[("Dockerfile", text)], &[]);
    assert_eq!(
        says(&host, "ls /etc/d; readlink /all/link; readlink /out || test -f /out && echo file"),
        "/etc/d\n../outside/secret\nfile"
    );
    let up = Tar::new().file("Dockerfile", 0o644, "FROM busybox\n").file("../../escaped", 0o644, "x").end();
    let way = Tar::new()
        .file("Dockerfile", 0o644, "FROM busybox\n")
        .symlink("way", host.dir().join("outside").to_str().expect("UTF-8"))
        .file("way/planted", 0o644, "x")
        .end();
    for tar in [up, way] {
        let output = host.dhow(["build", "-"]).input(tar).run();
        assert_eq!(output.code(), Some(1), "{output}");
    }
    let beside: Vec<_> = fs::read_dir(host.dir().join("outside")).expect("list").flatten().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    host.assert_tidy();
}

#[test]
fn add_unpacks_and_downloads() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = Tar::new().owner(7, 8).dir("d", 0o750).file("d/f", 0o600, "inside").symlink("l", "d/f").end();
    let dir = folder(&host, "context", &[("plain.gz", "no archive")]);
    for (name, packing) in [("a.tar", crate::fixture::Packing::Plain), ("a.tgz", crate::fixture::Packing::Gzip)] {
        fs::write(dir.join(name), packing.pack(&tar)).expect("write");
    }
    for program in ["bzip2", "xz"] {
        let packed = crate::fixture::Command::new(program, ["-c"]).input(tar.clone()).run().out;
        fs::write(dir.join(format!("a.tar.{program}")), packed).expect("write");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}/p/file.txt?x=1", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nfetched");
        }
    });
    let text = format!(
        "FROM busybox\nADD a.tar /one/\nADD --chown=1000:1000 a.tgz /two\nADD --unpack=false a.tar /three/\n\
         ADD plain.gz /\nADD {url} /four/\nCOPY a.tar /five/\nADD a.tar.bzip2 /six\nADD a.tar.xz /seven\n"
    );
    made(&host, &[("Dockerfile", &text)], &[]);
    let line = "stat -c '%u:%g %a' /one/d/f /two/d/f /four/file.txt /six/d/f /seven/d/f; cat /one/l /four/file.txt /plain.gz; ls /three /five";
    assert_eq!(
        says(&host, line),
        "7:8 600\n1000:1000 600\n0:0 600\n7:8 600\n7:8 600\ninsidefetchedno archive/five:\na.tar\n\n/three:\na.tar"
    );
    let sum = crate::fixture::digest(b"fetched");
    let text = format!("FROM busybox\nADD --checksum={sum} {url} /\n");
    made(&host, &[("Dockerfile", &text)], &[]);
    let wrong = crate::fixture::digest(b"other");
    let dir = folder(&host, "context", &[("Dockerfile", &format!("FROM busybox\nADD --checksum={wrong} {url} /\n"))]);
    let output = build(&host, &dir, &[]);
    assert!(output.stderr().contains("digest mismatch"), "{output}");
}

#[test]
fn a_base_says_what_comes_first() {
    let Some(host) = Host::with_busybox() else { return };
    made(
        &host,
        &[("Dockerfile", "FROM busybox\nONBUILD COPY x /x\nONBUILD RUN cat /x > /y\nONBUILD ENV later=1\n")],
        &[],
    );
    assert_eq!(host.inspect("made", "/Config/OnBuild").as_array().map(Vec::len), Some(3));
    host.ok(["tag", "made", "base"]);
    let told = made(&host, &[("Dockerfile", "FROM base\nRUN echo $later >> /y\n"), ("x", "from the context\n")], &[]);
    assert!(told.contains("ONBUILD RUN cat /x > /y"), "{told}");
    assert_eq!(says(&host, "cat /y"), "from the context\n1");
    assert!(host.inspect("made", "/Config").get("OnBuild").is_none_or(serde_json::Value::is_null));
}

#[test]
fn the_same_is_made_of_the_same() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nWORKDIR /app/deep\nCOPY . .\nCOPY <<doc /doc\ntext\ndoc\nCOPY --from=busybox /bin/busybox /new/\nENV a=b\n";
    let ids: Vec<String> = [(0, 1_600_000_000), (1000, 1_700_000_000)]
        .into_iter()
        .map(|(uid, seconds)| {
            let name = format!("context{uid}");
            let dir = folder(&host, &name, &[("Dockerfile", text), ("z", "z"), ("a/b", "b"), ("a/c", "c")]);
            for file in ["z", "a/b", "a/c", "a", "Dockerfile", ""] {
                let path = dir.join(file);
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("chown");
                let open = fs::File::open(&path).expect("open");
                open.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).expect("set a time");
            }
            let epoch = ["--no-cache", "-t", "made", "--build-arg", "SOURCE_DATE_EPOCH=1500000000"];
            build(&host, &dir, &epoch).ok();
            id(&host, "made")
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert!(host.inspect("made", "/Created").as_str().is_some_and(|it| it.starts_with("2017-07-14T02:40:00")));
    // Without a date, the files' own times are kept, and nothing else of the day or the place is in it.
    let ids: Vec<String> = ["context0", "elsewhere"]
        .into_iter()
        .map(|name| {
            if name == "elsewhere" {
                crate::fixture::tool(
                    "cp",
                    ["-a", host.dir().join("context0").to_str().unwrap(), host.dir().join(name).to_str().unwrap()],
                );
                std::thread::sleep(std::time::Duration::from_millis(1100));
            }
            build(&host, &host.dir().join(name), &["--no-cache", "-t", "made"]).ok();
            id(&host, "made")
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(says(&host, "stat -c %Y /app/deep/z"), "1600000000");
}

#[test]
fn a_build_that_is_called_off_ends_at_once() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nRUN echo begun; sleep 1000\n")]);
    let running = host.dhow(["build", "--network", "none", dir.to_str().expect("UTF-8")]).spawn();
    eventually("the command runs", || !host.ok(["ps", "-q"]).is_empty());
    // Put aside and taken up again, it goes on.
    running.signal(Signal::SIGSTOP);
    running.signal(Signal::SIGCONT);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!host.ok(["ps", "-q"]).is_empty());
    running.signal(Signal::SIGINT);
    let output = running.wait();
    assert_eq!(output.code(), Some(130), "{output}");
    eventually("nothing of it is left", || host.ok(["ps", "-aq"]).is_empty());
    eventually("the lease is over", || {
        let tmp = fs::read_dir(host.root().join("tmp")).expect("list");
        tmp.count() == 0
    });
}

#[test]
fn the_cache_is_counted_and_pruned() {
    let Some(host) = Host::with_busybox() else { return };
    made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 100000 /dev/zero > /big\n")], &[]);
    made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 200000 /dev/zero > /other\n")], &[]);
    // The first image has lost its name; its layer is held by it, by the cache, or by both.
    host.ok(["image", "prune", "--force"]);
    let line =
        host.ok(["system", "df"]).lines().find(|line| line.starts_with("Build Cache")).expect("a line").to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[2..], ["2", "0", "100kB", "100kB"], "{line}");
    let text = host.ok(["builder", "prune", "--force"]);
    assert!(text.contains("Total reclaimed space: 100kB"), "{text}");
    let told = made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 200000 /dev/zero > /other\n")], &[]);
    assert!(told.contains("CACHED"), "what an image has is known: {told}");
    host.ok(["builder", "prune", "--all", "--force"]);
    let told = made(&host, &[("Dockerfile", "FROM busybox\nRUN head -c 200000 /dev/zero > /other\n")], &[]);
    assert!(!told.contains("CACHED"), "{told}");
    host.ok(["rmi", "--force", "made"]);
    host.ok(["builder", "prune", "--all", "--force"]);
    host.ok(["image", "prune", "--force"]);
    assert_eq!(fs::read_dir(host.root().join("layers")).expect("list").count(), 1, "busybox's alone");
}

#[test]
fn the_cache_is_kept_at_its_size() {
    let Some(host) = Host::with_busybox() else { return };
    let config = host.file("daemon.json", r#"{"builder": {"gc": {"defaultKeepStorage": "150000"}}}"#);
    let config = config.to_str().expect("UTF-8");
    let of = |name: &str| {
        let text = format!("FROM busybox\nRUN head -c 100000 /dev/zero > /{name}\n");
        let dir = folder(&host, "context", &[("Dockerfile", &text)]);
        let line = ["--config", config, "build", "--network", "none", "-t", "made", dir.to_str().expect("UTF-8")];
        let output = host.local(line).run();
        output.ok();
        host.ok(["rmi", "made"]);
        output.stderr().contains("CACHED")
    };
    // All were of use just now, which is no time to let them go.
    for name in ["newest", "oldest", "middle"] {
        assert!(!of(name), "{name}");
    }
    let age = |name: &str, hours: u64| {
        let records = host.root().join("build/records");
        for entry in fs::read_dir(records).expect("list").flatten() {
            if fs::read_to_string(entry.path()).expect("read a record").contains(&format!("> /{name}")) {
                let file = fs::File::options().append(true).open(entry.path()).expect("open a record");
                let then = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
                file.set_modified(then).expect("set a time");
            }
        }
    };
    for (name, hours) in [("newest", 1), ("oldest", 3), ("middle", 2)] {
        age(name, hours);
    }
    assert!(of("middle"), "what is of use is the newest again");
    assert!(of("newest") && of("middle"));
    assert!(!of("oldest"), "the longest unused is gone");
    let line = host.ok(["system", "df"]);
    assert!(line.contains("Build Cache"), "{line}");
}

#[test]
fn who_waits_for_a_cache_may_be_called_off() {
    let Some(host) = Host::with_busybox() else { return };
    let start = |name: &str, line: &str| {
        let text =
            format!("FROM busybox\nRUN echo {name}\nRUN --mount=type=cache,target=/c,id=one,sharing=locked {line}\n");
        let dir = folder(&host, name, &[("Dockerfile", &text)]);
        host.dhow(["build", "--network", "none", dir.to_str().expect("UTF-8")]).spawn()
    };
    let known = |name: &str| {
        let found = crate::fixture::Command::new(
            "grep",
            ["-rl", name, host.root().join("build/records").to_str().expect("UTF-8")],
        )
        .run();
        !found.stdout().is_empty()
    };
    let first = start("holder", "echo held; sleep 1000");
    eventually("the first has the cache", || known("holder") && !host.ok(["ps", "-q"]).is_empty());
    let second = start("waiter", "true");
    eventually("the second is about to wait", || known("waiter"));
    second.signal(Signal::SIGINT);
    assert_eq!(second.wait().code(), Some(130));
    assert!(!host.ok(["ps", "-q"]).is_empty(), "the first goes on");
    first.signal(Signal::SIGINT);
    assert_eq!(first.wait().code(), Some(130));
    eventually("nothing of it is left", || host.ok(["ps", "-aq"]).is_empty());
    // A daemon clears away behind the back of who has gone.
    host.assert_tidy();
}

#[test]
fn mounts_are_there_for_one_command() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox AS other\nRUN mkdir /d && echo theirs > /d/f\nFROM busybox\nWORKDIR /w\n\
                RUN --mount=type=cache,target=/cache,id=c$TARGETOS echo x >> /cache/count; wc -l < /cache/count > /counted\n\
                RUN --mount=type=tmpfs,target=/mem,size=1m touch /mem/x && grep -c ' /mem tmpfs' /proc/mounts > /tmpfs\n\
                RUN --mount=target=ctx --mount=from=other,source=/d,target=/d,rw cat ctx/file /d/f > /bound; echo y > /d/g; ! touch ctx/no 2>/dev/null\n\
                RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=token,target=/s,mode=0440 cat /s; stat -c %a /s > /mode; echo ${#TOKEN} > /length\n\
                RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent\n\
                RUN <<end\n#!/bin/cat\nscript\nend\n";
    let files = [("Dockerfile", text), ("file", "ours\n"), ("token", "hush-hush-hush")];
    let token = host.file("context/token", "hush-hush-hush");
    let secret = format!("id=token,src={}", token.display());
    let dir = folder(&host, "context", &files);
    fs::write(dir.join(".dockerignore"), "token\n").expect("write");
    let told = made(&host, &files, &["--secret", &secret]);
    assert!(told.contains("hush-hush-hush") && told.contains("script"), "{told}");
    assert_eq!(says(&host, "cat /counted /tmpfs /bound /mode /length"), "1\n1\nours\ntheirs\n440\n14");
    assert_eq!(says(&host, "ls -d /cache /mem /d /s /run/secrets /w/ctx 2>/dev/null; ls /w"), "");
    // No layer, no history, no record and no file of the store has it.
    let found = host_grep(&host, "hush-hush-hush");
    assert_eq!(found, Vec::<String>::new());
    assert!(!host.ok(["history", "--no-trunc", "made"]).contains("hush"));
    let changed = text.replace("> /counted", "> /counted;");
    made(&host, &[("Dockerfile", &changed)], &["--secret", &secret]);
    assert_eq!(says(&host, "cat /counted"), "2", "a cache outlives its build");
    let text = "FROM busybox\nRUN --mount=type=secret,id=absent,required true\n";
    let output = build(&host, &folder(&host, "context", &[("Dockerfile", text)]), &[]);
    assert!(output.stderr().contains("secret absent: not found"), "{output}");
    host.assert_tidy();
}

/// Files of the store and the run directory that hold these bytes.
fn host_grep(host: &Host, what: &str) -> Vec<String> {
    let (root, run) = (host.root(), host.run_dir());
    let dirs = [root.to_str().expect("UTF-8"), run.to_str().expect("UTF-8")];
    let output = crate::fixture::Command::new("grep", ["-rl", what, dirs[0], dirs[1]]).run();
    output.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn a_check_builds_nothing() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nMAINTAINER me\nCMD x\n")]);
    let output = host.run(["build", "--check", dir.to_str().expect("UTF-8")]);
    assert_eq!(output.code(), Some(1), "{output}");
    let text = output.stdout();
    assert!(text.starts_with("Check complete, 2 warnings have been found!"), "{text}");
    assert!(text.contains("WARNING: JSONArgsRecommended") && text.contains("Dockerfile:3:1: CMD x"), "{text}");
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nCMD [\"x\"]\n")]);
    assert_eq!(host.ok(["build", "--check", dir.to_str().expect("UTF-8")]), "Check complete, no warnings found.");
    let dir = folder(&host, "context", &[("Dockerfile", "# check=error=true\nFROM busybox\nCMD x\n")]);
    let output = build(&host, &dir, &["-t", "made"]);
    assert!(output.stderr().contains("lint violation found for rules: JSONArgsRecommended"), "{output}");
    assert_eq!(host.ok(["images", "-q", "made"]), "");
}

#[test]
fn a_base_behind_a_password() {
    let Some(()) = crate::fixture::need("skopeo") else { return };
    let Some(registry) = crate::fixture::Registry::start(false, Some(crate::fixture::Login::SAILOR)) else { return };
    let (Some(host), Some(name)) = (Host::new(), registry.busybox()) else { return };
    let text = format!("ARG base={name}\nFROM $base\nENV a=b\n");
    let dir = folder(&host, "context", &[("Dockerfile", &text)]);
    let output = build(&host, &dir, &["-t", "made"]);
    assert_eq!(output.code(), Some(1), "{output}");
    let login = crate::fixture::Login::SAILOR;
    host.dhow(["login", "-u", login.user, "--password-stdin", &registry.host()]).input(login.password).ok();
    let output = build(&host, &dir, &["-t", "made"]);
    output.ok();
    assert!(!output.stderr().contains(login.password), "{output}");
    assert_eq!(says(&host, "echo $a"), "b");
}

#[test]
fn flags_of_build() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = folder(
        &host,
        "context",
        &[(
            "Dockerfile",
            "FROM busybox\nRUN cat /etc/hosts > /hosts; ip link show eth0 > /net 2>&1; ulimit -n > /limit\n",
        )],
    );
    let path = dir.to_str().expect("UTF-8");
    let file = host.dir().join("id");
    let id_file = file.to_str().expect("UTF-8");
    let told = host.dir().join("told.json");
    let told = told.to_str().expect("UTF-8");
    let files = ["--iidfile", id_file, "--metadata-file", told];
    let flags = ["build", "-q", "-t", "made", "--add-host", "sea:10.1.2.3", "--ulimit", "nofile=77:77", path];
    let out = host.ok(flags[..1].iter().chain(&files).chain(&flags[1..]).copied());
    assert_eq!(out, id(&host, "made"));
    assert_eq!(fs::read_to_string(&file).expect("read"), out);
    let told: serde_json::Value = serde_json::from_slice(&fs::read(told).expect("read")).expect("JSON");
    assert_eq!(
        (told["containerimage.digest"].as_str(), told["image.name"].as_str()),
        (Some(out.as_str()), Some("made:latest"))
    );
    let said = says(&host, "cat /hosts /net /limit");
    assert!(said.contains("10.1.2.3\tsea") && said.contains("eth0") && said.ends_with("77"), "{said}");
    for (flags, words) in [
        (&["-t", "UPPER"][..], "must be lowercase"),
        (&["--progress", "loud"], "invalid progress mode loud"),
        (&["--platform", "windows/amd64"], "operating system is not supported"),
        (&["--platform", "linux/amd64,linux/arm64"], "several platforms"),
        (&["--cache-from", "type=gha"], "cache from gha is not supported"),
        (&["--cache-to", "type=registry,ref=x"], "only type=inline is supported"),
        (&["--no-cache", "--no-cache-filter", "x"], "cannot be used together"),
        (&["--ulimit", "x"], "--ulimit"),
        (&["--allow", "all"], "unknown entitlement: all"),
        (&["--memory", "x"], "--memory"),
    ] {
        let output = build(&host, &dir, flags);
        assert!(!output.status.success() && output.stderr().contains(words), "{output}");
    }
    for (flag, right) in [("--network=host", "network.host"), ("--security=insecure", "security.insecure")] {
        let text =
            format!("FROM busybox\nRUN {flag} grep -i capeff /proc/self/status > /caps; ls /sys/class/net > /links\n");
        let dir = folder(&host, "asks", &[("Dockerfile", &text)]);
        let output = build(&host, &dir, &["-t", "asked"]);
        assert!(output.stderr().contains(&format!("is not allowed: build with --allow {right}")), "{output}");
        build(&host, &dir, &["-t", "asked", "--allow", right]).ok();
    }
    let output = build(&host, &host.dir().join("nope"), &[]);
    assert!(output.stderr().contains("unable to prepare context"), "{output}");
    let output = build(&host, &dir, &["-f", "/nope/Dockerfile"]);
    assert!(output.stderr().contains("unable to read the Dockerfile"), "{output}");
}
