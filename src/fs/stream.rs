//! A tar as a stream: its blocks, entries and data in order, all of it hashed, and what is not content kept for the
//! recipe.

use super::header::{self, BLOCK, Block, Entry, Extra, Kind, Sparse};
use super::{path, recipe};
use crate::oci::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, ErrorKind};

/// What a buffer before a [`Stream`] holds: so much is hashed at once.
pub const BUFFER: usize = 256 * 1024;
/// Longer PAX and long-name data is an attack on memory (Go's archive/tar has the same limit).
const MAX_EXTRA: u64 = 1 << 20;

/// Reads the entries of a tar. After [`Stream::next`], all data of the entry must be consumed with [`Stream::data`]
/// and [`Stream::consume`], or dropped with [`Stream::skip`], and then [`Stream::pad`] called.
pub struct Stream<'a> {
    source: &'a mut (dyn BufRead + Send),
    /// None where nobody will ask for the tar again.
    recipe: Option<recipe::Writer>,
    /// Bytes at the front of what the source holds that are hashed and counted already.
    seen: usize,
    hasher: Hasher,
    /// Bytes that were seen.
    length: u64,
    extra: Extra,
    scratch: Vec<u8>,
}

impl<'a> Stream<'a> {
    pub fn new(source: &'a mut (dyn BufRead + Send), recipe: Option<recipe::Writer>) -> Stream<'a> {
        Stream {
            source,
            recipe,
            seen: 0,
            hasher: Hasher::new(Algorithm::Sha256),
            length: 0,
            extra: Extra::default(),
            scratch: Vec::new(),
        }
    }

    /// The recipe that is being written.
    pub fn recipe(&mut self) -> Option<&mut recipe::Writer> {
        self.recipe.as_mut()
    }

    /// The position in the tar, for messages.
    fn position(&self) -> u64 {
        self.length - self.seen as u64
    }

    /// What the source holds of the bytes that come, hashed; nothing at its end.
    fn ahead(&mut self) -> Result<&[u8]> {
        while let Err(error) = self.source.fill_buf() {
            if error.kind() != ErrorKind::Interrupted {
                return Err(error).context("read the archive");
            }
        }
        let bytes = self.source.fill_buf().context("read the archive")?;
        if self.seen < bytes.len() {
            if self.recipe.is_some() {
                self.hasher.update(&bytes[self.seen..]);
            }
            self.length += (bytes.len() - self.seen) as u64;
            self.seen = bytes.len();
        }
        Ok(bytes)
    }

    /// The next block; `None` where the source ends before it.
    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = self.ahead()?;
            let n = bytes.len().min(BLOCK - filled);
            if n == 0 && filled == 0 {
                return Ok(None);
            }
            if n == 0 {
                bail!("the archive is cut short at byte {}", self.length);
            }
            block[filled..filled + n].copy_from_slice(&bytes[..n]);
            self.consume(n);
            filled += n;
        }
        if let Some(recipe) = &mut self.recipe {
            recipe.bytes(&block)?;
        }
        Ok(Some(block))
    }

    /// Some of the next `max` bytes, at least one.
    pub fn data(&mut self, max: u64) -> Result<&[u8]> {
        if self.ahead()?.is_empty() {
            bail!("the archive is cut short at byte {}", self.length);
        }
        let bytes = self.source.fill_buf().context("read the archive")?;
        Ok(&bytes[..max.min(bytes.len() as u64) as usize])
    }

    /// Takes `n` bytes that [`Stream::data`] gave: they are content, and the recipe does not keep them.
    pub fn consume(&mut self, n: usize) {
        self.source.consume(n);
        self.seen -= n;
    }

    /// Passes over bytes; the recipe keeps them.
    pub fn skip(&mut self, mut left: u64) -> Result<()> {
        while left > 0 {
            let n = self.data(left)?.len();
            self.keep(n)?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Passes over `n` bytes that are ahead.
    fn keep(&mut self, n: usize) -> Result<()> {
        if let Some(recipe) = &mut self.recipe {
            recipe.bytes(&self.source.fill_buf().context("read the archive")?[..n])?;
        }
        self.consume(n);
        Ok(())
    }

    /// Passes over what fills up the last block of `size` bytes of data. Some writers end behind the last content,
    /// without it.
    pub fn pad(&mut self, size: u64) -> Result<()> {
        let mut left = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        while left > 0 && !self.ahead()?.is_empty() {
            let n = self.data(left)?.len();
            self.keep(n)?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Reads the headers of the next entry; `false` at the end of the archive.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        loop {
            let at = self.position();
            let Some(block) = self.block()? else {
                return Ok(false);
            };
            if block == [0; BLOCK] {
                return match self.block()? {
                    Some(block) if block != [0; BLOCK] => bail!("a lone zero block at byte {at} of the archive"),
                    _ => Ok(false),
                };
            }
            let doing = || format!("the entry at byte {at} of the archive");
            header::check(&block).with_context(doing)?;
            match header::flag(&block) {
                kind @ (b'x' | b'L' | b'K') => self.extra(kind, &block).with_context(doing)?,
                _ => {
                    entry.set(&block, &mut self.extra).with_context(doing)?;
                    self.sparse_map(entry).with_context(|| path::show(&entry.path))?;
                    if entry.kind == Kind::Note {
                        self.skip(entry.size)?;
                        self.pad(entry.size)?;
                        continue;
                    }
                    return Ok(true);
                }
            }
        }
    }

    fn extra(&mut self, kind: u8, block: &Block) -> Result<()> {
        let size = header::size(block)?;
        if size > MAX_EXTRA {
            bail!("its extended header of {size} bytes is too large");
        }
        let mut data = std::mem::take(&mut self.scratch);
        data.clear();
        self.read(size, &mut data)?;
        self.pad(size)?;
        match kind {
            b'x' => self.extra.pax(&data)?,
            b'L' => self.extra.path = Some(header::text(&data).to_vec()),
            _ => self.extra.link = Some(header::text(&data).to_vec()),
        }
        self.scratch = data;
        Ok(())
    }

    /// Reads bytes that the recipe keeps too.
    fn read(&mut self, mut left: u64, into: &mut Vec<u8>) -> Result<()> {
        while left > 0 {
            let bytes = self.data(left)?;
            into.extend_from_slice(bytes);
            let n = bytes.len();
            self.keep(n)?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Completes a sparse map that is not in the header itself.
    fn sparse_map(&mut self, entry: &mut Entry) -> Result<()> {
        let Some(sparse) = &mut entry.sparse else { return Ok(()) };
        while sparse.extended {
            let block = self.block()?.context("the archive is cut short in a sparse map")?;
            sparse.extended = block[504] != 0;
            for field in block[..504].chunks_exact(24) {
                if !sparse.push_old_gnu(field)? {
                    break;
                }
            }
        }
        if sparse.in_data {
            entry.size = self.map_in_data(sparse, entry.size)?;
        }
        sparse.check(entry.size)
    }

    /// PAX 1.0: lines with the count of parts, and each one's offset and length, filling whole blocks.
    /// Gives the bytes of data that are left.
    fn map_in_data(&mut self, sparse: &mut Sparse, mut size: u64) -> Result<u64> {
        let (mut count, mut offset, mut number) = (None, None, None::<u64>);
        while count.is_none_or(|count: u64| count > 0) {
            if size < BLOCK as u64 {
                bail!("its sparse map is longer than its data");
            }
            let block = self.block()?.context("the archive is cut short in a sparse map")?;
            size -= BLOCK as u64;
            for byte in block {
                if byte.is_ascii_digit() {
                    let next = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    number = Some(next.context("a number of its sparse map is too large")?);
                    continue;
                }
                if byte != b'\n' {
                    bail!("its sparse map is not of numbers");
                }
                let value = number.take().context("its sparse map has an empty line")?;
                match (count, offset.take()) {
                    (None, _) => count = Some(value),
                    (_, None) => offset = Some(value),
                    (Some(left), Some(offset)) => {
                        sparse.push(offset, value)?;
                        count = Some(left - 1);
                    }
                }
                if count == Some(0) {
                    break;
                }
            }
        }
        Ok(size)
    }

    /// Reads what stands behind the end of the archive, ends the recipe, and gives the digest of all.
    pub fn finish(mut self) -> Result<Digest> {
        loop {
            match self.ahead()?.len() {
                0 => break,
                n => self.keep(n)?,
            }
        }
        let digest = self.hasher.finish();
        if let Some(recipe) = self.recipe {
            recipe.finish(&digest, self.length)?;
        }
        Ok(digest)
    }
}
