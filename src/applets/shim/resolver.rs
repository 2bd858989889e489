//! The resolver of a store's networks, and the face that hands it a container whose last resolver has ended, or that has
//! come to its first network of a user's.

use super::Base;
use crate::engine::networks::names;
use crate::engine::shim::LISTEN_FD;
use crate::engine::{Record, Store, containers, locks, networks};
use crate::net::dns;
use crate::sys::{kernel, process};
use anyhow::{Context, Result};
use std::os::fd::{AsFd, OwnedFd};

/// The words of [`hand_over`] that name descriptors: the container's namespace, and the end of a connection to its shim.
pub const NAMESPACE: &str = "in";
pub const SHIM: &str = "shim";

/// The process. It has been given the socket at which containers are handed to it.
pub fn run(store: &Store) -> Result<()> {
    let socket = process::adopt(LISTEN_FD).context("the resolver was not given its socket")?;
    std::env::set_current_dir("/").context("go to /")?;
    let lock = locks::open(&names::lock_path(store))?;
    let resolver = dns::Resolver::new(socket, lock, &names::dir(store)).context("open what names are read from")?;
    // Each container takes three descriptors and more.
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    if let Ok((_, most)) = nix::sys::resource::getrlimit(limit) {
        let _ = nix::sys::resource::setrlimit(limit, most, most);
    }
    if kernel::may_set_groups() {
        process::setgroups(&[]).context("leave all groups")?;
    }
    // In an ordinary user's namespace there may be no such id.
    for done in [process::setresgid(names::NOBODY), process::setresuid(names::NOBODY)] {
        match done {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !kernel::is_first_user_namespace() => {}
            done => done.context("become nobody")?,
        }
    }
    process::capset(0, 0, 0).context("give up capabilities")?;
    process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).context("rule privileges out")?;
    dns::run(resolver).context("resolve names")
}

/// The face.
pub fn hand_over(base: &Base, pairs: &[(&str, &str)]) -> Result<()> {
    let fd = |name: &str| -> Result<OwnedFd> {
        let text = pairs.iter().find(|(key, _)| *key == name).map(|(_, text)| *text);
        let fd = process::adopt(text.and_then(|text| text.parse().ok()).context("a descriptor is missing")?)?;
        process::set_inherit(fd.as_fd(), false)?;
        Ok(fd)
    };
    let id = &base.whose.container;
    let record = Record::load(&base.store, id)?.ok_or_else(|| containers::no_such(id))?;
    networks::names::open(&base.store, &record, fd(NAMESPACE)?.as_fd(), fd(SHIM)?.as_fd())
}
