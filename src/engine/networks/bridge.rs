//! The bridge of a network in the kernel: made when the network is, and again by whoever needs it after a reboot.

use super::super::store::{self, Store};
use super::{modes, parent, stored, theirs};
use crate::api::Refusal;
use crate::api::types::Network;
use crate::net::netlink::Socket;
use crate::net::{Subnet, address, link};
use anyhow::{Context, Result, bail};
use std::time::Duration;

/// Makes a network's bridge where it is missing or not yet up. The caller holds the lock of networks. Gives the network
/// as it is then: a default bridge whose subnet somebody else uses by now gets another one.
pub fn ensure(store: &Store, network: Network) -> Result<Network> {
    if parent::kind(&network)?.is_some() {
        return parent::ensure(&network).map(|_| network);
    }
    let socket = Socket::route().context("open a netlink socket")?;
    let name = stored::link_name(&network);
    let found = link::find(&socket, &name).with_context(|| format!("look for link {name}"))?;
    if theirs::is_theirs(&network) {
        return theirs::ensure(&socket, &name, found).map(|()| network);
    }
    match found {
        Some(link) if !theirs::is_ours(&link, &network, mac(&network)?) => {
            bail!(Refusal::Conflict(format!(
                "{name} is a link of this host's, and not the bridge that was made for it"
            )))
        }
        Some(link) if link.up => {
            if link.group != link::GROUP {
                link::set_group(&socket, link.index).with_context(|| format!("put {name} among our bridges"))?;
            }
            return Ok(network);
        }
        _ => {}
    }
    let (mut network, mut found) = (network, found);
    for attempt in 1.. {
        let index = match found.take() {
            // What a killed command began.
            Some(link) => link.index,
            None => {
                network = settle(store, network)?;
                link::make_bridge(&socket, &name, mac(&network)?, stored::mtu(&network))
                    .with_context(|| format!("make the bridge {name}"))?;
                crate::failpoint::reach("bridge.made");
                link::find(&socket, &name)?.context("the bridge that was made is gone")?.index
            }
        };
        let Err(error) = set_up(&socket, &network, index) else { break };
        if !is_taken(&error) {
            return Err(error);
        }
        link::delete(&socket, &name).with_context(|| format!("delete the bridge {name}"))?;
        if attempt == CHOICES {
            return Err(error);
        }
        step_aside(attempt)?;
        network = stored::moved(store, &network)?.ok_or(error)?;
    }
    Ok(network)
}

/// How often a subnet is chosen anew, because somebody else chose the same one at the same moment.
pub const CHOICES: u32 = 20;

/// Whether an error says that somebody else has a subnet of the network's.
pub fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Refusal::Forbidden(text)) if text.starts_with(OVERLAPS))
}

/// Docker's words.
const OVERLAPS: &str = "Pool overlaps with other one on this address space";

/// Both may have seen each other: a while, another one for each, before the next choice.
pub fn step_aside(attempt: u32) -> Result<()> {
    let [some] = store::random_bytes::<1>()?;
    std::thread::sleep(Duration::from_micros(u64::from(some) * 100 * u64::from(attempt)));
    Ok(())
}

/// Refuses subnets that another bridge has, as of a store that chose the same one at the same moment. Each looks once the
/// addresses of its own bridge can be seen, so that one of them at least sees the other; and before it is up, so that who
/// is killed in between leaves one that is looked at again.
fn check(socket: &Socket, network: &Network, index: u32) -> Result<()> {
    let pools: Vec<Subnet> = stored::pools(network).map(|pool| pool.subnet).collect();
    for (_, subnet, link) in address::all(socket).context("read the addresses of this host")? {
        let Some(pool) = pools.iter().find(|pool| pool.overlaps(&subnet)).filter(|_| link != index) else { continue };
        let is_theirs = |link: link::Link| {
            // One that is wider may well be meant, as in `settle`.
            theirs::is_of_a_store(&link) || link.kind == "bridge" && pool.contains(subnet.first)
        };
        if link::at(socket, link).context("look at a link")?.is_some_and(is_theirs) {
            return Err(overlaps(*pool));
        }
    }
    Ok(())
}

fn overlaps(pool: Subnet) -> anyhow::Error {
    Refusal::Forbidden(format!("{OVERLAPS}: {pool}")).into()
}

/// A bridge's subnets must not be those of other links.
fn settle(store: &Store, network: Network) -> Result<Network> {
    let routes = stored::host_routes()?;
    let taken = |subnet: Subnet| routes.iter().any(|(route, _)| route.overlaps(&subnet));
    let Some(pool) = stored::pools(&network).find(|pool| taken(pool.subnet)) else { return Ok(network) };
    if let Some(moved) = stored::moved(store, &network)? {
        return Ok(moved);
    }
    // Somebody asked for it, and a route of the host's that is wider may well be meant.
    match routes.iter().any(|(route, _)| pool.subnet.contains(route.first)) {
        true => Err(overlaps(pool.subnet)),
        false => Ok(network),
    }
}

/// The bridge's address is the network's, so that a bridge that is made anew is the same to its neighbours.
fn mac(network: &Network) -> Result<link::Mac> {
    let byte = |at: usize| u8::from_str_radix(&network.id[at..at + 2], 16).context("a network's id");
    Ok([0x02, 0x42, byte(0)?, byte(2)?, byte(4)?, byte(6)?])
}

fn set_up(socket: &Socket, network: &Network, index: u32) -> Result<()> {
    let name = stored::link_name(network);
    let set = |family: &str, key: &str, value: &str| {
        let path = format!("/proc/sys/net/{family}/conf/{name}/{key}");
        std::fs::write(&path, value).with_context(|| format!("write {path}"))
    };
    let ours = modes::with_address(network);
    if !network.enable_ipv6 || !ours.six {
        // A kernel without IPv6 has no such file.
        let _ = set("ipv6", "disable_ipv6", "1");
    } else {
        set("ipv6", "disable_ipv6", "0")?;
        // Its gateway is this host, and no router speaks here.
        set("ipv6", "accept_ra", "0")?;
    }
    link::set_alias(socket, index, &theirs::alias(network)).with_context(|| format!("name the network of {name}"))?;
    for pool in stored::pools(network) {
        if let Some(gateway) = pool.gateway.filter(|gateway| ours.has(*gateway)) {
            address::add(socket, index, gateway, pool.subnet)
                .with_context(|| format!("give {name} the address {gateway}"))?;
        }
    }
    check(socket, network, index)?;
    crate::failpoint::reach("bridge.checked");
    link::set_up(socket, index).with_context(|| format!("set {name} up"))
}

/// Whether what comes by the bridge may be for 127/8, as answers to connections from this host's loopback are. Only where
/// rules are loaded, which drop all else that is sent there: a container can send what it likes.
pub fn routes_loopback(network: &Network, may: bool) -> Result<()> {
    if network.driver != stored::BRIDGE || theirs::is_theirs(network) {
        return Ok(());
    }
    let path = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", stored::link_name(network));
    let wanted = if may { "1" } else { "0" };
    let is_so = std::fs::read_to_string(&path).is_ok_and(|known| known.trim() == wanted);
    if is_so { Ok(()) } else { std::fs::write(&path, wanted).with_context(|| format!("write {path}")) }
}

/// Takes a network's bridge away, if it was made for it.
pub fn remove(store: &Store, network: &Network) -> Result<()> {
    if network.driver != stored::BRIDGE {
        return parent::remove(store, network);
    }
    let name = stored::link_name(network);
    let mac = mac(network)?;
    let delete = || {
        let socket = Socket::route()?;
        match link::find(&socket, &name)? {
            Some(link) if theirs::is_ours(&link, network, mac) => link::delete(&socket, &name),
            _ => Ok(()),
        }
    };
    delete().with_context(|| format!("delete the bridge {name}"))
}
