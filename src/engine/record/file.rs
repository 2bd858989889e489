//! The file of a record, which is written whole when the container changes, and in place when it starts or ends.
//!
//! ```text
//! {"version":2,"place":1024,"places":[     512 bytes, filled up with spaces
//! ["<crc>",7,{"startedAt":…}]              a place: how it last ended, filled up
//! ,["<crc>",8,{"startedAt":…}]             another one
//! ],"record":{"id":…}}                     what create settled
//! ```
//!
//! The place with the higher number counts, and the other is written next: whoever reads meanwhile, or after a power cut
//! in the middle of it, finds the one or the other whole. A write of a place is a block of the disk and nothing else: no
//! new file, no commit of a journal, and no room that a full disk would not have. The whole is JSON, too, so that a build
//! that knows no places can still say which version it is.

use super::Ended;
use crate::engine::crc::crc32;
use crate::json::{self, Tree};
use anyhow::{Context, Result, ensure};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

/// The first version of a record with places.
pub const VERSION: u32 = 2;

/// What a disk writes whole.
const SECTOR: usize = 512;
/// Enough for any end but one with a long error.
const PLACE: usize = 1024;
/// Where that begins which is checked: after `["01234567"`.
const CHECKED: usize = 11;

/// A record's file, taken apart.
pub struct Parts<'a> {
    pub ended: Ended,
    /// The number of the place that counts.
    number: u64,
    /// Which of the two is written next.
    next: usize,
    /// Bytes of a place.
    len: usize,
    /// The JSON of the rest.
    pub rest: &'a [u8],
}

/// Whether the bytes of a file are of this form at all; those before were the record's JSON alone.
pub fn has_places(bytes: &[u8]) -> bool {
    bytes.starts_with(format!("{{\"version\":{VERSION},\"place\":").as_bytes())
}

/// A whole file.
pub fn encode(rest: &[u8], ended: &Ended) -> Result<Vec<u8>> {
    let text = entry(1, ended)?;
    let len = PLACE.max((text.len() + 2).next_multiple_of(SECTOR));
    let mut bytes = format!("{{\"version\":{VERSION},\"place\":{len},\"places\":[").into_bytes();
    fill(&mut bytes, SECTOR);
    bytes.extend(&text);
    fill(&mut bytes, SECTOR + len);
    bytes.extend(b",null");
    fill(&mut bytes, SECTOR + 2 * len);
    bytes.extend(b"],\"record\":");
    bytes.extend(rest);
    bytes.extend(b"}\n");
    Ok(bytes)
}

/// Takes a file apart. `None` where neither place is whole: another process may just be writing, for the second time
/// since these bytes were begun to be read.
pub fn decode(bytes: &[u8]) -> Result<Option<Parts<'_>>> {
    let (places, len) = places(bytes)?;
    let rest = bytes[SECTOR + 2 * len..].trim_ascii_end();
    let rest =
        rest.strip_prefix(b"],\"record\":").and_then(|rest| rest.strip_suffix(b"}")).context("it is cut short")?;
    let found = places.iter().enumerate().filter_map(|(index, place)| Some((index, known(index, place)?)));
    let newest = found.max_by_key(|(_, (number, _))| *number);
    Ok(newest.map(|(index, (number, ended))| Parts { ended, number, next: 1 - index, len, rest }))
}

/// Writes how it ended over the older place; `false` where that is not long enough. Only for who holds the record's lock.
pub fn overwrite(path: &Path, parts: &Parts<'_>, ended: &Ended, durable: bool) -> Result<bool> {
    let mut text = if parts.next == 1 { b",".to_vec() } else { Vec::new() };
    text.extend(entry(parts.number + 1, ended)?);
    if text.len() >= parts.len {
        return Ok(false);
    }
    fill(&mut text, parts.len);
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&text, (SECTOR + parts.next * parts.len) as u64)?;
    if durable {
        file.sync_data()?;
    }
    Ok(true)
}

fn places(bytes: &[u8]) -> Result<([&[u8]; 2], usize)> {
    let head = bytes.get(..SECTOR).context("it is cut short")?.trim_ascii_end();
    let head = head.strip_prefix(format!("{{\"version\":{VERSION},\"place\":").as_bytes()).unwrap_or_default();
    let head = head.strip_suffix(b",\"places\":[").context("it has no places")?;
    let len: usize = std::str::from_utf8(head)?.parse()?;
    ensure!((PLACE..1 << 20).contains(&len) && bytes.len() > SECTOR + 2 * len, "it is cut short");
    Ok(([&bytes[SECTOR..][..len], &bytes[SECTOR + len..][..len]], len))
}

/// `["<crc of what follows it>",<number>,<how it ended>]`
fn entry(number: u64, ended: &Ended) -> Result<Vec<u8>> {
    let mut text = b"[\"........\"".to_vec();
    write!(text, ",{number},")?;
    serde_json::to_writer(&mut text, ended).context("encode how a container ended")?;
    text.push(b']');
    let check = format!("{:08x}", crc32(&text[CHECKED..]));
    text[2..10].copy_from_slice(check.as_bytes());
    Ok(text)
}

/// What was last read in each place, with the text that it was read of: who looks at a container again finds the same.
/// Nobody waits for it.
static LAST: [Mutex<Option<(Vec<u8>, (u64, Ended))>>; 2] = [const { Mutex::new(None) }; 2];

/// What stands in a place, if it is whole.
fn known(index: usize, place: &[u8]) -> Option<(u64, Ended)> {
    let text = unfilled(place.strip_prefix(b",").unwrap_or(place));
    let mut last = LAST[index].try_lock().ok();
    if let Some(Some((known, what))) = last.as_deref()
        && known == text
    {
        return Some(what.clone());
    }
    let what = read(text)?;
    if let Some(last) = &mut last {
        **last = Some((text.to_vec(), what.clone()));
    }
    Some(what)
}

fn read(text: &[u8]) -> Option<(u64, Ended)> {
    // Looked at first: where no end was written yet, not even an error of JSON is to be made.
    let check = format!("[\"{:08x}\"", crc32(text.get(CHECKED..)?));
    if !text.starts_with(check.as_bytes()) {
        return None;
    }
    let mut values = json::tree(text).and_then(Tree::list).ok()?.skip(1);
    let (number, ended) = (values.next()?, values.next()?);
    Some((json::from_tree(number).ok()?, json::from_tree(ended).ok()?))
}

/// Without what it was filled up with: by the piece, as that is most of a place.
fn unfilled(mut text: &[u8]) -> &[u8] {
    text = text.strip_suffix(b"\n").unwrap_or(text);
    while let Some(rest) = text.strip_suffix(&[b' '; 64]) {
        text = rest;
    }
    text.trim_ascii_end()
}

/// Fills up with spaces to a length, the last byte of which ends a line.
fn fill(bytes: &mut Vec<u8>, len: usize) {
    bytes.resize(len - 1, b' ');
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::store;

    fn ended(code: i32) -> Ended {
        Ended { exit_code: code, ..Ended::default() }
    }

    fn code(bytes: &[u8]) -> Option<i32> {
        decode(bytes).unwrap().map(|parts| parts.ended.exit_code)
    }

    #[test]
    fn an_end_is_written_in_place_and_the_one_before_it_stays_until_it_is_whole() {
        let dir = std::env::temp_dir().join(format!("dhow-record-{}", store::random_name().unwrap()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("record.json");
        let whole = encode(br#"{"id":"a"}"#, &ended(0)).unwrap();
        std::fs::write(&path, &whole).unwrap();
        for number in 1..6 {
            let before = std::fs::read(&path).unwrap();
            let parts = decode(&before).unwrap().unwrap();
            assert_eq!(parts.rest, br#"{"id":"a"}"#);
            assert!(overwrite(&path, &parts, &ended(number), true).unwrap());
            let after = std::fs::read(&path).unwrap();
            assert_eq!((after.len(), code(&after)), (whole.len(), Some(number)));
            serde_json::from_slice::<serde_json::Value>(&after).expect("it is JSON as a whole");
            // Only a part of it came to the disk, or is there yet: the one before counts.
            let changed: Vec<usize> = (0..after.len()).filter(|at| after[*at] != before[*at]).collect();
            for cut in [changed[0] + 1, changed[changed.len() / 2], changed[changed.len() - 1]] {
                let torn = [&after[..cut], &before[cut..]].concat();
                assert_eq!(code(&torn), Some(number - 1), "cut at {cut}");
                let torn = [&before[..cut], &after[cut..]].concat();
                assert_eq!(code(&torn), Some(number - 1), "begun at {cut}");
            }
        }
        // One that does not fit is for a whole file, whose places are as long as it needs.
        let long = Ended { error: "x".repeat(3000), ..Ended::default() };
        let bytes = std::fs::read(&path).unwrap();
        assert!(!overwrite(&path, &decode(&bytes).unwrap().unwrap(), &long, false).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let whole = encode(b"{}", &long).unwrap();
        assert_eq!(decode(&whole).unwrap().unwrap().ended, long);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_damaged_is_an_error_and_no_panic() {
        let whole = encode(br#"{"id":"a"}"#, &ended(7)).unwrap();
        for len in 0..whole.len() - 2 {
            assert!(decode(&whole[..len]).is_err(), "{len} bytes");
        }
        let mut empty = whole.clone();
        empty[SECTOR..SECTOR + PLACE].fill(0);
        assert!(decode(&empty).unwrap().is_none());
        for place in ["[\"\",1,{}]", "[\"00000000\",1,{}]", "[]", "{", ""] {
            assert!(read(place.as_bytes()).is_none(), "{place}");
        }
        let huge = String::from_utf8(whole).unwrap().replacen("1024", "9999999999999999999", 1);
        assert!(decode(huge.as_bytes()).is_err());
        let huge = huge.replacen("9999999999999999999", "1048575", 1);
        assert!(decode(huge.as_bytes()).is_err());
    }
}
