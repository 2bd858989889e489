//! `dhow build`: Dockerfiles to images.

use crate::fixture::{Host, Output, Tar, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
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
        told.contains(
            "The command '/bin/sh -c echo one; echo two >&2; exit 3' returned a non-zero code: 3\nDockerfile:"
        ),
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
            "circular dependency detected on stage: a\nDockerfile:2:1: COPY --from=a x y",
        ),
        ("FROM busybox\nCOPY --from=0 x y", "circular dependency detected on stage: stage-0"),
        ("FROM busybox\nCOPY --from=1 x y", "invalid stage index 1"),
        (
            "FROM busybox AS a\nCOPY --from=b x y\nFROM busybox AS b\nFROM a",
            "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        ),
        (
            "FROM --platform=$TARGETPLATFROM busybox",
            "empty platform value from expression $TARGETPLATFROM (did you mean TARGETPLATFORM?)",
        ),
        ("FROM ${x}", "base name (${x}) should not be blank\nDockerfile:1:6: FROM ${x}"),
        ("FROM busybox\nADD --checksum=x Dockerfile /x", "checksum requires HTTP(S) or Git sources"),
        ("FROM busybox\nADD --checksum=x Dockerfile y /x", "checksum can't be specified for multiple sources"),
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
                FROM busybox AS none\nRUN echo \"$own|$given\" > /said\n\
                FROM one\nCOPY --from=none /said /none\nARG TARGETPLATFORM\n\
                RUN echo \"$own|$given|$env|$TARGETPLATFORM\" >> /said\n";
    let flags =
        ["--build-arg", "given=1 2", "--build-arg", "HTTP_PROXY=http://p", "--build-arg", "base=busybox:latest"];
    made(&host, &[("Dockerfile", text)], &flags);
    let said = says(&host, "cat /said");
    let (first, second) = said.split_once('\n').expect("two lines");
    assert_eq!(first, "g|1 2|o-g|x|http://p|");
    // They go on in stages that are based on it, below what the image itself sets.
    assert!(second.starts_with("o-g|1 2|e|linux/"), "{second}");
    assert_eq!(says(&host, "cat /none"), "|");
    let history = host.ok(["history", "--no-trunc", "made"]);
    assert!(!history.contains("http://p"), "{history}");
    let again = made(&host, &[("Dockerfile", text)], &["--build-arg", "given=1 2", "--build-arg", "HTTP_PROXY=other"]);
    assert_eq!(again.matches("CACHED").count(), 4, "a proxy is no reason: {again}");
    let again = made(&host, &[("Dockerfile", text)], &["--build-arg", "given=3"]);
    assert_eq!(again.matches("CACHED").count(), 1, "{again}");
    // One that is declared is an argument as any other.
    let text = "FROM busybox\nARG HTTP_PROXY\nRUN echo $HTTP_PROXY > /said\n";
    for proxy in ["http://one", "http://two"] {
        made(&host, &[("Dockerfile", text)], &["--build-arg", &format!("HTTP_PROXY={proxy}")]);
        assert_eq!(says(&host, "cat /said"), proxy);
        let history = host.ok(["history", "--no-trunc", "made"]);
        assert!(history.contains(&format!("RUN |1 HTTP_PROXY={proxy} ")), "{history}");
    }
    // One that is declared again has its first place, and its last value.
    made(&host, &[("Dockerfile", "FROM busybox\nARG a=1\nARG b=2\nARG a=3\nRUN echo $a$b > /said\n")], &[]);
    let history = host.ok(["history", "--no-trunc", "made"]);
    assert!(history.contains("RUN |2 a=3 b=2 /bin/sh"), "{history}");
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
    // One waits for another only when it comes to what is taken from it.
    let text = format!(
        "FROM busybox AS one\n{}FROM busybox AS last\n{}COPY --from=one /four /\n",
        wait("four", "five"),
        wait("five", "four")
    );
    made(&host, &[("Dockerfile", &text)], &[]);
    assert_eq!(says(&host, "cat /four /five"), "four\nfive");
    // Who waits is called off, and what he has done is not.
    let text = "FROM busybox AS one\nRUN sleep 1; exit 7\nFROM busybox AS last\nCOPY --from=one /x /\n";
    let output = build(&host, &folder(&host, "context", &[("Dockerfile", text)]), &[]);
    assert!(output.stderr().contains("non-zero code: 7") && !output.stderr().contains("CANCELED"), "{output}");
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
fn a_list_that_is_empty_is_none() {
    let Some(host) = Host::with_busybox() else { return };
    host.dhow(["build", "-q", "-t", "bare", "-"]).input("FROM busybox\nENTRYPOINT [\"a\"]\nCMD []").ok();
    assert_eq!(host.inspect("bare", "/Config/Cmd"), Value::Null);
    host.ok(["create", "--network", "none", "--name", "hull", "bare"]);
    assert_eq!(host.inspect("hull", "/Config/Cmd"), Value::Null);
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

/// What a base says may be a script, and may take from stages of who builds on it.
#[test]
fn a_base_speaks_of_scripts_and_of_stages() {
    let Some(host) = Host::with_busybox() else { return };
    let base = "FROM busybox\nONBUILD COPY --from=tools /tool /tool\nONBUILD RUN <<END\ncat /tool >/both\necho two >>/both\nEND\n";
    made(&host, &[("Dockerfile", base)], &[]);
    host.ok(["tag", "made", "base"]);
    let text = "FROM busybox AS tools\nRUN echo one >/tool\nFROM base\nRUN echo three >>/both\n";
    made(&host, &[("Dockerfile", text)], &[]);
    assert_eq!(says(&host, "cat /both"), "one\ntwo\nthree");
}

#[test]
fn a_base_is_pulled_where_that_is_wanted() {
    let Some(registry) = crate::fixture::Registry::start(false, None) else { return };
    let (Some(host), Some(name)) = (Host::with_busybox(), registry.busybox()) else { return };
    // Here another image has the name.
    made(&host, &[("Dockerfile", "FROM busybox\nRUN echo here >/where\n")], &[]);
    host.ok(["tag", "made", &name]);
    let text = format!("FROM {name}\nRUN cat /where >/was || echo there >/was\n");
    let of = |flags: &[&str]| {
        made(&host, &[("Dockerfile", &text)], flags);
        says(&host, "cat /was")
    };
    assert_eq!(of(&[]), "here");
    assert_eq!(of(&["--pull"]), "there");
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

/// Who answers for the keys has a thread, which must not take the signal.
#[test]
fn a_build_with_keys_is_called_off_too() {
    let Some(host) = Host::with_busybox() else { return };
    if host.has_daemon() || crate::fixture::need("ssh-keygen").is_none() {
        return;
    }
    let key = host.dir().join("key").display().to_string();
    crate::fixture::tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key.as_str()]);
    let text = "FROM busybox\nRUN --mount=type=ssh echo begun; sleep 1000\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let tmp = host.dir().join("tmp");
    fs::create_dir(&tmp).expect("make a directory");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let ssh = format!("default={key}");
        let args = ["build", "--network", "none", "--ssh", &ssh, dir.to_str().expect("UTF-8")];
        let running = host.dhow(args).env("TMPDIR", tmp.to_str().expect("UTF-8")).spawn();
        eventually("the command runs", || !host.ok(["ps", "-q"]).is_empty());
        running.signal(signal);
        let output = running.wait();
        assert_eq!(output.code(), Some(128 + signal as i32), "{output}");
        assert_eq!(host.ok(["ps", "-aq"]), "");
        for dir in [&tmp, &host.run_dir().join("secrets")] {
            assert_eq!(fs::read_dir(dir).expect("list").count(), 0, "{}", dir.display());
        }
    }
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
    // Without a target it is where the command runs, and never all there is.
    let aimless = "RUN --mount=type=bind test -f /w/file\n";
    made(&host, &[("Dockerfile", &format!("FROM busybox\nWORKDIR /w\n{aimless}"))], &[]);
    let dir = folder(&host, "context", &[("Dockerfile", &format!("FROM busybox\n{aimless}"))]);
    let refused = build(&host, &dir, &[]).stderr();
    assert!(refused.contains("invalid mount target \"/\""), "{refused}");
    let changed = text.replace("> /counted", "> /counted;");
    made(&host, &[("Dockerfile", &changed)], &["--secret", &secret]);
    assert_eq!(says(&host, "cat /counted"), "2", "a cache outlives its build");
    let text = "FROM busybox\nRUN --mount=type=secret,id=absent,required true\n";
    let output = build(&host, &folder(&host, "context", &[("Dockerfile", text)]), &[]);
    assert!(output.stderr().contains("secret absent: not found"), "{output}");
    host.assert_tidy();
}

/// What a stage or an image has is mounted where it lies, whatever its size; links in there lead nowhere else.
#[test]
fn what_a_stage_has_is_mounted_as_it_is() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox AS other\nRUN mkdir -p /d/e && echo f > /d/e/f && chown 5:6 /d/e/f && ln -s /d /way && ln -s /way/e/f /file\n\
                FROM scratch AS empty\nFROM busybox\n\
                RUN --mount=from=other,source=/way/e,target=/m grep -c 'overlay /m overlay ro' /proc/mounts >> /said && stat -c '%u:%g %h' /m/f >> /said\n\
                RUN --mount=from=other,source=file,target=/m/file cat /m/file >> /said; touch /m/file 2>/dev/null || echo read-only >> /said\n\
                RUN --mount=from=other,target=/m,rw rm /m/d/e/f\n\
                RUN --mount=from=other,target=/m cat /m/d/e/f >> /said\n\
                RUN --mount=from=busybox,source=bin,target=/m test -e /m/busybox && ! touch /m/x 2>/dev/null\n\
                RUN --mount=from=empty,target=/m ls /m | wc -l >> /said\n";
    made(&host, &[("Dockerfile", text)], &[]);
    assert_eq!(says(&host, "cat /said; test ! -e /m"), "1\n5:6 1\nf\nread-only\nf\n0");
    let other = text.replace("echo f >", "echo g >");
    let told = made(&host, &[("Dockerfile", text)], &[]);
    assert_eq!(told.matches("CACHED").count(), 7, "{told}");
    made(&host, &[("Dockerfile", &other)], &[]);
    assert_eq!(says(&host, "sed -n 3p /said"), "g", "what is mounted is a part of the key");
    let missing = "FROM busybox AS other\nFROM busybox\nRUN --mount=from=other,source=/no,target=/m true\n";
    let output = build(&host, &folder(&host, "context", &[("Dockerfile", missing)]), &[]);
    assert!(output.stderr().contains("#3 ERROR: /no: not found in the stage"), "{output}");
    host.assert_tidy();
}

#[test]
fn options_of_mounts_are_kept() {
    let Some(host) = Host::with_busybox() else { return };
    let alone = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,id=p,sharing=private,target=/p \
             touch /p/{name}; sleep 1; ls /p > /listed; rm /p/{name}\n"
        )
    };
    let text = format!(
        "{}{}FROM busybox\nCOPY --from=a /listed /a\nCOPY --from=b /listed /b\n\
         RUN --mount=type=cache,id=x,target=/c touch /c/f && stat -c '%u:%g %a' /c > /one\n\
         RUN --mount=type=cache,id=x,target=/c,uid=1000,gid=2000,mode=0770 stat -c '%u:%g %a' /c > /two; ls /c >> /two\n\
         RUN --mount=type=cache,id=x,target=/c,readonly touch /c/no 2>/dev/null || ls /c > /three\n\
         RUN --mount=type=tmpfs,target=/t,size=64k dd if=/dev/zero of=/t/f bs=1k count=99 2>/dev/null; stat -c %s /t/f > /four\n\
         RUN --mount=type=secret,source=deep/token,uid=5,gid=6 cd /run/secrets && stat -c '%n %u:%g %a' token > /five\n\
         RUN --mount=type=secret,target=/x/token,mode=0444 cat /x/token > /six; stat -c %a /x/token >> /six\n\
         RUN --mount=type=secret,id=deep/token,env=A env | grep -c ^A= > /seven; ls /run/secrets >> /seven 2>&1 || true\n",
        alone("a"),
        alone("b")
    );
    let token = host.file("token", "told\n").display().to_string();
    let secrets = [format!("id=deep/token,src={token}"), format!("id=token,src={token}")];
    let flags = ["--secret", &secrets[0], "--secret", &secrets[1]];
    made(&host, &[("Dockerfile", &text)], &flags);
    assert_eq!(
        says(&host, "cat /a /b /one /two /three /four /five /six; head -n 1 /seven; wc -l < /seven"),
        "a\nb\n0:0 755\n1000:2000 770\nf\n65536\ntoken 5:6 400\ntold\n444\n1\n2"
    );
    // One of a name at two places of a command is one, also where it is locked; and others in any order.
    let twice = |first: &str, last: &str| {
        format!(
            "RUN --mount=type=cache,id={first},target=/1,sharing=locked --mount=type=cache,id={last},target=/2,sharing=locked \
             --mount=type=cache,id={first},target=/3,sharing=private touch /1/f && ls /3\n"
        )
    };
    let text_of_two = format!(
        "FROM busybox AS a\n{}FROM busybox\n{}COPY --from=a /bin/sh /a\n",
        twice("left", "right").repeat(3),
        twice("right", "left").repeat(3)
    );
    made(&host, &[("Dockerfile", &text_of_two)], &["--no-cache"]);
    made(&host, &[("Dockerfile", &text)], &flags);
    // What a mount is asked to be is a part of its command.
    let told = made(&host, &[("Dockerfile", &text.replace("env=A", "env=B"))], &flags);
    assert_eq!((told.matches("CACHED").count(), says(&host, "head -n 1 /seven")), (10, "0".to_owned()), "{told}");
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
    let rule = "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/";
    assert!(text.contains(rule) && text.contains("Dockerfile:3:1: CMD x"), "{text}");
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nCMD [\"x\"]\n")]);
    assert_eq!(host.ok(["build", "--check", dir.to_str().expect("UTF-8")]), "Check complete, no warnings found.");
    let check = |input: &[u8]| host.dhow(["build", "--check", "-"]).input(input).run();
    let output = check(b"FROM busybox\nCMD x\n");
    assert!(output.code() == Some(1) && output.stdout().contains("Dockerfile:2:1: CMD x"), "{output}");
    let refused = check(&Tar::new().file("Dockerfile", 0o644, "FROM busybox\n").end());
    assert!(refused.stderr().contains("no archive"), "{refused}");
    // What the context has not, and what the image sets.
    build(&host, &folder(&host, "base", &[("Dockerfile", "FROM busybox\nENV here=1\n")]), &["-t", "based"]).ok();
    let text = "# check=experimental=all\nFROM based\nENV a=$here b=$hera\nCOPY left/x .\n";
    let asked = folder(&host, "asked", &[("Dockerfile", text), (".dockerignore", "left\n")]);
    let check = |flags: &[&str]| host.run(["build", "--check"].iter().chain(flags).copied().chain(asked.to_str()));
    let said = check(&[]).stdout();
    assert!(said.contains("Usage of undefined variable '$hera' (did you mean $here?)"), "{said}");
    assert!(said.contains("2 warnings") && said.contains("\"left/x\" that is excluded by .dockerignore"), "{said}");
    check(&["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=UndefinedVar"]).ok();
    let failed = build(&host, &dir, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", "--no-cache"]);
    assert_eq!(failed.code(), Some(0), "{failed}");
    // What it has to say for itself.
    let text = "# level of the tide\nARG level=high\n# quay is where it lies\nFROM busybox AS quay\nARG level\n\
                RUN --mount=type=secret,id=key,required x\nFROM quay\n";
    let says = folder(&host, "says", &[("Dockerfile", text)]);
    let call = |flags: &[&str]| host.run(["build", "--call"].iter().chain(flags).copied().chain(says.to_str()));
    assert_eq!(call(&["targets"]).ok(), "TARGET      DESCRIPTION\nquay        is where it lies\n(default)   ");
    let outline = call(&["outline", "--build-arg", "level=low"]).ok();
    assert!(outline.contains("level       low     of the tide") && outline.contains("key      true"), "{outline}");
    let outline = call(&["outline,format=json", "--target", "quay"]).ok();
    assert!(outline.contains("\"value\": \"high\""), "{outline}");
    let refused = call(&["x"]);
    assert!(refused.stderr().contains("invalid value \"x\" for --call"), "{refused}");
    assert_eq!(host.ok(["images", "-q", "made"]), "");
    let dir = folder(&host, "context", &[("Dockerfile", "# check=error=true\nFROM busybox\nCMD x\n")]);
    let output = build(&host, &dir, &["-t", "made"]);
    assert!(output.stderr().contains("lint violation found for rules: JSONArgsRecommended"), "{output}");
    assert_eq!(host.ok(["images", "-q", "made"]), "");
    build(&host, &dir, &["-t", "made", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=false"]).ok();
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
            "FROM busybox\nRUN cat /etc/hosts > /hosts; ip link show eth0 > /net 2>&1; { df -k /dev/shm | tail -n 1; ulimit -n; } > /limit\n",
        )],
    );
    let path = dir.to_str().expect("UTF-8");
    let file = host.dir().join("id");
    let id_file = file.to_str().expect("UTF-8");
    let told = host.dir().join("told.json");
    let told = told.to_str().expect("UTF-8");
    let files = ["--iidfile", id_file, "--metadata-file", told];
    let flags = [
        "build",
        "-q",
        "-t",
        "made",
        "--add-host",
        "sea:10.1.2.3",
        "--ulimit",
        "nofile=77:77",
        "--shm-size",
        "3m",
        path,
    ];
    let moot = ["--compress", "--isolation", "default", "--disable-content-trust", "--load"];
    let moot = [&moot[..], &["--provenance=false", "--sbom=false"]].concat();
    let out = host.ok(flags[..1].iter().chain(&files).chain(&moot).chain(&flags[1..]).copied());
    assert_eq!(out, id(&host, "made"));
    assert_eq!(fs::read_to_string(&file).expect("read"), out);
    let told: serde_json::Value = serde_json::from_slice(&fs::read(told).expect("read")).expect("JSON");
    assert_eq!(
        (told["containerimage.digest"].as_str(), told["image.name"].as_str()),
        (Some(out.as_str()), Some("docker.io/library/made:latest"))
    );
    // What a command is limited by is a reason to run it again.
    let limited = build(&host, &dir, &["-t", "other", "--ulimit", "nofile=78:78"]);
    assert!(!limited.stderr().contains("CACHED"), "{limited}");
    // One of a build before is none of a build that fails.
    let failing = folder(&host, "failing", &[("Dockerfile", "FROM busybox\nRUN false\n")]);
    assert_eq!(build(&host, &failing, &["--iidfile", id_file]).code(), Some(1));
    assert!(!file.exists());
    let said = says(&host, "cat /hosts /net /limit");
    assert!(
        said.contains("10.1.2.3\tsea") && said.contains("eth0") && said.contains(" 3072 ") && said.ends_with("77"),
        "{said}"
    );
    for (flags, words) in [
        (&["-t", "UPPER"][..], "must be lowercase"),
        (&["--squash"], "building with squash is not supported"),
        (&["--push"], "tag is needed when pushing to registry"),
        (&["--isolation", "hyperv"], "unsupported isolation: \"hyperv\""),
        (&["--progress", "loud"], "invalid progress mode loud"),
        (&["--platform", "windows/amd64"], "operating system is not supported"),
        (&["--platform", "linux/amd64,linux/arm64"], "several platforms"),
        (&["--cache-from", "type=gha"], "cache from gha is not supported"),
        (&["--cache-to", "type=registry,ref=x"], "only type=inline is supported"),
        (&["--no-cache", "--no-cache-filter", "x"], "cannot be used together"),
        (&["--ulimit", "x"], "--ulimit"),
        (&["--allow", "all"], "unknown entitlement: all"),
        (&["--label", "=x"], "it has no name"),
        (&["--provenance", "true"], "only provenance=false is supported"),
        (&["--sbom", "mode=max"], "only sbom=false is supported"),
        (&["--annotation", "a=b"], "--annotation a=b: images have neither"),
        (&["--attest", "type=sbom"], "--attest type=sbom: images have neither"),
        (&["--load", "-o", "type=cacheonly"], "cannot be used with another output"),
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

/// Commands find the same name whenever they run: what depends on it is the same, too.
#[test]
fn commands_find_one_host_name() {
    let Some(host) = Host::with_busybox() else { return };
    // In small letters it is as good.
    let text = "FROM busybox\nRUN hostname > /said; echo \"[$(env | sed -n s/^HOSTNAME=//p)]\" >> /said\n";
    made(&host, &[("dockerfile", text)], &[]);
    assert_eq!(says(&host, "cat /said"), "buildkitsandbox\n[]");
    made(&host, &[("dockerfile", text)], &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=boat"]);
    assert_eq!(says(&host, "cat /said"), "boat\n[]");
    let told = made(&host, &[("dockerfile", &text.replace("FROM busybox", "FROM busybox\nENV HOSTNAME=mine"))], &[]);
    assert!(says(&host, "cat /said").contains("[mine]"), "{told}");
    let dir = host.dir().join("context");
    let file = dir.join("Dockerfile");
    build(&host, &dir, &["-f", file.to_str().expect("UTF-8")]).ok();
}

/// What programs are told of what was built, by where it went.
#[test]
fn metadata_is_that_of_the_output() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nLABEL a=b\n")]);
    let told = host.dir().join("told.json");
    let archive = host.dir().join("made.tar");
    let dest = format!("dest={}", archive.display());
    let metadata = |flags: &[&str]| -> serde_json::Value {
        let told = told.to_str().expect("UTF-8");
        build(&host, &dir, &[&["--metadata-file", told], flags].concat()).ok();
        serde_json::from_slice(&fs::read(told).expect("read")).expect("JSON")
    };
    let here = metadata(&["-t", "made"]);
    let id = here["containerimage.config.digest"].as_str().expect("a digest").to_owned();
    assert_eq!(here["containerimage.digest"], id.as_str());
    let named = metadata(&["-o", "type=docker,name=foo:1"]);
    assert_eq!(named["image.name"], "docker.io/library/foo:1");
    assert!(metadata(&[]).get("image.name").is_none());
    for kind in ["oci", "docker"] {
        let told = metadata(&["-o", &format!("type={kind},{dest}"), "-t", "made"]);
        let index = crate::fixture::tool("tar", ["-xOf", archive.to_str().expect("UTF-8"), "index.json"]);
        let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
        let digest = &index["manifests"][0]["digest"];
        assert_eq!(
            (&told["containerimage.digest"], &told["containerimage.config.digest"]),
            (digest, &id.clone().into())
        );
        assert_ne!(*digest, id.as_str());
    }
    assert_eq!(metadata(&["-o", "type=cacheonly", "-t", "made"]), serde_json::json!({}));
}

/// As buildx reads them.
#[test]
fn a_secret_is_a_file_or_a_variable() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM busybox\nARG N\nRUN --mount=type=secret,id=x cat /run/secrets/x > /said\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let file = host.file("secret", "of a file").display().to_string();
    let build = |number: usize, secret: &str| {
        let number = format!("N={number}");
        let args = ["build", "--network", "none", "-t", "made", "--build-arg", &number, "--secret", secret];
        host.dhow(args.into_iter().chain(dir.to_str())).env("SOME", "of a variable").run()
    };
    for (number, (secret, said)) in [
        ("id=x,type=env,src=SOME".to_owned(), "of a variable"),
        ("id=x,type=env,env=SOME".to_owned(), "of a variable"),
        ("type=env,id=x,source=SOME".to_owned(), "of a variable"),
        (format!("id=x,type=file,src={file}"), "of a file"),
        (format!("id=x,source={file}"), "of a file"),
        ("id=x,env=SOME".to_owned(), "of a variable"),
        // As of Docker's: what is not set is empty.
        ("id=x,type=env,src=NONE".to_owned(), ""),
    ]
    .into_iter()
    .enumerate()
    {
        build(number, &secret).ok();
        assert_eq!(says(&host, "cat /said"), said, "{secret}");
    }
    for (secret, words) in [("id=x,type=key", "unsupported secret type"), ("id=x,src=/nothere", "no such file")] {
        let output = build(9, secret);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
}

/// As BuildKit has them.
#[test]
fn users_that_the_image_does_not_have() {
    let Some(host) = Host::with_busybox() else { return };
    let made = |text: &str| made(&host, &[("Dockerfile", &format!("FROM busybox\n{text}"))], &[]);
    let owners = |dirs: &str| says(&host, &format!("stat -c %u:%g {dirs}")).replace('\n', " ");
    // A directory is root's then, and its group's where that is there.
    made(
        "USER nobodyhere\nWORKDIR /a\nUSER nobodyhere:extra\nWORKDIR /b\nUSER user:nope\nWORKDIR /c\nUSER 7\nWORKDIR /d\nUSER 0\n",
    );
    assert_eq!(owners("/a /b /c /d"), "0:0 0:2000 1000:1000 7:7");
    // No command runs as one.
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox\nUSER nobodyhere\nRUN true\n")]);
    let output = build(&host, &dir, &[]);
    assert!(output.code() == Some(1) && output.stderr().contains("unable to find user nobodyhere"), "{output}");
    // Without a file of groups root and numbers have commands all the same; who is somebody there has groups to be found.
    let odd = "RUN rm /etc/group && mkdir /etc/group\n";
    made(&format!(
        "{odd}RUN id -u > /said\nUSER 1000:2000\nWORKDIR /a\nUSER user\nWORKDIR /b\nUSER root\nRUN id -g >> /said\nUSER 7\n"
    ));
    let said = |user: &[&str], line: &str| {
        host.run([&["run", "--rm", "--network", "none"], user, &["made", "sh", "-c", line]].concat())
    };
    assert_eq!(said(&[], "stat -c %u:%g /a /b; cat /said; id -u; id -g").ok(), "1000:2000\n1000:1000\n0\n0\n7\n0");
    for user in ["root", "user"] {
        let refused = said(&["-u", user], "true");
        let words = format!("unable to find groups for spec {user}: the image's /etc/group is not a regular file");
        assert!(refused.code() == Some(125) && refused.stderr().contains(&words), "{refused}");
        let dir = folder(&host, "context", &[("Dockerfile", &format!("FROM busybox\n{odd}USER user\nRUN true\n"))]);
        let output = build(&host, &dir, &[]);
        assert!(
            output.code() == Some(1) && output.stderr().contains("unable to find groups for spec user"),
            "{output}"
        );
    }
    host.assert_tidy();
}

/// What Dockerfiles ask for first is known here: nothing is fetched for it.
#[test]
fn the_frontend_of_a_dockerfile_is_noted() {
    let Some(host) = Host::with_busybox() else { return };
    let text = |syntax: &str| format!("# syntax={syntax}\nFROM busybox\nRUN <<E\necho heard > /said\nE\n");
    for syntax in ["docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile-upstream:master"] {
        let told = made(&host, &[("Dockerfile", &text(syntax))], &[]);
        assert!(!told.contains("syntax"), "{told}");
        assert_eq!(says(&host, "cat /said"), "heard");
    }
    // Another one may have meant something else.
    let told = made(&host, &[("Dockerfile", &text("registry.invalid/boats/frontend:2"))], &[]);
    assert!(told.contains("syntax=registry.invalid/boats/frontend:2 is not fetched"), "{told}");
    assert_eq!(says(&host, "cat /said"), "heard");
    let argument = ["--build-arg", "BUILDKIT_SYNTAX=registry.invalid/other"];
    let told = made(&host, &[("Dockerfile", &text("docker/dockerfile:1"))], &argument);
    assert!(told.contains("syntax=registry.invalid/other is not fetched"), "{told}");
}
