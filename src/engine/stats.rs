//! What a container uses: from its cgroup's files where the controllers are in version 2, from /proc where it can be had
//! there, and otherwise not at all. Nothing of it is an error.

use super::containers::{self, Now};
use super::store::Store;
use crate::api::time::Time;
use crate::api::types::{
    BlkioEntry, CpuStats, CpuUsage, HugetlbStats, MemoryStats, NetworkStats, PidsStats, Psi, PsiData, Stats,
    ThrottlingData,
};
use crate::cgroup;
use crate::order::Map;
use anyhow::Result;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Between two samples.
const PACE: Duration = Duration::from_secs(1);

/// One sample; unless `one_shot` with the processor's part of another, a second before.
pub fn once(store: &Store, id: &str, one_shot: bool) -> Result<Stats> {
    let first = sample(store, id)?;
    if one_shot || first.read == crate::api::types::NEVER {
        return Ok(first);
    }
    std::thread::sleep(PACE);
    Ok(after(sample(store, id)?, &first))
}

/// A sample a second, a JSON line each, until the container or the reader has gone.
pub fn stream(store: &Store, id: &str, sink: &mut dyn Write) -> io::Result<()> {
    let mut last = Stats::default();
    loop {
        let stats = match sample(store, id) {
            Ok(stats) => after(stats, &last),
            Err(error) if containers::is_not_found(&error) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        };
        let mut line = serde_json::to_vec(&stats)?;
        line.push(b'\n');
        sink.write_all(&line)?;
        sink.flush()?;
        last = stats;
        std::thread::sleep(PACE);
    }
}

fn after(mut stats: Stats, before: &Stats) -> Stats {
    stats.preread.clone_from(&before.read);
    stats.precpu_stats.clone_from(&before.cpu_stats);
    stats
}

/// One look; all zero of a container that does not run.
fn sample(store: &Store, id: &str) -> Result<Stats> {
    let now = containers::now(store, id)?;
    let stats = Stats { name: format!("/{}", now.record.name), id: now.record.id.clone(), ..Stats::default() };
    if !now.doing.is_alive() {
        return Ok(stats);
    }
    let cgroup = match now.live.cgroup.as_str() {
        "" => cgroup::stats::Stats::default(),
        path => cgroup::stats::read(Path::new(path)),
    };
    let pids = containers::processes(store, &now).unwrap_or_default();
    let (system, online) = host_cpu(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let io = cgroup.io.map(|devices| devices.into_iter().flat_map(entries).collect::<Vec<_>>());
    let mut stats = Stats {
        read: Time::now().to_string(),
        pids_stats: match cgroup.pids {
            Some((current, limit)) => PidsStats { current, limit },
            None => PidsStats { current: pids.iter().map(|pid| tasks(*pid)).sum(), limit: 0 },
        },
        cpu_stats: CpuStats {
            cpu_usage: CpuUsage::default(),
            system_cpu_usage: system,
            online_cpus: online,
            throttling_data: ThrottlingData::default(),
            psi: cgroup.cpu_pressure.map(psi),
        },
        memory_stats: match cgroup.memory {
            Some(memory) => MemoryStats {
                usage: memory.current,
                limit: memory.limit,
                stats: memory.stats,
                psi: cgroup.memory_pressure.map(psi),
            },
            None => MemoryStats { usage: pids.iter().map(|pid| resident(*pid)).sum(), ..MemoryStats::default() },
        },
        hugetlb_stats: Map::from_iter(cgroup.huge_pages.into_iter().map(|(size, pages)| (size, huge_pages(&pages)))),
        networks: networks(&now),
        ..stats
    };
    stats.blkio_stats.psi = cgroup.io_pressure.map(psi);
    stats.blkio_stats.io_service_bytes_recursive = io.filter(|io| !io.is_empty());
    let total = super::system::memory() as u64;
    if stats.memory_stats.limit == 0 || stats.memory_stats.limit > total {
        stats.memory_stats.limit = total;
    }
    match cgroup.cpu {
        Some(cpu) => {
            stats.cpu_stats.cpu_usage = CpuUsage {
                total_usage: cpu.total * 1000,
                usage_in_kernelmode: cpu.system * 1000,
                usage_in_usermode: cpu.user * 1000,
            };
            stats.cpu_stats.throttling_data = ThrottlingData {
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled_time: cpu.throttled * 1000,
            };
        }
        None => {
            for pid in &pids {
                let (user, system) = times(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
                stats.cpu_stats.cpu_usage.usage_in_usermode += user;
                stats.cpu_stats.cpu_usage.usage_in_kernelmode += system;
                stats.cpu_stats.cpu_usage.total_usage += user + system;
            }
        }
    }
    Ok(stats)
}

fn psi(pressure: cgroup::stats::Pressure) -> Psi {
    let data = |stall: cgroup::stats::Stall| {
        let [avg10, avg60, avg300] = stall.average;
        PsiData { avg10, avg60, avg300, total: stall.total }
    };
    Psi { some: data(pressure.some), full: data(pressure.full) }
}

fn huge_pages(pages: &cgroup::stats::HugePages) -> HugetlbStats {
    let limit = if pages.limit == u64::MAX { 0 } else { pages.limit };
    HugetlbStats { usage: pages.current, limit, failcnt: pages.refused }
}

fn entries(((major, minor), read, written): ((u64, u64), u64, u64)) -> [BlkioEntry; 2] {
    [("read", read), ("write", written)].map(|(op, value)| BlkioEntry { major, minor, op: op.to_owned(), value })
}

/// A tick of the kernel's clocks in /proc, in nanoseconds: 100 a second on every architecture that we know.
const TICK: u64 = 10_000_000;

/// Of /proc/stat: nanoseconds of all processors, from user to softirq as Docker counts them, and how many are on.
fn host_cpu(text: &str) -> (u64, u32) {
    let all = text.lines().next().unwrap_or_default();
    let ticks: u64 = all.split_whitespace().skip(1).take(7).filter_map(|word| word.parse::<u64>().ok()).sum();
    let one = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (ticks * TICK, text.lines().filter(one).count() as u32)
}

/// Of /proc/<pid>/stat: nanoseconds in user and in kernel mode, of its children that have ended too.
fn times(text: &str) -> (u64, u64) {
    // The name stands in parentheses, and may hold any.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = rest.split_whitespace().skip(11).take(4).filter_map(|word| word.parse().ok()).collect();
    match fields[..] {
        [user, system, children_user, children_system] => {
            ((user + children_user) * TICK, (system + children_system) * TICK)
        }
        _ => (0, 0),
    }
}

fn tasks(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |entries| entries.count() as u64)
}

/// Bytes of memory, shared ones by their share.
fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}

/// The interfaces of its network namespace, unless that is the host's.
fn networks(now: &Now) -> Map<String, NetworkStats> {
    if now.record.host_config.network_mode == "host" {
        return Map::new();
    }
    interfaces(&fs::read_to_string(format!("/proc/{}/net/dev", now.live.pid)).unwrap_or_default())
}

/// Of /proc/net/dev: all but loopback.
fn interfaces(text: &str) -> Map<String, NetworkStats> {
    let interface = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let n: Vec<u64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let stats = NetworkStats {
            rx_bytes: *n.first()?,
            rx_packets: *n.get(1)?,
            rx_errors: *n.get(2)?,
            rx_dropped: *n.get(3)?,
            tx_bytes: *n.get(8)?,
            tx_packets: *n.get(9)?,
            tx_errors: *n.get(10)?,
            tx_dropped: *n.get(11)?,
        };
        Some((name.trim().to_owned(), stats)).filter(|(name, _)| name != "lo")
    };
    Map::from_iter(text.lines().filter_map(interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        let stat = "cpu  1 2 3 4 5 6 7 800 900 0\ncpu0 1 0 0 0\ncpu1 0 0 0 0\nintr 5\ncpufreq 1\n";
        assert_eq!(host_cpu(stat), (28 * TICK, 2));
        assert_eq!(host_cpu(""), (0, 0));
        let process = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 5 6 7 8 20 0 1 0";
        assert_eq!(times(process), (12 * TICK, 14 * TICK));
        assert_eq!(times("7 (x"), (0, 0));
        let dev = "Inter-|   Receive\n face |bytes packets\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 516 6 1 2 0 0 0 0 126 3 4 5 0 0 0 0\n";
        let expected = NetworkStats {
            rx_bytes: 516,
            rx_packets: 6,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 126,
            tx_packets: 3,
            tx_errors: 4,
            tx_dropped: 5,
        };
        assert_eq!(interfaces(dev), Map::from([("eth0".to_owned(), expected)]));
    }

    #[test]
    fn one_that_does_not_run_is_all_zero() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        assert_eq!(
            text,
            r#"{"name":"","id":"","read":"0001-01-01T00:00:00Z","preread":"0001-01-01T00:00:00Z","pids_stats":{},"blkio_stats":{"io_service_bytes_recursive":null,"io_serviced_recursive":null,"io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,"io_time_recursive":null,"sectors_recursive":null},"num_procs":0,"storage_stats":{},"cpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"precpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"memory_stats":{}}"#
        );
    }
}
