//! Go's text/template, in the forms that people use with `--format`, walked over JSON data.

use super::functions;
use super::lex;
use super::parse::{self, Command, Operand, Piece, Pipe, Place, What};
use super::value::{self, Found, Node, Shape, Value, Zero};
use anyhow::{Result, anyhow};
use std::borrow::Cow;
use std::ops::ControlFlow;

/// A template that was read without an error.
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

impl Template {
    /// Reads a template.
    ///
    /// Errors name the construct that is wrong or not supported, in Docker's words: `template parsing error:
    /// template: :1: function "x" not defined`.
    pub fn parse(text: &str) -> Result<Template> {
        Template::with(text, &[])
    }

    /// The same for one that may call some functions more.
    pub fn with(text: &str, more: &[&str]) -> Result<Template> {
        let pieces = parse::parse(text, more).map_err(|message| anyhow!("template parsing error: {message}"))?;
        Ok(Template { text: text.into(), pieces })
    }

    /// Prints a value as `inspect` does, with no line end added.
    ///
    /// Errors: `template parsing error: template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"`.
    pub fn execute(&self, value: &impl serde::Serialize) -> Result<String> {
        self.walk(&Node::of(value)?)
    }

    /// Prints the text of a JSON value, with its fields in their order.
    pub fn execute_json(&self, json: &[u8]) -> Result<String> {
        self.walk(&Node::read(json)?)
    }

    /// Prints a value whose Go types are settled.
    pub fn walk(&self, data: &Node) -> Result<String> {
        self.with_functions(data, false)
    }

    /// Prints a table's headers: all functions but `pad` leave their text alone.
    pub fn walk_header(&self, data: &Node) -> Result<String> {
        self.with_functions(data, true)
    }

    fn with_functions(&self, data: &Node, header: bool) -> Result<String> {
        let data = Cow::Borrowed(data);
        let mut walk = Walk { out: String::new(), variables: vec![("$".into(), data.clone())], header };
        match walk.pieces(&self.pieces, &data) {
            Ok(_) => Ok(walk.out),
            Err(Fault { at, message }) => {
                let before = &self.text[..at.offset.min(self.text.len())];
                let line = 1 + before.matches('\n').count();
                let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
                let text = at.text;
                Err(anyhow!(
                    "template parsing error: template: :{line}:{column}: executing \"\" at <{text}>: {message}"
                ))
            }
        }
    }
}

/// What went wrong, and where.
struct Fault {
    at: Place,
    message: String,
}

impl Fault {
    fn new(at: &Place, message: impl Into<String>) -> Fault {
        Fault { at: at.clone(), message: message.into() }
    }
}

/// What `{{break}}` and `{{continue}}` do to the list of pieces that they stand in.
enum Leave {
    Break,
    Continue,
}

type Flow = Result<ControlFlow<Leave>, Fault>;

struct Walk<'d> {
    out: String,
    variables: Vec<(String, Value<'d>)>,
    header: bool,
}

impl<'d> Walk<'d> {
    fn pieces(&mut self, pieces: &[Piece], dot: &Value<'d>) -> Flow {
        for piece in pieces {
            let scope = self.variables.len();
            let flow = match piece {
                Piece::Text(text) => {
                    self.out.push_str(text);
                    continue;
                }
                Piece::Print(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        value.print(&mut self.out, false);
                    }
                    continue;
                }
                Piece::If(pipe, body, otherwise) => {
                    let value = self.pipe(pipe, dot)?;
                    self.pieces(if value.truth() { body } else { otherwise }, dot)?
                }
                Piece::With(pipe, body, otherwise) => {
                    let value = self.pipe(pipe, dot)?;
                    if value.truth() { self.pieces(body, &value)? } else { self.pieces(otherwise, dot)? }
                }
                Piece::Range(pipe, body, otherwise) => self.range(pipe, body, otherwise, dot)?,
                Piece::Break => ControlFlow::Break(Leave::Break),
                Piece::Continue => ControlFlow::Break(Leave::Continue),
            };
            self.variables.truncate(scope);
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn range(&mut self, pipe: &Pipe, body: &[Piece], otherwise: &[Piece], dot: &Value<'d>) -> Flow {
        let over = self.commands(pipe, dot)?;
        // The variables get a value at every turn.
        let scope = self.variables.len();
        if pipe.declares {
            self.variables.extend(pipe.variables.iter().map(|name| (name.clone(), over.clone())));
        }
        let mut turns = 0_i128;
        let mut turn = |walk: &mut Self, key: Value<'d>, item: Value<'d>| -> Flow {
            turns += 1;
            match pipe.variables.as_slice() {
                [] => {}
                [name] => walk.assign(name, item.clone()),
                [first, second, ..] => {
                    walk.assign(first, key);
                    walk.assign(second, item.clone());
                }
            }
            let inner = walk.variables.len();
            let flow = walk.pieces(body, &item)?;
            walk.variables.truncate(inner);
            Ok(match flow {
                ControlFlow::Break(Leave::Break) => ControlFlow::Break(Leave::Break),
                _ => ControlFlow::Continue(()),
            })
        };
        match over.as_ref() {
            Node::List(items) => {
                for index in 0..items.len() {
                    let Some(item) = value::element(&over, index) else { break };
                    if turn(self, Cow::Owned(Node::Int(index as i128)), item)?.is_break() {
                        break;
                    }
                }
            }
            Node::Object(_, Shape::Map | Shape::Struct) => {
                let keys: Vec<String> = over.sorted().into_iter().map(|(key, _)| key.to_string()).collect();
                for key in keys {
                    let (Found::Value(item) | Found::Absent(item)) = value::field(&over, &key) else { break };
                    if turn(self, Cow::Owned(Node::Text(key)), item)?.is_break() {
                        break;
                    }
                }
            }
            Node::Int(count) if pipe.variables.len() > 1 => {
                let message = format!("can't use {count} to iterate over more than one variable");
                return Err(Fault::new(last_place(pipe), message));
            }
            Node::Int(count) => {
                for index in 0..*count {
                    let index: Value = Cow::Owned(Node::Int(index));
                    if turn(self, index.clone(), index)?.is_break() {
                        break;
                    }
                }
            }
            Node::NoValue | Node::Nil(_) => {}
            other => {
                return Err(Fault::new(last_place(pipe), format!("range can't iterate over {}", other.text())));
            }
        }
        self.variables.truncate(scope);
        if turns == 0 {
            return self.pieces(otherwise, dot);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn assign(&mut self, name: &str, value: Value<'d>) {
        if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *slot = value;
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value<'d>) -> Result<Value<'d>, Fault> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            if pipe.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                self.assign(name, value.clone());
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value<'d>) -> Result<Value<'d>, Fault> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        last.ok_or_else(|| Fault::new(&pipe.at, "empty command"))
    }

    /// One command; `piped` is what the command before it gave, and becomes the last argument.
    fn command(&mut self, command: &Command, dot: &Value<'d>, piped: Option<Value<'d>>) -> Result<Value<'d>, Fault> {
        let (first, arguments) =
            command.operands.split_first().ok_or_else(|| Fault::new(&command.at, "empty command"))?;
        match &first.what {
            What::Function(name) => return self.call(name, command, first, arguments, dot, piped),
            What::Field(names) if !arguments.is_empty() || piped.is_some() => {
                return self.method(dot.clone(), names, first, arguments, dot, piped);
            }
            What::Variable(name, names) if !names.is_empty() && (!arguments.is_empty() || piped.is_some()) => {
                let of = self.variable(name, &first.at)?;
                return self.method(of, names, first, arguments, dot, piped);
            }
            What::Nil => return Err(Fault::new(&first.at, "nil is not a command")),
            _ => {}
        }
        if !arguments.is_empty() || piped.is_some() {
            return Err(Fault::new(&first.at, format!("can't give argument to non-function {}", first.at.text)));
        }
        self.operand(first, dot)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value<'d>) -> Result<Value<'d>, Fault> {
        Ok(match &operand.what {
            What::Dot => dot.clone(),
            What::Nil => Cow::Owned(Node::Nil(Zero::Untyped)),
            What::Bool(value) => Cow::Owned(Node::Bool(*value)),
            What::Int(value) => Cow::Owned(Node::Int(*value)),
            What::Float(value) => Cow::Owned(Node::Float(*value)),
            What::Text(text) => Cow::Owned(Node::Text(text.clone())),
            What::Field(names) => fields(dot.clone(), names, &operand.at)?,
            What::Variable(name, names) => fields(self.variable(name, &operand.at)?, names, &operand.at)?,
            What::Function(name) => {
                let empty = Command { operands: Vec::new(), at: operand.at.clone() };
                self.call(name, &empty, operand, &[], dot, None)?
            }
            What::Pipe(pipe) => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                self.variables.truncate(scope);
                value
            }
            What::Chain(of, names) => {
                let of = self.operand(of, dot)?;
                fields(of, names, &operand.at)?
            }
        })
    }

    fn variable(&self, name: &str, at: &Place) -> Result<Value<'d>, Fault> {
        match self.variables.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(Fault::new(at, format!("undefined variable: {name}"))),
        }
    }

    /// A field with arguments: a row's method, as `.Label "x"`; everything else is no method.
    fn method(
        &mut self,
        of: Value<'d>,
        names: &[String],
        operand: &Operand,
        arguments: &[Operand],
        dot: &Value<'d>,
        piped: Option<Value<'d>>,
    ) -> Result<Value<'d>, Fault> {
        let at = &operand.at;
        let Some((name, parents)) = names.split_last() else { return Err(Fault::new(at, "empty field")) };
        let of = fields(of, parents, at)?;
        let map = match (of.as_ref(), value::field(&of, name)) {
            (Node::Object(_, Shape::Row(_)), Found::Value(map)) if map.is_method() => map,
            (_, Found::Value(map)) if self.header && map.is_method() => map,
            (_, Found::Nothing) => return fields(of, std::slice::from_ref(name), at),
            _ => return Err(Fault::new(at, format!("{name} is not a method but has arguments"))),
        };
        let mut given = self.arguments(arguments, dot)?;
        given.extend(piped);
        match given.as_slice() {
            [key] => match key.as_ref() {
                Node::Text(key) if self.header => Ok(Cow::Owned(Node::Text(label_header(key)))),
                Node::Text(key) => Ok(match value::field(&map, key) {
                    Found::Value(found) if *found != Node::NoValue => found,
                    _ => Cow::Owned(Node::Text(String::new())),
                }),
                other => {
                    Err(Fault::new(at, format!("wrong type for value; expected string; got {}", other.type_name())))
                }
            },
            given => Err(Fault::new(at, format!("wrong number of args for {name}: want 1 got {}", given.len()))),
        }
    }

    fn arguments(&mut self, operands: &[Operand], dot: &Value<'d>) -> Result<Vec<Value<'d>>, Fault> {
        operands.iter().map(|operand| self.operand(operand, dot)).collect()
    }

    fn call(
        &mut self,
        name: &str,
        command: &Command,
        function: &Operand,
        operands: &[Operand],
        dot: &Value<'d>,
        piped: Option<Value<'d>>,
    ) -> Result<Value<'d>, Fault> {
        let count = operands.len() + usize::from(piped.is_some());
        if let Some(message) = functions::wrong_count(name, count) {
            return Err(Fault::new(&function.at, message));
        }
        if name == "and" || name == "or" {
            // The first argument that decides is the last one looked at.
            let mut last = None;
            for operand in operands {
                let value = self.operand(operand, dot)?;
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return piped.or(last).ok_or_else(|| Fault::new(&function.at, "empty command"));
        }
        let mut arguments = self.arguments(operands, dot)?;
        arguments.extend(piped);
        if self.header && functions::HEADERS_KEEP.contains(&name) && !arguments.is_empty() {
            return Ok(arguments.swap_remove(0));
        }
        let types: Vec<_> = arguments.iter().map(|argument| argument.type_name()).collect();
        functions::call(name, arguments).map_err(|fault| match fault {
            functions::Fault::Argument(index, expected) => {
                let got = types.get(index).copied().unwrap_or_default();
                match operands.get(index) {
                    Some(Operand { what: What::Int(_) | What::Float(_) | What::Bool(_) | What::Text(_), at }) => {
                        Fault::new(at, format!("expected {expected}; found {}", at.text))
                    }
                    operand => {
                        let at = operand.map_or(&command.at, |operand| &operand.at);
                        Fault::new(at, format!("wrong type for value; expected {expected}; got {got}"))
                    }
                }
            }
            functions::Fault::Call(message) => Fault::new(&command.at, format!("error calling {name}: {message}")),
        })
    }
}

/// Where Go says that the value of a pipeline is.
fn last_place(pipe: &Pipe) -> &Place {
    pipe.commands.last().and_then(|command| command.operands.first()).map_or(&pipe.at, |operand| &operand.at)
}

/// Follows fields down from a value.
fn fields<'d>(of: Value<'d>, names: &[String], at: &Place) -> Result<Value<'d>, Fault> {
    let mut value = of;
    for (index, name) in names.iter().enumerate() {
        let key = lex::quote(name);
        value = match (value.as_ref(), value::field(&value, name)) {
            (Node::Object(_, Shape::Row(_)), Found::Value(found)) if found.is_method() => {
                return Err(Fault::new(at, format!("wrong number of args for {name}: want 1 got 0")));
            }
            (_, Found::Value(found)) => found,
            (_, Found::Absent(found)) if index + 1 == names.len() => found,
            (_, Found::Absent(_)) => return Err(Fault::new(at, format!("map has no entry for key {key}"))),
            (Node::Object(_, Shape::Struct), Found::Nothing) => {
                return Err(Fault::new(at, format!("map has no entry for key {key}")));
            }
            // Below an entry that a map does not have, there is nothing either.
            (Node::NoValue, Found::Nothing) => Cow::Owned(Node::NoValue),
            (Node::Nil(_), Found::Nothing) => {
                return Err(Fault::new(at, format!("nil data; no entry for key {key}")));
            }
            (Node::Object(_, Shape::Row(row)), Found::Nothing) => {
                return Err(Fault::new(at, format!("can't evaluate field {name} in type {row}")));
            }
            (_, Found::Nothing) => {
                return Err(Fault::new(at, format!("can't evaluate field {name} in type interface {{}}")));
            }
        };
    }
    Ok(value)
}

/// The header of a column made by `.Label "com.example.some-thing"`: `some thing`.
fn label_header(key: &str) -> String {
    key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")
}

#[cfg(test)]
mod tests;
