//! Memory from the kernel, page by page: what is never touched costs nothing, however large it is.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Zeroed bytes of a private mapping of their own. An allocator would fill what it hands out again with zeros, and so
/// touch all of it.
pub struct Pages {
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    /// Errors: the kernel has no room for the mapping.
    pub fn zeroed(length: usize) -> io::Result<Pages> {
        if length == 0 {
            return Ok(Pages::default());
        }
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Pages { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Default for Pages {
    fn default() -> Pages {
        Pages { start: NonNull::dangling(), length: 0 }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is ours, readable, `length` bytes long, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping was made by `zeroed` and nothing borrows from it any more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_and_ours() {
        let mut pages = Pages::zeroed(10_000).unwrap();
        assert!(pages.len() == 10_000 && pages.iter().all(|byte| *byte == 0));
        pages[9_999] = 7;
        assert_eq!(pages[9_999], 7);
        assert!(Pages::zeroed(0).unwrap().is_empty() && Pages::default().is_empty());
        assert!(Pages::zeroed(usize::MAX / 2).is_err());
    }
}
