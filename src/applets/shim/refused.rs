//! Why a container or an exec was not started: its words, its exit code, and what is taken back.

use super::Base;
use crate::api::time::Time;
use crate::api::{Refusal, errno};
use crate::engine::record::Ended;
use crate::engine::shim::cgroup_of;
use crate::engine::{Record, exec, networks, restart, store};
use crate::ns::{self, Plan, Step};
use anyhow::Result;
use nix::errno::Errno;

/// Why nothing was started: the exit code that Docker gives it, the status of its answer, and the text.
pub struct Refused {
    pub code: i32,
    pub status: u16,
    pub text: String,
    /// How it had ended before, if it had.
    pub before: Option<Box<Ended>>,
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Refused {
        let status = error.downcast_ref().map_or(500, Refusal::status);
        Refused { code: 128, status, text: format!("{error:#}"), before: None }
    }
}

impl Refused {
    /// What Docker's runtime would have told. The command or the mounts are to blame for what ends with 126 or 127.
    pub fn by_runtime(self) -> Refused {
        let status = if matches!(self.code, 126 | 127) { 400 } else { 500 };
        Refused { status, text: format!("failed to create task for container: {}", self.text), ..self }
    }
}

/// In the words of Docker's runtime, which clients look for.
pub fn exec_failed(why: &str) -> String {
    let why = errno::spelt(why);
    format!("OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown")
}

/// What Docker adds where a directory and something else stand in each other's place.
const MISMATCH: &str = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path \
                        exists and is the expected type";

/// What a step's failure is called, and the exit code it stands for.
pub fn refusal(name: &str, plan: &Plan, failed: &ns::Failed) -> Refused {
    let refused = |code: i32, text: String| Refused { code, status: 500, text, before: None };
    let Some(step) = plan.steps.get(failed.step) else {
        return refused(128, format!("starting {name}: {}", failed.errno.desc()));
    };
    let what = |error: Errno| errno::words(error as i32);
    if let Step::Exec(exec) = step {
        let named = exec.name.to_string_lossy();
        return match failed.errno {
            Errno::ENOENT if !named.contains('/') => {
                refused(127, format!("exec: {named:?}: executable file not found in $PATH"))
            }
            Errno::ENOENT => refused(127, format!("exec: {named:?}: stat {named}: no such file or directory")),
            Errno::EACCES => refused(126, format!("exec: {named:?}: permission denied")),
            // Clients take the exit code from the last words, which Docker adds for them.
            Errno::EISDIR => refused(126, format!("exec: {named:?}: is a directory: permission denied")),
            errno => refused(126, format!("exec: {named:?}: {}", what(errno))),
        };
    }
    let text = match step {
        // The words of Docker's runtime.
        Step::ChangeDirectory { path } => {
            format!("chdir to cwd ({:?}) set in config.json failed: {}", path.to_string_lossy(), what(failed.errno))
        }
        _ => format!("starting {name}: {step}: {}", what(failed.errno)),
    };
    match failed.errno {
        Errno::EACCES => refused(126, text),
        Errno::ENOENT => refused(127, text),
        Errno::ENOTDIR => refused(127, text + MISMATCH),
        _ => refused(128, text),
    }
}

/// Nothing was started: takes back what was made, puts the reason on record. Of a restart that is an end, which the
/// policy may leave at that or not.
pub fn undo(base: &Base, refused: &Refused, again: bool) -> Result<()> {
    let (store, id) = (&base.store, base.whose.container.as_str());
    if let Some(exec) = &base.whose.exec {
        return exec::refused(store, id, exec, refused.code);
    }
    let parent = Record::load(store, id)?.map(|record| record.host_config.cgroup_parent).unwrap_or_default();
    if let Some(cgroup) = cgroup_of(store, id, &parent) {
        crate::cgroup::kill(&cgroup)?;
        crate::cgroup::remove(&cgroup)?;
    }
    store::remove(&store.live(id).join("live.json"))?;
    Record::update(store, id, |record| {
        let policy = &record.host_config.restart_policy;
        let ended = &mut record.ended;
        ended.boot.clear();
        ended.exit_code = refused.code;
        ended.error = errno::spelt(&refused.text).into_owned();
        let Some(before) = &refused.before else { return Ok(()) };
        ended.started_at = before.started_at.clone();
        ended.finished_at = before.finished_at.clone();
        ended.due = false;
        if again {
            ended.finished_at = Time::now().to_string();
            ended.due = restart::wanted(policy, ended);
            ended.restart_count += ended.due as i64;
        }
        Ok(())
    })
    .and_then(|record| if again && record.ended.due { Ok(()) } else { networks::leave(store, id) })
}
