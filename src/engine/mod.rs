//! The verbs on containers, images and volumes, on an on-disk store that many processes share.

pub mod devices;
pub mod etc;
pub mod events;
pub mod filters;
pub mod images;
pub mod layers;
pub mod locks;
pub mod logs;
pub mod mounts;
pub mod names;
mod pattern;
pub mod pull;
pub mod record;
pub mod spec;
pub mod store;
pub mod users;
pub mod volumes;

pub use record::Record;
pub use store::Store;
