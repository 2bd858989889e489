//! What nobody is told: secrets are looked for wherever somebody else could see them.

use crate::fixture::{Command, Host, Login, Registry};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Reads the arguments of all processes of a host, over and over.
struct Watch {
    end: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Watch {
    fn start(host: &Host, secrets: &[String]) -> Watch {
        let end = Arc::new(AtomicBool::new(false));
        let (over, root, secrets) = (Arc::clone(&end), host.dir().display().to_string(), secrets.to_vec());
        let thread = std::thread::spawn(move || {
            let (mut count, mut found) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                for pid in fs::read_dir("/proc").expect("list /proc").flatten().map(|entry| entry.path()) {
                    let text = |name: &str| {
                        String::from_utf8_lossy(&fs::read(pid.join(name)).unwrap_or_default()).replace('\0', " ")
                    };
                    let line = text("cmdline");
                    if !line.contains(&root) && !text("environ").contains(&root) {
                        continue;
                    }
                    count += 1;
                    if secrets.iter().any(|secret| line.contains(secret)) {
                        found.push(line);
                    }
                }
            }
            (count, found)
        });
        Watch { end, thread }
    }

    fn end(self) {
        self.end.store(true, Ordering::Relaxed);
        let (count, found) = self.thread.join().expect("the watch ended");
        assert!(count > 0, "no process of the host was seen");
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn secrets_are_told_to_nobody() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(registry) = Registry::start(false, Some(Login::SAILOR)) else { return };
    let (server, password) = (registry.host(), Login::SAILOR.password);
    let pair = crate::fixture::base64(format!("sailor:{password}").as_bytes());
    let (file, variable) = ("in-a-file-8c1f", "in-a-variable-77e0");
    let plain = [password, "not-the-password-3b", &pair, file, variable];
    let of =
        |text: &&str| [(*text).to_owned(), crate::fixture::base64(text.as_bytes()).trim_end_matches('=').to_owned()];
    let secrets: Vec<String> = plain.iter().flat_map(of).collect();
    let watch = Watch::start(&host, &secrets);
    let mut said = String::new();
    let mut run = |command: Command, good: bool| {
        let output = command.run();
        assert_eq!(output.code() == Some(0), good, "{output}");
        said += &format!("{}{}", output.stdout(), output.stderr());
    };
    let login = |word: &str| {
        host.dhow(["--debug", "login", "-u", "sailor", "--password-stdin", &server]).input(word.to_owned())
    };
    run(login("not-the-password-3b"), false);
    run(login(password), true);
    let Some(base) = registry.busybox() else { return };
    let name = registry.name("secrets/made:v1");
    run(host.dhow(["--debug", "pull", &base]), true);
    run(host.dhow(["--debug", "rmi", &base]), true);
    let secret = host.file("outside/secret", file);
    let text = format!(
        "FROM {base} AS base\nFROM busybox\nCOPY --from=base /bin/busybox /copied\n\
         RUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=V test -s /run/secrets/file && test -n \"$V\"\n\
         RUN --mount=type=secret,id=file false\n"
    );
    let dir = host.file("context/Dockerfile", &text);
    let dir = dir.parent().and_then(|dir| dir.to_str()).expect("UTF-8");
    let source = format!("id=file,src={}", secret.display());
    let build = |flags: &[&str]| {
        let fixed = ["--debug", "build", "--network", "none", "-t", &name, "--secret", &source];
        let more = ["--secret", "id=variable,env=V"];
        host.dhow(fixed.iter().chain(&more).chain(flags).chain(&[dir]).copied()).env("V", variable)
    };
    run(build(&[]), false);
    host.file("context/Dockerfile", text.rsplit_once("RUN").expect("two commands").0);
    run(build(&["--no-cache"]), true);
    run(host.dhow(["--debug", "push", &name]), true);
    run(host.dhow(["--debug", "logout", &server]), true);
    run(host.dhow(["--debug", "push", &name]), false);
    watch.end();
    for line in [vec!["inspect", &name], vec!["history", "--no-trunc", &name], vec!["system", "df", "-v"], vec!["info"]]
    {
        said += &host.ok(line);
    }
    said += &host.ok(["events", "--since", "0", "--until", "0s"]);
    // What the host's folders hold besides where the user keeps it: the store, logs of a daemon, the run directory.
    fs::remove_dir_all(host.dir().join("outside")).expect("remove the secret");
    let folder = host.dir().to_str().expect("UTF-8").to_owned();
    for secret in &secrets {
        assert!(!said.contains(secret), "{secret} in {said}");
        let files = Command::new("grep", ["-rlaF", "--exclude-dir=.docker", secret, &folder]).run();
        let files: Vec<PathBuf> = files.stdout().lines().map(PathBuf::from).collect();
        assert_eq!(files, Vec::<PathBuf>::new(), "{secret}");
    }
}
