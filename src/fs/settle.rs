//! Settles what a layer's tar leaves to the layers below: attributes of directories that it omits, hard links into
//! them, and whiteouts of what is not there.

use super::lowers::Lowers;
use super::stat::{is_dir, is_file, is_whiteout};
use super::unpack::Unpacked;
use super::{copy, path};
use anyhow::{Context, Result, bail};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The name of the list of what a layer hides: `w` (a whiteout) or `o` (an opaque directory), its path, and a NUL.
pub const HIDDEN: &str = "hidden";

/// Completes the layer in `staging`. `lowers` are the `fs` directories of the layers below it, top first, all settled.
pub fn settle(unpacked: &Unpacked, staging: &Path, lowers: &[PathBuf]) -> Result<()> {
    let root = path::open_root(&staging.join("fs"))?;
    let mut lowers = Lowers::open(if unpacked.opaque { &[] } else { lowers })?;
    for link in &unpacked.links {
        hard_link(&root, &mut lowers, link)
            .with_context(|| format!("link {} to {}", path::show(&link.0), path::show(&link.1)))?;
    }
    for implied in &unpacked.implied {
        inherit(&root, &mut lowers, implied).with_context(|| format!("unpack {}", path::show(implied)))?;
    }
    let mut hidden = Vec::new();
    for whiteout in &unpacked.whiteouts {
        if hides(&root, &mut lowers, whiteout).with_context(|| format!("hide {}", path::show(whiteout)))? {
            hidden.extend([b"w", &whiteout[..], b"\0"].concat());
        }
    }
    for opaque in &unpacked.opaques {
        hidden.extend([b"o", &opaque[..], b"\0"].concat());
    }
    if !hidden.is_empty() {
        let list = staging.join(HIDDEN);
        let mut file = std::fs::File::create(&list).with_context(|| format!("create {}", list.display()))?;
        file.write_all(&hidden).with_context(|| format!("write {}", list.display()))?;
    }
    Ok(())
}

/// A directory that the tar omits looks as it did below; one that is nowhere keeps 0755 and root.
fn inherit(root: &OwnedFd, lowers: &mut Lowers, path: &[u8]) -> Result<()> {
    let Some((lower, stat)) = lowers.find(path)? else { return Ok(()) };
    if !is_dir(&stat) {
        return Ok(());
    }
    match path::open(root.as_fd(), path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, path::NO_LINKS) {
        Ok(dir) => copy::directory(lower, dir.as_fd()),
        // A later entry replaced it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(()),
        Err(error) => Err(error).context("open it"),
    }
}

/// A link to what the tar made later, or to a file of the layers below, which is copied up as overlayfs would.
fn hard_link(root: &OwnedFd, lowers: &mut Lowers, (path, target): &(Vec<u8>, Vec<u8>)) -> Result<()> {
    let (dir, name) = path::split(path);
    let dir = path::open_dir(root.as_fd(), dir, path::NO_LINKS).context("open its directory")?;
    if fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
        // A later entry took the name.
        return Ok(());
    }
    let target = path::trim_slashes(target);
    let (target_dir, leaf) = path::split(target);
    let mut hidden = false;
    if let Ok(from) = path::open_dir(root.as_fd(), target_dir, path::IN_ROOT) {
        match fstatat(&from, leaf, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => hidden = true,
            Ok(_) => {
                return with_time_kept(&dir, || Ok(linkat(&from, leaf, &dir, name, AtFlags::empty())?));
            }
            Err(_) => {}
        }
    }
    for at in 0..lowers.count() {
        let Ok(from) = path::open_dir(lowers.root(at), target_dir, path::IN_ROOT) else { continue };
        let stat = match fstatat(&from, leaf, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if !is_whiteout(&stat) => stat,
            Ok(_) => break,
            Err(_) => continue,
        };
        if !is_file(&stat) {
            bail!("it is no file");
        }
        if hidden {
            // The same tar hides the name but not the file.
            return with_time_kept(&dir, || copy::object(from.as_fd(), &stat, dir.as_fd(), name));
        }
        let up = path::make_dirs(root.as_fd(), target_dir, path::IN_ROOT, |_, made| {
            if let Some(path) = path::below(root.as_fd(), made.as_fd())? {
                inherit(root, lowers, &path)?;
            }
            Ok(())
        })?;
        with_time_kept(&up, || copy::object(from.as_fd(), &stat, up.as_fd(), leaf))?;
        return with_time_kept(&dir, || Ok(linkat(&up, leaf, &dir, name, AtFlags::empty())?));
    }
    bail!("there is no such file in the image")
}

/// Whether a whiteout hides anything; one that does not would only be seen as a strange device, and goes.
fn hides(root: &OwnedFd, lowers: &mut Lowers, path: &[u8]) -> Result<bool> {
    if lowers.find(path)?.is_some() {
        return Ok(true);
    }
    let (dir, name) = path::split(path);
    let dir = path::open_dir(root.as_fd(), dir, path::NO_LINKS).context("open its directory")?;
    with_time_kept(&dir, || Ok(unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir)?))?;
    Ok(false)
}

/// Changes a directory's entries and gives it back its time.
fn with_time_kept(dir: &OwnedFd, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let stat = fstat(dir).context("look at its directory")?;
    change()?;
    let open = open_readable(dir.as_fd())?;
    let (atime, mtime) =
        (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec));
    futimens(&open, &atime, &mtime).context("set its directory's times")
}

/// A descriptor opened with O_PATH cannot have times set.
fn open_readable(dir: BorrowedFd) -> Result<OwnedFd> {
    path::open(dir, b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, path::NO_LINKS).context("open its directory")
}
