//! Whether the host shares the mounts that a bind shall hear of, or tell of its own.

use super::record::{Mounted, Record};
use crate::api::Refusal;
use crate::sys::mountinfo;
use anyhow::{Context, Result, bail};
use std::borrow::Cow;
use std::path::Path;

/// The record as it can be started: what the host does not share is refused, but where a bind only follows the host
/// because of what lies in it, it stays private.
pub fn checked(record: &Record) -> Result<Cow<'_, Record>> {
    if !record.mounts.iter().any(|mounted| needed(mounted).is_some()) {
        return Ok(Cow::Borrowed(record));
    }
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut record = Cow::Borrowed(record);
    for at in 0..record.mounts.len() {
        let mounted = &record.mounts[at];
        let Some(kinds) = needed(mounted) else { continue };
        let source = &mounted.point.source;
        let real = std::fs::canonicalize(source).with_context(|| format!("look at {source}"))?;
        match shared(&text, source, &real, kinds) {
            Err(_) if mounted.propagation_implied => {
                record.to_mut().mounts[at].point.propagation = "rprivate".to_owned();
            }
            other => other?,
        }
    }
    Ok(record)
}

/// What the mount below a bind has to be one of, by its field in mountinfo.
fn needed(mounted: &Mounted) -> Option<&'static [&'static str]> {
    let bind = mounted.point.r#type == "bind";
    match mounted.point.propagation.as_str() {
        "shared" | "rshared" if bind => Some(&["shared:"]),
        "slave" | "rslave" if bind => Some(&["shared:", "master:"]),
        _ => None,
    }
}

/// Refuses a source whose mount is of none of these kinds. The words are Docker's.
fn shared(mountinfo: &str, source: &str, real: &Path, kinds: &[&str]) -> Result<()> {
    let mounts = mountinfo::parse(mountinfo).filter(|mount| real.starts_with(&mount.point));
    // Of several at one place the last is on top.
    let Some(mount) = mounts.max_by_key(|mount| mount.point.as_os_str().len()) else {
        bail!("Can't find mount point of {source}");
    };
    if mount.optional.split(' ').any(|field| kinds.iter().any(|kind| field.starts_with(kind))) {
        return Ok(());
    }
    let words = if kinds.len() == 1 { "a shared mount" } else { "a shared or slave mount" };
    bail!("path {source} is mounted on {} but it is not {words}", mount.point.display())
}

/// A bind that holds the store, or lies in it, follows the host, so that it keeps no mount of the store's alive. Says
/// whether this one does without having been asked to.
pub fn implied(source: &str, asked: Option<&str>, root: &Path) -> Result<bool> {
    let path = Path::new(source);
    if !(path.starts_with(root) || root.starts_with(path)) {
        return Ok(false);
    }
    match asked {
        None | Some("") => Ok(true),
        Some("rslave" | "rshared") => Ok(false),
        Some(other) => bail!(Refusal::BadParameter(format!(
            "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is \
             within the daemon root, daemon root: {:?}, bind mount source: {source:?}, propagation: {other:?}",
            root.display().to_string()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                          28 27 0:1 / /shared rw shared:1 - tmpfs none rw\n\
                          29 28 0:2 / /shared/slave rw master:1 - tmpfs none rw\n\
                          30 28 0:3 / /shared/both rw shared:2 master:1 - tmpfs none rw\n\
                          31 27 0:4 / /twice rw shared:3 - tmpfs none rw\n\
                          32 31 0:5 / /twice rw - tmpfs none rw\n\
                          33 27 0:6 / /with\\040space rw unbindable shared:4 - tmpfs none rw\n";

    #[test]
    fn the_mount_below_decides() {
        let share = "it is not a shared mount";
        let follow = "it is not a shared or slave mount";
        for (path, point, is_shared, is_slave) in [
            ("/", "/", false, false),
            ("/sharedness", "/", false, false),
            ("/shared", "/shared", true, true),
            ("/shared/deep/down", "/shared", true, true),
            ("/shared/slave/x", "/shared/slave", false, true),
            ("/shared/both", "/shared/both", true, true),
            ("/twice/x", "/twice", false, false),
            ("/with space/x", "/with space", true, true),
        ] {
            let words = |kinds: &[&str]| shared(MOUNTS, "S", Path::new(path), kinds).map_err(|error| error.to_string());
            let expected = |holds: bool, why: &str| {
                if holds { Ok(()) } else { Err(format!("path S is mounted on {point} but {why}")) }
            };
            assert_eq!(words(&["shared:"]), expected(is_shared, share), "{path}");
            assert_eq!(words(&["shared:", "master:"]), expected(is_slave, follow), "{path}");
        }
        assert_eq!(
            shared("", "/x", Path::new("/x"), &["shared:"]).unwrap_err().to_string(),
            "Can't find mount point of /x"
        );
    }

    #[test]
    fn what_a_mount_needs() {
        let mounted = |kind: &str, propagation: &str| {
            let mut mounted = Mounted::default();
            mounted.point.r#type = kind.to_owned();
            mounted.point.propagation = propagation.to_owned();
            needed(&mounted).map_or(0, <[_]>::len)
        };
        for (propagation, kinds) in
            [("", 0), ("private", 0), ("rprivate", 0), ("shared", 1), ("rshared", 1), ("slave", 2), ("rslave", 2)]
        {
            assert_eq!(mounted("bind", propagation), kinds, "{propagation}");
            assert_eq!(mounted("volume", propagation), 0, "{propagation}");
        }
    }

    #[test]
    fn the_store_is_followed() {
        let root = Path::new("/var/lib/dhow");
        for (source, asked, expected) in [
            ("/", None, Some(true)),
            ("/var/lib/dhow/volumes", Some(""), Some(true)),
            ("/var/lib", Some("rslave"), Some(false)),
            ("/var/lib", Some("rshared"), Some(false)),
            ("/var/lib", Some("rprivate"), None),
            ("/", Some("slave"), None),
            ("/var/lib/dhow2", Some("rprivate"), Some(false)),
            ("/home", None, Some(false)),
        ] {
            assert_eq!(implied(source, asked, root).ok(), expected, "{source} {asked:?}");
        }
        let error = implied("/", Some("private"), root).unwrap_err();
        assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400));
    }
}
