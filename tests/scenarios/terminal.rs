//! A person at a terminal: raw mode and back, keys, sizes, detaching.

use crate::fixture::{Host, Terminal, eventually, tool};

fn shell(host: &Host, flags: &[&str]) -> Terminal {
    let fixed = ["run", "-it", "--network", "none"];
    Terminal::start(host.dhow(fixed.iter().chain(flags).chain(&["busybox", "sh"]).copied()))
}

#[test]
fn a_shell_on_a_terminal() {
    let Some(host) = Host::with_busybox() else { return };
    let mut terminal = shell(&host, &["--rm"]);
    let before = Terminal::start(crate::fixture::Command::new("true", [""])).settings();
    terminal.send("tty; stty size; echo $TERM\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("24 80");
    terminal.expect("xterm");
    terminal.resize(101, 37);
    // The keys may be quicker.
    terminal.send("until stty size | grep 37; do sleep 0.1; done\n");
    terminal.expect("37 101");
    terminal.send("exit 9\n");
    assert_eq!(terminal.end().code(), Some(9), "{}", terminal.screen_text());
    assert_eq!(terminal.settings().local_flags, before.local_flags, "the terminal is as it was");
}

#[test]
fn keys_go_to_the_container() {
    let Some(host) = Host::with_busybox() else { return };
    let mut terminal = shell(&host, &["--rm"]);
    // Until the shell asks, keys are still those of our own terminal.
    terminal.expect("# ");
    // What is typed before that may be the shell's own.
    terminal.send("echo re$((1))ady; cat\n");
    terminal.expect("re1ady");
    // As it is typed, and as cat says it.
    terminal.send("line\n");
    terminal.expect("line");
    terminal.expect("line");
    // Interrupts cat, not the command.
    terminal.send([3]);
    terminal.expect("# ");
    terminal.send("echo still $((40 + 2))\n");
    terminal.expect("still 42");
    // The end of input ends the shell, which reads its keys by itself from its prompt on.
    terminal.expect("# ");
    terminal.send([4]);
    terminal.end();
}

#[test]
fn detaching_leaves_it_running() {
    let Some(host) = Host::with_busybox() else { return };
    let mut terminal = shell(&host, &["--name", "left"]);
    terminal.send("echo be$((1 + 1))fore\n");
    terminal.expect("be2fore");
    terminal.send([16, 17]);
    assert_eq!(terminal.end().code(), Some(0), "{}", terminal.screen_text());
    assert_eq!(host.inspect("left", "/State/Running"), true);
    let mut terminal = Terminal::start(host.dhow(["attach", "left"]));
    terminal.send("echo af$((1 + 1))ter\n");
    terminal.expect("af2ter");
    terminal.send("exit 5\n");
    assert_eq!(terminal.end().code(), Some(5));
    let mut terminal = shell(&host, &["--name", "other", "--detach-keys", "ctrl-x,x"]);
    terminal.send("echo he$((1 + 1))re\n");
    terminal.expect("he2re");
    terminal.send([24, b'x']);
    assert_eq!(terminal.end().code(), Some(0));
    assert_eq!(host.inspect("other", "/State/Running"), true);
}

#[test]
fn the_terminal_is_restored_however_the_command_ends() {
    let Some(host) = Host::with_busybox() else { return };
    let mut terminal = shell(&host, &["--name", "ends"]);
    terminal.expect("#");
    let raw = terminal.settings().local_flags;
    assert!(!raw.contains(nix::sys::termios::LocalFlags::ICANON), "raw while it runs");
    host.ok(["kill", "ends"]);
    assert_eq!(terminal.end().code(), Some(137));
    assert!(terminal.settings().local_flags.contains(nix::sys::termios::LocalFlags::ICANON), "cooked after");

    let mut terminal = shell(&host, &["--name", "term"]);
    terminal.expect("#");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(terminal.pid()), nix::sys::signal::Signal::SIGTERM)
        .expect("kill");
    host.run(["kill", "term"]);
    terminal.end();
    assert!(terminal.settings().local_flags.contains(nix::sys::termios::LocalFlags::ICANON), "cooked after");

    // Where none is for the container, each of them ends the command.
    host.detached(&["--name", "rare"], &["sleep", "1000"]);
    for signal in ["HUP", "QUIT", "USR1", "ALRM", "IO", "XCPU", "ABRT", "34", "64"] {
        let mut terminal = Terminal::start(host.dhow(["exec", "-it", "rare", "sh"]));
        terminal.expect("#");
        assert!(!terminal.settings().local_flags.contains(nix::sys::termios::LocalFlags::ICANON), "raw while it runs");
        tool("sh", ["-c", &format!("kill -{signal} {}", terminal.pid())]);
        let ended = terminal.end();
        assert!(std::os::unix::process::ExitStatusExt::signal(&ended).is_some(), "{signal}: {ended}");
        assert!(
            terminal.settings().local_flags.contains(nix::sys::termios::LocalFlags::ICANON),
            "cooked after {signal}"
        );
    }
}

#[test]
fn no_byte_is_lost_at_the_end() {
    let Some(host) = Host::with_busybox() else { return };
    for _ in 0..10 {
        let fixed = ["run", "--rm", "-t", "--network", "none", "busybox", "sh", "-c"];
        let line = "seq 1 5000; echo the end";
        let output = Terminal::start(host.dhow(fixed.iter().chain(&[line]).copied())).finish();
        let text = output.stdout().replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5001, "{}", lines.last().unwrap_or(&""));
        assert_eq!(lines.last(), Some(&"the end"));
    }
}

#[test]
fn interactive_needs_a_terminal() {
    let Some(host) = Host::with_busybox() else { return };
    let text = host.busybox(&["-it"], &["true"]).run();
    assert_eq!(text.code(), Some(1), "{text}");
    assert!(text.stderr().contains("the input device is not a TTY"), "{text}");
}

#[test]
fn signals_are_passed_on() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "trap 'echo got TERM; exit 12' TERM; echo up; while :; do sleep 0.02; done";
    let running = host.dhow(["run", "--network", "none", "--name", "hears", "busybox", "sh", "-c", line]).spawn();
    eventually("it is up", || host.run(["logs", "hears"]).stdout() == "up");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let output = running.wait();
    assert_eq!((output.code(), output.stdout().as_str()), (Some(12), "up\ngot TERM"), "{output}");
}

#[test]
fn real_time_signals_are_passed_on() {
    let Some(host) = Host::with_busybox() else { return };
    let line = |number: i32| {
        format!("trap 'echo got {number}; exit {number}' {number}; echo up; while :; do sleep 0.02; done")
    };
    for (number, flags) in
        [(34, &["--name", "first"][..]), (64, &["--name", "last"]), (37, &["--name", "init", "--init"])]
    {
        let fixed = ["run", "--network", "none"];
        let line = line(number);
        let running = host.dhow(fixed.iter().chain(flags).chain(&["busybox", "sh", "-c", &line]).copied()).spawn();
        eventually("it is up", || host.run(["logs", flags[1]]).stdout() == "up");
        tool("sh", ["-c", &format!("kill -{number} {}", running.pid())]);
        let output = running.wait();
        assert_eq!((output.code(), output.stdout()), (Some(number), format!("up\ngot {number}")), "{output}");
    }
    for (name, number) in [("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("64", 64)] {
        let id = host.detached(&[], &["sh", "-c", &line(number)]);
        eventually("it is up", || host.ok(["logs", &id]) == "up");
        host.ok(["kill", "-s", name, &id]);
        assert_eq!(host.ok(["wait", &id]), number.to_string(), "{name}");
    }
    let id = host.detached(&["--stop-signal", "RTMIN+3"], &["sh", "-c", &line(37)]);
    eventually("it is up", || host.ok(["logs", &id]) == "up");
    host.ok(["stop", "-t", "60", &id]);
    assert_eq!(host.ok(["wait", &id]), "37");
}

#[test]
fn a_process_may_end_by_a_real_time_signal() {
    let Some(host) = Host::with_busybox() else { return };
    assert_eq!(host.busybox(&["--init"], &["sh", "-c", "kill -40 $$"]).run().code(), Some(168));
    let id = host.detached(&[], &["sleep", "1000"]);
    assert_eq!(host.run(["exec", &id, "sh", "-c", "kill -34 $$"]).code(), Some(162));
    assert_eq!(host.inspect(&id, "/State/Running"), true);
}
