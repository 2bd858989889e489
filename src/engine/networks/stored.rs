//! Networks on disk: `networks/<id>.json`, one file each, written whole. `none` and `host` need no file; the default
//! bridge gets one when its subnet is chosen, and keeps it.

use super::super::locks::{self, Lock};
use super::super::store::{self, Store};
use super::{hex, id};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{Ipam, IpamConfig, Network};
use crate::net::{self, Subnet, address, netlink::Socket};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The version of file that this program writes; a newer one is refused by name.
const VERSION: u32 = 1;

pub const BRIDGE: &str = "bridge";
pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub const ICC: &str = "com.docker.network.bridge.enable_icc";
pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub const MTU: &str = "com.docker.network.driver.mtu";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    version: u32,
    network: Network,
}

fn dir(store: &Store) -> PathBuf {
    store.root.join("networks")
}

fn path(store: &Store, id: &str) -> PathBuf {
    dir(store).join(format!("{id}.json"))
}

/// Held by who makes or removes a network, or gives an address.
pub fn lock(store: &Store) -> Result<Lock> {
    locks::exclusive(&store.run.join("networks.lock"), 0)
}

pub fn load(store: &Store, id: &str) -> Result<Option<Network>> {
    let path = path(store, id);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let file: File = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    if file.version > VERSION {
        bail!("{} was written by a newer dhow (version {})", path.display(), file.version);
    }
    Ok(Some(file.network))
}

pub fn save(store: &Store, network: &Network) -> Result<()> {
    store::make_dirs(&dir(store), 0o700)?;
    let bytes = serde_json::to_vec(&File { version: VERSION, network: network.clone() }).context("encode a network")?;
    store::write_file(&path(store, &network.id), &bytes, true)
}

pub fn remove(store: &Store, id: &str) -> Result<()> {
    store::remove(&path(store, id))?;
    super::super::containers::sync_dir(&dir(store))
}

/// When a network's file was written, in nanoseconds; 0 where it is gone.
pub fn written(store: &Store, id: &str) -> Result<i128> {
    use std::os::unix::fs::MetadataExt;
    let path = path(store, id);
    match std::fs::metadata(&path) {
        Ok(meta) => Ok(i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("look at {}", path.display())),
    }
}

/// The ids of those with a file, sorted.
pub fn ids(store: &Store) -> Result<Vec<String>> {
    let mut ids = store::read_dir(&dir(store))?;
    ids.retain_mut(|name| match name.strip_suffix(".json") {
        Some(id) => {
            *name = id.to_owned();
            true
        }
        None => false,
    });
    ids.sort();
    Ok(ids)
}

/// Those with a file.
pub fn with_files(store: &Store) -> Result<Vec<Network>> {
    // One may be removed meanwhile.
    ids(store)?.iter().filter_map(|id| load(store, id).transpose()).collect()
}

/// All networks that there are: the three that every store has, and those of users.
pub fn all(store: &Store) -> Result<Vec<Network>> {
    let mut all = vec![default_bridge(store)?, plain(store, "host", "host"), plain(store, "none", "null")];
    let bridge = all[0].id.clone();
    all.extend(with_files(store)?.into_iter().filter(|network| network.id != bridge));
    Ok(all)
}

/// By name, id, or an unambiguous beginning of the id.
pub fn find(store: &Store, wanted: &str) -> Result<Network> {
    match wanted {
        "default" | BRIDGE => return default_bridge(store),
        "host" => return Ok(plain(store, "host", "host")),
        "none" => return Ok(plain(store, "none", "null")),
        _ => {}
    }
    let all = all(store)?;
    if let Some(network) = all.iter().find(|it| it.id == wanted).or(all.iter().find(|it| it.name == wanted)) {
        return Ok(network.clone());
    }
    let mut begun = all.into_iter().filter(|network| !wanted.is_empty() && network.id.starts_with(wanted));
    match (begun.next(), begun.next()) {
        (Some(network), None) => Ok(network),
        (None, _) => bail!(Refusal::NotFound(format!("network {wanted} not found"))),
        (Some(_), Some(_)) => {
            bail!(Refusal::BadParameter(format!("network {wanted} is ambiguous (2 matches found on ID prefix)")))
        }
    }
}

/// `none` or `host`.
fn plain(store: &Store, name: &str, driver: &str) -> Network {
    let made = std::fs::metadata(store.root.join("version")).and_then(|meta| meta.modified());
    let since = made.ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    Network {
        name: name.to_owned(),
        id: id(store, name),
        created: Time { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }.to_string(),
        scope: "local".to_owned(),
        driver: driver.to_owned(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".to_owned(), options: None, config: None },
        ..Network::default()
    }
}

/// The network of containers that name none. Its subnet is chosen when it is first looked for.
pub fn default_bridge(store: &Store) -> Result<Network> {
    let id = id(store, BRIDGE);
    if let Some(network) = load(store, &id)? {
        return Ok(network);
    }
    let network = new_default(store)?;
    // Whoever cannot write the store can look at it all the same. A lock of its own: who gives addresses looks, too.
    if let Ok(_lock) = locks::exclusive(&store.run.join("networks.lock"), 1) {
        if let Some(network) = load(store, &id)? {
            return Ok(network);
        }
        if let Err(error) = save(store, &network) {
            log::debug!("{error:#}");
        }
    }
    Ok(network)
}

/// The default bridge, with a subnet that is free now.
pub fn new_default(store: &Store) -> Result<Network> {
    let id = id(store, BRIDGE);
    let link = match super::is_default(store) {
        true => "dhow0".to_owned(),
        false => format!("dhow-{}", super::super::tag(store)),
    };
    let options = [
        (DEFAULT_BRIDGE, "true"),
        (ICC, "true"),
        (MASQUERADE, "true"),
        (HOST_BINDING, "0.0.0.0"),
        (BRIDGE_NAME, &link),
        (MTU, "1500"),
    ];
    let subnet = free_subnet(store, &id)?;
    Ok(Network {
        created: Time::now().to_string(),
        driver: BRIDGE.to_owned(),
        ipam: Ipam { config: Some(vec![with_gateway(subnet)?]), ..plain(store, BRIDGE, BRIDGE).ipam },
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..plain(store, BRIDGE, BRIDGE)
    })
}

fn with_gateway(subnet: Subnet) -> Result<IpamConfig> {
    let gateway = subnet.next(subnet.first).context("a subnet without room")?;
    Ok(IpamConfig { subnet: subnet.to_string(), gateway: gateway.to_string(), ..IpamConfig::default() })
}

/// A subnet that neither this host's routes nor another of our networks (but `but`) uses.
pub fn free_subnet(store: &Store, but: &str) -> Result<Subnet> {
    let pools: Vec<(Subnet, u8)> =
        net::subnet::POOLS.iter().filter_map(|(pool, size)| Some((pool.parse().ok()?, *size))).collect();
    let used = used(store, but)?;
    net::subnet::free(&pools, &used).context(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
    )
}

/// What routes of this host and networks of ours (but `but`) use.
fn used(store: &Store, but: &str) -> Result<Vec<Subnet>> {
    let mut used: Vec<Subnet> = host_routes()?.into_iter().map(|(subnet, _)| subnet).collect();
    for network in with_files(store)?.iter().filter(|network| network.id != but) {
        used.extend(pools(network).map(|pool| pool.subnet));
    }
    Ok(used)
}

/// What this host's routes lead to, and the link.
pub fn host_routes() -> Result<Vec<(Subnet, u32)>> {
    let routes = || address::routes(&Socket::route()?);
    let routes = routes().context("read the routes of this host")?;
    Ok(routes.into_iter().filter(|(subnet, _)| subnet.prefix > 0).collect())
}

/// A private subnet of IPv6 that nobody else has (RFC 4193): 40 random bits.
pub fn free_subnet6() -> Result<Subnet> {
    let random = store::random_bytes::<5>()?;
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&random);
    Subnet::new(IpAddr::from(bytes), 64).context("a subnet of IPv6")
}

/// A subnet of a network, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub subnet: Subnet,
    /// From which addresses are given.
    pub range: Subnet,
    pub gateway: Option<IpAddr>,
    /// Those that are given to nobody.
    pub reserved: Vec<IpAddr>,
}

/// What a file says was checked when it was written.
pub fn pools(network: &Network) -> impl Iterator<Item = Pool> {
    network.ipam.config.iter().flatten().filter_map(|config| pool(config).ok())
}

/// Reads one subnet's description. Errors are 400, in Docker's words.
pub fn pool(config: &IpamConfig) -> Result<Pool> {
    let wrong = |text: String| anyhow::Error::from(Refusal::BadParameter(text));
    let subnet: Subnet = config
        .subnet
        .parse()
        .map_err(|_| wrong(format!("invalid subnet {}: invalid CIDR block notation", config.subnet)))?;
    let range = match config.ip_range.as_str() {
        "" => subnet,
        text => text.parse().map_err(|_| wrong(format!("invalid ip-range {text}: invalid CIDR block notation")))?,
    };
    if !subnet.contains(range.first) || range.prefix < subnet.prefix {
        return Err(wrong(format!(
            "invalid ip-range {}: parent subnet {subnet} doesn't contain ip-range",
            config.ip_range
        )));
    }
    let inside = |what: &str, text: &str| {
        let address: IpAddr = text.parse().map_err(|_| wrong(format!("invalid {what} {text}: invalid address")))?;
        match subnet.contains(address) {
            true => Ok(address),
            false => Err(wrong(format!("invalid {what} {text}: parent subnet {subnet} doesn't contain this address"))),
        }
    };
    let gateway = match config.gateway.as_str() {
        "" => None,
        // Some clients write it as an address of a subnet.
        text => Some(inside("gateway", text.split('/').next().unwrap_or_default())?),
    };
    let aux = config.aux_address.values().map(|text| inside("auxiliary address", text));
    let mut reserved: Vec<IpAddr> = aux.collect::<Result<_>>()?;
    reserved.extend(gateway);
    Ok(Pool { subnet, range, gateway, reserved })
}

/// The name of a network's bridge.
pub fn link_name(network: &Network) -> String {
    match network.options.get(BRIDGE_NAME).filter(|name| !name.is_empty()) {
        Some(name) => name.clone(),
        None => format!("br-{}", &network.id[..12]),
    }
}

/// An option that is yes or no.
pub fn is_on(options: &BTreeMap<String, String>, key: &str, default: bool) -> bool {
    options.get(key).map_or(default, |text| matches!(text.as_str(), "true" | "1" | "t" | "T" | "TRUE" | "True"))
}

pub fn mtu(network: &Network) -> u32 {
    network.options.get(MTU).and_then(|text| text.parse().ok()).filter(|mtu| *mtu > 0).unwrap_or(1500)
}

/// An id for a new network, which tells of nothing.
pub fn new_id() -> Result<String> {
    Ok(hex(&[&store::random_bytes::<32>()?]))
}

/// Where what is given of a network in this boot is kept.
pub fn live(store: &Store, id: &str) -> PathBuf {
    store.run.join("networks").join(id)
}

pub fn is_link(name: &str) -> bool {
    // The kernel's rule (dev_valid_name).
    (1..libc::IFNAMSIZ).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace())
        && Path::new(name).is_relative()
}
