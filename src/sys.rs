//! The only unsafe code: system calls that nix does not cover. One wrapper is one call.

#![allow(unsafe_code)]
