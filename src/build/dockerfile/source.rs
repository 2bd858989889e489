//! Where something stands in a Dockerfile, and how that is said.

use crate::api::Refusal;
use std::fmt;

/// A place in a text; both from 1. Columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Something is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub message: String,
}

impl Fault {
    pub fn new(place: Place, message: impl Into<String>) -> Fault {
        Fault { place, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A text with its name, for those who point into it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub name: String,
    lines: Vec<String>,
}

/// So much of a line is shown.
const SHOWN: usize = 160;

impl Source {
    pub fn new(name: &str, text: &str) -> Source {
        Source { name: name.to_owned(), lines: text.lines().map(str::to_owned).collect() }
    }

    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// An error in Docker's words, and below it the line with its place: `Dockerfile:3:5: RUM true`.
    pub fn parse_error(&self, fault: &Fault) -> anyhow::Error {
        let Fault { place, message } = fault;
        let text = format!("dockerfile parse error on line {}: {message}\n{}", place.line, self.excerpt(*place));
        Refusal::BadParameter(text).into()
    }

    /// An error that was found when the instruction was carried out.
    pub fn error(&self, place: Place, error: &anyhow::Error) -> anyhow::Error {
        let text = format!("{error:#}\n{}", self.excerpt(place));
        match error.downcast_ref::<Refusal>() {
            Some(Refusal::NotFound(_)) => Refusal::NotFound(text).into(),
            _ => anyhow::anyhow!(text),
        }
    }

    /// The name, line and column of a place, and the text of its line.
    pub fn excerpt(&self, place: Place) -> String {
        let text = place.line.checked_sub(1).and_then(|at| self.lines.get(at)).map_or("", |line| line.trim_end());
        let text = super::super::git::shown(text);
        let plain = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
        let shown: String = text.chars().take(SHOWN).map(plain).collect();
        let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
        format!("{}:{}:{}: {shown}{more}", self.name, place.line, place.column)
    }
}
