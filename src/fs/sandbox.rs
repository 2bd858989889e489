//! Where strangers' tars are unpacked: a process that can touch files in one directory only, whatever the tar brings it
//! to do. The kernel resolves its paths inside that directory anyway; this holds where a mistake of ours would not.

use crate::log;
use crate::sys::{apart, landlock, mount, process};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Does the work as a thread would, confined to what lies below the directory, and to what is open already:
///
/// - Landlock (Linux 5.19) lets it open, make, link, move and remove nothing elsewhere, and reach nobody by TCP. Without it
///   the rest holds alone, which `info` tells.
/// - Changes of owner, mode, times and attributes are not Landlock's: in a mount namespace of its own all that is mounted is
///   read-only. The directory, which was opened before, is not.
/// - It signals nobody, looks into no process, executes nothing and enters nothing: those calls are refused, and it is a
///   process in a pid namespace of its own, which shares memory with this one. Where it may have none, it is a thread.
pub fn beneath<T: Send>(directory: BorrowedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let confined = || {
        confine(directory).context("confine the process that unpacks")?;
        work()
    };
    let mut done = None;
    let work = || done = Some(catch_unwind(AssertUnwindSafe(confined)));
    let thread = || {
        if let Err((work, error)) = apart::run(libc::CLONE_NEWPID, work) {
            log::debug!("no pid namespace for who unpacks: {error}");
            work();
        }
    };
    // Not joined: a thread has ended its work before the kernel has cleared its namespace away, for which nobody waits.
    std::thread::scope(|scope| drop(scope.spawn(thread)));
    done.context("start a thread that unpacks")?.unwrap_or_else(|panic| resume_unwind(panic))
}

fn confine(directory: BorrowedFd) -> Result<()> {
    read_only_mounts().context("make all mounts read-only for it")?;
    if let Some(version) = landlock::version() {
        landlock::confine(version, &[directory])?;
    }
    process::refuse(&process::HARMFUL).context("refuse it calls that harm others")
}

/// From now on this thread has mounts of its own, which are read-only. Where it may have none (it is not root, or somebody
/// keeps it from that) they stay as they are: who is not root changes little of others' either.
fn read_only_mounts() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM | Errno::ENOSYS | Errno::ENOSPC) => return Ok(()),
        unshared => unshared?,
    }
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let attr = mount::MountAttr { attr_set: mount::MOUNT_ATTR_RDONLY, ..Default::default() };
    match mount::mount_setattr(root.as_fd(), true, &attr) {
        // In a chroot / may be no mount.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        set => Ok(set?),
    }
}

/// Does the work in a thread that changes files nowhere else than below these directories, and these files; nor does
/// whom it starts. Without Landlock it is done here.
pub fn writing_beneath<T: Send>(places: &[BorrowedFd], work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(version) = landlock::version() else { return work() };
    let confined = || {
        landlock::confine_writing(version, places).context("confine the thread that starts a command")?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(confined).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::xattr;
    use nix::sys::signal::kill;
    use nix::sys::stat::utimes;
    use nix::sys::time::TimeVal;
    use nix::unistd::Pid;
    use std::ffi::CString;
    use std::fs::{self, File, Permissions};
    use std::io::ErrorKind;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::{Path, PathBuf};

    #[test]
    fn who_is_told_to_write_outside_may_not() {
        let dir = std::env::temp_dir().join(format!("dhow-sandbox-{}", std::process::id()));
        fs::create_dir_all(dir.join("inside/deep")).unwrap();
        fs::create_dir_all(dir.join("outside")).unwrap();
        fs::write(dir.join("outside/file"), "kept").unwrap();
        let (root, other) = (File::open(dir.join("inside")).unwrap(), File::open(dir.join("outside")).unwrap());
        // What is open already is reached by its descriptor, which no namespace changes.
        let by_descriptor = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let (inside, outside) = (by_descriptor(&root), by_descriptor(&other));
        if landlock::version().is_none() {
            let _: Option<()> = crate::skip::skip("there is no Landlock");
        }
        let refused = |done: std::io::Result<()>, what: &str| match landlock::version() {
            Some(_) => assert_eq!(done.unwrap_err().kind(), ErrorKind::PermissionDenied, "{what}"),
            None => drop(done),
        };
        beneath(root.as_fd(), || {
            refused(fs::write(outside.join("new"), "x"), "make a file");
            refused(fs::write(outside.join("file"), "x"), "write one");
            refused(fs::remove_file(outside.join("file")), "remove one");
            refused(fs::create_dir(outside.join("dir")), "make a directory");
            refused(symlink("x", outside.join("link")), "make a link");
            refused(fs::read(outside.join("file")).map(drop), "read a file");
            fs::write(inside.join("file"), "x")?;
            refused(fs::hard_link(inside.join("file"), outside.join("linked")), "link a file out");
            refused(fs::rename(inside.join("file"), outside.join("moved")), "move a file out");
            symlink(&outside, inside.join("out"))?;
            refused(fs::write(inside.join("out/new"), "x"), "follow a link");
            fs::hard_link(inside.join("file"), inside.join("deep/linked"))?;
            fs::rename(inside.join("deep/linked"), inside.join("moved"))?;
            fs::remove_file(inside.join("moved"))?;
            assert_eq!(kill(Pid::this(), None), Err(Errno::EPERM), "signal somebody");
            assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM), "make a namespace");
            assert!(!nix::unistd::geteuid().is_root() || Pid::this() == Pid::from_raw(1), "see other processes");
            Ok(())
        })
        .unwrap();
        // This thread is as it was.
        assert_eq!(fs::read_to_string(dir.join("outside/file")).unwrap(), "kept");
        fs::remove_dir_all(&dir).unwrap();
    }

    /// Owners, modes, times and attributes are no matter of Landlock's.
    #[test]
    fn who_is_told_to_change_what_is_outside_may_not() {
        if !nix::unistd::geteuid().is_root() {
            return crate::skip::skip("not root").unwrap_or_default();
        }
        let dir = std::env::temp_dir().join(format!("dhow-sandbox-changes-{}", std::process::id()));
        fs::create_dir_all(dir.join("inside")).unwrap();
        fs::write(dir.join("file"), "kept").unwrap();
        let root = File::open(dir.join("inside")).unwrap();
        beneath(root.as_fd(), || {
            let file = dir.join("file");
            let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
            let name = CString::new(file.as_os_str().as_bytes())?;
            for (done, what) in [
                (chown(&file, Some(1), None), "give a file away"),
                (mode(&file, 0o777), "change its mode"),
                (xattr::setxattr(&name, c"trusted.x", b"y"), "give it an attribute"),
                (utimes(&file, &TimeVal::new(1, 0), &TimeVal::new(1, 0)).map_err(Into::into), "change its times"),
                (mode(Path::new("/proc/self/comm"), 0o777), "change what is the kernel's"),
            ] {
                assert_eq!(done.map_err(|error| error.kind()), Err(ErrorKind::ReadOnlyFilesystem), "{what}");
            }
            root.set_permissions(Permissions::from_mode(0o750)).context("its own")
        })
        .unwrap();
        assert_eq!(fs::metadata(dir.join("inside")).unwrap().permissions().mode() & 0o777, 0o750);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_command_changes_nothing_outside() {
        let Some(_) = landlock::version() else { return crate::skip::skip("there is no Landlock").unwrap_or_default() };
        let dir = std::env::temp_dir().join(format!("dhow-writing-{}", std::process::id()));
        fs::create_dir_all(dir.join("inside")).unwrap();
        fs::write(dir.join("file"), "kept").unwrap();
        let (inside, null) = (File::open(dir.join("inside")).unwrap(), File::open("/dev/null").unwrap());
        let run = |line: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", line]).current_dir(&dir).stderr(std::process::Stdio::null());
            writing_beneath(&[inside.as_fd(), null.as_fd()], || Ok(command.status()?.success())).unwrap()
        };
        assert!(run("cat file >/dev/null && echo x >inside/a && mkdir inside/b && mv inside/a inside/b/c"));
        for line in ["echo x >file", "echo x >new", "rm file", "mv inside/b ."] {
            assert!(!run(line), "{line}");
        }
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "kept");
        fs::remove_dir_all(&dir).unwrap();
    }

    /// The thread has gone, and its namespace and its refusals with it.
    #[test]
    fn whoever_waits_is_as_free_as_before() {
        let root = File::open("/").unwrap();
        let before = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        beneath(root.as_fd(), || Ok(())).unwrap();
        assert_eq!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), before);
        assert_eq!(kill(Pid::this(), None), Ok(()));
        let panicked = std::panic::catch_unwind(|| beneath::<()>(root.as_fd(), || panic!("of the work")));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"of the work"));
    }

    #[test]
    fn an_error_comes_back() {
        let root = File::open("/").unwrap();
        let error = beneath(root.as_fd(), || -> Result<()> { anyhow::bail!("of the work") }).unwrap_err();
        assert_eq!(error.to_string(), "of the work");
    }
}
