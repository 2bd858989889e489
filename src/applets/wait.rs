//! `dhow wait`.

use super::{Command, Context, each, output};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Wait until one or more containers stop, then print their exit codes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Wait {
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Wait {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        let mut errors = Vec::new();
        for container in &self.containers {
            match client.wait(container, "").and_then(|waiting| waiting.finish()) {
                Ok(answer) => output::say(&format!("{}\n", answer.status_code))?,
                Err(error) => errors.push(error),
            }
        }
        each::together(errors)
    }
}
