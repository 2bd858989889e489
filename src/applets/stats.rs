//! `dhow stats`.

use super::format::table::List;
use super::format::units;
use super::ps::short_id;
use super::{Command, Context, habits, output};
use crate::api::client::{Client, Failure, Filters};
use crate::api::types::{BlkioEntry, CpuStats, Stats};
use crate::order::Map;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;

/// Show what containers use, again and again
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Show {
    /// all, and not only those that run
    #[argh(switch, short = 'a')]
    all: bool,
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// once, and no more
    #[argh(switch)]
    no_stream: bool,
    /// print all of every column
    #[argh(switch)]
    no_trunc: bool,
    #[argh(positional, arg_name = "[CONTAINER...]")]
    containers: Vec<String>,
}

const LIST: List = List {
    go_type: "*container.statsContext",
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    raw: None,
};

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);

impl Command for Show {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        let format = habits::or_kept(self.format, |kept| kept.stats_format)?;
        let redraw = !self.no_stream && std::io::stdout().is_terminal();
        let mut before: Map<String, Stats> = Map::new();
        for round in 0.. {
            let named = match self.containers.is_empty() {
                true => running(&client, self.all)?,
                false => self.containers.clone(),
            };
            let mut now = Map::new();
            let mut rows = Vec::new();
            for name in named {
                match client.stats(&name) {
                    Ok(stats) => {
                        rows.push(row(&name, &stats, before.get(&name), !self.no_trunc));
                        now.insert(name, stats);
                    }
                    Err(error) if is_gone(&error) && self.containers.is_empty() => {}
                    // One that was asked for by its name keeps its place.
                    Err(error) if is_gone(&error) && round > 0 => rows.push(gone(&name)),
                    Err(error) => return Err(error),
                }
            }
            before = now;
            // A share of the processor is known from the second look on.
            if round > 0 || !self.no_stream {
                show(&LIST.print(&format, false, &rows)?, redraw)?;
            }
            if round > 0 && self.no_stream {
                break;
            }
            std::thread::sleep(PACE);
        }
        Ok(0)
    }
}

/// The ids of the containers that there are, newest first.
fn running(client: &Client, all: bool) -> Result<Vec<String>> {
    let containers = client.containers(all, 0, false, &Filters::new())?;
    Ok(containers.into_iter().map(|container| container.id).collect())
}

fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.status == 404)
}

/// Prints a table; on a terminal over the one before.
fn show(text: &str, redraw: bool) -> Result<()> {
    if !redraw {
        return output::say(text);
    }
    // To the first place; each line is cleared to its end, and all that is below the last.
    output::say(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}

fn row(asked: &str, stats: &Stats, before: Option<&Stats>, short: bool) -> Value {
    let memory = used(stats);
    let limit = stats.memory_stats.limit;
    let share = if limit == 0 { 0.0 } else { memory as f64 / limit as f64 * 100.0 };
    let received: u64 = stats.networks.values().map(|network| network.rx_bytes).sum();
    let sent: u64 = stats.networks.values().map(|network| network.tx_bytes).sum();
    let entries = stats.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default();
    let pair = |a: u64, b: u64| format!("{} / {}", units::decimal(signed(a), 3), units::decimal(signed(b), 3));
    json!({
        "Container": asked,
        "Name": stats.name.strip_prefix('/').unwrap_or(&stats.name),
        "ID": if short { short_id(&stats.id) } else { &stats.id },
        "CPUPerc": format!("{:.2}%", before.map_or(0.0, |before| busy(&before.cpu_stats, &stats.cpu_stats))),
        "MemUsage": format!("{} / {}", units::binary(signed(memory)), units::binary(signed(limit))),
        "MemPerc": format!("{share:.2}%"),
        "NetIO": pair(received, sent),
        "BlockIO": pair(moved(entries, "read"), moved(entries, "write")),
        "PIDs": stats.pids_stats.current.to_string(),
    })
}

fn gone(asked: &str) -> Value {
    json!({
        "Container": asked, "Name": "--", "ID": asked, "CPUPerc": "--", "MemUsage": "-- / --", "MemPerc": "--",
        "NetIO": "--", "BlockIO": "--", "PIDs": "--",
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bytes in use, without files that could be dropped: by the name that cgroup v2 has for them, or v1.
fn used(stats: &Stats) -> u64 {
    let memory = &stats.memory_stats;
    let files = ["total_inactive_file", "inactive_file"].iter().find_map(|name| memory.stats.get(*name));
    memory.usage.saturating_sub(files.copied().unwrap_or(0).min(memory.usage))
}

/// Percent of one processor.
fn busy(before: &CpuStats, now: &CpuStats) -> f64 {
    let used = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage) as f64;
    let passed = now.system_cpu_usage.saturating_sub(before.system_cpu_usage) as f64;
    if passed > 0.0 && used > 0.0 { used / passed * f64::from(now.online_cpus) * 100.0 } else { 0.0 }
}

fn moved(entries: &[BlkioEntry], op: &str) -> u64 {
    entries.iter().filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{CpuUsage, MemoryStats, PidsStats};

    #[test]
    fn a_row() {
        let cpu = |used: u64, passed: u64| CpuStats {
            cpu_usage: CpuUsage { total_usage: used, ..CpuUsage::default() },
            system_cpu_usage: passed,
            online_cpus: 2,
            ..CpuStats::default()
        };
        let before = Stats { cpu_stats: cpu(1_000, 10_000), ..Stats::default() };
        let mut stats = Stats {
            name: "/web".into(),
            id: "0123456789abcdef".into(),
            cpu_stats: cpu(2_000, 14_000),
            memory_stats: MemoryStats {
                usage: 3 << 20,
                limit: 8 << 20,
                stats: Map::from([("inactive_file".into(), 1 << 20)]),
                ..MemoryStats::default()
            },
            pids_stats: PidsStats { current: 3, limit: 0 },
            ..Stats::default()
        };
        let entry = |op: &str, value| BlkioEntry { op: op.into(), value, ..BlkioEntry::default() };
        stats.blkio_stats.io_service_bytes_recursive = Some(vec![entry("Read", 1000), entry("write", 5)]);
        let line = row("web", &stats, Some(&before), true);
        for (key, value) in [
            ("ID", "0123456789ab"),
            ("Name", "web"),
            ("CPUPerc", "50.00%"),
            ("MemUsage", "2MiB / 8MiB"),
            ("MemPerc", "25.00%"),
            ("NetIO", "0B / 0B"),
            ("BlockIO", "1kB / 5B"),
            ("PIDs", "3"),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert_eq!(row("web", &stats, None, true)["CPUPerc"], "0.00%");
    }
}
