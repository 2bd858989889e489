//! A daemon elsewhere: requests go to it over a socket.

use super::address::Address;
use super::chunks::{self, size_line};
use super::head::{self, Framing, Headers, ResponseHead};
use super::input::Input;
use super::socket::Socket;
use super::{ssh, target, tls};
use crate::api::client::Unreachable;
use crate::api::version::{self, ApiVersion};
use crate::api::wire::{Body, Caller, Reply, Request, Response};
use crate::log;
use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::Shutdown;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How long one address may take to answer at all.
const CONNECT: Duration = Duration::from_secs(10);

/// A daemon, and what of it is known.
pub struct Remote {
    address: Address,
    tls: Option<tls::Client>,
    /// Why the last TLS connection ended.
    fault: Mutex<tls::Fault>,
    /// What the daemon speaks too; asked once.
    version: OnceLock<ApiVersion>,
    /// A connection that has said all and may be asked again.
    spare: Arc<Mutex<Option<Socket>>>,
    /// What its user has said with every request.
    headers: Vec<(String, String)>,
}

impl Remote {
    /// A daemon at an address. With a version, that is spoken and the daemon is not asked for its own.
    pub fn new(address: Address, tls: Option<tls::Client>, version: Option<ApiVersion>) -> Remote {
        let known = OnceLock::new();
        if let Some(version) = version {
            let _ = known.set(version);
        }
        Remote { address, tls, fault: Mutex::default(), version: known, spare: Arc::default(), headers: vec![] }
    }

    /// The same, with headers of the user's on every request; those that say how it is sent are ours.
    pub fn with_headers(mut self, headers: impl IntoIterator<Item = (String, String)>) -> Remote {
        const OURS: [&str; 6] = ["Host", "User-Agent", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding"];
        let token = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        let theirs = |name: &str| token(name) && !OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        self.headers = headers.into_iter().filter(|(name, _)| theirs(name)).collect();
        self
    }

    /// The version that is spoken, where that is known yet.
    pub fn version(&self) -> Option<ApiVersion> {
        self.version.get().copied()
    }

    /// Sends a request and reads the head of its answer; the rest is read as it is used.
    pub fn send(&self, request: Request) -> Result<Response> {
        let version = match self.version.get() {
            Some(version) => *version,
            None => *self.version.get_or_init({
                let agreed = self.agree().map_err(|error| self.explain(error))?;
                move || agreed
            }),
        };
        self.exchange(request, Some(version)).map_err(|error| self.explain(error))
    }

    /// The reason that the thread of a TLS connection knows.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let lock = |mutex: &Mutex<tls::Fault>| Arc::clone(&mutex.lock().unwrap_or_else(|broken| broken.into_inner()));
        let fault = lock(&self.fault).lock().unwrap_or_else(|broken| broken.into_inner()).take();
        match fault {
            Some(fault) => anyhow!("the TLS connection to {}: {fault}", self.address),
            None => error,
        }
    }

    /// The newest version that both sides speak. A daemon that does not say is an old one.
    fn agree(&self) -> Result<ApiVersion> {
        for method in ["HEAD", "GET"] {
            let response = self.exchange(Request::new(method, "/_ping"), None)?;
            let said = response.headers.iter().find(|(name, _)| *name == API_VERSION);
            let said = said.and_then(|(_, value)| ApiVersion::parse(value));
            if let Reply::Stream(rest) = response.body {
                rest(&mut io::sink()).context("read the daemon's answer to a ping")?;
            }
            if let Some(theirs) = said {
                return Ok(theirs.min(version::NEWEST));
            }
        }
        Ok(version::OLDEST)
    }

    fn exchange(&self, mut request: Request, version: Option<ApiVersion>) -> Result<Response> {
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let upgrade = request.header("Upgrade").is_some();
        // What is still being sent when the answer has come makes the connection useless.
        let whole = !matches!(body, Body::Reader(_));
        let head = head_of(&request, version, self, &body);
        // A spare one may have been closed meanwhile: seen before anything is sent.
        let spare = self.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let mut socket = match spare.filter(|socket| !upgrade && matches!(socket.wait(Some(Duration::ZERO)), Ok(false)))
        {
            Some(socket) => socket,
            None => Socket::new(self.connect()?),
        };
        watch(&socket, &request.caller)?;
        send(&mut socket, head, body).with_context(|| format!("send a request to {}", self.address))?;
        if upgrade {
            return self.upgraded(socket).with_context(|| format!("read the answer of {}", self.address));
        }
        let mut input = Input::new(socket.clone(), None);
        let head = answer_head(&mut input).with_context(|| format!("read the answer of {}", self.address))?;
        self.response(socket, input, head, request.method, whole)
    }

    fn response(
        &self,
        socket: Socket,
        mut input: Input,
        head: ResponseHead,
        method: &str,
        whole: bool,
    ) -> Result<Response> {
        let framing = head.framing(method).map_err(|bad| anyhow!(bad.why))?;
        let keep = head::keeps_alive(head.minor, &head.headers) && framing != Framing::Rest && whole;
        let none = framing == Framing::None;
        input.expect(framing, false);
        let spare = Arc::clone(&self.spare);
        let give_back = move |socket: Socket| {
            if keep {
                *spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(socket);
            }
        };
        let body = if none {
            give_back(socket);
            Reply::Empty
        } else {
            Reply::Stream(Box::new(move |sink: &mut dyn Write| {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let length = input.read(&mut buffer)?;
                    if length == 0 {
                        break;
                    }
                    sink.write_all(&buffer[..length])?;
                }
                give_back(socket);
                Ok(())
            }))
        };
        Ok(Response { status: head.status, headers: known(&head.headers), body })
    }

    /// The answer to a request for a connection. What stands behind its head is not read: it belongs to the connection.
    fn upgraded(&self, mut socket: Socket) -> Result<Response> {
        let mut bytes = Vec::new();
        let length = loop {
            let (mut piece, before) = ([0; 4096], bytes.len());
            let seen = socket.peek(&mut piece)?;
            bytes.extend_from_slice(&piece[..seen]);
            let found = head::length(&bytes, before);
            let wanted = found.unwrap_or(bytes.len()) - before;
            socket.read_exact(&mut piece[..wanted])?;
            match found {
                Some(length) => break length,
                None if seen == 0 => return Err(anyhow!("the connection ended")),
                None if bytes.len() > head::SIZE => return Err(anyhow!("the head is too large")),
                None => {}
            }
        };
        let head = head::response(&bytes[..length]).map_err(|bad| anyhow!(bad.why))?;
        let taken = head.status == 101 || (head.status == 200 && head.framing("POST") == Ok(Framing::Rest));
        if taken {
            let headers = known(&head.headers);
            let connection = socket.into_fd()?;
            // Whoever asked knows whether there are frames.
            let body = Reply::Upgraded { framed: false, join: Box::new(|| Ok(connection)) };
            return Ok(Response { status: head.status, headers, body });
        }
        let input = Input::new(socket.clone(), None);
        self.response(socket, input, head, "POST", true)
    }

    /// A new connection, for whatever is said on it.
    pub fn connect(&self) -> Result<OwnedFd> {
        let connected = match &self.address {
            Address::Unix(path) => UnixStream::connect(path).map(OwnedFd::from),
            Address::Tcp(host, port) => tcp(host, *port).map(OwnedFd::from),
            Address::Ssh(to) => return ssh::dial(to).with_context(|| format!("connect to {}", self.address)),
            Address::Inherited(_) => bail!("{} cannot be dialled", self.address),
        };
        let socket = connected.with_context(|| Unreachable(self.address.to_string()))?;
        let (Some(tls), Address::Tcp(host, _)) = (&self.tls, &self.address) else { return Ok(socket) };
        let (plain, fault) = tls.wrap(socket, host).with_context(|| format!("begin TLS with {}", self.address))?;
        *self.fault.lock().unwrap_or_else(|broken| broken.into_inner()) = fault;
        Ok(plain)
    }
}

const API_VERSION: &str = "Api-Version";

/// The headers of an answer that somebody reads.
fn known(headers: &Headers) -> Vec<(&'static str, String)> {
    const READ: [&str; 4] = [API_VERSION, "Content-Type", "X-Docker-Container-Path-Stat", "Builder-Version"];
    READ.into_iter().filter_map(|name| Some((name, head::find(headers, name)?.to_owned()))).collect()
}

fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn head_of(request: &Request, version: Option<ApiVersion>, to: &Remote, body: &Body) -> String {
    let target = target::write(version, &request.path, &request.query);
    let host = match &to.address {
        Address::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp(host, port) => format!("{host}:{port}"),
        // Docker's name for a host that has none.
        _ => "api.moby.localhost".to_owned(),
    };
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: {host}\r\n", request.method);
    head += concat!("User-Agent: dhow/", env!("CARGO_PKG_VERSION"), "\r\n");
    let of_user = to.headers.iter().filter(|(name, _)| request.header(name).is_none());
    for (name, value) in of_user.chain(&request.headers) {
        let value: String = value.chars().filter(|char| !char.is_control()).collect();
        head += &format!("{name}: {value}\r\n");
    }
    match body {
        Body::Empty if matches!(request.method, "GET" | "HEAD" | "DELETE") => {}
        Body::Empty => head += "Content-Length: 0\r\n",
        Body::Bytes(bytes) => head += &format!("Content-Length: {}\r\n", bytes.len()),
        Body::Reader(_) => head += "Transfer-Encoding: chunked\r\n",
        // Refused below.
        Body::Folder(_) => {}
    }
    head + "\r\n"
}

/// Ends the connection when who asked in this process goes, so that the answer is waited for no longer.
fn watch(socket: &Socket, caller: &Caller) -> Result<()> {
    if caller.watch().is_none() {
        return Ok(());
    }
    let (socket, caller) = (socket.clone(), caller.clone());
    std::thread::Builder::new().name("caller".to_owned()).spawn(move || {
        let Some(gone) = caller.watch() else { return };
        while let Err(nix::errno::Errno::EINTR) = nix::poll::poll(&mut [gone.clone()], nix::poll::PollTimeout::NONE) {}
        socket.shutdown(Shutdown::Both);
    })?;
    Ok(())
}

/// Sends head and body. A stream goes in a thread of its own: the answer may come before its end.
fn send(socket: &mut Socket, head: String, body: Body) -> io::Result<()> {
    match body {
        Body::Empty => socket.write_all(head.as_bytes()),
        Body::Bytes(bytes) => socket.write_pieces(&[head.as_bytes(), &bytes]),
        Body::Folder(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "a folder is packed before it is sent")),
        Body::Reader(reader) => {
            socket.write_all(head.as_bytes())?;
            let mut socket = socket.clone();
            std::thread::Builder::new().name("upload".to_owned()).spawn(move || {
                if let Err(error) = upload(&mut socket, reader) {
                    log::debug!("the upload ended: {error}");
                    // Without its last chunk the daemon knows that something is missing.
                    socket.shutdown(Shutdown::Write);
                }
            })?;
            Ok(())
        }
    }
}

fn upload(socket: &mut Socket, mut reader: Box<dyn Read + Send>) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return socket.write_all(chunks::LAST),
            Ok(length) => {
                socket.write_pieces(&[size_line(length).as_bytes(), &buffer[..length], b"\r\n"])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The head of the final answer.
fn answer_head(input: &mut Input) -> Result<ResponseHead> {
    loop {
        let bytes = input.head(None)?.map_err(|bad| anyhow!(bad.why))?;
        let bytes = bytes.ok_or_else(|| anyhow!("the connection ended without an answer"))?;
        let head = head::response(&bytes).map_err(|bad| anyhow!(bad.why))?;
        if head.status >= 200 {
            return Ok(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What comes of these answers to a ping by HEAD and by GET.
    fn agreed(answers: [&str; 2]) -> ApiVersion {
        let dir = std::env::temp_dir().join(format!("dhow-agree-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let agreed = std::thread::scope(|scope| {
            scope.spawn(|| {
                for (answer, method) in answers.iter().zip(["HEAD", "GET"]) {
                    let Ok((mut client, _)) = listener.accept() else { return };
                    let mut asked = Vec::new();
                    let mut byte = [0];
                    while !asked.ends_with(b"\r\n\r\n") {
                        match client.read(&mut byte) {
                            Ok(1) => asked.push(byte[0]),
                            // Who looks whether the listener is still needed says nothing.
                            _ => return,
                        }
                    }
                    assert!(asked.starts_with(format!("{method} /_ping HTTP/1.1\r\n").as_bytes()));
                    let head = format!("HTTP/1.1 {answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
                    client.write_all(head.as_bytes()).unwrap();
                }
            });
            let agreed = Remote::new(Address::Unix(path.clone()), None, None).agree().unwrap();
            drop(UnixStream::connect(&path));
            agreed
        });
        std::fs::remove_dir_all(&dir).unwrap();
        agreed
    }

    #[test]
    fn the_newest_version_that_both_speak() {
        let version = |text: &str| ApiVersion::parse(text).unwrap();
        for (answers, wanted) in [
            (["200 OK\r\nApi-Version: 1.41\r\n", ""], version("1.41")),
            (["200 OK\r\nApi-Version: 1.99\r\n", ""], version::NEWEST),
            (["200 OK\r\nApi-Version: 1.20\r\n", ""], version("1.20")),
            // Old ones know no HEAD, and older ones do not say.
            (["404 Not Found\r\n", "200 OK\r\nApi-Version: 1.30\r\n"], version("1.30")),
            (["404 Not Found\r\n", "200 OK\r\n"], version::OLDEST),
            (["200 OK\r\nApi-Version: many\r\n", "200 OK\r\n"], version::OLDEST),
        ] {
            assert_eq!(agreed(answers), wanted, "{answers:?}");
        }
    }
}
