//! `dhow context`: daemons that have a name, in the store of Docker's client, which reads what is written here.

use super::contexts::{self, Material, Meta, archive};
use super::format::table::{List, ellipsis};
use super::request::values;
use super::volume::natural;
use super::{Command, Context, each, host, inspect, output};
use crate::api::errno;
use crate::api::http::address::Address;
use crate::api::http::tls::{self, Files};
use crate::api::units::parse_bool;
use crate::oci::auth::keep;
use crate::order;
use crate::order::Map;
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use serde::Serialize;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Create a context
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// what it is for
    #[argh(option)]
    description: Option<String>,
    /// where its daemon is: host=tcp://server:2376,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true, or from=CONTEXT
    #[argh(option, from_str_fn(pairs))]
    docker: Vec<Vec<(String, String)>>,
    /// copy that context
    #[argh(option)]
    from: Option<String>,
    #[argh(positional, arg_name = "CONTEXT")]
    name: String,
}

/// List contexts
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// print by a Go template, "table" and one, or "json"
    #[argh(option)]
    format: Option<String>,
    /// print the names only
    #[argh(switch, short = 'q')]
    quiet: bool,
}

/// Set the context that is used where none is named
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Use {
    #[argh(positional, arg_name = "CONTEXT")]
    name: String,
}

/// Display detailed information on one or more contexts
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// print by a Go template, or "json" for one line
    #[argh(option, short = 'f')]
    format: Option<String>,
    #[argh(positional, arg_name = "[CONTEXT...]")]
    names: Vec<String>,
}

/// Update a context
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Update {
    /// what it is for
    #[argh(option)]
    description: Option<String>,
    /// where its daemon is, as with create
    #[argh(option, from_str_fn(pairs))]
    docker: Vec<Vec<(String, String)>>,
    #[argh(positional, arg_name = "CONTEXT")]
    name: String,
}

/// Remove one or more contexts
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// also the one in use, and say nothing of those that are not there
    #[argh(switch, short = 'f')]
    force: bool,
    #[argh(positional, arg_name = "CONTEXT [CONTEXT...]")]
    names: Vec<String>,
}

/// Export a context, with its keys, to a tar archive or to stdout (-)
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Export {
    #[argh(positional, arg_name = "CONTEXT")]
    name: String,
    #[argh(positional, arg_name = "FILE|-")]
    file: Option<String>,
}

/// Import a context from a tar or zip file, or from stdin (-)
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Import {
    #[argh(positional, arg_name = "CONTEXT")]
    name: String,
    #[argh(positional, arg_name = "FILE|-")]
    file: String,
}

/// Print the name of the current context
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Show {}

/// What docker calls the default context where it is described.
const DEFAULTS: &str = "Current DOCKER_HOST based configuration";
/// As much of an error as a column has room for.
const ERROR: usize = 45;

/// `host=tcp://x,ca=f`: as docker, with more than one `=` it is a record of CSV.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let fields = match text.matches('=').count() {
        1 => vec![text.trim_matches('"').to_owned()],
        _ => values::csv(text)?,
    };
    let pair = |field: &String| field.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    fields.iter().map(|field| pair(field).ok_or_else(|| format!("{field} must be formatted as key=value"))).collect()
}

impl Command for Create {
    fn run(self, context: &Context) -> Result<u8> {
        free(&self.name)?;
        if self.from.as_ref().is_some_and(|from| !from.is_empty()) && !self.docker.is_empty() {
            bail!("cannot use --docker flag when --from is set");
        }
        let description = self.description.unwrap_or_default();
        let from = self.from.filter(|from| !from.is_empty());
        let (mut meta, material) = if self.docker.is_empty() {
            let from = from.map_or_else(|| host::context_name(&context.wish), Ok)?;
            let (mut meta, material) = load(context, &from)?;
            if from == contexts::DEFAULT {
                meta.describe(DEFAULTS);
            }
            (meta, material)
        } else {
            let mut meta = Meta::default();
            let material = endpoint(context, &mut meta, self.docker)?;
            (meta, material)
        };
        meta.describe(&description);
        meta.name.clone_from(&self.name);
        contexts::save(&contexts::dir()?, &meta, &material)?;
        told(&self.name, "Successfully created context")
    }
}

/// Refuses a name that cannot be a new context's.
fn free(name: &str) -> Result<()> {
    contexts::check_name(name)?;
    if contexts::meta_dir(&contexts::dir()?, name).join("meta.json").exists() {
        bail!("context {name:?} already exists");
    }
    Ok(())
}

fn told(name: &str, what: &str) -> Result<u8> {
    output::say(&format!("{name}\n"))?;
    output::complain(&format!("{what} {name:?}"));
    Ok(0)
}

/// A context and its keys; the default one as it would be kept.
fn load(context: &Context, name: &str) -> Result<(Meta, Material)> {
    if name != contexts::DEFAULT {
        let dir = contexts::dir()?;
        return Ok((contexts::load(&dir, name)?, contexts::material(&dir, name)?));
    }
    let endpoint = host::default_endpoint(&context.wish, &context.place);
    let mut meta = Meta { name: name.to_owned(), ..Meta::default() };
    meta.describe("");
    meta.set_docker(&endpoint.host, endpoint.skip_verify);
    Ok((meta, material(&endpoint.files)?))
}

/// The files of TLS as they are kept.
fn material(files: &Files) -> Result<Material> {
    let mut found = Map::new();
    for (name, path) in [("ca.pem", &files.ca), ("cert.pem", &files.cert), ("key.pem", &files.key)] {
        if let Some(path) = path {
            let bytes = fs::read(path).with_context(|| format!("open {}", path.display()))?;
            found.insert(name.to_owned(), bytes);
        }
    }
    Ok(if found.is_empty() { Material::new() } else { Material::from([(contexts::DOCKER.to_owned(), found)]) })
}

/// Gives a context the daemon that `--docker` says, once it is clear that a client could be made for it.
fn endpoint(context: &Context, meta: &mut Meta, given: Vec<Vec<(String, String)>>) -> Result<Material> {
    const DOING: &str = "unable to create docker endpoint config";
    const KEYS: [&str; 6] = ["from", "host", "ca", "cert", "key", "skip-tls-verify"];
    let given: Map<String, String> = Map::from_iter(given.into_iter().flatten());
    let unknown: Vec<String> = given
        .keys()
        .filter(|key| !KEYS.contains(&key.as_str()))
        .map(|key| format!("unrecognized config key: {key}"))
        .collect();
    if !unknown.is_empty() {
        bail!("{DOING}: {}", unknown.join("\n"));
    }
    if let Some(from) = given.get("from") {
        let (other, _) = load(context, from).context(DOING)?;
        let Some(docker) = other.endpoints.get(contexts::DOCKER) else {
            bail!("{DOING}: unable to get endpoint from context {from:?}");
        };
        meta.endpoints.insert(contexts::DOCKER.to_owned(), docker.clone());
        return Ok(Material::new());
    }
    let text = |key: &str| given.get(key).map(String::as_str).unwrap_or_default();
    let path = |key: &str| Some(PathBuf::from(text(key))).filter(|path| !path.as_os_str().is_empty());
    let files = Files { ca: path("ca"), cert: path("cert"), key: path("key") };
    let material = material(&files).context(DOING)?;
    let skip = match text("skip-tls-verify") {
        "" if !given.contains_key("skip-tls-verify") => false,
        text => match parse_bool(text) {
            Some(skip) => skip,
            None => bail!("{DOING}: skip-tls-verify: parsing {text:?}: invalid syntax"),
        },
    };
    let host = text("host");
    if !host.is_empty() {
        if !host.contains("://") {
            bail!("{DOING}: unable to apply docker endpoint options: unable to parse docker host `{host}`");
        }
        let address = Address::parse(host, false).context(DOING)?;
        // Half a pair does nothing, as with docker; what is there must be what it says.
        let pair = files.cert.is_some() && files.key.is_some();
        if matches!(address, Address::Tcp(..)) && (pair || files.ca.is_some()) {
            let used = if pair { files.clone() } else { Files { ca: files.ca.clone(), ..Files::default() } };
            tls::Client::new(&used, !skip && used.ca.is_some())
                .with_context(|| format!("{DOING}: invalid docker endpoint options"))?;
        }
    }
    meta.set_docker(host, skip);
    Ok(material)
}

impl Command for Update {
    fn run(self, context: &Context) -> Result<u8> {
        contexts::check_name(&self.name)?;
        let dir = contexts::dir()?;
        let mut meta = contexts::load(&dir, &self.name)?;
        let mut material = contexts::material(&dir, &self.name)?;
        meta.describe(&self.description.unwrap_or_default());
        if !self.docker.is_empty() {
            material.remove(contexts::DOCKER);
            material.extend(endpoint(context, &mut meta, self.docker)?);
        }
        meta.name.clone_from(&self.name);
        contexts::save(&dir, &meta, &material)?;
        told(&self.name, "Successfully updated context")
    }
}

const LIST: List = List {
    go_type: "*formatter.clientContextContext",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
    table: "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
    raw: None,
};

impl Command for Ls {
    fn run(self, context: &Context) -> Result<u8> {
        let current = host::context_name(&context.wish)?;
        let mut all = contexts::all(&contexts::dir()?)?;
        all.push(load(context, contexts::DEFAULT)?.0);
        let row = |name: &str, description: &str, endpoint: &str, error: &str| {
            json!({
                "Current": name == current,
                "Description": description,
                "DockerEndpoint": endpoint,
                "Error": ellipsis(error, ERROR),
                "Name": name,
            })
        };
        let mut rows: Vec<(String, Value)> = Vec::new();
        for meta in &all {
            let description = if meta.name == contexts::DEFAULT { DEFAULTS } else { meta.description() };
            let error = if meta.host().is_none() { "cannot find docker endpoint in context" } else { "" };
            rows.push((meta.name.clone(), row(&meta.name, description, meta.host().unwrap_or_default(), error)));
        }
        if !all.iter().any(|meta| meta.name == current) {
            let error = load(context, &current).err().map(|error| format!("{error:#}")).unwrap_or_default();
            rows.push((current.clone(), row(&current, "", "", &errno::spelt(&error))));
        }
        order::by_key(&mut rows, |(name, _)| natural(name));
        let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
        output::say(&LIST.print(&self.format.unwrap_or_default(), self.quiet, &rows)?)?;
        if overridden() {
            output::complain(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either \
                 set the global --context flag, or unset DOCKER_HOST environment variable.",
            );
        }
        Ok(0)
    }
}

fn overridden() -> bool {
    std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty())
}

impl Command for Use {
    fn run(self, _: &Context) -> Result<u8> {
        let name = self.name;
        if name != contexts::DEFAULT {
            contexts::check_name(&name)?;
            contexts::load(&contexts::dir()?, &name)?;
        }
        choose(Some(name.as_str()).filter(|name| *name != contexts::DEFAULT))?;
        told(&name, "Current context is now")?;
        if name != contexts::DEFAULT && overridden() {
            output::complain(&format!(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set \
                 the global --context flag, or unset DOCKER_HOST environment variable."
            ));
        }
        Ok(0)
    }
}

/// Notes the current context in the configuration of Docker's client. Where nothing changes nothing is written.
fn choose(name: Option<&str>) -> Result<()> {
    let (path, mut config) = keep::read()?;
    let key = keep::spelt(&config, "currentContext");
    let before = config.get(&key).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned);
    if before.as_deref() == name {
        return Ok(());
    }
    match name {
        Some(name) => config.insert(key, json!(name)),
        None => config.remove(&key),
    };
    keep::auths(&mut config)?;
    keep::write(&path, &config)
}

/// What inspect shows, in docker's order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    #[serde(flatten)]
    meta: Meta,
    #[serde(rename = "TLSMaterial")]
    material: Map<String, Vec<String>>,
    storage: Storage,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Storage {
    metadata_path: String,
    #[serde(rename = "TLSPath")]
    tls_path: String,
}

impl Command for Inspect {
    fn run(self, context: &Context) -> Result<u8> {
        let mut names = self.names;
        if names.is_empty() {
            names.push(host::context_name(&context.wish)?);
        }
        inspect::print(&names, self.format, |name| {
            let (meta, material) = load(context, name)?;
            let place = |dir: fn(&Path, &str) -> PathBuf| match name {
                contexts::DEFAULT => Ok("<IN MEMORY>".to_owned()),
                name => contexts::dir().map(|all| dir(&all, name).display().to_string()),
            };
            let storage = Storage { metadata_path: place(contexts::meta_dir)?, tls_path: place(contexts::tls_dir)? };
            let material = material.into_iter().map(|(endpoint, files)| (endpoint, files.into_keys().collect()));
            let shown = Shown { meta, material: Map::from_iter(material), storage };
            contexts::json_of(&shown).map(String::into_bytes)
        })
    }
}

impl Command for Rm {
    fn run(self, context: &Context) -> Result<u8> {
        let current = host::context_name(&context.wish)?;
        let dir = contexts::dir()?;
        let gone = |name: &String| {
            if name == contexts::DEFAULT {
                bail!("context \"default\" cannot be removed");
            }
            if *name == current {
                if !self.force {
                    bail!("context {name:?} is in use, set -f flag to force remove");
                }
                choose(None)?;
            }
            if !self.force && !contexts::meta_dir(&dir, name).exists() {
                bail!("context {name:?} does not exist");
            }
            contexts::remove(&dir, name)
        };
        each::one_by_one(self.names.iter().map(|name| (name, gone(name))))
    }
}

impl Command for Export {
    fn run(self, context: &Context) -> Result<u8> {
        if self.name != contexts::DEFAULT {
            contexts::check_name(&self.name)?;
        }
        let (meta, material) = load(context, &self.name)?;
        let tar = archive::write(&meta, &material)?;
        let file = self.file.unwrap_or_else(|| format!("{}.dockercontext", self.name));
        if file == "-" {
            if std::io::stdout().is_terminal() {
                bail!("cowardly refusing to export to a terminal, specify a file path");
            }
            output::write(&tar)?;
            return Ok(0);
        }
        // There are keys in it.
        let made = File::options().write(true).create_new(true).mode(0o600).open(&file);
        let mut made = made.with_context(|| format!("open {file}"))?;
        made.write_all(&tar).with_context(|| format!("write {file}"))?;
        output::complain(&format!("Written file {file:?}"));
        Ok(0)
    }
}

impl Command for Import {
    fn run(self, _: &Context) -> Result<u8> {
        free(&self.name)?;
        let from: Box<dyn Read> = match self.file.as_str() {
            "-" => Box::new(std::io::stdin().lock()),
            file => Box::new(File::open(file).with_context(|| format!("open {file}"))?),
        };
        let (mut meta, material) = archive::read(from)?;
        meta.name.clone_from(&self.name);
        contexts::save(&contexts::dir()?, &meta, &material)?;
        told(&self.name, "Successfully imported context")
    }
}

impl Command for Show {
    fn run(self, context: &Context) -> Result<u8> {
        output::say(&format!("{}\n", host::context_name(&context.wish)?))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_as_docker_reads_them() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        for (text, expected) in [
            ("host=tcp://x", vec![pair("host", "tcp://x")]),
            ("host=a,ca=b", vec![pair("host", "a"), pair("ca", "b")]),
            ("\"ca=a,b\",key=c", vec![pair("ca", "a,b"), pair("key", "c")]),
            ("host=a=b,ca=", vec![pair("host", "a=b"), pair("ca", "")]),
        ] {
            assert_eq!(pairs(text), Ok(expected), "{text}");
        }
        assert_eq!(pairs("nope"), Err("nope must be formatted as key=value".to_owned()));
        assert!(pairs("host=a,ca=b,x").is_err());
    }
}
