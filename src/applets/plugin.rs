//! Plugins of Docker's command line, for who calls us `docker`: `docker compose` is the program `docker-compose` in one
//! of a few directories.

use super::forward::Forwarded;
use super::{Context, contexts, habits, hooks, terminal};
use crate::api::errno;
use crate::json;
use crate::json::fields::fields;
use crate::order::Map;
use crate::{order, sys};
use anyhow::{Context as _, Error, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::fs;
use std::os::fd::AsFd;
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

fields! {
    /// What a plugin says of itself. What it does not say is empty, for templates know no other way to ask.
    #[derive(Default)]
    #[serde(rename_all = "PascalCase")]
    pub struct Metadata {
        pub schema_version: String,
        pub vendor: String,
        pub version: String,
        pub short_description: String,
        #[serde(rename = "URL")]
        pub url: String,
    }
}

/// The plugin of that name. One that is broken is none.
pub fn find(name: &str) -> Result<Option<PathBuf>> {
    Ok(candidate(name)?.filter(|path| examine(name, path).1.is_none()))
}

/// The program that is the plugin of that name, or would be.
pub fn candidate(name: &str) -> Result<Option<PathBuf>> {
    if !is_name(name) {
        return Ok(None);
    }
    Ok(dirs()?.into_iter().map(|dir| dir.join(format!("docker-{name}"))).find(|path| path.exists()))
}

/// All that could be plugins, by name; the first directory's holds.
pub fn all() -> Result<Vec<Plugin>> {
    let mut found: Map<String, Vec<PathBuf>> = Map::new();
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
pub fn examine(name: &str, path: &Path) -> (Metadata, Option<String>) {
    let metadata = match ask(name, path) {
        Ok(metadata) => metadata,
        Err(error) => return (Metadata::default(), Some(errno::spelt(&format!("{error:#}")).into_owned())),
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
    json::from_slice(&output.stdout).context("invalid metadata")
}

/// Runs the plugin, which gets the line as it was given, flags before its name included, and gives its exit code. It takes
/// our place, so that signals are its own, without a socket to hear of them; but where it has hooks we wait for it.
pub fn run(context: &Context, path: &Path, name: &str, forwarded: Forwarded, args: &[String], at: usize) -> Result<u8> {
    let command_path = forwarded.called.unwrap_or_else(|| format!("docker {name}"));
    let said = std::env::var(ATTRIBUTES).unwrap_or_default();
    let path_of_it = format!("docker.cli.cobra.command_path={}", command_path.replace(' ', "%20"));
    let attributes = [said.trim(), &path_of_it].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(",");
    let mut command = command(path);
    command.args(args).env(ATTRIBUTES, attributes).envs(forwarded.environment);
    if !hooks::wanted(&args[at..]) {
        return Err(Error::new(command.exec()).context(format!("run {}", path.display())));
    }
    // The terminal tells the plugin of Ctrl-C itself. Whoever ends us means it.
    let mut signals = terminal::endings()?;
    let mut child = command.spawn().with_context(|| format!("run {}", path.display()))?;
    let ended = sys::process::pidfd_open(child.id() as i32).context("watch the plugin")?;
    let mut called_off = false;
    let status = loop {
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the plugin"),
        }
        while let Some(signal) = signals.next() {
            called_off |= matches!(signal, libc::SIGINT | libc::SIGTERM);
            if matches!(signal, libc::SIGTERM | libc::SIGHUP) {
                let _ = sys::signals::send(child.id() as i32, signal);
            }
        }
        if let Some(status) = child.try_wait().context("wait for the plugin")? {
            break status;
        }
    };
    let code = status.code().unwrap_or(1) as u8;
    if !called_off {
        hooks::after_plugin(context, &args[at..], code);
    }
    Ok(code)
}

/// The program, which is told what to run when it needs docker itself.
pub fn command(path: &Path) -> Command {
    let called = std::env::args().next().unwrap_or_else(|| "docker".to_owned());
    let mut command = Command::new(path);
    command.env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", called);
    command
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
