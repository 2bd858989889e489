//! Repositories that files come from: where one lies, and what is wanted of it.
//!
//! ```text
//! address ─ls-remote→ commit, the key of the cache ─fetch, only where nothing was made of it→ files
//! ```

mod command;
mod fetch;

pub use command::Keys;
pub use fetch::Repository;

use crate::api::Refusal;
use crate::api::base64;
use crate::api::units::parse_bool;
use crate::order::Map;
use anyhow::{Result, bail};

/// Where a repository lies and what of it is wanted: `https://host/path.git#ref:subdir`, or the same by a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What git is told; no password is in it.
    pub remote: String,
    /// A branch, a tag, a full name of either or a commit; empty for what the repository itself names.
    pub reference: String,
    /// The directory that is wanted, below the root; empty for all.
    pub subdir: String,
    /// The beginning of the hash that the commit must have.
    pub checksum: Option<String>,
    /// Whether `.git` is wanted too, where that is said.
    pub keep: Option<bool>,
    /// Whether repositories inside are fetched.
    pub submodules: bool,
    /// `https://host:port` of one that is reached by HTTP.
    origin: Option<String>,
    /// `user:password`, which stood in the address.
    login: Option<String>,
}

impl Address {
    /// Reads an address; `None` for what is none. `context`: `github.com/…` is one too, which a Dockerfile means a path
    /// by.
    pub fn parse(text: &str, context: bool) -> Result<Option<Address>> {
        let (base, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (base, query) = base.split_once('?').unwrap_or((base, ""));
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let (remote, origin, login) = match base.split_once("://") {
            Some((scheme, rest)) => {
                let scheme = scheme.to_ascii_lowercase();
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let (user, host) = match authority.rsplit_once('@') {
                    Some((user, host)) => (Some(user), host),
                    None => (None, authority),
                };
                match scheme.as_str() {
                    "http" | "https" if path.ends_with(".git") => {
                        check(user.unwrap_or_default(), host, path)?;
                        let origin = format!("{scheme}://{host}");
                        let login = user.map(|user| if user.contains(':') { user.into() } else { format!("{user}:") });
                        let login = login.map(|login: String| unescaped(&login)).transpose()?;
                        (format!("{origin}/{path}"), Some(origin), login)
                    }
                    "git" | "ssh" => {
                        check(user.unwrap_or_default(), host, path)?;
                        if user.is_some_and(|user| user.contains(':')) {
                            bail!(Refusal::BadParameter(format!(
                                "{scheme}://{host}/{path}: a password in the address of a repository is for https only"
                            )));
                        }
                        (format!("{scheme}://{authority}/{path}"), None, None)
                    }
                    _ => return Ok(None),
                }
            }
            None => match base.strip_prefix("github.com/").filter(|_| context) {
                Some(path) => {
                    check("", "github.com", path)?;
                    let origin = "https://github.com".to_owned();
                    (format!("{origin}/{path}"), Some(origin), None)
                }
                None => match scp(base) {
                    Some((user, host, path)) => {
                        check(user, host, path)?;
                        (base.to_owned(), None, None)
                    }
                    None => return Ok(None),
                },
            },
        };
        let (reference, subdir) = (reference.to_owned(), subdir.to_owned());
        let (checksum, keep, submodules) = (None, None, true);
        let mut address = Address { remote, reference, subdir, checksum, keep, submodules, origin, login };
        address.ask(query).map_err(|why| Refusal::BadParameter(format!("{}: {why}", address.remote)))?;
        address.check_reference()?;
        Ok(Some(address))
    }

    /// Reads a query, as BuildKit has them.
    fn ask(&mut self, query: &str) -> Result<(), String> {
        let mut seen = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value =
                decoded(&value.replace('+', " ")).ok_or_else(|| format!("query {key:?} is not encoded well"))?;
            if seen.insert(key, value).is_some() {
                return Err(format!("query {key:?} has multiple values"));
            }
        }
        let same = |known: &mut String, value: String, what: &str| {
            if !known.is_empty() && *known != value {
                return Err(format!("{what} conflicts: {known:?} vs {value:?}"));
            }
            *known = value;
            Ok(())
        };
        let flag = |key: &str, value: &str| match value {
            "" => Ok(true),
            text => parse_bool(text).ok_or_else(|| format!("invalid {key} value: {text:?}")),
        };
        let full = |prefix: &str, name: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
        if seen.contains_key("tag") && seen.contains_key("branch") {
            return Err("branch conflicts with tag".to_owned());
        }
        let mut direct = false;
        for (key, value) in seen {
            if value.is_empty() && !matches!(key, "submodules" | "keep-git-dir" | "fetch-by-commit") {
                return Err(format!("query {key:?} has no value"));
            }
            match key {
                "ref" => same(&mut self.reference, value, "ref")?,
                "tag" => same(&mut self.reference, full("refs/tags/", &value), "ref")?,
                "branch" => same(&mut self.reference, full("refs/heads/", &value), "ref")?,
                "subdir" => same(&mut self.subdir, value, "subdir")?,
                "checksum" | "commit" => {
                    check_commit(&value)?;
                    same(self.checksum.get_or_insert_default(), value, "checksum")?;
                }
                "keep-git-dir" => self.keep = Some(flag(key, &value)?),
                "submodules" => self.submodules = flag(key, &value)?,
                "fetch-by-commit" => direct = flag(key, &value)?,
                // The files of a commit are the same whenever they are fetched.
                "mtime" if value == "commit" => {}
                "mtime" => {
                    return Err(format!("mtime {value:?} is not supported: files have the time of their commit"));
                }
                _ => return Err(format!("unexpected query {key:?}")),
            }
        }
        if direct {
            // Whatever the name stands for by now.
            let commit = self.checksum.clone().filter(|text| matches!(text.len(), 40 | 64));
            self.reference = commit.ok_or("fetch-by-commit needs the whole hash of a commit as checksum")?;
        }
        Ok(())
    }

    /// Names as `git check-ref-format` has them, none of which is an option or a pattern.
    fn check_reference(&self) -> Result<()> {
        let name = &self.reference;
        let strange = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
        if name.starts_with(['-', '/'])
            || name.ends_with(['/', '.'])
            || name.ends_with(".lock")
            || name.contains("..")
            || name.contains("@{")
            || name.contains("//")
            || name.contains(strange)
        {
            bail!(Refusal::BadParameter(format!("{name:?} cannot be the name of a branch, a tag or a commit")));
        }
        Ok(())
    }

    /// The header that opens the repository: a secret of the build, named for the host or for all, or what stood in the
    /// address.
    fn authorization(&self, secrets: &Map<String, Vec<u8>>) -> Result<Option<String>> {
        let Some(origin) = &self.origin else { return Ok(None) };
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        let basic = |text: &str| format!("basic {}", base64::encode(text.as_bytes()));
        for (name, token) in [
            (format!("GIT_AUTH_HEADER.{host}"), false),
            (format!("GIT_AUTH_TOKEN.{host}"), true),
            ("GIT_AUTH_HEADER".to_owned(), false),
            ("GIT_AUTH_TOKEN".to_owned(), true),
        ] {
            let Some(value) = secrets.get(&name) else { continue };
            let text = std::str::from_utf8(value).ok().map(str::trim).filter(|text| !text.contains(char::is_control));
            let Some(text) = text else {
                bail!(Refusal::BadParameter(format!("the secret {name} is no line of text")));
            };
            return Ok(Some(if token { basic(&format!("x-access-token:{text}")) } else { text.to_owned() }));
        }
        Ok(self.login.as_deref().map(basic))
    }
}

/// Nothing in an address may be taken for an option, by git or by ssh, or end a line.
fn check(user: &str, host: &str, path: &str) -> Result<()> {
    let strange = |text: &str| text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    if host.is_empty()
        || path.is_empty()
        || [user, host, path].iter().any(|text| text.starts_with('-') || strange(text))
        || path.starts_with("/-")
    {
        bail!(Refusal::BadParameter(format!("{host:?}, {path:?}: no repository can lie there")));
    }
    Ok(())
}

/// `user@host:path`
fn scp(text: &str) -> Option<(&str, &str, &str)> {
    let (authority, path) = text.split_once(':')?;
    let (user, host) = authority.split_once('@')?;
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    (plain(user, "-_") && plain(host, "-.")).then_some((user, host, path))
}

/// `%40` is `@`.
fn unescaped(text: &str) -> Result<String> {
    let wrong = "the user or the password in an address is not encoded as URLs are";
    decoded(text).ok_or_else(|| Refusal::BadParameter(wrong.to_owned()).into())
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// A text for people: passwords in the URLs that are in it are not shown.
pub fn shown(text: &str) -> String {
    let one = |word: &str| {
        let (scheme, rest) = word.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:xxxxx@{host}{path}"))
    };
    let words = text.split_inclusive(char::is_whitespace);
    words.map(|word| one(word).unwrap_or_else(|| word.to_owned())).collect()
}

/// Checks what `--checksum` may say of a commit.
pub fn check_commit(text: &str) -> Result<(), String> {
    let hex = text.len() >= 7 && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then_some(()).ok_or_else(|| format!("invalid checksum {text:?} for a git repository, expected hex commit hash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, remote, reference, subdir) in [
            ("https://h/a/b.git", "https://h/a/b.git", "", ""),
            ("HTTPS://h:8443/b.git#v1", "https://h:8443/b.git", "v1", ""),
            ("http://h/b.git#feature/a:sub/dir", "http://h/b.git", "feature/a", "sub/dir"),
            ("https://h/b.git?ref=v1&subdir=a%2Fb", "https://h/b.git", "v1", "a/b"),
            ("https://h/b.git?tag=v1", "https://h/b.git", "refs/tags/v1", ""),
            ("ssh://git@h/b?branch=refs/heads/x", "ssh://git@h/b", "refs/heads/x", ""),
            ("git@h:b?ref=x&mtime=commit#x:sub", "git@h:b", "x", "sub"),
            ("https://user:p%40ss@h/b.git#:sub", "https://h/b.git", "", "sub"),
            ("git://h/b#refs/heads/x", "git://h/b", "refs/heads/x", ""),
            ("ssh://git@h:22/b", "ssh://git@h:22/b", "", ""),
            ("git@h.example:a/b.git#main", "git@h.example:a/b.git", "main", ""),
        ] {
            let found = Address::parse(text, false).unwrap().unwrap();
            assert_eq!(
                (found.remote.as_str(), found.reference.as_str(), found.subdir.as_str()),
                (remote, reference, subdir),
                "{text}"
            );
        }
        let github = "github.com/a/b#main";
        assert_eq!(Address::parse(github, true).unwrap().unwrap().remote, "https://github.com/a/b");
        for none in [
            github,
            "https://h/x",
            "https://h/x?a=.git",
            "file:///x.git",
            "ext::sh -c x",
            "x.git",
            "/a/b.git",
            "h:x",
            "a/b@h:x",
            "ftp://h/x.git",
        ] {
            assert_eq!(Address::parse(none, false).unwrap(), None, "{none}");
        }
    }

    #[test]
    fn queries_say_the_rest() {
        let of = |query: &str| Address::parse(&format!("https://h/b.git?{query}"), false);
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (query, checksum, keep, submodules) in [
            ("submodules=false&keep-git-dir", None, Some(true), false),
            ("keep-git-dir=0&commit=0123456", Some("0123456"), Some(false), true),
            (&format!("branch=x&fetch-by-commit=1&checksum={commit}"), Some(commit), None, true),
        ] {
            let found = of(query).unwrap().unwrap();
            let all = (found.checksum.as_deref(), found.keep, found.submodules);
            assert_eq!(all, (checksum, keep, submodules), "{query}");
            assert_eq!(found.reference == commit, query.contains("fetch-by"), "{query}");
        }
        for (query, words) in [
            ("x=1", "unexpected query \"x\""),
            ("ref=a&ref=b", "query \"ref\" has multiple values"),
            ("ref=", "query \"ref\" has no value"),
            ("ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("subdir=a#:b", "subdir conflicts"),
            ("tag=a&branch=b", "branch conflicts with tag"),
            ("tag=a&ref=b", "ref conflicts"),
            ("commit=x", "invalid checksum \"x\""),
            ("commit=0123456&checksum=1234567", "checksum conflicts"),
            ("keep-git-dir=maybe", "invalid keep-git-dir value"),
            ("mtime=checkout", "files have the time of their commit"),
            ("fetch-by-commit", "needs the whole hash"),
            ("ref=%zz", "is not encoded well"),
            ("ref=a%0ab", "is not encoded well"),
            ("ref=--upload-pack", "cannot be the name of a branch"),
        ] {
            let error = format!("{:#}", of(query).unwrap_err());
            assert!(error.contains(words), "{query}: {error}");
        }
    }

    #[test]
    fn what_could_be_an_option_is_refused() {
        for text in [
            "ssh://-oProxyCommand=x/b",
            "ssh://-oProxyCommand=x@h/b",
            "git://h/-x",
            "-x@h:b",
            "u@-h:b",
            "u@h:-b",
            "https://h/a b.git",
            "https:///b.git",
            "ssh://u:p@h/b",
            "git://h/b#--upload-pack=x",
            "git://h/b#a..b",
            "git://h/b#a b",
            "git://h/b#a^{commit}",
            "git://h/b#*",
            "https://a%zz@h/b.git",
            "https://a%0ab@h/b.git",
        ] {
            assert!(Address::parse(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn who_we_are() {
        let of = |text: &str, secrets: &[(&str, &str)]| {
            let secrets = secrets.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
            Address::parse(text, false).unwrap().unwrap().authorization(&secrets).unwrap()
        };
        let basic = |text: &str| Some(format!("basic {}", base64::encode(text.as_bytes())));
        assert_eq!(of("https://h/b.git", &[]), None);
        assert_eq!(of("https://user:p%40ss@h/b.git", &[]), basic("user:p@ss"));
        assert_eq!(of("https://token@h/b.git", &[]), basic("token:"));
        let both = [("GIT_AUTH_TOKEN", "all"), ("GIT_AUTH_TOKEN.h:1", "one\n")];
        assert_eq!(of("https://h/b.git", &both), basic("x-access-token:all"));
        assert_eq!(of("https://h:1/b.git", &both), basic("x-access-token:one"));
        assert_eq!(of("https://h/b.git", &[("GIT_AUTH_HEADER", "bearer x")]), Some("bearer x".to_owned()));
        assert_eq!(of("ssh://h/b.git", &both), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, text) in [
            ("https://a:b@h/x@y", "https://a:xxxxx@h/x@y"),
            ("https://h/a:b@c", "https://h/a:b@c"),
            ("https://a@h", "https://a@h"),
            ("ADD\tftp://a:b@h c://d:e@f\n/x", "ADD\tftp://a:xxxxx@h c://d:xxxxx@f\n/x"),
        ] {
            assert_eq!(shown(url), text);
        }
    }
}
