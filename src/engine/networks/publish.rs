//! Published ports of a container: what was asked for, bound on the host.

use super::super::record::{Publishing, Record};
use super::super::rootless;
use super::super::settings::Settings;
use super::super::store::Store;
use super::join::{self, Entry, Held, Place, Published};
use super::modes::{self, Mode};
use super::obstacles::{self, Obstacle, Others};
use super::{stored, theirs};
use crate::api::Refusal;
use crate::api::types::{HostConfig, Network, PortBinding, PortMap, PortSummary};
use crate::log;
use crate::net::{Families, Subnet, nftables, port};
use crate::order;
use crate::order::{Map, Set};
use anyhow::{Context, Result, bail};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// How often a port of the kernel's choice is asked for anew, where it is free for one address and not for another.
const TRIES: usize = 32;

/// One line of what is asked for.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    protocol: u8,
    port: u16,
    /// `None` is every address.
    host: Option<IpAddr>,
    /// `0..=0` leaves the choice to the kernel.
    ports: RangeInclusive<u16>,
    from: Vec<Subnet>,
}

impl Asked {
    /// Whether a port of the host may have come of this line.
    fn is_for(&self, port: &Published) -> bool {
        (self.protocol, self.port) == (port.protocol, port.container.port())
            && (*self.ports.start() == 0 || self.ports.contains(&port.host.port()))
            && self.host.is_none_or(|host| host == port.host.ip())
    }
}

/// Labels that say from where ports are reached: all of a container's, or one (`dhow.publish.from.80/tcp`). For clients
/// that cannot say it of a port itself.
const FROM: &str = "dhow.publish.from";
type Labels = Map<String, String>;

/// Reads `80/tcp`.
pub fn key(text: &str) -> Result<(u16, u8)> {
    let (number, name) = text.split_once('/').unwrap_or((text, "tcp"));
    match (number.parse(), port::protocol(&name.to_ascii_lowercase())) {
        (Ok(number), Some(protocol)) if number > 0 => Ok((number, protocol)),
        (Err(_), Some(_)) => bail!(no_port(number)),
        _ => bail!(no_port(text)),
    }
}

fn no_port(text: &str) -> Refusal {
    Refusal::BadParameter(format!("invalid port specification: {text:?}"))
}

/// Refuses at create what could not be published.
pub fn check(host: &HostConfig, labels: Option<&Labels>) -> Result<()> {
    asked(host, &Set::new(), labels.unwrap_or(&Labels::new())).map(drop)
}

/// What the settings say of the ports of a new container.
pub fn publishing(settings: &Settings, host: &HostConfig) -> Publishing {
    Publishing {
        host: settings.ip.filter(|_| host.network_mode == stored::BRIDGE).or(settings.publish_default),
        cooperates: settings.firewall_cooperate || host.firewall_cooperate,
        forwarder: !settings.iptables,
        leaves_forwarding: !settings.ip_forward,
        passes_others: settings.ip_forward_no_drop,
        without_proxy: !settings.userland_proxy,
        host_gateways: settings.host_gateways(),
    }
}

/// What stands between others and the ports of a new container, in sentences. What cannot be asked now is left out.
pub fn obstacles(store: &Store, record: &Record) -> Vec<String> {
    // The host's firewall is not an ordinary user's to read.
    if rootless::is_inside() {
        return Vec::new();
    }
    let none = Labels::new();
    let exposed = Set::from_iter(record.config.exposed_ports.iter().flatten().map(|(port, _)| port.clone()));
    let labels = record.config.labels.as_ref().unwrap_or(&none);
    let mut asked = asked(&record.host_config, &exposed, labels).unwrap_or_default();
    // What only this host reaches is never forwarded.
    asked.retain(|asked| !asked.host.or(record.publishing.host).is_some_and(|host| host.is_loopback()));
    if record.publishing.cooperates {
        // What is opened at the start is no obstacle.
        return Vec::new();
    }
    let network = stored::find(store, &record.host_config.network_mode).ok();
    let Some(network) = network.filter(|network| network.driver == stored::BRIDGE && !asked.is_empty()) else {
        return Vec::new();
    };
    let told = || -> Result<Vec<String>> {
        let others = Others::read()?;
        let port = |asked: &Asked| obstacles::Port {
            is_ipv4: network.enable_ipv4,
            address: None,
            protocol: asked.protocol,
            number: asked.port,
        };
        let found = asked.iter().flat_map(|asked| others.of_port(&stored::link_name(&network), &port(asked)));
        Ok(Set::from_iter(found).iter().map(Obstacle::sentence).collect())
    };
    told().unwrap_or_else(|error| {
        log::debug!("{error:#}");
        Vec::new()
    })
}

/// Sources as they are written, with commas or blanks between them.
fn sources(text: &str) -> Result<Vec<Subnet>> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let subnet = |word: &str| {
        let wrong = || Refusal::BadParameter(format!("invalid source of a published port: {word:?}"));
        Subnet::parse_any(word).map_err(|_| anyhow::Error::from(wrong()))
    };
    words.map(subnet).collect()
}

fn labelled(labels: &Labels, port: u16, protocol: u8) -> Result<Vec<Subnet>> {
    let own = labels.get(&format!("{FROM}.{port}/{}", port::name(protocol)));
    own.or(labels.get(FROM)).map_or(Ok(Vec::new()), |text| match sources(text)? {
        none if none.is_empty() => bail!(Refusal::BadParameter(format!("no source in a label {FROM}"))),
        some => Ok(some),
    })
}

fn asked(host: &HostConfig, exposed: &Set<String>, labels: &Labels) -> Result<Vec<Asked>> {
    let mut list = Vec::new();
    for (key, text) in labels.iter().filter(|(key, _)| key.starts_with(FROM)) {
        sources(text)?;
        key[FROM.len()..].strip_prefix('.').map(self::key).transpose()?;
    }
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (port, protocol) = key(text)?;
        for PortBinding { host_ip, host_port, from } in bindings.iter().flatten() {
            let no_address =
                |_| Refusal::BadParameter(format!("invalid IP address of a published port: {host_ip}:{host_port}"));
            let host = match host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(no_address)?),
            };
            let (first, last) = host_port.split_once('-').unwrap_or((host_port, host_port));
            let number = |text: &str| match text {
                "" => Ok(0),
                text => text.parse::<u16>().map_err(|_| no_port(host_port)),
            };
            let ports = number(first)?..=number(last)?;
            if ports.is_empty() {
                bail!(no_port(host_port));
            }
            let from = match from.is_empty() {
                true => labelled(labels, port, protocol)?,
                false => sources(&from.join(","))?,
            };
            list.push(Asked { protocol, port, host, ports, from });
        }
    }
    if host.publish_all_ports {
        for text in exposed {
            let (port, protocol) = key(text)?;
            if !list.iter().any(|asked| (asked.port, asked.protocol) == (port, protocol)) {
                let from = labelled(labels, port, protocol)?;
                list.push(Asked { protocol, port, host: None, ports: 0..=0, from });
            }
        }
    }
    order::by_key(&mut list, |asked| (asked.port, asked.protocol, *asked.ports.start()));
    Ok(list)
}

/// What is said of a new container's ports where there is no firewall that could lead them to it.
pub fn without_rules(record: &Record) -> Option<String> {
    if !join::has_networks(&record.host_config.network_mode) {
        return None;
    }
    let why = match record.publishing.forwarder {
        true => "rules are turned off (iptables)",
        false if nftables::is_there() => return None,
        false => "this kernel has no nf_tables",
    };
    Some(format!(
        "{why}: published ports are passed on by a program, which hides who asks; containers are not masqueraded, and \
         networks are not kept apart"
    ))
}

/// What is said of ports of a container whose network has no way for them.
pub fn discarded(store: &Store, record: &Record) -> Option<String> {
    let host = &record.host_config;
    let publishes = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let network = stored::find(store, &host.network_mode).ok().filter(|_| publishes)?;
    let shared = matches!(network.driver.as_str(), "macvlan" | "ipvlan");
    shared.then(|| format!("Published ports are discarded when using {} network", network.driver))
}

fn asked_of(record: &Record) -> Result<Vec<Asked>> {
    let exposed = Set::from_iter(record.config.exposed_ports.iter().flatten().map(|(port, _)| port.clone()));
    asked(&record.host_config, &exposed, record.config.labels.as_ref().unwrap_or(&Labels::new()))
}

/// Binds all ports of a container. They lead to its address on the network that has its default routes.
pub fn reserve(store: &Store, record: &Record, entry: &mut Entry) -> Result<Vec<Published>> {
    match target(store, &entry.held)? {
        Some(place) => bind_all(store, record, &place, asked_of(record)?, entry, &[]),
        None => Ok(Vec::new()),
    }
}

/// Binds the ports of a container on internal networks alone, which lead nowhere until it comes to another one. Those that
/// somebody else has are missed then, and not now.
pub fn keep(store: &Store, record: &Record, entry: &mut Entry) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for place in entry.held.places.clone() {
        let is_bridge = stored::load(store, &place.network)?.is_some_and(|network| network.driver == stored::BRIDGE);
        if !is_bridge {
            continue;
        }
        all = bind_some(store, record, &place, entry, &[])?;
        break;
    }
    Ok(all)
}

/// Those that nobody else has.
fn bind_some(
    store: &Store,
    record: &Record,
    place: &Place,
    entry: &mut Entry,
    kept: &[Published],
) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for asked in asked_of(record)? {
        match bind_all(store, record, place, vec![asked], entry, kept) {
            Ok(bound) => all.extend(bound),
            Err(error) => log::debug!("{error:#}"),
        }
    }
    Ok(all)
}

/// Binds what a container that runs does not hold of its ports, and wants where its default routes will be: it has been on
/// routed networks, or somebody else had them. Those that somebody else has still are refused, or left to him. What comes
/// of it stands in the entry, as parked.
pub fn more(store: &Store, record: &Record, held: Held, leaves: bool) -> Result<Entry> {
    let mut entry = Entry { has_rules: join::has_rules(record), held, ..Entry::default() };
    // A command that was killed may have bound some, and not have handed them over.
    let is_held = |port: &Published| port::reserve(port.protocol, port.host).is_err();
    let kept: Vec<Published> = entry.held.parked.iter().filter(|port| is_held(port)).cloned().collect();
    let kept: Vec<Published> = entry.held.ports.iter().filter(|port| !port.routed).cloned().chain(kept).collect();
    let Some(place) = target(store, &entry.held)? else { return Ok(entry) };
    entry.held.parked = match leaves {
        true => bind_some(store, record, &place, &mut entry, &kept)?,
        false => bind_all(store, record, &place, asked_of(record)?, &mut entry, &kept)?,
    };
    Ok(entry)
}

/// The ports of a container that are open at its own addresses: on each of its networks that is routed, wherever its way out
/// is, as with Docker.
pub fn opened(store: &Store, record: &Record, held: &Held) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for place in &held.places {
        let Some(network) = stored::load(store, &place.network)? else { continue };
        let routed = of_network(&network);
        if routed == Families::default() {
            continue;
        }
        // Without rules nobody is kept out.
        if record.publishing.forwarder || !nftables::is_there() {
            break;
        }
        for asked in asked_of(record)? {
            let hosts = hosts(&asked, place, binding(record, &network), false).into_iter();
            for address in hosts.filter(|host| routed.has(*host)).filter_map(|host| inside(place, host)) {
                let container = SocketAddr::new(address, asked.port);
                let port = Published::routed(asked.protocol, container, asked.from.clone());
                if !all.contains(&port) {
                    all.push(port);
                }
            }
        }
    }
    Ok(all)
}

/// The address of the host at which ports are published that name none.
fn binding(record: &Record, network: &Network) -> IpAddr {
    // What a network of a user says is meant; the default bridge always says something.
    let of_network = network.options.get(stored::HOST_BINDING).filter(|_| network.name != stored::BRIDGE);
    let binding = of_network.and_then(|text| text.parse().ok()).or(record.publishing.host);
    binding.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// The families in which what is published on a network is the container's own port.
fn of_network(network: &Network) -> Families {
    match network.internal {
        true => Families::default(),
        false => modes::families(network, Mode::Routed),
    }
}

/// The families in which the ports of a container are not the host's, but its own: those that have their way out on routed
/// networks.
pub fn routed(store: &Store, held: &Held, network: &Network) -> Result<Families> {
    let mut routed = of_network(network);
    if let Some(place) = held.places.iter().find(|place| place.only6)
        && let Some(six) = stored::load(store, &place.network)?
    {
        routed.six = of_network(&six).six;
    }
    Ok(routed)
}

/// Binds ports of the host but for those that are kept already, whose numbers the others of the same line have.
fn bind_all(
    store: &Store,
    record: &Record,
    place: &Place,
    asked: Vec<Asked>,
    entry: &mut Entry,
    kept: &[Published],
) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    if asked.is_empty() {
        return Ok(all);
    }
    let network = stored::load(store, &place.network)?.with_context(|| format!("network {} not found", place.name))?;
    if network.driver != stored::BRIDGE {
        return Ok(all);
    }
    let binding = binding(record, &network);
    let (shared, proxy) = (theirs::is_theirs(&network), !record.publishing.without_proxy);
    let how = How { has_rules: entry.has_rules, shared, proxy, trusted: &modes::trusted(&network) };
    let routed = routed(store, &entry.held, &network)?;
    for mut asked in asked {
        // By the host's IPv6, too, a routed network is not come to by a program.
        let mut hosts = hosts(&asked, place, binding, how.proxy && !routed.four);
        hosts.retain(|host| !routed.has(*host));
        for port in kept.iter().filter(|port| asked.is_for(port)).collect::<Vec<_>>() {
            hosts.retain(|host| *host != port.host.ip());
            asked.ports = port.host.port()..=port.host.port();
        }
        let bound = bind(&asked, &hosts, place, entry, how).map_err(|(address, error)| {
            let what = conflict(store, record, place, &asked, address, &error, &all);
            let (name, id) = (&record.name, &place.endpoint);
            anyhow::anyhow!("driver failed programming external connectivity on endpoint {name} ({id}): {what}")
        });
        let bound = bound?;
        if asked.host.is_none() && binding.is_loopback() && how.proxy {
            serve_loopback(&bound, entry);
        }
        all.extend(bound);
    }
    Ok(all)
}

/// `localhost` is `::1` first: where ports are published on 127.0.0.1 unless they say otherwise, a program serves it too,
/// if nobody else has that port.
fn serve_loopback(bound: &[Published], entry: &mut Entry) {
    for port in bound.iter().filter(|port| port.host.is_ipv4()) {
        let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port.host.port());
        if let Ok((socket, _)) = port::listen(port.protocol, address) {
            entry.served.push((socket, port.protocol, address));
        }
    }
}

/// Where published ports lead: to the place that has the default routes, with its address of IPv6 on another network where
/// that has those.
pub fn target(store: &Store, held: &Held) -> Result<Option<Place>> {
    let Some(mut place) = held.places.iter().find(|place| place.gateway).cloned() else { return Ok(None) };
    if let Some(six) = held.places.iter().find(|place| place.only6)
        && stored::load(store, &six.network)?.is_some_and(|network| network.driver == stored::BRIDGE)
    {
        place.ipv6 = six.ipv6;
    }
    Ok(Some(place))
}

/// The host's addresses that stand for one line: the one that is named, or those of families that the container has an
/// address of; and as with Docker, those of IPv6 for a container of IPv4 alone, where a program may pass on what comes.
fn hosts(asked: &Asked, place: &Place, binding: IpAddr, proxy: bool) -> Vec<IpAddr> {
    let all: Vec<IpAddr> = match asked.host {
        Some(address) => vec![address],
        None if binding.is_unspecified() => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        None => vec![binding],
    };
    let named = all.len() == 1;
    let passed_on = |address: &IpAddr| proxy && address.is_ipv6() && asked.protocol != port::SCTP;
    all.into_iter().filter(|address| named || inside(place, *address).is_some() || passed_on(address)).collect()
}

/// Where what comes to an address of the host is led: to the container's address of the same family, by a rule, or to its
/// other one, by a program.
fn leads_to(place: &Place, host: IpAddr) -> Option<(IpAddr, bool)> {
    let other = [place.ipv4, place.ipv6].into_iter().flatten().map(|given| (given.address, true)).next();
    inside(place, host).map(|address| (address, false)).or(other)
}

/// The container's address of the same family.
pub fn inside(place: &Place, host: IpAddr) -> Option<IpAddr> {
    let given = if host.is_ipv4() { place.ipv4 } else { place.ipv6 };
    given.map(|given| given.address)
}

/// Whether a program listens at a port of all the host's addresses of IPv6: `::1` among them, which no rule leads away.
pub fn is_listened(port: &Published, record: &Record) -> bool {
    let host = port.host.ip();
    host.is_ipv6() && host.is_unspecified() && port.protocol != port::SCTP && !record.publishing.without_proxy
}

/// How ports come to their container.
#[derive(Clone, Copy)]
struct How<'a> {
    has_rules: bool,
    /// Its bridge is somebody else's.
    shared: bool,
    /// A program may serve what no rule leads there.
    proxy: bool,
    /// Of its network.
    trusted: &'a [String],
}

/// Binds the first port of the range that is free on all addresses.
fn bind(
    asked: &Asked,
    hosts: &[IpAddr],
    place: &Place,
    entry: &mut Entry,
    how: How<'_>,
) -> Result<Vec<Published>, (SocketAddr, std::io::Error)> {
    let tries: Vec<u16> = match *asked.ports.start() {
        0 => vec![0; TRIES],
        _ => asked.ports.clone().collect(),
    };
    let mut failed = None;
    'tries: for port in tries {
        let (mut some, mut served, mut bound, mut port) = (Vec::new(), Vec::new(), Vec::new(), port);
        for host in hosts {
            let address = SocketAddr::new(*host, port);
            let Some((inside, by_program)) = leads_to(place, *host) else { continue };
            // Nothing that was sent to ::1 leaves this host, nor to 127/8 by a bridge that does not route for that.
            let stays = (how.shared || host.is_ipv6()) && asked.protocol != port::SCTP;
            let by_program = by_program || !how.has_rules || stays && host.is_loopback();
            let by_loopback = !by_program && how.shared && host.is_ipv4() && host.is_unspecified();
            let listens = by_program || stays && host.is_unspecified() && how.proxy;
            let take = if listens { port::listen } else { port::reserve };
            match take(asked.protocol, address) {
                Ok((socket, number)) => {
                    port = number;
                    let address = SocketAddr::new(*host, number);
                    match listens {
                        true => served.push((socket, asked.protocol, address)),
                        false => some.push(socket),
                    }
                    bound.push(Published {
                        protocol: asked.protocol,
                        host: address,
                        container: SocketAddr::new(inside, asked.port),
                        from: asked.from.clone(),
                        served: by_program,
                        by_loopback,
                        routed: false,
                        trusted: how.trusted.to_vec(),
                    });
                }
                // A host without IPv6.
                Err(error)
                    if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && asked.host.is_none() && host.is_ipv6() => {}
                Err(error) => {
                    failed = Some((address, error));
                    continue 'tries;
                }
            }
        }
        entry.sockets.extend(some);
        entry.served.extend(served);
        return Ok(bound);
    }
    failed.map_or(Ok(Vec::new()), Err)
}

/// Docker's words for a port that cannot be had: another container's, or a program's of the host.
fn conflict(
    store: &Store,
    record: &Record,
    place: &Place,
    asked: &Asked,
    address: SocketAddr,
    error: &std::io::Error,
    before: &[Published],
) -> String {
    let same = |port: &Published| {
        let (ours, theirs) = (address.ip(), port.host.ip());
        port.protocol == asked.protocol
            && port.host.port() == address.port()
            && (ours == theirs || ours.is_unspecified() || theirs.is_unspecified())
    };
    let others = join::all_held(store).unwrap_or_default();
    let theirs = |held: &Held| held.ports.iter().chain(&held.parked).any(same);
    if before.iter().any(same) || others.iter().any(|(id, held)| *id != record.id && theirs(held)) {
        return format!("Bind for {address} failed: port is already allocated");
    }
    let inside = leads_to(place, address.ip()).map_or(String::new(), |(inside, _)| inside.to_string());
    let why = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "address already in use".to_owned(),
        Some(libc::EPROTONOSUPPORT) if asked.protocol == port::SCTP => "this kernel has no SCTP".to_owned(),
        Some(libc::EACCES) => "ports below net.ipv4.ip_unprivileged_port_start are root's".to_owned(),
        Some(libc::EADDRNOTAVAIL) => "cannot assign requested address".to_owned(),
        _ => error.to_string(),
    };
    format!("failed to bind host port for {address}:{inside}:{}/{}: {why}", asked.port, port::name(asked.protocol))
}

/// The ports of a container as inspect tells them: those that are exposed only are null.
pub fn map(record: &Record, held: &Held) -> PortMap {
    if held.places.is_empty() {
        return PortMap::new();
    }
    let exposed = record.config.exposed_ports.iter().flatten();
    let mut map: Map<String, Option<Vec<PortBinding>>> = Map::from_iter(exposed.map(|(port, _)| (port.clone(), None)));
    for port in &held.ports {
        let key = format!("{}/{}", port.container.port(), port::name(port.protocol));
        let host_ip = port.host.ip().to_string();
        let host_port = if port.routed { String::new() } else { port.host.port().to_string() };
        let binding = PortBinding { host_ip, host_port, from: Vec::new() };
        let list = map.entry(key).or_default().get_or_insert_default();
        // A port that is open on several networks is one.
        if !port.routed || !list.contains(&binding) {
            list.push(binding);
        }
    }
    map
}

/// The same as list tells them.
pub fn summary(record: &Record, held: &Held) -> Vec<PortSummary> {
    let mut list = Vec::new();
    for (text, bindings) in map(record, held) {
        let Ok((private_port, protocol)) = key(&text) else { continue };
        let port = PortSummary { private_port, r#type: port::name(protocol).to_owned(), ..PortSummary::default() };
        match bindings {
            None => list.push(port),
            Some(bindings) => list.extend(bindings.into_iter().map(|binding| PortSummary {
                ip: binding.host_ip,
                public_port: binding.host_port.parse().unwrap_or(0),
                ..port.clone()
            })),
        }
    }
    list
}

#[cfg(test)]
mod tests;
