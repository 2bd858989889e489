//! What the kernel does for networks, by netlink and nf_tables messages of our own: no `ip`, `iptables` or `nft`.
//!
//! [`netlink`] writes messages and reads answers; [`link`], [`address`] and [`nftables`] say what the kernel can be
//! asked for; [`ruleset`] and [`xtables`] read whose rules ever, [`foreign`] walks those of others, [`firewall`] is our one
//! table, [`conntrack`] what the kernel remembers of it, [`port`] holds ports of the host, [`namespace`] makes what they
//! are used in, and [`dns`] knows names. None of them knows a container.

pub mod address;
pub mod conntrack;
pub mod dns;
pub mod firewall;
pub mod flush;
pub mod foreign;
pub mod link;
pub mod namespace;
pub mod netlink;
pub mod nftables;
pub mod packet;
pub mod port;
pub mod ruleset;
pub mod subnet;
pub mod xtables;

pub use subnet::{Families, Subnet};
