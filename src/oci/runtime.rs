//! The OCI runtime specification's `config.json`, as far as Linux containers need it.
//!
//! Source: <https://github.com/opencontainers/runtime-spec>, version 1.2. Field names are the specification's;
//! fields that we do not know are ignored when read, absent ones are not written.

use crate::json::by_serde;
use crate::json::fields::fields;
use crate::order::Map;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The version of the specification that we write.
pub const OCI_VERSION: &str = "1.2.0";

fn is_false(flag: &bool) -> bool {
    !flag
}

fields! {
    /// One container, as a runtime is told about it.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Spec {
        pub oci_version: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub process: Option<Process>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub root: Option<Root>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub hostname: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub domainname: String,
        /// Mounted in this order, inside the root.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mounts: Vec<Mount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub hooks: Option<Hooks>,
        #[serde(skip_serializing_if = "Map::is_empty")]
        pub annotations: Map<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub linux: Option<Linux>,
    }

    /// What is executed; the same for `create` and `exec`.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Process {
        #[serde(skip_serializing_if = "is_false")]
        pub terminal: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub console_size: Option<ConsoleSize>,
        pub user: User,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub args: Vec<String>,
        /// `NAME=value`
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub env: Vec<String>,
        pub cwd: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub capabilities: Option<LinuxCapabilities>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub rlimits: Vec<Rlimit>,
        #[serde(skip_serializing_if = "is_false")]
        pub no_new_privileges: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub apparmor_profile: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub selinux_label: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub oom_score_adj: Option<i32>,
    }

    /// In characters.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct ConsoleSize {
        pub height: u16,
        pub width: u16,
    }

    /// Ids inside the container.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct User {
        pub uid: u32,
        pub gid: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub umask: Option<u32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub additional_gids: Vec<u32>,
    }

    /// Capability names, `CAP_…`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct LinuxCapabilities {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub bounding: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub effective: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub inheritable: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub permitted: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub ambient: Vec<String>,
    }
}

/// One resource limit; `u64::MAX` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_…`
    #[serde(rename = "type")]
    pub kind: String,
    pub hard: u64,
    pub soft: u64,
}

fields! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Root {
        pub path: String,
        #[serde(skip_serializing_if = "is_false")]
        pub readonly: bool,
    }

    /// One mount. Options are those of mount(8): flags by name, the rest is data for the file system.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Mount {
        pub destination: String,
        #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub options: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub uid_mappings: Vec<IdMapping>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub gid_mappings: Vec<IdMapping>,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Hooks {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub prestart: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub create_runtime: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub create_container: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub start_container: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub poststart: Vec<Hook>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub poststop: Vec<Hook>,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Hook {
        pub path: String,
        /// With the name of the program first.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub args: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub env: Vec<String>,
        /// Seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub timeout: Option<u64>,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Linux {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub uid_mappings: Vec<IdMapping>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub gid_mappings: Vec<IdMapping>,
        #[serde(skip_serializing_if = "Map::is_empty")]
        pub sysctl: Map<String, String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub resources: Option<Resources>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub cgroups_path: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub namespaces: Vec<Namespace>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub devices: Vec<Device>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub seccomp: Option<Seccomp>,
        /// `private`, `slave`, `shared` or `unbindable`, each also with an `r` in front.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub rootfs_propagation: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub masked_paths: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub readonly_paths: Vec<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mount_label: String,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct IdMapping {
        #[serde(rename = "containerID")]
        pub container_id: u32,
        #[serde(rename = "hostID")]
        pub host_id: u32,
        pub size: u32,
    }

    /// Which ids of a user namespace are which of the namespace around it.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Ids {
        pub uids: Vec<IdMapping>,
        pub gids: Vec<IdMapping>,
    }
}

/// The id around the namespace of one in it; `None` where it has none.
pub fn outside(map: &[IdMapping], id: u32) -> Option<u32> {
    let range = map.iter().find(|range| id.checked_sub(range.container_id).is_some_and(|at| at < range.size))?;
    range.host_id.checked_add(id - range.container_id)
}

/// The other way round.
pub fn inside(map: &[IdMapping], id: u32) -> Option<u32> {
    let range = map.iter().find(|range| id.checked_sub(range.host_id).is_some_and(|at| at < range.size))?;
    range.container_id.checked_add(id - range.host_id)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

/// A new namespace, or with a path an existing one to join. One that is not listed is the runtime's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

fields! {
    /// A device node to be made.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Device {
        pub path: String,
        /// `c`, `b`, `u` (unbuffered character device) or `p` (FIFO).
        #[serde(rename = "type")]
        pub kind: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub major: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub minor: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub file_mode: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub uid: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub gid: Option<u32>,
    }

    /// Limits, in the specification's version 1 terms; `unified` holds verbatim version 2 settings.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Resources {
        /// Applied in order, the last match wins.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub devices: Vec<DeviceRule>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub memory: Option<Memory>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cpu: Option<Cpu>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub pids: Option<Pids>,
        #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none")]
        pub block_io: Option<BlockIo>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub hugepage_limits: Vec<HugepageLimit>,
        #[serde(skip_serializing_if = "Map::is_empty")]
        pub unified: Map<String, String>,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct DeviceRule {
        pub allow: bool,
        /// `a` (all), `c` or `b`; empty is all.
        #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        /// Absent is every number.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub major: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub minor: Option<i64>,
        /// Of `r`, `w` and `m` (mknod).
        #[serde(skip_serializing_if = "String::is_empty")]
        pub access: String,
    }

    /// In bytes; -1 is unlimited.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Memory {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub limit: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reservation: Option<i64>,
        /// Memory and swap together.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub swap: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub kernel: Option<i64>,
        #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
        pub kernel_tcp: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub swappiness: Option<u64>,
        #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
        pub disable_oom_killer: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub use_hierarchy: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub check_before_update: Option<bool>,
    }

    /// Times in microseconds; shares as version 1 counts them (2 to 262144).
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Cpu {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shares: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub quota: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub burst: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub period: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub realtime_runtime: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub realtime_period: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub idle: Option<i64>,
        /// A list as `0-3,7`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub cpus: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mems: String,
    }

    /// How many tasks; 0 or less is unlimited.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Pids {
        pub limit: i64,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct BlockIo {
        /// 10 to 1000
        #[serde(skip_serializing_if = "Option::is_none")]
        pub weight: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub leaf_weight: Option<u16>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub weight_device: Vec<WeightDevice>,
        /// Bytes a second.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub throttle_read_bps_device: Vec<ThrottleDevice>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub throttle_write_bps_device: Vec<ThrottleDevice>,
        /// Operations a second.
        #[serde(rename = "throttleReadIOPSDevice", skip_serializing_if = "Vec::is_empty")]
        pub throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice", skip_serializing_if = "Vec::is_empty")]
        pub throttle_write_iops_device: Vec<ThrottleDevice>,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct WeightDevice {
        pub major: i64,
        pub minor: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub weight: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub leaf_weight: Option<u16>,
    }

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct ThrottleDevice {
        pub major: i64,
        pub minor: i64,
        pub rate: u64,
    }

    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct HugepageLimit {
        /// As `2MB` or `1GB`.
        pub page_size: String,
        /// Bytes.
        pub limit: u64,
    }
}

/// A system call filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    pub default_action: SeccompAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_…`; empty is the native one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`; none is not the runtime's default, which absence is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompRule>,
}

by_serde! { Seccomp, SeccompAction, SeccompArg, Rlimit, Namespace }

/// An action for every one of `names`, if all of `args` hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompRule {
    pub names: Vec<Cow<'static, str>>,
    pub action: SeccompAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompAction {
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// A comparison of one argument, unsigned, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// 0 to 5
    pub index: u32,
    /// The operand; of `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// Of `SCMP_CMP_MASKED_EQ` the operand.
    #[serde(default)]
    pub value_two: u64,
    pub op: SeccompOp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompOp {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stock caller writes comes back as it was; what we do not know is skipped.
    #[test]
    fn a_config_survives_reading_and_writing() {
        let text = serde_json::json!({
            "ociVersion": "1.2.0",
            "process": {
                "terminal": true, "consoleSize": {"height": 25, "width": 80},
                "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [5, 6]},
                "args": ["sh"], "env": ["PATH=/bin"], "cwd": "/",
                "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": u64::MAX, "soft": 1024}],
                "noNewPrivileges": true, "oomScoreAdj": -5,
            },
            "root": {"path": "rootfs", "readonly": true},
            "hostname": "box",
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
            "hooks": {"createRuntime": [{"path": "/bin/true", "args": ["true"], "timeout": 5}]},
            "annotations": {"a": "b"},
            "linux": {
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                "namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}],
                "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}],
                "cgroupsPath": "/dhow/x",
                "resources": {
                    "devices": [{"allow": false, "access": "rwm"}],
                    "memory": {"limit": 1, "disableOOMKiller": false},
                    "blockIO": {"weight": 10, "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 1}]},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
                    "pids": {"limit": 10}, "unified": {"memory.high": "max"},
                },
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}],
                },
                "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "sysctl": {"net.core.somaxconn": "1"},
            },
        });
        let spec: Spec = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), text);
        assert_eq!(spec.linux.unwrap().namespaces[1].kind, NamespaceKind::Network);

        let spec: Spec = serde_json::from_str(r#"{"ociVersion":"1.0.2","windows":{"x":1},"linux":{"y":[]}}"#).unwrap();
        assert_eq!(spec.linux, Some(Linux::default()));
        assert!(serde_json::from_str::<Spec>(r#"{"linux":{"namespaces":[{"type":"nope"}]}}"#).is_err());
    }
}
