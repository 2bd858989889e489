//! `tag`: another name for an image.

use super::super::events;
use super::super::store::Store;
use super::{find, load, references};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::oci::Reference;
use anyhow::{Result, bail};

/// The name that a request spells as a repository and a tag, of which both may have the tag; `None` where there is no
/// repository. Digests are given by content, not by hand.
pub fn name(repository: &str, tag: &str) -> Result<Option<Reference>> {
    if repository.is_empty() {
        return Ok(None);
    }
    let bad = |error: anyhow::Error| Refusal::BadParameter(error.to_string());
    let reference = Reference::parse(repository).map_err(bad)?;
    if reference.digest.is_some() {
        bail!(Refusal::BadParameter("refusing to create a tag with a digest reference".to_owned()));
    }
    let reference = if tag.is_empty() { reference } else { reference.with_tag(tag).map_err(bad)? };
    if reference.familiar_name() == "sha256" {
        bail!(Refusal::BadParameter("refusing to create an ambiguous tag using digest algorithm as name".to_owned()));
    }
    Ok(Some(reference.or_latest()))
}

/// `POST /images/{name}/tag`.
pub fn tag(store: &Store, image: &str, repository: &str, tag: &str) -> Result<()> {
    let Some(reference) = name(repository, tag)? else {
        bail!(Refusal::BadParameter("invalid reference format".to_owned()));
    };
    give(store, image, &reference)
}

/// Gives a name by hand, which the image remembers.
pub fn give(store: &Store, image: &str, reference: &Reference) -> Result<()> {
    // Found under the lock: what is found cannot be removed before it has its new name.
    let gc = store.gc_shared()?;
    let id = find(store, image)?.id;
    let references = references::lock(store)?;
    let Some(mut image) = load(store, id.hex())? else {
        bail!(Refusal::NotFound(format!("No such image: {id}")));
    };
    image.last_tag_time = Some(Time::now().to_string());
    image.save(store)?;
    references::put(store, reference, &id)?;
    drop((references, gc));
    let labels = image.config.config.labels.as_ref();
    events::image(store, labels, "tag", &id.to_string(), &reference.familiar());
    Ok(())
}
