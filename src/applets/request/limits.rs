//! Limits of resources, from flags.

use super::text;
use crate::api::types::{HostConfig, ThrottleDevice, WeightDevice};
use crate::api::units;
use crate::applets::face::{self, Misfit};
use crate::applets::run::Run;
use anyhow::{Result, anyhow, bail};

/// The limits of a container, and nothing else of its host config.
pub fn limits(flags: &Run) -> Result<HostConfig> {
    let swappiness = flags.memory_swappiness.filter(|value| *value != -1);
    if let Some(value) = swappiness.filter(|value| !(0..=100).contains(value)) {
        bail!("invalid value: {value}. Valid memory swappiness range is 0-100");
    }
    let cpus = flags.cpus.as_deref().filter(|cpus| !cpus.is_empty());
    let rates = |list: &[String]| list.iter().map(|spec| rate(spec)).collect::<Result<Vec<_>, _>>();
    let counts = |list: &[String]| list.iter().map(|spec| count(spec)).collect::<Result<Vec<_>, _>>();
    let wrong = |why: String| anyhow!(why);
    let weights = flags.blkio_weight_device.iter().map(|spec| weight(spec)).collect::<Result<Vec<_>, _>>();
    Ok(HostConfig {
        memory: flags.memory.unwrap_or(0),
        memory_swap: flags.memory_swap.unwrap_or(0),
        memory_reservation: flags.memory_reservation.unwrap_or(0),
        memory_swappiness: swappiness,
        oom_kill_disable: Some(flags.oom_kill_disable),
        pids_limit: flags.pids_limit.filter(|limit| *limit != 0),
        nano_cpus: cpus.map(nano_cpus).transpose()?.unwrap_or(0),
        cpu_shares: flags.cpu_shares.unwrap_or(0),
        cpu_period: flags.cpu_period.unwrap_or(0),
        cpu_quota: flags.cpu_quota.unwrap_or(0),
        cpu_realtime_period: flags.cpu_rt_period.unwrap_or(0),
        cpu_realtime_runtime: flags.cpu_rt_runtime.unwrap_or(0),
        cpuset_cpus: text(&flags.cpuset_cpus),
        cpuset_mems: text(&flags.cpuset_mems),
        cgroup_parent: text(&flags.cgroup_parent),
        blkio_weight: flags.blkio_weight.unwrap_or(0),
        blkio_weight_device: Some(weights.map_err(wrong)?),
        blkio_device_read_bps: Some(rates(&flags.device_read_bps).map_err(wrong)?),
        blkio_device_write_bps: Some(rates(&flags.device_write_bps).map_err(wrong)?),
        blkio_device_read_iops: Some(counts(&flags.device_read_iops).map_err(wrong)?),
        blkio_device_write_iops: Some(counts(&flags.device_write_iops).map_err(wrong)?),
        ..HostConfig::default()
    })
}

/// `1.5`, exactly: in units of a billionth.
pub fn nano_cpus(text: &str) -> Result<i64> {
    let invalid = || match face::is_docker() {
        true => Misfit::new("--cpus", text, &format!("failed to parse {text} as a rational number")).into(),
        false => anyhow!("invalid value {text:?} for --cpus"),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 || whole.len() + fraction.len() == 0 {
        return Err(invalid());
    }
    let nanos = format!("{whole}{fraction:0<9}");
    nanos.parse().map_err(|_| invalid())
}

/// A device and what is said of it.
fn device(spec: &str) -> Result<(&str, &str), String> {
    let (path, value) =
        spec.split_once(':').filter(|(path, _)| !path.is_empty()).ok_or(format!("bad format: {spec}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {spec}"));
    }
    Ok((path, value))
}

/// `/dev/sda:1mb`, bytes a second.
fn rate(spec: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device(spec)?;
    let wrong = || {
        format!(
            "invalid rate for device: {spec}. The correct format is <device-path>:<number>[<unit>]. Number must be a \
             positive integer. Unit is optional and can be kb, mb, or gb"
        )
    };
    let rate = units::parse_binary(value).map_err(|_| wrong())?;
    Ok(ThrottleDevice { path: path.to_owned(), rate: u64::try_from(rate).map_err(|_| wrong())? })
}

/// `/dev/sda:1000`, operations a second.
fn count(spec: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device(spec)?;
    let rate = value.parse().map_err(|_| {
        format!(
            "invalid rate for device: {spec}. The correct format is <device-path>:<number>. Number must be a positive \
             integer"
        )
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `/dev/sda:200`.
fn weight(spec: &str) -> Result<WeightDevice, String> {
    let (path, value) = device(spec)?;
    let weight = value.parse().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    Ok(WeightDevice { path: path.to_owned(), weight: weight.ok_or(format!("invalid weight for device: {spec}"))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_cpus() {
        for (text, nanos) in [("1.5", Some(1_500_000_000)), ("2", Some(2_000_000_000)), (".25", Some(250_000_000))] {
            assert_eq!(nano_cpus(text).ok(), nanos);
        }
        for bad in ["", "x", "1.0000000001", "-1", "99999999999999999999"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices() {
        let throttle = |path: &str, rate| Ok(ThrottleDevice { path: path.to_owned(), rate });
        assert_eq!(rate("/dev/sda:1mb"), throttle("/dev/sda", 1 << 20));
        assert_eq!(count("/dev/sda:30"), throttle("/dev/sda", 30));
        assert_eq!(weight("/dev/sda:10"), Ok(WeightDevice { path: "/dev/sda".into(), weight: 10 }));
        for bad in ["/dev/sda", ":5", "sda:5", "/dev/sda:", "/dev/sda:-5", "/dev/sda:x"] {
            assert!(rate(bad).is_err() && count(bad).is_err() && weight(bad).is_err(), "{bad}");
        }
        assert!(weight("/dev/sda:5").is_err() && weight("/dev/sda:1001").is_err());
    }

    #[test]
    fn flags_become_limits() {
        let flags = Run {
            memory: Some(8 << 20),
            memory_swap: Some(-1),
            cpus: Some("0.5".into()),
            pids_limit: Some(-1),
            memory_swappiness: Some(-1),
            device_read_bps: vec!["/dev/sda:1k".into()],
            ..Run::default()
        };
        let made = limits(&flags).unwrap();
        assert_eq!((made.memory, made.memory_swap, made.nano_cpus), (8 << 20, -1, 500_000_000));
        assert_eq!((made.pids_limit, made.memory_swappiness), (Some(-1), None));
        assert_eq!(made.blkio_device_read_bps.unwrap()[0].rate, 1024);
        assert!(limits(&Run { memory_swappiness: Some(101), ..Run::default() }).is_err());
        assert!(limits(&Run { cpus: Some("x".into()), ..Run::default() }).is_err());
    }
}
