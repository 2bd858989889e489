//! What the service manager is told of us (sd_notify(3)), where there is one.

use crate::log;
use nix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// All sockets listen: who starts after us may ask us.
pub fn ready() {
    tell("READY=1");
}

/// The configuration is read again; [`ready`] ends that. systemd wants to know when it began, in microseconds.
pub fn reloading() {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(now) => {
            let micros = i128::from(now.tv_sec()) * 1_000_000 + i128::from(now.tv_nsec()) / 1000;
            tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        }
        Err(error) => log::warning!("ask for the time: {error}"),
    }
}

pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(what: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = address(&name).and_then(|address| UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address));
    if let Err(error) = sent {
        log::warning!("tell the service manager {what:?} at {}: {error}", name.display());
    }
}

/// A path, or with `@` in front a name that no file has (unix(7)).
fn address(name: &OsString) -> std::io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    }
}
