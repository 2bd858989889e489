//! `dhow build`: Dockerfiles to images.

use crate::fixture::{Host, Output, eventually};
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
