//! LZMA2, to read: chunks of LZMA or of plain bytes, over one dictionary.
//! Sources: the LZMA specification and its reference decoder, both in the public domain (7-zip's LZMA SDK).

use std::io::{Error, ErrorKind, Read, Result};

/// A chunk becomes so many bytes at most.
const CHUNK: usize = 2 << 20;
/// A probability of a half, of 11 bits.
const HALF: u16 = 1 << 10;

/// The data of one block after another.
pub struct Lzma {
    dictionary: usize,
    /// What was made, as far as it may be needed; `given` of it has been taken, `begun` is before the dictionary.
    window: Vec<u8>,
    begun: usize,
    given: usize,
    /// Bytes since the dictionary was begun.
    position: u64,
    needs: Needs,
    ended: bool,
    packed: Vec<u8>,
    lc: u32,
    lp: u32,
    pb: u32,
    state: usize,
    reps: [u32; 4],
    models: Models,
}

/// What the next chunk must begin anew.
#[derive(PartialEq)]
enum Needs {
    Nothing,
    Properties,
    Dictionary,
}

struct Models {
    is_match: [[u16; 16]; 12],
    is_rep: [u16; 12],
    is_rep_of: [[u16; 12]; 3],
    is_long: [[u16; 16]; 12],
    slots: [[u16; 64]; 4],
    special: [u16; 115],
    align: [u16; 16],
    length: Lengths,
    rep_length: Lengths,
    literals: Vec<[u16; 0x300]>,
}

struct Lengths {
    choice: [u16; 2],
    low: [[u16; 8]; 16],
    mid: [[u16; 8]; 16],
    high: [u16; 256],
}

impl Lengths {
    const NEW: Lengths = Lengths { choice: [HALF; 2], low: [[HALF; 8]; 16], mid: [[HALF; 8]; 16], high: [HALF; 256] };

    fn read(&mut self, range: &mut Range, place: usize) -> usize {
        if range.bit(&mut self.choice[0]) == 0 {
            return 2 + range.tree(&mut self.low[place], 3);
        }
        if range.bit(&mut self.choice[1]) == 0 {
            return 10 + range.tree(&mut self.mid[place], 3);
        }
        18 + range.tree(&mut self.high, 8)
    }
}

impl Models {
    fn new(literals: usize) -> Models {
        Models {
            is_match: [[HALF; 16]; 12],
            is_rep: [HALF; 12],
            is_rep_of: [[HALF; 12]; 3],
            is_long: [[HALF; 16]; 12],
            slots: [[HALF; 64]; 4],
            special: [HALF; 115],
            align: [HALF; 16],
            length: Lengths::NEW,
            rep_length: Lengths::NEW,
            literals: vec![[HALF; 0x300]; literals],
        }
    }
}

impl Lzma {
    pub fn new(dictionary: usize) -> Lzma {
        Lzma {
            dictionary,
            // Room that is not touched is none.
            window: Vec::with_capacity(dictionary + dictionary / 4 + 2 * CHUNK),
            begun: 0,
            given: 0,
            position: 0,
            needs: Needs::Dictionary,
            ended: false,
            packed: Vec::new(),
            lc: 0,
            lp: 0,
            pb: 0,
            state: 0,
            reps: [0; 4],
            models: Models::new(0),
        }
    }

    pub fn dictionary(&self) -> usize {
        self.dictionary
    }

    /// Begins another block.
    pub fn restart(&mut self) {
        (self.needs, self.ended) = (Needs::Dictionary, false);
    }

    /// Takes what the chunks of `from` become; 0 at their end.
    pub fn take(&mut self, from: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
        while self.given == self.window.len() {
            if self.ended || !self.chunk(from)? {
                self.ended = true;
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.window.len() - self.given);
        buffer[..count].copy_from_slice(&self.window[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }

    /// Unpacks the next chunk; `false` where there is none.
    fn chunk(&mut self, from: &mut impl Read) -> Result<bool> {
        let mut two = [0; 2];
        let mut number =
            |from: &mut dyn Read| from.read_exact(&mut two).map(|()| usize::from(u16::from_be_bytes(two)) + 1);
        let mut control = [0];
        from.read_exact(&mut control)?;
        let control = control[0];
        if control == 0 {
            return Ok(false);
        }
        if control == 1 || control >= 0xe0 {
            (self.begun, self.position, self.needs) = (self.window.len(), 0, Needs::Properties);
        }
        if self.needs == Needs::Dictionary {
            return Err(damaged("a block begins without a dictionary"));
        }
        self.shift();
        if control < 0x80 {
            if control > 2 {
                return Err(damaged("a chunk is of no kind that there is"));
            }
            let size = number(from)?;
            let start = self.window.len();
            self.window.resize(start + size, 0);
            from.read_exact(&mut self.window[start..])?;
            self.position += size as u64;
            return Ok(true);
        }
        let size = (usize::from(control & 0x1f) << 16) + number(from)?;
        let packed = number(from)?;
        let anew = control >> 5 & 3;
        if anew >= 2 {
            let mut properties = [0];
            from.read_exact(&mut properties)?;
            let byte = u32::from(properties[0]);
            (self.lc, self.lp, self.pb) = (byte % 9, byte / 9 % 5, byte / 45);
            if self.pb > 4 || self.lc + self.lp > 4 {
                return Err(damaged("the properties of a chunk are none"));
            }
        } else if self.needs == Needs::Properties {
            return Err(damaged("a chunk has no properties"));
        }
        if anew >= 1 {
            (self.state, self.reps) = (0, [0; 4]);
            self.models = Models::new(1 << (self.lc + self.lp));
        }
        self.needs = Needs::Nothing;
        let mut bytes = std::mem::take(&mut self.packed);
        bytes.resize(packed, 0);
        let done = from.read_exact(&mut bytes).and_then(|()| self.unpack(&bytes, size));
        self.packed = bytes;
        done.map(|()| true)
    }

    /// Makes room: what is no longer in the dictionary goes, now and then.
    fn shift(&mut self) {
        if self.window.capacity() - self.window.len() < CHUNK {
            let keep = (self.window.len() - self.begun).min(self.dictionary);
            let from = self.window.len() - keep;
            self.window.copy_within(from.., 0);
            self.window.truncate(keep);
            (self.begun, self.given) = (0, keep);
        }
    }

    /// How far back a match may reach.
    fn reach(&self) -> usize {
        (self.window.len() - self.begun).min(self.dictionary)
    }

    fn unpack(&mut self, bytes: &[u8], size: usize) -> Result<()> {
        let mut range = Range::new(bytes)?;
        let end = self.window.len() + size;
        let (pb, lp) = ((1u64 << self.pb) - 1, (1u64 << self.lp) - 1);
        while self.window.len() < end {
            let place = (self.position & pb) as usize;
            if range.bit(&mut self.models.is_match[self.state][place]) == 0 {
                let before = if self.reach() == 0 { 0 } else { self.window[self.window.len() - 1] };
                let context = ((self.position & lp) as usize) << self.lc | usize::from(before) >> (8 - self.lc);
                let models = &mut self.models.literals[context];
                let mut symbol = 1usize;
                if self.state >= 7 {
                    let Some(at) = self.window.len().checked_sub(self.reps[0] as usize + 1) else {
                        return Err(damaged("it goes on from what is not there"));
                    };
                    let mut matched = usize::from(self.window[at]);
                    while symbol < 0x100 {
                        let bit = matched >> 7 & 1;
                        matched <<= 1;
                        let found = range.bit(&mut models[(1 + bit) << 8 | symbol]);
                        symbol = symbol << 1 | found;
                        if bit != found {
                            break;
                        }
                    }
                }
                while symbol < 0x100 {
                    symbol = symbol << 1 | range.bit(&mut models[symbol]);
                }
                self.state = match self.state {
                    ..4 => 0,
                    4..10 => self.state - 3,
                    _ => self.state - 6,
                };
                self.window.push(symbol as u8);
                self.position += 1;
                continue;
            }
            let count = self.matched(&mut range, place);
            let back = self.reps[0] as usize;
            if back >= self.reach() || self.window.len() + count > end {
                return Err(damaged("it repeats what is not there"));
            }
            let start = self.window.len() - back - 1;
            if count <= back + 1 {
                self.window.extend_from_within(start..start + count);
            } else {
                for at in start..start + count {
                    self.window.push(self.window[at]);
                }
            }
            self.position += count as u64;
        }
        range.end()
    }

    /// Reads a match: how long it is; how far back it lies is the first of `reps`.
    fn matched(&mut self, range: &mut Range, place: usize) -> usize {
        let (state, models) = (self.state, &mut self.models);
        let after = |literal: usize, other: usize| if state < 7 { literal } else { other };
        if range.bit(&mut models.is_rep[state]) == 0 {
            self.state = after(7, 10);
            let count = models.length.read(range, place);
            self.reps.rotate_right(1);
            self.reps[0] = distance(models, range, count);
            return count;
        }
        if range.bit(&mut models.is_rep_of[0][state]) == 0 {
            if range.bit(&mut models.is_long[state][place]) == 0 {
                self.state = after(9, 11);
                return 1;
            }
        } else {
            let which = match range.bit(&mut models.is_rep_of[1][state]) {
                0 => 1,
                _ => 2 + range.bit(&mut models.is_rep_of[2][state]),
            };
            self.reps[..=which].rotate_right(1);
        }
        self.state = after(8, 11);
        models.rep_length.read(range, place)
    }
}

fn distance(models: &mut Models, range: &mut Range, count: usize) -> u32 {
    let slot = range.tree(&mut models.slots[(count - 2).min(3)], 6) as u32;
    if slot < 4 {
        return slot;
    }
    let bits = (slot >> 1) - 1;
    let high = (2 | slot & 1) << bits;
    if slot < 14 {
        let first = (high - slot) as usize;
        return high + range.reverse(&mut models.special[first..], bits, 1);
    }
    high.wrapping_add(range.direct(bits - 4) << 4).wrapping_add(range.reverse(&mut models.align, 4, 0))
}

/// The range decoder. What it reads beyond the end is zeros, and an error at the end.
struct Range<'a> {
    bytes: &'a [u8],
    at: usize,
    range: u32,
    code: u32,
}

impl Range<'_> {
    fn new(bytes: &[u8]) -> Result<Range<'_>> {
        let [0, a, b, c, d, ..] = *bytes else { return Err(damaged("a chunk is too short")) };
        Ok(Range { bytes, at: 5, range: !0, code: u32::from_be_bytes([a, b, c, d]) })
    }

    fn normalise(&mut self) {
        if self.range < 1 << 24 {
            let byte = self.bytes.get(self.at).copied().unwrap_or(0);
            self.at += 1;
            self.range <<= 8;
            self.code = self.code << 8 | u32::from(byte);
        }
    }

    fn bit(&mut self, model: &mut u16) -> usize {
        self.normalise();
        let bound = (self.range >> 11) * u32::from(*model);
        if self.code < bound {
            self.range = bound;
            *model += (2048 - *model) >> 5;
            return 0;
        }
        self.range -= bound;
        self.code -= bound;
        *model -= *model >> 5;
        1
    }

    /// So many bits, each as likely as not.
    fn direct(&mut self, bits: u32) -> u32 {
        let mut value = 0;
        for _ in 0..bits {
            self.normalise();
            self.range >>= 1;
            let one = self.code >= self.range;
            if one {
                self.code -= self.range;
            }
            value = value << 1 | u32::from(one);
        }
        value
    }

    fn tree(&mut self, models: &mut [u16], bits: u32) -> usize {
        let mut symbol = 1;
        for _ in 0..bits {
            symbol = symbol << 1 | self.bit(&mut models[symbol]);
        }
        symbol - (1 << bits)
    }

    /// The lowest bit first; `skipped` models before the first one are not there.
    fn reverse(&mut self, models: &mut [u16], bits: u32, skipped: usize) -> u32 {
        let (mut symbol, mut value) = (1, 0);
        for at in 0..bits {
            let bit = self.bit(&mut models[symbol - skipped]);
            symbol = symbol << 1 | bit;
            value |= (bit as u32) << at;
        }
        value
    }

    fn end(mut self) -> Result<()> {
        self.normalise();
        if self.at == self.bytes.len() && self.code == 0 {
            Ok(())
        } else {
            Err(damaged("a chunk does not end where it should"))
        }
    }
}

pub fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("damaged xz: {what}"))
}
