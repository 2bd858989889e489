//! `dhow inspect`, and that of each kind of thing.

pub mod indent;

use super::format::template::Template;
use super::{Command, Context, coded, each, face, output};
use crate::api::client::{Client, Failure};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};

/// Return low-level information on containers, images, networks and volumes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// print by a Go template, or "json" for one line
    #[argh(option, short = 'f')]
    format: Option<String>,
    /// show the size of a container's files
    #[argh(switch, short = 's')]
    size: bool,
    /// only things of this kind: container, image, network, volume
    #[argh(option)]
    r#type: Option<String>,
    #[argh(positional, arg_name = "NAME|ID [NAME|ID...]")]
    names: Vec<String>,
}

/// Display detailed information on one or more containers
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct InspectContainer {
    /// print by a Go template, or "json" for one line
    #[argh(option, short = 'f')]
    format: Option<String>,
    /// show the size of its files
    #[argh(switch, short = 's')]
    size: bool,
    #[argh(positional, arg_name = "CONTAINER [CONTAINER...]")]
    names: Vec<String>,
}

/// Display detailed information on one or more images
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct InspectImage {
    /// print by a Go template, or "json" for one line
    #[argh(option, short = 'f')]
    format: Option<String>,
    /// the platform of the image: os/arch[/variant]
    #[argh(option)]
    platform: Option<String>,
    #[argh(positional, arg_name = "IMAGE [IMAGE...]")]
    names: Vec<String>,
}

/// Display detailed information on one or more volumes
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct InspectVolume {
    /// print by a Go template, or "json" for one line
    #[argh(option, short = 'f')]
    format: Option<String>,
    #[argh(positional, arg_name = "VOLUME [VOLUME...]")]
    names: Vec<String>,
}

/// Display detailed information on one or more networks
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct InspectNetwork {
    /// print by a Go template, or "json" for one line
    #[argh(option, short = 'f')]
    format: Option<String>,
    /// what a swarm knows of it, too: a network of this host has nothing of that
    #[argh(switch, short = 'v')]
    verbose: bool,
    #[argh(positional, arg_name = "NETWORK [NETWORK...]")]
    names: Vec<String>,
}

/// Docker's exit code for a template that cannot be read.
const BAD_TEMPLATE: u8 = 64;
/// Kinds of things that other daemons have, and where.
const OTHERS: [(&str, &str, &str); 6] = [
    ("config", "/configs/", ""),
    ("node", "/nodes/", ""),
    ("plugin", "/plugins/", "/json"),
    ("secret", "/secrets/", ""),
    ("service", "/services/", ""),
    ("task", "/tasks/", ""),
];

impl Command for Inspect {
    fn run(self, context: &Context) -> Result<u8> {
        let kind = self.r#type.as_deref();
        match kind {
            None | Some("container" | "image" | "network" | "volume") => {}
            Some("") => bail!("type is empty: must be one of {}", kinds()),
            Some(kind) if OTHERS.iter().any(|(other, ..)| *other == kind) => {}
            Some(kind) => bail!("unknown type: {kind:?}: must be one of {}", kinds()),
        }
        let client = context.client()?;
        print(&self.names, self.format, |name| find(&client, name, kind, self.size))
    }
}

impl Command for InspectContainer {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        print(&self.names, self.format, |name| client.inspect_container(name, self.size))
    }
}

impl Command for InspectImage {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        let platform = self.platform.unwrap_or_default();
        print(&self.names, self.format, |name| client.inspect_image(name, &platform))
    }
}

impl Command for InspectVolume {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        print(&self.names, self.format, |name| client.inspect_volume(name))
    }
}

impl Command for InspectNetwork {
    fn run(self, context: &Context) -> Result<u8> {
        let client = context.client()?;
        print(&self.names, self.format, |name| client.inspect_network(name, self.verbose))
    }
}

fn kinds() -> &'static str {
    face::words(
        r#""config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume""#,
        r#""container", "image", "network", "volume""#,
    )
}

/// Looks for a thing of that name: a container first, then an image, a network, a volume.
fn find(client: &Client, name: &str, kind: Option<&str>, size: bool) -> Result<Vec<u8>> {
    type Look<'a> = (&'a str, &'a dyn Fn() -> Result<Vec<u8>>);
    let looks: [Look; 4] = [
        ("container", &|| client.inspect_container(name, size)),
        ("image", &|| client.inspect_image(name, "")),
        ("network", &|| client.inspect_network(name, false)),
        ("volume", &|| client.inspect_volume(name)),
    ];
    if let Some((_, before, after)) = OTHERS.iter().find(|(other, ..)| Some(*other) == kind) {
        return client.look(before, name, after);
    }
    for (of, look) in looks {
        if kind.is_some_and(|kind| kind != of) {
            continue;
        }
        match look() {
            Err(error) if kind.is_none() && another_kind(&error) => {}
            answer => {
                if size && of != "container" && answer.is_ok() {
                    output::complain(&format!("WARNING: --size ignored for {of}"));
                }
                return answer;
            }
        }
    }
    bail!("{}: {name}", face::words("Error: No such object", "error: no such object"))
}

/// Whether it may be there as a thing of another kind.
fn another_kind(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Failure>()
        .is_some_and(|failure| failure.status == 404 || failure.message.contains("invalid reference format"))
}

/// Prints what `get` finds for each name. What is not found is told after what is.
pub fn print(names: &[String], format: Option<String>, get: impl Fn(&str) -> Result<Vec<u8>>) -> Result<u8> {
    let format = format.unwrap_or_default();
    let template = match format.as_str() {
        "" | "json" => None,
        format => Some(Template::parse(format).map_err(|error| coded(BAD_TEMPLATE, error))?),
    };
    let (mut found, mut errors, mut text) = (Vec::new(), Vec::new(), String::new());
    for name in names {
        let answer = get(name).and_then(|raw| String::from_utf8(raw).context("reading the engine's answer"));
        let printed = match (&template, answer) {
            (Some(template), Ok(raw)) => {
                template.execute_json(raw.as_bytes()).map(|line| text.push_str(&format!("{line}\n")))
            }
            (None, Ok(raw)) => {
                found.push(raw);
                Ok(())
            }
            (_, Err(error)) => Err(error),
        };
        errors.extend(printed.err());
    }
    match (&template, format.as_str()) {
        (Some(_), _) if text.is_empty() => text.push('\n'),
        (Some(_), _) => {}
        (None, "json") => text = format!("[{}]\n", found.iter().map(|raw| raw.trim()).collect::<Vec<_>>().join(",")),
        (None, _) => text = indent::array(&found),
    }
    output::say(&text)?;
    each::together(errors)
}
