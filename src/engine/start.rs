//! From a record to everything that a start needs: the root, the spec, the plan, and what the plan opens.

use super::record::Record;
use super::shim::cgroup_root;
use super::store::{self, Store};
use super::{containers, etc, spec, users};
use crate::fs::overlay::{self, Upper};
use crate::fs::path;
use crate::ns::{self, Given, Plan, Prepared};
use crate::oci::runtime::Spec;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Ready to be cloned.
pub struct Ready {
    pub plan: Plan,
    pub prepared: Prepared,
    pub spec: Spec,
}

pub fn ready(store: &Store, record: &Record) -> Result<Ready> {
    let dir = store.container(&record.id);
    // The root is mounted here for a moment, in the container's own mount namespace: any directory will do.
    let at = dir.join("work");
    let upper = Upper { upper: dir.join("upper"), work: dir.join("work") };
    let root = overlay::mount(&record.lower_dirs(store), Some(&upper), &at)
        .with_context(|| format!("starting {}", record.name))?;
    let host = &record.host_config;
    let user = users::resolve(root.as_fd(), &record.config.user, host.group_add.as_deref().unwrap_or_default())?;
    let cgroup = cgroup_root(store).map(|root| root.join(&record.id));
    etc::refresh(&dir, record)?;
    let spec = spec::spec(&spec::Inputs {
        record,
        user: &user,
        dir: &dir,
        cgroup: cgroup.as_deref(),
        join: join(store, record)?,
        host: &spec::Host::read(),
    })?;
    let bytes = serde_json::to_vec(&spec).context("encode the runtime spec")?;
    store::write_file(&store.live(&record.id).join("config.json"), &bytes, false)?;
    let given = Given {
        root_at: CString::new(at.as_os_str().as_bytes()).context("a NUL in a path")?,
        open: subpaths(record)?,
        init: host.init.unwrap_or(false),
    };
    let plan = ns::plan(&spec, given).with_context(|| format!("starting {}", record.name))?;
    let prepared = ns::prepare(&plan, Some(root), None).with_context(|| format!("starting {}", record.name))?;
    Ok(Ready { plan, prepared, spec })
}

/// Namespaces of other containers that this one shares.
fn join(store: &Store, record: &Record) -> Result<spec::Join> {
    let host = &record.host_config;
    let of = |mode: &str, kind: &str| match mode.strip_prefix("container:") {
        Some(name) => containers::namespace(store, name, kind).map(Some),
        None => Ok(None),
    };
    Ok(spec::Join {
        pid: of(&host.pid_mode, "pid")?,
        ipc: of(&host.ipc_mode, "ipc")?,
        net: of(&host.network_mode, "net")?,
        uts: of(&host.network_mode, "uts")?,
    })
}

/// Parts of volumes, opened inside their volume: a link in it leads nowhere else.
fn subpaths(record: &Record) -> Result<BTreeMap<String, OwnedFd>> {
    let mut open = BTreeMap::new();
    for mounted in record.mounts.iter().filter(|mounted| !mounted.subpath.is_empty()) {
        let volume = File::open(&mounted.point.source).with_context(|| format!("open {}", mounted.point.source))?;
        let part = path::open_beneath(volume.as_fd(), mounted.subpath.as_ref(), libc::O_PATH)
            .with_context(|| format!("open {:?} in volume {}", mounted.subpath, mounted.point.name))?;
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
