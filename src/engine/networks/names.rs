//! Names on networks of users: what the resolver is told of each container, how it gets its sockets, and who starts it.
//!
//! One resolver serves all containers of a store. Whoever hands it a container holds its lock, and starts it where none
//! answers; it goes when the last container has. A shim that sees it end hands its container over anew.

use super::super::privileges::NOBODY;
use super::super::record::Record;
use super::super::rootless::network::within;
use super::super::store::{self, Store};
use super::super::{containers, etc, locks, protocol, shim};
use super::join::{self, Held};
use super::stored;
use crate::api::types::EndpointSettings;
use crate::net::dns::zone::{Host, Place};
use crate::net::dns::{self, listen};
use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use sha2::{Digest, Sha256};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// Where the files lie that the resolver reads, one a container.
pub fn dir(store: &Store) -> PathBuf {
    store.run.join("resolver")
}

/// Held by who hands a container over, and by the resolver when it leaves.
pub fn lock_path(store: &Store) -> PathBuf {
    store.run.join("resolver.lock")
}

/// Whether a container has the resolver: it is on a network of a user's.
pub fn are_resolved(held: &Held) -> bool {
    held.places.iter().any(|place| place.name != stored::BRIDGE)
}

/// What others call a container on a network of a user's, its own name first.
pub fn of(record: &Record, endpoint: &EndpointSettings) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(endpoint.aliases.iter().flatten().cloned());
    names.push(record.id[..12].to_owned());
    names.push(record.config.hostname.clone());
    let mut known = crate::order::Set::new();
    names.retain(|name| !name.is_empty() && known.insert(name.clone()));
    names
}

/// Servers that were asked for; our own address among them would lead in a circle.
fn servers(record: &Record) -> Vec<IpAddr> {
    let given = record.host_config.dns.iter().flatten().filter_map(|text| text.parse().ok());
    given.filter(|server| *server != IpAddr::V4(dns::ADDRESS)).collect()
}

fn host(store: &Store, record: &Record, held: &Held) -> Result<Host> {
    let mut places = Vec::new();
    for place in held.places.iter().filter(|place| place.name != stored::BRIDGE) {
        let endpoint = record.networks.get(&place.name).cloned().unwrap_or_default();
        let mut links = Vec::new();
        for link in endpoint.links.iter().flatten() {
            let (target, alias) = super::links::split(link)?;
            // By its id it is found under any name that it may get; one that is still to come, by the name.
            let target = containers::find(store, target).unwrap_or_else(|_| target.to_owned());
            links.push((alias.to_owned(), target));
        }
        places.push(Place {
            network: place.network.clone(),
            called: place.name.clone(),
            names: of(record, &endpoint),
            addresses: place.given().map(|given| given.address).collect(),
            links,
        });
    }
    Ok(Host {
        places,
        servers: servers(record),
        asks_host: held.places.iter().any(|place| place.gateway),
        asks_short: !etc::adds_domains(&record.host_config)?,
    })
}

/// Tells the resolver what a container is called. The caller holds the lock of networks.
pub fn write(store: &Store, record: &Record, held: &Held) -> Result<()> {
    let dir = dir(store);
    if !dir.exists() {
        store::make_dirs(&dir, 0o750)?;
        // Where there is no such group the resolver stays who it is.
        match chown(&dir, None, Some(NOBODY)) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => done.with_context(|| format!("chown {}", dir.display()))?,
        }
    }
    let bytes = serde_json::to_vec(&host(store, record, held)?).context("encode what a container is called")?;
    let temporary = dir.join(format!(".{}", record.id));
    let write = || -> io::Result<()> {
        fs::write(&temporary, &bytes)?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o644))?;
        fs::rename(&temporary, dir.join(&record.id))
    };
    write().with_context(|| format!("write {}", dir.join(&record.id).display()))
}

/// The same for one that may have changed meanwhile, if it has names at all.
pub fn refresh(store: &Store, id: &str) -> Result<Option<Record>> {
    let _lock = stored::lock(store)?;
    let held = join::held(store, id)?;
    let record = Record::load(store, id)?.filter(|_| are_resolved(&held));
    if let Some(record) = &record {
        write(store, record, &held)?;
    }
    Ok(record)
}

/// One that has been renamed, if it is known to the resolver now.
pub fn renamed(store: &Store, id: &str) -> Result<()> {
    if dir(store).join(id).exists() { refresh(store, id).map(drop) } else { Ok(()) }
}

/// Nobody is called so any more.
pub fn remove(store: &Store, id: &str) -> Result<()> {
    store::remove(&dir(store).join(id))
}

/// Gives a container that is about to run its names and the resolver, if it is on a network of a user's. The connection
/// that ends with the resolver.
pub fn serve(store: &Store, id: &str, namespace: BorrowedFd, held: &Held) -> Result<Option<OwnedFd>> {
    if !are_resolved(held) {
        return Ok(None);
    }
    let Some(record) = refresh(store, id)? else { return Ok(None) };
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, flags).context("make a pair of sockets")?;
    open(store, &record, namespace, theirs.as_fd())?;
    Ok(Some(ours))
}

/// Opens the resolver's sockets in a container's namespace, and hands them over with `shim`, a connection to its shim.
/// Only a shim does this: it is what may start the resolver.
pub fn open(store: &Store, record: &Record, namespace: BorrowedFd, shim: BorrowedFd) -> Result<()> {
    let id = &record.id;
    let sockets =
        within(store, || listen::open(namespace, port(id), &servers(record)).context("open the resolver's sockets"))?;
    let _lock = locks::exclusive(&lock_path(store), 0)?;
    // By descriptor, because a socket's address holds 107 bytes and a run directory may be deep.
    let run = File::open(&store.run).with_context(|| format!("open {}", store.run.display()))?;
    let address = PathBuf::from(format!("/proc/self/fd/{}/resolver.sock", run.as_raw_fd()));
    let hand_over = || dns::hand_over(&address, id, shim, &sockets);
    match hand_over() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            store::remove(&store.run.join("resolver.sock"))?;
            let socket = UnixDatagram::bind(&address).context("listen for containers that have names")?;
            shim::start_beside(store, "resolver", socket.as_fd(), None)?;
            crate::failpoint::reach("resolver.started");
            hand_over()
        }
        done => done,
    }
    .context("hand the container to the resolver")
}

/// The port that a container's resolver has where it is free: the same again, so that who waits for an answer is heard
/// by the next resolver.
fn port(id: &str) -> u16 {
    let hash = Sha256::digest(id.as_bytes());
    // Ports that nobody has by custom (RFC 6335).
    49_152 + u16::from_be_bytes([hash[0], hash[1]]) % 16_384
}

/// Has the shim of a running container see to it that it has the resolver.
pub fn ask_shim(store: &Store, id: &str) -> Result<()> {
    let Some(mut stream) = shim::connect(store, &shim::Whose::container(id))? else { return Ok(()) };
    let names = protocol::Message::new(protocol::Op::Names, 0, 0);
    shim::tell(&mut stream, names, &[]).context("give it the resolver of its network")
}
