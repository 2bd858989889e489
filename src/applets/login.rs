//! `dhow login`.

use super::{Command, Context, face, output, terminal};
use crate::api::client::Failure;
use crate::api::types::AuthConfig;
use crate::oci::auth::{self, Credentials, keep};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use std::io::{IsTerminal, Read};

/// Authenticate to a registry
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Login {
    /// the password or personal access token; it is seen by others: rather --password-stdin
    #[argh(option, short = 'p')]
    password: Option<String>,
    /// take the password or personal access token from stdin
    #[argh(switch)]
    password_stdin: bool,
    /// the user's name
    #[argh(option, short = 'u')]
    username: Option<String>,
    #[argh(positional, arg_name = "SERVER")]
    server: Option<String>,
}

/// The largest password that is read.
const MAX_SECRET: u64 = 1024 * 1024;

impl Command for Login {
    fn run(self, context: &Context) -> Result<u8> {
        let (username, password) = self.given()?;
        warn_of_variable();
        let server = keep::key(self.server.as_deref().unwrap_or_default());
        let mut known = String::new();
        if username.is_empty() && password.is_empty() {
            let kept = auth::lookup(server)?.unwrap_or_default();
            if !kept.username.is_empty() && !kept.password.is_empty() {
                let name = face::name();
                output::complain(&format!(
                    "Authenticating with existing credentials... [Username: {}]\n\nInfo → To login with a different \
                     account, run '{name} logout' followed by '{name} login'\n",
                    kept.username
                ));
                match ask(context, server, &kept) {
                    Ok(status) => return said(&status),
                    Err(error) if !std::io::stdin().is_terminal() => return Err(error),
                    Err(error) if error.downcast_ref::<Failure>().is_some_and(|failure| failure.status == 401) => {
                        output::complain("Stored credentials invalid or expired");
                    }
                    Err(error) => output::complain(&format!("Login did not succeed, error: {error:#}")),
                }
            }
            known = kept.username;
        }
        let pair = prompt(username, password, &known)?;
        said(&ask(context, server, &pair)?)
    }
}

impl Login {
    /// The name and the password that the command line brings, where it does.
    fn given(&self) -> Result<(String, String)> {
        let stdin = self.password_stdin || self.password.as_deref() == Some("-");
        let typed = self.password.as_deref().filter(|password| *password != "-");
        if stdin && typed.is_some() {
            bail!("conflicting options: cannot specify both --password and --password-stdin");
        }
        if stdin && self.username.is_none() {
            bail!("the --password-stdin option requires --username to be set");
        }
        if self.username.as_deref() == Some("") {
            bail!("username is empty");
        }
        let username = self.username.clone().unwrap_or_default();
        if let Some(password) = typed {
            if password.is_empty() {
                bail!("password is empty");
            }
            output::complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            return Ok((username, password.to_owned()));
        }
        if !stdin {
            return Ok((username, String::new()));
        }
        let mut secret = String::new();
        std::io::stdin().take(MAX_SECRET).read_to_string(&mut secret).context("read the password from stdin")?;
        let end = secret.strip_suffix('\n').unwrap_or(&secret);
        let secret = end.strip_suffix('\r').unwrap_or(end);
        if secret.trim().is_empty() {
            bail!("password is empty");
        }
        Ok((username, secret.to_owned()))
    }
}

/// What is kept does not count where a variable holds credentials.
pub fn warn_of_variable() {
    let name = auth::VARIABLE;
    if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
        output::complain(&format!(
            "WARNING: {name} is set and takes precedence.\nUnset {name} to restore the CLI auth behaviour.\n"
        ));
    }
}

/// Asks the user for what is missing.
fn prompt(mut username: String, mut password: String, known: &str) -> Result<Credentials> {
    if (username.is_empty() || password.is_empty()) && !std::io::stdin().is_terminal() {
        bail!("{} perform an interactive login from a non TTY device", face::words("Error: Cannot", "cannot"));
    }
    if username.is_empty() {
        let offer = if known.is_empty() { "Username: ".to_owned() } else { format!("Username ({known}): ") };
        username = terminal::ask(&offer, true)?.trim().to_owned();
        if username.is_empty() {
            username = known.to_owned();
        }
        if username.is_empty() {
            bail!("username is required");
        }
    }
    if password.is_empty() {
        password = terminal::ask("Password: ", false)?;
        if password.is_empty() {
            bail!("password is required");
        }
    }
    Ok(Credentials { username, password, ..Credentials::default() })
}

/// Asks the engine whether the registry knows them, and keeps them if it does. Gives what there is to say.
fn ask(context: &Context, server: &str, pair: &Credentials) -> Result<String> {
    let asked = AuthConfig {
        username: pair.username.clone(),
        password: pair.password.clone(),
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    };
    let answer = context.client()?.login(&asked)?;
    let kept = keep::store(server, &pair.username, &pair.password, &answer.identity_token);
    if let Some(path) = kept.context("save credentials")? {
        output::complain(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    Ok(answer.status)
}

fn said(status: &str) -> Result<u8> {
    output::say(&format!("{status}\n"))?;
    Ok(0)
}
