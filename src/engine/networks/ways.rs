//! Which way the packets of a container go out, and where its published ports lead.

use super::super::record::Record;
use super::super::store::Store;
use super::join::{Given, Held, Place, Published};
use super::stored::{self, Pool};
use super::{parent, publish};
use crate::api::types::Network;
use crate::net::netlink::{self, Socket};
use crate::net::{address, link};
use crate::order;
use anyhow::{Context, Result};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// Where containers with an address of this pool send what is for others.
pub fn way_out(network: &Network, pool: &Pool) -> Option<IpAddr> {
    pool.way_out.or(pool.gateway).filter(|_| !network.internal && parent::has_gateway(network))
}

/// Each family has its default routes by the network of the highest priority that leads out: of these by one that has both
/// families, the first by name.
pub fn choose(record: &Record, held: &mut Held) {
    let leads =
        |place: &Place, family: fn(&Place) -> Option<Given>| family(place).is_some_and(|given| given.gateway.is_some());
    let four = |place: &Place| leads(place, |place| place.ipv4);
    let six = |place: &Place| leads(place, |place| place.ipv6);
    let mut order: Vec<usize> = (0..held.places.len()).collect();
    order::by_key(&mut order, |at| {
        let place = &held.places[*at];
        let priority = record.networks.get(&place.name).map_or(0, |settings| settings.gw_priority);
        (-priority, !(four(place) && six(place)), place.name.clone())
    });
    let first = |leads: &dyn Fn(&Place) -> bool| order.iter().copied().find(|at| leads(&held.places[*at]));
    match (first(&four), first(&six)) {
        (Some(four), Some(six)) if four != six => {
            (held.places[four].gateway, held.places[four].only4) = (true, true);
            held.places[six].only6 = true;
        }
        (Some(at), _) | (None, Some(at)) => held.places[at].gateway = true,
        (None, None) => {}
    }
}

/// Chooses anew which network has the default routes of a container that runs, and sets them.
pub fn route(record: &Record, held: &mut Held, namespace: &OwnedFd) -> Result<()> {
    held.places.iter_mut().for_each(|place| (place.gateway, place.only4, place.only6) = (false, false, false));
    choose(record, held);
    let inside = netlink::inside(namespace, Socket::route)??;
    for place in held.places.iter().filter(|place| place.ways().next().is_some()) {
        let link = link::find(&inside, &place.inside)?.context("the link inside is not there")?;
        for gateway in place.ways() {
            address::set_default_route(&inside, link.index, gateway).context("set the default route")?;
        }
    }
    Ok(())
}

/// Published ports that do not lead to where the default routes of the container are, and the same as they should. Where
/// these are on no bridge, or there is no address of a port's family, it stays where it is.
pub fn astray(store: &Store, record: &Record, held: &Held) -> Result<(Vec<Published>, Vec<Published>)> {
    let Some(place) = target(store, held)? else { return Ok(Default::default()) };
    let inside = |port: &&Published| publish::inside(&place, port.container.ip());
    // What is open on a routed network stays so.
    let is_astray =
        |port: &&Published| !port.routed && inside(port).is_some_and(|inside| inside != port.container.ip());
    let before: Vec<Published> = held.ports.iter().filter(is_astray).cloned().collect();
    let moved = elsewhere(store, record, held, &before)?;
    Ok((before, moved))
}

/// Where published ports lead, if that is a bridge.
fn target(store: &Store, held: &Held) -> Result<Option<Place>> {
    let Some(place) = publish::target(store, held)? else { return Ok(None) };
    let network = stored::load(store, &place.network)?;
    Ok(network.filter(|network| network.driver == stored::BRIDGE).map(|_| place))
}

/// Published ports of an address that is gone, led to where others of the container lead now, as far as there is such a
/// place. What was open on a routed network is gone with it. A program that listens for the host's own addresses of IPv6
/// passes on what comes to any of them where the container has none of its own any more.
fn elsewhere(store: &Store, record: &Record, held: &Held, ports: &[Published]) -> Result<Vec<Published>> {
    let Some(place) = target(store, held)? else { return Ok(Vec::new()) };
    let moved = |port: &Published| {
        let same = publish::inside(&place, port.container.ip()).map(|inside| (inside, port.served));
        let other = || publish::is_listened(port, record).then_some((place.ipv4?.address, true));
        let (inside, served) = same.or_else(other).filter(|_| !port.routed)?;
        Some(Published { container: SocketAddr::new(inside, port.container.port()), served, ..port.clone() })
    };
    Ok(ports.iter().filter_map(moved).collect())
}

/// Has published ports lead to where the container is now, and parks those that lead nowhere. Gives those that lead.
pub fn unpark(store: &Store, record: &Record, held: &mut Held, ports: &[Published]) -> Result<Vec<Published>> {
    let led = elsewhere(store, record, held, ports)?;
    let same = |one: &Published, other: &Published| (one.protocol, one.host) == (other.protocol, other.host);
    held.parked.retain(|parked| !ports.iter().any(|port| same(port, parked)));
    held.parked.extend(ports.iter().filter(|port| !port.routed && !led.iter().any(|led| same(led, port))).cloned());
    held.ports.extend(led.iter().cloned());
    Ok(led)
}
