//! What the kernel remembers of datagrams (ctnetlink): those that belong together go one way, which was chosen for the
//! first of them. Who never stops sending would be led by rules that are gone, or past those that have come.

use super::address::from_octets;
use super::netlink::{DUMP, Message, NESTED, Reply, Socket, attributes};
use super::nftables::{IPV4, IPV6, close_later, head};
use super::port::UDP;
use std::io;
use std::net::{SocketAddr, UdpSocket};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_TO_PORT: u16 = 3;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
/// Only the protocol is compared. Kernels before 5.8 know no such filter and tell of all.
const FILTER_PROTOCOL: u32 = 1 << 3;
/// `struct nfgenmsg`.
const HEAD: usize = 4;

/// Forgets the ways of datagrams that were sent to these addresses and ports of this host.
pub fn forget(ports: &[SocketAddr]) -> io::Result<()> {
    let socket = Socket::netfilter()?;
    let done = forget_by(&socket, ports);
    close_later(socket);
    done
}

fn forget_by(socket: &Socket, ports: &[SocketAddr]) -> io::Result<()> {
    for family in [IPV4, IPV6] {
        let some: Vec<SocketAddr> = ports.iter().copied().filter(|it| it.is_ipv4() == (family == IPV4)).collect();
        if some.is_empty() {
            continue;
        }
        let ask = Message::new(SUBSYSTEM << 8 | GET, DUMP, &head(family, 0));
        let ask = ask.nest(TUPLE_ORIGINAL, |it| it.nest(TUPLE_PROTOCOL, |it| it.bytes(PROTOCOL_NUMBER, &[UDP])));
        let ask = ask.nest(FILTER, |it| it.u32(FILTER_ORIGINAL, FILTER_PROTOCOL));
        for reply in socket.dump(ask)? {
            let Some((tuple, to)) = sent_to(&reply, family) else { continue };
            if some.iter().any(|port| is_at(*port, to)) {
                let message = Message::new(SUBSYSTEM << 8 | DELETE, 0, &head(family, 0));
                match socket.ask(message.bytes(TUPLE_ORIGINAL | NESTED, tuple)) {
                    // It is over.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    done => done?,
                }
            }
        }
    }
    Ok(())
}

/// Where the datagrams of an entry were sent to; and its tuple, by which it is deleted.
fn sent_to(reply: &Reply, family: u8) -> Option<(&[u8], SocketAddr)> {
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let tuple = reply.get(HEAD, TUPLE_ORIGINAL)?;
    let (addresses, protocol) = (find(tuple, TUPLE_IP)?, find(tuple, TUPLE_PROTOCOL)?);
    if find(protocol, PROTOCOL_NUMBER)? != [UDP] {
        return None;
    }
    let address = from_octets(find(addresses, if family == IPV4 { 2 } else { 4 })?)?;
    let port = u16::from_be_bytes(find(protocol, PROTOCOL_TO_PORT)?.try_into().ok()?);
    Some((tuple, SocketAddr::new(address, port)))
}

/// Whether what is sent there arrives at that port of this host.
fn is_at(port: SocketAddr, to: SocketAddr) -> bool {
    port.port() == to.port()
        && (port.ip() == to.ip() || port.ip().is_unspecified() && UdpSocket::bind((to.ip(), 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::address::octets;
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn an_entry_says_where_its_datagrams_went() {
        let tuple = |protocol: u8, to: &str, port: u16| {
            let to: IpAddr = to.parse().unwrap();
            let (family, attribute) = if to.is_ipv4() { (IPV4, 2) } else { (IPV6, 4) };
            let body = Message::empty().raw(&head(family, 0)).nest(TUPLE_ORIGINAL, |it| {
                it.nest(TUPLE_IP, |it| it.bytes(attribute, &octets(to))).nest(TUPLE_PROTOCOL, |it| {
                    it.bytes(PROTOCOL_NUMBER, &[protocol]).bytes(PROTOCOL_TO_PORT, &port.to_be_bytes())
                })
            });
            let reply = Reply { body: body.into_bytes() };
            sent_to(&reply, family).map(|(_, to)| to.to_string())
        };
        assert_eq!(tuple(UDP, "10.0.0.1", 53).as_deref(), Some("10.0.0.1:53"));
        assert_eq!(tuple(UDP, "fd00::1", 53).as_deref(), Some("[fd00::1]:53"));
        assert_eq!(tuple(6, "10.0.0.1", 53), None);
        let at = |port: &str, to: &str| is_at(port.parse().unwrap(), to.parse().unwrap());
        assert!(at("0.0.0.0:53", "127.0.0.1:53") && at("10.0.0.1:53", "10.0.0.1:53"));
        assert!(!at("0.0.0.0:53", "192.0.2.1:53"), "another machine's");
        assert!(!at("10.0.0.1:53", "10.0.0.2:53") && !at("0.0.0.0:53", "127.0.0.1:54"));
    }
}
