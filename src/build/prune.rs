//! The end of what the cache holds: by hand, and when it is more than it may be.

use super::cache::{self, Listed, Made};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{BuildCache, BuildPruned};
use crate::engine::filters::Filters;
use crate::engine::images::inventory::Inventory;
use crate::engine::store::{self, Lease, Store};
use crate::engine::{events, images, query};
use crate::order;
use anyhow::{Result, bail};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

/// So many contexts are remembered.
const CONTEXTS: usize = 64;
/// So many records are no reason to look.
const FEW: usize = 200;

/// `POST /build/prune`. Without `all`, what images hold too stays known.
pub fn prune(store: &Store, all: bool, keep: u64, filters: &Filters) -> Result<BuildPruned> {
    filters.accept(&["until", "unused-for", "id", "type", "inuse", "shared", "description", "private", "parent"])?;
    for key in ["inuse", "shared", "private", "parent", "type", "description"] {
        if filters.has(key) {
            bail!(Refusal::NotImplemented(format!("the filter {key} is not supported for the build cache")));
        }
    }
    let unused = match filters.get("until").iter().chain(filters.get("unused-for")).next() {
        Some(text) => Some(query::point(text)?),
        None => None,
    };
    let fits = |listed: &Listed| {
        let id = filters.get("id");
        let used = listed.used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        (id.is_empty() || id.iter().any(|id| listed.key.starts_with(id.as_str())))
            && unused.is_none_or(|until| used <= until.unix_nanos())
    };
    super::clear(store)?;
    let lease = store.lease()?;
    let pruned = evict(store, &lease, all, keep, &fits)?;
    let mut pruned = pruned;
    if all && keep == 0 && filters.get("id").is_empty() && unused.is_none() {
        for name in ["contexts", "mounts"] {
            let dir = store.root.join("build").join(name);
            for entry in store::read_dir(&dir)? {
                let path = dir.join(&entry);
                if name == "mounts" {
                    pruned.space_reclaimed += crate::fs::size::tree(&path)?;
                    pruned.caches_deleted.get_or_insert_default().push(entry.clone());
                }
                store::remove(&path)?;
            }
        }
    }
    events::other(store, "builder", "prune", "", &[("reclaimed", &pruned.space_reclaimed.to_string())]);
    Ok(pruned)
}

/// Takes records away until no more than `keep` bytes are held by the cache alone.
fn evict(store: &Store, lease: &Lease, all: bool, keep: u64, fits: &dyn Fn(&Listed) -> bool) -> Result<BuildPruned> {
    let mut pruned = BuildPruned::default();
    let mut work = |inventory: &mut Inventory| -> Result<()> {
        let records = cache::all(store)?;
        let layers = || records.iter().filter_map(|it| it.record.layer.as_ref());
        let of_images: HashSet<&str> =
            inventory.images.iter().flat_map(|image| &image.layers).map(|layer| layer.id.as_str()).collect();
        let shared: HashSet<&str> = layers().filter(|it| of_images.contains(it.id.as_str())).map(Made::room).collect();
        drop(of_images);
        let is_shared = |made: &Made| shared.contains(made.room());
        // What the cache holds alone, and under which names.
        let mut rooms: HashMap<&str, HashSet<&str>> = HashMap::new();
        let mut held = 0;
        for made in layers().filter(|made| !is_shared(made)) {
            let names = rooms.entry(made.room()).or_default();
            held += if names.is_empty() { made.size } else { 0 };
            names.insert(&made.id);
        }
        for listed in &records {
            if keep > 0 && held <= keep {
                break;
            }
            if !fits(listed) || !all && listed.record.layer.as_ref().is_some_and(is_shared) {
                continue;
            }
            cache::remove(store, &listed.key)?;
            if let Some(made) = &listed.record.layer
                && inventory.let_go(&made.id)
                && let Some(names) = rooms.get_mut(made.room())
                && names.remove(made.id.as_str())
                && names.is_empty()
            {
                held = held.saturating_sub(made.size);
                pruned.space_reclaimed += made.size;
            }
            pruned.caches_deleted.get_or_insert_default().push(listed.key.clone());
        }
        Ok(())
    };
    images::locked(store, lease, &mut work)?;
    Ok(pruned)
}

/// Keeps the cache at its size, in bytes; after a build. The longest unused goes first.
pub fn limit(store: &Store, lease: &Lease, largest: Option<u64>) -> Result<()> {
    forget_contexts(store)?;
    let Some(largest) = largest else { return Ok(()) };
    let records = cache::all(store)?;
    let mut seen = HashSet::new();
    let layers = records.iter().filter_map(|it| it.record.layer.as_ref()).filter(|made| seen.insert(made.room()));
    let held: u64 = layers.map(|made| made.size).sum();
    if held <= largest && records.len() <= FEW * 50 {
        return Ok(());
    }
    let lately = SystemTime::now() - Duration::from_secs(60);
    evict(store, lease, true, largest, &|listed| listed.used < lately).map(drop)
}

/// Digests of the files of contexts are kept for those that were built last.
fn forget_contexts(store: &Store) -> Result<()> {
    let dir = store.root.join("build/contexts");
    let mut all = Vec::new();
    for name in store::read_dir(&dir)? {
        let path = dir.join(name);
        if let Ok(used) = std::fs::metadata(&path).and_then(|it| it.modified()) {
            all.push((used, path));
        }
    }
    order::sort(&mut all);
    let spare = all.len().saturating_sub(CONTEXTS);
    all.into_iter().take(spare).try_for_each(|(_, path)| store::remove(&path))
}

fn time(time: SystemTime) -> String {
    Time::from_unix_nanos(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128))
        .to_string()
}

/// What `system df` tells of the cache.
pub fn usage(store: &Store) -> Result<Vec<BuildCache>> {
    let of_images: HashSet<String> =
        images::all(store)?.into_iter().flat_map(|image| image.layers).map(|layer| layer.id).collect();
    let leased: HashSet<String> = store.leased()?.into_iter().collect();
    let mut all: Vec<BuildCache> = Vec::new();
    let mut rooms: HashMap<String, usize> = HashMap::new();
    for Listed { key, record, used } in cache::all(store)? {
        let Some(made) = record.layer else { continue };
        let at = *rooms.entry(made.room().to_owned()).or_insert_with(|| {
            all.push(BuildCache {
                id: key,
                r#type: "regular".to_owned(),
                description: record.what,
                created_at: Time::from_unix_nanos(i128::from(record.made) * 1_000_000_000).to_string(),
                size: i64::try_from(made.size).unwrap_or(i64::MAX),
                ..BuildCache::default()
            });
            all.len() - 1
        });
        let one = &mut all[at];
        one.last_used_at = Some(time(used));
        one.in_use |= leased.contains(&format!("layer:{}", made.id));
        one.shared |= of_images.contains(&made.id);
    }
    let mounts = store.root.join("build/mounts");
    for id in store::read_dir(&mounts)? {
        let dir = mounts.join(&id);
        // Whoever removes it meanwhile, there is nothing to tell of it.
        let Ok(changed) = std::fs::metadata(&dir).and_then(|it| it.modified()) else { continue };
        all.push(BuildCache {
            r#type: "exec.cachemount".to_owned(),
            size: i64::try_from(crate::fs::size::tree(&dir)?).unwrap_or(i64::MAX),
            created_at: time(changed),
            last_used_at: Some(time(changed)),
            id,
            ..BuildCache::default()
        });
    }
    Ok(all)
}
