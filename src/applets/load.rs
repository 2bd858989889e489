//! `dhow load`.

use super::progress::Progress;
use super::{Command, Context};
use anyhow::{Context as _, Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

/// Load an image from a tar archive or STDIN
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Load {
    /// read from tar archive file, instead of STDIN
    #[argh(option, short = 'i')]
    input: Option<PathBuf>,
    /// load only the given platform: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    /// suppress the load output
    #[argh(switch, short = 'q')]
    quiet: bool,
}

impl Command for Load {
    fn run(self, context: &Context) -> Result<u8> {
        let tar: Box<dyn Read + Send> = match &self.input {
            Some(path) => Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?),
            None if std::io::stdin().is_terminal() => bail!("requested load from stdin, but stdin is empty"),
            None => Box::new(std::io::stdin()),
        };
        let mut out = std::io::stdout();
        let quiet = self.quiet || !out.is_terminal();
        // Quiet means no progress; which images there are now is told all the same.
        let mut progress = Progress::new(&mut out, &std::io::stdout(), false);
        context.client()?.load(quiet, &self.platform.unwrap_or_default(), tar, &mut progress)?;
        progress.finish().map_err(|message| anyhow!(message))?;
        Ok(0)
    }
}
