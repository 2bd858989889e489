//! `dhow boot`: starts what should run after a reboot. With a daemon its start does the same.

use super::{Command, Context, output};
use crate::engine::{Engine, boot};
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Start the containers that should run after a reboot
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Boot {}

impl Command for Boot {
    fn run(self, context: &Context) -> Result<u8> {
        let place = &context.place;
        let engine = Engine::open(place.root.as_deref(), place.run.as_deref(), place.config.as_deref())?;
        let mut code = 0;
        for started in boot::boot(&engine.store)? {
            match started.done {
                Ok(()) => output::say(&format!("{}\n", started.name))?,
                Err(error) => {
                    output::complain(&format!("dhow: {}: {error:#}", started.name));
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
