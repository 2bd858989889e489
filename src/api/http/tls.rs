//! TLS, both ways. A connection is joined to a plain socket by one thread, which alone has its state: what speaks HTTP
//! has an ordinary descriptor, which it may poll, hand on and half-close.

use super::provider::provider;
use crate::log;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, setsockopt, shutdown, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme,
};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How long the other side may be silent before the connection stands, in seconds.
const HANDSHAKE: i64 = 30;
/// As much as rustls decrypts at once.
const ROOM: usize = 16 << 10;
const STACK: usize = 256 << 10;

/// Where one side's certificates are, as files in PEM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    /// Who signed the other side's certificate.
    pub ca: Option<PathBuf>,
    /// Who we are.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// How a daemon receives its clients.
#[derive(Clone)]
pub struct Server(Arc<ServerConfig>);

/// How a client meets a daemon.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

/// Why a connection ended that should have gone on; said by its thread.
pub type Fault = Arc<Mutex<Option<String>>>;

impl Server {
    /// With `verify`, only clients whose certificate the CA signed are let in.
    pub fn new(files: &Files, verify: bool) -> Result<Server> {
        let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
            bail!("TLS needs a certificate and its key: --tlscert, --tlskey")
        };
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &files.ca {
            Some(ca) if verify => {
                let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider());
                builder.with_client_cert_verifier(clients.build().with_context(|| format!("use {}", ca.display()))?)
            }
            None if verify => bail!("--tlsverify needs the CA of the clients: --tlscacert"),
            _ => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain(cert)?, secret(key)?);
        Ok(Server(Arc::new(config.with_context(|| format!("use {} with {}", cert.display(), key.display()))?)))
    }

    /// Receives a client; the plain side of the connection.
    pub fn wrap(&self, socket: OwnedFd) -> io::Result<OwnedFd> {
        let connection = ServerConnection::new(Arc::clone(&self.0)).map_err(io::Error::other)?;
        Ok(join(connection.into(), socket)?.0)
    }
}

impl Client {
    /// With `verify`, the daemon's certificate must be signed by the CA, for its name.
    pub fn new(files: &Files, verify: bool) -> Result<Client> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &files.ca {
            Some(ca) if verify => builder.with_root_certificates(roots(ca)?),
            None if verify => bail!("to verify the daemon's certificate its CA is needed: --tlscacert, or ca.pem"),
            _ => {
                let anybody = Anybody(provider().signature_verification_algorithms);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody))
            }
        };
        let config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(chain(cert)?, secret(key)?)
                .with_context(|| format!("use {} with {}", cert.display(), key.display()))?,
            (None, None) => builder.with_no_client_auth(),
            _ => bail!("a client's certificate needs its key, and the other way round"),
        };
        Ok(Client(Arc::new(config)))
    }

    /// Meets the daemon of that name; the plain side of the connection.
    pub fn wrap(&self, socket: OwnedFd, host: &str) -> io::Result<(OwnedFd, Fault)> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        join(connection.into(), socket)
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).with_context(|| format!("read certificate {}", path.display()))?.collect();
    let found = found.with_context(|| format!("read certificate {}", path.display()))?;
    if found.is_empty() {
        bail!("{} holds no PEM certificate", path.display());
    }
    Ok(found)
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in chain(path)? {
        store.add(certificate).with_context(|| format!("use the CA {}", path.display()))?;
    }
    Ok(store)
}

fn secret(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("read key {}", path.display()))
}

/// Shakes hands, and leaves the rest to a thread.
fn join(mut connection: Connection, socket: OwnedFd) -> io::Result<(OwnedFd, Fault)> {
    let patience = TimeVal::seconds(HANDSHAKE);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    let mut raw = Raw { fd: socket.as_fd(), flags: MsgFlags::MSG_NOSIGNAL };
    while connection.is_handshaking() || connection.wants_write() {
        connection.complete_io(&mut raw)?;
    }
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let fault = Fault::default();
    let tell = Arc::clone(&fault);
    std::thread::Builder::new().name("tls".to_owned()).stack_size(STACK).spawn(move || {
        if let Err(error) = pump(&mut connection, socket.as_fd(), theirs.as_fd()) {
            log::debug!("a TLS connection ended: {error}");
            *tell.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error.to_string());
        }
        // The other end learns of it only now, with the reason in its place.
        drop(theirs);
    })?;
    Ok((ours, fault))
}

/// A socket whose calls do not wait, or do.
struct Raw<'a> {
    fd: BorrowedFd<'a>,
    flags: MsgFlags,
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.fd.as_raw_fd(), buffer, self.flags)?)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.fd.as_raw_fd(), bytes, self.flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that were decrypted and wait for their reader.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    start: usize,
}

/// Carries bytes between a TLS socket and a plain one until both directions have ended.
fn pump(tls: &mut Connection, far: BorrowedFd, near: BorrowedFd) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let (mut raw, mut plain) = (Raw { fd: far, flags }, Raw { fd: near, flags });
    let mut held = Held::default();
    // Whether the far side and the near one have said all, and whether that was passed on.
    let (mut far_ended, mut near_ended, mut far_told, mut near_told) = (false, false, false, false);
    // Whether the near side is gone altogether.
    let mut gone = false;
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut raw) {
                Err(error) if waits(&error) => break,
                other => drop(other?),
            }
        }
        if near_ended && !near_told && !tls.wants_write() {
            let _ = shutdown(far.as_raw_fd(), Shutdown::Write);
            near_told = true;
        }
        far_ended |= !gone && give(tls, &mut held, &mut plain)?;
        if far_ended && held.is_empty() && !far_told {
            let _ = shutdown(near.as_raw_fd(), Shutdown::Write);
            far_told = true;
        }
        if near_told && (far_told || gone) {
            return Ok(());
        }
        let mut far_wants = PollFlags::empty();
        far_wants.set(PollFlags::POLLIN, !far_ended && !gone && held.is_empty());
        far_wants.set(PollFlags::POLLOUT, tls.wants_write());
        let mut near_wants = PollFlags::empty();
        near_wants.set(PollFlags::POLLIN, !near_ended && !tls.wants_write());
        near_wants.set(PollFlags::POLLOUT, !held.is_empty() && !gone);
        let mut fds = vec![PollFd::new(far, far_wants)];
        // One that is gone says so over and over.
        if !gone || !near_wants.is_empty() {
            fds.push(PollFd::new(near, near_wants));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let (far_events, near_events) = (events(0), events(1));
        if far_events.intersects(PollFlags::POLLERR) {
            return Err(io::Error::from(ErrorKind::ConnectionReset));
        }
        if far_wants.contains(PollFlags::POLLIN) && far_events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) {
            take(tls, &mut raw)?;
        } else if far_events.contains(PollFlags::POLLHUP) {
            // It takes nothing any more either.
            return Ok(());
        }
        if near_wants.contains(PollFlags::POLLIN) && near_events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) {
            near_ended = send_on(tls, &mut plain)?;
            if near_ended {
                tls.send_close_notify();
            }
        }
        gone |= near_ended && near_events.contains(PollFlags::POLLHUP);
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }
}

/// Reads what came, encrypted. A wrong record is answered before it is an error.
fn take(tls: &mut Connection, raw: &mut Raw) -> io::Result<()> {
    match tls.read_tls(raw) {
        Err(error) if waits(&error) => return Ok(()),
        other => drop(other?),
    }
    tls.process_new_packets().map(drop).map_err(|error| {
        let _ = tls.write_tls(raw);
        io::Error::new(ErrorKind::InvalidData, error)
    })
}

/// Passes decrypted bytes on, as far as they are taken; whether the far side has said all.
fn give(tls: &mut Connection, held: &mut Held, plain: &mut Raw) -> io::Result<bool> {
    loop {
        while !held.is_empty() {
            match plain.write(&held.bytes[held.start..]) {
                Ok(length) => held.start += length,
                Err(error) if waits(&error) => return Ok(false),
                // Nobody reads it: the rest of the connection tells that.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => held.start = held.bytes.len(),
                Err(error) => return Err(error),
            }
        }
        held.bytes.resize(ROOM, 0);
        held.start = 0;
        let read = tls.reader().read(&mut held.bytes);
        held.bytes.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            // Many clients leave without a word; what was cut, the framing above notices.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Encrypts what the near side said; whether it has said all.
fn send_on(tls: &mut Connection, plain: &mut Raw) -> io::Result<bool> {
    let mut buffer = [0; ROOM];
    match plain.read(&mut buffer) {
        Ok(0) => Ok(true),
        Ok(length) => tls.writer().write_all(&buffer[..length]).map(|()| false),
        Err(error) if waits(&error) => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(error),
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Takes any certificate, for `--tls` without `--tlsverify`: the connection is secret, but not whose it is.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: &ServerName,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
