//! The resolver of a store's networks, and the face that hands it a container whose last resolver has ended, or that has
//! come to its first network of a user's.

use super::Base;
use crate::engine::networks::names;
use crate::engine::privileges::{self, Keep, Work};
use crate::engine::shim::LISTEN_FD;
use crate::engine::{Record, Store, containers, locks, networks};
use crate::net::dns;
use crate::sys::process;
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
    privileges::give_up(Keep::Nothing)?;
    privileges::keep_to(Work::Answer)?;
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
