//! The mounts of a container: Docker's own, then the user's by depth.

use crate::order;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{EVERYBODY, Host, Inputs, Security, text};
use crate::api::types::HostConfig;
use crate::engine::devices::Granted;
use crate::engine::init;
use crate::engine::record::Mounted;
use crate::oci::runtime::Mount;

const DEFAULT_SHM_SIZE: i64 = 64 << 20;

/// Mounts in their order, and the propagation that the root needs for them.
pub fn mounts(inputs: &Inputs, security: &Security) -> Result<(Vec<Mount>, String)> {
    let wants = &inputs.record.host_config;
    let mut users = Vec::new();
    let mut propagation = "";
    let own_ids = inputs.record.ids.is_some();
    for mounted in &inputs.record.mounts {
        let mut mount = of_user(mounted)?;
        // What is the store's has the ids of containers; what is the host's keeps the host's, whoever looks at it.
        if own_ids && mounted.point.r#type == "volume" && inputs.own_volumes.contains(&mounted.point.name) {
            mount.options.push("idmap".to_owned());
        }
        users.push(mount);
        propagation = match mounted.point.propagation.as_str() {
            "shared" | "rshared" => "shared",
            "slave" | "rslave" if propagation.is_empty() => "rslave",
            _ => propagation,
        };
    }
    for (target, options) in wants.tmpfs.iter().flatten() {
        if !users.iter().any(|mount| mount.destination == clean(target)) {
            users.push(tmpfs(target, options)?);
        }
    }
    let files =
        [(inputs.resolv_conf, "/etc/resolv.conf"), (inputs.hostname, "/etc/hostname"), (inputs.hosts, "/etc/hosts")];
    let access = if wants.readonly_rootfs { "ro" } else { "rw" };
    for (source, target) in files {
        if let Some(source) = source
            && !users.iter().any(|mount| mount.destination == target)
        {
            let options = ["rbind", access, "rprivate", "idmap"];
            users.push(bind(source, target, &options[..if own_ids { 4 } else { 3 }])?);
        }
    }
    if let Some(shm) = inputs.shm
        && !users.iter().any(|mount| mount.destination == "/dev/shm")
    {
        users.push(bind(shm, "/dev/shm", &["rbind", "rprivate"])?);
    }
    order::by_key(&mut users, |mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());

    let has = |target: &str| users.iter().any(|mount| mount.destination == target);
    let mut mounts = defaults(wants, security, inputs.host);
    mounts.retain(|mount| {
        let below = has("/dev") && mount.destination.starts_with("/dev/");
        let unshared = mount.destination == "/dev/shm" && wants.ipc_mode == "none";
        !(has(&mount.destination) || below || unshared)
    });
    let no_devices = own_ids || inputs.host.user_namespace;
    if no_devices && wants.ipc_mode == "host" {
        // The host's queues are not to be mounted from a user namespace.
        mounts.retain(|mount| mount.destination != "/dev/mqueue");
    }
    let own_dev = mounts.iter().any(|mount| mount.destination == "/dev");
    mounts.append(&mut users);
    if let Some(init) = inputs.init {
        mounts.push(bind(init, init::PLACE, &["bind", "ro", "nodev", "rprivate"])?);
    }
    if no_devices {
        mounts.append(&mut devices(inputs.devices, own_dev)?);
    }
    Ok((mounts, propagation.to_owned()))
}

fn defaults(wants: &HostConfig, security: &Security, host: &Host) -> Vec<Mount> {
    let cgroups = &host.cgroups;
    let mount = |target: &str, kind: &str, source: &str, options: &str| Mount {
        destination: target.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.split(',').map(str::to_owned).collect(),
        ..Mount::default()
    };
    let sys = if wants.privileged { "nosuid,noexec,nodev" } else { "nosuid,noexec,nodev,ro" };
    let cgroup = match security.writable_cgroups.unwrap_or(wants.privileged) {
        true => "nosuid,noexec,nodev",
        false => "ro,nosuid,noexec,nodev",
    };
    // In the host's cgroup namespace a new mount would change the options of the host's own (nsdelegate and the like).
    let cgroup = match wants.cgroupns_mode == "host" && !cgroups.is_empty() {
        true => mount("/sys/fs/cgroup", "bind", cgroups, &format!("bind,rprivate,{cgroup}")),
        false => mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
    };
    // Only who owns a network or pid namespace mounts its files anew; whose is the host's gets those of the host.
    let proc = match host.user_namespace && wants.pid_mode == "host" {
        true => mount("/proc", "bind", "/proc", "rbind,rprivate,nosuid,noexec,nodev"),
        false => mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
    };
    let sys = match host.user_namespace && wants.network_mode == "host" {
        true => mount("/sys", "bind", "/sys", &format!("rbind,rprivate,{sys}")),
        false => mount("/sys", "sysfs", "sysfs", sys),
    };
    // The group tty, where there is one.
    let pts = if host.single_id { "" } else { ",gid=5" };
    let pts = format!("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620{pts}");
    let shm_size = if wants.shm_size > 0 { wants.shm_size } else { DEFAULT_SHM_SIZE };
    vec![
        proc,
        mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount("/dev/pts", "devpts", "devpts", &pts),
        sys,
        cgroup,
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/dev/shm", "tmpfs", "shm", &format!("nosuid,noexec,nodev,mode=1777,size={shm_size}")),
    ]
}

/// The devices of a container in a user namespace, in which nobody makes any: the host's, where its user cannot change
/// them.
fn devices(granted: &[Granted], own_dev: bool) -> Result<Vec<Mount>> {
    let everybody = EVERYBODY.iter().filter(|_| own_dev).map(|(name, _, _)| format!("/dev/{name}"));
    let mut places: Vec<(PathBuf, String)> = everybody.map(|path| (PathBuf::from(&path), path)).collect();
    for Granted { device, source, .. } in granted {
        places.retain(|(_, place)| *place != device.path);
        places.push((source.clone(), device.path.clone()));
    }
    places.iter().map(|(source, target)| device(source, target)).collect()
}

/// A device of the host's, mounted in the place of one that is not made.
pub fn device(source: &Path, target: &str) -> Result<Mount> {
    bind(source, target, &["bind", "rprivate", "nosuid", "noexec"])
}

fn of_user(mounted: &Mounted) -> Result<Mount> {
    let point = &mounted.point;
    if point.r#type == "tmpfs" {
        return tmpfs(&point.destination, &mounted.options);
    }
    // Of what the kernel says of itself there is no other version (CVE-2019-19921).
    if clean(&point.destination) == "/proc" && point.source != "/proc" {
        bail!("{:?} cannot be mounted on /proc because it is not of type proc", point.source);
    }
    let mut options = vec![if mounted.non_recursive { "bind" } else { "rbind" }];
    if !point.rw {
        options.push(if mounted.read_only_non_recursive { "ro" } else { "rro" });
    }
    options.push(match point.propagation.as_str() {
        "" => "rprivate",
        other => other,
    });
    bind(Path::new(&point.source), &point.destination, &options)
}

fn bind(source: &Path, target: &str, options: &[&str]) -> Result<Mount> {
    Ok(Mount {
        destination: clean(target),
        kind: "bind".to_owned(),
        source: text(source)?,
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    })
}

/// One slash between components, none at the end. `..` was refused when the mount was settled.
fn clean(target: &str) -> String {
    let parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.fold(String::new(), |path, part| path + "/" + part)
}

/// Refuses a `--tmpfs` that could not be mounted. The words are Docker's.
pub fn check_tmpfs(target: &str, options: &str) -> Result<()> {
    if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
        bail!("invalid mount path: {target:?} mount path must be absolute");
    }
    if clean(target).is_empty() {
        bail!("invalid specification: destination can't be '/'");
    }
    tmpfs(target, options).map(drop)
}

fn tmpfs(target: &str, options: &str) -> Result<Mount> {
    // As runc has it: what programs take for the kernel's word would be the container's (CVE-2019-16884).
    if clean(target) == "/proc" {
        bail!("{target:?} cannot be mounted because it is not of type proc");
    }
    const DEFAULTS: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];
    let asked = options.split(',').filter(|option| !option.is_empty());
    Ok(Mount {
        destination: clean(target),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options: merge(DEFAULTS.into_iter().chain(asked))?,
        ..Mount::default()
    })
}

/// Of options that contradict each other the last, in the place where it stands.
fn merge<'a>(options: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
    let mut merged: Vec<(String, &str)> = Vec::new();
    for option in options.filter(|option| *option != "defaults") {
        let Some(subject) = subject(option) else {
            bail!("invalid tmpfs option [{option:?}]");
        };
        merged.retain(|(known, _)| *known != subject);
        merged.push((subject, option));
    }
    Ok(merged.into_iter().map(|(_, option)| option.to_owned()).collect())
}

/// What an option is about: the same for `exec` and `noexec`.
fn subject(option: &str) -> Option<String> {
    Some(match option {
        "ro" | "rw" => "access".to_owned(),
        "async" => "sync".to_owned(),
        "suid" | "dev" | "exec" | "sync" | "dirsync" | "mand" | "atime" | "diratime" | "relatime" | "strictatime" => {
            option.to_owned()
        }
        "nosuid" | "nodev" | "noexec" | "nomand" | "noatime" | "nodiratime" | "norelatime" | "nostrictatime" => {
            option["no".len()..].to_owned()
        }
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => {
            "propagation".to_owned()
        }
        _ => match option.split_once('=')? {
            (key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol"), _) => key.to_owned(),
            _ => return None,
        },
    })
}
