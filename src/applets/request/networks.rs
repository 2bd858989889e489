//! `--network`, and the flags that speak of the first one: the mode and the places of the body of create. The words of
//! the errors are Docker's.

use crate::api::types::{EndpointAddresses, EndpointSettings, Endpoints};
use crate::applets::run::Run;
use crate::order::Map;
use anyhow::{Result, bail};

/// The network mode, and the networks by name with what was said of each.
pub fn networks(flags: &Run) -> Result<(String, Option<Endpoints>)> {
    let mut all: Vec<(String, EndpointSettings)> = Vec::new();
    for text in flags.network.iter().chain(&flags.net) {
        let (name, settings) = network(text)?;
        if all.iter().any(|(other, _)| *other == name) {
            bail!("network {name:?} is specified multiple times");
        }
        all.push((name, settings));
    }
    let is_mode = |name: &str| matches!(name, "none" | "host") || name.starts_with("container:");
    if all.len() > 1 && all.iter().any(|(name, _)| is_mode(name)) {
        bail!("conflicting options: cannot attach both user-defined and non-user-defined network-modes");
    }
    let mut first = all.first().map(|(_, settings)| settings.clone()).unwrap_or_default();
    of_first(flags, &mut first)?;
    let mode = all.first().map_or("default", |(name, _)| name).to_owned();
    // On the default bridge they are the container's.
    if !is_mode(&mode) && !matches!(mode.as_str(), "default" | "bridge") && !flags.link.is_empty() {
        first.links = Some(flags.link.clone());
    }
    match all.first_mut() {
        Some((_, settings)) => *settings = first,
        None if first != EndpointSettings::default() => all.push((mode.clone(), first)),
        None => {}
    }
    let is_network = |name: &str| !is_mode(name) && !matches!(name, "default" | "bridge");
    if all.iter().any(|(name, settings)| !is_network(name) && settings.aliases.is_some()) {
        bail!("network-scoped aliases are only supported for user-defined networks");
    }
    let said =
        |(name, settings): &(String, EndpointSettings)| is_network(name) || *settings != EndpointSettings::default();
    let places: Endpoints = Map::from_iter(all.into_iter().filter(said));
    Ok((mode, Some(places).filter(|places| !places.is_empty())))
}

/// Flags that speak of the first network.
fn of_first(flags: &Run, settings: &mut EndpointSettings) -> Result<()> {
    let aliases: Vec<String> = flags.network_alias.iter().chain(&flags.net_alias).cloned().collect();
    let both =
        |flag: &str, key: &str| format!("conflicting options: cannot specify both --{flag} and per-network {key}");
    if !aliases.is_empty() {
        if settings.aliases.is_some() {
            bail!(both("network-alias", "alias"));
        }
        settings.aliases = Some(aliases);
    }
    let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    if let Some(ip) = given(&flags.ip) {
        let addresses = settings.ipam_config.get_or_insert_default();
        if !addresses.ipv4_address.is_empty() {
            bail!(both("ip", "IPv4 address"));
        }
        addresses.ipv4_address = address(&ip, true)?;
    }
    if let Some(ip) = given(&flags.ip6) {
        let addresses = settings.ipam_config.get_or_insert_default();
        if !addresses.ipv6_address.is_empty() {
            bail!(both("ip6", "IPv6 address"));
        }
        addresses.ipv6_address = address(&ip, false)?;
    }
    if !flags.link_local_ip.is_empty() {
        let addresses = settings.ipam_config.get_or_insert_default();
        if addresses.link_local_ips.is_some() {
            bail!(both("link-local-ip", "link-local IP addresses"));
        }
        addresses.link_local_ips = link_local(&flags.link_local_ip)?;
    }
    if let Some(mac) = given(&flags.mac_address) {
        if !settings.mac_address.is_empty() {
            bail!(both("mac-address", "MAC address"));
        }
        settings.mac_address = hardware(&mac)?;
    }
    Ok(())
}

/// A name, or `name=web,alias=a,ip=…`.
fn network(text: &str) -> Result<(String, EndpointSettings)> {
    let mut settings = EndpointSettings::default();
    if !text.contains('=') || text.starts_with("container:") {
        if text.is_empty() || text == "container:" {
            bail!("network name/id is not specified");
        }
        return Ok((text.to_owned(), settings));
    }
    let mut name = String::new();
    let mut addresses = EndpointAddresses::default();
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else { bail!("invalid field {field}") };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => value.clone_into(&mut name),
            "alias" => settings.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => addresses.ipv4_address = address(value, true)?,
            "ip6" => addresses.ipv6_address = address(value, false)?,
            "mac-address" => settings.mac_address = hardware(value)?,
            "gw-priority" => match value.parse() {
                Ok(priority) => settings.gw_priority = priority,
                Err(_) => bail!("invalid gw-priority ({value}): invalid syntax"),
            },
            "driver-opt" => {
                let Some((key, value)) = value.split_once('=') else {
                    bail!("invalid key value pair format in driver options")
                };
                settings.driver_opts.get_or_insert_with(Map::new).insert(key.to_lowercase(), value.to_owned());
            }
            "link-local-ip" => {
                let more = link_local(&[value.to_owned()])?;
                addresses.link_local_ips.get_or_insert_default().extend(more.into_iter().flatten());
            }
            other => bail!("invalid field key {other}"),
        }
    }
    if name.is_empty() {
        bail!("network name/id is not specified");
    }
    settings.ipam_config = Some(addresses).filter(|addresses| *addresses != EndpointAddresses::default());
    Ok((name, settings))
}

pub fn address(text: &str, four: bool) -> Result<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) if address.is_ipv4() == four => Ok(address.to_string()),
        _ => bail!("invalid IPv{} address: {text}", if four { 4 } else { 6 }),
    }
}

/// Addresses that hold on one link only (RFC 3927; RFC 4291, 2.5.6); none where none are given.
pub fn link_local(texts: &[String]) -> Result<Option<Vec<String>>> {
    let parsed = |text: &String| match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => bail!("invalid link-local IP address: {text}"),
    };
    let all: Vec<String> = texts.iter().map(parsed).collect::<Result<_>>()?;
    Ok(Some(all).filter(|all| !all.is_empty()))
}

fn hardware(text: &str) -> Result<String> {
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.trim().split([':', '-']).collect();
    if parts.len() != 6 || !parts.iter().all(|part| is_byte(part)) {
        bail!("{text} is not a valid mac address");
    }
    Ok(parts.join(":").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(network: &[&str]) -> Run {
        Run { network: network.iter().map(|name| (*name).to_owned()).collect(), ..Run::default() }
    }

    #[test]
    fn modes_and_places() {
        let shown = |flags: Run| -> String {
            let (mode, places) = networks(&flags).unwrap();
            format!(
                "{mode} {}",
                places.map_or("-".to_owned(), |it| serde_json::to_string(&it.keys().collect::<Vec<_>>()).unwrap())
            )
        };
        for (given, expected) in [
            (vec![], "default -"),
            (vec!["none"], "none -"),
            (vec!["bridge"], "bridge -"),
            (vec!["container:web"], "container:web -"),
            (vec!["web"], r#"web ["web"]"#),
            (vec!["web", "db"], r#"web ["db","web"]"#),
            (vec!["web", "bridge"], r#"web ["web"]"#),
            (vec!["name=web,alias=a,ip=10.0.0.9,gw-priority=3"], r#"web ["web"]"#),
        ] {
            assert_eq!(shown(run(&given)), expected, "{given:?}");
        }
        let flags = Run { ip: Some("10.0.0.9".into()), network_alias: vec!["a".into()], ..run(&["web"]) };
        let place = networks(&flags).unwrap().1.unwrap().remove("web").unwrap();
        assert_eq!(place.ipam_config.unwrap().ipv4_address, "10.0.0.9");
        assert_eq!(place.aliases.unwrap(), ["a"]);
        let linked = |network| networks(&Run { link: vec!["db:pg".into()], ..run(network) }).unwrap().1;
        assert_eq!(linked(&["web"]).unwrap().remove("web").unwrap().links.unwrap(), ["db:pg"]);
        assert!(linked(&[]).is_none());
        let flags = Run { mac_address: Some("02-42-AC-11-00-09".into()), ..run(&[]) };
        let (mode, places) = networks(&flags).unwrap();
        assert_eq!((mode.as_str(), &*places.unwrap()["default"].mac_address), ("default", "02:42:ac:11:00:09"));
    }

    #[test]
    fn what_does_not_go_together() {
        let aliased = Run { network_alias: vec!["a".into()], ..run(&["name=web,alias=b"]) };
        for (flags, words) in [
            (run(&["web", "web"]), "network \"web\" is specified multiple times"),
            (
                run(&["web", "host"]),
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            (run(&["alias=a"]), "network name/id is not specified"),
            (run(&["name=web,colour=red"]), "invalid field key colour"),
            (run(&["name=web,ip=::1"]), "invalid IPv4 address: ::1"),
            (run(&["name=bridge,alias=a"]), "network-scoped aliases are only supported for user-defined networks"),
            (
                Run { network_alias: vec!["a".into()], ..run(&[]) },
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (aliased, "conflicting options: cannot specify both --network-alias and per-network alias"),
            (Run { mac_address: Some("x".into()), ..run(&[]) }, "x is not a valid mac address"),
        ] {
            assert_eq!(networks(&flags).unwrap_err().to_string(), words);
        }
    }
}
