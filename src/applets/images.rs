//! `dhow images`.

use super::format::table::List;
use super::format::units;
use super::ps::short_id;
use super::{Command, Context, filter, habits, output};
use crate::api::time::Time;
use crate::api::types::ImageSummary;
use crate::oci::reference::Reference;
use crate::order::Map;
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// List images
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Images {
    /// all, also those without a name that others are built on
    #[argh(switch, short = 'a')]
    all: bool,
    /// show their digests
    #[argh(switch)]
    digests: bool,
    /// only those that fit: reference=x, dangling=true, label=a=b, before=x, since=x
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
    /// show the platforms of each as a tree (with a later release)
    #[argh(switch)]
    tree: bool,
    #[argh(positional, arg_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

pub const PLAIN: List = List {
    go_type: "*formatter.imageContext",
    headers: HEADERS,
    table: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    quiet: "{{.ID}}",
    raw: Some((
        "repository: {{ .Repository }}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
        "image_id: {{.ID}}",
    )),
};

const WITH_DIGEST: List = List {
    table: "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    raw: Some((
        "repository: {{ .Repository }}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
        "image_id: {{.ID}}",
    )),
    ..PLAIN
};

impl Command for Images {
    fn run(self, context: &Context) -> Result<u8> {
        if self.tree {
            bail!("--tree: the tree of platforms comes with a later release of dhow");
        }
        let mut filters = filter::gather(self.filter);
        if let Some(name) = self.name {
            filters.entry("reference".to_owned()).or_default().push(name);
        }
        let mut format = match self.quiet {
            true => self.format.unwrap_or_default(),
            false => habits::or_kept(self.format, |kept| kept.images_format)?,
        };
        if self.digests {
            format = with_digest(format);
        }
        let digest = self.digests || format.contains("{{.Digest}}");
        let images = context.client()?.images(self.all, &filters)?;
        let rows: Vec<Value> = images
            .iter()
            .flat_map(|image| names(image, digest, self.digests).into_iter().map(move |name| (image, name)))
            .map(|(image, name)| row(image, name, !self.no_trunc))
            .collect();
        let list = if self.digests { WITH_DIGEST } else { PLAIN };
        output::say(&list.print(&format, self.quiet, &rows)?)?;
        Ok(0)
    }
}

/// A table of columns that were asked for has that of digests besides.
fn with_digest(format: String) -> String {
    let own = format.strip_prefix("table").is_some_and(|columns| !columns.is_empty());
    if own && !format.contains("{{.Digest}}") { format + "\t{{.Digest}}" } else { format }
}

/// One row's name.
#[derive(Debug, PartialEq)]
struct Name {
    repository: String,
    tag: String,
    digest: String,
}

const NONE: &str = "<none>";

/// A row for each tag; a repository that is known by digest only has one too.
fn names(image: &ImageSummary, digest: bool, each_digest: bool) -> Vec<Name> {
    let name = |repository: &str, tag: &str, digest: &str| Name {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    };
    let mut digests: Map<String, Vec<String>> = Map::new();
    for reference in image.repo_digests.iter().filter_map(|text| Reference::parse(text).ok()) {
        if let Some(digest) = &reference.digest {
            digests.entry(reference.familiar_name()).or_default().push(digest.to_string());
        }
    }
    let mut names = Vec::new();
    let mut tagged = Vec::new();
    for reference in image.repo_tags.iter().filter_map(|text| Reference::parse(text).ok()) {
        let (repository, tag) = (reference.familiar_name(), reference.tag.as_deref().unwrap_or(NONE));
        match digests.get(&repository).filter(|_| digest) {
            Some(of_it) => names.extend(of_it.iter().map(|digest| name(&repository, tag, digest))),
            None => names.push(name(&repository, tag, NONE)),
        }
        tagged.push(repository);
    }
    for (repository, of_it) in digests.iter().filter(|(repository, _)| !tagged.contains(repository)) {
        if each_digest {
            names.extend(of_it.iter().map(|digest| name(repository, NONE, digest)));
        } else {
            names.push(name(repository, NONE, of_it.first().filter(|_| digest).map_or("", String::as_str)));
        }
    }
    if names.is_empty() {
        names.push(name(NONE, NONE, NONE));
    }
    names
}

/// A row for each name of an image.
pub fn rows(image: &ImageSummary, short: bool) -> Vec<Value> {
    names(image, false, false).into_iter().map(|name| row(image, name, short)).collect()
}

fn row(image: &ImageSummary, name: Name, short: bool) -> Value {
    let created = Time { seconds: image.created, nanos: 0 };
    let counted = |bytes: i64| if bytes < 0 { "N/A".to_owned() } else { units::decimal(bytes, 4) };
    let unique = if image.size < 0 || image.shared_size < 0 { -1 } else { image.size - image.shared_size };
    json!({
        "ID": if short { short_id(&image.id) } else { &image.id },
        "Repository": name.repository,
        "Tag": name.tag,
        "Digest": name.digest,
        "CreatedSince": units::ago(created),
        "CreatedAt": units::spoken(created),
        "Size": units::decimal(image.size, 3),
        "Containers": if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() },
        "VirtualSize": units::decimal(image.size, 4),
        "SharedSize": counted(image.shared_size),
        "UniqueSize": counted(unique),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_a_column() {
        for (format, expected) in [
            ("", ""),
            ("table", "table"),
            ("{{.ID}}", "{{.ID}}"),
            ("table {{.ID}}", "table {{.ID}}\t{{.Digest}}"),
            ("table {{.Digest}}", "table {{.Digest}}"),
        ] {
            assert_eq!(with_digest(format.to_owned()), expected, "{format}");
        }
    }

    #[test]
    fn rows_of_an_image() {
        let digest = "sha256:8cd98ac9c60657b750a3e953d036b5543edfbd69f2f703f607612f3125c3f3bc";
        let image = ImageSummary {
            repo_tags: vec!["alpine:3".into(), "quay.io/x/alpine:latest".into()],
            repo_digests: vec![format!("alpine@{digest}"), format!("localhost:5000/a@{digest}")],
            ..Default::default()
        };
        let spelt = |digest, each| {
            let name = |name: Name| format!("{} {} {}", name.repository, name.tag, name.digest);
            names(&image, digest, each).into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(
            spelt(false, false),
            ["alpine 3 <none>", "quay.io/x/alpine latest <none>", "localhost:5000/a <none> "]
        );
        assert_eq!(
            spelt(true, true),
            [
                format!("alpine 3 {digest}"),
                "quay.io/x/alpine latest <none>".into(),
                format!("localhost:5000/a <none> {digest}")
            ],
        );
        assert_eq!(names(&ImageSummary::default(), false, false)[0].repository, "<none>");
    }
}
