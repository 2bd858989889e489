//! `dhow container prune`, `image prune` and `volume prune`.

use super::format::units;
use super::{Command, Context, filter, output};
use crate::api::client::Filters;
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
        let pruned = context.client()?.prune_containers(&filter::gather(self.filter))?;
        let deleted = pruned.containers_deleted.unwrap_or_default();
        report("Deleted Containers:", &deleted, pruned.space_reclaimed)
    }
}

impl Command for PruneImages {
    fn run(self, context: &Context) -> Result<u8> {
        let which = if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        let mut filters = filter::gather(self.filter);
        filters.entry("dangling".to_owned()).or_default().push((!self.all).to_string());
        confirm(self.force, "image", which)?;
        let pruned = context.client()?.prune_images(&filters)?;
        let step = |step: crate::api::types::ImageDeleted| match step.untagged.as_str() {
            "" => format!("deleted: {}", step.deleted),
            untagged => format!("untagged: {untagged}"),
        };
        let deleted: Vec<String> = pruned.images_deleted.unwrap_or_default().into_iter().map(step).collect();
        report("Deleted Images:", &deleted, pruned.space_reclaimed)
    }
}

impl Command for PruneVolumes {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = volume_filters(filter::gather(self.filter), self.all)?;
        let which = if self.all { "all" } else { "anonymous" };
        confirm(self.force, "volume", &format!("{which} local volumes not used by at least one container"))?;
        let pruned = context.client()?.prune_volumes(&filters)?;
        let deleted = pruned.volumes_deleted.unwrap_or_default();
        report("Deleted Volumes:", &deleted, pruned.space_reclaimed)
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
    if force {
        return Ok(());
    }
    output::say(&format!("WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading the answer")?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        bail!("{kind} prune has been cancelled");
    }
    Ok(())
}

fn report(title: &str, deleted: &[String], reclaimed: u64) -> Result<u8> {
    let mut text = String::new();
    if !deleted.is_empty() {
        let _ = write!(text, "{title}\n{}\n\n", deleted.join("\n"));
    }
    let reclaimed = i64::try_from(reclaimed).unwrap_or(i64::MAX);
    let _ = writeln!(text, "Total reclaimed space: {}", units::decimal(reclaimed, 4));
    output::say(&text)?;
    Ok(0)
}
