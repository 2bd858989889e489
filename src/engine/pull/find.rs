//! From a reference to the one image that is meant: tag → index → platform → manifest → config, all checked before
//! any layer is downloaded.

use crate::api::Refusal;
use crate::engine::Store;
use crate::log;
use crate::oci::image::{Descriptor, Document, ImageConfig, MAX_LAYERS, Manifest, media};
use crate::oci::registry::{Client, Refused};
use crate::oci::{Digest, Platform, Reference, platform};
use anyhow::{Context, Result, bail};

/// Indexes in indexes go no deeper.
const MAX_DEPTH: usize = 4;
const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// An image as its registry describes it.
pub struct Found {
    /// What the reference stands for: the digest of the index, or of the manifest where there is none.
    pub target: Digest,
    /// Body and media type.
    pub manifest_body: Vec<u8>,
    pub manifest_type: String,
    pub manifest: Box<Manifest>,
    pub config_body: Vec<u8>,
    pub config: ImageConfig,
}

/// Finds the image for `wanted` (or for this host). Errors: [`Refusal`]s in Docker's words, see [`refusal`].
pub fn find(store: &Store, client: &Client, reference: &Reference, wanted: Option<&Platform>) -> Result<Found> {
    match search(store, client, reference, wanted) {
        Ok(found) => Ok(found),
        // A mirror's word for what a tag means does not bind the registry itself.
        Err(error) if client.distrust_mirrors() => {
            log::debug!("{}: {error:#}: trying the registry itself", reference.familiar());
            search(store, client, reference, wanted).map_err(|error| refusal(reference, error))
        }
        Err(error) => Err(refusal(reference, error)),
    }
}

fn search(store: &Store, client: &Client, reference: &Reference, wanted: Option<&Platform>) -> Result<Found> {
    let host = platform::host();
    let platform = wanted.unwrap_or(&host);
    let (mut current, mut body) = top(store, client, reference)?;
    let target = current.digest.clone();
    for _ in 0..MAX_DEPTH {
        let document =
            Document::parse(&body, &current.media_type).with_context(|| format!("manifest {}", current.digest))?;
        match document {
            Document::Image(manifest) => {
                let (config_body, config) = config(store, client, &manifest)?;
                check_platform(reference, platform, &config)?;
                let manifest_type = match manifest.media_type.as_str() {
                    "" => current.media_type,
                    said => said.to_owned(),
                };
                return Ok(Found { target, manifest_body: body, manifest_type, manifest, config_body, config });
            }
            Document::Index(index) => {
                let Some(entry) = platform.choose(&index.manifests) else {
                    bail!(Refusal::NotFound(format!(
                        "no matching manifest for {platform} in the manifest list entries"
                    )));
                };
                body = manifest(store, client, entry)?;
                current = entry.clone();
            }
        }
    }
    bail!("image indexes are nested more than {MAX_DEPTH} deep")
}

/// The manifest or index that a reference stands for. What the store has already is not asked for again.
fn top(store: &Store, client: &Client, reference: &Reference) -> Result<(Descriptor, Vec<u8>)> {
    let known = match &reference.digest {
        Some(digest) => Some(Descriptor { digest: digest.clone(), size: 0, ..Descriptor::of("", b"") }),
        None => client.resolve(&reference.manifest_name())?,
    };
    match known {
        Some(known) => match stored(store, &known.digest) {
            Some(body) => Ok((known, body)),
            None => client.manifest(&known.digest.to_string()),
        },
        None => client.manifest(&reference.manifest_name()),
    }
}

fn manifest(store: &Store, client: &Client, entry: &Descriptor) -> Result<Vec<u8>> {
    match stored(store, &entry.digest) {
        Some(body) => Ok(body),
        None => Ok(client.manifest(&entry.digest.to_string())?.1),
    }
}

/// A manifest or config that the store has; one that is damaged there does not count.
fn stored(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    let body = std::fs::read(store.blob(digest.hex())).ok()?;
    digest.verify(&body).ok().map(|()| body)
}

fn config(store: &Store, client: &Client, manifest: &Manifest) -> Result<(Vec<u8>, ImageConfig)> {
    let descriptor = &manifest.config;
    let kind = descriptor.media_type.as_str();
    if !matches!(kind, media::OCI_CONFIG | media::DOCKER_CONFIG | "" | "application/octet-stream" | "application/json")
    {
        bail!("it is not a container image: its config is of type {kind}");
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
        bail!("layer {}: unsupported media type {:?}", layer.digest, layer.media_type);
    }
    if manifest.layers.len() > MAX_LAYERS {
        bail!("it has {} layers, more than the {MAX_LAYERS} that overlayfs takes", manifest.layers.len());
    }
    let body = match stored(store, &descriptor.digest) {
        Some(body) => body,
        None => client.blob_bytes(descriptor, MAX_CONFIG).context("the image config")?,
    };
    let config = ImageConfig::parse(&body)?;
    config.check_layers()?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        bail!(
            "the image config names {} layers and the manifest {}",
            config.rootfs.diff_ids.len(),
            manifest.layers.len()
        );
    }
    Ok((body, config))
}

/// Tars, whatever their compression; encrypted layers and what is no layer at all are out.
fn is_layer(media_type: &str) -> bool {
    let family = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    let known = family.iter().any(|prefix| media_type.starts_with(prefix)) || media_type.is_empty();
    known && !media_type.ends_with("+encrypted")
}

/// An image made for another machine is refused, unless it says nothing of what it is made for.
fn check_platform(reference: &Reference, wanted: &Platform, config: &ImageConfig) -> Result<()> {
    let actual = config.platform();
    if actual.architecture.is_empty() || wanted.suits(&actual).is_some() {
        return Ok(());
    }
    bail!(Refusal::NotFound(format!(
        "image with reference {} was found but its platform ({actual}) does not match the specified platform ({wanted})",
        reference.familiar()
    )))
}

/// Docker's words, and the status that goes with them, for what registries refuse.
pub fn refusal(reference: &Reference, error: anyhow::Error) -> anyhow::Error {
    let (name, whole) = (reference.familiar_name(), reference.familiar());
    let Some(refused) = error.downcast_ref::<Refused>() else {
        return match error.is::<Refusal>() {
            true => error,
            false => error.context(format!("pull {whole}")),
        };
    };
    let said = refused.to_string();
    let refusal = match (refused.code.as_str(), refused.status) {
        ("MANIFEST_UNKNOWN", _) | ("" | "NOT_FOUND", 404) => {
            Refusal::NotFound(format!("manifest for {whole} not found: {said}"))
        }
        ("NAME_UNKNOWN", _) => Refusal::NotFound(format!("repository {name} not found: {said}")),
        ("DENIED", _) | (_, 403) => Refusal::NotFound(format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': {said}"
        )),
        // A plain 500, as Docker's: at a 401 docker's client asks for a name and a password, be it of nobody.
        (_, 401) => return anyhow::anyhow!("pull {whole}: {said}"),
        _ => return error.context(format!("pull {whole}")),
    };
    anyhow::Error::new(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_words_for_refusals() {
        let reference = Reference::parse("localhost:5000/x:1").unwrap();
        let hub = Reference::parse("nope:latest").unwrap();
        for (reference, status, code, message, expected, words) in [
            (
                &reference,
                404,
                "MANIFEST_UNKNOWN",
                "manifest unknown",
                404,
                "manifest for localhost:5000/x:1 not found: manifest unknown: manifest unknown",
            ),
            (
                &hub,
                401,
                "DENIED",
                "requested access to the resource is denied",
                404,
                "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (&hub, 404, "NAME_UNKNOWN", "gone", 404, "repository nope not found: name unknown: gone"),
            (&hub, 404, "", "unexpected", 404, "manifest for nope:latest not found: unexpected"),
            (
                &hub,
                401,
                "UNAUTHORIZED",
                "authentication required",
                500,
                "pull nope:latest: unauthorized: authentication required",
            ),
        ] {
            let refused = Refused { status, code: code.to_owned(), message: message.to_owned(), retry_after: None };
            let error = refusal(reference, anyhow::Error::new(refused).context("get https://…"));
            let status = error.downcast_ref::<Refusal>().map_or(500, Refusal::status);
            assert_eq!((status, format!("{error:#}").as_str()), (expected, words));
        }
        let error = refusal(&hub, anyhow::anyhow!("the network is down"));
        assert_eq!(format!("{error:#}"), "pull nope:latest: the network is down");
    }

    #[test]
    fn platforms_of_single_images() {
        let reference = Reference::parse("x:1").unwrap();
        let check = |wanted: &str, os: &str, architecture: &str| {
            let config = ImageConfig { os: os.into(), architecture: architecture.into(), ..ImageConfig::default() };
            check_platform(&reference, &Platform::parse(wanted).unwrap(), &config).map_err(|error| error.to_string())
        };
        assert_eq!(check("linux/amd64", "linux", "amd64"), Ok(()));
        assert_eq!(check("linux/amd64", "linux", "386"), Ok(()));
        assert_eq!(check("linux/amd64", "", ""), Ok(()));
        assert_eq!(
            check("linux/amd64", "linux", "arm64").unwrap_err(),
            "image with reference x:1 was found but its platform (linux/arm64) does not match the specified platform (linux/amd64)"
        );
        assert!(check("linux/amd64", "windows", "amd64").is_err());
    }

    #[test]
    fn what_is_a_layer() {
        for (media_type, layer) in [
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            ("application/vnd.in-toto+json", false),
        ] {
            assert_eq!(is_layer(media_type), layer, "{media_type}");
        }
    }
}
