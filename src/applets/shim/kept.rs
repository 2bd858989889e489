//! What a shim holds of networks for as long as its container is to come back: the namespace, the ports of the host, and
//! the connection to the resolver. Descriptors, passed from face to face.

use crate::net::port;
use crate::sys::process;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The words of a handover that name them, one descriptor each.
pub const NAMESPACE: &str = "netns";
pub const PORT: &str = "port";
pub const RESOLVER: &str = "resolver";
pub const GATEWAY: &str = "gateway";

/// `rules=1`.
const RULES: &str = "rules";

/// A port that no rule leads to the container: `serve=FD,PROTOCOL,ADDRESS`.
pub const SERVE: &str = "serve";

#[derive(Default)]
pub struct Kept {
    /// Of a container that had networks before.
    pub namespace: Option<OwnedFd>,
    pub ports: Vec<OwnedFd>,
    /// It ends with the resolver, and says to that one when we have.
    pub resolver: Option<OwnedFd>,
    pub served: Vec<Served>,
    /// Rules keep its networks apart and lead to it: it watches over them.
    pub rules: bool,
    /// An ordinary user's network has a way out for as long as it is open.
    pub gateway: Option<OwnedFd>,
}

pub struct Served {
    pub socket: OwnedFd,
    /// `IPPROTO_*`.
    pub protocol: u8,
    pub host: SocketAddr,
}

impl Served {
    /// Takes over the descriptor that the value of a word names.
    pub fn parse(text: &str) -> Option<Served> {
        let mut parts = text.splitn(3, ',');
        let socket = process::adopt(parts.next()?.parse().ok()?).ok()?;
        process::set_inherit(socket.as_fd(), false).ok()?;
        Some(Served { socket, protocol: parts.next()?.parse().ok()?, host: parts.next()?.parse().ok()? })
    }

    /// One that was handed over: which it is, the kernel tells.
    fn of(socket: OwnedFd) -> io::Result<Served> {
        let (protocol, host) = (port::protocol_of(&socket)?, port::address_of(&socket)?);
        Ok(Served { socket, protocol, host })
    }

    pub fn word(&self) -> String {
        format!("{SERVE}={},{},{}", self.socket.as_raw_fd(), self.protocol, self.host)
    }
}

impl Kept {
    pub fn take_over(pairs: &[(&str, &str)]) -> Kept {
        let fd = |text: &str| {
            let fd = process::adopt(text.parse().ok()?).ok()?;
            process::set_inherit(fd.as_fd(), false).ok()?;
            Some(fd)
        };
        let of = |name: &'static str| pairs.iter().filter(move |(key, _)| *key == name);
        Kept {
            namespace: of(NAMESPACE).find_map(|(_, text)| fd(text)),
            ports: of(PORT).filter_map(|(_, text)| fd(text)).collect(),
            resolver: of(RESOLVER).find_map(|(_, text)| fd(text)),
            rules: of(RULES).next().is_some(),
            served: of(SERVE).filter_map(|(_, text)| Served::parse(text)).collect(),
            gateway: of(GATEWAY).find_map(|(_, text)| fd(text)),
        }
    }

    /// Takes more ports, of which the first are reserved and the others served. Gives the words that name them.
    pub fn take(&mut self, ports: Vec<OwnedFd>, reserved: usize) -> io::Result<Vec<String>> {
        let mut words = Vec::new();
        for (at, socket) in ports.into_iter().enumerate() {
            if at < reserved {
                words.push(format!("{PORT}={}", socket.as_raw_fd()));
                self.ports.push(socket);
            } else {
                let served = Served::of(socket)?;
                words.push(served.word());
                self.served.push(served);
            }
        }
        Ok(words)
    }

    /// Adds the words for the next face, which finds the descriptors open.
    pub fn hand_over(&self, words: &mut Vec<String>) -> io::Result<()> {
        let named = self.namespace.iter().map(|fd| (NAMESPACE, fd)).chain(self.ports.iter().map(|fd| (PORT, fd)));
        let named = named.chain(self.resolver.iter().map(|fd| (RESOLVER, fd)));
        let named = named.chain(self.gateway.iter().map(|fd| (GATEWAY, fd)));
        for (name, fd) in named {
            process::set_inherit(fd.as_fd(), true)?;
            words.push(format!("{name}={}", fd.as_raw_fd()));
        }
        words.extend(self.rules.then(|| format!("{RULES}=1")));
        for served in &self.served {
            process::set_inherit(served.socket.as_fd(), true)?;
            words.push(served.word());
        }
        Ok(())
    }
}
