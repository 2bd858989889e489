//! What nf_tables has loaded, ours and others': chains, rules and elements of sets, as the kernel tells them.

use super::netlink::{DUMP, Message, Socket, attributes, text_of};
use super::nftables::{SUBSYSTEM, head};
use std::io;

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_ELEMENT: u16 = 13;
/// The fixed part of every answer.
const HEAD: usize = 4;

/// A chain; one without a hook is jumped to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// `NFPROTO_*`.
    pub family: u8,
    pub table: String,
    pub name: String,
    pub hook: Option<Hooked>,
}

/// Where a base chain stands, and what becomes of what it decides nothing about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hooked {
    /// `NF_INET_*`.
    pub hook: u32,
    pub priority: i32,
    pub policy: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub family: u8,
    pub table: String,
    pub chain: String,
    pub handle: u64,
    pub comment: String,
    pub expressions: Vec<Expression>,
}

/// The name of an expression, and its attributes as they were sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expression {
    pub name: String,
    pub data: Vec<u8>,
}

/// An element of a set or a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Element {
    pub key: Vec<u8>,
    /// The upper end of a range of concatenated values.
    pub key_end: Vec<u8>,
    pub data: Vec<u8>,
    pub verdict: Option<Verdict>,
    /// It ends a range, and is itself no part of it.
    pub is_end: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub code: i32,
    /// Where a jump leads.
    pub chain: String,
}

impl Expression {
    pub fn get(&self, attribute: u16) -> Option<&[u8]> {
        find(&self.data, attribute)
    }

    /// A number, which is big-endian in all of nf_tables.
    pub fn number(&self, attribute: u16) -> Option<u32> {
        self.get(attribute).and_then(be32)
    }
}

pub fn find(bytes: &[u8], attribute: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == attribute).map(|(_, value)| value)
}

pub fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// A value or a verdict, in the attributes of a datum.
pub fn verdict(datum: &[u8]) -> Option<Verdict> {
    let inner = find(datum, 2)?;
    let code = find(inner, 1).and_then(be32)? as i32;
    Some(Verdict { code, chain: find(inner, 2).map(text_of).unwrap_or_default() })
}

fn ask(kind: u16, family: u8, table: Option<&str>, second: Option<&str>) -> io::Result<Vec<super::netlink::Reply>> {
    let mut message = Message::new(SUBSYSTEM << 8 | kind, DUMP, &head(family, 0));
    if let Some(table) = table {
        message = message.text(1, table);
    }
    if let Some(second) = second {
        message = message.text(2, second);
    }
    Socket::netfilter()?.dump(message)
}

/// The chains of every table; empty where this kernel has no nf_tables.
pub fn chains() -> io::Result<Vec<Chain>> {
    let replies = ask(GET_CHAIN, 0, None, None)?;
    let chain = |reply: &super::netlink::Reply| {
        let hook = reply.get(HEAD, 4).and_then(|hook| {
            Some(Hooked {
                hook: find(hook, 1).and_then(be32)?,
                priority: find(hook, 2).and_then(be32)? as i32,
                policy: reply.get(HEAD, 5).and_then(be32).unwrap_or(1),
            })
        });
        Some(Chain {
            family: *reply.body.first()?,
            table: text_of(reply.get(HEAD, 1)?),
            name: text_of(reply.get(HEAD, 3)?),
            hook,
        })
    };
    Ok(replies.iter().filter_map(chain).collect())
}

/// The rules of a table, or of one of its chains, in order.
pub fn rules(family: u8, table: &str, chain: Option<&str>) -> io::Result<Vec<Rule>> {
    let replies = ask(GET_RULE, family, Some(table), chain)?;
    let rule = |reply: &super::netlink::Reply| {
        let expressions = attributes(reply.get(HEAD, 4).unwrap_or_default()).filter_map(|(_, one)| {
            let data = find(one, 2).unwrap_or_default().to_vec();
            Some(Expression { name: text_of(find(one, 1)?), data })
        });
        Some(Rule {
            family: *reply.body.first()?,
            table: text_of(reply.get(HEAD, 1)?),
            chain: text_of(reply.get(HEAD, 2)?),
            handle: u64::from_be_bytes(reply.get(HEAD, 3)?.try_into().ok()?),
            comment: reply.get(HEAD, 7).map(comment).unwrap_or_default(),
            expressions: expressions.collect(),
        })
    };
    Ok(replies.iter().filter_map(rule).collect())
}

/// The comment among what a program keeps with a rule: entries of kind, length and bytes; kind 0 is it.
fn comment(mut data: &[u8]) -> String {
    while let [kind, length, rest @ ..] = data {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        if *kind == 0 {
            return text_of(value);
        }
        data = rest;
    }
    String::new()
}

/// The elements of a set or a map. ENOENT where it is not there.
pub fn elements(family: u8, table: &str, set: &str) -> io::Result<Vec<Element>> {
    let replies = ask(GET_ELEMENT, family, Some(table), Some(set))?;
    let value = |element: &[u8], attribute: u16| {
        find(element, attribute).and_then(|datum| find(datum, 1)).unwrap_or_default().to_vec()
    };
    let element = |(_, element): (u16, &[u8])| Element {
        key: value(element, 1),
        key_end: value(element, 10),
        data: value(element, 2),
        verdict: find(element, 2).and_then(verdict),
        is_end: find(element, 3).and_then(be32).unwrap_or(0) & 1 != 0,
    };
    Ok(replies.iter().flat_map(|reply| attributes(reply.get(HEAD, 3).unwrap_or_default()).map(element)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found_among_other_data() {
        assert_eq!(comment(&[1, 1, 9, 0, 3, b'a', b'b', 0]), "ab");
        assert_eq!(comment(&[0, 9, b'a']), "");
        assert_eq!(comment(&[]), "");
    }
}
