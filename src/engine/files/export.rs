//! `GET /containers/{id}/export`: the container's root as a tar, without what is mounted in it.

use super::super::record::Record;
use super::super::store::Store;
use super::super::{containers, events};
use super::archive::into_io;
use super::view;
use crate::api::wire::Producer;
use crate::fs::pack::{Kept, Packer};
use anyhow::Result;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// What is written meanwhile is seen or not.
pub fn export(store: &Store, name: &str) -> Result<Producer> {
    let id = containers::find(store, name)?;
    let record = Record::load(store, &id)?.ok_or_else(|| containers::no_such(name))?;
    let root = view::root_alone(store, &id)?;
    events::container(store, &record, "export", &[]);
    Ok(Box::new(move |sink: &mut dyn Write| pack(root.as_fd(), sink).map_err(into_io)))
}

fn pack(root: BorrowedFd, sink: &mut dyn Write) -> Result<()> {
    let mut packer = Packer::new(sink);
    packer.contents(root, b"", &mut |_, _, _| Ok(Kept::All))?;
    packer.end()
}
