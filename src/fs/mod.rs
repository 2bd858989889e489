//! Files: tar to layer and back, overlay mounts, copies in and out, safe paths inside a root.

pub mod archive;
pub mod assemble;
pub mod compression;
pub mod copy;
pub mod diff;
mod directories;
pub mod extract;
pub mod flatten;
pub mod header;
mod kept;
mod lowers;
mod objects;
pub mod overlay;
pub mod pack;
pub mod path;
pub mod recipe;
pub mod remove;
pub mod settle;
pub mod size;
pub mod special;
pub mod stat;
pub mod stream;
pub mod tree;
pub mod unpack;
pub mod write;
pub mod xattr;
