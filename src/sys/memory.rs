//! Memory from the kernel, page by page: what is never touched costs nothing, however large it is.

use std::ffi::{c_int, c_void};
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

/// Unmaps the pages of this executable's file that nobody can have changed: code and constants. They stay in the page
/// cache, and come back from there when they are next used. A process that waits has next to nothing then.
pub fn let_go_of_the_file() {
    unsafe extern "C" fn each(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr(3) hands in an object, whose headers are there as long as it is loaded.
        let object = unsafe { &*object };
        for index in 0..usize::from(object.dlpi_phnum) {
            // SAFETY: there are dlpi_phnum of them.
            let header = unsafe { &*object.dlpi_phdr.add(index) };
            if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
                continue;
            }
            // The kernel maps whole pages; of 4 KiB, which is the smallest there is, what it rounds up.
            let start = (object.dlpi_addr + header.p_vaddr) as usize & !4095;
            let length = (object.dlpi_addr + header.p_vaddr + header.p_memsz) as usize - start;
            // SAFETY: a private mapping of a file that was never writable holds what the file does, and is read again.
            unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
        }
        // The vDSO comes after the executable, and is nothing of a file.
        1
    }
    // SAFETY: `each` has the form that is asked for, and nothing is given to it.
    unsafe { libc::dl_iterate_phdr(Some(each), std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_of_comes_back() {
        let resident = || {
            let rollup = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut ours = false;
            let mut sum = 0;
            for line in rollup.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    [range, rights, _, _, _, file] if range.contains('-') => {
                        ours = rights.starts_with("r-x") && file.starts_with('/');
                    }
                    [range, ..] if range.contains('-') => ours = false,
                    ["Rss:", size, _] if ours => sum += size.parse::<u64>().unwrap(),
                    _ => {}
                }
            }
            sum
        };
        let before = resident();
        let_go_of_the_file();
        let after = resident();
        // Other tests go on beside this one.
        assert!(before > 0 && after < before, "{before} KiB, then {after}");
    }

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
