//! What is asked of images: lists, inspect, history.

use super::super::filters::Filters;
use super::super::record::{self, Record};
use super::super::store::Store;
use super::{Image, all, find, glob, load, references};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{
    GraphDriver, HistoryItem, ImageConfig, ImageInspect, ImageMetadata, ImageSummary, NEVER, RootFs,
};
use crate::json;
use crate::oci::{Digest, Reference};
use crate::order;
use crate::order::Map;
use anyhow::{Result, bail};
use std::collections::{HashMap, HashSet};

/// `GET /images/json`. Filters: before, dangling, label, reference, since, until. `shared_size` has the bytes counted
/// that an image shares with others.
pub fn list(store: &Store, intermediate: bool, shared_size: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
    filters.accept(&["before", "dangling", "label", "reference", "since", "until"])?;
    let dangling = filters.flag("dangling")?;
    let window = Window::of(store, filters)?;
    let images = all(store)?;
    let names = by_image(store)?;
    let parents: HashSet<&Digest> = images.iter().filter_map(|image| image.parent.as_ref()).collect();
    let containers = containers(store)?;
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for layer in images.iter().flat_map(|image| &image.layers) {
        *uses.entry(&layer.id).or_default() += 1;
    }

    let mut list = Vec::new();
    for image in &images {
        if !window.has(image) || !filters.labels(image.config.config.labels.as_ref().unwrap_or(&Map::new())) {
            continue;
        }
        let names = names.get(&image.id).map_or(&[][..], Vec::as_slice);
        let (repo_tags, repo_digests) = familiar(&wanted(names, filters.get("reference"))?);
        let named = !repo_tags.is_empty() || !repo_digests.is_empty();
        let has_children = parents.contains(&image.id);
        let left_out = match dangling {
            Some(true) => has_children || !repo_tags.is_empty(),
            Some(false) => !named,
            None => !named && has_children && !intermediate,
        };
        if left_out || !named && filters.has("reference") {
            continue;
        }
        let shared = || image.layers.iter().filter(|layer| uses.get(&*layer.id).is_some_and(|uses| *uses > 1));
        list.push(ImageSummary {
            containers: containers.get(&image.id.to_string()).copied().unwrap_or(0),
            created: created(image).map_or(0, |time| time.seconds),
            id: image.id.to_string(),
            labels: image.config.config.labels.clone(),
            parent_id: image.parent.as_ref().map(Digest::to_string).unwrap_or_default(),
            repo_digests,
            repo_tags,
            shared_size: if shared_size { shared().map(|layer| layer.size as i64).sum() } else { -1 },
            size: image.size as i64,
            virtual_size: None,
        });
    }
    order::by(&mut list, |a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    Ok(list)
}

/// When an image was made, as its config says.
pub(super) fn created(image: &Image) -> Option<Time> {
    image.config.created.as_deref().and_then(Time::parse)
}

/// The times between which images are wanted, ends excluded.
struct Window {
    after: Option<Time>,
    before: Option<Time>,
}

impl Window {
    fn of(store: &Store, filters: &Filters) -> Result<Window> {
        let times = |key: &str| -> Result<Vec<Option<Time>>> {
            filters.get(key).iter().map(|name| Ok(created(&find(store, name)?))).collect()
        };
        let until = filters.get("until").iter().map(|text| Ok(Some(until(text)?))).collect::<Result<Vec<_>>>()?;
        Ok(Window {
            after: times("since")?.into_iter().flatten().max(),
            before: times("before")?.into_iter().chain(until).flatten().min(),
        })
    }

    fn has(&self, image: &Image) -> bool {
        let created = created(image);
        let later = self.after.is_none_or(|after| created.is_some_and(|created| created > after));
        later && self.before.is_none_or(|before| created.is_some_and(|created| created < before))
    }
}

/// Reads the value of an `until` filter: a time, or how long ago.
pub(super) fn until(text: &str) -> Result<Time> {
    let time = Time::parse_ago(text, Time::now());
    time.ok_or_else(|| Refusal::BadParameter(format!("invalid value for 'until' filter: {text:?} is no time")).into())
}

/// The names of each image, sorted.
pub(super) fn by_image(store: &Store) -> Result<HashMap<Digest, Vec<Reference>>> {
    let mut names: HashMap<Digest, Vec<Reference>> = HashMap::new();
    for (reference, id) in references::all(store)? {
        names.entry(id).or_default().push(reference);
    }
    Ok(names)
}

/// The names that match one of the patterns; all where there is none.
fn wanted(names: &[Reference], patterns: &[String]) -> Result<Vec<Reference>> {
    let mut wanted = Vec::new();
    for name in names {
        let mut matched = patterns.is_empty();
        for pattern in patterns {
            match (glob::matches(pattern, &name.familiar()), glob::matches(pattern, &name.familiar_name())) {
                (Some(whole), Some(repository)) => matched |= whole || repository,
                _ => bail!(Refusal::BadParameter(format!(
                    "invalid filter 'reference={pattern}': syntax error in pattern"
                ))),
            }
        }
        if matched {
            wanted.push(name.clone());
        }
    }
    Ok(wanted)
}

/// Tags and digests, as users see them.
fn familiar(names: &[Reference]) -> (Vec<String>, Vec<String>) {
    let (digests, tags): (Vec<&Reference>, Vec<&Reference>) = names.iter().partition(|name| name.digest.is_some());
    let spell = |names: Vec<&Reference>| names.into_iter().map(Reference::familiar).collect();
    (spell(tags), spell(digests))
}

/// How many containers each image has, by id.
fn containers(store: &Store) -> Result<HashMap<String, i64>> {
    let mut count = HashMap::new();
    for id in record::ids(store)? {
        // A record that cannot be read is for the verbs on containers to complain of.
        if let Ok(Some(record)) = Record::load(store, &id) {
            *count.entry(record.image).or_default() += 1;
        }
    }
    Ok(count)
}

/// `GET /images/{name}/json`.
pub fn inspect(store: &Store, name: &str) -> Result<ImageInspect> {
    let image = find(store, name)?;
    let names = by_image(store)?.remove(&image.id).unwrap_or_default();
    let (repo_tags, repo_digests) = familiar(&names);
    let config = image.container_config();
    let nothing = |set: Map<String, Option<_>>| {
        Map::from_iter(set.into_iter().map(|(key, value)| (key, value.unwrap_or_default())))
    };
    Ok(ImageInspect {
        id: image.id.to_string(),
        repo_tags,
        repo_digests,
        parent: image.parent.as_ref().map(Digest::to_string).unwrap_or_default(),
        comment: image.config.comment.clone(),
        created: created(&image).map(|time| time.to_string()).unwrap_or_default(),
        // A config that is none says nothing.
        container_config: image.config.container_config.clone().and_then(|it| json::from_value(it).ok()),
        docker_version: String::new(),
        author: image.config.author.clone(),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone(),
        os: image.config.os.clone(),
        os_version: image.config.os_version.clone(),
        size: image.size as i64,
        virtual_size: None,
        graph_driver: graph_driver(store, &image.layer_ids()),
        root_fs: RootFs {
            r#type: "layers".to_owned(),
            layers: Some(image.layers.iter().map(|layer| layer.diff_id.to_string()).collect()),
        },
        metadata: ImageMetadata { last_tag_time: image.last_tag_time.clone().unwrap_or_else(|| NEVER.to_owned()) },
        config: ImageConfig {
            args_escaped: config.args_escaped,
            cmd: config.cmd,
            entrypoint: config.entrypoint,
            env: config.env.filter(|env| !env.is_empty()),
            exposed_ports: config.exposed_ports.map(nothing),
            healthcheck: config.healthcheck,
            labels: config.labels,
            on_build: config.on_build,
            shell: config.shell,
            stop_signal: config.stop_signal,
            user: config.user,
            volumes: config.volumes.map(nothing),
            working_dir: config.working_dir,
            of_container: None,
        },
    })
}

/// Where the files are, in the words of Docker's overlay2: those who look into layers read these.
fn graph_driver(store: &Store, layers: &[String]) -> GraphDriver {
    let mut dirs = layers.iter().map(|id| store.layer(id).join("fs").display().to_string());
    let mut data = Map::new();
    if let (Some(top), Some(id)) = (dirs.next(), layers.first()) {
        data.insert("UpperDir".to_owned(), top);
        // As with Docker, these two are there only while something is mounted in this place, which is never.
        for (key, name) in [("MergedDir", "merged"), ("WorkDir", "work")] {
            data.insert(key.to_owned(), store.layer(id).join(name).display().to_string());
        }
    }
    let lower = dirs.collect::<Vec<_>>().join(":");
    if !lower.is_empty() {
        data.insert("LowerDir".to_owned(), lower);
    }
    GraphDriver { data: Some(data), name: "overlay2".to_owned() }
}

/// `GET /images/{name}/history`, newest first.
pub fn history(store: &Store, name: &str) -> Result<Vec<HistoryItem>> {
    let image = find(store, name)?;
    let mut layers = image.layers.iter();
    let mut items = Vec::new();
    for step in &image.config.history {
        let layer = if step.empty_layer { None } else { layers.next() };
        if !step.empty_layer && layer.is_none() {
            bail!("the history of {name} has more steps that made a layer than it has layers");
        }
        items.push(HistoryItem {
            comment: step.comment.clone(),
            created: step.created.as_deref().and_then(Time::parse).map_or(0, |time| time.seconds),
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size: layer.map_or(0, |layer| layer.size as i64),
            tags: None,
        });
    }
    items.reverse();

    // The last step made the image; steps before it made its parents, where those are here.
    let names = by_image(store)?;
    let mut made = Some(image);
    for item in &mut items {
        let Some(image) = made else { break };
        item.id = image.id.to_string();
        item.tags = names.get(&image.id).map(|names| familiar(names).0).filter(|tags| !tags.is_empty());
        made = match &image.parent {
            Some(parent) => load(store, parent.hex())?,
            None => None,
        };
    }
    Ok(items)
}
