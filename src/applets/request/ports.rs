//! `--publish`: `[address:][port[-port]:]port[-port][/protocol]`, or `target=80,published=8080`. The words of the errors
//! are Docker's.
//!
//! Behind either there may be `,from=10.0.0.0/8`, also several: from elsewhere, only these reach the port. Docker refuses
//! what is spelt so.

use crate::api::types::{PortBinding, PortMap};
use std::ops::RangeInclusive;

/// Adds what one flag says.
pub fn publish(text: &str, ports: &mut PortMap) -> Result<(), String> {
    let (plain, from) = long(text)?;
    let (host_ip, host, container) = split(&plain);
    let (container, protocol) = container.rsplit_once('/').unwrap_or((container, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let bare = host_ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host_ip);
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {host_ip}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let inside = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let outside = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    let count = |range: &RangeInclusive<u16>| range.end() - range.start();
    if let Some(outside) = &outside
        && count(outside) != count(&inside)
        && count(&inside) != 0
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    for (place, port) in inside.clone().enumerate() {
        let host_port = match &outside {
            None => String::new(),
            // One port, and a range to choose from.
            Some(outside) if count(outside) > count(&inside) => format!("{}-{}", outside.start(), outside.end()),
            Some(outside) => (usize::from(*outside.start()) + place).to_string(),
        };
        let bindings = ports.entry(format!("{port}/{protocol}")).or_default().get_or_insert_default();
        bindings.push(PortBinding { host_ip: bare.to_owned(), host_port, from: from.clone() });
    }
    Ok(())
}

/// The long form in the short one's terms, and the sources.
fn long(text: &str) -> Result<(String, Vec<String>), String> {
    let (first, rest) = text.split_once(',').unwrap_or((text, ""));
    let source = |field: &str| field.strip_prefix("from=").map(str::to_owned);
    if !first.contains('=')
        && let Some(from) = rest.split(',').map(source).collect::<Option<Vec<_>>>()
    {
        return Ok((first.to_owned(), from));
    }
    if !text.contains('=') {
        return Ok((text.to_owned(), Vec::new()));
    }
    let mut from = Vec::new();
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid publish opts format (should be name=value but got '{field}')"));
        };
        match key.to_ascii_lowercase().as_str() {
            "target" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            "from" => from.push(value.to_owned()),
            "mode" => {}
            other => return Err(format!("invalid publish opts format: unknown field {other}")),
        }
    }
    Ok((format!("{published}:{target}/{protocol}"), from))
}

/// Address, port of the host, port of the container. An address of IPv6 has colons of its own.
fn split(text: &str) -> (&str, &str, &str) {
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    (address, host, container)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling() {
        for (text, expected) in [
            ("80", "80/tcp :"),
            ("8080:80", "80/tcp :8080"),
            ("127.0.0.1:8080:80/UDP", "80/udp 127.0.0.1:8080"),
            ("127.0.0.1::80", "80/tcp 127.0.0.1:"),
            ("[::1]:8080:80", "80/tcp ::1:8080"),
            ("::1:8080:80", "80/tcp ::1:8080"),
            ("8000-8001:80-81", "80/tcp :8000, 81/tcp :8001"),
            ("8000-8010:80", "80/tcp :8000-8010"),
            ("80-81", "80/tcp :, 81/tcp :"),
            ("target=80,published=8080,protocol=udp", "80/udp :8080"),
            ("8080:80,from=10.0.0.0/8", "80/tcp :8080 10.0.0.0/8"),
            ("[::1]:8080:80/udp,from=fd00::1,from=fd01::/16", "80/udp ::1:8080 fd00::1 fd01::/16"),
            ("target=80,from=10.0.0.1", "80/tcp : 10.0.0.1"),
        ] {
            let mut ports = PortMap::new();
            publish(text, &mut ports).unwrap();
            let shown: Vec<String> = ports
                .iter()
                .flat_map(|(key, all)| {
                    let from = |it: &PortBinding| it.from.iter().map(|from| format!(" {from}")).collect::<String>();
                    all.iter().flatten().map(move |it| format!("{key} {}:{}{}", it.host_ip, it.host_port, from(it)))
                })
                .collect();
            assert_eq!(shown.join(", "), expected, "{text}");
        }
        for (text, words) in [
            ("", "no port specified: <empty>"),
            ("x", "invalid containerPort: x"),
            ("x:80", "invalid hostPort: x"),
            ("80/icmp", "invalid proto: icmp"),
            ("nowhere:1:80", "invalid IP address: nowhere"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ("80:80,only=10.0.0.1", "invalid publish opts format (should be name=value but got '80:80')"),
            ("target=80,what", "invalid publish opts format (should be name=value but got 'what')"),
        ] {
            assert_eq!(publish(text, &mut PortMap::new()).unwrap_err(), words, "{text}");
        }
    }
}
