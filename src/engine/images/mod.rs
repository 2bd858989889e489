//! Images in the store: a record for each, `images/<hex of the config's digest>.json`, that says all that a container
//! made of it needs; its config and manifests as they came, in blobs/; and names in refs/.

mod changes;
mod commit;
mod glob;
mod import;
pub mod inventory;
mod list;
mod load;
pub mod references;
mod remove;
mod save;
mod tag;

pub use commit::{Commit, commit};
pub use import::{Import, Source, import};
pub use list::{history, inspect, list};
pub use load::{Layout, Load, layers_of, load as load_archive};
pub use remove::{locked, prune, remove};
pub use save::Save;
pub use tag::{give, name, tag};

use super::layers;
use super::store::{self, Lease, Store};
use crate::api::Refusal;
use crate::api::types::{ContainerConfig, Healthcheck, Nothing};
use crate::failpoint;
use crate::json::{self, by_serde};
use crate::oci::digest::Algorithm;
use crate::oci::image::{Descriptor, Empty, ImageConfig, Manifest, chain_ids};
use crate::oci::{Digest, Platform, Reference, platform};
use crate::order::Map;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::PathBuf;

/// The version of record that this program writes; a newer one is refused by name.
const VERSION: u32 = 1;

/// An image's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    version: u32,
    /// The digest of its config.
    pub id: Digest,
    /// The image that this one was made from here; none for one that came from elsewhere.
    #[serde(default)]
    pub parent: Option<Digest>,
    /// As its manifests came; none for an image that was made here. Their bytes are in blobs/.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// Lowest first.
    pub layers: Vec<LayerOf>,
    /// Bytes of the files of all layers.
    pub size: u64,
    pub platform: Platform,
    /// When a name was last given to it by hand, RFC 3339.
    #[serde(default)]
    pub last_tag_time: Option<String>,
    pub config: ImageConfig,
}

by_serde! { Image }

/// A layer as an image has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerOf {
    /// Its directory under layers/.
    pub id: String,
    pub diff_id: Digest,
    pub chain_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// It hides all layers below it.
    #[serde(default)]
    pub opaque: bool,
    /// As it was packed in the first manifest that brought the image.
    #[serde(default)]
    pub packed: Option<Descriptor>,
}

impl Image {
    /// 64 hex digits: the name of its record, and of its config in blobs/.
    pub fn hex(&self) -> &str {
        self.id.hex()
    }

    /// Directories under layers/, top first, as an overlay takes them: down to one that hides all below it.
    pub fn layer_ids(&self) -> Vec<String> {
        let bottom = self.layers.iter().rposition(|layer| layer.opaque).unwrap_or(0);
        self.layers[bottom..].iter().rev().map(|layer| layer.id.clone()).collect()
    }

    /// What the image says of containers made from it, as a container's config.
    pub fn container_config(&self) -> ContainerConfig {
        let run = self.config.config.clone();
        // The config of an image has no list that is empty.
        let list = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
        let set = |set: Map<String, Empty>| Map::from_iter(set.into_keys().map(|key| (key, Some(Nothing {}))));
        ContainerConfig {
            user: run.user,
            exposed_ports: run.exposed_ports.map(set),
            env: Some(run.env),
            cmd: list(run.cmd),
            args_escaped: run.args_escaped,
            entrypoint: list(run.entrypoint),
            volumes: run.volumes.map(set),
            working_dir: run.working_dir,
            labels: run.labels,
            on_build: run.on_build,
            stop_signal: run.stop_signal,
            stop_timeout: run.stop_timeout,
            shell: run.shell,
            healthcheck: run.healthcheck.map(|check| Healthcheck {
                test: check.test,
                interval: check.interval,
                timeout: check.timeout,
                start_period: check.start_period,
                start_interval: check.start_interval,
                retries: check.retries,
            }),
            ..ContainerConfig::default()
        }
    }

    fn save(&self, store: &Store) -> Result<()> {
        let bytes = serde_json::to_vec(self).context("encode an image's record")?;
        store::write_file(&path(store, self.hex()), &bytes, true)
    }
}

fn path(store: &Store, hex: &str) -> PathBuf {
    store.images().join(format!("{hex}.json"))
}

/// Reads an image's record by the hex of its id; `None` where there is none.
pub fn load(store: &Store, hex: &str) -> Result<Option<Image>> {
    let path = path(store, hex);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let image: Image = json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
    if image.version > VERSION {
        bail!("{} was written by a newer dhow (version {})", path.display(), image.version);
    }
    Ok(Some(image))
}

/// All images, in no order.
pub fn all(store: &Store) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for hex in hexes(store)? {
        // One that went away since the directory was read is no error.
        images.extend(load(store, &hex)?);
    }
    Ok(images)
}

fn hexes(store: &Store) -> Result<Vec<String>> {
    let names = store::read_dir(&store.images())?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect())
}

/// [`find`], and the lease holds the image and its layers: nobody removes them until something else names them.
pub fn take(store: &Store, lease: &Lease, name: &str) -> Result<Image> {
    let _gc = store.gc_shared()?;
    let image = find(store, name)?;
    for layer in image.layer_ids() {
        lease.uses(&format!("layer:{layer}"))?;
    }
    lease.uses(&format!("image:{}", image.hex()))?;
    Ok(image)
}

/// The same of layers that a container has.
pub fn hold(store: &Store, lease: &Lease, layers: &[String]) -> Result<()> {
    let _gc = store.gc_shared()?;
    for layer in layers {
        lease.uses(&format!("layer:{layer}"))?;
        if !store.layer(layer).exists() {
            bail!("layer {layer} is gone, and the container that had it");
        }
    }
    Ok(())
}

/// Finds an image by what a user types: `name[:tag]`, `name@digest`, an id, or the start of one. A name that is both
/// means the reference. To build on what is found, hold gc shared and put the image into a lease.
pub fn find(store: &Store, name: &str) -> Result<Image> {
    let id = if is_hex(name) && name.len() == 64 { format!("sha256:{name}") } else { name.to_owned() };
    if let Ok(id) = Digest::parse(&id) {
        let found = if id.algorithm() == Algorithm::Sha256 { load(store, id.hex())? } else { None };
        return found.ok_or_else(|| Refusal::NotFound(format!("No such image: {id}")).into());
    }
    let reference = Reference::parse(name).map_err(|error| Refusal::BadParameter(error.to_string()))?.or_latest();
    let mut void = None;
    while let Some(id) = references::get(store, &reference)? {
        if let Some(image) = load(store, id.hex())? {
            return Ok(image);
        }
        // Once more, if the name has moved since: the image that had it may have gone for that reason.
        if void.replace(id.clone()) == Some(id) {
            break;
        }
    }
    let missing = format!("No such image: {}", reference.familiar());
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    if !is_hex(prefix) {
        bail!(Refusal::NotFound(missing));
    }
    let mut found = hexes(store)?.into_iter().filter(|hex| hex.starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(hex), None) => load(store, &hex)?.ok_or_else(|| Refusal::NotFound(missing).into()),
        (Some(_), Some(_)) => bail!(Refusal::NotFound(format!("{missing} (and several ids begin with {prefix})"))),
        (None, _) => bail!(Refusal::NotFound(missing)),
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses an image that is not of the platform that was asked for, in Docker's words.
pub fn check_platform(image: &Image, name: &str, asked: Option<&Platform>) -> Result<()> {
    let Some(asked) = asked else { return Ok(()) };
    let suits = asked.suits(&image.platform).is_some()
        // Configs often leave the variant out.
        || image.platform.variant.is_empty() && image.platform.os == asked.os && image.platform.architecture == asked.architecture;
    if !suits {
        bail!(Refusal::NotFound(format!(
            "image with reference {name} was found but its platform ({}) does not match the specified platform ({asked})",
            image.platform
        )));
    }
    Ok(())
}

/// A warning, in Docker's words, for an image of which nobody said that it should be of another platform than this host.
pub fn foreign(image: &Image) -> Option<String> {
    if image.platform.architecture.is_empty() {
        return None;
    }
    let host = platform::host();
    check_platform(image, "", Some(&host)).err().map(|_| {
        format!(
            "The requested image's platform ({}) does not match the detected host platform ({host}) and no specific platform was requested",
            image.platform
        )
    })
}

/// Puts an image into the store, under no name yet, and into the lease. Its layers are there already: see
/// [`layers::commit`]. `manifest` is what brought it, with its media type; an image made here has none.
pub fn register(
    store: &Store,
    lease: &Lease,
    manifest: Option<(&str, &[u8])>,
    config: &[u8],
    parent: Option<&Digest>,
) -> Result<Image> {
    let mut image = describe(store, manifest, config, parent)?;
    let layers: Vec<String> = image.layers.iter().map(|layer| layer.id.clone()).collect();
    layers::secure(store, &layers)?;
    let descriptor = image.manifests.first().cloned();
    let _gc = store.gc_shared()?;
    lease.uses(&format!("image:{}", image.hex()))?;
    let _references = references::lock(store)?;
    if let Some(known) = load(store, image.hex())? {
        // The same image, perhaps brought by another manifest: it is packed otherwise.
        let new = descriptor.iter().filter(|new| known.manifests.iter().all(|old| old.digest != new.digest));
        if new.clone().next().is_none() {
            return Ok(known);
        }
        image = Image { manifests: known.manifests.iter().chain(new).cloned().collect(), ..known };
    }
    store::write_file(&store.blob(image.hex()), config, true)?;
    if let (Some(descriptor), Some((_, bytes))) = (&descriptor, manifest) {
        store::write_file(&store.blob(descriptor.digest.hex()), bytes, true)?;
    }
    failpoint::reach("image.blobs");
    image.save(store)?;
    failpoint::reach("image.recorded");
    Ok(image)
}

/// What would be put into the store. Its layers are there already.
pub fn describe(
    store: &Store,
    manifest: Option<(&str, &[u8])>,
    config: &[u8],
    parent: Option<&Digest>,
) -> Result<Image> {
    let id = Digest::of(config);
    let parsed = ImageConfig::parse(config)?;
    let packed = match manifest {
        None => Vec::new(),
        Some((_, bytes)) => {
            let manifest: Manifest = json::from_slice(bytes).context("read the image manifest")?;
            if manifest.layers.len() != parsed.rootfs.diff_ids.len() {
                bail!(
                    "the manifest has {} layers and the image config {}",
                    manifest.layers.len(),
                    parsed.rootfs.diff_ids.len()
                );
            }
            manifest.layers
        }
    };
    let diff_ids = &parsed.rootfs.diff_ids;
    let mut layers_of = Vec::with_capacity(diff_ids.len());
    for (at, (diff_id, chain_id)) in diff_ids.iter().zip(chain_ids(diff_ids)).enumerate() {
        let layer_id = layers::dir_id(&chain_id);
        let layer = layers::load(store, &layer_id)?;
        if layer.chain_id != chain_id {
            bail!("the layers {chain_id} and {} have the same short name", layer.chain_id);
        }
        layers_of.push(LayerOf {
            id: layer_id,
            diff_id: diff_id.clone(),
            chain_id,
            size: layer.size,
            opaque: layer.opaque,
            packed: packed.get(at).cloned(),
        });
    }
    let descriptor = manifest.map(|(media_type, bytes)| Descriptor::of(media_type, bytes));
    Ok(Image {
        version: VERSION,
        // A layer may say of a sparse file that it is as long as a file can be.
        size: layers_of.iter().fold(0, |size: u64, layer| size.saturating_add(layer.size)),
        platform: parsed.platform(),
        parent: parent.cloned(),
        manifests: descriptor.into_iter().collect(),
        layers: layers_of,
        last_tag_time: None,
        config: parsed,
        id,
    })
}

/// Gives an image a name, and takes the name from the image that had it.
pub fn set_reference(store: &Store, reference: &Reference, image: &Image) -> Result<()> {
    let _gc = store.gc_shared()?;
    let _references = references::lock(store)?;
    if load(store, image.hex())?.is_none() {
        bail!(Refusal::NotFound(format!("No such image: {}", image.id)));
    }
    references::put(store, reference, &image.id)
}

#[cfg(test)]
pub(super) mod tests;
