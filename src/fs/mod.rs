//! Files: tar to layer and back, overlay mounts, copies in and out, safe paths inside a root.

// Push and save are to call it; until they are there, only the tests of what a recipe keeps do.
#[cfg(test)]
pub mod assemble;
pub mod compression;
pub mod copy;
mod directories;
pub mod flatten;
mod header;
mod kept;
mod lowers;
pub mod overlay;
pub mod path;
pub mod recipe;
pub mod remove;
pub mod settle;
pub mod size;
mod stat;
mod stream;
pub mod unpack;
pub mod xattr;
