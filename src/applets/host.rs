//! Whom a command asks: the engine in this process, or a daemon, and which.

use crate::api::client::Place;
use crate::api::http::Remote;
use crate::api::http::address::Address;
use crate::api::version::ApiVersion;
use anyhow::{Context, Result, anyhow, bail};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What the flags before the command say of it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub host: Option<String>,
    /// The name of a context of Docker's client.
    pub context: Option<String>,
    /// Called as docker: a daemon is asked in any case.
    pub always: bool,
}

/// Where Docker's daemon listens.
const DOCKERS: &str = "/run/docker.sock";

/// The daemon that is meant; `None` for the engine in this process.
pub fn choose(wish: &Wish, place: &Place) -> Result<Option<Remote>> {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let version = match said("DOCKER_API_VERSION") {
        Some(text) => Some(
            ApiVersion::parse(text.trim_start_matches('v'))
                .with_context(|| format!("DOCKER_API_VERSION: invalid API version {text:?}"))?,
        ),
        None => None,
    };
    let named = match (&wish.host, &wish.context) {
        (Some(_), Some(_)) => bail!("conflicting options: cannot specify both --host and --context"),
        (Some(host), None) => Some(host.clone()),
        (None, Some(context)) if context != "default" => {
            bail!("context {context:?}: contexts come with a later release")
        }
        (None, _) => said("DOCKER_HOST"),
    };
    if let Some(host) = named {
        let address = Address::parse(&host, false)?;
        if let Address::Inherited(_) = address {
            bail!("invalid host {host:?}: only a daemon can use it");
        }
        return Ok(Some(Remote::new(address, version)));
    }
    let socket = sockets(place).into_iter().find(|path| is_socket(path));
    let remote = |path: PathBuf| Remote::new(Address::Unix(path), version);
    if wish.always {
        return Ok(Some(remote(socket.unwrap_or_else(|| PathBuf::from(DOCKERS)))));
    }
    if may_write(place) {
        return Ok(None);
    }
    Ok(socket.map(remote))
}

/// The sockets of daemons on this machine; that of the place first.
fn sockets(place: &Place) -> Vec<PathBuf> {
    let own = place.run.as_deref().unwrap_or(Path::new("/run/dhow")).join("dhow.sock");
    let dockers = PathBuf::from(DOCKERS);
    if place.run.is_some() { vec![own, dockers] } else { vec![dockers, own] }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether we may work on the store ourselves. One that cannot be written is a daemon's.
fn may_write(place: &Place) -> bool {
    let root = place.root.as_deref().unwrap_or(Path::new("/var/lib/dhow"));
    let writable = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    nix::unistd::geteuid().is_root() || writable(root)
}

/// A flag that may stand once.
pub fn once(slot: &mut Option<String>, name: &str, value: String) -> Result<()> {
    match slot.replace(value) {
        Some(before) if slot.as_ref() != Some(&before) => Err(anyhow!("{name} was given twice")),
        _ => Ok(()),
    }
}
