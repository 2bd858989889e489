//! Passes on what comes to published ports that no rule leads to their container: from this host's `[::1]` to a container
//! of IPv4 alone, and all of them where the kernel has no nf_tables. A process of its own, started by the watching face
//! when something comes, and ended when nothing has gone on for a while: an idle container has none.

use super::Base;
use super::kept::{SERVE, Served};
use crate::engine::networks::{self, Target};
use crate::engine::privileges::{self, Keep, Work};
use crate::engine::rootless::network;
use crate::net::{Subnet, port};
use crate::order::Map;
use crate::sys::{net, process};
use anyhow::{Context, Result};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// After how long without anything it ends.
const IDLE: Duration = Duration::from_secs(10);
/// After how long without a datagram a client's port is given up: as long as the kernel remembers one for NAT.
const SILENCE: Duration = Duration::from_secs(120);
/// So many connections and clients at once.
const MOST: usize = 4096;
/// Enough for a loop with one buffer.
const STACK: usize = 96 * 1024;

/// The face `forward`: `serve=FD,PROTOCOL,ADDRESS` for each port.
pub fn run(base: &Base, pairs: &[(&str, &str)]) -> Result<()> {
    let busy = Arc::new(AtomicUsize::new(0));
    let targets = networks::targets(&base.store, &base.whose.container)?;
    // Clients come from the host's network, and the container is in the user's.
    let network = network::existing(&base.store)?.map(Arc::new);
    privileges::give_up(match &network {
        None => Keep::Nothing,
        Some(_) => Keep::Entering,
    })?;
    // A change of credentials would clear it.
    process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    privileges::keep_to(if network.is_some() { Work::PassInside } else { Work::Pass })?;
    for (_, text) in pairs.iter().filter(|(key, _)| *key == SERVE) {
        let Some(served) = Served::parse(text) else { continue };
        let socket = served.socket;
        let Some(target) = targets.iter().find(|target| target.is_for(served.protocol, served.host)) else {
            let work = move || match served.protocol {
                port::UDP => discard(&UdpSocket::from(socket)),
                _ => refuse(&TcpListener::from(socket)),
            };
            thread::Builder::new().stack_size(STACK).spawn(work).context("start a thread")?;
            continue;
        };
        let (busy, target, network) = (Arc::clone(&busy), target.clone(), network.clone());
        let work = move || match target.protocol {
            port::UDP => datagrams(&UdpSocket::from(socket), &target, network.as_deref(), &busy),
            _ => connections(&TcpListener::from(socket), &target, &network, &busy),
        };
        thread::Builder::new().stack_size(STACK).spawn(work).context("start a thread")?;
    }
    let mut since = Instant::now();
    while since.elapsed() < IDLE {
        thread::sleep(Duration::from_millis(500));
        if busy.load(Ordering::Relaxed) > 0 {
            since = Instant::now();
        }
    }
    Ok(())
}

/// Counts as busy for as long as it lives.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Busy {
        count.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a client may come in. This host always may: an address that can be bound is its own.
fn is_welcome(client: IpAddr, from: &[Subnet]) -> bool {
    let client = client.to_canonical();
    from.is_empty() || from.iter().any(|subnet| subnet.contains(client)) || UdpSocket::bind((client, 0)).is_ok()
}

fn connections(listener: &TcpListener, target: &Target, network: &Option<Arc<OwnedFd>>, busy: &Arc<AtomicUsize>) {
    let _ = listener.set_nonblocking(false);
    loop {
        let (client, address) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Out of descriptors, as a rule.
            Err(_) => {
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if !is_welcome(address.ip(), &target.from) || busy.load(Ordering::Relaxed) >= MOST {
            continue;
        }
        let (guard, to, network) = (Busy::new(busy), target.container, network.clone());
        // What cannot be served now is closed at once.
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _guard = guard;
            let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(30));
            if let Ok(Ok(server)) = network::enter(network.as_deref(), connect) {
                both_ways(client, server);
            }
        });
    }
}

/// Takes what comes to a port that leads nowhere, since its container is on no network with a way out, and drops it.
fn refuse(listener: &TcpListener) {
    let _ = listener.set_nonblocking(false);
    drop_all(|| listener.accept().is_ok())
}

fn discard(socket: &UdpSocket) {
    let _ = socket.set_nonblocking(false);
    drop_all(|| socket.recv_from(&mut [0; 1]).is_ok())
}

fn drop_all(mut take: impl FnMut() -> bool) -> ! {
    loop {
        if !take() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn both_ways(client: TcpStream, server: TcpStream) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client, server) = (Arc::new(client), Arc::new(server));
    let (from, to) = (Arc::clone(&client), Arc::clone(&server));
    let back = thread::Builder::new().stack_size(STACK).spawn(move || pass(&from, &to));
    pass(&server, &client);
    if let Ok(back) = back {
        let _ = back.join();
    }
}

/// Until one end has no more to say, which the other is told.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    if io::copy(&mut from, &mut to).is_err() {
        // A reset is passed on as an end of both.
        let _ = from.shutdown(Shutdown::Both);
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Each client is a socket of ours, so that answers find back.
fn datagrams(socket: &UdpSocket, target: &Target, network: Option<&OwnedFd>, busy: &Arc<AtomicUsize>) {
    let Ok(socket) = socket.try_clone().map(Arc::new) else { return };
    let _ = socket.set_nonblocking(false);
    let mut clients: Map<SocketAddr, (Arc<UdpSocket>, std::sync::Weak<()>)> = Map::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        if !is_welcome(client.ip(), &target.from) {
            continue;
        }
        clients.retain(|_, (_, alive)| alive.strong_count() > 0);
        if !clients.contains_key(&client) && clients.len() < MOST {
            match answers(&socket, client, target.container, network, busy) {
                Ok(made) => drop(clients.insert(client, made)),
                Err(_) => continue,
            }
        }
        if let Some((server, _)) = clients.get(&client) {
            let _ = server.send(&buffer[..length]);
        }
    }
}

/// A socket to the container whose answers go to a client, for as long as there are any.
fn answers(
    socket: &Arc<UdpSocket>,
    client: SocketAddr,
    container: SocketAddr,
    network: Option<&OwnedFd>,
    busy: &Arc<AtomicUsize>,
) -> io::Result<(Arc<UdpSocket>, std::sync::Weak<()>)> {
    let any: IpAddr = match container.is_ipv4() {
        true => std::net::Ipv4Addr::UNSPECIFIED.into(),
        false => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let server = Arc::new(network::enter(network, || UdpSocket::bind((any, 0)))??);
    server.connect(container)?;
    server.set_read_timeout(Some(SILENCE))?;
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    let (to, from, guard) = (Arc::clone(socket), Arc::clone(&server), Busy::new(busy));
    let work = move || {
        let (_alive, _guard) = (alive, guard);
        let mut buffer = vec![0; 65_536];
        loop {
            match from.recv(&mut buffer) {
                Ok(length) => drop(to.send_to(&buffer[..length], client)),
                // Nobody listened there; somebody may later.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(work)?;
    Ok((server, weak))
}

/// The process, for the face that starts it.
pub struct Forwarder {
    pid: i32,
    pidfd: OwnedFd,
    since: Instant,
}

impl Forwarder {
    /// With the descriptors of the ports, which it inherits.
    pub fn start(base: &Base, served: &[Served]) -> Option<Forwarder> {
        let inherit = |inherit| {
            for served in served {
                let _ = process::set_inherit(served.socket.as_fd(), inherit);
            }
        };
        inherit(true);
        let pid = super::start_face("forward", base, served.iter().map(Served::word).collect());
        inherit(false);
        let pid = pid.ok()?;
        Some(Forwarder { pid, pidfd: process::pidfd_open(pid).ok()?, since: Instant::now() })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends it, if it has not ended; how long it lived.
    pub fn end(self) -> Duration {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid), None);
        self.since.elapsed()
    }
}

impl AsFd for Forwarder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// All ports that are served by a program, in one descriptor: it has something to read when one of them has.
pub fn knocked(served: &[Served]) -> Option<OwnedFd> {
    if served.is_empty() {
        return None;
    }
    let all = net::epoll().ok()?;
    for served in served {
        net::epoll_add(all.as_fd(), served.socket.as_fd()).ok()?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_hold_here_too() {
        let from: Vec<Subnet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (client, welcome) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("127.0.0.1", true), ("::1", true), ("192.0.2.1", false)]
        {
            assert_eq!(is_welcome(client.parse().unwrap(), &from), welcome, "{client}");
            assert!(is_welcome(client.parse().unwrap(), &[]));
        }
    }
}
