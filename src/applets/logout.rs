//! `dhow logout`.

use super::login::warn_of_variable;
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
        warn_of_variable();
        let server = self.server.as_deref().unwrap_or_default();
        let key = keep::key(server);
        output::say(&format!("Removing login credentials for {key}\n"))?;
        if let Err(error) = keep::erase(server, key) {
            output::complain(&format!("WARNING: could not erase credentials:\n{error:#}"));
        }
        Ok(0)
    }
}
