//! What a layer is compressed with is decided by its first bytes: registries' media types are often wrong.

use super::{bzip2, xz};
use anyhow::{Context, Result};
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

/// Reads what `reader` holds uncompressed: gzip, bzip2, xz (of several members too), zstd, or as it is.
/// Reading to the end also reads `reader` to its end.
pub fn decoder<'a>(reader: impl Read + Send + 'a) -> Result<Box<dyn BufRead + Send + 'a>> {
    sniffed(buffered(Box::new(reader)))
}

/// Of whatever type it is: decoders are not to be compiled for each.
type Source<'a> = BufReader<Box<dyn Read + Send + 'a>>;

fn buffered<'a>(reader: Box<dyn Read + Send + 'a>) -> Source<'a> {
    BufReader::with_capacity(BUFFER, reader)
}

fn sniffed<'a>(mut reader: Source<'a>) -> Result<Box<dyn BufRead + Send + 'a>> {
    let start = reader.fill_buf().context("read the start of the archive")?;
    let compression = Compression::of(start);
    if start.len() >= MAGIC || start.is_empty() {
        return decode(compression, reader);
    }
    // One read may bring less than that; then the rest of it is waited for.
    let mut head = Vec::new();
    (&mut reader).take(MAGIC as u64).read_to_end(&mut head).context("read the start of the archive")?;
    let compression = Compression::of(&head);
    decode(compression, buffered(Box::new(std::io::Cursor::new(head).chain(reader))))
}

fn decode<'a>(compression: Compression, reader: Source<'a>) -> Result<Box<dyn BufRead + Send + 'a>> {
    let decoder: Box<dyn Read + Send> = match compression {
        Compression::None => return Ok(Box::new(reader)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).context("start a zstd decoder")?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).context("limit a zstd decoder's window")?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::Decoder::new(reader)),
        Compression::Xz => Box::new(xz::Decoder::new(reader)),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
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

    /// "text text text text" and a new line, by xz 5.4 and bzip2 1.0.
    const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e00013000c5d003a194b7810\
                      3b308c435000000046b248da95affea500012814fccf01671fb6f37d010000000004595a";
    const BZIP2: &str =
        "425a68393141592653590e346b6d000007d1800010400002000440200020aa19066820a4c94f1772453850900e346b6d";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn cuts_and_changes_are_seen() {
        for whole in [bytes(XZ), bytes(BZIP2)] {
            let read = |bytes: &[u8]| {
                let mut text = String::new();
                decoder(bytes)?.read_to_string(&mut text).map(|_| text).map_err(anyhow::Error::from)
            };
            assert_eq!(read(&whole).unwrap(), "text text text text\n");
            assert_eq!(read(&[&whole[..], &whole].concat()).unwrap(), "text text text text\n".repeat(2));
            for at in 6..whole.len() {
                assert!(read(&whole[..at]).is_err(), "cut at {at}");
                for bit in 0..8 {
                    let mut changed = whole.clone();
                    changed[at] ^= 1 << bit;
                    // Gaps of less than a byte hold nothing.
                    assert!(
                        read(&changed).is_ok_and(|text| text == "text text text text\n") || read(&changed).is_err()
                    );
                }
            }
        }
        for bytes in [gzip(&[7; 5000]), zstd::encode_all(&[7; 5000][..], 1).unwrap()] {
            let cut = bytes[..bytes.len() - 3].to_vec();
            assert!(decoder(&cut[..]).unwrap().read_to_end(&mut Vec::new()).is_err());
        }
    }

    #[test]
    fn what_would_take_much_memory_is_refused() {
        // The same with a dictionary of 256 MiB, and the check of the block's head made right.
        let mut huge = bytes(XZ);
        huge[16] = 32;
        let mut sum = flate2::Crc::new();
        sum.update(&huge[12..20]);
        huge[20..24].copy_from_slice(&sum.sum().to_le_bytes());
        let error = decoder(&huge[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("is larger than"), "{error}");
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
