//! xz, to read: streams of blocks, each packed by LZMA2 and checked. Its dictionary is at most 128 MiB.
//! Source: the .xz file format 1.2.1 of the Tukaani project.

use super::lzma::{Lzma, damaged};
use sha2::{Digest as _, Sha256};
use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// What a decoder must hold in memory: as with zstd, more is refused.
const DICTIONARY: u32 = 128 << 20;
const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const LZMA2: u64 = 0x21;

/// What a stream of xz, or several of them, hold.
pub struct Decoder<R> {
    reader: Counted<R>,
    /// Of the stream: how its blocks are checked.
    kind: u8,
    lzma: Option<Lzma>,
    /// Of the block: the sizes that it says, where it began, and what came of it.
    said: (Option<u64>, Option<u64>),
    begun: u64,
    header: u64,
    size: u64,
    check: Check,
    /// What the index must say: how many blocks, and sums of their sizes, in a form that tells their order.
    records: (u64, Sha256),
    state: State,
}

enum State {
    Between,
    Stream,
    Block,
    Done,
}

impl<R: BufRead> Decoder<R> {
    pub fn new(reader: R) -> Decoder<R> {
        Decoder {
            reader: Counted { reader, count: 0, check: crc32() },
            kind: 0,
            lzma: None,
            said: (None, None),
            begun: 0,
            header: 0,
            size: 0,
            check: Check::None,
            records: (0, Sha256::new()),
            state: State::Between,
        }
    }

    /// The head of a stream; `false` where there is none any more.
    fn stream(&mut self) -> Result<bool> {
        let mut first = [0; 4];
        loop {
            if self.reader.reader.fill_buf()?.is_empty() {
                return if self.kind == 0 && self.reader.count == 0 {
                    Err(ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(false)
                };
            }
            self.reader.read_exact(&mut first)?;
            // Streams may be filled up to a multiple of four bytes.
            if first != [0; 4] || self.reader.count == 4 {
                break;
            }
        }
        let rest: [u8; 8] = self.reader.array()?;
        if first != MAGIC[..4] || rest[..2] != MAGIC[4..] {
            return Err(damaged("no stream begins here"));
        }
        if rest[2] != 0 || rest[3] > 15 || crc(&rest[2..4]) != le32(&rest[4..]) {
            return Err(damaged("the head of a stream is wrong"));
        }
        (self.kind, self.records) = (rest[3], (0, Sha256::new()));
        Check::new(self.kind)?;
        Ok(true)
    }

    /// The head of a block; `false` where the index begins instead.
    fn block(&mut self) -> Result<bool> {
        self.reader.check.reset();
        self.begun = self.reader.count;
        let size = self.reader.byte()?;
        if size == 0 {
            return Ok(false);
        }
        let length = (usize::from(size) + 1) * 4;
        let mut head = vec![size; length];
        self.reader.read_exact(&mut head[1..])?;
        let (head, sum) = head.split_at(length - 4);
        if crc(head) != le32(sum) {
            return Err(damaged("the head of a block is wrong"));
        }
        let mut rest = &head[2..];
        let flags = head[1];
        let packed = if flags & 0x40 != 0 { Some(number(&mut rest)?) } else { None };
        let unpacked = if flags & 0x80 != 0 { Some(number(&mut rest)?) } else { None };
        let (id, count) = (number(&mut rest)?, number(&mut rest)?);
        let [properties, padding @ ..] = rest else { return Err(damaged("the head of a block is too short")) };
        if flags & 0x3f != 0 || id != LZMA2 || count != 1 {
            let text = "it was packed with a filter for programs, which is not supported";
            return Err(Error::new(ErrorKind::Unsupported, format!("xz: {text}")));
        }
        if padding.iter().any(|byte| *byte != 0) || *properties > 40 {
            return Err(damaged("the head of a block is wrong"));
        }
        let dictionary = match *properties {
            40 => u32::MAX,
            bits => (2 | u32::from(bits & 1)) << (bits / 2 + 11),
        };
        if dictionary > DICTIONARY {
            let text = format!("xz: its dictionary of {dictionary} bytes is larger than {DICTIONARY}");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        match &mut self.lzma {
            Some(lzma) if lzma.dictionary() == dictionary as usize => lzma.restart(),
            lzma => *lzma = Some(Lzma::new(dictionary as usize)),
        }
        (self.said, self.size, self.check) = ((packed, unpacked), 0, Check::new(self.kind)?);
        self.header = length as u64;
        Ok(true)
    }

    /// What follows the data of a block.
    fn end_block(&mut self) -> Result<()> {
        let packed = self.reader.count - self.begun - self.header;
        if self.said.0.is_some_and(|said| said != packed) || self.said.1.is_some_and(|said| said != self.size) {
            return Err(damaged("a block is not as large as it says"));
        }
        self.reader.padding(packed)?;
        let sum = std::mem::replace(&mut self.check, Check::None).end();
        let mut said = vec![0; sum.len()];
        self.reader.read_exact(&mut said)?;
        if said != sum {
            return Err(damaged("the check of a block is wrong"));
        }
        self.records.0 += 1;
        for number in [self.header + packed + sum.len() as u64, self.size] {
            self.records.1.update(number.to_le_bytes());
        }
        Ok(())
    }

    /// The index and the end of a stream. The byte that says that it is one has been read.
    fn index(&mut self) -> Result<()> {
        let mut hash = Sha256::new();
        let count = self.reader.number()?;
        if count != self.records.0 {
            return Err(damaged("the index knows another number of blocks"));
        }
        for _ in 0..2 * count {
            hash.update(self.reader.number()?.to_le_bytes());
        }
        if hash.finalize() != self.records.1.clone().finalize() {
            return Err(damaged("the index knows other blocks"));
        }
        self.reader.padding(self.reader.count - self.begun)?;
        let sum = self.reader.check.sum();
        let size = self.reader.count - self.begun + 4;
        if le32(&self.reader.array::<4>()?) != sum {
            return Err(damaged("the check of the index is wrong"));
        }
        let end: [u8; 12] = self.reader.array()?;
        let whole = (u64::from(le32(&end[4..8])) + 1) * 4;
        if crc(&end[4..10]) != le32(&end) || whole != size || end[8..] != [0, self.kind, b'Y', b'Z'] {
            return Err(damaged("the end of a stream is wrong"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.state {
                _ if buffer.is_empty() => return Ok(0),
                State::Done => return Ok(0),
                State::Between => self.state = if self.stream()? { State::Stream } else { State::Done },
                State::Stream => {
                    self.state = if self.block()? {
                        State::Block
                    } else {
                        self.index()?;
                        State::Between
                    }
                }
                State::Block => {
                    let Some(lzma) = &mut self.lzma else { return Err(damaged("a block has no data")) };
                    let count = lzma.take(&mut self.reader, buffer)?;
                    if count > 0 {
                        self.size += count as u64;
                        self.check.add(&buffer[..count]);
                        return Ok(count);
                    }
                    self.end_block()?;
                    self.state = State::Stream;
                }
            }
        }
    }
}

/// How a block is checked.
enum Check {
    None,
    Crc32(flate2::Crc),
    Crc64(u64),
    Sha256(Box<Sha256>),
}

impl Check {
    fn new(kind: u8) -> Result<Check> {
        match kind {
            0 => Ok(Check::None),
            1 => Ok(Check::Crc32(crc32())),
            4 => Ok(Check::Crc64(!0)),
            10 => Ok(Check::Sha256(Box::default())),
            _ => Err(Error::new(ErrorKind::Unsupported, "xz: its blocks are checked in a way that is not known")),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        const TABLE: [u64; 256] = {
            let mut table = [0; 256];
            let mut at = 0;
            while at < 256 {
                let (mut value, mut bit) = (at as u64, 0);
                while bit < 8 {
                    value = if value & 1 == 1 { value >> 1 ^ 0xc96c_5795_d787_0f42 } else { value >> 1 };
                    bit += 1;
                }
                table[at] = value;
                at += 1;
            }
            table
        };
        match self {
            Check::None => {}
            Check::Crc32(sum) => sum.update(bytes),
            Check::Crc64(sum) => {
                *sum = bytes.iter().fold(*sum, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8);
            }
            Check::Sha256(sum) => sum.update(bytes),
        }
    }

    fn end(self) -> Vec<u8> {
        match self {
            Check::None => Vec::new(),
            Check::Crc32(sum) => sum.sum().to_le_bytes().to_vec(),
            Check::Crc64(sum) => (!sum).to_le_bytes().to_vec(),
            Check::Sha256(sum) => sum.finalize().to_vec(),
        }
    }
}

/// Counts and sums up what is read.
pub struct Counted<R> {
    reader: R,
    count: u64,
    check: flate2::Crc,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.reader.read(buffer)?;
        self.count += count as u64;
        self.check.update(&buffer[..count]);
        Ok(count)
    }
}

impl<R: BufRead> Counted<R> {
    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes).map(|()| bytes)
    }

    /// A number of up to nine bytes, seven bits in each.
    fn number(&mut self) -> Result<u64> {
        let mut bytes = Vec::new();
        loop {
            let byte = self.byte()?;
            bytes.push(byte);
            if byte & 0x80 == 0 || bytes.len() == 9 {
                return number(&mut bytes.as_slice());
            }
        }
    }

    /// Zeros up to a multiple of four bytes.
    fn padding(&mut self, length: u64) -> Result<()> {
        for _ in 0..length.wrapping_neg() % 4 {
            if self.byte()? != 0 {
                return Err(damaged("there is something in a gap"));
            }
        }
        Ok(())
    }
}

fn number(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for at in 0..9 {
        let [byte, rest @ ..] = *bytes else { break };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return if *byte == 0 && at > 0 { Err(damaged("a number is longer than it need be")) } else { Ok(value) };
        }
    }
    Err(damaged("a number has no end"))
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn crc32() -> flate2::Crc {
    flate2::Crc::new()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut sum = crc32();
    sum.update(bytes);
    sum.sum()
}
