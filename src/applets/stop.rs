//! `dhow stop`.

use super::{Command, Context, each};
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

/// Stop one or more running containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Stop {
    /// the signal to send first (default that of the container)
    #[argh(option, short = 's')]
    signal: Option<String>,
    /// seconds before it is killed, -1 for ever (default those of the container, or 10)
    #[argh(option, short = 't', arg_name = "INT")]
    timeout: Option<i64>,
    /// an older name of --timeout
    #[argh(option, arg_name = "INT", hidden_help)]
    time: Option<i64>,
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Stop {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        if self.timeout.is_some() && self.time.is_some() {
            bail!("conflicting options: cannot specify both --timeout and --time");
        }
        let (signal, seconds) = (self.signal.unwrap_or_default(), self.timeout.or(self.time));
        each::each(&self.containers, |container| client.stop(container, &signal, seconds))
    }
}
