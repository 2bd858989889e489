//! What `ADD` takes from elsewhere: files by HTTP, and repositories.

use super::super::builder::Builder;
use super::super::git::{self, Address, Keys, Repository};
use super::super::ignore::Ignore;
use super::super::report;
use super::Source;
use super::gather::{Tree, Wish, gather};
use crate::oci::Digest;
use crate::oci::digest::{Algorithm, Hasher};
use crate::oci::registry;
use anyhow::{Context as _, Result, anyhow};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

/// The largest file that is downloaded.
const MOST: u64 = 64 << 30;

impl Builder<'_> {
    /// Downloads a file into the lease's directory, and gives its digest.
    pub fn download(&mut self, url: &str) -> Result<(PathBuf, Digest)> {
        let place = self.scratch_dir()?.join("download");
        // A password that it has is not told.
        let hide = |error: anyhow::Error| match git::shown(url) {
            shown if shown == url => error,
            shown => anyhow!("{}", format!("{error:#}").replace(url, &shown)),
        };
        let (mut reader, _) = registry::download(url, MOST, &self.engine.settings.registry()).map_err(hide)?;
        let mut file = File::create(&place).with_context(|| format!("create {}", place.display()))?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if self.caller.has_gone() {
                return Err(report::gone());
            }
            match reader.read(&mut buffer).with_context(|| format!("download {}", git::shown(url)))? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    file.write_all(&buffer[..n]).with_context(|| format!("write {}", place.display()))?;
                }
            }
        }
        Ok((place, hasher.finish()))
    }

    /// Asks a repository which commit is meant.
    pub fn repository(&mut self, address: Address) -> Result<Repository> {
        let dir = self.scratch_dir()?;
        Repository::find(address, dir, Keys::None, &self.asked.secrets, &self.caller)
    }

    /// Fetches the repositories among the sources.
    pub(super) fn fetched(&mut self, sources: &mut [Source], keep: bool, wish: &Wish) -> Result<()> {
        for source in sources {
            let Source::Git(repository, _) = source else { continue };
            let tree = Tree { root: repository.files(keep)?, ignore: Ignore::default(), called: "the repository" };
            let mut items = Vec::new();
            gather(&tree, ".", wish, &mut items)?;
            *source = Source::Fetched(tree, items);
        }
        Ok(())
    }
}
