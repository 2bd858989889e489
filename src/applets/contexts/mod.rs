//! Docker's contexts: daemons that have a name, kept in the client's configuration directory.
//!
//! ```text
//! <config>/contexts/meta/<sha256 of the name>/meta.json
//! <config>/contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem
//! ```

pub mod archive;
mod zip;

use super::habits;
use crate::api::http::tls::Files;
use crate::json;
use crate::json::fields::fields;
use crate::oci::hex;
use crate::order;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The one that is always there: what the environment says, or this machine.
pub const DEFAULT: &str = "default";
/// The endpoint of a context that is a Docker daemon; contexts of other programs have others too.
pub const DOCKER: &str = "docker";
/// What docker says of a name that it does not take.
const NAMES: &str = "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$";

fields! {
    /// A context as it is kept: what is not ours in it stays.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    pub struct Meta {
        pub name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub metadata: Option<Map<String, Value>>,
        pub endpoints: Map<String, Value>,
    }
}

/// Certificates and keys: endpoint → name of the file → PEM.
pub type Material = order::Map<String, order::Map<String, Vec<u8>>>;

/// Where a context's daemon is.
#[derive(Debug, PartialEq)]
pub struct Endpoint {
    pub host: String,
    /// The daemon's certificate is taken as it is.
    pub skip_verify: bool,
    pub files: Files,
}

/// Docker's client's directory.
pub fn config_dir() -> Option<PathBuf> {
    let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    said("DOCKER_CONFIG").or_else(|| Some(said("HOME")?.join(".docker")))
}

/// The context that `docker context use` chose.
pub fn current() -> Result<Option<String>> {
    let name = habits::read()?.current_context;
    Ok(Some(name).filter(|name| !name.is_empty() && name != DEFAULT))
}

/// The directory of all contexts.
pub fn dir() -> Result<PathBuf> {
    Ok(config_dir().context("neither DOCKER_CONFIG nor HOME is set")?.join("contexts"))
}

/// Where the daemon of that name is.
pub fn find(name: &str) -> Result<Endpoint> {
    let dir = dir()?;
    let meta = load(&dir, name)?;
    let Some(docker) = meta.endpoints.get(DOCKER) else { bail!("context {name:?} has no docker endpoint") };
    let text = |key: &str| docker.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let tls = tls_dir(&dir, name).join(DOCKER);
    let file = |name: &str| Some(tls.join(name)).filter(|path| path.exists());
    Ok(Endpoint {
        // As docker: a context that names none means the usual one.
        host: text("Host").unwrap_or("unix://").to_owned(),
        skip_verify: docker.get("SkipTLSVerify").and_then(Value::as_bool).unwrap_or(false),
        files: Files { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") },
    })
}

/// Refuses names that docker does not give to a new context.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    match name.as_bytes() {
        [] => bail!("context name cannot be empty"),
        _ if name == DEFAULT => bail!("\"default\" is a reserved context name"),
        [first, rest @ ..]
            if plain(*first) && !rest.is_empty() && rest.iter().all(|byte| plain(*byte) || b"_.+-".contains(byte)) =>
        {
            Ok(())
        }
        _ => bail!("context name {name:?} is invalid, names are validated against regexp {NAMES:?}"),
    }
}

/// The directory of a context's metadata.
pub fn meta_dir(dir: &Path, name: &str) -> PathBuf {
    dir.join("meta").join(id(name))
}

/// The directory of its certificates and keys.
pub fn tls_dir(dir: &Path, name: &str) -> PathBuf {
    dir.join("tls").join(id(name))
}

fn id(name: &str) -> String {
    hex(&Sha256::digest(name))
}

/// Reads a context.
pub fn load(dir: &Path, name: &str) -> Result<Meta> {
    load_from(&meta_dir(dir, name)).with_context(|| format!("context {name:?}"))
}

fn load_from(dir: &Path) -> Result<Meta> {
    let path = dir.join("meta.json");
    match fs::read(&path) {
        Ok(bytes) => Meta::parse(&bytes).with_context(|| format!("parsing {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("context not found: open {}: no such file or directory", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
    }
}

/// All contexts, in no order. Directories that hold none are passed over.
pub fn all(dir: &Path) -> Result<Vec<Meta>> {
    let metas = dir.join("meta");
    let mut found = Vec::new();
    for name in names(&metas)? {
        let place = metas.join(name);
        if place.join("meta.json").is_file() {
            found.push(load_from(&place).context("read a context")?);
        }
    }
    Ok(found)
}

/// The names in a directory, sorted; none where there is no directory.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        names.extend(entry.file_name().into_string());
    }
    order::sort(&mut names);
    Ok(names)
}

/// A context's certificates and keys.
pub fn material(dir: &Path, name: &str) -> Result<Material> {
    let dir = tls_dir(dir, name);
    let mut all = Material::new();
    for endpoint in names(&dir)? {
        let place = dir.join(&endpoint);
        let files = all.entry(endpoint).or_default();
        for file in names(&place)? {
            let path = place.join(&file);
            if path.is_file() {
                let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                files.insert(file, bytes);
            }
        }
    }
    Ok(all)
}

/// Writes a new context, or one anew: what it is last, for with that it is there.
pub fn save(dir: &Path, meta: &Meta, material: &Material) -> Result<()> {
    let tls = tls_dir(dir, &meta.name);
    remove_tree(&tls)?;
    for (endpoint, files) in material {
        make_dirs(dir, 0o755)?;
        make_dirs(&tls.join(endpoint), 0o700)?;
        for (name, bytes) in files {
            write(&tls.join(endpoint), name, bytes, 0o600)?;
        }
    }
    let place = meta_dir(dir, &meta.name);
    make_dirs(&place, 0o755)?;
    write(&place, "meta.json", json_of(meta)?.as_bytes(), 0o644)
}

/// Removes a context, if it is there.
pub fn remove(dir: &Path, name: &str) -> Result<()> {
    let gone = || remove_tree(&meta_dir(dir, name)).and_then(|()| remove_tree(&tls_dir(dir, name)));
    gone().with_context(|| format!("remove context {name}"))
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn make_dirs(path: &Path, mode: u32) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.with_context(|| format!("make {}", path.display()))
}

/// Writes a file whole or not at all.
fn write(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let put = || -> std::io::Result<()> {
        let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(name))
    };
    put().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        anyhow::Error::new(error).context(format!("write {}", dir.join(name).display()))
    })
}

/// JSON as Go writes it: with what means something in HTML by its number.
pub fn json_of(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).context("encode a context")?;
    // Outside of strings JSON has none of these.
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

impl Meta {
    /// Reads what docker or we wrote.
    pub fn parse(bytes: &[u8]) -> Result<Meta> {
        let mut fields: Map<String, Value> = json::from_slice(bytes)?;
        // Go writes nothing as null.
        fields.retain(|_, value| !value.is_null());
        let mut meta: Meta = json::from_value(Value::Object(fields))?;
        let description = meta.metadata.as_ref().and_then(|metadata| metadata.get("Description"));
        if description.is_some_and(|text| !text.is_string()) {
            bail!("the description is no text");
        }
        if let Some(docker) = meta.endpoints.get(DOCKER) {
            let wrong = |key: &str, is: fn(&Value) -> bool| docker.get(key).is_some_and(|value| !is(value));
            if !docker.is_object() || wrong("Host", Value::is_string) || wrong("SkipTLSVerify", Value::is_boolean) {
                bail!("the docker endpoint is none");
            }
        }
        if let Some(docker) = meta.endpoints.get_mut(DOCKER).and_then(Value::as_object_mut) {
            docker.entry("SkipTLSVerify").or_insert(json!(false));
        }
        Ok(meta)
    }

    pub fn description(&self) -> &str {
        let text = self.metadata.as_ref().and_then(|metadata| metadata.get("Description"));
        text.and_then(Value::as_str).unwrap_or_default()
    }

    /// Gives it a description; an empty one changes nothing.
    pub fn describe(&mut self, text: &str) {
        let metadata = self.metadata.get_or_insert_default();
        if !text.is_empty() {
            metadata.insert("Description".to_owned(), json!(text));
        }
    }

    /// The address of its Docker daemon; `None` where it has none.
    pub fn host(&self) -> Option<&str> {
        Some(self.endpoints.get(DOCKER)?.get("Host").and_then(Value::as_str).unwrap_or_default())
    }

    pub fn set_docker(&mut self, host: &str, skip_verify: bool) {
        let mut docker = Map::new();
        if !host.is_empty() {
            docker.insert("Host".to_owned(), json!(host));
        }
        docker.insert("SkipTLSVerify".to_owned(), json!(skip_verify));
        self.endpoints.insert(DOCKER.to_owned(), Value::Object(docker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_as_docker_writes_it() {
        let dir = std::env::temp_dir().join(format!("dhow-contexts-{}", std::process::id()));
        let text = r#"{"Name":"far","Metadata":{"Description":"x","Other":[1]},
            "Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true},"other":{"a":1}}}"#;
        let meta = Meta::parse(text.as_bytes()).unwrap();
        assert_eq!((meta.description(), meta.host()), ("x", Some("tcp://far:2376")));
        let material = Material::from([(DOCKER.to_owned(), order::Map::from([("ca.pem".to_owned(), vec![1, 2])]))]);
        save(&dir, &meta, &material).unwrap();
        assert_eq!(load(&dir, "far").unwrap(), meta);
        assert_eq!(contexts_of(&dir), ["far"]);
        assert_eq!(super::material(&dir, "far").unwrap(), material);
        let written = fs::read_to_string(meta_dir(&dir, "far").join("meta.json")).unwrap();
        assert_eq!(written, text.replace("\n            ", ""));
        save(&dir, &meta, &Material::new()).unwrap();
        assert_eq!(super::material(&dir, "far").unwrap(), Material::new());
        assert!(
            format!("{:#}", load(&dir, "near").unwrap_err()).contains("context \"near\": context not found: open /")
        );
        remove(&dir, "far").unwrap();
        remove(&dir, "far").unwrap();
        assert_eq!(contexts_of(&dir), [""; 0]);
        fs::remove_dir_all(&dir).unwrap();
    }

    fn contexts_of(dir: &Path) -> Vec<String> {
        all(dir).unwrap().into_iter().map(|meta| meta.name).collect()
    }

    #[test]
    fn what_is_no_context() {
        for bad in [
            "",
            "[]",
            r#"{"Metadata":[]}"#,
            r#"{"Metadata":{"Description":1}}"#,
            r#"{"Endpoints":{"docker":[]}}"#,
            r#"{"Endpoints":{"docker":{"Host":1}}}"#,
        ] {
            assert!(Meta::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(Meta::parse(br#"{"name":"x","metadata":null}"#).unwrap().name, "x");
    }

    #[test]
    fn names_that_docker_takes() {
        for good in ["ab", "9.+-_", "A-b.c"] {
            check_name(good).unwrap();
        }
        for (bad, why) in
            [("", "empty"), ("a", "invalid"), ("default", "reserved"), ("-ab", "invalid"), ("a/b", "regexp")]
        {
            assert!(check_name(bad).unwrap_err().to_string().contains(why), "{bad}");
        }
    }
}
