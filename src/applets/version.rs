//! `dhow version`.

use super::format::{table, template::Template};
use super::{Command, Context, coded, output};
use crate::api::types;
use anyhow::Result;
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
    format!("dhow version {}\n", env!("CARGO_PKG_VERSION"))
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
        let server = context.client()?.version()?;
        let text = match template {
            Some(template) => template.execute(&json!({"Client": client(&server), "Server": server}))? + "\n",
            None => plain(&server),
        };
        output::say(&text)?;
        Ok(0)
    }
}

/// The client is the same file, and speaks the engine's newest API.
fn client(server: &types::Version) -> serde_json::Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": server.api_version,
        "DefaultAPIVersion": server.api_version,
        "GitCommit": server.git_commit,
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": server.arch,
        "BuildTime": server.build_time,
        "Context": "default",
    })
}

/// The two sections of Docker's own command, without what is not known of a build.
fn plain(server: &types::Version) -> String {
    let mut text = String::new();
    let mut row = |depth: usize, title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{}{title}:\t{value}", " ".repeat(depth));
        }
    };
    row(1, "Version", env!("CARGO_PKG_VERSION"));
    row(1, "API version", &server.api_version);
    row(1, "OS/Arch", &format!("{}/{}", std::env::consts::OS, server.arch));
    row(1, "Context", "default");
    let client = std::mem::take(&mut text);
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
