//! Where the next byte of some kind is, many at a time: a loop over single bytes is what a log would spend its time in,
//! and a compiler that minds size makes no vector instructions of it.

use crate::sys::search::{Bytes, Marks, copy_until, first};

/// The first newline.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    #[inline(always)]
    fn wanted(bytes: Bytes) -> Marks {
        bytes.equal(b'\n')
    }
    first(bytes, wanted)
}

/// The bytes that cannot stand in a JSON string as they are, by the rules of Go's encoder. 0xe2 begins the two line
/// separators that Go escapes too.
#[inline(always)]
fn special(bytes: Bytes) -> Marks {
    // A quote and an ampersand differ in one bit, and so do the two angle brackets.
    bytes.below(0x20) | bytes.of(0xfb).equal(b'"') | bytes.of(0xfd).equal(b'<') | bytes.equal(b'\\') | bytes.equal(0xe2)
}

#[inline(always)]
fn special_or_high(bytes: Bytes) -> Marks {
    special(bytes) | bytes.high()
}

/// Copies what stands in a JSON string as it is, up to a byte that does not; see [`copy_until`]. With `ascii`, up to one
/// that is not ASCII, too.
pub fn copy_plain(from: &[u8], to: &mut [u8], ascii: bool) -> Option<usize> {
    match ascii {
        true => copy_until(from, to, special_or_high),
        false => copy_until(from, to, special),
    }
}

/// The first quote or backslash: the end of a JSON string, or an escape in it.
pub fn quote(bytes: &[u8]) -> Option<usize> {
    #[inline(always)]
    fn wanted(bytes: Bytes) -> Marks {
        bytes.equal(b'"') | bytes.equal(b'\\')
    }
    first(bytes, wanted)
}

/// Whether they are digits and what parts those of a date and of a time.
pub fn is_of_digits(bytes: &[u8]) -> bool {
    #[inline(always)]
    fn others(bytes: Bytes) -> Marks {
        bytes.below(b'-') | bytes.equal(b'/') | bytes.above(b':')
    }
    first(bytes, others).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        let is_special = |byte: &u8| *byte < 0x20 || b"\"&<>\\\xe2".contains(byte);
        for byte in 0..=u8::MAX {
            for (length, at) in (0..40).flat_map(|length| (0..length).map(move |at| (length, at))) {
                let mut bytes = vec![b'a'; length];
                // What comes behind it does not matter.
                bytes[at..].fill(0x80);
                bytes[at] = byte;
                let expected = |found: bool| found.then_some(at);
                assert_eq!(newline(&bytes), expected(byte == b'\n'), "{byte} {length} {at}");
                assert_eq!(quote(&bytes), expected(byte == b'"' || byte == b'\\'), "{byte} {length} {at}");
                let is_of_digits_here = is_of_digits(&bytes[..=at]);
                assert_eq!(is_of_digits_here, at == 0 && b"-.0123456789:".contains(&byte), "{byte} {length} {at}");
                for ascii in [false, true] {
                    let is_last = is_special(&byte) || ascii && byte >= 0x80;
                    let plain = match is_last {
                        true => at,
                        // Behind it everything is 0x80.
                        false if ascii => at + 1,
                        false => length,
                    };
                    let mut copy = vec![0; length + 3];
                    assert_eq!(copy_plain(&bytes, &mut copy, ascii), Some(plain), "{byte} {length} {at} {ascii}");
                    assert_eq!((&copy[..plain], &copy[length..]), (&bytes[..plain], &[0; 3][..]));
                    assert_eq!(copy_plain(&bytes, &mut copy[..length - 1], ascii), None);
                }
            }
        }
        assert_eq!((newline(b""), copy_plain(b"", &mut [], true), quote(b"")), (None, Some(0), None));
        assert_eq!((newline(b"a\n\n"), quote(b"0123456789\\\"")), (Some(1), Some(10)));
    }
}
