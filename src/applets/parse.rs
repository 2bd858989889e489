//! A command line as Docker's users write it → one that argh reads.
//!
//! argh knows each flag, its kind and its type; what it does not know are the forms `-it`, `-eA=B`, `--net=host`,
//! `--rm=false`, a flag given twice, and operands after which no flag is ours. These are made plain here, by what
//! argh itself tells of the command: there is no second list of flags.

use crate::api::units::parse_bool;
use crate::applets::{face, help, output};
use crate::order::Map;
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

/// Why a command line is not run.
#[derive(Debug, PartialEq)]
pub enum Misuse {
    /// `--help` was asked for.
    Help,
    /// One line for the user, in Docker's words, what we add to it, and the exit code that Docker gives it.
    Wrong { message: String, hint: String, code: u8 },
}

/// Docker's exit code for a wrong flag.
pub const WRONG_FLAG: u8 = 125;
/// Docker's exit code for a wrong number of operands.
const WRONG_OPERANDS: u8 = 1;

/// The option whose values are true and false, so that `--flag` alone means true: `#[argh(option, arg_name = "bool")]`.
const BOOL: &str = "bool";

/// Rewrites `args` into `--flag value … -- operand …`. With `stops`, flags end at the first operand, because the
/// rest is a command of its own.
pub fn plain(info: &CommandInfoWithArgs, command: &str, args: &[String], stops: bool) -> Result<Vec<String>, Misuse> {
    let mut given = Given::default();
    let mut operands = given.read(info, command, args, stops)?;
    count(info, command, operands.len())?;
    let mut plain = given.into_args();
    plain.push("--".to_owned());
    plain.append(&mut operands);
    Ok(plain)
}

/// The flags met so far. Of a flag that takes one value the last counts, as Docker has it.
#[derive(Default)]
pub struct Given<'a> {
    pub repeated: Vec<(&'a str, String)>,
    pub single: Map<&'a str, String>,
    pub switches: Map<&'a str, bool>,
}

impl<'a> Given<'a> {
    /// Reads a line and gives its operands. What stands before that which is wrong is kept.
    pub fn read(
        &mut self,
        info: &CommandInfoWithArgs,
        command: &str,
        args: &[String],
        stops: bool,
    ) -> Result<Vec<String>, Misuse> {
        let mut operands = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if arg == "--" {
                operands.extend(rest.by_ref().cloned());
            } else if let Some(long) = arg.strip_prefix("--") {
                let (name, attached) = split(long);
                if name == "help" {
                    let text = attached.unwrap_or("true");
                    match parse_bool(text).ok_or_else(|| wrong_value(no_bool(text, "--help", None)))? {
                        true => return Err(Misuse::Help),
                        false => continue,
                    }
                }
                let Some(flag) = info.flags.iter().find(|flag| flag.long == ["--", name].concat()) else {
                    return Err(unknown_flag(info, command, &["--", name].concat()));
                };
                self.add(flag, attached, &mut rest, &["--", name].concat())?;
            } else if arg.len() > 1 && arg.starts_with('-') {
                let mut cluster = &arg[1..];
                while let Some(short) = cluster.chars().next() {
                    let Some(flag) = info.flags.iter().find(|flag| flag.short == Some(short)) else {
                        if short == 'h' {
                            // Where nobody hears of it, help is still what was asked for.
                            let _ = deprecated_help();
                            return Err(Misuse::Help);
                        }
                        let message = format!("unknown shorthand flag: '{short}' in -{cluster}");
                        return Err(wrong_flag(message, "", command));
                    };
                    let spelt = format!("'{short}' in -{cluster}");
                    cluster = &cluster[short.len_utf8()..];
                    if takes_value(flag) || cluster.starts_with('=') {
                        let attached =
                            Some(cluster.strip_prefix('=').unwrap_or(cluster)).filter(|_| !cluster.is_empty());
                        self.add(flag, attached, &mut rest, &spelt)?;
                        break;
                    }
                    self.add(flag, None, &mut rest, "")?;
                }
            } else {
                operands.push(arg.clone());
                if stops {
                    operands.extend(rest.by_ref().cloned());
                }
            }
        }
        Ok(operands)
    }

    fn add<'b>(
        &mut self,
        flag: &FlagInfo<'a>,
        attached: Option<&str>,
        rest: &mut impl Iterator<Item = &'b String>,
        spelt: &str,
    ) -> Result<(), Misuse> {
        if is_switch(flag) {
            self.switches.insert(flag.long, truth(flag, attached)?);
            return Ok(());
        }
        if !takes_value(flag) {
            self.single.insert(flag.long, truth(flag, attached)?.to_string());
            return Ok(());
        }
        let value = match attached {
            Some(value) => value.to_owned(),
            None => {
                let next = rest.next().cloned();
                next.ok_or_else(|| wrong_value(format!("flag needs an argument: {spelt}")))?
            }
        };
        if flag.optionality == Optionality::Repeating {
            self.repeated.push((flag.long, value));
        } else {
            self.single.insert(flag.long, value);
        }
        Ok(())
    }

    fn into_args(self) -> Vec<String> {
        let pairs = self.single.into_iter().chain(self.repeated);
        let mut args: Vec<String> = pairs.flat_map(|(name, value)| [name.to_owned(), value]).collect();
        args.extend(self.switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()));
        args
    }
}

fn split(flag: &str) -> (&str, Option<&str>) {
    match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    }
}

fn is_switch(flag: &FlagInfo) -> bool {
    flag.kind == FlagInfoKind::Switch
}

/// Whether the flag needs a value; the others may have one, attached.
pub fn takes_value(flag: &FlagInfo) -> bool {
    match flag.kind {
        FlagInfoKind::Switch => false,
        FlagInfoKind::Option { arg_name } => arg_name != BOOL,
    }
}

fn truth(flag: &FlagInfo, attached: Option<&str>) -> Result<bool, Misuse> {
    let Some(text) = attached else { return Ok(true) };
    parse_bool(text).ok_or_else(|| wrong_value(no_bool(text, flag.long, flag.short)))
}

/// What is said of a value that is neither true nor false.
pub fn no_bool(text: &str, long: &str, short: Option<char>) -> String {
    let go = format!("strconv.ParseBool: parsing {text:?}: invalid syntax");
    invalid(text, long, short, face::words(&go, "must be true or false"))
}

fn invalid(text: &str, long: &str, short: Option<char>, why: &str) -> String {
    let name = short.map_or(long.to_owned(), |short| format!("-{short}, {long}"));
    format!("invalid argument {text:?} for {name:?} flag: {why}")
}

fn wrong_value(message: String) -> Misuse {
    Misuse::Wrong { message, hint: String::new(), code: WRONG_FLAG }
}

/// What docker says to who asks for help by a letter.
pub const DEPRECATED_HELP: &str = "Flag shorthand -h has been deprecated, use --help";

/// The same, on stdout, as its commands say it.
pub fn deprecated_help() -> anyhow::Result<()> {
    if face::is_docker() { output::say(&format!("{DEPRECATED_HELP}\n")) } else { Ok(()) }
}

fn unknown_flag(info: &CommandInfoWithArgs, command: &str, given: &str) -> Misuse {
    let known = info.flags.iter().filter(|flag| !flag.hidden).map(|flag| flag.long);
    wrong_flag(format!("unknown flag: {given}"), help::nearest(given, known).unwrap_or_default(), command)
}

fn wrong_flag(message: String, near: &str, command: &str) -> Misuse {
    Misuse::Wrong { message, hint: hint(near, command), code: WRONG_FLAG }
}

/// What we add to a complaint: what was probably meant, and where to look.
pub fn hint(near: &str, command: &str) -> String {
    match near {
        "" => format!(". See '{command} --help'."),
        near => format!(", did you mean {near}? See '{command} --help'."),
    }
}

/// Refuses too few or too many operands.
fn count(info: &CommandInfoWithArgs, command: &str, given: usize) -> Result<(), Misuse> {
    let (least, most) = bounds(info);
    let demand = if most == Some(0) && given > 0 {
        "accepts no arguments".to_owned()
    } else if least == most.unwrap_or(usize::MAX) && given != least {
        format!("requires {least} argument{}", if least == 1 { "" } else { "s" })
    } else if let Some(most) = most.filter(|most| least > 0 && (given < least || given > *most)) {
        format!("requires at least {least} and at most {most} argument{}", if most == 1 { "" } else { "s" })
    } else if given < least {
        format!("requires at least {least} argument{}", if least == 1 { "" } else { "s" })
    } else if let Some(most) = most.filter(|most| given > *most) {
        format!("requires at most {most} argument{}", if most == 1 { "" } else { "s" })
    } else {
        return Ok(());
    };
    let message = format!("'{command}' {demand}");
    Err(Misuse::Wrong { message, hint: hint("", command), code: WRONG_OPERANDS })
}

/// How many operands a command needs and takes. A name like `CONTAINER [CONTAINER...]` says that its list is not empty.
fn bounds(info: &CommandInfoWithArgs) -> (usize, Option<usize>) {
    let mut bounds = (0, Some(0));
    for operand in info.positionals {
        match operand.optionality {
            Optionality::Required => bounds = (bounds.0 + 1, bounds.1.map(|most| most + 1)),
            Optionality::Optional => bounds.1 = bounds.1.map(|most| most + 1),
            Optionality::Repeating | Optionality::Greedy => {
                let always = operand.name.split('[').next().unwrap_or("");
                let needed = always.split_whitespace().count();
                bounds = (bounds.0 + needed, None);
            }
        }
    }
    bounds
}

/// argh's complaint about a value, in Docker's words.
pub fn complaint(info: &CommandInfoWithArgs, text: &str) -> Misuse {
    let text = text.trim_end();
    let parts = text
        .strip_prefix("Error parsing option '")
        .and_then(|rest| rest.split_once("' with value '"))
        .and_then(|(flag, rest)| Some((flag, rest.split_once("': ")?)));
    let message = match parts {
        Some((long, (value, why))) => {
            let short = info.flags.iter().find(|flag| flag.long == long).and_then(|flag| flag.short);
            let go = |why: &str| format!("strconv.ParseInt: parsing {value:?}: {why}");
            // As the standard library says it.
            let (go, ours) = match why {
                _ if why.starts_with("invalid digit") || why.contains("from empty string") => {
                    (go("invalid syntax"), "not a number")
                }
                _ if why.contains("to fit in target type") => (go("value out of range"), why),
                _ => (why.to_owned(), why),
            };
            invalid(value, long, short, face::words(&go, ours))
        }
        None => text.to_owned(),
    };
    wrong_value(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::{ArgsInfo, FromArgs};

    /// a command
    #[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
    #[argh(help_triggers("--help"))]
    struct Sample {
        /// interactive
        #[argh(switch, short = 'i')]
        interactive: bool,
        /// terminal
        #[argh(switch, short = 't')]
        tty: bool,
        /// remove
        #[argh(switch)]
        rm: bool,
        /// environment
        #[argh(option, short = 'e')]
        env: Vec<String>,
        /// host name
        #[argh(option, short = 'h')]
        hostname: Option<String>,
        /// proxy
        #[argh(option, arg_name = "bool")]
        sig_proxy: Option<bool>,
        /// number
        #[argh(option, short = 'n')]
        last: Option<i64>,
        #[argh(positional, arg_name = "IMAGE")]
        image: String,
        #[argh(positional, greedy, arg_name = "[COMMAND] [ARG...]")]
        command: Vec<String>,
    }

    fn read(line: &str, stops: bool) -> Result<Sample, Misuse> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let info = Sample::get_args_info();
        let plain = plain(&info, "dhow run", &args, stops)?;
        let words: Vec<&str> = plain.iter().map(String::as_str).collect();
        Sample::from_args(&["dhow run"], &words).map_err(|exit| complaint(&info, &exit.output))
    }

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_forms_that_people_write() {
        let it = Sample { interactive: true, tty: true, image: "x".into(), ..Default::default() };
        for line in ["-it x", "-i -t x", "--interactive --tty x", "-i=true -t=1 x", "-t --interactive=T x", "-it -- x"]
        {
            assert_eq!(read(line, true), Ok(Sample { ..clone(&it) }), "{line}");
        }
        for line in ["-itd x", "-itnope x"] {
            assert!(matches!(read(line, true), Err(Misuse::Wrong { code: 125, .. })), "{line}");
        }
        let table = [
            ("-eA=B x", words("A=B")),
            ("-e A=B x", words("A=B")),
            ("-e=A=B x", words("A=B")),
            ("--env=A=B --env C x", words("A=B C")),
            ("-ieA x", words("A")),
            ("-e -e x", words("-e")),
        ];
        for (line, env) in table {
            assert_eq!(read(line, true).unwrap().env, env, "{line}");
        }
    }

    fn clone(of: &Sample) -> Sample {
        Sample { interactive: of.interactive, tty: of.tty, image: of.image.clone(), ..Default::default() }
    }

    #[test]
    fn what_is_given_twice_or_denied() {
        assert!(!read("--rm=false x", true).unwrap().rm);
        assert!(!read("--rm --rm=false x", true).unwrap().rm);
        assert!(read("--rm=false --rm x", true).unwrap().rm);
        assert_eq!(read("--sig-proxy=false x", true).unwrap().sig_proxy, Some(false));
        assert_eq!(read("--sig-proxy x", true).unwrap().sig_proxy, Some(true));
        assert_eq!(read("-h a --hostname b x", true).unwrap().hostname, Some("b".into()));
        assert!(matches!(read("--rm=perhaps x", true), Err(Misuse::Wrong { code: 125, .. })));
    }

    #[test]
    fn flags_end_at_the_image_only_where_a_command_follows() {
        let stopped = read("-i x -t --env y help --help -- z", true).unwrap();
        assert_eq!(stopped.command, words("-t --env y help --help -- z"));
        assert!(stopped.interactive && !stopped.tty);
        let mixed = read("x -t y", false).unwrap();
        assert!(mixed.tty);
        assert_eq!(mixed.command, words("y"));
        assert_eq!(read("x -- -t", false).unwrap().command, words("-t"));
        assert_eq!(read("-", false).unwrap().image, "-");
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        let table = [
            ("--evn x", "unknown flag: --evn, did you mean --env? See 'dhow run --help'.", 125),
            ("--zzzzzz x", "unknown flag: --zzzzzz. See 'dhow run --help'.", 125),
            ("-z x", "unknown shorthand flag: 'z' in -z. See 'dhow run --help'.", 125),
            ("-tz x", "unknown shorthand flag: 'z' in -z. See 'dhow run --help'.", 125),
            ("--env", "flag needs an argument: --env", 125),
            ("-e", "flag needs an argument: 'e' in -e", 125),
            ("-i", "'dhow run' requires at least 1 argument. See 'dhow run --help'.", 1),
            ("-n no x", "invalid argument \"no\" for \"-n, --last\" flag: not a number", 125),
        ];
        for (line, words, expected) in table {
            let Err(Misuse::Wrong { message, hint, code }) = read(line, true) else { panic!("{line} is taken") };
            assert_eq!((message + &hint, code), (words.to_owned(), expected), "{line}");
        }
        assert_eq!(read("--help", true), Err(Misuse::Help));
        assert_eq!(read("-i --help x", true), Err(Misuse::Help));
    }
}
