//! A blob on its way from one repository into another, with no copy of it here.

use super::{Client, Content, Mount, Pusher, Sent};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::image::Descriptor;
use anyhow::{Result, bail};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

impl Pusher {
    /// Has a blob of another repository of this registry in this one too: as it is there, taken over, or brought.
    pub fn share(&self, from: &Client, path: &str, blob: &Descriptor) -> Result<()> {
        if self.has(&blob.digest)? {
            return Ok(());
        }
        match self.mount(&blob.digest, path)? {
            Mount::Mounted => Ok(()),
            Mount::No(_) => self.pass(from, blob, &AtomicU64::new(0)).map(drop),
        }
    }

    /// Brings a blob from where it is. `moved` counts its bytes.
    pub fn pass(&self, from: &Client, blob: &Descriptor, moved: &AtomicU64) -> Result<Sent> {
        self.send_known(blob, moved, &|| Ok(Box::new(from.blob(blob)?)))
    }

    /// Sends a blob whose digest is known, from where `open` finds its bytes. Other bytes become no blob.
    pub fn send_known(&self, blob: &Descriptor, moved: &AtomicU64, open: &Open) -> Result<Sent> {
        let sent = self.upload(&Known { open, blob, moved }, None)?;
        if sent.digest != blob.digest {
            bail!("digest mismatch: expected {}, got {}", blob.digest, sent.digest);
        }
        Ok(sent)
    }
}

/// Opens the bytes of a blob from the start.
pub type Open<'a> = dyn Fn() -> Result<Box<dyn Read + 'a>> + 'a;

/// A blob that is somewhere.
struct Known<'a, 'b> {
    open: &'a Open<'b>,
    blob: &'a Descriptor,
    moved: &'a AtomicU64,
}

impl Content for Known<'_, '_> {
    fn make(&self, consume: &mut dyn FnMut(&mut dyn Read) -> Result<Sent>) -> Result<Result<Sent>> {
        self.moved.store(0, Ordering::Relaxed);
        let mut blob = (self.open)()?;
        let hasher = Some(Hasher::new(self.blob.digest.algorithm()));
        let mut checked = Checked { blob: &mut *blob, hasher, digest: &self.blob.digest, moved: self.moved };
        Ok(consume(&mut checked))
    }
}

/// A blob that does not end where it was another one.
struct Checked<'a> {
    blob: &'a mut dyn Read,
    hasher: Option<Hasher>,
    digest: &'a Digest,
    moved: &'a AtomicU64,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.blob.read(buffer)?;
        self.moved.fetch_add(n as u64, Ordering::Relaxed);
        if n > 0 {
            self.hasher.iter_mut().for_each(|hasher| hasher.update(&buffer[..n]));
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != *self.digest {
                return Err(io::Error::other(format!("digest mismatch: expected {}, got {found}", self.digest)));
            }
        }
        Ok(n)
    }
}
