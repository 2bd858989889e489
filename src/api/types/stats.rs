//! What a container uses: `GET /containers/{id}/stats`.

use super::{NEVER, is_zero};
use crate::json::fields::fields;
use crate::order::Map;

fields! {
    /// One sample, and the processor's part of the one before it. What could not be read is zero or absent.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Stats {
        /// With its leading slash.
        pub name: String,
        pub id: String,
        /// RFC 3339.
        pub read: String,
        pub preread: String,
        pub pids_stats: PidsStats,
        pub blkio_stats: BlkioStats,
        /// Windows only, as is the next one.
        pub num_procs: u32,
        pub storage_stats: super::Nothing,
        pub cpu_stats: CpuStats,
        pub precpu_stats: CpuStats,
        pub memory_stats: MemoryStats,
        /// By the size of a page; ours, and absent where it has none.
        #[serde(skip_serializing_if = "is_zero")]
        pub hugetlb_stats: Map<String, HugetlbStats>,
        /// By interface; absent where it has none of its own.
        #[serde(skip_serializing_if = "is_zero")]
        pub networks: Map<String, NetworkStats>,
    }
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            name: String::new(),
            id: String::new(),
            read: NEVER.to_owned(),
            preread: NEVER.to_owned(),
            pids_stats: PidsStats::default(),
            blkio_stats: BlkioStats::default(),
            num_procs: 0,
            storage_stats: super::Nothing {},
            cpu_stats: CpuStats::default(),
            precpu_stats: CpuStats::default(),
            memory_stats: MemoryStats::default(),
            hugetlb_stats: Map::new(),
            networks: Map::new(),
        }
    }
}

fields! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct PidsStats {
        #[serde(skip_serializing_if = "is_zero")]
        pub current: u64,
        /// The largest number there is where there is no limit.
        #[serde(skip_serializing_if = "is_zero")]
        pub limit: u64,
    }

    /// Only the first has anything in cgroup v2.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct BlkioStats {
        pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
        pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
        pub io_queue_recursive: Option<Vec<BlkioEntry>>,
        pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
        pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
        pub io_merged_recursive: Option<Vec<BlkioEntry>>,
        pub io_time_recursive: Option<Vec<BlkioEntry>>,
        pub sectors_recursive: Option<Vec<BlkioEntry>>,
        /// Ours, as those of the processor and of memory, in the form of runc's events.
        #[serde(skip_serializing_if = "is_zero")]
        pub psi: Option<Psi>,
    }

    /// Pressure, as the kernel's accounting of stalls has it.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Psi {
        pub some: PsiData,
        pub full: PsiData,
    }

    /// Percent, and microseconds in total.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct PsiData {
        pub avg10: f64,
        pub avg60: f64,
        pub avg300: f64,
        pub total: u64,
    }

    /// Bytes, and how often the limit was met.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct HugetlbStats {
        pub usage: u64,
        /// Absent where there is none.
        #[serde(skip_serializing_if = "is_zero")]
        pub limit: u64,
        pub failcnt: u64,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct BlkioEntry {
        pub major: u64,
        pub minor: u64,
        /// read or write.
        pub op: String,
        pub value: u64,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CpuStats {
        pub cpu_usage: CpuUsage,
        /// Nanoseconds of all of this host's processors together, idle ones included.
        #[serde(skip_serializing_if = "is_zero")]
        pub system_cpu_usage: u64,
        #[serde(skip_serializing_if = "is_zero")]
        pub online_cpus: u32,
        pub throttling_data: ThrottlingData,
        #[serde(skip_serializing_if = "is_zero")]
        pub psi: Option<Psi>,
    }

    /// Nanoseconds.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CpuUsage {
        pub total_usage: u64,
        pub usage_in_kernelmode: u64,
        pub usage_in_usermode: u64,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ThrottlingData {
        pub periods: u64,
        pub throttled_periods: u64,
        /// Nanoseconds.
        pub throttled_time: u64,
    }

    /// Bytes.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct MemoryStats {
        #[serde(skip_serializing_if = "is_zero")]
        pub usage: u64,
        /// The kernel's own names and numbers.
        #[serde(skip_serializing_if = "is_zero")]
        pub stats: Map<String, u64>,
        #[serde(skip_serializing_if = "is_zero")]
        pub limit: u64,
        #[serde(skip_serializing_if = "is_zero")]
        pub psi: Option<Psi>,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct NetworkStats {
        pub rx_bytes: u64,
        pub rx_packets: u64,
        pub rx_errors: u64,
        pub rx_dropped: u64,
        pub tx_bytes: u64,
        pub tx_packets: u64,
        pub tx_errors: u64,
        pub tx_dropped: u64,
    }
}
