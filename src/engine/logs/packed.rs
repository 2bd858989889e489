//! A rotated file of a log that was compressed, `….1.gz`: read as the file that it was made of, and known by it, because
//! somebody may be in the middle of reading that one.

use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

/// A file whatever its name: device and inode.
pub type Identity = (u64, u64);

pub fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

/// Read and written at once.
const BUFFER: usize = 64 * 1024;

/// How the header begins of what [`pack`] makes: deflate, with an extra field and nothing else (RFC 1952, 2.3).
const MAGIC: [u8; 4] = [0x1f, 0x8b, 8, 4];
/// The subfield that says which file it was made of: device and inode, little endian.
const SUBFIELD: [u8; 4] = [b'd', b'h', 16, 0];
/// Where that begins: behind the length of the extra field.
const SUBFIELD_AT: usize = 12;

/// Compresses a file of a log.
pub fn pack(plain: &File, of: Identity, packed: &File) -> io::Result<()> {
    let mut extra = SUBFIELD.to_vec();
    extra.extend_from_slice(&of.0.to_le_bytes());
    extra.extend_from_slice(&of.1.to_le_bytes());
    let mut encoder = GzBuilder::new().extra(extra).write(packed, Compression::default());
    let mut buffer = vec![0; BUFFER];
    let mut plain = plain;
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => encoder.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    encoder.finish().map(drop)
}

/// Which file a compressed one was made of; nothing where it does not say.
pub fn origin(packed: &File) -> Option<Identity> {
    let mut head = [0; SUBFIELD_AT + 4 + 16];
    packed.read_exact_at(&mut head, 0).ok()?;
    let (device, inode) = head[SUBFIELD_AT + 4..].split_first_chunk::<8>()?;
    let is_ours = head.starts_with(&MAGIC) && head[SUBFIELD_AT..].starts_with(&SUBFIELD);
    is_ours.then_some((u64::from_le_bytes(*device), u64::from_le_bytes(*inode.first_chunk()?)))
}

/// Reads a compressed file by places in what it was made of, quickest one behind the other.
pub struct Packed {
    decoder: MultiGzDecoder<BufReader<At>>,
    /// Where the decoder is.
    at: u64,
}

/// A file with a place of its own, whoever else reads it by the same descriptor.
struct At {
    file: File,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

impl Packed {
    pub fn new(file: File) -> Packed {
        let decoder = MultiGzDecoder::new(BufReader::with_capacity(BUFFER, At { file, offset: 0 }));
        Packed { decoder, at: 0 }
    }

    /// Going back means to begin anew.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if offset < self.at {
            *self = Packed::new(self.decoder.get_ref().get_ref().file.try_clone()?);
        }
        while self.at < offset {
            let most = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(buffer.len());
            match self.decoder.read(&mut buffer[..most])? {
                0 => return Ok(0),
                skipped => self.at += skipped as u64,
            }
        }
        let length = self.decoder.read(buffer)?;
        self.at += length as u64;
        Ok(length)
    }

    /// Where the last `wanted` entries begin. Takes off `wanted` how many there are.
    pub fn tail(&mut self, wanted: &mut u64) -> io::Result<u64> {
        let mut buffer = vec![0; BUFFER];
        // How many newlines are in each block of the buffer's size.
        let mut blocks: Vec<u32> = Vec::new();
        let newlines = |block: &[u8]| block.iter().filter(|byte| **byte == b'\n').count();
        loop {
            let filled = self.fill(&mut buffer, (blocks.len() * BUFFER) as u64)?;
            if filled == 0 {
                break;
            }
            blocks.push(newlines(&buffer[..filled]) as u32);
        }
        let there: u64 = blocks.iter().map(|count| u64::from(*count)).sum();
        if there <= *wanted {
            *wanted -= there;
            return Ok(0);
        }
        // The entries begin behind the newline of the one before.
        let mut before = there - *wanted;
        *wanted = 0;
        for (index, count) in blocks.into_iter().enumerate() {
            if u64::from(count) < before {
                before -= u64::from(count);
                continue;
            }
            let start = (index * BUFFER) as u64;
            let filled = self.fill(&mut buffer, start)?;
            let at = buffer[..filled].iter().position(|byte| {
                before -= u64::from(*byte == b'\n');
                before == 0
            });
            return Ok(start + at.map_or(0, |at| at as u64 + 1));
        }
        Ok(0)
    }

    /// Fills the buffer, but for the end of the file.
    pub fn fill(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read_from_any_place_and_says_what_it_was() {
        let dir = std::env::temp_dir().join(format!("dhow-packed-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let open = |name: &str| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true).open(dir.join(name)).unwrap()
        };
        let text: String = (0..60_000).map(|n| format!("{n}\n")).collect();
        let (plain, packed) = (open("plain"), open("plain.gz"));
        plain.write_all_at(text.as_bytes(), 0).unwrap();
        let of = identity(&plain.metadata().unwrap());
        pack(&plain, of, &packed).unwrap();
        assert!(packed.metadata().unwrap().len() * 2 < text.len() as u64);
        assert_eq!((origin(&packed), origin(&plain)), (Some(of), None));
        let mut reader = Packed::new(packed);
        let mut buffer = [0; 1000];
        for offset in [0, 1, 5000, 4000, 300_000, 0, text.len() - 1, text.len(), text.len() + 1, 70_000] {
            let filled = reader.fill(&mut buffer, offset as u64).unwrap();
            let expected = text.as_bytes().get(offset..).unwrap_or_default();
            assert_eq!(&buffer[..filled], &expected[..expected.len().min(buffer.len())], "{offset}");
        }
        for wanted in [0, 1, 2, 3, 100, 10_000, 59_999, 60_000, 60_001, u64::MAX] {
            let mut left = wanted;
            let at = reader.tail(&mut left).unwrap() as usize;
            assert_eq!(text[at..].lines().count() as u64, wanted.min(60_000), "{wanted}");
            assert_eq!(left, wanted.saturating_sub(60_000));
        }
        // One that was cut short is an error, and not the end.
        let torn = open("torn.gz");
        let mut bytes = vec![0; 5000];
        reader.decoder.get_ref().get_ref().file.read_exact_at(&mut bytes, 0).unwrap();
        torn.write_all_at(&bytes, 0).unwrap();
        assert!(Packed::new(torn).tail(&mut 5).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
