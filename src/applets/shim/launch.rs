//! The first face: waits for its start with its socket open; on the word "start" it turns the record into a process,
//! and becomes the watching face. After an end that its policy does not leave at that, it waits for the restart.

use super::clients::{self, Client};
use super::idle::{Idle, Next};
use super::kept::{Kept, Served};
use super::refused::{Refused, exec_failed, refusal, undo};
use super::stdio::{Stdio, open_log};
use super::{Base, exec_face, hooks, lock, reap};
use crate::api::time::Time;
use crate::engine::locks::{self, Lock, byte};
use crate::engine::logs::LogOptions;
use crate::engine::protocol::{Message, Op};
use crate::engine::record::Live;
use crate::engine::shim::{LOCK_FD, cgroup_of};
use crate::engine::{Record, containers, events, exec, health, limits, networks, privileges, restart, start, store};
use crate::net::namespace::Coming;
use crate::ns::caps::{self, CapSet};
use crate::ns::{self, Child, Plan};
use crate::oci::runtime::{Process, Spec};
use crate::sys::{self, process};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Runs until it is told to start, or until nobody is connected any more; or, with a pause, until that is over; or starts
/// at once what was stopped for that.
pub fn run(base: Base, pairs: &[(&str, &str)]) -> Result<()> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Names of processes that a shared pid namespace leaves behind come to us, so that they are reaped.
    process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
    let idle = Idle::new(&base, clients::take_over(pairs));
    let pause = super::millis(pairs, "pause");
    match pairs.contains(&BY_HAND) || pause.is_some() {
        false => first(&base, idle),
        true => again(&base, idle, pause, Kept::take_over(pairs)),
    }
}

/// Somebody asked for the restart: there is no pause before it.
const BY_HAND: (&str, &str) = ("restart", "1");

fn first(base: &Base, mut idle: Idle) -> Result<()> {
    let Next::Start(Some(starter)) = idle.serve(None)? else {
        return store::remove(&base.whose.dir(&base.store).join("sock"));
    };
    crate::failpoint::reach("launch.start");
    idle.clients[starter].kind = clients::Kind::Starting;
    let started = match &base.whose.exec {
        None => launch_container(base, &mut idle, None, false),
        Some(id) => launch_exec(base, id, &idle),
    };
    match started {
        Ok(started) => {
            clients::answer_start(&mut idle.clients, Message::new(Op::Ok, started.child.pid, 0), &[]);
            crate::failpoint::reach("launch.started");
            let words = started.hand_over(&idle.clients)?;
            exec_face("watch", base, words)
        }
        Err(refused) => {
            if refuse(base, idle.clients, &refused) {
                reap::rest(base)
            } else {
                Ok(())
            }
        }
    }
}

/// What somebody asked for did not start, and that is that: with `--rm` the container goes. Whether it would have been on
/// networks.
fn refuse(base: &Base, clients: Vec<Client>, refused: &Refused) -> bool {
    let record = Record::load(&base.store, &base.whose.container).ok().flatten();
    let mode = record.map(|record| record.host_config.network_mode).filter(|_| base.whose.exec.is_none());
    let (mut asked, others): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|client| client.kind == clients::Kind::Starting);
    // What cannot be undone here is found by the next command that looks at this container.
    let _ = undo(base, refused, false);
    let _ = sys::lock::unlock(lock(), byte::INIT);
    let _ = sys::lock::unlock(lock(), byte::RESTARTING);
    let remove = || match Record::load(&base.store, &base.whose.container)? {
        Some(record) if base.whose.exec.is_none() && record.host_config.auto_remove => {
            containers::remove_stopped(&base.store, &record, true).map(Some)
        }
        _ => Ok(None),
    };
    let _ = clients::part(base, others, refused.code, remove);
    clients::answer_start(
        &mut asked,
        Message::new(Op::Failed, refused.code, refused.status.into()),
        refused.text.as_bytes(),
    );
    mode.is_some_and(|mode| networks::has_networks(&mode))
}

/// Becomes this face again, to start the container anew after a pause, or at once, as somebody asked. The caller holds the
/// lock that says so.
pub fn put_off(base: &Base, pause: Option<Duration>, clients: &[Client], kept: &Kept) -> ! {
    let mut words = vec![match pause {
        Some(pause) => format!("pause={}", pause.as_millis()),
        None => format!("{}={}", BY_HAND.0, BY_HAND.1),
    }];
    if clients::hand_over(clients, &mut words).and_then(|()| kept.hand_over(&mut words)).is_err() {
        process::exit_now(125)
    }
    // One that entered its faces by calls would carry them all, one in another.
    super::grow_up();
    exec_face("launch", base, words)
}

/// Waits for the moment of the restart, and starts it. What does not start is put off anew, as an end would be, unless
/// somebody asked for it.
fn again(base: &Base, mut idle: Idle, pause: Option<Duration>, mut kept: Kept) -> Result<()> {
    let mut by_hand = pause.is_none();
    let mut pause = pause.unwrap_or_default();
    loop {
        crate::failpoint::reach("restart.waiting");
        if !by_hand {
            let next = idle.serve(Some(Instant::now() + pause))?;
            let record = Record::load(&base.store, &base.whose.container)?;
            let stays = |record: &Record| {
                record.ended.stopped_by_hand || !record.ended.due || !restart::has_policy(&record.host_config)
            };
            by_hand = matches!(next, Next::Restart);
            match &record {
                Some(record) if by_hand => events::container(&base.store, record, "stop", &[]),
                Some(record) if !stays(record) && !matches!(next, Next::Stop) => {}
                _ => return stay(base, idle, matches!(next, Next::Stop)),
            }
        }
        crate::failpoint::reach("restart.due");
        match launch_container(base, &mut idle, Some(&mut kept), !by_hand) {
            Ok(started) => {
                sys::lock::unlock(lock(), byte::RESTARTING)?;
                crate::failpoint::reach("restart.started");
                clients::answer_start(&mut idle.clients, Message::new(Op::Ok, started.child.pid, 0), &[]);
                let mut words = started.hand_over(&idle.clients)?;
                let pause = if by_hand { Duration::ZERO } else { pause };
                words.push(format!("pause={}", pause.as_millis()));
                exec_face("watch", base, words)
            }
            Err(refused) if by_hand => {
                // Whoever hears of it finds the ports free.
                drop(kept);
                return if refuse(base, idle.clients, &refused) { reap::rest(base) } else { Ok(()) };
            }
            Err(refused) => {
                undo(base, &refused, true)?;
                sys::lock::unlock(lock(), byte::INIT)?;
                clients::tell(&mut idle.clients, clients::Kind::Waiting, refused.code);
                pause = restart::pause(pause, Duration::ZERO);
            }
        }
    }
}

/// The restart is called off: the container has ended as it is on record.
fn stay(base: &Base, idle: Idle, by_hand: bool) -> Result<()> {
    let updated = Record::update(&base.store, &base.whose.container, |record| {
        record.ended.due = false;
        record.ended.stopped_by_hand |= by_hand;
        Ok(())
    });
    crate::failpoint::reach("restart.off");
    let code = updated.as_ref().map_or(255, |record| record.ended.exit_code);
    networks::leave(&base.store, &base.whose.container)?;
    sys::lock::unlock(lock(), byte::RESTARTING)?;
    clients::part(base, idle.clients, code, || updated.map(|_| None::<()>)).map(drop)
}

/// A process that runs, and what the watching face gets of it.
struct Started {
    child: Child,
    terminal: bool,
    framed: bool,
    stdin: Option<OwnedFd>,
    stdin_once: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    log: Option<(OwnedFd, PathBuf, LogOptions)>,
    cgroup: Option<PathBuf>,
    /// Words on its health check, on how it is stopped, and on what its next faces need.
    watched: Vec<String>,
    kept: Kept,
    /// Of a container's root.
    _files: Option<Lock>,
}

impl Started {
    fn hand_over(self, clients: &[Client]) -> Result<Vec<String>> {
        let mut words = vec![
            format!("pid={}", self.child.pid),
            format!("tty={}", self.terminal as u8),
            format!("framed={}", self.framed as u8),
            format!("once={}", self.stdin_once as u8),
        ];
        let mut pass = |name: &str, fd: Option<&OwnedFd>| -> Result<()> {
            if let Some(fd) = fd {
                process::set_inherit(fd.as_fd(), true)?;
                words.push(format!("{name}={}", fd.as_raw_fd()));
            }
            Ok(())
        };
        pass("pidfd", Some(&self.child.pidfd))?;
        pass("in", self.stdin.as_ref())?;
        pass("out", self.stdout.as_ref())?;
        pass("err", self.stderr.as_ref())?;
        if let Some((file, path, LogOptions { max_size, max_file, compress, attrs })) = &self.log {
            pass("logfd", Some(file))?;
            words.extend([format!("log={}", path.display()), format!("size={max_size}"), format!("files={max_file}")]);
            words.extend([format!("compress={}", *compress as u8), format!("attrs={attrs}")]);
        }
        words.extend_from_slice(&self.watched);
        if let Some(cgroup) = &self.cgroup {
            words.push(format!("cgroup={}", cgroup.display()));
        }
        clients::hand_over(clients, &mut words)?;
        self.kept.hand_over(&mut words)?;
        // These numbers are all that is left of the descriptors in this face.
        std::mem::forget(self);
        Ok(words)
    }
}

/// Starts the container; with what was kept for a restart. One of its policy (`again`) goes on counting, and a stop may be
/// about to call it off.
fn launch_container(
    base: &Base,
    idle: &mut Idle,
    mut kept: Option<&mut Kept>,
    again: bool,
) -> Result<Started, Refused> {
    let (store, id) = (&base.store, base.whose.container.as_str());
    let record = Record::load(store, id)?.ok_or_else(|| containers::no_such(id))?;
    // One that came to a network or left one while it waited is given all of them anew; so is one whose bridge is gone.
    if let Some(kept) = kept.as_mut().filter(|kept| kept.namespace.is_some())
        && !networks::are_held(store, &record)?
    {
        **kept = Kept::default();
    }
    let before = record.ended.clone();
    clone_container(base, idle, kept, again, record)
        .map_err(|refused| Refused { before: Some(Box::new(before)), ..refused })
}

fn clone_container(
    base: &Base,
    idle: &mut Idle,
    kept: Option<&mut Kept>,
    again: bool,
    record: Record,
) -> Result<Started, Refused> {
    let (store, id) = (&base.store, base.whose.container.as_str());
    let namespace = kept.as_ref().and_then(|kept| kept.namespace.as_ref());
    let mode = &record.host_config.network_mode;
    // In a user namespace a network belongs to that, and is made with it.
    let apart = namespace.is_none() && record.ids.is_none();
    let coming = (apart && mode != "host" && !mode.starts_with("container:"))
        .then(Coming::begin)
        .transpose()
        .context("prepare the network")?;
    let cgroup = cgroup_of(store, id, &record.host_config.cgroup_parent);
    let born_in = cgroup.as_deref().and_then(|path| crate::cgroup::create_new(path).ok());
    // An update that came before the cgroup is in the record, one that comes after it finds the cgroup.
    let record = Record::load(store, id)?.ok_or_else(|| containers::no_such(id))?;
    // Kept until this face ends: whoever has it looks at the container's root from outside.
    let files = locks::exclusive(&store.live(id).join("lock"), byte::ROOT)?;
    let record = start::with_owners(store, record)?;
    let record = networks::links::with_variables(store, &record, true)?.into_owned();
    let has_resolver = kept.as_ref().is_some_and(|kept| kept.resolver.is_some());
    // Addresses and ports before anything else is made: what is not to be had is said first. A restart has them still.
    let entry = match namespace {
        Some(_) => networks::resume(store, &record).context("failed to set up container networking")?,
        None => networks::enter(store, &record).context("failed to set up container networking")?,
    };
    let prepared: Option<Box<dyn FnOnce() -> Result<OwnedFd>>> = match (namespace, coming) {
        (Some(kept), _) => Some(Box::new(|| kept.try_clone().context("copy a descriptor"))),
        (None, Some(coming)) => Some(Box::new(|| coming.wait())),
        (None, None) => None,
    };
    let given = start::Given { cgroup: born_in.as_ref(), network: &entry.held, namespace: prepared };
    // As with Docker, whatever is wrong with it now: what could be asked of the request was asked when it was made.
    let ready = start::ready(store, &record, given).map_err(|error| Refused { status: 500, ..error.into() })?;
    let start::Ready { plan, prepared: mut root, spec, namespace: own } = ready;
    root.lock = Some(LOCK_FD);
    if let (Some(path), Some(_)) = (&cgroup, &born_in) {
        limits::hold(path, &spec).with_context(|| format!("starting {}", record.name))?;
    }
    let process_spec = spec.process.as_ref().context("the spec has no process")?;
    let stdin = record.config.open_stdin;
    let devpts = plan.devpts.and_then(|slot| root.slots.get(slot)).map(|fd| fd.try_clone()).transpose();
    let devpts = devpts.context("copy a descriptor")?;
    let mut stdio = Stdio::open(devpts, &mut root, process_spec.terminal, stdin)?;
    let size = idle.size.or_else(|| console_size(&record));
    if let (true, Some(master), Some((rows, columns))) = (process_spec.terminal, &stdio.stdout, size) {
        let _ = super::resize(master.as_fd(), rows, columns);
    }
    let log = open_log(store, &record)?;

    let run = || sys::lock::try_lock(lock(), byte::INIT).context("lock the container as running");
    // While hooks are run the root that it sees is still the host's: nobody shall enter.
    let waits = plan.meets();
    if !waits {
        run()?;
    }
    let child = ns::launch(&plan, root, born_in.as_ref().map(|fd| fd.as_fd()), || None);
    let mut child = child.map_err(|error| Refused::from(error).by_runtime())?;
    let own_cgroup = born_in.as_ref().and(cgroup.as_deref()).map_or(String::new(), |path| path.display().to_string());
    let live = Live { pid: child.pid, shim: std::process::id() as i32, cgroup: own_cgroup, ending: false };
    let before = Before { namespace, has_resolver };
    let (made, resolver) = match beside(store, &record, &live, &entry, before, own) {
        Ok(done) => done,
        // It may have failed because the child has, which says why.
        Err(error) => {
            return Err(match child.end()? {
                Some(failed) => refusal(&record.name, &plan, &failed).by_runtime(),
                None => error.into(),
            });
        }
    };
    let mut callers = hooks::Callers::of(&mut idle.clients);
    let mut begun = || -> Result<Vec<String>, Refused> {
        if waits {
            hooks::create(store, &record, &plan, &spec, &mut child, &mut callers).map_err(Refused::by_runtime)?;
            run()?;
        }
        mark(store, id, again)?;
        let mut watched = watched(store, &record)?;
        watched.push(later(&record, &spec, process_spec)?);
        crate::failpoint::reach("launch.marked");
        begin(store, &record, &plan, &spec, &mut child, &mut callers).map_err(Refused::by_runtime)?;
        Ok(watched)
    };
    let watched = match begun() {
        Ok(watched) => watched,
        Err(refused) => {
            hooks::undo(store, &record, &spec, &child, callers);
            return Err(refused);
        }
    };
    containers::tell_start(store, &record);
    let kept = kept_from(kept, entry, made, resolver);
    Ok(Started {
        child,
        terminal: process_spec.terminal,
        framed: !process_spec.terminal,
        stdin: stdio.stdin.take(),
        stdin_once: record.config.stdin_once,
        stdout: stdio.stdout.take(),
        stderr: stdio.stderr.take(),
        log,
        cgroup: born_in.and(cgroup),
        watched,
        kept,
        _files: Some(files),
    })
}

/// The size of its terminal that was asked for when it was made.
fn console_size(record: &Record) -> Option<(u16, u16)> {
    let [rows, columns] = record.host_config.console_size;
    (rows > 0 || columns > 0).then_some((rows as u16, columns as u16))
}

/// What one that is started again has still.
struct Before<'a> {
    namespace: Option<&'a OwnedFd>,
    has_resolver: bool,
}

/// What is done while the child mounts its root: others find it, and its networks are made, with the names in them. Gives
/// the namespace and the resolver that are new.
fn beside(
    store: &store::Store,
    record: &Record,
    live: &Live,
    entry: &networks::Entry,
    before: Before,
    own: Option<OwnedFd>,
) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let (id, mode) = (record.id.as_str(), record.host_config.network_mode.as_str());
    live.save(store, id)?;
    crate::failpoint::reach("launch.cloned");
    let own = match own {
        None if record.ids.is_some() && networks::has_networks(mode) => {
            let path = format!("/proc/{}/ns/net", live.pid);
            Some(File::open(&path).with_context(|| format!("open {path}"))?.into())
        }
        own => own,
    };
    let made = match before.namespace {
        Some(_) => None,
        None => networks::connect(store, mode, &entry.held, own).context("failed to set up container networking")?,
    };
    networks::links::follow(store, id)?;
    let resolver = match made.as_ref().or(before.namespace) {
        Some(namespace) if !before.has_resolver => {
            networks::names::serve(store, id, namespace.as_fd(), &entry.held).context("set up its names")?
        }
        Some(_) => {
            networks::names::refresh(store, id)?;
            None
        }
        None => None,
    };
    Ok((made, resolver))
}

/// The record says that it runs. What was counted goes on being counted in a start by its policy (`again`).
fn mark(store: &store::Store, id: &str, again: bool) -> Result<()> {
    Record::update(store, id, |record| {
        let ended = &mut record.ended;
        ended.started_at = Time::now().to_string();
        ended.finished_at = crate::api::types::NEVER.to_owned();
        ended.boot = store::boot_id()?;
        (ended.exit_code, ended.oom_killed, ended.due) = (0, false, false);
        ended.error.clear();
        if !again {
            (ended.stopped_by_hand, ended.restart_count, ended.unhealthy_count) = (false, 0, 0);
        }
        Ok(())
    })?;
    Ok(())
}

/// Tells the watching face what the shim may still have to do, as capabilities.
fn later(record: &Record, spec: &Spec, process: &Process) -> Result<String> {
    // A hook may do all that we may.
    let more = if spec.hooks.is_some() { caps::available() } else { CapSet::EMPTY };
    let bounding = process.capabilities.as_ref().map(|named| CapSet::from_names(&named.bounding)).transpose()?;
    let later = privileges::later(bounding.unwrap_or_default().union(more), &record.host_config);
    Ok(format!("later={}", later.0))
}

/// What is kept for a restart: what there was, or what has been made.
fn kept_from(
    before: Option<&mut Kept>,
    entry: networks::Entry,
    namespace: Option<OwnedFd>,
    resolver: Option<OwnedFd>,
) -> Kept {
    let rules = entry.has_rules;
    let mut kept = match before {
        Some(before) if before.namespace.is_some() => std::mem::take(before),
        _ => {
            let served = entry.served.into_iter();
            let served = served.map(|(socket, protocol, host)| Served { socket, protocol, host }).collect();
            Kept { namespace, ports: entry.sockets, served, gateway: entry.gateway, ..Kept::default() }
        }
    };
    kept.rules = rules;
    kept.resolver = kept.resolver.take().or(resolver);
    kept
}

/// Lets the child execute the command, and runs the hooks after that.
fn begin(
    store: &store::Store,
    record: &Record,
    plan: &Plan,
    spec: &Spec,
    child: &mut Child,
    callers: &mut hooks::Callers,
) -> Result<(), Refused> {
    set_limits(plan, child.pid)?;
    child.go()?.map_err(|failed| refusal(&record.name, plan, &failed))?;
    Ok(hooks::start(store, record, spec, child, callers)?)
}

/// What the watching face is told of the health check, which begins anew, and of how the container is stopped.
fn watched(store: &store::Store, record: &Record) -> Result<Vec<String>> {
    let Some(check) = health::begin(store, record)? else { return Ok(Vec::new()) };
    let (signal, seconds) = containers::stopping(&record.config, None, None)?;
    let timing = super::health::Timing {
        interval: check.interval,
        start_interval: check.start_interval,
        start_period: check.start_period,
        settled: false,
        next: None,
    };
    Ok(vec![
        format!("health={}", timing.hand_over()),
        format!("signal={signal}"),
        format!("grace={}", u64::try_from(seconds).map_or(u64::MAX, |seconds| seconds * 1000)),
    ])
}

fn launch_exec(base: &Base, id: &str, idle: &Idle) -> Result<Started, Refused> {
    let (store, container) = (&base.store, base.whose.container.as_str());
    // Docker has these found out by itself, and all that comes after by its runtime.
    let ready = exec::ready(store, container, id);
    let started = ready.map_err(|error| Refused { code: 126, ..error.into() }).and_then(|ready| {
        clone_exec(base, id, idle, ready).map_err(|refused| Refused { text: exec_failed(&refused.text), ..refused })
    });
    // What the kernel says of one that has ended meanwhile tells nobody anything.
    started.map_err(|refused| match exec::has_left(store, container) {
        Some(error) => Refused { code: 126, ..error.into() },
        None => refused,
    })
}

fn clone_exec(base: &Base, id: &str, idle: &Idle, ready: exec::Ready) -> Result<Started, Refused> {
    let container = base.whose.container.as_str();
    let exec::Ready { plan, mut prepared, process: process_spec, open_stdin, framed, size, cgroup, devpts } = ready;
    prepared.lock = Some(LOCK_FD);
    let mut stdio = Stdio::open(devpts, &mut prepared, process_spec.terminal, open_stdin)?;
    if let (true, Some(master), Some((rows, columns))) = (process_spec.terminal, &stdio.stdout, idle.size.or(size)) {
        let _ = super::resize(master.as_fd(), rows, columns);
    }
    let mut child = exec::launch(&plan, prepared, container, cgroup)?;
    begin_exec(base, id, &plan, &mut child)?;
    Ok(Started {
        child,
        terminal: process_spec.terminal,
        framed,
        stdin: stdio.stdin.take(),
        stdin_once: true,
        stdout: stdio.stdout.take(),
        stderr: stdio.stderr.take(),
        log: None,
        cgroup: None,
        watched: Vec::new(),
        kept: Kept::default(),
        _files: None,
    })
}

/// Lets the child execute the command.
fn begin_exec(base: &Base, id: &str, plan: &Plan, child: &mut Child) -> Result<(), Refused> {
    let container = base.whose.container.as_str();
    sys::lock::try_lock(lock(), byte::INIT).context("lock the exec as running")?;
    exec::started(&base.store, container, id, child.pid)?;
    set_limits(plan, child.pid)?;
    child.go()?.map_err(|failed| refusal(container, plan, &failed))
}

pub(super) fn set_limits(plan: &Plan, pid: i32) -> Result<()> {
    for limit in &plan.limits {
        let number = start::rlimit(&limit.kind).with_context(|| format!("unknown limit {}", limit.kind))?;
        process::prlimit(pid, number, limit.soft, limit.hard)
            .with_context(|| format!("set {} to {}:{}", limit.kind, limit.soft, limit.hard))?;
    }
    if let Some(score) = plan.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        match std::fs::write(&path, score.to_string()) {
            // An ordinary user may not make his processes better than they are.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !sys::kernel::is_first_user_namespace() => {}
            other => other.with_context(|| format!("set oom_score_adj to {score}"))?,
        }
    }
    Ok(())
}
