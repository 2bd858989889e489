//! `--security-opt` in all of Docker's forms, by flags and over the API, and what a system call profile of one's own can say.

use crate::fixture::{Command, Daemon, Host};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

/// What a container tells of itself: new privileges, its filter, how much of /proc is covered, and whether cgroups are its
/// own to make.
const TELL: &str = "sed -n 's/^NoNewPrivs:.//p; s/^Seccomp:.//p' /proc/self/status; grep -c ' /proc/' /proc/self/mountinfo; \
    (mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine) 2>/dev/null && echo writes; true";

fn options(options: &[&str]) -> Vec<String> {
    options.iter().flat_map(|option| ["--security-opt".to_owned(), (*option).to_owned()]).collect()
}

fn run(host: &Host, given: &[&str], line: &str) -> Command {
    let flags = options(given);
    host.busybox(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &["sh", "-c", line])
}

#[test]
fn every_form_is_taken() {
    let Some(host) = Host::with_busybox() else { return };
    let file = host.file("profile.json", "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n");
    let (equals, colon) = (format!("seccomp={}", file.display()), format!("seccomp:{}", file.display()));
    let told = |given: &[&str]| {
        let text = run(&host, given, TELL).ok();
        let words: Vec<String> = text.lines().map(str::to_owned).collect();
        (words[0] == "1", words[1].clone(), words[2] != "0", words.len() > 3)
    };
    let usual = || (false, "2".to_owned(), true, false);
    for given in [
        &[][..],
        &["no-new-privileges=false"],
        &["no-new-privileges:false"],
        &["no-new-privileges", "no-new-privileges=0"],
        &["seccomp=builtin"],
        &["seccomp=unconfined", "seccomp=builtin"],
        &[&equals],
        &[&colon],
        &["apparmor=unconfined"],
        &["apparmor:unconfined"],
        &["label=disable"],
        &["label:disable"],
        &["label=level:s0:c1,c2", "label=disable"],
        &["writable-cgroups=false"],
    ] {
        assert_eq!(told(given), usual(), "{given:?}");
    }
    for given in ["no-new-privileges", "no-new-privileges=true", "no-new-privileges:true", "no-new-privileges=1"] {
        assert_eq!(told(&[given]), (true, "2".to_owned(), true, false), "{given}");
    }
    for given in ["seccomp=unconfined", "seccomp:unconfined"] {
        assert_eq!(told(&[given]), (false, "0".to_owned(), true, false), "{given}");
    }
    assert_eq!(told(&["systempaths=unconfined"]), (false, "2".to_owned(), false, false));
    assert_eq!(told(&["writable-cgroups=true"]), (false, "2".to_owned(), true, true));
    assert_eq!(
        told(&["no-new-privileges", "seccomp=unconfined", "systempaths=unconfined", "writable-cgroups=1"]),
        (true, "0".to_owned(), false, true)
    );

    for (given, words) in [
        ("what", "invalid --security-opt: \"what\""),
        ("", "invalid --security-opt: \"\""),
        ("seccomp=", "invalid --security-opt: \"seccomp=\""),
        ("what=ever", "invalid --security-opt 2: \"what=ever\""),
        ("no-new-privileges=perhaps", "invalid --security-opt 2: \"no-new-privileges=perhaps\""),
        ("writable-cgroups=perhaps", "invalid --security-opt 2: \"writable-cgroups=perhaps\""),
        ("systempaths=confined", "invalid --security-opt 2: \"systempaths=confined\""),
        ("seccomp=/no/such/profile", "/no/such/profile"),
    ] {
        let text = run(&host, &[given], "true").refused(125);
        assert!(text.contains(words), "{given}: {text}");
    }
    assert_eq!(host.ok(["ps", "-aq"]), "");
}

#[test]
fn the_api_takes_them_too() {
    let Some(host) = Host::with_busybox() else { return };
    // It has a daemon of its own.
    if host.has_daemon() {
        return;
    }
    let daemon = Daemon::start(&host);
    let create = |given: serde_json::Value| {
        let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", TELL],
            "HostConfig": {"NetworkMode": "none", "SecurityOpt": given}});
        daemon.ask_with("POST /containers/create", "Content-Type: application/json\r\n", &body.to_string())
    };
    let inline = r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}"#;
    for (given, expected) in [
        (json!(null), "0\n2\n"),
        (json!(["no-new-privileges", "disable"]), "1\n2\n"),
        (json!(["no-new-privileges=true", inline]), "1\n2\n"),
        (json!(["seccomp=unconfined", "apparmor=unconfined", "label=type:any_t"]), "0\n0\n"),
        // A profile that says nothing is none.
        (json!(["seccomp={}"]), "0\n0\n"),
        (json!(["seccomp="]), "0\n2\n"),
        (json!(["writable-cgroups"]), "0\n2\n"),
    ] {
        let (head, body) = create(given.clone());
        assert!(head.starts_with("HTTP/1.1 201"), "{given}: {head}\n{body}");
        let id =
            serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["Id"].as_str().expect("an id").to_owned();
        let told = host.ok(["start", "--attach", &id]);
        assert!(told.starts_with(expected), "{given}: {told}");
        assert_eq!(told.ends_with("writes"), given == json!(["writable-cgroups"]), "{given}: {told}");
        let kept = host.inspect(&id, "/HostConfig/SecurityOpt");
        assert_eq!(kept, given);
        host.ok(["rm", &id]);
    }
    let rule = |rule: &str| format!(r#"seccomp={{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
    for (option, words) in [
        ("what", "invalid --security-opt 1: \\\"what\\\""),
        ("what=ever", "invalid --security-opt 2: \\\"what=ever\\\""),
        ("seccomp=nonsense", "decoding seccomp profile failed"),
        (r#"seccomp={"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY is not supported"),
        (&rule(r#"{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}"#), "SCMP_ACT_NOTIFY is not supported"),
        // Also where it would be in force only without a capability.
        (
            &rule(r#"{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY","excludes":{"caps":["CAP_SYS_ADMIN"]}}"#),
            "SCMP_ACT_NOTIFY is not supported",
        ),
        (r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#, "listenerPath is not supported"),
    ] {
        let (head, body) = create(json!([option]));
        assert!(head.starts_with("HTTP/1.1 400") && body.contains(words), "{option}: {head}\n{body}");
    }
    assert_eq!(host.ok(["ps", "-aq"]), "");
    daemon.stop();
}

/// A container with these rules, and whatever else is allowed.
fn with_rules(host: &Host, rules: serde_json::Value, flags: &[&str], line: &str) -> Command {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}]});
    let option = format!("seccomp={}", host.file("rules.json", profile.to_string()).display());
    host.busybox(&[&["--security-opt", &option], flags].concat(), &["sh", "-c", line])
}

/// By the kernel's own word: signals that a process takes no notice of, each but for those that a comparison is about.
#[test]
fn a_profile_compares_arguments() {
    let Some(host) = Host::with_busybox() else { return };
    // SIGCHLD, SIGCONT, SIGURG and SIGWINCH.
    let line = "sleep 1000 & for n in 17 18 23 28; do kill -$n $! 2>/dev/null && echo $n; done; kill -9 $!";
    for (op, value, value_two, passed) in [
        ("EQ", 18, 0, "17 23 28"),
        ("NE", 18, 0, "18"),
        ("LT", 18, 0, "18 23 28"),
        ("LE", 18, 0, "23 28"),
        ("GT", 18, 0, "17 18"),
        ("GE", 18, 0, "17"),
        ("MASKED_EQ", 28, 16, "23 28"),
    ] {
        let above_zero = json!({"index": 0, "value": 0, "op": "SCMP_CMP_NE"});
        let signal = json!({"index": 1, "value": value, "valueTwo": value_two, "op": format!("SCMP_CMP_{op}")});
        // SIGKILL ends it, whatever is compared.
        let rules = json!([
            {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [above_zero, signal]},
        ]);
        let seen = with_rules(&host, rules, &[], line).ok();
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>().join(" "), passed, "{op}");
    }
}

#[test]
fn a_profile_has_every_action_and_condition() {
    let Some(host) = Host::with_probe() else { return };
    // sethostname, which nobody needs.
    let number = libc::SYS_sethostname.to_string();
    let asked = |action: &str, more: serde_json::Value, flags: &[&str]| {
        let mut rule = json!({"names": ["sethostname", "no_such_call"], "action": format!("SCMP_ACT_{action}")});
        rule.as_object_mut().expect("a rule").extend(more.as_object().expect("an object").clone());
        let output = with_rules(&host, json!([rule]), flags, &format!("exec probe call {number}")).run();
        (output.code(), output.stdout().trim().to_owned())
    };
    let told = |words: &str| (Some(0), words.to_owned());
    let ended = || (Some(128 + 31), String::new());
    // Who may not set a name hears of it, and so does who may.
    assert_eq!(asked("ALLOW", json!({}), &[]), told("EPERM"));
    for (action, more, expected) in [
        ("LOG", json!({}), told("EPERM")),
        ("ERRNO", json!({}), told("EPERM")),
        ("ERRNO", json!({"errnoRet": 28}), told("ENOSPC")),
        // Nobody traces it.
        ("TRACE", json!({"errnoRet": 7}), told("ENOSYS")),
        ("KILL", json!({}), ended()),
        ("KILL_THREAD", json!({}), ended()),
        ("KILL_PROCESS", json!({}), ended()),
        ("TRAP", json!({}), ended()),
    ] {
        assert_eq!(asked(action, more.clone(), &[]), expected, "{action} {more}");
    }
    let refused = |mut condition: serde_json::Value, flags: &[&str]| {
        condition["errnoRet"] = json!(28);
        asked("ERRNO", condition, flags) == told("ENOSPC")
    };
    let admin = ["--cap-add", "SYS_ADMIN"];
    assert!(refused(json!({"includes": {"caps": ["CAP_SYS_ADMIN"]}}), &admin));
    assert!(!refused(json!({"includes": {"caps": ["CAP_SYS_ADMIN"]}}), &[]));
    assert!(!refused(json!({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}), &admin));
    assert!(refused(json!({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}), &[]));
    assert!(refused(json!({"includes": {"minKernel": "4.8", "arches": ["amd64", "arm64"]}}), &[]));
    assert!(!refused(json!({"includes": {"minKernel": "99.0"}}), &[]));
    assert!(!refused(json!({"excludes": {"minKernel": "4.8"}}), &[]));
    assert!(!refused(json!({"includes": {"arches": ["s390x"]}}), &[]));
    // What no rule names gets the default, with its own error; what is newer than the profile none.
    let names = [
        "execve",
        "exit_group",
        "write",
        "writev",
        "arch_prctl",
        "set_tid_address",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "fstat",
        "newfstatat",
        "ioctl",
        "rt_sigprocmask",
        "rseq",
        "set_robust_list",
        "prlimit64",
        "readlinkat",
        "readlink",
        "getrandom",
        "poll",
        "access",
        "uname",
    ];
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 28,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
    let option = format!("seccomp={}", host.file("few.json", profile.to_string()).display());
    let seen = host.busybox(&["--security-opt", &option], &["probe", "call", &number]).ok();
    assert_eq!(seen, "ENOSPC");
    let seen = host.busybox(&["--security-opt", &option], &["probe", "call", "9999"]).ok();
    assert_eq!(seen, "ENOSYS");
}

/// What is not there is not told as if it were, and asking for it is refused.
#[test]
fn a_kernel_without_filters_is_told() {
    let Some(host) = Host::new() else { return };
    // The kernel is the command's.
    if host.has_daemon() {
        return;
    }
    let info = |host: &Host| {
        let told = host.dhow(["info"]).run();
        format!("{}{}", told.stdout(), told.stderr())
    };
    let words = "WARNING: No seccomp support: this kernel filters no system calls";
    assert!(info(&host).contains("seccomp") && !info(&host).contains(words), "{}", info(&host));
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").expect("read");
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
    mount(Some("none"), "/proc/sys/kernel", Some("tmpfs"), MsFlags::empty(), none).expect("cover what the kernel says");
    std::fs::create_dir("/proc/sys/kernel/random").expect("make a directory");
    std::fs::write("/proc/sys/kernel/random/boot_id", boot).expect("write");
    assert!(info(&host).contains(words) && !info(&host).contains("builtin"), "{}", info(&host));
}
