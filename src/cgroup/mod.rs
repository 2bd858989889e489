//! Control groups, version 2. A container's processes live in `<root>/<id>`, all shims in `<root>/shims`, so that no
//! service stop or logout takes either along. Killing and freezing work where no controller does (hybrid hosts).

pub mod devices;
pub mod limits;
pub mod stats;

use crate::sys::kernel;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// How long the kernel may take to bury processes that were killed.
const BURYING: Duration = Duration::from_secs(10);
/// Whoever waits uninterruptibly at two looks that are so far apart is taken for one that does not end.
const LOOK: Duration = Duration::from_millis(100);
/// How long a process may take to come to rest: one in an uninterruptible wait does not freeze.
const FREEZING: Duration = Duration::from_secs(10);

/// Where version 2 is mounted; `None` where it is not, or not for us to write.
pub fn mount() -> Option<&'static Path> {
    let is_v2 = |path: &&Path| {
        nix::sys::statfs::statfs(*path).is_ok_and(|stat| stat.filesystem_type().0 as i64 == CGROUP2_SUPER_MAGIC)
    };
    // Asked until it is found: it comes once in the life of a host, and stays.
    static FOUND: OnceLock<&Path> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Some(found);
    }
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let found = places.into_iter().map(Path::new).find(is_v2)?;
    Some(FOUND.get_or_init(|| found))
}

/// Below which our cgroups are: the mount; in a user namespace the topmost that this user was given, or none.
pub fn home() -> Option<&'static Path> {
    static GIVEN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let mount = mount()?;
    if kernel::is_first_user_namespace() {
        return Some(mount);
    }
    GIVEN.get_or_init(|| given(mount)).as_deref()
}

fn given(mount: &Path) -> Option<PathBuf> {
    let here = of_process(mount, std::process::id() as i32)?;
    let writable = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    let ours = |path: &&Path| {
        let owner = fs::metadata(path).map(|meta| meta.uid());
        owner.is_ok_and(|owner| owner == nix::unistd::geteuid().as_raw()) && writable(&path.join("cgroup.procs"))
    };
    let above = here.ancestors().take_while(|path| *path != mount);
    above.skip_while(|path| !path.exists()).take_while(ours).last().map(Path::to_owned)
}

/// Makes a cgroup and opens it, so that a process can be born in it. The one above it may be removed at the same
/// moment, because it was empty: then it is made again.
pub fn create(path: &Path) -> Result<OwnedFd> {
    let make = || {
        match fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(path)?,
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(path)
    };
    let mut made = make();
    for _ in 0..100 {
        if !made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            break;
        }
        made = make();
    }
    Ok(made.with_context(|| format!("make cgroup {}", path.display()))?.into())
}

/// Makes a cgroup in which nothing has been before: what is left there ends.
///
/// Linux kills at birth whatever is born (`CLONE_INTO_CGROUP`) from one cgroup into another that was once killed: it
/// compares how often the two were (`kill_seq`, since 6.14). So a cgroup that was killed is never used again.
pub fn create_new(path: &Path) -> Result<OwnedFd> {
    if path.exists() {
        kill(path)?;
        remove(path)?;
    }
    create(path)
}

/// Removes a cgroup where nothing is in it; one whose last process is just ending is waited for, for a moment.
pub fn remove_empty(path: &Path) {
    for _ in 0..50 {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(2)),
            _ => return,
        }
    }
}

pub fn open(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).with_context(|| format!("open cgroup {}", path.display()))?.into())
}

/// Removes an empty cgroup, and those below it that the container made. A missing one is removed already.
pub fn remove(path: &Path) -> Result<()> {
    match remove_unless(path, &mut || false)? {
        true => Ok(()),
        false => anyhow::bail!("remove cgroup {}: it still has processes", path.display()),
    }
}

/// The same, of processes that were killed. `false` where one does not end: it waits for a file system or a device that
/// does not answer, in a way that no signal ends (FUSE, NFS, a broken disk).
pub fn remove_killed(path: &Path) -> Result<bool> {
    let (mut next, mut before) = (Instant::now() + LOOK, Vec::new());
    remove_unless(path, &mut || {
        if Instant::now() < next {
            return false;
        }
        next = Instant::now() + LOOK;
        let waiting = uninterruptible(path);
        let stuck = waiting.iter().any(|pid| before.contains(pid));
        before = waiting;
        stuck
    })
}

/// The processes of a cgroup that are in an uninterruptible wait, by proc_pid_stat(5).
fn uninterruptible(path: &Path) -> Vec<i32> {
    let waits = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('D'))
    };
    processes(path).unwrap_or_default().into_iter().filter(waits).collect()
}

/// Gives up when the kernel has had its time, or when `stuck` says so: `false`.
fn remove_unless(path: &Path, stuck: &mut dyn FnMut() -> bool) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) if error.raw_os_error() != Some(libc::EBUSY) && error.raw_os_error() != Some(libc::ENOTEMPTY) => {
            return Err(error).with_context(|| format!("remove cgroup {}", path.display()));
        }
        Err(_) => {}
    }
    for entry in fs::read_dir(path).with_context(|| format!("list cgroup {}", path.display()))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !remove_unless(&entry.path(), stuck)? {
            return Ok(false);
        }
    }
    // The processes have ended but the kernel may not have buried them yet: it says so when it has.
    let until = Instant::now() + BURYING;
    while Instant::now() < until {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if stuck() {
                    return Ok(false);
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            other => return other.map(|()| true).with_context(|| format!("remove cgroup {}", path.display())),
        }
    }
    Ok(false)
}

fn write(path: &Path, file: &str, value: &str) -> Result<()> {
    let path = path.join(file);
    let mut file = File::options().write(true).open(&path).with_context(|| format!("open {}", path.display()))?;
    file.write_all(value.as_bytes()).with_context(|| format!("write {value:?} to {}", path.display()))
}

/// Kills every process of the cgroup and of those below (Linux 5.14), else one by one until none is left.
pub fn kill(path: &Path) -> Result<()> {
    if write(path, "cgroup.kill", "1").is_ok() || !path.exists() {
        return Ok(());
    }
    for _ in 0..100 {
        let pids = processes(path)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    anyhow::bail!("kill cgroup {}: its processes do not end", path.display())
}

/// The processes of a cgroup and of those below it.
pub fn processes(path: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let text = match fs::read_to_string(path.join("cgroup.procs")) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            // A threaded cgroup below: its processes are listed above it.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => continue,
            Err(error) => return Err(error).with_context(|| format!("read {}/cgroup.procs", path.display())),
        };
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        if let Ok(entries) = fs::read_dir(&path) {
            todo.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
    }
    Ok(pids)
}

/// Whether every process of it is frozen.
pub fn is_frozen(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
}

/// Begins to freeze or thaw.
pub fn set_frozen(path: &Path, frozen: bool) -> Result<()> {
    write(path, "cgroup.freeze", if frozen { "1" } else { "0" })
}

/// Freezes or thaws; comes back when the kernel says that it is so.
pub fn freeze(path: &Path, frozen: bool) -> Result<()> {
    let gone = |error: &anyhow::Error| {
        let number = error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        matches!(number, Some(libc::ENOENT | libc::ENODEV))
    };
    match become_frozen(path, frozen) {
        // What was killed frozen may be gone before it is thawed.
        Err(error) if !frozen && gone(&error) => Ok(()),
        done => done,
    }
}

fn become_frozen(path: &Path, frozen: bool) -> Result<()> {
    set_frozen(path, frozen)?;
    let file = File::open(path.join("cgroup.events")).context("open cgroup.events")?;
    let until = Instant::now() + FREEZING;
    loop {
        // Through the polled descriptor: a change is told once after each reading of it.
        let mut text = [0; 256];
        let length = file.read_at(&mut text, 0).context("read cgroup.events")?;
        let wanted: &[u8] = if frozen { b"frozen 1" } else { b"frozen 0" };
        if text[..length].windows(wanted.len()).any(|window| window == wanted) {
            return Ok(());
        }
        if Instant::now() > until {
            break;
        }
        let mut poll = [nix::poll::PollFd::new(file.as_fd(), nix::poll::PollFlags::POLLPRI)];
        let _ = nix::poll::poll(&mut poll, 100u8);
    }
    if frozen {
        let _ = set_frozen(path, false);
        anyhow::bail!("freeze {}: a process does not stop", path.display());
    }
    Ok(())
}

/// How many processes of the cgroup the kernel has killed for memory; 0 where the controller is not in version 2.
pub fn oom_kills(path: &Path) -> u64 {
    let text = fs::read_to_string(path.join("memory.events")).unwrap_or_default();
    let count = |line: &str| line.strip_prefix("oom_kill ").and_then(|count| count.trim().parse().ok());
    text.lines().find_map(count).unwrap_or(0)
}

/// The cgroup that a process is in now, as a path below `mount`.
pub fn of_process(mount: &Path, pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(mount.join(path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_needs_no_thawing() {
        let gone = Path::new("/nowhere/at/all");
        assert!(freeze(gone, false).is_ok());
        assert!(freeze(gone, true).is_err());
    }
}
