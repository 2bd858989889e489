//! A container's files, seen from outside: copied in and out, listed as changes, exported.

mod archive;
mod changes;
mod export;
mod view;

pub use archive::{Put, put, read, stat};
pub use changes::{changes, differences};
pub use export::export;
pub use view::hold;
