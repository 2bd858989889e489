//! What is sent to a daemon: a tar, of a folder or of what comes on stdin.

use super::contexts::{Contexts, kept};
use crate::api::wire::Body;
use crate::build::dockerfile::LARGEST;
use crate::build::ignore::Ignore;
use crate::fs::pack::Packer;
use anyhow::{Context as _, Result};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// What comes on stdin: a tar, or the text of a Dockerfile.
pub fn stdin(file: Option<&str>, query: &mut Vec<(String, String)>) -> Result<Body> {
    let mut start = [0; 512];
    let mut filled = 0;
    let mut stdin = std::io::stdin();
    while filled < start.len() {
        match stdin.read(&mut start[filled..]).context("read stdin")? {
            0 => break,
            n => filled += n,
        }
    }
    use crate::fs::compression::Compression;
    let packed = Compression::of(&start[..filled]) != Compression::None;
    if packed || filled == start.len() && crate::fs::header::check(&start).is_ok() {
        query.extend(file.map(|file| ("dockerfile".to_owned(), file.to_owned())));
        return Ok(Body::Reader(Box::new(std::io::Cursor::new(start[..filled].to_vec()).chain(stdin))));
    }
    let mut dockerfile = start[..filled].to_vec();
    stdin.take(LARGEST as u64 + 1).read_to_end(&mut dockerfile).context("read stdin")?;
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar);
    packer.bytes(b"Dockerfile", &dockerfile)?;
    packer.end()?;
    query.push(("dockerfile".to_owned(), "Dockerfile".to_owned()));
    Ok(Body::Bytes(tar))
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
    let mut packer = Packer::new(sink);
    packer.bytes(name.as_bytes(), dockerfile)?;
    packer.bytes(format!("{name}.dockerignore").as_bytes(), ignore)?;
    packer.contents(root.as_fd(), b"", &mut kept(ignored))?;
    contexts.pack(&mut packer)?;
    packer.end()
}
