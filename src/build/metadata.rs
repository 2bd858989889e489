//! What the instructions that touch no file say in the configuration of an image. Each gives the text that the image's
//! history remembers of it.

use super::dockerfile::Fault;
use super::dockerfile::instruction::{Command, Kind, Pair, Word};
use super::dockerfile::words::{Expanded, Lex, Lookup};
use crate::oci::image::{Empty, RunConfig};
use crate::order;

/// Expands words with the variables of the moment.
pub struct Words<'a> {
    pub lex: Lex,
    pub lookup: Lookup<'a>,
}

impl Words<'_> {
    pub fn expanded(&self, word: &Word) -> Result<Expanded, Fault> {
        self.lex.expand(&word.text, self.lookup).map_err(|message| Fault::new(word.place, message))
    }

    pub fn one(&self, word: &Word) -> Result<String, Fault> {
        Ok(self.expanded(word)?.text)
    }

    fn pair(&self, pair: &Pair) -> Result<(String, String), Fault> {
        Ok((self.one(&pair.name)?, self.one(&pair.value)?))
    }
}

/// The shell of Linux images that name none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The words that a command is run with.
pub fn argv(config: &RunConfig, command: &Command) -> Vec<String> {
    if !command.shell {
        return command.words.clone();
    }
    let shell = config.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).into());
    shell.into_iter().chain([command.words.join(" ")]).collect()
}

/// Carries out an instruction; `None` for one that is not of this kind. `cmd` tells whether this stage has named a
/// command of its own.
pub fn apply(config: &mut RunConfig, cmd: &mut bool, kind: &Kind, words: &Words) -> Result<Option<String>, Fault> {
    let quoted = |words: &[String]| {
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        words.join(" ")
    };
    Ok(Some(match kind {
        Kind::Cmd(command) => {
            let argv = argv(config, command);
            *cmd = true;
            let text = format!("CMD [{}]", quoted(&argv));
            config.cmd = Some(argv);
            text
        }
        Kind::Entrypoint(command) => {
            let argv = argv(config, command);
            if !*cmd {
                config.cmd = None;
            }
            let text = format!("ENTRYPOINT [{}]", quoted(&argv));
            config.entrypoint = (!argv.is_empty()).then_some(argv);
            text
        }
        Kind::Env(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|pair| Ok((words.pair(pair)?, pair.name.place))).collect::<Result<_, _>>()?;
            let mut text = "ENV".to_owned();
            for ((name, value), place) in pairs {
                if name.is_empty() {
                    return Err(Fault::new(place, "ENV names can not be blank"));
                }
                set(&mut config.env, &name, &value);
                text.push_str(&format!(" {name}={value}"));
            }
            text
        }
        Kind::Label(pairs) => {
            let mut text = "LABEL".to_owned();
            for pair in pairs {
                let (name, value) = words.pair(pair)?;
                if name.is_empty() {
                    return Err(Fault::new(pair.name.place, "LABEL names can not be blank"));
                }
                text.push_str(&format!(" {name}={value}"));
                config.labels.get_or_insert_default().insert(name, value);
            }
            text
        }
        Kind::Expose(list) => {
            let mut list: Vec<&Word> = list.iter().collect();
            order::by(&mut list, |a, b| a.text.cmp(&b.text));
            let mut all = Vec::new();
            for word in list {
                for port in words.expanded(word)?.words {
                    all.extend(ports(&port).map_err(|message| Fault::new(word.place, message))?);
                }
            }
            for port in &all {
                config.exposed_ports.get_or_insert_default().insert(port.clone(), Empty);
            }
            format!("EXPOSE [{}]", all.join(" "))
        }
        Kind::Volume(list) => {
            let mut all = Vec::new();
            for word in list {
                let path = words.one(word)?.trim().to_owned();
                if path.is_empty() {
                    return Err(Fault::new(word.place, "VOLUME specified can not be an empty string"));
                }
                config.volumes.get_or_insert_default().insert(path.clone(), Empty);
                all.push(path);
            }
            format!("VOLUME [{}]", all.join(" "))
        }
        Kind::User(word) => {
            config.user = words.one(word)?;
            format!("USER {}", config.user)
        }
        Kind::StopSignal(word) => {
            let signal = words.one(word)?;
            if crate::engine::signals::parse(&signal).is_err() {
                return Err(Fault::new(word.place, format!("Invalid signal: {signal}")));
            }
            config.stop_signal = signal;
            format!("STOPSIGNAL {}", config.stop_signal)
        }
        Kind::Workdir(word) => {
            config.working_dir = join(&config.working_dir, &words.one(word)?);
            format!("WORKDIR {}", config.working_dir)
        }
        Kind::Healthcheck(check) => {
            config.healthcheck = Some(check.clone());
            let times = [check.interval, check.timeout, check.start_period, check.start_interval].map(duration);
            // The number of tries is told as a character, by what Docker's own text is made with.
            format!(
                "HEALTHCHECK &{{[{}] {} {}}}",
                quoted(check.test.as_deref().unwrap_or_default()),
                quoted(&times),
                tries(check.retries)
            )
        }
        Kind::Shell(shell) => {
            config.shell = Some(shell.clone());
            format!("SHELL [{}]", shell.join(" "))
        }
        Kind::OnBuild(text) => {
            config.on_build.get_or_insert_default().push(text.clone());
            format!("ONBUILD {text}")
        }
        Kind::Add(_) | Kind::Arg(_) | Kind::Copy(_) | Kind::From(_) | Kind::Maintainer(_) | Kind::Run(_) => {
            return Ok(None);
        }
    }))
}

/// Sets a variable in a list of `name=value`.
pub fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|known| known.split('=').next() == Some(name)) {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
}

/// `30s`, `1m30s`, `500ms`
fn duration(nanos: i64) -> String {
    let tidy = |text: String| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if nanos != 0 && seconds == 0 {
        return format!("{}ms", tidy(format!("{}.{:06}", rest / 1_000_000, rest % 1_000_000)));
    }
    let last = format!("{}s", tidy(format!("{}.{rest:09}", seconds % 60)));
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => last,
        (0, minutes) => format!("{minutes}m{last}"),
        (hours, minutes) => format!("{hours}h{minutes}m{last}"),
    }
}

fn tries(count: i64) -> String {
    match u32::try_from(count).ok().and_then(char::from_u32).filter(|c| *c != '\0') {
        Some(c) if c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r') => format!("'\\x{count:02x}'"),
        Some(c) => format!("{c:?}"),
        None => r"'\x00'".to_owned(),
    }
}

/// `80`, `80/udp`, `8000-8010/tcp` as `80/tcp`, …. An address and a port of the host before it mean nothing here, but have
/// to be some.
pub fn ports(word: &str) -> Result<Vec<String>, String> {
    let mut parts = word.rsplitn(3, ':');
    let last = parts.next().unwrap_or_default();
    let (range, protocol) = last.split_once('/').unwrap_or((last, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if range.is_empty() {
        return Err(format!("invalid port: {word:?}: no port specified"));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid port: {word:?}: invalid proto: {protocol}"));
    }
    let Some((low, high)) = port_range(range) else { return Err(format!("invalid containerPort: {range}")) };
    if let Some(host) = parts.next().filter(|host| !host.is_empty()) {
        let Some((first, last)) = port_range(host) else { return Err(format!("invalid hostPort: {host}")) };
        if low != high && high - low != last - first {
            return Err(format!("invalid ranges specified for container and host Ports: {range} and {host}"));
        }
    }
    if let Some(address) = parts.next().filter(|address| !address.is_empty()) {
        let inner = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
        if inner.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address: {address}"));
        }
    }
    Ok((low..=high).map(|port| format!("{port}/{protocol}")).collect())
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some((low, high))
}

/// A path below another, without `.` and `..`; an absolute one stands for itself.
pub fn join(dir: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { dir };
    let joined = super::ignore::clean(&format!("{base}/{path}"));
    if joined == "." { "/".to_owned() } else { format!("/{joined}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::Dockerfile;
    use serde_json::json;

    fn config(text: &str) -> (RunConfig, Vec<String>) {
        let file = Dockerfile::parse("Dockerfile", format!("FROM scratch\n{text}").as_bytes()).unwrap();
        let (mut config, mut cmd, mut history) = (RunConfig::default(), false, Vec::new());
        for instruction in &file.stages[0].instructions {
            let env = config.env.clone();
            let lookup = |name: &str| {
                env.iter().find_map(|it| it.split_once('=').filter(|it| it.0 == name).map(|it| it.1.to_owned()))
            };
            let words = Words { lex: Lex::new('\\'), lookup: &lookup };
            history.extend(apply(&mut config, &mut cmd, &instruction.kind, &words).unwrap());
        }
        (config, history)
    }

    #[test]
    fn each_instruction_says_its_part() {
        for (text, expected, history) in [
            ("CMD a b", json!({"Cmd": ["/bin/sh", "-c", "a b"]}), r#"CMD ["/bin/sh" "-c" "a b"]"#),
            (
                "CMD a\nENTRYPOINT [\"b\"]",
                json!({"Cmd": ["/bin/sh", "-c", "a"], "Entrypoint": ["b"]}),
                r#"ENTRYPOINT ["b"]"#,
            ),
            (
                "SHELL [\"x\"]\nENTRYPOINT y",
                json!({"Shell": ["x"], "Entrypoint": ["x", "y"]}),
                r#"ENTRYPOINT ["x" "y"]"#,
            ),
            ("ENV a=1\nENV a=2 b=$a", json!({"Env": ["a=2", "b=1"]}), "ENV a=2 b=1"),
            ("LABEL a=1 \"b c\"='$d'", json!({"Labels": {"a": "1", "b c": "$d"}}), "LABEL a=1 b c=$d"),
            (
                "ENV P=90\nEXPOSE $P 80-81/udp",
                json!({"Env": ["P=90"], "ExposedPorts": {"80/udp": {}, "81/udp": {}, "90/tcp": {}}}),
                "EXPOSE [90/tcp 80/udp 81/udp]",
            ),
            (
                "EXPOSE 9 10 [::1]:80:8/ 1-2:7/UDP",
                json!({"ExposedPorts": {"10/tcp": {}, "7/udp": {}, "8/tcp": {}, "9/tcp": {}}}),
                "EXPOSE [7/udp 10/tcp 9/tcp 8/tcp]",
            ),
            ("VOLUME /a /b", json!({"Volumes": {"/a": {}, "/b": {}}}), "VOLUME [/a /b]"),
            ("WORKDIR /a\nWORKDIR b/../c", json!({"WorkingDir": "/a/c"}), "WORKDIR /a/c"),
            ("USER me", json!({"User": "me"}), "USER me"),
            ("STOPSIGNAL INT", json!({"StopSignal": "INT"}), "STOPSIGNAL INT"),
            (
                "HEALTHCHECK NONE",
                json!({"Healthcheck": {"Test": ["NONE"]}}),
                r#"HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" '\x00'}"#,
            ),
            (
                "HEALTHCHECK --interval=1h0m1.5s --timeout=1m --start-period=1.5ms --retries=3 CMD x y",
                json!({"Healthcheck": {
                    "Test": ["CMD-SHELL", "x y"], "Interval": 3_601_500_000_000i64, "Timeout": 60_000_000_000i64,
                    "StartPeriod": 1_500_000, "Retries": 3,
                }}),
                r#"HEALTHCHECK &{["CMD-SHELL" "x y"] "1h0m1.5s" "1m0s" "1.5ms" "0s" '\x03'}"#,
            ),
            ("ONBUILD RUN x", json!({"OnBuild": ["RUN x"]}), "ONBUILD RUN x"),
        ] {
            let (config, texts) = config(text);
            assert_eq!(serde_json::to_value(&config).unwrap(), expected, "{text}");
            assert_eq!(texts.last().map(String::as_str), Some(history));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_at_its_place() {
        for (text, message) in [
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 80/icmp", "invalid port: \"80/icmp\": invalid proto: icmp"),
            ("EXPOSE /tcp", "invalid port: \"/tcp\": no port specified"),
            ("EXPOSE 9-8", "invalid containerPort: 9-8"),
            ("EXPOSE a:80", "invalid hostPort: a"),
            ("EXPOSE a:1:80", "invalid IP address: a"),
            ("EXPOSE 1-3:1-2", "invalid ranges specified for container and host Ports: 1-2 and 1-3"),
            ("STOPSIGNAL NOPE", "Invalid signal: NOPE"),
            ("VOLUME $nothing", "VOLUME specified can not be an empty string"),
            ("ENV a=${b", "process \"${b\": syntax error: missing '}'"),
        ] {
            let file = Dockerfile::parse("Dockerfile", format!("FROM scratch\n{text}").as_bytes()).unwrap();
            let words = Words { lex: Lex::new('\\'), lookup: &|_| None };
            let kind = &file.stages[0].instructions[0].kind;
            let fault = apply(&mut RunConfig::default(), &mut false, kind, &words).unwrap_err();
            assert_eq!((fault.message.as_str(), fault.place.line), (message, 2), "{text}");
        }
    }
}
