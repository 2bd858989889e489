//! Extended attributes: which of them travel, and reading them all.

use super::path;
use crate::sys::{kernel, xattr};
use anyhow::{Context, Result};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

/// Marks a directory whose lower ones are hidden; the value is `y`. In a user namespace nobody sets trusted attributes;
/// overlays are mounted with `userxattr` there.
pub fn opaque() -> &'static CStr {
    if kernel::is_first_user_namespace() { c"trusted.overlay.opaque" } else { c"user.overlay.opaque" }
}

/// Whether overlayfs gives the attribute a meaning: such a one is never taken from a tar, nor copied.
pub fn is_overlays(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// The SELinux label of a file. It is the host's word on it, which travels neither in a tar nor with a copy.
pub const LABEL: &CStr = c"security.selinux";

/// All attributes of an open file (also one opened with O_PATH) except overlayfs's and the label. A file system without
/// attributes has none.
pub fn list(fd: BorrowedFd) -> Result<Vec<(CString, Vec<u8>)>> {
    let link = path::of_fd(fd);
    let names = match read(|buffer| xattr::listxattr(&link, buffer)) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other.context("list extended attributes")?,
    };
    let mut all = Vec::new();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if is_overlays(name) || name == LABEL {
            continue;
        }
        match read(|buffer| xattr::getxattr(&link, name, buffer)) {
            Ok(value) => all.push((name.to_owned(), value)),
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {}
            Err(error) => return Err(error).with_context(|| format!("read extended attribute {name:?}")),
        }
    }
    Ok(all)
}

/// Sets one attribute of an open file (also one opened with O_PATH). A file system, or a kind of file, that cannot
/// have it goes without, as Docker does. The label stays that of the place.
pub fn set(fd: BorrowedFd, name: &CStr, value: &[u8]) -> Result<()> {
    if name == LABEL {
        return Ok(());
    }
    let set = match xattr::fsetxattr(fd, name, value) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => xattr::setxattr(&path::of_fd(fd), name, value),
        other => other,
    };
    match set {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        // Of the administrator's; an ordinary user's engine goes without, too.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && !kernel::is_first_user_namespace() => Ok(()),
        // Only regular files and directories have user attributes (xattr(7)).
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && name.to_bytes().starts_with(b"user.") => Ok(()),
        other => other.with_context(|| format!("set extended attribute {name:?}")),
    }
}

/// Whether a directory hides what is below it.
pub fn is_opaque(dir: BorrowedFd) -> bool {
    let mut value = [0; 1];
    matches!(xattr::getxattr(&path::of_fd(dir), opaque(), &mut value), Ok(1)) && value == *b"y"
}

/// Calls with a buffer that grows until it suffices.
fn read(call: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {
                let length = call(&mut [])?;
                buffer.resize(length.max(buffer.len() * 2), 0);
            }
            Err(error) => return Err(error),
        }
    }
}
