//! A tar whose entries are parts of something and are never unpacked: names and data in order, nothing of it trusted.

use super::header::{self, BLOCK, Block, Entry, Extra, Kind};
use anyhow::{Context, Result, bail};
use std::io::{self, ErrorKind, Read};

/// Longer PAX and long-name data is an attack on memory.
const MAX_EXTRA: u64 = 1 << 20;

/// Reads a tar. After [`Archive::next`] it is itself the reader of the entry's data; what is not read is passed over.
pub struct Archive<R> {
    source: R,
    extra: Extra,
    /// Bytes of the entry's data that are not read, and what fills up its last block.
    left: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    pub fn new(source: R) -> Archive<R> {
        Archive { source, extra: Extra::default(), left: 0, padding: 0 }
    }

    /// Reads the headers of the next entry; `false` at the end of the archive.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        loop {
            self.pass()?;
            let Some(block) = self.block()? else { return Ok(false) };
            if block == [0; BLOCK] {
                return Ok(false);
            }
            header::check(&block)?;
            match header::flag(&block) {
                kind @ (b'x' | b'L' | b'K') => self.extra(kind, &block)?,
                _ => {
                    entry.set(&block, &mut self.extra)?;
                    self.expect(entry.size);
                    if entry.kind != Kind::Note {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Reads what stands behind the end, so that a writer at the other end of a pipe is not cut off.
    pub fn finish(mut self) -> Result<()> {
        io::copy(&mut self.source, &mut io::sink()).context("read the archive to its end")?;
        Ok(())
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn pass(&mut self) -> Result<()> {
        let (left, padding) = (std::mem::take(&mut self.left), std::mem::take(&mut self.padding));
        let mut over =
            |count| io::copy(&mut (&mut self.source).take(count), &mut io::sink()).context("read the archive");
        if over(left)? < left {
            bail!("the archive is cut short");
        }
        // Some writers end behind the last content, without what fills up its block.
        over(padding).map(drop)
    }

    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => bail!("the archive is cut short"),
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read the archive"),
            }
        }
        Ok(Some(block))
    }

    fn extra(&mut self, kind: u8, block: &Block) -> Result<()> {
        let size = header::size(block)?;
        if size > MAX_EXTRA {
            bail!("an extended header of {size} bytes is too large");
        }
        self.expect(size);
        let mut data = Vec::new();
        self.read_to_end(&mut data).context("read the archive")?;
        match kind {
            b'x' => self.extra.pax(&data)?,
            b'L' => self.extra.path = Some(header::text(&data).to_vec()),
            _ => self.extra.link = Some(header::text(&data).to_vec()),
        }
        Ok(())
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::unpack::tests::Tar;

    #[test]
    fn the_last_content_may_be_the_end() {
        let tar = Tar::default().file("a", "1").file("b", "22").end();
        let content = BLOCK * 3 + 2;
        for (length, names) in [(content, Some(2)), (content + 100, Some(2)), (content - 1, None), (BLOCK * 3, None)] {
            let mut archive = Archive::new(&tar[..length]);
            let (mut entry, mut count) = (Entry::default(), 0);
            let read = loop {
                match archive.next(&mut entry) {
                    Ok(true) => count += 1,
                    Ok(false) => break Some(count),
                    Err(error) => {
                        assert!(format!("{error:#}").contains("cut short"), "{error:#}");
                        break None;
                    }
                }
            };
            assert_eq!(read, names, "{length}");
        }
    }
}
