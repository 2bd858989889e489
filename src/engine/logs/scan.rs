//! Where the next byte of some kind is, eight at a time: a loop over single bytes is what a log would spend its time in,
//! and a compiler that minds size makes no vector instructions of it.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Marks the bytes that are `byte`. Above the first one marked there may be false ones.
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// Marks the bytes that are less than `limit`, which is at most 128; as above.
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & HIGH
}

/// The first byte that is marked; all marks are exact up to it.
fn first(bytes: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let mut at = 0;
    let mut rest = bytes;
    while let Some((word, next)) = rest.split_first_chunk() {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return Some(at + marked.trailing_zeros() as usize / 8);
        }
        at += 8;
        rest = next;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let found = at + marks(u64::from_le_bytes(last)).trailing_zeros() as usize / 8;
    (found < bytes.len()).then_some(found)
}

/// The first newline.
pub fn newline(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| equal(word, b'\n'))
}

/// The first byte that cannot stand in a JSON string as it is, by the rules of Go's encoder. 0xe2 begins the two line
/// separators that Go escapes too.
pub fn special(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| {
        below(word, 0x20)
            | equal(word & (ONES * 0xfb), b'"')
            | equal(word & (ONES * 0xfd), b'<')
            | equal(word, b'\\')
            | equal(word, 0xe2)
    })
}

/// The first quote or backslash: the end of a JSON string, or an escape in it.
pub fn quote(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| equal(word, b'"') | equal(word, b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        let is_special = |byte: &u8| *byte < 0x20 || b"\"&<>\\\xe2".contains(byte);
        for byte in 0..=u8::MAX {
            for (length, at) in (0..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
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
