//! `--link`: a layer that stands by itself. Its key knows nothing of the stage, so that it is made once, whatever becomes of
//! the base and of the steps before it. In the store a layer belongs to those below it, so on another base its files are
//! there once more, by other names. (Who asks how many names a file has is told of these.)

use super::super::builder::Builder;
use super::super::cache::{self, Key};
use super::super::cache_from::Brought;
use super::super::dockerfile::instruction::Transfer;
use super::super::state::State;
use super::owner::Owner;
use super::{Expanded, owned};
use crate::engine::layers;
use crate::fs::seal::Sealed;
use anyhow::Result;
use std::os::fd::AsFd;

/// What is known of such a copy before its files are.
pub struct Linked {
    pub owner: Option<Owner>,
    pub key: Key,
}

impl Builder<'_> {
    pub(super) fn linked(
        &mut self,
        state: &State,
        name: &str,
        transfer: &Transfer,
        expanded: &Expanded,
    ) -> Result<Linked> {
        // A name is looked up in the image; what counts is the number.
        let owner = match &expanded.chown {
            None => None,
            chown => owned(self.tree(state, "the image")?.root.as_fd(), chown)?,
        };
        let mut key = Key::new("linked");
        key.field(name).field(&expanded.destination).field(format!("{:?}", expanded.mode));
        key.field(format!("{owner:?}")).field([u8::from(transfer.parents)]);
        // Of which all else has its times.
        key.field(format!("{:?}", self.epoch));
        Ok(Linked { owner, key })
    }

    /// Takes a copy out of the cache: under its key, or, if it is linked, the layer that it made on another base, here or
    /// in an image that was named as cache. Whether there is a layer more.
    pub(super) fn taken_before(
        &mut self,
        state: &mut State,
        key: &str,
        alone: Option<&str>,
        history: &str,
    ) -> Result<Option<bool>> {
        if let Some(layer) = self.made_before(state, key, None)? {
            return Ok(Some(layer));
        }
        let Some(alone) = alone.filter(|_| !self.fresh) else { return Ok(None) };
        let store = &self.engine.store;
        let Some(made) = cache::find_alone(store, self.lease, alone)? else {
            let Some(taken) = self.linked_elsewhere(state, alone)? else { return Ok(None) };
            return self.taken_over(state, key, taken).map(Some);
        };
        self.durable.settle();
        let staged = layers::again(store, &made.id, self.scratch_dir()?)?;
        let sealed = Sealed { diff_id: made.diff_id, size: made.size, newest: made.newest };
        self.report.cached()?;
        self.keep(state, key, Some(alone), history, Some((staged, sealed))).map(Some)
    }

    /// Goes on from the layer of an image that was named as cache.
    pub(super) fn taken_over(&mut self, state: &mut State, key: &str, taken: Brought) -> Result<bool> {
        let below = state.diff_ids.len();
        state.take(taken);
        state.end(key, below);
        self.report.cached()?;
        Ok(true)
    }
}
