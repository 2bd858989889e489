//! What the command line says before any container is touched.

use crate::fixture::{Command, Host};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn help_names_every_command() {
    let host = Host::anyone();
    let help = host.ok(["--help"]);
    for command in ["run", "pull", "ps", "images", "exec", "logs", "volume", "image", "container", "rm", "rmi"] {
        assert!(help.split_whitespace().any(|word| word == command), "{command} is not in {help}");
    }
    assert!(!help.split_whitespace().any(|word| word == "shim"), "what is hidden stays so: {help}");
    let help_of_all = help;
    let help = host.ok(["run", "--help"]);
    for flag in ["--interactive", "--tty", "--detach", "--volume", "--cap-add", "--read-only"] {
        assert!(help.contains(flag), "{flag} is not in {help}");
    }
    assert_eq!(host.ok(["container", "run", "--help"]).lines().count(), help.lines().count());
    let words = help_of_all.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    for command in words.filter(|word| !word.starts_with('-')) {
        let help = host.ok([command, "--help"]);
        assert!(help.contains(&format!("Usage:  dhow {command}")), "{command}: {help}");
    }
}

#[test]
fn a_link_is_the_command_that_it_names() {
    let host = Host::anyone();
    let links = host.ok(["links"]);
    for link in ["drun", "dpull", "dps", "dexec", "dlogs"] {
        assert!(links.lines().any(|line| line == link), "{link} is not in {links}");
    }
    assert!(!links.lines().any(|line| matches!(line, "docker" | "dockerd" | "runc")), "{links}");
    for (link, same) in [("drun", vec!["run", "--help"]), ("dps", vec!["ps", "--help"])] {
        let path = host.dir().join(link);
        symlink(env!("CARGO_BIN_EXE_dhow"), &path).expect("link");
        let by_link = Command::new(path.to_str().expect("UTF-8"), ["--help"]).ok();
        let flags = |text: &str| text.lines().filter(|line| line.contains("--")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(flags(&by_link), flags(&host.ok(same)));
    }
}

#[test]
fn completions_know_the_table() {
    let host = Host::anyone();
    for shell in ["bash", "zsh", "fish"] {
        let text = host.ok(["completion", shell]);
        assert!(text.contains("rename") && text.contains("read-only"), "{shell}: {text}");
    }
    let script = host.file("completion.bash", host.ok(["completion", "bash"]));
    Command::new("bash", ["-n", script.to_str().expect("UTF-8")]).ok();
}

#[test]
fn flags_may_stand_together_and_after_equals() {
    let Some(host) = Host::with_busybox() else { return };
    assert_eq!(
        host.dhow(["run", "--rm=true", "-i", "--net=none", "-eA=B", "busybox", "sh", "-c", "echo $A"]).ok(),
        "B"
    );
    // What follows the image belongs to the command inside.
    assert_eq!(host.sh(&[], "echo --rm -it"), "--rm -it");
    assert_eq!(host.busybox(&[], &["echo", "--name", "x", "-e"]).ok(), "--name x -e");
    let id = host.ok(["run", "-itd", "--network", "none", "busybox", "cat"]);
    assert_eq!(host.inspect(&id, "/Config/Tty"), true);
    assert_eq!(host.inspect(&id, "/Config/OpenStdin"), true);
}

#[test]
fn the_file_runs_where_nothing_else_is() {
    if !cfg!(target_feature = "crt-static") {
        // A plain build for a target whose C library is shared; `make` never makes one.
        return;
    }
    let Some(host) = Host::new() else { return };
    let root = host.dir().join("empty");
    fs::create_dir(&root).expect("make a root");
    crate::fixture::copy_program(env!("CARGO_BIN_EXE_dhow"), &root.join("dhow"));
    Command::new("chroot", [root.to_str().expect("UTF-8"), "/dhow", "--help"]).ok();
    // There is no engine without /proc; what the client is, is told all the same.
    let output = Command::new("chroot", [root.to_str().expect("UTF-8"), "/dhow", "version"]).run();
    assert_eq!(
        (output.code(), output.stdout().lines().next().map(str::to_owned)),
        (Some(1), Some("Client:".to_owned()))
    );
    assert!(output.stderr().contains("/proc"), "{output}");
}

#[test]
fn everything_moves_with_root_and_run() {
    let Some(host) = Host::new() else { return };
    let (root, run) = (host.dir().join("other/root"), host.dir().join("other/run"));
    let args = ["--root", root.to_str().expect("UTF-8"), "--run", run.to_str().expect("UTF-8"), "images", "-q"];
    assert_eq!(host.ok(args), "");
    assert!(root.join("version").exists() && run.join("boot").exists());
    assert!(!host.root().exists() && !host.run_dir().exists(), "flags win over the environment");
}
