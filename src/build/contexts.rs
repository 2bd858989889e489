//! `--build-context`: files and images that a Dockerfile takes from under a name, which goes before the names of stages
//! and images.

use super::asked::Asked;
use super::context;
use super::git::{Address, Keys, Repository};
use super::transfer::gather::Tree;
use crate::api::Refusal;
use crate::api::wire::Caller;
use crate::engine::images::Layout;
use crate::engine::store::{self, Lease};
use crate::fs::path;
use crate::oci::registry::Settings;
use crate::oci::{Digest, Reference};
use crate::order::Map;
use anyhow::{Context as _, Result, bail};
use nix::fcntl::renameat;
use std::os::fd::{AsFd, OwnedFd};

/// What a name stands for.
pub enum Named {
    Image(String),
    Layout(Layout),
    Files(Tree),
}

/// What was said of a name.
#[derive(Debug, PartialEq)]
pub enum Value {
    Image(String),
    Url(String),
    /// Of who asks; to who builds it comes with the request.
    Folder(String),
    /// An image of an OCI layout in such a folder, by its tag or digest.
    Layout(String, Option<String>, Option<Digest>),
}

const LAYOUT: &str = "oci-layout://";

impl Value {
    pub fn parse(text: &str) -> Result<Value> {
        if let Some(image) = text.strip_prefix("docker-image://") {
            Reference::parse(image).map_err(|error| Refusal::BadParameter(format!("{image}: {error:#}")))?;
            return Ok(Value::Image(image.to_owned()));
        }
        if let Some(layout) = text.strip_prefix(LAYOUT) {
            let (rest, digest) = layout.split_once('@').map_or((layout, None), |(rest, digest)| (rest, Some(digest)));
            let digest = digest.map(Digest::parse).transpose();
            let digest = digest.map_err(|error| Refusal::BadParameter(format!("{text}: {error:#}")))?;
            let (dir, tag) = rest.split_once(':').map_or((rest, None), |(dir, tag)| (dir, Some(tag.to_owned())));
            if dir.is_empty() || tag.as_ref().is_some_and(String::is_empty) {
                bail!(Refusal::BadParameter(format!("{text}: expected {LAYOUT}DIR[:tag][@digest]")));
            }
            return Ok(Value::Layout(dir.to_owned(), tag, digest));
        }
        if Address::parse(text, true)?.is_some() {
            return Ok(Value::Url(text.to_owned()));
        }
        Ok(match text.starts_with("http://") || text.starts_with("https://") {
            true => Value::Url(text.to_owned()),
            false => Value::Folder(text.to_owned()),
        })
    }
}

impl Value {
    /// The folder that belongs to it.
    pub fn folder(&self) -> Option<&str> {
        match self {
            Value::Folder(dir) | Value::Layout(dir, ..) => Some(dir),
            Value::Image(_) | Value::Url(_) => None,
        }
    }

    /// The text of it; a folder lies elsewhere for who builds.
    pub fn text(&self, folder: String) -> String {
        match self {
            Value::Image(image) => format!("docker-image://{image}"),
            Value::Url(url) => url.clone(),
            Value::Folder(_) => folder,
            Value::Layout(_, tag, digest) => {
                let tag = tag.iter().map(|tag| format!(":{tag}"));
                let parts: Vec<String> = tag.chain(digest.iter().map(|digest| format!("@{digest}"))).collect();
                format!("{LAYOUT}{folder}{}", parts.concat())
            }
        }
    }
}

/// A name as it is looked up: of an image, without what is the same anyway. None of what cannot be one.
pub fn canonical(name: &str) -> Option<String> {
    let familiar = Reference::parse(name).ok()?.or_latest().familiar();
    Some(familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned())
}

/// All of them.
#[derive(Default)]
pub struct Contexts(Map<String, Named>);

/// Folders that come with a tar lie in a directory of such a name.
pub const INSIDE: &str = ".contexts.";

/// Whether folders of named contexts come in a tar.
pub fn come_along(asked: &Asked) -> bool {
    asked.contexts.values().any(|text| text.strip_prefix(LAYOUT).unwrap_or(text).starts_with(INSIDE))
}

impl Contexts {
    pub fn get(&self, name: &str) -> Option<&Named> {
        let reserved = ["scratch", "context"].iter().any(|it| name.eq_ignore_ascii_case(it));
        if self.0.is_empty() || reserved { None } else { self.0.get(&canonical(name)?) }
    }

    pub fn files(&self, name: &str) -> Option<&Tree> {
        match self.get(name)? {
            Named::Files(tree) => Some(tree),
            Named::Image(_) | Named::Layout(_) => None,
        }
    }

    /// Reads what was said. Folders are open, or lie in the context `unpacked`, of which they are no part.
    pub fn open(
        asked: &Asked,
        mut folders: Vec<(String, OwnedFd)>,
        unpacked: Option<&Tree>,
        lease: &Lease,
        settings: &Settings,
        caller: &Caller,
    ) -> Result<Contexts> {
        let mut all = Map::new();
        let mut inside = None;
        for (count, (name, text)) in asked.contexts.iter().enumerate() {
            let invalid = || Refusal::BadParameter(format!("invalid context name {name}"));
            let known = canonical(name).ok_or_else(invalid)?;
            let value = Value::parse(text)?;
            let root = match &value {
                Value::Image(image) => {
                    all.insert(known, Named::Image(image.clone()));
                    continue;
                }
                Value::Url(url) => {
                    let place = lease.tmp()?.join(format!("context-{count}"));
                    store::make_dir(&place, 0o755).with_context(|| format!("make {}", place.display()))?;
                    if let Some(address) = Address::parse(url, true)? {
                        let repository = Repository::find(address, place, Keys::User, &asked.secrets, caller)?;
                        let named = Named::Files(files(repository.files(false)?)?);
                        all.insert(known, named);
                        continue;
                    }
                    let root = path::open_root(&place)?;
                    context::unpack(context::remote(url, settings)?, root.as_fd())
                        .with_context(|| format!("the context {name}"))?;
                    root
                }
                Value::Folder(at) | Value::Layout(at, ..) => match folders.iter().position(|(of, _)| of == name) {
                    Some(at) => folders.swap_remove(at).1,
                    None => {
                        let missing = || Refusal::BadParameter(format!("the files of the context {name} did not come"));
                        let tree = unpacked.filter(|_| at.starts_with(INSIDE)).ok_or_else(missing)?;
                        inside = Some((tree, path::first(at.as_bytes()).to_vec()));
                        path::open_dir(tree.root.as_fd(), at.as_bytes(), path::NO_LINKS).map_err(|_| missing())?
                    }
                },
            };
            let named = match value {
                Value::Layout(_, tag, digest) => Named::Layout(Layout { root, tag, digest }),
                _ => Named::Files(files(root)?),
            };
            all.insert(known, named);
        }
        if let Some((tree, dir)) = inside {
            renameat(&tree.root, &dir[..], nix::fcntl::AT_FDCWD, &lease.tmp()?.join("contexts"))
                .context("put the named contexts aside")?;
        }
        Ok(Contexts(all))
    }
}

fn files(root: OwnedFd) -> Result<Tree> {
    let ignore = context::ignored(root.as_fd(), "")?;
    Ok(Tree { root, ignore, called: "the named context", owned: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_say_what_they_are() {
        for (text, value) in [
            ("docker-image://busybox:1", Value::Image("busybox:1".into())),
            ("https://h/x.git#main", Value::Url("https://h/x.git#main".into())),
            ("http://h/x.tar", Value::Url("http://h/x.tar".into())),
            ("../folder", Value::Folder("../folder".into())),
            ("oci-layout://a/b", Value::Layout("a/b".into(), None, None)),
            ("oci-layout://a:1.2", Value::Layout("a".into(), Some("1.2".into()), None)),
        ] {
            let parsed = Value::parse(text).unwrap();
            assert_eq!(parsed.text(parsed.folder().unwrap_or_default().to_owned()), text);
            assert_eq!(parsed, value);
        }
        let digest = Digest::of(b"x");
        for tag in [None, Some("t".to_owned())] {
            let value = Value::Layout("a".into(), tag, Some(digest.clone()));
            assert_eq!(Value::parse(&value.text("a".into())).unwrap(), value);
        }
        for (text, words) in [
            ("docker-image://UPPER", "UPPER"),
            ("oci-layout://", "expected oci-layout://DIR"),
            ("oci-layout://a:", "expected oci-layout://DIR"),
            ("oci-layout://a@sha256:1", "sha256:1"),
        ] {
            let error = format!("{:#}", Value::parse(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_those_of_images() {
        for (name, known) in [
            ("base", Some("base")),
            ("base:latest", Some("base")),
            ("docker.io/library/base:1", Some("base:1")),
            ("h.example/x", Some("h.example/x")),
            ("Base", None),
            ("", None),
        ] {
            assert_eq!(canonical(name).as_deref(), known, "{name}");
        }
    }
}
