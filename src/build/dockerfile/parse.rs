//! One logical line → one instruction: keyword, flags, arguments, in the form that each instruction takes them.

use super::device::Device;
use super::flags::{Flags, Form};
use super::instruction::{Arg, Command, From, Instruction, Kind, Pair, Run, RunNetwork, Transfer, Word};
use super::lines::{Line, heredoc, is_blank};
use super::mount::Mount;
use super::source::Fault;
use crate::api::time::parse_duration;
use crate::json;
use crate::oci::image::Healthcheck;
use serde_json::Value;

pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

const HEALTH_FLAGS: [(&str, Form); 5] = [
    ("interval", Form::Text),
    ("timeout", Form::Text),
    ("start-period", Form::Text),
    ("start-interval", Form::Text),
    ("retries", Form::Text),
];

/// Reads a line. `escape` is the file's.
pub fn instruction(line: &Line, escape: char) -> Result<Instruction, Fault> {
    let (keyword, flags, at) = split(&line.text, escape);
    let name = keyword.to_ascii_uppercase();
    let request = Request { line, name: &name, flags: &flags, escape, at, rest: line.text[at..].trim_end() };
    let kind = match name.as_str() {
        "ADD" => request.add()?,
        "ARG" => request.arg()?,
        "CMD" => Kind::Cmd(request.command_only()?),
        "COPY" => request.copy()?,
        "ENTRYPOINT" => Kind::Entrypoint(request.command_only()?),
        "ENV" => Kind::Env(request.pairs()?),
        "EXPOSE" => Kind::Expose(request.many(request.plain_words())?),
        "FROM" => request.from()?,
        "HEALTHCHECK" => request.healthcheck()?,
        "LABEL" => Kind::Label(request.pairs()?),
        "MAINTAINER" => Kind::Maintainer(request.one()?.text),
        "ONBUILD" => request.on_build()?,
        "RUN" => request.run()?,
        "SHELL" => request.shell()?,
        "STOPSIGNAL" => Kind::StopSignal(request.whole()?),
        "USER" => Kind::User(request.one()?),
        "VOLUME" => request.volume()?,
        "WORKDIR" => Kind::Workdir(request.one()?),
        _ => {
            let mut known = super::suggest(&name, KEYWORDS);
            if name != keyword {
                known.make_ascii_lowercase();
            }
            return Err(line.fault(0, format!("unknown instruction: {keyword}{known}")));
        }
    };
    Ok(Instruction {
        place: line.place(0),
        last: line.last,
        keyword: keyword.to_owned(),
        text: line.text.clone(),
        has_empty: line.has_empty,
        comments: line.comments.clone(),
        kind,
    })
}

/// The keyword, the flags with their places, and where the arguments begin.
fn split(text: &str, escape: char) -> (&str, Vec<(String, usize)>, usize) {
    let end = text.find(is_blank).unwrap_or(text.len());
    let (keyword, mut at) = (&text[..end], end);
    let mut flags = Vec::new();
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (keyword, flags, at);
        }
        let start = at;
        let mut flag = String::new();
        let mut quote = None;
        let mut chars = text[at..].char_indices();
        at = text.len();
        while let Some((offset, c)) = chars.next() {
            match c {
                c if quote.is_none() && c.is_whitespace() => {
                    at = start + offset;
                    break;
                }
                c if c == escape => flag.extend(chars.next().map(|(_, c)| c)),
                '\'' | '"' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                c => flag.push(c),
            }
        }
        // Whatever stands behind two dashes alone is no flag.
        if flag == "--" {
            at += text[at..].len() - text[at..].trim_start().len();
            return (keyword, flags, at);
        }
        flags.push((flag, start));
    }
}

struct Request<'a> {
    line: &'a Line,
    name: &'a str,
    flags: &'a [(String, usize)],
    escape: char,
    /// Where the arguments begin, and the arguments.
    at: usize,
    rest: &'a str,
}

/// What a JSON list in place of arguments turned out to be.
enum Json {
    Words(Vec<String>),
    /// Something else, so that the text is meant as it stands.
    No,
}

impl Request<'_> {
    fn fault<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err(self.line.fault(at, message))
    }

    fn flags(&self, known: &[(&'static str, Form)]) -> Result<Flags, Fault> {
        Flags::read(self.line, self.flags, known)
    }

    fn word(&self, text: &str, at: usize) -> Word {
        Word { text: text.to_owned(), place: self.line.place(at) }
    }

    fn needs_one<T>(&self) -> Result<T, Fault> {
        self.fault(0, format!("{} requires at least one argument", self.name))
    }

    /// Everything behind the keyword as one word.
    fn one(&self) -> Result<Word, Fault> {
        self.flags(&[])?;
        self.whole()
    }

    /// The same, whatever flags there are: those of STOPSIGNAL, and of ARG, mean nothing to BuildKit and are no mistake.
    fn whole(&self) -> Result<Word, Fault> {
        match self.rest {
            "" => self.fault(0, format!("{} requires exactly one argument", self.name)),
            rest => Ok(self.word(rest, self.at)),
        }
    }

    fn many(&self, words: Vec<Word>) -> Result<Vec<Word>, Fault> {
        self.flags(&[])?;
        if words.is_empty() { self.needs_one() } else { Ok(words) }
    }

    /// Arguments parted at white space, whatever quotes say.
    fn plain_words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut at = self.at;
        for piece in self.rest.split(is_blank) {
            if !piece.is_empty() {
                words.push(self.word(piece, at));
            }
            // All of these are one byte.
            at += piece.len() + 1;
        }
        words
    }

    /// Arguments parted at white space outside of quotes, which stay.
    fn quoted_words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut word = String::new();
        let (mut start, mut quote) = (None, None);
        let mut chars = self.rest.char_indices();
        while let Some((offset, c)) = chars.next() {
            if quote.is_none() && c.is_whitespace() {
                if let Some(start) = start.take() {
                    words.push(self.word(&std::mem::take(&mut word), start));
                }
                continue;
            }
            start.get_or_insert(self.at + offset);
            match c {
                c if c == self.escape && quote != Some('\'') => {
                    // One at the end escapes nothing.
                    let Some((_, next)) = chars.next() else { break };
                    word.extend([c, next]);
                    continue;
                }
                '\'' | '"' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                _ => {}
            }
            word.push(c);
        }
        if let Some(start) = start
            && !word.is_empty()
        {
            words.push(self.word(&word, start));
        }
        words
    }

    fn json(&self, text: &str) -> Result<Json, Fault> {
        if !text.starts_with('[') {
            return Ok(Json::No);
        }
        let Ok(values) = json::from_str::<Vec<Value>>(text) else { return Ok(Json::No) };
        let mut words = Vec::with_capacity(values.len());
        for value in values {
            let Value::String(word) = value else {
                let message = "when using JSON array syntax, arrays must be comprised of strings only";
                return self.fault(self.at, message);
            };
            words.push(word);
        }
        Ok(Json::Words(words))
    }

    fn command(&self, text: &str) -> Result<Command, Fault> {
        Ok(match self.json(text)? {
            Json::Words(words) => Command { words, shell: false },
            Json::No if text.is_empty() => Command { words: Vec::new(), shell: true },
            Json::No => Command { words: vec![text.to_owned()], shell: true },
        })
    }

    fn command_only(&self) -> Result<Command, Fault> {
        self.flags(&[])?;
        self.command(self.rest)
    }

    /// A list of JSON, or plain words.
    fn list(&self) -> Result<Vec<Word>, Fault> {
        Ok(match self.json(self.rest)? {
            Json::Words(words) => words.iter().map(|word| self.word(word, self.at)).collect(),
            Json::No => self.plain_words(),
        })
    }

    fn arg(&self) -> Result<Kind, Fault> {
        let mut args = Vec::new();
        for word in self.quoted_words() {
            args.push(match word.text.split_once('=') {
                Some(("", _)) => return Err(Fault::new(word.place, "ARG names can not be blank")),
                Some((name, default)) => {
                    let default = Some(Word { text: default.to_owned(), place: word.place });
                    Arg { name: name.to_owned(), default, place: word.place }
                }
                None => Arg { name: word.text, default: None, place: word.place },
            });
        }
        if args.is_empty() { self.needs_one() } else { Ok(Kind::Arg(args)) }
    }

    /// `a=b c=d`, or `a the rest`.
    fn pairs(&self) -> Result<Vec<Pair>, Fault> {
        self.flags(&[])?;
        let words = self.quoted_words();
        let Some(first) = words.first() else { return self.needs_one() };
        if !first.text.contains('=') {
            let Some((name, value)) = self.rest.split_once(is_blank) else {
                return self.fault(self.at, format!("{} must have two arguments", self.name));
            };
            let value = value.trim_start_matches(is_blank);
            let at = self.at + self.rest.len() - value.len();
            return Ok(vec![Pair { name: self.word(name, self.at), value: self.word(value, at), old: true }]);
        }
        let mut pairs = Vec::new();
        for word in words {
            let place = word.place;
            let Some((name, value)) = word.text.split_once('=') else {
                let message =
                    format!("Syntax error - can't find = in {:?}. Must be of the form: name=value", word.text);
                return Err(Fault::new(place, message));
            };
            if name.is_empty() {
                return Err(Fault::new(place, format!("{} names can not be blank", self.name)));
            }
            let part = |text: &str| Word { text: text.to_owned(), place };
            pairs.push(Pair { name: part(name), value: part(value), old: false });
        }
        Ok(pairs)
    }

    fn from(&self) -> Result<Kind, Fault> {
        let flags = self.flags(&[("platform", Form::Text)])?;
        let words = self.plain_words();
        let name = match words.as_slice() {
            [_] => None,
            [_, r#as, name] if r#as.text.eq_ignore_ascii_case("as") => {
                let lower = name.text.to_ascii_lowercase();
                let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
                if !lower.starts_with(|c: char| c.is_ascii_lowercase()) || !lower.chars().all(valid) {
                    let message = format!(
                        "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                        name.text
                    );
                    return Err(Fault::new(name.place, message));
                }
                Some(lower)
            }
            _ => return self.fault(self.at, "FROM requires either one or three arguments"),
        };
        let image = words[0].clone();
        let words = words.into_iter().map(|word| word.text).collect();
        Ok(Kind::From(From { image, platform: flags.text("platform"), name, words }))
    }

    fn transfer(&self, flags: Flags) -> Result<Transfer, Fault> {
        let mut words = self.list()?;
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            let message = format!(
                "{} requires at least two arguments, but only one was provided. Destination could not be determined",
                self.name
            );
            return self.fault(self.at, message);
        };
        if heredoc(&destination.text).is_some() {
            let message = format!("{} cannot accept a heredoc as a destination", self.name);
            return Err(Fault::new(destination.place, message));
        }
        let (mut sources, mut heredocs) = (Vec::new(), Vec::new());
        for word in words {
            match heredoc(&word.text) {
                Some(named) => {
                    let Some(taken) = self.line.heredocs.iter().find(|known| known.name == named.name) else {
                        return Err(Fault::new(word.place, format!("no here-document {:?} follows", named.name)));
                    };
                    heredocs.push(taken.clone());
                }
                None => sources.push(word),
            }
        }
        Ok(Transfer {
            sources,
            heredocs,
            destination,
            from: flags.text("from"),
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.bool("link").unwrap_or(false),
            parents: flags.bool("parents").unwrap_or(false),
            exclude: flags.list("exclude"),
            checksum: flags.text("checksum"),
            unpack: flags.bool("unpack"),
            keep_git_dir: flags.bool("keep-git-dir"),
        })
    }

    fn copy(&self) -> Result<Kind, Fault> {
        let flags = self.flags(&[
            ("from", Form::Text),
            ("chown", Form::Text),
            ("chmod", Form::Text),
            ("link", Form::Bool),
            ("parents", Form::Bool),
            ("exclude", Form::List),
        ])?;
        let transfer = self.transfer(flags)?;
        if let Some(from) = &transfer.from
            && from.text.contains('$')
        {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
            return Err(Fault::new(from.place, message));
        }
        Ok(Kind::Copy(transfer))
    }

    fn add(&self) -> Result<Kind, Fault> {
        let flags = self.flags(&[
            ("chown", Form::Text),
            ("chmod", Form::Text),
            ("link", Form::Bool),
            ("keep-git-dir", Form::Bool),
            ("checksum", Form::Text),
            ("unpack", Form::Bool),
            ("exclude", Form::List),
        ])?;
        Ok(Kind::Add(self.transfer(flags)?))
    }

    fn run(&self) -> Result<Kind, Fault> {
        let flags = self.flags(&[
            ("mount", Form::List),
            ("network", Form::Text),
            ("security", Form::Text),
            ("device", Form::List),
        ])?;
        let mounts = flags.list("mount");
        for mount in &mounts {
            let fault = |message| Fault::new(mount.place, message);
            Mount::from_of(&mount.text).map_err(fault)?;
            // With variables in it, it is read when they are known.
            if !mount.text.contains('$') {
                Mount::parse(&mount.text, &mut |value| Ok(value.to_owned())).map_err(fault)?;
            }
        }
        let device = |word: &Word| Device::parse(&word.text).map_err(|message| Fault::new(word.place, message));
        let devices = flags.list("device").iter().map(device).collect::<Result<_, _>>()?;
        let network = match flags.given("network") {
            None => RunNetwork::Default,
            Some(word) => match word.text.as_str() {
                "default" => RunNetwork::Default,
                "none" => RunNetwork::None,
                "host" => RunNetwork::Host,
                other => return Err(Fault::new(word.place, format!("invalid network mode {other:?}"))),
            },
        };
        let insecure = match flags.given("security") {
            None => false,
            Some(word) => match word.text.as_str() {
                "sandbox" => false,
                "insecure" => true,
                other => return Err(Fault::new(word.place, format!("security {other:?} is not valid"))),
            },
        };
        let command = self.command(self.rest)?;
        // The shell is content with nothing.
        if command.words.is_empty() && !command.shell {
            return self.fault(0, "RUN requires at least one argument");
        }
        let heredocs = self.line.heredocs.clone();
        Ok(Kind::Run(Run { command, heredocs, mounts, network, insecure, devices }))
    }

    fn shell(&self) -> Result<Kind, Fault> {
        self.flags(&[])?;
        match self.json(self.rest)? {
            Json::Words(words) if words.is_empty() => self.needs_one(),
            Json::Words(words) => Ok(Kind::Shell(words)),
            Json::No if self.rest.is_empty() => self.needs_one(),
            Json::No => self.fault(self.at, "SHELL requires the arguments to be in JSON form"),
        }
    }

    fn volume(&self) -> Result<Kind, Fault> {
        let paths = self.many(self.list()?)?;
        if let Some(empty) = paths.iter().find(|word| word.text.trim().is_empty()) {
            return Err(Fault::new(empty.place, "VOLUME specified can not be an empty string"));
        }
        Ok(Kind::Volume(paths))
    }

    fn healthcheck(&self) -> Result<Kind, Fault> {
        let (kind, command) = self.rest.split_once(char::is_whitespace).unwrap_or((self.rest, ""));
        let command = command.trim_start();
        let mut check = Healthcheck::default();
        match kind.to_ascii_uppercase().as_str() {
            "" => return self.needs_one(),
            "NONE" => {
                self.flags(&HEALTH_FLAGS)?;
                if !command.is_empty() {
                    return self.fault(self.at, "HEALTHCHECK NONE takes no arguments");
                }
                check.test = Some(vec!["NONE".to_owned()]);
                return Ok(Kind::Healthcheck(check));
            }
            "CMD" => {
                let words = self.command(command)?;
                if words.words.is_empty() {
                    return self.fault(self.at, "Missing command after HEALTHCHECK CMD");
                }
                let kind = if words.shell { "CMD-SHELL" } else { "CMD" };
                check.test = Some(std::iter::once(kind.to_owned()).chain(words.words).collect());
            }
            kind => return self.fault(self.at, format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
        }
        let flags = self.flags(&HEALTH_FLAGS)?;
        for (name, slot) in [
            ("interval", &mut check.interval),
            ("timeout", &mut check.timeout),
            ("start-period", &mut check.start_period),
            ("start-interval", &mut check.start_interval),
        ] {
            let Some(word) = flags.text(name) else { continue };
            *slot = match parse_duration(&word.text) {
                Some(time) if time == 0 || time >= 1_000_000 => time,
                Some(_) => return Err(Fault::new(word.place, format!("Interval {name:?} cannot be less than 1ms"))),
                None => return Err(Fault::new(word.place, format!("time: invalid duration {:?}", word.text))),
            };
        }
        if let Some(word) = flags.text("retries") {
            check.retries = match word.text.parse::<i32>() {
                Ok(count) if count >= 0 => count.into(),
                Ok(count) => return Err(Fault::new(word.place, format!("--retries cannot be negative ({count})"))),
                Err(_) => {
                    let message = format!("--retries cannot be {:?}: it is a number", word.text);
                    return Err(Fault::new(word.place, message));
                }
            };
        }
        Ok(Kind::Healthcheck(check))
    }

    fn on_build(&self) -> Result<Kind, Fault> {
        self.flags(&[])?;
        if self.rest.is_empty() {
            return self.needs_one();
        }
        let keyword = self.rest.split(is_blank).next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "ONBUILD" => return self.fault(self.at, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
            "MAINTAINER" | "FROM" => {
                return self.fault(self.at, format!("{keyword} isn't allowed as an ONBUILD trigger"));
            }
            _ => {}
        }
        // What is wrong with it is said to who builds on the image, as by BuildKit.
        let mut text = self.line.text[self.at..].to_owned();
        for heredoc in &self.line.heredocs {
            text = format!("{text}\n{}{}", heredoc.content, heredoc.name);
        }
        Ok(Kind::OnBuild(text))
    }
}
