//! Instructions, one by one: what they say, or the layer that comes of them, made before or made now.

use super::builder::{Builder, PROXIES};
use super::cache::{self, Key, Made};
use super::dockerfile::instruction::{Arg, Instruction, Kind};
use super::dockerfile::{Fault, Place};
use super::ignore::Ignore;
use super::metadata::{self, Words};
use super::state::State;
use super::transfer::gather::Tree;
use crate::api::Refusal;
use crate::api::time::Time;
use crate::engine::layers::{self, Staged};
use crate::engine::{store, users};
use crate::failpoint;
use crate::fs::overlay::{self, Upper};
use crate::fs::seal::{self, Sealed, Times};
use crate::fs::{diff, flatten, path, repack, settle};
use crate::oci::image::{History, chain_ids};
use anyhow::{Context as _, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

type Step = std::result::Result<(), (Place, anyhow::Error)>;

/// An error with the place that it belongs to.
fn at<T>(place: Place, result: Result<T>) -> std::result::Result<T, (Place, anyhow::Error)> {
    result.map_err(|error| (place, error))
}

fn fault(fault: Fault) -> (Place, anyhow::Error) {
    (fault.place, Refusal::BadParameter(fault.message).into())
}

impl<'a> Builder<'a> {
    pub(super) fn instruction(&mut self, state: &mut State, stage: usize, instruction: &Instruction) -> Step {
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
            super::state::set(&mut state.args, &arg.name, value.as_deref().unwrap_or_default());
            if let Some(value) = value {
                state.set(&arg.name, &value);
            }
        }
        self.remember(state, format!("ARG {}", texts.join(" ")), true);
        Ok(())
    }

    /// Proxies that were given with `--build-arg`: every command has them.
    pub fn proxies(&self) -> Vec<(String, String)> {
        PROXIES.iter().filter_map(|name| Some(((*name).to_owned(), self.given(name)?))).collect()
    }

    pub fn remember(&self, state: &mut State, created_by: String, empty_layer: bool) {
        let created = Some(self.time(state));
        state.history.push(History { created, created_by, empty_layer, ..History::default() });
    }

    /// The time that an image has: that of the newest file in it, or the one that was asked for.
    pub(super) fn time(&self, state: &State) -> String {
        let seconds = self.epoch.unwrap_or(state.clock);
        Time::from_unix_nanos(i128::from(seconds) * 1_000_000_000).to_string()
    }

    /// Makes the directory that commands run in, where there is none.
    fn workdir(&mut self, state: &mut State, text: String, place: Place) -> Step {
        let dir = state.config.working_dir.clone();
        let user = state.config.user.clone();
        let mut key = Key::new("workdir");
        let time = state.clock;
        key.field(&state.key).field(&dir).field(&user).field(time.to_le_bytes());
        let made = self.step(state, &key.end(), &text, true, |builder, state| {
            builder.durable.settle();
            builder.change(state, true, &mut |root| {
                let (uid, gid) = users::owner(root, &user)?;
                let owner = super::transfer::owner::Owner { uid, gid };
                let mut place = super::transfer::place::Place::new(root, format!("{dir}/"), Some(owner), None, time);
                place.directory()?;
                place.end()
            })
        });
        let layer = at(place, made)?;
        self.remember(state, text, !layer);
        at(place, self.report.done(&state.key))
    }

    /// A step that makes a layer: out of the cache, or by `work`. `key` is the state's from then on; `what` is the text
    /// that the history has, and `told` says whether that tells all that it depends on. Whether there is a layer more.
    pub fn step(
        &mut self,
        state: &mut State,
        key: &str,
        what: &str,
        told: bool,
        work: impl FnOnce(&mut Builder<'a>, &State) -> Result<Option<(Staged, Sealed)>>,
    ) -> Result<bool> {
        if let Some(layer) = self.made_before(state, key, Some(what).filter(|_| told))? {
            return Ok(layer);
        }
        let made = work(self, state)?;
        self.keep(state, key, None, what, made)
    }

    /// Takes a step out of the cache, or out of an image that was named as cache, if it is there: then whether there is a
    /// layer more.
    pub fn made_before(&mut self, state: &mut State, key: &str, text: Option<&str>) -> Result<Option<bool>> {
        if self.fresh {
            return Ok(None);
        }
        let below = state.diff_ids.len();
        match cache::find(&self.engine.store, self.lease, key, &state.diff_ids)? {
            Some(record) => record.layer.iter().for_each(|made| state.add(made)),
            None => match self.made_elsewhere(state, key, text)? {
                Some(taken) => state.take(taken),
                None => return Ok(None),
            },
        }
        state.end(key, below);
        self.report.cached()?;
        Ok(Some(state.diff_ids.len() > below))
    }

    /// Puts what came of a step into the store and the cache, where a layer that stands by itself has another key
    /// besides, `alone`. Whether there is a layer more.
    pub fn keep(
        &mut self,
        state: &mut State,
        key: &str,
        alone: Option<&str>,
        what: &str,
        made: Option<(Staged, Sealed)>,
    ) -> Result<bool> {
        let store = &self.engine.store;
        failpoint::reach("build.made");
        let below = state.diff_ids.len();
        let Some((staged, sealed)) = made else {
            if !state.foreign {
                cache::put(store, key, None, None, what)?;
                self.durable.wants(None);
            }
            state.end(key, below);
            return Ok(false);
        };
        let mut diff_ids = state.diff_ids.clone();
        diff_ids.push(sealed.diff_id.clone());
        let id = chain_ids(&diff_ids).last().map(layers::dir_id).unwrap_or_default();
        let Sealed { diff_id, size, newest } = sealed;
        let made = Made { diff_id, id, size, newest, linked: alone.is_some() };
        for key in std::iter::once(key).chain(alone) {
            cache::put(store, key, Some(made.clone()), None, what)?;
        }
        layers::begin(store, self.lease, &diff_ids, &staged)?;
        self.durable.wants(Some(&made.id));
        failpoint::reach("build.committed");
        state.add(&made);
        state.end(key, below);
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
        Ok(Tree { root, ignore: Ignore::default(), called, owned: true })
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
        let upper = Upper { upper: fs.clone(), work: work_dir.clone(), volatile: true, label: String::new() };
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
}

fn staged(dir: PathBuf, sealed: &Sealed) -> Staged {
    Staged { dir, size: sealed.size, opaque: false }
}
