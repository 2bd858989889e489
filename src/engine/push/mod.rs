//! Push: an image of the store into a registry.
//!
//! ```text
//! a few layers at once, each:  there already │ taken over from another repository │
//!                              as it was pulled: kept here │ passed on from where it came
//!                              tar by its recipe → compressed in blocks → hashed → sent       (no blob on disk)
//! then: the config, byte for byte; the manifest; what is remembered of each layer
//! ```
//!
//! An image that came from a registry goes out with its own manifest, byte for byte and so under its own digest, if all
//! blobs that it names are at the other end. Otherwise a manifest is made: of OCI's form for an image that came in it
//! and where a layer is in zstd, which Docker's has no word for; of Docker's schema 2 for all others, as Docker does.

mod layer;

use super::images::{self, Image};
use super::lines::{self, Sink};
use super::packed::{Compression, Packed};
use super::store::{Lease, Store};
use super::{events, images::references};
use crate::api::Refusal;
use crate::api::types::{ProgressDetail, ProgressLine};
use crate::api::wire::Producer;
use crate::channel::{Receiver, RecvTimeoutError, Sender, channel};
use crate::fs::compress::Format;
use crate::json;
use crate::oci::auth::{Credentials, Registries};
use crate::oci::image::{Descriptor, Manifest, media};
use crate::oci::registry::{Pusher, Refused, Settings};
use crate::oci::{Digest, Platform, Reference};
use anyhow::{Context, Result, bail};
use layer::{Placed, Target};
use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Layers that move are shown no more often than this, as Docker does.
const TICK: Duration = Duration::from_millis(100);

/// What to push.
pub struct Request {
    /// Without a tag: every tag of the repository.
    pub reference: Reference,
    /// The image must be of this one.
    pub platform: Option<Platform>,
    pub credentials: Option<Credentials>,
    /// Who we are where layers came from.
    pub others: Registries,
    /// What layers are compressed with; as they are known already, or gzip, where nothing was asked for.
    pub format: Option<Format>,
}

/// The name of a compression, as `--compression-format` has it.
pub fn format(name: &str) -> Result<Option<Format>> {
    match name {
        "" => Ok(None),
        "gzip" => Ok(Some(Format::Gzip)),
        "zstd" => Ok(Some(Format::Zstd)),
        other => bail!(Refusal::BadParameter(format!("unsupported compression format {other:?}: gzip and zstd are"))),
    }
}

/// The answer of `POST /images/{name}/push`: Docker's lines, of which the last one may say what went wrong.
pub fn stream(store: &Store, request: Request, settings: &Settings) -> Result<Producer> {
    let pusher = Pusher::new(&request.reference, request.credentials.clone(), settings)?;
    let push = Push { store: store.clone(), request, settings: settings.clone(), pusher };
    Ok(Box::new(move |out: &mut dyn Write| lines::stream(out, || push.pusher.cancel(), |sink| push.run(sink))))
}

struct Push {
    store: Store,
    request: Request,
    settings: Settings,
    pusher: Pusher,
}

impl Push {
    fn run(&self, sink: Sink) -> Result<()> {
        let reference = &self.request.reference;
        show(sink, ProgressLine::status(format!("The push refers to repository [{}]", reference.name())))?;
        let lease = self.store.lease()?;
        for (reference, image) in self.images(&lease)? {
            self.image(&reference, &image, sink).map_err(|error| refusal(&reference, error))?;
        }
        Ok(())
    }

    /// The images that are meant, which stay in the store until they are pushed.
    fn images(&self, lease: &Lease) -> Result<Vec<(Reference, Image)>> {
        let reference = &self.request.reference;
        if reference.digest.is_some() {
            bail!("cannot push a digest reference");
        }
        let _gc = self.store.gc_shared()?;
        let mut found = Vec::new();
        for (known, id) in references::all(&self.store)? {
            let same = (&known.domain, &known.path) == (&reference.domain, &reference.path);
            let wanted = known.digest.is_none() && (reference.tag.is_none() || known.tag == reference.tag);
            if same
                && wanted
                && let Some(image) = images::load(&self.store, id.hex())?
            {
                images::check_platform(&image, &known.familiar(), self.request.platform.as_ref())?;
                lease.uses(&format!("image:{}", image.hex()))?;
                image.layers.iter().try_for_each(|layer| lease.uses(&format!("layer:{}", layer.id)))?;
                found.push((known, image));
            }
        }
        if found.is_empty() {
            bail!("An image does not exist locally with the tag: {}", reference.familiar_name());
        }
        Ok(found)
    }

    fn image(&self, reference: &Reference, image: &Image, sink: Sink) -> Result<()> {
        let own = own_manifests(&self.store, image);
        let placed = self.layers(reference, image, &own, sink)?;
        let config = std::fs::read(self.store.blob(image.hex())).context("read the image config")?;
        image.id.verify(&config).with_context(|| format!("the config of image {}", image.id))?;
        self.pusher.put(&config).context("the image config")?;
        let (media_type, body) = match own.iter().find(|own| self.request.format.is_none() && own.names(image, &placed))
        {
            Some(own) => (own.media_type.clone(), own.body.clone()),
            None => make_manifest(image, &config, &placed)?,
        };
        let tag = reference.tag.as_deref().unwrap_or("latest");
        let digest = self.pusher.manifest(tag, &media_type, &body).with_context(|| format!("manifest {tag}"))?;
        let by_digest = reference.with_digest(&digest);
        if references::get(&self.store, &by_digest)?.as_ref() != Some(&image.id) {
            images::set_reference(&self.store, &by_digest, image)?;
        }
        let size = body.len();
        show(sink, ProgressLine::status(format!("{tag}: digest: {digest} size: {size}")))?;
        let aux = serde_json::json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size });
        let detail = Some(ProgressDetail::default());
        show(sink, ProgressLine { progress_detail: detail, aux: Some(aux), ..ProgressLine::default() })?;
        let labels = image.config.config.labels.as_ref();
        events::image(&self.store, labels, "push", &reference.familiar(), &reference.familiar_name());
        Ok(())
    }

    /// Brings all layers there; gives what they are there, lowest first.
    fn layers(&self, reference: &Reference, image: &Image, own: &[Own], sink: Sink) -> Result<Vec<Packed>> {
        // One that is twice in the image is sent once.
        let mut work: Vec<Work> = Vec::new();
        for (at, layer) in image.layers.iter().enumerate().rev() {
            if work.iter().all(|known| known.layer.diff_id != layer.diff_id) {
                let wanted = own.iter().map(|own| &own.manifest.layers[at].digest).collect();
                work.push(Work { layer, wanted, moved: AtomicU64::new(0) });
            }
        }
        for work in &work {
            show(sink, lines::layer(work.layer.diff_id.short(), "Preparing"))?;
        }
        let workers = self.settings.max_concurrent_uploads.max(1).min(work.len());
        for work in &work[workers..] {
            show(sink, lines::layer(work.layer.diff_id.short(), "Waiting"))?;
        }
        let target = Target {
            store: &self.store,
            reference,
            pusher: &self.pusher,
            settings: &self.settings,
            credentials: &self.request.credentials,
            others: &self.request.others,
            deaf: Mutex::default(),
            format: self.request.format,
        };
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let placed = std::thread::scope(|scope| {
            let (tell, told) = channel();
            for _ in 0..workers {
                let (tell, target, work, next, stopped) = (tell.clone(), &target, &work[..], &next, &stopped);
                scope.spawn(move || serve(target, work, next, stopped, &tell));
            }
            drop(tell);
            let outcome = gather(&work, &told, sink);
            if outcome.is_err() {
                stopped.store(true, Ordering::Relaxed);
                // Before the threads are waited for: they stop where they stand.
                self.pusher.cancel();
            }
            outcome
        })?;
        let of = |layer: &images::LayerOf| placed.get(&layer.diff_id).cloned().context("a layer was left out");
        image.layers.iter().map(of).collect()
    }
}

/// A layer that is to be brought.
struct Work<'a> {
    layer: &'a images::LayerOf,
    /// Blobs that the image's manifests name for it.
    wanted: Vec<&'a Digest>,
    /// Bytes of its tar that are through.
    moved: AtomicU64,
}

fn serve(
    target: &Target,
    work: &[Work],
    next: &AtomicUsize,
    stopped: &AtomicBool,
    tell: &Sender<(usize, Result<Placed>)>,
) {
    while !stopped.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(work) = work.get(number) else { return };
        // Nobody listens any more when the push has failed.
        let _ = tell.send((number, layer::place(target, work.layer, &work.wanted, &work.moved)));
    }
}

/// Takes what the workers tell until all layers are there, and shows it.
fn gather(work: &[Work], told: &Receiver<(usize, Result<Placed>)>, sink: Sink) -> Result<HashMap<Digest, Packed>> {
    let mut placed = HashMap::new();
    let mut shown: Vec<Option<u64>> = vec![Some(0); work.len()];
    while placed.len() < work.len() {
        match told.recv_timeout(TICK) {
            Ok((number, outcome)) => {
                let (layer, outcome) = (work[number].layer, outcome?);
                if outcome.how == "Pushed" {
                    show(sink, moving(layer, layer.size))?;
                }
                shown[number] = None;
                show(sink, lines::layer(layer.diff_id.short(), &outcome.how))?;
                placed.insert(layer.diff_id.clone(), outcome.packed);
            }
            Err(RecvTimeoutError::Timeout) => {
                for (work, shown) in work.iter().zip(&mut shown) {
                    let now = work.moved.load(Ordering::Relaxed);
                    if shown.is_some_and(|last| last != now) {
                        *shown = Some(now);
                        show(sink, moving(work.layer, now))?;
                    }
                }
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the upload ended before its time"),
        }
    }
    Ok(placed)
}

fn moving(layer: &images::LayerOf, now: u64) -> ProgressLine {
    lines::moving(layer.diff_id.short(), "Pushing", now, layer.size)
}

/// A manifest that brought the image here.
struct Own {
    media_type: String,
    body: Vec<u8>,
    manifest: Manifest,
}

impl Own {
    /// Whether it names just the blobs that are at the other end.
    fn names(&self, image: &Image, placed: &[Packed]) -> bool {
        let layers = self.manifest.layers.iter().zip(placed);
        self.manifest.config.digest == image.id
            && layers.clone().all(|(named, there)| named.digest == there.digest && named.size == there.size)
    }
}

/// The manifests of an image that are whole, the first first.
fn own_manifests(store: &Store, image: &Image) -> Vec<Own> {
    let read = |descriptor: &Descriptor| {
        let body = std::fs::read(store.blob(descriptor.digest.hex())).ok()?;
        descriptor.digest.verify(&body).ok()?;
        let manifest: Manifest = json::from_slice(&body).ok()?;
        let media_type = match manifest.media_type.as_str() {
            "" => descriptor.media_type.clone(),
            said => said.to_owned(),
        };
        let suits = manifest.layers.len() == image.layers.len()
            && matches!(media_type.as_str(), media::OCI_MANIFEST | media::DOCKER_MANIFEST);
        suits.then_some(Own { media_type, body, manifest })
    };
    image.manifests.iter().filter_map(read).collect()
}

/// A manifest of an image whose layers are these blobs: media type and body.
fn make_manifest(image: &Image, config: &[u8], placed: &[Packed]) -> Result<(String, Vec<u8>)> {
    let came = image.manifests.first().is_some_and(|manifest| manifest.media_type == media::OCI_MANIFEST);
    let oci = came || placed.iter().any(|packed| packed.compression == Compression::Zstd);
    let (manifest_type, config_type) = match oci {
        true => (media::OCI_MANIFEST, media::OCI_CONFIG),
        false => (media::DOCKER_MANIFEST, media::DOCKER_CONFIG),
    };
    let layer = |packed: &Packed| {
        let media_type = match (packed.compression, oci) {
            (Compression::Gzip, true) => media::OCI_LAYER_GZIP,
            (Compression::Zstd, _) => media::OCI_LAYER_ZSTD,
            (Compression::None, true) => media::OCI_LAYER,
            (Compression::Gzip, false) => media::DOCKER_LAYER_GZIP,
            (Compression::None, false) => media::DOCKER_LAYER,
        };
        Descriptor { digest: packed.digest.clone(), size: packed.size, ..Descriptor::of(media_type, b"") }
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: manifest_type.to_owned(),
        config: Descriptor::of(config_type, config),
        layers: placed.iter().map(layer).collect(),
        annotations: None,
        artifact_type: None,
    };
    Ok((manifest_type.to_owned(), serde_json::to_vec(&manifest).context("encode the manifest")?))
}

/// Words for what registries refuse.
fn refusal(reference: &Reference, error: anyhow::Error) -> anyhow::Error {
    let (name, whole) = (reference.familiar_name(), reference.familiar());
    let Some(refused) = error.downcast_ref::<Refused>() else { return error.context(format!("push {whole}")) };
    let said = refused.to_string();
    match (refused.code.as_str(), refused.status) {
        ("DENIED", _) | (_, 403) => anyhow::anyhow!(
            "push access denied for {name}, repository does not exist or may require 'docker login': {said}"
        ),
        (_, 401) => anyhow::anyhow!("push {whole}: {said}"),
        ("UNSUPPORTED", _) | (_, 405) => anyhow::anyhow!("push {whole}: the registry takes no pushes: {said}"),
        _ => error.context(format!("push {whole}")),
    }
}

fn show(sink: Sink, line: ProgressLine) -> Result<()> {
    sink(line).context("show progress")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_refusals() {
        let reference = Reference::parse("localhost:5000/x:1").unwrap();
        for (status, code, message, words) in [
            (
                403,
                "DENIED",
                "requested access to the resource is denied",
                "push access denied for localhost:5000/x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (
                401,
                "UNAUTHORIZED",
                "authentication required",
                "push localhost:5000/x:1: unauthorized: authentication required",
            ),
            (
                405,
                "UNSUPPORTED",
                "The operation is unsupported.",
                "push localhost:5000/x:1: the registry takes no pushes: unsupported: The operation is unsupported.",
            ),
            (507, "", "full", "push localhost:5000/x:1: layer: full"),
        ] {
            let refused = Refused { status, code: code.to_owned(), message: message.to_owned(), retry_after: None };
            let error = refusal(&reference, anyhow::Error::new(refused).context("layer"));
            assert_eq!(format!("{error:#}"), words);
        }
    }

    #[test]
    fn compressions_by_name() {
        assert_eq!(format("").unwrap(), None);
        assert_eq!(format("zstd").unwrap(), Some(Format::Zstd));
        assert!(format("xz").unwrap_err().is::<Refusal>());
    }
}
