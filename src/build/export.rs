//! `--output`: what was built goes out as a tar, in pieces among the messages of the build. It is written down by who
//! asked, so that it is the same from a daemon and without one.

use super::builder::Builder;
use super::report::Output;
use super::state::State;
use crate::api::Refusal;
use crate::engine::images::{self, Save};
use crate::fs::pack::{Kept, Packer};
use crate::json::fields::fields;
use crate::oci::Reference;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

/// What is made of a build.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// An image of this store.
    Image,
    /// The files of it, as a tar.
    Files,
    /// An archive as `save` writes it, which is Docker's and an OCI layout at once.
    Archive,
    /// Nothing but what the cache has of it.
    Nothing,
}

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub kind: Kind,
    /// Names in place of those of the build.
    pub names: Vec<Reference>,
}

fields! {
    /// As the query has one.
    #[derive(Default)]
    #[serde(rename_all = "PascalCase")]
    pub struct Asked {
        r#type: String,
        attrs: Map<String, String>,
    }
}

impl TryFrom<Asked> for Wanted {
    type Error = anyhow::Error;

    fn try_from(asked: Asked) -> Result<Wanted> {
        let kind = match asked.r#type.as_str() {
            "image" => Kind::Image,
            "local" | "tar" => Kind::Files,
            "docker" | "oci" => Kind::Archive,
            "cacheonly" => Kind::Nothing,
            "" => bail!(Refusal::BadParameter("type is required for output".to_owned())),
            other => bail!(Refusal::NotImplemented(format!("output of type {other} is not supported"))),
        };
        let mut names = Vec::new();
        for (key, value) in asked.attrs {
            match key.as_str() {
                "name" if matches!(kind, Kind::Image | Kind::Archive) => {
                    for name in value.split(',').filter(|name| !name.is_empty()) {
                        names.extend(images::name(name, "")?);
                    }
                }
                _ => bail!(Refusal::BadParameter(format!("output of type {} has no {key}", asked.r#type))),
            }
        }
        Ok(Wanted { kind, names })
    }
}

/// Bytes on their way to who asked.
struct Data<'a, 'b> {
    output: &'a mut Output<'b>,
    at: usize,
}

/// So many bytes at once.
const PIECE: usize = 192 * 1024;

impl Write for Data<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.output.data(self.at, piece)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Builder<'_> {
    /// Sends all that is not kept here. `config` is the image's.
    pub fn export(&mut self, state: &State, config: &[u8], output: &mut Output) -> Result<()> {
        for (at, wanted) in self.asked.outputs.iter().enumerate() {
            let mut manifest = None;
            match wanted.kind {
                Kind::Image | Kind::Nothing => continue,
                Kind::Files => {
                    output.note("sending files")?;
                    let tree = self.tree(state, "what was built")?;
                    let mut out = BufWriter::with_capacity(PIECE, Data { output, at });
                    let mut packer = Packer::new(&mut out);
                    packer.time = self.epoch;
                    packer.contents(tree.root.as_fd(), b"", &mut |_, _, _| Ok(Kept::All))?;
                    packer.end()?;
                    out.flush().context("send what was built")?;
                }
                Kind::Archive => {
                    output.note("sending an archive")?;
                    let store = &self.engine.store;
                    let image = images::describe(store, None, config, state.image.as_ref())?;
                    let names = if wanted.names.is_empty() { &self.asked.names } else { &wanted.names };
                    let save = Save::made(store, image, config.to_vec(), names.clone())?;
                    manifest = save.manifest()?;
                    let archive = save.stream()?;
                    let mut out = BufWriter::with_capacity(PIECE, Data { output, at });
                    archive(&mut out).and_then(|()| out.flush()).context("send what was built")?;
                }
            }
            output.sent(at, manifest.as_ref())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let read = |text: &str| -> Result<Vec<Wanted>> {
            let asked: Vec<Asked> = serde_json::from_str(text)?;
            asked.into_iter().map(Wanted::try_from).collect()
        };
        let kinds = |text: &str| read(text).unwrap().into_iter().map(|it| it.kind).collect::<Vec<_>>();
        assert_eq!(kinds(r#"[{"Type":"tar"},{"Type":"oci","Attrs":{}}]"#), [Kind::Files, Kind::Archive]);
        assert_eq!(kinds(r#"[{"Type":"image"},{"Type":"cacheonly"}]"#), [Kind::Image, Kind::Nothing]);
        let named = read(r#"[{"Type":"docker","Attrs":{"name":"a,b:1"}}]"#).unwrap().remove(0);
        assert_eq!(named.names.iter().map(Reference::familiar).collect::<Vec<_>>(), ["a:latest", "b:1"]);
        for (text, words) in [
            (r#"[{}]"#, "type is required for output"),
            (r#"[{"Type":"registry"}]"#, "output of type registry is not supported"),
            (r#"[{"Type":"tar","Attrs":{"name":"a"}}]"#, "output of type tar has no name"),
            (r#"[{"Type":"oci","Attrs":{"compression":"zstd"}}]"#, "output of type oci has no compression"),
            (r#"[{"Type":"oci","Attrs":{"name":"UPPER"}}]"#, "lowercase"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
