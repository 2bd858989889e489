//! Which system calls this kernel has.

use std::io;
use std::sync::OnceLock;

/// The calls that starting a container cannot do without, with the version of Linux that brought each; oldest first.
const NEEDED: [(&str, libc::c_long, (u32, u32)); 8] = [
    ("open_tree", libc::SYS_open_tree, (5, 2)),
    ("move_mount", libc::SYS_move_mount, (5, 2)),
    ("fsopen", libc::SYS_fsopen, (5, 2)),
    ("clone3", libc::SYS_clone3, (5, 3)),
    ("pidfd_open", libc::SYS_pidfd_open, (5, 3)),
    ("openat2", libc::SYS_openat2, (5, 6)),
    ("close_range", libc::SYS_close_range, (5, 9)),
    ("mount_setattr", libc::SYS_mount_setattr, (5, 12)),
];

/// Whether this kernel has the call with that number.
pub fn has(call: libc::c_long) -> bool {
    // SAFETY: of the calls above none takes these arguments: descriptors, pids and flags of all ones, a range that
    // ends before it begins, structures of no size, and no path.
    let result = unsafe { libc::syscall(call, -1_i64, 0_i64, -1_i64, 0_i64, 0_i64) };
    result >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// The ids of this process's user namespace, as first and count; `None` for the namespace that the kernel began with,
/// which has every id as it is.
fn ids() -> Option<&'static [(u64, u64)]> {
    static IDS: OnceLock<Option<Vec<(u64, u64)>>> = OnceLock::new();
    IDS.get_or_init(|| ids_of(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default())).as_deref()
}

fn ids_of(map: &str) -> Option<Vec<(u64, u64)>> {
    let numbers = |line: &str| -> Option<(u64, u64, u64)> {
        let mut words = line.split_whitespace().map(str::parse);
        Some((words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?))
    };
    let ranges: Vec<_> = map.lines().filter_map(numbers).collect();
    if ranges.is_empty() || ranges == [(0, 0, u32::MAX.into())] {
        return None;
    }
    Some(ranges.into_iter().map(|(first, _, count)| (first, count)).collect())
}

/// Whether this process is in the user namespace that the kernel began with.
pub fn is_first_user_namespace() -> bool {
    ids().is_none()
}

/// Whether there is but one id here, and so one owner of everything.
pub fn is_single_id() -> bool {
    ids().is_some_and(|ids| ids.iter().map(|(_, count)| count).sum::<u64>() == 1)
}

/// Whether there is such a user here.
pub fn has_uid(uid: u32) -> bool {
    let uid = u64::from(uid);
    ids().is_none_or(|ids| ids.iter().any(|(first, count)| (*first..first + count).contains(&uid)))
}

/// Whether groups may be set: not in a user namespace that somebody without privileges made (user_namespaces(7)).
pub fn may_set_groups() -> bool {
    is_first_user_namespace()
        || !std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Of what is needed, what the kernel lacks, as a sentence: the newest call, for that is the kernel to look for.
pub fn lacking(release: &str, has: impl Fn(libc::c_long) -> bool) -> Option<String> {
    let (name, _, (major, minor)) = NEEDED.iter().rev().find(|(_, call, _)| !has(*call))?;
    Some(format!(
        "containers cannot be started on this kernel ({release}): it has no {name}, which came with Linux {major}.{minor}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces_by_their_maps() {
        for (map, ids) in [
            ("         0          0 4294967295\n", None),
            ("", None),
            ("         0       1000          1\n", Some(vec![(0, 1)])),
            ("0 1000 1\n1 100000 65536\n", Some(vec![(0, 1), (1, 65536)])),
        ] {
            assert_eq!(ids_of(map), ids, "{map}");
        }
    }

    #[test]
    fn what_old_kernels_lack() {
        // A kernel has what came with its version and before.
        let of = |version: (u32, u32)| {
            lacking("x", |asked| NEEDED.iter().any(|(_, call, since)| *call == asked && *since <= version))
        };
        let words = |name: &str, version: &str| {
            format!(
                "containers cannot be started on this kernel (x): it has no {name}, which came with Linux {version}"
            )
        };
        for (version, expected) in [
            ((6, 1), None),
            ((5, 12), None),
            ((5, 11), Some(words("mount_setattr", "5.12"))),
            ((4, 19), Some(words("mount_setattr", "5.12"))),
        ] {
            assert_eq!(of(version), expected, "{version:?}");
        }
        // One that a filter hides is named for itself.
        for (name, call, (major, minor)) in NEEDED {
            let expected = words(name, &format!("{major}.{minor}"));
            assert_eq!(lacking("x", |asked| asked != call), Some(expected));
        }
    }

    #[test]
    fn this_kernel_has_them() {
        for (name, call, _) in NEEDED {
            assert!(has(call), "{name}");
        }
        assert!(!has(9999));
    }
}
