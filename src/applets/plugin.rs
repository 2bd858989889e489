//! Plugins of Docker's command line, for who calls us `docker`: `docker compose` is the program `docker-compose` in one
//! of a few directories.

use super::{Context, contexts};
use anyhow::{Context as _, Error, Result, bail};
use serde::Deserialize;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Docker looks after the user's own directory, in this order.
const DIRS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
/// The word to which a plugin answers with what it is.
const METADATA: &str = "docker-cli-plugin-metadata";

/// The plugin of that name.
pub fn find(name: &str) -> Result<Option<PathBuf>> {
    // As in Docker, no name leads out of the directory.
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return Ok(None);
    }
    let own = contexts::config_dir().map(|dir| dir.join("cli-plugins"));
    for dir in own.into_iter().chain(extra_dirs()?).chain(DIRS.map(PathBuf::from)) {
        let path = dir.join(format!("docker-{name}"));
        if path.is_file() {
            check(&path).with_context(|| format!("plugin {}", path.display()))?;
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn extra_dirs() -> Result<Vec<PathBuf>> {
    #[derive(Default, Deserialize)]
    struct Config {
        #[serde(rename = "cliPluginsExtraDirs", default)]
        dirs: Vec<PathBuf>,
    }
    let Some(path) = contexts::config_dir().map(|dir| dir.join("config.json")) else { return Ok(vec![]) };
    let Ok(bytes) = std::fs::read(&path) else { return Ok(vec![]) };
    let config: Config = serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
    Ok(config.dirs)
}

/// Asks the program whether it is a plugin.
fn check(path: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "SchemaVersion", default)]
        schema: String,
        #[serde(rename = "Vendor", default)]
        vendor: String,
    }
    let output = Command::new(path).arg(METADATA).stdin(Stdio::null()).output().context("run it")?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("read its metadata")?;
    if metadata.schema != "0.1.0" {
        bail!("plugin SchemaVersion {:?} is not valid, must be 0.1.0", metadata.schema);
    }
    if metadata.vendor.is_empty() {
        bail!("plugin metadata does not define a vendor");
    }
    Ok(())
}

/// Becomes the plugin, which gets the line as it was given, flags before its name included; gives only the error.
pub fn execute(path: &Path, args: &[String]) -> Error {
    let called = std::env::args().next().unwrap_or_else(|| "docker".to_owned());
    // What it runs when it needs docker itself.
    let error = Command::new(path).args(args).env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", called).exec();
    Error::new(error).context(format!("run {}", path.display()))
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
