//! Processes: clone3, pidfds, execveat, prctl, capabilities, seccomp.

use super::check;
use std::ffi::{CStr, CString, c_void};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which side of a clone returns.
pub enum Clone {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// `clone3(2)` as fork: its own memory, SIGCHLD at the end, a pidfd for the parent; `flags` is a set of `CLONE_NEW*`.
/// With `cgroup`, the child is born in that v2 cgroup (5.7).
///
/// The child of a process with several threads may only make system calls until it executes something: locks of
/// the C library may be held by threads that it does not have.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd>) -> io::Result<Clone> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &mut pidfd as *mut RawFd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on a copy of this stack, as after fork.
    match check(unsafe { libc::syscall(libc::SYS_clone3, &args as *const _, size_of_val(&args)) })? {
        0 => Ok(Clone::Child),
        // SAFETY: the kernel stored a new descriptor that nobody else owns.
        pid => Ok(Clone::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// `clone3(2)` as vfork: the child runs `entry` in this memory, on a stack of `length` bytes from `stack` up, and this
/// thread stands still until it has executed something or has ended. Its pid, and a pidfd.
///
/// # Safety
/// Nobody else uses the stack. What `entry` does with `given` and with this memory is right while other threads go on.
pub unsafe fn clone3_onto(
    stack: *mut c_void,
    length: usize,
    cgroup: Option<BorrowedFd>,
    entry: extern "C" fn(*const c_void) -> !,
    given: *const c_void,
) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    (args.stack, args.stack_size) = (stack as u64, length as u64);
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let result: isize;
    // SAFETY: the child begins on its own stack, with nothing on it, and never returns from `entry`; this thread sees a
    // system call that changes what `args` names. The C library has no function for it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw const args,
            in("rsi") size_of_val(&args),
            in("r12") given,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: the same.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x9",
            "blr x10",
            "2:",
            inlateout("x0") &raw const args => result,
            in("x1") size_of_val(&args),
            in("x8") libc::SYS_clone3,
            in("x9") given,
            in("x10") entry,
            // The call of `entry`, which the child alone makes.
            lateout("x30") _,
        );
    }
    match result {
        ..0 => Err(io::Error::from_raw_os_error(-result as i32)),
        // SAFETY: the kernel stored a new descriptor that nobody else owns.
        pid => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// `clone3(2)` as fork whose child is one of the caller's parent: a sibling. Its number, or 0 in it.
pub fn sibling(flags: u64, cgroup: Option<BorrowedFd>) -> io::Result<i32> {
    // SAFETY: clone_args is plain integers. The signal of the end is the caller's own.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PARENT as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on a copy of this stack, as after fork.
    check(unsafe { libc::syscall(libc::SYS_clone3, &args as *const _, size_of_val(&args)) }).map(|pid| pid as i32)
}

/// `clone(2)` as fork, without what clone3 can do more: filters that inspect flags let it pass. 0 is the child.
pub fn fork() -> io::Result<i32> {
    // SAFETY: without CLONE_VM the child runs on a copy of this stack; the process has one thread.
    check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) }).map(|pid| pid as i32)
}

/// Has what is started by a command killed when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)).
pub fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let ours = std::process::id();
    let set = move || {
        prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
        match std::os::unix::process::parent_id() == ours {
            true => Ok(()),
            // It ended just before.
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(set) };
}

/// `pidfd_open(2)`.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers only; a non-negative result is a new descriptor.
    check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as _) })
}

/// `pidfd_send_signal(2)`.
pub fn pidfd_send_signal(pidfd: BorrowedFd, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no siginfo is given.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// A child that has ended, or any (waitid(2)): its pid, and its exit code or 128 and the signal, real-time ones
/// included. `None` where none has ended. With `keep` it stays to be asked for again.
pub fn ended(child: Option<i32>, keep: bool) -> io::Result<Option<(i32, i32)>> {
    let (kind, id) = child.map_or((libc::P_ALL, 0), |pid| (libc::P_PID, pid as libc::id_t));
    let flags = libc::WEXITED | libc::WNOHANG | if keep { libc::WNOWAIT } else { 0 };
    // SAFETY: siginfo_t is plain integers and pointers; zeroed, its pid says that there is none.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel stores one siginfo_t.
    check(unsafe { libc::waitid(kind, id, &mut info, flags) } as _)?;
    // SAFETY: what waitid stores has these fields.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let code = if info.si_code == libc::CLD_EXITED { status } else { 128 + status };
    Ok((pid != 0).then_some((pid, code)))
}

/// Arguments or environment as execve(2) wants them, allocated before any fork.
pub struct Strings {
    _owned: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    pub fn new(strings: Vec<CString>) -> Strings {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Strings { _owned: strings, pointers }
    }
}

/// `execve(2)`; returns only the error.
pub fn execve(path: &CStr, args: &Strings, env: &Strings) -> io::Error {
    // SAFETY: both lists end with a null pointer and their strings live in the Strings.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// `execveat(2)` of the open file itself; returns only the error.
pub fn fexecve(file: BorrowedFd, args: &Strings, env: &Strings) -> io::Error {
    // SAFETY: as in `execve`; the path is empty.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Marks all descriptors from `first` on close-on-exec (close_range(2), 5.11).
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: marking is harmless to owners of the descriptors. 4 is CLOSE_RANGE_CLOEXEC.
    check(unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, 4u32) }).map(drop)
}

/// Takes ownership of an inherited descriptor number; an error where it is not open.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD looks only.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) } as _)?;
    // SAFETY: the descriptor is open, and the caller was told its number to own it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a descriptor be inherited by the program executed next (`inherit`), or not.
pub fn set_inherit(fd: BorrowedFd, inherit: bool) -> io::Result<()> {
    let flags = if inherit { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) } as _).map(drop)
}

/// Ends this process at once: no destructors, no buffers, as a child between fork and exec must.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Where the kernel has laid this process's own arguments, which others see in its cmdline (proc_pid_stat(5), fields 48
/// and 49); `None` where it does not say.
pub fn arguments() -> Option<Range<usize>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Field 2 is a name, which may hold anything; field 3 is the first behind it.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let mut ends = fields.skip(48 - 3).map(|field| field.parse::<usize>().ok());
    let (start, end) = (ends.next()??, ends.next()??);
    (start > 0 && start < end).then_some(start..end)
}

/// Writes other arguments over this process's own, each with its NUL, cut off where there is no room.
pub fn retitle(arguments: &Range<usize>, title: &[u8]) {
    let start = arguments.start as *mut u8;
    let length = title.len().min(arguments.len() - 1);
    // SAFETY: the range is that of `arguments` in this process or in the one that it is a copy of: its own memory, which
    // may be written, and of which nothing but the kernel keeps a reference.
    unsafe {
        start.write_bytes(0, arguments.len());
        start.copy_from_nonoverlapping(title.as_ptr(), length);
    }
}

/// `getrandom(2)`. Up to 256 bytes come whole.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    assert!(bytes.len() <= 256);
    loop {
        // SAFETY: the buffer is writable for its length.
        match check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as _) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// `prctl(2)` with integer arguments.
pub fn prctl(option: i32, a: u64, b: u64) -> io::Result<i32> {
    // SAFETY: only options with integer arguments are used through this wrapper.
    check(unsafe { libc::prctl(option, a, b, 0, 0) } as _).map(|value| value as i32)
}

/// `capset(2)` for this thread: 64-bit sets.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 }; // _LINUX_CAPABILITY_VERSION_3
    let low = [effective as u32, permitted as u32, inheritable as u32];
    let high = [(effective >> 32) as u32, (permitted >> 32) as u32, (inheritable >> 32) as u32];
    let data = [low, high];
    // SAFETY: version 3 takes two data structs of three u32 each.
    check(unsafe { libc::syscall(libc::SYS_capset, &header as *const Header, data.as_ptr()) }).map(drop)
}

/// `capget(2)` of this thread: (effective, permitted, inheritable).
pub fn capget() -> io::Result<(u64, u64, u64)> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 fills two data structs of three u32 each.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    let join = |i: usize| data[0][i] as u64 | (data[1][i] as u64) << 32;
    Ok((join(0), join(1), join(2)))
}

/// Drops from this thread's bounding set all that is not in `keep`.
pub fn drop_bounding(keep: u64) -> io::Result<()> {
    for cap in (0..64).filter(|cap| keep & (1 << cap) == 0) {
        match prctl(libc::PR_CAPBSET_DROP, cap, 0) {
            // Beyond the last capability of this kernel.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        };
    }
    Ok(())
}

/// Whether execve gives this process all that is in its bounding set, as it does to root.
pub fn is_given_back() -> io::Result<bool> {
    const NOROOT: i32 = 1;
    Ok(nix::unistd::geteuid().is_root()
        && prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0)? == 0
        && prctl(libc::PR_GET_SECUREBITS, 0, 0)? & NOROOT == 0)
}

/// `seccomp(2)` SECCOMP_SET_MODE_FILTER.
pub fn seccomp_filter(program: &[libc::sock_filter], flags: u64) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr() as *mut _ };
    // SAFETY: the program outlives the call; 1 is SECCOMP_SET_MODE_FILTER.
    check(unsafe { libc::syscall(libc::SYS_seccomp, 1, flags, &fprog as *const libc::sock_fprog) }).map(drop)
}

/// What a thread that works on files only never needs, and others would suffer from: signals and looks into processes,
/// programs, namespaces and mounts, files by handle, new sockets, the kernel's own settings, and the one way around a
/// filter (io_uring).
pub const HARMFUL: [libc::c_long; 40] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_by_handle_at,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
];

/// From now on these calls, and all in the numbers of another architecture, answer EPERM to this thread and to those that it
/// starts. Nothing where the kernel has no filters.
pub fn refuse(calls: &[libc::c_long]) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const NOT_LESS: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // AUDIT_ARCH_… of linux/audit.h, and where x32 begins.
    #[cfg(target_arch = "x86_64")]
    const NATIVE: u32 = 0xc000_003e;
    #[cfg(target_arch = "aarch64")]
    const NATIVE: u32 = 0xc000_00b7;
    const FOREIGN: u32 = 0x4000_0000;
    let one = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // How many come before the last one, which refuses, once so many of the calls are asked for.
    let rest = |asked: usize| u8::try_from(calls.len() - asked).unwrap_or(u8::MAX);
    let mut program = vec![
        one(LOAD, 0, 0, std::mem::offset_of!(libc::seccomp_data, arch) as u32),
        one(EQUAL, 0, rest(0) + 3, NATIVE),
        one(LOAD, 0, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32),
        one(NOT_LESS, rest(0) + 1, 0, FOREIGN),
    ];
    program.extend(calls.iter().enumerate().map(|(at, call)| one(EQUAL, rest(at), 0, *call as u32)));
    program.push(one(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program.push(one(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    match seccomp_filter(&program, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => Ok(()),
        done => done,
    }
}

/// `setgroups(2)`, `setgid(2)`, `setuid(2)` as plain system calls: the C library's would involve other threads.
pub fn setgroups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the slice is valid for its length.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// See [`setgroups`].
pub fn setresgid(gid: u32) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// See [`setgroups`].
pub fn setresuid(uid: u32) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// `setfsuid(2)` and `setfsgid(2)`: whose what this thread makes is. Neither call says whether it was done.
pub fn set_file_owner(uid: u32, gid: u32) {
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
}

/// Gives `fd` the number `number` too, without close-on-exec.
pub fn dup_to(fd: BorrowedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: integers only; whoever owns `number` has asked for it to be replaced.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) }).map(drop)
}

/// `close_range(2)`, both ends included.
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: called by a child that owns nothing of what it closes and will not touch it again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first as u32, last as u32, 0u32) }).map(drop)
}

/// `sethostname(2)` or `setdomainname(2)`, by its number.
pub fn set_uts_name(call: libc::c_long, name: &[u8]) -> io::Result<()> {
    // SAFETY: both calls take a pointer and a length.
    check(unsafe { libc::syscall(call, name.as_ptr(), name.len()) }).map(drop)
}

/// Makes the terminal the controlling one of this session (ioctl TIOCSCTTY).
pub fn set_controlling_terminal(fd: RawFd) -> io::Result<()> {
    // SAFETY: the ioctl takes an integer.
    check(unsafe { libc::ioctl(fd, libc::TIOCSCTTY as _, 0) } as _).map(drop)
}

/// `getcwd(2)` into `buffer`; the length with its NUL. Unlike the C library's, it gives "(unreachable)…" as it is.
pub fn getcwd(buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) }).map(|length| length as usize)
}

/// Gives a signal back what it does by default.
pub fn default_signal(signal: i32) -> io::Result<()> {
    // SAFETY: no handler is installed.
    let before = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// [`fexecve`] of a descriptor number that the caller has just put into place; returns only the error.
pub fn fexecve_number(file: RawFd, args: &Strings, env: &Strings) -> io::Error {
    // SAFETY: the number is open, and stays so until the call.
    fexecve(unsafe { BorrowedFd::borrow_raw(file) }, args, env)
}

/// Bytes sent on a unix stream socket that its peer has not read (ioctl SIOCOUTQ).
pub fn socket_queue(fd: BorrowedFd) -> io::Result<i32> {
    let mut queued: libc::c_int = 0;
    // SAFETY: the ioctl stores one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ as _, &mut queued) } as _).map(|_| queued)
}

/// `poll(2)`; how many have something. An interrupted one has nothing.
pub fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<usize> {
    // SAFETY: the slice is valid for its length.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, timeout_ms) } as _) {
        Ok(count) => Ok(count as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// A descriptor number that stays open for the life of this program, borrowed.
pub fn unbound(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: callers name only the descriptors that every face of a shim inherits and never closes.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Sets a terminal's size in characters (ioctl TIOCSWINSZ).
pub fn set_window_size(terminal: BorrowedFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the ioctl reads one winsize.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &size) } as _).map(drop)
}

/// The other end of a terminal, opened through its master (ioctl TIOCGPTPEER, 4.13): no path is looked up.
pub fn terminal_peer(master: BorrowedFd) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the ioctl takes open flags; a non-negative result is a new descriptor.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) } as _)
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd as _) })
}

/// Unlocks a new terminal (ioctl TIOCSPTLCK).
pub fn unlock_terminal(master: BorrowedFd) -> io::Result<()> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the ioctl reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &unlocked) } as _).map(drop)
}

/// How nice this process is to others, from 0 to 19 (setpriority(2)).
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } as _).map(drop)
}

/// Sets another process's resource limit (prlimit(2)).
pub fn prlimit(pid: i32, resource: i32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the kernel reads one rlimit64 and stores nothing.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &limit, none) }).map(drop)
}

/// Sets every signal to its default action and blocks none: what a program expects to be started with.
pub fn default_signals() -> io::Result<()> {
    // SAFETY: SIG_DFL and an empty set are always valid; numbers that no handler may have say EINVAL and are left.
    unsafe {
        for signal in 1..=64 {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction != libc::SIG_DFL {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) as _).map(drop)
    }
}

/// Leaves the session keyring that was inherited for a new one (keyctl(2) KEYCTL_JOIN_SESSION_KEYRING).
pub fn join_session_keyring() -> io::Result<()> {
    // SAFETY: without a name the new keyring is anonymous.
    check(unsafe { libc::syscall(libc::SYS_keyctl, 1, std::ptr::null::<libc::c_char>()) }).map(drop)
}

/// `readlinkat(2)` into `buffer`; the length, without a NUL.
pub fn readlinkat(dir: BorrowedFd, path: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: path is NUL-terminated and the buffer valid for its length.
    let result = unsafe {
        libc::syscall(libc::SYS_readlinkat, dir.as_raw_fd(), path.as_ptr(), buffer.as_mut_ptr(), buffer.len())
    };
    check(result).map(|length| length as usize)
}
