//! Containers: what is asked of create, and what inspect and list answer.

use super::{HostConfig, Nothing, PortBinding, Words, is_zero, wire};
use crate::api::types::network::{EndpointSettings, NetworkSettings, NetworkingConfig, PortSummary, SummaryNetworks};
use crate::json::fields::fields;
use crate::json::{self, FromTree, Tree};
use crate::order::Map;
use serde::Serialize;

/// A body of `POST /containers/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerCreate {
    #[serde(flatten)]
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub networking_config: NetworkingConfig,
    /// Not on the wire: what is mounted below a read-only bind stays writable, as before 1.44.
    #[serde(skip)]
    pub read_only_non_recursive: bool,
}

fields! {
    /// What a body says beside the configuration.
    #[derive(Default)]
    #[serde(rename_all = "PascalCase")]
    struct Beside {
        host_config: HostConfig,
        networking_config: NetworkingConfig,
    }
}

impl ContainerCreate {
    /// Fields of a body that are not the configuration's, which stand beside it.
    pub fn is_beside(name: &str) -> bool {
        ["HostConfig", "NetworkingConfig"].iter().any(|field| field.eq_ignore_ascii_case(name))
    }
}

impl FromTree for ContainerCreate {
    fn from_tree(body: Tree) -> Result<ContainerCreate, json::Error> {
        let (beside, config) = match body {
            Tree::Object(entries) => {
                let (beside, config) = entries.into_iter().partition(|(name, _)| ContainerCreate::is_beside(name));
                (Tree::Object(beside), Tree::Object(config))
            }
            other => (Tree::Object(Vec::new()), other),
        };
        let config = json::from_tree(config)?;
        let Beside { host_config, networking_config } = json::from_tree(beside)?;
        Ok(ContainerCreate { config, host_config, networking_config, read_only_non_recursive: false })
    }
}

fields! {
    /// The part of a container that travels with it to other hosts.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    pub struct ContainerConfig {
        pub hostname: String,
        pub domainname: String,
        /// `user[:group]`, names or numbers.
        pub user: String,
        pub attach_stdin: bool,
        pub attach_stdout: bool,
        pub attach_stderr: bool,
        /// Keys like `80/tcp`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub exposed_ports: Option<Map<String, Option<Nothing>>>,
        pub tty: bool,
        pub open_stdin: bool,
        /// Stdin closes when the first client that is attached to it leaves.
        pub stdin_once: bool,
        /// `NAME=value`; `NAME` alone removes one of the image's.
        pub env: Option<Vec<String>>,
        pub cmd: Option<Vec<String>> as Words,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<Healthcheck>,
        #[serde(skip_serializing_if = "is_zero")]
        pub args_escaped: bool,
        pub image: String,
        /// Anonymous volumes: keys are paths in the container.
        pub volumes: Option<Map<String, Option<Nothing>>>,
        pub working_dir: String,
        pub entrypoint: Option<Vec<String>> as Words,
        #[serde(skip_serializing_if = "is_zero")]
        pub network_disabled: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mac_address: String,
        pub on_build: Option<Vec<String>>,
        pub labels: Option<Map<String, String>>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Seconds; -1 waits for ever.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shell: Option<Vec<String>> as Words,
    }
}

wire! {
    /// A health check; durations in nanoseconds, 0 inherits.
    pub struct Healthcheck {
        /// `["NONE"]`, `["CMD", word…]` or `["CMD-SHELL", line]`; empty inherits.
        #[serde(skip_serializing_if = "is_zero")]
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

    /// The answer of create.
    pub struct ContainerCreated {
        pub id: String,
        /// Never null.
        pub warnings: Vec<String>,
    }

    /// The answer of `GET /containers/{id}/json`.
    pub struct ContainerInspect {
        pub id: String,
        /// RFC 3339, nanoseconds.
        pub created: String,
        pub path: String,
        pub args: Vec<String>,
        pub state: State,
        pub image: String,
        pub resolv_conf_path: String,
        pub hostname_path: String,
        pub hosts_path: String,
        pub log_path: String,
        /// With its leading slash.
        pub name: String,
        pub restart_count: i64,
        pub driver: String,
        pub platform: String,
        pub mount_label: String,
        pub process_label: String,
        pub app_armor_profile: String,
        #[serde(rename = "ExecIDs")]
        pub exec_ids: Option<Vec<String>>,
        pub host_config: HostConfig,
        pub graph_driver: GraphDriver,
        /// Bytes; only with `size=1`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_rw: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_root_fs: Option<i64>,
        pub mounts: Vec<MountPoint>,
        pub config: ContainerConfig,
        pub network_settings: NetworkSettings,
    }

    /// What a container is doing.
    pub struct State {
        /// created, running, paused, restarting, removing, exited or dead.
        pub status: String,
        pub running: bool,
        pub paused: bool,
        pub restarting: bool,
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        pub dead: bool,
        pub pid: i32,
        pub exit_code: i32,
        pub error: String,
        pub started_at: String,
        pub finished_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<Health>,
    }

    /// The state of a health check.
    pub struct Health {
        /// starting, healthy or unhealthy.
        pub status: String,
        pub failing_streak: i64,
        /// The last five.
        pub log: Option<Vec<HealthResult>>,
    }

    /// One probe.
    pub struct HealthResult {
        pub start: String,
        pub end: String,
        pub exit_code: i32,
        pub output: String,
    }

    /// Where the layers of a container or image lie.
    pub struct GraphDriver {
        pub data: Option<Map<String, String>>,
        pub name: String,
    }

    /// One mount of a container as it was settled at create.
    pub struct MountPoint {
        /// bind, volume, tmpfs.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub r#type: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        pub source: String,
        pub destination: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub driver: String,
        pub mode: String,
        #[serde(rename = "RW")]
        pub rw: bool,
        pub propagation: String,
    }

    /// One line of `GET /containers/json`.
    pub struct ContainerSummary {
        pub id: String,
        pub names: Vec<String>,
        pub image: String,
        #[serde(rename = "ImageID")]
        pub image_id: String,
        pub command: String,
        /// Seconds since 1970.
        pub created: i64,
        pub ports: Vec<PortSummary>,
        #[serde(skip_serializing_if = "is_zero")]
        pub size_rw: i64,
        #[serde(skip_serializing_if = "is_zero")]
        pub size_root_fs: i64,
        pub labels: Map<String, String>,
        pub state: String,
        pub status: String,
        pub host_config: SummaryHostConfig,
        pub network_settings: SummaryNetworks,
        pub mounts: Vec<MountPoint>,
    }

    /// What list tells of the host configuration.
    pub struct SummaryHostConfig {
        pub network_mode: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub annotations: Option<Map<String, String>>,
    }

    /// The answer of top.
    pub struct Top {
        pub processes: Vec<Vec<String>>,
        pub titles: Vec<String>,
    }

    /// The answer of wait.
    pub struct WaitAnswer {
        pub status_code: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub error: Option<WaitError>,
    }

    /// Why waiting went wrong.
    pub struct WaitError {
        pub message: String,
    }

    /// The answer of `POST /containers/prune`.
    pub struct ContainersPruned {
        pub containers_deleted: Option<Vec<String>>,
        pub space_reclaimed: u64,
    }
}

/// Port → the host's addresses, as inspect spells it.
pub type PortMap = Map<String, Option<Vec<PortBinding>>>;

/// Network name → the container's place on it.
pub type Endpoints = Map<String, EndpointSettings>;
