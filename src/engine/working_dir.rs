//! A container's working directory. As with Docker it is there from the container's making on, so that files can be
//! copied into it before the start.

use super::mounts;
use super::record::Record;
use super::store::Store;
use super::{base, selinux};
use crate::api::Refusal;
use crate::fs::lowers::Lowers;
use crate::fs::overlay::{self, Upper};
use crate::fs::path::{self, IN_ROOT};
use crate::fs::stat::is_dir;
use anyhow::{Context, Result, bail};
use std::os::fd::AsFd;
use std::path::Path;

/// A directory to work in, in its shortest form; empty where none was asked for.
pub fn named(asked: &str) -> Result<String> {
    if !(asked.is_empty() || asked.starts_with('/')) {
        bail!(Refusal::BadParameter(format!(
            "the working directory '{asked}' is invalid, it needs to be an absolute path"
        )));
    }
    Ok(if asked.is_empty() { String::new() } else { mounts::clean(asked) })
}

/// Makes what the image lacks of it, for a container whose files will be in `dir`.
pub fn make(store: &Store, record: &Record, dir: &Path) -> Result<()> {
    let wanted = path::trim_slashes(record.config.working_dir.as_bytes());
    // A build's WORKDIR has made it.
    if wanted.is_empty() || record.step {
        return Ok(());
    }
    let mut lowers = record.lower_dirs(store);
    lowers.push(base::layer(store)?);
    // Mostly the image has it, which costs no mount to see.
    if Lowers::open(&lowers)?.find(wanted)?.is_some_and(|(_, stat)| is_dir(&stat)) {
        return Ok(());
    }
    let label = if selinux::is_enabled() { record.mount_label.clone() } else { String::new() };
    let upper = Upper { upper: dir.join("upper"), work: dir.join("work"), volatile: false, label };
    let root = match overlay::mount(&lowers, Some(&upper), &upper.work) {
        // Then the layers are copied by the first start, which makes it.
        Err(error) if overlay::is_unfit(&error) => return Ok(()),
        other => other?,
    };
    let making = || format!("make the working directory {}", record.config.working_dir);
    let at = path::resolved(root.as_fd(), wanted).with_context(making)?;
    let there = path::open(root.as_fd(), &at, nix::fcntl::OFlag::O_PATH, 0, IN_ROOT);
    if there.is_ok_and(|fd| nix::sys::stat::fstat(&fd).is_ok_and(|stat| !is_dir(&stat))) {
        bail!("Cannot mkdir: {} is not a directory", record.config.working_dir);
    }
    path::make_dirs(root.as_fd(), &at, IN_ROOT, |_, _| Ok(())).with_context(making).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_absolute() {
        for (asked, expected) in
            [("", Some("")), ("/", Some("/")), ("/a/../b//", Some("/b")), ("b", None), ("./", None)]
        {
            let given = named(asked);
            assert_eq!(given.as_deref().ok(), expected, "{asked}");
            if let Err(error) = given {
                let words = format!("the working directory '{asked}' is invalid, it needs to be an absolute path");
                assert_eq!(error.to_string(), words);
                assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400));
            }
        }
    }
}
