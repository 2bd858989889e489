//! `--storage-opt size=`: how much a container may write, by a project quota of the file system that holds its upper
//! directory. Overlay asks for room without CAP_SYS_RESOURCE, so that root in a container is held to it too.

use super::record::Record;
use crate::api::types::HostConfig;
use crate::api::{Refusal, units};
use crate::sys::{kernel, quota};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// What belongs to the container's project; its log does not.
const DIRECTORIES: [&str; 2] = ["upper", "work"];

/// Our projects begin here: numbers that people give by hand are small.
const FIRST: u32 = 1 << 30;

/// The bytes that were asked for; `None` where nothing was, or no limit. Errors: an option that is none.
pub fn size(host: &HostConfig) -> Result<Option<u64>> {
    let mut size = None;
    for (key, value) in host.storage_opt.iter().flatten() {
        if !key.eq_ignore_ascii_case("size") {
            bail!(Refusal::BadParameter(format!("Unknown option {key}")));
        }
        let bytes = units::parse_binary(value).map_err(Refusal::BadParameter)?;
        let wrong = || Refusal::BadParameter(format!("invalid size: '{value}'"));
        size = Some(u64::try_from(bytes).map_err(|_| wrong())?).filter(|bytes| *bytes > 0);
    }
    Ok(size)
}

/// Limits what a container that is being made in `directory` will write. Errors: this file system cannot.
pub fn limit(directory: &Path, id: &str, size: u64) -> Result<()> {
    let open = |name: &str| {
        let path = directory.join(name);
        File::open(&path).with_context(|| format!("open {}", path.display()))
    };
    let upper = open(DIRECTORIES[0])?;
    if !kernel::is_first_user_namespace() || !quota::are_enforced(upper.as_fd()).unwrap_or(false) {
        bail!(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, or ext4 with 'prjquota'"
        );
    }
    let mut project = FIRST | u32::from_str_radix(&id[..7], 16).context("read the container's id")?;
    loop {
        // Nobody's, or what is left of a container that is no more.
        let taken = quota::project(upper.as_fd(), project).context("ask for a project's quota")?;
        if taken.files == 0 && taken.bytes == 0 {
            for name in DIRECTORIES {
                quota::set_project(open(name)?.as_fd(), project)
                    .with_context(|| format!("put {name} into a project"))?;
            }
            // Whoever took the same at the same moment is seen now, by one of the two at least.
            let ours = quota::project(upper.as_fd(), project).context("ask for a project's quota")?;
            if ours.files <= DIRECTORIES.len() as u64 {
                return quota::limit(upper.as_fd(), project, size).context("limit a project");
            }
        }
        project = FIRST | project.wrapping_add(1);
    }
}

/// Takes back what [`limit`] set, where the container is about to be removed.
pub fn release(record: &Record, directory: &Path) {
    if !size(&record.host_config).is_ok_and(|size| size.is_some()) {
        return;
    }
    // What cannot be taken back limits nobody: its project is empty, and is given again.
    if let Ok(upper) = File::open(directory.join(DIRECTORIES[0]))
        && let Ok(project) = quota::project_of(upper.as_fd())
        && project >= FIRST
    {
        let _ = quota::limit(upper.as_fd(), project, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let of = |key: &str, value: &str| {
            size(&HostConfig { storage_opt: Some([(key.into(), value.into())].into()), ..HostConfig::default() })
        };
        assert_eq!(size(&HostConfig::default()).unwrap(), None);
        assert_eq!(of("size", "10G").unwrap(), Some(10 << 30));
        assert_eq!(of("SIZE", "512k").unwrap(), Some(512 << 10));
        assert_eq!(of("size", "0").unwrap(), None);
        assert_eq!(of("volume", "1g").unwrap_err().to_string(), "Unknown option volume");
        for bad in ["", "much", "-1"] {
            assert!(of("size", bad).is_err(), "{bad}");
        }
    }
}
