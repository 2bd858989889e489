//! `--call`: what a Dockerfile has to say for itself, without a build.

use crate::api::base64;
use crate::applets::format::table;
use crate::build::dockerfile::instruction::{Arg, Instruction, Kind};
use crate::build::dockerfile::mount::{Mount, MountKind};
use crate::build::dockerfile::words::Lex;
use crate::build::dockerfile::{Dockerfile, suggest};
use crate::order;
use crate::order::{Map, Set};
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

/// What is called, and whether it answers in JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    pub what: What,
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Check,
    Outline,
    Targets,
}

impl Call {
    /// `check`, `outline,format=json`; None is the build itself.
    pub fn parse(text: &str) -> Result<Option<Call>> {
        let mut parts = text.split(',');
        let what = match parts.next().unwrap_or_default() {
            "build" => None,
            "check" | "lint" => Some(What::Check),
            "outline" => Some(What::Outline),
            "targets" => Some(What::Targets),
            other => bail!("invalid value {other:?} for --call: it is build, check, outline or targets"),
        };
        let mut json = false;
        for part in parts {
            json = match part {
                "format=json" => true,
                "format=text" => false,
                other => bail!("invalid option {other:?} for --call: it is format=json or format=text"),
            };
        }
        Ok(what.map(|what| Call { what, json }))
    }
}

/// The lines of an instruction, in the shape of BuildKit's.
fn location(instruction: &Instruction) -> Value {
    let line = |line: usize| json!({ "start": { "line": line }, "end": { "line": line } });
    let ranges: Vec<Value> = (instruction.place.line..=instruction.last).map(line).collect();
    json!({ "ranges": ranges })
}

fn sources(file: &Dockerfile) -> [String; 1] {
    [base64::encode(file.source.text().as_bytes())]
}

#[derive(Debug, PartialEq, Serialize)]
struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    base: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    location: Value,
}

/// What stands above an instruction about a name, without the name.
fn description(instruction: &Instruction, name: &str) -> String {
    let about = |comment: &String| comment.strip_prefix(name)?.strip_prefix(' ').map(|rest| rest.trim().to_owned());
    instruction.comments.iter().find_map(about).unwrap_or_default()
}

/// The stages, of which the last one is built unless another is asked for.
pub fn targets(file: &Dockerfile, json: bool) -> Result<String> {
    let last = file.stages.len() - 1;
    let all: Vec<Target> = file
        .stages
        .iter()
        .enumerate()
        .map(|(at, stage)| {
            let name = stage.from.name.clone().unwrap_or_default();
            let description = if name.is_empty() { String::new() } else { description(&stage.instruction, &name) };
            let platform = stage.from.platform.as_ref().map(|word| word.text.clone()).unwrap_or_default();
            let (base, location) = (stage.from.image.text.clone(), location(&stage.instruction));
            Target { name, default: at == last, description, base, platform, location }
        })
        .collect();
    if json {
        return Ok(serde_json::to_string_pretty(&json!({ "targets": all, "sources": sources(file) }))? + "\n");
    }
    let mut text = "TARGET\tDESCRIPTION\n".to_owned();
    for target in &all {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            ("", false) => continue,
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        text.push_str(&format!("{name}\t{}\n", target.description));
    }
    Ok(table::align_from(&text, 0))
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    args: Vec<Argument>,
    secrets: Vec<Required>,
    ssh: Vec<Required>,
    sources: Vec<String>,
    /// The stages that the target is made of.
    #[serde(skip)]
    needed: Set<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Argument {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    location: Value,
    /// The arguments that its value is made of.
    #[serde(skip)]
    of: Vec<String>,
    #[serde(skip)]
    line: usize,
}

#[derive(Debug, PartialEq, Serialize)]
struct Required {
    name: String,
    required: bool,
    location: Value,
}

/// What a target can be told: arguments, secrets, agents of ssh. `given` are the arguments that are.
pub fn outline(file: &Dockerfile, target: &str, given: &dyn Fn(&str) -> Option<String>, json: bool) -> Result<String> {
    let outline = read(file, target, given)?;
    if json {
        return Ok(serde_json::to_string_pretty(&outline)? + "\n");
    }
    let mut text = format!("TARGET:\t{}\n", if outline.name.is_empty() { "default" } else { &outline.name });
    if !outline.description.is_empty() {
        text.push_str(&format!("DESCRIPTION:\t{}\n", outline.description));
    }
    if !outline.args.is_empty() {
        text.push_str("\nBUILD ARG\tVALUE\tDESCRIPTION\n");
    }
    for arg in &outline.args {
        text.push_str(&format!("{}\t{}\t{}\n", arg.name, arg.value.as_deref().unwrap_or_default(), arg.description));
    }
    for (title, all) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !all.is_empty() {
            text.push_str(&format!("\n{title}\tREQUIRED\n"));
        }
        all.iter().for_each(|one| text.push_str(&format!("{}\t{}\n", one.name, one.required)));
    }
    Ok(table::align_from(&text, 0))
}

/// The stages that a target is made of.
pub fn needed(file: &Dockerfile, target: &str, given: &dyn Fn(&str) -> Option<String>) -> Result<Set<usize>> {
    Ok(read(file, target, given)?.needed)
}

fn read(file: &Dockerfile, target: &str, given: &dyn Fn(&str) -> Option<String>) -> Result<Outline> {
    let lex = Lex::new(file.directives.escape);
    let at = match target {
        "" => file.stages.len() - 1,
        name => match file.stage(name) {
            Some(at) => at,
            None => {
                let names = file.stages.iter().filter_map(|stage| stage.from.name.as_deref());
                bail!("target stage {name:?} could not be found{}", suggest(name, names))
            }
        },
    };
    let mut globals: Map<String, Argument> = Map::new();
    for instruction in &file.globals {
        let Kind::Arg(all) = &instruction.kind else { continue };
        for arg in all {
            let mut argument = argument(lex, instruction, arg, &globals, given);
            let before = globals.get(&arg.name).map(|it| it.of.clone()).unwrap_or_default();
            // What it was before was made of others, too.
            if argument.of.contains(&arg.name) {
                argument.of.extend(before);
            }
            globals.insert(arg.name.clone(), argument);
        }
    }
    let mut args: Map<String, Argument> = Map::new();
    // The stages that it is made of, in order, and the arguments that say which.
    let (mut needed, mut left) = (Set::new(), vec![at]);
    let earlier = |name: &str, before: usize| file.stage(name).filter(|at| *at < before);
    while let Some(at) = left.pop() {
        if !needed.insert(at) {
            continue;
        }
        let stage = &file.stages[at];
        let expanded = lex.expand(&stage.from.image.text, &|name| globals.get(name)?.value.clone());
        if let Ok(expanded) = expanded {
            let by_name = earlier(&expanded.text, at).filter(|_| expanded.text.parse::<usize>().is_err());
            left.extend(by_name);
            let platform = stage.from.platform.iter().flat_map(|word| lex.expand(&word.text, &|_| None));
            let names = platform.flat_map(|it| it.unmatched).chain(expanded.matched).chain(expanded.unmatched);
            used(names.collect(), &globals, &mut args);
        }
        let taken = stage.instructions.iter().flat_map(Instruction::sources);
        left.extend(taken.filter_map(|name| earlier(&name, at)));
    }
    let (mut secrets, mut ssh): (Vec<Required>, Vec<Required>) = (Vec::new(), Vec::new());
    for instruction in needed.iter().flat_map(|at| &file.stages[*at].instructions) {
        match &instruction.kind {
            Kind::Arg(all) => {
                for arg in all.iter() {
                    if let (None, None, Some(_)) = (given(&arg.name), &arg.default, globals.get(&arg.name)) {
                        used(vec![arg.name.clone()], &globals, &mut args);
                        continue;
                    }
                    let mut argument = argument(lex, instruction, arg, &args, given);
                    if argument.description.is_empty() {
                        argument.description =
                            globals.get(&arg.name).map(|it| it.description.clone()).unwrap_or_default();
                    }
                    args.insert(arg.name.clone(), argument);
                }
            }
            Kind::Run(run) => {
                for word in &run.mounts {
                    let known = |name: &str| args.get(name)?.value.clone();
                    let mut expand = |value: &str| Ok(lex.expand(value, &known)?.text);
                    let Ok(mount) = Mount::parse(&word.text, &mut expand) else { continue };
                    let all = match mount.kind {
                        MountKind::Secret => &mut secrets,
                        MountKind::Ssh => &mut ssh,
                        _ => continue,
                    };
                    let name = mount.name();
                    match all.iter_mut().find(|known| known.name == name) {
                        Some(known) => known.required |= mount.required,
                        None => {
                            let location = location(instruction);
                            all.push(Required { name, required: mount.required, location });
                        }
                    }
                }
            }
            _ => {}
        }
    }
    let name = file.stages[at].from.name.clone().unwrap_or_default();
    let description = if name.is_empty() { String::new() } else { description(&file.stages[at].instruction, &name) };
    let mut args: Vec<Argument> = args.into_values().collect();
    order::by_key(&mut args, |arg| arg.line);
    Ok(Outline { name, description, args, secrets, ssh, sources: sources(file).into(), needed })
}

/// An argument with its value: the one that is given, or its own.
fn argument(
    lex: Lex,
    instruction: &Instruction,
    arg: &Arg,
    known: &Map<String, Argument>,
    given: &dyn Fn(&str) -> Option<String>,
) -> Argument {
    let lookup = |name: &str| known.get(name)?.value.clone();
    let default = arg.default.as_ref().and_then(|word| lex.expand(&word.text, &lookup).ok());
    let (value, of) = match (given(&arg.name), default) {
        (Some(value), _) => (Some(value), Vec::new()),
        (None, Some(default)) => (Some(default.text), default.matched),
        (None, None) => (None, Vec::new()),
    };
    let description = description(instruction, &arg.name);
    let (location, line) = (location(instruction), arg.place.line);
    Argument { name: arg.name.clone(), description, value, location, of, line }
}

/// Takes arguments over, with those that they are made of.
fn used(names: Vec<String>, globals: &Map<String, Argument>, args: &mut Map<String, Argument>) {
    let (mut left, mut seen) = (names, Set::new());
    while let Some(name) = left.pop() {
        let Some(argument) = globals.get(&name).filter(|_| seen.insert(name)) else { continue };
        left.extend(argument.of.iter().cloned());
        args.entry(argument.name.clone()).or_insert_with(|| argument.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# base_image what all is built on\nARG base_image=busybox\nARG other\n\
                        FROM $base_image AS tools\nARG level=2\n\
                        RUN --mount=type=secret,id=key --mount=type=ssh x\n\
                        # app is what is shipped\nFROM busybox AS app\n# version is told\nARG version\n\
                        COPY --from=tools /a /a\nRUN --mount=type=secret,target=/run/secrets/key,required x\n\
                        FROM scratch\nARG alone=1\n";

    #[test]
    fn calls_are_read() {
        let call = |what, json| Some(Call { what, json });
        for (text, expected) in [
            ("build", None),
            ("check", call(What::Check, false)),
            ("outline,format=json", call(What::Outline, true)),
            ("targets,format=text", call(What::Targets, false)),
        ] {
            assert_eq!(Call::parse(text).unwrap(), expected, "{text}");
        }
        assert!(Call::parse("chek").is_err() && Call::parse("check,format=xml").is_err());
    }

    #[test]
    fn a_file_says_what_it_has() {
        let file = Dockerfile::parse("Dockerfile", TEXT.as_bytes()).unwrap();
        assert_eq!(
            targets(&file, false).unwrap(),
            "TARGET      DESCRIPTION\ntools       \napp         is what is shipped\n(default)   \n"
        );
        let given = |name: &str| (name == "version").then(|| "v1".to_owned());
        assert_eq!(
            outline(&file, "app", &given, false).unwrap(),
            "TARGET:        app\nDESCRIPTION:   is what is shipped\n\n\
             BUILD ARG    VALUE     DESCRIPTION\nbase_image   busybox   what all is built on\nlevel        2         \n\
             version      v1        is told\n\nSECRET   REQUIRED\nkey      true\n\nSSH       REQUIRED\ndefault   false\n"
        );
        let json: serde_json::Value = serde_json::from_str(&outline(&file, "", &given, true).unwrap()).unwrap();
        let line = json!({ "ranges": [{ "start": { "line": 14 }, "end": { "line": 14 } }] });
        assert_eq!(json["args"], json!([{ "name": "alone", "value": "1", "location": line }]));
        assert_eq!(json["sources"][0], base64::encode(TEXT.as_bytes()));
        let text = "ARG of=x\nARG none=y\nARG all=a$of\nARG all=${all}z\nARG p=linux\nFROM --platform=$p b$all\nARG key=k\n\
                    RUN --mount=type=secret,id=$key-1 x\n";
        let other = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
        let told = read(&other, "", &given).unwrap();
        let args: Vec<_> = told.args.iter().map(|arg| (arg.name.as_str(), arg.value.as_deref().unwrap())).collect();
        assert_eq!(args, [("of", "x"), ("all", "axz"), ("p", "linux"), ("key", "k")]);
        assert_eq!(told.secrets[0].name, "k-1");
        let error = outline(&file, "ap", &given, false).unwrap_err().to_string();
        assert_eq!(error, "target stage \"ap\" could not be found (did you mean app?)");
    }
}
