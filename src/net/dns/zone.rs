//! Who is called what, and by whom: containers know each other on the networks that they share.
//!
//! What is known of a container is a file in the resolver's directory, so that the resolver may die and be born again.

use super::message::Data;
use crate::json::fields::fields;
use crate::order::Map;
use std::net::IpAddr;

fields! {
    /// A container, as far as names are concerned.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Host {
        pub places: Vec<Place>,
        /// Whom it asks for other names, in its own network; empty: the host's.
        pub servers: Vec<IpAddr>,
        /// The host's servers are asked for it: not where its networks lead nowhere.
        pub asks_host: bool,
        /// Names without a dot are asked for elsewhere, too: not where its own resolver adds domains to such.
        pub asks_short: bool,
    }

    /// Its place on one network.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Place {
        /// The network's id and name.
        pub network: String,
        pub called: String,
        /// The first one is what it is called backwards.
        pub names: Vec<String>,
        pub addresses: Vec<IpAddr>,
        /// Names that it alone has for others: the name, and the id or a name of the container.
        pub links: Vec<(String, String)>,
    }
}

/// All containers, by id.
#[derive(Default)]
pub struct Zone(pub Map<String, Host>);

impl Zone {
    /// The addresses of those who are called so on the first network of `asker`'s that knows the name and has any of this
    /// family; none where the name is known without such, `None` where it is not known.
    pub fn addresses(&self, asker: &Host, name: &str, wanted: fn(&IpAddr) -> bool) -> Option<Vec<IpAddr>> {
        let mut known = None;
        let whole = asker.places.iter().map(|place| (place, name));
        // `db.sea`: db on the network sea. Both may have dots of their own.
        let part = name.rmatch_indices('.').flat_map(|(dot, _)| {
            let (name, network) = (&name[..dot], &name[dot + 1..]);
            asker.places.iter().filter(move |it| it.called.eq_ignore_ascii_case(network)).map(move |it| (it, name))
        });
        for (place, name) in whole.chain(part) {
            let Some(addresses) = self.on(place, name) else { continue };
            let addresses: Vec<IpAddr> = addresses.into_iter().filter(wanted).collect();
            if !addresses.is_empty() {
                return Some(addresses);
            }
            known = Some(addresses);
        }
        known
    }

    fn on(&self, asker: &Place, name: &str) -> Option<Vec<IpAddr>> {
        let is = |other: &String| other.eq_ignore_ascii_case(name);
        let linked: Vec<&String> = asker.links.iter().filter(|(link, _)| is(link)).map(|(_, id)| id).collect();
        let mut known = false;
        let mut addresses = Vec::new();
        for (id, host) in &self.0 {
            for place in host.places.iter().filter(|place| place.network == asker.network) {
                let is_linked = || linked.contains(&id) || place.names.iter().any(|name| linked.contains(&name));
                let found = if linked.is_empty() { place.names.iter().any(is) } else { is_linked() };
                if found {
                    known = true;
                    addresses.extend(&place.addresses);
                }
            }
        }
        known.then_some(addresses)
    }

    /// What a container with this address is called on a network of `asker`'s.
    pub fn name(&self, asker: &Host, address: IpAddr) -> Option<Data> {
        let shared = |place: &&Place| asker.places.iter().any(|mine| mine.network == place.network);
        let mut places = self.0.values().flat_map(|host| &host.places).filter(shared);
        let place = places.find(|place| place.addresses.contains(&address))?;
        Some(Data::Name(format!("{}.{}", place.names.first()?, place.called)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(network: &str, names: &[&str], addresses: &[&str]) -> Place {
        Place {
            network: format!("id-{network}"),
            called: network.to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            links: Vec::new(),
        }
    }

    #[test]
    fn who_shares_a_network_knows_the_others() {
        let host = |places: Vec<Place>| Host { places, ..Host::default() };
        let mut asker = host(vec![
            place("sea", &["me"], &["10.0.0.2"]),
            place("lake", &["me"], &["10.1.0.2"]),
            place("the.bay", &["me"], &["10.2.0.2"]),
        ]);
        asker.places[0].links.push(("pg".into(), "d-1".into()));
        let zone = Zone(
            [
                ("me", asker.clone()),
                ("d-1", host(vec![place("sea", &["db-1", "db"], &["10.0.0.3"])])),
                ("db2", host(vec![place("sea", &["db-2", "db"], &["10.0.0.4", "fd00::4"])])),
                ("both", host(vec![place("lake", &["both"], &["10.1.0.5"]), place("sea", &["both"], &["10.0.0.5"])])),
                ("dots", host(vec![place("the.bay", &["web.1"], &["10.2.0.5"])])),
                ("far", host(vec![place("moon", &["far", "db"], &["10.9.0.2"])])),
            ]
            .map(|(id, host)| (id.to_owned(), host))
            .into(),
        );
        let ask = |name: &str, wanted| {
            zone.addresses(&asker, name, wanted)
                .map(|list| list.iter().map(|address| address.to_string()).collect::<Vec<_>>().join(" "))
        };
        for (name, four, six) in [
            ("db", Some("10.0.0.3 10.0.0.4"), Some("fd00::4")),
            ("DB-1", Some("10.0.0.3"), Some("")),
            ("me", Some("10.0.0.2"), Some("")),
            ("both", Some("10.0.0.5"), Some("")),
            ("both.lake", Some("10.1.0.5"), Some("")),
            ("both.moon", None, None),
            ("web.1", Some("10.2.0.5"), Some("")),
            ("web.1.the.bay", Some("10.2.0.5"), Some("")),
            ("web.1.bay", None, None),
            ("web.1.the.bay.example", None, None),
            ("far", None, None),
            ("pg", Some("10.0.0.3"), Some("")),
            ("", None, None),
        ] {
            assert_eq!(ask(name, IpAddr::is_ipv4).as_deref(), four, "{name}");
            assert_eq!(ask(name, IpAddr::is_ipv6).as_deref(), six, "{name}");
        }
        for (address, expected) in [("10.0.0.4", Some("db-2.sea")), ("10.1.0.5", Some("both.lake")), ("10.9.0.2", None)]
        {
            let expected = expected.map(|name| Data::Name(name.to_owned()));
            assert_eq!(zone.name(&asker, address.parse().unwrap()), expected, "{address}");
        }
    }
}
