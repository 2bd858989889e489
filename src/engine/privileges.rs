//! What our own processes hold of root's rights: each face what it does itself, and in its bounding set what the faces
//! after it do. Root's execve gives back what is bounded, so a shim that waits holds next to nothing and still starts its
//! container anew. A filter of calls and no_new_privs would not be given back, to a container neither: only those have
//! them from whom no container comes. The table with the reasons is in ARCHITECTURE.

use crate::api::types::HostConfig;
use crate::ns::caps::{self, CapSet};
use crate::ns::seccomp;
use crate::oci::runtime::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};
use crate::sys::{kernel, process};
use anyhow::{Context, Result};
use std::io;
use std::path::Path;

/// Whom those run as that need nothing of root's: nobody.
pub const NOBODY: u32 = 65_534;

/// What an engine does itself.
const ENGINE: [&str; 20] = [
    // Files of any owner: layers, roots of containers, volumes, copies; devices and capabilities that are in them; flags
    // and quotas.
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "LINUX_IMMUTABLE",
    "MKNOD",
    "SETFCAP",
    // Of the default AppArmor profile, that it is there.
    "MAC_ADMIN",
    // Processes of containers: who they are, their limits, an end to them, their namespaces.
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_RESOURCE",
    // Mounts, namespaces, programs on cgroups.
    "SYS_ADMIN",
    // Links, addresses and rules; ports below 1024; to read the rules that others made with iptables.
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_RAW",
];

pub fn engine() -> CapSet {
    named(&ENGINE)
}

/// What a container with that bounding set needs to be started again. Of what is dropped by name, too, it is asked
/// whether we have it.
pub fn later(bounding: CapSet, wants: &HostConfig) -> CapSet {
    let dropped = wants.cap_drop.iter().flatten().filter_map(|name| caps::number(name));
    dropped.fold(bounding.union(engine()), CapSet::with)
}

/// Of a shim that waits for the end of its process: to signal a process of another user, and, where it may come to watch
/// over the firewall's table, to hear of that.
pub fn watch(guards: bool) -> CapSet {
    named(if guards { &["KILL", "NET_ADMIN"] } else { &["KILL"] })
}

fn named(names: &[&str]) -> CapSet {
    names.iter().filter_map(|name| caps::number(name)).fold(CapSet::EMPTY, CapSet::with)
}

/// Keeps this thread, and threads that it starts from now on, to a set, until it executes something. Where that would not
/// give back what is bounded (no_new_privs, securebits, not root), nothing is let go.
pub fn hold(set: CapSet) -> io::Result<()> {
    if !process::is_given_back()? {
        return Ok(());
    }
    let (effective, permitted, inheritable) = process::capget()?;
    let kept = permitted & set.0;
    if kept == permitted { Ok(()) } else { process::capset(effective & kept, kept, inheritable) }
}

/// A shim from now on: `later` is what its next faces may come to need, nothing where no container comes from it.
pub fn become_watch(guards: bool, later: Option<CapSet>) -> io::Result<()> {
    let held = watch(guards);
    process::drop_bounding(later.unwrap_or(held).0)?;
    hold(held)?;
    match later {
        Some(_) => Ok(()),
        None => process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop),
    }
}

/// What pasta and slirp4netns need: to enter a network and set it up, to hide from themselves what they do not need, and to
/// let the rest go.
const WAY_OUT: [&str; 6] = ["NET_ADMIN", "NET_BIND_SERVICE", "SETPCAP", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"];

/// Who keeps an ordinary user's way out, from now on: it waits, and starts one of those. None of it is in effect, but all is
/// permitted: who gains some by execve is not killed any more when its parent ends.
pub fn become_gateway() -> io::Result<()> {
    let tool = named(&WAY_OUT).0;
    process::drop_bounding(tool)?;
    let (_, permitted, _) = process::capget()?;
    process::capset(0, permitted & tool, 0)
}

/// What is kept where all is given up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// It is nobody, where there is such a user.
    Nothing,
    /// Who it is.
    User,
    /// In an ordinary user's namespace, and nowhere else, what it takes to enter his network.
    Entering,
}

/// Gives up all capabilities, and whatever execve could bring.
pub fn give_up(keep: Keep) -> Result<()> {
    process::drop_bounding(0).context("empty the bounding set")?;
    if keep == Keep::Nothing {
        if kernel::may_set_groups() {
            process::setgroups(&[]).context("leave all groups")?;
        }
        // In an ordinary user's namespace there may be no such id.
        for done in [process::setresgid(NOBODY), process::setresuid(NOBODY)] {
            match done {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !kernel::is_first_user_namespace() => {}
                done => done.context("become nobody")?,
            }
        }
    }
    let held = if keep == Keep::Entering { named(&["SYS_ADMIN"]) } else { CapSet::EMPTY }.0;
    process::capset(held, held, 0).context("give up capabilities")?;
    process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).context("rule privileges out").map(drop)
}

/// Calls that every program makes: memory, time, its end.
const ALWAYS: &str = "brk clock_gettime clock_nanosleep exit exit_group fcntl futex getrandom gettimeofday madvise mmap \
     mprotect mremap munmap nanosleep restart_syscall rt_sigprocmask rt_sigreturn sched_yield sigaltstack";
/// Of what is open: sockets, pipes, files.
const OPEN: &str = "accept accept4 bind close connect fstat getpeername getsockname getsockopt ioctl lseek poll ppoll read \
     readv recvfrom recvmsg sendmsg sendto setsockopt shutdown write writev";
/// To look at files.
const LOOK: &str = "getdents64 lstat newfstatat stat statx";
/// Those of the C library around a thread.
const THREADS: &str = "gettid rseq sched_getaffinity set_robust_list";

/// No C library ever makes these in place of others: whoever does is no program of ours, and ends.
const HOSTILE: &str = "add_key bpf chroot execve execveat finit_module fork init_module io_uring_setup kexec_load keyctl \
     mount move_mount open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_vm_readv process_vm_writev \
     ptrace request_key setns umount2 unshare userfaultfd vfork";

/// What a process of ours does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Waits for a lock.
    Wait,
    /// Answers on sockets, from files that it reads.
    Answer,
    /// Makes one open file of another.
    Pack,
    /// Passes bytes from socket to socket, in threads.
    Pass,
    /// The same, where some of the sockets are in another network.
    PassInside,
}

/// Refuses all calls but those of this work, for this thread and those that it starts. What else a later C library may come
/// to call answers as if it were not permitted, so that it finds another way: a process that were killed for it would be
/// started again and again.
pub fn keep_to(work: Work) -> Result<()> {
    let (program, flags) = seccomp::compile(&filter(work))?;
    match process::seccomp_filter(&program, flags) {
        Err(_) if !Path::new("/proc/sys/kernel/seccomp").exists() => Ok(()),
        done => done.context("filter system calls"),
    }
}

fn filter(work: Work) -> Seccomp {
    let rule = |names: &'static str, action, args| SeccompRule {
        names: names.split_whitespace().map(Into::into).collect(),
        action,
        errno_ret: None,
        args,
    };
    let allow = |names| rule(names, SeccompAction::Allow, Vec::new());
    let equal = |index, value| vec![SeccompArg { index, value, value_two: 0, op: SeccompOp::Eq }];
    let masked =
        |index, mask, value| vec![SeccompArg { index, value: mask, value_two: value, op: SeccompOp::MaskedEq }];
    let mut hostile = rule(HOSTILE, SeccompAction::KillProcess, Vec::new());
    if work == Work::PassInside {
        hostile.names.retain(|name| name != "setns");
    }
    let mut rules = vec![allow(ALWAYS), hostile];
    if !matches!(work, Work::Wait | Work::Pack) {
        rules.push(allow(OPEN));
        // No netlink, no packets: what nobody needs has been where kernels broke.
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            rules.push(rule("socket", SeccompAction::Allow, equal(0, family as u64)));
        }
    }
    if work == Work::PassInside {
        rules.push(rule("setns", SeccompAction::Allow, equal(1, libc::CLONE_NEWNET as u64)));
    }
    match work {
        Work::Wait => {}
        Work::Pack => rules.push(allow("close fstat fsync read write writev")),
        Work::Answer => {
            let writes = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
            rules.extend([
                allow(LOOK),
                rule("openat", SeccompAction::Allow, masked(2, writes, 0)),
                rule("open", SeccompAction::Allow, masked(1, writes, 0)),
            ]);
        }
        Work::Pass | Work::PassInside => {
            let thread = libc::CLONE_THREAD as u64;
            rules.extend([
                allow(THREADS),
                rule("clone", SeccompAction::Allow, masked(0, thread, thread)),
                // Its flags are in memory, where no filter sees them.
                SeccompRule {
                    errno_ret: Some(libc::ENOSYS as u32),
                    ..rule("clone3", SeccompAction::Errno, Vec::new())
                },
            ]);
        }
    }
    Seccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: None,
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls: rules,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::Clone;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(engine().names().len(), ENGINE.len());
        assert_eq!(watch(false).names(), ["CAP_KILL"]);
        assert_eq!(watch(true).names(), ["CAP_KILL", "CAP_NET_ADMIN"]);
        // What Docker gives is an engine's, but for one.
        let more = CapSet::default_of_docker().without(engine());
        assert_eq!(more.names(), ["CAP_AUDIT_WRITE"]);
        let drops = |names: &[&str]| HostConfig {
            cap_drop: Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).into(),
            ..HostConfig::default()
        };
        let more = |given, wants: &HostConfig| later(given, wants).without(engine()).names();
        assert_eq!(more(CapSet::EMPTY, &drops(&["ALL", "KILL"])), [""; 0]);
        assert_eq!(more(named(&["SYS_TIME"]), &drops(&["cap_sys_boot"])), ["CAP_SYS_BOOT", "CAP_SYS_TIME"]);
    }

    /// How a process ends that keeps to a work and then does this; it gives 0 where that is done.
    fn ends(work: Work, does: impl Fn() -> io::Result<()>) -> WaitStatus {
        let program = seccomp::compile(&filter(work)).unwrap();
        match process::clone3(0, None).unwrap() {
            Clone::Child => {
                let held = || -> io::Result<()> {
                    process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
                    process::seccomp_filter(&program.0, program.1)?;
                    does()
                };
                let code = held().map_or_else(|error| error.raw_os_error().unwrap_or(255), |()| 0);
                process::exit_now(code)
            }
            Clone::Parent { pid, .. } => waitpid(Pid::from_raw(pid), None).unwrap(),
        }
    }

    #[test]
    fn calls_are_kept_to_the_work() {
        let code = |status| match status {
            WaitStatus::Exited(_, code) => Ok(code),
            WaitStatus::Signaled(_, signal, _) => Err(signal),
            other => panic!("{other:?}"),
        };
        let killed = Err(nix::sys::signal::Signal::SIGSYS);
        let read = || nix::fcntl::open("/etc/passwd", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty());
        let write = || nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_WRONLY, nix::sys::stat::Mode::empty());
        let socket = |family| {
            nix::sys::socket::socket(
                family,
                nix::sys::socket::SockType::Datagram,
                nix::sys::socket::SockFlag::empty(),
                None,
            )
        };
        use nix::sys::socket::AddressFamily;
        // Made here: another thread may hold the heap's lock when a child is made, which never lets it go there.
        let none = process::Strings::new(Vec::new());
        for (work, file, inet, fork) in
            [(Work::Wait, 1, 1, 1), (Work::Pack, 1, 1, 1), (Work::Answer, 0, 0, 1), (Work::Pass, 1, 0, 1)]
        {
            assert_eq!(code(ends(work, || Ok(read().map(drop)?))), Ok(file), "{work:?} reads");
            assert_eq!(code(ends(work, || Ok(write().map(drop)?))), Ok(1), "{work:?} writes");
            assert_eq!(code(ends(work, || Ok(socket(AddressFamily::Inet6).map(drop)?))), Ok(inet), "{work:?}");
            assert_eq!(code(ends(work, || Ok(socket(AddressFamily::Packet).map(drop)?))), Ok(1), "{work:?}");
            assert_eq!(code(ends(work, || process::fork().map(drop))), Ok(fork), "{work:?} forks");
            let executes = || Err(process::execve(c"/bin/true", &none, &none));
            assert_eq!(code(ends(work, executes)), killed, "{work:?} executes");
            let unshares = || Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?);
            assert_eq!(code(ends(work, unshares)), killed, "{work:?} makes a namespace");
        }
        // Only a network is entered, and by one of these only.
        let given = std::fs::File::open("/proc/self/ns/net").unwrap();
        let (net, mount) = (nix::sched::CloneFlags::CLONE_NEWNET, nix::sched::CloneFlags::CLONE_NEWNS);
        let enters = |work, kind| code(ends(work, || Ok(nix::sched::setns(&given, kind)?)));
        assert_eq!((enters(Work::PassInside, mount), enters(Work::Pass, net)), (Ok(libc::EPERM), killed));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(enters(Work::PassInside, net), Ok(0));
        }
    }
}
