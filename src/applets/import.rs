//! `dhow import`.

use super::progress::Progress;
use super::{Command, Context, pull};
use anyhow::{Context as _, Result, anyhow, bail};
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
        let tar: Box<dyn Read + Send> = match self.source.as_str() {
            "-" => Box::new(std::io::stdin()),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                bail!(
                    "importing from a URL comes with a later release of dhow: download it and give it as a file or on stdin"
                );
            }
            path => Box::new(File::open(path).with_context(|| format!("opening {path}"))?),
        };
        let mut query = vec![("fromSrc".to_owned(), "-".to_owned())];
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
