//! Networks: `none`, a namespace with nothing but loopback; `host`, the host's own; and bridges, the default one and
//! those of users. What exists is in `networks/`, what is held in the run directory and in the kernel.
//!
//! Lock order: networks → firewall; see [`super::locks`].

mod bridge;
mod configured;
mod firewall;
mod heirs;
mod interface;
mod join;
mod lease;
pub mod links;
mod modes;
pub mod names;
mod obstacles;
mod parent;
mod publish;
mod reach;
mod stored;
mod theirs;
pub mod tune;
mod user;
mod wanted;
mod ways;

use crate::log;
pub use firewall::{
    marks as firewall_marks, mend as mend_firewall, table as firewall_table, watch_path as firewall_watch,
};
pub use join::{Entry, Held, Target, are_held, connect, enter, has_networks, held, leave, resume, targets};
pub use publish::{check as check_ports, discarded, obstacles, publishing, summary as port_summary, without_rules};
pub use reach::published;
pub use stored::{find, is_link};
pub use user::{asked, connect as join_network, create, disconnect, prune, remove};

use super::containers;
use super::events;
use super::filters::Filters;
use super::record::Record;
use super::rootless::network::{self, within};
use super::settings::Settings;
use super::store::Store;
use crate::api::Refusal;
use crate::api::types::{EndpointSettings, Endpoints, Event, Network, NetworkContainer, NetworkSettings};
use crate::net::link::{self, mac_text};
use crate::net::netlink::Socket;
use crate::oci::hex;
use anyhow::{Result, bail};
use join::Place;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Whether this is the store of the host, whose links and rules bear no tag.
fn is_default(store: &Store) -> bool {
    store.root == Path::new(super::DEFAULT_ROOT)
}

/// The id of a network that every store has: the same for as long as the store stands in its place.
pub fn id(store: &Store, name: &str) -> String {
    hashed(&[b"network", store.root.as_os_str().as_bytes(), name.as_bytes()])
}

fn endpoint_id(container: &str, network: &str) -> String {
    hashed(&[b"endpoint", container.as_bytes(), network.as_bytes()])
}

fn hashed(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hex(&hash.finalize())
}

/// Whether a mode, or the name or id of a network, stands for the default bridge.
fn is_default_bridge(store: &Store, wanted: &str) -> Result<bool> {
    Ok(wanted == stored::BRIDGE || wanted != "none" && find(store, wanted)?.name == stored::BRIDGE)
}

fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

/// The address by which a container reaches this host: the gateway of the default bridge; for one that is not on it, that
/// of its own network, which is there in any case, and which nothing keeps it from.
pub fn host_gateway(store: &Store, held: &Held) -> Result<IpAddr> {
    let is_on_bridge = held.places.iter().any(|place| place.name == stored::BRIDGE);
    if let Some(place) = held.places.iter().find(|place| place.gateway && !is_on_bridge)
        && let Some(gateway) = place.given().find_map(|given| given.gateway)
        // Of other drivers the gateway is another machine.
        && stored::load(store, &place.network)?.is_some_and(|network| network.driver == stored::BRIDGE)
    {
        return Ok(gateway);
    }
    let bridge = stored::default_bridge(store)?;
    let gateway = stored::pools(&bridge).find_map(|pool| pool.gateway);
    gateway.ok_or_else(|| anyhow::anyhow!("unable to derive the IP value for host-gateway"))
}

/// Makes the default bridge, and what is forwarded, what the settings want it to be. With somebody on it, a bridge stays as it
/// is, which is said.
pub fn configure(store: &Store, settings: &Settings) -> Result<Option<String>> {
    firewall::pass_others(store, settings.ip_forward_no_drop)?;
    let now = stored::default_bridge(store)?;
    let found_in = stored::found_in(store, &now)?;
    let is_found_there = found_in.is_none_or(|pools| pools == settings.default_address_pools);
    if is_found_there && stored::wanted(store, &now, settings)? == now {
        return Ok(None);
    }
    within(store, || change(store, settings))
}

fn change(store: &Store, settings: &Settings) -> Result<Option<String>> {
    lease::sweep(store)?;
    let _lock = stored::lock(store)?;
    let now = stored::default_bridge(store)?;
    let wanted = stored::wanted(store, &now, settings)?;
    let pools = settings.default_address_pools.as_slice();
    if wanted == now {
        return stored::save(store, &now, Some(pools)).map(|()| None);
    }
    if !lease::holders(store, &now.id)?.is_empty() {
        return Ok(Some(
            "the settings of the default bridge have changed; they hold once no container is on it".to_owned(),
        ));
    }
    let subnets: Vec<_> = stored::pools(&wanted).collect();
    for other in stored::with_files(store)?.iter().filter(|other| other.id != now.id) {
        if stored::pools(other).any(|other| subnets.iter().any(|pool| pool.subnet.overlaps(&other.subnet))) {
            bail!(Refusal::Forbidden(format!(
                "the subnet of the default bridge overlaps with that of network {}",
                other.name
            )));
        }
    }
    bridge::remove(store, &now)?;
    stored::save(store, &wanted, Some(pools))?;
    firewall::refresh(store)?;
    Ok(None)
}

/// Bridges of others for which this host forwards nothing, because this store turned forwarding on for its own containers.
pub fn cut_off(store: &Store) -> Vec<String> {
    if super::rootless::is_inside() || !firewall::drops_others(store) {
        return Vec::new();
    }
    let links = || link::all(&Socket::route()?);
    let is_cut_off = |link: &link::Link| link.kind == "bridge" && link.up && link.group != link::GROUP;
    links().unwrap_or_default().into_iter().filter(is_cut_off).map(|link| link.name).collect()
}

/// Frees what killed commands left.
pub fn sweep(store: &Store) -> Result<()> {
    lease::sweep(store)?;
    rest(store);
    Ok(())
}

/// Takes the firewall's table away where nobody is on a network any more, and nobody waits to do that.
pub fn rest(store: &Store) {
    let rest = || match network::is_missing(store)? || !store.run.join("networks").exists() {
        true => Ok(()),
        false => within(store, || firewall::rest(store)),
    };
    if let Err(error) = rest() {
        log::debug!("{error:#}");
    }
}

/// Whether [`rest_later`] has something to do. An ordinary user's rules go with his network.
pub fn may_rest(store: &Store) -> Result<bool> {
    Ok(!super::rootless::is_inside() && firewall::may_rest(store)?)
}

/// The same as [`rest`], a second after the last one left: for a process that has nothing else to do.
pub fn rest_later(store: &Store) -> Result<()> {
    firewall::rest_later(store, Duration::from_secs(1))
}

/// The networks by the filters dangling, driver, id, label, name, scope and type.
pub fn list(store: &Store, filters: &Filters) -> Result<Vec<Network>> {
    filters.accept(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let dangling = match filters.get("dangling").iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["0" | "false"] => Some(false),
        ["1" | "true"] => Some(true),
        [_] => bail!(Refusal::BadParameter(
            r#"invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")"#.to_owned()
        )),
        _ => bail!(Refusal::BadParameter(r#"got more than one value for filter key "dangling""#.to_owned())),
    };
    if let Some(kind) = filters.get("type").iter().find(|kind| !matches!(kind.as_str(), "builtin" | "custom")) {
        bail!(Refusal::BadParameter(format!("invalid filter: 'type'='{kind}'")));
    }
    let mut networks = stored::all(store)?;
    let mut failed = None;
    networks.retain(|network| {
        let kind = if is_predefined(&network.name) { "builtin" } else { "custom" };
        let mut unused = || match lease::holders(store, &network.id) {
            // Built-in ones are never dangling.
            Ok(holders) => kind == "custom" && holders.is_empty(),
            Err(error) => {
                failed = Some(error);
                false
            }
        };
        filters.is("driver", &network.driver)
            && (!filters.has("id") || filters.get("id").iter().any(|id| network.id.starts_with(id)))
            && filters.labels(&network.labels)
            && filters.matches("name", &network.name)
            && filters.is("scope", &network.scope)
            && filters.is("type", kind)
            && dangling.is_none_or(|dangling| dangling == unused())
    });
    failed.map_or(Ok(networks), Err)
}

/// One network, by its name, its id or an unambiguous beginning of that, with the containers that run on it.
pub fn inspect(store: &Store, wanted: &str) -> Result<Network> {
    let mut network = find(store, wanted)?;
    for now in containers::all(store)?.into_iter().filter(|now| now.doing.goes_on()) {
        if !now.record.networks.contains_key(&network.name) {
            continue;
        }
        let mut container = NetworkContainer {
            endpoint_id: endpoint_id(&now.record.id, &network.id),
            name: now.record.name.clone(),
            ..NetworkContainer::default()
        };
        if let Some(place) = held(store, &now.record.id)?.places.into_iter().find(|place| place.name == network.name) {
            let text = |given: Option<join::Given>| given.map(|it| format!("{}/{}", it.address, it.prefix));
            container.mac_address = mac_text(place.mac);
            container.ipv4_address = text(place.ipv4).unwrap_or_default();
            container.ipv6_address = text(place.ipv6).unwrap_or_default();
        }
        network.containers.insert(now.record.id, container);
    }
    Ok(network)
}

/// A container's place on its networks, as inspect and list tell it; of one that does not run, what was asked for.
pub fn endpoints(store: &Store, record: &Record, held: &Held, alive: bool) -> Endpoints {
    let mut endpoints = record.networks.clone();
    if !alive {
        return endpoints;
    }
    for (name, endpoint) in &mut endpoints {
        match held.places.iter().find(|place| place.name == *name) {
            Some(place) => tell(record, place, endpoint),
            None => {
                endpoint.network_id = id(store, name);
                endpoint.endpoint_id = endpoint_id(&record.id, &endpoint.network_id);
            }
        }
    }
    endpoints
}

fn tell(record: &Record, place: &Place, endpoint: &mut EndpointSettings) {
    let text = |address: Option<IpAddr>| address.map_or(String::new(), |address| address.to_string());
    endpoint.network_id = place.network.clone();
    endpoint.endpoint_id = place.endpoint.clone();
    endpoint.mac_address = mac_text(place.mac);
    if place.name != stored::BRIDGE {
        endpoint.dns_names = Some(names::of(record, endpoint));
    }
    if let Some(given) = place.ipv4 {
        (endpoint.ip_address, endpoint.ip_prefix_len) = (given.address.to_string(), given.prefix.into());
        endpoint.gateway = text(given.gateway);
    }
    if let Some(given) = place.ipv6 {
        endpoint.global_ipv6_address = given.address.to_string();
        endpoint.global_ipv6_prefix_len = given.prefix.into();
        endpoint.ipv6_gateway = text(given.gateway);
    }
}

/// The network part of inspect: of the default bridge once more where it stood before there were others.
pub fn settings(store: &Store, record: &Record, pid: Option<i32>) -> Result<NetworkSettings> {
    let held = held(store, &record.id)?;
    let networks = endpoints(store, record, &held, pid.is_some());
    let mut settings = NetworkSettings::default();
    if let Some(pid) = pid {
        settings.sandbox_id = hashed(&[b"sandbox", record.id.as_bytes()]);
        settings.sandbox_key = format!("/proc/{pid}/ns/net");
        settings.ports = publish::map(record, &held);
    }
    if let Some(bridge) = networks.get(stored::BRIDGE) {
        settings.endpoint_id = bridge.endpoint_id.clone();
        settings.gateway = bridge.gateway.clone();
        settings.ip_address = bridge.ip_address.clone();
        settings.ip_prefix_len = bridge.ip_prefix_len;
        settings.ipv6_gateway = bridge.ipv6_gateway.clone();
        settings.global_ipv6_address = bridge.global_ipv6_address.clone();
        settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len;
        settings.mac_address = bridge.mac_address.clone();
    }
    settings.networks = networks;
    Ok(settings)
}

/// What there is to tell of a container that starts (`connect`) or ends (`disconnect`).
pub fn events(store: &Store, record: &Record, action: &str) -> Vec<Event> {
    let event = |name: &String| {
        let network = find(store, name).ok()?;
        let attributes = [("container", record.id.as_str()), ("name", name), ("type", &network.driver)];
        Some(events::of_other("network", action, &network.id, &attributes))
    };
    record.networks.keys().filter_map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Ipam, IpamConfig, NetworkCreate};

    #[test]
    fn what_is_there_and_what_is_not() {
        let path = std::env::temp_dir().join(format!("dhow-networks-{}", std::process::id()));
        let store = Store::open(&path.join("root"), &path.join("run")).unwrap();
        let names = |filter: &str| {
            let list = list(&store, &Filters::parse(Some(filter)).unwrap()).unwrap();
            list.into_iter().map(|network| network.name).collect::<Vec<_>>().join(" ")
        };
        let none = id(&store, "none");
        for (filter, expected) in [
            ("{}".to_owned(), "bridge host none"),
            (r#"{"name":["no"]}"#.to_owned(), "none"),
            (r#"{"name":{"tr_default":true}}"#.to_owned(), ""),
            (r#"{"driver":["null","bridge"]}"#.to_owned(), "bridge none"),
            (format!(r#"{{"id":["{}"]}}"#, &none[..12]), "none"),
            (r#"{"type":["custom"]}"#.to_owned(), ""),
            (r#"{"dangling":["true"]}"#.to_owned(), ""),
            (r#"{"label":["a"]}"#.to_owned(), ""),
        ] {
            assert_eq!(names(&filter), expected, "{filter}");
        }
        assert!(list(&store, &Filters::parse(Some(r#"{"type":["boat"]}"#)).unwrap()).is_err());
        assert_eq!(inspect(&store, "host").unwrap().driver, "host");
        assert_eq!(inspect(&store, &none[..10]).unwrap().name, "none");
        let bridge = inspect(&store, "bridge").unwrap();
        let subnet = &bridge.ipam.config.as_deref().unwrap()[0];
        assert_eq!(inspect(&store, "bridge").unwrap().ipam.config.as_deref().unwrap()[0], *subnet, "it stays");
        let make = |asked: NetworkCreate| create(&store, &Settings::default(), asked).map(drop);
        let refusal = |result: Result<()>| {
            let error = result.unwrap_err();
            (error.downcast_ref::<Refusal>().map_or(500, Refusal::status), error.to_string())
        };
        let named = |name: &str| NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() };
        let ipam = |config: IpamConfig| Some(Ipam { config: Some(vec![config]), ..Ipam::default() });
        let subnet = |subnet: &str| IpamConfig { subnet: subnet.to_owned(), ..IpamConfig::default() };
        let with = |key: &str, text: &str| NetworkCreate {
            options: Some([(format!("com.docker.network.{key}"), text.to_owned())].into()),
            ..named("x")
        };
        let after = |asked: NetworkCreate| {
            let network = "plan".to_owned();
            NetworkCreate { config_from: Some(crate::api::types::ConfigReference { network }), ..asked }
        };
        let bridges = subnet(&stored::pools(&bridge).next().unwrap().subnet.to_string());
        let two = Some(Ipam { config: Some(vec![subnet("10.1.0.0/24"), subnet("10.2.0.0/24")]), ..Ipam::default() });
        let cases = [
            (make(NetworkCreate { ipam: two, ..named("x") }), 403, "bridge driver doesn't support multiple subnets"),
            (inspect(&store, "harbour").map(drop), 404, "network harbour not found"),
            (remove(&store, "host"), 403, "host is a pre-defined network and cannot be removed"),
            (remove(&store, "x"), 404, "network x not found"),
            (make(named("host")), 403, "operation is not permitted on predefined host network"),
            (make(named("a/b")), 400, "\"a/b\" is not a valid network name"),
            (make(NetworkCreate { driver: "boat".into(), ..named("x") }), 404, "could not find plugin boat"),
            (make(NetworkCreate { driver: "overlay".into(), ..named("x") }), 501, "networks of the driver overlay"),
            (make(NetworkCreate { driver: "host".into(), ..named("x") }), 403, "only one instance of \"host\""),
            (
                make(NetworkCreate { ipam: ipam(subnet("10.1")), ..named("x") }),
                400,
                "invalid network config:\ninvalid subnet 10.1",
            ),
            (make(with("bridge.enable_icc", "no")), 400, "invalid value of com.docker.network.bridge.enable_icc: no"),
            (
                make(with("bridge.gateway_mode_ipv4", "boat")),
                400,
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: boat (unknown gateway mode boat)",
            ),
            (
                make(with("container_iface_prefix", "a b")),
                400,
                "invalid value of com.docker.network.container_iface_prefix: \"a b\"",
            ),
            (make(with("bridge.sail", "eth9")), 501, "networks with com.docker.network.bridge.sail=eth9"),
            (
                make(with("bridge.trusted_host_interfaces", "eth9:sixteen-letters-:")),
                400,
                "failed to parse com.docker.network.bridge.trusted_host_interfaces value: \"sixteen-letters-\" is no name",
            ),
            (
                make(NetworkCreate { config_only: true, internal: true, ..named("x") }),
                403,
                "configuration network can only contain network specific fields",
            ),
            (
                make(after(NetworkCreate { config_only: true, ..named("x") })),
                403,
                "a configuration network cannot depend",
            ),
            (
                make(after(NetworkCreate { enable_ipv6: Some(true), ..named("x") })),
                403,
                "user specified configurations are not supported",
            ),
            (make(after(with("bridge.enable_icc", "true"))), 403, "network driver options are not supported"),
            (make(after(named("x"))), 404, "configuration network \"plan\" does not exist"),
            (make(NetworkCreate { ipam: ipam(bridges), ..named("x") }), 403, "invalid pool request: Pool overlaps"),
            (
                make(NetworkCreate {
                    ipam: ipam(IpamConfig { gateway: "10.2.0.1".into(), ..subnet("10.1.0.0/16") }),
                    ..named("x")
                }),
                400,
                "invalid network config:\ninvalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
            ),
            (
                make(NetworkCreate { ipam: ipam(subnet("10.1.2.0/16")), ..named("x") }),
                400,
                "invalid network config:\ninvalid subnet 10.1.2.0/16: it should be 10.1.0.0/16",
            ),
            (
                make(NetworkCreate {
                    ipam: ipam(IpamConfig { ip_range: "10.1.2.3/24".into(), ..subnet("10.1.0.0/16") }),
                    ..named("x")
                }),
                400,
                "invalid network config:\ninvalid ip-range 10.1.2.3/24: it should be 10.1.2.0/24",
            ),
            (
                make(NetworkCreate {
                    ipam: ipam(IpamConfig { gateway: "10.1.0.255".into(), ..subnet("10.1.0.0/24") }),
                    ..named("x")
                }),
                500,
                "failed to allocate gateway (10.1.0.255): Address already in use",
            ),
            (
                make(NetworkCreate {
                    ipam: ipam(IpamConfig {
                        gateway: "10.1.0.9".into(),
                        aux_address: [("a".into(), "10.1.0.9".into())].into(),
                        ..subnet("10.1.0.0/24")
                    }),
                    ..named("x")
                }),
                500,
                "failed to allocate secondary ip address (a:10.1.0.9): Address already in use",
            ),
            (
                make(NetworkCreate { ipam: ipam(subnet("127.0.0.0/8")), ..named("x") }),
                400,
                "invalid network config:\ninvalid subnet 127.0.0.0/8: its addresses are those of loopback",
            ),
            (
                make(NetworkCreate { ipam: ipam(subnet("239.1.0.0/16")), ..named("x") }),
                400,
                "invalid network config:\ninvalid subnet 239.1.0.0/16: its addresses are those of multicast",
            ),
            (
                make(with("enable_ipv6", "perhaps")),
                400,
                "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool",
            ),
            (
                make(NetworkCreate {
                    ipam: ipam(IpamConfig { ip_range: "10.2.0.0/24".into(), ..subnet("10.1.0.0/16") }),
                    ..named("x")
                }),
                400,
                "invalid network config:\ninvalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range",
            ),
        ];
        for (result, status, words) in cases {
            let (given, text) = refusal(result);
            assert!(given == status && text.starts_with(words), "{given} {text}");
        }
        let _ = std::fs::remove_dir_all(path);
    }
}
