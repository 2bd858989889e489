//! Paths inside a root that somebody else filled: the kernel resolves them (openat2(2), Linux 5.6), never a string.

use crate::sys::file::openat2;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Symbolic links, absolute ones too, stay inside the root, and `..` stops at it, as in a chroot.
pub const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
/// What would leave the root is refused with EXDEV.
pub const BENEATH: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
/// As [`BENEATH`], and a symbolic link anywhere in the path is refused with ELOOP.
pub const NO_LINKS: u64 = BENEATH | libc::RESOLVE_NO_SYMLINKS;

/// Links that a path may lead over: as many as the kernel allows.
const MOST_LINKS: usize = 40;

/// Opens `path` below `root`; `resolve` is one of the constants above.
pub fn open(root: BorrowedFd, path: &[u8], flags: OFlag, mode: u32, resolve: u64) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { &b"."[..] } else { path };
    let path = CString::new(path).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    openat2(root, &path, flags.bits(), mode, resolve)
}

/// Opens a directory below `root` for looking up names in it (O_PATH).
pub fn open_dir(root: BorrowedFd, path: &[u8], resolve: u64) -> io::Result<OwnedFd> {
    open(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, 0, resolve)
}

/// Opens a part of a volume or an image (O_PATH), in Docker's words where that cannot be; `name` is what it is a part of.
pub fn open_part(root: BorrowedFd, part: &str, name: &str) -> Result<OwnedFd> {
    open(root, part.as_bytes(), OFlag::O_PATH, 0, BENEATH).map_err(|error| match error.raw_os_error() {
        Some(libc::EXDEV) => {
            anyhow::anyhow!("path concatenation escapes the base directory, base: {name}, subpath: {part}")
        }
        _ => {
            let path = Path::new(name).join(part);
            anyhow::Error::from(error).context(format!("cannot access path {}", path.display()))
        }
    })
}

/// Opens a root itself, by a path that the host's administrator chose.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", path.display()))
}

/// A path's parent and last component, both as they stand; slashes at its ends do not count.
/// The component is empty where the path names the root, and `.` or `..` where it says so.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = trim_slashes(path);
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (trim_slashes(&path[..slash]), &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The first name in a path.
pub fn first(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'/').find(|part| !matches!(*part, b"" | b".")).unwrap_or_default()
}

/// Without slashes at its ends: a path that [`BENEATH`] takes for one below the root.
pub fn trim_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(start, |last| last + 1);
    &path[start..end]
}

/// A name in a directory, which is empty for the root.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Opens a directory below `root`, and makes what is missing of it with mode 0755; `resolve` is one of the constants
/// above. `made` is given each directory that was made, and how much of the path leads to it.
pub fn make_dirs(
    root: BorrowedFd,
    path: &[u8],
    resolve: u64,
    mut made: impl FnMut(&[u8], &OwnedFd) -> Result<()>,
) -> Result<OwnedFd> {
    let is_end = |&end: &usize| path[end - 1] != b'/' && path.get(end).is_none_or(|&byte| byte == b'/');
    let ends: Vec<usize> = std::iter::once(0).chain((1..=path.len()).filter(is_end)).collect();
    // Mostly all of it is there but the last, so the search begins there; what does not lead on is known to be missing.
    let mut there = ends.len() - 1;
    let mut missing: Option<io::Error> = None;
    let mut parent = loop {
        match open_dir(root, &path[..ends[there]], resolve) {
            Ok(dir) => break dir,
            Err(error) if there > 0 => (missing, there) = (Some(error), there - 1),
            Err(error) => return Err(error).context("open the root"),
        }
    };
    for step in ends[there..].windows(2) {
        let so_far = &path[..step[1]];
        let name = trim_slashes(&path[step[0]..step[1]]);
        let opened = match missing.take() {
            Some(error) => Err(error),
            None if matches!(name, b"." | b"..") => open_dir(root, so_far, resolve),
            // In one that was made just now.
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        parent = match opened {
            Ok(dir) => dir,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                let dir = make_dir(parent.as_fd(), name).with_context(|| format!("make {}", show(so_far)))?;
                made(so_far, &dir)?;
                dir
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                bail!("{} leads into a loop of symbolic links", show(so_far))
            }
            Err(error) => return Err(error).with_context(|| format!("open {}", show(so_far))),
        };
    }
    Ok(parent)
}

/// Where a path leads over all symbolic links, as the kernel has it with [`IN_ROOT`], also where nothing is there yet.
pub fn resolved(root: BorrowedFd, path: &[u8]) -> io::Result<Vec<u8>> {
    let names = |path: &[u8]| path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (mut left, mut at, mut links) = (names(path), Vec::new(), 0);
    while let Some(name) = left.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => at = split(&at).0.to_vec(),
            name => {
                let next = join(&at, name);
                let Ok(fd) = open(root, &next, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0, IN_ROOT) else {
                    at = next;
                    continue;
                };
                let Ok(target) = readlinkat(&fd, "") else {
                    at = next;
                    continue;
                };
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                if target.as_bytes().starts_with(b"/") {
                    at.clear();
                }
                left.extend(names(target.as_bytes()));
            }
        }
    }
    Ok(at)
}

fn make_dir(parent: BorrowedFd, name: &[u8]) -> Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => bail!("it is a symbolic link to nothing"),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// A path that leads to an open file whatever it is (also one opened with O_PATH), for calls that take no descriptor.
pub fn of_fd(fd: BorrowedFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// Where an open file lies, below the open directory `root`; `None` where it does not.
pub fn below(root: BorrowedFd, fd: BorrowedFd) -> Result<Option<Vec<u8>>> {
    let of = |fd| -> Result<Vec<u8>> {
        let link = of_fd(fd);
        let path: OsString = nix::fcntl::readlink(link.as_c_str()).with_context(|| format!("read {link:?}"))?;
        Ok(path.into_vec())
    };
    let (mut root, path) = (of(root)?, of(fd)?);
    if root == b"/" {
        root.clear();
    }
    Ok(match path.strip_prefix(&root[..]) {
        Some([]) => Some(Vec::new()),
        Some([b'/', rest @ ..]) => Some(rest.to_vec()),
        _ => None,
    })
}

/// A path for a message: on one line, whatever bytes it has.
pub fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_takes_the_last_component_as_it_stands() {
        for (path, parent, name) in [
            ("a", "", "a"),
            ("/a", "", "a"),
            ("./a/b/", "./a", "b"),
            ("a//b", "a", "b"),
            ("/", "", ""),
            ("", "", ""),
            ("a/..", "a", ".."),
            (".", "", "."),
        ] {
            assert_eq!(split(path.as_bytes()), (parent.as_bytes(), name.as_bytes()), "{path}");
        }
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let root = std::env::temp_dir().join(format!("dhow-path-{}", std::process::id()));
        std::fs::create_dir_all(root.join("in/usr")).unwrap();
        std::os::unix::fs::symlink("/usr", root.join("in/lib")).unwrap();
        std::os::unix::fs::symlink("../../../..", root.join("in/up")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join("in/dangling")).unwrap();
        let dir = open_root(&root.join("in")).unwrap();
        let mut made = Vec::new();
        let note = |_: &[u8], fd: &OwnedFd| {
            made.push(show(&below(dir.as_fd(), fd.as_fd())?.unwrap()));
            Ok(())
        };
        make_dirs(dir.as_fd(), b"/lib/a/../b/c", IN_ROOT, note).unwrap();
        assert_eq!(made, ["usr/a", "usr/b", "usr/b/c"]);
        assert!(root.join("in/usr/b/c").is_dir());
        let inside = make_dirs(dir.as_fd(), b"up/up/x", IN_ROOT, |_, _| Ok(())).unwrap();
        assert_eq!(below(dir.as_fd(), inside.as_fd()).unwrap().unwrap(), b"x");
        let error = make_dirs(dir.as_fd(), b"dangling/x", IN_ROOT, |_, _| Ok(())).unwrap_err();
        assert_eq!(format!("{error:#}"), "make dangling: it is a symbolic link to nothing");
        let mut made = Vec::new();
        let note = |so_far: &[u8], _: &OwnedFd| {
            made.push(show(so_far));
            Ok(())
        };
        make_dirs(dir.as_fd(), b"usr//x/./y/", NO_LINKS, note).unwrap();
        assert_eq!(made, ["usr//x", "usr//x/./y"]);
        assert!(root.join("in/usr/x/y").is_dir());
        let error = make_dirs(dir.as_fd(), b"lib/z", NO_LINKS, |_, _| Ok(())).unwrap_err();
        assert_eq!(format!("{error:#}"), "lib leads into a loop of symbolic links");
        assert_eq!(open_dir(dir.as_fd(), b"up", BENEATH).unwrap_err().raw_os_error(), Some(libc::EXDEV));
        assert_eq!(open_dir(dir.as_fd(), b"lib", NO_LINKS).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn paths_lead_over_links_to_nothing_too() {
        let dir = std::env::temp_dir().join(format!("dhow-resolved-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a")).unwrap();
        for (target, link) in [("../../../out/x", "a/up"), ("/a", "b"), ("nowhere", "b2"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, dir.join(link)).unwrap();
        }
        let root = open_root(&dir).unwrap();
        for (path, leads) in [
            ("a/c", "a/c"),
            ("/b/../b/./new//", "a/new"),
            ("b/up/y", "out/x/y"),
            ("b2", "nowhere"),
            ("../../b2/z", "nowhere/z"),
            ("", ""),
        ] {
            assert_eq!(show(&resolved(root.as_fd(), path.as_bytes()).unwrap()), leads, "{path}");
        }
        assert_eq!(resolved(root.as_fd(), b"loop").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
