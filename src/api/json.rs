//! JSON as Go's library reads it: names of fields are the same in whatever case, of two the last holds, and null is no
//! text.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// A value of that type, of JSON that was read.
pub fn of<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Read(value))
}

/// A value that is to be taken apart.
struct Read(Value);

impl<'de> IntoDeserializer<'de, Error> for Read {
    type Deserializer = Read;

    fn into_deserializer(self) -> Read {
        self
    }
}

impl<'de> Deserializer<'de> for Read {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Read));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(entries) => {
                visitor.visit_map(MapDeserializer::new(entries.into_iter().map(|(name, value)| (name, Read(value)))))
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = match self.0 {
            Value::Object(entries) => entries,
            // The fields by their order are nobody's.
            Value::Array(_) => return Err(serde::de::Error::invalid_type(Unexpected::Seq, &visitor)),
            plain => return plain.deserialize_any(visitor),
        };
        let meant = |name: String| match fields.iter().find(|field| field.eq_ignore_ascii_case(&name)) {
            Some(field) if !fields.contains(&name.as_str()) => (*field).to_owned(),
            _ => name,
        };
        Read(Value::Object(entries.into_iter().map(|(name, value)| (meant(name), value)).collect()))
            .deserialize_any(visitor)
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
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_str("") } else { self.0.deserialize_string(visitor) }
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

    fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
        of(serde_json::from_slice(bytes)?)
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
}
