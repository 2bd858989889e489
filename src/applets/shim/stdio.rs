//! Where the streams of a container or of an exec lead: our ends of its pipes or its terminal, and its log.

use super::pack;
use crate::engine::Record;
use crate::engine::logs::LogOptions;
use crate::ns::Prepared;
use crate::sys::{file, process};
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Our ends of the container's stdio. A terminal is stdin and stdout at once.
pub struct Stdio {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl Stdio {
    pub fn open(devpts: Option<OwnedFd>, prepared: &mut Prepared, terminal: bool, open_stdin: bool) -> Result<Stdio> {
        if terminal {
            let master = match devpts {
                // In the container's own devpts, so that its tty says /dev/pts/0; by descriptor, before it is mounted.
                // Of an exec's container, somebody may have mounted something over it.
                Some(devpts) => {
                    let flags = libc::O_RDWR | libc::O_NOCTTY;
                    file::openat2(devpts.as_fd(), c"ptmx", flags, 0, libc::RESOLVE_NO_XDEV)
                        .context("open a terminal")?
                }
                None => File::options().read(true).write(true).open("/dev/ptmx").context("open a terminal")?.into(),
            };
            process::unlock_terminal(master.as_fd()).context("unlock a terminal")?;
            let slave = process::terminal_peer(master.as_fd()).context("open the other end of a terminal")?;
            for _ in 0..3 {
                prepared.stdio.push(slave.try_clone().context("copy a terminal")?);
            }
            let stdin = Some(master.try_clone().context("copy a terminal")?);
            return Ok(Stdio { stdin, stdout: Some(master), stderr: None });
        }
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).context("make a pipe");
        let stdin = if open_stdin {
            let (read, write) = pipe()?;
            prepared.stdio.push(read);
            Some(write)
        } else {
            prepared.stdio.push(File::open("/dev/null").context("open /dev/null")?.into());
            None
        };
        let (stdout, out) = pipe()?;
        let (stderr, err) = pipe()?;
        prepared.stdio.extend([out, err]);
        Ok(Stdio { stdin, stdout: Some(stdout), stderr: Some(stderr) })
    }
}

/// The json-file log, opened to be appended to; none with the driver `none`.
pub fn open_log(store: &crate::engine::Store, record: &Record) -> Result<Option<(OwnedFd, PathBuf, LogOptions)>> {
    let Some(options) = crate::engine::logs::options(record)? else { return Ok(None) };
    let path = record.log_path(store);
    // It was made with the container's directory, under a name without an id.
    let _ = std::fs::rename(path.with_file_name("log"), &path);
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&path);
    let file = file.with_context(|| format!("open the log {}", path.display()))?;
    if options.compress {
        pack::mend(&path.display().to_string()).with_context(|| format!("mend the log {}", path.display()))?;
    }
    Ok(Some((file.into(), path, options)))
}
