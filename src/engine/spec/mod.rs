//! From a container's record to its runtime spec: pure, with exactly Docker's defaults.

mod mounts;
mod security;
mod sysctls;

use crate::order::{Map, Set};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::devices::{self, Granted};
use super::etc;
use super::init;
use super::quota;
use super::record::Record;
use super::users::User;
use super::{apparmor, selinux};
use crate::api::Refusal;
use crate::api::types::{ContainerConfig, ExecCreate, HostConfig};
use crate::ns::caps::{self, CapSet};
use crate::ns::profile;
use crate::oci::runtime::{
    self, ConsoleSize, Device, Linux, LinuxCapabilities, Namespace, NamespaceKind, Process, Resources, Rlimit, Root,
    Spec,
};
use crate::sys::kernel;

pub use mounts::device;
pub use security::Security;

/// Where commands are looked for if the image does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Hidden from a container: what tells of the host or lets influence it.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Facts of this host that decide what a container can have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    pub kernel: (u32, u32),
    /// What we could give.
    pub caps: CapSet,
    pub seccomp: bool,
    pub apparmor: apparmor::Support,
    /// Labels mean something.
    pub selinux: bool,
    pub time_namespaces: bool,
    /// We are in a user namespace ourselves, and may make no devices.
    pub user_namespace: bool,
    /// And there is but one id in it.
    pub single_id: bool,
    /// Of the sysctls that a container gets by default, those that the kernel has.
    pub sysctls: Vec<&'static str>,
    /// One directory a processor, which tells of the host's temperature.
    pub throttles: Vec<String>,
    /// Where version 2 of cgroups is mounted; empty where it is not.
    pub cgroups: String,
}

impl Host {
    /// Asks the kernel.
    pub fn read() -> Host {
        let exists = |path: &str| Path::new(path).exists();
        let release = nix::sys::utsname::uname().ok();
        let release = release.as_ref().and_then(|name| name.release().to_str()).unwrap_or_default();
        let sysctls = sysctls::DEFAULTS.iter().map(|(key, _)| *key);
        Host {
            // We need openat2, which is 5.6's.
            kernel: profile::kernel_version(release).unwrap_or((5, 6)),
            caps: caps::available(),
            seccomp: exists("/proc/sys/kernel/seccomp"),
            apparmor: apparmor::support(),
            selinux: selinux::is_enabled(),
            time_namespaces: exists("/proc/self/ns/time"),
            user_namespace: !kernel::is_first_user_namespace(),
            single_id: kernel::is_single_id(),
            sysctls: sysctls.filter(|key| exists(&format!("/proc/sys/{}", key.replace('.', "/")))).collect(),
            throttles: throttles(),
            cgroups: crate::cgroup::mount().map(|path| path.display().to_string()).unwrap_or_default(),
        }
    }
}

/// Processors are numbered without gaps where it matters: the first without the directory ends the search.
fn throttles() -> Vec<String> {
    let path = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    (0..).map(path).take_while(|path| Path::new(path).exists()).collect()
}

/// Namespaces of other containers, as files (`/proc/<pid>/ns/…`).
#[derive(Clone, Debug, Default)]
pub struct Join {
    pub pid: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    pub net: Option<PathBuf>,
    /// Of a container with a user namespace of its own: the one to be in with the others.
    pub user: Option<PathBuf>,
}

/// All that a spec is made of.
pub struct Inputs<'a> {
    pub record: &'a Record,
    pub user: &'a User,
    pub host: &'a Host,
    /// Of [`devices::granted`].
    pub devices: &'a [Granted],
    /// Of [`super::limits::resources`].
    pub limits: Resources,
    /// The root file system, as a path for those who read the spec.
    pub root: &'a Path,
    pub cgroup: &'a str,
    /// What is mounted on /etc/hosts, /etc/hostname and /etc/resolv.conf.
    pub hosts: Option<&'a Path>,
    pub hostname: Option<&'a Path>,
    pub resolv_conf: Option<&'a Path>,
    /// The shared memory of another container or of the host, where that is shared.
    pub shm: Option<&'a Path>,
    /// Volumes whose content is the store's, and nothing of the host's that is mounted there.
    pub own_volumes: Set<String>,
    /// The init as a program, where the command is to be its child that way.
    pub init: Option<&'a Path>,
    pub join: Join,
}

/// The spec of a container. Errors: what was asked for cannot be had.
pub fn spec(inputs: &Inputs) -> Result<Spec> {
    let Inputs { record, host, .. } = inputs;
    let (config, wants) = (&record.config, &record.host_config);
    let security = Security::parse(wants.security_opt.as_deref().unwrap_or_default())?;
    let set = capabilities(wants, host)?;
    let namespaces = namespaces(inputs)?;
    let own_uts = wants.uts_mode != "host";
    let (mounts, propagation) = mounts::mounts(inputs, &security)?;
    let mut spec = Spec {
        oci_version: runtime::OCI_VERSION.to_owned(),
        process: Some(process(inputs, set, &security)?),
        root: Some(Root { path: text(inputs.root)?, readonly: wants.readonly_rootfs }),
        mounts,
        annotations: wants.annotations.clone().unwrap_or_default(),
        ..Spec::default()
    };
    if own_uts {
        spec.hostname = config.hostname.clone();
        spec.domainname = config.domainname.clone();
    }
    let hides = !wants.privileged && !security.system_paths;
    let paths = |asked: &Option<Vec<String>>, default: &[&str]| match asked {
        Some(paths) => paths.clone(),
        None if hides => default.iter().map(|&path| path.to_owned()).collect(),
        None => Vec::new(),
    };
    let more_rules =
        wants.device_cgroup_rules.iter().flatten().map(|text| devices::rule(text)).collect::<Result<Vec<_>>>()?;
    let mut masked = paths(&wants.masked_paths, &MASKED);
    if !masked.is_empty() {
        masked.extend(host.throttles.iter().filter(|path| !masked.contains(path)).cloned().collect::<Vec<_>>());
    }
    let mut seccomp = security.filter(wants.privileged, set, host)?;
    if let Some(filter) = seccomp.as_mut().filter(|_| quota::size(wants).is_ok_and(|size| size.is_some())) {
        security::keep_in_project(filter);
    }
    let ids = record.ids.clone().unwrap_or_default();
    let own_ids = !ids.uids.is_empty() || host.user_namespace;
    spec.linux = Some(Linux {
        sysctl: sysctls::sysctls(wants, &namespaces, &host.sysctls, own_ids)?,
        uid_mappings: ids.uids,
        gid_mappings: ids.gids,
        resources: Some(Resources {
            devices: devices::rules(wants.privileged, inputs.devices, &more_rules),
            ..inputs.limits.clone()
        }),
        cgroups_path: inputs.cgroup.to_owned(),
        namespaces,
        // In a user namespace nobody makes devices: those of the host are mounted in their places.
        devices: if own_ids { Vec::new() } else { nodes(inputs.devices) },
        seccomp,
        rootfs_propagation: propagation,
        masked_paths: masked,
        readonly_paths: paths(&wants.readonly_paths, &READONLY),
        mount_label: if host.selinux { record.mount_label.clone() } else { String::new() },
    });
    Ok(spec)
}

/// The default of `HostConfig.MaskedPaths`, for inspect.
pub fn masked_paths() -> Vec<String> {
    MASKED.map(str::to_owned).to_vec()
}

/// The default of `HostConfig.ReadonlyPaths`.
pub fn readonly_paths() -> Vec<String> {
    READONLY.map(str::to_owned).to_vec()
}

/// Refuses at create what could not be started, with the words of Docker; warns of what means nothing.
pub fn check(config: &ContainerConfig, wants: &HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    check_on(config, wants, &Host::read())?;
    if wants.network_mode == "host" && wants.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(())
}

fn check_on(config: &ContainerConfig, wants: &HostConfig, host: &Host) -> Result<()> {
    let refuse = |text: String| Err(Refusal::BadParameter(text).into());
    let container = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if config.hostname.len() > 64 {
        return refuse(format!("hostname {:?} is too long (maximum 64 bytes)", config.hostname));
    }
    if !matches!(&*wants.ipc_mode, "" | "none" | "private" | "shareable" | "host") && !container(&wants.ipc_mode) {
        return refuse(format!("invalid IPC mode: {}", wants.ipc_mode));
    }
    if !matches!(&*wants.pid_mode, "" | "private" | "host") && !container(&wants.pid_mode) {
        return refuse(format!("invalid PID mode: {}", wants.pid_mode));
    }
    if !matches!(&*wants.uts_mode, "" | "host") {
        return refuse(format!("invalid UTS mode: {}", wants.uts_mode));
    }
    if !matches!(&*wants.cgroupns_mode, "" | "private" | "host") {
        return refuse(format!("invalid cgroup namespace mode: {}", wants.cgroupns_mode));
    }
    if wants.shm_size < 0 {
        return refuse("SHM size can not be less than 0".to_owned());
    }
    if !(-1000..=1000).contains(&wants.oom_score_adj) {
        return refuse(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", wants.oom_score_adj));
    }
    let bad = |error: anyhow::Error| anyhow::Error::from(Refusal::BadParameter(format!("{error:#}")));
    capabilities(wants, host).map_err(bad)?;
    for ulimit in wants.ulimits.iter().flatten() {
        rlimit(&ulimit.name, ulimit.soft, ulimit.hard).map_err(bad)?;
    }
    for mapping in wants.devices.iter().flatten() {
        devices::check_access(&mapping.cgroup_permissions)?;
    }
    for text in wants.device_cgroup_rules.iter().flatten() {
        devices::rule(text)?;
    }
    for (path, options) in wants.tmpfs.iter().flatten() {
        mounts::check_tmpfs(path, options).map_err(bad)?;
    }
    for entry in wants.extra_hosts.iter().flatten() {
        etc::extra_host(entry)?;
    }
    sysctls::check(wants).map_err(bad)?;
    let security = Security::parse(wants.security_opt.as_deref().unwrap_or_default()).map_err(bad)?;
    security.check(host).map_err(bad)?;
    if !wants.userns_mode.is_empty() && wants.userns_mode != "host" {
        return refuse(format!("invalid USER mode: {}", wants.userns_mode));
    }
    Ok(())
}

/// A further process in a container whose spec is `container`. `--privileged` gives it all capabilities; the system
/// call filter stays.
pub fn exec_process(record: &Record, container: &Spec, exec: &ExecCreate, user: &User) -> Result<Process> {
    let first = container.process.as_ref().context("the container's spec has no process")?;
    let env = exec.env.as_deref().unwrap_or_default();
    let cwd = if exec.working_dir.is_empty() { &record.config.working_dir } else { &exec.working_dir };
    Ok(Process {
        terminal: exec.tty,
        console_size: console_size(exec.tty, exec.console_size.unwrap_or_default()),
        user: spec_user(user),
        args: exec.cmd.clone(),
        env: environment(&record.config, exec.tty, env, user),
        cwd: if cwd.is_empty() { "/".to_owned() } else { cwd.clone() },
        capabilities: if exec.privileged {
            Some(linux_capabilities(caps::available()))
        } else {
            first.capabilities.clone()
        },
        ..first.clone()
    })
}

fn process(inputs: &Inputs, set: CapSet, security: &Security) -> Result<Process> {
    let (config, wants) = (&inputs.record.config, &inputs.record.host_config);
    let rlimits = wants.ulimits.iter().flatten();
    Ok(Process {
        terminal: config.tty,
        console_size: console_size(config.tty, wants.console_size),
        user: spec_user(inputs.user),
        args: match inputs.init {
            Some(_) => [init::PLACE, "--"].map(str::to_owned).into_iter().chain(inputs.record.argv()).collect(),
            None => inputs.record.argv(),
        },
        env: environment(config, config.tty, &[], inputs.user),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        capabilities: Some(linux_capabilities(set)),
        rlimits: rlimits.map(|limit| rlimit(&limit.name, limit.soft, limit.hard)).collect::<Result<_>>()?,
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: apparmor::profile(security.apparmor.as_deref(), wants.privileged, inputs.host.apparmor)
            .to_owned(),
        selinux_label: if inputs.host.selinux { inputs.record.process_label.clone() } else { String::new() },
        oom_score_adj: Some(i32::try_from(wants.oom_score_adj).context("the oom score is out of range")?),
    })
}

fn spec_user(user: &User) -> runtime::User {
    runtime::User { uid: user.uid, gid: user.gid, umask: Some(0o022), additional_gids: user.gids.clone() }
}

/// Rows and columns.
fn console_size(tty: bool, [height, width]: [u32; 2]) -> Option<ConsoleSize> {
    let short = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
    (tty && (height, width) != (0, 0)).then(|| ConsoleSize { height: short(height), width: short(width) })
}

/// Nothing is inheritable: a program that changed its user keeps none (CVE-2022-24769).
fn linux_capabilities(set: CapSet) -> LinuxCapabilities {
    let names = set.names();
    LinuxCapabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..LinuxCapabilities::default()
    }
}

fn capabilities(wants: &HostConfig, host: &Host) -> Result<CapSet> {
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    caps::of_container(&list(&wants.cap_add), &list(&wants.cap_drop), wants.privileged, host.caps)
}

/// Docker's own variables, then the image's and the user's, then `more`; HOME is the user's where nobody sets it.
fn environment(config: &ContainerConfig, tty: bool, more: &[String], user: &User) -> Vec<String> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={}", config.hostname)];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let mut places: Map<String, usize> = Map::from_iter(env.iter().map(|entry| name(entry)).zip(0..));
    for entry in config.env.iter().flatten().chain(more) {
        match (places.get(&name(entry)), entry.contains('=')) {
            (Some(&place), true) => env[place] = entry.clone(),
            // A name alone takes the variable away.
            (Some(&place), false) => env[place].clear(),
            (None, true) => {
                places.insert(name(entry), env.len());
                env.push(entry.clone());
            }
            (None, false) => {}
        }
    }
    if !env.iter().any(|entry| entry.len() > 5 && entry.starts_with("HOME=")) {
        env.retain(|entry| entry != "HOME=");
        env.push(format!("HOME={}", user.home));
    }
    env.retain(|entry| !entry.is_empty());
    env
}

/// -1 is unlimited.
fn rlimit(name: &str, soft: i64, hard: i64) -> Result<Rlimit> {
    const KNOWN: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    if !KNOWN.contains(&name) {
        bail!("invalid ulimit type: {name}");
    }
    let value = |limit: i64| match limit {
        -1 => Ok(u64::MAX),
        limit => u64::try_from(limit).with_context(|| format!("invalid ulimit {name}: {limit}")),
    };
    let (soft_limit, hard_limit) = (value(soft)?, value(hard)?);
    if soft_limit > hard_limit {
        bail!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
    }
    Ok(Rlimit { kind: format!("RLIMIT_{}", name.to_uppercase()), soft: soft_limit, hard: hard_limit })
}

/// A namespace that is not in the list is shared with the host.
fn namespaces(inputs: &Inputs) -> Result<Vec<Namespace>> {
    let wants = &inputs.record.host_config;
    let mut list = Vec::new();
    let mut add = |kind, path: Option<&PathBuf>| -> Result<()> {
        let path = path.map_or(Ok(String::new()), |path| text(path))?;
        list.push(Namespace { kind, path });
        Ok(())
    };
    let joins = |what: &str, mode: &str, path: &Option<PathBuf>| match (mode.strip_prefix("container:"), path) {
        (Some(name), None) => bail!("join the {what} namespace of container {name}: it has none to join"),
        _ => Ok(()),
    };
    if inputs.record.ids.is_some() {
        add(NamespaceKind::User, inputs.join.user.as_ref())?;
    }
    add(NamespaceKind::Mount, None)?;
    joins("network", &wants.network_mode, &inputs.join.net)?;
    if wants.network_mode != "host" {
        add(NamespaceKind::Network, inputs.join.net.as_ref())?;
    }
    if wants.uts_mode != "host" {
        add(NamespaceKind::Uts, None)?;
    }
    joins("pid", &wants.pid_mode, &inputs.join.pid)?;
    if wants.pid_mode != "host" {
        add(NamespaceKind::Pid, inputs.join.pid.as_ref())?;
    }
    joins("IPC", &wants.ipc_mode, &inputs.join.ipc)?;
    if wants.ipc_mode != "host" {
        add(NamespaceKind::Ipc, inputs.join.ipc.as_ref())?;
    }
    if wants.cgroupns_mode != "host" {
        add(NamespaceKind::Cgroup, None)?;
    }
    if inputs.host.time_namespaces {
        add(NamespaceKind::Time, None)?;
    }
    Ok(list)
}

/// The devices that everybody has, in /dev.
const EVERYBODY: [(&str, i64, i64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The nodes of /dev that everybody has, and those granted; of two with one path the later.
fn nodes(granted: &[Granted]) -> Vec<Device> {
    let everybody = EVERYBODY.into_iter().map(|(name, major, minor)| Device {
        path: format!("/dev/{name}"),
        kind: "c".to_owned(),
        major: Some(major),
        minor: Some(minor),
        file_mode: Some(0o666),
        ..Device::default()
    });
    let mut nodes: Vec<Device> = Vec::new();
    for device in everybody.chain(granted.iter().map(|granted| granted.device.clone())) {
        match nodes.iter_mut().find(|known| known.path == device.path) {
            Some(known) => *known = device,
            None => nodes.push(device),
        }
    }
    nodes
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests;
