//! A tar as a stream: its blocks, entries and data in order, all of it hashed, and what is not content kept for the
//! recipe.

use super::header::{self, BLOCK, Block, Entry, Extra, Kind, Sparse};
use super::{path, recipe};
use crate::oci::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Read};

const BUFFER: usize = 256 * 1024;
/// Longer PAX and long-name data is an attack on memory (Go's archive/tar has the same limit).
const MAX_EXTRA: u64 = 1 << 20;

/// Reads the entries of a tar. After [`Stream::next`], all data of the entry must be consumed with [`Stream::data`]
/// and [`Stream::consume`], or dropped with [`Stream::skip`], and then [`Stream::pad`] called.
pub struct Stream<'a> {
    source: &'a mut dyn Read,
    /// None where nobody will ask for the tar again.
    recipe: Option<recipe::Writer>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    hasher: Hasher,
    length: u64,
    extra: Extra,
    scratch: Vec<u8>,
}

impl<'a> Stream<'a> {
    pub fn new(source: &'a mut dyn Read, recipe: Option<recipe::Writer>) -> Stream<'a> {
        Stream {
            source,
            recipe,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
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
        self.length - (self.end - self.start) as u64
    }

    /// Reads more; `false` at the end of the source.
    fn fill(&mut self) -> Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    if self.recipe.is_some() {
                        self.hasher.update(&self.buffer[self.end..self.end + n]);
                    }
                    self.end += n;
                    self.length += n as u64;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("read the archive"),
            }
        }
    }

    /// The next block; `None` where the source ends before it.
    fn block(&mut self) -> Result<Option<Block>> {
        while self.end - self.start < BLOCK {
            if !self.fill()? {
                if self.start == self.end {
                    return Ok(None);
                }
                bail!("the archive is cut short at byte {}", self.length);
            }
        }
        let mut block = [0; BLOCK];
        block.copy_from_slice(&self.buffer[self.start..self.start + BLOCK]);
        self.start += BLOCK;
        if let Some(recipe) = &mut self.recipe {
            recipe.bytes(&block)?;
        }
        Ok(Some(block))
    }

    /// Some of the next `max` bytes, at least one.
    pub fn data(&mut self, max: u64) -> Result<&[u8]> {
        if self.start == self.end && !self.fill()? {
            bail!("the archive is cut short at byte {}", self.length);
        }
        let n = max.min((self.end - self.start) as u64) as usize;
        Ok(&self.buffer[self.start..self.start + n])
    }

    /// Takes `n` bytes that [`Stream::data`] gave: they are content, and the recipe does not keep them.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
    }

    /// Passes over bytes; the recipe keeps them.
    pub fn skip(&mut self, mut left: u64) -> Result<()> {
        while left > 0 {
            self.data(left)?;
            let n = left.min((self.end - self.start) as u64) as usize;
            if let Some(recipe) = &mut self.recipe {
                recipe.bytes(&self.buffer[self.start..self.start + n])?;
            }
            self.start += n;
            left -= n as u64;
        }
        Ok(())
    }

    /// Passes over what fills up the last block of `size` bytes of data.
    pub fn pad(&mut self, size: u64) -> Result<()> {
        self.skip((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64)
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
            into.extend_from_slice(self.data(left)?);
            let n = left.min((self.end - self.start) as u64);
            self.skip(n)?;
            left -= n;
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
            if let Some(recipe) = &mut self.recipe {
                recipe.bytes(&self.buffer[self.start..self.end])?;
            }
            self.start = self.end;
            if !self.fill()? {
                break;
            }
        }
        let digest = self.hasher.finish();
        if let Some(recipe) = self.recipe {
            recipe.finish(&digest, self.length)?;
        }
        Ok(digest)
    }
}
