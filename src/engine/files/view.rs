//! A container's root with all that is mounted in it, for somebody outside.
//!
//! Of a container that runs it is the root of its init: volumes, tmpfs and what the container itself mounted are there
//! as it sees them. One that does not run has no mounts: its root and volumes are mounted in a mount namespace that
//! nobody lives in, which goes with the view. Either way paths are resolved below a descriptor of the root, by the
//! kernel: the container's links, whoever swaps them and when, lead nowhere else.

use super::super::base;
use super::super::containers::{self, Now};
use super::super::locks::{self, Lock, byte};
use super::super::record::{self, Mounted, Record};
use super::super::start;
use super::super::store::{self, Lease, Store};
use super::super::volumes;
use crate::fs::overlay::{self, Upper};
use crate::fs::path::{self, IN_ROOT};
use crate::log;
use crate::oci::runtime::Ids;
use crate::order;
use crate::sys::mount::{self, MOUNT_ATTR_RDONLY, MountAttr, OPEN_TREE_CLONE};
use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat, stat};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a view is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    /// As long as it is open, the container does not start.
    Write,
}

/// A container's root. The fields go in this order: the lock last.
pub struct View {
    root: OwnedFd,
    /// The map of what is seen from inside a user namespace; none where ids are as on disk.
    pub ids: Option<Ids>,
    _namespace: Option<File>,
    _volumes: Entered,
    _scratch: Option<Lease>,
    _lock: Option<Lock>,
}

impl View {
    pub fn open(store: &Store, id: &str, access: Access) -> Result<View> {
        loop {
            let (now, lock) = hold(store, id)?;
            if !now.doing.is_alive() {
                return still(store, &now.record, access, lock);
            }
            if let Some(root) = of_init(store, id, now.live.pid)? {
                let _volumes = Entered { store: store.clone(), names: Vec::new() };
                let ids = now.record.ids;
                return Ok(View { root, ids, _namespace: None, _volumes, _scratch: None, _lock: None });
            }
            // It has just ended.
        }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// A container's root as it is mounted, without what is mounted in it, for reading.
pub fn root_alone(store: &Store, id: &str) -> Result<OwnedFd> {
    loop {
        let (now, lock) = hold(store, id)?;
        // On disk ids are those of the container.
        if !now.doing.is_alive() || now.record.ids.is_some() {
            drop(lock);
            let at = store.container(id).join("work");
            return overlay::mount(&lowers(store, &now.record)?, None, &at);
        }
        let Some(root) = of_init(store, id, now.live.pid)? else { continue };
        let namespace = File::open(format!("/proc/{}/ns/mnt", now.live.pid));
        if !record::held(store, id)?.init {
            continue;
        }
        let namespace = namespace.context("open the container's mount namespace")?;
        // A mount can only be copied from inside its namespace.
        let thread = std::thread::spawn(move || -> Result<OwnedFd> {
            unshare(CloneFlags::CLONE_FS).context("leave the other threads")?;
            setns(&namespace, CloneFlags::CLONE_NEWNS).context("enter the container's mounts")?;
            let flags = OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32;
            let tree = mount::open_tree(root.as_fd(), c"", flags).context("copy the mount of its root")?;
            let attr = MountAttr { attr_set: MOUNT_ATTR_RDONLY, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
            mount::mount_setattr(tree.as_fd(), false, &attr).context("make the copy read-only")?;
            Ok(tree)
        });
        return thread.join().map_err(|_| anyhow!("the thread in the container panicked"))?;
    }
}

/// A container as it is now, and the lock under which it does not start: of one that does not run, keep it. One that
/// is being started is waited for, until its init has left the host's root behind.
pub fn hold(store: &Store, id: &str) -> Result<(Now, Lock)> {
    store::make_dirs(&store.live(id), 0o711)?;
    let lock = locks::exclusive(&store.live(id).join("lock"), byte::ROOT)?;
    Ok((containers::now(store, id)?, lock))
}

/// The root of a container's init; `None` where that has ended.
fn of_init(store: &Store, id: &str, pid: i32) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = match nix::fcntl::open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        Err(error) => return Err(error).context("open the root of the container's init"),
    };
    // Asked after it was opened: the pid was still init's.
    if !record::held(store, id)?.init {
        return Ok(None);
    }
    let (theirs, ours) = (fstat(&root)?, stat("/")?);
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
        bail!("the container's root is the host's");
    }
    Ok(Some(root))
}

/// The view of a container that does not run.
fn still(store: &Store, record: &Record, access: Access, lock: Lock) -> Result<View> {
    let doing = || format!("mount the files of {}", record.name);
    let at = store.container(&record.id).join("work");
    let mut parts = Vec::new();
    let entered = Entered::enter(store, record)?;
    if access == Access::Write {
        let root = start::root(store, record, &at, false, None).with_context(doing)?;
        parts.extend(mounts(store, record).with_context(doing)?);
        let (root, namespace) = assemble(root, &at, parts, true).with_context(doing)?;
        let _namespace = Some(namespace);
        return Ok(View { root, ids: None, _namespace, _volumes: entered, _scratch: None, _lock: Some(lock) });
    }
    // A reader that takes its time is to keep nobody from starting it: what is written meanwhile is seen or not.
    drop(lock);
    let lowers = lowers(store, record)?;
    for scratch in [false, true] {
        let lease = if scratch { Some(store.lease()?) } else { None };
        let root = match &lease {
            None => overlay::mount(&lowers, None, &at),
            // Mount points that are still missing are made where they are seen by this view alone.
            Some(lease) => {
                let (upper, work) = (lease.tmp()?.join("upper"), lease.tmp()?.join("work"));
                store::make_dirs(&upper, 0o755)?;
                store::make_dirs(&work, 0o700)?;
                overlay::mount(&lowers, Some(&Upper { upper, work, volatile: true, label: String::new() }), &at)
            }
        };
        let root = root.with_context(doing)?;
        match assemble(root, &at, mounts(store, record).with_context(doing)?, scratch) {
            Err(error) if !scratch && error.downcast_ref::<Missing>().is_some() => {}
            other => {
                let (root, namespace) = other.with_context(doing)?;
                let _namespace = Some(namespace);
                return Ok(View { root, ids: None, _namespace, _volumes: entered, _scratch: lease, _lock: None });
            }
        }
    }
    bail!("{}: its mount points cannot be made", doing())
}

/// What its root is made of, top first, when nothing is to be written.
fn lowers(store: &Store, record: &Record) -> Result<Vec<PathBuf>> {
    let upper = store.container(&record.id).join("upper");
    let layers = if record.copied { Vec::new() } else { layers(store, record)? };
    Ok(std::iter::once(upper).chain(layers).collect())
}

/// What is below the writable layer, top first.
pub fn layers(store: &Store, record: &Record) -> Result<Vec<PathBuf>> {
    Ok(record.lower_dirs(store).into_iter().chain([base::layer(store)?]).collect())
}

/// Volumes whose own mounts were made for a view.
struct Entered {
    store: Store,
    names: Vec<String>,
}

impl Entered {
    fn enter(store: &Store, record: &Record) -> Result<Entered> {
        let mut entered = Entered { store: store.clone(), names: Vec::new() };
        for mounted in record.mounts.iter().filter(|mounted| mounted.point.r#type == "volume") {
            volumes::enter(store, &mounted.point.name)?;
            entered.names.push(mounted.point.name.clone());
        }
        Ok(entered)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(error) = volumes::leave(&self.store, name, "") {
                log::warning!("{error:#}");
            }
        }
    }
}

/// Something to be mounted, detached until then.
struct Part {
    at: String,
    tree: OwnedFd,
    is_dir: bool,
}

/// What is mounted in a container besides its root and what the kernel gives it.
fn mounts(store: &Store, record: &Record) -> Result<Vec<Part>> {
    let mut open = start::opened(store, record, &store.container(&record.id).join("work"), None)?;
    let mut parts = Vec::new();
    for mounted in record.mounts.iter().filter(|mounted| mounted.point.r#type != "tmpfs") {
        let part = open.remove(&mounted.point.destination);
        parts.push(bind(mounted, part).with_context(|| format!("open {}", mounted.point.source))?);
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        let (source, at) = (record.etc_dir(store).join(name), format!("/etc/{name}"));
        if source.exists() && record.mounts.iter().all(|mounted| mounted.point.destination != at) {
            parts.push(Part { at, tree: overlay::bind(&source, record.host_config.readonly_rootfs)?, is_dir: false });
        }
    }
    order::by_key(&mut parts, |part| part.at.split('/').filter(|part| !part.is_empty()).count());
    Ok(parts)
}

fn bind(mounted: &Mounted, part: Option<OwnedFd>) -> Result<Part> {
    let point = &mounted.point;
    let deep = if mounted.non_recursive { 0 } else { mount::AT_RECURSIVE };
    let tree = match part {
        // It is detached already.
        Some(part) if !mounted.image.is_empty() => part,
        Some(part) => mount::open_tree(part.as_fd(), c"", OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32 | deep)?,
        None => mount::open_tree(nix::fcntl::AT_FDCWD, &CString::new(point.source.as_str())?, OPEN_TREE_CLONE | deep)?,
    };
    let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    mount::mount_setattr(tree.as_fd(), true, &private)?;
    if !point.rw {
        let read_only = MountAttr { attr_set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        mount::mount_setattr(tree.as_fd(), !mounted.read_only_non_recursive, &read_only)?;
    }
    let is_dir = crate::fs::stat::is_dir(&fstat(&tree)?);
    Ok(Part { at: point.destination.clone(), tree, is_dir })
}

/// A mount point that is not there, and may not be made.
#[derive(Debug)]
struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no {} in the container", self.0)
    }
}

impl std::error::Error for Missing {}

/// Puts the parts together in a mount namespace of their own: the root in it, and what keeps the namespace alive.
fn assemble(root: OwnedFd, at: &Path, parts: Vec<Part>, may_make: bool) -> Result<(OwnedFd, File)> {
    let at = at.to_owned();
    // A thread has a working directory and a mount namespace of its own once it has unshared them.
    let thread = std::thread::spawn(move || -> Result<(OwnedFd, File)> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).context("unshare mounts")?;
        // What the host unmounts meanwhile goes here too.
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).context("detach mounts")?;
        let place = CString::new(at.as_os_str().as_bytes())?;
        mount::move_mount(root.as_fd(), nix::fcntl::AT_FDCWD, &place).context("mount the root")?;
        for part in parts {
            attach(root.as_fd(), &part, may_make)?;
        }
        let namespace = File::open("/proc/thread-self/ns/mnt").context("keep the mounts")?;
        // Only the container's mounts are left in it, so that nothing of the host is kept busy; where / cannot be
        // changed (an initramfs), it is.
        let leave = || -> Result<()> {
            nix::unistd::fchdir(&root)?;
            mount::pivot_root(c".", c".")?;
            Ok(umount2(".", MntFlags::MNT_DETACH)?)
        };
        let _ = leave();
        Ok((root, namespace))
    });
    thread.join().map_err(|_| anyhow!("the mounting thread panicked"))?
}

fn attach(root: BorrowedFd, part: &Part, may_make: bool) -> Result<()> {
    let mounting = || format!("mount on {}", part.at);
    let at = part.at.as_bytes();
    let place = match path::open(root, at, OFlag::O_PATH, 0, IN_ROOT) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) && may_make => {
            make(root, part).with_context(mounting)?
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => bail!(Missing(part.at.clone())),
        other => other.with_context(mounting)?,
    };
    mount::move_mount(part.tree.as_fd(), place.as_fd(), c"").with_context(mounting)
}

fn make(root: BorrowedFd, part: &Part) -> Result<OwnedFd> {
    let at = part.at.as_bytes();
    if part.is_dir {
        return path::make_dirs(root, at, path::IN_ROOT, |_, _| Ok(()));
    }
    let (dir, name) = path::split(at);
    let dir = path::make_dirs(root, dir, path::IN_ROOT, |_, _| Ok(()))?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(&dir, name, flags, Mode::from_bits_truncate(0o755))?;
    Ok(nix::fcntl::openat(&dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?)
}
