//! What a request asks of a build: the query of `POST /build`, checked.

use super::cache_from::Named;
use super::devices::Granted;
use super::export::{self, Wanted};
use super::report::Style;
use crate::api::Refusal;
use crate::api::types::{HostConfig, Ulimit};
use crate::api::units::parse_bool;
use crate::api::wire::Request;
use crate::engine::images;
use crate::json::fields::fields;
use crate::json::{self, FromTree};
use crate::oci::auth::{self, Registries};
use crate::oci::{Platform, Reference, platform};
use crate::order::Map;
use anyhow::{Result, bail};
use std::path::PathBuf;

#[derive(Default)]
pub struct Asked {
    /// Where the Dockerfile lies in the context.
    pub dockerfile: String,
    /// A URL that the context comes from.
    pub remote: String,
    pub names: Vec<Reference>,
    /// `--build-arg`; `None` where only a name was given.
    pub args: Map<String, Option<String>>,
    pub labels: Map<String, String>,
    /// `--build-context`
    pub contexts: Map<String, String>,
    pub target: String,
    pub platform: Platform,
    /// Whether somebody asked for that platform.
    pub platform_asked: bool,
    pub no_cache: bool,
    /// What a Dockerfile may have beyond the sandbox: `network.host`, `security.insecure`, and which devices.
    pub allow: Vec<String>,
    pub devices: Granted,
    /// Stages whose steps are made anew, by name or number.
    pub no_cache_filter: Vec<String>,
    /// Images whose layers may be taken for those of steps.
    pub cache_from: Vec<Named>,
    /// Whether the image tells its steps to those who name it as their cache: `BUILDKIT_INLINE_CACHE`.
    pub inline_cache: bool,
    pub pull: bool,
    pub quiet: bool,
    pub style: Style,
    /// What is made of it; nothing is an image.
    pub outputs: Vec<Wanted>,
    /// Limits, network and hosts of the containers of `RUN`.
    pub host: HostConfig,
    pub credentials: Registries,
    /// What `RUN --mount=type=secret` may have, by id.
    pub secrets: Map<String, Vec<u8>>,
    /// Agents that `RUN --mount=type=ssh` may ask, by id.
    pub agents: Map<String, PathBuf>,
}

fields! {
    #[derive()]
    #[serde(rename_all = "PascalCase")]
    #[derive(Default)]
    struct NamedLimit {
        name: String,
        hard: i64,
        soft: i64,
    }
}

impl Asked {
    /// Reads the query and the headers of a request. Errors are 400, and 501 for what is not there.
    pub fn read(request: &Request) -> Result<Asked> {
        let text = |key: &str| request.query(key).unwrap_or_default().to_owned();
        let bad = |why: String| Refusal::BadParameter(why);
        match text("version").as_str() {
            "" | "1" => {}
            "2" => bail!(Refusal::NotImplemented(super::NO_BUILDKIT.to_owned())),
            other => bail!(bad(format!("invalid version {other:?}"))),
        }
        if text("remote") == "client-session" {
            bail!(bad("experimental session with v1 builder is no longer supported, use builder version v2 \
                       (BuildKit) instead"
                .to_owned()));
        }
        if request.flag("squash") {
            bail!(Refusal::NotImplemented("building with squash is not supported".to_owned()));
        }
        let isolation = text("isolation");
        if !matches!(isolation.to_ascii_lowercase().as_str(), "" | "default") {
            bail!(bad(format!("unsupported isolation: {isolation:?}")));
        }
        let mut names: Vec<Reference> = Vec::new();
        for (_, name) in request.query.iter().filter(|(key, name)| key == "t" && !name.is_empty()) {
            if name.contains('@') && Reference::parse(name).is_ok() {
                bail!(bad("build tag cannot contain a digest".to_owned()));
            }
            names.extend(images::name(name, "")?.filter(|name| !names.contains(name)));
        }
        let (platform, platform_asked) = match text("platform").as_str() {
            "" => (platform::host(), false),
            text if text.contains(',') => {
                bail!(Refusal::NotImplemented("building for several platforms at once is not supported".to_owned()))
            }
            text => (Platform::parse(text).map_err(|error| bad(format!("{error:#}")))?.normalised(), true),
        };
        if platform.os != "linux" {
            bail!(bad(format!("operating system is not supported: {}", platform.os)));
        }
        let host = host(request)?;
        let secrets: Map<String, String> = match request.header(crate::api::client::SECRETS) {
            Some(text) => crate::api::base64::decode(text)
                .and_then(|bytes| json::from_slice(&bytes).ok())
                .ok_or_else(|| bad("the header with secrets cannot be read".to_owned()))?,
            None => Map::new(),
        };
        let secrets = secrets.into_iter().filter_map(|(id, text)| Some((id, crate::api::base64::decode(&text)?)));
        let args: Map<String, Option<String>> = json(request, "buildargs")?;
        let mut cache_from = Vec::new();
        for entry in json::<Vec<String>>(request, "cachefrom")? {
            cache_from.extend(super::cache_from::parse(&entry)?);
        }
        let labels: Map<String, Option<String>> = json(request, "labels")?;
        let allow = allowed(request)?;
        let dockerfile = Some(text("dockerfile")).filter(|name| !name.is_empty());
        Ok(Asked {
            dockerfile: dockerfile.unwrap_or_else(|| "Dockerfile".to_owned()),
            remote: text("remote"),
            names,
            labels: Map::from_iter(labels.into_iter().map(|(name, value)| (name, value.unwrap_or_default()))),
            contexts: json(request, "contexts")?,
            target: text("target"),
            platform,
            platform_asked,
            no_cache: request.flag("nocache"),
            devices: Granted::read(allow.iter().map(String::as_str)).map_err(Refusal::BadParameter)?,
            allow,
            no_cache_filter: all(request, "nocachefilter"),
            cache_from,
            inline_cache: args.get("BUILDKIT_INLINE_CACHE").is_some_and(|value| is_true(value.as_deref())),
            args,
            pull: request.flag("pull"),
            quiet: request.flag("q"),
            style: match text("progress").as_str() {
                "plain" => Style::Plain,
                "trace" => Style::Trace,
                _ => Style::Stream,
            },
            outputs: json::<Vec<export::Asked>>(request, "outputs")?
                .into_iter()
                .map(Wanted::try_from)
                .collect::<Result<_>>()?,
            host,
            credentials: Registries::from_header(request.header(auth::REGISTRIES)),
            secrets: Map::from_iter(secrets),
            agents: request.given.agents.clone(),
        })
    }
}

/// Go's words for true.
fn is_true(value: Option<&str>) -> bool {
    value.and_then(parse_bool) == Some(true)
}

/// All values of a key that may be there more than once.
fn all(request: &Request, key: &str) -> Vec<String> {
    let values = request.query.iter().filter(|(known, _)| known == key);
    values.map(|(_, value)| value.clone()).filter(|value| !value.is_empty()).collect()
}

fn allowed(request: &Request) -> Result<Vec<String>> {
    let rights = all(request, "allow");
    let known = |right: &String| {
        matches!(right.as_str(), "network.host" | "security.insecure" | "device") || right.starts_with("device=")
    };
    match rights.iter().find(|right| !known(right)) {
        Some(right) => bail!(Refusal::BadParameter(format!("unknown entitlement: {right}"))),
        None => Ok(rights),
    }
}

/// What the containers of `RUN` are limited by.
fn host(request: &Request) -> Result<HostConfig> {
    let text = |key: &str| request.query(key).unwrap_or_default().to_owned();
    let number = |key: &str| -> Result<i64> {
        match text(key).as_str() {
            "" => Ok(0),
            text => Ok(text.parse().map_err(|_| Refusal::BadParameter(format!("invalid value {text:?} for {key}")))?),
        }
    };
    let mut host = HostConfig {
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        cgroup_parent: text("cgroupparent"),
        shm_size: number("shmsize")?,
        ..HostConfig::default()
    };
    let limits: Vec<Option<NamedLimit>> = json(request, "ulimits")?;
    let ulimit = |limit: NamedLimit| Ulimit { name: limit.name, hard: limit.hard, soft: limit.soft };
    let limits: Vec<Ulimit> = limits.into_iter().flatten().map(ulimit).collect();
    if !limits.is_empty() {
        host.ulimits = Some(limits);
    }
    let security = all(request, "securityopt");
    if !security.is_empty() {
        host.security_opt = Some(security);
    }
    let mut hosts = Vec::new();
    for value in all(request, "extrahosts") {
        // One each, or docker-py's JSON of name → address.
        match json::from_str::<Map<String, String>>(&value) {
            Ok(map) => hosts.extend(map.into_iter().map(|(name, address)| format!("{name}:{address}"))),
            Err(_) => hosts.push(value.replacen('=', ":", 1)),
        }
    }
    if !hosts.is_empty() {
        host.extra_hosts = Some(hosts);
    }
    host.network_mode = match text("networkmode").as_str() {
        "" | "default" | "bridge" => "bridge".to_owned(),
        mode => mode.to_owned(),
    };
    Ok(host)
}

/// JSON in the query; absent, empty and null are the default.
fn json<T: FromTree + Default>(request: &Request, key: &str) -> Result<T> {
    let Some(text) = request.query(key).filter(|text| !text.is_empty()) else { return Ok(T::default()) };
    let value: Option<T> = json::from_str(text).map_err(|error| unreadable(key, &error))?;
    Ok(value.unwrap_or_default())
}

/// As Docker calls it.
fn unreadable(key: &str, error: &dyn std::fmt::Display) -> Refusal {
    let what = match key {
        "ulimits" => "error reading ulimit settings",
        "buildargs" => "error reading build args",
        "labels" => "error reading labels",
        "cachefrom" => "error reading cache-from",
        "outputs" => "invalid outputs specified",
        _ => return Refusal::BadParameter(format!("invalid JSON in {key}: {error}")),
    };
    Refusal::BadParameter(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::bases::Pull;

    fn read(query: &[(&str, &str)]) -> Result<Asked> {
        let mut request = Request::new("POST", "/build");
        request.query = query.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Asked::read(&request)
    }

    #[test]
    fn what_clients_send_is_read() {
        let asked = read(&[
            ("buildargs", r#"{"A":"1","B":null}"#),
            ("cachefrom", r#"["a:1"]"#),
            ("nocachefilter", "one"),
            ("nocachefilter", "2"),
            ("cgroupparent", ""),
            ("cpuperiod", "0"),
            ("dockerfile", "d/Dockerfile"),
            // docker-py sends the text behind the name.
            ("dockerfile", "FROM scratch"),
            ("labels", r#"{"x":"y","z":null}"#),
            ("memory", "1048576"),
            ("networkmode", "default"),
            ("rm", "1"),
            ("extrahosts", "a:1.2.3.4"),
            ("extrahosts", r#"{"b":"::1"}"#),
            ("shmsize", "0"),
            ("t", "one"),
            ("t", "one:latest"),
            ("t", "localhost:5000/two:3"),
            ("target", "build"),
            ("ulimits", r#"[{"name":"nofile","Hard":10,"Soft":5},null]"#),
            ("version", "1"),
            ("isolation", "Default"),
            ("nocache", "1"),
        ])
        .unwrap();
        assert_eq!(asked.args, [("A".into(), Some("1".into())), ("B".into(), None)].into());
        assert_eq!((asked.dockerfile.as_str(), asked.target.as_str()), ("d/Dockerfile", "build"));
        let names: Vec<_> = asked.names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["one:latest", "localhost:5000/two:3"]);
        assert_eq!(asked.labels, [("x".into(), "y".into()), ("z".into(), String::new())].into());
        let limits = asked.host.ulimits.unwrap();
        assert_eq!((limits.len(), limits[0].name.as_str(), limits[0].hard, limits[0].soft), (1, "nofile", 10, 5));
        assert_eq!(asked.host.memory, 1 << 20);
        assert_eq!(asked.cache_from, [Named { image: "a:1".into(), pull: Pull::Never }]);
        assert_eq!(asked.no_cache_filter, ["one", "2"]);
        assert_eq!(asked.host.extra_hosts.unwrap(), ["a:1.2.3.4", "b:::1"]);
        assert_eq!(
            (asked.no_cache, asked.pull, asked.style, asked.platform_asked),
            (true, false, Style::Stream, false)
        );
    }

    #[test]
    fn commands_are_limited_as_dockers_clients_ask() {
        let asked = read(&[
            ("memory", "67108864"),
            ("memswap", "-1"),
            ("cpushares", "512"),
            ("cpusetcpus", "0-1"),
            ("cpusetmems", "0"),
            ("cpuperiod", "50000"),
            ("cpuquota", "10000"),
            ("cgroupparent", "/boats"),
            ("shmsize", "1048576"),
        ]);
        let host = asked.unwrap().host;
        assert_eq!((host.memory, host.memory_swap, host.cpu_shares), (64 << 20, -1, 512));
        assert_eq!((host.cpuset_cpus.as_str(), host.cpuset_mems.as_str()), ("0-1", "0"));
        assert_eq!((host.cpu_period, host.cpu_quota), (50_000, 10_000));
        assert_eq!((host.cgroup_parent.as_str(), host.shm_size), ("/boats", 1 << 20));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (key, value, status, words) in [
            ("version", "2", 501, "DOCKER_BUILDKIT=0"),
            ("version", "3", 400, "invalid version \"3\""),
            ("remote", "client-session", 400, "experimental session with v1 builder"),
            ("cachefrom", r#"["type=s3,bucket=x"]"#, 501, "s3"),
            ("cachefrom", r#"["type=registry"]"#, 400, "type=registry"),
            ("cachefrom", "x", 400, "error reading cache-from: "),
            ("squash", "1", 501, "squash"),
            ("outputs", r#"[{"Type":"registry"}]"#, 501, "registry"),
            ("outputs", "x", 400, "invalid outputs specified: "),
            ("platform", "linux/amd64,linux/arm64", 501, "several platforms"),
            ("platform", "windows/amd64", 400, "windows"),
            ("isolation", "hyperv", 400, "unsupported isolation: \"hyperv\""),
            ("t", "UPPER", 400, "must be lowercase"),
            ("t", &format!("a@sha256:{:064}", 0), 400, "build tag cannot contain a digest"),
            ("buildargs", "x", 400, "error reading build args: "),
            ("buildargs", r#"{"A":1}"#, 400, "error reading build args: "),
            ("labels", "[]", 400, "error reading labels: "),
            ("ulimits", "{}", 400, "error reading ulimit settings: "),
            ("allow", "everything", 400, "unknown entitlement: everything"),
            ("allow", "devices", 400, "unknown entitlement: devices"),
            ("allow", "device=a,b=c", 400, "unknown device config key"),
            ("memory", "x", 400, "memory"),
        ] {
            let Err(error) = read(&[(key, value)]) else { panic!("{key}={value}") };
            assert_eq!(error.downcast_ref::<Refusal>().map(Refusal::status), Some(status), "{key}={value}: {error:#}");
            assert!(format!("{error:#}").contains(words), "{key}={value}: {error:#}");
        }
    }
}
