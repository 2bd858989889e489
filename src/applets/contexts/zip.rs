//! What a context in a zip needs of that format (PKWARE's APPNOTE, 4.3): plain and deflated files.

use super::archive::LIMIT;
use anyhow::{Context, Result, bail};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use std::io::Read;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const END: &[u8; 4] = b"PK\x05\x06";
/// The kind of a file in its mode, and that of a regular one.
const KIND: u32 = 0o170000;
const REGULAR: u32 = 0o100000;

pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(LOCAL)
}

/// The regular files, by the directory at the archive's end.
pub fn files(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let end = bytes.windows(END.len()).rposition(|window| window == END).context("the zip has no end")?;
    part(bytes, end, 22)?;
    let (count, mut at) = (short(bytes, end + 10)?, long(bytes, end + 16)? as usize);
    let (mut files, mut left) = (Vec::new(), LIMIT);
    for _ in 0..count {
        if part(bytes, at, 4)? != CENTRAL {
            bail!("the zip's directory is broken");
        }
        let lengths = [28, 30, 32].map(|offset| short(bytes, at + offset).map(usize::from));
        let [name_length, extra, comment] = lengths;
        let (name_length, extra, comment) = (name_length?, extra?, comment?);
        let name = std::str::from_utf8(part(bytes, at + 46, name_length)?).context("a name in the zip")?.to_owned();
        let kind = match part(bytes, at + 5, 1)? {
            // Made by a Unix: the mode stands in the upper half.
            [3] => (long(bytes, at + 38)? >> 16) & KIND,
            _ => 0,
        };
        if !name.ends_with('/') && matches!(kind, 0 | REGULAR) {
            let content = content(bytes, at, left).with_context(|| format!("read {name} in the zip"))?;
            left -= content.len() as u64;
            files.push((name, content));
        }
        at += 46 + name_length + extra + comment;
    }
    Ok(files)
}

/// The content of the file of which the directory tells at `at`.
fn content(bytes: &[u8], at: usize, limit: u64) -> Result<Vec<u8>> {
    let (flags, method, sum) = (short(bytes, at + 8)?, short(bytes, at + 10)?, long(bytes, at + 16)?);
    if flags & 1 != 0 {
        bail!("it is encrypted");
    }
    let (packed, local) = (long(bytes, at + 20)? as usize, long(bytes, at + 42)? as usize);
    if part(bytes, local, 4)? != LOCAL {
        bail!("it is not where the directory says");
    }
    let start = local + 30 + usize::from(short(bytes, local + 26)?) + usize::from(short(bytes, local + 28)?);
    let packed = part(bytes, start, packed)?;
    let mut content = Vec::new();
    match method {
        0 => packed.take(limit + 1).read_to_end(&mut content)?,
        8 => DeflateDecoder::new(packed).take(limit + 1).read_to_end(&mut content)?,
        other => bail!("its compression (method {other}) is not known"),
    };
    if content.len() as u64 > limit {
        bail!("read exceeds the defined limit");
    }
    let mut crc = Crc::new();
    crc.update(&content);
    if crc.sum() != sum {
        bail!("its checksum is wrong");
    }
    Ok(content)
}

fn part(bytes: &[u8], at: usize, length: usize) -> Result<&[u8]> {
    bytes.get(at..).and_then(|rest| rest.get(..length)).context("the zip is cut off")
}

fn short(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(part(bytes, at, 2)?.try_into().context("two bytes")?))
}

fn long(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(part(bytes, at, 4)?.try_into().context("four bytes")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plain `a` ("1"), a deflated `b` (100 blanks) and a directory, as Python's zipfile writes them.
    const ZIP: &str = "\
        504b030414000000000000002100b7efdc830100000001000000010000006131504b0304140000000800000021002300\
        6fa3060000006400000001000000625350a03d0000504b03041400000000000000210000000000000000000000000002\
        000000642f504b0102140314000000000000002100b7efdc830100000001000000010000000000000000000000a48100\
        00000061504b010214031400000008000000210023006fa30600000064000000010000000000000000000000a4812000\
        000062504b0102140314000000000000002100000000000000000000000000020000000000000000000000800145000000\
        642f504b050600000000030003008e000000650000000000";

    fn bytes() -> Vec<u8> {
        let digits: Vec<u32> = ZIP.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    #[test]
    fn plain_and_deflated() {
        let expected = [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), vec![b' '; 100])];
        assert_eq!(files(&bytes()).unwrap(), expected);
    }

    #[test]
    fn no_number_in_it_is_trusted() {
        let whole = bytes();
        for length in 0..whole.len() {
            assert!(files(&whole[..length]).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                // Whatever comes of it, it comes to an end.
                let _ = files(&broken);
            }
        }
        let mut broken = whole;
        let content = broken.iter().position(|byte| *byte == b'1').unwrap();
        broken[content] = b'2';
        assert!(format!("{:#}", files(&broken).unwrap_err()).contains("checksum"));
    }
}
