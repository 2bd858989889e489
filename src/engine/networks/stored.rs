//! Networks on disk: `networks/<id>.json`, one file each, written whole. `none` and `host` need no file; the default
//! bridge gets one when its subnet is chosen, and keeps it.

use super::super::locks::{self, Lock};
use super::super::rootless::{self, gateway, network};
use super::super::settings::{AddressPool, Settings, address_of};
use super::super::store::{self, Store};
use super::id;
use super::lease;
use super::theirs::{self, Bridge};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{Ipam, IpamConfig, Network};
use crate::api::units::parse_bool;
use crate::json;
use crate::json::fields::fields;
use crate::log;
use crate::net::{self, Subnet, address, netlink::Socket};
use crate::oci::hex;
use crate::order;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The version of file that this program writes; a newer one is refused by name.
const VERSION: u32 = 1;

pub const BRIDGE: &str = "bridge";
pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub const ICC: &str = "com.docker.network.bridge.enable_icc";
pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub const MTU: &str = "com.docker.network.driver.mtu";
/// Docker's names of auxiliary addresses that are the way out.
const WAY_OUT4: &str = "DefaultGatewayIPv4";
const WAY_OUT6: &str = "DefaultGatewayIPv6";
/// The settings say which subnet the default bridge has.
const CHOSEN: &str = "dhow.network.bridge.chosen";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";

fields! {
    #[derive(Default)]
    struct File {
        version: u32,
        network: Network,
        /// Its subnet of IPv4 was found free in these, or in those that everybody has where there is none, and may be found
        /// anew. Not there where somebody asked for one.
        found_in: Option<Vec<AddressPool>>,
    }
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
    Ok(file(store, id)?.map(|file| file.network))
}

fn file(store: &Store, id: &str) -> Result<Option<File>> {
    let path = path(store, id);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let file: File = json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    if file.version > VERSION {
        bail!("{} was written by a newer dhow (version {})", path.display(), file.version);
    }
    Ok(Some(file))
}

/// `found_in` are the pools in which its subnet of IPv4 was found, if nobody asked for one.
pub fn save(store: &Store, network: &Network, found_in: Option<&[AddressPool]>) -> Result<()> {
    store::make_dirs(&dir(store), 0o700)?;
    let file = File { version: VERSION, network: network.clone(), found_in: found_in.map(<[AddressPool]>::to_vec) };
    let bytes = serde_json::to_vec(&file).context("encode a network")?;
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
    order::sort(&mut ids);
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
        if let Err(error) = save(store, &network, Some(&[])) {
            log::debug!("{error:#}");
        }
    }
    Ok(network)
}

/// The name of the default bridge, where nobody says another.
fn default_link(store: &Store) -> String {
    match super::is_default(store) {
        true => "dhow0".to_owned(),
        false => format!("dhow-{}", super::super::tag(store)),
    }
}

/// The default bridge, with a subnet that is free now.
fn new_default(store: &Store) -> Result<Network> {
    let id = id(store, BRIDGE);
    let link = default_link(store);
    let options = [
        (DEFAULT_BRIDGE, "true"),
        (ICC, "true"),
        (MASQUERADE, "true"),
        (HOST_BINDING, "0.0.0.0"),
        (BRIDGE_NAME, &link),
        (MTU, "1500"),
    ];
    let subnet = free_subnet(store, &[], &id)?;
    Ok(Network {
        created: Time::now().to_string(),
        driver: BRIDGE.to_owned(),
        ipam: Ipam { config: Some(vec![with_gateway(subnet)?]), ..plain(store, BRIDGE, BRIDGE).ipam },
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..plain(store, BRIDGE, BRIDGE)
    })
}

/// Has a network move to another subnet of IPv4, because somebody else uses its own by now; `None` where it stays: somebody
/// asked for that one, or containers have addresses of it.
pub fn moved(store: &Store, network: &Network) -> Result<Option<Network>> {
    let Some(pools) = found_in(store, network)? else { return Ok(None) };
    if !lease::holders(store, &network.id)?.is_empty() {
        return Ok(None);
    }
    let four = with_gateway(free_subnet(store, &pools, &network.id)?)?;
    let six = network.ipam.config.iter().flatten().filter(|config| config.subnet.contains(':')).cloned();
    let config = Some([four].into_iter().chain(six).collect());
    let moved = Network { ipam: Ipam { config, ..network.ipam.clone() }, ..network.clone() };
    save(store, &moved, Some(&pools))?;
    Ok(Some(moved))
}

/// The pools in which its subnet of IPv4 was found; `None` where somebody said which one it shall have.
pub fn found_in(store: &Store, network: &Network) -> Result<Option<Vec<AddressPool>>> {
    let found = || Ok(file(store, &network.id)?.and_then(|file| file.found_in));
    match network.name == BRIDGE {
        true if network.options.contains_key(CHOSEN) || theirs::is_theirs(network) => Ok(None),
        // Earlier builds did not write it down.
        true => Ok(found()?.or_else(|| Some(Vec::new()))),
        false => found(),
    }
}

/// The default bridge as the settings want it; what they leave open stays as it is.
pub fn wanted(store: &Store, network: &Network, settings: &Settings) -> Result<Network> {
    let mut wanted = network.clone();
    let address = settings.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mtu = settings.mtu.filter(|mtu| *mtu > 0).unwrap_or(1500);
    for (key, value) in [
        (ICC, settings.icc.to_string()),
        (MASQUERADE, settings.ip_masq.to_string()),
        (HOST_BINDING, address.to_string()),
        (MTU, mtu.to_string()),
    ] {
        wanted.options.insert(key.to_owned(), value);
    }
    let name = settings.bridge.as_deref().filter(|name| !matches!(*name, "" | "none") && *name != default_link(store));
    if let Some(name) = name.filter(|_| rootless::is_inside()) {
        bail!(Refusal::BadParameter(format!("bridge {name}: links of this host are root's")));
    }
    let bridge = name.map(Bridge::look).transpose()?;
    let was_theirs = theirs::is_theirs(network);
    theirs::forget(&mut wanted);
    wanted.options.insert(BRIDGE_NAME.to_owned(), default_link(store));
    if let Some(bridge) = &bridge {
        if settings.mtu.is_none_or(|mtu| mtu == 0) {
            wanted.options.remove(MTU);
        }
        bridge.note(&mut wanted.options);
    }
    let bip = settings.bip.as_deref().and_then(address_of);
    let old = |four: bool| {
        let of_family = |pool: &Pool| pool.subnet.is_ipv4() == four && !was_theirs;
        pools(network).find(of_family).map(|pool| pool.subnet)
    };
    let in_pools = |subnet: Subnet| {
        let pools = &settings.default_address_pools;
        pools.is_empty() || pools.iter().any(|pool| pool.base.contains(subnet.first) && pool.size == subnet.prefix)
    };
    let fits =
        |subnet: &Subnet| settings.fixed_cidr.is_none_or(|range| subnet.contains(range.first)) && in_pools(*subnet);
    let mut four = match (&bridge, bip, settings.fixed_cidr, old(true)) {
        (Some(bridge), ..) => bridge.config(true, settings.fixed_cidr)?,
        (None, Some((address, subnet)), ..) => {
            IpamConfig { subnet: subnet.to_string(), gateway: address.to_string(), ..IpamConfig::default() }
        }
        (None, None, _, Some(subnet)) if fits(&subnet) => with_gateway(subnet)?,
        (None, None, Some(range), _) => with_gateway(range)?,
        _ => with_gateway(free_subnet(store, &settings.default_address_pools, &network.id)?)?,
    };
    match bip.is_some() || settings.fixed_cidr.is_some() {
        true => drop(wanted.options.insert(CHOSEN.to_owned(), "true".to_owned())),
        false => drop(wanted.options.remove(CHOSEN)),
    }
    if bridge.is_none() {
        four.ip_range = settings.fixed_cidr.map(|range| range.to_string()).unwrap_or_default();
    }
    four.aux_address.extend(settings.default_gateway.map(|way| (WAY_OUT4.to_owned(), way.to_string())));
    let mut config = vec![four];
    wanted.enable_ipv6 = settings.ipv6 || settings.fixed_cidr_v6.is_some() || settings.bip6.is_some();
    if wanted.enable_ipv6 {
        let bip6 = settings.bip6.as_deref().and_then(address_of);
        let mut six = match (&bridge, bip6, settings.fixed_cidr_v6, old(false)) {
            (Some(bridge), ..) => bridge.config(false, settings.fixed_cidr_v6)?,
            (None, Some((address, subnet)), ..) => {
                IpamConfig { subnet: subnet.to_string(), gateway: address.to_string(), ..IpamConfig::default() }
            }
            (None, None, Some(range), _) => with_gateway(range)?,
            (None, None, None, Some(subnet)) => with_gateway(subnet)?,
            (None, None, None, None) => {
                with_gateway(free_subnet6(store, &settings.default_address_pools, &network.id)?)?
            }
        };
        let range = settings.fixed_cidr_v6.filter(|_| bip6.is_some());
        six.ip_range = range.map_or(six.ip_range, |range| range.to_string());
        six.aux_address.extend(settings.default_gateway_v6.map(|way| (WAY_OUT6.to_owned(), way.to_string())));
        config.push(six);
    }
    for one in &config {
        pool(one)?;
    }
    wanted.ipam.config = Some(config);
    Ok(wanted)
}

fn with_gateway(subnet: Subnet) -> Result<IpamConfig> {
    let gateway = subnet.next(subnet.first).context("a subnet without room")?;
    Ok(IpamConfig { subnet: subnet.to_string(), gateway: gateway.to_string(), ..IpamConfig::default() })
}

/// A subnet that neither this host's routes nor another of our networks (but `but`) uses.
pub fn free_subnet(store: &Store, pools: &[AddressPool], but: &str) -> Result<Subnet> {
    let mut pools = of_family(pools, true);
    if pools.is_empty() {
        pools = net::subnet::POOLS.iter().filter_map(|(pool, size)| Some((pool.parse().ok()?, *size))).collect();
    }
    let used = used(store, but)?;
    net::subnet::free(&pools, &used).context(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
    )
}

/// What routes and addresses of this host and networks of ours (but `but`) use.
fn used(store: &Store, but: &str) -> Result<Vec<Subnet>> {
    let mut used: Vec<Subnet> = host_routes()?.into_iter().map(|(subnet, _)| subnet).collect();
    // A bridge that somebody makes at this moment has no route yet.
    let addresses = || address::all(&Socket::route()?);
    let addresses = addresses().context("read the addresses of this host")?;
    used.extend(addresses.into_iter().map(|(_, subnet, _)| subnet));
    if rootless::is_inside() {
        // What containers shall reach is the host's network, too, and what lies between.
        let of_host = network::ask_host(address::routes).transpose().context("read the routes of this host")?;
        used.extend(of_host.into_iter().flatten().map(|(subnet, _)| subnet).filter(|subnet| subnet.prefix > 0));
        used.push(gateway::SUBNET.parse().map_err(anyhow::Error::msg)?);
    }
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

fn of_family(pools: &[AddressPool], four: bool) -> Vec<(Subnet, u8)> {
    let ours = pools.iter().filter(|pool| pool.base.is_ipv4() == four);
    ours.map(|pool| (pool.base, pool.size)).collect()
}

/// A private subnet of IPv6 that nobody else has (RFC 4193): 40 random bits. Or one of the pools that were chosen.
pub fn free_subnet6(store: &Store, pools: &[AddressPool], but: &str) -> Result<Subnet> {
    let pools = of_family(pools, false);
    if !pools.is_empty() {
        let found = net::subnet::free(&pools, &used(store, but)?);
        return found.context("could not find an available IPv6 address pool among those of default-address-pools");
    }
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
    /// Where containers send what is for others, if that is not the gateway.
    pub way_out: Option<IpAddr>,
    /// Those that are given to nobody.
    pub reserved: Vec<IpAddr>,
}

/// What a file says was checked when it was written. A subnet of a family that the network has not is of no use, and a
/// configuration alone has none.
pub fn pools(network: &Network) -> impl Iterator<Item = Pool> {
    let config = network.ipam.config.iter().flatten().filter(|_| !network.config_only);
    let pools = config.filter_map(|config| pool(config).ok());
    pools.filter(|pool| if pool.subnet.is_ipv4() { network.enable_ipv4 } else { network.enable_ipv6 })
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
    let way_out = [WAY_OUT4, WAY_OUT6].into_iter().find_map(|key| config.aux_address.get(key)?.parse().ok());
    Ok(Pool { subnet, range, gateway, way_out, reserved })
}

/// The name of a network's bridge.
pub fn link_name(network: &Network) -> String {
    match network.options.get(BRIDGE_NAME).filter(|name| !name.is_empty()) {
        Some(name) => name.clone(),
        None => format!("br-{}", &network.id[..12]),
    }
}

/// An option that is yes or no.
pub fn is_on(options: &Map<String, String>, key: &str, default: bool) -> bool {
    options.get(key).map_or(default, |text| parse_bool(text) == Some(true))
}

pub fn mtu(network: &Network) -> u32 {
    network.options.get(MTU).and_then(|text| text.parse().ok()).filter(|mtu| *mtu > 0).unwrap_or(1500)
}

/// An id for a new network, which tells of nothing.
pub fn new_id() -> Result<String> {
    Ok(hex(&store::random_bytes::<32>()?))
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
