//! The answer of a build, line by line.

use super::outputs::Outputs;
use super::told::Told;
use crate::api::types::ProgressLine;
use crate::json;
use anyhow::{Result, bail};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The lines of the answer: what is told, and the pieces of outputs.
pub struct Lines<'a> {
    told: Told<'a>,
    outputs: Outputs,
    stopped: Arc<AtomicI32>,
    /// Of a line that has not come whole.
    partial: Vec<u8>,
    /// Why an output cannot be written.
    failed: Option<anyhow::Error>,
}

impl<'a> Lines<'a> {
    /// Nothing more is taken once `stopped` is not 0.
    pub fn new(told: Told<'a>, outputs: Outputs, stopped: Arc<AtomicI32>) -> Lines<'a> {
        Lines { told, outputs, stopped, partial: Vec::new(), failed: None }
    }

    fn line(&mut self, text: &[u8]) -> std::io::Result<()> {
        if self.stopped.load(Ordering::SeqCst) != 0 {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: ProgressLine = json::from_slice(text)?;
        if let Some(aux) = &line.aux {
            match self.outputs.take(aux) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    self.failed.get_or_insert(error);
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        self.told.line(text, &line)
    }

    /// The answer has ended like this; where all is well, `then` does the rest, and tells of it. Gives the image's id,
    /// which what is no image has not, and the digest of the manifest in the last archive that came, or `then`'s.
    pub fn finish(
        mut self,
        sent: Result<()>,
        then: impl FnOnce(&mut Told) -> Result<Option<String>>,
    ) -> Result<(String, Option<String>)> {
        let whole = sent.is_ok() && self.failed.is_none() && !self.told.has_failed();
        let ended = match whole && self.outputs.finish().is_ok() && !self.told.id.is_empty() {
            true => then(&mut self.told),
            false => Ok(None),
        };
        let told = self.told.finish();
        if let Some(error) = self.failed {
            return Err(error);
        }
        let id = told?;
        sent?;
        self.outputs.finish()?;
        if id.is_empty() && self.outputs.have_id() {
            bail!("the build ended without an image");
        }
        Ok((id, ended?.or(self.outputs.digest)))
    }
}

/// Calls `take` with each whole line that `bytes` end; what is left over is kept in `partial`.
pub fn each(
    partial: &mut Vec<u8>,
    bytes: &[u8],
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        partial.extend_from_slice(&rest[..=end]);
        take(&std::mem::take(partial))?;
        rest = &rest[end + 1..];
    }
    partial.extend_from_slice(rest);
    Ok(())
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut partial = std::mem::take(&mut self.partial);
        each(&mut partial, bytes, |line| self.line(line))?;
        self.partial = partial;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
