//! Copies trees with everything that a file has: owner, mode, times, attributes, hard links, holes, devices.

use super::objects::owned;
use super::stat::{is_dir, is_file, is_whiteout};
use super::{path, remove, xattr};
use crate::sys::file;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchown, fchownat, ftruncate, linkat, lseek, symlinkat};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Copies what is in the directory `from`, and its attributes, to the directory `to`, which is there and empty.
/// Directories that are there already are merged; mounts below `from` are not entered.
pub fn tree(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    merge(from, to, &mut |_, _, _| Ok(Visit::Copy))
}

/// As [`tree`], but a file that can have one more name is not copied: both trees have it, and neither may be written to.
/// Paths that `skip` names are left out.
pub fn share(from: BorrowedFd, to: BorrowedFd, skip: &dyn Fn(&[u8]) -> bool) -> Result<()> {
    merge(from, to, &mut |path, _, _| Ok(if skip(path) { Visit::Skip } else { Visit::Share }))
}

/// What to do with an entry that a walk meets.
pub(super) enum Visit {
    Copy,
    /// Link it to the same file, or copy it where that cannot be.
    Share,
    Skip,
}

/// Decides on an entry: its path, what it is, and the directory that it is copied to.
pub(super) type Ask<'a> = dyn FnMut(&[u8], &FileStat, BorrowedFd) -> Result<Visit> + 'a;

/// As [`tree`], asking first about each entry.
pub(super) fn merge(from: BorrowedFd, to: BorrowedFd, visit: &mut Ask) -> Result<()> {
    let device = fstat(from).context("look at the source")?.st_dev;
    let mut links: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut left = vec![Vec::new()];
    // Attributes are set in the end, from the deepest: what is made in a directory changes its time.
    let mut directories = Vec::new();
    while let Some(dir) = left.pop() {
        let copying = || format!("copy {}", path::show(&dir));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let source = path::open(from, &dir, flags, 0, path::NO_LINKS).with_context(copying)?;
        let target = path::open(to, &dir, flags, 0, path::NO_LINKS).with_context(copying)?;
        for name in remove::names(source.try_clone().with_context(copying)?)? {
            let name = name.to_bytes();
            let path = path::join(&dir, name);
            let copying = || format!("copy {}", path::show(&path));
            let stat = match fstatat(&source, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                other => other.with_context(copying)?,
            };
            match visit(&path, &stat, target.as_fd()).with_context(copying)? {
                Visit::Skip => continue,
                // Another file system, or as many names as a file may have.
                Visit::Share if !is_dir(&stat) && linkat(&source, name, &target, name, AtFlags::empty()).is_ok() => {
                    continue;
                }
                Visit::Share | Visit::Copy => {}
            }
            if is_dir(&stat) {
                match mkdirat(&target, name, Mode::from_bits_truncate(0o700)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error).with_context(copying),
                }
                if stat.st_dev == device {
                    left.push(path);
                }
                continue;
            }
            if stat.st_nlink > 1 {
                if let Some(first) = links.get(&stat.st_ino) {
                    let (parent, leaf) = path::split(first);
                    let parent = path::open_dir(to, parent, path::NO_LINKS).with_context(copying)?;
                    linkat(&parent, leaf, &target, name, AtFlags::empty()).with_context(copying)?;
                    continue;
                }
                links.insert(stat.st_ino, path.clone());
            }
            object(source.as_fd(), &stat, target.as_fd(), name).with_context(copying)?;
        }
        directories.push(dir);
    }
    while let Some(dir) = directories.pop() {
        let copying = || format!("copy {}", path::show(&dir));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let source = path::open(from, &dir, flags, 0, path::NO_LINKS).with_context(copying)?;
        let target = path::open(to, &dir, flags, 0, path::NO_LINKS).with_context(copying)?;
        directory(source.as_fd(), target.as_fd()).with_context(copying)?;
    }
    Ok(())
}

/// Gives the directory `to` owner, mode, attributes and times of `from`.
pub fn directory(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    let stat = fstat(from).context("look at it")?;
    owned(fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))))?;
    fchmod(to, Mode::from_bits_truncate(stat.st_mode)).context("chmod it")?;
    for (name, value) in xattr::list(from)? {
        xattr::set(to, &name, &value)?;
    }
    let (atime, mtime) = times(&stat);
    futimens(to, &atime, &mtime).context("set its times")
}

/// Copies one entry that is no directory to a name that is not there.
pub(super) fn object(source: BorrowedFd, stat: &FileStat, target: BorrowedFd, name: &[u8]) -> Result<()> {
    let (atime, mtime) = times(stat);
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    if is_file(stat) {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let from =
            openat(source, name, flags | OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).context("open it")?;
        let create = flags | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let to = openat(target, name, create, Mode::from_bits_truncate(0o600)).context("create it")?;
        content(&from, &to, stat.st_size)?;
        owned(fchown(&to, Some(uid), Some(gid)))?;
        fchmod(&to, mode).context("chmod it")?;
        for (name, value) in xattr::list(from.as_fd())? {
            xattr::set(to.as_fd(), &name, &value)?;
        }
        return futimens(&to, &atime, &mtime).context("set its times");
    }
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFLNK {
        let link = readlinkat(source, name).context("read it")?;
        symlinkat(link.as_bytes(), target, name).context("make it")?;
    } else {
        mknodat(target, name, kind, mode, stat.st_rdev).context("make it")?;
    }
    if is_whiteout(stat) {
        return Ok(());
    }
    owned(fchownat(target, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW))?;
    if kind != SFlag::S_IFLNK {
        fchmodat(target, name, mode, FchmodatFlags::FollowSymlink).context("chmod it")?;
    }
    let open = |dir| openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    let from: OwnedFd = open(source).context("open it")?;
    let attributes = xattr::list(from.as_fd())?;
    if !attributes.is_empty() {
        let to = open(target).context("open it")?;
        for (name, value) in attributes {
            xattr::set(to.as_fd(), &name, &value)?;
        }
    }
    utimensat(target, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink).context("set its times")
}

/// Copies a file's content: by sharing its blocks, else in the kernel, else through memory; holes stay holes.
pub fn content(from: &OwnedFd, to: &OwnedFd, size: i64) -> Result<()> {
    if size == 0 || file::reflink(from.as_fd(), to.as_fd()).is_ok() {
        return Ok(());
    }
    let mut position = 0;
    while position < size {
        let start = match lseek(from, position, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => break,
            // A file system that knows no holes.
            Err(Errno::EINVAL) => position,
            Err(error) => return Err(error).context("find its data"),
        };
        let end = match lseek(from, start, Whence::SeekHole) {
            Ok(end) => end.min(size),
            Err(_) => size,
        };
        range(from, to, start, end)?;
        position = end;
    }
    ftruncate(to, size).context("extend it")
}

fn range(from: &OwnedFd, to: &OwnedFd, mut start: i64, end: i64) -> Result<()> {
    while start < end {
        let length = usize::try_from(end - start).unwrap_or(usize::MAX).min(1 << 30);
        match file::copy_range(from.as_fd(), to.as_fd(), start, length) {
            Ok(0) => return Ok(()),
            Ok(n) => start += n as i64,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EXDEV | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS | libc::EPERM) => {
                    return by_hand(from, to, start, end);
                }
                _ => return Err(error).context("copy its content"),
            },
        }
    }
    Ok(())
}

fn by_hand(from: &OwnedFd, to: &OwnedFd, start: i64, end: i64) -> Result<()> {
    lseek(from, start, Whence::SeekSet).context("copy its content")?;
    lseek(to, start, Whence::SeekSet).context("copy its content")?;
    let mut from = File::from(from.try_clone().context("copy its content")?).take((end - start) as u64);
    let mut to = File::from(to.try_clone().context("copy its content")?);
    std::io::copy(&mut from, &mut to).context("copy its content")?;
    to.flush().context("copy its content")
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    #[test]
    fn files_are_shared_and_directories_are_not() {
        if !crate::fs::unpack::tests::able() {
            return;
        }
        let scratch = crate::fs::unpack::tests::Scratch::new();
        let (from, to) = (scratch.0.join("from"), scratch.0.join("to"));
        std::fs::create_dir_all(from.join("dir")).unwrap();
        std::fs::create_dir(&to).unwrap();
        for name in ["dir/file", "dir/skipped", "skipped"] {
            std::fs::write(from.join(name), "x").unwrap();
        }
        symlink("/etc/passwd", from.join("dir/link")).unwrap();
        let dir = File::open(from.join("dir")).unwrap();
        fchmod(&dir, Mode::from_bits_truncate(0o1770)).unwrap();
        futimens(&dir, &TimeSpec::new(5, 6), &TimeSpec::new(7, 9)).unwrap();
        let [source, target] = [&from, &to].map(|path| path::open_root(path).unwrap());
        share(source.as_fd(), target.as_fd(), &|path| path == b"skipped").unwrap();
        let ino = |at: &std::path::Path| std::fs::symlink_metadata(at).unwrap().ino();
        for (name, same) in [("dir", false), ("dir/file", true), ("dir/link", true), ("dir/skipped", true)] {
            assert_eq!(ino(&from.join(name)) == ino(&to.join(name)), same, "{name}");
        }
        assert!(!to.join("skipped").exists());
        let dir = std::fs::metadata(to.join("dir")).unwrap();
        assert_eq!((dir.mtime(), dir.mtime_nsec(), dir.mode() & 0o7777), (7, 9, 0o1770));
    }

    #[test]
    fn everything_that_a_file_has_is_copied() {
        if !crate::fs::unpack::tests::able() {
            return;
        }
        let scratch = crate::fs::unpack::tests::Scratch::new();
        let top = &scratch.0;
        let (from, to) = (top.join("from"), top.join("to"));
        std::fs::create_dir_all(from.join("dir")).unwrap();
        std::fs::create_dir(&to).unwrap();
        let sparse = File::create(from.join("dir/sparse")).unwrap();
        sparse.write_all_at(b"end", 5_000_000).unwrap();
        std::fs::hard_link(from.join("dir/sparse"), from.join("twin")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let source = path::open_root(&from).unwrap();
        mknodat(&source, "pipe", SFlag::S_IFIFO, Mode::from_bits_truncate(0o640), 0).unwrap();
        let file = File::create(from.join("owned")).unwrap();
        fchown(&file, Some(Uid::from_raw(1234)), Some(Gid::from_raw(4321))).unwrap();
        fchmod(&file, Mode::from_bits_truncate(0o4711)).unwrap();
        xattr::set(file.as_fd(), c"user.x", b"y").unwrap();
        futimens(&file, &TimeSpec::new(5, 6), &TimeSpec::new(-7, 8)).unwrap();
        let dir = File::open(from.join("dir")).unwrap();
        futimens(&dir, &TimeSpec::new(5, 6), &TimeSpec::new(7, 9)).unwrap();
        fchmod(&dir, Mode::from_bits_truncate(0o1770)).unwrap();

        tree(source.as_fd(), path::open_root(&to).unwrap().as_fd()).unwrap();

        let meta = |name: &str| std::fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!(meta("dir/sparse").len(), 5_000_003);
        assert!(meta("dir/sparse").blocks() < 100, "{}", meta("dir/sparse").blocks());
        assert_eq!(meta("twin").ino(), meta("dir/sparse").ino());
        assert_eq!(std::fs::read_link(to.join("link")).unwrap().as_os_str(), "/etc/passwd");
        assert_eq!(meta("pipe").mode() & 0o170777, 0o010640);
        let owned = meta("owned");
        assert_eq!((owned.uid(), owned.gid(), owned.permissions().mode() & 0o7777), (1234, 4321, 0o4711));
        assert_eq!((owned.mtime(), owned.mtime_nsec()), (-7, 8));
        let fd = File::open(to.join("owned")).unwrap();
        assert_eq!(xattr::list(fd.as_fd()).unwrap(), [(c"user.x".to_owned(), b"y".to_vec())]);
        let dir = meta("dir");
        assert_eq!((dir.mtime(), dir.mtime_nsec(), dir.mode() & 0o7777), (7, 9, 0o1770));
    }
}
