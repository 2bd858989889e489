//! What the fuzzers try of builds: a text is read as a Dockerfile, each of its words is expanded, and its lines are
//! patterns of what to ignore.

use super::dockerfile::instruction::{Instruction, Kind, Word};
use super::dockerfile::mount::Mount;
use super::dockerfile::words::Lex;
use super::dockerfile::{Dockerfile, trigger};
use super::ignore::Ignore;
use super::lint::Around;

pub fn dockerfile(bytes: &[u8]) {
    let ignore = Ignore::read(bytes).unwrap_or_default();
    let _ = (ignore.leaves_out("a/b.o"), ignore.may_keep_inside("a"));
    let Ok(file) = Dockerfile::parse("Dockerfile", bytes) else { return };
    let around = Around { ignore: &ignore, base: &|_| Some(Default::default()), needed: None, wish: None };
    let _ = super::lint::check(&file, &around).map(|(warnings, _)| super::lint::show(&file, &warnings));
    let lex = Lex::new(file.directives.escape);
    for stage in &file.stages {
        assert!(file.stage("0").is_some());
        for instruction in file.globals.iter().chain(&stage.instructions) {
            assert!(instruction.last >= instruction.place.line);
            if let Kind::OnBuild(text) = &instruction.kind
                && file.directives.escape == '\\'
            {
                let _ = trigger(text);
            }
            for word in words(instruction) {
                let _ = file.source.excerpt(word.place);
                let lookup = |name: &str| name.len().is_multiple_of(2).then(|| "a/b.c ".repeat(name.len()));
                if let Ok(expanded) = lex.expand(&word.text, &lookup) {
                    let _ = Mount::parse(&expanded.text, &mut |value| Ok(value.to_owned()));
                }
            }
        }
    }
}

fn words(instruction: &Instruction) -> Vec<&Word> {
    match &instruction.kind {
        Kind::Add(it) | Kind::Copy(it) => it.sources.iter().chain(&it.exclude).chain([&it.destination]).collect(),
        Kind::Arg(args) => args.iter().filter_map(|arg| arg.default.as_ref()).collect(),
        Kind::Env(pairs) | Kind::Label(pairs) => pairs.iter().flat_map(|pair| [&pair.name, &pair.value]).collect(),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::From(from) => vec![&from.image],
        Kind::Run(run) => run.mounts.iter().collect(),
        Kind::StopSignal(word) | Kind::User(word) | Kind::Workdir(word) => vec![word],
        _ => Vec::new(),
    }
}
