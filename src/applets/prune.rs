//! `dhow container prune`, `image prune`, `network prune` and `volume prune`.

use super::format::units;
use super::{Command, Context, filter, habits, output};
use crate::api::client::Filters;
use crate::api::types::{BuildPruned, ContainersPruned, ImageDeleted, ImagesPruned, NetworksPruned, VolumesPruned};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use std::fmt::Write;

/// Remove all stopped containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct PruneContainers {
    /// only those that fit: until=24h, label=a=b
    #[argh(option, from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
}

/// Remove unused images
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct PruneImages {
    /// all that no container uses, and not only those without a name
    #[argh(switch, short = 'a')]
    all: bool,
    /// only those that fit: until=24h, label=a=b
    #[argh(option, from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
}

/// Remove all unused networks
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct PruneNetworks {
    /// only those that fit: until=24h, label=a=b
    #[argh(option, from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
}

/// Remove unused local volumes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct PruneVolumes {
    /// all that no container uses, and not only those without a name
    #[argh(switch, short = 'a')]
    all: bool,
    /// only those that fit: label=a=b
    #[argh(option, from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
}

impl Command for PruneContainers {
    fn run(self, context: &Context) -> Result<u8> {
        confirm(self.force, "container", "all stopped containers")?;
        let pruned = context.client()?.prune_containers(&habits::read()?.prune(filter::gather(self.filter)))?;
        Pruned::of(Section::containers(pruned)).print()
    }
}

impl Command for PruneImages {
    fn run(self, context: &Context) -> Result<u8> {
        let which = if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        let mut filters = habits::read()?.prune(filter::gather(self.filter));
        filters.entry("dangling".to_owned()).or_default().push((!self.all).to_string());
        confirm(self.force, "image", which)?;
        let pruned = context.client()?.prune_images(&filters)?;
        Pruned::of(Section::images(pruned)).print()
    }
}

impl Command for PruneNetworks {
    fn run(self, context: &Context) -> Result<u8> {
        confirm(self.force, "network", "all custom networks not used by at least one container")?;
        let pruned = context.client()?.prune_networks(&habits::read()?.prune(filter::gather(self.filter)))?;
        output::say(&Section::networks(pruned).text())?;
        Ok(0)
    }
}

impl Command for PruneVolumes {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = volume_filters(habits::read()?.prune(filter::gather(self.filter)), self.all)?;
        let which = if self.all { "all" } else { "anonymous" };
        confirm(self.force, "volume", &format!("{which} local volumes not used by at least one container"))?;
        let pruned = context.client()?.prune_volumes(&filters)?;
        Pruned::of(Section::volumes(pruned)).print()
    }
}

fn volume_filters(mut filters: Filters, all: bool) -> Result<Filters> {
    if all && filters.contains_key("all") {
        bail!("conflicting options: cannot specify both --all and --filter all=1");
    }
    if all {
        filters.insert("all".to_owned(), vec!["true".to_owned()]);
    }
    Ok(filters)
}

/// Asks on stdout and reads a line of stdin: anything but yes is no.
fn confirm(force: bool, kind: &str, what: &str) -> Result<()> {
    confirm_all(force, kind, &format!("WARNING! This will remove {what}."))
}

/// The same with a warning of several lines.
pub fn confirm_all(force: bool, kind: &str, warning: &str) -> Result<()> {
    if force {
        return Ok(());
    }
    output::say(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading the answer")?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        bail!("{kind} prune has been cancelled");
    }
    Ok(())
}

/// What went of one kind.
pub struct Section {
    title: &'static str,
    gone: Vec<String>,
    reclaimed: u64,
}

impl Section {
    pub fn containers(pruned: ContainersPruned) -> Section {
        let gone = pruned.containers_deleted.unwrap_or_default();
        Section { title: "Deleted Containers:", gone, reclaimed: pruned.space_reclaimed }
    }

    pub fn builds(pruned: BuildPruned) -> Section {
        let gone = pruned.caches_deleted.unwrap_or_default();
        Section { title: "Deleted build cache objects:", gone, reclaimed: pruned.space_reclaimed }
    }

    pub fn networks(pruned: NetworksPruned) -> Section {
        let gone = pruned.networks_deleted.unwrap_or_default();
        Section { title: "Deleted Networks:", gone, reclaimed: 0 }
    }

    pub fn volumes(pruned: VolumesPruned) -> Section {
        let gone = pruned.volumes_deleted.unwrap_or_default();
        Section { title: "Deleted Volumes:", gone, reclaimed: pruned.space_reclaimed }
    }

    /// Nothing where nothing went.
    fn text(&self) -> String {
        match self.gone.is_empty() {
            true => String::new(),
            false => format!("{}\n{}\n\n", self.title, self.gone.join("\n")),
        }
    }

    pub fn images(pruned: ImagesPruned) -> Section {
        let step = |step: ImageDeleted| match step.untagged.as_str() {
            "" => format!("deleted: {}", step.deleted),
            untagged => format!("untagged: {untagged}"),
        };
        let gone = pruned.images_deleted.unwrap_or_default().into_iter().map(step).collect();
        Section { title: "Deleted Images:", gone, reclaimed: pruned.space_reclaimed }
    }
}

/// What went, and how many bytes that gave back.
#[derive(Default)]
pub struct Pruned {
    text: String,
    reclaimed: u64,
}

impl Pruned {
    fn of(section: Section) -> Pruned {
        let mut pruned = Pruned::default();
        pruned.add(section);
        pruned
    }

    pub fn add(&mut self, section: Section) {
        self.text.push_str(&section.text());
        self.reclaimed += section.reclaimed;
    }

    pub fn print(mut self) -> Result<u8> {
        let reclaimed = i64::try_from(self.reclaimed).unwrap_or(i64::MAX);
        let _ = writeln!(self.text, "Total reclaimed space: {}", units::decimal(reclaimed, 4));
        output::say(&self.text)?;
        Ok(0)
    }
}
