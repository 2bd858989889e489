//! What is copied, as one digest: names, kinds, modes, contents. Not its times, and not where it lies on this machine.

use super::gather::{Item, Tree};
use super::place::{self, Content};
use crate::fs::stat::{is_dir, is_file};
use crate::fs::{path, tree};
use crate::log;
use crate::oci::{Digest, hex};
use anyhow::{Context, Result};
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file as its inode tells it: as long as all of this is the same, so is what is in it.
type Inode = [u8; INODE];

fn inode(stat: &FileStat) -> Inode {
    let stat = *stat;
    let numbers = [
        stat.st_dev as i64,
        stat.st_ino as i64,
        stat.st_size,
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_ctime,
        stat.st_ctime_nsec,
    ];
    let mut inode = [0; INODE];
    for (place, number) in inode.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
    inode
}

/// Digests of the files of a context, so that what did not change is not read again.
pub struct Known {
    /// None where nothing is kept.
    path: Option<PathBuf>,
    /// What is known: an inode and a digest each.
    records: Vec<[u8; RECORD]>,
    /// Where they are, by device and number of the inode.
    places: HashMap<[u8; 16], usize, BuildHasherDefault<Number>>,
    /// What was asked for in this build: all that is written.
    used: Vec<[u8; RECORD]>,
    /// Which of the records are among those.
    noted: Vec<bool>,
    changed: bool,
}

/// The hash of an inode's number, which is its own; that of its device counts little.
#[derive(Default)]
struct Number(u64);

impl Hasher for Number {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.as_chunks::<8>().0 {
            // The golden ratio: numbers in a row are spread over all bits.
            self.0 = (self.0.rotate_left(32) ^ u64::from_le_bytes(*piece)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const MAGIC: &[u8; 8] = b"dhowctx1";
const INODE: usize = 7 * 8;
const RECORD: usize = INODE + 32;
/// A file that was changed so lately, in nanoseconds, may change again with the same time.
const FRESH: i128 = 2_000_000_000;
/// Larger lists are not kept.
const MOST: usize = 4_000_000;

impl Known {
    /// Reads what is known of a context; anything that is not of our writing is nothing.
    pub fn load(path: Option<&Path>) -> Known {
        let bytes = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let records = match bytes.strip_prefix(MAGIC).map(<[u8]>::as_chunks) {
            Some((records, [])) => records.to_vec(),
            _ => Vec::new(),
        };
        let noted = vec![false; records.len()];
        let mut places = HashMap::with_capacity_and_hasher(records.len(), BuildHasherDefault::default());
        places.extend(records.iter().enumerate().filter_map(|(at, record)| Some((*record.first_chunk()?, at))));
        Known { path: path.map(Path::to_owned), records, places, used: Vec::new(), noted, changed: false }
    }

    /// What is in a file, if that is known.
    fn find(&mut self, inode: &Inode) -> Option<Content> {
        let at = *self.places.get(inode.first_chunk()?)?;
        if !self.records[at].starts_with(inode) {
            return None;
        }
        if !std::mem::replace(&mut self.noted[at], true) {
            self.used.push(self.records[at]);
        }
        self.records[at].last_chunk().copied()
    }

    /// Notes what is in a file that was looked at before it was read; `now` is a time before that.
    pub fn learn(&mut self, stat: &FileStat, content: Content, now: i128) {
        let changed = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
        if changed + FRESH < now && self.path.is_some() {
            let mut record = [0; RECORD];
            record[..INODE].copy_from_slice(&inode(stat));
            record[INODE..].copy_from_slice(&content);
            self.used.push(record);
            self.changed = true;
        }
    }

    /// Writes it, where anything is new. It may be lost: then files are read once more.
    pub fn save(&self) {
        let Some(path) = self.path.as_ref().filter(|_| self.changed && self.used.len() <= MOST) else { return };
        let bytes = [&MAGIC[..], self.used.as_flattened()].concat();
        if let Err(error) = crate::engine::store::write_file(path, &bytes, false) {
            log::debug!("{error:#}");
        }
    }
}

/// The digest of entries. Contents are read side by side.
pub fn of(from: &Tree, items: &[Item], known: &mut Known) -> Result<Digest> {
    let contents = contents(from, items, known)?;
    with(from, items, &contents)
}

/// The same where the contents' digests are at hand.
pub fn with(from: &Tree, items: &[Item], contents: &[Content]) -> Result<Digest> {
    let mut hash = Sha256::new();
    // Many small pieces, which are hashed many at once.
    let mut text = Vec::with_capacity(2 * BLOCK);
    for (item, content) in items.iter().zip(contents) {
        let stat = &item.stat;
        field(&mut text, item.name());
        field(&mut text, &[u8::from(item.top)]);
        if item.top {
            continue;
        }
        // What is in a directory is told by what follows.
        field(&mut text, &stat.st_mode.to_le_bytes());
        if from.owned {
            field(&mut text, &stat.st_uid.to_le_bytes());
            field(&mut text, &stat.st_gid.to_le_bytes());
        }
        if is_file(stat) {
            field(&mut text, content);
        } else if !is_dir(stat) {
            field(&mut text, &stat.st_rdev.to_le_bytes());
            match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFLNK => {
                    if let Some(fd) = tree::look(from.root.as_fd(), &item.path)? {
                        let target = readlinkat(&fd, "").with_context(|| format!("read {}", path::show(&item.path)))?;
                        field(&mut text, target.as_bytes());
                    }
                }
                // An empty file is made of it.
                SFlag::S_IFSOCK => field(&mut text, &[]),
                _ => {}
            }
        }
        if text.len() >= BLOCK {
            hash.update(&text);
            text.clear();
        }
    }
    hash.update(&text);
    Digest::parse(&format!("sha256:{}", hex(&hash.finalize())))
}

const BLOCK: usize = 16 * 1024;

fn field(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    text.extend_from_slice(bytes);
}

fn contents(from: &Tree, items: &[Item], known: &mut Known) -> Result<Vec<Content>> {
    let mut found = vec![[0; 32]; items.len()];
    let mut missing = Vec::new();
    for (at, item) in items.iter().enumerate().filter(|(_, item)| is_file(&item.stat)) {
        match known.find(&inode(&item.stat)) {
            Some(digest) => found[at] = digest,
            None => missing.push(at),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let now = now()?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(missing.len()));
    let work = || -> Result<()> {
        let mut buffer = vec![0; 128 * 1024];
        let mut mine = Vec::new();
        loop {
            let start = next.fetch_add(16, Ordering::Relaxed);
            if start >= missing.len() {
                break;
            }
            for at in &missing[start..missing.len().min(start + 16)] {
                let item = &items[*at];
                let digest =
                    content(from, item, &mut buffer).with_context(|| format!("read {}", path::show(&item.path)))?;
                mine.push((*at, digest));
            }
        }
        results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(mine);
        Ok(())
    };
    let threads = crate::sys::processors().min(8).min(missing.len().div_ceil(64));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            let other = other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread that reads files panicked")));
            done = done.and(other);
        }
        done
    })?;
    for (at, digest) in results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        found[at] = digest;
        known.learn(&items[at].stat, digest, now);
    }
    Ok(found)
}

/// Nanoseconds since 1970.
pub fn now() -> Result<i128> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).context("ask for the time")?;
    Ok(i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec()))
}

fn content(from: &Tree, item: &Item, buffer: &mut [u8]) -> Result<Content> {
    let file = place::open(from.root.as_fd(), &item.path)?;
    let mut hash = Sha256::new();
    place::each(&file, buffer, |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    place::rights(file.as_fd(), &mut hash)?;
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::unpack::tests::Scratch;

    #[test]
    fn what_is_known_is_found_in_any_order() {
        let scratch = Scratch::new();
        let path = scratch.0.join("known");
        let stat = |n: u64| {
            let mut stat = nix::sys::stat::stat("/").unwrap();
            (stat.st_ino, stat.st_ctime) = (n, 1);
            stat
        };
        let content = |n: u64| [n as u8; 32];
        let mut known = Known::load(Some(&path));
        (0..9).for_each(|n| known.learn(&stat(n), content(n), now().unwrap()));
        // One that may yet change unseen.
        known.learn(&nix::sys::stat::stat(&scratch.0).unwrap(), [0; 32], now().unwrap());
        known.save();
        for order in [vec![0, 1, 2, 3], vec![3, 2, 1, 0, 0, 3], vec![8, 7], vec![10, 0, 10, 1], vec![]] {
            let mut known = Known::load(Some(&path));
            assert_eq!(known.records.len(), 9);
            for n in &order {
                assert_eq!(known.find(&inode(&stat(*n))), Some(content(*n)).filter(|_| *n < 9), "{order:?}");
            }
            let distinct: std::collections::BTreeSet<_> = order.iter().filter(|n| **n < 9).collect();
            assert_eq!(known.used.len(), distinct.len());
            // Nothing is new, so nothing is written.
            known.save();
        }
        std::fs::write(&path, [&MAGIC[..], &[0; 9]].concat()).unwrap();
        assert!(Known::load(Some(&path)).records.is_empty());
    }
}
