//! The chunked transfer coding (RFC 9112, 7.1), wherever the bytes happen to be cut.

use std::io;

/// No chunk is larger: a sum of two such sizes still fits its number.
const LARGEST: u64 = i64::MAX as u64;
/// A size line with its extensions.
const LINE: usize = 4096;
/// All trailers, which nobody reads.
const TRAILERS: usize = 16 << 10;

/// Where in the coding the next byte stands.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// Bytes of the line or of the trailers so far.
    seen: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    /// In the digits of a size; whether there was one.
    #[default]
    Start,
    Size(u64),
    /// Behind the size: spaces and an extension, up to the end of the line.
    Extension(u64),
    /// LF must follow.
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataLineFeed,
    /// At the start of a trailer's line, or in one.
    Trailer {
        empty: bool,
    },
    Done,
}

impl Chunks {
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes from `input` into `output`: how many bytes were taken, and how many given. Takes something as long as
    /// there is input, room, and it is not done.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut taken, mut given) = (0, 0);
        while taken < input.len() && !self.done() {
            if let State::Data(left) = self.state {
                let room = (output.len() - given).min(input.len() - taken);
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(room);
                if length == 0 {
                    break;
                }
                output[given..given + length].copy_from_slice(&input[taken..taken + length]);
                (taken, given) = (taken + length, given + length);
                self.state = if left == length as u64 { State::DataEnd } else { State::Data(left - length as u64) };
                continue;
            }
            self.state = self.next(input[taken])?;
            taken += 1;
        }
        Ok((taken, given))
    }

    fn next(&mut self, byte: u8) -> io::Result<State> {
        self.seen += 1;
        let limit = if matches!(self.state, State::Trailer { .. }) { TRAILERS } else { LINE };
        if self.seen > limit {
            return bad("a line of the chunked body is too long");
        }
        let digit = (byte as char).to_digit(16).map(u64::from);
        let line_end = |this: &mut Chunks, size: u64| {
            this.seen = 0;
            if size == 0 { State::Trailer { empty: true } } else { State::Data(size) }
        };
        Ok(match (self.state, byte, digit) {
            (State::Start, _, Some(digit)) => State::Size(digit),
            (State::Size(size), _, Some(digit)) => match size.checked_mul(16).map(|size| size + digit) {
                Some(size) if size <= LARGEST => State::Size(size),
                _ => return bad("a chunk is too large"),
            },
            (State::Size(size) | State::Extension(size), b'\r', _) => State::SizeEnd(size),
            (State::Size(size), b'\n', _) => line_end(self, size),
            (State::Size(size), b' ' | b'\t' | b';', _) => State::Extension(size),
            (State::Extension(size), b'\n', _) => line_end(self, size),
            (State::Extension(size), _, _) => State::Extension(size),
            (State::SizeEnd(size), b'\n', _) => line_end(self, size),
            (State::DataEnd, b'\r', _) => State::DataLineFeed,
            (State::DataEnd | State::DataLineFeed, b'\n', _) => {
                self.seen = 0;
                State::Start
            }
            (State::Trailer { empty: true }, b'\n', _) => State::Done,
            (State::Trailer { .. }, b'\n', _) => State::Trailer { empty: true },
            (State::Trailer { empty }, b'\r', _) => State::Trailer { empty },
            (State::Trailer { .. }, _, _) => State::Trailer { empty: false },
            (State::Start | State::Size(_), ..) => return bad("the size of a chunk is no number"),
            _ => return bad("a chunk does not end where it says"),
        })
    }
}

fn bad<T>(why: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// The line before a chunk of that many bytes.
pub fn size_line(length: usize) -> String {
    format!("{length:x}\r\n")
}

/// What ends the last chunk.
pub const LAST: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes what comes in pieces of that size into a buffer of that size: the text and what is left over.
    fn decode(text: &str, piece: usize, room: usize) -> io::Result<(String, String)> {
        let (mut chunks, mut out, mut at) = (Chunks::default(), Vec::new(), 0);
        while at < text.len() && !chunks.done() {
            let mut buffer = vec![0; room];
            let end = (at + piece).min(text.len());
            let (taken, given) = chunks.decode(&text.as_bytes()[at..end], &mut buffer)?;
            assert!(taken > 0, "it goes on");
            out.extend_from_slice(&buffer[..given]);
            at += taken;
        }
        if !chunks.done() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((String::from_utf8(out).unwrap(), text[at..].to_owned()))
    }

    #[test]
    fn wherever_it_is_cut() {
        let table = [
            ("0\r\n\r\n", "", ""),
            ("5\r\nhello\r\n0\r\n\r\nGET", "hello", "GET"),
            ("5;name=value\r\nhello\r\n1 \r\n!\r\n000\r\n\r\n", "hello!", ""),
            ("A\r\n0123456789\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\nrest", "0123456789", "rest"),
            ("1\na\n0\n\n", "a", ""),
        ];
        for (text, body, rest) in table {
            for piece in 1..=text.len() {
                for room in [1, 3, 100] {
                    let found = decode(text, piece, room).unwrap();
                    assert_eq!(found, (body.to_owned(), rest.to_owned()), "{text:?} by {piece}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_chunk() {
        let long = format!("1;{}\r\n", "x".repeat(5000));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(5000));
        let table = [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "ffffffffffffffff\r\n",
            "8000000000000000\r\n",
            "00000000000000000000000ffffffffffffffff\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\rx",
            "1\rx",
            &long,
            &trailers,
        ];
        for text in table {
            for piece in [1, 7, text.len()] {
                let error = decode(text, piece, 64).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:.40?}: {error}");
            }
        }
    }
}
