//! Changes tables that the old iptables has loaded. The kernel takes such a table as a whole only, so a change is to read
//! it, to put an entry in or take one out, and to load it again, with what its rules have counted.
//!
//! Others do the same. Those who hold the lock of iptables meanwhile are waited for, as they wait for us; those who do not
//! are noticed by the kernel where they changed the number of entries, and then it is read anew.

use super::{ENTRIES, INFO, LAYOUT4, LAYOUT6, Layout, NAME, Table, name, number, short};
use crate::net::port;
use crate::sys::net::{add_counters, replace_table};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// iptables' own (xtables_lock(8) since 1.4.20).
const LOCK: &str = "/run/xtables.lock";
const PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(5);

/// `struct xt_counters`.
const COUNTER: usize = 16;
/// The heads of a match and of a target, each with its name.
const HEAD: usize = 32;
const COMMENT: usize = 256;
/// `NF_ACCEPT`, as iptables writes verdicts.
const ACCEPT: i32 = -2;

/// A rule that lets something through, and bears a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule<'a> {
    pub comes_by: Option<&'a str>,
    pub leaves_by: Option<&'a str>,
    /// A protocol (TCP or UDP) and a port.
    pub port: Option<(u8, u16)>,
    pub tag: &'a str,
}

/// Puts a rule at the head of the chain of a hook (`NF_INET_*`), if it does not stand there somewhere.
pub fn open(is_ipv4: bool, hook: u32, rule: &Rule) -> io::Result<()> {
    let entry = entry(layout(is_ipv4), rule);
    change(is_ipv4, |table| match table.entries().any(|(_, one)| table.same(one, &entry)) {
        true => None,
        false => table.with(hook as usize, &entry),
    })
}

/// Takes every rule of a family that bears a name away.
pub fn close(is_ipv4: bool, tag: &str) -> io::Result<()> {
    change(is_ipv4, |table| {
        let ours = table.entries().find(|(_, entry)| comment(table.layout(), entry).as_deref() == Some(tag))?.0;
        table.without(ours)
    })
}

/// What is to be loaded instead, and which entry of it is new, or of the one before is not in it any more.
struct Change {
    table: Table,
    new: Option<usize>,
    gone: Option<usize>,
}

/// Changes the table `filter` of a family until there is nothing left to change; one that is not there is left so.
fn change(is_ipv4: bool, edit: impl Fn(&Table) -> Option<Change>) -> io::Result<()> {
    let Some(table) = Table::filter(is_ipv4)? else { return Ok(()) };
    // Most often there is nothing to do.
    if edit(&table).is_none() {
        return Ok(());
    }
    let _lock = lock()?;
    for _ in 0..100 {
        let Some(table) = Table::filter(is_ipv4)? else { return Ok(()) };
        let Some(change) = edit(&table) else { return Ok(()) };
        match load(&table, &change) {
            // Somebody was quicker.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            done => done?,
        }
    }
    Err(io::Error::other("others change it all the time"))
}

/// Where it cannot be made, iptables cannot make it either.
fn lock() -> io::Result<Option<Flock<File>>> {
    let mut options = File::options();
    let Ok(mut file) = options.write(true).create(true).truncate(false).mode(0o600).open(LOCK) else { return Ok(None) };
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, error)) => return Err(error.into()),
        }
        std::thread::sleep(STEP);
    }
    Err(io::Error::other(format!("somebody holds {LOCK}")))
}

fn load(old: &Table, change: &Change) -> io::Result<()> {
    let Change { table, new, gone } = change;
    let mut counters = vec![0; COUNTER * old.count];
    let mut request = vec![0; NAME];
    request[..6].copy_from_slice(b"filter");
    let numbers = [table.valid, table.count as u32, table.entries.len() as u32];
    let places = table.hooks.iter().chain(&table.underflows).map(|place| *place as u32);
    for number in numbers.into_iter().chain(places).chain([old.count as u32]) {
        request.extend(number.to_ne_bytes());
    }
    let socket = Table::socket(table.is_ipv4)?;
    replace_table(socket.as_fd(), Table::level(table.is_ipv4), &request, &table.entries, &mut counters)?;
    crate::failpoint::reach("cooperate.replaced");
    // What was counted goes on; without it the table is whole all the same.
    let mut kept: Vec<&[u8]> = counters.chunks(COUNTER).collect();
    if let Some(gone) = gone {
        kept.remove(*gone);
    }
    if let Some(new) = new {
        kept.insert(*new, &[0; COUNTER]);
    }
    let mut request = request[..NAME].to_vec();
    request.extend((table.count as u32).to_ne_bytes());
    request.extend([0; 4]);
    request.extend(kept.concat());
    let _ = add_counters(socket.as_fd(), Table::level(table.is_ipv4), &request);
    Ok(())
}

fn layout(is_ipv4: bool) -> &'static Layout {
    if is_ipv4 { &LAYOUT4 } else { &LAYOUT6 }
}

/// Lengths are of whole `u64`s.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// A match or a target: its length, its name, its revision, and what it says.
fn part(kind: &str, data: &[u8]) -> Vec<u8> {
    let mut part = vec![0; aligned(HEAD + data.len())];
    let length = part.len() as u16;
    part[..2].copy_from_slice(&length.to_ne_bytes());
    part[2..2 + kind.len()].copy_from_slice(kind.as_bytes());
    part[HEAD..HEAD + data.len()].copy_from_slice(data);
    part
}

/// `struct ipt_entry` or `struct ip6t_entry`, with its matches and its target.
fn entry(layout: &Layout, rule: &Rule) -> Vec<u8> {
    let mut entry = vec![0; layout.matches];
    for (link, at) in [(rule.comes_by, layout.links), (rule.leaves_by, layout.links + 16)] {
        let bytes = link.unwrap_or_default().as_bytes();
        entry[at..at + bytes.len()].copy_from_slice(bytes);
        // The whole name with its end.
        let mask = if bytes.is_empty() { 0 } else { bytes.len() + 1 };
        entry[at + 32..at + 32 + mask].fill(0xff);
    }
    if let Some((protocol, number)) = rule.port {
        entry[layout.protocol..layout.protocol + 2].copy_from_slice(&u16::from(protocol).to_ne_bytes());
        if layout.address == 16 {
            // IPv6 asks for a protocol only where that is said.
            entry[layout.flags] = 1;
        }
        let ports = [0, u16::MAX, number, number].map(u16::to_ne_bytes).concat();
        match protocol {
            port::UDP => entry.extend(part("udp", &[&ports[..], &[0; 2]].concat())),
            _ => entry.extend(part("tcp", &[&ports[..], &[0; 4]].concat())),
        }
    }
    let mut text = rule.tag.as_bytes().to_vec();
    text.resize(COMMENT, 0);
    entry.extend(part("comment", &text));
    let target = entry.len() as u16;
    entry.extend(part("", &ACCEPT.to_ne_bytes()));
    let next = entry.len() as u16;
    entry[layout.target..layout.target + 2].copy_from_slice(&target.to_ne_bytes());
    entry[layout.next..layout.next + 2].copy_from_slice(&next.to_ne_bytes());
    entry
}

/// What an entry's comment says.
fn comment(layout: &Layout, entry: &[u8]) -> Option<String> {
    let end = short(entry, layout.target)?.into();
    let mut matches = entry.get(layout.matches..end)?;
    while let Some(length) = short(matches, 0).map(usize::from).filter(|length| *length >= HEAD) {
        let (one, rest) = matches.split_at_checked(length)?;
        if name(&one[2..31]) == "comment" {
            return Some(name(&one[HEAD..]));
        }
        matches = rest;
    }
    None
}

impl Table {
    /// Each entry with the place where it begins.
    fn entries(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (place, entry) = (at, self.entry(at)?);
            at += entry.len();
            Some((place, entry))
        })
    }

    /// Whether two entries say the same, whatever they have counted.
    fn same(&self, one: &[u8], other: &[u8]) -> bool {
        let Layout { inverted, matches, .. } = *self.layout();
        one.len() == other.len() && one[..=inverted] == other[..=inverted] && one[matches..] == other[matches..]
    }

    /// With an entry at the head of a hook's chain.
    fn with(&self, hook: usize, entry: &[u8]) -> Option<Change> {
        let at = *self.hooks.get(hook)?;
        let number = self.entries().position(|(place, _)| place == at)?;
        let mut table = self.moved(|place| if place >= at { place + entry.len() } else { place });
        table.entries.splice(at..at, entry.iter().copied());
        table.hooks[hook] = at;
        table.count += 1;
        Some(Change { table, new: Some(number), gone: None })
    }

    /// Without the entry at a place.
    fn without(&self, at: usize) -> Option<Change> {
        let number = self.entries().position(|(place, _)| place == at)?;
        let length = self.entry(at)?.len();
        let mut table = self.moved(|place| if place > at { place - length } else { place });
        table.entries.drain(at..at + length);
        table.count -= 1;
        Some(Change { table, new: None, gone: Some(number) })
    }

    /// The same entries, which know that they will stand elsewhere: where jumps and hooks lead.
    fn moved(&self, to: impl Fn(usize) -> usize) -> Table {
        let mut table = self.clone();
        let places: Vec<usize> = self.entries().map(|(place, _)| place).collect();
        for place in places {
            let Some(target) = self.entry(place).and_then(|it| short(it, self.layout().target)) else { continue };
            let target = place + usize::from(target);
            let is_plain = self.entries.get(target + 2..target + 31).is_some_and(|text| name(text).is_empty());
            let verdict = number(&self.entries, target + HEAD).map(|verdict| verdict as i32);
            if let Some(verdict) = verdict.filter(|verdict| is_plain && *verdict >= 0) {
                let moved = to(verdict as usize) as i32;
                table.entries[target + HEAD..target + HEAD + 4].copy_from_slice(&moved.to_ne_bytes());
            }
        }
        for (hook, place) in table.hooks.iter_mut().zip(&mut table.underflows).enumerate() {
            if self.valid & 1 << hook != 0 {
                (*place.0, *place.1) = (to(*place.0), to(*place.1));
            }
        }
        table
    }
}

const _: () = assert!(ENTRIES == NAME + 8 && INFO == NAME + 52);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::Packet;
    use crate::net::xtables::Fate;

    /// A plain rule that goes to a place, or decides.
    fn goes(layout: &Layout, verdict: i32) -> Vec<u8> {
        let mut entry = vec![0; layout.matches];
        entry.extend(part("", &verdict.to_ne_bytes()));
        let (target, next) = (layout.matches as u16, entry.len() as u16);
        entry[layout.target..layout.target + 2].copy_from_slice(&target.to_ne_bytes());
        entry[layout.next..layout.next + 2].copy_from_slice(&next.to_ne_bytes());
        entry
    }

    /// INPUT accepts, FORWARD jumps to a chain that returns and drops, OUTPUT accepts.
    fn table(is_ipv4: bool) -> Table {
        let layout = layout(is_ipv4);
        let length = goes(layout, 0).len() as i32;
        let verdicts = [-2, 4 * length, -1, -2, -5];
        Table {
            is_ipv4,
            entries: verdicts.into_iter().flat_map(|verdict| goes(layout, verdict)).collect(),
            hooks: [u32::MAX as usize, 0, length as usize, 3 * length as usize, u32::MAX as usize],
            underflows: [0, 0, 2 * length as usize, 3 * length as usize, 0],
            valid: 0b1110,
            count: 5,
        }
    }

    #[test]
    fn what_is_put_in_comes_out_again() {
        for is_ipv4 in [true, false] {
            let before = table(is_ipv4);
            let packet = Packet {
                comes_by: Some(("lan0".into(), 1)),
                leaves_by: Some(("dhow0".into(), 2)),
                is_ipv4,
                from: None,
                to: None,
                protocol: Some(port::TCP),
                to_port: Some(80),
                is_new: true,
                is_redirected: false,
            };
            let fates = |table: &Table| [1, 2, 3].map(|hook| table.fate(hook, &packet));
            assert_eq!(fates(&before), [Fate::Accepted, Fate::Dropped, Fate::Accepted]);
            let rule = |leaves_by| Rule { leaves_by: Some(leaves_by), tag: "dhow", ..Rule::default() };
            for (rule, hook, opens) in [
                (rule("dhow0"), 2, true),
                (rule("dhow"), 2, false),
                (Rule { port: Some((port::TCP, 80)), tag: "dhow", ..Rule::default() }, 2, true),
                (Rule { port: Some((port::UDP, 80)), tag: "dhow", ..Rule::default() }, 2, false),
                (rule("dhow0"), 1, false),
            ] {
                let entry = entry(layout(is_ipv4), &rule);
                let Change { table: with, new, .. } = before.with(hook, &entry).unwrap();
                assert_eq!(new, Some(if hook == 2 { 1 } else { 0 }));
                let fate = if opens { Fate::Accepted } else { Fate::Dropped };
                assert_eq!(fates(&with), [Fate::Accepted, fate, Fate::Accepted], "{rule:?}");
                let (place, one) = with.entries().find(|(_, one)| with.same(one, &entry)).unwrap();
                assert_eq!((comment(with.layout(), one).as_deref(), with.hooks[hook]), (Some("dhow"), place));
                let without = with.without(place).unwrap().table;
                assert_eq!((&without.entries, without.hooks), (&before.entries, before.hooks), "{rule:?}");
                assert_eq!((without.underflows, without.count), (before.underflows, before.count));
            }
        }
    }
}
