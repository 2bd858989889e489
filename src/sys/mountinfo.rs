//! What is mounted, as /proc/self/mountinfo tells it (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A line.
#[derive(Debug, PartialEq)]
pub struct Mount<'a> {
    /// Where, as the reader's root has it.
    pub point: PathBuf,
    /// `shared:7 master:3`: whom it hears of mounts from, and tells.
    pub optional: &'a str,
}

/// The mounts in their order, a later one covering an earlier one at the same place.
pub fn parse(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (head, _) = line.split_once(" - ")?;
        let mut fields = head.splitn(7, ' ');
        let point = fields.nth(4)?;
        let optional = fields.nth(1).unwrap_or_default();
        Some(Mount { point: unescape(point), optional: optional.trim_end() })
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                plain.push(escaped);
                at += 4;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    43 27 0:39 / /a\\040b\\134c rw shared:7 master:3 - tmpfs none rw\n\
                    44 27 0:40 /x /y rw shared:8 - tmpfs a - b rw\n\
                    nonsense\n";
        let mounts: Vec<_> = parse(text).map(|mount| (mount.point.display().to_string(), mount.optional)).collect();
        let expected = [("/", ""), ("/a b\\c", "shared:7 master:3"), ("/y", "shared:8")];
        assert_eq!(mounts, expected.map(|(point, optional)| (point.to_owned(), optional)));
    }
}
