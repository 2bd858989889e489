//! What rules of others do with what this host forwards: an accept of ours does not undo a drop of theirs. Their chains
//! are read and walked with a packet that is known in part; what depends on the rest is told as unsure, and what is not
//! understood as if it might let the packet through.

use super::netlink::text_of;
use super::nftables::{self, Batch, DROP, INET, IPV4, IPV6, Name};
use super::packet::{Answer, Packet};
use super::port;
use super::ruleset::{self, Chain, Element, Expression, Rule, Verdict};
use super::xtables::{self, Fate};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    rules: BTreeMap<(u8, String), Vec<Rule>>,
    sets: RefCell<BTreeMap<(u8, String, String), Vec<Element>>>,
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
        let mut rules = BTreeMap::new();
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

/// Tables of any store of ours.
fn is_ours(table: &str) -> bool {
    table == "dhow" || table.starts_with("dhow-")
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

/// What a rule comes to.
struct Outcome {
    answer: Answer,
    verdicts: Vec<Verdict>,
}

/// The registers, byte by byte as far as they are known.
struct State<'a> {
    packet: &'a Packet,
    registers: [Option<u8>; 64],
}

const META_PROTOCOL: u32 = 1;
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;

impl State<'_> {
    fn new(packet: &Packet) -> State<'_> {
        State { packet, registers: [None; 64] }
    }

    fn at(register: u32) -> usize {
        match register {
            1..=4 => (register as usize - 1) * 16,
            8..=23 => (register as usize - 8) * 4,
            _ => 0,
        }
    }

    fn load(&mut self, register: Option<u32>, value: &[Option<u8>], length: usize) {
        let Some(register) = register else { return };
        let start = State::at(register);
        let end = (start + length.max(value.len()).next_multiple_of(4)).min(64);
        self.registers[start..end].fill(None);
        for (place, byte) in self.registers[start..end].iter_mut().zip(value) {
            *place = *byte;
        }
    }

    fn known(&mut self, register: Option<u32>, value: &[u8]) {
        self.load(register, &value.iter().map(|byte| Some(*byte)).collect::<Vec<_>>(), value.len());
    }

    fn value(&self, register: u32, length: usize) -> &[Option<u8>] {
        let start = State::at(register);
        &self.registers[start..(start + length).min(64)]
    }

    fn rule(&mut self, rule: &Rule, elements: &dyn Fn(&str) -> Vec<Element>) -> Outcome {
        let mut answer = Answer::Yes;
        let mut verdicts = Vec::new();
        for expression in &rule.expressions {
            let now = self.step(expression, elements, &mut verdicts);
            answer = answer.and(now);
            if answer == Answer::No || !verdicts.is_empty() {
                break;
            }
        }
        Outcome { answer, verdicts }
    }

    fn step(
        &mut self,
        it: &Expression,
        elements: &dyn Fn(&str) -> Vec<Element>,
        verdicts: &mut Vec<Verdict>,
    ) -> Answer {
        let packet = self.packet;
        match it.name.as_str() {
            "counter" | "log" | "notrack" | "dynset" | "objref" | "last" | "flow_offload" => Answer::Yes,
            "meta" => {
                self.meta(it);
                Answer::Yes
            }
            "ct" => {
                let register = it.number(1);
                match it.number(2) {
                    Some(CT_STATE) => self.known(register, &packet.state().to_ne_bytes()),
                    Some(CT_STATUS) => self.known(register, &packet.status().to_ne_bytes()),
                    Some(CT_DIRECTION) if packet.is_new => self.known(register, &[0]),
                    _ => self.load(register, &[], 16),
                }
                Answer::Yes
            }
            "payload" => {
                let (Some(base), Some(offset), Some(length)) = (it.number(2), it.number(3), it.number(4)) else {
                    return Answer::Maybe;
                };
                let (network, transport) = (packet.network_header(), packet.transport_header());
                let header: &[Option<u8>] = match base {
                    1 => &network,
                    2 => &transport,
                    _ => &[],
                };
                let bytes = header.iter().skip(offset as usize).take(length as usize).copied().collect::<Vec<_>>();
                self.load(it.number(1), &bytes, length as usize);
                Answer::Yes
            }
            "cmp" => self.compare(it),
            "bitwise" => {
                self.bitwise(it);
                Answer::Yes
            }
            "byteorder" => {
                let (Some(from), Some(length), Some(size)) = (it.number(1), it.number(4), it.number(5)) else {
                    return Answer::Maybe;
                };
                let mut bytes = self.value(from, length as usize).to_vec();
                if cfg!(target_endian = "little") {
                    bytes.chunks_mut(size.max(1) as usize).for_each(<[_]>::reverse);
                }
                self.load(it.number(2), &bytes, length as usize);
                Answer::Yes
            }
            "immediate" => {
                let datum = it.get(2).unwrap_or_default();
                match ruleset::verdict(datum) {
                    Some(verdict) if it.number(1) == Some(0) => verdicts.push(verdict),
                    _ => self.known(it.number(1), ruleset::find(datum, 1).unwrap_or_default()),
                }
                Answer::Yes
            }
            "reject" => {
                verdicts.push(Verdict { code: DROP, ..Verdict::default() });
                Answer::Yes
            }
            "lookup" => self.look_up(it, elements, verdicts),
            "match" => {
                let name = it.get(1).map(text_of).unwrap_or_default();
                xtables::matches_of(&name, it.number(2).unwrap_or(0) as u8, it.get(3).unwrap_or_default(), packet)
            }
            "target" => {
                let name = it.get(1).map(text_of).unwrap_or_default();
                let code = xtables::target_fate(&name).map(|accepted| if accepted { nftables::ACCEPT } else { DROP });
                verdicts.extend(code.map(|code| Verdict { code, ..Verdict::default() }));
                Answer::Yes
            }
            // What is counted, limited, or handed to a program may go through.
            "limit" | "quota" | "connlimit" => Answer::Maybe,
            "queue" => {
                verdicts.push(Verdict { code: nftables::ACCEPT, ..Verdict::default() });
                Answer::Maybe
            }
            // It loads what is not known.
            _ => {
                self.registers = [None; 64];
                Answer::Yes
            }
        }
    }

    fn meta(&mut self, it: &Expression) {
        let packet = self.packet;
        let register = it.number(1);
        let name = |link: &Option<(String, u32)>| {
            let name = link.as_ref().map(|(name, _)| name)?;
            let mut bytes = [Some(0); libc::IFNAMSIZ];
            bytes.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = Some(byte));
            Some(bytes)
        };
        let index = |link: &Option<(String, u32)>| link.as_ref().map(|(_, index)| index.to_ne_bytes().map(Some));
        let load = match it.number(2) {
            Some(META_IIFNAME) => name(&packet.comes_by).map(|bytes| bytes.to_vec()),
            Some(META_OIFNAME) => name(&packet.leaves_by).map(|bytes| bytes.to_vec()),
            Some(META_IIF) => index(&packet.comes_by).map(|bytes| bytes.to_vec()),
            Some(META_OIF) => index(&packet.leaves_by).map(|bytes| bytes.to_vec()),
            Some(META_NFPROTO) => Some(vec![Some(if packet.is_ipv4 { IPV4 } else { IPV6 })]),
            Some(META_L4PROTO) => packet.protocol.map(|protocol| vec![Some(protocol)]),
            Some(META_PROTOCOL) => {
                let kind: u16 = if packet.is_ipv4 { 0x0800 } else { 0x86dd };
                Some(kind.to_be_bytes().map(Some).to_vec())
            }
            _ => None,
        };
        self.load(register, &load.unwrap_or_default(), 16);
    }

    fn compare(&self, it: &Expression) -> Answer {
        let (Some(register), Some(operation)) = (it.number(1), it.number(2)) else { return Answer::Maybe };
        let wanted = it.get(3).and_then(|datum| ruleset::find(datum, 1)).unwrap_or_default();
        let given = self.value(register, wanted.len());
        let equal = same(given, wanted);
        match operation {
            0 => equal,
            1 => equal.inverted(true),
            _ => Answer::about(given.iter().copied().collect::<Option<Vec<u8>>>(), |given| match operation {
                2 => given.as_slice() < wanted,
                3 => given.as_slice() <= wanted,
                4 => given.as_slice() > wanted,
                _ => given.as_slice() >= wanted,
            }),
        }
    }

    fn bitwise(&mut self, it: &Expression) {
        let (Some(from), Some(length)) = (it.number(1), it.number(3)) else { return };
        let data = |attribute| it.get(attribute).and_then(|datum| ruleset::find(datum, 1)).unwrap_or_default().to_vec();
        let (mask, xor) = (data(4), data(5));
        let plain = it.number(6).unwrap_or(0) == 0 && mask.len() == xor.len();
        let bytes: Vec<Option<u8>> = match plain {
            true => self
                .value(from, length as usize)
                .iter()
                .zip(mask.iter().zip(&xor))
                .map(|(byte, (mask, xor))| match (byte, mask) {
                    (_, 0) => Some(*xor),
                    (byte, mask) => byte.map(|byte| byte & mask ^ xor),
                })
                .collect(),
            false => Vec::new(),
        };
        self.load(it.number(2), &bytes, length as usize);
    }

    fn look_up(&self, it: &Expression, elements: &dyn Fn(&str) -> Vec<Element>, verdicts: &mut Vec<Verdict>) -> Answer {
        let elements = elements(&it.get(1).map(text_of).unwrap_or_default());
        let length = elements.iter().map(|element| element.key.len()).max().unwrap_or(0);
        let given = self.value(it.number(2).unwrap_or(0), length);
        let decides = it.number(3) == Some(0) && elements.iter().any(|element| element.verdict.is_some());
        let inverted = it.number(5).unwrap_or(0) & 1 != 0;
        let (answer, found) = find(&elements, given);
        if !decides {
            return answer.inverted(inverted);
        }
        match answer {
            Answer::Yes => verdicts.extend(found.and_then(|element| element.verdict.clone())),
            Answer::Maybe => verdicts.extend(elements.iter().filter_map(|element| element.verdict.clone())),
            Answer::No => {}
        }
        answer
    }
}

fn same(given: &[Option<u8>], wanted: &[u8]) -> Answer {
    given
        .iter()
        .zip(wanted)
        .fold(Answer::Yes, |answer, (given, wanted)| answer.and(Answer::about(*given, |given| given == *wanted)))
}

/// The element that a value is, or lies in.
fn find<'a>(elements: &'a [Element], given: &[Option<u8>]) -> (Answer, Option<&'a Element>) {
    let is_range = elements.iter().any(|element| element.is_end);
    if !is_range {
        let answers = elements.iter().map(|element| match element.key_end.is_empty() {
            true => (same(given, &element.key), element),
            // A field never goes over the register that it begins in, but for addresses of IPv6.
            false => (
                Answer::about(given.iter().copied().collect::<Option<Vec<u8>>>(), |given| {
                    let parts = given.chunks(4).zip(element.key.chunks(4)).zip(element.key_end.chunks(4));
                    parts.into_iter().all(|((given, first), last)| first <= given && given <= last)
                }),
                element,
            ),
        });
        return answers
            .max_by_key(|(answer, _)| *answer)
            .map_or((Answer::No, None), |(answer, element)| (answer, Some(element)));
    }
    let Some(given) = given.iter().copied().collect::<Option<Vec<u8>>>() else { return (Answer::Maybe, None) };
    // Where one ends and another begins, it is the other's.
    let below = elements.iter().filter(|element| element.key.as_slice() <= given.as_slice());
    match below.max_by_key(|element| (&element.key, !element.is_end)) {
        Some(element) if !element.is_end => (Answer::Yes, Some(element)),
        _ => (Answer::No, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Packet {
        Packet {
            comes_by: None,
            leaves_by: Some(("dhow0".to_owned(), 7)),
            is_ipv4: true,
            from: None,
            to: Some("172.17.0.2".parse().unwrap()),
            protocol: Some(6),
            to_port: Some(80),
            is_new: true,
            is_redirected: true,
        }
    }

    /// What a rule of ours would come to, if it were another's.
    fn outcome(rule: nftables::Rule) -> (Answer, Vec<i32>) {
        let rule = Rule { expressions: rule.told(), ..Rule::default() };
        let packet = packet();
        let outcome = State::new(&packet).rule(&rule, &|_| Vec::new());
        (outcome.answer, outcome.verdicts.iter().map(|verdict| verdict.code).collect())
    }

    #[test]
    fn rules_match_by_what_is_known() {
        let rule = nftables::Rule::new;
        for (rule, answer, verdicts) in [
            (rule().decide(DROP), Answer::Yes, vec![DROP]),
            (rule().leaves_by(Name::Is("dhow0")).decide(nftables::ACCEPT), Answer::Yes, vec![nftables::ACCEPT]),
            (rule().leaves_by(Name::Is("docker0")).decide(nftables::ACCEPT), Answer::No, vec![]),
            (rule().leaves_by(Name::Begins("dhow")).decide(nftables::ACCEPT), Answer::Yes, vec![nftables::ACCEPT]),
            (rule().comes_by(Name::Is("eth0")).decide(nftables::ACCEPT), Answer::Maybe, vec![nftables::ACCEPT]),
            (rule().established().decide(nftables::ACCEPT), Answer::No, vec![]),
            (rule().redirected().decide(nftables::ACCEPT), Answer::Yes, vec![nftables::ACCEPT]),
            (rule().to("172.17.0.0/16".parse().unwrap()).decide(DROP), Answer::Yes, vec![DROP]),
            (rule().to("10.0.0.0/8".parse().unwrap()).decide(DROP), Answer::No, vec![]),
            (rule().from("10.0.0.0/8".parse().unwrap()).decide(DROP), Answer::Maybe, vec![DROP]),
            (rule().at_port(6, 80).decide(DROP), Answer::Yes, vec![DROP]),
            (rule().at_port(6, 81).decide(DROP), Answer::No, vec![]),
            (rule().at_port(17, 80).decide(DROP), Answer::No, vec![]),
        ] {
            assert_eq!(outcome(rule.clone()), (answer, verdicts), "{rule:?}");
        }
    }

    #[test]
    fn elements_and_ranges() {
        let element = |key: &[u8], is_end| Element { key: key.to_vec(), is_end, ..Element::default() };
        let known = |bytes: &[u8]| bytes.iter().map(|byte| Some(*byte)).collect::<Vec<_>>();
        let plain = [element(&[1, 2], false), element(&[3, 4], false)];
        assert_eq!(find(&plain, &known(&[3, 4])).0, Answer::Yes);
        assert_eq!(find(&plain, &known(&[3, 5])).0, Answer::No);
        assert_eq!(find(&plain, &[Some(3), None]).0, Answer::Maybe);
        assert_eq!(find(&plain, &[Some(9), None]).0, Answer::No);
        // 10 to 19, and from 20 on to 29.
        let ranges = [
            element(&[0], true),
            element(&[10], false),
            element(&[20], true),
            element(&[20], false),
            element(&[30], true),
        ];
        for (value, answer) in
            [(9, Answer::No), (10, Answer::Yes), (20, Answer::Yes), (29, Answer::Yes), (30, Answer::No)]
        {
            assert_eq!(find(&ranges, &known(&[value])).0, answer, "{value}");
        }
        assert_eq!(find(&[], &known(&[1])).0, Answer::No);
    }
}
