//! The body of a create.

use super::{bad, containers, networks, v1};
use crate::api::types::{ContainerCreate, HostConfig, Mount};
use crate::api::version::ApiVersion;
use anyhow::Result;

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
    if version < v1(40) {
        host.kernel_memory_tcp = 0;
    }
    if version < v1(41) && !unified && empty(&host.cgroupns_mode) {
        host.cgroupns_mode = "host".to_owned();
    }
    if version < v1(42) {
        // Windows only, then.
        host.console_size = [0, 0];
    }
    containers::forget_kernel_memory(version, host);
    if version < v1(43) {
        host.annotations = None;
    }
    asked.read_only_non_recursive = version < v1(44);
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
    warnings.extend(networks::mac(version, asked)?);
    warnings.extend(networks::sysctls(version, asked)?);
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::Refusal;
    use crate::api::version::NEWEST;
    use serde_json::json;

    pub fn read(body: serde_json::Value) -> ContainerCreate {
        crate::json::from_value(body).unwrap()
    }

    /// What is made of a body, and what is said of it; or why it is refused.
    pub fn made(version: ApiVersion, body: serde_json::Value) -> Result<(serde_json::Value, Vec<String>), String> {
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
}
