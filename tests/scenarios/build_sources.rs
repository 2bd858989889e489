//! What builds take from elsewhere: repositories, files by HTTP, keys.

use crate::fixture::git::Repositories;
use crate::fixture::{Front, Host, Output, Say};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

/// `dhow build` of this Dockerfile alone, as `made`.
fn build(host: &Host, dockerfile: &str, flags: &[&str]) -> Output {
    let dir = host.file("context/Dockerfile", dockerfile);
    let dir = dir.parent().and_then(|dir| dir.to_str()).expect("UTF-8");
    let fixed = ["build", "--network", "none", "-t", "made"];
    host.run(fixed.iter().chain(flags).chain(&[dir]).copied())
}

/// What this line says in a container of the image.
fn says(host: &Host, line: &str) -> String {
    host.ok(["run", "--rm", "--network", "none", "made", "sh", "-c", line])
}

fn id(host: &Host) -> String {
    host.ok(["inspect", "--format", "{{.Id}}", "made"])
}

#[test]
fn repositories_are_added() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(all) = Repositories::new(host.dir().join("git")) else { return };
    all.commit("part", &[("inner", "of a part")]);
    all.git("boat", &["init", "-q", "-b", "trunk"]);
    let files = [("a", "one"), ("bin/run", "#!/bin/sh\n"), ("sub/b", "two"), ("sub/.hidden", "three")];
    let path = all.path("boat");
    fs::create_dir_all(path.join("bin")).expect("make a directory");
    symlink("a", path.join("link")).expect("make a link");
    let part = all.path("part");
    let first = all.commit("boat", &files);
    fs::set_permissions(path.join("bin/run"), PermissionsExt::from_mode(0o755)).expect("chmod");
    all.git(
        "boat",
        &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", part.to_str().expect("UTF-8"), "part"],
    );
    all.git("boat", &["config", "-f", ".gitmodules", "submodule.part.url", "../part.git"]);
    let second = all.commit("boat", &[]);
    all.git("boat", &["tag", "-a", "-m", "told", "v1"]);
    let tag = all.git("boat", &["rev-parse", "v1"]);
    let front = all.serve(|_| None);
    let url = format!("http://{}/boat.git", front.address);
    let text = format!(
        "FROM busybox\nADD --chown=5:6 {url} /all\nADD {url}#v1:sub /sub/\nADD --exclude=sub {url}#{first} /first\n\
         ADD --keep-git-dir=true --checksum={tag} {url}#v1 /kept\nADD --checksum={} {url}#refs/heads/trunk /pinned\n",
        &second[..12]
    );
    build(&host, &text, &[]).ok();
    let line = "cd /all && stat -c '%n %a %u:%g %Y' a bin/run bin part/inner && readlink link && ls -A . /sub /first";
    assert_eq!(
        says(&host, line),
        "a 644 5:6 1600000000\nbin/run 755 5:6 1600000000\nbin 755 5:6 1600000000\npart/inner 644 5:6 1600000000\na\n\
         .:\n.gitmodules\na\nbin\nlink\npart\nsub\n\n/first:\na\nbin\nlink\n\n/sub:\n.hidden\nb"
    );
    let kept = says(
        &host,
        "cat /kept/.git/HEAD /kept/.git/refs/tags/v1; cat /kept/part/inner; ls -A /kept/.git; ls -A /pinned",
    );
    assert!(kept.starts_with(&format!("{second}\n{tag}\nof a part")), "{kept}");
    assert!(!kept.contains("FETCH_HEAD") && !kept.contains("logs") && !kept.ends_with(".git"), "{kept}");
    // Nothing is fetched again of commits that are known; a branch that moved is.
    let (before, image) = (front.count("POST"), id(&host));
    let output = build(&host, &text, &[]);
    assert_eq!(output.stderr().matches("CACHED").count(), 5, "{output}");
    assert_eq!((id(&host), front.count("upload-pack") > before), (image.clone(), true));
    let fetched = front.count("POST");
    let output = build(&host, &format!("FROM busybox\nADD --chown=5:6 {url}#{second} /all\n"), &[]);
    assert_eq!((output.stderr().matches("CACHED").count(), front.count("POST")), (1, fetched), "{output}");
    build(&host, &text, &["--no-cache"]).ok();
    assert_eq!(id(&host), image, "the same commit is the same image");
    all.commit("boat", &[("a", "moved")]);
    let text = format!("FROM busybox\nADD {url} /all\n");
    build(&host, &text, &[]).ok();
    assert_eq!(says(&host, "cat /all/a"), "moved");
    for (instruction, told) in [
        (format!("ADD {url}#none /x"), "repository does not contain ref none"),
        (format!("ADD {url}#0000000000000000000000000000000000000000 /x"), "repository does not contain ref 0000"),
        (format!("ADD {url}#v1:../../etc /x"), "open the directory ../../etc"),
        (format!("ADD {url}#--upload-pack=touch /x"), "cannot be the name of a branch"),
        ("ADD ssh://-oProxyCommand=touch/x /x".to_owned(), "no repository can lie there"),
        (format!("ADD --checksum={first} {url}#v1 /x"), "expected checksum to match"),
        (format!("ADD --checksum=foobar {url}#v1 /x"), "invalid checksum \"foobar\""),
        (format!("COPY {url}#v1 /x"), "source can't be a git ref for COPY"),
        (format!("ADD http://{}/none.git /x", front.address), "look at http://"),
    ] {
        let output = build(&host, &format!("FROM busybox\n{instruction}\n"), &[]);
        assert!(output.code() == Some(1) && output.stderr().contains(told), "{instruction}: {output}");
    }
    // Where objects are named by SHA-256.
    all.git("wide", &["init", "-q", "-b", "main", "--object-format=sha256"]);
    let commit = all.commit("wide", &[("a", "wide")]);
    let wide = format!("http://{}/wide.git", front.address);
    let both =
        format!("FROM busybox\nADD --keep-git-dir {wide} /all\nADD --checksum={commit} {wide}#{commit} /pinned\n");
    build(&host, &both, &[]).ok();
    assert_eq!(says(&host, "cat /all/.git/refs/heads/main /all/a /pinned/a"), format!("{commit}\nwidewide"));
    build(&host, &text, &[]).ok();
    // A daemon has its own PATH.
    if !host.has_daemon() {
        let dir = host.dir().join("context");
        let output = host.dhow(["build", dir.to_str().expect("UTF-8")]).env("PATH", "/nonexistent").run();
        assert!(output.code() == Some(1), "{output}");
        let output = build(&host, &text, &[]);
        assert_eq!(output.code(), Some(0), "{output}");
        let output = host.dhow(["build", "--network", "none", &format!("{url}#trunk")]).env("PATH", "/none").run();
        assert!(output.stderr().contains("the git command, which is not installed"), "{output}");
    }
    host.assert_tidy();
}

#[test]
fn repositories_are_contexts() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(all) = Repositories::new(host.dir().join("git")) else { return };
    let dockerfile = "FROM busybox\nCOPY . /all\n";
    let files = [
        ("Dockerfile", dockerfile),
        ("sub/Dockerfile", dockerfile),
        ("sub/other", "FROM busybox\nCOPY a /other\n"),
        ("sub/a", "a"),
        ("sub/left", "out"),
        ("sub/.dockerignore", "left\n*ocker*\n"),
    ];
    all.commit("boat", &files);
    let front = all.serve(|_| None);
    let url = format!("http://{}/boat.git", front.address);
    let build = |flags: &[&str], url: &str| {
        let fixed = ["build", "--network", "none", "-t", "made"];
        host.ok(fixed.iter().chain(flags).chain(&[url]).copied())
    };
    build(&[], &url);
    assert_eq!(says(&host, "ls -A /all"), "Dockerfile\nsub");
    let first = id(&host);
    build(&["--no-cache"], &format!("{url}#main"));
    assert_eq!(id(&host), first, "the same commit is the same image");
    build(&["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"], &url);
    assert_eq!(says(&host, "ls -A /all"), ".git\nDockerfile\nsub");
    build(&[], &format!("{url}#refs/heads/main:sub"));
    assert_eq!(says(&host, "ls -A /all"), "a\nother");
    build(&["-f", "other"], &format!("{url}?subdir=sub"));
    let commit = all.git("boat", &["rev-parse", "HEAD"]);
    build(&[], &format!("{url}?branch=main&checksum={}&keep-git-dir=true", &commit[..12]));
    assert_eq!(says(&host, "ls -A /all"), ".git\nDockerfile\nsub");
    build(&[], &format!("{url}?commit={commit}&fetch-by-commit"));
    assert_eq!(id(&host), first, "the same commit is the same image");
    for (query, words) in [("checksum=00000000", "expected checksum to match"), ("x=1", "unexpected query")] {
        let output = host.run(["build", &format!("{url}?{query}")]);
        assert!(output.code() == Some(1) && output.stderr().contains(words), "{output}");
    }
    build(&["-f", "other"], &format!("{url}#:sub"));
    assert_eq!(says(&host, "cat /other"), "a");
    let output = host.run(["build", &format!("{url}#main:none")]);
    assert!(output.stderr().contains("open the directory none"), "{output}");
    host.assert_tidy();
}

#[test]
fn a_hostile_repository_runs_nothing() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(all) = Repositories::new(host.dir().join("git")) else { return };
    let mark = host.dir().join("mark");
    let touch = format!("touch {}", mark.display());
    all.commit("part", &[("inner", "x")]);
    let part = all.git("part", &["rev-parse", "HEAD"]);
    let remote = |url: &str| format!("[submodule \"part\"]\n\tpath = part\n\turl = {url}\n");
    let local = format!("file://{}", all.path("part").display());
    for (name, url) in [
        ("ext", format!("ext::sh -c {}", touch.replace(' ', "% "))),
        ("file", local),
        ("path", all.path("part").display().to_string()),
        ("option", format!("-u{touch}")),
        ("update", format!("../part.git\n\tupdate = !{touch}")),
    ] {
        all.git(name, &["init", "-q", "-b", "main"]);
        all.git(name, &["update-index", "--add", "--cacheinfo", &format!("160000,{part},part")]);
        fs::write(all.path(name).join(".gitmodules"), remote(&url)).expect("write .gitmodules");
        all.git(name, &["add", ".gitmodules"]);
        all.git(name, &["commit", "-q", "-m", "harm"]);
    }
    let plain = [
        ("x", "text"),
        (".gitattributes", "* filter=evil diff=evil\n"),
        ("hooks/post-checkout", "#!/bin/sh\nexit 1\n"),
    ];
    all.commit("plain", &plain);
    symlink("/etc", all.path("plain").join("out")).expect("make a link");
    all.commit("plain", &[]);
    let front = all.serve(|_| None);
    // Nor does what the user's configuration says.
    let config = format!(
        "[core]\n\tsshCommand = {touch}\n\tfsmonitor = {touch}\n\thooksPath = {hooks}\n[filter \"evil\"]\n\tsmudge = {touch}\n\
         [credential]\n\thelper = \"!{touch}\"\n[url \"ext::{touch}\"]\n\tinsteadOf = http://\n[protocol]\n\tallow = always\n",
        hooks = host.dir().join("hooks").display()
    );
    let config = host.file("home/.gitconfig", config);
    let hook = host.file("hooks/post-checkout", format!("#!/bin/sh\n{touch}\n"));
    fs::set_permissions(hook, PermissionsExt::from_mode(0o755)).expect("chmod");
    let run = |dockerfile: &str| {
        let dir = host.file("context/Dockerfile", dockerfile);
        let dir = dir.parent().and_then(|dir| dir.to_str()).expect("UTF-8");
        let command = host.dhow(["build", "--network", "none", "-t", "made", dir]);
        command
            .env("HOME", host.dir().join("home").to_str().expect("UTF-8"))
            .env("GIT_CONFIG_GLOBAL", config.to_str().expect("UTF-8"))
            .env("GIT_ALLOW_PROTOCOL", "ext:file:http")
            .env("GIT_SSH_COMMAND", &touch)
            .env("GIT_ASKPASS", &touch)
            .run()
    };
    let from = |name: &str| format!("FROM busybox\nADD http://{}/{name}.git /x\n", front.address);
    run(&from("plain")).ok();
    assert_eq!(says(&host, "cat /x/x; readlink /x/out"), "text\n/etc".replace("text\n", "text"));
    for name in ["ext", "file", "path", "option", "update"] {
        let output = run(&from(name));
        assert_eq!(output.code(), Some(1), "{name}: {output}");
    }
    let output = run(&format!("FROM busybox\nADD http://{}/plain.git#main:out /x\n", front.address));
    assert!(output.code() == Some(1) && output.stderr().contains("open the directory out"), "{output}");
    for text in ["ADD ext::sh /x", "ADD file:///etc/x.git /x", "ADD git@127.0.0.1:x /x", "ADD ssh://127.0.0.1:1/x /x"] {
        let output = run(&format!("FROM busybox\n{text}\n"));
        assert_eq!(output.code(), Some(1), "{text}: {output}");
    }
    assert!(!mark.exists(), "something was run");
    host.assert_tidy();
}

#[test]
fn who_opens_a_repository_is_not_told() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(all) = Repositories::new(host.dir().join("git")) else { return };
    all.commit("boat", &[("a", "opened")]);
    let seen = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&seen);
    let basic = |pair: &str| format!("basic {}", crate::fixture::base64(pair.as_bytes()));
    let known = [basic("sailor:op3n-sesame"), basic("x-access-token:op3n-sesame"), "bearer op3n-sesame".to_owned()];
    let front = all.serve(move |asked| {
        // What everybody sees of us meanwhile.
        for pid in fs::read_dir("/proc").expect("list /proc").flatten() {
            let line = fs::read(pid.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("op3n") || line.contains("b3Azb") {
                told.lock().expect("not broken").push_str(&line);
            }
        }
        let open = asked.header("authorization").is_some_and(|value| known.iter().any(|known| known == value));
        match open {
            true => None,
            false => Some(Say::new(401, "no").with("WWW-Authenticate", "Basic realm=\"sea\"")),
        }
    });
    let boat = format!("{}/boat.git", front.address);
    let token = host.file("token", "op3n-sesame");
    let header = host.file("header", "bearer op3n-sesame");
    let host_of = front.address.as_str();
    for (url, secret) in [
        (format!("http://sailor:op3n-sesame@{boat}"), None),
        (format!("http://{boat}"), Some(format!("id=GIT_AUTH_TOKEN,src={}", token.display()))),
        (format!("http://{boat}"), Some(format!("id=GIT_AUTH_HEADER.{host_of},src={}", header.display()))),
    ] {
        let flags: Vec<&str> = secret.iter().flat_map(|secret| ["--secret", secret.as_str()]).collect();
        let flags: Vec<&str> = ["--no-cache"].into_iter().chain(flags).collect();
        let output = build(&host, &format!("FROM busybox\nADD --keep-git-dir=true {url} /x\n"), &flags);
        assert!(output.code() == Some(0) && !output.stderr().contains("op3n"), "{output}");
        assert_eq!(says(&host, "cat /x/a; grep -r op3n /x; true"), "opened");
        let told = host.ok(["history", "--no-trunc", "made"]) + &host.inspect("made", "").to_string();
        assert!(!told.contains("op3n"), "{told}");
    }
    let output = build(&host, &format!("FROM busybox\nADD http://{boat} /x\n"), &[]);
    assert!(output.code() == Some(1) && output.stderr().contains("could not read Username"), "{output}");
    let output = build(&host, &format!("FROM busybox\nADD http://sailor:op3n-wrong@{boat} /x\n"), &[]);
    assert!(output.code() == Some(1) && !output.stderr().contains("op3n"), "{output}");
    assert_eq!(*seen.lock().expect("not broken"), "");
    host.assert_tidy();
}

#[test]
fn downloads_keep_their_time_and_are_not_read_twice() {
    let Some(host) = Host::with_busybox() else { return };
    let said = Arc::new(Mutex::new(("\"one\"", "first")));
    let saying = Arc::clone(&said);
    let front = Front::alone(move |_| {
        let (tag, text) = *saying.lock().expect("not broken");
        let say = Say::new(200, text).with("ETag", tag);
        if tag == "\"bare\"" { say } else { say.with("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT") }
    });
    let url = format!("http://sailor:op3n-sesame@{}/file", front.address);
    let text = format!("FROM busybox\nADD {url} /\nADD --chmod=755 {url} /other/\n");
    let is = |expected: &str| assert_eq!(says(&host, "cat /file; stat -c ' %Y' /file /other/file"), expected);
    let say = |tag, text| *said.lock().expect("not broken") = (tag, text);
    let built = build(&host, &text, &[]);
    assert!(built.code() == Some(0) && !built.stderr().contains("op3n"), "{built}");
    assert!(!host.ok(["history", "--no-trunc", "made"]).contains("op3n"));
    is("first 784111777\n 784111777");
    // What would be read is something else: nothing is read of a file with the same ETag.
    say("\"one\"", "lying");
    assert_eq!(build(&host, &text, &[]).stderr().matches("CACHED").count(), 2);
    is("first 784111777\n 784111777");
    // Unless it is asked for, or needed for another step.
    build(&host, &format!("{text}ADD {url} /third/\n"), &[]).ok();
    assert_eq!(says(&host, "cat /file /third/file"), "firstlying");
    build(&host, &text, &["--no-cache"]).ok();
    is("lying 784111777\n 784111777");
    say("\"two\"", "second");
    build(&host, &text, &[]).ok();
    is("second 784111777\n 784111777");
    // A weak one says nothing of bytes.
    say("W/\"weak\"", "third");
    build(&host, &text, &[]).ok();
    say("W/\"weak\"", "fourth");
    build(&host, &text, &[]).ok();
    is("fourth 784111777\n 784111777");
    host.assert_tidy();
}

/// An agent that answers to each message with the next type; what it was asked.
fn agent(host: &Host) -> (String, Arc<Mutex<Vec<u8>>>) {
    let path = host.dir().join("agent");
    let listener = UnixListener::bind(&path).expect("listen");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut message = [0; 5];
            while client.read_exact(&mut message).is_ok() {
                seen.lock().expect("not broken").push(message[4]);
                let _ = client.write_all(&[0, 0, 0, 1, message[4] + 1]);
            }
        }
    });
    (path.to_str().expect("UTF-8").to_owned(), asked)
}

#[test]
fn an_agent_is_there_for_one_command() {
    let Some(host) = Host::with_probe() else { return };
    let (socket, asked) = agent(&host);
    let text = "FROM busybox\nRUN --mount=type=ssh probe agent $SSH_AUTH_SOCK 11 13 19 > /said; echo $SSH_AUTH_SOCK >> /said; \
                stat -c '%F %a %u:%g' $SSH_AUTH_SOCK >> /said\n\
                RUN --mount=type=ssh,id=other,target=/s,uid=5,gid=6,mode=660 stat -c '%a %u:%g' /s > /other; echo $SSH_AUTH_SOCK >> /other\n\
                RUN --mount=type=ssh,id=absent echo none $SSH_AUTH_SOCK > /none\nRUN ls -A /run > /left; echo $SSH_AUTH_SOCK >> /left\n";
    if host.has_daemon() {
        let output = build(&host, text, &["--ssh", &format!("default={socket}")]);
        assert!(output.code() == Some(1) && output.stderr().contains("Docker's classic API has no way"), "{output}");
        let output = build(&host, "FROM busybox\nRUN --mount=type=ssh,required true\n", &[]);
        assert!(output.stderr().contains("no SSH key \"default\" forwarded from the client"), "{output}");
        return;
    }
    build(&host, text, &["--ssh", &format!("default={socket}"), "--ssh", &format!("other={socket}")]).ok();
    assert_eq!(
        says(&host, "cat /said /other /none /left"),
        "12\n14\n5\n/run/buildkit/ssh_agent.0\nsocket 600 0:0\n660 5:6\n/s\nnone\n"
    );
    assert_eq!(says(&host, "ls -d /run/buildkit /s 2>/dev/null; true"), "");
    assert_eq!(*asked.lock().expect("not broken"), [11, 13]);
    // The variable names the agent where none is named; without one, what need not be had is not there.
    let dir = host.dir().join("context");
    let dir = dir.to_str().expect("UTF-8");
    let with = |flags: &[&str]| {
        let fixed = ["build", "--no-cache", "--network", "none", "-t", "made"];
        host.dhow(fixed.iter().chain(flags).chain(&[dir]).copied())
    };
    with(&["--ssh", "default"]).env("SSH_AUTH_SOCK", &socket).ok();
    assert_eq!(says(&host, "cat /none; ls -A /run 2>/dev/null; true"), "none");
    let key = host.file("key", "-----BEGIN OPENSSH PRIVATE KEY-----");
    if crate::fixture::need("ssh-keygen").is_some() {
        let made = host.dir().join("made-key").display().to_string();
        crate::fixture::tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", made.as_str()]);
        with(&["--ssh", &format!("default={made}")]).ok();
        assert_eq!(says(&host, "head -n 1 /said; cat /none"), "12\nnone", "it tells of its keys");
    }
    for (flag, told) in [
        ("default".to_owned(), "make sure SSH_AUTH_SOCK is set"),
        (format!("default={}", key.display()), "it is no private key"),
        ("x=/nowhere".to_owned(), "the key /nowhere: open it: no such file"),
    ] {
        let text = with(&["--ssh", &flag]).refused(1);
        assert!(text.contains(told), "{text}");
    }
    build(&host, "FROM busybox\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n", &[]).ok();
    let output = build(&host, "FROM busybox\nRUN --mount=type=ssh,required true\n", &[]);
    assert!(output.stderr().contains("no SSH key \"default\" forwarded from the client"), "{output}");
    host.assert_tidy();
}
