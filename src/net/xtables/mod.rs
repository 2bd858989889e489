//! What iptables has loaded the old way (ip_tables.h, x_tables.h): read by getsockopt, and only tables that are there
//! already, because to ask for one makes it. Also the matches and targets that iptables puts into nf_tables.

mod change;

pub use change::{Rule, close, open};

use super::packet::{Answer, Packet};
use crate::order::Set;
use crate::sys::net::get_option;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const NAME: usize = 32;
/// `struct ipt_getinfo`, `struct ipt_get_entries` without its entries.
const INFO: usize = 84;
const ENTRIES: usize = 40;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Accepted,
    Dropped,
    /// Rules that may or may not be meant let it through, and nothing else would.
    Unsure,
}

/// Where the parts of an entry stand: `struct ipt_entry` and `struct ip6t_entry`.
struct Layout {
    address: usize,
    links: usize,
    protocol: usize,
    flags: usize,
    inverted: usize,
    target: usize,
    next: usize,
    matches: usize,
}

const LAYOUT4: Layout =
    Layout { address: 4, links: 16, protocol: 80, flags: 82, inverted: 83, target: 88, next: 90, matches: 112 };
const LAYOUT6: Layout =
    Layout { address: 16, links: 64, protocol: 128, flags: 131, inverted: 132, target: 140, next: 142, matches: 168 };

/// Bits of an entry's inverted flags.
const NOT_IN: u8 = 1;
const NOT_OUT: u8 = 2;
const NOT_FROM: u8 = 8;
const NOT_TO: u8 = 16;
const NOT_PROTOCOL: u8 = 64;

#[derive(Clone)]
pub struct Table {
    is_ipv4: bool,
    entries: Vec<u8>,
    /// Where the chains of the hooks begin, and where their policies stand.
    hooks: [usize; 5],
    underflows: [usize; 5],
    /// Which hooks it has, as bits.
    valid: u32,
    /// How many entries there are.
    count: usize,
}

impl Table {
    /// The table `filter` of a family; `None` where there is none.
    pub fn filter(is_ipv4: bool) -> io::Result<Option<Table>> {
        let names = if is_ipv4 { "ip_tables_names" } else { "ip6_tables_names" };
        let there = std::fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        if !there.lines().any(|name| name == "filter") {
            return Ok(None);
        }
        let (socket, level) = (Table::socket(is_ipv4)?, Table::level(is_ipv4));
        // It may grow between the two questions.
        for _ in 0..100 {
            let mut info = vec![0; INFO];
            info[..6].copy_from_slice(b"filter");
            get_option(socket.as_fd(), level, GET_INFO, &mut info)?;
            let number = |at: usize| number(&info, at).unwrap_or(0) as usize;
            let size = number(INFO - 4);
            let places = |at: usize| [0, 1, 2, 3, 4].map(|hook| number(at + 4 * hook));
            let (hooks, underflows) = (places(NAME + 4), places(NAME + 24));
            let (valid, count) = (number(NAME) as u32, number(INFO - 8));
            let mut all = vec![0; ENTRIES + size];
            all[..6].copy_from_slice(b"filter");
            all[NAME..NAME + 4].copy_from_slice(&(size as u32).to_ne_bytes());
            match get_option(socket.as_fd(), level, GET_ENTRIES, &mut all) {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    let entries = all.split_off(ENTRIES);
                    return Ok(Some(Table { is_ipv4, entries, hooks, underflows, valid, count }));
                }
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    fn socket(is_ipv4: bool) -> io::Result<OwnedFd> {
        let family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?)
    }

    fn level(is_ipv4: bool) -> i32 {
        if is_ipv4 { libc::SOL_IP } else { libc::SOL_IPV6 }
    }

    /// What the chain of a hook (`NF_INET_*`) does with a packet.
    pub fn fate(&self, hook: u32, packet: &Packet) -> Fate {
        let mut walk = Walk { table: self, packet, unsure: Set::new(), steps: 0, maybe: false };
        match walk.chain(self.hooks.get(hook as usize).copied().unwrap_or(0), false) {
            Some(true) => Fate::Accepted,
            _ if walk.maybe => Fate::Unsure,
            Some(false) => Fate::Dropped,
            None => Fate::Accepted,
        }
    }

    fn layout(&self) -> &'static Layout {
        if self.is_ipv4 { &LAYOUT4 } else { &LAYOUT6 }
    }

    /// The bytes of the entry at a place.
    fn entry(&self, at: usize) -> Option<&[u8]> {
        let rest = self.entries.get(at..)?;
        let next = usize::from(short(rest, self.layout().next)?);
        rest.get(..next).filter(|_| next >= self.layout().matches)
    }
}

struct Walk<'a> {
    table: &'a Table,
    packet: &'a Packet,
    /// Chains that were looked at for whether they let it through at all.
    unsure: Set<usize>,
    steps: usize,
    /// A rule that may be meant lets it through.
    maybe: bool,
}

impl Walk<'_> {
    /// From an entry on: accepted, dropped, or back to where it was jumped from. `maybe` is a chain of which it is not
    /// known whether it is reached.
    fn chain(&mut self, mut at: usize, maybe: bool) -> Option<bool> {
        loop {
            self.steps += 1;
            let entry = self.table.entry(at).filter(|_| self.steps < 100_000)?;
            let answer = self.answer(entry).min(if maybe { Answer::Maybe } else { Answer::Yes });
            let next = at + entry.len();
            if answer == Answer::No {
                at = next;
                continue;
            }
            let layout = self.table.layout();
            let target = entry.get(usize::from(short(entry, layout.target)?)..)?;
            let decided = match name(target.get(2..31)?).as_str() {
                "" => match number(target, 32)? as i32 {
                    // RETURN, as NF_REPEAT less one.
                    -5 if answer == Answer::Yes => return None,
                    -5 => None,
                    verdict @ ..0 => Some(-verdict - 1 == 1),
                    to if to as usize == next => None,
                    to if answer == Answer::Maybe => {
                        if self.unsure.insert(to as usize) {
                            self.chain(to as usize, true);
                        }
                        None
                    }
                    to => {
                        let decided = self.chain(to as usize, false);
                        if decided.is_none() && entry[layout.flags] & 2 != 0 {
                            // A goto does not come back here.
                            return None;
                        }
                        decided
                    }
                },
                "ERROR" => return None,
                other => target_fate(other),
            };
            match (decided, answer) {
                (Some(true), Answer::Maybe) => self.maybe = true,
                (Some(_), Answer::Yes) => return decided,
                _ => {}
            }
            at = next;
        }
    }

    fn answer(&self, entry: &[u8]) -> Answer {
        let (layout, packet) = (self.table.layout(), self.packet);
        let inverted = |bit: u8| entry[layout.inverted] & bit != 0;
        let address = |number: usize| &entry[number * layout.address..(number + 1) * layout.address];
        let masked = |given: Option<std::net::IpAddr>, value: &[u8], mask: &[u8]| {
            if mask.iter().all(|byte| *byte == 0) {
                return Answer::Yes;
            }
            let same = |given: Vec<u8>| given.iter().zip(value).zip(mask).all(|((a, b), mask)| a & mask == *b);
            Answer::about(given.map(super::address::octets), same)
        };
        let linked = |given: &Option<(String, u32)>, at: usize| {
            let (wanted, mask) = (&entry[at..at + 16], &entry[at + 32..at + 48]);
            if mask[0] == 0 {
                return Answer::Yes;
            }
            let same = |(name, _): &(String, u32)| {
                let bytes = name.bytes().chain(std::iter::repeat(0));
                bytes.zip(wanted).zip(mask).all(|((a, b), mask)| a & mask == b & mask)
            };
            Answer::about(given.as_ref(), same)
        };
        let wanted = short(entry, layout.protocol).unwrap_or(0);
        let protocol = if wanted == 0 {
            Answer::Yes
        } else {
            Answer::about(packet.protocol, |protocol| u16::from(protocol) == wanted).inverted(inverted(NOT_PROTOCOL))
        };
        let any = |answer: Answer, mask: &[u8], bit: u8| {
            if mask.iter().all(|byte| *byte == 0) { answer } else { answer.inverted(inverted(bit)) }
        };
        let mut all = any(masked(packet.from, address(0), address(2)), address(2), NOT_FROM)
            .and(any(masked(packet.to, address(1), address(3)), address(3), NOT_TO))
            .and(linked(&packet.comes_by, layout.links).inverted(inverted(NOT_IN)))
            .and(linked(&packet.leaves_by, layout.links + 16).inverted(inverted(NOT_OUT)))
            .and(protocol);
        let end = short(entry, layout.target).map_or(0, usize::from);
        let mut matches = entry.get(layout.matches..end).unwrap_or_default();
        while let Some(length) = short(matches, 0).map(usize::from).filter(|length| *length >= 32) {
            let Some((one, rest)) = matches.split_at_checked(length) else { break };
            all = all.and(matches_of(&name(&one[2..31]), one[31], &one[32..], packet));
            matches = rest;
        }
        all
    }
}

/// What a target that is not plain does with a packet: true lets it through, nothing goes on.
pub fn target_fate(name: &str) -> Option<bool> {
    match name {
        "ACCEPT" => Some(true),
        "DROP" | "REJECT" | "TARPIT" | "STEAL" => Some(false),
        _ => None,
    }
}

/// Whether a match of iptables holds.
pub fn matches_of(name: &str, revision: u8, info: &[u8], packet: &Packet) -> Answer {
    match name {
        "comment" => Answer::Yes,
        "state" => Answer::about(number(info, 0), |mask| mask & packet.state() != 0),
        "conntrack" if revision >= 1 => conntrack(revision, info, packet).unwrap_or(Answer::Maybe),
        "tcp" => Answer::Yes
            .and(ports(info, 4, packet).inverted(info.get(11).is_some_and(|flags| flags & 2 != 0)))
            .and(if short(info, 0) == Some(0) && short(info, 2) == Some(0xffff) { Answer::Yes } else { Answer::Maybe })
            .and(flags(info, packet)),
        "udp" => Answer::Yes
            .and(ports(info, 4, packet).inverted(info.get(8).is_some_and(|flags| flags & 2 != 0)))
            .and(if short(info, 0) == Some(0) && short(info, 2) == Some(0xffff) { Answer::Yes } else { Answer::Maybe }),
        "multiport" => multiport(info, packet).unwrap_or(Answer::Maybe),
        "addrtype" if revision == 1 => {
            // What is forwarded goes from one ordinary address to another.
            const UNICAST: u16 = 1 << 1;
            let kind = |at: usize| match short(info, at) {
                Some(0) => Answer::Yes,
                mask => Answer::about(mask, |mask| mask & UNICAST != 0),
            };
            let inverted = number(info, 4).unwrap_or(0);
            kind(0).inverted(inverted & 1 != 0).and(kind(2).inverted(inverted & 2 != 0))
        }
        _ => Answer::Maybe,
    }
}

/// `struct xt_conntrack_mtinfo1` to 3: states and statuses; the rest is not known.
fn conntrack(revision: u8, info: &[u8], packet: &Packet) -> Option<Answer> {
    const STATE: u16 = 1;
    const STATUS: u16 = 1 << 6;
    const ALIAS: u16 = 1 << 13;
    const REDIRECTED: u32 = 1 << 7;
    let (wanted, inverted) = (short(info, 146)?, short(info, 148)?);
    let masks = match revision {
        1 => (u32::from(*info.get(150)?), u32::from(*info.get(151)?)),
        _ => (u32::from(short(info, 150)?), u32::from(short(info, 152)?)),
    };
    let mut answer = if wanted & !(STATE | STATUS | ALIAS) == 0 { Answer::Yes } else { Answer::Maybe };
    if wanted & STATE != 0 {
        let state = packet.state() | if packet.is_redirected { REDIRECTED } else { 0 };
        answer = answer.and(Answer::of(masks.0 & state != 0).inverted(inverted & STATE != 0));
    }
    if wanted & STATUS != 0 {
        answer = answer.and(Answer::of(masks.1 & packet.status() != 0).inverted(inverted & STATUS != 0));
    }
    Some(answer)
}

fn ports(info: &[u8], at: usize, packet: &Packet) -> Answer {
    match (short(info, at), short(info, at + 2)) {
        (Some(0), Some(0xffff)) => Answer::Yes,
        (Some(first), Some(last)) => Answer::about(packet.to_port, |port| (first..=last).contains(&port)),
        _ => Answer::Maybe,
    }
}

/// `--tcp-flags`: what begins a connection has SYN alone.
fn flags(info: &[u8], packet: &Packet) -> Answer {
    match info.get(9..12) {
        Some([0, _, _]) => Answer::Yes,
        Some([mask, wanted, inverted]) if packet.is_new => {
            Answer::of(0x02 & mask == *wanted).inverted(inverted & 8 != 0)
        }
        _ => Answer::Maybe,
    }
}

/// `struct xt_multiport_v1`.
fn multiport(info: &[u8], packet: &Packet) -> Option<Answer> {
    if *info.first()? != 1 {
        return None;
    }
    let count = usize::from(*info.get(1)?).min(15);
    let mut at = 0;
    let mut found = false;
    let Some(port) = packet.to_port else { return Some(Answer::Maybe) };
    while at < count {
        let first = short(info, 2 + 2 * at)?;
        let last = if *info.get(32 + at)? == 0 { first } else { short(info, 2 + 2 * (at + 1))? };
        at += if *info.get(32 + at)? == 0 { 1 } else { 2 };
        found |= (first..=last).contains(&port);
    }
    Some(Answer::of(found).inverted(*info.get(47)? != 0))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn name(bytes: &[u8]) -> String {
    super::netlink::text_of(bytes)
}
