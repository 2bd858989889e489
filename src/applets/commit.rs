//! `dhow commit`.

use super::{Command, Context, output};
use crate::oci::reference::Reference;
use anyhow::{Result, anyhow};
use argh::{ArgsInfo, FromArgs};

/// Create a new image from a container's changes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Commit {
    /// who made it
    #[argh(option, short = 'a')]
    author: Option<String>,
    /// apply a Dockerfile instruction: CMD, ENV, EXPOSE, …
    #[argh(option, short = 'c')]
    change: Vec<String>,
    /// the commit message
    #[argh(option, short = 'm')]
    message: Option<String>,
    /// whether the container stands still meanwhile; true unless given
    #[argh(option, short = 'p', arg_name = "bool")]
    pause: Option<bool>,
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
    #[argh(positional, arg_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Command for Commit {
    fn run(self, context: &Context) -> Result<u8> {
        let mut query = vec![("container".to_owned(), self.container)];
        let mut push = |key: &str, value: String| {
            if !value.is_empty() {
                query.push((key.to_owned(), value));
            }
        };
        if let Some(name) = self.name.filter(|name| !name.is_empty()) {
            let reference = Reference::parse(&name).map_err(|error| anyhow!("{error}"))?;
            push("tag", reference.tag.clone().unwrap_or_default());
            push("repo", if reference.digest.is_some() { name } else { reference.familiar_name() });
        }
        push("comment", self.message.unwrap_or_default());
        push("author", self.author.unwrap_or_default());
        push("pause", if self.pause.unwrap_or(true) { "1" } else { "0" }.to_owned());
        for change in self.change {
            push("changes", change);
        }
        output::say(&format!("{}\n", context.client()?.commit(query)?.id))?;
        Ok(0)
    }
}
