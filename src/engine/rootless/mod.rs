//! The engine of an ordinary user: the command executes itself again as root of a user and a mount namespace of his,
//! with his own store, before any work of the engine.
//!
//! Everything of one store is in one such namespace, or an exec could not enter a container that another command has
//! started. One small process keeps it as long as anybody is in it:
//!
//! ```text
//! run/namespaces   byte LIFE: held by the keeper, whose number is in the file
//!                  byte USERS: shared by whoever is inside (commands, shims); the keeper ends when it gets it alone
//!                  byte ENTERING: held while somebody goes in, or makes the namespaces
//! ```

pub mod gateway;
pub mod network;

use super::locks;
use super::privileges;
use super::record;
use super::remap::{self, ranges};
use super::settings::Settings;
use super::store::{self, Store};
use crate::json;
use crate::oci::runtime::{IdMapping, Ids};
use crate::sys::{kernel, lock, process};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, User, getegid, geteuid};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In the environment of whoever is inside: the descriptor that holds the byte USERS.
pub const VARIABLE: &str = "DHOW_ROOTLESS";

const LIFE: i64 = 0;
const USERS: i64 = 1;
const ENTERING: i64 = 2;

/// Where the keeper has the file that it holds LIFE of.
const LIFE_FD: RawFd = 3;

/// Whether this process is inside.
pub fn is_inside() -> bool {
    !kernel::is_first_user_namespace() && std::env::var_os(VARIABLE).is_some()
}

/// The descriptor that says so; to be passed on to what stays.
pub fn descriptor() -> Option<RawFd> {
    std::env::var(VARIABLE).ok()?.parse().ok().filter(|_| is_inside())
}

/// The user's own places; where something was said, that.
pub struct Home {
    pub root: PathBuf,
    pub run: PathBuf,
}

/// A directory that the environment names (XDG Base Directory Specification); a relative path is none.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn home() -> Result<PathBuf> {
    named("HOME").context("HOME is not set: where shall the store be?")
}

/// The user's configuration.
pub fn settings_path() -> Result<PathBuf> {
    Ok(named("XDG_CONFIG_HOME").map_or_else(|| home().map(|home| home.join(".config")), Ok)?.join("dhow/daemon.json"))
}

/// Where sockets of users are; `None` where the host has no such place.
pub fn runtime_dir() -> Option<PathBuf> {
    let usual = || Some(PathBuf::from(format!("/run/user/{}", geteuid()))).filter(|path| path.is_dir());
    named("XDG_RUNTIME_DIR").or_else(usual)
}

impl Home {
    fn find(root: Option<&Path>, run: Option<&Path>, settings: &Settings) -> Result<Home> {
        let data = || -> Result<PathBuf> {
            Ok(named("XDG_DATA_HOME").map_or_else(|| home().map(|home| home.join(".local/share")), Ok)?.join("dhow"))
        };
        let root = match root.or(settings.data_root.as_deref()) {
            Some(root) => std::path::absolute(root)?,
            None => data()?,
        };
        let run = match run.or(settings.exec_root.as_deref()) {
            Some(run) => std::path::absolute(run)?,
            // Another boot is told by what lies in it.
            None => runtime_dir().map_or_else(|| root.join("run"), |dir| dir.join("dhow")),
        };
        Ok(Home { root, run })
    }
}

/// Goes in where this process is an ordinary user's: then it does not come back, but begins anew inside.
pub fn enter(root: Option<&Path>, run: Option<&Path>, config: Option<&Path>) -> Result<()> {
    if geteuid().is_root() || is_inside() {
        return Ok(());
    }
    let usual = settings_path().ok().filter(|path| config.is_none() && path.exists());
    let settings = match config.or(usual.as_deref()) {
        Some(path) => Settings::load(Some(path))?,
        None => Settings::default(),
    };
    let home = Home::find(root, run, &settings)?;
    for dir in [&home.root, &home.run] {
        store::make_dirs(dir, 0o700)?;
        let owner = fs::metadata(dir).with_context(|| format!("look at {}", dir.display()))?.uid();
        if owner != geteuid().as_raw() {
            bail!("{} belongs to another user", dir.display());
        }
    }
    let path = home.run.join("namespaces");
    let users = locks::open(&path)?;
    // First: from here on no keeper that lives ends.
    lock::lock_shared(&users, USERS).with_context(|| format!("lock {}", path.display()))?;
    {
        let _entering = locks::exclusive(&path, ENTERING)?;
        let here = std::env::current_dir();
        if !join(&users)? {
            // The keeper may have been killed, and not those whom it kept the namespaces for.
            match join_shim(&home.run)? {
                true => keep(&path)?,
                false => make(&path)?,
            }
        }
        // To enter a mount namespace is to stand in its root.
        if let Ok(here) = here {
            let _ = std::env::set_current_dir(here);
        }
    }
    process::setresgid(0).and_then(|()| process::setresuid(0)).context("become root of the user namespace")?;
    process::set_inherit(users.as_fd(), true).context("keep the namespaces")?;
    let mut args = std::env::args_os();
    // By its name: what runs now lies on a mount of the namespace that was left, and could not be copied.
    let mut again = Command::new(std::env::current_exe().context("find this executable")?);
    if let Some(name) = args.next() {
        again.arg0(name);
    }
    again.args(args).env(VARIABLE, users.as_raw_fd().to_string());
    again.env("DHOW_ROOT", &home.root).env("DHOW_RUN", &home.run);
    Err(again.exec()).context("execute this program again")
}

/// Enters the namespaces that are kept; whether there are any.
fn join(file: &File) -> Result<bool> {
    let mut text = [0; 32];
    let length = file.read_at(&mut text, 0).context("read who keeps the namespaces")?;
    let Ok(pid) = String::from_utf8_lossy(&text[..length]).trim().parse::<i32>() else { return Ok(false) };
    let Ok(pidfd) = process::pidfd_open(pid) else { return Ok(false) };
    // Asked after it was opened: the number was the keeper's.
    if !lock::is_held(file, LIFE).context("ask for who keeps the namespaces")? {
        return Ok(false);
    }
    enter_those_of(&pidfd)
}

/// Enters the namespaces of a process; false where it has ended, be it in this very moment.
fn enter_those_of(pidfd: &OwnedFd) -> Result<bool> {
    match setns(pidfd, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Err(Errno::ESRCH) => Ok(false),
        entered => entered.map(|()| true).context("enter the user's namespaces"),
    }
}

/// Enters the namespaces of a shim that lives; whether there is any.
fn join_shim(run: &Path) -> Result<bool> {
    for id in store::read_dir(&run.join("containers"))? {
        let dir = run.join("containers").join(id);
        let shim = || -> Option<i32> {
            let live: record::Live = json::from_slice(&fs::read(dir.join("live.json")).ok()?).ok()?;
            Some(live.shim)
        };
        let Some(pidfd) = shim().and_then(|pid| process::pidfd_open(pid).ok()) else { continue };
        if locks::Held::of(&dir.join("lock"))?.shim && enter_those_of(&pidfd)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the namespaces, and somebody who keeps them.
fn make(path: &Path) -> Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let ids = Ids { uids: map("/etc/subuid", uid, uid)?, gids: map("/etc/subgid", uid, gid)? };
    let tools = ["newuidmap", "newgidmap"].map(find);
    let wide = ids.uids.len() > 1 && ids.gids.len() > 1 && tools.iter().all(Option::is_some);
    let (ready, tells) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("make a pipe")?;
    let ours = std::process::id();
    // Who maps more than the user himself has to stand outside.
    let outside = match process::fork().context("fork")? {
        0 => {
            drop(tells);
            let go = nix::unistd::read(&ready, &mut [0]) == Ok(1);
            let done = || tools.iter().flatten().zip([&ids.uids, &ids.gids]).all(|(tool, map)| tell(tool, ours, map));
            process::exit_now(if go && (!wide || done()) { 0 } else { 1 })
        }
        pid => pid,
    };
    drop(ready);
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .context("make a user namespace (does the host allow them to ordinary users? See user.max_user_namespaces)")?;
    nix::unistd::write(&tells, &[1]).context("say that there is a user namespace")?;
    let ended = nix::sys::wait::waitpid(Pid::from_raw(outside), None).context("wait for newuidmap")?;
    if !matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)) {
        bail!("newuidmap and newgidmap did not take the ranges of /etc/subuid and /etc/subgid");
    }
    if !wide {
        fs::write("/proc/self/setgroups", "deny").context("give up groups")?;
        for (file, id) in [("uid_map", uid), ("gid_map", gid)] {
            fs::write(format!("/proc/self/{file}"), format!("0 {id} 1\n")).with_context(|| format!("write {file}"))?;
        }
    }
    keep(path)
}

/// Himself as root, and from 1 on the ids that he was given.
fn map(path: &str, uid: u32, id: u32) -> Result<Vec<IdMapping>> {
    let user = User::from_uid(uid.into()).context("look up the user")?;
    let mut owners = vec![uid.to_string()];
    owners.extend(user.map(|user| user.name));
    Ok(ranges(&remap::read(path).unwrap_or_default(), &owners, Some(id)))
}

/// A program, where the administrator puts such.
fn find(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|it| nix::unistd::access(it, nix::unistd::AccessFlags::X_OK).is_ok())
}

fn tell(tool: &Path, pid: u32, map: &[IdMapping]) -> bool {
    let numbers = map.iter().flat_map(|range| [range.container_id, range.host_id, range.size]);
    let words = std::iter::once(pid).chain(numbers).map(|number| number.to_string());
    Command::new(tool).args(words).status().is_ok_and(|status| status.success())
}

/// Starts the keeper. This process is inside.
fn keep(path: &Path) -> Result<()> {
    let life = locks::open(path)?;
    lock::try_lock(&life, LIFE).context("lock the namespaces")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("open /dev/null")?;
    let words = [
        c"dhow".to_owned(),
        c"shim".to_owned(),
        c"keep".to_owned(),
        CString::new(path.as_os_str().as_encoded_bytes())?,
    ];
    let (args, env) = (process::Strings::new(words.to_vec()), process::Strings::new(Vec::new()));
    // Far from what is put into place.
    let life_fd = nix::fcntl::fcntl(&life, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(64)).context("copy a descriptor")?;
    match process::fork().context("fork")? {
        0 => {
            let placed = || -> std::io::Result<()> {
                nix::unistd::setsid()?;
                process::default_signals()?;
                nix::unistd::chdir("/")?;
                process::dup_to(process::unbound(life_fd), LIFE_FD)?;
                for number in 0..3 {
                    process::dup_to(null.as_fd(), number)?;
                }
                process::close_range(LIFE_FD + 1, i32::MAX)
            };
            if placed().is_ok() {
                process::execve(c"/proc/self/exe", &args, &env);
            }
            process::exit_now(125)
        }
        pid => {
            drop(process::adopt(life_fd));
            life.set_len(0).context("say who keeps the namespaces")?;
            (&life).write_all(format!("{pid}\n").as_bytes()).context("say who keeps the namespaces")
        }
    }
}

/// The keeper: does nothing, until nobody is inside any more.
pub fn wait(path: &Path) -> Result<()> {
    let file = locks::open(path)?;
    // Not nobody: the user may want to end it.
    privileges::give_up(privileges::Keep::User)?;
    privileges::keep_to(privileges::Work::Wait)?;
    lock::lock(&file, USERS).with_context(|| format!("lock {}", path.display()))?;
    // Before the other byte is free: who waits for that one shall not take this process for one that stays.
    lock::unlock(process::unbound(LIFE_FD), LIFE).context("let the namespaces go")
}

/// What an ordinary user's engine cannot give here, and why; for `info`.
pub fn lacks(store: &Store) -> Vec<String> {
    let mut lacks = Vec::new();
    if !is_inside() {
        return lacks;
    }
    if kernel::is_single_id() {
        lacks.push(
            "WARNING: Running in single-id mode: without ranges in /etc/subuid and /etc/subgid and newuidmap, every file \
             belongs to one user"
                .to_owned(),
        );
    }
    if crate::cgroup::home().is_none() {
        lacks.push(
            "WARNING: No limits: this user was given no cgroup of version 2 (a session of systemd gives one)"
                .to_owned(),
        );
    }
    lacks.extend(no_way_out(store).map(|why| format!("WARNING: {why}")));
    lacks
}

/// Why what a container sends goes nowhere; `None` where it does, and in root's store.
pub fn no_way_out(store: &Store) -> Option<String> {
    if is_inside() { gateway::lack(store) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_just_ended_has_no_namespaces() {
        let mut child = Command::new("true").spawn().unwrap();
        let pidfd = process::pidfd_open(child.id() as i32).unwrap();
        // Ended, and yet to be buried: its number still finds it.
        let at = nix::sys::wait::Id::PIDFd(pidfd.as_fd());
        nix::sys::wait::waitid(at, nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT)
            .unwrap();
        assert!(!enter_those_of(&pidfd).unwrap());
        child.wait().unwrap();
        assert!(!enter_those_of(&pidfd).unwrap());
    }
}
