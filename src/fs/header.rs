//! What a tar says of one entry: ustar, PAX, GNU and star headers (pax(1), and the manuals of GNU tar and star).

use anyhow::{Context, Result, bail};
use std::ffi::CString;

pub const BLOCK: usize = 512;
pub type Block = [u8; BLOCK];

/// A map of a sparse file with more parts than this is an attack on memory.
const MAX_PARTS: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    File,
    Link,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
    /// Data that describes the archive and not a file: volume labels, global PAX headers.
    Note,
}

/// Since 1970; `nanos` counts forward, also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

/// One entry with everything that its headers say. Reused from entry to entry.
#[derive(Debug, Default)]
pub struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of data in the tar.
    pub size: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    /// Major and minor number.
    pub device: (u64, u64),
    pub xattrs: Vec<(CString, Vec<u8>)>,
    pub sparse: Option<Sparse>,
}

/// Where the data of a sparse file belongs; between the parts are holes.
#[derive(Debug, Default, PartialEq)]
pub struct Sparse {
    /// Length of the file with its holes.
    pub size: u64,
    /// Offset and length, in order.
    pub parts: Vec<(u64, u64)>,
    /// PAX 1.0: the map stands at the start of the data.
    pub in_data: bool,
    /// Old GNU: the map goes on in blocks that follow the header.
    pub extended: bool,
}

/// What the headers before an entry's own header say of it.
#[derive(Debug, Default)]
pub struct Extra {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Time>,
    atime: Option<Time>,
    xattrs: Vec<(CString, Vec<u8>)>,
    sparse: Option<Sparse>,
    sparse_name: Option<Vec<u8>>,
    sparse_major: u64,
    pending_offset: Option<u64>,
}

/// Checks a header's sum; a block of zeros ends an archive and is no header.
pub fn check(block: &Block) -> Result<()> {
    let said = number(&block[148..156]).context("its checksum")?;
    // The field itself counts as spaces.
    let sum = |value: fn(u8) -> i64| {
        let all: i64 = block.iter().map(|&byte| value(byte)).sum();
        let field: i64 = block[148..156].iter().map(|&byte| value(byte)).sum();
        all - field + 8 * i64::from(b' ')
    };
    // Old programs summed signed characters.
    if said != sum(i64::from) && said != sum(|byte| i64::from(byte as i8)) {
        bail!("not a tar header: the checksum is wrong");
    }
    Ok(())
}

/// The type flag of a header.
pub fn flag(block: &Block) -> u8 {
    block[156]
}

/// Bytes of data that follow this header.
pub fn size(block: &Block) -> Result<u64> {
    let size = number(&block[124..136]).context("its size")?;
    u64::try_from(size).context("its size is negative")
}

impl Entry {
    /// Takes over what a checked header says, and what `extra` says instead of it.
    pub fn set(&mut self, block: &Block, extra: &mut Extra) -> Result<()> {
        let gnu = &block[257..265] == b"ustar  \0";
        let ustar = !gnu && &block[257..262] == b"ustar";
        let star = ustar && &block[508..512] == b"tar\0";
        self.path.clear();
        let prefix: &[u8] = match (ustar, star) {
            (true, true) => text(&block[345..476]),
            (true, false) => text(&block[345..500]),
            _ => b"",
        };
        match extra.sparse_name.take().or(extra.path.take()) {
            Some(path) => self.path = path,
            None => {
                if !prefix.is_empty() {
                    self.path.extend_from_slice(prefix);
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(text(&block[..100]));
            }
        }
        match extra.link.take() {
            Some(link) => self.link = link,
            None => {
                self.link.clear();
                self.link.extend_from_slice(text(&block[157..257]));
            }
        }
        self.mode = (number(&block[100..108]).context("its mode")? & 0o7777) as u32;
        self.uid = match extra.uid {
            Some(uid) => uid,
            None => id(number(&block[108..116]).context("its user id")?)?,
        };
        self.gid = match extra.gid {
            Some(gid) => gid,
            None => id(number(&block[116..124]).context("its group id")?)?,
        };
        self.mtime = match extra.mtime {
            Some(time) => time,
            None => Time { seconds: number(&block[136..148]).context("its time")?, nanos: 0 },
        };
        self.atime = extra.atime;
        self.size = match extra.size {
            Some(size) => size,
            None => size(block)?,
        };
        if self.size > i64::MAX as u64 - BLOCK as u64 {
            bail!("its size {} is more than a file can have", self.size);
        }
        self.xattrs = std::mem::take(&mut extra.xattrs);
        self.device = (0, 0);
        self.sparse = extra.sparse.take();
        self.kind = match flag(block) {
            0 if self.path.ends_with(b"/") => Kind::Dir,
            0 | b'0' | b'7' => Kind::File,
            b'S' => {
                self.sparse = Some(old_gnu_sparse(block)?);
                Kind::File
            }
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'3' | b'4' => {
                let part = |range: std::ops::Range<usize>| {
                    u64::try_from(number(&block[range]).context("its device number")?).context("its device number")
                };
                self.device = (part(329..337)?, part(337..345)?);
                if flag(block) == b'3' { Kind::Char } else { Kind::Block }
            }
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            b'g' | b'V' => Kind::Note,
            other => bail!("its type {:?} is not known", char::from(other)),
        };
        // These have no data, whatever their size field says (some writers put a link's target's size there).
        if matches!(flag(block), b'1'..=b'6') {
            self.size = 0;
        }
        if self.kind != Kind::File {
            self.sparse = None;
        }
        *extra = Extra::default();
        Ok(())
    }
}

impl Extra {
    /// Takes over the records of a PAX header: `length key=value\n` each.
    pub fn pax(&mut self, mut records: &[u8]) -> Result<()> {
        // Some writers fill the rest with zeros.
        while !records.is_empty() && records[0] != 0 {
            let space = records.iter().position(|&byte| byte == b' ').context("a PAX record has no length")?;
            let length = decimal(&records[..space]).context("the length of a PAX record")?;
            let length = usize::try_from(length).context("the length of a PAX record")?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                bail!("a PAX record has a wrong length");
            }
            let record = &records[space + 1..length - 1];
            let equals = record.iter().position(|&byte| byte == b'=').context("a PAX record has no value")?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            self.record(key, value).with_context(|| format!("its PAX record {}", super::path::show(key)))?;
            records = &records[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        // An empty value takes back what was said.
        let said = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = said(value),
            b"linkpath" => self.link = said(value),
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, |v| id(i64::try_from(decimal(v)?)?))?,
            b"gid" => self.gid = optional(value, |v| id(i64::try_from(decimal(v)?)?))?,
            b"mtime" => self.mtime = optional(value, time)?,
            b"atime" => self.atime = optional(value, time)?,
            b"GNU.sparse.major" => self.sparse_major = decimal(value)?,
            b"GNU.sparse.name" => self.sparse_name = said(value),
            b"GNU.sparse.realsize" => {
                self.sparse().size = decimal(value)?;
                self.sparse().in_data = self.sparse_major == 1;
            }
            b"GNU.sparse.size" => self.sparse().size = decimal(value)?,
            b"GNU.sparse.offset" => self.pending_offset = Some(decimal(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.pending_offset.take().context("a length without an offset")?;
                self.sparse().push(offset, decimal(value)?)?;
            }
            b"GNU.sparse.map" => {
                self.sparse().parts.clear();
                let mut numbers = value.split(|&byte| byte == b',');
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().context("an offset without a length")?;
                    self.sparse().push(decimal(offset)?, decimal(length)?)?;
                }
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = CString::new(name).context("a NUL in its name")?;
                    self.xattrs.retain(|(other, _)| *other != name);
                    self.xattrs.push((name, value.to_vec()));
                }
            }
        }
        Ok(())
    }

    fn sparse(&mut self) -> &mut Sparse {
        self.sparse.get_or_insert_default()
    }
}

impl Sparse {
    /// Adds a part; they must be in order, apart, and inside the file's possible length.
    pub fn push(&mut self, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).filter(|end| *end <= i64::MAX as u64);
        let after = self.parts.last().map_or(0, |(offset, length)| offset + length);
        if end.is_none() || offset < after {
            bail!("the map of a sparse file has overlapping or overflowing parts");
        }
        if self.parts.len() >= MAX_PARTS {
            bail!("the map of a sparse file has more than {MAX_PARTS} parts");
        }
        self.parts.push((offset, length));
        Ok(())
    }

    /// Takes over one part of an old GNU map (12 bytes each number); `false` where the map has ended.
    pub fn push_old_gnu(&mut self, field: &[u8]) -> Result<bool> {
        if field[0] == 0 {
            return Ok(false);
        }
        let (offset, length) = (number(&field[..12])?, number(&field[12..24])?);
        self.push(u64::try_from(offset)?, u64::try_from(length)?)?;
        Ok(true)
    }

    /// Checks that the parts hold just the `size` bytes that the tar has, and lie in the file.
    pub fn check(&self, size: u64) -> Result<()> {
        let sum: u64 = self.parts.iter().map(|(_, length)| length).sum();
        let end = self.parts.last().map_or(0, |(offset, length)| offset + length);
        if sum != size || end > self.size {
            bail!("the map of a sparse file does not fit its size");
        }
        Ok(())
    }
}

fn old_gnu_sparse(block: &Block) -> Result<Sparse> {
    let mut sparse = Sparse {
        size: u64::try_from(number(&block[483..495]).context("its real size")?).context("its real size")?,
        extended: block[482] != 0,
        ..Sparse::default()
    };
    for field in block[386..482].chunks_exact(24) {
        if !sparse.push_old_gnu(field).context("its sparse map")? {
            break;
        }
    }
    Ok(sparse)
}

/// A field's text: up to the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

/// A numeric field: octal digits between spaces and NULs, or (first bit set) two's complement, big endian.
fn number(field: &[u8]) -> Result<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (i, &byte) in field.iter().enumerate() {
            let byte = if i > 0 {
                byte
            } else if negative {
                byte | 0x80
            } else {
                byte & 0x7f
            };
            value = value.checked_mul(256).context("a number is too large")? | i64::from(byte);
        }
        return Ok(value);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = text(&field[start..]);
    let end = digits.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1);
    let mut value = 0i64;
    for byte in &digits[..end] {
        let digit = byte.wrapping_sub(b'0');
        if digit > 7 {
            bail!("a number has a character that is no octal digit");
        }
        // 12 octal digits are 36 bits.
        value = value << 3 | i64::from(digit);
    }
    Ok(value)
}

fn decimal(text: &[u8]) -> Result<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        bail!("{:?} is not a number", super::path::show(text));
    }
    let value: u64 = std::str::from_utf8(text)?.parse().context("a number is too large")?;
    if value > i64::MAX as u64 {
        bail!("a number is too large: {value}");
    }
    Ok(value)
}

fn optional<T>(value: &[u8], read: impl Fn(&[u8]) -> Result<T>) -> Result<Option<T>> {
    if value.is_empty() { Ok(None) } else { read(value).map(Some) }
}

/// A user or group id. The largest 32-bit number means "unchanged" to chown(2) and is no id.
fn id(value: i64) -> Result<u32> {
    u32::try_from(value).ok().filter(|&id| id != u32::MAX).with_context(|| format!("{value} is not a user or group id"))
}

/// `[-]seconds[.fraction]`
fn time(text: &[u8]) -> Result<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut halves = digits.splitn(2, |&byte| byte == b'.');
    let seconds = decimal(halves.next().unwrap_or_default())? as i64;
    let fraction = halves.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        bail!("{:?} is not a time", super::path::show(text));
    }
    let nanos = (0..9).fold(0u32, |nanos, i| nanos * 10 + fraction.get(i).map_or(0, |&digit| u32::from(digit - b'0')));
    Ok(match (negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos },
        (true, _) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   755 \0", Some(0o755)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o77777777777)),
            (b"777777777777", Some(0o777777777777)),
            (b"12x\0", None),
            (b"-1\0\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x00", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field).ok(), value, "{field:?}");
        }
    }

    #[test]
    fn times() {
        for (text, value) in [
            ("0", Some((0, 0))),
            ("1700000000.123456789", Some((1700000000, 123456789))),
            ("5.5", Some((5, 500_000_000))),
            ("5.1234567899", Some((5, 123456789))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("", None),
            ("x", None),
            ("1.x", None),
            ("9223372036854775808", None),
        ] {
            let value = value.map(|(seconds, nanos)| Time { seconds, nanos });
            assert_eq!(time(text.as_bytes()).ok(), value, "{text}");
        }
    }

    fn record(key: &str, value: &str) -> String {
        let rest = key.len() + value.len() + 3;
        let digits = (rest + rest.to_string().len()).to_string().len();
        format!("{} {key}={value}\n", rest + digits)
    }

    #[test]
    fn pax_records() {
        let mut extra = Extra::default();
        let records = record("path", "a") + &record("path", "b\nc") + &record("SCHILY.xattr.user.x", "\0\n") + "\0\0\0";
        extra.pax(records.as_bytes()).unwrap();
        assert_eq!(extra.path.as_deref(), Some(&b"b\nc"[..]));
        assert_eq!(extra.xattrs, [(c"user.x".to_owned(), b"\0\n".to_vec())]);
        for bad in ["8 path=a\n", "11 path=a\n", "99999999999999999999 path=a\n", "0 path=a\n", "path=a\n", "7 path\n"]
        {
            assert!(Extra::default().pax(bad.as_bytes()).is_err(), "{bad}");
        }
        for (key, value) in [
            ("size", "18446744073709551616"),
            ("size", "9223372036854775808"),
            ("size", "-1"),
            ("uid", "4294967295"),
            ("mtime", "now"),
        ] {
            assert!(Extra::default().pax(record(key, value).as_bytes()).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn sparse_maps() {
        let mut extra = Extra::default();
        let records = record("GNU.sparse.size", "100") + &record("GNU.sparse.map", "0,10,50,20");
        extra.pax(records.as_bytes()).unwrap();
        let sparse = extra.sparse.unwrap();
        assert_eq!((sparse.size, &sparse.parts[..]), (100, &[(0, 10), (50, 20)][..]));
        assert!(sparse.check(30).is_ok() && sparse.check(31).is_err());
        for map in ["0,10,5,10", "0", "9223372036854775807,1", "x,1"] {
            assert!(Extra::default().pax(record("GNU.sparse.map", map).as_bytes()).is_err(), "{map}");
        }
    }
}
