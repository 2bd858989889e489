//! The verbs on containers, images and volumes, on an on-disk store that many processes share.

pub mod absent;
pub mod apparmor;
pub mod base;
pub mod boot;
pub mod cdi;
pub mod containers;
mod crc;
pub mod create;
pub mod devices;
pub mod distribution;
pub mod etc;
pub mod events;
pub mod exec;
pub mod files;
pub mod filters;
#[cfg(test)]
mod golden;
pub mod health;
pub mod images;
pub mod init;
pub mod layers;
pub mod limits;
mod lines;
pub mod locks;
pub mod logs;
pub mod mounts;
pub mod names;
pub mod networks;
pub mod older;
mod packed;
pub mod pattern;
pub mod privileges;
mod propagation;
pub mod protocol;
pub mod pull;
pub mod push;
pub mod query;
pub mod quota;
pub mod record;
pub mod remap;
pub mod restart;
pub mod rootless;
pub mod routes;
pub mod selinux;
pub mod settings;
pub mod shim;
pub mod signals;
pub mod spec;
pub mod start;
pub mod stats;
pub mod store;
pub mod system;
pub mod top;
pub mod update;
pub mod usage;
pub mod users;
pub mod volumes;
pub mod working_dir;

pub use record::Record;
pub use settings::{NamedUlimit, Settings, Size};
pub use store::Store;

use crate::oci::hex;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub const DEFAULT_ROOT: &str = "/var/lib/dhow";
pub const DEFAULT_RUN: &str = "/run/dhow";

/// The engine: a store and the settings. It keeps nothing else; the truth is on disk and in the kernel.
pub struct Engine {
    pub store: Store,
    pub settings: Settings,
}

impl Engine {
    /// Opens the engine of a place: what is given wins over the settings, and those over the defaults.
    pub fn open(root: Option<&Path>, run: Option<&Path>, config: Option<&Path>) -> Result<Engine> {
        Engine::with(root, run, Settings::load(config)?)
    }

    /// The same with settings that were read already.
    pub fn with(root: Option<&Path>, run: Option<&Path>, settings: Settings) -> Result<Engine> {
        let pick = |given: Option<&Path>, set: &Option<PathBuf>, default: &str| {
            given.map(Path::to_owned).or_else(|| set.clone()).unwrap_or_else(|| PathBuf::from(default))
        };
        privileges::hold(privileges::engine()).context("give up what an engine does not need")?;
        let root = std::path::absolute(pick(root, &settings.data_root, DEFAULT_ROOT))?;
        let run = std::path::absolute(pick(run, &settings.exec_root, DEFAULT_RUN))?;
        Ok(Engine { store: Store::open(&root, &run)?, settings })
    }
}

/// What tells this store's cgroups, and later links and rules, from another's: the first 8 hex digits of the
/// SHA-256 of its path.
pub fn tag(store: &Store) -> String {
    let hash = Sha256::digest(store.root.as_os_str().as_bytes());
    hex(&hash[..4])
}
