//! Links (rtnetlink(7)): bridges, and pairs of virtual Ethernet devices with one end in another namespace.

use super::netlink::{CREATE, EXCLUSIVE, Message, Reply, Socket, attributes, text_of, u32_of};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A hardware address.
pub type Mac = [u8; 6];

const NEW: u16 = 16;
const DELETE: u16 = 17;
const GET: u16 = 18;
/// `struct ifinfomsg`.
const HEAD: usize = 16;
const UP: u32 = libc::IFF_UP as u32;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

/// A link as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    pub index: u32,
    pub up: bool,
    /// `bridge`, `veth`; empty for a real device.
    pub kind: String,
    /// None where it is not one of Ethernet.
    pub mac: Option<Mac>,
    pub mtu: u32,
    /// What somebody wrote to it, for people to read.
    pub alias: String,
    /// The index of the bridge that it is a port of.
    pub bridge: Option<u32>,
    /// A number by which rules know links of a kind; 0 where nobody gave it one.
    pub group: u32,
    pub name: String,
}

/// `struct ifinfomsg`.
fn head(index: u32, flags: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    // Which of the flags are to be changed.
    head[12..16].copy_from_slice(&flags.to_ne_bytes());
    head
}

/// A link by its name; `None` where there is none.
pub fn find(socket: &Socket, name: &str) -> io::Result<Option<Link>> {
    match socket.get(Message::new(GET, 0, &head(0, 0)).text(IFLA_IFNAME, name)) {
        Ok(reply) => Ok(link(&reply)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The link with an index; `None` where there is none.
pub fn at(socket: &Socket, index: u32) -> io::Result<Option<Link>> {
    match socket.get(Message::new(GET, 0, &head(index, 0))) {
        Ok(reply) => Ok(link(&reply)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of the link with an index; `None` where there is none.
pub fn name(socket: &Socket, index: u32) -> io::Result<Option<String>> {
    match socket.get(Message::new(GET, 0, &head(index, 0))) {
        Ok(reply) => Ok(reply.get(HEAD, IFLA_IFNAME).map(text_of)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn link(reply: &Reply) -> Option<Link> {
    let flags = u32_of(reply.body.get(8..12)?)?;
    let info = reply.get(HEAD, IFLA_LINKINFO).unwrap_or_default();
    let kind = attributes(info).find(|(kind, _)| *kind == IFLA_INFO_KIND);
    Some(Link {
        index: u32_of(reply.body.get(4..8)?)?,
        up: flags & UP != 0,
        kind: kind.map_or(String::new(), |(_, kind)| text_of(kind)),
        mac: reply.get(HEAD, IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()),
        mtu: reply.get(HEAD, IFLA_MTU).and_then(u32_of).unwrap_or(0),
        alias: reply.get(HEAD, IFLA_IFALIAS).map(text_of).unwrap_or_default(),
        bridge: reply.get(HEAD, IFLA_MASTER).and_then(u32_of),
        group: reply.get(HEAD, IFLA_GROUP).and_then(u32_of).unwrap_or(0),
        name: reply.get(HEAD, IFLA_IFNAME).map(text_of).unwrap_or_default(),
    })
}

/// All links of this network namespace.
pub fn all(socket: &Socket) -> io::Result<Vec<Link>> {
    Ok(socket.list(GET, &head(0, 0))?.iter().filter_map(link).collect())
}

/// The bridges of all stores are in it: "dh".
pub const GROUP: u32 = 0x6468;

/// Puts a bridge that an earlier build made among ours.
pub fn set_group(socket: &Socket, index: u32) -> io::Result<()> {
    socket.ask(Message::new(NEW, 0, &head(index, 0)).u32(IFLA_GROUP, GROUP))
}

/// Makes a bridge that is down yet. Its address is given, or it would change with its ports.
pub fn make_bridge(socket: &Socket, name: &str, mac: Mac, mtu: u32) -> io::Result<()> {
    let message = Message::new(NEW, CREATE | EXCLUSIVE, &head(0, 0));
    let message = message.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, &mac).u32(IFLA_MTU, mtu);
    let message = message.u32(IFLA_GROUP, GROUP);
    socket.ask(message.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge")))
}

/// A pair: one end a port of a bridge here, the other one inside.
pub struct Veth<'a> {
    pub name: &'a str,
    /// The index of the bridge.
    pub bridge: u32,
    pub mtu: u32,
    /// The kernel picks one where it is not said.
    pub mac: Option<Mac>,
    pub peer: &'a str,
    pub peer_mac: Mac,
    /// The peer is born in this network namespace.
    pub namespace: BorrowedFd<'a>,
}

/// Makes a pair by one message: nothing has to be moved, and the end here is up. The kernel has no peer come up with it.
pub fn make_veth(socket: &Socket, veth: &Veth) -> io::Result<()> {
    let Veth { name, bridge, mtu, mac, peer, peer_mac, namespace } = *veth;
    let message = Message::new(NEW, CREATE | EXCLUSIVE, &head(0, UP));
    let message = message.text(IFLA_IFNAME, name).u32(IFLA_MTU, mtu).u32(IFLA_MASTER, bridge);
    let message = mac.map_or(message.clone(), |mac| message.bytes(IFLA_ADDRESS, &mac));
    let inside = |data: Message| {
        // The peer's attributes follow an ifinfomsg of its own, which is written as the attribute's first bytes.
        data.nest(VETH_INFO_PEER, |peer_info| {
            peer_info
                .raw(&head(0, 0))
                .text(IFLA_IFNAME, peer)
                .bytes(IFLA_ADDRESS, &peer_mac)
                .u32(IFLA_MTU, mtu)
                .u32(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32)
        })
    };
    socket.ask(message.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, inside)))
}

/// A link in a container's namespace that shares a link of this host.
pub struct Shared<'a> {
    pub kind: Kind,
    /// The index of the link that it shares.
    pub parent: u32,
    pub name: &'a str,
    /// One of an ipvlan has its parent's.
    pub mac: Mac,
    pub mtu: Option<u32>,
    /// It is born in this network namespace.
    pub namespace: BorrowedFd<'a>,
}

/// What it is, with the numbers of the kernel for its mode and its flags.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Macvlan { mode: u32 },
    Ipvlan { mode: u16, flags: u16 },
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
        }
    }
}

pub fn make_shared(socket: &Socket, shared: &Shared) -> io::Result<()> {
    let message = Message::new(NEW, CREATE | EXCLUSIVE, &head(0, 0)).text(IFLA_IFNAME, shared.name);
    let message = message.u32(IFLA_LINK, shared.parent).u32(IFLA_NET_NS_FD, shared.namespace.as_raw_fd() as u32);
    let message = match shared.kind {
        Kind::Macvlan { .. } => message.bytes(IFLA_ADDRESS, &shared.mac),
        Kind::Ipvlan { .. } => message,
    };
    let message = shared.mtu.map_or(message.clone(), |mtu| message.u32(IFLA_MTU, mtu));
    socket.ask(message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, shared.kind.name()).nest(IFLA_INFO_DATA, |data| match shared.kind {
            Kind::Macvlan { mode } => data.u32(1, mode),
            Kind::Ipvlan { mode, flags } => data.bytes(1, &mode.to_ne_bytes()).bytes(2, &flags.to_ne_bytes()),
        })
    }))
}

/// Makes a link of a kind that needs nothing else: `dummy`.
pub fn make_plain(socket: &Socket, name: &str, kind: &str) -> io::Result<()> {
    let message = Message::new(NEW, CREATE | EXCLUSIVE, &head(0, UP)).text(IFLA_IFNAME, name);
    socket.ask(message.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, kind)))
}

/// Makes the link of one VLAN of a link. It is down yet.
pub fn make_vlan(socket: &Socket, name: &str, parent: u32, number: u16) -> io::Result<()> {
    let message = Message::new(NEW, CREATE | EXCLUSIVE, &head(0, 0)).text(IFLA_IFNAME, name).u32(IFLA_LINK, parent);
    socket.ask(message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "vlan").nest(IFLA_INFO_DATA, |data| data.bytes(1, &number.to_ne_bytes()))
    }))
}

/// Whether this kernel has links of a kind: without a parent, one that is known is refused for that.
pub fn knows(socket: &Socket, kind: Kind) -> io::Result<bool> {
    let message = Message::new(NEW, CREATE | EXCLUSIVE, &head(0, 0));
    match socket.ask(message.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, kind.name()))) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        _ => Ok(true),
    }
}

/// How frames leave a port of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Port {
    /// Also to where they came from: a container that reaches itself by its published port, where br_netfilter has
    /// the firewall see bridged frames.
    pub hairpin: bool,
    /// Not to other ports that are isolated.
    pub isolated: bool,
}

pub fn set_port(socket: &Socket, name: &str, port: Port) -> io::Result<()> {
    let message = Message::new(NEW, 0, &head(0, 0)).text(IFLA_IFNAME, name);
    socket.ask(message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |data| {
            data.bytes(IFLA_BRPORT_MODE, &[port.hairpin.into()]).bytes(IFLA_BRPORT_ISOLATED, &[port.isolated.into()])
        })
    }))
}

/// Whether a port of a bridge lets frames through yet: the kernel opens it some time after its other end has come up. To be
/// asked for it is an occasion to do so (since Linux 6.8).
pub fn is_open(socket: &Socket, name: &str) -> io::Result<bool> {
    const FORWARDING: u8 = 3;
    let reply = socket.get(Message::new(GET, 0, &head(0, 0)).text(IFLA_IFNAME, name))?;
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let data = reply.get(HEAD, IFLA_LINKINFO).and_then(|info| find(info, IFLA_INFO_SLAVE_DATA));
    Ok(data.and_then(|data| find(data, IFLA_BRPORT_STATE)) == Some(&[FORWARDING]))
}

/// Gives a link that is down another name.
pub fn rename(socket: &Socket, index: u32, name: &str) -> io::Result<()> {
    socket.ask(Message::new(NEW, 0, &head(index, 0)).text(IFLA_IFNAME, name))
}

/// Writes to a link whose it is.
pub fn set_alias(socket: &Socket, index: u32, alias: &str) -> io::Result<()> {
    socket.ask(Message::new(NEW, 0, &head(index, 0)).text(IFLA_IFALIAS, alias))
}

pub fn set_up(socket: &Socket, index: u32) -> io::Result<()> {
    socket.ask(Message::new(NEW, 0, &head(index, UP)))
}

/// Gives a link the hardware address that it has, which is an occasion for the kernel to tell its neighbours of it
/// (arp_notify). Links of some kinds can be given none.
pub fn announce(socket: &Socket, index: u32, mac: Mac) -> io::Result<()> {
    socket.ask(Message::new(NEW, 0, &head(index, 0)).bytes(IFLA_ADDRESS, &mac))
}

/// Deletes a link; one that is not there is gone. Costs the kernel some 20 ms: never on the way of a start or an end.
pub fn delete(socket: &Socket, name: &str) -> io::Result<()> {
    match socket.ask(Message::new(DELETE, 0, &head(0, 0)).text(IFLA_IFNAME, name)) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        done => done,
    }
}

pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `02:42:ac:11:00:02`, with colons or hyphens.
pub fn parse_mac(text: &str) -> Option<Mac> {
    let bytes = text.split([':', '-']).map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2));
    bytes.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        for (text, expected) in [
            ("02:42:ac:11:00:02", Some([2, 0x42, 0xac, 0x11, 0, 2])),
            ("02-42-AC-11-00-02", Some([2, 0x42, 0xac, 0x11, 0, 2])),
            ("2:42:ac:11:00:02", None),
            ("02:42:ac:11:00", None),
            ("", None),
        ] {
            assert_eq!(parse_mac(text), expected, "{text}");
        }
        assert_eq!(mac_text([2, 0x42, 0xac, 0x11, 0, 2]), "02:42:ac:11:00:02");
    }
}
