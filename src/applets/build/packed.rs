//! What is sent to a daemon: a tar, of a folder or of what comes on stdin.

use super::contexts::{Contexts, kept};
use crate::api::wire::Body;
use crate::applets::piped::piped;
use crate::build::dockerfile::LARGEST;
use crate::build::ignore::Ignore;
use crate::fs::compression::{self, Compression};
use crate::fs::pack::Packer;
use anyhow::{Context as _, Result};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// BuildKit has an empty file where a context has a socket.
fn packer(sink: &mut dyn Write) -> Packer<'_> {
    let mut packer = Packer::new(sink);
    packer.sockets = true;
    packer
}

/// What comes on stdin: a tar, or the text of a Dockerfile. Folders of named contexts go before it.
pub fn stdin(file: Option<&str>, contexts: Option<Contexts>, query: &mut Vec<(String, String)>) -> Result<Body> {
    let mut start = [0; 512];
    let mut filled = 0;
    let mut stdin = std::io::stdin();
    while filled < start.len() {
        match stdin.read(&mut start[filled..]).context("read stdin")? {
            0 => break,
            n => filled += n,
        }
    }
    let packed = Compression::of(&start[..filled]) != Compression::None;
    if packed || filled == start.len() && crate::fs::header::check(&start).is_ok() {
        query.extend(file.map(|file| ("dockerfile".to_owned(), file.to_owned())));
        let came = std::io::Cursor::new(start[..filled].to_vec()).chain(stdin);
        let Some(contexts) = contexts else { return Ok(Body::Reader(Box::new(came))) };
        let tar = piped(move |sink| {
            // No end: that is the other's.
            contexts.pack(&mut packer(sink))?;
            std::io::copy(&mut compression::decoder(came)?, sink).context("read stdin")?;
            Ok(())
        })?;
        return Ok(Body::Reader(Box::new(tar)));
    }
    let mut dockerfile = start[..filled].to_vec();
    stdin.take(LARGEST as u64 + 1).read_to_end(&mut dockerfile).context("read stdin")?;
    query.push(("dockerfile".to_owned(), "Dockerfile".to_owned()));
    let tar = piped(move |sink| {
        let mut packer = packer(sink);
        contexts.iter().try_for_each(|contexts| contexts.pack(&mut packer))?;
        packer.bytes(b"Dockerfile", &dockerfile)?;
        packer.end()
    })?;
    Ok(Body::Reader(Box::new(tar)))
}

/// Folders of named contexts alone, for a context that lies elsewhere.
pub fn beside(contexts: Contexts) -> Result<Body> {
    let tar = piped(move |sink| {
        let mut packer = packer(sink);
        contexts.pack(&mut packer)?;
        packer.end()
    })?;
    Ok(Body::Reader(Box::new(tar)))
}

/// Packs a context, without what is ignored, with its Dockerfile and the list of what is ignored.
pub fn pack(
    root: OwnedFd,
    ignored: &Ignore,
    (name, dockerfile): (&str, &[u8]),
    ignore: &[u8],
    contexts: &Contexts,
    sink: &mut dyn Write,
) -> Result<()> {
    let mut packer = packer(sink);
    packer.bytes(name.as_bytes(), dockerfile)?;
    packer.bytes(format!("{name}.dockerignore").as_bytes(), ignore)?;
    packer.contents(root.as_fd(), b"", &mut kept(ignored))?;
    contexts.pack(&mut packer)?;
    packer.end()
}
