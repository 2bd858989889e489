//! A container's streams and its terminal, as a client gets them.

use super::{Doing, Now, now};
use crate::api::Refusal;
use crate::engine::protocol::{Message, Op, STDERR, STDIN, STDOUT};
use crate::engine::record::{self, Record};
use crate::engine::shim::{self, Whose};
use crate::engine::store::Store;
use crate::engine::{events, exec, logs};
use crate::log;
use anyhow::{Context, Result, bail};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a resize waits for an exec to start.
const STARTING: Duration = Duration::from_secs(10);

/// What a client attaches to.
pub struct Attach {
    /// `protocol::STDIN` and so on.
    pub streams: i32,
    pub keys: Vec<u8>,
    /// With what is in the log, first.
    pub logs: bool,
    /// And then what comes.
    pub follow: bool,
}

/// Attaches: a connection that carries the container's streams. One that is just ending is attached to in the life after.
/// `name` is what the user calls it.
pub fn attach(store: &Store, id: &str, name: &str, what: &Attach) -> Result<OwnedFd> {
    for _ in 0..super::TRIES {
        let Now { record, doing, .. } = now(store, id)?;
        match doing {
            Doing::Paused => {
                bail!(Refusal::Conflict(format!("container {name} is paused, unpause the container before attach")))
            }
            Doing::Restarting => {
                bail!(Refusal::Conflict(format!("container {name} is restarting, wait until the container is running")))
            }
            Doing::Ending | Doing::Stuck => bail!(Refusal::Conflict(format!("container {id} is not running"))),
            _ => {}
        }
        if what.logs {
            logs::check_driver(&record.host_config.log_config.r#type)?;
        }
        let stream = match what.follow {
            true => {
                let message = Message::new(Op::Attach, what.streams, what.logs as i32);
                match shim::begin(store, &Whose::container(id), doing.is_alive(), message, &what.keys) {
                    Ok(stream) => {
                        if what.streams & STDIN == 0 {
                            let _ = stream.shutdown(std::net::Shutdown::Write);
                        }
                        stream
                    }
                    Err(error) if shim::is_parted(&error) => {
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            false => said(store, &record, what)?,
        };
        events::container(store, &record, "attach", &[]);
        return Ok(stream.into());
    }
    bail!("container {id} does not come to rest")
}

/// A connection that brings what is in the log now, or nothing, and ends.
fn said(store: &Store, record: &Record, what: &Attach) -> Result<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair().context("make a pair of sockets")?;
    if what.logs {
        let path = record.log_path(store);
        let options = logs::Options {
            stdout: what.streams & STDOUT != 0,
            stderr: what.streams & STDERR != 0,
            tty: record.config.tty,
            ..logs::Options::default()
        };
        std::thread::spawn(move || {
            if let Err(error) = logs::stream(&path, &options, &mut theirs, &|| logs::Life::Ended) {
                log::debug!("{error:#}");
            }
        });
    }
    Ok(ours)
}

/// Sets the size of a terminal; of an exec's as soon as there is one.
pub fn resize(store: &Store, whose: &Whose, rows: u16, columns: u16) -> Result<()> {
    let message = Message::new(Op::Resize, rows.into(), columns.into());
    match &whose.exec {
        None => {
            if !record::held(store, &whose.container)?.init {
                bail!(Refusal::Conflict(format!("container {} is not running", whose.container)));
            }
            shim::begin(store, whose, true, message, &[])?;
        }
        Some(id) => {
            // Who starts one is told that it is attached before there is a shim, and may resize at once.
            let until = Instant::now() + STARTING;
            let ended = || exec::has_ended(store, &whose.container, id);
            let missing = || Refusal::NotFound(format!("No such exec instance: {id}"));
            let mut stream = loop {
                if let Some(stream) = shim::connect(store, whose)? {
                    break stream;
                }
                if ended()? {
                    bail!(missing());
                }
                if Instant::now() >= until {
                    bail!("timeout waiting for exec session ready");
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            match shim::tell(&mut stream, message, &[]) {
                Err(_) if ended()? => bail!(missing()),
                told => told?,
            }
        }
    }
    if whose.exec.is_none()
        && record::held(store, &whose.container)?.init
        && let Some(record) = Record::load(store, &whose.container)?
    {
        let (height, width) = (rows.to_string(), columns.to_string());
        events::container(store, &record, "resize", &[("height", &height), ("width", &width)]);
    }
    Ok(())
}
