//! Firewalls of others that stand in the way: found, told with the one line that helps, and, where that was asked for,
//! opened by a rule that bears our name and goes with the last container that wanted it.

use super::super::store::{self, Store};
use super::join::{self, Held, Place, Published};
use super::{firewall, stored};
use crate::net::address;
use crate::net::foreign::{self, Block, FORWARD, Foreign, INPUT, Way};
use crate::net::link;
use crate::net::netlink::Socket;
use crate::net::packet::Packet;
use crate::order::{Map, Set};
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::net::IpAddr;
use std::path::PathBuf;

/// How a user has it done.
const COOPERATE: &str = "or have dhow do it and undo it, with --firewall-cooperate";

/// A chain that drops what shall come through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Obstacle {
    pub way: Way,
    pub block: Block,
}

impl Obstacle {
    /// In words, with the line that helps.
    pub fn sentence(&self) -> String {
        let Block { family, table, chain, is_legacy, is_unsure } = &self.block;
        let legacy = if *is_legacy { " of iptables-legacy" } else { "" };
        let some = if *is_unsure { "some of " } else { "" };
        let what = match self.way {
            Way::To(_) | Way::Here(..) => "what others send to published ports",
            Way::From(_) => "what containers send",
        };
        format!(
            "the firewall of this host drops {some}{what} (chain {chain} of table {family} {table}{legacy}); this lets it \
             through: {}; {COOPERATE}",
            self.block.line(&self.way)
        )
    }

    /// Others do not reach the port.
    pub fn is_closed(&self) -> bool {
        !self.block.is_unsure && !matches!(self.way, Way::From(_))
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
    /// Indices of bridges that were asked for.
    bridges: RefCell<Map<String, u32>>,
}

impl Others {
    pub fn read() -> Result<Others> {
        let foreign = Foreign::read().context("read the rules of others from nf_tables")?;
        Ok(Others { foreign, out: way_out(), bridges: RefCell::default() })
    }

    fn index(&self, bridge: &str) -> u32 {
        let find = || Socket::route().and_then(|socket| link::find(&socket, bridge)).ok().flatten();
        let ask = || find().map_or(0, |link| link.index);
        *self.bridges.borrow_mut().entry(bridge.to_owned()).or_insert_with(ask)
    }

    /// What stands between others and a port that is published on a bridge; what only this host reaches needs nobody.
    pub fn of_port(&self, bridge: &str, port: &Port) -> Vec<Obstacle> {
        let bridge_link = (bridge.to_owned(), self.index(bridge));
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
        let (to, from) = (Way::To(bridge.to_owned()), Way::From(bridge.to_owned()));
        self.of(FORWARD, [(comes, to), (answers, from.clone()), (leaves, from)])
    }

    /// What stands between others and a port that a program of this host serves.
    pub fn of_served(&self, port: &Published) -> Vec<Obstacle> {
        let comes = Packet {
            comes_by: self.out.clone(),
            leaves_by: None,
            is_ipv4: port.host.is_ipv4(),
            from: None,
            to: Some(port.host.ip()).filter(|address| !address.is_unspecified()),
            protocol: Some(port.protocol),
            to_port: Some(port.host.port()),
            is_new: true,
            is_redirected: false,
        };
        self.of(INPUT, [(comes, Way::Here(port.protocol, port.host.port()))])
    }

    fn of<const N: usize>(&self, hook: u32, packets: [(Packet, Way); N]) -> Vec<Obstacle> {
        let mut found = Set::new();
        for (packet, way) in packets {
            let obstacle = |block| Obstacle { way: way.clone(), block };
            found.extend(self.foreign.blocks(hook, &packet).into_iter().map(obstacle));
        }
        // One that is sure says it all.
        let sure: Vec<Obstacle> = found.iter().filter(|it| !it.block.is_unsure).cloned().collect();
        let said = |it: &Obstacle| {
            let it = Obstacle { way: it.way.clone(), block: Block { is_unsure: false, ..it.block.clone() } };
            sure.contains(&it)
        };
        found.into_iter().filter(|it| !it.block.is_unsure || !said(it)).collect()
    }

    /// What stands between others and a published port of a container.
    pub fn of_held(&self, store: &Store, held: &Held, port: &Published) -> Result<Vec<Obstacle>> {
        if port.served {
            return Ok(self.of_served(port));
        }
        Ok(match bridge_of(store, held, port)? {
            Some(bridge) => self.of_port(&bridge, &Port::from(port)),
            None => Vec::new(),
        })
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
fn bridge_of(store: &Store, held: &Held, port: &Published) -> Result<Option<String>> {
    let leads = |place: &&Place| place.given().any(|given| given.address == port.container.ip());
    match held.places.iter().find(leads) {
        Some(place) => Ok(stored::load(store, &place.network)?.map(|network| stored::link_name(&network))),
        None => Ok(None),
    }
}

/// It is there when rules of ours may stand in tables of others.
pub fn mark(store: &Store) -> PathBuf {
    store.run.join("cooperates")
}

/// Opens what stands in the way of the ports of containers. The caller holds the lock of the firewall.
pub fn cooperate<'a>(store: &Store, holders: impl IntoIterator<Item = &'a Held>) -> Result<()> {
    // Also where nothing stands in the way now: a firewall may come later.
    if !mark(store).exists() {
        store::write_file(&mark(store), b"", false)?;
    }
    crate::failpoint::reach("cooperate.marked");
    let others = Others::read()?;
    // One rule does for all ports of a bridge.
    let mut found = Set::new();
    for held in holders {
        for port in held.ports.iter().filter(|port| !port.host.ip().is_loopback()) {
            let all = others.of_held(store, held, port)?.into_iter();
            found.extend(all.map(|it| Obstacle { block: Block { is_unsure: false, ..it.block }, ..it }));
        }
    }
    for Obstacle { way, block } in &found {
        foreign::open(block, way, &firewall::table(store))
            .with_context(|| format!("open chain {} of table {} {}", block.chain, block.family, block.table))?;
    }
    crate::failpoint::reach("cooperate.opened");
    Ok(())
}

/// Opens again what was opened and is not any more: a firewall of others was loaded anew. Where nobody wants it, what is
/// left of it is taken away. The caller holds the lock of the firewall.
pub fn mend(store: &Store) -> Result<()> {
    if !mark(store).exists() {
        return Ok(());
    }
    let all = join::all_held(store)?;
    if all.iter().all(|(_, held)| !held.cooperates) {
        return close(store);
    }
    cooperate(store, all.iter().map(|(_, held)| held).filter(|held| held.cooperates))
}

/// Takes away what stands in tables of others, unless somebody but `leaving` still wants it. The caller holds the lock of
/// the firewall.
pub fn part(store: &Store, leaving: &str) -> Result<()> {
    if !mark(store).exists() || join::all_held(store)?.iter().any(|(id, held)| id != leaving && held.cooperates) {
        return Ok(());
    }
    close(store)
}

fn close(store: &Store) -> Result<()> {
    foreign::close(&firewall::table(store)).context("take our rules out of tables of others")?;
    store::remove(&mark(store))
}
