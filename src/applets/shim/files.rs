//! The files of a log as the shim numbers them, which is the only one to rotate them while it lives.

use super::behind::Position;
use crate::engine::logs::packed::Packed;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// So many clients are in the middle of compressed files at once, each with some room of its own; one more costs one of
/// them the way from the file's start.
const UNPACKING: usize = 16;

pub struct Files {
    path: String,
    /// How many are kept, with the one that is written to.
    keep: u64,
    newest: u32,
    /// Open whatever becomes of their names, and whether they are compressed.
    open: Vec<(u32, File, bool)>,
    unpacking: Vec<Unpacking>,
    /// Where the newest one ends for who reads here, whatever the next run adds to it.
    end: Option<u64>,
}

/// Somebody's place in a compressed file, with what was read there last: he may come back for a part of it.
struct Unpacking {
    number: u32,
    from: u64,
    bytes: Vec<u8>,
    packed: Packed,
}

/// A file that was rotated away, as it is or compressed.
pub fn numbered(path: &str, back: u64) -> String {
    if back == 0 { path.to_owned() } else { format!("{path}.{back}") }
}

pub fn compressed(path: &str, back: u64) -> String {
    format!("{path}.{back}.gz")
}

/// How many were rotated away.
pub fn older(path: &str, keep: u64) -> u64 {
    let exists = |name: String| fs::exists(name).unwrap_or(false);
    let is_there = |back: &u64| exists(numbered(path, *back)) || exists(compressed(path, *back));
    (1..keep).take_while(is_there).count() as u64
}

impl Files {
    pub fn find(path: String, keep: u64) -> Files {
        let newest = older(&path, keep) as u32;
        Files { path, keep, newest, open: Vec::new(), unpacking: Vec::new(), end: None }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn newest(&self) -> u32 {
        self.newest
    }

    pub fn keep(&self) -> u64 {
        self.keep
    }

    /// Before all that is kept.
    pub fn start(&self) -> Position {
        let older = u32::try_from(self.keep.saturating_sub(1)).unwrap_or(u32::MAX);
        Position { file: self.newest.saturating_sub(older), ..Position::default() }
    }

    /// The name of a file, by how many were begun after it.
    pub fn name(&self, back: u64) -> String {
        numbered(&self.path, back)
    }

    /// Makes room for a new file: `x.log` becomes `x.log.1`, and so on up to the number of files that are kept.
    pub fn shift(&self, compress: bool) {
        let last = self.keep - 1;
        if compress {
            // In one form it would stand beside the other form of what comes in its place.
            let _ = fs::remove_file(compressed(&self.path, last));
            let _ = fs::remove_file(self.name(last));
        }
        for back in (0..last).rev() {
            if compress && back > 0 {
                let _ = fs::rename(compressed(&self.path, back), compressed(&self.path, back + 1));
            }
            let _ = fs::rename(self.name(back), self.name(back + 1));
            crate::failpoint::reach("pack.shifted");
        }
    }

    /// A new file has been begun.
    pub fn rotated(&mut self) {
        self.newest += 1;
        let (newest, keep) = (self.newest, self.keep.max(1));
        self.open.retain(|(number, ..)| u64::from(newest - number) < keep);
        self.unpacking.retain(|unpacking| u64::from(newest - unpacking.number) < keep);
    }

    /// A file has been compressed, which somebody may be in the middle of.
    pub fn keep_plain(&mut self, back: u64, plain: File) {
        if let Some(number) = u32::try_from(back).ok().and_then(|back| self.newest.checked_sub(back)) {
            self.open.push((number, plain, false));
        }
    }

    /// Nobody is in the middle of anything.
    pub fn let_go(&mut self) {
        (self.open, self.unpacking) = (Vec::new(), Vec::new());
    }

    /// Opens what there is from a file on, up to where the newest one ends now.
    pub fn keep_open(&mut self, from: u32, end: u64) {
        self.end = Some(end);
        for number in from..=self.newest {
            if !self.open.iter().any(|(open, ..)| *open == number)
                && let Ok(Some((file, is_packed))) = self.opened(number)
            {
                self.open.push((number, file, is_packed));
            }
        }
    }

    fn opened(&self, number: u32) -> io::Result<Option<(File, bool)>> {
        let back = u64::from(self.newest - number);
        if back >= self.keep.max(1) {
            return Ok(None);
        }
        for (name, is_packed) in [(self.name(back), false), (compressed(&self.path, back), true)] {
            match File::open(name) {
                Ok(file) => return Ok(Some((file, is_packed))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads into `buffer`; nothing from a file that is not there any more.
    pub fn read(&mut self, at: &Position, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let left = self.end.filter(|_| at.file == self.newest).map(|end| end.saturating_sub(at.offset));
        let most = left.map_or(buffer.len(), |left| buffer.len().min(left as usize));
        let buffer = &mut buffer[..most];
        if let Some(place) = self.unpacking.iter().position(|unpacking| unpacking.is_at(at)) {
            return self.unpack(place, at, buffer).map(Some);
        }
        let file = match self.open.iter().find(|(number, ..)| *number == at.file) {
            Some((_, file, false)) => return file.read_at(buffer, at.offset).map(Some),
            Some((_, file, true)) => file.try_clone()?,
            None => match self.opened(at.file)? {
                Some((file, false)) => return file.read_at(buffer, at.offset).map(Some),
                Some((file, true)) => file,
                // One that nothing was written to yet.
                None if at.file == self.newest => return Ok(Some(0)),
                None => return Ok(None),
            },
        };
        if self.unpacking.len() >= UNPACKING {
            self.unpacking.remove(0);
        }
        let packed = Packed::new(file);
        self.unpacking.push(Unpacking { number: at.file, from: at.offset, bytes: Vec::new(), packed });
        self.unpack(self.unpacking.len() - 1, at, buffer).map(Some)
    }

    fn unpack(&mut self, place: usize, at: &Position, buffer: &mut [u8]) -> io::Result<usize> {
        let Unpacking { from, bytes, packed, .. } = &mut self.unpacking[place];
        bytes.drain(..(at.offset - *from) as usize);
        *from = at.offset;
        let held = bytes.len();
        if held < buffer.len() {
            bytes.resize(buffer.len(), 0);
            let filled = packed.fill(&mut bytes[held..], at.offset + held as u64);
            bytes.truncate(held + filled.as_ref().copied().unwrap_or(0));
            filled?;
        }
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        if length == 0 {
            self.unpacking.remove(place);
        }
        Ok(length)
    }
}

impl Unpacking {
    fn is_at(&self, at: &Position) -> bool {
        self.number == at.file && (self.from..=self.from + self.bytes.len() as u64).contains(&at.offset)
    }
}
