//! `dhow network create`, `connect`, `disconnect`, `ls`, `rm`; inspect and prune stand with those of other kinds.

use super::format::table::List;
use super::format::units;
use super::ps::short_id;
use super::request::{networks, values};
use super::{Command, Context, each, face, filter, habits, output};
use crate::api::client::Failure;
use crate::api::types::{
    EndpointAddresses, EndpointSettings, Ipam, IpamConfig, Network, NetworkConnect, NetworkCreate, NetworkDisconnect,
};
use crate::net::Subnet;
use crate::order;
use anyhow::{Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Create a network
#[derive(FromArgs, ArgsInfo, Default)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// containers may be brought to it by hand
    #[argh(switch)]
    attachable: bool,
    /// an address that is given to nobody: name=address
    #[argh(option)]
    aux_address: Vec<String>,
    /// a network to take the configuration from (with a later release)
    #[argh(option)]
    config_from: Option<String>,
    /// a configuration only (with a later release)
    #[argh(switch)]
    config_only: bool,
    /// the driver: bridge, macvlan, ipvlan
    #[argh(option, short = 'd')]
    driver: Option<String>,
    /// the gateway of a subnet
    #[argh(option)]
    gateway: Vec<String>,
    /// the routing mesh of a swarm (with a later release)
    #[argh(switch)]
    ingress: bool,
    /// nothing leads out of it or into it
    #[argh(switch)]
    internal: bool,
    /// give addresses of this part of a subnet only
    #[argh(option)]
    ip_range: Vec<String>,
    /// who gives addresses: default
    #[argh(option)]
    ipam_driver: Option<String>,
    /// an option for who gives addresses: key=value
    #[argh(option)]
    ipam_opt: Vec<String>,
    /// addresses of IPv4 (default true)
    #[argh(option, arg_name = "bool")]
    ipv4: Option<bool>,
    /// addresses of IPv6
    #[argh(switch)]
    ipv6: bool,
    /// a label: key=value
    #[argh(option)]
    label: Vec<String>,
    /// an option of the driver: key=value
    #[argh(option, short = 'o')]
    opt: Vec<String>,
    /// the scope: local
    #[argh(option)]
    scope: Option<String>,
    /// a subnet, in CIDR form
    #[argh(option)]
    subnet: Vec<String>,
    #[argh(positional, arg_name = "NETWORK")]
    network: String,
}

/// Connect a container to a network
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Connect {
    /// a further name on the network
    #[argh(option)]
    alias: Vec<String>,
    /// an option of the driver: key=value
    #[argh(option)]
    driver_opt: Vec<String>,
    /// the network with the highest has the default route
    #[argh(option, arg_name = "INT")]
    gw_priority: Option<i64>,
    /// IPv4 address
    #[argh(option)]
    ip: Option<String>,
    /// IPv6 address
    #[argh(option)]
    ip6: Option<String>,
    /// link to another container
    #[argh(option)]
    link: Vec<String>,
    /// an address that holds on this link only
    #[argh(option)]
    link_local_ip: Vec<String>,
    #[argh(positional, arg_name = "NETWORK")]
    network: String,
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
}

/// Disconnect a container from a network
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Disconnect {
    /// also from a network that is gone
    #[argh(switch, short = 'f')]
    force: bool,
    #[argh(positional, arg_name = "NETWORK")]
    network: String,
    #[argh(positional, arg_name = "CONTAINER")]
    container: String,
}

/// Remove one or more networks
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// do not mind one that is not there
    #[argh(switch, short = 'f')]
    force: bool,
    #[argh(positional, arg_name = "NETWORK [NETWORK...]")]
    networks: Vec<String>,
}

impl Command for Create {
    fn run(self, context: &Context) -> Result<u8> {
        let created = context.client()?.create_network(&self.request()?)?;
        if !created.warning.is_empty() {
            output::complain(&format!("WARNING: {}", created.warning));
        }
        output::say(&format!("{}\n", created.id))?;
        Ok(0)
    }
}

impl Create {
    /// The body of create. Pure, as that of a container.
    fn request(self) -> Result<NetworkCreate> {
        for label in &self.label {
            values::label(label).map_err(|why| face::Misfit::new("--label", label, &why))?;
        }
        let config = subnets(&self.subnet, &self.ip_range, &self.gateway, &self.aux_address)?;
        Ok(NetworkCreate {
            name: self.network,
            driver: self.driver.unwrap_or_else(|| "bridge".to_owned()),
            scope: self.scope.unwrap_or_default(),
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6.then_some(true),
            ipam: Some(Ipam {
                driver: self.ipam_driver.unwrap_or_else(|| "default".to_owned()),
                options: Some(values::pairs(&self.ipam_opt)),
                config: Some(config),
            }),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.map(|network| crate::api::types::ConfigReference { network }),
            options: Some(values::pairs(&self.opt)),
            labels: Some(values::pairs(&self.label)),
        })
    }
}

/// Subnets with what was said of each: ranges, gateways and auxiliary addresses belong to the one that they lie in.
fn subnets(subnets: &[String], ranges: &[String], gateways: &[String], aux: &[String]) -> Result<Vec<IpamConfig>> {
    if ranges.len() > subnets.len() || gateways.len() > subnets.len() {
        bail!("every ip-range or gateway must have a corresponding subnet");
    }
    let mut all: Vec<(Subnet, IpamConfig)> = Vec::new();
    for text in subnets {
        let subnet: Subnet = text.parse().map_err(|why: String| anyhow!(why))?;
        if all.iter().any(|(other, _)| other.overlaps(&subnet)) {
            bail!("multiple overlapping subnet configuration is not supported");
        }
        all.push((subnet, IpamConfig { subnet: text.clone(), ..IpamConfig::default() }));
    }
    let place = |all: &[(Subnet, IpamConfig)], address: IpAddr, what: &str, text: &str| {
        let found = all.iter().position(|(subnet, _)| subnet.contains(address));
        found.ok_or_else(|| anyhow!("no matching subnet for {what} {text}"))
    };
    for text in ranges {
        let range: Subnet = text.parse().map_err(|why: String| anyhow!(why))?;
        let at = place(&all, range.first, "range", text)?;
        if !std::mem::replace(&mut all[at].1.ip_range, text.clone()).is_empty() {
            bail!("cannot configure multiple ranges ({text}) on the same subnet ({})", all[at].0);
        }
    }
    for text in gateways {
        let address = text.parse().map_err(|_| anyhow!("invalid gateway: {text}"))?;
        let at = place(&all, address, "gateway", text)?;
        if !std::mem::replace(&mut all[at].1.gateway, text.clone()).is_empty() {
            bail!("cannot configure multiple gateways ({text}) for the same subnet ({})", all[at].0);
        }
    }
    for pair in aux {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let address = text.parse().map_err(|_| anyhow!("invalid auxiliary address: {pair}"))?;
        let at = place(&all, address, "aux-address", text)?;
        all[at].1.aux_address.insert(name.to_owned(), text.to_owned());
    }
    Ok(all.into_iter().map(|(_, config)| config).collect())
}

impl Command for Connect {
    fn run(self, context: &Context) -> Result<u8> {
        let links = self.link.iter().map(|link| values::link(link).map_err(|why| anyhow!(why)));
        let links: Vec<String> = links.collect::<Result<_>>()?;
        let address = |given: &Option<String>, four| {
            given.as_deref().map_or(Ok(String::new()), |text| networks::address(text, four))
        };
        let addresses = EndpointAddresses {
            ipv4_address: address(&self.ip, true)?,
            ipv6_address: address(&self.ip6, false)?,
            link_local_ips: networks::link_local(&self.link_local_ip)?,
        };
        let settings = EndpointSettings {
            ipam_config: Some(addresses).filter(|addresses| *addresses != EndpointAddresses::default()),
            aliases: Some(self.alias).filter(|aliases| !aliases.is_empty()),
            links: Some(links).filter(|links| !links.is_empty()),
            driver_opts: Some(values::pairs(&self.driver_opt)).filter(|options| !options.is_empty()),
            gw_priority: self.gw_priority.unwrap_or(0),
            ..EndpointSettings::default()
        };
        let asked = NetworkConnect { container: self.container, endpoint_config: Some(settings) };
        context.client()?.connect_network(&self.network, &asked)?;
        Ok(0)
    }
}

impl Command for Disconnect {
    fn run(self, context: &Context) -> Result<u8> {
        let asked = NetworkDisconnect { container: self.container, force: self.force };
        context.client()?.disconnect_network(&self.network, &asked)?;
        Ok(0)
    }
}

impl Command for Rm {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        let mut errors = Vec::new();
        for name in &self.networks {
            match client.remove_network(name) {
                Err(error) if self.force && is_not_found(&error) => {}
                Err(error) => errors.push(error),
                Ok(()) => output::say(&format!("{name}\n"))?,
            }
        }
        // What Go says of an exit code without words.
        each::together_and(errors, || "exit status 1".to_owned())
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.status == 404)
}

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
        order::by(&mut networks, |a, b| a.name.cmp(&b.name));
        let rows: Vec<Value> = networks.iter().map(|network| row(network, !self.no_trunc)).collect();
        let format = match self.quiet {
            true => self.format.unwrap_or_default(),
            false => habits::or_kept(self.format, |kept| kept.networks_format)?,
        };
        output::say(&LIST.print(&format, self.quiet, &rows)?)?;
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
        "CreatedAt": units::spoken_as_told(&network.created),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_subnet_goes_with_it() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let config = subnets(
            &list(&["10.1.0.0/16", "fd00:1::/64"]),
            &list(&["10.1.5.0/24"]),
            &list(&["fd00:1::9", "10.1.0.9"]),
            &list(&["printer=10.1.0.7"]),
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(&config).unwrap(),
            json!([
                {"Subnet": "10.1.0.0/16", "IPRange": "10.1.5.0/24", "Gateway": "10.1.0.9", "AuxiliaryAddresses": {"printer": "10.1.0.7"}},
                {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::9"},
            ])
        );
        let none = Vec::new();
        for (result, words) in [
            (
                subnets(&none, &none, &list(&["10.1.0.9"]), &none),
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                subnets(&list(&["10.1.0.0/16"]), &none, &list(&["10.2.0.9"]), &none),
                "no matching subnet for gateway 10.2.0.9",
            ),
            (
                subnets(&list(&["10.1.0.0/16", "10.1.2.0/24"]), &none, &none, &none),
                "multiple overlapping subnet configuration is not supported",
            ),
            (subnets(&list(&["10.1"]), &none, &none, &none), "invalid CIDR address: 10.1"),
        ] {
            assert_eq!(result.unwrap_err().to_string(), words);
        }
    }
}
