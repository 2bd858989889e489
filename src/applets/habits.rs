//! What Docker's `config.json` says of how its commands look: formats of lists, keys, headers, words.

use super::contexts;
use super::request::values;
use crate::api::client::Filters;
use crate::json;
use crate::json::fields::fields;
use crate::order::Map;
use anyhow::{Context, Result, anyhow};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::OnceLock;

fields! {
    /// The keys of it that are read here; others read theirs.
    #[derive(Clone, Debug, Default)]
    #[serde(rename_all = "camelCase")]
    pub struct Habits {
        #[serde(rename = "HttpHeaders")]
        pub http_headers: Map<String, String>,
        pub ps_format: String,
        pub images_format: String,
        pub networks_format: String,
        pub volumes_format: String,
        pub stats_format: String,
        pub plugins_format: String,
        pub detach_keys: String,
        pub current_context: String,
        pub cli_plugins_extra_dirs: Vec<PathBuf>,
        pub aliases: Map<String, String>,
        pub prune_filters: Vec<String>,
        pub features: Map<String, String>,
        /// What is kept for each plugin.
        pub plugins: Map<String, Map<String, String>>,
        /// By the daemon's address, or `default`.
        pub proxies: Map<String, Proxies>,
    }

    /// What containers and builds are told of proxies.
    #[derive(Clone, Debug, Default)]
    #[serde(rename_all = "camelCase")]
    pub struct Proxies {
        http_proxy: String,
        https_proxy: String,
        no_proxy: String,
        ftp_proxy: String,
        all_proxy: String,
    }
}

/// The headers that requests have besides.
pub fn headers() -> Result<Map<String, String>> {
    match custom_headers()? {
        Some(headers) => Ok(headers),
        None => Ok(read()?.http_headers),
    }
}

/// Those of DOCKER_CUSTOM_HEADERS, which stand in the place of those of the settings.
pub fn custom_headers() -> Result<Option<Map<String, String>>> {
    const NAME: &str = "DOCKER_CUSTOM_HEADERS";
    let Some(text) = std::env::var(NAME).ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    let pairs = values::csv(&text).map_err(|_| {
        anyhow!("failed to parse custom headers from {NAME} environment variable: value must be formatted as comma-separated key=value pairs")
    })?;
    let wrong = |what: &str, pair: &str| {
        anyhow!("failed to set custom headers from {NAME} environment variable: {what}: '{pair}'")
    };
    let pair = |pair: &String| match pair.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        None if !pair.trim().is_empty() => Err(wrong("missing \"=\" in key=value pair", pair)),
        _ => Err(wrong("value contains a key=value pair with an empty key", pair)),
    };
    let pairs = pairs.iter().map(pair).collect::<Result<Vec<_>>>()?;
    Ok(Some(Map::from_iter(pairs)))
}

impl Habits {
    /// Adds the filters that every prune has; a label that is asked for wins over one that is kept the other way.
    pub fn prune(&self, mut filters: Filters) -> Filters {
        for (key, value) in self.prune_filters.iter().filter_map(|filter| filter.split_once('=')) {
            let contrary = match key {
                "label" => "label!",
                "label!" => "label",
                _ => "",
            };
            let asked = filters.get(contrary).is_some_and(|values| values.iter().any(|asked| asked == value));
            if !asked {
                filters.entry(key.to_owned()).or_default().push(value.to_owned());
            }
        }
        filters
    }

    /// Adds the variables of proxies for what the daemon at `host` runs, in both spellings, where they are not said.
    pub fn proxies(&self, host: &str, variables: &mut Vec<String>) {
        let Some(proxies) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else { return };
        for (name, value) in [
            ("HTTP_PROXY", &proxies.http_proxy),
            ("HTTPS_PROXY", &proxies.https_proxy),
            ("NO_PROXY", &proxies.no_proxy),
            ("FTP_PROXY", &proxies.ftp_proxy),
            ("ALL_PROXY", &proxies.all_proxy),
        ] {
            for name in [name.to_owned(), name.to_lowercase()] {
                let said = variables.iter().any(|it| it.split('=').next() == Some(&name));
                if !value.is_empty() && !said {
                    variables.push(format!("{name}={value}"));
                }
            }
        }
    }
}

/// What the file says, which is read once; one that is not there says nothing.
pub fn read() -> Result<Habits> {
    static READ: OnceLock<Habits> = OnceLock::new();
    match READ.get() {
        Some(habits) => Ok(habits.clone()),
        None => {
            let habits = read_file()?;
            Ok(READ.get_or_init(|| habits).clone())
        }
    }
}

fn read_file() -> Result<Habits> {
    let Some(path) = contexts::config_dir().map(|dir| dir.join("config.json")) else { return Ok(Habits::default()) };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // As good as none: whoever cannot read it has said nothing in it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Ok(Habits::default());
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    // Empty is as good as none, as with Docker.
    if bytes.trim_ascii().is_empty() {
        return Ok(Habits::default());
    }
    parse(&bytes).with_context(|| format!("read {}", path.display()))
}

/// Keys are the same in whatever case, as for Go.
fn parse(bytes: &[u8]) -> Result<Habits> {
    Ok(json::from_slice(bytes)?)
}

/// The flag where it was given, else what is kept.
pub fn or_kept(flag: Option<String>, kept: impl FnOnce(Habits) -> String) -> Result<String> {
    match flag {
        Some(said) if !said.is_empty() => Ok(said),
        _ => Ok(kept(read()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_prune_and_every_container_has() {
        let habits = parse(
            br#"{"PruneFilters": ["label=keep", "label!=hold", "until=1h", "nonsense"], "httpheaders": {},
                "proxies": {"default": {"HTTPProxy": "http://p"}, "tcp://far:1": {"noProxy": "x", "allProxy": "y"}}}"#,
        )
        .unwrap();
        let filters = |pairs: &[(&str, &str)]| {
            let mut filters = Filters::new();
            for (key, value) in pairs {
                filters.entry((*key).to_owned()).or_default().push((*value).to_owned());
            }
            filters
        };
        assert_eq!(
            habits.prune(filters(&[("label", "a")])),
            filters(&[("label", "a"), ("label", "keep"), ("label!", "hold"), ("until", "1h")])
        );
        assert_eq!(
            habits.prune(filters(&[("label!", "keep"), ("label", "hold")])),
            filters(&[("label!", "keep"), ("label", "hold"), ("until", "1h")])
        );
        let told = |host: &str, given: &[&str]| {
            let mut variables = given.iter().map(|it| (*it).to_owned()).collect();
            habits.proxies(host, &mut variables);
            variables.join(" ")
        };
        assert_eq!(told("unix:///x", &["A=b"]), "A=b HTTP_PROXY=http://p http_proxy=http://p");
        assert_eq!(told("unix:///x", &["http_proxy"]), "http_proxy HTTP_PROXY=http://p");
        assert_eq!(told("tcp://far:1", &[]), "NO_PROXY=x no_proxy=x ALL_PROXY=y all_proxy=y");
    }
}
