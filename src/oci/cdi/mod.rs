//! Devices by the Container Device Interface: files of vendors say what becomes of a container that is given one.
//!
//! Source: <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>, versions 0.1 to 1.1.

mod spec;
mod yaml;

pub use spec::{Edits, Moment, Node};

use crate::order;
use crate::order::{Map, Set};
use anyhow::{Context, Result, bail, ensure};
use spec::Spec;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where files are looked for; what stands in a later directory wins.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The largest file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// The devices of all files.
#[derive(Default)]
pub struct Registry {
    specs: Vec<Spec>,
    /// Spec and device in it, by the qualified name `vendor.com/class=name`.
    devices: Map<String, (usize, usize)>,
    /// What cannot be used, and why, by the file.
    pub faults: Vec<(PathBuf, String)>,
}

impl Registry {
    /// Reads all files of the directories. One that is damaged is a fault, and the others are used.
    pub fn read(directories: &[PathBuf]) -> Registry {
        let mut registry = Registry::default();
        let mut whence: Map<String, (usize, PathBuf)> = Map::new();
        let mut conflicts = Set::new();
        for (priority, directory) in directories.iter().enumerate() {
            for path in registry.files(directory) {
                let spec = match read(&path) {
                    Ok(spec) => spec,
                    Err(error) => {
                        let why = format!("failed to load CDI Spec {:?}: {error:#}", path.display().to_string());
                        registry.faults.push((path, why));
                        continue;
                    }
                };
                for (at, device) in spec.devices.iter().enumerate() {
                    let name = format!("{}={}", spec.kind, device.name);
                    if let Some((_, other)) = whence.get(&name).filter(|(known, _)| *known == priority) {
                        let [one, two] = [other, &path].map(|path| path.display().to_string());
                        let why = format!("conflicting device {name:?} (specs {one:?}, {two:?})");
                        registry.faults.push((path.clone(), why));
                        conflicts.insert(name);
                        continue;
                    }
                    whence.insert(name.clone(), (priority, path.clone()));
                    registry.devices.insert(name, (registry.specs.len(), at));
                }
                registry.specs.push(spec);
            }
        }
        registry.devices.retain(|name, _| !conflicts.contains(name));
        registry
    }

    fn files(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.faults.push((directory.to_owned(), format!("read {}: {error}", directory.display())));
                return Vec::new();
            }
        };
        let is_spec = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "json" || extension == "yaml")
                && !std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_spec).collect();
        order::sort(&mut paths);
        paths
    }

    /// Qualified names of the devices, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// Of a device and of its file, those of the device first.
    pub fn annotation(&self, name: &str, key: &str) -> Option<&str> {
        let (spec, device) = self.devices.get(name)?;
        let spec = &self.specs[*spec];
        spec.devices[*device].annotations.get(key).or_else(|| spec.annotations.get(key)).map(String::as_str)
    }

    /// What becomes of a container that is given these devices: of each file what holds for all of its devices, once.
    /// Errors: some are not there, or want what is not supported.
    pub fn edits(&self, names: &[String]) -> Result<Edits> {
        let missing: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !self.devices.contains_key(*name)).collect();
        if !missing.is_empty() {
            let why: Vec<&str> = self.faults.iter().map(|(_, why)| why.as_str()).collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
            bail!("unresolvable CDI devices {}{why}", missing.join(", "));
        }
        let mut edits = Edits::default();
        let mut used = Set::new();
        for name in names {
            let (spec, device) = self.devices[name];
            let mut add = |more: &Edits| {
                ensure!(more.lacking.is_empty(), "{name} wants {}, which is not supported", more.lacking.join(" and "));
                edits.append(more);
                Ok(())
            };
            if used.insert(spec) {
                add(&self.specs[spec].edits)?;
            }
            add(&self.specs[spec].devices[device].edits)?;
        }
        Ok(edits)
    }
}

fn read(path: &Path) -> Result<Spec> {
    // A FIFO would let us wait for its other end.
    let file = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    ensure!(file.metadata()?.is_file(), "it is no file");
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= LARGEST, "it is larger than {} MiB", LARGEST >> 20);
    Spec::parse(std::str::from_utf8(&bytes).context("it is not UTF-8")?)
}

/// Takes a qualified name apart: vendor, class and name of a device. `None` for what is none, as the path of a node.
pub fn qualified(name: &str) -> Option<(&str, &str, &str)> {
    let (kind, device) = name.split_once('=')?;
    let (vendor, class) = kind.split_once('/')?;
    let is_good = spec::check_kind(vendor).is_ok() && spec::check_kind(class).is_ok();
    (is_good && spec::check_name(device).is_ok()).then_some((vendor, class, device))
}

/// Whether this is a vendor with a class.
pub fn is_kind(text: &str) -> bool {
    text.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty())
}

/// What fuzzers try: what a file says is taken or refused.
#[cfg(any(test, fuzzing))]
pub fn fuzz(text: &str) {
    if let Ok(spec) = Spec::parse(text) {
        assert!(!spec.devices.is_empty());
        for device in &spec.devices {
            let name = format!("{}={}", spec.kind, device.name);
            assert!(qualified(&name).is_some(), "{name:?}");
        }
    }
}
