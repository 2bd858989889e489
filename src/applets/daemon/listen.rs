//! The sockets that the daemon listens on.

use super::Asked;
use crate::api::http::address::Address;
use crate::api::http::tls;
use crate::engine::rootless;
use crate::log;
use crate::sys::process;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The first descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST: RawFd = 3;
/// The group that Docker's clients are in.
const GROUP: &str = "docker";

/// One socket.
pub struct Listener {
    pub address: Address,
    fd: OwnedFd,
    tcp: bool,
    tls: Option<tls::Server>,
    _made: Option<Made>,
}

/// What makes the plain side of a new connection.
pub type Wrap = Box<dyn FnOnce(OwnedFd) -> io::Result<OwnedFd> + Send>;

/// A socket's file, which goes with the daemon.
struct Made {
    path: PathBuf,
    inode: u64,
}

/// Opens all that were asked for, or none.
pub fn all(asked: &Asked) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in &asked.hosts {
        match address {
            Address::Unix(path) => listeners.push(unix(path, asked.group.as_deref())?),
            Address::Tcp(host, port) => listeners.extend(tcp(asked, host, *port)?),
            Address::Inherited(number) => listeners.extend(inherited(asked, *number)?),
            Address::Ssh(_) => bail!("cannot listen on {address}"),
        }
    }
    if let Some(path) = &asked.beside {
        match unix(path, asked.group.as_deref()) {
            Ok(listener) => listeners.push(listener),
            Err(error) => log::warning!("docker's usual socket is left alone: {error:#}"),
        }
    }
    Ok(listeners)
}

/// A unix socket. One that a dead daemon left is replaced, one that somebody listens on is not.
fn unix(path: &Path, group: Option<&str>) -> Result<Listener> {
    let address = Address::Unix(path.to_owned());
    let listening = || format!("listen on {address}");
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir).with_context(listening)?;
            }
        }
        Err(error) => return Err(error).with_context(listening),
        Ok(known) if !known.file_type().is_socket() => bail!("{}: {} is no socket", listening(), path.display()),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => bail!("{}: another daemon listens there", listening()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).with_context(listening)?;
            }
            Err(error) => return Err(error).with_context(listening),
        },
    }
    // In a user's own directory it is for himself alone.
    let group = if rootless::is_inside() { None } else { gid(group.unwrap_or(GROUP), path)? };
    let listener = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let listener = listener.with_context(listening)?;
    let bound = socket::UnixAddr::new(path).with_context(listening)?;
    // From its first moment on it is nobody else's, and the group's before it listens.
    let before = umask(Mode::from_bits_truncate(0o117));
    let done = socket::bind(listener.as_raw_fd(), &bound);
    umask(before);
    done.with_context(listening)?;
    let made = Made { path: path.to_owned(), inode: fs::metadata(path).with_context(listening)?.ino() };
    if let Some(group) = group {
        chown(path, None, Some(group)).with_context(|| format!("give {} to group {group}", path.display()))?;
    }
    socket::listen(&listener, Backlog::MAXCONN).with_context(listening)?;
    Listener::new(listener, address, Some(made))
}

/// A group by its name or number; the empty name is nobody's. Docker's own may be missing: then only root has the socket.
fn gid(name: &str, path: &Path) -> Result<Option<Gid>> {
    if name.is_empty() {
        return Ok(None);
    }
    let found = Group::from_name(name).with_context(|| format!("look up the group {name}"))?;
    match found.map(|group| group.gid).or_else(|| name.parse().ok().map(Gid::from_raw)) {
        None if name != GROUP => bail!("group {name} not found"),
        None => {
            log::warning!("there is no group {name}: only root may use {}", path.display());
            Ok(None)
        }
        found => Ok(found),
    }
}

fn tcp(asked: &Asked, host: &str, port: u16) -> Result<Vec<Listener>> {
    let address = Address::Tcp(host.to_owned(), port);
    let found = (host, port).to_socket_addrs().with_context(|| format!("look up {address}"))?;
    let mut listeners = Vec::new();
    for found in found {
        asked.check_tcp(found.ip())?;
        let listener = TcpListener::bind(found).with_context(|| format!("listen on {address} ({found})"))?;
        let found = listener.local_addr().with_context(|| format!("listen on {address}"))?;
        let address = Address::Tcp(found.ip().to_string(), found.port());
        listeners.push(Listener { tls: asked.tls.clone(), ..Listener::new(listener.into(), address, None)? });
    }
    Ok(listeners)
}

/// What the service manager opened for us (sd_listen_fds(3)).
fn inherited(asked: &Asked, number: Option<i32>) -> Result<Vec<Listener>> {
    let said = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let for_us = said("LISTEN_PID").is_some_and(|pid| i64::from(pid) == i64::from(std::process::id()));
    let count = said("LISTEN_FDS").filter(|count| for_us && (1..1000).contains(count));
    let Some(count) = count else { bail!("fd://: no socket was handed over (LISTEN_PID, LISTEN_FDS)") };
    let numbers: Vec<RawFd> = match number {
        None => (FIRST..FIRST + count).collect(),
        Some(number) if (FIRST..FIRST + count).contains(&number) => vec![number],
        Some(number) => bail!("fd://{number}: the sockets handed over are {FIRST} to {}", FIRST + count - 1),
    };
    let mut listeners = Vec::new();
    for number in numbers {
        let address = Address::Inherited(Some(number));
        let fd = process::adopt(number).with_context(|| format!("take over {address}"))?;
        process::set_inherit(fd.as_fd(), false).with_context(|| format!("take over {address}"))?;
        if !socket::getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false) {
            bail!("{address} is no listening socket");
        }
        if let Some(ip) = ip_of(&fd) {
            asked.check_tcp(ip).with_context(|| address.to_string())?;
        }
        let listener = Listener::new(fd, address, None)?;
        listeners.push(Listener { tls: asked.tls.clone().filter(|_| listener.tcp), ..listener });
    }
    Ok(listeners)
}

/// The address that a socket of IP is bound to.
fn ip_of(fd: &OwnedFd) -> Option<IpAddr> {
    // For a socket of another family there is no such address.
    TcpListener::from(fd.try_clone().ok()?).local_addr().ok().map(|address| address.ip())
}

impl Listener {
    fn new(fd: OwnedFd, address: Address, made: Option<Made>) -> Result<Listener> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        // Who knocked and left again before accept must not keep all others waiting.
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        flags
            .and_then(|flags| fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)))
            .with_context(|| format!("listen on {address}"))?;
        let tcp = ip_of(&fd).is_some();
        Ok(Listener { address, fd, tcp, tls: None, _made: made })
    }

    /// The next connection; `None` where it went away again.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, Wrap)>> {
        match socket::accept4(self.fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(number) => {
                let fd = process::adopt(number)?;
                if self.tcp {
                    // Answers are small and waited for; and a client that vanished is to be noticed.
                    socket::setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
                    socket::setsockopt(&fd, sockopt::KeepAlive, &true)?;
                }
                Ok(Some(match self.tls.clone() {
                    Some(tls) => (fd, Box::new(move |fd| tls.wrap(fd))),
                    None => (fd, Box::new(Ok)),
                }))
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Another daemon may have replaced it.
        if fs::metadata(&self.path).is_ok_and(|now| now.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
