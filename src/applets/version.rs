//! `dhow version`.

use super::format::{table, template::Template};
use super::{Coded, Command, Context, coded, face, host, output};
use crate::api::client::Client;
use crate::api::types;
use crate::api::version::{ApiVersion, NEWEST};
use crate::ns::profile::ARCH;
use anyhow::{Result, anyhow};
use argh::{ArgsInfo, FromArgs};
use serde_json::json;
use std::fmt::Write;

/// Show the version
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Version {
    /// print by a Go template, or "json"
    #[argh(option, short = 'f')]
    format: Option<String>,
}

/// `dhow --version`.
pub fn line() -> String {
    match face::is_docker() {
        true => format!("Docker version {}, build dhow\n", env!("CARGO_PKG_VERSION")),
        false => format!("dhow version {}\n", env!("CARGO_PKG_VERSION")),
    }
}

impl Command for Version {
    fn run(self, context: &Context) -> Result<u8> {
        let format = self.format.unwrap_or_default();
        let template = match format.as_str() {
            "" => None,
            "json" => Some("{{json .}}"),
            format => Some(format),
        };
        let template = template.map(Template::parse).transpose().map_err(|error| coded(64, error))?;
        let name = host::context_name(&context.wish)?;
        let client = match context.client() {
            Err(error) if error.is::<Coded>() => return Err(error),
            other => other,
        };
        // Of an engine that does not answer the client's part is told all the same.
        let answer = client.as_ref().map_err(|error| anyhow!("{error:#}")).and_then(Client::version);
        let spoken = client.as_ref().ok().and_then(Client::version_spoken).unwrap_or(NEWEST);
        let (server, error) = match answer {
            Ok(server) => (Some(server), None),
            Err(error) => (None, Some(error)),
        };
        let text = match template {
            Some(template) => template.execute(&json!({"Client": ours(spoken, &name), "Server": server}))? + "\n",
            None => plain(spoken, &name, server.as_ref()),
        };
        output::say(&text)?;
        error.map_or(Ok(0), Err)
    }
}

/// What is said of the client, which is the same file as the engine.
fn ours(spoken: ApiVersion, context: &str) -> serde_json::Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": spoken.to_string(),
        "DefaultAPIVersion": NEWEST.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": ARCH,
        "BuildTime": "",
        "Context": context,
    })
}

/// The two sections of Docker's own command, without what is not known of a build.
fn plain(spoken: ApiVersion, context: &str, server: Option<&types::Version>) -> String {
    let mut text = String::new();
    let mut row = |depth: usize, title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{}{title}:\t{value}", " ".repeat(depth));
        }
    };
    row(1, "Version", env!("CARGO_PKG_VERSION"));
    let lower = if spoken == NEWEST { String::new() } else { format!(" (downgraded from {NEWEST})") };
    row(1, "API version", &format!("{spoken}{lower}"));
    row(1, "OS/Arch", &format!("{}/{ARCH}", std::env::consts::OS));
    row(1, "Context", context);
    let client = std::mem::take(&mut text);
    let Some(server) = server else { return table::align_from(&format!("Client:\n{client}"), 20) };
    for component in &server.components {
        let _ = writeln!(text, " {}:", component.name);
        let detail = |key: &str| component.details.get(key).map_or("", String::as_str);
        let mut row = |title: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(text, "  {title}:\t{value}");
            }
        };
        row("Version", &component.version);
        if !detail("ApiVersion").is_empty() {
            row("API version", &format!("{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion")));
        }
        row("Go version", detail("GoVersion"));
        row("Git commit", detail("GitCommit"));
        row("Built", detail("BuildTime"));
        if !detail("Arch").is_empty() {
            row("OS/Arch", &format!("{}/{}", detail("Os"), detail("Arch")));
        }
        row("Kernel", detail("KernelVersion"));
        row("Experimental", detail("Experimental"));
    }
    let platform = &server.platform.name;
    let title = if platform.is_empty() { String::new() } else { format!(" {platform}") };
    table::align_from(&format!("Client:\n{client}\nServer:{title}\n{text}"), 20)
}
