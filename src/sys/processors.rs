//! Which processors there are for us.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu};
use nix::unistd::Pid;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// Those that this process may run on, as Docker counts them. The standard library's count looks into cgroups too, by 8 KB
/// of code.
pub fn processors() -> usize {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    (0..CpuSet::count()).filter(|at| set.is_set(*at).unwrap_or(false)).count().max(1)
}

/// Moves a thread that was just started to another processor than the caller's, if there is one that has nothing to do. The
/// kernel often leaves it where it was started, beside idle ones, until the caller waits: for less than a millisecond
/// nothing is balanced.
pub fn elsewhere<T>(thread: &JoinHandle<T>) {
    let (Ok(mut others), Ok(here)) = (sched_getaffinity(Pid::from_raw(0)), sched_getcpu()) else { return };
    if others.unset(here).is_err() || runnable().is_none_or(|busy| busy > processors()) {
        return;
    }
    // SAFETY: a thread that is not joined yet, and a set of that size. Where it fails, the thread stays where it is.
    unsafe {
        libc::pthread_setaffinity_np(thread.as_pthread_t() as _, size_of::<CpuSet>(), (&raw const others).cast());
    }
}

/// How many threads run or could, on the whole machine (proc_loadavg(5)).
fn runnable() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').nth(3)?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_moved() {
        let (said, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            told.recv().unwrap();
            sched_getaffinity(Pid::from_raw(0)).unwrap()
        });
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        elsewhere(&thread);
        said.send(()).unwrap();
        let (count, left) = (processors(), thread.join().unwrap());
        let of = |set: &CpuSet| (0..CpuSet::count()).filter(|at| set.is_set(*at).unwrap()).count();
        // It stays where others are busy, as other tests are.
        assert!([count, (count - 1).max(1)].contains(&of(&left)));
        assert!(runnable().is_some_and(|busy| busy > 0));
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }
}
