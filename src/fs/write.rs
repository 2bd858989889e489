//! Writes a tar: ustar headers, with PAX records for what they cannot say (pax(1)), and GNU's sparse format 1.0.

use super::header::{BLOCK, Block, Entry, Kind, Sparse};
use std::io::{Result, Write};

/// Numbers that fit into fields of 8 and 12 bytes, as octal digits and a NUL.
const SHORT: u64 = 0o7777777;
const LONG: u64 = 0o77777777777;

/// Writes the headers of an entry; `entry.size` bytes of data follow (of a sparse file: those of its parts), and then
/// [`pad`].
pub fn head(out: &mut dyn Write, entry: &Entry) -> Result<()> {
    let mut records = Vec::new();
    let map = entry.sparse.as_ref().map(map).unwrap_or_default();
    let mut path = &entry.path[..];
    if let Some(sparse) = &entry.sparse {
        record(&mut records, b"GNU.sparse.major", b"1");
        record(&mut records, b"GNU.sparse.minor", b"0");
        record(&mut records, b"GNU.sparse.name", path);
        record(&mut records, b"GNU.sparse.realsize", sparse.size.to_string().as_bytes());
        // What is shown by a reader that does not know the format.
        path = b"GNUSparseFile.0";
    }
    let size = map.len() as u64 + entry.size;
    let mut block: Block = [0; BLOCK];
    if path.len() > 100 {
        record(&mut records, b"path", path);
    }
    if entry.link.len() > 100 {
        record(&mut records, b"linkpath", &entry.link);
    }
    text(&mut block, 0, 100, path);
    text(&mut block, 157, 100, &entry.link);
    octal(&mut block, 100, 8, u64::from(entry.mode));
    for (key, at, length, value, most) in [
        (&b"uid"[..], 108, 8, u64::from(entry.uid), SHORT),
        (b"gid", 116, 8, u64::from(entry.gid), SHORT),
        (b"size", 124, 12, size, LONG),
    ] {
        if value > most {
            record(&mut records, key, value.to_string().as_bytes());
        }
        octal(&mut block, at, length, if value > most { 0 } else { value });
    }
    let seconds = u64::try_from(entry.mtime.seconds).ok().filter(|seconds| *seconds <= LONG);
    if seconds.is_none() || entry.mtime.nanos != 0 {
        record(&mut records, b"mtime", time(entry.mtime.seconds, entry.mtime.nanos).as_bytes());
    }
    octal(&mut block, 136, 12, seconds.unwrap_or(0));
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.to_bytes()].concat(), value);
    }
    block[156] = flag(entry.kind);
    if matches!(entry.kind, Kind::Char | Kind::Block) {
        octal(&mut block, 329, 8, entry.device.0.min(SHORT));
        octal(&mut block, 337, 8, entry.device.1.min(SHORT));
    }
    if !records.is_empty() {
        let mut extra: Block = [0; BLOCK];
        text(&mut extra, 0, 100, b"PaxHeaders.0");
        octal(&mut extra, 100, 8, 0o644);
        octal(&mut extra, 108, 8, 0);
        octal(&mut extra, 116, 8, 0);
        octal(&mut extra, 124, 12, records.len() as u64);
        octal(&mut extra, 136, 12, 0);
        extra[156] = b'x';
        out.write_all(finish(&mut extra))?;
        out.write_all(&records)?;
        pad(out, records.len() as u64)?;
    }
    out.write_all(finish(&mut block))?;
    out.write_all(&map)
}

/// Fills up the last block of `size` bytes of data.
pub fn pad(out: &mut dyn Write, size: u64) -> Result<()> {
    let rest = size as usize % BLOCK;
    if rest == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][rest..]) }
}

/// Ends the archive.
pub fn end(out: &mut dyn Write) -> Result<()> {
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Link => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Dir => b'5',
        Kind::Fifo => b'6',
        Kind::Note => b'g',
    }
}

fn finish(block: &mut Block) -> &Block {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn text(block: &mut Block, at: usize, room: usize, text: &[u8]) {
    let length = text.len().min(room);
    block[at..at + length].copy_from_slice(&text[..length]);
}

fn octal(block: &mut Block, at: usize, length: usize, value: u64) {
    let digits = format!("{value:0width$o}", width = length - 1);
    block[at..at + digits.len()].copy_from_slice(digits.as_bytes());
}

/// `length key=value\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with a fraction; `nanos` counts forward, also before 1970.
fn time(seconds: i64, nanos: u32) -> String {
    match (seconds < 0, nanos) {
        (_, 0) => seconds.to_string(),
        (false, nanos) => format!("{seconds}.{nanos:09}"),
        (true, nanos) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
    }
}

/// The map of a sparse file, which stands before its data: the count of parts, then each one's offset and length.
fn map(sparse: &Sparse) -> Vec<u8> {
    let mut text = format!("{}\n", sparse.parts.len());
    for (offset, length) in &sparse.parts {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::header::Time;
    use crate::fs::stream::Stream;

    /// What is written is read again just so.
    #[test]
    fn everything_that_an_entry_can_say() {
        let long = |c: u8| vec![c; 150];
        let entries = [
            Entry { path: b"a/".to_vec(), kind: Kind::Dir, mode: 0o1755, ..Entry::default() },
            Entry {
                path: long(b'n'),
                mode: 0o4711,
                uid: 3_000_000,
                gid: u32::MAX - 1,
                size: 3,
                mtime: Time { seconds: -2, nanos: 750_000_000 },
                xattrs: vec![(c"user.x".to_owned(), b"\0=\n".to_vec())],
                ..Entry::default()
            },
            Entry { path: b"s".to_vec(), kind: Kind::Symlink, link: long(b'l'), ..Entry::default() },
            Entry {
                path: b"d".to_vec(),
                kind: Kind::Char,
                device: (1, 1_048_575),
                mtime: Time { seconds: 1_700_000_000, nanos: 5 },
                ..Entry::default()
            },
            Entry {
                path: long(b'h'),
                size: 3,
                sparse: Some(Sparse { size: 1 << 40, parts: vec![(4096, 1), (1 << 39, 2)], ..Sparse::default() }),
                ..Entry::default()
            },
        ];
        let mut tar = Vec::new();
        for entry in &entries {
            head(&mut tar, entry).unwrap();
            tar.extend_from_slice(&b"xyz"[..entry.size as usize]);
            pad(&mut tar, entry.size).unwrap();
        }
        end(&mut tar).unwrap();
        assert_eq!(tar.len() % BLOCK, 0);
        let mut source = &tar[..];
        let mut stream = Stream::new(&mut source, None);
        let mut read = Entry::default();
        for entry in &entries {
            assert!(stream.next(&mut read).unwrap());
            let is_sparse = |entry: &Entry| entry.sparse.as_ref().map(|sparse| (sparse.size, sparse.parts.clone()));
            assert_eq!(is_sparse(&read), is_sparse(entry));
            let parts = |entry: &Entry| format!("{:?}", Entry { sparse: None, ..copy(entry) });
            assert_eq!(parts(&read), parts(entry));
            stream.skip(read.size).unwrap();
            stream.pad(read.size).unwrap();
        }
        assert!(!stream.next(&mut read).unwrap());
    }

    fn copy(entry: &Entry) -> Entry {
        Entry {
            path: entry.path.clone(),
            link: entry.link.clone(),
            xattrs: entry.xattrs.clone(),
            sparse: None,
            ..*entry
        }
    }
}
