//! `COPY` and `ADD`: what is taken from where, whether that was made before, and what it becomes.
//!
//! ```text
//! made before, perhaps    files ─hash→ key ─cache→ the layer
//!                                         └──────→ files ─copy→ layer
//! surely not              files ─copy and hash→ layer, key
//! ```
//!
//! A record of the instruction without its files tells which: where there is none, no key that goes on from it can be in
//! the cache, and the files are read once.

pub mod digest;
pub mod gather;
mod linked;
pub mod owner;
pub mod place;
mod remote;

use super::builder::Builder;
use super::cache::{self, Key};
use super::cache_from;
use super::dockerfile::instruction::{Instruction, Transfer, Word};
use super::dockerfile::words::Lex;
use super::dockerfile::{Fault, Place as At};
use super::git::{self, Address, Repository};
use super::ignore::Ignore;
use super::metadata::{self, Words};
use super::report::Style;
use super::state::{State, chain_key};
use crate::api::Refusal;
use crate::api::wire::Caller;
use crate::engine::layers::Staged;
use crate::fs::extract::{self, Owner as TarOwner, Target};
use crate::fs::seal::Sealed;
use crate::fs::stat::is_file;
use crate::fs::{compression, header, path, tree};
use crate::oci::Digest;
use anyhow::{Context as _, Result, bail};
use digest::Known;
use gather::{Item, Missing, Tree, Wish, gather, leads_out};
use linked::Linked;
use owner::{Mode, Owner, owner};
use place::{Content, Place};
use remote::Download;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::PoisonError;

/// An instruction with its words expanded.
struct Expanded {
    sources: Vec<String>,
    /// Name, content.
    documents: Vec<(String, String)>,
    /// An absolute path, and what was written.
    destination: String,
    written: String,
    chown: Option<String>,
    /// As it was written, and what it means.
    chmod: Option<String>,
    mode: Option<Mode>,
    exclude: Ignore,
    checksum: Option<Checksum>,
}

/// What `--checksum` says.
enum Checksum {
    Digest(Digest),
    /// The beginning of a commit's hash, or of an annotated tag's.
    Commit(String),
}

/// What one source is.
enum Source {
    /// Entries of the tree.
    Items(Vec<Item>),
    /// One of the tree that is an archive, to be unpacked.
    Archive(Item),
    Download(Download),
    /// A repository, and the digest that its commit and what is wanted of it have.
    Git(Box<Repository>, Digest),
    /// What was fetched of one.
    Fetched(Tree, Vec<Item>),
}

fn name_of(add: bool) -> &'static str {
    if add { "ADD" } else { "COPY" }
}

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
        let style = self.asked.style;
        self.taken(state, stage, transfer, add, expanded).map_err(|error| {
            let missing = error.downcast_ref::<Missing>().filter(|_| style == Style::Stream);
            let known = missing.map(|missing| anyhow::anyhow!(missing.classic(name_of(add))));
            (place, known.unwrap_or(error))
        })
    }

    fn taken(
        &mut self,
        state: &mut State,
        stage: usize,
        transfer: &Transfer,
        add: bool,
        expanded: Expanded,
    ) -> Result<()> {
        let name = name_of(add);
        let mut repositories = Vec::new();
        let (mut urls, mut paths): (Vec<&String>, Vec<&String>) = (Vec::new(), Vec::new());
        for source in &expanded.sources {
            match Address::parse(source, false)? {
                Some(_) if !add => {
                    let text = format!("source can't be a git ref for COPY: {}", git::shown(source));
                    bail!(Refusal::BadParameter(text))
                }
                Some(address) => repositories.push(address),
                None if is_url(source) => urls.push(source),
                None => paths.push(source),
            }
        }
        // BuildKit, whose Dockerfiles these are, takes such a path for one of the context. Who builds by Docker's API
        // knows it refused.
        if let Some(path) = paths.iter().find(|path| self.asked.style == Style::Stream && leads_out(path)) {
            let text = format!("{name} failed: forbidden path outside the build context: {path} ()");
            bail!(Refusal::BadParameter(text));
        }
        if let Some(url) = urls.first().filter(|_| !add) {
            bail!(Refusal::BadParameter(format!("source can't be a URL for COPY: {}", git::shown(url))));
        }
        let keep = transfer.keep_git_dir == Some(true);
        if keep && repositories.is_empty() {
            bail!(Refusal::BadParameter("--keep-git-dir is for git repositories, of which there is none".to_owned()));
        }
        // The files of this build, of another stage, or of an image.
        let from_name = transfer.from.as_ref().map_or("", |word| word.text.as_str());
        let here = self.here(from_name);
        let from = match &transfer.from {
            Some(word) if here.is_none() => {
                let from = self.source(&word.text, stage)?;
                let called = "the stage or image that --from names";
                Some((self.tree(&from, called)?, chain_key(&from)))
            }
            _ => None,
        };
        let mut key = Key::new(name);
        key.field(&state.key).field(&expanded.destination).field(format!("{:?}", expanded.mode));
        key.field(expanded.chown.as_deref().unwrap_or("-"))
            .field([u8::from(transfer.link), u8::from(transfer.parents)]);
        // Directories that are made on the way have it.
        key.field(self.clock(state, transfer.link).to_le_bytes());
        let linked = match transfer.link {
            true => Some(self.linked(state, name, transfer, &expanded)?),
            false => None,
        };
        let store = &self.engine.store;
        // Without its files.
        let mut perhaps = self.cache_from.iter().any(cache_from::Source::has_keys);
        let mut news = Vec::new();
        for begun in std::iter::once(&key).chain(linked.as_ref().map(|it| &it.key)).map(Key::end) {
            match cache::find(store, self.lease, &begun, &[])? {
                Some(_) => perhaps = true,
                None => news.push(begun),
            }
        }
        let perhaps = perhaps && !self.fresh;
        let tree = from.as_ref().map(|(tree, _)| tree).or(here).unwrap_or(&self.context.tree);
        let wish = Wish { parents: transfer.parents, exclude: &expanded.exclude };
        let now = digest::now()?;
        let mut sources = Vec::new();
        for source in &paths {
            let mut items = Vec::new();
            gather(tree, source, &wish, &mut items)?;
            match add && transfer.unpack != Some(false) {
                true => sources.extend(parted(tree, items)?),
                false => sources.push(Source::Items(items)),
            }
        }
        for url in &urls {
            let download = self.download(url, transfer.unpack == Some(true))?;
            if let Some(Checksum::Digest(wanted)) = &expanded.checksum
                && *wanted != download.digest
            {
                let shown = git::shown(url);
                bail!("{shown}: digest mismatch: expected {wanted}, got {}", download.digest);
            }
            sources.push(Source::Download(download));
        }
        for mut address in repositories {
            if matches!((transfer.keep_git_dir, address.keep), (Some(flag), Some(query)) if flag != query) {
                bail!(Refusal::BadParameter("inconsistent keep-git-dir configuration".to_owned()));
            }
            let keep = transfer.keep_git_dir.or(address.keep).unwrap_or_default();
            address.keep = Some(keep);
            let repository = self.repository(address)?;
            if let Some(Checksum::Commit(wanted)) = &expanded.checksum {
                repository.found.check(wanted)?;
            }
            // Of one commit there is always the same.
            let mut wanted = Key::new("git");
            wanted.field(&repository.found.commit).field(&repository.address.subdir);
            wanted.field(if keep { repository.address.remote.as_str() } else { "" });
            wanted.list(transfer.exclude.iter().map(|word| word.text.as_str()));
            if !repository.address.submodules {
                wanted.field("no submodules");
            }
            let digest = Digest::of(wanted.end().as_bytes());
            sources.push(Source::Git(Box::new(repository), digest));
        }
        if self.asked.style == Style::Stream {
            whole_request(name, &sources, &expanded)?;
        }
        // What a stage has never changes: it is asked once.
        let questions: Vec<Option<String>> = (0..sources.len())
            .map(|at| {
                let (_, chain) = from.as_ref()?;
                let mut asked = Key::new("content and owners");
                let exclude = transfer.exclude.iter().map(|word| word.text.as_str());
                asked.field(chain).field(paths.get(at)?).field([u8::from(transfer.parents)]).list(exclude);
                Some(asked.end())
            })
            .collect();
        let mut answers: Vec<Option<Digest>> = Vec::new();
        let mut nothing = Known::load(None);
        for (source, question) in sources.iter().zip(&questions) {
            let answer = match question {
                Some(question) => cache::find(store, self.lease, question, &[])?.and_then(|record| record.answer),
                None => None,
            };
            let known = if from.is_some() {
                &mut nothing
            } else {
                &mut *self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
            };
            answers.push(match (answer, source) {
                (Some(answer), _) => Some(answer),
                (None, Source::Download(Download { digest, .. }) | Source::Git(_, digest)) => Some(digest.clone()),
                (None, Source::Archive(item)) => Some(digest::of(tree, std::slice::from_ref(item), known)?),
                (None, Source::Items(items)) if perhaps => Some(digest::of(tree, items, known)?),
                (None, Source::Items(_) | Source::Fetched(..)) => None,
            });
        }
        let whole = |key: &Key, sources: &[Source], answers: &[Option<Digest>]| {
            let mut key = key.clone();
            for (source, answer) in sources.iter().zip(answers) {
                key.field(answer.as_ref().map(Digest::to_string).unwrap_or_default());
                match source {
                    Source::Items(_) => key.field([0]),
                    Source::Archive(_) => key.field([1]),
                    Source::Download(it) => key.field(&it.name).field([u8::from(it.unpack)]),
                    Source::Git(..) | Source::Fetched(..) => key.field([2]),
                };
            }
            for (name, content) in &expanded.documents {
                key.field(name).field(content);
            }
            key.end()
        };
        let history = history(name, transfer, &expanded);
        let mut alone = None;
        let before = match answers.iter().all(Option::is_some) {
            true => {
                alone = linked.as_ref().map(|it| whole(&it.key, &sources, &answers));
                self.taken_before(state, &whole(&key, &sources, &answers), alone.as_deref(), &history)?
            }
            false => None,
        };
        let layer = match before {
            Some(layer) => layer,
            None => {
                self.durable.settle();
                self.fetched(&mut sources, &mut answers, &wish)?;
                let (made, contents) = self.written(state, tree, &sources, &expanded, linked.as_ref())?;
                for (at, contents) in contents.into_iter().enumerate() {
                    if let (Source::Items(items), None) = (&sources[at], &answers[at]) {
                        answers[at] = Some(digest::with(tree, items, &contents)?);
                        if from.is_none() {
                            let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
                            let files = items.iter().zip(contents).filter(|(item, _)| is_file(&item.stat));
                            files.for_each(|(item, content)| known.learn(&item.stat, content, now));
                        }
                    }
                }
                alone = linked.as_ref().map(|it| whole(&it.key, &sources, &answers));
                let key = whole(&key, &sources, &answers);
                let same = match &made {
                    Some((staged, _)) => self.copied_before(state, staged, alone.as_ref().map(|_| history.as_str()))?,
                    None => None,
                };
                match same {
                    Some(taken) => self.taken_over(state, &key, taken)?,
                    None => self.keep(state, &key, alone.as_deref(), &history, made)?,
                }
            }
        };
        alone.into_iter().for_each(|key| state.stands_alone(key));
        for begun in &news {
            cache::put(&self.engine.store, begun, None, None, &history)?;
        }
        for ((question, answer), path) in questions.iter().zip(answers).zip(&paths) {
            if let (Some(question), Some(answer)) = (question, answer) {
                cache::answer(&self.engine.store, question, answer, path)?;
            }
        }
        self.remember(state, history, !layer);
        self.report.done(&state.key)
    }

    /// The time of directories that are made on the way. What is linked is the same on every base.
    fn clock(&self, state: &State, link: bool) -> i64 {
        if link { self.epoch.unwrap_or(0) } else { state.clock }
    }

    /// Copies sources over what a stage shows; what changed becomes a layer. Gives the digests of the files of each
    /// source, too.
    #[allow(clippy::type_complexity)]
    fn written(
        &mut self,
        state: &State,
        tree: &Tree,
        sources: &[Source],
        expanded: &Expanded,
        linked: Option<&Linked>,
    ) -> Result<(Option<(Staged, Sealed)>, Vec<Vec<Content>>)> {
        let (chown, caller) = (&expanded.chown, self.caller.clone());
        let time = self.clock(state, linked.is_some());
        // A layer that stands by itself: what lies below leads it nowhere.
        let alone = State::clone(state).without_layers();
        let mut contents = Vec::new();
        let below = if linked.is_some() { &alone } else { state };
        let made = self.change(below, true, &mut |root| {
            let owner = match linked {
                Some(linked) => linked.owner,
                None => owned(root, chown)?,
            };
            // One for all of them: what several write to gets its time when all have.
            let mut place = Place::new(root, expanded.destination.clone(), owner, expanded.mode.clone(), time);
            contents = Vec::with_capacity(sources.len());
            for source in sources {
                contents.push(one(&mut place, tree, source, expanded, owner, &caller)?);
            }
            for (name, content) in &expanded.documents {
                place.file(name, content.as_bytes(), 0o644)?;
            }
            place.end()
        })?;
        Ok((made, contents))
    }
}

fn owned(root: std::os::fd::BorrowedFd, chown: &Option<String>) -> Result<Option<Owner>> {
    chown.as_ref().map(|text| owner(root, text)).transpose()
}

fn one(
    place: &mut Place,
    from: &Tree,
    source: &Source,
    expanded: &Expanded,
    owner: Option<Owner>,
    caller: &Caller,
) -> Result<Vec<Content>> {
    let mut contents = Vec::new();
    let unpack = |place: &mut Place, file: File| -> Result<()> {
        place.directory()?;
        let owner = owner.map_or(TarOwner::AsTold, |owner| TarOwner::All(owner.uid, owner.gid));
        let dir = path::trim_slashes(expanded.destination.as_bytes()).to_vec();
        let target = Target { root: place.root, dir: &dir, owner, replace: true, rename: None, ids: None };
        extract::extract(&mut compression::decoder(file)?, &target)?;
        place.forget();
        Ok(())
    };
    match source {
        Source::Archive(item) => {
            unpack(place, open(from, item)?).with_context(|| format!("unpack {}", path::show(&item.path)))?;
        }
        Source::Items(items) => contents = place.items(from, items, caller)?,
        Source::Fetched(tree, items) => drop(place.items(tree, items, caller)?),
        Source::Git(repository, _) => bail!("{} was not fetched", repository.address.remote),
        Source::Download(Download { file, unpack: true, .. }) if is_tar(open_path(file)?) => {
            unpack(place, open_path(file)?).context("unpack what was downloaded")?;
        }
        Source::Download(Download { name, file, modified, .. }) => {
            // As a tree of one file.
            let dir = file.parent().context("a download without a directory")?;
            let root = path::open_root(dir)?;
            let tree = Tree { root, ignore: Ignore::default(), called: "the download", owned: false };
            let Some(fd) = tree::look(tree.root.as_fd(), b"download")? else { bail!("the download went away") };
            let mut stat = nix::sys::stat::fstat(&fd).context("look at the download")?;
            (stat.st_mode, stat.st_mtime) = (libc::S_IFREG | 0o600, modified.unwrap_or(place.time));
            let item = Item::new(b"download".to_vec(), name.clone().into_bytes(), stat, false);
            place.items(&tree, &[item], caller)?;
        }
    }
    Ok(contents)
}

fn open(from: &Tree, item: &Item) -> Result<File> {
    place::open(from.root.as_fd(), &item.path).map(File::from).with_context(|| path::show(&item.path))
}

/// Archives among the files that a source names, each by itself: by what is in them. What lies in a directory that it
/// names is copied as it is.
fn parted(from: &Tree, items: Vec<Item>) -> Result<Vec<Source>> {
    let (mut parts, mut rest) = (Vec::new(), Vec::new());
    let mut inside: Option<Vec<u8>> = None;
    for item in items {
        let contained = inside.as_ref().is_some_and(|dir| item.path.starts_with(dir));
        if item.top {
            inside = Some(path::join(&item.path, b""));
        } else if !contained && is_file(&item.stat) && is_tar(open(from, &item)?) {
            parts.push(Source::Items(std::mem::take(&mut rest)));
            parts.push(Source::Archive(item));
            continue;
        }
        rest.push(item);
    }
    parts.push(Source::Items(rest));
    if parts.len() > 1 {
        parts.retain(|part| !matches!(part, Source::Items(items) if items.is_empty()));
    }
    Ok(parts)
}

fn is_tar(file: File) -> bool {
    let mut block = [0; header::BLOCK];
    let whole = compression::decoder(file).and_then(|mut tar| Ok(tar.read_exact(&mut block)?));
    whole.is_ok() && block != [0; header::BLOCK] && header::check(&block).is_ok()
}

fn open_path(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
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
    let parents = transfer.parents && !transfer.sources.is_empty();
    let slash = parents || destination.ends_with('/') || destination.ends_with("/.");
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
        // It is a file of its own directory, whatever it is called.
        let name = metadata::join("/", &heredoc.name);
        documents.push((name.trim_start_matches('/').to_owned(), content));
    }
    let place = |word: &Option<Word>| word.as_ref().map(|word| word.place).unwrap_or_default();
    let given = |word: &Option<Word>| Ok(one(word)?.filter(|text| !text.is_empty()));
    let chmod = given(&transfer.chmod)?;
    let mode = match &chmod {
        Some(text) => Some(Mode::parse(text).map_err(|error| Fault::new(place(&transfer.chmod), error.to_string()))?),
        None => None,
    };
    let sources: Vec<String> = transfer.sources.iter().map(|word| words.one(word)).collect::<Result<_, _>>()?;
    let checksum = match given(&transfer.checksum)? {
        Some(_) if !add => return Err(Fault::new(place(&transfer.checksum), "checksum can't be specified for COPY")),
        Some(text) => Some(checked(&text, &sources).map_err(|why| Fault::new(place(&transfer.checksum), why))?),
        None => None,
    };
    let exclude = Ignore::new(transfer.exclude.iter().map(|word| word.text.as_str()))
        .map_err(|error| Fault::new(transfer.destination.place, error.to_string()))?;
    let chown = given(&transfer.chown)?;
    Ok(Expanded { sources, documents, destination, written, chown, chmod, mode, exclude, checksum })
}

/// What Docker's first builder asks of sources besides.
fn whole_request(name: &str, sources: &[Source], expanded: &Expanded) -> Result<()> {
    let count = sources.len() + expanded.documents.len();
    if count > 1 && !expanded.destination.ends_with('/') {
        bail!(Refusal::BadParameter(format!(
            "When using {name} with more than one source file, the destination must be a directory and end with a /"
        )));
    }
    let none = sources.iter().all(|source| matches!(source, Source::Items(items) if items.is_empty()));
    if none && expanded.documents.is_empty() {
        bail!(Refusal::BadParameter(format!("{name} failed: no source files were specified")));
    }
    Ok(())
}

/// A commit of a repository, or a digest of whatever else.
fn checked(text: &str, sources: &[String]) -> Result<Checksum, String> {
    let [source] = sources else { return Err("checksum can't be specified for multiple sources".to_owned()) };
    if matches!(Address::parse(source, false), Ok(Some(_))) {
        return git::check_commit(text).map(|()| Checksum::Commit(text.to_owned()));
    }
    if !is_url(source) {
        return Err("checksum requires HTTP(S) or Git sources".to_owned());
    }
    Digest::parse(text).map(Checksum::Digest).map_err(|error| format!("{error:#}"))
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
    if let Some(chmod) = &expanded.chmod {
        text.push_str(&format!(" --chmod={chmod}"));
    }
    for source in &expanded.sources {
        text.push_str(&format!(" {}", git::shown(source)));
    }
    for (name, _) in &expanded.documents {
        text.push_str(&format!(" <<{name}"));
    }
    format!("{text} {}", expanded.written)
}
