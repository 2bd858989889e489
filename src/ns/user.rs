//! User namespaces that nobody lives in: a map of ids as a descriptor.

use crate::oci::runtime::{IdMapping, Ids};
use crate::sys::process::{self, Clone};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs::File;
use std::os::fd::OwnedFd;

/// Makes a user namespace with this map.
pub fn namespace(ids: &Ids) -> Result<OwnedFd> {
    // Its first process only keeps it until it is open.
    let (stays, goes) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("make a pipe")?;
    let made = match process::clone3(libc::CLONE_NEWUSER as u64, None).context("make a user namespace")? {
        Clone::Parent { pid, .. } => pid,
        // Only system calls from here.
        Clone::Child => {
            use std::os::fd::AsRawFd;
            let _ = nix::unistd::close(goes.as_raw_fd());
            let _ = nix::unistd::read(&stays, &mut [0]);
            process::exit_now(0)
        }
    };
    let opened = open(made, ids);
    drop(goes);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(made), None).context("wait for a user namespace's process")?;
    opened
}

fn open(pid: i32, ids: &Ids) -> Result<OwnedFd> {
    for (file, map) in [("uid_map", &ids.uids), ("gid_map", &ids.gids)] {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, lines(map)).with_context(|| format!("write {:?} to {file}", lines(map)))?;
    }
    Ok(File::open(format!("/proc/{pid}/ns/user")).context("open a user namespace")?.into())
}

/// As user_namespaces(7) has it: all of it by one write.
fn lines(map: &[IdMapping]) -> String {
    map.iter().fold(String::new(), |mut text, range| {
        let _ = writeln!(text, "{} {} {}", range.container_id, range.host_id, range.size);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime::{inside, outside};

    #[test]
    fn ids_and_their_names_outside() {
        let range = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let map = [range(0, 1000, 1), range(1, 100_000, 65_535)];
        assert_eq!(lines(&map), "0 1000 1\n1 100000 65535\n");
        for (id, expected) in [(0, Some(1000)), (1, Some(100_000)), (65_535, Some(165_534)), (65_536, None)] {
            assert_eq!(outside(&map, id), expected);
            assert_eq!(expected.and_then(|outside| inside(&map, outside)), expected.map(|_| id));
        }
        assert_eq!(inside(&map, 0), None);
        assert_eq!(outside(&[range(0, u32::MAX, 2)], 1), None);
    }
}
