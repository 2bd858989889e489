//! The firewall's table of this store: what stands on disk and in the run directory, told to the kernel.

use super::super::locks::{self, Lock};
use super::super::rootless::network::within;
use super::super::store::{self, Store};
use super::heirs::{self, Others};
use super::join::{self, Published};
use super::modes::{self, Mode};
use super::{bridge, lease, obstacles, stored, theirs};
use crate::json::{self, by_serde};
use crate::log;
use crate::net::firewall::{self, Bridge, Mapping, State};
use crate::net::{conntrack, nftables, port};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

const FORWARD4: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARD6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// The table's name.
pub fn table(store: &Store) -> String {
    match super::is_default(store) {
        true => "dhow".to_owned(),
        false => format!("dhow-{}", super::super::tag(store)),
    }
}

/// Held by who changes the table, or the facts that it follows from.
pub fn lock(store: &Store) -> Result<Lock> {
    locks::exclusive(&lock_path(store), 0)
}

pub fn lock_path(store: &Store) -> PathBuf {
    store.run.join("firewall.lock")
}

/// It is there when this store turned forwarding on in this boot, and says how to take that back.
fn mark(store: &Store) -> PathBuf {
    store.run.join("forwarding")
}

/// It is there when others are forwarded, too, where this store turned forwarding on.
fn open_mark(store: &Store) -> PathBuf {
    store.run.join("forwarding.open")
}

/// Whether this host forwards for containers alone.
pub fn drops_others(store: &Store) -> bool {
    mark(store).exists() && !open_mark(store).exists()
}

/// Has others forwarded, or not, where this store turned forwarding on.
pub fn pass_others(store: &Store, pass: bool) -> Result<()> {
    let path = open_mark(store);
    match pass {
        _ if path.exists() == pass => return Ok(()),
        true => store::write_file(&path, &[], false)?,
        false => store::remove(&path)?,
    }
    within(store, || refresh(store))
}

/// It is there when rules of ours may stand in tables of other stores.
fn visits(store: &Store) -> PathBuf {
    store.run.join("visits")
}

/// Where one of these is, rules of ours may stand in tables of others, who may load them anew without.
pub fn marks(store: &Store) -> [PathBuf; 2] {
    [obstacles::mark(store), visits(store)]
}

/// Held by who takes the table away, or waits for a time to do so.
fn rest_path(store: &Store) -> PathBuf {
    store.run.join("firewall.rest")
}

/// Another number for each other form of the rules: a table that an earlier build has loaded is loaded anew.
const FORM: u8 = 4;

/// Which state the table should be of: the networks' files tell it, by when they were written.
fn fingerprint(store: &Store) -> Result<String> {
    let mut parts = vec![vec![FORM, drops_others(store).into()]];
    for id in stored::ids(store)? {
        parts.push([id.as_bytes(), &stored::written(store, &id)?.to_ne_bytes()].concat());
    }
    let hash = super::hashed(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok(format!("dhow {}", &hash[..16]))
}

/// Makes the table anew where it is not what it should be. The caller has an address leased, so it stays. False where the
/// kernel has no nf_tables: then nothing is forwarded that was not before, for nothing could be kept out.
pub fn ensure(store: &Store, forwards: bool) -> Result<bool> {
    let _lock = lock(store)?;
    if !nftables::is_there() {
        return Ok(false);
    }
    let loaded = loaded(store)?;
    let is_new = forwards && forward(store, loaded.is_some())?;
    if !is_new && loaded != Some(fingerprint(store)?) {
        replace(store, loaded.is_some())?;
    } else if visits(store).exists() {
        visit(store, &bridges(store)?)?;
    }
    Ok(true)
}

/// The same after the networks have changed, if there is a table.
pub fn refresh(store: &Store) -> Result<()> {
    let _lock = lock(store)?;
    if !nftables::is_there() {
        return Ok(());
    }
    match loaded(store)? {
        Some(loaded) if loaded != fingerprint(store)? => replace(store, true),
        _ => Ok(()),
    }
}

/// Lets this host pass packets on. If it did not before, then for ours only: the mark comes first, and with it the
/// rule that drops the others'. Whether the table, which may have been there, was made anew for that.
fn forward(store: &Store, is_there: bool) -> Result<bool> {
    let is_off = |path: &str| sysctl(path).as_deref() == Some("0");
    let mut changes = Vec::new();
    if is_off(FORWARD4) {
        changes.push(Change::new(FORWARD4, "0", "1"));
    }
    if is_off(FORWARD6) && stored::with_files(store)?.iter().any(|network| network.enable_ipv6) {
        changes.push(Change::new(FORWARD6, "0", "1"));
        changes.extend(of_links()?);
    }
    if changes.is_empty() {
        return Ok(false);
    }
    let mut known = known(store)?;
    let is_first = known.is_none();
    let all = known.get_or_insert_default();
    // Of an earlier build's it is not known what there is to take back, and stays so.
    if is_first || !all.is_empty() {
        all.retain(|known| changes.iter().all(|change| change.path != known.path));
        all.extend(changes.iter().cloned());
        store::write_file(&mark(store), &serde_json::to_vec(all)?, false)?;
    }
    if is_first {
        replace(store, is_there)?;
    }
    // What must hold before forwarding does stands behind it.
    for change in changes.iter().rev() {
        change.make()?;
    }
    Ok(is_first)
}

/// What becomes of single links when all of them forward IPv6. One that forwards does not listen to routers any more,
/// unless it is told to: this host would lose its way out. One that did forward alone does so again afterwards.
fn of_links() -> Result<Vec<Change>> {
    let links = "/proc/sys/net/ipv6/conf";
    let mut changes = Vec::new();
    for link in store::read_dir(std::path::Path::new(links))? {
        let (learns, forwards) = (format!("{links}/{link}/accept_ra"), format!("{links}/{link}/forwarding"));
        if sysctl(&learns).as_deref() == Some("1") {
            changes.push(Change::new(&learns, "1", "2"));
        }
        if sysctl(&forwards).as_deref() == Some("1") {
            changes.push(Change::new(&forwards, "1", "1"));
        }
    }
    Ok(changes)
}

fn sysctl(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A setting of the kernel that was changed.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Change {
    path: String,
    before: String,
    now: String,
}

by_serde! { Change }

impl Change {
    fn new(path: &str, before: &str, now: &str) -> Change {
        Change { path: path.to_owned(), before: before.to_owned(), now: now.to_owned() }
    }

    /// Links come and go.
    fn make(&self) -> Result<()> {
        match std::fs::write(&self.path, &self.now) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            made => made.with_context(|| format!("write {}", self.path)),
        }
    }

    /// Takes it back where nobody has changed it since.
    fn take_back(&self) {
        let is_kept = self.before == self.now;
        if (is_kept || sysctl(&self.path).is_some_and(|now| now == self.now))
            && let Err(error) = std::fs::write(&self.path, &self.before)
        {
            log::debug!("write {}: {error}", self.path);
        }
    }
}

/// What this store has changed; `None` where it has not turned forwarding on. Nothing is what an earlier build wrote.
fn known(store: &Store) -> Result<Option<Vec<Change>>> {
    let path = mark(store);
    match std::fs::read(&path) {
        Ok(bytes) if bytes.is_empty() => Ok(Some(Vec::new())),
        Ok(bytes) => json::from_slice(&bytes).map(Some).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn bridges(store: &Store) -> Result<Vec<Bridge>> {
    let networks = stored::with_files(store)?;
    let ours = networks.iter().filter(|network| network.driver == stored::BRIDGE);
    Ok(ours
        .map(|network| Bridge {
            link: stored::link_name(network),
            subnets: stored::pools(network).map(|pool| pool.subnet).collect(),
            masquerade: stored::is_on(&network.options, stored::MASQUERADE, true),
            internal: network.internal,
            apart: !stored::is_on(&network.options, stored::ICC, true),
            routed: modes::families(network, Mode::Routed),
            unprotected: modes::families(network, Mode::Unprotected),
            shared: theirs::is_theirs(network).then(|| stored::pools(network).map(|pool| pool.range).collect()),
        })
        .collect())
}

/// What the table should be. The caller holds the lock.
fn state(store: &Store) -> Result<State> {
    let mappings = join::all_held(store)?;
    Ok(State {
        bridges: bridges(store)?,
        mappings: mappings.iter().flat_map(|(_, held)| by_rules(&held.ports)).map(Mapping::from).collect(),
        forwards_for_us: drops_others(store),
        fingerprint: fingerprint(store)?,
    })
}

/// Whether our table is loaded, in whatever state.
pub fn is_loaded(store: &Store) -> Result<bool> {
    Ok(nftables::is_there() && loaded(store)?.is_some())
}

/// Which state is loaded; `None` where there is no table.
fn loaded(store: &Store) -> Result<Option<String>> {
    firewall::loaded(&table(store)).context("ask nf_tables for our table")
}

/// Loads the whole state, in place of the table that is there. The caller holds the lock.
fn replace(store: &Store, is_there: bool) -> Result<()> {
    let state = state(store)?;
    firewall::replace(&table(store), &state, is_there).context("load our table into nf_tables")?;
    heirs::tell(store);
    visit(store, &state.bridges)
}

/// Has tables of other stores let through what is for containers on bridges that are no store's, and what they send. The
/// caller holds the lock.
fn visit(store: &Store, bridges: &[Bridge]) -> Result<()> {
    let shared: Vec<Bridge> = bridges.iter().filter(|bridge| bridge.shared.is_some()).cloned().collect();
    match (shared.is_empty(), visits(store).exists()) {
        (true, false) => return Ok(()),
        (false, false) => store::write_file(&visits(store), &[], false)?,
        _ => {}
    }
    let ours = table(store);
    for other in firewall::others(&ours).context("list the tables of nf_tables")? {
        firewall::visit(&other, &ours, &shared).with_context(|| format!("change the rules of table {other}"))?;
    }
    if shared.is_empty() {
        store::remove(&visits(store))?;
    }
    Ok(())
}

/// Loads it where it is not whole: somebody took it away, or a part of it. The same of our rules in tables of others.
pub fn mend(store: &Store) -> Result<()> {
    let _lock = lock(store)?;
    if !lease::any(store)? {
        return Ok(());
    }
    let (table, state, loaded) = (table(store), state(store)?, loaded(store)?);
    let is_known = loaded.as_ref() == Some(&state.fingerprint);
    if !is_known || !firewall::is_whole(&table, &state).context("read our table from nf_tables")? {
        firewall::replace(&table, &state, loaded.is_some()).context("load our table into nf_tables")?;
    }
    visit(store, &state.bridges)?;
    obstacles::mend(store)
}

/// The file whose lock the one who watches over the table holds, with its pid in it.
pub fn watch_path(store: &Store) -> PathBuf {
    store.run.join("firewall.watch")
}

/// Opens published ports, which stand among what is held already. The caller holds the lock.
pub fn open(store: &Store, ports: &[Published]) -> Result<()> {
    let mappings: Vec<Mapping> = by_rules(ports).map(Mapping::from).collect();
    if mappings.is_empty() {
        return Ok(());
    }
    // The table is gone, or a killed shim left one of the ports in it: what is on disk decides.
    if firewall::add(&table(store), &mappings).is_err() {
        replace(store, loaded(store)?.is_some())?;
    }
    forget(&mappings);
    Ok(())
}

/// Has datagrams of who sent some before go by the rules that there are now.
fn forget(mappings: &[Mapping]) {
    let udp: Vec<_> = mappings.iter().filter(|it| it.protocol == port::UDP).map(|it| it.host).collect();
    if udp.is_empty() {
        return;
    }
    // Without it they do so once they have been silent for a while.
    if let Err(error) = conntrack::forget(&udp) {
        log::debug!("forget ways of datagrams: {error}");
    }
}

/// Those that rules lead to their container, and no program.
fn by_rules(ports: &[Published]) -> impl Iterator<Item = &Published> {
    ports.iter().filter(|port| !port.served)
}

/// The published ports that are loaded.
pub fn read(store: &Store) -> Result<Option<Vec<Mapping>>> {
    firewall::read(&table(store)).context("read our table from nf_tables")
}

/// Closes them. The caller holds the lock.
pub fn close(store: &Store, ports: &[Published]) -> Result<()> {
    let mappings: Vec<Mapping> = by_rules(ports).map(Mapping::from).collect();
    if mappings.is_empty() {
        return Ok(());
    }
    let closed = firewall::remove(&table(store), &mappings).context("close published ports");
    forget(&mappings);
    closed
}

/// Takes the table away where nobody is on a network, unless somebody waits to do that.
pub fn rest(store: &Store) -> Result<()> {
    match locks::try_exclusive(&rest_path(store), 0)? {
        Some(_ours) => take_away(store).map(drop),
        None => Ok(()),
    }
}

/// Whether nobody is on a network, and nobody waits to take the table away.
pub fn may_rest(store: &Store) -> Result<bool> {
    Ok(!lease::any(store)? && locks::try_exclusive(&rest_path(store), 0)?.is_some())
}

/// The same once nobody has been on a network for a while. Whoever is the last to leave one waits, alone: a start soon
/// after finds the table, which to make anew costs the kernel as much as ten starts.
pub fn rest_later(store: &Store, pause: Duration) -> Result<()> {
    while !lease::any(store)? {
        let Some(ours) = locks::try_exclusive(&rest_path(store), 0)? else { return Ok(()) };
        std::thread::sleep(pause);
        if take_away(store)? {
            return Ok(());
        }
        // Somebody is there now: who leaves from here on finds the lock free, and who has left meanwhile is seen.
        drop(ours);
    }
    Ok(())
}

/// Whether nobody is on a network. Then the table is gone, and forwarding is as it was found, unless another store's
/// containers live by it.
fn take_away(store: &Store) -> Result<bool> {
    for attempt in 1..=ATTEMPTS {
        if let Some(is_done) = try_to_take_away(store)? {
            return Ok(is_done);
        }
        bridge::step_aside(attempt)?;
    }
    // Whoever comes next does it.
    Ok(true)
}

/// How often another store is looked at anew whose table is changed at the moment.
const ATTEMPTS: u32 = 12;

/// Nothing where another store is to be looked at anew.
fn try_to_take_away(store: &Store) -> Result<Option<bool>> {
    let _lock = lock(store)?;
    // What a killed shim left in tables of others, and what somebody took out of them unseen.
    obstacles::mend(store)?;
    if lease::any(store)? {
        return Ok(Some(false));
    }
    if !nftables::is_there() {
        return Ok(Some(true));
    }
    let ours = table(store);
    if let Some(changes) = known(store)? {
        // Without the table this host would forward for everybody.
        if changes.is_empty() {
            return Ok(Some(true));
        }
        match heirs::others(&ours)? {
            Others::Busy => return Ok(None),
            Others::Unknown => return Ok(Some(true)),
            Others::Heir(heir, _lock) => bequeath(&heir, changes)?,
            Others::Nobody(_locks) => {
                changes.iter().for_each(Change::take_back);
                crate::failpoint::reach("rest.forwards");
            }
        }
        store::remove(&mark(store))?;
        crate::failpoint::reach("rest.forgotten");
    }
    visit(store, &[])?;
    firewall::clear(&ours).context("take our table from nf_tables")?;
    Ok(Some(true))
}

/// Has the table of another store drop what ours did, and that store take back what ours has changed. The caller holds its
/// lock.
fn bequeath(heir: &Store, changes: Vec<Change>) -> Result<()> {
    let mut all = known(heir)?.unwrap_or_default();
    let is_new = |change: &Change| all.iter().all(|known| known.path != change.path);
    let new: Vec<Change> = changes.into_iter().filter(is_new).collect();
    all.extend(new);
    store::write_file(&mark(heir), &serde_json::to_vec(&all)?, false)?;
    crate::failpoint::reach("heir.marked");
    replace(heir, true)?;
    crate::failpoint::reach("heir.drops");
    Ok(())
}
