//! `malloc` and its like where the C library is musl, from our heap: its own maps and unmaps a page to read a directory,
//! and is eight kilobytes of the executable. C asks for a handful of blocks here: directories that are read, names that
//! are looked up, and what zstd works with.

#![cfg(all(target_env = "musl", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ffi::{c_int, c_void};

/// What stands before each block: its layout, as Rust's heap wants to have it back.
#[derive(Clone, Copy)]
#[repr(C)]
struct Head {
    size: usize,
    align: usize,
}

// The compiler sees nobody who calls them, and would leave out functions of these names. So the names lead to them.
#[cfg(not(test))]
macro_rules! gives {
    ($($name:literal $function:ident)*) => { $(
        #[cfg(target_arch = "x86_64")]
        gives!($name $function by "jmp");
        #[cfg(target_arch = "aarch64")]
        gives!($name $function by "b");
    )* };
    ($name:literal $function:ident by $jump:literal) => {
        std::arch::global_asm!(
            concat!(".section .text.", $name, ", \"ax\", %progbits"),
            concat!(".globl ", $name),
            concat!(".type ", $name, ", %function"),
            concat!($name, ": ", $jump, " {}"),
            ".text",
            sym $function,
        );
    };
}

// The last three are what the C library calls itself where somebody has replaced the first.
#[cfg(not(test))]
gives! {
    "malloc" malloc "calloc" calloc "realloc" realloc "free" free "malloc_usable_size" malloc_usable_size
    "aligned_alloc" aligned_alloc "memalign" memalign "posix_memalign" posix_memalign
    "__libc_malloc" malloc "__libc_calloc" calloc "__libc_free" free
}

/// What C's types are aligned to at most, and more than a `Head`'s size nowhere.
const ALIGN: usize = 16;

/// The layout of a block with its head before it, and where in it the block begins.
fn whole(size: usize, align: usize) -> Option<(Layout, usize)> {
    let align = align.max(ALIGN);
    Some((Layout::from_size_align(size.checked_add(align)?, align).ok()?, align))
}

/// A block by one of the heap's ways; null, with errno, where there is none.
fn block(size: usize, align: usize, by: unsafe fn(Layout) -> *mut u8) -> *mut c_void {
    if let Some((layout, at)) = whole(size, align) {
        // SAFETY: the layout has a size, and room for the head right before the block.
        unsafe {
            let start = by(layout);
            if !start.is_null() {
                let block = start.add(at);
                block.cast::<Head>().sub(1).write(Head { size: layout.size(), align: layout.align() });
                return block.cast();
            }
        }
    }
    // SAFETY: it is this thread's.
    unsafe { *libc::__errno_location() = libc::ENOMEM };
    std::ptr::null_mut()
}

/// The layout of a block, and what of it is the caller's.
///
/// # Safety
/// It was given out here, and not given back.
unsafe fn of(block: *mut c_void) -> (Layout, usize) {
    // SAFETY: so its head stands before it, as it was written.
    unsafe {
        let head = block.cast::<Head>().sub(1).read();
        (Layout::from_size_align_unchecked(head.size, head.align), head.size - head.align)
    }
}

extern "C" fn malloc(size: usize) -> *mut c_void {
    block(size, ALIGN, alloc)
}

extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // Where it overflows it is too much for anybody.
    block(count.saturating_mul(size), ALIGN, alloc_zeroed)
}

extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    block(size, align, alloc)
}

extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    block(size, align, alloc)
}

/// # Safety
/// As posix_memalign(3).
unsafe extern "C" fn posix_memalign(given: *mut *mut c_void, align: usize, size: usize) -> c_int {
    let block = block(size, align, alloc);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller has room for an address there.
    unsafe { given.write(block) };
    0
}

/// # Safety
/// As realloc(3).
unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
    let new = malloc(size);
    if !old.is_null() && !new.is_null() {
        // SAFETY: the caller's block, which it gives back, and a new one.
        unsafe {
            let (_, had) = of(old);
            new.cast::<u8>().copy_from_nonoverlapping(old.cast(), had.min(size));
            free(old);
        }
    }
    new
}

/// # Safety
/// As free(3).
unsafe extern "C" fn free(block: *mut c_void) {
    if !block.is_null() {
        // SAFETY: the caller's block begins so far behind what the heap gave.
        unsafe {
            let (layout, _) = of(block);
            dealloc(block.cast::<u8>().sub(layout.align()), layout);
        }
    }
}

/// # Safety
/// As malloc_usable_size(3).
unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: the caller's block.
    if block.is_null() { 0 } else { unsafe { of(block).1 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_is_written() {
        // SAFETY: all of it within blocks of those sizes, each given back once.
        unsafe {
            for size in [0, 1, 15, 16, 17, 100, 4096, 100_000] {
                let block = malloc(size).cast::<u8>();
                assert_eq!((block.addr() % ALIGN, malloc_usable_size(block.cast())), (0, size));
                block.write_bytes(7, size);
                let larger = realloc(block.cast(), size * 2).cast::<u8>();
                let smaller = realloc(larger.cast(), size / 2).cast::<u8>();
                assert!(std::slice::from_raw_parts(smaller, size / 2).iter().all(|byte| *byte == 7));
                free(smaller.cast());
                let zero = calloc(size, 3).cast::<u8>();
                assert!(std::slice::from_raw_parts(zero, size * 3).iter().all(|byte| *byte == 0));
                free(zero.cast());
            }
            free(std::ptr::null_mut());
            for align in [1, 16, 64, 4096] {
                let mut given = std::ptr::null_mut();
                assert_eq!(posix_memalign(&raw mut given, align, 100), 0);
                let others = [given, aligned_alloc(align, 100), memalign(align, 100)];
                assert!(others.iter().all(|block| block.addr() % align == 0));
                others.into_iter().for_each(|block| {
                    block.cast::<u8>().write_bytes(1, 100);
                    free(block);
                });
            }
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert!(malloc(usize::MAX - 8).is_null() && malloc(isize::MAX as usize).is_null());
        assert!(calloc(usize::MAX / 2, 3).is_null() && aligned_alloc(48, 5).is_null());
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
    }
}
