//! `--cache-from`: steps whose layers an image has that was named for it.
//!
//! Two things in an image tell of its steps. Where it was built with `BUILDKIT_INLINE_CACHE=1` its config has their keys,
//! so that all of them are found as in the cache of this store. Else its history has their texts, which say enough of a
//! plain `RUN` and of `WORKDIR`. What is copied is copied then, and where the image has the same files in that place,
//! whatever their times, its layer is gone on from.
//! Either way all that lies below must be the same, layer for layer; but for copies that are linked, which stand by
//! themselves. Of an image that only a registry has, no layer is fetched but those that steps take, or are compared with.
//!
//! An image may say what is not so. It is believed like a base, because it was named, and in that build alone: what was
//! taken from it becomes no record of the cache, see [`State::foreign`].

use super::bases::Pull;
use super::builder::Builder;
use super::cache::Key;
use super::ignore::Ignore;
use super::report::{Output, gone, is_gone};
use super::state::State;
use super::transfer::digest::{self, Known};
use super::transfer::gather::{Tree, Wish, gather};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::ProgressLine;
use crate::engine::layers::{self, Staged};
use crate::engine::pull::Remote;
use crate::fs::settle::HIDDEN;
use crate::fs::{path, tree, xattr};
use crate::json::{self, by_serde};
use crate::oci::Digest;
use crate::oci::image::{History, ImageConfig, chain_ids};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One entry of `--cache-from`.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub image: String,
    pub pull: Pull,
}

/// Reads one entry: names of images as the API has them, which are not pulled, or `type=registry,ref=NAME`.
pub fn parse(entry: &str) -> Result<Vec<Named>> {
    let bad = |why: String| Refusal::BadParameter(format!("invalid cache source {entry:?}: {why}"));
    let fields = super::dockerfile::mount::fields(entry).map_err(bad)?;
    if !fields.iter().any(|field| field.contains('=')) {
        let names = fields.into_iter().filter(|name| !name.is_empty());
        return Ok(names.map(|image| Named { image, pull: Pull::Never }).collect());
    }
    let (mut kind, mut image) = (String::new(), String::new());
    for field in fields {
        match field.split_once('=') {
            Some(("type", value)) => kind = value.to_owned(),
            Some(("ref", value)) => image = value.to_owned(),
            _ if kind == "registry" => bail!(bad(format!("{field} is not known"))),
            _ => {}
        }
    }
    match kind.as_str() {
        "registry" if image.is_empty() => bail!(bad("it names no image: ref=NAME".to_owned())),
        "registry" => Ok(vec![Named { image, pull: Pull::Missing }]),
        "" => bail!(bad("it has no type".to_owned())),
        kind => bail!(Refusal::NotImplemented(format!(
            "cache from {kind} is not supported: only from images, type=registry,ref=NAME"
        ))),
    }
}

/// What the config of an image says of a step, so that another build finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub key: String,
    /// So many layers lie below.
    pub below: usize,
    /// Whether it added one.
    pub layer: bool,
    /// The newest time of a file from then on, in seconds since 1970.
    pub clock: i64,
    /// The key that it has on every base, where its layer stands by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<String>,
}

by_serde! { Step }

/// An image that was named, as far as it tells of steps.
pub struct Source {
    diff_ids: Vec<Digest>,
    /// Directories under layers/.
    layers: Vec<String>,
    /// Where layers come from that the store has not.
    remote: Option<Remote>,
    history: Vec<History>,
    steps: Vec<Step>,
}

/// What it has of a step.
pub struct Taken {
    layer: Option<(Digest, String)>,
    clock: i64,
}

/// The same with its layer in the store.
pub struct Brought {
    /// The directory under layers/, and whether it hides those below.
    layer: Option<(Digest, (String, bool))>,
    clock: i64,
}

impl Source {
    fn new(config: &ImageConfig, remote: Option<Remote>) -> Source {
        // Whoever wrote something else there wrote no steps.
        let steps = config.steps.clone().and_then(|steps| json::from_value(steps).ok()).unwrap_or_default();
        let diff_ids = config.rootfs.diff_ids.clone();
        let layers = chain_ids(&diff_ids).iter().map(layers::dir_id).collect();
        Source { diff_ids, layers, remote, history: config.history.clone(), steps }
    }

    pub fn has_keys(&self) -> bool {
        !self.steps.is_empty()
    }

    /// A step on top of `state`: by its key, or by the text that the history has, where that says it all.
    fn find(&self, state: &State, key: &str, text: Option<&str>) -> Option<Taken> {
        let below = state.diff_ids.len();
        if self.diff_ids.get(..below)? != state.diff_ids {
            return None;
        }
        let said = self.steps.iter().find(|step| step.key == key && step.below == below);
        let (layer, clock) = match said {
            Some(step) => (step.layer, step.clock),
            None => {
                let text = text?;
                self.next(state, &|theirs| is(theirs, text))?
            }
        };
        let layer = match layer {
            true => Some((self.diff_ids.get(below)?.clone(), self.layers.get(below)?.clone())),
            false => None,
        };
        Some(Taken { layer, clock })
    }

    /// The layer on top of `state`, where the history has a copy there.
    fn copy(&self, state: &State) -> Option<Taken> {
        let below = state.diff_ids.len();
        if self.diff_ids.get(..below)? != state.diff_ids {
            return None;
        }
        let copies = |theirs: &str| ["COPY ", "ADD "].iter().any(|word| bare(theirs).starts_with(word));
        let (layer, clock) = self.next(state, &|theirs| copies(theirs))?;
        let taken = (self.diff_ids.get(below)?.clone(), self.layers.get(below)?.clone());
        layer.then_some(Taken { layer: Some(taken), clock })
    }

    /// The place of a layer that stands by itself, by the key that it has on every base.
    fn alone(&self, key: &str) -> Option<usize> {
        let is = |step: &&Step| step.layer && step.below < self.diff_ids.len() && step.alone.as_deref() == Some(key);
        self.steps.iter().find(is).map(|step| step.below)
    }

    /// The places of layers that copies with this text have made, whatever lies below them.
    fn copies(&self, text: &str) -> Vec<usize> {
        let layers = self.history.iter().filter(|entry| !entry.empty_layer).take(self.diff_ids.len()).enumerate();
        layers.filter(|(_, entry)| bare(&entry.created_by) == text).map(|(at, _)| at).collect()
    }

    /// What the history says of the next step, if it is such a one and all before it is the same.
    fn next(&self, state: &State, wanted: &dyn Fn(&str) -> bool) -> Option<(bool, i64)> {
        let at = state.history.len();
        let before = self.history.get(..at)?;
        // The base's must be the very same; what this build has done may have been done at another time.
        let mut pairs = before.iter().zip(&state.history).enumerate();
        let same = pairs.all(|(at, (theirs, ours))| match at < state.based {
            true => theirs == ours,
            false => theirs.empty_layer == ours.empty_layer && is(&theirs.created_by, &ours.created_by),
        });
        let next = self.history.get(at).filter(|next| same && wanted(&next.created_by))?;
        let created = next.created.as_deref().and_then(Time::parse);
        let clock = created.map_or(0, |time| (time.unix_nanos() / 1_000_000_000) as i64);
        Some((!next.empty_layer, clock))
    }
}

/// Whether a text of a history says this step: as it is written here, by BuildKit, or by Docker's first builder.
fn is(theirs: &str, ours: &str) -> bool {
    let copies = |text: &str| text.starts_with("COPY ") || text.starts_with("ADD ");
    // Docker's first builder names what was copied by a digest of its own; whether it is the same has been looked at.
    let theirs = bare(theirs);
    theirs == ours || ours.strip_prefix("RUN ") == Some(theirs) || copies(theirs) && copies(ours)
}

/// The instruction that a text of a history is about; a command of Docker's first builder stands for itself.
fn bare(theirs: &str) -> &str {
    let theirs = theirs.strip_suffix(" # buildkit").unwrap_or(theirs);
    theirs.strip_prefix("/bin/sh -c #(nop)").map_or(theirs, str::trim)
}

/// What a layer has, as one digest, without times: names, kinds, modes, owners, attributes, contents. None of one that
/// hides something in a way of its own.
fn files(fs: &Path) -> Result<Option<Digest>> {
    if fs.with_file_name(HIDDEN).exists() {
        return Ok(None);
    }
    let tree = Tree { root: path::open_root(fs)?, ignore: Ignore::default(), called: "the layer", owned: true };
    let mut items = Vec::new();
    gather(&tree, "", &Wish { parents: false, exclude: &Ignore::default() }, &mut items)?;
    items.retain(|item| !item.path.is_empty());
    let mut key = Key::new("files");
    key.field(digest::of(&tree, &items, &mut Known::load(None))?.to_string());
    for item in &items {
        let Some(fd) = tree::look(tree.root.as_fd(), &item.path)? else { return Ok(None) };
        for (name, value) in xattr::list(fd.as_fd())? {
            // Of overlay's own notes only this one hides something.
            let name = name.to_bytes();
            if !name.starts_with(b"trusted.overlay.") || name == b"trusted.overlay.opaque" {
                key.field(name).field(value);
            }
        }
    }
    Digest::parse(&format!("sha256:{}", key.end())).map(Some)
}

impl State {
    /// Goes on from a step that an image has.
    pub fn take(&mut self, taken: Brought) {
        self.foreign = true;
        self.clock = self.clock.max(taken.clock);
        if let Some((diff_id, layer)) = taken.layer {
            self.diff_ids.push(diff_id);
            self.layers.push(layer);
        }
    }
}

/// The newest time of what a layer has, in seconds since 1970.
fn newest(fs: &Path) -> Result<i64> {
    let mut newest = 0;
    tree::glance(path::open_root(fs)?.as_fd(), &mut |_, _, stat| {
        newest = newest.max(stat.st_mtime);
        Ok(true)
    })?;
    Ok(newest)
}

impl Builder<'_> {
    fn files_of(&self, layer: &str) -> PathBuf {
        self.engine.store.layer(layer).join("fs")
    }

    /// The layer of an image that has the same files as one that was just copied on top of `state`. One that stands by
    /// itself is looked for by its text on whatever it lies on there.
    pub fn copied_before(&mut self, state: &State, staged: &Staged, alone: Option<&str>) -> Result<Option<Brought>> {
        let sources = Arc::clone(&self.cache_from);
        if sources.is_empty() || self.fresh {
            return Ok(None);
        }
        let Some(ours) = files(&staged.dir.join("fs"))? else { return Ok(None) };
        for source in sources.iter() {
            let Some(taken) = source.copy(state) else { continue };
            if let Some(brought) = self.bring(source, state, taken)?
                && let Some((_, (id, _))) = &brought.layer
                && files(&self.files_of(id))?.as_ref() == Some(&ours)
            {
                return Ok(Some(brought));
            }
        }
        for (source, at) in sources.iter().flat_map(|source| {
            let copies = alone.map(|text| source.copies(text)).unwrap_or_default();
            copies.into_iter().map(move |at| (source, at))
        }) {
            if let Some(id) = self.lone(source, at)?
                && files(&self.files_of(&id))?.as_ref() == Some(&ours)
            {
                return self.transplant(state, &source.diff_ids[at], &id).map(Some);
            }
        }
        Ok(None)
    }

    /// A step that an image has which was named as cache.
    pub fn made_elsewhere(&mut self, state: &State, key: &str, text: Option<&str>) -> Result<Option<Brought>> {
        let sources = Arc::clone(&self.cache_from);
        for source in sources.iter() {
            if let Some(taken) = source.find(state, key, text)
                && let Some(brought) = self.bring(source, state, taken)?
            {
                return Ok(Some(brought));
            }
        }
        Ok(None)
    }

    /// A layer that stands by itself, which an image has that was named as cache, on whatever it lies on there.
    pub fn linked_elsewhere(&mut self, state: &State, key: &str) -> Result<Option<Brought>> {
        let sources = Arc::clone(&self.cache_from);
        for source in sources.iter() {
            if let Some(at) = source.alone(key)
                && let Some(id) = self.lone(source, at)?
            {
                return self.transplant(state, &source.diff_ids[at], &id).map(Some);
            }
        }
        Ok(None)
    }

    /// Has the layer of a step in the store. None where its registry does not give it any more, which is no reason not to
    /// make the step.
    fn bring(&mut self, source: &Source, state: &State, taken: Taken) -> Result<Option<Brought>> {
        let Some((diff_id, id)) = taken.layer else { return Ok(Some(Brought { layer: None, clock: taken.clock })) };
        if !self.fetch(source, 0..state.diff_ids.len() + 1)? {
            return Ok(None);
        }
        let opaque = layers::load(&self.engine.store, &id)?.opaque;
        Ok(Some(Brought { layer: Some((diff_id, (id, opaque))), clock: taken.clock }))
    }

    /// Has one layer of an image in the store, whatever lies below it there. None of one that cannot stand by itself,
    /// because it hides something.
    fn lone(&mut self, source: &Source, at: usize) -> Result<Option<String>> {
        if !self.fetch(source, at..at + 1)? {
            return Ok(None);
        }
        let id = match source.remote {
            Some(_) => layers::dir_id(&source.diff_ids[at]),
            None => source.layers[at].clone(),
        };
        let hides = layers::load(&self.engine.store, &id)?.opaque || self.files_of(&id).with_file_name(HIDDEN).exists();
        Ok(Some(id).filter(|_| !hides))
    }

    /// Puts a layer of the store that stands by itself on top of `state`.
    fn transplant(&mut self, state: &State, diff_id: &Digest, id: &str) -> Result<Brought> {
        let store = &self.engine.store;
        self.durable.settle();
        let staged = layers::again(store, id, self.scratch_dir()?)?;
        let clock = newest(&staged.dir.join("fs"))?;
        let diff_ids = [&state.diff_ids[..], std::slice::from_ref(diff_id)].concat();
        let id = chain_ids(&diff_ids).last().map(layers::dir_id).unwrap_or_default();
        layers::begin(store, self.lease, &diff_ids, &staged)?;
        self.durable.wants(Some(&id));
        Ok(Brought { layer: Some((diff_id.clone(), (id, false))), clock })
    }

    /// Has layers of an image in the store, and tells where they cannot be had.
    fn fetch(&mut self, source: &Source, part: Range<usize>) -> Result<bool> {
        let Some(remote) = &source.remote else { return Ok(true) };
        let (report, caller) = (&mut self.report, &self.caller);
        let brought = remote.layers(&self.engine.store, self.lease, part, &mut |line| match caller.has_gone() {
            true => Err(std::io::ErrorKind::BrokenPipe.into()),
            false => report.pulling(line),
        });
        if self.caller.has_gone() {
            return Err(gone());
        }
        if let Err(error) = &brought {
            self.report.pulling(ProgressLine::status(format!("no cache for this step: {error:#}")))?;
        }
        Ok(brought.is_ok())
    }

    fn cache_source(&self, name: &str, pull: Pull) -> Result<Source> {
        let wanted = &self.asked.platform;
        match self.stored(name, wanted) {
            Ok(image) => return Ok(Source::new(&image.config, None)),
            Err(error) if pull == Pull::Missing && matches!(error.downcast_ref(), Some(Refusal::NotFound(_))) => {}
            Err(error) => return Err(error),
        }
        let settings = self.engine.settings.registry();
        let remote = Remote::find(&self.engine.store, self.wish(name, wanted)?, &settings)?;
        Ok(Source::new(&remote.config().clone(), Some(remote)))
    }

    /// The images of `--cache-from` that can be had. One that cannot be is told, and no reason not to build.
    pub fn cache_sources(&mut self, output: &mut Output) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        if self.asked.no_cache {
            return Ok(sources);
        }
        for Named { image, pull } in &self.asked.cache_from {
            match self.cache_source(image, *pull) {
                Ok(source) => sources.push(source),
                Err(error) if is_gone(&error) || self.caller.has_gone() => return Err(error),
                Err(error) => output.note(&format!("no cache from {image}: {error:#}"))?,
            }
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_images() {
        let named = |image: &str, pull| Named { image: image.to_owned(), pull };
        assert_eq!(parse("a:1").unwrap(), [named("a:1", Pull::Never)]);
        assert_eq!(parse("a:1,b/c").unwrap(), [named("a:1", Pull::Never), named("b/c", Pull::Never)]);
        assert_eq!(parse("type=registry,ref=h:5000/a").unwrap(), [named("h:5000/a", Pull::Missing)]);
        assert_eq!(parse("").unwrap(), []);
        for (entry, words) in [
            ("type=gha,scope=x", "cache from gha is not supported"),
            ("type=local,src=/x", "cache from local is not supported"),
            ("type=registry", "names no image"),
            ("type=registry,ref=a,x=y", "x=y is not known"),
            ("ref=a", "has no type"),
            ("\"a", "a quote is not closed"),
        ] {
            let error = format!("{:#}", parse(entry).unwrap_err());
            assert!(error.contains(words), "{entry}: {error}");
        }
    }

    #[test]
    fn histories_are_read_in_all_hands() {
        for (theirs, ours, same) in [
            ("RUN /bin/sh -c true", "RUN /bin/sh -c true", true),
            ("RUN /bin/sh -c true # buildkit", "RUN /bin/sh -c true", true),
            ("/bin/sh -c true", "RUN /bin/sh -c true", true),
            ("|1 a=b /bin/sh -c true", "RUN |1 a=b /bin/sh -c true", true),
            ("/bin/sh -c #(nop)  ENV a=b", "ENV a=b", true),
            ("/bin/sh -c #(nop) WORKDIR /x", "WORKDIR /x", true),
            ("RUN /bin/sh -c false", "RUN /bin/sh -c true", false),
            ("ENV a=b", "ENV a=c", false),
            ("", "RUN /bin/sh -c true", false),
            ("/bin/sh -c #(nop) RUN x", "RUN /bin/sh -c #(nop) RUN x", false),
            ("/bin/sh -c #(nop) COPY file:0123 in /a ", "COPY a /a", true),
            ("COPY a /a # buildkit", "RUN a /a", false),
        ] {
            assert_eq!(is(theirs, ours), same, "{theirs} and {ours}");
        }
    }
}
