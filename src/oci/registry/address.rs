//! Addresses of servers: where a `Location` leads, who is the same server, what of one may be told.

use anyhow::{Context, Result, bail};
use ureq::http::Uri;

/// An address for a message: what follows the path, or stands before the host, may be a secret.
pub fn show(uri: &Uri) -> String {
    let host = uri.authority().map_or("", |a| a.as_str()).rsplit('@').next().unwrap_or_default();
    format!("{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}

/// Whether two addresses are of one server.
pub fn same_origin(a: &Uri, b: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// Where a `Location` leads from `base` (RFC 3986, 5.2, without dot segments).
pub fn join(base: &Uri, location: &[u8]) -> Result<Uri> {
    // Servers do not always encode what they should.
    let encode = |byte: &u8| match byte {
        0x21..=0x7e if !b"\"<>\\^`{|}".contains(byte) => (*byte as char).to_string(),
        other => format!("%{other:02X}"),
    };
    let location: String = location.iter().map(encode).collect();
    let location = location.split('#').next().unwrap_or("");
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", |a| a.as_str());
    let joined = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let dir = base.path().rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{scheme}://{authority}{dir}/{location}")
    };
    let uri: Uri = joined.parse().with_context(|| format!("redirected to {joined:?}"))?;
    if uri.authority().is_none_or(|a| a.as_str().is_empty()) {
        bail!("redirected to {joined:?}, which is no URL");
    }
    Ok(uri)
}

/// Percent-encodes a query value.
pub fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let base: Uri = "https://reg.example:5000/v2/a/blobs/x?y=1".parse().unwrap();
        for (location, found) in [
            ("https://cdn.example/x?sig=a%2Fb", "https://cdn.example/x?sig=a%2Fb"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/other?z", "https://reg.example:5000/other?z"),
            ("sibling", "https://reg.example:5000/v2/a/blobs/sibling"),
            ("?q=1", "https://reg.example:5000/v2/a/blobs/x?q=1"),
            ("https://cdn.example/a b#frag", "https://cdn.example/a%20b"),
        ] {
            assert_eq!(join(&base, location.as_bytes()).unwrap().to_string(), found, "{location}");
        }
        assert!(join(&base, b"https://").is_err());
        assert!(join(&base, b"http://[::1/x").is_err());
    }

    #[test]
    fn origins() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a/x", "https://A:443/y"));
        assert!(!same("https://a/x", "http://a/x"));
        assert!(!same("https://a/x", "https://a:5000/x"));
        assert!(!same("https://a/x", "https://b/x"));
    }

    #[test]
    fn values_of_queries() {
        assert_eq!(percent("repository:a/b:pull,push"), "repository%3Aa%2Fb%3Apull%2Cpush");
    }
}
