//! The target of a request: its path, the version of the API before it, and its query.

use super::head::{self, Bad};
use crate::api::version::{self, ApiVersion};

/// A target taken apart, all of it decoded.
#[derive(Debug, PartialEq)]
pub struct Target {
    /// Where none was named, the newest.
    pub version: ApiVersion,
    /// Without the version, and without empty parts but one at the end.
    pub path: String,
    pub query: Vec<(String, String)>,
}

/// Takes `/v1.51/containers/json?all=1` apart.
pub fn parse(target: &str) -> Result<Target, Bad> {
    // A proxy's form.
    let target = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decode(path, false).ok_or_else(|| head::bad(400, "invalid URL escape"))?;
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let named = parts.first().and_then(|first| first.strip_prefix('v')).and_then(ApiVersion::parse);
    if named.is_some() {
        parts.remove(0);
    }
    let query = pairs(query).ok_or_else(|| head::bad(400, "invalid URL escape in the query"))?;
    // One at the end counts: there is no such page.
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    Ok(Target { version: named.unwrap_or(version::NEWEST), path: format!("/{}{end}", parts.join("/")), query })
}

/// The pairs of a query or a form, decoded, in order; `None` where that is not possible.
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| Some((decode(key, true)?, decode(value, true)?))).collect()
}

/// Undoes %XX, and + where it stands for a space; `None` where that is not possible.
fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let [high, low] = *after.first_chunk::<2>()?;
                let digit = |byte: u8| (byte as char).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = &after[2..];
            }
            b'+' if plus => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Writes a target, with the version before it.
pub fn write(version: Option<ApiVersion>, path: &str, query: &[(String, String)]) -> String {
    let mut text = version.map_or(String::new(), |version| format!("/v{version}"));
    encode(path, b"/:@-._~", &mut text);
    for (at, (key, value)) in query.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        encode(key, b"-._~", &mut text);
        text.push('=');
        encode(value, b"-._~", &mut text);
    }
    text
}

fn encode(text: &str, plain: &[u8], out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        let old = ApiVersion::new(1, 24);
        let table = [
            ("/_ping", version::NEWEST, "/_ping", vec![]),
            ("/v1.24/info", old, "/info", vec![]),
            ("/v1.24", old, "/", vec![]),
            ("//v1.24//containers/json", old, "/containers/json", vec![]),
            ("/v1.24/containers/json/", old, "/containers/json/", vec![]),
            ("/v1.24/", old, "/", vec![]),
            ("/version", version::NEWEST, "/version", vec![]),
            ("/volumes/v1.24/x", version::NEWEST, "/volumes/v1.24/x", vec![]),
            ("http://docker:2375/v1.24/info?a", old, "/info", vec![("a", "")]),
            ("/images/a%2Fb%3Alatest/json", version::NEWEST, "/images/a/b:latest/json", vec![]),
            (
                "/x?a=1&b=%7B%22c%22%3A1%7D&c=d+e&&a=2#f",
                version::NEWEST,
                "/x",
                vec![("a", "1"), ("b", "{\"c\":1}"), ("c", "d e"), ("a", "2")],
            ),
            ("/x?a=b=c", version::NEWEST, "/x", vec![("a", "b=c")]),
        ];
        for (target, version, path, query) in table {
            let query =
                query.into_iter().map(|(key, value): (&str, &str)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(parse(target), Ok(Target { version, path: path.to_owned(), query }), "{target}");
        }
        for bad in ["/%", "/%2", "/%zz", "/%ff", "/x?a=%", "/x?%=1"] {
            assert_eq!(parse(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let query = vec![("filters".to_owned(), r#"{"label":{"a=b&c":true}} +ü"#.to_owned())];
        let written = write(Some(version::OLDEST), "/images/localhost:5000/x y%/json", &query);
        assert!(written.starts_with("/v1.24/images/localhost:5000/x%20y%25/json?filters=%7B"), "{written}");
        let path = "/images/localhost:5000/x y%/json".to_owned();
        assert_eq!(parse(&written), Ok(Target { version: version::OLDEST, path, query }));
    }
}
