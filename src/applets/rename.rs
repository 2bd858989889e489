//! `dhow rename`.

use super::{Command, Context, each};
use anyhow::Result;
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
        let errors = context.client()?.rename(&self.container, &self.name).err().into_iter().collect();
        each::together_and(errors, || format!("Error: failed to rename container named {}", self.container))
    }
}
