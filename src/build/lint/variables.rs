//! What variables are set and declared at an instruction, as far as that can be told without building.

use crate::build::dockerfile::instruction::{Arg, Instruction, Kind, Word};
use crate::build::dockerfile::mount::Mount;
use crate::build::dockerfile::words::Lex;
use crate::build::dockerfile::{Dockerfile, suggest};
use crate::order::{Map, Set};

#[derive(Clone)]
pub struct Variables {
    lex: Lex,
    /// `None` where the base may have set anything: then nothing is said of names.
    set: Option<Map<String, String>>,
    /// Arguments, with a value or without.
    declared: Set<String>,
}

/// A name that nobody set, with ` (did you mean …?)`.
type Missing = (String, String);

impl Variables {
    /// At the start of a stage.
    pub fn new(escape: char, env: Option<Vec<(String, String)>>) -> Variables {
        let set = env.map(|env| {
            let mut set = Map::from_iter(env);
            set.entry("PATH".to_owned()).or_default();
            set
        });
        Variables { lex: Lex::new(escape), set, declared: Set::new() }
    }

    /// The arguments before the first stage with their own values; `None` where one cannot be told.
    pub fn defaults(file: &Dockerfile) -> Option<Map<String, String>> {
        let lex = Lex::new(file.directives.escape);
        let mut all = Map::new();
        for instruction in &file.globals {
            let Kind::Arg(args) = &instruction.kind else { continue };
            for arg in args {
                let Some(word) = &arg.default else { continue };
                let value = lex.expand(&word.text, &|name| all.get(name).cloned()).ok()?.text;
                all.insert(arg.name.clone(), value);
            }
        }
        Some(all)
    }

    /// A text with its variables, if they can be known.
    pub fn expand(&self, text: &str) -> Option<String> {
        match &self.set {
            None if text.contains('$') => None,
            set => {
                let set = |name: &str| set.as_ref()?.get(name).cloned();
                self.lex.expand(text, &set).ok().map(|it| it.text)
            }
        }
    }

    /// Goes on behind an instruction, and tells what it asks for that is not there.
    pub fn after(&mut self, instruction: &Instruction) -> Vec<Missing> {
        let mut missing = Vec::new();
        match &instruction.kind {
            Kind::Add(it) | Kind::Copy(it) => {
                let flags = [&it.chown, &it.chmod, &it.checksum].into_iter().flatten();
                self.words(flags.chain(&it.sources).chain([&it.destination]), &mut missing);
                let raw = Lex { no_quotes: true, ..Lex::new('\\') };
                it.heredocs.iter().filter(|it| it.expand).for_each(|it| self.text(raw, &it.text(), &mut missing));
            }
            Kind::Run(run) => {
                for mount in &run.mounts {
                    let mut look = |value: &str| {
                        self.text(self.lex, value, &mut missing);
                        Ok(self.expand(value).unwrap_or_else(|| value.to_owned()))
                    };
                    // What is wrong with it is for who builds it.
                    let _ = Mount::parse(&mount.text, &mut look);
                }
            }
            Kind::Label(pairs) => self.words(pairs.iter().flat_map(|it| [&it.name, &it.value]), &mut missing),
            Kind::Env(pairs) => {
                self.words(pairs.iter().flat_map(|it| [&it.name, &it.value]), &mut missing);
                for pair in pairs {
                    self.put(&pair.name.text, self.expand(&pair.value.text));
                }
            }
            Kind::Arg(args) => args.iter().for_each(|arg| self.declare(arg, &mut missing)),
            Kind::Volume(words) => self.words(words, &mut missing),
            Kind::User(word) | Kind::Workdir(word) | Kind::StopSignal(word) => self.words([word], &mut missing),
            _ => {}
        }
        missing
    }

    fn declare(&mut self, arg: &Arg, missing: &mut Vec<Missing>) {
        if let Some(word) = &arg.default {
            self.words([word], missing);
            self.put(&arg.name, self.expand(&word.text));
        }
        self.declared.insert(arg.name.clone());
    }

    fn put(&mut self, name: &str, value: Option<String>) {
        if let Some(set) = &mut self.set {
            set.insert(name.to_owned(), value.unwrap_or_default());
        }
    }

    fn words<'a>(&self, words: impl IntoIterator<Item = &'a Word>, missing: &mut Vec<Missing>) {
        words.into_iter().for_each(|word| self.text(self.lex, &word.text, missing));
    }

    fn text(&self, lex: Lex, text: &str, missing: &mut Vec<Missing>) {
        let Some(set) = &self.set else { return };
        let Ok(expanded) = lex.expand(text, &|name| set.get(name).cloned()) else { return };
        for name in expanded.unmatched.into_iter().filter(|name| !self.declared.contains(name)) {
            let hint = suggest(&name, set.keys().map(String::as_str)).replace("did you mean ", "did you mean $");
            missing.push((name, hint));
        }
    }
}
