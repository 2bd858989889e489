//! `RUN --mount`: what a command finds while it runs, and what does not become a part of the image.

use super::agent::Forwarded;
use super::builder::Builder;
use super::cache::{self, Key};
use super::caches;
use super::dockerfile::mount::{Mount, MountKind, Sharing};
use super::ignore::Ignore;
use super::metadata;
use super::report;
use super::state::{State, chain_key};
use super::transfer::digest::{self, Known};
use super::transfer::gather::{Item, Tree, Wish, gather};
use super::transfer::place::Place;
use crate::api::Refusal;
use crate::api::types::{ImageOptions, Mount as ContainerMount, TmpfsOptions};
use crate::engine::locks::Lock;
use crate::engine::store::{self, Store};
use crate::fs::path;
use crate::oci::Digest;
use crate::order;
use crate::order::Map;
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::poll::{PollFd, poll};
use nix::sys::stat::fstatat;
use nix::unistd::{Gid, Uid, UnlinkatFlags, unlinkat};
use std::collections::hash_map::Entry;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// What a command is given, and what is to be held and cleared while it has it.
#[derive(Default)]
pub struct Given {
    pub mounts: Vec<ContainerMount>,
    /// The layers of stages and images that some of them show, by their chain ids.
    pub trees: Map<String, Vec<String>>,
    /// Variables that neither the key nor the history knows of.
    pub env: Vec<(String, String)>,
    /// Caches, by their names and those that they have among several of that name, and what keeps others from them.
    caches: Vec<(String, String)>,
    locks: Vec<Lock>,
    /// Files with secrets.
    secrets: Vec<PathBuf>,
    agents: Vec<Forwarded>,
}

impl Given {
    /// Takes the names of what is secret away. The command has it mounted by then: nothing of it stays, whoever is
    /// killed from now on.
    pub fn hide(&self) {
        for path in self.secrets.iter().chain(self.agents.iter().map(|agent| &agent.path)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.hide();
        self.locks.clear();
    }
}

/// Where secrets and the sockets of agents lie until a command has them.
pub fn secrets_of(store: &Store) -> PathBuf {
    store.run.join("secrets")
}

/// The word of one of them in the lease of its build.
pub fn lent(name: &str) -> String {
    format!("secret:{name}")
}

/// Where secrets are, unless it is said.
const SECRETS: &str = "/run/secrets";
/// The same of agents, with a number.
const AGENTS: &str = "/run/buildkit/ssh_agent";

impl Builder<'_> {
    /// What the key of a command says of its mounts. What is in caches, secrets and empty file systems is no part of it.
    pub fn mounts_key(&mut self, state: &State, stage: usize, mounts: &[Mount], key: &mut Key) -> Result<()> {
        for mount in mounts {
            key.field(mount.kind.name()).field(target(state, mount)).field([u8::from(mount.read_only)]);
            match mount.kind {
                MountKind::Bind => {
                    let (content, count) = self.content(stage, mount)?;
                    key.field(content.to_string()).field(count.to_le_bytes());
                }
                _ => {
                    let looks = (mount.mode, mount.uid, mount.gid, mount.size, mount.required, mount.sharing);
                    key.field(&mount.id).field(&mount.source).field(&mount.from);
                    key.field(format!("{looks:?} {:?}", mount.env));
                }
            }
        }
        Ok(())
    }

    /// The stage or image that a mount is taken from, if it is one.
    fn mount_source(&mut self, stage: usize, mount: &Mount) -> Result<Option<Arc<State>>> {
        match self.here(&mount.from) {
            Some(_) => Ok(None),
            None => self.source(&mount.from, stage).map(Some),
        }
    }

    fn mount_tree(&mut self, from: &State) -> Result<Tree> {
        self.tree(from, "the stage or image that the mount is from")
    }

    /// What a bind shows, as one digest, and how many entries that are. What a stage has never changes: it is asked once.
    fn content(&mut self, stage: usize, mount: &Mount) -> Result<(Digest, u64)> {
        let from = self.mount_source(stage, mount)?;
        let Some(from) = from else {
            return self.bound(None, mount).map(|(items, content)| (content, items.len() as u64));
        };
        let mut question = Key::new("what is bound");
        let question = question.field(chain_key(&from)).field(&mount.source).end();
        if let Some(answer) = cache::find(&self.engine.store, self.lease, &question, &[])?.and_then(|it| it.answer) {
            return Ok((answer, 0));
        }
        let tree = self.mount_tree(&from)?;
        let (items, content) = self.bound(Some(&tree), mount)?;
        let mut answer = Key::new("bound");
        answer.field(content.to_string()).field((items.len() as u64).to_le_bytes());
        let answer = Digest::parse(&format!("sha256:{}", answer.end()))?;
        cache::answer(&self.engine.store, &question, answer.clone(), &mount.source)?;
        Ok((answer, 0))
    }

    fn bound(&self, tree: Option<&Tree>, mount: &Mount) -> Result<(Vec<Item>, Digest)> {
        let from = tree.or(self.here(&mount.from)).unwrap_or(&self.context.tree);
        let nothing = Ignore::default();
        let mut items = Vec::new();
        gather(from, &mount.source, &Wish { parents: false, exclude: &nothing }, &mut items)?;
        // A directory is there itself, and not only what is in it.
        items.iter_mut().for_each(|item| item.top = false);
        let content = match tree {
            None => digest::of(from, &items, &mut self.shared.known.lock().unwrap_or_else(PoisonError::into_inner))?,
            Some(_) => digest::of(from, &items, &mut Known::load(None))?,
        };
        Ok((items, content))
    }

    /// Makes all that a command is given. What is told of it is `command`.
    pub fn give(&mut self, state: &State, stage: usize, mounts: &[Mount], command: &str) -> Result<Given> {
        let mut given = Given::default();
        // Caches in one order for all commands: nobody waits in a circle.
        let name = |mount: &Mount| match mount.kind {
            MountKind::Cache => cache_name(mount, &target(state, mount)),
            _ => String::new(),
        };
        let mut mounts: Vec<&Mount> = mounts.iter().collect();
        order::by_key(&mut mounts, |mount| name(mount));
        for mount in mounts {
            let at = target(state, mount);
            if at == "/" && !matches!(mount.kind, MountKind::Secret | MountKind::Ssh) {
                bail!(Refusal::BadParameter("invalid mount target \"/\"".to_owned()));
            }
            match mount.kind {
                MountKind::Tmpfs => given.mounts.push(tmpfs(mount, at)),
                MountKind::Bind => self.bind(stage, mount, at, &mut given)?,
                MountKind::Cache => {
                    let source = self.cache_dir(stage, mount, &at, command, &mut given)?;
                    given.mounts.push(bind(&source, at, mount.read_only));
                }
                MountKind::Secret => self.secret(mount, state, &mut given)?,
                MountKind::Ssh => self.agent(mount, state, &mut given)?,
            }
        }
        Ok(given)
    }

    /// What a stage or an image has is shown where it lies; else it is a copy, so that nothing that is written there comes
    /// back. To read, one does for all commands.
    fn bind(&mut self, stage: usize, mount: &Mount, at: String, given: &mut Given) -> Result<()> {
        let from = self.mount_source(stage, mount)?;
        if let Some(from) = from.as_ref().filter(|_| mount.read_only)
            && let Some(subpath) = self.place_in(from, &mount.source)?
        {
            let name = chain_key(from);
            given.trees.insert(name.clone(), from.layer_ids());
            given.mounts.push(ContainerMount {
                r#type: "image".to_owned(),
                source: name,
                target: at,
                image_options: Some(ImageOptions { subpath }),
                ..ContainerMount::default()
            });
            return Ok(());
        }
        let shared = self.shared;
        let source = if mount.read_only {
            let mut bound = shared.bound.lock().unwrap_or_else(PoisonError::into_inner);
            match bound.entry(format!("{:?} {:?} {}", from.as_deref().map(chain_key), mount.from, mount.source)) {
                Entry::Occupied(made) => made.get().clone(),
                Entry::Vacant(place) => place.insert(self.copied(from.as_deref(), mount)?).clone(),
            }
        } else {
            self.copied(from.as_deref(), mount)?
        };
        given.mounts.push(bind(&source, at, mount.read_only));
        Ok(())
    }

    /// Where links inside of a stage lead; none of what has no layers, or a name that is no text.
    fn place_in(&mut self, from: &State, source: &str) -> Result<Option<String>> {
        if from.layers.is_empty() {
            return Ok(None);
        }
        let tree = self.mount_tree(from)?;
        let named = path::trim_slashes(source.as_bytes());
        let named = if named.is_empty() { b"." } else { named };
        let Ok(fd) = path::open(tree.root.as_fd(), named, OFlag::O_PATH, 0, path::IN_ROOT) else { return Ok(None) };
        let real = path::below(tree.root.as_fd(), fd.as_fd())?;
        Ok(real.and_then(|real| String::from_utf8(real).ok()))
    }

    /// A copy of what is mounted.
    fn copied(&mut self, from: Option<&State>, mount: &Mount) -> Result<PathBuf> {
        let tree = from.map(|from| self.mount_tree(from)).transpose()?;
        let (items, _) = self.bound(tree.as_ref(), mount)?;
        let dir = self.scratch_dir()?;
        let from = tree.as_ref().or(self.here(&mount.from)).unwrap_or(&self.context.tree);
        let root = path::open_root(&dir)?;
        let file = items.len() == 1 && !crate::fs::stat::is_dir(&items[0].stat);
        let destination = if file { "/bound".to_owned() } else { "/bound/".to_owned() };
        let mut place = Place::new(root.as_fd(), destination, None, None, 0);
        if items.is_empty() {
            bail!(Refusal::NotFound(format!("/{}: not found in {}", mount.source, from.called)));
        }
        place.items(from, &items, &self.caller)?;
        place.end()?;
        Ok(dir.join("bound"))
    }

    /// The directory of a cache. What keeps others from it is in `given`.
    fn cache_dir(
        &mut self,
        stage: usize,
        mount: &Mount,
        at: &str,
        command: &str,
        given: &mut Given,
    ) -> Result<PathBuf> {
        let store = &self.engine.store;
        let first = cache_name(mount, at);
        if let Some((_, name)) = given.caches.iter().find(|(cache, _)| *cache == first) {
            return Ok(caches::dir(store, name));
        }
        let described = format!("cached mount {at} from exec {command}");
        let shared = mount.sharing == Sharing::Shared;
        let mut number = 0;
        let (name, lock) = loop {
            let name = if number == 0 { first.clone() } else { format!("{first}.{number}") };
            if let Some(lock) = caches::take(store, self.lease, &name, shared, &described)? {
                break (name, lock);
            }
            // Where others may not wait, there is one more.
            match mount.sharing {
                Sharing::Locked => self.pause()?,
                Sharing::Shared | Sharing::Private => number += 1,
            }
        };
        given.locks.push(lock);
        given.caches.push((first, name.clone()));
        let dir = caches::dir(store, &name);
        if dir.exists() {
            return Ok(dir);
        }
        let made = self.scratch_dir()?.join("cache");
        if mount.from.is_empty() {
            std::fs::DirBuilder::new().mode(0o755).create(&made).with_context(|| format!("make {}", made.display()))?;
        } else {
            let from = self.mount_source(stage, mount)?;
            let copied = self.copied(from.as_deref(), mount)?;
            std::fs::rename(&copied, &made).with_context(|| format!("make {}", made.display()))?;
        }
        // What it begins with has looks of its own.
        if mount.from.is_empty() || (mount.uid, mount.gid, mount.mode) != (None, None, None) {
            let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
            nix::unistd::chown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .with_context(|| format!("chown {}", made.display()))?;
            let mode = PermissionsExt::from_mode(mount.mode.unwrap_or(0o755) & 0o7777);
            std::fs::set_permissions(&made, mode).with_context(|| format!("chmod {}", made.display()))?;
        }
        match std::fs::rename(&made, &dir) {
            // Another build was faster.
            Err(_) if dir.exists() => {}
            other => other.with_context(|| format!("make {}", dir.display()))?,
        }
        Ok(dir)
    }

    /// Waits a moment for somebody else's build, unless the caller goes: nothing tells when a lock becomes free.
    fn pause(&self) -> Result<()> {
        let mut watch: Vec<PollFd> = self.caller.watch().into_iter().collect();
        match poll(&mut watch, 20u16) {
            Err(Errno::EINTR) => {}
            other => drop(other.context("wait for a cache")?),
        }
        if self.caller.has_gone() { Err(report::gone()) } else { Ok(()) }
    }

    /// Where what is secret lies until a command has it, and a name there that is nobody else's: stages side by side may
    /// have the same secret at the same place. It goes with the lease at the latest.
    fn secrets(&self) -> Result<(PathBuf, String)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let dir = secrets_of(&self.engine.store);
        store::make_dirs(&dir, 0o700)?;
        let name = format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.lease.uses(&lent(&name))?;
        Ok((dir, name))
    }

    /// The socket of an agent. The first one is the one that programs find.
    fn agent(&mut self, mount: &Mount, state: &State, given: &mut Given) -> Result<()> {
        let id = mount.name();
        let Some(agent) = self.asked.agents.get(&id) else {
            if mount.required {
                bail!(Refusal::BadParameter(format!(
                    "no SSH key {id:?} forwarded from the client: build with --ssh {id}"
                )));
            }
            return Ok(());
        };
        let (dir, name) = self.secrets()?;
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let forwarded = Forwarded::start(&dir, &name, agent, owner, mount.mode.unwrap_or(0o600))?;
        let at = match mount.target.as_str() {
            "" => format!("{AGENTS}.{}", given.agents.len()),
            _ => target(state, mount),
        };
        given.mounts.push(bind(&forwarded.path, at.clone(), mount.read_only));
        if given.agents.is_empty() {
            given.env.push(("SSH_AUTH_SOCK".to_owned(), at));
        }
        given.agents.push(forwarded);
        Ok(())
    }

    /// A secret as a file, as a variable, or as both. It lies in the run directory until the command runs.
    fn secret(&mut self, mount: &Mount, state: &State, given: &mut Given) -> Result<()> {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = mount.name();
        let Some(value) = self.asked.secrets.get(&id) else {
            if mount.required {
                bail!(Refusal::BadParameter(format!("secret {id}: not found")));
            }
            return Ok(());
        };
        if let Some(name) = &mount.env {
            let name = if name.is_empty() { id.clone() } else { name.clone() };
            let text = std::str::from_utf8(value).ok().filter(|text| !text.contains('\0'));
            let text = text.with_context(|| format!("secret {id} is no text, and cannot be a variable"))?;
            given.env.push((name, text.to_owned()));
            if mount.target.is_empty() {
                return Ok(());
            }
        }
        let (dir, name) = self.secrets()?;
        let file = dir.join(name);
        let _ = std::fs::remove_file(&file);
        let mut options = std::fs::OpenOptions::new();
        let mut open = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("create {}", file.display()))?;
        given.secrets.push(file.clone());
        std::io::Write::write_all(&mut open, value).with_context(|| format!("write {}", file.display()))?;
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        nix::unistd::fchown(&open, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context("chown a secret")?;
        open.set_permissions(PermissionsExt::from_mode(mount.mode.unwrap_or(0o400) & 0o777))
            .context("chmod a secret")?;
        let at = if mount.target.is_empty() { format!("{SECRETS}/{}", last(&id)) } else { target(state, mount) };
        given.mounts.push(bind(&file, at, true));
        Ok(())
    }
}

/// What a cache is called under build/mounts.
fn cache_name(mount: &Mount, at: &str) -> String {
    let id = if mount.id.is_empty() { at } else { &mount.id };
    let mut name = format!("{id}\0{}\0{}", mount.from, mount.source);
    // Who asks for another owner or mode has another cache, and not one that he cannot write.
    if (mount.uid, mount.gid, mount.mode) != (None, None, None) {
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        name.push_str(&format!("\0{uid}:{gid} {:o}", mount.mode.unwrap_or(0o755)));
    }
    Digest::of(name.as_bytes()).hex()[..32].to_owned()
}

fn target(state: &State, mount: &Mount) -> String {
    metadata::join(&state.config.working_dir, &mount.target)
}

fn bind(source: &Path, target: String, read_only: bool) -> ContainerMount {
    ContainerMount {
        r#type: "bind".to_owned(),
        source: source.display().to_string(),
        target,
        read_only,
        ..ContainerMount::default()
    }
}

fn tmpfs(mount: &Mount, target: String) -> ContainerMount {
    let size_bytes = i64::try_from(mount.size).unwrap_or(i64::MAX);
    ContainerMount {
        r#type: "tmpfs".to_owned(),
        target,
        read_only: mount.read_only,
        tmpfs_options: Some(TmpfsOptions { size_bytes, ..TmpfsOptions::default() }),
        ..ContainerMount::default()
    }
}

/// Takes the places that were only made to mount on out of an upper directory: empty files and directories that the
/// layers below have not.
pub fn clear_places(upper: &Path, lowers: &[PathBuf], mounts: &[ContainerMount]) -> Result<()> {
    let root = path::open_root(upper)?;
    for mount in mounts {
        let mut at = path::trim_slashes(mount.target.as_bytes()).to_vec();
        while !at.is_empty() {
            let below = lowers.iter().any(|lower| {
                let found = path::open_root(lower)
                    .map(|fd| path::open(fd.as_fd(), &at, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0, path::IN_ROOT).is_ok());
                found.unwrap_or(true)
            });
            let (parent, name) = path::split(&at);
            let Ok(dir) = path::open_dir(root.as_fd(), parent, path::NO_LINKS) else { break };
            let Ok(stat) = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { break };
            let is_dir = crate::fs::stat::is_dir(&stat);
            if below || !is_dir && (!crate::fs::stat::is_file(&stat) || stat.st_size > 0) {
                break;
            }
            let flags = if is_dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
            if unlinkat(&dir, name, flags).is_err() {
                break;
            }
            at = parent.to_vec();
        }
    }
    Ok(())
}
