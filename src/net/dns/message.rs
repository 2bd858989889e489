//! Messages of DNS (RFC 1035; EDNS: RFC 6891): questions are read, answers written, and those of other servers checked.
//! All of it comes from outside: what is cut off, loops or contradicts itself is refused, and costs nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
pub const ANY: u16 = 255;
const OPT: u16 = 41;
const IN: u16 = 1;

/// What a client without EDNS takes over UDP, and what we say that we take.
const PLAIN: usize = 512;
const OURS: u16 = 1232;
/// The longest question. One has 300 bytes at most, and whatever EDNS adds.
const LONGEST: usize = 4096;
/// Seconds for which an answer may be kept: a container that starts again may have another address.
const TTL: u32 = 5;

const HEADER: usize = 12;
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;
const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const CHECKING_DISABLED: u16 = 1 << 4;

/// How an answer ends: a code of the header, or of EDNS, which has room for more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Code {
    Ok = 0,
    Malformed = 1,
    ServerFailed = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    BadVersion = 16,
}

/// A question, as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The whole message.
    pub bytes: Vec<u8>,
    id: u16,
    flags: u16,
    /// Where the question ends, which begins behind the header.
    end: usize,
    /// In lower case, without a dot at its end. `None` where letters stand in it that no name of ours has.
    pub name: Option<String>,
    pub kind: u16,
    pub class: u16,
    /// With EDNS: the size of answers that the client takes over UDP, and the version.
    edns: Option<(u16, u8)>,
}

/// What came.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Query(Query),
    /// It is answered with this at once.
    Answered(Vec<u8>),
    /// No answer is due.
    Noise,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Reads a message that a client sent.
pub fn read(bytes: &[u8]) -> Message {
    let (Some(id), Some(flags)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else { return Message::Noise };
    if bytes.len() < HEADER || flags & RESPONSE != 0 {
        return Message::Noise;
    }
    let bare = |code: Code| {
        let flags = RESPONSE | RECURSION_AVAILABLE | flags & (OPCODE | RECURSION_DESIRED) | code as u16;
        let words = [id, flags, 0, 0, 0, 0];
        Message::Answered(words.into_iter().flat_map(u16::to_be_bytes).collect())
    };
    if flags & OPCODE != 0 {
        return bare(Code::NotImplemented);
    }
    match query(bytes, id, flags).filter(|_| bytes.len() <= LONGEST) {
        Some(query) if query.edns.is_some_and(|(_, version)| version > 0) => {
            Message::Answered(query.answer(Code::BadVersion, &[], Some(query.room())))
        }
        Some(query) => Message::Query(query),
        None => bare(Code::Malformed),
    }
}

fn query(bytes: &[u8], id: u16, flags: u16) -> Option<Query> {
    let counts: Vec<u16> = (4..HEADER).step_by(2).map_while(|at| u16_at(bytes, at)).collect();
    let [1, answers, authorities, additional] = counts[..] else { return None };
    let (name, at) = question_name(bytes)?;
    let (kind, class) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
    let end = at + 4;
    let mut edns = None;
    let mut at = end;
    // Each record takes bytes of the message: their number is no danger.
    for number in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
        let record = record(bytes, at)?;
        at = record.end;
        if record.kind == OPT {
            let misplaced = number < u32::from(answers) + u32::from(authorities);
            if misplaced || edns.is_some() || !record.of_root {
                return None;
            }
            edns = Some((record.class, record.version));
        }
    }
    Some(Query { bytes: bytes[..at].to_vec(), id, flags, end, name, kind, class, edns })
}

/// The name of the question, which stands behind the header and has nothing before it to refer to; and where it ends.
fn question_name(bytes: &[u8]) -> Option<(Option<String>, usize)> {
    let mut at = HEADER;
    let mut name = Some(String::new());
    loop {
        let length = usize::from(*bytes.get(at)?);
        let label = bytes.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length > 63 || at - HEADER > 255 {
            return None;
        }
        if length == 0 {
            return Some((name, at));
        }
        let plain = label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        if let Some(text) = &mut name
            && plain
        {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| byte.to_ascii_lowercase() as char));
        } else {
            name = None;
        }
    }
}

struct Record {
    of_root: bool,
    kind: u16,
    class: u16,
    version: u8,
    end: usize,
}

fn record(bytes: &[u8], start: usize) -> Option<Record> {
    let mut at = start;
    // Only skipped: whither a reference leads does not matter.
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => break at += 1,
            1..=63 => at += 1 + length,
            192.. => break at += 2,
            _ => return None,
        }
    }
    let length = u16_at(bytes, at + 8)?;
    let end = at + 10 + usize::from(length);
    bytes.get(at..end)?;
    let of_root = bytes.get(start) == Some(&0);
    Some(Record { of_root, kind: u16_at(bytes, at)?, class: u16_at(bytes, at + 2)?, version: bytes[at + 5], end })
}

/// What answers a question: an address, or a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Address(IpAddr),
    Name(String),
}

impl Data {
    fn encode(&self) -> Option<(u16, Vec<u8>)> {
        match self {
            Data::Address(IpAddr::V4(address)) => Some((A, address.octets().to_vec())),
            Data::Address(IpAddr::V6(address)) => Some((AAAA, address.octets().to_vec())),
            Data::Name(name) => {
                let mut bytes = Vec::new();
                for label in name.split('.') {
                    let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
                    bytes.push(length);
                    bytes.extend(label.bytes());
                }
                bytes.push(0);
                (bytes.len() <= 255).then_some((PTR, bytes))
            }
        }
    }
}

impl Query {
    fn question(&self) -> &[u8] {
        &self.bytes[HEADER..self.end]
    }

    pub fn is_internet(&self) -> bool {
        self.class == IN
    }

    pub fn is_address(&self) -> bool {
        matches!(self.kind, A | AAAA)
    }

    /// How long an answer over UDP may be.
    pub fn room(&self) -> usize {
        self.edns.map_or(PLAIN, |(size, _)| usize::from(size).max(PLAIN))
    }

    /// Our own answer, of at most `room` bytes. What does not fit is left out, and said to be.
    pub fn answer(&self, code: Code, data: &[Data], room: Option<usize>) -> Vec<u8> {
        let own = if matches!(code, Code::Ok | Code::NoSuchName) { AUTHORITATIVE } else { 0 };
        let mut flags = RESPONSE | own | RECURSION_AVAILABLE | code as u16 & 0xf;
        flags |= self.flags & (RECURSION_DESIRED | CHECKING_DISABLED);
        let mut bytes = self.begin(flags);
        let options = self.options(code);
        let room = room.unwrap_or(usize::from(u16::MAX)).saturating_sub(options.len());
        let mut count: u16 = 0;
        for (kind, data) in data.iter().filter_map(Data::encode) {
            if bytes.len() + 12 + data.len() > room {
                bytes[2] |= (TRUNCATED >> 8) as u8;
                break;
            }
            // The owner is the name of the question.
            bytes.extend([0xc0, HEADER as u8]);
            bytes.extend([kind, IN].into_iter().flat_map(u16::to_be_bytes));
            bytes.extend(TTL.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
            count += 1;
        }
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        bytes.extend(options);
        bytes
    }

    /// Header and question.
    fn begin(&self, flags: u16) -> Vec<u8> {
        let more = u16::from(self.edns.is_some());
        let words = [self.id, flags, 1, 0, 0, more];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        bytes.extend(self.question());
        bytes
    }

    /// Who speaks EDNS is answered so.
    fn options(&self, code: Code) -> Vec<u8> {
        if self.edns.is_none() {
            return Vec::new();
        }
        let [high, low] = OURS.to_be_bytes();
        vec![0, 0, OPT as u8, high, low, (code as u16 >> 4) as u8, 0, 0, 0, 0, 0]
    }

    /// The question as it goes to another server: under an id that nobody can guess.
    pub fn under(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes
    }

    /// Whether this is an answer to this question, sent under `id`.
    pub fn is_answered_by(&self, id: u16, answer: &[u8]) -> bool {
        let (Some(theirs), Some(flags), Some(questions)) = (u16_at(answer, 0), u16_at(answer, 2), u16_at(answer, 4))
        else {
            return false;
        };
        if answer.len() < HEADER || theirs != id || flags & RESPONSE == 0 || flags & OPCODE != 0 {
            return false;
        }
        match questions {
            // Some servers that refuse do not repeat it.
            0 => flags & 0xf != 0,
            1 => answer.get(HEADER..self.end).is_some_and(|theirs| theirs.eq_ignore_ascii_case(self.question())),
            _ => false,
        }
    }

    /// Another server's answer as the client gets it: under its own id, with its question as it spelt it, and cut to
    /// `room`.
    pub fn pass_on(&self, answer: &[u8], room: Option<usize>) -> Vec<u8> {
        if room.is_some_and(|room| answer.len() > room) {
            let flags = u16_at(answer, 2).unwrap_or(0) | TRUNCATED;
            let mut bytes = self.begin(flags);
            bytes.extend(self.options(Code::Ok));
            return bytes;
        }
        let mut bytes = answer.to_vec();
        bytes[..2].copy_from_slice(&self.id.to_be_bytes());
        if u16_at(answer, 4) == Some(1) && bytes.len() >= self.end {
            bytes[HEADER..self.end].copy_from_slice(self.question());
        }
        bytes
    }
}

/// The code of an answer.
pub fn code(answer: &[u8]) -> u8 {
    answer.get(3).map_or(0, |byte| byte & 0xf)
}

/// The address whose name is asked for: `2.0.18.172.in-addr.arpa`, or the nibbles of one of IPv6.
pub fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = octets.split('.').rev().map(|text| text.parse().ok()).collect::<Option<_>>()?;
        return <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let digit = |text: &str| u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 1);
    let digits: Vec<u128> = nibbles.split('.').rev().map(digit).collect::<Option<_>>()?;
    let all = digits.iter().fold(0, |all, digit| all << 4 | digit);
    (digits.len() == 32).then(|| Ipv6Addr::from(all).into())
}

#[cfg(any(test, fuzzing))]
pub mod fuzz {
    use super::*;

    /// A message from a container, and one that another server is said to have answered with.
    pub fn messages(bytes: &[u8]) {
        let (question, answer) = match bytes.first() {
            Some(length) => bytes[1..].split_at((bytes.len() - 1).min(usize::from(*length))),
            None => return,
        };
        match read(question) {
            Message::Query(query) => {
                let data = [Data::Address(IpAddr::from([10, 0, 0, 1])), Data::Name("web.sea".to_owned())];
                for code in [Code::Ok, Code::ServerFailed] {
                    let ours = query.answer(code, &data, Some(query.room()));
                    assert!(ours.len() <= query.room() && query.is_answered_by(query.id, &ours));
                }
                assert!(matches!(read(&query.under(7)), Message::Query(_)));
                if query.is_answered_by(query.id, answer) {
                    assert!(query.is_answered_by(query.id, &query.pass_on(answer, None)));
                    assert!(query.pass_on(answer, Some(query.room())).len() <= query.room());
                }
                let _ = query.name.as_deref().map(reverse);
            }
            Message::Answered(answer) => assert!(answer.len() >= HEADER && answer[2] & 0x80 != 0),
            Message::Noise => {}
        }
        let _ = code(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for `name`, with EDNS of this size.
    pub fn ask(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let words = [0x1234, RECURSION_DESIRED, 1, 0, 0, u16::from(edns.is_some())];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend([kind, IN].into_iter().flat_map(u16::to_be_bytes));
        if let Some(size) = edns {
            bytes.extend([0, 0, 41]);
            bytes.extend(size.to_be_bytes());
            bytes.extend([0; 6]);
        }
        bytes
    }

    fn taken(bytes: &[u8]) -> Query {
        match read(bytes) {
            Message::Query(query) => query,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn questions_are_read() {
        for (name, kind, edns, expected, room) in [
            ("db", A, None, Some("db"), 512),
            ("Web.Sea.", AAAA, Some(4096), Some("web.sea"), 4096),
            ("db", A, Some(100), Some("db"), 512),
            ("", 2, None, Some(""), 512),
            ("d\u{7f}b", A, None, None, 512),
        ] {
            let query = taken(&ask(name, kind, edns));
            assert_eq!((query.name.as_deref(), query.kind, query.room()), (expected, kind, room), "{name}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused_or_left() {
        let good = ask("db.sea", A, Some(1232));
        let with = |at: usize, bytes: &[u8]| {
            let mut message = good.clone();
            message[at..at + bytes.len()].copy_from_slice(bytes);
            message
        };
        let long: String = vec!["a".repeat(63); 5].join(".");
        for (message, expected) in [
            (vec![], None),
            (good[..11].to_vec(), None),
            // An answer is never answered.
            (with(2, &[0x80]), None),
            (with(2, &[0x28]), Some(Code::NotImplemented)),
            (with(4, &[0, 0]), Some(Code::Malformed)),
            (with(4, &[0, 2]), Some(Code::Malformed)),
            (with(10, &[0, 2]), Some(Code::Malformed)),
            (with(10, &[0xff, 0xff]), Some(Code::Malformed)),
            (good[..good.len() - 1].to_vec(), Some(Code::Malformed)),
            (good[..15].to_vec(), Some(Code::Malformed)),
            // A name that refers to itself, one that is too long, and a label of a kind that there is not.
            (with(12, &[0xc0, 12]), Some(Code::Malformed)),
            (ask(&long, A, None), Some(Code::Malformed)),
            (with(12, &[0x41]), Some(Code::Malformed)),
            ([&good[..], &good[good.len() - 11..]].concat(), Some(Code::Ok)),
            ([&good[..], &[0; LONGEST]].concat(), Some(Code::Malformed)),
        ] {
            let code = match read(&message) {
                Message::Noise => None,
                Message::Answered(answer) => {
                    assert_eq!((&answer[..2], answer.len()), (&[0x12, 0x34][..], HEADER));
                    Some(answer[3] & 0xf)
                }
                Message::Query(_) => Some(0),
            };
            assert_eq!(code, expected.map(|code| code as u8), "{message:?}");
        }
        // A version of EDNS that is still to come.
        let Message::Answered(answer) = read(&with(good.len() - 5, &[1])) else { panic!() };
        assert_eq!((answer[3] & 0xf, answer[answer.len() - 6]), (0, 1));
    }

    #[test]
    fn answers_fit_or_say_that_they_do_not() {
        let addresses: Vec<Data> = (0..100).map(|n| Data::Address(IpAddr::from([10, 0, 0, n]))).collect();
        for (edns, given, expected, truncated) in
            [(None, 1, 1, false), (None, 100, 30, true), (Some(1232), 100, 75, true), (Some(4096), 100, 100, false)]
        {
            let query = taken(&ask("db", A, edns));
            let answer = query.answer(Code::Ok, &addresses[..given], Some(query.room()));
            assert!(answer.len() <= query.room());
            assert_eq!(u16_at(&answer, 6), Some(expected));
            assert_eq!(answer[2] & 2 != 0, truncated, "{edns:?} {given}");
            assert_eq!(answer[10..12], [0, edns.is_some() as u8]);
        }
        let query = taken(&ask("db", A, None));
        let answer = query.answer(Code::Ok, &addresses, None);
        assert_eq!((u16_at(&answer, 6), answer[2] & 2), (Some(100), 0));
        #[rustfmt::skip]
        let expected = [
            &[0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 2, b'd', b'b', 0, 0, 1, 0, 1][..],
            &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 0],
        ].concat();
        assert_eq!(query.answer(Code::Ok, &addresses[..1], Some(512)), expected);
        let name = Data::Name("db.sea".to_owned()).encode().unwrap();
        assert_eq!(name, (PTR, b"\x02db\x03sea\0".to_vec()));
        assert_eq!(Data::Name("a..b".to_owned()).encode(), None);
    }

    #[test]
    fn answers_of_others_are_those_to_the_question() {
        let query = taken(&ask("Example.org", A, Some(1232)));
        let mut answer = query.under(7);
        answer[2] |= 0x80;
        assert!(query.is_answered_by(7, &answer));
        assert!(!query.is_answered_by(8, &answer), "another id");
        assert!(!query.is_answered_by(7, &query.under(7)), "a question");
        assert!(!query.is_answered_by(7, &answer[..20]), "cut off");
        let mut other = answer.clone();
        other[13] = b'F';
        assert!(!query.is_answered_by(7, &other), "another name");
        let lower = answer.to_ascii_lowercase();
        assert!(query.is_answered_by(7, &lower));
        assert_eq!(query.pass_on(&lower, Some(512))[..2], [0x12, 0x34]);
        assert_eq!(query.pass_on(&lower, None)[12..], query.bytes[12..], "spelt as it was asked");
        answer.extend([0; 2000]);
        let cut = query.pass_on(&answer, Some(query.room()));
        assert!(cut.len() < 100 && cut[2] & 2 != 0 && query.is_answered_by(0x1234, &cut));
        let refused = [0, 7, 0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(query.is_answered_by(7, &refused) && code(&refused) == 5);
    }

    #[test]
    fn addresses_backwards() {
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        for (name, expected) in [
            ("2.0.18.172.in-addr.arpa", Some("172.18.0.2")),
            (six, Some("fd00::1")),
            ("0.18.172.in-addr.arpa", None),
            ("256.0.18.172.in-addr.arpa", None),
            ("1.ip6.arpa", None),
            ("db", None),
        ] {
            assert_eq!(reverse(name), expected.map(|text| text.parse().unwrap()), "{name}");
        }
    }
}
