//! Looks paths up in the layers below, as overlayfs does: the topmost layer that has a name or hides it decides, and
//! links are not followed. Neighbouring paths share what was opened on the way to them.

use super::stat::{is_dir, is_whiteout};
use super::{path, remove, xattr};
use crate::order::Set;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// So many directories are kept open in all, below the usual limit of 1024 descriptors.
const OPEN: usize = 512;

/// The layers below, top first.
pub struct Lowers {
    lowers: Vec<Lower>,
    /// How deep the directories of each may stay open.
    depth: usize,
}

struct Lower {
    root: Found,
    /// The names below the root of the last look-up, and what they are.
    steps: Vec<(Vec<u8>, Step)>,
}

enum Step {
    There(Found),
    Whiteout,
    Absent,
}

struct Found {
    fd: OwnedFd,
    stat: FileStat,
    /// Whether the directory hides what is below, once that was asked.
    opaque: Option<bool>,
}

/// What one layer says of a path.
enum Said {
    There,
    Gone,
    Nothing,
}

impl Lowers {
    /// Opens the `fs` directories of layers, top first.
    pub fn open(lowers: &[PathBuf]) -> Result<Lowers> {
        let open = |path: &PathBuf| -> Result<Lower> {
            let fd = path::open_root(path)?;
            let stat = fstat(&fd).with_context(|| format!("look at {}", path.display()))?;
            Ok(Lower { root: Found { fd, stat, opaque: None }, steps: Vec::new() })
        };
        let lowers = lowers.iter().map(open).collect::<Result<Vec<_>>>()?;
        let depth = OPEN / lowers.len().max(1);
        Ok(Lowers { lowers, depth })
    }

    pub fn count(&self) -> usize {
        self.lowers.len()
    }

    /// The root of one of them.
    pub fn root(&self, at: usize) -> BorrowedFd<'_> {
        self.lowers[at].root.fd.as_fd()
    }

    /// The names that any of them has in a directory, those too that others hide.
    pub fn names(&self, path: &[u8]) -> Result<Set<CString>> {
        let mut names = Set::new();
        for lower in &self.lowers {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            match path::open(lower.root.fd.as_fd(), path, flags, 0, path::NO_LINKS) {
                Ok(dir) => names.extend(remove::names(dir)?),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {}
                Err(error) => return Err(error).context("look at the layers below"),
            }
        }
        Ok(names)
    }

    /// What the layers show at a path: an O_PATH descriptor (the root's own is for reading), and what it is.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<(BorrowedFd<'_>, FileStat)>> {
        let mut found = None;
        for (at, lower) in self.lowers.iter_mut().enumerate() {
            lower.steps.truncate(self.depth);
            match lower.look(path).context("look at the layers below")? {
                Said::There => {
                    found = Some(at);
                    break;
                }
                Said::Gone => break,
                Said::Nothing => lower.steps.truncate(self.depth),
            }
        }
        let Some(at) = found else { return Ok(None) };
        Ok(self.lowers[at].last().map(|last| (last.fd.as_fd(), last.stat)))
    }
}

impl Lower {
    fn look(&mut self, path: &[u8]) -> Result<Said> {
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
        let mut known = 0;
        while let (Some((name, _)), Some(next)) = (self.steps.get(known), names.peek())
            && name == next
        {
            names.next();
            known += 1;
        }
        self.steps.truncate(known);
        for name in names {
            let step = match self.last() {
                Some(dir) if is_dir(&dir.stat) => open(&dir.fd, name)?,
                // A file has nothing in it, and hides what others have there.
                Some(_) => return Ok(Said::Gone),
                None => break,
            };
            self.steps.push((name.to_vec(), step));
        }
        match self.steps.last() {
            None | Some((_, Step::There(_))) => return Ok(Said::There),
            Some((_, Step::Whiteout)) => return Ok(Said::Gone),
            Some((_, Step::Absent)) => {}
        }
        Ok(if self.is_opaque() { Said::Gone } else { Said::Nothing })
    }

    /// What the last step found.
    fn last(&self) -> Option<&Found> {
        match self.steps.last() {
            None => Some(&self.root),
            Some((_, Step::There(found))) => Some(found),
            Some((_, Step::Whiteout | Step::Absent)) => None,
        }
    }

    /// Whether a directory on the way hides what the layers further down have in it.
    fn is_opaque(&mut self) -> bool {
        let below = self.steps.iter_mut().filter_map(|(_, step)| match step {
            Step::There(found) => Some(found),
            Step::Whiteout | Step::Absent => None,
        });
        let mut all = std::iter::once(&mut self.root).chain(below);
        all.any(|dir| *dir.opaque.get_or_insert_with(|| xattr::is_opaque(dir.fd.as_fd())))
    }
}

fn open(dir: &OwnedFd, name: &[u8]) -> Result<Step> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(Step::Absent),
        Err(error) => return Err(error).with_context(|| path::show(name)),
    };
    let stat = fstat(&fd).with_context(|| path::show(name))?;
    Ok(if is_whiteout(&stat) { Step::Whiteout } else { Step::There(Found { fd, stat, opaque: None }) })
}
