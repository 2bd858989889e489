//! A pipe between two threads: a few buffers go round, so that each side works while the other does, and memory is
//! bounded. What ends without having been ended by its writer is an error, never a short stream.

use crate::channel::{Receiver, Sender, bounded};
use std::io::{self, BufRead, Read};

/// The end that is filled.
pub struct Writer {
    full: Sender<Option<Buffer>>,
    empty: Receiver<Buffer>,
}

/// The end that is read.
pub struct Reader {
    full: Receiver<Option<Buffer>>,
    empty: Sender<Buffer>,
    current: Option<Buffer>,
    at: usize,
    ended: bool,
}

struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
}

/// A pipe of `count` buffers of `size` bytes.
pub fn pipe(count: usize, size: usize) -> (Writer, Reader) {
    // Room for all buffers and the end: sending never waits, only the wait for an empty buffer does.
    let (full, from_writer) = bounded(count + 1);
    let (empty, from_reader) = bounded(count);
    for _ in 0..count {
        let _ = empty.send(Buffer { bytes: vec![0; size].into_boxed_slice(), filled: 0 });
    }
    (Writer { full, empty: from_reader }, Reader { full: from_writer, empty, current: None, at: 0, ended: false })
}

impl Writer {
    /// Reads `source` to its end into the pipe; `each` sees every piece on its way.
    /// Errors: the source's, and `BrokenPipe` when the reader is gone.
    pub fn copy(&mut self, source: &mut dyn Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            let mut buffer = self.empty.recv().map_err(|_| gone())?;
            buffer.filled = 0;
            let mut ended = false;
            while buffer.filled < buffer.bytes.len() {
                match source.read(&mut buffer.bytes[buffer.filled..]) {
                    Ok(0) => {
                        ended = true;
                        break;
                    }
                    Ok(n) => {
                        each(&buffer.bytes[buffer.filled..buffer.filled + n]);
                        buffer.filled += n;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if buffer.filled > 0 {
                self.full.send(Some(buffer)).map_err(|_| gone())?;
            }
            if ended {
                return self.full.send(None).map_err(|_| gone());
            }
        }
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Hands out the writer's buffers as they are.
impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.current.as_ref().is_none_or(|buffer| self.at == buffer.filled) {
            if let Some(buffer) = self.current.take() {
                // A writer that has ended wants none back.
                let _ = self.empty.send(buffer);
            }
            match self.full.recv() {
                Ok(Some(buffer)) => (self.current, self.at) = (Some(buffer), 0),
                Ok(None) => self.ended = true,
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the stream before this one broke off"));
                }
            }
        }
        Ok(self.current.as_ref().map_or(&[], |buffer| &buffer.bytes[self.at..buffer.filled]))
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_whole_and_in_order() {
        let sent: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        for size in [1, 7, 4096, 200_000] {
            let (mut writer, mut reader) = pipe(3, size);
            std::thread::scope(|scope| {
                let mut seen = 0;
                let sent = &sent;
                let writing =
                    scope.spawn(move || writer.copy(&mut &sent[..], |piece| seen += piece.len()).map(|()| seen));
                let mut got = Vec::new();
                reader.read_to_end(&mut got).unwrap();
                assert!(got == *sent, "buffers of {size}");
                assert_eq!(writing.join().unwrap().unwrap(), sent.len());
                assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "the end stays the end");
            });
        }
    }

    #[test]
    fn a_writer_that_fails_is_no_end_of_the_stream() {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("torn"))
            }
        }
        let (mut writer, mut reader) = pipe(2, 10);
        let error = writer.copy(&mut (&b"0123456789abc"[..]).chain(Breaks), |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "torn");
        drop(writer);
        let mut got = Vec::new();
        assert_eq!(reader.read_to_end(&mut got).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(got, b"0123456789");
    }

    #[test]
    fn a_reader_that_goes_stops_the_writer() {
        let (mut writer, reader) = pipe(2, 10);
        drop(reader);
        let error = writer.copy(&mut io::repeat(0), |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
