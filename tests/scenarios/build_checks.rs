//! What is told of a Dockerfile: what is wrong with it, and what could be better.

use super::builds::{build, folder, made, says};
use crate::fixture::{Host, Tar};
use serde_json::Value;

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

/// As `docker build` does: in the end, also of a build that fails, and nowhere else.
#[test]
fn what_could_be_better_is_told_in_the_end() {
    let Some(host) = Host::with_busybox() else { return };
    let text = "FROM scratch AS spare\nCMD x\nFROM busybox\nARG boat\nENV MAST=$TOP\nCMD $boat $SAIL\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    let told = build(&host, &dir, &["-t", "made"]);
    assert_eq!(told.code(), Some(0), "{told}");
    let said = told.stderr();
    let (_, said) = said.split_once("naming to made:latest\n").expect("it is told in the end");
    // The stage that nobody needs has no say; what the base sets is known.
    assert_eq!(
        said,
        "\n 2 warnings found (use docker --debug to expand):\n\
         \x20- UndefinedVar: Usage of undefined variable '$TOP' (line 5)\n\
         \x20- JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 6)"
    );
    let path = dir.to_str().expect("UTF-8");
    let whole = host.run(["--debug", "build", "--network", "none", path]).stderr();
    assert!(whole.contains("2 warnings found:\n") && whole.contains("Dockerfile:5:1: ENV MAST=$TOP"), "{whole}");
    assert!(whole.contains("More info: https://docs.docker.com/go/dockerfile/rule/undefined-var/"), "{whole}");
    for flags in [&["-q"][..], &["--progress", "quiet"], &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"]] {
        let told = build(&host, &dir, flags).stderr();
        assert!(!told.contains("warning"), "{flags:?}: {told}");
    }
    // As BuildKit's clients read it.
    let raw = build(&host, &dir, &["--progress", "rawjson"]).stderr();
    let lines: Vec<Value> = raw.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let all = |key: &str| lines.iter().filter_map(|line| line[key].as_array()).flatten().cloned().collect::<Vec<_>>();
    let warnings = all("warnings");
    assert_eq!(warnings.len(), 2, "{raw}");
    let read = all("vertexes").into_iter().find(|it| it["digest"] == warnings[0]["vertex"]).expect("it is told of");
    assert_eq!(read["name"], "[internal] load build definition from Dockerfile");
    assert_eq!((&warnings[0]["range"][0]["start"]["line"], &warnings[0]["level"]), (&5.into(), &1.into()));
    assert_eq!(warnings[0]["sourceInfo"]["filename"], "Dockerfile");
    // One that fails tells the same.
    let dir = folder(&host, "context", &[("Dockerfile", "FROM busybox AS Boat\nRUN false\n")]);
    let failed = build(&host, &dir, &[]);
    assert!(failed.code() == Some(1) && failed.stderr().contains("- StageNameCasing: "), "{failed}");
    // A stage that nobody needs is no error either, but all of it where it is asked for.
    let text = "# check=error=true\nFROM busybox AS spare\nCMD x\nFROM busybox\n";
    let dir = folder(&host, "context", &[("Dockerfile", text)]);
    build(&host, &dir, &[]).ok();
    let check = |target: &str| host.run(["build", "--check", "--target", target].into_iter().chain(dir.to_str()));
    assert_eq!((check("spare").code(), check("1").code()), (Some(1), Some(0)));
    assert!(check("spar").stderr().contains("target stage \"spar\" could not be found (did you mean spare?)"));
    let refused = build(&host, &dir, &["--target", "spare"]);
    assert!(refused.stderr().contains("lint violation found for rules: JSONArgsRecommended"), "{refused}");
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
