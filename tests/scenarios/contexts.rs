//! Contexts, in the store that the docker command keeps: what one writes the other reads.

use crate::fixture::{Command, Host, TcpDaemon, certificates, need};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A program with a home of its own.
struct Client<'a> {
    host: &'a Host,
    home: &'static str,
    docker: bool,
}

impl Client<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let home = self.host.dir().join(self.home);
        fs::create_dir_all(&home).expect("make a home");
        let mut command = match self.docker {
            true => Command::new("docker", args.iter().copied()),
            false => self.host.local(args.iter().copied()),
        };
        command.inner().current_dir(&home);
        command.env("HOME", home.to_str().expect("UTF-8"))
    }

    /// Code, stdout and stderr, with the home's name and our own word out of the way.
    fn says(&self, env: &[(&str, &str)], input: &[u8], args: &[&str]) -> (Option<i32>, String, String) {
        let command = env.iter().fold(self.command(args), |command, (name, value)| command.env(name, value));
        let output = command.input(input).run();
        let home = self.host.dir().join(self.home);
        let plain = |text: String| text.replace(home.to_str().expect("UTF-8"), "~");
        let stderr = plain(output.stderr());
        let lines = stderr.lines().map(|line| line.trim_start_matches("dhow: ").to_owned() + "\n");
        (output.code(), plain(output.stdout()), lines.collect())
    }
}

/// All that is below a directory: names, modes and contents. What is empty is left out, for docker leaves such.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let mode = fs::metadata(&path).expect("look").permissions().mode() & 0o777;
        let name = path.strip_prefix(dir).expect("below").display().to_string();
        let content = match path.is_dir() {
            true if fs::read_dir(&path).expect("list").next().is_none() => continue,
            true => {
                left.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("an entry").path()));
                String::new()
            }
            false => fs::read_to_string(&path).expect("read"),
        };
        found.push(format!("{name} {mode:o} {content}"));
    }
    found.sort();
    found
}

#[test]
fn each_line_does_as_the_docker_command_does() {
    let (Some(host), Some(()), Some(())) = (Some(Host::anyone()), need("docker"), need("openssl")) else { return };
    let certs = certificates(&host);
    let file = |name: &str| certs.join(name).to_str().expect("UTF-8").to_owned();
    let tls = format!("host=tcp://far:2376,ca={},cert={},key={}", file("ca.pem"), file("cert.pem"), file("key.pem"));
    let bad = format!("host=tcp://far,ca={}", file("nothing.pem"));
    let lines: &[&[&str]] = &[
        &["ls"],
        &["show"],
        &["inspect"],
        &["use", "default"],
        &["create", "far", "--docker", &tls, "--description", "one <thing>"],
        &["create", "far", "--docker", &tls],
        &["ls"],
        &["ls", "--format", "json"],
        &["ls", "--format", "{{.Name}}: {{.DockerEndpoint}}{{if .Current}}!{{end}}"],
        &["use", "far"],
        &["show"],
        &["ls"],
        &["ls", "-q"],
        &["inspect"],
        &["inspect", "far", "default", "nope"],
        &["inspect", "-f", "{{.Name}} {{.Endpoints.docker.Host}}", "far"],
        &["create", "copied"],
        &["create", "--from", "far", "described", "--description", "another"],
        &["create", "--from", "far", "both", "--docker", "host=tcp://x:1"],
        &["create", "--from", "nowhere", "both"],
        &["create", "from", "--docker", "from=far"],
        &["create", "split", "--docker", "host=tcp://x:1", "--docker", "skip-tls-verify=1"],
        &["create", "bare", "--docker", "host="],
        &["create", "wrong", "--docker", &bad],
        &["create", "wrong", "--docker", "colour=red,host=tcp://x:1"],
        &["create", "wrong", "--docker", "host=x"],
        &["create", "wrong", "--docker", "skip-tls-verify=perhaps"],
        &["create", ""],
        &["create", "x"],
        &["create", "a/b"],
        &["create", "default"],
        &["inspect", "copied", "described", "from", "split", "bare"],
        &["update", "split", "--description", "of two"],
        &["update", "described", "--docker", "host=tcp://y:1"],
        &["update", "nope", "--description", "d"],
        &["update", "default", "--description", "d"],
        &["inspect", "split", "described"],
        &["rm", "far"],
        &["rm", "default"],
        &["rm", "nope", "from", "nothing"],
        &["rm", "-f", "nope"],
        &["export", "far", "far.tar"],
        &["export", "far", "far.tar"],
        &["export", "far"],
        &["import", "near", "far.tar"],
        &["import", "near", "far.tar"],
        &["import", "default", "far.tar"],
        &["inspect", "near"],
        &["rm", "-f", "far"],
        &["use", "nope"],
        &["use", "x"],
        &["use", "near"],
        &["ls"],
    ];
    let (ours, theirs) =
        (Client { host: &host, home: "ours", docker: false }, Client { host: &host, home: "theirs", docker: true });
    for line in lines {
        let line = [&["context"], *line].concat();
        assert_eq!(ours.says(&[], b"", &line), theirs.says(&[], b"", &line), "{line:?}");
    }
    let dotted = |client: &Client| tree(&host.dir().join(client.home).join(".docker/contexts"));
    assert_eq!(dotted(&ours), dotted(&theirs));
    assert_eq!(
        fs::read_to_string(host.dir().join("ours/.docker/config.json")).expect("read"),
        fs::read_to_string(host.dir().join("theirs/.docker/config.json")).expect("read")
    );
    for (name, value, line) in [
        ("DOCKER_CONTEXT", "nope", &["context", "ls"][..]),
        ("DOCKER_CONTEXT", "split", &["context", "show"]),
        ("DOCKER_HOST", "tcp://z:1", &["context", "ls"]),
        ("DOCKER_HOST", "tcp://z:1", &["context", "show"]),
        ("DOCKER_HOST", "tcp://z:1", &["context", "use", "near"]),
        ("DOCKER_HOST", "tcp://z:1", &["context", "create", "zed"]),
        ("DOCKER_HOST", "tcp://z:1", &["context", "inspect", "zed", "default"]),
    ] {
        assert_eq!(ours.says(&[(name, value)], b"", line), theirs.says(&[(name, value)], b"", line), "{line:?}");
    }
    for line in [&["-H", "tcp://q:1", "context", "show"][..], &["--context", "split", "context", "show"]] {
        assert_eq!(ours.says(&[], b"", line), theirs.says(&[], b"", line), "{line:?}");
    }
}

#[test]
fn archives_go_from_one_program_to_the_other() {
    let (Some(host), Some(()), Some(())) = (Some(Host::anyone()), need("docker"), need("python3")) else { return };
    let (ours, theirs) =
        (Client { host: &host, home: "ours", docker: false }, Client { host: &host, home: "theirs", docker: true });
    let ca = host.file("ca.pem", "no certificate, as far as a store is concerned\n");
    let docker = format!("host=unix:///run/far.sock,ca={}", ca.display());
    for (from, to, way) in [(&ours, &theirs, "one"), (&theirs, &ours, "two")] {
        from.command(&["context", "create", way, "--docker", &docker, "--description", "far"]).ok();
        let tar = from.command(&["context", "export", way, "-"]).run().out;
        let (code, _, stderr) = to.says(&[], &tar, &["context", "import", way, "-"]);
        assert_eq!(code, Some(0), "{stderr}");
        let seen = |client: &Client| client.says(&[], b"", &["context", "inspect", way]);
        assert_eq!(seen(from), seen(to));
        let text = seen(to).1;
        assert!(text.contains("ca.pem") && text.contains("unix:///run/far.sock"), "{text}");
    }
    // And a zip, as somebody's own program makes it.
    let script = "import zipfile,sys\nz = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)\n\
                  z.writestr('meta.json', '{\"Name\":\"x\",\"Endpoints\":{\"docker\":{\"Host\":\"tcp://z:1\"}}}')\n\
                  z.writestr('tls/docker/key.pem', 'k' * 1000)\nz.close()\n";
    let zip = host.dir().join("context.zip");
    let zip = zip.to_str().expect("UTF-8");
    Command::new("python3", ["-c", script, zip]).ok();
    let line = ["context", "import", "zipped", zip];
    assert_eq!(ours.says(&[], b"", &line), theirs.says(&[], b"", &line));
    let line = ["context", "inspect", "zipped"];
    assert_eq!(ours.says(&[], b"", &line), theirs.says(&[], b"", &line));
    // What is no archive, or leads out of the store, is refused and leaves nothing.
    let before = tree(&host.dir().join("ours"));
    let (code, _, stderr) = ours.says(&[], b"zz", &["context", "import", "bad", "-"]);
    assert_eq!(code, Some(1), "{stderr}");
    let hostile =
        crate::fixture::Tar::new().file("meta.json", 0o644, "{}").file("tls/docker/../../x", 0o600, "x").end();
    let (code, _, stderr) = ours.says(&[], &hostile, &["context", "import", "bad", "-"]);
    assert!(code == Some(1) && stderr.contains("unexpected path format"), "{stderr}");
    assert_eq!(tree(&host.dir().join("ours")), before);
}

#[test]
fn a_context_with_keys_reaches_its_daemon() {
    let (Some(host), Some(()), Some(())) = (Host::new(), need("docker"), need("openssl")) else { return };
    let certs = certificates(&host);
    let file = |name: &str| certs.join(name).to_str().expect("UTF-8").to_owned();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let daemon = TcpDaemon::start(&host, &["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key]);
    let (ours, theirs) =
        (Client { host: &host, home: "home", docker: false }, Client { host: &host, home: "home", docker: true });
    for (maker, name) in [(&ours, "ours"), (&theirs, "theirs")] {
        let docker = format!("host={},ca={ca},cert={cert},key={key}", daemon.address());
        maker.command(&["context", "create", name, "--docker", &docker]).ok();
        for client in [&ours, &theirs] {
            let line = ["--context", name, "version", "--format", "{{.Server.Os}}"];
            assert_eq!(client.command(&line).ok(), "linux");
            client.command(&["context", "use", name]).ok();
            assert_eq!(client.command(&line[2..]).ok(), "linux");
        }
    }
    // Not with the wrong CA.
    let docker = format!("host={},ca={},cert={cert},key={key}", daemon.address(), file("other.pem"));
    ours.command(&["context", "create", "wrong", "--docker", &docker]).ok();
    let text = ours.command(&["--context", "wrong", "ps"]).refused(1);
    assert!(text.contains("certificate"), "{text}");
}
