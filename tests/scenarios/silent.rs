//! A file system that does not answer, of a program that hangs or a server that is gone: only those wait who want something
//! of it.

use crate::fixture::{Command, Host, Running, Silent, eventually};

const SURVIVED: &str = "tried to kill container, but did not receive an exit event";

/// Containers of which `held` has such a file system, and one process in it that waits for ever.
struct Held {
    host: Host,
    busy: Vec<Running>,
    // Dropped first, with all waiting.
    files: Option<Silent>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.files = None;
        self.busy.clear();
    }
}

impl Held {
    fn new() -> Option<Held> {
        let host = Host::with_busybox()?;
        let files = Silent::mount(&host.dir().join("files"))?;
        let volume = format!("{}:/f", host.dir().join("files").display());
        host.detached(&["--name", "held", "-v", &volume], &["sleep", "1000"]);
        host.detached(&["--name", "other"], &["sleep", "1000"]);
        host.ok(["create", "--name", "idle", "--network", "none", "-v", &volume, "busybox", "true"]);
        assert_eq!(host.ok(["exec", "held", "cat", "/f/text"]), "text");
        files.fall_silent();
        let mut held = Held { host, busy: Vec::new(), files: Some(files) };
        held.waits(&["exec", "held", "cat", "/f/text"]);
        Some(held)
    }

    /// Starts what waits for the file system.
    fn waits(&mut self, args: &[&str]) {
        let files = self.files.as_ref().expect("it is mounted");
        let before = files.left();
        self.busy.push(self.host.dhow(args.iter().copied()).spawn());
        eventually(&format!("{args:?} asks"), || files.left() > before);
    }

    /// Whatever does not want anything of it goes on.
    fn others_go_on(&self) {
        let host = &self.host;
        for args in [
            &["ps", "-a", "-s"][..],
            &["stats", "--no-stream"],
            &["system", "df", "-v"],
            &["info"],
            &["network", "inspect", "none"],
            &["inspect", "--size", "--type", "container", "held"],
            &["diff", "held"],
            &["logs", "held"],
            &["exec", "other", "true"],
            &["cp", "other:/etc/passwd", "-"],
            &["run", "--rm", "--network", "none", "busybox", "true"],
            &["create", "--name", "made", "--network", "none", "busybox", "true"],
            &["rm", "made"],
            &["restart", "-t", "0", "other"],
            &["volume", "prune", "-f"],
            &["image", "prune", "-f"],
            &["builder", "prune", "-f"],
        ] {
            host.ok(args.iter().copied());
        }
    }
}

#[test]
fn who_waits_for_files_holds_up_nobody_else() {
    let Some(mut held) = Held::new() else { return };
    let volume = format!("{}:/f", held.host.dir().join("files/text").display());
    held.waits(&["cp", "held:/f/text", "-"]);
    held.waits(&["cp", "idle:/etc/passwd", "-"]);
    held.waits(&["create", "--name", "new", "--network", "none", "-v", &volume, "busybox", "true"]);
    held.others_go_on();
    let host = &held.host;
    assert_eq!(host.inspect("held", "/State/Status"), "running");
    host.ok(["exec", "held", "true"]);
    host.ok(["cp", "held:/etc/passwd", "-"]);
    host.ok(["top", "held"]);
    host.ok(["commit", "--pause=false", "held", "kept"]);
    host.ok(["container", "prune", "-f"]);
    // Where it answers no more, nobody waits.
    held.files = None;
    held.busy.clear();
    held.host.ok(["rm", "-f", "held"]);
}

/// What waits for files in the kernel does not die of a signal.
#[test]
fn what_cannot_be_killed_is_said() {
    let Some(mut held) = Held::new() else { return };
    let refused = |args: &[&str]| held.host.dhow(args.iter().copied()).spawn();
    let asked = [&["kill", "held"][..], &["stop", "-t", "0", "held"], &["rm", "-f", "held"]].map(refused);
    for one in asked {
        let output = one.wait();
        assert!(output.code() == Some(1) && output.stderr().contains(SURVIVED), "{output}");
    }
    held.others_go_on();
    held.files = None;
    eventually("it ends", || held.host.inspect("held", "/State/Status") == "exited");
}

#[test]
fn one_without_a_shim_that_cannot_be_killed_holds_up_nobody_else() {
    let Some(mut held) = Held::new() else { return };
    let shim = held.host.shim("held");
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).expect("kill the shim");
    held.others_go_on();
    let host = &held.host;
    let listed = host.ok(["ps", "--filter", "name=held", "--format", "{{.State}} {{.Status}}"]);
    assert!(listed.starts_with("running Up "), "{listed}");
    assert_eq!(host.inspect("held", "/State/Running"), true);
    for args in
        [&["rm", "-f", "held"][..], &["stop", "held"], &["start", "held"], &["restart", "held"], &["wait", "held"]]
    {
        let text = host.refused(1, args.iter().copied());
        assert!(text.contains(SURVIVED), "{text}");
    }
    let text = host.refused(1, ["exec", "held", "true"]);
    assert!(text.contains("is not running"), "{text}");
    held.files = None;
    eventually("it ends", || held.host.inspect("held", "/State/Status") == "exited");
    assert_eq!(held.host.inspect("held", "/State/ExitCode"), 137);
    held.host.ok(["rm", "held"]);
}

/// A file system that takes no map of ids.
#[test]
fn files_of_a_program_keep_their_ids_and_no_volume_is_made_of_them() {
    let Some(host) = Host::with_busybox() else { return };
    crate::fixture::accounts(&host, "dockremap", 987, Some(300_000));
    let config = host.file("daemon.json", r#"{"userns-remap": "default"}"#).display().to_string();
    let run = |volume: &str| -> Command {
        let fixed = ["--config", &config, "run", "--rm", "--network", "none", "-v", volume, "busybox"];
        host.local(fixed.into_iter().chain(["sh", "-c", "cat /v/text /v/deep/text 2>/dev/null; stat -c %u /v"]))
    };
    host.ok(["volume", "create", "data"]);
    let data = host.root().join("volumes/data/_data");
    let Some(files) = Silent::mount(&data) else { return };
    let text = run("data:/v").refused(125);
    assert!(text.contains(&format!("bind {}: its file system takes no map of ids", data.display())), "{text}");
    // What is the host's has none.
    assert_eq!(run(&format!("{}:/v", data.display())).ok(), "text\n65534");
    drop(files);
    let Some(files) = Silent::mount(&data.join("deep")) else { return };
    assert_eq!(run("data:/v").ok(), "text\n0", "the volume itself has one");
    drop(files);
    assert_eq!(host.ok(["ps", "-aq"]), "");
}
