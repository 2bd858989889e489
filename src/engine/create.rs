//! `create`: what was asked and what the image says become a record, with its writable layer, under a name.

use super::images::{self, Image};
use super::record::{self, Record};
use super::settings::Settings;
use super::store::{self, Store};
use super::{
    containers, events, health, limits, locks, logs, mounts, names, networks, quota, remap, restart, rootless, selinux,
    signals, spec, volumes, working_dir,
};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::{ContainerConfig, ContainerCreate, ContainerCreated, HostConfig};
use crate::fs::overlay;
use crate::oci::platform::Platform;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

/// The names of the one runtime: ours, which is the default, and those that clients ask Docker for.
pub const RUNTIMES: [&str; 3] = ["dhow", "runc", "io.containerd.runc.v2"];

/// Makes a container. Either it is there whole when this returns, or nothing of it is.
pub fn create(
    store: &Store,
    settings: &Settings,
    asked: ContainerCreate,
    name: Option<&str>,
    platform: Option<&Platform>,
) -> Result<ContainerCreated> {
    super::shim::check_kernel()?;
    let ContainerCreate { mut config, host_config, networking_config, read_only_non_recursive } = asked;
    if config.image.is_empty() {
        command(&config)?;
        bail!(Refusal::BadParameter("invalid reference format".to_owned()));
    }
    let name = name.filter(|name| !name.is_empty()).map(names::check).transpose()?;
    if let Some(name) = name
        && let Some(owner) = containers::named(store, name)?
    {
        return Err(containers::name_in_use(name, &owner));
    }
    // Before the image adds what nobody asked for.
    if let Some(what) = clash(&config, &host_config) {
        bail!(Refusal::BadParameter(format!("conflicting options: {what}")));
    }
    if matches!(host_config.network_mode.as_str(), "container" | "container:") {
        let why = "invalid network mode: invalid container format container:<name|id>";
        bail!(Refusal::BadParameter(why.to_owned()));
    }
    if host_config.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        let why = "invalid Annotations: the empty string is not permitted as an annotation key";
        bail!(Refusal::BadParameter(why.to_owned()));
    }
    config.working_dir = working_dir::named(&config.working_dir)?;
    if !config.stop_signal.is_empty() {
        signals::parse(&config.stop_signal)?;
    }
    if let Some(variable) =
        config.env.iter().flatten().find(|variable| variable.is_empty() || variable.starts_with('='))
    {
        bail!(Refusal::BadParameter(format!("invalid environment variable: {variable}")));
    }
    // Held until the record names the image's layers, so that nobody removes them in between.
    let lease = store.lease()?;
    let image = match images::take(store, &lease, &config.image) {
        // A client pulls it and asks again: not where that will be refused.
        Err(error) if containers::is_not_found(&error) => {
            let asked = ContainerCreate { config, host_config, networking_config, read_only_non_recursive };
            examine(settings, &store.root, asked).map_err(not_the_image)?;
            return Err(error);
        }
        taken => taken?,
    };
    images::check_platform(&image, &config.image, platform)?;
    let mut warnings = Vec::new();
    if platform.is_none() {
        warnings.extend(images::foreign(&image));
    }
    apply_image(&mut config, &image)?;
    let base = Base {
        image: image.id.to_string(),
        platform: image.platform.to_string(),
        layers: image.layer_ids(),
        trees: Map::new(),
    };
    let asked = ContainerCreate { config, host_config, networking_config, read_only_non_recursive };
    let (id, more) = make(store, settings, &lease, asked, base, name, None).map_err(not_the_image)?;
    warnings.extend(more);
    Ok(ContainerCreated { id, warnings })
}

/// Whose namespaces are joined is noted by its id, so that it may be renamed. One that is not there may come before the
/// start, which misses it otherwise.
fn by_id(store: &Store, host: &mut HostConfig) -> Result<()> {
    for mode in [&mut host.network_mode, &mut host.pid_mode, &mut host.ipc_mode] {
        if let Some(name) = mode.strip_prefix("container:") {
            match containers::find(store, name) {
                Ok(id) => *mode = format!("container:{id}"),
                Err(error) if containers::is_not_found(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// What belongs to who has the network, or the host's name, and not to who shares it.
fn clash(config: &ContainerConfig, host: &HostConfig) -> Option<&'static str> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let shares = host.network_mode.starts_with("container:");
    let publishes = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let exposes = config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let clashes = [
        (shares && !config.hostname.is_empty(), "hostname and the network mode"),
        (
            shares && some(&host.links),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (shares && some(&host.dns), "dns and the network mode"),
        (shares && some(&host.extra_hosts), "custom host-to-IP mapping and the network mode"),
        (shares && publishes, "port publishing and the container type network mode"),
        (shares && exposes, "port exposing and the container type network mode"),
        (host.uts_mode == "host" && !config.hostname.is_empty(), "hostname and the UTS mode"),
    ];
    clashes.into_iter().find(|(clashes, _)| *clashes).map(|(_, what)| what)
}

/// A client takes 404 for an image that is not there, and pulls it. What else is missing, a network or another container,
/// is a mistake in what was asked.
fn not_the_image(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(Refusal::NotFound(text)) => Refusal::BadParameter(text.clone()).into(),
        _ => error,
    }
}

/// What a container is made of.
pub struct Base {
    /// `sha256:…`, or nothing.
    pub image: String,
    pub platform: String,
    /// Directories under layers/, top first.
    pub layers: Vec<String>,
    /// The same of what is mounted as an image and is none, by its name.
    pub trees: Map<String, Vec<String>>,
}

/// Makes the container of one step of a build, whose lease holds the layers, and the container from now on. Gives its id,
/// and warnings.
pub fn step(
    store: &Store,
    settings: &Settings,
    build: &store::Lease,
    asked: ContainerCreate,
    base: Base,
) -> Result<(String, Vec<String>)> {
    super::shim::check_kernel()?;
    let lease = store.lease()?;
    make(store, settings, &lease, asked, base, None, Some(build))
}

/// Makes a container of what was asked for, over a base that the lease holds; of a build's step, with that build's lease.
/// Gives its id, and warnings.
fn make(
    store: &Store,
    settings: &Settings,
    lease: &store::Lease,
    asked: ContainerCreate,
    base: Base,
    name: Option<&str>,
    build: Option<&store::Lease>,
) -> Result<(String, Vec<String>)> {
    let ContainerCreate { mut config, mut host_config, networking_config, read_only_non_recursive } = asked;
    let told = options(settings, &config, &mut host_config)?;
    let ids = remap::ids(settings, &host_config)?;
    let mut warnings = Vec::new();
    if networks::has_networks(&host_config.network_mode) {
        warnings.extend(networks::configure(store, settings)?);
        warnings.extend(rootless::no_way_out(store));
    }
    warnings.extend(told);

    by_id(store, &mut host_config)?;
    networks::links::settle(store, &mut host_config)?;
    let mut labels = labels(store, settings, &mut host_config)?;
    let id = names::id()?;
    if let Some(build) = build {
        // Before it is there: another build would take it for one that a killed build left.
        build.uses(&format!("container:{id}"))?;
    }
    if config.hostname.is_empty() {
        config.hostname = hostname(&host_config, &id)?;
    }
    let (path, args) = command(&config)?;
    let from = |name: &str| -> Result<Vec<record::Mounted>> {
        let other = containers::find(store, name)?;
        Ok(Record::load(store, &other)?.map(|record| record.mounts).unwrap_or_default())
    };
    let exists = |path: &str| Path::new(path).exists();
    let mut asked = mounts::plan(
        &host_config,
        config.volumes.as_ref(),
        &mounts::Around { from: &from, exists: &exists, root: &store.root, read_only_non_recursive },
    )?;
    for mount in &mut asked {
        if let Some((name, layers)) = mount.image.as_ref().and_then(|name| Some((name, base.trees.get(name)?))) {
            (mount.mounted.image, mount.mounted.layers) = (name.clone(), layers.clone());
        }
    }
    // With `--privileged` nothing is said where nothing was asked for.
    if !host_config.privileged {
        host_config.masked_paths.get_or_insert_with(spec::masked_paths);
        host_config.readonly_paths.get_or_insert_with(spec::readonly_paths);
    }
    let publishing = networks::publishing(settings, &host_config);
    let named = host_config.device_requests.as_ref().is_some_and(|requests| !requests.is_empty());
    let cdi_dirs = if named { settings.cdi_dirs() } else { Vec::new() };
    let mut record = Record {
        version: record::VERSION,
        id: id.clone(),
        name: name.unwrap_or_default().to_owned(),
        created: Time::now().to_string(),
        path,
        args,
        image: base.image,
        platform: base.platform,
        layers: base.layers,
        copied: false,
        networks: networks::asked(store, &host_config, networking_config.endpoints_config)?,
        config,
        host_config,
        ids,
        process_label: String::new(),
        mount_label: String::new(),
        mounts: Vec::new(),
        publishing,
        cdi_dirs,
        ended: record::Ended::default(),
        step: build.is_some(),
    };
    selinux::take(store, lease, &id, &mut labels, !record.host_config.auto_remove)?;
    (record.process_label, record.mount_label) = (labels.process, labels.mount);
    if let Err(error) = place(store, lease, &mut record, asked) {
        let _ = selinux::release(store, &id, &record.process_label);
        return Err(error);
    }
    events::container(store, &record, "create", &[]);
    warnings.extend(networks::obstacles(store, &record));
    warnings.extend(networks::without_rules(&record));
    warnings.extend(networks::discarded(store, &record));
    Ok((id, warnings))
}

/// Completes the options of a container by the settings, and refuses those that hold nowhere; gives warnings.
fn options(settings: &Settings, config: &ContainerConfig, host: &mut HostConfig) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    apply_settings(host, settings)?;
    check(host)?;
    restart::check(&host.restart_policy, host.auto_remove)?;
    health::check(config, host)?;
    logs::check(&host.log_config)?;
    networks::check_ports(host, config.labels.as_ref())?;
    spec::check(config, host, &mut warnings)?;
    if limits::any(host) {
        warnings.extend(limits::check(host, &limits::Supports::read(), false)?);
        // Devices that are not there are refused now, and not by the start.
        limits::resources(host, &limits::number).map_err(|error| Refusal::BadParameter(format!("{error:#}")))?;
    }
    Ok(warnings)
}

/// Refuses what create refuses whatever the store at `root` has, and the image.
pub fn examine(settings: &Settings, root: &Path, asked: ContainerCreate) -> Result<()> {
    let ContainerCreate { mut config, mut host_config, read_only_non_recursive, .. } = asked;
    config.working_dir = working_dir::named(&config.working_dir)?;
    options(settings, &config, &mut host_config)?;
    let (from, exists) = (|_: &str| Ok(Vec::new()), |path: &str| Path::new(path).exists());
    let around = mounts::Around { from: &from, exists: &exists, root, read_only_non_recursive };
    mounts::plan(&host_config, config.volumes.as_ref(), &around).map(drop)
}

/// Makes the directory, the volumes, the record and the name, in this order; what was made is undone on failure.
fn place(store: &Store, lease: &store::Lease, record: &mut Record, asked: Vec<mounts::Asked>) -> Result<()> {
    let tmp = lease.container()?;
    crate::failpoint::reach("create.made");
    if let Some(size) = quota::size(&record.host_config)? {
        quota::limit(&tmp, &record.id, size)?;
    }
    let (mounts, made) = mounts::settle(store, lease, asked)?;
    record.mounts = mounts;
    working_dir::make(store, record, &tmp)?;
    copy_up(store, lease, record)?;
    settle(store, &tmp, record)?;
    made.keep();
    Ok(())
}

/// A new volume begins with what the image has in its place.
fn copy_up(store: &Store, lease: &store::Lease, record: &Record) -> Result<()> {
    let new = |mounted: &&record::Mounted| mounted.point.r#type == "volume" && !mounted.no_copy;
    let mut volumes = record.mounts.iter().filter(new).peekable();
    if volumes.peek().is_none() {
        return Ok(());
    }
    let image = overlay::mount(&record.lower_dirs(store), None, &store.root.join("tmp"))?;
    let durable = !record.host_config.auto_remove;
    volumes.try_for_each(|mounted| volumes::copy_up(store, lease, image.as_fd(), mounted, durable))
}

/// Its SELinux labels, with what they add to its options.
fn labels(store: &Store, settings: &Settings, host: &mut HostConfig) -> Result<selinux::Labels> {
    let bad = |error: anyhow::Error| match error.downcast_ref::<Refusal>() {
        Some(_) => error,
        None => Refusal::BadParameter(format!("{error:#}")).into(),
    };
    let label_of = |name: &str| -> Result<String> {
        let id = containers::find(store, name)?;
        Ok(Record::load(store, &id)?.map(|record| record.process_label).unwrap_or_default())
    };
    let implied = selinux::implied(host, &label_of).map_err(bad)?;
    if !implied.is_empty() {
        host.security_opt.get_or_insert_default().extend(implied);
    }
    let options = host.security_opt.as_deref().unwrap_or_default();
    let asked = spec::Security::parse(options).map_err(bad)?.labels;
    selinux::labels(&asked, &selinux::support(settings.selinux_enabled), selinux::any_level).map_err(bad)
}

fn settle(store: &Store, tmp: &Path, record: &mut Record) -> Result<()> {
    let durable = !record.host_config.auto_remove;
    let place = store.container(&record.id);
    let found = record.name.is_empty();
    for attempt in 0.. {
        if record.name.is_empty() || attempt > 0 {
            record.name = names::random(attempt)?;
            if containers::named(store, &record.name)?.is_some() {
                continue;
            }
        }
        break;
    }
    // The record first: a name without one is void.
    let mut making = None;
    if durable {
        record.save_new(&tmp.join("record.json"))?;
    } else {
        // Held until the directory is in its place, or a sweep would take the record for a leftover.
        making = Some(loop {
            let live = store.live(&record.id);
            store::make_dirs(&live, 0o711)?;
            match locks::exclusive(&live.join("lock"), locks::byte::RECORD) {
                // A sweep was faster with the empty directory, or with the lock that nobody held yet.
                Err(_) if !live.exists() => continue,
                Ok(_) if !live.join("lock").exists() => continue,
                other => break other?,
            }
        });
        record.save(store)?;
    }
    crate::failpoint::reach("create.recorded");
    let placed = fs::rename(tmp, &place)
        .with_context(|| format!("make {}", place.display()))
        .and_then(|()| {
            crate::failpoint::reach("create.placed");
            take_name(store, record, found)
        })
        // All that was made comes to the disk together, before it is acknowledged.
        .and_then(|()| {
            if durable {
                containers::sync_dir(&place)?;
                containers::sync_dir(&store.containers())?;
                containers::sync_names(store)?;
            }
            Ok(())
        });
    if placed.is_err() {
        let _ = fs::rename(&place, tmp);
        let _ = containers::forget(store, &record.id);
    }
    crate::failpoint::reach("create.named");
    drop(making);
    placed
}

/// Takes the container's name. One that was `found` for it, and that another container took meanwhile, is found anew.
fn take_name(store: &Store, record: &mut Record, found: bool) -> Result<()> {
    let durable = !record.host_config.auto_remove;
    loop {
        match containers::take_name(store, &record.name, &record.id, durable) {
            Err(error) if found && matches!(error.downcast_ref(), Some(Refusal::Conflict(_))) => {
                record.name = names::random(1)?;
                record.save(store)?;
            }
            taken => return taken,
        }
    }
}

/// What the image says holds where the request says nothing.
fn apply_image(config: &mut ContainerConfig, image: &Image) -> Result<()> {
    let of_image = image.container_config();
    if config.user.is_empty() {
        config.user = of_image.user;
    }
    if config.working_dir.is_empty() {
        config.working_dir = of_image.working_dir;
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = of_image.stop_signal;
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = of_image.stop_timeout;
    }
    // An entrypoint of the request's makes the image's command meaningless.
    let entrypoint_given = config.entrypoint.as_ref().is_some_and(|words| !words.is_empty());
    if config.cmd.as_ref().is_none_or(Vec::is_empty) && !entrypoint_given {
        config.cmd = of_image.cmd;
        config.args_escaped = of_image.args_escaped;
    }
    // An empty one is an answer, too: none.
    if config.entrypoint.is_none() {
        config.entrypoint = of_image.entrypoint;
    }
    // [""] resets the image's entrypoint.
    if config.entrypoint.as_deref().is_some_and(|words| words == [""]) {
        config.entrypoint = None;
    }
    config.env = match config.env.take().filter(|env| !env.is_empty()) {
        Some(asked) => Some(merge_env(of_image.env.unwrap_or_default(), asked)),
        None => of_image.env,
    };
    for (key, value) in of_image.labels.unwrap_or_default() {
        config.labels.get_or_insert_default().entry(key).or_insert(value);
    }
    if let Some(ports) = of_image.exposed_ports {
        let exposed = config.exposed_ports.get_or_insert_default();
        for (port, nothing) in ports {
            exposed.entry(port).or_insert(nothing);
        }
    }
    // What says nothing is null, as with Docker.
    config.volumes = config.volumes.take().filter(|volumes| !volumes.is_empty());
    if let Some(volumes) = of_image.volumes {
        let asked = config.volumes.get_or_insert_default();
        for (path, nothing) in volumes {
            asked.entry(path).or_insert(nothing);
        }
    }
    health::merge(&mut config.healthcheck, of_image.healthcheck);
    if config.labels.is_none() {
        config.labels = Some(Map::new());
    }
    Ok(())
}

/// The image's variables, with those of the request over them. A name without a value stays, as with Docker, and
/// takes the variable away where a process begins.
fn merge_env(image: Vec<String>, asked: Vec<String>) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = asked.iter().map(|entry| name(entry)).collect();
    let mut env = asked;
    let kept = image.into_iter().filter(|entry| !given.contains(&name(entry)));
    env.extend(kept);
    env
}

fn apply_settings(host: &mut HostConfig, settings: &Settings) -> Result<()> {
    if host.log_config.r#type.is_empty() {
        host.log_config.r#type = settings.log_driver.clone();
        let options = host.log_config.config.get_or_insert_default();
        for (key, value) in &settings.log_opts {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    host.log_config.config.get_or_insert_default();
    if host.shm_size == 0 {
        host.shm_size = settings.shm_size()?;
    }
    let none = settings.bridge.as_deref() == Some("none");
    if none && host.network_mode == "bridge" {
        bail!(Refusal::NotFound("network bridge not found".to_owned()));
    }
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = if none { "none" } else { "bridge" }.to_owned();
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".to_owned();
    }
    if host.runtime.is_empty() {
        host.runtime = RUNTIMES[0].to_owned();
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = settings.default_ipc_mode.clone().unwrap_or_else(|| "private".to_owned());
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = settings.default_cgroupns_mode.clone().unwrap_or_else(|| "private".to_owned());
    }
    if host.cgroup_parent.is_empty() {
        host.cgroup_parent.clone_from(&settings.cgroup_parent);
    }
    if let Some(profile) = settings.seccomp()?.filter(|_| !host.privileged) {
        let options = host.security_opt.get_or_insert_default();
        if !options.iter().any(|option| option.starts_with("seccomp=") || option.starts_with("seccomp:")) {
            options.push(format!("seccomp={profile}"));
        }
    }
    // Different words for nothing, of which clients send one and inspect shows another.
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    host.memory_swappiness = host.memory_swappiness.filter(|value| *value != -1);
    host.oom_kill_disable = host.oom_kill_disable.filter(|disable| *disable);
    if host.init.is_none() && settings.init {
        host.init = Some(true);
    }
    // What was null stays null where the settings have nothing to add.
    for limit in settings.ulimits() {
        let ulimits = host.ulimits.get_or_insert_default();
        if !ulimits.iter().any(|asked| asked.name == limit.name) {
            ulimits.push(limit);
        }
    }
    let nothing_said = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    for (asked, set) in [
        (&mut host.dns, &settings.dns),
        (&mut host.dns_options, &settings.dns_opts),
        (&mut host.dns_search, &settings.dns_search),
    ] {
        if nothing_said(asked) && !set.is_empty() {
            *asked = Some(set.clone());
        }
    }
    if settings.no_new_privileges {
        let options = host.security_opt.get_or_insert_default();
        if !options.iter().any(|option| option.starts_with("no-new-privileges")) {
            options.push("no-new-privileges=true".to_owned());
        }
    }
    Ok(())
}

/// What this release does not do is said here, in one place, and never accepted and ignored.
fn check(host: &HostConfig) -> Result<()> {
    quota::size(host)?;
    check_parent(&host.cgroup_parent)?;
    if !host.runtime.is_empty() && !RUNTIMES.contains(&host.runtime.as_str()) {
        bail!(Refusal::BadParameter(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        bail!(Refusal::BadParameter(format!("Invalid isolation: {:?} is not supported on linux", host.isolation)));
    }
    Ok(())
}

/// A cgroup below the mount, by a path that goes down only.
pub fn check_parent(parent: &str) -> Result<()> {
    let down = |part: std::path::Component| {
        matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_) | std::path::Component::CurDir)
    };
    if !Path::new(parent).components().all(down) || parent.contains('\0') {
        bail!(Refusal::BadParameter(format!("invalid cgroup parent: {parent}")));
    }
    Ok(())
}

/// Entrypoint and command joined: the executable and its arguments.
fn command(config: &ContainerConfig) -> Result<(String, Vec<String>)> {
    let words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten());
    let mut words = words.cloned();
    let Some(path) = words.next() else {
        bail!(Refusal::BadParameter("no command specified".to_owned()));
    };
    Ok((path, words.collect()))
}

/// The name of a container that nobody named: of one in this host's network it is this host's.
fn hostname(host: &HostConfig, id: &str) -> Result<String> {
    if host.network_mode != "host" {
        return Ok(id[..12].to_owned());
    }
    let name = nix::unistd::gethostname().context("ask for the name of this host")?;
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
