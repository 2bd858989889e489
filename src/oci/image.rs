//! Manifests, indexes and image configs: the OCI image specification 1.1 and Docker's schema 2, in one set of types.

use super::digest::{Algorithm, Digest};
use super::platform::Platform;
use crate::json::fields::fields;
use crate::json::{self, FromTree, Tree, by_serde};
use crate::order::Map;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What overlayfs stacks (OVL_MAX_STACK).
pub const MAX_LAYERS: usize = 500;

/// Media types of both families.
pub mod media {
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
}

/// Points at content: what it is, how long, and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Describes `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            urls: None,
            annotations: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// BuildKit's attestations stand in an index beside the images, for a platform that nobody has.
    pub fn is_attestation(&self) -> bool {
        let unknown = self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
        unknown || self.annotations.as_ref().is_some_and(|a| a.contains_key("vnd.docker.reference.type"))
    }
}

by_serde! { Descriptor, Manifest, Index }

/// An image manifest of either family.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// An OCI index or Docker manifest list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map<String, String>>,
}

/// What a manifest URL answered.
#[derive(Clone, Debug)]
pub enum Document {
    Image(Box<Manifest>),
    Index(Index),
}

impl Document {
    /// Reads a manifest body. The body's own `mediaType` decides over the `Content-Type` header (`hint`); a document
    /// with both `layers` and `manifests` is refused, because readers would disagree on what it is (CVE-2021-41190).
    pub fn parse(body: &[u8], hint: &str) -> Result<Document> {
        fields! {
            #[derive(Default)]
            #[serde(rename_all = "camelCase")]
            struct Head {
                schema_version: Option<u32>,
                media_type: String,
                config: Option<Empty>,
                layers: Option<Empty>,
                manifests: Option<Empty>,
                fs_layers: Option<Empty>,
            }
        }
        let head: Head = json::from_slice(body).context("the manifest is not JSON of a manifest's shape")?;
        let hint = hint.split(';').next().unwrap_or("").trim();
        let said = if head.media_type.is_empty() { hint } else { head.media_type.as_str() };
        if head.fs_layers.is_some()
            || head.schema_version == Some(1)
            || matches!(said, media::DOCKER_SCHEMA1 | media::DOCKER_SCHEMA1_SIGNED)
        {
            bail!(
                "the image has a manifest of Docker's schema 1, which is obsolete and not supported: push it again with a current tool"
            );
        }
        if head.schema_version != Some(2) {
            bail!("unsupported manifest schema version {}", head.schema_version.unwrap_or(0));
        }
        let image = head.config.is_some() || head.layers.is_some();
        if image && head.manifests.is_some() {
            bail!("the manifest is ambiguous: it has both layers and manifests");
        }
        match said {
            media::OCI_INDEX | media::DOCKER_LIST if !image => {}
            media::OCI_MANIFEST | media::DOCKER_MANIFEST if head.manifests.is_none() => {}
            media::OCI_INDEX | media::DOCKER_LIST | media::OCI_MANIFEST | media::DOCKER_MANIFEST => {
                bail!("the manifest is not what its media type {said} says")
            }
            // A registry of plain files sends no telling type.
            "" | "application/json" | "application/octet-stream" | "text/plain" => {}
            other => bail!("unsupported manifest media type {other:?}"),
        }
        if head.manifests.is_some() {
            Ok(Document::Index(json::from_slice(body).context("read the image index")?))
        } else {
            Ok(Document::Image(Box::new(json::from_slice(body).context("read the image manifest")?)))
        }
    }
}

fields! {
    /// An image's configuration, the file whose digest is the image id.
    #[derive(Clone, Debug, Default)]
    pub struct ImageConfig {
        pub architecture: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub variant: String,
        pub os: String,
        #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
        pub os_version: String,
        /// RFC 3339.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub created: Option<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub author: String,
        /// Docker's own: what a commit says.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub comment: String,
        pub config: RunConfig,
        /// Docker's own, of its old builder: the container that became the top layer. Kept as it is for those who ask.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub container_config: Option<serde_json::Value>,
        pub rootfs: RootFs,
        pub history: Vec<History>,
        /// Our own: what other builds find its steps by, where whoever built it wanted that.
        #[serde(rename = "dhow.steps", skip_serializing_if = "Option::is_none")]
        pub steps: Option<serde_json::Value>,
    }
}

impl ImageConfig {
    /// Reads a config and checks what the rest relies on. A config that is not JSON is an error that says so.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        let config: ImageConfig = json::from_slice(bytes).context("the image config is not valid")?;
        if config.rootfs.kind != "layers" {
            bail!("the image config is not valid: rootfs type {:?} is not \"layers\"", config.rootfs.kind);
        }
        Ok(config)
    }

    /// Checks that its layers can be had at all: as many as overlayfs stacks, known by the digests that are computed.
    pub fn check_layers(&self) -> Result<()> {
        let diff_ids = &self.rootfs.diff_ids;
        if diff_ids.len() > MAX_LAYERS {
            bail!("it has {} layers, more than the {MAX_LAYERS} that overlayfs takes", diff_ids.len());
        }
        match diff_ids.iter().find(|diff_id| diff_id.algorithm() != Algorithm::Sha256) {
            Some(diff_id) => bail!("the diff id {diff_id} is not a sha256"),
            None => Ok(()),
        }
    }

    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            ..Platform::default()
        }
    }
}

fields! {
    /// How to run a container of the image. Docker keeps null, empty and absent apart in some fields: so do we.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    pub struct RunConfig {
        #[serde(skip_serializing_if = "String::is_empty")]
        pub user: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub exposed_ports: Option<Map<String, Empty>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub env: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub entrypoint: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cmd: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volumes: Option<Map<String, Empty>>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub working_dir: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub labels: Option<Map<String, String>>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<Healthcheck>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shell: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub on_build: Option<Vec<String>>,
        #[serde(skip_serializing_if = "is_false")]
        pub args_escaped: bool,
    }

    /// Docker's `HEALTHCHECK`; durations in nanoseconds, 0 means the default.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    pub struct Healthcheck {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub test: Option<Vec<String>>,
        #[serde(skip_serializing_if = "is_zero")]
        pub interval: i64,
        #[serde(skip_serializing_if = "is_zero")]
        pub timeout: i64,
        #[serde(skip_serializing_if = "is_zero")]
        pub start_period: i64,
        #[serde(skip_serializing_if = "is_zero")]
        pub start_interval: i64,
        #[serde(skip_serializing_if = "is_zero")]
        pub retries: i64,
    }
}

/// Go's `struct{}`: written as `{}`, whatever was in it is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Empty;

impl Serialize for Empty {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        serializer.serialize_map(Some(0))?.end()
    }
}

impl FromTree for Empty {
    fn from_tree(_: Tree) -> Result<Empty, json::Error> {
        Ok(Empty)
    }
}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Empty, D::Error> {
        json::by_tree(deserializer)
    }
}

fields! {
    /// The layers of an image as digests of their uncompressed tars, lowest first.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct RootFs {
        #[serde(rename = "type")]
        pub kind: String,
        pub diff_ids: Vec<Digest>,
    }
}

fields! {
    /// One step in the making of an image.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct History {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub created: Option<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub created_by: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub author: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub comment: String,
        #[serde(skip_serializing_if = "is_false")]
        pub empty_layer: bool,
    }
}

/// Chain ids, lowest first: what identifies a layer together with everything below it.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// For a field that may be null, as Go writes what is empty.
pub(super) fn null_is_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn is_empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn documents_by_what_they_are() {
        let image =
            |media: &str| format!(r#"{{"schemaVersion":2,{media}"config":{{"digest":"{D}","size":2}},"layers":[]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{D}","size":2,"mediaType":"x"}}]}}"#);
        assert!(matches!(Document::parse(image("").as_bytes(), media::OCI_MANIFEST), Ok(Document::Image(_))));
        assert!(matches!(
            Document::parse(image("").as_bytes(), "application/json; charset=utf-8"),
            Ok(Document::Image(_))
        ));
        assert!(matches!(Document::parse(index.as_bytes(), media::OCI_INDEX), Ok(Document::Index(_))));
        let typed = image(&format!("\"mediaType\":\"{}\",", media::DOCKER_MANIFEST));
        assert!(matches!(Document::parse(typed.as_bytes(), ""), Ok(Document::Image(_))));

        for (body, hint, words) in [
            ("{", "", "not JSON"),
            ("[]", "", "not JSON"),
            ("{}", "", "schema version 0"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, media::DOCKER_SCHEMA1_SIGNED, "schema 1"),
            (r#"{"schemaVersion":2,"config":{},"manifests":[]}"#, "", "ambiguous"),
            (&index, media::OCI_MANIFEST, "not what its media type"),
            (&image(""), media::DOCKER_LIST, "not what its media type"),
            (&image(""), "text/html", "unsupported manifest media type \"text/html\""),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:../../etc","size":1},"layers":[]}"#,
                "",
                "read the image manifest",
            ),
            (r#"{"schemaVersion":2,"config":{"digest":"x","size":-1},"layers":[]}"#, "", "read the image manifest"),
        ] {
            let error = format!("{:#}", Document::parse(body.as_bytes(), hint).unwrap_err());
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn a_docker_config_is_read_and_written() {
        let text = format!(
            r#"{{"architecture":"arm","variant":"v7","os":"linux","created":"2024-01-01T00:00:00Z","config":{{"User":"1:2","ExposedPorts":{{"80/tcp":{{}}}},"Env":["A=b"],"Entrypoint":["/e"],"Cmd":null,"Volumes":null,"WorkingDir":"/w","Labels":{{"a":"b"}},"OnBuild":null,"Healthcheck":{{"Test":["CMD","x"],"Interval":5}},"ArgsEscaped":true,"Hostname":"x"}},"rootfs":{{"type":"layers","diff_ids":["{D}"]}},"history":[{{"created_by":"x","empty_layer":true}}],"docker_version":"20"}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm/v7");
        assert_eq!(config.config.entrypoint.as_deref(), Some(&["/e".to_owned()][..]));
        assert_eq!(config.config.cmd, None);
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["config"]["ExposedPorts"]["80/tcp"], serde_json::json!({}));
        assert_eq!(written["config"]["Healthcheck"]["Interval"], 5);
        assert!(ImageConfig::parse(br#"{"config":null,"rootfs":{"type":"layers","diff_ids":null}}"#).is_ok());
        for bad in
            ["", "not json", "{}", r#"{"rootfs":{"type":"x"}}"#, r#"{"rootfs":{"type":"layers","diff_ids":["x"]}}"#]
        {
            let error = format!("{:#}", ImageConfig::parse(bad.as_bytes()).unwrap_err());
            assert!(error.starts_with("the image config is not valid"), "{bad}: {error}");
        }
    }

    #[test]
    fn chains() {
        let diff = Digest::parse(D).unwrap();
        let chain = chain_ids(&[diff.clone(), diff.clone()]);
        assert_eq!(chain[0], diff);
        assert_eq!(chain[1], Digest::of(format!("{D} {D}").as_bytes()));
    }
}
