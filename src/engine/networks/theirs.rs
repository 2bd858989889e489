//! A bridge that somebody else made: used as it is. Its addresses are the gateways of containers, it is set up where it is
//! down, and nothing else of it is changed; it stays when the network goes. Others may be on it, a LAN for one.

use super::stored;
use crate::api::Refusal;
use crate::api::types::{IpamConfig, Network};
use crate::net::link::{self, Link};
use crate::net::netlink::Socket;
use crate::net::{Subnet, address};
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::net::IpAddr;

/// The network's bridge is somebody else's.
const MARK: &str = "dhow.network.bridge.theirs";

pub fn is_theirs(network: &Network) -> bool {
    network.options.contains_key(MARK)
}

/// What is written to a bridge of ours, so that it is known, also by another store.
pub fn alias(network: &Network) -> String {
    format!("{ALIAS}{}", network.id)
}

const ALIAS: &str = "dhow network ";

/// Whether a link is the bridge that was made for a network. Those of earlier releases have no alias, and are known by
/// their address.
pub fn is_ours(link: &Link, network: &Network, mac: link::Mac) -> bool {
    link.kind == "bridge" && (link.alias == alias(network) || link.alias.is_empty() && link.mac == Some(mac))
}

/// Whether a link is the bridge of a network of ours, or of another store.
pub fn is_of_a_store(link: &Link) -> bool {
    link.kind == "bridge" && link.alias.starts_with(ALIAS)
}

/// A bridge, with its addresses.
pub struct Bridge {
    name: String,
    mtu: u32,
    addresses: Vec<(IpAddr, Subnet)>,
}

impl Bridge {
    /// Looks at it; refused where there is none, or where it is one of another store of ours.
    pub fn look(name: &str) -> Result<Bridge> {
        let socket = Socket::route().context("open a netlink socket")?;
        let link = link::find(&socket, name).with_context(|| format!("look for link {name}"))?;
        let link = check(name, link)?;
        let addresses = address::of_link(&socket, link.index);
        let mut addresses = addresses.with_context(|| format!("read the addresses of {name}"))?;
        addresses.retain(|(address, _)| !address::is_link_local(*address));
        Ok(Bridge { name: name.to_owned(), mtu: link.mtu, addresses })
    }

    /// The one of a family that containers get theirs beside: that of their range, or the first.
    fn beside(&self, four: bool, range: Option<Subnet>) -> Result<(IpAddr, Subnet)> {
        let fits = |(_, subnet): &&(IpAddr, Subnet)| {
            subnet.is_ipv4() == four
                && range.is_none_or(|range| subnet.contains(range.first) && subnet.prefix <= range.prefix)
        };
        self.addresses.iter().find(fits).copied().with_context(|| {
            let name = &self.name;
            let (family, key) = if four { (4, "fixed-cidr") } else { (6, "fixed-cidr-v6") };
            let range = range.map_or(String::new(), |range| format!(" whose subnet holds {key} {range}"));
            format!("bridge {name} has no IPv{family} address{range}: it is not dhow's, and is given none")
        })
    }

    /// A subnet of containers, as a network has it. Other addresses of the bridge are nobody's.
    pub fn config(&self, four: bool, range: Option<Subnet>) -> Result<IpamConfig> {
        let (gateway, subnet) = self.beside(four, range)?;
        let others = self.addresses.iter().filter(|(address, _)| *address != gateway && subnet.contains(*address));
        Ok(IpamConfig {
            subnet: subnet.to_string(),
            gateway: gateway.to_string(),
            ip_range: range.filter(|range| *range != subnet).map(|range| range.to_string()).unwrap_or_default(),
            aux_address: Map::from_iter(
                others.zip(1..).map(|((it, _), n)| (format!("{}_{n}", self.name), it.to_string())),
            ),
        })
    }

    /// Completes what was asked for of a network that has this bridge.
    pub fn complete(&self, config: &mut Vec<IpamConfig>, four: bool, six: bool) -> Result<()> {
        for asked in config.iter_mut() {
            let pool = stored::pool(asked)?;
            let wanted = |(address, subnet): &&(IpAddr, Subnet)| {
                *subnet == pool.subnet && pool.gateway.is_none_or(|gateway| gateway == *address)
            };
            let Some((gateway, _)) = self.addresses.iter().find(wanted) else {
                let what = pool.gateway.map_or(format!("in {}", pool.subnet), |gateway| gateway.to_string());
                let name = &self.name;
                bail!(Refusal::Forbidden(format!("bridge {name} is not dhow's, and has no address {what}")));
            };
            asked.gateway = gateway.to_string();
            let own = self.config(gateway.is_ipv4(), Some(pool.range)).map(|own| own.aux_address).unwrap_or_default();
            let free = own.into_iter().filter(|(_, address)| *address != asked.gateway);
            asked.aux_address.extend(free);
        }
        for (family, wanted) in [(true, four), (false, six)] {
            let has = config.iter().any(|it| it.subnet.parse().is_ok_and(|it: Subnet| it.is_ipv4() == family));
            if wanted && !has {
                config.push(self.config(family, None)?);
            }
        }
        Ok(())
    }

    /// Says in a network's options that this is its bridge.
    pub fn note(&self, options: &mut crate::order::Map<String, String>) {
        options.insert(stored::BRIDGE_NAME.to_owned(), self.name.clone());
        options.insert(MARK.to_owned(), "true".to_owned());
        options.entry(stored::MTU.to_owned()).or_insert_with(|| self.mtu.to_string());
    }
}

/// A bridge of the host's that a new network is to have; `None` where the name is free, or nobody gave one.
pub fn asked(name: Option<&String>) -> Result<Option<Bridge>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let find = || link::find(&Socket::route()?, name);
    match find().with_context(|| format!("look for link {name}"))? {
        Some(_) => Bridge::look(name).map(Some),
        None => Ok(None),
    }
}

/// Forgets that the bridge was somebody else's.
pub fn forget(network: &mut Network) {
    network.options.remove(MARK);
}

/// The address of a port beside a container's. A bridge that was given none has the lowest of its ports' addresses, and
/// would have another one with each container: that is never this one.
pub fn high(inside: link::Mac) -> link::Mac {
    let [_, rest @ ..] = inside;
    let mut mac = [0xfe; 6];
    mac[1..].copy_from_slice(&rest);
    mac
}

fn check(name: &str, link: Option<Link>) -> Result<Link> {
    let conflict = |text: String| Err(Refusal::Conflict(text).into());
    match link {
        // Docker's words.
        None => conflict(format!("bridge device with non default name {name} must be created manually")),
        Some(link) if link.kind != "bridge" => conflict(format!("{name} is a link of this host's, and no bridge")),
        Some(link) if link.alias.starts_with(ALIAS) => {
            conflict(format!("bridge {name} is that of a network of another store, or was one's"))
        }
        Some(link) => Ok(link),
    }
}

/// What there is to do before it is used: almost nothing.
pub fn ensure(socket: &Socket, name: &str, link: Option<Link>) -> Result<()> {
    let link = check(name, link)?;
    match link.up {
        true => Ok(()),
        false => link::set_up(socket, link.index).with_context(|| format!("set {name} up")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_bridge_are_gateways() {
        let address = |text: &str| {
            let (address, _) = text.split_once('/').unwrap();
            (address.parse().unwrap(), text.parse().unwrap())
        };
        let bridge = |addresses: &[&str]| Bridge {
            name: "br0".to_owned(),
            mtu: 1500,
            addresses: addresses.iter().map(|text| address(text)).collect(),
        };
        let lan = bridge(&["192.168.1.9/24", "192.168.1.10/24", "10.1.0.1/16", "fd01::9/64"]);
        let said = |config: Result<IpamConfig>| match config {
            Ok(it) => {
                let others: Vec<String> = it.aux_address.into_values().collect();
                format!("{} {} {} {}", it.subnet, it.gateway, it.ip_range, others.join(" ")).trim_end().to_owned()
            }
            Err(error) => error.to_string(),
        };
        for (four, range, expected) in [
            (true, None, "192.168.1.0/24 192.168.1.9  192.168.1.10"),
            (true, Some("10.1.128.0/17"), "10.1.0.0/16 10.1.0.1 10.1.128.0/17"),
            (false, Some("fd01::/64"), "fd01::/64 fd01::9"),
            (
                true,
                Some("10.2.0.0/17"),
                "bridge br0 has no IPv4 address whose subnet holds fixed-cidr 10.2.0.0/17: it is not dhow's, and is given none",
            ),
        ] {
            assert_eq!(said(lan.config(four, range.map(|it| it.parse().unwrap()))), expected);
        }
        let bare = said(bridge(&[]).config(true, None));
        assert_eq!(bare, "bridge br0 has no IPv4 address: it is not dhow's, and is given none");
        let asked = |subnet: &str, gateway: &str| {
            let one = IpamConfig { subnet: subnet.to_owned(), gateway: gateway.to_owned(), ..IpamConfig::default() };
            let mut config = vec![one];
            lan.complete(&mut config, true, true).map(|()| config).map_err(|error| error.to_string())
        };
        let config = asked("10.1.0.0/16", "").unwrap();
        assert_eq!((config[0].gateway.as_str(), config[1].gateway.as_str()), ("10.1.0.1", "fd01::9"));
        assert_eq!(
            asked("10.1.0.0/16", "10.1.0.2").unwrap_err(),
            "bridge br0 is not dhow's, and has no address 10.1.0.2"
        );
        assert_eq!(
            asked("10.3.0.0/16", "").unwrap_err(),
            "bridge br0 is not dhow's, and has no address in 10.3.0.0/16"
        );
    }

    #[test]
    fn a_bridge_is_known_by_its_alias_or_as_earlier_releases_made_it() {
        let network = Network { id: "ab".repeat(32), ..Network::default() };
        let mac = [2, 0x42, 0xab, 0xab, 0xab, 0xab];
        let link = |alias: &str, mac| Link { kind: "bridge".into(), alias: alias.into(), mac, ..Link::default() };
        for (link, ours) in [
            (link("", Some(mac)), true),
            (link(&alias(&network), None), true),
            (link("", Some([2; 6])), false),
            (link("dhow network other", Some(mac)), false),
            (Link { kind: "dummy".into(), ..link("", Some(mac)) }, false),
        ] {
            assert_eq!(is_ours(&link, &network, mac), ours, "{link:?}");
        }
    }
}
