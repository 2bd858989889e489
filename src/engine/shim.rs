//! The shims of containers and execs, from outside: starting one, and talking to it.

use super::locks::{self, byte};
use super::protocol::{self, Message, Op};
use super::record::Record;
use super::rootless;
use super::store::{self, Store};
use crate::cgroup::{self, devices::KEEPER};
use crate::order::Set;
use crate::sys::mount::{self, MountAttr};
use crate::sys::process::{self, Strings};
use crate::sys::{apart, kernel};
use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, sendmsg, socket,
};
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Descriptors that every face of a shim finds open.
pub const LOCK_FD: RawFd = 3;
pub const LISTEN_FD: RawFd = 4;
/// The executable, on a mount that nobody can write to.
pub const EXE_FD: RawFd = 5;
/// What keeps the namespaces of an ordinary user's store, see [`rootless`]; there is none in root's.
pub const USERS_FD: RawFd = 6;

/// Whose shim: a container's, or that of one exec in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Whose {
    pub container: String,
    pub exec: Option<String>,
}

impl Whose {
    pub fn container(id: &str) -> Whose {
        Whose { container: id.to_owned(), exec: None }
    }

    pub fn exec(container: &str, exec: &str) -> Whose {
        Whose { container: container.to_owned(), exec: Some(exec.to_owned()) }
    }

    /// Where its lock, socket and state are.
    pub fn dir(&self, store: &Store) -> PathBuf {
        let live = store.live(&self.container);
        match &self.exec {
            None => live,
            Some(exec) => live.join("execs").join(exec),
        }
    }
}

/// The cgroup of all containers and shims of this store; `None` where there is no version 2 that we may write.
pub fn cgroup_root(store: &Store) -> Option<PathBuf> {
    let home = cgroup::home()?;
    let name = match store.root == Path::new(super::DEFAULT_ROOT) {
        true => "dhow".to_owned(),
        false => format!("dhow-{}", super::tag(store)),
    };
    Some(home.join(name))
}

/// The cgroup of a container: below the store's, or below the parent that was asked for, a path from the mount.
pub fn cgroup_of(store: &Store, id: &str, parent: &str) -> Option<PathBuf> {
    match parent.trim_matches('/') {
        "" => Some(cgroup_root(store)?.join(id)),
        parent => Some(cgroup::home()?.join(parent).join(id)),
    }
}

/// The cgroup of all shims, below the store's.
const SHIMS: &str = "shims";

/// Removes the cgroups of a store that has no container any more, unless it is the host's own store. Who starts one
/// at the same moment makes them again.
pub fn leave_cgroups(store: &Store) {
    if store.root == Path::new(super::DEFAULT_ROOT) {
        return;
    }
    if let Some(root) = cgroup_root(store).filter(|root| root.exists())
        && std::fs::read_dir(store.containers()).is_ok_and(|mut entries| entries.next().is_none())
    {
        cgroup::remove_empty(&root.join(SHIMS));
        for keeper in store::read_dir(&root).into_iter().flatten().filter(|name| name.starts_with(KEEPER)) {
            let _ = std::fs::remove_dir(root.join(keeper));
        }
        let _ = std::fs::remove_dir(&root);
    }
}

/// Refuses a kernel that lacks a call which no container starts without, before anything is made.
pub fn check_kernel() -> Result<()> {
    let name = nix::sys::utsname::uname().context("ask for the kernel's version")?;
    match kernel::lacking(&name.release().to_string_lossy(), kernel::has) {
        Some(why) => bail!(why),
        None => Ok(()),
    }
}

/// A connection to the shim; starts one where none lives. The one that a container had may be ending: then this
/// waits for it, and the new one waits for a start.
pub fn connect_or_start(store: &Store, whose: &Whose) -> Result<UnixStream> {
    let dir = whose.dir(store);
    let path = dir.join("lock");
    let mut checked = false;
    loop {
        if let Some(stream) = connect(store, whose)? {
            return Ok(stream);
        }
        if !std::mem::replace(&mut checked, true) {
            check_kernel()?;
        }
        store::make_dirs(&dir, 0o711)?;
        let lock = match locks::open(&path) {
            // Removed between the making of the directory and this.
            Err(_) if !dir.exists() => match Record::load(store, &whose.container)? {
                Some(_) => continue,
                None => return Err(super::containers::no_such(&whose.container)),
            },
            opened => opened?,
        };
        match crate::sys::lock::try_lock(&lock, byte::SHIM) {
            Ok(()) => {
                if whose.exec.is_none() {
                    // Its last shim may have been killed: what that left comes first.
                    if !super::containers::mend_held(store, &whose.container)? {
                        bail!(super::containers::SURVIVED);
                    }
                }
                // Removed between the making of the directory and the locking: there is no such container any more.
                if !path.exists() {
                    return Err(super::containers::no_such(&whose.container));
                }
                return start(store, whose, lock);
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                // One ends, or another command starts one and has not made its socket yet: to wait for the lock would
                // be to wait for the end of that one.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(error) => return Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}

/// A connection to the shim, one started where none lives, that has taken `message`. The one that a container had may be
/// at its end and never hear it: then the next one is told, unless the container is `alive` and this was about that.
pub fn begin(store: &Store, whose: &Whose, alive: bool, message: Message, payload: &[u8]) -> Result<UnixStream> {
    for _ in 0..if alive { 1 } else { 100 } {
        let mut stream = connect_or_start(store, whose)?;
        match tell(&mut stream, message, payload) {
            Ok(()) => return Ok(stream),
            Err(error) if !alive && is_parted(&error) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(error) => return Err(error),
        }
    }
    bail!("the shim of {} ended", whose.container)
}

/// Whether an error says that the other side has gone.
pub fn is_parted(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

/// A connection to a living shim; `None` where none takes it.
pub fn connect(store: &Store, whose: &Whose) -> Result<Option<UnixStream>> {
    let dir = match File::open(whose.dir(store)) {
        Ok(dir) => dir,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {}", whose.dir(store).display())),
    };
    // By descriptor, because a socket's address holds 107 bytes and a run directory may be deep.
    match UnixStream::connect(format!("/proc/self/fd/{}/sock", dir.as_raw_fd())) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("connect to the shim of {}", whose.container)),
    }
}

/// A socket that nobody else connects to, whatever umask(2) the caller has: bind(2) gives the name the mode that the socket
/// has by then.
fn listen(address: &str) -> Result<UnixListener> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    nix::sys::stat::fchmod(&socket, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(address)?)?;
    nix::sys::socket::listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

/// Starts a shim under the lock that the caller holds, and connects to it.
fn start(store: &Store, whose: &Whose, lock: File) -> Result<UnixStream> {
    let dir = File::open(whose.dir(store)).with_context(|| format!("open {}", whose.dir(store).display()))?;
    let address = format!("/proc/self/fd/{}/sock", dir.as_raw_fd());
    store::remove(&whose.dir(store).join("sock"))?;
    let listener = listen(&address).with_context(|| format!("listen for {}", whose.container))?;
    // Connected before it lives: the kernel keeps the connection until it accepts.
    let stream =
        UnixStream::connect(&address).with_context(|| format!("connect to the shim of {}", whose.container))?;
    let exe = executable()?;
    let mut words = vec!["dhow", "shim", "launch", "--root", path(&store.root)?, "--run", path(&store.run)?];
    words.push(&whose.container);
    words.extend(whose.exec.as_deref());
    let args = strings(words.into_iter().map(str::to_owned))?;
    // Of the caller's environment only what steers us.
    let keep =
        |(key, _): &(String, String)| key.starts_with("DHOW_") && key != rootless::VARIABLE || key == "RUST_BACKTRACE";
    let inside = rootless::descriptor();
    let users = inside.map(|_| (rootless::VARIABLE.to_owned(), USERS_FD.to_string()));
    let variables =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    let env = strings(variables.filter(keep).chain(users).map(|(key, value)| format!("{key}={value}")))?;
    let null = File::options().read(true).write(true).open("/dev/null").context("open /dev/null")?;
    let home = || cgroup::create(&cgroup_root(store)?.join(SHIMS)).ok();
    let mut cgroup = home();
    let users = match inside {
        Some(fd) => process::unbound(fd),
        None => exe.as_fd(),
    };
    let wanted = [lock.as_fd(), listener.as_fd(), exe.as_fd(), users];
    // High enough not to be overwritten while they are put into place.
    let high = wanted.map(|fd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(64)));
    let mut numbers = [0; 4];
    for (number, fd) in numbers.iter_mut().zip(high) {
        *number = fd.context("copy a descriptor")?;
    }
    let owned = numbers.map(process::adopt);
    let [lock_fd, listen_fd, exe_fd, users_fd] = owned;
    let (lock_fd, listen_fd, exe_fd, users_fd) = (lock_fd?, listen_fd?, exe_fd?, users_fd?);
    // It has given a sign of life, or it never lived.
    let sign = nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK;
    let (lives, alive) = nix::unistd::pipe2(sign).context("make a pipe")?;
    let mut moves: Option<File> = None;
    let mut tries = 0;
    loop {
        tries += 1;
        let born_in = cgroup.as_ref().filter(|_| moves.is_none());
        let placed = || -> std::io::Result<()> {
            nix::unistd::write(&alive, &[1])?;
            if let Some(moves) = &moves {
                nix::unistd::write(moves, b"0")?;
            }
            nix::unistd::setsid()?;
            // The caller blocks what it passes on to the container.
            process::default_signals()?;
            for number in 0..3 {
                process::dup_to(null.as_fd(), number)?;
            }
            process::dup_to(lock_fd.as_fd(), LOCK_FD)?;
            process::dup_to(listen_fd.as_fd(), LISTEN_FD)?;
            process::dup_to(exe_fd.as_fd(), EXE_FD)?;
            let mut last = EXE_FD;
            if inside.is_some() {
                process::dup_to(users_fd.as_fd(), USERS_FD)?;
                last = USERS_FD;
            }
            process::close_range(last + 1, i32::MAX).or_else(|_| process::cloexec_from(last + 1))
        };
        let child = apart::start(born_in.map(|fd| fd.as_fd()), || {
            // exe_fd's number is closed then; the executable is EXE_FD.
            if placed().is_ok() {
                process::fexecve_number(EXE_FD, &args, &env);
            }
            125
        });
        let pid = match child {
            Ok((pid, _)) => pid,
            // Removed since it was opened: the store's last container went just now.
            Err(error) if born_in.is_some() && error.raw_os_error() == Some(libc::ENODEV) && tries < 100 => {
                cgroup = home();
                continue;
            }
            // The cgroup may be one that the kernel lets nobody enter (a container's own view of its cgroups).
            Err(_) if born_in.is_some() => {
                cgroup = None;
                continue;
            }
            Err(error) => return Err(error).context("clone the shim"),
        };
        STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(pid);
        if nix::unistd::read(&lives, &mut [0]).is_ok() {
            return Ok(stream);
        }
        // Killed at birth, because the cgroup that we are in was killed once (see `cgroup::create_new`). To move costs
        // more than to be born there.
        if moves.is_some() || cgroup.is_none() {
            bail!("the shim of {} was killed at its start", whose.container);
        }
        let path = cgroup_root(store).context("there is no cgroup any more")?.join(SHIMS).join("cgroup.procs");
        let procs = File::options().write(true).open(&path);
        moves = Some(procs.with_context(|| format!("open {}", path.display()))?);
    }
}

/// Starts another process of ours, which outlives this one, with the descriptors that it is given as [`LISTEN_FD`] and
/// [`LOCK_FD`]. Called in a shim, in whose cgroup it is born, and whose executable it has; it depends on nothing else of it.
pub fn start_beside(store: &Store, face: &str, first: BorrowedFd, second: Option<BorrowedFd>) -> Result<()> {
    let words = ["dhow", "shim", face, "--root", path(&store.root)?, "--run", path(&store.run)?];
    let args = strings(words.into_iter().map(str::to_owned))?;
    let env = strings(std::env::vars().map(|(key, value)| format!("{key}={value}")))?;
    // What keeps the locks, the ports and the socket of this shim is not the resolver's.
    let placed = || -> std::io::Result<()> {
        nix::unistd::setsid()?;
        process::default_signals()?;
        process::dup_to(first, LISTEN_FD)?;
        match second {
            Some(second) => process::dup_to(second, LOCK_FD)?,
            None => process::close_range(LOCK_FD, LOCK_FD)?,
        }
        process::close_range(EXE_FD + 1, i32::MAX).or_else(|_| process::cloexec_from(EXE_FD + 1))
    };
    let begun = apart::start(None, || {
        if placed().is_ok() {
            process::fexecve_number(EXE_FD, &args, &env);
        }
        125
    });
    begun.with_context(|| format!("clone the {face}"))?;
    Ok(())
}

/// The shims that this process has started and not buried.
static STARTED: Mutex<Set<i32>> = Mutex::new(Set::new());

/// Takes note of the ends of shims that this process has started: for one that lives longer than they do.
pub fn bury() {
    let mut started = STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Other children are awaited by who started them.
    while let Ok(Some((pid, _))) = process::ended(None, true) {
        if !started.remove(&pid) {
            return;
        }
        let _ = process::ended(Some(pid), false);
    }
}

/// This executable on a detached read-only mount: what runs in a container and reaches it through /proc/<pid>/exe
/// cannot write it. The page cache is that of the file, so all shims share it.
fn executable() -> Result<OwnedFd> {
    // A shim that starts another has it already.
    let tree = mount::open_tree(nix::fcntl::AT_FDCWD, c"/proc/self/exe", mount::OPEN_TREE_CLONE)
        .context("copy the mount of this executable")?;
    let attr = MountAttr {
        attr_set: mount::MOUNT_ATTR_RDONLY | mount::MOUNT_ATTR_NOSUID | mount::MOUNT_ATTR_NODEV,
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    mount::mount_setattr(tree.as_fd(), false, &attr).context("make this executable read-only")?;
    Ok(tree)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

fn strings(words: impl Iterator<Item = String>) -> Result<Strings> {
    let words: Result<Vec<_>, _> = words.map(CString::new).collect();
    Ok(Strings::new(words.context("a NUL in an argument")?))
}

/// Tells this executable from another one, and from what stood in its place before an upgrade.
pub fn build() -> std::io::Result<[u8; 16]> {
    let meta = std::fs::metadata("/proc/self/exe")?;
    let mut build = [0; 16];
    build[..8].copy_from_slice(&meta.dev().to_ne_bytes());
    build[8..].copy_from_slice(&meta.ino().to_ne_bytes());
    Ok(build)
}

/// Sends a message and reads the answer.
pub fn ask(stream: &mut UnixStream, message: Message, payload: &[u8]) -> Result<(Message, Vec<u8>)> {
    protocol::send(stream, message, payload).context("write to the shim")?;
    protocol::receive(stream).context("read from the shim")
}

/// The same, where anything but ok is an error.
pub fn tell(stream: &mut UnixStream, message: Message, payload: &[u8]) -> Result<()> {
    match ask(stream, message, payload)? {
        (Message { op: Op::Ok, .. }, _) => Ok(()),
        (_, why) => bail!("{}", String::from_utf8_lossy(&why)),
    }
}

/// Gives a shim ports of the host to hold for its container: some that are reserved, and some that a program serves.
pub fn hand_over(stream: &mut UnixStream, reserved: &[OwnedFd], served: &[OwnedFd]) -> Result<()> {
    for (ports, are_served) in [(reserved, false), (served, true)] {
        for some in ports.chunks(protocol::MOST_PORTS) {
            let count = some.len() as i32;
            let (a, b) = if are_served { (0, count) } else { (count, 0) };
            let descriptors: Vec<i32> = some.iter().map(AsRawFd::as_raw_fd).collect();
            let (text, rights) = (Message::new(Op::Ports, a, b).encode(), [ControlMessage::ScmRights(&descriptors)]);
            sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&text)], &rights, MsgFlags::empty(), None)
                .context("write to the shim")?;
            let (answer, why) = protocol::receive(stream).context("read from the shim")?;
            if answer.op != Op::Ok {
                bail!("{}", String::from_utf8_lossy(&why));
            }
        }
    }
    Ok(())
}
