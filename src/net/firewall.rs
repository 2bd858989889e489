//! Our one table. What it holds follows from the networks and the published ports, so that it can be made anew as a
//! whole; a port that comes or goes changes an element of a map, and the rules that are for it alone.
//!
//! ```text
//! raw          what comes from elsewhere to 127/8 is dropped, and what a port is not open to
//! input        the same of what is meant for a bridge's own address
//! prerouting   published ports: from outside and from containers      ┐ any, at (and any6, at6):
//! output       the same, from this host, but for its ::1              ┘ [address .] protocol . port → address . port
//! postrouting  containers go out under this host's address; and to each other, where a published port leads back
//! forward      networks are apart, and nobody comes to a container's own address, but as its network says; if forwarding
//!              is on for us alone, nobody else is forwarded
//! opened       the ports of containers that are come to by their own addresses, where forward looks
//! ```
//!
//! A rule of another table may still drop what ours lets through. With br_netfilter these chains see frames of others'
//! bridges, too: no rule may match what only passes there, so that those who would name links, and not addresses alone.

use super::address::octets;
use super::nftables::{ACCEPT, Batch, DROP, Field, Hook, INET, IPV4, IPV6, Map, Name, Rule};
use super::{Families, Subnet, link, nftables, port, ruleset};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A bridge, as far as packets are concerned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bridge {
    pub link: String,
    pub subnets: Vec<Subnet>,
    /// Containers leave under the host's address. Otherwise others can answer to their own.
    pub masquerade: bool,
    /// Nothing leaves or enters.
    pub internal: bool,
    /// Containers do not reach each other.
    pub apart: bool,
    /// Families of which whoever has a route reaches what is published, under its own address.
    pub routed: Families,
    /// The same of every port.
    pub unprotected: Families,
    /// On a bridge that is somebody else's too, what its containers have addresses of: no rule is for others on it.
    pub shared: Option<Vec<Subnet>>,
}

impl Bridge {
    /// A rule for what goes to its containers; where others are on it, one for each range of theirs.
    fn to(&self, rule: Rule) -> Vec<Rule> {
        match &self.shared {
            None => vec![rule],
            Some(ranges) => ranges.iter().map(|range| rule.clone().to(*range)).collect(),
        }
    }

    /// The same for what comes from them.
    fn from(&self, rule: Rule) -> Vec<Rule> {
        match &self.shared {
            None => vec![rule],
            Some(ranges) => ranges.iter().map(|range| rule.clone().from(*range)).collect(),
        }
    }
}

/// A published port.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Address and port of the host; an unspecified address stands for all of that family.
    pub host: SocketAddr,
    pub container: SocketAddr,
    /// From elsewhere it is reached by these alone; by everybody where nothing is said.
    pub from: Option<Vec<Subnet>>,
    /// What this host sends to it by its loopback is left to who listens there.
    pub by_loopback: bool,
    /// No port of the host is led there: the container's own is open to whoever has a route.
    pub routed: bool,
    /// Links by which others come to the container's own port, too, as far as they may come to that of the host.
    pub trusted: Vec<String>,
}

impl Mapping {
    /// A port of the host that everybody may reach.
    pub fn new(protocol: u8, host: SocketAddr, container: SocketAddr) -> Mapping {
        Mapping { protocol, host, container, from: None, by_loopback: false, routed: false, trusted: Vec::new() }
    }

    /// A port of a container on a routed network: no address of the host stands for it.
    pub fn routed(protocol: u8, container: SocketAddr) -> Mapping {
        let any = if container.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let host = SocketAddr::new(any, 0);
        Mapping { routed: true, ..Mapping::new(protocol, host, container) }
    }
}

/// All that the table follows from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub bridges: Vec<Bridge>,
    pub mappings: Vec<Mapping>,
    /// We turned forwarding on: what is not ours is not forwarded, as before.
    pub forwards_for_us: bool,
    /// Tells this state's bridges from another's; kept with the table, see [`loaded`].
    pub fingerprint: String,
}

const ANY: Map = Map { name: "any", key: &[Field::Protocol, Field::Port], data: &[Field::Ipv4, Field::Port] };
const AT: Map =
    Map { name: "at", key: &[Field::Ipv4, Field::Protocol, Field::Port], data: &[Field::Ipv4, Field::Port] };
const ANY6: Map = Map { name: "any6", key: &[Field::Protocol, Field::Port], data: &[Field::Ipv6, Field::Port] };
const AT6: Map =
    Map { name: "at6", key: &[Field::Ipv6, Field::Protocol, Field::Port], data: &[Field::Ipv6, Field::Port] };
const MAPS: [Map; 4] = [ANY, AT, ANY6, AT6];
/// Bridges by which something came, each with itself; see [`Rule::stays_on_bridge`].
const BRIDGES: &str = "bridges";
const BRIDGES_ID: u32 = MAPS.len() as u32 + 1;

const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;

/// Priorities (nft(8)).
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

const CHAINS: [(&str, &str, Hook, i32); 6] = [
    ("raw", "filter", Hook::Prerouting, RAW),
    ("prerouting", "nat", Hook::Prerouting, DESTINATION_NAT),
    ("output", "nat", Hook::Output, DESTINATION_NAT),
    ("postrouting", "nat", Hook::Postrouting, SOURCE_NAT),
    ("input", "filter", Hook::Input, FILTER),
    ("forward", "filter", Hook::Forward, FILTER),
];

/// Where [`openings`] are.
const OPENED: &str = "opened";

/// The fingerprint of the state that is loaded; `None` where there is no table.
pub fn loaded(table: &str) -> io::Result<Option<String>> {
    nftables::comment(table)
}

/// Makes the table anew, in one step, in place of the one that is there as the caller knows from [`loaded`].
pub fn replace(table: &str, state: &State, is_there: bool) -> io::Result<()> {
    match batch(table, state, is_there).commit() {
        // Somebody has taken it away since.
        Err(error) if is_there && error.raw_os_error() == Some(libc::ENOENT) => batch(table, state, false).commit(),
        done => done,
    }
}

/// Adds published ports to a table that is there. Fails where it is not, or where a port is in it already.
pub fn add(table: &str, mappings: &[Mapping]) -> io::Result<()> {
    let mut batch = Batch::new(table);
    for (map, elements) in by_map(mappings) {
        batch.add(map.name, &elements);
    }
    // Before whatever all ports have in common.
    let rules: Vec<_> = mappings.iter().flat_map(rules_of).collect();
    rules.into_iter().rev().for_each(|(chain, rule)| batch.insert(chain, rule));
    batch.commit()
}

/// The opposite of [`add`]; what is not there is gone.
pub fn remove(table: &str, mappings: &[Mapping]) -> io::Result<()> {
    let own: Vec<Rule> = mappings.iter().flat_map(rules_of).map(|(_, rule)| rule).collect();
    let mut rules = if own.is_empty() { Vec::new() } else { ruleset::rules(INET, table, None)? };
    rules.retain(|rule| own.iter().any(|own| own.is_called(&rule.comment)));
    let batch = |mappings: &[Mapping], rules: &[ruleset::Rule]| {
        let mut batch = Batch::new(table);
        by_map(mappings).for_each(|(map, elements)| batch.remove(map.name, &elements));
        rules.iter().for_each(|rule| batch.delete_rule(&rule.chain, rule.handle));
        batch
    };
    let is_gone = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
    match batch(mappings, &rules).commit() {
        Err(error) if is_gone(&error) => {
            let mappings = mappings.iter().map(|one| batch(std::slice::from_ref(one), &[]));
            let parts = mappings.chain(rules.iter().map(|one| batch(&[], std::slice::from_ref(one))));
            let left: Vec<io::Error> = parts.filter_map(|part| part.commit().err()).collect();
            left.into_iter().find(|error| !is_gone(error)).map_or(Ok(()), Err)
        }
        done => done,
    }
}

/// Takes the table away; one that is not there is gone. Asked first: a batch that fails waits for all processors.
pub fn clear(table: &str) -> io::Result<()> {
    if loaded(table)?.is_none() {
        return Ok(());
    }
    let mut batch = Batch::new(table);
    batch.delete_table();
    match batch.commit() {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

/// Whether a table is that of any store.
pub fn is_ours(table: &str) -> bool {
    table == "dhow" || table.starts_with("dhow-")
}

/// Tables of other stores.
pub fn others(table: &str) -> io::Result<Vec<String>> {
    let all = ruleset::chains()?.into_iter().filter(|chain| chain.family == INET && chain.name == "forward");
    Ok(all.map(|chain| chain.table).filter(|other| other != table && is_ours(other)).collect())
}

/// Has the table of another store, which may drop what is not its own, let through what goes to and from containers of
/// ours on bridges that are no store's: bridges of stores it knows by their group. What of it, our own table says. Rules
/// bear the name of our table, and go when no bridge is given.
pub fn visit(other: &str, table: &str, bridges: &[Bridge]) -> io::Result<()> {
    for _ in 0..VISITS {
        match visit_once(other, table, bridges) {
            // It is made anew at this moment, or taken away.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            done => return done,
        }
    }
    Ok(())
}

const VISITS: usize = 5;

fn visit_once(other: &str, table: &str, bridges: &[Bridge]) -> io::Result<()> {
    let rules = ruleset::rules(INET, other, Some("forward"))?;
    let Some(last) = rules.last() else { return Ok(()) };
    let mut wanted = Vec::new();
    if is_drop(last) {
        for bridge in bridges {
            for range in bridge.shared.iter().flatten() {
                let says = |way: &str| format!("{table} {way} {} {range}", bridge.link);
                wanted.push((says("to"), Rule::new().leaves_by(Name::Is(&bridge.link)).to(*range)));
                wanted.push((says("from"), Rule::new().comes_by(Name::Is(&bridge.link)).from(*range)));
            }
        }
    }
    let there: Vec<&ruleset::Rule> = rules.iter().filter(|rule| visitor(rule) == Some(table)).collect();
    if there.iter().map(|rule| &rule.comment).eq(wanted.iter().map(|(comment, _)| comment)) {
        return Ok(());
    }
    let mut batch = Batch::new(other);
    there.iter().for_each(|rule| batch.delete_rule("forward", rule.handle));
    for (comment, rule) in wanted {
        batch.insert_before("forward", last.handle, rule.decide(ACCEPT).comment(&comment));
    }
    batch.commit()
}

/// Whether a rule drops whatever comes to it.
fn is_drop(rule: &ruleset::Rule) -> bool {
    let [only] = rule.expressions.as_slice() else { return false };
    only.name == "immediate" && only.get(2).and_then(ruleset::verdict).is_some_and(|it| it.code == DROP)
}

/// The table of the store that a rule in the table of another one is for.
fn visitor(rule: &ruleset::Rule) -> Option<&str> {
    rule.comment.split_once(' ').map(|(table, _)| table).filter(|table| is_ours(table))
}

/// Whether what is loaded, with the fingerprint of this state, is all of it: every chain, as many rules, and the elements.
pub fn is_whole(table: &str, state: &State) -> io::Result<bool> {
    let expected = rules(state);
    let names = || CHAINS.iter().map(|(name, ..)| *name).chain([OPENED]);
    let mut loaded = ruleset::rules(INET, table, None)?;
    loaded.retain(|rule| visitor(rule).is_none());
    let count = |chain: &str| loaded.iter().filter(|rule| rule.chain == chain).count();
    let chains = ruleset::chains()?;
    let has = |name: &str| chains.iter().any(|it| it.family == INET && it.table == table && it.name == name);
    let Some(mappings) = read(table)? else { return Ok(false) };
    Ok(names().all(|name| has(name) && count(name) == expected.iter().filter(|(chain, _)| *chain == name).count())
        && mappings.len() == state.mappings.len()
        && state
            .mappings
            .iter()
            .all(|mapping| mappings.iter().any(|it| it.host == mapping.host && it.protocol == mapping.protocol)))
}

/// The published ports that are loaded; `None` where there is no table.
pub fn read(table: &str) -> io::Result<Option<Vec<Mapping>>> {
    let mut mappings = Vec::new();
    for map in MAPS {
        match ruleset::elements(INET, table, map.name) {
            Ok(elements) => mappings.extend(elements.iter().filter_map(|element| mapping(&map, element))),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let guards = ruleset::rules(INET, table, Some("raw"))?;
    for mapping in &mut mappings {
        mapping.from = guards.iter().find(|rule| rule.comment == guard_name(mapping)).map(let_in);
    }
    for rule in ruleset::rules(INET, table, Some(OPENED))? {
        if let Some((link, name)) = rule.comment.strip_prefix("trusts ").and_then(|rest| rest.split_once(' ')) {
            let name = format!("{name} ");
            let known = mappings.iter_mut().find(|mapping| !mapping.routed && name.starts_with(&told(mapping)));
            // One rule for each source.
            match known.filter(|known| !known.trusted.iter().any(|known| known == link)) {
                Some(known) => known.trusted.push(link.to_owned()),
                None => continue,
            }
        }
        let Some((mapping, source)) = opened(&rule.comment) else { continue };
        match mappings
            .iter_mut()
            .find(|it| it.routed && (it.protocol, it.container) == (mapping.protocol, mapping.container))
        {
            Some(known) => known.from.get_or_insert_default().extend(source),
            None => mappings.push(Mapping { from: source.map(|source| vec![source]), ..mapping }),
        }
    }
    Ok(Some(mappings))
}

/// The opposite of [`element`].
fn mapping(map: &Map, element: &ruleset::Element) -> Option<Mapping> {
    let (mut key, mut data) = (element.key.as_slice(), element.data.as_slice());
    let four = matches!(map.name, "any" | "at");
    let address = |bytes: &mut &[u8]| -> Option<IpAddr> {
        let (some, rest) = bytes.split_at_checked(if four { 4 } else { 16 })?;
        *bytes = rest;
        super::address::from_octets(some)
    };
    let number = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let host = match map.key.len() {
        3 => address(&mut key)?,
        _ if four => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let inside = address(&mut data)?;
    let (host, container) = (SocketAddr::new(host, number(key.get(4..)?)?), SocketAddr::new(inside, number(data)?));
    Some(Mapping::new(*key.first()?, host, container))
}

const LOOPBACK: Subnet = Subnet { first: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 };

/// The rules that are for a port alone, with their chains. Each has a comment that no other port's has.
fn rules_of(mapping: &Mapping) -> Vec<(&'static str, Rule)> {
    if mapping.routed {
        return openings(mapping).into_iter().map(|rule| (OPENED, rule)).collect();
    }
    let guards = mapping.from.is_some().then(|| ("raw", guard(mapping)));
    let stays = mapping.by_loopback.then(|| ("output", by_loopback(mapping)));
    let open = trusts(mapping).into_iter().map(|rule| (OPENED, rule));
    guards.into_iter().chain(stays).chain(open).collect()
}

/// What a published port is called in comments; the blank keeps it from being the beginning of another one.
fn told(mapping: &Mapping) -> String {
    format!("{} {} ", port::name(mapping.protocol), mapping.host)
}

/// The rules that let through what comes to the container's own port by links that are trusted.
fn trusts(mapping: &Mapping) -> Vec<Rule> {
    let of = |link: &String| {
        opening(mapping, &format!("trusts {link} {}", told(mapping)), || Rule::new().comes_by(Name::Is(link)))
    };
    mapping.trusted.iter().flat_map(of).collect()
}

/// The rule that leaves what this host sends by its loopback to who listens there.
fn by_loopback(mapping: &Mapping) -> Rule {
    let Mapping { protocol, host, .. } = mapping;
    let rule = Rule::new().to(LOOPBACK).at_port(*protocol, host.port()).decide(ACCEPT);
    rule.comment(&format!("leaves {} {host}", port::name(*protocol)))
}

/// The comment of a guard: what it guards.
fn guard_name(mapping: &Mapping) -> String {
    format!("guards {} {}", port::name(mapping.protocol), mapping.host)
}

/// The rule that keeps all but some from a published port. What goes from this host to itself comes by its loopback.
fn guard(mapping: &Mapping) -> Rule {
    let four = mapping.host.is_ipv4();
    let rule = Rule::new().comes_by(Name::IsNot("lo"));
    let rule = match mapping.host.ip().is_unspecified() {
        true => rule.family(if four { IPV4 } else { IPV6 }).for_this_host(),
        false => rule.to(Subnet::alone(mapping.host.ip())),
    };
    let rule = rule.at_port(mapping.protocol, mapping.host.port());
    let ours = mapping.from.iter().flatten().filter(|subnet| subnet.is_ipv4() == four);
    let rule = ours.fold(rule, |rule, subnet| rule.not_from(*subnet));
    rule.decide(DROP).comment(&guard_name(mapping))
}

/// The rules that open a port of a container on a routed network, to everybody or to some. What they open stands in their
/// comments.
fn openings(mapping: &Mapping) -> Vec<Rule> {
    opening(mapping, &format!("opens {} {} ", port::name(mapping.protocol), mapping.container), Rule::new)
}

/// Rules that let through what comes to a container's own port, each for one of the sources that may reach it.
fn opening(mapping: &Mapping, name: &str, rule: impl Fn() -> Rule) -> Vec<Rule> {
    let (address, number) = (Subnet::alone(mapping.container.ip()), mapping.container.port());
    let rule = || rule().to(address).at_port(mapping.protocol, number);
    let Some(from) = &mapping.from else { return vec![rule().decide(ACCEPT).comment(name.trim_end())] };
    let ours = from.iter().filter(|subnet| subnet.is_ipv4() == mapping.container.is_ipv4());
    ours.map(|subnet| rule().from(*subnet).decide(ACCEPT).comment(&format!("{name}{subnet}"))).collect()
}

/// What a rule of these opens, as its comment says, and to whom.
fn opened(comment: &str) -> Option<(Mapping, Option<Subnet>)> {
    let mut words = comment.strip_prefix("opens ")?.split(' ');
    let protocol = port::protocol(words.next()?)?;
    let container: SocketAddr = words.next()?.parse().ok()?;
    let source = words.next().map(str::parse).transpose().ok()?;
    Some((Mapping::routed(protocol, container), source))
}

/// Whom a guard lets in: what it says of masked addresses that are not.
fn let_in(guard: &ruleset::Rule) -> Vec<Subnet> {
    let pairs = guard.expressions.windows(2).filter(|pair| pair[0].name == "bitwise" && pair[1].name == "cmp");
    let subnet = |pair: &[ruleset::Expression]| {
        let value = |expression: &ruleset::Expression, attribute| {
            expression.get(attribute).and_then(|datum| ruleset::find(datum, 1)).map(<[u8]>::to_vec)
        };
        let (mask, first) = (value(&pair[0], 4)?, value(&pair[1], 3)?);
        let prefix = mask.iter().map(|byte| byte.count_ones() as u8).sum();
        let is_not = pair[1].number(2) == Some(nftables::NOT_EQUAL);
        Subnet::new(super::address::from_octets(&first)?, prefix).filter(|_| is_not)
    };
    pairs.filter_map(subnet).collect()
}

/// The maps that have something of these ports, with that.
fn by_map(mappings: &[Mapping]) -> impl Iterator<Item = (Map, Vec<(Vec<u8>, Vec<u8>)>)> {
    MAPS.into_iter().map(|map| (map, elements(mappings, map))).filter(|(_, elements)| !elements.is_empty())
}

/// What a map has of these ports.
fn elements(mappings: &[Mapping], map: Map) -> Vec<(Vec<u8>, Vec<u8>)> {
    mappings.iter().filter(|mapping| !mapping.routed && map_of(mapping) == map).map(element).collect()
}

fn map_of(mapping: &Mapping) -> Map {
    match (mapping.host.is_ipv4(), mapping.host.ip().is_unspecified()) {
        (true, true) => ANY,
        (true, false) => AT,
        (false, true) => ANY6,
        (false, false) => AT6,
    }
}

/// Key and data.
fn element(mapping: &Mapping) -> (Vec<u8>, Vec<u8>) {
    let port = |port: u16| [port.to_be_bytes(), [0; 2]].concat();
    let mut key = Vec::new();
    if !mapping.host.ip().is_unspecified() {
        key.extend(octets(mapping.host.ip()));
    }
    key.extend([mapping.protocol, 0, 0, 0]);
    key.extend(port(mapping.host.port()));
    (key, [octets(mapping.container.ip()), port(mapping.container.port())].concat())
}

/// `again` says that there is one, which goes. To delete one that is made for that would have the kernel wait.
fn batch(table: &str, state: &State, again: bool) -> Batch {
    let mut batch = Batch::new(table);
    if again {
        batch.delete_table();
    }
    batch.table(&state.fingerprint);
    for (map, id) in MAPS.iter().zip(1..) {
        batch.map(map, id);
    }
    by_map(&state.mappings).for_each(|(map, elements)| batch.add(map.name, &elements));
    if state.forwards_for_us {
        batch.pairs_of_links(BRIDGES, BRIDGES_ID);
    }
    for (name, kind, hook, priority) in CHAINS {
        batch.chain(name, kind, hook, priority);
    }
    batch.inner_chain(OPENED);
    for (chain, rule) in rules(state) {
        batch.rule(chain, rule);
    }
    batch
}

fn rules(state: &State) -> Vec<(&'static str, Rule)> {
    let mut rules = Vec::new();
    // Bridges route for 127/8, for the sake of answers to this host; nobody else may come that way.
    rules.push(("raw", Rule::new().comes_by(Name::IsNot("lo")).to(LOOPBACK).decide(DROP)));
    rules.extend(state.mappings.iter().flat_map(rules_of));
    // The kernel lets nothing that was sent to ::1 leave: a program serves it.
    rules.push(("output", Rule::new().to(Subnet::alone(Ipv6Addr::LOCALHOST.into())).decide(ACCEPT)));
    for chain in ["prerouting", "output"] {
        for (family, any, at) in [(IPV4, 0, 1), (IPV6, 2, 3)] {
            rules.push((chain, Rule::new().redirect(family, &MAPS[at], at as u32 + 1)));
            rules.push((chain, Rule::new().for_this_host().redirect(family, &MAPS[any], any as u32 + 1)));
        }
    }
    for bridge in &state.bridges {
        let name = bridge.link.as_str();
        let subnets = bridge.shared.as_ref().unwrap_or(&bridge.subnets);
        for subnet in &bridge.subnets {
            // A bridge that is not ours has addresses of this host that others may well ask for.
            let is_open = bridge.routed.has(subnet.first) || bridge.unprotected.has(subnet.first);
            if (bridge.masquerade && !is_open || bridge.internal) && bridge.shared.is_none() {
                let outside = Rule::new().comes_by(Name::IsNot(name)).comes_by(Name::IsNot("lo"));
                rules.push(("input", outside.to(*subnet).decide(DROP)));
            }
            // By the host's address back to their own network: the answer must come back this way, too.
            let back = Rule::new().from(*subnet).leaves_by(Name::Is(name)).redirected();
            rules.extend(bridge.to(back).into_iter().map(|rule| ("postrouting", rule.masquerade())));
        }
        for subnet in subnets {
            if bridge.masquerade && !bridge.internal && !bridge.routed.has(subnet.first) {
                let leaves = Rule::new().comes_by(Name::Is(name)).from(*subnet).leaves_by(Name::IsNot(name));
                rules.push(("postrouting", leaves.masquerade()));
            }
        }
        // From this host's loopback, to a published port.
        if bridge.shared.is_none() {
            rules.push(("postrouting", Rule::new().from(LOOPBACK).leaves_by(Name::Is(name)).masquerade()));
        }
    }
    let is_bridge = |rule: Rule, from: &str, to: &str| rule.comes_by(Name::IsNot(from)).leaves_by(Name::Is(to));
    for bridge in state.bridges.iter().filter(|bridge| bridge.internal) {
        let link = bridge.link.as_str();
        let leaves = Rule::new().comes_by(Name::Is(link)).leaves_by(Name::IsNot(link));
        let both = [bridge.to(is_bridge(Rule::new(), link, link)), bridge.from(leaves)];
        rules.extend(both.into_iter().flatten().map(|rule| ("forward", rule.decide(DROP))));
    }
    // Their ports are kept apart, but by this host what they send could come back to the bridge.
    for bridge in state.bridges.iter().filter(|bridge| bridge.apart) {
        let link = bridge.link.as_str();
        for back in bridge.to(Rule::new().comes_by(Name::Is(link)).leaves_by(Name::Is(link))) {
            rules.push(("forward", back.clone().redirected().decide(ACCEPT)));
            rules.push(("forward", back.decide(DROP)));
        }
    }
    rules.push(("forward", Rule::new().established().decide(ACCEPT)));
    rules.push(("forward", Rule::new().look_into(OPENED)));
    for bridge in state.bridges.iter().filter(|bridge| !bridge.internal) {
        rules.extend(passes(bridge).into_iter().map(|rule| ("forward", rule.decide(ACCEPT))));
        for comes in bridge.to(is_bridge(Rule::new(), &bridge.link, &bridge.link)) {
            rules.push(("forward", comes.clone().redirected().decide(ACCEPT)));
            rules.push(("forward", comes.decide(DROP)));
        }
    }
    if state.forwards_for_us {
        for bridge in &state.bridges {
            let leaves = bridge.from(Rule::new().comes_by(Name::Is(&bridge.link)));
            rules.extend(leaves.into_iter().map(|rule| ("forward", rule.decide(ACCEPT))));
        }
        // Bridges of other stores: what goes there, and what does not, their tables say.
        rules.push(("forward", Rule::new().comes_by(Name::In(link::GROUP)).decide(ACCEPT)));
        rules.push(("forward", Rule::new().leaves_by(Name::In(link::GROUP)).decide(ACCEPT)));
        // Ours were decided about above. What only passes on a bridge of others is theirs to decide about.
        rules.push(("forward", Rule::new().stays_on_bridge(BRIDGES, BRIDGES_ID).decide(ACCEPT)));
        rules.push(("forward", Rule::new().decide(DROP)));
    }
    rules
}

/// What whoever has a route to the containers of a bridge may send them.
fn passes(bridge: &Bridge) -> Vec<Rule> {
    let comes = || bridge.to(Rule::new().comes_by(Name::IsNot(&bridge.link)).leaves_by(Name::Is(&bridge.link)));
    let families = [
        (IPV4, ICMP, bridge.routed.four, bridge.unprotected.four),
        (IPV6, ICMPV6, bridge.routed.six, bridge.unprotected.six),
    ];
    let mut rules = Vec::new();
    for (family, icmp, routed, unprotected) in families {
        let all = comes().into_iter().map(|rule| rule.family(family));
        match (routed, unprotected) {
            (_, true) => rules.extend(all),
            (true, _) => rules.extend(all.map(|rule| rule.protocol(icmp))),
            _ => {}
        }
    }
    rules
}

#[cfg(test)]
mod tests;
