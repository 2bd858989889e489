//! Hears when somebody takes our table away, or a part of it. Allocates nothing when it is asked: whoever asks may be a
//! process that must stay small.

use super::netlink::{attributes, messages, nftables_changes};
use super::nftables::SUBSYSTEM;
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const DELETE_CHAIN: u16 = NEW_TABLE | 5;
const DELETE_RULE: u16 = NEW_TABLE | 8;
const DELETE_SET: u16 = NEW_TABLE | 11;
/// Ends what changed in one step.
const NEW_GENERATION: u16 = NEW_TABLE | 15;

/// As much as the kernel puts into one datagram.
pub const ROOM: usize = 16 * 1024;

pub struct Flush {
    socket: OwnedFd,
    table: String,
    /// Something of the table has gone in the step that is told of now.
    gone: bool,
}

impl Flush {
    pub fn watch(table: &str) -> io::Result<Flush> {
        Ok(Flush { socket: nftables_changes()?, table: table.to_owned(), gone: false })
    }

    /// Reads what there is; whether the table may not be whole any more. A table that is taken away and made anew in one
    /// step is: that is how it is loaded. Elements come and go with every published port.
    pub fn is_lost(&mut self, buffer: &mut [u8]) -> bool {
        let mut lost = false;
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length <= buffer.len() => lost |= self.hear(&buffer[..length]),
                Err(nix::errno::Errno::EAGAIN) => return lost,
                Err(nix::errno::Errno::EINTR) => {}
                // More than there was room for, here or in the kernel: whoever knows the table has to look.
                Ok(_) | Err(nix::errno::Errno::ENOBUFS) => lost = true,
                Err(_) => return lost,
            }
        }
    }

    fn hear(&mut self, datagram: &[u8]) -> bool {
        let mut lost = false;
        for (kind, body) in messages(datagram) {
            match kind {
                NEW_TABLE if self.is_ours(body) => self.gone = false,
                DELETE_TABLE | DELETE_CHAIN | DELETE_RULE | DELETE_SET if self.is_ours(body) => self.gone = true,
                NEW_GENERATION => lost |= std::mem::take(&mut self.gone),
                _ => {}
            }
        }
        lost
    }

    fn is_ours(&self, body: &[u8]) -> bool {
        let name = attributes(body.get(4..).unwrap_or_default()).find(|(kind, _)| *kind == 1).map(|(_, name)| name);
        name.and_then(|name| name.strip_suffix(&[0])) == Some(self.table.as_bytes())
    }
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
        for (datagrams, lost) in [
            (vec![told(DELETE_TABLE, "dhow"), end()], true),
            (
                vec![[told(DELETE_RULE, "dhow"), told(DELETE_TABLE, "dhow"), told(NEW_TABLE, "dhow"), end()].concat()],
                false,
            ),
            (vec![told(DELETE_RULE, "dhow"), told(NEW_TABLE, "other"), end()], true),
            (vec![told(DELETE_TABLE, "dhow-1"), end()], false),
            (vec![told(NEW_TABLE | 14, "dhow"), end()], false),
            (vec![vec![9, 0, 0]], false),
        ] {
            let heard = datagrams.iter().fold(false, |lost, datagram| flush.hear(datagram) | lost);
            assert_eq!(heard, lost, "{datagrams:?}");
        }
    }
}
