//! A tree as a tar. The tree is somebody else's and changes while it is read: what is opened is what was looked at,
//! FIFOs and devices are never opened, a file that shrinks is filled up with zeros, and holes stay holes.

use super::header::{BLOCK, Entry, Kind, Sparse, Time};
use super::stat::{is_dir, is_file};
use super::{path, recipe, tree, write, xattr};
use crate::oci::runtime::{Ids, inside};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Whence, lseek};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

/// Files with less than this in holes are written out: not every program that reads tars knows sparse ones.
const HOLES: u64 = 8 << 20;
/// More parts than this are not told apart.
const PARTS: usize = 1 << 16;
const BUFFER: usize = 128 * 1024;

/// Writes entries into a tar.
pub struct Packer<'a> {
    out: &'a mut dyn Write,
    /// Takes down all of it but the content of files, which stay where they are.
    recipe: Option<&'a mut recipe::Writer>,
    /// Device and inode of files with several names, and the name that was written first.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Bytes of the files' content so far.
    pub content: u64,
    /// What is packed is seen from outside of a user namespace with this map.
    pub ids: Option<Ids>,
    /// The time that everything has, in seconds since 1970, and not its own.
    pub time: Option<i64>,
    /// A socket is an empty file, and not nothing.
    pub sockets: bool,
}

/// Whose what is, that nobody of a map owns.
const NOBODY: u32 = 65534;

impl<'a> Packer<'a> {
    pub fn new(out: &'a mut dyn Write) -> Packer<'a> {
        let (links, buffer) = (HashMap::new(), vec![0; BUFFER]);
        Packer { out, recipe: None, links, buffer, content: 0, ids: None, time: None, sockets: false }
    }

    /// One whose tar can be had again by a recipe, from the files that it reads.
    pub fn sealing(out: &'a mut dyn Write, recipe: &'a mut recipe::Writer) -> Packer<'a> {
        Packer { recipe: Some(recipe), ..Packer::new(out) }
    }

    /// Writes the headers of an entry, and into the recipe.
    fn head(&mut self, entry: &Entry) -> Result<()> {
        let mut bytes = Vec::with_capacity(3 * BLOCK);
        write::head(&mut bytes, entry)?;
        self.plain(&bytes)
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(recipe) = &mut self.recipe {
            recipe.bytes(bytes)?;
        }
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes `top` (an O_PATH descriptor of anything) under `name`, and all that is below it. `keep` decides on each
    /// entry below.
    pub fn tree(&mut self, top: BorrowedFd, name: &[u8], keep: &mut Keep) -> Result<()> {
        let stat = fstat(top).with_context(|| format!("look at {}", path::show(name)))?;
        self.object(top, &stat, name)?;
        if is_dir(&stat) { self.contents(top, name, keep) } else { Ok(()) }
    }

    /// The same without the directory `top` itself.
    pub fn contents(&mut self, top: BorrowedFd, name: &[u8], keep: &mut Keep) -> Result<()> {
        tree::walk(top, &mut |path, fd, stat| {
            let kept = keep(path, fd, stat)?;
            if kept != Kept::Nothing {
                self.object(fd, stat, &below(name, path))?;
            }
            Ok(kept == Kept::All)
        })
    }

    /// Writes one entry.
    pub fn object(&mut self, fd: BorrowedFd, stat: &FileStat, name: &[u8]) -> Result<()> {
        self.write(fd, stat, name, None).with_context(|| format!("archive {}", path::show(name)))
    }

    /// Writes a file that was read before.
    pub fn read(&mut self, fd: BorrowedFd, stat: &FileStat, name: &[u8], content: &[u8]) -> Result<()> {
        self.write(fd, stat, name, Some(content)).with_context(|| format!("archive {}", path::show(name)))
    }

    fn write(&mut self, fd: BorrowedFd, stat: &FileStat, name: &[u8], content: Option<&[u8]>) -> Result<()> {
        let (kind, content) = match kind(stat) {
            Some(kind) => (kind, content),
            None if self.sockets => (Kind::File, Some(&[][..])),
            None => return Ok(()),
        };
        let mut entry = Entry {
            path: name.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            ..Entry::default()
        };
        if let Some(seconds) = self.time {
            entry.mtime = Time { seconds, nanos: 0 };
        }
        if let Some(ids) = &self.ids {
            entry.uid = inside(&ids.uids, entry.uid).unwrap_or(NOBODY);
            entry.gid = inside(&ids.gids, entry.gid).unwrap_or(NOBODY);
        }
        if kind == Kind::Dir && !entry.path.ends_with(b"/") {
            entry.path.push(b'/');
        }
        if kind != Kind::Dir && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                (entry.kind, entry.link) = (Kind::Link, first.clone());
                return self.head(&entry);
            }
            self.links.insert((stat.st_dev, stat.st_ino), name.to_vec());
        }
        match kind {
            Kind::Symlink => {
                let target = nix::fcntl::readlinkat(fd, "").context("read it")?;
                entry.link = std::os::unix::ffi::OsStringExt::into_vec(target);
            }
            Kind::Char | Kind::Block => {
                entry.device = (libc::major(stat.st_rdev).into(), libc::minor(stat.st_rdev).into());
            }
            _ => {}
        }
        entry.xattrs = xattr::list(fd)?;
        entry.xattrs.retain(|(name, _)| travels(name.to_bytes()));
        match (kind, content) {
            (Kind::File, Some(content)) => {
                self.begin(&mut entry, content.len() as u64, None)?;
                self.out.write_all(content)?;
                self.pad(entry.size)
            }
            (Kind::File, None) => self.file(fd, &mut entry),
            _ => self.head(&entry),
        }
    }

    /// Writes the head of a file, and where its content lies. Gives the parts of it.
    fn begin(&mut self, entry: &mut Entry, size: u64, sparse: Option<Vec<(u64, u64)>>) -> Result<Vec<(u64, u64)>> {
        let parts = sparse.clone().unwrap_or_else(|| vec![(0, size)]);
        entry.size = parts.iter().map(|(_, length)| length).sum();
        entry.sparse = sparse.map(|parts| Sparse { size, parts, ..Sparse::default() });
        self.head(entry)?;
        self.content += size;
        if let Some(recipe) = &mut self.recipe {
            let (dir, name) = path::split(&entry.path);
            recipe.file(dir, name)?;
            for (offset, length) in parts.iter().filter(|(_, length)| *length > 0) {
                recipe.part(*offset, *length)?;
            }
        }
        Ok(parts)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let mut padding = Vec::new();
        write::pad(&mut padding, size)?;
        self.plain(&padding)
    }

    fn file(&mut self, fd: BorrowedFd, entry: &mut Entry) -> Result<()> {
        // By descriptor: a name could be that of a FIFO by now.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(nix::fcntl::open(path::of_fd(fd).as_c_str(), flags, Mode::empty()).context("open it")?);
        let stat = fstat(&file).context("look at it")?;
        let size = stat.st_size.max(0) as u64;
        let sparse = if stat.st_blocks.max(0) as u64 * 512 + HOLES <= size { parts(&file, size)? } else { None };
        let parts = self.begin(entry, size, sparse)?;
        for (offset, length) in parts {
            self.part(&file, offset, length)?;
        }
        self.pad(entry.size)
    }

    fn part(&mut self, file: &File, mut offset: u64, mut left: u64) -> Result<()> {
        while left > 0 {
            let most = left.min(self.buffer.len() as u64) as usize;
            let mut n = file.read_at(&mut self.buffer[..most], offset).context("read it")?;
            if n == 0 {
                // It has shrunk, but its size is written already.
                self.buffer[..most].fill(0);
                n = most;
            }
            self.out.write_all(&self.buffer[..n])?;
            offset += n as u64;
            left -= n as u64;
        }
        Ok(())
    }

    /// A whiteout, or another entry that stands for no file.
    pub fn mark(&mut self, name: &[u8]) -> Result<()> {
        self.head(&Entry { path: name.to_vec(), ..Entry::default() })
    }

    /// A file whose content is at hand, and that is nobody's in particular.
    pub fn bytes(&mut self, name: &[u8], content: &[u8]) -> Result<()> {
        let entry = Entry { path: name.to_vec(), mode: 0o644, size: content.len() as u64, ..Entry::default() };
        self.head(&entry)?;
        self.plain(content)?;
        self.pad(entry.size)
    }

    pub fn end(mut self) -> Result<()> {
        let mut bytes = Vec::new();
        write::end(&mut bytes).context("end the archive")?;
        self.plain(&bytes).context("end the archive")?;
        self.out.flush().context("end the archive")
    }
}

/// What of an entry goes into the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    /// A directory, but nothing that is in it.
    Itself,
    All,
}

/// Decides on an entry below the top.
pub type Keep<'a> = dyn FnMut(&[u8], BorrowedFd, &FileStat) -> Result<Kept> + 'a;

/// A name below another one, which may be empty or end in a slash.
pub fn below(name: &[u8], path: &[u8]) -> Vec<u8> {
    let slash = if name.is_empty() || name.ends_with(b"/") { &b""[..] } else { b"/" };
    [name, slash, path].concat()
}

/// What it is in a tar; a socket is nothing.
fn kind(stat: &FileStat) -> Option<Kind> {
    if is_file(stat) {
        return Some(Kind::File);
    }
    Some(match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Kind::Dir,
        SFlag::S_IFLNK => Kind::Symlink,
        SFlag::S_IFCHR => Kind::Char,
        SFlag::S_IFBLK => Kind::Block,
        SFlag::S_IFIFO => Kind::Fifo,
        _ => return None,
    })
}

/// Labels that this host's security modules gave a file mean nothing elsewhere.
fn travels(name: &[u8]) -> bool {
    !name.starts_with(b"security.") || name == b"security.capability"
}

/// Where a file has data; `None` where its file system does not tell, or where there are too many parts.
fn parts(file: &File, size: u64) -> Result<Option<Vec<(u64, u64)>>> {
    let end = i64::try_from(size).context("its size is too large")?;
    let mut parts = Vec::new();
    let mut position = 0;
    while position < end {
        let start = match lseek(file, position, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => return Ok(None),
            Err(error) => return Err(error).context("find its data"),
        };
        let stop = lseek(file, start, Whence::SeekHole).map_or(end, |stop| stop.min(end));
        if start >= end {
            break;
        }
        if stop <= start {
            bail!("its holes cannot be told");
        }
        parts.push((start as u64, (stop - start) as u64));
        position = stop;
        if parts.len() > PARTS {
            return Ok(None);
        }
    }
    Ok(Some(parts))
}
