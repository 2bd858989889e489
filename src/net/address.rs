//! Addresses and routes (rtnetlink(7)).

use super::Subnet;
use super::link::Mac;
use super::netlink::{CREATE, EXCLUSIVE, Message, REPLACE, Socket, u32_of};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, sendto, setsockopt, socket, sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No duplicate address detection: the engine gives no address twice, and nobody waits for a second.
const IFA_F_NODAD: u8 = 2;

/// `struct rtmsg`.
const ROUTE_HEAD: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u32 = 255;
const PROTOCOL_BOOT: u8 = 3;
const TYPE_UNICAST: u8 = 1;

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// Gives a link an address; its subnet is on the link from then on. One that it has already is no error.
pub fn add(socket: &Socket, link: u32, address: IpAddr, subnet: Subnet) -> io::Result<()> {
    let mut head = [family(address), subnet.prefix, IFA_F_NODAD, 0, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&link.to_ne_bytes());
    let bytes = octets(address);
    let mut message = Message::new(NEW_ADDRESS, CREATE | EXCLUSIVE, &head);
    message = message.bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
    if address.is_ipv4() && subnet.prefix < 31 {
        message = message.bytes(IFA_BROADCAST, &octets(subnet.last()));
    }
    existing(socket.ask(message))
}

/// Tells the neighbours on a link which hardware address one of IPv6 of this host's has now: an unsolicited neighbour
/// advertisement (RFC 4861, 7.2.6). In the network namespace of the caller.
pub fn advertise(link: u32, mac: Mac, address: Ipv6Addr) -> io::Result<()> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    /// Kind 136; the kernel writes the checksum; it overrides what is known.
    const HEAD: [u8; 8] = [136, 0, 0, 0, 0x20, 0, 0, 0];
    /// The hardware address of the target, in units of 8 bytes.
    const TARGET: [u8; 2] = [2, 1];
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
    // Any other number of hops says that it came from elsewhere.
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &255)?;
    let of_link = |address| SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, link));
    bind(socket.as_raw_fd(), &of_link(address))?;
    let message = [&HEAD[..], &address.octets(), &TARGET, &mac].concat();
    sendto(socket.as_raw_fd(), &message, &of_link(ALL_NODES), MsgFlags::empty())?;
    Ok(())
}

/// The addresses of a link, each with its subnet, in the order in which it came by them.
pub fn of_link(socket: &Socket, link: u32) -> io::Result<Vec<(IpAddr, Subnet)>> {
    Ok(all(socket)?.into_iter().filter(|(.., of)| *of == link).map(|(address, subnet, _)| (address, subnet)).collect())
}

/// The addresses of this host, each with its subnet and the index of its link, also of links that are down.
pub fn all(socket: &Socket) -> io::Result<Vec<(IpAddr, Subnet, u32)>> {
    /// `struct ifaddrmsg`.
    const HEAD: usize = 8;
    let replies = socket.list(GET_ADDRESS, &[0; HEAD])?;
    let address = |reply: &super::netlink::Reply| {
        let bytes = reply.get(HEAD, IFA_LOCAL).or(reply.get(HEAD, IFA_ADDRESS))?;
        let address = from_octets(bytes)?;
        let link = reply.body.get(4..8).and_then(u32_of)?;
        Some((address, Subnet::new(address, *reply.body.get(1)?)?, link))
    };
    Ok(replies.iter().filter_map(address).collect())
}

/// Whether an address holds on one link only: 169.254.0.0/16 (RFC 3927) and fe80::/10 (RFC 4291, 2.5.6).
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The subnet of a link-local address.
pub fn link_local(address: IpAddr) -> Option<Subnet> {
    Subnet::new(address, if address.is_ipv4() { 16 } else { 64 })
}

/// All that is not on a link goes to this gateway from now on.
pub fn set_default_route(socket: &Socket, link: u32, gateway: IpAddr) -> io::Result<()> {
    let head = [family(gateway), 0, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, 0, TYPE_UNICAST, 0, 0, 0, 0];
    let message = Message::new(NEW_ROUTE, CREATE | REPLACE, &head);
    socket.ask(message.bytes(RTA_GATEWAY, &octets(gateway)).u32(RTA_OIF, link))
}

/// All that is not on a link goes out by this one from now on, without a gateway.
pub fn set_default_link(socket: &Socket, link: u32, four: bool) -> io::Result<()> {
    const SCOPE_LINK: u8 = 253;
    let family = (if four { libc::AF_INET } else { libc::AF_INET6 }) as u8;
    let head = [family, 0, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, SCOPE_LINK, TYPE_UNICAST, 0, 0, 0, 0];
    socket.ask(Message::new(NEW_ROUTE, CREATE | REPLACE, &head).u32(RTA_OIF, link))
}

fn existing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        done => done,
    }
}

/// What this host's routes lead to, default routes and its own addresses left out, each with the index of its link.
pub fn routes(socket: &Socket) -> io::Result<Vec<(Subnet, u32)>> {
    let mut head = [0; ROUTE_HEAD];
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        head[0] = family as u8;
        let replies = match socket.list(GET_ROUTE, &head) {
            // A kernel without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => continue,
            replies => replies?,
        };
        for reply in replies {
            let table = reply.get(ROUTE_HEAD, RTA_TABLE).and_then(u32_of);
            let link = reply.get(ROUTE_HEAD, RTA_OIF).and_then(u32_of).unwrap_or(0);
            if let (Some(bytes), Some(&prefix)) = (reply.get(ROUTE_HEAD, RTA_DST), reply.body.get(1))
                && table != Some(TABLE_LOCAL)
                && let Some(address) = from_octets(bytes)
                && let Some(subnet) = Subnet::new(address, prefix)
            {
                found.push((subnet, link));
            }
        }
    }
    Ok(found)
}

/// The link that the default route of IPv4 leads to, or that of IPv6 where there is none.
pub fn default_link(socket: &Socket) -> io::Result<Option<u32>> {
    let mut head = [0; ROUTE_HEAD];
    for family in [libc::AF_INET, libc::AF_INET6] {
        head[0] = family as u8;
        let Ok(replies) = socket.list(GET_ROUTE, &head) else { continue };
        let is_default = |reply: &&super::netlink::Reply| {
            reply.body.first() == Some(&(family as u8))
                && reply.body.get(1) == Some(&0)
                && reply.body.get(4) == Some(&TABLE_MAIN)
                && reply.body.get(7) == Some(&TYPE_UNICAST)
        };
        if let Some(reply) = replies.iter().find(is_default) {
            return Ok(reply.get(ROUTE_HEAD, RTA_OIF).and_then(u32_of));
        }
    }
    Ok(None)
}

/// The opposite of [`octets`].
pub fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
