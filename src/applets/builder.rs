//! `dhow builder prune`.

use super::prune::{self, Pruned, Section};
use super::{Command, Context, filter, habits};
use crate::api::units;
use anyhow::{Result, anyhow};
use argh::{ArgsInfo, FromArgs};

/// Remove the build cache
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// all of it, and not only what no image has
    #[argh(switch, short = 'a')]
    all: bool,
    /// only what fits: until=24h, id=abc, type=exec.cachemount or regular, description=TEXT, shared=true
    #[argh(option, from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
    /// so much of it may always stay: what was used last
    #[argh(option)]
    reserved_space: Option<String>,
    /// the same
    #[argh(option)]
    keep_storage: Option<String>,
    /// no more of it stays
    #[argh(option)]
    max_used_space: Option<String>,
    /// so much is to be free afterwards on its disk
    #[argh(option)]
    min_free_space: Option<String>,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        let reserved = match self.reserved_space {
            None => ("keep-storage", self.keep_storage),
            text => ("reserved-space", text),
        };
        let mut bounds = Vec::new();
        for (flag, text) in [reserved, ("max-used-space", self.max_used_space), ("min-free-space", self.min_free_space)]
        {
            let Some(text) = text else { continue };
            let bytes = units::parse_binary(&text).and_then(|bytes| u64::try_from(bytes).map_err(|e| e.to_string()));
            let bytes = bytes.map_err(|error| anyhow!("invalid argument {text:?} for --{flag}: {error}"))?;
            bounds.push((flag, bytes));
        }
        let which = if self.all { "all build cache" } else { "all dangling build cache" };
        prune::confirm_all(self.force, "build cache", &format!("WARNING! This will remove {which}."))?;
        let filters = habits::read()?.prune(filter::gather(self.filter));
        let mut all = Pruned::default();
        all.add(Section::builds(context.client()?.prune_builds(self.all, &bounds, &filters)?));
        all.print()
    }
}
