//! Where the next byte of some kind is, many at a time: a loop over single bytes is what a log would spend its time in,
//! and a compiler that minds size makes no vector instructions of it.

use crate::sys::search::first;

/// The first newline.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    first(bytes, |bytes| bytes.equal(b'\n'))
}

/// The first byte that cannot stand in a JSON string as it is, by the rules of Go's encoder. 0xe2 begins the two line
/// separators that Go escapes too.
pub fn special(bytes: &[u8]) -> Option<usize> {
    first(bytes, |bytes| {
        // A quote and an ampersand differ in one bit, and so do the two angle brackets.
        bytes.below(0x20)
            | bytes.of(0xfb).equal(b'"')
            | bytes.of(0xfd).equal(b'<')
            | bytes.equal(b'\\')
            | bytes.equal(0xe2)
    })
}

/// The first quote or backslash: the end of a JSON string, or an escape in it.
pub fn quote(bytes: &[u8]) -> Option<usize> {
    first(bytes, |bytes| bytes.equal(b'"') | bytes.equal(b'\\'))
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
                assert_eq!(special(&bytes), expected(is_special(&byte)), "{byte} {length} {at}");
                assert_eq!(quote(&bytes), expected(byte == b'"' || byte == b'\\'), "{byte} {length} {at}");
            }
        }
        assert_eq!((newline(b""), special(b""), quote(b"")), (None, None, None));
        assert_eq!((newline(b"a\n\n"), special(b"\x01\x02"), quote(b"0123456789\\\"")), (Some(1), Some(0), Some(10)));
    }
}
