//! A connected stream socket of any family.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, MsgFlags, Shutdown};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Shared: who reads, who writes and who only wants to know whether it lives each have one.
#[derive(Clone)]
pub struct Socket(Arc<OwnedFd>);

impl Socket {
    pub fn new(fd: impl Into<OwnedFd>) -> Socket {
        Socket(Arc::new(fd.into()))
    }

    pub fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }

    /// The descriptor itself where nobody else has it, else a copy.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match Arc::try_unwrap(self.0) {
            Ok(fd) => Ok(fd),
            Err(shared) => shared.try_clone(),
        }
    }

    /// Waits until there is something to read; false when the time is over.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.map_or(PollTimeout::NONE, |it| PollTimeout::try_from(it).unwrap_or(PollTimeout::MAX));
        loop {
            match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(count) => return Ok(count > 0),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Copies what has come into `buffer`, and leaves it to be read. Blocks while there is nothing.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match socket::recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_PEEK) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Ends our direction, or both. One that has ended already is as it should be.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = socket::shutdown(self.0.as_raw_fd(), how);
    }

    /// Writes some pieces as one.
    pub fn write_pieces(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<io::IoSlice> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
        let mut left = slices.as_mut_slice();
        // Empty ones at the start are passed over too.
        io::IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match nix::sys::uio::writev(&*self.0, left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => io::IoSlice::advance_slices(&mut left, written),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&*self.0, buffer)?)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(socket::send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
