//! Other stores of this host, as their tables tell of them. When the last container of a store leaves that turned
//! forwarding on, its table goes at once; where another store's containers live by the forwarding, that one is the heir of
//! what keeps others from being forwarded, and of how to take it back.

use super::super::locks::{self, Lock};
use super::super::store::Store;
use super::{firewall, lease};
use crate::net;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Longer comments are not for every nft to read back.
const MOST: usize = 127;

/// What a table says of its store behind what it says of its state: ` ROOT RUN`. Nothing where that could not be read back.
pub fn told(store: &Store) -> String {
    let path =
        |path: &Path| path.to_str().filter(|text| text.starts_with('/') && !text.contains(" /")).map(str::to_owned);
    match (path(&store.root), path(&store.run)) {
        (Some(root), Some(run)) => format!(" {root} {run}"),
        _ => String::new(),
    }
}

/// A state with its store, as the comment of a table.
pub fn comment(state: &str, store: &Store) -> String {
    let whole = format!("{state}{}", told(store));
    if whole.len() > MOST { state.to_owned() } else { whole }
}

/// The store that a comment tells of.
fn store_of(comment: &str) -> Option<Store> {
    let mut paths = comment.split(" /").skip(1).map(|path| PathBuf::from(format!("/{path}")));
    let (root, run) = (paths.next()?, paths.next()?);
    Some(Store { root, run }).filter(|_| paths.next().is_none())
}

/// Who else is on this host.
pub enum Others {
    /// No store that has containers; none gets any while the locks are held.
    Nobody(Vec<Lock>),
    /// One that has, with the lock of its table.
    Heir(Store, Lock),
    /// Tables that do not tell whose they are, or not to us.
    Unknown,
    /// Somebody changes one of them just now.
    Busy,
}

/// Looks at the tables of other stores than the one of this table.
pub fn others(table: &str) -> Result<Others> {
    let (mut quiet, mut is_unknown) = (Vec::new(), false);
    for other in net::firewall::others(table).context("list the tables of nf_tables")? {
        let comment = net::firewall::loaded(&other).context("ask nf_tables for a table")?;
        let store = comment.as_deref().and_then(store_of);
        let Some(store) = store.filter(|store| store.is_there() && firewall::table(store) == other) else {
            is_unknown |= comment.is_some();
            continue;
        };
        // Never waited for: it may wait for ours.
        let Some(lock) = locks::try_exclusive(&firewall::lock_path(&store), 0)? else { return Ok(Others::Busy) };
        if lease::any(&store)? && net::firewall::loaded(&other)?.is_some() {
            return Ok(Others::Heir(store, lock));
        }
        quiet.push(lock);
    }
    Ok(if is_unknown { Others::Unknown } else { Others::Nobody(quiet) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_whose_it_is() {
        let store = |root: &str, run: &str| Store { root: root.into(), run: run.into() };
        let long = format!("/{}", "x".repeat(100));
        for (root, run, told) in [
            ("/var/lib/dhow", "/run/dhow", true),
            ("/a b/c", "/run/d e", true),
            ("/a /b", "/run/dhow", false),
            ("relative", "/run/dhow", false),
            (&long, "/run/dhow", false),
        ] {
            let comment = comment("dhow 0123456789abcdef", &store(root, run));
            let found = store_of(&comment).map(|store| (store.root, store.run));
            assert_eq!(found, told.then(|| (root.into(), run.into())), "{comment}");
        }
        for rubbish in ["", "dhow 0123456789abcdef", "somebody's /a /b /c", " /a"] {
            assert!(store_of(rubbish).is_none(), "{rubbish}");
        }
    }
}
