//! `dhow push`.

use super::progress::Progress;
use super::pull::{full, no_content_trust};
use super::{Command, Context, output};
use crate::api::client::{Client, Filters};
use crate::api::types::ImageSummary;
use crate::oci::auth::{self, Registries};
use crate::oci::reference::Reference;
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;

/// Upload an image to a registry
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Push {
    /// push all tags of the repository
    #[argh(switch, short = 'a')]
    all_tags: bool,
    /// compression of layers that are not in the registry yet: gzip (the default) or zstd
    #[argh(option, arg_name = "format")]
    compression_format: Option<String>,
    /// images are not signed here: true, as by default
    #[argh(option, arg_name = "bool")]
    disable_content_trust: Option<bool>,
    /// push only if the image is of this platform: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    /// print the image's name only
    #[argh(switch, short = 'q')]
    quiet: bool,
    #[argh(positional, arg_name = "NAME[:TAG]")]
    name: String,
}

impl Command for Push {
    fn run(self, context: &Context) -> Result<u8> {
        no_content_trust(self.disable_content_trust)?;
        let name = Reference::parse(&self.name)?;
        if name.digest.is_some() {
            bail!("cannot push a digest reference");
        }
        if self.all_tags && name.tag.is_some() {
            bail!("tag can't be used with --all-tags/-a");
        }
        if name.tag.is_none() && !self.all_tags && !self.quiet {
            output::say("Using default tag: latest\n")?;
        }
        let name = if self.all_tags { name } else { name.or_latest() };
        let platform = self.platform.unwrap_or_default();
        let compression = self.compression_format.unwrap_or_default();
        let mut out = std::io::stdout();
        let mut progress = Progress::new(&mut out, &std::io::stdout(), self.quiet);
        send(&context.client()?, &name, &platform, &compression, &mut progress)?;
        progress.finish().map_err(|message| anyhow!(message))?;
        if self.quiet {
            output::say(&format!("{}\n", full(&name)))?;
        }
        Ok(0)
    }
}

/// Asks for a push, as who we are at the registry and at those that layers came from; what it tells goes into `sink`.
pub fn send(client: &Client, name: &Reference, platform: &str, compression: &str, sink: &mut dyn Write) -> Result<()> {
    let others = origins(&client.images(true, &Filters::new())?, name)?.to_header()?;
    let auth = auth::lookup(&name.domain)?.map(|found| found.to_header());
    let tag = name.tag.as_deref().unwrap_or_default();
    client.push(&name.familiar_name(), tag, platform, compression, (auth, others), sink)
}

/// Who we are at the registries that these images, and those that they were built on, came from: layers may be had there.
fn origins(images: &[ImageSummary], pushed: &Reference) -> Result<Registries> {
    let parsed = |names: &[String]| -> Vec<Reference> {
        names.iter().filter_map(|known| Reference::parse(known).ok()).collect()
    };
    let meant = |tag: &Reference| match pushed.tag {
        None => tag.name() == pushed.name(),
        Some(_) => tag == pushed,
    };
    let mut origins = Registries::default();
    for image in images.iter().filter(|image| parsed(&image.repo_tags).iter().any(meant)) {
        let parent = |image: &&ImageSummary| images.iter().find(|other| other.id == image.parent_id);
        // As many as there are: whoever says that an image is its own parent is not followed for ever.
        for image in std::iter::successors(Some(image), parent).take(images.len()) {
            let elsewhere = parsed(&image.repo_digests).into_iter().filter(|from| from.domain != pushed.domain);
            elsewhere.map(|from| from.domain).try_for_each(|domain| origins.look_up(&domain))?;
        }
    }
    Ok(origins)
}
