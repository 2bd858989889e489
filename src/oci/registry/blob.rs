//! A blob as a reader that resumes: a cut connection, a short read or a stall is asked for the rest.

use super::Client;
use super::endpoint::{Answer, Ask, is_transient};
use crate::log;
use crate::oci::image::Descriptor;
use anyhow::{Context, Result, anyhow, bail};
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use ureq::BodyReader;

/// Progress of this many bytes makes up for a failed try.
const PROGRESS: u64 = 1024 * 1024;
/// A server that brings less than this in this time stalls, though it never stops.
const LEAST: u64 = 16 * 1024;
const WINDOW: Duration = Duration::from_secs(60);

/// The bytes of one blob, as long as its descriptor says and not one byte more. They are not yet verified:
/// that is for who hashes them on their way.
pub struct Blob<'a> {
    client: &'a Client,
    descriptor: &'a Descriptor,
    /// Which of the client's endpoints serves, and which served the first byte.
    endpoint: usize,
    origin: usize,
    body: Option<BodyReader<'static>>,
    /// Bytes handed out.
    at: u64,
    /// Tries in a row that brought no progress, and where the first of them began.
    failed: u32,
    failed_at: u64,
    /// How long the server was waited for since this byte.
    waited: Duration,
    since_at: u64,
}

impl<'a> Blob<'a> {
    pub(super) fn open(client: &'a Client, descriptor: &'a Descriptor) -> Result<Blob<'a>> {
        let endpoint = client.trusted();
        let mut blob = Blob {
            client,
            descriptor,
            endpoint,
            origin: endpoint,
            body: None,
            at: 0,
            failed: 0,
            failed_at: 0,
            waited: Duration::ZERO,
            since_at: 0,
        };
        blob.connect()?;
        Ok(blob)
    }

    /// The first of the endpoints that had a part in what was read: whom to [`Client::distrust`] if it is wrong.
    pub fn origin(&self) -> usize {
        self.origin
    }

    /// Asks for what is still missing, at this endpoint or the next ones.
    fn connect(&mut self) -> Result<()> {
        loop {
            match self.ask().and_then(|answer| self.accept(answer)) {
                Ok(()) => return Ok(()),
                Err(error) => self.next_endpoint(error)?,
            }
        }
    }

    /// Turns to the next endpoint, or gives up with `error`.
    fn next_endpoint(&mut self, error: anyhow::Error) -> Result<()> {
        if self.endpoint + 1 >= self.client.endpoints.len() {
            return Err(error);
        }
        log::debug!("{}: {error:#}: trying the next", self.client.endpoints[self.endpoint].host());
        self.endpoint += 1;
        (self.failed, self.failed_at) = (0, self.at);
        Ok(())
    }

    fn ask(&self) -> Result<Answer> {
        let endpoint = &self.client.endpoints[self.endpoint];
        let path = format!("{}/blobs/{}", self.client.path, self.descriptor.digest);
        let ask = Ask { method: "GET", path: &path, scope: &self.client.scope, accept: "", from: self.at };
        let error = match endpoint.send(&ask) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // Layers that must not be distributed further say themselves where they are. No other layer has a say in
        // whom we ask, and who may not be asked in the clear is not.
        let foreign = ["nondistributable", ".foreign."].iter().any(|word| self.descriptor.media_type.contains(word));
        let open = |url: &&String| url.starts_with("https://") || endpoint.is_insecure() && url.starts_with("http://");
        for url in self.descriptor.urls.iter().flatten().filter(|_| foreign).filter(open) {
            match endpoint.retrying(|| endpoint.outside(url, self.at)) {
                Ok(answer) => return Ok(answer),
                Err(error) => log::debug!("{url}: {error:#}"),
            }
        }
        Err(error)
    }

    /// Takes an answer's body from where we stand.
    fn accept(&mut self, answer: Answer) -> Result<()> {
        let digest = &self.descriptor.digest;
        let from = match answer.status().as_u16() {
            206 => {
                let range = answer.headers().get("Content-Range").and_then(|v| v.to_str().ok()).unwrap_or("");
                let start = range.strip_prefix("bytes ").and_then(|r| r.split('-').next()?.parse::<u64>().ok());
                start.with_context(|| format!("blob {digest}: the range {range:?} cannot be read"))?
            }
            // Ranges are not for everyone: all of it comes again.
            _ => 0,
        };
        if from > self.at {
            bail!("blob {digest}: asked for byte {}, got {from}", self.at);
        }
        if let Some(length) = answer.body().content_length()
            && from.saturating_add(length) > self.descriptor.size
        {
            bail!(self.too_long());
        }
        let mut body = answer.into_body().into_reader();
        let skip = self.at - from;
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink())
            .with_context(|| format!("blob {digest}: read up to byte {}", self.at))?;
        if skipped < skip {
            bail!(io::Error::new(io::ErrorKind::UnexpectedEof, self.cut()));
        }
        self.body = Some(body);
        (self.waited, self.since_at) = (Duration::ZERO, self.at);
        if self.at == 0 {
            self.origin = self.endpoint;
        }
        Ok(())
    }

    /// What to do after `error` in the middle of a body: pause and ask for the rest, or give up.
    fn resume(&mut self, mut error: anyhow::Error) -> Result<()> {
        loop {
            self.body = None;
            if self.at - self.failed_at >= PROGRESS {
                self.failed = 0;
            }
            if self.failed == 0 {
                self.failed_at = self.at;
            }
            self.failed += 1;
            let endpoint = &self.client.endpoints[self.endpoint];
            if self.failed >= endpoint.attempts() {
                self.next_endpoint(error)?;
            } else {
                log::debug!("{}: {error:#}: resuming at byte {}", endpoint.host(), self.at);
                endpoint.pause(endpoint.delay_after(self.failed))?;
            }
            match self.connect() {
                Ok(()) => return Ok(()),
                Err(again) if again.downcast_ref::<io::Error>().is_some_and(is_transient) => error = again,
                Err(last) => return Err(last),
            }
        }
    }

    fn cut(&self) -> String {
        format!("the connection ended after {} of {} bytes", self.at, self.descriptor.size)
    }

    fn too_long(&self) -> String {
        format!(
            "blob {} is longer than the {} bytes that its manifest says",
            self.descriptor.digest, self.descriptor.size
        )
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            if self.client.cancelled.load(Ordering::Relaxed) {
                bail!("called off");
            }
            let left = self.descriptor.size - self.at;
            let Some(body) = &mut self.body else { return Ok(0) };
            if left == 0 {
                // The end is read too: more bytes are an error, and the connection can serve again.
                let more = body.read(&mut [0; 1]).unwrap_or(0);
                self.body = None;
                if more > 0 {
                    bail!(self.too_long());
                }
                return Ok(0);
            }
            let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let asked = Instant::now();
            let read = body.read(&mut buf[..most]);
            // Only time that we wait for the server counts, not what is done with its bytes.
            self.waited += asked.elapsed();
            match read {
                Ok(0) => self.resume(anyhow!(self.cut()))?,
                Ok(n) => {
                    self.at += n as u64;
                    if self.waited >= WINDOW {
                        let brought = self.at - self.since_at;
                        (self.waited, self.since_at) = (Duration::ZERO, self.at);
                        if brought < LEAST && self.at < self.descriptor.size {
                            let slow = format!("only {brought} bytes came in {} seconds", WINDOW.as_secs());
                            self.resume(anyhow!(slow))?;
                        }
                    }
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let cut = self.cut();
                    self.resume(anyhow::Error::new(error).context(cut))?;
                }
            }
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.fill(buf).map_err(io::Error::other)
    }
}
