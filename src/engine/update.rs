//! `POST /containers/{id}/update`: what may be changed of a container that was made.

use super::limits::{self, Supports};
use super::store::Store;
use super::{Record, containers, events, restart, shim};
use crate::api::Refusal;
use crate::api::types::{HostConfig, RestartPolicy, Updated};
use crate::cgroup;
use anyhow::{Context, Result, bail};

/// Changes what the body names; it has the names of a host config. Limits of a running container hold at once.
pub fn update(store: &Store, id: &str, mut asked: HostConfig) -> Result<Updated> {
    let policy = asked.restart_policy.clone();
    let record = Record::load(store, id)?.ok_or_else(|| containers::no_such(id))?;
    restart::check_update(&record, &policy)?;
    let mut warnings = Vec::new();
    let limited = has_limits(asked.clone());
    if limited {
        check(&asked)?;
        warnings = limits::check(&mut asked, &Supports::read(), true)?;
        limit(store, id, &asked)?;
    }
    if policy != RestartPolicy::default() {
        restart::update(store, id, &policy)?;
    }
    // As dockerd, also where nothing was asked for.
    if let Some(record) = Record::load(store, id)? {
        events::container(store, &record, "update", &[]);
    }
    Ok(Updated { warnings: Some(warnings).filter(|warnings| !warnings.is_empty()) })
}

fn cannot(id: &str) -> String {
    format!("Cannot update container {id}")
}

/// What Docker's update does not change is refused, and not taken and forgotten.
fn check(asked: &HostConfig) -> Result<()> {
    let some = |given: bool, what: &str| given.then(|| what.to_owned());
    let listed = [
        some(asked.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty()), "BlkioWeightDevice"),
        some(!asked.cgroup_parent.is_empty(), "CgroupParent"),
        some(asked.devices.as_ref().is_some_and(|list| !list.is_empty()), "Devices"),
        some(asked.device_cgroup_rules.as_ref().is_some_and(|list| !list.is_empty()), "DeviceCgroupRules"),
        some(asked.device_requests.as_ref().is_some_and(|list| !list.is_empty()), "DeviceRequests"),
        some(asked.ulimits.as_ref().is_some_and(|list| !list.is_empty()), "Ulimits"),
    ];
    let rates = [
        &asked.blkio_device_read_bps,
        &asked.blkio_device_write_bps,
        &asked.blkio_device_read_iops,
        &asked.blkio_device_write_iops,
    ];
    let rates = some(rates.iter().any(|list| list.as_ref().is_some_and(|list| !list.is_empty())), "rates of devices");
    match listed.into_iter().flatten().chain(rates).next() {
        Some(what) => bail!(Refusal::NotImplemented(format!("{what} of a container cannot be updated"))),
        None => Ok(()),
    }
}

/// Puts new limits on record and, where the container runs, into its cgroup. What cannot hold leaves all as it was.
fn limit(store: &Store, id: &str, asked: &HostConfig) -> Result<()> {
    let mut before = HostConfig::default();
    let record = Record::update(store, id, |record| {
        before = record.host_config.clone();
        limits::merge(&mut record.host_config, asked).with_context(|| cannot(id))
    })?;
    let Some(cgroup) = shim::cgroup_of(store, id, &record.host_config.cgroup_parent).filter(|path| path.exists())
    else {
        return Ok(());
    };
    let changed =
        || cgroup::limits::change(&cgroup, &limits::resources(&changing(&record.host_config), &limits::number)?);
    let Err(error) = changed() else { return Ok(()) };
    // One that has ended meanwhile has no limits to change.
    if !cgroup.exists() {
        return Ok(());
    }
    Record::update(store, id, |record| {
        before.restart_policy = std::mem::take(&mut record.host_config.restart_policy);
        record.host_config = before;
        Ok(())
    })?;
    Err(error.context(cannot(id)))
}

/// Without what no update changes: a device whose rate is limited may have gone, and its path with it.
fn changing(host: &HostConfig) -> HostConfig {
    let mut host = host.clone();
    host.blkio_weight_device = None;
    host.blkio_device_read_bps = None;
    host.blkio_device_write_bps = None;
    host.blkio_device_read_iops = None;
    host.blkio_device_write_iops = None;
    host.annotations = None;
    host
}

/// Whether anything but the restart policy is named. Clients also send what they do not ask for, as zeros.
fn has_limits(mut asked: HostConfig) -> bool {
    asked.restart_policy = RestartPolicy::default();
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
        let body = r#"{"CpuShares":0,"Memory":0,"BlkioWeightDevice":null,"Devices":[],"PidsLimit":null,"OomKillDisable":null,
            "MemorySwappiness":null,"Ulimits":null,"RestartPolicy":{"Name":"no","MaximumRetryCount":0}}"#;
        assert!(!has_limits(serde_json::from_str(body).unwrap()));
        for body in [r#"{"Memory":1}"#, r#"{"CpusetCpus":"0"}"#, r#"{"PidsLimit":0}"#, r#"{"NanoCpus":5}"#] {
            assert!(has_limits(serde_json::from_str(body).unwrap()), "{body}");
        }
    }
}
