//! `dhow ports`: what is open on this host, and to whom.

use super::format::table::List;
use super::ps::short_id;
use super::{Command, Context, output};
use crate::api::types::PublishedPort;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// List every published port of this host with who reaches it, as the loaded rules say
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Ports {
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// print all of every column
    #[argh(switch)]
    no_trunc: bool,
    /// print the ports of the host only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

const LIST: List = List {
    go_type: "*ports.portContext",
    headers: &[
        ("Published", "PUBLISHED"),
        ("Target", "LEADS TO"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("Reach", "REACHED BY"),
        ("From", "FROM"),
        ("Notes", "NOTES"),
    ],
    table: "table {{.Published}}\t{{.Target}}\t{{.Name}}\t{{.Reach}}",
    quiet: "{{.Published}}",
    raw: None,
};

impl Command for Ports {
    fn run(self, context: &Context) -> Result<u8> {
        let ports = context.client()?.published_ports()?;
        let rows: Vec<Value> = ports.iter().map(|port| row(port, !self.no_trunc)).collect();
        output::say(&LIST.print(&self.format.unwrap_or_default(), self.quiet, &rows)?)?;
        // Once each, on the other stream, so that the list stays a list.
        let mut said: Vec<&str> = Vec::new();
        for note in ports.iter().flat_map(|port| &port.notes).filter(|note| !note.is_empty()) {
            if !said.contains(&note.as_str()) {
                output::complain(&format!("WARNING: {note}"));
                said.push(note);
            }
        }
        Ok(0)
    }
}

fn row(port: &PublishedPort, short: bool) -> Value {
    let address = |ip: &str, number: u16| match ip.contains(':') {
        true => format!("[{ip}]:{number}"),
        false => format!("{ip}:{number}"),
    };
    // On a routed network the host has no port for it: it is reached by the container's own.
    let (ip, number) = match port.host_port {
        0 => (&port.container_ip, port.container_port),
        number => (&port.host_ip, number),
    };
    json!({
        "Published": format!("{}/{}", address(ip, number), port.protocol),
        "Target": address(&port.container_ip, port.container_port),
        "Name": port.name,
        "ID": if short { short_id(&port.container) } else { &port.container },
        "Reach": reach(port),
        "From": port.from.as_ref().map(|from| from.join(",")).unwrap_or_default(),
        "Notes": port.notes.join(" "),
    })
}

/// In words: this host always reaches what is published, so only who else does is worth a name.
fn reach(port: &PublishedPort) -> String {
    match (port.reach.as_str(), &port.from) {
        ("host", _) => "this host".to_owned(),
        ("lan", None) => "LAN".to_owned(),
        ("lan" | "everyone", Some(from)) => from.join(", "),
        (other, _) => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reaches_it_in_words() {
        let port = |reach: &str, from: &[&str]| PublishedPort {
            reach: reach.to_owned(),
            from: (!from.is_empty()).then(|| from.iter().map(|text| (*text).to_owned()).collect()),
            host_ip: "::".to_owned(),
            host_port: 8080,
            protocol: "tcp".to_owned(),
            ..PublishedPort::default()
        };
        for (given, from, expected) in [
            ("host", &[][..], "this host"),
            ("lan", &[], "LAN"),
            ("everyone", &[], "everyone"),
            ("lan", &["10.0.0.0/8", "192.168.0.0/16"], "10.0.0.0/8, 192.168.0.0/16"),
            ("nobody", &[], "nobody"),
        ] {
            assert_eq!(reach(&port(given, from)), expected);
        }
        assert_eq!(row(&port("host", &[]), true)["Published"], "[::]:8080/tcp");
    }
}
