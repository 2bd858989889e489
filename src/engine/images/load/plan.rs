//! What an archive's documents say of its images, checked as far as that goes without its layers.

use super::spool::Spool;
use crate::json;
use crate::json::fields::fields;
use crate::oci::archive::{self, Item};
use crate::oci::digest::Algorithm;
use crate::oci::image::{Descriptor, Document, ImageConfig, Index};
use crate::oci::{Digest, Platform, Reference, platform};
use anyhow::{Context, Result, bail};

/// Indexes in indexes go no deeper.
const MAX_DEPTH: usize = 4;

/// One image to be loaded.
pub struct Plan {
    pub id: Digest,
    pub config_body: Vec<u8>,
    pub config: ImageConfig,
    /// Media type and body, where the archive has one that names the layers as they are in it.
    pub manifest: Option<(String, Vec<u8>)>,
    /// Lowest first.
    pub layers: Vec<Part>,
    pub names: Vec<Reference>,
    pub parent: Option<Digest>,
}

/// A layer as it is in the archive.
pub struct Part {
    pub name: String,
    /// Of the file; none where the archive promises none.
    pub digest: Option<Digest>,
}

/// Reads the images of an archive, those of a platform if one is asked for.
pub fn images(spool: &Spool, wanted: Option<&Platform>) -> Result<Vec<Plan>> {
    let mut plans = if spool.has(archive::MANIFEST) {
        docker(spool)?
    } else if spool.has(archive::INDEX) {
        layout(spool, wanted)?
    } else if spool.has(archive::REPOSITORIES) {
        bail!("the archive is of the form that docker wrote before 1.10, which is not supported: save it again")
    } else {
        bail!("the archive holds no images: it has neither {} nor {}", archive::MANIFEST, archive::INDEX)
    };
    for plan in &plans {
        check(plan).with_context(|| format!("image {}", plan.id))?;
    }
    if let Some(wanted) = wanted {
        plans.retain(|plan| wanted.suits(&plan.config.platform()).is_some());
        if plans.is_empty() {
            bail!("the archive has no image for platform {wanted}");
        }
    }
    Ok(plans)
}

fn check(plan: &Plan) -> Result<()> {
    let os = plan.config.os.as_str();
    if !matches!(os, "" | "linux") {
        bail!("cannot load {os:?} image on linux");
    }
    let (layers, diff_ids) = (plan.layers.len(), &plan.config.rootfs.diff_ids);
    if layers != diff_ids.len() {
        bail!("invalid manifest, layers length mismatch: expected {layers}, got {}", diff_ids.len());
    }
    plan.config.check_layers()
}

/// Docker's own form.
fn docker(spool: &Spool) -> Result<Vec<Plan>> {
    let body = spool.document(archive::MANIFEST)?;
    let items: Option<Vec<Item>> = json::from_slice(&body).with_context(|| format!("read {}", archive::MANIFEST))?;
    let items = items.context("invalid manifest, manifest cannot be null (but can be [])")?;
    items.into_iter().map(|item| of_item(spool, item)).collect()
}

fn of_item(spool: &Spool, item: Item) -> Result<Plan> {
    let config_body = spool.document(&item.config).context("the image config")?;
    promised(&item.config).map_or(Ok(()), |digest| digest.verify(&config_body)).context("the image config")?;
    let part = |name: String| Part { digest: promised(&name), name };
    let named = |text: &String| {
        let name = Reference::parse(text).with_context(|| format!("invalid tag {text:?}"))?;
        if name.tag.is_none() || name.digest.is_some() {
            bail!("invalid tag {text:?}");
        }
        Ok(name)
    };
    let parent = match item.parent.as_str() {
        "" => None,
        text => Some(Digest::parse(text).context("the image's parent")?),
    };
    Ok(Plan {
        id: Digest::of(&config_body),
        config: ImageConfig::parse(&config_body)?,
        config_body,
        manifest: None,
        layers: item.layers.unwrap_or_default().into_iter().map(part).collect(),
        names: item.repo_tags.unwrap_or_default().iter().map(named).collect::<Result<_>>()?,
        parent,
    })
}

/// The digest that a name in blobs/ promises.
fn promised(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// An OCI layout. Of an index, the image that suits the platform (or this host) best.
fn layout(spool: &Spool, wanted: Option<&Platform>) -> Result<Vec<Plan>> {
    let index = index(spool)?;
    let mut plans: Vec<Plan> = Vec::new();
    for entry in index.manifests.iter().filter(|entry| !entry.is_attestation()) {
        let plan = of_entry(spool, entry, wanted).with_context(|| format!("manifest {}", entry.digest))?;
        // One image under several names stands there several times.
        match plans.iter_mut().find(|known| known.id == plan.id) {
            Some(known) => known.names.extend(plan.names),
            None => plans.push(plan),
        }
    }
    Ok(plans)
}

/// The one image of a layout that has a tag, or a digest.
pub fn one(spool: &Spool, tag: Option<&str>, digest: Option<&Digest>, wanted: &Platform) -> Result<Plan> {
    let mut entry = match digest {
        Some(digest) => Descriptor { digest: digest.clone(), ..Descriptor::of("", b"") },
        None => tagged(index(spool)?, tag)?,
    };
    // The name is the builder's, and what the layout calls it is nothing to read.
    entry.annotations = None;
    let plan = of_entry(spool, &entry, Some(wanted)).with_context(|| format!("manifest {}", entry.digest))?;
    check(&plan)?;
    let actual = plan.config.platform();
    if !actual.architecture.is_empty() && wanted.suits(&actual).is_none() {
        bail!("it has no image for platform {wanted}: this one is for {actual}");
    }
    Ok(plan)
}

/// Without a tag it is the one called latest, or the only one.
fn tagged(index: Index, tag: Option<&str>) -> Result<Descriptor> {
    let is = |entry: &Descriptor, tag: &str| {
        let Some(notes) = &entry.annotations else { return false };
        let named = |name: &String| Reference::parse(name).is_ok_and(|name| name.tag.as_deref() == Some(tag));
        let text = notes.get(archive::REF_NAME);
        text.is_some_and(|text| text == tag) || text.into_iter().chain(notes.get(archive::IMAGE_NAME)).any(named)
    };
    let mut images: Vec<Descriptor> = index.manifests;
    images.retain(|entry| !entry.is_attestation());
    let count = images.len();
    match images.iter().position(|entry| is(entry, tag.unwrap_or("latest"))) {
        Some(at) => Ok(images.swap_remove(at)),
        None if tag.is_none() && count == 1 => Ok(images.swap_remove(0)),
        None => bail!("the layout has no image with the tag {}, of {count}", tag.unwrap_or("latest")),
    }
}

fn index(spool: &Spool) -> Result<Index> {
    fields! {
        #[derive(Default)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
    }
    let said: Layout = json::from_slice(&spool.document(archive::LAYOUT)?).context("read oci-layout")?;
    if !said.image_layout_version.starts_with("1.") {
        bail!("unsupported version {:?} of the OCI layout", said.image_layout_version);
    }
    json::from_slice(&spool.document(archive::INDEX)?).context("read index.json")
}

fn of_entry(spool: &Spool, entry: &Descriptor, wanted: Option<&Platform>) -> Result<Plan> {
    let host = platform::host();
    let mut current = entry.clone();
    for _ in 0..MAX_DEPTH {
        let body = blob(spool, &current)?;
        match Document::parse(&body, &current.media_type)? {
            Document::Image(manifest) => {
                let config_body = blob(spool, &manifest.config).context("the image config")?;
                let part = |layer: Descriptor| Part { name: archive::blob(&layer.digest), digest: Some(layer.digest) };
                return Ok(Plan {
                    id: Digest::of(&config_body),
                    config: ImageConfig::parse(&config_body)?,
                    config_body,
                    layers: manifest.layers.into_iter().map(part).collect(),
                    manifest: Some((current.media_type, body)),
                    names: name(entry)?.into_iter().collect(),
                    parent: None,
                });
            }
            Document::Index(index) => {
                let platform = wanted.unwrap_or(&host);
                let chosen = platform.choose(&index.manifests);
                let chosen = chosen.with_context(|| format!("it has no image for platform {platform}"))?;
                current = chosen.clone();
            }
        }
    }
    bail!("image indexes are nested more than {MAX_DEPTH} deep")
}

fn blob(spool: &Spool, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let body = spool.document(&archive::blob(&descriptor.digest))?;
    descriptor.digest.verify(&body)?;
    Ok(body)
}

/// The name that an index gives an image: containerd's, in full, or what may be a tag alone, which names nothing.
fn name(entry: &Descriptor) -> Result<Option<Reference>> {
    let note = |key: &str| entry.annotations.as_ref()?.get(key);
    let reference = match (note(archive::IMAGE_NAME), note(archive::REF_NAME)) {
        (Some(full), _) => Reference::parse(full).with_context(|| format!("invalid name {full:?}"))?,
        (None, Some(text)) => match Reference::parse(text) {
            Ok(reference) if reference.tag.is_some() => reference,
            _ => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    match &reference.digest {
        Some(digest) if *digest != entry.digest => {
            bail!("the name {} is of another image than {}", reference.familiar(), entry.digest)
        }
        Some(digest) if digest.algorithm() == Algorithm::Sha256 => Ok(Some(reference.with_digest(digest))),
        Some(_) => Ok(None),
        None => Ok(Some(reference.or_latest())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Map;

    #[test]
    fn names_in_an_index() {
        let entry = |key: &str, value: &str| Descriptor {
            annotations: Some(Map::from([(key.to_owned(), value.to_owned())])),
            ..Descriptor::of("x", b"x")
        };
        let sum = Digest::of(b"x");
        for (key, value, expected) in [
            (archive::IMAGE_NAME, "docker.io/library/busybox:1".to_owned(), Some("busybox:1".to_owned())),
            (archive::IMAGE_NAME, format!("r.example/x:1@{sum}"), Some(format!("r.example/x@{sum}"))),
            (archive::REF_NAME, "v1".to_owned(), None),
            (archive::REF_NAME, "busybox:v1".to_owned(), Some("busybox:v1".to_owned())),
            (archive::REF_NAME, "not a name".to_owned(), None),
        ] {
            let found = name(&entry(key, &value)).unwrap();
            assert_eq!(found.map(|name| name.familiar()), expected, "{value}");
        }
        assert!(name(&entry(archive::IMAGE_NAME, "not a name")).is_err());
        assert!(name(&entry(archive::IMAGE_NAME, &format!("x@{}", Digest::of(b"y")))).is_err());
    }
}
