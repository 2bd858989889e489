//! The files of a log while they are being written and rotated.

use super::Options;
use super::packed::{self, Identity, Packed, identity};
use super::print::Printer;
use super::scan;
use crate::order;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One file of a log.
pub struct Segment {
    file: File,
    own: Identity,
    /// Of a compressed one, while it is read.
    packed: Option<Box<Packed>>,
    is_packed: bool,
    /// Bytes, when it was opened; of a compressed one nobody knows.
    pub size: u64,
    /// When it was last written to, in seconds since 1970.
    changed: i64,
}

/// A file as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// 0 is the one that is written to.
    number: u32,
    is_packed: bool,
    own: Identity,
    /// What a compressed one was made of.
    origin: Option<Identity>,
}

impl Seen {
    /// Whether it is what somebody reads, or was made of it. While that one is open, nobody else has its identity, but
    /// somebody may have had it before.
    fn holds(&self, segment: &Segment) -> bool {
        self.own == segment.own || !segment.is_packed && self.origin == Some(segment.own)
    }
}

/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// An entry that is longer is no entry.
const LONGEST: usize = 1024 * 1024;

/// How often a look at files that change meanwhile is taken anew. A rotation is a few renames.
const LOOKS: usize = 1000;

/// The files of a log, by their number.
fn look(path: &Path) -> Result<Vec<Seen>> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        let file = entry.file_name();
        let Some(rest) = file.as_encoded_bytes().strip_prefix(name) else { continue };
        let (rest, is_packed) = match rest.strip_suffix(b".gz") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let number = match rest {
            [] => Some(0).filter(|_| !is_packed),
            [b'.', digits @ ..] => str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0),
            _ => None,
        };
        let Some(number) = number else { continue };
        // What was renamed since it was listed is found by the next look.
        if is_packed {
            let Ok(file) = File::open(entry.path()) else { continue };
            let Ok(meta) = file.metadata() else { continue };
            found.push(Seen { number, is_packed, own: identity(&meta), origin: packed::origin(&file) });
        } else if let Ok(meta) = entry.metadata() {
            found.push(Seen { number, is_packed, own: identity(&meta), origin: None });
        }
    }
    order::sort(&mut found);
    Ok(found)
}

/// Each file once: one that was just compressed is there in both forms, until the first is removed.
fn distinct(seen: &[Seen]) -> impl DoubleEndedIterator<Item = &Seen> {
    let twice = |index: &usize| seen[*index].is_packed && *index > 0 && seen[*index - 1].number == seen[*index].number;
    (0..seen.len()).filter(move |index| !twice(index)).map(|index| &seen[index])
}

fn numbered(path: &Path, number: u32, is_packed: bool) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}{}", if is_packed { ".gz" } else { "" }));
            name.into()
        }
    }
}

impl Segment {
    /// Opens a file of the log; nothing where it is not the one that was seen.
    fn open(path: &Path, seen: &Seen) -> Result<Option<Segment>> {
        let path = numbered(path, seen.number, seen.is_packed);
        let opened = File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        match opened {
            Ok((file, meta)) if identity(&meta) == seen.own => Ok(Some(Segment {
                file,
                own: seen.own,
                packed: None,
                is_packed: seen.is_packed,
                size: if seen.is_packed { u64::MAX } else { meta.len() },
                changed: meta.mtime(),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
        }
    }

    fn unpacked(&mut self) -> io::Result<&mut Packed> {
        let packed = match self.packed.take() {
            Some(packed) => packed,
            None => Box::new(Packed::new(self.file.try_clone()?)),
        };
        Ok(self.packed.insert(packed))
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.is_packed { self.unpacked()?.read_at(buffer, offset) } else { self.file.read_at(buffer, offset) }
    }
}

/// Opens all files of a log, the oldest first, as they were at one moment between two rotations.
pub fn open(path: &Path) -> Result<Vec<Segment>> {
    let mut seen = look(path)?;
    for _ in 0..LOOKS {
        let mut segments = Vec::new();
        for file in distinct(&seen).rev() {
            segments.extend(Segment::open(path, file)?);
        }
        let now = look(path)?;
        if now == seen && segments.len() == distinct(&seen).count() {
            return Ok(segments);
        }
        seen = now;
    }
    anyhow::bail!("read {}: it is rotated faster than it can be opened", path.display())
}

/// The file that was begun after `current` was rotated away; nothing while `current` is the one written to.
pub fn after(path: &Path, current: &Segment) -> Result<Option<Segment>> {
    for _ in 0..LOOKS {
        if fs::metadata(path).is_ok_and(|meta| identity(&meta) == current.own) {
            return Ok(None);
        }
        // Asked before the look: one that is only compressed is there in that form by then.
        let is_gone = current.file.metadata().is_ok_and(|meta| meta.nlink() == 0);
        let seen = look(path)?;
        let next = match seen.iter().find(|file| file.holds(current)) {
            Some(found) => distinct(&seen).rfind(|file| file.number < found.number),
            // Rotated out of existence: the oldest that is left goes on. Else a rename hid it from this look.
            None if is_gone => distinct(&seen).next_back(),
            None => continue,
        };
        let opened = next.map(|next| Segment::open(path, next)).transpose()?.flatten();
        // Two files were numbered alike for a moment if a rename came between the parts of the look.
        if opened.is_some() == next.is_some() && look(path)? == seen {
            return Ok(opened);
        }
    }
    Ok(None)
}

/// Where to start in each file; nothing where a file need not be read.
pub fn starts(segments: &mut [Segment], options: &Options) -> io::Result<Vec<Option<u64>>> {
    let mut starts = vec![None; segments.len()];
    let mut wanted = options.tail;
    for (segment, start) in segments.iter_mut().zip(&mut starts).rev() {
        *start = match &mut wanted {
            None => Some(0),
            Some(wanted) => Some(tail(segment, wanted)?),
        };
        if wanted == Some(0) {
            break;
        }
    }
    if let (Some(since), [rotated @ .., _]) = (options.since, starts.as_mut_slice()) {
        for (segment, start) in segments.iter().zip(rotated) {
            // A file's time is that of a coarse clock.
            if segment.changed + 2 < since.seconds {
                *start = None;
            }
        }
    }
    Ok(starts)
}

/// Where the last `wanted` entries of a file begin. Takes off `wanted` how many there are.
fn tail(segment: &mut Segment, wanted: &mut u64) -> io::Result<u64> {
    if segment.is_packed {
        let found = segment.unpacked()?.tail(wanted);
        // There may be many, and each has its window.
        segment.packed = None;
        return found;
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut end = segment.size;
    // The entries begin behind the newline of the one before.
    let mut newlines = wanted.saturating_add(1);
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let block = &mut buffer[..(end - start) as usize];
        segment.file.read_exact_at(block, start)?;
        let here = block.iter().filter(|byte| **byte == b'\n').count() as u64;
        if here >= newlines {
            let mut left = newlines;
            let at = block.iter().rposition(|byte| {
                left -= u64::from(*byte == b'\n');
                left == 0
            });
            *wanted = 0;
            return Ok(start + at.map_or(0, |at| at as u64 + 1));
        }
        newlines -= here;
        end = start;
    }
    *wanted = newlines - 1;
    Ok(0)
}

/// Reads a file's complete lines as far as it goes, and later what was written since.
pub struct Reader {
    pub segment: Segment,
    offset: u64,
    buffer: Vec<u8>,
    /// How much of the buffer holds the start of a line whose end is not there yet.
    held: usize,
    /// Inside a line that is too long.
    skipping: bool,
}

impl Reader {
    pub fn new(segment: Segment, offset: u64) -> Reader {
        Reader { segment, offset, buffer: Vec::new(), held: 0, skipping: false }
    }

    /// Prints the complete lines up to `limit` or the end of the file. False where nothing more is wanted.
    pub fn print(&mut self, limit: u64, printer: &mut Printer) -> Result<bool> {
        // With one file only, a rotation begins it anew.
        if !self.segment.is_packed && self.segment.file.metadata().is_ok_and(|meta| meta.len() < self.offset) {
            (self.offset, self.held, self.skipping) = (0, 0, false);
        }
        while self.offset < limit {
            if self.buffer.len() < self.held + BUFFER {
                self.buffer.resize(self.held + BUFFER, 0);
            }
            let most = usize::try_from(limit - self.offset).unwrap_or(usize::MAX).min(self.buffer.len() - self.held);
            let room = &mut self.buffer[self.held..self.held + most];
            let length = match self.segment.read_at(room, self.offset) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("read a log"),
            };
            self.offset += length as u64;
            let filled = self.held + length;
            let mut start = 0;
            let mut from = self.held;
            while let Some(newline) = scan::newline(&self.buffer[from..filled]) {
                let end = from + newline;
                if !std::mem::take(&mut self.skipping) && !printer.line(&self.buffer[start..end])? {
                    return Ok(false);
                }
                start = end + 1;
                from = start;
            }
            self.buffer.copy_within(start..filled, 0);
            self.held = filled - start;
            if self.held > LONGEST {
                self.skipping = true;
            }
            if self.skipping {
                self.held = 0;
            }
        }
        Ok(true)
    }
}
