//! A tree that was made beside a directory in use becomes part of it: each entry by one rename, so that nobody sees half of
//! a file, and what is in the directory besides stays. Links in the directory lead nowhere: they are replaced like files.

use super::stat::is_dir;
use super::{copy, path, remove};
use anyhow::{Context, Result};
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::fstatat;
use std::os::fd::{AsFd, BorrowedFd};

/// Moves what is in `from` into `into`, on the same file system. A directory that is there gets the attributes of the new
/// one; what is something else than the new entry gives way to it.
pub fn merge(from: BorrowedFd, into: BorrowedFd) -> Result<()> {
    let open = |dir: BorrowedFd, name: &[u8]| {
        path::open(dir, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, 0, path::NO_LINKS)
    };
    for name in remove::names(from.try_clone_to_owned().context("list what was made")?)? {
        let doing = || format!("place {}", path::show(name.as_bytes()));
        let new = fstatat(from, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).with_context(doing)?;
        let old = fstatat(into, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        if let Ok(old) = old {
            if is_dir(&old) && is_dir(&new) {
                let source = open(from, name.as_bytes()).with_context(doing)?;
                let target = open(into, name.as_bytes()).with_context(doing)?;
                merge(source.as_fd(), target.as_fd()).with_context(doing)?;
                copy::directory(source.as_fd(), target.as_fd()).with_context(doing)?;
                continue;
            }
            if is_dir(&old) || is_dir(&new) {
                remove::entry(into, &name).with_context(doing)?;
            }
        }
        renameat(from, name.as_c_str(), into, name.as_c_str()).with_context(doing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_is_there_stays_and_links_lead_nowhere() {
        let dir = std::env::temp_dir().join(format!("dhow-merge-{}", std::process::id()));
        let (from, into) = (dir.join("from"), dir.join("into"));
        for path in ["from/d/deep", "from/l", "from/was-file", "into/d/other", "into/was-dir/x", "outside"] {
            fs::create_dir_all(dir.join(path)).unwrap();
        }
        for (path, text) in
            [("from/d/a", "new"), ("from/l/b", "b"), ("from/was-dir", "w"), ("into/d/a", "old"), ("into/was-file", "")]
        {
            fs::write(dir.join(path), text).unwrap();
        }
        fs::write(into.join("kept"), "kept").unwrap();
        fs::write(from.join("file"), "mine").unwrap();
        fs::write(dir.join("outside/file"), "theirs").unwrap();
        symlink("../outside", into.join("l")).unwrap();
        symlink("../outside/file", into.join("file")).unwrap();
        fs::set_permissions(from.join("d"), PermissionsExt::from_mode(0o750)).unwrap();
        merge(path::open_root(&from).unwrap().as_fd(), path::open_root(&into).unwrap().as_fd()).unwrap();
        let read = |path: &str| fs::read_to_string(into.join(path)).unwrap();
        assert_eq!((read("d/a"), read("l/b"), read("was-dir"), read("file"), read("kept")).0, "new");
        assert_eq!(
            (read("l/b"), read("was-dir"), read("file"), read("kept")),
            ("b".into(), "w".into(), "mine".into(), "kept".into())
        );
        assert!(into.join("d/deep").is_dir() && into.join("d/other").is_dir() && into.join("was-file").is_dir());
        assert_eq!(fs::metadata(into.join("d")).unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(fs::read_to_string(dir.join("outside/file")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(dir.join("outside")).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
