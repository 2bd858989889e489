//! `dhow network ls`; inspect stands with that of other kinds.

use super::format::table::List;
use super::ps::short_id;
use super::{Command, Context, filter, output};
use crate::api::types::Network;
use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// List networks
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// only those that fit: driver=x, id=x, label=a=b, name=x, scope=x, type=builtin
    #[argh(option, short = 'f', from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// print all of every column
    #[argh(switch)]
    no_trunc: bool,
    /// print the ids only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

const LIST: List = List {
    go_type: "*network.networkContext",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: Some((
        "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
        "network_id: {{.ID}}",
    )),
};

impl Command for Ls {
    fn run(self, context: &Context) -> Result<u8> {
        let mut networks = context.client()?.networks(&filter::gather(self.filter))?;
        networks.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let rows: Vec<Value> = networks.iter().map(|network| row(network, !self.no_trunc)).collect();
        output::say(&LIST.print(&self.format.unwrap_or_default(), self.quiet, &rows)?)?;
        Ok(0)
    }
}

fn row(network: &Network, short: bool) -> Value {
    let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": if short { short_id(&network.id) } else { &network.id },
        "Name": network.name,
        "Driver": network.driver,
        "Scope": network.scope,
        "IPv4": network.enable_ipv4.to_string(),
        "IPv6": network.enable_ipv6.to_string(),
        "Internal": network.internal.to_string(),
        "Labels": labels.join(","),
        "Label": network.labels,
        "CreatedAt": network.created,
    })
}
