//! The verbs on containers, images and volumes, on an on-disk store that many processes share.

pub mod locks;
pub mod logs;
pub mod names;
pub mod record;
pub mod store;

pub use record::Record;
pub use store::Store;
