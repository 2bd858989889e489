//! Files: tar to layer and back, overlay mounts, copies in and out, safe paths inside a root.

pub mod compression;
pub mod copy;
mod directories;
pub mod flatten;
mod header;
mod kept;
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
