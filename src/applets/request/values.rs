//! Values of flags: sizes, limits, pairs. All pure.

use crate::api::types::{RestartPolicy, Ulimit};
pub use crate::api::units::parse_binary as bytes;
use crate::applets::face;
use crate::order::Map;

/// A size in bytes, or -1 for no limit.
pub fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// `nofile=1024:2048`; -1 is unlimited.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    const NAMES: &[&str] = &[
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or(format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("invalid limit {text:?}: not a number"));
    let (soft, hard) = match limits.split_once(':') {
        Some((_, hard)) if hard.contains(':') => {
            return Err(format!("too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"));
        }
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// `key=value` pairs; a key alone has an empty value; the last one counts.
pub fn pairs(list: &[String]) -> Map<String, String> {
    Map::from_iter(list.iter().map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    }))
}

/// A label's key must be there and hold no blanks.
pub fn label(pair: &str) -> Result<(), String> {
    let key = pair.split_once('=').map_or(pair, |(key, _)| key).trim_start_matches([' ', '\t']);
    if key.is_empty() {
        return Err(format!("invalid label '{pair}': empty name"));
    }
    if key.contains([' ', '\t']) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(())
}

/// Only parameters that a namespace keeps to itself.
pub fn sysctl(pair: &str) -> Result<(), String> {
    const KERNEL: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let name = pair.split_once('=').map(|(name, _)| name).unwrap_or_default();
    if KERNEL.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.") {
        return Ok(());
    }
    Err(format!("sysctl '{pair}' is not allowed"))
}

/// `target` or `target:alias`.
pub fn link(text: &str) -> Result<String, String> {
    let (target, alias) = text.split_once(':').unwrap_or((text, text));
    match text {
        "" => Err("empty string specified for links".to_owned()),
        _ if target.is_empty() || alias.is_empty() || alias.contains(':') => {
            Err(format!("bad format for links: {text}"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// `name:address` from `name:address`, `name=address` and `name:[address]`.
pub fn extra_host(text: &str) -> Result<String, String> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or(("", ""));
    if name.is_empty() || name.contains(':') {
        return Err(format!("bad format for add-host: {text:?}"));
    }
    if address == "host-gateway" {
        return Ok(format!("{name}:{address}"));
    }
    let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{address}"))
}

/// A search domain; `.` is none.
pub fn search_domain(text: &str) -> Result<String, String> {
    let domain = text.trim_matches(' ');
    if domain == "." {
        return Ok(domain.to_owned());
    }
    let plain = domain.strip_suffix('.').unwrap_or(domain);
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let lettered = plain.contains(|c: char| c.is_ascii_alphabetic());
    if lettered && plain.len() < 255 && plain.split('.').all(label) {
        Ok(plain.to_owned())
    } else {
        Err(format!("{domain} is not a valid domain"))
    }
}

/// `8080`, `8080/udp`, `8000-8010/tcp` → the ports, spelt as the API keys them.
pub fn exposed(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("invalid range format for --expose: {text}");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| {
        let why = |_| match face::is_docker() {
            true => format!("{}, error: strconv.ParseUint: parsing {text:?}: invalid syntax", wrong()),
            false => wrong(),
        };
        text.parse::<u16>().map_err(why)
    };
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `on-failure:5` and the like, as Docker's client reads them; the engine knows which policies there are.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && text.contains(':') {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let not_a_number = |_| "invalid restart policy format: maximum retry count must be an integer".to_owned();
    let maximum_retry_count = if count.is_empty() { 0 } else { count.parse().map_err(not_a_number)? };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// One record of CSV: fields may stand in quotes, in which a doubled quote is one.
pub fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next() {
                    Some((_, '"')) if chars.peek().is_some_and(|next| next.1 == '"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some((at, '"')) => break at + 1,
                    Some((_, other)) => field.push(other),
                    None => return Err(format!("a quote is not closed in {line:?}")),
                }
            };
            fields.push(field);
            rest = &quoted[end..];
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err(format!("a bare quote in {line:?}"));
            }
            fields.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(format!("text after a closed quote in {line:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!((bytes_or_unlimited("-1"), bytes_or_unlimited("1k")), (Ok(-1), Ok(1024)));
        let limit = |name: &str, soft, hard| Ok(Ulimit { name: name.into(), soft, hard });
        let table = [
            ("nofile=1024", limit("nofile", 1024, 1024)),
            ("nofile=1024:2048", limit("nofile", 1024, 2048)),
            ("core=-1", limit("core", -1, -1)),
            ("core=0:-1", limit("core", 0, -1)),
            ("nofile=2:1", Err("ulimit soft limit must be less than or equal to hard limit: 2 > 1".to_owned())),
            ("files=1", Err("invalid ulimit type: files".to_owned())),
            ("nofile", Err("invalid ulimit argument: nofile".to_owned())),
            (
                "nofile=1:2:3",
                Err("too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`".to_owned()),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(ulimit(text), expected, "{text}");
        }
    }

    #[test]
    fn hosts_domains_ports_labels_parameters() {
        assert_eq!(extra_host("a:1.2.3.4"), Ok("a:1.2.3.4".into()));
        assert_eq!(extra_host("a=::1"), Ok("a:::1".into()));
        assert_eq!(extra_host("a:[::1]"), Ok("a:::1".into()));
        assert_eq!(extra_host("a:host-gateway"), Ok("a:host-gateway".into()));
        assert!(extra_host("a:nowhere").is_err() && extra_host(":1.2.3.4").is_err() && extra_host("a").is_err());
        assert_eq!(search_domain("example.com."), Ok("example.com".into()));
        assert_eq!(search_domain("."), Ok(".".into()));
        assert!(search_domain("exa mple").is_err() && search_domain("1.2").is_err() && search_domain("-a.b").is_err());
        assert_eq!(exposed("80"), Ok(vec!["80/tcp".into()]));
        assert_eq!(exposed("80-81/udp"), Ok(vec!["80/udp".into(), "81/udp".into()]));
        assert!(exposed("81-80").is_err() && exposed("x").is_err() && exposed("80/icmp").is_err());
        assert!(label("a=b c").is_ok() && label("a").is_ok() && label("a b=c").is_err() && label("=c").is_err());
        assert!(sysctl("net.core.somaxconn=1").is_ok() && sysctl("kernel.shmmax=1").is_ok());
        assert!(sysctl("kernel.hostname=x").is_err() && sysctl("net.core.somaxconn").is_err());
        assert_eq!(
            pairs(&["a=1".into(), "a=2".into(), "b".into()]),
            [("a", "2"), ("b", "")].map(|(k, v)| (k.into(), v.into())).into()
        );
    }
}
