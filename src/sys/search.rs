//! The first byte of some kind, many at a time.

/// So many bytes at a time, with instructions that every x86-64 has.
#[cfg(target_arch = "x86_64")]
mod step {
    use std::arch::x86_64::*;
    use std::ops::{BitAnd, BitOr};

    pub const STEP: usize = 16;

    /// Bytes that are looked at together.
    #[derive(Clone, Copy)]
    pub struct Bytes(__m128i);

    /// Which of them are wanted.
    pub struct Marks(__m128i);

    // SAFETY, here and below: SSE2 is part of x86-64.
    impl Bytes {
        #[inline(always)]
        pub(super) fn new(bytes: &[u8; STEP]) -> Bytes {
            // So many bytes are there, wherever they lie.
            Bytes(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        }

        /// Those that are less than `limit`, which is 1 to 128.
        #[inline(always)]
        pub fn below(self, limit: u8) -> Marks {
            Marks(unsafe { _mm_cmpeq_epi8(_mm_min_epu8(self.0, _mm_set1_epi8((limit - 1) as i8)), self.0) })
        }

        /// Those that are more than `limit`, which is 0 to 126.
        #[inline(always)]
        pub fn above(self, limit: u8) -> Marks {
            Marks(unsafe { _mm_cmpeq_epi8(_mm_max_epu8(self.0, _mm_set1_epi8((limit + 1) as i8)), self.0) })
        }

        /// Those that are 128 or more.
        #[inline(always)]
        pub fn high(self) -> Marks {
            // Only the highest bit of each is asked for.
            Marks(self.0)
        }

        #[inline(always)]
        pub fn equal(self, byte: u8) -> Marks {
            Marks(unsafe { _mm_cmpeq_epi8(self.0, _mm_set1_epi8(byte as i8)) })
        }

        /// Without the bits that `bits` has not.
        #[inline(always)]
        pub fn of(self, bits: u8) -> Bytes {
            Bytes(unsafe { _mm_and_si128(self.0, _mm_set1_epi8(bits as i8)) })
        }
    }

    impl Marks {
        #[inline(always)]
        pub(super) fn none() -> Marks {
            Marks(unsafe { _mm_setzero_si128() })
        }

        #[inline(always)]
        pub(super) fn first(&self) -> Option<usize> {
            let marks = unsafe { _mm_movemask_epi8(self.0) };
            (marks != 0).then_some(marks.trailing_zeros() as usize)
        }
    }

    impl BitOr for Marks {
        type Output = Marks;

        #[inline(always)]
        fn bitor(self, other: Marks) -> Marks {
            Marks(unsafe { _mm_or_si128(self.0, other.0) })
        }
    }

    impl BitAnd for Marks {
        type Output = Marks;

        #[inline(always)]
        fn bitand(self, other: Marks) -> Marks {
            Marks(unsafe { _mm_and_si128(self.0, other.0) })
        }
    }
}

/// So many bytes at a time, as one number.
#[cfg(not(target_arch = "x86_64"))]
mod step {
    use std::ops::{BitAnd, BitOr};

    pub const STEP: usize = 8;
    const ONES: u64 = u64::from_ne_bytes([1; STEP]);
    const HIGH: u64 = ONES << 7;

    /// Bytes that are looked at together.
    #[derive(Clone, Copy)]
    pub struct Bytes(u64);

    /// Which of them are wanted.
    pub struct Marks(u64);

    impl Bytes {
        #[inline(always)]
        pub(super) fn new(bytes: &[u8; STEP]) -> Bytes {
            Bytes(u64::from_le_bytes(*bytes))
        }

        /// Those that are less than `limit`, which is 1 to 128.
        #[inline(always)]
        pub fn below(self, limit: u8) -> Marks {
            // With its highest bit set, no byte borrows of the next.
            Marks(!((self.0 | HIGH) - ONES * limit as u64) & !self.0 & HIGH)
        }

        /// Those that are more than `limit`, which is 0 to 126.
        #[inline(always)]
        pub fn above(self, limit: u8) -> Marks {
            Marks(((self.0 & !HIGH) + ONES * (127 - limit) as u64 | self.0) & HIGH)
        }

        /// Those that are 128 or more.
        #[inline(always)]
        pub fn high(self) -> Marks {
            Marks(self.0 & HIGH)
        }

        #[inline(always)]
        pub fn equal(self, byte: u8) -> Marks {
            Bytes(self.0 ^ (ONES * byte as u64)).below(1)
        }

        /// Without the bits that `bits` has not.
        #[inline(always)]
        pub fn of(self, bits: u8) -> Bytes {
            Bytes(self.0 & (ONES * bits as u64))
        }
    }

    impl Marks {
        #[inline(always)]
        pub(super) fn none() -> Marks {
            Marks(0)
        }

        #[inline(always)]
        pub(super) fn first(&self) -> Option<usize> {
            (self.0 != 0).then_some(self.0.trailing_zeros() as usize / 8)
        }
    }

    impl BitOr for Marks {
        type Output = Marks;

        #[inline(always)]
        fn bitor(self, other: Marks) -> Marks {
            Marks(self.0 | other.0)
        }
    }

    impl BitAnd for Marks {
        type Output = Marks;

        #[inline(always)]
        fn bitand(self, other: Marks) -> Marks {
            Marks(self.0 & other.0)
        }
    }
}

use step::STEP;
pub use step::{Bytes, Marks};

/// Which bytes are wanted. No closure: those are called where all is compiled for size, and this can be `inline(always)`.
pub trait Wanted {
    fn among(bytes: Bytes) -> Marks;
}

/// The first byte that is wanted.
pub fn first<W: Wanted>(bytes: &[u8]) -> Option<usize> {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    for (number, bytes) in steps.iter().enumerate() {
        if let Some(found) = W::among(Bytes::new(bytes)).first() {
            return Some(number * STEP + found);
        }
    }
    // Some before the rest may be looked at twice, but nothing of them is wanted.
    if let Some(last) = bytes.last_chunk() {
        return W::among(Bytes::new(last)).first().map(|found| bytes.len() - STEP + found);
    }
    let mut last = [0; STEP];
    last[..rest.len()].copy_from_slice(rest);
    // What fills it up may be wanted.
    W::among(Bytes::new(&last)).first().filter(|found| *found < bytes.len())
}

/// Copies what stands before the first byte that is wanted, and tells how much that is. `None` where `to` is shorter
/// than `from`: bytes of it behind what was copied may be overwritten.
pub fn copy_until<W: Wanted>(from: &[u8], to: &mut [u8]) -> Option<usize> {
    let to = to.get_mut(..from.len())?;
    // Several steps at once as long as there is nothing.
    let mut clear = 0;
    for (bytes, place) in from.as_chunks::<{ 4 * STEP }>().0.iter().zip(to.as_chunks_mut().0) {
        *place = *bytes;
        let [a, b, c, d] = bytes.as_chunks().0 else { break };
        let (a, b, c, d) = (Bytes::new(a), Bytes::new(b), Bytes::new(c), Bytes::new(d));
        if ((W::among(a) | W::among(b)) | (W::among(c) | W::among(d))).first().is_some() {
            break;
        }
        clear += bytes.len();
    }
    let (from, to, whole) = (&from[clear..], &mut to[clear..], from);
    for (number, (bytes, place)) in from.as_chunks::<STEP>().0.iter().zip(to.as_chunks_mut().0).enumerate() {
        *place = *bytes;
        if let Some(found) = W::among(Bytes::new(bytes)).first() {
            return Some(clear + number * STEP + found);
        }
    }
    let rest = &from[from.len() / STEP * STEP..];
    if rest.is_empty() {
        return Some(whole.len());
    }
    if let (Some(last), Some(place)) = (from.last_chunk::<STEP>(), to.last_chunk_mut::<STEP>()) {
        // Some of it stands there already.
        *place = *last;
        return Some(W::among(Bytes::new(last)).first().map_or(whole.len(), |found| whole.len() - STEP + found));
    }
    let mut last = [0; STEP];
    for ((byte, place), last) in rest.iter().zip(to).zip(&mut last) {
        (*place, *last) = (*byte, *byte);
    }
    Some(clear + W::among(Bytes::new(&last)).first().map_or(rest.len(), |found| found.min(rest.len())))
}

/// Copies all of it, as a call of the C library's does not pay for with some dozens of bytes. `None` where there is no
/// room.
pub fn copy(from: &[u8], to: &mut [u8]) -> Option<usize> {
    struct Nothing;

    impl Wanted for Nothing {
        #[inline(always)]
        fn among(_: Bytes) -> Marks {
            Marks::none()
        }
    }

    copy_until::<Nothing>(from, to)
}
