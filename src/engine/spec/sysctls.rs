//! Sysctls of a container: those that belong to a namespace of its own.

use crate::order::Map;

use anyhow::{Result, bail};

use crate::api::types::HostConfig;
use crate::oci::runtime::{Namespace, NamespaceKind};

/// Given to every container with a network of its own: they make two capabilities unnecessary.
pub const DEFAULTS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Those of the IPC namespace, besides fs.mqueue.*.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The sysctls to set, of the defaults those that the kernel has.
pub fn sysctls(
    wants: &HostConfig,
    namespaces: &[Namespace],
    kernel_has: &[&'static str],
    own_ids: bool,
) -> Result<Map<String, String>> {
    let own = |kind| namespaces.iter().any(|namespace| namespace.kind == kind && namespace.path.is_empty());
    let mut set = Map::new();
    if own(NamespaceKind::Network) {
        let defaults = DEFAULTS.iter().filter(|(key, _)| kernel_has.contains(key));
        // The groups of that range are not all in the map.
        let defaults = defaults.filter(|(key, _)| !own_ids || *key != "net.ipv4.ping_group_range");
        set.extend(defaults.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    }
    check(wants)?;
    for (key, value) in wants.sysctls.iter().flatten() {
        set.insert(dotted(key), value.clone());
    }
    Ok(set)
}

/// Refuses what would change the host.
pub fn check(wants: &HostConfig) -> Result<()> {
    for key in wants.sysctls.iter().flatten().map(|(key, _)| dotted(key)) {
        // A component becomes a file name, in which a slash stands for a dot.
        let component = |part: &str| {
            !matches!(part, "" | "/" | "//")
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/:@".contains(&byte))
        };
        if !key.split('.').all(component) {
            bail!("sysctl {key:?} is not a name");
        }
        if IPC.contains(&key.as_str()) || key.starts_with("fs.mqueue.") {
            if wants.ipc_mode == "host" {
                bail!("sysctl {key:?} is not allowed in the hosts ipc namespace");
            }
        } else if key.starts_with("net.") {
            if wants.network_mode == "host" {
                bail!("sysctl {key:?} not allowed in host network namespace");
            }
        } else if key == "kernel.hostname" {
            bail!("sysctl {key:?} is not allowed as it conflicts with the OCI \"hostname\" field");
        } else if !(key == "kernel.domainname" && wants.uts_mode != "host") {
            bail!("sysctl {key:?} is not in a separate kernel namespace");
        }
    }
    Ok(())
}

/// sysctl(8) takes both separators, and the first one decides: `net/ipv4/conf/eth0.1/x` has a dot in a name.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(first) if key.as_bytes()[first] == b'/' => key
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}
