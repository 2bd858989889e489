//! What the engine says of itself and of its host.

use super::containers::{self, Doing};
use super::events;
use super::limits::Supports;
use super::store::Store;
use super::{Engine, Settings, apparmor, images, rootless, selinux, shim};
use crate::api;
use crate::api::errno;
use crate::api::time::Time;
use crate::api::types::{
    DiscoveredDevice, IndexInfo, Info, Plugins, RegistryConfig, RuntimePath, SwarmInfo, Version, VersionComponent,
    VersionPlatform,
};
use crate::oci::cdi::Registry;
use crate::oci::hex;
use crate::oci::platform;
use crate::order::Map;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Docker's controllers, and the words with which its clients are told that one is missing.
const LIMITS: [(&str, &[&str]); 5] = [
    ("memory", &["memory limit", "swap limit"]),
    ("cpu", &["cpu cfs quota", "cpu cfs period", "cpu shares"]),
    ("cpuset", &["cpuset"]),
    ("io", &["io.weight", "io.weight (per device)", "io.max"]),
    ("pids", &["pids limit"]),
];

pub fn version() -> Version {
    let kernel = kernel();
    let arch = platform::host().architecture;
    let (newest, oldest) = (api::version::NEWEST.to_string(), api::version::OLDEST.to_string());
    let version = env!("CARGO_PKG_VERSION").to_owned();
    // What is not known of this build is empty: a build of the same source is the same file.
    let details = [
        ("ApiVersion", newest.as_str()),
        ("Arch", &arch),
        ("BuildTime", ""),
        ("Experimental", "false"),
        ("GitCommit", ""),
        ("GoVersion", ""),
        ("KernelVersion", &kernel),
        ("MinAPIVersion", &oldest),
        ("Os", "linux"),
    ];
    let details: Map<_, _> = details.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Version {
        platform: VersionPlatform { name: "dhow".to_owned() },
        components: vec![VersionComponent { name: "Engine".to_owned(), version: version.clone(), details }],
        version,
        api_version: newest,
        min_api_version: oldest,
        os: "linux".to_owned(),
        arch,
        kernel_version: kernel,
        ..Version::default()
    }
}

/// What this host gives, and what it does not and why.
pub fn info(engine: &Engine) -> Result<Info> {
    let (store, settings) = (&engine.store, &engine.settings);
    let all = containers::all(store)?;
    let count = |doing: Doing| all.iter().filter(|now| now.doing == doing).count() as i64;
    let running = count(Doing::Running) + count(Doing::Ending) + count(Doing::Stuck);
    let paused = count(Doing::Paused);
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let release = Release::read();
    let has_cgroups = crate::cgroup::home().is_some();
    let supports = Supports::read();
    let mut info = Info {
        memory_limit: supports.memory,
        swap_limit: supports.swap,
        cpu_cfs_period: supports.cpu,
        cpu_cfs_quota: supports.cpu,
        cpu_shares: supports.cpu,
        cpu_set: supports.cpuset,
        pids_limit: supports.pids,
        id: id(store),
        containers: all.len() as i64,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: all.len() as i64 - running - paused,
        images: images::all(store)?.len() as i64,
        driver: "overlay2".to_owned(),
        driver_status: driver_status(store),
        plugins: Plugins {
            volume: list(&["local"]),
            network: list(&["bridge", "host", "ipvlan", "macvlan", "null"]),
            authorization: None,
            log: list(&["json-file", "local"]),
        },
        ipv4_forwarding: number("/proc/sys/net/ipv4/ip_forward") == 1,
        debug: settings.debug,
        n_fd: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as i64),
        n_goroutines: fs::read_dir("/proc/self/task").map_or(0, |entries| entries.count() as i64),
        system_time: Time::now().to_string(),
        logging_driver: settings.log_driver.clone(),
        cgroup_driver: if has_cgroups { "cgroupfs" } else { "none" }.to_owned(),
        cgroup_version: if has_cgroups { "2" } else { "1" }.to_owned(),
        n_events_listener: events::followers(),
        kernel_version: kernel(),
        operating_system: release.name,
        os_version: release.version,
        os_type: "linux".to_owned(),
        architecture: machine(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: registries(settings),
        n_cpu: crate::sys::processors() as i64,
        mem_total: memory(),
        docker_root_dir: store.root.display().to_string(),
        http_proxy: proxy(settings, "HTTP_PROXY"),
        https_proxy: proxy(settings, "HTTPS_PROXY"),
        no_proxy: proxy(settings, "NO_PROXY"),
        name: host_name(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes: super::create::RUNTIMES.map(|name| (name.to_owned(), RuntimePath { path: "dhow".to_owned() })).into(),
        default_runtime: super::create::RUNTIMES[0].to_owned(),
        labels: settings.labels.clone(),
        swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
        // Nothing that runs depends on a daemon.
        live_restore_enabled: true,
        init_binary: "dhow".to_owned(),
        security_options: security_options(settings),
        cdi_spec_dirs: settings.cdi_dirs().iter().map(|dir| dir.display().to_string()).collect(),
        ..Info::default()
    };
    let registry = Registry::read(&settings.cdi_dirs());
    let device = |name: &str| DiscoveredDevice { source: "cdi".to_owned(), id: name.to_owned() };
    info.discovered_devices = registry.names().map(device).collect();
    let mut warnings = warnings(store, settings, &info);
    let fault =
        |(path, why): &(PathBuf, String)| format!("CDI: Error associated with spec file {}: {why}", path.display());
    warnings.extend(registry.faults.iter().map(fault));
    let warnings: Vec<String> = warnings.iter().map(|warning| errno::spelt(warning).into_owned()).collect();
    info.warnings = (!warnings.is_empty()).then_some(warnings);
    Ok(info)
}

/// The same for as long as this store stands on this machine, and no other's: in the form that Docker gives its own.
pub fn id(store: &Store) -> String {
    let mut hash = Sha256::new();
    hash.update(text("/etc/machine-id"));
    hash.update(store.root.as_os_str().as_bytes());
    if let Ok(made) = fs::metadata(store.root.join("version")) {
        hash.update(made.mtime().to_le_bytes());
        hash.update(made.mtime_nsec().to_le_bytes());
    }
    let hex = hex(&hash.finalize());
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

pub fn host_name() -> String {
    text("/proc/sys/kernel/hostname")
}

fn number(path: &str) -> i64 {
    text(path).parse().unwrap_or(0)
}

fn kernel() -> String {
    text("/proc/sys/kernel/osrelease")
}

/// What uname says of the processor: `x86_64`.
fn machine() -> String {
    let told = nix::sys::utsname::uname().ok().and_then(|uname| uname.machine().to_str().map(str::to_owned));
    told.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Bytes.
pub fn memory() -> i64 {
    let memory = text("/proc/meminfo");
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    total.and_then(|kilobytes| kilobytes.parse::<i64>().ok()).unwrap_or(0) * 1024
}

/// What os-release(5) says.
struct Release {
    name: String,
    version: String,
}

impl Release {
    fn read() -> Release {
        let found = ["/etc/os-release", "/usr/lib/os-release"].map(fs::read_to_string);
        Release::parse(&found.into_iter().flatten().next().unwrap_or_default())
    }

    fn parse(text: &str) -> Release {
        let field = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
        };
        let name = field("PRETTY_NAME").or_else(|| field("NAME")).unwrap_or_else(|| "Linux".to_owned());
        Release { name, version: field("VERSION_ID").unwrap_or_default() }
    }
}

fn driver_status(store: &Store) -> Vec<[String; 2]> {
    let rows = [
        ("Backing Filesystem", file_system(&store.root)),
        ("Supports d_type", names_kinds(&store.root)),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ];
    rows.map(|(title, value)| [title.to_owned(), value.to_owned()]).into()
}

/// The store's file system by Docker's names.
fn file_system(path: &Path) -> &'static str {
    let Ok(stat) = nix::sys::statfs::statfs(path) else { return "<unknown>" };
    match stat.filesystem_type().0 as i64 {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x7371_7368 => "squashfs",
        _ => "<unknown>",
    }
}

/// Whether a directory's entries say what they are, which overlay needs for its whiteouts.
fn names_kinds(path: &Path) -> &'static str {
    use nix::fcntl::OFlag;
    let Ok(mut dir) = nix::dir::Dir::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty())
    else {
        return "false";
    };
    if dir.iter().flatten().all(|entry| entry.file_type().is_some()) { "true" } else { "false" }
}

fn registries(settings: &Settings) -> RegistryConfig {
    let slashed = |mirror: &String| format!("{}/", mirror.trim_end_matches('/'));
    let mirrors: Vec<String> = settings.registry_mirrors.iter().map(slashed).collect();
    let hub = "docker.io".to_owned();
    let index = IndexInfo { mirrors: mirrors.clone(), name: hub.clone(), official: true, secure: true };
    let mut index_configs = Map::from([(hub, index)]);
    let mut ranges = Vec::new();
    for registry in &settings.insecure_registries {
        if registry.contains('/') {
            ranges.push(registry.clone());
        } else {
            let index = IndexInfo { name: registry.clone(), ..IndexInfo::default() };
            index_configs.insert(registry.clone(), index);
        }
    }
    ranges.extend(["::1/128", "127.0.0.0/8"].map(str::to_owned));
    RegistryConfig {
        index_configs,
        insecure_registry_cidrs: ranges,
        mirrors: (!mirrors.is_empty()).then_some(mirrors),
        ..RegistryConfig::default()
    }
}

/// A proxy of the environment, without the password in it.
fn proxy(settings: &Settings, name: &str) -> String {
    let set = |name: &str| settings.proxies.variable(name).filter(|value| !value.is_empty());
    let value = set(name).or_else(|| set(&name.to_ascii_lowercase())).unwrap_or_default();
    masked(&value)
}

fn masked(proxy: &str) -> String {
    let (scheme, rest) = proxy.split_once("://").map_or(("", proxy), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => format!("xxxxx:xxxxx@{host}"),
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => proxy.to_owned(),
    }
}

fn has_seccomp() -> bool {
    Path::new("/proc/sys/kernel/seccomp").exists()
}

fn security_options(settings: &Settings) -> Vec<String> {
    let mut options = Vec::new();
    if apparmor::support() != apparmor::Support::None {
        options.push("name=apparmor".to_owned());
    }
    if has_seccomp() {
        let profile = Some(settings.seccomp_profile.as_str()).filter(|profile| !profile.is_empty());
        options.push(format!("name=seccomp,profile={}", profile.unwrap_or("builtin")));
    }
    if matches!(selinux::support(settings.selinux_enabled), selinux::Support::All(_)) {
        options.push("name=selinux".to_owned());
    }
    if settings.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    if rootless::is_inside() {
        options.push("name=rootless".to_owned());
    }
    if !settings.userns_remap.is_empty() {
        options.push("name=userns".to_owned());
    }
    if Path::new("/proc/self/ns/cgroup").exists() {
        options.push("name=cgroupns".to_owned());
    }
    options
}

/// Each feature that this host or this release does not give, by name, with why.
fn warnings(store: &Store, settings: &Settings, info: &Info) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = shim::cgroup_root(store);
    let controllers = root.as_deref().and_then(Path::parent).map(|mount| mount.join("cgroup.controllers"));
    let controllers = controllers.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    for (controller, limits) in LIMITS {
        if controllers.split_whitespace().any(|name| name == controller) {
            continue;
        }
        let why = format!("the {controller} controller is not in cgroup v2 on this host");
        warnings.extend(limits.iter().map(|limit| format!("WARNING: No {limit} support: {why}")));
    }
    warnings.extend(rootless::lacks(store));
    if root.is_none() {
        warnings.push("WARNING: No pause support: no cgroup v2 is mounted, and kill reaches init only".to_owned());
        warnings.push(
            "WARNING: No device rules support: no cgroup v2 is mounted, so that only what is granted opens, and none are made"
                .to_owned(),
        );
    } else if !rootless::is_inside()
        && let Err(error) = crate::cgroup::devices::support()
    {
        warnings.push(format!(
            "WARNING: No device rules support: {error:#}, so that only what is granted opens, and none are made"
        ));
    }
    if !crate::net::nftables::is_there() {
        warnings.push(
            "WARNING: No nf_tables support: a program passes on what comes to published ports, and networks are not kept apart"
                .to_owned(),
        );
    }
    if !info.ipv4_forwarding && !rootless::is_inside() {
        warnings.push("WARNING: IPv4 forwarding is disabled".to_owned());
    }
    let cut_off = super::networks::cut_off(store);
    if !cut_off.is_empty() {
        warnings.push(format!(
            "WARNING: dhow turned forwarding on for its containers; nothing is forwarded for {} (ip-forward-no-drop changes that)",
            cut_off.join(", ")
        ));
    }
    if !has_seccomp() {
        warnings.push("WARNING: No seccomp support: this kernel filters no system calls".to_owned());
    }
    if apparmor::support() == apparmor::Support::Loaded {
        warnings.push(format!(
            "WARNING: No default AppArmor profile: {} is not loaded, and there is no apparmor_parser to do it",
            apparmor::DEFAULT
        ));
    }
    if let selinux::Support::Lacking(why) = selinux::support(settings.selinux_enabled) {
        warnings.push(format!("WARNING: No SELinux labels for containers: {why}"));
    }
    if crate::sys::landlock::version().is_none() {
        warnings.push("WARNING: No Landlock support (Linux 5.19): archives are unpacked without it".to_owned());
    }
    if matches!(file_system(&store.root), "overlayfs" | "ramfs" | "nfs") {
        warnings.push(format!(
            "WARNING: No overlay support: the file system of {} cannot hold one, so that layers are copied",
            store.root.display()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_os_release_says() {
        for (text, name, version) in [
            (
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\n",
                "Debian GNU/Linux 12 (bookworm)",
                "12",
            ),
            ("NAME='Tiny'\n", "Tiny", ""),
            ("PRETTY_NAME=\"\"\nNAME=Other\nVERSION_ID=3\n", "Other", "3"),
            ("", "Linux", ""),
        ] {
            let release = Release::parse(text);
            assert_eq!((release.name.as_str(), release.version.as_str()), (name, version), "{text}");
        }
    }

    #[test]
    fn passwords_are_masked() {
        for (proxy, expected) in [
            ("", ""),
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://user:p@ss@proxy:3128/", "http://xxxxx:xxxxx@proxy:3128/"),
            ("user@proxy", "xxxxx:xxxxx@proxy"),
        ] {
            assert_eq!(masked(proxy), expected);
        }
    }

    #[test]
    fn registries_as_clients_read_them() {
        let settings = Settings {
            registry_mirrors: vec!["http://127.0.0.1:5555".into()],
            insecure_registries: vec!["boats:5000".into(), "10.0.0.0/8".into()],
            ..Settings::default()
        };
        let config = serde_json::to_string(&registries(&settings)).unwrap();
        assert_eq!(
            config,
            r#"{"IndexConfigs":{"boats:5000":{"Mirrors":[],"Name":"boats:5000","Official":false,"Secure":false},"docker.io":{"Mirrors":["http://127.0.0.1:5555/"],"Name":"docker.io","Official":true,"Secure":true}},"InsecureRegistryCIDRs":["10.0.0.0/8","::1/128","127.0.0.0/8"],"Mirrors":["http://127.0.0.1:5555/"]}"#
        );
    }
}
