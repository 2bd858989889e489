//! The heap: dlmalloc, because musl's own allocator maps and unmaps memory for almost everything that is asked of it,
//! which cost a short command a quarter of its time. Behind a lock of its own, which costs next to nothing where nobody
//! contends for it: the C library's cost as much as the allocator.

use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How often to look whether the lock is free before another thread is given the processor.
const SPINS: u32 = 100;
/// What a command that does something comes to use, in bytes: of its heap, and of its stack.
const HEAP: usize = 192 * 1024;
const STACK: usize = 96 * 1024;

pub struct Heap {
    taken: AtomicBool,
    inner: UnsafeCell<Dlmalloc<Kernel>>,
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
        Heap { taken: AtomicBool::new(false), inner: UnsafeCell::new(Dlmalloc::new_with_allocator(Kernel)) }
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

// SAFETY: dlmalloc keeps the promises of an allocator, and has each call to itself. Nothing here panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _guard = self.lock();
        // SAFETY: as the caller promises.
        unsafe { (*self.inner.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _guard = self.lock();
        // SAFETY: as the caller promises.
        unsafe { (*self.inner.get()).free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let _guard = self.lock();
        // SAFETY: as the caller promises.
        unsafe { (*self.inner.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _guard = self.lock();
        // SAFETY: as the caller promises.
        unsafe { (*self.inner.get()).realloc(pointer, layout.size(), layout.align(), size) }
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
}
