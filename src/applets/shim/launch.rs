//! The first face: waits in state *created* with its socket open, so that whoever attaches or waits before the start
//! loses nothing; on the word "start" it turns the record into a process, and becomes the watching face.

use super::clients::{self, Client, Kind};
use super::{Base, exec_face, lock};
use crate::api::time::Time;
use crate::engine::locks::byte;
use crate::engine::protocol::{Message, Op};
use crate::engine::record::Live;
use crate::engine::shim::{LISTEN_FD, LOCK_FD, cgroup_root};
use crate::engine::{Record, containers, exec, start, store};
use crate::ns::{self, Plan, Prepared, Step};
use crate::sys::{self, process};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Runs until it is told to start, or until nobody is connected any more.
pub fn run(base: Base) -> Result<()> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Names of processes that a shared pid namespace leaves behind come to us, so that they are reaped.
    process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
    let mut created = Created { clients: Vec::new(), size: None };
    let Some(starter) = created.wait()? else {
        store::remove(&base.whose.dir(&base.store).join("sock"))?;
        return Ok(());
    };
    crate::failpoint::reach("launch.start");
    let started = match &base.whose.exec {
        None => launch_container(&base, &created),
        Some(id) => launch_exec(&base, id, &created),
    };
    match started {
        Ok(started) => {
            created.clients[starter].answer(Message::new(Op::Ok, started.pid, 0), &[]);
            created.clients[starter].kind = Kind::Idle;
            crate::failpoint::reach("launch.started");
            let words = started.hand_over(&created.clients)?;
            exec_face("watch", &base, words)
        }
        Err(refused) => {
            let client = created.clients.remove(starter);
            give_up(&base, &refused, created.clients);
            client.answer(Message::new(Op::Failed, refused.code, 0), refused.text.as_bytes());
            Ok(())
        }
    }
}

struct Created {
    clients: Vec<Client>,
    /// Rows and columns, as the last resize said.
    size: Option<(u16, u16)>,
}

impl Created {
    /// Serves until somebody says start (its place among the clients), or the last client leaves.
    fn wait(&mut self) -> Result<Option<usize>> {
        let listener = process::unbound(LISTEN_FD);
        loop {
            let mut fds = vec![libc::pollfd { fd: LISTEN_FD, events: libc::POLLIN, revents: 0 }];
            fds.extend(self.clients.iter().map(|client| libc::pollfd {
                fd: client.fd.as_raw_fd(),
                // What an attached client types stays in its socket until there is somebody to type to.
                events: if client.kind == Kind::Attached { 0 } else { libc::POLLIN },
                revents: 0,
            }));
            process::poll(&mut fds, -1).context("poll")?;
            for (place, fd) in fds[1..].iter().enumerate().rev() {
                let gone = fd.revents & (libc::POLLHUP | libc::POLLERR) != 0;
                if gone && self.clients[place].kind == Kind::Attached {
                    self.clients.remove(place);
                } else if fd.revents != 0 && self.serve(place) {
                    return Ok(Some(place));
                }
                // A stop sends all of them away.
                if self.clients.is_empty() {
                    break;
                }
            }
            if fds[0].revents != 0
                && let Some(client) = clients::accept(listener)
            {
                self.clients.push(client);
            }
            if self.clients.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Whether this client said start.
    fn serve(&mut self, place: usize) -> bool {
        let client = &mut self.clients[place];
        let request = match client.request() {
            Ok(Some(request)) => request,
            Ok(None) => return false,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => {
                self.clients.remove(place);
                return false;
            }
        };
        let message = request.message;
        match message.op {
            Op::Attach => client.attach(&request, true),
            Op::Wait => {
                client.kind = if message.a == 1 { Kind::Leaving } else { Kind::Waiting };
                client.ok();
            }
            Op::Resize => {
                self.size = Some((message.a as u16, message.b as u16));
                client.ok();
            }
            Op::Start => return true,
            // It is being removed: nobody waits for a start any more.
            Op::Stop => self.clients.clear(),
            _ => client.answer(Message::new(Op::Failed, 304, 0), b"the container is not running"),
        }
        false
    }
}

/// Why nothing was started: the exit code that Docker gives it, and the text.
struct Refused {
    code: i32,
    text: String,
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Refused {
        Refused { code: 128, text: format!("{error:#}") }
    }
}

/// A process that runs, and what the watching face gets of it.
struct Started {
    pid: i32,
    pidfd: OwnedFd,
    terminal: bool,
    stdin: Option<OwnedFd>,
    stdin_once: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    log: Option<(OwnedFd, PathBuf, u64, u64, String)>,
    cgroup: Option<PathBuf>,
}

impl Started {
    fn hand_over(self, clients: &[Client]) -> Result<Vec<String>> {
        let mut words = vec![
            format!("pid={}", self.pid),
            format!("tty={}", self.terminal as u8),
            format!("once={}", self.stdin_once as u8),
        ];
        let mut pass = |name: &str, fd: Option<&OwnedFd>| -> Result<()> {
            if let Some(fd) = fd {
                process::set_inherit(fd.as_fd(), true)?;
                words.push(format!("{name}={}", fd.as_raw_fd()));
            }
            Ok(())
        };
        pass("pidfd", Some(&self.pidfd))?;
        pass("in", self.stdin.as_ref())?;
        pass("out", self.stdout.as_ref())?;
        pass("err", self.stderr.as_ref())?;
        if let Some((file, path, size, files, attrs)) = &self.log {
            pass("logfd", Some(file))?;
            words.extend([format!("log={}", path.display()), format!("size={size}"), format!("files={files}")]);
            words.push(format!("attrs={attrs}"));
        }
        if let Some(cgroup) = &self.cgroup {
            words.push(format!("cgroup={}", cgroup.display()));
        }
        for client in clients {
            process::set_inherit(client.fd.as_fd(), true)?;
            words.push(format!("client={}", client.hand_over()));
        }
        // These numbers are all that is left of the descriptors in this face.
        std::mem::forget(self);
        Ok(words)
    }
}

fn launch_container(base: &Base, created: &Created) -> Result<Started, Refused> {
    let (store, id) = (&base.store, base.whose.container.as_str());
    let record = Record::load(store, id)?.ok_or_else(|| containers::no_such(id))?;
    let cgroup = cgroup_root(store).map(|root| root.join(id));
    let born_in = cgroup.as_deref().and_then(|path| crate::cgroup::create(path).ok());
    let start::Ready { plan, prepared: mut root, spec } = start::ready(store, &record, born_in.as_ref())?;
    root.lock = Some(LOCK_FD);
    let process_spec = spec.process.as_ref().context("the spec has no process")?;
    let stdin = record.config.open_stdin;
    let devpts = plan.devpts.and_then(|slot| root.slots.get(slot)).map(|fd| fd.try_clone()).transpose();
    let devpts = devpts.context("copy a descriptor")?;
    let mut stdio = Stdio::open(devpts, &mut root, process_spec.terminal, stdin)?;
    let size = created.size.or_else(|| {
        let [rows, columns] = record.host_config.console_size;
        (rows > 0 || columns > 0).then_some((rows as u16, columns as u16))
    });
    if let (true, Some(master), Some((rows, columns))) = (process_spec.terminal, &stdio.stdout, size) {
        let _ = super::resize(master.as_fd(), rows, columns);
    }
    let log = open_log(store, &record)?;

    sys::lock::try_lock(lock(), byte::INIT).context("lock the container as running")?;
    let mut child = ns::launch(&plan, root, born_in.as_ref().map(|fd| fd.as_fd()), || None)?;
    let live = Live {
        pid: child.pid,
        shim: std::process::id() as i32,
        cgroup: born_in
            .is_some()
            .then(|| cgroup.clone())
            .flatten()
            .map_or(String::new(), |path| path.display().to_string()),
    };
    live.save(store, id)?;
    crate::failpoint::reach("launch.cloned");
    Record::update(store, id, |record| {
        let ended = &mut record.ended;
        ended.started_at = Time::now().to_string();
        ended.finished_at = crate::api::types::NEVER.to_owned();
        ended.boot = store::boot_id()?;
        (ended.exit_code, ended.oom_killed, ended.stopped_by_hand) = (0, false, false);
        ended.error.clear();
        Ok(())
    })?;
    crate::failpoint::reach("launch.marked");
    set_limits(&plan, child.pid)?;
    child.go()?.map_err(|failed| refusal(&record.name, &plan, &failed))?;
    containers::tell_start(store, &record);
    Ok(Started {
        pid: child.pid,
        pidfd: child.pidfd,
        terminal: process_spec.terminal,
        stdin: stdio.stdin.take(),
        stdin_once: record.config.stdin_once,
        stdout: stdio.stdout.take(),
        stderr: stdio.stderr.take(),
        log,
        cgroup: born_in.and(cgroup),
    })
}

fn launch_exec(base: &Base, id: &str, created: &Created) -> Result<Started, Refused> {
    let (store, container) = (&base.store, base.whose.container.as_str());
    let exec::Ready { plan, mut prepared, process: process_spec, open_stdin, size, cgroup, devpts } =
        exec::ready(store, container, id)?;
    prepared.lock = Some(LOCK_FD);
    let mut stdio = Stdio::open(devpts, &mut prepared, process_spec.terminal, open_stdin)?;
    if let (true, Some(master), Some((rows, columns))) = (process_spec.terminal, &stdio.stdout, created.size.or(size)) {
        let _ = super::resize(master.as_fd(), rows, columns);
    }
    let mut child = exec::launch(&plan, prepared, container, cgroup)?;
    sys::lock::try_lock(lock(), byte::INIT).context("lock the exec as running")?;
    exec::started(store, container, id, child.pid)?;
    set_limits(&plan, child.pid)?;
    child.go()?.map_err(|failed| refusal(container, &plan, &failed))?;
    Ok(Started {
        pid: child.pid,
        pidfd: child.pidfd,
        terminal: process_spec.terminal,
        stdin: stdio.stdin.take(),
        stdin_once: true,
        stdout: stdio.stdout.take(),
        stderr: stdio.stderr.take(),
        log: None,
        cgroup: None,
    })
}

/// Our ends of the container's stdio. A terminal is stdin and stdout at once.
struct Stdio {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Stdio {
    fn open(devpts: Option<OwnedFd>, prepared: &mut Prepared, terminal: bool, open_stdin: bool) -> Result<Stdio> {
        if terminal {
            let master = match devpts {
                // In the container's own devpts, so that its tty says /dev/pts/0; by descriptor, before it is mounted.
                Some(devpts) => {
                    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                    nix::fcntl::openat(devpts, "ptmx", flags, nix::sys::stat::Mode::empty())
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

fn set_limits(plan: &Plan, pid: i32) -> Result<()> {
    for limit in &plan.limits {
        let number = start::rlimit(&limit.kind).with_context(|| format!("unknown limit {}", limit.kind))?;
        process::prlimit(pid, number, limit.soft, limit.hard)
            .with_context(|| format!("set {} to {}:{}", limit.kind, limit.soft, limit.hard))?;
    }
    if let Some(score) = plan.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        std::fs::write(&path, score.to_string()).with_context(|| format!("set oom_score_adj to {score}"))?;
    }
    Ok(())
}

/// The json-file log, opened to be appended to; none with the driver `none`.
fn open_log(store: &crate::engine::Store, record: &Record) -> Result<Option<(OwnedFd, PathBuf, u64, u64, String)>> {
    let Some(options) = crate::engine::logs::options(record)? else { return Ok(None) };
    let path = record.log_path(store);
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&path);
    let file = file.with_context(|| format!("open the log {}", path.display()))?;
    Ok(Some((file.into(), path, options.max_size, options.max_file, options.attrs)))
}

/// What a step's failure is called, and the exit code it stands for.
fn refusal(name: &str, plan: &Plan, failed: &ns::Failed) -> Refused {
    let Some(step) = plan.steps.get(failed.step) else {
        return Refused { code: 128, text: format!("starting {name}: {}", failed.errno.desc()) };
    };
    let what = |errno: Errno| errno.desc().to_lowercase();
    if let Step::Exec(exec) = step {
        let named = exec.name.to_string_lossy();
        return match failed.errno {
            Errno::ENOENT if !named.contains('/') => {
                Refused { code: 127, text: format!("exec: {named:?}: executable file not found in $PATH") }
            }
            Errno::ENOENT => {
                Refused { code: 127, text: format!("exec: {named:?}: stat {named}: no such file or directory") }
            }
            Errno::EACCES => Refused { code: 126, text: format!("exec: {named:?}: permission denied") },
            Errno::EISDIR => Refused { code: 126, text: format!("exec: {named:?}: is a directory") },
            errno => Refused { code: 126, text: format!("exec: {named:?}: {}", what(errno)) },
        };
    }
    let code = match (step, failed.errno) {
        (Step::ChangeDirectory { .. }, Errno::ENOENT) => 127,
        (_, Errno::EACCES) => 126,
        _ => 128,
    };
    Refused { code, text: format!("starting {name}: {step}: {}", what(failed.errno)) }
}

/// Nothing was started: takes back what was made, puts the reason on record, tells who waits.
fn give_up(base: &Base, refused: &Refused, clients: Vec<Client>) {
    let (store, id) = (&base.store, base.whose.container.as_str());
    let undo = || -> Result<()> {
        if let Some(exec) = &base.whose.exec {
            exec::ended(store, id, exec, refused.code)?;
            return Ok(());
        }
        if let Some(cgroup) = cgroup_root(store).map(|root| root.join(id)) {
            crate::cgroup::kill(&cgroup)?;
            crate::cgroup::remove(&cgroup)?;
        }
        store::remove(&store.live(id).join("live.json"))?;
        Record::update(store, id, |record| {
            record.ended.boot.clear();
            record.ended.exit_code = refused.code;
            record.ended.error = refused.text.clone();
            Ok(())
        })?;
        Ok(())
    };
    // What cannot be undone here is found by the next command that looks at this container.
    let _ = undo();
    let _ = sys::lock::unlock(lock(), byte::INIT);
    for client in clients.iter().filter(|client| client.kind == Kind::Waiting) {
        client.answer(Message::new(Op::Exited, refused.code, 0), &[]);
    }
    if base.whose.exec.is_none()
        && let Ok(Some(record)) = Record::load(store, id)
        && record.host_config.auto_remove
    {
        let _ = containers::remove_stopped(store, &record, true);
    }
    for client in clients.iter().filter(|client| client.kind == Kind::Leaving) {
        client.answer(Message::new(Op::Exited, refused.code, 0), &[]);
    }
    let _ = store::remove(&base.whose.dir(store).join("sock"));
}
