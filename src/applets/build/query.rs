//! The flags of a build, as its request says them.

use super::super::pull;
use super::Build;
use crate::build::cache_from::{self, Named};
use crate::order::Map;
use anyhow::{Result, anyhow, bail};

const EPOCH: &str = "SOURCE_DATE_EPOCH";

impl Build {
    pub(super) fn query(&self) -> Result<Vec<(String, String)>> {
        let mut query = Vec::new();
        let mut push = |key: &str, value: String| {
            if !value.is_empty() {
                query.push((key.to_owned(), value));
            }
        };
        let flag = |on: bool| if on { "1".to_owned() } else { String::new() };
        let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let bytes = |name: &str, value: &Option<String>| match value.as_deref() {
            None => Ok(String::new()),
            Some("-1") => Ok("-1".to_owned()),
            Some(size) => match crate::api::units::parse_binary(size) {
                Ok(bytes) => Ok(bytes.to_string()),
                Err(error) => Err(anyhow!("invalid argument {size:?} for --{name}: {error}")),
            },
        };
        self.tag.iter().for_each(|name| push("t", name.clone()));
        self.add_host.iter().for_each(|host| push("extrahosts", host.clone()));
        self.security_opt.iter().for_each(|option| push("securityopt", option.clone()));
        self.allow.iter().for_each(|right| push("allow", right.clone()));
        push("target", text(&self.target));
        push("nocache", flag(self.no_cache));
        if self.no_cache && !self.no_cache_filter.is_empty() {
            bail!("--no-cache and --no-cache-filter cannot be used together");
        }
        self.no_cache_filter
            .iter()
            .flat_map(|list| list.split(','))
            .for_each(|it| push("nocachefilter", it.to_owned()));
        push("pull", flag(self.pull));
        push("rm", flag(self.rm.unwrap_or(true)));
        push("forcerm", flag(self.force_rm));
        push("networkmode", text(&self.network));
        push("squash", flag(self.squash));
        push("isolation", text(&self.isolation));
        let platform = pull::platform(self.platform.clone());
        let is_local = platform.eq_ignore_ascii_case("local");
        push("platform", if is_local { crate::oci::platform::host().to_string() } else { platform });
        push("cgroupparent", text(&self.cgroup_parent));
        push("cpuquota", number(self.cpu_quota));
        push("cpuperiod", number(self.cpu_period));
        push("cpushares", number(self.cpu_shares));
        push("cpusetcpus", text(&self.cpuset_cpus));
        push("cpusetmems", text(&self.cpuset_mems));
        push("memory", bytes("memory", &self.memory)?);
        push("memswap", bytes("memory-swap", &self.memory_swap)?);
        push("shmsize", bytes("shm-size", &self.shm_size)?);
        let mut args = serde_json::Map::new();
        for cache in &self.cache_to {
            match cache.as_str() {
                "inline" | "type=inline" => drop(args.insert("BUILDKIT_INLINE_CACHE".to_owned(), "1".into())),
                _ => bail!("--cache-to={cache}: only type=inline is supported, which goes with the image"),
            }
        }
        // As buildx: the one argument that the environment gives unasked.
        args.extend(std::env::var(EPOCH).ok().filter(|it| !it.is_empty()).map(|it| (EPOCH.to_owned(), it.into())));
        if !self.build_arg.is_empty() || !args.is_empty() {
            for arg in &self.build_arg {
                let (name, value) = match arg.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    // Its value is that of the environment, if there is one.
                    None => (arg.as_str(), std::env::var(arg).ok()),
                };
                args.insert(name.to_owned(), value.into());
            }
            push("buildargs", serde_json::Value::from(args).to_string());
        }
        if let Some(label) = self.label.iter().find(|label| label.is_empty() || label.starts_with('=')) {
            bail!("invalid label {label:?}: it has no name");
        }
        // Nobody here attests what was built.
        for (flag, value) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            if let Some(value) = value.as_deref().filter(|value| crate::api::units::parse_bool(value) != Some(false)) {
                bail!("--{flag}={value}: there are no attestations: only {flag}=false is supported");
            }
        }
        for (flag, values) in [("annotation", &self.annotation), ("attest", &self.attest)] {
            if let Some(value) = values.first() {
                bail!("--{flag} {value}: images have neither annotations nor attestations here");
            }
        }
        if !self.label.is_empty() {
            let pair = |label: &String| {
                let (name, value) = label.split_once('=').unwrap_or((label, ""));
                (name.to_owned(), value.to_owned())
            };
            push("labels", serde_json::json!(Map::from_iter(self.label.iter().map(pair))).to_string());
        }
        let caches = self.caches()?;
        if !caches.is_empty() {
            // Who names an image here wants it also where it is to be pulled first.
            let pulled = |cache: &Named| format!("type=registry,ref={}", cache.image);
            push("cachefrom", serde_json::json!(caches.iter().map(pulled).collect::<Vec<_>>()).to_string());
        }
        let mut limits = Vec::new();
        for limit in &self.ulimit {
            let parsed = limit.split_once('=').and_then(|(name, values)| {
                let (soft, hard) = values.split_once(':').unwrap_or((values, values));
                Some(serde_json::json!({"Name": name, "Soft": soft.parse::<i64>().ok()?, "Hard": hard.parse::<i64>().ok()?}))
            });
            limits.push(parsed.ok_or_else(|| anyhow!("invalid argument {limit:?} for --ulimit: name=soft[:hard]"))?);
        }
        if !limits.is_empty() {
            push("ulimits", serde_json::Value::from(limits).to_string());
        }
        Ok(query)
    }

    /// What `--cache-from` names.
    pub(super) fn caches(&self) -> Result<Vec<Named>> {
        let parsed: Result<Vec<_>> = self.cache_from.iter().map(|entry| cache_from::parse(entry)).collect();
        Ok(parsed?.into_iter().flatten().collect())
    }
}
