//! A container in the foreground: what it sees, what it says, and how it ends.

use crate::fixture::{Command, Host, Image, Packing, Registry, Tar, Terminal, busybox_tar, eventually};
use std::fs;

#[test]
fn exit_codes_are_exact() {
    let Some(host) = Host::with_busybox() else { return };
    for (command, code) in [
        (vec!["true"], 0),
        (vec!["false"], 1),
        (vec!["sh", "-c", "exit 42"], 42),
        (vec!["sh", "-c", "exit 255"], 255),
        (vec!["sh", "-c", "kill -TERM $$; sleep 0.1"], 0),
        (vec!["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"], 137),
        (vec!["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"], 143),
    ] {
        let output = host.busybox(&[], &command).run();
        // PID 1 ignores a TERM of its own: the sleep goes on and ends well.
        assert_eq!(output.code(), Some(code), "{output}");
    }
}

#[test]
fn a_killed_init_is_128_and_the_signal() {
    let Some(host) = Host::with_busybox() else { return };
    let id = host.detached(&[], &["sleep", "1000"]);
    host.ok(["kill", &id]);
    assert_eq!(host.ok(["wait", &id]), "137");
    let id = host.detached(&[], &["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"]);
    // An init without a handler hears nothing of it.
    eventually("it listens", || host.ok(["logs", &id]) == "ready");
    host.ok(["kill", "--signal", "TERM", &id]);
    assert_eq!(host.ok(["wait", &id]), "3");
}

#[test]
fn what_cannot_be_started_is_126_or_127() {
    let Some(host) = Host::with_busybox() else { return };
    let text = host.busybox(&[], &["no-such-program"]).refused(127);
    assert!(text.contains("no-such-program"), "{text}");
    let text = host.busybox(&[], &["/etc/passwd"]).refused(126);
    assert!(text.contains("/etc/passwd"), "{text}");
    let text = host.busybox(&[], &["/etc"]).refused(126);
    assert!(text.contains("/etc"), "{text}");
    assert_eq!(host.ok(["ps", "--all", "--quiet"]), "", "a container that never started stays with --rm");
}

#[test]
fn output_and_errors_stay_apart() {
    let Some(host) = Host::with_busybox() else { return };
    let output = host.busybox(&[], &["sh", "-c", "echo out; echo err >&2"]).run();
    assert_eq!((output.stdout().as_str(), output.stderr().as_str()), ("out", "err"));
}

#[test]
fn nothing_is_read_without_interactive() {
    let Some(host) = Host::with_busybox() else { return };
    assert_eq!(host.busybox(&[], &["cat"]).input("not for it").ok(), "");
    assert_eq!(host.busybox(&["-i"], &["cat"]).input("for it").ok(), "for it");
}

#[test]
fn input_arrives_as_it_is_written_and_its_end_is_seen() {
    let Some(host) = Host::with_busybox() else { return };
    let dir = host.dir().join("shared");
    fs::create_dir(&dir).expect("make a directory");
    let volume = format!("{}:/shared", dir.display());
    let line = "read one; echo $one >/shared/one; cat; echo after the end";
    let mut running = host.busybox(&["-i", "-v", &volume], &["sh", "-c", line]).spawn();
    running.write(b"first\n");
    eventually("it has read a line", || fs::read(dir.join("one")).is_ok_and(|it| it == b"first\n"));
    running.write(b"second\n");
    assert!(!running.has_ended());
    running.close_input();
    assert_eq!(running.wait().ok(), "second\nafter the end");
}

#[test]
fn a_tar_goes_in_and_comes_out() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = Tar::new().dir("d", 0o755).file("d/file", 0o644, vec![b'x'; 100_000]).end();
    let line = "tar -x && tar -c d && echo done >&2";
    let output = host.busybox(&["-i", "-w", "/tmp"], &["sh", "-c", line]).input(tar).run();
    assert_eq!(output.stderr(), "done", "{output}");
    assert!(output.out.len() > 100_000);
}

#[test]
fn a_gigabyte_passes_through_unchanged() {
    let Some(host) = Host::with_busybox() else { return };
    // A stream that does not repeat and that can be made twice.
    let make = "openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | head -c 1073741824";
    let dhow = env!("CARGO_BIN_EXE_dhow");
    let through = format!("{make} | {dhow} run --rm -i --network none --log-driver none busybox cat | sha256sum");
    let sum = |line: &str| {
        let command = Command::new("bash", ["-c", line]).env("DHOW_ROOT", host.root().to_str().expect("UTF-8"));
        command.env("DHOW_RUN", host.run_dir().to_str().expect("UTF-8")).patiently().ok()
    };
    assert_eq!(sum(&through), sum(&format!("{make} | sha256sum")));
}

#[test]
fn the_image_says_how() {
    let Some(host) = Host::with_busybox() else { return };
    let tar = busybox_tar().expect("it was there a moment ago");
    let changes = [
        "--change",
        "ENV COLOUR=red SHAPE=round",
        "--change",
        "WORKDIR /var/lib/ship",
        "--change",
        "USER user",
        "--change",
        "ENTRYPOINT [\"/bin/echo\", \"said:\"]",
        "--change",
        "CMD [\"by default\"]",
    ];
    let mut args = vec!["import"];
    args.extend(changes);
    args.extend([tar.to_str().expect("UTF-8"), "told"]);
    host.ok(args);
    let run = |flags: &[&str], command: &[&str]| {
        let fixed = ["run", "--rm", "--network", "none"];
        host.ok(fixed.iter().chain(flags).chain(&["told"]).chain(command).copied())
    };
    assert_eq!(run(&[], &[]), "said: by default");
    assert_eq!(run(&[], &["something", "else"]), "said: something else");
    let line = ["-c", "echo $COLOUR $SHAPE $(pwd) $(id -u)"];
    assert_eq!(run(&["--entrypoint", "sh"], &line), "red round /var/lib/ship 1000");
    let line = ["-c", "echo $COLOUR $(pwd) $(id -u):$(id -g)"];
    assert_eq!(run(&["--entrypoint", "sh", "-e", "COLOUR=blue", "-w", "/tmp", "-u", "0:7"], &line), "blue /tmp 0:7");
}

#[test]
fn users_come_from_the_image() {
    let Some(host) = Host::with_busybox() else { return };
    let ids = "echo $(id -u):$(id -g):$(id -G | tr ' ' ,)";
    for (flags, expected) in [
        (vec!["-u", "user"], "1000:1000:1000,2000"),
        (vec!["-u", "1000"], "1000:1000:1000,2000"),
        (vec!["-u", "user:root"], "1000:0:0"),
        (vec!["-u", "4242"], "4242:0:0"),
        (vec!["-u", "4242:4343"], "4242:4343:4343"),
        (vec!["-u", "user", "--group-add", "77"], "1000:1000:77,1000,2000"),
    ] {
        let seen = host.sh(&flags, ids);
        let sort = |text: &str| {
            let (head, groups) = text.rsplit_once(':').expect("uid:gid:groups");
            let mut groups: Vec<&str> = groups.split(',').collect();
            groups.sort_unstable();
            format!("{head}:{}", groups.join(","))
        };
        assert_eq!(sort(&seen), sort(expected), "{flags:?}");
    }
    let text = host.busybox(&["-u", "nobody-knows"], &["true"]).run();
    assert_eq!(text.code(), Some(125), "{text}");
    assert!(text.stderr().contains("nobody-knows"), "{text}");
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let Some(host) = Host::with_busybox() else { return };
    let file = host.file("env", "# comment\nFROM_FILE=1\nEMPTY=\nTAKEN\n\n");
    let seen = host
        .busybox(&["--env-file", file.to_str().expect("UTF-8"), "-e", "A=b c", "-e", "TAKEN", "-e", "UNSET"], &["env"])
        .env("TAKEN", "from the caller")
        .ok();
    for line in ["FROM_FILE=1", "EMPTY=", "A=b c", "TAKEN=from the caller", "HOME=/root"] {
        assert!(seen.lines().any(|l| l == line), "{line} is not in {seen}");
    }
    assert!(seen.lines().any(|l| l.starts_with("PATH=/usr/local/sbin:")), "{seen}");
    assert!(seen.lines().any(|l| l.starts_with("HOSTNAME=")), "{seen}");
    assert!(!seen.contains("UNSET") && !seen.contains("DHOW_"), "{seen}");
}

#[test]
fn the_hostname_and_hosts_are_its_own() {
    let Some(host) = Host::with_busybox() else { return };
    let line = "hostname; cat /etc/hostname; cat /etc/hosts";
    let seen = host.sh(&["-h", "anchor", "--add-host", "pier:192.0.2.7"], line);
    let mut lines = seen.lines();
    assert_eq!((lines.next(), lines.next()), (Some("anchor"), Some("anchor")));
    assert!(seen.contains("192.0.2.7\tpier"), "{seen}");
    for names in [&["-h", "anchor.example"][..], &["-h", "anchor", "--domainname", "example"]] {
        let seen = host.ok([&["run", "--rm"], names, &["busybox", "cat", "/etc/hosts"]].concat());
        assert!(seen.lines().any(|line| line.ends_with("\tanchor.example anchor")), "{names:?}: {seen}");
    }
    let seen =
        host.sh(&["--dns", "192.0.2.53", "--dns-search", "harbour", "--dns-option", "ndots:3"], "cat /etc/resolv.conf");
    for words in ["nameserver 192.0.2.53", "search harbour", "options ndots:3"] {
        assert!(seen.contains(words), "{words} is not in {seen}");
    }
    let id = host.detached(&[], &["sleep", "1000"]);
    assert_eq!(host.ok(["exec", &id, "hostname"]), id[..12]);
    // In this host's network it is this host's.
    let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("this host has a name");
    let line = "cat /etc/hostname; hostname; echo $HOSTNAME";
    let seen = host.ok(["run", "--rm", "--network", "host", "busybox", "sh", "-c", line]);
    assert_eq!(seen.lines().collect::<Vec<_>>(), [name.trim(); 3]);
}

#[test]
fn limits_of_the_process_are_set() {
    let Some(host) = Host::with_busybox() else { return };
    assert_eq!(host.sh(&["--ulimit", "nofile=321:654"], "ulimit -n; ulimit -Hn"), "321\n654");
    assert_eq!(host.sh(&["--sysctl", "kernel.msgmax=9999"], "cat /proc/sys/kernel/msgmax"), "9999");
    let seen = host.sh(&["--shm-size", "8m"], "df -k /dev/shm | tail -n 1");
    assert_eq!(seen.split_whitespace().nth(1), Some("8192"), "{seen}");
    assert_eq!(host.sh(&[], "umask"), "0022");
}

#[test]
fn a_container_id_is_written_to_the_file() {
    let Some(host) = Host::with_busybox() else { return };
    let file = host.dir().join("cid");
    let file = file.to_str().expect("UTF-8");
    let id = host.detached(&["--cidfile", file], &["sleep", "1000"]);
    assert_eq!(fs::read_to_string(file).expect("the file is there"), id);
    let text = host.busybox(&["--cidfile", file], &["true"]).refused(125);
    assert!(text.contains(file), "{text}");
}

#[test]
fn init_reaps_and_passes_signals_on() {
    let Some(host) = Host::with_busybox() else { return };
    // A grandchild that lost its parent: without an init that reaps, it stays a zombie.
    let line = "(sleep 0 & exec true); sleep 0.2; while ps -o stat | grep -q '^Z'; do sleep 0.1; done; echo reaped";
    assert_eq!(host.sh(&["--init"], line), "reaped");
    assert!(!host.sh(&["--init"], "echo $$").is_empty());
    assert_ne!(host.sh(&["--init"], "echo $$"), "1");
    assert_eq!(host.sh(&[], "echo $$"), "1");
    // Nothing of the host is seen in it.
    assert_eq!(
        host.sh(&["--init"], r"tr '\0' ' ' </proc/1/cmdline | cut -c 1-27; cat /proc/1/comm"),
        "/sbin/docker-init -- sh -c \ndocker-init"
    );
    let id = host.detached(&["--init"], &["sleep", "1000"]);
    assert!(host.ok(["top", &id]).contains("/sbin/docker-init -- sleep 1000"));
    host.ok(["stop", "--time", "100", &id]);
    assert_eq!(host.ok(["wait", &id]), "143", "the init passes TERM on to sleep, which dies of it");
    assert_eq!(host.busybox(&["--init"], &["sh", "-c", "exit 7"]).run().code(), Some(7));
}

#[test]
fn rm_leaves_nothing() {
    let Some(host) = Host::with_busybox() else { return };
    host.sh(&["-v", "/anonymous"], "echo x >/anonymous/file");
    assert_eq!(host.ok(["ps", "--all", "--quiet"]), "");
    assert_eq!(host.ok(["volume", "ls", "--quiet"]), "");
    for dir in ["containers", "names"] {
        let left: Vec<_> = fs::read_dir(host.root().join(dir)).expect("list").flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    host.assert_tidy();
}

#[test]
fn a_detached_container_outlives_its_command() {
    let Some(host) = Host::with_busybox() else { return };
    let mut terminal = Terminal::start(host.dhow([
        "run",
        "--detach",
        "--network",
        "none",
        "--name",
        "free",
        "busybox",
        "sh",
        "-c",
        "trap '' HUP; echo up; while :; do sleep 0.1; done",
    ]));
    assert!(terminal.end().success(), "{}", terminal.screen_text());
    // The terminal goes, and with it the session that the command was started in.
    drop(terminal);
    eventually("the container writes", || host.ok(["logs", "free"]) == "up");
    assert_eq!(host.inspect("free", "/State/Running"), true);
    let shim = fs::read_to_string(format!("/proc/{}/stat", host.inspect("free", "/State/Pid"))).expect("it runs");
    let parent = shim.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).expect("a parent").to_owned();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).expect("the shim runs");
    let session = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3)).expect("a session").to_owned();
    assert_eq!(session, parent, "the shim leads a session of its own");
}

#[test]
fn images_of_one_layer_and_of_many() {
    let Some(host) = Host::with_busybox() else { return };
    let Some(registry) = Registry::shared() else { return };
    let base = fs::read(busybox_tar().expect("it was there")).expect("read");
    let mut image = Image::new(base);
    for number in 1..120 {
        let tar = Tar::new().file(&format!("layer/{number}"), 0o644, number.to_string()).end();
        image = image.layer(tar, Packing::Gzip);
    }
    registry.upload(&image, "run/deep", "latest");
    let name = registry.name("run/deep");
    host.ok(["pull", "--quiet", &name]);
    let seen = host.ok(["run", "--rm", "--network", "none", &name, "sh", "-c", "ls /layer | wc -l; cat /layer/119"]);
    assert_eq!(seen, "119\n119");
}

#[test]
fn what_is_missing_is_pulled_or_not() {
    let Some(host) = Host::new() else { return };
    let Some(registry) = Registry::shared() else { return };
    let Some(name) = registry.busybox() else { return };
    let text = host.dhow(["run", "--rm", "--network", "none", "--pull", "never", &name, "true"]).refused(125);
    assert!(text.contains("No such image"), "{text}");
    let output = host.run(["run", "--rm", "--network", "none", &name, "echo", "here"]);
    assert_eq!((output.code(), output.stdout().as_str()), (Some(0), "here"), "{output}");
}

#[test]
fn what_belongs_to_later_is_refused_clearly() {
    let Some(host) = Host::with_busybox() else { return };
    for flags in [vec!["--use-api-socket"], vec!["--cpu-count", "1"]] {
        let args = ["run", "--rm"].iter().chain(&flags).chain(&["busybox", "true"]).copied();
        let output = host.run(args);
        assert_eq!(output.code(), Some(125), "{output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
}

#[test]
fn a_distribution_runs() {
    let Some(host) = Host::new() else { return };
    let Some(tar) = crate::fixture::debian_tar() else { return };
    host.ok(["import", tar.to_str().expect("UTF-8"), "debian"]);
    let run = |flags: &[&str], line: &str| {
        let fixed = ["run", "--rm", "--network", "none"];
        host.ok(fixed.iter().chain(flags).chain(&["debian", "sh", "-c", line]).copied())
    };
    assert_eq!(run(&[], "dpkg-query -W -f '${Status}' bash"), "install ok installed");
    assert_eq!(run(&["-u", "www-data:games"], "id -un; id -gn"), "www-data\ngames");
    // Set-user-id programs gain what they may, unless told not to.
    let line = "chmod u+s /usr/bin/id && setpriv --reuid 33 --clear-groups id -u";
    assert_eq!(run(&[], line), "0");
    assert_eq!(run(&["--security-opt", "no-new-privileges"], line), "33");
}
