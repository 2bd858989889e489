//! `dhow links`: the names under which this file may be linked.

use super::{Command, Context, TABLE, help, output};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Print the names of the links that make install makes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Links {}

impl Command for Links {
    fn run(self, _: &Context) -> Result<u8> {
        output::say(&words().map(|word| format!("d{word}\n")).collect::<String>())?;
        Ok(0)
    }
}

/// Every command and every group that a link may stand for.
pub fn words() -> impl Iterator<Item = &'static str> {
    let commands = TABLE.iter().filter(|entry| !entry.hidden && !OF_THE_FILE.contains(&entry.names[0]));
    let words = commands.map(|entry| entry.names[0]).filter(|name| !name.contains(' '));
    words.chain(help::GROUPS.iter().map(|group| group.0))
}

/// Commands about this file itself, which need no link.
const OF_THE_FILE: [&str; 3] = ["completion", "daemon", "links"];
