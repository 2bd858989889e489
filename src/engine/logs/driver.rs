//! The log driver's options: `--log-driver json-file|local|none` and `--log-opt`. The driver `local` is what Docker writes in
//! a format of its own, with a bound by default: here it is written as json-file is.

use super::super::pattern::Pattern;
use super::super::record::Record;
use crate::api::Refusal;
use crate::api::types::LogConfig;
use crate::api::units;
use crate::api::units::parse_bool;
use crate::order::Map;
use anyhow::{Context, Result};

/// How a container's log is written.
#[derive(Clone, Debug, PartialEq)]
pub struct LogOptions {
    /// Bytes after which the file is rotated; 0 is never.
    pub max_size: u64,
    /// How many files are kept, with the one that is written to; at least 1.
    pub max_file: u64,
    /// What was rotated away is compressed.
    pub compress: bool,
    /// A JSON object that every entry carries, or empty.
    pub attrs: String,
}

/// Refuses a driver or an option that is not there, and a value that is none, with 400 and Docker's words.
pub fn check(config: &LogConfig) -> Result<()> {
    read(config).map(drop).map_err(|why| anyhow::Error::new(Refusal::BadParameter(why)))
}

/// The options of a container's log; nothing with the driver `none`.
pub fn options(record: &Record) -> Result<Option<LogOptions>> {
    let config = &record.host_config.log_config;
    let sizes = read(config).map_err(anyhow::Error::msg).context("read the options of the log")?;
    Ok(sizes.map(|(max_size, max_file, compress)| {
        let attributes = attributes(record, config.config.as_ref().unwrap_or(&Map::new()));
        let attrs = if attributes.is_empty() { String::new() } else { serde_json::json!(attributes).to_string() };
        LogOptions { max_size, max_file, compress, attrs }
    }))
}

/// The size and the number of files, and whether they are compressed.
fn read(config: &LogConfig) -> Result<Option<(u64, u64, bool)>, String> {
    // Sizes of json-file count by thousands, those of local by 1024.
    type Size = fn(&str) -> Result<i64, String>;
    let (is_local, usual, size): (bool, (u64, u64, bool), Size) = match config.r#type.as_str() {
        "none" => return Ok(None),
        "" | "json-file" => (false, (0, 1, false), units::parse_decimal),
        "local" => (true, (20 * 1024 * 1024, 5, true), units::parse_binary),
        other => return Err(format!("logger: no log driver named '{other}' is registered")),
    };
    let nothing = Map::new();
    let options = config.config.as_ref().unwrap_or(&nothing);
    let option = |key: &str| options.get(key).map(String::as_str);
    match option("mode") {
        None | Some("" | "blocking" | "non-blocking") => {}
        Some(mode) => return Err(format!("logger: logging mode not supported: {mode}")),
    }
    if let Some(size) = option("max-buffer-size") {
        if option("mode") != Some("non-blocking") {
            return Err("logger: max-buffer-size option is only supported with 'mode=non-blocking'".into());
        }
        units::parse_binary(size).map_err(|why| format!("error parsing option max-buffer-size: {why}"))?;
    }
    const KNOWN: &[&str] = &[
        "compress",
        "env",
        "env-regex",
        "labels",
        "labels-regex",
        "max-buffer-size",
        "max-file",
        "max-size",
        "mode",
        "tag",
    ];
    if let Some(key) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(match is_local {
            true => format!("unknown log opt '{key}' for log driver local"),
            false => format!("unknown log opt '{key}' for json-file log driver"),
        });
    }
    let max_size = match option("max-size") {
        None => usual.0,
        Some("-1") => 0,
        Some(text) => match size(text)? {
            ..=0 => return Err("max-size must be a positive number".into()),
            size => size as u64,
        },
    };
    let max_file = match option("max-file") {
        None => usual.1,
        Some(count) => match count.parse::<i64>() {
            Ok(..=0) => return Err("max-file cannot be less than 1".into()),
            Ok(count) => count as u64,
            Err(_) => return Err(format!("max-file is not a number: {count}")),
        },
    };
    let compress = match option("compress") {
        None => usual.2,
        Some(word) => match parse_bool(word) {
            Some(compress) => compress,
            None => return Err(format!("log opt compress is neither true nor false: {word}")),
        },
    };
    // What is never rotated cannot be compressed.
    if compress && is_local && max_file < 2 {
        return Err("compression cannot be enabled when max file count is 1".into());
    }
    if compress && !is_local && (max_file < 2 || max_size == 0) {
        return Err("compress cannot be true when max-file is less than 2 or max-size is not set".into());
    }
    for key in ["labels-regex", "env-regex"] {
        if let Some(expression) = option(key).filter(|expression| Pattern::read(expression).is_none()) {
            return Err(format!("log opt {key} is no regular expression: {expression}"));
        }
    }
    if let Some(tag) = option("tag") {
        tag_of(tag, &|_| String::new())?;
    }
    Ok(Some((max_size, max_file, compress)))
}

/// What `labels`, `env` and `tag` ask for.
fn attributes(record: &Record, options: &Map<String, String>) -> Map<String, String> {
    let nothing = Map::new();
    let labels = record.config.labels.as_ref().unwrap_or(&nothing);
    let env = record.config.env.iter().flatten().filter_map(|entry| entry.split_once('='));
    let env = Map::from_iter(env.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut found = Map::new();
    for (from, names, expression) in [(labels, "labels", "labels-regex"), (&env, "env", "env-regex")] {
        let names: Vec<&str> = options.get(names).map(|names| names.split(',').collect()).unwrap_or_default();
        let expression = options.get(expression).filter(|text| !text.is_empty()).and_then(|text| Pattern::read(text));
        let wanted = |key: &&String| names.contains(&key.as_str()) || expression.as_ref().is_some_and(|e| e.is_in(key));
        found.extend(from.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.clone(), value.clone())));
    }
    let value = |field: &str| match field {
        "ID" => record.id.chars().take(12).collect(),
        "FullID" => record.id.clone(),
        "Name" => record.name.clone(),
        "Command" => record.argv().join(" "),
        "ImageID" => record.image.trim_start_matches("sha256:").chars().take(12).collect(),
        "ImageFullID" => record.image.clone(),
        "ImageName" => record.config.image.clone(),
        "DaemonName" => "docker".into(),
        _ => nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
    };
    // It was checked at create.
    if let Some(Ok(tag)) = options.get("tag").map(|tag| tag_of(tag, &value))
        && !tag.is_empty()
    {
        found.insert("tag".into(), tag);
    }
    found
}

/// A tag with its `{{.Name}}` and other fields filled in.
fn tag_of(template: &str, value: &dyn Fn(&str) -> String) -> Result<String, String> {
    const FIELDS: &[&str] =
        &["ID", "FullID", "Name", "Command", "ImageID", "ImageFullID", "ImageName", "DaemonName", "Hostname"];
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let wrong = || format!("log opt tag: {{{{{after} is not supported");
        let (inside, behind) = after.split_once("}}").ok_or_else(wrong)?;
        let field = inside.trim().strip_prefix('.').filter(|field| FIELDS.contains(field)).ok_or_else(wrong)?;
        out.push_str(before);
        out.push_str(&value(field));
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(driver: &str, options: &[(&str, &str)]) -> LogConfig {
        let config = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        LogConfig { r#type: driver.into(), config: Some(config) }
    }

    #[test]
    fn options_are_checked() {
        const UNROTATED: &str = "compress cannot be true when max-file is less than 2 or max-size is not set";
        type Options<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(&str, Options, Result<Option<(u64, u64, bool)>, &str>)] = &[
            ("none", &[("x", "y")], Ok(None)),
            ("", &[], Ok(Some((0, 1, false)))),
            ("json-file", &[("max-size", "10m"), ("max-file", "3")], Ok(Some((10_000_000, 3, false)))),
            ("json-file", &[("max-size", "-1")], Ok(Some((0, 1, false)))),
            ("json-file", &[("mode", "non-blocking"), ("max-buffer-size", "4m")], Ok(Some((0, 1, false)))),
            ("json-file", &[("tag", "{{.Name}}/{{ .ID }}")], Ok(Some((0, 1, false)))),
            ("local", &[], Ok(Some((20 << 20, 5, true)))),
            ("local", &[("max-size", "1m"), ("max-file", "2"), ("compress", "false")], Ok(Some((1 << 20, 2, false)))),
            ("local", &[("max-file", "1"), ("compress", "0")], Ok(Some((20 << 20, 1, false)))),
            ("local", &[("max-file", "1")], Err("compression cannot be enabled when max file count is 1")),
            (
                "json-file",
                &[("max-size", "10m"), ("max-file", "3"), ("compress", "true")],
                Ok(Some((10_000_000, 3, true))),
            ),
            ("local", &[("x", "y")], Err("unknown log opt 'x' for log driver local")),
            ("nope", &[], Err("logger: no log driver named 'nope' is registered")),
            ("json-file", &[("x", "y")], Err("unknown log opt 'x' for json-file log driver")),
            ("json-file", &[("max-size", "0")], Err("max-size must be a positive number")),
            ("json-file", &[("max-size", "x")], Err("invalid size: 'x'")),
            ("json-file", &[("max-file", "0")], Err("max-file cannot be less than 1")),
            ("json-file", &[("max-file", "x")], Err("max-file is not a number: x")),
            ("json-file", &[("mode", "x")], Err("logger: logging mode not supported: x")),
            (
                "json-file",
                &[("max-buffer-size", "1m")],
                Err("logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
            ),
            ("json-file", &[("compress", "true")], Err(UNROTATED)),
            ("json-file", &[("compress", "true"), ("max-size", "10m")], Err(UNROTATED)),
            ("json-file", &[("compress", "true"), ("max-file", "2")], Err(UNROTATED)),
            ("json-file", &[("compress", "so")], Err("log opt compress is neither true nor false: so")),
            ("json-file", &[("tag", "{{json .}}")], Err("log opt tag: {{json .}} is not supported")),
            ("json-file", &[("labels-regex", "(")], Err("log opt labels-regex is no regular expression: (")),
        ];
        for (driver, options, expected) in cases {
            assert_eq!(read(&config(driver, options)), expected.map_err(str::to_string), "{driver} {options:?}");
        }
        let refusal = check(&config("nope", &[])).unwrap_err();
        assert_eq!(refusal.downcast_ref::<Refusal>().map(Refusal::status), Some(400));
    }

    #[test]
    fn attributes_of_every_entry() {
        let mut record = Record { id: "0123456789abcdef".into(), name: "web".into(), ..Record::default() };
        record.config.labels = Some(Map::from([("a".into(), "b\"".into()), ("other".into(), "x".into())]));
        record.config.env = Some(vec!["HOME=/root".into(), "PATH=/bin".into(), "odd".into()]);
        let mut attrs = |options: &[(&str, &str)]| {
            record.host_config.log_config = config("json-file", options);
            options_of(&record)
        };
        fn options_of(record: &Record) -> String {
            options(record).unwrap().unwrap().attrs
        }
        assert_eq!(attrs(&[]), "");
        assert_eq!(attrs(&[("labels", "a,nope"), ("env-regex", "^HO")]), r#"{"HOME":"/root","a":"b\""}"#);
        assert_eq!(attrs(&[("tag", "{{.Name}}/{{.ID}}")]), r#"{"tag":"web/0123456789ab"}"#);
    }
}
