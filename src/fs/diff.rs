//! What the upper directory of an overlay changes in the layers below it.

use super::lowers::Lowers;
use super::pack::Packer;
use super::stat::{is_dir, is_file, is_whiteout};
use super::{path, remove, tree, xattr};
use crate::order;
use crate::order::Set;
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, fstat};
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

const WHITEOUT: &[u8] = b".wh.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Added,
    Modified,
    /// Copied up, and not changed after that.
    Same,
    Deleted,
}

/// One path of the upper directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub path: Vec<u8>,
    pub is: Is,
    is_dir: bool,
    /// Whether it says something by itself, and not only by what is in it.
    counts: bool,
}

/// What differs, in the order of paths, each directory before what is in it. `lowers` are the layers' `fs` directories,
/// top first; with `copied` the upper directory is no overlay's but has all files in it.
pub fn differences(upper: &Path, lowers: &[PathBuf], copied: bool) -> Result<Vec<Difference>> {
    let root = path::open_root(upper)?;
    let mut lowers = Lowers::open(lowers)?;
    let mut found = Vec::new();
    // In a directory that hides what is below, all is new, and what is not there was deleted.
    let mut opaque: Option<Vec<u8>> = None;
    if copied || xattr::is_opaque(root.as_fd()) {
        opaque = Some(Vec::new());
        deleted(&root, b"", &mut lowers, &mut found)?;
    }
    tree::glance(root.as_fd(), &mut |path, parent, stat| {
        let dir = is_dir(stat);
        let difference = |is| Difference { path: path.to_vec(), is, is_dir: dir, counts: true };
        if is_whiteout(stat) {
            if lowers.find(path)?.is_some() {
                found.push(Difference { is_dir: false, ..difference(Is::Deleted) });
            }
            return Ok(false);
        }
        let Some((lower, below)) = lowers.find(path)? else {
            found.push(difference(Is::Added));
            return Ok(true);
        };
        let Some(fd) = tree::look(parent, path::split(path).1)? else { return Ok(false) };
        let fd = fd.as_fd();
        let changed = differ(fd, stat, lower, &below)?;
        let is = if changed { Is::Modified } else { Is::Same };
        found.push(Difference { counts: changed || !dir && !copied, ..difference(is) });
        if dir && is_dir(&below) {
            let inside = opaque.as_ref().is_some_and(|opaque| is_below(path, opaque));
            if !inside && xattr::is_opaque(fd) {
                opaque = Some(path.to_vec());
            }
            if inside || opaque.as_deref() == Some(path) {
                let open = path::open(root.as_fd(), path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0, path::NO_LINKS);
                deleted(&open.with_context(|| path::show(path))?, path, &mut lowers, &mut found)?;
            }
        }
        Ok(true)
    })
    .with_context(|| format!("compare {} with the layers below", upper.display()))?;
    order::by(&mut found, |a, b| a.path.split(|&byte| byte == b'/').cmp(b.path.split(|&byte| byte == b'/')));
    // Of directories that are as they were, only those that something lies in.
    let parents: HashSet<Vec<u8>> = found.iter().filter(|it| it.counts).flat_map(above).collect();
    found.retain(|it| it.counts || parents.contains(&it.path));
    Ok(found)
}

/// What users are told: the directory of a change is changed, what is as it was is not.
pub fn changes(differences: Vec<Difference>) -> Vec<(Vec<u8>, Is)> {
    let parents: HashSet<Vec<u8>> = differences.iter().filter(|it| it.is != Is::Same).flat_map(above).collect();
    let told = differences.into_iter().filter_map(|it| match it.is {
        Is::Same => (it.is_dir && parents.contains(&it.path)).then_some((it.path, Is::Modified)),
        is => Some((it.path, is)),
    });
    told.collect()
}

/// Writes the differences as a layer's tar: whiteouts for what was deleted.
pub fn pack(upper: &Path, differences: &[Difference], packer: &mut Packer) -> Result<()> {
    let root = path::open_root(upper)?;
    for difference in differences {
        if difference.is == Is::Deleted {
            mark(packer, &difference.path)?;
            continue;
        }
        if let Some(fd) = tree::look(root.as_fd(), &difference.path)? {
            let stat = fstat(&fd).with_context(|| format!("look at {}", path::show(&difference.path)))?;
            // Deleted since it was compared.
            if !is_whiteout(&stat) {
                check_name(&difference.path)?;
                packer.object(fd.as_fd(), &stat, &difference.path)?;
            }
        }
    }
    Ok(())
}

/// Refuses what no layer can have: a name that stands for the removal of another file.
pub(super) fn check_name(path: &[u8]) -> Result<()> {
    let name = path::split(path).1;
    if name.starts_with(WHITEOUT) {
        let shown = path::show(path);
        bail!("{shown} cannot be in a layer: a name that begins with .wh. says there that another file was deleted");
    }
    Ok(())
}

/// Writes the whiteout of a path.
pub(super) fn mark(packer: &mut Packer, path: &[u8]) -> Result<()> {
    let (dir, name) = path::split(path);
    packer.mark(&path::join(dir, &[WHITEOUT, name].concat()))
}

/// All directories that a path lies in, without the root.
fn above(difference: &Difference) -> Vec<Vec<u8>> {
    let path = &difference.path;
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| path[..at].to_vec()).collect()
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// What the layers have in a directory of that path and the upper one has not.
fn deleted(dir: &std::os::fd::OwnedFd, path: &[u8], lowers: &mut Lowers, found: &mut Vec<Difference>) -> Result<()> {
    let listing = || format!("list {}", path::show(path));
    let here: HashSet<_> = remove::names(dir.try_clone().with_context(listing)?)?.into_iter().collect();
    for name in lowers.names(path).with_context(listing)?.into_iter().filter(|name| !here.contains(name)) {
        let path = path::join(path, name.to_bytes());
        if lowers.find(&path)?.is_some() {
            found.push(Difference { path, is: Is::Deleted, is_dir: false, counts: true });
        }
    }
    Ok(())
}

/// As Docker tells: of directories size and time say nothing, and inode numbers and change times change by a copy.
fn differ(upper: BorrowedFd, stat: &FileStat, lower: BorrowedFd, below: &FileStat) -> Result<bool> {
    let who = |stat: &FileStat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    let what = |stat: &FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if who(stat) != who(below) || !is_dir(stat) && what(stat) != what(below) {
        return Ok(true);
    }
    let capabilities = |fd| -> Result<Set<Vec<u8>>> {
        let all = xattr::list(fd)?.into_iter();
        Ok(Set::from_iter(all.filter(|(name, _)| name.to_bytes() == b"security.capability").map(|(_, value)| value)))
    };
    Ok(is_file(stat) && capabilities(upper)? != capabilities(lower)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::overlay::{self, Upper};
    use crate::fs::settle::settle;
    use crate::fs::unpack::tests::{Scratch, Tar, able};
    use crate::fs::unpack::unpack;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    /// The kernel makes the upper directory; what it became is told, packed, and unpacked again to the same.
    #[test]
    fn everything_that_can_be_done_to_a_layer() {
        if !able() {
            return;
        }
        let scratch = Scratch::new();
        let layer = scratch.layer("0");
        let tar = Tar::default()
            .file("same/touched", "1")
            .file("same/left", "1")
            .file("edited/file", "1")
            .file("gone/file", "1")
            .file("emptied/a", "1")
            .file("emptied/b", "1")
            .file("again/old/x", "1")
            .file("again/stays", "1")
            .file("becomes-dir", "1")
            .file("becomes-file/x", "1")
            .symlink("link", "a");
        let unpacked = unpack(&mut &tar.end()[..], &layer).unwrap();
        settle(&unpacked, &layer, &[]).unwrap();
        let (upper, work, at) = (scratch.layer("upper"), scratch.layer("work"), scratch.layer("at"));
        // overlayfs wants two lower directories, or an upper one.
        let mounted = match overlay::mount(
            &[layer.join("fs")],
            Some(&Upper { upper: upper.clone(), work, volatile: false, label: String::new() }),
            &at,
        ) {
            Ok(mounted) => mounted,
            Err(error) => return crate::skip::skip(&format!("{error:#}")).unwrap_or_default(),
        };
        let root = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
        fs::File::options().append(true).open(root.join("same/touched")).unwrap();
        fs::write(root.join("edited/file"), "22").unwrap();
        fs::remove_dir_all(root.join("gone")).unwrap();
        fs::remove_file(root.join("emptied/a")).unwrap();
        fs::remove_dir_all(root.join("again")).unwrap();
        fs::create_dir_all(root.join("again/old/y")).unwrap();
        fs::remove_file(root.join("becomes-dir")).unwrap();
        fs::create_dir(root.join("becomes-dir")).unwrap();
        fs::write(root.join("becomes-dir/new"), "").unwrap();
        fs::remove_dir_all(root.join("becomes-file")).unwrap();
        fs::write(root.join("becomes-file"), "").unwrap();
        fs::remove_file(root.join("link")).unwrap();
        symlink("b", root.join("link")).unwrap();
        fs::write(root.join("coming"), "").unwrap();
        fs::remove_file(root.join("coming")).unwrap();
        let lowers = [layer.join("fs")];
        let found = differences(&upper, &lowers, false).unwrap();
        let told: Vec<String> = changes(found.clone())
            .into_iter()
            .map(|(path, is)| format!("{} {}", &format!("{is:?}")[..1], path::show(&path)))
            .collect();
        let expected = [
            "M again",
            "M again/old",
            "D again/old/x",
            "A again/old/y",
            "D again/stays",
            "M becomes-dir",
            "A becomes-dir/new",
            "M becomes-file",
            "M edited",
            "M edited/file",
            "M emptied",
            "D emptied/a",
            "D gone",
            "M link",
        ];
        assert_eq!(told, expected);

        let mut tar = Vec::new();
        let mut packer = Packer::new(&mut tar);
        pack(&upper, &found, &mut packer).unwrap();
        packer.end().unwrap();
        let again = scratch.layer("again");
        let unpacked = unpack(&mut &tar[..], &again).unwrap();
        settle(&unpacked, &again, &lowers).unwrap();
        let both = overlay::mount(&[again.join("fs"), layer.join("fs")], None, &at).unwrap();
        let seen = |root: &Path| {
            let mut seen = Vec::new();
            let dir = path::open_root(root).unwrap();
            tree::walk(dir.as_fd(), &mut |path, _, stat| {
                seen.push((path::show(path), stat.st_mode, if is_dir(stat) { 0 } else { stat.st_size }));
                Ok(true)
            })
            .unwrap();
            seen
        };
        assert_eq!(seen(&PathBuf::from(format!("/proc/self/fd/{}", both.as_raw_fd()))), seen(&root));
    }
}
