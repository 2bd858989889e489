//! The resolver of containers on networks of users: one process for all of them, at 127.0.0.11 in each.
//!
//! [`message`] reads and writes the packets; [`zone`] knows who is called what; [`upstream`] asks other servers for what
//! it does not know; [`serve`] is the process. [`listen`] opens the sockets inside a container, which are handed to it.

pub mod listen;
pub mod message;
mod serve;
mod upstream;
pub mod zone;

pub use serve::{Resolver, hand_over, run};

use std::net::Ipv4Addr;

/// Where it answers.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Its port, which is another one in truth, so that a container may have port 53 for itself.
const PORT: u16 = 53;
