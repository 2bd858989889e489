//! `build --check`: what can be said against a Dockerfile that builds all the same, under the names that people know.

mod rules;
#[cfg(test)]
mod tests;
mod told;
mod variables;

pub use told::{json, show, statuses};

use super::builder::PROXIES;
use super::dockerfile::instruction::{Command, From, Instruction, Kind, Pair, Transfer, Word};
use super::dockerfile::words::Lex;
use super::dockerfile::{Dockerfile, Place, Stage, suggest};
use super::git::Address;
use super::ignore::{self, Ignore};
use crate::oci::{Platform, Reference};
use crate::order;
use crate::order::Set;
use anyhow::{Result, bail};
use rules::{EXPERIMENTAL, RULES};
use variables::Variables;

/// One thing that is said, of lines up to the last one.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    pub rule: &'static str,
    pub message: String,
    pub place: Place,
    pub last: usize,
}

/// What the directive `check`, or the argument of that kind, asks for: `skip=A,B;error=true;experimental=C`.
#[derive(Debug, Default)]
struct Wish {
    skip: Vec<String>,
    experimental: Vec<String>,
    error: bool,
}

/// What an image brings.
#[derive(Clone, Debug, Default)]
pub struct Base {
    pub env: Vec<(String, String)>,
    /// It names a shell of its own.
    pub shell: bool,
}

/// What is known besides the text of the file.
pub struct Around<'a> {
    /// What the context has not.
    pub ignore: &'a Ignore,
    /// An image, if it can be known.
    pub base: &'a dyn Fn(&str) -> Option<Base>,
    /// The stages whose instructions count; `None` for all of them.
    pub needed: Option<&'a Set<usize>>,
    /// `BUILDKIT_DOCKERFILE_CHECK`, which goes before the directive.
    pub wish: Option<&'a str>,
}

/// The argument that says what is checked.
pub const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Names that `FROM` knows without being told, besides those of proxies.
const KNOWN: [&str; 12] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
    "SOURCE_DATE_EPOCH",
    "BUILDKIT_SYNTAX",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
];

impl Wish {
    fn read(text: Option<&str>) -> Result<Wish> {
        let mut wish = Wish::default();
        let text = text.unwrap_or_default().trim();
        for part in text.split(';').filter(|_| !text.is_empty()) {
            let Some((key, value)) = part.split_once('=') else { bail!("invalid check option {part:?}") };
            match (key.trim(), value.trim()) {
                ("skip", rules) => wish.skip = list(rules),
                ("experimental", rules) => wish.experimental = list(rules),
                ("error", on) => match crate::api::units::parse_bool(on) {
                    Some(on) => wish.error = on,
                    None => bail!("check option {part:?} is neither true nor false"),
                },
                (key, _) => bail!("invalid check option {key:?}"),
            }
        }
        Ok(wish)
    }

    fn skips(&self, rule: &str) -> bool {
        let among = |rules: &[String]| rules.iter().any(|it| it == "all" || it.eq_ignore_ascii_case(rule));
        if EXPERIMENTAL.contains(&rule) { !among(&self.experimental) } else { among(&self.skip) }
    }

    /// Whether what stands above an instruction says that a rule is not for it.
    fn skipped_at(instruction: &Instruction, rule: &str) -> bool {
        instruction.comments.iter().any(|comment| {
            let (name, value) = comment.split_once('=').unwrap_or((comment, ""));
            let value = value.trim().split(' ').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("check")
                && !EXPERIMENTAL.contains(&rule)
                && Wish::read(Some(value)).is_ok_and(|wish| wish.skips(rule))
        })
    }
}

fn list(rules: &str) -> Vec<String> {
    rules.split(',').map(|rule| rule.trim().to_owned()).collect()
}

/// What is known of a stage at some instruction of it. Stages that are based on it go on from its end.
#[derive(Clone)]
struct Known {
    variables: Variables,
    shell: bool,
    workdir: bool,
}

/// All that is to be said, in the order of the file; and whether it is an error that there is any.
pub fn check(file: &Dockerfile, around: &Around) -> Result<(Vec<Warning>, bool)> {
    let wish = Wish::read(around.wish.or(file.directives.check.as_deref()))?;
    let mut found = Found(Vec::new());
    casing(file, &mut found);
    stages(file, &mut found);
    described(file, &mut found);
    let mut ends: Vec<Known> = Vec::new();
    for instruction in in_stages(file).filter(|instruction| matches!(instruction.kind, Kind::Maintainer(_))) {
        let message = "Maintainer instruction is deprecated in favor of using label";
        found.say("MaintainerDeprecated", instruction, message);
    }
    for (at, stage) in file.stages.iter().enumerate() {
        let mut known = begun(file, stage, &ends, around);
        if around.needed.is_some_and(|needed| !needed.contains(&at)) {
            ends.push(known);
            continue;
        }
        let mut once = [None; 3];
        for instruction in &stage.instructions {
            one(instruction, known.shell, &mut found);
            copies(instruction, around.ignore, &mut found);
            match &instruction.kind {
                Kind::Workdir(word) => relative(instruction, word, &mut known, &mut found),
                Kind::Shell(_) => known.shell = true,
                Kind::Cmd(_) => multiple(&mut once[0], instruction, &mut found),
                Kind::Entrypoint(_) => multiple(&mut once[1], instruction, &mut found),
                Kind::Healthcheck(_) => multiple(&mut once[2], instruction, &mut found),
                _ => {}
            }
            for (name, hint) in known.variables.after(instruction) {
                found.say("UndefinedVar", instruction, format!("Usage of undefined variable '${name}'{hint}"));
            }
        }
        ends.push(known);
    }
    let mut all = found.0;
    let at = |place: Place| instructions(file).find(|instruction| instruction.place == place);
    all.retain(|warning| {
        !wish.skips(warning.rule) && !at(warning.place).is_some_and(|it| Wish::skipped_at(it, warning.rule))
    });
    order::by_key(&mut all, |warning| (warning.place, RULES.iter().position(|(rule, _)| *rule == warning.rule)));
    Ok((all, wish.error))
}

/// What a stage begins with.
fn begun(file: &Dockerfile, stage: &Stage, ends: &[Known], around: &Around) -> Known {
    let base = &stage.from.image.text;
    let earlier = file.stages[..ends.len()]
        .iter()
        .rposition(|stage| stage.from.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(base)));
    if let Some(at) = earlier {
        return ends[at].clone();
    }
    let image = match base.as_str() {
        "scratch" => Some(Base::default()),
        name if name.contains('$') => None,
        name => (around.base)(name),
    };
    let shell = image.as_ref().is_some_and(|image| image.shell);
    let variables = Variables::new(file.directives.escape, image.map(|image| image.env));
    Known { variables, shell, workdir: false }
}

struct Found(Vec<Warning>);

impl Found {
    fn say(&mut self, rule: &'static str, of: &Instruction, message: impl Into<String>) {
        self.say_at(rule, of.place, of.last, message);
    }

    fn say_at(&mut self, rule: &'static str, place: Place, last: usize, message: impl Into<String>) {
        debug_assert!(RULES.iter().any(|(known, _)| *known == rule));
        self.0.push(Warning { rule, message: message.into(), place, last });
    }
}

fn is_lower(text: &str) -> bool {
    !text.chars().any(char::is_uppercase)
}

fn is_upper(text: &str) -> bool {
    !text.chars().any(char::is_lowercase)
}

fn instructions(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    file.globals.iter().chain(in_stages(file))
}

fn in_stages(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    file.stages.iter().flat_map(|stage| std::iter::once(&stage.instruction).chain(&stage.instructions))
}

/// What stands right above a stage or an argument tells of it, and begins with its name.
fn described(file: &Dockerfile, found: &mut Found) {
    for instruction in instructions(file) {
        let (kind, names): (&str, Vec<&str>) = match &instruction.kind {
            Kind::Arg(args) => ("ARG", args.iter().map(|arg| arg.name.as_str()).collect()),
            Kind::From(from) => ("FROM", from.name.as_deref().into_iter().collect()),
            _ => continue,
        };
        let (Some(comment), Some(name)) = (instruction.comments.last(), names.first()) else { continue };
        if names.contains(&comment.split(' ').next().unwrap_or_default()) {
            continue;
        }
        let name = if names.len() > 1 { "<arg_key>" } else { name };
        let message = format!("Comment for {kind} should follow the format: `# {name} <description>`");
        found.say("InvalidDefinitionDescription", instruction, message);
    }
}

/// Sources that the context has not.
fn copies(instruction: &Instruction, ignore: &Ignore, found: &mut Found) {
    let (name, transfer) = match &instruction.kind {
        Kind::Copy(transfer) if transfer.from.is_none() => ("Copy", transfer),
        Kind::Add(transfer) => ("Add", transfer),
        _ => return,
    };
    // What is kept after all cannot be told from the list alone.
    if ignore.keeps() {
        return;
    }
    for source in local(transfer) {
        if ignore.leaves_out(&ignore::clean(&source.text)) {
            let message = format!("Attempting to {name} file {:?} that is excluded by .dockerignore", source.text);
            found.say("CopyIgnoredFile", instruction, message);
        }
    }
}

/// Sources that are paths, and known.
fn local(transfer: &Transfer) -> impl Iterator<Item = &Word> {
    transfer.sources.iter().filter(|word| {
        let elsewhere = word.text.contains("://") || !matches!(Address::parse(&word.text, false), Ok(None));
        !elsewhere && !word.text.contains('$')
    })
}

/// All keywords in one case: that of most.
fn casing(file: &Dockerfile, found: &mut Found) {
    let lower = in_stages(file).filter(|it| is_lower(&it.keyword)).count();
    let upper = in_stages(file).filter(|it| !is_lower(&it.keyword) && is_upper(&it.keyword)).count();
    let (majority, fits): (_, fn(&str) -> bool) =
        if lower > upper { ("lowercase", is_lower) } else { ("uppercase", is_upper) };
    for instruction in in_stages(file).filter(|it| !fits(&it.keyword)) {
        let message =
            format!("Command '{}' should match the case of the command majority ({majority})", instruction.keyword);
        found.say("ConsistentInstructionCasing", instruction, message);
    }
    for instruction in instructions(file).filter(|instruction| instruction.has_empty) {
        let place = Place { line: instruction.last, column: 1 };
        found.say_at("NoEmptyContinuation", place, place.line, "Empty continuation line");
    }
}

fn stages(file: &Dockerfile, found: &mut Found) {
    let globals =
        || file.globals.iter().filter_map(|it| if let Kind::Arg(args) = &it.kind { Some(args) } else { None });
    let declared: Vec<&str> = globals().flatten().map(|arg| arg.name.as_str()).collect();
    let mut names = Set::new();
    let lex = Lex::new(file.directives.escape);
    for (at, stage) in file.stages.iter().enumerate() {
        let instruction = &stage.instruction;
        if let [_, keyword, name] = stage.from.words.as_slice() {
            named(instruction, keyword, name, &mut names, found);
        }
        for word in std::iter::once(&stage.from.image).chain(&stage.from.platform) {
            let Ok(expanded) = lex.expand(&word.text, &|_| None) else { continue };
            for name in expanded.unmatched.iter().filter(|name| {
                !declared.contains(&name.as_str()) && !KNOWN.iter().chain(&PROXIES).any(|known| known == name)
            }) {
                let hint = suggest(name, declared.iter().chain(&KNOWN).copied());
                found.say("UndefinedArgInFrom", instruction, format!("FROM argument '{name}' is not declared{hint}"));
            }
        }
        if let Some(defaults) = Variables::defaults(file)
            && let Ok(name) = lex.expand(&stage.from.image.text, &|name| defaults.get(name).cloned())
            && !earlier(file, at, &name.text)
            && name.text != "scratch"
            && Reference::parse(&name.text).is_err()
        {
            let message =
                format!("Default value for ARG {} results in empty or invalid base image name", stage.from.image.text);
            found.say("InvalidDefaultArgInFrom", instruction, message);
        }
        platform(instruction, &stage.from, lex, found);
    }
}

/// Whether one of the first stages has this name.
fn earlier(file: &Dockerfile, count: usize, name: &str) -> bool {
    file.stages[..count].iter().any(|it| it.from.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)))
}

/// The name of a stage.
fn named(instruction: &Instruction, keyword: &str, name: &str, names: &mut Set<String>, found: &mut Found) {
    let from = &instruction.keyword;
    if !is_lower(name) {
        found.say("StageNameCasing", instruction, format!("Stage name '{name}' should be lowercase"));
    }
    if is_lower(from) && !is_lower(keyword) || is_upper(from) && !is_upper(keyword) {
        found.say("FromAsCasing", instruction, format!("'{keyword}' and '{from}' keywords' casing do not match"));
    }
    let lower = name.to_ascii_lowercase();
    if matches!(lower.as_str(), "scratch" | "context") {
        let message = format!("Stage name should not use the same name as reserved stage {lower:?}");
        found.say("ReservedStageName", instruction, message);
    }
    let message = format!("Duplicate stage name {lower:?}, stage names should be unique");
    if !names.insert(lower) {
        found.say("DuplicateStageName", instruction, message);
    }
}

/// The platform that a stage asks for.
fn platform(instruction: &Instruction, from: &From, lex: Lex, found: &mut Found) {
    let Some(word) = &from.platform else { return };
    let Ok(expanded) = lex.expand(&word.text, &|name| (name == "TARGETPLATFORM").then(|| "\0".to_owned())) else {
        return;
    };
    if expanded.text == "\0" && expanded.unmatched.is_empty() {
        let text = &word.text;
        let message =
            format!("Setting platform to predefined {text} in FROM is redundant as this is the default behavior");
        found.say("RedundantTargetPlatform", instruction, message);
    }
    if !expanded.matched.is_empty() || !expanded.unmatched.is_empty() {
        return;
    }
    // A stage that is called for its platform means it.
    let called = |part: &str| from.name.as_deref().unwrap_or_default().contains(part);
    if Platform::parse(&expanded.text).is_ok_and(|it| !called(&it.os) && !called(&it.architecture)) {
        let message = format!("FROM --platform flag should not use constant value {:?}", expanded.text);
        found.say("FromPlatformFlagConstDisallowed", instruction, message);
    }
}

/// The first working directory that is set, which depends on the base if it is a relative path.
fn relative(instruction: &Instruction, word: &Word, known: &mut Known, found: &mut Found) {
    let path = known.variables.expand(&word.text);
    if let Some(path) = path.filter(|path| !known.workdir && !path.starts_with('/')) {
        let message = format!("Relative workdir {path:?} can have unexpected results if the base image changes");
        found.say("WorkdirRelativePath", instruction, message);
    }
    known.workdir = true;
}

fn multiple(before: &mut Option<(Place, usize)>, instruction: &Instruction, found: &mut Found) {
    if let Some((place, last)) = before.replace((instruction.place, instruction.last)) {
        let name = &instruction.keyword;
        let message = format!(
            "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
        );
        found.say_at("MultipleInstructionsDisallowed", place, last, message);
    }
}

fn one(instruction: &Instruction, shell: bool, found: &mut Found) {
    let name = &instruction.keyword;
    match &instruction.kind {
        Kind::Cmd(Command { shell: true, .. }) | Kind::Entrypoint(Command { shell: true, .. }) if !shell => {
            let message =
                format!("JSON arguments recommended for {name} to prevent unintended behavior related to OS signals");
            found.say("JSONArgsRecommended", instruction, message);
        }
        Kind::Env(pairs) => {
            old(instruction, pairs, found);
            secrets("ENV", pairs.iter().map(|pair| pair.name.text.as_str()), instruction, found);
        }
        Kind::Label(pairs) => old(instruction, pairs, found),
        Kind::Arg(args) => secrets("ARG", args.iter().map(|arg| arg.name.as_str()), instruction, found),
        Kind::Expose(words) => words.iter().for_each(|word| port(instruction, word, found)),
        _ => {}
    }
}

fn old(instruction: &Instruction, pairs: &[Pair], found: &mut Found) {
    if pairs.iter().any(|pair| pair.old) {
        let name = &instruction.keyword;
        let message = format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
        found.say("LegacyKeyValueFormat", instruction, message);
    }
}

fn port(instruction: &Instruction, word: &Word, found: &mut Found) {
    let text = &word.text;
    let (ports, protocol) = text.split_once('/').unwrap_or((text, ""));
    if protocol.chars().any(char::is_uppercase) {
        let message = format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
        found.say("ExposeProtoCasing", instruction, message);
    }
    if ports.contains(':') && !ports.contains('$') {
        let message =
            format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'");
        found.say("ExposeInvalidFormat", instruction, message);
    }
}

/// Names that tell of what nobody should find in an image.
fn secrets<'a>(kind: &str, names: impl Iterator<Item = &'a str>, instruction: &Instruction, found: &mut Found) {
    const WORDS: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    for name in names {
        let lower = name.to_ascii_lowercase();
        let mut parts = lower.split('_');
        let public = lower.split('_').any(|part| part == "public");
        if parts.any(|part| WORDS.contains(&part)) && !public {
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({kind} {name:?})");
            found.say("SecretsUsedInArgOrEnv", instruction, message);
        }
    }
}
