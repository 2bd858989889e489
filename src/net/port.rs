//! Ports of the host. A published one is bound, so that nobody else takes it and whoever has it already is found; what
//! comes to it goes to the container by the firewall, so nothing is read here.

use crate::sys::net;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub const TCP: u8 = libc::IPPROTO_TCP as u8;
pub const UDP: u8 = libc::IPPROTO_UDP as u8;
pub const SCTP: u8 = libc::IPPROTO_SCTP as u8;

/// Reserves a port; 0 is one of the kernel's choice, which is given back.
///
/// It is bound and does not listen: a connection that the firewall does not take (to `[::1]`, say) is refused at once.
/// SO_REUSEADDR is on for the binding, so that connections of a server that has ended do not hold the port, and off
/// after it, so that the kernel lets no other program listen there.
pub fn reserve(protocol: u8, address: SocketAddr) -> io::Result<(OwnedFd, u16)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match protocol {
        UDP => (SockType::Datagram, SockProtocol::Udp),
        SCTP => return reserve_sctp(address),
        _ => (SockType::Stream, SockProtocol::Tcp),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    let reuse = kind == SockType::Stream;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&socket, sockopt::ReuseAddr, &reuse)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    setsockopt(&socket, sockopt::ReuseAddr, &false)?;
    let port = match address.port() {
        0 => port_of(&socket)?,
        port => port,
    };
    Ok((socket, port))
}

/// Takes a port to be served by a program of ours: one of TCP listens.
pub fn listen(protocol: u8, address: SocketAddr) -> io::Result<(OwnedFd, u16)> {
    if protocol == SCTP {
        return Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT));
    }
    let (socket, port) = reserve(protocol, address)?;
    if protocol == TCP {
        // What it accepts has the same: connections that have ended do not keep the port from who comes next.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::MAXCONN)?;
    }
    Ok((socket, port))
}

/// Few kernels have SCTP: those without it say EPROTONOSUPPORT.
fn reserve_sctp(address: SocketAddr) -> io::Result<(OwnedFd, u16)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    let port = port_of(&socket)?;
    Ok((socket, port))
}

fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    address_of(socket).map(|address| address.port())
}

/// What a socket is bound to.
pub fn address_of(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let four = name.as_sockaddr_in().map(|name| SocketAddr::from((name.ip(), name.port())));
    let six = || name.as_sockaddr_in6().map(|name| SocketAddr::from((name.ip(), name.port())));
    four.or_else(six).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// `IPPROTO_*` of a socket.
pub fn protocol_of(socket: &OwnedFd) -> io::Result<u8> {
    let mut number = [0; 4];
    net::get_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PROTOCOL, &mut number)?;
    Ok(i32::from_ne_bytes(number) as u8)
}

pub fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "tcp" => TCP,
        "udp" => UDP,
        "sctp" => SCTP,
        _ => return None,
    })
}

pub fn name(protocol: u8) -> &'static str {
    match protocol {
        UDP => "udp",
        SCTP => "sctp",
        _ => "tcp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn a_reserved_port_is_nobody_elses() {
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        for protocol in [TCP, UDP] {
            let (kept, port) = reserve(protocol, here).unwrap();
            let there = SocketAddr::new(here.ip(), port);
            let refused = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
            // Rust's own listeners ask for SO_REUSEADDR.
            assert!(match protocol {
                TCP => TcpListener::bind(there).is_err_and(refused),
                _ => UdpSocket::bind(there).is_err_and(refused),
            });
            assert!(reserve(protocol, there).is_err_and(refused));
            if protocol == TCP {
                assert_eq!(TcpStream::connect(there).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            }
            // Once it is free somebody else on this machine may be given it.
            drop(kept);
            let again = || {
                reserve(protocol, here).is_ok_and(|(kept, port)| {
                    drop(kept);
                    reserve(protocol, SocketAddr::new(here.ip(), port)).is_ok()
                })
            };
            assert!((0..20).any(|_| again()));
        }
    }
}
