//! How many processors there are for us.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// Those that this process may run on, as Docker counts them. The standard library's count looks into cgroups too, by 8 KB
/// of code.
pub fn processors() -> usize {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    (0..CpuSet::count()).filter(|at| set.is_set(*at).unwrap_or(false)).count().max(1)
}
