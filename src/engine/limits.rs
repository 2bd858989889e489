//! Limits of a container: what may be asked for on this host, what that is in the runtime specification, and what an
//! update makes of it. A limit that cannot hold here is dropped with a warning, in Docker's words.

use crate::api::Refusal;
use crate::api::types::{HostConfig, ThrottleDevice};
use crate::cgroup;
use crate::oci::runtime::{self, BlockIo, Cpu, Memory, Pids, Resources, Spec};
use crate::order::{Map, Set};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// The least memory that Docker lets one have, bytes.
const LEAST_MEMORY: i64 = 6 << 20;

/// The beginning of annotations that name a file of the container's cgroup and what is written to it, for what Docker
/// has no flag: `dhow.cgroup.memory.oom.group=1`, `dhow.cgroup.hugetlb.2MB.max=4194304`.
pub const ANNOTATION: &str = "dhow.cgroup.";

/// The period of `--cpus`, microseconds.
const PERIOD: u64 = 100_000;

/// Which limits hold on this host: those whose controllers are in version 2.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Supports {
    /// Version 2 is mounted, and ours to make cgroups in.
    pub mounted: bool,
    pub memory: bool,
    pub swap: bool,
    pub cpu: bool,
    pub cpuset: bool,
    pub io: bool,
    pub pids: bool,
    /// All controllers that there are, by name.
    pub controllers: String,
    /// Some device gives way by weight: its scheduler is BFQ, or it has a model of costs.
    pub weighs: bool,
    /// Lists as `0-3,7`.
    pub cpus: String,
    pub mems: String,
    pub processors: i64,
}

impl Supports {
    pub fn read() -> Supports {
        let processors = crate::sys::processors() as i64;
        let Some(mount) = cgroup::home() else { return Supports { processors, ..Supports::default() } };
        let text = |file: &str| fs::read_to_string(mount.join(file)).unwrap_or_default().trim().to_owned();
        let controllers = text("cgroup.controllers");
        let has = |name: &str| controllers.split(' ').any(|controller| controller == name);
        Supports {
            mounted: true,
            memory: has("memory"),
            // Version 2 counts swap wherever the kernel has any.
            swap: has("memory") && Path::new("/proc/swaps").exists(),
            cpu: has("cpu"),
            cpuset: has("cpuset"),
            io: has("io"),
            pids: has("pids"),
            weighs: weighs(&text("io.cost.qos"), Path::new("/sys/block")),
            controllers: controllers.clone(),
            cpus: text("cpuset.cpus.effective"),
            mems: text("cpuset.mems.effective"),
            processors,
        }
    }
}

/// Whether weights of I/O mean anything to a device: without BFQ, and with costs (io.cost.qos) that nobody enabled, the
/// kernel takes them and lets all go first.
fn weighs(costs: &str, devices: &Path) -> bool {
    let bfq = |device: fs::DirEntry| {
        fs::read_to_string(device.path().join("queue/scheduler")).is_ok_and(|text| text.contains("[bfq]"))
    };
    costs.contains("enable=1") || fs::read_dir(devices).is_ok_and(|list| list.flatten().any(bfq))
}

/// The files of the cgroup that annotations name, with what is written.
fn files(host: &HostConfig) -> impl Iterator<Item = (&str, &str)> {
    host.annotations.iter().flatten().filter_map(|(key, value)| Some((key.strip_prefix(ANNOTATION)?, value.as_str())))
}

/// Whether a request names any limit: without one, nothing need be asked of the host.
pub fn any(host: &HostConfig) -> bool {
    let numbers = [
        host.memory,
        host.memory_swap,
        host.memory_reservation,
        host.memory_swappiness.filter(|value| *value != -1).map_or(0, |_| 1),
        host.kernel_memory,
        host.kernel_memory_tcp,
        host.oom_kill_disable.unwrap_or(false).into(),
        host.pids_limit.unwrap_or(0),
        host.nano_cpus,
        host.cpu_shares,
        host.cpu_period,
        host.cpu_quota,
        host.cpu_realtime_period,
        host.cpu_realtime_runtime,
        host.cpu_percent,
        host.blkio_weight.into(),
        (host.io_maximum_bandwidth | host.io_maximum_iops).min(1) as i64,
    ];
    let rates = [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ];
    let given = |list: &Option<Vec<ThrottleDevice>>| list.as_ref().is_some_and(|list| !list.is_empty());
    numbers.iter().any(|number| *number != 0)
        || files(host).next().is_some()
        || !host.cgroup_parent.is_empty()
        || !host.cpuset_cpus.is_empty()
        || !host.cpuset_mems.is_empty()
        || host.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty())
        || rates.into_iter().any(given)
}

/// Checks the limits of a request and drops those that do not hold here. The warnings; errors are Docker's refusals.
pub fn check(host: &mut HostConfig, supports: &Supports, update: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    memory(host, supports, update, &mut warnings)?;
    processors(host, supports, &mut warnings)?;
    devices(host, supports, &mut warnings)?;
    annotated(host, supports, &mut warnings)?;
    if host.pids_limit.is_some() && !supports.pids {
        if host.pids_limit.is_some_and(|limit| limit > 0) {
            warnings.push(lacks("PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."));
        }
        host.pids_limit = None;
    }
    if !host.cgroup_parent.is_empty() && !supports.mounted {
        warnings.push(lacks("cgroup parents or the cgroup is not mounted. Cgroup parent discarded."));
        host.cgroup_parent.clear();
    }
    Ok(warnings)
}

fn lacks(what: &str) -> String {
    format!("Your kernel does not support {what}")
}

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    bail!(Refusal::BadParameter(text.into()))
}

fn memory(host: &mut HostConfig, supports: &Supports, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    let mut discard =
        |what: &str| warnings.push(lacks(&format!("{what} or the cgroup is not mounted. Limitation discarded.")));
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap == 0 && !update {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.memory > 0 && !supports.memory {
        discard("memory limit capabilities");
        (host.memory, host.memory_swap) = (0, -1);
    }
    if host.memory_reservation > 0 && !supports.memory {
        discard("memory soft limit capabilities");
        host.memory_reservation = 0;
    }
    if host.kernel_memory > 0 {
        discard("kernel memory limit capabilities");
        host.kernel_memory = 0;
    }
    if host.kernel_memory_tcp > 0 {
        discard("kernel memory TCP limit capabilities");
        host.kernel_memory_tcp = 0;
    }
    if host.memory > 0 && host.memory_swap != -1 && !supports.swap {
        warnings.push(lacks("swap limit capabilities or the cgroup is not mounted. Memory limited without swap."));
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 && !update {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host.memory_reservation > 0 && host.memory_reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|swappiness| *swappiness != -1) {
        return match (0..=100).contains(&swappiness) {
            true => refuse("memory swappiness is not supported: version 2 of cgroups has none"),
            false => refuse(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100")),
        };
    }
    if host.oom_kill_disable == Some(true) {
        return refuse("the OOM killer cannot be disabled: version 2 of cgroups has no such setting");
    }
    Ok(())
}

fn processors(host: &mut HostConfig, supports: &Supports, warnings: &mut Vec<String>) -> Result<()> {
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if host.nano_cpus > 0 && !supports.cpu {
        return refuse(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let most = supports.processors;
    if host.nano_cpus < 0 || host.nano_cpus > most.saturating_mul(1_000_000_000) {
        return refuse(format!("range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available"));
    }
    if host.cpu_shares < 0 {
        return refuse(format!("invalid CPU shares ({}): value must be a positive integer", host.cpu_shares));
    }
    if host.cpu_shares > 0 && !supports.cpu {
        warnings.push(lacks("CPU shares or the cgroup is not mounted. Shares discarded."));
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !supports.cpu {
        warnings.push(lacks("CPU CFS scheduler. CPU period/quota discarded."));
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0 {
        return refuse(lacks("CPU real-time scheduler"));
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        host.cpu_percent = 0;
    }
    let cpusets = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if cpusets && !supports.cpuset {
        warnings.push(lacks("cpuset or the cgroup is not mounted. Cpuset discarded."));
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    for (asked, there, what, name) in [
        (&host.cpuset_cpus, &supports.cpus, "CPUs", "cpus"),
        (&host.cpuset_mems, &supports.mems, "memory nodes", "mems"),
    ] {
        let Some(wanted) = numbers(asked) else { return refuse(format!("Invalid value {asked} for cpuset {name}")) };
        let there_are = numbers(there).unwrap_or_default();
        if wanted.iter().any(|number| !there_are.contains(number)) {
            return refuse(format!("Requested {what} are not available - requested {asked}, available: {there}"));
        }
    }
    Ok(())
}

/// `0-2,7` as the numbers that it names; none where it is no such list.
fn numbers(list: &str) -> Option<Set<u32>> {
    let mut found = Set::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // More than any kernel has is no list of processors.
        if last < first || last > 8192 {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

/// The weight is kept: a scheduler can be chosen at any time, also while the container runs.
const NO_WEIGHT: &str =
    "Block I/O weight has no effect: no device has the scheduler BFQ, or costs that are enabled in io.cost.qos";

fn devices(host: &mut HostConfig, supports: &Supports, warnings: &mut Vec<String>) -> Result<()> {
    if host.blkio_weight > 0 && !supports.io {
        warnings.push(lacks("Block I/O weight or the cgroup is not mounted. Weight discarded."));
        host.blkio_weight = 0;
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    let weighted = host.blkio_weight > 0 || host.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty());
    if weighted && supports.io && !supports.weighs {
        warnings.push(NO_WEIGHT.to_owned());
    }
    if host.io_maximum_bandwidth != 0 || host.io_maximum_iops != 0 {
        return refuse("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps");
    }
    if supports.io {
        return Ok(());
    }
    if host.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty()) {
        warnings.push(lacks("Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."));
        host.blkio_weight_device = Some(Vec::new());
    }
    for (list, what) in [
        (&mut host.blkio_device_read_bps, "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read"),
        (
            &mut host.blkio_device_write_bps,
            "BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write",
        ),
        (&mut host.blkio_device_read_iops, "IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read"),
        (
            &mut host.blkio_device_write_iops,
            "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write",
        ),
    ] {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            warnings.push(lacks(&format!("{what} limit discarded.")));
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

/// What annotations say of the cgroup's files.
fn annotated(host: &mut HostConfig, supports: &Supports, warnings: &mut Vec<String>) -> Result<()> {
    for (file, value) in files(host) {
        if !cgroup::limits::is_of_controller(file) || value.is_empty() {
            return refuse(format!(
                "invalid annotation {ANNOTATION}{file}={value}: not a file of a controller, and a value"
            ));
        }
    }
    let Some(annotations) = &mut host.annotations else { return Ok(()) };
    annotations.retain(|key, _| {
        let Some(file) = key.strip_prefix(ANNOTATION) else { return true };
        let controller = file.split('.').next().unwrap_or_default();
        let there = supports.controllers.split(' ').any(|name| name == controller);
        if !there {
            warnings.push(lacks(&format!("{file} or the cgroup is not mounted. Limitation discarded.")));
        }
        there
    });
    Ok(())
}

/// The limits in the specification's terms. `number` says which device a path is.
pub fn resources(host: &HostConfig, number: &dyn Fn(&str) -> Result<(i64, i64)>) -> Result<Resources> {
    let some = |value: i64| Some(value).filter(|value| *value != 0);
    let unsigned = |value: i64| some(value).and_then(|value| u64::try_from(value).ok());
    let memory = Memory {
        limit: some(host.memory),
        // Without a limit of memory, Docker's -1 means that nothing was asked for.
        swap: some(host.memory_swap).filter(|_| host.memory != 0),
        reservation: some(host.memory_reservation),
        ..Memory::default()
    };
    let of_cpus = (host.nano_cpus > 0).then(|| (PERIOD, host.nano_cpus.saturating_mul(PERIOD as i64) / 1_000_000_000));
    let cpu = Cpu {
        shares: unsigned(host.cpu_shares),
        quota: some(host.cpu_quota).or(of_cpus.map(|(_, quota)| quota)),
        period: unsigned(host.cpu_period).or(of_cpus.map(|(period, _)| period)),
        cpus: host.cpuset_cpus.clone(),
        mems: host.cpuset_mems.clone(),
        ..Cpu::default()
    };
    let throttles = |list: &Option<Vec<ThrottleDevice>>| -> Result<Vec<runtime::ThrottleDevice>> {
        let one = |device: &ThrottleDevice| {
            let (major, minor) = number(&device.path)?;
            Ok(runtime::ThrottleDevice { major, minor, rate: device.rate })
        };
        list.iter().flatten().map(one).collect()
    };
    let mut weights = Vec::new();
    for device in host.blkio_weight_device.iter().flatten() {
        let (major, minor) = number(&device.path)?;
        weights.push(runtime::WeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None });
    }
    let block_io = BlockIo {
        weight: Some(host.blkio_weight).filter(|weight| *weight != 0),
        weight_device: weights,
        throttle_read_bps_device: throttles(&host.blkio_device_read_bps)?,
        throttle_write_bps_device: throttles(&host.blkio_device_write_bps)?,
        throttle_read_iops_device: throttles(&host.blkio_device_read_iops)?,
        throttle_write_iops_device: throttles(&host.blkio_device_write_iops)?,
        ..BlockIo::default()
    };
    Ok(Resources {
        memory: Some(memory).filter(|memory| *memory != Memory::default()),
        cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
        block_io: Some(block_io).filter(|io| *io != BlockIo::default()),
        unified: Map::from_iter(files(host).map(|(file, value)| (file.to_owned(), value.to_owned()))),
        pids: host.pids_limit.map(|limit| Pids { limit: if limit <= 0 { -1 } else { limit } }),
        ..Resources::default()
    })
}

/// Makes the limits of a specification hold for a cgroup that has just been made.
pub fn hold(cgroup: &Path, spec: &Spec) -> Result<()> {
    if let Some(mount) = cgroup::home() {
        cgroup::limits::enable(mount, cgroup);
    }
    match spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        Some(resources) => cgroup::limits::apply(cgroup, resources),
        None => Ok(()),
    }
}

/// Major and minor number of a block device of this host.
pub fn number(path: &str) -> Result<(i64, i64)> {
    let stat = nix::sys::stat::stat(path).with_context(|| format!("look at the device {path}"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFBLK {
        bail!("{path} is not a block device");
    }
    Ok((libc::major(stat.st_rdev).into(), libc::minor(stat.st_rdev).into()))
}

/// Takes over what an update names. Errors: it conflicts with what is set.
pub fn merge(host: &mut HostConfig, asked: &HostConfig) -> Result<()> {
    let conflict = |text: &str| -> Result<()> { bail!(Refusal::Conflict(format!("Conflicting options: {text}"))) };
    for (clash, text) in [
        (asked.nano_cpus > 0 && host.cpu_period > 0, "Nano CPUs cannot be updated as CPU Period has already been set"),
        (asked.nano_cpus > 0 && host.cpu_quota > 0, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (asked.cpu_period > 0 && host.nano_cpus > 0, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (asked.cpu_quota > 0 && host.nano_cpus > 0, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ] {
        if clash {
            return conflict(text);
        }
    }
    // Also where that is no limit at all: what it was to become is not said.
    if asked.memory > 0 && asked.memory_swap == 0 && asked.memory > host.memory_swap {
        bail!(Refusal::Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
                .to_owned()
        ));
    }
    let both = |memory: i64, swap: i64| memory > 0 && swap > 0 && swap < memory;
    let pick = |asked: i64, set: i64| if asked != 0 { asked } else { set };
    if both(pick(asked.memory, host.memory), asked.memory_swap) {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if asked.memory_swap > 0 && pick(asked.memory, host.memory) == 0 {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    for (set, asked) in [
        (&mut host.memory, asked.memory),
        (&mut host.memory_swap, asked.memory_swap),
        (&mut host.memory_reservation, asked.memory_reservation),
        (&mut host.nano_cpus, asked.nano_cpus),
        (&mut host.cpu_shares, asked.cpu_shares),
        (&mut host.cpu_period, asked.cpu_period),
        (&mut host.cpu_quota, asked.cpu_quota),
    ] {
        *set = pick(asked, *set);
    }
    if asked.blkio_weight != 0 {
        host.blkio_weight = asked.blkio_weight;
    }
    for (set, asked) in [(&mut host.cpuset_cpus, &asked.cpuset_cpus), (&mut host.cpuset_mems, &asked.cpuset_mems)] {
        if !asked.is_empty() {
            set.clone_from(asked);
        }
    }
    // Zero and all below take the limit away.
    if let Some(limit) = asked.pids_limit {
        host.pids_limit = Some(limit.max(0));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
