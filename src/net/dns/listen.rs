//! The resolver's sockets inside a container's network namespace.
//!
//! They listen on a high port of 127.0.0.11, and a table of ours in that namespace leads its port 53 there. Where the
//! kernel has no nf_tables, they listen on port 53 itself.

use super::{ADDRESS, PORT};
use crate::log;
use crate::net::netlink::{self, Socket};
use crate::net::nftables::{Batch, Field, Hook, IPV4, Map, Rule, comment_by};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

const TABLE: &str = "dhow-names";
const DESTINATION_NAT: i32 = -100;
const DOORS: Map =
    Map { name: "doors", key: &[Field::Ipv4, Field::Protocol, Field::Port], data: &[Field::Ipv4, Field::Port] };

/// How many questions a container with servers of its own may have under way to them, by UDP and by TCP.
const OWN_UDP: usize = 8;
const OWN_TCP: usize = 2;

/// What was opened.
pub struct Sockets {
    pub udp: OwnedFd,
    pub tcp: OwnedFd,
    /// To ask servers with that only the container reaches: datagrams, and streams.
    pub out: Vec<OwnedFd>,
}

/// Opens them in a namespace. `preferred` is tried first, so that one who asked before finds the same port again.
/// `servers` are those that the container has for itself: with sockets to ask them with.
pub fn open(namespace: impl AsFd, preferred: u16, servers: &[IpAddr]) -> io::Result<Sockets> {
    netlink::inside(namespace, || {
        let (udp, tcp) = match bind(preferred) {
            // Its init does the same, and nobody waits for that. To ask is cheaper than to do it twice.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                crate::sys::net::loopback_up()?;
                bind(preferred)
            }
            bound => bound,
        }
        .or_else(|_| bind(0))?;
        let ports = [udp.local_addr()?.port(), tcp.local_addr()?.port()];
        let (udp, tcp) = match lead(ports) {
            Ok(()) => (udp, tcp),
            Err(error) => {
                log::debug!("lead port 53 to the resolver: {error}");
                bind(PORT)?
            }
        };
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Sockets { udp: udp.into(), tcp: tcp.into(), out: outgoing(servers)? })
    })?
}

fn bind(port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind((ADDRESS, port))?, TcpListener::bind((ADDRESS, port))?))
}

/// Has port 53 lead to these, of UDP and of TCP. In the namespace of the caller.
fn lead([udp, tcp]: [u16; 2]) -> io::Result<()> {
    let port = |port: u16| [port.to_be_bytes(), [0; 2]].concat();
    let door = |protocol: i32, to: u16| {
        let key = [&ADDRESS.octets()[..], &[protocol as u8, 0, 0, 0], &port(PORT)].concat();
        (key, [&ADDRESS.octets()[..], &port(to)].concat())
    };
    let socket = Socket::netfilter()?;
    let mut batch = Batch::new(TABLE);
    // Only where there is one: for what was deleted the kernel has everybody wait, for longer than a start takes.
    if comment_by(&socket, TABLE)?.is_some() {
        batch.delete_table();
    }
    batch.table("");
    batch.map(&DOORS, 1);
    batch.add(DOORS.name, &[door(libc::IPPROTO_UDP, udp), door(libc::IPPROTO_TCP, tcp)]);
    batch.chain("output", "nat", Hook::Output, DESTINATION_NAT);
    batch.rule("output", Rule::new().redirect(IPV4, &DOORS, 1));
    // Closed at once: a socket that is kept keeps the container's namespace.
    batch.commit_by(&socket)
}

fn outgoing(servers: &[IpAddr]) -> io::Result<Vec<OwnedFd>> {
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    // Those of IPv6 reach both.
    let four = servers.iter().all(IpAddr::is_ipv4);
    let family = if four { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kinds = [(SockType::Datagram, OWN_UDP), (SockType::Stream, OWN_TCP)];
    let kinds = kinds.into_iter().flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
    Ok(kinds.map(|kind| socket(family, kind, flags, None)).collect::<Result<_, _>>()?)
}
