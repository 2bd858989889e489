//! What the types of fields are made of.

use super::read::Read;
use super::{Error, FromTree, Tree};
use crate::order;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::any::type_name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Makes types of values as serde reads them.
macro_rules! by_serde {
    ($($type:ty),* $(,)?) => { $(
        impl $crate::json::FromTree for $type {
            fn from_tree(tree: $crate::json::Tree) -> Result<$type, $crate::json::Error> {
                $crate::json::made_by_serde(tree)
            }
        }
    )* };
}
pub(crate) use by_serde;

by_serde! { i8, i16, i32, i64, u8, u16, u32, u64, usize, f64, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr }

pub fn made_by_serde<'a, T: Deserialize<'a>>(tree: Tree<'a>) -> Result<T, Error> {
    T::deserialize(Read(tree))
}

impl FromTree for bool {
    fn from_tree(tree: Tree) -> Result<bool, Error> {
        match tree {
            Tree::Bool(truth) => Ok(truth),
            other => Err(other.mismatch()),
        }
    }
}

impl FromTree for String {
    fn from_tree(tree: Tree) -> Result<String, Error> {
        Ok(tree.text()?.into_owned())
    }
}

impl FromTree for PathBuf {
    fn from_tree(tree: Tree) -> Result<PathBuf, Error> {
        String::from_tree(tree).map(PathBuf::from)
    }
}

impl<T: FromTree> FromTree for Option<T> {
    fn from_tree(tree: Tree) -> Result<Option<T>, Error> {
        match tree {
            Tree::Null => Ok(None),
            tree => T::from_tree(tree).map(Some),
        }
    }
}

impl<T: FromTree> FromTree for Box<T> {
    fn from_tree(tree: Tree) -> Result<Box<T>, Error> {
        T::from_tree(tree).map(Box::new)
    }
}

impl<T: FromTree> FromTree for Vec<T> {
    fn from_tree(tree: Tree) -> Result<Vec<T>, Error> {
        let items = tree.list()?;
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            list.push(T::from_tree(item).map_err(|error| error.wanting(type_name::<T>()))?);
        }
        Ok(list)
    }
}

impl<T: FromTree> FromTree for order::Map<String, T> {
    fn from_tree(tree: Tree) -> Result<order::Map<String, T>, Error> {
        let entries = tree.object()?;
        let mut pairs = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            pairs.push((name.into_owned(), T::from_tree(value).map_err(|error| error.wanting(type_name::<T>()))?));
        }
        Ok(order::Map::from(pairs))
    }
}

impl FromTree for Value {
    fn from_tree(tree: Tree) -> Result<Value, Error> {
        Ok(match tree {
            Tree::Null => Value::Null,
            Tree::Bool(truth) => Value::Bool(truth),
            Tree::Number(number) => Value::Number(number),
            Tree::Text(text) => Value::String(text.into_owned()),
            Tree::List(_) => Value::Array(Vec::from_tree(tree)?),
            Tree::Object(_) => Value::Object(Map::from_tree(tree)?),
        })
    }
}

impl FromTree for Map<String, Value> {
    fn from_tree(tree: Tree) -> Result<Map<String, Value>, Error> {
        let mut map = Map::new();
        for (name, value) in tree.object()? {
            map.insert(name.into_owned(), Value::from_tree(value)?);
        }
        Ok(map)
    }
}

/// Of exactly so many.
impl<T: FromTree, const N: usize> FromTree for [T; N] {
    fn from_tree(tree: Tree) -> Result<[T; N], Error> {
        let list: Vec<T> = Vec::from_tree(tree)?;
        let count = list.len();
        list.try_into().map_err(|_| Error::Other(format!("{count} values where there are to be {N}")))
    }
}

impl<A: FromTree, B: FromTree> FromTree for (A, B) {
    fn from_tree(tree: Tree) -> Result<(A, B), Error> {
        let mut items = tree.list()?;
        match (items.next(), items.next(), items.next()) {
            (Some(first), Some(second), None) => Ok((A::from_tree(first)?, B::from_tree(second)?)),
            _ => Err(Error::Other("not two values where there are to be two".to_owned())),
        }
    }
}

impl FromTree for () {
    fn from_tree(tree: Tree) -> Result<(), Error> {
        match tree {
            Tree::Null => Ok(()),
            other => Err(other.mismatch()),
        }
    }
}
