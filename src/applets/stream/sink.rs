//! One of our outputs, written to without ever blocking on its reader, so that signals and the other streams are
//! served meanwhile.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A pipe that poll calls writable takes this much without blocking (PIPE_BUF).
const SURE: usize = 4096;

/// An output and the way in which it is written without blocking. The descriptor that we were given keeps its mode:
/// the shell and others share it.
pub struct Sink {
    fd: OwnedFd,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// A file: a write does not wait for anybody.
    Plain,
    /// A socket: each call says that it does not wait.
    Send,
    /// A pipe or terminal, opened once more for ourselves.
    Reopened,
    /// One that could not be opened: asked each time, and then given little.
    Asked,
}

impl Sink {
    /// Errors: those of fstat(2) and of duplicating the descriptor.
    pub fn open(given: BorrowedFd) -> std::io::Result<Sink> {
        let mode = SFlag::from_bits_truncate(fstat(given)?.st_mode) & SFlag::S_IFMT;
        if mode == SFlag::S_IFIFO || mode == SFlag::S_IFCHR {
            let path = format!("/proc/self/fd/{}", given.as_raw_fd());
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            if let Ok(fd) = open(path.as_str(), flags, Mode::empty()) {
                return Ok(Sink { fd, way: Way::Reopened });
            }
        }
        let way = match mode {
            SFlag::S_IFSOCK => Way::Send,
            SFlag::S_IFIFO | SFlag::S_IFCHR => Way::Asked,
            _ => Way::Plain,
        };
        Ok(Sink { fd: given.try_clone_to_owned()?, way })
    }

    /// Writes some of it. EAGAIN: poll for it first.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.way {
            Way::Plain | Way::Reopened => write(&self.fd, bytes),
            Way::Send => send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
            Way::Asked => {
                let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::ZERO)? {
                    0 => Err(Errno::EAGAIN),
                    _ => write(&self.fd, &bytes[..bytes.len().min(SURE)]),
                }
            }
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
