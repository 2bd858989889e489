//! Help, from the table.

use crate::applets::{Entry, TABLE, elsewhere, face, parse, plugin};
use crate::order;
use anyhow::Result;
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};
use std::fmt::Write;

const OF_DHOW: (&str, &str) = ("    --config FILE", "the configuration (default /etc/dhow/daemon.json)");
/// What the docker command means by the same flag.
const OF_DOCKER: (&str, &str) =
    ("    --config DIR", "where this command's settings are (DOCKER_CONFIG; default ~/.docker)");

/// Flags that stand before the command.
pub const GLOBAL: &[(&str, &str)] = &[
    OF_DHOW,
    ("-c, --context NAME", "ask the daemon of a context of Docker's client"),
    ("-D, --debug", "say more on stderr"),
    ("-H, --host HOST", "ask the daemon at unix://, tcp:// or ssh:// (DOCKER_HOST)"),
    ("    --tls", "use TLS with the daemon; --tlsverify also checks its certificate (DOCKER_TLS_VERIFY)"),
    ("    --tlscacert FILE", "the CA of the daemon; --tlscert and --tlskey are our own (DOCKER_CERT_PATH)"),
    ("    --root DIR", "where images and containers are kept (DHOW_ROOT; default /var/lib/dhow)"),
    ("    --run DIR", "where running containers are kept (DHOW_RUN; default /run/dhow)"),
    ("-v, --version", "print the version"),
];

/// Management words: each is a group of commands.
pub const GROUPS: &[(&str, &str)] = &[
    ("builder", "manage the build cache"),
    ("container", "manage containers"),
    ("context", "manage contexts: daemons that have a name"),
    ("image", "manage images"),
    ("manifest", "manage manifests of several platforms"),
    ("network", "manage networks"),
    ("system", "manage the engine"),
    ("volume", "manage volumes"),
];

/// `dhow --help`.
pub fn all() -> Result<String> {
    let name = face::name();
    let mut text = format!(
        "Usage:  {name} [OPTIONS] COMMAND\n\n{}\n\nCommands:\n",
        match face::is_docker() {
            true => "dhow, as the docker command: it asks a daemon.",
            false => "A container engine in one file, with Docker's commands and no daemon.",
        }
    );
    for entry in TABLE.iter().filter(|entry| !entry.hidden && !entry.names[0].contains(' ')) {
        let _ = writeln!(text, "  {:<12}{}", entry.names[0], sentence(entry));
    }
    text.push_str("\nManagement commands:\n");
    for (name, about) in GROUPS {
        let _ = writeln!(text, "  {name:<12}{about}");
    }
    let plugins = if face::is_docker() { plugin::all()? } else { vec![] };
    for plugin in plugins.iter().filter(|plugin| plugin.error.is_none()) {
        let _ = writeln!(text, "  {:<12}{}", plugin.name.clone() + "*", plugin.metadata.short_description);
    }
    if plugins.iter().any(|plugin| plugin.error.is_some()) {
        text.push_str("\nInvalid plugins:\n");
    }
    for (plugin, error) in plugins.iter().filter_map(|plugin| Some((plugin, plugin.error.as_ref()?))) {
        let _ = writeln!(text, "  {:<12}{error}", plugin.name);
    }
    text.push_str("\nOptions:\n");
    for row in GLOBAL {
        let (flag, about) = if face::is_docker() && *row == OF_DHOW { &OF_DOCKER } else { row };
        let _ = writeln!(text, "  {flag:<22}{about}");
    }
    let _ = write!(text, "\nRun '{name} COMMAND --help' for one of them.");
    text.push_str(match face::is_docker() {
        true => " What has a * is a plugin.\n",
        false => " A link named d and a command is that command: drun, dps.\n",
    });
    Ok(text)
}

/// `dhow volume` or `dhow volume --help`.
pub fn group(name: &str) -> String {
    let about = GROUPS.iter().find(|group| group.0 == name).map_or("", |group| group.1);
    let who = face::name();
    let mut text = format!("Usage:  {who} {name} COMMAND\n\n{about}\n\nCommands:\n");
    let prefix = format!("{name} ");
    let mut rows: Vec<(&str, String)> = Vec::new();
    for entry in TABLE.iter().filter(|entry| !entry.hidden) {
        if let Some(word) = entry.names.iter().find_map(|full| full.strip_prefix(&prefix)) {
            rows.push((word, sentence(entry)));
        }
    }
    order::sort(&mut rows);
    for (word, about) in rows {
        let _ = writeln!(text, "  {word:<12}{about}");
    }
    let _ = write!(text, "\nRun '{who} {name} COMMAND --help' for one of them.\n");
    text
}

/// How docker says that a group is used, where it was used wrongly.
pub fn group_usage(name: &str) -> String {
    let command = if matches!(name, "manifest" | "volume") { " COMMAND" } else { "" };
    format!("docker {name}{command}")
}

/// The help of a command or a group of that name.
pub fn topic(name: &str) -> Option<String> {
    if let Some(entry) = super::find(name) {
        return Some(command(entry, &format!("{} {name}", face::name())));
    }
    if GROUPS.iter().any(|(group, _)| *group == name) {
        return Some(group(name));
    }
    elsewhere::help(name).filter(|_| face::is_docker())
}

/// `dhow run --help`.
pub fn command(entry: &Entry, spelt: &str) -> String {
    let info = (entry.info)();
    let mut text = format!("Usage:  {}\n\n{}\n", usage(&info, spelt), sentence(entry));
    if entry.names.len() > 1 {
        let names: Vec<String> = entry.names.iter().map(|name| format!("{} {name}", face::name())).collect();
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    let mut flags: Vec<&FlagInfo> = info.flags.iter().filter(|flag| !flag.hidden && flag.long != "--help").collect();
    order::by_key(&mut flags, |flag| flag.long);
    if !flags.is_empty() {
        text.push_str("\nOptions:\n");
        let rows: Vec<(String, &str)> = flags.iter().map(|flag| (spelling(flag), flag.description)).collect();
        let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
        for (flag, about) in rows {
            let _ = writeln!(text, "  {flag:<width$}   {about}");
        }
    }
    text
}

/// `dhow run [OPTIONS] IMAGE [COMMAND] [ARG...]`.
pub fn usage(info: &CommandInfoWithArgs, spelt: &str) -> String {
    let mut words = vec![spelt.to_owned()];
    if info.flags.iter().any(|flag| !flag.hidden && flag.long != "--help") {
        words.push("[OPTIONS]".to_owned());
    }
    for operand in info.positionals {
        match operand.optionality {
            Optionality::Optional => words.push(format!("[{}]", operand.name)),
            _ => words.push(operand.name.to_owned()),
        }
    }
    words.join(" ")
}

/// `-e, --env list`.
fn spelling(flag: &FlagInfo) -> String {
    let short = flag.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
    let value = match flag.kind {
        FlagInfoKind::Option { .. } if !parse::takes_value(flag) => "",
        FlagInfoKind::Option { .. } if flag.optionality == Optionality::Repeating => " list",
        FlagInfoKind::Option { arg_name } if arg_name.len() < 9 && arg_name == arg_name.to_uppercase() => {
            return format!("{short}{} {}", flag.long, arg_name.to_lowercase());
        }
        FlagInfoKind::Option { .. } => " string",
        FlagInfoKind::Switch => "",
    };
    format!("{short}{}{value}", flag.long)
}

/// What a command does, as a sentence without its full stop.
pub fn sentence(entry: &Entry) -> String {
    (entry.info)().description.trim().trim_end_matches('.').to_owned()
}

/// The one of `known` that was probably meant: at most two letters off, and at most a third of them.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |word: &str| word.trim_start_matches('-').chars().count();
    known
        .map(|word| (distance(given, word), word))
        .filter(|(off, word)| *off <= 2 && off * 3 <= letters(word).min(letters(given)))
        .min_by_key(|(off, _)| *off)
        .map(|(_, word)| word)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate().take(b.len() + 1) {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let known = ["--name", "--network", "--net", "--env", "--rm"];
        let table = [
            ("--nmae", Some("--name")),
            ("--nam", Some("--name")),
            ("--netwrk", Some("--network")),
            ("--wrong", None),
            ("--x", None),
            ("--nope", None),
        ];
        for (given, meant) in table {
            assert_eq!(nearest(given, known.into_iter()), meant, "{given}");
        }
    }

    #[test]
    fn every_command_says_what_it_does_and_each_of_its_flags() {
        for entry in TABLE {
            assert!(!sentence(entry).is_empty(), "{}", entry.names[0]);
            for flag in (entry.info)().flags {
                assert!(!flag.description.is_empty(), "{} {}", entry.names[0], flag.long);
            }
        }
    }
}
