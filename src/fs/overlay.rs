//! Overlay mounts of layers: detached, so that nothing of them shows on the host.

use super::{owner, path};
use crate::oci::runtime::Ids;
use crate::sys::kernel;
use crate::sys::mount::{
    self, MOUNT_ATTR_RDONLY, MountAttr, OPEN_TREE_CLONE, fsconfig_create, fsconfig_flag, fsconfig_string, fsmount,
    fsopen,
};
use anyhow::{Context, Result, bail};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where writes go: both on one file system, `work` empty and for the kernel's use only.
pub struct Upper {
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Nobody will read it after a power cut: nothing is synced when it is unmounted.
    pub volatile: bool,
    /// The SELinux label that all files of it are seen with, if there is to be one.
    pub label: String,
}

/// Whether this kernel takes `lowerdir+` (6.5). Older ones accept it and fail at fsmount, so it is learnt there.
static ONE_BY_ONE: AtomicBool = AtomicBool::new(true);

/// Mounts layers (`lowers`, top first), with what is written in `upper` or read-only without. The mount is attached
/// nowhere. `at` is an empty directory, used where the kernel can only mount by path.
pub fn mount(lowers: &[PathBuf], upper: Option<&Upper>, at: &Path) -> Result<OwnedFd> {
    if let ([only], None) = (lowers, upper) {
        return bind(only, true);
    }
    if lowers.is_empty() {
        bail!("mount an image: it has no layers");
    }
    // Without an upper the kernel wants two lower directories at least, which the case above leaves.
    if ONE_BY_ONE.load(Ordering::Relaxed) {
        match by_parts(lowers, upper) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            other => return other.with_context(|| describe(lowers, upper)),
        }
    }
    let mounted = by_path(lowers, upper, at).with_context(|| describe(lowers, upper))?;
    // It was this kernel, and not the file system of the upper.
    ONE_BY_ONE.store(false, Ordering::Relaxed);
    Ok(mounted)
}

/// The ids of files are those of a user namespace: all below `base`, which holds lowers and upper, is seen so.
pub struct Mapped<'a> {
    pub base: &'a Path,
    pub user: BorrowedFd<'a>,
    pub ids: &'a Ids,
}

/// [`mount`] with the files' ids mapped. Nothing of that is on disk. (Layers with maps are 5.19's.)
pub fn mount_mapped(lowers: &[PathBuf], upper: Option<&Upper>, at: &Path, mapped: &Mapped) -> Result<OwnedFd> {
    // Overlayfs itself takes no map, but that of the mounts that its layers lie on. They are looked up by path, in a
    // mount namespace where the mapped copy lies over what it is one of.
    std::thread::scope(|scope| {
        let mounting = || -> Result<OwnedFd> {
            own_mounts()?;
            let copy = mapped_copy(mapped.base, mapped.user)?;
            mount::move_mount(copy.as_fd(), nix::fcntl::AT_FDCWD, &text(mapped.base)?)
                .with_context(|| format!("cover {}", mapped.base.display()))?;
            // Whoever mounts it is who makes what the kernel needs beside the upper.
            owner::make_as_root_of(mapped.ids)?;
            mount(lowers, upper, at)
        };
        scope.spawn(mounting).join().map_err(|_| anyhow::anyhow!("the mounting thread panicked"))?
    })
}

/// From now on this thread has mounts and a working directory of its own, which nobody else sees.
fn own_mounts() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).context("unshare mounts")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("make mounts private")
}

/// A part of a detached mount, found without leaving that. `at` is a directory that it is attached to for a moment, where
/// nobody sees it: before 6.15 only of attached mounts there are copies.
pub fn part(tree: &OwnedFd, part: &str, at: &Path) -> Result<OwnedFd> {
    std::thread::scope(|scope| {
        let finding = || -> Result<OwnedFd> {
            own_mounts()?;
            mount::move_mount(tree.as_fd(), nix::fcntl::AT_FDCWD, &text(at)?).context("attach an image")?;
            let found = path::open_part(tree.as_fd(), part, "/")?;
            let copy = mount::open_tree(found.as_fd(), c"", OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32);
            copy.context("take a part of an image")
        };
        scope.spawn(finding).join().map_err(|_| anyhow::anyhow!("the mounting thread panicked"))?
    })
}

/// A detached mount of a directory with its ids mapped.
fn mapped_copy(dir: &Path, user: BorrowedFd) -> Result<OwnedFd> {
    let tree = mount::open_tree(nix::fcntl::AT_FDCWD, &text(dir)?, OPEN_TREE_CLONE)
        .with_context(|| format!("bind {}", dir.display()))?;
    let attr = MountAttr {
        attr_set: mount::MOUNT_ATTR_IDMAP,
        propagation: libc::MS_PRIVATE,
        userns_fd: user.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    match mount::mount_setattr(tree.as_fd(), false, &attr) {
        Ok(()) => Ok(tree),
        // As words: it is not about what overlays can do.
        Err(error) => bail!("the file system of {} takes no map of ids: {error}", dir.display()),
    }
}

/// [`bind`] for writing, with the ids mapped.
pub fn bind_mapped(dir: &Path, mapped: &Mapped) -> Result<OwnedFd> {
    mapped_copy(dir, mapped.user)
}

fn describe(lowers: &[PathBuf], upper: Option<&Upper>) -> String {
    let upper = upper.map_or("read-only".to_owned(), |upper| format!("over {}", upper.upper.display()));
    format!("mount overlay of {} layers {upper}", lowers.len())
}

fn text(path: &Path) -> std::io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// A path as fsconfig takes it: strings of more than 255 bytes are refused, so a long one is named by a descriptor.
fn named(context: BorrowedFd, key: &CStr, path: &Path) -> std::io::Result<()> {
    if path.as_os_str().len() < 256 {
        return fsconfig_string(context, key, &text(path)?);
    }
    let dir = std::fs::File::open(path)?;
    fsconfig_string(context, key, &CString::new(format!("/proc/self/fd/{}", dir.as_raw_fd()))?)
}

fn by_parts(lowers: &[PathBuf], upper: Option<&Upper>) -> std::io::Result<OwnedFd> {
    let context = fsopen(c"overlay")?;
    let context = context.as_fd();
    fsconfig_string(context, c"source", c"overlay")?;
    for lower in lowers {
        named(context, c"lowerdir+", lower)?;
    }
    if let Some(upper) = upper {
        named(context, c"upperdir", &upper.upper)?;
        named(context, c"workdir", &upper.work)?;
        if upper.volatile {
            fsconfig_flag(context, c"volatile")?;
        }
        if !upper.label.is_empty() {
            fsconfig_string(context, c"context", &CString::new(upper.label.as_str())?)?;
        }
    }
    // What the host's defaults may be: layers are made and read without any of them.
    for option in [c"metacopy", c"index"] {
        fsconfig_string(context, option, c"off")?;
    }
    // In a user namespace the marks are in attributes that everybody may set, and nothing is redirected by them.
    match kernel::is_first_user_namespace() {
        true => fsconfig_string(context, c"redirect_dir", c"off")?,
        false => fsconfig_flag(context, c"userxattr")?,
    }
    fsconfig_create(context)?;
    fsmount(context, if upper.is_some() { 0 } else { MOUNT_ATTR_RDONLY })
}

/// With mount(2), whose options fit into one page: 120 layers do only by short paths, relative to where they lie.
/// The mount is made at `at` in a mount namespace of this thread's own, and taken from there.
fn by_path(lowers: &[PathBuf], upper: Option<&Upper>, at: &Path) -> Result<OwnedFd> {
    let near = lowers[0].parent().and_then(Path::parent).context("a layer has no directory")?.to_owned();
    let marks = if kernel::is_first_user_namespace() { "redirect_dir=off" } else { "userxattr" };
    let mut options = format!("{marks},metacopy=off,index=off,lowerdir=");
    for (number, lower) in lowers.iter().enumerate() {
        let relative = lower.strip_prefix(&near).unwrap_or(lower);
        options.push_str(if number > 0 { ":" } else { "" });
        options.push_str(relative.to_str().context("a layer's path is not UTF-8")?);
    }
    if let Some(upper) = upper {
        let path = |path: &Path| path.to_str().map(str::to_owned).context("a container's path is not UTF-8");
        options.push_str(&format!(",upperdir={},workdir={}", path(&upper.upper)?, path(&upper.work)?));
        if upper.volatile {
            options.push_str(",volatile");
        }
        if !upper.label.is_empty() {
            // Whoever reads these options for SELinux knows that commas are in it.
            options.push_str(&format!(",context=\"{}\"", upper.label));
        }
    }
    if options.len() >= 4096 {
        bail!("{} layers do not fit into one mount on this kernel", lowers.len());
    }
    let at = at.to_owned();
    let read_only = upper.is_none();
    // A thread has a working directory and a mount namespace of its own once it has unshared them.
    let thread = std::thread::spawn(move || -> Result<OwnedFd> {
        own_mounts()?;
        std::env::set_current_dir(&near).with_context(|| format!("enter {}", near.display()))?;
        let flags = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        nix::mount::mount(Some("overlay"), &at, Some("overlay"), flags, Some(options.as_str()))?;
        let tree = mount::open_tree(nix::fcntl::AT_FDCWD, &text(&at)?, OPEN_TREE_CLONE).context("take the mount")?;
        let _ = nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH);
        Ok(tree)
    });
    thread.join().map_err(|_| anyhow::anyhow!("the mounting thread panicked"))?
}

/// Mounts a directory as it is: one layer needs no overlay, and neither does a copy of several.
pub fn bind(dir: &Path, read_only: bool) -> Result<OwnedFd> {
    let bind = || -> std::io::Result<OwnedFd> {
        let tree = mount::open_tree(nix::fcntl::AT_FDCWD, &text(dir)?, OPEN_TREE_CLONE)?;
        let attr_set = if read_only { MOUNT_ATTR_RDONLY } else { 0 };
        let attr = MountAttr { attr_set, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount::mount_setattr(tree.as_fd(), false, &attr)?;
        Ok(tree)
    };
    bind().with_context(|| format!("bind {}", dir.display()))
}

/// Whether an overlay could not be mounted because of the file system that was to hold its upper.
pub fn is_unfit(error: &anyhow::Error) -> bool {
    let errno = error.root_cause().downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
    let io = error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    matches!(errno.or(io), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn layers(count: usize) -> (PathBuf, Vec<PathBuf>) {
        let root = std::env::temp_dir().join(format!("dhow-overlay-{}-{count}", std::process::id()));
        let dirs: Vec<PathBuf> = (0..count).map(|n| root.join(format!("layers/{n:026}/fs"))).collect();
        for (number, dir) in dirs.iter().enumerate() {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join(format!("file{number}")), number.to_string()).unwrap();
            fs::write(dir.join("same"), number.to_string()).unwrap();
        }
        for dir in ["upper", "work", "at"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        (root, dirs)
    }

    fn read(mount: &OwnedFd, name: &str) -> String {
        use std::io::Read;
        let mut text = String::new();
        fs::File::open(format!("/proc/self/fd/{}/{name}", mount.as_raw_fd()))
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn one_and_many_layers_mount_both_ways() {
        if !nix::unistd::geteuid().is_root() {
            return crate::skip::skip("mounting needs root").unwrap_or_default();
        }
        for count in [1, 2, 120] {
            let (root, dirs) = layers(count);
            let upper =
                Upper { upper: root.join("upper"), work: root.join("work"), volatile: false, label: String::new() };
            for upper in [None, Some(&upper)] {
                let mounted = mount(&dirs, upper, &root.join("at")).unwrap();
                assert_eq!(read(&mounted, "same"), "0", "the top layer wins");
                assert_eq!(read(&mounted, &format!("file{}", count - 1)), (count - 1).to_string());
            }
            if count > 1 {
                let mounted = by_path(&dirs, Some(&upper), &root.join("at")).unwrap();
                assert_eq!(read(&mounted, &format!("file{}", count - 1)), (count - 1).to_string());
            }
            fs::remove_dir_all(root).unwrap();
        }
    }
}
