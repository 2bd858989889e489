//! Further processes in a running container. Each has a shim and a directory of its own; its exit record stays until
//! the container goes.

use super::containers::{self, Doing};
use super::locks::Held;
use super::names;
use super::protocol::{Message, Op};
use super::shim::{self, Whose};
use super::store::{self, Store};
use super::{events, spec, users};
use crate::api::Refusal;
use crate::api::types::{ExecCreate, ExecInspect, ExecProcess};
use crate::cgroup;
use crate::json;
use crate::json::fields::fields;
use crate::ns::{self, Child, Plan, Prepared};
use crate::oci::runtime::{Process, Spec};
use crate::sys::process;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

fields! {
    /// An exec as it is kept: what was asked, and how it ended.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Exec {
        pub id: String,
        pub container: String,
        pub asked: ExecCreate,
        pub pid: i32,
        /// It was started; a second start is refused.
        pub started: bool,
        /// Whether its output comes in frames, as its start asked for it; with a terminal or without one, as with Docker.
        pub framed: bool,
        pub exit_code: Option<i32>,
        /// When the life of its container began in which it was made: in a later one it cannot be started.
        pub life: String,
    }
}

fn dir(store: &Store, container: &str, id: &str) -> PathBuf {
    store.live(container).join("execs").join(id)
}

fn no_such(id: &str) -> anyhow::Error {
    Refusal::NotFound(format!("No such exec instance: {id}")).into()
}

impl Exec {
    fn load(store: &Store, container: &str, id: &str) -> Result<Exec> {
        let path = dir(store, container, id).join("exec.json");
        match std::fs::read(&path) {
            Ok(text) => json::from_slice(&text).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(no_such(id)),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn save(&self, store: &Store) -> Result<()> {
        let bytes = serde_json::to_vec(self).context("encode an exec")?;
        store::write_file(&dir(store, &self.container, &self.id).join("exec.json"), &bytes, false)
    }

    /// It was not started yet.
    fn is_pending(&self) -> bool {
        !self.started && self.exit_code.is_none()
    }

    fn is_of_this_life(&self, now: &containers::Now) -> bool {
        now.doing.is_alive() && (self.life.is_empty() || self.life == now.record.ended.started_at)
    }

    /// What an event is called: Docker puts the command behind it, with a space before the first argument even where
    /// there is none.
    fn event(&self, action: &str) -> String {
        let (program, arguments) = self.asked.cmd.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        format!("{action}: {program} {}", arguments.join(" "))
    }
}

/// Keeps what shall be executed; the new exec's id.
pub fn create(store: &Store, container: &str, mut asked: ExecCreate) -> Result<String> {
    if asked.cmd.is_empty() {
        bail!(Refusal::BadParameter("No exec command specified".to_owned()));
    }
    let id = containers::find(store, container)?;
    let now = containers::now(store, &id)?;
    must_run(&now, container)?;
    if !asked.user.is_empty() {
        // Its start looks again: who is in the files may change until then.
        let unknown = |error: anyhow::Error| Refusal::BadParameter(format!("{error:#}"));
        users::resolve(root_of(store, &now)?.as_fd(), &asked.user, &now.record.host_config.group_add)
            .map_err(unknown)?;
    }
    asked.working_dir = super::working_dir::named(&asked.working_dir)?;
    let (framed, life) = (!asked.tty, now.record.ended.started_at.clone());
    let exec = Exec { id: names::id()?, container: id.clone(), asked, framed, life, ..Exec::default() };
    // Made aside and renamed, so that an exec is there whole or not at all.
    let place = dir(store, &id, &exec.id);
    store::make_dirs(&place, 0o700)?;
    exec.save(store)?;
    events::container(store, &now.record, &exec.event("exec_create"), &[("execID", &exec.id)]);
    Ok(exec.id)
}

/// Opens the root of a container that runs.
fn root_of(store: &Store, now: &containers::Now) -> Result<File> {
    let root = File::open(format!("/proc/{}/root", now.live.pid));
    // Asked after it was opened: held, so that the pid was still init's.
    if !super::record::held(store, &now.record.id)?.init || is_gone(&root) {
        return Err(not_running(&now.record.id));
    }
    root.context("open the container's root")
}

/// `name` is what the user calls it.
fn must_run(now: &containers::Now, name: &str) -> Result<()> {
    let id = &now.record.id;
    match now.doing {
        Doing::Running => Ok(()),
        Doing::Paused => {
            bail!(Refusal::Conflict(format!("Container {name} is paused, unpause the container before exec")))
        }
        Doing::Restarting => bail!(containers::is_restarting(id)),
        _ => bail!(not_running(id)),
    }
}

/// Why nobody enters a container any more, in Docker's words: it has ended, or is about to. Its lock is held until those
/// that it takes along have been waited for; but who ends has no root any more.
pub fn has_left(store: &Store, container: &str) -> Option<anyhow::Error> {
    let now = match containers::now(store, container) {
        Ok(now) => now,
        Err(error) => return Some(error),
    };
    let has_root = || !is_gone(&File::open(format!("/proc/{}/root", now.live.pid)));
    must_run(&now, container).err().or_else(|| (!has_root()).then(|| not_running(container)))
}

fn is_gone<T>(opened: &std::io::Result<T>) -> bool {
    opened.as_ref().is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)))
}

fn not_running(id: &str) -> anyhow::Error {
    Refusal::Conflict(format!("container {id} is not running")).into()
}

/// The container that an exec belongs to.
pub fn container_of(store: &Store, id: &str) -> Result<String> {
    for container in store::read_dir(&store.run.join("containers"))? {
        if dir(store, &container, id).exists() {
            return Ok(container);
        }
    }
    Err(no_such(id))
}

/// An exec whose container may start it, as it was when that was found.
pub struct Startable {
    exec: Exec,
    now: containers::Now,
}

pub fn startable(store: &Store, id: &str) -> Result<Startable> {
    let exec = Exec::load(store, &container_of(store, id)?, id)?;
    let now = containers::now(store, &exec.container)?;
    check_life(&exec, &now)?;
    must_run(&now, &exec.container)?;
    Ok(Startable { exec, now })
}

impl Startable {
    pub fn asked(&self) -> &ExecCreate {
        &self.exec.asked
    }

    /// What its start says: whether its output comes in frames, and the size that its terminal shall begin with.
    pub fn settle(&mut self, store: &Store, framed: bool, size: Option<[u32; 2]>) -> Result<()> {
        let exec = &mut self.exec;
        let size = size.or(exec.asked.console_size);
        // Most say what was said when it was made; of one that has begun it is settled.
        if exec.started || (exec.framed, exec.asked.console_size) == (framed, size) {
            return Ok(());
        }
        (exec.framed, exec.asked.console_size) = (framed, size);
        exec.save(store)
    }
}

/// Starts an exec; attached to `streams` unless detached. Its shim looks again whether it may.
pub fn start(store: &Store, found: &Startable, streams: Option<(i32, Vec<u8>)>) -> Result<Option<OwnedFd>> {
    let Startable { exec, now } = found;
    if exec.started {
        return Err(taken(exec));
    }
    let (id, container) = (&exec.id, &now.record.id);
    let whose = Whose::exec(container, id);
    let mut control = shim::connect_or_start(store, &whose)?;
    let attached = match streams {
        None => None,
        Some((streams, keys)) => {
            let mut stream = shim::connect(store, &whose)?.context("the exec's shim has ended")?;
            shim::tell(&mut stream, Message::new(Op::Attach, streams, 0), &keys)?;
            if streams & super::protocol::STDIN == 0 {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            Some(OwnedFd::from(stream))
        }
    };
    // Before it is so, because its end comes at any moment after.
    events::container(store, &now.record, &exec.event("exec_start"), &[("execID", id)]);
    match shim::ask(&mut control, Message::new(Op::Start, 0, 0), &[])? {
        (Message { op: Op::Ok, .. }, _) => {}
        (Message { a: 304, .. }, _) => return Err(taken(&Exec::load(store, container, id)?)),
        (_, why) => match has_left(store, container) {
            Some(error) => return Err(error),
            None => bail!(Refusal::BadParameter(String::from_utf8_lossy(&why).into_owned())),
        },
    }
    Ok(attached)
}

/// Each is started once.
fn taken(exec: &Exec) -> anyhow::Error {
    let how = if exec.exit_code.is_some() { "has already run" } else { "is already running" };
    Refusal::Conflict(format!("exec command {} {how}", exec.id)).into()
}

/// An exec as it is kept. One that was not started goes with the life of its container.
fn known(store: &Store, id: &str) -> Result<Exec> {
    let exec = Exec::load(store, &container_of(store, id)?, id)?;
    if exec.is_pending() {
        check_life(&exec, &containers::now(store, &exec.container)?)?;
    }
    Ok(exec)
}

fn check_life(exec: &Exec, now: &containers::Now) -> Result<()> {
    if exec.is_pending() && !exec.is_of_this_life(now) { Err(no_such(&exec.id)) } else { Ok(()) }
}

pub fn inspect(store: &Store, id: &str) -> Result<ExecInspect> {
    let container = container_of(store, id)?;
    let whose = Whose::exec(&container, id);
    let held = Held::of(&whose.dir(store).join("lock"))?;
    let exec = known(store, id)?;
    // Its shim was killed before it could write the end.
    let lost = exec.started && exec.exit_code.is_none() && !held.shim;
    let asked = exec.asked;
    let (entrypoint, arguments) =
        asked.cmd.split_first().map_or_else(Default::default, |(first, rest)| (first.clone(), rest.to_vec()));
    Ok(ExecInspect {
        id: exec.id,
        running: held.init && exec.exit_code.is_none(),
        exit_code: if lost { Some(137) } else { exec.exit_code },
        process_config: ExecProcess {
            tty: asked.tty,
            entrypoint,
            arguments,
            privileged: asked.privileged,
            user: asked.user,
        },
        open_stdin: asked.attach_stdin,
        open_stderr: asked.attach_stderr,
        open_stdout: asked.attach_stdout,
        can_remove: false,
        container_id: exec.container,
        detach_keys: asked.detach_keys,
        pid: exec.pid,
    })
}

/// The execs of a container that run now, and those that are yet to be started, for inspect.
pub fn current(store: &Store, now: &containers::Now) -> Result<Vec<String>> {
    let container = &now.record.id;
    let mut ids = Vec::new();
    for id in store::read_dir(&store.live(container).join("execs"))? {
        let runs = Held::of(&dir(store, container, &id).join("lock"))?.init;
        let waits =
            || Exec::load(store, container, &id).is_ok_and(|exec| exec.is_pending() && exec.is_of_this_life(now));
        if runs || waits() {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Whether it was started and is at its end.
pub fn has_ended(store: &Store, container: &str, id: &str) -> Result<bool> {
    let exec = Exec::load(store, container, id)?;
    Ok(exec.exit_code.is_some() || exec.started && !Held::of(&dir(store, container, id).join("lock"))?.shim)
}

pub fn resize(store: &Store, id: &str, rows: u16, columns: u16) -> Result<()> {
    let container = known(store, id)?.container;
    containers::resize(store, &Whose::exec(&container, id), rows, columns)
}

/// What the exec's shim needs to launch it.
pub struct Ready {
    pub plan: Plan,
    pub prepared: Prepared,
    pub process: Process,
    pub open_stdin: bool,
    pub framed: bool,
    pub size: Option<(u16, u16)>,
    pub cgroup: Option<PathBuf>,
    /// Where its terminal is made, if it has one.
    pub devpts: Option<OwnedFd>,
}

pub fn ready(store: &Store, container: &str, id: &str) -> Result<Ready> {
    let exec = Exec::load(store, container, id)?;
    let ready = prepare(store, container, &exec.asked)?;
    Ok(Ready { framed: exec.framed, ..ready })
}

/// The same for what is executed without being kept, as the probe of a health check is.
pub fn prepare(store: &Store, container: &str, asked: &ExecCreate) -> Result<Ready> {
    let now = containers::now(store, container)?;
    must_run(&now, container)?;
    let path = store.live(container).join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let spec: Spec = json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    let pidfd = process::pidfd_open(now.live.pid);
    let root = root_of(store, &now)?;
    if is_gone(&pidfd) {
        bail!(not_running(container));
    }
    let pidfd = pidfd.context("open the container's init")?;
    let named = exec_user(asked, &now.record.config.user);
    let user = users::resolve(root.as_fd(), named, &now.record.host_config.group_add)?;
    let record = super::networks::links::with_variables(store, &now.record, false)?;
    let process = spec::exec_process(&record, &spec, asked, &user)?;
    super::apparmor::ensure(&process.apparmor_profile)?;
    let filter = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()).filter(|_| !asked.privileged);
    // Its children are born in the container's pid namespace.
    match nix::sched::setns(&pidfd, nix::sched::CloneFlags::CLONE_NEWPID) {
        Err(nix::errno::Errno::ESRCH) => bail!(not_running(container)),
        joined => joined.context("join the container's pid namespace")?,
    }
    let linux = spec.linux.as_ref().context("the container's spec has no linux section")?;
    let plan = ns::plan_exec(&process, filter, pidfd, linux)?;
    let prepared = ns::prepare(&plan, None, None)?;
    let size = asked.console_size.map(|[rows, columns]| (rows as u16, columns as u16));
    let cgroup = (!now.live.cgroup.is_empty()).then(|| PathBuf::from(&now.live.cgroup));
    let devpts = if process.terminal { devpts(root.as_fd()) } else { None };
    Ok(Ready { plan, prepared, process, open_stdin: asked.attach_stdin, framed: false, size, cgroup, devpts })
}

/// The container's own devpts, so that a terminal has a name inside. Without one, or with something else in its
/// place, the terminal is one of the host's.
fn devpts(root: BorrowedFd) -> Option<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let folder = crate::sys::file::openat2(root, c"dev/pts", flags, 0, resolve).ok()?;
    let kind = nix::sys::statfs::fstatfs(&folder).ok()?.filesystem_type();
    (kind == nix::sys::statfs::DEVPTS_SUPER_MAGIC).then_some(folder)
}

fn exec_user<'a>(asked: &'a ExecCreate, container: &'a str) -> &'a str {
    if asked.user.is_empty() { container } else { &asked.user }
}

/// Clones the exec's process into the container's cgroup. A container that runs a cgroup tree of its own has no room
/// for processes in its root: then it joins init where that is now.
pub fn launch(plan: &Plan, prepared: Prepared, container: &str, cgroup: Option<PathBuf>) -> Result<Child> {
    let fd = match &cgroup {
        Some(path) => Some(cgroup::open(path)?),
        None => None,
    };
    ns::launch(plan, prepared, fd.as_ref().map(|fd| fd.as_fd()), || {
        let mount = cgroup::mount()?;
        let pid = cgroup.as_deref().and_then(|path| cgroup::processes(path).ok()?.first().copied())?;
        let place = cgroup::of_process(mount, pid)?;
        cgroup::open(Path::new(&place)).ok()
    })
    .with_context(|| format!("enter container {container}"))
}

pub fn started(store: &Store, container: &str, id: &str, pid: i32) -> Result<()> {
    let mut exec = Exec::load(store, container, id)?;
    (exec.started, exec.pid) = (true, pid);
    exec.save(store)
}

/// Writes the end of an exec. The container may have gone before it, and its record with it.
pub fn ended(store: &Store, container: &str, id: &str, code: i32) -> Result<()> {
    let Some(mut exec) = left(store, container, id)? else { return Ok(()) };
    (exec.started, exec.exit_code) = (true, Some(code));
    exec.save(store)?;
    if let Some(record) = super::Record::load(store, container)? {
        events::container(store, &record, "exec_die", &[("execID", id), ("exitCode", &code.to_string())]);
    }
    Ok(())
}

/// The same of one that came to nothing: no process of it has died.
pub fn refused(store: &Store, container: &str, id: &str, code: i32) -> Result<()> {
    let Some(mut exec) = left(store, container, id)? else { return Ok(()) };
    (exec.started, exec.pid, exec.exit_code) = (true, 0, Some(code));
    exec.save(store)
}

fn left(store: &Store, container: &str, id: &str) -> Result<Option<Exec>> {
    match Exec::load(store, container, id) {
        Err(error) if containers::is_not_found(&error) => Ok(None),
        other => other.map(Some),
    }
}
