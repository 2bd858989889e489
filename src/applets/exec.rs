//! `dhow exec`.

use super::request::{self, Here};
use super::stream::{self, Ending, Streams, Target};
use super::{Command, Context, coded, habits, run, terminal};
use crate::api::client::{Client, Failure};
use crate::api::types::{ExecCreate, ExecStart};
use anyhow::{Result, anyhow};
use argh::{ArgsInfo, FromArgs};

/// Execute a command in a running container
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Exec {
    /// run it in the background
    #[argh(switch, short = 'd')]
    detach: bool,
    /// keys that detach from it (default ctrl-p,ctrl-q)
    #[argh(option)]
    detach_keys: Option<String>,
    /// an environment variable: NAME=value, or NAME for its value here
    #[argh(option, short = 'e')]
    env: Vec<String>,
    /// a file of environment variables
    #[argh(option)]
    env_file: Vec<String>,
    /// keep stdin open
    #[argh(switch, short = 'i')]
    interactive: bool,
    /// all capabilities
    #[argh(switch)]
    privileged: bool,
    /// give it a terminal
    #[argh(switch, short = 't')]
    tty: bool,
    /// user: name or number[:group]
    #[argh(option, short = 'u')]
    user: Option<String>,
    /// working directory
    #[argh(option, short = 'w')]
    workdir: Option<String>,
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
    #[argh(positional, greedy, arg_name = "COMMAND [ARG...]")]
    command: Vec<String>,
}

impl Command for Exec {
    const STOPS: bool = true;

    fn run(mut self, context: &Context) -> Result<u8> {
        let detach_keys = habits::or_kept(self.detach_keys.take(), |kept| kept.detach_keys)?;
        self.detach_keys = Some(detach_keys.clone());
        let keys = stream::detach_keys(&detach_keys)?;
        let (detach, tty, stdin) = (self.detach, self.tty, self.interactive && !self.detach);
        let container = self.container.clone();
        let create = self.request(&Here::this_process(), terminal::size(&std::io::stdout()))?;
        let client = context.client()?;
        // What is not there is told first; and an input that is none before anything is made.
        client.container(&container)?;
        if !detach {
            terminal::check(stdin, tty)?;
        }
        let id = client.exec(&container, &create)?.id;
        let start = ExecStart { detach, tty, console_size: create.console_size };
        if detach {
            client.exec_detached(&id, &start)?;
            return Ok(0);
        }
        let signals = terminal::signals(false)?;
        let connection = client.exec_start(&id, &start).map_err(|error| not_run(&client, error))?;
        let streams = Streams { connection, stdin, stdout: true, stderr: true, tty, keys };
        match stream::run(streams, signals, &Target::exec(&client, &id))? {
            // Docker's exit code for it.
            Ending::Detached => Ok(1),
            Ending::Over => match client.exec_inspect(&id)?.exit_code {
                Some(code) => Ok(u8::try_from(code & 0xff).unwrap_or(1)),
                None => Err(coded(1, anyhow!("the engine does not know the exit code of exec {id}"))),
            },
        }
    }
}

/// An error before the command ran: 127 where there is none, and 126 whatever else kept it from starting. That there is
/// nothing to start, nobody to ask, or no answer, is none of these.
fn not_run(client: &Client, error: anyhow::Error) -> anyhow::Error {
    let status = error.downcast_ref::<Failure>().map(|failure| failure.status);
    match (run::exit_code(&format!("{error:#}")), status) {
        (code @ (126 | 127), _) => coded(code, error),
        (_, Some(404 | 409)) => error,
        // It went away in the midst of it.
        (_, None) if !client.is_local() => error,
        _ => coded(126, error),
    }
}

impl Exec {
    /// The body of exec. Pure, as that of create.
    fn request(self, here: &Here, size: Option<(u16, u16)>) -> Result<ExecCreate> {
        let attached = !self.detach;
        Ok(ExecCreate {
            user: self.user.unwrap_or_default(),
            privileged: self.privileged,
            tty: self.tty,
            console_size: size.filter(|_| self.tty).map(|(rows, columns)| [rows.into(), columns.into()]),
            attach_stdin: attached && self.interactive,
            attach_stderr: attached,
            attach_stdout: attached,
            detach_keys: self.detach_keys.unwrap_or_default(),
            env: Some(request::environment(&self.env_file, &self.env, here)?).filter(|env| !env.is_empty()),
            working_dir: self.workdir.unwrap_or_default(),
            cmd: self.command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::applets::parse;

    fn body(line: &str) -> ExecCreate {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let plain = parse::plain(&Exec::get_args_info(), "dhow exec", &words, true).unwrap();
        let words: Vec<&str> = plain.iter().map(String::as_str).collect();
        let here = Here { env: &|_| None, read: &|_| Ok(b"F=1".to_vec()), cwd: "/".into() };
        Exec::from_args(&["dhow exec"], &words).unwrap().request(&here, Some((24, 80))).unwrap()
    }

    #[test]
    fn flags_become_the_body() {
        let all = body("-it -u me -w /w -e A=1 --env-file f --privileged web sh -c -x");
        let expected = ExecCreate {
            user: "me".into(),
            privileged: true,
            tty: true,
            console_size: Some([24, 80]),
            attach_stdin: true,
            attach_stderr: true,
            attach_stdout: true,
            env: Some(vec!["F=1".into(), "A=1".into()]),
            working_dir: "/w".into(),
            cmd: ["sh", "-c", "-x"].map(str::to_owned).into(),
            ..Default::default()
        };
        assert_eq!(all, expected);
        let detached = body("-di web true");
        assert!(!(detached.attach_stdin || detached.attach_stdout || detached.attach_stderr));
        assert_eq!((detached.env, detached.console_size), (None, None));
    }
}
