//! Files: tar to layer and back, overlay mounts, copies in and out, safe paths inside a root.

pub mod compression;
pub mod path;
