//! What is copied, as one digest: names, kinds, modes, contents. Not its times, and not where it lies on this machine.

use super::gather::{Item, Tree};
use super::place::{self, Content};
use crate::fs::stat::{is_dir, is_file};
use crate::fs::{path, tree};
use crate::oci::Digest;
use anyhow::{Context, Result};
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file as its inode tells it: as long as all of this is the same, so is what is in it.
type Inode = (u64, u64, i64, i64, i64, i64, i64);

fn inode(stat: &FileStat) -> Inode {
    let stat = *stat;
    (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}

/// Digests of the files of a context, so that what did not change is not read again.
pub struct Known {
    /// None where nothing is kept.
    path: Option<PathBuf>,
    files: HashMap<Inode, Content>,
    /// What was asked for in this build: all that is written.
    used: HashMap<Inode, Content>,
    changed: bool,
}

const MAGIC: &[u8; 8] = b"dhowctx1";
const RECORD: usize = 7 * 8 + 32;
/// A file that was changed so lately, in nanoseconds, may change again with the same time.
const FRESH: i128 = 2_000_000_000;
/// Larger lists are not kept.
const MOST: usize = 4_000_000;

impl Known {
    /// Reads what is known of a context; anything that is not of our writing is nothing.
    pub fn load(path: Option<&Path>) -> Known {
        let mut known =
            Known { path: path.map(Path::to_owned), files: HashMap::new(), used: HashMap::new(), changed: false };
        let Some(bytes) = path.and_then(|path| std::fs::read(path).ok()) else { return known };
        let Some(records) = bytes.strip_prefix(MAGIC) else { return known };
        let (records, rest) = records.as_chunks::<RECORD>();
        if !rest.is_empty() {
            return known;
        }
        for record in records {
            let (numbers, _) = record[..RECORD - 32].as_chunks::<8>();
            let n = |at: usize| i64::from_le_bytes(numbers[at]);
            let mut digest = [0; 32];
            digest.copy_from_slice(&record[RECORD - 32..]);
            known.files.insert((n(0) as u64, n(1) as u64, n(2), n(3), n(4), n(5), n(6)), digest);
        }
        known
    }

    /// Notes what is in a file that was looked at before it was read; `now` is a time before that.
    pub fn learn(&mut self, stat: &FileStat, content: Content, now: i128) {
        let changed = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
        if changed + FRESH < now && self.path.is_some() {
            self.used.insert(inode(stat), content);
            self.changed = true;
        }
    }

    /// Writes it, where anything is new. It may be lost: then files are read once more.
    pub fn save(&self) {
        let Some(path) = self.path.as_ref().filter(|_| self.changed && self.used.len() <= MOST) else { return };
        let mut bytes = Vec::with_capacity(8 + self.used.len() * RECORD);
        bytes.extend_from_slice(MAGIC);
        for (key, digest) in &self.used {
            for number in [key.0 as i64, key.1 as i64, key.2, key.3, key.4, key.5, key.6] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(digest);
        }
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
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (item, content) in items.iter().zip(contents) {
        let stat = &item.stat;
        field(&item.name);
        field(&[u8::from(item.top)]);
        // What is in a directory is told by what follows; how a top one looks counts where it is made anew.
        field(&stat.st_mode.to_le_bytes());
        if is_file(stat) {
            field(content);
        } else if !is_dir(stat) {
            field(&stat.st_rdev.to_le_bytes());
            if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFLNK
                && let Some(fd) = tree::look(from.root.as_fd(), &item.path)?
            {
                let target = readlinkat(&fd, "").with_context(|| format!("read {}", path::show(&item.path)))?;
                field(target.as_bytes());
            }
        }
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&format!("sha256:{hex}"))
}

fn contents(from: &Tree, items: &[Item], known: &mut Known) -> Result<Vec<Content>> {
    let mut found = vec![[0; 32]; items.len()];
    let mut missing = Vec::new();
    for (at, item) in items.iter().enumerate().filter(|(_, item)| is_file(&item.stat)) {
        let key = inode(&item.stat);
        match known.files.get(&key) {
            Some(digest) => {
                found[at] = *digest;
                known.used.insert(key, *digest);
            }
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
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8).min(missing.len().div_ceil(64));
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
