//! What a layer is compressed with is decided by its first bytes: registries' media types are often wrong.

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;
use std::io::{BufRead, BufReader, Read};

/// Frames that ask for a larger window than 128 MiB are refused: it is what a decoder must hold in memory.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 128 * 1024;
/// So many bytes tell.
const MAGIC: usize = 6;

/// A compression that tars come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// Tells by the first bytes.
    pub fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame: zstd streams made for seeking may begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }
}

/// Reads what `reader` holds uncompressed: gzip (of several members too), zstd, or as it is.
/// Reading to the end also reads `reader` to its end.
pub fn decoder<'a>(reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let start = reader.fill_buf().context("read the start of the archive")?;
    let compression = Compression::of(start);
    if start.len() >= MAGIC || start.is_empty() {
        return decode(compression, reader);
    }
    // One read may bring less than that; then the rest of it is waited for.
    let mut head = Vec::new();
    (&mut reader).take(MAGIC as u64).read_to_end(&mut head).context("read the start of the archive")?;
    let compression = Compression::of(&head);
    decode(compression, BufReader::with_capacity(BUFFER, std::io::Cursor::new(head).chain(reader)))
}

fn decode<'a>(compression: Compression, reader: impl BufRead + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).context("start a zstd decoder")?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).context("limit a zstd decoder's window")?;
            Box::new(decoder)
        }
        Compression::Bzip2 => bail!("the archive is compressed with bzip2, which is not supported"),
        Compression::Xz => bail!("the archive is compressed with xz, which is not supported"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Gives one byte a read.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = buffer.len().min(1);
            self.0.read(&mut buffer[..n])
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn decided_by_the_first_bytes() {
        let zstd = zstd::encode_all(&b"text"[..], 1).unwrap();
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &zstd].concat();
        for (bytes, expected) in [
            (b"".to_vec(), ""),
            (b"x".to_vec(), "x"),
            (b"plain text".to_vec(), "plain text"),
            (gzip(b"text"), "text"),
            ([gzip(b"one "), gzip(b"two")].concat(), "one two"),
            (zstd.clone(), "text"),
            ([zstd.clone(), zstd].concat(), "texttext"),
            (skippable, "text"),
        ] {
            for slow in [false, true] {
                let mut text = String::new();
                let reader: Box<dyn Read + Send> = if slow { Box::new(Slow(&bytes)) } else { Box::new(&bytes[..]) };
                decoder(reader).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, expected, "slow: {slow}");
            }
        }
    }

    #[test]
    fn others_are_refused_by_name_and_cuts_are_seen() {
        let named = |bytes: &'static [u8]| decoder(bytes).err().unwrap().to_string();
        assert!(named(b"BZh91AY&SY").contains("bzip2"));
        assert!(named(b"\xfd7zXZ\0\0").contains("xz"));
        for bytes in [gzip(&[7; 5000]), zstd::encode_all(&[7; 5000][..], 1).unwrap()] {
            let cut = bytes[..bytes.len() - 3].to_vec();
            assert!(decoder(&cut[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_huge_zstd_window_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&[1; 1000]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(decoder(&bytes[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}
