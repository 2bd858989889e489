//! The words inside of an action of a template.

use crate::api::units;

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Space,
    Bar,
    Declare,
    Assign,
    Comma,
    Open,
    Close,
    Int(i128),
    Float(f64),
    Text(String),
    Bool(bool),
    Nil,
    Dot,
    Field(String),
    Variable(String),
    Name(String),
    Keyword(&'static str),
    /// `}}`, and whether it trims what follows.
    End,
    /// Nothing that can stand here, in Go's words; told where the parser comes to it.
    Bad(String),
}

const KEYWORDS: &[&str] = &["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// What separates words, and what trim markers take away.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The length of `}}` or ` -}}` at the start of `text`, and whether it trims.
pub fn right_delimiter(text: &str) -> Option<(usize, bool)> {
    if text.starts_with("}}") {
        return Some((2, false));
    }
    (text.starts_with(is_space) && text[1..].starts_with("-}}")).then_some((4, true))
}

/// The token at the start of `text`, which is inside an action, and its length.
pub fn token(text: &str) -> Result<(Token, usize), String> {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return Err("unclosed action".into()) };
    let second = chars.next().unwrap_or('\0');
    Ok(match first {
        c if is_space(c) => {
            // The last space before `-}}` belongs to the delimiter.
            let length = text.len() - text.trim_start_matches(is_space).len();
            let length = if length > 1 && text[length..].starts_with("-}}") { length - 1 } else { length };
            (Token::Space, length)
        }
        ':' if second == '=' => (Token::Declare, 2),
        ':' => return Err("expected :=".into()),
        '=' => (Token::Assign, 1),
        ',' => (Token::Comma, 1),
        '|' => (Token::Bar, 1),
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        '"' => quoted(text)?,
        '`' => {
            let Some(end) = text[1..].find('`') else { return Err("unterminated raw quoted string".into()) };
            (Token::Text(text[1..1 + end].into()), end + 2)
        }
        '\'' => character(text)?,
        '$' => {
            let length = 1 + name_length(&text[1..]);
            terminated(text, length)?;
            (Token::Variable(text[..length].into()), length)
        }
        '.' if !second.is_ascii_digit() => {
            let length = 1 + name_length(&text[1..]);
            terminated(text, length)?;
            if length == 1 { (Token::Dot, 1) } else { (Token::Field(text[1..length].into()), length) }
        }
        '+' | '-' | '.' | '0'..='9' => number(text)?,
        c if c == '_' || c.is_alphanumeric() => {
            let length = name_length(text);
            let name = &text[..length];
            terminated(text, length)?;
            let token = match KEYWORDS.iter().find(|word| **word == name) {
                Some(word) => Token::Keyword(word),
                None if name == "true" || name == "false" => Token::Bool(name == "true"),
                None if name == "nil" => Token::Nil,
                None => Token::Name(name.into()),
            };
            (token, length)
        }
        c if c.is_ascii_graphic() => return Err(c.into()),
        _ => return Err(format!("unrecognized character in action: {}", rune(text))),
    })
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len())
}

/// Refuses a name that runs into a character which cannot follow one.
fn terminated(text: &str, length: usize) -> Result<(), String> {
    match text[length..].chars().next() {
        Some(c) if !is_space(c) && !".,|:()=}".contains(c) => Err(format!("bad character {}", rune(&text[length..]))),
        _ => Ok(()),
    }
}

/// A character as Go's `%#U` prints it.
pub fn rune(text: &str) -> String {
    text.chars().next().map_or("EOF".into(), |c| format!("U+{:04X} '{c}'", c as u32))
}

/// A text in Go's double quotes.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A string in double quotes, with Go's escapes.
fn quoted(text: &str) -> Result<(Token, usize), String> {
    let mut bytes = Vec::new();
    let mut at = 1;
    loop {
        let rest = &text[at..];
        match rest.chars().next() {
            None | Some('\n') => return Err("unterminated quoted string".into()),
            Some('"') => break,
            Some('\\') => {
                let (value, length) = escape(rest, '"').ok_or("invalid syntax")?;
                match value {
                    Escaped::Byte(byte) => bytes.push(byte),
                    Escaped::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
                at += length;
            }
            Some(c) => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += c.len_utf8();
            }
        }
    }
    Ok((Token::Text(String::from_utf8_lossy(&bytes).into_owned()), at + 1))
}

fn character(text: &str) -> Result<(Token, usize), String> {
    let bad = || "unterminated character constant".to_string();
    let rest = &text[1..];
    let (value, length) = match rest.chars().next() {
        None | Some('\n' | '\'') => return Err(bad()),
        Some('\\') => match escape(rest, '\'').ok_or_else(bad)? {
            (Escaped::Byte(byte), length) => (u32::from(byte), length),
            (Escaped::Char(c), length) => (c as u32, length),
        },
        Some(c) => (c as u32, c.len_utf8()),
    };
    if !rest[length..].starts_with('\'') {
        return Err(bad());
    }
    Ok((Token::Int(value.into()), length + 2))
}

enum Escaped {
    Byte(u8),
    Char(char),
}

/// One of Go's escapes at the start of `text`, and its length.
fn escape(text: &str, quote: char) -> Option<(Escaped, usize)> {
    let kind = text[1..].chars().next()?;
    let simple = match kind {
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        '\\' => Some('\\'),
        c if c == quote => Some(c),
        _ => None,
    };
    if let Some(c) = simple {
        return Some((Escaped::Char(c), 2));
    }
    let digits = |from: usize, count: usize, radix: u32| {
        let digits = text.get(from..from + count)?;
        digits.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
    };
    Some(match kind {
        'x' => (Escaped::Byte(digits(2, 2, 16)? as u8), 4),
        'u' => (Escaped::Char(char::from_u32(digits(2, 4, 16)?)?), 6),
        'U' => (Escaped::Char(char::from_u32(digits(2, 8, 16)?)?), 10),
        '0'..='7' => (Escaped::Byte(u8::try_from(digits(1, 3, 8)?).ok()?), 4),
        _ => return None,
    })
}

/// An integer or a float, as Go writes them; no complex numbers.
fn number(text: &str) -> Result<(Token, usize), String> {
    let mut length = usize::from(text.starts_with(['+', '-']));
    let hexadecimal = text[length..].starts_with("0x") || text[length..].starts_with("0X");
    for c in text[length..].chars() {
        let before = text[..length].chars().next_back();
        let sign = matches!(c, '+' | '-') && !hexadecimal && matches!(before, Some('e' | 'E'));
        if !(c.is_alphanumeric() || c == '_' || c == '.' || sign) {
            break;
        }
        length += c.len_utf8();
    }
    let bad = || format!("bad number syntax: {}", quote(&text[..length]));
    let literal = text[..length].replace('_', "");
    let (negative, digits) = match literal.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, literal.strip_prefix('+').unwrap_or(&literal)),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = match lower.get(..2) {
        Some("0x") => 16,
        Some("0b") => 2,
        Some("0o") => 8,
        _ => 10,
    };
    let whole = if radix == 10 { lower.as_str() } else { &lower[2..] };
    let radix =
        if radix == 10 && whole.len() > 1 && whole.starts_with('0') && !whole.contains('.') { 8 } else { radix };
    if whole.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && let Ok(value) = i64::from_str_radix(whole, radix)
    {
        let value = i128::from(value);
        return Ok((Token::Int(if negative { -value } else { value }), length));
    }
    // What is too large for 64 bits does not become a float, nor one that is too large an infinity.
    let float =
        lower.contains(['.', 'e']) && lower.bytes().all(|b| b.is_ascii_digit() || b"e.+-".contains(&b)) && radix != 16;
    match units::float(&lower) {
        Some(value) if float => Ok((Token::Float(if negative { -value } else { value }), length)),
        _ => Err(bad()),
    }
}
