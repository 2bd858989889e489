//! Structs that are read of JSON field by field, into what they are by default: what is absent stays so, null is zero,
//! unknown fields are ignored, and of two of one name the last holds, all as with Go.
//!
//! What serde derives reads the same, by code of its own for each struct, in which every field is taken apart, checked
//! for having been there and undone when a later one is wrong, all that by name and once more by position. Here the names
//! are data, a field is put where it stays by what reads its type, and nobody's structs are lists.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt;
use std::marker::PhantomData;

/// Declares structs that are written as serde derives it, and read by their fields. After `strict:` they are those that
/// have no unknown ones. A field `as` another type is read as that, and made of it.
macro_rules! fields {
    (strict: $($structs:tt)*) => { $crate::fields::fields! { @strict true $($structs)* } };
    (@strict $strict:literal $(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$fmeta:meta])* $fvis:vis $field:ident: $type:ty $(as $read:ty)?, )*
        }
    )*) => { $(
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(remote = "Self")]
        $(#[$meta])*
        $vis struct $name {
            $( $(#[$fmeta])* $fvis $field: $type, )*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // What was derived, which is no trait's by its `remote`.
                $name::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                $crate::fields::read(deserializer)
            }
        }

        impl $crate::fields::Fields for $name {
            const NAME: &str = stringify!($name);
            const STRICT: bool = $strict;

            fn names() -> &'static [&'static str] {
                $crate::fields::named($name::deserialize($crate::fields::Asking))
            }

            fn put<'de, A: serde::de::MapAccess<'de>>(&mut self, at: usize, from: &mut A) -> Result<(), A::Error> {
                #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
                enum At { $( $field, )* }
                $( if at == At::$field as usize {
                    type Read = $crate::fields::fields!(@read $type $(as $read)?);
                    return $crate::fields::put::<Read, _, _>(&mut self.$field, from);
                } )*
                $crate::fields::skip(from)
            }
        }
    )* };
    (@read $type:ty) => { $type };
    (@read $type:ty as $read:ty) => { $read };
    ($($structs:tt)*) => { $crate::fields::fields! { @strict false $($structs)* } };
}
pub(crate) use fields;

/// A struct that [`fields`] declared.
pub trait Fields: Default {
    const NAME: &'static str;
    /// Unknown fields are errors.
    const STRICT: bool;

    /// What they are called in JSON, in their order.
    fn names() -> &'static [&'static str];

    /// Reads the value of one by its place in that order; one that is not there is skipped.
    fn put<'de, A: MapAccess<'de>>(&mut self, at: usize, from: &mut A) -> Result<(), A::Error>;
}

pub fn read<'de, T: Fields, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_struct(T::NAME, T::names(), Whole(PhantomData))
}

/// Not a part of each struct that has such a field.
#[inline(never)]
pub fn put<'de, R, T, A>(place: &mut T, from: &mut A) -> Result<(), A::Error>
where
    R: Deserialize<'de> + Default + Into<T>,
    A: MapAccess<'de>,
{
    *place = from.next_value::<Option<R>>()?.unwrap_or_default().into();
    Ok(())
}

#[inline(never)]
pub fn skip<'de, A: MapAccess<'de>>(from: &mut A) -> Result<(), A::Error> {
    from.next_value::<IgnoredAny>().map(drop)
}

struct Whole<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "struct {}", T::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut it = T::default();
        let mut name = Name { names: T::names(), next: 0, strict: T::STRICT };
        while let Some(at) = map.next_key_seed(name)? {
            it.put(at, &mut map)?;
            name.next = at + 1;
        }
        Ok(it)
    }
}

/// Of a name, which field it is: most likely the next one, for so they are written.
#[derive(Clone, Copy)]
struct Name {
    names: &'static [&'static str],
    next: usize,
    strict: bool,
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<usize, E> {
        let count = self.names.len();
        let (before, after) = self.names.split_at(self.next.min(count));
        match after.iter().chain(before).position(|known| *known == name) {
            Some(at) => Ok((before.len() + at) % count),
            None if self.strict => Err(E::unknown_field(name, self.names)),
            None => Ok(count),
        }
    }
}

/// Reads nothing, and is told by who wants to be read what its fields are called.
pub struct Asking;

#[derive(Debug)]
pub struct Told(&'static [&'static str]);

pub fn named<T>(told: Result<T, Told>) -> &'static [&'static str] {
    told.err().map_or(&[], |Told(names)| names)
}

impl<'de> Deserializer<'de> for Asking {
    type Error = Told;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Told> {
        Err(Told(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Told> {
        Err(Told(&[]))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "there is nothing to be read: {:?}", self.0)
    }
}

impl std::error::Error for Told {}

impl de::Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Told {
        Told(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fields! {
        #[derive(Debug, PartialEq)]
        #[serde(rename_all = "camelCase")]
        struct Loose {
            first_one: u8,
            #[serde(rename = "2nd", skip_serializing_if = "String::is_empty")]
            second: String,
            list: Option<Vec<u8>>,
        }
    }

    impl Default for Loose {
        fn default() -> Loose {
            Loose { first_one: 7, second: String::new(), list: None }
        }
    }

    fields! { strict:
        #[derive(Debug, Default)]
        struct Strict {
            inner: Loose,
        }
    }

    fn read(text: &str) -> Result<Loose, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn fields_are_found_by_their_names() {
        assert_eq!(Loose::names(), ["firstOne", "2nd", "list"]);
        let whole = Loose { first_one: 1, second: "b".to_owned(), list: Some(vec![2]) };
        for text in [
            r#"{"firstOne":1,"2nd":"b","list":[2]}"#,
            r#"{"list":[2],"2nd":"b","firstOne":1}"#,
            r#"{"2nd":"a","unknown":{"list":[3]},"firstOne":1,"2nd":"b","list":[2]}"#,
        ] {
            assert_eq!(read(text).unwrap(), whole, "{text}");
        }
        assert_eq!(serde_json::to_string(&whole).unwrap(), r#"{"firstOne":1,"2nd":"b","list":[2]}"#);
        assert_eq!(serde_json::to_string(&Loose::default()).unwrap(), r#"{"firstOne":7,"list":null}"#);
    }

    #[test]
    fn what_is_absent_is_as_by_default_and_null_is_zero() {
        assert_eq!(read("{}").unwrap(), Loose::default());
        assert_eq!(read(r#"{"firstOne":null,"2nd":null,"list":null}"#).unwrap().first_one, 0);
    }

    #[test]
    fn what_is_no_such_struct_is_refused() {
        for text in ["[1]", "5", r#"{"firstOne":"1"}"#, r#"{"firstOne":256}"#, r#"{"list":[null]}"#, r#"{"2nd":"#] {
            assert!(read(text).is_err(), "{text}");
        }
        let strict = |text: &str| serde_json::from_str::<Strict>(text).map(|it| it.inner);
        assert_eq!(strict(r#"{"inner":{"list":[],"else":1}}"#).unwrap().list, Some(Vec::new()));
        let error = strict(r#"{"inner":{},"else":1}"#).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `else`, expected `inner`"), "{error}");
    }

    /// Fields that are only written come last, and no field has two names: the order is that of all.
    #[test]
    fn names_are_those_of_the_fields() {
        use crate::api::types::{HostConfig, ImageConfig};
        assert_eq!(HostConfig::names()[..2], ["Binds", "ContainerIDFile"]);
        assert_eq!(ImageConfig::names().last(), Some(&"WorkingDir"));
    }
}
