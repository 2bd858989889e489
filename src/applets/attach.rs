//! `dhow attach`.

use super::stream::{self, Ending, Streams, Target};
use super::{Command, Context, face, habits, run, terminal};
use crate::api::client::{self, Client};
use crate::api::types::ContainerInspect;
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

/// Attach local standard input, output, and error streams to a running container
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Attach {
    /// keys that detach from the container (default ctrl-p,ctrl-q)
    #[argh(option)]
    detach_keys: Option<String>,
    /// do not attach stdin
    #[argh(switch)]
    no_stdin: bool,
    /// pass signals on to the process (default true)
    #[argh(option, arg_name = "bool")]
    sig_proxy: Option<bool>,
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
}

impl Command for Attach {
    fn run(self, context: &Context) -> Result<u8> {
        let detach_keys = habits::or_kept(self.detach_keys, |kept| kept.detach_keys)?;
        let keys = stream::detach_keys(&detach_keys)?;
        let client = context.client()?;
        let container = running(&client, &self.container)?;
        let tty = container.config.tty;
        terminal::check(!self.no_stdin, tty)?;
        let stdin = !self.no_stdin && container.config.open_stdin;
        let waiting = client.wait(&container.id, "")?;
        let forward = self.sig_proxy.unwrap_or(true) && !tty;
        let signals = terminal::signals(forward)?;
        let what = client::Attach { stdin, stdout: true, stderr: true, detach_keys: &detach_keys };
        let connection = client.attach(&container.id, &what)?;
        if tty && let Some((rows, columns)) = terminal::size(&std::io::stdout()) {
            // A change of size makes a shell print its prompt again; the right size follows.
            run::best_effort(|| client.resize(&container.id, rows.saturating_add(1), columns.saturating_add(1)));
        }
        let streams = Streams { connection, stdin, stdout: true, stderr: true, tty, keys };
        match stream::run(streams, signals, &Target::container(&client, &container.id, forward))? {
            // Docker's exit code for it.
            Ending::Detached => Ok(1),
            Ending::Over => run::finished(waiting),
        }
    }
}

fn running(client: &Client, name: &str) -> Result<ContainerInspect> {
    let container = client.container(name)?;
    if !container.state.running {
        bail!("{} attach to a stopped container, start it first", face::words("You cannot", "cannot"));
    }
    if container.state.paused {
        bail!("{} attach to a paused container, unpause it first", face::words("You cannot", "cannot"));
    }
    if container.state.restarting {
        bail!("{} attach to a restarting container, wait until it is running", face::words("You cannot", "cannot"));
    }
    Ok(container)
}
