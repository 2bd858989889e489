//! Containers and execs.

use super::v1;
use crate::api::types::{ContainerInspect, ContainerSummary, ExecCreate, ExecStart, HostConfig};
use crate::api::version::ApiVersion;

/// A body of `POST /containers/{id}/update`.
pub fn update(version: ApiVersion, asked: &mut HostConfig) {
    if version < v1(40) {
        asked.pids_limit = None;
    }
    forget_kernel_memory(version, asked);
}

/// A limit that the API has no more.
pub(super) fn forget_kernel_memory(version: ApiVersion, asked: &mut HostConfig) {
    if version >= v1(42) {
        asked.kernel_memory = 0;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::EndpointSettings;

    #[test]
    fn what_was_not_asked_yet() {
        for (version, tty, size) in [(v1(41), true, None), (v1(42), true, Some([2, 3])), (v1(42), false, None)] {
            let mut start = ExecStart { tty, console_size: Some([2, 3]), ..ExecStart::default() };
            exec_start(version, &mut start);
            assert_eq!(start.console_size, size, "{version} {tty}");
        }
        for (version, size, limit) in [(v1(39), None, None), (v1(40), None, Some(7)), (v1(42), Some([2, 3]), Some(7))] {
            let mut exec = ExecCreate { console_size: Some([2, 3]), ..ExecCreate::default() };
            exec_create(version, &mut exec);
            let mut host = HostConfig { pids_limit: Some(7), kernel_memory: 9, ..HostConfig::default() };
            update(version, &mut host);
            assert_eq!((exec.console_size, host.pids_limit), (size, limit), "{version}");
            assert_eq!(host.kernel_memory, if version < v1(42) { 9 } else { 0 }, "{version}");
        }
    }

    #[test]
    fn what_was_told_of_containers() {
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
    }
}
