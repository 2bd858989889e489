//! The child between clone and exec: walks the steps of a plan. Each is one or a few system calls and allocates
//! nothing; the first that fails is reported as `(step, errno)`, and the child is gone.

use super::step::{Exec, Step};
use super::{Prepared, init};
use crate::sys::mount::{self, MOUNT_ATTR_RDONLY, MountAttr, OPEN_TREE_CLONE};
use crate::sys::{self, file, process, xattr};
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::stat::Mode;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

type Done = Result<(), Errno>;

/// Exit code of a child that has reported why it could not go on; nobody reads it.
pub(super) const REPORTED: i32 = 125;

/// What stands at a mount point, and so what is made there where nothing is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Directory,
    File,
}

/// What later steps need of earlier ones. Descriptors only, so nothing here is on the heap.
#[derive(Default)]
struct Made {
    /// Our own proc, through which sysctls are written.
    proc: Option<OwnedFd>,
    /// Where our AppArmor profile is written, and where our SELinux label.
    profile: Option<OwnedFd>,
    label: Option<OwnedFd>,
    null_used: bool,
    empty_used: bool,
}

/// Walks all steps; does not come back.
pub fn walk(steps: &[Step], prepared: &Prepared) -> ! {
    let mut made = Made::default();
    for (number, step) in steps.iter().enumerate() {
        if let Err(errno) = take(step, prepared, &mut made) {
            let mut message = [0; 8];
            message[..4].copy_from_slice(&(number as u32).to_ne_bytes());
            message[4..].copy_from_slice(&(errno as i32).to_ne_bytes());
            let _ = nix::unistd::write(&prepared.report, &message);
            process::exit_now(REPORTED);
        }
    }
    process::exit_now(REPORTED)
}

fn take(step: &Step, prepared: &Prepared, made: &mut Made) -> Done {
    let root = || prepared.root.as_ref().map(|root| root.as_fd()).ok_or(Errno::EBADF);
    match step {
        Step::Hide => {
            nix::sys::stat::umask(nix::sys::stat::Mode::empty());
            process::prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop).map_err(errno)
        }
        Step::DefaultSignals => process::default_signals().map_err(errno),
        Step::CloseLock => {
            if let Some(lock) = prepared.lock {
                nix::unistd::close(lock)?;
            }
            Ok(())
        }
        Step::OpenProfile { now } => {
            let paths = match now {
                true => [c"/proc/thread-self/attr/apparmor/current", c"/proc/thread-self/attr/current"],
                // Before 5.8 all modules share one.
                false => [c"/proc/thread-self/attr/apparmor/exec", c"/proc/thread-self/attr/exec"],
            };
            let open = |path: &CStr| file::openat2(cwd(), path, libc::O_WRONLY, 0, 0).map_err(errno);
            made.profile = Some(open(paths[0]).or_else(|_| open(paths[1]))?);
            Ok(())
        }
        Step::Profile { words, .. } => {
            let file = made.profile.take().ok_or(Errno::EBADF)?;
            nix::unistd::write(&file, words.to_bytes()).map(drop)
        }
        Step::OpenLabel => {
            let path = c"/proc/thread-self/attr/exec";
            made.label = Some(file::openat2(cwd(), path, libc::O_WRONLY, 0, 0).map_err(errno)?);
            Ok(())
        }
        Step::Label(label) => {
            let file = made.label.take().ok_or(Errno::EBADF)?;
            nix::unistd::write(&file, label.to_bytes()).map(drop)
        }
        Step::KeyLabel(label) => {
            let file = match file::openat2(cwd(), c"/proc/thread-self/attr/keycreate", libc::O_WRONLY, 0, 0) {
                // A kernel without keyrings has none to label.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                other => other.map_err(errno)?,
            };
            nix::unistd::write(&file, label.as_ref().map_or(b"\n", |label| label.to_bytes())).map(drop)
        }
        Step::JoinNamespace { slot, .. } => {
            Ok(nix::sched::setns(prepared.slot(*slot)?, nix::sched::CloneFlags::empty())?)
        }
        Step::JoinProcess { slot, flags } => {
            Ok(nix::sched::setns(prepared.slot(*slot)?, nix::sched::CloneFlags::from_bits_retain(*flags))?)
        }
        Step::BecomeRoot => {
            process::setgroups(&[]).map_err(errno)?;
            process::setresgid(0).map_err(errno)?;
            process::setresuid(0).map_err(errno)?;
            // A change of credentials may have made it dumpable again.
            process::prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop).map_err(errno)
        }
        Step::NewSession => {
            // A kernel without keyrings has none to leave.
            let _ = process::join_session_keyring();
            nix::unistd::setsid().map(drop)
        }
        Step::PrivateMounts => private_mounts(),
        Step::AttachRoot { at } => {
            let root = root()?;
            mount::move_mount(root, cwd(), at).map_err(errno)?;
            Ok(nix::unistd::fchdir(root)?)
        }
        Step::NewMount { kind, config, attributes, target } => {
            let fs = new_mount(kind, config, *attributes)?;
            // proc and sysfs must stand where their names say: a link in the image would make them decoys.
            let fixed = kind.as_c_str() == c"proc" || kind.as_c_str() == c"sysfs";
            let place = place(root()?, target, Kind::Directory, if fixed { libc::RESOLVE_NO_SYMLINKS } else { 0 })?;
            not_in_proc(&place, target)?;
            mount::move_mount(fs.as_fd(), place.as_fd(), c"").map_err(errno)?;
            if kind.as_c_str() == c"proc" {
                made.proc = Some(fs);
            }
            Ok(())
        }
        Step::LabelFile { path, label } => {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK;
            let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
            let file = file::openat2(root()?, path, flags, 0, resolve).map_err(errno)?;
            match xattr::fsetxattr(file.as_fd(), c"security.selinux", label.to_bytes()).map_err(errno) {
                // The policy labels the file system as a whole.
                Err(Errno::EOPNOTSUPP) => Ok(()),
                other => other,
            }
        }
        Step::Attach { slot, target, alike } => {
            let source = prepared.slot(*slot)?;
            let directory = is_directory(source)?;
            let mode = if *alike { mode_of(root()?, target)? } else { None };
            let kind = if directory { Kind::Directory } else { Kind::File };
            let place = place(root()?, target, kind, 0)?;
            not_in_proc(&place, target)?;
            // The kernel has no better word for it than "invalid argument".
            if is_directory(&place)? != directory {
                return Err(Errno::ENOTDIR);
            }
            mount::move_mount(source, place.as_fd(), c"").map_err(errno)?;
            mode.map_or(Ok(()), |mode| set_mode(source, mode))
        }
        Step::MakeDirectory { path } => place(root()?, path, Kind::Directory, 0).map(drop),
        Step::MakeNode { path, mode, device, uid, gid } => make_node(root()?, path, *mode, *device, *uid, *gid),
        Step::MakeSymlink { path, target } => with_parent(path, |dir, leaf| {
            let dir = place(root()?, dir, Kind::Directory, 0)?;
            match nix::unistd::symlinkat(target.as_c_str(), &dir, leaf) {
                Err(Errno::EEXIST) => Ok(()),
                other => other,
            }
        }),
        Step::Console { slot, target } => {
            // In a /dev that is a volume it could be a link to a file of proc (CVE-2025-52565).
            let place = place(root()?, target, Kind::File, libc::RESOLVE_NO_SYMLINKS)?;
            not_in_proc(&place, target)?;
            let made;
            let tty = match slot {
                Some(slot) => {
                    made = mount::open_tree(prepared.slot(*slot)?, c"0", OPEN_TREE_CLONE).map_err(errno)?;
                    &made
                }
                None => prepared.console.as_ref().ok_or(Errno::EBADF)?,
            };
            mount::move_mount(tty.as_fd(), place.as_fd(), c"").map_err(errno)
        }
        Step::Mask { path } => mask(root()?, path, prepared, made),
        Step::ReadonlyPath { path } => {
            let place = match find(root()?, path, 0) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
                other => other?,
            };
            let flags = OPEN_TREE_CLONE | mount::AT_RECURSIVE | libc::AT_EMPTY_PATH as u32;
            let copy = mount::open_tree(place.as_fd(), c"", flags).map_err(errno)?;
            let attr = MountAttr { attr_set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
            mount::mount_setattr(copy.as_fd(), true, &attr).map_err(errno)?;
            mount::move_mount(copy.as_fd(), place.as_fd(), c"").map_err(errno)
        }
        Step::ReadonlyRoot => {
            let attr = MountAttr { attr_set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
            mount::mount_setattr(root()?, false, &attr).map_err(errno)
        }
        Step::Pivot => pivot(root()?, &prepared.below),
        Step::Loopback => crate::sys::net::loopback_up().map_err(errno),
        Step::Hostname(name) => set_name(name, libc::SYS_sethostname),
        Step::Domainname(name) => set_name(name, libc::SYS_setdomainname),
        Step::Sysctl { path, value } => {
            // Where /proc is a bind of the user's, what is written to is mounted nowhere.
            let proc = match &made.proc {
                Some(proc) => proc,
                None => made.proc.insert(new_mount(c"proc", &[], 0)?),
            };
            let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS;
            let file = file::openat2(proc.as_fd(), path, libc::O_WRONLY, 0, resolve).map_err(errno)?;
            nix::unistd::write(&file, value.to_bytes()).map(drop)
        }
        Step::Meet => {
            nix::unistd::write(&prepared.report, &[0; 8])?;
            wait_for_word(prepared)
        }
        Step::WaitForGo => wait_for_word(prepared),
        Step::Stdio { terminal, owner } => stdio(prepared, *terminal, *owner),
        Step::CloseDescriptors => {
            // Close-on-exec is not enough: steps after this one open paths that the image chose.
            let (go, report) = (prepared.go.as_raw_fd(), prepared.report.as_raw_fd());
            let (low, high) = (go.min(report), go.max(report));
            close_between(3, low - 1)?;
            close_between(low + 1, high - 1)?;
            close_between(high + 1, i32::MAX)
        }
        Step::ChangeDirectory { path } => change_directory(path),
        Step::Umask(mask) => {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Step::Bounding(keep) => process::drop_bounding(*keep).map_err(errno),
        Step::KeepCapabilities => process::prctl(libc::PR_SET_KEEPCAPS, 1, 0).map(drop).map_err(errno),
        Step::Groups(groups) => process::setgroups(groups).map_err(errno),
        Step::Gid(gid) => process::setresgid(*gid).map_err(errno),
        Step::Uid(uid) => process::setresuid(*uid).map_err(errno),
        Step::Capabilities { effective, permitted, inheritable } => {
            process::capset(*effective, *permitted, *inheritable).map_err(errno)
        }
        Step::Ambient(set) => {
            for cap in (0..64).filter(|cap| set & (1 << cap) != 0) {
                process::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, cap).map_err(errno)?;
            }
            Ok(())
        }
        Step::DeathSignal => {
            process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map_err(errno)?;
            // From inside a pid namespace getppid() says 0 for a living parent and a dead one alike; the other end
            // of the pipe, which the parent keeps until we have executed, tells them apart.
            let mut poll = [nix::poll::PollFd::new(prepared.go.as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut poll, 0u8)?;
            let gone = poll[0].revents().is_some_and(|events| events.contains(nix::poll::PollFlags::POLLHUP));
            if gone { Err(Errno::ECANCELED) } else { Ok(()) }
        }
        Step::NoNewPrivileges => process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop).map_err(errno),
        Step::Seccomp { program, flags } => process::seccomp_filter(program, *flags).map_err(errno),
        Step::Init { title } => init::stand_by(prepared, title),
        Step::Exec(exec) => execute(exec),
    }
}

/// Waits for the parent's word.
fn wait_for_word(prepared: &Prepared) -> Done {
    let mut byte = [0; 1];
    // Nothing to read: the parent has gone, and with it the wish for this container.
    if nix::unistd::read(&prepared.go, &mut byte)? == 1 { Ok(()) } else { Err(Errno::ECANCELED) }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn cwd() -> BorrowedFd<'static> {
    nix::fcntl::AT_FDCWD
}

fn new_mount(kind: &CStr, config: &[(CString, Option<CString>)], attributes: u64) -> Result<OwnedFd, Errno> {
    let context = mount::fsopen(kind).map_err(errno)?;
    for (key, value) in config {
        match value {
            Some(value) => mount::fsconfig_string(context.as_fd(), key, value),
            None => mount::fsconfig_flag(context.as_fd(), key),
        }
        .map_err(errno)?;
    }
    mount::fsconfig_create(context.as_fd()).map_err(errno)?;
    mount::fsmount(context.as_fd(), attributes).map_err(errno)
}

/// The mode of a directory, where there is one.
fn mode_of(root: BorrowedFd, path: &CStr) -> Result<Option<Mode>, Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match file::openat2(root, path, flags, 0, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS) {
        Ok(directory) => Ok(Some(Mode::from_bits_truncate(nix::sys::stat::fstat(&directory)?.st_mode))),
        Err(_) => Ok(None),
    }
}

/// Of the root of a mount of ours, which may be read-only.
fn set_mode(made: BorrowedFd, mode: Mode) -> Result<(), Errno> {
    let directory = file::openat2(made, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0, 0).map_err(errno)?;
    let change = || nix::sys::stat::fchmod(&directory, mode);
    let done = change();
    if done != Err(Errno::EROFS) {
        return done;
    }
    let read_only = |set, clear| {
        let attr = MountAttr { attr_set: set, attr_clr: clear, ..MountAttr::default() };
        mount::mount_setattr(made, false, &attr).map_err(errno)
    };
    read_only(0, MOUNT_ATTR_RDONLY)?;
    change()?;
    read_only(MOUNT_ATTR_RDONLY, 0)
}

fn is_directory(file: impl AsFd) -> Result<bool, Errno> {
    Ok(nix::sys::stat::fstat(file)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Opens an existing path inside the root.
fn find(root: BorrowedFd, path: &CStr, resolve: u64) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return file::openat2(root, c".", libc::O_PATH, 0, 0).map_err(errno);
    }
    let resolve = resolve | libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    file::openat2(root, path, libc::O_PATH, 0, resolve).map_err(errno)
}

/// How many dangling links in a row a mount point may be, as the kernel has it.
const LINKS: u32 = 40;

/// Opens the path inside the root, making what is missing: directories, and at the end what `kind` says. Where a link
/// leads to what is not there, that is made, inside the root.
fn place(root: BorrowedFd, path: &CStr, kind: Kind, resolve: u64) -> Result<OwnedFd, Errno> {
    place_after(root, path, kind, resolve, 0)
}

fn place_after(root: BorrowedFd, path: &CStr, kind: Kind, resolve: u64, links: u32) -> Result<OwnedFd, Errno> {
    match find(root, path, resolve) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let bytes = path.to_bytes();
    let mut prefix = [0u8; PATH];
    if bytes.len() >= prefix.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut parent = find(root, c"", 0)?;
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes[start..].iter().position(|byte| *byte == b'/').map_or(bytes.len(), |at| start + at);
        if end == start {
            start += 1;
            continue;
        }
        prefix[..end].copy_from_slice(&bytes[..end]);
        prefix[end] = 0;
        let whole = cstr(&prefix[..=end])?;
        parent = match find(root, whole, resolve) {
            Err(Errno::ENOENT) => {
                let leaf = cstr(&prefix[start..=end])?;
                let file = kind == Kind::File && bytes[end..].iter().all(|byte| *byte == b'/');
                match make(&parent, leaf, file) {
                    Err(Errno::EEXIST) if links < LINKS && resolve & libc::RESOLVE_NO_SYMLINKS == 0 => {
                        let mut target = [0u8; PATH];
                        let joined = follow(&parent, leaf, &bytes[..start], &bytes[end..], &mut target)?;
                        return place_after(root, joined, kind, resolve, links + 1);
                    }
                    other => other?,
                }
                find(root, whole, resolve)?
            }
            other => other?,
        };
        start = end + 1;
    }
    Ok(parent)
}

/// Refuses a mount over what is the kernel's own word (CVE-2019-16884, CVE-2019-19921): a process would then read or
/// write a decoy. Files that only inform may be covered, as lxcfs does.
fn not_in_proc(place: &OwnedFd, target: &CStr) -> Done {
    const INFORM: [&CStr; 10] = [
        c"proc/cpuinfo",
        c"proc/diskstats",
        c"proc/meminfo",
        c"proc/stat",
        c"proc/swaps",
        c"proc/uptime",
        c"proc/loadavg",
        c"proc/slabinfo",
        c"proc/sys/kernel/ns_last_pid",
        c"proc/sys/crypto/fips_enabled",
    ];
    let proc = nix::sys::statfs::fstatfs(place)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC;
    if proc && !INFORM.contains(&target) { Err(Errno::EPERM) } else { Ok(()) }
}

const PATH: usize = libc::PATH_MAX as usize;

fn make(dir: &OwnedFd, leaf: &CStr, file: bool) -> Done {
    use nix::fcntl::OFlag;
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
    if file {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
        return nix::fcntl::openat(dir, leaf, flags, mode).map(drop);
    }
    nix::sys::stat::mkdirat(dir, leaf, mode)
}

/// The path that a dangling link means, with what came before it and what comes after.
fn follow<'a>(
    dir: &OwnedFd,
    leaf: &CStr,
    before: &[u8],
    after: &[u8],
    path: &'a mut [u8; PATH],
) -> Result<&'a CStr, Errno> {
    let mut link = [0u8; PATH];
    let length = process::readlinkat(dir.as_fd(), leaf, &mut link).map_err(errno)?;
    let before = if link[0] == b'/' { &[] } else { before };
    let mut used = 0;
    for part in [before, b"/", &link[..length], after, b"\0"] {
        path.get_mut(used..used + part.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(part);
        used += part.len();
    }
    cstr(&path[..used])
}

fn cstr(bytes: &[u8]) -> Result<&CStr, Errno> {
    CStr::from_bytes_with_nul(bytes).map_err(|_| Errno::EINVAL)
}

/// Calls `act` with the directory and the last component of a path.
fn with_parent(path: &CStr, act: impl FnOnce(&CStr, &CStr) -> Done) -> Done {
    let bytes = path.to_bytes_with_nul();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        None => act(c"", path),
        Some(at) => {
            let mut dir = [0u8; libc::PATH_MAX as usize];
            dir.get_mut(..at).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(&bytes[..at]);
            act(cstr(&dir[..=at])?, cstr(&bytes[at + 1..])?)
        }
    }
}

fn make_node(root: BorrowedFd, path: &CStr, mode: u32, device: u64, uid: u32, gid: u32) -> Done {
    use nix::sys::stat::{Mode, SFlag};
    with_parent(path, |dir, leaf| {
        let dir = place(root, dir, Kind::Directory, 0)?;
        let (kind, mode) = (SFlag::from_bits_truncate(mode), Mode::from_bits_truncate(mode));
        match nix::sys::stat::mknodat(&dir, leaf, kind, mode, device) {
            // --device of what is there already: the new one replaces it.
            Err(Errno::EEXIST) => match nix::unistd::unlinkat(&dir, leaf, nix::unistd::UnlinkatFlags::NoRemoveDir) {
                // What was mounted in its place stays, as with runc.
                Err(Errno::EBUSY) => return Ok(()),
                removed => {
                    removed?;
                    nix::sys::stat::mknodat(&dir, leaf, kind, mode, device)?;
                }
            },
            other => other?,
        }
        let (uid, gid) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
        nix::unistd::fchownat(&dir, leaf, Some(uid), Some(gid), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
    })
}

/// The first masked path takes the prepared mount itself, which is then in this namespace and can be cloned.
fn mask(root: BorrowedFd, path: &CStr, prepared: &Prepared, made: &mut Made) -> Done {
    let place = match find(root, path, 0) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let (cover, used) = match is_directory(&place)? {
        true => (&prepared.empty, &mut made.empty_used),
        false => (&prepared.null, &mut made.null_used),
    };
    let cover = cover.as_ref().ok_or(Errno::EBADF)?.as_fd();
    if std::mem::replace(used, true) {
        let copy = mount::open_tree(cover, c"", OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32).map_err(errno)?;
        return mount::move_mount(copy.as_fd(), place.as_fd(), c"").map_err(errno);
    }
    mount::move_mount(cover, place.as_fd(), c"").map_err(errno)
}

/// All mounts of this namespace.
fn private_mounts() -> Done {
    let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    let private = || nix::mount::mount(None::<&CStr>, c"/", None::<&CStr>, flags, None::<&CStr>);
    match private() {
        // Whoever started us was in a chroot: / is no mount. We go out for a moment, for what lies outside is in this
        // namespace too.
        Err(Errno::EINVAL) => {
            let inside = file::openat2(cwd(), c"/", libc::O_PATH, 0, 0).map_err(errno)?;
            leave_chroot()?;
            private()?;
            nix::unistd::fchdir(&inside)?;
            nix::unistd::chroot(c".")
        }
        other => other,
    }
}

/// To enter its own mount namespace leads a process to the root of it.
fn leave_chroot() -> Done {
    let ourselves = process::pidfd_open(nix::unistd::getpid().as_raw()).map_err(errno)?;
    nix::sched::setns(&ourselves, nix::sched::CloneFlags::CLONE_NEWNS)
}

/// Makes the container's root the root of its mount namespace. `below` are the host's mounts on a ramfs root.
fn pivot(root: BorrowedFd, below: &[CString]) -> Done {
    let pivot = || {
        nix::unistd::fchdir(root)?;
        mount::pivot_root(c".", c".").map_err(errno)
    };
    let pivoted = match pivot() {
        // In a chroot / is no mount. To move the container's root over it would hide the chroot alone: who can call
        // chroot(2) climbs from there to what lies around it.
        Err(Errno::EINVAL) => leave_chroot().and_then(|()| pivot()),
        other => other,
    };
    match pivoted {
        Ok(()) => nix::mount::umount2(c".", MntFlags::MNT_DETACH)?,
        Err(Errno::EINVAL) => cover(root, below)?,
        Err(errno) => return Err(errno),
    }
    nix::unistd::chdir(c"/")
}

/// A ramfs root (an initramfs) is the one mount that cannot be left. The container's root is moved over it: above it
/// there is nothing to climb to. What the host has mounted there is let go.
fn cover(root: BorrowedFd, below: &[CString]) -> Done {
    let old = file::openat2(cwd(), c"/", libc::O_PATH, 0, 0).map_err(errno)?;
    nix::unistd::fchdir(root)?;
    nix::mount::mount(Some(c"."), c"/", None::<&CStr>, nix::mount::MsFlags::MS_MOVE, None::<&CStr>)?;
    nix::unistd::chroot(c".")?;
    nix::unistd::fchdir(&old)?;
    for path in below {
        // One that went along with its parent is no mount any more.
        let _ = nix::mount::umount2(path.as_c_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    nix::unistd::fchdir(root)
}

fn set_name(name: &CStr, call: libc::c_long) -> Done {
    sys::process::set_uts_name(call, name.to_bytes()).map_err(errno)
}

fn stdio(prepared: &Prepared, terminal: bool, owner: Option<u32>) -> Done {
    for (number, fd) in prepared.stdio.iter().enumerate() {
        let stat = nix::sys::stat::fstat(fd)?;
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFCHR && stat.st_rdev == NULL {
            // Not the host's inode, whose mode root in the container could change through it.
            process::dup_to(own_null()?.as_fd(), number as i32).map_err(errno)?;
            continue;
        }
        process::dup_to(fd.as_fd(), number as i32).map_err(errno)?;
        if let Some(owner) = owner.filter(|_| kind == libc::S_IFIFO || terminal) {
            nix::unistd::fchown(fd, Some(nix::unistd::Uid::from_raw(owner)), None)?;
        }
    }
    if terminal {
        process::set_controlling_terminal(libc::STDIN_FILENO).map_err(errno)?;
    }
    Ok(())
}

/// The null device, 1:3, as makedev(3) has it.
const NULL: u64 = 1 << 8 | 3;

/// The container's own null device; a pipe that has ended where it has none.
fn own_null() -> Result<OwnedFd, Errno> {
    use nix::fcntl::OFlag;
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    if let Ok(null) = nix::fcntl::open(c"/dev/null", flags, nix::sys::stat::Mode::empty()) {
        let stat = nix::sys::stat::fstat(&null)?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == NULL {
            return Ok(null);
        }
    }
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map(|(read, _)| read)
}

fn close_between(first: i32, last: i32) -> Done {
    if first > last {
        return Ok(());
    }
    process::close_range(first, last).map_err(errno)
}

fn change_directory(path: &CStr) -> Done {
    nix::unistd::chdir(path)?;
    // The kernel writes "(unreachable)…" where the directory is not below our root: then it is the host's.
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    let length = process::getcwd(&mut buffer).map_err(errno)?;
    if length > 0 && buffer[0] == b'/' { Ok(()) } else { Err(Errno::ENOENT) }
}

/// Which file a path leads to.
fn identity(path: &CStr) -> Option<(libc::dev_t, libc::ino_t)> {
    nix::sys::stat::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Whether a path leads to this executable by a link that only proc has; one that was bound into the container does
/// not.
fn is_ours(path: &CStr, ours: Option<(libc::dev_t, libc::ino_t)>) -> bool {
    ours.is_some_and(|ours| identity(path) == Some(ours))
        && file::openat2(cwd(), path, libc::O_PATH, 0, libc::RESOLVE_NO_MAGICLINKS).is_err()
}

pub fn execute(exec: &Exec) -> Done {
    let mut worst = Errno::ENOENT;
    let ours = identity(c"/proc/self/exe");
    for path in &exec.paths {
        // Our own executable, by way of /proc/self/exe, is not the container's to run (CVE-2019-5736).
        if is_ours(path, ours) {
            worst = Errno::EACCES;
            continue;
        }
        match errno(process::execve(path, &exec.args, &exec.env)) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // The next in PATH may do; if none does, this is the better reason.
            Errno::EACCES => {
                let directory = nix::sys::stat::stat(path.as_c_str())
                    .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
                worst = if directory { Errno::EISDIR } else { Errno::EACCES };
            }
            other => return Err(other),
        }
    }
    Err(worst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_made_is_inside_wherever_links_lead() {
        let dir = std::env::temp_dir().join(format!("dhow-walk-{}", std::process::id()));
        let (root, outside) = (dir.join("root"), dir.join("outside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, root.join("dev")).unwrap();
        symlink("../outside", root.join("up")).unwrap();
        let root = crate::fs::path::open_root(&root).unwrap();
        let root = root.as_fd();
        for (number, parent) in ["dev", "up", "dev/../up"].iter().enumerate() {
            let path = |name: &str| CString::new(format!("{parent}/{name}{number}")).unwrap();
            place(root, &path("file"), Kind::File, 0).unwrap();
            place(root, &path("directory"), Kind::Directory, 0).unwrap();
            let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            make_node(root, &path("fifo"), libc::S_IFIFO | 0o600, 0, uid, gid).unwrap();
            let console = place(root, &path("console"), Kind::File, libc::RESOLVE_NO_SYMLINKS);
            assert_eq!(console.unwrap_err(), Errno::ELOOP, "{parent}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        fs::remove_dir_all(&dir).unwrap();
    }
}
