//! Networks of users: made, removed, and containers that come to them and leave them while they run.

use super::super::Settings;
use super::super::containers::{self, Now};
use super::super::filters::Filters;
use super::super::locks::{self, Lock, byte};
use super::super::query::Prune;
use super::super::record::Record;
use super::super::rootless::{self, network::within};
use super::super::store::{self, Store};
use super::super::{etc, events, protocol, shim};
use super::join::{self, Entry, Held, Place};
use super::stored;
use super::ways::Moves;
use super::{
    bridge, configured, firewall, interface, is_predefined, lease, names, obstacles, parent, publish, tune, wanted,
    ways,
};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{
    EndpointAddresses, EndpointSettings, Endpoints, HostConfig, Network, NetworkConnect, NetworkCreate, NetworkCreated,
    NetworkDisconnect, NetworksPruned,
};
use crate::log;
use crate::net::{address, link};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Makes a network, with its bridge. Either it is there whole when this returns, or nothing of it is.
pub fn create(store: &Store, settings: &Settings, mut asked: NetworkCreate) -> Result<NetworkCreated> {
    let driver = if asked.driver.is_empty() { stored::BRIDGE } else { &asked.driver };
    let defaults = settings.default_network_opts.get(driver).filter(|_| asked.config_from.is_none());
    for (key, value) in defaults.into_iter().flatten() {
        asked.options.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
    wanted::families(&mut asked)?;
    configured::check(&asked)?;
    wanted::check(&asked)?;
    if rootless::is_inside() && matches!(asked.driver.as_str(), "macvlan" | "ipvlan") {
        bail!(Refusal::Forbidden(format!(
            "networks of the driver {} need root: links of this host are his",
            asked.driver
        )));
    }
    within(store, || make(store, settings, asked))
}

fn make(store: &Store, settings: &Settings, mut asked: NetworkCreate) -> Result<NetworkCreated> {
    let _lock = stored::lock(store)?;
    let others = stored::all(store)?;
    if others.iter().any(|other| other.name == asked.name) {
        bail!(Refusal::Conflict(format!("network with name {} already exists", asked.name)));
    }
    if asked.config_only {
        let network = configured::network(asked)?;
        stored::save(store, &network, None)?;
        tell(store, &network, "create", None);
        return Ok(NetworkCreated { id: network.id, ..NetworkCreated::default() });
    }
    configured::apply(&mut asked, &others)?;
    wanted::check(&asked)?;
    let asked_for = asked.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten()).count();
    for attempt in 1.. {
        let (network, is_found) = wanted::network(store, settings, asked.clone(), &others)?;
        parent::check(&network, &others)?;
        stored::save(store, &network, is_found.then_some(&settings.default_address_pools))?;
        crate::failpoint::reach("netcreate.saved");
        let Err(error) = bridge::ensure(store, network.clone()).and_then(|_| firewall::refresh(store)) else {
            tell(store, &network, "create", None);
            return Ok(NetworkCreated { warning: wanted::unused(&network), id: network.id });
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

pub fn bad(text: String) -> anyhow::Error {
    Refusal::BadParameter(text).into()
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
    configured::check_unused(network, &stored::with_files(store)?)?;
    // Its bridge first: one without a file would be nobody's.
    bridge::remove(store, network)?;
    crate::failpoint::reach("netrm.unbridged");
    stored::remove(store, &network.id)?;
    store::remove(&stored::live(store, &network.id))?;
    firewall::refresh(store)?;
    // As with Docker, of a configuration only its beginning is told.
    if !network.config_only {
        tell(store, network, "destroy", None);
    }
    Ok(())
}

/// Removes the networks of users that no running container is on. Filters: `until`, `label`, `label!`.
pub fn prune(store: &Store, filters: &Filters) -> Result<NetworksPruned> {
    let prune = Prune::new(filters)?;
    let mut deleted = Vec::new();
    let may_go = |network: &Network| !is_predefined(&network.name) && !network.config_only;
    for network in stored::with_files(store)?.into_iter().filter(may_go) {
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
fn check_no_network_of_a_user(settings: &EndpointSettings) -> Result<()> {
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
fn check_settings(store: &Store, network: &Network, settings: &EndpointSettings) -> Result<()> {
    configured::check_network(network)?;
    let asked = settings.ipam_config.clone().unwrap_or_default();
    if is_predefined(&network.name) {
        check_no_network_of_a_user(settings)?;
    }
    for (text, family, is_ipv4) in [(&asked.ipv4_address, "IPv4", true), (&asked.ipv6_address, "IPv6", false)] {
        let is_one = |address: &IpAddr| address.is_ipv4() == is_ipv4 && !address.is_unspecified();
        if !text.is_empty() && !text.parse().as_ref().is_ok_and(is_one) {
            return Err(bad(format!("invalid endpoint settings:\ninvalid {family} address: {text}")));
        }
    }
    // Its subnet may be another one tomorrow.
    if !asked.ipv4_address.is_empty() && stored::found_in(store, network)?.is_some() {
        return Err(bad("invalid endpoint settings:\nuser specified IP address is supported only when connecting to \
                        networks with user configured subnets"
            .to_owned()));
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
    interface::asked(settings)?;
    let known = [tune::OPTION, interface::NAME];
    let mut options = settings.driver_opts.iter().flatten().map(|(key, _)| key);
    if let Some(key) = options.find(|key| key.starts_with(wanted::DOCKERS) && !known.contains(&key.as_str())) {
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

/// The networks of a new container by their names, with what was asked of each.
pub fn asked(store: &Store, host: &HostConfig, asked: Option<Endpoints>) -> Result<Endpoints> {
    let mode = host.network_mode.as_str();
    let has_mac = || asked.iter().flatten().any(|(_, settings)| !settings.mac_address.is_empty());
    if (mode == "host" || mode.starts_with("container:")) && has_mac() {
        bail!(Refusal::BadParameter("conflicting options: mac-address and the network mode".to_owned()));
    }
    if mode.starts_with("container:") {
        asked.iter().flatten().try_for_each(|(_, settings)| check_no_network_of_a_user(settings))?;
        return Ok(Endpoints::new());
    }
    // As with Docker, one that is not there may come before the start, which misses it otherwise.
    let find = |name: &str| match stored::find(store, name) {
        Err(error) if containers::is_not_found(&error) => Ok(None),
        found => found.map(Some),
    };
    let first = find(mode)?.map_or_else(|| mode.to_owned(), |network| network.name);
    let mut all = Endpoints::from([(first, EndpointSettings::default())]);
    for (name, settings) in asked.into_iter().flatten() {
        let network = find(&name)?;
        if let Some(network) = &network {
            check_settings(store, network, &settings)?;
        }
        all.insert(network.map_or(name, |network| network.name), settings);
    }
    let apart = all.keys().find(|name| matches!(name.as_str(), "host" | "none"));
    if let Some(name) = apart.filter(|_| all.len() > 1) {
        bail!(Refusal::BadParameter(format!(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes: {name}"
        )));
    }
    Ok(all)
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

/// One whose networks are to change, and who holds it is the only one to do so.
fn with_networks(store: &Store, container: &str) -> Result<(Lock, Now)> {
    let id = containers::find(store, container)?;
    store::make_dirs(&store.live(&id), 0o711)?;
    let lock = locks::exclusive(&store.live(&id).join("lock"), byte::NETWORKS)?;
    let now = containers::now(store, &id)?;
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
    let network = stored::find(store, wanted)?;
    match network.name.as_str() {
        "host" => bail!(Refusal::BadParameter(
            "cannot connect container to host network - container must be created in host network mode".to_owned()
        )),
        "none" => bail!(Refusal::BadParameter(PRIVATE.to_owned())),
        _ => {}
    }
    let (_one, now) = with_networks(store, &asked.container)?;
    name_of_mode(&now.record)?;
    let settings = asked.endpoint_config.unwrap_or_default();
    check_settings(store, &network, &settings)?;
    let id = &now.record.id;
    let exists = || {
        Refusal::Forbidden(format!("endpoint with name {} already exists in network {}", now.record.name, network.name))
    };
    if now.record.networks.contains_key(&network.name) {
        bail!(exists());
    }
    if now.doing.is_alive() {
        let mut with = now.record.clone();
        with.networks.insert(network.name.clone(), settings.clone());
        let mut held = join::held(store, id)?;
        held.places.retain(|place| place.network != network.id);
        let before = ways::way(&held);
        held.places.push(join::prospect_of(store, &with, &network, &settings));
        ways::choose(&with, &mut held);
        // What it does without where it is stays so.
        let leaves = before.is_some() && before == ways::way(&held);
        // On the host, which nobody comes back to; and before anything is made.
        let more = publish::more(store, &with, held, leaves)?;
        within(store, || join(store, &network, &now, &with, more))?;
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

/// `with` is its record with the network, and `more` the ports of the host that it has there and had not before.
fn join(store: &Store, network: &Network, now: &Now, with: &Record, more: Entry) -> Result<()> {
    let id = &now.record.id;
    let namespace = namespace(store, now)?;
    let _lock = stored::lock(store)?;
    let mut held = join::held(store, id)?;
    // What a killed command began.
    if let Some(at) = held.places.iter().position(|place| place.network == network.id) {
        let place = held.places.remove(at);
        join::unlink(&place, &namespace)?;
        give_back(store, now, &place, &held)?;
    }
    let before = held.clone();
    let settings = with.networks.get(&network.name).context("a network that is asked for")?;
    let network = bridge::ensure(store, network.clone())?;
    let inside = interface::name(&network, settings, &held.places, now.record.networks.values())?;
    let place = join::place(store, &now.record, &network.name, &network, settings, inside);
    // What was leased of it before it failed is found free once the container has ended.
    held.places.push(place?);
    join::save(store, id, &held)?;
    crate::failpoint::reach("connect.placed");
    join::rules(store, &now.record, std::slice::from_ref(&network))?;
    let place = held.places.last().context("a place")?.clone();
    let connect = |held: &mut Held| {
        join::connect_place(store, &place, &namespace, before.publishes() || !more.held.parked.is_empty())?;
        hand_over(store, id, held, more)
    };
    if let Err(error) = connect(&mut held) {
        // Where there is one.
        let _ = join::unlink(&place, &namespace);
        give_back(store, now, &place, &before)?;
        return Err(error.context(format!("connect to network {}", network.name)));
    }
    crate::failpoint::reach("connect.linked");
    ways::route(with, &mut held, &namespace)?;
    let moves = ways::lead(store, with, &mut held)?;
    move_ports(store, &held, &moves, || {
        join::save(store, id, &held)?;
        crate::failpoint::reach("connect.moved");
        Ok(())
    })?;
    tell_shim(store, id, &moves);
    etc::change_hosts(store, with, &held)?;
    if names::are_resolved(&held) {
        names::write(store, with, &held)?;
        names::ask_shim(store, id)?;
    }
    etc::change_resolv_conf(store, with, &before, &held)
}

/// Has the shim of a running container hold ports of the host that were bound for it, which lead nowhere yet.
fn hand_over(store: &Store, id: &str, held: &mut Held, more: Entry) -> Result<()> {
    let bound = more.held.parked;
    if bound.is_empty() {
        return Ok(());
    }
    let before = held.parked.clone();
    held.parked.retain(|port| !bound.iter().any(|it| (it.protocol, it.host) == (port.protocol, port.host)));
    held.parked.extend(bound);
    // Whoever comes after one that was killed here finds that nobody holds them.
    join::save(store, id, held)?;
    crate::failpoint::reach("ports.bound");
    let served: Vec<OwnedFd> = more.served.into_iter().map(|(socket, ..)| socket).collect();
    let give = || -> Result<()> {
        let stream = shim::connect(store, &shim::Whose::container(id))?;
        shim::hand_over(&mut stream.context("it has just ended")?, &more.sockets, &served)
    };
    if let Err(error) = give() {
        held.parked = before;
        join::save(store, id, held)?;
        return Err(error.context(format!("hand published ports over to container {id}")));
    }
    Ok(())
}

/// Has rules follow ports that lead elsewhere now, or nowhere, and saves what is held in between. Whoever loads the table
/// anew meanwhile waits, and finds them as they are then.
fn move_ports(store: &Store, held: &Held, moves: &Moves, save: impl FnOnce() -> Result<()>) -> Result<()> {
    let _firewall = firewall::lock(store)?;
    firewall::close(store, &moves.closed)?;
    save()?;
    firewall::open(store, &moves.opened)?;
    match held.cooperates && !moves.opened.is_empty() {
        true => obstacles::cooperate(store, [held]),
        false => Ok(()),
    }
}

/// Tells the shim of a running container of ports that lead elsewhere now. One that does not hear of it has nothing that
/// passes on what comes to them for more than a moment without use.
fn tell_shim(store: &Store, id: &str, moves: &Moves) {
    let tell = || -> Result<()> {
        let Some(mut stream) = shim::connect(store, &shim::Whose::container(id))? else { return Ok(()) };
        shim::tell(&mut stream, protocol::Message::new(protocol::Op::Moved, 0, 0), &[])
    };
    if moves.all().next().is_some()
        && let Err(error) = tell()
    {
        log::debug!("tell the shim of {id} of its ports: {error:#}");
    }
}

fn give_back(store: &Store, now: &Now, place: &Place, held: &Held) -> Result<()> {
    for given in place.given() {
        lease::release(store, &place.network, given.address, &now.record.id)?;
    }
    join::save(store, &now.record.id, held)
}

/// Takes a container away from a network; by force also from one that is gone, to which it would come at its next start.
pub fn disconnect(store: &Store, wanted: &str, asked: &NetworkDisconnect) -> Result<()> {
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
        let the = if now.doing.is_alive() { "" } else { "the " };
        bail!("container {id} is not connected to {the}network {}", network.name);
    }
    if network.name == "host" {
        let words = "cannot disconnect container from host network - container was created in host network mode";
        bail!(Refusal::BadParameter(words.to_owned()));
    }
    name_of_mode(&now.record)?;
    if now.doing.is_alive() {
        let mut held = join::held(store, id)?;
        held.places.retain(|place| place.network != network.id);
        ways::choose(&now.record, &mut held);
        // It has left in any case, so that it does without those that somebody else has.
        let more = publish::more(store, &now.record, held, true)?;
        within(store, || part(store, &network, &now, more))?;
    }
    forget(store, id, &network.name)?;
    if now.doing.is_alive() {
        tell(store, &network, "disconnect", Some(id));
    }
    Ok(())
}

/// `more` are the ports of the host that it has on what is left and had not before.
fn part(store: &Store, network: &Network, now: &Now, more: Entry) -> Result<()> {
    let id = &now.record.id;
    let namespace = namespace(store, now)?;
    let _lock = stored::lock(store)?;
    let before = join::held(store, id)?;
    let mut held = before.clone();
    let Some(at) = held.places.iter().position(|place| place.network == network.id) else {
        // A killed command may not have come to the rules.
        return firewall::mend(store);
    };
    let place = held.places.remove(at);
    join::unlink(&place, &namespace)?;
    crate::failpoint::reach("disconnect.unlinked");
    ways::route(&now.record, &mut held, &namespace)?;
    // Still on its place as far as others know.
    let places = std::mem::replace(&mut held.places, before.places.clone());
    if let Err(error) = hand_over(store, id, &mut held, more) {
        log::debug!("{error:#}");
    }
    held.places = places;
    let moves = ways::lead(store, &now.record, &mut held)?;
    move_ports(store, &held, &moves, || {
        give_back(store, now, &place, &held)?;
        crate::failpoint::reach("disconnect.moved");
        Ok(())
    })?;
    tell_shim(store, id, &moves);
    etc::change_hosts(store, &now.record, &held)?;
    if names::are_resolved(&before) {
        names::write(store, &now.record, &held)?;
    }
    etc::change_resolv_conf(store, &now.record, &before, &held)
}

fn forget(store: &Store, id: &str, network: &str) -> Result<()> {
    Record::update(store, id, |record| {
        record.networks.remove(network);
        Ok(())
    })?;
    Ok(())
}
