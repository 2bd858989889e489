//! A request and its answer, whatever carries them: HTTP, or a call in this process.

use crate::api::version::{self, ApiVersion};
use crate::order::Map;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// One API request. `path` has no version prefix and no query; both are parsed away where it enters.
pub struct Request {
    /// In capitals; empty for one that nobody knows.
    pub method: &'static str,
    /// Which API is spoken: what older ones do otherwise is decided by it.
    pub version: ApiVersion,
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub caller: Caller,
    pub given: Given,
}

/// What a build may use where it lies. Only a caller in this process has it.
#[derive(Default)]
pub struct Given {
    /// Sockets of ssh agents, by id.
    pub agents: Map<String, PathBuf>,
    /// Folders that it takes files from under these names.
    pub folders: Vec<(String, OwnedFd)>,
}

/// Who asked, as far as that one may go away before all is answered.
#[derive(Clone, Default)]
pub struct Caller(Option<Arc<OwnedFd>>);

impl Caller {
    /// One at the other end of a socket.
    pub fn at(socket: Arc<OwnedFd>) -> Caller {
        Caller(Some(socket))
    }

    /// What an answer that waits in silence polls beside what it waits for: it is ready once the caller has gone.
    /// `None` for a caller in this process.
    pub fn watch(&self) -> Option<PollFd<'_>> {
        // Not POLLIN: the next request may have come already.
        let gone = PollFlags::from_bits_retain(libc::POLLRDHUP);
        self.0.as_ref().map(|socket| PollFd::new(socket.as_fd(), gone))
    }

    /// Hangs up on it: from now on it has gone.
    pub fn dismiss(&self) {
        if let Some(socket) = &self.0 {
            // One that has gone already cannot be sent away.
            let _ = nix::sys::socket::shutdown(socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
    }

    pub fn has_gone(&self) -> bool {
        self.watch().is_some_and(|watch| matches!(poll(&mut [watch], PollTimeout::ZERO), Ok(1)))
    }
}

/// What a request carries.
pub enum Body {
    Empty,
    /// What the client of this process wrote.
    Bytes(Vec<u8>),
    Reader(Box<dyn Read + Send>),
    /// The files of a build where they lie. Only a caller in this process has it.
    Folder(Folder),
}

/// See [`Body::Folder`].
pub struct Folder {
    pub dir: OwnedFd,
    /// The Dockerfile's name and text, wherever it lies.
    pub dockerfile: (String, Vec<u8>),
    /// What is to be ignored, where that is not said in the folder.
    pub ignore: Option<Vec<u8>>,
}

/// The answer to a [`Request`].
pub struct Response {
    pub status: u16,
    /// What the answer says of itself beside its length: a `Content-Type` where it is not that of its body's kind.
    pub headers: Vec<(&'static str, String)>,
    pub body: Reply,
}

impl Response {
    pub fn new(status: u16, body: Reply) -> Response {
        Response { status, headers: vec![], body }
    }

    /// The same answer with one header more.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }
}

/// Writes a streamed answer into the sink that the transport gives it: the progress of a pull, logs, the
/// exit code of a wait. It runs after the status line has gone out, so it reports its own errors in the stream.
pub type Producer = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send>;

/// What a response carries.
pub enum Reply {
    Empty,
    Json(Vec<u8>),
    /// Streamed by the producer; its sink flushes at every write. A `flush` of the sink is an error once the caller has
    /// gone, so that a producer with nothing to write can ask; one that waits long polls [`Caller::watch`].
    Stream(Producer),
    /// The connection now belongs to a descriptor: attach and exec. `framed`: multiplexed frames
    /// (`[stream 0 0 0][length, 4 bytes big endian]`) unless the container has a terminal; the other way raw stdin bytes,
    /// where a half-close ends stdin.
    Upgraded {
        framed: bool,
        join: Joining,
    },
}

/// Gives the connection to a container's streams, after the head of the answer has gone out: some clients lose what
/// comes in one piece with it, so what runs is started only then. An error is told in the stream.
pub type Joining = Box<dyn FnOnce() -> anyhow::Result<OwnedFd> + Send>;

impl Request {
    /// A request of the newest API from this process, without query, headers and body.
    pub fn new(method: &'static str, path: impl Into<String>) -> Request {
        Request {
            method,
            version: version::NEWEST,
            path: path.into(),
            query: vec![],
            headers: vec![],
            body: Body::Empty,
            caller: Caller::default(),
            given: Given::default(),
        }
    }

    /// The first value of a query key, as Go has it.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A query key as Docker reads booleans: absent, "", 0, no, false and none are false, all else is true.
    pub fn flag(&self, key: &str) -> bool {
        let value = self.query(key).unwrap_or("").trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The first header of that name, case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}
