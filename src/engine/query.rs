//! What list and inspect tell of containers.

use super::containers::{self, Doing, Now};
use super::filters::Filters;
use super::images::{self, Image};
use super::record::Record;
use super::spec::Security;
use super::store::Store;
use super::{apparmor, events, exec, networks};
use crate::api::Refusal;
use crate::api::time::{self, Time};
use crate::api::types::{
    ContainerInspect, ContainerSummary, ContainersPruned, GraphDriver, HostConfig, MountPoint, PortSummary,
    SummaryHostConfig, SummaryNetworks,
};
use crate::order;
use crate::order::{Map, Set};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// What `GET /containers/json` asks.
#[derive(Default)]
pub struct Query {
    pub all: bool,
    pub limit: usize,
    pub size: bool,
    pub filters: Filters,
}

const KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

pub fn list(store: &Store, query: &Query) -> Result<Vec<ContainerSummary>> {
    let filter = Filter::new(store, &query.filters)?;
    let mut rows = Vec::new();
    let mut names = Names::default();
    // Asking for a state asks for all containers in it; so does a count. Not so an exit code, as with Docker.
    let all = query.all || query.limit > 0 || query.filters.has("status");
    let found = containers::all(store)?;
    let mut linked = networks::links::names(found.iter().map(|now| &now.record));
    for now in found {
        if query.limit > 0 && rows.len() == query.limit {
            break;
        }
        if (all || now.doing.goes_on()) && filter.takes(&now) {
            let mut row = summary(store, &now, query.size)?;
            row.names.append(&mut linked.remove(&row.id).unwrap_or_default());
            order::sort(&mut row.names);
            if !filter.takes_ports(&row.ports) {
                continue;
            }
            row.image = names.shown(store, &row.image, &row.image_id)?;
            rows.push(row);
        }
    }
    Ok(rows)
}

/// What the names of images mean now; each is looked up once.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    /// The name by which a container was made, as long as it still means that image; else the image's id.
    fn shown(&mut self, store: &Store, name: &str, id: &str) -> Result<String> {
        if !self.0.contains_key(name) {
            let found = match images::find(store, name) {
                Ok(image) => image.id.to_string(),
                Err(error) if error.downcast_ref::<Refusal>().is_some() => String::new(),
                Err(error) => return Err(error),
            };
            self.0.insert(name.to_owned(), found);
        }
        Ok(if self.0.get(name).is_some_and(|found| found == id) { name } else { id }.to_owned())
    }
}

/// An image and those that are built on it, by their ids: they begin with all of its layers and all of its history, which
/// tells apart those whose own steps have changed no file.
fn descendants(store: &Store, image: &Image) -> Result<Vec<String>> {
    let layers = image.layer_ids();
    let is_built_on = |other: &Image| {
        !layers.is_empty()
            && other.layer_ids().ends_with(&layers)
            && other.config.history.starts_with(&image.config.history)
    };
    let all = images::all(store)?.into_iter();
    Ok(all.filter(|other| other.id == image.id || is_built_on(other)).map(|other| other.id.to_string()).collect())
}

struct Filter<'a> {
    filters: &'a Filters,
    before: Option<String>,
    since: Option<String>,
    /// Images by id: those that were asked for, and what is built on them.
    ancestors: Set<String>,
    /// Networks by name, of which the beginnings of ids were given.
    networks: Vec<String>,
    exposed: Vec<Ports>,
    published: Vec<Ports>,
}

/// Some of a protocol.
type Ports = (RangeInclusive<u16>, String);

impl Filter<'_> {
    fn new<'a>(store: &Store, filters: &'a Filters) -> Result<Filter<'a>> {
        filters.accept(&KEYS)?;
        let states = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        let healths = ["none", "starting", "healthy", "unhealthy"];
        for (key, what, known) in [("status", "state", &states[..]), ("health", "health", &healths)] {
            if let Some(value) = filters.get(key).iter().find(|value| !known.contains(&value.as_str())) {
                let known = known.join(", ");
                bail!(Refusal::BadParameter(format!(
                    "invalid filter '{key}={value}': invalid value for {what} ({value}): must be one of {known}"
                )));
            }
        }
        if let Some(code) = filters.get("exited").iter().find(|code| code.parse::<i32>().is_err()) {
            bail!(Refusal::BadParameter(format!(
                "invalid filter 'exited={code}': strconv.Atoi: parsing {code:?}: invalid syntax"
            )));
        }
        let created = |key: &str| -> Result<Option<String>> {
            match filters.get(key).first() {
                Some(name) => {
                    let id = containers::find(store, name)?;
                    Ok(Record::load(store, &id)?.map(|record| record.created))
                }
                None => Ok(None),
            }
        };
        let mut ancestors = Set::new();
        for name in filters.get("ancestor") {
            match images::find(store, name) {
                Ok(image) => ancestors.extend(descendants(store, &image)?),
                // What can be no image is none's ancestor.
                Err(error) if error.downcast_ref::<Refusal>().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let mut networks = Vec::new();
        if filters.has("network") {
            networks = networks::list(store, &Filters::default())?;
            networks.retain(|network| filters.get("network").iter().any(|value| network.id.starts_with(value)));
        }
        let networks = networks.into_iter().map(|network| network.name).collect();
        filters.flag("is-task")?;
        let all = |key: &str| filters.get(key).iter().map(|text| ports(key, text)).collect::<Result<Vec<_>>>();
        let (exposed, published) = (all("expose")?, all("publish")?);
        let (before, since) = (created("before")?, created("since")?);
        Ok(Filter { before, since, ancestors, networks, exposed, published, filters })
    }

    fn takes(&self, now: &Now) -> bool {
        let (record, filters) = (&now.record, self.filters);
        let any = |key: &str, holds: &dyn Fn(&str) -> bool| {
            !filters.has(key) || filters.get(key).iter().any(|value| holds(value))
        };
        let empty = Map::new();
        // Names have a slash in front for Docker; patterns are written with it and without.
        (filters.matches("name", &record.name) || filters.matches("name", &format!("/{}", record.name)))
            && any("id", &|value| record.id.starts_with(value))
            && filters.is("status", now.doing.word())
            && any("exited", &|value| now.doing == Doing::Exited && value.parse() == Ok(record.ended.exit_code))
            && filters.labels(record.config.labels.as_ref().unwrap_or(&empty))
            && any("volume", &|value| record.mounts.iter().any(|mounted| is_called(&mounted.point, value)))
            && (any("network", &|value| record.networks.contains_key(value))
                || self.networks.iter().any(|name| record.networks.contains_key(name)))
            && filters.is("health", now.health.as_ref().map_or("none", |health| health.status.as_str()))
            && any("is-task", &|value| matches!(value, "false" | "0"))
            && any("isolation", &|value| value == "default" || value.is_empty())
            && (!filters.has("ancestor") || self.ancestors.contains(&record.image))
            && self.before.as_ref().is_none_or(|created| record.created < *created)
            && self.since.as_ref().is_none_or(|created| record.created > *created)
    }

    /// One of those that are asked for is enough, on either side.
    fn takes_ports(&self, ports: &[PortSummary]) -> bool {
        let among = |wanted: &[Ports], number: u16, protocol: &str| {
            wanted.iter().any(|(range, of)| of == protocol && range.contains(&number))
        };
        let fits = |port: &PortSummary| {
            among(&self.published, port.public_port, &port.r#type)
                || among(&self.exposed, port.private_port, &port.r#type)
        };
        self.exposed.is_empty() && self.published.is_empty() || ports.iter().any(fits)
    }
}

/// A mount by where it is, or by what it is of: a volume's name, and a path of this host otherwise.
fn is_called(point: &MountPoint, value: &str) -> bool {
    let of = if point.name.is_empty() { &point.source } else { &point.name };
    point.destination == value || of == value
}

/// Ports of a filter: `80`, `80/udp`, `8000-8010/tcp`. Anything else is told in Docker's words.
fn ports(key: &str, text: &str) -> Result<Ports> {
    let bad = |words: String| Refusal::BadParameter(words);
    ensure!(!text.contains(':'), bad(format!("filter for '{key}' should not contain ':': {text}")));
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| {
        text.parse().map_err(|error: std::num::ParseIntError| {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            anyhow!("strconv.ParseUint: parsing {text:?}: {why}")
        })
    };
    let range = || -> Result<RangeInclusive<u16>> {
        ensure!(!numbers.is_empty(), "empty string specified for ports");
        let (first, last) = (number(first)?, number(last)?);
        ensure!(first <= last, "invalid range specified for port: {numbers}");
        Ok(first..=last)
    };
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    let range = range().map_err(|error| bad(format!("error while looking up for {key} {text}: {error}")))?;
    Ok((range, protocol))
}

fn summary(store: &Store, now: &Now, size: bool) -> Result<ContainerSummary> {
    let record = &now.record;
    let created = Time::parse(&record.created).map_or(0, |time| time.seconds);
    let (rw, root) = if size { sizes(store, record)? } else { (0, 0) };
    let (held, alive) = (networks::held(store, &record.id)?, now.doing.is_alive());
    Ok(ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: record.config.image.clone(),
        image_id: record.image.clone(),
        command: command(record),
        created,
        ports: if alive { networks::port_summary(record, &held) } else { Vec::new() },
        size_rw: rw,
        size_root_fs: root,
        labels: record.config.labels.clone().unwrap_or_default(),
        state: now.doing.word().to_owned(),
        status: status(now),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworks { networks: networks::endpoints(store, record, &held, alive) },
        mounts: record.mounts.iter().map(|mounted| mounted.point.clone()).collect(),
    })
}

/// The command as list shows it: arguments with blanks in quotes.
fn command(record: &Record) -> String {
    let mut text = record.path.clone();
    for arg in &record.args {
        text.push(' ');
        if arg.contains(' ') {
            text.push_str(&format!("'{arg}'"));
        } else {
            text.push_str(arg);
        }
    }
    text
}

/// `Up 2 seconds`, `Exited (0) 3 minutes ago`, `Created`.
fn status(now: &Now) -> String {
    let ended = &now.record.ended;
    let since = |text: &str| {
        let from = Time::parse(text).unwrap_or_default();
        time::rough(Time::now().seconds - from.seconds)
    };
    match now.doing {
        Doing::Created => "Created".to_owned(),
        Doing::Running => match now.health.as_ref().map(|health| health.status.as_str()) {
            None => format!("Up {}", since(&ended.started_at)),
            Some("starting") => format!("Up {} (health: starting)", since(&ended.started_at)),
            Some(status) => format!("Up {} ({status})", since(&ended.started_at)),
        },
        Doing::Ending | Doing::Stuck => format!("Up {}", since(&ended.started_at)),
        Doing::Paused => format!("Up {} (Paused)", since(&ended.started_at)),
        Doing::Restarting => format!("Restarting ({}) {} ago", ended.exit_code, since(&ended.finished_at)),
        Doing::Exited => format!("Exited ({}) {} ago", ended.exit_code, since(&ended.finished_at)),
    }
}

/// Bytes of the writable layer, and of everything.
fn sizes(store: &Store, record: &Record) -> Result<(i64, i64)> {
    let rw = crate::fs::size::tree(&store.container(&record.id).join("upper"))? as i64;
    let image = match images::find(store, &record.image) {
        Ok(image) => image.size as i64,
        Err(error) if containers::is_not_found(&error) => 0,
        Err(error) => return Err(error),
    };
    Ok((rw, rw + image))
}

pub fn inspect(store: &Store, id: &str, size: bool) -> Result<ContainerInspect> {
    let now = containers::now(store, id)?;
    let record = &now.record;
    let dir = store.container(id);
    let file = |name: &str| dir.join(name).display().to_string();
    let etc = |name: &str| record.etc_dir(store).join(name).display().to_string();
    let execs = exec::current(store, &now)?;
    let (size_rw, size_root_fs) = match size {
        true => sizes(store, record).map(|(rw, root)| (Some(rw), Some(root)))?,
        false => (None, None),
    };
    let lower: Vec<_> = record.lower_dirs(store).iter().map(|path| path.display().to_string()).collect();
    let alive = now.doing.is_alive();
    let data = Map::from([
        ("ID".to_owned(), record.id.clone()),
        ("LowerDir".to_owned(), lower.join(":")),
        // Mounted in the container's own mount namespace only, into which its init leads.
        ("MergedDir".to_owned(), if alive { format!("/proc/{}/root", now.live.pid) } else { file("merged") }),
        ("UpperDir".to_owned(), file("upper")),
        ("WorkDir".to_owned(), file("work")),
    ]);
    // What makes no sense was refused at create.
    let options = record.host_config.security_opt.as_deref().unwrap_or_default();
    let asked = Security::parse(options).unwrap_or_default().apparmor;
    let profile = apparmor::profile(asked.as_deref(), record.host_config.privileged, apparmor::support()).to_owned();
    let mut config = record.config.clone();
    // Where clients from before 1.44 look for it.
    if let Some(first) = record.networks.get(&record.host_config.network_mode)
        && config.mac_address.is_empty()
    {
        config.mac_address = first.mac_address.clone();
    }
    // Docker names no file of the others.
    let logged = matches!(record.host_config.log_config.r#type.as_str(), "" | "json-file");
    Ok(ContainerInspect {
        id: record.id.clone(),
        created: record.created.clone(),
        path: record.path.clone(),
        args: record.args.clone(),
        state: containers::state(&now),
        image: record.image.clone(),
        resolv_conf_path: etc("resolv.conf"),
        hostname_path: etc("hostname"),
        hosts_path: etc("hosts"),
        log_path: if logged { record.log_path(store).display().to_string() } else { String::new() },
        name: format!("/{}", record.name),
        restart_count: record.ended.restart_count + record.ended.unhealthy_count,
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        process_label: record.process_label.clone(),
        mount_label: record.mount_label.clone(),
        app_armor_profile: profile,
        exec_ids: (!execs.is_empty()).then_some(execs),
        host_config: HostConfig { links: networks::links::shown(store, record)?, ..record.host_config.clone() },
        graph_driver: GraphDriver { data: Some(data), name: "overlay2".to_owned() },
        size_rw,
        size_root_fs,
        mounts: record.mounts.iter().map(|mounted| mounted.point.clone()).collect(),
        config,
        network_settings: networks::settings(store, record, alive.then_some(now.live.pid))?,
    })
}

/// Removes what does not run. Filters: `until`, `label`, `label!`.
pub fn prune(store: &Store, filters: &Filters) -> Result<ContainersPruned> {
    let prune = Prune::new(filters)?;
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    let mut failed = None;
    for now in containers::all(store)? {
        let created = Time::parse(&now.record.created).unwrap_or_default();
        if now.doing.goes_on() || !prune.takes(created, now.record.config.labels.as_ref()) {
            continue;
        }
        let size = crate::fs::size::tree(&store.container(&now.record.id).join("upper")).unwrap_or(0);
        match containers::remove_alone(store, &now.record.id, false, false) {
            Ok(()) => {
                deleted.push(now.record.id);
                reclaimed += size;
            }
            // Started, or removed by somebody else, meanwhile.
            Err(error) if error.downcast_ref::<Refusal>().is_some() => {}
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    containers::rest(store);
    if let Some(error) = failed {
        return Err(error).context("prune containers");
    }
    events::other(store, "container", "prune", "", &[("reclaimed", &reclaimed.to_string())]);
    Ok(ContainersPruned { containers_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed: reclaimed })
}

/// The filters that all prunes share.
pub struct Prune<'a> {
    until: Option<Time>,
    filters: &'a Filters,
}

impl Prune<'_> {
    pub fn new(filters: &Filters) -> Result<Prune<'_>> {
        filters.accept(&["until", "label", "label!"])?;
        let until = match filters.get("until") {
            [] => None,
            [text] => Some(point(text)?),
            _ => bail!(Refusal::BadParameter("more than one until filter specified".to_owned())),
        };
        Ok(Prune { until, filters })
    }

    pub fn takes(&self, created: Time, labels: Option<&Map<String, String>>) -> bool {
        let empty = Map::new();
        self.until.is_none_or(|until| created < until) && self.filters.labels(labels.unwrap_or(&empty))
    }
}

/// A point in time: seconds since 1970, RFC 3339, or a duration before now.
pub fn point(text: &str) -> Result<Time> {
    let ago = || Some(Time::from_unix_nanos(Time::now().unix_nanos() - i128::from(time::parse_duration(text)?)));
    let found = Time::from_unix_text(text).or_else(|| Time::parse_local(text).map(|(time, _)| time)).or_else(ago);
    found.ok_or_else(|| Refusal::BadParameter(format!("invalid time: {text:?}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_filter() {
        for (text, expected) in [
            ("80", Some((80..=80, "tcp"))),
            ("53/udp", Some((53..=53, "udp"))),
            ("8000-8010/TCP", Some((8000..=8010, "tcp"))),
            ("9-8", None),
            ("80/", Some((80..=80, "tcp"))),
            ("", None),
            ("127.0.0.1:80", None),
            ("http", None),
            ("70000", None),
        ] {
            let read = ports("expose", text).ok();
            assert_eq!(read, expected.map(|(range, protocol)| (range, protocol.to_owned())), "{text}");
        }
        for (text, words) in [
            ("9-8", "error while looking up for expose 9-8: invalid range specified for port: 9-8"),
            ("http", "error while looking up for expose http: strconv.ParseUint: parsing \"http\": invalid syntax"),
            (
                "70000",
                "error while looking up for expose 70000: strconv.ParseUint: parsing \"70000\": value out of range",
            ),
            ("127.0.0.1:80", "filter for 'expose' should not contain ':': 127.0.0.1:80"),
        ] {
            assert_eq!(ports("expose", text).unwrap_err().to_string(), words);
        }
    }
}
