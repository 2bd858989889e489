//! `dhow builder prune`.

use super::prune::{self, Pruned, Section};
use super::{Command, Context, filter, habits};
use anyhow::{Result, anyhow};
use argh::{ArgsInfo, FromArgs};

/// Remove the build cache
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// all of it, and not only what no image has
    #[argh(switch, short = 'a')]
    all: bool,
    /// only what fits: until=24h, id=abc, type=exec.cachemount or regular
    #[argh(option, from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
    /// so much of it may stay: what was used last
    #[argh(option)]
    keep_storage: Option<String>,
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        let keep = match self.keep_storage.as_deref() {
            None => String::new(),
            Some(size) => crate::api::units::parse_binary(size)
                .map_err(|error| anyhow!("invalid argument {size:?} for --keep-storage: {error}"))?
                .to_string(),
        };
        let which = if self.all { "all build cache" } else { "all dangling build cache" };
        prune::confirm_all(self.force, "build cache", &format!("WARNING! This will remove {which}."))?;
        let pruned =
            context.client()?.prune_builds(self.all, &keep, &habits::read()?.prune(filter::gather(self.filter)))?;
        let mut all = Pruned::default();
        all.add(Section::builds(pruned));
        all.print()
    }
}
