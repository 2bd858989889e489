//! `--call`: what a Dockerfile has to say for itself, without a build.

use crate::applets::format::table;
use crate::build::dockerfile::instruction::{Arg, Instruction, Kind};
use crate::build::dockerfile::mount::{Mount, MountKind};
use crate::build::dockerfile::words::Lex;
use crate::build::dockerfile::{Dockerfile, suggest};
use anyhow::{Result, bail};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

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

#[derive(Debug, PartialEq, Serialize)]
struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    base: String,
}

/// What stands above an instruction about a name, without the name.
fn description(instruction: &Instruction, name: &str) -> String {
    let about = instruction.comments.last().and_then(|comment| comment.strip_prefix(name));
    about.and_then(|rest| rest.strip_prefix(' ')).unwrap_or_default().trim().to_owned()
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
            Target { description, base: stage.from.image.text.clone(), default: at == last, name }
        })
        .collect();
    if json {
        return Ok(serde_json::to_string_pretty(&serde_json::json!({ "targets": all }))? + "\n");
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
}

#[derive(Debug, PartialEq, Serialize)]
struct Argument {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Required {
    name: String,
    required: bool,
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
    let mut args: Vec<Argument> = Vec::new();
    let mut globals: BTreeMap<String, Argument> = BTreeMap::new();
    let value = |arg: &Arg, known: &dyn Fn(&str) -> Option<String>| {
        let default = arg.default.as_ref().and_then(|word| Some(lex.expand(&word.text, known).ok()?.text));
        given(&arg.name).or(default)
    };
    for instruction in &file.globals {
        let Kind::Arg(all) = &instruction.kind else { continue };
        for arg in all {
            let known = |name: &str| globals.get(name)?.value.clone();
            let value = value(arg, &known);
            let (name, description) = (arg.name.clone(), description(instruction, &arg.name));
            globals.insert(arg.name.clone(), Argument { name, description, value });
        }
    }
    // The stages that it is made of, in order, and the arguments that say which.
    let (mut needed, mut left) = (BTreeSet::new(), vec![at]);
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
            for name in expanded.matched.iter().chain(&expanded.unmatched) {
                if args.iter().all(|known| known.name != *name)
                    && let Some(Argument { name, description, value }) = globals.get(name)
                {
                    let (name, description) = (name.clone(), description.clone());
                    args.push(Argument { name, description, value: value.clone() });
                }
            }
        }
        let sources = stage.instructions.iter().flat_map(Instruction::sources);
        left.extend(sources.filter_map(|name| earlier(&name, at)));
    }
    let (mut secrets, mut ssh): (Vec<Required>, Vec<Required>) = (Vec::new(), Vec::new());
    for instruction in needed.iter().flat_map(|at| &file.stages[*at].instructions) {
        match &instruction.kind {
            Kind::Arg(all) => {
                for arg in all.iter() {
                    let known = |name: &str| args.iter().find(|it| it.name == name)?.value.clone();
                    let global = globals.get(&arg.name);
                    let value = value(arg, &known).or_else(|| global?.value.clone());
                    let mut description = description(instruction, &arg.name);
                    if description.is_empty() {
                        description = global.map(|it| it.description.clone()).unwrap_or_default();
                    }
                    args.retain(|known| known.name != arg.name);
                    args.push(Argument { name: arg.name.clone(), description, value });
                }
            }
            Kind::Run(run) => {
                for word in &run.mounts {
                    let Ok(mount) = Mount::parse(&word.text, &mut |value| Ok(value.to_owned())) else { continue };
                    let all = match mount.kind {
                        MountKind::Secret => &mut secrets,
                        MountKind::Ssh => &mut ssh,
                        _ => continue,
                    };
                    let name = mount.name();
                    match all.iter_mut().find(|known| known.name == name) {
                        Some(known) => known.required |= mount.required,
                        None => all.push(Required { name, required: mount.required }),
                    }
                }
            }
            _ => {}
        }
    }
    let name = file.stages[at].from.name.clone().unwrap_or_default();
    let description = if name.is_empty() { String::new() } else { description(&file.stages[at].instruction, &name) };
    Ok(Outline { name, description, args, secrets, ssh })
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
        assert_eq!(json["args"], serde_json::json!([{ "name": "alone", "value": "1" }]));
        let error = outline(&file, "ap", &given, false).unwrap_err().to_string();
        assert_eq!(error, "target stage \"ap\" could not be found (did you mean app?)");
    }
}
