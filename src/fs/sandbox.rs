//! Where strangers' tars are unpacked: a thread that can touch files in one directory only, whatever the tar brings it
//! to do. The kernel resolves its paths inside that directory anyway; this holds where a mistake of ours would not.

use crate::sys::landlock;
use anyhow::{Context, Result};
use std::os::fd::BorrowedFd;

/// Does the work in a thread that is confined (Landlock, Linux 5.19) to what lies below the directory, and to what is
/// open already. Without Landlock it is done here, which `info` tells.
pub fn beneath<T: Send>(directory: BorrowedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(version) = landlock::version() else { return work() };
    let confined = || {
        landlock::confine(version, &[directory]).context("confine the thread that unpacks")?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(confined).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn who_is_told_to_write_outside_may_not() {
        let dir = std::env::temp_dir().join(format!("dhow-sandbox-{}", std::process::id()));
        let (inside, outside) = (dir.join("inside"), dir.join("outside"));
        fs::create_dir_all(inside.join("deep")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        let root = File::open(&inside).unwrap();
        if landlock::version().is_none() {
            eprintln!("no Landlock here");
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
            refused(fs::write("/proc/self/comm", "x"), "write to the kernel");
            fs::write(inside.join("file"), "x").unwrap();
            refused(fs::hard_link(inside.join("file"), outside.join("linked")), "link a file out");
            refused(fs::rename(inside.join("file"), outside.join("moved")), "move a file out");
            symlink(&outside, inside.join("out")).unwrap();
            refused(fs::write(inside.join("out/new"), "x"), "follow a link");
            fs::hard_link(inside.join("file"), inside.join("deep/linked")).unwrap();
            fs::rename(inside.join("deep/linked"), inside.join("moved")).unwrap();
            fs::remove_file(inside.join("moved")).unwrap();
            Ok(())
        })
        .unwrap();
        // This thread is as it was.
        assert!(fs::read_to_string(outside.join("file")).is_ok());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_command_changes_nothing_outside() {
        let Some(_) = landlock::version() else { return eprintln!("no Landlock here") };
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

    #[test]
    fn an_error_comes_back() {
        let root = File::open("/").unwrap();
        let error = beneath(root.as_fd(), || -> Result<()> { anyhow::bail!("of the work") }).unwrap_err();
        assert_eq!(error.to_string(), "of the work");
    }
}
