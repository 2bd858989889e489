//! Removes trees, whatever is in them and whoever made them: by descriptor, never across a mount, however deep.

use super::path;
use anyhow::{Context, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Deeper directories are moved up first, so that no more descriptors than this are open at once.
const DEPTH: usize = 64;

/// Removes a file or a whole directory; a missing one is removed already.
pub fn tree(at: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
        anyhow::bail!("remove {}: it is a root", at.display());
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    // Most are files, and gone by one call.
    if let Ok(()) | Err(Errno::ENOENT) = nix::unistd::unlink(at) {
        return Ok(());
    }
    let removing = || format!("remove {}", at.display());
    let parent = match nix::fcntl::open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, MODE) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.with_context(removing)?,
    };
    let name = CString::new(name.as_bytes()).with_context(removing)?;
    entry(parent.as_fd(), &name).with_context(removing)
}

const MODE: nix::sys::stat::Mode = nix::sys::stat::Mode::empty();

/// Removes one name of a directory, and all that is below it.
pub fn entry(parent: BorrowedFd, name: &CStr) -> Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // Linux says EISDIR for a directory, POSIX says EPERM.
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error).with_context(|| path::show(name.to_bytes())),
    }
    let dir = match open(parent, name)? {
        Some(dir) => dir,
        None => return Ok(()),
    };
    // Names that the tree cannot have foreseen.
    let mut up = Up { salt: RandomState::new().hash_one(0), count: 0 };
    loop {
        let before = up.count;
        contents(dir.as_fd(), dir.as_fd(), 1, &mut up).with_context(|| path::show(name.to_bytes()))?;
        // What was moved up may be deeper still, and is moved up again from there.
        if up.count == before {
            break;
        }
    }
    drop(dir);
    rmdir(parent, name)
}

/// Where deep directories are moved to: names in the top directory.
struct Up {
    salt: u64,
    count: u64,
}

/// The names in an open directory, without `.` and `..`.
pub fn names(dir: OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(dir).context("list a directory")?.iter() {
        let entry = entry.context("list a directory")?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory to be emptied; `None` where it is gone. One that is a mount point is refused.
fn open(parent: BorrowedFd, name: &CStr) -> Result<Option<OwnedFd>> {
    let resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    match path::open(parent, name.to_bytes(), flags, 0, resolve) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            Err(error).with_context(|| format!("{}: something is mounted there", path::show(name.to_bytes())))
        }
        Err(error) => Err(error).with_context(|| path::show(name.to_bytes())),
    }
}

fn contents(top: BorrowedFd, dir: BorrowedFd, depth: usize, up: &mut Up) -> Result<()> {
    // A descriptor of its own: reading moves the position of the open file.
    let list = path::open(dir, b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, path::NO_LINKS).context("open it")?;
    for name in names(list)? {
        match unlinkat(dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(error) => return Err(error).with_context(|| path::show(name.to_bytes())),
        }
        // An empty one needs no reading, and no moving.
        if let Ok(()) | Err(Errno::ENOENT) = unlinkat(dir, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            continue;
        }
        if depth >= DEPTH {
            up.count += 1;
            let to = format!(".{:016x}.{}", up.salt, up.count);
            renameat(dir, name.as_c_str(), top, to.as_str()).with_context(|| path::show(name.to_bytes()))?;
            continue;
        }
        if let Some(below) = open(dir, &name)? {
            contents(top, below.as_fd(), depth + 1, up)?;
            drop(below);
            rmdir(dir, &name)?;
        }
    }
    Ok(())
}

fn rmdir(parent: BorrowedFd, name: &CStr) -> Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| path::show(name.to_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_odd_trees_go_and_links_are_not_followed() {
        let top = std::env::temp_dir().join(format!("dhow-remove-{}", std::process::id()));
        std::fs::create_dir_all(top.join("keep")).unwrap();
        std::fs::write(top.join("keep/me"), "x").unwrap();
        std::fs::create_dir(top.join("tree")).unwrap();
        std::os::unix::fs::symlink("../keep", top.join("tree/link")).unwrap();
        // Deeper than a path can be long, and than descriptors may be open.
        let mut dir = path::open_root(&top.join("tree")).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&dir, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
            nix::sys::stat::mkdirat(&dir, "e", nix::sys::stat::Mode::empty()).unwrap();
            dir = path::open(dir.as_fd(), b"d", OFlag::O_RDONLY, 0, path::NO_LINKS).unwrap();
        }
        tree(&top.join("tree")).unwrap();
        tree(&top.join("tree")).unwrap();
        assert!(!top.join("tree").exists());
        assert!(top.join("keep/me").exists());
        tree(&top).unwrap();
        assert!(!top.exists());
    }
}
