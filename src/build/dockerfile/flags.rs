//! The flags of an instruction: `--name` and `--name=value`, before its arguments.

use super::instruction::Word;
use super::lines::Line;
use super::source::Fault;

/// How a flag is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `--link`, `--link=false`
    Bool,
    /// Once, with a value.
    Text,
    /// As often as one likes.
    List,
}

/// The flags that were given, each one that the instruction knows.
#[derive(Debug, Default)]
pub struct Flags(Vec<(&'static str, Word)>);

impl Flags {
    /// Checks what stands before the arguments.
    pub fn read(line: &Line, given: &[(String, usize)], known: &[(&'static str, Form)]) -> Result<Flags, Fault> {
        let mut flags = Flags::default();
        for (text, at) in given {
            let fault = |message: String| Err(line.fault(*at, message));
            let (written, value) = match text.split_once('=') {
                Some((written, value)) => (written, Some(value)),
                None => (text.as_str(), None),
            };
            let name = written.strip_prefix("--").unwrap_or(written);
            let Some((name, form)) = known.iter().find(|(known, _)| *known == name) else {
                return fault(format!(
                    "unknown flag: {written}{}",
                    super::suggest(name, known.iter().map(|(name, _)| *name))
                ));
            };
            if *form != Form::List && flags.0.iter().any(|(known, _)| known == name) {
                return fault(format!("duplicate flag specified: {written}"));
            }
            let value = match (form, value) {
                (Form::Bool, None) => "true",
                (Form::Bool, Some(value)) => match value.to_ascii_lowercase().as_str() {
                    "true" => "true",
                    "false" => "false",
                    "" => return fault(format!("missing a value on flag: {written}")),
                    _ => return fault(format!("expecting boolean value for flag {written}, not: {value}")),
                },
                (_, Some(value)) => value,
                (_, None) => return fault(format!("missing a value on flag: {written}")),
            };
            flags.0.push((name, Word { text: value.to_owned(), place: line.place(*at) }));
        }
        Ok(flags)
    }

    /// The value of a flag that is given once.
    pub fn given(&self, name: &str) -> Option<Word> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, word)| word.clone())
    }

    /// The same, where an empty one counts as none.
    pub fn text(&self, name: &str) -> Option<Word> {
        self.given(name).filter(|word| !word.text.is_empty())
    }

    pub fn list(&self, name: &str) -> Vec<Word> {
        self.0.iter().filter(|(known, _)| *known == name).map(|(_, word)| word.clone()).collect()
    }

    pub fn bool(&self, name: &str) -> Option<bool> {
        self.text(name).map(|word| word.text == "true")
    }
}
