//! A walk over a tree in the order of names, each directory before what is in it. Nothing is opened but to be looked
//! at: what somebody else changes meanwhile leads nowhere and holds nobody up.

use super::stat::is_dir;
use super::{path, remove};
use crate::order;
use anyhow::{Context, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstat, fstatat};
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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

/// What is made of an entry, and whether to go on into it where it is a directory.
pub type Look<'a, T> = dyn Fn(&[u8], &FileStat) -> Result<(Option<T>, bool)> + Sync + 'a;

/// So many entries are looked at before another thread is worth its start.
const FEW: usize = 1000;

/// The same walk for who wants to know what an entry is and no more: directories of a large tree are looked at side by
/// side. Gives what was made of the entries, in the order of the walk.
pub fn survey<T: Send>(root: BorrowedFd, look: &Look<T>) -> Result<Found<T>> {
    let state = State { left: vec![(0, Vec::new())], done: vec![None], at_work: 0, failed: None };
    let survey = Survey { root, look, state: Mutex::new(state), changed: Condvar::new() };
    survey.work(FEW);
    std::thread::scope(|scope| {
        let others = survey.state().left.len().min(crate::sys::processors().min(8));
        for _ in 1..others {
            scope.spawn(|| survey.work(usize::MAX));
        }
        survey.work(usize::MAX);
    });
    let State { done, failed, .. } = survey.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut found = Found { left: done.iter().flatten().map(Vec::len).sum(), done, levels: Vec::new() };
    found.enter(0);
    failed.map_or(Ok(found), Err)
}

/// What was made of the entries of a directory, and where the list of what is below each will be.
type Listing<T> = Vec<(Option<T>, Option<usize>)>;

/// What was made of all entries, in order.
pub struct Found<T> {
    done: Vec<Option<Listing<T>>>,
    /// Directories on the way down.
    levels: Vec<std::vec::IntoIter<(Option<T>, Option<usize>)>>,
    left: usize,
}

impl<T> Found<T> {
    fn enter(&mut self, at: usize) {
        self.levels.push(self.done[at].take().unwrap_or_default().into_iter());
    }
}

impl<T> Iterator for Found<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while let Some(level) = self.levels.last_mut() {
            let Some((made, below)) = level.next() else {
                self.levels.pop();
                continue;
            };
            self.left -= 1;
            below.into_iter().for_each(|below| self.enter(below));
            if made.is_some() {
                return made;
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

struct State<T> {
    /// Directories that nobody has looked at: where their list goes, and their paths. The next one last.
    left: Vec<(usize, Vec<u8>)>,
    done: Vec<Option<Listing<T>>>,
    /// How many have one in hand, from which more may come.
    at_work: usize,
    failed: Option<anyhow::Error>,
}

struct Survey<'a, T> {
    root: BorrowedFd<'a>,
    look: &'a Look<'a, T>,
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Survey<'_, T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of those who look: directory after directory, until none is left, or so many entries were seen.
    fn work(&self, most: usize) {
        let mut seen = 0;
        while seen < most {
            let mut state = self.state();
            let (at, path) = loop {
                match state.left.pop() {
                    Some(next) => break next,
                    None if state.at_work == 0 => return,
                    None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            state.at_work += 1;
            drop(state);
            let found = self.directory(&path);
            let mut state = self.state();
            state.at_work -= 1;
            match found {
                Ok((mut listing, dirs)) => {
                    seen += listing.len();
                    for (entry, path) in dirs.into_iter().rev() {
                        listing[entry].1 = Some(state.done.len());
                        let place = state.done.len();
                        state.done.push(None);
                        state.left.push((place, path));
                    }
                    state.done[at] = Some(listing);
                }
                Err(error) => {
                    state.left.clear();
                    state.failed.get_or_insert(error);
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The entries of one directory, and those of them that are gone on into.
    fn directory(&self, path: &[u8]) -> Result<(Listing<T>, Vec<(usize, Vec<u8>)>)> {
        let (mut listing, mut dirs) = (Vec::new(), Vec::new());
        let listed = || format!("list {}", path::show(path));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let at: &[u8] = if path.is_empty() { b"." } else { path };
        let mut dir = match path::open(self.root, at, flags, 0, path::NO_LINKS) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
                return Ok((listing, dirs));
            }
            other => Dir::from_fd(other.with_context(listed)?).with_context(listed)?,
        };
        // One piece of memory for all names.
        let (mut text, mut names): (Vec<u8>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
        for entry in dir.iter() {
            let entry = entry.with_context(listed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let start = text.len();
                text.extend_from_slice(entry.file_name().to_bytes_with_nul());
                names.push(start..text.len());
            }
        }
        order::by(&mut names, |a, b| text[a.clone()].cmp(&text[b.clone()]));
        listing.reserve_exact(names.len());
        let mut whole = path.to_vec();
        if !path.is_empty() {
            whole.push(b'/');
        }
        let length = whole.len();
        for name in names {
            let name = CStr::from_bytes_with_nul(&text[name]).context("read a directory")?;
            whole.truncate(length);
            whole.extend_from_slice(name.to_bytes());
            let stat = match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                other => other.with_context(|| format!("look at {}", path::show(&whole)))?,
            };
            let (made, enter) = (self.look)(&whole, &stat)?;
            if enter && is_dir(&stat) {
                dirs.push((listing.len(), whole.clone()));
            }
            listing.push((made, None));
        }
        Ok((listing, dirs))
    }
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
        // Enough of them for several threads, and one that nothing is made of.
        for dir in 0..FEW / 20 {
            let dir = top.join(format!("many/{dir}/x"));
            std::fs::create_dir_all(&dir).unwrap();
            (0..50).for_each(|file| std::fs::write(dir.join(file.to_string()), "").unwrap());
        }
        let mut expected = Vec::new();
        glance(root.as_fd(), &mut |path, _, stat| {
            if path != b"many" {
                expected.push((path.to_vec(), stat.st_ino));
            }
            Ok(path != b"skipped")
        })
        .unwrap();
        let look = |path: &[u8], stat: &FileStat| {
            Ok((Some((path.to_vec(), stat.st_ino)).filter(|_| path != b"many"), path != b"skipped"))
        };
        let found: Vec<_> = survey(root.as_fd(), &look).unwrap().collect();
        assert!(found == expected && expected.len() > 2 * FEW);
        let broken = |path: &[u8], _: &FileStat| match path {
            b"many/7/x/7" => anyhow::bail!("this one"),
            _ => Ok((None::<()>, true)),
        };
        assert_eq!(survey(root.as_fd(), &broken).err().unwrap().to_string(), "this one");
        std::fs::remove_dir_all(&top).unwrap();
    }
}
