//! `dhow kill`.

use super::{Command, Context, each};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Kill one or more running containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Kill {
    /// the signal to send (default KILL)
    #[argh(option, short = 's')]
    signal: Option<String>,
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Kill {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        let signal = self.signal.unwrap_or_default();
        each::each(&self.containers, |container| client.kill(container, &signal))
    }
}
