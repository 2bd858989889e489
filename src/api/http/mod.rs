//! HTTP/1.1, both ways: what the daemon answers with and what a client asks it with. One thread a connection.
//!
//! ```text
//! socket ─ Input ─ head ─ framing ─▶ Request ══ engine ══▶ Response ─ respond ─ socket      server
//! Request ─ remote ─ socket … socket ─ Input ─ head ─ framing ─▶ Response                   remote
//! ```

pub mod address;
mod chunks;
mod connections;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod head;
mod input;
pub mod provider;
mod remote;
mod respond;
mod server;
mod socket;
mod splice;
mod ssh;
pub mod target;
pub mod tls;
mod websocket;

pub use connections::Connections;
pub use remote::Remote;
