//! `COPY` and `ADD`: what is taken from where, whether that was made before, and what it becomes.

pub mod digest;
pub mod gather;
pub mod owner;
pub mod place;

use super::builder::{Builder, State, chain_key};
use super::cache::{self, Key};
use super::dockerfile::instruction::{Instruction, Transfer, Word};
use super::dockerfile::words::Lex;
use super::dockerfile::{Fault, Place as At};
use super::ignore::Ignore;
use super::metadata::{self, Words};
use crate::api::Refusal;
use crate::api::wire::Caller;
use crate::fs::extract::{self, Owner as TarOwner, Target};
use crate::fs::stat::is_file;
use crate::fs::{compression, header, path, tree};
use crate::oci::Digest;
use crate::oci::registry;
use anyhow::{Context as _, Result, bail};
use digest::Known;
use gather::{Item, Tree, Wish, gather};
use nix::fcntl::OFlag;
use owner::{Mode, Owner, owner};
use place::Place;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// An instruction with its words expanded.
struct Expanded {
    sources: Vec<String>,
    /// Name, content.
    documents: Vec<(String, String)>,
    destination: String,
    chown: Option<String>,
    chmod: Option<Mode>,
    exclude: Ignore,
    checksum: Option<Digest>,
}

/// What one source is.
enum Source {
    /// Entries of the tree, and whether the only one is an archive to be unpacked.
    Items(Vec<Item>, bool),
    /// A file that was downloaded: its name, where it lies, and whether it is to be unpacked.
    Download(String, PathBuf, bool),
}

/// The largest file that is downloaded.
const MOST: u64 = 64 << 30;

impl Builder<'_> {
    pub fn transfer(
        &mut self,
        state: &mut State,
        stage: usize,
        transfer: &Transfer,
        add: bool,
        instruction: &Instruction,
    ) -> std::result::Result<(), (At, anyhow::Error)> {
        let place = instruction.place;
        let lex = Lex::new(self.file.directives.escape);
        let expanded = expand(state, transfer, add, lex)
            .map_err(|fault| (fault.place, Refusal::BadParameter(fault.message).into()))?;
        self.taken(state, stage, transfer, add, expanded).map_err(|error| (place, error))
    }

    fn taken(
        &mut self,
        state: &mut State,
        stage: usize,
        transfer: &Transfer,
        add: bool,
        expanded: Expanded,
    ) -> Result<()> {
        let name = if add { "ADD" } else { "COPY" };
        let (urls, paths): (Vec<&String>, Vec<&String>) = expanded.sources.iter().partition(|source| is_url(source));
        if let Some(url) = urls.first().filter(|_| !add) {
            bail!(Refusal::BadParameter(format!("source can't be a URL for COPY: {url}")));
        }
        if expanded.checksum.is_some() && (urls.len() != 1 || expanded.sources.len() != 1) {
            bail!(Refusal::BadParameter("checksum can only be specified for one source, which is a URL".to_owned()));
        }
        if let Some(git) = expanded.sources.iter().find(|source| is_git(source)).filter(|_| add) {
            bail!(Refusal::NotImplemented(format!("ADD of a git repository is not supported yet: {git}")));
        }
        if transfer.keep_git_dir.is_some() {
            bail!(Refusal::BadParameter("--keep-git-dir is for git repositories, of which there is none".to_owned()));
        }
        // The files of this build, of another stage, or of an image.
        let from = match &transfer.from {
            Some(word) => {
                let from = self.source(&word.text, stage)?;
                let called = "the stage or image that --from names";
                Some((self.tree(&from, called)?, chain_key(&from)))
            }
            None => None,
        };
        let mut nothing = Known::load(None);
        let mut key = Key::new(name);
        key.field(&state.key).field(&expanded.destination).field(format!("{:?}", expanded.chmod));
        key.field(expanded.chown.as_deref().unwrap_or("-"))
            .field([u8::from(transfer.link), u8::from(transfer.parents)]);
        let wish = Wish { parents: transfer.parents, exclude: &expanded.exclude };
        let mut sources = Vec::new();
        for source in &paths {
            let tree = from.as_ref().map_or(&self.context.tree, |(tree, _)| tree);
            let mut items = Vec::new();
            gather(tree, source, &wish, &mut items)?;
            let unpack = add && transfer.unpack != Some(false) && is_archive(tree, &items)?;
            // What a stage has never changes: it is asked once.
            let asked = from.as_ref().map(|(_, chain)| {
                let mut asked = Key::new("content");
                let exclude = transfer.exclude.iter().map(|word| word.text.as_str());
                asked.field(chain).field(source).field([u8::from(transfer.parents)]).list(exclude);
                asked.end()
            });
            let known =
                asked.as_ref().and_then(|asked| cache::find(&self.engine.store, self.lease, asked, &[]).ok().flatten());
            let content = match known.and_then(|record| record.answer) {
                Some(answer) => answer,
                None => {
                    let known = if from.is_some() { &mut nothing } else { &mut self.known };
                    let content = digest::of(tree, &items, known)?;
                    if let Some(asked) = &asked {
                        cache::put(&self.engine.store, asked, None, Some(content.clone()), source)?;
                    }
                    content
                }
            };
            key.field(content.to_string()).field([u8::from(unpack)]);
            sources.push(Source::Items(items, unpack));
        }
        for url in &urls {
            let (file, digest) = self.download(url)?;
            if let Some(wanted) = &expanded.checksum
                && *wanted != digest
            {
                bail!("{url}: digest mismatch: expected {wanted}, got {digest}");
            }
            let unpack = transfer.unpack == Some(true);
            key.field(digest.to_string()).field(file_name(url)).field([u8::from(unpack)]);
            sources.push(Source::Download(file_name(url), file, unpack));
        }
        for (name, content) in &expanded.documents {
            key.field(name).field(content);
        }
        let count = sources.len() + expanded.documents.len();
        if count > 1 && !expanded.destination.ends_with('/') {
            bail!(Refusal::BadParameter(format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            )));
        }
        let none = sources.iter().all(|source| matches!(source, Source::Items(items, _) if items.is_empty()));
        if none && expanded.documents.is_empty() {
            bail!(Refusal::BadParameter(format!("{name} failed: no source files were specified")));
        }
        let history = history(name, transfer, &expanded);
        let (chown, time, link) = (expanded.chown.clone(), state.clock, transfer.link);
        let (context, caller) = (self.context, self.caller.clone());
        let layer = self.step(state, &key.end(), &history, |builder, state| {
            // A layer that stands by itself: what lies below leads it nowhere.
            let alone = State::clone(state).without_layers();
            let known = match link {
                true => {
                    let image = builder.tree(state, "the image")?;
                    Some(owned(image.root.as_fd(), &chown)?)
                }
                false => None,
            };
            let below = if link { &alone } else { state };
            builder.change(below, true, &mut |root| {
                let owner = match &known {
                    Some(owner) => *owner,
                    None => owned(root, &chown)?,
                };
                let tree = from.as_ref().map_or(&context.tree, |(tree, _)| tree);
                for source in &sources {
                    one(root, tree, source, &expanded, (owner, time), &caller)?;
                }
                let mut place = Place::new(
                    root,
                    expanded.destination.clone(),
                    owner.unwrap_or_default(),
                    expanded.chmod.clone(),
                    time,
                );
                for (name, content) in &expanded.documents {
                    place.file(name, content.as_bytes(), 0o644)?;
                }
                place.end()
            })
        })?;
        self.remember(state, history, !layer);
        self.report.done(&state.key)
    }

    /// Downloads a file into the lease's directory, and gives its digest.
    fn download(&mut self, url: &str) -> Result<(PathBuf, Digest)> {
        let place = self.scratch_dir()?.join("download");
        let (mut reader, _) = registry::download(url, MOST, &self.engine.settings.registry())?;
        let mut file = File::create(&place).with_context(|| format!("create {}", place.display()))?;
        let mut hasher = crate::oci::digest::Hasher::new(crate::oci::digest::Algorithm::Sha256);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if self.caller.has_gone() {
                return Err(super::report::gone());
            }
            match reader.read(&mut buffer).with_context(|| format!("download {url}"))? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    file.write_all(&buffer[..n]).with_context(|| format!("write {}", place.display()))?;
                }
            }
        }
        Ok((place, hasher.finish()))
    }
}

fn owned(root: std::os::fd::BorrowedFd, chown: &Option<String>) -> Result<Option<Owner>> {
    chown.as_ref().map(|text| owner(root, text)).transpose()
}

fn one(
    root: std::os::fd::BorrowedFd,
    from: &Tree,
    source: &Source,
    expanded: &Expanded,
    (owner, time): (Option<Owner>, i64),
    caller: &Caller,
) -> Result<()> {
    let mut place =
        Place::new(root, expanded.destination.clone(), owner.unwrap_or_default(), expanded.chmod.clone(), time);
    let unpack = |place: &mut Place, file: File| -> Result<()> {
        place.directory()?;
        let owner = owner.map_or(TarOwner::AsTold, |owner| TarOwner::All(owner.uid, owner.gid));
        let dir = path::trim_slashes(expanded.destination.as_bytes()).to_vec();
        let target = Target { root, dir: &dir, owner, replace: true, rename: None, ids: None };
        extract::extract(&mut compression::decoder(file)?, &target).map(drop)
    };
    match source {
        Source::Items(items, true) => {
            let Some(item) = items.first() else { return Ok(()) };
            unpack(&mut place, open(from, item)?).with_context(|| format!("unpack {}", path::show(&item.path)))?;
        }
        Source::Items(items, false) => place.items(from, items, caller)?,
        Source::Download(_, file, true) => {
            let file = File::open(file).with_context(|| format!("open {}", file.display()))?;
            unpack(&mut place, file).context("unpack what was downloaded")?;
        }
        Source::Download(name, file, false) => {
            // As a tree of one file.
            let dir = file.parent().context("a download without a directory")?;
            let tree = Tree { root: path::open_root(dir)?, ignore: Ignore::default(), called: "the download" };
            let Some(fd) = tree::look(tree.root.as_fd(), b"download")? else { bail!("the download went away") };
            let mut stat = nix::sys::stat::fstat(&fd).context("look at the download")?;
            (stat.st_mode, stat.st_mtime) = (libc::S_IFREG | 0o600, time);
            let item = Item { path: b"download".to_vec(), name: name.clone().into_bytes(), stat, top: false };
            place.items(&tree, &[item], caller)?;
        }
    }
    place.end()
}

fn open(from: &Tree, item: &Item) -> Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let fd = path::open(from.root.as_fd(), &item.path, flags, 0, path::NO_LINKS);
    Ok(File::from(fd.with_context(|| format!("open {}", path::show(&item.path)))?))
}

/// Whether the one file that a source is, is a tar: by what is in it.
fn is_archive(from: &Tree, items: &[Item]) -> Result<bool> {
    let [item] = items else { return Ok(false) };
    if !is_file(&item.stat) {
        return Ok(false);
    }
    let mut start = [0; 6];
    let n = open(from, item)?.read(&mut start).with_context(|| format!("read {}", path::show(&item.path)))?;
    match compression::Compression::of(&start[..n]) {
        compression::Compression::Bzip2 | compression::Compression::Xz => bail!(Refusal::NotImplemented(format!(
            "{} is compressed with bzip2 or xz, which ADD cannot unpack here: unpack it, or copy it with --unpack=false",
            path::show(&item.path)
        ))),
        _ => {}
    }
    let mut block = [0; header::BLOCK];
    let whole = compression::decoder(open(from, item)?).and_then(|mut tar| Ok(tar.read_exact(&mut block)?));
    Ok(whole.is_ok() && block != [0; header::BLOCK] && header::check(&block).is_ok())
}

fn is_git(source: &str) -> bool {
    let base = source.split('#').next().unwrap_or_default();
    base.starts_with("git@")
        || base.starts_with("git://")
        || base.starts_with("ssh://")
        || is_url(base) && base.ends_with(".git")
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// The last name in the path of a URL.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name =
        path.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") { "__unnamed__".to_owned() } else { name.to_owned() }
}

fn expand(state: &State, transfer: &Transfer, add: bool, lex: Lex) -> Result<Expanded, Fault> {
    let lookup = |name: &str| state.lookup(name);
    let words = Words { lex, lookup: &lookup };
    let one = |word: &Option<Word>| word.as_ref().map(|word| words.one(word)).transpose();
    let written = words.one(&transfer.destination)?;
    let destination = match written.as_str() {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{}/{}", state.config.working_dir.trim_end_matches('/'), path),
    };
    let slash = destination.ends_with('/') || destination.ends_with("/.");
    let mut destination = metadata::join("/", &destination);
    if slash && !destination.ends_with('/') {
        destination.push('/');
    }
    let mut documents = Vec::new();
    for heredoc in &transfer.heredocs {
        let raw = Lex { no_quotes: true, ..Lex::new('\\') };
        let content = match heredoc.expand {
            true => {
                raw.expand(&heredoc.text(), &lookup)
                    .map_err(|message| Fault::new(transfer.destination.place, message))?
                    .text
            }
            false => heredoc.text(),
        };
        documents.push((heredoc.name.clone(), content));
    }
    let place = |word: &Option<Word>| word.as_ref().map(|word| word.place).unwrap_or_default();
    let chmod = match one(&transfer.chmod)? {
        Some(text) => Some(Mode::parse(&text).map_err(|error| Fault::new(place(&transfer.chmod), error.to_string()))?),
        None => None,
    };
    let checksum = match one(&transfer.checksum)? {
        Some(_) if !add => return Err(Fault::new(place(&transfer.checksum), "checksum can't be specified for COPY")),
        Some(text) => {
            Some(Digest::parse(&text).map_err(|error| Fault::new(place(&transfer.checksum), format!("{error:#}")))?)
        }
        None => None,
    };
    let exclude: Vec<String> = transfer.exclude.iter().map(|word| words.one(word)).collect::<Result<_, _>>()?;
    let exclude = Ignore::new(exclude.iter().map(String::as_str))
        .map_err(|error| Fault::new(transfer.destination.place, error.to_string()))?;
    Ok(Expanded {
        sources: transfer.sources.iter().map(|word| words.one(word)).collect::<Result<_, _>>()?,
        documents,
        destination,
        chown: one(&transfer.chown)?,
        chmod,
        exclude,
        checksum,
    })
}

/// `COPY --chown=a b /c`, as the history of Docker's images has it.
fn history(name: &str, transfer: &Transfer, expanded: &Expanded) -> String {
    let mut text = name.to_owned();
    if transfer.parents {
        text.push_str(" --parents");
    }
    if let Some(chown) = &expanded.chown {
        text.push_str(&format!(" --chown={chown}"));
    }
    if let Some(word) = &transfer.chmod {
        text.push_str(&format!(" --chmod={}", word.text));
    }
    for source in &expanded.sources {
        text.push_str(&format!(" {source}"));
    }
    for (name, _) in &expanded.documents {
        text.push_str(&format!(" <<{name}"));
    }
    format!("{text} {}", expanded.destination)
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
        for (source, git) in [
            ("https://h/x.git", true),
            ("https://h/x.git#main:sub", true),
            ("git@h:x", true),
            ("https://h/x", false),
            ("x.git", false),
        ] {
            assert_eq!(is_git(source), git, "{source}");
        }
    }
}
