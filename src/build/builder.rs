//! A build at work: the stages that the target needs, those that need not wait for each other side by side, each
//! instruction by instruction.
//!
//! ```text
//! instruction ─expand→ key ─cache→ the layer that was made before
//!                          └─────→ run / copy over an overlay's upper directory ─seal→ layer, record
//! ```

use super::asked::Asked;
use super::cache_from::Source;
use super::context::Context;
use super::dockerfile::instruction::{Kind, Word};
use super::dockerfile::words::Lex;
use super::dockerfile::{self, Dockerfile, Fault, Place};
use super::durable::Durable;
use super::export;
use super::lint::{self, Warning};
use super::metadata;
use super::removals::Removals;
use super::report::{Output, Report, Style, gone, is_gone};
use super::schedule::{self, Wait};
use super::state::{self, State};
use super::transfer::digest::Known;
use crate::api::Refusal;
use crate::api::wire::Caller;
use crate::engine::images;
use crate::engine::store::Lease;
use crate::engine::{Engine, events};
use crate::failpoint;
use crate::oci::image::RootFs;
use crate::oci::{Digest, Reference, platform};
use crate::order::{Map, Set};
use anyhow::{Context as _, Result, bail};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// A command of the build ended badly: what Docker's stream tells of it.
#[derive(Debug)]
pub struct Failed {
    pub code: i64,
    pub message: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

/// What all stages of a build have in common.
pub struct Shared {
    /// Each is held while it is built: who needs it waits, and finds it.
    pub(super) stages: Vec<Mutex<Option<Arc<State>>>>,
    pub(super) images: Mutex<HashMap<String, Arc<State>>>,
    /// Digests of the context's files.
    pub known: Mutex<Known>,
    /// Copies of what is bound to commands that only read it, by where it is from.
    pub(super) bound: Mutex<HashMap<String, PathBuf>>,
    /// How many directories were made in the lease's.
    pub(super) count: AtomicUsize,
    pub(super) removals: Removals,
    /// Warnings that were given.
    pub(super) told: Mutex<Set<String>>,
}

impl Shared {
    pub fn new(file: &Dockerfile, context: &Context) -> Shared {
        Shared {
            stages: file.stages.iter().map(|_| Mutex::new(None)).collect(),
            images: Mutex::new(HashMap::new()),
            known: Mutex::new(Known::load(context.known.as_deref())),
            bound: Mutex::new(HashMap::new()),
            count: AtomicUsize::new(0),
            removals: Removals::default(),
            told: Mutex::default(),
        }
    }

    pub(super) fn stage(&self, at: usize) -> Option<Arc<State>> {
        self.stages[at].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who builds a stage, and the whole.
#[derive(Clone)]
pub struct Builder<'a> {
    pub engine: &'a Engine,
    pub lease: &'a Lease,
    pub asked: &'a Asked,
    pub file: &'a Dockerfile,
    pub context: &'a Context,
    pub shared: &'a Shared,
    pub report: Report,
    /// Goes when the one who asked does, and when another stage has failed.
    pub caller: Caller,
    pub(super) globals: Vec<(String, String)>,
    /// Whether steps of the stage are made anew, whatever was made before.
    pub fresh: bool,
    /// Images that were named as cache.
    pub cache_from: Arc<Vec<Source>>,
    /// Who brings layers to the disk.
    pub durable: Durable,
    /// Waits for other stages.
    wait: Option<&'a Wait<'a>>,
    /// `SOURCE_DATE_EPOCH`
    pub epoch: Option<i64>,
}

/// Variables that reach every command and belong to no image.
pub const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl<'a> Builder<'a> {
    pub fn new(
        engine: &'a Engine,
        lease: &'a Lease,
        asked: &'a Asked,
        (file, context): (&'a Dockerfile, &'a Context),
        shared: &'a Shared,
        caller: &Caller,
    ) -> Builder<'a> {
        let report = Report::new(asked.style);
        let (caller, globals, cache_from) = (caller.clone(), Vec::new(), Arc::default());
        let (fresh, durable, epoch) = (asked.no_cache, Durable::default(), None);
        Builder {
            engine,
            lease,
            asked,
            file,
            context,
            shared,
            report,
            caller,
            globals,
            fresh,
            cache_from,
            durable,
            wait: None,
            epoch,
        }
    }

    /// Waits until a stage is done, if somebody else builds it.
    pub(super) fn wait_for(&self, at: usize) -> Result<()> {
        self.wait.map_or(Ok(false), |wait| wait(at)).map(drop)
    }

    /// What can be said against the stages that the target needs, by what is known of their bases by now; and whether that
    /// is an error.
    pub fn lint(mut self) -> Result<(Vec<Warning>, bool)> {
        // Why they cannot be known is told by the build.
        let target = target(self.file, &self.asked.target)?;
        let needed = self.globals(target).and_then(|()| self.needed(target, &self.bases()?)).ok();
        let images = self.shared.images.lock().unwrap_or_else(PoisonError::into_inner);
        let base = |name: &str| {
            let named = |key: &str| key.rsplit_once(' ').is_some_and(|(known, _)| known == name);
            let (_, state) = images.iter().find(|(key, _)| named(key))?;
            let set = state.config.env.iter().filter_map(|entry| entry.split_once('='));
            Some(lint::Base {
                env: set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                shell: state.config.shell.as_ref().is_some_and(|shell| !shell.is_empty()),
            })
        };
        let wish = self.asked.args.get(lint::ARGUMENT).and_then(Option::as_deref);
        let (ignore, needed) = (&self.context.tree.ignore, needed.as_ref());
        lint::check(self.file, &lint::Around { ignore, base: &base, needed, wish })
    }

    /// Builds the target, registers the image and gives it its names.
    pub fn run(mut self, output: &mut Output) -> Result<()> {
        let target = target(self.file, &self.asked.target)?;
        if let Some(frontend) = self.frontend() {
            output.note(&format!("syntax={frontend} is not fetched: this is built as docker/dockerfile would"))?;
        }
        self.cache_from = Arc::new(self.cache_sources(output)?);
        for name in &self.asked.no_cache_filter {
            if !(0..self.file.stages.len()).any(|at| self.is_called(at, name)) {
                output.note(&format!("no stage is called {name:?}: all of the cache is used"))?;
            }
        }
        self.globals(target)?;
        let bases = self.bases()?;
        let needed = self.needed(target, &bases)?;
        let based = Map::from_iter(needed.iter().map(|at| (*at, self.earlier(&bases[*at], *at))));
        let total: usize = needed.iter().map(|at| 1 + self.file.stages[*at].instructions.len()).sum();
        self.empty_lines(output)?;
        let total = total + output.begin(self.file.globals.iter().map(|it| it.text.trim()), total)?;
        let built = Durable::beside(&self.engine.store, |durable| {
            schedule::run(&based, total, &self.caller, output, &|at, report, caller, wait| {
                let mut builder =
                    Builder { report, caller, durable: durable.clone(), wait: Some(wait), ..self.clone() };
                let built = builder.stage(at, &bases);
                // What is made of the stage begins when all of it is on disk.
                builder.durable.settle();
                match &built {
                    Err(error) if is_gone(error) => builder.report.canceled()?,
                    Err(error) => builder.report.broken(&format!("{error:#}"))?,
                    Ok(()) => {}
                }
                built
            })
        });
        let removed = self.shared.removals.end(&self.engine.store);
        built?;
        removed?;
        let state = self.shared.stage(target).context("the target was not built")?;
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).save();
        self.leftovers(&state, target, output)?;
        self.finish(&state, output)
    }

    /// Tells of empty lines inside of instructions, as Docker's first builder does.
    fn empty_lines(&self, output: &mut Output) -> Result<()> {
        let (file, mut any) = (self.file, false);
        let stages =
            file.stages.iter().flat_map(|stage| std::iter::once(&stage.instruction).chain(&stage.instructions));
        for instruction in file.globals.iter().chain(stages).filter(|instruction| instruction.has_empty) {
            output.wrong(&format!("Empty continuation line found in: {}", instruction.text.trim()))?;
            any = true;
        }
        match any {
            true => output.wrong("Empty continuation lines will become errors in a future release."),
            false => Ok(()),
        }
    }

    /// Tells of arguments that nothing asked for, as Docker's first builder does.
    fn leftovers(&self, state: &State, target: usize, output: &mut Output) -> Result<()> {
        if self.asked.style != Style::Stream {
            return Ok(());
        }
        let stages = self.file.stages[..=target].iter().flat_map(|stage| &stage.instructions);
        let declared = stages.chain(&self.file.globals).flat_map(|instruction| match &instruction.kind {
            Kind::Arg(args) => args.as_slice(),
            _ => &[],
        });
        let mut declared: Set<&str> = Set::from_iter(declared.map(|arg| arg.name.as_str()));
        declared.extend(state.args.iter().map(|(name, _)| name.as_str()));
        let meant = |name: &str| {
            declared.contains(name)
                || PROXIES.contains(&name)
                || name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
                || self.globals.iter().any(|(known, _)| known == name)
        };
        let left: Vec<&str> = self.asked.args.keys().map(String::as_str).filter(|name| !meant(name)).collect();
        if left.is_empty() {
            return Ok(());
        }
        output.note(&format!("[Warning] One or more build-args [{}] were not consumed", left.join(" ")))
    }

    /// The frontend that is asked for, if it is none of Docker's own.
    fn frontend(&self) -> Option<String> {
        let asked = self.given("BUILDKIT_SYNTAX").or_else(|| self.file.directives.syntax.clone())?;
        let name = asked.strip_prefix("docker.io/").unwrap_or(&asked);
        (!name.starts_with("docker/dockerfile")).then_some(asked)
    }

    pub(super) fn lex(&self) -> Lex {
        Lex::new(self.file.directives.escape)
    }

    /// The arguments before the first stage, over those that every build has.
    fn globals(&mut self, target: usize) -> Result<()> {
        let host = platform::host();
        let wanted = &self.asked.platform;
        let name = self.file.stages[target].from.name.clone();
        let stage = if self.asked.target.is_empty() {
            name.unwrap_or_else(|| "default".to_owned())
        } else {
            self.asked.target.clone()
        };
        let mut globals: Vec<(String, String)> = [
            ("BUILDPLATFORM", host.to_string()),
            ("BUILDOS", host.os.clone()),
            ("BUILDARCH", host.architecture.clone()),
            ("BUILDVARIANT", host.variant.clone()),
            ("TARGETPLATFORM", wanted.to_string()),
            ("TARGETOS", wanted.os.clone()),
            ("TARGETARCH", wanted.architecture.clone()),
            ("TARGETVARIANT", wanted.variant.clone()),
            ("TARGETSTAGE", stage),
        ]
        .map(|(name, value)| (name.to_owned(), self.given(name).unwrap_or(value)))
        .into();
        for instruction in &self.file.globals {
            let Kind::Arg(args) = &instruction.kind else { continue };
            for arg in args {
                let value = match (self.given(&arg.name), &arg.default) {
                    (Some(value), _) => Some(value),
                    (None, Some(word)) => Some(self.expand_global(word, &globals)?),
                    (None, None) => None,
                };
                if let Some(value) = value {
                    globals.retain(|(known, _)| *known != arg.name);
                    globals.push((arg.name.clone(), value));
                }
            }
        }
        let epoch = self
            .given("SOURCE_DATE_EPOCH")
            .or_else(|| globals.iter().find(|(name, _)| name == "SOURCE_DATE_EPOCH").map(|(_, value)| value.clone()));
        if let Some(text) = epoch.filter(|text| !text.is_empty()) {
            let seconds = text.parse::<i64>().ok().filter(|seconds| (0..=253_402_300_799).contains(seconds));
            self.epoch = Some(seconds.ok_or_else(|| {
                Refusal::BadParameter(format!("SOURCE_DATE_EPOCH {text:?} is not a number of seconds since 1970"))
            })?);
        }
        self.globals = globals;
        Ok(())
    }

    /// What `--build-arg` says.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        self.asked.args.get(name).cloned().flatten()
    }

    pub(super) fn expand_global(&self, word: &Word, globals: &[(String, String)]) -> Result<String> {
        let lookup = |name: &str| globals.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let expanded = self.lex().expand(&word.text, &lookup);
        expanded.map(|it| it.text).map_err(|message| self.file.source.parse_error(&Fault::new(word.place, message)))
    }

    /// The names behind `FROM`, expanded.
    pub(super) fn bases(&self) -> Result<Vec<String>> {
        let stages = self.file.stages.iter().map(|stage| {
            let name = self.expand_global(&stage.from.image, &self.globals)?;
            if name.is_empty() {
                let message = format!("base name ({}) should not be blank", stage.from.image.text);
                bail!(self.file.source.parse_error(&Fault::new(stage.from.image.place, message)));
            }
            Ok(name)
        });
        stages.collect()
    }

    /// The stage before `before` that has this name.
    pub(super) fn earlier(&self, name: &str, before: usize) -> Option<usize> {
        if self.context.named.get(name).is_some() {
            return None;
        }
        let is = |stage: &dockerfile::Stage| {
            stage.from.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        self.file.stages[..before].iter().rposition(is)
    }

    /// The same by name or by number, as `--from` has it.
    pub fn source_stage(&self, name: &str, before: usize) -> Result<Option<usize>> {
        if self.context.named.get(name).is_some() {
            return Ok(None);
        }
        if let Some(at) = self.earlier(name, before) {
            return Ok(Some(at));
        }
        let later = self.file.stages[before..]
            .iter()
            .position(|stage| stage.from.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)));
        match later.map_or_else(|| name.parse::<usize>().ok(), |at| Some(before + at)) {
            Some(at) if at < before => Ok(Some(at)),
            Some(at) if at >= self.file.stages.len() => {
                bail!(Refusal::BadParameter(format!("invalid stage index {at}")))
            }
            Some(at) => bail!(Refusal::BadParameter(self.too_late(name, at, before))),
            None => Ok(None),
        }
    }

    /// Why a stage cannot take from one that is not there yet.
    fn too_late(&self, name: &str, at: usize, taker: usize) -> String {
        let taker_name = self.file.stages[taker].from.name.clone().unwrap_or_else(|| format!("stage-{taker}"));
        match at == taker {
            true => format!("circular dependency detected on stage: {taker_name}"),
            false => {
                format!("cannot copy from stage {name:?}, it needs to be defined before current stage {taker_name:?}")
            }
        }
    }

    /// The stages that a target is made of, in order.
    pub(super) fn needed(&self, target: usize, bases: &[String]) -> Result<Set<usize>> {
        let (mut needed, mut left) = (Set::new(), vec![target]);
        while let Some(at) = left.pop() {
            if needed.insert(at) {
                left.extend(self.needs(at, bases)?);
            }
        }
        Ok(needed)
    }

    /// The stages that one is made of itself.
    fn needs(&self, at: usize, bases: &[String]) -> Result<Set<usize>> {
        if self.replaced(at).is_some() {
            return Ok(Set::new());
        }
        let mut needs = Set::from_iter(self.earlier(&bases[at], at));
        for instruction in &self.file.stages[at].instructions {
            for from in instruction.sources() {
                let stage = self.source_stage(&from, at);
                needs.extend(stage.map_err(|error| self.file.source.error(instruction.place, &error))?);
            }
        }
        Ok(needs)
    }

    /// Builds a stage, unless that was done, or is being done by another, which is waited for.
    pub(super) fn stage(&mut self, at: usize, bases: &[String]) -> Result<()> {
        let mut slot = self.shared.stages[at].lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(Arc::new(self.made(at, bases)?));
        }
        Ok(())
    }

    /// The name of a stage that a named context stands for, whatever the file says of it.
    fn replaced(&self, at: usize) -> Option<&'a str> {
        let file: &'a Dockerfile = self.file;
        file.stages[at].from.name.as_deref().filter(|name| self.context.named.get(name).is_some())
    }

    /// Whether this is a stage's name, or its number.
    fn is_called(&self, at: usize, name: &str) -> bool {
        let known = self.file.stages[at].from.name.as_deref();
        known.is_some_and(|known| known.eq_ignore_ascii_case(name)) || name.parse() == Ok(at)
    }

    fn made(&mut self, at: usize, bases: &[String]) -> Result<State> {
        let file = self.file;
        let stage = &file.stages[at];
        let label = stage
            .from
            .name
            .clone()
            .unwrap_or_else(|| if file.stages.len() == 1 { String::new() } else { format!("stage-{at}") });
        let shown = format!("FROM {}", stage.from.words.join(" "));
        self.fresh = self.asked.no_cache || self.asked.no_cache_filter.iter().any(|name| self.is_called(at, name));
        self.report.stage(&label, 1 + stage.instructions.len());
        self.begin(&shown)?;
        let style = self.asked.style;
        let located = |place: Place, error: anyhow::Error| self::located(file, style, place, error);
        let place = stage.instruction.place;
        if let Some(name) = self.replaced(at) {
            let state = self.base(name, None).map_err(|error| located(place, error))?;
            self.report.done(&state.key)?;
            return Ok((*state).clone());
        }
        let mut state = match self.earlier(&bases[at], at) {
            Some(base) => (*self.shared.stage(base).context("a stage was not built")?).clone(),
            None => {
                let wanted = match &stage.from.platform {
                    Some(word) => Some(self.platform_of(word)?),
                    None => None,
                };
                (*self.base(&bases[at], wanted.as_ref()).map_err(|error| located(place, error))?).clone()
            }
        };
        // Arguments of a stage go on in those that are based on it. A command of the base's is not one of this stage's.
        state.cmd = false;
        if !state.config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            metadata::set(&mut state.config.env, "PATH", DEFAULT_PATH);
        }
        // What the image sets goes before an argument of the stage below.
        for entry in &state.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            state::set(&mut state.env, name, value);
        }
        let shown = match (self.earlier(&bases[at], at), &state.image) {
            (Some(_), _) => &state.key,
            (None, Some(image)) => image.hex(),
            (None, None) => "",
        };
        self.report.done(shown)?;
        let triggers = state.config.on_build.take().unwrap_or_default();
        self.report.more(triggers.len())?;
        for text in &triggers {
            let mut instruction = dockerfile::trigger(text).map_err(|error| located(place, error))?;
            instruction.place = place;
            let shown = format!("ONBUILD {}", instruction.text.trim());
            self.begin(&shown)?;
            self.instruction(&mut state, at, &instruction).map_err(|(_, error)| located(place, error))?;
        }
        for instruction in &stage.instructions {
            for from in instruction.sources() {
                let other = self.source_stage(&from, at).map_err(|error| located(instruction.place, error))?;
                other.map_or(Ok(()), |other| self.wait_for(other))?;
            }
            self.begin(instruction.text.trim())?;
            self.instruction(&mut state, at, instruction).map_err(|(place, error)| located(place, error))?;
        }
        Ok(state)
    }

    pub(super) fn begin(&mut self, text: &str) -> Result<()> {
        if self.caller.has_gone() {
            return Err(gone());
        }
        self.report.step(text)
    }

    /// What becomes of it: an image in the store, under its names, or what else was asked for.
    fn finish(mut self, state: &State, output: &mut Output) -> Result<()> {
        let mut config = state.template.clone();
        config.config = state.config.clone();
        for (name, value) in &self.asked.labels {
            config.config.labels.get_or_insert_default().insert(name.clone(), value.clone());
        }
        if self.asked.platform_asked && config.architecture.is_empty() {
            config.architecture = self.asked.platform.architecture.clone();
        }
        config.created = Some(self.time(state));
        config.comment.clear();
        config.container_config = None;
        config.steps = match self.asked.inline_cache {
            true => Some(serde_json::to_value(&state.steps).context("encode the steps of an image")?),
            false => None,
        };
        config.history = state.history.clone();
        config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: state.diff_ids.clone() };
        config.check_layers()?;
        let bytes = serde_json::to_vec(&config).context("encode an image's config")?;
        self.export(state, &bytes, output)?;
        let outputs = &self.asked.outputs;
        let mut images = outputs.iter().filter(|wanted| wanted.kind == export::Kind::Image).peekable();
        if images.peek().is_none() && !outputs.is_empty() {
            return match outputs.iter().any(|wanted| wanted.kind == export::Kind::Archive) {
                true => output.id(&Digest::of(&bytes).to_string()),
                false => Ok(()),
            };
        }
        let mut names: Vec<&Reference> = images.flat_map(|wanted| &wanted.names).collect();
        if names.is_empty() {
            names.extend(&self.asked.names);
        }
        let store = &self.engine.store;
        let known = images::load(store, Digest::of(&bytes).hex())?.is_some();
        let image = images::register(store, self.lease, None, &bytes, state.image.as_ref())?;
        failpoint::reach("build.registered");
        let id = image.id.to_string();
        if !known {
            events::image(store, image.config.config.labels.as_ref(), "create", &id, &id);
        }
        for name in &names {
            images::give(store, &id, name)?;
        }
        let names: Vec<String> = names.into_iter().map(Reference::familiar).collect();
        output.built(&id, &names)
    }
}

/// The stage that is asked for: that of the name, or the last one.
pub fn target(file: &Dockerfile, name: &str) -> Result<usize> {
    if name.is_empty() {
        return Ok(file.stages.len() - 1);
    }
    let found = file.stage(name).ok_or_else(|| {
        let names = file.stages.iter().filter_map(|stage| stage.from.name.as_deref());
        let known = dockerfile::suggest(name, names);
        Refusal::BadParameter(format!("target stage {name:?} could not be found{known}"))
    })?;
    Ok(found)
}

/// Names the place of an error. Docker's stream has words for a command that failed which clients know.
fn located(file: &Dockerfile, style: Style, place: Place, error: anyhow::Error) -> anyhow::Error {
    if let Some(Failed { code, message }) = error.downcast_ref::<Failed>()
        && style != Style::Stream
    {
        return Failed { code: *code, message: format!("{message}\n{}", file.source.excerpt(place)) }.into();
    }
    if error.downcast_ref::<Failed>().is_some() || is_gone(&error) {
        return error;
    }
    file.source.error(place, &error)
}
