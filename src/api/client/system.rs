//! What is asked of the engine itself, and of registries by it.

use super::{Client, Filters, bytes, filtered, push, request, stream};
use crate::api::types::*;
use crate::api::wire::Body;
use anyhow::Result;
use std::io::Write;

impl Client {
    /// Asks whether a registry knows somebody.
    pub fn login(&self, who: &AuthConfig) -> Result<AuthAnswer> {
        self.send("/auth", vec![], who)
    }

    /// The builder that the daemon's ping names: 2 is BuildKit. Nothing where it names none.
    pub fn builder(&self) -> Result<String> {
        let answer = self.call(request("GET", "/_ping".into(), vec![], Body::Empty))?;
        let named = answer.headers.iter().find(|(name, _)| *name == "Builder-Version");
        let named = named.map(|(_, value)| value.to_string()).unwrap_or_default();
        bytes(answer)?;
        Ok(named)
    }

    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.get("/system/df".into(), vec![])
    }

    pub fn version(&self) -> Result<Version> {
        self.get("/version".into(), vec![])
    }

    pub fn info(&self) -> Result<Info> {
        self.get("/info".into(), vec![])
    }

    /// Plugins of the engine, as it tells them.
    pub fn plugins(&self, filters: &Filters) -> Result<Vec<serde_json::Value>> {
        self.get("/plugins".into(), filtered(filters))
    }

    /// Whatever the daemon has there, by its own name: `before`, `name`, `after`.
    pub fn look(&self, before: &str, name: &str, after: &str) -> Result<Vec<u8>> {
        bytes(self.call(request("GET", [before, name, after].concat(), vec![], Body::Empty))?)
    }

    /// Writes what happens into `sink`, a JSON line of [`Event`] each: what has happened since then, and on until then.
    /// Seconds since 1970 with a fraction; empty for no bound.
    pub fn events(&self, since: &str, until: &str, filters: &Filters, sink: &mut dyn Write) -> Result<()> {
        let mut query = filtered(filters);
        push(&mut query, "since", since);
        push(&mut query, "until", until);
        stream(self.call(request("GET", "/events".into(), query, Body::Empty))?, sink)
    }
}
