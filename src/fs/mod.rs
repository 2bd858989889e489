//! Files: tar to layer and back, overlay mounts, copies in and out, safe paths inside a root.

pub mod archive;
pub mod assemble;
pub mod compression;
pub mod copy;
mod directories;
pub mod flatten;
pub mod header;
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
