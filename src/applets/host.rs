//! Whom a command asks: the engine in this process, or a daemon, and which.

use super::{contexts, face, habits};
use crate::api::client::Place;
use crate::api::http::Remote;
use crate::api::http::address::Address;
use crate::api::http::tls::{self, Files};
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
    /// TLS, and whether the daemon's certificate is checked; `None` where nothing was said.
    pub tls: bool,
    pub verify: Option<bool>,
    pub files: Files,
}

/// Where Docker's daemon listens.
const DOCKERS: &str = "/run/docker.sock";

/// The daemon that is meant, by its context; `None` for the engine in this process.
pub fn choose(wish: &Wish, name: &str, place: &Place) -> Result<Option<Remote>> {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let version = match said("DOCKER_API_VERSION") {
        Some(text) => Some(
            ApiVersion::parse(text.trim_start_matches('v'))
                .with_context(|| format!("DOCKER_API_VERSION: invalid API version {text:?}"))?,
        ),
        None => None,
    };
    if name != contexts::DEFAULT {
        let endpoint = contexts::find(name)?;
        let secret = endpoint.skip_verify || endpoint.files != Files::default();
        let tls = secret.then(|| tls::Client::new(&endpoint.files, !endpoint.skip_verify)).transpose();
        return daemon(&endpoint.host, tls.with_context(|| format!("context {name:?}"))?, version).map(Some);
    }
    if let Some(host) = wish.host.clone().or_else(|| said("DOCKER_HOST")) {
        return daemon(&host, tls_of(wish)?, version).map(Some);
    }
    let socket = sockets(place).into_iter().find(|path| is_socket(path));
    let headers = habits::headers()?;
    let remote = |path: PathBuf| Remote::new(Address::Unix(path), None, version).with_headers(headers);
    if wish.always {
        // In docker's words.
        let missing = if face::is_docker() { "/var/run/docker.sock" } else { DOCKERS };
        return Ok(Some(remote(socket.unwrap_or_else(|| PathBuf::from(missing)))));
    }
    if may_write(place) {
        return Ok(None);
    }
    // Who reaches neither root's store nor his daemon has a store of his own.
    Ok(socket.map(remote))
}

/// The name of the context that is meant; `default` where a host is named otherwise, or none at all.
pub fn context_name(wish: &Wish) -> Result<String> {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let default = || contexts::DEFAULT.to_owned();
    Ok(match (&wish.host, &wish.context) {
        (Some(_), Some(_)) => bail!("conflicting options: cannot specify both --host and --context"),
        (Some(_), None) => default(),
        (None, Some(context)) => context.clone(),
        (None, None) if said("DOCKER_HOST").is_some() => default(),
        (None, None) => match said("DOCKER_CONTEXT") {
            Some(name) => name,
            None => contexts::current()?.unwrap_or_else(default),
        },
    })
}

/// The default context as others would have it, who cannot be the engine themselves: an address, whether the daemon's
/// certificate is taken as it is, and the files of TLS.
pub fn default_endpoint(wish: &Wish, place: &Place) -> contexts::Endpoint {
    let said = std::env::var("DOCKER_HOST").ok().filter(|text| !text.is_empty());
    let usual = || match sockets(place).into_iter().find(|path| is_socket(path)) {
        Some(path) if path != Path::new(DOCKERS) => format!("unix://{}", path.display()),
        // In the words of docker, whose place /run/docker.sock is too.
        _ => "unix:///var/run/docker.sock".to_owned(),
    };
    let host = wish.host.clone().or(said).unwrap_or_else(usual);
    match tls_files(wish) {
        Some((verify, files)) => contexts::Endpoint { host, skip_verify: !verify, files },
        None => contexts::Endpoint { host, skip_verify: false, files: Files::default() },
    }
}

fn daemon(host: &str, tls: Option<tls::Client>, version: Option<ApiVersion>) -> Result<Remote> {
    let address = Address::parse(host, tls.is_some())?;
    let tls = match address {
        Address::Inherited(_) => bail!("invalid host {host:?}: only a daemon can use it"),
        // A socket of this machine and ssh have no need of it.
        Address::Tcp(..) => tls,
        _ => None,
    };
    Ok(Remote::new(address, tls, version).with_headers(habits::headers()?))
}

fn tls_of(wish: &Wish) -> Result<Option<tls::Client>> {
    tls_files(wish).map(|(verify, files)| tls::Client::new(&files, verify)).transpose()
}

/// TLS as flags, DOCKER_TLS, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say; whether the daemon is to show who it is.
fn tls_files(wish: &Wish) -> Option<(bool, Files)> {
    let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let verify = wish.verify.unwrap_or_else(|| said("DOCKER_TLS_VERIFY").is_some());
    if !verify && !wish.tls && said("DOCKER_TLS").is_none() {
        return None;
    }
    let dir = said("DOCKER_CERT_PATH").map(PathBuf::from).or_else(contexts::config_dir);
    let file = |flag: &Option<PathBuf>, name: &str| {
        flag.clone().or_else(|| dir.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists()))
    };
    let files = Files {
        ca: file(&wish.files.ca, "ca.pem"),
        cert: file(&wish.files.cert, "cert.pem"),
        key: file(&wish.files.key, "key.pem"),
    };
    Some((verify, files))
}

/// The sockets of daemons on this machine; that of the place first.
fn sockets(place: &Place) -> Vec<PathBuf> {
    let own = place.run.as_deref().unwrap_or(Path::new("/run/dhow")).join("dhow.sock");
    let dockers = PathBuf::from(DOCKERS);
    let mut sockets = if place.run.is_some() { vec![own, dockers] } else { vec![dockers, own] };
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !nix::unistd::geteuid().is_root()) {
        let dir = PathBuf::from(dir);
        sockets.extend([dir.join("docker.sock"), dir.join("dhow/dhow.sock")]);
    }
    sockets
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Whether we may work on the store ourselves. One that cannot be written is a daemon's.
fn may_write(place: &Place) -> bool {
    let writable = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    let root = place.root.as_deref().unwrap_or(Path::new("/var/lib/dhow"));
    // One that is still to be made is ours where it can be made.
    let there = root.ancestors().find(|path| path.exists());
    nix::unistd::geteuid().is_root() || there.is_some_and(writable)
}

/// A flag that may stand once.
pub fn once(slot: &mut Option<String>, name: &str, value: String) -> Result<()> {
    match slot.replace(value) {
        Some(before) if slot.as_ref() != Some(&before) => Err(anyhow!("{name} was given twice")),
        _ => Ok(()),
    }
}
