//! Addresses that containers hold: one symbolic link an address, `run/networks/<network>/<address>` → the container,
//! gone with the boot. The kernel makes a name once only, so no address is given twice, whoever asks at the same time
//! and wherever somebody was killed. One whose owner's shim does not live is free.
//!
//! The next address is the one after the last, round and round: what was just given back has its old owner's
//! namespace dying behind it, and neighbours remember it.

use super::super::record;
use super::super::store::{self, Store};
use super::stored::{self, Pool};
use crate::api::Refusal;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Where the last address that was given stands; the point keeps it from being one.
fn last_name(pool: &Pool) -> &'static str {
    if pool.subnet.is_ipv4() { ".last" } else { ".last6" }
}

/// Gives an address of a pool to a container: the one that is `wanted`, or the next that is free. The caller holds the
/// lock of networks.
pub fn take(store: &Store, network: &str, pool: &Pool, container: &str, wanted: Option<IpAddr>) -> Result<IpAddr> {
    let dir = stored::live(store, network);
    store::make_dirs(&dir, 0o700)?;
    if let Some(address) = wanted {
        if pool.reserved.contains(&address) || !claim(store, &dir, address, container, true)? {
            bail!(Refusal::Forbidden(format!("Address already in use: {address}")));
        }
        return Ok(address);
    }
    let last = dir.join(last_name(pool));
    let before = std::fs::read_link(&last).ok().and_then(|text| text.to_str()?.parse::<IpAddr>().ok());
    let start = before.filter(|address| pool.range.contains(*address));
    // Twice: only where none is free is it asked who of the owners lives.
    for ask in [false, true] {
        let mut address = start;
        loop {
            let candidate = address.and_then(|address| pool.range.next(address)).unwrap_or(pool.range.first);
            if pool.subnet.is_host(candidate)
                && !pool.reserved.contains(&candidate)
                && claim(store, &dir, candidate, container, ask)?
            {
                let _ = std::fs::remove_file(&last);
                symlink(candidate.to_string(), &last).with_context(|| format!("write {}", last.display()))?;
                return Ok(candidate);
            }
            if candidate == start.unwrap_or(pool.range.last()) {
                break;
            }
            address = Some(candidate);
        }
    }
    bail!(
        "no available IPv{} addresses on this network's address pools: {}",
        if pool.subnet.is_ipv4() { 4 } else { 6 },
        pool.subnet
    )
}

/// The address that would be given next, by what is given already; where none is free, another owner may have to go first.
pub fn next(store: &Store, network: &str, pool: &Pool) -> Option<IpAddr> {
    let dir = stored::live(store, network);
    let before = std::fs::read_link(dir.join(last_name(pool))).ok().and_then(|text| text.to_str()?.parse().ok());
    let start = before.filter(|address| pool.range.contains(*address));
    let mut candidate = start.and_then(|address| pool.range.next(address)).unwrap_or(pool.range.first);
    loop {
        let is_free = || std::fs::symlink_metadata(dir.join(candidate.to_string())).is_err();
        if pool.subnet.is_host(candidate) && !pool.reserved.contains(&candidate) && is_free() {
            return Some(candidate);
        }
        if candidate == start.unwrap_or(pool.range.last()) {
            return None;
        }
        candidate = pool.range.next(candidate).unwrap_or(pool.range.first);
    }
}

/// Whether the address is the container's now. With `ask`, one of an owner that does not live is taken over.
fn claim(store: &Store, dir: &Path, address: IpAddr, container: &str, ask: bool) -> Result<bool> {
    let path = dir.join(address.to_string());
    loop {
        match symlink(container, &path) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && ask => match owner(&path) {
                Some(owner) if owner == container => return Ok(true),
                Some(owner) if lives(store, &owner)? => return Ok(false),
                Some(owner) => {
                    super::leave(store, &owner)?;
                    give(&path)?;
                }
                None => {}
            },
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("take the address {address}")),
        }
    }
}

fn owner(path: &Path) -> Option<String> {
    std::fs::read_link(path).ok()?.into_os_string().into_string().ok()
}

fn lives(store: &Store, container: &str) -> Result<bool> {
    Ok(record::held(store, container)?.shim)
}

fn give(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("give back {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives a container's address back.
pub fn release(store: &Store, network: &str, address: IpAddr, container: &str) -> Result<()> {
    let path = stored::live(store, network).join(address.to_string());
    match owner(&path) {
        Some(owner) if owner == container => give(&path),
        _ => Ok(()),
    }
}

/// Whether any container holds an address of any network.
pub fn any(store: &Store) -> Result<bool> {
    for network in store::read_dir(&store.run.join("networks"))? {
        if !store::read_dir(&stored::live(store, &network))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those who hold addresses of a network, with the addresses.
pub fn holders(store: &Store, network: &str) -> Result<Vec<(String, String)>> {
    let dir = stored::live(store, network);
    let names = store::read_dir(&dir)?;
    Ok(names.into_iter().filter_map(|name| Some((owner(&dir.join(&name))?, name))).collect())
}

/// Frees what containers hold whose shims do not live.
pub fn sweep(store: &Store) -> Result<()> {
    for network in store::read_dir(&store.run.join("networks"))? {
        for (container, address) in holders(store, &network)? {
            if !lives(store, &container)? {
                super::leave(store, &container)?;
                give(&stored::live(store, &network).join(address))?;
            }
        }
    }
    Ok(())
}
