//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a container.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::networks::{self, Held};
use super::record::Record;
use super::rootless::{self, gateway};
use super::store::Store;
use crate::api::Refusal;
use crate::api::types::HostConfig;
use crate::net::dns;

/// What loopback has in every container.
const LOOPBACK: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// Writes `hosts`, `hostname` and `resolv.conf` into a container's directory. Reads the host's. A container in the
/// network of another one uses that one's files, and gets none.
pub fn write(store: &Store, dir: &Path, record: &Record, held: &Held) -> Result<()> {
    let wants = &record.host_config;
    if wants.network_mode.starts_with("container:") {
        return Ok(());
    }
    let texts = [
        ("hosts", hosts_of(store, record, held)?),
        ("hostname", format!("{}\n", record.config.hostname)),
        ("resolv.conf", resolv_conf_of(record, held)?),
    ];
    for (name, text) in texts {
        let path = dir.join(name);
        // In place, so that who shares the network of this container sees it too. The container's own user reads them.
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&path)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())
        };
        write().with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The whole of /etc/hosts.
pub fn hosts_of(store: &Store, record: &Record, held: &Held) -> Result<String> {
    let chosen = record.publishing.host_gateways.first().copied();
    let gateway = || chosen.map_or_else(|| networks::host_gateway(store, held), Ok);
    let mut text = hosts(&record.host_config, &read("/etc/hosts")?, &gateway)?;
    text += &networks::links::hosts(store, record)?;
    Ok(text + &own_names(record, held))
}

/// What is in /etc/hosts of one that runs has changed. The file is mounted in the container as it is: its content
/// changes, and it stays the same file.
pub fn change_hosts(store: &Store, record: &Record, held: &Held) -> Result<()> {
    let path = record.etc_dir(store).join("hosts");
    fs::write(&path, hosts_of(store, record, held)?).with_context(|| format!("write {}", path.display()))
}

/// The whole of /etc/resolv.conf. On networks of users it names the resolver of ours.
pub fn resolv_conf_of(record: &Record, held: &Held) -> Result<String> {
    let of_host = host_resolv_conf()?;
    Ok(resolv_conf(&record.host_config, &of_host, networks::names::are_resolved(held), &beyond()))
}

/// Whether the resolver inside adds domains to names without a dot, and asks for such as they are at the end only.
pub fn adds_domains(wants: &HostConfig) -> Result<bool> {
    let text = resolv_conf(wants, &host_resolv_conf()?, true, &[]);
    let options = values(&text, "options").last().unwrap_or_default();
    let dots =
        options.split_whitespace().filter_map(|option| option.strip_prefix("ndots:")?.parse::<u32>().ok()).next_back();
    Ok(dots.is_some_and(|dots| dots > 0))
}

/// A container that runs has come to networks, or gone from some. What somebody wrote into the file since stays. It is
/// mounted in the container as it is: its content changes, and it stays the same file.
pub fn change_resolv_conf(store: &Store, record: &Record, before: &Held, now: &Held) -> Result<()> {
    let path = record.etc_dir(store).join("resolv.conf");
    let (old, new) = (resolv_conf_of(record, before)?, resolv_conf_of(record, now)?);
    if old == new || fs::read(&path).is_ok_and(|text| text != old.as_bytes()) {
        return Ok(());
    }
    fs::write(&path, new).with_context(|| format!("write {}", path.display()))
}

/// A file of the host; a missing one is empty.
fn read(path: &str) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("read {path}")),
    }
}

/// Where a resolver of the host's listens on its loopback, that one's upstream servers are what a container can use.
fn host_resolv_conf() -> Result<String> {
    let text = read("/etc/resolv.conf")?;
    let servers: Vec<_> = values(&text, "nameserver").collect();
    if servers == ["127.0.0.53"] {
        let upstream = read("/run/systemd/resolve/resolv.conf")?;
        if !upstream.is_empty() {
            return Ok(upstream);
        }
    }
    Ok(text)
}

/// /etc/hosts. In the host's network it is the host's, unless names were added.
pub fn hosts(wants: &HostConfig, of_host: &str, gateway: &dyn Fn() -> Result<IpAddr>) -> Result<String> {
    let extra = wants.extra_hosts.as_deref().unwrap_or_default();
    if wants.network_mode == "host" && extra.is_empty() {
        return Ok(of_host.to_owned());
    }
    let mut text = LOOPBACK.to_owned();
    for entry in extra {
        let (name, address) = extra_host(entry)?;
        let address = address.map_or_else(gateway, Ok)?;
        text += &format!("{address}\t{name}\n");
    }
    Ok(text)
}

/// A container's own names, at each of its addresses.
pub fn own_names(record: &Record, held: &Held) -> String {
    let config = &record.config;
    // A host name may be the whole of it.
    let full = match config.domainname.as_str() {
        "" => config.hostname.clone(),
        domain => format!("{}.{domain}", config.hostname),
    };
    let names = match full.split_once('.') {
        Some((first, _)) => format!("{full} {first}"),
        None => full,
    };
    let given = held.places.iter().flat_map(|place| place.given());
    given.map(|given| format!("{}\t{names}\n", given.address)).collect()
}

/// Name and address of one `--add-host`; no address is that of the host, as containers see it. The words of the errors
/// are Docker's.
pub fn extra_host(entry: &str) -> Result<(&str, Option<IpAddr>)> {
    let refuse = |text: String| bail!(Refusal::BadParameter(text));
    let Some((name, address)) = entry.split_once(':').filter(|(name, _)| !name.is_empty()) else {
        return refuse(format!("bad format for add-host: {entry:?}"));
    };
    if name.contains(char::is_whitespace) {
        return refuse(format!("bad format for add-host: {entry:?}"));
    }
    if address == "host-gateway" {
        return Ok((name, None));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse() {
        Ok(address) => Ok((name, Some(address))),
        Err(_) => refuse(format!("invalid IP address in add-host: {address:?}")),
    }
}

/// Whom a container on a network asks where its host's servers answer nobody else: Docker's choice.
const PUBLIC: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

fn beyond() -> Vec<String> {
    match rootless::is_inside() {
        // It asks the host's, wherever that listens.
        true => vec![gateway::DNS.to_string()],
        false => PUBLIC.map(str::to_owned).into(),
    }
}

/// /etc/resolv.conf: the host's, where nothing else was asked for. Outside the host's network its loopback answers
/// nobody.
/// `resolved`: ours is asked, which asks those that were given. `beyond`: who is asked where the host's are of no use.
pub fn resolv_conf(wants: &HostConfig, of_host: &str, resolved: bool, beyond: &[String]) -> String {
    let given = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let (dns, search, options) = (given(&wants.dns), given(&wants.dns_search), given(&wants.dns_options));
    let in_hosts_network = wants.network_mode == "host";
    if in_hosts_network && dns.is_none() && search.is_none() && options.is_none() {
        return of_host.to_owned();
    }
    let servers = dns.filter(|_| !resolved).unwrap_or_else(|| {
        if resolved {
            return vec![dns::ADDRESS.to_string()];
        }
        let servers = values(of_host, "nameserver").filter(|server| in_hosts_network || !is_loopback(server));
        let servers: Vec<String> = servers.map(str::to_owned).collect();
        let none = servers.is_empty() && networks::has_networks(&wants.network_mode);
        if none { beyond.to_vec() } else { servers }
    });
    let words = |key: &str| values(of_host, key).last().unwrap_or_default().to_owned();
    let mut text = String::new();
    for server in servers {
        text += &format!("nameserver {server}\n");
    }
    let search = search.map_or_else(|| words("search"), |list| list.join(" "));
    // A single dot asks for none.
    if !search.is_empty() && search != "." {
        text += &format!("search {search}\n");
    }
    let mut options =
        options.map_or_else(|| values(of_host, "options").collect::<Vec<_>>().join(" "), |list| list.join(" "));
    // Names of containers have no dot.
    if resolved && !options.split_whitespace().any(|option| option.starts_with("ndots:")) {
        options = format!("{options} ndots:0").trim_start().to_owned();
    }
    if !options.is_empty() {
        text += &format!("options {options}\n");
    }
    text
}

/// What stands after a key of resolv.conf(5), line by line.
fn values<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let rest = line.trim_start().strip_prefix(key)?;
        rest.starts_with([' ', '\t']).then(|| rest.trim())
    })
}

fn is_loopback(server: &str) -> bool {
    let bare = server.split('%').next().unwrap_or(server);
    bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(network: &str, extra: &[&str]) -> HostConfig {
        let list = |list: &[&str]| Some(list.iter().map(|&entry| entry.to_owned()).collect());
        HostConfig { network_mode: network.to_owned(), extra_hosts: list(extra), ..HostConfig::default() }
    }

    #[test]
    fn hosts_are_loopback_and_what_was_added() {
        let host = "127.0.0.1 localhost\n10.0.0.1 box\n";
        let hosts = |wants: &HostConfig, of_host: &str| hosts(wants, of_host, &|| Ok("172.17.0.1".parse()?));
        assert_eq!(hosts(&wants("none", &[]), host).unwrap(), LOOPBACK);
        assert_eq!(hosts(&wants("host", &[]), host).unwrap(), host);
        let added = hosts(&wants("none", &["db:10.1.2.3", "six:2001:db8::1", "br:[::2]"]), host).unwrap();
        assert_eq!(added, format!("{LOOPBACK}10.1.2.3\tdb\n2001:db8::1\tsix\n::2\tbr\n"));
        assert!(!hosts(&wants("host", &["db:10.1.2.3"]), host).unwrap().contains("box"));
        let gateway = hosts(&wants("none", &["host.docker.internal:host-gateway"]), host).unwrap();
        assert_eq!(gateway, format!("{LOOPBACK}172.17.0.1\thost.docker.internal\n"));
        for (entry, words) in [
            ("db", r#"bad format for add-host: "db""#),
            (":1.2.3.4", r#"bad format for add-host: ":1.2.3.4""#),
            ("a b:1.2.3.4", r#"bad format for add-host: "a b:1.2.3.4""#),
            ("db:1.2.3", r#"invalid IP address in add-host: "1.2.3""#),
        ] {
            assert_eq!(extra_host(entry).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn resolv_conf_is_the_hosts_with_what_was_asked() {
        let host = "# mine\nnameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\nsearch a b\noptions ndots:2\n";
        let ask = |network: &str, dns: &[&str], search: &[&str], options: &[&str]| {
            let list = |list: &[&str]| Some(list.iter().map(|&entry| entry.to_owned()).collect());
            let wants = HostConfig {
                dns: list(dns),
                dns_search: list(search),
                dns_options: list(options),
                ..wants(network, &[])
            };
            resolv_conf(&wants, host, network == "sea", &[])
        };
        for (network, dns, search, options, expected) in [
            ("host", &[][..], &[][..], &[][..], host),
            ("none", &[], &[], &[], "nameserver 10.0.0.2\nsearch a b\noptions ndots:2\n"),
            ("bridge", &[], &[], &[], "nameserver 10.0.0.2\nsearch a b\noptions ndots:2\n"),
            ("none", &["127.0.0.9"], &[], &[], "nameserver 127.0.0.9\nsearch a b\noptions ndots:2\n"),
            (
                "none",
                &["1.1.1.1", "2.2.2.2"],
                &["."],
                &["rotate", "debug"],
                "nameserver 1.1.1.1\nnameserver 2.2.2.2\noptions rotate debug\n",
            ),
            ("sea", &["1.1.1.1"], &[], &[], "nameserver 127.0.0.11\nsearch a b\noptions ndots:2\n"),
            ("sea", &[], &["."], &["rotate"], "nameserver 127.0.0.11\noptions rotate ndots:0\n"),
            (
                "host",
                &[],
                &["x", "y"],
                &[],
                "nameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\nsearch x y\noptions ndots:2\n",
            ),
        ] {
            assert_eq!(ask(network, dns, search, options), expected, "{network} {dns:?} {search:?} {options:?}");
        }
        for (network, expected) in [("bridge", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"), ("none", "")] {
            assert_eq!(
                resolv_conf(&wants(network, &[]), "nameserver 127.0.0.53\n", false, &beyond()),
                expected,
                "{network}"
            );
        }
    }
}
