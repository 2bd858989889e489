//! What is asked about images and builds.

use super::{Client, Filters, Query, bytes, filtered, json, named, push, push_flag, request, stream};
use crate::api::types::*;
use crate::api::wire::{Body, Caller, Given, Request};
use anyhow::Result;
use std::io::{Read, Write};

/// The header with the secrets of a build, which is in no log: base64 of JSON, each value base64 again.
pub const SECRETS: &str = "X-Dhow-Build-Secrets";

impl Client {
    pub fn images(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        let mut query = filtered(filters);
        push_flag(&mut query, "all", all);
        self.get("/images/json".into(), query)
    }

    pub fn history(&self, name: &str, platform: &str) -> Result<Vec<HistoryItem>> {
        let mut query = Query::new();
        push(&mut query, "platform", platform);
        self.get(image(name, "/history")?, query)
    }

    pub fn tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let mut query = vec![("repo".to_owned(), repository.to_owned())];
        push(&mut query, "tag", tag);
        self.post(image(name, "/tag")?, query).map(drop)
    }

    pub fn remove_image(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
        platforms: &[String],
    ) -> Result<Vec<ImageDeleted>> {
        let mut query = Query::new();
        push_flag(&mut query, "force", force);
        push_flag(&mut query, "noprune", no_prune);
        query.extend(platforms.iter().map(|platform| ("platforms".to_owned(), platform.clone())));
        json(self.call(request("DELETE", image(name, "")?, query, Body::Empty))?)
    }

    pub fn prune_images(&self, filters: &Filters) -> Result<ImagesPruned> {
        json(self.post("/images/prune".into(), filtered(filters))?)
    }

    /// Pulls an image, or all of a repository if `tag` is empty; lines of [`ProgressLine`] go into `sink`.
    /// `auth` is the value of `X-Registry-Auth`.
    pub fn pull(
        &self,
        name: &str,
        tag: &str,
        platform: &str,
        auth: Option<String>,
        sink: &mut dyn Write,
    ) -> Result<()> {
        let mut query = vec![("fromImage".to_owned(), name.to_owned())];
        push(&mut query, "tag", tag);
        push(&mut query, "platform", platform);
        let mut request = request("POST", "/images/create".into(), query, Body::Empty);
        request.headers.extend(auth.map(|value| ("X-Registry-Auth".to_owned(), value)));
        stream(self.call(request)?, sink)
    }

    /// Pushes an image, or all tags of a repository if `tag` is empty; lines of [`ProgressLine`] go into `sink`.
    /// `auth` is the value of `X-Registry-Auth`, `others` a header that says who we are elsewhere; `platform` is JSON, or as
    /// people write it.
    pub fn push(
        &self,
        name: &str,
        tag: &str,
        platform: &str,
        compression: &str,
        (auth, others): (Option<String>, Option<(String, String)>),
        sink: &mut dyn Write,
    ) -> Result<()> {
        let mut query = Query::new();
        push(&mut query, "tag", tag);
        push(&mut query, "platform", platform);
        push(&mut query, "compressionFormat", compression);
        let mut request = request("POST", image(name, "/push")?, query, Body::Empty);
        // Clients of Docker's always send it.
        request.headers.push(("X-Registry-Auth".to_owned(), auth.unwrap_or_else(|| "e30=".to_owned())));
        request.headers.extend(others);
        stream(self.call(request)?, sink)
    }

    /// Makes an image of a tar; lines of [`ProgressLine`] go into `sink`.
    pub fn import(&self, query: Vec<(String, String)>, tar: Box<dyn Read + Send>, sink: &mut dyn Write) -> Result<()> {
        stream(self.call(request("POST", "/images/create".into(), query, Body::Reader(tar)))?, sink)
    }

    /// Writes images into `sink`, as a tar that [`Client::load`] reads.
    pub fn save(&self, names: &[String], platform: &str, sink: &mut dyn Write) -> Result<()> {
        let mut query: Query = names.iter().map(|name| ("names".to_owned(), name.clone())).collect();
        push(&mut query, "platform", platform);
        stream(self.call(request("GET", "/images/get".into(), query, Body::Empty))?, sink)
    }

    /// Loads the images of a tar; lines of [`ProgressLine`] go into `sink`.
    pub fn load(&self, quiet: bool, platform: &str, tar: Box<dyn Read + Send>, sink: &mut dyn Write) -> Result<()> {
        let mut query = vec![("quiet".to_owned(), if quiet { "1" } else { "0" }.to_owned())];
        push(&mut query, "platform", platform);
        stream(self.call(request("POST", "/images/load".into(), query, Body::Reader(tar)))?, sink)
    }

    /// Builds an image; lines of [`ProgressLine`] go into `sink`, and among them the image's id.
    pub fn build(
        &self,
        query: Query,
        headers: Vec<(String, String)>,
        body: Body,
        given: Given,
        caller: Caller,
        sink: &mut dyn Write,
    ) -> Result<()> {
        let tar = !matches!(body, Body::Empty | Body::Folder(_));
        let mut request = Request { caller, given, ..request("POST", "/build".into(), query, Body::Empty) };
        if tar {
            request.headers.push(("Content-Type".into(), "application/x-tar".into()));
        }
        request.headers.extend(headers);
        request.body = body;
        stream(self.call(request)?, sink)
    }

    /// `bounds` are what of the cache stays, in bytes, by the names that the API has for them.
    pub fn prune_builds(&self, all: bool, bounds: &[(&str, u64)], filters: &Filters) -> Result<BuildPruned> {
        let mut query = filtered(filters);
        push_flag(&mut query, "all", all);
        query.extend(bounds.iter().map(|(name, bytes)| ((*name).into(), bytes.to_string())));
        json(self.post("/build/prune".into(), query)?)
    }

    /// A `limit` of 0 leaves that to the daemon.
    pub fn search(&self, term: &str, limit: u32, filters: &Filters) -> Result<Vec<SearchResult>> {
        let mut query = filtered(filters);
        query.push(("term".into(), term.into()));
        if limit > 0 {
            query.push(("limit".into(), limit.to_string()));
        }
        self.get("/images/search".into(), query)
    }

    pub fn inspect_image(&self, name: &str, platform: &str) -> Result<Vec<u8>> {
        let mut query = Query::new();
        push(&mut query, "platform", platform);
        bytes(self.call(request("GET", image(name, "/json")?, query, Body::Empty))?)
    }
}

fn image(name: &str, rest: &str) -> Result<String> {
    named("image", name, "/images/", rest)
}
