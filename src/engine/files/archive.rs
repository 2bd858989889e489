//! `HEAD`, `GET` and `PUT /containers/{id}/archive`: what lies at a path of a container, as a tar.

use super::super::containers;
use super::super::record::Record;
use super::super::store::Store;
use super::super::{events, users};
use super::view::{Access, View};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::PathStat;
use crate::api::wire::Producer;
use crate::fs::extract::{self, Owner, Target};
use crate::fs::pack::{Kept, Packer};
use crate::fs::path::{self, IN_ROOT};
use crate::fs::special::is_special;
use crate::fs::{compression, owner, stat as file_stat};
use crate::oci::runtime::Ids;
use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What lies at `path` of the container that the user calls `name`.
pub fn stat(store: &Store, name: &str, path: &str) -> Result<PathStat> {
    let view = open(store, name, path, Access::Read)?.1;
    let (found, stat) = find(&view, name, path)?;
    described(&view, path, found.as_fd(), &stat)
}

/// The same, and the tar of it and all that is below. Its entries begin with the last component of the path.
pub fn read(store: &Store, name: &str, path: &str) -> Result<(PathStat, Producer)> {
    let (record, view) = open(store, name, path, Access::Read)?;
    let (found, stat) = find(&view, name, path)?;
    let described = described(&view, path, found.as_fd(), &stat)?;
    let entry = described.name.clone().into_bytes();
    events::container(store, &record, "archive-path", &[]);
    let producer = move |sink: &mut dyn Write| {
        // The view stays until the last byte is out.
        let view = view;
        let archived = archive(found.as_fd(), &entry, view.ids.clone(), sink);
        drop((found, view));
        archived.map_err(into_io)
    };
    Ok((described, Box::new(producer)))
}

fn archive(found: BorrowedFd, name: &[u8], ids: Option<Ids>, sink: &mut dyn Write) -> Result<()> {
    let mut packer = Packer::new(sink);
    packer.ids = ids;
    let top = fstat(found).context("look at it")?;
    if is_special(found) {
        packer.object(found, &top, name)?;
        return packer.end();
    }
    packer.tree(found, name, &mut |_, fd, stat| {
        // Asked where a mount may begin.
        if stat.st_dev == top.st_dev || !is_special(fd) {
            return Ok(Kept::All);
        }
        Ok(if file_stat::is_dir(stat) { Kept::Itself } else { Kept::Nothing })
    })?;
    packer.end()
}

/// An error of the sink stays what it is, so that a reader that went away is told from a file that cannot be read.
pub(super) fn into_io(error: anyhow::Error) -> std::io::Error {
    match error.downcast::<std::io::Error>() {
        Ok(error) => error,
        Err(error) => std::io::Error::other(format!("{error:#}")),
    }
}

/// What to do with a tar.
pub struct Put<'a> {
    pub path: &'a str,
    /// Neither is a directory replaced by something else nor the other way round.
    pub no_overwrite: bool,
    /// All becomes the container's user's.
    pub copy_ids: bool,
}

/// Unpacks a tar, which may be compressed, into a directory of a container.
pub fn put(store: &Store, name: &str, put: &Put, tar: impl Read + Send) -> Result<()> {
    let (record, view) = open(store, name, put.path, Access::Write)?;
    let at = match path::open_dir(view.root(), put.path.as_bytes(), IN_ROOT) {
        Ok(at) => at,
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
            bail!(Refusal::BadParameter("extraction point is not a directory".to_owned()))
        }
        Err(error) => return Err(absent(error, name, put.path)),
    };
    if is_special(at.as_fd()) {
        bail!(Refusal::BadParameter(format!("{} is not a place for files: it is the kernel's own", put.path)));
    }
    let mounted = fstatvfs(&at).context("look at the mount")?;
    let of_root = mount_of(at.as_fd())? == mount_of(view.root())?;
    if of_root && record.host_config.readonly_rootfs {
        bail!(Refusal::BadParameter("container rootfs is marked read-only".to_owned()));
    }
    if mounted.flags().contains(FsFlags::ST_RDONLY) {
        bail!(Refusal::BadParameter("mounted volume is marked read-only".to_owned()));
    }
    let whose = if put.copy_ids && !record.config.user.is_empty() {
        let user = users::resolve(view.root(), &record.config.user, &None)?;
        Owner::All(user.uid, user.gid)
    } else {
        Owner::AsTold
    };
    let dir = path::below(view.root(), at.as_fd())?.context("the directory was moved out of the container")?;
    let unpack = || -> Result<()> {
        let mut tar = compression::decoder(tar).map_err(|error| Refusal::BadParameter(format!("{error:#}")))?;
        let ids = view.ids.as_ref();
        let target =
            Target { root: view.root(), dir: &dir, owner: whose, replace: !put.no_overwrite, rename: None, ids };
        extract::extract(&mut *tar, &target).map(drop)
    };
    match &view.ids {
        None => unpack()?,
        Some(ids) => unpack_as(ids, unpack)?,
    }
    events::container(store, &record, "extract-to-dir", &[]);
    Ok(())
}

/// In a container with a map nothing can be made by an id that is not in it: a thread does it as its root.
fn unpack_as(ids: &Ids, unpack: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let unpack = || {
        owner::make_as_root_of(ids)?;
        unpack()
    };
    std::thread::scope(|scope| scope.spawn(unpack).join()).map_err(|_| anyhow!("the unpacking thread panicked"))?
}

fn open(store: &Store, name: &str, path: &str, access: Access) -> Result<(Record, View)> {
    if path.is_empty() {
        bail!(Refusal::BadParameter("bad parameter: path cannot be empty".to_owned()));
    }
    let id = containers::find(store, name)?;
    let record = Record::load(store, &id)?.ok_or_else(|| containers::no_such(name))?;
    Ok((record, View::open(store, &id, access)?))
}

/// Opens what lies at a path, to look at it. A link at its end is not followed, unless the path says that it is a
/// directory.
fn find(view: &View, name: &str, path: &str) -> Result<(OwnedFd, FileStat)> {
    let flags = if is_directory(path) { OFlag::O_DIRECTORY } else { OFlag::O_NOFOLLOW };
    let found = path::open(view.root(), path.as_bytes(), OFlag::O_PATH | flags, 0, IN_ROOT)
        .map_err(|error| absent(error, name, path))?;
    let stat = fstat(&found).with_context(|| format!("look at {path}"))?;
    // Where the container has its proc, Docker's view has an empty directory.
    if is_special(found.as_fd()) && !file_stat::is_dir(&stat) {
        return Err(missing(name, path));
    }
    Ok((found, stat))
}

/// Whether a path says that it names a directory.
fn is_directory(path: &str) -> bool {
    matches!(path.rsplit('/').next(), Some("" | "." | ".."))
}

fn absent(error: std::io::Error, name: &str, path: &str) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::ENOENT) => missing(name, path),
        _ => anyhow::Error::new(error).context(format!("open {path}")),
    }
}

fn missing(name: &str, path: &str) -> anyhow::Error {
    Refusal::NotFound(format!("Could not find the file {path} in container {name}")).into()
}

fn described(view: &View, path: &str, found: BorrowedFd, stat: &FileStat) -> Result<PathStat> {
    let is_link = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFLNK;
    let name = match base(path) {
        // An entry must not begin with it.
        ".." => {
            let at = path::below(view.root(), found)?.context("the directory was moved out of the container")?;
            base(&text(&at)).to_owned()
        }
        name => name.to_owned(),
    };
    Ok(PathStat {
        name,
        size: stat.st_size,
        mode: PathStat::go_mode(stat.st_mode),
        mtime: Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }.to_string(),
        link_target: if is_link { target(view, path, found)? } else { String::new() },
    })
}

/// The last component of a path as Go's `filepath.Base` has it.
fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        None | Some("") => "/",
        Some(base) => base,
    }
}

/// A path below the root as the container has it.
fn text(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// Where a link leads in the end, or as far as it can be followed.
fn target(view: &View, path: &str, link: BorrowedFd) -> Result<String> {
    match path::open(view.root(), path.as_bytes(), OFlag::O_PATH, 0, IN_ROOT) {
        Ok(end) => {
            let end = path::below(view.root(), end.as_fd())?.context("the link leads out of the container")?;
            Ok(text(&end))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            let told = nix::fcntl::readlinkat(link, "").with_context(|| format!("read {path}"))?;
            let told = std::os::unix::ffi::OsStringExt::into_vec(told);
            let (parent, _) = path::split(path.as_bytes());
            let parent = path::open_dir(view.root(), parent, IN_ROOT).with_context(|| format!("open {path}"))?;
            let parent = path::below(view.root(), parent.as_fd())?.unwrap_or_default();
            let whole = if told.starts_with(b"/") { told } else { path::join(&parent, &told) };
            Ok(text(&plain(&whole)))
        }
        Err(error) => Err(error).with_context(|| format!("follow {path}")),
    }
}

/// A path without dots, none of which leads out.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join(&b'/')
}

/// The number of the mount that a descriptor was opened on (proc_pid_fdinfo(5)).
fn mount_of(fd: BorrowedFd) -> Result<u64> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).context("the kernel tells no mounts")?;
    line.trim().parse().with_context(|| format!("read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries() {
        for (path, name, directory) in [
            ("/etc/passwd", "passwd", false),
            ("/etc/", "etc", true),
            ("etc/.", ".", true),
            ("/", "/", true),
            ("//", "/", true),
            ("/.", ".", true),
            ("/a/..", "..", true),
            ("x", "x", false),
        ] {
            assert_eq!((base(path), is_directory(path)), (name, directory), "{path}");
        }
    }

    #[test]
    fn dots_stay_inside() {
        for (path, whole) in [("/a/./b", "a/b"), ("a/../../../b", "b"), ("/", ""), ("a//b/..", "a")] {
            assert_eq!(plain(path.as_bytes()), whole.as_bytes(), "{path}");
        }
    }
}
