//! Who we are to whoever called us: dhow, or, through a link of that name, the docker command, whose words scripts know.

use super::{Coded, output};
use crate::api::client::{Failure, Unreachable};
use crate::api::errno;
use anyhow::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

static DOCKER: AtomicBool = AtomicBool::new(false);

/// From here on we are the docker command.
pub fn be_docker() {
    DOCKER.store(true, Ordering::Relaxed);
}

pub fn is_docker() -> bool {
    DOCKER.load(Ordering::Relaxed)
}

/// The word that our commands begin with.
pub fn name() -> &'static str {
    if is_docker() { "docker" } else { "dhow" }
}

/// The docker command's words where it is that, else ours.
pub fn words<'a>(dockers: &'a str, ours: &'a str) -> &'a str {
    if is_docker() { dockers } else { ours }
}

/// What went wrong with several things, a line each.
#[derive(Debug)]
pub struct Several {
    pub errors: Vec<Error>,
    /// What the docker command says after them.
    pub after: Option<String>,
}

impl fmt::Display for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.errors.iter().map(|error| format!("{error:#}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Several {}

/// A command line that was wrong: for docker with how it is right.
#[derive(Debug)]
pub struct Wrong {
    pub message: String,
    /// What we add to it.
    pub hint: String,
    /// `docker run [OPTIONS] IMAGE`, and the words of it that are the command.
    pub usage: String,
    pub command: String,
    pub is_flag: bool,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { message, hint, usage, command, is_flag } = self;
        if !is_docker() {
            return write!(f, "{message}{hint}");
        }
        let (who, run) = match is_flag {
            true => ("", "Run"),
            false if message.contains("requires at least") && !message.contains("at most") => ("docker: ", "See"),
            false => ("docker: ", "Run"),
        };
        write!(f, "{who}{message}\n\nUsage:  {usage}\n\n{run} '{command} --help' for more information")
    }
}

impl std::error::Error for Wrong {}

/// A flag's value that is wrong, which is found only when the whole line is read.
#[derive(Debug)]
pub struct Misfit(pub String);

impl Misfit {
    pub fn new(flag: &str, value: &str, why: &str) -> Misfit {
        Misfit(format!("invalid argument {value:?} for {flag:?} flag: {why}"))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

/// Tells an error on stderr.
pub fn complain(error: &Error) {
    output::complain(&text(error));
}

/// What is told of an error.
pub fn text(error: &Error) -> String {
    if let Some(coded) = error.downcast_ref::<Coded>() {
        return match coded.help.filter(|_| is_docker()) {
            Some(command) => {
                format!("docker: {}\n\nRun 'docker {command} --help' for more information", dockers(&coded.error))
            }
            None => text(&coded.error),
        };
    }
    if let Some(several) = error.downcast_ref::<Several>() {
        return several.errors.iter().map(text).collect::<Vec<_>>().join("\n");
    }
    match is_docker() {
        true => dockers(error),
        false => format!("dhow: {error:#}"),
    }
}

/// Tells of an error what the docker command says before it ends, and gives the rest.
pub fn told(error: Error) -> Error {
    match error.downcast::<Several>() {
        Ok(Several { errors, after: Some(after) }) => {
            errors.iter().for_each(complain);
            Error::msg(after)
        }
        Ok(several) => several.into(),
        Err(error) => error,
    }
}

/// An error as the docker command words it.
fn dockers(error: &Error) -> String {
    if let Some(Unreachable(address)) = error.downcast_ref::<Unreachable>() {
        let denied = |cause: &(dyn std::error::Error + 'static)| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        if error.chain().any(denied) {
            return format!("permission denied while trying to connect to the Docker daemon socket at {address}");
        }
        return format!("Cannot connect to the Docker daemon at {address}. Is the docker daemon running?");
    }
    let causes: Vec<String> = error.chain().map(cause).collect();
    causes.join(": ")
}

fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return format!("Error response from daemon: {failure}");
    }
    // As Go words what the system says.
    if let Some(code) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
        return errno::words(code);
    }
    match error.downcast_ref::<nix::errno::Errno>() {
        Some(error) => errno::words(*error as i32),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};
    use std::io;

    #[test]
    fn errors_in_dockers_words() {
        let failure = || Error::new(Failure { status: 404, message: "No such container: x".to_owned() });
        let unreachable =
            |errno| Err::<(), _>(io::Error::from_raw_os_error(errno)).context(Unreachable("unix:///x".into()));
        let table = [
            (failure(), "Error response from daemon: No such container: x"),
            (failure().context("waiting"), "waiting: Error response from daemon: No such container: x"),
            (anyhow!("conflicting options"), "conflicting options"),
            (
                anyhow!(io::Error::from_raw_os_error(libc::ENOENT)).context("open /x"),
                "open /x: no such file or directory",
            ),
            (anyhow!(nix::errno::Errno::ENOTDIR).context("open /x"), "open /x: not a directory"),
            (
                unreachable(libc::ENOENT).context("ask").unwrap_err(),
                "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
            ),
            (
                unreachable(libc::EACCES).unwrap_err(),
                "permission denied while trying to connect to the Docker daemon socket at unix:///x",
            ),
        ];
        for (error, expected) in table {
            assert_eq!(dockers(&error), expected);
        }
    }
}
