//! One entry of a log, read back: the reverse of [`super::encode`].

use super::encode::Stream;
use super::scan::{is_of_time, quote};

/// What an entry says beside its text.
#[derive(Debug, PartialEq)]
pub struct Entry<'l> {
    pub stream: Stream,
    /// RFC 3339 with nanoseconds.
    pub time: &'l str,
    /// A JSON object, or empty.
    pub attributes: &'l [u8],
}

const START: &[u8] = b"{\"log\":\"";

/// Reads the entry in `line`, which has no newline, and appends its text to `text`. Nothing, and nothing appended,
/// where the line is torn: that is the last line of a container whose shim was killed while it wrote.
pub fn decode<'l>(line: &'l [u8], text: &mut Vec<u8>) -> Option<Entry<'l>> {
    let length = text.len();
    if let Some(entry) = decode_whole(line, text) {
        return Some(entry);
    }
    text.truncate(length);
    // The next shim wrote behind the torn line. Its start cannot stand inside of a text, where quotes are escaped.
    let again = line.windows(START.len()).rposition(|window| window == START).filter(|at| *at > 0)?;
    let entry = decode_whole(&line[again..], text);
    if entry.is_none() {
        text.truncate(length);
    }
    entry
}

fn decode_whole<'l>(line: &'l [u8], text: &mut Vec<u8>) -> Option<Entry<'l>> {
    let rest = unescape(line.strip_prefix(START)?, text)?;
    // What nearly all are.
    if let Some(time) = rest.strip_prefix(b",\"stream\":\"stdout\",\"time\":\"") {
        return ended(Stream::Stdout, b"", time);
    }
    let rest = rest.strip_prefix(b",\"stream\":\"std")?;
    let (stream, rest) = match rest.strip_prefix(b"out\"") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix(b"err\"")?),
    };
    const TIME: &[u8] = b",\"time\":\"";
    let (attributes, time) = match rest.strip_prefix(TIME) {
        Some(time) => (&b""[..], time),
        None => {
            let rest = rest.strip_prefix(b",\"attrs\":")?;
            let end = rest.windows(TIME.len()).rposition(|window| window == TIME)?;
            (&rest[..end], &rest[end + TIME.len()..])
        }
    };
    ended(stream, attributes, time)
}

/// An entry of its parts, the time with all that is behind it.
fn ended<'l>(stream: Stream, attributes: &'l [u8], time: &'l [u8]) -> Option<Entry<'l>> {
    let time = time.strip_suffix(b"\"}").filter(|time| (20..=30).contains(&time.len()) && is_of_time(time))?;
    is_flat(attributes).then_some(Entry { stream, time: str::from_utf8(time).ok()?, attributes })
}

/// Whether the attributes are one object of strings, and not a torn one that runs into the next entry. Quotes inside
/// of a string are escaped, so that no string can hold what is looked for here.
fn is_flat(attributes: &[u8]) -> bool {
    let holds = |what: &[u8]| attributes[1..].windows(what.len()).any(|window| window == what);
    match attributes {
        [] => true,
        [b'{', .., b'}'] => !holds(START) && !holds(b",\"attrs\":{"),
        _ => false,
    }
}

/// Appends a JSON string to `text`, up to its closing quote; gives what follows the quote.
fn unescape<'l>(mut bytes: &'l [u8], text: &mut Vec<u8>) -> Option<&'l [u8]> {
    loop {
        let plain = quote(bytes)?;
        text.extend_from_slice(&bytes[..plain]);
        if bytes[plain] == b'"' {
            return Some(&bytes[plain + 1..]);
        }
        let (kind, rest) = bytes[plain + 1..].split_first()?;
        bytes = rest;
        match kind {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'"' | b'\\' | b'/' => text.push(*kind),
            b'u' => {
                let (c, rest) = unicode(bytes)?;
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                bytes = rest;
            }
            _ => return None,
        }
    }
}

/// The character of `\u1234`, or of a pair of them for one beyond U+FFFF, from behind the first `\u`.
fn unicode(bytes: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = hex(bytes)?;
    if let (0xd800..0xdc00, Some(low)) = (first, rest.strip_prefix(b"\\u"))
        && let Some((second @ 0xdc00..0xe000, rest)) = hex(low)
    {
        let c = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Some((char::from_u32(c)?, rest));
    }
    Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

fn hex(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_first_chunk::<4>()?;
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    digits.iter().try_fold(0, |value, byte| Some(value << 4 | digit(byte)?)).map(|value| (value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::logs::encode::whole_entry;

    const TIME: &str = "2026-11-23T21:38:13.030644438Z";

    #[test]
    fn what_was_written_is_read() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..3000 {
            let mut line = String::new();
            for _ in 0..round % 90 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                line.push(
                    char::from_u32((state >> 20) as u32 % if round % 3 == 0 { 0x11_0000 } else { 0x80 }).unwrap_or('"'),
                );
            }
            let attributes: &[u8] = if round % 2 == 0 { b"" } else { br#"{"a":"b"}"# };
            let bytes = whole_entry(line.as_bytes(), Stream::Stderr, TIME, attributes);
            let mut text = b"before".to_vec();
            let entry = decode(bytes.strip_suffix(b"\n").unwrap(), &mut text);
            assert_eq!(entry, Some(Entry { stream: Stream::Stderr, time: TIME, attributes }));
            assert_eq!(text, format!("before{line}").as_bytes());
        }
    }

    #[test]
    fn torn_lines_are_skipped() {
        let whole = br#"{"log":"a\"b\ud83d\udea2\ud800x\n","stream":"stdout","attrs":{"log":"y"},"time":"2026-11-23T21:38:13Z"}"#;
        let mut text = Vec::new();
        assert!(decode(whole, &mut text).is_some());
        assert_eq!(text, "a\"b\u{1f6a2}\u{fffd}x\n".as_bytes());
        for end in 0..whole.len() {
            text.clear();
            assert_eq!(decode(&whole[..end], &mut text), None, "{end}");
            assert!(text.is_empty());
            // What the next shim wrote behind it is not lost.
            let joined = [&whole[..end], br#"{"log":"x","stream":"stderr","time":"2026-11-23T21:38:13Z"}"#].concat();
            assert!(decode(&joined, &mut text).is_some(), "{end}");
            assert_eq!(text, b"x");
        }
    }

    #[test]
    fn random_bytes_do_not_panic() {
        let whole = br#"{"log":"a\u00e9\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-11-23T21:38:13Z"}"#;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut read = 0;
        for _ in 0..5_000 {
            let mut line = whole.to_vec();
            for _ in 0..1 + state % 3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state as usize % line.len();
                line[at] = (state >> 32) as u8;
            }
            read += usize::from(decode(&line, &mut Vec::new()).is_some());
        }
        assert!(read > 10 && read < 5_000, "{read}");
    }
}
