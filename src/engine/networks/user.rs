//! Networks of users: made, removed, and containers that come to them and leave them while they run.

use super::super::Settings;
use super::super::containers::{self, Now};
use super::super::filters::Filters;
use super::super::locks::{self, Lock, byte};
use super::super::query::Prune;
use super::super::record::Record;
use super::super::rootless::{self, network::within};
use super::super::store::{self, Store};
use super::super::{etc, events};
use super::join::{self, Held, Place, Published};
use super::stored::{self, Pool};
use super::{bridge, firewall, is_predefined, lease, names, parent, theirs, tune};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{
    EndpointAddresses, EndpointSettings, Ipam, IpamConfig, Network, NetworkConnect, NetworkCreate, NetworkCreated,
    NetworkDisconnect, NetworksPruned,
};
use crate::api::units::parse_bool;
use crate::net::{Subnet, address, link};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Makes a network, with its bridge. Either it is there whole when this returns, or nothing of it is.
pub fn create(store: &Store, settings: &Settings, mut asked: NetworkCreate) -> Result<NetworkCreated> {
    let driver = if asked.driver.is_empty() { stored::BRIDGE } else { &asked.driver };
    for (key, value) in settings.default_network_opts.get(driver).into_iter().flatten() {
        asked.options.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
    check(&asked)?;
    if rootless::is_inside() && matches!(asked.driver.as_str(), "macvlan" | "ipvlan") {
        bail!(Refusal::Forbidden(format!(
            "networks of the driver {} need root: links of this host are his",
            asked.driver
        )));
    }
    within(store, || make(store, settings, asked))
}

fn make(store: &Store, settings: &Settings, asked: NetworkCreate) -> Result<NetworkCreated> {
    let _lock = stored::lock(store)?;
    let others = stored::all(store)?;
    if others.iter().any(|other| other.name == asked.name) {
        bail!(Refusal::Conflict(format!("network with name {} already exists", asked.name)));
    }
    let asked_for = asked.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten()).count();
    for attempt in 1.. {
        let (network, is_found) = network(store, settings, asked.clone(), &others)?;
        parent::check(&network, &others)?;
        stored::save(store, &network, is_found.then_some(&settings.default_address_pools))?;
        crate::failpoint::reach("netcreate.saved");
        let Err(error) = bridge::ensure(store, network.clone()).and_then(|_| firewall::refresh(store)) else {
            tell(store, &network, "create", None);
            return Ok(NetworkCreated { id: network.id, warning: String::new() });
        };
        // What cannot be undone now is undone by its removal.
        let _ = stored::remove(store, &network.id);
        let _ = bridge::remove(store, &network);
        let chosen = network.ipam.config.iter().flatten().count() > asked_for;
        if !chosen || !bridge::is_taken(&error) || attempt == bridge::CHOICES {
            return Err(error);
        }
        bridge::step_aside(attempt)?;
    }
    bail!("no choice of subnets is made")
}

fn tell(store: &Store, network: &Network, action: &str, container: Option<&str>) {
    let mut attributes = vec![("name", network.name.as_str()), ("type", network.driver.as_str())];
    attributes.extend(container.map(|container| ("container", container)));
    events::other(store, "network", action, &network.id, &attributes);
}

fn bad(text: String) -> anyhow::Error {
    Refusal::BadParameter(text).into()
}

/// What could be no network, and what this release does not do.
fn check(asked: &NetworkCreate) -> Result<()> {
    let later = |what: &str| Err(Refusal::NotImplemented(format!("{what} come with a later release of dhow")).into());
    if asked.name.trim().is_empty() || asked.name.contains(['/', '\\']) || asked.name.chars().any(char::is_control) {
        return Err(bad(format!("{:?} is not a valid network name", asked.name)));
    }
    if is_predefined(&asked.name) || matches!(asked.name.as_str(), "default") || asked.name.starts_with("container:") {
        bail!(Refusal::Forbidden(format!("operation is not permitted on predefined {} network", asked.name)));
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
    let configured = asked.config_from.as_ref().is_some_and(|from| !from.network.is_empty());
    if asked.config_only || configured {
        return later("networks that are only a configuration");
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
    }
    if asked.enable_ipv4 == Some(false) && asked.enable_ipv6 != Some(true) {
        return Err(bad("IPv4 or IPv6 must be enabled".to_owned()));
    }
    Ok(())
}

/// Options of a bridge that Docker knows. What it does not know it ignores, and so do we.
fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    for key in [stored::ICC, stored::MASQUERADE] {
        if let Some(text) = options.get(key).filter(|text| parse_bool(text).is_none()) {
            return Err(bad(format!("invalid value of {key}: {text}")));
        }
    }
    for (key, text) in options {
        let is_usual = match key.strip_prefix(DOCKERS) {
            None | Some("bridge.name" | "bridge.default_bridge" | "bridge.host_binding_ipv4" | "driver.mtu") => true,
            Some("bridge.enable_icc" | "bridge.enable_ip_masquerade") => true,
            Some("bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6") => matches!(text.as_str(), "" | "nat"),
            Some("bridge.inhibit_ipv4") => parse_bool(text) == Some(false),
            Some(_) => false,
        };
        if !is_usual {
            bail!(Refusal::NotImplemented(format!("networks with {key}={text} are not supported")));
        }
    }
    Ok(())
}

/// How the names of options begin that Docker's own drivers know.
const DOCKERS: &str = "com.docker.network.";

/// The network that was asked for, with what it did not say, and whether its subnet of IPv4 is among that.
fn network(store: &Store, settings: &Settings, asked: NetworkCreate, others: &[Network]) -> Result<(Network, bool)> {
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
    for one in &mut config {
        let pool = complete(one).map_err(|error| match error.downcast_ref() {
            // Docker's words.
            Some(Refusal::BadParameter(text)) => bad(format!("invalid network config:\n{text}")),
            _ => error,
        })?;
        let wanted = if pool.subnet.is_ipv4() { four } else { six };
        if !wanted {
            let family = if pool.subnet.is_ipv4() { 4 } else { 6 };
            return Err(bad(format!("invalid subnet {}: IPv{family} is not enabled for this network", pool.subnet)));
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
        complete(&mut one)?;
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
        ipam: Ipam {
            driver: "default".to_owned(),
            options: Some(ipam.options.unwrap_or_default()),
            config: Some(config),
        },
        internal: asked.internal,
        attachable: asked.attachable,
        options,
        labels: asked.labels.unwrap_or_default(),
        ..Network::default()
    };
    Ok((network, is_found))
}

/// Reads one subnet, and gives it a gateway where it has none: the first address.
fn complete(config: &mut IpamConfig) -> Result<Pool> {
    let mut pool = stored::pool(config)?;
    if pool.subnet.host_bits() < 1 {
        return Err(bad(format!("invalid subnet {}: there is no room for a gateway and a container", pool.subnet)));
    }
    config.subnet = pool.subnet.to_string();
    if pool.gateway.is_none() {
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

/// Removes a network that no running container is on.
pub fn remove(store: &Store, wanted: &str) -> Result<()> {
    let network = stored::find(store, wanted)?;
    if is_predefined(&network.name) {
        bail!(Refusal::Forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
    }
    within(store, || unmake(store, &network))
}

fn unmake(store: &Store, network: &Network) -> Result<()> {
    lease::sweep(store)?;
    let _lock = stored::lock(store)?;
    if let Some((holder, _)) = lease::holders(store, &network.id)?.first() {
        let name = Record::load(store, holder)?.map(|record| record.name).unwrap_or_default();
        let id = super::endpoint_id(holder, &network.id);
        bail!(Refusal::Forbidden(format!(
            "error while removing network: network {} has active endpoints (name:\"{name}\" id:\"{}\")",
            network.name,
            &id[..12]
        )));
    }
    // Its bridge first: one without a file would be nobody's.
    bridge::remove(store, network)?;
    crate::failpoint::reach("netrm.unbridged");
    stored::remove(store, &network.id)?;
    store::remove(&stored::live(store, &network.id))?;
    firewall::refresh(store)?;
    tell(store, network, "destroy", None);
    Ok(())
}

/// Removes the networks of users that no running container is on. Filters: `until`, `label`, `label!`.
pub fn prune(store: &Store, filters: &Filters) -> Result<NetworksPruned> {
    let prune = Prune::new(filters)?;
    let mut deleted = Vec::new();
    for network in stored::with_files(store)?.into_iter().filter(|network| !is_predefined(&network.name)) {
        let created = Time::parse(&network.created).unwrap_or_default();
        if !prune.takes(created, Some(&network.labels)) {
            continue;
        }
        match remove(store, &network.id) {
            Ok(()) => deleted.push(network.name),
            // In use, or removed by somebody else meanwhile.
            Err(error) if error.downcast_ref::<Refusal>().is_some() => {}
            Err(error) => return Err(error).context("prune networks"),
        }
    }
    super::rest(store);
    events::other(store, "network", "prune", "", &[("reclaimed", "0")]);
    Ok(NetworksPruned { networks_deleted: (!deleted.is_empty()).then_some(deleted) })
}

/// Refuses what holds on networks of users alone.
pub fn check_no_network_of_a_user(settings: &EndpointSettings) -> Result<()> {
    let has_address = |it: &EndpointAddresses| !it.ipv4_address.is_empty() || !it.ipv6_address.is_empty();
    if settings.ipam_config.as_ref().is_some_and(has_address) {
        return Err(bad("user specified IP address is supported on user defined networks only".to_owned()));
    }
    if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
        return Err(bad("network-scoped alias is supported only for containers in user defined networks".to_owned()));
    }
    Ok(())
}

/// Refuses what cannot hold on a network.
pub fn check_settings(network: &Network, settings: &EndpointSettings) -> Result<()> {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    if is_predefined(&network.name) {
        check_no_network_of_a_user(settings)?;
    }
    for text in asked.link_local_ips.iter().flatten() {
        let address: IpAddr = text.parse().map_err(|_| bad(format!("invalid link-local IP address: {text}")))?;
        // Any other may be somebody's.
        if !address::is_link_local(address) {
            return Err(bad(format!("invalid endpoint settings:\n{text} is no link-local address")));
        }
        if address.is_ipv6() && !network.enable_ipv6 {
            let name = &network.name;
            return Err(bad(format!("invalid endpoint settings:\n{text}: IPv6 is not enabled on network {name}")));
        }
    }
    for link in settings.links.iter().flatten() {
        super::links::split(link)?;
    }
    tune::of(settings)?;
    let mut options = settings.driver_opts.iter().flatten().map(|(key, _)| key).filter(|key| *key != tune::OPTION);
    if let Some(key) = options.find(|key| key.starts_with(DOCKERS)) {
        bail!(Refusal::NotImplemented(format!("the option {key} of a container on a network is not supported")));
    }
    for text in [&asked.ipv4_address, &asked.ipv6_address].into_iter().filter(|text| !text.is_empty()) {
        let address = text.parse().map_err(|_| bad(format!("invalid IP address: {text}")))?;
        let pool = stored::pools(network).find(|pool| pool.subnet.contains(address));
        let Some(pool) = pool else {
            return Err(bad(format!(
                "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {text}"
            )));
        };
        if !pool.subnet.is_host(address) {
            return Err(bad(format!(
                "invalid endpoint settings:\n{text} is no address of a container in {}",
                pool.subnet
            )));
        }
    }
    if !settings.mac_address.is_empty() && link::parse_mac(&settings.mac_address).is_none() {
        return Err(bad(format!("invalid MAC address: {}", settings.mac_address)));
    }
    Ok(())
}

const PRIVATE: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";

fn name_of_mode(record: &Record) -> Result<()> {
    if join::has_networks(&record.host_config.network_mode) {
        return Ok(());
    }
    let words = match record.host_config.network_mode.as_str() {
        "none" => PRIVATE,
        _ => {
            "container sharing network namespace with another container or host cannot be connected to any other network"
        }
    };
    bail!(Refusal::BadParameter(words.to_owned()))
}

/// One that may change its networks, and who holds it is the only one to do so.
fn with_networks(store: &Store, container: &str) -> Result<(Lock, Now)> {
    let id = containers::find(store, container)?;
    store::make_dirs(&store.live(&id), 0o711)?;
    let lock = locks::exclusive(&store.live(&id).join("lock"), byte::NETWORKS)?;
    let now = containers::now(store, &id)?;
    name_of_mode(&now.record)?;
    Ok((lock, now))
}

fn namespace(store: &Store, now: &Now) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", now.live.pid);
    let namespace = File::open(&path).with_context(|| format!("open {path}"));
    // If it lives still, nobody else had its pid meanwhile.
    let after = containers::now(store, &now.record.id)?;
    if !after.doing.is_alive() || after.live.pid != now.live.pid {
        bail!(Refusal::Conflict(format!("container {} has just ended", now.record.id)));
    }
    Ok(namespace?.into())
}

/// Brings a container to a network; one that runs at once, another one with its next start.
pub fn connect(store: &Store, wanted: &str, asked: NetworkConnect) -> Result<()> {
    within(store, || join(store, wanted, asked))
}

fn join(store: &Store, wanted: &str, asked: NetworkConnect) -> Result<()> {
    let network = stored::find(store, wanted)?;
    match network.name.as_str() {
        "host" => bail!(Refusal::BadParameter(
            "cannot connect container to host network - container must be created in host network mode".to_owned()
        )),
        "none" => bail!(Refusal::BadParameter(PRIVATE.to_owned())),
        _ => {}
    }
    let (_one, now) = with_networks(store, &asked.container)?;
    let settings = asked.endpoint_config.unwrap_or_default();
    check_settings(&network, &settings)?;
    let id = &now.record.id;
    let exists = || {
        Refusal::Forbidden(format!("endpoint with name {} already exists in network {}", now.record.name, network.name))
    };
    if now.record.networks.contains_key(&network.name) {
        bail!(exists());
    }
    if now.doing.is_alive() {
        let namespace = namespace(store, &now)?;
        let _lock = stored::lock(store)?;
        let mut held = join::held(store, id)?;
        // What a killed command began.
        if let Some(at) = held.places.iter().position(|place| place.network == network.id) {
            let place = held.places.remove(at);
            join::unlink(&place, &namespace)?;
            give_back(store, &now, &place, &held)?;
        }
        let before = held.clone();
        let network = bridge::ensure(store, network.clone())?;
        let number = (0..).find(|number| !held.places.iter().any(|place| place.inside == format!("eth{number}")));
        let place = join::place(store, &now.record, &network.name, &network, &settings, number.unwrap_or(0));
        // What was leased of it before it failed is found free once the container has ended.
        held.places.push(place?);
        join::save(store, id, &held)?;
        crate::failpoint::reach("connect.placed");
        join::rules(store, &now.record, std::slice::from_ref(&network))?;
        let place = held.places.last().context("a place")?.clone();
        if let Err(error) = join::connect_place(store, &place, &namespace, held.publishes()) {
            held.places.pop();
            give_back(store, &now, &place, &held)?;
            return Err(error.context(format!("connect to network {}", network.name)));
        }
        crate::failpoint::reach("connect.linked");
        let mut with = now.record.clone();
        with.networks.insert(network.name.clone(), settings.clone());
        join::route(&with, &mut held, &namespace)?;
        // Published ports move with the way out.
        let (closed, mut moved) = join::astray(store, &held)?;
        close(store, &closed)?;
        held.ports.retain(|port| !closed.contains(port));
        held.ports.extend(moved.iter().cloned());
        // So do those that led nowhere since it left its last one.
        let parked = held.parked.clone();
        moved.extend(join::unpark(store, &mut held, &parked)?);
        join::save(store, id, &held)?;
        crate::failpoint::reach("connect.moved");
        open(store, &moved, &closed)?;
        etc::change_hosts(store, &with, &held)?;
        if names::are_resolved(&held) {
            names::write(store, &with, &held)?;
            names::ask_shim(store, id)?;
        }
        etc::change_resolv_conf(store, &with, &before, &held)?;
    }
    Record::update(store, id, |record| {
        record.networks.insert(network.name.clone(), settings);
        Ok(())
    })?;
    if now.doing.is_alive() {
        tell(store, &network, "connect", Some(id));
    }
    Ok(())
}

fn close(store: &Store, ports: &[Published]) -> Result<()> {
    let _firewall = firewall::lock(store)?;
    firewall::close(store, ports)
}

/// Opens ports that led elsewhere before.
fn open(store: &Store, ports: &[Published], before: &[Published]) -> Result<()> {
    firewall::open(store, ports)?;
    if before.iter().any(firewall::has_rules) {
        let _firewall = firewall::lock(store)?;
        firewall::drop_rules(store)?;
    }
    Ok(())
}

fn give_back(store: &Store, now: &Now, place: &Place, held: &Held) -> Result<()> {
    for given in place.given() {
        lease::release(store, &place.network, given.address, &now.record.id)?;
    }
    join::save(store, &now.record.id, held)
}

/// Takes a container away from a network; by force also from one that is gone, to which it would come at its next start.
pub fn disconnect(store: &Store, wanted: &str, asked: &NetworkDisconnect) -> Result<()> {
    within(store, || part(store, wanted, asked))
}

fn part(store: &Store, wanted: &str, asked: &NetworkDisconnect) -> Result<()> {
    let network = match stored::find(store, wanted) {
        Err(error) if asked.force && containers::is_not_found(&error) => {
            return match with_networks(store, &asked.container) {
                Ok((_one, now)) if now.record.networks.contains_key(wanted) => forget(store, &now.record.id, wanted),
                _ => Err(error),
            };
        }
        network => network?,
    };
    let (_one, now) = with_networks(store, &asked.container)?;
    let id = &now.record.id;
    if !now.record.networks.contains_key(&network.name) {
        bail!("container {id} is not connected to network {}", network.name);
    }
    if now.doing.is_alive() {
        let namespace = namespace(store, &now)?;
        let _lock = stored::lock(store)?;
        let before = join::held(store, id)?;
        let mut held = before.clone();
        if let Some(at) = held.places.iter().position(|place| place.network == network.id) {
            let place = held.places.remove(at);
            join::unlink(&place, &namespace)?;
            crate::failpoint::reach("disconnect.unlinked");
            let gone = |port: &Published| place.given().any(|given| given.address == port.container.ip());
            let closed: Vec<Published> = held.ports.iter().filter(|port| gone(port)).cloned().collect();
            close(store, &closed)?;
            held.ports.retain(|port| !gone(port));
            join::route(&now.record, &mut held, &namespace)?;
            // They lead to another of its addresses from now on, if there is one.
            let moved = join::unpark(store, &mut held, &closed)?;
            give_back(store, &now, &place, &held)?;
            crate::failpoint::reach("disconnect.moved");
            open(store, &moved, &closed)?;
            etc::change_hosts(store, &now.record, &held)?;
            if names::are_resolved(&before) {
                names::write(store, &now.record, &held)?;
            }
            etc::change_resolv_conf(store, &now.record, &before, &held)?;
        } else {
            // A killed command may not have come to the rules.
            firewall::mend(store)?;
        }
    }
    forget(store, id, &network.name)?;
    if now.doing.is_alive() {
        tell(store, &network, "disconnect", Some(id));
    }
    Ok(())
}

fn forget(store: &Store, id: &str, network: &str) -> Result<()> {
    Record::update(store, id, |record| {
        record.networks.remove(network);
        Ok(())
    })?;
    Ok(())
}
