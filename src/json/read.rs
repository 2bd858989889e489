//! The reader of types that serde reads. Each kind of value is asked for by name and nothing else is tried, so that what
//! reads a type is small.

use super::Error;
use super::tree::Tree;
use serde::de::value::CowStrDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Unexpected};
use serde::de::{DeserializeSeed, Visitor};
use std::any::type_name;
use std::borrow::Cow;
use std::vec;

pub struct Read<'a>(pub Tree<'a>);

impl<'a> Tree<'a> {
    pub fn list(self) -> Result<vec::IntoIter<Tree<'a>>, Error> {
        match self {
            Tree::List(items) => Ok(items.into_iter()),
            other => Err(other.mismatch()),
        }
    }

    pub fn object(self) -> Result<Vec<(Cow<'a, str>, Tree<'a>)>, Error> {
        match self {
            Tree::Object(entries) => Ok(entries),
            other => Err(other.mismatch()),
        }
    }

    /// Null is no text.
    pub fn text(self) -> Result<Cow<'a, str>, Error> {
        match self {
            Tree::Text(text) => Ok(text),
            Tree::Null => Ok(Cow::Borrowed("")),
            other => Err(other.mismatch()),
        }
    }

    /// That it is not what was wanted.
    #[cold]
    pub fn mismatch(&self) -> Error {
        Error::mismatch(match self {
            Tree::Null => Unexpected::Unit,
            Tree::Bool(truth) => Unexpected::Bool(*truth),
            Tree::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Unexpected::Unsigned(number),
                (None, Some(number)) => Unexpected::Signed(number),
                (None, None) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Tree::Text(text) => Unexpected::Str(text),
            Tree::List(_) => Unexpected::Seq,
            Tree::Object(_) => Unexpected::Map,
        })
    }
}

/// The methods that read whole numbers, whichever.
macro_rules! whole_numbers {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match &self.0 {
                Tree::Number(number) if let Some(number) = number.as_u64() => visitor.visit_u64(number),
                Tree::Number(number) if let Some(number) = number.as_i64() => visitor.visit_i64(number),
                other => Err(other.mismatch()),
            }
        }
    )* };
}

impl<'de> Deserializer<'de> for Read<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(truth) => visitor.visit_bool(truth),
            Tree::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Tree::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Tree::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Tree::List(items) => visitor.visit_seq(Items(items.into_iter())),
            Tree::Object(entries) => visitor.visit_map(Entries::new(entries, None)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Tree::Bool(truth) => visitor.visit_bool(truth),
            other => Err(other.mismatch()),
        }
    }

    whole_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0 {
            Tree::Number(number) if let Some(number) = number.as_f64() => visitor.visit_f64(number),
            other => Err(other.mismatch()),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.text()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(&self.0.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.0, Tree::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Tree::Null => visitor.visit_unit(),
            other => Err(other.mismatch()),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items(self.0.list()?))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Error> {
        let items = self.0.list()?;
        if items.len() != count {
            return Err(Error::other(format!("{} values where there are to be {count}", items.len())));
        }
        visitor.visit_seq(Items(items))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(count, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries::new(self.0.object()?, None))
    }

    // The fields by their order are nobody's.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries::new(meant(self.0.object()?, fields), Some(name)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            // A variant by its name, which has nothing else.
            Tree::Text(name) => visitor.visit_enum(CowStrDeserializer::new(name)),
            other => Err(other.mismatch()),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// Entries by the names of the fields that they are meant for, of two for one the last.
fn meant<'a>(entries: Vec<(Cow<'a, str>, Tree<'a>)>, fields: &[&'static str]) -> Vec<(Cow<'a, str>, Tree<'a>)> {
    let mut meant: Vec<(Cow<'a, str>, Tree<'a>)> = Vec::with_capacity(entries.len());
    let mut had = vec![None; fields.len()];
    let mut next = 0;
    for (name, value) in entries {
        let Some(at) = place(fields, next, &name) else {
            meant.push((name, value));
            continue;
        };
        next = at + 1;
        match had[at] {
            Some(earlier) => meant[earlier] = (Cow::Borrowed(fields[at]), value),
            None => {
                had[at] = Some(meant.len());
                meant.push((Cow::Borrowed(fields[at]), value));
            }
        }
    }
    meant
}

/// The field of a name, in whatever case if there is none that is spelled so. It is looked for from there on where it most
/// likely is, as they are written in their order most of the time.
pub fn place(fields: &[&str], likely: usize, name: &str) -> Option<usize> {
    let count = fields.len();
    for step in 0..count {
        let at = if likely + step < count { likely + step } else { likely + step - count };
        if fields[at] == name {
            return Some(at);
        }
    }
    fields.iter().position(|field| field.eq_ignore_ascii_case(name))
}

struct Items<'a>(vec::IntoIter<Tree<'a>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.0.next() else { return Ok(None) };
        seed.deserialize(Read(item)).map(Some).map_err(|error| error.wanting(type_name::<T::Value>()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of an object: of a struct the fields, else a map's.
pub struct Entries<'a> {
    left: vec::IntoIter<(Cow<'a, str>, Tree<'a>)>,
    of: Option<&'static str>,
    /// Of the entry that is being read.
    name: Cow<'a, str>,
    value: Tree<'a>,
}

impl<'a> Entries<'a> {
    fn new(entries: Vec<(Cow<'a, str>, Tree<'a>)>, of: Option<&'static str>) -> Entries<'a> {
        Entries { left: entries.into_iter(), of, name: Cow::Borrowed(""), value: Tree::Null }
    }

    fn step(&mut self) -> bool {
        let Some((name, value)) = self.left.next() else { return false };
        (self.name, self.value) = (name, value);
        true
    }

    #[cold]
    fn wrong(&mut self, error: Error, ours: &str) -> Error {
        let error = error.wanting(ours);
        match self.of {
            Some(of) => error.at(of, &self.name),
            None => error,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.step() {
            return Ok(None);
        }
        seed.deserialize(Read(Tree::Text(self.name.clone()))).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = std::mem::replace(&mut self.value, Tree::Null);
        seed.deserialize(Read(value)).map_err(|error| self.wrong(error, type_name::<V::Value>()))
    }
}

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Error {
        Error::other(text.to_string())
    }

    fn invalid_type(found: Unexpected, _: &dyn de::Expected) -> Error {
        Error::mismatch(found)
    }

    fn invalid_value(found: Unexpected, _: &dyn de::Expected) -> Error {
        Error::mismatch(found)
    }
}
