//! Where a daemon is: `unix:///run/docker.sock`, `tcp://host:2376`, `ssh://user@host`.

use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::PathBuf;

/// A daemon's address.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
    Ssh(Ssh),
    /// Sockets that were opened for us by who started us; all, or one by its number.
    Inherited(Option<i32>),
}

/// The other end of a `docker system dial-stdio`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ssh {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    /// The daemon's socket there, if not the usual one.
    pub path: Option<String>,
}

/// Docker's ports, without and with TLS.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

impl Address {
    /// Reads what a user writes after `-H`; `tls` gives a port that is missing.
    pub fn parse(text: &str, tls: bool) -> Result<Address> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if text.starts_with('/') => ("unix", text),
            None => ("tcp", text),
        };
        let parsed = match scheme {
            "unix" if rest.is_empty() => Ok(Address::Unix("/run/docker.sock".into())),
            "unix" => Ok(Address::Unix(rest.into())),
            "fd" => match rest {
                "" | "*" => Ok(Address::Inherited(None)),
                number => number.parse().map(Some).map(Address::Inherited).context("no number"),
            },
            "tcp" | "http" | "https" => tcp(rest, if tls || scheme == "https" { TLS_PORT } else { PLAIN_PORT }),
            "ssh" => ssh(rest),
            _ => bail!("invalid host {text:?}: the protocol is none of unix, tcp, ssh, fd"),
        };
        parsed.with_context(|| format!("invalid host {text:?}"))
    }
}

fn tcp(rest: &str, port: u16) -> Result<Address> {
    let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest), Some(port))?;
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
    Ok(Address::Tcp(host, port.unwrap_or_default()))
}

fn ssh(rest: &str) -> Result<Address> {
    let (place, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (user, place) = match place.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, place),
    };
    if user.as_ref().is_some_and(|user| user.contains(':')) {
        bail!("plain-text password is not supported");
    }
    let (host, port) = host_and_port(place, None)?;
    // It becomes an argument of ssh, which would take such for a flag.
    if host.is_empty() || host.starts_with('-') || user.as_ref().is_some_and(|user| user.starts_with('-')) {
        bail!("no host name");
    }
    let path = (!path.is_empty() && path != "/").then(|| path.to_owned());
    Ok(Address::Ssh(Ssh { user, host, port, path }))
}

/// `host`, `host:1`, `[::1]:1`.
fn host_and_port(text: &str, default: Option<u16>) -> Result<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None if text.matches(':').count() > 1 => bail!("an IPv6 address stands in brackets"),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.contains('/') {
        bail!("a path has no place in it");
    }
    let port = match port {
        None | Some("") => default,
        Some(port) => Some(port.parse().context("no port")?),
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Address::Ssh(ssh) => {
                let (user, port, path) = (&ssh.user, ssh.port, ssh.path.as_deref().unwrap_or_default());
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{user}{}{port}{path}", ssh.host)
            }
            Address::Inherited(None) => f.write_str("fd://"),
            Address::Inherited(Some(number)) => write!(f, "fd://{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table = [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("unix://", "unix:///run/docker.sock"),
            ("/run/x.sock", "unix:///run/x.sock"),
            ("tcp://127.0.0.1", "tcp://127.0.0.1:2375"),
            ("tcp://", "tcp://127.0.0.1:2375"),
            (":1234", "tcp://127.0.0.1:1234"),
            ("tcp://[::1]:1/", "tcp://[::1]:1"),
            ("host", "tcp://host:2375"),
            ("https://host", "tcp://host:2376"),
            ("ssh://me@host:22/run/x.sock", "ssh://me@host:22/run/x.sock"),
            ("ssh://host", "ssh://host"),
            ("fd://", "fd://"),
            ("fd://4", "fd://4"),
        ];
        for (text, expected) in table {
            assert_eq!(Address::parse(text, false).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(Address::parse("tcp://x", true).unwrap(), Address::Tcp("x".into(), 2376));
        for bad in
            ["npipe://x", "tcp://x:y", "tcp://x:70000", "tcp://::1", "tcp://x/y", "ssh://", "ssh://-oX", "fd://x"]
        {
            assert!(Address::parse(bad, false).is_err(), "{bad}");
        }
        assert!(Address::parse("ssh://a:b@host", false).is_err());
        assert!(Address::parse("ssh://-a@host", false).is_err());
    }
}
