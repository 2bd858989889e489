//! One file of the Container Device Interface: what it may say, checked as the reference implementation does.

use super::yaml;
use crate::json;
use crate::oci::runtime::{Hook, Mount};
use crate::order::Map;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The versions of the specification, oldest first.
const VERSIONS: [&str; 10] = ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// What a file says of the devices of one kind.
#[derive(Debug, Default, PartialEq)]
pub struct Spec {
    /// `vendor.com/class`
    pub kind: String,
    pub annotations: Map<String, String>,
    pub devices: Vec<Device>,
    /// For every container that has one of the devices.
    pub edits: Edits,
}

#[derive(Debug, Default, PartialEq)]
pub struct Device {
    pub name: String,
    pub annotations: Map<String, String>,
    pub edits: Edits,
}

/// What becomes of a container's specification.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// `NAME=value`
    pub env: Vec<String>,
    pub nodes: Vec<Node>,
    pub mounts: Vec<Mount>,
    pub hooks: Vec<(Moment, Hook)>,
    /// 0 is none.
    pub gids: Vec<u32>,
    /// Fields that are not for us: a container that wants this device is not started.
    pub lacking: Vec<String>,
    /// All of it as it was read, in an order that is always the same.
    pub text: String,
}

/// A device node; what is not said is as on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub path: String,
    pub host_path: String,
    /// `b`, `c`, `u`, `p`, or empty.
    pub kind: String,
    pub major: i64,
    pub minor: i64,
    pub file_mode: Option<u32>,
    /// Of `r`, `w` and `m`.
    pub access: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    Prestart,
    CreateRuntime,
    CreateContainer,
    Poststart,
    Poststop,
}

/// What came with which version of the specification.
#[derive(Default)]
struct Needs {
    version: &'static str,
}

impl Needs {
    fn at_least(&mut self, version: &'static str) {
        if place(version) > place(self.version) {
            self.version = version;
        }
    }
}

fn place(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

impl Spec {
    /// Reads YAML or, where it begins with a brace, JSON.
    pub fn parse(text: &str) -> Result<Spec> {
        let text = text.trim_start_matches('\u{feff}');
        let value = match text.trim_start().starts_with('{') {
            true => json::from_str(text)?,
            false => yaml::parse(text)?,
        };
        if value.is_null() {
            bail!("no Spec data");
        }
        Spec::read(&value)
    }

    fn read(value: &Value) -> Result<Spec> {
        let mut needs = Needs { version: VERSIONS[2] };
        let mut fields = Fields::of(value, "the Spec")?;
        let version = fields.text("cdiVersion")?;
        let kind = fields.text("kind")?;
        let annotations = fields.texts("annotations")?;
        let mut spec = Spec { kind, annotations, ..Spec::default() };
        spec.edits = fields.take("containerEdits").map_or(Ok(Edits::default()), |it| Edits::read(it, &mut needs))?;
        let (vendor, class) = spec.kind.split_once('/').unwrap_or(("", &spec.kind));
        check_kind(vendor).with_context(|| format!("invalid vendor of kind {:?}", spec.kind))?;
        check_kind(class).with_context(|| format!("invalid class of kind {:?}", spec.kind))?;
        if class.contains('.') || !spec.annotations.is_empty() {
            needs.at_least("0.6.0");
        }
        for item in fields.list("devices")? {
            let device = Device::read(item, &mut needs)?;
            if spec.devices.iter().any(|known| known.name == device.name) {
                bail!("multiple device {:?}", device.name);
            }
            spec.devices.push(device);
        }
        fields.end()?;
        if spec.devices.is_empty() {
            bail!("no devices");
        }
        let version = version.strip_prefix('v').unwrap_or(&version);
        match place(version) {
            None => bail!("invalid version {version:?}"),
            // The two before the first that was tagged know no less than that.
            Some(at) if Some(at.max(2)) < place(needs.version) => {
                bail!("the spec version must be at least v{}", needs.version)
            }
            Some(_) => Ok(spec),
        }
    }
}

impl Device {
    fn read(value: &Value, needs: &mut Needs) -> Result<Device> {
        let mut fields = Fields::of(value, "a device")?;
        let name = fields.text("name")?;
        check_name(&name).with_context(|| format!("invalid device name {name:?}"))?;
        let said = || format!("invalid device {name:?}");
        let annotations = fields.texts("annotations").with_context(said)?;
        let edits = fields.take("containerEdits").map_or(Ok(Edits::default()), |it| Edits::read(it, needs));
        let edits = edits.with_context(said)?;
        fields.end().with_context(said)?;
        if name.starts_with(|letter: char| letter.is_ascii_digit()) {
            needs.at_least("0.5.0");
        }
        if !annotations.is_empty() {
            needs.at_least("0.6.0");
        }
        if edits == (Edits { text: edits.text.clone(), ..Edits::default() }) {
            bail!("invalid device {name:?}: empty device edits");
        }
        Ok(Device { name, annotations, edits })
    }
}

impl Edits {
    fn read(value: &Value, needs: &mut Needs) -> Result<Edits> {
        let mut fields = Fields::of(value, "containerEdits")?;
        let mut edits = Edits { env: fields.strings("env")?, text: value.to_string(), ..Edits::default() };
        check_env(&edits.env)?;
        for item in fields.list("deviceNodes")? {
            edits.nodes.push(Node::read(item, needs)?);
        }
        for item in fields.list("mounts")? {
            match mount(item, needs)? {
                mount if matches!(mount.kind.as_str(), "bind" | "tmpfs") => edits.mounts.push(mount),
                other => edits.lacking.push(format!("a mount of type {}", other.kind)),
            }
        }
        for item in fields.list("hooks")? {
            match hook(item)? {
                Some(hook) => edits.hooks.push(hook),
                None => edits.lacking.push("hooks of startContainer".to_owned()),
            }
        }
        for item in fields.list("additionalGids")? {
            needs.at_least("0.7.0");
            edits.gids.push(number(item, "additionalGids")?);
        }
        if let Some(rdt) = fields.take("intelRdt") {
            needs.at_least(rdt_version(rdt)?);
            edits.lacking.push("intelRdt".to_owned());
        }
        let mut names = Vec::new();
        for item in fields.list("netDevices")? {
            needs.at_least("1.1.0");
            let mut fields = Fields::of(item, "a netDevice")?;
            let (host, name) = (fields.text("hostInterfaceName")?, fields.text("name")?);
            fields.end()?;
            if host.is_empty() || name.is_empty() {
                bail!("a netDevice without hostInterfaceName or name");
            }
            if names.iter().any(|(other, another)| *other == host || *another == name) {
                bail!("duplicate netDevice {host:?}, {name:?}");
            }
            names.push((host, name));
        }
        if !names.is_empty() {
            edits.lacking.push("netDevices".to_owned());
        }
        fields.end()?;
        Ok(edits)
    }

    /// Adds what another device wants.
    pub fn append(&mut self, other: &Edits) {
        self.env.extend_from_slice(&other.env);
        self.nodes.extend_from_slice(&other.nodes);
        self.mounts.extend_from_slice(&other.mounts);
        self.hooks.extend_from_slice(&other.hooks);
        self.gids.extend_from_slice(&other.gids);
        self.lacking.extend_from_slice(&other.lacking);
        self.text.push('\n');
        self.text.push_str(&other.text);
    }
}

impl Node {
    fn read(value: &Value, needs: &mut Needs) -> Result<Node> {
        let mut fields = Fields::of(value, "a deviceNode")?;
        let (path, host_path) = (fields.text("path")?, fields.text("hostPath")?);
        if path.is_empty() {
            bail!("invalid (empty) device path");
        }
        let said = || format!("device {path:?}");
        let read = || -> Result<Node> {
            let optional = |value: Option<&Value>, name: &str| value.map(|value| number(value, name)).transpose();
            let kind = fields.text("type")?;
            if !matches!(kind.as_str(), "" | "b" | "c" | "u" | "p") {
                bail!("invalid type {kind:?}");
            }
            let permissions = fields.text("permissions")?;
            let access = match permissions.as_str() {
                "" => "rwm",
                "none" => "",
                some if some.bytes().all(|letter| b"rwm".contains(&letter)) => some,
                other => bail!("invalid permissions {other:?}"),
            };
            let node = Node {
                path: path.clone(),
                kind,
                access: access.to_owned(),
                major: fields.take("major").map_or(Ok(0), |value| number(value, "major"))?,
                minor: fields.take("minor").map_or(Ok(0), |value| number(value, "minor"))?,
                file_mode: optional(fields.take("fileMode"), "fileMode")?,
                uid: optional(fields.take("uid"), "uid")?,
                gid: optional(fields.take("gid"), "gid")?,
                host_path: if host_path.is_empty() { path.clone() } else { host_path.clone() },
            };
            fields.end()?;
            Ok(node)
        };
        let node = read().with_context(said)?;
        if !host_path.is_empty() {
            needs.at_least("0.5.0");
        }
        for path in [&node.path, &node.host_path] {
            check_path(path).with_context(said)?;
        }
        Ok(node)
    }
}

fn mount(value: &Value, needs: &mut Needs) -> Result<Mount> {
    let mut fields = Fields::of(value, "a mount")?;
    let mut mount = Mount {
        source: fields.text("hostPath")?,
        destination: fields.text("containerPath")?,
        kind: fields.text("type")?,
        options: fields.strings("options")?,
        ..Mount::default()
    };
    fields.end()?;
    if mount.source.is_empty() {
        bail!("invalid mount, empty host path");
    }
    if mount.destination.is_empty() {
        bail!("invalid mount, empty container path");
    }
    let said = format!("mount on {:?}", mount.destination);
    check_path(&mount.destination).with_context(|| said.clone())?;
    if mount.destination.bytes().all(|letter| letter == b'/') {
        bail!("{said}: it is the root");
    }
    if !mount.kind.is_empty() {
        needs.at_least("0.4.0");
    }
    // Who names no type means the host's files.
    if matches!(mount.kind.as_str(), "" | "none" | "bind") {
        check_path(&mount.source).with_context(|| said.clone())?;
        mount.kind = "bind".to_owned();
        if !mount.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind")) {
            mount.options.push("bind".to_owned());
        }
    }
    Ok(mount)
}

/// `None` for one that is known, but not here.
fn hook(value: &Value) -> Result<Option<(Moment, Hook)>> {
    let mut fields = Fields::of(value, "a hook")?;
    let name = fields.text("hookName")?;
    let mut hook = Hook { path: fields.text("path")?, args: fields.strings("args")?, ..Hook::default() };
    hook.env = fields.strings("env")?;
    hook.timeout = fields.take("timeout").map(|value| number(value, "timeout")).transpose()?;
    fields.end()?;
    let moment = match name.as_str() {
        "prestart" => Some(Moment::Prestart),
        "createRuntime" => Some(Moment::CreateRuntime),
        "createContainer" => Some(Moment::CreateContainer),
        "startContainer" => None,
        "poststart" => Some(Moment::Poststart),
        "poststop" => Some(Moment::Poststop),
        other => bail!("invalid hook name {other:?}"),
    };
    if hook.path.is_empty() {
        bail!("invalid hook {name:?} with empty path");
    }
    let said = || format!("invalid hook {name:?}");
    check_path(&hook.path).with_context(said)?;
    check_env(&hook.env).with_context(said)?;
    if hook.timeout == Some(0) {
        bail!("invalid hook {name:?}: its timeout is 0");
    }
    Ok(moment.map(|moment| (moment, hook)))
}

/// Since when there is what is asked for of resctrl.
fn rdt_version(value: &Value) -> Result<&'static str> {
    let mut fields = Fields::of(value, "intelRdt")?;
    let id = fields.text("closID")?;
    if id != "/" && (id.len() >= 4096 || matches!(id.as_str(), "." | "..") || id.contains(['/', '\n'])) {
        bail!("invalid ClosID");
    }
    let mut newer = false;
    for key in ["l3CacheSchema", "memBwSchema", "enableCMT", "enableMBM"] {
        fields.take(key);
    }
    for key in ["schemata", "enableMonitoring"] {
        newer |= fields.take(key).is_some();
    }
    fields.end()?;
    Ok(if newer { "1.1.0" } else { "0.7.0" })
}

fn check_env(env: &[String]) -> Result<()> {
    match env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        Some(entry) => bail!("invalid environment variable {entry:?}"),
        None => Ok(()),
    }
}

fn check_path(path: &str) -> Result<()> {
    if !path.starts_with('/') || path.contains('\0') {
        bail!("{path:?} is not an absolute path");
    }
    Ok(())
}

/// A vendor or a class.
pub fn check_kind(name: &str) -> Result<()> {
    check(name, |letter| letter.is_ascii_alphabetic(), "_-.")
}

/// The name of a device.
pub fn check_name(name: &str) -> Result<()> {
    check(name, |letter| letter.is_ascii_alphanumeric(), "_-.:")
}

fn check(name: &str, first: fn(char) -> bool, within: &str) -> Result<()> {
    if !name.starts_with(first) || !name.ends_with(|letter: char| letter.is_ascii_alphanumeric()) {
        bail!("{name:?} should start with a letter and end with a letter or digit");
    }
    match name.chars().find(|letter| !letter.is_ascii_alphanumeric() && !within.contains(*letter)) {
        Some(letter) => bail!("invalid character {letter:?} in {name:?}"),
        None => Ok(()),
    }
}

/// The fields of a map, of which none is left over. As Go reads them: whatever their case, and null is none.
struct Fields<'a> {
    of: &'static str,
    left: Vec<(&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value, of: &'static str) -> Result<Fields<'a>> {
        let Value::Object(map) = value else { bail!("{of} is no map") };
        Ok(Fields { of, left: map.iter().map(|(key, value)| (key.as_str(), value)).collect() })
    }

    fn take(&mut self, key: &str) -> Option<&'a Value> {
        let at = self.left.iter().position(|(known, _)| known.eq_ignore_ascii_case(key))?;
        Some(self.left.remove(at).1).filter(|value| !value.is_null())
    }

    fn text(&mut self, key: &str) -> Result<String> {
        self.take(key).map_or(Ok(String::new()), |value| text(value, key))
    }

    fn list(&mut self, key: &str) -> Result<&'a [Value]> {
        match self.take(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => bail!("{key} is no list"),
        }
    }

    fn strings(&mut self, key: &str) -> Result<Vec<String>> {
        self.list(key)?.iter().map(|value| text(value, key)).collect()
    }

    fn texts(&mut self, key: &str) -> Result<Map<String, String>> {
        match self.take(key) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => {
                let texts = map.iter().map(|(name, value)| Ok((name.clone(), text(value, name)?)));
                texts.collect::<Result<Vec<_>>>().map(Map::from_iter)
            }
            Some(_) => bail!("{key} is no map"),
        }
    }

    fn end(self) -> Result<()> {
        match self.left.first() {
            Some((key, _)) => bail!("unknown field {key:?} of {}", self.of),
            None => Ok(()),
        }
    }
}

/// What stands for a text is one, even if it could be a number.
fn text(value: &Value, key: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(on) => Ok(on.to_string()),
        _ => bail!("{key} is no text"),
    }
}

fn number<N: TryFrom<i64>>(value: &Value, key: &str) -> Result<N> {
    value
        .as_i64()
        .and_then(|number| N::try_from(number).ok())
        .with_context(|| format!("{key} is not such a number: {value}"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
