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

use super::path;
use crate::oci::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

const MAGIC: &[u8; 8] = b"dhowrec1";
const END: u8 = 0;
const BYTES: u8 = 1;
const FILE: u8 = 2;
const PART: u8 = 3;
const LINK: u8 = 4;

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

/// Writes the exact tar of an unpacked layer, and gives its digest, which is the layer's diff id: the bytes are
/// hashed as they go, and an error says when they are not what was unpacked.
pub fn assemble(layer: &Path, out: &mut dyn Write) -> Result<Digest> {
    let doing = || format!("assemble the tar of {}", layer.display());
    let file = File::open(layer.join("recipe")).with_context(doing)?;
    let mut file = BufReader::new(file);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).with_context(doing)?;
    if &magic != MAGIC {
        bail!("{}: the recipe is not of a version that this dhow knows", doing());
    }
    let steps = BufReader::new(zstd::Decoder::with_buffer(file).with_context(doing)?);
    let root = path::open_root(&layer.join("fs"))?;
    let mut assembly = Assembly {
        steps,
        kept: kept(layer)?,
        layer,
        out,
        hasher: Hasher::new(Algorithm::Sha256),
        length: 0,
        buffer: vec![0; 128 * 1024],
    };
    assembly.run(root.as_fd()).with_context(doing)
}

/// How many files were displaced, by the hash of their path.
fn kept(layer: &Path) -> Result<HashMap<String, (u64, u64)>> {
    let mut kept = HashMap::new();
    let dir = layer.join("kept");
    if !dir.exists() {
        return Ok(kept);
    }
    for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
        let name = entry.with_context(|| format!("list {}", dir.display()))?.file_name();
        if let Some((hash, _)) = name.to_str().and_then(|name| name.split_once('.')) {
            kept.entry(hash.to_owned()).or_insert((0, 0)).1 += 1;
        }
    }
    Ok(kept)
}

struct Assembly<'a, R> {
    steps: R,
    /// By path hash: how many were met, of how many that were displaced.
    kept: HashMap<String, (u64, u64)>,
    layer: &'a Path,
    out: &'a mut dyn Write,
    hasher: Hasher,
    length: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Assembly<'_, R> {
    fn run(&mut self, root: std::os::fd::BorrowedFd) -> Result<Digest> {
        let mut file: Option<File> = None;
        loop {
            match self.byte()? {
                BYTES => {
                    let mut left = self.number()?;
                    while left > 0 {
                        let n = left.min(self.buffer.len() as u64) as usize;
                        self.steps.read_exact(&mut self.buffer[..n]).context("read the recipe")?;
                        self.write(n)?;
                        left -= n as u64;
                    }
                }
                FILE => {
                    let name = self.name()?;
                    file = Some(match self.displaced(&name) {
                        Some(kept) => File::open(&kept).with_context(|| format!("open {}", kept.display()))?,
                        None => {
                            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
                            let opened = path::open(root, &name, flags, 0, path::NO_LINKS);
                            opened.with_context(|| format!("open {}", path::show(&name)))?.into()
                        }
                    });
                }
                PART => {
                    let (offset, length) = (self.number()?, self.number()?);
                    self.part(file.as_ref().context("the recipe has a part of no file")?, offset, length)?;
                }
                LINK => {
                    let name = self.name()?;
                    self.displaced(&name);
                }
                END => {
                    let said = self.name()?;
                    let said = Digest::parse(&String::from_utf8_lossy(&said)).context("read the recipe")?;
                    let length = self.number()?;
                    let found = std::mem::replace(&mut self.hasher, Hasher::new(Algorithm::Sha256)).finish();
                    if found != said || self.length != length {
                        bail!("the layer is not what was unpacked: {said} of {length} bytes gave {found}");
                    }
                    return Ok(found);
                }
                other => bail!("the recipe has an unknown step {other}"),
            }
        }
    }

    /// The file in kept/ that this occurrence of a path means, if it was displaced.
    fn displaced(&mut self, name: &[u8]) -> Option<std::path::PathBuf> {
        if self.kept.is_empty() {
            return None;
        }
        let hash = Digest::of(name).hex()[..32].to_owned();
        let (met, all) = self.kept.get_mut(&hash)?;
        *met += 1;
        (*met <= *all).then(|| self.layer.join("kept").join(format!("{hash}.{}", *met - 1)))
    }

    fn part(&mut self, file: &File, mut offset: u64, mut left: u64) -> Result<()> {
        use std::os::unix::fs::FileExt;
        while left > 0 {
            let n = left.min(self.buffer.len() as u64) as usize;
            let n = file.read_at(&mut self.buffer[..n], offset).context("read a file of the layer")?;
            if n == 0 {
                bail!("a file of the layer is shorter than it was");
            }
            self.write(n)?;
            offset += n as u64;
            left -= n as u64;
        }
        Ok(())
    }

    fn write(&mut self, n: usize) -> Result<()> {
        self.hasher.update(&self.buffer[..n]);
        self.length += n as u64;
        self.out.write_all(&self.buffer[..n]).context("write the tar")
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.steps.read_exact(&mut byte).context("read the recipe")?;
        Ok(byte[0])
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("the recipe has a number that is too large")
    }

    fn name(&mut self) -> Result<Vec<u8>> {
        let length = self.number()?;
        if length > 64 * 1024 {
            bail!("the recipe has a name that is too long");
        }
        let mut name = vec![0; length as usize];
        self.steps.read_exact(&mut name).context("read the recipe")?;
        Ok(name)
    }
}
