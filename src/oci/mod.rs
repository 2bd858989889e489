//! What the Open Container Initiative's formats say: references, digests, manifests, image configs, the runtime spec, registries. A leaf.

pub mod archive;
pub mod auth;
pub mod cdi;
pub mod digest;
pub mod image;
pub mod platform;
pub mod reference;
pub mod registry;
pub mod runtime;

pub use digest::{Digest, hex};
pub use platform::Platform;
pub use reference::Reference;
