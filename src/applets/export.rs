//! `dhow export`.

use super::{Command, Context, output};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use std::fs::OpenOptions;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Export a container's file system as a tar archive
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Export {
    /// write to a file, and not to stdout
    #[argh(option, short = 'o')]
    output: Option<String>,
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
}

impl Command for Export {
    fn run(self, context: &Context) -> Result<u8> {
        let Some(path) = self.output.filter(|path| !path.is_empty()) else {
            if std::io::stdout().is_terminal() {
                bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
            }
            let mut out = BufWriter::with_capacity(64 * 1024, output::Stdout);
            context.client()?.export(&self.container)?.write_to(&mut out)?;
            return Ok(0);
        };
        let tar = context.client()?.export(&self.container)?;
        // Whole or not at all: beside it first.
        let path = Path::new(&path);
        if path.is_dir() {
            bail!("failed to export container: {} is a directory", path.display());
        }
        if path.exists() && !path.is_file() {
            let file = OpenOptions::new().write(true).open(path);
            let mut out = BufWriter::new(file.with_context(|| format!("opening {}", path.display()))?);
            tar.write_to(&mut out)?;
            return Ok(0);
        }
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        let part = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let writing = || format!("writing {}", path.display());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).with_context(writing)?;
        let mut out = BufWriter::with_capacity(64 * 1024, file);
        let written = tar.write_to(&mut out).and_then(|()| out.flush().with_context(writing));
        let placed = written.and_then(|()| std::fs::rename(&part, path).with_context(writing));
        if placed.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        placed.map(|()| 0)
    }
}
