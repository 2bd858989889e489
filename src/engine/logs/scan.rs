//! Where the next byte of some kind is, many at a time: a loop over single bytes is what a log would spend its time in,
//! and a compiler that minds size makes no vector instructions of it.

use crate::sys::search::{Bytes, Marks, Wanted, copy_until, first};

/// Declares what is looked for.
macro_rules! wanted {
    ($($(#[$meta:meta])* $name:ident: |$bytes:ident| $marks:expr;)*) => { $(
        $(#[$meta])*
        struct $name;

        impl Wanted for $name {
            #[inline(always)]
            fn among($bytes: Bytes) -> Marks {
                $marks
            }
        }
    )* };
}

wanted! {
    Newline: |bytes| bytes.equal(b'\n');

    /// The bytes that cannot stand in a JSON string as they are, by the rules of Go's encoder. 0xe2 begins the two line
    /// separators that Go escapes too.
    Special: |bytes| {
        // A quote and an ampersand differ in one bit, and so do the two angle brackets.
        let signs = bytes.of(0xfb).equal(b'"') | bytes.of(0xfd).equal(b'<') | bytes.equal(b'\\');
        bytes.below(0x20) | signs | bytes.equal(0xe2)
    };

    SpecialOrHigh: |bytes| Special::among(bytes) | bytes.high();

    Quote: |bytes| bytes.equal(b'"') | bytes.equal(b'\\');

    /// All but digits, `-`, `.`, `:`, `T` and `Z`.
    OfNoTime: |bytes| {
        let others = (bytes.above(b':') & bytes.below(b'T')) | (bytes.above(b'T') & bytes.below(b'Z'));
        bytes.below(b'-') | bytes.equal(b'/') | others | bytes.above(b'Z')
    };
}

/// The first newline.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    first::<Newline>(bytes)
}

/// Copies what stands in a JSON string as it is, up to a byte that does not; see [`copy_until`]. With `ascii`, up to one
/// that is not ASCII, too.
pub fn copy_plain(from: &[u8], to: &mut [u8], ascii: bool) -> Option<usize> {
    match ascii {
        true => copy_until::<SpecialOrHigh>(from, to),
        false => copy_until::<Special>(from, to),
    }
}

/// The first quote or backslash: the end of a JSON string, or an escape in it.
pub fn quote(bytes: &[u8]) -> Option<usize> {
    first::<Quote>(bytes)
}

/// Whether there is nothing but what a time in UTC is made of.
pub fn is_of_time(bytes: &[u8]) -> bool {
    first::<OfNoTime>(bytes).is_none()
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
                let mut time = vec![b'7'; length];
                time[at] = byte;
                assert_eq!(is_of_time(&time), b"-.0123456789:TZ".contains(&byte), "{byte} {length} {at}");
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
