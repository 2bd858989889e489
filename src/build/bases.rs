//! What stages begin with and take from: nothing, images, other stages.

use super::builder::Builder;
use super::cache::Key;
use super::context::Context;
use super::contexts::Named;
use super::dockerfile::instruction::Word;
use super::dockerfile::{Fault, suggest};
use super::ignore::Ignore;
use super::report;
use super::state::State;
use super::transfer::digest;
use super::transfer::gather::{Tree, Wish, gather};
use super::transfer::place::Place;
use crate::api::Refusal;
use crate::api::time::Time;
use crate::engine::images::{self, Image, Layout};
use crate::engine::pull;
use crate::oci::image::{ImageConfig, RootFs, RunConfig, chain_ids};
use crate::oci::{Platform, Reference};
use anyhow::{Result, anyhow};
use std::sync::{Arc, PoisonError};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pull {
    Never,
    Missing,
    Always,
}

impl<'a> Builder<'a> {
    /// Files that lie outside of stages and images: those of the build, or of a named context.
    pub fn here(&self, from: &str) -> Option<&'a Tree> {
        let context: &'a Context = self.context;
        if from.is_empty() { Some(&context.tree) } else { context.named.files(from) }
    }
}

impl Builder<'_> {
    pub(super) fn platform_of(&self, word: &Word) -> Result<Platform> {
        let text = self.expand_global(word, &self.globals)?;
        let wrong = |message: String| self.file.source.parse_error(&Fault::new(word.place, message));
        if text.is_empty() {
            let asked = self.lex().expand(&word.text, &|_| None).map(|it| it.unmatched).unwrap_or_default();
            let known = || self.globals.iter().map(|(name, _)| name.as_str());
            let hint = asked.iter().map(|name| suggest(name, known())).find(|hint| !hint.is_empty());
            let hint = hint.unwrap_or_default();
            return Err(wrong(format!("empty platform value from expression {}{hint}", word.text)));
        }
        Platform::parse(&text).map(|it| it.normalised()).map_err(|error| wrong(format!("{error:#}")))
    }

    /// What a stage begins with: nothing, or an image, which is pulled where it is missing.
    pub fn base(&mut self, name: &str, wanted: Option<&Platform>) -> Result<Arc<State>> {
        let wanted = wanted.unwrap_or(&self.asked.platform).clone();
        let memo = format!("{name} {wanted}");
        if let Some(known) = self.shared.images.lock().unwrap_or_else(PoisonError::into_inner).get(&memo) {
            return Ok(Arc::clone(known));
        }
        let state = match (self.context.named.get(name), name) {
            (Some(Named::Image(image)), _) => {
                let found = self.image(image, &wanted, self.wanted())?;
                self.of_image(image, found)
            }
            (Some(Named::Layout(layout)), _) => self.of_layout(name, layout, &wanted)?,
            (Some(Named::Files(tree)), _) => self.of_files(name, tree, &wanted)?,
            (None, "scratch") => self.scratch(&wanted),
            (None, name) => {
                let found = self.image(name, &wanted, self.wanted())?;
                self.of_image(name, found)
            }
        };
        let state = Arc::new(state);
        self.shared.images.lock().unwrap_or_else(PoisonError::into_inner).insert(memo, Arc::clone(&state));
        Ok(state)
    }

    /// What every key of a stage goes on from. No file is newer than the time that was asked for, so it is a part of all.
    fn first_key(&self, kind: &str) -> Key {
        let mut key = Key::new(kind);
        key.field(self.epoch.map(|seconds| seconds.to_string()).unwrap_or_default());
        key
    }

    fn scratch(&self, wanted: &Platform) -> State {
        let template = ImageConfig {
            architecture: wanted.architecture.clone(),
            variant: wanted.variant.clone(),
            os: wanted.os.clone(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
            ..ImageConfig::default()
        };
        let config = RunConfig { working_dir: "/".to_owned(), ..RunConfig::default() };
        State {
            config,
            template,
            env: Vec::new(),
            args: Vec::new(),
            diff_ids: Vec::new(),
            layers: Vec::new(),
            history: Vec::new(),
            key: self.first_key("scratch").end(),
            clock: self.epoch.unwrap_or(0),
            cmd: false,
            based: 0,
            steps: Vec::new(),
            foreign: false,
            image: None,
            named: "scratch".to_owned(),
        }
    }

    /// An image that lies in a directory, which has no name in the store, nor a record.
    fn of_layout(&mut self, name: &str, layout: &Layout, wanted: &Platform) -> Result<State> {
        let (report, caller) = (&mut self.report, &self.caller);
        let image =
            images::layers_of(&self.engine.store, self.lease, layout, wanted, &mut |line| match caller.has_gone() {
                true => Err(std::io::ErrorKind::BrokenPipe.into()),
                false => report.pulling(line),
            });
        let image = image.map_err(|error| match caller.has_gone() {
            true => report::gone(),
            false => error.context(format!("the OCI layout that the context {name} names")),
        })?;
        Ok(State { image: None, ..self.of_image(name, image) })
    }

    /// The files of a named context as one layer.
    fn of_files(&mut self, name: &str, tree: &Tree, wanted: &Platform) -> Result<State> {
        let mut state = self.scratch(wanted);
        name.clone_into(&mut state.named);
        let mut items = Vec::new();
        gather(tree, "", &Wish { parents: false, exclude: &Ignore::default() }, &mut items)?;
        let content = digest::of(tree, &items, &mut self.shared.known.lock().unwrap_or_else(PoisonError::into_inner))?;
        let mut key = Key::new("context");
        key.field(&state.key).field(content.to_string());
        let text = format!("COPY --from={name} . /");
        let layer = self.step(&mut state, &key.end(), &text, false, |builder, state| {
            let (time, caller) = (state.clock, builder.caller.clone());
            builder.change(state, true, &mut |root| {
                let mut place = Place::new(root, "/".to_owned(), None, None, time);
                place.items(tree, &items, &caller)?;
                place.end()
            })
        })?;
        self.remember(&mut state, text, !layer);
        Ok(state)
    }

    fn of_image(&self, name: &str, image: Image) -> State {
        let mut key = self.first_key("image");
        let chain = chain_ids(&image.config.rootfs.diff_ids).pop();
        key.field(chain.map(|chain| chain.to_string()).unwrap_or_default());
        let created = image.config.created.as_deref().and_then(Time::parse);
        let clock = created.map_or(0, |time| (time.unix_nanos() / 1_000_000_000) as i64);
        State {
            config: image.config.config.clone(),
            env: Vec::new(),
            args: Vec::new(),
            diff_ids: image.config.rootfs.diff_ids.clone(),
            layers: image.layers.iter().map(|layer| (layer.id.clone(), layer.opaque)).collect(),
            history: image.config.history.clone(),
            key: key.end(),
            clock,
            cmd: false,
            based: image.config.history.len(),
            steps: Vec::new(),
            foreign: false,
            image: Some(image.id.clone()),
            named: name.to_owned(),
            template: image.config,
        }
    }

    /// Whether bases are pulled.
    fn wanted(&self) -> Pull {
        if self.asked.pull { Pull::Always } else { Pull::Missing }
    }

    /// An image of the store, which is pulled first where that is wanted.
    pub(super) fn image(&mut self, name: &str, wanted: &Platform, pull: Pull) -> Result<Image> {
        if pull != Pull::Always {
            match self.stored(name, wanted) {
                Err(error) if pull == Pull::Missing && matches!(error.downcast_ref(), Some(Refusal::NotFound(_))) => {}
                found => return found,
            }
        }
        let store = &self.engine.store;
        let pull = pull::Pull::find(store, self.wish(name, wanted)?, &self.engine.settings.registry())?;
        let (report, caller) = (&mut self.report, &self.caller);
        pull.run(store, &mut |line| match caller.has_gone() {
            true => Err(std::io::ErrorKind::BrokenPipe.into()),
            false => report.pulling(line),
        })?;
        self.stored(name, wanted)
    }

    /// An image that the store has; the lease keeps it.
    pub(super) fn stored(&self, name: &str, wanted: &Platform) -> Result<Image> {
        let (store, lease) = (&self.engine.store, self.lease);
        let _gc = store.gc_shared()?;
        let image = images::find(store, name)?;
        images::check_platform(&image, name, Some(wanted))?;
        lease.uses(&format!("image:{}", image.hex()))?;
        image.layers.iter().try_for_each(|layer| lease.uses(&format!("layer:{}", layer.id)))?;
        Ok(image)
    }

    /// What a registry is asked for.
    pub(super) fn wish(&self, name: &str, wanted: &Platform) -> Result<pull::Request> {
        let reference =
            Reference::parse(name).map_err(|error| Refusal::BadParameter(format!("{error:#}")))?.or_latest();
        let credentials = self.asked.credentials.of(&reference.domain);
        Ok(pull::Request { credentials, reference, all_tags: false, platform: Some(wanted.clone()) })
    }

    /// A stage or an image that is taken from, for those who copy.
    pub fn source(&mut self, name: &str, stage: usize) -> Result<Arc<State>> {
        match self.source_stage(name, stage)? {
            Some(at) => {
                self.wait_for(at)?;
                if let Some(state) = self.shared.stage(at) {
                    return Ok(state);
                }
                // A trigger of the base's asks for it, which nobody could know.
                let bases = self.bases()?;
                for at in self.needed(at, &bases)? {
                    self.wait_for(at)?;
                    if self.shared.stage(at).is_some() {
                        continue;
                    }
                    let instructions = self.file.stages[at].instructions.len();
                    let mut other = self.clone();
                    other.report.more(1 + instructions)?;
                    other.stage(at, &bases)?;
                }
                self.shared.stage(at).ok_or_else(|| anyhow!("stage {name} was not built"))
            }
            None => self.base(name, None),
        }
    }
}
