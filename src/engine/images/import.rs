//! `import`: a tar becomes an image of one layer.

use super::super::events;
use super::super::layers::{self, Staged};
use super::super::store::Store;
use super::{changes, register, tag};
use crate::api::Refusal;
use crate::api::time::Time;
use crate::api::types::ProgressLine;
use crate::fs::{compression, settle, unpack};
use crate::oci::image::{History, ImageConfig, RootFs, RunConfig};
use crate::oci::registry::{self, Settings};
use crate::oci::{Digest, Platform, Reference, platform};
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

/// What is asked of an import, checked.
#[derive(Debug)]
pub struct Import {
    name: Option<Reference>,
    message: String,
    platform: Platform,
    config: RunConfig,
}

/// The largest file that is fetched, and the longest time that may take.
const MOST: u64 = 64 << 30;
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Where the tar comes from.
pub enum Source {
    /// The request itself.
    Body,
    Url(String),
}

impl Source {
    /// Reads `fromSrc`: `-`, or a URL, which is one of http where it does not say.
    pub fn of(text: &str) -> Result<Source> {
        match text {
            "-" => Ok(Source::Body),
            "" => bail!(Refusal::BadParameter("the source of an import is empty".to_owned())),
            url if url.starts_with("http://") || url.starts_with("https://") => Ok(Source::Url(url.to_owned())),
            url if url.contains("://") => bail!(Refusal::BadParameter(format!("unsupported protocol of {url:?}"))),
            host => Ok(Source::Url(format!("http://{host}"))),
        }
    }

    /// What an image says of where it came from, if nobody says better.
    pub fn message(&self, given: &str) -> String {
        match (given, self) {
            ("", Source::Body) => "Imported from -".to_owned(),
            ("", Source::Url(url)) => format!("Imported from {url}"),
            (given, _) => given.to_owned(),
        }
    }

    /// The tar, and what is said of it before it is read.
    pub fn open(
        self,
        body: Box<dyn Read + Send>,
        settings: &Settings,
    ) -> Result<(Box<dyn Read + Send>, Option<ProgressLine>)> {
        let Source::Url(url) = self else { return Ok((body, None)) };
        let (tar, _) = registry::download(&url, MOST, settings)?;
        let tar = Hurried { tar, end: Instant::now() + LONGEST };
        Ok((Box::new(tar), Some(ProgressLine::status(format!("Downloading from {url}")))))
    }
}

/// A download that has an end in time.
struct Hurried<R> {
    tar: R,
    end: Instant,
}

impl<R: Read> Read for Hurried<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if Instant::now() > self.end {
            return Err(std::io::Error::new(ErrorKind::TimedOut, "the download takes too long"));
        }
        self.tar.read(buffer)
    }
}

impl Import {
    /// Reads the query of `POST /images/create?fromSrc=`. Errors are 400.
    pub fn asked(repository: &str, tag: &str, message: &str, platform: &str, changes: &[String]) -> Result<Import> {
        let mut config = RunConfig::default();
        changes::apply(&mut config, changes)?;
        let platform = match platform {
            "" => platform::host(),
            text => Platform::parse(text).map_err(|error| Refusal::BadParameter(error.to_string()))?,
        };
        if platform.os != "linux" {
            bail!(Refusal::BadParameter("operating system is not supported".to_owned()));
        }
        Ok(Import { name: tag::name(repository, tag)?, message: message.to_owned(), platform, config })
    }
}

/// Makes an image of a tar, which may be compressed. Either it is there whole when this returns, or nothing of it is.
pub fn import(store: &Store, asked: Import, tar: impl Read + Send) -> Result<Digest> {
    let lease = store.lease()?;
    let staging = lease.tmp()?.join("layer");
    std::fs::create_dir(&staging).with_context(|| format!("make {}", staging.display()))?;
    let mut tar = compression::decoder(tar)?;
    let unpacked = unpack::unpack(&mut tar, &staging).context("unpack the archive")?;
    settle::settle(&unpacked, &staging, &[]).context("unpack the archive")?;
    let diff_ids = vec![unpacked.diff_id.clone()];
    let staged = Staged { dir: staging, size: unpacked.size, opaque: unpacked.opaque };
    layers::commit(store, &lease, &diff_ids, &[Some(staged)])?;

    let created = Some(Time::now().to_string());
    let config = ImageConfig {
        architecture: asked.platform.architecture,
        variant: asked.platform.variant,
        os: asked.platform.os,
        created: created.clone(),
        comment: asked.message.clone(),
        config: asked.config,
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
        history: vec![History { created, comment: asked.message, ..History::default() }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config).context("encode an image's config")?;
    let image = register(store, &lease, None, &config, None)?;
    let id = image.id.to_string();
    if let Some(name) = &asked.name {
        tag::give(store, &id, name)?;
    }
    events::image(store, image.config.config.labels.as_ref(), "import", &id, &id);
    Ok(image.id)
}
