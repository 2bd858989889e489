//! `dhow cp`.

mod paths;

use super::format::units;
use super::piped::piped;
use super::{Command, Context, output};
use crate::api::client::Client;
use crate::api::types::PathStat;
use crate::fs::extract::{self, Owner, Target};
use crate::fs::pack::{Kept, Packer};
use crate::fs::path::open_root;
use crate::fs::stream;
use anyhow::{Context as _, Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use paths::{Plan, Side};
use std::fs::Metadata;
use std::io::{BufReader, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Copy files between a container and this host
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Cp {
    /// into a container: all becomes its user's; out of it: owners, set-id bits and devices are kept
    #[argh(switch, short = 'a')]
    archive: bool,
    /// follow a symbolic link that is the source
    #[argh(switch, short = 'L')]
    follow_link: bool,
    /// do not tell what was copied; the default where no terminal is attached
    #[argh(option, short = 'q', arg_name = "bool")]
    quiet: Option<bool>,
    #[argh(positional, arg_name = "CONTAINER:SRC_PATH|SRC_PATH|-")]
    source: String,
    #[argh(positional, arg_name = "CONTAINER:DEST_PATH|DEST_PATH|-")]
    destination: String,
}

impl Command for Cp {
    fn run(self, context: &Context) -> Result<u8> {
        for (side, path) in [("source", &self.source), ("destination", &self.destination)] {
            if path.is_empty() {
                bail!("{side} can not be empty");
            }
        }
        match (paths::of_container(&self.source), paths::of_container(&self.destination)) {
            (Some(_), Some(_)) => bail!("copying between containers is not supported"),
            (None, None) => bail!("must specify at least one container source"),
            (Some((container, path)), None) => self.copy_out(&context.client()?, container, path)?,
            (None, Some((container, path))) => self.copy_in(&context.client()?, container, path)?,
        }
        Ok(0)
    }
}

impl Cp {
    fn copy_out(&self, client: &Client, container: &str, path: &str) -> Result<()> {
        let destination = if self.destination == "-" { None } else { Some(local(&self.destination)?) };
        if let Some(destination) = &destination {
            check_output(destination)?;
        }
        let (mut path, mut called) = (path.to_owned(), None);
        if self.follow_link
            && let Ok(stat) = client.stat_path(container, &path)
            && stat.is_symlink()
        {
            (path, called) = paths::followed(&path, paths::from_link(&path, &stat.link_target));
        }
        let (stat, tar) = client.get_archive(container, &path)?;
        let Some(destination) = destination else {
            return tar.write_to(&mut BufWriter::with_capacity(64 * 1024, output::Stdout));
        };
        let from = Side { path, exists: true, is_dir: stat.is_dir(), called };
        let to = local_destination(&destination)?;
        let plan = paths::plan(&from, &to)?;
        // The engine names entries by the path; a link that was followed has another name here.
        let old = paths::split(&from.path).1;
        let rename = match (plan.rename, from.called) {
            (Some((_, new)), _) | (None, Some(new)) => Some((old.into_bytes(), new.into_bytes())),
            (None, None) => None,
        };
        let root = open_root(Path::new(&plan.dir))?;
        let owner = if self.archive { Owner::AsTold } else { Owner::Us };
        let target = Target { root: root.as_fd(), dir: b"", owner, replace: false, rename, ids: None };
        let progress = self.progress("Copying from container - ");
        let tar = Counted { inner: piped(|sink| tar.write_to(sink))?, progress: progress.clone() };
        let mut tar = BufReader::with_capacity(stream::BUFFER, tar);
        let left_out = extract::extract(&mut tar, &target);
        progress.end(&destination, left_out.is_ok());
        if left_out? > 0 {
            output::complain("dhow: devices were left out: --archive copies them");
        }
        Ok(())
    }

    fn copy_in(&self, client: &Client, container: &str, path: &str) -> Result<()> {
        let mut to = Side { path: path.to_owned(), ..Side::default() };
        if let Ok(mut stat) = client.stat_path(container, path) {
            let mut known = true;
            if stat.is_symlink() {
                to.path = paths::from_link(path, &stat.link_target);
                match client.stat_path(container, &to.path) {
                    Ok(end) => stat = end,
                    Err(_) => known = false,
                }
            }
            if known {
                check_kind(&stat).with_context(|| {
                    format!("destination \"{container}:{path}\" must be a directory or a regular file")
                })?;
                (to.exists, to.is_dir) = (true, stat.is_dir());
            }
        }
        if self.source == "-" {
            if !to.is_dir {
                bail!("destination \"{container}:{path}\" must be a directory");
            }
            let progress = self.progress("Copying to container - ");
            let tar = Counted { inner: std::io::stdin(), progress: progress.clone() };
            let put = client.put_archive(container, &to.path, self.archive, Box::new(tar));
            progress.end(&format!("{container}:{}", to.path), put.is_ok());
            return put;
        }
        let from = local_source(&local(&self.source)?, self.follow_link)?;
        let Plan { dir, rename } = paths::plan(&from, &to)?;
        let name = match (rename, &from.called) {
            (Some((_, new)), _) => new,
            (None, Some(called)) => called.clone(),
            (None, None) => paths::split(&from.path).1,
        };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::open(from.path.as_str(), flags, Mode::empty());
        let source = opened.with_context(|| format!("opening {}", from.path))?;
        let progress = self.progress("Copying to container - ");
        let packed = piped(move |sink| {
            let mut packer = Packer::new(sink);
            packer.tree(source.as_fd(), name.as_bytes(), &mut |_, _, _| Ok(Kept::All))?;
            packer.end()
        })?;
        let tar = Counted { inner: packed, progress: progress.clone() };
        let put = client.put_archive(container, &dir, self.archive, Box::new(tar));
        progress.end(&format!("{container}:{}", to.path), put.is_ok());
        put
    }

    fn progress(&self, header: &'static str) -> Progress {
        let quiet = self.quiet.unwrap_or_else(|| !std::io::stdout().is_terminal());
        let shown = !quiet && std::io::stderr().is_terminal();
        Progress { header, quiet, shown, bytes: Arc::default() }
    }
}

/// An absolute path of this host, with its ending.
fn local(path: &str) -> Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("finding {path}"))?;
    let absolute = absolute.to_str().with_context(|| format!("{} is not UTF-8", absolute.display()))?;
    Ok(paths::with_ending(paths::clean(absolute), path))
}

fn local_source(path: &str, follow: bool) -> Result<Side> {
    let opening = || format!("opening {path}");
    let real = |path: &str| -> Result<String> {
        let real = std::fs::canonicalize(path).with_context(opening)?;
        real.into_os_string().into_string().map_err(|real| anyhow!("{} is not UTF-8", real.display()))
    };
    let (resolved, called) = if follow {
        paths::followed(path, real(path)?)
    } else {
        // Links on the way are followed, and one at the end if the path says that it is a directory.
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
        let dir = real(if dir.is_empty() {
            "/"
        } else if name.is_empty() || name == "." {
            path
        } else {
            dir
        })?;
        let resolved = match name {
            "" | "." => paths::with_ending(dir, path),
            name if dir == "/" => format!("/{name}"),
            name => format!("{dir}/{name}"),
        };
        let called = path.ends_with('/') && paths::base(path) != paths::base(&resolved);
        let called = called.then(|| paths::base(path).to_owned());
        (resolved, called)
    };
    let is_dir = std::fs::symlink_metadata(&resolved).with_context(opening)?.is_dir();
    Ok(Side { path: resolved, exists: true, is_dir, called })
}

/// Where a copy goes to here: the end of a chain of links, of which the last may lead to nothing.
fn local_destination(path: &str) -> Result<Side> {
    let mut at = path.to_owned();
    for _ in 0..10 {
        let found = match std::fs::symlink_metadata(&at) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let (parent, _) = paths::split(&at);
                if !std::fs::metadata(&parent).with_context(|| format!("opening {parent}"))?.is_dir() {
                    bail!("not a directory");
                }
                return Ok(Side { path: at, ..Side::default() });
            }
            other => other.with_context(|| format!("opening {at}"))?,
        };
        if !found.is_symlink() {
            return Ok(Side { path: at, exists: true, is_dir: found.is_dir(), called: None });
        }
        let target = std::fs::read_link(&at).with_context(|| format!("reading {at}"))?;
        at = paths::from_link(&at, target.to_str().with_context(|| format!("{} is not UTF-8", target.display()))?);
    }
    bail!("too many symlinks in {path}")
}

/// Refuses a destination that a copy could not become, before anything is asked of the engine.
fn check_output(path: &str) -> Result<()> {
    let (parent, _) = paths::split(paths::clean(path).as_str());
    if std::fs::metadata(&parent).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        bail!("invalid output path: directory {parent:?} does not exist");
    }
    let special = |meta: &Metadata| {
        let kind = meta.file_type();
        kind.is_block_device() || kind.is_char_device()
    };
    match std::fs::metadata(path) {
        Ok(meta) if special(&meta) => {
            bail!("invalid output path: {path:?} must be a directory or a regular file: got a device")
        }
        Ok(meta) if !meta.is_dir() && !meta.is_file() => {
            bail!("invalid output path: {path:?} must be a directory or a regular file: got an irregular file")
        }
        _ => Ok(()),
    }
}

fn check_kind(stat: &PathStat) -> Result<()> {
    if stat.is_plain() { Ok(()) } else { bail!("got a device or an irregular file") }
}

/// How much was copied, for who looks on.
#[derive(Clone)]
struct Progress {
    header: &'static str,
    quiet: bool,
    /// On a terminal, also while it is copied.
    shown: bool,
    bytes: Arc<AtomicI64>,
}

impl Progress {
    fn end(&self, where_to: &str, whole: bool) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        if whole && !self.quiet {
            let bytes = units::decimal(self.bytes.load(Ordering::Relaxed), 3);
            output::complain(&format!("Successfully copied {bytes} to {where_to}"));
        }
    }

    fn add(&self, n: usize) {
        // At most so often does anybody read it.
        const OFTEN: Duration = Duration::from_millis(75);
        static LAST: std::sync::Mutex<Option<Instant>> = std::sync::Mutex::new(None);
        let bytes = self.bytes.fetch_add(n as i64, Ordering::Relaxed) + n as i64;
        if !self.shown {
            return;
        }
        let Ok(mut last) = LAST.lock() else { return };
        if last.is_none_or(|last| last.elapsed() >= OFTEN) {
            *last = Some(Instant::now());
            let _ = write!(std::io::stderr(), "\r\x1b[K{}{}", self.header, units::decimal(bytes, 3));
        }
    }
}

struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.add(n);
        Ok(n)
    }
}
