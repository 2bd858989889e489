//! Dockerfile → steps → layers.

// Read, and not yet carried out.
#![allow(dead_code, unused_imports)]

pub mod dockerfile;
#[cfg(test)]
pub mod fuzz;
pub mod ignore;
