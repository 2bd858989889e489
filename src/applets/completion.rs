//! `dhow completion`: what the shell needs to complete commands and flags, from the table.

use super::{Command, Context, Entry, TABLE, help, links, output};
use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use std::fmt::Write;

/// Print the completion script of a shell: bash, zsh or fish
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
pub struct Completion {
    #[argh(positional, arg_name = "SHELL")]
    shell: String,
}

impl Command for Completion {
    fn run(self, _: &Context) -> Result<u8> {
        let script = match self.shell.as_str() {
            "bash" => bash(),
            "zsh" => format!("autoload -U +X bashcompinit && bashcompinit\n{}", bash()),
            "fish" => fish(),
            other => bail!("no completion for {other}: there is bash, zsh and fish"),
        };
        output::say(&script)?;
        Ok(0)
    }
}

/// What a command's operands name, so that they can be listed.
fn operands(entry: &Entry) -> &'static str {
    let info = (entry.info)();
    let first = info.positionals.first().map_or("", |operand| operand.name);
    match first.split([' ', '[', '|', ':']).next().unwrap_or("") {
        "CONTAINER" => "containers",
        "IMAGE" | "SOURCE_IMAGE" | "REPOSITORY" => "images",
        "VOLUME" => "volumes",
        "NAME" if entry.names[0] == "inspect" => "containers",
        _ => "",
    }
}

fn flags(entry: &Entry) -> String {
    let info = (entry.info)();
    let shown = info.flags.iter().filter(|flag| !flag.hidden);
    shown.map(|flag| flag.long).collect::<Vec<_>>().join(" ")
}

fn words() -> String {
    let commands =
        TABLE.iter().filter(|entry| !entry.hidden).map(|entry| entry.names[0]).filter(|name| !name.contains(' '));
    commands.chain(help::GROUPS.iter().map(|group| group.0)).collect::<Vec<_>>().join(" ")
}

fn verbs(group: &str) -> String {
    let names = TABLE.iter().filter(|entry| !entry.hidden).flat_map(|entry| entry.names);
    let verbs = names.filter_map(|name| name.strip_prefix(group)?.strip_prefix(' '));
    verbs.collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut script = String::from(
        "_dhow_names() {\n    case $1 in\n        containers) dhow ps -a --format '{{.Names}}' 2>/dev/null ;;\n        \
         images) dhow images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null ;;\n        \
         volumes) dhow volume ls -q 2>/dev/null ;;\n    esac\n}\n_dhow() {\n    \
         local cur=${COMP_WORDS[COMP_CWORD]} name=${COMP_WORDS[0]##*/} words flags= operands= i\n    \
         local command=()\n    [ \"$name\" = dhow ] || command=(\"${name#d}\")\n    \
         for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n            \
         --root | --run | --config) ((i++)) ;;\n            -*) ;;\n            *) command+=(\"${COMP_WORDS[i]}\") ;;\n        esac\n    done\n    \
         case \"${command[0]} ${command[1]}\" in\n",
    );
    for entry in TABLE.iter().filter(|entry| !entry.hidden) {
        for name in entry.names {
            let pattern = if name.contains(' ') { format!("\"{name}\"") } else { format!("\"{name} \"*") };
            let _ = writeln!(script, "        {pattern}) flags=\"{}\" operands={} ;;", flags(entry), operands(entry));
        }
    }
    for (group, _) in help::GROUPS {
        let _ = writeln!(script, "        \"{group} \"*) words=\"{}\" ;;", verbs(group));
    }
    let _ = write!(
        script,
        "        \" \") words=\"{}\" flags=\"--root --run --config --debug --version --help\" ;;\n    esac\n    \
         case $cur in\n        -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\")) ;;\n        \
         *) COMPREPLY=($(compgen -W \"$words $(_dhow_names \"$operands\")\" -- \"$cur\")) ;;\n    esac\n}}\n\
         complete -o default -F _dhow dhow{}\n",
        words(),
        links::words().map(|word| format!(" d{word}")).collect::<String>(),
    );
    script
}

fn fish() -> String {
    let mut script = String::from("complete -c dhow -f\n");
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    for entry in TABLE.iter().filter(|entry| !entry.hidden) {
        for name in entry.names {
            let about = quote(&help::sentence(entry));
            let condition = match name.split_once(' ') {
                None => {
                    let _ = writeln!(script, "complete -c dhow -n __fish_use_subcommand -a {name} -d {about}");
                    format!("__fish_seen_subcommand_from {name}; and not __fish_seen_subcommand_from {}", groups())
                }
                Some((group, verb)) => {
                    let here = format!("__fish_seen_subcommand_from {group}");
                    let _ = writeln!(script, "complete -c dhow -n {} -a {verb} -d {about}", quote(&here));
                    format!("{here}; and __fish_seen_subcommand_from {verb}")
                }
            };
            for flag in (entry.info)().flags.iter().filter(|flag| !flag.hidden) {
                let short = flag.short.map_or(String::new(), |short| format!(" -s {short}"));
                let long = flag.long.trim_start_matches('-');
                let (condition, about) = (quote(&condition), quote(flag.description));
                let _ = writeln!(script, "complete -c dhow -n {condition} -l {long}{short} -d {about}");
            }
        }
    }
    for (group, about) in help::GROUPS {
        let _ = writeln!(script, "complete -c dhow -n __fish_use_subcommand -a {group} -d {}", quote(about));
    }
    script
}

fn groups() -> String {
    help::GROUPS.iter().map(|group| group.0).collect::<Vec<_>>().join(" ")
}
