//! The way out of an ordinary user's network: pasta or slirp4netns, whichever is installed, in this order. One process of
//! ours starts it, starts it again when it ends, and takes it along when the last container that has a network has gone.
//!
//! ```text
//! run/gateway   byte LIFE: held by that process; what it has come to is in the file
//!               byte USERS: shared by the shims of containers with networks; with nobody else on it, that process ends
//!               byte STARTING: held by who starts it, until there is a way out, or it is known why not
//! ```

use super::super::locks;
use super::super::privileges;
use super::super::shim::{self, LISTEN_FD, LOCK_FD};
use super::super::store::Store;
use super::{is_inside, network};
use crate::net::address;
use crate::net::netlink::Socket;
use crate::sys::{lock, process};
use anyhow::{Context, Result};
use libc::POLLIN;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const LIFE: i64 = 0;
const USERS: i64 = 1;
const STARTING: i64 = 2;

/// The link that leads out, inside.
const LINK: &str = "out0";
/// The network between: slirp4netns' own, which pasta is given too.
const OURS: &str = "10.0.2.100";
const ROUTER: &str = "10.0.2.2";
pub const SUBNET: &str = "10.0.2.0/24";

/// Who answers questions for names there, by asking this host's own server, also one on the host's loopback.
pub const DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3));

/// How long a way out may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is left at that when there is none: at first, and at the most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);

/// What is said where neither is there.
const NEITHER: &str = "No way out of this network: neither pasta nor slirp4netns is installed; containers reach one \
                       another, and are reached by published ports";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tool {
    Pasta,
    Slirp,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Tool::Pasta => "pasta",
            Tool::Slirp => "slirp4netns",
        }
    }

    /// Its arguments for the namespace at a path. Neither lets the loopback of the host be reached.
    fn arguments(self, namespace: &str) -> Vec<String> {
        let line = match self {
            // Published ports are forwarded by shims, which know whose they are.
            Tool::Pasta => format!(
                "--foreground --quiet --config-net --address {OURS} --netmask 24 --gateway {ROUTER} --dns-forward {DNS} \
                 --no-map-gw --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none --ns-ifname {LINK} \
                 --netns {namespace}"
            ),
            Tool::Slirp => format!(
                "--configure --mtu=65520 --disable-host-loopback --enable-sandbox --enable-seccomp --netns-type=path \
                 {namespace} {LINK}"
            ),
        };
        line.split_whitespace().map(str::to_owned).collect()
    }
}

/// Those that are installed.
fn tools() -> Vec<(Tool, PathBuf)> {
    [Tool::Pasta, Tool::Slirp].into_iter().filter_map(|tool| Some((tool, super::find(tool.name())?))).collect()
}

fn path(store: &Store) -> PathBuf {
    store.run.join("gateway")
}

/// Sees to it that there is a way out where there can be one. It stays for as long as what is given back is open.
/// `None` in root's store. Called in a shim, which is what may start it.
pub fn hold(store: &Store) -> Result<Option<OwnedFd>> {
    if !is_inside() {
        return Ok(None);
    }
    let path = path(store);
    let users = locks::open(&path)?;
    // First: from here on none that lives ends.
    lock::lock_shared(&users, USERS).with_context(|| format!("lock {}", path.display()))?;
    let _starting = locks::exclusive(&path, STARTING)?;
    if !lock::is_held(&users, LIFE).context("ask for the way out")? && !tools().is_empty() {
        let life = locks::open(&path)?;
        lock::try_lock(&life, LIFE).context("lock the way out")?;
        let (answered, answers) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
        shim::start_beside(store, "gateway", life.as_fd(), Some(answers.as_fd()))?;
        drop((life, answers));
        // It says a byte, or ends.
        let _ = nix::unistd::read(&answered, &mut [0]);
    }
    Ok(Some(users.into()))
}

/// Why there is no way out; `None` where there is one, or will be.
pub fn lack(store: &Store) -> Option<String> {
    if tools().is_empty() {
        return Some(NEITHER.to_owned());
    }
    let file = locks::open_existing(&path(store)).ok().flatten()?;
    let lives = lock::is_held(&file, LIFE).unwrap_or(false);
    let text = fs::read_to_string(path(store)).unwrap_or_default();
    let why = text.strip_prefix("failed: ").filter(|_| lives)?;
    Some(format!("No way out of this network, which is tried again and again: {}", why.trim_end()))
}

/// The process. It was given the file that it holds LIFE of, and who hears when there is a way out.
pub fn run(store: &Store) -> Result<()> {
    let given = |number| -> Result<OwnedFd> {
        let fd = process::adopt(number).context("a descriptor is missing")?;
        process::set_inherit(fd.as_fd(), false).context("keep a descriptor")?;
        Ok(fd)
    };
    let (life, answers) = (given(LISTEN_FD)?, given(LOCK_FD)?);
    std::env::set_current_dir("/").context("go to /")?;
    let path = path(store);
    let namespace = network::existing(store)?.context("there is no network to lead out of")?;
    let anchor = anchor(&namespace)?;
    let routes = network::enter(Some(&namespace), Socket::route)
        .and_then(|socket| socket)
        .context("open a netlink socket in the user's network")?;
    // What has to be entered is open, and threads from here on have no more than this one.
    privileges::become_gateway().context("let go of privileges")?;
    let (over, last) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    let users = locks::open(&path)?;
    let wait = move || {
        let _last = last;
        let _ = lock::lock(&users, USERS);
        // Kept until this process has ended: who comes next then finds that it does not live.
        std::mem::forget(users);
    };
    thread::Builder::new().spawn(wait).context("start a thread")?;
    let mut gateway = Gateway { anchor, routes, over, said: File::options().write(true).open(&path)? };
    gateway.keep(Some(answers))?;
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(anchor), nix::sys::signal::Signal::SIGKILL);
    let _ = process::ended(Some(anchor), false);
    lock::unlock(&life, LIFE).context("let the way out go")
}

/// A process in the namespace that does nothing: by it the namespace has a path that everybody's profiles let pasta
/// open. It has no capability, or somebody with few could not look at it.
fn anchor(namespace: &OwnedFd) -> Result<i32> {
    let ours = std::process::id();
    match process::fork().context("fork")? {
        0 => {
            let placed = || -> std::io::Result<()> {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                process::close_range(LOCK_FD, i32::MAX)?;
                process::capset(0, 0, 0)?;
                process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map(drop)
            };
            if placed().is_ok() && std::os::unix::process::parent_id() == ours {
                loop {
                    nix::unistd::pause();
                }
            }
            process::exit_now(125)
        }
        pid => Ok(pid),
    }
}

struct Gateway {
    anchor: i32,
    /// Of the user's network.
    routes: Socket,
    /// It ends when nobody needs a way out any more.
    over: OwnedFd,
    said: File,
}

/// A tool that runs, and the last line that it said.
struct Running {
    child: Child,
    pidfd: OwnedFd,
    line: Arc<Mutex<String>>,
}

impl Gateway {
    /// Has a way out for as long as anybody needs one.
    fn keep(&mut self, mut answers: Option<OwnedFd>) -> Result<()> {
        let mut pause = PAUSE;
        loop {
            let since = Instant::now();
            let found = self.find()?;
            match &found {
                Ok((tool, _)) => self.say(tool.name())?,
                Err(why) => self.say(&format!("failed: {why}"))?,
            }
            if let Some(answers) = answers.take() {
                let _ = nix::unistd::write(&answers, &[1]);
            }
            if let Ok((_, mut running)) = found {
                let ended = self.wait(Some(running.pidfd.as_fd()), None);
                let _ = running.child.kill();
                let _ = running.child.wait();
                if !ended {
                    return Ok(());
                }
            }
            if since.elapsed() > LONGEST {
                pause = PAUSE;
                continue;
            }
            if !self.wait(None, Some(pause)) {
                return Ok(());
            }
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Waits until a process has ended or the time is over; false where nobody needs a way out any more.
    fn wait(&self, process: Option<BorrowedFd>, time: Option<Duration>) -> bool {
        let until = time.map(|time| Instant::now() + time);
        loop {
            let polled = |fd: BorrowedFd| libc::pollfd { fd: fd.as_raw_fd(), events: POLLIN, revents: 0 };
            let mut fds = [polled(self.over.as_fd()), polled(process.unwrap_or(self.over.as_fd()))];
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let _ = process::poll(&mut fds, left.map_or(-1, |left| left.as_millis() as i32 + 1));
            if fds[0].revents != 0 {
                return false;
            }
            if process.is_some() && fds[1].revents != 0 || left.is_some_and(|left| left.is_zero()) {
                return true;
            }
        }
    }

    /// The first tool that leads out, or why none does.
    fn find(&self) -> Result<Result<(Tool, Running), String>> {
        let mut why = Vec::new();
        for (tool, program) in tools() {
            match self.start(tool, &program) {
                Ok(running) => return Ok(Ok((tool, running))),
                Err(error) => why.push(format!("{}: {error:#}", tool.name())),
            }
        }
        Ok(Err(why.join("; ")))
    }

    /// Starts a tool; it has come when the network has a default route.
    fn start(&self, tool: Tool, program: &Path) -> Result<Running> {
        let mut command = Command::new(program);
        command.args(tool.arguments(&format!("/proc/{}/ns/net", self.anchor))).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        process::end_with_parent(&mut command);
        let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let line = Arc::new(Mutex::new(String::new()));
        let reader = child.stderr.take().map(|stderr| listen(BufReader::new(stderr), Arc::clone(&line)));
        let pidfd = process::pidfd_open(child.id() as i32).context("open a pidfd")?;
        let mut running = Running { child, pidfd, line };
        let until = Instant::now() + PATIENCE;
        while address::default_link(&self.routes).context("read the routes of the user's network")?.is_none() {
            let ended = running.child.try_wait().context("wait for it")?.is_some();
            if ended || Instant::now() > until {
                let _ = running.child.kill();
                let _ = running.child.wait();
                if let Some(Ok(reader)) = reader {
                    let _ = reader.join();
                }
                let said = running.line.lock().map(|line| line.clone()).unwrap_or_default();
                anyhow::bail!(if said.is_empty() { "it set up no route".to_owned() } else { said });
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(running)
    }

    fn say(&mut self, text: &str) -> Result<()> {
        use std::io::Seek;
        self.said.set_len(0).and_then(|()| self.said.rewind()).context("say what has come of the way out")?;
        self.said.write_all(text.as_bytes()).context("say what has come of the way out")
    }
}

/// Keeps the last line that says something.
fn listen(stderr: impl BufRead + Send + 'static, line: Arc<Mutex<String>>) -> std::io::Result<thread::JoinHandle<()>> {
    let read = move || {
        for said in stderr.lines().map_while(|said| said.ok()) {
            if tells(&said)
                && let Ok(mut line) = line.lock()
            {
                *line = said.trim().to_owned();
            }
        }
    };
    thread::Builder::new().spawn(read)
}

/// Whether a line tells of the network, and not of a log that is not there.
fn tells(line: &str) -> bool {
    !line.trim().is_empty() && !line.contains("to syslog")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_are_told() {
        for tool in [Tool::Pasta, Tool::Slirp] {
            let words = tool.arguments("/proc/7/ns/net");
            assert!(words.contains(&"/proc/7/ns/net".to_owned()) && words.contains(&LINK.to_owned()), "{words:?}");
            // What listens on the host's loopback alone is not for containers.
            assert!(words.iter().any(|word| word == "--no-map-gw" || word == "--disable-host-loopback"), "{words:?}");
        }
        assert!(SUBNET.parse::<crate::net::Subnet>().unwrap().contains(DNS));
    }

    #[test]
    fn lines_that_tell_something() {
        for (line, expected) in
            [("External interface not usable", true), ("Failed to send 36 bytes to syslog", false), ("  ", false)]
        {
            assert_eq!(tells(line), expected, "{line}");
        }
    }
}
