//! `--link`. On networks of users it is a name for another container that this one alone has, and a matter of the
//! resolver ([`super::names`]). On the default bridge, where there are no names, it is lines of /etc/hosts and variables
//! of the environment, as Docker has had them since before there were networks.

use super::super::record::{self, Record};
use super::super::store::{self, Store};
use super::super::{containers, etc};
use super::{Held, join, stored};
use crate::api::Refusal;
use crate::api::types::HostConfig;
use crate::order;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::borrow::Cow;
use std::path::PathBuf;

/// Target and alias of a link: `web:alias`, or `web` alone.
pub fn split(text: &str) -> Result<(&str, &str)> {
    let (target, alias) = text.split_once(':').unwrap_or((text, text));
    if target.is_empty() || alias.is_empty() || alias.contains(':') {
        bail!(Refusal::BadParameter(format!("bad format for links: {text}")));
    }
    // As inspect shows them: /web:/me/alias.
    Ok((target.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias)))
}

/// Checks the links of a container that is about to be made, and has them name their targets by id, which stays.
pub fn settle(store: &Store, host: &mut HostConfig) -> Result<()> {
    let mode = host.network_mode.as_str();
    let no_links = || {
        let words = "conflicting options: host type networking can't be used with links. This would result in \
                     undefined behavior";
        Err(Refusal::BadParameter(words.to_owned()).into())
    };
    let Some(links) = host.links.take().filter(|links| !links.is_empty()) else { return Ok(()) };
    match mode {
        "host" => return no_links(),
        // Networks of users have links of their own. With `none` they lead nowhere, but are looked at.
        mode if !super::is_default_bridge(store, mode)? && mode != "none" => return Ok(()),
        _ => {}
    }
    let mut settled = Vec::new();
    for link in &links {
        let (target, alias) = split(link)?;
        let (id, theirs) = owner(store, target)
            .map_err(|error| Refusal::BadParameter(format!("could not get container for {target}: {error:#}")))?;
        if theirs == "host" {
            return no_links();
        }
        settled.push(format!("{id}:{alias}"));
    }
    host.links = (mode != "none").then_some(settled);
    Ok(())
}

/// The container whose network a container has, by its id, and the mode of that network: mostly its own.
fn owner(store: &Store, name: &str) -> Result<(String, String)> {
    let mut seen = Vec::new();
    let mut id = containers::find(store, name)?;
    loop {
        let mode = Record::load(store, &id)?.map(|record| record.host_config.network_mode).unwrap_or_default();
        match mode.strip_prefix("container:") {
            Some(other) if !seen.contains(&id) => {
                let next = containers::find(store, other)?;
                seen.push(std::mem::replace(&mut id, next));
            }
            _ => return Ok((id, mode)),
        }
    }
}

/// A link whose target is still there.
struct Link {
    alias: String,
    target: Record,
    held: Held,
}

fn links(store: &Store, record: &Record) -> Result<Vec<Link>> {
    let mut all = Vec::new();
    for link in record.host_config.links.iter().flatten() {
        let (id, alias) = split(link)?;
        if let Some(target) = Record::load(store, id)? {
            all.push(Link { alias: alias.to_owned(), held: join::held(store, id)?, target });
        }
    }
    Ok(all)
}

impl Link {
    fn is_running(&self, store: &Store) -> Result<bool> {
        Ok(record::held(store, &self.target.id)?.init)
    }

    /// Its addresses on the default bridge.
    fn addresses(&self) -> impl Iterator<Item = String> {
        let places = self.held.places.iter().filter(|place| place.name == stored::BRIDGE);
        places.flat_map(|place| place.given()).map(|given| given.address.to_string())
    }
}

/// The container that another one knows by that alias.
pub fn target(store: &Store, parent: &str, alias: &str) -> Result<Option<String>> {
    let Some(id) = containers::named(store, parent)? else { return Ok(None) };
    let Some(record) = Record::load(store, &id)? else { return Ok(None) };
    Ok(links(store, &record)?.into_iter().find(|link| link.alias == alias).map(|link| link.target.id))
}

/// The names that links give to containers (`/web/db`), by the ids of those who have them.
pub fn names<'a>(records: impl Iterator<Item = &'a Record>) -> Map<String, Vec<String>> {
    let mut all: Map<String, Vec<String>> = Map::new();
    for record in records {
        for (target, alias) in record.host_config.links.iter().flatten().filter_map(|link| split(link).ok()) {
            all.entry(target.to_owned()).or_default().push(format!("/{}/{alias}", record.name));
        }
    }
    all
}

/// As inspect shows them, under the names of now.
pub fn shown(store: &Store, record: &Record) -> Result<Option<Vec<String>>> {
    let links = links(store, record)?;
    let show = |link: &Link| format!("/{}:/{}/{}", link.target.name, record.name, link.alias);
    Ok((!links.is_empty()).then(|| links.iter().map(show).collect()))
}

/// Lines of /etc/hosts.
pub fn hosts(store: &Store, record: &Record) -> Result<String> {
    let mut text = String::new();
    for link in links(store, record)? {
        let mut names = vec![link.alias.as_str(), &link.target.config.hostname];
        if link.alias != link.target.name {
            names.push(&link.target.name);
        }
        let names = names.join(" ");
        for address in link.addresses() {
            text += &format!("{address}\t{names}\n");
        }
    }
    Ok(text)
}

/// The container with the variables that its links give it, under its own. `starts`: all of its targets must run.
pub fn with_variables<'a>(store: &Store, record: &'a Record, starts: bool) -> Result<Cow<'a, Record>> {
    if record.host_config.links.is_none() {
        return Ok(Cow::Borrowed(record));
    }
    let mut all = Vec::new();
    for link in links(store, record)? {
        let address = link.addresses().next().filter(|_| link.is_running(store).unwrap_or(false));
        match address {
            Some(address) => all.extend(variables(&record.name, &link.alias, &link.target, &address)),
            None if starts => {
                let (target, name) = (&link.target.name, &record.name);
                bail!("Cannot link to a non running container: /{target} AS /{name}/{}", link.alias)
            }
            None => {}
        }
    }
    let mut record = record.clone();
    all.extend(record.config.env.take().unwrap_or_default());
    record.config.env = Some(all);
    Ok(Cow::Owned(record))
}

/// What Docker sets for a link, and in its order: the lowest port, those of TCP first; each port; the run of ports that
/// has come to its end; the name, and the target's own variables.
fn variables(name: &str, alias: &str, target: &Record, address: &str) -> Vec<String> {
    let prefix = alias.replace('-', "_").to_uppercase();
    let exposed = target.config.exposed_ports.iter().flatten().filter_map(|(port, _)| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        Some((number.parse::<u16>().ok()?, protocol.to_owned()))
    });
    let mut ports: Vec<(u16, String)> = exposed.collect();
    order::by_key(&mut ports, |(number, protocol)| (protocol != "tcp", protocol.clone(), *number));
    let mut all = Vec::new();
    if let Some((number, protocol)) = ports.first() {
        all.push(format!("{prefix}_PORT={protocol}://{address}:{number}"));
    }
    let begins = |(number, protocol): &(u16, String)| format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
    let follows = |(before, one): &(u16, String), (after, other): &(u16, String)| {
        before.checked_add(1) == Some(*after) && one == other
    };
    for run in ports.chunk_by(follows) {
        for port in run {
            let (begin, (number, protocol)) = (begins(port), port);
            all.push(format!("{begin}={protocol}://{address}:{number}"));
            all.push(format!("{begin}_ADDR={address}"));
            all.push(format!("{begin}_PORT={number}"));
            all.push(format!("{begin}_PROTO={protocol}"));
        }
        if let [start @ (first, protocol), .., (last, _)] = run {
            let begin = begins(start);
            all.push(format!("{begin}_START={protocol}://{address}:{first}"));
            all.push(format!("{begin}_PORT_START={first}"));
            all.push(format!("{begin}_END={protocol}://{address}:{last}"));
            all.push(format!("{begin}_PORT_END={last}"));
        }
    }
    all.push(format!("{prefix}_NAME=/{name}/{alias}"));
    let own = target.config.env.iter().flatten().filter_map(|entry| entry.split_once('='));
    all.extend(
        own.filter(|(key, _)| !matches!(*key, "HOME" | "PATH"))
            .map(|(key, value)| format!("{prefix}_ENV_{key}={value}")),
    );
    all
}

/// Who has links to a container that runs: one empty file each.
fn mark(store: &Store, target: &str) -> PathBuf {
    store.run.join("links").join(target)
}

/// A container with links starts: when its targets come back under other addresses, it is told.
pub fn enter(store: &Store, record: &Record) -> Result<()> {
    for link in links(store, record)? {
        let dir = mark(store, &link.target.id);
        store::make_dirs(&dir, 0o700)?;
        let path = dir.join(&record.id);
        std::fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// It has ended.
pub fn leave(store: &Store, container: &str) -> Result<()> {
    for target in store::read_dir(&store.run.join("links"))? {
        let dir = mark(store, &target);
        store::remove(&dir.join(container))?;
        // Unless others have links to it, too.
        let _ = std::fs::remove_dir(dir);
    }
    Ok(())
}

/// A container has started: those who have links to it find it where it is now.
pub fn follow(store: &Store, target: &str) -> Result<()> {
    for id in store::read_dir(&mark(store, target))? {
        if let Some(record) = Record::load(store, &id)?
            && record::held(store, &id)?.shim
        {
            etc::change_hosts(store, &record, &join::held(store, &id)?)?;
        }
    }
    Ok(())
}

/// Takes a link away by the name that it gives to its target, `web/db`: of a container that runs, the lines in its hosts.
pub fn remove(store: &Store, name: &str) -> Result<()> {
    containers::find(store, name)?;
    let Some((parent, alias)) = name.trim_start_matches('/').rsplit_once('/') else {
        // A plain 500, as Docker's.
        bail!("Conflict, cannot remove the default link name of the container");
    };
    let id = containers::find(store, parent)?;
    let is_it = |link: &String| split(link).is_ok_and(|(_, name)| name == alias);
    let record = Record::update(store, &id, |record| {
        let links = record.host_config.links.get_or_insert_default();
        let before = links.len();
        links.retain(|link| !is_it(link));
        if links.len() == before {
            return Err(containers::no_such(name));
        }
        record.host_config.links = record.host_config.links.take().filter(|links| !links.is_empty());
        Ok(())
    })?;
    if record::held(store, &id)?.init {
        leave(store, &id)?;
        enter(store, &record)?;
        etc::change_hosts(store, &record, &join::held(store, &id)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_a_target_and_an_alias() {
        for (text, expected) in [
            ("db", Some(("db", "db"))),
            ("db:pg", Some(("db", "pg"))),
            ("/db:/web/pg", Some(("db", "pg"))),
            ("", None),
            (":pg", None),
            ("db:", None),
            ("a:b:c", None),
        ] {
            assert_eq!(split(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_dockers() {
        let mut target = Record::default();
        let ports = ["53/udp", "54/tcp", "80/tcp", "81/tcp"];
        target.config.exposed_ports = Some(ports.iter().map(|port| ((*port).to_owned(), Default::default())).collect());
        target.config.env = Some(vec!["PATH=/bin".into(), "USER=cook".into(), "HOME=/".into()]);
        let said = variables("web", "my-db", &target, "172.17.0.2");
        let expected = "MY_DB_PORT=tcp://172.17.0.2:54
MY_DB_PORT_54_TCP=tcp://172.17.0.2:54
MY_DB_PORT_54_TCP_ADDR=172.17.0.2
MY_DB_PORT_54_TCP_PORT=54
MY_DB_PORT_54_TCP_PROTO=tcp
MY_DB_PORT_80_TCP=tcp://172.17.0.2:80
MY_DB_PORT_80_TCP_ADDR=172.17.0.2
MY_DB_PORT_80_TCP_PORT=80
MY_DB_PORT_80_TCP_PROTO=tcp
MY_DB_PORT_81_TCP=tcp://172.17.0.2:81
MY_DB_PORT_81_TCP_ADDR=172.17.0.2
MY_DB_PORT_81_TCP_PORT=81
MY_DB_PORT_81_TCP_PROTO=tcp
MY_DB_PORT_80_TCP_START=tcp://172.17.0.2:80
MY_DB_PORT_80_TCP_PORT_START=80
MY_DB_PORT_80_TCP_END=tcp://172.17.0.2:81
MY_DB_PORT_80_TCP_PORT_END=81
MY_DB_PORT_53_UDP=udp://172.17.0.2:53";
        assert_eq!(said[..18].join("\n"), expected);
        assert_eq!(said[said.len() - 2..], ["MY_DB_NAME=/web/my-db", "MY_DB_ENV_USER=cook"]);
    }
}
