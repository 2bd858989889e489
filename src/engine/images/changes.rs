//! `--change`: Dockerfile instructions that alter an image's config, as import and commit take them.

use crate::api::Refusal;
use crate::api::time::parse_duration;
use crate::oci::image::{Empty, Healthcheck, RunConfig};
use anyhow::{Result, bail};

/// Applies instructions in order. Errors are 400 and in Docker's words.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<()> {
    for line in lines(&changes.join("\n")) {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        one(config, &instruction.to_ascii_uppercase(), rest.trim())
            .map_err(|error| Refusal::BadParameter(error.to_string()))?;
    }
    Ok(())
}

/// Instructions, joined where a backslash ends a line; comments and empty lines are left out.
fn lines(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') {
            continue;
        }
        let last = lines.len() - 1;
        match trimmed.strip_suffix('\\') {
            Some(begun) => lines[last].push_str(begun),
            None => {
                lines[last].push_str(trimmed);
                lines.push(String::new());
            }
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

fn one(config: &mut RunConfig, instruction: &str, rest: &str) -> Result<()> {
    let takes = |at_least_one: bool| match rest.is_empty() {
        true if at_least_one => bail!("{instruction} requires at least one argument"),
        true => bail!("{instruction} requires exactly one argument"),
        false => Ok(()),
    };
    match instruction {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            takes(true)?;
            // All values see the variables as they were before the instruction.
            let before = config.env.clone();
            for (name, value) in pairs(instruction, rest)? {
                let name = expand(&name, &before)?;
                if name.is_empty() {
                    bail!("ENV names can not be blank");
                }
                let entry = format!("{name}={}", expand(&value, &before)?);
                match config.env.iter_mut().find(|known| known.split('=').next() == Some(&name)) {
                    Some(known) => *known = entry,
                    None => config.env.push(entry),
                }
            }
        }
        "LABEL" => {
            takes(true)?;
            for (name, value) in pairs(instruction, rest)? {
                let name = expand(&name, &config.env)?;
                if name.is_empty() {
                    bail!("LABEL names can not be blank");
                }
                config.labels.get_or_insert_default().insert(name, expand(&value, &config.env)?);
            }
        }
        "EXPOSE" => {
            takes(true)?;
            for word in words(&expand_words(rest, &config.env)?) {
                for port in ports(&word)? {
                    config.exposed_ports.get_or_insert_default().insert(port, Empty);
                }
            }
        }
        "VOLUME" => {
            takes(true)?;
            for path in json_words(rest).unwrap_or_else(|| words(rest)) {
                let path = expand(&path, &config.env)?.trim().to_owned();
                if path.is_empty() {
                    bail!("VOLUME specified can not be an empty string");
                }
                config.volumes.get_or_insert_default().insert(path, Empty);
            }
        }
        "USER" => {
            takes(false)?;
            config.user = expand(rest, &config.env)?;
        }
        "WORKDIR" => {
            takes(false)?;
            config.working_dir = join(&config.working_dir, &expand(rest, &config.env)?);
        }
        "STOPSIGNAL" => {
            takes(false)?;
            config.stop_signal = expand(rest, &config.env)?;
        }
        "ONBUILD" => {
            takes(true)?;
            let trigger = words(rest).first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
            match trigger.as_str() {
                "ONBUILD" => bail!("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
                "MAINTAINER" | "FROM" => bail!("{trigger} isn't allowed as an ONBUILD trigger"),
                _ => config.on_build.get_or_insert_default().push(rest.to_owned()),
            }
        }
        "HEALTHCHECK" => {
            takes(true)?;
            config.healthcheck = Some(healthcheck(rest)?);
        }
        _ => bail!("{instruction} is not a valid change command"),
    }
    Ok(())
}

/// A JSON list of words as it stands; anything else is for the shell.
fn command(rest: &str) -> Vec<String> {
    json_words(rest).unwrap_or_else(|| match rest {
        "" => Vec::new(),
        line => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()],
    })
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_slice(text.as_bytes()).ok().filter(|_| text.starts_with('['))
}

/// Words as they stand, with their quotes: white space inside quotes or after a backslash does not part them.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.push(String::new());
            continue;
        }
        let last = words.len() - 1;
        words[last].push(c);
        match (c, quote) {
            ('\\', None | Some('"')) => words[last].extend(chars.next()),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `a=b "c d"=e`, or the old form `name the rest of the line`. Quotes are still there.
fn pairs(instruction: &str, rest: &str) -> Result<Vec<(String, String)>> {
    let words = words(rest);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            bail!("{instruction} must have two arguments");
        };
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => bail!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"),
    };
    words.iter().map(pair).collect()
}

/// Expands variables and leaves quotes where they are parted by white space only.
fn expand_words(text: &str, env: &[String]) -> Result<String> {
    let expanded: Vec<String> = words(text).iter().map(|word| expand(word, env)).collect::<Result<_>>()?;
    Ok(expanded.join(" "))
}

/// Takes quotes away and puts values in for `$name`, `${name}`, `${name:-word}` and `${name:+word}`, as a shell would;
/// what is not set is empty.
fn expand(text: &str, env: &[String]) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match c {
            '\'' if !quoted => {
                let Some(end) = after.find('\'') else {
                    bail!("unexpected end of statement while looking for matching single-quote")
                };
                out.push_str(&after[..end]);
                rest = &after[end + 1..];
                continue;
            }
            '"' => quoted = !quoted,
            '\\' => {
                let next = after.chars().next();
                // Inside quotes a backslash escapes these only.
                if quoted && !matches!(next, Some('"' | '$' | '\\')) {
                    out.push('\\');
                } else {
                    out.extend(next);
                    rest = &after[next.map_or(0, char::len_utf8)..];
                    continue;
                }
            }
            '$' => {
                let (value, left) = variable(after, env)?;
                out.push_str(&value);
                rest = left;
                continue;
            }
            c => out.push(c),
        }
        rest = after;
    }
    if quoted {
        bail!("unexpected end of statement while looking for matching double-quote");
    }
    Ok(out)
}

/// The value of the variable whose name follows a dollar, and what follows it.
fn variable<'a>(text: &'a str, env: &[String]) -> Result<(String, &'a str)> {
    let get = |name: &str| {
        env.iter().find_map(|entry| entry.split_once('=').filter(|(known, _)| *known == name)).map(|(_, value)| value)
    };
    let word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(inner) = text.strip_prefix('{') else {
        let (name, left) = text.split_at(word(text));
        // A dollar before anything else is a dollar.
        return Ok(if name.is_empty() {
            ("$".to_owned(), left)
        } else {
            (get(name).unwrap_or_default().to_owned(), left)
        });
    };
    let Some(end) = closing(inner) else { bail!("syntax error: missing '}}'") };
    let (name, modifier) = inner[..end].split_at(word(&inner[..end]));
    let set = get(name).filter(|value| !value.is_empty());
    let value = match (name, modifier) {
        ("", _) => bail!("syntax error: bad substitution"),
        (_, "") => set.unwrap_or_default().to_owned(),
        (_, modifier) => match (modifier.strip_prefix(":-"), modifier.strip_prefix(":+")) {
            (Some(default), _) => set.map_or_else(|| expand(default, env), |value| Ok(value.to_owned()))?,
            (_, Some(other)) => {
                if set.is_some() {
                    expand(other, env)?
                } else {
                    String::new()
                }
            }
            _ => bail!("unsupported modifier ({modifier}) in substitution"),
        },
    };
    Ok((value, &inner[end + 1..]))
}

/// Where the brace that was opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `80`, `80/udp`, `8000-8010/tcp` as `80/tcp`, ….
fn ports(word: &str) -> Result<Vec<String>> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        bail!("invalid proto: {protocol}");
    }
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    match (low.parse::<u16>(), high.parse::<u16>()) {
        (Ok(low), Ok(high)) if low <= high => Ok((low..=high).map(|port| format!("{port}/{protocol}")).collect()),
        _ => bail!("invalid containerPort: {range}"),
    }
}

/// A path below another, without `.` and `..`; an absolute one stands for itself.
fn join(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { dir };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn healthcheck(rest: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        rest = after.trim_start();
        let Some((name, value)) = flag.split_once('=') else { bail!("Missing a value on flag: {flag}") };
        let slot = match name {
            "interval" => &mut check.interval,
            "timeout" => &mut check.timeout,
            "start-period" => &mut check.start_period,
            "start-interval" => &mut check.start_interval,
            "retries" => {
                check.retries = match value.parse() {
                    Ok(retries) if retries >= 0 => retries,
                    _ => bail!("--retries cannot be {value:?}: it is a number of 0 or more"),
                };
                continue;
            }
            _ => bail!("Unknown flag: {name}"),
        };
        *slot = match parse_duration(value) {
            Some(time) if time == 0 || time >= 1_000_000 => time,
            Some(_) => bail!("{name:?} cannot be less than 1ms"),
            None => bail!("time: invalid duration {value:?}"),
        };
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    check.test = Some(match (kind.to_ascii_uppercase().as_str(), command) {
        ("NONE", "") if check == Healthcheck::default() => vec!["NONE".to_owned()],
        ("NONE", _) => bail!("HEALTHCHECK NONE takes no arguments"),
        ("CMD", "") => bail!("Missing command after HEALTHCHECK CMD"),
        ("CMD", line) => match json_words(line) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        _ => bail!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"),
    });
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn config(changes: &[&str]) -> Value {
        let mut config = RunConfig::default();
        apply(&mut config, &changes.iter().map(|change| change.to_string()).collect::<Vec<_>>()).unwrap();
        serde_json::to_value(config).unwrap()
    }

    #[test]
    fn each_instruction() {
        for (changes, expected) in [
            (vec![r#"CMD ["a", "b c"]"#], json!({"Cmd": ["a", "b c"]})),
            (vec!["cmd a b"], json!({"Cmd": ["/bin/sh", "-c", "a b"]})),
            (vec!["CMD [a"], json!({"Cmd": ["/bin/sh", "-c", "[a"]})),
            (vec!["ENTRYPOINT []"], json!({"Entrypoint": []})),
            (vec!["ENV a=b c=\"d e\" f='$a' g=h\\ i"], json!({"Env": ["a=b", "c=d e", "f=$a", "g=h i"]})),
            (vec!["ENV a b c"], json!({"Env": ["a=b c"]})),
            (vec!["ENV a=1", "ENV a=2 b=$a", "ENV c=${a}x"], json!({"Env": ["a=2", "b=1", "c=2x"]})),
            (vec!["ENV a=${x:-y} b=${x:+y} c=$x. d=$"], json!({"Env": ["a=y", "b=", "c=.", "d=$"]})),
            (vec!["LABEL a=b \"c d\"=\"e f\""], json!({"Labels": {"a": "b", "c d": "e f"}})),
            (
                vec!["EXPOSE 80 53/udp 90-91"],
                json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}}),
            ),
            (vec!["VOLUME /a /b", r#"VOLUME ["/c d"]"#], json!({"Volumes": {"/a": {}, "/b": {}, "/c d": {}}})),
            (vec!["WORKDIR /a/b", "WORKDIR ../c"], json!({"WorkingDir": "/a/c"})),
            (vec!["WORKDIR x"], json!({"WorkingDir": "/x"})),
            (vec!["USER me:us", "STOPSIGNAL SIGQUIT"], json!({"User": "me:us", "StopSignal": "SIGQUIT"})),
            (vec!["ONBUILD RUN a"], json!({"OnBuild": ["RUN a"]})),
            (vec!["HEALTHCHECK NONE"], json!({"Healthcheck": {"Test": ["NONE"]}})),
            (
                vec!["HEALTHCHECK --interval=5s --retries=3 CMD a || b"],
                json!({"Healthcheck": {"Test": ["CMD-SHELL", "a || b"], "Interval": 5_000_000_000i64, "Retries": 3}}),
            ),
            (vec![r#"HEALTHCHECK CMD ["a"]"#], json!({"Healthcheck": {"Test": ["CMD", "a"]}})),
            (vec!["ENV a=1\n# no\nUSER \\\n x"], json!({"Env": ["a=1"], "User": "x"})),
            (vec![""], json!({})),
        ] {
            assert_eq!(config(&changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (change, words) in [
            ("RUN true", "RUN is not a valid change command"),
            ("FOO", "FOO is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV a", "ENV must have two arguments"),
            ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
            ("ENV =b", "ENV names can not be blank"),
            ("ENV a=\"b", "unexpected end of statement while looking for matching double-quote"),
            ("ENV a=${b", "syntax error: missing '}'"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 80/icmp", "invalid proto: icmp"),
            ("EXPOSE 90-80", "invalid containerPort: 90-80"),
            ("USER", "USER requires exactly one argument"),
            ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("HEALTHCHECK --interval=1ns CMD x", "\"interval\" cannot be less than 1ms"),
            ("HEALTHCHECK --what=1 CMD x", "Unknown flag: what"),
        ] {
            let error = apply(&mut RunConfig::default(), &[change.to_owned()]).unwrap_err();
            assert_eq!(error.to_string(), words, "{change}");
            assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(400));
        }
    }
}
