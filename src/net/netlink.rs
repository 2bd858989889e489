//! Netlink (RFC 3549, netlink(7)): messages made of nested attributes, and a socket that sends them and reads what
//! comes back. Numbers are in the host's byte order unless their name says otherwise.

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const HEADER: usize = 16;
/// As much as the kernel puts into one datagram of a dump.
const BUFFER: usize = 32 * 1024;
/// What any socket takes at once.
const ROOM: usize = 64 * 1024;

pub const REQUEST: u16 = 1;
pub const ACK: u16 = 4;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const EXCLUSIVE: u16 = 0x200;
pub const REPLACE: u16 = 0x100;
pub const APPEND: u16 = 0x800;

/// What a dump tells of is not of one moment.
const TORN: u16 = 0x10;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// In the kind of an attribute: it holds others.
pub const NESTED: u16 = 0x8000;

/// A message under construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(Vec<u8>);

impl Message {
    /// `head` is the fixed part that follows the netlink header, which the kind of message decides.
    pub fn new(kind: u16, flags: u16, head: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(head);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Message(bytes)
    }

    pub fn bytes(mut self, attribute: u16, value: &[u8]) -> Message {
        push(&mut self.0, attribute, value);
        self
    }

    /// A string with the NUL that the kernel expects.
    pub fn text(self, attribute: u16, value: &str) -> Message {
        self.bytes(attribute, &[value.as_bytes(), &[0]].concat())
    }

    pub fn u32(self, attribute: u16, value: u32) -> Message {
        self.bytes(attribute, &value.to_ne_bytes())
    }

    /// In network byte order, as nf_tables has all its numbers.
    pub fn be32(self, attribute: u16, value: u32) -> Message {
        self.bytes(attribute, &value.to_be_bytes())
    }

    /// An attribute that holds others.
    pub fn nest(mut self, attribute: u16, inner: impl FnOnce(Message) -> Message) -> Message {
        let start = self.0.len();
        push(&mut self.0, attribute | NESTED, &[]);
        let mut message = inner(self);
        let length = (message.0.len() - start) as u16;
        message.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    /// Bytes that are no attribute: a fixed part inside a nest.
    pub fn raw(mut self, bytes: &[u8]) -> Message {
        self.0.extend_from_slice(bytes);
        self
    }

    /// No message but a run of attributes.
    pub fn empty() -> Message {
        Message(Vec::new())
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Asks for an acknowledgement.
    pub fn acknowledged(mut self) -> Message {
        self.0[6] |= ACK as u8;
        self
    }

    /// As it is sent.
    #[cfg(test)]
    pub fn finished(self) -> Vec<u8> {
        self.finish(1)
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

fn push(bytes: &mut Vec<u8>, attribute: u16, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
    bytes.extend_from_slice(&attribute.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message that came back, without its header.
#[derive(Debug)]
pub struct Reply {
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of an attribute behind a fixed part of `head` bytes.
    pub fn get(&self, head: usize, attribute: u16) -> Option<&[u8]> {
        attributes(self.body.get(head..)?).find(|(kind, _)| *kind == attribute).map(|(_, value)| value)
    }
}

/// The attributes in a run of bytes; what is malformed ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two upper bits say how a value is written, not what it is.
        Some((kind & 0x3fff, value))
    })
}

pub fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

/// A string up to its NUL.
pub fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// A netlink socket. It speaks for the network namespace in which it was made, whoever uses it.
pub struct Socket(OwnedFd);

impl Socket {
    /// Links, addresses and routes.
    pub fn route() -> io::Result<Socket> {
        Socket::open(SockProtocol::NetlinkRoute)
    }

    /// nf_tables.
    pub fn netfilter() -> io::Result<Socket> {
        Socket::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> io::Result<Socket> {
        Ok(Socket(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// Has something done.
    pub fn ask(&self, message: Message) -> io::Result<()> {
        self.send(&message.acknowledged().finish(1))?;
        self.collect(1, |_| {})
    }

    /// Asks for one thing.
    pub fn get(&self, message: Message) -> io::Result<Reply> {
        let mut replies = Vec::new();
        self.send(&message.acknowledged().finish(1))?;
        self.collect(1, |reply| replies.push(reply))?;
        replies.pop().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Asks for all of a kind.
    pub fn list(&self, kind: u16, head: &[u8]) -> io::Result<Vec<Reply>> {
        self.dump(Message::new(kind, DUMP, head))
    }

    /// Asks for all that a message with [`DUMP`] names. Anew where it changed meanwhile.
    pub fn dump(&self, message: Message) -> io::Result<Vec<Reply>> {
        for _ in 0..100 {
            let mut replies = Vec::new();
            self.send(&message.clone().finish(1))?;
            match self.collect(1, |reply| replies.push(reply)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(|()| replies),
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Sends messages at once, numbered from 1; `last` is the number of the one that is acknowledged. Any that fails
    /// is the error of all. Only for a socket that is not used any more after an error.
    pub fn batch(&self, messages: Vec<Message>, last: u32) -> io::Result<()> {
        let bytes: Vec<u8> = messages.into_iter().zip(1..).flat_map(|(message, n)| message.finish(n)).collect();
        // Hundreds of rules are more than a socket takes at once.
        if bytes.len() > ROOM {
            setsockopt(&self.0, sockopt::SndBufForce, &(2 * bytes.len()))?;
        }
        self.send(&bytes)?;
        self.collect(last, |_| {})
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match send(self.0.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }

    /// Reads answers until the acknowledgement of message `last`, the end of a dump, or an error.
    fn collect(&self, last: u32, mut take: impl FnMut(Reply)) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut torn = false;
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => continue,
                length => length?,
            };
            let mut rest = &buffer[..length];
            while let Some((length, kind, sequence)) = header(rest) {
                torn |= u16::from_ne_bytes([rest[6], rest[7]]) & TORN != 0;
                let body = rest.get(HEADER..length).ok_or(io::ErrorKind::InvalidData)?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                match kind {
                    ERROR => match body.get(..4).and_then(u32_of).map(|code| code as i32) {
                        Some(0) if sequence == last => return Ok(()),
                        Some(0) => {}
                        Some(code) => return Err(io::Error::from_raw_os_error(-code)),
                        None => return Err(io::ErrorKind::InvalidData.into()),
                    },
                    DONE if torn => return Err(io::ErrorKind::Interrupted.into()),
                    DONE => return Ok(()),
                    _ => take(Reply { body: body.to_vec() }),
                }
            }
        }
    }
}

/// A socket that hears of every change of nf_tables in this network namespace, and never waits.
pub fn nftables_changes() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    // NFNLGRP_NFTABLES, as a bit.
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1 << 6))?;
    Ok(socket)
}

/// The messages in a datagram: kind and body. What is malformed ends them.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind, _) = header(bytes)?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn header(bytes: &[u8]) -> Option<(usize, u16, u32)> {
    let length = u32_of(bytes)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (length >= HEADER).then_some((length, kind, u32_of(bytes.get(8..12)?)?))
}

/// Calls something inside another network namespace, and comes back: of this process only this thread goes there.
pub fn inside<T>(namespace: impl AsFd, call: impl FnOnce() -> T) -> io::Result<T> {
    let ours = File::open("/proc/thread-self/ns/net")?;
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let done = call();
    setns(&ours, CloneFlags::CLONE_NEWNET)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let message = Message::new(16, CREATE, &[1; 16]).text(3, "ab").nest(18, |inner| inner.bytes(1, &[7])).finish(9);
        #[rustfmt::skip]
        let expected = [
            &[52, 0, 0, 0, 16, 0, 1, 4, 9, 0, 0, 0, 0, 0, 0, 0][..],
            &[1; 16],
            &[7, 0, 3, 0, b'a', b'b', 0, 0],
            &[12, 0, 18, 0x80, 5, 0, 1, 0, 7, 0, 0, 0],
        ].concat();
        if cfg!(target_endian = "little") {
            assert_eq!(message, expected);
        }
        let found: Vec<_> = attributes(&message[32..]).collect();
        assert_eq!(found, [(3, &b"ab\0"[..]), (18, &message[44..52])]);
        assert_eq!(text_of(b"eth0\0\0"), "eth0");
    }

    #[test]
    fn what_is_cut_off_ends_the_attributes() {
        assert_eq!(attributes(&[8, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[5, 0, 1, 0, 9]).collect::<Vec<_>>(), [(1, &[9][..])]);
    }
}
