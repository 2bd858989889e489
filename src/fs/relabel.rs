//! SELinux labels of files, for what is lent to containers.

use super::xattr::LABEL;
use super::{path, tree};
use crate::sys::xattr;
use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What belongs to the system, or to a user as a whole: with a container's label nobody else could use it.
const NEVER: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Labels a file or directory with all that is below it. Links are labelled and not followed. Where the directory itself
/// has the label already, only what lacks it is written. A file system that has no labels goes without.
///
/// Errors: it is a directory that is not a container's to have.
pub fn all(top: &Path, label: &str) -> Result<()> {
    let real = top.canonicalize().with_context(|| format!("find {}", top.display()))?;
    if is_the_systems(&real, &homes()) {
        bail!("SELinux relabeling of {} is not allowed", real.display());
    }
    let top = open(&real, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", real.display()))?;
    let top = top.as_fd();
    let done = match label_of(top) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
        found => found.is_ok_and(|found| found == label.as_bytes()),
    };
    if super::stat::is_dir(&nix::sys::stat::fstat(top)?) {
        tree::walk(top, &mut |path, file, _| {
            if !done || !label_of(file).is_ok_and(|found| found == label.as_bytes()) {
                set(file, label).with_context(|| format!("label {}", path::show(path)))?;
            }
            Ok(true)
        })?;
    }
    // Last: it says that all below it is labelled.
    set(top, label).context("label it")
}

/// The same for what does not change once it has the label.
pub fn once(top: &Path, label: &str) -> Result<()> {
    let file = open(top, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", top.display()))?;
    match label_of(file.as_fd()) {
        Ok(found) if found == label.as_bytes() => Ok(()),
        _ => all(top, label),
    }
}

/// Labels one file that is open, if only to be looked at.
pub fn set(file: BorrowedFd, label: &str) -> Result<()> {
    match xattr::setxattr(&path::of_fd(file), LABEL, label.as_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

fn label_of(file: BorrowedFd) -> std::io::Result<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = xattr::getxattr(&path::of_fd(file), LABEL, &mut value)?;
    value.truncate(length);
    if value.last() == Some(&0) {
        value.pop();
    }
    Ok(value)
}

fn is_the_systems(path: &Path, homes: &[PathBuf]) -> bool {
    NEVER.iter().any(|never| path == Path::new(never)) || homes.iter().any(|home| path == home)
}

/// Homes of who has started us.
fn homes() -> Vec<PathBuf> {
    let own = std::env::var_os("HOME").map(PathBuf::from);
    let name = std::env::var("SUDO_USER").ok();
    let before = name.and_then(|name| nix::unistd::User::from_name(&name).ok()?).map(|user| user.dir);
    own.into_iter().chain(before).filter(|home| home.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_systems_is_left_alone() {
        let homes = [PathBuf::from("/home/sailor")];
        for (path, expected) in [
            ("/", true),
            ("/usr", true),
            ("/usr/", true),
            ("/usr/share/x", false),
            ("/home", true),
            ("/home/sailor", true),
            ("/home/sailor/boat", false),
            ("/srv/data", false),
        ] {
            assert_eq!(is_the_systems(Path::new(path), &homes), expected, "{path}");
        }
        let error = all(Path::new("/usr/../usr"), "u:r:t:s0").unwrap_err().to_string();
        assert_eq!(error, "SELinux relabeling of /usr is not allowed");
    }

    /// Without SELinux the attribute is one like others, where it can be set at all.
    #[test]
    fn all_that_is_below_is_labelled_and_nothing_that_links_lead_to() {
        let top = std::env::temp_dir().join(format!("dhow-relabel-{}", std::process::id()));
        let (given, outside) = (top.join("given"), top.join("outside"));
        std::fs::create_dir_all(given.join("a/b")).unwrap();
        std::fs::write(given.join("a/b/file"), "").unwrap();
        std::fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, given.join("a/link")).unwrap();
        let of = |path: &Path| {
            let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            label_of(file.as_fd()).ok().map(|label| String::from_utf8(label).unwrap())
        };
        let file = open(&outside, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let before = of(&outside);
        if crate::sys::xattr::setxattr(&path::of_fd(file.as_fd()), LABEL, b"x").is_err() {
            std::fs::remove_dir_all(&top).unwrap();
            return crate::skip::skip("no labels can be set").unwrap_or_default();
        }
        set(file.as_fd(), "u:o:outside:s0").unwrap();
        for label in ["u:o:one:s0:c1,c2", "u:o:two:s0"] {
            all(&given, label).unwrap();
            for path in ["", "a", "a/b", "a/b/file"] {
                assert_eq!(of(&given.join(path)).as_deref(), Some(label), "{path}, which was {before:?}");
            }
            assert_eq!(of(&outside).as_deref(), Some("u:o:outside:s0"));
        }
        // What came later.
        std::fs::write(given.join("a/late"), "").unwrap();
        once(&given, "u:o:two:s0").unwrap();
        assert_ne!(of(&given.join("a/late")).as_deref(), Some("u:o:two:s0"));
        std::fs::write(given.join("a/new"), "").unwrap();
        all(&given, "u:o:two:s0").unwrap();
        assert_eq!(of(&given.join("a/new")).as_deref(), Some("u:o:two:s0"));
        std::fs::remove_dir_all(&top).unwrap();
    }
}
