//! What flows between a command and its container: slow readers, readers that leave, signals that are kept.

use crate::fixture::{Command, Host, Terminal, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;

/// A line of bash in which `$D` is dhow with this host's store.
fn bash(host: &Host, line: &str) -> Command {
    Command::new("bash", ["-c", line])
        .env("D", env!("CARGO_BIN_EXE_dhow"))
        .env("DHOW_ROOT", host.root().to_str().expect("UTF-8"))
        .env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8"))
}

#[test]
fn a_slow_reader_gets_all() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "$D run --rm --network none busybox head -c 3000000 /dev/zero | (sleep 0.5; wc -c)";
    assert_eq!(bash(&host, line).ok(), "3000000");
}

#[test]
fn a_socket_is_written_to_like_a_pipe() {
    let Some(host) = Host::with_busybox() else { return };
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut command = host.busybox(&[], &["head", "-c", "2000000", "/dev/zero"]);
    let mut child = command.inner().stdout(OwnedFd::from(theirs)).spawn().expect("start it");
    // Our copy of their end goes with the command.
    drop(command);
    let mut bytes = Vec::new();
    ours.read_to_end(&mut bytes).expect("read it");
    assert!(child.wait().expect("wait for it").success());
    assert_eq!(bytes.len(), 2_000_000);
}

/// After a second the shim sheds what its start left in memory, by executing itself again.
#[test]
fn a_container_that_lives_on_is_served_as_before() {
    let Some(host) = Host::with_busybox() else { return };
    // The log is rotated before and after.
    let line = "(printf 'one\\nmore\\n'; sleep 1.8; echo two) | \
                $D run -i --name long --log-opt max-size=100 --log-opt max-file=9 --network none busybox cat";
    assert_eq!(bash(&host, line).ok(), "one\nmore\ntwo");
    assert_eq!(bash(&host, "$D logs long").ok(), "one\nmore\ntwo");
    let line = "$D run -d --name longer --network none busybox sh -c 'sleep 3; echo done; exit 3'; $D wait longer";
    assert!(bash(&host, line).ok().ends_with("\n3"));
    assert_eq!(bash(&host, "$D logs longer").ok(), "done");
}

#[test]
fn a_reader_that_leaves_ends_the_command_and_not_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "$D run --name endless --network none busybox yes | head -n 1; echo ${PIPESTATUS[0]}";
    // 128 and SIGPIPE, with nothing said.
    let output = bash(&host, line).run();
    assert_eq!((output.stdout().as_str(), output.stderr().as_str()), ("y\n141", ""), "{output}");
    assert_eq!(host.inspect("endless", "/State/Running"), true);
    let output = bash(&host, "$D ps --all --no-trunc | true; echo ${PIPESTATUS[0]}").run();
    assert_eq!(output.stderr(), "", "{output}");
}

#[test]
fn signals_may_be_kept_from_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let args = [
        "run",
        "--name",
        "deaf",
        "--network",
        "none",
        "--sig-proxy=false",
        "busybox",
        "sh",
        "-c",
        "echo up; sleep 1000",
    ];
    let running = host.dhow(args).spawn();
    eventually("it is up", || host.run(["logs", "deaf"]).stdout() == "up");
    running.signal(Signal::SIGTERM);
    let output = running.wait();
    assert_eq!(output.status.signal(), Some(Signal::SIGTERM as i32), "{output}");
    assert_eq!(host.inspect("deaf", "/State/Running"), true);
}

#[test]
fn who_insists_gets_out() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "trap '' TERM INT; echo up; while :; do sleep 1; done";
    let mut running =
        host.dhow(["run", "--name", "stubborn", "--network", "none", "busybox", "sh", "-c", line]).spawn();
    eventually("it is up", || host.run(["logs", "stubborn"]).stdout() == "up");
    while !running.has_ended() {
        running.signal(Signal::SIGINT);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let output = running.wait();
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr().contains("forcefully"), "{output}");
    assert_eq!(host.inspect("stubborn", "/State/Running"), true);
}

#[test]
fn detach_keys_are_held_back_until_they_are_complete() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "stty -echo; echo re$((1 + 1))dy; exec cat -v";
    let args = ["run", "-it", "--name", "held", "--network", "none", "busybox", "sh", "-c", line];
    let mut terminal = Terminal::start(host.dhow(args));
    // Before this the keys are still those of our own terminal.
    terminal.expect("re2dy");
    // What only looks like them goes through.
    terminal.send("a\x10b\n");
    terminal.expect("a^Pb");
    terminal.send([16]);
    std::thread::sleep(std::time::Duration::from_millis(100));
    terminal.send([17]);
    terminal.expect("read escape sequence");
    assert_eq!(terminal.end().code(), Some(0));
    assert_eq!(host.inspect("held", "/State/Running"), true);
    let text = host.dhow(["run", "--detach-keys", "ctrl-é", "busybox"]).refused(1);
    assert!(text.contains("invalid detach keys"), "{text}");
}

#[test]
fn a_terminal_that_is_left_by_a_signal_is_as_before() {
    let Some(host) = Host::with_busybox() else { return };
    let args = ["run", "-it", "--name", "cut", "--network", "none", "--sig-proxy=false", "busybox", "sh"];
    let mut terminal = Terminal::start(host.dhow(args));
    terminal.send("echo r$((1 + 1))y\n");
    terminal.expect("r2y");
    kill(Pid::from_raw(terminal.pid()), Signal::SIGTERM).expect("signal it");
    assert_eq!(terminal.end().signal(), Some(Signal::SIGTERM as i32));
    let flags = terminal.settings().local_flags;
    assert!(flags.contains(nix::sys::termios::LocalFlags::ICANON | nix::sys::termios::LocalFlags::ECHO), "{flags:?}");
    assert_eq!(host.inspect("cut", "/State/Running"), true);
}

#[test]
fn a_shell_stopped_and_continued_has_its_terminal_again() {
    let Some(host) = Host::with_busybox() else { return };
    let mut terminal = Terminal::start(host.dhow(["run", "-it", "--rm", "--network", "none", "busybox", "sh"]));
    terminal.send("echo r$((1 + 1))y\n");
    terminal.expect("r2y");
    let pid = Pid::from_raw(terminal.pid());
    kill(pid, Signal::SIGSTOP).expect("stop it");
    kill(pid, Signal::SIGCONT).expect("continue it");
    terminal.send("exit 4\n");
    assert_eq!(terminal.end().code(), Some(4));
}

#[test]
fn attaching_to_some_streams_only() {
    let Some(host) = Host::with_busybox() else { return };
    let run = |flags: &[&str]| {
        let output = host.busybox(flags, &["sh", "-c", "cat; echo out; echo err >&2"]).input("in").run();
        assert_eq!(output.code(), Some(0), "{output}");
        (output.stdout(), output.stderr())
    };
    assert_eq!(run(&["-a", "stdout"]), ("out".into(), String::new()));
    assert_eq!(run(&["-a", "stderr"]), (String::new(), "err".into()));
    assert_eq!(run(&["-i", "-a", "stdin", "-a", "stdout"]), ("inout".into(), String::new()));
}
