//! `dhow ps`.

use super::format::table::{self, List};
use super::format::units;
use super::{Command, Context, filter, habits, output};
use crate::api::time::Time;
use crate::api::types::{ContainerSummary, PortSummary};
use crate::oci::reference::Reference;
use crate::order;
use crate::order::Map;
use anyhow::{Result, anyhow};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// List containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Ps {
    /// all, and not only those that run
    #[argh(switch, short = 'a')]
    all: bool,
    /// only those that fit: name=x, status=exited, label=a=b, …
    #[argh(option, short = 'f', from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// the last n made, of any state
    #[argh(option, short = 'n', arg_name = "INT")]
    last: Option<i64>,
    /// the last one made, of any state
    #[argh(switch, short = 'l')]
    latest: bool,
    /// print all of every column
    #[argh(switch)]
    no_trunc: bool,
    /// print the ids only
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// show the size of their files
    #[argh(option, short = 's', arg_name = "bool")]
    size: Option<bool>,
}

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("HealthStatus", "HEALTH STATUS"),
];

pub const NARROW: List = List {
    go_type: "*formatter.ContainerContext",
    headers: HEADERS,
    table: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    raw: Some((
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
         state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
         labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
        "container_id: {{.ID}}",
    )),
};

const SIZED: List = List {
    table: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    raw: Some((
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
         state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
         labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\nsize: {{.Size}}\n",
        "container_id: {{.ID}}",
    )),
    ..NARROW
};

impl Command for Ps {
    fn run(self, context: &Context) -> Result<u8> {
        let format = match self.quiet {
            true => self.format.unwrap_or_default(),
            false => habits::or_kept(self.format, |kept| kept.ps_format)?,
        };
        if self.quiet && !format.is_empty() {
            output::complain("WARNING: Ignoring custom format, because both --format and --quiet are set.");
        }
        // A size costs a walk over the container's files: it is only asked for where it is shown.
        let size = self.size.unwrap_or(!self.quiet && shows_size(&format));
        let last = self.last.unwrap_or(if self.latest { 1 } else { 0 });
        let filters = filter::gather(self.filter);
        let containers = context.client()?.containers(self.all || last > 0, last, size, &filters)?;
        let rows: Vec<Value> = containers.iter().map(|container| row(container, !self.no_trunc)).collect();
        let list = if size { SIZED } else { NARROW };
        let text = list.print(&format, self.quiet, &rows).map_err(|error| in_dockers_words(&error))?;
        output::say(&text)?;
        Ok(0)
    }
}

/// Whether a template shows a container's size: by its name, or in all of a row. The word `json` alone does not ask for
/// it, as with docker.
fn shows_size(format: &str) -> bool {
    let with =
        |bytes| NARROW.print(format, false, &[row(&ContainerSummary { size_rw: bytes, ..Default::default() }, true)]);
    let differs = || matches!((with(1), with(2)), (Ok(one), Ok(other)) if one != other);
    format != "json" && (format.contains(".Size") || format.contains("json") && differs())
}

/// What is wrong with a template, as docker says it of this list alone.
fn in_dockers_words(error: &anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    match text.strip_prefix("template parsing error") {
        Some(rest) if text.contains(": executing ") => anyhow!("failed to execute template{rest}"),
        Some(rest) => anyhow!("failed to parse template{rest}"),
        None => anyhow!(text),
    }
}

pub fn row(container: &ContainerSummary, short: bool) -> Value {
    let created = Time { seconds: container.created, nanos: 0 };
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    let mounts = container.mounts.iter().map(|mount| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if short { table::ellipsis(name, 15) } else { name.clone() }
    });
    json!({
        "ID": if short { short_id(&container.id) } else { &container.id },
        "Names": names(&container.names, short),
        "Image": image(container, short),
        "Command": quoted(&if short { table::ellipsis(&container.command, 20) } else { container.command.clone() }),
        "CreatedAt": units::spoken(created),
        "RunningFor": units::ago(created),
        "Ports": ports(&container.ports),
        "State": container.state,
        "Status": container.status,
        "Size": size(container),
        "Labels": labels.join(","),
        "Label": container.labels,
        "Mounts": mounts.collect::<Vec<_>>().join(","),
        "LocalVolumes": container.mounts.iter().filter(|mount| mount.driver == "local").count().to_string(),
        "Networks": networks.join(","),
        "Platform": Value::Null,
        "HealthStatus": health(&container.status),
    })
}

/// The twelve digits by which people name things.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, digits)| digits);
    id.get(..12).unwrap_or(id)
}

/// Names without their slash; shortened, the first that is no link's.
fn names(names: &[String], short: bool) -> String {
    let mut plain = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    if short {
        return plain.find(|name| !name.contains('/')).unwrap_or_default().to_owned();
    }
    plain.collect::<Vec<_>>().join(",")
}

fn image(container: &ContainerSummary, short: bool) -> String {
    let image = &container.image;
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if !short {
        return image.clone();
    }
    if short_id(&container.image_id) == short_id(image) {
        return short_id(image).to_owned();
    }
    match Reference::parse(image) {
        Ok(name) if name.digest.is_some() => match &name.tag {
            Some(tag) => format!("{}:{tag}", name.familiar_name()),
            None => name.familiar_name(),
        },
        Ok(name) => name.familiar(),
        Err(_) => image.clone(),
    }
}

fn size(container: &ContainerSummary) -> String {
    let own = units::decimal(container.size_rw, 3);
    match container.size_root_fs {
        0 => own,
        whole => format!("{own} (virtual {})", units::decimal(whole, 3)),
    }
}

/// The health that a status tells: `Up 2 seconds (health: starting)`.
fn health(status: &str) -> &str {
    let inside = status.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or_default();
    match inside.strip_prefix("health: ").unwrap_or(inside) {
        health @ ("starting" | "healthy" | "unhealthy") => health,
        _ => "",
    }
}

/// A text in quotes, as Go writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`; ports in a row with the same numbers outside are one range.
fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    order::by_key(&mut sorted, |port| (port.private_port, port.ip.as_str(), port.public_port, port.r#type.as_str()));
    let mut ranges: Vec<(String, u16, u16)> = Vec::new();
    let mut latest: Map<String, usize> = Map::new();
    let mut mapped = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let host = if port.ip.contains(':') { format!("[{}]", port.ip) } else { port.ip.clone() };
            mapped.push(format!("{host}:{}->{}/{}", port.public_port, port.private_port, port.r#type));
            continue;
        }
        let key = if port.ip.is_empty() { port.r#type.clone() } else { format!("{}/{}", port.ip, port.r#type) };
        match latest.get(&key).map(|at| &mut ranges[*at]) {
            Some(range) if range.2 == port.private_port => {}
            Some(range) if range.2 + 1 == port.private_port => range.2 += 1,
            _ => {
                latest.insert(key.clone(), ranges.len());
                ranges.push((key, port.private_port, port.private_port));
            }
        }
    }
    let spelt = ranges.into_iter().map(|(key, first, last)| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        match key.split_once('/') {
            Some((ip, protocol)) => {
                let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
                format!("{host}:{range}->{range}/{protocol}")
            }
            None => format!("{range}/{key}"),
        }
    });
    spelt.chain(mapped).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::MountPoint;

    #[test]
    fn a_row() {
        let mut container = ContainerSummary {
            id: "0123456789abcdef0123".into(),
            names: vec!["/other/alias".into(), "/web".into()],
            image: "docker.io/library/nginx@sha256:93fc232dcbcc78cc300eeb4693ca9104da15e9ffcc6e9dac69184718871ebc9b"
                .into(),
            image_id: "sha256:ff".into(),
            command: "nginx -g 'daemon off;' and more".into(),
            state: "running".into(),
            status: "Up 2 seconds (healthy)".into(),
            size_rw: 2,
            size_root_fs: 1_988_785,
            ..Default::default()
        };
        container.mounts.push(MountPoint {
            name: "a-name-longer-than-that".into(),
            driver: "local".into(),
            ..Default::default()
        });
        let row_of = |short| row(&container, short);
        let short = row_of(true);
        let expected = [
            ("ID", "0123456789ab"),
            ("Names", "web"),
            ("Image", "nginx"),
            ("Command", "\"nginx -g 'daemon of…\""),
            ("Size", "2B (virtual 1.99MB)"),
            ("Mounts", "a-name-longer-…"),
            ("LocalVolumes", "1"),
            ("HealthStatus", "healthy"),
        ];
        for (key, value) in expected {
            assert_eq!(short[key], value, "{key}");
        }
        assert_eq!(NARROW.print("{{.Platform}}", false, &[short]).unwrap(), "<nil>\n");
        let long = row_of(false);
        assert_eq!(long["ID"], "0123456789abcdef0123");
        assert_eq!(long["Names"], "other/alias,web");
        assert_eq!(long["Command"], "\"nginx -g 'daemon off;' and more\"");
    }

    #[test]
    fn a_size_is_asked_for_where_it_is_shown() {
        for (format, expected) in [
            ("", false),
            ("json", false),
            ("raw", false),
            ("{{.ID}}", false),
            ("{{json .ID}}", false),
            ("{{json .}}", true),
            ("table {{. | json}}", true),
            ("{{if .Size}}x{{end}}", true),
        ] {
            assert_eq!(shows_size(format), expected, "{format}");
        }
    }

    #[test]
    fn ports_in_words() {
        let port = |ip: &str, private_port, public_port| PortSummary {
            ip: ip.into(),
            private_port,
            public_port,
            r#type: "tcp".into(),
        };
        let table = [
            (vec![], ""),
            (vec![port("", 80, 0)], "80/tcp"),
            (vec![port("", 81, 0), port("", 80, 0), port("", 90, 0)], "80-81/tcp, 90/tcp"),
            (vec![port("0.0.0.0", 80, 8080), port("::", 80, 8080)], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
            (vec![port("0.0.0.0", 80, 80), port("0.0.0.0", 81, 81)], "0.0.0.0:80-81->80-81/tcp"),
            (vec![port("", 65535, 0), port("", 443, 0)], "443/tcp, 65535/tcp"),
        ];
        for (ports_of, expected) in table {
            assert_eq!(ports(&ports_of), expected);
        }
    }
}
