//! What `ADD` takes from elsewhere: files by HTTP, and repositories.

use super::super::builder::Builder;
use super::super::cache::{self, Key};
use super::super::git::{self, Address, Keys, Repository};
use super::super::ignore::Ignore;
use super::super::report;
use super::Source;
use super::gather::{Tree, Wish, gather};
use crate::api::wire::Caller;
use crate::oci::Digest;
use crate::oci::digest::{Algorithm, Hasher};
use crate::oci::registry;
use anyhow::{Context as _, Result, anyhow};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

/// The largest file that is downloaded.
const MOST: u64 = 64 << 30;

/// A file of another host.
pub struct Download {
    pub name: String,
    /// Where it lies once it was read.
    pub file: PathBuf,
    pub digest: Digest,
    pub unpack: bool,
    /// When it was changed last, as the server says: seconds since 1970.
    pub modified: Option<i64>,
    /// What is not read yet, and the URL that it comes from.
    waiting: Option<(Box<dyn Read + Send>, String)>,
}

impl Download {
    /// Reads it, if that was not done.
    fn read(&mut self, caller: &Caller) -> Result<()> {
        let Some((mut reader, url)) = self.waiting.take() else { return Ok(()) };
        let place = self.file.display();
        let mut file = File::create(&self.file).with_context(|| format!("create {place}"))?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if caller.has_gone() {
                return Err(report::gone());
            }
            match reader.read(&mut buffer).with_context(|| format!("download {url}"))? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    file.write_all(&buffer[..n]).with_context(|| format!("write {place}"))?;
                }
            }
        }
        self.digest = hasher.finish();
        Ok(())
    }
}

impl Builder<'_> {
    /// Begins to download a file. Nothing is read of one whose ETag tells that its digest is known.
    pub(super) fn download(&mut self, url: &str, unpack: bool) -> Result<Download> {
        // A password that it has is not told.
        let hide = |error: anyhow::Error| match git::shown(url) {
            shown if shown == url => error,
            shown => anyhow!("{}", format!("{error:#}").replace(url, &shown)),
        };
        let (reader, about) = registry::download(url, MOST, &self.engine.settings.registry()).map_err(hide)?;
        let question = about.tag.as_ref().map(|tag| Key::new("download").field(url).field(tag).end());
        let known = match &question {
            Some(question) if !self.asked.no_cache => {
                cache::find(&self.engine.store, self.lease, question, &[])?.and_then(|record| record.answer)
            }
            _ => None,
        };
        let mut download = Download {
            name: file_name(url),
            file: self.scratch_dir()?.join("download"),
            digest: Digest::of(b""),
            unpack,
            modified: about.modified,
            waiting: Some((Box::new(reader), git::shown(url))),
        };
        match known {
            Some(digest) => download.digest = digest,
            None => {
                download.read(&self.caller)?;
                if let Some(question) = question {
                    cache::answer(&self.engine.store, &question, download.digest.clone(), &git::shown(url))?;
                }
            }
        }
        Ok(download)
    }

    /// Asks a repository which commit is meant.
    pub fn repository(&mut self, address: Address) -> Result<Repository> {
        let dir = self.scratch_dir()?;
        let keys = self.asked.agents.get("default").map_or(Keys::None, |socket| Keys::Agent(socket.clone()));
        Repository::find(address, dir, keys, &self.asked.secrets, &self.caller)
    }

    /// Fetches what of the sources is not there yet: files whose digests are known, and repositories.
    pub(super) fn fetched(
        &mut self,
        sources: &mut [Source],
        answers: &mut [Option<Digest>],
        wish: &Wish,
    ) -> Result<()> {
        for (source, answer) in sources.iter_mut().zip(answers) {
            if let Source::Download(download) = source {
                download.read(&self.caller)?;
                *answer = Some(download.digest.clone());
            }
            let Source::Git(repository, _) = source else { continue };
            let root = repository.files(false)?;
            let tree = Tree { root, ignore: Ignore::default(), called: "the repository", owned: false };
            let mut items = Vec::new();
            gather(&tree, ".", wish, &mut items)?;
            *source = Source::Fetched(tree, items);
        }
        Ok(())
    }
}

/// The last name in the path of a URL.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name =
        path.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") { "__unnamed__".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_names() {
        for (url, name) in [
            ("http://h/a/b.tar?x=1#y", "b.tar"),
            ("https://h/a/", "a"),
            ("https://h", "__unnamed__"),
            ("https://h/", "__unnamed__"),
            ("https://h/..", "__unnamed__"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
