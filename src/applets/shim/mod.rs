//! One pid, three faces, each entered by executing ourselves, so that the long-lived one carries nothing of the
//! others: *launch* (spec → plan → clone → start), *watch* (stdio, log, clients, signals) and *reap* (the record of
//! the end, what is to be released, `--rm`). Descriptors, children and locks pass through. The probe of a health check
//! is a child of the watching face.

mod behind;
mod clients;
mod files;
mod forward;
mod guard;
mod health;
mod hooks;
mod idle;
mod kept;
mod launch;
mod log;
mod oom;
mod pack;
mod probe;
mod reap;
mod refused;
mod resolver;
mod stdio;
mod watch;

use crate::engine::logs::LogOptions;
use crate::engine::shim::{EXE_FD, LISTEN_FD, LOCK_FD, Whose};
use crate::engine::{Store, rootless};
use crate::ns::caps::CapSet;
use crate::sys::process::{self, Strings};
use clients::Client;
use kept::Kept;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How much of what is typed at a terminal is read at once.
const TYPED: usize = 4096 - clients::KEYS;

/// What every face is told: whose shim it is.
struct Base {
    store: Store,
    whose: Whose,
}

/// What launch hands over to watch, by descriptor number.
struct Handover {
    base: Base,
    pid: i32,
    pidfd: OwnedFd,
    terminal: bool,
    /// Whether clients get frames: without a terminal, and of an exec as its start asked for it.
    framed: bool,
    stdin: Option<OwnedFd>,
    stdin_once: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    log: Option<log::Log>,
    /// The container's cgroup; none for an exec, which shares it.
    cgroup: Option<PathBuf>,
    clients: Vec<Client>,
    /// Its network.
    kept: Kept,
    listener: OwnedFd,
    /// All of this as it was handed over, but for the clients.
    words: Vec<String>,
    /// How long its last restart was put off; for the reaping face.
    pause: Duration,
    /// When its health is asked for, if it is.
    timing: Option<health::Timing>,
    /// What a stop without further words is: the signal, and how long it may take.
    stop: (i32, Duration),
    /// How long it has run already, where this face is not its first.
    uptime: Duration,
    /// How many of its processes the kernel has killed for memory that were told of.
    oom: u64,
    /// The capabilities that its next faces may need; none where no container comes from it.
    later: Option<CapSet>,
}

/// Which words of a handover name descriptors.
const DESCRIPTORS: [&str; 11] = [
    "pidfd",
    "in",
    "out",
    "err",
    "logfd",
    "lines",
    kept::NAMESPACE,
    kept::PORT,
    kept::SERVE,
    kept::RESOLVER,
    kept::GATEWAY,
];

/// The hidden applet: `dhow shim FACE --root ROOT --run RUN CONTAINER [EXEC] [KEY=VALUE…]`.
pub fn main(args: &[String]) -> u8 {
    // A panic's text would go nowhere; whoever waits sees the connection end, and the record says the rest.
    let mut words = args.iter();
    let Some(face) = words.next() else { return 125 };
    if let ("keep", [_, path]) = (face.as_str(), args) {
        return rootless::wait(path.as_ref()).map_or(125, |()| 0);
    }
    let (mut root, mut run, mut names, mut pairs) = (None, None, Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--root" => root = words.next(),
            "--run" => run = words.next(),
            word => match word.split_once('=') {
                Some(pair) => pairs.push(pair),
                None => names.push(word),
            },
        }
    }
    if let ("resolver", Some(root), Some(run)) = (face.as_str(), root, run) {
        let store = Store { root: PathBuf::from(root), run: PathBuf::from(run) };
        return code(resolver::run(&store));
    }
    if let ("gateway", Some(root), Some(run)) = (face.as_str(), root, run) {
        let store = Store { root: PathBuf::from(root), run: PathBuf::from(run) };
        return code(rootless::gateway::run(&store));
    }
    let (Some(root), Some(run), [container, exec @ ..]) = (root, run, names.as_slice()) else {
        eprintln!("dhow: shim is started by dhow itself");
        return 125;
    };
    let store = Store { root: PathBuf::from(root), run: PathBuf::from(run) };
    let whose = Whose { container: (*container).to_owned(), exec: exec.first().map(|exec| (*exec).to_owned()) };
    let base = Base { store, whose };
    let ended = match face.as_str() {
        "launch" => {
            YOUNG.store(true, Ordering::Relaxed);
            launch::run(base, &pairs)
        }
        "watch" => match handover(base, &pairs) {
            Some(handover) => watch::run(handover),
            None => Err(anyhow::anyhow!("the watching face was not handed what it needs")),
        },
        "reap" => reap::run(base, &pairs),
        "detached" => reap::detached(&base),
        "oom" => reap::oom(&base),
        "kill" => reap::killed(&base),
        "names" => resolver::hand_over(&base, &pairs),
        "forward" => forward::run(&base, &pairs),
        "mend" => crate::engine::networks::mend_firewall(&base.store),
        "pack" => pack::run(&pairs),
        "finish" => pack::finish(&base),
        "rest" => crate::engine::networks::rest_later(&base.store),
        "probe" => return probe::run(&base, &pairs),
        _ => Err(anyhow::anyhow!("no such face: {face}")),
    };
    code(ended)
}

fn code(ended: anyhow::Result<()>) -> u8 {
    match ended {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("dhow: shim: {error:#}");
            125
        }
    }
}

fn handover(base: Base, pairs: &[(&str, &str)]) -> Option<Handover> {
    let value = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let number = |name: &str| value(name)?.parse::<i32>().ok();
    let fd = |name: &str| {
        let fd = process::adopt(number(name)?).ok()?;
        process::set_inherit(fd.as_fd(), false).ok()?;
        Some(fd)
    };
    let log = value("log").and_then(|path| {
        let number = |name: &str| value(name)?.parse::<u64>().ok();
        let (size, files) = (number("size").unwrap_or(0), number("files").unwrap_or(1));
        let attrs = value("attrs").unwrap_or("");
        let compress = number("compress") == Some(1);
        let options = LogOptions { max_size: size, max_file: files, compress, attrs: attrs.to_owned() };
        let mut log = log::Log::new(fd("logfd")?, path.to_owned(), &options).ok()?;
        log.take_over(fd("lines"), number("unwritten").unwrap_or(0)).ok()?;
        Some(log)
    });
    Some(Handover {
        pid: number("pid")?,
        pidfd: fd("pidfd")?,
        terminal: number("tty") == Some(1),
        // A face of an older build says nothing of it.
        framed: number("framed").unwrap_or_else(|| (number("tty") != Some(1)) as i32) == 1,
        stdin: fd("in"),
        stdin_once: number("once") == Some(1),
        stdout: fd("out"),
        stderr: fd("err"),
        log,
        cgroup: value("cgroup").map(PathBuf::from),
        clients: clients::take_over(pairs),
        kept: Kept::take_over(pairs),
        pause: millis(pairs, "pause").unwrap_or_default(),
        uptime: millis(pairs, "uptime").unwrap_or_default(),
        oom: value("oom").and_then(|count| count.parse().ok()).unwrap_or(0),
        later: value("later").and_then(|bits| bits.parse().ok()).map(CapSet),
        timing: value("health").and_then(health::Timing::take_over),
        stop: (number("signal").unwrap_or(libc::SIGTERM), millis(pairs, "grace").unwrap_or_default()),
        listener: process::adopt(LISTEN_FD).ok()?,
        words: pairs.iter().filter(|(key, _)| *key != "client").map(|(key, value)| format!("{key}={value}")).collect(),
        base,
    })
}

/// A time that another face handed over, in milliseconds.
fn millis(pairs: &[(&str, &str)], name: &str) -> Option<Duration> {
    let text = pairs.iter().find(|(key, _)| *key == name).map(|(_, text)| *text);
    text?.parse().ok().map(Duration::from_millis)
}

/// Whether this process began as another face less than a moment ago. Most containers that end soon do so at once: their
/// faces are entered by a call, which costs them two executions less. One that lives on executes itself after all.
static YOUNG: AtomicBool = AtomicBool::new(false);

fn is_young() -> bool {
    YOUNG.load(Ordering::Relaxed)
}

fn grow_up() {
    YOUNG.store(false, Ordering::Relaxed);
}

/// Goes on with another face, in this process: by executing this program again, or, while it is young, by a call. It does
/// not come back.
fn exec_face(face: &str, base: &Base, pairs: Vec<String>) -> ! {
    if is_young() {
        process::exit_now(main(&words(face, base, pairs)).into())
    }
    let (args, env) = command(face, base, pairs);
    process::fexecve_number(EXE_FD, &args, &env);
    // Without its next face the container is not watched: it goes with us.
    process::exit_now(125)
}

/// The arguments of a face, as [`main`] reads them.
fn words(face: &str, base: &Base, pairs: Vec<String>) -> Vec<String> {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut words = vec![face.to_owned()];
    words.extend(["--root".to_owned(), text(&base.store.root), "--run".to_owned(), text(&base.store.run)]);
    words.push(base.whose.container.clone());
    words.extend(base.whose.exec.clone());
    words.extend(pairs);
    words
}

/// The command line and the environment that execute a face.
fn command(face: &str, base: &Base, pairs: Vec<String>) -> (Strings, Strings) {
    let env = std::env::vars().map(|(key, value)| format!("{key}={value}"));
    let cstrings =
        |words: Vec<String>| Strings::new(words.into_iter().filter_map(|word| CString::new(word).ok()).collect());
    let all = ["dhow".to_owned(), "shim".to_owned()].into_iter().chain(words(face, base, pairs));
    (cstrings(all.collect()), cstrings(env.collect()))
}

/// Tells of a client that has left by its detach keys, or of what else a face is named for, in a process of its own,
/// because the watching face has no engine. Waited for: it is over in a moment, and nobody is left to bury. Whether it
/// was done.
fn tell(what: &str, base: &Base, words: Vec<String>) -> bool {
    let Ok(pid) = start_face(what, base, words) else { return false };
    let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    matches!(ended, Ok(nix::sys::wait::WaitStatus::Exited(_, 0)))
}

/// Starts another face beside this one; its pid.
fn start_face(face: &str, base: &Base, pairs: Vec<String>) -> std::io::Result<i32> {
    match process::fork()? {
        0 => {
            // Whether a shim lives is asked of the lock.
            let _ = process::close_range(LOCK_FD, LISTEN_FD);
            exec_face(face, base, pairs)
        }
        pid => Ok(pid),
    }
}

/// Tells a terminal its size; 0 by 0 is no size.
fn resize(terminal: BorrowedFd, rows: u16, columns: u16) -> std::io::Result<()> {
    if rows == 0 && columns == 0 {
        return Ok(());
    }
    process::set_window_size(terminal, rows, columns)
}

/// Takes detach keys out of what was typed. Bytes that might be their beginning are kept back until the next byte
/// decides. The new length; `None` when they are complete.
fn detach(client: &mut Client, typed: &mut [u8], length: usize) -> Option<usize> {
    let mut kept = [0u8; 4096];
    let mut count = 0;
    for byte in &typed[..length] {
        let keys = &client.keys[..client.keys_len as usize];
        if *byte == keys[client.matched as usize] {
            client.matched += 1;
            if client.matched == client.keys_len {
                return None;
            }
            continue;
        }
        let held = client.matched as usize;
        kept[count..count + held].copy_from_slice(&keys[..held]);
        count += held;
        client.matched = 0;
        if *byte == keys[0] {
            client.matched = 1;
        } else {
            kept[count] = *byte;
            count += 1;
        }
    }
    typed[..count].copy_from_slice(&kept[..count]);
    Some(count)
}

/// The descriptor of the lock, which every face inherits.
fn lock() -> BorrowedFd<'static> {
    process::unbound(LOCK_FD)
}
