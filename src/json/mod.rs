//! How JSON is read, all of it: a text is taken apart first (`tree`), and a type is made of that by one reader, as it costs
//! code for each reader that it has: structs field by field (`fields`), what they are made of (`values`), and what serde
//! reads (`read`). Much as Go's library reads it: names of fields are the same in whatever case, of two the last holds, and
//! null is no text. What has the wrong type is told in its words, which name the field.

pub mod fields;
mod read;
mod tree;
mod values;

use crate::order::Map;
use serde::Deserializer;
use serde::de::{Deserialize, Unexpected};
use serde_json::Value;
use std::any::type_name;
use std::fmt;
pub use tree::Tree;
pub(crate) use values::by_serde;
pub use values::made_by_serde;

/// What can be made of a value.
pub trait FromTree: Sized {
    fn from_tree(tree: Tree) -> Result<Self, Error>;
}

/// A value of that type, of a text.
pub fn from_slice<T: FromTree>(text: &[u8]) -> Result<T, Error> {
    from_tree(tree(text)?)
}

/// A value of that type, of a text.
pub fn from_str<T: FromTree>(text: &str) -> Result<T, Error> {
    from_slice(text.as_bytes())
}

/// A value of that type, of JSON that was read.
pub fn from_value<T: FromTree>(value: Value) -> Result<T, Error> {
    from_tree(value.into())
}

/// A value of that type, of a text that was taken apart.
pub fn from_tree<T: FromTree>(tree: Tree) -> Result<T, Error> {
    T::from_tree(tree).map_err(|error| error.wanting(type_name::<T>()))
}

/// A text, taken apart.
pub fn tree(text: &[u8]) -> Result<Tree<'_>, Error> {
    serde_json::from_slice(text).map_err(|error| Error(Box::new(Reason::Syntax(error))))
}

/// Reads by a tree what serde asks for, as a part of a type that it reads.
pub fn by_tree<'de, T: FromTree, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    from_tree(Tree::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Why there is none. One word, as each value is read into a result that could be this.
#[derive(Debug)]
pub struct Error(Box<Reason>);

#[derive(Debug)]
enum Reason {
    /// It is no JSON.
    Syntax(serde_json::Error),
    Mismatch(Mismatch),
    Other(String),
}

/// A value of another type than was wanted, and where it stood.
#[derive(Debug, Default)]
struct Mismatch {
    found: String,
    /// As Go spells it; not known yet where it is empty.
    wanted: String,
    /// The struct that has the field, and the fields that lead to it from the outermost one.
    of: String,
    path: Vec<String>,
}

impl Error {
    /// The same of a body that Docker's source calls by that name, with its package: `container.UpdateConfig`.
    pub fn within(mut self, body: &str) -> Error {
        if let Reason::Mismatch(it) = &mut *self.0 {
            match it.path.len() {
                0 => it.wanted = body.to_owned(),
                1 => it.of = body.rsplit('.').next().unwrap_or(body).to_owned(),
                _ => {}
            }
        }
        self
    }

    #[cold]
    fn other(text: String) -> Error {
        Error(Box::new(Reason::Other(text)))
    }

    #[cold]
    fn mismatch(found: Unexpected) -> Error {
        let found = match found {
            Unexpected::Bool(_) => "bool".to_owned(),
            Unexpected::Unsigned(number) => format!("number {number}"),
            Unexpected::Signed(number) => format!("number {number}"),
            Unexpected::Float(number) => format!("number {number}"),
            Unexpected::Seq => "array".to_owned(),
            Unexpected::Map => "object".to_owned(),
            _ => "string".to_owned(),
        };
        Error(Box::new(Reason::Mismatch(Mismatch { found, ..Mismatch::default() })))
    }

    /// What a value was to be, by the name of our type that it was read as.
    #[cold]
    fn wanting(mut self, ours: &str) -> Error {
        if let Reason::Mismatch(it) = &mut *self.0
            && it.wanted.is_empty()
        {
            it.wanted = go_type(ours);
            // Which number it is matters to other numbers only.
            if let (false, Some(("number", _))) = (is_number(&it.wanted), it.found.split_once(' ')) {
                it.found.truncate("number".len());
            }
        }
        self
    }

    #[cold]
    fn at(mut self, of: &str, field: &str) -> Error {
        if let Reason::Mismatch(it) = &mut *self.0 {
            if it.path.is_empty() {
                it.of = go_name(of).to_owned();
            }
            it.path.insert(0, field.to_owned());
        }
        self
    }
}

fn is_number(go: &str) -> bool {
    ["int", "uint", "float"].iter().any(|kind| go.starts_with(kind))
}

/// What Go calls a type of ours.
fn go_type(ours: &str) -> String {
    let inner = |prefix: &str| ours.strip_prefix(prefix)?.strip_suffix('>');
    match ours {
        "bool" | "str" => return ours.replace("str", "string"),
        "u8" | "u16" | "u32" | "u64" => return ours.replace('u', "uint"),
        "i8" | "i16" | "i32" | "i64" => return ours.replace('i', "int"),
        "f32" | "f64" => return ours.replace('f', "float"),
        "alloc::string::String" => return "string".to_owned(),
        _ => {}
    }
    if let Some(item) = inner("alloc::vec::Vec<") {
        return format!("[]{}", go_type(item));
    }
    if let Some(item) = inner("core::option::Option<") {
        return go_type(item);
    }
    let map = type_name::<Map<(), ()>>().trim_end_matches("(), ()>");
    if let Some((key, value)) = inner(map).and_then(|both| both.split_once(", ")) {
        return format!("map[{}]{}", go_type(key), go_type(value));
    }
    let name = go_name(ours.rsplit("::").next().unwrap_or(ours));
    // One word, or several.
    if name == "Words" {
        return "string".to_owned();
    }
    let package = match name {
        "Mount" | "BindOptions" | "VolumeOptions" | "ImageOptions" | "TmpfsOptions" | "Driver" => "mount",
        "NetworkingConfig" | "EndpointSettings" | "EndpointIPAMConfig" | "IPAM" | "IPAMConfig" => "network",
        _ => "container",
    };
    format!("{package}.{name}")
}

/// Where Docker's source has another name for a struct than we have.
fn go_name(ours: &str) -> &str {
    match ours {
        "Ipam" => "IPAM",
        "IpamConfig" => "IPAMConfig",
        "EndpointAddresses" => "EndpointIPAMConfig",
        "Healthcheck" => "HealthcheckConfig",
        "VolumeDriver" => "Driver",
        "Beside" | "ContainerConfig" => "CreateRequest",
        other => other,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Reason::Syntax(error) => write!(f, "{error}"),
            Reason::Other(text) => f.write_str(text),
            Reason::Mismatch(Mismatch { found, wanted, path, .. }) if path.is_empty() => {
                write!(f, "json: cannot unmarshal {found} into Go value of type {wanted}")
            }
            Reason::Mismatch(Mismatch { found, wanted, of, path }) => {
                let path = path.join(".");
                write!(f, "json: cannot unmarshal {found} into Go struct field {of}.{path} of type {wanted}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        match *error.0 {
            Reason::Syntax(error) => error.into(),
            reason => std::io::Error::new(std::io::ErrorKind::InvalidData, Error(Box::new(reason))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ContainerCreate, ExecCreate, VolumeCreate};

    fn read<T: FromTree>(bytes: &[u8]) -> anyhow::Result<T> {
        Ok(from_slice(bytes)?)
    }

    #[test]
    fn names_in_whatever_case() {
        let body = br#"{"image":"x","cmd":["echo"],"ENV":["A=1"],"labels":{"Key":null,"key":"v"},"User":"a","User":"b",
            "hostconfig":{"networkmode":"none","PORTBINDINGS":{"80/tcp":[{"hostport":"1"}]},"memory":5,
                "mounts":[{"type":"bind","bindoptions":{"nonrecursive":true}}]},
            "networkingconfig":{"endpointsconfig":{"Net":{"aliases":["z"]}}},"Unknown":{"image":1}}"#;
        let asked: ContainerCreate = read(body).unwrap();
        let (config, host) = (&asked.config, &asked.host_config);
        assert_eq!((config.image.as_str(), config.user.as_str(), host.memory), ("x", "b", 5));
        assert_eq!(config.cmd.as_deref(), Some(&["echo".to_owned()][..]));
        assert_eq!(config.env.as_deref(), Some(&["A=1".to_owned()][..]));
        let labels = config.labels.as_ref().unwrap();
        assert_eq!((labels["Key"].as_str(), labels["key"].as_str()), ("", "v"), "what users name keeps its case");
        assert_eq!(host.network_mode, "none");
        assert_eq!(host.port_bindings.as_ref().unwrap()["80/tcp"].as_ref().unwrap()[0].host_port, "1");
        let mount = &host.mounts.as_ref().unwrap()[0];
        assert!(mount.bind_options.as_ref().is_some_and(|options| options.non_recursive));
        let endpoints = asked.networking_config.endpoints_config.as_ref().unwrap();
        assert_eq!(endpoints["Net"].aliases.as_deref(), Some(&["z".to_owned()][..]));
        let none = br#"{"Image":"x","NetworkingConfig":{"EndpointsConfig":{"Net":null}},"HostConfig":null}"#;
        let none: ContainerCreate = read(none).unwrap();
        assert!(none.networking_config.endpoints_config.is_some_and(|all| all.contains_key("Net")));
        assert_eq!(read::<ExecCreate>(br#"{"detachKeys":"ctrl-x"}"#).unwrap().detach_keys, "ctrl-x");
        assert_eq!(read::<VolumeCreate>(br#"{"name":"low"}"#).unwrap().name, "low");
        // Where both are there, the exact one is not lost to another.
        assert!(read::<VolumeCreate>(br#"{"Name":"x","name":"x"}"#).is_ok());
    }

    #[test]
    fn what_is_no_such_value() {
        for body in
            [&br#"{"Image":5}"#[..], b"[]", b"{\"Image\":\"x\"} more", b"{", br#"{"Cmd":[1]}"#, br#"{"Tty":"yes"}"#]
        {
            assert!(read::<ContainerCreate>(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn what_has_the_wrong_type_is_told_as_go_tells_it() {
        let create = [
            (r#"{"Image":7}"#, "number into Go struct field CreateRequest.Image of type string"),
            (r#"{"tty":"yes"}"#, "string into Go struct field CreateRequest.Tty of type bool"),
            (r#"{"Env":"A=b"}"#, "string into Go struct field CreateRequest.Env of type []string"),
            (r#"{"Env":["A=b",true]}"#, "bool into Go struct field CreateRequest.Env of type string"),
            (r#"{"Cmd":5}"#, "number into Go struct field CreateRequest.Cmd of type string"),
            (r#"{"Cmd":["a",5]}"#, "array into Go struct field CreateRequest.Cmd of type string"),
            (r#"{"Labels":["a"]}"#, "array into Go struct field CreateRequest.Labels of type map[string]string"),
            (r#"{"Labels":{"a":1.5}}"#, "number into Go struct field CreateRequest.Labels of type string"),
            (r#"{"StopTimeout":"1"}"#, "string into Go struct field CreateRequest.StopTimeout of type int64"),
            (
                r#"{"HostConfig":"x"}"#,
                "string into Go struct field CreateRequest.HostConfig of type container.HostConfig",
            ),
            (
                r#"{"HostConfig":{"Memory":"1g"}}"#,
                "string into Go struct field HostConfig.HostConfig.Memory of type int64",
            ),
            (
                r#"{"HostConfig":{"Memory":1.5}}"#,
                "number 1.5 into Go struct field HostConfig.HostConfig.Memory of type int64",
            ),
            (
                r#"{"HostConfig":{"BlkioWeight":70000}}"#,
                "number 70000 into Go struct field HostConfig.HostConfig.BlkioWeight of type uint16",
            ),
            (
                r#"{"HostConfig":{"CapAdd":{}}}"#,
                "object into Go struct field HostConfig.HostConfig.CapAdd of type string",
            ),
            (
                r#"{"HostConfig":{"Mounts":[{"ReadOnly":"no"}]}}"#,
                "string into Go struct field Mount.HostConfig.Mounts.ReadOnly of type bool",
            ),
            (
                r#"{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":80}]}}}"#,
                "number into Go struct field PortBinding.HostConfig.PortBindings.HostPort of type string",
            ),
            (
                r#"{"HostConfig":{"Devices":{}}}"#,
                "object into Go struct field HostConfig.HostConfig.Devices of type []container.DeviceMapping",
            ),
            (
                r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{"IPAMConfig":{"IPv4Address":4}}}}}"#,
                "number into Go struct field EndpointIPAMConfig.NetworkingConfig.EndpointsConfig.IPAMConfig.IPv4Address \
                 of type string",
            ),
        ];
        for (body, words) in create {
            let error = read::<ContainerCreate>(body.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("json: cannot unmarshal {words}"), "{body}");
        }
        let within = |body: &str| from_str::<VolumeCreate>(body).unwrap_err().within("volume.CreateOptions");
        for (body, words) in [
            ("[]", "array into Go value of type volume.CreateOptions"),
            (r#""x""#, "string into Go value of type volume.CreateOptions"),
            (r#"{"Name":1}"#, "number into Go struct field CreateOptions.Name of type string"),
            (r#"{"DriverOpts":{"a":1}}"#, "number into Go struct field CreateOptions.DriverOpts of type string"),
        ] {
            assert_eq!(within(body).to_string(), format!("json: cannot unmarshal {words}"), "{body}");
        }
    }
}
