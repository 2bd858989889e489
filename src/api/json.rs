//! JSON as Go's library reads it: names of fields are the same in whatever case, of two the last holds, and null is no
//! text. What has the wrong type is told in its words, which name the field.

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use std::any::type_name;
use std::fmt;

/// A value of that type, of JSON that was read.
pub fn of<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Read(value))
}

/// Why it is none.
#[derive(Debug)]
pub enum Error {
    Mismatch(Mismatch),
    Other(String),
}

/// A value of another type than was wanted, and where it stood.
#[derive(Debug, Default)]
pub struct Mismatch {
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
        if let Error::Mismatch(it) = &mut self {
            match it.path.len() {
                0 => it.wanted = body.to_owned(),
                1 => it.of = body.rsplit('.').next().unwrap_or(body).to_owned(),
                _ => {}
            }
        }
        self
    }

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
        Error::Mismatch(Mismatch { found, ..Mismatch::default() })
    }

    /// What a value was to be, by the name of our type that it was read as.
    #[cold]
    fn wanting(mut self, ours: &str) -> Error {
        if let Error::Mismatch(it) = &mut self
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
    fn at(mut self, of: &str, field: String) -> Error {
        if let Error::Mismatch(it) = &mut self {
            if it.path.is_empty() {
                it.of = go_name(of).to_owned();
            }
            it.path.insert(0, field);
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
    if let Some((key, value)) =
        inner("alloc::collections::btree::map::BTreeMap<").and_then(|both| both.split_once(", "))
    {
        return format!("map[{}]{}", go_type(key), go_type(value));
    }
    let name = go_name(ours.rsplit("::").next().unwrap_or(ours));
    // One word, or several.
    if name == "Said" {
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
        match self {
            Error::Other(text) => f.write_str(text),
            Error::Mismatch(Mismatch { found, wanted, path, .. }) if path.is_empty() => {
                write!(f, "json: cannot unmarshal {found} into Go value of type {wanted}")
            }
            Error::Mismatch(Mismatch { found, wanted, of, path }) => {
                let path = path.join(".");
                write!(f, "json: cannot unmarshal {found} into Go struct field {of}.{path} of type {wanted}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(text: T) -> Error {
        Error::Other(text.to_string())
    }

    fn invalid_type(found: Unexpected, _: &dyn Expected) -> Error {
        Error::mismatch(found)
    }

    fn invalid_value(found: Unexpected, _: &dyn Expected) -> Error {
        Error::mismatch(found)
    }
}

/// A value that is to be taken apart.
struct Read(Value);

impl<'de> IntoDeserializer<'de, Error> for Read {
    type Deserializer = Read;

    fn into_deserializer(self) -> Read {
        self
    }
}

impl Read {
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(truth),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(entries) => visitor.visit_map(Entries::new(entries, None)),
        }
    }
}

/// Entries by the names of the fields that they are meant for.
fn meant(entries: Map<String, Value>, fields: &[&str]) -> Map<String, Value> {
    if entries.keys().all(|name| fields.contains(&name.as_str())) {
        return entries;
    }
    let meant = |name: String| match fields.iter().find(|field| field.eq_ignore_ascii_case(&name)) {
        Some(field) if !fields.contains(&name.as_str()) => (*field).to_owned(),
        _ => name,
    };
    // Collected, they would be sorted first, by code of its own.
    let mut fields = Map::new();
    fields.extend(entries.into_iter().map(|(name, value)| (meant(name), value)));
    fields
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Read(item))).transpose()
    }
}

/// The entries of an object: of a struct the fields, else a map's.
struct Entries {
    left: serde_json::map::IntoIter,
    of: Option<&'static str>,
    /// Of the entry that is being read.
    name: String,
    value: Option<Value>,
}

impl Entries {
    fn new(entries: Map<String, Value>, of: Option<&'static str>) -> Entries {
        Entries { left: entries.into_iter(), of, name: String::new(), value: None }
    }

    fn step(&mut self) -> Option<&str> {
        let (name, value) = self.left.next()?;
        (self.name, self.value) = (name, Some(value));
        Some(&self.name)
    }

    fn value(&mut self) -> Result<Read, Error> {
        self.value.take().map(Read).ok_or_else(|| de::Error::custom("a value without its name"))
    }

    #[cold]
    fn wrong(&mut self, error: Error) -> Error {
        match self.of {
            Some(of) => error.at(of, std::mem::take(&mut self.name)),
            None => error,
        }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.step().map(|name| seed.deserialize(StrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value()?;
        seed.deserialize(value).map_err(|error| self.wrong(error))
    }
}

impl<'de> Deserializer<'de> for Read {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit(visitor).map_err(|error| error.wanting(type_name::<V::Value>()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = match self.0 {
            Value::Object(entries) => entries,
            // The fields by their order are nobody's.
            Value::Array(_) => return Err(Error::mismatch(Unexpected::Seq).wanting(type_name::<V::Value>())),
            plain => return Read(plain).deserialize_any(visitor),
        };
        let entries = Entries::new(meant(entries, fields), Some(name));
        visitor.visit_map(entries).map_err(|error| error.wanting(type_name::<V::Value>()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor).map_err(de::Error::custom)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_str("") } else { self.deserialize_any(visitor) }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ContainerCreate, ExecCreate, VolumeCreate};

    fn read<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
        Ok(of(serde_json::from_slice(bytes)?)?)
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
        let within = |body: &str| {
            of::<VolumeCreate>(serde_json::from_str(body).unwrap()).unwrap_err().within("volume.CreateOptions")
        };
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
