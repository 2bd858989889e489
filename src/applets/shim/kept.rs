//! What a shim holds of networks for as long as its container is to come back: the namespace, the ports of the host, and
//! the connection to the resolver. Descriptors, passed from face to face.

use crate::sys::process;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The words of a handover that name them, one descriptor each.
pub const NAMESPACE: &str = "netns";
pub const PORT: &str = "port";
pub const RESOLVER: &str = "resolver";

#[derive(Default)]
pub struct Kept {
    /// Of a container that had networks before.
    pub namespace: Option<OwnedFd>,
    pub ports: Vec<OwnedFd>,
    /// It ends with the resolver, and says to that one when we have.
    pub resolver: Option<OwnedFd>,
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
        }
    }

    /// Adds the words for the next face, which finds the descriptors open.
    pub fn hand_over(&self, words: &mut Vec<String>) -> io::Result<()> {
        let named = self.namespace.iter().map(|fd| (NAMESPACE, fd)).chain(self.ports.iter().map(|fd| (PORT, fd)));
        let named = named.chain(self.resolver.iter().map(|fd| (RESOLVER, fd)));
        for (name, fd) in named {
            process::set_inherit(fd.as_fd(), true)?;
            words.push(format!("{name}={}", fd.as_raw_fd()));
        }
        Ok(())
    }
}
