//! Who reaches the published ports of this host, as the rules that are loaded say.

use super::super::record::Record;
use super::super::rootless::network::within;
use super::super::store::Store;
use super::join::{self, Published};
use super::obstacles::{Obstacle, Others};
use super::{firewall, lease};
use crate::api::types::PublishedPort;
use crate::net::firewall::Mapping;
use crate::net::{Subnet, port};
use crate::order;
use anyhow::Result;

/// Every published port of containers that live, by its number on the host.
pub fn published(store: &Store) -> Result<Vec<PublishedPort>> {
    within(store, || read(store))
}

fn read(store: &Store) -> Result<Vec<PublishedPort>> {
    lease::sweep(store)?;
    let held = join::all_held(store)?;
    if held.iter().all(|(_, held)| held.ports.is_empty()) {
        return Ok(Vec::new());
    }
    let loaded = if crate::net::nftables::is_there() { firewall::read(store)? } else { None };
    let others = Others::read()?;
    let mut all = Vec::new();
    for (id, held) in held {
        let name = Record::load(store, &id)?.map(|record| record.name).unwrap_or_default();
        for port in &held.ports {
            let mut told = PublishedPort { container: id.clone(), name: name.clone(), ..told(port, loaded.as_deref()) };
            if matches!(told.reach.as_str(), "lan" | "everyone") {
                let found = others.of_held(store, &held, port)?;
                if found.iter().any(Obstacle::is_closed) {
                    told.reach = "host".to_owned();
                }
                told.notes.extend(found.iter().map(Obstacle::sentence));
            }
            all.push(told);
        }
    }
    order::by(&mut all, |a, b| {
        let key = |port: &PublishedPort| (port.host_port, port.protocol.clone(), port.host_ip.clone());
        key(a).cmp(&key(b))
    });
    Ok(all)
}

fn told(port: &Published, loaded: Option<&[Mapping]>) -> PublishedPort {
    let same = |mapping: &&Mapping| {
        (mapping.protocol, mapping.host, mapping.container) == (port.protocol, port.host, port.container)
    };
    // Where a program passes it on, that decides, by the same words.
    let ours = port.served.then(|| Mapping::from(port));
    let found = ours.as_ref().or(loaded.and_then(|loaded| loaded.iter().find(same)));
    let text = |from: &Vec<Subnet>| from.iter().map(Subnet::to_string).collect();
    let mut told = PublishedPort {
        protocol: port::name(port.protocol).to_owned(),
        host_ip: port.host.ip().to_string(),
        host_port: port.host.port(),
        container_ip: port.container.ip().to_string(),
        container_port: port.container.port(),
        reach: found.map_or("nobody", reach).to_owned(),
        from: found.and_then(|mapping| mapping.from.as_ref()).map(text),
        ..PublishedPort::default()
    };
    if let Some(trusted) = found.map(|mapping| &mapping.trusted).filter(|trusted| !trusted.is_empty()) {
        let by = trusted.join(", ");
        told.notes.push(format!("{}/{} is open, too, to who comes by {by}", port.container, told.protocol));
    }
    if found.is_none() {
        told.notes.push(format!(
            "{}/{} is not among the loaded rules: somebody took them away, and a start loads them again",
            port.host, told.protocol
        ));
    }
    told
}

/// An address of a network of one's own is reached by that network; every address, and one of the world, by everyone.
fn reach(mapping: &Mapping) -> &'static str {
    let address = mapping.host.ip();
    match &mapping.from {
        _ if address.is_loopback() => "host",
        Some(from) if from.is_empty() => "host",
        Some(from) if from.iter().all(Subnet::is_private) => "lan",
        None if !address.is_unspecified() && Subnet::alone(address).is_private() => "lan",
        _ => "everyone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_address_and_by_sources() {
        for (host, from, expected) in [
            ("0.0.0.0:80", None, "everyone"),
            ("[::]:80", None, "everyone"),
            ("127.0.0.1:80", None, "host"),
            ("[::1]:80", None, "host"),
            ("192.168.1.9:80", None, "lan"),
            ("203.0.113.9:80", None, "everyone"),
            ("0.0.0.0:80", Some(vec!["10.0.0.0/8"]), "lan"),
            ("0.0.0.0:80", Some(vec!["10.0.0.0/8", "203.0.113.0/24"]), "everyone"),
            ("0.0.0.0:80", Some(vec![]), "host"),
        ] {
            let from = from.map(|from| from.iter().map(|text| text.parse().unwrap()).collect::<Vec<Subnet>>());
            let container = "172.17.0.2:80".parse().unwrap();
            let (host, protocol) = (host.parse().unwrap(), port::TCP);
            let mapping = Mapping { from, ..Mapping::new(protocol, host, container) };
            assert_eq!(reach(&mapping), expected, "{host} {:?}", mapping.from);
            let (from, served, by_loopback, routed, trusted) = (Vec::new(), false, false, false, Vec::new());
            let port = Published { protocol, host, container, from, served, by_loopback, routed, trusted };
            assert_eq!(told(&port, None).reach, "nobody");
            if mapping.from.is_none() {
                assert_eq!(told(&Published { served: true, ..port.clone() }, None).reach, expected);
            }
            assert_eq!(told(&port, Some(&[mapping])).reach, expected);
        }
    }
}
