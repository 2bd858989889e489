//! From a runtime spec to a plan: pure, so that the order of steps, which is what isolation hangs on, is tested
//! without a kernel.

use super::launch::{Plan, Source};
use super::step::{Exec, Step};
use super::{caps, seccomp};
use crate::oci::runtime::{self, Linux, Mount, NamespaceKind, Process, Seccomp, Spec};
use crate::order::Map;
use crate::sys::kernel;
use crate::sys::mount::{
    MOUNT_ATTR_IDMAP, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MountAttr,
};
use crate::sys::process::Strings;
use anyhow::{Context, Result, bail};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a plan needs beside the spec.
#[derive(Default)]
pub struct Given {
    /// A directory of the host that the root is mounted on for a moment, in the container's own namespace.
    pub root_at: CString,
    /// Sources of binds that are open already, by destination: subpaths of volumes.
    pub open: Map<String, OwnedFd>,
    /// The network namespace, where it was made before, with its loopback up: the spec says that it is a new one.
    pub network: Option<OwnedFd>,
    /// PID 1's duties are ours, and the command is its child.
    pub init: bool,
    /// The user namespace that the spec asks for: a new one of [`super::user::namespace`], or the one to be joined.
    pub user: Option<OwnedFd>,
}

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Bits of `MOUNT_ATTR__ATIME` and of what is not in `sys::mount` because only options name it.
const ATIME: u64 = 0x70;

/// The plan of a new container.
pub fn plan(spec: &Spec, mut given: Given) -> Result<Plan> {
    let process = spec.process.as_ref().context("the spec has no process")?;
    let linux = spec.linux.as_ref().context("the spec has no linux section")?;
    let label = Some(&linux.mount_label).filter(|label| !label.is_empty()).map(|label| text(label)).transpose()?;
    let mut plan = Plan { user: given.user.take(), label, ..Plan::default() };
    let in_user = linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User);
    if in_user != plan.user.is_some() {
        bail!("the spec and what is given for it differ on the user namespace");
    }
    plan.steps.extend([Step::Hide, Step::CloseLock, Step::DefaultSignals]);
    plan.steps.extend(open_labels(process, given.init));
    for namespace in &linux.namespaces {
        let (flag, joined) = (clone_flag(namespace.kind), !namespace.path.is_empty());
        match (namespace.kind, joined) {
            // Entered before the clone, so that all others belong to it.
            (NamespaceKind::User, _) => {}
            (NamespaceKind::Pid, true) => plan.pid_namespace = Some(PathBuf::from(&namespace.path)),
            (_, true) => {
                let slot = plan.slot(Source::Namespace(PathBuf::from(&namespace.path)));
                plan.steps.push(Step::JoinNamespace { slot, path: text(&namespace.path)? });
            }
            (kind, false) => match given.network.take_if(|_| kind == NamespaceKind::Network) {
                Some(network) => {
                    let slot = plan.slot(Source::Open(network));
                    plan.steps.push(Step::JoinNamespace { slot, path: c"network".to_owned() });
                }
                None => plan.namespaces |= flag,
            },
        }
    }
    plan.steps.extend(session(process)?);
    plan.steps.push(Step::PrivateMounts);
    plan.steps.push(Step::AttachRoot { at: given.root_at.clone() });
    if in_user {
        // Not before: the way to where the root is attached may be the host's root's alone.
        plan.steps.push(Step::BecomeRoot);
    }
    for mount in &spec.mounts {
        add_mount(&mut plan, mount, given.open.remove(&mount.destination), linux)?;
    }
    // A /dev of our own making gets our nodes; one that was bound from elsewhere is left as it is.
    if spec.mounts.iter().any(|mount| mount.kind == "tmpfs" && inside(&mount.destination) == "dev") {
        for device in &linux.devices {
            plan.steps.push(node(device)?);
        }
        for (path, target) in [
            ("dev/fd", "/proc/self/fd"),
            ("dev/stdin", "/proc/self/fd/0"),
            ("dev/stdout", "/proc/self/fd/1"),
            ("dev/stderr", "/proc/self/fd/2"),
            ("dev/ptmx", "pts/ptmx"),
        ] {
            plan.steps.push(Step::MakeSymlink { path: text(path)?, target: text(target)? });
        }
    } else {
        for device in linux.devices.iter().filter(|device| !is_default(&device.path)) {
            plan.steps.push(node(device)?);
        }
    }
    // What is mounted on a mount that the host shares would be mounted on the host's.
    if process.terminal && !is_shared(&spec.mounts, "dev/console") {
        plan.steps.push(Step::Console { slot: plan.devpts, target: text("dev/console")? });
    }
    if let Some(hooks) = &spec.hooks
        && [&hooks.prestart, &hooks.create_runtime, &hooks.create_container].iter().any(|hooks| !hooks.is_empty())
    {
        // They find the mounts made, nothing masked, and the root writable.
        plan.steps.push(Step::Meet);
    }
    // Before /proc/sys is covered: what is written must be our own proc, and no mount on it.
    for (key, value) in &linux.sysctl {
        // sysctl(8): a slash stands for the dot in a name.
        let swap = |letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path = text(&format!("sys/{}", key.chars().map(swap).collect::<String>()))?;
        plan.steps.push(Step::Sysctl { path, value: text(value)? });
    }
    if let Some(path) =
        linux.readonly_paths.iter().chain(&linux.masked_paths).find(|path| is_shared(&spec.mounts, inside(path)))
    {
        bail!(
            "{path} cannot be hidden from the container alone, because the host shares what is mounted there: mount it as a \
             slave, or use --security-opt systempaths=unconfined"
        );
    }
    for path in &linux.readonly_paths {
        plan.steps.push(Step::ReadonlyPath { path: text(inside(path))? });
    }
    for path in &linux.masked_paths {
        plan.steps.push(Step::Mask { path: text(inside(path))? });
    }
    if !inside(&process.cwd).is_empty() {
        plan.steps.push(Step::MakeDirectory { path: text(inside(&process.cwd))? });
    }
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        plan.steps.push(Step::ReadonlyRoot);
    }
    plan.steps.push(Step::Pivot);
    if plan.namespaces & libc::CLONE_NEWNET as u64 != 0 {
        plan.steps.push(Step::Loopback);
    }
    if !spec.hostname.is_empty() {
        plan.steps.push(Step::Hostname(text(&spec.hostname)?));
    }
    if !spec.domainname.is_empty() {
        plan.steps.push(Step::Domainname(text(&spec.domainname)?));
    }
    tail(&mut plan, process, linux, linux.seccomp.as_ref(), given.init)?;
    Ok(plan)
}

/// The plan of a further process in a running container: the same tail, with `setns` in front.
pub fn plan_exec(process: &Process, filter: Option<&Seccomp>, pidfd: OwnedFd, linux: &Linux) -> Result<Plan> {
    let mut plan = Plan::default();
    let slot = plan.slot(Source::Open(pidfd));
    plan.steps.extend([Step::Hide, Step::CloseLock, Step::DefaultSignals]);
    plan.steps.extend(session(process)?);
    plan.steps.extend(open_labels(process, false));
    // Those that the container has of its own or joined; its pid namespace was entered before the clone.
    let entered = linux.namespaces.iter().filter(|namespace| namespace.kind != NamespaceKind::Pid);
    let flags = entered.fold(0, |flags, namespace| flags | clone_flag(namespace.kind) as i32);
    plan.steps.push(Step::JoinProcess { slot, flags });
    if flags & libc::CLONE_NEWUSER != 0 {
        plan.steps.push(Step::BecomeRoot);
    }
    tail(&mut plan, process, linux, filter, false)?;
    Ok(plan)
}

/// Of a process with an AppArmor profile or an SELinux label.
fn open_labels(process: &Process, init: bool) -> impl Iterator<Item = Step> {
    let profile = (!process.apparmor_profile.is_empty()).then_some(Step::OpenProfile { now: init });
    let label = (!process.selinux_label.is_empty()).then_some(Step::OpenLabel);
    profile.into_iter().chain(label)
}

/// A session, whose keys have the label of its processes.
fn session(process: &Process) -> Result<Vec<Step>> {
    if process.selinux_label.is_empty() {
        return Ok(vec![Step::NewSession]);
    }
    let label = Some(text(&process.selinux_label)?);
    Ok(vec![Step::KeyLabel(label), Step::NewSession, Step::KeyLabel(None)])
}

/// From "all mounts are made" to exec: the privilege order, with its reasons, on one screen.
fn tail(plan: &mut Plan, process: &Process, linux: &Linux, filter: Option<&Seccomp>, init: bool) -> Result<()> {
    let user = &process.user;
    let named = process.capabilities.clone().unwrap_or_default();
    let set = |names: &[String]| caps::set(names).map(|set| set & caps::held());
    let (bounding, inheritable, ambient) = (set(&named.bounding)?, set(&named.inheritable)?, set(&named.ambient)?);
    let (effective, permitted) = (set(&named.effective)?, set(&named.permitted)?);
    // Without no_new_privs only CAP_SYS_ADMIN may load a filter. It is kept to that step and goes with execve,
    // which takes from root what is not in the bounding set, and from others all that is not ambient.
    let loading = if filter.is_some() && !process.no_new_privileges { CAP_SYS_ADMIN } else { 0 };

    plan.limits = process.rlimits.clone();
    plan.oom_score_adj = process.oom_score_adj;
    // In a user namespace nobody may give away what was made outside.
    plan.owner = if linux.uid_mappings.is_empty() {
        None
    } else {
        if let Some(gid) = std::iter::once(&user.gid)
            .chain(&user.additional_gids)
            .find(|gid| runtime::outside(&linux.gid_mappings, **gid).is_none())
        {
            bail!("gid {gid} is not in the user namespace");
        }
        let no_such = || format!("uid {} is not in the user namespace", user.uid);
        Some(runtime::outside(&linux.uid_mappings, user.uid).with_context(no_such)?)
    };

    let steps = &mut plan.steps;
    // The cgroup, limits and network are the parent's part; nothing of the user's runs before they hold.
    steps.push(Step::WaitForGo);
    steps.push(Step::Umask(user.umask.unwrap_or(0o022)));
    steps.push(Step::Stdio { terminal: process.terminal, owner: Some(user.uid).filter(|_| plan.owner.is_none()) });
    if !process.apparmor_profile.is_empty() {
        // Init is in it without executing anything.
        let words = format!("{} {}", if init { "changeprofile" } else { "exec" }, process.apparmor_profile);
        steps.push(Step::Profile { name: text(&process.apparmor_profile)?, words: text(&words)? });
    }
    if !process.selinux_label.is_empty() {
        steps.push(Step::Label(text(&process.selinux_label)?));
    }
    // From here on no descriptor leads out, so that a working directory cannot either.
    steps.push(Step::CloseDescriptors);
    steps.push(Step::ChangeDirectory { path: text(if process.cwd.is_empty() { "/" } else { &process.cwd })? });
    // The bounding set needs CAP_SETPCAP, groups and gid need CAP_SETGID: all before the user changes.
    steps.push(Step::Bounding(bounding));
    steps.push(Step::KeepCapabilities);
    if kernel::may_set_groups() {
        steps.push(Step::Groups(user.additional_gids.clone()));
    }
    steps.push(Step::Gid(user.gid));
    steps.push(Step::Uid(user.uid));
    steps.push(Step::Capabilities {
        effective: effective | loading,
        permitted: permitted | loading,
        inheritable: inheritable | ambient,
    });
    if ambient != 0 {
        steps.push(Step::Ambient(ambient));
    }
    // A change of credentials clears it.
    steps.push(Step::DeathSignal);
    if process.no_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    if let Some(filter) = filter {
        let (program, flags) = seccomp::compile(filter)?;
        steps.push(Step::Seccomp { program, flags });
    }
    if init {
        steps.push(Step::Init { title: super::init::title(&process.args) });
    }
    steps.push(Step::Exec(exec(&process.args, &process.env)?));
    Ok(())
}

/// A command that is looked for where its own environment says.
pub fn exec(args: &[String], env: &[String]) -> Result<Exec> {
    let name = args.first().context("no command specified")?;
    let variable = |entry: &String| entry.strip_prefix("PATH=").map(str::to_owned);
    let path = env.iter().rev().find_map(variable).unwrap_or_default();
    // There is no file without a name, in no directory.
    let paths = if name.contains('/') || name.is_empty() {
        vec![text(name)?]
    } else {
        let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
        dirs.map(|dir| text(&format!("{dir}/{name}"))).collect::<Result<_>>()?
    };
    let strings = |list: &[String]| list.iter().map(|item| text(item)).collect::<Result<Vec<_>>>().map(Strings::new);
    Ok(Exec { name: text(name)?, paths, args: strings(args)?, env: strings(env)? })
}

fn add_mount(plan: &mut Plan, mount: &Mount, open: Option<OwnedFd>, linux: &Linux) -> Result<()> {
    let target = text(inside(&mount.destination))?;
    let context = || format!("mount on {}", mount.destination);
    let mut options = Options::parse(&mount.options).with_context(context)?;
    if options.bind || mount.kind == "bind" {
        if !options.data.is_empty() {
            bail!("mount on {}: a bind takes no option {}", mount.destination, options.data[0].0);
        }
        let mut attr = MountAttr { attr_set: options.set, attr_clr: options.clear, ..MountAttr::default() };
        attr.propagation = if options.propagation == 0 { libc::MS_PRIVATE } else { options.propagation };
        if options.idmap {
            let user = plan.user.as_ref().context("idmap needs a user namespace").with_context(context)?;
            attr.attr_set |= MOUNT_ATTR_IDMAP;
            attr.userns_fd = user.as_raw_fd() as u64;
        }
        let source = match open {
            Some(file) => Source::BindOpen { file, attr, at: mount.destination.clone() },
            None => Source::Bind {
                path: PathBuf::from(&mount.source),
                recursive: options.recursive,
                attr,
                attr_recursive: options.set_recursive,
            },
        };
        let slot = plan.slot(source);
        plan.steps.push(Step::Attach { slot, target, alike: false });
        return Ok(());
    }
    if !linux.uid_mappings.is_empty() && matches!(mount.kind.as_str(), "tmpfs" | "devpts") {
        options.own(&mount.kind, linux).with_context(context)?;
    }
    let mut config = Vec::new();
    if !mount.source.is_empty() {
        config.push((text("source")?, Some(text(&mount.source)?)));
    }
    for (key, value) in &options.data {
        config.push((text(key)?, value.as_deref().map(text).transpose()?));
    }
    let kind = if mount.kind == "cgroup" { "cgroup2" } else { &mount.kind };
    if matches!(kind, "tmpfs" | "devpts") && !linux.mount_label.is_empty() {
        config.push((text("context")?, Some(text(&linux.mount_label)?)));
    }
    match kind {
        // Each belongs to a namespace of the child.
        "proc" | "sysfs" | "mqueue" | "cgroup2" => {
            let at = target.clone();
            plan.steps.push(Step::NewMount { kind: text(kind)?, config, attributes: options.set, target });
            // It takes none as it is mounted; one of a user namespace takes none at all.
            if kind == "mqueue" && !linux.mount_label.is_empty() && linux.uid_mappings.is_empty() {
                plan.steps.push(Step::LabelFile { path: at, label: text(&linux.mount_label)? });
            }
        }
        "tmpfs" | "devpts" => {
            let (attributes, propagation) = (options.set, options.propagation);
            let slot = plan.slot(Source::Mount { kind: text(kind)?, config, attributes, propagation });
            if kind == "devpts" && inside(&mount.destination) == "dev/pts" {
                plan.devpts = Some(slot);
            }
            // As with runc, so that /root stays the user's own.
            let alike = kind == "tmpfs" && !options.data.iter().any(|(key, _)| key == "mode");
            plan.steps.push(Step::Attach { slot, target, alike });
        }
        other => bail!("mount on {}: file system {other:?} is not supported", mount.destination),
    }
    Ok(())
}

/// The options of one mount, sorted by what they are for.
#[derive(Debug, Default, PartialEq)]
struct Options {
    bind: bool,
    recursive: bool,
    set: u64,
    clear: u64,
    set_recursive: bool,
    propagation: u64,
    /// The ids of its files are those of the container.
    idmap: bool,
    data: Vec<(String, Option<String>)>,
}

impl Options {
    fn parse(list: &[String]) -> Result<Options> {
        let mut options = Options::default();
        for option in list {
            // An `r` in front of an attribute's name makes it hold for all mounts below too.
            let attribute = attribute(option).map(|attr| (attr, false));
            let below = || option.strip_prefix('r').and_then(self::attribute).map(|attr| (attr, true));
            if let Some(((bits, on), recursive)) = attribute.or_else(below) {
                if bits & ATIME != 0 || (bits == 0 && !on) {
                    options.clear |= ATIME;
                    options.set = options.set & !ATIME | bits;
                } else if on {
                    options.set |= bits;
                    options.clear &= !bits;
                } else {
                    options.clear |= bits;
                    options.set &= !bits;
                }
                options.set_recursive |= recursive;
                continue;
            }
            match option.as_str() {
                "bind" => options.bind = true,
                "rbind" => (options.bind, options.recursive) = (true, true),
                "private" | "rprivate" => options.propagation = libc::MS_PRIVATE,
                "slave" | "rslave" => options.propagation = libc::MS_SLAVE,
                "shared" | "rshared" => options.propagation = libc::MS_SHARED,
                "unbindable" | "runbindable" => options.propagation = libc::MS_UNBINDABLE,
                "defaults" | "" => {}
                "idmap" => options.idmap = true,
                "tmpcopyup" | "ridmap" => bail!("option {option:?} is not supported"),
                other => options.data.push(match other.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (other.to_owned(), None),
                }),
            }
        }
        Ok(options)
    }

    /// Names the owners of what is mounted outside of the user namespace as they are named there.
    fn own(&mut self, kind: &str, linux: &Linux) -> Result<()> {
        for (name, map) in [("uid", &linux.uid_mappings), ("gid", &linux.gid_mappings)] {
            let place = self.data.iter().position(|(key, _)| key == name);
            let asked = place.and_then(|at| self.data[at].1.as_deref());
            let id =
                asked.map_or(Ok(0), str::parse).with_context(|| format!("{name}={}", asked.unwrap_or_default()))?;
            let outside =
                runtime::outside(map, id).with_context(|| format!("{name} {id} is not in the user namespace"));
            match place {
                Some(at) => self.data[at].1 = Some(outside?.to_string()),
                // A terminal is whose who opens it, unless it was said.
                None if kind == "devpts" => {}
                None => self.data.push((name.to_owned(), Some(outside?.to_string()))),
            }
        }
        Ok(())
    }
}

/// A mount attribute by its name in mount(8): its bits, and whether the name turns them on.
fn attribute(name: &str) -> Option<(u64, bool)> {
    Some(match name {
        "ro" => (MOUNT_ATTR_RDONLY, true),
        "rw" => (MOUNT_ATTR_RDONLY, false),
        "nosuid" => (MOUNT_ATTR_NOSUID, true),
        "suid" => (MOUNT_ATTR_NOSUID, false),
        "nodev" => (MOUNT_ATTR_NODEV, true),
        "dev" => (MOUNT_ATTR_NODEV, false),
        "noexec" => (MOUNT_ATTR_NOEXEC, true),
        "exec" => (MOUNT_ATTR_NOEXEC, false),
        "noatime" => (0x10, true),
        "strictatime" => (0x20, true),
        "relatime" | "atime" => (0, false),
        "nodiratime" => (0x80, true),
        "diratime" => (0x80, false),
        "nosymfollow" => (0x20_0000, true),
        "symfollow" => (0x20_0000, false),
        _ => return None,
    })
}

fn node(device: &crate::oci::runtime::Device) -> Result<Step> {
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => bail!("device {}: unknown type {other:?}", device.path),
    };
    let number = |value: Option<i64>| u64::try_from(value.unwrap_or(0)).context("a device number below zero");
    let device_number = nix::sys::stat::makedev(number(device.major)?, number(device.minor)?);
    Ok(Step::MakeNode {
        path: text(inside(&device.path))?,
        mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
        device: device_number,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

/// Whether the mount that a path is on, the last and deepest above it, is shared.
fn is_shared(mounts: &[Mount], path: &str) -> bool {
    let above = |mount: &&Mount| Path::new(path).starts_with(inside(&mount.destination));
    let deepest = mounts.iter().filter(above).max_by_key(|mount| inside(&mount.destination).len());
    deepest.is_some_and(|mount| mount.options.iter().any(|option| matches!(option.as_str(), "shared" | "rshared")))
}

fn is_default(path: &str) -> bool {
    ["null", "zero", "full", "random", "urandom", "tty"].iter().any(|name| inside(path) == format!("dev/{name}"))
}

pub(super) fn clone_flag(kind: NamespaceKind) -> u64 {
    (match kind {
        NamespaceKind::Pid => libc::CLONE_NEWPID,
        NamespaceKind::Network => libc::CLONE_NEWNET,
        NamespaceKind::Mount => libc::CLONE_NEWNS,
        NamespaceKind::Ipc => libc::CLONE_NEWIPC,
        NamespaceKind::Uts => libc::CLONE_NEWUTS,
        NamespaceKind::User => libc::CLONE_NEWUSER,
        NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
        NamespaceKind::Time => 0x80,
    }) as u32 as u64
}

/// A container's path relative to its root.
fn inside(path: &str) -> &str {
    path.trim_matches('/')
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).with_context(|| format!("{text:?} holds a NUL"))
}

impl Plan {
    fn slot(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }
}

#[cfg(test)]
mod tests;
