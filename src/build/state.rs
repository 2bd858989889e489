//! What a stage has become so far.

use super::cache::Made;
use super::cache_from::Step;
use crate::oci::Digest;
use crate::oci::image::{History, ImageConfig, RunConfig, chain_ids};

/// What a stage has become so far.
#[derive(Clone)]
pub struct State {
    pub config: RunConfig,
    /// The image's own config, as far as it is not about running it.
    pub template: ImageConfig,
    /// Variables of the stage: the image's, and its arguments, with those of the stages below.
    pub env: Vec<(String, String)>,
    /// Arguments that were declared, for the history of what is run.
    pub args: Vec<(String, String)>,
    pub diff_ids: Vec<Digest>,
    /// Lowest first: the directory under layers/, and whether it hides those below.
    pub layers: Vec<(String, bool)>,
    pub history: Vec<History>,
    pub key: String,
    /// The newest time of a file so far, in seconds since 1970: what is made has it.
    pub clock: i64,
    /// Whether the stage has named a command of its own.
    pub cmd: bool,
    /// So much of the history is the base's.
    pub based: usize,
    /// The steps of the Dockerfile that were made, for those who take this image as their cache.
    pub steps: Vec<Step>,
    /// Whether something of it is only known from an image that was named as cache: that a step on top of it changed
    /// nothing is then no record of the cache, which would be found by who does not trust that image. Layers are safe,
    /// for what lies below them counts.
    pub foreign: bool,
    /// The image that the first stage began with, and its name.
    pub image: Option<Digest>,
    pub named: String,
}

impl State {
    /// Directories under layers/, top first, as an overlay takes them.
    pub fn layer_ids(&self) -> Vec<String> {
        let bottom = self.layers.iter().rposition(|(_, opaque)| *opaque).unwrap_or(0);
        self.layers[bottom.min(self.layers.len())..].iter().rev().map(|(id, _)| id.clone()).collect()
    }

    /// The same with no file in it.
    pub fn without_layers(mut self) -> State {
        self.layers.clear();
        self
    }

    pub fn chain(&self) -> Option<Digest> {
        chain_ids(&self.diff_ids).pop()
    }

    pub fn lookup(&self, name: &str) -> Option<String> {
        self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        set(&mut self.env, name, value);
    }

    pub fn add(&mut self, made: &Made) {
        self.diff_ids.push(made.diff_id.clone());
        self.layers.push((made.id.clone(), false));
        self.clock = self.clock.max(made.newest);
    }

    /// A step has ended on top of so many layers.
    pub fn end(&mut self, key: &str, below: usize) {
        self.key = key.to_owned();
        let layer = self.diff_ids.len() > below;
        self.steps.push(Step { key: key.to_owned(), below, layer, clock: self.clock, alone: None });
    }

    /// The step that has just ended stands by itself, and has this key on every base.
    pub fn stands_alone(&mut self, key: String) {
        self.steps.iter_mut().last().into_iter().for_each(|step| step.alone = Some(key.clone()));
    }
}

/// Sets one of the variables.
pub fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value.to_owned(),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

/// A chain that a question about files can be asked of.
pub fn chain_key(state: &State) -> String {
    state.chain().map(|chain| chain.to_string()).unwrap_or_default()
}
