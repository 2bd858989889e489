//! The recipe of a layer: what gives back its tar, byte for byte, from the unpacked files.
//!
//! It keeps every byte of the tar that is not a file's content as it is, and for contents it says which file holds
//! them. `recipe` is a magic, then a zstd stream of steps:
//!
//! ```text
//! 1 length bytes          these bytes
//! 2 length path           from now on this file (below fs/)
//! 3 offset length         so much of that file
//! 4 length path           a hard link of this name was made
//! 0 length digest length  the end: digest and length of the tar
//! ```
//!
//! Numbers are LEB128. A file that a later entry of the same tar displaced is kept in `kept/`, named for its path and
//! for how many of that path had been displaced before: the n-th file of a path in the recipe is the n-th one that was
//! displaced, or, when there are no more, the one in fs/.

use crate::oci::digest::Digest;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

pub(super) const MAGIC: &[u8; 8] = b"dhowrec1";
pub(super) const END: u8 = 0;
pub(super) const BYTES: u8 = 1;
pub(super) const FILE: u8 = 2;
pub(super) const PART: u8 = 3;
pub(super) const LINK: u8 = 4;

/// Steps and verbatim bytes are gathered up to this size before they are compressed.
const GATHER: usize = 64 * 1024;

/// Writes a recipe as a tar is read.
pub struct Writer {
    encoder: zstd::Encoder<'static, BufWriter<File>>,
    steps: Vec<u8>,
    verbatim: Vec<u8>,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Writer> {
        let create = || -> std::io::Result<Writer> {
            let mut file = BufWriter::new(File::create_new(path)?);
            file.write_all(MAGIC)?;
            let encoder = zstd::Encoder::new(file, 1)?;
            Ok(Writer { encoder, steps: Vec::with_capacity(GATHER), verbatim: Vec::with_capacity(GATHER) })
        };
        create().with_context(|| format!("create {}", path.display()))
    }

    /// Bytes of the tar that are no file's content.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.verbatim.extend_from_slice(bytes);
        if self.verbatim.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    /// The parts that follow are of this file.
    pub fn file(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        self.named(FILE, dir, name)
    }

    /// A hard link to a regular file was made at this path.
    pub fn link(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        self.named(LINK, dir, name)
    }

    /// The tar goes on with this part of the current file.
    pub fn part(&mut self, offset: u64, length: u64) -> Result<()> {
        self.end_verbatim();
        self.steps.push(PART);
        put(&mut self.steps, offset);
        put(&mut self.steps, length);
        self.maybe_flush()
    }

    /// Ends the recipe.
    pub fn finish(mut self, digest: &Digest, length: u64) -> Result<()> {
        self.flush()?;
        self.steps.push(END);
        let text = digest.to_string();
        put(&mut self.steps, text.len() as u64);
        self.steps.extend_from_slice(text.as_bytes());
        put(&mut self.steps, length);
        self.flush()?;
        let mut file = self.encoder.finish().context("write the recipe")?;
        file.flush().context("write the recipe")
    }

    fn named(&mut self, step: u8, dir: &[u8], name: &[u8]) -> Result<()> {
        self.end_verbatim();
        self.steps.push(step);
        let slash = usize::from(!dir.is_empty());
        put(&mut self.steps, (dir.len() + slash + name.len()) as u64);
        self.steps.extend_from_slice(dir);
        self.steps.extend_from_slice(&b"/"[..slash]);
        self.steps.extend_from_slice(name);
        self.maybe_flush()
    }

    fn end_verbatim(&mut self) {
        if !self.verbatim.is_empty() {
            self.steps.push(BYTES);
            put(&mut self.steps, self.verbatim.len() as u64);
            self.steps.append(&mut self.verbatim);
        }
    }

    fn maybe_flush(&mut self) -> Result<()> {
        if self.steps.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.end_verbatim();
        self.encoder.write_all(&self.steps).context("write the recipe")?;
        self.steps.clear();
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The name in `kept/` of the n-th displaced file of a path.
pub fn kept_name(path: &[u8], n: u64) -> String {
    format!("{}.{n}", &Digest::of(path).hex()[..32])
}
