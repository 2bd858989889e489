//! Limits: what a specification asks for, in version 1 terms, as the files of version 2 that say it. The conversions
//! are runc's (opencontainers/cgroups, fs2), so that a container is limited here as it is there.

use std::f64::consts::{LN_2, LN_10};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::oci::runtime::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// The controllers that limits and figures come from.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The period in which a processor's quota counts where none is given, microseconds (cgroup-v2.rst).
const PERIOD: u64 = 100_000;

/// One file of a cgroup, and what is written to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub file: String,
    pub value: String,
    /// Is left out where the kernel has no such file.
    pub dispensable: bool,
}

impl Setting {
    fn new(file: &str, value: impl ToString) -> Setting {
        Setting { file: file.to_owned(), value: value.to_string(), dispensable: false }
    }
}

/// Hands the controllers that there are down from the mount to a cgroup. What cannot be handed down (a controller that
/// version 1 has, a cgroup above it that has processes of its own) is left out.
pub fn enable(mount: &Path, cgroup: &Path) {
    let Some(below) = cgroup.parent().and_then(|parent| parent.strip_prefix(mount).ok()) else { return };
    let words = |level: &Path| fs::read_to_string(level.join("cgroup.controllers")).unwrap_or_default();
    // As it is for every start but the first.
    if missing(&words(mount), &words(cgroup)).is_empty() {
        return;
    }
    let mut level = mount.to_owned();
    hand_down(&level);
    for name in below.components() {
        level.push(name);
        hand_down(&level);
    }
}

fn hand_down(level: &Path) {
    let words = |file: &str| fs::read_to_string(level.join(file)).unwrap_or_default();
    let (there, down) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    let missing = missing(&there, &down);
    let write = |text: &str| fs::write(level.join("cgroup.subtree_control"), text);
    if missing.is_empty() || write(&missing.join(" ")).is_ok() {
        return;
    }
    // All or nothing is what the kernel does with one line.
    for one in missing {
        let _ = write(&one);
    }
}

fn missing(there: &str, down: &str) -> Vec<String> {
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    let wanted = CONTROLLERS.iter().filter(|name| has(there, name) && !has(down, name));
    wanted.map(|name| format!("+{name}")).collect()
}

/// Writes all limits. Errors: one that cannot hold, by its file.
pub fn apply(cgroup: &Path, resources: &Resources) -> Result<()> {
    let bfq = cgroup.join("io.bfq.weight").exists();
    for setting in plan(resources, bfq)? {
        write(cgroup, &setting)?;
    }
    Ok(())
}

/// Writes all limits of a cgroup that is in use, or none: where one cannot hold, those that were written are again what
/// they were. Errors: as of [`apply`].
pub fn change(cgroup: &Path, resources: &Resources) -> Result<()> {
    let bfq = cgroup.join("io.bfq.weight").exists();
    let mut before = Vec::new();
    for setting in plan(resources, bfq)? {
        let path = cgroup.join(&setting.file);
        let was = fs::read(&path);
        if let Err(error) = write(cgroup, &setting) {
            for (path, was) in before.into_iter().rev() {
                let _ = fs::write(path, was);
            }
            return Err(error);
        }
        before.extend(was.ok().map(|was| (path, was)));
    }
    Ok(())
}

fn write(cgroup: &Path, Setting { file, value, dispensable }: &Setting) -> Result<()> {
    let path: PathBuf = cgroup.join(file);
    let opened = match File::options().write(true).open(&path) {
        Err(error) if *dispensable && error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other,
    };
    // By one write, which is how the kernel takes it.
    let written = opened.and_then(|mut file| file.write_all(value.as_bytes()));
    written.with_context(|| format!("write {value:?} to {}", path.display()))
}

/// What is written, in this order. `bfq`: the scheduler whose weights have a file of their own is there.
pub fn plan(resources: &Resources, bfq: bool) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    if let Some(pids) = resources.pids {
        settings.push(Setting::new("pids.max", limit(pids.limit)));
    }
    if let Some(wanted) = &resources.memory {
        memory(wanted, &mut settings)?;
    }
    if let Some(wanted) = &resources.cpu {
        cpu(wanted, &mut settings)?;
    }
    if let Some(wanted) = &resources.block_io {
        io(wanted, bfq, &mut settings)?;
    }
    for pages in &resources.hugepage_limits {
        settings.push(Setting::new(&format!("hugetlb.{}.max", pages.page_size), pages.limit));
    }
    for (file, value) in &resources.unified {
        if !is_of_controller(file) {
            bail!("invalid limit {file:?}: not a file of a controller");
        }
        settings.push(Setting::new(file, value));
    }
    Ok(settings)
}

/// Whether a name is that of a file of the cgroup itself, and of none of those that say who is in it.
pub fn is_of_controller(file: &str) -> bool {
    !file.contains(['/', '\0']) && !file.starts_with("cgroup.") && file.contains('.')
}

/// Version 1 says -1 where version 2 says max.
fn limit(value: i64) -> String {
    if value <= 0 { "max".to_owned() } else { value.to_string() }
}

fn memory(wanted: &Memory, settings: &mut Vec<Setting>) -> Result<()> {
    if wanted.swappiness.is_some() {
        bail!("version 2 of cgroups has no swappiness");
    }
    if wanted.disable_oom_killer == Some(true) {
        bail!("version 2 of cgroups cannot disable the OOM killer");
    }
    // Zero is as good as nothing said, in all of them.
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let (max, both) = (given(wanted.limit), given(wanted.swap));
    let swap = match (max, both) {
        // Without a limit of memory there is none of swap, unless that is given.
        (Some(-1), None) | (_, Some(-1)) => Some("max".to_owned()),
        (_, None) => None,
        (Some(-1), Some(both)) => Some(both.to_string()),
        (None, Some(_)) => bail!("a limit of swap needs a limit of memory"),
        (Some(max), Some(both)) if both < max => bail!("memory and swap together cannot be less than memory"),
        // Version 1 counts both together, version 2 swap alone.
        (Some(max), Some(both)) => Some((both - max).to_string()),
    };
    if let Some(swap) = swap {
        let dispensable = matches!(swap.as_str(), "max" | "0");
        settings.push(Setting { dispensable, ..Setting::new("memory.swap.max", swap) });
    }
    settings.extend(max.map(|max| Setting::new("memory.max", limit(max))));
    settings.extend(given(wanted.reservation).map(|low| Setting::new("memory.low", limit(low))));
    Ok(())
}

fn cpu(wanted: &Cpu, settings: &mut Vec<Setting>) -> Result<()> {
    if wanted.realtime_period.is_some_and(|period| period != 0)
        || wanted.realtime_runtime.is_some_and(|runtime| runtime != 0)
    {
        bail!("version 2 of cgroups has no limits of real-time processes");
    }
    if let Some(shares) = wanted.shares.filter(|shares| *shares != 0) {
        settings.push(Setting::new("cpu.weight", weight(shares)));
    }
    settings.extend(wanted.idle.map(|idle| Setting::new("cpu.idle", idle)));
    let quota = wanted.quota.filter(|quota| *quota != 0);
    let period = wanted.period.filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let value = format!("{} {}", limit(quota.unwrap_or(-1)), period.unwrap_or(PERIOD));
        settings.push(Setting::new("cpu.max", value));
    }
    settings.extend(wanted.burst.map(|burst| Setting::new("cpu.max.burst", burst)));
    for (file, list) in [("cpuset.cpus", &wanted.cpus), ("cpuset.mems", &wanted.mems)] {
        if !list.is_empty() {
            settings.push(Setting::new(file, list));
        }
    }
    Ok(())
}

/// Shares of version 1 (2 to 262144, 1024 by default) as a weight of version 2 (1 to 10000, 100 by default): the curve
/// through these three that runc has since 1.3.2, where it was a straight line before that made 1024 less than 100.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = log2(shares);
            let (mut weight, mut left) = (1.0, (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
            while left >= 1.0 {
                (weight, left) = (weight * 10.0, left - 1.0);
            }
            // e to the power of the rest, which is below 2.4. What should be a whole number may come out a little above.
            let mut term = weight;
            for n in 1..40 {
                term *= left * LN_10 / f64::from(n);
                weight += term;
            }
            (weight - 1e-9).ceil() as u64
        }
    }
}

/// The C library's has tables of six kilobytes, with those of its power.
fn log2(number: u64) -> f64 {
    let whole = number.ilog2();
    let rest = number as f64 / (1u64 << whole) as f64;
    // ln((1 + t) / (1 - t)) = 2 (t + t³/3 + t⁵/5 + …), and t is at most a third.
    let t = (rest - 1.0) / (rest + 1.0);
    let (mut power, mut sum) = (t, 0.0);
    for n in 0..20 {
        sum += power / f64::from(2 * n + 1);
        power *= t * t;
    }
    f64::from(whole) + 2.0 * sum / LN_2
}

fn io(wanted: &BlockIo, bfq: bool, settings: &mut Vec<Setting>) -> Result<()> {
    if wanted.leaf_weight.is_some() {
        bail!("version 2 of cgroups has no leaf weight");
    }
    // Weights of version 1 are 10 to 1000, as those of BFQ; of version 2 1 to 10000.
    let (file, convert): (_, fn(u16) -> u64) = match bfq {
        true => ("io.bfq.weight", u64::from),
        false => ("io.weight", |weight| 1 + u64::from(weight.saturating_sub(10)) * 9999 / 990),
    };
    // A kernel without either was told of when the container was made.
    let weighted = |value: String| Setting { dispensable: true, ..Setting::new(file, value) };
    if let Some(weight) = wanted.weight.filter(|weight| *weight != 0) {
        settings.push(weighted(convert(weight).to_string()));
    }
    for device in &wanted.weight_device {
        if let Some(weight) = device.weight {
            let value = format!("{}:{} {}", device.major, device.minor, convert(weight));
            settings.push(weighted(value));
        }
    }
    for (key, devices) in [
        ("rbps", &wanted.throttle_read_bps_device),
        ("wbps", &wanted.throttle_write_bps_device),
        ("riops", &wanted.throttle_read_iops_device),
        ("wiops", &wanted.throttle_write_iops_device),
    ] {
        for ThrottleDevice { major, minor, rate } in devices {
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            settings.push(Setting::new("io.max", format!("{major}:{minor} {key}={rate}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime::{HugepageLimit, Pids, WeightDevice};

    fn lines(resources: Resources, bfq: bool) -> Vec<String> {
        plan(&resources, bfq).unwrap().iter().map(|one| format!("{} {}", one.file, one.value)).collect()
    }

    fn memory(limit: i64, swap: i64, reservation: i64) -> Resources {
        let some = |value| Some(value).filter(|value| *value != 0);
        let memory =
            Memory { limit: some(limit), swap: some(swap), reservation: some(reservation), ..Memory::default() };
        Resources { memory: Some(memory), ..Resources::default() }
    }

    #[test]
    fn memory_and_swap() {
        for (limit, swap, reservation, expected) in [
            (100, 200, 0, vec!["memory.swap.max 100", "memory.max 100"]),
            (100, 100, 50, vec!["memory.swap.max 0", "memory.max 100", "memory.low 50"]),
            (100, -1, 0, vec!["memory.swap.max max", "memory.max 100"]),
            (100, 0, 0, vec!["memory.max 100"]),
            (-1, 0, -1, vec!["memory.swap.max max", "memory.max max", "memory.low max"]),
            (-1, 7, 0, vec!["memory.swap.max 7", "memory.max max"]),
            (0, 0, 0, vec![]),
        ] {
            assert_eq!(lines(memory(limit, swap, reservation), false), expected, "{limit} {swap} {reservation}");
        }
        assert!(plan(&memory(100, 50, 0), false).is_err() && plan(&memory(0, 50, 0), false).is_err());
        // No file of swap where the kernel has none: no swap is used then, limit or not.
        let dispensable = |resources| plan(&resources, false).unwrap()[0].dispensable;
        assert!(dispensable(memory(9, 9, 0)) && dispensable(memory(9, -1, 0)) && !dispensable(memory(9, 10, 0)));
        for memory in [
            Memory { swappiness: Some(10), ..Memory::default() },
            Memory { disable_oom_killer: Some(true), ..Memory::default() },
        ] {
            assert!(plan(&Resources { memory: Some(memory), ..Resources::default() }, false).is_err());
        }
    }

    #[test]
    fn shares_are_weights() {
        for (shares, expected) in
            [(1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262_143, 10_000), (1 << 30, 10_000)]
        {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        // As runc has it, by the C library.
        for shares in 3..262_144 {
            let log = (shares as f64).log2();
            let expected = 10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64;
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn processors() {
        let made = |cpu| lines(Resources { cpu: Some(cpu), ..Resources::default() }, false);
        let cpu = Cpu { quota: Some(150_000), period: Some(100_000), shares: Some(0), ..Cpu::default() };
        assert_eq!(made(cpu), ["cpu.max 150000 100000"]);
        assert_eq!(made(Cpu { quota: Some(5000), ..Cpu::default() }), ["cpu.max 5000 100000"]);
        assert_eq!(made(Cpu { period: Some(5000), ..Cpu::default() }), ["cpu.max max 5000"]);
        assert_eq!(made(Cpu { quota: Some(-1), ..Cpu::default() }), ["cpu.max max 100000"]);
        let cpu = Cpu { cpus: "0-1".into(), mems: "0".into(), burst: Some(7), idle: Some(1), ..Cpu::default() };
        assert_eq!(made(cpu), ["cpu.idle 1", "cpu.max.burst 7", "cpuset.cpus 0-1", "cpuset.mems 0"]);
        let real_time = Cpu { realtime_runtime: Some(5), ..Cpu::default() };
        assert!(plan(&Resources { cpu: Some(real_time), ..Resources::default() }, false).is_err());
    }

    #[test]
    fn devices_pids_pages_and_what_is_written_as_it_is() {
        let throttle = |rate| vec![ThrottleDevice { major: 8, minor: 16, rate }];
        let resources = || Resources {
            block_io: Some(BlockIo {
                weight: Some(500),
                weight_device: vec![WeightDevice { major: 8, minor: 0, weight: Some(10), leaf_weight: None }],
                throttle_read_bps_device: throttle(1000),
                throttle_write_bps_device: throttle(0),
                throttle_read_iops_device: throttle(30),
                throttle_write_iops_device: throttle(40),
                ..BlockIo::default()
            }),
            pids: Some(Pids { limit: 7 }),
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: 9 }],
            unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        let rest = [
            "io.max 8:16 rbps=1000",
            "io.max 8:16 wbps=max",
            "io.max 8:16 riops=30",
            "io.max 8:16 wiops=40",
            "hugetlb.2MB.max 9",
            "memory.oom.group 1",
        ];
        for (bfq, first) in [
            (false, ["pids.max 7", "io.weight 4950", "io.weight 8:0 1"]),
            (true, ["pids.max 7", "io.bfq.weight 500", "io.bfq.weight 8:0 10"]),
        ] {
            assert_eq!(lines(resources(), bfq), [&first[..], &rest[..]].concat());
        }
        let unlimited = Resources { pids: Some(Pids { limit: -1 }), ..Resources::default() };
        assert_eq!(lines(unlimited, false), ["pids.max max"]);
        for file in ["../memory.max", "cgroup.procs", "x"] {
            let unified = [(file.to_owned(), "1".to_owned())].into();
            assert!(plan(&Resources { unified, ..Resources::default() }, false).is_err(), "{file}");
        }
        assert_eq!(lines(Resources::default(), false), Vec::<String>::new());
    }

    #[test]
    fn controllers_that_are_not_handed_down_yet() {
        assert_eq!(missing("cpuset cpu io memory rdma pids misc\n", "cpu pids\n"), ["+cpuset", "+io", "+memory"]);
        assert_eq!(missing("", ""), Vec::<String>::new());
    }
}
