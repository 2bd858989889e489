//! `GET /system/df`: what the store holds, and how much of it something needs.

use super::filters::Filters;
use super::store::Store;
use super::{images, packed, query, volumes};
use crate::api::Refusal;
use crate::api::types::DiskUsage;
use anyhow::{Result, bail};
use std::collections::HashMap;

/// The kinds that are asked for; all where none is named.
pub fn usage(store: &Store, kinds: &[&str]) -> Result<DiskUsage> {
    if let Some(kind) = kinds.iter().find(|kind| !matches!(**kind, "container" | "image" | "volume" | "build-cache")) {
        bail!(Refusal::BadParameter(format!("unknown object type: {kind}")));
    }
    let wants = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    let mut usage = DiskUsage::default();
    if wants("image") {
        let layers: HashMap<String, u64> = images::all(store)?
            .into_iter()
            .flat_map(|image| image.layers)
            .map(|layer| {
                let size = layer.size.saturating_add(packed::kept_size(store, &layer.id));
                (layer.id, size)
            })
            .collect();
        usage.layers_size = layers.values().sum::<u64>() as i64;
        usage.images = Some(images::list(store, false, true, &Filters::default())?);
    }
    if wants("container") {
        let all = query::Query { all: true, size: true, ..query::Query::default() };
        usage.containers = Some(query::list(store, &all)?);
    }
    if wants("volume") {
        usage.volumes = Some(volumes::usage(store)?);
    }
    if wants("build-cache") {
        usage.build_cache = Some(crate::build::prune::usage(store)?);
    }
    Ok(usage)
}
