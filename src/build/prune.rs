//! The end of what the cache holds: by hand, and when it is more than it may be.

use super::cache::{self, Listed, Made};
use super::caches::{self, Cache};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{BuildCache, BuildPruned};
use crate::engine::filters::Filters;
use crate::engine::images::inventory::Inventory;
use crate::engine::store::{self, Lease, Store};
use crate::engine::{events, images, query};
use crate::order;
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

/// So many contexts are remembered.
const CONTEXTS: usize = 64;
/// So many records are no reason to look.
const FEW: usize = 200;

/// How much of the cache stays, in bytes; 0 for what nobody asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// What it may always have.
    pub reserved: u64,
    /// What it may have at most.
    pub most: u64,
    /// What is to be free on its file system.
    pub free: u64,
}

impl Bounds {
    /// What stays of `held` bytes where `free` are left on the file system; `None` where nobody asked that anything does.
    fn keep(&self, held: u64, free: u64) -> Option<u64> {
        let missing = self.free.saturating_sub(free);
        let keep = match (missing, self.most) {
            _ if *self == Bounds::default() => return None,
            (0, 0) if self.free > 0 => held,
            (0, most) => most,
            (_, 0) => held.saturating_sub(missing),
            (_, most) => most.min(held.saturating_sub(missing)),
        };
        Some(keep.max(self.reserved))
    }
}

/// `POST /build/prune`. Without `all`, what images hold too stays known.
pub fn prune(store: &Store, all: bool, bounds: Bounds, filters: &Filters) -> Result<BuildPruned> {
    filters.accept(&["until", "unused-for", "id", "type", "inuse", "shared", "description", "private", "parent"])?;
    let wrong = |text: &str| -> anyhow::Error { Refusal::BadParameter(text.to_owned()).into() };
    if filters.has("until") && filters.has("unused-for") {
        return Err(wrong("conflicting filters: \"until\" and \"unused-for\""));
    }
    if ["until", "unused-for", "id", "type", "description", "inuse", "shared", "private", "parent"]
        .iter()
        .any(|key| filters.get(key).len() > 1)
    {
        return Err(wrong("filters expect only one value"));
    }
    let unused = match filters.get("until").iter().chain(filters.get("unused-for")).next() {
        Some(text) => Some(query::point(text)?),
        None => None,
    };
    let shared = switch(filters, "shared")?;
    let private = switch(filters, "private")?;
    // What is in use is never pruned, and nothing here has a parent.
    let none = switch(filters, "inuse")? == Some(true) || filters.has("parent");
    let fits = |one: &Candidate| {
        let used = one.used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        !none
            && filters.matches("id", one.id)
            && filters.is("type", one.kind)
            && filters.is("description", one.description)
            && shared.is_none_or(|wanted| one.shared == wanted)
            && private.is_none_or(|wanted| one.shared != wanted)
            && unused.is_none_or(|until| used <= until.unix_nanos())
    };
    super::clear(store)?;
    let lease = store.lease()?;
    let pruned = evict(store, &lease, all, bounds, &fits)?;
    if all && bounds == Bounds::default() && *filters == Filters::default() {
        let dir = store.root.join("build/contexts");
        store::read_dir(&dir)?.iter().try_for_each(|entry| store::remove(&dir.join(entry)))?;
    }
    events::other(store, "builder", "prune", "", &[("reclaimed", &pruned.space_reclaimed.to_string())]);
    Ok(pruned)
}

/// A filter that need not have a value: its key alone says yes.
fn switch(filters: &Filters, key: &str) -> Result<Option<bool>> {
    if filters.has(key) && filters.get(key).is_empty() { Ok(Some(true)) } else { filters.flag(key) }
}

/// The type of a record, and that of a cache for commands.
const REGULAR: &str = "regular";
const MOUNT: &str = "exec.cachemount";

/// What may go.
struct Candidate<'a> {
    id: &'a str,
    kind: &'static str,
    description: &'a str,
    used: SystemTime,
    /// An image has it, too.
    shared: bool,
    what: What<'a>,
}

enum What<'a> {
    Record(&'a Listed),
    Mount(&'a Cache),
}

/// All that is not in use, the longest unused first. `leased` is what leases name, `shared` tells what images have.
fn candidates<'a>(
    records: &'a [Listed],
    mounts: &'a [Cache],
    leased: &[String],
    shared: impl Fn(&Made) -> bool,
) -> Vec<Candidate<'a>> {
    let record = |it: &'a Listed| Candidate {
        id: &it.key,
        kind: REGULAR,
        description: &it.record.what,
        used: it.used,
        shared: it.record.layer.as_ref().is_some_and(&shared),
        what: What::Record(it),
    };
    let mount = |it: &'a Cache| Candidate {
        id: &it.name,
        kind: MOUNT,
        description: &it.description,
        used: it.used,
        shared: false,
        what: What::Mount(it),
    };
    let mounts = mounts.iter().filter(|it| !leased.contains(&caches::word(&it.name)));
    let mut all: Vec<Candidate> = records.iter().map(record).chain(mounts.map(mount)).collect();
    order::by(&mut all, |a, b| (a.used, a.id).cmp(&(b.used, b.id)));
    all
}

/// Takes away what fits until the cache alone holds no more than its bounds let it.
fn evict(
    store: &Store,
    lease: &Lease,
    all: bool,
    bounds: Bounds,
    fits: &dyn Fn(&Candidate) -> bool,
) -> Result<BuildPruned> {
    let mut pruned = BuildPruned::default();
    // Which takes its time, and nobody is to wait for it.
    let mounts = caches::all(store)?;
    let mut work = |inventory: &mut Inventory| -> Result<()> {
        let (records, leased) = (cache::all(store)?, store.leased()?);
        let layers = || records.iter().filter_map(|it| it.record.layer.as_ref());
        let of_images: HashSet<&str> =
            inventory.images.iter().flat_map(|image| &image.layers).map(|layer| layer.id.as_str()).collect();
        let shared: HashSet<&str> = layers().filter(|it| of_images.contains(it.id.as_str())).map(Made::room).collect();
        drop(of_images);
        let is_shared = |made: &Made| shared.contains(made.room());
        // What the cache holds alone, and under which names.
        let mut rooms: HashMap<&str, HashSet<&str>> = HashMap::new();
        let mut held: u64 = mounts.iter().map(|it| it.size).sum();
        for made in layers().filter(|made| !is_shared(made)) {
            let names = rooms.entry(made.room()).or_default();
            held += if names.is_empty() { made.size } else { 0 };
            names.insert(&made.id);
        }
        let free = if bounds.free > 0 { store.free()? } else { 0 };
        let keep = bounds.keep(held, free);
        for one in candidates(&records, &mounts, &leased, is_shared).iter().filter(|one| fits(one)) {
            if keep.is_some_and(|keep| held <= keep) {
                break;
            }
            let freed = match one.what {
                What::Record(_) if !all && one.shared => continue,
                What::Record(it) => {
                    cache::remove(store, &it.key)?;
                    let made = it.record.layer.as_ref().filter(|made| inventory.let_go(&made.id));
                    let last = |made: &&Made| {
                        rooms.get_mut(made.room()).is_some_and(|names| names.remove(&*made.id) && names.is_empty())
                    };
                    made.filter(last).map_or(0, |made| made.size)
                }
                What::Mount(it) if !caches::remove(store, lease, &it.name)? => continue,
                What::Mount(it) => it.size,
            };
            held = held.saturating_sub(freed);
            pruned.space_reclaimed += freed;
            pruned.caches_deleted.get_or_insert_default().push(one.id.to_owned());
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
    let mounts = if is_time_to_measure(store) { caches::all(store)? } else { Vec::new() };
    let held = layers.map(|made| made.size).chain(mounts.iter().map(|it| it.size)).sum::<u64>();
    if held <= largest && records.len() <= FEW * 50 {
        return Ok(());
    }
    let lately = SystemTime::now() - Duration::from_secs(60);
    let bounds = Bounds { most: largest, ..Bounds::default() };
    evict(store, lease, true, bounds, &|one| one.used < lately).map(drop)
}

/// Caches of commands may have a great many files, and are looked at once an hour, or when the rest is too much.
fn is_time_to_measure(store: &Store) -> bool {
    let note = store.run.join("caches.measured");
    let before = std::fs::metadata(&note).and_then(|note| note.modified()).ok();
    let is_time = before.and_then(|time| time.elapsed().ok()).is_none_or(|since| since > Duration::from_secs(3600));
    if is_time {
        let _ = std::fs::write(&note, "");
    }
    is_time
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
                r#type: REGULAR.to_owned(),
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
    all.extend(caches::all(store)?.into_iter().map(|it| BuildCache {
        r#type: MOUNT.to_owned(),
        size: i64::try_from(it.size).unwrap_or(i64::MAX),
        created_at: time(it.made),
        last_used_at: Some(time(it.used)),
        id: it.name,
        description: it.description,
        in_use: it.in_use,
        ..BuildCache::default()
    }));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_reckoned_as_buildkit_does() {
        // reserved, most, wanted free; held, free: what stays.
        for (bounds, held, free, expected) in [
            ((0, 0, 0), 100, 10, None),
            ((30, 0, 0), 100, 10, Some(30)),
            ((0, 40, 0), 100, 10, Some(40)),
            ((50, 40, 0), 100, 10, Some(50)),
            // Enough is free.
            ((0, 0, 10), 100, 10, Some(100)),
            ((0, 40, 10), 100, 10, Some(40)),
            // 20 are missing.
            ((0, 0, 30), 100, 10, Some(80)),
            ((0, 90, 30), 100, 10, Some(80)),
            ((0, 40, 30), 100, 10, Some(40)),
            ((85, 90, 30), 100, 10, Some(85)),
            ((0, 0, 300), 100, 10, Some(0)),
            ((20, 0, 300), 100, 10, Some(20)),
        ] {
            let (reserved, most, wanted) = bounds;
            let keep = Bounds { reserved, most, free: wanted }.keep(held, free);
            assert_eq!(keep, expected, "{bounds:?} of {held}, {free} free");
        }
    }
}
