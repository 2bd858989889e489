//! What create was told of the container, and is told of its first network by now.

use super::{bad, v1};
use crate::api::types::{ContainerCreate, EndpointSettings, Endpoints};
use crate::api::version::ApiVersion;
use crate::engine::networks::tune;
use anyhow::{Result, bail};

/// The MAC address was the container's once, and is now that of its first network.
pub fn mac(version: ApiVersion, asked: &mut ContainerCreate) -> Result<Option<String>> {
    let of_container = asked.config.mac_address.clone();
    let mode = asked.host_config.network_mode.as_str();
    let old = version < v1(44);
    let endpoints = asked.networking_config.endpoints_config.get_or_insert_default();
    if of_container.is_empty() {
        if old {
            endpoints.values_mut().for_each(|settings| settings.mac_address.clear());
        }
        return Ok(None);
    }
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        if old {
            return Err(bad("conflicting options: mac-address and the network mode"));
        }
    } else {
        let settings = first_network(version, mode, endpoints);
        let Some(EndpointSettings { mac_address, .. }) = settings else {
            return Err(bad(format!("unable to migrate container-wide MAC address to a specific network: {NO_MATCH}")));
        };
        if !old && !mac_address.is_empty() && *mac_address != of_container {
            return Err(bad(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be \
                 left empty",
            ));
        }
        *mac_address = of_container;
    }
    if old {
        return Ok(None);
    }
    asked.config.mac_address.clear();
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .to_owned(),
    ))
}

const NO_MATCH: &str = "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks";

/// What was asked of the network that is the container's mode; nothing was, as long as nothing was of any other.
fn first_network<'a>(
    version: ApiVersion,
    mode: &str,
    endpoints: &'a mut Endpoints,
) -> Option<&'a mut EndpointSettings> {
    let name = match mode {
        "" | "default" | "bridge" => ["default", "bridge"].into_iter().find(|name| endpoints.contains_key(*name)),
        name => Some(name),
    };
    let name = name.unwrap_or("default").to_owned();
    if endpoints.is_empty() {
        return Some(endpoints.entry(name).or_default());
    }
    match version < v1(44) {
        // There was one at the most.
        true => endpoints.values_mut().next(),
        false => endpoints.get_mut(&name),
    }
}

/// Sysctls of eth0 were the container's once, and are now those of its first network.
pub fn sysctls(version: ApiVersion, asked: &mut ContainerCreate) -> Result<Option<String>> {
    let host = &mut asked.host_config;
    if host.network_mode == "host" || host.network_mode.starts_with("container:") {
        return Ok(None);
    }
    let of_link = |key: &str| {
        let parts: Vec<&str> = key.splitn(5, '.').collect();
        parts.len() == 5 && parts[0] == "net" && parts[3].starts_with("eth")
    };
    let keys: Vec<String> =
        host.sysctls.iter().flatten().map(|(key, _)| key.clone()).filter(|key| of_link(key)).collect();
    let Some(first) = keys.first() else { return Ok(None) };
    // Plain errors, as Docker's.
    if version >= v1(48) {
        bail!("interface specific sysctl setting {first:?} must be supplied using driver option '{}'", tune::OPTION);
    }
    if let Some(key) = keys.iter().find(|key| key.split('.').nth(3) != Some("eth0")) {
        bail!(
            "unable to determine network endpoint for sysctl {key}, use driver option '{}' to set per-interface sysctls",
            tune::OPTION
        );
    }
    let endpoints = asked.networking_config.endpoints_config.get_or_insert_default();
    let Some(settings) = first_network(version, &host.network_mode, endpoints) else {
        return Err(bad(format!("unable to find a network for sysctl {first}: {NO_MATCH}")));
    };
    let value = |key: &String| host.sysctls.as_mut().and_then(|sysctls| sysctls.remove(key)).unwrap_or_default();
    let moved: Vec<String> = keys
        .iter()
        .map(value)
        .zip(&keys)
        .map(|(value, key)| format!("{}={value}", key.replacen(".eth0.", ".IFNAME.", 1)))
        .collect();
    let moved = moved.join(",");
    let warning = format!("Migrated sysctl {:?} to DriverOpts{{{:?}:{moved:?}}}.", keys.join(","), tune::OPTION);
    // What was said of the network comes later, and so holds.
    let options = settings.driver_opts.get_or_insert_default();
    let all = options.get(tune::OPTION).map_or_else(|| moved.clone(), |own| format!("{moved},{own}"));
    options.insert(tune::OPTION.to_owned(), all);
    Ok(Some(warning))
}

#[cfg(test)]
mod tests {
    use super::super::create::create;
    use super::super::create::tests::{made, read};
    use super::*;
    use crate::api::version::NEWEST;
    use serde_json::json;

    /// The address that the container's first network gets, what the container keeps of it, and whether that is warned of.
    #[test]
    fn a_mac_address_of_the_container() {
        let mac = "02:00:00:00:00:07";
        let body = |mode: &str, mac: &str, endpoints: serde_json::Value| {
            json!({"MacAddress": mac, "HostConfig": {"NetworkMode": mode},
                "NetworkingConfig": {"EndpointsConfig": endpoints}})
        };
        for (version, body, name, of_network, kept) in [
            (NEWEST, body("sea", mac, json!({})), "sea", mac, false),
            (NEWEST, body("", mac, json!({})), "default", mac, false),
            (NEWEST, body("default", mac, json!({"bridge": {}})), "bridge", mac, false),
            (NEWEST, body("bridge", mac, json!({"default": {"MacAddress": mac}})), "default", mac, false),
            (v1(43), body("sea", mac, json!({"id": {}})), "id", mac, true),
            (v1(43), body("sea", mac, json!({})), "sea", mac, true),
        ] {
            let (made, warnings) = made(version, body.clone()).unwrap();
            let settings = &made["NetworkingConfig"]["EndpointsConfig"][name];
            assert_eq!(settings["MacAddress"], of_network, "{version} {body}");
            assert_eq!(made.get("MacAddress").is_some(), kept, "{version} {body}");
            let deprecated = |text: &String| text.starts_with("The container-wide MacAddress field is now deprecated.");
            assert_eq!((warnings.len(), warnings.iter().any(deprecated)), (!kept as usize, !kept), "{version} {body}");
        }
        let of_network = json!({"sea": {"MacAddress": mac}});
        for (version, left) in [(v1(43), ""), (v1(44), mac)] {
            let (made, warnings) = made(version, body("sea", "", of_network.clone())).unwrap();
            assert_eq!(made["NetworkingConfig"]["EndpointsConfig"]["sea"]["MacAddress"], left, "{version}");
            assert!(warnings.is_empty());
        }
        let (made_of_host, warnings) = made(NEWEST, body("host", mac, json!({}))).unwrap();
        assert!(made_of_host.get("MacAddress").is_none() && warnings.len() == 1);
        for (version, body, words) in [
            (v1(43), body("host", mac, json!({})), "conflicting options: mac-address and the network mode"),
            (NEWEST, body("sea", mac, json!({"id": {}})), "HostConfig.NetworkMode must match the identity"),
            (NEWEST, body("sea", "02:00:00:00:00:08", of_network), "must match the endpoint-specific MAC address"),
        ] {
            let refusal = made(version, body).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn sysctls_of_eth0() {
        let body = |mode: &str, sysctls: serde_json::Value, endpoints: serde_json::Value| {
            json!({"HostConfig": {"NetworkMode": mode, "Sysctls": sysctls},
                "NetworkingConfig": {"EndpointsConfig": endpoints}})
        };
        let one = || json!({"net.ipv4.conf.eth0.log_martians": "1", "net.ipv4.ip_forward": "1"});
        let own = json!({"sea": {"DriverOpts": {(tune::OPTION): "net.ipv4.conf.IFNAME.x=2"}}});
        let moved = "net.ipv4.conf.IFNAME.log_martians=1";
        for (version, body, name, options) in [
            (v1(47), body("sea", one(), json!({})), "sea", moved.to_owned()),
            (v1(47), body("sea", one(), own.clone()), "sea", format!("{moved},net.ipv4.conf.IFNAME.x=2")),
            (v1(43), body("sea", one(), json!({"id": {}})), "id", moved.to_owned()),
        ] {
            let (made, warnings) = made(version, body.clone()).unwrap();
            let settings = &made["NetworkingConfig"]["EndpointsConfig"][name];
            assert_eq!(settings["DriverOpts"][tune::OPTION], options.as_str(), "{version} {body}");
            assert_eq!(made["HostConfig"]["Sysctls"], json!({"net.ipv4.ip_forward": "1"}), "{version} {body}");
            let warning = format!(
                "Migrated sysctl \"net.ipv4.conf.eth0.log_martians\" to DriverOpts{{\"{}\":\"{moved}\"}}.",
                tune::OPTION
            );
            assert_eq!(warnings, [warning], "{version} {body}");
        }
        let plain = json!({"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.log_martians": "1"});
        for body in [body("host", one(), json!({})), body("sea", plain, own)] {
            let (made, warnings) = made(NEWEST, body.clone()).unwrap();
            assert_eq!(made["HostConfig"]["Sysctls"], body["HostConfig"]["Sysctls"]);
            assert!(warnings.is_empty(), "{warnings:?}");
        }
        for (version, body, words) in [
            (v1(48), body("sea", one(), json!({})), "must be supplied using driver option"),
            (
                v1(47),
                body("sea", json!({"net.ipv4.conf.eth1.x": "1"}), json!({})),
                "unable to determine network endpoint",
            ),
            (v1(47), body("sea", one(), json!({"id": {}})), "unable to find a network for sysctl"),
        ] {
            let refusal = create(version, true, &mut read(body)).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
