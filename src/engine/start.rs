//! From a record to everything that a start needs: the root, the spec, the plan, and what the plan opens.

use super::containers::Doing;
use super::record::Record;
use super::shim::{cgroup_of, cgroup_root};
use super::store::{self, Store};
use super::{
    apparmor, base, cdi, containers, devices, etc, init, limits, mounts, networks, propagation, selinux, spec, users,
    volumes,
};
use crate::api::Refusal;
use crate::api::types::NEVER;
use crate::fs::overlay::{self, Mapped, Upper};
use crate::fs::{flatten, path, relabel};
use crate::ns::{self, Plan, Prepared};
use crate::oci::runtime::{Ids, Spec};
use crate::order::{Map, Set};
use crate::sys::mount::{MOUNT_ATTR_NODEV, MountAttr, mount_setattr};
use crate::sys::{self, mount};
use anyhow::{Context, Result, anyhow, bail};
use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Ready to be cloned.
pub struct Ready {
    pub plan: Plan,
    pub prepared: Prepared,
    pub spec: Spec,
    /// The container's network namespace, where it was made before the container.
    pub namespace: Option<OwnedFd>,
}

/// What a start has of the container already.
pub struct Given<'a> {
    /// The one that it will live in, where there is one.
    pub cgroup: Option<&'a OwnedFd>,
    pub network: &'a networks::Held,
    /// Gives the network namespace, that of its last run or one that is being made. It is asked for as late as may be.
    pub namespace: Option<Box<dyn FnOnce() -> Result<OwnedFd> + 'a>>,
}

pub fn ready(store: &Store, record: &Record, given: Given) -> Result<Ready> {
    let record = &*propagation::checked(record).with_context(|| format!("starting {}", record.name))?;
    let confined = given.cgroup;
    let dir = store.container(&record.id);
    // The root is mounted here for a moment, in the container's own mount namespace: any directory will do.
    let at = dir.join("work");
    let mut shared = Shared::find(store, record)?;
    let mut network = given.namespace;
    let mut kept = None;
    let user = match &record.ids {
        None => None,
        // Namespaces belong to a user namespace: that of its last run goes with the network that was kept.
        Some(_) if network.is_some() => {
            kept = network.take().map(|network| network()).transpose()?;
            kept.as_ref()
                .map(|kept| sys::net::user_namespace(kept.as_fd()))
                .transpose()
                .context("find who owns a network")?
        }
        Some(ids) => Some(shared.user(ids).with_context(|| format!("starting {}", record.name))?),
    };
    let root = root(store, record, &at, record.host_config.auto_remove, user.as_ref().map(|fd| fd.as_fd()))
        .with_context(|| format!("starting {}", record.name))?;
    let own = user;
    let host = &record.host_config;
    let user = match record.step {
        true => users::resolve_step(root.as_fd(), &record.config.user)?,
        false => users::resolve(root.as_fd(), &record.config.user, &host.group_add)?,
    };
    let cgroup = cgroup_of(store, &record.id, &host.cgroup_parent);
    let cgroup = cgroup.map(|path| path.display().to_string()).unwrap_or_default();
    let etc_dir = record.etc_dir(store);
    etc::write(store, &etc_dir, record, given.network)?;
    let files = shared.files.as_deref().unwrap_or(&etc_dir);
    let file = |name: &str| Some(files.join(name)).filter(|path| path.exists());
    let (hosts, hostname, resolv_conf) = (file("hosts"), file("hostname"), file("resolv.conf"));
    let mut own_volumes = Set::new();
    for mounted in record.mounts.iter().filter(|mounted| mounted.point.r#type == "volume") {
        if !volumes::enter(store, &mounted.point.name)? {
            own_volumes.insert(mounted.point.name.clone());
        }
    }
    let on = spec::Host::read();
    if on.selinux && !record.mount_label.is_empty() {
        label(store, record, [&hosts, &hostname, &resolv_conf].into_iter().flatten(), shared.files.is_some())?;
    }
    let requests = host.device_requests.as_deref().unwrap_or_default();
    let edits = cdi::edits(requests, &record.cdi_dirs)?;
    let mut granted = devices::granted(host)?;
    granted.extend(cdi::granted(&edits, &user)?);
    // In a pid namespace of somebody else's, PID 1 has its duties already.
    let init = host.init.unwrap_or(false) && !shared.pid;
    let labelled = on.selinux && !record.process_label.is_empty();
    let program = (init && labelled).then(|| init::program(store)).transpose()?;
    let mut spec = spec::spec(&spec::Inputs {
        record,
        user: &user,
        host: &on,
        devices: &granted,
        limits: limits::resources(host, &limits::number)?,
        root: &dir.join("rootfs"),
        cgroup: &cgroup,
        hosts: hosts.as_deref(),
        hostname: hostname.as_deref(),
        resolv_conf: resolv_conf.as_deref(),
        shm: shared.shm.as_deref(),
        own_volumes,
        init: program.as_deref(),
        join: shared.join,
    })?;
    cdi::apply(&edits, &mut spec, &at)?;
    let usual = edits.nodes.is_empty()
        && host.devices.iter().flatten().next().is_none()
        && host.device_cgroup_rules.iter().flatten().next().is_none();
    let keep = cgroup_root(store).filter(|_| usual);
    let confined = confine_devices(&mut spec, confined, host.privileged, keep.as_deref());
    if !confined {
        shut_devices(&mut spec, root.as_fd(), &store.volumes(), &granted)?;
    }
    apparmor::ensure(spec.process.as_ref().map_or("", |process| &process.apparmor_profile))?;
    let bytes = serde_json::to_vec(&spec).context("encode the runtime spec")?;
    store::write_file(&store.live(&record.id).join("config.json"), &bytes, false)?;
    let mapped = own.as_ref().zip(record.ids.as_ref());
    let mapped = mapped.map(|(user, ids)| Mapped { base: &store.root, user: user.as_fd(), ids });
    let mut open = opened(store, record, &at, mapped.as_ref())?;
    if let (Some(shm), Some(init)) = (&shared.shm, &shared.shm_of) {
        let tree = shm_of(init).with_context(|| format!("open {}", shm.display()))?;
        open.insert("/dev/shm".to_owned(), tree);
    }
    let namespace = network.map(|network| network()).transpose().context("prepare the network")?.or(kept);
    let network = namespace.as_ref().map(|namespace| namespace.try_clone()).transpose().context("copy a descriptor")?;
    let given = ns::Given {
        network,
        root_at: CString::new(at.as_os_str().as_bytes()).context("a NUL in a path")?,
        open,
        init: init && program.is_none(),
        user: own,
    };
    let plan = ns::plan(&spec, given).with_context(|| format!("starting {}", record.name))?;
    let prepared = ns::prepare(&plan, Some(root), None).with_context(|| format!("starting {}", record.name))?;
    // Asked after the namespaces were opened: their pid was still that of the container's init.
    for owner in shared.owners {
        if !super::record::held(store, &owner)?.init {
            bail!("starting {}: container {owner} ended meanwhile", record.name);
        }
    }
    Ok(Ready { plan, prepared, spec, namespace })
}

/// Gives what is lent to a container its label: layers, the files that are made for it, and of mounts those that were asked
/// for to be so, with `z` for several containers, with `Z` for it alone.
fn label<'a>(store: &Store, record: &Record, files: impl Iterator<Item = &'a PathBuf>, shared: bool) -> Result<()> {
    // Older kernels ask of a mapped file what it is called below the overlay.
    if let selinux::Support::All(contexts) = selinux::support(None) {
        let mounted = record.mounts.iter().flat_map(|mounted| &mounted.layers).map(|id| store.layer(id).join("fs"));
        for layer in record.lower_dirs(store).into_iter().chain(mounted).chain([base::layer(store)?]) {
            relabel::once(&layer, &contexts.layers)?;
        }
    }
    let of = |shared: bool| if shared { selinux::shared(&record.mount_label) } else { record.mount_label.clone() };
    for file in files {
        relabel::all(file, &of(shared))?;
    }
    for mounted in &record.mounts {
        let point = &mounted.point;
        let asked = |mode: &str| {
            matches!(point.r#type.as_str(), "bind" | "volume") && point.mode.split(',').any(|word| word == mode)
        };
        if asked("z") || asked("Z") {
            relabel::all(Path::new(&point.source), &of(asked("z")))
                .with_context(|| format!("error setting label on mount source '{}'", point.source))?;
        }
    }
    Ok(())
}

/// Root in a container may make device nodes; a program on its cgroup decides which of them open. Gives whether there is
/// one, or none is needed.
fn confine_devices(spec: &mut Spec, cgroup: Option<&OwnedFd>, privileged: bool, keep: Option<&Path>) -> bool {
    let rules =
        spec.linux.as_ref().and_then(|linux| Some(linux.resources.as_ref()?.devices.clone())).unwrap_or_default();
    privileged || cgroup.is_some_and(|cgroup| crate::cgroup::devices::attach(cgroup.as_fd(), &rules, keep).is_ok())
}

/// Where nothing decides on devices, none is made, and those that the image and volumes have do not open: the host's disks
/// would be a name away. What was granted is in a /dev of ours, or the host's is mounted in its place.
fn shut_devices(spec: &mut Spec, root: BorrowedFd, volumes: &Path, granted: &[devices::Granted]) -> Result<()> {
    if let Some(caps) = spec.process.as_mut().and_then(|process| process.capabilities.as_mut()) {
        for set in
            [&mut caps.bounding, &mut caps.effective, &mut caps.inheritable, &mut caps.permitted, &mut caps.ambient]
        {
            set.retain(|name| name != "CAP_MKNOD");
        }
    }
    for mount in spec.mounts.iter_mut().filter(|mount| Path::new(&mount.source).starts_with(volumes)) {
        mount.options.push("nodev".to_owned());
    }
    let own_dev = spec.mounts.iter().any(|mount| mount.destination == "/dev" && mount.kind == "tmpfs");
    let is_elsewhere = |path: &str| !(own_dev && Path::new(path).starts_with("/dev"));
    for device in granted.iter().filter(|granted| is_elsewhere(&granted.device.path)) {
        spec.mounts.push(spec::device(&device.source, &device.device.path)?);
    }
    if let Some(linux) = &mut spec.linux {
        linux.devices.retain(|device| !is_elsewhere(&device.path));
    }
    let attr = MountAttr { attr_set: MOUNT_ATTR_NODEV, ..MountAttr::default() };
    mount_setattr(root, false, &attr).context("keep the devices of the image shut")
}

/// Mounts the container's root, detached. Where the store's file system cannot hold the upper of an overlay (another
/// overlay, a ramfs), the layers are copied once, and the copy is the root from then on.
/// A `volatile` one is not synced. The kernel mounts it once only, because a crash may have come between: its mark is taken
/// away for a restart, before which none has, for the record goes with the boot.
pub(super) fn root(
    store: &Store,
    record: &Record,
    at: &Path,
    volatile: bool,
    user: Option<BorrowedFd>,
) -> Result<OwnedFd> {
    let dir = store.container(&record.id);
    let label = if selinux::is_enabled() { record.mount_label.clone() } else { String::new() };
    let upper = Upper { upper: dir.join("upper"), work: dir.join("work"), volatile, label };
    if volatile && record.ended.started_at != NEVER {
        let mark = upper.work.join("work/incompat");
        match std::fs::remove_dir_all(&mark) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", mark.display()));
            }
            _ => {}
        }
    }
    let mapped = user.zip(record.ids.as_ref()).map(|(user, ids)| Mapped { base: &store.root, user, ids });
    let copied = || match &mapped {
        Some(mapped) => overlay::bind_mapped(&upper.upper, mapped),
        None => overlay::bind(&upper.upper, false),
    };
    if record.copied {
        if !upper.label.is_empty() {
            relabel::all(&upper.upper, &upper.label)?;
        }
        return copied();
    }
    let mut lowers = record.lower_dirs(store);
    lowers.push(base::layer(store)?);
    let mounted = match &mapped {
        Some(mapped) => overlay::mount_mapped(&lowers, Some(&upper), at, mapped),
        None => overlay::mount(&lowers, Some(&upper), at),
    };
    let error = match mounted {
        Err(error) if overlay::is_unfit(&error) => error,
        other => return other,
    };
    if store.is_read_only() {
        bail!("the store {} is read-only", store.root.display());
    }
    flatten::flatten(&lowers, &upper.upper).with_context(|| format!("copy layers, as {error:#}"))?;
    Record::update(store, &record.id, |record| {
        record.copied = true;
        Ok(())
    })?;
    if !upper.label.is_empty() {
        relabel::all(&upper.upper, &upper.label)?;
    }
    copied()
}

/// Asks, before anything is made, of the containers whose network and shared memory a container joins; what is wrong with
/// them has a status of its own. Who has another one's network is called as that one is.
pub fn with_owners(store: &Store, mut record: Record) -> Result<Record> {
    if let Some(name) = record.host_config.network_mode.strip_prefix("container:") {
        // Not found, but not what was asked to start.
        let id = containers::find(store, name)
            .map_err(|error| anyhow!("joining network namespace of container: {error:#}"))?;
        if id == record.id {
            bail!("cannot join own network namespace");
        }
        let owner = containers::now(store, &id)?;
        match owner.doing {
            doing if doing.is_alive() => {}
            Doing::Restarting => {
                let why = containers::is_restarting(&id);
                return Err(anyhow::Error::from(why).context("cannot join network namespace of container"));
            }
            doing => bail!(Refusal::Conflict(format!(
                "cannot join network namespace of a non running container: container {} is {}",
                owner.record.name,
                doing.word()
            ))),
        }
        let named = owner.record.config;
        let has = (&record.config.hostname, &record.config.domainname);
        if has != (&named.hostname, &named.domainname) {
            record = Record::update(store, &record.id, |record| {
                (record.config.hostname, record.config.domainname) = (named.hostname, named.domainname);
                Ok(())
            })?;
        }
    }
    if let Some(name) = record.host_config.ipc_mode.strip_prefix("container:") {
        shareable(store, name).context("failed to join IPC namespace")?;
    }
    Ok(record)
}

/// Whether the shared memory of a container is there for others.
fn shareable(store: &Store, name: &str) -> Result<()> {
    let id = containers::find(store, name).map_err(|error| Refusal::BadParameter(format!("{error:#}")))?;
    containers::namespace(store, &id, "ipc")?;
    let mode = Record::load(store, &id)?.map(|owner| owner.host_config.ipc_mode);
    if matches!(mode.as_deref(), Some("private" | "none")) {
        bail!(Refusal::BadParameter(format!(
            "container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )));
    }
    Ok(())
}

/// What a container shares with another one, or with the host.
struct Shared {
    join: spec::Join,
    /// Where hosts, hostname and resolv.conf lie, of a container whose network is shared.
    files: Option<PathBuf>,
    /// The shared memory of whoever owns the ipc namespace, and that one's init in proc, if it is a container.
    shm: Option<PathBuf>,
    shm_of: Option<PathBuf>,
    pid: bool,
    /// Containers whose namespaces are joined.
    owners: Vec<String>,
    /// The directories of their inits' namespaces in proc.
    init: Vec<PathBuf>,
}

impl Shared {
    /// The user namespace of a container with this map. Namespaces belong to one: who shares some, shares that too.
    fn user(&mut self, ids: &Ids) -> Result<OwnedFd> {
        let Some((first, others)) = self.init.split_first() else { return ns::user::namespace(ids) };
        let path = first.join("user");
        let user = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let identity = |path: &Path| -> Result<(u64, u64)> {
            let meta = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
            Ok((meta.dev(), meta.ino()))
        };
        let theirs = identity(&path)?;
        if theirs == identity(Path::new("/proc/self/ns/user"))? {
            bail!(Refusal::BadParameter(
                "cannot join the namespaces of a container without a user namespace from one with one".to_owned()
            ));
        }
        for other in others {
            if identity(&other.join("user"))? != theirs {
                bail!(Refusal::BadParameter(
                    "cannot join namespaces of containers in different user namespaces".to_owned()
                ));
            }
        }
        self.join.user = Some(path);
        Ok(user.into())
    }

    fn find(store: &Store, record: &Record) -> Result<Shared> {
        let host = &record.host_config;
        let of = |mode: &str, kind: &str| match mode.strip_prefix("container:") {
            Some(name) => containers::namespace(store, name, kind)
                .map(Some)
                .with_context(|| format!("failed to join {} namespace", kind.to_uppercase())),
            None => Ok(None),
        };
        let join = spec::Join {
            pid: of(&host.pid_mode, "pid")?,
            ipc: of(&host.ipc_mode, "ipc")?,
            net: of(&host.network_mode, "net")?,
            user: None,
        };
        let files = match host.network_mode.strip_prefix("container:") {
            Some(name) => Record::load(store, &containers::find(store, name)?)?.map(|donor| donor.etc_dir(store)),
            None => None,
        };
        let shm_of = join.ipc.as_ref().and_then(|ipc| ipc.parent()?.parent()).map(Path::to_owned);
        let shm = match (host.ipc_mode.as_str(), &shm_of) {
            ("host", _) => Some(PathBuf::from("/dev/shm")),
            (_, Some(init)) => Some(init.join("root/dev/shm")),
            _ => None,
        };
        let modes = [&host.pid_mode, &host.ipc_mode, &host.network_mode];
        let named = modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"));
        let owners = named.map(|name| containers::find(store, name)).collect::<Result<_>>()?;
        let others = [&join.pid, &join.ipc, &join.net].into_iter().flatten();
        let init = others.filter_map(|file| file.parent()).map(Path::to_owned).collect();
        Ok(Shared { init, owners, pid: host.pid_mode == "host" || join.pid.is_some(), join, files, shm, shm_of })
    }
}

/// A copy of the mount on /dev/shm in the mount namespace of a process, `init` being its directory in proc. Only from
/// inside that namespace can it be copied; this thread goes there for one call, and comes back.
fn shm_of(init: &Path) -> Result<OwnedFd> {
    use nix::sched::{CloneFlags, setns, unshare};
    let theirs = File::open(init.join("ns/mnt")).context("open its mount namespace")?;
    let ours = File::open("/proc/self/ns/mnt").context("open our mount namespace")?;
    let root = File::open("/").context("open /")?;
    // The kernel lets nobody in who shares the root and working directory with another thread, and a thread that was
    // joined lets go of them only a moment later.
    unshare(CloneFlags::CLONE_FS).context("leave the other threads")?;
    setns(&theirs, CloneFlags::CLONE_NEWNS).context("enter its mount namespace")?;
    let flags = mount::OPEN_TREE_CLONE | libc::AT_SYMLINK_NOFOLLOW as u32;
    let tree = mount::open_tree(nix::fcntl::AT_FDCWD, c"/dev/shm", flags);
    setns(&ours, CloneFlags::CLONE_NEWNS).context("come back from its mount namespace")?;
    // Entering one leads to its root, which ours need not have been.
    nix::unistd::fchdir(&root).context("come back to /")?;
    nix::unistd::chroot(".").context("come back to /")?;
    tree.context("copy the mount of /dev/shm")
}

/// Mounts whose source is no path of the host, by where they are mounted: parts of volumes, and images.
pub(super) fn opened(
    store: &Store,
    record: &Record,
    at: &Path,
    mapped: Option<&Mapped>,
) -> Result<Map<String, OwnedFd>> {
    let mut open = Map::new();
    for mounted in &record.mounts {
        let part = if !mounted.image.is_empty() {
            mounts::image_tree(store, mounted, at, mapped)
                .with_context(|| format!("mount image {}", mounted.point.name))?
        } else if !mounted.subpath.is_empty() {
            let volume = File::open(&mounted.point.source).with_context(|| format!("open {}", mounted.point.source))?;
            path::open_part(volume.as_fd(), &mounted.subpath, &mounted.point.source)?
        } else {
            continue;
        };
        open.insert(mounted.point.destination.clone(), part);
    }
    Ok(open)
}

/// A resource limit's number, by the name that the runtime spec gives it.
pub fn rlimit(kind: &str) -> Option<i32> {
    Some(match kind {
        "RLIMIT_CPU" => 0,
        "RLIMIT_FSIZE" => 1,
        "RLIMIT_DATA" => 2,
        "RLIMIT_STACK" => 3,
        "RLIMIT_CORE" => 4,
        "RLIMIT_RSS" => 5,
        "RLIMIT_NPROC" => 6,
        "RLIMIT_NOFILE" => 7,
        "RLIMIT_MEMLOCK" => 8,
        "RLIMIT_AS" => 9,
        "RLIMIT_LOCKS" => 10,
        "RLIMIT_SIGPENDING" => 11,
        "RLIMIT_MSGQUEUE" => 12,
        "RLIMIT_NICE" => 13,
        "RLIMIT_RTPRIO" => 14,
        "RLIMIT_RTTIME" => 15,
        _ => return None,
    })
}
