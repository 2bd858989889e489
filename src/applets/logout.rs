//! `dhow logout`.

use super::{Command, Context, output};
use crate::oci::auth::keep;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Log out from a registry
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Logout {
    #[argh(positional, arg_name = "SERVER")]
    server: Option<String>,
}

impl Command for Logout {
    fn run(self, _: &Context) -> Result<u8> {
        let server = keep::key(self.server.as_deref().unwrap_or_default());
        output::say(&format!("Removing login credentials for {server}\n"))?;
        if let Err(error) = keep::erase(server) {
            output::complain(&format!("WARNING: could not erase credentials:\n{server}: {error:#}"));
        }
        Ok(0)
    }
}
