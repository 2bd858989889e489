//! `dhow import`.

use super::progress::Progress;
use super::{Command, Context, pull};
use anyhow::{Context as _, Result, anyhow};
use argh::{ArgsInfo, FromArgs};
use std::fs::File;
use std::io::Read;

/// Import the contents of a tar file as an image
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Import {
    /// apply a Dockerfile instruction: CMD, ENV, EXPOSE, …
    #[argh(option, short = 'c')]
    change: Vec<String>,
    /// the image's commit message
    #[argh(option, short = 'm')]
    message: Option<String>,
    /// the image's platform: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    #[argh(positional, arg_name = "file|URL|-")]
    source: String,
    #[argh(positional, arg_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Command for Import {
    fn run(self, context: &Context) -> Result<u8> {
        let url = self.source.starts_with("http://") || self.source.starts_with("https://");
        let tar: Box<dyn Read + Send> = match self.source.as_str() {
            "-" => Box::new(std::io::stdin()),
            // The engine fetches it.
            _ if url => Box::new(std::io::empty()),
            path => Box::new(File::open(path).with_context(|| format!("open {path}"))?),
        };
        let source = if url { self.source } else { "-".to_owned() };
        let mut query = vec![("fromSrc".to_owned(), source)];
        let mut push = |key: &str, value: String| {
            if !value.is_empty() {
                query.push((key.to_owned(), value));
            }
        };
        push("repo", self.name.unwrap_or_default());
        push("message", self.message.unwrap_or_default());
        push("platform", pull::platform(self.platform));
        for change in self.change {
            push("changes", change);
        }
        let mut out = std::io::stdout();
        let mut progress = Progress::new(&mut out, &std::io::stdout(), false);
        context.client()?.import(query, tar, &mut progress)?;
        progress.finish().map_err(|message| anyhow!(message))?;
        Ok(0)
    }
}
