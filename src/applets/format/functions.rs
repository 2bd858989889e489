//! The functions of a template: Go's own and the ones that Docker adds.

use super::lex::quote;
use super::value::{self, Found, Node, Shape, Value, Zero};
use crate::order;
use std::borrow::Cow;
use std::cmp::Ordering;

/// What a function said was wrong.
pub enum Fault {
    /// The argument with that index has another type than the named one.
    Argument(usize, &'static str),
    /// Of the whole call; the caller puts `error calling NAME: ` before it.
    Call(String),
}

/// In a table's header these leave their first argument as it is.
pub const HEADERS_KEEP: &[&str] = &["join", "json", "lower", "split", "title", "truncate", "upper"];

/// How wide `printf` pads and how many digits it prints at most.
const WIDEST: usize = 10_000;

/// The words for a wrong number of arguments, or nothing where the number is right.
pub fn wrong_count(name: &str, count: usize) -> Option<String> {
    let (want, more) = match name {
        "json" | "lower" | "upper" | "title" | "len" | "not" => (1, false),
        "join" | "split" | "truncate" | "ne" | "lt" | "le" | "gt" | "ge" | "flag" | "arg" => (2, false),
        "pad" => (3, false),
        "and" | "or" | "eq" | "index" | "printf" | "slice" => (1, true),
        _ => (0, true),
    };
    match more {
        true if count < want => Some(format!("wrong number of args for {name}: want at least {want} got {count}")),
        false if count != want => Some(format!("wrong number of args for {name}: want {want} got {count}")),
        _ => None,
    }
}

/// Calls a function with its arguments, whose number [`wrong_count`] has agreed to.
pub fn call<'a>(name: &str, arguments: Vec<Value<'a>>) -> Result<Value<'a>, Fault> {
    let arguments = arguments.as_slice();
    let said = Fault::Call;
    let node = match (name, arguments) {
        ("json", [value]) => {
            let mut out = String::new();
            value.json(&mut out);
            Node::Text(out)
        }
        ("lower", [_]) => Node::Text(text(arguments, 0)?.to_lowercase()),
        ("upper", [_]) => Node::Text(text(arguments, 0)?.to_uppercase()),
        ("title", [_]) => Node::Text(title(text(arguments, 0)?)),
        ("split", [_, _]) => Node::List(split(text(arguments, 0)?, text(arguments, 1)?)),
        ("join", [list, _]) => Node::Text(join(list, text(arguments, 1)?).map_err(said)?),
        ("pad", [_, _, _]) => {
            Node::Text(pad(text(arguments, 0)?, int(arguments, 1)?, int(arguments, 2)?).map_err(said)?)
        }
        ("truncate", [_, _]) => Node::Text(truncate(text(arguments, 0)?, int(arguments, 1)?).map_err(said)?),
        ("len", [value]) => Node::Int(len(value).map_err(said)?),
        ("not", [value]) => Node::Bool(!value.truth()),
        ("eq", [_]) => return Err(said("missing argument for comparison".into())),
        ("eq", [left, rights @ ..]) => {
            let mut found = false;
            for right in rights {
                if equal(left, right).map_err(said)? {
                    found = true;
                    break;
                }
            }
            Node::Bool(found)
        }
        ("ne", [left, right]) => Node::Bool(!equal(left, right).map_err(said)?),
        ("lt", [left, right]) => Node::Bool(order(left, right).map_err(said)? == Some(Ordering::Less)),
        ("le", [left, right]) => {
            Node::Bool(matches!(order(left, right).map_err(said)?, Some(Ordering::Less | Ordering::Equal)))
        }
        ("gt", [left, right]) => {
            Node::Bool(!matches!(order(left, right).map_err(said)?, Some(Ordering::Less | Ordering::Equal)))
        }
        ("ge", [left, right]) => Node::Bool(order(left, right).map_err(said)? != Some(Ordering::Less)),
        ("index", [of, keys @ ..]) => {
            let mut value = of.clone();
            for key in keys {
                value = index(&value, key).map_err(said)?;
            }
            return Ok(value);
        }
        ("slice", [of, bounds @ ..]) => slice(of, bounds).map_err(said)?,
        // Of hooks only: what the command that has run was told.
        ("flag", [ran, _]) => return told(ran, "flag", text(arguments, 1)?).ok_or_else(|| said("no such flag".into())),
        ("arg", [ran, _]) => {
            let at = int(arguments, 1)?.to_string();
            return Ok(told(ran, "arg", &at).unwrap_or(Cow::Owned(Node::Text(String::new()))));
        }
        ("print", _) => Node::Text(print(arguments)),
        ("println", _) => {
            let words: Vec<String> = arguments.iter().map(|value| shown(value)).collect();
            Node::Text(words.join(" ") + "\n")
        }
        ("printf", [_, rest @ ..]) => Node::Text(printf(text(arguments, 0)?, rest)),
        _ => return Err(said("not supported".into())),
    };
    Ok(Cow::Owned(node))
}

/// What stands under a name in one of the maps of a command that has run.
fn told<'a>(ran: &Value<'a>, map: &str, name: &str) -> Option<Value<'a>> {
    let Found::Value(map) = value::field(ran, map) else { return None };
    match value::field(&map, name) {
        Found::Value(value) if *value != Node::NoValue => Some(value),
        _ => None,
    }
}

fn text<'v>(arguments: &'v [Value], index: usize) -> Result<&'v str, Fault> {
    match arguments[index].as_ref() {
        Node::Text(text) => Ok(text),
        Node::NoValue => Ok(""),
        _ => Err(Fault::Argument(index, "string")),
    }
}

fn int(arguments: &[Value], index: usize) -> Result<i128, Fault> {
    match arguments[index].as_ref() {
        Node::Int(value) => Ok(*value),
        _ => Err(Fault::Argument(index, "int")),
    }
}

/// `%v` of an argument, where a nil without a type is `<nil>`.
fn shown(value: &Node) -> String {
    let mut out = String::new();
    value.print(&mut out, true);
    out
}

fn split(text: &str, separator: &str) -> Vec<Node> {
    if separator.is_empty() {
        return text.chars().map(|c| Node::Text(c.into())).collect();
    }
    text.split(separator).map(|part| Node::Text(part.into())).collect()
}

fn join(list: &Node, separator: &str) -> Result<String, String> {
    match list {
        Node::List(items) => Ok(items.iter().map(shown).collect::<Vec<_>>().join(separator)),
        Node::Object(entries, Shape::Map | Shape::Struct) => {
            let mut values: Vec<String> = entries.iter().map(|(_, value)| shown(value)).collect();
            order::sort(&mut values);
            Ok(values.join(separator))
        }
        Node::NoValue | Node::Nil(_) => Ok(String::new()),
        other => Err(format!("expected slice, got {}", other.type_name())),
    }
}

/// The first letter of every word in upper case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = if c.is_ascii() { !(c.is_ascii_alphanumeric() || c == '_') } else { c.is_whitespace() };
    }
    out
}

fn pad(text: &str, before: i128, after: i128) -> Result<String, String> {
    let count = |count: i128| match usize::try_from(count) {
        Ok(count) if count <= WIDEST => Ok(" ".repeat(count)),
        Ok(_) => Err(format!("more than {WIDEST} spaces")),
        Err(_) => Err("strings: negative Repeat count".to_string()),
    };
    if text.is_empty() { Ok(String::new()) } else { Ok(count(before)? + text + &count(after)?) }
}

/// At most `length` bytes, and never half a character.
fn truncate(text: &str, length: i128) -> Result<String, String> {
    let length = usize::try_from(length).map_err(|_| format!("slice bounds out of range [:{length}]"))?;
    Ok(text[..floor(text, length)].to_string())
}

/// The last boundary between two characters at or before `offset`.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

fn len(value: &Node) -> Result<i128, String> {
    Ok(match value {
        Node::Text(text) => text.len() as i128,
        Node::List(items) => items.len() as i128,
        Node::Object(entries, _) => entries.len() as i128,
        Node::Nil(Zero::List | Zero::Map) => 0,
        Node::NoValue | Node::Nil(_) => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name())),
    })
}

fn equal(left: &Node, right: &Node) -> Result<bool, String> {
    Ok(match (left, right) {
        (Node::Bool(left), Node::Bool(right)) => left == right,
        (Node::Int(left), Node::Int(right)) => left == right,
        (Node::Float(left), Node::Float(right)) => left == right,
        (Node::Text(left), Node::Text(right)) => left == right,
        // A label that is not there equals the empty string, as it does for Go's map of strings.
        (Node::NoValue | Node::Nil(_), Node::NoValue | Node::Nil(_)) => true,
        (Node::NoValue, Node::Text(text)) | (Node::Text(text), Node::NoValue) => text.is_empty(),
        (Node::NoValue | Node::Nil(_), _) | (_, Node::NoValue | Node::Nil(_)) => false,
        (Node::List(_) | Node::Object(..), _) => return Err(format!("non-comparable type {}", left.type_name())),
        (_, Node::List(_) | Node::Object(..)) => return Err(format!("non-comparable type {}", right.type_name())),
        _ => return Err("incompatible types for comparison".into()),
    })
}

fn order(left: &Node, right: &Node) -> Result<Option<Ordering>, String> {
    Ok(match (left, right) {
        (Node::Int(left), Node::Int(right)) => Some(left.cmp(right)),
        (Node::Float(left), Node::Float(right)) => left.partial_cmp(right),
        (Node::Text(left), Node::Text(right)) => Some(left.cmp(right)),
        (Node::Int(_) | Node::Float(_) | Node::Text(_), Node::Int(_) | Node::Float(_) | Node::Text(_)) => {
            return Err("incompatible types for comparison".into());
        }
        _ => return Err("invalid type for comparison".into()),
    })
}

fn index<'a>(of: &Value<'a>, key: &Value<'a>) -> Result<Value<'a>, String> {
    match (of.as_ref(), key.as_ref()) {
        (Node::Object(..) | Node::Nil(Zero::Map), Node::Text(key)) => Ok(match value::field(of, key) {
            Found::Value(found) if *found != Node::NoValue => found,
            // The zero value of the map's elements, which are strings unless one of them says otherwise.
            _ => Cow::Owned(match of.as_ref() {
                Node::Object(entries, Shape::Map) if entries.iter().all(|(_, node)| matches!(node, Node::Text(_))) => {
                    Node::Text(String::new())
                }
                Node::Nil(Zero::Map) => Node::Text(String::new()),
                _ => Node::Nil(Zero::Untyped),
            }),
        }),
        (Node::Object(..), other) => Err(format!("value has type {}; should be string", other.type_name())),
        (Node::List(_) | Node::Nil(Zero::List), Node::Int(at)) => {
            let element = usize::try_from(*at).ok().and_then(|at| value::element(of, at));
            element.ok_or_else(|| format!("index out of range: {at}"))
        }
        (Node::Text(text), Node::Int(at)) => {
            let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
            byte.map(|byte| Cow::Owned(Node::Int((*byte).into()))).ok_or_else(|| format!("index out of range: {at}"))
        }
        (Node::List(_) | Node::Text(_), other) => {
            Err(format!("cannot index slice/array with type {}", other.type_name()))
        }
        (Node::NoValue | Node::Nil(_), _) => Err("index of untyped nil".into()),
        (other, _) => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn slice(of: &Node, bounds: &[Value]) -> Result<Node, String> {
    let length = match of {
        Node::Text(text) => text.len(),
        Node::List(items) => items.len(),
        Node::NoValue | Node::Nil(_) => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 2 {
        return Err("3-index slice is not supported".into());
    }
    let mut range = [0, length];
    for (bound, given) in range.iter_mut().zip(bounds) {
        *bound = match given.as_ref() {
            Node::Int(at) => {
                usize::try_from(*at).ok().filter(|at| *at <= length).ok_or(format!("index out of range: {at}"))?
            }
            other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
        };
    }
    let [from, to] = range;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match of {
        Node::Text(text) => Node::Text(text[floor(text, from)..floor(text, to)].to_string()),
        Node::List(items) => Node::List(items[from..to].to_vec()),
        _ => Node::Nil(Zero::Untyped),
    })
}

/// Go's `Sprint`: a space between two operands when neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut after_text = true;
    for (position, value) in arguments.iter().enumerate() {
        let is_text = matches!(value.as_ref(), Node::Text(_));
        if position > 0 && !after_text && !is_text {
            out.push(' ');
        }
        value.print(&mut out, true);
        after_text = is_text;
    }
    out
}

/// A verb of `printf` with its flags.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `Sprintf` for the verbs %v %T %s %d %q %t %x %X %o %b %c %f %e %g %U and %%.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut next = 0;
    let mut reordered = false;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => verb.minus = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                ' ' => verb.space = true,
                _ => verb.zero = true,
            }
        }
        let mut number = |next: &mut usize| {
            if chars.next_if_eq(&'*').is_some() {
                let given = arguments.get(*next).map(|value| value.as_ref());
                *next += 1;
                return match given {
                    Some(Node::Int(value)) => usize::try_from(value.unsigned_abs()).ok().map(|n| (n, *value < 0)),
                    _ => None,
                };
            }
            let mut value: Option<usize> = None;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                let digit = digit as usize - '0' as usize;
                value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            }
            value.map(|value| (value, false))
        };
        if let Some((width, negative)) = number(&mut next) {
            verb.width = Some(width.min(WIDEST));
            verb.minus |= negative;
        }
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            if chars.next_if_eq(&'*').is_some() {
                if let Some(Node::Int(value)) = arguments.get(next).map(|value| value.as_ref()) {
                    digits = value.to_string();
                }
                next += 1;
            }
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            verb.precision = Some(digits.parse().unwrap_or(0).min(WIDEST));
        }
        // `%[2]s` names its argument.
        if chars.next_if_eq(&'[').is_some() {
            let digits: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
            let _ = chars.next_if_eq(&']');
            next = digits.parse::<usize>().map_or(usize::MAX, |index| index.wrapping_sub(1));
            reordered = true;
        }
        let Some(letter) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if letter == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.get(next) else {
            out.push_str(&format!("%!{letter}({})", if reordered { "BADINDEX" } else { "MISSING" }));
            continue;
        };
        next += 1;
        let body = verb.format(letter, value);
        verb.pad(body, &mut out);
    }
    if next < arguments.len() && !reordered {
        let extra: Vec<String> = arguments[next..].iter().map(|v| format!("{}={}", v.type_name(), shown(v))).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

impl Verb {
    fn pad(&self, body: String, out: &mut String) {
        let missing = self.width.unwrap_or(0).saturating_sub(body.chars().count());
        if self.minus {
            out.push_str(&body);
            out.extend(std::iter::repeat_n(' ', missing));
        } else if self.zero && body.starts_with(['-', '+']) {
            out.push_str(&body[..1]);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(&body[1..]);
        } else {
            out.extend(std::iter::repeat_n(if self.zero { '0' } else { ' ' }, missing));
            out.push_str(&body);
        }
    }

    fn format(&self, letter: char, value: &Node) -> String {
        if letter == 'T' {
            return value.type_name().into();
        }
        let bad = || format!("%!{letter}({}={})", value.type_name(), shown(value));
        match value {
            Node::List(items) if letter != 'v' => {
                let items: Vec<String> = items.iter().map(|item| self.format(letter, item)).collect();
                format!("[{}]", items.join(" "))
            }
            Node::Text(text) => match letter {
                'v' if self.sharp => quote(text),
                'v' | 's' => self.cut(text),
                'q' if self.sharp && !text.contains('`') && !text.contains(char::is_control) => format!("`{text}`"),
                'q' => quote(&self.cut(text)),
                'x' => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                'X' => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
                _ => bad(),
            },
            Node::Int(number) => match letter {
                'v' | 'd' => self.signed(*number < 0, number.unsigned_abs().to_string()),
                'x' => self.signed(*number < 0, self.prefixed("0x", format!("{:x}", number.unsigned_abs()))),
                'X' => self.signed(*number < 0, self.prefixed("0X", format!("{:X}", number.unsigned_abs()))),
                'o' => self.signed(*number < 0, self.prefixed("0", format!("{:o}", number.unsigned_abs()))),
                'b' => self.signed(*number < 0, self.prefixed("0b", format!("{:b}", number.unsigned_abs()))),
                'c' => character(*number).to_string(),
                'q' => {
                    let quoted = quote(&character(*number).to_string()).replace("\\\"", "\"");
                    format!("'{}'", quoted[1..quoted.len() - 1].replace('\'', "\\'"))
                }
                'U' => format!("U+{number:04X}"),
                _ => bad(),
            },
            Node::Float(number) => match letter {
                'v' => self.signed(*number < 0.0, value::float(number.abs())),
                'f' | 'F' => self.signed(*number < 0.0, format!("{:.*}", self.precision.unwrap_or(6), number.abs())),
                'e' => self.signed(*number < 0.0, exponent(number.abs(), self.precision.unwrap_or(6))),
                'g' => self.signed(*number < 0.0, general(number.abs(), self.precision)),
                _ => bad(),
            },
            Node::Bool(value) if matches!(letter, 'v' | 't') => value.to_string(),
            Node::Bool(_) => bad(),
            Node::NoValue | Node::Nil(Zero::Untyped) if letter != 'v' => format!("%!{letter}(<nil>)"),
            other if matches!(letter, 'v' | 's') => shown(other),
            _ => bad(),
        }
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn prefixed(&self, prefix: &str, digits: String) -> String {
        if self.sharp { format!("{prefix}{digits}") } else { digits }
    }

    fn signed(&self, negative: bool, digits: String) -> String {
        match negative {
            true => format!("-{digits}"),
            false if self.plus => format!("+{digits}"),
            false if self.space => format!(" {digits}"),
            false => digits,
        }
    }
}

fn character(number: i128) -> char {
    u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// `d.ddde+02`, with that many digits after the point.
fn exponent(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            format!("{mantissa}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// Go's `%.*g` of a number that is not negative: that many significant digits, trailing zeros dropped.
pub fn general(number: f64, precision: Option<usize>) -> String {
    let Some(precision) = precision else { return value::float(number) };
    let precision = precision.clamp(1, 40);
    let rounded = exponent(number, precision - 1);
    let Some((mantissa, power)) = rounded.split_once('e') else { return rounded };
    let power: i32 = power.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if power < -4 || power >= precision as i32 {
        return format!("{}e{}{:02}", trimmed(mantissa), if power < 0 { '-' } else { '+' }, power.abs());
    }
    trimmed(&format!("{number:.*}", (precision as i32 - 1 - power).max(0) as usize))
}
