//! Firewalls of others that stand in the way: found, told with the one line that helps, and, where that was asked for,
//! opened by a rule that bears our name and goes with the last container that wanted it.

use super::super::store::{self, Store};
use super::join::{self, Held, Place, Published};
use super::{firewall, stored};
use crate::net::address;
use crate::net::foreign::{self, Block, Foreign};
use crate::net::link;
use crate::net::netlink::Socket;
use crate::net::packet::Packet;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// How a user has it done.
const COOPERATE: &str = "or have dhow do it and undo it, with --firewall-cooperate";

/// A chain that drops what goes to a bridge, or what comes from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Obstacle {
    pub bridge: String,
    pub to_bridge: bool,
    pub block: Block,
}

impl Obstacle {
    /// In words, with the line that helps.
    pub fn sentence(&self) -> String {
        let Block { family, table, chain, is_legacy, is_unsure } = &self.block;
        let legacy = if *is_legacy { " of iptables-legacy" } else { "" };
        let what = match (self.to_bridge, is_unsure) {
            (true, false) => "what others send to published ports",
            (true, true) => "some of what others send to published ports",
            (false, false) => "what containers send",
            (false, true) => "some of what containers send",
        };
        format!(
            "the firewall of this host drops {what} (chain {chain} of table {family} {table}{legacy}); this lets it through: \
             {}; {COOPERATE}",
            self.block.line(&self.bridge, self.to_bridge)
        )
    }
}

/// The link that leads out of this host, if one does.
fn way_out() -> Option<(String, u32)> {
    let socket = Socket::route().ok()?;
    let index = address::default_link(&socket).ok()??;
    Some((link::name(&socket, index).ok()??, index))
}

/// What rules of others do, asked once.
pub struct Others {
    foreign: Foreign,
    out: Option<(String, u32)>,
}

impl Others {
    pub fn read() -> Result<Others> {
        Ok(Others { foreign: Foreign::read().context("read the rules of others from nf_tables")?, out: way_out() })
    }

    /// What stands between others and a port that is published on a bridge; what only this host reaches needs nobody.
    pub fn of_port(&self, bridge: &str, port: &Port) -> Vec<Obstacle> {
        let link = Socket::route().and_then(|socket| link::find(&socket, bridge)).ok().flatten();
        let bridge_link = (bridge.to_owned(), link.map_or(0, |link| link.index));
        let comes = Packet {
            comes_by: self.out.clone(),
            leaves_by: Some(bridge_link.clone()),
            is_ipv4: port.is_ipv4,
            from: None,
            to: port.address,
            protocol: Some(port.protocol),
            to_port: Some(port.number),
            is_new: true,
            is_redirected: true,
        };
        let answers = Packet {
            comes_by: Some(bridge_link),
            leaves_by: self.out.clone(),
            from: port.address,
            to: None,
            to_port: None,
            is_new: false,
            ..comes.clone()
        };
        let leaves = Packet { protocol: None, is_new: true, is_redirected: false, ..answers.clone() };
        let mut found = BTreeSet::new();
        for (packet, to_bridge) in [(comes, true), (answers, false), (leaves, false)] {
            let obstacle = |block| Obstacle { bridge: bridge.to_owned(), to_bridge, block };
            found.extend(self.foreign.blocks(&packet).into_iter().map(obstacle));
        }
        // One that is sure says it all.
        let sure: Vec<Obstacle> = found.iter().filter(|it| !it.block.is_unsure).cloned().collect();
        found.retain(|it| {
            !it.block.is_unsure
                || !sure.iter().any(|other| {
                    other.to_bridge == it.to_bridge && other.block == Block { is_unsure: false, ..it.block.clone() }
                })
        });
        found.into_iter().collect()
    }
}

/// A published port, as far as packets are concerned; its address is not known before its container runs.
pub struct Port {
    pub is_ipv4: bool,
    pub address: Option<IpAddr>,
    pub protocol: u8,
    pub number: u16,
}

impl From<&Published> for Port {
    fn from(port: &Published) -> Port {
        Port {
            is_ipv4: port.container.is_ipv4(),
            address: Some(port.container.ip()),
            protocol: port.protocol,
            number: port.container.port(),
        }
    }
}

/// The bridge of the place that a port leads to.
pub fn bridge_of(store: &Store, held: &Held, port: &Published) -> Result<Option<String>> {
    let leads = |place: &&Place| place.given().any(|given| given.address == port.container.ip());
    match held.places.iter().find(leads) {
        Some(place) => Ok(stored::load(store, &place.network)?.map(|network| stored::link_name(&network))),
        None => Ok(None),
    }
}

/// It is there when rules of ours may stand in tables of others.
fn mark(store: &Store) -> PathBuf {
    store.run.join("cooperates")
}

/// Opens what stands in the way of a container's ports. The caller holds the lock of the firewall. What cannot be opened
/// is told by who lists ports.
pub fn cooperate(store: &Store, held: &Held) -> Result<()> {
    let others = Others::read()?;
    // One rule does for all ports of a bridge.
    let mut found = BTreeSet::new();
    for port in held.ports.iter().filter(|port| !port.served && !port.host.ip().is_loopback()) {
        if let Some(bridge) = bridge_of(store, held, port)? {
            let all = others.of_port(&bridge, &Port::from(port)).into_iter().filter(|it| !it.block.is_legacy);
            found.extend(all.map(|it| Obstacle { block: Block { is_unsure: false, ..it.block }, ..it }));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    store::write_file(&mark(store), b"", false)?;
    crate::failpoint::reach("cooperate.marked");
    for Obstacle { bridge, to_bridge, block } in &found {
        foreign::open(block, bridge, *to_bridge, &firewall::table(store))
            .with_context(|| format!("open chain {} of table {} {}", block.chain, block.family, block.table))?;
    }
    crate::failpoint::reach("cooperate.opened");
    Ok(())
}

/// Takes away what stands in tables of others, unless somebody but `leaving` still wants it. The caller holds the lock of
/// the firewall.
pub fn part(store: &Store, leaving: &str) -> Result<()> {
    if !mark(store).exists() {
        return Ok(());
    }
    if join::all_held(store)?.iter().any(|(id, held)| id != leaving && held.cooperates) {
        return Ok(());
    }
    foreign::close(&firewall::table(store)).context("take our rules out of tables of others")?;
    store::remove(&mark(store))
}
