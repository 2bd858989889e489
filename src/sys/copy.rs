//! `memcpy`, `memmove`, `memcmp` and `bcmp` for x86_64 where the C library is musl: its own copy with `rep movsq` and
//! compare byte by byte, which is slow for the few bytes that almost every call is about. They made up a fifth of the
//! time that a short command spends in user space.
//!
//! The loops are written in assembly: the compiler would recognise them in Rust, and call these very functions.

#![cfg(all(target_arch = "x86_64", target_env = "musl"))]

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_storeu_si128};
use core::ffi::c_int;

/// From here on the processor's own copying of strings is faster than a loop.
const LONG: usize = 1024;

/// # Safety
/// As memcpy(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller gives `length` readable bytes and as many writable ones; every access below is within them.
    unsafe {
        if length <= 32 {
            short(to, from, length);
        } else if length < LONG {
            // The last 16 bytes first: the loop may then end anywhere within them.
            let tail = load(from, length - 16);
            forwards(to, from, length - 16);
            store(to, length - 16, tail);
        } else {
            asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
    }
    to
}

/// # Safety
/// As memmove(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: as for memcpy. Where the ranges overlap, each byte is read before anything is written over it: short
    // ones are read whole, longer ones are walked away from the overlap, their far end read first.
    unsafe {
        if length <= 32 {
            short(to, from, length);
        } else if (to as usize).wrapping_sub(from as usize) >= length {
            if (from as usize).wrapping_sub(to as usize) >= length {
                return memcpy(to, from, length);
            }
            let tail = load(from, length - 16);
            forwards(to, from, length - 16);
            store(to, length - 16, tail);
        } else {
            let head = load(from, 0);
            asm!(
                "2:",
                "movups {x}, [{from} + {left}]",
                "movups [{to} + {left}], {x}",
                "sub {left}, 16",
                "ja 2b",
                x = out(xmm_reg) _, from = in(reg) from, to = in(reg) to, left = inout(reg) length - 16 => _,
                options(nostack)
            );
            store(to, 0, head);
        }
    }
    to
}

/// # Safety
/// As memcmp(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> c_int {
    // SAFETY: the caller gives `length` readable bytes at both; every access below is within them.
    unsafe {
        let mut at = 0;
        if length >= 16 {
            loop {
                let equal = _mm_movemask_epi8(_mm_cmpeq_epi8(load(a, at), load(b, at))) as u32;
                if equal != 0xffff {
                    let at = at + equal.trailing_ones() as usize;
                    return c_int::from(*a.add(at)) - c_int::from(*b.add(at));
                }
                if at == length - 16 {
                    return 0;
                }
                // The last step may go over bytes a second time.
                at = (at + 16).min(length - 16);
            }
        }
        if length >= 8 {
            for at in [0, length - 8] {
                let (x, y) = (a.add(at).cast::<u64>().read_unaligned(), b.add(at).cast::<u64>().read_unaligned());
                if x != y {
                    return if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 };
                }
            }
            return 0;
        }
        while at < length {
            let (x, y) = (*a.add(at), *b.add(at));
            if x != y {
                return c_int::from(x) - c_int::from(y);
            }
            at += 1;
        }
        0
    }
}

/// # Safety
/// As bcmp(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> c_int {
    // SAFETY: its contract is that of memcmp.
    unsafe { memcmp(a, b, length) }
}

/// Copies up to 32 bytes, all of them read before any is written.
#[inline(always)]
unsafe fn short(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: both ends of each pair lie within `length` bytes.
    unsafe {
        if length >= 16 {
            let (head, tail) = (load(from, 0), load(from, length - 16));
            store(to, 0, head);
            store(to, length - 16, tail);
        } else if length >= 8 {
            pair::<u64>(to, from, length);
        } else if length >= 4 {
            pair::<u32>(to, from, length);
        } else if length >= 2 {
            pair::<u16>(to, from, length);
        } else if length == 1 {
            *to = *from;
        }
    }
}

/// The first and the last bytes of a range that is at most twice as long as a `T`.
#[inline(always)]
unsafe fn pair<T: Copy>(to: *mut u8, from: *const u8, length: usize) {
    let last = length - size_of::<T>();
    // SAFETY: the caller's range holds at least one `T`.
    unsafe {
        let (head, tail) = (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
        to.cast::<T>().write_unaligned(head);
        to.add(last).cast::<T>().write_unaligned(tail);
    }
}

/// Copies at least `length` bytes, 16 at a time; up to 15 more.
#[inline(always)]
unsafe fn forwards(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller has 16 bytes more than `length` on both sides.
    unsafe {
        asm!(
            "2:",
            "movups {x}, [{from} + {at}]",
            "movups [{to} + {at}], {x}",
            "add {at}, 16",
            "cmp {at}, {end}",
            "jb 2b",
            x = out(xmm_reg) _, from = in(reg) from, to = in(reg) to, at = inout(reg) 0usize => _, end = in(reg) length,
            options(nostack)
        );
    }
}

#[inline(always)]
unsafe fn load(from: *const u8, at: usize) -> __m128i {
    // SAFETY: the caller has 16 bytes there.
    unsafe { _mm_loadu_si128(from.add(at).cast()) }
}

#[inline(always)]
unsafe fn store(to: *mut u8, at: usize, value: __m128i) {
    // SAFETY: the caller has 16 bytes there.
    unsafe { _mm_storeu_si128(to.add(at).cast(), value) }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    /// Bytes that tell their place.
    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn every_length_and_overlap() {
        for length in (0..140).chain([500, 1023, 1024, 1025, 5000]) {
            let source = bytes(length + 64);
            let mut copied = vec![0xee; length + 2];
            // SAFETY: both ranges lie within their vectors.
            unsafe { super::memcpy(copied.as_mut_ptr().add(1), source.as_ptr().add(3), length) };
            assert!(copied[0] == 0xee && copied[length + 1] == 0xee && copied[1..=length] == source[3..3 + length]);
            for (to, from) in [(0, 1), (1, 0), (0, 15), (15, 0), (0, 17), (17, 0), (40, 3), (3, 40), (5, 5)] {
                let mut moved = bytes(length + 64);
                // SAFETY: both ranges lie within the vector.
                unsafe { super::memmove(moved.as_mut_ptr().add(to), moved.as_ptr().add(from), length) };
                let mut expected = bytes(length + 64);
                expected.copy_within(from..from + length, to);
                assert_eq!(moved, expected, "{length} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn the_first_difference_decides() {
        for length in 0..80 {
            let a = bytes(length);
            // SAFETY: as long as both are.
            let compare = |b: &[u8]| unsafe { super::memcmp(a.as_ptr(), b.as_ptr(), length) };
            assert_eq!(compare(&a), 0);
            // SAFETY: as long as both are.
            assert_eq!(unsafe { super::bcmp(a.as_ptr(), bytes(length).as_ptr(), length) }, 0);
            for at in 0..length {
                for other in [0, 0x7f, 0x80, 0xff] {
                    let mut b = a.clone();
                    b[at] = other;
                    // What stands behind the first difference says nothing.
                    b[at + 1..].fill(0x55);
                    let expected = match a.cmp(&b) {
                        Ordering::Less => -1,
                        Ordering::Equal => 0,
                        Ordering::Greater => 1,
                    };
                    assert_eq!(compare(&b).signum(), expected, "{length} bytes, the one at {at} is {other}");
                }
            }
        }
    }
}
