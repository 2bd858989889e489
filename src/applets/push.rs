//! `dhow push`.

use super::progress::Progress;
use super::pull::{full, no_content_trust};
use super::{Command, Context, output};
use crate::oci::auth;
use crate::oci::reference::Reference;
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};

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
        let auth = auth::lookup(&name.domain)?.map(|found| found.to_header());
        let mut out = std::io::stdout();
        let mut progress = Progress::new(&mut out, &std::io::stdout(), self.quiet);
        let tag = name.tag.clone().unwrap_or_default();
        context.client()?.push(&name.familiar_name(), &tag, &platform, &compression, auth, &mut progress)?;
        progress.finish().map_err(|message| anyhow!(message))?;
        if self.quiet {
            output::say(&format!("{}\n", full(&name)))?;
        }
        Ok(0)
    }
}
