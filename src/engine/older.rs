//! What older versions of the API do otherwise, as far as it matters: brought to the newest where a request enters, and
//! back where its answer leaves.

use super::filters::Filters;
use super::networks::tune;
use crate::api::types::{
    ContainerCreate, ContainerInspect, ContainerSummary, DiskUsage, EndpointSettings, Endpoints, ExecCreate, ExecStart,
    HostConfig, ImageInspect, ImageSummary, Info, Mount, NEVER, OfContainer,
};
use crate::api::version::ApiVersion;
use crate::api::{Refusal, Request};
use anyhow::{Result, bail};

const fn v1(minor: u16) -> ApiVersion {
    ApiVersion::new(1, minor)
}

fn bad(text: impl Into<String>) -> anyhow::Error {
    Refusal::BadParameter(text.into()).into()
}

/// A body of create; with what is to be said of it. `unified`: this host has version 2 of cgroups.
pub fn create(version: ApiVersion, unified: bool, asked: &mut ContainerCreate) -> Result<Vec<String>> {
    let host = &mut asked.host_config;
    let empty = |text: &String| text.is_empty();
    if version < v1(25) {
        // The client was to remove it.
        host.auto_remove = false;
    }
    if version < v1(40) && empty(&host.ipc_mode) {
        host.ipc_mode = "shareable".to_owned();
    }
    if version < v1(41) && !unified && empty(&host.cgroupns_mode) {
        host.cgroupns_mode = "host".to_owned();
    }
    if version < v1(42) {
        // Windows only, then.
        host.console_size = [0, 0];
    }
    if version < v1(43) {
        host.annotations = None;
    }
    if version < v1(44)
        && let Some(check) = &mut asked.config.healthcheck
    {
        check.start_interval = 0;
    }
    for mount in host.mounts.iter_mut().flatten() {
        self::mount(version, mount)?;
    }
    let networks = asked.networking_config.endpoints_config.iter().flatten();
    let networks: Vec<&str> = networks.map(|(name, _)| name.as_str()).collect();
    if version < v1(44) && networks.len() > 1 {
        return Err(bad(format!(
            "Container cannot be created with multiple network endpoints: {}",
            networks.join(", ")
        )));
    }
    if version < v1(48) {
        let endpoints = asked.networking_config.endpoints_config.iter_mut().flatten();
        endpoints.for_each(|(_, settings)| settings.gw_priority = 0);
    }
    let mut warnings = Vec::new();
    if version >= v1(48) && is_ambiguous(host) {
        warnings.push(
            "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use \
             '--mount type=volume,volume-driver=...' instead"
                .to_owned(),
        );
    }
    warnings.extend(mac(version, asked)?);
    warnings.extend(sysctls(version, asked)?);
    Ok(warnings)
}

/// One of `HostConfig.Mounts`: what a version did not know is left out where that is harmless, and refused where not.
fn mount(version: ApiVersion, mount: &mut Mount) -> Result<()> {
    let kind = mount.r#type.as_str();
    if let Some(options) = &mut mount.bind_options {
        options.non_recursive &= version >= v1(40);
        options.create_mountpoint &= version >= v1(42);
        if version < v1(44) && kind == "bind" && options.read_only_force_recursive {
            return Err(bad("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
        }
    }
    if version < v1(42) {
        // What did not belong there did no harm.
        mount.volume_options = mount.volume_options.take().filter(|_| kind == "volume");
        mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| kind == "tmpfs");
    } else {
        for (name, of, is_there) in [
            ("VolumeOptions", "volume", mount.volume_options.is_some()),
            ("BindOptions", "bind", mount.bind_options.is_some()),
            ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
        ] {
            if is_there && kind != of {
                return Err(bad(format!("{name} must not be specified on mount type {kind:?}")));
            }
        }
    }
    if version < v1(45) && mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty()) {
        return Err(bad("VolumeOptions.Subpath needs API v1.45 or newer"));
    }
    if version < v1(48) && kind == "image" {
        return Err(bad("Mount type \"Image\" needs API v1.48 or newer"));
    }
    Ok(())
}

/// Whether a driver is named for all volumes beside mounts that name none.
fn is_ambiguous(host: &HostConfig) -> bool {
    let names_none = |mount: &Mount| {
        let driver = mount.volume_options.as_ref().and_then(|options| options.driver_config.as_ref());
        mount.r#type == "volume" && driver.is_none_or(|driver| driver.name.is_empty())
    };
    !host.volume_driver.is_empty() && host.mounts.iter().flatten().any(names_none)
}

/// The MAC address was the container's once, and is now that of its first network.
fn mac(version: ApiVersion, asked: &mut ContainerCreate) -> Result<Option<String>> {
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
fn sysctls(version: ApiVersion, asked: &mut ContainerCreate) -> Result<Option<String>> {
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

/// A parameter that was not there before a version.
pub fn since<'a>(minor: u16, request: &'a Request, key: &str) -> Option<&'a str> {
    request.query(key).filter(|_| request.version >= v1(minor))
}

/// A body of `POST /containers/{id}/update`.
pub fn update(version: ApiVersion, asked: &mut HostConfig) {
    if version < v1(40) {
        asked.pids_limit = None;
    }
}

/// An exec, which had no size to begin with.
pub fn exec_create(version: ApiVersion, asked: &mut ExecCreate) {
    if version < v1(42) {
        asked.console_size = None;
    }
}

/// The same where it is started; without a terminal there is none.
pub fn exec_start(version: ApiVersion, asked: &mut ExecStart) {
    if version < v1(42) || !asked.tty {
        asked.console_size = None;
    }
}

/// Whether a wait is answered before it is over, and told for what.
pub fn answers_waits_first(version: ApiVersion) -> bool {
    version >= v1(30)
}

/// Whether a WebSocket is told which streams it wants; before, it got all.
pub fn picks_streams(version: ApiVersion) -> bool {
    version >= v1(42)
}

/// The filters of a list of images, one of which stood by itself.
pub fn image_filters(request: &Request, filters: &mut Filters) {
    if request.version < v1(41)
        && let Some(pattern) = request.query("filter").filter(|pattern| !pattern.is_empty())
    {
        filters.add("reference", pattern);
    }
}

/// The filters of a prune of volumes, which once took those with a name, too.
pub fn volume_prune(version: ApiVersion, filters: &mut Filters) {
    if version < v1(42) && !filters.has("all") {
        filters.add("all", "true");
    }
}

/// A list of containers.
pub fn containers(version: ApiVersion, containers: &mut [ContainerSummary]) {
    if version < v1(46) {
        containers.iter_mut().for_each(|container| container.host_config.annotations = None);
    }
}

/// A container, which was once told to have its own names among those that were asked for.
pub fn container(version: ApiVersion, container: &mut ContainerInspect) {
    if version >= v1(45) {
        return;
    }
    for (network, settings) in &mut container.network_settings.networks {
        if matches!(network.as_str(), "bridge" | "host" | "none") {
            continue;
        }
        let aliases = settings.aliases.get_or_insert_default();
        for name in [&container.id[..container.id.len().min(12)], &container.config.hostname] {
            if !aliases.iter().any(|alias| alias == name) {
                aliases.push(name.to_owned());
            }
        }
    }
}

/// A list of images, each of which once had a name in any case, and its size twice.
pub fn images(version: ApiVersion, images: &mut [ImageSummary]) {
    for image in images {
        if version < v1(42) {
            image.shared_size = -1;
        }
        if version < v1(43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            image.repo_tags.push("<none>:<none>".to_owned());
            image.repo_digests.push("<none>@<none>".to_owned());
        }
        if version < v1(44) {
            image.virtual_size = Some(image.size);
        }
        if version < v1(51) {
            image.containers = -1;
        }
    }
}

/// What of the disk was asked for: once it was all, whatever was said.
pub fn usage_kinds(request: &Request) -> Vec<&str> {
    let kinds = request.query.iter().filter(|(key, _)| key == "type" && request.version >= v1(42));
    kinds.map(|(_, kind)| kind.as_str()).collect()
}

/// What the disk holds.
pub fn usage(version: ApiVersion, usage: &mut DiskUsage) {
    if version < v1(42) {
        usage.builder_size = usage.build_cache.iter().flatten().map(|record| record.size).sum();
    }
    if version < v1(44) {
        usage.images.iter_mut().flatten().for_each(|image| image.virtual_size = Some(image.size));
    }
}

/// What the engine says of itself.
pub fn info(version: ApiVersion, info: &mut Info) {
    if version < v1(25) {
        // `name=seccomp,profile=builtin` was `seccomp`.
        for option in &mut info.security_options {
            let name = option.split(',').find_map(|part| part.strip_prefix("name="));
            *option = name.unwrap_or(option).to_owned();
        }
    }
    if version < v1(47) {
        info.registry_config.foreign_cidrs = Some(());
        info.registry_config.foreign_hosts = Some(());
    }
    if version < v1(50) {
        info.discovered_devices.clear();
        (info.bridge_nf_iptables, info.bridge_nf_ip6tables) = (Some(false), Some(false));
    }
}

/// An image, which once said in its configuration what only containers have, and what container it had been.
pub fn image(version: ApiVersion, image: &mut ImageInspect) {
    if version < v1(44) {
        image.virtual_size = Some(image.size);
        if image.created.is_empty() {
            image.created = NEVER.to_owned();
        }
    }
    image.container_config = match version < v1(45) {
        // Never null: docker-compose 1.29 looks for volumes in it.
        true => Some(image.container_config.take().unwrap_or_default()),
        false => None,
    };
    if version < v1(50) {
        image.config.of_container = Some(OfContainer::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::version::NEWEST;
    use serde_json::json;

    fn read(body: serde_json::Value) -> ContainerCreate {
        serde_json::from_value(body).unwrap()
    }

    /// What is made of a body, and what is said of it; or why it is refused.
    fn made(version: ApiVersion, body: serde_json::Value) -> Result<(serde_json::Value, Vec<String>), String> {
        let mut asked = read(body);
        let warnings = create(version, true, &mut asked).map_err(|error| {
            assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400), "{error}");
            error.to_string()
        })?;
        Ok((serde_json::to_value(asked).unwrap(), warnings))
    }

    #[test]
    fn what_create_meant() {
        for (version, unified, ipc, cgroupns, size) in [
            (NEWEST, true, "", "", [2, 3]),
            (v1(41), false, "", "", [0, 0]),
            (v1(40), false, "", "host", [0, 0]),
            (v1(40), true, "", "", [0, 0]),
            (v1(24), true, "shareable", "", [0, 0]),
        ] {
            let mut asked = ContainerCreate::default();
            asked.host_config.console_size = [2, 3];
            create(version, unified, &mut asked).unwrap();
            let host = &asked.host_config;
            assert_eq!((&*host.ipc_mode, &*host.cgroupns_mode, host.console_size), (ipc, cgroupns, size), "{version}");
        }
        let mounts = |mount: serde_json::Value| json!({"HostConfig": {"Mounts": [mount]}});
        let host = |host: serde_json::Value| json!({"HostConfig": host});
        let gate = "/HostConfig/Mounts/0/BindOptions";
        for (version, body, pointer, value) in [
            (v1(24), host(json!({"IpcMode": "private"})), "/HostConfig/IpcMode", Some(json!("private"))),
            (v1(24), host(json!({"AutoRemove": true})), "/HostConfig/AutoRemove", Some(json!(false))),
            (v1(25), host(json!({"AutoRemove": true})), "/HostConfig/AutoRemove", Some(json!(true))),
            (v1(42), host(json!({"Annotations": {"a": "b"}})), "/HostConfig/Annotations", None),
            (v1(43), host(json!({"Annotations": {"a": "b"}})), "/HostConfig/Annotations/a", Some(json!("b"))),
            (v1(43), json!({"Healthcheck": {"StartInterval": 5, "Interval": 7}}), "/Healthcheck/StartInterval", None),
            (
                v1(43),
                json!({"Healthcheck": {"StartInterval": 5, "Interval": 7}}),
                "/Healthcheck/Interval",
                Some(json!(7)),
            ),
            (v1(44), json!({"Healthcheck": {"StartInterval": 5}}), "/Healthcheck/StartInterval", Some(json!(5))),
            (
                v1(47),
                json!({"NetworkingConfig": {"EndpointsConfig": {"sea": {"GwPriority": 3}}}}),
                "/NetworkingConfig/EndpointsConfig/sea/GwPriority",
                Some(json!(0)),
            ),
            (
                v1(48),
                json!({"NetworkingConfig": {"EndpointsConfig": {"sea": {"GwPriority": 3}}}}),
                "/NetworkingConfig/EndpointsConfig/sea/GwPriority",
                Some(json!(3)),
            ),
            (
                v1(39),
                mounts(json!({"Type": "bind", "BindOptions": {"NonRecursive": true, "CreateMountpoint": true}})),
                gate,
                Some(json!({})),
            ),
            (
                v1(41),
                mounts(json!({"Type": "bind", "BindOptions": {"NonRecursive": true, "CreateMountpoint": true}})),
                gate,
                Some(json!({"NonRecursive": true})),
            ),
            (
                v1(42),
                mounts(json!({"Type": "bind", "BindOptions": {"CreateMountpoint": true}})),
                gate,
                Some(json!({"CreateMountpoint": true})),
            ),
            (
                v1(41),
                mounts(json!({"Type": "tmpfs", "VolumeOptions": {"NoCopy": true}})),
                "/HostConfig/Mounts/0/VolumeOptions",
                None,
            ),
        ] {
            let (made, warnings) = made(version, body.clone()).unwrap();
            assert_eq!(made.pointer(pointer), value.as_ref(), "{version} {body}");
            assert!(warnings.is_empty(), "{version} {body}");
        }
        let two = json!({"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}});
        for (version, body, refusal) in [
            (v1(44), two.clone(), ""),
            (v1(43), two, "Container cannot be created with multiple network endpoints: a, b"),
            (
                v1(42),
                mounts(json!({"Type": "tmpfs", "VolumeOptions": {}})),
                "VolumeOptions must not be specified on mount type \"tmpfs\"",
            ),
            (
                NEWEST,
                mounts(json!({"Type": "volume", "BindOptions": {}})),
                "BindOptions must not be specified on mount type \"volume\"",
            ),
            (
                v1(43),
                mounts(json!({"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": true}})),
                "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
            ),
            (
                v1(44),
                mounts(json!({"Type": "volume", "VolumeOptions": {"Subpath": "x"}})),
                "VolumeOptions.Subpath needs API v1.45 or newer",
            ),
            (v1(45), mounts(json!({"Type": "volume", "VolumeOptions": {"Subpath": "x"}})), ""),
            (v1(47), mounts(json!({"Type": "image"})), "Mount type \"Image\" needs API v1.48 or newer"),
            (v1(48), mounts(json!({"Type": "image"})), ""),
        ] {
            assert_eq!(made(version, body.clone()).err().unwrap_or_default(), refusal, "{version} {body}");
        }
        let volumes = json!({"VolumeDriver": "local", "Mounts": [{"Type": "volume", "Target": "/x"}]});
        let named = json!({"VolumeDriver": "local", "Mounts": [
            {"Type": "volume", "VolumeOptions": {"DriverConfig": {"Name": "local"}}}, {"Type": "tmpfs"}]});
        for (version, body, count) in
            [(v1(48), host(volumes.clone()), 1), (v1(47), host(volumes), 0), (v1(48), host(named), 0)]
        {
            assert_eq!(made(version, body.clone()).unwrap().1.len(), count, "{version} {body}");
        }
    }

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

    fn request(version: ApiVersion, query: &[(&str, &str)]) -> Request {
        let mut request = Request::new("GET", "/");
        request.version = version;
        request.query = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        request
    }

    #[test]
    fn what_was_not_asked_yet() {
        for (version, signal, filter, kinds) in
            [(v1(40), None, true, vec![]), (v1(41), None, false, vec![]), (v1(42), Some("INT"), false, vec!["image"])]
        {
            let request = request(version, &[("signal", "INT"), ("filter", "sea*"), ("type", "image")]);
            let mut filters = Filters::default();
            image_filters(&request, &mut filters);
            assert_eq!(since(42, &request, "signal"), signal, "{version}");
            assert_eq!(filters.get("reference") == ["sea*"], filter, "{version}");
            assert_eq!(usage_kinds(&request), kinds, "{version}");
        }
        for (version, tty, size) in [(v1(41), true, None), (v1(42), true, Some([2, 3])), (v1(42), false, None)] {
            let mut start = ExecStart { tty, console_size: Some([2, 3]), ..ExecStart::default() };
            exec_start(version, &mut start);
            assert_eq!(start.console_size, size, "{version} {tty}");
        }
        for (version, size, limit) in [(v1(39), None, None), (v1(40), None, Some(7)), (v1(42), Some([2, 3]), Some(7))] {
            let mut exec = ExecCreate { console_size: Some([2, 3]), ..ExecCreate::default() };
            exec_create(version, &mut exec);
            let mut host = HostConfig { pids_limit: Some(7), ..HostConfig::default() };
            update(version, &mut host);
            assert_eq!((exec.console_size, host.pids_limit), (size, limit), "{version}");
        }
    }

    #[test]
    fn what_was_told_of_containers_and_of_the_engine() {
        for (version, annotated) in [(v1(45), false), (v1(46), true)] {
            let mut list = [ContainerSummary::default()];
            list[0].host_config.annotations = Some([("a".to_owned(), "b".to_owned())].into());
            containers(version, &mut list);
            assert_eq!(list[0].host_config.annotations.is_some(), annotated, "{version}");
        }
        let id = "0123456789abcdef";
        for (version, network, given, told) in [
            (v1(44), "sea", Some(vec!["db", &id[..12]]), Some(vec!["db", &id[..12], "web"])),
            (v1(44), "sea", None, Some(vec![&id[..12], "web"])),
            (v1(44), "bridge", None, None),
            (v1(45), "sea", Some(vec!["db"]), Some(vec!["db"])),
        ] {
            let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
            let settings = EndpointSettings { aliases: given.map(owned), ..EndpointSettings::default() };
            let mut one = ContainerInspect { id: id.to_owned(), ..ContainerInspect::default() };
            one.config.hostname = "web".to_owned();
            one.network_settings.networks.insert(network.to_owned(), settings);
            container(version, &mut one);
            assert_eq!(one.network_settings.networks[network].aliases, told.map(owned), "{version} {network}");
        }
        let told = |version| {
            let options = ["name=seccomp,profile=builtin", "name=cgroupns"];
            let mut said = Info { security_options: options.map(str::to_owned).into(), ..Info::default() };
            info(version, &mut said);
            serde_json::to_value(said).unwrap()
        };
        for (version, pointer, value) in [
            (v1(24), "/SecurityOptions", Some(json!(["seccomp", "cgroupns"]))),
            (v1(25), "/SecurityOptions/1", Some(json!("name=cgroupns"))),
            (v1(46), "/RegistryConfig/AllowNondistributableArtifactsCIDRs", Some(json!(null))),
            (v1(46), "/RegistryConfig/AllowNondistributableArtifactsHostnames", Some(json!(null))),
            (v1(47), "/RegistryConfig/AllowNondistributableArtifactsCIDRs", None),
            (v1(49), "/BridgeNfIptables", Some(json!(false))),
            (v1(49), "/BridgeNfIp6tables", Some(json!(false))),
            (v1(50), "/BridgeNfIptables", None),
        ] {
            assert_eq!(told(version).pointer(pointer), value.as_ref(), "{version} {pointer}");
        }
        let held = |version| {
            let record = crate::api::types::BuildCache { size: 5, ..Default::default() };
            let image = ImageSummary { size: 7, ..ImageSummary::default() };
            let mut held = DiskUsage {
                build_cache: Some(vec![record.clone(), record]),
                images: Some(vec![image]),
                ..DiskUsage::default()
            };
            usage(version, &mut held);
            serde_json::to_value(held).unwrap()
        };
        for (version, pointer, value) in [
            (v1(41), "/BuilderSize", Some(json!(10))),
            (v1(42), "/BuilderSize", None),
            (v1(43), "/Images/0/VirtualSize", Some(json!(7))),
            (v1(44), "/Images/0/VirtualSize", None),
        ] {
            assert_eq!(held(version).pointer(pointer), value.as_ref(), "{version} {pointer}");
        }
    }

    #[test]
    fn what_was_answered() {
        let mut one = [ImageSummary { size: 7, containers: 2, shared_size: 3, ..ImageSummary::default() }];
        let new = one[0].clone();
        images(v1(51), &mut one);
        assert_eq!(one[0], new);
        images(v1(44), &mut one);
        assert_eq!(one[0], ImageSummary { containers: -1, ..new });
        images(v1(42), &mut one);
        assert_eq!(one[0].shared_size, 3);
        images(v1(41), &mut one);
        assert_eq!(one[0].shared_size, -1);
        assert_eq!((one[0].virtual_size, one[0].repo_tags[0].as_str()), (Some(7), "<none>:<none>"));
        let answer = |version| {
            let mut one = ImageInspect { size: 7, ..ImageInspect::default() };
            image(version, &mut one);
            serde_json::to_value(one).unwrap()
        };
        for (version, pointer, value) in [
            (NEWEST, "/Config/Tty", None),
            (v1(49), "/Config/Tty", Some(json!(false))),
            (v1(49), "/Config/Cmd", Some(json!(null))),
            (v1(45), "/ContainerConfig", None),
            (v1(44), "/ContainerConfig/Volumes", Some(json!(null))),
            (v1(44), "/VirtualSize", None),
            (v1(43), "/VirtualSize", Some(json!(7))),
            (v1(43), "/Created", Some(json!(NEVER))),
        ] {
            assert_eq!(answer(version).pointer(pointer), value.as_ref(), "{version} {pointer}");
        }
        let mut filters = Filters::default();
        volume_prune(v1(42), &mut filters);
        assert!(!filters.has("all"));
        volume_prune(v1(41), &mut filters);
        assert_eq!(filters.flag("all").unwrap(), Some(true));
    }
}
