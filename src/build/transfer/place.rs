//! Copies gathered entries into the root of an image. The destination is resolved by the kernel inside that root; what a
//! source is called there is made anew, and nothing that lies there is opened.
//!
//! Directories, links and whatever else may lead elsewhere are made in order, by one thread. Plain files wait for their
//! turn, directory by directory: several threads copy them, those of one directory in order by one of them. What is read
//! is hashed on its way, so that the digest is that of what was copied, whoever changes the files meanwhile.

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
    Mode as Bits, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Where to, and as what.
pub struct Place<'a> {
    /// The image's root.
    pub root: BorrowedFd<'a>,
    /// Absolute, as it is written: a slash at its end means a directory.
    pub destination: String,
    /// Whose all of it becomes; else it is root's, or whose it was where the tree that it is from has owners.
    pub owner: Option<Owner>,
    pub mode: Option<Mode>,
    /// What is made on the way has this time, in seconds since 1970.
    pub time: i64,
    /// Set once a directory was made or written in: their attributes are set at the end.
    directories: Vec<(Vec<u8>, Attributes)>,
    /// Files with several names: the name that was made first, and the digest.
    links: HashMap<(u64, u64), (Vec<u8>, Content)>,
    parent: Option<(Vec<u8>, Arc<OwnedFd>)>,
    waiting: Vec<Unit>,
    buffer: Vec<u8>,
}

/// The digest of a file's content, and of the rights that travel with it.
pub type Content = [u8; 32];

/// Files that wait to be copied into one directory.
struct Unit {
    dir: Arc<OwnedFd>,
    inode: (u64, u64),
    /// Which entry, and its name.
    files: Vec<(usize, Vec<u8>)>,
}

/// No more files, and no more open directories, wait.
const FILES: usize = 4096;
const UNITS: usize = 128;

#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    owner: Owner,
    time: i64,
}

/// Files up to this size are copied through memory, which is quicker than to ask the kernel for it.
const SMALL: usize = 128 * 1024;

impl<'a> Place<'a> {
    pub fn new(
        root: BorrowedFd<'a>,
        destination: String,
        owner: Option<Owner>,
        mode: Option<Mode>,
        time: i64,
    ) -> Place<'a> {
        Place {
            root,
            destination,
            owner,
            mode,
            time,
            directories: Vec::new(),
            links: HashMap::new(),
            parent: None,
            waiting: Vec::new(),
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

    /// Copies entries. Names are below the destination, which is a directory where it is one already or gets one; else each
    /// file takes the place of the one before. Gives the digests of the files, each in its place.
    pub fn items(&mut self, from: &Tree, items: &[Item], caller: &Caller) -> Result<Vec<Content>> {
        let into = self.is_directory() || items.iter().any(|item| item.top || is_dir(&item.stat));
        let destination = path::trim_slashes(self.destination.as_bytes()).to_vec();
        let mut contents = vec![[0; 32]; items.len()];
        let mut count = 0;
        self.links.clear();
        for (n, item) in items.iter().enumerate() {
            let copying = || format!("copy {}", path::show(&item.path));
            let at = match into {
                true if item.name().is_empty() => destination.clone(),
                true => path::join(&destination, item.name()),
                false => self.followed(&destination)?,
            };
            if is_file(&item.stat) && item.stat.st_nlink == 1 {
                self.wait(n, &at).with_context(copying)?;
                count += 1;
                if count == FILES || self.waiting.len() == UNITS {
                    count = 0;
                    self.copy(from, items, caller, &mut contents)?;
                }
                continue;
            }
            if !is_dir(&item.stat) {
                // Where paths lead may be another thing after this one.
                self.copy(from, items, caller, &mut contents)?;
            }
            contents[n] = self.item(from, item, &at).with_context(copying)?;
        }
        self.copy(from, items, caller, &mut contents)?;
        Ok(contents)
    }

    /// Puts a file off until others are there to be copied with it.
    fn wait(&mut self, n: usize, at: &[u8]) -> Result<()> {
        let (parent, leaf) = path::split(at);
        if leaf.is_empty() {
            bail!("cannot copy a file to /");
        }
        let dir = self.enter(parent)?;
        let file = (n, leaf.to_vec());
        if let Some(unit) = self.waiting.last_mut().filter(|unit| Arc::ptr_eq(&unit.dir, &dir)) {
            unit.files.push(file);
            return Ok(());
        }
        let stat = fstat(&dir).context("look at its directory")?;
        let inode = (stat.st_dev, stat.st_ino);
        match self.waiting.iter_mut().find(|unit| unit.inode == inode) {
            Some(unit) => unit.files.push(file),
            None => self.waiting.push(Unit { dir, inode, files: vec![file] }),
        }
        Ok(())
    }

    /// Copies the files that wait.
    fn copy(&mut self, from: &Tree, items: &[Item], caller: &Caller, contents: &mut [Content]) -> Result<()> {
        if caller.has_gone() {
            return Err(gone());
        }
        let units = std::mem::take(&mut self.waiting);
        let count: usize = units.iter().map(|unit| unit.files.len()).sum();
        let threads = crate::sys::processors().min(8).min(count.div_ceil(64));
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(count));
        let (owner, mode) = (self.owner, self.mode.as_ref());
        let work = |buffer: &mut [u8]| -> Result<()> {
            while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut mine = Vec::with_capacity(unit.files.len());
                for (n, leaf) in &unit.files {
                    let item = &items[*n];
                    let looks = Looks { owner: whose(owner, from, item), mode };
                    let content = looks.regular(from.root.as_fd(), item, unit.dir.as_fd(), leaf, buffer);
                    mine.push((*n, content.with_context(|| format!("copy {}", path::show(&item.path)))?));
                }
                if caller.has_gone() {
                    return Err(gone());
                }
                done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(mine);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(&mut vec![0; SMALL]))).collect();
            let mut all = work(&mut self.buffer);
            for other in others {
                let other = other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread that copies panicked")));
                all = all.and(other);
            }
            all
        })?;
        for (n, content) in done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            contents[n] = content;
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
        let file = create(parent.as_fd(), &leaf)?;
        std::fs::File::from(file.try_clone()?).write_all(content).context("write it")?;
        let looks = Looks { owner: self.owner.unwrap_or_default(), mode: self.mode.as_ref() };
        looks.finish(&file, &[], mode, self.time)
    }

    /// Opens the destination as a directory, which is made where it is missing: no mode is meant for that where an archive
    /// says what is in it.
    pub fn directory(&mut self) -> Result<Arc<OwnedFd>> {
        let destination = path::trim_slashes(self.destination.as_bytes()).to_vec();
        let mode = self.mode.take();
        let opened = self.enter(&destination);
        self.mode = mode;
        opened
    }

    /// Others have changed what is below the destination: paths may lead elsewhere now.
    pub fn forget(&mut self) {
        self.parent = None;
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

    /// The mode of the directories that the copy needs and nothing is copied from: octal digits are meant for them, too,
    /// but for the bits that mkdir(2) does not take.
    fn own_mode(&self) -> u32 {
        match self.mode {
            Some(Mode::Set(mode)) => mode & 0o777,
            _ => 0o755,
        }
    }

    /// Where a path leads: what a link leads to is written, and not the link.
    fn followed(&self, at: &[u8]) -> Result<Vec<u8>> {
        path::resolved(self.root, at).with_context(|| format!("follow /{}", path::show(at)))
    }

    /// Opens a directory below the root, and makes what is missing of it.
    fn enter(&mut self, at: &[u8]) -> Result<Arc<OwnedFd>> {
        if let Some((known, fd)) = &self.parent
            && known == at
        {
            return Ok(Arc::clone(fd));
        }
        let (mode, owner, time) = (self.own_mode(), self.owner.unwrap_or_default(), self.time);
        let made = &mut self.directories;
        let opened = match path::open_dir(self.root, at, path::IN_ROOT) {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                // Of a link that leads to nothing, what it leads to is made.
                let at = path::resolved(self.root, at).with_context(|| format!("follow /{}", path::show(at)))?;
                path::make_dirs(self.root, &at, path::IN_ROOT, |so_far, _| {
                    made.push((so_far.to_vec(), Attributes { mode, owner, time }));
                    Ok(())
                })?
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
                bail!("cannot copy to non-directory: /{}", path::show(at))
            }
            Err(error) => return Err(error).with_context(|| format!("open /{}", path::show(at))),
        };
        let opened = Arc::new(opened);
        self.parent = Some((at.to_vec(), Arc::clone(&opened)));
        Ok(opened)
    }

    /// What is no plain file.
    fn item(&mut self, from: &Tree, item: &Item, at: &[u8]) -> Result<Content> {
        let stat = &item.stat;
        let nothing = [0; 32];
        if is_dir(stat) {
            return self.dir(from, item, at).map(|()| nothing);
        }
        let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            // As BuildKit has it: an empty file.
            SFlag::S_IFSOCK => SFlag::S_IFREG,
            kind => kind,
        };
        if is_whiteout(stat) {
            bail!("it is the device 0:0, which overlay takes for a whiteout");
        }
        let (parent, leaf) = path::split(at);
        if leaf.is_empty() {
            bail!("cannot copy a file to /");
        }
        let parent = self.enter(parent)?;
        let parent = parent.as_fd();
        if let Some((first, content)) = self.links.get(&(stat.st_dev, stat.st_ino)).filter(|_| stat.st_nlink > 1) {
            if first != at {
                clear(parent, leaf)?;
                let (dir, name) = path::split(first);
                let dir = path::open_dir(self.root, dir, path::IN_ROOT).context("open the directory of its twin")?;
                linkat(&dir, name, parent, leaf, AtFlags::empty()).context("link it")?;
            }
            return Ok(*content);
        }
        let mut content = nothing;
        if is_file(stat) {
            let looks = Looks { owner: whose(self.owner, from, item), mode: self.mode.as_ref() };
            content = looks.regular(from.root.as_fd(), item, parent, leaf, &mut self.buffer)?;
        } else {
            clear(parent, leaf)?;
            self.special(from, item, kind, parent, leaf)?;
        }
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), (at.to_vec(), content));
        }
        Ok(content)
    }

    /// A symbolic link, a device, a FIFO or what stands for a socket.
    fn special(&self, from: &Tree, item: &Item, kind: SFlag, parent: BorrowedFd, leaf: &[u8]) -> Result<()> {
        let stat = &item.stat;
        let mode = self.mode.as_ref().map_or(stat.st_mode & 0o7777, |mode| mode.apply(stat.st_mode, false));
        if kind == SFlag::S_IFLNK {
            let Some(source) = tree::look(from.root.as_fd(), &item.path)? else { bail!("it went away") };
            let target = readlinkat(&source, "").context("read it")?;
            symlinkat(target.as_bytes(), parent, leaf).context("make it")?;
        } else {
            mknodat(parent, leaf, kind, Bits::from_bits_truncate(mode), stat.st_rdev).context("make it")?;
        }
        let owner = whose(self.owner, from, item);
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchownat(parent, leaf, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context("chown it")?;
        let time = TimeSpec::new(stat.st_mtime, 0);
        utimensat(parent, leaf, &time, &time, UtimensatFlags::NoFollowSymlink).context("set its times")
    }

    fn dir(&mut self, from: &Tree, item: &Item, at: &[u8]) -> Result<()> {
        let stat = &item.stat;
        let mode = self.mode.as_ref().map_or(stat.st_mode & 0o7777, |mode| mode.apply(stat.st_mode, true));
        let (mode, owner) = match item.top {
            // It stands for what is in it.
            true => (self.own_mode(), self.owner.unwrap_or_default()),
            false => (mode, whose(self.owner, from, item)),
        };
        let attributes = Attributes { mode, owner, time: stat.st_mtime };
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
}

/// Whose an entry becomes.
fn whose(owner: Option<Owner>, from: &Tree, item: &Item) -> Owner {
    let own = Owner { uid: item.stat.st_uid, gid: item.stat.st_gid };
    owner.unwrap_or(if from.owned { own } else { Owner::default() })
}

/// Whose files become, and with which mode.
#[derive(Clone, Copy)]
struct Looks<'a> {
    owner: Owner,
    mode: Option<&'a Mode>,
}

impl Looks<'_> {
    /// Copies a file, and gives the digest of what was copied.
    fn regular(
        &self,
        root: BorrowedFd,
        item: &Item,
        parent: BorrowedFd,
        leaf: &[u8],
        buffer: &mut [u8],
    ) -> Result<Content> {
        let source = open(root, &item.path)?;
        let file = create(parent, leaf)?;
        let mut hash = Sha256::new();
        if item.stat.st_size >= SMALL as i64 {
            // The kernel shares blocks or copies them, and holes stay holes: what came of it is hashed.
            copy::content(&source, &file, item.stat.st_size)?;
            let copied = std::fs::File::from(file.try_clone().context("read it")?);
            let mut at = 0;
            loop {
                match copied.read_at(buffer, at).context("read it")? {
                    0 => break,
                    n => {
                        hash.update(&buffer[..n]);
                        at += n as u64;
                    }
                }
            }
        } else {
            each(&source, buffer, |bytes| {
                hash.update(bytes);
                let mut left = bytes;
                while !left.is_empty() {
                    let written = nix::unistd::write(&file, left).context("write it")?;
                    left = &left[written..];
                }
                Ok(())
            })?;
        }
        let rights = rights(source.as_fd(), &mut hash)?;
        self.finish(&file, &rights, item.stat.st_mode & 0o7777, item.stat.st_mtime)?;
        Ok(hash.finalize().into())
    }

    /// Owner, mode and time of a file, once all is in it.
    fn finish(&self, file: &OwnedFd, xattrs: &[(CString, Vec<u8>)], mode: u32, time: i64) -> Result<()> {
        let mode = self.mode.map_or(mode, |wish| wish.apply(mode, false));
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
}

/// Opens a file of a tree to read it: whatever lies there by now, it is opened only if it is one.
pub fn open(root: BorrowedFd, at: &[u8]) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = path::open(root, at, flags, 0, path::NO_LINKS).context("open it")?;
    if !is_file(&fstat(&file).context("look at it")?) {
        bail!("it is no file any more");
    }
    Ok(file)
}

/// Reads a file to its end.
pub fn each(file: &OwnedFd, buffer: &mut [u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    loop {
        match nix::unistd::read(file, buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(&buffer[..n])?,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("read it"),
        }
    }
}

/// Rights that travel with a program are a part of it, and of its digest.
pub fn rights(file: BorrowedFd, hash: &mut Sha256) -> Result<Vec<(CString, Vec<u8>)>> {
    let mut all = xattr::list(file)?;
    all.retain(|(name, _)| name.as_c_str() == c"security.capability");
    for (name, value) in &all {
        hash.update(name.to_bytes());
        hash.update(value);
    }
    Ok(all)
}

/// Takes away what lies in the way, unless it is a directory.
fn clear(parent: BorrowedFd, leaf: &[u8]) -> Result<()> {
    match fstatat(parent, leaf, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(there) if is_dir(&there) => bail!("cannot copy to directory {} with a file", path::show(leaf)),
        Ok(_) => unlinkat(parent, leaf, UnlinkatFlags::NoRemoveDir).context("replace what is there"),
        Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).context("look at what is there"),
    }
}

/// Makes a file in the place of whatever is there.
fn create(parent: BorrowedFd, leaf: &[u8]) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let create = || openat(parent, leaf, flags, Bits::from_bits_truncate(0o600));
    match create() {
        Err(Errno::EEXIST) => {
            clear(parent, leaf)?;
            create().context("create it")
        }
        other => other.context("create it"),
    }
}
