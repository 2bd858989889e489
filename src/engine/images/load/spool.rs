//! The files of an archive, laid down in a directory of the lease under numbers: their names are only looked up, and
//! never become paths. Or those of a layout that lies in a directory, whose names are resolved by the kernel, inside it.

use crate::fs::archive::Archive;
use crate::fs::compression;
use crate::fs::header::{Entry, Kind};
use crate::fs::path::{self, show};
use crate::fs::stat::is_file;
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// An archive of images has a few files an image. More than this is an attack on inodes and memory.
const MAX_FILES: usize = 100_000;
/// Links to links go no further.
const MAX_LINKS: usize = 10;
/// A manifest, an index or a config.
const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;

/// What an archive holds, by name.
pub enum Spool {
    Laid(Laid),
    /// A directory, as it lies there.
    Lies(OwnedFd),
}

pub struct Laid {
    dir: PathBuf,
    found: HashMap<String, Found>,
}

enum Found {
    File {
        number: usize,
        size: u64,
    },
    /// To another name, from the root of the archive.
    Link(String),
}

impl Spool {
    /// Reads a whole archive, which may be compressed, into the empty directory `dir`.
    pub fn read(archive: impl Read + Send, dir: &Path) -> Result<Spool> {
        let mut archive = Archive::new(compression::decoder(archive)?);
        let mut laid = Laid { dir: dir.to_owned(), found: HashMap::new() };
        let mut entry = Entry::default();
        while archive.next(&mut entry)? {
            laid.entry(&entry, &mut archive).with_context(|| show(&entry.path))?;
        }
        archive.finish()?;
        if laid.found.is_empty() {
            bail!("the archive is empty");
        }
        Ok(Spool::Laid(laid))
    }

    pub fn has(&self, name: &str) -> bool {
        match self {
            Spool::Laid(laid) => laid.found.contains_key(name),
            Spool::Lies(root) => path::open(root.as_fd(), name.as_bytes(), OFlag::O_PATH, 0, path::IN_ROOT).is_ok(),
        }
    }

    /// A file, by the name that a manifest gives it, and its length.
    pub fn open(&self, name: &str) -> Result<(File, u64)> {
        let name = normal(name, "")?;
        let root = match self {
            Spool::Laid(laid) => return laid.open(name),
            Spool::Lies(root) => root.as_fd(),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let file =
            path::open(root, name.as_bytes(), flags, 0, path::IN_ROOT).with_context(|| format!("open {name:?}"))?;
        let stat = fstat(&file).with_context(|| format!("look at {name:?}"))?;
        if !is_file(&stat) {
            bail!("{name:?} is no file");
        }
        Ok((File::from(file), stat.st_size as u64))
    }

    /// A small file, whole.
    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (file, size) = self.open(name)?;
        if size > MAX_DOCUMENT {
            bail!("{name:?} of {size} bytes is longer than the {MAX_DOCUMENT} bytes that are taken");
        }
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT).read_to_end(&mut bytes).with_context(|| format!("read {name:?}"))?;
        Ok(bytes)
    }
}

impl Laid {
    fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let name = normal(text(&entry.path)?, "")?;
        if self.found.len() >= MAX_FILES {
            bail!("the archive has more than {MAX_FILES} files");
        }
        let found = match entry.kind {
            Kind::Dir | Kind::Note => return Ok(()),
            Kind::File if entry.sparse.is_some() => bail!("it is a sparse file, which no part of an image is"),
            Kind::File => {
                let number = self.found.len();
                let path = self.dir.join(number.to_string());
                let mut file = File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
                let size = io::copy(data, &mut file).with_context(|| format!("write {}", path.display()))?;
                Found::File { number, size }
            }
            // Old archives link a layer that comes twice.
            Kind::Symlink => Found::Link(normal(text(&entry.link)?, &name)?),
            Kind::Link => Found::Link(normal(text(&entry.link)?, "")?),
            Kind::Char | Kind::Block | Kind::Fifo => bail!("it is neither a file nor a directory"),
        };
        if self.found.insert(name, found).is_some() {
            bail!("it is there twice, and readers would disagree on what it is");
        }
        Ok(())
    }

    fn open(&self, name: String) -> Result<(File, u64)> {
        let mut at = name.clone();
        for _ in 0..MAX_LINKS {
            match self.found.get(&at) {
                Some(Found::Link(to)) => at = to.clone(),
                Some(Found::File { number, size }) => {
                    let path = self.dir.join(number.to_string());
                    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
                    return Ok((file, *size));
                }
                None => bail!("the archive has no file {name:?}"),
            }
        }
        bail!("{name:?} of the archive is a link that leads nowhere")
    }
}

fn text(path: &[u8]) -> Result<&str> {
    std::str::from_utf8(path).context("its name is not UTF-8")
}

/// A path without dots from the root of the archive; a relative one is beside `from`. One that leads out is refused.
fn normal(path: &str, from: &str) -> Result<String> {
    let base = if path.starts_with('/') { "" } else { from.rsplit_once('/').map_or("", |(dir, _)| dir) };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => bail!("{path:?} leads out of the archive"),
            ".." => {}
            _ => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_archive() {
        for (path, from, expected) in [
            ("a/b", "", Some("a/b")),
            ("./a//b/", "", Some("a/b")),
            ("/a", "x/y", Some("a")),
            ("../b/layer.tar", "a/layer.tar", Some("b/layer.tar")),
            ("a/../b", "", Some("b")),
            ("../x", "", None),
            ("../../x", "a/layer.tar", None),
            ("a/../../x", "", None),
        ] {
            assert_eq!(normal(path, from).ok().as_deref(), expected, "{path} from {from}");
        }
    }
}
