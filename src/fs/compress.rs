//! A stream that is compressed in blocks, several at once: gzip of many members (RFC 1952, 2.2) or zstd of many frames
//! (RFC 8878, 3.1), which every reader takes for one stream.
//!
//! Blocks have one size, so the bytes depend neither on how many work on them nor on the machine: the same tar has the
//! same digest everywhere. Memory is bounded by the number of blocks under way.

use crate::channel::{Receiver, Sender, bounded};
use anyhow::{Context, Result, anyhow, bail};
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Blocks of this size cost gzip less than a hundredth of what it saves.
const BLOCK: usize = 512 * 1024;
/// Of a system's files (520 MB) a core makes, in MB/s and parts of their size: level 1 123 and 0.460, level 2 73 and
/// 0.384, level 4 51 and 0.362, level 6 40 and 0.355. The second is the last step that is worth its time.
const GZIP: u32 = 2;
/// Likewise: level 1 293 and 0.379, level 2 192 and 0.358, level 3 160 and 0.352. The levels above are not compiled in.
const ZSTD: i32 = 1;
/// More threads a stream than this would hold more memory than they are worth.
const MOST: usize = 8;

/// What a stream may be compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Gzip,
    Zstd,
}

impl Format {
    fn block(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Format::Gzip => {
                let room = Vec::with_capacity(bytes.len() / 2);
                let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::new(GZIP));
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Format::Zstd => zstd::bulk::compress(bytes, ZSTD),
        }
    }
}

/// Compresses what `fill` writes, for `take` to read. Gives what `take` made of it, once both have ended; the outer
/// error is `fill`'s.
pub fn through<T>(
    format: Format,
    fill: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    take: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<Result<T>> {
    let threads = crate::sys::processors().min(MOST);
    with(threads, format, fill, take)
}

fn with<T>(
    threads: usize,
    format: Format,
    fill: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    take: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<Result<T>> {
    let (jobs, work) = bounded::<Job>(threads);
    let (order, pieces) = bounded(threads + 1);
    let work = Mutex::new(work);
    thread::scope(|scope| {
        for _ in 0..threads {
            let work = &work;
            scope.spawn(move || {
                loop {
                    let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { bytes, done }) = job else { return };
                    // Nobody waits for it any more if the reader has gone.
                    let _ = done.send(format.block(&bytes));
                }
            });
        }
        let filling = scope.spawn(move || {
            let mut blocks = Blocks { block: Vec::new(), any: false, jobs, order };
            fill(&mut blocks)?;
            blocks.finish().context("compress")
        });
        let mut stream = Stream { pieces, block: Vec::new(), at: 0, ended: false };
        let taken = take(&mut stream);
        // Who still fills it must see that nobody reads.
        drop(stream);
        match filling.join().unwrap_or_else(|_| Err(anyhow!("a thread that compresses panicked"))) {
            Ok(()) => Ok(taken),
            Err(error) if is_gone(&error) && taken.is_err() => Ok(taken),
            Err(error) if is_gone(&error) => bail!("the compressed stream was not read to its end"),
            Err(error) => Err(error),
        }
    })
}

fn is_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe && cause.get_ref().is_none())
}

struct Job {
    bytes: Vec<u8>,
    done: Sender<io::Result<Vec<u8>>>,
}

/// In the order in which they are read.
enum Piece {
    Block(Receiver<io::Result<Vec<u8>>>),
    End,
}

/// Cuts what is written into blocks.
struct Blocks {
    block: Vec<u8>,
    any: bool,
    jobs: Sender<Job>,
    order: Sender<Piece>,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (done, wait) = bounded(1);
        self.any = true;
        self.order.send(Piece::Block(wait)).map_err(|_| gone())?;
        let bytes = std::mem::take(&mut self.block);
        self.jobs.send(Job { bytes, done }).map_err(|_| gone())
    }

    fn finish(mut self) -> io::Result<()> {
        // Nothing at all is a block too: an empty file is no gzip.
        if !self.block.is_empty() || !self.any {
            self.send()?;
        }
        self.order.send(Piece::End).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK);
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The compressed blocks as one stream. What ends without having been ended is an error, never a short stream.
struct Stream {
    pieces: Receiver<Piece>,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.ended {
                return Ok(0);
            }
            let broken = |_| io::Error::other("the stream before this one broke off");
            match self.pieces.recv().map_err(broken)? {
                Piece::Block(wait) => (self.block, self.at) = (wait.recv().map_err(broken)??, 0),
                Piece::End => self.ended = true,
            }
        }
        let n = buffer.len().min(self.block.len() - self.at);
        buffer[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::compression;

    fn whole(threads: usize, format: Format, bytes: &[u8]) -> Vec<u8> {
        let fill = |out: &mut dyn Write| Ok(out.write_all(bytes)?);
        let take = |from: &mut dyn Read| {
            let mut taken = Vec::new();
            from.read_to_end(&mut taken)?;
            Ok(taken)
        };
        with(threads, format, fill, take).unwrap().unwrap()
    }

    #[test]
    fn the_same_bytes_whoever_works_on_them() {
        let text: Vec<u8> = (0..3 * BLOCK as u32 + 17).map(|n| (n / 7 % 251) as u8).collect();
        for (format, magic) in [(Format::Gzip, &[0x1f, 0x8b][..]), (Format::Zstd, &[0x28, 0xb5][..])] {
            for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, text.len()] {
                let packed = whole(1, format, &text[..length]);
                assert!(packed.starts_with(magic), "{format:?} of {length}");
                assert!(packed == whole(5, format, &text[..length]), "{format:?} of {length}");
                let mut found = Vec::new();
                compression::decoder(&packed[..]).unwrap().read_to_end(&mut found).unwrap();
                assert!(found == text[..length], "{format:?} of {length}");
            }
        }
    }

    #[test]
    fn who_fails_is_told_apart() {
        let torn = with(
            2,
            Format::Gzip,
            |out| {
                out.write_all(&vec![1; 2 * BLOCK])?;
                bail!("torn")
            },
            |from| Ok(io::copy(from, &mut io::sink())?),
        );
        assert_eq!(torn.unwrap_err().to_string(), "torn");
        let called_off: Result<Result<()>> =
            with(2, Format::Gzip, |out| Ok(io::copy(&mut io::repeat(0), out).map(drop)?), |_| bail!("called off"));
        assert_eq!(called_off.unwrap().unwrap_err().to_string(), "called off");
    }
}
