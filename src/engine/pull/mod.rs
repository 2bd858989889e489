//! Pull: an image from a registry into the store.
//!
//! ```text
//! find: tag → index → platform → manifest → config                          (before the first line of the answer)
//! a few layers at once, each:  download+hash │ inflate │ unpack+hash        (threads, bounded pipes, no blob on disk)
//! in order, as they get ready: settle on the layers below, sync, commit
//! then: the image's record, then its names
//! ```
//!
//! A pull that fails or is killed leaves whole layers, which the next one finds, and garbage under its lease.

mod find;
mod layer;
mod pipe;

use super::lines::{self, Sink};
use super::locks::Lock;
use super::store::{Lease, Store};
use super::{events, images, layers, packed};
use crate::api::Refusal;
use crate::api::types::ProgressLine;
use crate::api::wire::Producer;
use crate::channel::{Receiver, RecvTimeoutError, Sender, channel};
use crate::failpoint;
use crate::fs::settle::settle;
use crate::fs::unpack::Unpacked;
use crate::oci::auth::Credentials;
use crate::oci::image::{Descriptor, ImageConfig, chain_ids};
use crate::oci::registry::{Client, Settings};
use crate::oci::{Digest, Platform, Reference};
use anyhow::{Context, Result, bail};
use find::Found;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Layers that move are shown no more often than this, as Docker does.
const TICK: Duration = Duration::from_millis(100);
/// How long finished layers may wait for others to be committed with them, by one sync. Those that are committed need
/// not be fetched again when the pull is cut off.
const COMMIT: Duration = Duration::from_secs(1);

/// How often a layer that another pull fetches is asked for.
const TURN: Duration = Duration::from_millis(20);

/// What to pull.
#[derive(Debug)]
pub struct Request {
    pub reference: Reference,
    /// Every tag of the repository; then the reference has none.
    pub all_tags: bool,
    /// This host's if none is given.
    pub platform: Option<Platform>,
    pub credentials: Option<Credentials>,
}

/// A pull whose first image is found. Nothing is written yet.
pub struct Pull {
    request: Request,
    settings: Settings,
    client: Client,
    tags: Vec<Reference>,
    first: Mutex<Option<Found>>,
}

impl Pull {
    /// Asks the registry for the image. Errors: [`Refusal`]s in Docker's words for what does not exist, may not be
    /// had, or is made for another platform.
    pub fn find(store: &Store, request: Request, settings: &Settings) -> Result<Pull> {
        let client = Client::new(&request.reference, request.credentials.clone(), settings)?;
        let tags = if request.all_tags {
            if request.reference.tag.is_some() || request.reference.digest.is_some() {
                bail!(Refusal::BadParameter("tag can't be used with --all-tags/-a".to_owned()));
            }
            let names = client.tags().map_err(|error| find::refusal(&request.reference, error))?;
            names.iter().map(|tag| request.reference.with_tag(tag)).collect::<Result<Vec<_>>>()?
        } else {
            vec![request.reference.clone().or_latest()]
        };
        let first = match tags.first() {
            Some(reference) => Some(find::find(store, &client, reference, request.platform.as_ref())?),
            None => None,
        };
        Ok(Pull { request, settings: settings.clone(), client, tags, first: Mutex::new(first) })
    }

    /// Brings it into the store.
    pub fn run(&self, store: &Store, sink: Sink) -> Result<()> {
        let mut changed = false;
        let mut first = self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        for (at, reference) in self.tags.iter().enumerate() {
            let found = match first.take().filter(|_| at == 0) {
                Some(found) => found,
                None => find::find(store, &self.client, reference, self.request.platform.as_ref())?,
            };
            let id = reference.manifest_name();
            let status = format!("Pulling from {}", reference.path);
            show(sink, ProgressLine { id, ..ProgressLine::status(status) })?;
            changed |=
                self.image(store, reference, &found, sink).with_context(|| format!("pull {}", reference.familiar()))?;
        }
        let shown = if self.request.all_tags {
            self.request.reference.familiar_name()
        } else {
            self.request.reference.clone().or_latest().familiar()
        };
        let status = match changed {
            true => format!("Status: Downloaded newer image for {shown}"),
            false => format!("Status: Image is up to date for {shown}"),
        };
        show(sink, ProgressLine::status(status))
    }

    /// Pulls one image; `true` if its reference is new or means another image than before.
    fn image(&self, store: &Store, reference: &Reference, found: &Found, sink: Sink) -> Result<bool> {
        let lease = store.lease()?;
        self.layers(store, &lease, found, 0..found.manifest.layers.len(), sink)?;
        failpoint::reach("pull.layers");
        let manifest = Some((found.manifest_type.as_str(), &found.manifest_body[..]));
        let image = images::register(store, &lease, manifest, &found.config_body, None)?;
        failpoint::reach("pull.registered");
        show(sink, ProgressLine::status(format!("Digest: {}", found.target)))?;
        let by_digest = reference.with_digest(&found.target);
        let names = match reference.digest {
            Some(_) => vec![by_digest],
            None => vec![by_digest, reference.clone()],
        };
        let mut changed = false;
        for name in names {
            if images::references::get(store, &name)?.as_ref() != Some(&image.id) {
                images::set_reference(store, &name, &image)?;
                changed = true;
            }
        }
        let labels = image.config.config.labels.as_ref();
        events::image(store, labels, "pull", &reference.familiar(), &reference.familiar_name());
        Ok(changed)
    }

    /// Brings those layers of `part` that are missing. Below the first of them lies nothing.
    fn layers(&self, store: &Store, lease: &Lease, found: &Found, part: Range<usize>, sink: Sink) -> Result<()> {
        let (diff_ids, blobs) = (&found.config.rootfs.diff_ids[part.clone()], &found.manifest.layers[part]);
        let ids: Vec<String> = chain_ids(diff_ids).iter().map(layers::dir_id).collect();
        let mut work = Vec::new();
        let mut states = Vec::new();
        for (at, blob) in blobs.iter().enumerate() {
            let there = layers::exists(store, lease, &ids[at])?;
            let status = if there { "Already exists" } else { "Pulling fs layer" };
            show(sink, lines::layer(blob.digest.short(), status))?;
            if there {
                packed::seen(store, &ids[at], &blob.digest, &self.request.reference.name())?;
            }
            states.push(if there { State::InStore } else { State::Missing });
            if !there {
                let (id, diff_id) = (ids[at].clone(), diff_ids[at].clone());
                work.push(Work { at, id, blob, diff_id, progress: layer::Progress::default() });
            }
        }
        if work.is_empty() {
            return Ok(());
        }
        let workers = self.settings.max_concurrent_downloads.max(1).min(work.len());
        for work in &work[workers..] {
            show(sink, lines::layer(work.blob.digest.short(), "Waiting"))?;
        }
        let queue = Queue {
            work: &work,
            origin: self.request.reference.name(),
            client: &self.client,
            keep: self.settings.keep,
            store,
            lease,
            tmp: lease.tmp()?,
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            let (tell, told) = channel();
            for _ in 0..workers {
                let (tell, queue) = (tell.clone(), &queue);
                scope.spawn(move || queue.serve(&tell));
            }
            drop(tell);
            let mut ready = Ready { store, lease, diff_ids, ids: &ids, layers: states };
            let outcome = ready.gather(&work, &told, sink);
            // Before the threads are waited for: they stop where they stand.
            queue.stopped.store(true, Ordering::Relaxed);
            if outcome.is_err() {
                self.client.cancel();
            }
            outcome
        })
    }
}

/// An image as its registry describes it, for who may need only some of its layers.
pub struct Remote {
    pull: Pull,
    found: Found,
}

impl Remote {
    pub fn find(store: &Store, request: Request, settings: &Settings) -> Result<Remote> {
        let pull = Pull::find(store, request, settings)?;
        let found = pull.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        Ok(Remote { found: found.context("the registry has no image of that name")?, pull })
    }

    pub fn config(&self) -> &ImageConfig {
        &self.found.config
    }

    /// Brings the layers of `part`, as if nothing lay below them, into the store, where the lease keeps them.
    pub fn layers(&self, store: &Store, lease: &Lease, part: Range<usize>, sink: Sink) -> Result<()> {
        self.pull.layers(store, lease, &self.found, part, sink)
    }
}

/// A layer that is missing.
struct Work<'a> {
    /// Its place in the image, from the lowest.
    at: usize,
    id: String,
    blob: &'a Descriptor,
    diff_id: Digest,
    progress: layer::Progress,
}

/// What a worker tells of one piece of work.
enum Told {
    Downloaded(usize),
    /// Somebody else brought it meanwhile.
    Exists(usize),
    /// It is unpacked here.
    Unpacked(usize, PathBuf, Unpacked, Lock),
    Failed(anyhow::Error),
}

/// The work, and what is needed to do it.
struct Queue<'a> {
    work: &'a [Work<'a>],
    /// The repository that is pulled from.
    origin: String,
    client: &'a Client,
    /// What is unpacked is kept as it came, too.
    keep: bool,
    store: &'a Store,
    lease: &'a Lease,
    tmp: PathBuf,
    next: AtomicUsize,
    stopped: AtomicBool,
}

impl Queue<'_> {
    /// Works on what is next until nothing is left or something failed. Layers are begun from the lowest up: so no
    /// two pulls ever wait for each other in a circle.
    fn serve(&self, tell: &Sender<Told>) {
        while !self.stopped.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(work) = self.work.get(number) else { return };
            let told = self.fetch(number, work, tell).unwrap_or_else(Told::Failed);
            // Nobody listens any more when the pull has failed.
            let _ = tell.send(told);
        }
    }

    fn fetch(&self, number: usize, work: &Work, tell: &Sender<Told>) -> Result<Told> {
        let lock = loop {
            if let Some(lock) = layers::claim(self.store, &work.id)? {
                break lock;
            }
            if self.stopped.load(Ordering::Relaxed) {
                bail!("called off");
            }
            std::thread::sleep(TURN);
        };
        if layers::exists(self.store, self.lease, &work.id)? {
            return Ok(Told::Exists(number));
        }
        let staging = self.tmp.join(work.at.to_string());
        std::fs::create_dir(&staging).with_context(|| format!("make {}", staging.display()))?;
        let kept = packed::kept(&staging);
        let keep = Some(&*kept).filter(|_| self.keep);
        let unpacked = layer::fetch(self.client, work.blob, &work.diff_id, &staging, keep, &work.progress, || {
            let _ = tell.send(Told::Downloaded(number));
        })?;
        // Both digests hold: a push may name this blob for the layer.
        packed::came(&staging, work.blob, &self.origin)?;
        Ok(Told::Unpacked(number, staging, unpacked, lock))
    }
}

/// Puts layers into the store in order, as they get ready: a layer is there only with everything below it.
struct Ready<'a> {
    store: &'a Store,
    lease: &'a Lease,
    diff_ids: &'a [Digest],
    ids: &'a [String],
    /// By their place in the image; those of `work` that are not here yet are missing.
    layers: Vec<State>,
}

/// What is known of one layer of the image.
enum State {
    InStore,
    Missing,
    /// The lock keeps others from fetching it too, until it is committed.
    Staged {
        dir: PathBuf,
        unpacked: Unpacked,
        /// On the layers below it.
        settled: bool,
        _lock: Lock,
    },
}

impl Ready<'_> {
    /// Takes what the workers tell until all layers are in the store, and shows it.
    fn gather(&mut self, work: &[Work], told: &Receiver<Told>, sink: Sink) -> Result<()> {
        let mut shown = Shown::new(work);
        let mut committed = Instant::now();
        while self.layers.iter().any(|layer| !matches!(layer, State::InStore)) {
            let mut news = match told.recv_timeout(TICK) {
                Ok(news) => Some(news),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => bail!("the download ended before its time"),
            };
            // All that has come meanwhile: layers that are ready together share one sync.
            while let Some(one) = news {
                match one {
                    Told::Downloaded(number) => shown.downloaded(number, sink)?,
                    Told::Exists(number) => {
                        self.layers[work[number].at] = State::InStore;
                        shown.last(number, "Already exists", sink)?;
                    }
                    Told::Unpacked(number, dir, unpacked, lock) => {
                        shown.extracted(number, sink)?;
                        self.layers[work[number].at] = State::Staged { dir, unpacked, settled: false, _lock: lock };
                    }
                    Told::Failed(error) => return Err(error),
                }
                news = told.try_recv();
            }
            shown.tick(sink)?;
            self.settle()?;
            let more = self.layers.iter().any(|layer| matches!(layer, State::Missing));
            if more && committed.elapsed() < COMMIT {
                continue;
            }
            committed = Instant::now();
            for at in self.commit()? {
                if let Some(number) = work.iter().position(|work| work.at == at) {
                    shown.last(number, "Pull complete", sink)?;
                }
            }
        }
        Ok(())
    }

    /// How many layers, from the lowest, have arrived without a gap.
    fn arrived(&self) -> usize {
        self.layers.iter().position(|layer| matches!(layer, State::Missing)).unwrap_or(self.layers.len())
    }

    /// Where the tree of a layer that has arrived is.
    fn tree(&self, at: usize) -> PathBuf {
        match &self.layers[at] {
            State::Staged { dir, .. } => dir.join("fs"),
            _ => self.store.layer(&self.ids[at]).join("fs"),
        }
    }

    /// Completes every staged layer below which nothing is missing.
    fn settle(&mut self) -> Result<()> {
        for at in 0..self.arrived() {
            if !matches!(self.layers[at], State::Staged { settled: false, .. }) {
                continue;
            }
            let lowers: Vec<PathBuf> = (0..at).rev().map(|below| self.tree(below)).collect();
            if let State::Staged { dir, unpacked, settled, .. } = &mut self.layers[at] {
                settle(unpacked, dir, &lowers).context("complete a layer")?;
                *settled = true;
            }
        }
        Ok(())
    }

    /// Commits every layer that is complete; gives their places.
    fn commit(&mut self) -> Result<Vec<usize>> {
        let end = self.arrived();
        let staged: Vec<_> = self.layers[..end]
            .iter()
            .map(|layer| match layer {
                State::Staged { dir, unpacked, .. } => {
                    Some(layers::Staged { dir: dir.clone(), size: unpacked.size, opaque: unpacked.opaque })
                }
                _ => None,
            })
            .collect();
        let done: Vec<usize> = (0..end).filter(|at| staged[*at].is_some()).collect();
        if !done.is_empty() {
            layers::commit(self.store, self.lease, &self.diff_ids[..end], &staged)?;
            failpoint::reach("pull.committed");
            for at in &done {
                // And with it goes the lock.
                self.layers[*at] = State::InStore;
            }
        }
        Ok(done)
    }
}

/// What has been shown of the layers that move.
struct Shown<'a> {
    work: &'a [Work<'a>],
    stages: Vec<Stage>,
    at: Instant,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// With the last number shown.
    Downloading(u64),
    Extracting(u64),
    Over,
}

impl<'a> Shown<'a> {
    fn new(work: &'a [Work<'a>]) -> Shown<'a> {
        Shown { work, stages: vec![Stage::Downloading(0); work.len()], at: Instant::now() }
    }

    /// Shows what moved, if it is time.
    fn tick(&mut self, sink: Sink) -> Result<()> {
        if self.at.elapsed() < TICK {
            return Ok(());
        }
        self.at = Instant::now();
        for (work, stage) in self.work.iter().zip(&mut self.stages) {
            let (status, shown, now) = match stage {
                Stage::Downloading(shown) => ("Downloading", shown, &work.progress.downloaded),
                Stage::Extracting(shown) => ("Extracting", shown, &work.progress.unpacked),
                Stage::Over => continue,
            };
            let now = now.load(Ordering::Relaxed);
            if now != *shown {
                *shown = now;
                show(sink, lines::moving(work.blob.digest.short(), status, now, work.blob.size))?;
            }
        }
        Ok(())
    }

    fn downloaded(&mut self, number: usize, sink: Sink) -> Result<()> {
        let blob = self.work[number].blob;
        let id = blob.digest.short();
        self.stages[number] = Stage::Extracting(0);
        show(sink, lines::moving(id, "Downloading", blob.size, blob.size))?;
        show(sink, lines::layer(id, "Verifying Checksum"))?;
        show(sink, lines::layer(id, "Download complete"))
    }

    fn extracted(&mut self, number: usize, sink: Sink) -> Result<()> {
        let blob = self.work[number].blob;
        self.stages[number] = Stage::Over;
        show(sink, lines::moving(blob.digest.short(), "Extracting", blob.size, blob.size))
    }

    fn last(&mut self, number: usize, status: &str, sink: Sink) -> Result<()> {
        self.stages[number] = Stage::Over;
        show(sink, lines::layer(self.work[number].blob.digest.short(), status))
    }
}

fn show(sink: Sink, line: ProgressLine) -> Result<()> {
    sink(line).context("show progress")
}

/// The answer of `POST /images/create`: Docker's lines. What goes wrong before the first of them is an error here,
/// with its status; what goes wrong later is the last line.
pub fn stream(store: &Store, request: Request, settings: &Settings) -> Result<Producer> {
    let pull = Pull::find(store, request, settings)?;
    let store = store.clone();
    Ok(Box::new(move |out: &mut dyn Write| lines::stream(out, || pull.client.cancel(), |sink| pull.run(&store, sink))))
}
