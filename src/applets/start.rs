//! `dhow start`.

use super::stream::{self, Ending, Streams, Target};
use super::{Command, Context, each, habits, output, run, terminal};
use crate::api::client::{Attach, Client};
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

/// Start one or more stopped containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Start {
    /// attach its stdout and stderr, and forward signals
    #[argh(switch, short = 'a')]
    attach: bool,
    /// restore from a checkpoint (with a later release)
    #[argh(option)]
    checkpoint: Option<String>,
    /// where the checkpoints are (with a later release)
    #[argh(option)]
    checkpoint_dir: Option<String>,
    /// keys that detach from the container (default ctrl-p,ctrl-q)
    #[argh(option)]
    detach_keys: Option<String>,
    /// attach its stdin
    #[argh(switch, short = 'i')]
    interactive: bool,
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    containers: Vec<String>,
}

impl Command for Start {
    fn run(self, context: &Context) -> Result<u8> {
        if self.checkpoint.is_some() || self.checkpoint_dir.is_some() {
            bail!("--checkpoint: checkpoints come with a later release of dhow");
        }
        let detach_keys = habits::or_kept(self.detach_keys, |kept| kept.detach_keys)?;
        let keys = stream::detach_keys(&detach_keys)?;
        let client = context.client()?;
        if !(self.attach || self.interactive) {
            return several(&client, &self.containers);
        }
        let [container] = &self.containers[..] else {
            bail!("you cannot start and attach multiple containers at once");
        };
        let container = client.container(container)?;
        let (id, tty) = (&container.id, container.config.tty);
        let stdin = self.interactive && container.config.open_stdin;
        terminal::check(stdin, tty)?;
        let signals = terminal::signals(!tty)?;
        let what = Attach { stdin, stdout: true, stderr: true, detach_keys: &detach_keys };
        let connection = client.attach(id, &what)?;
        let auto_remove = container.host_config.auto_remove;
        let waiting = client.wait(id, if auto_remove { "removed" } else { "next-exit" })?;
        if let Err(error) = client.start(id, "") {
            drop(connection);
            if auto_remove {
                run::best_effort(|| waiting.finish().map(drop));
            }
            return Err(error);
        }
        let streams = Streams { connection, stdin, stdout: true, stderr: true, tty, keys };
        match stream::run(streams, signals, &Target::container(&client, id, !tty))? {
            Ending::Detached => Ok(0),
            Ending::Over => run::finished(waiting),
        }
    }
}

fn several(client: &Client, containers: &[String]) -> Result<u8> {
    let (mut errors, mut failed) = (Vec::new(), Vec::new());
    for container in containers {
        match client.start(container, "") {
            Ok(()) => output::say(&format!("{container}\n"))?,
            Err(error) => {
                errors.push(error);
                failed.push(container.as_str());
            }
        }
    }
    each::together_and(errors, || format!("Error: failed to start containers: {}", failed.join(", ")))
}
