//! Structs that are read of JSON field by field, into what they are by default: what is absent stays so, null is zero,
//! unknown fields are ignored, and of two of one name the last holds, all as with Go.
//!
//! What serde derives reads the same, by code of its own for each struct, in which every field is taken apart, checked
//! for having been there and undone when a later one is wrong, all that by name and once more by position. Here the names
//! are data, a field is put where it stays by what reads its type, and nobody's structs are lists.

use super::read::place;
use super::{Error, FromTree, Tree};
use serde::de::{self, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::any::type_name;
use std::fmt;

/// Declares structs that are written as serde derives it, and read by their fields. After `strict:` they are those that
/// have no unknown ones. A field `as` another type is read as that, and made of it.
macro_rules! fields {
    (strict: $($structs:tt)*) => { $crate::json::fields::fields! { @strict true $($structs)* } };
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
                $crate::json::by_tree(deserializer)
            }
        }

        impl $crate::json::FromTree for $name {
            fn from_tree(tree: $crate::json::Tree) -> Result<$name, $crate::json::Error> {
                let mut it = $name::default();
                $crate::json::fields::read(&mut it, tree)?;
                Ok(it)
            }
        }

        impl $crate::json::fields::Fields for $name {
            fn shape(&self) -> $crate::json::fields::Shape {
                $crate::json::fields::Shape {
                    name: stringify!($name),
                    strict: $strict,
                    fields: $crate::json::fields::named($name::deserialize($crate::json::fields::Asking)),
                }
            }

            fn put(&mut self, at: usize, value: $crate::json::Tree) -> Result<(), $crate::json::Error> {
                #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
                enum At { $( $field, )* }
                $( if at == At::$field as usize {
                    type Read = $crate::json::fields::fields!(@read $type $(as $read)?);
                    return $crate::json::fields::put::<Read, _>(&mut self.$field, value);
                } )*
                Ok(())
            }
        }
    )* };
    (@read $type:ty) => { $type };
    (@read $type:ty as $read:ty) => { $read };
    ($($structs:tt)*) => { $crate::json::fields::fields! { @strict false $($structs)* } };
}
pub(crate) use fields;

/// A struct that [`fields`] declared.
pub trait Fields {
    fn shape(&self) -> Shape;

    /// Reads a value into the field at that place of its shape; where it has none, nothing is done.
    fn put(&mut self, at: usize, value: Tree) -> Result<(), Error>;
}

/// What a struct and its fields are called in JSON, in their order.
pub struct Shape {
    pub name: &'static str,
    pub fields: &'static [&'static str],
    /// Unknown fields are errors.
    pub strict: bool,
}

/// Reads what a value has of a struct's fields; null has none.
pub fn read(it: &mut dyn Fields, tree: Tree) -> Result<(), Error> {
    let shape = it.shape();
    if matches!(tree, Tree::Null) {
        return Ok(());
    }
    let mut next = 0;
    for (name, value) in tree.object()? {
        match place(shape.fields, next, &name) {
            Some(at) => {
                it.put(at, value).map_err(|error| error.at(shape.name, shape.fields[at]))?;
                next = at + 1;
            }
            None if shape.strict => return Err(de::Error::unknown_field(&name, shape.fields)),
            None => {}
        }
    }
    Ok(())
}

/// Not a part of each struct that has such a field.
#[inline(never)]
pub fn put<R: FromTree + Default + Into<T>, T>(field: &mut T, value: Tree) -> Result<(), Error> {
    let value = match value {
        Tree::Null => R::default(),
        value => R::from_tree(value).map_err(|error| error.wanting(type_name::<R>()))?,
    };
    *field = value.into();
    Ok(())
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
    use crate::json;

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

    fn read(text: &str) -> Result<Loose, json::Error> {
        json::from_str(text)
    }

    #[test]
    fn fields_are_found_by_their_names() {
        assert_eq!(Loose::default().shape().fields, ["firstOne", "2nd", "list"]);
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
        assert_eq!(read("null").unwrap(), Loose::default());
        assert_eq!(read(r#"{"firstOne":null,"2nd":null,"list":null}"#).unwrap().first_one, 0);
    }

    #[test]
    fn what_is_no_such_struct_is_refused() {
        for text in ["[1]", "5", r#"{"firstOne":"1"}"#, r#"{"firstOne":256}"#, r#"{"list":[null]}"#, r#"{"2nd":"#] {
            assert!(read(text).is_err(), "{text}");
        }
        let strict = |text: &str| json::from_str::<Strict>(text).map(|it| it.inner);
        assert_eq!(strict(r#"{"inner":{"list":[],"else":1}}"#).unwrap().list, Some(Vec::new()));
        let error = strict(r#"{"inner":{},"else":1}"#).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `else`, expected `inner`"), "{error}");
    }

    /// Fields that are only written come last, and no field has two names: the order is that of all.
    #[test]
    fn names_are_those_of_the_fields() {
        use crate::api::types::{HostConfig, ImageConfig};
        assert_eq!(HostConfig::default().shape().fields[..2], ["Binds", "ContainerIDFile"]);
        assert_eq!(ImageConfig::default().shape().fields.last(), Some(&"WorkingDir"));
    }
}
