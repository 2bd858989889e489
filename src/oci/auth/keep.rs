//! Keeping credentials, and forgetting them: in Docker's configuration file, or with the helper that it names.

use super::{HUB_KEY, TOKEN_USER, base64, config_path, host_of, run_helper};
use crate::json;
use crate::order;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The key under which Docker files the credentials of a server, as a user names it: Docker Hub's is a URL.
pub fn key(server: &str) -> &str {
    match host_of(server) {
        "" | "docker.io" | "index.docker.io" => HUB_KEY,
        host => host,
    }
}

/// Keeps a name and a password, or an identity token in the password's place. Gives the file if that is where a password
/// is now that was not there, for everyone to read who may read it.
pub fn store(key: &str, username: &str, password: &str, identity_token: &str) -> Result<Option<PathBuf>> {
    let (path, mut config) = read()?;
    let helper = helper(&config, key);
    let auths = auths(&mut config)?;
    if !helper.is_empty() {
        let (username, secret) = match identity_token {
            "" => (username, password),
            token => (TOKEN_USER, token),
        };
        let secret = json!({ "ServerURL": key, "Username": username, "Secret": secret });
        run_helper(&helper, "store", secret.to_string().as_bytes(), key)?;
        // As Docker notes that there is something.
        auths.insert(key.to_owned(), json!({}));
        write(&path, &config)?;
        return Ok(None);
    }
    let password = if identity_token.is_empty() { password } else { "" };
    let mut entry = json!({ "auth": base64(format!("{username}:{password}").as_bytes()) });
    if !identity_token.is_empty() {
        entry["identitytoken"] = json!(identity_token);
    }
    if auths.insert(key.to_owned(), entry.clone()) == Some(entry) {
        return Ok(None);
    }
    write(&path, &config)?;
    Ok((!password.is_empty()).then_some(path))
}

/// Forgets all that is kept of a server, under its key and as the user names it. A helper that has it under one of the
/// forms that it may have is enough; otherwise the errors, a line each.
pub fn erase(server: &str, key: &str) -> Result<()> {
    let (path, mut config) = read()?;
    let mut forms = vec![key.to_owned()];
    if key != HUB_KEY {
        forms.extend([server.to_owned(), format!("http://{key}"), format!("https://{key}")]);
        order::sort(&mut forms);
        forms.dedup();
    }
    let erased = |form: &String| match helper(&config, form).as_str() {
        "" => Ok(None),
        helper => run_helper(helper, "erase", form.as_bytes(), form),
    };
    let failed: Vec<String> =
        forms.iter().filter_map(|form| erased(form).err().map(|error| format!("{form}: {error:#}"))).collect();
    let auths = auths(&mut config)?;
    let before = auths.len();
    auths.retain(|other, _| other != key && (key == HUB_KEY || host_of(other) != key));
    if auths.len() != before {
        write(&path, &config)?;
    }
    if failed.len() == forms.len() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Where the configuration is, and all that is in it, what is not ours too.
pub fn read() -> Result<(PathBuf, Map<String, Value>)> {
    let path = config_path().context("there is no home directory to keep credentials in: set HOME or DOCKER_CONFIG")?;
    let config = match fs::read(&path) {
        Ok(text) if text.trim_ascii().is_empty() => Map::new(),
        Ok(text) => json::from_slice(&text).with_context(|| format!("read {}", path.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    Ok((path, config))
}

/// How a key is written in this configuration: Go, and so Docker, takes it in whatever case.
pub fn spelt(config: &Map<String, Value>, key: &str) -> String {
    let is = |known: &&String| known.eq_ignore_ascii_case(key);
    match config.contains_key(key) {
        true => key.to_owned(),
        false => config.keys().find(is).cloned().unwrap_or_else(|| key.to_owned()),
    }
}

fn helper(config: &Map<String, Value>, key: &str) -> String {
    let of = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = of(config.get(&spelt(config, "credHelpers")).and_then(|helpers| helpers.get(key)));
    if own.is_empty() { of(config.get(&spelt(config, "credsStore"))) } else { own }
}

pub fn auths(config: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    let auths = config.entry(spelt(config, "auths")).or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    match auths.as_object_mut() {
        Some(auths) => Ok(auths),
        None => bail!("the docker config's auths are no object"),
    }
}

/// Whole or not at all, readable for its owner alone; where it is a link, what it leads to.
pub fn write(path: &Path, config: &Map<String, Value>) -> Result<()> {
    // Also where nothing is there yet.
    let aim = |_| fs::read_link(path).map(|to| path.parent().unwrap_or(path).join(to));
    let path = fs::canonicalize(path).or_else(aim).unwrap_or_else(|_| path.to_owned());
    let doing = || format!("write {}", path.display());
    let dir = path.parent().with_context(doing)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| format!("make {}", dir.display()))?;
    let mut bytes = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, tabs);
    serde::Serialize::serialize(config, &mut serializer).with_context(doing)?;
    let temporary = dir.join(format!(".config.json.{}", std::process::id()));
    let put = || -> std::io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    put().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        anyhow::Error::new(error).context(doing())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_file() {
        let dir = std::env::temp_dir().join(format!("dhow-keep-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("config.json");
        std::os::unix::fs::symlink("kept/config.json", &path).unwrap();
        // The second time it is there.
        for value in ["a", "b"] {
            let config = Map::from_iter([("key".to_owned(), json!(value))]);
            write(&path, &config).unwrap();
            let text = fs::read_to_string(dir.join("kept/config.json")).unwrap();
            assert_eq!((text.contains(value), fs::read_link(&path).is_ok()), (true, true), "{text}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn servers_are_filed_under_their_host() {
        for (server, expected) in [
            ("", HUB_KEY),
            ("docker.io", HUB_KEY),
            ("https://index.docker.io/v1/", HUB_KEY),
            ("localhost:5000", "localhost:5000"),
            ("https://r.example/v1/", "r.example"),
            ("http://r.example:80", "r.example:80"),
        ] {
            assert_eq!(key(server), expected, "{server}");
        }
    }
}
