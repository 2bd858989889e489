//! Secrets and agents, which a command of the build may have for as long as it runs.

use crate::api::base64;
use crate::build::keys::Keyring;
use crate::order::Map;
use anyhow::{Context as _, Result, anyhow, bail};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

/// The largest secret.
const SECRET: usize = 500 << 10;

/// The value of the header with the secrets; nothing where there are none.
pub fn secrets(flags: &[String]) -> Result<Option<String>> {
    let mut secrets = serde_json::Map::new();
    for secret in flags {
        let (mut id, mut file, mut variable, mut of_env) = (String::new(), None, None, false);
        for field in crate::build::dockerfile::mount::fields(secret).map_err(|error| anyhow!("--secret: {error}"))? {
            match field.split_once('=') {
                Some(("id", value)) => id = value.to_owned(),
                Some(("src" | "source", value)) => file = Some(value.to_owned()),
                Some(("env", value)) => variable = Some(value.to_owned()),
                Some(("type", kind @ ("file" | "env"))) => of_env = kind == "env",
                Some(("type", kind)) => bail!("unsupported secret type {kind:?}"),
                _ => bail!("invalid argument {field:?} for --secret: id=name[,src=file|,env=variable]"),
            }
        }
        if id.is_empty() {
            bail!("--secret needs an id");
        }
        // Of a secret that is a variable the source is that.
        if of_env && variable.is_none() {
            variable = file.take();
        }
        let value = match (file, variable.filter(|name| !name.is_empty())) {
            (Some(file), None) => std::fs::read(&file).with_context(|| format!("read the secret {id} from {file}"))?,
            // As Docker: one that is not set is an empty secret.
            (_, Some(name)) => std::env::var_os(&name).unwrap_or_default().into_vec(),
            // A variable of that name, or else a file.
            (None, None) => match std::env::var_os(&id) {
                Some(value) => value.into_vec(),
                None => std::fs::read(&id).with_context(|| format!("read the secret {id}"))?,
            },
        };
        if value.len() > SECRET {
            bail!("the secret {id} is larger than {SECRET} bytes");
        }
        secrets.insert(id, base64::encode(&value).into());
    }
    let text = serde_json::Value::Object(secrets).to_string();
    Ok((!flags.is_empty()).then(|| base64::encode(text.as_bytes())))
}

/// The sockets of agents, by id, and those of them that are made here for as long as they are held.
pub type Agents = (Map<String, PathBuf>, Vec<Keyring>);

/// What `--ssh` says: the socket of an agent, or key files.
pub fn agents(flags: &[String], environment: Option<String>, local: bool) -> Result<Agents> {
    let (mut agents, mut rings) = (Map::new(), Vec::new());
    for flag in flags {
        if !local {
            bail!("--ssh {flag}: Docker's classic API has no way for an agent: build without a daemon, by dhow build");
        }
        let (id, paths) = flag.split_once('=').unwrap_or((flag, ""));
        let socket = match (paths, &environment) {
            ("", Some(socket)) if !socket.is_empty() => PathBuf::from(socket),
            ("", _) => bail!("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"),
            (paths, _) => PathBuf::from(paths),
        };
        let is_socket = std::fs::metadata(&socket).is_ok_and(|it| it.file_type().is_socket());
        let socket = if is_socket {
            socket
        } else {
            let files = socket.to_str().context("--ssh: a path that is not UTF-8")?;
            let ring = Keyring::start(&files.split(',').collect::<Vec<_>>()).with_context(|| format!("--ssh {id}"))?;
            let socket = ring.socket();
            rings.push(ring);
            socket
        };
        let socket = std::path::absolute(&socket).with_context(|| format!("look for {}", socket.display()))?;
        if agents.insert(id.to_owned(), socket).is_some() {
            bail!("invalid duplicate ID {id} for --ssh");
        }
    }
    Ok((agents, rings))
}
