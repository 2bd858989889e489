//! `/etc/dhow/daemon.json`: Docker's key names, read by every process. An unknown key is an error; flags win.

use super::rootless;
use crate::api::types::Ulimit;
use crate::oci::registry;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The setting `publish-default`, in the environment.
const PUBLISH_DEFAULT: &str = "DHOW_PUBLISH_DEFAULT";

const COOPERATE: &str = "DHOW_FIREWALL_COOPERATE";

pub const DEFAULT_PATH: &str = "/etc/dhow/daemon.json";

/// The settings, with Docker's defaults.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    pub data_root: Option<PathBuf>,
    pub exec_root: Option<PathBuf>,
    pub debug: bool,
    pub registry_mirrors: Vec<String>,
    /// Hosts, with or without a port, and CIDRs.
    pub insecure_registries: Vec<String>,
    pub max_concurrent_downloads: usize,
    pub max_download_attempts: u32,
    pub log_driver: String,
    pub log_opts: BTreeMap<String, String>,
    /// Bytes, or with a unit: `64M`.
    pub default_shm_size: Option<Size>,
    pub default_ulimits: BTreeMap<String, NamedUlimit>,
    pub dns: Vec<String>,
    pub dns_opts: Vec<String>,
    pub dns_search: Vec<String>,
    /// Where ports are published that name no address: of containers on the default bridge, and of all.
    pub ip: Option<IpAddr>,
    pub publish_default: Option<IpAddr>,
    /// Firewalls of others are opened for published ports.
    pub firewall_cooperate: bool,
    /// Rules of ours, in whatever the kernel has; without them published ports are passed on by a program.
    pub iptables: bool,
    pub init: bool,
    pub no_new_privileges: bool,
    /// `user[:group]` whose subordinate ids containers have, or `default`; nobody where empty.
    pub userns_remap: String,
    /// Seconds that stop waits for a container that names none of its own.
    pub shutdown_timeout: i64,
    /// What only the daemon reads; it has no default here, because a flag may say it too.
    pub hosts: Vec<String>,
    pub group: Option<String>,
    pub pidfile: Option<PathBuf>,
    pub log_level: Option<String>,
    pub tls: Option<bool>,
    pub tlsverify: Option<bool>,
    pub tlscacert: Option<PathBuf>,
    pub tlscert: Option<PathBuf>,
    pub tlskey: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            data_root: None,
            exec_root: None,
            debug: false,
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            max_concurrent_downloads: 3,
            max_download_attempts: 5,
            log_driver: "json-file".to_owned(),
            log_opts: BTreeMap::new(),
            default_shm_size: None,
            default_ulimits: BTreeMap::new(),
            dns: Vec::new(),
            dns_opts: Vec::new(),
            dns_search: Vec::new(),
            ip: None,
            publish_default: None,
            firewall_cooperate: false,
            iptables: true,
            init: false,
            no_new_privileges: false,
            userns_remap: String::new(),
            shutdown_timeout: 15,
            hosts: Vec::new(),
            group: None,
            pidfile: None,
            log_level: None,
            tls: None,
            tlsverify: None,
            tlscacert: None,
            tlscert: None,
            tlskey: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Size {
    Bytes(i64),
    Text(String),
}

/// As Docker's file spells them: `{"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct NamedUlimit {
    #[serde(default)]
    pub name: String,
    pub hard: i64,
    pub soft: i64,
}

impl Settings {
    /// Reads the file that was named, or the default one, which need not exist.
    pub fn load(path: Option<&Path>) -> Result<Settings> {
        let users = if path.is_none() && rootless::is_inside() { rootless::settings_path().ok() } else { None };
        let file = path.or(users.as_deref()).unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && path.is_none() => String::new(),
            Err(error) => return Err(error).with_context(|| format!("read settings {}", file.display())),
        };
        let settings = Settings::parse(&text).with_context(|| format!("read settings {}", file.display()))?;
        settings.with(&|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
    }

    /// What the environment says wins over the file.
    fn with(mut self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Settings> {
        if let Some(text) = environment(PUBLISH_DEFAULT) {
            let address = text.parse().with_context(|| format!("{PUBLISH_DEFAULT}={text}: not an address"))?;
            self.publish_default = Some(address);
        }
        match environment(COOPERATE).as_deref() {
            None => {}
            Some("1" | "true") => self.firewall_cooperate = true,
            Some("0" | "false") => self.firewall_cooperate = false,
            Some(other) => bail!("{COOPERATE}={other}: neither true nor false"),
        }
        Ok(self)
    }

    /// Reads the text of such a file.
    pub fn parse(text: &str) -> Result<Settings> {
        if text.trim().is_empty() {
            return Ok(Settings::default());
        }
        // By way of an object: a list would be taken for the fields in order.
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text.as_bytes())?;
        let settings = Settings::deserialize(serde_json::Value::Object(object))?;
        if !matches!(settings.log_driver.as_str(), "json-file" | "none") {
            bail!("log-driver {:?} is not supported; json-file and none are", settings.log_driver);
        }
        if settings.max_concurrent_downloads == 0 {
            bail!("max-concurrent-downloads must be 1 at least");
        }
        settings.shm_size()?;
        Ok(settings)
    }

    /// Bytes of /dev/shm where a container names none.
    pub fn shm_size(&self) -> Result<i64> {
        match &self.default_shm_size {
            None => Ok(64 * 1024 * 1024),
            Some(Size::Bytes(bytes)) => Ok(*bytes),
            Some(Size::Text(text)) => {
                let size = crate::api::units::parse_binary(text).map_err(anyhow::Error::msg);
                size.with_context(|| format!("default-shm-size {text:?}"))
            }
        }
    }

    /// What pulls are made with.
    pub fn registry(&self) -> registry::Settings {
        registry::Settings {
            mirrors: self.registry_mirrors.clone(),
            insecure_registries: self.insecure_registries.clone(),
            max_concurrent_downloads: self.max_concurrent_downloads,
            attempts: self.max_download_attempts,
            ..registry::Settings::default()
        }
    }

    pub fn ulimits(&self) -> Vec<Ulimit> {
        let ulimit =
            |(name, limit): (&String, &NamedUlimit)| Ulimit { name: name.clone(), hard: limit.hard, soft: limit.soft };
        self.default_ulimits.iter().map(ulimit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_keys_are_read_and_unknown_ones_refused() {
        let text = r#"{"data-root": "/d", "registry-mirrors": ["http://127.0.0.1:5000"], "default-shm-size": "1M",
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 10, "Soft": 5}}}"#;
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.data_root, Some(PathBuf::from("/d")));
        assert_eq!(settings.shm_size().unwrap(), 1 << 20);
        assert_eq!(settings.ulimits(), [Ulimit { name: "nofile".into(), hard: 10, soft: 5 }]);
        for bad in [r#"{"no-such-key": 1}"#, r#"{"log-driver": "syslog"}"#, "[]", "{", r#"{"debug": "yes"}"#] {
            assert!(Settings::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = || Settings::parse(r#"{"publish-default": "10.0.0.1", "ip": "127.0.0.1"}"#).unwrap();
        let with =
            |value: Option<&str>| file().with(&|name| value.filter(|_| name == PUBLISH_DEFAULT).map(str::to_owned));
        assert_eq!(with(None).unwrap(), file());
        assert_eq!(with(Some("127.0.0.2")).unwrap().publish_default, Some(IpAddr::from([127, 0, 0, 2])));
        assert!(with(Some("here")).is_err());
    }
}
