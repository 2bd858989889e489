//! Image references as Docker spells them: `[domain/]path[:tag][@digest]`, with Docker Hub's short forms.
//!
//! Grammar and the rule for what is a domain: distribution's reference package.

use super::digest::Digest;
use anyhow::{Result, bail};
use std::fmt;

/// The domain of names that carry none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";
const MAX_NAME: usize = 255;

/// A normalised reference: the domain is always there, and `library/` where Docker Hub puts it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    pub domain: String,
    pub path: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads what a user types. No tag is added: see [`Reference::or_latest`].
    pub fn parse(text: &str) -> Result<Reference> {
        if text.is_empty() {
            bail!("invalid reference format: repository name must have at least one component");
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            bail!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (domain, remote) = split_domain(rest);
        let (path, tag) = match remote.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remote, None),
        };
        let domain = if domain.is_empty() || domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            bail!("invalid reference format: repository name ({path}) must be lowercase");
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            bail!("invalid reference format");
        }
        if !is_domain(domain) || !path.split('/').all(is_component) {
            bail!("invalid reference format");
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            bail!("repository name must not be more than {MAX_NAME} characters");
        }
        Ok(Reference { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// With the tag `latest` where neither tag nor digest is given.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference> {
        if !is_tag(tag) {
            bail!("invalid tag format");
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository by digest alone.
    pub fn with_digest(&self, digest: &Digest) -> Reference {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The repository as users see it: no `docker.io/`, no `library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as users see it: `busybox:latest`, `localhost:5000/x@sha256:…`.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    /// The repository in full: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// What a registry's manifest URL ends in: the digest where there is one, else the tag, else `latest`.
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    fn suffix(&self) -> String {
        let mut text = String::new();
        if let Some(tag) = &self.tag {
            text = format!(":{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

/// In full: `docker.io/library/busybox:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name(), self.suffix())
    }
}

impl std::str::FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Reference> {
        Reference::parse(text)
    }
}

/// The first component is a domain if it could not be a path of Docker Hub: it has a dot or a port, is
/// `localhost`, or has an upper-case letter.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("", text),
    }
}

fn parse_digest(text: &str) -> Result<Digest> {
    match Digest::parse(text) {
        Ok(digest) => Ok(digest),
        Err(_) => bail!("invalid reference format"),
    }
}

/// `[\w][\w.-]{0,127}`
pub fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    (1..=128).contains(&bytes.len()) && word(bytes[0]) && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-')
}

/// Lower-case letters and digits in runs, parted by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    bytes.split(|&b| alnum(b)).all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|&b| b == b'-'))
}

/// Names parted by dots, or an IPv6 address in brackets, and an optional port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (None, port.strip_prefix(':').or((!port.is_empty()).then_some("x")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.is_none_or(|host| host.split('.').all(label)) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalised_and_familiar_forms() {
        let digested = format!("busybox@{DIGEST}");
        let both = format!("busybox:1@{DIGEST}");
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("library/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/library/busybox:x", "docker.io/library/busybox:x", "busybox:x"),
            ("grafana/loki", "docker.io/grafana/loki", "grafana/loki"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
            ("ghcr.io/a/b__c/d--e.f:V1.0_x-y", "ghcr.io/a/b__c/d--e.f:V1.0_x-y", "ghcr.io/a/b__c/d--e.f:V1.0_x-y"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("[::1]/x", "[::1]/x", "[::1]/x"),
            ("HOST/x", "HOST/x", "HOST/x"),
            (&digested, &format!("docker.io/library/busybox@{DIGEST}"), &digested),
            (&both, &format!("docker.io/library/busybox:1@{DIGEST}"), &both),
        ] {
            let reference = Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e:#}"));
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(full).unwrap(), reference, "{text}: the full form says the same");
        }
    }

    #[test]
    fn latest_only_where_nothing_is_said() {
        let tag = |text: &str| Reference::parse(text).unwrap().or_latest().tag;
        assert_eq!(tag("x").as_deref(), Some("latest"));
        assert_eq!(tag("x:1").as_deref(), Some("1"));
        assert_eq!(tag(&format!("x@{DIGEST}")), None);
        assert_eq!(Reference::parse(&format!("x:1@{DIGEST}")).unwrap().manifest_name(), DIGEST);
    }

    #[test]
    fn docker_words_for_what_is_no_reference() {
        let long = format!("example.com/{}", "a".repeat(250));
        for (text, words) in [
            ("", "invalid reference format: repository name must have at least one component"),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            ("library/Busybox:x", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            ("busybox:", "invalid reference format"),
            ("busybox:-x", "invalid reference format"),
            ("busybox:a/b:c", "invalid reference format"),
            (":latest", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("/b", "invalid reference format"),
            ("a_", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a/../b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("host:port/x", "invalid reference format"),
            ("host:99999/x", "invalid reference format"),
            ("a.-b/x", "invalid reference format"),
            ("https://x/y", "invalid reference format"),
            ("x@sha256:12", "invalid reference format"),
            ("x y", "invalid reference format"),
            (
                &DIGEST[7..],
                "invalid repository name (e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855), cannot specify 64-byte hexadecimal strings",
            ),
            (&long, "repository name must not be more than 255 characters"),
        ] {
            match Reference::parse(text) {
                Err(error) => assert_eq!(error.to_string(), words, "{text:?}"),
                Ok(reference) => panic!("{text:?} parsed as {reference}"),
            }
        }
    }
}
