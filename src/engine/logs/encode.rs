//! One line of a container's output as an entry of its log, into a buffer that the caller owns: no heap, no serde,
//! because the shim that calls this lives as long as its container.

use super::scan::{copy_plain, newline};
use crate::sys::search::copy;

/// Which of the two outputs a line came from. The numbers are those of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout = 1,
    Stderr = 2,
}

/// A longer line becomes several entries, of which only the last one ends in a newline.
pub const LINE: usize = 16 * 1024;

/// How much room an entry of a line of that length takes at most, with attributes of that length.
pub const fn room(line: usize, attributes: usize) -> usize {
    // A byte becomes \u00xx at most; the rest is the frame of the entry with its time.
    line * 6 + attributes + 128
}

/// How every entry begins.
const HEAD: &[u8; 8] = b"{\"log\":\"";

/// How entries of a stream end that are written at one time: `","stream":"stdout","time":"…"}` and a newline. Made once
/// for many of them.
///
/// `time` is RFC 3339 with nanoseconds, see [`crate::api::time::Time::write`]. `attributes` is empty, or a JSON object that
/// becomes `"attrs"`.
pub fn tail(into: &mut Vec<u8>, stream: Stream, time: &str, attributes: &[u8]) {
    into.clear();
    into.extend_from_slice(match stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\"",
        Stream::Stderr => b"\",\"stream\":\"stderr\"",
    });
    if !attributes.is_empty() {
        into.extend_from_slice(b",\"attrs\":");
        into.extend_from_slice(attributes);
    }
    into.extend_from_slice(b",\"time\":\"");
    into.extend_from_slice(time.as_bytes());
    into.extend_from_slice(b"\"}\n");
}

/// Writes an entry into `buffer` and gives back that part of it. `line` ends in a newline unless it is part of a longer one;
/// `tail` is what [`tail`] made. Nothing where the entry does not fit; [`room`] always fits.
pub fn encode<'b>(line: &[u8], tail: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut out = Out { buffer: &mut *buffer, length: 0 };
    out.begin()?;
    let plain = out.escape(line, true)?;
    out.text(&line[plain..])?;
    out.put(tail)?;
    let length = out.length;
    buffer.get(..length)
}

/// The same of the first line in `bytes`: how long that is, and its entry. Nothing where it does not end there or does not
/// fit.
pub fn encode_first(bytes: &[u8], tail: &[u8], buffer: &mut [u8]) -> Option<(usize, usize)> {
    let mut out = Out { buffer, length: 0 };
    out.begin()?;
    let mut end = out.escape(bytes, true)?;
    match bytes.get(end)? {
        b'\n' => end += 1,
        // From here on it is not ASCII.
        _ => {
            let start = end;
            end += newline(&bytes[start..])?;
            out.text(&bytes[start..end])?;
            end += 1;
        }
    }
    out.put(b"\\n")?;
    out.put(tail)?;
    Some((end, out.length))
}

/// How much of `bytes` there is without a character that its end cuts in two. What is no UTF-8 is left as it is.
pub fn whole(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back + 1 { bytes.len() - back - 1 } else { bytes.len() };
    }
    bytes.len()
}

struct Out<'b> {
    buffer: &'b mut [u8],
    length: usize,
}

impl Out<'_> {
    fn begin(&mut self) -> Option<()> {
        *self.buffer.first_chunk_mut()? = *HEAD;
        self.length = HEAD.len();
        Some(())
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.length += copy(bytes, self.buffer.get_mut(self.length..)?)?;
        Some(())
    }

    /// Writes text that need not be UTF-8.
    fn text(&mut self, bytes: &[u8]) -> Option<()> {
        for chunk in bytes.utf8_chunks() {
            self.escape(chunk.valid().as_bytes(), false)?;
            for _ in chunk.invalid() {
                self.put(b"\\ufffd")?;
            }
        }
        Some(())
    }

    /// Writes text with what JSON and HTML mind escaped: all of it, which is known to be UTF-8, or with `ascii` as far as it
    /// is ASCII and goes no further than its line. How much of it.
    fn escape(&mut self, line: &[u8], ascii: bool) -> Option<usize> {
        let mut text = line;
        while !text.is_empty() {
            let plain = copy_plain(text, self.buffer.get_mut(self.length..)?, ascii)?;
            self.length += plain;
            text = match &text[plain..] {
                [] => break,
                rest @ [b'\n', ..] if ascii => return Some(line.len() - rest.len()),
                rest @ [0x80..=0xff, ..] if ascii => return Some(line.len() - rest.len()),
                [0xe2, 0x80, last @ (0xa8 | 0xa9), rest @ ..] => {
                    self.put(b"\\u202")?;
                    self.put(&[HEX[usize::from(last & 0xf)]])?;
                    rest
                }
                [0xe2, rest @ ..] => {
                    self.put(&[0xe2])?;
                    rest
                }
                [byte @ (b'"' | b'\\'), rest @ ..] => {
                    self.put(&[b'\\', *byte])?;
                    rest
                }
                [b'\n', rest @ ..] => {
                    self.put(b"\\n")?;
                    rest
                }
                [b'\r', rest @ ..] => {
                    self.put(b"\\r")?;
                    rest
                }
                [byte, rest @ ..] => {
                    let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
                    self.put(&[b'\\', b'u', b'0', b'0', high, low])?;
                    rest
                }
            };
        }
        Some(line.len())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// One entry, made of its parts.
#[cfg(test)]
pub fn whole_entry(line: &[u8], stream: Stream, time: &str, attributes: &[u8]) -> Vec<u8> {
    let (mut end, mut buffer) = (Vec::new(), vec![0; room(line.len(), attributes.len())]);
    tail(&mut end, stream, time, attributes);
    encode(line, &end, &mut buffer).expect("there is room").to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-23T21:38:13.030644438Z";

    fn entry(line: &[u8]) -> String {
        String::from_utf8(whole_entry(line, Stream::Stdout, TIME, b"")).unwrap()
    }

    #[test]
    fn entries_as_docker_writes_them() {
        let cases: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"hello\n", r"hello\n"),
            (b"a\tb\rc\0\x1f\x7f", "a\\u0009b\\rc\\u0000\\u001f\u{7f}"),
            (b"\"q\" \\ <a> & b", r#"\"q\" \\ \u003ca\u003e \u0026 b"#),
            ("é€\u{1f6a2}\u{2028}\u{2029}\u{202a}".as_bytes(), "é€\u{1f6a2}\\u2028\\u2029\u{202a}"),
            (b"\xff\xe2\x82a\xc3", r"\ufffd\ufffd\ufffda\ufffd"),
            (
                b"0123456789012345678901234567890123456789\n0123456789012345678901234567890123456789",
                r"0123456789012345678901234567890123456789\n0123456789012345678901234567890123456789",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(entry(line), format!("{{\"log\":\"{expected}\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}\n"));
        }
        let with = whole_entry(b"x\n", Stream::Stderr, TIME, br#"{"tag":"t"}"#);
        let expected =
            format!("{{\"log\":\"x\\n\",\"stream\":\"stderr\",\"attrs\":{{\"tag\":\"t\"}},\"time\":\"{TIME}\"}}\n");
        assert_eq!(with, expected.as_bytes());
    }

    #[test]
    fn entries_fit_or_are_refused() {
        for byte in 0..=255 {
            let line = [byte; 100];
            let mut end = Vec::new();
            tail(&mut end, Stream::Stderr, TIME, b"");
            let full = whole_entry(&line, Stream::Stderr, TIME, b"").len();
            for size in 0..full {
                assert!(encode(&line, &end, &mut vec![0; size]).is_none(), "{byte} in {size}");
            }
        }
    }

    #[test]
    fn the_first_line_of_many() {
        let mut end = Vec::new();
        tail(&mut end, Stream::Stdout, TIME, b"");
        for (bytes, length) in [
            (&b""[..], None),
            (b"no end", None),
            (b"\n", Some(1)),
            (b"one\ntwo\n", Some(4)),
            ("caf\u{e9} \u{2028}\ntwo".as_bytes(), Some(10)),
            ("caf\u{e9}".as_bytes(), None),
            (b"\xff\"\n\n", Some(3)),
        ] {
            let mut buffer = vec![0; 500];
            let found =
                encode_first(bytes, &end, &mut buffer).map(|(taken, written)| (taken, buffer[..written].to_vec()));
            let expected = length.map(|length| (length, whole_entry(&bytes[..length], Stream::Stdout, TIME, b"")));
            assert_eq!(found, expected, "{bytes:?}");
            for size in 0..expected.map_or(0, |(_, entry)| entry.len()) {
                assert_eq!(encode_first(bytes, &end, &mut buffer[..size]), None);
            }
        }
    }

    #[test]
    fn every_text_comes_back() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..3000 {
            let mut line = Vec::new();
            for _ in 0..state % 80 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let c = char::from_u32((state >> 20) as u32 % if state.is_multiple_of(3) { 0x11_0000 } else { 0x80 });
                line.extend(c.unwrap_or('\u{2028}').to_string().bytes());
            }
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let value: serde_json::Value = serde_json::from_str(&entry(&line)).unwrap();
            assert_eq!(value["log"].as_str().unwrap().as_bytes(), line);
        }
    }

    #[test]
    fn characters_are_not_cut() {
        let ship = "\u{1f6a2}".as_bytes();
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"abc", 3),
            ("ab\u{e9}".as_bytes(), 4),
            (b"ab\xc3", 2),
            (b"ab\xe2\x82", 2),
            (&ship[..1], 0),
            (&ship[..3], 0),
            (ship, 4),
            (b"\x80\x80\x80\x80", 4),
            (b"a\xff", 2),
        ] {
            assert_eq!(whole(bytes), expected, "{bytes:?}");
        }
    }
}
