//! The files of an archive, laid down in a directory of the lease under numbers: their names are only looked up, and
//! never become paths.

use crate::fs::archive::Archive;
use crate::fs::compression;
use crate::fs::header::{Entry, Kind};
use crate::fs::path::show;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An archive of images has a few files an image. More than this is an attack on inodes and memory.
const MAX_FILES: usize = 100_000;
/// Links to links go no further.
const MAX_LINKS: usize = 10;
/// A manifest, an index or a config.
const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;

/// What an archive holds, by name.
pub struct Spool {
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
        let mut spool = Spool { dir: dir.to_owned(), found: HashMap::new() };
        let mut entry = Entry::default();
        while archive.next(&mut entry)? {
            spool.entry(&entry, &mut archive).with_context(|| show(&entry.path))?;
        }
        archive.finish()?;
        if spool.found.is_empty() {
            bail!("the archive is empty");
        }
        Ok(spool)
    }

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

    pub fn has(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    /// A file, by the name that a manifest gives it, and its length.
    pub fn open(&self, name: &str) -> Result<(File, u64)> {
        let mut at = normal(name, "")?;
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
