//! Volumes.

use super::wire;
use crate::order::Map;

wire! {
    /// One volume.
    pub struct Volume {
        /// RFC 3339, seconds.
        pub created_at: String,
        pub driver: String,
        pub labels: Option<Map<String, String>>,
        pub mountpoint: String,
        pub name: String,
        pub options: Option<Map<String, String>>,
        pub scope: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub usage_data: Option<VolumeUsage>,
    }

    /// -1 where not counted.
    pub struct VolumeUsage {
        pub ref_count: i64,
        pub size: i64,
    }

    /// The answer of `GET /volumes`.
    pub struct VolumeList {
        pub volumes: Vec<Volume>,
        pub warnings: Option<Vec<String>>,
    }

    /// A body of `POST /volumes/create`.
    pub struct VolumeCreate {
        pub driver: String,
        pub driver_opts: Option<Map<String, String>>,
        pub labels: Option<Map<String, String>>,
        /// Empty for an anonymous one.
        pub name: String,
        /// Of a volume that a whole swarm has, which is refused.
        pub cluster_volume_spec: Option<serde_json::Value>,
    }

    /// The answer of `POST /volumes/prune`.
    pub struct VolumesPruned {
        pub volumes_deleted: Option<Vec<String>>,
        pub space_reclaimed: u64,
    }
}
