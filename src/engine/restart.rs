//! Restart policies: when a container that has ended is started again, and how long that is put off.
//!
//! The shim decides, at the end of init, by what the record says then: so a changed policy holds from the next end on.
//! A container that did not start at all the first time is left alone; later failures to start count as ends.

use super::locks;
use super::record::{Ended, Record};
use super::store::{self, Store};
use crate::api::Refusal;
use crate::api::types::{HostConfig, RestartPolicy};
use anyhow::{Result, bail};
use std::time::Duration;

/// Docker's: the first pause, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// What has run for so long begins anew with the first pause.
const SETTLED: Duration = Duration::from_secs(10);

/// The pause before a restart, from the one before it (zero for none) and how long the container ran.
pub fn pause(before: Duration, uptime: Duration) -> Duration {
    if before.is_zero() || uptime >= SETTLED { FIRST } else { (before * 2).min(LONGEST) }
}

/// Whether there is a policy, or bad health is one.
pub fn has_policy(host: &HostConfig) -> bool {
    !matches!(host.restart_policy.name.as_str(), "" | "no") || host.on_unhealthy == "restart"
}

/// Whether the policy asks to start again what ended like this.
pub fn wanted(policy: &RestartPolicy, ended: &Ended) -> bool {
    let max = policy.maximum_retry_count;
    match policy.name.as_str() {
        _ if ended.stopped_by_hand => false,
        "always" | "unless-stopped" => true,
        "on-failure" => ended.exit_code != 0 && (max == 0 || ended.restart_count < max),
        _ => false,
    }
}

/// Whether it should run after the machine, or whoever looks after it, has come back.
pub fn wanted_at_boot(record: &Record) -> bool {
    let Record { host_config, ended, .. } = record;
    let started = ended.started_at != crate::api::types::NEVER;
    let always = host_config.restart_policy.name == "always";
    started && (always || ended.due || wanted(&host_config.restart_policy, ended))
}

/// Refuses with Docker's words a policy that there is not.
pub fn check(policy: &RestartPolicy, auto_remove: bool) -> Result<()> {
    let count = policy.maximum_retry_count;
    let refuse = |text: String| -> Result<()> { bail!(Refusal::BadParameter(text)) };
    match policy.name.as_str() {
        "no" | "always" | "unless-stopped" if count != 0 => {
            let more = if count < 0 { " and cannot be negative" } else { "" };
            refuse(format!("invalid restart policy: maximum retry count can only be used with 'on-failure'{more}"))
        }
        "on-failure" if count < 0 => {
            refuse("invalid restart policy: maximum retry count cannot be negative".to_owned())
        }
        "always" | "unless-stopped" | "on-failure" if auto_remove => {
            refuse("can't create 'AutoRemove' container with restart policy".to_owned())
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => Ok(()),
        other => refuse(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
             'unless-stopped'"
        )),
    }
}

/// Refuses a policy that a container cannot be given.
pub fn check_update(record: &Record, policy: &RestartPolicy) -> Result<()> {
    check(policy, false)?;
    if record.host_config.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        bail!(Refusal::Conflict(format!(
            "Cannot update container {}: Restart policy cannot be updated because AutoRemove is enabled for the container",
            record.id
        )));
    }
    Ok(())
}

/// Gives a container another policy. Its shim, if it has one, reads it at the next end, or when the pause is over.
pub fn update(store: &Store, id: &str, policy: &RestartPolicy) -> Result<()> {
    if policy.name.is_empty() {
        return Ok(());
    }
    let record = Record::update(store, id, |record| {
        record.host_config.restart_policy = policy.clone();
        Ok(())
    })?;
    if has_policy(&record.host_config) { Ok(()) } else { forget(store, id, false) }
}

/// A restart that is due, and for which no shim waits any more, is given up. A shim that lives sees to it itself.
pub fn forget(store: &Store, id: &str, by_hand: bool) -> Result<()> {
    if !Record::load(store, id)?.is_some_and(|record| record.ended.due) {
        return Ok(());
    }
    store::make_dirs(&store.live(id), 0o711)?;
    // With the shim's lock in hand nobody starts it meanwhile.
    let Some(_lock) = locks::try_exclusive(&store.live(id).join("lock"), locks::byte::SHIM)? else { return Ok(()) };
    Record::update(store, id, |record| {
        record.ended.due = false;
        record.ended.stopped_by_hand |= by_hand;
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, count: i64) -> RestartPolicy {
        RestartPolicy { name: name.to_owned(), maximum_retry_count: count }
    }

    #[test]
    fn pauses_double_and_begin_anew() {
        let (mut before, short) = (Duration::ZERO, Duration::from_secs(9));
        let mut seen = Vec::new();
        for _ in 0..12 {
            before = pause(before, short);
            seen.push(before.as_millis());
        }
        assert_eq!(seen, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(pause(before, SETTLED), FIRST);
        assert_eq!(pause(Duration::ZERO, SETTLED), FIRST);
    }

    #[test]
    fn who_is_started_again() {
        // policy, count, exit code, restarts so far, stopped by hand → at the end, after a boot
        let table = [
            ("no", 0, 1, 0, false, false, false),
            ("", 0, 1, 0, false, false, false),
            ("always", 0, 0, 99, false, true, true),
            ("always", 0, 0, 0, true, false, true),
            ("unless-stopped", 0, 3, 0, false, true, true),
            ("unless-stopped", 0, 3, 0, true, false, false),
            ("on-failure", 0, 0, 0, false, false, false),
            ("on-failure", 0, 1, 99, false, true, true),
            ("on-failure", 3, 1, 2, false, true, true),
            ("on-failure", 3, 1, 3, false, false, false),
            ("on-failure", 0, 137, 0, true, false, false),
        ];
        for (name, count, exit_code, restart_count, stopped_by_hand, at_end, at_boot) in table {
            let started_at = "2024-01-01T00:00:00Z".to_owned();
            let ended = Ended { exit_code, restart_count, stopped_by_hand, started_at, ..Ended::default() };
            assert_eq!(wanted(&policy(name, count), &ended), at_end, "{name}:{count} {ended:?}");
            let mut record = Record { ended, ..Record::default() };
            record.host_config.restart_policy = policy(name, count);
            assert_eq!(wanted_at_boot(&record), at_boot, "{name}:{count}");
            record.ended.started_at = crate::api::types::NEVER.to_owned();
            assert!(!wanted_at_boot(&record), "what was never started stays so");
        }
    }

    #[test]
    fn what_is_no_policy() {
        let table = [
            (policy("always", 2), false, "maximum retry count can only be used with 'on-failure'"),
            (policy("no", -1), false, "can only be used with 'on-failure' and cannot be negative"),
            (policy("on-failure", -1), false, "maximum retry count cannot be negative"),
            (policy("sometimes", 0), false, "unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or"),
            (policy("always", 0), true, "can't create 'AutoRemove' container with restart policy"),
        ];
        for (policy, auto_remove, words) in table {
            let error = check(&policy, auto_remove).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for policy in [policy("", 5), policy("no", 0), policy("on-failure", 5), policy("unless-stopped", 0)] {
            assert!(check(&policy, false).is_ok());
        }
        assert!(check(&policy("no", 0), true).is_ok());
    }
}
