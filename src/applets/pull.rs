//! `dhow pull`, and the pulling that run and create do.

use super::progress::Progress;
use super::{Command, Context, output};
use crate::api::client::Client;
use crate::oci::auth;
use crate::oci::reference::Reference;
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};

/// Download an image from a registry
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Pull {
    /// download all tags of the repository
    #[argh(switch, short = 'a')]
    all_tags: bool,
    /// images are not signed here: true, as by default
    #[argh(option, arg_name = "bool")]
    disable_content_trust: Option<bool>,
    /// platform of the image: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    /// print the image's name only
    #[argh(switch, short = 'q')]
    quiet: bool,
    #[argh(positional, arg_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

impl Command for Pull {
    fn run(self, context: &Context) -> Result<u8> {
        no_content_trust(self.disable_content_trust)?;
        let name = Reference::parse(&self.name)?;
        let named = name.tag.is_some() || name.digest.is_some();
        if self.all_tags && named {
            bail!("tag can't be used with --all-tags/-a");
        }
        if !named && !self.all_tags && !self.quiet {
            output::say("Using default tag: latest\n")?;
        }
        let name = if self.all_tags { name } else { name.or_latest() };
        let platform = platform(self.platform);
        let mut out = std::io::stdout();
        let progress = Progress::new(&mut out, &std::io::stdout(), self.quiet);
        pull(&context.client()?, &name, &platform, progress)?;
        output::say(&format!("{}\n", full(&name)))?;
        Ok(0)
    }
}

/// Docker ended its content trust: the flag is taken as long as it asks for none.
pub fn no_content_trust(disable: Option<bool>) -> Result<()> {
    if disable == Some(false) {
        bail!("--disable-content-trust=false: content trust is not supported");
    }
    Ok(())
}

/// The platform asked for here: the flag's, or DOCKER_DEFAULT_PLATFORM.
pub fn platform(flag: Option<String>) -> String {
    flag.or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok()).unwrap_or_default()
}

/// Pulls the image of a container that is to be made, telling of it on stderr.
pub fn for_container(client: &Client, image: &str, platform: &str, quiet: bool) -> Result<()> {
    let name = Reference::parse(image)?.or_latest();
    let mut out = std::io::stderr();
    pull(client, &name, platform, Progress::new(&mut out, &std::io::stderr(), quiet))
}

fn pull(client: &Client, name: &Reference, platform: &str, mut progress: Progress) -> Result<()> {
    let tag = match (&name.digest, &name.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.clone(),
        (None, None) => String::new(),
    };
    let auth = auth::lookup(&name.domain)?.map(|found| found.to_header());
    client.pull(&name.name(), &tag, platform, auth, &mut progress)?;
    progress.finish().map_err(|message| anyhow!(message))
}

/// The image's name as people say it, with the tag that is meant; as it was given if it is no name.
pub fn tagged(image: &str) -> String {
    Reference::parse(image).map_or_else(|_| image.to_owned(), |name| name.or_latest().familiar())
}

/// `docker.io/library/busybox:latest`.
pub fn full(name: &Reference) -> String {
    match (&name.digest, &name.tag) {
        (Some(digest), _) => format!("{}@{digest}", name.name()),
        (None, Some(tag)) => format!("{}:{tag}", name.name()),
        (None, None) => name.name(),
    }
}
