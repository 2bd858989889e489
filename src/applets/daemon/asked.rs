//! What the daemon is to do: flags and configuration together.

use super::Daemon;
use crate::api::http::address::Address;
use crate::api::http::tls::{self, Files};
use crate::applets::contexts;
use crate::engine::{Settings, rootless};
use crate::log::Level;
use anyhow::{Result, bail};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The daemon's own settings, from wherever they came.
pub struct Asked {
    pub hosts: Vec<Address>,
    /// A socket that is served too, unless another daemon does.
    pub beside: Option<PathBuf>,
    pub group: Option<String>,
    /// For what comes by TCP.
    pub tls: Option<tls::Server>,
    /// Clients of TCP show who they are.
    pub verify: bool,
    /// Those who do not may come from elsewhere.
    pub insecure: bool,
    pub pidfile: Option<PathBuf>,
    pub level: Level,
}

/// Where Docker's clients look first.
const DOCKERS: &str = "/run/docker.sock";

impl Asked {
    pub fn of(flags: &Daemon, settings: &Settings, run: &Path) -> Result<Asked> {
        let texts = if flags.host.is_empty() { &settings.hosts } else { &flags.host };
        let tls = tls_of(flags, settings)?;
        let mut hosts = Vec::new();
        for text in texts {
            let address = Address::parse(text, tls.is_some())?;
            match &address {
                Address::Ssh(_) => bail!("cannot listen on {address}: ssh is a client's way"),
                _ => hosts.push(address),
            }
        }
        let usual = match rootless::is_inside() {
            true => rootless::runtime_dir().map(|dir| dir.join("docker.sock")),
            false => Some(PathBuf::from(DOCKERS)),
        };
        let beside = usual.filter(|_| hosts.is_empty());
        if hosts.is_empty() {
            hosts.push(Address::Unix(run.join("dhow.sock")));
        }
        let level = level(flags, settings)?;
        let group = flags.group.clone().or_else(|| settings.group.clone());
        let pidfile = flags.pidfile.clone().or_else(|| settings.pidfile.clone());
        let verify = verifies(flags, settings);
        Ok(Asked { hosts, beside, group, tls, verify, insecure: flags.allow_insecure_tcp, pidfile, level })
    }

    /// Refuses to give this machine to whoever reaches a port.
    pub fn check_tcp(&self, address: IpAddr) -> Result<()> {
        if self.verify || self.insecure || address.is_loopback() {
            return Ok(());
        }
        let how = if self.tls.is_some() { "TLS without --tlsverify" } else { "plain TCP" };
        bail!(
            "{how} on {address} would give this machine to everybody who reaches that port: use --tlsverify, or say \
             --allow-insecure-tcp"
        )
    }
}

/// How much is to be said.
pub fn level(flags: &Daemon, settings: &Settings) -> Result<Level> {
    Ok(match flags.log_level.as_deref().or(settings.log_level.as_deref()) {
        _ if settings.debug => Level::Debug,
        None | Some("info") => Level::Info,
        Some("debug") => Level::Debug,
        Some("warn" | "warning") => Level::Warn,
        Some("error" | "fatal") => Level::Error,
        Some(other) => bail!("invalid log level {other:?}: it is none of debug, info, warn, error, fatal"),
    })
}

fn verifies(flags: &Daemon, settings: &Settings) -> bool {
    flags.tlsverify || settings.tlsverify == Some(true)
}

/// As dockerd: what stands in both places is an error, so that nobody has to guess which one holds.
pub fn refuse_both(flags: &Daemon, settings: &Settings) -> Result<()> {
    let both = [
        ("hosts", !flags.host.is_empty() && !settings.hosts.is_empty()),
        ("group", flags.group.is_some() && settings.group.is_some()),
        ("pidfile", flags.pidfile.is_some() && settings.pidfile.is_some()),
        ("log-level", flags.log_level.is_some() && settings.log_level.is_some()),
        ("debug", flags.debug && settings.debug),
        ("tls", flags.tls && settings.tls.is_some()),
        ("tlsverify", flags.tlsverify && settings.tlsverify.is_some()),
        ("tlscacert", flags.tlscacert.is_some() && settings.tlscacert.is_some()),
        ("tlscert", flags.tlscert.is_some() && settings.tlscert.is_some()),
        ("tlskey", flags.tlskey.is_some() && settings.tlskey.is_some()),
        ("data-root", flags.data_root.is_some() && settings.data_root.is_some()),
        ("userns-remap", flags.userns_remap.is_some() && !settings.userns_remap.is_empty()),
        ("selinux-enabled", flags.selinux_enabled && settings.selinux_enabled.is_some()),
        ("cdi-spec-dirs", !flags.cdi_spec_dir.is_empty() && settings.cdi_spec_dirs.is_some()),
        ("exec-root", flags.exec_root.is_some() && settings.exec_root.is_some()),
    ];
    let mut names: Vec<&str> = both.into_iter().filter(|(_, both)| *both).map(|(name, _)| name).collect();
    names.extend(super::networks::both(flags, settings));
    names.extend(super::dockers::both(flags, settings));
    if !names.is_empty() {
        bail!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            names.join(", ")
        );
    }
    Ok(())
}

fn tls_of(flags: &Daemon, settings: &Settings) -> Result<Option<tls::Server>> {
    let verify = verifies(flags, settings);
    // As dockerd: the key alone, whatever it says, turns TLS on.
    if !verify && !flags.tls && settings.tls != Some(true) && settings.tlsverify.is_none() {
        return Ok(None);
    }
    let dir = contexts::config_dir();
    let file = |flag: &Option<PathBuf>, set: &Option<PathBuf>, name: &str| {
        let usual = || dir.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists());
        flag.clone().or_else(|| set.clone()).or_else(usual)
    };
    let files = Files {
        ca: file(&flags.tlscacert, &settings.tlscacert, "ca.pem"),
        cert: file(&flags.tlscert, &settings.tlscert, "cert.pem"),
        key: file(&flags.tlskey, &settings.tlskey, "key.pem"),
    };
    tls::Server::new(&files, verify).map(Some)
}
