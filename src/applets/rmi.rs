//! `dhow rmi`.

use super::{Command, Context, each, face, output};
use crate::api::client::Failure;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Remove one or more images
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Rmi {
    /// remove it even if it has other names or stopped containers
    #[argh(switch, short = 'f')]
    force: bool,
    /// leave its parents without a name
    #[argh(switch)]
    no_prune: bool,
    /// only this platform of it: os/arch[/variant]
    #[argh(option)]
    platform: Vec<String>,
    #[argh(positional, arg_name = "IMAGE [IMAGE...]")]
    images: Vec<String>,
}

impl Command for Rmi {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        let (mut errors, mut fatal) = (Vec::new(), false);
        for image in &self.images {
            match client.remove_image(image, self.force, self.no_prune, &self.platform) {
                Ok(steps) => {
                    for step in steps {
                        match step.deleted.as_str() {
                            "" => output::say(&format!("Untagged: {}\n", step.untagged))?,
                            deleted => output::say(&format!("Deleted: {deleted}\n"))?,
                        }
                    }
                }
                Err(error) => {
                    fatal |= error.downcast_ref::<Failure>().is_none_or(|failure| failure.status != 404);
                    errors.push(error);
                }
            }
        }
        if self.force && !fatal {
            // What is not there is as removed as can be; it is told all the same.
            errors.drain(..).for_each(|error| face::complain(&error));
        }
        each::together(errors)
    }
}
