//! `--build-context`: what is sent of it.

use crate::build::contexts::{INSIDE, Value, canonical};
use crate::build::ignore::Ignore;
use crate::fs::pack::{Kept, Packer};
use crate::fs::path;
use anyhow::{Context, Result, anyhow, bail};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// All of them, in order.
pub struct Contexts(Vec<(String, Value, Option<OwnedFd>)>);

impl Contexts {
    pub fn read(texts: &[String]) -> Result<Contexts> {
        let mut all = Vec::new();
        for text in texts {
            let (name, value) =
                text.split_once('=').ok_or_else(|| anyhow!("invalid context value: {text}, expected key=value"))?;
            if canonical(name).is_none() {
                bail!("invalid context name {name}");
            }
            let value = match Path::new(value).is_dir() {
                true => Value::Folder(value.to_owned()),
                false => Value::parse(value)?,
            };
            let root = match value.folder() {
                Some(dir) => {
                    let opened = path::open_root(Path::new(dir));
                    Some(opened.with_context(|| format!("failed to get build context path for {name}: {dir:?}"))?)
                }
                None => None,
            };
            all.push((name.to_owned(), value, root));
        }
        Ok(Contexts(all))
    }

    /// Images that names stand for.
    pub fn images(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(_, value, _)| match value {
            Value::Image(image) => Some(image.clone()),
            _ => None,
        })
    }

    pub fn has_folders(&self) -> bool {
        self.0.iter().any(|(_, _, root)| root.is_some())
    }

    /// What the query says of them.
    pub fn query(&self) -> Option<String> {
        let one = |(at, (name, value, _)): (usize, &(String, Value, Option<OwnedFd>))| {
            (name.clone(), value.text(inside(at)).into())
        };
        let mut all = serde_json::Map::new();
        all.extend(self.0.iter().enumerate().map(one));
        (!all.is_empty()).then(|| serde_json::Value::from(all).to_string())
    }

    /// Hands over the folders to who builds in this process.
    pub fn folders(&mut self) -> Vec<(String, OwnedFd)> {
        self.0.iter_mut().filter_map(|(name, _, root)| Some((name.clone(), root.take()?))).collect()
    }

    /// Packs the folders, without what each of them ignores.
    pub fn pack(&self, packer: &mut Packer) -> Result<()> {
        for (at, (_, value, root)) in self.0.iter().enumerate() {
            let Some(root) = root else { continue };
            let ignore = match value {
                // All of a layout is named by digests.
                Value::Layout(..) => Ignore::default(),
                _ => crate::build::ignored(root.as_fd())?,
            };
            packer.tree(root.as_fd(), inside(at).as_bytes(), &mut kept(&ignore))?;
        }
        Ok(())
    }
}

fn inside(at: usize) -> String {
    format!("{INSIDE}{}/{at}", std::process::id())
}

/// Whether an entry of a context goes to who builds.
pub fn kept(ignored: &Ignore) -> impl FnMut(&[u8], BorrowedFd, &nix::sys::stat::FileStat) -> Result<Kept> {
    |path, _, stat| {
        let text = String::from_utf8_lossy(path);
        Ok(match ignored.leaves_out(&text) {
            false => Kept::All,
            true if crate::fs::stat::is_dir(stat) && ignored.may_keep_inside(&text) => Kept::All,
            true => Kept::Nothing,
        })
    }
}
