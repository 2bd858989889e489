//! The files of a log while they are being written and rotated.

use super::Options;
use super::print::Printer;
use super::scan;
use crate::order;
use anyhow::{Context, Result};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One file of a log.
pub struct Segment {
    file: File,
    identity: Identity,
    /// Bytes, when it was opened.
    pub size: u64,
    /// When it was last written to, in seconds since 1970.
    changed: i64,
}

/// A file whatever its name: device and inode.
type Identity = (u64, u64);

fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// An entry that is longer is no entry.
const LONGEST: usize = 1024 * 1024;

/// How often a look at files that change meanwhile is taken anew. A rotation is a few renames.
const LOOKS: usize = 1000;

/// The files of a log, by their number: 0 is the one that is written to.
fn look(path: &Path) -> Result<Vec<(u32, Identity)>> {
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
        let number = match rest {
            [] => Some(0),
            [b'.', digits @ ..] => str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0),
            _ => None,
        };
        // Renamed since it was listed: the next look finds it.
        if let (Some(number), Ok(meta)) = (number, entry.metadata()) {
            found.push((number, identity(&meta)));
        }
    }
    order::sort(&mut found);
    Ok(found)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

impl Segment {
    /// Opens a file of the log; nothing where it is not the one that was seen.
    fn open(path: &Path, (number, expected): (u32, Identity)) -> Result<Option<Segment>> {
        let path = numbered(path, number);
        let opened = File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        match opened {
            Ok((file, meta)) if identity(&meta) == expected => {
                Ok(Some(Segment { file, identity: expected, size: meta.len(), changed: meta.mtime() }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
        }
    }
}

/// Opens all files of a log, the oldest first, as they were at one moment between two rotations.
pub fn open(path: &Path) -> Result<Vec<Segment>> {
    let mut seen = look(path)?;
    for _ in 0..LOOKS {
        let mut segments = Vec::new();
        for file in seen.iter().rev() {
            segments.extend(Segment::open(path, *file)?);
        }
        let now = look(path)?;
        if now == seen && segments.len() == seen.len() {
            return Ok(segments);
        }
        seen = now;
    }
    anyhow::bail!("read {}: it is rotated faster than it can be opened", path.display())
}

/// The file that was begun after `current` was rotated away; nothing while `current` is the one written to.
pub fn after(path: &Path, current: &Segment) -> Result<Option<Segment>> {
    for _ in 0..LOOKS {
        if fs::metadata(path).is_ok_and(|meta| identity(&meta) == current.identity) {
            return Ok(None);
        }
        let seen = look(path)?;
        let next = match seen.iter().position(|(_, identity)| *identity == current.identity) {
            Some(0) => return Ok(None),
            Some(at) => seen.get(at - 1),
            // Rotated out of existence: the oldest that is left goes on. Else a rename hid it from this look.
            None => match current.file.metadata() {
                Ok(meta) if meta.nlink() == 0 => seen.last(),
                _ => continue,
            },
        };
        let Some(next) = next else { return Ok(None) };
        if let Some(segment) = Segment::open(path, *next)? {
            // Two files were numbered alike for a moment if a rename came between the parts of the look.
            if look(path)? == seen {
                return Ok(Some(segment));
            }
        }
    }
    Ok(None)
}

/// Where to start in each file; nothing where a file need not be read.
pub fn starts(segments: &[Segment], options: &Options) -> io::Result<Vec<Option<u64>>> {
    let mut starts = vec![None; segments.len()];
    let mut wanted = options.tail;
    for (segment, start) in segments.iter().zip(&mut starts).rev() {
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
fn tail(segment: &Segment, wanted: &mut u64) -> io::Result<u64> {
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
        if self.segment.file.metadata().is_ok_and(|meta| meta.len() < self.offset) {
            (self.offset, self.held, self.skipping) = (0, 0, false);
        }
        while self.offset < limit {
            if self.buffer.len() < self.held + BUFFER {
                self.buffer.resize(self.held + BUFFER, 0);
            }
            let most = usize::try_from(limit - self.offset).unwrap_or(usize::MAX).min(self.buffer.len() - self.held);
            let room = &mut self.buffer[self.held..self.held + most];
            let length = match self.segment.file.read_at(room, self.offset) {
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
