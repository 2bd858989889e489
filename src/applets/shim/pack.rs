//! Files of a log that were rotated away are compressed: by a process of its own that has nothing but the two files open,
//! so that the container's output is not held up, and nothing that is wrong with a log can harm anybody. What it makes
//! comes into its place only when it is whole, by who holds the lock of the container's shim: nobody else renames these
//! files. Killed at any point, a shim leaves a file in one form or, with the same content, in both.

use super::Base;
use super::files::{compressed, numbered, older};
use crate::engine::locks::{self, Existing, byte};
use crate::engine::logs::packed;
use crate::engine::privileges::{self, Keep, Work};
use crate::engine::shim::{LISTEN_FD, LOCK_FD};
use crate::engine::{Record, Store, logs};
use crate::sys::process;
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::wait::{WaitStatus, waitpid};
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// The words of the face that name its files.
const PLAIN: &str = "plain";
const PACKED: &str = "packed";

/// Descriptors from here on are of no meaning to a face.
const HIGH: i32 = 16;

/// A tenth of a processor that others want, too: with the least that there is, a container that never rests would have
/// nothing compressed.
const NICE: i32 = 10;

/// How long the end of the shim that left something to do is waited for, in hundredths of a second.
const PATIENCE: u32 = 1000;

/// A file to be compressed, and what becomes of it.
pub struct Job {
    plain: File,
    packed: File,
}

/// What is not whole yet.
fn unfinished(path: &str) -> String {
    format!("{path}.gz.tmp")
}

fn is(name: &str, file: &File) -> bool {
    let of = |meta: fs::Metadata| (meta.dev(), meta.ino());
    fs::metadata(name).map(of).ok().is_some_and(|named| file.metadata().map(of).ok() == Some(named))
}

impl Job {
    /// The newest file that is not compressed: it will be kept the longest.
    pub fn find(path: &str, keep: u64) -> io::Result<Option<Job>> {
        for back in 1..=older(path, keep) {
            let plain = match File::open(numbered(path, back)) {
                Ok(plain) => plain,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let _ = fs::remove_file(unfinished(path));
            let packed = File::options().write(true).create_new(true).mode(0o640).open(unfinished(path))?;
            return Ok(Some(Job { plain, packed }));
        }
        Ok(None)
    }

    /// What the face does.
    #[cfg(test)]
    pub fn pack(&self) -> io::Result<()> {
        packed::pack(&self.plain, packed::identity(&self.plain.metadata()?), &self.packed)
    }

    /// Puts the compressed file in the place of the other, wherever that has been rotated to; how far that is, and the
    /// other. Nothing where it is gone.
    pub fn commit(self, path: &str, keep: u64) -> io::Result<Option<(u64, File)>> {
        let place = (1..keep).take(older(path, keep) as usize).find(|back| is(&numbered(path, *back), &self.plain));
        let (Some(back), true) = (place, is(&unfinished(path), &self.packed)) else {
            self.give_up(path);
            return Ok(None);
        };
        // Who looks for lines since some time passes over files by theirs.
        let written = self.plain.metadata()?.modified()?;
        self.packed.set_times(FileTimes::new().set_modified(written))?;
        crate::failpoint::reach("pack.packed");
        fs::rename(unfinished(path), compressed(path, back))?;
        crate::failpoint::reach("pack.renamed");
        fs::remove_file(numbered(path, back))?;
        Ok(Some((back, self.plain)))
    }

    pub fn give_up(self, path: &str) {
        if is(&unfinished(path), &self.packed) {
            let _ = fs::remove_file(unfinished(path));
        }
    }
}

/// The process that does a job.
pub struct Packer {
    pid: i32,
    pidfd: OwnedFd,
    job: Job,
}

impl Packer {
    pub fn start(base: &Base, job: Job) -> Result<Packer, Job> {
        let start = || -> io::Result<(i32, OwnedFd)> {
            // Where no number is that is closed here.
            let high = |file: &File| process::adopt(fcntl(file, FcntlArg::F_DUPFD_CLOEXEC(HIGH))?);
            let files = [high(&job.plain)?, high(&job.packed)?];
            let words = [PLAIN, PACKED].iter().zip(&files).map(|(name, file)| format!("{name}={}", file.as_raw_fd()));
            let words = words.collect();
            let pid = match process::fork()? {
                0 => {
                    // Whether a shim lives is asked of the lock.
                    let _ = process::close_range(LOCK_FD, LISTEN_FD);
                    for file in &files {
                        let _ = process::set_inherit(file.as_fd(), true);
                    }
                    // What else is open here is closed by execve, also where this is a young shim's.
                    super::grow_up();
                    super::exec_face("pack", base, words)
                }
                pid => pid,
            };
            Ok((pid, process::pidfd_open(pid)?))
        };
        match start() {
            Ok((pid, pidfd)) => Ok(Packer { pid, pidfd, job }),
            Err(_) => Err(job),
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end, and gives back the job, and whether it was done.
    pub fn ended(self) -> (Job, bool) {
        let ended = waitpid(nix::unistd::Pid::from_raw(self.pid), None);
        (self.job, matches!(ended, Ok(WaitStatus::Exited(_, 0))))
    }

    /// Ends it.
    pub fn end(self, path: &str) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        self.ended().0.give_up(path);
    }
}

impl AsFd for Packer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The face `pack`: compresses one file into another.
pub fn run(pairs: &[(&str, &str)]) -> Result<()> {
    crate::failpoint::reach("pack.begun");
    let file = |name: &str| -> Result<File> {
        let value = pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        Ok(process::adopt(value.unwrap_or_default().parse()?)?.into())
    };
    let (plain, packed) = (file(PLAIN)?, file(PACKED)?);
    let of = packed::identity(&plain.metadata()?);
    // Its container, and everybody else, comes first.
    // One that is nicer already stays so.
    let _ = process::set_nice(NICE);
    privileges::give_up(Keep::Nothing)?;
    // A change of credentials would clear it.
    process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    privileges::keep_to(Work::Pack)?;
    packed::pack(&plain, of, &packed).context("compress a log")?;
    // What it is made of is removed when this is in its place.
    packed.sync_all().context("compress a log")
}

/// Clears what a shim left that was killed while it rotated or compressed: a file that is not whole, one that is there
/// in both forms, gaps between the numbers.
pub fn mend(path: &str) -> io::Result<()> {
    let _ = fs::remove_file(unfinished(path));
    let log = Path::new(path);
    let name = format!("{}.", log.file_name().unwrap_or_default().to_string_lossy());
    let mut numbers = Vec::new();
    for entry in fs::read_dir(log.parent().unwrap_or(Path::new(".")))? {
        let file = entry?.file_name();
        let number = file.to_str().and_then(|file| file.strip_prefix(&name));
        let number = number.map(|rest| rest.strip_suffix(".gz").unwrap_or(rest)).and_then(|rest| rest.parse().ok());
        numbers.extend(number.filter(|number: &u64| *number > 0));
    }
    crate::order::sort(&mut numbers);
    numbers.dedup();
    for (place, number) in (1..).zip(numbers) {
        let (plain, packed) = (numbered(path, number), compressed(path, number));
        let origin = File::open(&packed).ok().and_then(|packed| packed::origin(&packed));
        if origin.is_some() && fs::metadata(&plain).ok().map(|meta| packed::identity(&meta)) == origin {
            fs::remove_file(&plain)?;
        }
        if place != number {
            for (from, to) in [(plain, numbered(path, place)), (packed, compressed(path, place))] {
                match fs::rename(from, to) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// Where a container's log is, and how many files are kept, if those are compressed.
fn log(store: &Store, record: &Record) -> Option<(String, u64)> {
    let options = logs::options(record).ok()??;
    options.compress.then(|| (record.log_path(store).display().to_string(), options.max_file))
}

/// Whether a container has ended before all of its log was compressed.
pub fn is_due(store: &Store, record: &Record) -> bool {
    let Some((path, keep)) = log(store, record) else { return false };
    (1..=older(&path, keep)).any(|back| fs::exists(numbered(&path, back)).unwrap_or(false))
}

/// Nobody waits for what is left to do, and it is done by a process that holds nothing of the container.
pub fn finish_later(base: &Base) -> Result<()> {
    process::close_range(LOCK_FD, LISTEN_FD).context("close what was the container's")?;
    super::grow_up();
    super::exec_face("finish", base, Vec::new())
}

/// The face `finish`: compresses what a container that has ended left. The lock of its shim is held only while files are
/// renamed; when it is started, or removed, that is the end of this.
pub fn finish(base: &Base) -> Result<()> {
    let (store, id) = (&base.store, base.whose.container.as_str());
    let lock = store.live(id).join("lock");
    let mut packer: Option<Packer> = None;
    let mut patience = PATIENCE;
    loop {
        let done = packer.take().map(Packer::ended);
        let lock = match locks::existing(&lock, byte::SHIM)? {
            Existing::Taken(lock) => lock,
            // The shim that left this may be about to end.
            Existing::Held if done.is_none() && patience > 0 => {
                patience -= 1;
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            Existing::Held | Existing::Missing => return Ok(()),
        };
        let Some((path, keep)) = Record::load(store, id)?.and_then(|record| log(store, &record)) else { return Ok(()) };
        match done {
            Some((job, true)) => drop(job.commit(&path, keep)?),
            Some((job, false)) => {
                job.give_up(&path);
                return Ok(());
            }
            None => {}
        }
        let Some(job) = Job::find(&path, keep)? else { return Ok(()) };
        drop(lock);
        match Packer::start(base, job) {
            Ok(started) => packer = Some(started),
            Err(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_shim_left_is_mended() {
        let dir = std::env::temp_dir().join(format!("dhow-pack-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.log").display().to_string();
        let names = || {
            let mut names: Vec<String> = fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().trim_start_matches("x.log").to_owned())
                .collect();
            crate::order::sort(&mut names);
            names
        };
        for number in [0, 1, 2, 5] {
            fs::write(numbered(&path, number), format!("{number}\n")).unwrap();
        }
        let next = || Job::find(&path, 9).unwrap();
        // It is rotated meanwhile.
        let job = next().unwrap();
        job.pack().unwrap();
        fs::rename(numbered(&path, 1), numbered(&path, 3)).unwrap();
        fs::rename(numbered(&path, 0), numbered(&path, 1)).unwrap();
        assert_eq!(job.commit(&path, 9).unwrap().map(|(back, _)| back), Some(3));
        assert_eq!(names(), [".1", ".2", ".3.gz", ".5"]);
        // Killed before the first form was removed, in a rotation, and while it compressed.
        let job = next().unwrap();
        job.pack().unwrap();
        fs::rename(unfinished(&path), compressed(&path, 1)).unwrap();
        fs::rename(numbered(&path, 2), numbered(&path, 7)).unwrap();
        assert!(next().is_some());
        assert_eq!(names(), [".1", ".1.gz", ".3.gz", ".5", ".7", ".gz.tmp"]);
        mend(&path).unwrap();
        assert_eq!(names(), [".1.gz", ".2.gz", ".3", ".4"]);
        assert_eq!(fs::read_to_string(numbered(&path, 4)).unwrap(), "2\n");
        // Somebody else has begun another one, or it was rotated away.
        let job = next().unwrap();
        job.pack().unwrap();
        let other = next().unwrap();
        assert!(job.commit(&path, 9).unwrap().is_none());
        fs::remove_file(numbered(&path, 3)).unwrap();
        assert!(other.commit(&path, 9).unwrap().is_none());
        assert_eq!(names(), [".1.gz", ".2.gz", ".4"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
