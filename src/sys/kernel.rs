//! Which system calls this kernel has.

use std::io;

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
