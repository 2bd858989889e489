//! Copies gathered entries into the root of an image. The destination is resolved by the kernel inside that root; what a
//! source is called there is made anew, and nothing that lies there is opened.

use super::gather::{Item, Tree};
use super::owner::{Mode, Owner};
use crate::api::wire::Caller;
use crate::build::report::gone;
use crate::fs::copy;
use crate::fs::stat::{is_dir, is_file, is_whiteout};
use crate::fs::{path, tree, xattr};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FileStat, Mode as Bits, SFlag, UtimensatFlags, fchmod, fstatat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Where to, and as what.
pub struct Place<'a> {
    /// The image's root.
    pub root: BorrowedFd<'a>,
    /// Absolute, as it is written: a slash at its end means a directory.
    pub destination: String,
    pub owner: Owner,
    pub mode: Option<Mode>,
    /// What is made on the way has this time, in seconds since 1970.
    pub time: i64,
    /// Set once a directory was made or written in: their attributes are set at the end.
    directories: Vec<(Vec<u8>, Attributes)>,
    links: HashMap<(u64, u64), Vec<u8>>,
    parent: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    owner: Owner,
    time: i64,
}

/// Files up to this size are copied through memory, which is quicker than to ask the kernel for it.
const SMALL: usize = 128 * 1024;

impl<'a> Place<'a> {
    pub fn new(root: BorrowedFd<'a>, destination: String, owner: Owner, mode: Option<Mode>, time: i64) -> Place<'a> {
        Place {
            root,
            destination,
            owner,
            mode,
            time,
            directories: Vec::new(),
            links: HashMap::new(),
            parent: None,
            buffer: vec![0; SMALL],
        }
    }

    /// Whether what is copied goes into the destination and not in its place.
    pub fn is_directory(&self) -> bool {
        let path = &self.destination;
        if path.ends_with('/') || path.ends_with("/.") {
            return true;
        }
        path::open_dir(self.root, path.as_bytes(), path::IN_ROOT).is_ok()
    }

    /// Copies entries. Names are below the destination, which is a directory unless the only entry is a file.
    pub fn items(&mut self, from: &Tree, items: &[Item], caller: &Caller) -> Result<()> {
        let into = self.is_directory() || items.len() > 1 || items.iter().any(|item| item.top || is_dir(&item.stat));
        let destination = path::trim_slashes(self.destination.as_bytes()).to_vec();
        for item in items {
            if caller.has_gone() {
                return Err(gone());
            }
            let copying = || format!("copy {}", path::show(&item.path));
            let at = match into {
                true if item.name.is_empty() => destination.clone(),
                true => path::join(&destination, &item.name),
                false => self.followed(&destination)?,
            };
            self.item(from, item, &at).with_context(copying)?;
        }
        Ok(())
    }

    /// A file whose content is at hand: a here-document, or what was downloaded.
    pub fn file(&mut self, name: &str, content: &[u8], mode: u32) -> Result<()> {
        let destination = path::trim_slashes(self.destination.as_bytes()).to_vec();
        let at = match self.is_directory() {
            true => path::join(&destination, name.as_bytes()),
            false => self.followed(&destination)?,
        };
        let (parent, leaf) = path::split(&at);
        let (parent, leaf) = (self.enter(parent)?, leaf.to_vec());
        self.clear(parent.as_fd(), &leaf)?;
        let file = create(parent.as_fd(), &leaf)?;
        std::fs::File::from(file.try_clone()?).write_all(content).context("write it")?;
        self.finish(&file, &[], mode, false, self.time)
    }

    /// Opens the destination as a directory, which is made where it is missing.
    pub fn directory(&mut self) -> Result<OwnedFd> {
        let destination = path::trim_slashes(self.destination.as_bytes()).to_vec();
        self.enter(&destination)
    }

    /// Sets what waited: attributes of directories, the deepest first.
    pub fn end(mut self) -> Result<()> {
        while let Some((at, attributes)) = self.directories.pop() {
            let setting = || format!("set the attributes of {}", path::show(&at));
            let dir = path::open(self.root, &at, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, path::IN_ROOT);
            let dir = dir.with_context(setting)?;
            fchown(&dir, Some(Uid::from_raw(attributes.owner.uid)), Some(Gid::from_raw(attributes.owner.gid)))
                .with_context(setting)?;
            fchmod(&dir, Bits::from_bits_truncate(attributes.mode)).with_context(setting)?;
            let time = TimeSpec::new(attributes.time, 0);
            futimens(&dir, &time, &time).with_context(setting)?;
        }
        Ok(())
    }

    /// Where a path leads, if it is a link to a file: that is written, and not the link.
    fn followed(&self, at: &[u8]) -> Result<Vec<u8>> {
        match path::open(self.root, at, OFlag::O_PATH, 0, path::IN_ROOT) {
            Ok(fd) => Ok(path::below(self.root, fd.as_fd())?.unwrap_or_else(|| at.to_vec())),
            Err(_) => Ok(at.to_vec()),
        }
    }

    /// Opens a directory below the root, and makes what is missing of it.
    fn enter(&mut self, at: &[u8]) -> Result<OwnedFd> {
        if let Some((known, fd)) = &self.parent
            && known == at
        {
            return fd.try_clone().context("open its directory");
        }
        let (made, owner, time) = (&mut self.directories, self.owner, self.time);
        let opened = match path::open_dir(self.root, at, path::IN_ROOT) {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                path::make_dirs(self.root, at, path::IN_ROOT, |so_far, _| {
                    made.push((so_far.to_vec(), Attributes { mode: 0o755, owner, time }));
                    Ok(())
                })?
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
                bail!("cannot copy to non-directory: /{}", path::show(at))
            }
            Err(error) => return Err(error).with_context(|| format!("open /{}", path::show(at))),
        };
        self.parent = Some((at.to_vec(), opened.try_clone().context("open its directory")?));
        Ok(opened)
    }

    fn item(&mut self, from: &Tree, item: &Item, at: &[u8]) -> Result<()> {
        let stat = &item.stat;
        if is_dir(stat) {
            return self.dir(item, at);
        }
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFSOCK {
            return Ok(());
        }
        if is_whiteout(stat) {
            bail!("it is the device 0:0, which overlay takes for a whiteout");
        }
        let (parent, leaf) = path::split(at);
        if leaf.is_empty() {
            bail!("cannot copy a file to /");
        }
        let parent = self.enter(parent)?;
        let parent = parent.as_fd();
        self.clear(parent, leaf)?;
        if stat.st_nlink > 1 {
            let known = self.links.get(&(stat.st_dev, stat.st_ino)).cloned();
            if let Some(first) = known {
                let (dir, name) = path::split(&first);
                let dir = path::open_dir(self.root, dir, path::IN_ROOT).context("open the directory of its twin")?;
                return linkat(&dir, name, parent, leaf, AtFlags::empty()).context("link it");
            }
            self.links.insert((stat.st_dev, stat.st_ino), at.to_vec());
        }
        let Some(source) = tree::look(from.root.as_fd(), &item.path)? else { bail!("it went away") };
        if is_file(stat) {
            return self.regular(&source, stat, parent, leaf);
        }
        let mode = self.mode.as_ref().map_or(stat.st_mode & 0o7777, |mode| mode.apply(stat.st_mode, false));
        if kind == SFlag::S_IFLNK {
            let target = readlinkat(&source, "").context("read it")?;
            symlinkat(target.as_bytes(), parent, leaf).context("make it")?;
        } else {
            mknodat(parent, leaf, kind, Bits::from_bits_truncate(mode), stat.st_rdev).context("make it")?;
        }
        let (uid, gid) = (Uid::from_raw(self.owner.uid), Gid::from_raw(self.owner.gid));
        fchownat(parent, leaf, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context("chown it")?;
        let time = TimeSpec::new(stat.st_mtime, 0);
        utimensat(parent, leaf, &time, &time, UtimensatFlags::NoFollowSymlink).context("set its times")
    }

    fn regular(&mut self, source: &OwnedFd, stat: &FileStat, parent: BorrowedFd, leaf: &[u8]) -> Result<()> {
        // By descriptor: a name could be that of a FIFO by now.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(path::of_fd(source.as_fd()).as_c_str(), flags, Bits::empty());
        let opened = opened.context("open it")?;
        let file = create(parent, leaf)?;
        self.content(&opened, &file, stat.st_size)?;
        let capability =
            xattr::list(opened.as_fd())?.into_iter().filter(|(name, _)| name.as_c_str() == c"security.capability");
        let xattrs: Vec<_> = capability.collect();
        self.finish(&file, &xattrs, stat.st_mode & 0o7777, false, stat.st_mtime)
    }

    fn content(&mut self, from: &OwnedFd, to: &OwnedFd, size: i64) -> Result<()> {
        if size >= SMALL as i64 {
            return copy::content(from, to, size);
        }
        loop {
            let n = match nix::unistd::read(from, &mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).context("read it"),
            };
            let mut left = &self.buffer[..n];
            while !left.is_empty() {
                let written = nix::unistd::write(to, left).context("write it")?;
                left = &left[written..];
            }
        }
    }

    /// Owner, mode and time of a file, once all is in it.
    fn finish(
        &self,
        file: &OwnedFd,
        xattrs: &[(std::ffi::CString, Vec<u8>)],
        mode: u32,
        dir: bool,
        time: i64,
    ) -> Result<()> {
        let mode = self.mode.as_ref().map_or(mode, |wish| wish.apply(mode, dir));
        if self.owner != Owner::default() {
            let (uid, gid) = (Uid::from_raw(self.owner.uid), Gid::from_raw(self.owner.gid));
            fchown(file, Some(uid), Some(gid)).context("chown it")?;
        }
        fchmod(file, Bits::from_bits_truncate(mode)).context("chmod it")?;
        for (name, value) in xattrs {
            xattr::set(file.as_fd(), name, value)?;
        }
        let time = TimeSpec::new(time, 0);
        futimens(file, &time, &time).context("set its times")
    }

    fn dir(&mut self, item: &Item, at: &[u8]) -> Result<()> {
        let stat = &item.stat;
        let mode = self.mode.as_ref().map_or(stat.st_mode & 0o7777, |mode| mode.apply(stat.st_mode, true));
        let attributes = Attributes { mode, owner: self.owner, time: stat.st_mtime };
        let (parent, leaf) = path::split(at);
        if leaf.is_empty() {
            return Ok(());
        }
        let parent = self.enter(parent)?;
        match mkdirat(&parent, leaf, Bits::from_bits_truncate(0o700)) {
            Ok(()) => self.directories.push((at.to_vec(), attributes)),
            Err(Errno::EEXIST) => {
                // Also by a link that stays inside.
                if path::open_dir(self.root, at, path::IN_ROOT).is_err() {
                    bail!("cannot copy to non-directory: /{}", path::show(at));
                }
                if !item.top {
                    self.directories.push((at.to_vec(), attributes));
                }
            }
            Err(error) => return Err(error).context("make it"),
        }
        Ok(())
    }

    /// Takes away what lies in the way, unless it is a directory.
    fn clear(&mut self, parent: BorrowedFd, leaf: &[u8]) -> Result<()> {
        match fstatat(parent, leaf, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) if is_dir(&there) => bail!("cannot copy to directory {} with a file", path::show(leaf)),
            Ok(_) => unlinkat(parent, leaf, UnlinkatFlags::NoRemoveDir).context("replace what is there"),
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error).context("look at what is there"),
        }
    }
}

fn create(parent: BorrowedFd, leaf: &[u8]) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, leaf, flags, Bits::from_bits_truncate(0o600)).context("create it")
}
