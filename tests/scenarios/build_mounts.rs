//! `RUN --mount`: what commands of a Dockerfile find, and nobody after them.

use super::builds::{build, folder, made, says};
use crate::fixture::Host;
use std::fs;

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
