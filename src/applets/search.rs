//! `dhow search`.

use super::{Command, Context};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Search Docker Hub for images (not supported)
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Search {
    #[argh(positional, arg_name = "TERM")]
    term: String,
}

impl Command for Search {
    fn run(self, context: &Context) -> Result<u8> {
        context.client()?.search(&self.term)?;
        Ok(0)
    }
}
