//! Unpacks the tar of a layer: one pass, everything verified later by its digest, nothing of it trusted.
//!
//! Every path is resolved inside the layer's root by the kernel. The directory of an entry is opened once and kept
//! while entries stay in it; an entry itself is made with O_EXCL, and only when something is in its way is that looked
//! at. What needs the layers below is listed in [`Unpacked`] and done by [`super::settle`].

use super::directories::Directories;
use super::header::{Entry, Kind};
use super::kept::Kept;
use super::objects::{self, Maker};
use super::stat::{is_dir, is_file, is_whiteout};
use super::stream::Stream;
use super::{path, recipe, sandbox, xattr};
use crate::oci::digest::Digest;
use crate::order;
use crate::sys::file;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, ftruncate, linkat, symlinkat, unlinkat};
use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names of aufs's own, which mean nothing to others.
const AUFS: &[u8] = b".wh..wh.";
/// Files of this size are handed to the disk when they close, so that the sync at the end has little to do.
const WRITEBACK: u64 = 256 * 1024;

/// What is listed for the layers below is held in memory: more of it (bytes of paths, and what each costs besides)
/// than any layer has is an attack, for a few bytes of a compressed tar can name very many.
const MAX_LISTED: usize = 128 << 20;
const LISTED: usize = 64;

/// What unpacking a tar gave, besides the files.
#[derive(Debug)]
pub struct Unpacked {
    /// The digest of the whole uncompressed stream.
    pub diff_id: Digest,
    /// Bytes of content of all regular files: what Docker counts as a layer's size.
    pub size: u64,
    /// The layer hides all layers below it: nothing of them is to be mounted.
    pub opaque: bool,
    /// Directories that the tar omits, from the root.
    pub(super) implied: Vec<Vec<u8>>,
    /// Hard links (path, target) whose target is not in the tar.
    pub(super) links: Vec<(Vec<u8>, Vec<u8>)>,
    /// What hides a name of the layers below.
    pub(super) whiteouts: Vec<Vec<u8>>,
    /// Directories that hide all below them.
    pub(super) opaques: Vec<Vec<u8>>,
}

/// Unpacks `tar` (uncompressed, read to its end) into the empty directory `staging`: `fs/`, `recipe`, and `kept/`
/// where the tar has files that later ones of it displace. On an error the caller removes `staging`.
pub fn unpack(tar: &mut (dyn BufRead + Send), staging: &Path) -> Result<Unpacked> {
    let place = path::open_root(staging)?;
    let layer = Layer::begin(tar, staging)?;
    sandbox::beneath(place.as_fd(), || layer.unpack())
}

struct Layer<'a> {
    stream: Stream<'a>,
    root: OwnedFd,
    parent: Parent,
    directories: Directories,
    maker: Maker,
    size: u64,
    kept: Kept,
    whiteouts: HashSet<Vec<u8>>,
    opaques: HashSet<Vec<u8>>,
    implied: Vec<Vec<u8>>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of all of these.
    listed: usize,
}

/// The directory of the current entry.
struct Parent {
    /// As the tar spells it.
    raw: Vec<u8>,
    /// Where it lies below the root: no links, no dots.
    path: Vec<u8>,
    fd: OwnedFd,
    /// The spelling has no links and no `..`, so that nothing in the directory is part of it.
    plain: bool,
    valid: bool,
}

/// What stood where an entry belongs.
#[derive(PartialEq)]
enum Cleared {
    Whiteout,
    Other,
}

impl<'a> Layer<'a> {
    /// Makes what it needs, before a byte of the tar is read.
    fn begin(tar: &'a mut (dyn BufRead + Send), staging: &Path) -> Result<Layer<'a>> {
        let making = || format!("make {}", staging.join("fs").display());
        std::fs::create_dir(staging.join("fs")).with_context(making)?;
        let root = path::open_root(&staging.join("fs"))?;
        fchmod(&root, Mode::from_bits_truncate(0o755)).with_context(making)?;
        Ok(Layer {
            parent: Parent {
                raw: Vec::new(),
                path: Vec::new(),
                fd: path::open_dir(root.as_fd(), b"", path::NO_LINKS).with_context(making)?,
                plain: true,
                valid: true,
            },
            root,
            stream: Stream::new(tar, Some(recipe::Writer::create(&staging.join("recipe"))?)),
            directories: Directories::create(staging)?,
            maker: Maker::this_process(),
            size: 0,
            kept: Kept::new(path::open_root(staging)?),
            whiteouts: HashSet::new(),
            opaques: HashSet::new(),
            implied: vec![Vec::new()],
            links: Vec::new(),
            listed: 0,
        })
    }

    fn unpack(mut self) -> Result<Unpacked> {
        let mut entry = Entry::default();
        while self.stream.next(&mut entry)? {
            self.entry(&entry).with_context(|| format!("unpack {}", path::show(&entry.path)))?;
        }
        let implied = self.directories.set(&self.root, self.implied)?;
        let diff_id = self.stream.finish()?;
        let sorted = |set: HashSet<Vec<u8>>| {
            let mut all: Vec<_> = set.into_iter().collect();
            order::sort(&mut all);
            all
        };
        Ok(Unpacked {
            diff_id,
            size: self.size,
            opaque: self.opaques.contains(&b""[..]),
            implied,
            links: self.links,
            whiteouts: sorted(self.whiteouts),
            opaques: sorted(self.opaques),
        })
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        if climbs_out(&entry.path) {
            bail!("its path leads out of the layer");
        }
        let (parent, name) = path::split(&entry.path);
        let aufs = |name: &[u8]| name.starts_with(AUFS) && name != OPAQUE;
        if aufs(name) || aufs(path::first(&entry.path)) {
            return self.skip(entry);
        }
        if matches!(name, b"" | b"." | b"..") {
            if entry.kind != Kind::Dir {
                bail!("it has no name");
            }
            self.enter(&entry.path)?;
            self.directories.add(&self.parent.path, entry)?;
            return self.skip(entry);
        }
        self.enter(parent)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            self.skip(entry)?;
            return if name == OPAQUE { self.opaque() } else { self.whiteout(hidden) };
        }
        for (attribute, _) in &entry.xattrs {
            if xattr::is_overlays(attribute) {
                bail!("it forges the overlay attribute {attribute:?}");
            }
        }
        match entry.kind {
            Kind::File => self.file(name, entry)?,
            Kind::Dir => self.dir(name, entry)?,
            Kind::Symlink => self.symlink(name, entry)?,
            Kind::Link => self.link(name, entry)?,
            Kind::Char | Kind::Block | Kind::Fifo => self.node(name, entry)?,
            Kind::Note => {}
        }
        if entry.kind == Kind::File { Ok(()) } else { self.skip(entry) }
    }

    fn skip(&mut self, entry: &Entry) -> Result<()> {
        self.stream.skip(entry.size)?;
        self.stream.pad(entry.size)
    }

    /// Makes `raw` the current parent directory, and makes it where the tar omits it.
    fn enter(&mut self, raw: &[u8]) -> Result<()> {
        if self.parent.valid && self.parent.raw == raw {
            return Ok(());
        }
        self.parent.valid = false;
        let relative = path::trim_slashes(raw);
        // Its names alone, as long as no link takes part: one that is missing has none.
        let mut names = Vec::with_capacity(relative.len());
        let mut dotted = false;
        for part in relative.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            dotted |= part == b"..";
            if !names.is_empty() {
                names.push(b'/');
            }
            names.extend_from_slice(part);
        }
        let root = self.root.as_fd();
        let mut made: Vec<Vec<u8>> = Vec::new();
        let (fd, plain) = match path::open_dir(root, &names, path::NO_LINKS) {
            Ok(fd) => (fd, !dotted),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !dotted => {
                let fd = path::make_dirs(root, &names, path::NO_LINKS, |so_far, _| {
                    made.push(so_far.to_vec());
                    Ok(())
                })?;
                (fd, true)
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP)) => {
                let fd = path::make_dirs(root, relative, path::IN_ROOT, |_, dir| {
                    made.extend(path::below(root, dir.as_fd())?);
                    Ok(())
                })?;
                (fd, false)
            }
            Err(error) => return Err(error).context("open its directory"),
        };
        self.list(made.iter().map(|path| path.len() + LISTED).sum())?;
        self.implied.append(&mut made);
        self.parent.plain = plain;
        self.parent.path = match plain {
            true => names,
            false => {
                let real = path::below(self.root.as_fd(), fd.as_fd())?;
                real.context("its directory was moved out of the layer")?
            }
        };
        self.parent.fd = fd;
        self.parent.raw.clear();
        self.parent.raw.extend_from_slice(raw);
        self.parent.valid = true;
        Ok(())
    }

    /// The path of a name in the current directory.
    fn at(&self, name: &[u8]) -> Vec<u8> {
        path::join(&self.parent.path, name)
    }

    fn file(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(entry.mode & 0o777);
        let file = match openat(&self.parent.fd, name, flags, mode) {
            Err(Errno::EEXIST) => {
                self.clear(name)?;
                openat(&self.parent.fd, name, flags, mode)
            }
            other => other,
        };
        let file = File::from(file.context("create it")?);
        if let Some(recipe) = self.stream.recipe() {
            recipe.file(&self.parent.path, name)?;
        }
        let whole = [(0, entry.size)];
        let (parts, size) = match &entry.sparse {
            Some(sparse) => (&sparse.parts[..], sparse.size),
            None => (&whole[..], entry.size),
        };
        for &(offset, length) in parts {
            if length > 0 {
                if let Some(recipe) = self.stream.recipe() {
                    recipe.part(offset, length)?;
                }
                self.content(&file, offset, length)?;
            }
        }
        if entry.sparse.is_some() {
            ftruncate(&file, size as i64).with_context(|| format!("extend it to {size} bytes"))?;
        }
        self.stream.pad(entry.size)?;
        self.size = self.size.saturating_add(size);

        objects::file_attributes(&file, entry, &self.maker)?;
        if size >= WRITEBACK {
            // Only a head start: what matters is the sync before the commit.
            let _ = file::start_writeback(file.as_fd(), 0, 0);
        }
        Ok(())
    }

    fn content(&mut self, file: &File, mut offset: u64, mut left: u64) -> Result<()> {
        while left > 0 {
            let data = self.stream.data(left)?;
            file.write_all_at(data, offset).context("write it")?;
            let n = data.len();
            self.stream.consume(n);
            offset += n as u64;
            left -= n as u64;
        }
        Ok(())
    }

    fn dir(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let mode = Mode::from_bits_truncate(0o755);
        let mut hides = false;
        match mkdirat(&self.parent.fd, name, mode) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                if !is_dir(&self.stat(name)?) {
                    hides = self.clear(name)? == Cleared::Whiteout;
                    mkdirat(&self.parent.fd, name, mode).context("make it")?;
                }
            }
            Err(error) => return Err(error).context("make it"),
        }
        let path = self.at(name);
        if hides {
            self.set_opaque(path.clone())?;
        }
        self.directories.add(&path, entry)
    }

    fn symlink(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let target = CString::new(&entry.link[..]).context("its target has a NUL")?;
        self.retry(name, |parent| symlinkat(target.as_c_str(), parent, name)).context("make it")?;
        self.attributes(name, entry)
    }

    fn node(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let (kind, device) = objects::device(entry)?;
        let mode = Mode::from_bits_truncate(entry.mode & 0o777);
        match self.retry(name, |parent| mknodat(parent, name, kind, mode, device)) {
            // Nobody makes devices in a user namespace; containers have none of an image's there.
            Err(error) if objects::is_forbidden(&error, kind) => return Ok(()),
            other => other.context("make it")?,
        }
        self.attributes(name, entry)
    }

    fn link(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        if climbs_out(&entry.link) {
            bail!("it is a hard link to {}, which leads out of the layer", path::show(&entry.link));
        }
        let (dir, leaf) = path::split(&entry.link);
        if matches!(leaf, b"" | b"." | b"..") {
            bail!("it is a hard link to {}, which is no file", path::show(&entry.link));
        }
        let from = match path::open_dir(self.root.as_fd(), dir, path::IN_ROOT) {
            Ok(from) => from,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return self.link_below(name, entry),
            Err(error) => return Err(error).with_context(|| format!("open {}", path::show(dir))),
        };
        let target = match fstatat(&from, leaf, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(target) if !is_whiteout(&target) => target,
            Ok(_) | Err(Errno::ENOENT) => return self.link_below(name, entry),
            Err(error) => return Err(error).with_context(|| format!("look at {}", path::show(&entry.link))),
        };
        if is_dir(&target) {
            bail!("it is a hard link to {}, which is a directory", path::show(&entry.link));
        }
        if let Ok(here) = self.stat(name)
            && (here.st_dev, here.st_ino) == (target.st_dev, target.st_ino)
        {
            return Ok(());
        }
        self.retry(name, |parent| linkat(&from, leaf, parent, name, AtFlags::empty()))
            .with_context(|| format!("link it to {}", path::show(&entry.link)))?;
        if is_file(&target)
            && let Some(recipe) = self.stream.recipe()
        {
            recipe.link(&self.parent.path, name)?;
        }
        Ok(())
    }

    /// The target is not in this tar, or not yet: settled when the layers below are there.
    fn link_below(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        if self.stat(name).is_ok() {
            self.clear(name)?;
        }
        let path = self.at(name);
        self.list(path.len() + entry.link.len() + LISTED)?;
        self.links.push((path, entry.link.clone()));
        Ok(())
    }

    /// Counts what is about to be listed.
    fn list(&mut self, bytes: usize) -> Result<()> {
        self.listed += bytes;
        if self.listed > MAX_LISTED {
            bail!("the layer asks too much of the layers below it");
        }
        Ok(())
    }

    /// Makes something, after clearing what is in its way.
    fn retry(&mut self, name: &[u8], make: impl Fn(&OwnedFd) -> nix::Result<()>) -> Result<()> {
        match make(&self.parent.fd) {
            Err(Errno::EEXIST) => {
                self.clear(name)?;
                Ok(make(&self.parent.fd)?)
            }
            other => Ok(other?),
        }
    }

    fn attributes(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        objects::attributes(self.parent.fd.as_fd(), name, entry, &self.maker)
    }

    /// `.wh.x`: hides `x` of the layers below. What this tar itself has of that name stays, whatever the order.
    fn whiteout(&mut self, hidden: &[u8]) -> Result<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            bail!("it is a whiteout of nothing that could be there");
        }
        let path = self.at(hidden);
        match mknodat(&self.parent.fd, hidden, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                if is_dir(&self.stat(hidden)?) {
                    self.set_opaque(path)?;
                }
                return Ok(());
            }
            // On a file system where overlay cannot work either: layers are copied there, and the list is what counts.
            Err(Errno::EPERM | Errno::EOPNOTSUPP) => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&self.parent.fd, hidden, flags, Mode::empty()).context("make a placeholder")?;
            }
            Err(error) => return Err(error).context("make the whiteout"),
        }
        self.list(path.len() + LISTED)?;
        self.whiteouts.insert(path);
        Ok(())
    }

    /// `.wh..wh..opq`: the directory hides all that the layers below have in it.
    fn opaque(&mut self) -> Result<()> {
        let path = self.parent.path.clone();
        self.set_opaque(path)
    }

    fn set_opaque(&mut self, path: Vec<u8>) -> Result<()> {
        let dir = path::open(self.root.as_fd(), &path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, path::NO_LINKS);
        let dir = dir.context("open a directory to make it opaque")?;
        match crate::sys::xattr::fsetxattr(dir.as_fd(), xattr::opaque(), b"y") {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
                return Err(error).context("make a directory opaque");
            }
            _ => {}
        }
        self.list(path.len() + LISTED)?;
        self.opaques.insert(path);
        Ok(())
    }

    fn stat(&self, name: &[u8]) -> Result<FileStat> {
        fstatat(&self.parent.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).context("look at what is there")
    }

    /// Takes away what stands where an entry of the same tar belongs.
    fn clear(&mut self, name: &[u8]) -> Result<Cleared> {
        let there = self.stat(name)?;
        let path = self.at(name);
        if self.whiteouts.remove(&path) {
            unlinkat(&self.parent.fd, name, UnlinkatFlags::NoRemoveDir).context("replace a whiteout")?;
            return Ok(Cleared::Whiteout);
        }
        self.parent.valid &= self.parent.plain;
        if is_dir(&there) {
            self.displace_dir(path)?;
        } else {
            self.kept.displace(&self.parent.fd, &self.parent.path, name, &there)?;
        }
        Ok(Cleared::Other)
    }

    /// Takes away a whole directory, and keeps the files that the recipe needs.
    fn displace_dir(&mut self, path: Vec<u8>) -> Result<()> {
        let mut left = vec![(path, false)];
        while let Some((dir, emptied)) = left.pop() {
            if emptied {
                let (parent, name) = path::split(&dir);
                let parent =
                    path::open_dir(self.root.as_fd(), parent, path::NO_LINKS).context("replace a directory")?;
                unlinkat(&parent, name, UnlinkatFlags::RemoveDir).context("replace a directory")?;
                self.opaques.remove(&dir);
                continue;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let fd = path::open(self.root.as_fd(), &dir, flags, 0, path::NO_LINKS).context("replace a directory")?;
            let mut below = Vec::new();
            for name in super::remove::names(fd.try_clone().context("replace a directory")?)? {
                let name = name.to_bytes();
                let there = fstatat(&fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).context("replace a directory")?;
                let path = path::join(&dir, name);
                if is_dir(&there) {
                    below.push((path, false));
                } else if self.whiteouts.remove(&path) {
                    unlinkat(&fd, name, UnlinkatFlags::NoRemoveDir).context("replace a whiteout")?;
                } else {
                    self.kept.displace(&fd, &dir, name, &there)?;
                }
            }
            left.push((dir, true));
            left.append(&mut below);
        }
        Ok(())
    }
}

/// Whether a path has more `..` than names before them: Docker refuses such, where the kernel would stop at the root.
pub(super) fn climbs_out(path: &[u8]) -> bool {
    let mut depth = 0usize;
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
pub mod tests;
