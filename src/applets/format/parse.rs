//! The text of a Go template into a tree. Errors are the words after `template: :LINE: `, as Go's parser says them.

/// How deep parentheses and blocks may nest; the parser and the walker are recursive.
const DEPTH: usize = 100;

/// A piece of a template.
#[derive(Debug)]
pub enum Piece {
    Text(String),
    Print(Pipe),
    /// `{{if}}` … `{{else}}`; the pieces of an `{{else if}}` are the otherwise of its parent.
    If(Pipe, Vec<Piece>, Vec<Piece>),
    With(Pipe, Vec<Piece>, Vec<Piece>),
    Range(Pipe, Vec<Piece>, Vec<Piece>),
    Break,
    Continue,
}

/// Commands joined by `|`, and the variables that take the result.
#[derive(Debug)]
pub struct Pipe {
    pub variables: Vec<String>,
    /// `:=` makes the variables, `=` changes them.
    pub declares: bool,
    pub commands: Vec<Command>,
    pub at: Place,
}

/// Operands side by side: a function or method and its arguments, or one value.
#[derive(Debug)]
pub struct Command {
    pub operands: Vec<Operand>,
    pub at: Place,
}

#[derive(Debug)]
pub struct Operand {
    pub what: What,
    pub at: Place,
}

#[derive(Debug)]
pub enum What {
    Dot,
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`
    Variable(String, Vec<String>),
    /// A function's name.
    Function(String),
    /// `( … )`
    Pipe(Pipe),
    /// `(…).A.B`
    Chain(Box<Operand>, Vec<String>),
}

/// Where something stands in the template, and its text, for errors of the walk.
#[derive(Clone, Debug)]
pub struct Place {
    pub offset: usize,
    pub text: String,
}

/// The names that may be called; the parser refuses others.
pub const FUNCTIONS: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// What Go has and this does not: named when it is met.
const UNSUPPORTED: &[&str] = &["block", "call", "define", "html", "js", "template", "urlquery"];

#[derive(Clone, Debug, PartialEq)]
enum Token {
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

#[derive(Debug)]
struct Item {
    token: Token,
    offset: usize,
    text: String,
}

const KEYWORDS: &[&str] = &["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// Reads a template into its pieces.
pub fn parse(text: &str) -> Result<Vec<Piece>, String> {
    let mut parser =
        Parser { text, offset: 0, items: Vec::new(), next: 0, variables: vec!["$".into()], loops: 0, depth: 0 };
    let (pieces, end) = parser.list(true).map_err(|message| parser.place(message))?;
    match end {
        Stop::Text => Ok(pieces),
        Stop::End => Err(parser.place("unexpected {{end}}".into())),
        Stop::Else => Err(parser.place("unexpected {{else}}".into())),
    }
}

/// What ended a list of pieces.
#[derive(PartialEq)]
enum Stop {
    Text,
    End,
    Else,
}

struct Parser<'t> {
    text: &'t str,
    /// Up to here the template is read.
    offset: usize,
    /// The tokens of the present action.
    items: Vec<Item>,
    next: usize,
    variables: Vec<String>,
    loops: usize,
    depth: usize,
}

impl Parser<'_> {
    fn place(&self, message: String) -> String {
        let line = 1 + self.text[..self.offset].matches('\n').count();
        format!("template: :{line}: {message}")
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH { Err(format!("nested deeper than {DEPTH}")) } else { Ok(()) }
    }

    /// Pieces up to the `{{end}}` or `{{else}}` that belongs to the caller. After an else the tokens behind the
    /// word are still to be read.
    fn list(&mut self, outermost: bool) -> Result<(Vec<Piece>, Stop), String> {
        self.deeper()?;
        let mut pieces = Vec::new();
        let stop = loop {
            let rest = &self.text[self.offset..];
            let Some(start) = rest.find("{{") else {
                if !outermost {
                    self.offset = self.text.len();
                    return Err("unexpected EOF".into());
                }
                push_text(&mut pieces, rest);
                self.offset = self.text.len();
                break Stop::Text;
            };
            let before = &rest[..start];
            let inside = &rest[start + 2..];
            let trims = inside.starts_with('-') && inside[1..].starts_with(is_space);
            push_text(&mut pieces, if trims { before.trim_end_matches(is_space) } else { before });
            self.offset += start + 2 + if trims { 2 } else { 0 };
            if self.text[self.offset..].starts_with("/*") {
                self.comment()?;
                continue;
            }
            self.action()?;
            let keyword = match self.peek() {
                Token::Keyword(word) => Some(*word),
                _ => None,
            };
            match keyword {
                Some("end") => {
                    self.take();
                    self.close("end")?;
                    break Stop::End;
                }
                Some("else") => {
                    self.take();
                    break Stop::Else;
                }
                Some(word) => {
                    let piece = self.keyword(word)?;
                    pieces.push(piece);
                }
                None => {
                    let pipe = self.pipe("command", Token::End)?;
                    pieces.push(Piece::Print(pipe));
                }
            }
        };
        self.depth -= 1;
        Ok((pieces, stop))
    }

    fn keyword(&mut self, word: &'static str) -> Result<Piece, String> {
        self.take();
        match word {
            "if" | "with" | "range" => self.control(word),
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.close(word)?;
                Ok(if word == "break" { Piece::Break } else { Piece::Continue })
            }
            word => Err(format!("{{{{{word}}}}} is not supported")),
        }
    }

    /// `if`, `with` or `range`, from behind the word to behind its `{{end}}`.
    fn control(&mut self, word: &'static str) -> Result<Piece, String> {
        let scope = self.variables.len();
        let pipe = self.pipe(word, Token::End)?;
        self.loops += usize::from(word == "range");
        let (body, stop) = self.list(false)?;
        self.loops -= usize::from(word == "range");
        let otherwise = match stop {
            Stop::Else => {
                self.skip_space();
                match self.peek() {
                    // {{else if}} and {{else with}} are a whole control in the place of the otherwise.
                    Token::Keyword(next) if *next == word && word != "range" => {
                        self.take();
                        self.deeper()?;
                        let nested = self.control(word)?;
                        self.depth -= 1;
                        self.variables.truncate(scope);
                        return Ok(build(word, pipe, body, vec![nested]));
                    }
                    _ => self.close("else")?,
                }
                let (otherwise, stop) = self.list(false)?;
                if stop == Stop::Else {
                    return Err("expected end; found {{else}}".into());
                }
                otherwise
            }
            _ => Vec::new(),
        };
        self.variables.truncate(scope);
        Ok(build(word, pipe, body, otherwise))
    }

    /// Skips a comment that starts here, with its closing braces.
    fn comment(&mut self) -> Result<(), String> {
        let rest = &self.text[self.offset..];
        let Some(end) = rest.find("*/") else { return Err("unclosed comment".into()) };
        let after = &rest[end + 2..];
        let Some((length, trims)) = right_delimiter(after) else {
            return Err("comment ends before closing delimiter".into());
        };
        self.offset += end + 2 + length;
        if trims {
            self.trim();
        }
        Ok(())
    }

    fn trim(&mut self) {
        let rest = &self.text[self.offset..];
        self.offset += rest.len() - rest.trim_start_matches(is_space).len();
    }

    fn peek(&self) -> &Token {
        self.items.get(self.next).map_or(&Token::End, |item| &item.token)
    }

    fn take(&mut self) {
        self.next += 1;
    }

    fn skip_space(&mut self) {
        while *self.peek() == Token::Space {
            self.take();
        }
    }

    /// The place of the next token; its text is filled in by the caller.
    fn here(&self) -> usize {
        self.items.get(self.next).map_or(self.offset, |item| item.offset)
    }

    fn unexpected(&self, context: &str) -> String {
        let text = self.items.get(self.next).map_or("EOF", |item| item.text.as_str());
        match self.peek() {
            Token::Keyword(word) => format!("unexpected <{word}> in {context}"),
            Token::Bad(message) if message == "{" || message == "}" => {
                format!("unexpected {} in {context}", quote(message))
            }
            Token::Bad(message) => message.clone(),
            _ => {
                let short: String = text.chars().take(10).collect();
                let dots = if short.len() < text.len() { "..." } else { "" };
                format!("unexpected {}{dots} in {context}", quote(&short))
            }
        }
    }

    fn close(&mut self, context: &str) -> Result<(), String> {
        self.skip_space();
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected(context)) }
    }

    /// A pipeline up to `end`, which is taken.
    fn pipe(&mut self, context: &str, end: Token) -> Result<Pipe, String> {
        self.deeper()?;
        self.skip_space();
        let from = self.here();
        let (variables, declares) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            if *self.peek() == end {
                self.take();
                break;
            }
            match self.peek() {
                Token::Int(_) | Token::Float(_) | Token::Text(_) | Token::Bool(_) | Token::Nil | Token::Dot => {}
                Token::Field(_) | Token::Variable(_) | Token::Name(_) | Token::Open => {}
                Token::End => return Err("unclosed left paren".into()),
                _ => return Err(self.unexpected(context)),
            }
            let command = self.command()?;
            commands.push(command);
        }
        if commands.is_empty() {
            return Err(format!("missing value for {context}"));
        }
        for (stage, command) in commands.iter().enumerate().skip(1) {
            let executable = !matches!(
                command.operands[0].what,
                What::Bool(_) | What::Dot | What::Nil | What::Int(_) | What::Float(_) | What::Text(_)
            );
            if !executable {
                return Err(format!("non executable command in pipeline stage {}", stage + 1));
            }
        }
        self.depth -= 1;
        let mut text = variables.join(", ");
        if !variables.is_empty() {
            text.push_str(if declares { " := " } else { " = " });
        }
        text.push_str(&commands.iter().map(|command| command.at.text.as_str()).collect::<Vec<_>>().join(" | "));
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { variables, declares, commands, at: Place { offset: from, text } })
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), String> {
        let mut variables = Vec::new();
        let start = self.next;
        while let Token::Variable(name) = self.peek() {
            variables.push(name.clone());
            self.take();
            self.skip_space();
            match self.peek() {
                Token::Declare => {
                    self.take();
                    return Ok((variables, true));
                }
                Token::Assign => {
                    self.take();
                    if let Some(unknown) = variables.iter().find(|name| !self.variables.contains(name)) {
                        return Err(format!("undefined variable {}", quote(unknown)));
                    }
                    return Ok((variables, false));
                }
                Token::Comma if context == "range" && variables.len() < 2 => {
                    self.take();
                    self.skip_space();
                    if !matches!(self.peek(), Token::Variable(_)) {
                        return Err("range can only initialize variables".into());
                    }
                }
                Token::Comma => return Err(format!("too many declarations in {context}")),
                _ => break,
            }
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Command, String> {
        self.skip_space();
        let offset = self.here();
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            match self.peek() {
                Token::Space => {}
                Token::End | Token::Close => break,
                Token::Bar => {
                    self.take();
                    break;
                }
                _ => return Err(self.unexpected("operand")),
            }
        }
        if operands.is_empty() {
            return Err("empty command".into());
        }
        let text = operands.iter().map(|operand| operand.at.text.as_str()).collect::<Vec<_>>().join(" ");
        Ok(Command { operands, at: Place { offset, text } })
    }

    /// One operand with the fields that hang on it, or nothing where the command ends.
    fn operand(&mut self) -> Result<Option<Operand>, String> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let mut at = Place { offset: item.offset, text: item.text.clone() };
        let mut what = match &item.token {
            Token::Int(value) => What::Int(*value),
            Token::Float(value) => What::Float(*value),
            Token::Text(text) => What::Text(text.clone()),
            Token::Bool(value) => What::Bool(*value),
            Token::Nil => What::Nil,
            Token::Dot => What::Dot,
            Token::Field(name) => What::Field(vec![name.clone()]),
            Token::Variable(name) if self.variables.contains(name) => What::Variable(name.clone(), Vec::new()),
            Token::Variable(name) => return Err(format!("undefined variable {}", quote(name))),
            Token::Name(name) if FUNCTIONS.contains(&name.as_str()) => What::Function(name.clone()),
            Token::Name(name) if UNSUPPORTED.contains(&name.as_str()) => {
                return Err(format!("function {} is not supported", quote(name)));
            }
            Token::Name(name) => return Err(format!("function {} not defined", quote(name))),
            Token::Open => {
                self.take();
                let pipe = self.pipe("parenthesized pipeline", Token::Close)?;
                self.next -= 1;
                at.text = format!("({})", pipe.at.text);
                What::Pipe(pipe)
            }
            _ => return Ok(None),
        };
        self.take();
        let mut fields = Vec::new();
        let mut offset = at.offset;
        while let Some(Item { token: Token::Field(name), offset: place, .. }) = self.items.get(self.next) {
            // Go's parser reports a chain at its second link.
            if fields.is_empty() {
                offset = *place;
            }
            fields.push(name.clone());
            self.take();
        }
        if fields.is_empty() {
            return Ok(Some(Operand { what, at }));
        }
        let text = fields.iter().fold(at.text.clone(), |text, field| text + "." + field);
        what = match what {
            What::Field(mut first) => {
                first.append(&mut fields);
                What::Field(first)
            }
            What::Variable(name, _) => What::Variable(name, fields),
            What::Bool(_) | What::Int(_) | What::Float(_) | What::Text(_) | What::Nil | What::Dot => {
                return Err(format!("unexpected . after term {}", quote(&at.text)));
            }
            what => What::Chain(Box::new(Operand { what, at }), fields),
        };
        Ok(Some(Operand { what, at: Place { offset, text } }))
    }

    /// Splits the action that starts here into tokens, up to and with its closing braces.
    fn action(&mut self) -> Result<(), String> {
        self.items.clear();
        self.next = 0;
        loop {
            let rest = &self.text[self.offset..];
            if let Some((length, trims)) = right_delimiter(rest) {
                self.items.push(Item { token: Token::End, offset: self.offset, text: rest[..length].into() });
                self.offset += length;
                if trims {
                    self.trim();
                }
                return Ok(());
            }
            let (token, length) = match token(rest) {
                Ok(found) => found,
                Err(message) => {
                    self.items.push(Item { token: Token::Bad(message), offset: self.offset, text: String::new() });
                    return Ok(());
                }
            };
            self.items.push(Item { token, offset: self.offset, text: rest[..length].into() });
            self.offset += length;
        }
    }
}

fn build(word: &str, pipe: Pipe, body: Vec<Piece>, otherwise: Vec<Piece>) -> Piece {
    match word {
        "if" => Piece::If(pipe, body, otherwise),
        "with" => Piece::With(pipe, body, otherwise),
        _ => Piece::Range(pipe, body, otherwise),
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The length of `}}` or ` -}}` at the start of `text`, and whether it trims.
fn right_delimiter(text: &str) -> Option<(usize, bool)> {
    if text.starts_with("}}") {
        return Some((2, false));
    }
    (text.starts_with(is_space) && text[1..].starts_with("-}}")).then_some((4, true))
}

/// The token at the start of `text`, which is inside an action, and its length.
fn token(text: &str) -> Result<(Token, usize), String> {
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
        '{' | '}' => return Err(first.into()),
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
fn rune(text: &str) -> String {
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
    let float = lower.bytes().all(|b| b.is_ascii_digit() || b"e.+-".contains(&b)) && radix != 16;
    match lower.parse::<f64>() {
        Ok(value) if float => Ok((Token::Float(if negative { -value } else { value }), length)),
        _ => Err(bad()),
    }
}
