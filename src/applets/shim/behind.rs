//! A client that reads slower than the container writes, or that asked for what was said before it came, is served
//! from the log at its own pace, and holds nobody up.

use super::Base;
use super::clients::{self, Client};
use super::files::Files;
use crate::engine::logs::encode::{LINE, room, whole};
use crate::engine::logs::scan;
use crate::engine::protocol::{STDERR, STDOUT};
use crate::engine::{Record, containers, logs};
use anyhow::Result;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A place between two entries of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// The number of the file: the one that is written to has the highest.
    pub file: u32,
    pub offset: u64,
    /// How much of the text of the next entry of each stream comes before this place: what a live client was given of
    /// a line before its end.
    pub skip: [u32; 2],
}

/// How far a client is that is served from the log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Behind {
    pub at: Position,
    /// Bytes of what follows there that it has.
    pub sent: u32,
}

/// What came of serving a client.
#[derive(Debug, PartialEq)]
pub enum Served {
    /// There is more for it in the log.
    More,
    /// It takes no more for now.
    Full,
    /// It has all that was said.
    Live,
    /// What comes next for it was rotated out of existence.
    Overtaken,
}

/// Written to a client at once.
const BATCH: usize = 32 * 1024;

/// Who is served, and what of.
pub struct Reader<'a> {
    pub socket: BorrowedFd<'a>,
    /// `protocol::STDOUT` and so on.
    pub streams: i32,
    pub framed: bool,
}

/// Sends what follows in the log, as much as one reading into `buffer` brings; then, at its end, what is `held` of
/// lines that are not in it yet. `buffer` has room for the longest entry.
pub fn serve(
    reader: &Reader,
    behind: &mut Behind,
    files: &mut Files,
    held: [&[u8]; 2],
    buffer: &mut [u8],
) -> io::Result<Served> {
    let mut at = behind.at;
    let Some(length) = files.read(&at, buffer)? else { return Ok(Served::Overtaken) };
    let mut batch = Vec::new();
    let mut start = 0;
    while let Some(newline) = scan::newline(&buffer[start..length]) {
        reader.entry(&buffer[start..start + newline], &mut at.skip, &mut batch);
        start += newline + 1;
        at.offset += newline as u64 + 1;
        if batch.len() >= BATCH && !reader.send(&mut batch, behind, at)? {
            return Ok(Served::Full);
        }
    }
    // Longer than any entry: it is none of ours.
    if start == 0 && length == buffer.len() {
        at.offset += length as u64;
    }
    if !reader.send(&mut batch, behind, at)? {
        return Ok(Served::Full);
    }
    if start > 0 || length == buffer.len() {
        return Ok(Served::More);
    }
    if at.file < files.newest() {
        behind.at = Position { file: at.file + 1, offset: 0, skip: at.skip };
        return Ok(Served::More);
    }
    for (number, held) in held.into_iter().enumerate() {
        let rest = &held[raw(held, at.skip[number] as usize)..];
        if !rest.is_empty() && reader.wants(number) {
            reader.push(number, rest, &mut batch);
        }
        at.skip[number] = shown(held) as u32;
        if !reader.send(&mut batch, behind, at)? {
            return Ok(Served::Full);
        }
    }
    Ok(Served::Live)
}

impl Reader<'_> {
    fn wants(&self, number: usize) -> bool {
        self.streams & [STDOUT, STDERR][number] != 0
    }

    /// Adds the text of the entry in `line`, but for what is to be skipped of it.
    fn entry(&self, line: &[u8], skip: &mut [u32; 2], batch: &mut Vec<u8>) {
        let before = batch.len();
        if self.framed {
            batch.extend_from_slice(&[0; 8]);
        }
        let text = batch.len();
        // Torn: the shim before this one was killed while it wrote it, or the disk was full.
        let Some(entry) = logs::decode(line, batch) else { return batch.truncate(before) };
        let number = entry.stream as usize - 1;
        let skipped = (skip[number] as usize).min(batch.len() - text);
        skip[number] -= skipped as u32;
        batch.drain(text..text + skipped);
        if batch.len() == text || !self.wants(number) {
            return batch.truncate(before);
        }
        if self.framed {
            let length = (batch.len() - text) as u32;
            batch[before] = entry.stream as u8;
            batch[before + 4..text].copy_from_slice(&length.to_be_bytes());
        }
    }

    fn push(&self, number: usize, bytes: &[u8], batch: &mut Vec<u8>) {
        if self.framed {
            batch.extend_from_slice(&[number as u8 + 1, 0, 0, 0]);
            batch.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        }
        batch.extend_from_slice(bytes);
    }

    /// Sends a batch, which leads up to `at`; whether the client took all of it. What it did not take is made anew
    /// from the same place: entries are only added, so it begins with the same bytes.
    fn send(&self, batch: &mut Vec<u8>, behind: &mut Behind, at: Position) -> io::Result<bool> {
        while (behind.sent as usize) < batch.len() {
            match clients::send(self.socket, &batch[behind.sent as usize..]) {
                Ok(sent) => behind.sent += sent as u32,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        batch.clear();
        *behind = Behind { at, sent: 0 };
        Ok(true)
    }
}

/// What earlier runs of a container have said, while it waits for its start.
pub struct Said {
    files: Files,
    framed: bool,
    buffer: Vec<u8>,
}

impl Said {
    /// Nothing where there is no log to be read.
    pub fn find(base: &Base) -> Result<Option<Said>> {
        let (store, id) = (&base.store, base.whose.container.as_str());
        let record = Record::load(store, id)?.ok_or_else(|| containers::no_such(id))?;
        let Some(options) = logs::options(&record)? else { return Ok(None) };
        let files = Files::find(record.log_path(store).display().to_string(), options.max_file);
        let buffer = vec![0; room(LINE, options.attrs.len())];
        Ok(Some(Said { files, framed: !record.config.tty, buffer }))
    }

    /// Before all of it.
    pub fn start(&self) -> Behind {
        Behind { at: self.files.start(), sent: 0 }
    }

    /// Gives a client more of it; false where the client has gone. One that has all gets what comes like the others.
    pub fn serve(&mut self, client: &mut Client) -> bool {
        let Some(mut behind) = client.behind else { return true };
        let reader = Reader { socket: client.fd.as_fd(), streams: client.streams, framed: self.framed };
        let served = serve(&reader, &mut behind, &mut self.files, [&[]; 2], &mut self.buffer);
        client.behind = if let Ok(Served::Live) = served { None } else { Some(behind) };
        matches!(served, Ok(Served::More | Served::Full | Served::Live))
    }
}

/// How long the text of an entry will be that begins with `held`, as far as it is known: what is no UTF-8 is replaced
/// in the log. A character that is not whole yet is counted as it is.
pub fn shown(held: &[u8]) -> usize {
    let whole = whole(held);
    let length = |chunk: std::str::Utf8Chunk| chunk.valid().len() + chunk.invalid().len() * REPLACEMENT;
    held[..whole].utf8_chunks().map(length).sum::<usize>() + held.len() - whole
}

/// The reverse of [`shown`]: how many bytes of `held` are `shown` bytes of the entry.
fn raw(held: &[u8], mut shown: usize) -> usize {
    let whole = whole(held);
    let mut raw = 0;
    for chunk in held[..whole].utf8_chunks() {
        let valid = chunk.valid().len().min(shown);
        raw += valid;
        shown -= valid;
        let invalid = chunk.invalid().len().min(shown / REPLACEMENT);
        raw += invalid;
        shown -= invalid * REPLACEMENT;
    }
    raw + if raw == whole { shown.min(held.len() - whole) } else { 0 }
}

/// Bytes of U+FFFD, which stands in the log for each byte that is no UTF-8.
const REPLACEMENT: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::applets::shim::log::Log;
    use crate::engine::logs::LogOptions;
    use std::fs::OpenOptions;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    /// A directory that goes with its test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("dhow-behind-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Dir(path)
        }

        fn log(&self, size: u64, keep: u64) -> Log {
            self.log_with(size, keep, false)
        }

        fn log_with(&self, size: u64, keep: u64, compress: bool) -> Log {
            let path = self.0.join("x.log");
            let file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
            let attrs = r#"{"a":"b"}"#.to_owned();
            let options = LogOptions { max_size: size, max_file: keep, compress, attrs };
            Log::new(file.into(), path.to_str().unwrap().to_owned(), &options).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % end
        }
    }

    /// Lines short and long, and some bytes that are no UTF-8.
    fn text(random: &mut Random, length: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < length {
            match random.below(40) {
                0 => text.push(b'\n'),
                1 => text.extend("\u{20ac}\u{e9}\"\u{2028}".bytes()),
                2 if random.below(300) == 0 => text.extend(std::iter::repeat_n(b'x', 40_000)),
                _ => text.push(b'a' + random.below(26) as u8),
            }
        }
        text
    }

    /// What a client gets of both streams that is served from a place on, until it has all.
    fn served(log: &mut Log, at: Position) -> Option<[Vec<u8>; 2]> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let reader = Reader { socket: ours.as_fd(), streams: STDOUT | STDERR, framed: true };
        let mut behind = Behind { at, sent: 0 };
        let mut bytes = Vec::new();
        loop {
            match log.serve(&reader, &mut behind).unwrap() {
                Served::More => {}
                Served::Full => drop(theirs.read_to_end(&mut bytes)),
                Served::Live => break,
                Served::Overtaken => return None,
            }
        }
        let _ = theirs.read_to_end(&mut bytes);
        let mut streams = [Vec::new(), Vec::new()];
        let mut rest = bytes.as_slice();
        while let Some((head, tail)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            streams[head[0] as usize - 1].extend_from_slice(&tail[..length]);
            rest = &tail[length..];
        }
        Some(streams)
    }

    #[test]
    fn from_any_place_on_there_is_no_gap_and_nothing_twice() {
        for (name, size, keep, compress) in
            [("whole", 0, 1, false), ("rotated", 5000, 10_000, false), ("packed", 20_000, 10_000, true)]
        {
            let dir = Dir::new(name);
            let mut log = dir.log_with(size, keep, compress);
            let mut random = Random(0x2545_f491_4f6c_dd1d);
            let texts = [text(&mut random, 400_000), text(&mut random, 90_000)];
            let mut said = [0; 2];
            let mut places = vec![(log.start(), said)];
            while said[0] < texts[0].len() {
                let number = random.below(2);
                let rest = &texts[number][said[number]..];
                let length = random.below(9000).min(rest.len());
                log.write(number, &rest[..length]);
                said[number] += length;
                if random.below(5) == 0 {
                    places.push((log.position(), said));
                }
                // Some are in the middle of what is compressed.
                if random.below(9) == 0
                    && let Some(job) = log.next_job()
                {
                    job.pack().unwrap();
                    log.packed(job, true, random.below(2) == 0);
                }
            }
            assert!(places.len() > 10);
            let is_packed = std::fs::exists(dir.0.join("x.log.9.gz")).unwrap();
            assert_eq!(is_packed || std::fs::exists(dir.0.join("x.log.8.gz")).unwrap(), compress, "{name}");
            for ended in [false, true] {
                if ended {
                    log.end(0);
                    log.end(1);
                }
                for (at, from) in &places {
                    let got = served(&mut log, *at).unwrap();
                    for number in 0..2 {
                        let expected = &texts[number][from[number]..said[number]];
                        assert!(got[number] == expected, "{name} {ended} {number} {at:?} {}", got[number].len());
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_rotated_away_is_missed_aloud() {
        for keep in [1, 2] {
            let dir = Dir::new(&format!("overtaken{keep}"));
            let mut log = dir.log(1000, keep);
            let begin = log.position();
            assert_eq!(served(&mut log, begin), Some([vec![], vec![]]));
            for _ in 0..100 {
                log.write(0, b"a line\n");
            }
            assert_eq!(served(&mut log, begin), None);
            let start = log.start();
            assert!(served(&mut log, start).is_some());
            // The next shim counts anew.
            let mut log = dir.log(1000, keep);
            let start = log.start();
            let lines = served(&mut log, start).unwrap()[0].len() / 7;
            assert!((1..40).contains(&lines), "{lines}");
        }
    }

    #[test]
    fn a_removed_log_is_read_to_its_end() {
        for compress in [false, true] {
            let dir = Dir::new(&format!("removed-{compress}"));
            let mut log = dir.log_with(1000, 100, compress);
            for _ in 0..100 {
                log.write(1, b"a line\n");
            }
            for _ in 0..2 {
                let Some(job) = log.next_job() else { continue };
                job.pack().unwrap();
                log.packed(job, true, false);
            }
            let start = log.start();
            log.keep_open(start.file);
            std::fs::remove_dir_all(&dir.0).unwrap();
            assert_eq!(served(&mut log, start).unwrap()[1].len(), 700);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_counted_as_they_are_shown() {
        for (held, expected) in
            [(&b""[..], 0), (b"abc", 3), (b"a\xffb", 5), (b"\xff\xfe", 6), (b"a\xe2\x82", 3), (b"\xe2\x82\xac", 3)]
        {
            assert_eq!(shown(held), expected, "{held:?}");
            assert_eq!(raw(held, expected), held.len(), "{held:?}");
            for end in 0..held.len() {
                let part = &held[..end];
                if part.len() == whole(part) {
                    assert_eq!(raw(held, shown(part)), end, "{held:?} {end}");
                }
            }
        }
    }
}
