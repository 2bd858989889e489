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

/// Takes each value of a list; what is wrong with one is that it is none of that type.
fn each(tree: Tree, of: &str, take: &mut dyn FnMut(Tree) -> Result<(), Error>) -> Result<(), Error> {
    tree.list()?.try_for_each(take).map_err(|error| error.wanting(of))
}

/// Likewise of an object.
fn each_named(tree: Tree, of: &str, take: &mut dyn FnMut(String, Tree) -> Result<(), Error>) -> Result<(), Error> {
    let mut entries = tree.object()?.into_iter();
    entries.try_for_each(|(name, value)| take(name.into_owned(), value)).map_err(|error| error.wanting(of))
}

impl<T: FromTree> FromTree for Vec<T> {
    fn from_tree(tree: Tree) -> Result<Vec<T>, Error> {
        let mut list = Vec::new();
        each(tree, type_name::<T>(), &mut |item| {
            list.push(T::from_tree(item)?);
            Ok(())
        })?;
        Ok(list)
    }
}

impl<T: FromTree> FromTree for order::Map<String, T> {
    fn from_tree(tree: Tree) -> Result<order::Map<String, T>, Error> {
        let mut pairs = Vec::new();
        each_named(tree, type_name::<T>(), &mut |name, value| {
            pairs.push((name, T::from_tree(value)?));
            Ok(())
        })?;
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
        list.try_into().map_err(|_| Error::other(format!("{count} values where there are to be {N}")))
    }
}

impl<A: FromTree, B: FromTree> FromTree for (A, B) {
    fn from_tree(tree: Tree) -> Result<(A, B), Error> {
        let mut items = tree.list()?;
        match (items.next(), items.next(), items.next()) {
            (Some(first), Some(second), None) => Ok((A::from_tree(first)?, B::from_tree(second)?)),
            _ => Err(Error::other("not two values where there are to be two".to_owned())),
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
