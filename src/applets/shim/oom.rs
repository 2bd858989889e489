//! Processes of the container that the kernel kills for memory, init among them or not.

use nix::fcntl::OFlag;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The kernel's count of them, watched.
pub struct Oom {
    file: OwnedFd,
    told: u64,
}

impl Oom {
    /// `told`: how many are known of. None where the memory controller is not in version 2.
    pub fn watch(cgroup: Option<&Path>, told: u64) -> Option<Oom> {
        let path = cgroup?.join("memory.events");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(&path, flags, nix::sys::stat::Mode::empty()).ok()?;
        Some(Oom { file, told })
    }

    pub fn told(&self) -> u64 {
        self.told
    }

    /// Whether there are more than are known of. None where the cgroup has gone: a poll would report that for ever.
    pub fn more(&mut self) -> Option<bool> {
        let mut text = [0; 512];
        // To read it is also to be told of the next change.
        let length = nix::sys::uio::pread(&self.file, &mut text, 0).ok()?;
        let count = count(&text[..length]);
        Some(count > std::mem::replace(&mut self.told, count))
    }
}

impl AsFd for Oom {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn count(text: &[u8]) -> u64 {
    let lines = text.split(|byte| *byte == b'\n');
    let number = lines.filter_map(|line| line.strip_prefix(b"oom_kill ")).next();
    number.and_then(|number| std::str::from_utf8(number).ok()?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts() {
        let text = "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!((count(text.as_bytes()), count(b""), count(b"oom_kill x\n")), (2, 0, 0));
    }

    #[test]
    fn each_is_told_once() {
        let dir = std::env::temp_dir().join(format!("dhow-oom-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(Oom::watch(Some(&dir), 0).is_none() && Oom::watch(None, 0).is_none());
        let write = |count: u32| std::fs::write(dir.join("memory.events"), format!("oom_kill {count}\n")).unwrap();
        write(1);
        let mut oom = Oom::watch(Some(&dir), 1).unwrap();
        assert_eq!(oom.more(), Some(false));
        write(3);
        assert_eq!((oom.more(), oom.more(), oom.told()), (Some(true), Some(false), 3));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
