//! Two stream sockets joined: each byte goes over, and the end of each direction by itself.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// As much as a pipe holds, and as much as is asked for at first: most have less to say.
const ROOM: usize = 64 << 10;
const FIRST: usize = 4 << 10;

/// Joins `near` and `far` until neither has more to say to the other. `ahead` has been read from `near` already.
pub fn splice(near: BorrowedFd, ahead: Vec<u8>, far: BorrowedFd) -> io::Result<()> {
    let mut out = Way { from: near, to: far, end: ahead.len(), buffer: ahead, start: 0, state: State::Open };
    let mut back = Way { from: far, to: near, buffer: Vec::new(), start: 0, end: 0, state: State::Open };
    // Whether a side was seen to be gone altogether: polled for nothing, it would say so over and over.
    let mut gone = [false; 2];
    loop {
        out.run()?;
        back.run()?;
        if out.state == State::Over && back.state == State::Over {
            return Ok(());
        }
        let sides = [(near, out.reads() | back.writes()), (far, back.reads() | out.writes())];
        let asked = (0..2).filter(|side| !gone[*side] || !sides[*side].1.is_empty());
        let asked: Vec<usize> = asked.collect();
        let mut fds: Vec<PollFd> = asked.iter().map(|side| PollFd::new(sides[*side].0, sides[*side].1)).collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (side, fd) in asked.into_iter().zip(&fds) {
            let ended = PollFlags::POLLHUP | PollFlags::POLLERR;
            gone[side] |= fd.revents().is_some_and(|events| events.intersects(ended));
        }
        // It takes nothing any more; what it said before is still read, up to its end.
        if gone[0] {
            back.give_up();
        }
        if gone[1] {
            out.give_up();
        }
    }
}

/// One direction.
struct Way<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    /// Its source has ended; what was read is still on its way.
    Ending,
    Over,
}

impl Way<'_> {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn reads(&self) -> PollFlags {
        if self.state == State::Open && self.is_empty() { PollFlags::POLLIN } else { PollFlags::empty() }
    }

    fn writes(&self) -> PollFlags {
        if self.is_empty() || self.state == State::Over { PollFlags::empty() } else { PollFlags::POLLOUT }
    }

    /// Moves what can be moved without waiting.
    fn run(&mut self) -> io::Result<()> {
        loop {
            while !self.is_empty() && self.state != State::Over {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                match send(self.to.as_raw_fd(), &self.buffer[self.start..self.end], flags) {
                    Ok(length) => self.start += length,
                    Err(Errno::EAGAIN) => return Ok(()),
                    Err(Errno::EINTR) => {}
                    Err(Errno::EPIPE | Errno::ECONNRESET) => self.give_up(),
                    Err(error) => return Err(error.into()),
                }
            }
            match self.state {
                State::Over => return Ok(()),
                State::Ending => {
                    // Closed by the other side already: the same.
                    let _ = shutdown(self.to.as_raw_fd(), Shutdown::Write);
                    self.state = State::Over;
                    return Ok(());
                }
                State::Open => {}
            }
            // What came filled it: more is to come.
            let wanted = if self.end < FIRST { FIRST } else { ROOM };
            if self.buffer.len() < wanted {
                self.buffer = vec![0; wanted];
            }
            (self.start, self.end) = (0, 0);
            match recv(self.from.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => self.state = State::Ending,
                Ok(length) => self.end = length,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Nobody takes it any more.
    fn give_up(&mut self) {
        (self.start, self.end) = (0, 0);
        self.state = State::Over;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    /// A client and a container, joined.
    fn joined(ahead: &[u8]) -> (UnixStream, UnixStream, thread::JoinHandle<()>) {
        let (client, near) = UnixStream::pair().unwrap();
        let (container, far) = UnixStream::pair().unwrap();
        let ahead = ahead.to_vec();
        let joint = thread::spawn(move || splice(near.as_fd(), ahead, far.as_fd()).unwrap());
        (client, container, joint)
    }

    fn rest(mut from: &UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn each_direction_ends_by_itself() {
        let (mut client, mut container, joint) = joined(b"ahead ");
        client.write_all(b"input").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(rest(&container), b"ahead input");
        container.write_all(b"output").unwrap();
        drop(container);
        assert_eq!(rest(&client), b"output");
        joint.join().unwrap();

        let (mut client, container, joint) = joined(b"");
        container.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(rest(&client), b"");
        client.write_all(b"late").unwrap();
        drop(client);
        assert_eq!(rest(&container), b"late");
        joint.join().unwrap();
    }

    #[test]
    fn who_leaves_ends_it() {
        let (client, container, joint) = joined(b"");
        drop(client);
        assert_eq!(rest(&container), b"");
        joint.join().unwrap();
        let (client, mut container, joint) = joined(b"");
        container.write_all(b"last").unwrap();
        drop(container);
        assert_eq!(rest(&client), b"last");
        joint.join().unwrap();
    }

    #[test]
    fn many_bytes_both_ways_at_once() {
        let (client, container, joint) = joined(b"");
        let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at / 7) as u8).collect();
        let send = |to: &UnixStream| {
            let (mut to, bytes) = (to.try_clone().unwrap(), bytes.clone());
            thread::spawn(move || {
                to.write_all(&bytes).unwrap();
                to.shutdown(std::net::Shutdown::Write).unwrap();
            })
        };
        let senders = [send(&client), send(&container)];
        let back = {
            let client = client.try_clone().unwrap();
            thread::spawn(move || rest(&client))
        };
        assert!(rest(&container) == bytes && back.join().unwrap() == bytes);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        joint.join().unwrap();
    }
}
