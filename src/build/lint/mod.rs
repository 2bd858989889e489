//! `build --check`: what can be said against a Dockerfile that builds all the same, under the names that people know.

use super::builder::PROXIES;
use super::dockerfile::instruction::{Command, Instruction, Kind, Pair, Transfer, Word};
use super::dockerfile::words::Lex;
use super::dockerfile::{Dockerfile, Place, suggest};
use super::git::Address;
use super::ignore::{self, Ignore};
use crate::order;
use anyhow::{Result, bail};
use serde_json::json;
use std::collections::BTreeSet;

/// One thing that is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    pub rule: &'static str,
    pub message: String,
    pub place: Place,
}

/// What the directive `check`, or the argument of that kind, asks for: `skip=A,B;error=true;experimental=C`.
#[derive(Debug, Default)]
struct Wish {
    skip: Vec<String>,
    experimental: Vec<String>,
    error: bool,
}

/// What is known besides the text of the file.
pub struct Around<'a> {
    /// What the context has not.
    pub ignore: &'a Ignore,
    /// The variables that an image sets, if they can be known.
    pub env: &'a dyn Fn(&str) -> Option<Vec<String>>,
    /// `BUILDKIT_DOCKERFILE_CHECK`, which goes before the directive.
    pub wish: Option<&'a str>,
}

/// The argument that says what is checked.
pub const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Only where it is asked for.
const EXPERIMENTAL: &str = "InvalidDefinitionDescription";

const RULES: [&str; 21] = [
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidDefaultArgInFrom",
    EXPERIMENTAL,
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "WorkdirRelativePath",
];

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
        for part in text.unwrap_or_default().split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("skip", rules)) => wish.skip = list(rules),
                Some(("error", on)) => wish.error = on.trim().eq_ignore_ascii_case("true"),
                Some(("experimental", rules)) => wish.experimental = list(rules),
                _ => bail!("the directive check has an unknown part {part:?}"),
            }
        }
        Ok(wish)
    }

    fn skips(&self, rule: &str) -> bool {
        let among = |rules: &[String]| rules.iter().any(|it| it == "all" || it.eq_ignore_ascii_case(rule));
        if rule == EXPERIMENTAL { !among(&self.experimental) } else { among(&self.skip) }
    }

    /// Whether what stands above an instruction says that a rule is not for it.
    fn skipped_at(instruction: &Instruction, rule: &str) -> bool {
        instruction.comments.iter().any(|comment| {
            let (name, value) = comment.split_once('=').unwrap_or((comment, ""));
            let value = value.trim().split(' ').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("check")
                && rule != EXPERIMENTAL
                && Wish::read(Some(value)).is_ok_and(|wish| wish.skips(rule))
        })
    }
}

fn list(rules: &str) -> Vec<String> {
    rules.split(',').map(|rule| rule.trim().to_owned()).collect()
}

/// All that is to be said, in the order of the file; and whether it is an error that there is any.
pub fn check(file: &Dockerfile, around: &Around) -> Result<(Vec<Warning>, bool)> {
    let wish = Wish::read(around.wish.or(file.directives.check.as_deref()))?;
    let mut found = Found(Vec::new());
    casing(file, &mut found);
    stages(file, &mut found);
    described(file, &mut found);
    // What each stage has set and declared at its end, if that can be known: stages that are based on it have it too.
    let mut sets: Vec<Option<BTreeSet<String>>> = Vec::new();
    for stage in &file.stages {
        let base = &stage.from.image.text;
        let earlier = file.stages[..sets.len()]
            .iter()
            .rposition(|stage| stage.from.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(base)));
        let mut set = match earlier {
            Some(at) => sets[at].clone(),
            None if base == "scratch" => Some(BTreeSet::new()),
            None if base.contains('$') => None,
            None => (around.env)(base).map(order::set),
        };
        if let Some(set) = &mut set {
            set.insert("PATH".to_owned());
        }
        let (mut workdir, mut once) = (false, [None; 3]);
        for instruction in &stage.instructions {
            one(file, instruction, &mut found);
            copies(instruction, around.ignore, &mut found);
            let place = instruction.place;
            match &instruction.kind {
                Kind::Workdir(word) => {
                    if !workdir && !word.text.starts_with(['/', '$']) {
                        let message = format!(
                            "Relative workdir {:?} can have unexpected results if the base image changes",
                            word.text
                        );
                        found.say("WorkdirRelativePath", place, message);
                    }
                    workdir = true;
                }
                Kind::Cmd(_) => multiple(&mut once[0], "CMD", place, &mut found),
                Kind::Entrypoint(_) => multiple(&mut once[1], "ENTRYPOINT", place, &mut found),
                Kind::Healthcheck(_) => multiple(&mut once[2], "HEALTHCHECK", place, &mut found),
                _ => {}
            }
            // Where the base may have set anything, nothing is said of names.
            if let Some(set) = &mut set {
                undefined(file, instruction, set, &mut found);
                match &instruction.kind {
                    Kind::Arg(args) => set.extend(args.iter().map(|arg| arg.name.clone())),
                    Kind::Env(pairs) => set.extend(pairs.iter().map(|pair| pair.name.text.clone())),
                    _ => {}
                }
            }
        }
        sets.push(set);
    }
    let mut all = found.0;
    let at = |place: Place| instructions(file).find(|instruction| instruction.place == place);
    all.retain(|warning| {
        !wish.skips(warning.rule) && !at(warning.place).is_some_and(|it| Wish::skipped_at(it, warning.rule))
    });
    order::by_key(&mut all, |warning| (warning.place, RULES.iter().position(|rule| *rule == warning.rule)));
    Ok((all, wish.error))
}

struct Found(Vec<Warning>);

impl Found {
    fn say(&mut self, rule: &'static str, place: Place, message: impl Into<String>) {
        debug_assert!(RULES.contains(&rule));
        self.0.push(Warning { rule, message: message.into(), place });
    }
}

fn is_lower(text: &str) -> bool {
    !text.chars().any(char::is_uppercase)
}

fn is_upper(text: &str) -> bool {
    !text.chars().any(char::is_lowercase)
}

fn instructions(file: &Dockerfile) -> impl Iterator<Item = &Instruction> {
    let in_stages = file.stages.iter().flat_map(|stage| std::iter::once(&stage.instruction).chain(&stage.instructions));
    file.globals.iter().chain(in_stages)
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
        found.say(EXPERIMENTAL, instruction.place, message);
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
        let path = ignore::clean(&source.text);
        if ignore.leaves_out(&path) {
            let message = format!("Attempting to {name} file {path:?} that is excluded by .dockerignore");
            found.say("CopyIgnoredFile", instruction.place, message);
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
    let all: Vec<&Instruction> = instructions(file).collect();
    let lower = all.iter().filter(|instruction| is_lower(&instruction.keyword)).count();
    let majority = if lower * 2 > all.len() { "lowercase" } else { "uppercase" };
    for instruction in all {
        let fits = if majority == "lowercase" { is_lower } else { is_upper };
        if !fits(&instruction.keyword) {
            let message =
                format!("Command '{}' should match the case of the command majority ({majority})", instruction.keyword);
            found.say("ConsistentInstructionCasing", instruction.place, message);
        }
        if instruction.has_empty {
            let place = Place { line: instruction.last, column: 1 };
            found.say("NoEmptyContinuation", place, "Empty continuation line");
        }
    }
}

fn stages(file: &Dockerfile, found: &mut Found) {
    let globals: Vec<&str> = file
        .globals
        .iter()
        .filter_map(|instruction| if let Kind::Arg(args) = &instruction.kind { Some(args) } else { None })
        .flatten()
        .map(|arg| arg.name.as_str())
        .collect();
    let defaults = |name: &str| {
        let mut all =
            file.globals.iter().filter_map(|it| if let Kind::Arg(args) = &it.kind { Some(args) } else { None });
        all.find_map(|args| args.iter().find(|arg| arg.name == name)?.default.as_ref().map(|word| word.text.clone()))
    };
    let mut names = BTreeSet::new();
    for stage in &file.stages {
        let place = stage.instruction.place;
        if let [_, keyword, name] = stage.from.words.as_slice() {
            let from = &stage.instruction.keyword;
            if !is_lower(name) {
                found.say("StageNameCasing", place, format!("Stage name '{name}' should be lowercase"));
            }
            if is_lower(from) && !is_lower(keyword) || is_upper(from) && !is_upper(keyword) {
                found.say("FromAsCasing", place, format!("'{keyword}' and '{from}' keywords' casing do not match"));
            }
            let lower = name.to_ascii_lowercase();
            if matches!(lower.as_str(), "scratch" | "context") {
                let message = format!("Stage name should not use the same name as reserved stage {lower:?}");
                found.say("ReservedStageName", place, message);
            }
            if !names.insert(lower) {
                found.say(
                    "DuplicateStageName",
                    place,
                    format!("Duplicate stage name {name:?}, stage names should be unique"),
                );
            }
        }
        let lex = Lex::new(file.directives.escape);
        for word in std::iter::once(&stage.from.image).chain(&stage.from.platform) {
            let Ok(expanded) = lex.expand(&word.text, &|_| None) else { continue };
            for name in expanded.unmatched.iter().filter(|name| {
                !globals.contains(&name.as_str()) && !KNOWN.iter().chain(&PROXIES).any(|known| known == name)
            }) {
                let hint = suggest(name, globals.iter().copied());
                found.say("UndefinedArgInFrom", place, format!("FROM argument '{name}' is not declared{hint}"));
            }
        }
        let with_defaults = lex.expand(&stage.from.image.text, &|name| defaults(name));
        let valid =
            with_defaults.is_ok_and(|it| crate::oci::Reference::parse(&it.text).is_ok() || it.text == "scratch");
        if stage.from.image.text.contains('$') && !valid {
            let message =
                format!("Default value for ARG {} results in empty or invalid base image name", stage.from.image.text);
            found.say("InvalidDefaultArgInFrom", place, message);
        }
        if let Some(platform) = &stage.from.platform {
            match platform.text.as_str() {
                "$TARGETPLATFORM" | "${TARGETPLATFORM}" => {
                    let message = format!(
                        "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                        platform.text
                    );
                    found.say("RedundantTargetPlatform", place, message);
                }
                text if !text.contains('$') => {
                    let message = format!("FROM --platform flag should not use constant value {text:?}");
                    found.say("FromPlatformFlagConstDisallowed", place, message);
                }
                _ => {}
            }
        }
    }
}

fn multiple(before: &mut Option<Place>, name: &str, place: Place, found: &mut Found) {
    if let Some(before) = before.replace(place) {
        let message = format!(
            "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
        );
        found.say("MultipleInstructionsDisallowed", before, message);
    }
}

fn one(file: &Dockerfile, instruction: &Instruction, found: &mut Found) {
    let place = instruction.place;
    let has_shell = |kind: &Kind| matches!(kind, Kind::Shell(_));
    let shell = |command: &Command| {
        command.shell && !file.stages.iter().flat_map(|stage| &stage.instructions).any(|it| has_shell(&it.kind))
    };
    let old = |pairs: &[Pair]| pairs.iter().any(|pair| pair.old);
    match &instruction.kind {
        Kind::Maintainer(_) => {
            found.say("MaintainerDeprecated", place, "Maintainer instruction is deprecated in favor of using label");
        }
        Kind::Cmd(command) | Kind::Entrypoint(command) if shell(command) => {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                instruction.keyword.to_ascii_uppercase()
            );
            found.say("JSONArgsRecommended", place, message);
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            let name = instruction.keyword.to_ascii_uppercase();
            if old(pairs) {
                let message =
                    format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
                found.say("LegacyKeyValueFormat", place, message);
            }
            if name == "ENV" {
                secrets("ENV", pairs.iter().map(|pair| pair.name.text.as_str()), place, found);
            }
        }
        Kind::Arg(args) => secrets("ARG", args.iter().map(|arg| arg.name.as_str()), place, found),
        Kind::Expose(words) => {
            for word in words {
                let (ports, protocol) = word.text.split_once('/').unwrap_or((&word.text, ""));
                if protocol.chars().any(char::is_uppercase) {
                    let message = format!("Defined protocol '{}' in EXPOSE instruction should be lowercase", word.text);
                    found.say("ExposeProtoCasing", place, message);
                }
                if ports.contains(':') && !ports.contains('$') {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
                        word.text
                    );
                    found.say("ExposeInvalidFormat", place, message);
                }
            }
        }
        _ => {}
    }
}

/// Names that tell of what nobody should find in an image.
fn secrets<'a>(kind: &str, names: impl Iterator<Item = &'a str>, place: Place, found: &mut Found) {
    const WORDS: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    for name in names {
        let lower = name.to_ascii_lowercase();
        let mut parts = lower.split('_');
        let public = lower.split('_').any(|part| part == "public");
        if parts.any(|part| WORDS.contains(&part)) && !public {
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({kind} {name:?})");
            found.say("SecretsUsedInArgOrEnv", place, message);
        }
    }
}

fn undefined(file: &Dockerfile, instruction: &Instruction, known: &BTreeSet<String>, found: &mut Found) {
    let words: Vec<&Word> = match &instruction.kind {
        Kind::Add(it) | Kind::Copy(it) => it.sources.iter().chain([&it.destination]).collect(),
        Kind::Env(pairs) | Kind::Label(pairs) => pairs.iter().map(|pair| &pair.value).collect(),
        Kind::Arg(args) => args.iter().filter_map(|arg| arg.default.as_ref()).collect(),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::User(word) | Kind::Workdir(word) | Kind::StopSignal(word) => vec![word],
        _ => Vec::new(),
    };
    let lex = Lex::new(file.directives.escape);
    for word in words {
        // One with a default of its own is meant to be absent.
        if word.text.contains(":-") || word.text.contains(":+") {
            continue;
        }
        let Ok(expanded) = lex.expand(&word.text, &|_| None) else { continue };
        for name in expanded.unmatched.iter().filter(|name| !known.contains(*name)) {
            let hint = suggest(name, known.iter().map(String::as_str));
            let hint = hint.replace("did you mean ", "did you mean $");
            found.say("UndefinedVar", instruction.place, format!("Usage of undefined variable '${name}'{hint}"));
        }
    }
}

/// As programs read it: in the shape of BuildKit's.
pub fn json(warnings: &[Warning]) -> Result<String> {
    let one = |warning: &Warning| {
        let Place { line, column } = warning.place;
        let place = json!({ "line": line, "character": column.saturating_sub(1) });
        let location = json!({ "ranges": [{ "start": place, "end": place }] });
        json!({ "ruleName": warning.rule, "detail": warning.message, "location": location })
    };
    let all: Vec<_> = warnings.iter().map(one).collect();
    Ok(serde_json::to_string_pretty(&json!({ "warnings": all }))? + "\n")
}

/// As people read it.
pub fn show(file: &Dockerfile, warnings: &[Warning]) -> String {
    let mut text = match warnings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        let excerpt = file.source.excerpt(warning.place);
        text.push_str(&format!("\nWARNING: {}\n{}\n{excerpt}\n", warning.rule, warning.message));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_say() {
        let ignore = Ignore::read(b"**/left").unwrap();
        let env = |name: &str| (name == "known").then(|| vec!["here".to_owned()]);
        let around = Around { ignore: &ignore, env: &env, wish: None };
        for (text, expected) in [
            ("FROM a\nRUN x", vec![]),
            ("FROM a\nrun x\nRUN y", vec!["ConsistentInstructionCasing"]),
            ("FROM a AS x\nFROM b AS x", vec!["DuplicateStageName"]),
            ("FROM a AS scratch", vec!["ReservedStageName"]),
            ("FROM a AS Ab", vec!["StageNameCasing"]),
            ("FROM a as b", vec!["FromAsCasing"]),
            ("FROM a\nRUN x \\\n\n y", vec!["NoEmptyContinuation"]),
            ("FROM a\nCMD x", vec!["JSONArgsRecommended"]),
            ("FROM a\nSHELL [\"b\"]\nCMD x", vec![]),
            ("FROM a\nMAINTAINER x", vec!["MaintainerDeprecated"]),
            ("ARG x=a\nFROM $x", vec![]),
            ("FROM a$x", vec!["UndefinedArgInFrom"]),
            ("ARG x\nFROM a:$x", vec!["InvalidDefaultArgInFrom"]),
            ("FROM a\nWORKDIR x\nWORKDIR y", vec!["WorkdirRelativePath"]),
            ("FROM a\nWORKDIR /x\nWORKDIR y", vec![]),
            ("FROM scratch\nENV a=$b", vec!["UndefinedVar"]),
            ("FROM scratch\nARG b\nENV a=$b c=$PATH", vec![]),
            ("FROM scratch\nENV a=$TARGETARCH", vec!["UndefinedVar"]),
            ("FROM known\nENV a=$here b=$nowhere", vec!["UndefinedVar"]),
            ("FROM a\nENV a=$b", vec![]),
            ("FROM known AS x\nARG c\nENV e=1\nFROM X\nENV a=$e$here b=$c", vec![]),
            ("FROM known AS x\nARG c\nENV e=1\nFROM known\nENV a=$e$c", vec!["UndefinedVar", "UndefinedVar"]),
            ("FROM a\nCOPY x/left . \nADD left /", vec!["CopyIgnoredFile", "CopyIgnoredFile"]),
            ("FROM a\nCOPY y $left . \nCOPY --from=b left /\nADD https://h/left /", vec![]),
            (
                "# check=experimental=all\n\n# base is it\nFROM a AS base\n# other\nARG x\n# y, too\nARG y",
                vec![EXPERIMENTAL; 2],
            ),
            ("# check=experimental=InvalidDefinitionDescription\n# what\n\nARG x\n# x it is\nARG x y\nFROM a", vec![]),
            ("# what\nFROM a AS base", vec![]),
            ("FROM a\n# check=skip=JSONArgsRecommended told why\nCMD x\nENTRYPOINT y", vec!["JSONArgsRecommended"]),
            ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", vec!["MultipleInstructionsDisallowed"]),
            ("FROM a\nENV x y", vec!["LegacyKeyValueFormat"]),
            ("FROM --platform=$TARGETPLATFORM a", vec!["RedundantTargetPlatform"]),
            ("FROM --platform=linux/amd64 a", vec!["FromPlatformFlagConstDisallowed"]),
            ("FROM a\nARG DB_PASSWORD\nENV PUBLIC_KEY=1", vec!["SecretsUsedInArgOrEnv"]),
            ("FROM a\nEXPOSE 80/TCP 1:2", vec!["ExposeInvalidFormat", "ExposeProtoCasing"]),
            ("# check=skip=JSONArgsRecommended\nFROM a\nCMD x", vec![]),
            ("# check=skip=all\nFROM a as B\nCMD x", vec![]),
        ] {
            let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
            let (warnings, error) = check(&file, &around).unwrap();
            let rules: Vec<&str> = warnings.iter().map(|warning| warning.rule).collect();
            assert_eq!((rules, error), (expected, false), "{text}");
        }
        let file = Dockerfile::parse("Dockerfile", b"# check=error=true\nFROM a\nCMD x").unwrap();
        let (warnings, error) = check(&file, &around).unwrap();
        assert!(error);
        let skipped = check(&file, &Around { wish: Some("skip=all"), ..around }).unwrap();
        assert_eq!(skipped, (Vec::new(), false), "the argument goes before the directive");
        let text = show(&file, &warnings);
        assert!(
            text.starts_with("Check complete, 1 warning has been found!") && text.contains("Dockerfile:3:1: CMD x")
        );
        let file = Dockerfile::parse("Dockerfile", b"# check=what=1\nFROM a").unwrap();
        assert!(check(&file, &Around { ignore: &ignore, env: &env, wish: None }).is_err());
    }
}
