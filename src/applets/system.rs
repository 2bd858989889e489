//! `dhow system df` and `system prune`.

use super::format::table::List;
use super::format::template::Template;
use super::format::units;
use super::format::value::{Node, Shape};
use super::prune::{Pruned, Section};
use super::{Command, Context, face, filter, habits, images, output, prune, ps, volume};
use crate::api::time::Time;
use crate::api::types::{BuildCache, ContainerSummary, DiskUsage, ImageSummary, Volume};
use crate::order;
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// Show how much disk images, containers and volumes use
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Df {
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// each image, container and volume
    #[argh(switch, short = 'v')]
    verbose: bool,
}

/// Remove what nothing uses
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// all images that no container uses, and not only those without a name
    #[argh(switch, short = 'a')]
    all: bool,
    /// only those that fit: until=24h, label=a=b
    #[argh(option, from_str_fn(filter::pair))]
    filter: Vec<(String, String)>,
    /// do not ask
    #[argh(switch, short = 'f')]
    force: bool,
    /// anonymous volumes too
    #[argh(switch)]
    volumes: bool,
}

const SUMMARY: List = List {
    go_type: "*formatter.diskUsageImagesContext",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    raw: Some((
        "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
        "{{.Type}}",
    )),
};

const IMAGES: List = List {
    table: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    ..images::PLAIN
};

const CONTAINERS: List = List {
    table: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    ..ps::NARROW
};

const VOLUMES: List = List {
    go_type: "*formatter.volumeContext",
    headers: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    table: "table {{.Name}}\t{{.Links}}\t{{.Size}}",
    quiet: "{{.Name}}",
    raw: None,
};

const CACHES: List = List {
    go_type: "*formatter.buildCacheContext",
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    table: "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    quiet: "{{.ID}}",
    raw: None,
};

impl Command for Df {
    fn run(self, context: &Context) -> Result<u8> {
        let format = self.format.unwrap_or_default();
        let mut usage = context.client()?.disk_usage()?;
        for container in usage.containers.iter_mut().flatten() {
            // That of its image is told with that.
            container.size_root_fs = 0;
        }
        let text = match (self.verbose, format.as_str()) {
            (true, "" | "table") => Whole::of(&usage, true).tables()?,
            (true, format) => Whole::of(&usage, false).print(format)?,
            (false, format) => SUMMARY.print(format, false, &summary(&usage))?,
        };
        output::say(&text)?;
        Ok(0)
    }
}

fn summary(usage: &DiskUsage) -> Vec<Value> {
    let images = usage.images.as_deref().unwrap_or_default();
    let containers = usage.containers.as_deref().unwrap_or_default();
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let caches = usage.build_cache.as_deref().unwrap_or_default();
    let alone = |image: &&ImageSummary| image.size - image.shared_size.max(0);
    let is_used = |image: &&ImageSummary| image.containers != 0;
    let is_active = |it: &&ContainerSummary| matches!(it.state.as_str(), "running" | "paused" | "restarting");
    let size = |volume: &Volume| volume.usage_data.as_ref().map_or(0, |usage| usage.size.max(0));
    let is_named = |volume: &&Volume| volume.usage_data.as_ref().is_some_and(|usage| usage.ref_count > 0);
    let used: i64 = images.iter().filter(is_used).map(|image| alone(&image)).sum();
    let written: i64 = containers.iter().map(|it| it.size_rw).sum();
    let idle: i64 = containers.iter().filter(|it| !is_active(it)).map(|it| it.size_rw).sum();
    let held: i64 = volumes.iter().map(size).sum();
    let unnamed: i64 = volumes.iter().filter(|volume| !is_named(volume)).map(size).sum();
    let cached: i64 = caches.iter().filter(|cache| !cache.shared).map(|cache| cache.size).sum();
    let needless: i64 = caches.iter().filter(|cache| !cache.shared && !cache.in_use).map(|cache| cache.size).sum();
    vec![
        line(
            "Images",
            images.len(),
            images.iter().filter(is_used).count(),
            usage.layers_size,
            usage.layers_size - used,
            true,
        ),
        line("Containers", containers.len(), containers.iter().filter(is_active).count(), written, idle, true),
        line("Local Volumes", volumes.len(), volumes.iter().filter(is_named).count(), held, unnamed, true),
        line("Build Cache", caches.len(), caches.iter().filter(|cache| cache.in_use).count(), cached, needless, false),
    ]
}

fn line(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64, share: bool) -> Value {
    let mut text = units::decimal(reclaimable, 4);
    if share && size > 0 {
        text.push_str(&format!(" ({}%)", i128::from(reclaimable) * 100 / i128::from(size)));
    }
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": units::decimal(size, 4),
        "Reclaimable": text,
    })
}

/// Each image, container, volume and cache, as rows.
struct Whole {
    images: Vec<Value>,
    containers: Vec<Value>,
    volumes: Vec<Value>,
    caches: Vec<Value>,
    cached: i64,
}

impl Whole {
    /// `short`: with what is long cut, as in tables.
    fn of(usage: &DiskUsage, short: bool) -> Whole {
        // By the first of its names.
        let image = |image| images::rows(image, short).into_iter().take(1);
        let mut caches: Vec<&BuildCache> = usage.build_cache.iter().flatten().collect();
        order::by(&mut caches, |a, b| (&a.last_used_at, &a.id).cmp(&(&b.last_used_at, &b.id)));
        Whole {
            images: usage.images.iter().flatten().flat_map(image).collect(),
            containers: usage.containers.iter().flatten().map(|it| ps::row(it, short)).collect(),
            volumes: usage.volumes.iter().flatten().map(volume::row).collect(),
            cached: caches.iter().map(|cache| cache.size).sum(),
            caches: caches.into_iter().map(|it| cache(it, short)).collect(),
        }
    }

    fn tables(&self) -> Result<String> {
        Ok(format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
             Build cache usage: {}\n\n{}",
            IMAGES.print("", false, &self.images)?,
            CONTAINERS.print("", false, &self.containers)?,
            VOLUMES.print("", false, &self.volumes)?,
            units::decimal(self.cached, 4),
            CACHES.print("", false, &self.caches)?,
        ))
    }

    /// By a template that is given all of it, as docker does it: no line ends behind it.
    fn print(&self, format: &str) -> Result<String> {
        let template = if format == "json" { "{{json .}}" } else { format };
        let template = Template::parse(&template.replace("\\t", "\t").replace("\\n", "\n"))?;
        let part = |name: &str, rows: &[Value], list: &List| -> Result<(String, Node)> {
            let rows: Result<_, _> = rows.iter().map(|row| Node::row(row, list.go_type)).collect();
            Ok((name.to_owned(), Node::List(rows?)))
        };
        let whole = vec![
            part("Images", &self.images, &IMAGES)?,
            part("Containers", &self.containers, &CONTAINERS)?,
            part("Volumes", &self.volumes, &VOLUMES)?,
            part("BuildCache", &self.caches, &CACHES)?,
        ];
        template.walk(&Node::Object(whole, Shape::Struct))
    }
}

fn cache(cache: &BuildCache, short: bool) -> Value {
    let since = |text: &str| Time::parse(text).map(units::ago).unwrap_or_default();
    let last = cache.last_used_at.as_deref();
    let id = match short {
        true => format!("{}{}", &cache.id[..12.min(cache.id.len())], if cache.in_use { "*" } else { "" }),
        false => cache.id.clone(),
    };
    json!({
        "ID": id,
        "CacheType": cache.r#type,
        "Description": cache.description,
        "InUse": cache.in_use.to_string(),
        "Size": units::decimal(cache.size, 3),
        "CreatedAt": cache.created_at,
        "CreatedSince": since(&cache.created_at),
        "LastUsedAt": last.unwrap_or_default(),
        "LastUsedSince": last.map(since).unwrap_or_default(),
        // Nobody counts it here.
        "UsageCount": "0",
        "Shared": cache.shared.to_string(),
    })
}

impl Command for Prune {
    fn run(self, context: &Context) -> Result<u8> {
        let filters = habits::read()?.prune(filter::gather(self.filter));
        if self.volumes && filters.contains_key("until") {
            let words = "ERROR: The \"until\" filter is not supported with \"--volumes\"";
            bail!(face::words(words, words.trim_start_matches("ERROR: ")).to_owned());
        }
        let mut what = vec!["all stopped containers", "all networks not used by at least one container"];
        if self.volumes {
            what.push("all anonymous volumes not used by at least one container");
        }
        what.push(match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        });
        if filters.is_empty() {
            what.push(if self.all { "all build cache" } else { "unused build cache" });
        }
        let mut warning: String = what.iter().map(|what| format!("\n  - {what}")).collect();
        if !filters.is_empty() {
            warning.push_str("\n\n  Items to be pruned will be filtered with:");
            let pairs = filters.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
            warning.extend(pairs.map(|(key, value)| format!("\n  - {key}={value}")));
        }
        prune::confirm_all(self.force, "system", &format!("WARNING! This will remove:{warning}\n"))?;
        let client = context.client()?;
        let of_filters = !filters.is_empty();
        let mut pruned = Pruned::default();
        pruned.add(Section::containers(client.prune_containers(&filters)?));
        pruned.add(Section::networks(client.prune_networks(&filters)?));
        if self.volumes {
            pruned.add(Section::volumes(client.prune_volumes(&filters)?));
        }
        let mut of_images = filters;
        of_images.entry("dangling".to_owned()).or_default().push((!self.all).to_string());
        pruned.add(Section::images(client.prune_images(&of_images)?));
        if !of_filters {
            pruned.add(Section::builds(client.prune_builds(self.all, &[], &Default::default())?));
        }
        pruned.print()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::VolumeUsage;

    #[test]
    fn as_docker_counts() {
        let image =
            |containers, size, shared_size| ImageSummary { containers, size, shared_size, ..Default::default() };
        let container = |state: &str, size_rw| ContainerSummary { state: state.into(), size_rw, ..Default::default() };
        let volume =
            |ref_count, size| Volume { usage_data: Some(VolumeUsage { ref_count, size }), ..Default::default() };
        let usage = DiskUsage {
            layers_size: 3000,
            images: Some(vec![image(1, 2000, 1000), image(0, 2000, 1000)]),
            containers: Some(vec![container("running", 100), container("exited", 300)]),
            volumes: Some(vec![volume(1, 36), volume(0, -1)]),
            build_cache: Some(vec![]),
            builder_size: 0,
        };
        let expected = "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
                        Images          2         1         3kB       2kB (66%)\n\
                        Containers      2         1         400B      300B (75%)\n\
                        Local Volumes   2         1         36B       0B (0%)\n\
                        Build Cache     0         0         0B        0B\n";
        assert_eq!(SUMMARY.print("", false, &summary(&usage)).unwrap(), expected);
        let (whole, short) = (Whole::of(&usage, false), Whole::of(&usage, true));
        assert!(short.tables().unwrap().contains("VOLUME NAME   LINKS     SIZE\n"));
        let template =
            "{{len .Images}}{{range .Containers}} {{.State}} {{.Size}}{{end}}{{range .Volumes}} {{.Links}}{{end}}";
        assert_eq!(whole.print(template).unwrap(), "2 running 100B exited 300B 1 0");
        let all: Value = serde_json::from_str(&whole.print("json").unwrap()).unwrap();
        assert_eq!((&all["Volumes"][0]["Size"], &all["BuildCache"]), (&json!("36B"), &json!([])));
        assert!(whole.print("{{.Nope}}").is_err());
    }
}
