//! Which proxy the settings or the environment ask for, by the rules that Go programs (and so Docker) follow.

use crate::json::fields::fields;
use std::net::IpAddr;

fields! { strict:
    /// What was set, which wins over `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment, in either case.
    #[derive(Clone, Debug, Default, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    pub struct Proxies {
        pub http_proxy: String,
        pub https_proxy: String,
        pub no_proxy: String,
    }
}

impl Proxies {
    /// The proxy for a request to `host:port`. This machine itself is never reached through one.
    pub fn of(&self, https: bool, host: &str, port: u16) -> Option<String> {
        choose(https, host, port, |name| self.variable(name))
    }

    /// What is said under a name of the environment's.
    pub fn variable(&self, name: &str) -> Option<String> {
        let set = match name {
            "HTTP_PROXY" => &self.http_proxy,
            "HTTPS_PROXY" => &self.https_proxy,
            "NO_PROXY" => &self.no_proxy,
            _ => "",
        };
        if set.is_empty() { std::env::var(name).ok() } else { Some(set.to_owned()) }
    }
}

fn choose(https: bool, host: &str, port: u16, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let either = |name: &str| {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        set(name).or_else(|| set(&name.to_ascii_lowercase()))
    };
    let proxy = either(if https { "HTTPS_PROXY" } else { "HTTP_PROXY" })?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
        return None;
    }
    let excepted = either("NO_PROXY").unwrap_or_default();
    let excepted = excepted.split(',').map(str::trim).any(|entry| matches(entry, &host, address, port));
    (!excepted).then_some(if proxy.contains("://") { proxy } else { format!("http://{proxy}") })
}

/// One entry of `NO_PROXY`: `*`, an address, a network, `name` (with its subdomains), `.name` or `*.name`
/// (the subdomains alone); each but the networks with an optional port.
fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    let entry = entry.to_ascii_lowercase();
    if entry == "*" {
        return true;
    }
    if let Some(network) = Network::parse(&entry) {
        return address.is_some_and(|ip| network.contains(ip));
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => (name.to_owned(), digits.parse().ok()),
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted: u16| wanted != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = name.parse::<IpAddr>() {
        return address == Some(ip);
    }
    if name.is_empty() || address.is_some() {
        return false;
    }
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// An address range in CIDR form.
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `10.0.0.0/8` or `fd00::/8`.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Network { address, bits })
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                own.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                own.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_programs_choose() {
        let environment = |name: &str| {
            let value = match name {
                "HTTP_PROXY" => "plain:3128",
                "https_proxy" => "http://user:pw@tls:3128",
                "NO_PROXY" => {
                    "corp.example, .dot.example,*.star.example,10.0.0.0/8,192.168.1.1,port.example:8080,fd00::/8"
                }
                _ => return None,
            };
            Some(value.to_owned())
        };
        let tls = Some("http://user:pw@tls:3128");
        for (https, host, port, proxy) in [
            (true, "registry-1.docker.io", 443, tls),
            (false, "registry.local", 80, Some("http://plain:3128")),
            (true, "localhost", 5000, None),
            (true, "127.9.9.9", 5000, None),
            (true, "[::1]", 5000, None),
            (true, "corp.example", 443, None),
            (true, "a.corp.example", 443, None),
            (true, "notcorp.example", 443, tls),
            (true, "dot.example", 443, tls),
            (true, "a.dot.example", 443, None),
            (true, "A.STAR.example", 443, None),
            (true, "star.example", 443, tls),
            (true, "10.1.2.3", 443, None),
            (true, "11.1.2.3", 443, tls),
            (true, "192.168.1.1", 443, None),
            (true, "port.example", 8080, None),
            (true, "port.example", 443, tls),
            (true, "[fd12::1]", 443, None),
            (true, "[fe80::1]", 443, tls),
        ] {
            assert_eq!(choose(https, host, port, environment).as_deref(), proxy, "{host}:{port}");
        }
        assert_eq!(choose(true, "x.example", 443, |_| None), None);
        let all = |name: &str| Some(if name == "NO_PROXY" { "*" } else { "p" }.to_owned());
        assert_eq!(choose(true, "x.example", 443, all), None);
    }

    #[test]
    fn networks() {
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Network::parse("1.2.3.4/32").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(!Network::parse("1.2.3.4/32").unwrap().contains("1.2.3.5".parse().unwrap()));
        assert!(!Network::parse("::/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Network::parse("1.2.3.4/33").is_none());
        assert!(Network::parse("1.2.3.4").is_none());
    }
}
