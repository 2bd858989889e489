//! `pthread_setname_np` where the C library is musl: its own writes names of other threads to a path that it prints, for
//! which all of printf is linked, and nothing else here needs that.

#![cfg(target_env = "musl")]

use std::ffi::{c_char, c_int};

/// # Safety
/// As pthread_setname_np(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int {
    // SAFETY: the caller gives a text with its end; the kernel takes 16 bytes of it at most.
    unsafe {
        // The standard library, which alone calls this, names the thread that it is in.
        if thread != libc::pthread_self() {
            return libc::ENOSYS;
        }
        match libc::prctl(libc::PR_SET_NAME, name) {
            0 => 0,
            _ => *libc::__errno_location(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_has_its_name() {
        let named = || {
            // SAFETY: a text with its end.
            assert_eq!(unsafe { super::pthread_setname_np(libc::pthread_self(), c"renamed".as_ptr()) }, 0);
            std::fs::read_to_string("/proc/thread-self/comm").unwrap()
        };
        assert_eq!(std::thread::spawn(named).join().unwrap(), "renamed\n");
    }
}
