//! What the engine says of itself and of its host.

use super::containers::{self, Doing};
use super::{Engine, images, shim};
use crate::api;
use crate::api::time::Time;
use crate::api::types::{Info, Plugins, RuntimePath, Version, VersionComponent, VersionPlatform};
use crate::oci::platform;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;

pub fn version() -> Version {
    let kernel = kernel();
    let arch = platform::host().architecture;
    let (newest, oldest) = (api::version::NEWEST.to_string(), api::version::OLDEST.to_string());
    let details = [
        ("ApiVersion", newest.as_str()),
        ("Arch", &arch),
        ("Experimental", "false"),
        ("KernelVersion", &kernel),
        ("MinAPIVersion", &oldest),
        ("Os", "linux"),
    ];
    let details: BTreeMap<_, _> = details.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let version = env!("CARGO_PKG_VERSION").to_owned();
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

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// What this host gives, and what it does not and why.
pub fn info(engine: &Engine) -> Result<Info> {
    let store = &engine.store;
    let all = containers::all(store)?;
    let count = |doing: Doing| all.iter().filter(|now| now.doing == doing).count() as i64;
    let (running, paused) = (count(Doing::Running), count(Doing::Paused));
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Ok(Info {
        containers: all.len() as i64,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: all.len() as i64 - running - paused,
        images: images::all(store)?.len() as i64,
        driver: "overlay2".to_owned(),
        driver_status: vec![["Native Overlay Diff".to_owned(), "true".to_owned()]],
        plugins: Plugins {
            volume: list(&["local"]),
            network: list(&["host", "null"]),
            authorization: None,
            log: list(&["json-file", "none"]),
        },
        debug: engine.settings.debug,
        system_time: Time::now().to_string(),
        logging_driver: engine.settings.log_driver.clone(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if crate::cgroup::mount().is_some() { "2" } else { "" }.to_owned(),
        kernel_version: kernel(),
        operating_system: field("PRETTY_NAME"),
        os_version: field("VERSION_ID"),
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        n_cpu: std::thread::available_parallelism().map_or(1, |count| count.get() as i64),
        mem_total: total.unwrap_or(0) * 1024,
        docker_root_dir: store.root.display().to_string(),
        name: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes: BTreeMap::from([("dhow".to_owned(), RuntimePath { path: "dhow".to_owned() })]),
        default_runtime: "dhow".to_owned(),
        security_options: list(&["name=seccomp,profile=builtin"]),
        warnings: Some(warnings(store)),
        ..Info::default()
    })
}

/// Each feature that this host does not give, by name, with what follows.
fn warnings(store: &super::Store) -> Vec<String> {
    let mut warnings = Vec::new();
    match shim::cgroup_root(store) {
        None => warnings.push("no cgroup v2 is mounted: pause is not available, and kill reaches init only".to_owned()),
        Some(root) => {
            let mount = root.parent().unwrap_or(&root);
            let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            for name in ["cpu", "memory", "io", "pids", "cpuset"] {
                if !controllers.split_whitespace().any(|controller| controller == name) {
                    warnings.push(format!("the {name} controller is not in cgroup v2: no {name} limits"));
                }
            }
        }
    }
    warnings
}
