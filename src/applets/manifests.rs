//! The lists of manifests that are being put together, in the form and in the place of Docker's own client:
//! `~/.docker/manifests/<list>/<image>`, a file for each image that a list names.

use super::contexts;
use crate::api::base64;
use crate::json::{self, by_serde};
use crate::oci::image::{Descriptor, media};
use crate::oci::reference::Reference;
use crate::order;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An image that a list names: what it is for, and its manifest.
pub struct Member {
    pub reference: Reference,
    /// With the platform.
    pub descriptor: Descriptor,
    pub body: Vec<u8>,
}

/// As it lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    r#ref: String,
    descriptor: Descriptor,
    raw: String,
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    docker: Option<serde_json::Value>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<serde_json::Value>,
}

by_serde! { Kept }

impl Member {
    fn kept(&self) -> Result<Kept> {
        let manifest = Some(json::from_slice(&self.body).context("the manifest is not JSON")?);
        let oci = self.descriptor.media_type == media::OCI_MANIFEST;
        let (docker, oci) = if oci { (None, manifest) } else { (manifest, None) };
        let (r#ref, raw) = (self.reference.to_string(), base64::encode(&self.body));
        Ok(Kept { r#ref, descriptor: self.descriptor.clone(), raw, docker, oci })
    }

    /// In Docker's JSON, for `manifest inspect --verbose`.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string(&self.kept()?).context("encode a manifest")
    }
}

/// The images of a list, by name; none where there is no such list.
pub fn members(list: &Reference) -> Result<Vec<Member>> {
    let dir = dir(list)?;
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
    };
    let mut members = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden {
            members.push(read(&path).with_context(|| format!("read {}", path.display()))?);
        }
    }
    order::by(&mut members, |a, b| a.reference.cmp(&b.reference));
    Ok(members)
}

fn read(path: &Path) -> Result<Member> {
    let kept: Kept = json::from_slice(&fs::read(path)?)?;
    let body = base64::decode(&kept.raw).context("its manifest is not base64")?;
    kept.descriptor.digest.verify(&body)?;
    Ok(Member { reference: Reference::parse(&kept.r#ref)?, descriptor: kept.descriptor, body })
}

/// Puts an image into a list, or in the place of itself.
pub fn put(list: &Reference, member: &Member) -> Result<()> {
    let dir = dir(list)?;
    let name = file_name(&member.reference);
    let (path, temporary) = (dir.join(&name), dir.join(format!(".{name}.{}", std::process::id())));
    let bytes = serde_json::to_vec(&member.kept()?).context("encode a manifest")?;
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir)?;
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
        file.write_all(&bytes)?;
        fs::rename(&temporary, &path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary))).with_context(|| format!("write {}", path.display()))
}

/// Forgets a list; `false` where there is none.
pub fn remove(list: &Reference) -> Result<bool> {
    let dir = dir(list)?;
    match fs::remove_dir_all(&dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("remove {}", dir.display())),
    }
}

fn dir(list: &Reference) -> Result<PathBuf> {
    let config = contexts::config_dir().context("neither DOCKER_CONFIG nor HOME is set")?;
    Ok(config.join("manifests").join(file_name(list)))
}

/// A reference begins with a domain, so its name is never `.` or `..`.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_dockers() {
        let name = |text| file_name(&Reference::parse(text).unwrap().or_latest());
        assert_eq!(name("localhost:5000/a/b:v1"), "localhost-5000_a_b-v1");
        assert_eq!(name("busybox"), "docker.io_library_busybox-latest");
    }
}
