//! A container on its networks: what it holds while it runs, and how it comes by it.
//!
//! [`enter`] gives addresses and binds ports, before anything of the container is made; [`connect`] makes its links,
//! once it has a namespace and before its program runs; [`leave`] gives everything back. What is held stands in
//! `network.json` of the container's run directory, so that whoever finds a killed shim can give it back.

use super::super::record::{self, Record};
use super::super::rootless::network::within;
use super::super::rootless::{self, gateway};
use super::super::store::{self, Store};
use super::stored::{self, Pool};
use super::{firewall, interface, lease, obstacles, parent, publish, theirs, tune, ways};
use crate::api::Refusal;
use crate::api::types::{EndpointSettings, Network};
use crate::json::fields::fields;
use crate::json::{self, by_serde};
use crate::log;
use crate::net::firewall::Mapping;
use crate::net::link::{self, Link, Mac, Port, Veth};
use crate::net::netlink::{self, Socket};
use crate::net::{Subnet, address, nftables};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often, and after how long, a port of a bridge is asked for again that is not open yet. One of somebody's bridge may
/// take half a minute (STP), for which nobody waits.
const OPENINGS: usize = 20;
const OPENING: Duration = Duration::from_millis(1);

fields! {
    /// What a container that runs holds.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Held {
        /// In the order of its links.
        pub places: Vec<Place>,
        pub ports: Vec<Published>,
        /// Those that lead nowhere, since it is on no network with a way out, and are kept for when it comes to one.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub parked: Vec<Published>,
        /// Rules in tables of others let its packets through.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub cooperates: bool,
    }
}

impl Held {
    /// Whether it has published ports, wherever they lead.
    pub fn publishes(&self) -> bool {
        !self.ports.is_empty() || !self.parked.is_empty()
    }
}

fields! {
    /// Its place on one network.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Place {
        /// The network's name, under which the record has it.
        pub name: String,
        pub network: String,
        pub endpoint: String,
        /// The end of its link that is a port of the bridge, where there is one, and the one inside.
        pub link: String,
        pub inside: String,
        pub mac: Mac,
        pub ipv4: Option<Given>,
        pub ipv6: Option<Given>,
        /// Addresses that hold on this link only. They are asked for and not leased: nobody else is led to them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub link_local: Vec<IpAddr>,
        /// Of its link, as they were asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub sysctls: Vec<String>,
        /// Its default routes lead here.
        pub gateway: bool,
        /// Those of IPv4 alone do: those of IPv6 lead to another place …
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub only4: bool,
        /// … which is this.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub only6: bool,
    }
}

/// An address, and what it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// `IPPROTO_*`.
    pub protocol: u8,
    pub host: SocketAddr,
    pub container: SocketAddr,
    /// From elsewhere it is reached by these alone; by everybody where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Subnet>,
    /// A program passes on what comes to it; there is no rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub served: bool,
    /// The same of what comes by this host's loopback alone: the bridge is somebody else's, and not to be told to route
    /// for 127/8.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_loopback: bool,
    /// Its network is routed: the container's own port is open, and the host has none for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub routed: bool,
    /// Links that the network of its container trusts: by them others come to the container's own port, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<String>,
}

by_serde! { Given, Published }

impl Published {
    /// A port that is open on a routed network.
    pub fn routed(protocol: u8, container: SocketAddr, from: Vec<Subnet>) -> Published {
        let Mapping { host, .. } = Mapping::routed(protocol, container);
        let (served, by_loopback, routed, trusted) = (false, false, true, Vec::new());
        Published { protocol, host, container, from, served, by_loopback, routed, trusted }
    }
}

/// Where a program leads what comes to a port of the host.
#[derive(Clone, Debug)]
pub struct Target {
    pub protocol: u8,
    pub host: SocketAddr,
    pub container: SocketAddr,
    pub from: Vec<Subnet>,
}

impl Target {
    /// Whether it is meant by a port of the host; `::1` is served beside what is published of IPv4.
    pub fn is_for(&self, protocol: u8, host: SocketAddr) -> bool {
        let loopback = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), self.host.port());
        self.protocol == protocol && (self.host == host || self.host.is_ipv4() && host == loopback)
    }
}

/// Where the ports of a container lead now.
pub fn targets(store: &Store, container: &str) -> Result<Vec<Target>> {
    let target = |port: Published| {
        let Published { protocol, host, container, from, .. } = port;
        Target { protocol, host, container, from }
    };
    Ok(held(store, container)?.ports.into_iter().map(target).collect())
}

impl From<&Published> for Mapping {
    fn from(port: &Published) -> Mapping {
        let from = Some(port.from.clone()).filter(|from| !from.is_empty());
        let Published { protocol, host, container, by_loopback, routed, .. } = *port;
        Mapping { protocol, host, container, from, by_loopback, routed, trusted: port.trusted.clone() }
    }
}

impl Place {
    pub fn given(&self) -> impl Iterator<Item = Given> {
        [self.ipv4, self.ipv6].into_iter().flatten()
    }

    /// Where its default routes lead, if they do.
    pub fn ways(&self) -> impl Iterator<Item = IpAddr> {
        let leads = |given: &Given| match given.address {
            IpAddr::V4(_) => self.gateway,
            IpAddr::V6(_) => self.gateway && !self.only4 || self.only6,
        };
        self.given().filter(leads).filter_map(|given| given.gateway)
    }
}

/// What a container has been given for a start.
#[derive(Default)]
pub struct Entry {
    pub held: Held,
    /// They keep its ports on the host, for as long as they are open.
    pub sockets: Vec<OwnedFd>,
    /// Those that a program serves: protocol and address on the host.
    pub served: Vec<(OwnedFd, u8, SocketAddr)>,
    /// It goes by rules.
    pub has_rules: bool,
    /// It keeps the way out of an ordinary user's network.
    pub gateway: Option<OwnedFd>,
}

fn path(store: &Store, container: &str) -> PathBuf {
    store.live(container).join("network.json")
}

/// What a container holds; nothing where it does not run, or is on no network of ours.
pub fn held(store: &Store, container: &str) -> Result<Held> {
    let path = path(store, container);
    match std::fs::read(&path) {
        Ok(text) => json::from_slice(&text).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Held::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Whether a container holds places on the networks that its record names, and on no others, with links that are ports of
/// their bridges still.
pub fn are_held(store: &Store, record: &Record) -> Result<bool> {
    let held = held(store, &record.id)?;
    let same = |place: &Place| {
        record.networks.get(&place.name).is_some_and(|settings| {
            let asked = settings.ipam_config.clone().unwrap_or_default();
            let is = |text: &str, given: Option<Given>| {
                text.is_empty() || text.parse() == Ok::<IpAddr, _>(given.map_or(IpAddr::from([0; 4]), |it| it.address))
            };
            is(&asked.ipv4_address, place.ipv4) && is(&asked.ipv6_address, place.ipv6)
        })
    };
    Ok(held.places.len() == record.networks.len()
        && held.places.iter().all(same)
        && within(store, || are_linked(store, &held.places))?)
}

pub fn save(store: &Store, container: &str, held: &Held) -> Result<()> {
    let bytes = serde_json::to_vec(held).context("encode what a container holds of networks")?;
    store::write_file(&path(store, container), &bytes, false)
}

fn are_linked(store: &Store, places: &[Place]) -> Result<bool> {
    let socket = Socket::route()?;
    for place in places.iter().filter(|place| !place.link.is_empty()) {
        let Some(network) = stored::load(store, &place.network)? else { return Ok(false) };
        let find = |name: &str| link::find(&socket, name).with_context(|| format!("look for link {name}"));
        let (port, bridge) = (find(&place.link)?, find(&stored::link_name(&network))?);
        if bridge.is_none() || port.and_then(|port| port.bridge) != bridge.map(|bridge| bridge.index) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a container still holds that is started again on its networks. Rules that somebody took away are loaded as for any
/// start.
pub fn resume(store: &Store, record: &Record) -> Result<Entry> {
    let held = held(store, &record.id)?;
    let load = || -> Result<bool> {
        let _lock = stored::lock(store)?;
        let networks = held.places.iter().filter_map(|place| stored::load(store, &place.network).transpose());
        rules(store, record, &networks.collect::<Result<Vec<_>>>()?)
    };
    let has_rules = within(store, load)? && !rootless::is_inside();
    Ok(Entry { held, has_rules, ..Entry::default() })
}

/// Whether a mode names networks, and not another's namespace or none.
pub fn has_networks(mode: &str) -> bool {
    !matches!(mode, "none" | "host") && !mode.starts_with("container:")
}

/// Gives a container that is about to start its addresses and ports. What fails here is undone by [`leave`].
pub fn enter(store: &Store, record: &Record) -> Result<Entry> {
    if !has_networks(&record.host_config.network_mode) {
        return Ok(Entry::default());
    }
    let mut entry = Entry { held: prospect(store, record)?, has_rules: has_rules(record), ..Entry::default() };
    // Before addresses, bridges and rules: a port that is taken is refused with nothing made.
    let mut ports = publish::reserve(store, record, &mut entry)?;
    let leads_out = entry.held.places.iter().any(|place| place.gateway);
    let parked = if leads_out { Vec::new() } else { publish::keep(store, record, &mut entry)? };
    crate::failpoint::reach("network.reserved");
    entry.held = within(store, || take(store, record))?;
    entry.gateway = gateway::hold(store)?;
    if let Some(place) = publish::target(store, &entry.held)? {
        for port in &mut ports {
            port.container.set_ip(publish::inside(&place, port.container.ip()).unwrap_or(port.container.ip()));
        }
    }
    ports.extend(publish::opened(store, record, &entry.held)?);
    (entry.held.ports, entry.held.parked) = (ports, parked);
    let asks = record.publishing.cooperates && !record.publishing.forwarder && !rootless::is_inside();
    entry.held.cooperates = asks && entry.held.publishes();
    save(store, &record.id, &entry.held)?;
    crate::failpoint::reach("network.entered");
    Ok(entry)
}

/// Whether rules lead to its published ports on the host: none of an ordinary user's leads anywhere from there.
pub fn has_rules(record: &Record) -> bool {
    !record.publishing.forwarder && nftables::is_there() && !rootless::is_inside()
}

/// Its places as they would be now.
fn prospect(store: &Store, record: &Record) -> Result<Held> {
    let mut held = Held::default();
    for (name, settings) in &record.networks {
        held.places.push(prospect_of(store, record, &stored::find(store, name)?, settings));
    }
    ways::choose(record, &mut held);
    Ok(held)
}

/// A place as it would be now: nothing is taken yet, and somebody else may come first.
pub fn prospect_of(store: &Store, record: &Record, network: &Network, settings: &EndpointSettings) -> Place {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    let given = |four: bool, text: &str| {
        let wanted: Option<IpAddr> = text.parse().ok();
        let fits = |pool: &Pool| pool.subnet.is_ipv4() == four && wanted.is_none_or(|it| pool.subnet.contains(it));
        let pool = stored::pools(network).find(fits)?;
        let address = wanted.or_else(|| lease::next(store, &network.id, &pool)).unwrap_or(pool.range.first);
        Some(Given { address, prefix: pool.subnet.prefix, gateway: ways::way_out(network, &pool) })
    };
    Place {
        name: network.name.clone(),
        network: network.id.clone(),
        endpoint: super::endpoint_id(&record.id, &network.id),
        ipv4: if network.enable_ipv4 { given(true, &asked.ipv4_address) } else { None },
        ipv6: if network.enable_ipv6 { given(false, &asked.ipv6_address) } else { None },
        ..Place::default()
    }
}

/// Its addresses.
fn take(store: &Store, record: &Record) -> Result<Held> {
    leave(store, &record.id)?;
    let mut held = Held::default();
    let mut networks = Vec::new();
    {
        let _lock = stored::lock(store)?;
        for (name, settings) in &record.networks {
            let network = stored::find(store, name)?;
            // Addresses before the bridge: with one in use, the default bridge keeps its subnet.
            let network = super::bridge::ensure(store, network)?;
            let inside = interface::name(&network, settings, &held.places, record.networks.values())?;
            let place = place(store, record, name, &network, settings, inside);
            held.places.push(place?);
            save(store, &record.id, &held)?;
            networks.push(network);
        }
        rules(store, record, &networks)?;
    }
    super::links::enter(store, record)?;
    ways::choose(record, &mut held);
    Ok(held)
}

/// Loads the rules for a container that is on these networks, if it goes by rules. Whether it does.
pub fn rules(store: &Store, record: &Record, networks: &[Network]) -> Result<bool> {
    if record.publishing.passes_others {
        firewall::pass_others(store, true)?;
    }
    let by_rules = !record.publishing.forwarder && firewall::ensure(store, !record.publishing.leaves_forwarding)?;
    // Another container may go by rules.
    let is_loaded = by_rules || firewall::is_loaded(store)?;
    networks.iter().try_for_each(|network| super::bridge::routes_loopback(network, is_loaded))?;
    Ok(by_rules)
}

/// Leases a place on a network, for a link of this name inside. The caller holds the lock of networks.
pub fn place(
    store: &Store,
    record: &Record,
    name: &str,
    network: &Network,
    settings: &EndpointSettings,
    inside: String,
) -> Result<Place> {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    let mut place = Place {
        name: name.to_owned(),
        network: network.id.clone(),
        endpoint: super::endpoint_id(&record.id, &network.id),
        link: match network.driver == stored::BRIDGE {
            true => format!("veth{}", &store::random_name()?[..10]),
            false => String::new(),
        },
        inside,
        ..Place::default()
    };
    let give = |four: bool, asked: &str| -> Result<Option<Given>> {
        let wanted: Option<IpAddr> = match asked {
            "" => None,
            text => Some(text.parse().with_context(|| format!("invalid IP address: {text}"))?),
        };
        let fits = |pool: &Pool| pool.subnet.is_ipv4() == four && wanted.is_none_or(|it| pool.subnet.contains(it));
        let Some(pool) = stored::pools(network).find(fits) else {
            match wanted {
                Some(address) => bail!(Refusal::BadParameter(format!(
                    "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {address}"
                ))),
                None => return Ok(None),
            }
        };
        let address = lease::take(store, &network.id, &pool, &record.id, wanted)?;
        Ok(Some(Given { address, prefix: pool.subnet.prefix, gateway: ways::way_out(network, &pool) }))
    };
    place.ipv4 = if network.enable_ipv4 { give(true, &asked.ipv4_address)? } else { None };
    place.ipv6 = if network.enable_ipv6 { give(false, &asked.ipv6_address)? } else { None };
    for text in asked.link_local_ips.iter().flatten() {
        place.link_local.push(text.parse().with_context(|| format!("invalid link-local IP address: {text}"))?);
    }
    place.sysctls = tune::of(settings)?;
    place.mac = match settings.mac_address.as_str() {
        "" => mac(&place)?,
        text => link::parse_mac(text).with_context(|| format!("invalid MAC address: {text}"))?,
    };
    Ok(place)
}

/// A hardware address that goes with the address, so that neighbours who remember one have the other right.
fn mac(place: &Place) -> Result<Mac> {
    match place.ipv4.map(|given| given.address) {
        Some(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            Ok([0x02, 0x42, a, b, c, d])
        }
        _ => {
            let [a, b, c, d] = store::random_bytes::<4>()?;
            Ok([0x02, 0x42, a, b, c, d])
        }
    }
}

/// Makes the links of a container in its network namespace, and opens its published ports. The namespace, where it is to
/// be kept over restarts: also of one that is on no network now, and comes to one later.
pub fn connect(store: &Store, mode: &str, held: &Held, namespace: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
    let Some(namespace) = namespace.filter(|_| has_networks(mode)) else { return Ok(None) };
    if !held.places.is_empty() {
        within(store, || make_links(store, held, &namespace))?;
    }
    Ok(Some(namespace))
}

fn make_links(store: &Store, held: &Held, namespace: &OwnedFd) -> Result<()> {
    for place in &held.places {
        connect_place(store, place, namespace, held.publishes())
            .with_context(|| format!("connect to network {}", place.name))?;
    }
    crate::failpoint::reach("network.connected");
    if held.ports.is_empty() && !held.cooperates {
        return Ok(());
    }
    let _lock = firewall::lock(store)?;
    firewall::open(store, &held.ports)?;
    if held.cooperates { obstacles::cooperate(store, [held]) } else { Ok(()) }
}

/// Makes one link.
pub fn connect_place(store: &Store, place: &Place, namespace: &OwnedFd, hairpin: bool) -> Result<()> {
    let network = stored::load(store, &place.network)?
        .ok_or_else(|| Refusal::NotFound(format!("network {} not found", place.name)))?;
    let outside = Socket::route()?;
    let inside = netlink::inside(namespace, || {
        // New links get no address of IPv6 of the kernel's own making on networks that have none.
        set_ipv6("default", place.ipv6.is_some());
        // Those that come up tell their neighbours of the addresses of IPv4 that they have.
        let _ = std::fs::write("/proc/sys/net/ipv4/conf/default/arp_notify", "1");
        Socket::route()
    })??;
    if let Some(kind) = parent::kind(&network)? {
        let parent = parent::ensure(&network)?;
        let mtu = network.options.contains_key(stored::MTU).then(|| stored::mtu(&network));
        let (name, mac) = (&place.inside, place.mac);
        link::make_shared(&outside, &link::Shared { kind, parent, name, mac, mtu, namespace: namespace.as_fd() })
            .with_context(|| format!("make a link of the kind {}", kind.name()))?;
        set_sysctls(namespace, place)?;
        let link = set_up(&inside, &network, place)?;
        return announce(&outside, &inside, namespace, &link, place);
    }
    let name = stored::link_name(&network);
    let bridge = link::find(&outside, &name)?.with_context(|| format!("there is no link {name}"))?;
    link::make_veth(
        &outside,
        &Veth {
            name: &place.link,
            bridge: bridge.index,
            mtu: stored::mtu(&network),
            mac: theirs::is_theirs(&network).then(|| theirs::high(place.mac)),
            peer: &place.inside,
            peer_mac: place.mac,
            namespace: namespace.as_fd(),
        },
    )
    .context("make a pair of links")?;
    let port = Port { hairpin, isolated: !stored::is_on(&network.options, stored::ICC, true) };
    if port != Port::default() {
        link::set_port(&outside, &place.link, port).context("set up the port of the bridge")?;
    }
    set_sysctls(namespace, place)?;
    let link = set_up(&inside, &network, place)?;
    announce(&outside, &inside, namespace, &link, place)
}

/// Before its link is up: some hold from then on only.
fn set_sysctls(namespace: &OwnedFd, place: &Place) -> Result<()> {
    match place.sysctls.is_empty() {
        true => Ok(()),
        false => netlink::inside(namespace, || tune::set(&place.sysctls, &place.inside))?,
    }
}

/// The end inside: up, with its addresses and routes. The kernel tells its neighbours of those of IPv4 that it comes up with.
fn set_up(inside: &Socket, network: &Network, place: &Place) -> Result<Link> {
    let peer = link::find(inside, &place.inside)?.context("the link inside is not there")?;
    let add = |four: bool| -> Result<()> {
        for address in place.link_local.iter().filter(|address| address.is_ipv4() == four) {
            let subnet = address::link_local(*address).context("a prefix")?;
            address::add(inside, peer.index, *address, subnet).context("set its link-local address")?;
        }
        for given in place.given().filter(|given| given.address.is_ipv4() == four) {
            let subnet = Subnet::new(given.address, given.prefix).context("a prefix")?;
            address::add(inside, peer.index, given.address, subnet).context("set its address")?;
        }
        Ok(())
    };
    add(true)?;
    link::set_up(inside, peer.index).context("set the link inside up")?;
    add(false)?;
    for given in place.given() {
        if let Some(gateway) = given.gateway.filter(|gateway| place.ways().any(|way| way == *gateway)) {
            address::set_default_route(inside, peer.index, gateway).context("set its default route")?;
        } else if !network.internal && !parent::has_gateway(network) {
            let four = given.address.is_ipv4();
            address::set_default_link(inside, peer.index, four).context("set its default route")?;
        }
    }
    Ok(peer)
}

/// Tells the neighbours whose addresses these are now, who may remember somebody else. Who is not told finds out when
/// nobody answers.
fn announce(outside: &Socket, inside: &Socket, namespace: &OwnedFd, link: &Link, place: &Place) -> Result<()> {
    let Some(mac) = link.mac else { return Ok(()) };
    for _ in 0..OPENINGS {
        if place.link.is_empty() || link::is_open(outside, &place.link).unwrap_or(true) {
            break;
        }
        std::thread::sleep(OPENING);
    }
    let addresses = || place.link_local.iter().copied().chain(place.given().map(|given| given.address));
    if addresses().any(|address| address.is_ipv4())
        && let Err(error) = link::announce(inside, link.index, mac)
    {
        log::debug!("tell the neighbours of {}: {error}", link::mac_text(mac));
    }
    if addresses().all(|address| address.is_ipv4()) {
        return Ok(());
    }
    netlink::inside(namespace, || {
        for address in addresses() {
            if let IpAddr::V6(address) = address
                && let Err(error) = address::advertise(link.index, mac, address)
            {
                log::debug!("tell the neighbours of {address}: {error}");
            }
        }
    })?;
    Ok(())
}

/// Takes a link away from a container that runs.
pub fn unlink(place: &Place, namespace: &OwnedFd) -> Result<()> {
    let delete = || match place.link.as_str() {
        "" => link::delete(&netlink::inside(namespace, Socket::route)??, &place.inside),
        name => link::delete(&Socket::route()?, name),
    };
    delete().context("delete its link")
}

/// In the namespace in which this is called. A kernel without IPv6 has no such file.
fn set_ipv6(link: &str, on: bool) {
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), if on { "0" } else { "1" });
}

/// Gives back what a container holds. The kernel takes its links with its namespace; nobody waits for that.
pub fn leave(store: &Store, container: &str) -> Result<()> {
    let path = path(store, container);
    match path.exists() {
        true => within(store, || part(store, container, &path)),
        false => Ok(()),
    }
}

fn part(store: &Store, container: &str, path: &Path) -> Result<()> {
    // One that was cut off says nothing: then only its addresses are left, which are free once it does not live.
    let held = held(store, container).unwrap_or_default();
    let _lock = firewall::lock(store)?;
    firewall::close(store, &held.ports)?;
    if held.cooperates {
        obstacles::part(store, container)?;
    }
    crate::failpoint::reach("network.closed");
    super::names::remove(store, container)?;
    super::links::leave(store, container)?;
    for place in &held.places {
        for given in place.given() {
            lease::release(store, &place.network, given.address, container)?;
        }
    }
    store::remove(path)
}

/// What every container holds that lives.
pub fn all_held(store: &Store) -> Result<Vec<(String, Held)>> {
    let mut all = Vec::new();
    for id in store::read_dir(&store.run.join("containers"))? {
        let held = held(store, &id)?;
        if held != Held::default() && record::held(store, &id)?.shim {
            all.push((id, held));
        }
    }
    Ok(all)
}
