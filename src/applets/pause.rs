//! `dhow pause`.

use super::{Command, Context, each};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Pause all processes of one or more containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Pause {
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Pause {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        each::each(&self.containers, |container| client.pause(container))
    }
}
