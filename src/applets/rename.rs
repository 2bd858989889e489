//! `dhow rename`.

use super::{Command, Context, each, face};
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

/// Rename a container
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Rename {
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
    #[argh(positional, arg_name = "NEW_NAME")]
    name: String,
}

impl Command for Rename {
    fn run(self, context: &Context) -> Result<u8> {
        if self.container.is_empty() || self.name.is_empty() {
            bail!(face::words("Error: Neither old nor new names may be empty", "neither name may be empty"));
        }
        let errors = context.client()?.rename(&self.container, &self.name).err().into_iter().collect();
        each::together_and(errors, || format!("Error: failed to rename container named {}", self.container))
    }
}
