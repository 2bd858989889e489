//! The text of a Go template into a tree. Errors are the words after `template: :LINE: `, as Go's parser says them.

use super::lex::{Token, is_space, quote, right_delimiter, token};

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

#[derive(Debug)]
struct Item {
    token: Token,
    offset: usize,
    text: String,
}

/// Reads a template into its pieces. It may call the usual functions and those named here.
pub fn parse(text: &str, more: &[&str]) -> Result<Vec<Piece>, String> {
    let variables = vec!["$".into()];
    let mut parser = Parser { text, more, offset: 0, items: Vec::new(), next: 0, variables, loops: 0, depth: 0 };
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
    more: &'t [&'t str],
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
            Token::Close => "unexpected right paren".into(),
            Token::Bad(message) if message.len() == 1 => {
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
            Token::Name(name) if FUNCTIONS.iter().chain(self.more).any(|known| known == name) => {
                What::Function(name.clone())
            }
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
