//! A container's record: one file that says what it is and how it last ended. Whether it lives is asked of its locks.

mod file;

use super::locks::{self, Held, byte};
use super::store::{self, Store};
use crate::api::Refusal;
use crate::api::types::{ContainerConfig, EndpointSettings, HostConfig, MountPoint, NEVER};
use crate::json;
use crate::json::fields::fields;
use crate::oci::runtime::Ids;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The version of record that this program writes; a newer one is refused by name.
pub const VERSION: u32 = file::VERSION;

fields! {
    /// What create settled. Written at create, at start and at the end, and by rename and update.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Record {
        /// That of its file, which it keeps: its shim may be of the build that made it.
        pub version: u32,
        /// 64 hex digits.
        pub id: String,
        /// Without a leading slash.
        pub name: String,
        /// RFC 3339, nanoseconds.
        pub created: String,
        /// The executable and its arguments: entrypoint and command joined.
        pub path: String,
        pub args: Vec<String>,
        /// `sha256:…` of the image's config.
        pub image: String,
        /// Platform of the image, `linux` or `linux/arm64/v8`.
        pub platform: String,
        /// Directories under layers/, top first.
        pub layers: Vec<String>,
        /// The store's file system could hold no overlay: the layers were copied into the writable one.
        pub copied: bool,
        /// What was asked for, with what the image adds.
        pub config: ContainerConfig,
        pub host_config: HostConfig,
        pub networks: Map<String, EndpointSettings>,
        /// The map of its user namespace, if it has one of its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ids: Option<Ids>,
        /// Its SELinux labels, of its processes and of its files.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub process_label: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mount_label: String,
        pub mounts: Vec<Mounted>,
        #[serde(skip_serializing_if = "Publishing::is_usual")]
        pub publishing: Publishing,
        /// Where files that describe its devices are looked for, as the settings said when it was made.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub cdi_dirs: Vec<PathBuf>,
        /// Not with the rest where the file has places for it.
        #[serde(skip_serializing_if = "Ended::is_none")]
        pub ended: Ended,
        /// A step of a build: as long as that has it in its lease, it takes what was written, and removes it itself.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub step: bool,
    }

    /// How its ports are published, as the settings said when it was made: its shim reads none.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Publishing {
        /// Where a port is open that names no address; on all of them where nothing is said.
        pub host: Option<IpAddr>,
        /// Firewalls of others are opened for it.
        pub cooperates: bool,
        /// No rules for it: a program passes on what comes to its ports.
        pub forwarder: bool,
        /// Forwarding is left as it is, and what no rule leads to it is not served.
        pub leaves_forwarding: bool,
        /// Where forwarding is turned on, it is for others, too.
        pub passes_others: bool,
        pub without_proxy: bool,
        /// What `host-gateway` stands for.
        pub host_gateways: Vec<IpAddr>,
    }
}

impl Publishing {
    fn is_usual(&self) -> bool {
        *self == Publishing::default()
    }
}

fields! {
    /// A mount as create settled it: what inspect shows, and what it does not.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Mounted {
        pub point: MountPoint,
        /// Of a bind: nobody asked for its propagation, it comes of what lies in the source.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub propagation_implied: bool,
        /// Of a volume: the part of it that is mounted.
        pub subpath: String,
        /// Of a bind: what is mounted below the source stays outside.
        pub non_recursive: bool,
        /// Of a read-only bind: what is mounted below stays writable.
        pub read_only_non_recursive: bool,
        /// Of a tmpfs: its mount options, comma-separated.
        pub options: String,
        /// The volume was made for this container, and `rm -v` and `--rm` remove it.
        pub anonymous: bool,
        /// The image's content is not copied into a new volume.
        pub no_copy: bool,
        /// Of an image: its id, and directories under layers/, top first.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub image: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub layers: Vec<String>,
    }

    /// How it was last started and how that ended.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Ended {
        /// RFC 3339, or [`NEVER`].
        pub started_at: String,
        pub finished_at: String,
        /// The boot in which it was started.
        pub boot: String,
        pub exit_code: i32,
        /// Why it did not start.
        pub error: String,
        pub oom_killed: bool,
        pub restart_count: i64,
        /// Restarts that bad health brought, which count for themselves.
        pub unhealthy_count: i64,
        /// By stop or kill: a restart policy leaves it alone.
        pub stopped_by_hand: bool,
        /// It is to be started again: its shim waits for the moment. Without a shim, whoever looks after the store does it.
        pub due: bool,
    }
}

impl Default for Ended {
    fn default() -> Ended {
        Ended {
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
            boot: String::new(),
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            restart_count: 0,
            unhealthy_count: 0,
            stopped_by_hand: false,
            due: false,
        }
    }
}

impl Ended {
    fn is_none(&self) -> bool {
        *self == Ended::default()
    }

    /// Whether it ran at all.
    pub fn ever_started(&self) -> bool {
        self.started_at != NEVER
    }

    /// Started, and no end is on record: it runs, or whoever should have written the end was killed.
    pub fn open(&self) -> bool {
        !self.boot.is_empty()
    }
}

fields! {
    /// What lives of a container, in the run directory: written by its shim, gone with the boot.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Live {
        /// Of init, as the host sees it. It is init's as long as the lock's INIT byte is held.
        pub pid: i32,
        pub shim: i32,
        /// The cgroup of the container's processes, below the cgroup2 mount; empty where there is none.
        pub cgroup: String,
        /// It has ended, and hooks are run for that.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub ending: bool,
    }
}

/// Where a container's record lies: with `--rm` it need not outlive the boot, and costs no fsync.
fn path(store: &Store, id: &str, auto_remove: bool) -> PathBuf {
    let dir = if auto_remove { store.live(id) } else { store.container(id) };
    dir.join("record.json")
}

/// Where a record may lie, and first where the last one did: a command is about one container.
fn places(store: &Store, id: &str) -> [PathBuf; 2] {
    let first = AUTO_REMOVE.load(Ordering::Relaxed);
    [first, !first].map(|auto_remove| path(store, id, auto_remove))
}

/// Whether the last record that was read or written lies where those with `--rm` do.
static AUTO_REMOVE: AtomicBool = AtomicBool::new(false);

/// The record that was last read or written, with the bytes that it is in the file, but for how it ended. A command reads the
/// one that it is about again and again, and so do a daemon's threads, one for each request of a client; to compare bytes is
/// quicker than to parse them. Nobody waits for it.
static LAST: Mutex<Option<(Vec<u8>, Record)>> = Mutex::new(None);

fn known(rest: &[u8]) -> Option<Record> {
    let last = LAST.try_lock().ok()?;
    last.as_ref().filter(|(text, _)| text == rest).map(|(_, record)| record.clone())
}

fn remember(rest: Vec<u8>, record: Record) {
    AUTO_REMOVE.store(record.host_config.auto_remove, Ordering::Relaxed);
    if let Ok(mut last) = LAST.try_lock() {
        *last = Some((rest, record));
    }
}

/// Reads a record's file; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Reads it, and again where it was being written, and takes from it what the caller wants: it is given the record's JSON,
/// and how the container ended where that does not stand there.
fn parse<T>(path: &Path, take: impl Fn(&[u8], Option<Ended>) -> Result<T>) -> Result<Option<T>> {
    for _ in 0..100 {
        let Some(bytes) = read(path)? else { return Ok(None) };
        let context = || format!("read {}", path.display());
        if !file::has_places(&bytes) {
            return take(&bytes, None).with_context(context).map(Some);
        }
        if let Some(parts) = file::decode(&bytes).with_context(context)? {
            return take(parts.rest, Some(parts.ended)).with_context(context).map(Some);
        }
        // Who writes it may have been interrupted there.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    bail!("read {}: how the container ended is damaged", path.display())
}

impl Record {
    pub fn path(&self, store: &Store) -> PathBuf {
        path(store, &self.id, self.host_config.auto_remove)
    }

    /// Reads a container's record; `None` where there is none.
    pub fn load(store: &Store, id: &str) -> Result<Option<Record>> {
        for path in places(store, id) {
            let take = |rest: &[u8], ended: Option<Ended>| {
                let mut record = match known(rest) {
                    Some(record) => record,
                    None => {
                        let record: Record = json::from_slice(rest)?;
                        remember(rest.to_vec(), record.clone());
                        record
                    }
                };
                if let Some(ended) = ended {
                    record.ended = ended;
                }
                Ok(record)
            };
            let Some(record) = parse(&path, take)? else { continue };
            if record.version > VERSION {
                bail!("{} was written by a newer dhow (version {})", path.display(), record.version);
            }
            return Ok(Some(record));
        }
        Ok(None)
    }

    /// Whether there is one, readable or not.
    pub fn exists(store: &Store, id: &str) -> bool {
        places(store, id).iter().any(|path| path.exists())
    }

    /// How it was last started and how that ended, all of the record that is needed by most who look, and much less to read
    /// than the rest; nothing where it is not there.
    pub fn end(store: &Store, id: &str) -> Result<Option<Ended>> {
        fields! {
            #[derive(Default)]
            struct Brief {
                ended: Ended,
            }
        }
        for path in places(store, id) {
            let take = |rest: &[u8], ended: Option<Ended>| match ended {
                Some(ended) => Ok(ended),
                None => Ok(json::from_slice::<Brief>(rest)?.ended),
            };
            if let Some(ended) = parse(&path, take)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// The bytes of its whole file.
    fn encode(&self) -> Result<Vec<u8>> {
        let places = self.version >= file::VERSION;
        let mut rest = self.clone();
        if places {
            rest.ended = Ended::default();
        }
        let bytes = serde_json::to_vec(&rest).context("encode a container's record")?;
        let whole = if places { file::encode(&bytes, &self.ended)? } else { bytes.clone() };
        remember(bytes, rest);
        Ok(whole)
    }

    /// Writes the record, durably unless it lives in the run directory.
    pub fn save(&self, store: &Store) -> Result<()> {
        store::write_file(&self.path(store), &self.encode()?, !self.host_config.auto_remove)
    }

    /// Writes how it ended in its place; `false` where the file has none that it fits into.
    fn save_end(&self, store: &Store) -> Result<bool> {
        let path = self.path(store);
        let Some(bytes) = read(&path)?.filter(|bytes| file::has_places(bytes)) else { return Ok(false) };
        let Some(parts) = file::decode(&bytes)? else { return Ok(false) };
        file::overwrite(&path, &parts, &self.ended, !self.host_config.auto_remove)
            .with_context(|| format!("write {}", path.display()))
    }

    /// Writes it to a new file that will be the record's, and brings its content to the disk; its name comes there with
    /// the directory that is being made.
    pub fn save_new(&self, path: &Path) -> Result<()> {
        let bytes = self.encode()?;
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Reads, changes and writes a record under its lock; nothing is written where nothing changed.
    pub fn update(store: &Store, id: &str, change: impl FnOnce(&mut Record) -> Result<()>) -> Result<Record> {
        store::make_dirs(&store.live(id), 0o711)?;
        let _lock = locks::exclusive(&store.live(id).join("lock"), byte::RECORD)?;
        let mut record =
            Record::load(store, id)?.ok_or_else(|| Refusal::NotFound(format!("No such container: {id}")))?;
        let before = record.clone();
        change(&mut record)?;
        if record == before {
            return Ok(record);
        }
        let only_its_end = record == Record { ended: record.ended.clone(), ..before };
        if !only_its_end || !record.save_end(store)? {
            record.save(store)?;
        }
        Ok(record)
    }

    /// Directories of the layers, top first.
    pub fn lower_dirs(&self, store: &Store) -> Vec<PathBuf> {
        self.layers.iter().map(|id| store.layer(id).join("fs")).collect()
    }

    /// The entrypoint and its arguments.
    pub fn argv(&self) -> Vec<String> {
        std::iter::once(self.path.clone()).chain(self.args.iter().cloned()).collect()
    }

    /// Where its hosts, hostname and resolv.conf lie: they are written at every start, so those of a `--rm` container
    /// need not be on disk.
    pub fn etc_dir(&self, store: &Store) -> PathBuf {
        // With a map they lie where layers do: before 6.3 a tmpfs takes none.
        let on_disk = !self.host_config.auto_remove || self.ids.is_some();
        if on_disk { store.container(&self.id) } else { store.live(&self.id) }
    }

    pub fn log_path(&self, store: &Store) -> PathBuf {
        store.container(&self.id).join(format!("{}-json.log", self.id))
    }
}

/// The ids of all containers: those with a directory in the store.
pub fn ids(store: &Store) -> Result<Vec<String>> {
    store::read_dir(&store.containers())
}

impl Live {
    pub fn load(store: &Store, id: &str) -> Result<Live> {
        let path = store.live(id).join("live.json");
        match std::fs::read(&path) {
            Ok(text) => json::from_slice(&text).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Live::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    pub fn save(&self, store: &Store, id: &str) -> Result<()> {
        let bytes = serde_json::to_vec(self).context("encode what lives of a container")?;
        store::write_file(&store.live(id).join("live.json"), &bytes, false)
    }
}

/// Who holds the locks of a container.
pub fn held(store: &Store, id: &str) -> Result<Held> {
    Held::of(&store.live(id).join("lock"))
}
