//! Docker's contexts: daemons that have a name, kept in the client's configuration directory.
//!
//! ```text
//! <config>/contexts/meta/<sha256 of the name>/meta.json
//! <config>/contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem
//! ```

use crate::api::http::tls::Files;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The one that is always there: what the environment says, or this machine.
pub const DEFAULT: &str = "default";

/// Where a context's daemon is.
#[derive(Debug, PartialEq)]
pub struct Endpoint {
    pub host: String,
    /// The daemon's certificate is taken as it is.
    pub skip_verify: bool,
    pub files: Files,
}

/// Docker's client's directory.
pub fn config_dir() -> Option<PathBuf> {
    let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    said("DOCKER_CONFIG").or_else(|| Some(said("HOME")?.join(".docker")))
}

/// The context that `docker context use` chose.
pub fn current() -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "currentContext", default)]
        current: String,
    }
    let Some(path) = config_dir().map(|dir| dir.join("config.json")) else { return Ok(None) };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // As good as none: whoever cannot read it has not chosen by it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let config: Config = serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
    Ok(Some(config.current).filter(|name| !name.is_empty() && name != DEFAULT))
}

/// Where the daemon of that name is.
pub fn find(name: &str) -> Result<Endpoint> {
    let dir = config_dir().context("neither DOCKER_CONFIG nor HOME is set")?;
    read(&dir.join("contexts"), name)
}

fn read(dir: &Path, name: &str) -> Result<Endpoint> {
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "Endpoints", default)]
        endpoints: std::collections::BTreeMap<String, Docker>,
    }
    #[derive(Deserialize)]
    struct Docker {
        #[serde(rename = "Host", default)]
        host: String,
        #[serde(rename = "SkipTLSVerify", default)]
        skip_verify: bool,
    }
    let id: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join("meta").join(&id).join("meta.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("context {name:?}: context not found: there is no {}", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("read context {name:?}")),
    };
    let mut meta: Meta =
        serde_json::from_slice(&bytes).with_context(|| format!("read context {name:?} in {}", path.display()))?;
    let Some(docker) = meta.endpoints.remove("docker").filter(|docker| !docker.host.is_empty()) else {
        bail!("context {name:?} has no docker endpoint");
    };
    let tls = dir.join("tls").join(&id).join("docker");
    let file = |name: &str| Some(tls.join(name)).filter(|path| path.exists());
    let files = Files { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") };
    Ok(Endpoint { host: docker.host, skip_verify: docker.skip_verify, files })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_context_as_docker_writes_it() {
        let dir = std::env::temp_dir().join(format!("dhow-contexts-{}", std::process::id()));
        // echo -n far | sha256sum
        let id: String = Sha256::digest("far").iter().map(|byte| format!("{byte:02x}")).collect();
        fs::create_dir_all(dir.join("meta").join(&id)).unwrap();
        fs::create_dir_all(dir.join("tls").join(&id).join("docker")).unwrap();
        let meta = r#"{"Name":"far","Metadata":{"Description":"x"},
            "Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}"#;
        fs::write(dir.join("meta").join(&id).join("meta.json"), meta).unwrap();
        let ca = dir.join("tls").join(&id).join("docker/ca.pem");
        fs::write(&ca, "").unwrap();
        let files = Files { ca: Some(ca), ..Files::default() };
        assert_eq!(read(&dir, "far").unwrap(), Endpoint { host: "tcp://far:2376".into(), skip_verify: true, files });
        assert!(read(&dir, "near").unwrap_err().to_string().contains("context not found"));
        fs::write(dir.join("meta").join(&id).join("meta.json"), r#"{"Endpoints":{}}"#).unwrap();
        assert!(read(&dir, "far").unwrap_err().to_string().contains("no docker endpoint"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
