//! The store on disk: what exists is under `root`, what lives is under `run` (and in the kernel).
//!
//! ```text
//! root/  version  blobs/sha256/<hex>  images/  refs/  layers/<id>/  containers/<id>/  names/  volumes/<name>/
//!        networks/<id>.json  leases/  next/  tmp/   (one file system: what is made in tmp/ is renamed into place)
//! run/   boot  gc  containers/<id>/{lock, sock, config.json, network.json}  networks/<id>/<address>  events
//! ```
//!
//! A write is: temporary file, fsync, rename, fsync of the directory. What was acknowledged survives a power cut;
//! what was not leaves garbage in tmp/ only, which the next command clears.

use super::locks::{self, Existing, Lock};
use crate::api::Refusal;
pub use crate::fs::remove::tree as remove;
use crate::oci::hex;
use crate::sys;
use anyhow::{Context, Result, bail};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The version of the store's layout that this program writes.
pub const VERSION: u32 = 1;

/// Where one store lives. Cheap to clone; holds no state of the store itself.
#[derive(Clone, Debug)]
pub struct Store {
    pub root: PathBuf,
    pub run: PathBuf,
}

/// What a verb uses while it works: a locked file in leases/, and a directory in tmp/ of the same name, which goes when
/// this is dropped. When its process is killed the lock is free, and the next command clears the directory.
pub struct Lease {
    name: String,
    store: Store,
    lock: Lock,
}

/// So many files of leases that are over are kept for the next: to make and remove one costs more than all the rest.
const SPARE: usize = 2;

impl Store {
    /// Opens the store, makes it where there is none, and clears what killed commands left.
    pub fn open(root: &Path, run: &Path) -> Result<Store> {
        let store = Store { root: root.to_owned(), run: run.to_owned() };
        match fs::read_to_string(store.root.join("version")) {
            Ok(text) => {
                store.check_version(&text)?;
                store.check_owner()?;
                store.close()?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => store.create()?,
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", store.root.join("version").display()));
            }
        }
        store.enter_boot()?;
        Ok(store)
    }

    /// Whether it has been made, and is of this version and owner.
    pub fn is_there(&self) -> bool {
        let version = fs::read_to_string(self.root.join("version"));
        version.is_ok_and(|text| self.check_version(&text).and_then(|()| self.check_owner()).is_ok())
    }

    fn check_version(&self, text: &str) -> Result<()> {
        match text.trim().parse::<u32>() {
            Ok(VERSION) => Ok(()),
            Ok(other) => bail!(
                "the store {} has version {other}; this dhow knows version {VERSION} and leaves it alone",
                self.root.display()
            ),
            Err(_) => bail!("{} is not a number", self.root.join("version").display()),
        }
    }

    /// A user's store is never shared with root's: its layers are marked otherwise, and its owner would decide what
    /// root runs.
    fn check_owner(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let path = self.root.join("version");
        let owner = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.uid();
        if owner != nix::unistd::geteuid().as_raw() {
            bail!("the store {} belongs to another user", self.root.display());
        }
        Ok(())
    }

    fn create(&self) -> Result<()> {
        for dir in ["blobs/sha256", "images", "refs", "layers", "containers", "names", "volumes", "leases", "tmp"] {
            make_dirs(&self.root.join(dir), 0o700)?;
        }
        self.close()?;
        write_file(&self.root.join("version"), format!("{VERSION}\n").as_bytes(), true)
    }

    /// Lets nobody else in, who would find there what root of a container has made: programs that run as root, too
    /// (CVE-2021-41091). Earlier builds left the store to be passed by whoever knew its names.
    fn close(&self) -> Result<()> {
        let meta = fs::metadata(&self.root).with_context(|| format!("look at {}", self.root.display()))?;
        if meta.permissions().mode() & 0o077 == 0 {
            return Ok(());
        }
        match fs::set_permissions(&self.root, PermissionsExt::from_mode(0o700)) {
            // It can be looked at.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => other.with_context(|| format!("chmod {}", self.root.display())),
        }
    }

    /// Makes the run directory; one that another boot left is rubbish and goes.
    fn enter_boot(&self) -> Result<()> {
        let boot = boot_id()?;
        let path = self.run.join("boot");
        let known = || fs::read_to_string(&path).is_ok_and(|text| text.trim() == boot);
        if known() {
            return Ok(());
        }
        make_dirs(&self.run, 0o711)?;
        let _lock = locks::exclusive(&self.run.join("boot.lock"), 0)?;
        if known() {
            return Ok(());
        }
        for entry in read_dir(&self.run)? {
            // What keeps a user's namespaces is held by whoever is here.
            if matches!(entry.as_str(), "boot.lock" | "namespaces") {
                continue;
            }
            remove(&self.run.join(entry)).context("clear what another boot left")?;
        }
        // A power cut may have taken a part of it.
        remove(&self.ahead()).context("clear what another boot left")?;
        super::layers::sweep(self)?;
        make_dirs(&self.run.join("containers"), 0o711)?;
        make_dirs(&self.run.join("names"), 0o700)?;
        write_file(&path, format!("{boot}\n").as_bytes(), false)
    }

    pub fn blob(&self, hex: &str) -> PathBuf {
        self.root.join("blobs/sha256").join(hex)
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }

    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub fn layer(&self, id: &str) -> PathBuf {
        self.root.join("layers").join(id)
    }

    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// A container's directory on disk: upper, work, log, hosts, hostname, resolv.conf, and its record unless `--rm`.
    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// Where the directory of the next container may stand, made ahead: upper and work, empty and never used. One that was
    /// used is never used again, since an overlay over it may still be mounted somewhere.
    fn ahead(&self) -> PathBuf {
        self.root.join("next")
    }

    /// A container's directory of this boot: lock, sock, config.json, execs/, and the record of a `--rm` container.
    pub fn live(&self, id: &str) -> PathBuf {
        self.run.join("containers").join(id)
    }

    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Held shared for microseconds by who adds a reference, exclusive by who removes one and re-reads them all.
    pub fn gc_shared(&self) -> Result<Lock> {
        locks::shared(&self.run.join("gc"), 0)
    }

    /// See [`Store::gc_shared`].
    pub fn gc_exclusive(&self) -> Result<Lock> {
        locks::exclusive(&self.run.join("gc"), 0)
    }

    /// Opens a lease. Call [`Lease::uses`] for each thing that must not be collected meanwhile.
    pub fn lease(&self) -> Result<Lease> {
        if let Some(lease) = self.sweep().map_err(|error| self.writable(error))? {
            return Ok(lease);
        }
        loop {
            let name = random_name()?;
            let lock =
                locks::exclusive(&self.root.join("leases").join(&name), 0).map_err(|error| self.writable(error))?;
            // A sweep between the making and the locking took the file away: then the lock protects nothing.
            if is_linked(&look(lock.file())?) {
                return Ok(Lease { name, store: self.clone(), lock });
            }
        }
    }

    /// Everything that live leases name, as the words given to [`Lease::uses`]. Call it with gc held exclusively.
    pub fn leased(&self) -> Result<Vec<String>> {
        let mut used = Vec::new();
        for name in read_dir(&self.root.join("leases"))? {
            let path = self.root.join("leases").join(&name);
            if locks::Held::of(&path)?.shim {
                let text = fs::read_to_string(&path).unwrap_or_default();
                used.extend(text.lines().map(str::to_owned));
            }
        }
        Ok(used)
    }

    /// Clears what killed commands left: tmp/ entries, leases whose lock is free, and the volumes without a name that such
    /// a lease made for nobody; gives one of those leases, taken. Costs two directory reads where there is nothing to do.
    fn sweep(&self) -> Result<Option<Lease>> {
        let leases = self.root.join("leases");
        for name in read_dir(&self.root.join("tmp"))? {
            // The lease is locked before its tmp/ entry is made, and stays so as long as the entry is used.
            let lock = locks::existing(&leases.join(&name), 0)?;
            if !matches!(lock, Existing::Held) {
                remove(&self.root.join("tmp").join(&name))?;
            }
        }
        let (mut spare, mut count) = (None, 0);
        for name in read_dir(&leases)? {
            let path = leases.join(&name);
            // Taken, not asked: its owner has made the file but may not have locked it yet.
            let Existing::Taken(lock) = locks::existing(&path, 0)? else { continue };
            let found = look(lock.file())?;
            if !is_linked(&found) {
                continue;
            }
            // A lease that came to its end is empty.
            if found.len() > 0 {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let mut made = text.lines().filter_map(|line| line.strip_prefix(super::volumes::MADE));
                made.try_for_each(|volume| super::volumes::abandoned(self, volume))?;
                lock.file().set_len(0).with_context(|| format!("clear lease {name}"))?;
            }
            count += 1;
            if count > SPARE {
                let _ = fs::remove_file(&path);
            } else if spare.is_none() {
                // Its last owner may have been killed since we looked there.
                remove(&self.root.join("tmp").join(&name))?;
                spare = Some(Lease { name, store: self.clone(), lock });
            }
        }
        Ok(spare)
    }

    /// Says of an error that comes of it that the store is read-only.
    pub fn read_only(&self, error: anyhow::Error) -> anyhow::Error {
        let is_read_only =
            error.downcast_ref::<std::io::Error>().map(|e| e.kind()) == Some(ErrorKind::ReadOnlyFilesystem);
        match is_read_only && self.is_read_only() && !format!("{error:#}").starts_with("the store ") {
            true => error.context(format!("the store {} is read-only", self.root.display())),
            false => error,
        }
    }

    pub fn is_read_only(&self) -> bool {
        use nix::sys::statvfs::{FsFlags, statvfs};
        statvfs(&self.root).is_ok_and(|about| about.flags().contains(FsFlags::ST_RDONLY))
    }

    /// Bytes that are free where it lies.
    pub fn free(&self) -> Result<u64> {
        let about =
            nix::sys::statvfs::statvfs(&self.root).with_context(|| format!("look at {}", self.root.display()))?;
        Ok(about.blocks_free().saturating_mul(about.fragment_size()))
    }

    /// Names the usual reason where the store cannot be written.
    fn writable(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref::<std::io::Error>().map(|e| e.kind()) {
            Some(ErrorKind::ReadOnlyFilesystem) => {
                error.context(format!("the store {} is read-only", self.root.display()))
            }
            Some(ErrorKind::PermissionDenied) => {
                error.context(format!("the store {} belongs to another user", self.root.display()))
            }
            _ => error,
        }
    }
}

impl Lease {
    /// Names something in use, `layer:<id>`, `image:<hex>` or `blob:<hex>`. Call it with gc held shared, and look
    /// after that whether the thing still exists.
    pub fn uses(&self, what: &str) -> Result<()> {
        let mut file = self.lock.file();
        file.write_all(format!("{what}\n").as_bytes()).with_context(|| format!("write lease {}", self.name))
    }

    /// Where a tree is moved to be deleted: this lease's place in tmp/, which must not have been made by [`Lease::tmp`].
    pub fn grave(&self) -> PathBuf {
        self.store.root.join("tmp").join(&self.name)
    }

    /// This lease's own directory in tmp/, on the store's file system.
    pub fn tmp(&self) -> Result<PathBuf> {
        let path = self.grave();
        match fs::DirBuilder::new().mode(0o711).create(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(path),
            Err(error) => {
                Err(self.store.writable(anyhow::Error::new(error).context(format!("make {}", path.display()))))
            }
        }
    }

    /// This lease's own directory in tmp/, as that of a container, with an upper and a work directory, and an empty log.
    pub fn container(&self) -> Result<PathBuf> {
        let path = self.grave();
        if fs::rename(self.store.ahead(), &path).is_err() {
            self.make_container()?;
        }
        Ok(path)
    }

    fn make_container(&self) -> Result<()> {
        let tmp = self.tmp()?;
        for (dir, mode) in [("upper", 0o755), ("work", 0o700)] {
            let path = tmp.join(dir);
            make_dir(&path, mode).with_context(|| format!("make {}", path.display()))?;
        }
        let path = tmp.join("log");
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)
            .map(drop)
            .with_context(|| format!("make {}", path.display()))
    }

    /// Makes the next container's directory ahead, where that is not done already. This lease must have no directory.
    pub fn prepare(self) -> Result<()> {
        let ahead = self.store.ahead();
        if !ahead.exists() {
            self.make_container()?;
            crate::failpoint::reach("bury.made");
            // Another may have been quicker; what is ours goes with the lease then.
            let _ = fs::rename(self.grave(), &ahead);
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What cannot be removed now is cleared by the next sweep.
        let _ = remove(&self.store.root.join("tmp").join(&self.name));
        // Whoever takes the file next has it locked a moment before it is empty: nothing is to look in use by that.
        let _ = self.lock.file().set_len(0);
    }
}

fn look(lease: &File) -> Result<fs::Metadata> {
    lease.metadata().context("look at a lease")
}

/// Whether an open file still has a name.
fn is_linked(file: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(file) > 0
}

/// Writes a file whole or not at all: temporary, rename, and (`durable`) fsync of the file before and of the
/// directory after. The temporary file stands beside it with a name that starts with a dot.
pub fn write_file(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let dir = path.parent().context("a file to write has no directory")?;
    let name = path.file_name().context("a file to write has no name")?.to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}", random_name()?));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durable {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        anyhow::Error::new(error).context(format!("write {}", path.display()))
    })
}

/// Whether an error says that the disk, or a quota, is full.
pub fn is_full(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// The names in a directory; a missing one is empty. Names that start with a dot are unfinished writes and left out.
pub fn read_dir(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", path.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", path.display()))?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Writes out the file system that holds `path`: what a pull does once, before its reference is written.
pub fn syncfs(path: &Path) -> Result<()> {
    let dir = File::open(path).with_context(|| format!("open {}", path.display()))?;
    sys::file::syncfs(dir.as_fd()).with_context(|| format!("sync the file system of {}", path.display()))
}

/// The kernel's name for this boot.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).with_context(|| format!("read {path}"))?.trim().to_owned())
}

/// Makes one directory, whose mode the process's umask does not narrow.
pub fn make_dir(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Makes a directory and its parents; `mode` is that of the ones it makes.
pub fn make_dirs(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => anyhow::Error::new(Refusal::Forbidden(format!(
            "make {}: permission denied (dhow needs root to use this store)",
            path.display()
        ))),
        _ => anyhow::Error::new(error).context(format!("make {}", path.display())),
    })
}

/// 16 hex digits from the kernel.
pub fn random_name() -> Result<String> {
    Ok(hex(&random_bytes::<8>()?))
}

/// Random bytes from the kernel.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    sys::process::random(&mut bytes).context("ask for random bytes")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_container_begins_with_what_was_made_ahead_once() {
        let dir = std::env::temp_dir().join(format!("dhow-store-{}", random_name().unwrap()));
        let open = || Store::open(&dir.join("root"), &dir.join("run")).unwrap();
        let store = open();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        store.lease().unwrap().prepare().unwrap();
        let ahead = inode(&store.ahead());
        let lease = store.lease().unwrap();
        let (second, third) = (lease.container().unwrap(), store.lease().unwrap());
        assert_eq!(inode(&second), ahead);
        assert_ne!(inode(&third.container().unwrap()), ahead);
        for (name, mode) in [("", 0o711), ("upper", 0o755), ("work", 0o700)] {
            assert_eq!(fs::metadata(second.join(name)).unwrap().permissions().mode() & 0o7777, mode, "{name}");
        }

        // Another boot trusts nothing that was not written out.
        store.lease().unwrap().prepare().unwrap();
        fs::write(store.run.join("boot"), "another").unwrap();
        assert!(!open().ahead().exists());
        drop((lease, third));
        fs::remove_dir_all(&dir).unwrap();
    }
}
