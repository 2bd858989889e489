//! The JSON of the Docker Engine API, in Docker's field names and order, used by client and engine alike.
//!
//! Null is not absent: an `Option` without `skip_serializing_if` is written as `null`, as Docker does, and one with
//! it is left out. On the way in, null means the zero value everywhere, and unknown fields are ignored.

mod container;
mod event;
mod exec;
mod files;
mod host;
mod image;
mod network;
mod registry;
mod solve;
mod stats;
mod stream;
mod system;
mod volume;

pub use container::*;
pub use event::*;
pub use exec::*;
pub use files::*;
pub use host::*;
pub use image::*;
pub use network::*;
pub use registry::*;
pub use solve::*;
pub use stats::*;
pub use stream::*;
pub use system::*;
pub use volume::*;

use crate::json::{self, FromTree, Tree, by_serde};
use serde::{Deserialize, Deserializer, Serialize};

/// Go's zero time, which Docker writes for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// Go's `struct{}`: the value of a set that JSON spells as a map (`ExposedPorts`, `Volumes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nothing {}

by_serde! { Nothing }

/// Words that old clients send as one string.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Words(Option<Vec<String>>);

impl std::ops::Deref for Words {
    type Target = Option<Vec<String>>;

    fn deref(&self) -> &Option<Vec<String>> {
        &self.0
    }
}

impl From<Option<Vec<String>>> for Words {
    fn from(words: Option<Vec<String>>) -> Words {
        Words(words)
    }
}

impl From<Words> for Option<Vec<String>> {
    fn from(Words(words): Words) -> Option<Vec<String>> {
        words
    }
}

impl FromTree for Words {
    fn from_tree(tree: Tree) -> Result<Words, json::Error> {
        match tree {
            Tree::Text(word) => Ok(Words(Some(vec![word.into_owned()]))),
            // Docker tries for a list, and blames it for not being a word.
            Tree::List(items) => {
                let words = items.into_iter().map(String::from_tree).collect::<Result<_, _>>();
                Ok(Words(Some(words.map_err(|_| Tree::List(Vec::new()).mismatch())?)))
            }
            other => Err(other.mismatch()),
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        json::by_tree(deserializer)
    }
}

/// Declares a wire struct: PascalCase names, every field may be absent or null.
macro_rules! wire {
    ($( $(#[$meta:meta])* pub struct $name:ident { $( $(#[$fmeta:meta])* pub $field:ident: $type:ty, )* } )*) => { $(
        $crate::json::fields::fields! {
            #[derive(Clone, Debug, Default, PartialEq)]
            #[serde(rename_all = "PascalCase")]
            $(#[$meta])*
            pub struct $name {
                $( $(#[$fmeta])* pub $field: $type, )*
            }
        }
    )* };
}
pub(crate) use wire;

/// `skip_serializing_if` for Go's `omitempty`.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn null_reads_as_zero_and_words_as_string_or_list() {
        let body = json!({"Image": "x", "Cmd": "sh", "Entrypoint": ["a", "b"], "Env": null, "Hostname": null, "Unknown": 1,
            "HostConfig": {"CapAdd": "ALL", "CapDrop": ["KILL", "CHOWN"], "Binds": null, "Memory": null, "LogConfig": null, "PortBindings": {"80/tcp": null}},
            "NetworkingConfig": null});
        let create: ContainerCreate = json::from_value(body).unwrap();
        assert_eq!(create.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(create.config.entrypoint, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(*create.host_config.cap_add, Some(vec!["ALL".to_owned()]));
        assert_eq!(*create.host_config.cap_drop, Some(vec!["KILL".to_owned(), "CHOWN".to_owned()]));
        assert_eq!(create.config.env, None);
        assert_eq!(create.config.hostname, "");
        assert_eq!(create.host_config.memory, 0);
        assert!(create.host_config.port_bindings.unwrap().contains_key("80/tcp"));
    }

    /// What Docker answered is read and written again without a difference in names, nulls or order.
    #[test]
    fn answers_survive_a_round_trip() {
        let host = r#"{"Binds":["gv:/data"],"ContainerIDFile":"","LogConfig":{"Type":"json-file","Config":{}},"NetworkMode":"bridge","PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"18099"}]},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"host","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"private","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":67108864,"Runtime":"runc","Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,"OomKillDisable":false,"PidsLimit":null,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":["/proc/asound"],"ReadonlyPaths":["/proc/bus"]}"#;
        let config = r#"{"Hostname":"b501e6e1553a","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"ExposedPorts":{"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":["PATH=/bin"],"Cmd":["nginx"],"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000},"Image":"nginx:alpine","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{"a":"b"},"StopSignal":"SIGQUIT"}"#;
        let endpoint = r#"{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"4a:2a:60:c0:0e:74","DriverOpts":null,"GwPriority":0,"NetworkID":"4","EndpointID":"8","Gateway":"172.17.0.1","IPAddress":"172.17.0.4","IPPrefixLen":16,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}"#;
        let state = r#"{"Status":"running","Running":true,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":22158,"ExitCode":0,"Error":"","StartedAt":"2026-11-23T21:38:13.916031573Z","FinishedAt":"0001-01-01T00:00:00Z","Health":{"Status":"healthy","FailingStreak":0,"Log":[{"Start":"2026-11-23T21:38:15.636086577Z","End":"2026-11-23T21:38:15.761723721Z","ExitCode":0,"Output":""}]}}"#;
        let mount = r#"{"Type":"volume","Name":"gv","Source":"/gv/_data","Destination":"/data","Driver":"local","Mode":"z","RW":true,"Propagation":""}"#;
        let bind = r#"{"Type":"bind","Source":"/tmp/v","Destination":"/v","Mode":"","RW":true,"Propagation":"slave"}"#;
        let networks = r#"{"Bridge":"","SandboxID":"af","SandboxKey":"/run/netns/af","Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"18099"}]},"HairpinMode":false,"LinkLocalIPv6Address":"","LinkLocalIPv6PrefixLen":0,"SecondaryIPAddresses":null,"SecondaryIPv6Addresses":null,"EndpointID":"8e","Gateway":"172.17.0.1","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"IPAddress":"172.17.0.4","IPPrefixLen":16,"IPv6Gateway":"","MacAddress":"4a:2a:60:c0:0e:74","Networks":{}}"#;
        let summary = r#"{"Id":"d1","Names":["/p"],"Image":"busybox","ImageID":"sha256:8d","Command":"top","Created":1795469857,"Ports":[{"IP":"127.0.0.1","PrivatePort":80,"PublicPort":18099,"Type":"tcp"}],"Labels":{},"State":"running","Status":"Up 39 seconds","HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":{}},"Mounts":[]}"#;
        let image = r#"{"Containers":0,"Created":1795469493,"Id":"sha256:cf","Labels":null,"ParentId":"","RepoDigests":[],"RepoTags":["test-image:latest"],"SharedSize":-1,"Size":1988785}"#;
        let inspect = r#"{"Id":"sha256:93","RepoTags":["nginx:latest"],"RepoDigests":[],"Parent":"","Comment":"","Created":"2023-11-14T22:13:20Z","DockerVersion":"","Author":"","Architecture":"amd64","Os":"linux","Size":1985604,"GraphDriver":{"Data":{"MergedDir":"/m"},"Name":"overlay2"},"RootFS":{"Type":"layers","Layers":["sha256:36"]},"Metadata":{"LastTagTime":"0001-01-01T00:00:00Z"},"Config":{"Cmd":["nginx"],"Entrypoint":null,"Env":["PATH=/bin"],"ExposedPorts":{"80/tcp":{}},"Labels":null,"OnBuild":null,"StopSignal":"SIGQUIT","User":"","Volumes":null,"WorkingDir":""}}"#;
        let history = r#"{"Comment":"","Created":1700000000,"CreatedBy":"ADD rootfs /","Id":"<missing>","Size":1985604,"Tags":null}"#;
        let volume = r#"{"CreatedAt":"2026-11-23T21:38:13Z","Driver":"local","Labels":null,"Mountpoint":"/gv/_data","Name":"gv","Options":null,"Scope":"local"}"#;
        let version = r#"{"Platform":{"Name":""},"Components":[{"Name":"Engine","Version":"28.5.2","Details":{"ApiVersion":"1.51"}}],"Version":"28.5.2","ApiVersion":"1.51","MinAPIVersion":"1.24","GitCommit":"3e","GoVersion":"","Os":"linux","Arch":"amd64","KernelVersion":"6.18.44","BuildTime":"2026-09-15T11:02:57.000000000+00:00"}"#;

        fn check<T: serde::de::DeserializeOwned + Serialize>(text: &str) {
            let typed: T = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&typed).unwrap(), text);
        }
        check::<HostConfig>(host);
        check::<ContainerConfig>(config);
        check::<EndpointSettings>(endpoint);
        check::<State>(state);
        check::<MountPoint>(mount);
        check::<MountPoint>(bind);
        check::<NetworkSettings>(networks);
        check::<ContainerSummary>(summary);
        check::<ImageSummary>(image);
        check::<ImageInspect>(inspect);
        check::<HistoryItem>(history);
        check::<Volume>(volume);
        check::<Version>(version);
    }

    #[test]
    fn progress_leaves_out_what_is_not_said() {
        let line = ProgressLine::layer("0123456789ab", "Pulling fs layer", ProgressDetail::default());
        assert_eq!(
            serde_json::to_value(&line).unwrap(),
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": "0123456789ab"}),
        );
        let error: Value = serde_json::to_value(ProgressLine::failed("gone")).unwrap();
        assert_eq!(error, json!({"errorDetail": {"message": "gone"}, "error": "gone"}));
    }
}
