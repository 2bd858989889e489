//! `dhow top`.

use super::format::table;
use super::{Command, Context, output};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Display the running processes of a container
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Top {
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
    #[argh(positional, greedy, arg_name = "[ps OPTIONS]")]
    options: Vec<String>,
}

impl Command for Top {
    const STOPS: bool = true;

    fn run(self, context: &Context) -> Result<u8> {
        let top = context.client()?.top(&self.container, &self.options.join(" "))?;
        let rows = std::iter::once(&top.titles).chain(&top.processes);
        let text: String = rows.map(|row| row.join("\t") + "\n").collect();
        output::say(&table::align_from(&text, 20))?;
        Ok(0)
    }
}
