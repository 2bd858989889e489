//! Images.

use super::{ContainerConfig, GraphDriver, Healthcheck, Nothing, is_zero, wire};
use crate::order::Map;

wire! {
    /// One line of `GET /images/json`.
    pub struct ImageSummary {
        /// -1 if not counted.
        pub containers: i64,
        /// Seconds since 1970.
        pub created: i64,
        pub id: String,
        pub labels: Option<Map<String, String>>,
        pub parent_id: String,
        pub repo_digests: Vec<String>,
        pub repo_tags: Vec<String>,
        /// Bytes; -1 if not counted.
        pub shared_size: i64,
        pub size: i64,
        /// The same, for clients of API versions before 1.44.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub virtual_size: Option<i64>,
    }

    /// The answer of `GET /images/{name}/json`.
    pub struct ImageInspect {
        pub id: String,
        pub repo_tags: Vec<String>,
        pub repo_digests: Vec<String>,
        pub parent: String,
        pub comment: String,
        /// RFC 3339.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub created: String,
        /// What the container was that became the image, for clients of API versions before 1.45.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub container_config: Option<ContainerConfig>,
        pub docker_version: String,
        pub author: String,
        pub architecture: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub variant: String,
        pub os: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub os_version: String,
        pub size: i64,
        /// The same, for clients of API versions before 1.44.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub virtual_size: Option<i64>,
        pub graph_driver: GraphDriver,
        #[serde(rename = "RootFS")]
        pub root_fs: RootFs,
        pub metadata: ImageMetadata,
        pub config: ImageConfig,
    }

    /// The diff ids of an image, from the lowest.
    pub struct RootFs {
        pub r#type: String,
        #[serde(skip_serializing_if = "is_zero")]
        pub layers: Option<Vec<String>>,
    }

    pub struct ImageMetadata {
        pub last_tag_time: String,
    }

    /// What an image says of the containers made from it.
    pub struct ImageConfig {
        #[serde(skip_serializing_if = "is_zero")]
        pub args_escaped: bool,
        pub cmd: Option<Vec<String>>,
        pub entrypoint: Option<Vec<String>>,
        pub env: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub exposed_ports: Option<Map<String, Nothing>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<Healthcheck>,
        pub labels: Option<Map<String, String>>,
        pub on_build: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shell: Option<Vec<String>>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        pub user: String,
        pub volumes: Option<Map<String, Nothing>>,
        pub working_dir: String,
        /// What says nothing in an image, for clients of API versions before 1.50. Written, never read.
        #[serde(flatten, skip_deserializing)]
        pub of_container: Option<OfContainer>,
    }

    /// What a container's configuration has and an image's has not.
    pub struct OfContainer {
        pub hostname: String,
        pub domainname: String,
        pub attach_stdin: bool,
        pub attach_stdout: bool,
        pub attach_stderr: bool,
        pub tty: bool,
        pub open_stdin: bool,
        pub stdin_once: bool,
        pub image: String,
    }

    /// One step of an image's history, newest first.
    pub struct HistoryItem {
        pub comment: String,
        /// Seconds since 1970.
        pub created: i64,
        pub created_by: String,
        /// `<missing>` for all but the image itself.
        pub id: String,
        pub size: i64,
        pub tags: Option<Vec<String>>,
    }

    /// One image that a search found.
    pub struct SearchResult {
        #[serde(rename = "name")]
        pub name: String,
        #[serde(rename = "description")]
        pub description: String,
        #[serde(rename = "star_count")]
        pub star_count: i64,
        #[serde(rename = "is_official")]
        pub is_official: bool,
    }

    /// One step of a removal: either a name or an id.
    pub struct ImageDeleted {
        #[serde(skip_serializing_if = "String::is_empty")]
        pub untagged: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub deleted: String,
    }

    /// The answer of `POST /images/prune`.
    pub struct ImagesPruned {
        pub images_deleted: Option<Vec<ImageDeleted>>,
        pub space_reclaimed: u64,
    }
}
