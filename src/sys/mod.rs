//! The only unsafe code: system calls that nix does not cover. One wrapper is one call and returns `io::Result`.

#![allow(unsafe_code)]

pub mod apart;
pub mod bpf;
mod copy;
pub mod file;
pub mod heap;
pub mod inotify;
pub mod kernel;
pub mod landlock;
pub mod lock;
mod malloc;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod net;
pub mod process;
mod processors;
pub mod quota;
pub mod search;
pub mod signals;
mod thread;
pub mod time;
pub mod tree;
pub mod tty;
#[cfg(all(panic = "abort", target_env = "musl"))]
mod unwind;
pub mod xattr;

use std::io;

pub use processors::{elsewhere, processors};

/// The result of a raw system call: -1 means errno.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
