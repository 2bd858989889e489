//! What rules of others do with what this host forwards: an accept of ours does not undo a drop of theirs. Their chains
//! are read and walked with a packet that is known in part; what depends on the rest is told as unsure, and what is not
//! understood as if it might let the packet through.

mod rule;

use super::firewall::is_ours;
use super::nftables::{self, Batch, DROP, INET, IPV4, IPV6, Name};
use super::packet::{Answer, Packet};
use super::port;
use super::ruleset::{self, Chain, Element, Rule};
use super::xtables::{self, Fate};
use crate::order::Entry;
use crate::order::Map;
use rule::{Outcome, State};
use std::cell::RefCell;
use std::io;

/// `NF_INET_*`: what is meant for this host, and what it passes on.
pub const INPUT: u32 = 1;
pub const FORWARD: u32 = 2;

/// Codes of verdicts (nf_tables.h).
const CONTINUE: i32 = -1;
const BREAK: i32 = -2;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// A chain that drops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    pub table: String,
    pub chain: String,
    /// It was loaded by the old iptables, and is not part of nf_tables.
    pub is_legacy: bool,
    /// Some may get through, by rules that ask for what is not known before.
    pub is_unsure: bool,
}

impl Block {
    /// The one line that lets it through.
    pub fn line(&self, way: &Way) -> String {
        let Block { family, table, chain, is_legacy, .. } = self;
        let by_iptables = matches!(chain.as_str(), "FORWARD" | "INPUT") && table == "filter" && family != "inet";
        if *is_legacy || by_iptables {
            let program = if family == "ip6" { "ip6tables" } else { "iptables" };
            let legacy = if *is_legacy { "-legacy" } else { "" };
            let what = match way {
                Way::To(bridge) => format!("-o {bridge}"),
                Way::From(bridge) => format!("-i {bridge}"),
                Way::Here(protocol, number) => format!("-p {} --dport {number}", port::name(*protocol)),
            };
            return format!("{program}{legacy} -I {chain} {what} -j ACCEPT");
        }
        let what = match way {
            Way::To(bridge) => format!("oifname {bridge}"),
            Way::From(bridge) => format!("iifname {bridge}"),
            Way::Here(protocol, number) => format!("{} dport {number}", port::name(*protocol)),
        };
        format!("nft insert rule {family} {table} {chain} {what} accept")
    }
}

/// What is to be let through: to a bridge, from one, or to a port of this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    To(String),
    From(String),
    Here(u8, u16),
}

/// The rules of others that see what is forwarded, or meant for this host.
pub struct Foreign {
    chains: Vec<Chain>,
    rules: Map<(u8, String), Vec<Rule>>,
    sets: RefCell<Map<(u8, String, String), Vec<Element>>>,
    legacy: Vec<(bool, xtables::Table)>,
}

fn family_name(family: u8) -> &'static str {
    match family {
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => "inet",
    }
}

impl Foreign {
    /// Reads them, but for our own tables.
    pub fn read() -> io::Result<Foreign> {
        let mut chains = match ruleset::chains() {
            // This kernel has no nf_tables.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPROTONOSUPPORT)) => Vec::new(),
            chains => chains?,
        };
        chains.retain(|chain| matches!(chain.family, INET | IPV4 | IPV6) && !is_ours(&chain.table));
        let mut rules = Map::new();
        for chain in chains.iter().filter(|chain| chain.hook.is_some_and(|it| matches!(it.hook, INPUT | FORWARD))) {
            if let Entry::Vacant(place) = rules.entry((chain.family, chain.table.clone())) {
                place.insert(ruleset::rules(chain.family, &chain.table, None)?);
            }
        }
        let mut legacy = Vec::new();
        for is_ipv4 in [true, false] {
            if let Ok(Some(table)) = xtables::Table::filter(is_ipv4) {
                legacy.push((is_ipv4, table));
            }
        }
        Ok(Foreign { chains, rules, sets: RefCell::default(), legacy })
    }

    /// The chains of a hook that do not let a packet through.
    pub fn blocks(&self, at: u32, packet: &Packet) -> Vec<Block> {
        let mut blocks = Vec::new();
        for chain in &self.chains {
            let sees = chain.family == INET || (chain.family == IPV4) == packet.is_ipv4;
            let Some(hook) = chain.hook.filter(|hook| hook.hook == at && sees) else { continue };
            let mut walk =
                Walk { foreign: self, packet, family: chain.family, table: &chain.table, maybe: false, depth: 0 };
            let end = walk.chain(&chain.name, false);
            let dropped = end == End::Dropped || end == End::Through && hook.policy == DROP as u32;
            if dropped {
                blocks.push(Block {
                    family: family_name(chain.family).to_owned(),
                    table: chain.table.clone(),
                    chain: chain.name.clone(),
                    is_legacy: false,
                    is_unsure: walk.maybe,
                });
            }
        }
        for (_, table) in self.legacy.iter().filter(|(is_ipv4, _)| *is_ipv4 == packet.is_ipv4) {
            let fate = table.fate(at, packet);
            if fate != Fate::Accepted {
                blocks.push(Block {
                    family: if packet.is_ipv4 { "ip" } else { "ip6" }.to_owned(),
                    table: "filter".to_owned(),
                    chain: if at == INPUT { "INPUT" } else { "FORWARD" }.to_owned(),
                    is_legacy: true,
                    is_unsure: fate == Fate::Unsure,
                });
            }
        }
        blocks
    }

    fn elements(&self, family: u8, table: &str, set: &str) -> Vec<Element> {
        let key = (family, table.to_owned(), set.to_owned());
        let read = || ruleset::elements(family, table, set).unwrap_or_default();
        self.sets.borrow_mut().entry(key).or_insert_with(read).clone()
    }
}

/// Puts a rule at the head of somebody's chain that lets something through, with a comment by which it is found again.
pub fn open(block: &Block, way: &Way, tag: &str) -> io::Result<()> {
    if block.is_legacy {
        let rule = xtables::Rule { tag, ..xtables::Rule::default() };
        let rule = match way {
            Way::To(bridge) => xtables::Rule { leaves_by: Some(bridge), ..rule },
            Way::From(bridge) => xtables::Rule { comes_by: Some(bridge), ..rule },
            Way::Here(protocol, number) => xtables::Rule { port: Some((*protocol, *number)), ..rule },
        };
        return xtables::open(block.family == "ip", if block.chain == "INPUT" { INPUT } else { FORWARD }, &rule);
    }
    let rule = nftables::Rule::new();
    let rule = match way {
        Way::To(bridge) => rule.leaves_by(Name::Is(bridge)),
        Way::From(bridge) => rule.comes_by(Name::Is(bridge)),
        Way::Here(protocol, number) => rule.at_port(*protocol, *number),
    };
    let mut batch = Batch::of(family(&block.family), &block.table);
    batch.insert(&block.chain, rule.decide(nftables::ACCEPT).comment(tag));
    batch.commit()
}

fn family(name: &str) -> u8 {
    match name {
        "ip" => IPV4,
        "ip6" => IPV6,
        _ => INET,
    }
}

/// Takes away every rule that bears a tag.
pub fn close(tag: &str) -> io::Result<()> {
    for is_ipv4 in [true, false] {
        // Without the old iptables in the kernel there is nothing of ours.
        match xtables::close(is_ipv4, tag) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::EAFNOSUPPORT)) => {}
            done => done?,
        }
    }
    let foreign = Foreign::read()?;
    for rule in foreign.rules.values().flatten().filter(|rule| rule.comment == tag) {
        let mut batch = Batch::of(rule.family, &rule.table);
        batch.delete_rule(&rule.chain, rule.handle);
        match batch.commit() {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            done => done?,
        }
    }
    Ok(())
}

/// Where a walk through a chain ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Accepted,
    Dropped,
    /// At its last rule, or by a return.
    Through,
}

struct Walk<'a> {
    foreign: &'a Foreign,
    packet: &'a Packet,
    family: u8,
    table: &'a str,
    /// A rule that may be meant lets it through.
    maybe: bool,
    depth: usize,
}

impl Walk<'_> {
    /// `maybe`: it is not known whether the packet comes to this chain.
    fn chain(&mut self, name: &str, maybe: bool) -> End {
        // The kernel has no more than 16 jumps in each other.
        if self.depth > 16 {
            return End::Through;
        }
        self.depth += 1;
        let end = self.rules(name, maybe);
        self.depth -= 1;
        end
    }

    fn rules(&mut self, name: &str, maybe: bool) -> End {
        let foreign = self.foreign;
        let rules = foreign.rules.get(&(self.family, self.table.to_owned())).into_iter().flatten();
        for rule in rules.filter(|rule| rule.chain == name) {
            let mut state = State::new(self.packet);
            let limit = if maybe { Answer::Maybe } else { Answer::Yes };
            let Outcome { answer, verdicts } = state.rule(rule, &|set| foreign.elements(self.family, self.table, set));
            let answer = answer.min(limit);
            if answer == Answer::No {
                continue;
            }
            // More than one where a map decides by what is not known.
            let sure = answer == Answer::Yes && verdicts.len() == 1;
            for verdict in &verdicts {
                match (verdict.code, sure) {
                    (JUMP | GOTO, _) => {
                        let end = self.chain(&verdict.chain, !sure);
                        if sure && (end != End::Through || verdict.code == GOTO) {
                            return end;
                        }
                    }
                    (CONTINUE | BREAK, _) | (RETURN, false) => {}
                    (RETURN, true) => return End::Through,
                    (code, true) => return if code == DROP { End::Dropped } else { End::Accepted },
                    (code, false) => self.maybe |= code != DROP,
                }
            }
        }
        End::Through
    }
}
