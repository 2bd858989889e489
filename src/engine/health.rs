//! Health checks: what is asked of a container now and then, and what its answers make of it. The shim's timer starts a
//! probe, a process of its own, which writes what it found; this is what it writes, and by which rules.

use super::containers::Doing;
use super::record::Record;
use super::store::{self, Store};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{ContainerConfig, Health, HealthResult, Healthcheck, HostConfig};
use crate::json;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

pub const STARTING: &str = "starting";
pub const HEALTHY: &str = "healthy";
pub const UNHEALTHY: &str = "unhealthy";

/// How many results are kept, and how much of what a probe says.
const RESULTS: usize = 5;
pub const OUTPUT: usize = 4096;
/// The shortest time that can be asked for, in nanoseconds.
const SHORTEST: i64 = 1_000_000;
/// What stock clients, which know no flag for it, put into the annotations to say what follows from bad health.
pub const ANNOTATION: &str = "dhow.on-unhealthy";

/// A check as it is done: defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub command: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    retries: i64,
}

impl Check {
    /// The check of a container; `None` where there is none.
    pub fn of(config: &ContainerConfig) -> Option<Check> {
        let asked = config.healthcheck.as_ref()?;
        let (kind, rest) = asked.test.as_ref()?.split_first()?;
        let shell = config.shell.clone().filter(|shell| !shell.is_empty());
        let mut command = match kind.as_str() {
            "CMD" => Vec::new(),
            "CMD-SHELL" => shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]),
            _ => return None,
        };
        command.extend_from_slice(rest);
        let or = |nanos: i64, seconds: u64| match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
            _ => Duration::from_secs(seconds),
        };
        (!command.is_empty()).then(|| Check {
            command,
            interval: or(asked.interval, 30),
            timeout: or(asked.timeout, 30),
            start_period: or(asked.start_period, 0),
            start_interval: or(asked.start_interval, 5),
            retries: if asked.retries > 0 { asked.retries } else { 3 },
        })
    }

    /// Takes a result in; `uptime` is how long the container ran when the probe began. Whether the status is another.
    pub fn judge(&self, health: &mut Health, result: HealthResult, uptime: Duration) -> bool {
        let before = health.status.clone();
        if result.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HEALTHY.to_owned();
        } else if health.status != STARTING || uptime >= self.start_period {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                health.status = UNHEALTHY.to_owned();
            }
        }
        let log = health.log.get_or_insert_default();
        log.push(result);
        let surplus = log.len().saturating_sub(RESULTS);
        log.drain(..surplus);
        health.status != before
    }
}

/// What is left unsaid comes from the image, field by field.
pub fn merge(asked: &mut Option<Healthcheck>, image: Option<Healthcheck>) {
    let Some(image) = image else { return };
    let Some(asked) = asked else {
        *asked = Some(image);
        return;
    };
    if asked.test.as_ref().is_none_or(Vec::is_empty) {
        asked.test = image.test;
    }
    for (mine, its) in [
        (&mut asked.interval, image.interval),
        (&mut asked.timeout, image.timeout),
        (&mut asked.start_period, image.start_period),
        (&mut asked.start_interval, image.start_interval),
        (&mut asked.retries, image.retries),
    ] {
        if *mine == 0 {
            *mine = its;
        }
    }
}

/// Refuses what makes no sense, with Docker's words; settles what shall follow from bad health.
pub fn check(config: &ContainerConfig, host: &mut HostConfig) -> Result<()> {
    if let Some(check) = &config.healthcheck {
        let times = [
            ("Interval", check.interval),
            ("Timeout", check.timeout),
            ("StartPeriod", check.start_period),
            ("StartInterval", check.start_interval),
        ];
        if let Some((name, _)) = times.iter().find(|(_, nanos)| *nanos != 0 && *nanos < SHORTEST) {
            bail!(Refusal::BadParameter(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
        if check.retries < 0 {
            bail!(Refusal::BadParameter("Retries in Healthcheck cannot be negative".to_owned()));
        }
        // None is the image's.
        let kind = check.test.as_ref().and_then(|test| test.first()).map(String::as_str);
        if let Some(kind) = kind.filter(|kind| !matches!(*kind, "CMD" | "CMD-SHELL" | "NONE")) {
            let text = format!("unknown type {kind:?} of Healthcheck: it is none of CMD, CMD-SHELL, NONE");
            bail!(Refusal::BadParameter(text));
        }
    }
    if host.on_unhealthy.is_empty() {
        let annotated = host.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
        host.on_unhealthy = annotated.cloned().unwrap_or_default();
    }
    match host.on_unhealthy.as_str() {
        "" | "none" | "stop" => Ok(()),
        "restart" if host.auto_remove => bail!(Refusal::BadParameter(
            "can't create 'AutoRemove' container that is restarted when it is unhealthy".to_owned()
        )),
        "restart" => Ok(()),
        other => bail!(Refusal::BadParameter(format!(
            "invalid action when unhealthy: {other:?} is none of restart, stop, none"
        ))),
    }
}

fn path(store: &Store, id: &str) -> PathBuf {
    store.live(id).join("health.json")
}

/// The health on file: what the last probe of this boot left.
pub fn load(store: &Store, id: &str) -> Result<Option<Health>> {
    let path = path(store, id);
    match std::fs::read(&path) {
        Ok(text) => json::from_slice(&text).map(Some).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

pub fn save(store: &Store, id: &str, health: &Health) -> Result<()> {
    let bytes = serde_json::to_vec(health).context("encode the health of a container")?;
    store::write_file(&path(store, id), &bytes, false)
}

/// A container that has just been started begins anew; what its probes said before stays to be read.
pub fn begin(store: &Store, record: &Record) -> Result<Option<Check>> {
    let Some(check) = Check::of(&record.config) else { return Ok(None) };
    let log = load(store, &record.id).ok().flatten().and_then(|health| health.log);
    let health = Health { status: STARTING.to_owned(), failing_streak: 0, log: Some(log.unwrap_or_default()) };
    save(store, &record.id, &health)?;
    Ok(Some(check))
}

/// The health of a container as it is shown. One that does not run, or is paused, is asked nothing: unhealthy, as
/// Docker says.
pub fn shown(store: &Store, record: &Record, doing: Doing) -> Result<Option<Health>> {
    if doing == Doing::Created || Check::of(&record.config).is_none() {
        return Ok(None);
    }
    let health = load(store, &record.id)?;
    Ok(health.map(|health| match doing {
        Doing::Running => health,
        _ => Health { status: UNHEALTHY.to_owned(), ..health },
    }))
}

/// A result; the end is now.
pub fn result(start: Time, exit_code: i32, output: String) -> HealthResult {
    HealthResult { start: start.to_string(), end: Time::now().to_string(), exit_code, output }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str]) -> ContainerConfig {
        let test = Some(test.iter().map(|word| (*word).to_owned()).collect());
        ContainerConfig {
            healthcheck: Some(Healthcheck { test, ..Healthcheck::default() }),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn checks_with_their_defaults() {
        let check = Check::of(&config(&["CMD-SHELL", "true || false"])).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "true || false"]);
        let seconds = [check.interval, check.timeout, check.start_period, check.start_interval].map(|it| it.as_secs());
        assert_eq!((seconds, check.retries), ([30, 30, 0, 5], 3));
        assert_eq!(Check::of(&config(&["CMD", "a", "b c"])).unwrap().command, ["a", "b c"]);
        for none in [&["NONE"][..], &[], &["CMD"], &["SOMETHING", "x"]] {
            assert_eq!(Check::of(&config(none)), None);
        }
        assert_eq!(Check::of(&ContainerConfig::default()), None);
    }

    #[test]
    fn what_results_make_of_it() {
        let mut check = Check::of(&config(&["CMD", "x"])).unwrap();
        check.start_period = Duration::from_secs(10);
        // exit code, uptime in seconds → status, streak
        let table = [
            (1, 1, STARTING, 0),
            (1, 9, STARTING, 0),
            (1, 10, STARTING, 1),
            (0, 11, HEALTHY, 0),
            (1, 12, HEALTHY, 1),
            (-1, 13, HEALTHY, 2),
            (1, 14, UNHEALTHY, 3),
            (1, 15, UNHEALTHY, 4),
            (0, 16, HEALTHY, 0),
        ];
        let mut health = Health { status: STARTING.to_owned(), ..Health::default() };
        for (exit_code, uptime, status, streak) in table {
            let before = health.status.clone();
            let result = HealthResult { exit_code, output: uptime.to_string(), ..HealthResult::default() };
            let changed = check.judge(&mut health, result, Duration::from_secs(uptime));
            assert_eq!((health.status.as_str(), health.failing_streak), (status, streak), "after {uptime} s");
            assert_eq!(changed, before != status);
        }
        let kept: Vec<_> = health.log.unwrap().into_iter().map(|result| result.output).collect();
        assert_eq!(kept, ["12", "13", "14", "15", "16"]);
    }

    #[test]
    fn the_image_fills_in_what_is_not_said() {
        let image =
            Healthcheck { test: Some(vec!["CMD".into(), "x".into()]), interval: 5, retries: 2, ..Default::default() };
        let mut asked = Some(Healthcheck { interval: 7, ..Healthcheck::default() });
        merge(&mut asked, Some(image.clone()));
        assert_eq!(asked, Some(Healthcheck { interval: 7, ..image.clone() }));
        let mut none = Some(Healthcheck { test: Some(vec!["NONE".into()]), ..Healthcheck::default() });
        merge(&mut none, Some(image.clone()));
        assert_eq!(none.unwrap().test.unwrap(), ["NONE"]);
        let mut nothing = None;
        merge(&mut nothing, Some(image.clone()));
        assert_eq!(nothing, Some(image));
    }

    #[test]
    fn what_makes_no_sense() {
        let with = |change: fn(&mut Healthcheck)| {
            let mut config = config(&["CMD", "x"]);
            change(config.healthcheck.as_mut().unwrap());
            check(&config, &mut HostConfig::default()).unwrap_err().to_string()
        };
        assert_eq!(with(|check| check.interval = 5), "Interval in Healthcheck cannot be less than 1ms");
        assert_eq!(with(|check| check.start_interval = -1), "StartInterval in Healthcheck cannot be less than 1ms");
        assert_eq!(with(|check| check.retries = -1), "Retries in Healthcheck cannot be negative");
        assert!(with(|check| check.test = Some(vec!["HTTP".into()])).contains("unknown type \"HTTP\""));
        let action = |action: &str, auto_remove| {
            let annotations = Some([(ANNOTATION.to_owned(), action.to_owned())].into());
            let mut host = HostConfig { annotations, auto_remove, ..HostConfig::default() };
            check(&ContainerConfig::default(), &mut host).map(|()| host.on_unhealthy)
        };
        assert_eq!(action("restart", false).unwrap(), "restart");
        assert!(action("restart", true).is_err() && action("explode", false).is_err());
    }
}
