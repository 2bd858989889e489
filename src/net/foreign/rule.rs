//! What one rule of others makes of a packet that is known in part.

use crate::net::netlink::text_of;
use crate::net::nftables::{self, DROP, IPV4, IPV6};
use crate::net::packet::{Answer, Packet};
use crate::net::ruleset::{self, Element, Expression, Rule, Verdict};
use crate::net::xtables;

/// What a rule comes to.
pub(super) struct Outcome {
    pub answer: Answer,
    pub verdicts: Vec<Verdict>,
}

/// The registers, byte by byte as far as they are known.
pub(super) struct State<'a> {
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
    pub fn new(packet: &Packet) -> State<'_> {
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

    pub fn rule(&mut self, rule: &Rule, elements: &dyn Fn(&str) -> Vec<Element>) -> Outcome {
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
    use crate::net::nftables::Name;

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
