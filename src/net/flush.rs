//! Hears when somebody takes our table away, or a part of it, and when tables of others change. Allocates nothing when it
//! is asked: whoever asks may be a process that must stay small.

use super::netlink::{attributes, messages, nftables_changes};
use super::nftables::SUBSYSTEM;
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const DELETE_CHAIN: u16 = NEW_TABLE | 5;
const NEW_RULE: u16 = NEW_TABLE | 6;
const DELETE_RULE: u16 = NEW_TABLE | 8;
const DELETE_SET: u16 = NEW_TABLE | 11;
/// Ends what changed in one step.
const NEW_GENERATION: u16 = NEW_TABLE | 15;

/// As much as the kernel puts into one datagram.
pub const ROOM: usize = 16 * 1024;

pub struct Flush {
    socket: OwnedFd,
    table: String,
    /// Something of the table has gone in the step that is told of now, and something of others' has changed.
    gone: bool,
    changed: bool,
}

/// What was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// Our table may not be whole any more.
    pub lost: bool,
    /// Chains or rules of others have come or gone, but for rules that bear our table's name.
    pub others: bool,
}

impl Heard {
    fn and(self, more: Heard) -> Heard {
        Heard { lost: self.lost | more.lost, others: self.others | more.others }
    }
}

impl Flush {
    pub fn watch(table: &str) -> io::Result<Flush> {
        Ok(Flush { socket: nftables_changes()?, table: table.to_owned(), gone: false, changed: false })
    }

    /// Reads what there is. A table that is taken away and made anew in one step is whole: that is how it is loaded.
    /// Elements come and go with every published port.
    pub fn heard(&mut self, buffer: &mut [u8]) -> Heard {
        let mut heard = Heard::default();
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length <= buffer.len() => heard = heard.and(self.hear(&buffer[..length])),
                Err(nix::errno::Errno::EAGAIN) => return heard,
                Err(nix::errno::Errno::EINTR) => {}
                // More than there was room for, here or in the kernel: whoever knows the tables has to look.
                Ok(_) | Err(nix::errno::Errno::ENOBUFS) => heard = Heard { lost: true, others: true },
                Err(_) => return heard,
            }
        }
    }

    fn hear(&mut self, datagram: &[u8]) -> Heard {
        let mut heard = Heard::default();
        for (kind, body) in messages(datagram) {
            match kind {
                NEW_GENERATION => {
                    heard.lost |= std::mem::take(&mut self.gone);
                    heard.others |= std::mem::take(&mut self.changed);
                }
                NEW_TABLE if self.is_ours(body) => self.gone = false,
                DELETE_TABLE | DELETE_CHAIN | DELETE_RULE | DELETE_SET if self.is_ours(body) => self.gone = true,
                NEW_CHAIN | NEW_RULE if self.is_ours(body) => {}
                NEW_RULE if self.is_tagged(body) => {}
                DELETE_TABLE | NEW_CHAIN | DELETE_CHAIN | NEW_RULE | DELETE_RULE => self.changed = true,
                _ => {}
            }
        }
        heard
    }

    fn is_ours(&self, body: &[u8]) -> bool {
        value(body, 1).and_then(|name| name.strip_suffix(&[0])) == Some(self.table.as_bytes())
    }

    /// A rule in a table of others that bears our table's name, as its comment alone or as the first word of it: kind 0,
    /// length, text.
    fn is_tagged(&self, body: &[u8]) -> bool {
        let text = value(body, 7).and_then(|data| data.get(2..)?.strip_suffix(&[0]));
        let rest = text.and_then(|text| text.strip_prefix(self.table.as_bytes()));
        rest.is_some_and(|rest| matches!(rest, [] | [b' ', ..]))
    }
}

/// An attribute of what is told.
fn value(body: &[u8], attribute: u16) -> Option<&[u8]> {
    attributes(body.get(4..)?).find(|(kind, _)| *kind == attribute).map(|(_, value)| value)
}

impl AsFd for Flush {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netlink::Message;

    fn told(kind: u16, table: &str) -> Vec<u8> {
        Message::new(kind, 0, &[1, 0, 0, 0]).text(1, table).finished()
    }

    #[test]
    fn a_table_that_is_loaded_anew_is_whole() {
        let mut flush = Flush::watch("dhow").unwrap();
        let end = || told(NEW_GENERATION, "");
        let [none, lost, others] =
            [(false, false), (true, false), (false, true)].map(|(lost, others)| Heard { lost, others });
        let tagged = |tag: &[u8]| Message::new(NEW_RULE, 0, &[1, 0, 0, 0]).text(1, "other").bytes(7, tag).finished();
        for (datagrams, expected) in [
            (vec![told(DELETE_TABLE, "dhow"), end()], lost),
            (
                vec![[told(DELETE_RULE, "dhow"), told(DELETE_TABLE, "dhow"), told(NEW_TABLE, "dhow"), end()].concat()],
                none,
            ),
            (vec![told(DELETE_RULE, "dhow"), told(NEW_TABLE, "other"), end()], lost),
            (vec![told(DELETE_TABLE, "dhow-1"), end()], others),
            (vec![told(NEW_CHAIN, "dhow"), told(NEW_RULE, "dhow"), end()], none),
            (vec![told(DELETE_RULE, "other"), told(NEW_RULE, "other"), end()], others),
            (vec![tagged(b"\0\x05dhow\0"), end()], none),
            (vec![tagged(b"\0\x0bdhow to br0\0"), end()], none),
            (vec![tagged(b"\0\x07dhow-1\0"), end()], others),
            (vec![told(NEW_TABLE | 14, "dhow"), told(NEW_TABLE | 12, "other"), end()], none),
            (vec![vec![9, 0, 0]], none),
        ] {
            let heard = datagrams.iter().fold(none, |heard, datagram| heard.and(flush.hear(datagram)));
            assert_eq!(heard, expected, "{datagrams:?}");
        }
    }
}
