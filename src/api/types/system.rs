//! What the engine says of itself.

use super::{ContainerSummary, ImageSummary, Volume, is_zero, wire};
use crate::order::Map;
use serde::ser::{Error, Serialize, Serializer};

/// Images of which those that have no name or digest have null for it, and no empty list as elsewhere: as with dockerd.
fn names_or_null<S: Serializer>(images: &Option<Vec<ImageSummary>>, serializer: S) -> Result<S::Ok, S::Error> {
    let bare = |image: &ImageSummary| {
        let mut value = serde_json::to_value(image).map_err(S::Error::custom)?;
        for name in ["RepoDigests", "RepoTags"] {
            if value[name].as_array().is_some_and(Vec::is_empty) {
                value[name] = serde_json::Value::Null;
            }
        }
        Ok(value)
    };
    let images = images.as_ref().map(|images| images.iter().map(bare).collect::<Result<Vec<_>, _>>()).transpose()?;
    images.serialize(serializer)
}

wire! {
    /// The answer of `GET /system/df`; a kind that was not asked for is null.
    pub struct DiskUsage {
        /// Bytes of all layers of images, each once.
        pub layers_size: i64,
        #[serde(serialize_with = "names_or_null")]
        pub images: Option<Vec<ImageSummary>>,
        pub containers: Option<Vec<ContainerSummary>>,
        pub volumes: Option<Vec<Volume>>,
        pub build_cache: Option<Vec<BuildCache>>,
        /// Bytes of the cache, for clients of API versions before 1.42.
        #[serde(skip_serializing_if = "is_zero")]
        pub builder_size: i64,
    }

    /// A record of a build's cache.
    pub struct BuildCache {
        #[serde(rename = "ID")]
        pub id: String,
        pub r#type: String,
        /// The instruction, for people.
        pub description: String,
        pub in_use: bool,
        pub shared: bool,
        /// Bytes.
        pub size: i64,
        pub created_at: String,
        pub last_used_at: Option<String>,
    }

    /// The answer of `POST /build/prune`.
    pub struct BuildPruned {
        pub caches_deleted: Option<Vec<String>>,
        /// Bytes.
        pub space_reclaimed: u64,
    }

    /// The answer of `GET /version`.
    pub struct Version {
        pub platform: VersionPlatform,
        pub components: Vec<VersionComponent>,
        pub version: String,
        pub api_version: String,
        #[serde(rename = "MinAPIVersion")]
        pub min_api_version: String,
        pub git_commit: String,
        pub go_version: String,
        pub os: String,
        pub arch: String,
        pub kernel_version: String,
        #[serde(skip_serializing_if = "is_zero")]
        pub experimental: bool,
        pub build_time: String,
    }

    pub struct VersionPlatform {
        pub name: String,
    }

    pub struct VersionComponent {
        pub name: String,
        pub version: String,
        pub details: Map<String, String>,
    }

    /// The answer of `GET /info`.
    pub struct Info {
        #[serde(rename = "ID")]
        pub id: String,
        pub containers: i64,
        pub containers_running: i64,
        pub containers_paused: i64,
        pub containers_stopped: i64,
        pub images: i64,
        pub driver: String,
        /// Pairs of name and value.
        pub driver_status: Vec<[String; 2]>,
        pub plugins: Plugins,
        pub memory_limit: bool,
        pub swap_limit: bool,
        pub cpu_cfs_period: bool,
        pub cpu_cfs_quota: bool,
        #[serde(rename = "CPUShares")]
        pub cpu_shares: bool,
        #[serde(rename = "CPUSet")]
        pub cpu_set: bool,
        pub pids_limit: bool,
        #[serde(rename = "IPv4Forwarding")]
        pub ipv4_forwarding: bool,
        pub debug: bool,
        #[serde(rename = "NFd")]
        pub n_fd: i64,
        pub oom_kill_disable: bool,
        #[serde(rename = "NGoroutines")]
        pub n_goroutines: i64,
        pub system_time: String,
        pub logging_driver: String,
        pub cgroup_driver: String,
        pub cgroup_version: String,
        #[serde(rename = "NEventsListener")]
        pub n_events_listener: i64,
        pub kernel_version: String,
        pub operating_system: String,
        #[serde(rename = "OSVersion")]
        pub os_version: String,
        #[serde(rename = "OSType")]
        pub os_type: String,
        pub architecture: String,
        pub index_server_address: String,
        pub registry_config: RegistryConfig,
        #[serde(rename = "NCPU")]
        pub n_cpu: i64,
        /// Bytes.
        pub mem_total: i64,
        pub generic_resources: Option<Vec<serde_json::Value>>,
        pub docker_root_dir: String,
        pub http_proxy: String,
        pub https_proxy: String,
        pub no_proxy: String,
        pub name: String,
        pub labels: Vec<String>,
        pub experimental_build: bool,
        pub server_version: String,
        pub runtimes: Map<String, RuntimePath>,
        pub default_runtime: String,
        pub swarm: SwarmInfo,
        pub live_restore_enabled: bool,
        pub isolation: String,
        pub init_binary: String,
        #[serde(rename = "ContainerdCommit")]
        pub containerd_commit: Commit,
        pub runc_commit: Commit,
        pub init_commit: Commit,
        pub security_options: Vec<String>,
        #[serde(rename = "CDISpecDirs")]
        pub cdi_spec_dirs: Vec<String>,
        /// By drivers of devices that can list theirs (1.50).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub discovered_devices: Vec<DiscoveredDevice>,
        /// For clients of API versions before 1.50.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bridge_nf_iptables: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bridge_nf_ip6tables: Option<bool>,
        pub warnings: Option<Vec<String>>,
    }

    pub struct DiscoveredDevice {
        /// The driver.
        pub source: String,
        #[serde(rename = "ID")]
        pub id: String,
    }

    pub struct Plugins {
        pub volume: Vec<String>,
        pub network: Vec<String>,
        pub authorization: Option<Vec<String>>,
        pub log: Vec<String>,
    }

    pub struct RegistryConfig {
        pub index_configs: Map<String, IndexInfo>,
        #[serde(rename = "InsecureRegistryCIDRs")]
        pub insecure_registry_cidrs: Vec<String>,
        pub mirrors: Option<Vec<String>>,
        /// Null for clients of API versions before 1.47.
        #[serde(rename = "AllowNondistributableArtifactsCIDRs", skip_serializing_if = "Option::is_none")]
        pub foreign_cidrs: Option<()>,
        #[serde(rename = "AllowNondistributableArtifactsHostnames", skip_serializing_if = "Option::is_none")]
        pub foreign_hosts: Option<()>,
    }

    pub struct IndexInfo {
        pub mirrors: Vec<String>,
        pub name: String,
        pub official: bool,
        pub secure: bool,
    }

    pub struct RuntimePath {
        #[serde(rename = "path")]
        pub path: String,
    }

    pub struct SwarmInfo {
        #[serde(rename = "NodeID")]
        pub node_id: String,
        pub node_addr: String,
        pub local_node_state: String,
        pub control_available: bool,
        pub error: String,
        pub remote_managers: Option<Vec<serde_json::Value>>,
    }

    pub struct Commit {
        #[serde(rename = "ID")]
        pub id: String,
    }
}
