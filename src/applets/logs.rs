//! `dhow logs`.

use super::format::units;
use super::stream::Split;
use super::{Command, Context, face};
use crate::api::client;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};

/// Fetch the logs of a container
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Logs {
    /// show what the log driver knows besides
    #[argh(switch)]
    details: bool,
    /// go on with what is written from now on
    #[argh(switch, short = 'f')]
    follow: bool,
    /// only since a time (2026-01-02T13:23:37Z) or a while ago (42m)
    #[argh(option)]
    since: Option<String>,
    /// lines from the end (default all)
    #[argh(option, short = 'n')]
    tail: Option<String>,
    /// show the time of each line
    #[argh(switch, short = 't')]
    timestamps: bool,
    /// only until a time (2026-01-02T13:23:37Z) or a while ago (42m)
    #[argh(option)]
    until: Option<String>,
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
}

impl Command for Logs {
    fn run(self, context: &Context) -> Result<u8> {
        let time = |name: &str, text: &Option<String>| {
            let time = text.as_deref().filter(|text| !text.is_empty()).map(units::timestamp).transpose();
            time.map(Option::unwrap_or_default).map_err(|error| match face::is_docker() {
                true => error.context(format!("invalid value for {name:?}")),
                false => error,
            })
        };
        let (since, until) = (time("since", &self.since)?, time("until", &self.until)?);
        let client = context.client()?;
        let container = client.container(&self.container)?;
        let what = client::Logs {
            follow: self.follow,
            timestamps: self.timestamps,
            details: self.details,
            since: &since,
            until: &until,
            tail: self.tail.as_deref().unwrap_or("all"),
        };
        let mut split = Split::new(container.config.tty);
        client.logs(&container.id, &what, &mut split)?;
        Ok(0)
    }
}
