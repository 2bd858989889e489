//! A packet that has yet to come, as far as it is known: for asking rules of others what they would do with it. Three
//! answers are possible: yes, no, and that it depends on what is not known.

use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// The links by which it comes and leaves, with their indices, where they are known.
    pub comes_by: Option<(String, u32)>,
    pub leaves_by: Option<(String, u32)>,
    pub is_ipv4: bool,
    pub from: Option<IpAddr>,
    pub to: Option<IpAddr>,
    /// `IPPROTO_*`.
    pub protocol: Option<u8>,
    pub to_port: Option<u16>,
    /// It begins a connection; otherwise it belongs to one that was let through.
    pub is_new: bool,
    /// The connection's destination was changed: it is one to a published port.
    pub is_redirected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    No,
    Maybe,
    Yes,
}

impl Answer {
    pub fn of(is: bool) -> Answer {
        if is { Answer::Yes } else { Answer::No }
    }

    /// Of what may not be known.
    pub fn about<T>(value: Option<T>, is: impl FnOnce(T) -> bool) -> Answer {
        value.map_or(Answer::Maybe, |value| Answer::of(is(value)))
    }

    pub fn and(self, other: Answer) -> Answer {
        self.min(other)
    }

    pub fn inverted(self, inverted: bool) -> Answer {
        match self {
            Answer::Yes if inverted => Answer::No,
            Answer::No if inverted => Answer::Yes,
            other => other,
        }
    }
}

/// Bits of ct state, as nf_tables and xt_conntrack count them.
pub const ESTABLISHED: u32 = 1 << 1;
pub const NEW: u32 = 1 << 3;
/// Bits of ct status: replies were seen, confirmed, destination changed.
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED_CONFIRMED: u32 = 1 << 2 | 1 << 3;
const REDIRECTED: u32 = 1 << 5 | 1 << 8;

impl Packet {
    pub fn state(&self) -> u32 {
        if self.is_new { NEW } else { ESTABLISHED }
    }

    pub fn status(&self) -> u32 {
        let seen = if self.is_new { 0 } else { SEEN_REPLY | ASSURED_CONFIRMED };
        seen | if self.is_redirected { REDIRECTED } else { 0 }
    }

    /// The bytes of its network header that are known.
    pub fn network_header(&self) -> [Option<u8>; 40] {
        let mut header = [None; 40];
        let (protocol, from, to) = if self.is_ipv4 { (9, 12, 16) } else { (6, 8, 24) };
        header[protocol] = self.protocol;
        for (at, address) in [(from, self.from), (to, self.to)] {
            for (place, byte) in header[at..].iter_mut().zip(address.map(super::address::octets).unwrap_or_default()) {
                *place = Some(byte);
            }
        }
        header
    }

    /// The same of its transport header: the port that it goes to.
    pub fn transport_header(&self) -> [Option<u8>; 4] {
        let [high, low] = self.to_port.map_or([None; 2], |port| port.to_be_bytes().map(Some));
        [None, None, high, low]
    }
}
