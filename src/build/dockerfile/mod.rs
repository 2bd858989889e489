//! The language of Dockerfiles: text → stages of instructions. Nothing here touches a file or the kernel.
//!
//! ```text
//! text ─lines→ logical lines ─parse→ instructions ─Dockerfile::parse→ stages
//!                                    words ─words::Lex→ values, when an instruction is carried out
//! ```

pub mod device;
mod flags;
pub mod instruction;
pub mod lines;
pub mod mount;
mod parse;
mod pattern;
mod source;
#[cfg(test)]
mod tests;
pub mod words;

pub use lines::Directives;
pub use source::{Fault, Place, Source};

use crate::api::Refusal;
use anyhow::{Result, bail};
use instruction::{From, Instruction, Kind};

/// A file is at most so long, and an instruction of it.
pub const LARGEST: usize = 4 << 20;
/// Far more than anybody writes; what is quadratic in them stays small.
const MOST_STAGES: usize = 1000;

/// A Dockerfile that could be read.
#[derive(Debug)]
pub struct Dockerfile {
    pub source: Source,
    pub directives: Directives,
    /// The `ARG`s before the first stage.
    pub globals: Vec<Instruction>,
    pub stages: Vec<Stage>,
}

#[derive(Debug)]
pub struct Stage {
    /// The `FROM` itself.
    pub instruction: Instruction,
    pub from: From,
    pub instructions: Vec<Instruction>,
}

impl Dockerfile {
    /// Reads a file; `name` is for errors, which are 400 and say where.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Dockerfile> {
        if bytes.len() > LARGEST {
            bail!(Refusal::BadParameter(format!("{name} is larger than {LARGEST} bytes")));
        }
        let text = String::from_utf8_lossy(bytes);
        if text.trim_start_matches('\u{feff}').is_empty() {
            bail!(Refusal::BadParameter(format!("the Dockerfile ({name}) cannot be empty")));
        }
        let source = Source::new(name, &text);
        match read(&text) {
            Ok((directives, globals, stages)) => {
                let file = Dockerfile { source, directives, globals, stages };
                match file.damaged(bytes) {
                    Some(place) => Err(file.source.parse_error(&Fault::new(place, "it is not UTF-8"))),
                    None => Ok(file),
                }
            }
            Err(fault) => Err(source.parse_error(&fault)),
        }
    }

    /// The first line of an instruction that is no text: it would be built with other bytes. Comments may be anything.
    fn damaged(&self, bytes: &[u8]) -> Option<Place> {
        let stages =
            self.stages.iter().flat_map(|stage| std::iter::once(&stage.instruction).chain(&stage.instructions));
        let all: Vec<&Instruction> = self.globals.iter().chain(stages).collect();
        let mut lines =
            bytes.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| std::str::from_utf8(line).is_err());
        let line = lines.find(|(_, line)| all.iter().any(|it| (it.place.line..=it.last).contains(line)))?.1;
        Some(Place { line, column: 1 })
    }

    /// The stage of a name, or of a number counted from 0.
    pub fn stage(&self, name: &str) -> Option<usize> {
        let by_name =
            self.stages.iter().rposition(|s| s.from.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        by_name.or_else(|| name.parse().ok().filter(|at| *at < self.stages.len()))
    }
}

impl Dockerfile {
    /// The names of images that it takes from, as far as they can be told from its text and the arguments that are given.
    pub fn images(&self, given: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
        let lex = words::Lex::new(self.directives.escape);
        let mut known: Vec<(String, String)> = Vec::new();
        for instruction in &self.globals {
            let Kind::Arg(args) = &instruction.kind else { continue };
            for arg in args {
                let lookup = |name: &str| known.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                let default = arg.default.as_ref().and_then(|word| Some(lex.expand(&word.text, &lookup).ok()?.text));
                if let Some(value) = given(&arg.name).or(default) {
                    known.retain(|(name, _)| *name != arg.name);
                    known.push((arg.name.clone(), value));
                }
            }
        }
        let lookup = |name: &str| known.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let mut names = Vec::new();
        for stage in &self.stages {
            names.extend(lex.expand(&stage.from.image.text, &lookup).ok().map(|it| it.text));
            names.extend(stage.instructions.iter().flat_map(Instruction::sources));
        }
        names.retain(|name| self.stage(name).is_none() && name != "scratch");
        names
    }
}

type Parts = (Directives, Vec<Instruction>, Vec<Stage>);

fn read(text: &str) -> Result<Parts, Fault> {
    let (directives, lines) = lines::read(text)?;
    let (mut globals, mut stages) = (Vec::new(), Vec::<Stage>::new());
    let end = Place { line: text.lines().count().max(1), column: 1 };
    if lines.is_empty() {
        return Err(Fault::new(end, "file with no instructions"));
    }
    for line in &lines {
        let instruction = parse::instruction(line, directives.escape)?;
        match (&instruction.kind, stages.last_mut()) {
            (Kind::From(from), _) => {
                if stages.len() == MOST_STAGES {
                    return Err(Fault::new(instruction.place, format!("there are more than {MOST_STAGES} stages")));
                }
                stages.push(Stage { from: from.clone(), instruction, instructions: Vec::new() });
            }
            (_, Some(stage)) => stage.instructions.push(instruction),
            (Kind::Arg(_), None) => globals.push(instruction),
            (_, None) => return Err(Fault::new(instruction.place, "no build stage in current context")),
        }
    }
    if stages.is_empty() {
        return Err(Fault::new(end, "dockerfile contains no stages to build"));
    }
    Ok((directives, globals, stages))
}

/// Reads the trigger that an image brought.
pub fn trigger(text: &str) -> Result<Instruction> {
    if text.len() > LARGEST {
        bail!("an ONBUILD trigger of the base image is larger than {LARGEST} bytes");
    }
    let read = lines::read(text).and_then(|(directives, lines)| match lines.as_slice() {
        [line] => parse::instruction(line, directives.escape),
        _ => Err(Fault::new(Place { line: 1, column: 1 }, "onbuild trigger should be a single expression")),
    });
    let instruction = match read {
        Ok(instruction) => instruction,
        Err(fault) => bail!("the ONBUILD trigger {text:?} of the base image: {fault}"),
    };
    match instruction.kind {
        Kind::From(_) | Kind::Maintainer(_) | Kind::OnBuild(_) => {
            bail!("{} isn't allowed as an ONBUILD trigger", instruction.keyword.to_ascii_uppercase())
        }
        _ => Ok(instruction),
    }
}

/// Reads instructions that change a config, of which only these are known.
pub fn changes(text: &str, known: &[&str]) -> Result<Vec<Instruction>, Fault> {
    let (directives, lines) = lines::read(text)?;
    let read = |line: &lines::Line| {
        let keyword = line.text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if !known.contains(&keyword.as_str()) {
            let message = format!("{keyword} is not a valid change command");
            return Err(Fault::new(line.place(0), message));
        }
        parse::instruction(line, directives.escape)
    };
    lines.iter().map(read).collect()
}

/// ` (did you mean X?)`, where something known is close to what was written.
pub fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    if written.chars().count() > 64 {
        return String::new();
    }
    let lower = written.to_ascii_lowercase();
    let near = known.into_iter().map(|known| (distance(&lower, &known.to_ascii_lowercase()), known));
    match near.filter(|(distance, _)| *distance < 3).min_by_key(|(distance, _)| *distance) {
        Some((distance, known)) if distance > 0 && known.chars().count() > distance => {
            format!(" (did you mean {known}?)")
        }
        _ => String::new(),
    }
}

/// How many characters must be put in, left out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, d) in b.iter().enumerate() {
            let change = before + usize::from(c != *d);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
