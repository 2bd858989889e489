//! Programs are run here as the kernel runs them.

use super::emit::*;
use super::*;

/// Runs a program as the kernel does.
pub fn run(program: &[sock_filter], arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        NUMBER => nr,
        ARCHITECTURE => arch.audit(),
        16..64 if offset.is_multiple_of(8) => args[(offset as usize - 16) / 8] as u32,
        20..64 if offset.is_multiple_of(4) => (args[(offset as usize - 20) / 8] >> 32) as u32,
        _ => panic!("load of {offset}"),
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD => accumulator = load(k),
            AND => accumulator &= k,
            EQUAL => jump(accumulator == k),
            GREATER => jump(accumulator > k),
            GREATER_OR_EQUAL => jump(accumulator >= k),
            JUMP => at += k as usize,
            RETURN => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

fn number(arch: Arch, name: &str) -> u32 {
    arch.calls().into_iter().find(|(_, known)| *known == name).unwrap_or_else(|| panic!("{name}?")).0
}

fn profile(value: serde_json::Value) -> Seccomp {
    serde_json::from_value(value).unwrap()
}

const EPERM: u32 = RET_ERRNO | 1;
const ENOSYS: u32 = RET_ERRNO | 38;
const NONE: [u64; 6] = [0; 6];

/// Where it has changed: what it is now lies in the file that is named, and is to be copied.
#[test]
fn the_usual_filter_is_what_is_compiled() {
    for (native, arch, name) in [(Arch::X86_64, "amd64", "x86_64.rs"), (Arch::Aarch64, "arm64", "aarch64.rs")] {
        let (program, _) = compile_for(&usual(arch), native).unwrap();
        let line = |it: &sock_filter| format!("    at({:#04x}, {}, {}, {:#x}),\n", it.code, it.jt, it.jf, it.k);
        let text = format!("&[\n{}]\n", program.iter().map(line).collect::<String>());
        let known = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ns/seccomp/usual").join(name);
        if std::fs::read_to_string(&known).ok().as_deref() != Some(&text) {
            let now = std::env::temp_dir().join(format!("dhow-filter-{name}"));
            std::fs::write(&now, &text).unwrap();
            panic!("{} is no longer what is compiled, which is {}", known.display(), now.display());
        }
    }
    // Others are not taken for it.
    let mut other = usual(profile::ARCH);
    other.syscalls[0].names.pop();
    let allows_writev = |profile: &Seccomp| {
        let (program, _) = compile(profile).unwrap();
        run(&program, NATIVE, number(NATIVE, "writev"), NONE) == RET_ALLOW
    };
    assert!(allows_writev(&usual(profile::ARCH)) && !allows_writev(&other));
}

#[test]
fn numbers_of_every_architecture() {
    for (arch, name, nr) in [
        (Arch::X86_64, "read", 0),
        (Arch::X86_64, "openat2", 437),
        (Arch::X86, "break", 17),
        (Arch::X86, "socketcall", 102),
        (Arch::Aarch64, "openat", 56),
        (Arch::Aarch64, "newfstatat", 79),
        (Arch::Arm, "set_tls", 0x0f_0005),
        (Arch::X32, "read", X32_BIT),
        (Arch::X32, "ioctl", X32_BIT | 514),
        (Arch::X32, "pwritev2", X32_BIT | 547),
    ] {
        assert_eq!(number(arch, name), nr, "{name} on {arch:?}");
    }
    for arch in [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm] {
        assert!(arch.calls().is_sorted(), "{arch:?}");
    }
    // A name of arm64's that no other has is one that no profile has.
    let elsewhere = [Arch::X86_64, Arch::X86, Arch::Arm].map(Arch::calls).concat();
    for (_, name) in Arch::Aarch64.calls() {
        assert!(elsewhere.iter().any(|(_, known)| *known == name), "{name}");
    }
}

#[test]
fn every_action_and_what_it_defaults_to() {
    let rule = |name: &str, action: &str, errno: Option<u32>| serde_json::json!({"names": [name], "action": action, "errnoRet": errno});
    let filter = compile_for(
        &profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 99,
            "syscalls": [
                rule("read", "SCMP_ACT_ALLOW", None), rule("write", "SCMP_ACT_KILL", None),
                rule("open", "SCMP_ACT_KILL_THREAD", None), rule("close", "SCMP_ACT_KILL_PROCESS", None),
                rule("stat", "SCMP_ACT_TRAP", None), rule("fstat", "SCMP_ACT_ERRNO", None),
                rule("lstat", "SCMP_ACT_ERRNO", Some(0)), rule("poll", "SCMP_ACT_TRACE", Some(7)),
                rule("lseek", "SCMP_ACT_LOG", None), rule("no_such_call", "SCMP_ACT_ALLOW", None),
                rule("getpid", "SCMP_ACT_ALLOW", None),
            ],
        })),
        Arch::X86_64,
    )
    .unwrap();
    assert_eq!(filter.1, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    for (nr, expected) in [
        (0, RET_ALLOW),
        (1, RET_KILL_THREAD),
        (2, RET_KILL_THREAD),
        (3, RET_KILL_PROCESS),
        (4, RET_TRAP),
        (5, EPERM),
        (6, RET_ERRNO),
        (7, RET_TRACE | 7),
        (8, RET_LOG),
        (9, RET_ERRNO | 99),
        (38, RET_ERRNO | 99),
        (39, RET_ALLOW),
        (40, ENOSYS),
        (u32::MAX, ENOSYS),
        (X32_BIT, RET_KILL_PROCESS),
        (X32_BIT | 39, RET_KILL_PROCESS),
    ] {
        assert_eq!(run(&filter.0, Arch::X86_64, nr, NONE), expected, "call {nr:#x}");
    }
    // An architecture that the profile does not list.
    assert_eq!(run(&filter.0, Arch::X86, 0, NONE), RET_KILL_PROCESS);
}

#[test]
fn every_operator_over_all_64_bits() {
    const BIG: u64 = 0x1_0000_0005;
    for (op, value, value_two, holds, fails) in [
        ("EQ", BIG, 0u64, vec![BIG], vec![5, BIG + 1, 0x2_0000_0005]),
        ("NE", BIG, 0, vec![5, BIG - 1, 0x1_0000_0000], vec![BIG]),
        ("LT", BIG, 0, vec![0, 6, BIG - 1], vec![BIG, BIG + 1, 0x2_0000_0000, u64::MAX]),
        ("LE", BIG, 0, vec![0, 6, BIG], vec![BIG + 1, 0x2_0000_0000]),
        ("GE", BIG, 0, vec![BIG, BIG + 1, 0x2_0000_0000], vec![0, 6, BIG - 1]),
        ("GT", BIG, 0, vec![BIG + 1, 0x2_0000_0000], vec![0, 6, BIG]),
        ("MASKED_EQ", 0xf0, 0x10, vec![0x10, 0x1f, 0xff00_0000_0000_0011], vec![0, 0x20, 0x30]),
        ("MASKED_EQ", 0xf_0000_0000, 0x1_0000_0000, vec![0x1_0000_0000, 0xf1_ffff_ffff], vec![0, 0x2_0000_0000]),
        ("MASKED_EQ", 0, 0, vec![0, u64::MAX], vec![]),
        ("MASKED_EQ", 1, 2, vec![], vec![0, 1, 2, 3]),
    ] {
        for index in [0, 5] {
            let arg = serde_json::json!(
                {"index": index, "value": value, "valueTwo": value_two, "op": format!("SCMP_CMP_{op}")});
            let rule = serde_json::json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [arg]});
            let profile = profile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}));
            let filter = compile_for(&profile, Arch::X86_64).unwrap();
            for (argument, expected) in
                holds.iter().map(|value| (*value, RET_ALLOW)).chain(fails.iter().map(|value| (*value, EPERM)))
            {
                let mut args = NONE;
                args[index] = argument;
                assert_eq!(run(&filter.0, Arch::X86_64, 0, args), expected, "{argument:#x} {op} {value:#x}");
            }
        }
    }
}

#[test]
fn how_rules_of_one_call_combine() {
    let eq = |index: u32, value: u64| serde_json::json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let rule = |action: &str, args: Vec<serde_json::Value>| serde_json::json!({"names": ["read"], "action": format!("SCMP_ACT_{action}"), "args": args});
    for (name, rules, cases) in [
        (
            "all conditions of a rule",
            vec![rule("ALLOW", vec![eq(0, 1), eq(1, 2)])],
            vec![([1, 2], RET_ALLOW), ([1, 3], EPERM), ([0, 2], EPERM)],
        ),
        (
            "two conditions on one argument are two rules",
            vec![rule("ALLOW", vec![eq(0, 1), eq(0, 2)])],
            vec![([1, 0], RET_ALLOW), ([2, 0], RET_ALLOW), ([3, 0], EPERM)],
        ),
        (
            "the first that holds",
            vec![rule("LOG", vec![eq(0, 1)]), rule("ALLOW", vec![eq(1, 1)])],
            vec![([1, 1], RET_LOG), ([0, 1], RET_ALLOW), ([0, 0], EPERM)],
        ),
        (
            "one without conditions replaces",
            vec![rule("LOG", vec![eq(0, 1)]), rule("ALLOW", vec![])],
            vec![([1, 0], RET_ALLOW), ([0, 0], RET_ALLOW)],
        ),
        ("the first without conditions", vec![rule("LOG", vec![]), rule("ALLOW", vec![])], vec![([0, 0], RET_LOG)]),
    ] {
        let profile = profile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
        let filter = compile_for(&profile, Arch::X86_64).unwrap();
        for ([first, second], expected) in cases {
            let args = [first, second, 0, 0, 0, 0];
            assert_eq!(run(&filter.0, Arch::X86_64, 0, args), expected, "{name}: {first}, {second}");
        }
    }
}

#[test]
fn calls_that_go_through_another_one() {
    let filter = |default: &str, action: &str| {
        let rule = serde_json::json!({"names": ["socket", "shmget"], "action": action});
        let by_family = serde_json::json!({"names": ["bind"], "action": action,
            "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]});
        let value = serde_json::json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [rule, by_family]});
        compile_for(&profile(value), Arch::X86_64).unwrap().0
    };
    let allows = filter("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW");
    let refuses = filter("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    for (nr, argument, allowed, refused) in [
        (102, 1, RET_ALLOW, EPERM),
        (102, 2, EPERM, EPERM),
        (102, 3, EPERM, RET_ALLOW),
        (117, 23, RET_ALLOW, EPERM),
        (117, 0x1_0017, RET_ALLOW, EPERM),
        (117, 24, EPERM, RET_ALLOW),
    ] {
        let args = [argument, 0, 0, 0, 0, 0];
        assert_eq!(run(&allows, Arch::X86, nr, args), allowed, "{nr} {argument}");
        assert_eq!(run(&refuses, Arch::X86, nr, args), refused, "{nr} {argument}");
    }
}

#[test]
fn long_programs_jump_far_and_too_long_ones_are_refused() {
    let long = |count: u64| {
        let rules: Vec<_> = (0..count)
            .map(|value| {
                serde_json::json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 1, "value": value * 2, "op": "SCMP_CMP_EQ"}]})
            })
            .collect();
        compile_for(&profile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})), Arch::X86_64)
    };
    let program = long(500).unwrap().0;
    for value in 0..1002 {
        let expected = if value % 2 == 0 && value < 1000 { RET_ALLOW } else { EPERM };
        assert_eq!(run(&program, Arch::X86_64, 16, [0, value, 0, 0, 0, 0]), expected, "{value}");
    }
    assert!(long(2000).is_err());
}

#[test]
fn every_call_keeps_its_own_answer() {
    // As many ranges as can be: every other call allowed, on all architectures.
    let calls = Arch::X86_64.calls();
    let names: Vec<_> = calls.iter().step_by(2).map(|(_, name)| name).collect();
    let value = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_ARM", "SCMP_ARCH_S390X"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
    let program = compile_for(&profile(value), Arch::X86_64).unwrap().0;
    for arch in [Arch::X86_64, Arch::X32, Arch::X86, Arch::Arm] {
        for (nr, name) in arch.calls() {
            let got = run(&program, arch, nr, NONE);
            match names.contains(&&name) {
                true => assert_eq!(got, RET_ALLOW, "{name} on {arch:?}"),
                false => assert!(got == EPERM || got == ENOSYS, "{name} on {arch:?}: {got:#x}"),
            }
        }
    }
}

#[test]
fn a_filter_without_rules() {
    let value = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]});
    let filter = compile_for(&profile(value), Arch::X86_64).unwrap();
    assert_eq!(filter.1, libc::SECCOMP_FILTER_FLAG_LOG);
    for (arch, nr, expected) in [
        (Arch::X86_64, 0, RET_ALLOW),
        (Arch::X86_64, u32::MAX, RET_ALLOW),
        (Arch::X86_64, X32_BIT, RET_KILL_PROCESS),
        (Arch::X86, 7, RET_ALLOW),
        (Arch::Arm, 7, RET_KILL_PROCESS),
    ] {
        assert_eq!(run(&filter.0, arch, nr, NONE), expected, "{nr:#x} on {arch:?}");
    }
}

#[test]
fn what_is_refused() {
    for (text, expected) in [
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#, "NOTIFY"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#, "listenerPath is not supported"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}"#, "listenerPath is not supported"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#, "4096"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_Z80"]}"#, "SCMP_ARCH_Z80"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}"#, "NEW_LISTENER"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL",
                "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "no argument 6",
        ),
    ] {
        let error = compile(&serde_json::from_str(text).unwrap()).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{text}: {error:?}");
    }
}
