//! Unpacks a tar into a tree that is in use and that somebody else may change meanwhile: every path is resolved by the
//! kernel inside a root, what is made is made anew under its name, and nothing that lies there is opened.

use super::header::{Entry, Kind};
use super::objects::{self, Maker};
use super::stat::is_dir;
use super::stream::Stream;
use super::unpack::climbs_out;
use super::{path, remove, sandbox, xattr};
use crate::oci::runtime::{Ids, outside};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, ftruncate, linkat, symlinkat, unlinkat};
use std::ffi::CString;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Whom what is unpacked belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whom the tar says.
    AsTold,
    /// These two ids.
    All(u32, u32),
    /// Whoever runs this. Then nothing that would lend somebody else's rights is taken from the tar either: set-id
    /// bits, file capabilities, devices.
    Us,
}

/// Where to.
pub struct Target<'a> {
    /// Absolute links lead from here, and nothing leads out.
    pub root: BorrowedFd<'a>,
    /// The directory below the root that entries are named from, as a path or empty.
    pub dir: &'a [u8],
    pub owner: Owner,
    /// Whether a directory may take the place of something else, and the other way round.
    pub replace: bool,
    /// A first component, and what takes its place.
    pub rename: Option<(Vec<u8>, Vec<u8>)>,
    /// The tree is seen from outside of a user namespace with this map.
    pub ids: Option<&'a Ids>,
}

/// Unpacks `tar` (uncompressed, read to its end). Gives the number of devices that were left out.
pub fn extract(tar: &mut (dyn BufRead + Send), target: &Target) -> Result<u64> {
    let maker = Maker::this_process();
    sandbox::beneath(target.root, || extract_here(tar, target, maker))
}

fn extract_here(tar: &mut (dyn BufRead + Send), target: &Target, maker: Maker) -> Result<u64> {
    let mut extract =
        Extract { target, stream: Stream::new(tar, None), maker, parent: None, directories: Vec::new(), left_out: 0 };
    let mut entry = Entry::default();
    let mut all = || -> Result<()> {
        while extract.stream.next(&mut entry)? {
            extract.entry(&mut entry).with_context(|| format!("unpack {}", path::show(&entry.path)))?;
        }
        Ok(())
    };
    let unpacked = all();
    // Also after an error: what is there already is to look as it should.
    let set = extract.set_directories();
    unpacked.and(set)?;
    extract.stream.finish()?;
    Ok(extract.left_out)
}

struct Extract<'a> {
    target: &'a Target<'a>,
    stream: Stream<'a>,
    maker: Maker,
    /// The directory of the last entry: as the tar spells it, and open.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Their attributes wait until all is in them.
    directories: Vec<Entry>,
    left_out: u64,
}

impl Extract<'_> {
    fn entry(&mut self, entry: &mut Entry) -> Result<()> {
        if climbs_out(&entry.path) {
            bail!("its path leads out of the directory");
        }
        let mut path = std::mem::take(&mut entry.path);
        if let Some((from, to)) = &self.target.rename {
            path = renamed(&path, from, to);
            if entry.kind == Kind::Link {
                entry.link = renamed(&entry.link, from, to);
            }
        }
        let (dir, name) = path::split(&path);
        let done = match name {
            // The directory itself, which is there and stays as it is.
            b"" | b"." => self.skip(entry),
            b".." => Err(anyhow::anyhow!("it has no name")),
            _ => self.named(dir, name, &path, entry),
        };
        entry.path = path;
        done
    }

    fn skip(&mut self, entry: &Entry) -> Result<()> {
        self.stream.skip(entry.size)?;
        self.stream.pad(entry.size)
    }

    fn named(&mut self, dir: &[u8], name: &[u8], path: &[u8], entry: &mut Entry) -> Result<()> {
        if entry.kind == Kind::Note {
            return self.skip(entry);
        }
        entry.xattrs.retain(|(name, _)| !xattr::is_overlays(name));
        match self.target.owner {
            Owner::AsTold => {}
            Owner::All(uid, gid) => (entry.uid, entry.gid) = (uid, gid),
            Owner::Us => {
                let us = (nix::unistd::geteuid(), nix::unistd::getegid());
                (entry.uid, entry.gid) = (us.0.as_raw(), us.1.as_raw());
                entry.mode &= !0o6000;
                entry.xattrs.retain(|(name, _)| name.to_bytes().starts_with(b"user."));
                if matches!(entry.kind, Kind::Char | Kind::Block) {
                    self.left_out += 1;
                    return self.skip(entry);
                }
            }
        }
        if let Some(ids) = self.target.ids {
            let no_such = |id: u32| format!("Container ID {id} cannot be mapped to a host ID");
            entry.uid = outside(&ids.uids, entry.uid).with_context(|| no_such(entry.uid))?;
            entry.gid = outside(&ids.gids, entry.gid).with_context(|| no_such(entry.gid))?;
        }
        let parent = self.enter(dir)?;
        match fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => {
                let (is, becomes) = (is_dir(&there), entry.kind == Kind::Dir);
                if !self.target.replace && is && !becomes {
                    bail!("cannot overwrite directory {:?} with non-directory", self.shown(path));
                }
                if !self.target.replace && !is && becomes {
                    bail!("cannot overwrite non-directory {:?} with directory", self.shown(path));
                }
                if !(is && becomes) {
                    // A directory that was opened may be below what goes.
                    self.parent = None;
                    remove::entry(parent.as_fd(), &CString::new(name)?).context("replace what is there")?;
                }
            }
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error).context("look at what is there"),
        }
        match entry.kind {
            Kind::File => return self.file(&parent, name, entry),
            Kind::Dir => self.dir(&parent, name, path, entry)?,
            Kind::Symlink => {
                let target = CString::new(&entry.link[..]).context("its target has a NUL")?;
                symlinkat(target.as_c_str(), &parent, name).context("make it")?;
                objects::attributes(parent.as_fd(), name, entry, &self.maker)?;
            }
            Kind::Link => self.link(&parent, name, &entry.link)?,
            _ => {
                let (kind, device) = objects::device(entry)?;
                let mode = Mode::from_bits_truncate(entry.mode & 0o777);
                match mknodat(&parent, name, kind, mode, device).map_err(anyhow::Error::from) {
                    Err(error) if objects::is_forbidden(&error, kind) => {
                        self.left_out += 1;
                        return self.skip(entry);
                    }
                    other => other.context("make it")?,
                }
                objects::attributes(parent.as_fd(), name, entry, &self.maker)?;
            }
        }
        self.skip(entry)
    }

    /// A path of the tar, from the root.
    fn at(&self, path: &[u8]) -> Vec<u8> {
        path::join(path::trim_slashes(self.target.dir), path::trim_slashes(path))
    }

    fn shown(&self, path: &[u8]) -> String {
        format!("/{}", String::from_utf8_lossy(&self.at(path)))
    }

    /// Opens the directory of an entry, and makes what is missing of it.
    fn enter(&mut self, dir: &[u8]) -> Result<OwnedFd> {
        if let Some((known, fd)) = &self.parent
            && known == dir
        {
            return fd.try_clone().context("open its directory");
        }
        let at = self.at(dir);
        let fd = match path::open_dir(self.target.root, &at, path::IN_ROOT) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                path::make_dirs(self.target.root, &at, path::IN_ROOT, |_, _| Ok(()))?
            }
            other => other.with_context(|| format!("open {}", path::show(&at)))?,
        };
        self.parent = Some((dir.to_vec(), fd.try_clone().context("open its directory")?));
        Ok(fd)
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(entry.mode & 0o777);
        let file = File::from(openat(parent, name, flags, mode).context("create it")?);
        let filled = self.fill(&file, entry);
        if filled.is_err() {
            // Half a file is worse than none.
            let _ = unlinkat(parent, name, UnlinkatFlags::NoRemoveDir);
        }
        filled
    }

    fn fill(&mut self, file: &File, entry: &Entry) -> Result<()> {
        let whole = [(0, entry.size)];
        let (parts, size) = match &entry.sparse {
            Some(sparse) => (&sparse.parts[..], sparse.size),
            None => (&whole[..], entry.size),
        };
        for &(mut offset, mut left) in parts {
            while left > 0 {
                let data = self.stream.data(left)?;
                file.write_all_at(data, offset).context("write it")?;
                let n = data.len();
                self.stream.consume(n);
                offset += n as u64;
                left -= n as u64;
            }
        }
        if entry.sparse.is_some() {
            ftruncate(file, size as i64).with_context(|| format!("extend it to {size} bytes"))?;
        }
        self.stream.pad(entry.size)?;
        objects::file_attributes(file, entry, &self.maker)
    }

    fn dir(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], entry: &Entry) -> Result<()> {
        match mkdirat(parent, name, Mode::from_bits_truncate(entry.mode & 0o700 | 0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error).context("make it"),
        }
        let xattrs = entry.xattrs.clone();
        self.directories.push(Entry { path: path.to_vec(), link: Vec::new(), sparse: None, xattrs, ..*entry });
        Ok(())
    }

    /// The target is named from where the tar is unpacked, as entries are.
    fn link(&self, parent: &OwnedFd, name: &[u8], target: &[u8]) -> Result<()> {
        if climbs_out(target) {
            bail!("it is a hard link to {}, which leads out of the directory", path::show(target));
        }
        let (dir, leaf) = path::split(target);
        let linking = || format!("link it to {}", path::show(target));
        let from = path::open_dir(self.target.root, &self.at(dir), path::IN_ROOT).with_context(linking)?;
        linkat(&from, leaf, parent, name, AtFlags::empty()).with_context(linking)
    }

    /// The deepest last, so that a directory without permissions shuts nobody out of what is in it.
    fn set_directories(&mut self) -> Result<()> {
        while let Some(entry) = self.directories.pop() {
            let setting = || format!("unpack {}", path::show(&entry.path));
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            match path::open(self.target.root, &self.at(&entry.path), flags, 0, path::IN_ROOT) {
                Ok(dir) => objects::directory_attributes(&dir, &entry).with_context(setting)?,
                // A later entry, or somebody else, replaced it.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {}
                Err(error) => return Err(error).with_context(setting),
            }
        }
        Ok(())
    }
}

/// A path whose first component is another one. Below the root, `/`, all components are kept.
fn renamed(path: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    if from == b"/" {
        return [to, path].concat();
    }
    match path.strip_prefix(from) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => [to, rest].concat(),
        _ => path.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::pack::{Kept, Packer};
    use crate::fs::unpack::tests::{Scratch, Tar, able};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn unpack(tar: Tar, root: &OwnedFd, dir: &str, owner: Owner, replace: bool) -> Result<u64> {
        let target = Target { root: root.as_fd(), dir: dir.as_bytes(), owner, replace, rename: None, ids: None };
        extract(&mut &tar.end()[..], &target)
    }

    #[test]
    fn links_lead_inside_only_and_what_is_there_is_replaced() {
        let scratch = Scratch::new();
        let (root, outside) = (scratch.0.join("root"), scratch.0.join("outside"));
        std::fs::create_dir_all(root.join("in/old")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "theirs").unwrap();
        symlink("/in", root.join("absolute")).unwrap();
        symlink(&outside, root.join("in/out")).unwrap();
        symlink(outside.join("file"), root.join("in/name")).unwrap();
        let fd = path::open_root(&root).unwrap();
        let us = Owner::Us;
        unpack(Tar::default().file("a/b", "1").file("name", "2").file("f", "3"), &fd, "absolute", us, false).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("in/a/b")).unwrap(), "1");
        assert_eq!(std::fs::read_to_string(root.join("in/name")).unwrap(), "2");
        assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "theirs");
        // A link of the tar's own, and one of the tree's: both lead nowhere outside.
        let error = unpack(Tar::default().file("out/file", "x"), &fd, "in", us, false).unwrap_err();
        assert!(format!("{error:#}").contains("a symbolic link to nothing"), "{error:#}");
        let tar = Tar::default().symlink("way", outside.to_str().unwrap()).file("way/file", "x");
        assert!(unpack(tar, &fd, "in", us, false).is_err());
        assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "theirs");
        let error = unpack(Tar::default().file("../../x", "x"), &fd, "in", us, false).unwrap_err();
        assert!(format!("{error:#}").contains("leads out of the directory"), "{error:#}");
        let error = unpack(Tar::default().file("old", "x"), &fd, "in", us, false).unwrap_err();
        assert_eq!(format!("{error:#}"), "unpack old: cannot overwrite directory \"/in/old\" with non-directory");
        let error = unpack(Tar::default().dir("name"), &fd, "in", us, false).unwrap_err();
        assert!(format!("{error:#}").contains("cannot overwrite non-directory \"/in/name\" with directory"));
        unpack(Tar::default().file("old", "x").dir("name"), &fd, "in", us, true).unwrap();
        assert!(root.join("in/old").is_file() && root.join("in/name").is_dir());
    }

    #[test]
    fn the_last_content_may_be_the_end() {
        let scratch = Scratch::new();
        let fd = path::open_root(&scratch.0).unwrap();
        let tar = Tar::default().file("a", "1").file("b", "22").end();
        let target = Target { root: fd.as_fd(), dir: b"", owner: Owner::Us, replace: true, rename: None, ids: None };
        for (length, whole) in [(514, true), (700, true), (512, false), (513, false)] {
            let read = extract(&mut &tar[1024..][..length], &target);
            assert_eq!(read.is_ok(), whole, "{length}: {read:?}");
            if whole {
                assert_eq!(std::fs::read_to_string(scratch.0.join("b")).unwrap(), "22");
            }
        }
    }

    #[test]
    fn what_was_packed_comes_back() {
        if !able() {
            return;
        }
        let scratch = Scratch::new();
        let (from, to) = (scratch.0.join("from"), scratch.0.join("to"));
        std::fs::create_dir_all(from.join("shut/in")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("shut/in/file"), "content").unwrap();
        std::fs::hard_link(from.join("shut/in/file"), from.join("twin")).unwrap();
        symlink("shut", from.join("link")).unwrap();
        std::fs::set_permissions(from.join("shut/in/file"), PermissionsExt::from_mode(0o4755)).unwrap();
        std::fs::set_permissions(from.join("shut"), PermissionsExt::from_mode(0o100)).unwrap();
        let holes = File::create(from.join("holes")).unwrap();
        holes.write_all_at(b"end", 1 << 32).unwrap();
        std::os::unix::fs::chown(from.join("holes"), Some(12), Some(34)).unwrap();
        mknodat(path::open_root(&from).unwrap(), "pipe", nix::sys::stat::SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
        let mut tar = Vec::new();
        let mut packer = Packer::new(&mut tar);
        packer.tree(path::open_root(&from).unwrap().as_fd(), b"x", &mut |_, _, _| Ok(Kept::All)).unwrap();
        packer.end().unwrap();
        assert!(tar.len() < 64 * 1024, "{}", tar.len());
        let root = path::open_root(&to).unwrap();
        for (owner, name) in [(Owner::AsTold, "told"), (Owner::Us, "us")] {
            let rename = Some((b"x".to_vec(), name.as_bytes().to_vec()));
            let target = Target { root: root.as_fd(), dir: b"", owner, replace: false, rename, ids: None };
            assert_eq!(extract(&mut &tar[..], &target).unwrap(), 0);
            let meta = |file: &str| std::fs::symlink_metadata(to.join(name).join(file)).unwrap();
            assert_eq!(meta("holes").len(), (1 << 32) + 3);
            assert!(meta("holes").blocks() < 100);
            assert_eq!(meta("holes").uid(), if owner == Owner::Us { 0 } else { 12 });
            assert_eq!(meta("twin").ino(), meta("shut/in/file").ino());
            assert_eq!(meta("twin").mode() & 0o7777, if owner == Owner::Us { 0o755 } else { 0o4755 });
            assert_eq!(meta("shut").mode() & 0o7777, 0o100);
            assert_eq!(meta("pipe").mode() & 0o170777, 0o010400);
            assert_eq!(std::fs::read_link(to.join(name).join("link")).unwrap().as_os_str(), "shut");
        }
    }

    #[test]
    fn first_components() {
        for (path, from, to, expected) in [
            ("a", "a", "b", "b"),
            ("a/x", "a", "b", "b/x"),
            ("ab/a", "a", "b", "ab/a"),
            ("./x", ".", "b", "b/x"),
            ("/x", "/", "b", "b/x"),
        ] {
            assert_eq!(renamed(path.as_bytes(), from.as_bytes(), to.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
