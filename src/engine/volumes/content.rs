//! What is in a volume: filled from the image where it is new, measured where it is pruned.

use super::super::record::Mounted;
use super::super::store::{self, Lease, Store};
use super::{data, enter, leave, load, references};
use crate::fs::path::{self, IN_ROOT};
use crate::fs::{copy, remove};
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Fills an empty volume with what the image has in its place, owner and mode of the directory included. `image` is
/// the image's merged root; `lease` is the one that the volume was taken with.
///
/// Nothing happens where the volume holds something already, where the image has no such directory, and where the
/// mount asks for no copy. Of a volume of which a part is asked for, that part is meant, if it is there.
pub fn copy_up(store: &Store, lease: &Lease, image: BorrowedFd, mounted: &Mounted, durable: bool) -> Result<()> {
    let point = &mounted.point;
    if point.r#type != "volume" || mounted.no_copy {
        return Ok(());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let source = match path::open(image, point.destination.as_bytes(), flags, 0, IN_ROOT) {
        Ok(source) => source,
        // No such directory in the image: that is a volume to be found empty.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("open {} of the image", point.destination)),
    };
    let filling = || format!("fill volume {} from {} of the image", point.name, point.destination);
    let target = data(store, &point.name);
    if !mounted.subpath.is_empty() {
        return copy_part(source.as_fd(), &target, &mounted.subpath).with_context(filling);
    }
    let has_device = load(store, &point.name)?.and_then(|volume| volume.options).is_some();
    if has_device {
        // What it stands for shows only while it is mounted.
        enter(store, &point.name)?;
        let filled = if is_empty(&target)? { copy_into(source.as_fd(), &target).with_context(filling) } else { Ok(()) };
        return filled.and(leave(store, &point.name, ""));
    }
    if !is_empty(&target)? || is_plain(source.as_fd()).with_context(filling)? {
        return Ok(());
    }
    let copied = lease.tmp()?.join(format!("content-{}", point.name));
    DirBuilder::new().mode(0o755).create(&copied).with_context(filling)?;
    copy_into(source.as_fd(), &copied).with_context(filling)?;
    if durable {
        store::syncfs(&copied)?;
    }
    crate::failpoint::reach("volume.copied");
    put(store, &point.name, &copied, &target).with_context(filling)?;
    if durable {
        fs::File::open(target.parent().unwrap_or(&target)).and_then(|dir| dir.sync_all()).with_context(filling)?;
    }
    remove::tree(&copied)
}

/// Puts the copy in the place of the empty directory: at once where nobody else uses the volume, else entry by entry.
fn put(store: &Store, name: &str, copied: &Path, target: &Path) -> Result<()> {
    {
        let _gc = store.gc_exclusive()?;
        let word = format!("volume:{name}");
        let leases = store.leased()?.iter().filter(|used| **used == word).count();
        if leases <= 1 && !references(store)?.contains_key(name) {
            return match fs::rename(copied, target) {
                // Somebody was quicker; what is there stays.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => Ok(()),
                other => other.map_err(Into::into),
            };
        }
    }
    for entry in fs::read_dir(copied)? {
        let name = entry?.file_name();
        let (from, to) = (copied.join(&name), target.join(&name));
        // What the other container has made meanwhile stays.
        if fs::symlink_metadata(&to).is_err() {
            fs::rename(&from, &to)?;
        }
    }
    Ok(())
}

/// Fills a part of a volume. One that is not there is missed by the start.
fn copy_part(source: BorrowedFd, volume: &Path, part: &str) -> Result<()> {
    let Ok(part) = path::open_part(path::open_root(volume)?.as_fd(), part, "") else { return Ok(()) };
    let is_empty = |mut entries: fs::ReadDir| entries.next().is_none();
    match fs::read_dir(format!("/proc/self/fd/{}", part.as_raw_fd())).is_ok_and(is_empty) {
        true => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            copy::tree(source, path::open(part.as_fd(), b".", flags, 0, path::BENEATH)?.as_fd())
        }
        // It holds something, or is a file.
        false => Ok(()),
    }
}

fn copy_into(source: BorrowedFd, target: &Path) -> Result<()> {
    let target = path::open_root(target)?;
    copy::tree(source, target.as_fd())
}

fn is_empty(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("list {}", path.display())),
    }
}

/// Whether a directory of the image is just as a new volume is: empty, root's, and of mode 0755.
fn is_plain(dir: BorrowedFd) -> Result<bool> {
    let stat = fstat(dir)?;
    let entries = fs::read_dir(Path::new(&*path::of_fd(dir).to_string_lossy()))?.next();
    Ok(entries.is_none() && (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (0, 0, 0o755))
}

/// Bytes of all files below a path, hard links once. What cannot be read counts nothing.
pub fn size(path: &Path) -> u64 {
    let mut total = 0;
    let mut links = HashSet::new();
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                left.push(entry.path());
            } else if meta.nlink() == 1 || links.insert((meta.dev(), meta.ino())) {
                total += meta.len();
            }
        }
    }
    total
}
