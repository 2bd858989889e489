//! From a plan to a process: what the parent opens, the clone, and the two pipes.

use super::step::Step;
use super::walk;
use crate::oci::runtime::Rlimit;
use crate::sys::mount::{self, MountAttr};
use crate::sys::mountinfo;
use crate::sys::process::{self, Clone};
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What shall happen between clone and exec, decided before the clone.
#[derive(Debug, Default)]
pub struct Plan {
    /// `CLONE_NEW*`: namespaces to be made.
    pub namespaces: u64,
    /// A pid namespace to be joined: it holds for children only, so the parent enters it before the clone.
    pub pid_namespace: Option<PathBuf>,
    /// What [`prepare`] opens, in the order of the slots that steps name.
    pub sources: Vec<Source>,
    pub steps: Vec<Step>,
    /// The slot of the container's devpts, in which its terminal is made.
    pub devpts: Option<usize>,
    /// Set by the parent, before the child goes on: the raising of some needs what the child has given up.
    pub limits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    /// The SELinux label of the container's files.
    pub label: Option<CString>,
    /// The user namespace, which is entered before all others are made.
    pub user: Option<OwnedFd>,
    /// Whose its streams are, by the id that the host has for him; `None` where the child gives them away.
    pub owner: Option<u32>,
}

/// Something that the parent opens for a step, with the host's eyes.
#[derive(Debug)]
pub enum Source {
    /// A namespace file.
    Namespace(PathBuf),
    /// A detached copy of what is mounted at `path`.
    Bind { path: PathBuf, recursive: bool, attr: MountAttr, attr_recursive: bool },
    /// The same, of something that is open already: a volume's subpath, resolved inside the volume, or a mount of
    /// another container's.
    BindOpen { file: OwnedFd, attr: MountAttr, at: String },
    /// A new file system that belongs to no namespace of the child: tmpfs, devpts.
    Mount { kind: CString, config: Vec<(CString, Option<CString>)>, attributes: u64, propagation: u64 },
    /// Something that is open already: the init of the container that is entered, a namespace.
    Open(OwnedFd),
}

/// The descriptors that the steps work with.
pub struct Prepared {
    /// The root file system, mounted and detached.
    pub root: Option<OwnedFd>,
    pub slots: Vec<OwnedFd>,
    pid_namespace: Option<OwnedFd>,
    /// Covers of masked paths: the host's /dev/null, and an empty read-only tmpfs.
    pub null: Option<OwnedFd>,
    pub empty: Option<OwnedFd>,
    /// What is mounted on a root that cannot be left, relative to it.
    pub below: Vec<CString>,
    /// Become 0, 1 and 2. A terminal is here three times.
    pub stdio: Vec<OwnedFd>,
    /// The mount of a terminal that is the host's, detached: for /dev/console.
    pub(super) console: Option<OwnedFd>,
    /// The shim's lock, to be closed first of all.
    pub lock: Option<RawFd>,
    /// Where an init's own arguments lie, which it writes over.
    pub(super) arguments: Option<Range<usize>>,
    pub(super) go: OwnedFd,
    pub(super) report: OwnedFd,
    go_from: File,
    report_to: File,
}

/// A process that has been cloned and waits for [`Child::go`]. Who drops it ends it: nobody else would bury it.
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pipes: Option<Pipes>,
}

/// Until it has executed the command.
struct Pipes {
    go: File,
    report: File,
}

/// Which step failed, and how.
#[derive(Debug)]
pub struct Failed {
    pub step: usize,
    pub errno: Errno,
}

impl Plan {
    /// Whether the child waits for hooks on its way: [`Child::meet`].
    pub fn meets(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Meet))
    }
}

impl Failed {
    fn read(report: [u8; 8]) -> Failed {
        let number = |at: usize| i32::from_ne_bytes([report[at], report[at + 1], report[at + 2], report[at + 3]]);
        Failed { step: number(0) as usize, errno: Errno::from_raw(number(4)) }
    }
}

/// Opens what the plan names. `root` is the caller's; so is `stdio`, which is set before [`launch`].
pub fn prepare(plan: &Plan, root: Option<OwnedFd>, lock: Option<RawFd>) -> Result<Prepared> {
    let mut slots = Vec::with_capacity(plan.sources.len());
    for source in &plan.sources {
        slots.push(open(source)?);
    }
    let pid_namespace = plan.pid_namespace.as_ref().map(|path| namespace(path)).transpose()?;
    let masks = plan.steps.iter().any(|step| matches!(step, Step::Mask { .. }));
    let (null, empty) = if masks { (Some(null()?), Some(empty(plan.label.as_ref())?)) } else { (None, None) };
    let init = plan.steps.iter().any(|step| matches!(step, Step::Init { .. }));
    let (go, go_from) = pipe()?;
    let (report_to, report) = pipe()?;
    Ok(Prepared {
        root,
        slots,
        pid_namespace,
        null,
        empty,
        below: if root_is_ramfs() { mounts_below_root()? } else { Vec::new() },
        stdio: Vec::new(),
        console: None,
        lock,
        arguments: if init { process::arguments() } else { None },
        go,
        report,
        go_from: File::from(go_from),
        report_to: File::from(report_to),
    })
}

/// An initramfs is one of these, by what the kernel has. Another root of these kinds can be left; then it is no matter.
fn root_is_ramfs() -> bool {
    const RAMFS: i64 = 0x8584_58f6;
    const TMPFS: i64 = 0x0102_1994;
    let kind = nix::sys::statfs::statfs("/").map(|stat| stat.filesystem_type().0 as i64);
    matches!(kind, Ok(RAMFS | TMPFS))
}

fn mounts_below_root() -> Result<Vec<CString>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let points =
        mountinfo::parse(&text).map(|mount| mount.point.strip_prefix("/").map(Path::to_owned).unwrap_or_default());
    let named = points.filter(|point| !point.as_os_str().is_empty());
    named
        .map(|point| CString::new(point.into_os_string().into_encoded_bytes()).context("a path with a NUL in it"))
        .collect()
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("make a pipe")
}

fn namespace(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).with_context(|| format!("open namespace {}", path.display()))?.into())
}

fn open(source: &Source) -> Result<OwnedFd> {
    match source {
        Source::Namespace(path) => namespace(path),
        Source::Bind { path, recursive, attr, attr_recursive } => {
            let at = CString::new(path.as_os_str().as_bytes()).context("a path with a NUL in it")?;
            let flags = mount::OPEN_TREE_CLONE | if *recursive { mount::AT_RECURSIVE } else { 0 };
            let tree = mount::open_tree(nix::fcntl::AT_FDCWD, &at, flags)
                .with_context(|| format!("bind {}", path.display()))?;
            set(&tree, *attr_recursive, attr).with_context(|| format!("bind {}", path.display()))?;
            Ok(tree)
        }
        Source::BindOpen { file, attr, at } => {
            let flags = mount::OPEN_TREE_CLONE | mount::AT_RECURSIVE | libc::AT_EMPTY_PATH as u32;
            let tree = match mount::open_tree(file.as_fd(), c"", flags) {
                // It is detached already, and before 6.15 such a mount cannot be copied.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => file.try_clone(),
                other => other,
            }
            .with_context(|| format!("bind on {at}"))?;
            set(&tree, true, attr).with_context(|| format!("bind on {at}"))?;
            Ok(tree)
        }
        Source::Mount { kind, config, attributes, propagation } => {
            let made = new_mount(kind, config, *attributes).map_err(anyhow::Error::from).and_then(|tree| {
                set(&tree, false, &MountAttr { propagation: *propagation, ..MountAttr::default() })?;
                Ok(tree)
            });
            made.with_context(|| format!("mount {}", kind.to_string_lossy()))
        }
        Source::Open(file) => file.try_clone().context("copy a descriptor"),
    }
}

fn set(tree: &OwnedFd, recursive: bool, attr: &MountAttr) -> Result<()> {
    // Propagation reaches all mounts of the copy; attributes those that are asked for.
    let propagation = MountAttr { propagation: attr.propagation, ..MountAttr::default() };
    if attr.propagation != 0 {
        mount::mount_setattr(tree.as_fd(), true, &propagation)?;
    }
    if attr.attr_set & mount::MOUNT_ATTR_IDMAP != 0 {
        let map = MountAttr { attr_set: mount::MOUNT_ATTR_IDMAP, userns_fd: attr.userns_fd, ..MountAttr::default() };
        mount::mount_setattr(tree.as_fd(), false, &map).context("its file system takes no map of ids")?;
    }
    let attr_set = attr.attr_set & !mount::MOUNT_ATTR_IDMAP;
    let rest = MountAttr { attr_set, attr_clr: attr.attr_clr, ..MountAttr::default() };
    if rest == MountAttr::default() {
        return Ok(());
    }
    Ok(mount::mount_setattr(tree.as_fd(), recursive, &rest)?)
}

fn new_mount(kind: &CStr, config: &[(CString, Option<CString>)], attributes: u64) -> std::io::Result<OwnedFd> {
    let context = mount::fsopen(kind)?;
    for (key, value) in config {
        match value {
            Some(value) => mount::fsconfig_string(context.as_fd(), key, value)?,
            None => mount::fsconfig_flag(context.as_fd(), key)?,
        }
    }
    mount::fsconfig_create(context.as_fd())?;
    mount::fsmount(context.as_fd(), attributes)
}

/// A copy of the host's /dev/null, and of nothing that only pretends to be it.
fn null() -> Result<OwnedFd> {
    let tree =
        mount::open_tree(nix::fcntl::AT_FDCWD, c"/dev/null", mount::OPEN_TREE_CLONE).context("open /dev/null")?;
    let stat = nix::sys::stat::fstat(&tree).context("look at /dev/null")?;
    let device = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == nix::sys::stat::makedev(1, 3);
    anyhow::ensure!(device, "the host's /dev/null is not the null device");
    // Read-only: it is the host's inode, and root in the container could change its mode or owner. Writing to a
    // device is not writing to its file system.
    let attr = MountAttr {
        attr_set: mount::MOUNT_ATTR_RDONLY | mount::MOUNT_ATTR_NOSUID | mount::MOUNT_ATTR_NOEXEC,
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    mount::mount_setattr(tree.as_fd(), false, &attr).context("make /dev/null private")?;
    Ok(tree)
}

fn empty(label: Option<&CString>) -> Result<OwnedFd> {
    let mut config = vec![(c"mode".to_owned(), Some(c"755".to_owned()))];
    config.extend(label.map(|label| (c"context".to_owned(), Some(label.clone()))));
    let attributes =
        mount::MOUNT_ATTR_RDONLY | mount::MOUNT_ATTR_NOSUID | mount::MOUNT_ATTR_NODEV | mount::MOUNT_ATTR_NOEXEC;
    new_mount(c"tmpfs", &config, attributes).context("mount an empty tmpfs")
}

impl Prepared {
    pub(super) fn slot(&self, slot: usize) -> Result<BorrowedFd<'_>, Errno> {
        self.slots.get(slot).map(|fd| fd.as_fd()).ok_or(Errno::EBADF)
    }
}

/// Clones the child, into `cgroup` where there is one. It waits for [`Child::go`] at the step that says so.
/// `instead` names another cgroup where that one has no room for processes (EBUSY: it runs a tree of its own).
pub fn launch(
    plan: &Plan,
    mut prepared: Prepared,
    cgroup: Option<BorrowedFd>,
    instead: impl FnOnce() -> Option<OwnedFd>,
) -> Result<Child> {
    give_streams(&prepared, plan.owner)?;
    if plan.steps.iter().any(|step| matches!(step, Step::Console { slot: None, .. })) {
        let terminal = prepared.stdio.first().context("there is no terminal")?;
        let flags = mount::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32;
        let tree = mount::open_tree(terminal.as_fd(), c"", flags).context("copy the mount of a terminal")?;
        prepared.console = Some(tree);
    }
    if let Some(user) = &plan.user {
        return launch_in(plan, prepared, user, cgroup);
    }
    if let Some(namespace) = &prepared.pid_namespace {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWPID).context("join a pid namespace")?;
    }
    let cloned = match process::clone3(plan.namespaces, cgroup) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) && cgroup.is_some() => match instead() {
            Some(other) => process::clone3(plan.namespaces, Some(other.as_fd())),
            None => Err(error),
        },
        other => other,
    };
    match cloned.context("clone")? {
        Clone::Child => begin(plan, &prepared),
        Clone::Parent { pid, pidfd } => Ok(Child::new(pid, pidfd, prepared)),
    }
}

/// The child's part.
fn begin(plan: &Plan, prepared: &Prepared) -> ! {
    // The parent's ends must not live in the child, or neither would see the other's end.
    let _ = nix::unistd::close(prepared.go_from.as_raw_fd());
    let _ = nix::unistd::close(prepared.report_to.as_raw_fd());
    walk::walk(&plan.steps, prepared)
}

/// Pipes and terminals become the user's, so that /dev/stdout opens.
fn give_streams(prepared: &Prepared, owner: Option<u32>) -> Result<()> {
    let Some(owner) = owner.map(nix::unistd::Uid::from_raw) else { return Ok(()) };
    for fd in &prepared.stdio {
        let stat = nix::sys::stat::fstat(fd).context("look at a stream")?;
        let terminal = || nix::unistd::isatty(fd).unwrap_or(false);
        if stat.st_mode & libc::S_IFMT == libc::S_IFIFO || terminal() {
            nix::unistd::fchown(fd, Some(owner), None).context("give away a stream")?;
        }
    }
    Ok(())
}

/// The same with a user namespace, to which all others shall belong.
fn launch_in(plan: &Plan, prepared: Prepared, user: &OwnedFd, cgroup: Option<BorrowedFd>) -> Result<Child> {
    use nix::sched::{CloneFlags, setns};
    let enter = || {
        if let Some(namespace) = &prepared.pid_namespace {
            setns(namespace, CloneFlags::CLONE_NEWPID)?;
        }
        setns(user, CloneFlags::CLONE_NEWUSER)?;
        process::sibling(plan.namespaces, cgroup)
    };
    let (pid, pidfd) = clone_beyond(enter, || begin(plan, &prepared)).context("clone in the user namespace")?;
    Ok(Child::new(pid, pidfd, prepared))
}

/// A child in namespaces from which this process could not come back: somebody goes there, which `enter` does, and clones
/// the child as a sibling. Both make only system calls.
pub(super) fn clone_beyond(
    enter: impl FnOnce() -> std::io::Result<i32>,
    begin: impl FnOnce(),
) -> Result<(i32, OwnedFd)> {
    let (told, tells) = pipe()?;
    let stepping = match process::clone3(0, None).context("clone")? {
        Clone::Parent { pid, .. } => pid,
        Clone::Child => {
            let said = match enter() {
                Ok(0) => {
                    begin();
                    process::exit_now(walk::REPORTED)
                }
                Ok(pid) => pid,
                Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
            };
            let _ = nix::unistd::write(&tells, &said.to_ne_bytes());
            process::exit_now(0)
        }
    };
    drop(tells);
    let mut said = [0; 4];
    let heard = File::from(told).read_exact(&mut said);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(stepping), None).context("wait for who clones")?;
    heard?;
    match i32::from_ne_bytes(said) {
        pid if pid > 0 => Ok((pid, process::pidfd_open(pid).context("open who was cloned")?)),
        errno => Err(Errno::from_raw(-errno).into()),
    }
}

impl Child {
    fn new(pid: i32, pidfd: OwnedFd, prepared: Prepared) -> Child {
        Child { pid, pidfd, pipes: Some(Pipes { go: prepared.go_from, report: prepared.report_to }) }
    }

    fn pipes(&mut self) -> Result<&mut Pipes> {
        self.pipes.as_mut().context("it was let go before")
    }

    /// Of a plan with [`Step::Meet`]: waits until the child has come there, or reported why it could not.
    pub fn meet(&mut self) -> Result<Result<(), Failed>> {
        let mut report = [0; 8];
        self.pipes()?.report.read_exact(&mut report).context("read the child's report")?;
        Ok(if report == [0; 8] { Ok(()) } else { Err(Failed::read(report)) })
    }

    /// Lets it go on from there.
    pub fn pass(&mut self) -> Result<()> {
        self.pipes()?.go.write_all(&[1]).context("let the child go on")
    }

    /// Lets the child go on, and waits until it has executed the command or reported why it could not.
    pub fn go(&mut self) -> Result<Result<(), Failed>> {
        // It may have failed before it came to wait; then its report says more than the broken pipe.
        let mut pipes = self.pipes.take().context("it was let go before")?;
        let _ = pipes.go.write_all(&[1]);
        Ok(heard(&mut pipes.report)?.map_or(Ok(()), Err))
    }

    /// Ends the child, because something else has failed meanwhile: what it had to say before is the reason then.
    pub fn end(&mut self) -> Result<Option<Failed>> {
        self.bury();
        heard(&mut self.pipes()?.report)
    }

    /// Ends the child, where it has not by itself, and waits for that. Were we gone first, it would be left to the host's
    /// PID 1, which comes when it pleases, and until then the end of a container that it has entered waits for it.
    pub fn bury(&self) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid), None);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.bury();
    }
}

/// What a child reports, until it has executed the command or has ended.
fn heard(from: &mut File) -> Result<Option<Failed>> {
    let mut report = Vec::new();
    from.read_to_end(&mut report).context("read the child's report")?;
    // What is all zero says that it waits for hooks.
    let last = report.as_chunks().0.last().filter(|last| **last != [0; 8]);
    Ok(last.map(|last| Failed::read(*last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_ended_has_had_its_say() {
        let ended = |steps: Vec<Step>, says: bool| {
            let plan = Plan { steps, ..Plan::default() };
            let mut child = launch(&plan, prepare(&plan, None, None).unwrap(), None, || None).unwrap();
            let mut poll =
                [nix::poll::PollFd::new(child.pipes.as_ref().unwrap().report.as_fd(), nix::poll::PollFlags::POLLIN)];
            while says && nix::poll::poll(&mut poll, nix::poll::PollTimeout::NONE) == Err(Errno::EINTR) {}
            let pid = nix::unistd::Pid::from_raw(child.pid);
            let failed = child.end().unwrap();
            assert_eq!(nix::sys::wait::waitpid(pid, None), Err(Errno::ECHILD), "somebody else has to bury it");
            failed.map(|failed| (failed.step, failed.errno))
        };
        let joins = Step::JoinNamespace { slot: 7, path: c"net".to_owned() };
        assert_eq!(ended(vec![Step::DefaultSignals, joins], true), Some((1, Errno::EBADF)));
        assert_eq!(ended(vec![Step::WaitForGo, Step::DefaultSignals], false), None);
    }
}
