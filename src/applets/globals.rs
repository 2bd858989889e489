//! The flags before the command, and what becomes of words that are none.

use super::{Context, coded, face, help, host, output, parse, plugin, version};
use crate::api::units::parse_bool;
use anyhow::{Result, bail};

/// A flag that may stand there, its letter, and whether it needs a value.
type Known = (&'static str, Option<char>, bool);

const KNOWN: &[Known] = &[
    ("--help", Some('h'), false),
    ("--version", Some('v'), false),
    ("--debug", Some('D'), false),
    ("--tls", None, false),
    ("--tlsverify", None, false),
    ("--root", None, true),
    ("--run", None, true),
    ("--config", None, true),
    ("--host", Some('H'), true),
    ("--context", Some('c'), true),
    ("--tlscacert", None, true),
    ("--tlscert", None, true),
    ("--tlskey", None, true),
    // Of docker's client only.
    ("--log-level", Some('l'), true),
];

/// Reads such flags, as docker's library does: `-DH tcp://…`, `-H=tcp://…`, `--tls=false`.
struct Flags<'a> {
    args: &'a [String],
    at: usize,
    /// Letters behind one that was read.
    cluster: &'a str,
    /// Whether flags end at the first word that is none.
    stops: bool,
    client: bool,
}

impl<'a> Flags<'a> {
    /// The next one, as it was spelt, with its value.
    fn next(&mut self) -> Result<Option<(&'static str, &'a str, String)>> {
        if !self.cluster.is_empty() {
            return self.letter();
        }
        while let Some(arg) = self.args.get(self.at) {
            let is_flag = arg.len() > 1 && arg.starts_with('-');
            if (!is_flag && self.stops) || arg == "--" {
                break;
            }
            self.at += 1;
            match arg.strip_prefix("--") {
                Some(_) => return self.word(arg),
                None if is_flag => {
                    self.cluster = &arg[1..];
                    return self.letter();
                }
                None => {}
            }
        }
        Ok(None)
    }

    fn word(&mut self, arg: &'a str) -> Result<Option<(&'static str, &'a str, String)>> {
        let (name, attached) = arg.split_once('=').map_or((arg, None), |(name, value)| (name, Some(value)));
        let known = self.known().find(|(long, ..)| *long == name);
        let Some(known) = known else {
            let near = help::nearest(name, self.known().map(|(long, ..)| *long)).unwrap_or_default();
            return Err(wrong(format!("unknown flag: {name}"), near));
        };
        Ok(Some((known.0, name, self.value(known, attached, name)?)))
    }

    fn letter(&mut self) -> Result<Option<(&'static str, &'a str, String)>> {
        let cluster = std::mem::take(&mut self.cluster);
        let short = cluster.chars().next().unwrap_or_default();
        let rest = &cluster[short.len_utf8().min(cluster.len())..];
        let Some(known) = self.known().find(|(_, letter, _)| *letter == Some(short)) else {
            return Err(wrong(format!("unknown shorthand flag: '{short}' in -{cluster}"), ""));
        };
        let attached = match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if known.2 => Some(rest).filter(|rest| !rest.is_empty()),
            None => {
                self.cluster = rest;
                None
            }
        };
        if *known == KNOWN[0] {
            // Said elsewhere than by a command.
            match self.stops {
                true if face::is_docker() => output::complain(parse::DEPRECATED_HELP),
                _ => parse::deprecated_help()?,
            }
        }
        Ok(Some((known.0, known.0, self.value(known, attached, &format!("'{short}' in -{cluster}"))?)))
    }

    fn known(&self) -> impl Iterator<Item = &'static Known> {
        let client = self.client;
        KNOWN.iter().filter(move |(long, ..)| client || *long != "--log-level")
    }

    fn value(&mut self, (long, short, needs): &Known, attached: Option<&str>, spelt: &str) -> Result<String> {
        if !needs {
            let text = attached.unwrap_or("true");
            return match parse_bool(text) {
                Some(on) => Ok(on.to_string()),
                None => Err(wrong(parse::no_bool(text, long, short.filter(|short| *short != 'h')), "")),
            };
        }
        let value = match attached {
            Some(value) => Some(value.to_owned()),
            None => {
                self.at += 1;
                self.args.get(self.at - 1).cloned()
            }
        };
        value.ok_or_else(|| wrong(format!("flag needs an argument: {spelt}"), ""))
    }
}

/// Reads the flags and says where the command stands; `None` if one of them was all.
pub fn read(args: &[String], context: &mut Context) -> Result<Option<usize>> {
    let once =
        |slot: &mut Option<String>, name: &str, value| host::once(slot, name, value).map_err(|error| coded(125, error));
    let mut flags = Flags { args, at: 0, cluster: "", stops: true, client: context.wish.always };
    let (mut wants_help, mut wants_version) = (false, false);
    while let Some((long, name, value)) = flags.next()? {
        let on = value == "true";
        match long {
            "--help" => wants_help = on,
            "--version" => wants_version = on,
            "--root" => context.place.root = Some(value.into()),
            "--run" => context.place.run = Some(value.into()),
            // Docker's client means its own directory by it.
            "--config" if context.wish.always => return Err(plugin::again(&value, &args[flags.at..], context)),
            "--config" => context.place.config = Some(value.into()),
            "--debug" if on => {
                context.place.debug = true;
                output::verbose();
            }
            "--debug" => {}
            "--host" if face::is_docker() && context.wish.host.is_some() => {
                bail!("Failed to initialize: unable to resolve docker endpoint: Specify only one -H");
            }
            "--host" => once(&mut context.wish.host, name, value)?,
            // Of docker's the last holds.
            "--context" if face::is_docker() => context.wish.context = Some(value),
            "--context" => once(&mut context.wish.context, name, value)?,
            "--tls" => context.wish.tls = on,
            "--tlsverify" => context.wish.verify = Some(on),
            "--tlscacert" => context.wish.files.ca = Some(value.into()),
            "--tlscert" => context.wish.files.cert = Some(value.into()),
            "--tlskey" => context.wish.files.key = Some(value.into()),
            _ => match value.as_str() {
                "debug" => output::verbose(),
                "info" | "warn" | "error" | "fatal" => {}
                other => bail!("Unable to parse logging level: {other}"),
            },
        }
    }
    let words = &args[flags.at.min(args.len())..];
    match words.first() {
        Some(_) if wants_help => match super::topic(words) {
            Some((_, text)) => output::say(&text)?,
            None => output::say(&help::all()?)?,
        },
        Some(word) if wants_version && face::is_docker() && !super::is_known(word) => output::say(&version::line())?,
        // As with docker, a command has the last word.
        Some(_) => return Ok(Some(flags.at)),
        None if wants_help => output::say(&help::all()?)?,
        None if wants_version => output::say(&version::line())?,
        None => super::unasked(&help::all()?)?,
    }
    Ok(None)
}

/// What docker says to a command line that begins with no command: it reads the flags in it as its own first, and gives
/// help to who asks for it.
pub fn stray(args: &[String]) -> Result<u8> {
    let mut flags = Flags { args, at: 1, cluster: "", stops: false, client: true };
    let mut wants_help = false;
    while let Some((long, _, value)) = flags.next()? {
        if long == "--help" {
            wants_help = value == "true";
        }
    }
    if !wants_help {
        return Err(super::unknown(&args[0]));
    }
    output::say(&help::all()?)?;
    Ok(0)
}

/// The same of a group of commands, and of `help`, which know no flag but the one for help. `command` is such as
/// `docker image`. Gives whether help is wanted, and the words.
pub fn strays<'a>(command: &str, usage: &str, words: &'a [String]) -> Result<(bool, Vec<&'a str>)> {
    let refuse = |message: String| {
        let (usage, command) = (usage.to_owned(), command.to_owned());
        coded(parse::WRONG_FLAG, face::Wrong { message, hint: String::new(), usage, command, is_flag: true }.into())
    };
    let (mut wants_help, mut operands) = (false, Vec::new());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.strip_prefix("--").map(|long| long.split_once('=').unwrap_or((long, "true"))) {
            Some(("", _)) => operands.extend(rest.by_ref().map(String::as_str)),
            Some(("help", text)) => {
                wants_help = parse_bool(text).ok_or_else(|| refuse(parse::no_bool(text, "--help", None)))?;
            }
            Some((name, _)) => return Err(refuse(format!("unknown flag: --{name}"))),
            None if word.len() > 1 && word.starts_with('-') => match word[1..].trim_start_matches('h') {
                "" => {
                    parse::deprecated_help()?;
                    wants_help = true;
                }
                cluster => {
                    let short = cluster.chars().next().unwrap_or_default();
                    return Err(refuse(format!("unknown shorthand flag: '{short}' in -{cluster}")));
                }
            },
            None => operands.push(word.as_str()),
        }
    }
    Ok((wants_help, operands))
}

/// A flag before the command that is wrong.
fn wrong(message: String, near: &str) -> anyhow::Error {
    let command = face::name().to_owned();
    let hint = match message.starts_with("unknown") {
        true => parse::hint(near, &command),
        false => String::new(),
    };
    let usage = format!("{command} [OPTIONS] COMMAND [ARG...]");
    coded(parse::WRONG_FLAG, face::Wrong { message, hint, usage, command, is_flag: true }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_as_dockers_library_reads_them() {
        let read = |line: &str, stops: bool| -> Result<Vec<String>> {
            let args = words(line);
            let mut flags = Flags { args: &args, at: 0, cluster: "", stops, client: true };
            let mut all = Vec::new();
            while let Some((long, _, value)) = flags.next()? {
                all.push(format!("{long}={value}"));
            }
            all.extend(args[flags.at.min(args.len())..].iter().cloned());
            Ok(all)
        };
        for (line, stops, expected) in [
            ("ps -a", true, "ps -a"),
            ("-D --tls ps", true, "--debug=true --tls=true ps"),
            ("-DH x ps", true, "--debug=true --host=x ps"),
            ("-H=x -Hy --host z --host=w", true, "--host=x --host=y --host=z --host=w"),
            ("-D=0 --tls=F -v=true", true, "--debug=false --tls=false --version=true"),
            ("-- ps", true, "-- ps"),
            ("nosuch -H x y --help", false, "--host=x --help=true"),
            ("nosuch -- --foo", false, "-- --foo"),
        ] {
            assert_eq!(read(line, stops).unwrap(), words(expected), "{line}");
        }
        for (line, why) in [
            ("-Dz", "unknown shorthand flag: 'z' in -z"),
            ("-DH", "flag needs an argument: 'H' in -H"),
            ("--host", "flag needs an argument: --host"),
            ("--hots x", "unknown flag: --hots"),
            ("--tls=x", "invalid argument \"x\" for \"--tls\" flag"),
            ("-v=x", "invalid argument \"x\" for \"-v, --version\" flag"),
        ] {
            let error = read(line, true).unwrap_err().to_string();
            assert!(error.starts_with(why), "{line}: {error}");
        }
    }

    #[test]
    fn a_group_knows_no_flag_but_that_for_help() {
        let read = |line: &str| {
            strays("docker image", "docker image", &words(line)).map(|(help, words)| (help, words.join(" ")))
        };
        assert_eq!(read("nosuch x").unwrap(), (false, "nosuch x".to_owned()));
        assert_eq!(read("nosuch --help").unwrap(), (true, "nosuch".to_owned()));
        assert_eq!(read("--help=false -- --foo").unwrap(), (false, "--foo".to_owned()));
        for (line, why) in [
            ("nosuch --foo=x", "unknown flag: --foo"),
            ("-z", "unknown shorthand flag: 'z' in -z"),
            ("--help=x", "invalid argument \"x\" for \"--help\" flag"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.starts_with(why), "{line}: {error}");
        }
    }
}
