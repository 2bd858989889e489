//! Which way the packets of a container go out, and where its published ports lead.

use super::super::record::Record;
use super::super::store::Store;
use super::join::{Given, Held, Place, Published};
use super::stored::{self, Pool};
use super::{modes, parent, publish};
use crate::api::types::Network;
use crate::net::netlink::{self, Socket};
use crate::net::{Families, address, link};
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
    held.places.iter_mut().for_each(|place| (place.gateway, place.only4, place.only6) = (false, false, false));
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

/// The network to which default routes lead.
pub fn way(held: &Held) -> Option<String> {
    held.places.iter().find(|place| place.gateway).map(|place| place.network.clone())
}

/// Chooses anew which network has the default routes of a container that runs, and sets them.
pub fn route(record: &Record, held: &mut Held, namespace: &OwnedFd) -> Result<()> {
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

/// What becomes of the published ports of a container whose networks have changed.
#[derive(Default)]
pub struct Moves {
    pub closed: Vec<Published>,
    pub opened: Vec<Published>,
}

impl Moves {
    pub fn all(&self) -> impl Iterator<Item = &Published> {
        self.opened.iter().chain(&self.closed)
    }
}

/// Has published ports lead to where the default routes of the container are, and parks those that lead nowhere; those of
/// its networks that are routed are open there. Where the routes are on no bridge, or there is no address of a port's
/// family, a port stays where it is.
pub fn lead(store: &Store, record: &Record, held: &mut Held) -> Result<Moves> {
    let target = target(store, held)?;
    let open = publish::opened(store, record, held)?;
    let is_here = |port: &Published| {
        held.places.iter().any(|place| place.given().any(|given| given.address == port.container.ip()))
    };
    let is_astray = |port: &Published| {
        let elsewhere = |target: &Target| {
            let inside = publish::inside(&target.place, port.container.ip());
            target.has_none_of(port) || inside.is_some_and(|inside| inside != port.container.ip())
        };
        !is_here(port) || target.as_ref().is_some_and(elsewhere)
    };
    let is_closed = |port: &Published| if port.routed { !open.contains(port) } else { is_astray(port) };
    let (closed, mut ports): (Vec<_>, Vec<_>) = held.ports.iter().cloned().partition(is_closed);
    let same = |one: &Published, other: &Published| (one.protocol, one.host) == (other.protocol, other.host);
    let waiting: Vec<Published> = closed.iter().filter(|port| !port.routed).chain(&held.parked).cloned().collect();
    let led: Vec<Published> =
        target.iter().flat_map(|target| waiting.iter().filter_map(|port| target.take(port, record))).collect();
    held.parked = waiting.into_iter().filter(|port| !led.iter().any(|led| same(led, port))).collect();
    let opened: Vec<Published> = led.into_iter().chain(open.into_iter().filter(|port| !ports.contains(port))).collect();
    ports.extend(opened.iter().cloned());
    held.ports = ports;
    Ok(Moves { closed, opened })
}

/// Where published ports of the host lead, if that is a bridge.
struct Target {
    place: Place,
    /// Those of the host do not lead to these.
    routed: Families,
    trusted: Vec<String>,
}

impl Target {
    fn has_none_of(&self, port: &Published) -> bool {
        self.routed.has(port.host.ip()) || self.routed.has(port.container.ip())
    }

    /// A port of the host as it leads here. A program that listens for the host's own addresses of IPv6 passes on what
    /// comes to any of them where the container has none of its own any more.
    fn take(&self, port: &Published, record: &Record) -> Option<Published> {
        let same = publish::inside(&self.place, port.container.ip()).map(|inside| (inside, port.served));
        let four = self.place.ipv4.filter(|_| !self.routed.four);
        let other = || publish::is_listened(port, record).then_some((four?.address, true));
        let (inside, served) = same.filter(|_| !self.has_none_of(port)).or_else(other)?;
        let is_for_us = !self.routed.has(port.host.ip());
        let (container, trusted) = (SocketAddr::new(inside, port.container.port()), self.trusted.clone());
        is_for_us.then(|| Published { container, served, trusted, ..port.clone() })
    }
}

fn target(store: &Store, held: &Held) -> Result<Option<Target>> {
    let Some(place) = publish::target(store, held)? else { return Ok(None) };
    let Some(network) = stored::load(store, &place.network)?.filter(|network| network.driver == stored::BRIDGE) else {
        return Ok(None);
    };
    Ok(Some(Target { routed: publish::routed(store, held, &network)?, trusted: modes::trusted(&network), place }))
}
