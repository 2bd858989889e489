//! The data that a template walks: JSON with its order kept, and with what JSON forgets about Go's types told from
//! the names of Docker's fields, because a missing label, a field left out and a misspelt field print differently.

use crate::json::{self, Tree};
use crate::order;
use std::borrow::Cow;
use std::fmt::Write;

/// A value inside a template: borrowed from the data, or computed by a function.
pub type Value<'a> = Cow<'a, Node>;

/// One value of the data.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// What a missing map entry yields; printed as `<no value>`.
    NoValue,
    Nil(Zero),
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>, Shape),
}

/// The Go type behind an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A misspelt field is an error.
    Struct,
    /// A key that is not there has the element's zero value.
    Map,
    /// A row of a table, with the name of its Go type. An entry of shape `Map` is a method of one string.
    Row(&'static str),
}

/// The Go type behind a null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zero {
    Untyped,
    Pointer,
    List,
    Map,
}

/// Fields of the API that hold a map from names that users choose.
const MAPS: &[&str] = &[
    "Annotations",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "IndexConfigs",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Fields of the API that hold a pointer: absent and null are both `<nil>`.
const POINTERS: &[&str] = &[
    "BindOptions",
    "Descriptor",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "TmpfsOptions",
    "UsageData",
    "VolumeOptions",
];

/// Fields of the API that are left out when they hold nothing, and what they then are.
const LEFT_OUT: &[(&str, Node)] = &[
    ("Annotations", Node::Nil(Zero::Map)),
    ("ArgsEscaped", Node::Bool(false)),
    ("CreatedAt", Node::Text(String::new())),
    ("Driver", Node::Text(String::new())),
    ("Err", Node::Nil(Zero::Pointer)),
    ("ExposedPorts", Node::Nil(Zero::Map)),
    ("MacAddress", Node::Text(String::new())),
    ("Mounts", Node::Nil(Zero::List)),
    ("Name", Node::Text(String::new())),
    ("NetworkDisabled", Node::Bool(false)),
    ("ShadowedPaths", Node::Nil(Zero::List)),
    ("Shell", Node::Nil(Zero::List)),
    ("StopSignal", Node::Text(String::new())),
    ("StorageOpt", Node::Nil(Zero::Map)),
    ("Sysctls", Node::Nil(Zero::Map)),
    ("Tmpfs", Node::Nil(Zero::Map)),
    ("Variant", Node::Text(String::new())),
];

/// What became of a look-up of a field.
pub enum Found<'a> {
    Value(Value<'a>),
    /// The field is of a pointer that is nil, so that nothing below it can be had.
    Absent(Value<'a>),
    Nothing,
}

impl Node {
    /// The data of anything that can be written as JSON, in its own order.
    pub fn of(value: &impl serde::Serialize) -> anyhow::Result<Node> {
        Node::read(&serde_json::to_vec(value)?)
    }

    /// The data of a text of JSON, in its own order.
    pub fn read(json: &[u8]) -> anyhow::Result<Node> {
        let mut node = Node::from(json::tree(json)?);
        node.settle("", "");
        Ok(node)
    }

    /// Gives objects and nulls the Go types that Docker's fields of that name have.
    fn settle(&mut self, parent: &str, name: &str) {
        let map = MAPS.contains(&name) || (parent, name) == ("LogConfig", "Config");
        match self {
            Node::Nil(zero) if map => *zero = Zero::Map,
            Node::Nil(zero) if POINTERS.contains(&name) => *zero = Zero::Pointer,
            Node::Nil(zero) if !name.is_empty() => *zero = Zero::List,
            Node::List(items) => items.iter_mut().for_each(|item| item.settle("", "")),
            Node::Object(entries, shape) => {
                if map {
                    *shape = Shape::Map;
                }
                entries.iter_mut().for_each(|(key, node)| node.settle(name, if map { "" } else { key }));
            }
            _ => {}
        }
    }

    /// Go's truth: not empty, not zero, not nil.
    pub fn truth(&self) -> bool {
        match self {
            Node::NoValue | Node::Nil(_) => false,
            Node::Bool(value) => *value,
            Node::Int(value) => *value != 0,
            Node::Float(value) => *value != 0.0,
            Node::Text(text) => !text.is_empty(),
            Node::List(items) => !items.is_empty(),
            Node::Object(entries, Shape::Map) => !entries.is_empty(),
            Node::Object(..) => true,
        }
    }

    /// The Go type's name, for errors.
    pub fn type_name(&self) -> &'static str {
        match self {
            Node::NoValue | Node::Nil(_) => "nil",
            Node::Bool(_) => "bool",
            Node::Int(_) => "int",
            Node::Float(_) => "float64",
            Node::Text(_) => "string",
            Node::List(_) => "[]interface {}",
            Node::Object(_, Shape::Row(name)) => name,
            Node::Object(..) => "map[string]interface {}",
        }
    }

    fn lookup(&self, name: &str) -> Option<&Node> {
        let Node::Object(entries, shape) = self else { return None };
        let exact = entries.iter().find(|(key, _)| key == name);
        // Go's field names and the JSON names differ by case only: `.ID` is "Id", `.HostIP` is "HostIp". Fields that
        // begin small are private.
        let found = match shape {
            Shape::Struct if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
                exact.or_else(|| entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
            }
            _ => exact,
        };
        found.map(|(_, node)| node)
    }

    /// Writes the value as Go's `%v` does; `nested` inside a list, map or struct.
    pub fn print(&self, out: &mut String, nested: bool) {
        match self {
            Node::NoValue => out.push_str("<no value>"),
            Node::Nil(Zero::Untyped) => out.push_str(if nested { "<nil>" } else { "<no value>" }),
            Node::Nil(Zero::Pointer) => out.push_str("<nil>"),
            Node::Nil(Zero::List) => out.push_str("[]"),
            Node::Nil(Zero::Map) => out.push_str("map[]"),
            Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Node::Int(value) => _ = write!(out, "{value}"),
            Node::Float(value) => out.push_str(&float(*value)),
            Node::Text(text) => out.push_str(text),
            Node::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    item.print(out, true);
                }
                out.push(']');
            }
            Node::Object(_, Shape::Map) => {
                out.push_str("map[");
                for (index, (key, value)) in self.sorted().into_iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    value.print(out, true);
                }
                out.push(']');
            }
            Node::Object(entries, _) => {
                out.push('{');
                for (index, (_, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    value.print(out, true);
                }
                out.push('}');
            }
        }
    }

    /// The value as Go's `%v` prints it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, false);
        out
    }

    /// The entries of an object, sorted by key as Go ranges over a map.
    pub fn sorted(&self) -> Vec<(&str, &Node)> {
        let Node::Object(entries, _) = self else { return Vec::new() };
        let mut entries: Vec<_> = entries.iter().map(|(key, node)| (key.as_str(), node)).collect();
        order::by_key(&mut entries, |(key, _)| *key);
        entries
    }

    /// Writes the value as JSON on one line, as Go does with HTML escaping off; a row has it on, as Docker's have.
    pub fn json(&self, out: &mut String) {
        match self {
            Node::NoValue | Node::Nil(_) => out.push_str("null"),
            Node::Bool(_) | Node::Int(_) | Node::Float(_) => self.print(out, true),
            Node::Text(text) => quote_json(text, out),
            Node::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.json(out);
                }
                out.push(']');
            }
            Node::Object(entries, shape) => {
                let start = out.len();
                let entries: Vec<(&str, &Node)> = match shape {
                    Shape::Struct => entries.iter().map(|(key, node)| (key.as_str(), node)).collect(),
                    Shape::Map => self.sorted(),
                    Shape::Row(_) => self.sorted().into_iter().filter(|(_, node)| !node.is_method()).collect(),
                };
                out.push('{');
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    quote_json(key, out);
                    out.push(':');
                    value.json(out);
                }
                out.push('}');
                if matches!(shape, Shape::Row(_)) {
                    let text = out.split_off(start);
                    out.push_str(&text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"));
                }
            }
        }
    }

    /// A row of a table: its fields, and the labels behind `.Label`. `go_type` is the name in errors.
    pub fn row(value: &impl serde::Serialize, go_type: &'static str) -> anyhow::Result<Node> {
        let mut node = Node::from(json::tree(&serde_json::to_vec(value)?)?);
        if let Node::Object(entries, shape) = &mut node {
            *shape = Shape::Row(go_type);
            for (key, entry) in entries {
                match entry {
                    Node::Object(_, shape) if key == "Label" => *shape = Shape::Map,
                    // Of what a row has, only what is pointed to can be missing.
                    Node::Nil(zero) => *zero = Zero::Pointer,
                    _ => {}
                }
            }
        }
        Ok(node)
    }

    /// Whether this entry of a row is a method of one string, as `.Label`.
    pub fn is_method(&self) -> bool {
        matches!(self, Node::Object(_, Shape::Map))
    }
}

/// A field of a value, by Go's rules for structs and maps.
pub fn field<'a>(of: &Value<'a>, name: &str) -> Found<'a> {
    let found = match of {
        Cow::Borrowed(node) => node.lookup(name).map(Cow::Borrowed),
        Cow::Owned(node) => node.lookup(name).map(|found| Cow::Owned(found.clone())),
    };
    if let Some(found) = found {
        return match *found {
            Node::Nil(Zero::Pointer) => Found::Absent(found),
            _ => Found::Value(found),
        };
    }
    match **of {
        Node::Object(_, Shape::Map) | Node::Nil(Zero::Map) => Found::Value(Cow::Owned(Node::NoValue)),
        Node::Object(_, Shape::Struct) if POINTERS.contains(&name) => {
            Found::Absent(Cow::Owned(Node::Nil(Zero::Pointer)))
        }
        Node::Object(_, Shape::Struct) => match LEFT_OUT.iter().find(|(key, _)| *key == name) {
            Some((_, zero)) => Found::Absent(Cow::Owned(zero.clone())),
            None => Found::Nothing,
        },
        _ => Found::Nothing,
    }
}

/// An element of a value that may be borrowed.
pub fn element<'a>(of: &Value<'a>, index: usize) -> Option<Value<'a>> {
    match of {
        Cow::Borrowed(Node::List(items)) => items.get(index).map(Cow::Borrowed),
        Cow::Owned(Node::List(items)) => items.get(index).cloned().map(Cow::Owned),
        _ => None,
    }
}

/// Go's `%v` of a float64: the shortest digits that read back, with an exponent below 1e-4 and from 1e21.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if value == 0.0 || (1e-4..1e21).contains(&value.abs()) {
        return format!("{value}");
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => scientific,
    }
}

/// Writes a JSON string as Go does with HTML escaping off.
fn quote_json(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => _ = write!(out, "\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
}

impl From<Tree<'_>> for Node {
    fn from(tree: Tree) -> Node {
        match tree {
            Tree::Null => Node::Nil(Zero::Untyped),
            Tree::Bool(truth) => Node::Bool(truth),
            Tree::Number(number) => match number.as_i128() {
                Some(number) => Node::Int(number),
                None => Node::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Tree::Text(text) => Node::Text(text.into_owned()),
            Tree::List(items) => Node::List(items.into_iter().map(Node::from).collect()),
            Tree::Object(entries) => {
                let entries = entries.into_iter().map(|(name, value)| (name.into_owned(), value.into()));
                Node::Object(entries.collect(), Shape::Struct)
            }
        }
    }
}
