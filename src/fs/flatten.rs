//! Layers as one plain tree: for a store on a file system that cannot hold the upper directory of an overlay
//! (an overlay itself, ramfs). Slower and larger, by reflink where the file system has it.

use super::copy::{self, Visit};
use super::settle::HIDDEN;
use super::stat::{is_dir, is_whiteout};
use super::{path, remove};
use anyhow::{Context, Result};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstatat;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Copies what the layers (`fs` directories, top first) show together into the empty directory `into`.
pub fn flatten(lowers: &[PathBuf], into: &Path) -> Result<()> {
    let target = path::open_root(into)?;
    for lower in lowers.iter().rev() {
        add(lower, &target).with_context(|| format!("copy layer {}", lower.display()))?;
    }
    Ok(())
}

fn add(lower: &Path, target: &OwnedFd) -> Result<()> {
    let list = lower.with_file_name(HIDDEN);
    let hidden = match std::fs::read(&list) {
        Ok(hidden) => hidden,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", list.display())),
    };
    // Where devices cannot be made, a whiteout is a file of that name, told by the list alone.
    let mut whiteouts = HashSet::new();
    for mark in hidden.split(|&byte| byte == 0) {
        match mark {
            [b'w', path @ ..] => {
                hide(target, path).with_context(|| format!("hide {}", path::show(path)))?;
                whiteouts.insert(path);
            }
            [b'o', path @ ..] => empty(target, path).with_context(|| format!("hide {}", path::show(path)))?,
            _ => {}
        }
    }
    let source = path::open_root(lower)?;
    copy::merge(source.as_fd(), target.as_fd(), &mut |path, stat, dir| {
        if is_whiteout(stat) || whiteouts.contains(path) {
            return Ok(Visit::Skip);
        }
        let (_, name) = path::split(path);
        if let Ok(there) = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            && !(is_dir(&there) && is_dir(stat))
        {
            remove::entry(dir, &CString::new(name)?)?;
        }
        Ok(Visit::Copy)
    })
}

fn hide(target: &OwnedFd, path: &[u8]) -> Result<()> {
    let (dir, name) = path::split(path);
    match path::open_dir(target.as_fd(), dir, path::NO_LINKS) {
        Ok(dir) => remove::entry(dir.as_fd(), &CString::new(name)?),
        Err(_) => Ok(()),
    }
}

fn empty(target: &OwnedFd, path: &[u8]) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let Ok(dir) = path::open(target.as_fd(), path, flags, 0, path::NO_LINKS) else { return Ok(()) };
    for name in remove::names(dir.try_clone().context("list it")?)? {
        remove::entry(dir.as_fd(), &name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::settle::settle;
    use crate::fs::unpack::tests::{Scratch, Tar, able};
    use crate::fs::unpack::unpack;

    /// The same as overlayfs shows, whose own answer is in tests/.
    #[test]
    fn layers_hide_what_is_below() {
        if !able() {
            return;
        }
        let scratch = Scratch::new();
        let tars = [
            Tar::default().file("a", "1").file("d/x", "1").file("o/x", "1").file("w/x", "1").dir("f").symlink("l", "d"),
            Tar::default()
                .file(".wh.a", "")
                .file("o/.wh..wh..opq", "")
                .file("o/y", "2")
                .file(".wh.w", "")
                .file("f", "2"),
            Tar::default().file("d/z", "3").file("w/z", "3").dir("l").file("l/q", "3").link("d/x2", "d/x"),
        ];
        let mut lowers: Vec<PathBuf> = Vec::new();
        for (number, tar) in tars.into_iter().enumerate() {
            let layer = scratch.layer(&number.to_string());
            let unpacked = unpack(&mut &tar.end()[..], &layer).unwrap();
            settle(&unpacked, &layer, &lowers).unwrap();
            lowers.insert(0, layer.join("fs"));
        }
        let flat = scratch.layer("flat");
        flatten(&lowers, &flat).unwrap();
        let mut seen = Vec::new();
        let mut left = vec![PathBuf::new()];
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(flat.join(&dir)).unwrap() {
                let entry = entry.unwrap();
                let path = dir.join(entry.file_name());
                match entry.file_type().unwrap().is_dir() {
                    true => left.push(path),
                    false => {
                        seen.push(format!("{}={}", path.display(), std::fs::read_to_string(flat.join(&path)).unwrap()))
                    }
                }
            }
        }
        seen.sort();
        assert_eq!(seen, ["d/x2=1", "d/x=1", "d/z=3", "f=2", "l/q=3", "o/y=2", "w/z=3"]);
    }
}
