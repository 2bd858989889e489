//! `dhow save`.

use super::{Command, Context, output, terminal};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Save {
    /// write to a file, instead of STDOUT
    #[argh(option, short = 'o')]
    output: Option<PathBuf>,
    /// save only the given platform: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    #[argh(positional, arg_name = "IMAGE [IMAGE...]")]
    images: Vec<String>,
}

impl Command for Save {
    fn run(self, context: &Context) -> Result<u8> {
        let platform = self.platform.unwrap_or_default();
        let Some(path) = self.output else {
            if io::stdout().is_terminal() {
                bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
            }
            let saved = context.client()?.save(&self.images, &platform, &mut io::stdout().lock());
            let gone = |error: &anyhow::Error| {
                error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
            };
            return match saved {
                Err(error) if gone(&error) => terminal::die(libc::SIGPIPE),
                saved => saved.map(|()| 0),
            };
        };
        let mut whole = Whole::create(&path)?;
        context.client()?.save(&self.images, &platform, &mut whole.file)?;
        whole.finish()?;
        Ok(0)
    }
}

/// A file that is there whole or not at all. What is no regular file is written to as it is.
pub struct Whole {
    pub file: File,
    path: PathBuf,
    temporary: Option<PathBuf>,
}

impl Whole {
    /// One for its owner alone.
    pub fn create(path: &Path) -> Result<Whole> {
        Whole::of(path, 0o600)
    }

    /// One as programs make them: links are followed, and a file that is replaced leaves its mode.
    pub fn ordinary(path: &Path) -> Result<Whole> {
        let mut path = path.to_owned();
        // So many as the kernel follows.
        let mut left = 40;
        while let Ok(link) = fs::read_link(&path) {
            left -= 1;
            if left == 0 {
                bail!("save to {}: {}", path.display(), nix::errno::Errno::ELOOP.desc());
            }
            path = path.parent().unwrap_or(Path::new("")).join(link);
        }
        let whole = Whole::of(&path, 0o666)?;
        if let (Ok(before), Some(_)) = (fs::metadata(&path), &whole.temporary) {
            whole.file.set_permissions(before.permissions()).with_context(|| format!("save to {}", path.display()))?;
        }
        Ok(whole)
    }

    fn of(path: &Path, mode: u32) -> Result<Whole> {
        let doing = || format!("save to {}", path.display());
        let special = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = (!special).then(|| PathBuf::from(temporary));
        let mut options = File::options();
        options.write(true).mode(mode);
        let file = match &temporary {
            Some(temporary) => options.create_new(true).open(temporary),
            None => options.open(path),
        };
        Ok(Whole { file: file.with_context(doing)?, path: path.to_owned(), temporary })
    }

    pub fn finish(mut self) -> Result<()> {
        let doing = || format!("save to {}", self.path.display());
        self.file.flush().with_context(doing)?;
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path).with_context(doing)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary
            && let Err(error) = fs::remove_file(temporary)
        {
            output::complain(&format!("remove {}: {error}", temporary.display()));
        }
    }
}
