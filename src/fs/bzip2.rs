//! bzip2, to read. One block is held at a time: at most 900,000 bytes, in four times as much memory.
//! Source: the format as its own decoder reads it; there is no specification.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

const BLOCK: u64 = 0x3141_5926_5359;
const END: u64 = 0x1772_4538_5090;
/// Symbols that share a table.
const GROUP: usize = 50;
const LONGEST: usize = 20;

/// What a stream of bzip2, or several of them, hold.
pub struct Decoder<R> {
    bits: Bits<R>,
    /// Bytes of a block at most; 0 before a stream.
    most: usize,
    /// In the low 8 bits a byte each, in the others the place of the one that follows.
    block: Vec<u32>,
    at: u32,
    left: usize,
    /// The last byte, and how many of it came in a row: after four of them a count follows.
    last: u8,
    row: u8,
    repeat: u8,
    check: Check,
    expected: u32,
    /// Of all blocks of the stream.
    combined: u32,
    done: bool,
}

/// One table of codes.
struct Codes {
    /// By length: the last code, and what leads from a code to its symbol.
    limit: [i32; LONGEST + 2],
    base: [i32; LONGEST + 2],
    shortest: usize,
    symbols: Vec<u16>,
}

impl<R: BufRead> Decoder<R> {
    pub fn new(reader: R) -> Decoder<R> {
        Decoder {
            bits: Bits { reader, word: 0, count: 0 },
            most: 0,
            block: Vec::new(),
            at: 0,
            left: 0,
            last: 0,
            row: 0,
            repeat: 0,
            check: Check(!0),
            expected: 0,
            combined: 0,
            done: false,
        }
    }

    /// Reads up to the next block; `false` at the end of everything.
    fn next(&mut self) -> Result<bool> {
        loop {
            if self.most == 0 {
                if self.combined == 0 && !self.bits.more()? {
                    return Ok(false);
                }
                let [b'B', b'Z', b'h', size @ b'1'..=b'9'] = (self.bits.take(32)? as u32).to_be_bytes() else {
                    return Err(damaged("no stream begins here"));
                };
                (self.most, self.combined) = (usize::from(size - b'0') * 100_000, 0);
            }
            match self.bits.take(48)? {
                BLOCK => return self.read().map(|()| true),
                END => {
                    if self.bits.take(32)? as u32 != self.combined {
                        return Err(damaged("the check of a stream is wrong"));
                    }
                    (self.most, self.combined) = (0, 0);
                    self.bits.align();
                }
                _ => return Err(damaged("no block begins here")),
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let bits = &mut self.bits;
        self.expected = bits.take(32)? as u32;
        if bits.take(1)? != 0 {
            return Err(damaged("a block is randomised, which nothing has written for decades"));
        }
        let origin = bits.take(24)? as usize;
        let mut used = Vec::new();
        let map = bits.take(16)?;
        for high in (0..16u8).filter(|high| map >> (15 - high) & 1 == 1) {
            let map = bits.take(16)?;
            used.extend((0..16u8).filter(|low| map >> (15 - low) & 1 == 1).map(|low| high << 4 | low));
        }
        if used.is_empty() {
            return Err(damaged("a block has no bytes"));
        }
        let symbols = used.len() + 2;
        let (tables, count) = (bits.take(3)? as usize, bits.take(15)? as usize);
        if !(2..=6).contains(&tables) || count == 0 {
            return Err(damaged("a block has no tables"));
        }
        let mut order: Vec<u8> = (0..tables as u8).collect();
        let mut selectors = Vec::with_capacity(count);
        for _ in 0..count {
            let mut place = 0;
            while bits.take(1)? == 1 {
                place += 1;
                if place == tables {
                    return Err(damaged("a block names a table that it has not"));
                }
            }
            let table = order.remove(place);
            order.insert(0, table);
            selectors.push(table);
        }
        let tables = (0..tables).map(|_| Codes::read(bits, symbols)).collect::<Result<Vec<Codes>>>()?;
        let mut counts = [0u32; 256];
        self.block.clear();
        let (mut selectors, mut table, mut left) = (selectors.iter(), &tables[0], 0);
        let (mut run, mut weight) = (0usize, 1usize);
        loop {
            if left == 0 {
                let selector = selectors.next().ok_or_else(|| damaged("a block is longer than it says"))?;
                (table, left) = (&tables[usize::from(*selector)], GROUP);
            }
            left -= 1;
            let symbol = usize::from(table.symbol(bits)?);
            if symbol < 2 {
                // Digits of a number that has 1 and 2 for 0 and 1.
                run += weight << symbol;
                weight <<= 1;
                if run > self.most {
                    return Err(damaged("a block is larger than it may be"));
                }
                continue;
            }
            if run > 0 {
                let byte = used[0];
                if self.block.len() + run > self.most {
                    return Err(damaged("a block is larger than it may be"));
                }
                counts[usize::from(byte)] += run as u32;
                self.block.resize(self.block.len() + run, u32::from(byte));
                (run, weight) = (0, 1);
            }
            if symbol == symbols - 1 {
                break;
            }
            if self.block.len() == self.most {
                return Err(damaged("a block is larger than it may be"));
            }
            used[..symbol].rotate_right(1);
            counts[usize::from(used[0])] += 1;
            self.block.push(u32::from(used[0]));
        }
        if origin >= self.block.len() {
            return Err(damaged("a block begins outside itself"));
        }
        let mut sum = 0;
        for count in &mut counts {
            sum += std::mem::replace(count, sum);
        }
        for at in 0..self.block.len() {
            let place = &mut counts[(self.block[at] & 0xff) as usize];
            self.block[*place as usize] |= (at as u32) << 8;
            *place += 1;
        }
        self.at = self.block[origin] >> 8;
        self.left = self.block.len();
        (self.row, self.repeat, self.check) = (0, 0, Check(!0));
        Ok(())
    }

    fn finished(&mut self) -> Result<()> {
        let check = !self.check.0;
        if check != self.expected {
            return Err(damaged("the check of a block is wrong"));
        }
        self.combined = self.combined.rotate_left(1) ^ check;
        Ok(())
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && !self.done {
            if self.repeat > 0 {
                let count = usize::from(self.repeat).min(buffer.len() - filled);
                buffer[filled..filled + count].fill(self.last);
                (0..count).for_each(|_| self.check.add(self.last));
                self.repeat -= count as u8;
                filled += count;
            } else if self.left > 0 {
                let entry = self.block[self.at as usize];
                (self.at, self.left) = (entry >> 8, self.left - 1);
                let byte = entry as u8;
                if self.row == 4 {
                    (self.row, self.repeat) = (0, byte);
                } else {
                    self.row = if self.row > 0 && byte == self.last { self.row + 1 } else { 1 };
                    self.last = byte;
                    self.check.add(byte);
                    buffer[filled] = byte;
                    filled += 1;
                }
            } else {
                if !self.block.is_empty() {
                    self.finished()?;
                    self.block.clear();
                }
                if filled > 0 {
                    break;
                }
                self.done = !self.next()?;
            }
        }
        Ok(filled)
    }
}

impl Codes {
    fn read<R: BufRead>(bits: &mut Bits<R>, symbols: usize) -> Result<Codes> {
        let mut length = bits.take(5)? as usize;
        let mut lengths = Vec::with_capacity(symbols);
        for _ in 0..symbols {
            loop {
                if !(1..=LONGEST).contains(&length) {
                    return Err(damaged("a code is longer than codes are"));
                }
                if bits.take(1)? == 0 {
                    break;
                }
                length = if bits.take(1)? == 0 { length + 1 } else { length - 1 };
            }
            lengths.push(length);
        }
        let mut codes = Codes {
            limit: [-1; LONGEST + 2],
            base: [0; LONGEST + 2],
            shortest: lengths.iter().copied().min().unwrap_or(1),
            symbols: Vec::with_capacity(symbols),
        };
        let mut code = 0i32;
        for length in codes.shortest..=LONGEST {
            let before = codes.symbols.len() as i32;
            codes.symbols.extend((0..symbols).filter(|symbol| lengths[*symbol] == length).map(|symbol| symbol as u16));
            codes.base[length] = before - code;
            code += codes.symbols.len() as i32 - before;
            codes.limit[length] = code - 1;
            code <<= 1;
        }
        Ok(codes)
    }

    fn symbol<R: BufRead>(&self, bits: &mut Bits<R>) -> Result<u16> {
        let mut code = bits.take(self.shortest as u32)? as i32;
        for length in self.shortest..=LONGEST {
            if code <= self.limit[length] {
                let symbol = usize::try_from(code + self.base[length]).ok().and_then(|at| self.symbols.get(at));
                return symbol.copied().ok_or_else(|| damaged("a code stands for nothing"));
            }
            if length < LONGEST {
                code = code << 1 | bits.take(1)? as i32;
            }
        }
        Err(damaged("a code stands for nothing"))
    }
}

/// Bits, the highest of a byte first.
struct Bits<R> {
    reader: R,
    word: u64,
    count: u32,
}

impl<R: BufRead> Bits<R> {
    /// At most 48 of them.
    fn take(&mut self, count: u32) -> Result<u64> {
        while self.count < count {
            let bytes = self.reader.fill_buf()?;
            let Some(first) = bytes.first() else { return Err(ErrorKind::UnexpectedEof.into()) };
            self.word = self.word << 8 | u64::from(*first);
            self.reader.consume(1);
            self.count += 8;
        }
        self.count -= count;
        Ok(self.word >> self.count & ((1 << count) - 1))
    }

    fn align(&mut self) {
        self.count -= self.count % 8;
    }

    /// Whether anything follows.
    fn more(&mut self) -> Result<bool> {
        Ok(self.count > 0 || !self.reader.fill_buf()?.is_empty())
    }
}

/// The CRC of 32 bits, highest bit first.
struct Check(u32);

impl Check {
    fn add(&mut self, byte: u8) {
        const TABLE: [u32; 256] = {
            let mut table = [0; 256];
            let mut at = 0;
            while at < 256 {
                let (mut value, mut bit) = ((at as u32) << 24, 0);
                while bit < 8 {
                    value = if value >> 31 == 1 { value << 1 ^ 0x04c1_1db7 } else { value << 1 };
                    bit += 1;
                }
                table[at] = value;
                at += 1;
            }
            table
        };
        self.0 = self.0 << 8 ^ TABLE[(self.0 >> 24) as usize ^ usize::from(byte)];
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("damaged bzip2: {what}"))
}
