//! The heap: dlmalloc, because musl's own allocator maps and unmaps memory for almost everything that is asked of it,
//! which cost a short command a quarter of its time. Behind a lock of its own, which costs next to nothing where nobody
//! contends for it: the C library's cost as much as the allocator. Of small blocks the last ones that were given back are
//! kept aside by their size, and given out again without a look at what lies beside them.

use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How often to look whether the lock is free before another thread is given the processor.
const SPINS: u32 = 100;
/// What a command that does something comes to use, in bytes: of its heap, and of its stack.
const HEAP: usize = 192 * 1024;
const STACK: usize = 96 * 1024;

/// Blocks of up to `SIZES * 16 + 8` bytes are kept aside, so many of each size: 270 KB at most.
const SIZES: usize = 32;
const MOST: u32 = 32;
/// What dlmalloc aligns every block to.
const ALIGNED: usize = 2 * size_of::<usize>();

pub struct Heap {
    taken: AtomicBool,
    inner: UnsafeCell<Inner>,
}

struct Inner {
    whole: Dlmalloc<Kernel>,
    aside: [Aside; SIZES],
}

/// Blocks of one size; each begins with the address of the next.
#[derive(Clone, Copy)]
struct Aside {
    first: *mut u8,
    count: u32,
}

// SAFETY: what is inside is used with the lock in hand only.
unsafe impl Sync for Heap {}

struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Heap {
    pub const fn new() -> Heap {
        let aside = [Aside { first: std::ptr::null_mut(), count: 0 }; SIZES];
        let inner = Inner { whole: Dlmalloc::new_with_allocator(Kernel), aside };
        Heap { taken: AtomicBool::new(false), inner: UnsafeCell::new(inner) }
    }

    // Of the little that is worth being in each place.
    #[inline(always)]
    fn lock(&self) -> Guard<'_> {
        if self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait();
        }
        Guard(&self.taken)
    }

    /// Until the lock is ours.
    #[cold]
    fn wait(&self) {
        let mut spins = 0;
        while self.taken.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spins += 1;
            // Whoever has it may ask the kernel for memory right now, or may not be running.
            if spins % SPINS == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

/// Which of the sizes that are kept aside a block has.
fn small(layout: Layout) -> Option<usize> {
    let size = layout.size().saturating_sub(9) / 16;
    (size < SIZES && layout.align() <= ALIGNED).then_some(size)
}

/// What a block of that layout is asked of dlmalloc as: the largest that takes the same room there, a multiple of 16 with
/// its head of 8.
fn room(layout: Layout) -> usize {
    small(layout).map_or(layout.size(), |size| size * 16 + 24)
}

impl Inner {
    /// SAFETY: as of [`GlobalAlloc::alloc`].
    unsafe fn alloc(&mut self, layout: Layout) -> *mut u8 {
        if let Some(size) = small(layout) {
            let aside = &mut self.aside[size];
            if !aside.first.is_null() {
                let block = aside.first;
                // SAFETY: it is nobody's, and begins with what `dealloc` wrote there.
                aside.first = unsafe { block.cast::<*mut u8>().read() };
                aside.count -= 1;
                return block;
            }
        }
        // SAFETY: as the caller promises.
        unsafe { self.whole.malloc(room(layout), layout.align()) }
    }

    /// SAFETY: as of [`GlobalAlloc::dealloc`].
    unsafe fn dealloc(&mut self, block: *mut u8, layout: Layout) {
        if let Some(size) = small(layout) {
            let aside = &mut self.aside[size];
            if aside.count < MOST {
                // SAFETY: it is of 24 bytes at least, aligned for an address, and nobody's from now on.
                unsafe { block.cast::<*mut u8>().write(aside.first) };
                aside.first = block;
                aside.count += 1;
                return;
            }
        }
        // SAFETY: as the caller promises; it was asked for as this.
        unsafe { self.whole.free(block, room(layout), layout.align()) }
    }
}

// SAFETY: dlmalloc keeps the promises of an allocator, and has each call to itself; a block is either there, aside, or
// somebody's. Nothing here panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _guard = self.lock();
        // SAFETY: as the caller promises, with the lock in hand.
        unsafe { (*self.inner.get()).alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _guard = self.lock();
        // SAFETY: the same.
        unsafe { (*self.inner.get()).dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let _guard = self.lock();
        // SAFETY: the same. New memory of the kernel's is zero, as dlmalloc knows; a small block may be an old one.
        unsafe {
            if small(layout).is_none() {
                return (*self.inner.get()).whole.calloc(layout.size(), layout.align());
            }
            let block = (*self.inner.get()).alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the alignment is one, and the caller promises that the size fits to it.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if room(new) == room(layout) {
            return block;
        }
        let _guard = self.lock();
        // SAFETY: as the caller promises, with the lock in hand; it was asked for as this.
        unsafe { (*self.inner.get()).whole.realloc(block, room(layout), layout.align(), room(new)) }
    }
}

/// How many bytes of new memory will be touched for sure, and are had at once.
static WARM: AtomicUsize = AtomicUsize::new(0);
/// Where the heap's memory was last had, and how much: before `warm`, all that there is of it.
static LAST: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// For a process that is about to use memory: the kernel gives the pages of its heap and its stack in one go, not one
/// by one as each is touched.
pub fn warm() {
    WARM.store(HEAP, Ordering::Relaxed);
    let here = 0u8;
    let top = (&raw const here) as usize & !4095;
    // SAFETY: it changes nothing of what is there. Where the kernel does not know the call (before 5.14), or the stack
    // does not reach as far, the pages come as they are touched.
    unsafe { libc::madvise((top - STACK) as *mut libc::c_void, STACK, libc::MADV_POPULATE_WRITE) };
    let [start, length] = LAST.each_ref().map(|part| part.load(Ordering::Relaxed));
    // SAFETY: the same.
    unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_POPULATE_WRITE) };
}

/// Where the memory comes from.
struct Kernel;

// SAFETY: mappings of our own, of the size that is said.
unsafe impl Allocator for Kernel {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let warm = WARM.load(Ordering::Relaxed);
        let populate = if size <= warm { libc::MAP_POPULATE } else { 0 };
        WARM.store(warm.saturating_sub(size), Ordering::Relaxed);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate;
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return (std::ptr::null_mut(), 0, 0);
        }
        LAST[0].store(start as usize, Ordering::Relaxed);
        LAST[1].store(size, Ordering::Relaxed);
        (start.cast(), size, 0)
    }

    fn remap(&self, start: *mut u8, old: usize, new: usize, can_move: bool) -> *mut u8 {
        let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY: the mapping was made by `alloc`, and nobody but the caller uses it.
        let start = unsafe { libc::mremap(start.cast(), old, new, flags) };
        if start == libc::MAP_FAILED { std::ptr::null_mut() } else { start.cast() }
    }

    fn free_part(&self, start: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: as above; what is given back is the mapping's end.
        unsafe { libc::munmap(start.add(new).cast(), old - new) == 0 }
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        // SAFETY: as above.
        unsafe { libc::munmap(start.cast(), size) == 0 }
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn threads_share_it() {
        let work = |seed: usize| {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            for round in 0..2000 {
                let size = (seed * 7919 + round * 104_729) % 5000 + 1;
                let mut bytes = vec![seed as u8; size];
                bytes.resize(size * 2, seed as u8);
                kept.push(bytes);
                if kept.len() > 50 {
                    let bytes = kept.swap_remove(round % 50);
                    assert!(bytes.iter().all(|&byte| byte == seed as u8));
                }
            }
        };
        std::thread::scope(|scope| (1..5).for_each(|seed| drop(scope.spawn(move || work(seed)))));
    }

    #[test]
    fn blocks_of_every_size_grow_shrink_and_are_zero() {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for round in 0..3 {
            for size in 1..700 {
                let mut bytes = vec![0u8; size];
                assert!(bytes.iter().all(|&byte| byte == 0), "{size}");
                bytes.fill(size as u8);
                bytes.reserve_exact(size % 37);
                bytes.resize(size + size % 37, size as u8);
                bytes.truncate(size / 2 + 1);
                bytes.shrink_to_fit();
                assert!(bytes.iter().all(|&byte| byte == size as u8), "{size}");
                if size % 3 == round {
                    kept.push(bytes);
                }
            }
        }
        // None lies in another.
        let mut places: Vec<_> = kept.iter().map(|bytes| bytes.as_ptr_range()).collect();
        places.sort_by_key(|place| place.start);
        assert!(places.is_sorted_by(|a, b| a.end <= b.start));
    }

    #[repr(align(64))]
    struct Wide([u8; 100]);

    #[test]
    fn alignments_hold() {
        let kept: Vec<Box<Wide>> = (0..100).map(|number| Box::new(Wide([number; 100]))).collect();
        assert!(kept.iter().all(|wide| std::ptr::from_ref(&**wide).addr() % 64 == 0));
        assert!(kept.iter().zip(0..).all(|(wide, number)| wide.0 == [number; 100]));
    }
}
