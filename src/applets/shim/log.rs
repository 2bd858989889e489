//! The json-file log, written: one JSON object a line, rotated by size. A disk that is full costs lines, which are
//! counted, and never blocks the container.

use super::behind::{self, Behind, Position, Reader, Served};
use super::files::Files;
use super::pack::Job;
use crate::api::time::{TEXT, Time};
use crate::engine::logs::LogOptions;
use crate::engine::logs::encode::{LINE, Stream, encode, encode_first, room, tail, whole};
use crate::engine::logs::scan::newline;
use crate::sys::memory::Pages;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As much as entries of usual lines make of what is read at once: they are written by one call.
const ROOM: usize = 256 * 1024;

/// The two streams by number.
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

pub struct Log {
    file: OwnedFd,
    files: Files,
    /// Bytes after which a new file is begun; 0 is never.
    size: u64,
    /// What is rotated away is compressed; there may be something to compress.
    compress: bool,
    to_pack: bool,
    /// What `labels`, `env` and `tag` ask for in each entry: a JSON object, or nothing.
    attrs: String,
    /// How entries end that are written now.
    tail: Vec<u8>,
    written: u64,
    /// Lines whose end has not come yet.
    lines: [(Pages, usize); 2],
    out: Pages,
    used: usize,
    lost: u64,
}

impl Log {
    pub fn new(file: OwnedFd, path: String, options: &LogOptions) -> io::Result<Log> {
        let written = nix::sys::stat::fstat(&file).map_or(0, |stat| stat.st_size as u64);
        Ok(Log {
            file,
            files: Files::find(path, options.max_file),
            size: options.max_size,
            compress: options.compress,
            to_pack: options.compress,
            attrs: options.attrs.clone(),
            tail: Vec::new(),
            written,
            lines: [(Pages::zeroed(LINE)?, 0), (Pages::zeroed(LINE)?, 0)],
            out: Pages::zeroed(room(LINE, options.attrs.len()).max(ROOM))?,
            used: 0,
            lost: 0,
        })
    }

    /// The file that is written now.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Entries that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Lines without an end, for [`Log::take_over`] in another process: a shell's prompt may stand there for ever.
    pub fn hand_over(&self) -> io::Result<Option<OwnedFd>> {
        if self.lines.iter().all(|(_, held)| *held == 0) {
            return Ok(None);
        }
        // In memory and not among the arguments, which everybody may read.
        let fd = nix::sys::memfd::memfd_create(c"lines", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
        let mut file = File::from(fd);
        for (line, held) in &self.lines {
            file.write_all(&(*held as u32).to_ne_bytes())?;
            file.write_all(&line[..*held])?;
        }
        file.rewind()?;
        Ok(Some(file.into()))
    }

    /// Goes on with the lines, and the count of lost entries, of the process before.
    pub fn take_over(&mut self, lines: Option<OwnedFd>, lost: u64) -> io::Result<()> {
        self.lost = lost;
        let Some(mut file) = lines.map(File::from) else { return Ok(()) };
        for (line, held) in &mut self.lines {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            let length = u32::from_ne_bytes(length) as usize;
            let room = line.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
            file.read_exact(room)?;
            *held = length;
        }
        Ok(())
    }

    /// Behind all that was said.
    pub fn position(&self) -> Position {
        let skip = held(&self.lines).map(|held| behind::shown(held) as u32);
        Position { file: self.files.newest(), offset: self.written, skip }
    }

    /// Before all that is kept.
    pub fn start(&self) -> Position {
        self.files.start()
    }

    /// Opens what there is from a file on, because the log may be removed while it is read.
    pub fn keep_open(&mut self, from: u32) {
        self.files.keep_open(from, self.written);
    }

    /// Nobody is behind any more.
    pub fn let_go(&mut self) {
        self.files.let_go();
    }

    pub fn path(&self) -> &str {
        self.files.path()
    }

    /// What is to be compressed next.
    pub fn next_job(&mut self) -> Option<Job> {
        if !self.to_pack {
            return None;
        }
        let job = Job::find(self.files.path(), self.files.keep()).ok().flatten();
        self.to_pack = job.is_some();
        job
    }

    /// A file has been compressed, or, where that could not be done, is left as it is until the next rotation. Somebody
    /// may read it.
    pub fn packed(&mut self, job: Job, is_done: bool, is_read: bool) {
        let (path, keep) = (self.files.path(), self.files.keep());
        let done = match is_done {
            true => job.commit(path, keep),
            false => {
                job.give_up(path);
                Err(io::ErrorKind::Other.into())
            }
        };
        match done {
            Ok(Some((back, plain))) if is_read => self.files.keep_plain(back, plain),
            Ok(_) => {}
            Err(_) => self.to_pack = false,
        }
    }

    /// Gives a client more of what it is behind with.
    pub fn serve(&mut self, reader: &Reader, behind: &mut Behind) -> io::Result<Served> {
        // Nothing waits in the buffer between two writes.
        behind::serve(reader, behind, &mut self.files, held(&self.lines), &mut self.out)
    }

    /// Takes what a stream (0 stdout, 1 stderr) has said.
    pub fn write(&mut self, stream: usize, mut bytes: &[u8]) {
        self.begin(stream);
        while !bytes.is_empty() {
            let held = self.lines[stream].1;
            let room = LINE - held;
            if held == 0 {
                self.turn();
                let first = &bytes[..room.min(bytes.len())];
                if let Some((taken, length)) = encode_first(first, &self.tail, &mut self.out[self.used..]) {
                    self.used += length;
                    bytes = &bytes[taken..];
                    continue;
                }
            }
            let newline = newline(&bytes[..room.min(bytes.len())]);
            let mut taken = newline.map_or(room.min(bytes.len()), |at| at + 1);
            let full = newline.is_none() && taken == room;
            if held == 0 && (newline.is_some() || full) {
                if full {
                    taken = whole(&bytes[..taken]);
                }
                self.entry(&bytes[..taken]);
            } else {
                let (line, length) = &mut self.lines[stream];
                line[held..held + taken].copy_from_slice(&bytes[..taken]);
                *length += taken;
                if newline.is_some() || full {
                    self.pending(stream, full);
                }
            }
            bytes = &bytes[taken..];
        }
        self.flush();
    }

    /// Entries of a stream, at this time.
    fn begin(&mut self, stream: usize) {
        tail(&mut self.tail, STREAMS[stream], Time::now().write(&mut [0; TEXT]), self.attrs.as_bytes());
    }

    /// A stream has ended: what it said last had no newline.
    pub fn end(&mut self, stream: usize) {
        self.begin(stream);
        self.pending(stream, false);
        self.flush();
    }

    /// Writes what is held of a line. Where more of it will follow, a character that is not whole is held on to.
    fn pending(&mut self, stream: usize, more: bool) {
        let (line, length) = &mut self.lines[stream];
        if *length == 0 {
            return;
        }
        let (mut line, length) = (std::mem::take(line), std::mem::take(length));
        let end = if more { whole(&line[..length]) } else { length };
        self.entry(&line[..end]);
        line.copy_within(end..length, 0);
        self.lines[stream] = (line, length - end);
    }

    /// Begins a new file where it is time to.
    fn turn(&mut self) {
        if self.size > 0 && self.written + self.used as u64 >= self.size {
            self.flush();
            self.rotate();
        }
    }

    fn entry(&mut self, line: &[u8]) {
        self.turn();
        if self.out.len() - self.used < room(line.len(), self.attrs.len()) {
            self.flush();
        }
        let entry = encode(line, &self.tail, &mut self.out[self.used..]);
        self.used += entry.map_or(0, <[u8]>::len);
    }

    fn flush(&mut self) {
        let mut from = 0;
        while from < self.used {
            match nix::unistd::write(&self.file, &self.out[from..self.used]) {
                Ok(length) => from += length,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => {
                    self.lost += self.out[from..self.used].iter().filter(|byte| **byte == b'\n').count() as u64;
                    break;
                }
            }
        }
        self.written += from as u64;
        self.used = 0;
    }

    fn rotate(&mut self) {
        let files = &mut self.files;
        if files.keep() <= 1 {
            if nix::unistd::ftruncate(&self.file, 0).is_ok() {
                files.rotated();
                self.written = 0;
            }
            return;
        }
        // It is not there where a new one could not be made the last time.
        if std::fs::exists(files.name(0)).unwrap_or(true) {
            files.shift(self.compress);
        }
        use std::os::unix::fs::OpenOptionsExt;
        if let Ok(file) = std::fs::OpenOptions::new().append(true).create_new(true).mode(0o640).open(files.name(0)) {
            self.file = file.into();
            files.rotated();
            self.written = 0;
            self.to_pack = self.compress;
        }
    }
}

/// What is there of lines whose end has not come yet.
fn held(lines: &[(Pages, usize); 2]) -> [&[u8]; 2] {
    lines.each_ref().map(|(line, length)| &line[..*length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_entries_and_files_rotate() {
        let dir = std::env::temp_dir().join(format!("dhow-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.log");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let options = |max_size, max_file| LogOptions { max_size, max_file, compress: false, attrs: String::new() };
        let mut log = Log::new(file.into(), path.to_str().unwrap().to_owned(), &options(100, 2)).unwrap();
        log.write(0, b"one\ntw");
        log.write(1, b"err\n");
        log.write(0, b"o\nlast");
        log.end(0);
        let texts = |name: &str| {
            let text = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
            let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["log"].clone();
            text.lines().map(value).collect::<Vec<_>>()
        };
        assert_eq!(texts("x.log.1"), ["one\n", "err\n"]);
        assert_eq!(texts("x.log"), ["two\n", "last"]);
        // A long line is several entries, and none of them ends within a character.
        let file = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("long.log")).unwrap();
        let mut log = Log::new(file.into(), dir.join("long.log").to_str().unwrap().to_owned(), &options(0, 1)).unwrap();
        let line = format!("x{}\n", "\u{20ac}".repeat(3 * LINE));
        for piece in line.as_bytes().chunks(10_000) {
            log.write(0, piece);
        }
        let entries = texts("long.log");
        assert!(entries.len() > 9);
        let joined: String = entries.iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(joined, line);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
