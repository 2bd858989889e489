//! `/etc/dhow/daemon.json`: Docker's key names, read by every process. An unknown key is an error; flags win.

use super::rootless;
use crate::api::types::Ulimit;
use crate::json::fields::Fields;
use crate::json::fields::fields;
use crate::json::{self, Tree, by_serde};
use crate::net::Subnet;
use crate::oci::{cdi, registry};
use crate::order::Map;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The setting `publish-default`, in the environment.
const PUBLISH_DEFAULT: &str = "DHOW_PUBLISH_DEFAULT";

const COOPERATE: &str = "DHOW_FIREWALL_COOPERATE";

/// What the cache of builds may hold besides what images hold, in bytes.
const CACHE: u64 = 20 << 30;

pub const DEFAULT_PATH: &str = "/etc/dhow/daemon.json";

fields! { strict:
    /// The settings, with Docker's defaults.
    #[derive(Clone, Debug, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    pub struct Settings {
        pub data_root: Option<PathBuf>,
        pub exec_root: Option<PathBuf>,
        pub debug: bool,
        pub registry_mirrors: Vec<String>,
        /// Hosts, with or without a port, and CIDRs.
        pub insecure_registries: Vec<String>,
        pub max_concurrent_downloads: usize,
        pub max_concurrent_uploads: usize,
        pub max_download_attempts: u32,
        /// Layers that are pulled are kept as they came, too, so that a push sends the same blobs anywhere.
        pub keep_compressed_layers: bool,
        pub log_driver: String,
        pub log_opts: Map<String, String>,
        /// Bytes, or with a unit: `64M`.
        pub default_shm_size: Option<Size>,
        pub default_ulimits: Map<String, NamedUlimit>,
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
        /// IPv6 has the same table: they are turned off together.
        pub ip6tables: Option<bool>,
        /// Turn forwarding on where it is off.
        pub ip_forward: bool,
        /// Then forward for others, too.
        pub ip_forward_no_drop: bool,
        /// Serve what no rule leads to a container, as `[::1]` of one of IPv4 alone.
        pub userland_proxy: bool,
        /// The default bridge: its address with its subnet, the part that containers get, and another way out than itself.
        pub bip: Option<String>,
        pub bip6: Option<String>,
        pub fixed_cidr: Option<Subnet>,
        pub fixed_cidr_v6: Option<Subnet>,
        pub default_gateway: Option<Ipv4Addr>,
        pub default_gateway_v6: Option<Ipv6Addr>,
        pub mtu: Option<u32>,
        pub icc: bool,
        pub ip_masq: bool,
        pub ipv6: bool,
        /// A bridge that somebody else made, for containers that name no network; with `none` they have none.
        pub bridge: Option<String>,
        /// From which subnets are cut for networks that name none.
        pub default_address_pools: Vec<AddressPool>,
        /// Options of new networks, by driver.
        pub default_network_opts: Map<String, Map<String, String>>,
        /// What `host-gateway` stands for, one of each family.
        pub host_gateway_ip: Option<IpAddr>,
        pub host_gateway_ips: Vec<IpAddr>,
        /// What the cache of builds may hold.
        pub builder: Builder,
        /// Where files of the Container Device Interface are looked for, if not in the usual places; with none there are none.
        pub cdi_spec_dirs: Option<Vec<PathBuf>>,
        pub init: bool,
        pub no_new_privileges: bool,
        /// Of containers that do not say: `private` or `shareable`, and `private` or `host`.
        pub default_ipc_mode: Option<String>,
        pub default_cgroupns_mode: Option<String>,
        /// The cgroup under which those of containers stand.
        pub cgroup_parent: String,
        /// A file, `unconfined` or `builtin`.
        pub seccomp_profile: String,
        /// Through whom registries and other servers are asked.
        pub proxies: registry::Proxies,
        /// SELinux labels; where nothing is said, they are given where the host has them.
        pub selinux_enabled: Option<bool>,
        /// `user[:group]` whose subordinate ids containers have, or `default`; nobody where empty.
        pub userns_remap: String,
        /// Seconds that dockerd waits for its containers when it ends: here they go on, and it is told in events alone.
        pub shutdown_timeout: i64,
        /// What the daemon tells of itself, `key=value`.
        pub labels: Vec<String>,
        /// Keys of dockerd's file that are taken where they say what is so anyway; see [`Settings::check_fixed`].
        pub live_restore: Option<bool>,
        pub storage_driver: Option<String>,
        pub exec_opts: Vec<String>,
        pub default_runtime: Option<String>,
        pub features: Map<String, bool>,
        pub experimental: bool,
        pub log_format: Option<String>,
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
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            keep_compressed_layers: false,
            log_driver: "json-file".to_owned(),
            log_opts: Map::new(),
            default_shm_size: None,
            default_ulimits: Map::new(),
            dns: Vec::new(),
            dns_opts: Vec::new(),
            dns_search: Vec::new(),
            ip: None,
            publish_default: None,
            firewall_cooperate: false,
            iptables: true,
            ip6tables: None,
            ip_forward: true,
            ip_forward_no_drop: false,
            userland_proxy: true,
            bip: None,
            bip6: None,
            fixed_cidr: None,
            fixed_cidr_v6: None,
            default_gateway: None,
            default_gateway_v6: None,
            mtu: None,
            icc: true,
            ip_masq: true,
            ipv6: false,
            bridge: None,
            default_address_pools: Vec::new(),
            default_network_opts: Map::new(),
            host_gateway_ip: None,
            host_gateway_ips: Vec::new(),
            builder: Builder::default(),
            cdi_spec_dirs: None,
            init: false,
            no_new_privileges: false,
            default_ipc_mode: None,
            default_cgroupns_mode: None,
            cgroup_parent: String::new(),
            seccomp_profile: String::new(),
            proxies: registry::Proxies::default(),
            selinux_enabled: None,
            userns_remap: String::new(),
            shutdown_timeout: 15,
            labels: Vec::new(),
            live_restore: None,
            experimental: false,
            storage_driver: None,
            exec_opts: Vec::new(),
            default_runtime: None,
            features: Map::new(),
            log_format: None,
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

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(untagged)]
pub enum Size {
    Bytes(i64),
    Text(String),
}

fields! { strict:
    /// `{"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}`; policies of several steps are not known.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Builder {
        pub gc: Gc,
    }

    /// See [`Builder`].
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Gc {
        pub enabled: Option<bool>,
        /// Bytes, or with a unit: `20GB`.
        pub default_keep_storage: Option<Size>,
    }
}

/// `{"base": "10.10.0.0/16", "size": 24}`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AddressPool {
    pub base: Subnet,
    pub size: u8,
}

impl std::str::FromStr for AddressPool {
    type Err = String;

    /// `base=10.10.0.0/16,size=24`.
    fn from_str(text: &str) -> Result<AddressPool, String> {
        let value = |key: &str| {
            let field = text.split(',').find_map(|field| field.trim().strip_prefix(key)?.strip_prefix('='));
            field.ok_or_else(|| format!("no {key} in {text:?}"))
        };
        let size = value("size")?.parse().map_err(|_| format!("no size of a subnet in {text:?}"))?;
        Ok(AddressPool { base: value("base")?.parse()?, size })
    }
}

/// As Docker's file spells them: `{"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct NamedUlimit {
    #[serde(default)]
    pub name: String,
    pub hard: i64,
    pub soft: i64,
}

by_serde! { Size, AddressPool, NamedUlimit }

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
        let tree = json::tree(text.as_bytes())?;
        // Elsewhere names are the same in whatever case, but not here.
        if let Tree::Object(entries) = &tree {
            let keys = Settings::default().shape().fields;
            for (name, _) in entries {
                if let Some(known) = keys.iter().find(|known| known.eq_ignore_ascii_case(name))
                    && known != name
                {
                    bail!("unknown field `{name}`, which is spelled `{known}`");
                }
            }
        }
        let settings: Settings = json::from_tree(tree)?;
        settings.check()?;
        Ok(settings)
    }

    /// What could not hold is said when the settings are read.
    pub fn check(&self) -> Result<()> {
        if !matches!(self.log_driver.as_str(), "json-file" | "local" | "none") {
            bail!("log-driver {:?} is not supported; json-file, local and none are", self.log_driver);
        }
        if self.max_concurrent_downloads == 0 {
            bail!("max-concurrent-downloads must be 1 at least");
        }
        if self.max_concurrent_uploads == 0 {
            bail!("max-concurrent-uploads must be 1 at least");
        }
        if let Some(label) =
            self.labels.iter().find(|label| label.split_once('=').is_none_or(|(key, _)| key.is_empty()))
        {
            bail!("labels: {label:?} is no key=value");
        }
        self.shm_size()?;
        self.cache_size()?;
        self.check_fixed()?;
        self.check_confinement()?;
        self.check_networks()
    }

    /// Refuses what dockerd would do otherwise than we do.
    fn check_fixed(&self) -> Result<()> {
        if let Some(driver) = self.storage_driver.as_deref().filter(|driver| !matches!(*driver, "" | "overlay2")) {
            bail!("storage-driver {driver:?} is not supported: layers are overlay2's");
        }
        if let Some(option) = self.exec_opts.iter().find(|option| *option != "native.cgroupdriver=cgroupfs") {
            bail!(
                "exec-opts {option:?} is not supported: cgroups are made without a manager (native.cgroupdriver=cgroupfs)"
            );
        }
        let runtime = self.default_runtime.as_deref().unwrap_or_default();
        if !runtime.is_empty() && !super::create::RUNTIMES.contains(&runtime) {
            bail!("default-runtime {runtime:?} is not supported: containers are run by dhow itself");
        }
        if let Some((feature, _)) = self.features.iter().find(|(_, on)| **on) {
            bail!("features: {feature:?} is none of dhow's");
        }
        if self.experimental {
            bail!("experimental: there is nothing experimental to turn on");
        }
        match self.log_format.as_deref() {
            None | Some("text") => Ok(()),
            Some(other) => bail!("log-format {other:?} is not supported: the daemon tells its work as text"),
        }
    }

    fn check_confinement(&self) -> Result<()> {
        for (key, mode, known) in [
            ("default-ipc-mode", &self.default_ipc_mode, ["private", "shareable"]),
            ("default-cgroupns-mode", &self.default_cgroupns_mode, ["private", "host"]),
        ] {
            if let Some(mode) = mode.as_deref().filter(|mode| !known.contains(mode)) {
                bail!("{key} {mode:?} is neither {} nor {}", known[0], known[1]);
            }
        }
        super::create::check_parent(&self.cgroup_parent).context("cgroup-parent")?;
        self.seccomp().map(drop)
    }

    /// What `--security-opt seccomp=` would say for containers that do not.
    pub fn seccomp(&self) -> Result<Option<String>> {
        match self.seccomp_profile.as_str() {
            "" | "builtin" => Ok(None),
            "unconfined" => Ok(Some("unconfined".to_owned())),
            path => {
                let text = std::fs::read_to_string(path).with_context(|| format!("seccomp-profile {path}"))?;
                json::from_str::<serde_json::Value>(&text).with_context(|| format!("seccomp-profile {path}"))?;
                Ok(Some(text))
            }
        }
    }

    /// What could not hold is said when the settings are read, and not by the first container.
    pub fn check_networks(&self) -> Result<()> {
        if self.ip6tables.is_some_and(|on| on != self.iptables) {
            bail!("ip6tables and iptables must agree: both families have one table");
        }
        if let Some(name) = self.bridge.as_deref().filter(|name| !matches!(*name, "" | "none")) {
            if !super::networks::is_link(name) {
                bail!("bridge {name:?} is no name of a link");
            }
            if [&self.bip, &self.bip6].into_iter().flatten().any(|text| !text.is_empty()) {
                bail!("bip and bridge exclude each other: a bridge that is there has its addresses");
            }
        }
        for (key, text, four) in [("bip", &self.bip, true), ("bip6", &self.bip6, false)] {
            let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { continue };
            match address_of(text) {
                Some((address, subnet)) if address.is_ipv4() == four && subnet.is_host(address) => {}
                _ => bail!("{key} {text:?} is not the address of a bridge with its subnet, as 192.168.5.1/24"),
            }
        }
        for (key, subnet, four) in [("fixed-cidr", self.fixed_cidr, true), ("fixed-cidr-v6", self.fixed_cidr_v6, false)]
        {
            if let Some(subnet) = subnet.filter(|subnet| subnet.is_ipv4() != four) {
                bail!("{key} {subnet} is of the other family");
            }
        }
        if let (Some(range), Some((_, subnet))) = (self.fixed_cidr, self.bip.as_deref().and_then(address_of))
            && (!subnet.contains(range.first) || range.prefix < subnet.prefix)
        {
            bail!("fixed-cidr {range} does not lie in the subnet of bip, {subnet}");
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu != 0 && !(68..=65_535).contains(mtu)) {
            bail!("mtu {mtu} is none");
        }
        for AddressPool { base, size } in &self.default_address_pools {
            if *size < base.prefix || *size > if base.is_ipv4() { 30 } else { 126 } {
                bail!("default-address-pools: no subnets of the size {size} can be cut from {base}");
            }
        }
        if let Some(driver) =
            self.default_network_opts.keys().find(|it| !matches!(it.as_str(), "bridge" | "macvlan" | "ipvlan"))
        {
            bail!("default-network-opts: there is no driver {driver}");
        }
        if self.host_gateway_ip.is_some() && !self.host_gateway_ips.is_empty() {
            bail!("host-gateway-ip and host-gateway-ips say the same: give one of them");
        }
        Ok(())
    }

    /// What `host-gateway` stands for, where it is not the default bridge.
    pub fn host_gateways(&self) -> Vec<IpAddr> {
        self.host_gateway_ip.into_iter().chain(self.host_gateway_ips.iter().copied()).collect()
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

    /// Bytes that the cache of builds may hold; `None` where it is not limited.
    pub fn cache_size(&self) -> Result<Option<u64>> {
        let gc = &self.builder.gc;
        if gc.enabled == Some(false) {
            return Ok(None);
        }
        let bytes = match &gc.default_keep_storage {
            None => return Ok(Some(CACHE)),
            Some(Size::Bytes(bytes)) => *bytes,
            Some(Size::Text(text)) => {
                let size = crate::api::units::parse_binary(text).map_err(anyhow::Error::msg);
                size.with_context(|| format!("builder.gc.defaultKeepStorage {text:?}"))?
            }
        };
        match u64::try_from(bytes) {
            Ok(bytes) if bytes > 0 => Ok(Some(bytes)),
            _ => bail!("builder.gc.defaultKeepStorage must be more than 0; without a limit, say \"enabled\": false"),
        }
    }

    /// What pulls and pushes are made with.
    pub fn registry(&self) -> registry::Settings {
        registry::Settings {
            mirrors: self.registry_mirrors.clone(),
            insecure_registries: self.insecure_registries.clone(),
            max_concurrent_downloads: self.max_concurrent_downloads,
            max_concurrent_uploads: self.max_concurrent_uploads,
            attempts: self.max_download_attempts,
            keep: self.keep_compressed_layers,
            proxies: self.proxies.clone(),
            ..registry::Settings::default()
        }
    }

    /// Where files of the Container Device Interface are looked for.
    pub fn cdi_dirs(&self) -> Vec<PathBuf> {
        match &self.cdi_spec_dirs {
            None => cdi::DIRECTORIES.map(PathBuf::from).to_vec(),
            Some(dirs) => dirs.iter().filter(|dir| !dir.as_os_str().is_empty()).cloned().collect(),
        }
    }

    pub fn ulimits(&self) -> Vec<Ulimit> {
        let ulimit =
            |(name, limit): (&String, &NamedUlimit)| Ulimit { name: name.clone(), hard: limit.hard, soft: limit.soft };
        self.default_ulimits.iter().map(ulimit).collect()
    }
}

/// An address with the subnet that it lies in: `192.168.5.1/24`.
pub fn address_of(text: &str) -> Option<(IpAddr, Subnet)> {
    Some((text.split('/').next()?.parse().ok()?, text.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_networks_hold_or_are_refused() {
        for text in [
            r#"{"bip": "192.168.5.1/24", "fixed-cidr": "192.168.5.128/25", "mtu": 1400, "icc": false, "ip-masq": false}"#,
            r#"{"default-address-pools": [{"base": "10.10.0.0/16", "size": 24}], "bridge": "none", "userland-proxy": false}"#,
            r#"{"ipv6": true, "fixed-cidr-v6": "fd00:5::/64", "iptables": false, "ip6tables": false}"#,
            r#"{"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400"}}}"#,
            r#"{"bridge": "br0", "fixed-cidr": "192.168.5.128/25"}"#,
        ] {
            assert!(Settings::parse(text).is_ok(), "{text}");
        }
        for (text, words) in [
            (r#"{"bip": "192.168.5.0/24"}"#, "bip \"192.168.5.0/24\" is not the address of a bridge"),
            (r#"{"bip": "fd00::1/64"}"#, "bip \"fd00::1/64\" is not the address of a bridge"),
            (
                r#"{"bip": "192.168.5.1/24", "fixed-cidr": "192.168.6.0/24"}"#,
                "fixed-cidr 192.168.6.0/24 does not lie in",
            ),
            (r#"{"fixed-cidr-v6": "10.0.0.0/8"}"#, "fixed-cidr-v6 10.0.0.0/8 is of the other family"),
            (r#"{"bridge": "br 0"}"#, "bridge \"br 0\" is no name of a link"),
            (r#"{"bridge": "br0", "bip": "192.168.5.1/24"}"#, "bip and bridge exclude each other"),
            (r#"{"ip6tables": false}"#, "ip6tables and iptables must agree"),
            (r#"{"mtu": 10}"#, "mtu 10 is none"),
            (
                r#"{"default-address-pools": [{"base": "10.10.0.0/16", "size": 8}]}"#,
                "default-address-pools: no subnets",
            ),
            (r#"{"default-network-opts": {"boat": {}}}"#, "default-network-opts: there is no driver boat"),
            (
                r#"{"host-gateway-ip": "10.0.0.1", "host-gateway-ips": ["10.0.0.2"]}"#,
                "host-gateway-ip and host-gateway-ips",
            ),
        ] {
            let said = Settings::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(words), "{text}: {said}");
        }
        let pool: AddressPool = "base=10.10.0.0/16,size=24".parse().unwrap();
        assert_eq!(pool, AddressPool { base: "10.10.0.0/16".parse().unwrap(), size: 24 });
        assert!("base=10.10.0.0/16".parse::<AddressPool>().is_err());
    }

    #[test]
    fn docker_keys_are_read_and_unknown_ones_refused() {
        let text = r#"{"data-root": "/d", "registry-mirrors": ["http://127.0.0.1:5000"], "default-shm-size": "1M",
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 10, "Soft": 5}}}"#;
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.data_root, Some(PathBuf::from("/d")));
        assert_eq!(settings.shm_size().unwrap(), 1 << 20);
        assert_eq!(settings.ulimits(), [Ulimit { name: "nofile".into(), hard: 10, soft: 5 }]);
        assert_eq!(Settings::parse(r#"{"log-driver": "local"}"#).unwrap().log_driver, "local");
        for bad in [
            r#"{"no-such-key": 1}"#,
            r#"{"Debug": true}"#,
            r#"{"log-driver": "syslog"}"#,
            "[]",
            "{",
            r#"{"debug": "yes"}"#,
        ] {
            assert!(Settings::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
    }

    #[test]
    fn the_cache_of_builds_has_a_limit() {
        let of =
            |gc: &str| Settings::parse(&format!(r#"{{"builder": {{"gc": {gc}}}}}"#)).and_then(|it| it.cache_size());
        assert_eq!(Settings::default().cache_size().unwrap(), Some(20 << 30));
        assert_eq!(of(r#"{"defaultKeepStorage": "10GB"}"#).unwrap(), Some(10 << 30));
        assert_eq!(of(r#"{"defaultKeepStorage": 5000, "enabled": true}"#).unwrap(), Some(5000));
        assert_eq!(of(r#"{"enabled": false}"#).unwrap(), None);
        for bad in [r#"{"defaultKeepStorage": "x"}"#, r#"{"defaultKeepStorage": 0}"#, r#"{"policy": []}"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
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
