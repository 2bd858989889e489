//! Watches over the firewall's table: when a flush has taken it away, it is loaded again; so are rules of ours in tables of
//! others, for containers that asked for them. One shim of those whose containers go by rules does, the one that holds a lock; the
//! others wait for its end, by its pidfd, and one of them takes over.
//!
//! Who waits read the pid from the file that is locked, and asked after it had the pidfd whether the lock is held still and
//! by the same one: so the pid was that of a living process.

use super::Base;
use crate::engine::networks;
use crate::net::flush::{Flush, Heard, ROOM};
use crate::sys::memory::Pages;
use crate::sys::{lock, process};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

pub struct Guard {
    file: File,
    /// Where one of these is, there may be rules in tables of others.
    marks: [PathBuf; 2],
    duty: Duty,
    /// A process that loads the table, and whether it is to be done once more after it.
    mender: Option<(i32, OwnedFd)>,
    again: bool,
}

enum Duty {
    Watches(Flush),
    /// Until the process of this pidfd has ended.
    Waits(OwnedFd),
}

impl Guard {
    /// Takes the watch, or waits for it. What cannot be done now is left to others.
    pub fn stand(base: &Base) -> Option<Guard> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(networks::firewall_watch(&base.store)).ok()?;
        let duty = duty(base, &file)?;
        let marks = networks::firewall_marks(&base.store);
        let mut guard = Guard { file, marks, duty, mender: None, again: false };
        guard.begin(base);
        Some(guard)
    }

    /// Who has just taken the watch does not know what went on before.
    fn begin(&mut self, base: &Base) {
        if matches!(self.duty, Duty::Watches(_)) {
            self.mend(base);
        }
    }

    pub fn watched(&self) -> BorrowedFd<'_> {
        match &self.duty {
            Duty::Watches(flush) => flush.as_fd(),
            Duty::Waits(pidfd) => pidfd.as_fd(),
        }
    }

    pub fn mender(&self) -> Option<BorrowedFd<'_>> {
        self.mender.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    /// There is something on [`Guard::watched`]. False where this guard is of no use any more.
    pub fn look(&mut self, base: &Base) -> bool {
        match &mut self.duty {
            Duty::Watches(flush) => {
                // For a moment only: it stays out of what an idle shim has.
                let heard = Pages::zeroed(ROOM).map(|mut buffer| flush.heard(&mut buffer));
                let Heard { lost, others } = heard.unwrap_or_default();
                if lost || others && self.marks.iter().any(|mark| mark.exists()) {
                    self.mend(base);
                }
            }
            Duty::Waits(_) => {
                let Some(duty) = duty(base, &self.file) else { return false };
                self.duty = duty;
                self.begin(base);
            }
        }
        true
    }

    /// The process on [`Guard::mender`] has ended.
    pub fn mended(&mut self, base: &Base) {
        if let Some((pid, _)) = self.mender.take() {
            let _ = process::ended(Some(pid), false);
        }
        if std::mem::take(&mut self.again) {
            self.mend(base);
        }
    }

    /// Has the table looked at and loaded, by a process of its own: this one has no engine.
    fn mend(&mut self, base: &Base) {
        if self.mender.is_some() {
            self.again = true;
            return;
        }
        let Ok(pid) = super::start_face("mend", base, Vec::new()) else { return };
        match process::pidfd_open(pid) {
            Ok(pidfd) => self.mender = Some((pid, pidfd)),
            // Whoever buries orphans finds it.
            Err(_) => self.again = false,
        }
    }
}

fn duty(base: &Base, file: &File) -> Option<Duty> {
    // One that ended between two questions is asked about anew.
    for _ in 0..100 {
        if lock::try_lock(file, 0).is_ok() {
            file.write_all_at(&std::process::id().to_ne_bytes(), 0).ok()?;
            return Flush::watch(&networks::firewall_table(&base.store)).ok().map(Duty::Watches);
        }
        let holder = || {
            let mut pid = [0; 4];
            file.read_exact_at(&mut pid, 0).ok()?;
            lock::is_held(file, 0).ok()?.then_some(i32::from_ne_bytes(pid))
        };
        if let Some(pid) = holder()
            && let Ok(pidfd) = process::pidfd_open(pid)
            && holder() == Some(pid)
        {
            return Some(Duty::Waits(pidfd));
        }
    }
    None
}
