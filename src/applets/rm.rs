//! `dhow rm`.

use super::{Command, Context, each, face};
use crate::api::client::Failure;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Remove one or more containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// remove it even if it runs, by SIGKILL
    #[argh(switch, short = 'f')]
    force: bool,
    /// remove the link and not the container
    #[argh(switch, short = 'l')]
    link: bool,
    /// remove its anonymous volumes too
    #[argh(switch, short = 'v')]
    volumes: bool,
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Rm {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        let work = |container: &str| client.remove(container, self.force, self.volumes, self.link);
        let results = self.containers.iter().zip(each::side_by_side(&self.containers, work));
        // With --force one that is not there is told, and no failure.
        let gone = |error: &anyhow::Error| error.downcast_ref::<Failure>().is_some_and(|failure| failure.status == 404);
        each::one_by_one(results.filter(|(_, result)| match result {
            Err(error) if self.force && gone(error) => {
                face::complain(error);
                false
            }
            _ => true,
        }))
    }
}
