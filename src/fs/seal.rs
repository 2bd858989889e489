//! An upper directory of an overlay becomes a layer where it lies: what it says is put in order and hashed as the tar
//! that others will be given, and nothing is copied.

use super::diff::{self, Difference, Is};
use super::lowers::Lowers;
use super::pack::Packer;
use super::settle::HIDDEN;
use super::stat::{is_dir, is_file, is_whiteout};
use super::{path, recipe, tree, xattr};
use crate::channel;
use crate::oci::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstat, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a layer became.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub diff_id: Digest,
    /// Bytes of the files.
    pub size: u64,
    /// The newest time of a file in it, in seconds since 1970.
    pub newest: i64,
}

/// How times are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// None is later than this.
    pub latest: Option<i64>,
    /// Directories that only lead to what was changed look as they did below.
    pub kept: bool,
}

/// Seals what lies in `staging`/fs over `lowers` (`fs` directories, top first). `None` where it changes nothing.
pub fn seal(staging: &Path, lowers: &[PathBuf], times: Times) -> Result<Option<Sealed>> {
    let dir = staging.join("fs");
    let differences = diff::differences(&dir, lowers, false)?;
    if differences.is_empty() {
        return Ok(None);
    }
    let root = path::open_root(&dir)?;
    let said: HashSet<&[u8]> = differences.iter().map(|it| &it.path[..]).collect();
    prune(root.as_fd(), &said)?;
    drop(said);
    let mut lowers = Lowers::open(lowers)?;
    let mut hash = Hashed { hasher: Hasher::new(Algorithm::Sha256), length: 0 };
    let mut recipe = recipe::Writer::create(&staging.join("recipe"))?;
    let mut packer = Packer::sealing(&mut hash, &mut recipe);
    let (mut hidden, mut newest) = (Vec::new(), i64::MIN);
    let work = |at: &[u8], is: Is, next: Next| -> Result<()> {
        let (fd, mut stat, content) = match next {
            Next::Deleted => {
                diff::mark(&mut packer, at)?;
                hidden.extend([b"w", at, b"\0"].concat());
                return Ok(());
            }
            Next::Gone => return Ok(()),
            Next::There(fd, stat, content) => (fd, stat, content),
        };
        diff::check_name(at)?;
        if is_dir(&stat) && xattr::is_opaque(fd.as_fd()) {
            hidden.extend([b"o", at, b"\0"].concat());
        }
        if times.kept && is == Is::Same && is_dir(&stat) {
            if let Some((_, below)) = lowers.find(at)? {
                set_time(root.as_fd(), at, &mut stat, below.st_mtime, below.st_mtime_nsec)?;
            }
        } else if times.latest.is_some_and(|latest| stat.st_mtime > latest) {
            set_time(root.as_fd(), at, &mut stat, times.latest.unwrap_or_default(), 0)?;
        }
        if is != Is::Same {
            newest = newest.max(stat.st_mtime);
        }
        match content {
            Some(content) => packer.read(fd.as_fd(), &stat, at, &content),
            None => packer.object(fd.as_fd(), &stat, at),
        }
    };
    ahead(root.as_fd(), &differences, work)?;
    let size = packer.content;
    packer.end()?;
    let diff_id = hash.hasher.finish();
    recipe.finish(&diff_id, hash.length)?;
    if !hidden.is_empty() {
        let list = staging.join(HIDDEN);
        std::fs::write(&list, &hidden).with_context(|| format!("write {}", list.display()))?;
    }
    let newest = if newest == i64::MIN { 0 } else { newest };
    Ok(Some(Sealed { diff_id, size, newest }))
}

/// What is at a path of the upper directory.
enum Next {
    Deleted,
    Gone,
    /// With the content, where that is small.
    There(OwnedFd, FileStat, Option<Vec<u8>>),
}

/// Files up to this size are read ahead, so many at once.
const SMALL: i64 = 256 * 1024;
const AHEAD: usize = 32;

/// Gives `work` all differences in order, while another thread opens and reads the next ones: what is hashed has one
/// order, and reading takes as long as hashing.
fn ahead(
    root: BorrowedFd,
    differences: &[Difference],
    mut work: impl FnMut(&[u8], Is, Next) -> Result<()>,
) -> Result<()> {
    if differences.len() < 2 * AHEAD {
        return differences.iter().try_for_each(|it| work(&it.path, it.is, next(root, it)?));
    }
    let (sender, receiver) = channel::bounded(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for difference in differences {
                // Nobody takes it once one has failed.
                if sender.send((difference, next(root, difference))).is_err() {
                    break;
                }
            }
        });
        for (difference, next) in receiver {
            work(&difference.path, difference.is, next?)?;
        }
        Ok(())
    })
}

fn next(root: BorrowedFd, difference: &Difference) -> Result<Next> {
    let at = &difference.path;
    if difference.is == Is::Deleted {
        return Ok(Next::Deleted);
    }
    let Some(fd) = tree::look(root, at)? else { return Ok(Next::Gone) };
    let stat = fstat(&fd).with_context(|| format!("look at {}", path::show(at)))?;
    let mut content = None;
    if is_file(&stat) && stat.st_nlink == 1 && stat.st_size <= SMALL {
        let reading = || format!("read {}", path::show(at));
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(path::of_fd(fd.as_fd()).as_c_str(), flags, Mode::empty()).with_context(reading)?;
        let mut bytes = Vec::with_capacity(stat.st_size as usize + 1);
        File::from(file).take(stat.st_size as u64 + 1).read_to_end(&mut bytes).with_context(reading)?;
        content = Some(bytes).filter(|bytes| bytes.len() as i64 == stat.st_size);
    }
    Ok(Next::There(fd, stat, content))
}

/// Takes away what overlayfs left and no tar says: a whiteout of what was never there, a directory that was only looked
/// at, a socket.
fn prune(root: BorrowedFd, said: &HashSet<&[u8]>) -> Result<()> {
    let mut rubbish = Vec::new();
    tree::glance(root, &mut |path, _, stat| {
        let kept = said.contains(path) && !is_socket(stat);
        if !kept {
            rubbish.push((path.to_vec(), is_dir(stat)));
        }
        Ok(!is_whiteout(stat))
    })?;
    for (at, dir) in rubbish.into_iter().rev() {
        let (parent, name) = path::split(&at);
        let parent = path::open_dir(root, parent, path::NO_LINKS).with_context(|| path::show(&at))?;
        let flags = if dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        unlinkat(&parent, name, flags).with_context(|| format!("remove {}", path::show(&at)))?;
    }
    Ok(())
}

fn is_socket(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFSOCK
}

/// Sets a modification time, also in what is known of the file.
fn set_time(root: BorrowedFd, at: &[u8], stat: &mut FileStat, seconds: i64, nanos: i64) -> Result<()> {
    let (parent, name) = path::split(at);
    let setting = || format!("set the time of {}", path::show(at));
    let parent = path::open_dir(root, parent, path::NO_LINKS).with_context(setting)?;
    let time = TimeSpec::new(seconds, nanos);
    utimensat(&parent, name, &time, &time, UtimensatFlags::NoFollowSymlink).with_context(setting)?;
    *stat = fstatat(&parent, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).with_context(setting)?;
    Ok(())
}

/// What is written is hashed and counted.
struct Hashed {
    hasher: Hasher,
    length: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::assemble::assemble;
    use crate::fs::overlay::{self, Upper};
    use crate::fs::unpack::tests::{Scratch, able};
    use crate::fs::unpack::unpack;
    use std::fs;
    use std::os::fd::AsRawFd;

    /// The kernel makes the upper directory; sealed, it gives back the tar that others unpack to the same.
    #[test]
    fn a_sealed_layer_gives_its_tar() {
        if !able() {
            return;
        }
        let scratch = Scratch::new();
        let lower = scratch.layer("lower");
        fs::create_dir_all(lower.join("fs/etc")).unwrap();
        fs::create_dir_all(lower.join("fs/gone")).unwrap();
        fs::write(lower.join("fs/etc/old"), "old").unwrap();
        let staging = scratch.layer("new");
        fs::create_dir(staging.join("fs")).unwrap();
        let (work, at) = (scratch.layer("work"), scratch.layer("at"));
        let upper = Upper { upper: staging.join("fs"), work, volatile: true, label: String::new() };
        let mounted = match overlay::mount(&[lower.join("fs")], Some(&upper), &at) {
            Ok(mounted) => mounted,
            Err(error) => return crate::skip::skip(&format!("{error:#}")).unwrap_or_default(),
        };
        let root = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
        fs::write(root.join("etc/new"), "new").unwrap();
        fs::hard_link(root.join("etc/new"), root.join("etc/twin")).unwrap();
        fs::remove_file(root.join("etc/old")).unwrap();
        fs::remove_dir(root.join("gone")).unwrap();
        fs::write(root.join("coming"), "").unwrap();
        fs::remove_file(root.join("coming")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("etc/socket"));
        drop(mounted);
        let lowers = [lower.join("fs")];
        let times = Times { latest: Some(1_000_000_000), kept: false };
        let sealed = seal(&staging, &lowers, times).unwrap().unwrap();
        assert_eq!((sealed.size, sealed.newest), (3, 1_000_000_000));
        let mut tar = Vec::new();
        assert_eq!(assemble(&staging, &mut tar).unwrap(), sealed.diff_id);
        let again = scratch.layer("again");
        assert_eq!(unpack(&mut &tar[..], &again).unwrap().diff_id, sealed.diff_id);
        let names = |dir: &Path| {
            let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for dir in ["fs", "fs/etc"] {
            assert_eq!(names(&staging.join(dir)), names(&again.join(dir)), "{dir}");
        }
        assert_eq!(names(&staging.join("fs/etc")), ["new", "old", "twin"]);
        assert!(fs::read(staging.join(HIDDEN)).unwrap().starts_with(b"wetc/old\0"));

        let nothing = scratch.layer("nothing");
        fs::create_dir_all(nothing.join("fs/etc")).unwrap();
        let metadata = fs::metadata(lower.join("fs/etc")).unwrap();
        fs::set_permissions(nothing.join("fs/etc"), metadata.permissions()).unwrap();
        assert!(seal(&nothing, &lowers, Times::default()).unwrap().is_none());
    }
}
