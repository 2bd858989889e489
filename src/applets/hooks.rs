//! Hooks of plugins, for who calls us `docker`: after a command on a terminal the plugins for which config.json has a hook
//! of that command are asked for advice, which is shown as what to do next.
//!
//! `hooks` are run as docker 28 does: after every command of ours, and after a plugin's that went well. `error-hooks`, which
//! 29 brought, are run after one that did not.

use super::Context as Invocation;
use super::format::{template::Template, units, value::Node};
use super::{contexts, face, habits, help, output, parse, plugin};
use crate::api::units::{float, parse_binary, parse_bool};
use crate::json;
use crate::json::fields::fields;
use crate::log;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use argh::{FlagInfo, FlagInfoKind, Optionality};
use serde::Serialize;
use std::io::IsTerminal;
use std::process::Stdio;

/// The word that asks a plugin for its advice.
const WORD: &str = "docker-cli-plugin-hooks";
/// What is no command of its own is docker's.
const ROOT: &str = "docker";
/// What a plugin's advice may call besides the usual functions.
const FUNCTIONS: [&str; 2] = ["flag", "arg"];
/// What Docker's flags are where they are not given and it is not nothing.
const UNLESS_GIVEN: [(&str, &str, &str); 14] = [
    ("attach", "sig-proxy", "true"),
    ("build", "network", "default"),
    ("build", "rm", "true"),
    ("commit", "pause", "true"),
    ("create", "memory-swappiness", "-1"),
    ("create", "pull", "missing"),
    ("create", "restart", "no"),
    ("history", "human", "true"),
    ("logs", "tail", "all"),
    ("ps", "last", "-1"),
    ("run", "memory-swappiness", "-1"),
    ("run", "pull", "missing"),
    ("run", "restart", "no"),
    ("run", "sig-proxy", "true"),
];

/// A command that has run, as hooks are told of it.
#[derive(Default)]
struct Ran {
    /// Without `docker`, which stands alone where it is no command.
    path: String,
    usage: String,
    /// The flags that were given, with a value of those that are yes or no.
    given: Map<String, String>,
    /// All that it has, with their values.
    flags: Map<String, String>,
    operands: Vec<String>,
    /// Whether templates find docker itself, as after a plugin's command, of which nobody here knows more.
    is_root: bool,
}

/// What templates walk: a command, as docker's library has it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Walked<'a> {
    name: &'a str,
    command_path: String,
    use_line: &'a str,
    #[serde(rename = "flag")]
    flag: &'a Map<String, String>,
    #[serde(rename = "arg")]
    arg: Map<String, &'a str>,
}

/// What a plugin is told.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question<'a> {
    root_cmd: &'a str,
    flags: &'a Map<String, String>,
    command_error: &'a str,
}

fields! {
    /// What it answers. The only kind of advice is 0, what to do next.
    #[derive(Default)]
    #[serde(rename_all = "PascalCase")]
    struct Advice {
        r#type: i64,
        template: String,
    }
}

/// Runs the hooks of a command of ours.
pub fn after(context: &Invocation, args: &[String], result: &Result<u8>) {
    if !enabled() {
        return;
    }
    let error = match result {
        Ok(_) => String::new(),
        Err(error) => face::text(error),
    };
    let failed = match result {
        Ok(0) => None,
        Ok(code) => Some(exited(*code)),
        Err(_) => Some(error.clone()),
    };
    advise(&Ran::of(context, args), true, &error, failed.as_deref());
}

/// Runs the hooks of a plugin's command.
pub fn after_plugin(context: &Invocation, args: &[String], code: u8) {
    let failed = Some(exited(code)).filter(|_| code != 0);
    advise(&Ran::of_plugin(context, args), failed.is_none(), "", failed.as_deref());
}

/// Whether there may be hooks of a plugin's command, so that we have to be there when it ends.
pub fn wanted(args: &[String]) -> bool {
    let path = path_of_plugin(args);
    let hooks = |plugin: &Map<String, String>| {
        ["hooks", "error-hooks"].iter().any(|kind| matching(plugin, kind, &path).is_some())
    };
    enabled() && habits::read().is_ok_and(|habits| habits.plugins.values().any(hooks))
}

/// What a plugin's command is to hooks: the whole line, but help on it is nothing of its own.
fn path_of_plugin(args: &[String]) -> String {
    match args.first().is_some_and(|word| word == "help") {
        true => ROOT.to_owned(),
        false => args.join(" "),
    }
}

/// As docker words the end of what said nothing itself.
fn exited(code: u8) -> String {
    format!("exited with code {code}")
}

fn enabled() -> bool {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let said = variable("DOCKER_CLI_HOOKS").or_else(|| variable("DOCKER_CLI_HINTS"));
    let said = said.or_else(|| habits::read().ok()?.features.remove("hooks"));
    std::io::stdout().is_terminal() && said.is_some_and(|said| parse_bool(&said) == Some(true))
}

/// Asks the plugins and shows what they advise. `always` is whether `hooks` are run, which are told `error`.
fn advise(ran: &Ran, always: bool, error: &str, failed: Option<&str>) {
    let Ok(habits) = habits::read() else { return };
    let mut advice = Vec::new();
    for (name, plugin) in &habits.plugins {
        let hook = matching(plugin, "hooks", &ran.path).filter(|_| always).map(|hook| (hook, error));
        let after_error = || Some((matching(plugin, "error-hooks", &ran.path)?, failed?));
        let Some((hook, error)) = hook.or_else(after_error) else { continue };
        match ask(name, ran, hook, error) {
            Ok(text) if text.trim().is_empty() => log::debug!("the plugin {name} has no advice"),
            Ok(text) => advice.extend(text.split('\n').map(|line| format!("    {line}"))),
            Err(error) => log::debug!("the hook of the plugin {name}: {error:#}"),
        }
    }
    if !advice.is_empty() {
        output::advise(&format!("\x1b[1m\nWhat's next:\x1b[0m\n{}", advice.join("\n")));
    }
}

/// The hook that is kept for a command: the words that it begins with.
fn matching<'a>(plugin: &'a Map<String, String>, kind: &str, path: &str) -> Option<&'a str> {
    let hooks = plugin.get(kind).filter(|hooks| !hooks.is_empty())?;
    hooks.split(',').find(|hook| match path.strip_prefix(hook) {
        Some(rest) => rest.is_empty() || rest.starts_with(' '),
        None => false,
    })
}

fn ask(name: &str, ran: &Ran, hook: &str, error: &str) -> Result<String> {
    let path = plugin::candidate(name)?.context("there is no such plugin")?;
    let question = Question { root_cmd: hook, flags: &ran.given, command_error: error };
    let mut question = serde_json::to_string(&question)?;
    // As Go writes it. None of these stands outside of a string.
    for (plain, escaped) in [('<', "003c"), ('>', "003e"), ('&', "0026"), ('\u{2028}', "2028"), ('\u{2029}', "2029")] {
        question = question.replace(plain, &format!("\\u{escaped}"));
    }
    let mut command = plugin::command(&path);
    let output = command.args([name, WORD, &question]).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("it ends with {}", output.status);
    }
    let advice: Advice = json::from_slice(&output.stdout).context("its answer")?;
    if advice.r#type != 0 {
        bail!("its answer is of an unknown type: {}", advice.r#type);
    }
    Template::with(&advice.template, &FUNCTIONS)?.walk(&ran.node()?)
}

impl Ran {
    /// A command of ours.
    fn of(context: &Invocation, args: &[String]) -> Ran {
        let (word, rest) = args.split_first().map_or(("", args), |(word, rest)| (word.as_str(), rest));
        let in_group = || {
            let name = format!("{word} {}", rest.first()?);
            Some((super::find(&name)?, name, &rest[1..]))
        };
        let alone = || Some((super::find(word)?, word.to_owned(), rest));
        let Some((entry, name, rest)) = in_group().or_else(alone) else {
            return match super::is_known(word) && word != "help" {
                true => {
                    let operands = if rest.iter().any(|arg| arg.starts_with('-')) { vec![] } else { rest.to_vec() };
                    Ran { path: word.to_owned(), operands, ..Ran::default() }
                }
                false => {
                    let operands = if word == "help" { vec![] } else { args.to_vec() };
                    Ran { path: ROOT.to_owned(), operands, ..Ran::root(context) }
                }
            };
        };
        let name = super::first_name(entry, &name);
        let info = (entry.info)();
        let mut given = parse::Given::default();
        let operands = given.read(&info, name, rest, entry.stops);
        let mut ran =
            Ran { path: name.to_owned(), usage: help::usage(&info, &format!("docker {name}")), ..Ran::default() };
        for flag in info.flags {
            ran.flag(name, flag, &given);
        }
        match operands {
            Ok(operands) => ran.operands = operands,
            Err(parse::Misuse::Help) => drop(ran.given.insert("help".to_owned(), "true".to_owned())),
            Err(parse::Misuse::Wrong { .. }) => {}
        }
        ran
    }

    fn flag(&mut self, command: &str, flag: &FlagInfo, given: &parse::Given) {
        let long = flag.long.trim_start_matches('-').to_owned();
        let is_bool = !parse::takes_value(flag);
        let list: Vec<&str> = given.repeated.iter().filter(|it| it.0 == flag.long).map(|it| it.1.as_str()).collect();
        let value = match flag.optionality {
            Optionality::Repeating if list.is_empty() => None,
            Optionality::Repeating => Some(format!("[{}]", list.join(" "))),
            _ => given.switches.get(flag.long).map(bool::to_string).or_else(|| given.single.get(flag.long).cloned()),
        };
        if let Some(value) = &value {
            self.given.insert(long.clone(), if is_bool { value.clone() } else { String::new() });
        }
        let value = value.map_or_else(|| unless_given(command, flag), |value| spelt(flag, value));
        self.flags.insert(long, value);
    }

    /// A plugin's, whose flags nobody here knows.
    fn of_plugin(context: &Invocation, args: &[String]) -> Ran {
        let name = |arg: &String| arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).map(str::to_owned);
        let given = Map::from_iter(args.iter().filter_map(name).map(|name| (name, String::new())));
        Ran { path: path_of_plugin(args), given, ..Ran::root(context) }
    }

    /// docker itself, with the flags before the command.
    fn root(context: &Invocation) -> Ran {
        let wish = &context.wish;
        let dir = contexts::config_dir().map(|dir| dir.display().to_string());
        let flags = [
            ("config", dir.unwrap_or_default()),
            ("context", wish.context.clone().unwrap_or_default()),
            ("debug", context.place.debug.to_string()),
            ("host", format!("[{}]", wish.host.as_deref().unwrap_or_default())),
            ("tls", wish.tls.to_string()),
            ("tlsverify", wish.verify.unwrap_or_default().to_string()),
        ];
        let flags = Map::from_iter(flags.map(|(name, value)| (name.to_owned(), value)));
        Ran { usage: "docker [OPTIONS] COMMAND [ARG...]".to_owned(), flags, is_root: true, ..Ran::default() }
    }

    fn node(&self) -> Result<Node> {
        let path = if self.is_root { ROOT } else { &self.path };
        let operands = self.operands.iter().enumerate();
        let arg = Map::from_iter(operands.map(|(at, operand)| (at.to_string(), operand.as_str())));
        let walked = Walked {
            name: path.rsplit(' ').next().unwrap_or_default(),
            command_path: if self.is_root { ROOT.to_owned() } else { format!("{ROOT} {path}") },
            use_line: &self.usage,
            flag: &self.flags,
            arg,
        };
        Node::row(&walked, "*cobra.Command")
    }
}

/// The type of a flag's value, as its help spells it.
fn type_of<'a>(flag: &'a FlagInfo) -> &'a str {
    match flag.kind {
        FlagInfoKind::Option { arg_name } if parse::takes_value(flag) => arg_name,
        _ => "bool",
    }
}

fn unless_given(command: &str, flag: &FlagInfo) -> String {
    let said = UNLESS_GIVEN.iter().find(|it| it.0 == command && flag.long.trim_start_matches('-') == it.1);
    let nothing = match type_of(flag) {
        _ if flag.optionality == Optionality::Repeating => "[]",
        "bool" => "false",
        "INT" | "UINT" | "UINT16" | "BYTES" => "0",
        "DECIMAL" => "0.000",
        "DURATION" => "0s",
        _ => "",
    };
    said.map_or(nothing, |it| it.2).to_owned()
}

/// A value as docker spells it, whoever gave it.
fn spelt(flag: &FlagInfo, value: String) -> String {
    match type_of(flag) {
        "BYTES" => parse_binary(&value).map_or(value, units::binary),
        "DECIMAL" => float(&value).map_or(value, |number| format!("{number:.3}")),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_hook_begins_a_command() {
        let plugin = Map::from([("hooks".to_owned(), "image ls,rm,context".to_owned())]);
        for (path, hook) in [
            ("image ls", Some("image ls")),
            ("rm", Some("rm")),
            ("rmi", None),
            ("image", None),
            ("context ls", Some("context")),
            ("docker", None),
        ] {
            assert_eq!(matching(&plugin, "hooks", path), hook, "{path}");
            assert_eq!(matching(&plugin, "error-hooks", path), None);
        }
        assert_eq!(matching(&Map::from([("hooks".to_owned(), String::new())]), "hooks", ""), None);
    }

    #[test]
    fn what_hooks_are_told_and_advise() {
        let context =
            Invocation { open: |_| bail!("no engine here"), place: Default::default(), wish: Default::default() };
        let table = [
            ("ps -a", "ps", "all=true", "{{.Name}} {{flag . \"all\"}} {{flag . \"last\"}}", "ps true -1"),
            ("container ps --all=0", "container ls", "all=false", "{{.Name}}", "ls"),
            (
                "run -m 1g --cpus 2 -e A=b -e C --rm busybox ls -l",
                "run",
                "cpus= env= memory= rm=true",
                "{{arg . 0}} {{arg . 2}} {{arg . 9}}|{{flag . \"env\"}} {{flag . \"memory\"}} {{flag . \"cpus\"}}",
                "busybox -l |[A=b C] 1GiB 2.000",
            ),
            (
                "create busybox",
                "create",
                "",
                "{{.CommandPath}} {{flag . \"pull\"}} {{flag . \"env\"}} {{flag . \"name\"}}.",
                "docker create missing [] .",
            ),
            ("ps --help", "ps", "help=true", "", ""),
            ("ps -a --nosuch x", "ps", "all=true", "{{arg . 0}}", ""),
            ("image", "image", "", "{{.Name}}", "image"),
            ("help run", "docker", "", "{{.Name}} {{arg . 0}}.", "docker ."),
            ("nosuch a", "docker", "", "{{.Name}} {{arg . 1}} {{flag . \"debug\"}}", "docker a false"),
        ];
        for (line, path, given, template, advice) in table {
            let ran = Ran::of(&context, &words(line));
            let pair = |(name, value): (&String, &String)| format!("{name}={value}");
            assert_eq!(ran.path, path, "{line}");
            assert_eq!(ran.given.iter().map(pair).collect::<Vec<_>>().join(" "), given, "{line}");
            let walked = Template::with(template, &FUNCTIONS).unwrap().walk(&ran.node().unwrap());
            assert_eq!(walked.unwrap(), advice, "{line}");
        }
        let ran = Ran::of_plugin(&context, &words("rig up -d --file x"));
        assert_eq!((ran.path.as_str(), ran.given.len()), ("rig up -d --file x", 2));
        for wrong in ["{{flag . \"nosuch\"}}", "{{flag .}}", "{{arg . \"x\"}}", "{{.Nope}}"] {
            let template = Template::with(wrong, &FUNCTIONS).unwrap();
            assert!(template.walk(&Ran::of(&context, &words("ps")).node().unwrap()).is_err(), "{wrong}");
        }
        // Others have no such functions.
        assert!(Template::parse("{{flag . \"all\"}}").is_err());
    }
}
