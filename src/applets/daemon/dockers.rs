//! Flags of dockerd's that speak of anything but networks: each has a key in the configuration, or is refused with a reason.

use super::Daemon;
use crate::engine::{NamedUlimit, Settings, Size};
use anyhow::{Context, Result};

/// Those that stand in both places.
pub fn both(flags: &Daemon, settings: &Settings) -> Vec<&'static str> {
    let usual = Settings::default();
    let list = |flag: &[String], set: &[String]| !flag.is_empty() && !set.is_empty();
    let both = [
        ("registry-mirrors", list(&flags.registry_mirror, &settings.registry_mirrors)),
        ("insecure-registries", list(&flags.insecure_registry, &settings.insecure_registries)),
        (
            "max-concurrent-downloads",
            flags.max_concurrent_downloads.is_some()
                && settings.max_concurrent_downloads != usual.max_concurrent_downloads,
        ),
        (
            "max-concurrent-uploads",
            flags.max_concurrent_uploads.is_some() && settings.max_concurrent_uploads != usual.max_concurrent_uploads,
        ),
        (
            "max-download-attempts",
            flags.max_download_attempts.is_some() && settings.max_download_attempts != usual.max_download_attempts,
        ),
        ("log-driver", flags.log_driver.is_some() && settings.log_driver != usual.log_driver),
        ("log-opts", !flags.log_opt.is_empty() && !settings.log_opts.is_empty()),
        ("default-shm-size", flags.default_shm_size.is_some() && settings.default_shm_size.is_some()),
        ("default-ulimits", !flags.default_ulimit.is_empty() && !settings.default_ulimits.is_empty()),
        ("init", flags.init && settings.init),
        ("no-new-privileges", flags.no_new_privileges && settings.no_new_privileges),
        ("default-ipc-mode", flags.default_ipc_mode.is_some() && settings.default_ipc_mode.is_some()),
        ("default-cgroupns-mode", flags.default_cgroupns_mode.is_some() && settings.default_cgroupns_mode.is_some()),
        ("cgroup-parent", flags.cgroup_parent.is_some() && !settings.cgroup_parent.is_empty()),
        ("seccomp-profile", flags.seccomp_profile.is_some() && !settings.seccomp_profile.is_empty()),
        ("http-proxy", flags.http_proxy.is_some() && !settings.proxies.http_proxy.is_empty()),
        ("https-proxy", flags.https_proxy.is_some() && !settings.proxies.https_proxy.is_empty()),
        ("no-proxy", flags.no_proxy.is_some() && !settings.proxies.no_proxy.is_empty()),
        ("shutdown-timeout", flags.shutdown_timeout.is_some() && settings.shutdown_timeout != usual.shutdown_timeout),
        ("labels", list(&flags.label, &settings.labels)),
        ("live-restore", flags.live_restore.is_some() && settings.live_restore.is_some()),
        ("storage-driver", flags.storage_driver.is_some() && settings.storage_driver.is_some()),
        ("exec-opts", list(&flags.exec_opt, &settings.exec_opts)),
        ("default-runtime", flags.default_runtime.is_some() && settings.default_runtime.is_some()),
        ("features", !flags.feature.is_empty() && !settings.features.is_empty()),
        ("log-format", flags.log_format.is_some() && settings.log_format.is_some()),
    ];
    both.into_iter().filter(|(_, both)| *both).map(|(name, _)| name).collect()
}

/// Adds what the flags say.
pub fn apply(flags: &Daemon, settings: &mut Settings) -> Result<()> {
    fn put<T: Clone>(flag: &Option<T>, to: &mut Option<T>) {
        if flag.is_some() {
            to.clone_from(flag);
        }
    }
    put(&flags.live_restore, &mut settings.live_restore);
    put(&flags.storage_driver, &mut settings.storage_driver);
    put(&flags.default_runtime, &mut settings.default_runtime);
    put(&flags.log_format, &mut settings.log_format);
    put(&flags.default_ipc_mode, &mut settings.default_ipc_mode);
    put(&flags.default_cgroupns_mode, &mut settings.default_cgroupns_mode);
    for (flag, to) in [
        (&flags.cgroup_parent, &mut settings.cgroup_parent),
        (&flags.seccomp_profile, &mut settings.seccomp_profile),
        (&flags.http_proxy, &mut settings.proxies.http_proxy),
        (&flags.https_proxy, &mut settings.proxies.https_proxy),
        (&flags.no_proxy, &mut settings.proxies.no_proxy),
    ] {
        if let Some(text) = flag {
            to.clone_from(text);
        }
    }
    put(&flags.default_shm_size.clone().map(Size::Text), &mut settings.default_shm_size);
    for (flag, to) in [
        (flags.max_concurrent_downloads, &mut settings.max_concurrent_downloads),
        (flags.max_concurrent_uploads, &mut settings.max_concurrent_uploads),
    ] {
        *to = flag.unwrap_or(*to);
    }
    settings.max_download_attempts = flags.max_download_attempts.unwrap_or(settings.max_download_attempts);
    settings.shutdown_timeout = flags.shutdown_timeout.unwrap_or(settings.shutdown_timeout);
    settings.init |= flags.init;
    settings.no_new_privileges |= flags.no_new_privileges;
    if let Some(driver) = &flags.log_driver {
        settings.log_driver.clone_from(driver);
    }
    for (flag, to) in [
        (&flags.registry_mirror, &mut settings.registry_mirrors),
        (&flags.insecure_registry, &mut settings.insecure_registries),
        (&flags.label, &mut settings.labels),
        (&flags.exec_opt, &mut settings.exec_opts),
    ] {
        to.extend(flag.iter().cloned());
    }
    for option in &flags.log_opt {
        let (key, value) = option.split_once('=').with_context(|| format!("--log-opt {option:?}: not key=value"))?;
        settings.log_opts.insert(key.to_owned(), value.to_owned());
    }
    for limit in &flags.default_ulimit {
        let named = NamedUlimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft };
        settings.default_ulimits.insert(limit.name.clone(), named);
    }
    for feature in &flags.feature {
        let (name, on) = feature.split_once('=').unwrap_or((feature, "true"));
        let on = crate::api::units::parse_bool(on).with_context(|| format!("--feature {feature:?}: not name=bool"))?;
        settings.features.insert(name.to_owned(), on);
    }
    Ok(())
}

/// Flags of dockerd's that have no sense here, or are not there.
const REFUSED: &[(&str, &str)] = &[
    ("--add-runtime", "containers are run by dhow itself"),
    ("--allow-direct-routing", "ports are reached where they are published"),
    ("--allow-nondistributable-artifacts", "they are pushed in any case"),
    ("--api-cors-header", "dockerd has given it up, too"),
    ("--authorization-plugin", "there are no authorization plugins"),
    ("--containerd", "there is no containerd: the engine does its work itself"),
    ("--containerd-namespace", "there is no containerd"),
    ("--containerd-plugins-namespace", "there is no containerd"),
    ("--cpu-rt-period", "cgroups of version 2 have no real-time periods"),
    ("--cpu-rt-runtime", "cgroups of version 2 have no real-time periods"),
    ("--cri-containerd", "there is no containerd"),
    ("--experimental", "there is nothing experimental to turn on"),
    ("--init-path", "the init of containers is dhow's own"),
    ("--metrics-addr", "there are no metrics to serve"),
    ("--network-control-plane-mtu", "there is no swarm"),
    ("--network-diagnostic-port", "there is no swarm"),
    ("--node-generic-resource", "there is no swarm"),
    ("--raw-logs", "what the daemon tells has neither times nor colours"),
    ("--restart", "restart policies are given to each container"),
    ("--rootless", "whoever is not root is served so in any case"),
    ("--storage-opt", "layers have no options"),
    ("--swarm-default-advertise-addr", "there is no swarm"),
    ("--userland-proxy-path", "ports are passed on by dhow itself"),
];

/// Why a flag is not taken.
pub fn refusal(flag: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(name, _)| *name == flag).map(|(_, why)| *why)
}
