//! `dhow diff`.

use super::{Command, Context, output};
use crate::api::types::Change;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Show what a container changed in its file system
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Diff {
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
}

impl Command for Diff {
    fn run(self, context: &Context) -> Result<u8> {
        let changes = context.client()?.changes(&self.container)?;
        let line = |change: &Change| {
            let kind = match change.kind {
                Change::ADDED => 'A',
                Change::DELETED => 'D',
                _ => 'C',
            };
            format!("{kind} {}\n", change.path)
        };
        output::say(&changes.iter().map(line).collect::<String>())?;
        Ok(0)
    }
}
