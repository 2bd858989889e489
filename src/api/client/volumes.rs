//! What is asked about volumes.

use super::{Client, Filters, Query, bytes, filtered, json, named, push_flag, request};
use crate::api::types::*;
use crate::api::wire::Body;
use anyhow::Result;

impl Client {
    pub fn volumes(&self, filters: &Filters) -> Result<VolumeList> {
        self.get("/volumes".into(), filtered(filters))
    }

    pub fn create_volume(&self, create: &VolumeCreate) -> Result<Volume> {
        self.send("/volumes/create", vec![], create)
    }

    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let mut query = Query::new();
        push_flag(&mut query, "force", force);
        self.call(request("DELETE", named("volume", name, "/volumes/", "")?, query, Body::Empty)).map(drop)
    }

    pub fn prune_volumes(&self, filters: &Filters) -> Result<VolumesPruned> {
        json(self.post("/volumes/prune".into(), filtered(filters))?)
    }

    pub fn inspect_volume(&self, name: &str) -> Result<Vec<u8>> {
        bytes(self.call(request("GET", named("volume", name, "/volumes/", "")?, vec![], Body::Empty))?)
    }
}
