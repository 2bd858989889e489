//! Who we are to a registry: Docker's configuration file, its credential helpers, and the `X-Registry-Auth` header.

pub mod keep;

use crate::json;
use crate::json::fields::fields;
use crate::log;
use crate::order::Map;
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The key under which Docker files the credentials of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The user name that says that the password is an identity token.
const TOKEN_USER: &str = "<token>";

fields! {
    /// Credentials for one registry, in the JSON of `X-Registry-Auth`. All empty is anonymous. Names are read in any case, as by
    /// dockerd: docker-py sends what a credential helper said with capitals.
    #[derive(Clone, Default, PartialEq, Eq)]
    pub struct Credentials {
        #[serde(skip_serializing_if = "String::is_empty")]
        pub username: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub password: String,
        /// An OAuth2 refresh token, exchanged for an access token.
        #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
        pub identity_token: String,
        /// A bearer token, sent as it is.
        #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
        pub registry_token: String,
    }
}

impl Credentials {
    pub fn is_anonymous(&self) -> bool {
        *self == Credentials::default()
    }

    fn from_pair(username: String, password: String) -> Credentials {
        if username == TOKEN_USER {
            Credentials { identity_token: password, ..Credentials::default() }
        } else {
            Credentials { username, password, ..Credentials::default() }
        }
    }

    /// Reads an `X-Registry-Auth` header: base64url, padded or not. Docker takes garbage as anonymous on a pull; so do we.
    pub fn from_header(header: &str) -> Credentials {
        let json = base64_decode(header.trim()).unwrap_or_default();
        Credentials::read(json::from_slice(&json).unwrap_or_default())
    }

    /// Reads what stands in a header; what cannot be read is anonymous.
    fn read(value: serde_json::Value) -> Credentials {
        json::from_value::<Option<Credentials>>(value).ok().flatten().unwrap_or_default().settled()
    }

    /// A name that says that the password is a token has gone.
    fn settled(self) -> Credentials {
        if self.username == TOKEN_USER { Credentials::from_pair(self.username, self.password) } else { self }
    }

    /// The `X-Registry-Auth` header of these credentials.
    pub fn to_header(&self) -> String {
        // A struct of strings always serializes.
        base64url(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// The value of an `Authorization: Basic` header, if there is a name and a password.
    pub fn basic(&self) -> Option<String> {
        (!self.username.is_empty())
            .then(|| format!("Basic {}", base64(format!("{}:{}", self.username, self.password).as_bytes())))
    }
}

/// Never shows a secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

fields! {
    /// `config.json`, as far as it concerns registries. What is null is not there, as for Go.
    #[derive(Default)]
    struct ConfigFile {
        auths: Map<String, Option<AuthEntry>>,
        #[serde(rename = "credsStore")]
        creds_store: String,
        #[serde(rename = "credHelpers")]
        cred_helpers: Map<String, String>,
    }
}

fields! { strict:
    /// What [`VARIABLE`] may hold: an `auth` for each registry, and nothing besides.
    #[derive(Default)]
    struct Variable {
        auths: Map<String, Held>,
    }

    #[derive(Default)]
    struct Held {
        auth: String,
    }
}

fields! {
    #[derive(Default)]
    struct AuthEntry {
        auth: String,
        username: String,
        password: String,
        #[serde(rename = "identitytoken")]
        identity_token: String,
        #[serde(rename = "registrytoken")]
        registry_token: String,
    }
}

/// The header with what we are at several registries.
pub const REGISTRIES: &str = "X-Registry-Config";

/// Who we are at which registry, by its domain or as Docker spells it.
#[derive(Default)]
pub struct Registries(Map<String, Credentials>);

impl Registries {
    /// Reads the header [`REGISTRIES`]; what cannot be read is nobody.
    pub fn from_header(header: Option<&str>) -> Registries {
        let json = header.and_then(base64_decode).unwrap_or_default();
        let all: Map<String, serde_json::Value> = json::from_slice(&json).unwrap_or_default();
        Registries(Map::from_iter(all.into_iter().map(|(name, value)| (name, Credentials::read(value)))))
    }

    /// Takes what the user's Docker configuration holds for a registry, see [`lookup`].
    pub fn look_up(&mut self, domain: &str) -> Result<()> {
        if !self.0.contains_key(domain)
            && let Some(found) = lookup(domain)?
        {
            self.0.insert(domain.to_owned(), found);
        }
        Ok(())
    }

    /// The header; none where nobody is known.
    pub fn to_header(&self) -> Result<Option<(String, String)>> {
        let json = serde_json::to_vec(&self.0).context("encode credentials")?;
        Ok((!self.0.is_empty()).then(|| (REGISTRIES.to_owned(), base64url(&json))))
    }

    /// Who we are at the registry of this domain.
    pub fn of(&self, domain: &str) -> Option<Credentials> {
        let hub = [HUB_KEY, "index.docker.io", "docker.io"];
        let names: &[&str] = if domain == super::reference::DEFAULT_DOMAIN { &hub } else { &[domain] };
        let plain = |key: &str| {
            key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/').to_owned()
        };
        let found = self.0.iter().find(|(key, _)| names.iter().any(|name| plain(key) == plain(name)));
        found.map(|(_, credentials)| credentials.clone())
    }
}

/// The variable that holds credentials in the form of the configuration file, and goes before it.
pub const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// What the user's Docker configuration holds for the registry of this domain (as in [`super::Reference::domain`]);
/// `None` is anonymous. [`VARIABLE`] goes first. `DOCKER_CONFIG` names the directory, otherwise it is `~/.docker`. May run
/// a credential helper.
pub fn lookup(domain: &str) -> Result<Option<Credentials>> {
    if let Some(found) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()).and_then(|it| held(&it, domain)) {
        return Ok(Some(found));
    }
    let Some(path) = config_path() else { return Ok(None) };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    // Empty is as good as none, as with Docker.
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    ConfigFile::read(&text).with_context(|| format!("read {}", path.display()))?.credentials(domain)
}

/// What [`VARIABLE`] holds for the registry of this domain. As with Docker, what cannot be read is told and holds nothing.
fn held(text: &str, domain: &str) -> Option<Credentials> {
    let read = || -> Result<Option<Credentials>> {
        let config: Variable = json::from_str(text)?;
        let Some(entry) = config.auths.get(key_of(domain)) else { return Ok(None) };
        if entry.auth.is_empty() {
            bail!("there is no auth for {domain}");
        }
        Ok(Some(AuthEntry { auth: entry.auth.clone(), ..AuthEntry::default() }.credentials(domain)?))
    };
    read().unwrap_or_else(|error| {
        log::warning!("{VARIABLE} is not used: {error:#}");
        None
    })
}

fn key_of(domain: &str) -> &str {
    if domain == super::reference::DEFAULT_DOMAIN { HUB_KEY } else { domain }
}

fn config_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))?.join("config.json"))
}

impl ConfigFile {
    /// Keys are the same in whatever case, as for Go.
    fn read(text: &[u8]) -> Result<ConfigFile> {
        Ok(json::from_slice(text)?)
    }

    fn credentials(&self, domain: &str) -> Result<Option<Credentials>> {
        let key = key_of(domain);
        let helper = match self.cred_helpers.get(key).or_else(|| self.cred_helpers.get(domain)) {
            Some(helper) => helper,
            None => &self.creds_store,
        };
        if !helper.is_empty() {
            return ask_helper(helper, key);
        }
        let exact = self.auths.get(key).or_else(|| self.auths.get(domain));
        let entry =
            exact.or_else(|| self.auths.iter().find(|(k, _)| host_of(k) == host_of(key)).map(|(_, entry)| entry));
        entry
            .and_then(Option::as_ref)
            .map(|entry| entry.credentials(key))
            .transpose()
            .map(|found| found.filter(|c| !c.is_anonymous()))
    }
}

impl AuthEntry {
    fn credentials(&self, key: &str) -> Result<Credentials> {
        let (mut username, mut password) = (self.username.clone(), self.password.clone());
        if !self.auth.is_empty() {
            let decoded = base64_decode(&self.auth).and_then(|bytes| String::from_utf8(bytes).ok());
            let Some((name, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
                bail!("the docker config's auth for {key} is not base64 of user:password");
            };
            // Old versions of docker padded the password with NULs.
            (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
        }
        let mut found = Credentials::from_pair(username, password);
        if !self.identity_token.is_empty() {
            found.identity_token = self.identity_token.clone();
        }
        found.registry_token = self.registry_token.clone();
        Ok(found)
    }
}

/// Old entries are URLs (`https://host/v1/`); what counts is the host.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

/// Runs `docker-credential-<name> get`: the key on stdin, JSON on stdout.
fn ask_helper(name: &str, key: &str) -> Result<Option<Credentials>> {
    fields! {
        #[derive(Default)]
        struct Answer {
            #[serde(rename = "Username")]
            username: String,
            #[serde(rename = "Secret")]
            secret: String,
        }
    }
    let Some(said) = run_helper(name, "get", key.as_bytes(), key)? else { return Ok(None) };
    let answer: Answer = json::from_slice(said.as_bytes())
        .with_context(|| format!("get credentials for {key}: read what docker-credential-{name} said"))?;
    let found = Credentials::from_pair(answer.username, answer.secret);
    Ok((!found.is_anonymous()).then_some(found))
}

/// Runs `docker-credential-<name> <verb>`: `input` on stdin; what it says on stdout is given, `None` where it says that
/// there is nothing of this key.
fn run_helper(name: &str, verb: &str, input: &[u8], key: &str) -> Result<Option<String>> {
    let program = format!("docker-credential-{name}");
    if name.contains('/') {
        bail!("the docker config names a credential helper {program:?}, which is not a plain name");
    }
    let run = || -> std::io::Result<std::process::Output> {
        let mut child = Command::new(&program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take()
            && let Err(error) = stdin.write_all(input)
            && error.kind() != ErrorKind::BrokenPipe
        {
            return Err(error);
        }
        child.wait_with_output()
    };
    let doing = || format!("{verb} credentials for {key}");
    let output = run().with_context(|| format!("{}: run {program}", doing()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(Some(said.into_owned()));
    }
    // The helpers' common library says this on stdout, and nothing else tells it apart.
    if said.contains("credentials not found in native keychain") {
        return Ok(None);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    bail!("{}: {program}: {}", doing(), format!("{} {}", said.trim(), errors.trim()).trim())
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(bytes: &[u8]) -> String {
    encode(bytes, STANDARD)
}

fn base64url(bytes: &[u8]) -> String {
    encode(bytes, URL)
}

/// Base64 (RFC 4648), padded.
fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let shown = digit <= chunk.len();
            let index = (word >> (18 - 6 * digit)) as usize & 63;
            text.push(if shown { alphabet[index] as char } else { '=' });
        }
    }
    text
}

/// Reads either alphabet, padded or not; `None` for anything else.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.chunks(4) {
        let mut word = 0u32;
        for at in 0..4 {
            let value = match chunk.get(at) {
                None => 0,
                Some(&digit) => {
                    let position = |alphabet: &[u8; 64]| alphabet.iter().position(|&d| d == digit);
                    position(STANDARD).or_else(|| position(URL))?
                }
            };
            word = word << 6 | value as u32;
        }
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_pys_spelling_of_a_helpers_answer_is_read() {
        let pair = r#"{"ServerAddress": "h:5000", "Username": "u", "Password": "p:w"}"#;
        let token = r#"{"ServerAddress": "h:5000", "IDENTITYTOKEN": "t", "email": null}"#;
        let with_pair = Credentials { username: "u".into(), password: "p:w".into(), ..Credentials::default() };
        let with_token = Credentials { identity_token: "t".into(), ..Credentials::default() };
        for (json, wanted) in [(pair, with_pair), (token, with_token)] {
            assert!(Credentials::from_header(&base64url(json.as_bytes())) == wanted, "{json}");
            let all = base64url(format!(r#"{{"h:5000": {json}, "other": null}}"#).as_bytes());
            assert!(Registries::from_header(Some(&all)).of("h:5000") == Some(wanted), "{json}");
        }
    }

    #[test]
    fn base64_both_ways() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xfb, 0xff, 0xfe], "+//+"),
        ] {
            assert_eq!(base64(bytes), text);
            assert_eq!(base64_decode(text).as_deref(), Some(bytes));
            assert_eq!(base64_decode(text.trim_end_matches('=')).as_deref(), Some(bytes));
        }
        assert_eq!(base64url(&[0xfb, 0xff, 0xfe]), "-__-");
        assert_eq!(base64_decode("-__-").as_deref(), Some(&[0xfb, 0xff, 0xfe][..]));
        for bad in ["A", "A*==", "Zm9vY", "Zg==Zg=="] {
            assert_eq!(base64_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_header_both_ways() {
        let secret = Credentials { username: "u".into(), password: "p?>".into(), ..Default::default() };
        assert_eq!(Credentials::from_header(&secret.to_header()), secret);
        assert_eq!(Credentials::from_header(secret.to_header().trim_end_matches('=')), secret);
        for garbage in ["", "e30=", "{}", "not base64!", "bnVsbA=="] {
            assert!(Credentials::from_header(garbage).is_anonymous(), "{garbage}");
        }
        assert_eq!(secret.basic().as_deref(), Some("Basic dTpwPz4="));
        assert_eq!(Credentials::default().basic(), None);
        assert!(!format!("{secret:?}").contains("p?>"));
    }

    #[test]
    fn entries_of_the_config_file() {
        let config = ConfigFile::read(
            br#"{"Auths":{
                "https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},
                "localhost:5000":{"auth":"dTpwOnE="},
                "https://old.example.com/v1/":{"Username":"o","PASSWORD":"x"},
                "id.example.com":{"auth":"PHRva2VuPjo=","identitytoken":"refresh"},
                "bad.example.com":{"auth":"dQ=="},
                "null.example.com":null,
              "nulls.example.com":{"auth":null,"username":"n","password":"w","identitytoken":null},
              "empty.example.com":{}},
              "CredsStore":null,"credhelpers":null,
              "HttpHeaders":{"a":"b"},"detachKeys":"ctrl-x"}"#,
        )
        .unwrap();
        let found = |domain: &str| config.credentials(domain).unwrap();
        let pair = |domain: &str| found(domain).map(|c| (c.username, c.password));
        let is = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(pair("docker.io"), is("hub", "secret"));
        assert_eq!(pair("localhost:5000"), is("u", "p:q"));
        assert_eq!(pair("old.example.com"), is("o", "x"));
        assert_eq!(pair("localhost"), None);
        assert_eq!(found("empty.example.com"), None);
        assert_eq!(found("null.example.com"), None);
        assert_eq!(pair("nulls.example.com"), is("n", "w"));
        let identity = found("id.example.com").unwrap();
        assert_eq!((identity.username.as_str(), identity.identity_token.as_str()), ("", "refresh"));
        assert!(config.credentials("bad.example.com").unwrap_err().to_string().contains("bad.example.com"));
    }

    #[test]
    fn what_a_variable_holds() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},"h:5000":{"Auth":"dTpwOnE="},"no":{}}}"#;
        let name = |domain: &str| held(text, domain).map(|it| it.username);
        assert_eq!((name("docker.io").as_deref(), name("h:5000").as_deref()), (Some("hub"), Some("u")));
        assert_eq!((name("h"), name("no")), (None, None));
        for bad in ["", "x", "[]", r#"{"auths":{"h":{"auth":"dTpwOnE=","username":"u"}}}"#, r#"{"credsStore":"x"}"#] {
            assert!(held(bad, "h").is_none(), "{bad}");
        }
    }
}
