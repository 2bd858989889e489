//! Archives of images: what is in Docker's own (`manifest.json`, image specification 1.2) and in an OCI layout
//! (`oci-layout`, `index.json`, `blobs/`). Docker writes both into one tar since 25.

use super::digest::Digest;
use super::image::Descriptor;
use crate::json::fields::fields;
use crate::order::Map;

pub const MANIFEST: &str = "manifest.json";
pub const REPOSITORIES: &str = "repositories";
pub const INDEX: &str = "index.json";
pub const LAYOUT: &str = "oci-layout";
/// What `oci-layout` says.
pub const LAYOUT_BODY: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The name of an image as containerd writes it beside its manifest, in full.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// The tag alone, or what the writer took for a name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

fields! {
    /// One image in `manifest.json`: where its parts are in the archive.
    #[derive(Clone, Debug, Default)]
    #[serde(rename_all = "PascalCase")]
    pub struct Item {
        pub config: String,
        /// Null where there are none.
        pub repo_tags: Option<Vec<String>>,
        /// Lowest first.
        pub layers: Option<Vec<String>>,
        /// The id of the image that it was made from, if that is here too.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub parent: String,
        /// By diff id.
        #[serde(skip_serializing_if = "Map::is_empty")]
        pub layer_sources: Map<String, Descriptor>,
    }
}

/// Where an archive keeps the content of a digest.
pub fn blob(digest: &Digest) -> String {
    let text = digest.to_string();
    format!("blobs/{}", text.replacen(':', "/", 1))
}
