//! `POST /containers/{id}/update`: what may be changed of a container that was made.

use super::store::Store;
use super::{Record, events, restart};
use crate::api::Refusal;
use crate::api::types::{HostConfig, RestartPolicy, Updated};
use anyhow::{Result, bail};

/// Changes what the body names; it has the names of a host config.
pub fn update(store: &Store, id: &str, asked: HostConfig) -> Result<Updated> {
    let policy = asked.restart_policy.clone();
    if has_limits(asked) {
        bail!(Refusal::NotImplemented("resource limits come with a later release of dhow".to_owned()));
    }
    if policy != RestartPolicy::default() {
        restart::update(store, id, &policy)?;
        if let Some(record) = Record::load(store, id)? {
            events::container(store, &record, "update", &[]);
        }
    }
    Ok(Updated::default())
}

/// Whether anything but the restart policy is named. Clients also send what they do not ask for, as zeros.
fn has_limits(mut asked: HostConfig) -> bool {
    asked.restart_policy = RestartPolicy::default();
    asked.pids_limit = asked.pids_limit.filter(|limit| *limit != 0);
    asked.oom_kill_disable = asked.oom_kill_disable.filter(|disable| *disable);
    asked.memory_swappiness = asked.memory_swappiness.filter(|value| *value != -1);
    for list in [
        &mut asked.blkio_device_read_bps,
        &mut asked.blkio_device_write_bps,
        &mut asked.blkio_device_read_iops,
        &mut asked.blkio_device_write_iops,
    ] {
        *list = list.take().filter(|list| !list.is_empty());
    }
    asked.blkio_weight_device = asked.blkio_weight_device.filter(|list| !list.is_empty());
    asked.devices = asked.devices.filter(|list| !list.is_empty());
    asked.device_cgroup_rules = asked.device_cgroup_rules.filter(|list| !list.is_empty());
    asked.device_requests = asked.device_requests.filter(|list| !list.is_empty());
    asked.ulimits = asked.ulimits.filter(|list| !list.is_empty());
    asked != HostConfig::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_no_limit() {
        let body = r#"{"CpuShares":0,"Memory":0,"BlkioWeightDevice":null,"Devices":[],"PidsLimit":0,"OomKillDisable":null,
            "MemorySwappiness":null,"Ulimits":null,"RestartPolicy":{"Name":"no","MaximumRetryCount":0}}"#;
        assert!(!has_limits(serde_json::from_str(body).unwrap()));
        for body in [r#"{"Memory":1}"#, r#"{"CpusetCpus":"0"}"#, r#"{"PidsLimit":-1}"#, r#"{"NanoCpus":5}"#] {
            assert!(has_limits(serde_json::from_str(body).unwrap()), "{body}");
        }
    }
}
