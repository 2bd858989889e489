//! A build at work: the stages that the target needs, those that need not wait for each other side by side, each
//! instruction by instruction.
//!
//! ```text
//! instruction ─expand→ key ─cache→ the layer that was made before
//!                          └─────→ run / copy over an overlay's upper directory ─seal→ layer, record
//! ```

use super::asked::Asked;
use super::cache::{self, Key, Made};
use super::context::Context;
use super::dockerfile::instruction::{Arg, Instruction, Kind, Word};
use super::dockerfile::mount::Mount;
use super::dockerfile::words::Lex;
use super::dockerfile::{self, Dockerfile, Fault, Place};
use super::ignore::Ignore;
use super::metadata::{self, Words};
use super::report::{Output, Report, gone, is_gone};
use super::schedule;
use super::transfer::digest::Known;
use super::transfer::gather::Tree;
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::wire::Caller;
use crate::engine::images::{self, Image};
use crate::engine::layers::{self, Staged};
use crate::engine::pull;
use crate::engine::store::{self, Lease};
use crate::engine::{Engine, events};
use crate::failpoint;
use crate::fs::overlay::{self, Upper};
use crate::fs::seal::{self, Sealed, Times};
use crate::fs::{diff, flatten, path, repack, settle};
use crate::oci::image::{History, ImageConfig, RootFs, RunConfig, chain_ids};
use crate::oci::{Digest, Platform, Reference, platform};
use anyhow::{Context as _, Result, anyhow, bail};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a stage has become so far.
#[derive(Clone)]
pub struct State {
    pub config: RunConfig,
    /// The image's own config, as far as it is not about running it.
    template: ImageConfig,
    /// Variables of the stage: the image's, and its arguments.
    pub env: Vec<(String, String)>,
    /// Arguments that were declared, for the history of what is run.
    pub args: Vec<(String, String)>,
    diff_ids: Vec<Digest>,
    /// Lowest first: the directory under layers/, and whether it hides those below.
    layers: Vec<(String, bool)>,
    history: Vec<History>,
    pub key: String,
    /// The newest time of a file so far, in seconds since 1970: what is made has it.
    pub clock: i64,
    cmd: bool,
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

    fn chain(&self) -> Option<Digest> {
        chain_ids(&self.diff_ids).pop()
    }

    pub fn lookup(&self, name: &str) -> Option<String> {
        self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_owned(),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    fn add(&mut self, made: &Made) {
        self.diff_ids.push(made.diff_id.clone());
        self.layers.push((made.id.clone(), false));
        self.clock = self.clock.max(made.newest);
    }
}

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
    stages: Vec<Mutex<Option<Arc<State>>>>,
    images: Mutex<HashMap<String, Arc<State>>>,
    /// Digests of the context's files.
    pub known: Mutex<Known>,
    /// How many directories were made in the lease's.
    count: AtomicUsize,
}

impl Shared {
    pub fn new(file: &Dockerfile, context: &Context) -> Shared {
        Shared {
            stages: file.stages.iter().map(|_| Mutex::new(None)).collect(),
            images: Mutex::new(HashMap::new()),
            known: Mutex::new(Known::load(context.known.as_deref())),
            count: AtomicUsize::new(0),
        }
    }

    fn stage(&self, at: usize) -> Option<Arc<State>> {
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
    globals: Vec<(String, String)>,
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

type Step = std::result::Result<(), (Place, anyhow::Error)>;

/// An error with the place that it belongs to.
fn at<T>(place: Place, result: Result<T>) -> std::result::Result<T, (Place, anyhow::Error)> {
    result.map_err(|error| (place, error))
}

fn fault(fault: Fault) -> (Place, anyhow::Error) {
    (fault.place, Refusal::BadParameter(fault.message).into())
}

impl<'a> Builder<'a> {
    pub fn new(
        engine: &'a Engine,
        lease: &'a Lease,
        asked: &'a Asked,
        (file, context): (&'a Dockerfile, &'a Context),
        shared: &'a Shared,
        caller: &Caller,
    ) -> Builder<'a> {
        let report = Report::new(asked.plain);
        let (caller, globals) = (caller.clone(), Vec::new());
        Builder { engine, lease, asked, file, context, shared, report, caller, globals, epoch: None }
    }

    /// Builds the target, registers the image and gives it its names.
    pub fn run(mut self, output: &mut Output) -> Result<Digest> {
        let target = match self.asked.target.as_str() {
            "" => self.file.stages.len() - 1,
            name => self.file.stage(name).ok_or_else(|| {
                let names = self.file.stages.iter().filter_map(|stage| stage.from.name.as_deref());
                let known = dockerfile::suggest(name, names);
                Refusal::BadParameter(format!("target stage {name:?} could not be found{known}"))
            })?,
        };
        if !self.asked.cache_from.is_empty() {
            output.note("note: only the cache of this store is used, and no image of --cache-from")?;
        }
        self.globals(target)?;
        let bases = self.bases()?;
        let needed = self.needed(target, &bases)?;
        let needs = needed.iter().map(|at| Ok((*at, self.needs(*at, &bases)?))).collect::<Result<BTreeMap<_, _>>>()?;
        let total = needed.iter().map(|at| 1 + self.file.stages[*at].instructions.len()).sum();
        schedule::run(&needs, total, &self.caller, output, &|at, report, caller| {
            let mut builder = Builder { report, caller, ..self.clone() };
            let built = builder.stage(at, &bases);
            if built.as_ref().is_err_and(is_gone) {
                builder.report.canceled()?;
            }
            built
        })?;
        let state = self.shared.stage(target).context("the target was not built")?;
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).save();
        self.finish(&state, output)
    }

    fn lex(&self) -> Lex {
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
    fn given(&self, name: &str) -> Option<String> {
        self.asked.args.get(name).cloned().flatten()
    }

    fn expand_global(&self, word: &Word, globals: &[(String, String)]) -> Result<String> {
        let lookup = |name: &str| globals.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let expanded = self.lex().expand(&word.text, &lookup);
        expanded.map(|it| it.text).map_err(|message| self.file.source.parse_error(&Fault::new(word.place, message)))
    }

    /// The names behind `FROM`, expanded.
    fn bases(&self) -> Result<Vec<String>> {
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
    fn earlier(&self, name: &str, before: usize) -> Option<usize> {
        let is = |stage: &dockerfile::Stage| {
            stage.from.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        self.file.stages[..before].iter().rposition(is)
    }

    /// The same by name or by number, as `--from` has it.
    pub fn source_stage(&self, name: &str, before: usize) -> Result<Option<usize>> {
        if let Some(at) = self.earlier(name, before) {
            return Ok(Some(at));
        }
        if self.file.stages[before..]
            .iter()
            .any(|stage| stage.from.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)))
        {
            bail!(Refusal::BadParameter(format!(
                "stage {name:?} needs to be defined before the stage that takes from it"
            )));
        }
        match name.parse::<usize>() {
            Ok(at) if at < before => Ok(Some(at)),
            Ok(at) => bail!(Refusal::BadParameter(format!("invalid stage index {at}"))),
            Err(_) => Ok(None),
        }
    }

    /// The stages that a target is made of, in order.
    fn needed(&self, target: usize, bases: &[String]) -> Result<BTreeSet<usize>> {
        let (mut needed, mut left) = (BTreeSet::new(), vec![target]);
        while let Some(at) = left.pop() {
            if needed.insert(at) {
                left.extend(self.needs(at, bases)?);
            }
        }
        Ok(needed)
    }

    /// The stages that one is made of itself.
    fn needs(&self, at: usize, bases: &[String]) -> Result<BTreeSet<usize>> {
        let mut needs: BTreeSet<usize> = self.earlier(&bases[at], at).into_iter().collect();
        for instruction in &self.file.stages[at].instructions {
            for from in sources(instruction) {
                let stage = self.source_stage(&from, at);
                needs.extend(stage.map_err(|error| self.file.source.error(instruction.place, &error))?);
            }
        }
        Ok(needs)
    }

    /// Builds a stage, unless that was done, or is being done by another, which is waited for.
    fn stage(&mut self, at: usize, bases: &[String]) -> Result<()> {
        let mut slot = self.shared.stages[at].lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(Arc::new(self.made(at, bases)?));
        }
        Ok(())
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
        self.report.stage(&label, 1 + stage.instructions.len());
        self.begin(&shown)?;
        let located = |place: Place, error: anyhow::Error| self::located(file, place, error);
        let place = stage.instruction.place;
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
        // Arguments end with their stage; a command of the base's is not one of this stage's.
        state.args.clear();
        state.cmd = false;
        if !state.config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            metadata::set(&mut state.config.env, "PATH", DEFAULT_PATH);
        }
        state.env = state
            .config
            .env
            .iter()
            .map(|entry| {
                let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
                (name.to_owned(), value.to_owned())
            })
            .collect();
        self.report.done(&state.key)?;
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
            self.begin(instruction.text.trim())?;
            self.instruction(&mut state, at, instruction).map_err(|(place, error)| located(place, error))?;
        }
        Ok(state)
    }

    fn begin(&mut self, text: &str) -> Result<()> {
        if self.caller.has_gone() {
            return Err(gone());
        }
        self.report.step(text)
    }

    fn platform_of(&self, word: &Word) -> Result<Platform> {
        let text = self.expand_global(word, &self.globals)?;
        let wrong = |message: String| self.file.source.parse_error(&Fault::new(word.place, message));
        if text.is_empty() {
            return Err(wrong(format!("empty platform value from expression {}", word.text)));
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
        let state = match name {
            "scratch" => self.scratch(&wanted),
            name => of_image(name, self.image(name, &wanted)?),
        };
        let state = Arc::new(state);
        self.shared.images.lock().unwrap_or_else(PoisonError::into_inner).insert(memo, Arc::clone(&state));
        Ok(state)
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
            key: Key::new("scratch").end(),
            clock: self.epoch.unwrap_or(0),
            cmd: false,
            image: None,
            named: "scratch".to_owned(),
        }
    }

    fn image(&mut self, name: &str, wanted: &Platform) -> Result<Image> {
        let store = &self.engine.store;
        let find = |lease: &Lease| -> Result<Image> {
            let _gc = store.gc_shared()?;
            let image = images::find(store, name)?;
            images::check_platform(&image, name, Some(wanted))?;
            lease.uses(&format!("image:{}", image.hex()))?;
            image.layers.iter().try_for_each(|layer| lease.uses(&format!("layer:{}", layer.id)))?;
            Ok(image)
        };
        if !self.asked.pull {
            match find(self.lease) {
                Err(error) if matches!(error.downcast_ref(), Some(Refusal::NotFound(_))) => {}
                found => return found,
            }
        }
        let reference =
            Reference::parse(name).map_err(|error| Refusal::BadParameter(format!("{error:#}")))?.or_latest();
        let asked = pull::Request {
            credentials: self.asked.credentials.of(&reference.domain)?,
            reference,
            all_tags: false,
            platform: Some(wanted.clone()),
        };
        let pull = pull::Pull::find(store, asked, &self.engine.settings.registry())?;
        let (report, caller) = (&mut self.report, &self.caller);
        pull.run(store, &mut |line| match caller.has_gone() {
            true => Err(std::io::ErrorKind::BrokenPipe.into()),
            false => report.pulling(line),
        })?;
        find(self.lease)
    }

    fn instruction(&mut self, state: &mut State, stage: usize, instruction: &Instruction) -> Step {
        let place = instruction.place;
        match &instruction.kind {
            Kind::Arg(args) => self.arguments(state, args)?,
            Kind::Run(run) => return self.run_step(state, stage, run, instruction),
            Kind::Copy(transfer) => return self.transfer(state, stage, transfer, false, instruction),
            Kind::Add(transfer) => return self.transfer(state, stage, transfer, true, instruction),
            Kind::Maintainer(name) => {
                state.template.author = name.clone();
                self.remember(state, format!("MAINTAINER {name}"), true);
            }
            kind => {
                let env = state.env.clone();
                let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                let words = Words { lex: self.lex(), lookup: &lookup };
                let text = metadata::apply(&mut state.config, &mut state.cmd, kind, &words).map_err(fault)?;
                if let Kind::Env(pairs) = kind {
                    for pair in pairs {
                        let (name, value) =
                            (words.one(&pair.name).map_err(fault)?, words.one(&pair.value).map_err(fault)?);
                        state.set(&name, &value);
                    }
                }
                let text = text.unwrap_or_default();
                if matches!(kind, Kind::Workdir(_)) {
                    return self.workdir(state, text, place);
                }
                // Triggers are told by the config alone.
                if !matches!(kind, Kind::OnBuild(_)) {
                    self.remember(state, text, true);
                }
            }
        }
        at(place, self.report.done(&state.key))
    }

    fn arguments(&mut self, state: &mut State, args: &[Arg]) -> Step {
        let mut texts = Vec::new();
        for arg in args {
            let value = match (self.given(&arg.name), &arg.default) {
                (Some(value), _) => Some(value),
                (None, Some(word)) => {
                    let lookup = |name: &str| state.lookup(name);
                    Some(Words { lex: self.lex(), lookup: &lookup }.one(word).map_err(fault)?)
                }
                (None, None) => self.globals.iter().find(|(name, _)| *name == arg.name).map(|(_, value)| value.clone()),
            };
            texts.push(match &value {
                Some(value) => format!("{}={value}", arg.name),
                None => arg.name.clone(),
            });
            state.args.retain(|(name, _)| *name != arg.name);
            state.args.push((arg.name.clone(), value.clone().unwrap_or_default()));
            if let Some(value) = value {
                state.set(&arg.name, &value);
            }
        }
        self.remember(state, format!("ARG {}", texts.join(" ")), true);
        Ok(())
    }

    /// Proxies that were given with `--build-arg`: every command has them, and no key nor history knows of them.
    pub fn proxies(&self) -> Vec<(String, String)> {
        PROXIES.iter().filter_map(|name| Some(((*name).to_owned(), self.given(name)?))).collect()
    }

    pub fn is_proxy(name: &str) -> bool {
        PROXIES.contains(&name)
    }

    pub fn remember(&self, state: &mut State, created_by: String, empty_layer: bool) {
        let created = Some(self.time(state));
        state.history.push(History { created, created_by, empty_layer, ..History::default() });
    }

    /// The time that an image has: that of the newest file in it, or the one that was asked for.
    fn time(&self, state: &State) -> String {
        let seconds = self.epoch.unwrap_or(state.clock);
        Time::from_unix_nanos(i128::from(seconds) * 1_000_000_000).to_string()
    }

    /// Makes the directory that commands run in, where there is none.
    fn workdir(&mut self, state: &mut State, text: String, place: Place) -> Step {
        let dir = state.config.working_dir.clone();
        let user = state.config.user.clone();
        let mut key = Key::new("workdir");
        key.field(&state.key).field(&dir).field(&user);
        let time = state.clock;
        let made = self.step(state, &key.end(), &text, |builder, state| {
            builder.change(state, true, &mut |root| {
                let owner = super::transfer::owner::owner(root, &user)?;
                let mut place = super::transfer::place::Place::new(root, format!("{dir}/"), owner, None, time);
                place.directory()?;
                place.end()
            })
        });
        let layer = at(place, made)?;
        self.remember(state, text, !layer);
        at(place, self.report.done(&state.key))
    }

    /// A step that makes a layer: out of the cache, or by `work`. `key` is the state's from then on. Whether there is a
    /// layer more.
    pub fn step(
        &mut self,
        state: &mut State,
        key: &str,
        what: &str,
        work: impl FnOnce(&mut Builder<'a>, &State) -> Result<Option<(Staged, Sealed)>>,
    ) -> Result<bool> {
        if let Some(layer) = self.made_before(state, key)? {
            return Ok(layer);
        }
        let made = work(self, state)?;
        self.keep(state, key, what, made)
    }

    /// Takes a step out of the cache, if it is there: then whether there is a layer more.
    pub fn made_before(&mut self, state: &mut State, key: &str) -> Result<Option<bool>> {
        if self.asked.no_cache {
            return Ok(None);
        }
        let Some(record) = cache::find(&self.engine.store, self.lease, key, &state.diff_ids)? else { return Ok(None) };
        if let Some(made) = &record.layer {
            state.add(made);
        }
        state.key = key.to_owned();
        self.report.cached()?;
        Ok(Some(record.layer.is_some()))
    }

    /// Puts what came of a step into the store and the cache. Whether there is a layer more.
    pub fn keep(&mut self, state: &mut State, key: &str, what: &str, made: Option<(Staged, Sealed)>) -> Result<bool> {
        let store = &self.engine.store;
        failpoint::reach("build.made");
        let Some((staged, sealed)) = made else {
            cache::put(store, key, None, None, what)?;
            state.key = key.to_owned();
            return Ok(false);
        };
        let mut diff_ids = state.diff_ids.clone();
        diff_ids.push(sealed.diff_id.clone());
        let id = chain_ids(&diff_ids).last().map(layers::dir_id).unwrap_or_default();
        let made = Made { diff_id: sealed.diff_id, id, size: sealed.size, newest: sealed.newest };
        cache::put(store, key, Some(made.clone()), None, what)?;
        let mut all = vec![None; diff_ids.len() - 1];
        all.push(Some(staged));
        layers::commit(store, self.lease, &diff_ids, &all)?;
        failpoint::reach("build.committed");
        state.add(&made);
        state.key = key.to_owned();
        Ok(true)
    }

    /// A directory of its own in the lease's.
    pub fn scratch_dir(&mut self) -> Result<PathBuf> {
        let count = self.shared.count.fetch_add(1, Ordering::Relaxed);
        let dir = self.lease.tmp()?.join(count.to_string());
        store::make_dir(&dir, 0o755).with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    pub fn lowers(&self, state: &State) -> Vec<PathBuf> {
        state.layer_ids().iter().map(|id| self.engine.store.layer(id).join("fs")).collect()
    }

    /// What a stage shows, to read.
    pub fn tree(&mut self, state: &State, called: &'static str) -> Result<Tree> {
        let lowers = self.lowers(state);
        let root = match lowers.is_empty() {
            true => path::open_root(&self.scratch_dir()?)?,
            false => overlay::mount(&lowers, None, &self.engine.store.root.join("tmp"))?,
        };
        Ok(Tree { root, ignore: Ignore::default(), called })
    }

    /// Lets `work` change the files of a stage; what it changed becomes a layer. `tidy`: times of directories that only
    /// lead there do not count.
    pub fn change(
        &mut self,
        state: &State,
        tidy: bool,
        work: &mut dyn FnMut(BorrowedFd) -> Result<()>,
    ) -> Result<Option<(Staged, Sealed)>> {
        let staging = self.scratch_dir()?;
        let (fs, work_dir) = (staging.join("fs"), staging.join("work"));
        for (dir, mode) in [(&fs, 0o755), (&work_dir, 0o700)] {
            store::make_dir(dir, mode).with_context(|| format!("make {}", dir.display()))?;
        }
        let lowers = self.lowers(state);
        let mut below = lowers.clone();
        if below.is_empty() {
            // An overlay wants something below.
            below.push(self.scratch_dir()?);
        }
        let upper = Upper { upper: fs.clone(), work: work_dir.clone(), volatile: true };
        let mounted = overlay::mount(&below, Some(&upper), &work_dir);
        let times = Times { latest: self.epoch, kept: tidy };
        match mounted {
            Ok(root) => {
                work(root.as_fd())?;
                drop(root);
                crate::fs::remove::tree(&work_dir)?;
                let sealed = seal::seal(&staging, &lowers, times)?;
                Ok(sealed.map(|sealed| (staged(staging, &sealed), sealed)))
            }
            Err(error) if overlay::is_unfit(&error) => {
                flatten::flatten(&lowers, &fs).with_context(|| format!("copy layers, as {error:#}"))?;
                work(overlay::bind(&fs, false)?.as_fd())?;
                self.repacked(&fs, &lowers)
            }
            Err(error) => Err(error),
        }
    }

    /// A layer of what a copy of all layers became: where the store's file system holds no overlay.
    pub fn repacked(&mut self, upper: &std::path::Path, lowers: &[PathBuf]) -> Result<Option<(Staged, Sealed)>> {
        let differences = diff::differences(upper, lowers, true)?;
        if differences.is_empty() {
            return Ok(None);
        }
        let staging = self.scratch_dir()?;
        let unpacked = repack::repack(upper, &differences, &staging)?;
        settle::settle(&unpacked, &staging, lowers)?;
        let sealed = Sealed { diff_id: unpacked.diff_id.clone(), size: unpacked.size, newest: 0 };
        Ok(Some((staged(staging, &sealed), sealed)))
    }

    /// The image: its config, in the store, under its names.
    fn finish(self, state: &State, output: &mut Output) -> Result<Digest> {
        let store = &self.engine.store;
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
        config.history = state.history.clone();
        config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: state.diff_ids.clone() };
        config.check_layers()?;
        let bytes = serde_json::to_vec(&config).context("encode an image's config")?;
        let known = images::load(store, Digest::of(&bytes).hex())?.is_some();
        let image = images::register(store, self.lease, None, &bytes, state.image.as_ref())?;
        failpoint::reach("build.registered");
        let id = image.id.to_string();
        if !known {
            events::image(store, image.config.config.labels.as_ref(), "create", &id, &id);
        }
        for name in &self.asked.names {
            images::give(store, &id, name)?;
        }
        let names: Vec<String> = self.asked.names.iter().map(Reference::familiar).collect();
        output.built(&id, &names)?;
        Ok(image.id)
    }
}

fn staged(dir: PathBuf, sealed: &Sealed) -> Staged {
    Staged { dir, size: sealed.size, opaque: false }
}

/// Names the place of an error, unless it is one that says all by itself.
fn located(file: &Dockerfile, place: Place, error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<Failed>().is_some() || is_gone(&error) {
        return error;
    }
    file.source.error(place, &error)
}

fn of_image(name: &str, image: Image) -> State {
    let mut key = Key::new("image");
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
        image: Some(image.id.clone()),
        named: name.to_owned(),
        template: image.config,
    }
}

/// The stages and images that an instruction takes files from, as far as they can be known before its turn.
fn sources(instruction: &Instruction) -> Vec<String> {
    match &instruction.kind {
        Kind::Copy(transfer) => transfer.from.iter().map(|word| word.text.clone()).collect(),
        Kind::Run(run) => {
            let of = |word: &Word| Mount::from_of(&word.text).ok().filter(|from| !from.is_empty());
            run.mounts.iter().filter_map(of).collect()
        }
        _ => Vec::new(),
    }
}

/// A stage that is taken from, for those who copy.
impl Builder<'_> {
    pub fn source(&mut self, name: &str, stage: usize) -> Result<Arc<State>> {
        match self.source_stage(name, stage)? {
            Some(at) => {
                if let Some(state) = self.shared.stage(at) {
                    return Ok(state);
                }
                // A trigger of the base's asks for it, which nobody could know.
                let bases = self.bases()?;
                for at in self.needed(at, &bases)? {
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

/// A chain that a question about files can be asked of.
pub fn chain_key(state: &State) -> String {
    state.chain().map(|chain| chain.to_string()).unwrap_or_default()
}
