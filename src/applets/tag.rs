//! `dhow tag`.

use super::{Command, Context};
use crate::oci::reference::Reference;
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Tag {
    #[argh(positional, arg_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    #[argh(positional, arg_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Command for Tag {
    fn run(self, context: &Context) -> Result<u8> {
        let wrong = |text: &str| format!("Error parsing reference: {text:?} is not a valid repository/tag");
        Reference::parse(&self.source).with_context(|| wrong(&self.source))?;
        let target = Reference::parse(&self.target).with_context(|| wrong(&self.target))?;
        if target.digest.is_some() {
            bail!("refusing to create a tag with a digest reference");
        }
        let target = target.or_latest();
        let tag = target.tag.clone().unwrap_or_default();
        context.client()?.tag(&self.source, &target.name(), &tag)?;
        Ok(0)
    }
}
