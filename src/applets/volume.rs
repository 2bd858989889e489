//! `dhow volume create`, `ls` and `rm`; inspect and prune stand with those of their kind.

use super::format::table::List;
use super::request::values;
use super::{Command, Context, each, face, filter, habits, output};
use crate::api::types::{Volume, VolumeCreate};
use crate::order;
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// Create a volume
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// driver: local
    #[argh(option, short = 'd')]
    driver: Option<String>,
    /// a label: key=value
    #[argh(option)]
    label: Vec<String>,
    /// the volume's name
    #[argh(option, hidden_help)]
    name: Option<String>,
    /// an option of the driver: key=value
    #[argh(option, short = 'o')]
    opt: Vec<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    availability: Option<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    group: Option<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    limit_bytes: Option<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    required_bytes: Option<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    scope: Option<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    secret: Vec<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    sharing: Option<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    topology_preferred: Vec<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    topology_required: Vec<String>,
    /// only for volumes of a cluster (with a later release)
    #[argh(option)]
    r#type: Option<String>,
    #[argh(positional, arg_name = "VOLUME")]
    volume: Option<String>,
}

/// List volumes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// only volumes of a cluster (with a later release)
    #[argh(switch)]
    cluster: bool,
    /// only those that fit: dangling=true, driver=x, label=a=b, name=x
    #[argh(option, short = 'f', from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// print the names only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

/// Remove one or more volumes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// do not mind one that is not there
    #[argh(switch, short = 'f')]
    force: bool,
    #[argh(positional, arg_name = "VOLUME [VOLUME...]")]
    volumes: Vec<String>,
}

impl Command for Create {
    fn run(self, context: &Context) -> Result<u8> {
        let create = self.request()?;
        let volume = context.client()?.create_volume(&create)?;
        output::say(&format!("{}\n", volume.name))?;
        Ok(0)
    }
}

impl Create {
    /// The body of create. Pure, as that of a container.
    fn request(self) -> Result<VolumeCreate> {
        let cluster = [
            self.availability,
            self.group,
            self.limit_bytes,
            self.required_bytes,
            self.scope,
            self.sharing,
            self.r#type,
        ];
        let lists = [self.secret, self.topology_preferred, self.topology_required];
        if cluster.iter().any(Option::is_some) || lists.iter().any(|list| !list.is_empty()) {
            bail!("volumes of a cluster come with a later release of dhow");
        }
        if self.volume.is_some() && self.name.is_some() {
            bail!("conflicting options: cannot specify a volume-name through both --name and as a positional arg");
        }
        for label in &self.label {
            values::label(label).map_err(|why| face::Misfit::new("--label", label, &why))?;
        }
        Ok(VolumeCreate {
            driver: self.driver.unwrap_or_else(|| "local".to_owned()),
            driver_opts: Some(values::pairs(&self.opt)),
            labels: Some(values::pairs(&self.label)),
            name: self.volume.or(self.name).unwrap_or_default(),
            cluster_volume_spec: None,
        })
    }
}

const LIST: List = List {
    go_type: "*formatter.volumeContext",
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Group", "GROUP"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ],
    table: "table {{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: Some(("name: {{.Name}}\ndriver: {{.Driver}}\n", "name: {{.Name}}")),
};

impl Command for Ls {
    fn run(self, context: &Context) -> Result<u8> {
        if self.cluster {
            bail!("--cluster: volumes of a cluster come with a later release of dhow");
        }
        let mut volumes = context.client()?.volumes(&filter::gather(self.filter))?.volumes;
        order::by_key(&mut volumes, |volume| natural(&volume.name));
        let rows: Vec<Value> = volumes.iter().map(row).collect();
        let format = match self.quiet {
            true => self.format.unwrap_or_default(),
            false => habits::or_kept(self.format, |kept| kept.volumes_format)?,
        };
        output::say(&LIST.print(&format, self.quiet, &rows)?)?;
        Ok(0)
    }
}

pub fn row(volume: &Volume) -> Value {
    let labels = volume.labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let size = volume.usage_data.as_ref().map(|usage| usage.size).filter(|size| *size >= 0);
    let size = size.map(|size| super::format::units::decimal(size, 4));
    json!({
        "Name": volume.name,
        "Group": "N/A",
        "Driver": volume.driver,
        "Scope": volume.scope,
        "Availability": "N/A",
        "Mountpoint": volume.mountpoint,
        "Labels": labels.collect::<Vec<_>>().join(","),
        "Label": volume.labels.clone().unwrap_or_default(),
        "Links": match volume.usage_data.as_ref().map(|usage| usage.ref_count).filter(|count| *count >= 0) {
            Some(count) => count.to_string(),
            None => "N/A".to_owned(),
        },
        "Size": size.unwrap_or_else(|| "N/A".to_owned()),
        "Status": "N/A",
    })
}

/// The order in which people count: `v2` before `v10`.
pub fn natural(name: &str) -> Vec<(u128, String)> {
    let mut parts = vec![(0, String::new())];
    let mut rest = name;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        if let Some(last) = parts.last_mut() {
            last.1.push_str(&rest[..at]);
        }
        let end = rest[at..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| at + length);
        parts.push((rest[at..end].parse().unwrap_or(u128::MAX), String::new()));
        rest = &rest[end..];
    }
    if let Some(last) = parts.last_mut() {
        last.1.push_str(rest);
    }
    parts
}

impl Command for Rm {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        each::one_by_one(self.volumes.iter().map(|name| (name, client.remove_volume(name, self.force))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_order_in_which_people_count() {
        let mut names = ["v10", "v2", "a", "v2b", "10", "9", "v"];
        order::by_key(&mut names, |name| natural(name));
        assert_eq!(names, ["9", "10", "a", "v", "v2", "v2b", "v10"]);
    }
}
