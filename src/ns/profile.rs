//! Seccomp profiles as Docker writes them: rules that depend on capabilities, architecture and kernel, and the
//! default one, whose facts are those of <https://github.com/moby/profiles>.

use crate::json;
use crate::json::fields::fields;
use anyhow::{Context, Result, bail};
use std::borrow::Cow;

use super::caps::CapSet;
use crate::oci::runtime::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};

/// What a profile's conditions are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The container's bounding set.
    pub caps: CapSet,
    /// As profiles name it: `amd64`, `arm64`.
    pub arch: &'a str,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}

#[cfg(target_arch = "x86_64")]
pub const ARCH: &str = "amd64";
#[cfg(target_arch = "aarch64")]
pub const ARCH: &str = "arm64";

/// Major and minor version from a kernel's release, `6.1.0-13-amd64`.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Allowed to everybody.
const ALLOWED: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark \
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock \
    fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 \
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr \
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier \
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir \
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area \
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid \
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid \
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat \
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Allowed to those who have the capability.
const WITH: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Allowed on one architecture.
const ON: [(&str, &str); 2] = [
    ("amd64", "arch_prctl modify_ldt"),
    ("arm64", "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
];

/// Execution domains of Linux and of 32 bit programs, with and without UNAME26; all ones asks.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Docker's default profile.
pub fn default_profile(host: Host) -> Seccomp {
    let allow = |names: &'static str, args: Vec<SeccompArg>| SeccompRule {
        names: names.split_ascii_whitespace().map(Cow::Borrowed).collect(),
        action: SeccompAction::Allow,
        errno_ret: None,
        args,
    };
    let arg = |index, op, value, value_two| SeccompArg { index, value, value_two, op };
    let refuse = |names: &'static str, errno: i32, args| SeccompRule {
        action: SeccompAction::Errno,
        errno_ret: Some(errno as u32),
        ..allow(names, args)
    };
    let mut rules = vec![allow(ALLOWED, vec![])];
    // Ptrace could leave a filter by way of a changed number before 4.8.
    if host.kernel >= (4, 8) {
        rules.push(allow("process_vm_readv process_vm_writev ptrace", vec![]));
    }
    // Vsock reaches the hypervisor, and AF_ALG much of the kernel. The kernel takes the family as 32 bits: what a
    // comparison of 64 would let through in the upper half is refused first.
    for family in [libc::AF_ALG, libc::AF_VSOCK] {
        let only = arg(0, SeccompOp::MaskedEq, 0xffff_ffff, family as u64);
        rules.push(refuse("socket", libc::EPERM, vec![only]));
    }
    rules.push(allow("socket", vec![arg(0, SeccompOp::MaskedEq, 0, 0)]));
    rules.extend(PERSONALITIES.map(|value| allow("personality", vec![arg(0, SeccompOp::Eq, value, 0)])));
    rules.extend(ON.iter().filter(|(arch, _)| *arch == host.arch).map(|(_, names)| allow(names, vec![])));
    rules.extend(WITH.iter().filter(|(cap, _)| host.caps.has_named(cap)).map(|(_, names)| allow(names, vec![])));
    if !host.caps.has_named("SYS_ADMIN") {
        rules.push(allow("clone", vec![arg(0, SeccompOp::MaskedEq, CLONE_NAMESPACES, 0)]));
        // Its flags lie in memory; libraries fall back to clone.
        rules.push(refuse("clone3", libc::ENOSYS, vec![]));
    }
    let architectures: &[&str] = match host.arch {
        "amd64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "arm64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    };
    Seccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: architectures.iter().map(|&name| name.to_owned()).collect(),
        flags: None,
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls: rules,
    }
}

fields! {
    /// Docker's format of a profile.
    #[derive(Default)]
    #[serde(rename_all = "camelCase")]
    struct Profile {
        default_action: Option<SeccompAction>,
        default_errno_ret: Option<u32>,
        architectures: Vec<String>,
        arch_map: Vec<ArchMap>,
        flags: Option<Vec<String>>,
        listener_path: String,
        listener_metadata: String,
        syscalls: Vec<Rule>,
    }

    #[derive(Default)]
    #[serde(rename_all = "camelCase")]
    struct ArchMap {
        architecture: String,
        sub_architectures: Vec<String>,
    }

    #[derive(Default)]
    #[serde(rename_all = "camelCase")]
    struct Rule {
        /// As profiles before Docker 1.13 have it.
        name: String,
        names: Vec<String>,
        action: Option<SeccompAction>,
        errno_ret: Option<u32>,
        args: Vec<SeccompArg>,
        includes: Condition,
        excludes: Condition,
    }

    #[derive(Default)]
    #[serde(rename_all = "camelCase")]
    struct Condition {
        caps: Option<Vec<String>>,
        arches: Option<Vec<String>>,
        min_kernel: Option<String>,
    }
}

/// Reads a profile that a user gave, as JSON; `None` where it says nothing, which switches the filter off.
pub fn load(text: &str, host: Host) -> Result<Option<Seccomp>> {
    let profile: Profile = json::from_slice(text.as_bytes()).context("decoding seccomp profile failed")?;
    let rules = profile.syscalls;
    let Some(default_action) = profile.default_action else {
        if rules.is_empty() {
            return Ok(None);
        }
        bail!("seccomp profile has no defaultAction");
    };
    let (mut architectures, map) = (profile.architectures, profile.arch_map);
    if !architectures.is_empty() && !map.is_empty() {
        bail!(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or \
             'archMap'"
        );
    }
    let native = match host.arch {
        "amd64" => "SCMP_ARCH_X86_64",
        "arm64" => "SCMP_ARCH_AARCH64",
        other => other,
    };
    if let Some(entry) = map.into_iter().find(|entry| entry.architecture == native) {
        architectures.push(entry.architecture);
        architectures.extend(entry.sub_architectures);
    }
    let mut syscalls = Vec::with_capacity(rules.len());
    for rule in rules {
        let mut names = rule.names;
        if !rule.name.is_empty() {
            if !names.is_empty() {
                bail!("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'");
            }
            names.push(rule.name);
        }
        if rule.excludes.excludes(host)? || !rule.includes.includes(host)? {
            continue;
        }
        let Some(action) = rule.action else { bail!("a rule of the seccomp profile has no action") };
        syscalls.push(SeccompRule {
            names: names.into_iter().map(Cow::Owned).collect(),
            action,
            errno_ret: rule.errno_ret,
            args: rule.args,
        });
    }
    Ok(Some(Seccomp {
        default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

impl Condition {
    /// Any one of its parts is enough.
    fn excludes(&self, host: Host) -> Result<bool> {
        Ok(self.caps().iter().any(|cap| host.caps.has_named(cap))
            || self.arches().iter().any(|arch| arch == host.arch)
            || self.min_kernel()?.is_some_and(|version| host.kernel >= version))
    }

    /// All of its parts are needed; of several architectures one.
    fn includes(&self, host: Host) -> Result<bool> {
        Ok(self.caps().iter().all(|cap| host.caps.has_named(cap))
            && (self.arches().is_empty() || self.arches().iter().any(|arch| arch == host.arch))
            && self.min_kernel()?.is_none_or(|version| host.kernel >= version))
    }

    fn caps(&self) -> &[String] {
        self.caps.as_deref().unwrap_or_default()
    }

    fn arches(&self) -> &[String] {
        self.arches.as_deref().unwrap_or_default()
    }

    fn min_kernel(&self) -> Result<Option<(u32, u32)>> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let version = text
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse::<u8>().ok()?, minor.parse::<u8>().ok()?)))
            .filter(|version| *version != (0, 0));
        match version {
            Some((major, minor)) => Ok(Some((major.into(), minor.into()))),
            None => bail!("invalid kernel version: {text:?}, expected \"<kernel>.<major>\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns::seccomp::{Arch, compile, tests::run};

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x5_0001;
    const ENOSYS: u32 = 0x5_0026;

    fn host(caps: CapSet) -> Host<'static> {
        Host { caps, arch: ARCH, kernel: (6, 1) }
    }

    fn answers(program: &[libc::sock_filter], cases: &[(&str, i64, [u64; 2], u32)]) {
        for (name, nr, [first, second], expected) in cases {
            let got = run(program, Arch::X86_64, *nr as u32, [*first, *second, 0, 0, 0, 0]);
            assert_eq!(got, *expected, "{name} with {first:#x}, {second:#x}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_the_default_profile_answers() {
        let program = |caps: &[&str]| {
            let caps = CapSet::default_of_docker().union(CapSet::from_names(caps).unwrap());
            compile(&default_profile(host(caps))).unwrap().0
        };
        let plain = program(&[]);
        answers(
            &plain,
            &[
                ("read", libc::SYS_read, [0, 0], ALLOW),
                ("openat2", libc::SYS_openat2, [0, 0], ALLOW),
                ("arch_prctl", libc::SYS_arch_prctl, [0, 0], ALLOW),
                ("ptrace", libc::SYS_ptrace, [0, 0], ALLOW),
                ("chroot", libc::SYS_chroot, [0, 0], ALLOW),
                ("mount", libc::SYS_mount, [0, 0], EPERM),
                ("unshare", libc::SYS_unshare, [0, 0], EPERM),
                ("setns", libc::SYS_setns, [0, 0], EPERM),
                ("bpf", libc::SYS_bpf, [0, 0], EPERM),
                ("keyctl", libc::SYS_keyctl, [0, 0], EPERM),
                ("add_key", libc::SYS_add_key, [0, 0], EPERM),
                ("userfaultfd", libc::SYS_userfaultfd, [0, 0], EPERM),
                ("io_uring_setup", libc::SYS_io_uring_setup, [0, 0], EPERM),
                ("open_by_handle_at", libc::SYS_open_by_handle_at, [0, 0], EPERM),
                ("kexec_load", libc::SYS_kexec_load, [0, 0], EPERM),
                ("open_tree_attr", 467, [0, 0], ENOSYS),
                ("a call of the future", 1000, [0, 0], ENOSYS),
                ("clone of a thread", libc::SYS_clone, [0x3d_0f00, 0], ALLOW),
                ("clone into a user namespace", libc::SYS_clone, [0x1000_0011, 0], EPERM),
                ("clone into a mount namespace", libc::SYS_clone, [0x0002_0011, 0], EPERM),
                ("clone3", libc::SYS_clone3, [0, 0], ENOSYS),
                ("socket of AF_INET", libc::SYS_socket, [2, 1], ALLOW),
                ("socket of AF_VSOCK", libc::SYS_socket, [40, 1], EPERM),
                ("socket of AF_VSOCK in disguise", libc::SYS_socket, [1 << 32 | 40, 1], EPERM),
                ("socket of AF_ALG", libc::SYS_socket, [38, 1], EPERM),
                ("socket of AF_NFC", libc::SYS_socket, [39, 1], ALLOW),
                ("socket of AF_XDP", libc::SYS_socket, [44, 1], ALLOW),
                ("personality of Linux", libc::SYS_personality, [0, 0], ALLOW),
                ("personality asked", libc::SYS_personality, [0xffff_ffff, 0], ALLOW),
                ("personality without randomisation", libc::SYS_personality, [0x4_0000, 0], EPERM),
            ],
        );
        assert_eq!(run(&plain, Arch::X86, 102, [1, 0, 0, 0, 0, 0]), ALLOW, "socketcall");
        assert_eq!(run(&plain, Arch::X86, 21, [0; 6]), EPERM, "mount on x86");
        assert_eq!(run(&plain, Arch::X32, 0x4000_0000, [0; 6]), ALLOW, "read on x32");
        assert_eq!(run(&plain, Arch::X32, 0x4000_00a5, [0; 6]), EPERM, "mount on x32");
        answers(
            &program(&["SYS_ADMIN"]),
            &[
                ("mount", libc::SYS_mount, [0, 0], ALLOW),
                ("clone3", libc::SYS_clone3, [0, 0], ALLOW),
                ("clone into a user namespace", libc::SYS_clone, [0x1000_0011, 0], ALLOW),
                ("reboot", libc::SYS_reboot, [0, 0], EPERM),
            ],
        );
        answers(&program(&["SYS_TIME"]), &[("clock_settime", libc::SYS_clock_settime, [0, 0], ALLOW)]);
        answers(
            &compile(&default_profile(host(CapSet::EMPTY))).unwrap().0,
            &[("chroot", libc::SYS_chroot, [0, 0], EPERM)],
        );
        // The kernel also walks a filter once for every number when it is loaded.
        assert!(plain.len() < 400, "{} instructions", plain.len());
    }

    #[test]
    fn the_default_profile_names_only_calls_that_exist() {
        let known: crate::order::Set<&str> = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm]
            .into_iter()
            .flat_map(|arch| arch.calls())
            .map(|(_, name)| name)
            .chain(["riscv_hwprobe", "sync_file_range2"])
            .collect();
        let all = Host { caps: CapSet::NAMED, ..host(CapSet::EMPTY) };
        for arch in ["amd64", "arm64"] {
            for rule in default_profile(Host { arch, ..all }).syscalls {
                for name in rule.names {
                    assert!(known.contains(&*name), "{name}");
                }
            }
        }
    }

    #[test]
    fn conditions_of_a_users_profile() {
        let caps = CapSet::from_names(&["CAP_CHOWN", "CAP_KILL"]).unwrap();
        for (condition, applies) in [
            (r#""includes":{}"#, true),
            (r#""includes":{"caps":["CAP_CHOWN","CAP_KILL"]}"#, true),
            (r#""includes":{"caps":["CAP_CHOWN","CAP_SYS_ADMIN"]}"#, false),
            (r#""includes":{"arches":["arm64","amd64"]}"#, true),
            (r#""includes":{"arches":["s390x"]}"#, false),
            (r#""includes":{"minKernel":"6.1"}"#, true),
            (r#""includes":{"minKernel":"6.2"}"#, false),
            (r#""includes":{"minKernel":"5.19"}"#, true),
            (r#""excludes":{"caps":["CAP_SYS_ADMIN","CAP_KILL"]}"#, false),
            (r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, true),
            (r#""excludes":{"arches":["amd64","arm64"]}"#, false),
            (r#""excludes":{"minKernel":"4.8"}"#, false),
            (r#""excludes":null,"includes":{"caps":null},"comment":"x""#, true),
        ] {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",{condition}}}]}}"#
            );
            let profile = load(&text, host(caps)).unwrap().unwrap();
            assert_eq!(!profile.syscalls.is_empty(), applies, "{condition}");
        }
    }

    #[test]
    fn other_forms_of_a_users_profile() {
        let load = |text| load(text, Host { arch: "amd64", ..host(CapSet::EMPTY) });
        assert_eq!(load("{}").unwrap(), None);
        let profile = load(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":2,"syscalls":[{"name":"read","action":"SCMP_ACT_LOG","args":null}],
                "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
                           {"architecture":"SCMP_ARCH_AARCH64"}]}"#,
        );
        let profile = profile.unwrap().unwrap();
        assert_eq!(profile.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        assert_eq!(profile.syscalls[0].names, ["read"]);
        for (text, expected) in [
            ("nonsense", "decoding seccomp profile failed"),
            (r#"{"defaultAction":"SCMP_ACT_NOPE"}"#, "decoding seccomp profile failed"),
            (r#"{"syscalls":[{"name":"read","action":"SCMP_ACT_LOG"}]}"#, "no defaultAction"),
            (
                r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_LOG"}]}"#,
                "both 'name' and 'names'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"x"}]}"#,
                "both 'architectures' and 'archMap'",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"name":"a","action":"SCMP_ACT_LOG","includes":{"minKernel":"6"}}]}"#,
                "invalid kernel version",
            ),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn versions_of_kernels() {
        for (release, version) in
            [("6.1.0-13-amd64", Some((6, 1))), ("3.12-1-amd64", Some((3, 12))), ("6.18", Some((6, 18))), ("x", None)]
        {
            assert_eq!(kernel_version(release), version, "{release}");
        }
    }

    /// One thread alone gets the filter.
    #[test]
    fn the_kernel_takes_the_default_profile() {
        use crate::sys::process;
        let refused = std::thread::spawn(|| {
            let filter = compile(&default_profile(host(CapSet::default_of_docker()))).unwrap();
            process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).unwrap();
            process::seccomp_filter(&filter.0, filter.1).unwrap();
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS)
        });
        assert_eq!(refused.join().unwrap(), Err(nix::errno::Errno::EPERM));
        assert!(std::fs::read_to_string("/proc/self/status").unwrap().contains("Seccomp:\t0"));
    }
}
