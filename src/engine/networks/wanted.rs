//! The network that a request asks for, or why it can be none.

use super::super::Settings;
use super::super::store::Store;
use super::stored::{self, Pool};
use super::user::bad;
use super::{interface, is_predefined, modes, theirs};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{Ipam, IpamConfig, Network, NetworkCreate};
use crate::api::units::parse_bool;
use crate::net::{Families, Subnet};
use crate::order::Map;
use anyhow::{Result, bail};
use std::net::IpAddr;

/// The families of addresses may be said by an option, too; what the request itself says wins, and has none.
pub fn families(asked: &mut NetworkCreate) -> Result<()> {
    let Some(options) = &mut asked.options else { return Ok(()) };
    for (key, enabled) in [("enable_ipv4", &mut asked.enable_ipv4), ("enable_ipv6", &mut asked.enable_ipv6)] {
        let key = format!("{DOCKERS}{key}");
        if enabled.is_some() {
            options.remove(&key);
        } else if let Some(text) = options.get(&key) {
            *enabled = Some(parse_bool(text).ok_or_else(|| bad(format!("driver-opt {key:?} is not a valid bool")))?);
        }
    }
    Ok(())
}

/// What could be no network, and what this release does not do.
pub fn check(asked: &NetworkCreate) -> Result<()> {
    let later = |what: &str| Err(Refusal::NotImplemented(format!("{what} come with a later release of dhow")).into());
    if asked.name.trim().is_empty() || asked.name.contains(['/', '\\']) || asked.name.chars().any(char::is_control) {
        return Err(bad(format!("{:?} is not a valid network name", asked.name)));
    }
    if is_predefined(&asked.name) || matches!(asked.name.as_str(), "default") || asked.name.starts_with("container:") {
        bail!(Refusal::Forbidden(format!("operation is not permitted on predefined {} network", asked.name)));
    }
    if asked.config_only {
        let config = asked.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
        return config.filter(|one| !one.subnet.is_empty()).try_for_each(|one| stored::pool(one).map(drop));
    }
    match asked.driver.as_str() {
        "" | "bridge" | "macvlan" | "ipvlan" => {}
        "host" | "null" => {
            bail!(Refusal::Forbidden(format!("only one instance of \"{}\" network is allowed", asked.driver)))
        }
        "overlay" => return later(&format!("networks of the driver {}", asked.driver)),
        other => bail!(Refusal::NotFound(format!(
            "could not find plugin {other} in v1 plugin registry: plugin \"{other}\" not found"
        ))),
    }
    if asked.ingress || !matches!(asked.scope.as_str(), "" | "local") {
        return later("networks of a swarm");
    }
    if let Some(driver) =
        asked.ipam.as_ref().map(|ipam| &ipam.driver).filter(|it| !matches!(it.as_str(), "" | "default"))
    {
        bail!(Refusal::NotFound(format!("could not find IPAM driver {driver:?}")));
    }
    let options = asked.options.clone().unwrap_or_default();
    if let Some(name) = options.get(stored::BRIDGE_NAME).filter(|name| !name.is_empty() && !stored::is_link(name)) {
        return Err(bad(format!("invalid name of a link: {name:?}")));
    }
    let number = |text: &String| text.parse::<u32>().is_ok_and(|mtu| (68..=65_535).contains(&mtu));
    if let Some(text) = options.get(stored::MTU).filter(|text| !number(text)) {
        return Err(bad(format!("invalid MTU: {text}")));
    }
    let binding = options.get(stored::HOST_BINDING).filter(|text| text.parse::<std::net::Ipv4Addr>().is_err());
    if let Some(text) = binding {
        return Err(bad(format!("invalid IPv4 address for {}: {text}", stored::HOST_BINDING)));
    }
    if matches!(asked.driver.as_str(), "" | stored::BRIDGE) {
        check_options(&options)?;
        interface::check_prefix(&options)?;
        modes::check(&options, asked.internal)?;
    }
    if asked.enable_ipv4 == Some(false) && asked.enable_ipv6 != Some(true) {
        return Err(bad("IPv4 or IPv6 must be enabled".to_owned()));
    }
    Ok(())
}

/// Options of a bridge that Docker knows. What it does not know it ignores, and so do we.
fn check_options(options: &Map<String, String>) -> Result<()> {
    for key in [stored::ICC, stored::MASQUERADE] {
        if let Some(text) = options.get(key).filter(|text| parse_bool(text).is_none()) {
            return Err(bad(format!("invalid value of {key}: {text}")));
        }
    }
    for (key, text) in options {
        let is_usual = match key.strip_prefix(DOCKERS) {
            None | Some("bridge.name" | "bridge.default_bridge" | "bridge.host_binding_ipv4" | "driver.mtu") => true,
            Some("bridge.enable_icc" | "bridge.enable_ip_masquerade" | "enable_ipv4" | "enable_ipv6") => true,
            Some("bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6" | "bridge.inhibit_ipv4") => true,
            Some("bridge.trusted_host_interfaces" | "container_iface_prefix") => true,
            Some(_) => false,
        };
        if !is_usual {
            bail!(Refusal::NotImplemented(format!("networks with {key}={text} are not supported")));
        }
    }
    Ok(())
}

/// How the names of options begin that Docker's own drivers know.
pub const DOCKERS: &str = "com.docker.network.";

/// The network that was asked for, with what it did not say, and whether its subnet of IPv4 is among that.
pub fn network(
    store: &Store,
    settings: &Settings,
    asked: NetworkCreate,
    others: &[Network],
) -> Result<(Network, bool)> {
    let id = stored::new_id()?;
    let ipam = asked.ipam.unwrap_or_default();
    let (four, six) = (asked.enable_ipv4.unwrap_or(true), asked.enable_ipv6.unwrap_or(false));
    let mut config = ipam.config.unwrap_or_default();
    config.retain(|config| *config != IpamConfig::default());
    let mut options = asked.options.unwrap_or_default();
    let is_bridge = matches!(asked.driver.as_str(), "" | stored::BRIDGE);
    let name = options.get(stored::BRIDGE_NAME).filter(|name| is_bridge && !name.is_empty());
    if let Some(name) = name
        && others.iter().any(|other| other.driver == stored::BRIDGE && stored::link_name(other) == *name)
    {
        bail!(Refusal::Forbidden(format!("bridge {name} is another network's")));
    }
    if let Some(bridge) = theirs::asked(name)? {
        bridge.complete(&mut config, four, six)?;
        bridge.note(&mut options);
    }
    let mut pools: Vec<Pool> = Vec::new();
    let mut gateways = Families { four: true, six: true };
    if is_bridge {
        gateways = modes::with_gateway(&options, asked.internal);
    }
    for one in &mut config {
        let pool = complete(one, gateways).map_err(|error| match error.downcast_ref() {
            // Docker's words.
            Some(Refusal::BadParameter(text)) => bad(format!("invalid network config:\n{text}")),
            _ => error,
        })?;
        // As with Docker it is kept, and of no use.
        if !if pool.subnet.is_ipv4() { four } else { six } {
            continue;
        }
        let overlaps = |other: &Pool| other.subnet.overlaps(&pool.subnet);
        if pools.iter().any(overlaps) || others.iter().flat_map(stored::pools).any(|other| overlaps(&other)) {
            bail!(Refusal::Forbidden(
                "invalid pool request: Pool overlaps with other one on this address space".to_owned()
            ));
        }
        pools.push(pool);
    }
    let many = |four: bool| pools.iter().filter(|pool| pool.subnet.is_ipv4() == four).count() > 1;
    if is_bridge && (many(true) || many(false)) {
        bail!(Refusal::Forbidden("bridge driver doesn't support multiple subnets".to_owned()));
    }
    let mut add = |subnet: Subnet| -> Result<()> {
        let mut one = IpamConfig { subnet: subnet.to_string(), ..IpamConfig::default() };
        complete(&mut one, gateways)?;
        config.push(one);
        Ok(())
    };
    let is_found = four && !pools.iter().any(|pool| pool.subnet.is_ipv4());
    if is_found {
        add(stored::free_subnet(store, &settings.default_address_pools, &id)?)?;
    }
    if six && !pools.iter().any(|pool| !pool.subnet.is_ipv4()) {
        add(stored::free_subnet6(store, &settings.default_address_pools, &id)?)?;
    }
    let network = Network {
        name: asked.name,
        id,
        created: Time::now().to_string(),
        scope: "local".to_owned(),
        driver: if asked.driver.is_empty() { stored::BRIDGE.to_owned() } else { asked.driver },
        enable_ipv4: four,
        enable_ipv6: six,
        ipam: Ipam { driver: "default".to_owned(), options: ipam.options, config: Some(config) },
        internal: asked.internal,
        attachable: asked.attachable,
        options,
        labels: asked.labels.unwrap_or_default(),
        config_from: asked.config_from.unwrap_or_default(),
        ..Network::default()
    };
    Ok((network, is_found))
}

/// Reads one subnet, and gives it a gateway where it has none and its family wants one: the first address.
fn complete(config: &mut IpamConfig, gateways: Families) -> Result<Pool> {
    for (what, text) in [("subnet", &config.subnet), ("ip-range", &config.ip_range)] {
        let address = text.split('/').next().and_then(|address| address.parse::<IpAddr>().ok());
        if let (Ok(subnet), Some(address)) = (text.parse::<Subnet>(), address)
            && subnet.first != address
        {
            return Err(bad(format!("invalid {what} {text}: it should be {subnet}")));
        }
    }
    let mut pool = stored::pool(config)?;
    if pool.subnet.host_bits() < 1 {
        return Err(bad(format!("invalid subnet {}: there is no room for a gateway and a container", pool.subnet)));
    }
    check_reserved(config, &pool)?;
    config.subnet = pool.subnet.to_string();
    if pool.gateway.is_none() && gateways.has(pool.subnet.first) {
        let mut address = pool.range.first;
        while !pool.subnet.is_host(address) || pool.reserved.contains(&address) {
            let next = pool.range.next(address);
            address = next.ok_or_else(|| bad(format!("no address of {} is left for a gateway", pool.range)))?;
        }
        pool.gateway = Some(address);
        pool.reserved.push(address);
        config.gateway = address.to_string();
    }
    Ok(pool)
}

/// Refuses addresses that nobody can have, or that are given twice, in Docker's words; and subnets of such addresses.
fn check_reserved(config: &IpamConfig, pool: &Pool) -> Result<()> {
    let subnet = pool.subnet;
    let of = |first: IpAddr| match first {
        _ if first.is_loopback() => Some("loopback"),
        _ if first.is_multicast() => Some("multicast"),
        _ => None,
    };
    if let Some(kind) = of(subnet.first) {
        return Err(bad(format!("invalid subnet {subnet}: its addresses are those of {kind}")));
    }
    if let Some(gateway) = pool.gateway.filter(|gateway| !subnet.is_host(*gateway)) {
        bail!("failed to allocate gateway ({gateway}): Address already in use");
    }
    let mut taken = Vec::from_iter(pool.gateway);
    for (name, text) in &config.aux_address {
        let address: IpAddr = text.parse()?;
        if !subnet.is_host(address) || taken.contains(&address) {
            bail!("failed to allocate secondary ip address ({name}:{text}): Address already in use");
        }
        taken.push(address);
    }
    Ok(())
}

/// What is said of subnets that were given for a family of addresses that a network has not.
pub fn unused(network: &Network) -> String {
    let given = network.ipam.config.iter().flatten().filter_map(|config| stored::pool(config).ok());
    let idle = given.filter(|pool| !stored::pools(network).any(|used| used.subnet == pool.subnet));
    let sentence = |pool: Pool| {
        let family = if pool.subnet.is_ipv4() { 4 } else { 6 };
        format!("subnet {} is not used: IPv{family} is not enabled for this network", pool.subnet)
    };
    idle.map(sentence).collect::<Vec<_>>().join("; ")
}
