//! What the processes of a cgroup use, as its files say. Where a controller is not in version 2 its files are not
//! there, and what they would say is `None`.

use crate::order::Map;
use std::fs;
use std::path::Path;

/// One look at a cgroup.
#[derive(Debug, Default, PartialEq)]
pub struct Stats {
    /// Kept by the kernel for every cgroup, with a controller or without.
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
    /// How many tasks, and how many there may be.
    pub pids: Option<(u64, u64)>,
    /// Device, bytes read and bytes written.
    pub io: Option<Vec<((u64, u64), u64, u64)>>,
    /// Of processors, memory and I/O: how long was waited for them, where the kernel keeps that.
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
    /// By the size of a page, `2MB`: those that it has, or was refused.
    pub huge_pages: Map<String, HugePages>,
}

/// Documentation/accounting/psi.rst: some of the processes waited, and all of them.
#[derive(Debug, Default, PartialEq)]
pub struct Pressure {
    pub some: Stall,
    pub full: Stall,
}

/// Percent of the last 10, 60 and 300 seconds, and microseconds of all time.
#[derive(Debug, Default, PartialEq)]
pub struct Stall {
    pub average: [f64; 3],
    pub total: u64,
}

#[derive(Debug, Default, PartialEq)]
pub struct HugePages {
    /// Bytes.
    pub current: u64,
    /// [`u64::MAX`] where there is none.
    pub limit: u64,
    /// How often the limit was met.
    pub refused: u64,
}

/// Microseconds.
#[derive(Debug, Default, PartialEq)]
pub struct Cpu {
    pub total: u64,
    pub user: u64,
    pub system: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: u64,
}

/// Bytes.
#[derive(Debug, Default, PartialEq)]
pub struct Memory {
    pub current: u64,
    /// [`u64::MAX`] where there is none.
    pub limit: u64,
    pub stats: Map<String, u64>,
}

pub fn read(path: &Path) -> Stats {
    let text = |name: &str| fs::read_to_string(path.join(name)).ok();
    Stats {
        cpu: text("cpu.stat").map(|text| cpu(&pairs(&text))),
        memory: text("memory.current").map(|current| Memory {
            current: number(&current),
            limit: text("memory.max").map_or(u64::MAX, |limit| number(&limit)),
            stats: text("memory.stat").map_or_else(Map::new, |text| pairs(&text)),
        }),
        pids: text("pids.current")
            .map(|current| (number(&current), text("pids.max").map_or(u64::MAX, |limit| number(&limit)))),
        io: text("io.stat").map(|text| text.lines().filter_map(io).collect()),
        cpu_pressure: text("cpu.pressure").map(|text| pressure(&text)),
        memory_pressure: text("memory.pressure").map(|text| pressure(&text)),
        io_pressure: text("io.pressure").map(|text| pressure(&text)),
        huge_pages: Map::from_iter(sizes_of_pages().into_iter().filter_map(|size| huge_pages(path, size))),
    }
}

/// `some avg10=0.12 avg60=0.01 avg300=0.00 total=1234`, and the same of `full`.
fn pressure(text: &str) -> Pressure {
    let stall = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default();
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        // Always with two digits after the point.
        let hundredths = |name: &str| word(name).and_then(|value| value.replace('.', "").parse().ok()).unwrap_or(0u32);
        let average = |name: &str| f64::from(hundredths(name)) / 100.0;
        let total = word("total").and_then(|value| value.parse().ok()).unwrap_or(0);
        Stall { average: ["avg10", "avg60", "avg300"].map(average), total }
    };
    Pressure { some: stall("some"), full: stall("full") }
}

/// The sizes of huge pages, as the files of cgroups name them: `2MB`, `1GB`.
fn sizes_of_pages() -> Vec<String> {
    let list = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let size = |name: &str| {
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kilobytes {
            1048576.. => format!("{}GB", kilobytes >> 20),
            1024.. => format!("{}MB", kilobytes >> 10),
            _ => format!("{kilobytes}KB"),
        })
    };
    list.filter_map(|entry| size(entry.file_name().to_str()?)).collect()
}

fn huge_pages(path: &Path, size: String) -> Option<(String, HugePages)> {
    let text = |name: &str| fs::read_to_string(path.join(format!("hugetlb.{size}.{name}"))).ok();
    let current = number(&text("current")?);
    let refused = text("events").map_or(0, |events| pairs(&events).get("max").copied().unwrap_or(0));
    let limit = || text("max").map_or(u64::MAX, |limit| number(&limit));
    (current > 0 || refused > 0).then(|| HugePages { current, limit: limit(), refused }).map(|pages| (size, pages))
}

/// A number, or `max`.
fn number(text: &str) -> u64 {
    let text = text.trim();
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

/// Lines of a name and a number.
fn pairs(text: &str) -> Map<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    Map::from_iter(text.lines().filter_map(pair))
}

fn cpu(pairs: &Map<String, u64>) -> Cpu {
    let of = |name: &str| pairs.get(name).copied().unwrap_or(0);
    Cpu {
        total: of("usage_usec"),
        user: of("user_usec"),
        system: of("system_usec"),
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled: of("throttled_usec"),
    }
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 …`.
fn io(line: &str) -> Option<((u64, u64), u64, u64)> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let of = |name: &str| {
        let word = rest.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    Some(((major.parse().ok()?, minor.parse().ok()?), of("rbytes"), of("wbytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_absence() {
        let dir = std::env::temp_dir().join(format!("dhow-cgroup-stats-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(read(&dir), Stats::default());
        for (name, text) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n",
            ),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 5\ninactive_file 7\nodd\n"),
            ("pids.current", "2\n"),
            ("pids.max", "100\n"),
            ("memory.pressure", "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.50 total=9\n"),
            ("io.stat", "8:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n253:1 rbytes=1\n7:0 \nrubbish\n"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        let stats = read(&dir);
        let expected = Cpu { total: 30, user: 20, system: 10, periods: 3, throttled_periods: 2, throttled: 1 };
        assert_eq!(stats.cpu, Some(expected));
        let map = Map::from([("anon".to_owned(), 5), ("inactive_file".to_owned(), 7)]);
        assert_eq!(stats.memory, Some(Memory { current: 4096, limit: u64::MAX, stats: map }));
        assert_eq!(stats.pids, Some((2, 100)));
        assert_eq!(stats.io, Some(vec![((8, 0), 4096, 512), ((253, 1), 1, 0), ((7, 0), 0, 0)]));
        let some = Stall { average: [1.5, 0.25, 0.0], total: 77 };
        let full = Stall { average: [0.5, 0.0, 0.0], total: 9 };
        assert_eq!(stats.memory_pressure, Some(Pressure { some, full }));
        assert_eq!(stats.cpu_pressure, None);
        fs::write(dir.join("hugetlb.2MB.current"), "0\n").unwrap();
        assert_eq!(huge_pages(&dir, "2MB".into()), None);
        fs::write(dir.join("hugetlb.2MB.events"), "max 3\n").unwrap();
        let expected = HugePages { current: 0, limit: u64::MAX, refused: 3 };
        assert_eq!(huge_pages(&dir, "2MB".into()), Some(("2MB".into(), expected)));
        fs::remove_dir_all(&dir).unwrap();
    }
}
