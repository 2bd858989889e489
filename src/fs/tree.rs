//! A walk over a tree in the order of names, each directory before what is in it. Nothing is opened but to be looked
//! at: what somebody else changes meanwhile leads nowhere and holds nobody up.

use super::stat::is_dir;
use super::{path, remove};
use crate::order;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstat, fstatat};
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Is given each entry: its path below the root, a descriptor (O_PATH) of it, and what it is. Says whether to go on
/// into a directory.
pub type Visit<'a> = dyn FnMut(&[u8], BorrowedFd, &FileStat) -> Result<bool> + 'a;

struct Level {
    /// Of the path down to this directory.
    length: usize,
    /// What is left of it, the next one last.
    names: Vec<CString>,
}

/// Walks over all that is below the directory `root`. Symbolic links are not followed; mounts are entered. What goes
/// away meanwhile is passed over.
pub fn walk(root: BorrowedFd, visit: &mut Visit) -> Result<()> {
    let mut path = Vec::new();
    let mut levels = vec![Level { length: 0, names: list(root)? }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.length);
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        let Some(fd) = look(root, &path)? else { continue };
        let stat = fstat(&fd).with_context(|| format!("look at {}", path::show(&path)))?;
        if visit(&path, fd.as_fd(), &stat)? && is_dir(&stat) {
            let names = list(fd.as_fd()).with_context(|| path::show(&path))?;
            levels.push(Level { length: path.len(), names });
        }
    }
    Ok(())
}

/// Is given each entry: its path below the root, its directory, and what it is. Says whether to go on into a directory.
pub type Glance<'a> = dyn FnMut(&[u8], BorrowedFd, &FileStat) -> Result<bool> + 'a;

/// So many directories on the way down are kept open; those above them are opened again.
const OPEN: usize = 64;

/// The same walk for who wants to know what an entry is and seldom more: a third of the system calls.
pub fn glance(root: BorrowedFd, visit: &mut Glance) -> Result<()> {
    let open = |path: &[u8]| -> Result<Option<OwnedFd>> {
        match path::open(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, 0, path::NO_LINKS) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("list {}", path::show(path))),
        }
    };
    let Some(dir) = open(b".")? else { return Ok(()) };
    let mut path = Vec::new();
    let mut levels = vec![Level { length: 0, names: list(dir.as_fd())? }];
    let mut dirs = VecDeque::from([dir]);
    while let Some(level) = levels.last_mut() {
        path.truncate(level.length);
        let Some(name) = level.names.pop() else {
            levels.pop();
            dirs.pop_back();
            continue;
        };
        if dirs.is_empty() {
            match open(&path)? {
                Some(dir) => dirs.push_back(dir),
                // Whatever else was in it is gone too.
                None => {
                    level.names.clear();
                    continue;
                }
            }
        }
        let Some(dir) = dirs.back() else { continue };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        let stat = match fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            other => other.with_context(|| format!("look at {}", path::show(&path)))?,
        };
        if visit(&path, dir.as_fd(), &stat)? && is_dir(&stat) {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let below = match path::open(dir.as_fd(), name.to_bytes(), flags, 0, path::NO_LINKS) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
                    continue;
                }
                other => other.with_context(|| format!("list {}", path::show(&path)))?,
            };
            let names = list(below.as_fd()).with_context(|| path::show(&path))?;
            levels.push(Level { length: path.len(), names });
            dirs.push_back(below);
            if dirs.len() > OPEN {
                dirs.pop_front();
            }
        }
    }
    Ok(())
}

/// Opens an entry to look at it (O_PATH), also a symbolic link; `None` where it is gone, or is reached by a link now.
pub fn look(root: BorrowedFd, path: &[u8]) -> Result<Option<OwnedFd>> {
    match path::open(root, path, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0, path::NO_LINKS) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("look at {}", path::show(path))),
    }
}

/// The names in a directory, the first one last.
fn list(dir: BorrowedFd) -> Result<Vec<CString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut names = match path::open(dir, b".", flags, 0, path::NO_LINKS) {
        Ok(dir) => remove::names(dir)?,
        // Removed since it was looked at.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Vec::new(),
        Err(error) => return Err(error).context("list a directory"),
    };
    order::by(&mut names, |a, b| b.cmp(a));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_not_through_links() {
        let top = std::env::temp_dir().join(format!("dhow-tree-{}", std::process::id()));
        std::fs::create_dir_all(top.join("b/c")).unwrap();
        std::fs::write(top.join("b/c/file"), "").unwrap();
        std::fs::write(top.join("b-"), "").unwrap();
        std::os::unix::fs::symlink("b", top.join("a")).unwrap();
        std::fs::create_dir_all(top.join("skipped/x")).unwrap();
        let root = path::open_root(&top).unwrap();
        let mut seen = Vec::new();
        walk(root.as_fd(), &mut |path, _, _| {
            seen.push(path::show(path));
            Ok(path != b"skipped")
        })
        .unwrap();
        assert_eq!(seen, ["a", "b", "b/c", "b/c/file", "b-", "skipped"]);
        // Deeper than what is kept open.
        let deep = vec!["d"; 2 * OPEN].join("/");
        std::fs::create_dir_all(top.join("b").join(&deep)).unwrap();
        std::fs::write(top.join("b/d/z"), "").unwrap();
        let mut all = Vec::new();
        walk(root.as_fd(), &mut |path, _, stat| {
            all.push((path.to_vec(), stat.st_ino));
            Ok(path != b"skipped")
        })
        .unwrap();
        let mut glanced = Vec::new();
        glance(root.as_fd(), &mut |path, dir, stat| {
            let (_, name) = path::split(path);
            assert_eq!(fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).unwrap().st_ino, stat.st_ino);
            glanced.push((path.to_vec(), stat.st_ino));
            Ok(path != b"skipped")
        })
        .unwrap();
        assert_eq!((all.len(), &all), (7 + 2 * OPEN, &glanced));
        std::fs::remove_dir_all(&top).unwrap();
    }
}
