//! The part of YAML that tools write: maps and lists in block style, scalars plain or quoted, and lists and maps in
//! brackets on one line. What is beyond that is refused by the name of the construct, with its line.
//!
//! Source: <https://yaml.org/spec/1.2.2/>; scalars are resolved as by the reference implementation of the Container
//! Device Interface, so `0660` is octal.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// How deep collections may lie in one another.
const DEPTH: usize = 32;

/// Reads one document.
pub fn parse(text: &str) -> Result<Value> {
    let mut lines = Vec::new();
    let (mut blank, mut ended) = (false, false);
    for (number, whole) in text.lines().enumerate() {
        let line = Line::read(number + 1, whole, blank)?;
        blank = line.text.is_empty();
        match line.text {
            "" => continue,
            text if line.indent == 0 && (text == "---" || text.starts_with("--- ")) => {
                if !lines.is_empty() || ended {
                    return line.refuse("a second document");
                }
                if text != "---" {
                    return line.refuse("a document that begins beside its marker");
                }
                continue;
            }
            "..." if line.indent == 0 => {
                ended = true;
                continue;
            }
            text if text.starts_with('%') && line.indent == 0 => return line.refuse("a directive"),
            _ => {}
        }
        if ended {
            return line.refuse("a second document");
        }
        lines.push(line);
    }
    let mut reader = Reader { lines, at: 0 };
    let Some(first) = reader.lines.first() else { return Ok(Value::Null) };
    let value = reader.block(first.indent, DEPTH)?;
    match reader.lines.get(reader.at) {
        Some(line) => line.wrong("is indented like nothing above it"),
        None => Ok(value),
    }
}

/// A line without its indentation and its comment.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
    /// The one before it was empty.
    after_blank: bool,
}

impl<'a> Line<'a> {
    fn read(number: usize, whole: &'a str, after_blank: bool) -> Result<Line<'a>> {
        let text = whole.trim_start_matches(' ');
        let line = Line { number, indent: whole.len() - text.len(), text: uncommented(text).trim_end(), after_blank };
        if line.text.starts_with('\t') {
            return line.refuse("a tab in the indentation");
        }
        Ok(line)
    }

    fn wrong<T>(&self, what: &str) -> Result<T> {
        bail!("line {}: {:?} {what}", self.number, shortened(self.text))
    }

    /// What YAML has, and this does not read.
    fn refuse<T>(&self, what: &str) -> Result<T> {
        bail!("line {}: {what} is not supported", self.number)
    }

    fn is_item(&self) -> bool {
        self.text == "-" || self.text.starts_with("- ")
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

/// What comes before a comment. A `#` begins one at the start or after a blank, outside of quotes.
fn uncommented(text: &str) -> &str {
    let (mut quote, mut before, mut escaped) = (None, ' ', false);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), letter) if letter == open && !escaped => quote = None,
            (None, '#') if matches!(before, ' ' | '\t') => return &text[..at],
            // Within a plain scalar they stand for themselves.
            (None, '"' | '\'') if matches!(before, ' ' | '\t' | '[' | '{' | ',') => quote = Some(letter),
            _ => {}
        }
        (before, escaped) = (letter, false);
    }
    text
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// What begins at the current line, whose indentation is `indent`.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let line = self.lines[self.at];
        if depth == 0 {
            return line.refuse("a collection as deep as this");
        }
        if line.is_item() {
            return self.list(indent, depth);
        }
        if line.text == "?" || line.text.starts_with("? ") {
            return line.refuse("a key that is marked by a question mark");
        }
        match entry(&line)? {
            Some(_) => self.map(indent, depth),
            None => {
                self.at += 1;
                // Continued as far in as its first line.
                self.scalar(&line, line.text, indent.checked_sub(1), depth)
            }
        }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let mut list = Vec::new();
        while let Some(line) = self.lines.get(self.at).copied().filter(|line| line.indent == indent && line.is_item()) {
            let rest = line.text[1..].trim_start_matches(' ');
            if rest.starts_with('\t') {
                return line.refuse("a tab in the indentation");
            }
            if rest.is_empty() {
                self.at += 1;
                list.push(self.below(indent, false, depth)?);
                continue;
            }
            // What stands beside the dash is as deep as it stands.
            let inner = indent + line.text.len() - rest.len();
            self.lines[self.at] = Line { indent: inner, text: rest, ..line };
            list.push(match entry(&self.lines[self.at])? {
                None if !self.lines[self.at].is_item() => {
                    self.at += 1;
                    self.scalar(&line, rest, Some(indent), depth)?
                }
                _ => self.block(inner, depth - 1)?,
            });
        }
        self.end(indent, Value::Array(list))
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let mut map = Map::new();
        while let Some(line) = self.lines.get(self.at).copied().filter(|line| line.indent == indent) {
            if line.is_item() {
                break;
            }
            let Some((key, rest)) = entry(&line)? else { return line.wrong("is no entry of a map") };
            self.at += 1;
            let value = match rest {
                "" => self.below(indent, true, depth)?,
                rest => self.scalar(&line, rest, Some(indent), depth)?,
            };
            if map.insert(key, value).is_some() {
                return line.wrong("is a key that stands there already");
            }
        }
        self.end(indent, Value::Object(map))
    }

    /// Nothing may follow a collection that is deeper than it.
    fn end(&self, indent: usize, value: Value) -> Result<Value> {
        match self.lines.get(self.at) {
            Some(line) if line.indent > indent => line.wrong("is indented like nothing above it"),
            _ => Ok(value),
        }
    }

    /// What stands below a key or a dash that has nothing beside it. A list may be as deep as the key that it belongs to.
    fn below(&mut self, indent: usize, key: bool, depth: usize) -> Result<Value> {
        match self.lines.get(self.at) {
            Some(line) if line.indent > indent || (key && line.indent == indent && line.is_item()) => {
                self.block(line.indent, depth - 1)
            }
            _ => Ok(Value::Null),
        }
    }

    /// A scalar, or a collection in brackets. A plain one goes on in lines that are deeper than `parent`, if there is one.
    fn scalar(&mut self, line: &Line, text: &str, parent: Option<usize>, depth: usize) -> Result<Value> {
        let construct = match text.as_bytes().first() {
            Some(b'|' | b'>') => "a block scalar",
            Some(b'&') => "an anchor",
            Some(b'*') => "an alias",
            Some(b'!') => "a tag",
            Some(b'"' | b'\'' | b'[' | b'{') => {
                let mut flow = Flow { line, rest: text };
                let value = flow.value(depth)?;
                return match flow.rest.trim_start() {
                    "" => Ok(value),
                    rest => bail!("line {}: {:?} after what has ended", line.number, shortened(rest)),
                };
            }
            Some(b'%' | b'@' | b'`' | b',' | b']' | b'}') => {
                return line.wrong("begins with a letter that YAML reserves");
            }
            _ => "",
        };
        if !construct.is_empty() {
            return line.refuse(construct);
        }
        let mut whole = text.to_owned();
        let deeper = |line: &&Line| parent.is_none_or(|parent| line.indent > parent);
        while let Some(next) = self.lines.get(self.at).filter(deeper) {
            if next.after_blank {
                return next.refuse("a scalar of several paragraphs");
            }
            if next.is_item() || entry(next)?.is_some() {
                return next.wrong("stands below a scalar");
            }
            whole.push(' ');
            whole.push_str(next.text);
            self.at += 1;
        }
        plain(line, &whole)
    }
}

/// The key of a line that is an entry of a map, and what stands beside it.
fn entry<'a>(line: &Line<'a>) -> Result<Option<(String, &'a str)>> {
    let text = line.text;
    let (key, rest) = match text.as_bytes().first() {
        Some(b'"' | b'\'') => {
            let mut flow = Flow { line, rest: text };
            let key = flow.quoted()?;
            match flow.rest.trim_start().strip_prefix(':') {
                Some(rest) => (key, rest),
                None => return Ok(None),
            }
        }
        Some(b'[' | b'{') => return Ok(None),
        _ => {
            let colon = text.char_indices().find(|(at, letter)| {
                *letter == ':' && matches!(text.as_bytes().get(at + 1), None | Some(b' ' | b'\t'))
            });
            let Some((at, _)) = colon else { return Ok(None) };
            (text[..at].trim_end().to_owned(), &text[at + 1..])
        }
    };
    if !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
        return Ok(None);
    }
    match key.as_bytes().first() {
        Some(b'&') => line.refuse("an anchor"),
        Some(b'*') => line.refuse("an alias"),
        Some(b'!') => line.refuse("a tag"),
        _ if key == "<<" => line.refuse("a merge of maps"),
        _ => Ok(Some((key, rest.trim_start()))),
    }
}

/// What is quoted or in brackets, within one line.
struct Flow<'a, 'b> {
    line: &'b Line<'b>,
    rest: &'a str,
}

impl<'a> Flow<'a, '_> {
    fn unended<T>(&self) -> Result<T> {
        self.line.refuse("what is quoted or in brackets over several lines")
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        if depth == 0 {
            return self.line.refuse("a collection as deep as this");
        }
        self.rest = self.rest.trim_start();
        match self.rest.as_bytes().first() {
            None => self.unended(),
            Some(b'"' | b'\'') => Ok(Value::String(self.quoted()?)),
            Some(b'[') => {
                let mut list = Vec::new();
                while self.more(']', list.is_empty())? {
                    list.push(self.value(depth - 1)?);
                }
                Ok(Value::Array(list))
            }
            Some(b'{') => {
                let mut map = Map::new();
                while self.more('}', map.is_empty())? {
                    let key = match self.rest.as_bytes().first() {
                        Some(b'"' | b'\'') => self.quoted()?,
                        _ => self.word().to_owned(),
                    };
                    self.rest = self.rest.trim_start();
                    let value = match self.rest.strip_prefix(':') {
                        Some(rest) => {
                            self.rest = rest;
                            self.value(depth - 1)?
                        }
                        None => Value::Null,
                    };
                    if map.insert(key, value).is_some() {
                        return self.line.wrong("has a key twice");
                    }
                }
                Ok(Value::Object(map))
            }
            Some(b'&') => self.line.refuse("an anchor"),
            Some(b'*') => self.line.refuse("an alias"),
            Some(b'!') => self.line.refuse("a tag"),
            Some(_) => {
                let word = self.word();
                plain(self.line, word)
            }
        }
    }

    /// Goes over an opening bracket or a comma; whether an item follows, or else the bracket that closes.
    fn more(&mut self, close: char, first: bool) -> Result<bool> {
        self.rest = self.rest.trim_start();
        if !self.rest.starts_with(close) {
            match self.rest.chars().next() {
                None => return self.unended(),
                Some('[' | '{') if first => self.rest = &self.rest[1..],
                Some(',') if !first => self.rest = &self.rest[1..],
                Some(_) => return self.line.wrong("has no comma where one belongs"),
            }
            self.rest = self.rest.trim_start();
        }
        match self.rest.strip_prefix(close) {
            Some(rest) => {
                self.rest = rest;
                Ok(false)
            }
            None if self.rest.is_empty() => self.unended(),
            None => Ok(true),
        }
    }

    /// A plain scalar in brackets.
    fn word(&mut self) -> &'a str {
        let ends = |(at, letter): &(usize, char)| match letter {
            ',' | '[' | ']' | '{' | '}' => true,
            ':' => matches!(self.rest.as_bytes().get(at + 1), None | Some(b' ' | b',' | b'[' | b']' | b'{' | b'}')),
            _ => false,
        };
        let end = self.rest.char_indices().find(ends).map_or(self.rest.len(), |(at, _)| at);
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.trim_end()
    }

    fn quoted(&mut self) -> Result<String> {
        let mut letters = self.rest.chars();
        let quote = letters.next();
        let mut text = String::new();
        loop {
            match letters.next() {
                None => return self.unended(),
                Some('\'') if quote == Some('\'') => match letters.clone().next() {
                    Some('\'') => {
                        letters.next();
                        text.push('\'');
                    }
                    _ => break,
                },
                Some('"') if quote == Some('"') => break,
                Some('\\') if quote == Some('"') => {
                    let Some(letter) = letters.next() else { return self.unended() };
                    match escaped(letter, &mut letters) {
                        Some(letter) => text.push(letter),
                        None => return self.line.wrong("has an escape that stands for nothing"),
                    }
                }
                Some(letter) => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Ok(text)
    }
}

/// What `\` and a letter stand for; the digits of a number are taken.
fn escaped(letter: char, letters: &mut std::str::Chars) -> Option<char> {
    let digits = match letter {
        '0' => return Some('\0'),
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        't' | '\t' => return Some('\t'),
        'n' => return Some('\n'),
        'v' => return Some('\x0b'),
        'f' => return Some('\x0c'),
        'r' => return Some('\r'),
        'e' => return Some('\x1b'),
        ' ' | '"' | '/' | '\\' => return Some(letter),
        'N' => return Some('\u{85}'),
        '_' => return Some('\u{a0}'),
        'L' => return Some('\u{2028}'),
        'P' => return Some('\u{2029}'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut number = 0u32;
    for _ in 0..digits {
        number = number << 4 | letters.next()?.to_digit(16)?;
    }
    char::from_u32(number)
}

/// What a plain scalar means. Fractions have no field and stay text.
fn plain(line: &Line, text: &str) -> Result<Value> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off"
        | "OFF" => {
            bail!("line {}: {text:?} is text to some and a truth value to others: quote it", line.number)
        }
        text => match number(text) {
            Some(number) => Value::from(number),
            None => Value::String(text.to_owned()),
        },
    })
}

fn number(text: &str) -> Option<i64> {
    let (minus, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|letter: char| letter.is_ascii_hexdigit()) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if minus { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_tools_write_is_read() {
        for (text, expected) in [
            ("", json!(null)),
            ("---\n...\n", json!(null)),
            ("---\na: b\n...\n", json!({"a": "b"})),
            ("a:\n- b\n- c\nd:\n  - e\n", json!({"a": ["b", "c"], "d": ["e"]})),
            (
                "- a: b\n  c:\n  - d\n-   e: f\n    g: h\n- i\n-\n  j: k\n-\n",
                json!([{"a": "b", "c": ["d"]}, {"e": "f", "g": "h"}, "i", {"j": "k"}, null]),
            ),
            ("- - a\n  - b\n- - c\n", json!([["a", "b"], ["c"]])),
            (
                "a: \"0\"\nb: '0'\nc: 0\nd: 0660\ne: 0x10\nf: -1\ng: 0.5.0\nh: 1.10\ni: 09\n",
                json!({"a": "0", "b": "0", "c": 0, "d": 432, "e": 16, "f": -1, "g": "0.5.0", "h": "1.10", "i": "09"}),
            ),
            ("a: true\nb: ~\nc:\nd: null\n", json!({"a": true, "b": null, "c": null, "d": null})),
            ("# one\na: b # two\n\n  # three\nc: d#e\nf: \"g # h\"\n", json!({"a": "b", "c": "d#e", "f": "g # h"})),
            (
                "a: it's\nb: 'it''s'\nc: \"\\\"\\n\\u00e9\\\\\"\n",
                json!({"a": "it's", "b": "it's", "c": "\"\n\u{e9}\\"}),
            ),
            (
                "- --link\n- ../a::/b\n- A=B C\n- http://x\n- -1\n- -x\n",
                json!(["--link", "../a::/b", "A=B C", "http://x", -1, "-x"]),
            ),
            (
                "a: [ro, nosuid , \"b:c\", 1]\nb: {c: d, 'e': [], f}\ng: []\nh: {}\n",
                json!({"a": ["ro", "nosuid", "b:c", 1], "b": {"c": "d", "e": [], "f": null}, "g": [], "h": {}}),
            ),
            ("a: b c\n  d\n  e\nf: g\n", json!({"a": "b c d e", "f": "g"})),
            ("- a\n  b\n- c\n", json!(["a b", "c"])),
            ("\"a b\": c\n'd': e\nf g: h\n", json!({"a b": "c", "d": "e", "f g": "h"})),
            ("a: b\r\nc: d\r\n", json!({"a": "b", "c": "d"})),
            ("a\nb\n", json!("a b")),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        for (text, said) in [
            ("a: |\n  b\n", "line 1: a block scalar is not supported"),
            ("a: >-\n  b\n", "line 1: a block scalar is not supported"),
            ("a: &b c\n", "line 1: an anchor is not supported"),
            ("a: *b\n", "line 1: an alias is not supported"),
            ("&a b: c\n", "line 1: an anchor is not supported"),
            ("a: !!str b\n", "line 1: a tag is not supported"),
            ("a:\n  <<: b\n", "line 2: a merge of maps is not supported"),
            ("? a\n: b\n", "line 1: a key that is marked by a question mark is not supported"),
            ("%YAML 1.2\n---\na: b\n", "line 1: a directive is not supported"),
            ("a: b\n---\nc: d\n", "line 2: a second document is not supported"),
            ("a: b\n...\nc: d\n", "line 3: a second document is not supported"),
            ("--- a\n", "line 1: a document that begins beside its marker is not supported"),
            ("a:\n\tb: c\n", "line 2: a tab in the indentation is not supported"),
            ("a: \"b\n  c\"\n", "line 1: what is quoted or in brackets over several lines is not supported"),
            ("a: [b,\n  c]\n", "line 1: what is quoted or in brackets over several lines is not supported"),
            ("a: {b: c\n", "line 1: what is quoted or in brackets over several lines is not supported"),
            ("a: b\n\n  c\n", "line 3: a scalar of several paragraphs is not supported"),
            ("a: yes\n", "line 1: \"yes\" is text to some and a truth value to others: quote it"),
            ("a: b\na: c\n", "line 2: \"a: c\" is a key that stands there already"),
            ("a: {b: 1, b: 2}\n", "line 1: \"a: {b: 1, b: 2}\" has a key twice"),
            ("a: b\n  c: d\n", "line 2: \"c: d\" stands below a scalar"),
            ("a:\n    b: c\n  d: e\n", "line 3: \"d: e\" is indented like nothing above it"),
            ("  a: b\nc: d\n", "line 2: \"c: d\" is indented like nothing above it"),
            ("a: b\nc\n", "line 2: \"c\" is no entry of a map"),
            ("a: b\n- c\n", "line 2: \"- c\" is indented like nothing above it"),
            ("a: \"b\" c\n", "line 1: \"c\" after what has ended"),
            ("a: \"\\q\"\n", "line 1: \"a: \\\"\\\\q\\\"\" has an escape that stands for nothing"),
            ("a: [b c: d e]\n", "line 1: \"a: [b c: d e]\" has no comma where one belongs"),
            ("a: @b\n", "line 1: \"a: @b\" begins with a letter that YAML reserves"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), said, "{text}");
        }
        for deep in ["[".repeat(5000), "- ".repeat(5000), (0..5000).map(|at| " ".repeat(at) + "a:\n").collect()] {
            assert!(parse(&deep).unwrap_err().to_string().contains("as deep as this"));
        }
    }
}
