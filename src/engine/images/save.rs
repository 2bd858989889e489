//! `save`: images as one tar, which is Docker's archive and an OCI layout at once. Nothing is gathered on disk: how
//! long each layer's tar is stands in its recipe, so headers come first and the layers' own bytes follow, hashed.

use super::super::events;
use super::super::store::{Lease, Store};
use super::{Image, check_platform, find, references};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::wire::Producer;
use crate::fs::assemble;
use crate::oci::archive::{self, Item};
use crate::oci::image::{Descriptor, Index, Manifest, media};
use crate::oci::{Digest, Platform, Reference};
use crate::order::{Map, Set};
use anyhow::{Context, Result, bail};
use std::io::{self, Write};
use std::path::PathBuf;

const BLOCK: u64 = 512;

/// Images to be saved, kept in the store until it is done.
pub struct Save {
    store: Store,
    lease: Lease,
    images: Vec<Wanted>,
}

struct Wanted {
    image: Image,
    /// Under which it was asked for.
    names: Vec<Reference>,
    /// Its config, where the store has it not.
    config: Option<Vec<u8>>,
}

/// A file of the archive.
struct Member {
    content: Content,
    /// Seconds since 1970.
    time: u64,
}

enum Content {
    Bytes(Vec<u8>),
    Layer { dir: PathBuf, diff_id: Digest, size: u64 },
}

/// By path, as Docker orders them.
type Members = Map<String, Member>;

/// The manifest of an image whose layers are written as they are, and what it says of those.
fn manifest_of(store: &Store, image: &Image, config: &[u8]) -> Result<(Vec<u8>, Vec<Descriptor>)> {
    let mut layers = Vec::new();
    for layer in &image.layers {
        let size = assemble::length(&store.layer(&layer.id))?;
        layers.push(Descriptor { digest: layer.diff_id.clone(), size, ..Descriptor::of(archive::LAYER, b"") });
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: media::OCI_MANIFEST.to_owned(),
        config: Descriptor::of(media::OCI_CONFIG, config),
        layers: layers.clone(),
        annotations: None,
        artifact_type: None,
    };
    Ok((serde_json::to_vec(&manifest).context("encode a manifest")?, layers))
}

impl Save {
    /// Finds the images: `name` is all of a repository's tags, `name:tag` one, an id or a digest an image without a
    /// name. Errors: 404 and 400, as for every image.
    pub fn find(store: &Store, names: &[String], platform: Option<&Platform>) -> Result<Save> {
        if names.iter().all(|name| name.trim().is_empty()) {
            bail!(Refusal::BadParameter("image name cannot be blank".to_owned()));
        }
        let lease = store.lease()?;
        let mut images: Vec<Wanted> = Vec::new();
        for name in names {
            let _gc = store.gc_shared()?;
            for (image, reference) in named(store, name)? {
                check_platform(&image, name, platform)?;
                let at = images.iter().position(|known| known.image.id == image.id);
                let at = match at {
                    Some(at) => at,
                    None => {
                        lease.uses(&format!("image:{}", image.hex()))?;
                        image.layers.iter().try_for_each(|layer| lease.uses(&format!("layer:{}", layer.id)))?;
                        images.push(Wanted { image, names: Vec::new(), config: None });
                        images.len() - 1
                    }
                };
                let known = &mut images[at].names;
                known.extend(reference.filter(|reference| !known.contains(reference)));
            }
        }
        Ok(Save { store: store.clone(), lease, images })
    }

    /// One image that is not in the store, whose layers are, and stay there meanwhile.
    pub fn made(store: &Store, image: Image, config: Vec<u8>, names: Vec<Reference>) -> Result<Save> {
        let images = vec![Wanted { image, names, config: Some(config) }];
        Ok(Save { store: store.clone(), lease: store.lease()?, images })
    }

    /// The digest of the first image's manifest, as the archive has it.
    pub fn manifest(&self) -> Result<Option<Digest>> {
        let Some(wanted) = self.images.first() else { return Ok(None) };
        let (manifest, _) = manifest_of(&self.store, &wanted.image, &self.config(wanted)?)?;
        Ok(Some(Descriptor::of(media::OCI_MANIFEST, &manifest).digest))
    }

    fn config(&self, wanted: &Wanted) -> Result<Vec<u8>> {
        match &wanted.config {
            Some(config) => Ok(config.clone()),
            None => std::fs::read(self.store.blob(wanted.image.hex())).context("read the image config"),
        }
    }

    /// The archive as a stream. An error in the midst of it breaks it off.
    pub fn stream(self) -> Result<Producer> {
        let members = self.members()?;
        Ok(Box::new(move |out: &mut dyn Write| {
            let mut out = io::BufWriter::with_capacity(256 * 1024, out);
            write(&members, &mut out).map_err(|error| io::Error::other(format!("{error:#}")))?;
            out.flush()?;
            for wanted in self.images.iter().filter(|wanted| wanted.config.is_none()) {
                let id = wanted.image.id.to_string();
                events::other(&self.store, "image", "save", &id, &[("name", &id)]);
            }
            drop(self.lease);
            Ok(())
        }))
    }

    fn members(&self) -> Result<Members> {
        let mut members = Members::new();
        let mut put = |path: String, bytes: Vec<u8>, time: u64| {
            members.entry(path).or_insert(Member { content: Content::Bytes(bytes), time });
        };
        let (mut items, mut described, mut repositories) = (Vec::new(), Vec::new(), Map::new());
        let saved: Set<&Digest> = Set::from_iter(self.images.iter().map(|wanted| &wanted.image.id));
        let mut blobs = Vec::new();
        for wanted in &self.images {
            let (config, Wanted { image, names, .. }) = (self.config(wanted)?, wanted);
            image.id.verify(&config).with_context(|| format!("the config of image {}", image.id))?;
            let time = image.config.created.as_deref().and_then(Time::parse);
            let time = time.map_or(0, |time| u64::try_from(time.seconds).unwrap_or(0));
            let (manifest, layers) = manifest_of(&self.store, image, &config)?;
            for (layer, described) in image.layers.iter().zip(&layers) {
                let dir = self.store.layer(&layer.id);
                blobs.push((archive::blob(&layer.diff_id), dir, layer.diff_id.clone(), described.size, time));
            }
            let descriptor = Descriptor::of(media::OCI_MANIFEST, &manifest);
            put(archive::blob(&descriptor.digest), manifest, 0);
            put(archive::blob(&image.id), config, time);
            if names.is_empty() {
                described.push(descriptor.clone());
            }
            for name in names {
                let tag = name.tag.clone().unwrap_or_default();
                if let Some(top) = image.layers.last() {
                    let tags: &mut Map<String, String> = repositories.entry(name.familiar_name()).or_default();
                    tags.insert(tag.clone(), top.diff_id.hex().to_owned());
                }
                let notes = [(archive::IMAGE_NAME, name.to_string()), (archive::REF_NAME, tag)];
                let notes = notes.map(|(key, value)| (key.to_owned(), value));
                described.push(Descriptor { annotations: Some(Map::from(notes)), ..descriptor.clone() });
            }
            let parent = image.parent.as_ref().filter(|parent| saved.contains(parent));
            items.push(Item {
                config: archive::blob(&image.id),
                repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
                layers: Some(layers.iter().map(|layer| archive::blob(&layer.digest)).collect()),
                parent: parent.map(Digest::to_string).unwrap_or_default(),
                layer_sources: Map::from_iter(layers.into_iter().map(|layer| (layer.digest.to_string(), layer))),
            });
        }
        let index = Index {
            schema_version: 2,
            media_type: media::OCI_INDEX.to_owned(),
            manifests: described,
            annotations: None,
        };
        put(archive::INDEX.to_owned(), serde_json::to_vec(&index).context("encode an index")?, 0);
        put(archive::MANIFEST.to_owned(), serde_json::to_vec(&items).context("encode the images' list")?, 0);
        put(archive::LAYOUT.to_owned(), archive::LAYOUT_BODY.as_bytes().to_vec(), 0);
        if !repositories.is_empty() {
            let bytes = serde_json::to_vec(&repositories).context("encode the names")?;
            put(archive::REPOSITORIES.to_owned(), bytes, 0);
        }
        for (path, dir, diff_id, size, time) in blobs {
            members.entry(path).or_insert(Member { content: Content::Layer { dir, diff_id, size }, time });
        }
        Ok(members)
    }
}

/// The images that a name stands for, each with the name that it goes into the archive under.
fn named(store: &Store, name: &str) -> Result<Vec<(Image, Option<Reference>)>> {
    let reference = Reference::parse(name).ok().filter(|reference| reference.digest.is_none());
    let Some(reference) = reference else { return Ok(vec![(find(store, name)?, None)]) };
    if reference.tag.is_some() {
        let image = find(store, name)?;
        // `sha256:…` reads as a tag too.
        let known = references::get(store, &reference)?.is_some();
        return Ok(vec![(image, known.then_some(reference))]);
    }
    let mut found = Vec::new();
    for (known, id) in references::all(store)? {
        let same = (&known.domain, &known.path) == (&reference.domain, &reference.path);
        if same
            && known.digest.is_none()
            && let Some(image) = super::load(store, id.hex())?
        {
            found.push((image, Some(known)));
        }
    }
    if found.is_empty() {
        found.push((find(store, name)?, None));
    }
    Ok(found)
}

fn write(members: &Members, out: &mut dyn Write) -> Result<()> {
    let mut made = Set::new();
    for (path, member) in members {
        // A directory comes before what is in it, as in every tar.
        let parents = path.match_indices('/').map(|(at, _)| &path[..=at]);
        for dir in parents.filter(|dir| made.insert(dir.to_string())) {
            out.write_all(header(dir, tar::EntryType::Directory, 0o755, 0, 0)?.as_bytes())?;
        }
        let size = match &member.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Layer { size, .. } => *size,
        };
        out.write_all(header(path, tar::EntryType::Regular, 0o644, size, member.time)?.as_bytes())?;
        match &member.content {
            Content::Bytes(bytes) => out.write_all(bytes)?,
            Content::Layer { dir, diff_id, size } => {
                let mut exact = Exact { out, left: *size };
                let found = assemble::assemble(dir, &mut exact)?;
                if found != *diff_id || exact.left > 0 {
                    bail!("the layer {} is not {diff_id} any more", dir.display());
                }
            }
        }
        out.write_all(&[0; BLOCK as usize][..((BLOCK - size % BLOCK) % BLOCK) as usize])?;
    }
    Ok(out.write_all(&[0; 2 * BLOCK as usize])?)
}

fn header(path: &str, kind: tar::EntryType, mode: u32, size: u64, time: u64) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).with_context(|| format!("name {path}"))?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

/// Lets through as many bytes as were announced, and no more: what follows would be taken for headers.
struct Exact<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for Exact<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("the layer's tar is longer than its recipe says"));
        }
        self.out.write_all(bytes)?;
        self.left -= bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
