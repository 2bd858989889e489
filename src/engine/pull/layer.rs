//! One layer in one pass: download and hash, inflate, unpack and hash again, each stage a thread, so that an image of
//! a single layer keeps several cores busy too. Nothing of it counts before both digests hold.

use super::pipe::{self, pipe};
use crate::engine::store;
use crate::fs::compression;
use crate::fs::unpack::{self, Unpacked};
use crate::log;
use crate::oci::Digest;
use crate::oci::digest::Hasher;
use crate::oci::image::Descriptor;
use crate::oci::registry::Client;
use anyhow::{Context, Result, anyhow, bail};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

const BUFFERS: usize = 4;
const COMPRESSED: usize = 128 * 1024;
const TAR: usize = 256 * 1024;
/// If a layer cannot be unpacked and no more than this is left of its download, the rest is hashed all the same:
/// a wrong digest is the better explanation.
const WORTH_HASHING: u64 = 16 * 1024 * 1024;

/// How far a layer is, in bytes as it is stored in the registry; written by its threads, read by who shows it.
#[derive(Default)]
pub struct Progress {
    pub downloaded: AtomicU64,
    pub unpacked: AtomicU64,
}

/// Whose bytes were unpacked.
#[derive(Default)]
struct Source {
    /// Which of the client's endpoints began to serve them.
    endpoint: AtomicUsize,
    /// They are what the manifest names: what is wrong with them is not its fault.
    verified: AtomicBool,
}

/// Fetches one layer into the empty directory `staging`. `downloaded` is called when its blob is here and verified.
/// A mirror that serves something else is passed over. On an error the caller removes `staging`. With `keep`, a path in
/// there, the blob is written to it.
pub fn fetch(
    client: &Client,
    blob: &Descriptor,
    diff_id: &Digest,
    staging: &Path,
    keep: Option<&Path>,
    progress: &Progress,
    downloaded: impl Fn() + Send + Sync,
) -> Result<Unpacked> {
    loop {
        let source = Source::default();
        let error = match attempt(client, blob, diff_id, (staging, keep), progress, &source, &downloaded) {
            Ok(unpacked) => return Ok(unpacked),
            Err(error) => error.context(format!("layer {}", blob.digest)),
        };
        let blameless = source.verified.load(Ordering::Relaxed) || store::is_full(&error);
        if blameless || !client.distrust(source.endpoint.load(Ordering::Relaxed)) {
            return Err(error);
        }
        log::debug!("{error:#}: trying the next");
        store::remove(staging)?;
        std::fs::create_dir(staging).with_context(|| format!("make {}", staging.display()))?;
        progress.downloaded.store(0, Ordering::Relaxed);
        progress.unpacked.store(0, Ordering::Relaxed);
    }
}

fn attempt(
    client: &Client,
    blob: &Descriptor,
    diff_id: &Digest,
    (staging, keep): (&Path, Option<&Path>),
    progress: &Progress,
    source: &Source,
    downloaded: &(impl Fn() + Send + Sync),
) -> Result<Unpacked> {
    thread::scope(|scope| {
        let (compressed_in, compressed_out) = pipe(BUFFERS, COMPRESSED);
        let (tar_in, mut tar_out) = pipe(BUFFERS, TAR);
        let downloading = scope.spawn(move || {
            download(client, blob, keep, compressed_in, progress, source)?;
            if source.verified.load(Ordering::Relaxed) {
                downloaded();
            }
            Ok(())
        });
        let inflating = scope.spawn(move || inflate(compressed_out, tar_in, progress));
        let unpacked = unpack::unpack(&mut tar_out, staging);
        // A stage before that still waits for a reader must see that there is none.
        drop(tar_out);
        // What went wrong first is told: each stage's end makes those after it fail too.
        let inflated = join(inflating);
        join(downloading)?;
        inflated?;
        let unpacked = unpacked?;
        if unpacked.diff_id != *diff_id {
            bail!("diff id mismatch: expected {diff_id}, got {}", unpacked.diff_id);
        }
        Ok(unpacked)
    })
}

fn download(
    client: &Client,
    blob: &Descriptor,
    keep: Option<&Path>,
    mut into: pipe::Writer,
    progress: &Progress,
    source: &Source,
) -> Result<()> {
    let mut reader = client.blob(blob)?;
    let mut hasher = Hasher::new(blob.digest.algorithm());
    let mut bytes = 0;
    let mut kept = keep.map(File::create_new).transpose().context("keep the blob")?;
    let mut unkept = None;
    let mut each = |piece: &[u8]| {
        hasher.update(piece);
        if let Some(Err(error)) = kept.as_mut().map(|file| file.write_all(piece)) {
            (kept, unkept) = (None, Some(error));
        }
        bytes += piece.len() as u64;
        progress.downloaded.store(bytes, Ordering::Relaxed);
    };
    let copied = into.copy(&mut reader, &mut each);
    source.endpoint.store(reader.origin(), Ordering::Relaxed);
    match copied {
        Err(error) if is_gone(&error) && blob.size - progress.downloaded.load(Ordering::Relaxed) <= WORTH_HASHING => {
            let mut buffer = vec![0; COMPRESSED];
            loop {
                match reader.read(&mut buffer).context("download")? {
                    0 => break,
                    n => each(&buffer[..n]),
                }
            }
        }
        Err(error) if is_gone(&error) => return Ok(()),
        copied => copied.context("download")?,
    }
    let found = hasher.finish();
    if found != blob.digest {
        bail!("digest mismatch: expected {}, got {found}", blob.digest);
    }
    source.verified.store(true, Ordering::Relaxed);
    match unkept {
        Some(error) => Err(error).context("keep the blob"),
        None => Ok(()),
    }
}

fn inflate(from: pipe::Reader, mut into: pipe::Writer, progress: &Progress) -> Result<()> {
    let counted = Counted { inner: from, count: &progress.unpacked };
    let mut tar = compression::decoder(counted)?;
    match into.copy(&mut *tar, |_| ()) {
        Err(error) if is_gone(&error) => Ok(()),
        copied => copied.context("decompress"),
    }
}

/// The stage after this one has ended: its own error says why.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe && error.get_ref().is_none()
}

fn join(stage: ScopedJoinHandle<Result<()>>) -> Result<()> {
    stage.join().unwrap_or_else(|_| Err(anyhow!("a thread of the download panicked")))
}

/// Counts what is read through it.
struct Counted<'a> {
    inner: pipe::Reader,
    count: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
