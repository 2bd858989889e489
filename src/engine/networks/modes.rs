//! Docker's gateway modes: how packets come to the containers of a bridge and from them, for each family of addresses.

use super::stored;
use super::user::bad;
use crate::api::types::Network;
use crate::api::units::parse_bool;
use crate::net::Families;
use crate::order::Map;
use anyhow::{Result, bail};

const OPTIONS: [(&str, bool); 2] =
    [("com.docker.network.bridge.gateway_mode_ipv4", true), ("com.docker.network.bridge.gateway_mode_ipv6", false)];
/// The bridge has no address of IPv4: another machine on it, or an address that this host has elsewhere, is the way out.
const INHIBIT: &str = "com.docker.network.bridge.inhibit_ipv4";

/// Links of this host, with colons between, by which others come to the published ports of containers by their own addresses.
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Containers leave under the host's address, and are reached by their published ports.
    Nat,
    /// The same, and whoever has a route to them reaches every port.
    Unprotected,
    /// They leave under their own address; whoever has a route to them reaches what is published. The host has no port for it.
    Routed,
    /// The host has no address on the bridge: nothing comes or goes, not even from the host.
    Isolated,
}

fn parse(text: &str) -> Option<Mode> {
    match text {
        "nat" => Some(Mode::Nat),
        "nat-unprotected" => Some(Mode::Unprotected),
        "routed" => Some(Mode::Routed),
        "isolated" => Some(Mode::Isolated),
        _ => None,
    }
}

/// Refuses what is no mode, in Docker's words.
pub fn check(options: &Map<String, String>, internal: bool) -> Result<()> {
    for (key, _) in OPTIONS {
        let Some(text) = options.get(key) else { continue };
        match parse(text) {
            None => return Err(bad(format!("failed to parse {key} value: {text} (unknown gateway mode {text})"))),
            Some(Mode::Isolated) if !internal => {
                bail!("gateway mode 'isolated' can only be used for an internal network")
            }
            Some(_) => {}
        }
    }
    // Docker takes any, and has no rule made by one that is none.
    if let Some(name) = links(options).find(|name| !stored::is_link(name)) {
        return Err(bad(format!("failed to parse {TRUSTED} value: {name:?} is no name of an interface")));
    }
    match options.get(INHIBIT).filter(|text| parse_bool(text).is_none()) {
        Some(text) => Err(bad(format!("failed to parse {INHIBIT} value: {text} (invalid syntax)"))),
        None => Ok(()),
    }
}

fn mode(options: &Map<String, String>, four: bool) -> Mode {
    let asked = OPTIONS.iter().find(|(_, of)| *of == four).and_then(|(key, _)| parse(options.get(*key)?));
    asked.unwrap_or(Mode::Nat)
}

fn links(options: &Map<String, String>) -> impl Iterator<Item = &str> {
    options.get(TRUSTED).into_iter().flat_map(|text| text.split(':')).filter(|name| !name.is_empty())
}

/// The links that a network trusts.
pub fn trusted(network: &Network) -> Vec<String> {
    links(&network.options).map(str::to_owned).collect()
}

/// The families of a network that are of this mode.
pub fn families(network: &Network, wanted: Mode) -> Families {
    let is = |four| network.driver == stored::BRIDGE && mode(&network.options, four) == wanted;
    Families { four: is(true), six: is(false) }
}

/// The families in which a new bridge wants a gateway: not where nobody would have its address, or a route to it.
pub fn with_gateway(options: &Map<String, String>, internal: bool) -> Families {
    let wants = |four| mode(options, four) != Mode::Isolated;
    let inhibited = internal && stored::is_on(options, INHIBIT, false);
    Families { four: wants(true) && !inhibited, six: wants(false) }
}

/// The families in which this host has an address on the bridge.
pub fn with_address(network: &Network) -> Families {
    let isolated = families(network, Mode::Isolated);
    let inhibited = stored::is_on(&network.options, INHIBIT, false);
    Families { four: !isolated.four && !inhibited, six: !isolated.six }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_a_mode() {
        let network = |four: &str, six: &str, inhibit: &str, internal| Network {
            driver: stored::BRIDGE.to_owned(),
            options: [(OPTIONS[0].0, four), (OPTIONS[1].0, six), (INHIBIT, inhibit)]
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(key, text)| (key.to_owned(), text.to_owned()))
                .collect(),
            internal,
            ..Network::default()
        };
        let of = |families: Families| format!("{}{}", u8::from(families.four), u8::from(families.six));
        for (four, six, inhibit, internal, expected) in [
            // routed, with a gateway, with an address of the host
            ("", "", "", false, "00 11 11"),
            ("nat", "routed", "", false, "01 11 11"),
            ("routed", "nat-unprotected", "", true, "10 11 11"),
            ("isolated", "", "", true, "00 01 01"),
            ("", "isolated", "", true, "00 10 10"),
            ("", "", "true", false, "00 11 01"),
            ("", "", "true", true, "00 01 01"),
        ] {
            let network = network(four, six, inhibit, internal);
            check(&network.options, internal).unwrap();
            let routed = families(&network, Mode::Routed);
            let gateway = with_gateway(&network.options, internal);
            let told = format!("{} {} {}", of(routed), of(gateway), of(with_address(&network)));
            assert_eq!(told, expected, "{four:?} {six:?} {inhibit:?}");
            let other = Network { driver: "macvlan".to_owned(), ..network };
            assert_eq!(of(families(&other, Mode::Routed)), "00", "that of bridges alone");
        }
        for (four, inhibit, words) in [
            (
                "boat",
                "",
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: boat (unknown gateway mode boat)",
            ),
            ("isolated", "", "gateway mode 'isolated' can only be used for an internal network"),
            ("", "perhaps", "failed to parse com.docker.network.bridge.inhibit_ipv4 value: perhaps"),
        ] {
            let error = check(&network(four, "", inhibit, false).options, false).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
