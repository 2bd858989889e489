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

fn plain(server: &types::Version) -> String {
    let mut text = format!("Version:\t{}\n", server.version);
    let _ = writeln!(text, "API version:\t{} (minimum version {})", server.api_version, server.min_api_version);
    for (title, value) in [("Git commit", &server.git_commit), ("Built", &server.build_time)] {
        if !value.is_empty() {
            let _ = writeln!(text, "{title}:\t{value}");
        }
    }
    let _ = writeln!(text, "OS/Arch:\t{}/{}", server.os, server.arch);
    let _ = writeln!(text, "Kernel:\t{}", server.kernel_version);
    table::align_from(&text, 18)
}
