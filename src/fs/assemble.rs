//! The tar of an unpacked layer, byte for byte, by its recipe.

use super::path;
use super::recipe::{BYTES, END, FILE, LINK, MAGIC, PART};
use crate::oci::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Writes the exact tar of an unpacked layer, and gives its digest, which is the layer's diff id: the bytes are
/// hashed as they go, and an error says when they are not what was unpacked.
pub fn assemble(layer: &Path, out: &mut dyn Write) -> Result<Digest> {
    let doing = || format!("assemble the tar of {}", layer.display());
    let root = path::open_root(&layer.join("fs"))?;
    let mut assembly = Assembly {
        steps: Steps::open(layer).with_context(doing)?,
        kept: kept(layer)?,
        layer,
        out,
        hasher: Hasher::new(Algorithm::Sha256),
        length: 0,
        buffer: vec![0; 128 * 1024],
    };
    assembly.run(root.as_fd()).with_context(doing)
}

/// How many bytes the tar of an unpacked layer has, by its recipe alone.
pub fn length(layer: &Path) -> Result<u64> {
    let doing = || format!("read the recipe of {}", layer.display());
    let mut steps = Steps::open(layer).with_context(doing)?;
    let mut length = || -> Result<u64> {
        loop {
            match steps.byte()? {
                BYTES => {
                    let left = steps.number()?;
                    if io::copy(&mut (&mut steps.0).take(left), &mut io::sink())? < left {
                        bail!("it is cut short");
                    }
                }
                FILE | LINK => drop(steps.name()?),
                PART => drop((steps.number()?, steps.number()?)),
                END => {
                    steps.name()?;
                    return steps.number();
                }
                other => bail!("it has an unknown step {other}"),
            }
        }
    };
    length().with_context(doing)
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

struct Assembly<'a> {
    steps: Steps,
    /// By path hash: how many were met, of how many that were displaced.
    kept: HashMap<String, (u64, u64)>,
    layer: &'a Path,
    out: &'a mut dyn Write,
    hasher: Hasher,
    length: u64,
    buffer: Vec<u8>,
}

impl Assembly<'_> {
    fn run(&mut self, root: std::os::fd::BorrowedFd) -> Result<Digest> {
        let mut file: Option<File> = None;
        loop {
            match self.steps.byte()? {
                BYTES => {
                    let mut left = self.steps.number()?;
                    while left > 0 {
                        let n = left.min(self.buffer.len() as u64) as usize;
                        self.steps.0.read_exact(&mut self.buffer[..n]).context("read the recipe")?;
                        self.write(n)?;
                        left -= n as u64;
                    }
                }
                FILE => {
                    let name = self.steps.name()?;
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
                    let (offset, length) = (self.steps.number()?, self.steps.number()?);
                    self.part(file.as_ref().context("the recipe has a part of no file")?, offset, length)?;
                }
                LINK => {
                    let name = self.steps.name()?;
                    self.displaced(&name);
                }
                END => {
                    let said = self.steps.name()?;
                    let said = Digest::parse(&String::from_utf8_lossy(&said)).context("read the recipe")?;
                    let length = self.steps.number()?;
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
}

/// The steps of a recipe, as they are read.
struct Steps(BufReader<zstd::Decoder<'static, BufReader<File>>>);

impl Steps {
    fn open(layer: &Path) -> Result<Steps> {
        let path = layer.join("recipe");
        let mut file = BufReader::new(File::open(&path).with_context(|| format!("open {}", path.display()))?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).context("read the recipe")?;
        if &magic != MAGIC {
            bail!("the recipe is not of a version that this dhow knows");
        }
        Ok(Steps(BufReader::new(zstd::Decoder::with_buffer(file).context("read the recipe")?)))
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).context("read the recipe")?;
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
        self.0.read_exact(&mut name).context("read the recipe")?;
        Ok(name)
    }
}
