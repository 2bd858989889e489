//! The engine, its disk and its volumes.

use super::v1;
use crate::api::Request;
use crate::api::types::{DiskUsage, Event, Info};
use crate::api::version::ApiVersion;
use crate::engine::filters::Filters;

/// The filters of a prune of volumes, which once took those with a name, too.
pub fn volume_prune(version: ApiVersion, filters: &mut Filters) {
    if version < v1(42) && !filters.has("all") {
        filters.add("all", "true");
    }
}
/// Which events there are: of images, not always those that commits and builds make.
pub fn knows_event(version: ApiVersion) -> fn(&Event) -> bool {
    match version < v1(46) {
        true => |event| !(event.r#type == "image" && event.action == "create"),
        false => |_| true,
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

#[cfg(test)]
mod tests {
    use super::super::{request, since};
    use super::*;
    use crate::api::types::ImageSummary;
    use serde_json::json;

    #[test]
    fn what_was_not_asked_yet() {
        for (version, signal, kinds) in
            [(v1(40), None, vec![]), (v1(41), None, vec![]), (v1(42), Some("INT"), vec!["image"])]
        {
            let request = request(version, &[("signal", "INT"), ("type", "image")]);
            assert_eq!(since(42, &request, "signal"), signal, "{version}");
            assert_eq!(usage_kinds(&request), kinds, "{version}");
        }
        let mut filters = Filters::default();
        volume_prune(v1(42), &mut filters);
        assert!(!filters.has("all"));
        volume_prune(v1(41), &mut filters);
        assert_eq!(filters.flag("all").unwrap(), Some(true));
    }

    #[test]
    fn events_that_were_not_there() {
        for (version, kind, action, known) in [
            (v1(45), "image", "create", false),
            (v1(45), "image", "pull", true),
            (v1(45), "volume", "create", true),
            (v1(46), "image", "create", true),
        ] {
            let event = Event { r#type: kind.to_owned(), action: action.to_owned(), ..Event::default() };
            assert_eq!(knows_event(version)(&event), known, "{version} {kind} {action}");
        }
    }

    #[test]
    fn what_was_told_of_the_engine() {
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
}
