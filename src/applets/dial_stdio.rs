//! `dhow system dial-stdio`: a connection to the daemon on stdin and stdout, for who comes by ssh.

use super::{Command, Context, host};
use anyhow::{Context as _, Result};
use argh::{ArgsInfo, FromArgs};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Join stdin and stdout to a connection to the daemon
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct DialStdio {}

impl Command for DialStdio {
    fn run(self, context: &Context) -> Result<u8> {
        let wish = host::Wish { always: true, ..context.wish.clone() };
        let daemon = host::choose(&wish, &host::context_name(&wish)?, &context.place)?.context("no daemon is meant")?;
        let connection = Arc::new(daemon.connect()?);
        let sending = Arc::clone(&connection);
        // Its end does not matter: who has said all still listens, and who left closes stdout too.
        std::thread::spawn(move || forward(&sending));
        let mut from = std::fs::File::from(connection.try_clone().context("copy a descriptor")?);
        let (mut buffer, mut out) = (vec![0; 64 << 10], stdout().lock());
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(0),
                Ok(length) => out.write_all(&buffer[..length]).and_then(|()| out.flush()).context("write to stdout")?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(0),
                Err(error) => return Err(error).context("read from the daemon"),
            }
        }
    }
}

/// Passes stdin on, and its end as a half-close.
fn forward(to: &OwnedFd) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = stdin().lock().read(&mut buffer) {
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            match send(to.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
    let _ = shutdown(to.as_raw_fd(), Shutdown::Write);
}
