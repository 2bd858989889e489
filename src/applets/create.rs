//! `dhow create`, and what it shares with run: from flags to a container, pulling its image if need be.

use super::pull;
use super::request::{self, Here};
use super::run::Run;
use super::{Command, Context, helped, output, terminal};
use crate::api::client::{Client, Failure};
use crate::api::types::ContainerCreate;
use crate::oci::reference::Reference;
use anyhow::{Context as _, Result, anyhow, bail};
use argh::{ArgsInfo, CommandInfoWithArgs, EarlyExit, FromArgs};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// The flags of run that create has not: the first ones of [`Run`].
const OF_RUN_ALONE: [&str; 3] = ["--detach", "--detach-keys", "--sig-proxy"];

/// Has run's flags but those three.
pub struct Create(Run);

impl FromArgs for Create {
    fn from_args(name: &[&str], args: &[&str]) -> Result<Self, EarlyExit> {
        Run::from_args(name, args).map(Create)
    }
}

impl ArgsInfo for Create {
    fn get_args_info() -> CommandInfoWithArgs {
        let info = Run::get_args_info();
        // argh puts its own --help first.
        let rest = info.flags.iter().position(|flag| flag.long == OF_RUN_ALONE[2]).map_or(0, |at| at + 1);
        CommandInfoWithArgs { description: "Create a new container", flags: &info.flags[rest..], ..info }
    }
}

impl Command for Create {
    const STOPS: bool = true;

    fn run(self, context: &Context) -> Result<u8> {
        let mut wanted = wanted(self.0).map_err(|error| helped(125, "create", error))?;
        context.proxies_of(&mut wanted.create.config.env)?;
        let made = create(&context.client()?, wanted)?;
        output::say(&format!("{}\n", made.id))?;
        Ok(0)
    }
}

/// A container to be made.
pub struct Wanted {
    pub create: ContainerCreate,
    /// Whether `-a` was given.
    pub attached: bool,
    name: String,
    platform: String,
    pull: Pull,
    quiet: bool,
    cidfile: Option<PathBuf>,
}

#[derive(PartialEq)]
enum Pull {
    Always,
    Missing,
    Never,
}

/// A container that was made.
pub struct Made {
    pub id: String,
    pub create: ContainerCreate,
}

/// What the flags ask for.
pub fn wanted(flags: Run) -> Result<Wanted> {
    let when = match flags.pull.as_deref().unwrap_or("") {
        "always" => Pull::Always,
        "" | "missing" => Pull::Missing,
        "never" => Pull::Never,
        other => bail!("invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""),
    };
    let create = request::request(&flags, &Here::this_process())?;
    if flags.kernel_memory.is_some() {
        output::complain("WARNING: --kernel-memory has no effect: the kernel no longer supports it");
    }
    let platform = pull::platform(flags.platform.clone());
    Ok(Wanted {
        create,
        attached: !flags.attach.is_empty(),
        name: flags.name.clone().unwrap_or_default(),
        platform,
        pull: when,
        quiet: flags.quiet,
        cidfile: flags.cidfile.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from),
    })
}

/// Makes the container, pulling its image where it is missing and may be.
pub fn create(client: &Client, wanted: Wanted) -> Result<Made> {
    let Wanted { mut create, name, platform, pull, quiet, cidfile, .. } = wanted;
    let mut id_file = cidfile.map(IdFile::open).transpose()?;
    let image = create.config.image.clone();
    let is_id = image.strip_prefix("sha256:").unwrap_or(&image).len() == 64;
    if !is_id {
        Reference::parse(&image)?;
    }
    if pull == Pull::Always {
        pull::for_container(client, &image, &platform, quiet)?;
    }
    if let Some((rows, columns)) = terminal::size(&std::io::stdout()) {
        create.host_config.console_size = [rows.into(), columns.into()];
    }
    let created = match client.create(&name, &platform, &create) {
        Err(error) if pull == Pull::Missing && lacks_image(&error) => {
            if !quiet {
                output::complain(&format!("Unable to find image '{}' locally", pull::tagged(&image)));
            }
            pull::for_container(client, &image, &platform, quiet)?;
            client.create(&name, &platform, &create)?
        }
        other => other?,
    };
    for warning in &created.warnings {
        output::complain(&format!("WARNING: {warning}"));
    }
    if let Some(file) = &mut id_file {
        file.write(&created.id)?;
    }
    Ok(Made { id: created.id, create })
}

fn lacks_image(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| {
        let message = failure.message.to_ascii_lowercase();
        // There is none at all, or none of that platform.
        let lacks = message.starts_with("no such image") || message.contains("does not match the specified platform");
        failure.status == 404 && lacks
    })
}

/// The file that gets the container's id. It is made before the container and taken away if there is none.
struct IdFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl IdFile {
    fn open(path: PathBuf) -> Result<IdFile> {
        let opened = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = opened.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ),
            _ => anyhow!(error).context(format!("creating the container ID file {}", path.display())),
        })?;
        Ok(IdFile { path, file, written: false })
    }

    fn write(&mut self, id: &str) -> Result<()> {
        let written = self.file.write_all(id.as_bytes());
        written.with_context(|| format!("writing the container ID file {}", self.path.display()))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pulled_where_it_is_lacking() {
        let other = "image with reference x was found but its platform (linux/amd64) does not match the specified platform \
                     (linux/arm64)";
        for (status, message, expected) in [
            (404, "No such image: x:latest", true),
            (404, other, true),
            (404, "network x not found", false),
            (500, "No such image: x:latest", false),
        ] {
            let failure = Failure { status, message: message.to_owned() };
            assert_eq!(lacks_image(&failure.into()), expected, "{status} {message}");
        }
    }

    #[test]
    fn create_has_all_flags_of_run_but_three() {
        let names = |info: CommandInfoWithArgs| info.flags.iter().map(|flag| flag.long).collect::<Vec<_>>();
        let mut of_run = names(Run::get_args_info());
        of_run.retain(|name| *name != "--help" && !OF_RUN_ALONE.contains(name));
        let mut of_create = names(Create::get_args_info());
        of_create.retain(|name| *name != "--help");
        assert_eq!(of_create, of_run);
    }
}
