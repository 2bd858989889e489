//! What older versions of the API do otherwise, as far as it matters: brought to the newest where a request enters, and
//! back where its answer leaves.

use super::filters::Filters;
use crate::api::Refusal;
use crate::api::types::{ContainerCreate, ImageInspect, ImageSummary, Info, NEVER, OfContainer};
use crate::api::version::ApiVersion;
use anyhow::{Result, bail};

const fn v1(minor: u16) -> ApiVersion {
    ApiVersion::new(1, minor)
}

/// A body of create.
pub fn create(version: ApiVersion, asked: &mut ContainerCreate) -> Result<()> {
    let host = &mut asked.host_config;
    let empty = |text: &String| text.is_empty();
    if version < v1(40) && empty(&host.ipc_mode) {
        host.ipc_mode = "shareable".to_owned();
    }
    if version < v1(41) && empty(&host.cgroupns_mode) {
        host.cgroupns_mode = "host".to_owned();
    }
    if version < v1(42) {
        // Windows only, then.
        host.console_size = [0, 0];
    }
    let networks = asked.networking_config.endpoints_config.iter().flatten();
    let networks: Vec<&str> = networks.map(|(name, _)| name.as_str()).collect();
    if version < v1(44) && networks.len() > 1 {
        bail!(Refusal::BadParameter(format!(
            "Container cannot be connected to network endpoints: {}",
            networks.join(", ")
        )));
    }
    Ok(())
}

/// The filters of a prune of volumes, which once took those with a name, too.
pub fn volume_prune(version: ApiVersion, filters: &mut Filters) {
    if version < v1(42) && !filters.has("all") {
        filters.add("all", "true");
    }
}

/// A list of images, each of which once had a name in any case, and its size twice.
pub fn images(version: ApiVersion, images: &mut [ImageSummary]) {
    for image in images {
        if version < v1(43) && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            image.repo_tags.push("<none>:<none>".to_owned());
            image.repo_digests.push("<none>@<none>".to_owned());
        }
        if version < v1(44) {
            image.virtual_size = Some(image.size);
        }
    }
}

/// What the engine says of itself, which once was nothing of devices.
pub fn info(version: ApiVersion, info: &mut Info) {
    if version < v1(50) {
        info.discovered_devices.clear();
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
    use crate::api::types::EndpointSettings;
    use crate::api::version::NEWEST;
    use serde_json::json;

    #[test]
    fn what_create_meant() {
        for (version, ipc, cgroupns, size) in [
            (NEWEST, "", "", [2, 3]),
            (v1(41), "", "", [0, 0]),
            (v1(40), "", "host", [0, 0]),
            (v1(24), "shareable", "host", [0, 0]),
        ] {
            let mut asked = ContainerCreate::default();
            asked.host_config.console_size = [2, 3];
            create(version, &mut asked).unwrap();
            let host = &asked.host_config;
            assert_eq!((&*host.ipc_mode, &*host.cgroupns_mode, host.console_size), (ipc, cgroupns, size), "{version}");
        }
        let mut asked = ContainerCreate::default();
        asked.host_config.ipc_mode = "private".to_owned();
        create(v1(24), &mut asked).unwrap();
        assert_eq!(asked.host_config.ipc_mode, "private");
        let two = ["a", "b"].map(|name| (name.to_owned(), EndpointSettings::default()));
        asked.networking_config.endpoints_config = Some(two.into());
        assert!(create(v1(44), &mut asked).is_ok());
        let refusal = create(v1(43), &mut asked).unwrap_err().to_string();
        assert_eq!(refusal, "Container cannot be connected to network endpoints: a, b");
    }

    #[test]
    fn what_was_answered() {
        let mut one = [ImageSummary { size: 7, ..ImageSummary::default() }];
        images(v1(44), &mut one);
        assert_eq!(one[0], ImageSummary { size: 7, ..ImageSummary::default() });
        images(v1(42), &mut one);
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
