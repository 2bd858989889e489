//! Plugins of Docker's command line, for who calls us `docker`: `docker compose` is the program `docker-compose` in one
//! of a few directories.

use super::{Context, contexts, habits};
use crate::order;
use anyhow::{Context as _, Error, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Docker looks last, in this order.
const DIRS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
/// The word to which a plugin answers with what it is.
const METADATA: &str = "docker-cli-plugin-metadata";
/// Where a plugin's telemetry finds what it was called as.
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// The only command that may be another's by config.json, and what docker says of others.
const ALIASED: &str = "builder";
const ALLOWED: &str = "map[string]struct {}{\"builder\":struct {}{}}";

/// A program that would be a plugin, as `docker info` tells it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Plugin {
    #[serde(flatten)]
    pub metadata: Metadata,
    pub name: String,
    pub path: PathBuf,
    /// Why it is none.
    #[serde(rename = "Err", skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Others of that name, further back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadowed_paths: Vec<PathBuf>,
}

/// What a plugin says of itself. What it does not say is empty, for templates know no other way to ask.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    pub schema_version: String,
    pub vendor: String,
    pub version: String,
    pub short_description: String,
    #[serde(rename = "URL")]
    pub url: String,
}

/// The plugin of that name. One that is broken is none.
pub fn find(name: &str) -> Result<Option<PathBuf>> {
    if !is_name(name) {
        return Ok(None);
    }
    let place = dirs()?.into_iter().map(|dir| dir.join(format!("docker-{name}"))).find(|path| path.exists());
    Ok(place.filter(|path| examine(name, path).1.is_none()))
}

/// All that could be plugins, by name; the first directory's holds.
pub fn all() -> Result<Vec<Plugin>> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for dir in dirs()? {
        // One that is not there, or not for us, has none.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_symlink());
            if let Some(name) = name.strip_prefix("docker-").filter(|_| kind) {
                found.entry(name.to_owned()).or_default().push(entry.path());
            }
        }
    }
    let mut plugins = Vec::new();
    for (name, paths) in found {
        let Some((path, shadowed)) = paths.split_first() else { continue };
        let (metadata, error) = examine(&name, path);
        plugins.push(Plugin { metadata, name, path: path.clone(), error, shadowed_paths: shadowed.to_vec() });
    }
    order::by_key(&mut plugins, |plugin| plugin.name.clone());
    Ok(plugins)
}

fn dirs() -> Result<Vec<PathBuf>> {
    let own = contexts::config_dir().map(|dir| dir.join("cli-plugins"));
    let extra = habits::read()?.cli_plugins_extra_dirs;
    Ok(extra.into_iter().chain(own).chain(DIRS.map(PathBuf::from)).collect())
}

/// As in Docker: no name leads out of the directory.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Asks the program whether it is a plugin: what it says of itself, and why it is none.
fn examine(name: &str, path: &Path) -> (Metadata, Option<String>) {
    let metadata = match ask(name, path) {
        Ok(metadata) => metadata,
        Err(error) => return (Metadata::default(), Some(format!("{error:#}"))),
    };
    let wrong = match &metadata {
        Metadata { schema_version, .. } if schema_version != "0.1.0" => {
            format!("plugin SchemaVersion {schema_version:?} is not valid, must be 0.1.0")
        }
        Metadata { vendor, .. } if vendor.is_empty() => "plugin metadata does not define a vendor".to_owned(),
        _ => return (metadata, None),
    };
    (metadata, Some(wrong))
}

fn ask(name: &str, path: &Path) -> Result<Metadata> {
    if !is_name(name) {
        bail!("plugin candidate {name:?} did not match \"^[a-z][a-z0-9]*$\"");
    }
    if super::is_known(name) {
        bail!("plugin {name:?} duplicates builtin command");
    }
    let output = Command::new(path).arg(METADATA).stdin(Stdio::null()).output().context("failed to fetch metadata")?;
    if !output.status.success() {
        bail!("failed to fetch metadata: {}", output.status.to_string().replace(':', ""));
    }
    serde_json::from_slice(&output.stdout).context("invalid metadata")
}

/// Puts in a command's place the one that config.json has for it.
pub fn substitute(args: &mut [String], at: usize) -> Result<()> {
    let aliases = habits::read()?.aliases;
    for (word, meant) in &aliases {
        if word != ALIASED {
            bail!("not allowed to alias {word:?} (allowed: {ALLOWED})");
        }
        if super::is_known(meant.split(' ').next().unwrap_or_default()) {
            bail!("not allowed to alias with builtin {meant:?} as target");
        }
    }
    if let (Some(word), Some(meant)) = (args.get_mut(at).filter(|word| *word == ALIASED), aliases.get(ALIASED)) {
        word.clone_from(meant);
    }
    Ok(())
}

/// Becomes the plugin, which gets the line as it was given, flags before its name included; gives only the error. Signals
/// are its own then, so that it needs no socket to hear of them.
pub fn execute(path: &Path, name: &str, args: &[String]) -> Error {
    let called = std::env::args().next().unwrap_or_else(|| "docker".to_owned());
    let said = std::env::var(ATTRIBUTES).unwrap_or_default();
    let path_of_it = format!("docker.cli.cobra.command_path=docker%20{name}");
    let attributes = [said.trim(), &path_of_it].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(",");
    let mut command = Command::new(path);
    // What it runs when it needs docker itself.
    command.args(args).env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", called).env(ATTRIBUTES, attributes);
    Error::new(command.exec()).context(format!("run {}", path.display()))
}

/// Begins anew with another configuration directory, as all that reads it finds it in the environment; gives only the
/// error.
pub fn again(dir: &str, rest: &[String], context: &Context) -> Error {
    let wish = &context.wish;
    let mut words: Vec<String> = Vec::new();
    for (flag, value) in [("--host", &wish.host), ("--context", &wish.context)] {
        words.extend(value.iter().map(|value| format!("{flag}={value}")));
    }
    let files = [("--tlscacert", &wish.files.ca), ("--tlscert", &wish.files.cert), ("--tlskey", &wish.files.key)];
    for (flag, path) in files {
        words.extend(path.iter().map(|path| format!("{flag}={}", path.display())));
    }
    words.extend(wish.tls.then(|| "--tls".to_owned()));
    words.extend(wish.verify.map(|on| format!("--tlsverify={on}")));
    words.extend(context.place.debug.then(|| "--debug".to_owned()));
    let error = Command::new("/proc/self/exe").arg0("docker").args(words).args(rest).env("DOCKER_CONFIG", dir).exec();
    Error::new(error).context("begin anew")
}
