//! The networks that there are: `none`, a namespace with nothing but loopback, and `host`, the host's own. Networks of
//! users come with their own release, and say so.

use super::containers;
use super::events;
use super::filters::Filters;
use super::record::Record;
use super::store::Store;
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{EndpointSettings, Event, Ipam, Network, NetworkContainer, NetworksPruned};
use anyhow::{Result, bail};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

/// Their names and drivers.
const BUILT_IN: [(&str, &str); 2] = [("host", "host"), ("none", "null")];

/// The id of a network, which is the same for as long as the store stands in its place.
pub fn id(store: &Store, name: &str) -> String {
    hex(&[b"network", store.root.as_os_str().as_bytes(), name.as_bytes()])
}

fn endpoint_id(container: &str, network: &str) -> String {
    hex(&[b"endpoint", container.as_bytes(), network.as_bytes()])
}

fn hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn driver(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).map(|(_, driver)| *driver)
}

/// The networks by the filters dangling, driver, id, label, name, scope and type.
pub fn list(store: &Store, filters: &Filters) -> Result<Vec<Network>> {
    filters.accept(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let dangling = filters.flag("dangling")?;
    if let Some(kind) = filters.get("type").iter().find(|kind| !matches!(kind.as_str(), "builtin" | "custom")) {
        bail!(Refusal::BadParameter(format!("invalid filter: 'type'='{kind}'")));
    }
    let mut networks: Vec<Network> = BUILT_IN.iter().map(|(name, driver)| network(store, name, driver)).collect();
    networks.retain(|network| {
        // Built-in ones are never dangling.
        dangling != Some(true)
            && filters.is("driver", &network.driver)
            && (!filters.has("id") || filters.get("id").iter().any(|id| network.id.starts_with(id)))
            && filters.labels(&network.labels)
            && filters.matches("name", &network.name)
            && filters.is("scope", &network.scope)
            && filters.is("type", "builtin")
    });
    Ok(networks)
}

/// One network, by its name, its id or an unambiguous beginning of that, with the containers that run on it.
pub fn inspect(store: &Store, wanted: &str) -> Result<Network> {
    let mut network = find(store, wanted)?;
    for now in containers::all(store)?.into_iter().filter(|now| now.doing.is_alive()) {
        if now.record.networks.contains_key(&network.name) {
            let endpoint_id = endpoint_id(&now.record.id, &network.name);
            let container = NetworkContainer { name: now.record.name, endpoint_id, ..NetworkContainer::default() };
            network.containers.insert(now.record.id, container);
        }
    }
    Ok(network)
}

fn find(store: &Store, wanted: &str) -> Result<Network> {
    let all = || BUILT_IN.iter().map(|(name, driver)| network(store, name, driver));
    if let Some(network) = all().find(|network| network.name == wanted || network.id == wanted) {
        return Ok(network);
    }
    let mut begun = all().filter(|network| !wanted.is_empty() && network.id.starts_with(wanted));
    match (begun.next(), begun.next()) {
        (Some(network), None) => Ok(network),
        (None, _) => bail!(Refusal::NotFound(format!("network {wanted} not found"))),
        (Some(_), Some(_)) => {
            bail!(Refusal::BadParameter(format!("network {wanted} is ambiguous (2 matches found on ID prefix)")))
        }
    }
}

fn network(store: &Store, name: &str, driver: &str) -> Network {
    let made = std::fs::metadata(store.root.join("version")).and_then(|meta| meta.modified());
    let since = made.ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    Network {
        name: name.to_owned(),
        id: id(store, name),
        created: Time { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }.to_string(),
        scope: "local".to_owned(),
        driver: driver.to_owned(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".to_owned(), options: None, config: None },
        ..Network::default()
    }
}

pub fn create(name: &str) -> Result<()> {
    if driver(name).is_some() || matches!(name, "bridge" | "default") {
        bail!(Refusal::Forbidden(format!("operation is not permitted on predefined {name} network")));
    }
    later()
}

/// Connects and disconnects.
pub fn change(store: &Store, wanted: &str) -> Result<()> {
    find(store, wanted)?;
    later()
}

pub fn remove(store: &Store, wanted: &str) -> Result<()> {
    let network = find(store, wanted)?;
    bail!(Refusal::Forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)))
}

/// Removes the unused networks of users, of which there are none.
pub fn prune(filters: &Filters) -> Result<NetworksPruned> {
    super::query::Prune::new(filters)?;
    Ok(NetworksPruned::default())
}

fn later() -> Result<()> {
    bail!(Refusal::NotImplemented(
        "networks of one's own come with a later release of dhow: use --network none or --network host".to_owned()
    ))
}

/// A container's place on its networks, as inspect and list tell it.
pub fn endpoints(store: &Store, record: &Record, alive: bool) -> BTreeMap<String, EndpointSettings> {
    let mut endpoints = record.networks.clone();
    if alive {
        for (name, endpoint) in &mut endpoints {
            endpoint.network_id = id(store, name);
            endpoint.endpoint_id = endpoint_id(&record.id, name);
        }
    }
    endpoints
}

/// What there is to tell of a container that starts (`connect`) or ends (`disconnect`).
pub fn events(store: &Store, record: &Record, action: &str) -> Vec<Event> {
    let event = |name: &String| {
        let kind = driver(name).unwrap_or_default();
        let attributes = [("container", record.id.as_str()), ("name", name), ("type", kind)];
        events::of_other("network", action, &id(store, name), &attributes)
    };
    record.networks.keys().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("{}".to_owned(), "host none"),
            (r#"{"name":["no"]}"#.to_owned(), "none"),
            (r#"{"name":{"tr_default":true}}"#.to_owned(), ""),
            (r#"{"driver":["null","bridge"]}"#.to_owned(), "none"),
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
        let refusal = |result: Result<()>| {
            let error = result.unwrap_err();
            (error.downcast_ref::<Refusal>().map_or(500, Refusal::status), error.to_string())
        };
        let cases = [
            (inspect(&store, "bridge").map(drop), 404, "network bridge not found"),
            (remove(&store, "host"), 403, "host is a pre-defined network and cannot be removed"),
            (remove(&store, "x"), 404, "network x not found"),
            (create("host"), 403, "operation is not permitted on predefined host network"),
            (create("x"), 501, "networks of one's own"),
            (change(&store, "none"), 501, "networks of one's own"),
        ];
        for (result, status, words) in cases {
            let (given, text) = refusal(result);
            assert!(given == status && text.starts_with(words), "{given} {text}");
        }
        let _ = std::fs::remove_dir_all(path);
    }
}
