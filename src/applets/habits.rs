//! What Docker's `config.json` says of how its commands look: formats of lists, keys, headers, words.

use super::contexts;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The keys of it that are read here; others read theirs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Habits {
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    pub ps_format: String,
    pub images_format: String,
    pub networks_format: String,
    pub volumes_format: String,
    pub stats_format: String,
    pub plugins_format: String,
    pub detach_keys: String,
    pub current_context: String,
    pub cli_plugins_extra_dirs: Vec<PathBuf>,
    pub aliases: BTreeMap<String, String>,
}

/// Reads the file; one that is not there says nothing.
pub fn read() -> Result<Habits> {
    let Some(path) = contexts::config_dir().map(|dir| dir.join("config.json")) else { return Ok(Habits::default()) };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // As good as none: whoever cannot read it has said nothing in it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Ok(Habits::default());
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    // Empty is as good as none, as with Docker.
    if bytes.trim_ascii().is_empty() {
        return Ok(Habits::default());
    }
    serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))
}

/// The flag where it was given, else what is kept.
pub fn or_kept(flag: Option<String>, kept: impl FnOnce(Habits) -> String) -> Result<String> {
    match flag {
        Some(said) if !said.is_empty() => Ok(said),
        _ => Ok(kept(read()?)),
    }
}
