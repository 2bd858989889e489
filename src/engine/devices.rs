//! Devices of the host that a container is given.

use crate::order;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::api::Refusal;
use crate::api::types::{DeviceMapping, HostConfig};
use crate::oci::runtime::{Device, DeviceRule};

/// A device node, and what the container may do with it: of `r`, `w` and `m`.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    pub device: Device,
    /// Where it lies on the host.
    pub source: PathBuf,
    pub access: String,
}

/// The devices of `--device`, or with `--privileged` all of the host. Reads /dev.
pub fn granted(host: &HostConfig) -> Result<Vec<Granted>> {
    let mut granted = Vec::new();
    if host.privileged {
        walk(Path::new("/dev"), Path::new("/dev"), "rwm", &mut granted);
    }
    for mapping in host.devices.iter().flatten() {
        if !(host.privileged && mapping.path_on_host == mapping.path_in_container) {
            mapped(mapping, &mut granted)?;
        }
    }
    Ok(granted)
}

/// Refuses what is not `r`, `w` and `m`, each at most once.
pub fn check_access(access: &str) -> Result<()> {
    let mut letters: Vec<_> = access.bytes().collect();
    order::sort(&mut letters);
    letters.dedup();
    if letters.len() != access.len() || !letters.iter().all(|letter| b"rwm".contains(letter)) {
        bail!(Refusal::BadParameter(format!("invalid device mode: {access}")));
    }
    Ok(())
}

/// One mapping: a device, or a directory of devices.
fn mapped(mapping: &DeviceMapping, granted: &mut Vec<Granted>) -> Result<()> {
    let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
    check_access(access)?;
    let gather = || format!("error gathering device information while adding custom device {:?}", mapping.path_on_host);
    let source = fs::canonicalize(&mapping.path_on_host).with_context(gather)?;
    let target = if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
    let before = granted.len();
    match node(&source, Path::new(target)).with_context(gather)? {
        Some(device) => granted.push(Granted { device, source, access: access.to_owned() }),
        None => walk(&source, Path::new(target), access, granted),
    }
    if granted.len() == before {
        return Err(anyhow::anyhow!("not a device node")).with_context(gather);
    }
    Ok(())
}

/// Every device below a directory; what cannot be read is left out. Terminals and shared memory are the container's
/// own.
fn walk(dir: &Path, target: &Path, access: &str, granted: &mut Vec<Granted>) {
    const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    order::sort(&mut entries);
    for path in entries {
        let Some(name) = path.file_name() else { continue };
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        let target = target.join(name);
        match node(&path, &target) {
            Ok(Some(device)) => granted.push(Granted { device, source: path, access: access.to_owned() }),
            Ok(None) if path.is_dir() && !path.is_symlink() => walk(&path, &target, access, granted),
            _ => {}
        }
    }
}

/// The device at a path of the host, for a path in the container; `None` if it is none.
fn node(path: &Path, target: &Path) -> std::io::Result<Option<Device>> {
    let meta = fs::symlink_metadata(path)?;
    let kind = match meta.file_type() {
        kind if kind.is_block_device() => "b",
        kind if kind.is_char_device() => "c",
        _ => return Ok(None),
    };
    Ok(Some(Device {
        path: target.to_string_lossy().into_owned(),
        kind: kind.to_owned(),
        major: Some(nix::sys::stat::major(meta.rdev()) as i64),
        minor: Some(nix::sys::stat::minor(meta.rdev()) as i64),
        file_mode: Some(meta.permissions().mode() & 0o7777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
    }))
}

/// What the devices controller lets through, the last match deciding: nothing, but everybody's harmless devices
/// (a terminal included), making any node, and what was granted.
pub fn rules(privileged: bool, granted: &[Granted], more: &[DeviceRule]) -> Vec<DeviceRule> {
    let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
        allow,
        kind: kind.to_owned(),
        major,
        minor,
        access: access.to_owned(),
    };
    if privileged {
        return vec![rule(true, "", None, None, "rwm")];
    }
    // null, zero, full, random, urandom; tty, console, ptmx; the slaves of a devpts.
    const EVERYBODY: [(i64, Option<i64>); 9] = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ];
    let mut rules = vec![rule(false, "", None, None, "rwm")];
    rules.extend(["c", "b"].map(|kind| rule(true, kind, None, None, "m")));
    rules.extend(EVERYBODY.map(|(major, minor)| rule(true, "c", Some(major), minor, "rwm")));
    rules.extend(
        granted
            .iter()
            // A FIFO is no device to the kernel.
            .filter(|granted| granted.device.kind != "p" && !granted.access.is_empty())
            .map(|Granted { device, access, .. }| rule(true, &device.kind, device.major, device.minor, access)),
    );
    rules.extend_from_slice(more);
    rules
}

/// Reads a `--device-cgroup-rule`, `b 8:* rw`: what it allows.
pub fn rule(text: &str) -> Result<DeviceRule> {
    let invalid = || Refusal::BadParameter(format!("invalid device cgroup rule format: '{text}'"));
    let read = || {
        let (kind, rest) = text.split_once(' ')?;
        let (numbers, access) = rest.split_once(' ')?;
        let (major, minor) = numbers.split_once(':')?;
        let is_number = |part: &str| part == "*" || !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let known = matches!(kind, "a" | "b" | "c") && (1..=3).contains(&access.len());
        let letters = access.bytes().all(|letter| b"rwm".contains(&letter));
        (known && letters && is_number(major) && is_number(minor)).then_some((kind, major, minor, access))
    };
    let (kind, major, minor, access) = read().ok_or_else(invalid)?;
    // Any device's numbers are less (include/linux/kdev_t.h), and the program that decides compares with no more.
    let number = |part: &str, which: &str| match (part, part.parse::<i32>()) {
        ("*", _) => Ok(None),
        (_, Ok(number)) => Ok(Some(number.into())),
        _ => Err(Refusal::BadParameter(format!("invalid {which} value in device cgroup rule format: '{text}'"))),
    };
    let (major, minor) = (number(major, "major")?, number(minor, "minor")?);
    Ok(DeviceRule { allow: true, kind: kind.to_owned(), major, minor, access: access.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host: &str, inside: &str, access: &str) -> DeviceMapping {
        DeviceMapping {
            path_on_host: host.to_owned(),
            path_in_container: inside.to_owned(),
            cgroup_permissions: access.to_owned(),
        }
    }

    fn given(mappings: Vec<DeviceMapping>) -> Result<Vec<Granted>> {
        granted(&HostConfig { devices: Some(mappings), ..HostConfig::default() })
    }

    #[test]
    fn a_device_a_link_and_a_directory() {
        let full = given(vec![mapping("/dev/full", "/dev/x", "rw")]).unwrap();
        assert_eq!(full.len(), 1);
        let Granted { device, access, .. } = &full[0];
        assert_eq!((device.path.as_str(), device.kind.as_str(), access.as_str()), ("/dev/x", "c", "rw"));
        assert_eq!((device.major, device.minor), (Some(1), Some(7)));

        let dir = std::env::temp_dir().join(format!("dhow-devices-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("empty")).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.join("link")).unwrap();
        let text = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let link = given(vec![mapping(&text("link"), "", "")]).unwrap();
        assert_eq!(link[0].device.minor, Some(3));
        assert_eq!(link[0].access, "rwm");
        for bad in [text("empty"), text("nope"), "/etc/hostname".to_owned()] {
            let error = format!("{:#}", given(vec![mapping(&bad, "/dev/x", "rwm")]).unwrap_err());
            assert!(error.starts_with("error gathering device information while adding custom device"), "{error}");
        }
        fs::remove_dir_all(&dir).unwrap();
        assert!(given(vec![mapping("/dev/null", "/dev/x", "rx")]).is_err());
        assert!(given(vec![mapping("/dev/null", "/dev/x", "rr")]).is_err());
    }

    #[test]
    fn privileged_sees_the_hosts_devices_but_not_its_terminals() {
        let all = granted(&HostConfig { privileged: true, ..HostConfig::default() }).unwrap();
        let has = |path: &str| all.iter().any(|granted| granted.device.path == path);
        assert!(has("/dev/null"));
        assert!(!all.iter().any(|granted| granted.device.path.starts_with("/dev/pts/")));
        assert!(!has("/dev/console"));
    }

    #[test]
    fn rules_end_with_what_was_granted() {
        let null = given(vec![mapping("/dev/full", "/dev/full", "r")]).unwrap();
        let rules_of = rules(false, &null, &[]);
        assert!(!rules_of[0].allow);
        let last = rules_of.last().unwrap();
        assert_eq!((last.major, last.minor, last.access.as_str()), (Some(1), Some(7), "r"));
        assert_eq!(rules(true, &null, &[]).len(), 1);
        let more = [rule("b 8:* rw").unwrap()];
        assert_eq!(rules(false, &null, &more).last(), Some(&more[0]));
    }

    #[test]
    fn rules_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("c 1:3 mr", Some(("c", Some(1), Some(3), "mr"))),
            ("b 8:* rwm", Some(("b", Some(8), None, "rwm"))),
            ("a *:* rwm", Some(("a", None, None, "rwm"))),
            ("c 1:3", None),
            ("c 1:3 ", None),
            ("c 1:3 rwmr", None),
            ("c 1:3 x", None),
            ("c  1:3 r", None),
            ("d 1:3 r", None),
            ("c 1 r", None),
            ("c :3 r", None),
            ("c -1:3 r", None),
            ("", None),
        ] {
            let read = rule(text).ok();
            let shown = read.as_ref().map(|rule| (rule.kind.as_str(), rule.major, rule.minor, rule.access.as_str()));
            assert_eq!(shown, expected, "{text}");
        }
        for (text, which) in [("c 2147483648:1 r", "major"), ("b 1:99999999999999999999 w", "minor")] {
            let expected = format!("invalid {which} value in device cgroup rule format: '{text}'");
            assert_eq!(rule(text).unwrap_err().to_string(), expected);
        }
        assert_eq!(rule("c 1:2147483647 r").unwrap().minor, Some(i32::MAX.into()));
    }
}
