//! `dhow unpause`.

use super::{Command, Context, each};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Unpause all processes of one or more containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Unpause {
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Unpause {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        each::each(&self.containers, |container| client.unpause(container))
    }
}
