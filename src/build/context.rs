//! Where the files of a build come from: a folder of this machine, a tar, a URL.

use super::asked::Asked;
use super::contexts::{self, Contexts};
use super::git::{self, Address, Keys, Repository};
use super::ignore::{self, Ignore};
use super::transfer::gather::{Tree, leads_out};
use crate::api::Refusal;
use crate::api::units::parse_bool;
use crate::api::wire::{Body, Caller};
use crate::engine::store::{self, Lease, Store};
use crate::fs::extract::{self, Owner, Target};
use crate::fs::{compression, path};
use crate::oci::Digest;
use crate::oci::registry::{self, Settings};
use anyhow::{Context as _, Result, bail};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The files of a build, and its Dockerfile.
pub struct Context {
    pub tree: Tree,
    pub dockerfile: Vec<u8>,
    pub name: String,
    /// Where digests of the files are kept, if the files stay.
    pub known: Option<PathBuf>,
    /// What else has a name.
    pub named: Contexts,
}

const CALLED: &str = "the build context";
/// The largest context that is fetched.
const MOST: u64 = 64 << 30;

/// What came with a request.
pub struct Sent {
    pub body: Body,
    /// Folders of named contexts, where they lie.
    pub folders: Vec<(String, OwnedFd)>,
}

impl Context {
    /// Reads what came with a request, and what was said of named contexts.
    pub fn open(
        store: &Store,
        lease: &Lease,
        asked: &Asked,
        Sent { mut body, folders }: Sent,
        settings: &Settings,
        caller: &Caller,
    ) -> Result<Context> {
        let packed = !matches!(body, Body::Folder(_));
        // The context lies elsewhere: what came is the folders that have names.
        let beside = match !asked.remote.is_empty() && contexts::come_along(asked) {
            true => Some(aside(std::mem::replace(&mut body, Body::Empty), lease)?),
            false => None,
        };
        let mut context = Context::files(store, lease, asked, body, settings, caller)?;
        let unpacked = beside.as_ref().or(packed.then_some(&context.tree));
        context.named = Contexts::open(asked, folders, unpacked, lease, settings, caller)?;
        Ok(context)
    }

    /// Reads what came with a request; a tar is unpacked into the lease's directory.
    fn files(
        store: &Store,
        lease: &Lease,
        asked: &Asked,
        body: Body,
        settings: &Settings,
        caller: &Caller,
    ) -> Result<Context> {
        if let Some(address) = Address::parse(&asked.remote, true)? {
            return Context::cloned(address, lease, asked, caller);
        }
        let tar: Box<dyn Read + Send> = match body {
            Body::Folder(folder) => {
                let path = std::fs::read_link(path::of_fd(folder.dir.as_fd()).to_str().unwrap_or_default());
                let path = path.context("look where the context lies")?;
                let hex = Digest::of(path.as_os_str().as_encoded_bytes()).hex()[..32].to_owned();
                let known = Some(store.root.join("build/contexts").join(hex));
                let ignore = match folder.ignore {
                    Some(bytes) => Ignore::read(&bytes)?,
                    None => ignored(folder.dir.as_fd(), "")?,
                };
                let tree = Tree { root: folder.dir, ignore, called: CALLED, owned: false };
                let (name, dockerfile) = folder.dockerfile;
                return Ok(Context { tree, dockerfile, name, known, named: Contexts::default() });
            }
            _ if !asked.remote.is_empty() => remote(&asked.remote, settings)?,
            Body::Empty => bail!(Refusal::BadParameter("there is no build context".to_owned())),
            Body::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
            Body::Reader(reader) => reader,
        };
        let place = lease.tmp()?.join("context");
        store::make_dir(&place, 0o755).with_context(|| format!("make {}", place.display()))?;
        let root = path::open_root(&place)?;
        let mut tar = compression::decoder(tar)?;
        // A remote that is no archive is the Dockerfile itself.
        let mut start = [0; 512];
        let mut filled = 0;
        while filled < start.len() {
            match tar.read(&mut start[filled..]).context("read the context")? {
                0 => break,
                n => filled += n,
            }
        }
        let plain = filled < start.len() || crate::fs::header::check(&start).is_err() && start != [0; 512];
        if plain && !asked.remote.is_empty() {
            let mut dockerfile = start[..filled].to_vec();
            tar.take(super::dockerfile::LARGEST as u64 + 1)
                .read_to_end(&mut dockerfile)
                .context("read the Dockerfile")?;
            let tree = Tree { root, ignore: Ignore::default(), called: CALLED, owned: false };
            return Ok(Context {
                tree,
                dockerfile,
                name: "Dockerfile".to_owned(),
                known: None,
                named: Contexts::default(),
            });
        }
        let target =
            Target { root: root.as_fd(), dir: b"", owner: Owner::AsTold, replace: true, rename: None, ids: None };
        extract::extract(&mut std::io::Cursor::new(&start[..filled]).chain(tar), &target)
            .map_err(|error| Refusal::BadParameter(format!("unpack the build context: {error:#}")))?;
        Context::whole(root, asked)
    }

    /// The files of a repository. Its address is the user's own word, who may have keys for it.
    fn cloned(address: Address, lease: &Lease, asked: &Asked, caller: &Caller) -> Result<Context> {
        let place = lease.tmp()?.join("context");
        store::make_dir(&place, 0o755).with_context(|| format!("make {}", place.display()))?;
        let keep = asked.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").cloned().flatten();
        let keep = keep.is_some_and(|value| parse_bool(&value) == Some(true));
        let repository = Repository::find(address, place, Keys::User, &asked.secrets, caller)?;
        Context::whole(repository.files(keep)?, asked)
    }

    /// A context whose files, the Dockerfile among them, lie in this directory of ours.
    fn whole(root: OwnedFd, asked: &Asked) -> Result<Context> {
        let mut name = asked.dockerfile.clone();
        if leads_out(&name) {
            bail!(Refusal::BadParameter(format!("forbidden path outside the build context: {name} ()")));
        }
        let mut dockerfile = file(root.as_fd(), &name, super::dockerfile::LARGEST)?;
        if let (None, Some(lower)) = (&dockerfile, lower(&name)) {
            dockerfile = file(root.as_fd(), &lower, super::dockerfile::LARGEST)?;
            name = if dockerfile.is_some() { lower } else { name };
        }
        let dockerfile =
            dockerfile.ok_or_else(|| Refusal::BadParameter(format!("Cannot locate specified Dockerfile: {name}")))?;
        let ignore = ignored(root.as_fd(), &name)?;
        // Clients send one that lies elsewhere under such a name: it is no file of the context.
        if name.starts_with(".dockerfile.") && !name.contains('/') {
            for name in [name.clone(), format!("{name}.dockerignore")] {
                crate::fs::remove::entry(root.as_fd(), &std::ffi::CString::new(name)?)?;
            }
            name = "Dockerfile".to_owned();
        }
        let tree = Tree { root, ignore, called: CALLED, owned: false };
        Ok(Context { tree, dockerfile, name, known: None, named: Contexts::default() })
    }
}

/// The path of a `dockerfile`, which is taken where there is no `Dockerfile`.
pub fn lower(path: &str) -> Option<String> {
    let dir = path.strip_suffix("Dockerfile").filter(|dir| dir.is_empty() || dir.ends_with('/'))?;
    Some(format!("{dir}dockerfile"))
}

/// Unpacks what came beside a context that lies elsewhere.
fn aside(body: Body, lease: &Lease) -> Result<Tree> {
    let place = lease.tmp()?.join("beside");
    store::make_dir(&place, 0o755).with_context(|| format!("make {}", place.display()))?;
    let root = path::open_root(&place)?;
    match body {
        Body::Bytes(bytes) => unpack(std::io::Cursor::new(bytes), root.as_fd())?,
        Body::Reader(reader) => unpack(reader, root.as_fd())?,
        Body::Empty | Body::Folder(_) => {}
    }
    Ok(Tree { root, ignore: Ignore::default(), called: CALLED, owned: false })
}

/// Unpacks a tar in any packing into a directory of ours.
pub(super) fn unpack(tar: impl Read + Send, root: BorrowedFd) -> Result<()> {
    let target = Target { root, dir: b"", owner: Owner::AsTold, replace: true, rename: None, ids: None };
    extract::extract(&mut compression::decoder(tar)?, &target)
        .map_err(|error| Refusal::BadParameter(format!("unpack it: {error:#}")))?;
    Ok(())
}

/// `<Dockerfile>.dockerignore` if there is one, else `.dockerignore`.
pub(super) fn ignored(root: BorrowedFd, dockerfile: &str) -> Result<Ignore> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        if let Some(bytes) = file(root, &name, ignore::LARGEST)? {
            return Ignore::read(&bytes);
        }
    }
    Ok(Ignore::default())
}

/// A small file of the context; nothing where there is none.
fn file(root: BorrowedFd, name: &str, most: usize) -> Result<Option<Vec<u8>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let fd: OwnedFd = match path::open(root, path::trim_slashes(name.as_bytes()), flags, 0, path::IN_ROOT) {
        Ok(fd) => fd,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("open {name} in {CALLED}")),
    };
    let stat = nix::sys::stat::fstat(&fd).with_context(|| format!("look at {name}"))?;
    if !crate::fs::stat::is_file(&stat) {
        bail!(Refusal::BadParameter(format!("{name} in {CALLED} is no file")));
    }
    let mut bytes = Vec::new();
    File::from(fd).take(most as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
    if bytes.len() > most {
        bail!(Refusal::BadParameter(format!("{name} is larger than {most} bytes")));
    }
    Ok(Some(bytes))
}

/// A context that lies elsewhere.
pub(super) fn remote(url: &str, settings: &Settings) -> Result<Box<dyn Read + Send>> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        bail!(Refusal::BadParameter(format!("remoteURL ({}) could not be recognized as URL", git::shown(url))));
    }
    let (reader, _) = registry::download(url, MOST, settings)?;
    Ok(Box::new(reader))
}
