//! nf_tables messages (nft(8), linux/netfilter/nf_tables.h): a batch that holds or fails as one, and the expressions
//! of which rules are made. All numbers of attributes are big-endian; data is as it stands in packets and registers.

use super::Subnet;
use super::address::octets;
use super::netlink::{APPEND, CREATE, Message, Socket};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const GET_GENERATION: u16 = 16;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

pub const INET: u8 = 1;
pub const IPV4: u8 = 2;
pub const IPV6: u8 = 10;

const LIST_ELEMENT: u16 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const SET_MAP: u32 = 8;
/// Rules add elements to it.
const SET_EVALUATED: u32 = 0x20;

/// Registers of 4 bytes each; a value goes over as many as it needs.
const R0: u32 = 8;
const VERDICT: u32 = 0;
pub const DROP: i32 = 0;
pub const ACCEPT: i32 = 1;
const JUMP: i32 = -3;

/// Where a base chain stands on the way of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// `struct nfgenmsg`.
pub(super) fn head(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &head(INET, 0))
}

/// Whether this kernel has nf_tables: others do not know the messages, or not even the protocol.
pub fn is_there() -> bool {
    if crate::failpoint::lacks("nf_tables") {
        return false;
    }
    let asked = Socket::netfilter().and_then(|socket| {
        let asked = socket.get(message(GET_GENERATION, 0));
        close_later(socket);
        asked
    });
    !asked.is_err_and(|error| {
        matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP))
    })
}

/// The comment of one of our tables; `None` where there is no such table.
pub fn comment(table: &str) -> io::Result<Option<String>> {
    let socket = Socket::netfilter()?;
    let comment = comment_by(&socket, table);
    close_later(socket);
    comment
}

/// The same in the network namespace of a socket.
pub fn comment_by(socket: &Socket, table: &str) -> io::Result<Option<String>> {
    match socket.get(message(GET_TABLE, 0).text(TABLE_NAME, table)) {
        Ok(reply) => {
            let data = reply.get(4, TABLE_USERDATA).unwrap_or_default();
            // One entry: kind 0, length, text with its NUL, as nft writes comments.
            Ok(Some(super::netlink::text_of(data.get(2..).unwrap_or_default())))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A map of concatenated values; its parts are spelt as nft knows them, so that it can print them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Map {
    pub name: &'static str,
    pub key: &'static [Field],
    pub data: &'static [Field],
}

/// A part of a concatenation, padded to whole registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field {
    Ipv4 = 7,
    Ipv6 = 8,
    Protocol = 12,
    Port = 13,
}

impl Field {
    fn length(self) -> u32 {
        if self == Field::Ipv6 { 16 } else { 4 }
    }
}

fn kind(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |kind, field| kind << 6 | *field as u32)
}

fn length(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.length()).sum()
}

/// Changes to one table.
pub struct Batch {
    family: u8,
    table: String,
    messages: Vec<Message>,
    deletes: bool,
}

/// Sockets that were used since this process deleted something. The kernel frees what was deleted once nobody looks at it
/// any more, some 10 ms later, and has everybody wait for that who closes a socket of netfilter's meanwhile: starts and
/// ends of containers do not. Who deletes nothing closes its own at once, and has none left when others delete.
static KEPT: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
const MOST_KEPT: usize = 16;
static DELETED: AtomicBool = AtomicBool::new(false);

/// Closes a socket; after a deletion with the end of this process, or when there are many. Not for one of a container's
/// network namespace, which lasts as long as its sockets.
pub(super) fn close_later(socket: Socket) {
    if !DELETED.load(Ordering::Relaxed) {
        return;
    }
    let mut kept = KEPT.lock().unwrap_or_else(|broken| broken.into_inner());
    let full = if kept.len() == MOST_KEPT { std::mem::take(&mut *kept) } else { Vec::new() };
    kept.push(socket);
    // To close them may take a while, for which nobody else waits.
    drop(kept);
    drop(full);
}

impl Batch {
    pub fn new(table: &str) -> Batch {
        Batch::of(INET, table)
    }

    /// To a table of another family than ours.
    pub fn of(family: u8, table: &str) -> Batch {
        let begin = Message::new(BATCH_BEGIN, 0, &head(0, SUBSYSTEM));
        Batch { family, table: table.to_owned(), messages: vec![begin], deletes: false }
    }

    fn message(&self, kind: u16, flags: u16) -> Message {
        Message::new(SUBSYSTEM << 8 | kind, flags, &head(self.family, 0))
    }

    fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    fn delete(&mut self, message: Message) {
        self.deletes = true;
        self.push(message);
    }

    /// Makes the table where there is none.
    pub fn table(&mut self, comment: &str) {
        let message = self.message(NEW_TABLE, CREATE).text(TABLE_NAME, &self.table);
        self.push(message.bytes(TABLE_USERDATA, &user_data(comment)));
    }

    pub fn delete_table(&mut self) {
        self.delete(self.message(DELETE_TABLE, 0).text(TABLE_NAME, &self.table));
    }

    /// A base chain that accepts what no rule of it decides. `kind` is `filter` or `nat`.
    pub fn chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        let message = self.message(NEW_CHAIN, CREATE).text(1, &self.table).text(3, name);
        let message = message.nest(4, |at| at.be32(1, hook as u32).be32(2, priority as u32));
        self.push(message.be32(5, ACCEPT as u32).text(7, kind));
    }

    /// A chain that packets come to by rules alone; see [`Rule::look_into`].
    pub fn inner_chain(&mut self, name: &str) {
        self.push(self.message(NEW_CHAIN, CREATE).text(1, &self.table).text(3, name));
    }

    pub fn map(&mut self, map: &Map, id: u32) {
        let message = self.message(NEW_SET, CREATE).text(1, &self.table).text(2, map.name).be32(3, SET_MAP);
        let message = message.be32(4, kind(map.key)).be32(5, length(map.key));
        self.push(message.be32(6, kind(map.data)).be32(7, length(map.data)).be32(10, id));
    }

    /// A set of pairs of links, which rules fill; see [`Rule::stays_on_bridge`].
    pub fn pairs_of_links(&mut self, name: &str, id: u32) {
        /// The index of a link, as nft knows it.
        const LINK: u32 = 20;
        let message = self.message(NEW_SET, CREATE).text(1, &self.table).text(2, name).be32(3, SET_EVALUATED);
        let message = message.be32(4, LINK << 6 | LINK).be32(5, 8);
        self.push(message.nest(9, |room| room.be32(1, 65_535)).be32(10, id));
    }

    pub fn add(&mut self, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        self.elements(NEW_ELEMENT, CREATE, map, elements);
    }

    pub fn remove(&mut self, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        self.deletes = true;
        self.elements(DELETE_ELEMENT, 0, map, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, map: &str, elements: &[(Vec<u8>, Vec<u8>)]) {
        // An attribute holds 64 KiB at most.
        for some in elements.chunks(512) {
            let message = self.message(kind, flags).text(1, &self.table).text(2, map);
            self.push(message.nest(3, |list| {
                some.iter().fold(list, |list, (key, data)| {
                    list.nest(LIST_ELEMENT, |element| {
                        element.nest(1, |value| value.bytes(1, key)).nest(2, |value| value.bytes(1, data))
                    })
                })
            }));
        }
    }

    pub fn rule(&mut self, chain: &str, rule: Rule) {
        let message = self.message(NEW_RULE, CREATE | APPEND).text(1, &self.table).text(2, chain);
        self.push(rule.onto(message));
    }

    /// Puts a rule at the head of a chain.
    pub fn insert(&mut self, chain: &str, rule: Rule) {
        let message = self.message(NEW_RULE, CREATE).text(1, &self.table).text(2, chain);
        self.push(rule.onto(message));
    }

    /// Puts a rule before another one.
    pub fn insert_before(&mut self, chain: &str, handle: u64, rule: Rule) {
        let message = self.message(NEW_RULE, CREATE).text(1, &self.table).text(2, chain);
        self.push(rule.onto(message.bytes(6, &handle.to_be_bytes())));
    }

    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        let message = self.message(DELETE_RULE, 0).text(1, &self.table).text(2, chain);
        self.delete(message.bytes(3, &handle.to_be_bytes()));
    }

    /// Has the kernel do all of it, or nothing.
    pub fn commit(self) -> io::Result<()> {
        let socket = Socket::netfilter()?;
        let done = self.commit_by(&socket);
        close_later(socket);
        done
    }

    /// The same in the network namespace of a socket, which is not used any more after an error.
    pub fn commit_by(mut self, socket: &Socket) -> io::Result<()> {
        // Nothing but its beginning.
        let Some(last) = self.messages.pop().filter(|_| !self.messages.is_empty()) else { return Ok(()) };
        self.messages.push(last.acknowledged());
        let last = self.messages.len() as u32;
        self.messages.push(Message::new(BATCH_END, 0, &head(0, SUBSYSTEM)));
        DELETED.fetch_or(self.deletes, Ordering::Relaxed);
        socket.batch(self.messages, last)
    }
}

/// A comment as nft writes it: kind 0, length, text with its NUL. It has room for 128 bytes in some versions of nft.
fn user_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(254)];
    [&[0, text.len() as u8 + 1], text, &[0]].concat()
}

/// The expressions of a rule: matches in order, and what is done with a packet that all of them match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    expressions: Vec<(&'static str, Vec<u8>)>,
    comment: String,
}

const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_IIFGROUP: u32 = 21;
const META_OIFGROUP: u32 = 22;
const META_IIFKIND: u32 = 26;
const META_OIFKIND: u32 = 27;
const META_L4PROTO: u32 = 16;
const EQUAL: u32 = 0;
pub(super) const NOT_EQUAL: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// Bits of ct state and ct status.
const ESTABLISHED_RELATED: u32 = 1 << 1 | 1 << 2;
const DESTINATION_NAT: u32 = 1 << 5;

/// The attributes of an expression.
fn attributes(fill: impl FnOnce(Message) -> Message) -> Vec<u8> {
    fill(Message::empty()).into_bytes()
}

/// A link, by its name or its group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Name<'a> {
    Is(&'a str),
    IsNot(&'a str),
    /// As others write rules.
    #[cfg(test)]
    Begins(&'a str),
    /// In this group of links.
    In(u32),
}

impl Rule {
    pub fn new() -> Rule {
        Rule::default()
    }

    fn with(mut self, name: &'static str, fill: impl FnOnce(Message) -> Message) -> Rule {
        self.expressions.push((name, attributes(fill)));
        self
    }

    /// What nft prints behind it.
    pub fn comment(mut self, text: &str) -> Rule {
        text.clone_into(&mut self.comment);
        self
    }

    pub fn is_called(&self, comment: &str) -> bool {
        self.comment == comment
    }

    /// As it is read back.
    #[cfg(test)]
    pub fn told(&self) -> Vec<super::ruleset::Expression> {
        let told = |(name, data): &(&str, Vec<u8>)| super::ruleset::Expression {
            name: (*name).to_owned(),
            data: data.clone(),
        };
        self.expressions.iter().map(told).collect()
    }

    /// Adds its attributes to a message that makes a rule.
    fn onto(self, message: Message) -> Message {
        let message = message.nest(4, |list| {
            self.expressions.into_iter().fold(list, |list, (name, data)| {
                list.nest(LIST_ELEMENT, |expression| expression.text(1, name).nest(2, |inner| inner.raw(&data)))
            })
        });
        if self.comment.is_empty() { message } else { message.bytes(7, &user_data(&self.comment)) }
    }

    fn meta(self, key: u32, register: u32) -> Rule {
        self.with("meta", |it| it.be32(1, register).be32(2, key))
    }

    fn compare(self, operation: u32, value: &[u8]) -> Rule {
        self.with("cmp", |it| it.be32(1, R0).be32(2, operation).nest(3, |data| data.bytes(1, value)))
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Rule {
        self.with("payload", |it| it.be32(1, register).be32(2, base).be32(3, offset).be32(4, length))
    }

    /// Any bit of `mask` set in what `self` has loaded.
    fn any_bit(self, mask: u32) -> Rule {
        let mask = mask.to_ne_bytes();
        let rule = self.with("bitwise", |it| {
            let it = it.be32(1, R0).be32(2, R0).be32(3, 4);
            it.nest(4, |data| data.bytes(1, &mask)).nest(5, |data| data.bytes(1, &[0; 4]))
        });
        rule.compare(NOT_EQUAL, &[0; 4])
    }

    fn link(self, key: u32, name: Name) -> Rule {
        // Whole names are compared with all 16 bytes that the kernel keeps of them.
        let whole = |name: &str| {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(libc::IFNAMSIZ, 0);
            bytes
        };
        let group = if key == META_IIFNAME { META_IIFGROUP } else { META_OIFGROUP };
        match name {
            Name::Is(name) => self.meta(key, R0).compare(EQUAL, &whole(name)),
            Name::IsNot(name) => self.meta(key, R0).compare(NOT_EQUAL, &whole(name)),
            #[cfg(test)]
            Name::Begins(name) => self.meta(key, R0).compare(EQUAL, name.as_bytes()),
            Name::In(number) => self.meta(group, R0).compare(EQUAL, &number.to_ne_bytes()),
        }
    }

    /// Came in by that link.
    pub fn comes_by(self, name: Name) -> Rule {
        self.link(META_IIFNAME, name)
    }

    /// Goes out by that link.
    pub fn leaves_by(self, name: Name) -> Rule {
        self.link(META_OIFNAME, name)
    }

    /// Came in by a bridge and goes out by the same one, as a frame does that only passes on it (br_netfilter). The kernel
    /// compares no two values of a packet (before Linux 6.13), but finds both in a set: that of pairs of two times the
    /// same link, which the one by which this packet came has just been added to.
    pub fn stays_on_bridge(self, pairs: &str, id: u32) -> Rule {
        let rule = self.link(META_IIFKIND, Name::Is("bridge")).link(META_OIFKIND, Name::Is("bridge"));
        let rule = rule.meta(META_IIF, R0).meta(META_IIF, R0 + 1);
        let rule = rule.with("dynset", |it| it.text(1, pairs).be32(2, id).be32(3, 0).be32(4, R0));
        rule.meta(META_OIF, R0 + 1).with("lookup", |it| it.text(1, pairs).be32(2, R0).be32(4, id))
    }

    /// [`IPV4`] or [`IPV6`].
    pub fn family(self, family: u8) -> Rule {
        self.meta(META_NFPROTO, R0).compare(EQUAL, &[family])
    }

    pub fn from(self, subnet: Subnet) -> Rule {
        self.address(subnet, if subnet.is_ipv4() { 12 } else { 8 }, EQUAL)
    }

    pub fn not_from(self, subnet: Subnet) -> Rule {
        self.address(subnet, if subnet.is_ipv4() { 12 } else { 8 }, NOT_EQUAL)
    }

    pub fn to(self, subnet: Subnet) -> Rule {
        self.address(subnet, if subnet.is_ipv4() { 16 } else { 24 }, EQUAL)
    }

    /// `IPPROTO_*`.
    pub fn protocol(self, protocol: u8) -> Rule {
        self.meta(META_L4PROTO, R0).compare(EQUAL, &[protocol])
    }

    /// Goes to a port, in the terms of a protocol.
    pub fn at_port(self, protocol: u8, port: u16) -> Rule {
        let rule = self.protocol(protocol);
        rule.payload(TRANSPORT_HEADER, 2, 2, R0).compare(EQUAL, &port.to_be_bytes())
    }

    fn address(self, subnet: Subnet, offset: u32, operation: u32) -> Rule {
        let first = octets(subnet.first);
        let rule = self.family(if subnet.is_ipv4() { IPV4 } else { IPV6 });
        let rule = rule.payload(NETWORK_HEADER, offset, first.len() as u32, R0);
        let mask: Vec<u8> = (0..first.len())
            .map(|byte| {
                let bits = (i32::from(subnet.prefix) - 8 * byte as i32).clamp(0, 8) as u32;
                0xffu32.checked_shl(8 - bits).unwrap_or(0) as u8
            })
            .collect();
        let zeros = vec![0; first.len()];
        let rule = rule.with("bitwise", |it| {
            let it = it.be32(1, R0).be32(2, R0).be32(3, first.len() as u32);
            it.nest(4, |data| data.bytes(1, &mask)).nest(5, |data| data.bytes(1, &zeros))
        });
        rule.compare(operation, &first)
    }

    /// Goes to an address of this host.
    pub fn for_this_host(self) -> Rule {
        // fib daddr type local.
        let rule = self.with("fib", |it| it.be32(1, R0).be32(2, 3).be32(3, 2));
        rule.compare(EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// Belongs to a connection that was let through before, or to one that belongs to such.
    pub fn established(self) -> Rule {
        self.with("ct", |it| it.be32(1, R0).be32(2, CT_STATE)).any_bit(ESTABLISHED_RELATED)
    }

    /// Belongs to a connection whose destination was changed: to a published port.
    pub fn redirected(self) -> Rule {
        self.with("ct", |it| it.be32(1, R0).be32(2, CT_STATUS)).any_bit(DESTINATION_NAT)
    }

    pub fn decide(self, verdict: i32) -> Rule {
        self.with("immediate", |it| {
            it.be32(1, VERDICT).nest(2, |data| data.nest(2, |code| code.be32(1, verdict as u32)))
        })
    }

    /// Has a packet go on by the rules of another chain, and behind this one if they do not decide.
    pub fn look_into(self, chain: &str) -> Rule {
        self.with("immediate", |it| {
            it.be32(1, VERDICT).nest(2, |data| data.nest(2, |code| code.be32(1, JUMP as u32).text(2, chain)))
        })
    }

    pub fn masquerade(self) -> Rule {
        self.with("masq", |it| it)
    }

    /// Changes address and port of the destination to what a map has for them. The map's key is `[address .] protocol .
    /// port`; its data is `address . port`.
    pub fn redirect(self, family: u8, map: &Map, id: u32) -> Rule {
        let mut rule = self.family(family);
        let mut register = R0;
        for field in map.key {
            rule = match field {
                Field::Ipv4 => rule.payload(NETWORK_HEADER, 16, 4, register),
                Field::Ipv6 => rule.payload(NETWORK_HEADER, 24, 16, register),
                Field::Protocol => rule.meta(META_L4PROTO, register),
                Field::Port => rule.payload(TRANSPORT_HEADER, 2, 2, register),
            };
            register += field.length() / 4;
        }
        let rule = rule.with("lookup", |it| it.text(1, map.name).be32(2, R0).be32(3, R0).be32(4, id));
        let port = R0 + length(&map.data[..1]) / 4;
        rule.with("nat", |it| it.be32(1, 1).be32(2, family.into()).be32(3, R0).be32(5, port))
    }
}
