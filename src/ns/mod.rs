//! Isolation: a runtime spec becomes a plan (pure), a loop in the child walks it.

pub mod caps;
pub mod profile;
pub mod seccomp;
