//! What the wire says: types, refusals, framing, and the typed client. A leaf: imports nothing of ours.

pub mod base64;
pub mod client;
pub mod errno;
pub mod http;
pub mod refusal;
pub mod time;
pub mod types;
pub mod units;
pub mod version;
pub mod wire;

pub use refusal::Refusal;
pub use wire::{Body, Reply, Request, Response};
